"""WebSockets through the reference proxy: a real uvicorn between a real client and real servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets", reason="websockets is not installed")

from websockets.exceptions import ConnectionClosed

from aibalance import LeastConnections, Pool, RoundRobin
from aibalance.integrations._server import websockets as ws_protocol
from aibalance.integrations.asgi import Fleet, Limits, Proxy
from aibalance.routing import Router, Rule, StickyCookie

from .backend import Backend
from .rooms import client, proxy_of, refused, rooms, run
from .serving import inflight, raw, serving, status, until

pytestmark = pytest.mark.timeout(60)


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
