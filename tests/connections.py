"""What servers of tests do with their connections."""

from __future__ import annotations

import asyncio


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Closes a connection before its loop ends: one that outlives it is a warning in whatever test runs then."""
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), 1)
    except (TimeoutError, OSError, asyncio.CancelledError):
        writer.transport.abort()
