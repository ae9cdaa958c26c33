"""Hashing prompts against taking turns, on Mooncake's traces with the simulator's model of an LLM server.

    python -m benches.mooncake FOLDER [--servers 8] [--kv-tokens 3000000] [--replications 10]

FOLDER has mooncake_fast25_conversation.jsonl.gz and mooncake_fast25_synthetic.jsonl.gz (FAST '25, Apache-2.0, not
shipped). Blocks are the trace's own, of 512 tokens; a server batches 64 and keeps `--kv-tokens` tokens of KV cache,
prefixes included; step times are the defaults of `LLMService`. In the conversation trace the first block is
everybody's (a system prompt), so it is run as it is and with the first block that differs as the key. Replications
begin the trace elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from aibalance import traces
from aibalance.simulation import BalancerSpec, Fleet, LLMService, Scenario, ServerType, TraceTraffic, compare

BLOCK = 512
BALANCERS = [
    BalancerSpec(picker="RoundRobin"),
    BalancerSpec(picker="LeastRequest"),
    BalancerSpec(picker="RingHash", name="RingHash"),
    BalancerSpec(picker="RingHash", name="RingHash, bounded load 1.25", options={"bounded_load": 1.25}),
]


def without_common(trace: traces.Trace) -> traces.Trace:
    """The trace without the first block that all requests share: what is left begins with what differs."""
    assert trace.hash_values is not None
    assert trace.hash_offsets is not None
    starts = trace.hash_offsets[:-1]
    if len(set(trace.hash_values[starts].tolist())) != 1:
        raise ValueError("the requests have no first block in common")
    keep = np.ones(len(trace.hash_values), dtype=bool)
    keep[starts] = False
    offsets = trace.hash_offsets - np.arange(len(trace) + 1)
    # The shared block costs next to nothing where it is cached, and it always is.
    tokens = np.maximum(trace.input_tokens - BLOCK, 1)
    return traces.Trace(
        trace.name, trace.format, trace.arrival_s, tokens, trace.output_tokens, trace.hash_values[keep], offsets
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--kv-tokens", type=int, default=3_000_000)
    parser.add_argument("--replications", type=int, default=10)
    given = parser.parse_args()
    conversation = traces.read(given.folder / "mooncake_fast25_conversation.jsonl.gz")
    synthetic = traces.read(given.folder / "mooncake_fast25_synthetic.jsonl.gz")
    cases = {
        "synthetic": (synthetic, 1000.0),
        "conversation": (conversation, 3500.0),
        "conversation, the first block that differs": (without_common(conversation), 3500.0),
    }
    print(
        "| trace, key | balancer | rank | within 30 s | more than RoundRobin, points "
        "| mean, s | first token, s | prompt reused |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (trace, duration_s) in cases.items():
        scenario = Scenario(
            name=name,
            traffic=TraceTraffic(trace=trace),
            service=LLMService(block_tokens=BLOCK, kv_tokens=given.kv_tokens),
            fleet=Fleet(types=[ServerType(name="server")], min=given.servers, concurrency=64),
            duration_s=duration_s,
            discard_s=200,
            slo_s=30,
            balancers=BALANCERS,
        )
        found = compare(scenario, replications=given.replications)
        ranks = {one["name"]: one["rank"] for one in found.to_dict()["ranking"]}
        for candidate, reports in found.reports.items():
            within = found.interval(candidate, "within_slo")
            gain = found.difference(candidate, "within_slo")
            details = [one.details for one in reports]
            reused = np.mean(
                [
                    one["prompt_tokens_reused"] / (one["prompt_tokens_reused"] + one["prompt_tokens_computed"])
                    for one in details
                ]
            )
            more = f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
            print(
                f"| {name} | {candidate} | {ranks[candidate]} | {within.mean:.1%} | "
                f"{'' if candidate == found.baseline else more} | {found.interval(candidate, 'mean_s').mean:.3g} "
                f"| {np.mean([one['first_token_mean_s'] for one in details]):.3g} | {reused:.1%} |"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
