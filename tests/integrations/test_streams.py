"""200 event streams at once through the proxy and through Envoy: the promises of the transports, kept here too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")

import httpx

from aibalance import LeastRequest, Pool
from tests.unit.integrations import streams

from .envoys import ENVOY, envoy, free_ports

pytestmark = pytest.mark.timeout(120)
Made = tuple[streams.Ask, Callable[[], Awaitable[None]]]


def asking(http: httpx.AsyncClient) -> streams.Ask:
    """A client that knows nothing of endpoints: whatever is tried again is tried again in between."""

    async def ask(outcome: streams.Outcome) -> None:
        request = http.stream(outcome.method, "/v1", headers={"x-id": outcome.id})
        async with request as response:
            if response.status_code != 200:
                await response.aread()
                raise RuntimeError(f"{response.status_code}: {response.text}")
            outcome.answered = True
            async for line in response.aiter_lines():
                outcome.events += line.startswith("data:")
                if outcome.leaves and outcome.events == 3:
                    return

    return ask


def client_of(port: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=streams.DEADLINE, limits=limits, trust_env=False
    )


def test_through_the_proxy() -> None:
    pytest.importorskip("uvicorn")
    from aibalance.integrations.asgi import Fleet, Proxy
    from aibalance.routing import Router, Rule

    from .serving import serving

    async def make(pool: Pool) -> Made:
        stack = contextlib.AsyncExitStack()
        fleet = Fleet(picker=LeastRequest(pool, full_scan=True))
        proxy = Proxy(Router([Rule(location="/", to="f", streaming=True)]), {"f": fleet})
        port = await stack.enter_async_context(serving(proxy))
        http = await stack.enter_async_context(client_of(port))
        return asking(http), stack.aclose

    streams.check(streams.run(make))


@pytest.mark.skipif(ENVOY is None, reason="envoy is not installed (AIBALANCE_ENVOY, or envoy on PATH)")
def test_through_envoy(tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    pytest.importorskip("grpc_health")
    pytest.importorskip("envoy.service.ext_proc", reason="xds-protos is not installed")
    from aibalance.integrations.envoy import EndpointPicker, envoy_config

    told: dict[str, Any] = {}

    async def make(pool: Pool) -> Made:
        listen, admin, epp = free_ports(3)
        stack = contextlib.AsyncExitStack()
        picker = told["picker"] = EndpointPicker(LeastRequest(pool, full_scan=True))
        config = envoy_config(
            pool,
            picker=f"127.0.0.1:{epp}",
            listen=f"127.0.0.1:{listen}",
            admin=f"127.0.0.1:{admin}",
            message_timeout=60,
        )
        await stack.enter_async_context(picker.serving(f"127.0.0.1:{epp}", grace=0.1))
        await stack.enter_async_context(envoy(config, tmp_path))
        http = await stack.enter_async_context(client_of(listen))
        async with asyncio.timeout(10):
            # Until Envoy has found the picker, its fallback answers.
            while picker.stats()["picked"] == 0:
                async with http.stream("GET", "/v1", headers={"x-id": "999"}):
                    pass
        return asking(http), stack.aclose

    streams.check(streams.run(make))
    counts = told["picker"].stats()
    assert counts["picked"] >= streams.STREAMS, "Envoy's fallback has decided some"
    assert counts["lost"] == 0
