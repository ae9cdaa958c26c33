"""The endpoint picker and the EDS publisher before a real Envoy: what it does with each answer, and when leases end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from .envoys import ENVOY, envoy, free_ports

pytest.importorskip("httpx")
pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("envoy.service.ext_proc", reason="xds-protos is not installed")

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aibalance import Endpoint, LeastRequest, Pool, RoundRobin
from aibalance.integrations.envoy import EdsPublisher, EndpointPicker, envoy_config, write_eds_file

from .backend import Backend, backends
from .serving import inflight, until

STREAMS = 200 if os.environ.get("AIBALANCE_FULL") else 60
pytestmark = pytest.mark.timeout(60)
KEY = "x-gateway-destination-endpoint"
needs_envoy = pytest.mark.skipif(ENVOY is None, reason="envoy is not installed (AIBALANCE_ENVOY, or envoy on PATH)")


class Fixed:
    """A picker that says what it was told to."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.say: list[str] = []
        self._inner = RoundRobin(pool)

    def acquire(self, key: object = None, *, cost: float = 1.0, subset: Any = None) -> Any:
        return self._inner.acquire(subset=self.say[:1])

    def try_acquire(self, *, subset: Any = None) -> Any:
        return self._inner.try_acquire(subset=subset)

    def ranked(self, key: object = None, *, k: int, exclude: Any = (), subset: Any = None) -> list[Endpoint]:
        by_id = {endpoint.id: endpoint for endpoint in self.pool.endpoints}
        return [by_id[name] for name in self.say[1 : k + 1]]


class Faulty(EndpointPicker):
    """Answers with something that is no address."""

    instead: str | None = None

    async def Process(self, requests: Any, context: Any) -> Any:
        async for response in super().Process(requests, context):
            if self.instead is not None and response.HasField("request_headers"):
                option = response.request_headers.response.header_mutation.set_headers[0]
                option.header.raw_value = self.instead.encode()
                response.dynamic_metadata.update({"envoy.lb": {"x-gateway-destination-endpoint": self.instead}})
            yield response


ROWS = [
    # what the picker does; with override_host and failures allowed; with ORIGINAL_DST and failures closed
    ("one known endpoint", "b1", "b1"),
    ("list, first not in cluster", "b2", 503),
    ("list, first answers 503", "b1", 503),
    ("unknown address", "any", 503),
    ("no address", "any", 503),
    ("shed", 429, 429),
    ("exception", "any", 500),
    ("slow", "any", 504),
    ("picker down", "any", 500),
]


@needs_envoy
@pytest.mark.parametrize("mode", ["override_host", "original_dst"])
def test_the_fault_table(mode: Any, tmp_path: Path) -> None:
    async def main() -> dict[str, Any]:
        seen: dict[str, Any] = {}
        listen, admin, epp, dead = free_ports(4)
        async with backends(3) as (b0, b1, b2):
            unknown = f"127.0.0.1:{dead}"
            pool = Pool([b0.address, b1.address, b2.address, Endpoint(unknown, max_inflight=1)])
            fixed = Fixed(pool)
            trouble = {"raise": False, "sleep": 0.0}

            def key(headers: Any) -> None:
                time.sleep(trouble["sleep"])
                if trouble["raise"]:
                    raise RuntimeError("a bug")

            picker = Faulty(fixed, key=key, candidates=3)
            config = envoy_config(
                Pool([b0.address, b1.address, b2.address]),
                picker=f"127.0.0.1:{epp}",
                mode=mode,
                listen=f"127.0.0.1:{listen}",
                admin=f"127.0.0.1:{admin}",
                message_timeout=0.4,
            )
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listen}", timeout=15, trust_env=False) as http:

                async def ask(target: str = "/x") -> Any:
                    answer = await http.get(target)
                    return answer.json()["name"] if answer.status_code == 200 else answer.status_code

                async with envoy(config, tmp_path):
                    async with picker.serving(f"127.0.0.1:{epp}", grace=0.1):
                        fixed.say = [b1.address]
                        # Envoy connects to the picker with the first request.
                        await until_async(lambda: ask(), "b1")
                        seen["one known endpoint"] = await ask()
                        fixed.say = [unknown, b2.address]
                        seen["list, first not in cluster"] = await ask()
                        fixed.say = [b0.address, b1.address]
                        b0.broken = True
                        seen["list, first answers 503"] = await ask()
                        if mode == "override_host":
                            assert picker.stats()["retried"] >= 1
                        b0.broken = False
                        fixed.say = [unknown]
                        lost = picker.stats()["lost"]
                        seen["unknown address"] = await ask()
                        if mode == "override_host":
                            assert picker.stats()["lost"] == lost + 1, "the decision that was lost is counted"
                        fixed.say, picker.instead = [b1.address], "nonsense"
                        seen["no address"] = await ask()
                        picker.instead = None
                        fixed.say = [unknown]
                        with fixed.acquire():
                            seen["shed"] = await ask()
                        fixed.say = [b1.address]
                        trouble["raise"] = True
                        seen["exception"] = await ask()
                        trouble["raise"] = False
                        trouble["sleep"] = 0.8
                        seen["slow"] = await ask()
                        trouble["sleep"] = 0.0
                        await until(lambda: inflight(pool) <= 1, within=5)
                    seen["picker down"] = await ask()
        return seen

    async def until_async(ask: Any, wanted: str) -> None:
        async with asyncio.timeout(10):
            while await ask() != wanted:
                await asyncio.sleep(0.05)

    seen = asyncio.run(main())
    for row, lenient, strict in ROWS:
        wanted = lenient if mode == "override_host" else strict
        assert seen[row] == wanted or (wanted == "any" and seen[row] in ("b0", "b1", "b2")), (row, seen)


