"""What goes wrong between a WebSocket's two sides: who is blamed, what is held, and what the logs say."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets", reason="websockets is not installed")

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from aibalance.integrations import _websocket
from aibalance.integrations.asgi import Limits

from .rooms import client, proxy_of, refused, rooms, run
from .serving import inflight, raw, serving, status, until

pytestmark = pytest.mark.timeout(60)


class Scripted:
    """A server and client of ASGI in one: what the application is told, and what it has said."""

    def __init__(self, path: str = "/ws") -> None:
        self.said: list[str] = []
        self.told: list[dict[str, Any]] = [{"type": "websocket.connect"}]
        self.sending: BaseException | None = None
        self.scope = {
            "type": "websocket",
            "http_version": "1.1",
            "path": path,
            "headers": [(b"host", b"x")],
            "subprotocols": [],
        }

    async def receive(self) -> Any:
        return self.told.pop(0) if self.told else await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        self.said.append(message["type"])
        if self.sending is not None:
            raise self.sending


def test_another_server_without_the_package_holds_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Granian and hypercorn know WebSockets by themselves: the proxy refuses them before it picks."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "websockets"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "websockets", None)
    proxy, pool = proxy_of(["127.0.0.1:9"])
    asked = Scripted()

    async def main() -> None:
        async with proxy:
            await asyncio.wait_for(proxy(asked.scope, asked.receive, asked.send), 20)

    asyncio.run(main())
    gc.collect()
    assert asked.said == ["websocket.close"]
    assert (pool.stats()[0].picks, inflight(pool)) == (0, 0)


def test_who_has_left_before_a_refusal_is_no_error() -> None:
    proxy, _ = proxy_of(["127.0.0.1:9"])
    asked = Scripted("/elsewhere")
    asked.sending = OSError("gone")

    async def main() -> None:
        async with proxy:
            await asyncio.wait_for(proxy(asked.scope, asked.receive, asked.send), 20)

    asyncio.run(main())
    assert asked.said == ["websocket.close"]


def test_what_a_client_does_wrong_amid_messages_is_no_error_here(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address], limits=Limits(max_message=1000))
            async with serving(proxy) as port:
                with log_of_uvicorn(caplog, logging.ERROR):
                    async with client(port) as ws:
                        await ws.send("flood")
                        await ws.recv()
                        await ws.send("x" * 2000)
                        with contextlib.suppress(ConnectionClosed):
                            while True:
                                await ws.recv()
                        assert ws.close_code == 1009
                    await until(lambda: [code for code, _ in room.closes] == [1009], within=20)
                    await until(lambda: inflight(pool) == 0, within=20)
            assert (pool.stats()[0].successes, pool.stats()[0].failures) == (1, 0)

    run(main)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


HELLO = b"\r\n".join(
    (
        b"GET /ws HTTP/1.1",
        b"Host: x",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
        b"Authorization: hunter2",
        b"",
        b"",
    )
)


@contextlib.asynccontextmanager
async def bare(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """A server that answers a handshake with these bytes, and reads no more."""
    held = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(answer(head))

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()


def accepted(head: bytes) -> bytes:
    from websockets.utils import accept_key

    (key,) = [line.split()[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")]
    lines = ("HTTP/1.1 101 X", "Upgrade: websocket", "Connection: Upgrade", "X-Any: gr\xfc\xdf")
    return "\r\n".join((*lines, f"Sec-WebSocket-Accept: {accept_key(key.decode())}", "", "")).encode("latin-1")


def test_an_endpoint_that_is_silent_is_found_by_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_websocket, "PING", 0.1)
    monkeypatch.setattr(_websocket, "CLOSING", 0.1)

    async def main() -> None:
        async with bare(accepted) as address:
            proxy, pool = proxy_of([address])
            async with serving(proxy) as port, client(port) as ws:
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(ws.recv(), 20)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1014
                assert ws.response is not None
                assert ws.response.headers["x-any"] == "gr\xfc\xdf"
            await until(lambda: inflight(pool) == 0, within=20)
            assert pool.stats()[0].failures == 1

    run(main)


def test_an_endpoint_that_reads_nothing_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a ping leaves any more, and nobody sees that the client has left."""
    monkeypatch.setattr(_websocket, "PING", 0.2)
    monkeypatch.setattr(_websocket, "CLOSING", 0.1)

    async def main() -> None:
        async with bare(accepted) as address:
            proxy, pool = proxy_of([address])
            async with serving(proxy) as port:
                async with client(port, close_timeout=0.1, ping_interval=None) as ws:
                    with contextlib.suppress(ConnectionClosed, TimeoutError):
                        async with asyncio.timeout(1):
                            while True:
                                await ws.send(b"x" * 1_000_000)
                    ws.transport.abort()
                await until(lambda: inflight(pool) == 0, within=20)
            assert pool.stats()[0].failures == 1

    run(main)


