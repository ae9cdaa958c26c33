"""Time to the first token by picker, on Mooncake's traces with the simulator's model of LLM servers.

    python -m benches.ttft FOLDER [--traces conversation synthetic agents] [--loads 1 1.5 2] [--seeds 5] [--servers 8]
        [--kv-tokens 3072000] [--events] [--only NAME ...] [--jobs 2] [--json OUT]

FOLDER has mooncake_fast25_conversation.jsonl.gz and mooncake_fast25_synthetic.jsonl.gz (FAST '25, Apache-2.0, not
shipped); mooncake_fast25_toolagent.jsonl.gz is used where it lies beside them and is asked for; agents is made by
`benches.agents`. A server is one of
`LLMService` with its default step times, batches 64, and keeps `--kv-tokens` tokens of KV cache with prefixes in blocks
of 512. A load of 1 is the trace's own pace, 2 the same requests in half of the time. Seed by seed the trace begins
elsewhere and all pickers meet the same requests; the first fifth of it, up to 200 s, is not measured. Times are means
over the seeds with 95 % t-intervals; `less` is how much less ours takes, pair by pair.

By default pickers go by their own picks (`ttl=None`, capacity as the servers have). `--events` lets them hear of caches
at once instead.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from aibalance import traces
from aibalance.simulation import BalancerSpec, Fleet, LLMService, Scenario, ServerType, TraceTraffic, simulate
from aibalance.simulation._statistics import interval

from .agents import made

BLOCK = 512
SPAN = {"conversation": 3500.0, "synthetic": 1000.0, "toolagent": 3500.0, "agents": 1150.0}
OURS = "ttft"
TRACES: dict[str, traces.Trace] = {}


def prompted(name: str, events: bool, **options: Any) -> BalancerSpec:
    """`PrefixAware` with these options."""
    index = {"ttl": 5.0 if events else math.inf}
    return BalancerSpec(
        picker="PrefixAware",
        name=name,
        options={"index": index, **options},
        cache_events_s=0.0 if events else None,
    )


def balancers(events: bool) -> list[BalancerSpec]:
    """What is compared: ours first."""
    return [
        prompted(OURS, events, score="ttft"),
        prompted("ttft, crowd_scale=0", events, score="ttft", crowd_scale=0.0),
        prompted("ttft, fresh_scale=2, crowd_scale=0", events, score="ttft", fresh_scale=2.0, crowd_scale=0.0),
        BalancerSpec(picker="RoundRobin", name="round robin"),
        BalancerSpec(picker="LeastRequest", name="power of two"),
        BalancerSpec(picker="LeastRequest", name="power of two, tokens", cost="work"),
        BalancerSpec(picker="LeastRequest", name="least of all", options={"full_scan": True}),
        BalancerSpec(picker="RingHash", name="ring hash, bounded", options={"bounded_load": 1.25}),
        prompted("dynamo", events, score="dynamo"),
        prompted("dynamo, prefill_scale=16", events, score="dynamo", prefill_scale=16.0),
        prompted("lmetric", events, score="lmetric", bounded_load=None),
        prompted("loadaware", events, score="loadaware"),
        prompted("cache_aware", events, score="cache_aware", bounded_load=None),
    ]


def one(job: tuple[str, Path, BalancerSpec, float, int, int, int]) -> dict[str, float]:
    """One run."""
    name, folder, by, load, seed, servers, kv_tokens = job
    if name not in TRACES:
        TRACES[name] = made() if name == "agents" else traces.read(folder / f"mooncake_fast25_{name}.jsonl.gz")
    span = SPAN[name] / load
    case = Scenario(
        name=name,
        traffic=TraceTraffic(trace=TRACES[name], time_scale=1 / load, rotate=True),
        service=LLMService(block_tokens=BLOCK, kv_tokens=kv_tokens),
        fleet=Fleet(types=[ServerType(name="server")], min=servers, concurrency=64),
        duration_s=span,
        discard_s=min(200.0, span / 5),
        slo_s=10,
    )
    found = simulate(case, picker=by, seed=seed)
    of = found.details
    reused, computed = of["prompt_tokens_reused"], of["prompt_tokens_computed"]
    return {
        "mean": of["first_token_mean_s"],
        "p99": of["first_token_p99_s"],
        "reused": reused / (reused + computed),
        "latency": found.all.mean_s,
        "preemptions": of["preemptions"],
        "unserved": found.all.requests - found.all.served,
    }


def shown(values: list[float]) -> str:
    """A mean and half its interval."""
    of = interval(values)
    return f"{of.mean:.3f} ± {of.high - of.mean:.3f}"


def less(ours: list[float], theirs: list[float]) -> str:
    """How much less ours is, in per cent of theirs, pair by pair."""
    of = interval([100 * (1 - a / b) for a, b in zip(ours, theirs, strict=True)])
    return f"{of.mean:+.1f} % ({of.low:+.1f} to {of.high:+.1f})"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--traces", nargs="+", default=["conversation", "synthetic", "agents"], choices=list(SPAN))
    parser.add_argument("--loads", nargs="+", type=float, default=[1.0, 1.5, 2.0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--kv-tokens", type=int, default=6000 * BLOCK)
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    known = [by for by in balancers(given.events) if not given.only or by.name in (OURS, *given.only)]
    out: list[dict[str, Any]] = []
    with ProcessPoolExecutor(given.jobs) as workers:
        for trace in given.traces:
            for load in given.loads:
                print(f"\n| {trace}, load {load:g} | mean, s | less | p99, s | less | reused | unserved |", flush=True)
                print("|---|---|---|---|---|---|---|")
                ours: dict[str, list[float]] = {}
                for by in known:
                    fixed = (trace, given.folder, by, load)
                    jobs = [(*fixed, seed, given.servers, given.kv_tokens) for seed in range(given.seeds)]
                    runs = list(workers.map(one, jobs))
                    of = {key: [run[key] for run in runs] for key in runs[0]}
                    ours = ours or of
                    gain = ["", ""] if ours is of else [less(ours[key], of[key]) for key in ("mean", "p99")]
                    cells = [by.name, shown(of["mean"]), gain[0], shown(of["p99"]), gain[1]]
                    cells += [f"{sum(of['reused']) / len(runs):.3f}", f"{sum(of['unserved']):.0f}"]
                    print(f"| {' | '.join(cells)} |", flush=True)
                    out.append({"trace": trace, "load": load, "picker": by.name, **of})
    if given.json:
        given.json.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