@needs_envoy
def test_a_lease_lasts_as_long_as_the_stream(tmp_path: Path) -> None:
    """Many streams through Envoy: a third of the clients leave early, a tenth of the servers die."""

    async def main() -> None:
        listen, admin, epp = free_ports(3)
        async with backends(10) as servers:
            pool = Pool([server.address for server in servers], seed=1)
            picker = EndpointPicker(LeastRequest(pool))
            config = envoy_config(
                pool,
                picker=f"127.0.0.1:{epp}",
                listen=f"127.0.0.1:{listen}",
                admin=f"127.0.0.1:{admin}",
                message_timeout=10,
            )
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            async with (
                picker.serving(f"127.0.0.1:{epp}", grace=0.1),
                envoy(config, tmp_path),
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{listen}", timeout=20, limits=limits, trust_env=False
                ) as http,
            ):
                # Until Envoy has found the picker, its fallback answers.
                async with asyncio.timeout(10):
                    while picker.stats()["picked"] == 0:
                        assert (await http.get("/x")).status_code == 200
                await until(lambda: inflight(pool) == 0, within=1)

                # One stream: there while it runs, gone when it ends or is left.
                async with http.stream("GET", "/sse/10/50") as answer:
                    async for line in answer.aiter_lines():
                        if line.startswith("data:"):
                            assert inflight(pool) == 1
                await until(lambda: inflight(pool) == 0, within=1)
                async with http.stream("GET", "/sse/200/50") as answer:
                    async for _ in answer.aiter_lines():
                        break
                    assert inflight(pool) == 1
                await until(lambda: inflight(pool) == 0, within=1)
                successes = sum(record.successes for record in pool.stats())
                assert successes >= 2

                whole = cut = left = 0

                async def one(i: int) -> None:
                    nonlocal whole, cut, left
                    events = 0
                    try:
                        async with http.stream("GET", "/sse/20/60") as answer:
                            if answer.status_code != 200:
                                # Its server died before it had answered.
                                cut += 1
                                return
                            async for line in answer.aiter_lines():
                                events += line.startswith("data:")
                                if i % 3 == 0 and events > i % 7:
                                    left += 1
                                    return
                    except httpx.RemoteProtocolError:
                        cut += 1
                        return
                    whole += events == 20

                streams = [asyncio.create_task(one(i)) for i in range(STREAMS)]
                await until(lambda: inflight(pool) > 20, within=15)
                await servers[0].stop()
                await asyncio.gather(*streams)
                await until(lambda: inflight(pool) == 0, within=1)
                assert whole + cut + left == STREAMS
                assert cut <= STREAMS // 6
                assert left >= STREAMS // 4
                assert picker.stats()["lost"] == 0

    asyncio.run(main())


