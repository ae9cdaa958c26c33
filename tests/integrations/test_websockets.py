"""WebSockets through the reference proxy: a real uvicorn between a real client and real servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets", reason="websockets is not installed")

from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aibalance import LeastConnections, Pool, RoundRobin
from aibalance.integrations import _websocket
from aibalance.integrations._server import websockets as ws_protocol
from aibalance.integrations.asgi import Fleet, Limits, Proxy
from aibalance.routing import Router, Rule, StickyCookie

from .backend import Backend
from .serving import inflight, raw, serving, status, until

pytestmark = pytest.mark.timeout(60)


class Room:
    """A server of WebSockets: it echoes, and does what a few words ask of it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.closes: list[tuple[int | None, str | None]] = []
        self.open: set[ServerConnection] = set()
        self.server: Server | None = None

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    def check(self, connection: ServerConnection, request: Any) -> Any:
        self.requests.append(request)
        if "refuse" in request.path:
            answer = connection.respond(401, "who are you?\n")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        return None

    async def serve(self, connection: ServerConnection) -> None:
        self.open.add(connection)
        try:
            async for message in connection:
                if message == "die":
                    connection.transport.abort()
                elif message == "flood":
                    for i in range(3_000):
                        await connection.send(f"{i}")
                elif isinstance(message, str) and message.startswith("close "):
                    await connection.close(int(message[6:]), "as you wish")
                elif isinstance(message, str) and message.startswith("big "):
                    await connection.send("x" * int(message[4:]))
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.open.discard(connection)
            self.closes.append((connection.close_code, connection.close_reason))


def chosen(_: ServerConnection, offered: Any) -> Any:
    return next((one for one in offered if one in ("chat", "log")), None)


