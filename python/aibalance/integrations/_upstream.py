"""Connections to endpoints: a stack of idle ones for each address."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .. import ConfigError

if TYPE_CHECKING:
    import httpx

IDLE = 256


class Upstream:
    """Transports of one connection each.

    httpcore's own pool looks at all of its connections for each request, and for each of them at all others: at 32
    requests in flight that is most of a proxy's time. Whether an idle connection still lives is left to httpcore.
    """

    def __init__(self, tls: Any) -> None:
        import httpx

        self._verify: Any = _plain() if tls is None else tls
        self._limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=5.0)
        self._idle: dict[str, deque[httpx.AsyncHTTPTransport]] = {}
        self._closed = False

    def take(self, address: str) -> httpx.AsyncHTTPTransport:
        """A transport that nobody else uses: the one that was used last, or a new one."""
        import httpx

        stack = self._idle.get(address)
        if stack:
            return stack.pop()
        return httpx.AsyncHTTPTransport(verify=self._verify, limits=self._limits, trust_env=False)

    async def give(self, address: str, transport: httpx.AsyncHTTPTransport) -> None:
        """Takes it back."""
        stack = self._idle.setdefault(address, deque())
        if self._closed or len(stack) >= IDLE:
            await transport.aclose()
        else:
            stack.append(transport)

    async def sweep(self, known: set[str]) -> None:
        """Closes what is idle at addresses that are not known any more."""
        for address in [address for address in self._idle if address not in known]:
            for transport in self._idle.pop(address):
                await transport.aclose()

    async def close(self) -> None:
        """Closes what is idle now, and the others when they come back."""
        self._closed = True
        await self.sweep(set())


def trusting(ca: str | None) -> Any:
    """A TLS context that verifies, by the authorities in this file or those that httpx trusts. Raises ConfigError."""
    import ssl

    if ca is None:
        from .._extras import need

        return need("httpx", "proxy").create_ssl_context(trust_env=False)
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, TypeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"ca: {ca!r:.200} is not allowed; a file of certificates (PEM): {why}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _plain() -> Any:
    """For http nothing is verified, and no certificates need to be read."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
