"""What a pick for a language model costs, beside what one would use instead.

    python -m benches.llm [--quick] [--json OUT] [--only ours,dynamo,radix,litellm,ray] [--sizes 8 64 512]

Peers are timed where they are installed: `ai-dynamo-runtime`, `litellm`, `ray[serve]` (none is needed). Only calls in
one process are timed: no server, no accelerator. Each row is the median of several repeats, in microseconds a call.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import gc
import json
import logging
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import aibalance

os.environ.setdefault("DYN_LOG", "error")
os.environ.setdefault("DYN_ROUTER_USE_KV_EVENTS", "false")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOG", "ERROR")

PROMPTS = (1_000, 10_000)
ROWS: list[dict[str, Any]] = []


class Timing:
    """How long and how often to look."""

    repeats = 7
    seconds = 0.25


def record(name: str, endpoints: int | None, tokens: int | None, samples: list[float]) -> None:
    """Prints and keeps a row."""
    row = {
        "name": name,
        "endpoints": endpoints,
        "tokens": tokens,
        "us": statistics.median(samples) * 1e6,
        "least": min(samples) * 1e6,
        "most": max(samples) * 1e6,
    }
    ROWS.append(row)
    span = f"[{row['least']:.2f} .. {row['most']:.2f}]"
    print(f"{name:52s} n={endpoints!s:>5} tokens={tokens!s:>6} {row['us']:10.2f} us  {span}", flush=True)


def rounds(one: float) -> int:
    """How many calls fill the time of one repeat."""
    return max(1, min(1_000_000, int(Timing.seconds / max(one, 1e-8))))


def bench(name: str, call: Callable[[], Any], endpoints: int | None = None, tokens: int | None = None) -> None:
    """Times a call."""
    call()
    start = time.perf_counter()
    call()
    count = rounds(time.perf_counter() - start)
    samples = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(Timing.repeats):
            start = time.perf_counter()
            for _ in range(count):
                call()
            samples.append((time.perf_counter() - start) / count)
    finally:
        gc.enable()
    record(name, endpoints, tokens, samples)


async def abench(name: str, call: Callable[[], Any], endpoints: int, tokens: int | None) -> None:
    """Times a coroutine, one at a time on the running loop."""
    await call()
    start = time.perf_counter()
    await call()
    count = rounds(time.perf_counter() - start)
    samples = []
    for _ in range(Timing.repeats):
        start = time.perf_counter()
        for _ in range(count):
            await call()
        samples.append((time.perf_counter() - start) / count)
    record(name, endpoints, tokens, samples)


def ours(sizes: list[int]) -> None:
    """The picker: half of each prompt is cached everywhere, and the index holds other prompts besides."""
    chance = random.Random(1)
    for n in sizes:
        for tokens in PROMPTS:
            ids = [chance.randrange(150_000) for _ in range(tokens)]
            index = aibalance.PrefixIndex(block_size=16, ttl=None)
            picker = aibalance.PrefixAware([f"e{i}" for i in range(n)], index=index, seed=1)
            for endpoint in picker.pool.endpoints:
                index.stored(endpoint, ids[: tokens // 2])
                for _ in range(20):
                    index.stored(endpoint, [chance.randrange(150_000) for _ in range(1000)])
            hashes, buffer = index.blocks(ids), array.array("I", ids)
            forms = {"hashes": hashes, "buffer": buffer, "numpy int64": np.array(ids), "list": ids}
            for form, prompt in forms.items():
                bench(f"aibalance pick({form})", lambda picker=picker, prompt=prompt: picker.pick(prompt), n, tokens)
            fresh = np.random.default_rng(1).integers(0, 2**63, (256, tokens // 16), dtype=np.uint64)
            place = iter(range(10**9))

            def life(picker: aibalance.PrefixAware = picker, fresh: Any = fresh, place: Any = place) -> None:
                lease = picker.acquire(fresh[next(place) & 255])
                lease.first_token()
                lease.release()

            def again(picker: aibalance.PrefixAware = picker, hashes: Any = hashes) -> None:
                lease = picker.acquire(hashes)
                lease.first_token()
                lease.release()

            bench("aibalance acquire + first_token + release, cached", again, n, tokens)
            bench("aibalance the same, prompts in turn", life, n, tokens)
    new = [np.arange(i * 1000, i * 1000 + 62, dtype=np.uint64) for i in range(5000)]
    place = iter(range(10**9))
    bench("aibalance stored(62 new blocks)", lambda: index.stored("e0", new[next(place) % 5000]), n, 1000)


async def selection(sizes: list[int]) -> None:
    """NVIDIA Dynamo's SelectionService: approximate, or with events where its environment says so."""
    from dynamo._core import SelectionService  # type: ignore[import-not-found]

    chance = random.Random(2)
    for n in sizes:
        service = SelectionService(indexer_threads=1)
        for i in range(n):
            await service.upsert_worker(
                {
                    "worker_id": i,
                    "model_name": "m",
                    "routing_group": "default",
                    "endpoint": f"http://127.0.0.1:{9000 + i}",
                    "block_size": 16,
                    "data_parallel_start_rank": 0,
                    "data_parallel_size": 1,
                    "kv_events_endpoints": {0: "tcp://127.0.0.1:19500"},
                }
            )
        for tokens in PROMPTS:
            ids = [chance.randrange(150_000) for _ in range(tokens)]
            request = {"model_name": "m", "token_ids": ids}
            await abench("dynamo SelectionService.select", lambda r=request, s=service: s.select(r), n, tokens)
            place = iter(range(10**9))

            async def life(ids: Any = ids, service: Any = service, place: Any = place) -> None:
                name = f"s{next(place)}"
                await service.select_and_reserve({"model_name": "m", "token_ids": ids, "selection_id": name})
                await service.prefill_complete(name)
                await service.free_reservation(name)

            await abench("dynamo select_and_reserve + prefill_complete + free", life, n, tokens)
        service.shutdown()


