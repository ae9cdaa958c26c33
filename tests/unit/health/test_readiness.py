"""The server's side: the ASGI app by itself and under uvicorn, and the graceful end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, Latency, ManualClock, Pool, RoundRobin
from aibalance.health import (
    DrainEstimate,
    GracefulShutdown,
    HealthChecker,
    HttpProbe,
    drain_estimate,
    readiness_app,
)


async def ask(app: Any, path: str = "/health/ready", method: str = "GET") -> tuple[int, dict[str, Any], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "method": method, "path": path}, receive, send)
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    body = sent[1]["body"]
    return sent[0]["status"], json.loads(body) if body else {}, body


def get(app: Any, path: str = "/health/ready", method: str = "GET") -> tuple[int, dict[str, Any]]:
    return asyncio.run(ask(app, path, method))[:2]


def test_paths_and_methods() -> None:
    app = readiness_app({})
    assert get(app, "/health") == (200, {"status": "ok"})
    assert get(app) == (200, {"status": "ready", "checks": {}})
    assert get(app, "/")[0] == 404
    assert get(app, "/health", "POST")[0] == 405
    assert get(app, "/health", "HEAD") == (200, {})


async def yes() -> bool:
    return True


def broken() -> bool:
    raise OSError("a secret")


@pytest.mark.parametrize(
    ("name", "check", "status", "word", "row"),
    [
        ("model_loaded", yes, 200, "ready", {"ok": True}),
        ("model_loaded", lambda: False, 503, "not ready", {"ok": False}),
        ("model_loaded", broken, 503, "not ready", {"ok": False, "error": "OSError"}),
        ("queue", lambda: 99, 200, "ready", {"ok": True, "value": 99}),
        ("queue", lambda: 100, 200, "degraded", {"ok": False, "value": 100}),
        ("queue", lambda: float("inf"), 200, "degraded", {"ok": False, "value": None}),
        ("queue", lambda: "long", 200, "degraded", {"ok": False, "error": "gave str"}),
        ("mine", lambda: False, 503, "not ready", {"ok": False}),
        ("mine", lambda: 3, 503, "not ready", {"ok": False, "error": "gave int"}),
        ("db_connected", lambda: False, 503, "not ready", {"ok": False}),
    ],
)
def test_checks_and_what_they_say(name: str, check: Any, status: int, word: str, row: dict[str, Any]) -> None:
    got, body = get(readiness_app({name: check}))
    assert (got, body["status"]) == (status, word)
    assert body["checks"][name].pop("seconds") >= 0
    assert body["checks"][name] == row


def test_each_check_has_a_timeout() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    status, body = get(readiness_app({"a": hang, "b": yes}, timeout=0.01))
    assert status == 503
    assert body["checks"]["a"]["error"] == "no answer within 0.01 s"
    assert body["checks"]["b"]["ok"]


def test_answers_are_kept_and_shared() -> None:
    clock = ManualClock(0.0)
    runs = 0

    async def count() -> bool:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return True

    app = readiness_app({"a": count}, cache=5.0, clock=clock)

    async def go() -> list[int]:
        await asyncio.gather(*(ask(app) for _ in range(10)))
        seen = [runs]
        clock.advance(4.9)
        await ask(app)
        seen.append(runs)
        clock.advance(0.1)
        await ask(app)
        return [*seen, runs]

    assert asyncio.run(go()) == [1, 1, 2]


def test_a_checker_reads_what_the_app_says() -> None:
    pytest.importorskip("httpx")
    uvicorn = pytest.importorskip("uvicorn")
    good = {"model_loaded": lambda: True, "inference_test": lambda: True, "queue": lambda: 130}
    config = uvicorn.Config(readiness_app(good, cache=0.0), log_level="error", ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            checker = HealthChecker(
                Pool([f"127.0.0.1:{port}"]), deep="/health/ready", unhealthy_threshold=1, start="down"
            )
            [state] = asyncio.run(checker.check_once()).values()
            assert state == "degraded"
            [event] = checker.actions()
            assert (event.action, event.value) == ("scale_up", 130)
            assert asyncio.run(HttpProbe("/nothing")(Endpoint(f"127.0.0.1:{port}"))).reason == "status 404"
        finally:
            server.should_exit = True
            thread.join(10)
    assert not thread.is_alive()


def test_lifespan_and_websockets_are_answered() -> None:
    async def go() -> list[Any]:
        sent: list[Any] = []
        events = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            return {"type": next(events)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        app = readiness_app({})
        await app({"type": "lifespan"}, receive, send)
        await app({"type": "websocket", "path": "/health"}, receive, send)
        return sent

    assert asyncio.run(go()) == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


def test_a_server_that_has_to_go_says_503_and_finishes() -> None:
    clock = ManualClock(0.0)
    shutdown = GracefulShutdown(notice="aws", clock=clock)
    app = readiness_app({"a": yes}, shutdown=shutdown)

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await asyncio.sleep(0)

    async def go() -> DrainEstimate:
        gate = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()

        assert (await ask(app))[0] == 200
        request = asyncio.create_task(shutdown.wrap(slow)({"type": "http"}, None, None))  # type: ignore[arg-type]
        waiting = asyncio.create_task(shutdown.finished(sleep=sleep))
        await asyncio.sleep(0)
        assert not waiting.done()
        shutdown.begin()
        status, body, _ = await ask(app)
        assert (status, body["status"], body["inflight"]) == (503, "draining", 1)
        gate.set()
        await request
        return await waiting

    done = asyncio.run(go())
    assert done.inflight == 0
    assert 100 < done.remaining <= 120


def test_what_is_not_finished_at_the_deadline_is_told() -> None:
    clock = ManualClock(0.0)
    shutdown = GracefulShutdown(notice="gcp", clock=clock)
    for seconds in (10, 20, 29, 100):
        with shutdown.track():
            clock.advance(seconds)
    with shutdown.track(), shutdown.track():
        assert shutdown.estimate() == DrainEstimate(2, 30.0, 0.5)
        shutdown.begin(notice=50)
        shutdown.begin()
        assert shutdown.estimate().remaining == 30.0
        clock.advance(31)
        assert asyncio.run(shutdown.finished()) == DrainEstimate(2, 0.0, 2.0)
    assert (shutdown.inflight, shutdown.draining) == (0, True)
    few = GracefulShutdown(latencies=1, clock=clock)
    for seconds in (1, 50):
        with few.track():
            clock.advance(seconds)
    with few.track():
        assert few.estimate().expected_left == 1.0
    for field, options in (("notice", {"notice": "mars"}), ("notice", {"notice": -1}), ("latencies", {"latencies": 0})):
        with pytest.raises(ConfigError, match=f"^{field}:"):
            GracefulShutdown(**options)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM to send")
def test_sigterm_begins() -> None:
    async def go() -> bool:
        shutdown = GracefulShutdown(notice=1)
        shutdown.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(shutdown.begun(), 10)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        return shutdown.draining

    assert asyncio.run(go())


def test_the_estimate_of_a_pool() -> None:
    pool = Pool(["a"], latency=Latency(), clock=ManualClock(0.0))
    picker = RoundRobin(pool)
    picker.acquire().release(latency=10.0)
    held = [picker.acquire() for _ in range(2)]
    seen = drain_estimate(pool, "a", deadline=10.0)
    assert (seen.inflight, round(seen.expected_left, 6)) == (2, 0.735759)
    assert len(held) == 2


def test_what_cannot_be_is_told() -> None:
    for field, options in (("timeout", {"timeout": 0}), ("cache", {"cache": -1})):
        with pytest.raises(ConfigError, match=f"^{field}:"):
            readiness_app({}, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^checks\['a'\]:"):
        readiness_app({"a": 3})  # type: ignore[dict-item]
