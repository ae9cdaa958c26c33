"""A real Envoy, started by a test: the binary that AIBALANCE_ENVOY names, or `envoy` on the PATH."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ENVOY = os.environ.get("AIBALANCE_ENVOY") or shutil.which("envoy")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.asynccontextmanager
async def envoy(config: dict[str, Any], folder: Path) -> AsyncIterator[None]:
    """Runs it with this bootstrap, which must have an admin; ready when its admin says so."""
    import httpx

    assert ENVOY is not None
    file = folder / "envoy.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    log = (folder / "envoy.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        ENVOY,
        *("-c", str(file), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"),
        stdout=log,
        stderr=log,
    )
    admin = config["admin"]["address"]["socket_address"]["port_value"]
    try:
        async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as http:
            while True:
                assert process.returncode is None, (folder / "envoy.log").read_text(encoding="utf-8")[-3000:]
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{admin}/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()
