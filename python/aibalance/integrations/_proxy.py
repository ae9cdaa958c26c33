"""The reference proxy: its fleets, its limits, and the application."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import ConfigError, Pool, RetryBudget
from ..routing import Router, Sticky, StickyCookie
from ._exchange import TOKEN, Exchange, Gone, Receive, Refused, Scope, Send
from ._upstream import Upstream, trusting
from ._websocket import Tunnel

if TYPE_CHECKING:
    import httpx

    from ..health import HealthChecker


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may be, and how long it may take.

    `max_body` (1 MiB; None: any), `max_headers` (32 KiB, all names and values) and `max_target` (8 KiB) are bytes,
    `max_header_count` (100) is a number: the answers beyond are 413, 431 and 414. `max_message` (1 MiB; None: any) is
    that of a WebSocket's messages, either way: it is closed with 1009. `header_timeout` (60), `body_timeout`
    (60) and `send_timeout` (60) are seconds in which a client must have sent its headers, sent the next piece of its
    body (408), and taken the next piece of the answer (the connection is cut). `connect_timeout` (5) and `read_timeout`
    (60) hold for endpoints where a rule has none: 504. `attempts` (3) is how many endpoints one request is tried on at
    most.

    Only a server that reads headers can time them: `header_timeout` holds under `aibalance proxy`. Defaults are
    nginx's where nginx has one, but for `connect_timeout`, 60 there. Raises ConfigError.

    >>> Limits(max_body=None, read_timeout=300)
    Limits(max_body=None, max_headers=32768, max_target=8192, max_header_count=100, max_message=1048576, ...
    """

    max_body: int | None = 1024 * 1024
    max_headers: int = 32768
    max_target: int = 8192
    max_header_count: int = 100
    max_message: int | None = 1024 * 1024
    header_timeout: float = 60
    body_timeout: float = 60
    send_timeout: float = 60
    connect_timeout: float = 5
    read_timeout: float = 60
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("max_body", "max_message", "max_headers", "max_target", "max_header_count", "attempts"):
            value = getattr(self, name)
            least = 0 if name == "max_body" else 1
            if name in ("max_body", "max_message") and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name}: {value!r} is not allowed; a whole number from {least} on")
        for name in ("header_timeout", "body_timeout", "send_timeout", "connect_timeout", "read_timeout"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: {value!r} is not allowed; seconds, more than 0")


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Servers that a rule can send to: any picker on a pool, and what goes with it.

    The endpoints' addresses are `host:port`. `scheme` ("http") is "http" or "https". `sticky` (None), a StickyCookie,
    keeps sessions where they are. `checker` (None), a HealthChecker of the pool, runs as long as the proxy does. `key`
    (None) is what a hashing picker gets: "client" (the address), "target" (path and query), or "header:NAME".

    With "https" certificates are always verified: by the authorities in the PEM file `ca`, or (None) those that httpx
    trusts, for `server_name` or (None) the host of the endpoint's address. `websockets` (True) passes these on, too.

    Raises ConfigError.

    >>> from aibalance import LeastConnections
    >>> Fleet(picker=LeastConnections(["10.0.0.1:8000", "10.0.0.2:8000"])).scheme
    'http'
    """

    picker: Any
    scheme: str = "http"
    sticky: StickyCookie | None = None
    checker: HealthChecker | None = None
    key: str | None = None
    ca: str | None = None
    server_name: str | None = None
    websockets: bool = True
    _tls: Any = field(default=None, init=False, repr=False, compare=False)
    _session: Sticky | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.picker, "pool", None), Pool) or not callable(
            getattr(self.picker, "acquire", None)
        ):
            raise ConfigError(f"picker: {self.picker!r:.80} is not allowed; a picker on a Pool")
        if self.scheme not in ("http", "https"):
            raise ConfigError(f"scheme: {self.scheme!r} is not allowed; 'http' or 'https'")
        if self.sticky is not None and not isinstance(self.sticky, StickyCookie):
            raise ConfigError(f"sticky: {self.sticky!r:.80} is not allowed; a StickyCookie or None")
        name = self.key.removeprefix("header:") if isinstance(self.key, str) else ""
        header = self.key == f"header:{name}" and TOKEN.fullmatch(name.encode())
        if not (self.key in (None, "client", "target") or header):
            raise ConfigError(f"key: {self.key!r} is not allowed; 'client', 'target', 'header:NAME' or None")
        for field_, value in (("ca", self.ca), ("server_name", self.server_name)):
            if value is not None and self.scheme != "https":
                raise ConfigError(f"{field_}: {value!r:.80} is not allowed without scheme 'https'")
        name_: Any = self.server_name
        if name_ is not None and not (isinstance(name_, str) and re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", name_)):
            raise ConfigError(f"server_name: {name_!r:.80} is not allowed; a host's name or address")
        if not isinstance(self.websockets, bool):
            raise ConfigError(f"websockets: {self.websockets!r:.80} is not allowed; True or False")
        if self.scheme == "https":
            # Made once: loading the certificates takes longer than a request.
            object.__setattr__(self, "_tls", trusting(self.ca))
        for endpoint in self.picker.pool.endpoints:
            split_address(endpoint.address)
        if self.sticky is not None:
            object.__setattr__(self, "_session", Sticky(self.picker, self.sticky))

    @property
    def _extensions(self) -> dict[str, str]:
        return {} if self.server_name is None else {"sni_hostname": self.server_name}

    @property
    def pool(self) -> Pool:
        """The picker's pool: change it while the proxy runs."""
        pool: Pool = self.picker.pool
        return pool


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an endpoint. Raises ConfigError.

    >>> split_address("[::1]:8000")
    ('::1', 8000)
    """
    host, colon, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    plain = re.fullmatch(r"[A-Za-z0-9._-]+", bare) if bare == host else re.fullmatch(r"[0-9A-Fa-f:.]+", bare)
    if not colon or not plain or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ConfigError(f"address: {address!r:.80} is not allowed; host:port, as in 10.0.0.1:8000")
    return bare, int(port)


class Proxy:
    """An ASGI application that sends requests on to fleets, by rules, and answers back piece by piece.

    `router` is a Router whose targets are names in `fleets`. `limits` (Limits()) bound a request. `trust_forwarded`
    (False) keeps what a client says in X-Forwarded-For and its like and adds to it; otherwise they are written anew.
    `budget` (RetryBudget()) bounds attempts on a second endpoint: after a failed connection for every request, after a
    connection that broke before it answered only for what may be sent twice (GET, HEAD, OPTIONS, PUT and DELETE without
    a body).

    The lease of a request is held until the last byte of the answer is sent, the client leaves, or the endpoint fails.
    Targets, Host and headers are passed on as they came, but for headers of one connection, names with an underscore
    (nginx drops these too), and X-Forwarded-*. WebSockets are passed on message by message, where the package
    `websockets` is installed; the lease lasts until they are closed. Other upgrades are not.

    It follows ASGI's lifespan; without one use `async with proxy`. Raises ConfigError for a target without a fleet.

    >>> from aibalance import LeastRequest
    >>> from aibalance.routing import Rule
    >>> app = Proxy(
    ...     Router([Rule(location="/api/", to="api", read_timeout=30)]),
    ...     {"api": Fleet(picker=LeastRequest(["10.0.0.1:8000", "10.0.0.2:8000"]))},
    ... )
    >>> app
    <Proxy of 1 fleet>
    """

    def __init__(
        self,
        router: Router,
        fleets: Mapping[str, Fleet],
        /,
        *,
        limits: Limits | None = None,
        trust_forwarded: bool = False,
        budget: RetryBudget | None = None,
    ) -> None:
        if not isinstance(router, Router):
            raise ConfigError(f"router: {router!r:.80} is not allowed; a Router")
        for name, fleet in fleets.items():
            if not isinstance(fleet, Fleet):
                raise ConfigError(f"fleets[{name!r}]: {fleet!r:.80} is not allowed; a Fleet")
        for i, rule in enumerate(router.rules):
            for target, _ in rule._targets():
                if not isinstance(target, str) or target not in fleets:
                    raise ConfigError(f"rules[{i}].to: {target!r:.80} is not allowed; one of {', '.join(fleets)}")
        self._router, self.fleets = router, dict(fleets)
        self._limits = Limits() if limits is None else limits
        self._trust = trust_forwarded
        self._budget = RetryBudget(max_attempts=self._limits.attempts) if budget is None else budget
        self._upstreams: dict[str, Upstream] = {}
        self._urls: dict[tuple[str, str], httpx.URL] = {}
        self._stack: contextlib.AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        stack = contextlib.AsyncExitStack()
        try:
            for name, fleet in self.fleets.items():
                upstream = self._upstreams[name] = Upstream(fleet._tls)
                stack.push_async_callback(upstream.close)
                if fleet.checker is not None:
                    await stack.enter_async_context(fleet.checker)
            ticking = asyncio.get_running_loop().create_task(self._tick())
            stack.callback(ticking.cancel)
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._stack = self._stack, None
        self._upstreams.clear()
        if stack is not None:
            await stack.aclose()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            for name, fleet in self.fleets.items():
                fleet.pool.advance()
                await self._upstreams[name].sweep({endpoint.address for endpoint in fleet.pool.endpoints})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        kind = Tunnel if scope["type"] == "websocket" else Exchange
        exchange = kind(self, scope, receive, send)
        try:
            await exchange.run()
        except Refused as refused:
            if exchange.started:
                exchange.abort()
            else:
                await exchange.refuse(refused)
        except Gone:
            pass

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            try:
                await (self.__aenter__() if kind == "lifespan.startup" else self.__aexit__(None, None, None))
            except Exception as error:
                await send({"type": f"{kind}.failed", "message": f"{type(error).__name__}: {error}"})
                return
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    def _upstream(self, fleet: str) -> Upstream:
        try:
            return self._upstreams[fleet]
        except KeyError:
            raise ConfigError("lifespan: off is not allowed; run the proxy with it, or in `async with proxy`") from None

    def _url(self, scheme: str, address: str) -> httpx.URL:
        url = self._urls.get((scheme, address))
        if url is None:
            import httpx

            host, port = split_address(address)
            url = httpx.URL(scheme=scheme, host=host, port=port, path="/")
            if len(self._urls) >= 65536:
                self._urls.clear()
            self._urls[scheme, address] = url
        return url

    def __repr__(self) -> str:
        count = len(self.fleets)
        return f"<Proxy of {count} fleet{'s' if count != 1 else ''}>"
