"""Slow servers and open-loop clients on loopback, for the benches that hold the simulator against something real.

A server has `slots`; a request that finds none free waits, first come first served. How long one takes is what its path
says, `/0.153` for 153 ms, slept and not computed, so that the processor is never what one waits for. The answer says
how long it really took, from the slot to the end.

    python -m benches.loopback PORT... [--slots 2]      servers on these ports, until its standard input ends
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Server:
    """One server: its slots, and how many requests it has."""

    slots: int = 2
    present: int = 0
    busy_s: float = 0.0
    gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.gate = asyncio.Semaphore(self.slots)

    async def work(self, seconds: float) -> float:
        """Waits for a slot, takes `seconds`, and says how long it took in truth."""
        loop = asyncio.get_running_loop()
        async with self.gate:
            began = loop.time()
            await asyncio.sleep(seconds)
            took = loop.time() - began
        self.busy_s += took
        return took

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other (HTTP/1.0, and 1.1 with keep-alive)."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _, path, version = head.split(b"\r\n", 1)[0].split()
                self.present += 1
                try:
                    took = await self.work(float(path.lstrip(b"/") or b"0"))
                finally:
                    self.present -= 1
                keep = version == b"http/1.1" and b"connection: close" not in head
                body = f"{took:.6f}".encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-took: %s\r\n%s\r\n%s"
                    % (len(body), body, b"" if keep else b"connection: close\r\n", body)
                )
                await writer.drain()
                if not keep:
                    break
        writer.close()


async def serve(ports: list[int], slots: int) -> None:
    """Servers on these ports, until standard input ends."""
    for port in ports:
        await asyncio.start_server(Server(slots).connection, "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def start(ports: list[int], slots: int) -> subprocess.Popen[str]:
    """A process with servers on these ports, once they listen; closing its `stdin` ends it."""
    command = [sys.executable, "-m", "benches.loopback", *map(str, ports), "--slots", str(slots)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{' '.join(command)}: did not start")
    return process


def free_ports(n: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    held = [socket.socket() for _ in range(n)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


async def ask(port: int, seconds: float) -> tuple[float, float]:
    """One request over a connection of its own: seconds until the answer was complete, and what the server says."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /%.6f HTTP/1.1\r\nhost: loopback\r\nconnection: close\r\n\r\n" % seconds)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        took = loop.time() - began
    finally:
        writer.close()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise RuntimeError(f"port {port}: {head.splitlines()[0]!r}")
    # A proxy may send the body in chunks; the number is the line with a point in it.
    return took, float(next(line for line in body.splitlines() if b"." in line))


@dataclass(frozen=True)
class Measured:
    """What an open loop saw, a value a request: when it was sent (s), how late, how long until the answer, its work."""

    sent: np.ndarray[Any, np.dtype[np.float64]]
    late: np.ndarray[Any, np.dtype[np.float64]]
    latency: np.ndarray[Any, np.dtype[np.float64]]
    work: np.ndarray[Any, np.dtype[np.float64]]


async def open_loop(arrivals: Any, work: Any, send: Any) -> Measured:
    """Sends request i at `arrivals[i]` whatever became of the others; `send(seconds)` is `ask` or like it."""
    loop = asyncio.get_running_loop()
    base = loop.time() + 0.5
    sent, late = np.zeros(len(arrivals)), np.zeros(len(arrivals))
    tasks = []
    for i, (at, seconds) in enumerate(zip(arrivals, work, strict=True)):
        wait = base + at - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        sent[i] = loop.time() - base
        late[i] = sent[i] - at
        tasks.append(asyncio.create_task(send(float(seconds))))
    answers = np.array(await asyncio.gather(*tasks))
    return Measured(sent, late, answers[:, 0], answers[:, 1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--slots", type=int, default=2)
    given = parser.parse_args()
    asyncio.run(serve(given.ports, given.slots))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
