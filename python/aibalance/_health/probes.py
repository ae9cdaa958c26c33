"""Probes: one question to one endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .._core import Endpoint
from .._errors import AibalanceError, ConfigError
from .checks import ProbeResult, read_checks

if TYPE_CHECKING:
    import ssl

    import httpx


class Probe(Protocol):
    """Anything that asks one endpoint and says what it saw."""

    async def __call__(self, endpoint: Endpoint, /) -> ProbeResult:
        """Asks; an exception is a failure."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port` or a URL. Raises ConfigError."""
    rest = address.partition("://")[2] or address
    rest = rest.split("/", 1)[0]
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or not host.strip("[]"):
        raise ConfigError(f"address: {address!r} is not allowed; host:port is what can be probed")
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(frozen=True)
class HttpProbe:
    """Asks by HTTP GET, with httpx (`pip install aibalance[health]`).

    The address of an endpoint is `host:port`, or a URL to which `path` is added. The probe passes when the status is
    one of `expected` (default 200 to 299). With `checks=True` the body (also of a 503) is read as JSON of named checks:
    `{"checks": {"model_loaded": true, ...}}`. A body of more than `max_body` bytes, or nested deeper than `max_depth`,
    fails. Redirects are not followed: a 3xx is an answer that is not expected. Each probe has its own connection,
    since whether the server takes new ones is part of the question, and proxies of the environment are not used.
    With `scheme="https"`, `verify` may be an ssl.SSLContext with authorities of your own, and `server_name` (None: the
    address's host) is the name that the certificate must have.

    Raises ConfigError, naming the field.

    >>> HttpProbe("/health").path
    '/health'
    """

    path: str = "/health"
    scheme: str = field(default="http", kw_only=True)
    expected: Iterable[int] = field(default=range(200, 300), kw_only=True)
    headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    checks: bool = field(default=False, kw_only=True)
    max_body: int = field(default=65536, kw_only=True)
    max_depth: int = field(default=8, kw_only=True)
    verify: bool | ssl.SSLContext = field(default=True, kw_only=True)
    server_name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ConfigError(f"path: {self.path!r} is not allowed; a path that begins with /")
        if self.scheme not in ("http", "https"):
            raise ConfigError(f'scheme: {self.scheme!r} is not allowed; "http" or "https"')
        if self.max_body < 1 or self.max_depth < 1:
            raise ConfigError("max_body, max_depth: whole numbers from 1 on")
        if not isinstance(self.expected, range):
            object.__setattr__(self, "expected", tuple(self.expected))

    def url(self, endpoint: Endpoint) -> str:
        """What is asked for."""
        if "://" in endpoint.address:
            return endpoint.address.rstrip("/") + self.path
        split_address(endpoint.address)
        return f"{self.scheme}://{endpoint.address}{self.path}"

    def client(self) -> httpx.AsyncClient:
        """A client as this probe needs it."""
        httpx = need("httpx", "health")
        return httpx.AsyncClient(  # type: ignore[no-any-return]
            follow_redirects=False,
            trust_env=False,
            verify=self.verify,
            timeout=None,  # the checker's own
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def __call__(self, endpoint: Endpoint, /) -> ProbeResult:
        """Asks, with a client for this one question; the checker's timeout is around it."""
        async with self.client() as client:
            return await self.ask(client, endpoint)

    async def ask(self, client: httpx.AsyncClient, endpoint: Endpoint) -> ProbeResult:
        """Asks with a client that is there."""
        headers = {"user-agent": "aibalance-health", **(self.headers or {})}
        sni = {} if self.server_name is None else {"sni_hostname": self.server_name}
        async with client.stream("GET", self.url(endpoint), headers=headers, extensions=sni) as response:
            ok, reason = response.status_code in self.expected, f"status {response.status_code}"
            if not self.checks or (not ok and response.status_code != 503):
                return ProbeResult(ok, "" if ok else reason)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self.max_body:
                    return ProbeResult(False, f"{reason}, a body of more than {self.max_body} bytes")
        try:
            return ProbeResult(ok, "" if ok else reason, read_checks(bytes(body), max_depth=self.max_depth))
        except AibalanceError as wrong:
            return ProbeResult(False, f"{reason}, {wrong}")


@dataclass(frozen=True)
class TcpProbe:
    """Passes when a TCP connection can be opened.

    >>> TcpProbe()
    TcpProbe()
    """

    async def __call__(self, endpoint: Endpoint, /) -> ProbeResult:
        """Connects and hangs up."""
        host, port = split_address(endpoint.address)
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return ProbeResult(True)


@dataclass(frozen=True)
class GrpcProbe:
    """Asks the gRPC health service (`grpc.health.v1.Health/Check`), without TLS; `pip install aibalance[health-grpc]`.

    Passes when `service` (empty: the whole server) is SERVING.

    >>> GrpcProbe("inference").service
    'inference'
    """

    service: str = ""

    async def __call__(self, endpoint: Endpoint, /) -> ProbeResult:
        """Asks on a channel of its own."""
        grpc = need("grpc.aio", "health-grpc")
        messages = need("grpc_health.v1.health_pb2", "health-grpc")
        stubs = need("grpc_health.v1.health_pb2_grpc", "health-grpc")
        async with grpc.insecure_channel(endpoint.address) as channel:
            answer = await stubs.HealthStub(channel).Check(messages.HealthCheckRequest(service=self.service))
        status = messages.HealthCheckResponse.ServingStatus.Name(answer.status)
        return ProbeResult(status == "SERVING", "" if status == "SERVING" else status)


def need(module: str, extra: str) -> Any:
    """A module of an extra; ConfigError says which to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"probe: {module} is not installed; pip install aibalance[{extra}]") from None


def understood(value: object) -> ProbeResult:
    """What a user's function said: True or False, named checks, or a ProbeResult."""
    if isinstance(value, ProbeResult):
        return value
    if isinstance(value, bool):
        return ProbeResult(value, "" if value else "the function said no")
    if isinstance(value, Mapping):
        return ProbeResult(True, checks={str(name): v for name, v in value.items()})
    return ProbeResult(False, f"the function gave {type(value).__name__}, not bool, a mapping or ProbeResult")


async def call(function: Callable[..., Any], *arguments: Any, hanging: set[int]) -> Any:
    """Calls a function, in a thread of its own when it is not a coroutine's.

    A thread that hangs holds nobody up; `hanging` remembers it, and until it comes back there is no second one.
    """
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return await function(*arguments)
    if id(function) in hanging:
        raise RuntimeError("the call before has not come back")
    hanging.add(id(function))
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = function(*arguments)
        except BaseException as raised:  # it belongs to whoever waits, also a SystemExit
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{type(raised).__name__}: {raised}")
        hanging.discard(id(function))
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name="aibalance-health", daemon=True).start()
    value = await done
    return await value if isinstance(value, Awaitable) else value
