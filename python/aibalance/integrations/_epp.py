"""The endpoint picker for Envoy: a servicer of ext_proc."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from .. import ConfigError, Endpoint, Lease, OverloadedError, PickError, Pool
from ._eds import EdsPublisher, need
from ._envoy_config import DESTINATION, NAMESPACE

SUBSET_NAMESPACE = "envoy.lb.subset_hint"
SUBSET = "x-gateway-destination-endpoint-subset"
ATTRIBUTES = "envoy.filters.http.ext_proc"
SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
Headers = Mapping[str, str]


class EndpointPicker:
    """An endpoint picker for Envoy and gateways with the Inference Extension: a servicer of ext_proc.

    `picker` is any picker on a pool whose addresses are `ip:port`. `key` (None) is the name of the header that a
    hashing picker gets, or a function of the headers; `cost` (None) a function of the headers that says what work the
    request brings. Names of headers are in lower case, with `:path` and its like among them; of a name that comes
    twice, the values are joined by commas. `candidates` (3) is how many endpoints are named: after the first come those
    that Envoy takes for a retry, or when it does not know the first.

    The answer stands in the header and in the metadata `x-gateway-destination-endpoint`. A subset that the gateway
    hints at is kept to. Nobody to send to is answered with 503, all full with 429.

    A lease begins with the headers and ends with the stream: with `response_header_mode` and `response_trailer_mode`
    SEND that is when the answer ends or the client leaves. Without response headers a lease ends at once, and tells
    neither latency nor outcome. When `upstream.address` says that another endpoint served, the lease moves there.

    Raises ConfigError.

    >>> from aibalance import LeastRequest
    >>> EndpointPicker(LeastRequest(["10.0.0.1:8000", "10.0.0.2:8000"]), key="x-session")
    <EndpointPicker of 2 endpoints>
    """

    def __init__(
        self,
        picker: Any,
        /,
        *,
        key: str | Callable[[Headers], Any] | None = None,
        cost: Callable[[Headers], float] | None = None,
        candidates: int = 3,
    ) -> None:
        if not isinstance(getattr(picker, "pool", None), Pool) or not callable(getattr(picker, "ranked", None)):
            raise ConfigError(f"picker: {picker!r:.80} is not allowed; a picker on a Pool")
        named: Any = key
        if not (key is None or callable(key) or (isinstance(named, str) and named)):
            raise ConfigError(f"key: {key!r:.80} is not allowed; a header's name, a function of the headers, or None")
        if cost is not None and not callable(cost):
            raise ConfigError(f"cost: {cost!r:.80} is not allowed; a function of the headers, or None")
        many: Any = candidates
        if isinstance(many, bool) or not isinstance(many, int) or many < 1:
            raise ConfigError(f"candidates: {candidates!r} is not allowed; a whole number from 1 on")
        self.picker = picker
        self._key = key.lower() if isinstance(key, str) else key
        self._cost, self._candidates = cost, candidates
        self._counts = dict.fromkeys(("picked", "refused", "retried", "lost"), 0)
        self._streams = 0
        self._stopping = False

    @property
    def pool(self) -> Pool:
        """The picker's pool."""
        pool: Pool = self.picker.pool
        return pool

    def stats(self) -> dict[str, int]:
        """Counts since the start.

        `picked`; `refused` (503 and 429); `retried`: Envoy took another one of those named; `lost`: it took one that
        was not named, by its fallback policy and without a word.

        >>> from aibalance import RoundRobin
        >>> EndpointPicker(RoundRobin(["10.0.0.1:80"])).stats()
        {'picked': 0, 'refused': 0, 'retried': 0, 'lost': 0}
        """
        return dict(self._counts)

    def _choose(self, headers: Headers, subset: list[str] | None) -> tuple[Lease, list[Endpoint]]:
        """The lease, and who comes next. Raises PickError."""
        key = self._key(headers) if callable(self._key) else headers.get(self._key) if self._key else None
        cost = 1.0 if self._cost is None else self._cost(headers)
        ids = None
        if subset is not None:
            wanted = set(subset)
            ids = [endpoint.id for endpoint in self.pool.endpoints if endpoint.address in wanted]
            if not ids:
                raise PickError("nobody of the subset is in the pool")
        lease: Lease = self.picker.acquire(key, cost=cost, subset=ids)
        if self._candidates == 1:
            return lease, []
        try:
            others = self.picker.ranked(key, k=self._candidates - 1, exclude=[lease.endpoint], subset=ids)
        except PickError:
            others = []
        return lease, others

    async def Process(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """The method of ext_proc: one stream, one request."""
        stream = _Stream(self)
        self._streams += 1
        try:
            async for message in requests:
                answer = stream.answer(message)
                if answer is not None:
                    yield answer
        finally:
            self._streams -= 1
            stream.end()

    @contextlib.asynccontextmanager
    async def serving(
        self,
        address: str = "127.0.0.1:9002",
        /,
        *,
        eds: EdsPublisher | None = None,
        credentials: Any = None,
        grace: float = 5.0,
    ) -> AsyncIterator[int]:
        """Serves ext_proc and gRPC's health service, and gives the port; port 0 takes any that is free.

        `eds` is served beside. `credentials` are grpc.ServerCredentials; None is plain text, for loopback and sidecars.
        `grace` is how many seconds streams may go on at the end. Health is kept for "", "liveness", "readiness" and the
        service's own name; the last two are not serving while the pool is empty or the end has begun.
        """
        protos = _protos()
        health_pb2_grpc = need("grpc_health.v1.health_pb2_grpc")
        server = need("grpc.aio").server()
        protos.service.add_ExternalProcessorServicer_to_server(self, server)
        health = need("grpc_health.v1.health").aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if eds is not None:
            eds.add_to(server)
        port = _bind(server, address, credentials)
        await self._tell(health)
        await server.start()
        ticking = asyncio.get_running_loop().create_task(self._tick(health))
        try:
            async with contextlib.AsyncExitStack() as stack:
                if eds is not None:
                    await stack.enter_async_context(eds)
                yield port
        finally:
            self._stopping = True
            ticking.cancel()
            await self._tell(health)
            await server.stop(grace)
            self._stopping = False

    async def _tick(self, health: Any) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.pool.advance()
            await self._tell(health)

    async def _tell(self, health: Any) -> None:
        said = need("grpc_health.v1.health_pb2").HealthCheckResponse
        ready = said.NOT_SERVING if self._stopping or not len(self.pool) else said.SERVING
        for name, value in (("", said.SERVING), ("liveness", said.SERVING), ("readiness", ready), (SERVICE, ready)):
            await health.set(name, value)

    def __repr__(self) -> str:
        count = len(self.pool)
        return f"<EndpointPicker of {count} endpoint{'s' if count != 1 else ''}>"


def _bind(server: Any, address: str, credentials: Any) -> int:
    try:
        port: int = (
            server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        raise ConfigError(f"address: {address!r} is not allowed; {error}") from None
    return port


class _Stream:
    """One request: its lease, and an answer in kind to each message."""

    def __init__(self, owner: EndpointPicker) -> None:
        self.owner = owner
        self.lease: Lease | None = None
        self.named: list[str] = []
        self.status: int | None = None
        self.duplex = (False, False)

    def answer(self, message: Any) -> Any:
        messages = _protos().messages
        if message.HasField("protocol_config"):
            modes = message.protocol_config
            # FULL_DUPLEX_STREAMED: what is not given back is not sent on.
            self.duplex = (modes.request_body_mode == 4, modes.response_body_mode == 4)
        kind = message.WhichOneof("request")
        if kind == "request_headers":
            return self.request_headers(message)
        if kind == "response_headers":
            self.response_headers(message)
            return messages.ProcessingResponse(response_headers=messages.HeadersResponse())
        if kind in ("request_body", "response_body"):
            body = messages.BodyResponse()
            if self.duplex[kind == "response_body"]:
                streamed = body.response.body_mutation.streamed_response
                given = getattr(message, kind)
                streamed.body, streamed.end_of_stream = given.body, given.end_of_stream
            return messages.ProcessingResponse(**{kind: body})
        if kind in ("request_trailers", "response_trailers"):
            return messages.ProcessingResponse(**{kind: messages.TrailersResponse()})
        return None

    def request_headers(self, message: Any) -> Any:
        messages = _protos().messages
        headers = _headers(message.request_headers.headers.headers)
        try:
            self.lease, others = self.owner._choose(headers, _subset(message))
        except OverloadedError as error:
            self.owner._counts["refused"] += 1
            after = None if error.retry_after is None else str(max(1, math.ceil(error.retry_after)))
            return _refusal(429, "all endpoints are full", after)
        except PickError:
            self.owner._counts["refused"] += 1
            return _refusal(503, "no endpoint is ready", None)
        self.owner._counts["picked"] += 1
        self.named = [endpoint.address for endpoint in (self.lease.endpoint, *others)]
        value = ",".join(self.named)
        response = messages.ProcessingResponse()
        option = response.request_headers.response.header_mutation.set_headers.add()
        option.header.key, option.header.raw_value = DESTINATION, value.encode()
        option.append_action = option.OVERWRITE_IF_EXISTS_OR_ADD
        response.dynamic_metadata.update({NAMESPACE: {DESTINATION: value}})
        return response

    def response_headers(self, message: Any) -> None:
        said = _headers(message.response_headers.headers.headers).get(":status", "")
        self.status = int(said) if said.isdigit() else None
        fields = message.attributes[ATTRIBUTES].fields if ATTRIBUTES in message.attributes else {}
        served = fields["upstream.address"].string_value if "upstream.address" in fields else ""
        if served and self.named and served != self.named[0]:
            self.moved(served)
        if self.lease is not None and not self.lease.released:
            self.lease.first_token()

    def moved(self, served: str) -> None:
        """Envoy has sent the request to another endpoint than the first."""
        known = served in self.named
        self.owner._counts["retried" if known else "lost"] += 1
        if self.lease is not None:
            if known:
                self.lease.release("failure")
            else:
                self.lease.cancel()
        self.lease = None
        ids = [endpoint.id for endpoint in self.owner.pool.endpoints if endpoint.address == served]
        if ids:
            self.lease = self.owner.picker.try_acquire(subset=ids)

    def end(self) -> None:
        lease, self.lease = self.lease, None
        if lease is None:
            return
        if self.status is None:
            lease.cancel()
        else:
            lease.release(status=self.status)


def _refusal(status: int, said: str, retry_after: str | None) -> Any:
    messages = _protos().messages
    response = messages.ProcessingResponse()
    response.immediate_response.status.code = status
    response.immediate_response.body = f"{said}\n".encode()
    response.immediate_response.details = "aibalance"
    if retry_after is not None:
        option = response.immediate_response.headers.set_headers.add()
        option.header.key, option.header.raw_value = "retry-after", retry_after.encode()
    return response


def _headers(given: Iterable[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in given:
        value = header.raw_value.decode("latin-1") if header.raw_value else header.value
        found[header.key] = f"{found[header.key]},{value}" if header.key in found else value
    return found


def _subset(message: Any) -> list[str] | None:
    """The addresses that the gateway hints at; None when it leaves the choice free."""
    metadata = message.metadata_context.filter_metadata
    if SUBSET_NAMESPACE not in metadata or SUBSET not in metadata[SUBSET_NAMESPACE].fields:
        return None
    value = metadata[SUBSET_NAMESPACE].fields[SUBSET]
    texts = (
        [item.string_value for item in value.list_value.values]
        if value.HasField("list_value")
        else value.string_value.split(",")
    )
    return [text.strip() for text in texts if text.strip()]


class _Protos:
    """Looked up once, not at each message."""

    def __init__(self) -> None:
        self.messages = need("envoy.service.ext_proc.v3.external_processor_pb2")
        self.service = need("envoy.service.ext_proc.v3.external_processor_pb2_grpc")


@functools.cache
def _protos() -> _Protos:
    return _Protos()
