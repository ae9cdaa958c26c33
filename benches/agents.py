"""A made-up workload of chats, agents and questions about documents, for `benches.ttft --traces agents`.

Sessions begin as a Poisson process and send their requests one after the other, each with all that was said before it:

| of 100 sessions | front that others share | requests, mean | each adds | answer, mean | until the next |
|---|---|---|---|---|---|
| 55 chats | one of 24 of 1-6 blocks, by Zipf | 5 | median 150 | 350 | 30 s |
| 35 agents | one of 6 of 6-16 blocks, by Zipf | 12 | median 700 | 90 | 3 s |
| 10 documents | one block, the same for all | 3 | median 40, first 4,000 to 60,000 | 250 | 20 s |

Requests and answers are geometric, what is added is log-normal (sigma 1, 1.2 and 0.5), a document log-uniform. The
time until the next is exponential with this mean, after 30 ms a token of the answer. Blocks are of 512 tokens, and a
block is shared once it is full. It is made so that nobody can tune on it unawares: no parameter of a picker was chosen
by it, and its own were fixed before any picker met it.
"""

from __future__ import annotations

import random
from math import exp, log

import numpy as np

from aibalance import traces

BLOCK = 512
MOST = 100_000
"""A session ends before its context gets longer."""


def made(seconds: float = 1200.0, sessions_per_s: float = 1.5, seed: int = 2026) -> traces.Trace:
    """The trace. Sessions that began before it are under way when it starts."""
    chance = random.Random(seed)
    names = iter(range(1, 10**9))

    def front(low: int, high: int) -> list[int]:
        return [next(names) for _ in range(chance.randint(low, high))]

    def geometric(mean: float) -> int:
        return 1 + int(log(1 - chance.random()) / log(1 - 1 / mean))

    shared = [front(1, 1)]
    fronts = {
        "chat": [shared[0] + front(0, 5) for _ in range(24)],
        "agent": [front(6, 16) for _ in range(6)],
        "document": shared,
    }
    rows: list[tuple[float, int, int, list[int]]] = []
    start = -900.0
    while (start := start + chance.expovariate(sessions_per_s)) < seconds:
        kind = chance.choices(["chat", "agent", "document"], [55, 35, 10])[0]
        of = fronts[kind]
        blocks = list(chance.choices(of, [1 / (1 + rank) for rank in range(len(of))])[0])
        turns, answered, wait = {"chat": (5, 350, 30), "agent": (12, 90, 3), "document": (3, 250, 20)}[kind]
        median, spread = {"chat": (150, 1.0), "agent": (700, 1.2), "document": (40, 0.5)}[kind]
        tokens, now = len(blocks) * BLOCK, start
        if kind == "document":
            tokens += round(exp(chance.uniform(log(4_000), log(60_000))))
        for _ in range(geometric(turns)):
            tokens += max(1, round(chance.lognormvariate(log(median), spread)))
            if tokens > MOST:
                break
            blocks += [next(names) for _ in range(tokens // BLOCK - len(blocks))]
            answer = geometric(answered)
            if 0 <= now < seconds:
                rows.append((now, tokens, answer, list(blocks)))
            tokens += answer
            now += 0.03 * answer + chance.expovariate(1 / wait)
    rows.sort(key=lambda row: row[0])
    return traces.Trace(
        "agents",
        "made up",
        np.array([row[0] - rows[0][0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.array([block for row in rows for block in row[3]]),
        np.cumsum([0] + [len(row[3]) for row in rows]),
    )
