"""KEDA's external scaler, pull and push. Source of the protocol: externalscaler.proto of KEDA (2026-08)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias

from .. import AibalanceError, ConfigError, Recommendation
from .._extras import need
from .._picker import wrong

__all__ = ["KedaScaler", "ScaledObject"]

_SERVICE = "externalscaler.ExternalScaler"


@dataclass(frozen=True)
class ScaledObject:
    """Who asks: name and namespace of the ScaledObject, and the `metadata` of its trigger.

    >>> ScaledObject("llm", "prod", {"scalerAddress": "aibalance:9090"}).name
    'llm'
    """

    name: str
    namespace: str = "default"
    metadata: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = "int | float | Recommendation | None"
Desired: TypeAlias = "Callable[[ScaledObject], Answer | Awaitable[Answer]]"


@functools.cache
def messages() -> dict[str, Any]:
    """The protocol's messages, made at run time: no generated code, and no version of protobuf that it would need."""
    pb2 = need("google.protobuf.descriptor_pb2", "keda")
    pools = need("google.protobuf.descriptor_pool", "keda")
    factory = need("google.protobuf.message_factory", "keda")
    text, number, whole, flag, message = 9, 1, 3, 8, 11  # descriptor.proto's types
    file = pb2.FileDescriptorProto(name="aibalance/externalscaler.proto", package="externalscaler", syntax="proto3")

    def declare(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for title, tag, kind, label, type_name in fields:
            made.field.add(name=title, number=tag, type=kind, label=label, type_name=type_name or None)
        return made

    one, many = 1, 3
    ref = declare(
        "ScaledObjectRef",
        ("name", 1, text, one, ""),
        ("namespace", 2, text, one, ""),
        ("scalerMetadata", 3, message, many, ".externalscaler.ScaledObjectRef.ScalerMetadataEntry"),
    )
    entry = ref.nested_type.add(name="ScalerMetadataEntry")
    entry.field.add(name="key", number=1, type=text, label=one)
    entry.field.add(name="value", number=2, type=text, label=one)
    entry.options.map_entry = True
    declare("IsActiveResponse", ("result", 1, flag, one, ""))
    declare(
        "MetricSpec",
        ("metricName", 1, text, one, ""),
        ("targetSize", 2, whole, one, ""),
        ("targetSizeFloat", 3, number, one, ""),
    )
    declare("GetMetricSpecResponse", ("metricSpecs", 1, message, many, ".externalscaler.MetricSpec"))
    declare(
        "GetMetricsRequest",
        ("scaledObjectRef", 1, message, one, ".externalscaler.ScaledObjectRef"),
        ("metricName", 2, text, one, ""),
    )
    declare(
        "MetricValue",
        ("metricName", 1, text, one, ""),
        ("metricValue", 2, whole, one, ""),
        ("metricValueFloat", 3, number, one, ""),
    )
    declare("GetMetricsResponse", ("metricValues", 1, message, many, ".externalscaler.MetricValue"))
    # A pool of its own: KEDA's generated code may be in the process, too.
    pool = pools.DescriptorPool()
    pool.Add(file)
    return {
        made.name: factory.GetMessageClass(pool.FindMessageTypeByName(f"externalscaler.{made.name}"))
        for made in file.message_type
    }


class KedaScaler:
    """Answers KEDA's `external` and `external-push` triggers: how many replicas there should be.

    `desired`: a function of a ScaledObject, plain or async, that gives replicas, a Recommendation, or None when it
    does not know. It is called for each question; keep it quick.
    `metric_name` ("aibalance-desired"): the metric's name in the HPA that KEDA makes.
    `push_interval` (1.0): seconds between two looks for `external-push`, which tells KEDA when active becomes inactive
    or the other way round.

    The metric is the number of replicas and its target 1; so the trigger needs `metricType: AverageValue`, and the HPA
    asks for that many replicas, rounded up. Its tolerance of 10 % swallows small steps (20 to 21): set
    `behavior.scaleUp.tolerance: 0` where the cluster has it. Active means more than 0 replicas; that 0 is reached only
    with `minReplicaCount: 0`, after KEDA's cooldownPeriod.

    None, an error of aibalance or an exception is answered by UNAVAILABLE, so that KEDA's `fallback` takes over; a
    metric that is not ours by INVALID_ARGUMENT. Raises ConfigError (`pip install aibalance[keda]`).

    >>> scaler = KedaScaler(lambda scaled: 3 if scaled.name == "llm" else None)
    >>> # async with scaler.serve("0.0.0.0:9090"): await asyncio.Event().wait()
    """

    def __init__(
        self, desired: Desired, /, *, metric_name: str = "aibalance-desired", push_interval: float = 1.0
    ) -> None:
        if not callable(desired):
            raise wrong("desired", desired, "a function of a ScaledObject")
        seconds: Any = push_interval
        if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise wrong("push_interval", push_interval, "seconds above 0")
        if not metric_name or not isinstance(metric_name, str):
            raise wrong("metric_name", metric_name, "a name")
        self._desired = desired
        self._metric_name = metric_name
        self._push_interval = float(push_interval)

    def __repr__(self) -> str:
        return f"KedaScaler({self._desired!r}, metric_name={self._metric_name!r})"

    async def ask(self, scaled: ScaledObject, /) -> float | None:
        """The number of replicas for a ScaledObject; None when it is not known. Raises MetricError for nonsense."""
        answer: Any = self._desired(scaled)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Recommendation):
            answer = None if answer.action == "insufficient_data" else answer.desired
        if answer is None:
            return None
        if isinstance(answer, bool) or not isinstance(answer, int | float) or not 0 <= answer < 1e9:
            raise ConfigError(f"desired: {answer!r} is not allowed; replicas of 0 or more, a Recommendation, or None")
        return float(answer)

    async def _known(self, ref: Any, context: Any) -> float:
        grpc = need("grpc", "keda")
        scaled = ScaledObject(ref.name, ref.namespace, dict(ref.scalerMetadata))
        try:
            found = await self.ask(scaled)
            said = "not known yet"
        except AibalanceError as error:
            found, said = None, str(error)
        except Exception as error:  # theirs: what it says is not for strangers
            found, said = None, type(error).__name__
        if found is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"{scaled.namespace}/{scaled.name}: {said}")
            raise AssertionError  # abort raises
        return found

    async def _is_active(self, request: Any, context: Any) -> Any:
        return messages()["IsActiveResponse"](result=await self._known(request, context) > 0)

    async def _stream_is_active(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last: bool | None = None
        while True:
            active = await self._known(request, context) > 0
            if active is not last:
                last = active
                yield messages()["IsActiveResponse"](result=active)
            await asyncio.sleep(self._push_interval)

    async def _metric_spec(self, request: Any, context: Any) -> Any:
        made = messages()
        spec = made["MetricSpec"](metricName=self._metric_name, targetSize=1, targetSizeFloat=1.0)
        return made["GetMetricSpecResponse"](metricSpecs=[spec])

    async def _metrics(self, request: Any, context: Any) -> Any:
        made = messages()
        if request.metricName not in ("", self._metric_name):
            said = f"metric {request.metricName!r} is not known; {self._metric_name!r} is"
            await context.abort(need("grpc", "keda").StatusCode.INVALID_ARGUMENT, said)
        value = await self._known(request.scaledObjectRef, context)
        # KEDA reads the integer when the float is 0.
        one = made["MetricValue"](metricName=self._metric_name, metricValue=math.ceil(value), metricValueFloat=value)
        return made["GetMetricsResponse"](metricValues=[one])

    def add_to(self, server: Any) -> None:
        """Adds the service to a grpc.aio server of yours."""
        grpc, made = need("grpc", "keda"), messages()

        def unary(function: Any, request: str, response: str) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                function, made[request].FromString, made[response].SerializeToString
            )

        handlers = {
            "IsActive": unary(self._is_active, "ScaledObjectRef", "IsActiveResponse"),
            "GetMetricSpec": unary(self._metric_spec, "ScaledObjectRef", "GetMetricSpecResponse"),
            "GetMetrics": unary(self._metrics, "GetMetricsRequest", "GetMetricsResponse"),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                self._stream_is_active,
                made["ScaledObjectRef"].FromString,
                made["IsActiveResponse"].SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))

    def serve(self, address: str, /, *, credentials: Any = None, grace: float = 5.0) -> Serving:
        """A server for `async with`: `address` "host:port" (port 0 for any), `credentials` of grpc for TLS.

        At its end questions that run have `grace` seconds. `.port` is where it listens.
        """
        return Serving(self, address, credentials, grace)


class Serving:
    """A running scaler."""

    def __init__(self, scaler: KedaScaler, address: str, credentials: Any, grace: float) -> None:
        self._scaler = scaler
        self._address = address
        self._credentials = credentials
        self._grace = grace
        self._server: Any = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = need("grpc.aio", "keda").server()
        self._scaler.add_to(self._server)
        try:
            if self._credentials is None:
                self.port = self._server.add_insecure_port(self._address)
            else:
                self.port = self._server.add_secure_port(self._address, self._credentials)
        except RuntimeError as error:
            raise ConfigError(f"address: {self._address!r} cannot be listened on: {error}") from None
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._server.stop(self._grace)