@contextlib.asynccontextmanager
async def rooms(count: int = 1) -> AsyncIterator[list[Room]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            room = Room()
            room.server = await stack.enter_async_context(
                serve(
                    room.serve,
                    "127.0.0.1",
                    0,
                    process_request=room.check,
                    select_subprotocol=chosen,
                    compression=None,
                )  # type: ignore[arg-type]
            )
            made.append(room)
        yield made


def proxy_of(addresses: list[str], *, limits: Limits | None = None, **options: Any) -> tuple[Proxy, Pool]:
    pool = Pool(addresses)
    fleet = Fleet(picker=RoundRobin(pool), **options)
    return Proxy(Router([Rule(location="/ws", to="rooms")]), {"rooms": fleet}, limits=limits), pool


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def client(port: int, target: str = "/ws", **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{port}{target}", proxy=None, **options)


def test_messages_pass_both_ways_and_the_lease_is_held() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            headers = {"x-mine": "1", "x-forwarded-for": "6.6.6.6", "Cookie": "a=b", "Origin": "http://here"}
            async with (
                serving(proxy) as port,
                client(port, "/ws/a;b=1/%2e?x=%20", subprotocols=["other", "log"], additional_headers=headers) as ws,
            ):
                assert ws.subprotocol == "log"
                for message in ("hello", "grüße", b"\x00\xff", "", "x" * 500_000):
                    await ws.send(message)
                    assert await ws.recv() == message
                await ws.send(["in ", "three ", "parts"])
                assert await ws.recv() == "in three parts"
                # Each side's pings are answered on that side.
                assert await asyncio.wait_for(await ws.ping(), 20) >= 0
                assert inflight(pool) == 1
                assert len(room.open) == 1
                await ws.close(4001, "enough")
                await until(lambda: inflight(pool) == 0, within=20)
                await until(lambda: room.closes == [(4001, "enough")], within=20)
                got = room.requests[0]
                assert got.path == "/ws/a;b=1/%2e?x=%20"
                assert got.headers["x-mine"] == "1"
                assert got.headers["cookie"] == "a=b"
                assert got.headers["origin"] == "http://here"
                assert got.headers["host"] == got.headers["x-forwarded-host"] == f"127.0.0.1:{port}"
                assert got.headers["x-forwarded-for"] == "127.0.0.1"
                assert got.headers["x-forwarded-proto"] == "http"
                assert len(got.headers.get_all("sec-websocket-key")) == 1
                assert "sec-websocket-extensions" not in got.headers
            assert pool.stats()[0].successes == 1

    run(main)


@pytest.mark.parametrize(("code", "seen"), [(1000, 1000), (4321, 4321), (1011, 1011), (1001, 1001)])
def test_codes_pass_in_both_directions(code: int, seen: int) -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            async with serving(proxy) as port:
                async with client(port) as ws:
                    await ws.close(code, "so long")
                await until(lambda: room.closes == [(seen, "so long")], within=20)
                async with client(port) as ws:
                    await ws.send(f"close {code}")
                    with pytest.raises(ConnectionClosed) as closed:
                        await ws.recv()
                    assert closed.value.rcvd is not None
                    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (seen, "as you wish")
                await until(lambda: inflight(pool) == 0, within=20)
                assert (pool.stats()[0].successes, pool.stats()[0].failures) == (2, 0)

    run(main)


def test_who_leaves_without_a_word_is_away() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            async with serving(proxy) as port:
                for what in (None, "flood"):
                    room.closes.clear()
                    async with client(port) as ws:
                        if what is not None:
                            # In the middle of messages that nobody reads.
                            await ws.send(what)
                            await ws.recv()
                        ws.transport.abort()
                    await until(lambda: inflight(pool) == 0, within=20)
                    await until(lambda: [code for code, _ in room.closes] == [1001], within=20)
                # And a close that comes while the other side talks keeps its code.
                room.closes.clear()
                async with client(port, close_timeout=0.2) as ws:
                    await ws.send("flood")
                    await ws.recv()
                    await ws.close(4002)
                await until(lambda: [code for code, _ in room.closes] == [4002], within=20)
                assert pool.stats()[0].failures == 0

    run(main)


def test_an_endpoint_that_dies_is_a_bad_gateway() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            async with serving(proxy) as port, client(port) as ws:
                await ws.send("die")
                with pytest.raises(ConnectionClosed) as closed:
                    await ws.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1014, "the endpoint is gone")
                await until(lambda: inflight(pool) == 0, within=20)
                assert pool.stats()[0].failures == 1

    run(main)


def test_messages_have_a_limit_in_both_directions() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address], limits=Limits(max_message=1000))
            async with serving(proxy) as port:
                for sent in ("x" * 1001, "big 1001"):
                    async with client(port) as ws:
                        await ws.send(sent)
                        with pytest.raises(ConnectionClosed) as closed:
                            await ws.recv()
                        assert closed.value.rcvd is not None
                        assert closed.value.rcvd.code == 1009
                async with client(port) as ws:
                    await ws.send("big 1000")
                    assert len(await ws.recv()) == 1000
                await until(lambda: inflight(pool) == 0, within=20)
            proxy, _ = proxy_of([room.address], limits=Limits(max_message=None))
            async with serving(proxy) as port, client(port, max_size=None) as ws:
                await ws.send("big 2000000")
                assert len(await ws.recv()) == 2_000_000

    run(main)


