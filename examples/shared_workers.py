"""Four uvicorn workers in front of slow backends, with a pool each and with one for all.

    python examples/shared_workers.py

Requests come in waves. Each takes a backend by least connections and stays until all of its wave have come. What counts
is how many requests each backend has at once: with a pool in each worker some have three or four more than others, with
a shared one nobody has two more than another. Needs uvicorn and httpx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

BACKENDS = 8
WORKERS = 4
SECONDS = 2.0
WAVE = 36

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def _picker() -> Any:
    from aibalance import LeastConnections, Pool

    addresses = [f"backend-{i}" for i in range(BACKENDS)]
    return LeastConnections(Pool(addresses, shared=os.environ.get("SHARED") or None))


async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """The application of each worker: answers which backend had the request, and from when until when."""
    if scope["type"] != "http":
        return
    if "picker" not in globals():
        globals()["picker"] = _picker()
    async with globals()["picker"].acquire() as lease:
        begin = time.monotonic()
        await asyncio.sleep(SECONDS)
        end = time.monotonic()
    body = json.dumps([lease.endpoint.id, begin, end, os.getpid()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def _load(port: int, waves: int) -> list[tuple[str, float, float, int]]:
    import httpx

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        for _ in range(200):
            try:
                await client.get(f"http://127.0.0.1:{port}/")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)

        async def one(i: int) -> tuple[str, float, float, int]:
            await asyncio.sleep(i * SECONDS / 4 / WAVE)
            backend, begin, end, worker = (await client.get(f"http://127.0.0.1:{port}/")).json()
            return backend, begin, end, worker

        served: list[tuple[str, float, float, int]] = []
        for _ in range(waves):
            served += await asyncio.gather(*(one(i) for i in range(WAVE)))
        return served


def spread(served: list[tuple[str, float, float, int]]) -> tuple[int, dict[str, int]]:
    """The largest difference between backends in requests at once as one more comes, and the most of each at once."""
    events = sorted([(begin, 1, b) for b, begin, _, _ in served] + [(end, -1, b) for b, _, end, _ in served])
    now = {f"backend-{i}": 0 for i in range(BACKENDS)}
    most, worst = dict(now), 0
    for _, change, backend in events:
        now[backend] += change
        most[backend] = max(most[backend], now[backend])
        if change > 0:
            worst = max(worst, max(now.values()) - min(now.values()))
    return worst, most


def measure(shared: str | None, waves: int) -> tuple[int, dict[str, int], int]:
    """Runs the server and loads it: the spread, the most of each backend, and how many workers answered."""
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "shared_workers:app", "--workers", str(WORKERS), "--port", str(port)]
    here = os.path.dirname(os.path.abspath(__file__))
    environment = {**os.environ, "SHARED": shared or "", "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    server = subprocess.Popen([*command, "--log-level", "warning"], cwd=here, env=environment)
    try:
        served = asyncio.run(_load(port, waves))
    finally:
        server.terminate()
        server.wait()
    return *spread(served), len({worker for *_, worker in served})


def main() -> None:
    """Measures both and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--waves", type=int, default=5)
    waves = parser.parse_args().waves
    name = f"example-{os.getpid()}"
    for title, shared in (("a pool in each worker", None), ("one pool for all", name)):
        worst, most, workers = measure(shared, waves)
        print(f"{title} ({workers} workers): up to {worst} requests at once more on one backend than on another")
        print("  most at once:", ", ".join(f"{backend} {n}" for backend, n in most.items()))
    from aibalance import Pool

    Pool.unlink(name)


if __name__ == "__main__":
    main()
