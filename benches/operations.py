"""The operations that are measured, ours and the floor's, and how a bare loop over one of them is made.

`python -m benches.operations COUNT,COUNT,... NAME...` runs each loop that many times, each in a forked process of its
own, and prints the process, so that an instruction counter that follows forks counts them apart after one start-up.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

KEY = "user-0123456789a"
assert len(KEY) == 16
WEIGHTS = (5, 1, 3, 2, 1, 4, 1, 7)


def addresses(n: int) -> list[str]:
    return [f"10.0.{i >> 8}.{i & 255}:8080" for i in range(n)]


def endpoints(n: int, weighted: bool = False) -> list[Any]:
    import aibalance

    return [aibalance.Endpoint(a, weight=WEIGHTS[i % 8] if weighted else 1) for i, a in enumerate(addresses(n))]


@dataclass(frozen=True)
class Operation:
    """One statement over a picker `p` and a key `k`, and what it may cost in instructions on CPython 3.11."""

    name: str
    statement: str
    picker: Callable[[int], Any]
    floor: str | None = None
    """The floor's operation that does the same with nothing around it."""
    must: int | None = None
    goal: int | None = None
    n: int = 8
    extra: dict[str, Any] = field(default_factory=dict)

    def loop(self) -> Callable[[Iterator[None]], None]:
        return compiled(self.statement, p=self.picker(self.n), k=KEY, **self.extra)


def compiled(statement: str, **names: Any) -> Callable[[Iterator[None]], None]:
    """A function that runs the statement once for each item of its argument, with local names only."""
    parameters = ", ".join(f"{name}={name}" for name in names)
    namespace = dict(names)
    exec(f"def loop(items, {parameters}):\n    for _ in items:\n        {statement}", namespace)
    loop: Callable[[Iterator[None]], None] = namespace["loop"]
    return loop


def _ours(name: str, weighted: bool = False, **options: Any) -> Callable[[int], Any]:
    def make(n: int) -> Any:
        import aibalance

        return getattr(aibalance, name)(aibalance.Pool(endpoints(n, weighted), seed=42), **options)

    return make


def _router(n: int) -> Any:
    from aibalance.routing import Request, Router, Rule

    router = Router([Rule(path=f"/v{i}/*", to="a") for i in range(n)], seed=42)
    return partial(router.route, Request("/v7/users?id=1", host="api.example.com", headers={"accept": "*/*"}))


def _floor(n: int) -> Any:
    from benches import floor

    return floor.picker(addresses(n))


# 160 points an endpoint, whatever n is.
_POINTS = {"ring": "envoy", "points": 160}

FLOOR = [
    Operation("floor: call", "p.none()", _floor),
    Operation("floor: round robin", "p.round_robin()", _floor),
    Operation("floor: power of two", "p.power_of_two()", _floor),
    Operation("floor: Maglev", "p.maglev(k)", _floor),
    Operation("floor: ring", "p.ring(k)", _floor),
    Operation("floor: acquire, release", "p.acquire().release()", _floor),
    Operation("floor: with acquire", "with p.acquire() as lease: pass", _floor),
]

OURS = [
    Operation("round robin", "p.pick()", _ours("RoundRobin"), "round robin", 300, 190),
    Operation("round robin, weighted", "p.pick()", _ours("RoundRobin", True), "round robin", 300, 190),
    Operation("round robin, weighted, n = 512", "p.pick()", _ours("RoundRobin", True), "round robin", 300, 190, 512),
    Operation("power of two", "p.pick()", _ours("LeastRequest"), "power of two", 350, 250),
    Operation("power of two, n = 512", "p.pick()", _ours("LeastRequest"), "power of two", 350, 250, 512),
    Operation("peak EWMA", "p.pick()", _ours("PeakEwma"), "power of two", 350, 250),
    Operation("full scan", "p.pick()", _ours("LeastRequest", full_scan=True), None, 500, 260),
    Operation("full scan, n = 64", "p.pick()", _ours("LeastRequest", full_scan=True), None, 600, 330, 64),
    Operation("full scan, n = 512", "p.pick()", _ours("LeastRequest", full_scan=True), None, 1100, 780, 512),
    Operation("least connections", "p.pick()", _ours("LeastConnections"), None, 500),
    Operation("least connections, n = 64", "p.pick()", _ours("LeastConnections"), None, 1500, n=64),
    Operation("least connections, n = 512", "p.pick()", _ours("LeastConnections"), None, 9000, n=512),
    Operation("least time", "p.pick()", _ours("LeastTime"), None),
    Operation("Prequal", "p.pick()", _ours("Prequal"), None),
    Operation("client-side weighted", "p.pick()", _ours("ClientSideWeightedRoundRobin"), None),
    Operation("round robin, Envoy's", "p.pick()", _ours("RoundRobin", True, schedule="edf"), None),
    Operation("round robin, HAProxy's", "p.pick()", _ours("RoundRobin", True, schedule="fwrr"), None),
    Operation("Maglev", "p.pick(k)", _ours("Maglev"), "Maglev", 550, 330),
    Operation("Maglev, n = 512", "p.pick(k)", _ours("Maglev"), "Maglev", 550, 330, 512),
    Operation("ring", "p.pick(k)", _ours("RingHash", **_POINTS), "ring", 600, 380),
    Operation("ring, n = 512", "p.pick(k)", _ours("RingHash", **_POINTS), "ring", 600, 380, 512),
    Operation("acquire, release", "p.acquire().release()", _ours("LeastRequest"), "acquire, release", 1000, 650),
    Operation("with acquire", "with p.acquire() as lease: pass", _ours("LeastRequest"), "with acquire", 2600, 1700),
    Operation("route, 8 rules", "p()", _router),
]

# What a bare loop costs, and a call of the cheapest method that CPython itself has: to take interpreters apart.
EMPTY = Operation("empty loop", "pass", lambda n: None)
CALL = Operation("bare call", "k.isascii()", lambda n: None)

ALL = {o.name: o for o in [EMPTY, CALL, *FLOOR, *OURS]}


def main() -> None:
    counts = [int(c) for c in sys.argv[1].split(",")]
    # All pickers stand before the first fork: between two forks the parent does next to nothing.
    loops = [ALL[name].loop() for name in sys.argv[2:]]
    children = []
    for loop in loops:
        for count in counts:
            child = os.fork()
            if not child:
                loop(itertools.repeat(None, count))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(f"a loop of {count} ended with status {status}")
            children.append(child)
    print(*children)


if __name__ == "__main__":
    main()
