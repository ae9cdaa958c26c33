"""The reference proxy on a real uvicorn, before real servers: what passes, what is refused, when leases end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import sys
from pathlib import Path

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

import httpx

from aibalance import ConfigError, Endpoint, LeastRequest, MaxFails, Pool, RingHash, RoundRobin
from aibalance.health import HealthChecker
from aibalance.integrations.asgi import Fleet, Limits, Proxy
from aibalance.routing import Router, Rule, StickyCookie

from .backend import Backend, backends
from .serving import inflight, raw, serving, status, until

STREAMS = 200 if os.environ.get("AIBALANCE_FULL") else 60
RULES = [Rule(location="/api/", to="api"), Rule(location="/stream/", to="gpu", streaming=True)]


def proxy_of(api: list[Backend], gpu: list[Backend] | None = None, **options: object) -> Proxy:
    fleets = {
        "api": Fleet(picker=RoundRobin(Pool([b.address for b in api]))),
        "gpu": Fleet(picker=LeastRequest(Pool([b.address for b in gpu or api], seed=1))),
    }
    return Proxy(Router(RULES), fleets, **options)  # type: ignore[arg-type]


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)


def test_it_passes_requests_on_and_answers_back() -> None:
    async def main() -> None:
        async with backends(2) as (a, b):
            proxy = proxy_of([a, b])
            async with serving(proxy) as port, client(port) as http:
                seen = [(await http.get("/api/x?y=%20z")).json() for _ in range(4)]
                assert [one["name"] for one in seen] == ["b0", "b1", "b0", "b1"]
                assert seen[0]["target"] == "/api/x?y=%20z"
                headers = dict(seen[0]["headers"])
                assert headers["x-forwarded-for"] == "127.0.0.1"
                assert headers["x-forwarded-proto"] == "http"
                assert headers["host"] == headers["x-forwarded-host"] == f"127.0.0.1:{port}"
                answer = await http.get("/api/x")
                assert answer.headers["x-shown"] == "1"
                assert "x-internal" not in answer.headers
                assert "keep-alive" not in answer.headers
                assert "date" in answer.headers
                assert len(answer.headers.get_list("content-length")) == 1
                posted = (await http.post("/api/x", content=b"hello" * 1000)).json()
                assert posted["body"] == "hello" * 1000

                async def pieces():
                    yield b"one"
                    yield b"two"

                posted = (await http.post("/api/x", content=pieces())).json()
                assert posted["body"] == "onetwo"
                assert dict(posted["headers"])["transfer-encoding"] == "chunked"
                assert (await http.head("/api/x")).content == b""
                assert (await http.get("/api/status/404")).status_code == 404
                assert (await http.get("/nowhere")).status_code == 404
                moved = await http.get("/api")
                assert (moved.status_code, moved.headers["location"]) == (301, "/api/")
                assert inflight(proxy.fleets["api"].pool) == 0
                records = proxy.fleets["api"].pool.stats()
                assert sum(record.successes for record in records) == 9

    asyncio.run(main())


def test_an_upload_that_expects_100_continue_goes_through() -> None:
    async def main() -> None:
        async with backends(1) as (a,), serving(proxy_of([a])) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /api/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.write(b"hi")
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            writer.close()
            assert "expect" not in dict(a.seen[0]["headers"])
            assert a.seen[0]["body"] == "hi"

    asyncio.run(main())


def head(first: str, *lines: str) -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


ALLOWED = "GET /api/x HTTP/1.1"
SMUGGLED = "0\r\n\r\nGET /stream/secret HTTP/1.1\r\nHost: x\r\n\r\n"
TRICKS = {
    "length and chunks": head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: 6", "Transfer-Encoding: chunked")
    + SMUGGLED.encode(),
    "two lengths": head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: 6", "Content-Length: 0")
    + SMUGGLED.encode(),
    "length list": head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: 6, 0"),
    "signed length": head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: +6"),
    "another coding": head("POST /api/x HTTP/1.1", "Host: x", "Transfer-Encoding: gzip, chunked"),
    "coding in disguise": head("POST /api/x HTTP/1.1", "Host: x", "Transfer-Encoding: xchunked"),
    "coding with a tab": head("POST /api/x HTTP/1.1", "Host: x", "Transfer-Encoding:\x0bchunked"),
    "chunks of 1.0": head("POST /api/x HTTP/1.0", "Host: x", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "blank before colon": head(ALLOWED, "Host: x", "Transfer-Encoding : chunked"),
    "bare LF in a value": b"GET /api/x HTTP/1.1\r\nHost: x\r\nX: a\nb c\r\n\r\n",
    "NUL in a value": head(ALLOWED, "Host: x", "X: a\0b"),
    "no host": head(ALLOWED),
    "two hosts": head(ALLOWED, "Host: x", "Host: y"),
    "host with user": head(ALLOWED, "Host: x@y"),
    "host with path": head(ALLOWED, "Host: x/stream/"),
    "host with blank": head(ALLOWED, "Host: x y"),
    "absolute target, other host": head("GET http://evil/api/x HTTP/1.1", "Host: x"),
    "other scheme": head("GET gopher://x/api/x HTTP/1.1", "Host: x"),
    "asterisk": head("OPTIONS * HTTP/1.1", "Host: x"),
    "authority": head("GET x:80 HTTP/1.1", "Host: x"),
    "connect": head("CONNECT x:80 HTTP/1.1", "Host: x"),
    "trace": head("TRACE /api/x HTTP/1.1", "Host: x"),
    "raw bytes in the path": b"GET /api/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "encoded NUL": head("GET /api/%00 HTTP/1.1", "Host: x"),
    "broken percent": head("GET /api/%zz HTTP/1.1", "Host: x"),
    "above the root": head("GET /api/../../x HTTP/1.1", "Host: x"),
    "long target": head(f"GET /api/{'x' * 9000} HTTP/1.1", "Host: x"),
    "long header": head(ALLOWED, "Host: x", f"X: {'y' * 60000}"),
    "many headers": head(ALLOWED, "Host: x", *(f"X{i}: y" for i in range(200))),
    "long body": head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: 99999999"),
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "version": head("GET /api/x HTTP/3.7", "Host: x"),
}


def test_tricks_are_answered_with_an_error_and_reach_nobody() -> None:
    async def main() -> None:
        async with backends(2) as (api, gpu):
            proxy = proxy_of([api], [gpu])
            async with serving(proxy) as port:
                for name, sent in TRICKS.items():
                    answer = await raw(port, sent)
                    assert 400 <= status(answer) <= 505, (name, answer[:200])
                    assert answer.count(b"HTTP/1.1 ") == 1, (name, answer)
                assert api.seen == []
                assert gpu.seen == []
                assert status(await raw(port, head(ALLOWED, "Host: x"))) == 200

    asyncio.run(main())


UNCHANGED = [
    ("/api/%ff%fe", "bytes that are not UTF-8, encoded"),
    ("/api/a%2Fb//c/./d", "as it came, not made normal"),
    ("/api/x?a=%00&b=../..", "a query is no path"),
    ("/api/x;p=1?q", "parameters"),
]


def test_what_is_odd_but_allowed_is_passed_on_unchanged() -> None:
    async def main() -> None:
        async with backends(2) as (api, gpu), serving(proxy_of([api], [gpu])) as port:
            for target, why in UNCHANGED:
                assert status(await raw(port, head(f"GET {target} HTTP/1.1", "Host: x"))) == 200, why
                assert api.seen[-1]["target"] == target, why
            # A dotted path goes by what it means, as in nginx: it is the fleet of /stream/ that gets it.
            assert status(await raw(port, head("GET /api/../stream/y HTTP/1.1", "Host: x"))) == 200
            assert gpu.seen[-1]["target"] == "/api/../stream/y"
            # The absolute form of the same host is the origin form to an endpoint.
            assert status(await raw(port, head("GET http://x/api/z?q=1 HTTP/1.1", "Host: x"))) == 200
            assert api.seen[-1]["target"] == "/api/z?q=1"

    asyncio.run(main())


def test_a_body_that_nobody_read_is_no_request() -> None:
    async def main() -> None:
        async with backends(2) as (api, gpu), serving(proxy_of([api], [gpu])) as port:
            inner = head("GET /stream/secret HTTP/1.1", "Host: x")
            first = head("POST /nowhere HTTP/1.1", "Host: x", f"Content-Length: {len(inner)}") + inner
            answer = await raw(port, first + head(ALLOWED, "Host: x"))
            assert [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")] in (
                [b"404", b"200"],
                [b"404"],
            )
            assert gpu.seen == []
            # A broken chunk ends the request and the connection.
            broken = head("POST /api/x HTTP/1.1", "Host: x", "Transfer-Encoding: chunked") + b"zz\r\n" + inner
            assert status(await raw(port, broken)) == 400
            assert gpu.seen == []
            assert [one["target"] for one in api.seen] in ([], ["/api/x"])

    asyncio.run(main())


def test_headers_of_one_connection_and_of_liars_are_dropped() -> None:
    async def main() -> None:
        async with backends(1) as (api,):
            lies = (
                "Host: x",
                "Connection: close, X-Mine, Host, Authorization",
                "X-Mine: 1",
                "Authorization: me",
                "X_Forwarded_For: 6.6.6.6",
                "X-Forwarded-For: 6.6.6.6",
                "X-Real-IP: 6.6.6.6",
                "Forwarded: for=6.6.6.6",
                "Upgrade: h2c",
                "HTTP2-Settings: AAA",
                "TE: trailers",
                "Proxy-Authorization: x",
                "Cookie: a=b",
            )
            async with serving(proxy_of([api])) as port:
                assert status(await raw(port, head(ALLOWED, *lies))) == 200
            got = dict(api.seen[0]["headers"])
            assert got["authorization"] == "me"
            assert got["cookie"] == "a=b"
            assert got["host"] == "x"
            assert got["x-forwarded-for"] == "127.0.0.1"
            gone = {"x-mine", "x_forwarded_for", "x-real-ip", "forwarded", "upgrade", "http2-settings", "te"}
            assert not gone & set(got)
            async with serving(proxy_of([api], trust_forwarded=True)) as port:
                assert status(await raw(port, head(ALLOWED, *lies))) == 200
            got = dict(api.seen[1]["headers"])
            assert got["x-forwarded-for"] == "6.6.6.6, 127.0.0.1"
            assert got["x-real-ip"] == "6.6.6.6"

    asyncio.run(main())


def test_slow_clients_are_sent_away() -> None:
    async def main() -> None:
        limits = Limits(header_timeout=0.3, body_timeout=0.3, send_timeout=0.3, max_body=100)
        async with backends(1) as (api,):
            proxy = proxy_of([api], limits=limits)
            async with serving(proxy) as port:
                assert status(await raw(port, b"GET /api/x HTTP/1.1\r\nHost: x\r\n")) == 408
                assert status(await raw(port, b"")) == 408
                answer = await raw(port, head("POST /api/x HTTP/1.1", "Host: x", "Content-Length: 5") + b"ab")
                assert status(answer) == 408
                chunks = b"".join(b"40\r\n%s\r\n" % (b"x" * 64) for _ in range(3)) + b"0\r\n\r\n"
                answer = await raw(port, head("POST /api/x HTTP/1.1", "Host: x", "Transfer-Encoding: chunked") + chunks)
                assert status(answer) == 413
                # Who does not read is cut off, and the lease ends.
                _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
                writer.write(head("GET /api/big HTTP/1.1", "Host: x"))
                await until(lambda: inflight(proxy.fleets["api"].pool) == 1, within=5)
                await until(lambda: inflight(proxy.fleets["api"].pool) == 0, within=5)
                writer.transport.abort()
                assert proxy.fleets["api"].pool.stats()[0].failures == 0

    asyncio.run(main())


def test_what_can_be_retried_is_and_nothing_else() -> None:
    async def main() -> None:
        dead = await Backend().start()
        await dead.stop()
        async with backends(2) as (a, b):
            proxy = proxy_of([dead, a])
            async with serving(proxy) as port, client(port) as http:
                answers = [(await http.post("/api/x", content=b"once")).status_code for _ in range(6)]
                assert answers == [200] * 6
                assert len(a.seen) == 6
                assert proxy.fleets["api"].pool.stats()[0].failures >= 2
            proxy = proxy_of([a, b])
            a.seen.clear()
            async with serving(proxy) as port, client(port) as http:
                assert (await http.get("/api/drop")).status_code == 502
                assert len(a.seen) + len(b.seen) == 2, "a GET may be sent twice"
                assert (await http.post("/api/drop", content=b"x")).status_code == 502
                assert len(a.seen) + len(b.seen) == 3, "a POST may not"
                assert (await http.get("/api/status/503")).status_code == 503
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.get("/api/cut")
                assert inflight(proxy.fleets["api"].pool) == 0
            limited = Proxy(
                Router([Rule(path="*", to="one", read_timeout=0.2)]), {"one": Fleet(picker=RoundRobin([a.address]))}
            )
            async with serving(limited) as port, client(port) as http:
                assert (await http.post("/hang")).status_code == 504
                assert limited.fleets["one"].pool.stats()[0].timeouts == 1

    asyncio.run(main())


def test_nobody_to_send_to_is_503() -> None:
    async def main() -> None:
        async with backends(1) as (a,):
            pool = Pool([Endpoint(a.address, max_inflight=1)], on_panic="fail", passive=MaxFails(max_fails=1))
            proxy = Proxy(Router([Rule(path="*", to="f")]), {"f": Fleet(picker=RoundRobin(pool))})
            async with serving(proxy) as port, client(port) as http:
                held = asyncio.create_task(http.get("/sse/3/100"))
                await until(lambda: inflight(pool) == 1, within=5)
                assert (await http.get("/x")).status_code == 503
                assert (await held).status_code == 200
                pool.update([])
                assert (await http.get("/x")).status_code == 503

    asyncio.run(main())


def test_a_server_that_asks_for_a_pause_gets_one() -> None:
    async def main() -> None:
        async with backends(2) as (a, b):
            pool = Pool([a.address, b.address], passive=MaxFails(max_fails=100))
            proxy = Proxy(Router([Rule(path="*", to="f")]), {"f": Fleet(picker=RoundRobin(pool))})
            async with serving(proxy) as port, client(port) as http:
                a.broken = True
                answer = await http.get("/x")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
                assert {(await http.get("/x")).json()["name"] for _ in range(6)} == {"b1"}
                assert pool.stats()[0].rejected == 1

    asyncio.run(main())


def test_the_clock_of_headers_starts_with_each_request() -> None:
    async def main() -> None:
        async with backends(1) as (a,), serving(proxy_of([a], limits=Limits(header_timeout=0.4))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(head("GET /api/sse/3/300 HTTP/1.1", "Host: x"))
                # The answer takes longer than headers may: that is not the client's fault.
                assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
                await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
            writer.write(b"GET /api/x HTTP/1.1\r\nHost")
            assert status(await asyncio.wait_for(reader.read(), 5)) == 408
            writer.close()

    asyncio.run(main())


def test_sessions_stay_and_keys_too() -> None:
    async def main() -> None:
        async with backends(3) as all_of:
            cookie = StickyCookie(b"0123456789abcdef", pool="s", secure=False)
            addresses = [b.address for b in all_of]
            proxy = Proxy(
                Router([Rule(location="/s/", to="s"), Rule(location="/k/", to="k")]),
                {
                    "s": Fleet(picker=RoundRobin(addresses), sticky=cookie),
                    "k": Fleet(picker=RingHash(addresses), key="header:X-User"),
                },
            )
            async with serving(proxy) as port, client(port) as http:
                names = {(await http.get("/s/x")).json()["name"] for _ in range(6)}
                assert len(names) == 1
                assert "AIBALANCE" in http.cookies
                # The session's endpoint goes: another one takes over, and the cookie says so.
                gone = next(b for b in all_of if b.name in names)
                await gone.stop()
                after = {(await http.get("/s/x")).json()["name"] for _ in range(4)}
                assert not after & names
                for user in ("ann", "bob", "cy"):
                    homes = set()
                    for _ in range(4):
                        homes.add((await http.get("/k/x", headers={"x-user": user})).json()["name"])
                    assert len(homes) == 1

    asyncio.run(main())


def test_the_checker_runs_with_the_proxy() -> None:
    async def main() -> None:
        async with backends(2) as (a, b):
            pool = Pool([a.address, b.address], panic_threshold=0.0)
            checker = HealthChecker(pool, "/ok", interval=0.05, start_spread=0.0, unhealthy_threshold=1, timeout=1)
            proxy = Proxy(Router([Rule(path="*", to="f")]), {"f": Fleet(picker=RoundRobin(pool), checker=checker)})
            async with serving(proxy):
                await until(lambda: all(r.health == "healthy" for r in pool.stats()), within=5)
                await b.stop()
                await until(lambda: pool.stats()[1].health == "unhealthy", within=5)
                assert pool.stats()[0].health == "healthy"

    asyncio.run(main())


def test_streams_pass_undelayed_and_every_lease_ends() -> None:
    """Many streams: a third of the clients leave early, a tenth of the servers die."""

    async def main() -> None:
        chance = random.Random(4)
        async with backends(10) as servers:
            proxy = proxy_of(servers)
            pool = proxy.fleets["gpu"].pool
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            async with serving(proxy) as port, httpx.AsyncClient(timeout=20, limits=limits, trust_env=False) as http:
                whole = cut = left = 0

                async def one(i: int) -> None:
                    nonlocal whole, cut, left
                    leave = chance.randint(1, 15) if i % 3 == 0 else None
                    events = 0
                    try:
                        async with http.stream("GET", f"http://127.0.0.1:{port}/stream/sse/20/20") as answer:
                            assert answer.headers["x-accel-buffering"] == "no"
                            async for line in answer.aiter_lines():
                                events += line.startswith("data:")
                                if leave is not None and events >= leave:
                                    left += 1
                                    return
                    except httpx.RemoteProtocolError:
                        cut += 1
                        return
                    whole += events == 20

                streams = [asyncio.create_task(one(i)) for i in range(STREAMS)]
                await until(lambda: inflight(pool) == STREAMS, within=15)
                assert max(r.inflight for r in pool.stats()) <= STREAMS // 6, "they are spread"
                await servers[0].stop()
                await asyncio.gather(*streams)
                await until(lambda: inflight(pool) == 0, within=1)
                await until(lambda: sum(s.streams for s in servers) == 0, within=1)
                assert whole + cut + left == STREAMS
                assert cut <= STREAMS // 6
                assert left >= STREAMS // 4
                records = pool.stats()
                assert sum(r.failures for r in records[1:]) == 0, "who is left is nobody's failure"

    asyncio.run(main())


def test_shutdown_lets_streams_end() -> None:
    async def main() -> None:
        async with backends(1) as (a,), httpx.AsyncClient(timeout=10, trust_env=False) as http:
            proxy = proxy_of([a])
            pool = proxy.fleets["gpu"].pool
            async with serving(proxy) as port:
                stream = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/stream/sse/10/30"))
                await until(lambda: inflight(pool) == 1, within=5)
            # The server has been told to end, as SIGTERM tells it, while the stream ran.
            assert (await stream).text.count("data:") == 10
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/api/x")

    asyncio.run(main())


def test_what_cannot_be_is_said() -> None:
    fleet = Fleet(picker=RoundRobin(["127.0.0.1:1"]))
    with pytest.raises(ConfigError, match=r"rules\[0\].to: 'b' is not allowed; one of a"):
        Proxy(Router([Rule(path="*", to="b")]), {"a": fleet})
    with pytest.raises(ConfigError, match="address: 'x' is not allowed"):
        Fleet(picker=RoundRobin(["x"]))
    with pytest.raises(ConfigError, match="key"):
        Fleet(picker=RoundRobin(["127.0.0.1:1"]), key="header:")
    with pytest.raises(ConfigError, match="scheme"):
        Fleet(picker=RoundRobin(["127.0.0.1:1"]), scheme="ftp")
    with pytest.raises(ConfigError, match="max_body: -1"):
        Limits(max_body=-1)
    with pytest.raises(ConfigError, match="read_timeout: nan"):
        Limits(read_timeout=float("nan"))


def test_it_is_an_application_for_any_server() -> None:
    """In httpx's own ASGI transport, without lifespan: `async with proxy`."""

    async def main() -> None:
        async with backends(1) as (a,):
            proxy = proxy_of([a])
            async with proxy, httpx.AsyncClient(transport=httpx.ASGITransport(proxy), base_url="http://x") as http:
                assert json.loads((await http.get("/api/x")).content)["name"] == "b0"
            assert proxy._upstreams == {}

    asyncio.run(main())


