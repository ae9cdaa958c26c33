"""uvicorn as the reference proxy runs it: with a time limit on headers, and a way to cut a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ._proxy_file import ProxyFile

App = Callable[[Any, Any, Any], Awaitable[None]]


def config(file: ProxyFile, **options: Any) -> Any:
    """A uvicorn.Config for the file; `options` (log level, TLS) are uvicorn's own."""
    import uvicorn

    limits = file.proxy._limits
    return uvicorn.Config(
        file.proxy,
        host=file.host,
        port=file.port,
        http=protocol(limits.header_timeout),
        ws=websockets(),
        # websockets takes None for any.
        ws_max_size=limits.max_message,  # type: ignore[arg-type]
        ws_per_message_deflate=False,
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=limits.max_headers + limits.max_target,
        timeout_keep_alive=max(1, round(file.keep_alive)),
        timeout_graceful_shutdown=max(1, round(file.grace)),
        limit_concurrency=file.max_connections,
        **options,
    )


def websockets() -> Any:
    """uvicorn's protocol for WebSockets, where a connection can be cut; "none" where `websockets` is not installed."""
    try:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
    except ImportError:
        return "none"

    class WebSockets(WebSocketsSansIOProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            # At uvicorn's level "debug" it would log headers and messages.
            self.conn.debug = False
            most = self.config.limit_concurrency
            # uvicorn looks at its limit for other requests only.
            full = most is not None and len(self.connections) > most
            self.app: Any = _full if full else _with_abort(self.app, transport)

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
                # An answer ends the handshake too: uvicorn would log it as an error, once for each client.
                self.handshake_complete = True

    return WebSockets


def protocol(header_timeout: float) -> Any:
    """uvicorn's h11 protocol, the strict one, where a client has so many seconds to send its headers."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.app = _with_abort(self.app, transport)
            self._await_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._await_headers()

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            if any(name in (b"content-length", b"transfer-encoding") for name, _ in event.headers):
                # What follows would be taken for a body here and for messages there.
                self.send_400_response("a WebSocket has no body")
                return
            super().handle_websocket_upgrade(event)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._await_headers(begun=False)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _await_headers(self, begun: bool = True) -> None:
            # IDLE: no request, or a part of one. The clock is not set back by the next part.
            if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
                self._stop()
            elif self._deadline is None and begun:
                self._deadline = self.loop.call_later(header_timeout, self._too_slow)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            if not self.transport.is_closing():
                if self.conn.our_state is h11.IDLE:
                    self.transport.write(
                        b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    )
                self.transport.close()

    return Protocol


async def _full(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
    await send({"type": "websocket.http.response.body", "body": b"503 service unavailable: connections\n"})


def _with_abort(app: App, transport: asyncio.Transport) -> App:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("extensions", {})["aibalance.abort"] = transport.abort
        await app(scope, receive, send)

    return wrapped
