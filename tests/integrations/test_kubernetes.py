"""The operator: a real kopf and the real client, before an API server of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import runpy
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kopf", reason="kopf is not installed")
pytest.importorskip("kubernetes.client", reason="kubernetes (the client) is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")

import kopf
from kubernetes import client

from aibalance import ConfigError
from aibalance.autoscaling import ProportionalScaling
from aibalance.integrations._kubernetes import _Watched
from aibalance.integrations.kubernetes import DeploymentScaler, Target

from .apiserver import ApiServer, api_server
from .serving import until

pytestmark = pytest.mark.timeout(200)
ASKED = {"aibalance/policy": "queue", "aibalance/max-replicas": "10"}


def by_queue(target: Target, **options: Any) -> ProportionalScaling:
    # Bounds wider than the Deployment's: whose hold is to be seen.
    return ProportionalScaling(
        metric="queue", metric_type="total", target=5, min_capacity=0, max_capacity=1000, **options
    )


def api_of(server: ApiServer) -> Any:
    return client.AppsV1Api(client.ApiClient(client.Configuration(host=server.url)))


@contextlib.asynccontextmanager
async def operator(server: ApiServer, scaler: DeploymentScaler) -> AsyncIterator[None]:
    """kopf, as `kopf run --all-namespaces --standalone` runs it."""
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    settings.posting.loggers = False
    settings.queueing.idle_timeout = 0.1  # or its end waits for 5 s
    scaler.register(registry)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> Any:
        return kopf.ConnectionInfo(server=server.url)

    end, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        kopf.operator(
            registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=end, ready_flag=ready
        )
    )
    try:
        await asyncio.wait_for(ready.wait(), 30)
        yield
    finally:
        end.set()
        await asyncio.wait_for(running, 60)


class Told:
    """What the Deployments' metrics are, for a test to change."""

    def __init__(self, **metrics: float | None) -> None:
        self.metrics: dict[str, Any] | None = metrics
        self.asked = 0

    async def __call__(self, target: Target) -> dict[str, Any] | None:
        self.asked += 1
        if self.metrics is not None and "error" in self.metrics:
            raise OSError("no route to Prometheus")
        return self.metrics


def test_it_scales_says_so_and_lets_go() -> None:
    async def main() -> None:
        told = Told(queue=22.0)
        async with api_server() as server:
            server.put("other", {})
            server.put("llm", ASKED)
            scaler = DeploymentScaler({"queue": by_queue}, told, interval=0.1, api=api_of(server))
            async with operator(server, scaler):
                await until(lambda: server.replicas("llm") == 5, within=30)
                await until(lambda: "Scaled" in server.reasons(), within=30)
                event = server.events[0]
                assert (event["involvedObject"]["name"], event["type"]) == ("llm", "Normal")
                assert event["message"].startswith("2 to 5: ")
                assert server.annotation("llm", "status")["reason"] in ("Scaled", "Unchanged")
                assert server.annotation("llm", "state") is not None
                # Beyond its bounds it is never scaled, whatever the policy says.
                told.metrics = {"queue": 400.0}
                await until(lambda: server.replicas("llm") == 10, within=30)
                await until(lambda: "bounded by max-replicas" in server.events[-1]["message"], within=30)
                told.metrics = {"queue": 0.0}
                await until(lambda: server.replicas("llm") == 1, within=30)
                # A pause holds, and says so; its end lets the policy go on.
                server.annotate("llm", paused="true")
                told.metrics = {"queue": 15.0}
                await until(lambda: "Paused" in server.reasons(), within=30)
                asked = told.asked
                await asyncio.sleep(0.5)
                assert (server.replicas("llm"), told.asked) == (1, asked)
                server.annotate("llm", paused=None)
                await until(lambda: server.replicas("llm") == 3, within=30)
                # Without its annotation, or deleted, nobody looks at it any more.
                server.annotate("llm", policy=None)
                await until(lambda: not scaler._watched, within=30)
                server.annotate("llm", policy="queue")
                await until(lambda: bool(scaler._watched), within=30)
                server.delete("llm")
                await until(lambda: not scaler._watched, within=30)
                # Also where no event tells of it.
                server.put("llm", ASKED, replicas=3)
                await until(lambda: bool(scaler._watched), within=30)
                del server.objects["prod", "llm"]
                await until(lambda: not scaler._watched, within=30)
            assert server.scales == [5, 10, 1, 3]
            assert server.objects["prod", "other"]["metadata"]["annotations"] == {}
            assert {path.rpartition("/")[2] for path, _ in server.patches} == {"scale", "llm"}

    asyncio.run(main())


