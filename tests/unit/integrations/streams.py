"""200 event streams at once: a third of the clients leave early, a tenth of the backends dies in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aibalance import OutlierDetection, Pool

from .backends import Backend, Got, Say, backends, inflight

STREAMS = 200
BACKENDS = 10
EVENTS = 20
# Patience of the tests; nothing in them is measured against it but "within a second".
DEADLINE = 60


@dataclass
class Outcome:
    """What became of one request."""

    id: str
    method: str
    leaves: bool
    answered: bool = False
    events: int = 0
    error: str = ""


@dataclass
class Result:
    """What became of all."""

    outcomes: list[Outcome]
    pool: Pool
    servers: list[Backend]
    dead: Backend
    zero_after: float = field(default=0.0)


Ask = Callable[[Outcome], Awaitable[None]]
"""Sends one request, sets `answered` at its head, counts `events`, and stops after 3 if it `leaves`."""


def stream(got: Got) -> Say:
    number = int(got.headers["x-id"])
    event = b"data: {}\n\n"
    headers = {"content-type": "text/event-stream"}
    return Say(200, headers, chunks=[event] * EVENTS, pause=0.02, wait=0.002 * (number % 100))


def run(client: Callable[[Pool], Awaitable[tuple[Ask, Callable[[], Awaitable[None]]]]]) -> Result:
    """`client(pool)` gives what asks, and what closes it."""
    with backends(*[stream] * BACKENDS) as servers:
        pool = Pool([s.address for s in servers], passive=OutlierDetection(consecutive_5xx=3, max_ejection_percent=20))
        outcomes = [Outcome(str(i), "GET" if i % 2 else "POST", i % 3 == 0) for i in range(STREAMS)]
        result = Result(outcomes, pool, servers, servers[3])

        async def one(outcome: Outcome, ask: Ask) -> None:
            # The last half begins when the backend is dead.
            await asyncio.sleep(0.004 * int(outcome.id))
            try:
                await ask(outcome)
            except Exception as error:
                outcome.error = repr(error)

        async def killer() -> None:
            while len(result.dead.got) < 6:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(result.dead.kill)

        async def main() -> None:
            async with asyncio.timeout(DEADLINE):
                ask, close = await client(pool)
                await asyncio.gather(killer(), *(one(outcome, ask) for outcome in outcomes))
                ended = time.monotonic()
                while inflight(pool) and time.monotonic() < ended + 5:
                    await asyncio.sleep(0.005)
                result.zero_after = time.monotonic() - ended
                await close()

        asyncio.run(main())
        return result


def check(result: Result) -> None:
    """The promises, each over all requests."""
    seen: dict[str, int] = {}
    for server in result.servers:
        for id, times in server.ids.items():
            seen[id] = seen.get(id, 0) + times
    at_dead = result.dead.ids
    assert inflight(result.pool) == 0
    assert result.zero_after < 1.0
    assert len(at_dead) >= 6, "the one that died had work"
    for outcome in result.outcomes:
        if outcome.method == "POST":
            assert seen.get(outcome.id, 0) <= 1, f"{outcome}: sent twice"
        if not outcome.answered:
            assert outcome.method == "POST", f"{outcome}: lost"
            # It was written to a server that died before, or while, it read it: only the server could know.
            assert outcome.error, f"{outcome}: lost"
            assert "Connect" not in outcome.error.replace("ServerDisconnected", ""), f"{outcome}: lost"
        elif outcome.leaves:
            assert outcome.error or outcome.events == 3, outcome
        else:
            assert outcome.events == EVENTS or outcome.id in at_dead, outcome
    # Some were cut off in the middle, and the rest of the fleet served everybody else.
    assert any(outcome.error for outcome in result.outcomes)
    assert sum(1 for outcome in result.outcomes if outcome.error) < STREAMS // 5
    stats = result.pool.stats()
    assert sum(s.picks for s in stats) == sum(s.successes + s.failures + s.timeouts + s.cancelled for s in stats)
    assert all(s.dropped == 0 for s in stats)
