"""A server to stand behind a proxy, in this process: it answers with what it got, streams, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.connections import close, hang_up


class Backend:
    """Raw HTTP/1.1 on a port of its own, so that nothing makes a request nicer than it came.

    GET /sse/N/MS streams N events, one each MS milliseconds; /status/CODE answers with it; /hang never answers; /cut
    breaks off in the middle of an answer; /drop closes without one; all else is echoed as JSON.
    """

    def __init__(self, name: str = "") -> None:
        self.name, self.port, self.seen = name, 0, list[dict[str, Any]]()
        self.streams = 0
        self.left = 0
        self.broken = False  # all is answered with 503
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0, *, ssl: Any = None) -> Backend:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=1 << 20, ssl=ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """As a process that is killed: its port closes, and so do its connections."""
        if self._server is not None:
            await close(self._server)
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            await hang_up(writer)
            self._writers.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in head[1:] if line)]
        named = dict(headers)
        body = b""
        if named.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).split(b";")[0], 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        elif "content-length" in named:
            body = await reader.readexactly(int(named["content-length"]))
        said = {
            "name": self.name,
            "method": method,
            "target": target,
            "headers": headers,
            "body": body.decode("latin-1"),
        }
        self.seen.append(said)
        parts = ["status", "503"] if self.broken else target.strip("/").split("/")
        if "sse" in parts:
            await self._sse(writer, *map(int, parts[parts.index("sse") + 1 :][:2]))
        elif "status" in parts:
            code = parts[parts.index("status") + 1]
            answered = "" if method == "HEAD" else "no"
            writer.write(f"HTTP/1.1 {code} X\r\ncontent-length: 2\r\nretry-after: 7\r\n\r\n{answered}".encode())
        elif parts[-1] == "hang":
            await asyncio.sleep(30)
        elif parts[-1] == "drop":
            writer.transport.abort()
        elif parts[-1] == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
        elif parts[-1] == "big":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 33554432\r\n\r\n")
            for _ in range(512):
                writer.write(b"x" * 65536)
                await writer.drain()
        else:
            answer = json.dumps(said).encode()
            extra = (
                b"connection: keep-alive, x-internal\r\nx-internal: secret\r\nkeep-alive: timeout=5\r\nx-shown: 1\r\n"
            )
            writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n" % (extra, len(answer)))
            if method != "HEAD":
                writer.write(answer)
        await writer.drain()
        return not writer.is_closing()

    async def _sse(self, writer: asyncio.StreamWriter, count: int, pause: int) -> None:
        self.streams += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            for i in range(count):
                event = f"data: {i}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(pause / 1000)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except OSError:
            self.left += 1
            raise
        finally:
            self.streams -= 1


@contextlib.asynccontextmanager
async def backends(count: int) -> AsyncIterator[list[Backend]]:
    running = [await Backend(f"b{i}").start() for i in range(count)]
    try:
        yield running
    finally:
        for one in running:
            await one.stop()
