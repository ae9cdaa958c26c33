"""Real HTTP servers on loopback that do as they are told, all in one thread with one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aibalance import Pool
from tests.connections import close, hang_up


@dataclass
class Got:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Say:
    """An answer: status, headers, and a body in one piece or in chunks with a pause after each.

    `cut` hangs up after the chunks without the end of the body; `hang_up` without any answer; `wait` seconds before it.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: list[bytes] | None = None
    pause: float = 0.0
    cut: bool = False
    hang_up: bool = False
    wait: float = 0.0


class Backend:
    """One server. `answer(got)` says what to do; `got` are the requests, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Callable[[Got], Say]) -> None:
        self.loop = loop
        self.answer = answer
        self.got: list[Got] = []
        self.open: set[asyncio.StreamWriter] = set()
        self.server: Any = None
        self.address = ""
        self.run(self._start())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def _start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        host, port = self.server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def kill(self) -> None:
        """Closes the door and breaks off what runs."""
        self.run(self._kill())

    async def _kill(self) -> None:
        await close(self.server)
        for writer in list(self.open):
            writer.transport.abort()

    @property
    def ids(self) -> Counter[str]:
        return Counter(got.headers.get("x-id", "") for got in self.got)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            await hang_up(writer)
            self.open.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}
        body = b""
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readline()).strip(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        got = Got(method, path, headers, body)
        self.got.append(got)
        say = self.answer(got)
        if say.wait:
            await asyncio.sleep(say.wait)
        if say.hang_up:
            writer.transport.abort()
            return False
        lines = [f"HTTP/1.1 {say.status} Said", *(f"{name}: {value}" for name, value in say.headers.items())]
        if say.chunks is None:
            writer.write("\r\n".join([*lines, f"content-length: {len(say.body)}", "", ""]).encode() + say.body)
            await writer.drain()
            return True
        writer.write("\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode())
        for chunk in say.chunks:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(say.pause)
        if say.cut:
            writer.transport.abort()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@contextmanager
def backends(*answers: Callable[[Got], Say]) -> Iterator[list[Backend]]:
    """As many servers as there are answers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started: list[Backend] = []
    try:
        started += [Backend(loop, answer) for answer in answers]
        yield started
    finally:
        for one in started:
            one.kill()

        async def rest() -> None:
            # Cancelled before its first step, a connection's task would never come to its end, where it hangs up.
            await asyncio.sleep(0.02)
            for one in started:
                for writer in list(one.open):
                    writer.transport.abort()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            # A connection that was accepted just now ends in a later turn of the loop.
            await asyncio.sleep(0.02)

        asyncio.run_coroutine_threadsafe(rest(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def always(**answer: Any) -> Callable[[Got], Say]:
    """The same answer to everybody."""
    return lambda got: Say(**answer)


def inflight(pool: Pool) -> int:
    return sum(record.inflight for record in pool.stats())


def record(pool: Pool, id: str) -> Any:
    return {one.id: one for one in pool.stats()}[id]


def closed_port() -> str:
    """An address at which nobody listens."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"
