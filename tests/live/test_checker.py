"""Three real servers: one is made slow, one fails, one is killed and started again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aibalance import LeastRequest, Pool
from aibalance.health import HealthChecker

pytest.importorskip("httpx")

DEADLINE = 20.0  # only a run that is broken takes so long


class Server:
    """One server process, always on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        script = Path(__file__).with_name("server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def id(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{self.id}{path}", timeout=10) as response:
            return bytes(response.read())


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started = [Server() for _ in range(3)]
    yield started
    for server in started:
        server.kill()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_checker_and_pool_react_and_every_lease_is_accounted_for(servers: list[Server]) -> None:
    slow, bad, dead = servers
    # Two of three may be down without a panic, which would send to all.
    pool = Pool([s.id for s in servers], seed=1, panic_threshold=0.2)
    picker = LeastRequest(pool)
    sent: Counter[str] = Counter()
    running = True

    def fetch(id: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{id}/work", timeout=0.3) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    async def client() -> None:
        while running:
            with picker.acquire() as lease:
                sent[lease.endpoint.id] += 1
                try:
                    lease.release(status=await asyncio.to_thread(fetch, lease.endpoint.id))
                except OSError:
                    lease.release("failure")

    async def told(server: Server, *, health: str) -> None:
        await wait_for(lambda: {s.id: s.health for s in pool.stats()}[server.id] == health)

    async def scenario(checker: HealthChecker) -> None:
        nonlocal running
        await wait_for(lambda: set(checker.states().values()) == {"healthy"} and len(checker.states()) == 3)
        clients = [asyncio.create_task(client()) for _ in range(3)]
        await wait_for(lambda: all(sent[s.id] > 3 for s in servers))

        await asyncio.to_thread(slow.get, "/set/slow")
        await told(slow, health="unhealthy")
        assert "no answer" in checker.status(slow.id).reason
        await asyncio.to_thread(bad.get, "/set/bad")
        await told(bad, health="unhealthy")
        assert checker.status(bad.id).reason == "status 503"
        await asyncio.to_thread(slow.get, "/set/good")
        await told(slow, health="healthy")
        await asyncio.to_thread(bad.get, "/set/good")
        await told(bad, health="healthy")

        await asyncio.to_thread(dead.kill)
        await told(dead, health="unhealthy")
        before, others = sent[dead.id], sent[slow.id] + sent[bad.id]
        await wait_for(lambda: sent[slow.id] + sent[bad.id] > others + 50)
        assert sent[dead.id] == before, "nothing is sent to the dead one"
        assert any(e.endpoint == dead.id and e.action == "restart" for e in checker.actions())
        await asyncio.to_thread(dead.start)
        await told(dead, health="healthy")
        await wait_for(lambda: sent[dead.id] > before + 3)
        assert checker.actions() == ()
        running = False
        await asyncio.gather(*clients)

    async def go() -> None:
        options = {"interval": 0.1, "timeout": 0.4, "start_spread": 0.1, "follow": 0.05}
        async with HealthChecker(pool, "/health", unhealthy_threshold=2, seed=1, **options) as checker:  # type: ignore[arg-type]
            await scenario(checker)

    asyncio.run(go())
    for stats in pool.stats():
        assert stats.inflight == 0
        assert stats.picks == sent[stats.id]
        assert stats.successes + stats.failures == stats.picks
        assert (stats.timeouts, stats.rejected, stats.cancelled, stats.dropped) == (0, 0, 0, 0)
    assert int(slow.get("/count")) == sent[slow.id]