async def refused(port: int, target: str = "/ws", **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as caught:
        async with client(port, target, **options):
            pass
    return caught.value.response


def test_what_is_refused_and_by_whom() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            async with serving(proxy) as port:
                assert (await refused(port, "/elsewhere")).status_code == 404
                assert (await refused(port, "/ws/%00")).status_code == 400
                assert room.requests == []
                answer = await refused(port, "/ws/refuse")
                assert (answer.status_code, answer.body) == (401, b"who are you?\n")
                assert answer.headers["www-authenticate"] == "Bearer"
                assert (await refused(port, additional_headers={"content-length": "5"})).status_code == 400
                lines = (
                    "GET /ws HTTP/1.1",
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                    "Sec-WebSocket-Version: 13",
                )
                for more in (["Host: x", "Host: y"], [], ["Host: x y"], ["Host: x", "Transfer-Encoding: chunked"]):
                    answer = await raw(port, "\r\n".join([*lines, *more, "", ""]).encode())
                    assert status(answer) == 400, more
                assert len(room.requests) == 1
                assert pool.stats()[0].failures == 0
                assert inflight(pool) == 0
            proxy, _ = proxy_of([room.address], websockets=False)
            async with serving(proxy) as port:
                assert (await refused(port)).status_code == 403
            assert len(room.requests) == 1

    run(main)


def test_a_handshake_is_tried_elsewhere() -> None:
    async def main() -> None:
        dead = await Backend().start()
        await dead.stop()
        mute = await Backend().start()
        try:
            async with rooms() as (room,):
                proxy, pool = proxy_of([dead.address, room.address])
                async with serving(proxy) as port:
                    for _ in range(4):
                        async with client(port) as ws:
                            await ws.send("hi")
                            assert await ws.recv() == "hi"
                    assert pool.stats()[0].failures >= 2
                    pool.update([dead.address])
                    assert (await refused(port)).status_code == 502
                    pool.update([])
                    assert (await refused(port)).status_code == 503
                # One that does not answer in time, or with something else.
                rules = [Rule(location="/hang", to="f", read_timeout=0.2), Rule(location="/", to="f")]
                proxy = Proxy(Router(rules), {"f": Fleet(picker=RoundRobin([mute.address]))})
                async with serving(proxy) as port:
                    assert (await refused(port, "/hang")).status_code == 504
                    assert (await refused(port, "/drop")).status_code == 502
                    assert (await refused(port, "/status/403")).status_code == 403
                    pool = proxy.fleets["f"].pool
                    assert (pool.stats()[0].timeouts, inflight(pool)) == (1, 0)
        finally:
            await mute.stop()

    run(main)


def test_sessions_hold_for_websockets() -> None:
    async def main() -> None:
        async with rooms(3) as all_of:
            cookie = StickyCookie(b"0123456789abcdef", pool="s", secure=False)
            proxy, _ = proxy_of([room.address for room in all_of], sticky=cookie)
            async with serving(proxy) as port:
                async with client(port) as ws:
                    await until(lambda: any(room.open for room in all_of), within=20)
                    (home,) = [room for room in all_of if room.open]
                    assert ws.response is not None
                    kept = ws.response.headers["set-cookie"].partition(";")[0]
                for _ in range(4):
                    async with client(port, additional_headers={"Cookie": kept}):
                        pass
            assert sorted(len(room.requests) for room in all_of) == [0, 0, 5]
            assert len(home.requests) == 5

    run(main)


def test_shutdown_closes_with_1012_on_both_sides() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            async with contextlib.AsyncExitStack() as stack:
                async with serving(proxy) as port:
                    ws = await stack.enter_async_context(client(port))
                    await until(lambda: inflight(pool) == 1, within=20)
                with pytest.raises(ConnectionClosed) as closed:
                    await ws.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
            await until(lambda: [code for code, _ in room.closes] == [1012], within=20)
            assert inflight(pool) == 0

    run(main)


def test_many_of_them_come_and_go() -> None:
    """A third leaves without a word, one server of five dies: no lease is left, and nobody's answer is another's."""

    async def main() -> None:
        chance = random.Random(7)
        async with rooms(5) as all_of:
            pool = Pool([room.address for room in all_of])
            fleet = Fleet(picker=LeastConnections(pool))
            proxy = Proxy(Router([Rule(location="/ws", to="f")]), {"f": fleet})
            codes: list[int] = []
            counts = {"whole": 0, "left": 0, "cut": 0}

            async def one(i: int, port: int) -> None:
                async with client(port) as ws:
                    try:
                        for n in range(20):
                            await ws.send(f"{i}/{n}")
                            assert await ws.recv() == f"{i}/{n}"
                            if i % 3 == 0 and n == chance.randint(0, 19):
                                ws.transport.abort()
                                counts["left"] += 1
                                return
                            await asyncio.sleep(0.02)
                        counts["whole"] += 1
                    except ConnectionClosed as closed:
                        codes.append(closed.rcvd.code if closed.rcvd else 0)
                        counts["cut"] += 1

            async with serving(proxy) as port:
                talking = [asyncio.create_task(one(i, port)) for i in range(60)]
                await until(lambda: len(all_of[0].open) >= 5, within=20)
                assert max(r.inflight for r in pool.stats()) <= 16
                for connection in list(all_of[0].open):
                    connection.transport.abort()
                await asyncio.gather(*talking)
                await until(lambda: inflight(pool) == 0, within=20)
            assert sum(counts.values()) == 60
            assert counts["cut"] >= 1
            assert set(codes) == {1014}
            assert sum(r.failures for r in pool.stats()[1:]) == 0

    run(main)


def test_a_server_that_does_not_tell_how_a_client_left() -> None:
    """An ASGI server that only raises at the next message: the endpoint is told all the same."""

    async def main() -> None:
        async with rooms() as (room,):
            proxy, pool = proxy_of([room.address])
            said: list[str] = []
            told = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]

            accepted = asyncio.Event()

            async def receive() -> Any:
                if len(told) < 2:
                    await accepted.wait()
                if not told:
                    await asyncio.Event().wait()
                return told.pop(0)

            async def send(message: Any) -> None:
                said.append(message["type"])
                accepted.set()
                if message["type"] == "websocket.send":
                    raise OSError("gone")

            scope = {
                "type": "websocket",
                "http_version": "1.1",
                "path": "/ws",
                "headers": [(b"host", b"x")],
                "subprotocols": [],
            }
            async with proxy:
                await asyncio.wait_for(proxy(scope, receive, send), 10)
            assert said == ["websocket.accept", "websocket.send"]
            await until(lambda: [code for code, _ in room.closes] == [1001], within=20)
            assert (inflight(pool), pool.stats()[0].cancelled, pool.stats()[0].failures) == (0, 1, 0)

    run(main)