def test_a_slow_client_is_no_dead_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take stands before the endpoint's pong."""
    monkeypatch.setattr(_websocket, "PING", 0.5)

    async def pour(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(300):
                await connection.send("x" * 100_000)
            await connection.send("all")

    async def main() -> None:
        async with serve(pour, "127.0.0.1", 0, compression=None) as server:
            proxy, pool = proxy_of([f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"])
            async with serving(proxy) as port, client(port, max_queue=1, ping_interval=None) as ws:
                await asyncio.sleep(2)  # four pings' time, in which it takes nothing
                assert inflight(pool) == 1
                while await ws.recv() != "all":
                    pass
            await until(lambda: inflight(pool) == 0, within=20)
            assert (pool.stats()[0].successes, pool.stats()[0].failures) == (1, 0)

    run(main)


def test_an_answer_that_is_none_is_a_bad_gateway() -> None:
    async def main() -> None:
        async with bare(lambda head: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n") as address:
            proxy, pool = proxy_of([address])
            async with serving(proxy) as port:
                assert status(await raw(port, HELLO)) == 502
            assert (pool.stats()[0].failures, inflight(pool)) == (1, 0)
        # And one that is no text passes as it is.
        answer = b"HTTP/1.1 403 No\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\xff"
        async with bare(lambda head: answer) as address:
            proxy, _ = proxy_of([address])
            async with serving(proxy) as port:
                got = await raw(port, HELLO)
            assert status(got) == 403
            assert b"content-encoding: gzip\r\n" in got.lower()
            assert got.endswith(b"\r\n\r\n\x1f\x8b\xff")

    run(main)


def test_no_level_of_logging_shows_headers_or_messages(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, _ = proxy_of([room.address])
            async with serving(proxy) as port:
                with log_of_uvicorn(caplog, logging.DEBUG):
                    async with client(port, additional_headers={"Authorization": "hunter2"}) as ws:
                        await ws.send("hunter2 again")
                        assert await ws.recv() == "hunter2 again"
            assert room.requests[0].headers["authorization"] == "hunter2"

    with caplog.at_level(logging.DEBUG, "aibalance.proxy"):
        run(main)
    shown = [record for record in caplog.records if not record.name.startswith("websockets")]
    assert len(shown) >= 1
    assert not [record.name for record in shown if "hunter2" in record.getMessage()]


@contextlib.contextmanager
def log_of_uvicorn(caplog: pytest.LogCaptureFixture, level: int) -> Iterator[None]:
    """It would keep its errors to itself; `serving` sets its level, so this comes within."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_a_refusal_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, _ = proxy_of([room.address])
            async with serving(proxy, max_connections=2) as port:
                with log_of_uvicorn(caplog, logging.WARNING):
                    assert (await refused(port, "/elsewhere")).status_code == 404
                    assert (await refused(port, "/ws/refuse")).status_code == 401
                    async with client(port), client(port):
                        assert (await refused(port)).status_code == 503

    run(main)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
