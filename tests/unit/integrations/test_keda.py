"""KEDA's external scaler, asked over a real connection by a client that protoc made."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
import types
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, TargetTracking
from aibalance.integrations._keda import messages
from aibalance.integrations.keda import KedaScaler, ScaledObject

from .backends import Got, Say, backends

grpc = pytest.importorskip("grpc")
pytest.importorskip("google.protobuf")

# The parts of KEDA's protocol that a client needs, as protoc reads them.
PROTO = """
syntax = "proto3";
package externalscaler;
service ExternalScaler {
  rpc IsActive(ScaledObjectRef) returns (IsActiveResponse) {}
  rpc StreamIsActive(ScaledObjectRef) returns (stream IsActiveResponse) {}
  rpc GetMetricSpec(ScaledObjectRef) returns (GetMetricSpecResponse) {}
  rpc GetMetrics(GetMetricsRequest) returns (GetMetricsResponse) {}
  rpc StreamMetricSpec(ScaledObjectRef) returns (stream GetMetricSpecResponse) {}
}
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message MetricValue { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
"""


class OwnStub:
    """What protoc would write."""

    def __init__(self, channel: Any) -> None:
        made = messages()
        for name, asks, answers in (
            ("IsActive", "ScaledObjectRef", "IsActiveResponse"),
            ("GetMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse"),
            ("GetMetrics", "GetMetricsRequest", "GetMetricsResponse"),
            ("StreamIsActive", "ScaledObjectRef", "IsActiveResponse"),
            ("StreamMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse"),
        ):
            kind = channel.unary_stream if name.startswith("Stream") else channel.unary_unary
            call = kind(
                f"/externalscaler.ExternalScaler/{name}",
                request_serializer=made[asks].SerializeToString,
                response_deserializer=made[answers].FromString,
            )
            setattr(self, name, call)


def test_messages_on_the_wire() -> None:
    """By hand, from the numbers of the fields."""
    made = messages()
    value = made["MetricValue"](metricName="a", metricValue=7, metricValueFloat=0.5)
    wire = b"\x0a\x01a" + b"\x10\x07" + b"\x19" + struct.pack("<d", 0.5)
    assert value.SerializeToString() == wire
    assert made["GetMetricsResponse"](metricValues=[value]).SerializeToString() == b"\x0a" + bytes([len(wire)]) + wire
    spec = made["MetricSpec"](metricName="a", targetSize=1, targetSizeFloat=1.0).SerializeToString()
    assert spec == b"\x0a\x01a" + b"\x10\x01" + b"\x19" + struct.pack("<d", 1.0)
    ref = made["ScaledObjectRef"].FromString(b"\x0a\x01n" + b"\x12\x01s" + b"\x1a\x06" + b"\x0a\x01k" + b"\x12\x01v")
    assert (ref.name, ref.namespace, dict(ref.scalerMetadata)) == ("n", "s", {"k": "v"})
    assert made["IsActiveResponse"](result=True).SerializeToString() == b"\x08\x01"
    request = made["GetMetricsRequest"](metricName="m", scaledObjectRef=made["ScaledObjectRef"](name="n"))
    assert request.SerializeToString() == b"\x0a\x03\x0a\x01n" + b"\x12\x01m"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """Messages and stub; of protoc where grpcio-tools is installed, else our own messages."""
    try:
        from grpc_tools import protoc
    except ImportError:
        yield types.SimpleNamespace(**messages()), types.SimpleNamespace(ExternalScalerStub=OwnStub)
        return
    folder: Path = tmp_path_factory.mktemp("proto")
    (folder / "keda_client.proto").write_text(PROTO)
    out = f"--python_out={folder}", f"--grpc_python_out={folder}"
    assert protoc.main(["protoc", f"-I{folder}", *out, str(folder / "keda_client.proto")]) == 0
    sys.path.insert(0, str(folder))
    try:
        import keda_client_pb2  # type: ignore[import-not-found, unused-ignore]
        import keda_client_pb2_grpc  # type: ignore[import-not-found, unused-ignore]

        yield keda_client_pb2, keda_client_pb2_grpc
    finally:
        sys.path.remove(str(folder))


def run(client: tuple[Any, Any], scaler: KedaScaler, work: Callable[[Any, Any], Awaitable[None]]) -> None:
    pb2, stubs = client

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            scaler.serve("127.0.0.1:0", grace=0.1) as serving,
            grpc.aio.insecure_channel(f"127.0.0.1:{serving.port}") as channel,
        ):
            await work(pb2, stubs.ExternalScalerStub(channel))

    asyncio.run(main())


def test_replicas_as_a_metric_with_target_one(client: tuple[Any, Any]) -> None:
    asked: list[ScaledObject] = []

    async def desired(scaled: ScaledObject) -> float:
        asked.append(scaled)
        return float(scaled.metadata["want"])

    async def work(pb2: Any, stub: Any) -> None:
        ref = pb2.ScaledObjectRef(name="llm", namespace="prod", scalerMetadata={"want": "7", "scalerAddress": "x:1"})
        spec = await stub.GetMetricSpec(ref)
        assert [(s.metricName, s.targetSize, s.targetSizeFloat) for s in spec.metricSpecs] == [("replicas", 1, 1.0)]
        got = await stub.GetMetrics(pb2.GetMetricsRequest(scaledObjectRef=ref, metricName="replicas"))
        assert [(v.metricName, v.metricValue, v.metricValueFloat) for v in got.metricValues] == [("replicas", 7, 7.0)]
        assert (await stub.IsActive(ref)).result is True
        ref.scalerMetadata["want"] = "0"
        assert (await stub.IsActive(ref)).result is False
        got = await stub.GetMetrics(pb2.GetMetricsRequest(scaledObjectRef=ref))
        assert got.metricValues[0].metricValueFloat == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMetrics(pb2.GetMetricsRequest(scaledObjectRef=ref, metricName="s0-other"))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StreamMetricSpec(ref).read()
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED, "which KEDA accepts"

    run(client, KedaScaler(desired, metric_name="replicas"), work)
    assert asked[0] == ScaledObject("llm", "prod", {"want": "7", "scalerAddress": "x:1"})


def test_what_is_not_known_is_left_to_kedas_fallback(client: tuple[Any, Any]) -> None:
    policy = TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=9)
    answers: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "nan": lambda: float("nan"),
        "text": lambda: "seven",
        "insufficient": lambda: policy.recommend({"current": 2, "metrics": {"cpu": None}}, now=0.0),
        "bug": lambda: {}["secret"],
    }

    async def work(pb2: Any, stub: Any) -> None:
        for name in answers:
            ref = pb2.ScaledObjectRef(name=name, namespace="n")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetMetrics(pb2.GetMetricsRequest(scaledObjectRef=ref))
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert caught.value.details().startswith(f"n/{name}: ")
            assert "secret" not in caught.value.details()

    run(client, KedaScaler(lambda scaled: answers[scaled.name]()), work)


def test_a_recommendation_will_do(client: tuple[Any, Any]) -> None:
    from aibalance.autoscaling import ProportionalScaling

    policy = ProportionalScaling(metric="cpu", target=50, max_capacity=9)

    async def work(pb2: Any, stub: Any) -> None:
        got = await stub.GetMetrics(pb2.GetMetricsRequest(scaledObjectRef=pb2.ScaledObjectRef(name="a")))
        assert got.metricValues[0].metricValue == 4

    scaler = KedaScaler(lambda scaled: policy.recommend({"current": 2, "metrics": {"cpu": 100.0}}, now=0.0))
    run(client, scaler, work)


def test_push_tells_of_changes_only(client: tuple[Any, Any]) -> None:
    want = [0]

    async def work(pb2: Any, stub: Any) -> None:
        stream = stub.StreamIsActive(pb2.ScaledObjectRef(name="a"))
        seen = [(await stream.read()).result]
        want[0] = 2
        seen.append((await stream.read()).result)
        want[0] = 3
        await asyncio.sleep(0.05)
        want[0] = 0
        seen.append((await stream.read()).result)
        assert seen == [False, True, False]
        stream.cancel()

    run(client, KedaScaler(lambda scaled: want[0], push_interval=0.005), work)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"push_interval": 0}, "push_interval: 0"), ({"metric_name": ""}, "metric_name: ''")],
)
def test_scalers_that_cannot_be(options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        KedaScaler(lambda scaled: 1, **options)
    with pytest.raises(ConfigError, match="desired: 3"):
        KedaScaler(3)  # type: ignore[arg-type]


def prometheus(values: dict[str, float]) -> Callable[[Got], Say]:
    """Answers range queries as Prometheus does: one series, one point."""
    from urllib.parse import parse_qs

    def answer(got: Got) -> Say:
        asked = {name: value[0] for name, value in parse_qs(got.body.decode()).items()}
        value = values.get(asked["query"])
        result = [] if value is None else [{"metric": {}, "values": [[float(asked["end"]), str(value)]]}]
        body = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        return Say(200, {"content-type": "application/json"}, json.dumps(body).encode())

    return answer


def test_the_command(client: tuple[Any, Any]) -> None:
    pytest.importorskip("httpx")
    pb2, stubs = client
    with backends(prometheus({"sum(queue)": 60.0, "count(up)": 3.0})) as (server,):
        policy = 'ProportionalScaling(metric="queue", metric_type="total", target=10, max_capacity=20)'
        command = [sys.executable, "-m", "aibalance", "keda", policy, "--prometheus", f"http://{server.address}"]
        command += [
            "--query",
            "sum(queue)",
            "--servers-query",
            "count(up)",
            "--listen",
            "127.0.0.1:0",
            "--every",
            "0.2",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as running:
            assert running.stderr is not None
            try:
                line = running.stderr.readline()
                assert line.startswith("listening on 127.0.0.1:"), line
                port = line.strip().rpartition(":")[2]
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    stub = stubs.ExternalScalerStub(channel)
                    request = pb2.GetMetricsRequest(scaledObjectRef=pb2.ScaledObjectRef(name="a"))
                    # A slow machine finds the first decision stale already: KEDA, too, asks again.
                    until, answer = time.monotonic() + 30, None
                    while answer is None:
                        try:
                            answer = stub.GetMetrics(request, timeout=30)
                        except grpc.RpcError:
                            assert time.monotonic() < until, "no decision"
                    (value,) = answer.metricValues
                    assert value.metricValue == 6
                    server.answer = lambda got: Say(500, body=b"no")
                    until = time.monotonic() + 30
                    code = None
                    while code is None:
                        try:
                            stub.GetMetrics(request, timeout=30)
                        except grpc.RpcError as error:
                            code = error.code()
                        assert time.monotonic() < until, "an old decision is none"
                        time.sleep(0.05)
                    assert code == grpc.StatusCode.UNAVAILABLE
                assert "--prometheus" in running.stderr.readline()
            finally:
                running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0


def test_the_command_shows_metrics() -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("prometheus_client")
    with backends(prometheus({"sum(queue)": 60.0, "count(up)": 3.0})) as (server,):
        policy = 'ProportionalScaling(metric="queue", metric_type="total", target=10, max_capacity=20)'
        command = [sys.executable, "-m", "aibalance", "keda", policy, "--prometheus", f"http://{server.address}"]
        command += ["--query", "sum(queue)", "--servers-query", "count(up)"]
        command += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as running:
            assert running.stderr is not None
            try:
                line = running.stderr.readline()
                assert line.startswith("metrics at port "), line
                answer = httpx.get(f"http://127.0.0.1:{line.split()[-1]}/metrics", trust_env=False)
                assert 'aibalance_policy_desired{policy="ProportionalScaling"} 6.0' in answer.text
                assert 'aibalance_policy_metric{metric="queue",policy="ProportionalScaling"} 60.0' in answer.text
            finally:
                running.send_signal(signal.SIGTERM)
            assert running.wait(30) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--every", "0"], "--every: 0"),
        (["--metrics", "here"], "metrics: 'here' is not allowed; host:port"),
        (["--tls-cert", "x.pem"], "--tls-cert: needs --tls-key"),
        (["--tls-cert", "none.pem", "--tls-key", "none.pem"], "--tls-cert: none.pem: No such file"),
    ],
)
def test_commands_that_cannot_be(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    from aibalance.cli import main

    policy = 'ProportionalScaling(metric="queue", target=10, max_capacity=20)'
    asked = ["keda", policy, "--prometheus", "http://127.0.0.1:1", "--query", "q", "--servers-query", "s", *options]
    assert main(asked) == 2
    assert said in capsys.readouterr().err
    wrong = ["keda", policy, "--prometheus", "http://127.0.0.1:1", "--query", "q", "--servers-query", "s"]
    assert main(wrong) == 2
    assert "ConnectError" in capsys.readouterr().err
