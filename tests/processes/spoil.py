"""Damages copies of a shared pool's memory at random and uses them: a program, so that it is the one that crashes.

`python spoil.py NAME FIRST COUNT` says `turn N` before each and `refused` or `harmless` after it. A turn that hangs
ends the process by SIGALRM.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import aibalance

HANGS_AFTER = 40


def places(chance: random.Random, data: bytes, used: list[int]) -> list[int]:
    """Where to write: mostly where something stands, for most of the memory is empty."""
    n = chance.choice([1, 1, 2, 8, 200, 5000])
    near = [at + chance.randrange(-8, 9) for at in chance.choices(used, k=n)]
    return [at if 0 <= at < len(data) and chance.random() < 0.8 else chance.randrange(len(data)) for at in near]


def spoil(chance: random.Random, path: Path, used: list[int]) -> None:
    """Writes something else here and there, in single bytes, words of extreme numbers, or words from elsewhere."""
    data = path.read_bytes()
    how = chance.randrange(3)
    with path.open("r+b") as file:
        for at in places(chance, data, used):
            if how == 0:
                new = bytes([chance.randrange(256)])
            elif how == 1:
                new = chance.choice([0, 1, 2, 1 << 63, (1 << 64) - 1, 1 << 32, 0xFFFFFFFF]).to_bytes(8, "little")
            else:
                other = chance.choice(used) // 8 * 8
                new = data[other : other + 8]
            file.seek(at if how == 0 else at // 8 * 8)
            file.write(new[: len(data) - file.tell()])


def use(pool: aibalance.Pool, chance: random.Random) -> None:
    """All kinds of work, none of which has to succeed."""
    makers = (aibalance.RoundRobin, aibalance.LeastRequest, aibalance.LeastConnections, aibalance.PeakEwma)
    leases = []
    for make in chance.sample(makers, 4):
        try:
            picker = make(pool)
            for turn in range(12):
                lease = picker.acquire(cost=1 + turn)
                if turn % 3:
                    lease.release(chance.choice(["success", "failure"]), latency=0.01)
                else:
                    leases.append(lease)
        except aibalance.AibalanceError:
            pass
    steps = [
        lambda: pool.add("new"),
        lambda: pool.remove("e1"),
        lambda: pool.set_weight("e2", 3),
        lambda: pool.set_health("e0", "unhealthy"),
        lambda: pool.drain("e3"),
        lambda: pool.update([f"e{i}" for i in range(3)] + ["other"]),
        pool.stats,
        pool.advance,
        lambda: [lease.release() for lease in leases],
    ]
    for step in steps:
        with suppress(aibalance.AibalanceError):
            step()


def one(name: str, turn: int, whole: bytes, used: list[int]) -> str:
    """One copy: spoilt before it is opened, or while it is in use."""
    chance = random.Random(turn)
    spoilt = f"{name}-{turn}"
    target = Path("/dev/shm") / f"aibalance-{spoilt}"
    target.touch(mode=0o600)
    target.write_bytes(whole)
    try:
        early = chance.random() < 0.6
        if early:
            spoil(chance, target, used)
            if chance.random() < 0.1:
                os.truncate(target, chance.randrange(len(whole)))
        try:
            pool = aibalance.Pool.open(spoilt)
        except aibalance.ConfigError:
            if not early:
                raise
            return "refused"
        if not early:
            use(pool, chance)
            spoil(chance, target, used)
        use(pool, chance)
        return "harmless"
    finally:
        target.unlink()


def main(name: str, first: int, count: int) -> None:
    """The turns, in their order."""
    whole = (Path("/dev/shm") / f"aibalance-{name}").read_bytes()
    used = [at for at in range(0, len(whole), 8) if any(whole[at : at + 8])]
    # What a pool cannot read in the middle of a pick it says here, and goes on with what it has.
    sys.unraisablehook = lambda _: None
    for turn in range(first, first + count):
        print("turn", turn, flush=True)
        signal.alarm(HANGS_AFTER)
        print(one(name, turn, whole, used), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
