"""What servers of tests do with their connections."""

from __future__ import annotations

import asyncio
import socket


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes a connection before its loop ends: one that outlives it is a warning in whatever test runs then."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), 1)
    except (TimeoutError, OSError, asyncio.CancelledError):
        writer.transport.abort()


async def close(server: asyncio.Server) -> None:
    """Closes a server between two connections: CPython 3.11 leaks one that it has accepted but not yet attached."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    for _ in range(3):
        await asyncio.sleep(0)
    server.close()


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
