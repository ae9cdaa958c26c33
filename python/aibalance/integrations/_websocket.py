"""One WebSocket through the proxy: a handshake on either side, messages both ways, and a lease until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any

from .. import ConfigError, Lease
from ..routing import Request, Route
from ._exchange import HOP, TOKEN, Exchange, Gone, Headers, Refused, connection_names, origin_form, scope_headers
from ._task import stop

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import ConnectionClosed

    from ._proxy import Fleet

LOG = logging.getLogger("aibalance.proxy")
# RFC 6455, section 7.4, and its registry at IANA.
NORMAL, AWAY, TOO_BIG, BAD_GATEWAY = 1000, 1001, 1009, 1014
# Stand for "no code" and "no close frame": never sent.
NO_STATUS, ABNORMAL = 1005, 1006
# Seconds in which an endpoint answers a close frame.
CLOSING = 5.0
# And in which a server tells how a client has left that no message reaches any more.
LEAVING = 1.0
# Seconds between two pings of an endpoint, and in which it answers one.
PING = 20.0
# Thousands of small messages may be there after one read: all other connections have a turn after so many.
FAIR = 16


class Tunnel(Exchange):
    """One WebSocket and what becomes of it."""

    passed = 0  # messages that the client has got
    passing = False  # one waits until the client takes it

    async def run(self) -> None:
        if (await self.receive())["type"] != "websocket.connect":
            return
        headers = scope_headers(self.scope)
        request = Request.from_asgi(self.scope)
        self.check(request, headers)
        if self.body_left:
            raise Refused(400, "length")
        offered = list(self.scope.get("subprotocols", ()))
        if not all(TOKEN.fullmatch(one.encode("latin-1", "replace")) for one in offered):
            raise Refused(400, "subprotocol")
        route = self.route(request)
        if not self.proxy.fleets[route.target].websockets:
            raise Refused(403, "websocket")
        try:
            import websockets.asyncio.client  # noqa: F401
        except ImportError:
            # Another server than `aibalance proxy` may know them without it.
            LOG.warning("WebSockets are refused: websockets is not installed; pip install aibalance[proxy]")
            raise Refused(501, "websocket") from None
        await self.with_client(self.attempts(route, request, self.passed_on(headers)))

    async def with_client(self, work: Coroutine[Any, Any, None]) -> None:
        """Until it is accepted, nothing comes from a client but the news that it has left."""
        self.watch()
        try:
            await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.gone and task is not None:
                task.uncancel()
                raise Gone from None
            raise
        finally:
            if self.watching is not None:
                self.watching.cancel()

    def passed_on(self, headers: Headers) -> Headers:
        # Each side has a handshake of its own. The client library writes Host, from the URI.
        return [
            (name, value)
            for name, value in super().passed_on(headers)
            if name not in (b"host", b"content-length") and not name.startswith(b"sec-websocket-")
        ]

    async def attempts(self, route: Route, request: Request, headers: Headers) -> None:
        fleet = self.proxy.fleets[route.target]
        budget = self.proxy._budget
        budget.deposit()
        tried: list[str] = []
        refused = Refused(502)
        while True:
            try:
                lease, token = self.acquire(fleet, request, tried)
            except Refused:
                if tried:
                    raise refused from None
                raise
            try:
                connection = await self.opened(route, lease, fleet, request, headers)
            except BaseException as error:
                refused = self.not_opened(error, lease)
            else:
                await self.tunnel(connection, lease, fleet, token)
                return
            # A handshake is a GET without a body, and may be sent twice; an answer is an answer.
            tried.append(lease.endpoint.id)
            if len(tried) >= self.limits.attempts or not budget.withdraw():
                raise refused

    async def opened(
        self, route: Route, lease: Lease, fleet: Fleet, request: Request, headers: Headers
    ) -> ClientConnection:
        """The endpoint's side, after its handshake."""
        from websockets.asyncio.client import ClientConnection
        from websockets.client import ClientProtocol
        from websockets.uri import WebSocketURI

        from ._proxy import split_address

        host, port = split_address(lease.endpoint.address)
        secure = fleet.scheme == "https"
        path, _, query = origin_form(request.target).decode("latin-1").partition("?")
        named = next((value for name, value in scope_headers(self.scope) if name == b"host"), b"").decode("latin-1")
        uri = WebSocketURI(secure, *_host(named, 443 if secure else 80), path, query)
        offered: Any = self.scope.get("subprotocols") or None
        protocol = ClientProtocol(uri, subprotocols=offered, max_size=self.limits.max_message, logger=LOG)
        # It would log headers and messages: a level of debugging is no leave to show cookies.
        protocol.debug = False
        # Pings are sent by `alive`.
        connection = ClientConnection(protocol, ping_interval=None, close_timeout=CLOSING, max_queue=4)
        tls: dict[str, Any] = {}
        if secure:
            tls = {"ssl": fleet._tls, "server_hostname": fleet.server_name or host}
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(route.timeouts.connect or self.limits.connect_timeout):
            await loop.create_connection(lambda: connection, host, port, **tls)
        try:
            async with asyncio.timeout(route.timeouts.read or self.limits.read_timeout):
                await connection.handshake(
                    [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
                    user_agent_header=None,
                )
        except BaseException:
            connection.transport.abort()
            raise
        return connection

    def not_opened(self, error: BaseException, lease: Lease) -> Refused:
        """Ends the lease: what to say when nobody else can be tried. Raises what is not to be tried again."""
        import ssl

        from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

        if isinstance(error, InvalidStatus) and error.response.status_code >= 200:
            # The endpoint's own answer, such as 401 or 404: it is passed back as it is.
            answer = error.response
            lease.release(status=answer.status_code)
            raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers.raw_items()]
            named = connection_names(raw)
            kept = [(k, v) for k, v in raw if k not in HOP and k not in named and k != b"content-length"]
            raise Refused(answer.status_code, headers=kept, body=bytes(answer.body or b"")) from None
        if isinstance(error, TimeoutError):
            lease.release("timeout")
            return Refused(504)
        if isinstance(error, ssl.SSLError):
            lease.release("failure")
            LOG.warning("%s: TLS: %s", lease.endpoint.address, error)
            return Refused(502, "TLS")
        if isinstance(error, OSError | InvalidHandshake | WebSocketException | EOFError | ConfigError):
            lease.release("failure")
            return Refused(502)
        lease.cancel()
        raise error

    async def tunnel(self, connection: ClientConnection, lease: Lease, fleet: Fleet, token: str | None) -> None:
        """Messages both ways, until one side closes."""
        if self.watching is not None:
            self.watching.cancel()
        try:
            lease.first_token()
            answer: Any = connection.response
            raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers.raw_items()]
            out = [(k, v) for k, v in raw if k not in HOP and not k.startswith(b"sec-websocket-")]
            out = [(k, v) for k, v in out if k not in connection_names(raw) and k not in (b"content-length", b"date")]
            if token is not None and fleet.sticky is not None:
                out.append((b"set-cookie", fleet.sticky.to_header(token).encode("latin-1")))
            self.started = True
            await self.pass_back({"type": "websocket.accept", "subprotocol": connection.subprotocol, "headers": out})
            up = asyncio.create_task(self.up(connection))
            down = asyncio.create_task(self.down(connection))
            alive = asyncio.create_task(self.alive(connection))
            try:
                done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                if down in done and down.result() is None:
                    # The client has left while something was on its way to it: `up` learns how.
                    await asyncio.wait((up,), timeout=LEAVING)
            finally:
                for task in (up, down, alive):
                    task.cancel()
                await asyncio.wait((up, down, alive))
            closed = down.result() if down in done else None
            if closed is not None:
                await self.endpoint_closed(closed, lease)
            elif not up.cancelled():
                code, reason = up.result()
                lease.release("success")
                await close(connection, code, reason)
        finally:
            # Where nobody has closed, the client is gone or this proxy ends: not the endpoint's fault.
            lease.cancel()
            try:
                if connection.close_code is None:
                    await close(connection, AWAY)
            finally:
                # Whoever cancels twice does not wait for the endpoint's answer.
                connection.transport.abort()

    async def up(self, connection: ClientConnection) -> tuple[int, str]:
        """From the client; the code and reason with which it closes."""
        from websockets.exceptions import ConnectionClosed

        for count in itertools.count(1):
            message = await self.receive()
            if message["type"] != "websocket.receive":
                code = message.get("code", NO_STATUS)
                # uvicorn cannot tell a client that is lost from one that gives no code.
                return AWAY if code in (NO_STATUS, ABNORMAL) else code, message.get("reason") or ""
            text = message.get("text")
            try:
                await connection.send(message["bytes"] if text is None else text)
            except ConnectionClosed:
                # `down` knows more of it.
                await asyncio.Event().wait()
            if count % FAIR == 0:
                await asyncio.sleep(0)
        raise AssertionError  # it counts for ever

    async def down(self, connection: ClientConnection) -> ConnectionClosed | None:
        """To the client; how the endpoint has closed, None when the client has left."""
        from websockets.exceptions import ConnectionClosed

        for count in itertools.count(1):
            try:
                message = await connection.recv()
            except ConnectionClosed as closed:
                return closed
            kind = "text" if isinstance(message, str) else "bytes"
            self.passing = True
            try:
                await self.pass_back({"type": "websocket.send", kind: message})
            except Gone:
                return None
            finally:
                self.passing = False
            self.passed = count
            if count % FAIR == 0:
                await asyncio.sleep(0)
        raise AssertionError  # it counts for ever

    async def alive(self, connection: ClientConnection) -> None:
        """Ends the connection to an endpoint that leaves a ping unanswered.

        While the client is slow to take messages nothing behind them is read, its answers neither: that is no death.
        """
        from websockets.exceptions import ConnectionClosed

        async def answer() -> None:
            with contextlib.suppress(ConnectionClosed):
                await (await connection.ping())

        def progress() -> tuple[int, int]:
            return self.passed, connection.transport.get_write_buffer_size()

        while True:
            await asyncio.sleep(PING)
            # A task, since even the ping waits where an endpoint reads nothing.
            answering = asyncio.create_task(answer())
            try:
                while not answering.done():
                    before = progress()
                    await asyncio.wait((answering,), timeout=PING)
                    if not (answering.done() or self.passing or progress() != before):
                        connection.transport.abort()
                        return
            finally:
                answering.cancel()

    async def endpoint_closed(self, closed: ConnectionClosed, lease: Lease) -> None:
        if closed.rcvd is not None:
            lease.release("success")
            code = NORMAL if closed.rcvd.code == NO_STATUS else closed.rcvd.code
            await self.pass_back({"type": "websocket.close", "code": code, "reason": closed.rcvd.reason})
            return
        lease.release("failure")
        too_big = closed.sent is not None and closed.sent.code == TOO_BIG
        code, reason = (TOO_BIG, "message too big") if too_big else (BAD_GATEWAY, "the endpoint is gone")
        await self.pass_back({"type": "websocket.close", "code": code, "reason": reason})

    async def pass_back(self, message: MutableMapping[str, Any]) -> None:
        try:
            await super().pass_back(message)
        except RuntimeError:
            # uvicorn's word when it closes the connection itself (a message too big, no pong) and is not done yet.
            if not self.started:
                raise
            raise Gone from None

    async def refuse(self, refused: Refused) -> None:
        if "websocket.http.response" not in self.scope.get("extensions", {}):
            # A server that cannot answer a handshake says 403.
            with contextlib.suppress(Gone):
                await self.pass_back({"type": "websocket.close", "code": 1008})
            return
        status, headers, body = self.refusal(refused)
        if refused.body is not None:
            headers, body = refused.headers, refused.body
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        try:
            await self.pass_back({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await self.pass_back({"type": "websocket.http.response.body", "body": body, "more_body": False})
        except Gone:
            pass


async def close(connection: ClientConnection, code: int, reason: str = "") -> None:
    """Closes it, and reads on meanwhile: an endpoint's answer stands behind what it has sent before."""
    from websockets.exceptions import ConnectionClosed

    async def drain() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.recv()
                await asyncio.sleep(0)

    reading = asyncio.get_running_loop().create_task(drain())
    try:
        await connection.close(code, reason)
    finally:
        await stop(reading)


def _host(named: str, default: int) -> tuple[str, int]:
    """Host and port as the Host header has them: the router has read it already.

    >>> _host("example.com", 80), _host("[::1]:8080", 80)
    (('example.com', 80), ('::1', 8080))
    """
    host, colon, port = named.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = named, str(default)
    return host.removeprefix("[").removesuffix("]"), int(port)
