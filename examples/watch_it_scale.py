"""Watch it scale: two real servers behind the proxy, and more or fewer of them as CPU target tracking says.

    python -m examples.watch_it_scale

Needs aibalance[proxy]. Each server is a process that burns a few milliseconds of CPU a request. A load comes, rises and
falls; each second the mean CPU of the servers goes to the policy. New servers join the pool once they listen, those
that leave are drained first: no request fails.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import uvicorn

from aibalance import LeastRequest, Pool
from aibalance.autoscaling import TargetTracking
from aibalance.integrations.asgi import Fleet, Proxy
from aibalance.routing import Router, Rule

BURN = 0.004  # seconds of CPU a request
TARGET = 8.0  # percent of a core
FEWEST, MOST = 2, 4


async def serve() -> None:
    """A server: GET /cpu says how many seconds of CPU it has used, all else burns some."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                began = time.process_time()
                while not head.startswith(b"GET /cpu ") and time.process_time() < began + BURN:
                    pass
                said = f"{time.process_time()}\n".encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass
class Fleets:
    """The processes, and the pool that the proxy picks from."""

    pool: Pool
    http: httpx.AsyncClient
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    used: dict[str, tuple[float, float]] = field(default_factory=dict)
    leaving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """One more server; it gets work once it listens."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.watch_it_scale", "server", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        address = f"127.0.0.1:{int(await process.stdout.readline())}"
        self.processes[address] = process
        self.pool.add(address)

    def drain(self) -> None:
        """One server less: no new work, then none at all, then it ends."""

        async def leave(address: str) -> None:
            await self.pool.drained(address)
            self.pool.remove(address)
            await end(self.processes.pop(address))

        address = self.pool.endpoints[-1].id
        self.pool.drain(address, deadline=10)
        task = asyncio.create_task(leave(address))
        self.leaving.add(task)
        task.add_done_callback(self.leaving.discard)

    def serving(self) -> list[str]:
        return [record.id for record in self.pool.stats() if not record.draining]

    async def cpu(self) -> float | None:
        """Mean percent of a core since the last look."""
        shares = []
        for address in self.serving():
            said = float((await self.http.get(f"http://{address}/cpu")).text)
            at = time.monotonic()
            used, before = self.used.get(address, (said, at))
            self.used[address] = said, at
            if at > before:
                shares.append(100 * (said - used) / (at - before))
        return sum(shares) / len(shares) if shares else None


async def end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()


@dataclass
class Seen:
    """What happened."""

    requests: int = 0
    failed: int = 0
    most: int = 0
    last: int = 0


async def watch(*, calm: float = 3.0, patience: float = 30.0) -> Seen:
    """A calm load for `calm` seconds, a storm until there is a server more, and calm again until it has gone."""
    pool = Pool([])
    proxy = Proxy(Router([Rule(path="*", to="web")]), {"web": Fleet(picker=LeastRequest(pool))})
    policy = TargetTracking(
        metric="cpu",
        target=TARGET,
        min_capacity=FEWEST,
        max_capacity=MOST,
        high_alarm=None,
        low_alarm=None,
        scale_in_cooldown=2.0,
    )
    server = uvicorn.Server(uvicorn.Config(proxy, port=0, log_level="critical", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    seen, rate, ended = Seen(), 5.0, False
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=20, limits=limits, trust_env=False) as http:
        fleet = Fleets(pool, http)
        await asyncio.gather(*(fleet.start() for _ in range(FEWEST)))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/work"

        async def one() -> None:
            seen.requests += 1
            try:
                good = (await http.get(url)).status_code == 200
            except httpx.HTTPError:
                good = False
            seen.failed += not good

        async def load() -> None:
            async with asyncio.TaskGroup() as group:
                while not ended:
                    group.create_task(one())
                    await asyncio.sleep(1 / rate)

        async def control() -> None:
            began = time.monotonic()
            while not ended:
                await asyncio.sleep(1.0)
                cpu = await fleet.cpu()
                count = len(fleet.serving())
                metrics = {} if cpu is None else {"cpu": cpu}
                wanted = policy.recommend({"current": count, "metrics": metrics}).desired
                bar = "#" * count + "-" * (len(pool) - count)
                shown = "  ?" if cpu is None else f"{cpu:3.0f}"
                at = time.monotonic() - began
                print(
                    f"{at:5.1f} s  {rate:4.0f} req/s  cpu {shown} %  servers {bar:<{MOST}}  wanted {wanted}", flush=True
                )
                for _ in range(wanted - count):
                    await fleet.start()
                if wanted < count:
                    fleet.drain()
                seen.last = len(fleet.serving())
                seen.most = max(seen.most, seen.last)

        async def until(condition: Callable[[], bool]) -> None:
            try:
                async with asyncio.timeout(patience):
                    while not condition():
                        await asyncio.sleep(0.05)
            except TimeoutError:
                print("nothing more happens", flush=True)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(load())
                group.create_task(control())
                await asyncio.sleep(calm)
                rate = 120.0
                await until(lambda: seen.last > FEWEST)
                await asyncio.sleep(calm)
                rate = 5.0
                await until(lambda: seen.last == FEWEST and not fleet.leaving)
                ended = True
        finally:
            server.should_exit = True
            await serving
            await asyncio.gather(*(end(process) for process in fleet.processes.values()))
    return seen


def main() -> int:
    seen = asyncio.run(watch())
    print(f"{seen.requests} requests, {seen.failed} failed; at most {seen.most} servers, {seen.last} at the end")
    return 0 if seen.failed == 0 and seen.most > FEWEST else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["server"]:
        try:
            asyncio.run(serve())
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(main())
