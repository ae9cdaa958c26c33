"""Connections to endpoints: a stack of idle ones for each address."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

IDLE = 256


class Upstream:
    """Transports of one connection each.

    httpcore's own pool looks at all of its connections for each request, and for each of them at all others: at 32
    requests in flight that is most of a proxy's time. Whether an idle connection still lives is left to httpcore.
    """

    def __init__(self, scheme: str) -> None:
        import httpx

        # Made once: loading the certificates takes longer than a request.
        self._verify: Any = httpx.create_ssl_context(trust_env=False) if scheme == "https" else _plain()
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


def _plain() -> Any:
    """For http nothing is verified, and no certificates need to be read."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
