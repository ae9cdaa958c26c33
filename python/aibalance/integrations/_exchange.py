"""One request through the proxy: what is refused, what is passed on, and the lease until the last byte."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from email.utils import formatdate, parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from .. import ConfigError, Lease, OverloadedError, PickError
from ..routing import Request, Route

if TYPE_CHECKING:
    import httpx

    from ._proxy import Fleet, Proxy

LOG = logging.getLogger("aibalance.proxy")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# What concerns one connection only (RFC 9110, section 7.6.1), and Expect, which the server has answered already.
HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade proxy-authorization "
    b"proxy-authenticate expect http2-settings".split()
)
FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"))
# A client's Connection header cannot take these away.
KEPT = frozenset((b"host", b"content-length", b"content-type", b"content-encoding", b"authorization", b"cookie"))
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# May be sent twice (RFC 9110, section 9.2.2), when there is no body.
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
REASONS = {
    301: "moved permanently",
    400: "bad request",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    408: "request timeout",
    413: "content too large",
    414: "URI too long",
    431: "request header fields too large",
    500: "internal server error",
    501: "not implemented",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
    505: "HTTP version not supported",
}


class Refused(Exception):
    """A request that is answered here."""

    def __init__(
        self,
        status: int,
        detail: str = "",
        headers: Iterable[tuple[bytes, bytes]] = (),
        *,
        body: bytes | None = None,
    ) -> None:
        super().__init__(status)
        self.status, self.detail, self.headers, self.body = status, detail, list(headers), body


class Gone(Exception):
    """The client has left."""


class Exchange:
    """One request and its answer."""

    def __init__(self, proxy: Proxy, scope: Scope, receive: Receive, send: Send) -> None:
        self.proxy, self.scope, self.receive, self.send = proxy, scope, receive, send
        self.limits = proxy._limits
        self.started = False
        self.body_left = False
        self.body_begun = False
        self.gone = False
        self.watching: asyncio.Task[None] | None = None
        self.method: str = scope.get("method", "GET")

    async def run(self) -> None:
        headers: Headers = scope_headers(self.scope)
        request = Request.from_asgi(self.scope)
        self.check(request, headers)
        route = self.route(request)
        try:
            if not self.body_left:
                # Nothing comes any more but the news that the client has left.
                self.watch()
            await self.attempts(route, request, self.passed_on(headers))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.gone and task is not None:
                task.uncancel()
                raise Gone from None
            raise
        finally:
            if self.watching is not None:
                self.watching.cancel()

    def route(self, request: Request) -> Route:
        """Where the rules send it."""
        decision = self.proxy._router.decide(request)
        if decision.route is None:
            where = [] if decision.location is None else [(b"location", decision.location.encode("latin-1", "replace"))]
            raise Refused(decision.status, decision.reason, where)
        return decision.route

    def check(self, request: Request, headers: Headers) -> None:
        """Refuses what two servers could read in two ways."""
        limits = self.limits
        if self.scope.get("http_version") not in ("1.0", "1.1", "2", "3"):
            raise Refused(505)
        if self.method in ("CONNECT", "TRACE"):
            raise Refused(405, headers=[(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])
        if not TOKEN.fullmatch(self.method.encode("latin-1", "replace")):
            raise Refused(400, "method")
        target = request.target if isinstance(request.target, bytes) else request.target.encode()
        if len(target) > limits.max_target:
            raise Refused(414)
        # Raw bytes beyond ASCII, blanks and control characters stand in no target.
        if any(byte <= 0x20 or byte >= 0x7F for byte in target):
            raise Refused(400, "target")
        if len(headers) > limits.max_header_count or sum(len(n) + len(v) for n, v in headers) > limits.max_headers:
            raise Refused(431)
        lengths, coding, hosts = set(), [], 0
        for name, value in headers:
            if not TOKEN.fullmatch(name) or CONTROL.search(value):
                raise Refused(400, "header")
            if name == b"content-length":
                lengths.add(value)
            elif name == b"transfer-encoding":
                coding.append(value.strip().lower())
            elif name == b"host":
                hosts += 1
        if hosts > 1 or (hosts == 0 and self.scope.get("http_version") == "1.1"):
            raise Refused(400, "host")
        if coding:
            if lengths or self.scope.get("http_version") == "1.0":
                raise Refused(400, "length")
            if coding != [b"chunked"]:
                raise Refused(501, "transfer-encoding")
            self.body_left = True
        if lengths:
            (length,) = lengths if len(lengths) == 1 else (b"",)
            if not re.fullmatch(rb"[0-9]{1,18}", length):
                raise Refused(400, "length")
            if limits.max_body is not None and int(length) > limits.max_body:
                raise Refused(413)
            self.body_left = int(length) > 0
        if self.scope.get("http_version") == "2" and not lengths and self.method not in ("GET", "HEAD"):
            # Frames tell the length there.
            self.body_left = True

    def passed_on(self, headers: Headers) -> Headers:
        """The headers that an endpoint gets."""
        named = connection_names(headers)
        trust = self.proxy._trust
        out: Headers = []
        before: list[bytes] = []
        host = None
        for name, value in headers:
            if name in HOP or b"_" in name or (name in named and name not in KEPT):
                continue
            if name in FORWARDED:
                if trust and name == b"x-forwarded-for":
                    before.append(value)
                elif trust:
                    out.append((name, value))
                continue
            if name == b"host":
                host = value
            out.append((name, value))
        if host is None:
            # What the router judged: no host. The endpoint gets an empty one, as a request of HTTP/1.0 has none.
            out.insert(0, (b"host", b""))
        if self.body_left and not any(name == b"content-length" for name, _ in out):
            out.append((b"transfer-encoding", b"chunked"))
        client = self.scope.get("client")
        if client:
            out.append((b"x-forwarded-for", b", ".join([*before, client[0].encode("latin-1", "replace")])))
        said = {name for name, _ in out} if trust else set()
        if b"x-forwarded-proto" not in said:
            scheme: str = self.scope.get("scheme", "http")
            out.append((b"x-forwarded-proto", {"ws": "http", "wss": "https"}.get(scheme, scheme).encode()))
        if host and b"x-forwarded-host" not in said:
            out.append((b"x-forwarded-host", host))
        return out

    def key(self, fleet: Fleet, request: Request) -> str | bytes | None:
        if fleet.key is None:
            return None
        if fleet.key == "client":
            client = self.scope.get("client")
            return client[0] if client else None
        if fleet.key == "target":
            return request.target
        wanted = fleet.key.removeprefix("header:").lower().encode()
        return next((value for name, value in scope_headers(self.scope) if name == wanted), None)

    def acquire(self, fleet: Fleet, request: Request, tried: list[str]) -> tuple[Lease, str | None]:
        """A lease, and the session's token where the fleet has sessions."""
        key = self.key(fleet, request)
        try:
            if fleet.sticky is None or fleet._session is None:
                return fleet.picker.acquire(key, exclude=tried), None
            if not tried:
                cookies = [value for name, value in scope_headers(self.scope) if name == b"cookie"]
                token = fleet.sticky.from_header(b"; ".join(cookies).decode("latin-1")) if cookies else None
                session = fleet._session.acquire(token, key=key)
                return session.lease, session.token
            lease: Lease = fleet.picker.acquire(key, exclude=tried)
            return lease, fleet.sticky.issue(lease.endpoint.id)
        except OverloadedError as error:
            after = [] if error.retry_after is None else [(b"retry-after", b"%d" % math.ceil(error.retry_after))]
            raise Refused(503, "overloaded", after) from None
        except PickError:
            raise Refused(503, "no endpoint") from None

    async def attempts(self, route: Route, request: Request, headers: Headers) -> None:
        import httpx

        name: str = route.target
        fleet = self.proxy.fleets[name]
        upstream = self.proxy._upstream(name)
        budget = self.proxy._budget
        budget.deposit()
        tried: list[str] = []
        connect = route.timeouts.connect or self.limits.connect_timeout
        read = route.timeouts.read or self.limits.read_timeout
        limits = {"connect": connect, "read": read, "write": read, "pool": connect}
        target = origin_form(request.target)
        twice = self.method in IDEMPOTENT and not self.body_left
        refused = Refused(502)
        while True:
            try:
                lease, token = self.acquire(fleet, request, tried)
            except Refused:
                if tried:
                    raise refused from None
                raise
            address = lease.endpoint.address
            transport = upstream.take(address)
            try:
                outgoing = httpx.Request(
                    self.method,
                    self.proxy._url(fleet.scheme, address),
                    headers=headers,
                    stream=_Body(self) if self.body_left else httpx.ByteStream(b""),
                    extensions={"timeout": limits, "target": target, **fleet._extensions},
                )
                response = await transport.handle_async_request(outgoing)
            except BaseException as error:
                await asyncio.shield(transport.aclose())
                refused, safe = self.failed(error, lease)
            else:
                try:
                    await self.answer(route, response, lease, fleet, token)
                finally:
                    await asyncio.shield(upstream.give(address, transport))
                return
            tried.append(lease.endpoint.id)
            again = (safe and not self.body_begun) or twice
            if not again or len(tried) >= self.limits.attempts or not budget.withdraw():
                raise refused

    def failed(self, error: BaseException, lease: Lease) -> tuple[Refused, bool]:
        """Ends the lease of an attempt that came to no answer: what to say, and whether nothing was sent yet."""
        import httpx

        if isinstance(error, httpx.TimeoutException):
            lease.release("timeout")
            return Refused(504), isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        if isinstance(error, httpx.TransportError | ConfigError):
            lease.release("failure")
            said = tls_problem(error)
            if said is not None:
                LOG.warning("%s: TLS: %s", lease.endpoint.address, said)
            return Refused(502, "" if said is None else "TLS"), isinstance(error, httpx.ConnectError)
        # The client's fault (a body too long or too slow, gone) or our own end: not the endpoint's.
        lease.cancel()
        raise error

    async def answer(
        self, route: Route, response: httpx.Response, lease: Lease, fleet: Fleet, token: str | None
    ) -> None:
        import httpx

        if self.watching is None:
            self.watch()
        status = response.status_code
        try:
            headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
            retry_after = seconds(next((value for name, value in headers if name == b"retry-after"), None))
            if status == 101:
                raise Refused(502, "upgrade")
            named = connection_names(headers)
            out = [(name, value) for name, value in headers if name not in HOP and name not in named]
            if not any(name == b"date" for name, _ in out):
                out.append((b"date", formatdate(usegmt=True).encode()))
            if token is not None and fleet.sticky is not None:
                out.append((b"set-cookie", fleet.sticky.to_header(token).encode("latin-1")))
            if route.streaming:
                # For an nginx in front: it would hold the pieces back.
                out.append((b"x-accel-buffering", b"no"))
            self.started = True
            await self.pass_back({"type": "http.response.start", "status": status, "headers": out})
            first = True
            try:
                async for piece in response.stream:  # type: ignore[union-attr]
                    if first and piece:
                        first = False
                        lease.first_token()
                    await self.pass_back({"type": "http.response.body", "body": piece, "more_body": True})
            except httpx.TransportError as error:
                lease.release("timeout" if isinstance(error, httpx.TimeoutException) else "failure")
                raise Refused(502, "cut off") from None
            if self.watching is not None:
                # From here on servers say "disconnected" of an answer that is complete.
                self.watching.cancel()
            await self.pass_back({"type": "http.response.body", "body": b"", "more_body": False})
            lease.release(status=status, retry_after=retry_after)
        finally:
            lease.cancel()
            await asyncio.shield(response.aclose())

    async def pass_back(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.limits.send_timeout):
                await self.send(message)
        except TimeoutError:
            self.abort()
            raise Gone from None
        except OSError:
            # ASGI: sending to a client that has left.
            raise Gone from None

    def watch(self) -> None:
        """Ends this request as soon as the client is gone."""
        main = asyncio.current_task()

        async def until_gone() -> None:
            while (await self.receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
                pass
            self.gone = True
            if main is not None:
                main.cancel()

        self.watching = asyncio.get_running_loop().create_task(until_gone())

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, within its limits."""
        self.body_begun = True
        seen = 0
        while True:
            try:
                async with asyncio.timeout(self.limits.body_timeout):
                    message = await self.receive()
            except TimeoutError:
                raise Refused(408) from None
            if message["type"] == "http.disconnect":
                raise Gone
            piece = message.get("body", b"")
            seen += len(piece)
            if self.limits.max_body is not None and seen > self.limits.max_body:
                raise Refused(413)
            if piece:
                yield piece
            if not message.get("more_body", False):
                self.watch()
                return

    def abort(self) -> None:
        """Cuts the connection, so that half an answer is not taken for a whole one."""
        cut = self.scope.get("extensions", {}).get("aibalance.abort")
        if cut is not None:
            cut()

    def refusal(self, refused: Refused) -> tuple[int, Headers, bytes]:
        """Status, headers and body."""
        reason = REASONS.get(refused.status, "")
        detail = f": {refused.detail}" if refused.detail else ""
        body = f"{refused.status} {reason}{detail}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"date", formatdate(usegmt=True).encode()),
            *refused.headers,
        ]
        if refused.status in (400, 408, 413, 414, 431, 501, 505):
            # What follows on this connection may be the rest of what was refused.
            headers.append((b"connection", b"close"))
        return refused.status, headers, body

    async def refuse(self, refused: Refused) -> None:
        status, headers, body = self.refusal(refused)
        with contextlib.suppress(Gone):
            await self.pass_back({"type": "http.response.start", "status": status, "headers": headers})
            shown = b"" if self.method == "HEAD" else body
            await self.pass_back({"type": "http.response.body", "body": shown, "more_body": False})


def _body_class() -> Any:
    import httpx

    class Body(httpx.AsyncByteStream):
        def __init__(self, exchange: Exchange) -> None:
            self.exchange = exchange

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self.exchange.pieces():
                yield piece

    return Body


class _Body:
    """The request's body as httpx takes it; made at the first use, since httpx is imported late."""

    made: Any = None

    def __new__(cls, exchange: Exchange) -> Any:
        if cls.made is None:
            cls.made = _body_class()
        return cls.made(exchange)


def scope_headers(scope: Scope) -> Headers:
    """Names in lower case, as ASGI has them."""
    return [(bytes(name).lower(), bytes(value)) for name, value in scope.get("headers", ())]


def connection_names(headers: Headers) -> set[bytes]:
    """The headers that a Connection header names as its own."""
    found: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            found |= {part.strip().lower() for part in value.split(b",")}
    return found


def origin_form(target: str | bytes) -> bytes:
    """Path and query of a target that the router has accepted, which may be `http://host/path`.

    >>> origin_form("http://example.com?x=1"), origin_form("/a/../b")
    (b'/?x=1', b'/a/../b')
    """
    raw = target.encode() if isinstance(target, str) else target
    if raw.startswith(b"/"):
        return raw
    rest = raw.partition(b"://")[2]
    at = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    path = rest[at:]
    return path if path.startswith(b"/") else b"/" + path


def tls_problem(error: BaseException) -> str | None:
    """What TLS has said, where it was that; httpx keeps it as a cause of a cause."""
    import ssl

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return getattr(seen, "verify_message", "") or str(seen)
        seen = seen.__cause__ or seen.__context__
    return None


def seconds(value: bytes | None) -> float | None:
    """A Retry-After header: seconds, or a date."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (TypeError, ValueError, OverflowError):
        return None