def test_connections_have_a_limit_here_too() -> None:
    async def main() -> None:
        async with rooms() as (room,):
            proxy, _ = proxy_of([room.address])
            async with serving(proxy, max_connections=2) as port, client(port), client(port):
                assert (await refused(port)).status_code == 503
                assert len(room.requests) == 2

    run(main)


def test_without_the_package_they_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ws_protocol() != "none"
    monkeypatch.setitem(sys.modules, "uvicorn.protocols.websockets.websockets_sansio_impl", None)
    assert ws_protocol() == "none"


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
                # uvicorn would keep its errors to itself.
                monitored = logging.getLogger("uvicorn.error")
                monitored.addHandler(caplog.handler)
                monitored.setLevel(logging.ERROR)
                try:
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
                finally:
                    monitored.removeHandler(caplog.handler)
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
                monitored = logging.getLogger("uvicorn.error")
                monitored.addHandler(caplog.handler)
                monitored.setLevel(logging.DEBUG)
                try:
                    async with client(port, additional_headers={"Authorization": "hunter2"}) as ws:
                        await ws.send("hunter2 again")
                        assert await ws.recv() == "hunter2 again"
                finally:
                    monitored.removeHandler(caplog.handler)
            assert room.requests[0].headers["authorization"] == "hunter2"

    with caplog.at_level(logging.DEBUG, "aibalance.proxy"):
        run(main)
    shown = [record for record in caplog.records if not record.name.startswith("websockets")]
    assert len(shown) >= 1
    assert not [record.name for record in shown if "hunter2" in record.getMessage()]