def test_it_never_scales_on_what_it_does_not_know() -> None:
    async def main() -> None:
        told = Told(error=1.0)
        async with api_server() as server:
            server.put("llm", ASKED, replicas=6)
            scaler = DeploymentScaler({"queue": by_queue}, told, interval=0.1, api=api_of(server))
            async with operator(server, scaler):
                await until(lambda: "InsufficientData" in server.reasons(), within=30)
                assert server.events[0]["type"] == "Warning"
                assert server.events[0]["message"] == "no metrics: OSError: no route to Prometheus"
                for nothing in (None, {}, {"queue": None}):
                    told.metrics, asked = nothing, told.asked
                    await until(lambda n=asked: told.asked > n + 1, within=30)
                told.metrics, asked = {"queue": float("nan")}, told.asked
                await until(lambda: told.asked > asked + 1, within=30)
                await until(lambda: server.annotation("llm", "status")["reason"] != "Scaled", within=30)
                # The same is said once, not at each look.
                assert len(server.events) <= 5
                assert server.scales == []
                told.metrics = {"queue": 35.0}
                await until(lambda: server.scales == [7], within=30)

    asyncio.run(main())


async def looks(server: ApiServer, told: Any, **options: Any) -> DeploymentScaler:
    return DeploymentScaler({"queue": by_queue}, told, api=api_of(server), **options)


def test_each_reason_alone() -> None:
    async def main() -> None:
        told = Told(queue=0.0)
        async with api_server() as server:
            scaler = await looks(server, told)

            async def look() -> tuple[str, int]:
                done = await scaler.look("prod", "llm", now=1e9)
                return done.reason, done.replicas

            assert await look() == ("Gone", 0)
            server.put("llm", ASKED, replicas=4, ready=0)
            assert await look() == ("NoneReady", 4)
            told.metrics = {"queue": 30.0}
            assert await look() == ("Scaled", 6)
            server.put("llm", ASKED, replicas=0)
            assert await look() == ("SwitchedOff", 0)
            server.put("llm", ASKED | {"aibalance/min-replicas": "0"}, replicas=0)
            assert await look() == ("Scaled", 6)
            assert await look() == ("Unchanged", 6)
            server.put("llm", ASKED | {"aibalance/min-replicas": "7"}, replicas=6)
            assert await look() == ("Scaled", 7)
            for wrong in (
                {"aibalance/policy": "latency"},
                {"aibalance/max-replicas": "many"},
                {"aibalance/max-replicas": "-1"},
                {"aibalance/max-replicas": "0"},
                {"aibalance/min-replicas": "1.5"},
                {"aibalance/paused": "yes"},
            ):
                server.put("llm", ASKED | wrong, replicas=4)
                assert await look() == ("Invalid", 4)
                (name,) = wrong
                assert server.annotation("llm", "status")["message"].startswith(f"{name}: ")
            for wrong in ({"aibalance/policy": "queue"}, ASKED | {"aibalance/min-replicas": "11"}):
                server.put("llm", wrong, replicas=4)
                assert await look() == ("Invalid", 4)
                assert "aibalance/max-replicas: " in server.annotation("llm", "status")["message"]
            # Somebody scales it between our reading and our writing: that stands.
            server.put("llm", ASKED, replicas=4)
            metrics = told.metrics

            async def meddled(target: Target) -> Any:
                server.put("llm", ASKED, replicas=9)
                return metrics

            scaler._metrics = meddled
            assert await look() == ("Conflict", 4)
            assert server.replicas("llm") == 9
            # The API server fails: nothing is changed, and the next look may do better.
            scaler._metrics = told
            server.broken.add("PATCH")
            with pytest.raises(client.ApiException):
                await look()
            server.broken.clear()
            assert await look() == ("Scaled", 6)
            # It may scale and not annotate: it has scaled all the same, and says both.
            server.put("llm", ASKED, replicas=4)
            server.broken.add("annotations")
            done = await scaler.look("prod", "llm", now=1e9)
            assert (done.reason, done.replicas, server.replicas("llm")) == ("Scaled", 6, 6)
            assert done.message.endswith("; the annotations are not written: 403")

    asyncio.run(main())


def test_the_memory_outlives_the_process() -> None:
    async def main() -> None:
        def held(target: Target) -> ProportionalScaling:
            return by_queue(target, stabilization=300)

        told = Told(queue=50.0)
        async with api_server() as server:
            server.put("llm", ASKED, replicas=2)

            async def look(now: float, policies: Any = None) -> tuple[str, int]:
                # Each in a process of its own, as far as the memory goes.
                fresh = DeploymentScaler(policies or {"queue": held}, told, api=api_of(server))
                done = await fresh.look("prod", "llm", now=now)
                return done.reason, done.replicas

            server.objects["prod", "llm"]["status"]["readyReplicas"] = 10
            assert await look(1000.0) == ("Scaled", 10)
            told.metrics = {"queue": 5.0}
            # What was needed 200 s ago holds still, since the annotation remembers it.
            assert await look(1200.0) == ("Unchanged", 10)
            kept = server.annotation("llm", "state")
            assert await look(1301.0) == ("Scaled", 1)
            # Without it, or with what is no memory, the policy begins anew, and that is said.
            for broken in (None, "{", "[]", "[" * 100_000, '{"no": "memory"}', json.dumps(kept)):
                server.put("llm", ASKED, replicas=10)
                server.annotate("llm", state=broken)
                scaler = DeploymentScaler({"queue": held}, told, api=api_of(server))
                done = await scaler.look("prod", "llm", now=1210.0)
                lost = [reason for reason, _ in scaler._watched["prod", "llm"].notes]
                if broken == json.dumps(kept):
                    assert (done.replicas, lost) == (10, [])
                else:
                    assert (done.replicas, lost) == (1, ["StateLost"] if broken else [])
            # Another bound is another policy, with the same memory.
            server.put("llm", ASKED, replicas=10)
            server.annotate("llm", state=json.dumps(kept), max_replicas="8")
            assert await look(1220.0) == ("Scaled", 8)

    asyncio.run(main())