@pytest.mark.skipif(
    shutil.which("granian", path=os.path.dirname(sys.executable)) is None, reason="granian is not installed"
)
def test_it_serves_under_granian(tmp_path: Path) -> None:
    async def main() -> None:
        async with backends(1) as (a,):
            (tmp_path / "gateway.py").write_text(
                "from aibalance import RoundRobin\n"
                "from aibalance.integrations.asgi import Fleet, Proxy\n"
                "from aibalance.routing import Router, Rule\n"
                f"app = Proxy(Router([Rule(path='*', to='f')]), {{'f': Fleet(picker=RoundRobin(['{a.address}']))}})\n",
                encoding="utf-8",
            )
            with socket.socket() as one:
                one.bind(("127.0.0.1", 0))
                port = one.getsockname()[1]
            command = (sys.executable, "-m", "granian", "--interface", "asgi", "--port", str(port), "gateway:app")
            process = await asyncio.create_subprocess_exec(
                *command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(30), client(port) as http:
                    while True:
                        try:
                            assert (await http.get("/x")).json()["name"] == "b0"
                            break
                        except httpx.TransportError:
                            assert process.returncode is None
                            await asyncio.sleep(0.1)
                    assert (await http.post("/x", content=b"hi" * 1000)).json()["body"] == "hi" * 1000
                    async with http.stream("GET", "/sse/200/20") as answer:
                        async for _ in answer.aiter_lines():
                            break
                        assert a.streams == 1
                    await until(lambda: a.streams == 0, within=5)
            finally:
                process.terminate()
                await process.wait()

    asyncio.run(main())
