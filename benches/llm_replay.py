"""Prefix reuse on a recorded trace, without an engine: who would have found how much of each prompt cached.

    python -m benches.llm_replay TRACE [--workers 8] [--blocks 6000] [--rate 50000] [--itl 0.02] [--seeds 5]

TRACE is a JSON-lines file of Mooncake's format, gzipped or not: timestamp (ms), input_length, output_length,
hash_ids (blocks of 512 tokens). Each worker is an LRU cache of so many blocks and nothing else; it prefills one request
after the other at `--rate` tokens a second and decodes each at `--itl` seconds a token, whoever else does. Prints, for
each picker, the share of blocks found cached, and max/mean over the workers of prompt tokens and of prefilled tokens.
The bounds: one cache without end, and one LRU of all workers' blocks together. At the default rate the time to first
token is about what Dynamo's own replay of this trace says.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import aibalance

BLOCK = 512


@dataclass
class Request:
    """One line of the trace."""

    at: float
    tokens: int
    output: int
    blocks: np.ndarray[Any, np.dtype[np.uint64]]


@dataclass
class Worker:
    """An LRU cache, and what was prefilled for whom."""

    room: int
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    prompt: int = 0
    prefilled: int = 0
    free_at: float = 0.0

    def serve(self, blocks: Iterable[int]) -> int:
        """How many blocks of a prompt are found; all of them are there afterwards, its end the first to go."""
        asked = list(blocks)
        found = next((i for i, block in enumerate(asked) if block not in self.cache), len(asked))
        for block in reversed(asked[: self.room]):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.room:
            self.cache.popitem(last=False)
        return found


def read(path: Path) -> list[Request]:
    """The requests of a trace, in order."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    rows = [json.loads(line) for line in text.splitlines()]
    return [
        Request(row["timestamp"] / 1e3, row["input_length"], row["output_length"], np.array(row["hash_ids"], np.uint64))
        for row in rows
    ]


@dataclass
class Result:
    """What one picker made of the trace."""

    reuse: float
    prompt_balance: float
    prefill_balance: float
    ttft: float
    ttft_p99: float


def summary(results: list[Result]) -> str:
    """Means over seeds, with the standard error where there are several."""

    def told(name: str, digits: int) -> str:
        values = np.array([getattr(result, name) for result in results])
        error = f" ±{values.std(ddof=1) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
        return f"{values.mean():.{digits}f}{error}"

    return (
        f"reuse {told('reuse', 4)}  max/mean prompt {told('prompt_balance', 3)}"
        f"  prefilled {told('prefill_balance', 3)}  TTFT mean {told('ttft', 3)} s  p99 {told('ttft_p99', 2)} s"
    )


def replay(requests: list[Request], make: Callable[[aibalance.Pool], Any], args: Any, seed: int) -> Result:
    """Sends a trace through a picker."""
    clock = aibalance.ManualClock(0.0)
    pool = aibalance.Pool([f"w{i}" for i in range(args.workers)], clock=clock, seed=seed)
    picker = make(pool)
    workers = {f"w{i}": Worker(args.blocks) for i in range(args.workers)}
    events: list[tuple[float, int, Callable[[], None]]] = []
    hits = total = 0
    waits = []
    for number, request in enumerate(requests):
        while events and events[0][0] <= request.at:
            at, _, event = heapq.heappop(events)
            clock.advance(max(at - clock.now(), 0.0))
            event()
        clock.advance(max(request.at - clock.now(), 0.0))
        lease = picker.acquire(request.blocks, cost=request.tokens)
        worker = workers[lease.endpoint.id]
        found = worker.serve(request.blocks.tolist())
        fresh = max(request.tokens - found * BLOCK, 0)
        hits, total = hits + found, total + len(request.blocks)
        worker.prompt += request.tokens
        worker.prefilled += fresh
        first = max(worker.free_at, request.at) + fresh / args.rate
        worker.free_at = first
        waits.append(first - request.at)
        heapq.heappush(events, (first, 2 * number, lease.first_token))
        heapq.heappush(events, (first + request.output * args.itl, 2 * number + 1, lease.release))
    prompt = np.array([worker.prompt for worker in workers.values()])
    prefilled = np.array([worker.prefilled for worker in workers.values()])
    return Result(
        hits / total,
        prompt.max() / prompt.mean(),
        prefilled.max() / prefilled.mean(),
        float(np.mean(waits)),
        float(np.quantile(waits, 0.99)),
    )


class Turns:
    """Round robin that takes what `PrefixAware` takes."""

    def __init__(self, picker: Any) -> None:
        self.picker = picker

    def acquire(self, prompt: Any, *, cost: float) -> aibalance.Lease:
        """Leaves the prompt out."""
        lease: aibalance.Lease = self.picker.acquire(cost=cost)
        return lease


def pickers(args: Any) -> Iterator[tuple[str, Callable[[aibalance.Pool], Any]]]:
    """What is compared."""
    yield "round robin", lambda pool: Turns(aibalance.RoundRobin(pool))
    yield "power of two, tokens", lambda pool: Turns(aibalance.LeastRequest(pool))
    for score, bound, scale in (
        ("ttft", None, None),
        ("ttft", 1.25, None),
        ("dynamo", None, None),
        ("dynamo", None, 16.0),
        ("lmetric", None, None),
        ("lmetric", 1.25, None),
        ("loadaware", None, None),
        ("cache_aware", None, None),
        ("cache_aware", 1.25, None),
    ):

        def make(pool: aibalance.Pool, score: Any = score, bound: Any = bound, scale: Any = scale) -> Any:
            index = aibalance.PrefixIndex(block_size=BLOCK, capacity=args.blocks, ttl=None)
            return aibalance.PrefixAware(pool, index=index, score=score, bounded_load=bound, prefill_scale=scale)

        more = f", bounded_load={bound}" if bound else f", prefill_scale={scale:g}" if scale else ""
        yield f"{score}{more}", make


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=6000)
    parser.add_argument("--rate", type=float, default=50_000.0)
    parser.add_argument("--itl", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    requests = read(args.trace)
    for name, room in (("one cache without end", 1 << 60), ("one LRU of all blocks", args.workers * args.blocks)):
        whole = Worker(room)
        hits = sum(whole.serve(request.blocks.tolist()) for request in requests)
        print(f"{name:32s} reuse {hits / sum(len(request.blocks) for request in requests):.4f}")
    for name, make in pickers(args):
        print(f"{name:32s} {summary([replay(requests, make, args, seed) for seed in range(args.seeds)])}", flush=True)


if __name__ == "__main__":
    main()