def test_metrics_may_be_plain_slow_or_wrong() -> None:
    async def main() -> None:
        async with api_server() as server:
            server.put("llm", ASKED)

            async def of(metrics: Any, **options: Any) -> Any:
                return await (await looks(server, metrics, **options)).look("prod", "llm", now=1e9)

            assert (await of(lambda target: {"queue": 5.0 * len(target.name)})).replicas == 3

            async def slow(target: Target) -> None:
                await asyncio.sleep(10)

            assert (await of(slow, timeout=0.2)).message == "no metrics in 0.2 s"
            assert "is not allowed; a mapping" in (await of(lambda target: 5.0)).message

            async def later(target: Target) -> dict[str, float]:
                return {"queue": 20.0}

            assert (await of(lambda target: later(target))).replicas == 4
            # What is no policy is the program's fault, and told as such.
            scaler = DeploymentScaler({"queue": lambda target: None}, later, api=api_of(server))  # type: ignore[arg-type,return-value]
            assert (await scaler.look("prod", "llm")).reason == "Invalid"

    asyncio.run(main())


def test_metrics_that_never_return_hold_up_nobody_else() -> None:
    async def main() -> None:
        held, calls = threading.Event(), []

        def plain(target: Target) -> dict[str, float]:
            calls.append(target.name)
            if target.name == "stuck":
                held.wait()
            return {"queue": 20.0}

        async with api_server() as server:
            server.put("stuck", ASKED)
            server.put("llm", ASKED)
            scaler = await looks(server, plain, timeout=10.0)
            scaler._timeout = 0.01
            try:
                said = []
                # More often than there are threads for calls of the API server, which need one, too.
                for _ in range(40):
                    async with asyncio.timeout(30):
                        done = await scaler._read_metrics(
                            scaler._watched.setdefault(("prod", "stuck"), _Watched()),
                            Target(namespace="prod", name="stuck", replicas=2, ready=2, maximum=10),
                        )
                    said.append(done[1])
                assert said == ["no metrics in 0.01 s", *["no metrics: the call before has not returned"] * 39]
                assert calls == ["stuck"]
                scaler._timeout = 10.0
                async with asyncio.timeout(30):
                    assert (await scaler.look("prod", "stuck")).reason == "InsufficientData"
                    assert (await scaler.look("prod", "llm")).replicas == 4
            finally:
                held.set()
            # And what has returned at last may be asked again.
            await until(lambda: scaler._watched["prod", "stuck"].asking.done(), within=20)  # type: ignore[union-attr]
            assert (await scaler.look("prod", "stuck")).replicas == 4

    asyncio.run(main())


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (({}, print), {}, "policies"),
        (({"a": 1}, print), {}, r"policies\['a'\]"),
        (({"a": by_queue}, None), {}, "metrics"),
        (({"a": by_queue}, print), {"interval": 0}, "interval: 0 is not allowed"),
        (({"a": by_queue}, print), {"timeout": float("nan")}, "timeout: nan is not allowed"),
        (({"a": by_queue}, print), {"prefix": "Not/Good"}, "prefix: 'Not/Good' is not allowed"),
    ],
)
def test_what_cannot_be_is_said(arguments: Any, options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DeploymentScaler(*arguments, **options)


def test_without_kopf_or_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = DeploymentScaler({"queue": by_queue}, lambda target: None)
    monkeypatch.setitem(sys.modules, "kopf", None)
    with pytest.raises(ConfigError, match=r"kopf is not installed; pip install aibalance\[kubernetes\]"):
        scaler.register()
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(ConfigError, match=r"kubernetes\.client is not installed"):
        asyncio.run(scaler.look("prod", "llm"))


def test_the_example_asks_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    example = Path(__file__).parents[2] / "examples" / "kubernetes_operator.py"
    names = runpy.run_path(str(example))
    assert len(kopf.get_default_registry()._watching._handlers) >= 1
    answers = {"one": [{"value": [0, "12"]}], "none": [], "two": [{"value": [0, "1"]}, {"value": [0, "2"]}]}

    class Prometheus(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            def answer(request: Any) -> Any:
                return httpx.Response(200, json={"data": {"result": answers[request.url.params["query"]]}})

            super().__init__(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr(httpx, "AsyncClient", Prometheus)

    async def main() -> None:
        async with api_server() as server:
            names["scaler"]._api = api_of(server)
            for query, replicas in (("one", 3), ("none", 2), ("two", 2)):
                server.put("llm", ASKED | {"aibalance/query": query})
                assert (await names["scaler"].look("prod", "llm")).replicas == replicas

    asyncio.run(main())