def radix(sizes: list[int]) -> None:
    """Dynamo's RadixTree: the look-up alone, without a choice."""
    from dynamo._core import RadixTree, compute_block_hash_for_seq

    chance = random.Random(1)
    ids = [chance.randrange(150_000) for _ in range(max(PROMPTS))]
    for tokens in PROMPTS:
        bench(
            "dynamo compute_block_hash_for_seq", lambda t=tokens: compute_block_hash_for_seq(ids[:t], 16), None, tokens
        )
    hashes = compute_block_hash_for_seq(ids, 16)
    for n in sizes:
        tree = RadixTree()
        for worker in range(n):
            blocks = [{"block_hash": h, "tokens_hash": h} for h in hashes[: len(hashes) // 2]]
            event = {"event_id": 1, "data": {"stored": {"parent_hash": None, "blocks": blocks}}, "dp_rank": 0}
            tree.apply_event(worker, json.dumps(event).encode())
        for tokens in PROMPTS:
            asked = hashes[: tokens // 16]
            bench("dynamo RadixTree.find_matches", lambda q=asked, t=tree: t.find_matches(q), n, tokens)


async def litellm(sizes: list[int]) -> None:
    """litellm's Router: no prefixes, no tokens."""
    import litellm as peer  # type: ignore[import-not-found]

    for logger in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    peer.suppress_debug_info = True
    messages = [{"role": "user", "content": "hello"}]
    for strategy in ("simple-shuffle", "least-busy"):
        for n in sizes:
            models = [
                {
                    "model_name": "m",
                    "litellm_params": {
                        "model": "openai/x",
                        "api_key": "none",
                        "api_base": f"http://127.0.0.1:{20000 + i}",
                    },
                    "model_info": {"id": f"d{i}"},
                }
                for i in range(n)
            ]
            router = peer.Router(model_list=models, routing_strategy=strategy, num_retries=0)

            async def pick(router: Any = router) -> Any:
                return await router.async_get_available_deployment(model="m", messages=messages, request_kwargs={})

            await abench(f"litellm Router [{strategy}]", pick, n, None)


def ray(sizes: list[int]) -> None:
    """Ray Serve's PrefixTree: characters, without its actor."""
    from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import (  # type: ignore[import-not-found]
        PrefixTree,
    )

    chance = random.Random(4)
    for n in sizes:
        tree = PrefixTree()
        tenants = [f"replica{i:04d}" for i in range(n)]
        tree.add_tenants(tenants, 0.0)
        for tokens in PROMPTS:
            text = "".join(chance.choice("abcdefghij ") for _ in range(4 * tokens))
            for tenant in tenants:
                tree.insert(text[: len(text) // 2], tenant, 1.0)
            bench("ray PrefixTree.prefix_match", lambda t=tree, q=text, a=tenants: t.prefix_match(q, a), n, tokens)


SUITES: dict[str, Callable[[list[int]], Any]] = {
    "ours": ours,
    "dynamo": selection,
    "radix": radix,
    "litellm": litellm,
    "ray": ray,
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default=",".join(SUITES))
    parser.add_argument("--sizes", nargs="*", type=int, default=[8, 64, 512])
    args = parser.parse_args()
    if args.quick:
        Timing.repeats, Timing.seconds = 3, 0.05
    logging.disable(logging.WARNING)
    print(f"aibalance {aibalance.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs")
    for name in args.only.split(","):
        try:
            suite = SUITES[name]
            done = suite(args.sizes)
            if asyncio.iscoroutine(done):
                asyncio.run(done)
        except ImportError as error:
            print(f"{name}: not installed ({error})")
    if args.json:
        args.json.write_text(json.dumps({"python": platform.python_version(), "rows": ROWS}, indent=1))


if __name__ == "__main__":
    main()