@needs_envoy
def test_a_client_cannot_choose_its_endpoint(tmp_path: Path) -> None:
    """Even where the picker is down, failures are let through, and Envoy goes by the header."""

    async def main() -> None:
        listen, admin, epp = free_ports(3)
        async with backends(1) as (b0,):
            config = envoy_config(
                Pool([b0.address]),
                picker=f"127.0.0.1:{epp}",
                mode="original_dst",
                failure_mode_allow=True,
                listen=f"127.0.0.1:{listen}",
                admin=f"127.0.0.1:{admin}",
            )
            async with envoy(config, tmp_path), httpx.AsyncClient(timeout=10, trust_env=False) as http:
                answer = await http.get(f"http://127.0.0.1:{listen}/x", headers={KEY: b0.address})
                assert answer.status_code in (500, 503)
                assert b0.seen == []

    asyncio.run(main())


def message(**headers: str) -> Any:
    from envoy.service.ext_proc.v3 import external_processor_pb2 as messages

    request = messages.ProcessingRequest()
    request.request_headers.SetInParent()
    for name, value in headers.items():
        request.request_headers.headers.headers.add(key=name.replace("_", "-"), raw_value=value.encode())
    return request


def stub_of(channel: Any) -> Any:
    from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service

    return service.ExternalProcessorStub(channel)


