"""The operations that are measured, ours and the floor's, and how a bare loop over one of them is made.

`python -m benches.operations COUNT,COUNT,... NAME...` runs each loop that many times, each in a forked process of its
own, and prints the process, so that an instruction counter that follows forks counts them apart after one start-up.
"""

from __future__ import annotations

import itertools
import operator
import os
import sys
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from aibalance._bench import KEY, Case, addresses, cases, compiled, endpoints, keys_of

__all__ = ["ALL", "CALL", "EMPTY", "FLOOR", "KEY", "OURS", "Operation", "addresses", "compiled", "endpoints"]


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


def _ours(name: str, weighted: bool = False, **options: Any) -> Callable[[int], Any]:
    def make(n: int) -> Any:
        import aibalance

        return getattr(aibalance, name)(aibalance.Pool(endpoints(n, weighted), seed=42), **options)

    return make


def _guarded(name: str, limit: int | None = None, warm: bool = True, **options: Any) -> Callable[[int], Any]:
    """A picker on a pool that has every feature of an endpoint's life switched on, and a sick endpoint and one that
    leaves. `limit`: its `max_inflight`, which nobody reaches; `warm`: whether the slow starts are over."""

    def make(n: int) -> Any:
        import aibalance

        # One zone: with several, requests are shared among tiers, which is another operation.
        pool = aibalance.Pool(
            [aibalance.Endpoint(e.address, zone="a", max_inflight=limit) for e in endpoints(n + 2)],
            passive=aibalance.OutlierDetection(),
            slow_start=aibalance.SlowStart(1e-9 if warm else 3600),
            circuit_breaker=aibalance.CircuitBreaker(),
            local_zone="a",
            lease_timeout=600,
            seed=42,
        )
        new, *_, sick, leaving = pool.endpoints
        picker = getattr(aibalance, name)(pool, **options)
        pool.set_health(sick.id, "unhealthy")
        pool.drain(leaving.id, deadline=600)
        pool.remove(new.id)
        pool.add(new)
        for _ in range(1000):
            picker.acquire(KEY).release("success", status=200)
        pool.advance()
        return picker

    return make


def _shared(name: str) -> Callable[[int], Any]:
    def make(n: int) -> Any:
        import aibalance

        memory = f"bench-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        pool = aibalance.Pool(addresses(n), shared=memory, seed=42)
        weakref.finalize(pool, aibalance.Pool.unlink, memory)
        return getattr(aibalance, name)(pool)

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
    Operation("guarded: round robin", "p.pick()", _guarded("RoundRobin"), None, 300),
    Operation("guarded: power of two", "p.pick()", _guarded("LeastRequest"), None, 350),
    Operation("guarded: peak EWMA", "p.pick()", _guarded("PeakEwma"), None, 350),
    Operation("guarded: full scan", "p.pick()", _guarded("LeastRequest", full_scan=True), None, 500),
    Operation("guarded: least connections", "p.pick()", _guarded("LeastConnections"), None, 500),
    Operation("guarded: Maglev", "p.pick(k)", _guarded("Maglev"), None, 550),
    Operation("guarded: ring", "p.pick(k)", _guarded("RingHash", **_POINTS), None, 600),
    Operation("guarded: acquire, release", "p.acquire().release()", _guarded("LeastRequest"), None, 1000),
    Operation("guarded: with acquire", "with p.acquire() as lease: pass", _guarded("LeastRequest"), None, 2600),
    Operation("limited: round robin", "p.pick()", _guarded("RoundRobin", 1000)),
    Operation("limited: power of two", "p.pick()", _guarded("LeastRequest", 1000), None, 350),
    Operation("limited: acquire, release", "p.acquire().release()", _guarded("LeastRequest", 1000), None, 1000),
    Operation("while one warms up: round robin", "p.pick()", _guarded("RoundRobin", warm=False)),
    Operation("while one warms up: power of two", "p.pick()", _guarded("LeastRequest", warm=False)),
    # At most 1.5 times what it costs in a pool of one process.
    Operation("shared: acquire, release", "p.acquire().release()", _shared("LeastRequest"), None, 930),
    Operation("shared: power of two", "p.pick()", _shared("LeastRequest")),
    Operation("shared: round robin", "p.pick()", _shared("RoundRobin")),
    Operation("route, 8 rules", "p()", _router),
]

# What a bare loop costs, and a call of the cheapest method that CPython itself has: to take interpreters apart.
EMPTY = Operation("empty loop", "pass", lambda n: None)
CALL = Operation("bare call", "k.isascii()", lambda n: None)

ALL = {o.name: o for o in [EMPTY, CALL, *FLOOR, *OURS]}

# What the floor does for the operations of the one table.
FLOORS = {
    "round robin, weighted": ("p.round_robin()", "not weighted"),
    "power of two, pick and release": ("p.acquire().release()", ""),
    "consistent hashing, Maglev": ("p.maglev(k)", ""),
    "consistent hashing, ring": ("p.ring(k)", ""),
}


def with_floor(wanted: list[Case]) -> list[Case]:
    """The cases, and the floor beside ours."""
    out = []
    for case in wanted:
        out.append(case)
        if case.subject == "aibalance" and case.what in FLOORS and case.threads == 1:
            statement, note = FLOORS[case.what]
            out.append(replace(case, subject="C floor", make=_floor, statement=statement, note=note))
    return out


def name_of(case: Case) -> str:
    """What a case is called where instructions are counted."""
    return f"table|{case.what}|{case.subject}|{case.n}|{case.keys}"


def loop_of(name: str) -> Callable[[Iterator[None]], None]:
    """The loop of an operation, or of a case of the table."""
    if not name.startswith("table|"):
        return ALL[name].loop()
    _, what, subject, n, keys = name.split("|")
    if subject == "empty":
        loop, some = compiled("pass", over="k", p=None), [KEY] * int(keys)
    else:
        everything = with_floor(cases([int(n)], threads=[1]))
        case = next(c for c in everything if (c.what, c.subject, c.keys) == (what, subject, int(keys)))
        loop, some = compiled(case.statement, over="k", p=case.make(case.n)), keys_of(case)

    def run(items: Iterator[None]) -> None:
        loop(itertools.islice(itertools.cycle(some), operator.length_hint(items)))

    return run


def main() -> None:
    counts = [int(c) for c in sys.argv[1].split(",")]
    # All pickers stand before the first fork: between two forks the parent does next to nothing.
    loops = [loop_of(name) for name in sys.argv[2:]]
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
