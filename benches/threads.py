"""Two threads against one, through `picker.local()`: `python -m benches.threads [--rounds N] [--calls N] [--size N]`.

Each picker is measured with one thread and with two that start together, turn and turn about, several rounds; the best
round of each counts, since what disturbs a round only makes it slower. The table says how many millions of calls a
second there were and how many times as many two threads made. With a GIL that is 1.0 at best: the numbers mean
something on an interpreter without one, and on a machine with two cores to spare.
"""

from __future__ import annotations

import argparse
import platform
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import aibalance as ab

from .operations import endpoints

KEYS = [f"user-{i:011}" for i in range(4096)]

# Name, class, options, weighted, with a key.
PICKERS: list[tuple[str, str, dict[str, Any], bool, bool]] = [
    ("Maglev", "Maglev", {}, False, True),
    ("ring", "RingHash", {}, False, True),
    ("rendezvous", "Rendezvous", {}, False, True),
    ("jump hash", "JumpHash", {}, False, True),
    ("modulo hash", "ModuloHash", {}, False, True),
    ("round robin, smooth", "RoundRobin", {}, False, False),
    ("round robin, smooth, weighted", "RoundRobin", {}, True, False),
    ("round robin, EDF", "RoundRobin", {"schedule": "edf"}, True, False),
    ("round robin, heap", "RoundRobin", {"schedule": "heap"}, True, False),
    ("round robin, stride", "RoundRobin", {"schedule": "stride"}, True, False),
    ("round robin, FWRR", "RoundRobin", {"schedule": "fwrr"}, True, False),
    ("round robin, static-rr", "RoundRobin", {"schedule": "static-rr"}, True, False),
    ("round robin, Caddy", "RoundRobin", {"schedule": "caddy"}, True, False),
    ("weighted random", "WeightedRandom", {}, True, False),
    ("power of two", "LeastRequest", {}, False, False),
    ("least requests, full scan", "LeastRequest", {"full_scan": True}, False, False),
    ("peak EWMA", "PeakEwma", {}, False, False),
    ("join idle queue", "JoinIdleQueue", {}, False, False),
    ("least connections, nginx", "LeastConnections", {}, False, False),
    ("least connections, HAProxy", "LeastConnections", {"variant": "haproxy"}, False, False),
    ("first", "First", {}, False, False),
]


def picks(picker: Any, keyed: bool, calls: int) -> Callable[[], None]:
    """A thread's work: so many picks through a handle that the thread makes."""

    def body() -> None:
        pick = picker.local().pick
        if keyed:
            for _ in range(calls // len(KEYS)):
                for key in KEYS:
                    pick(key)
        else:
            for _ in range(calls):
                pick()

    return body


def requests(picker: Any, keyed: bool, calls: int) -> Callable[[], None]:
    """The same with requests that are taken and given back."""

    def body() -> None:
        acquire = picker.local().acquire
        if keyed:
            for _ in range(calls // len(KEYS)):
                for key in KEYS:
                    acquire(key).release()
        else:
            for _ in range(calls):
                acquire().release()

    return body


def seconds(body: Callable[[], None], threads: int) -> float:
    """From the start of the first to the end of the last."""
    spans: list[tuple[float, float]] = []
    barrier = threading.Barrier(threads)

    def timed() -> None:
        barrier.wait()
        begin = time.perf_counter()
        body()
        spans.append((begin, time.perf_counter()))

    made = [threading.Thread(target=timed) for _ in range(threads)]
    for thread in made:
        thread.start()
    for thread in made:
        thread.join()
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def measured(body: Callable[[], None], calls: int, rounds: int) -> tuple[float, float]:
    """Millions of calls a second with one thread and with two."""
    one, two = float("inf"), float("inf")
    for _ in range(rounds):
        one = min(one, seconds(body, 1))
        two = min(two, seconds(body, 2))
    return calls / one / 1e6, 2 * calls / two / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.threads", description="Two threads against one.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each, of which the best counts")
    parser.add_argument("--calls", type=int, default=409_600, help="calls of each thread in a round")
    parser.add_argument("--size", type=int, default=64, help="endpoints")
    arguments = parser.parse_args()
    calls = max(1, arguments.calls // len(KEYS)) * len(KEYS)
    gil = "with" if getattr(sys, "_is_gil_enabled", lambda: True)() else "without"
    print(f"CPython {platform.python_version()} {gil} a GIL, {platform.machine()}, {date.today()}")
    print(f"{arguments.size} endpoints; millions of calls a second with one thread, with two, and the ratio\n")
    print("| picker | pick: 1 | 2 | ratio | acquire, release: 1 | 2 | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, kind, options, weighted, keyed in PICKERS:
        pool = ab.Pool(endpoints(arguments.size, weighted), seed=42)
        picker = getattr(ab, kind)(pool, **options)
        cells = []
        for work in (picks, requests):
            one, two = measured(work(picker, keyed, calls), calls, arguments.rounds)
            cells += [f"{one:.2f}", f"{two:.2f}", f"{two / one:.2f}"]
        assert all(r.inflight == 0 for r in pool.stats())
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
