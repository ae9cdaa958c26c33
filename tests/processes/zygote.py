"""Processes by the dozen: one that has imported everything and forks whenever another is wanted.

`python zygote.py SOCKET` forks once for each line of its input. Each child, and each that a child forks, connects to
the socket, says its pid, and answers every line with the value of the expression in it.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import aibalance
from aibalance import Endpoint, Lease, Pool

SERVER = sys.argv[1]
KINDS: dict[str, Callable[[Pool], Any]] = {
    "lc": aibalance.LeastConnections,
    "full": lambda pool: aibalance.LeastRequest(pool, full_scan=True),
    "p2c": aibalance.LeastRequest,
    "rr": aibalance.RoundRobin,
    "ewma": aibalance.PeakEwma,
    "maglev": aibalance.Maglev,
}
pool: Pool
pickers: dict[str, Any] = {}
leases: list[Lease[Any]] = []
# What the parent had when it forked this process: not this one's to give back.
inherited: list[Lease[Any]] = []


def endpoint(id: str) -> Endpoint[Any]:
    return Endpoint(id, max_inflight=2 if id == "e0" else None)


def enter(name: str, ids: list[str] | None = None, places: int = 8) -> None:
    """Opens the pool, or with ids makes it where nobody has it."""
    global pool
    if ids is None:
        pool = Pool.open(name)
    else:
        memory = aibalance.SharedMemory(name, max_endpoints=16, max_processes=places)
        pool = Pool([endpoint(id) for id in ids], shared=memory, panic_threshold=0.0)
    pickers.clear()


def picker(kind: str) -> Any:
    if kind not in pickers:
        pickers[kind] = KINDS[kind](pool)
    return pickers[kind]


def take(kind: str, cost: float) -> str | None:
    lease = picker(kind).try_acquire("key", cost=cost)
    if lease is None:
        return None
    leases.append(lease)
    return str(lease.endpoint.id)


def give(at: int, outcome: Any) -> None:
    leases.pop(at).release(outcome)


def give_what_was_inherited() -> None:
    while inherited:
        inherited.pop().release()


def leave() -> None:
    global pool
    pickers.clear()
    del pool


def update(ids: list[str]) -> None:
    pool.update([endpoint(id) for id in ids])


def fork() -> None:
    if os.fork() == 0:
        inherited.extend(leases)
        leases.clear()
        serve()


def state() -> tuple[list[tuple[str, float, str, bool]], list[tuple[int, float]]]:
    """Who is in the pool and how, and what is in flight."""
    pool.advance()
    stats = pool.stats()
    who = [(s.id, s.weight, str(s.health), s.draining) for s in stats]
    assert [s.id for s in stats] == [e.id for e in pool.endpoints]
    return who, [(s.inflight, s.load) for s in stats]


def busy(seed: int, turns: int, extras: list[str]) -> None:
    """Works at random; of endpoints it changes only those that are nobody else's."""
    chance = random.Random(seed)
    mine: list[Lease[Any]] = []
    for turn in range(turns):
        what = chance.random()
        if what < 0.6:
            lease = picker(chance.choice(list(KINDS))).try_acquire(str(turn), cost=chance.choice([1, 2.5]))
            if lease is not None:
                mine.append(lease)
        elif what < 0.9 and mine:
            mine.pop(chance.randrange(len(mine))).release(chance.choice(["success", "failure"]))
        else:
            with suppress(aibalance.ConfigError):
                extra = chance.choice(extras)
                if what < 0.93:
                    pool.add(extra)
                elif what < 0.96:
                    pool.remove(extra)
                elif what < 0.98:
                    pool.set_health(extra, chance.choice(["healthy", "unhealthy"]))
                else:
                    pool.set_weight(extra, chance.choice([0, 1, 3]))
    while mine:
        mine.pop().release()


def serve() -> NoReturn:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(SERVER)
            with connection.makefile("rw") as stream:
                print(os.getpid(), file=stream, flush=True)
                for line in stream:
                    try:
                        answer = eval(line)
                    except Exception as error:
                        answer = f"{type(error).__name__}: {error}"
                    print(repr(answer), file=stream, flush=True)
    finally:
        os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        if os.fork() == 0:
            serve()
