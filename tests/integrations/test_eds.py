"""The EDS publisher by gRPC, without Envoy: names, acknowledgements, refusals, and when it pushes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("grpc")
pytest.importorskip("envoy.service.ext_proc", reason="xds-protos is not installed")

import grpc
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.endpoint.v3 import eds_pb2_grpc

from aibalance import Endpoint, ManualClock, Pool, SlowStart
from aibalance.integrations.envoy import EdsPublisher

TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
pytestmark = pytest.mark.timeout(60)


def request(*names: str, nonce: str = "", error: str = "") -> Any:
    asked = discovery_pb2.DiscoveryRequest(resource_names=names, type_url=TYPE, response_nonce=nonce)
    if error:
        asked.error_detail.message = error
    return asked


def told(response: Any) -> dict[str, list[tuple[int, int]]]:
    """By cluster: port and weight of each endpoint."""
    found = {}
    for resource in response.resources:
        assignment = endpoint_pb2.ClusterLoadAssignment()
        assert resource.Unpack(assignment)
        found[assignment.cluster_name] = [
            (one.endpoint.address.socket_address.port_value, one.load_balancing_weight.value)
            for place in assignment.endpoints
            for one in place.lb_endpoints
        ]
    return found


def test_a_stream_gets_what_it_asks_for_and_what_changes() -> None:
    async def main() -> None:
        a, b = Pool(["10.0.0.1:1", Endpoint("10.0.0.1:2", weight=5)]), Pool(["10.0.0.1:3"])
        publisher = EdsPublisher({"a": a, "b": b}, interval=0.01, min_interval=0.01)
        server = grpc.aio.server()
        publisher.add_to(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with publisher, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            for stub in (
                ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources,
                eds_pb2_grpc.EndpointDiscoveryServiceStub(channel).StreamEndpoints,
            ):
                a.set_weight("10.0.0.1:1", 1)
                await asyncio.sleep(0.1)
                call = stub()
                await call.write(discovery_pb2.DiscoveryRequest(type_url="type.googleapis.com/other"))
                await call.write(request("a", "unknown"))
                first = await call.read()
                assert first.type_url == TYPE
                assert told(first) == {"a": [(1, 1), (2, 5)]}
                acks = publisher.acks
                await call.write(request("a", "unknown", nonce=first.nonce))
                a.set_weight("10.0.0.1:1", 2)
                second = await call.read()
                assert told(second) == {"a": [(1, 2), (2, 5)]}
                assert publisher.acks == acks + 1
                assert second.nonce != first.nonce
                assert second.version_info != first.version_info
                await call.write(request("a", nonce=second.nonce, error="no such thing"))
                # Other names are other resources, at once.
                await call.write(request("b", nonce=second.nonce))
                while told(response := await call.read()) != {"b": [(3, 1)]}:
                    assert set(told(response)) <= {"a"}
                assert publisher.nacks[-1][1] == "no such thing"
                call.cancel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources().read()
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
            # An endpoint that Envoy cannot have is noted, and the last good list stays.
            b.add("gpu.example.com:80")
            async with asyncio.timeout(5):
                while publisher.nacks[-1][0] != ("b",):
                    await asyncio.sleep(0.01)
            assert "gpu.example.com" in publisher.nacks[-1][1]
        await server.stop(0.1)

    asyncio.run(main())


def test_weights_alone_wait_and_all_else_does_not() -> None:
    async def main() -> None:
        clock = ManualClock(0.0)
        pool = Pool(["10.0.0.1:1"], clock=clock, slow_start=SlowStart(1000))
        clock.advance(5000)
        publisher = EdsPublisher({"a": pool}, interval=1000, min_interval=1000)
        async with publisher:
            version = publisher._version
            pool.set_weight("10.0.0.1:1", 7)
            assert not publisher._look(), "a weight can wait"
            pool.add("10.0.0.1:2")
            assert publisher._look(), "a new endpoint cannot"
            clock.advance(100)
            assert not publisher._look(), "a slow start pushes no more than once in min_interval"
            pool.drain("10.0.0.1:1")
            assert publisher._look(), "a drain cannot wait"
            assert publisher._version == version + 2

    asyncio.run(main())
