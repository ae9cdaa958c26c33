"""The probes against servers on loopback, and what is made of their answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, FormatError, Pool
from aibalance._health.checks import read_checks
from aibalance._health.probes import split_address
from aibalance.health import (
    CheckRule,
    GrpcProbe,
    HealthChecker,
    HttpProbe,
    Probe,
    ProbeResult,
    TcpProbe,
    check_rules,
    default_rules,
)


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def asked(probe: Probe, reply: bytes | Callable[[bytes], bytes], address: str = "{}") -> ProbeResult:
    """What a probe makes of a server that answers so."""

    async def go() -> ProbeResult:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(reply if isinstance(reply, bytes) else reply(head))
                await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # who only wanted to connect has hung up
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with server:
            result = await probe(Endpoint(address.format(f"{host}:{port}")))
            # A connection that outlives its loop is a warning in whatever test runs when it is collected.
            await asyncio.wait_for(ended.wait(), 30)
            return result

    return asyncio.run(go())


def http(*arguments: Any, **options: Any) -> HttpProbe:
    pytest.importorskip("httpx")
    return HttpProbe(*arguments, **options)


def test_http_statuses_and_the_policy_on_redirects() -> None:
    assert asked(http(), answer(200)) == ProbeResult(True)
    assert asked(http(), answer(404)) == ProbeResult(False, "status 404")
    assert asked(http(), answer(302, b"", "location: /elsewhere")) == ProbeResult(False, "status 302")
    assert asked(http(expected=[302]), answer(302, b"", "location: /elsewhere")).ok
    assert asked(http(), answer(200), "http://{}/").ok


def test_http_path_and_headers_are_sent() -> None:
    def echo(head: bytes) -> bytes:
        return answer(200 if head.startswith(b"GET /a/b HTTP/1.1") and b"x-who: me" in head.lower() else 500)

    assert asked(http("/a/b", headers={"x-who": "me"}), echo).ok
    assert not asked(http("/a/b"), echo).ok


def test_a_deep_body_is_read_up_to_its_limits() -> None:
    probe = http("/health/ready", checks=True)
    body = json.dumps({"checks": {"model_loaded": {"ok": True}, "queue_below": 7, "m": {"value": 3, "ok": True}}})
    expected = {"model_loaded": True, "queue": 7, "m": 3}
    assert asked(probe, answer(200, body.encode())) == ProbeResult(True, "", expected)
    assert asked(probe, answer(503, body.encode())) == ProbeResult(False, "status 503", expected)
    assert asked(probe, answer(500, body.encode())) == ProbeResult(False, "status 500")
    assert asked(probe, answer(200, b"<html>")).reason == "status 200, body: not JSON: JSONDecodeError"
    assert "deeper than 8" in asked(probe, answer(200, b"[" * 9 + b"]" * 9)).reason
    assert "more than 20 bytes" in asked(http(checks=True, max_body=20), answer(200, body.encode())).reason


@pytest.mark.parametrize("body", [b"[]", b"3", b'{"checks": 3}', b"\xff", b"[" * 60000, b"NaN1"])
def test_bodies_that_are_none(body: bytes) -> None:
    with pytest.raises(FormatError, match=r"^body:"):
        read_checks(body)


def test_depth_does_not_count_what_is_text() -> None:
    assert read_checks(b'{"a": "[[[[[[[[[[{{\\"[[["}') == {"a": '[[[[[[[[[[{{"[[['}


def test_tcp() -> None:
    assert asked(TcpProbe(), b"").ok
    checker = HealthChecker(Pool(["127.0.0.1:1", "no-port"]), TcpProbe(), unhealthy_threshold=1)
    assert set(asyncio.run(checker.check_once()).values()) == {"unhealthy"}
    assert "host:port" in checker.status("no-port").reason


def test_grpc() -> None:
    grpc = pytest.importorskip("grpc.aio")
    health = pytest.importorskip("grpc_health.v1.health")
    pb2 = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")

    async def go() -> list[str]:
        server = grpc.server()
        servicer = health.aio.HealthServicer()
        stubs.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        seen = []
        pool = Pool([f"127.0.0.1:{port}"])
        for service, status in (("", pb2.HealthCheckResponse.SERVING), ("m", pb2.HealthCheckResponse.NOT_SERVING)):
            await servicer.set(service, status)
            checker = HealthChecker(pool, GrpcProbe(service), unhealthy_threshold=1)
            [state] = (await checker.check_once()).values()
            seen.append(state + checker.status(f"127.0.0.1:{port}").reason)
        await server.stop(0)
        return seen

    assert asyncio.run(go()) == ["healthy", "unhealthyNOT_SERVING"]


def test_addresses() -> None:
    assert split_address("a:80") == ("a", 80)
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("https://a:8443/x") == ("a", 8443)
    for bad in ("a", "a:", ":80", "a:0", "a:99999", "a:x"):
        with pytest.raises(ConfigError, match=r"^address:"):
            split_address(bad)


def test_rules_of_a_table() -> None:
    table = {
        "model_loaded": "restart",
        "gpu_available": "replace",
        "inference_test": "reload model",
        "memory_below_percent": {"limit": 90, "action": "scale up"},
        "gpu_memory_below_percent": {"limit": 85, "action": "scale up"},
        "queue_below": {"limit": 100, "action": "scale up"},
        "db_connected": "stop sending",
    }
    assert check_rules(table) == default_rules()
    for bad in ({"a": 3}, {"a": "explode"}, {"a": {"limit": 3}}, {"a": {"action": "restart", "limit": "x"}}):
        with pytest.raises(ConfigError, match=r"^a:"):
            check_rules(bad)


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("name", lambda: CheckRule("", "restart")),
        ("action", lambda: CheckRule("a", "dance")),  # type: ignore[arg-type]
        ("effect", lambda: CheckRule("a", "restart", None, "dance")),  # type: ignore[arg-type]
        ("limit", lambda: CheckRule("a", "restart", float("nan"))),
        ("path", lambda: HttpProbe("x")),
        ("scheme", lambda: HttpProbe(scheme="ftp")),
        ("max_body", lambda: HttpProbe(max_body=0)),
    ],
)
def test_what_cannot_be_is_told(field: str, make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        make()
