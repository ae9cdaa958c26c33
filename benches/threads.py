"""Two threads against one, through `picker.local()`: `python -m benches.threads [--rounds N] [--calls N] [--size N]`.

Each picker is measured with one thread and with two that start together, turn and turn about, several rounds, of which
the median counts. The table says how many millions of calls a second there were and how many times as many two threads
made. Each thread has keys of its own, as requests would bring them: threads that use one text wait for each other at
its reference count. With a GIL the ratio is 1.0 at best: the numbers mean something on an interpreter without one, and
on a machine with two cores to spare. `--only TEXT` measures the pickers whose name has that text.
"""

from __future__ import annotations

import argparse
import platform
import queue
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from statistics import median
from typing import Any

import aibalance as ab

from .operations import endpoints

KEYS = 4096

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


def keys() -> list[str]:
    return [f"user-{i:011}" for i in range(KEYS)]


def picks(picker: Any, keyed: bool, calls: int) -> Callable[[], None]:
    """A thread's work: so many picks through a handle. Called by the thread whose it is."""
    pick, mine = picker.local().pick, keys() if keyed else []

    def body() -> None:
        if keyed:
            for _ in range(calls // KEYS):
                for key in mine:
                    pick(key)
        else:
            for _ in range(calls):
                pick()

    return body


def requests(picker: Any, keyed: bool, calls: int) -> Callable[[], None]:
    """The same with requests that are taken and given back."""
    acquire, mine = picker.local().acquire, keys() if keyed else []

    def body() -> None:
        if keyed:
            for _ in range(calls // KEYS):
                for key in mine:
                    acquire(key).release()
        else:
            for _ in range(calls):
                acquire().release()

    return body


class Crew:
    """Two threads that do what they are given. Between them one is started that only waits: the interpreter writes to a
    record of each thread, and those of neighbours share a cache line, which costs the second up to 20 ns a call."""

    def __init__(self) -> None:
        self.work: list[queue.SimpleQueue[Callable[[], None]]] = [queue.SimpleQueue() for _ in range(3)]
        for inbox in self.work:
            threading.Thread(target=self._wait, args=(inbox,), daemon=True).start()

    @staticmethod
    def _wait(inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            inbox.get()()

    def seconds(self, make: Callable[[], Callable[[], None]], threads: int) -> float:
        """From the start of the first to the end of the last."""
        spans: queue.SimpleQueue[tuple[float, float]] = queue.SimpleQueue()
        barrier = threading.Barrier(threads)

        def timed() -> None:
            body = make()
            barrier.wait()
            begin = time.perf_counter()
            body()
            spans.put((begin, time.perf_counter()))

        for inbox in self.work[::2][:threads]:
            inbox.put(timed)
        made = [spans.get() for _ in range(threads)]
        return max(end for _, end in made) - min(begin for begin, _ in made)


def measured(crew: Crew, make: Callable[[], Callable[[], None]], calls: int, rounds: int) -> tuple[float, float, float]:
    """Millions of calls a second with one thread and with two, and the median of the rounds' ratios."""
    one, two = [], []
    for _ in range(rounds):
        one.append(calls / crew.seconds(make, 1) / 1e6)
        two.append(2 * calls / crew.seconds(make, 2) / 1e6)
    return median(one), median(two), median(b / a for a, b in zip(one, two, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.threads", description="Two threads against one.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each, of which the median counts")
    parser.add_argument("--calls", type=int, default=409_600, help="calls of each thread in a round")
    parser.add_argument("--size", type=int, default=64, help="endpoints")
    parser.add_argument("--only", default="", help="pickers whose name has this text")
    arguments = parser.parse_args()
    calls = max(1, arguments.calls // KEYS) * KEYS
    gil = "with" if getattr(sys, "_is_gil_enabled", lambda: True)() else "without"
    print(f"CPython {platform.python_version()} {gil} a GIL, {platform.machine()}, {date.today()}")
    print(f"{arguments.size} endpoints; millions of calls a second with one thread, with two, and the ratio\n")
    print("| picker | pick: 1 | 2 | ratio | acquire, release: 1 | 2 | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    crew = Crew()
    for name, kind, options, weighted, keyed in PICKERS:
        if arguments.only not in name:
            continue
        pool = ab.Pool(endpoints(arguments.size, weighted), seed=42)
        picker = getattr(ab, kind)(pool, **options)
        cells = []
        for work in (picks, requests):
            one, two, ratio = measured(crew, partial(work, picker, keyed, calls), calls, arguments.rounds)
            cells += [f"{one:.2f}", f"{two:.2f}", f"{ratio:.2f}"]
        assert all(r.inflight == 0 for r in pool.stats())
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
