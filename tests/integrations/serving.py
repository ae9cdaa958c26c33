"""An ASGI application on a real uvicorn in this loop, and a client that sends bytes as they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aibalance.integrations._proxy_file import ProxyFile
from aibalance.integrations._server import config


@contextlib.asynccontextmanager
async def serving(
    proxy: Any, *, grace: float = 5.0, max_connections: int | None = None, **options: Any
) -> AsyncIterator[int]:
    """The port that the proxy listens at, as `aibalance proxy` would run it."""
    import uvicorn

    file = ProxyFile(proxy=proxy, host="127.0.0.1", port=0, grace=grace, keep_alive=5, max_connections=max_connections)
    server = uvicorn.Server(config(file, log_level="critical", **options))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the server did not start"
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 15)


async def raw(port: int, sent: bytes, *, timeout: float = 5.0) -> bytes:
    """What comes back for these bytes until the other side closes, or is silent for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(sent)
        while piece := await asyncio.wait_for(reader.read(65536), timeout):
            got += piece
            timeout = 0.2
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return got


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def until(condition: Callable[[], bool], *, within: float) -> None:
    """Waits for something that must come true."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


def inflight(*pools: Any) -> int:
    return sum(record.inflight for pool in pools for record in pool.stats())