def test_the_protocol_itself() -> None:
    """By gRPC, without Envoy: header and metadata, subset, list, refusals, bodies in kind, health."""

    async def main() -> None:
        pool = Pool(["10.0.0.1:80", "10.0.0.2:80", Endpoint("10.0.0.3:80", id="third")], on_panic="fail")
        picker = EndpointPicker(RoundRobin(pool), candidates=2)
        async with (
            picker.serving("127.0.0.1:0", grace=0.1) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub = stub_of(channel)

            async def ask(request: Any) -> Any:
                call = stub.Process()
                await call.write(request)
                response = await call.read()
                held = inflight(pool)
                call.cancel()
                await until(lambda: inflight(pool) == 0, within=2)
                return response, held

            response, held = await ask(message())
            (option,) = response.request_headers.response.header_mutation.set_headers
            assert (option.header.key, option.header.raw_value) == (KEY, b"10.0.0.1:80,10.0.0.2:80")
            assert response.dynamic_metadata["envoy.lb"][KEY] == "10.0.0.1:80,10.0.0.2:80"
            assert held == 1

            request = message()
            hint = request.metadata_context.filter_metadata["envoy.lb.subset_hint"]
            hint.update({f"{KEY}-subset": ["10.0.0.3:80", "10.9.9.9:80"]})
            response, _ = await ask(request)
            assert response.dynamic_metadata["envoy.lb"][KEY] == "10.0.0.3:80"
            hint.update({f"{KEY}-subset": "10.0.0.2:80, 10.0.0.3:80"})
            response, _ = await ask(request)
            assert set(response.dynamic_metadata["envoy.lb"][KEY].split(",")) == {"10.0.0.2:80", "10.0.0.3:80"}
            for nobody in (["10.9.9.9:80"], []):
                hint.update({f"{KEY}-subset": nobody})
                response, held = await ask(request)
                assert (response.immediate_response.status.code, held) == (503, 0)

            # Bodies are answered in kind; in full duplex they are given back, or they would be lost.
            call = stub.Process()
            first = message()
            first.protocol_config.request_body_mode = 4
            await call.write(first)
            await call.read()
            piece = type(first)()
            piece.request_body.body, piece.request_body.end_of_stream = b"abc", True
            await call.write(piece)
            streamed = (await call.read()).request_body.response.body_mutation.streamed_response
            assert (streamed.body, streamed.end_of_stream) == (b"abc", True)
            answer = type(first)()
            answer.response_headers.headers.headers.add(key=":status", raw_value=b"500")
            await call.write(answer)
            assert (await call.read()).HasField("response_headers")
            trailers = type(first)()
            trailers.response_trailers.SetInParent()
            await call.write(trailers)
            assert (await call.read()).HasField("response_trailers")
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert sum(record.failures for record in pool.stats()) == 1

            health = health_pb2_grpc.HealthStub(channel)
            names = ("", "liveness", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor")
            for name in names:
                said = await health.Check(health_pb2.HealthCheckRequest(service=name))
                assert said.status == said.SERVING, name

            for endpoint in pool.endpoints:
                pool.set_health(endpoint.id, "unhealthy")
            response, _ = await ask(message())
            assert response.immediate_response.status.code == 503
            pool.update([Endpoint("10.0.0.1:80", max_inflight=1)])
            pool.set_health("10.0.0.1:80", "healthy")
            with picker.picker.acquire():
                call = stub.Process()
                await call.write(message())
                assert (await call.read()).immediate_response.status.code == 429
                call.cancel()
            pool.update([])
            async with asyncio.timeout(5):
                while said.status != said.NOT_SERVING:
                    said = await health.Check(health_pb2.HealthCheckRequest(service="readiness"))
            said = await health.Check(health_pb2.HealthCheckRequest(service="liveness"))
            assert said.status == said.SERVING

    asyncio.run(main())


def test_keys_and_costs_come_from_headers() -> None:
    async def main() -> None:
        from aibalance import RingHash

        pool = Pool([f"10.0.0.{i}:80" for i in range(1, 9)])
        ring = RingHash(pool)
        picker = EndpointPicker(
            ring, key="X-User", cost=lambda headers: float(headers.get("x-tokens", 1)), candidates=1
        )
        async with (
            picker.serving("127.0.0.1:0", grace=0.1) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub = stub_of(channel)
            for user in ("ann", "bob", "cy"):
                call = stub.Process()
                await call.write(message(x_user=user, x_tokens="250"))
                response = await call.read()
                assert response.dynamic_metadata["envoy.lb"][KEY] == ring.pick(user).address
                assert max(record.load for record in pool.stats()) == 250
                call.cancel()
                await until(lambda: inflight(pool) == 0, within=2)

    asyncio.run(main())


async def shares(port: int, servers: list[Backend], count: int) -> list[float]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        names = [(await http.get(f"http://127.0.0.1:{port}/x")).json()["name"] for _ in range(count)]
    return [round(names.count(server.name) / count, 2) for server in servers]


@needs_envoy
@pytest.mark.parametrize("way", ["ads", "file"])
def test_eds_gives_envoy_weights_drains_and_slow_starts(way: str, tmp_path: Path) -> None:
    async def main() -> None:
        listen, admin, server_port = free_ports(3)
        folder = tmp_path / "eds"
        folder.mkdir()
        file = folder / "eds.json"
        async with backends(4) as servers, contextlib.AsyncExitStack() as stack:
            weights = (6, 3, 1)
            pool = Pool([Endpoint(s.address, weight=w) for s, w in zip(servers, weights, strict=False)])
            publisher = EdsPublisher({"fleet": pool}, interval=0.02, min_interval=0.05)
            endpoints = f"ads:127.0.0.1:{server_port}" if way == "ads" else str(file)
            if way == "ads":
                server = grpc.aio.server()
                publisher.add_to(server)
                server.add_insecure_port(f"127.0.0.1:{server_port}")
                await stack.enter_async_context(publisher)
                await server.start()
                stack.push_async_callback(server.stop, 0.1)
            else:
                assert write_eds_file(file, {"fleet": pool})
            config = envoy_config(
                pool,
                picker=None,
                endpoints=endpoints,
                listen=f"127.0.0.1:{listen}",
                admin=f"127.0.0.1:{admin}",
            )
            await stack.enter_async_context(envoy(config, tmp_path))
            http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))

            async def told(wanted: Any) -> None:
                """Until Envoy's own list says so."""
                if way == "file":
                    write_eds_file(file, {"fleet": pool})
                async with asyncio.timeout(10):
                    while True:
                        answer = await http.get(f"http://127.0.0.1:{admin}/clusters?format=json")
                        for cluster in json.loads(answer.text).get("cluster_statuses", []):
                            if cluster["name"] == "fleet" and wanted(cluster.get("host_statuses", [])):
                                return
                        await asyncio.sleep(0.02)

            await told(lambda hosts: [host["weight"] for host in hosts] == [6, 3, 1])
            assert await shares(listen, servers, 100) == [0.6, 0.3, 0.1, 0.0]
            pool.drain(servers[0].address)
            await told(lambda hosts: any(h["health_status"].get("eds_health_status") == "DRAINING" for h in hosts))
            assert (await shares(listen, servers, 40))[0] == 0
            pool.set_weight(servers[2].address, 0)
            await told(
                lambda hosts: [h["health_status"].get("eds_health_status") for h in hosts].count("DRAINING") == 2
            )
            assert await shares(listen, servers, 20) == [0, 1, 0, 0]
            pool.undrain(servers[0].address)
            pool.update([*pool.endpoints, Endpoint(servers[3].address, weight=9)])
            await told(lambda hosts: len(hosts) == 4 and sorted(h["weight"] for h in hosts)[-1] == 9)
            assert (await shares(listen, servers, 36))[3] == 0.5
            if way == "ads":
                await until(lambda: publisher.acks >= 4, within=5)
                assert publisher.nacks == []

    asyncio.run(main())
