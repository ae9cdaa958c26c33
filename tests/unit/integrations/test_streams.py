"""Many streams at once, through the transport."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aibalance import LeastRequest, Pool
from aibalance.integrations.aiohttp import middleware
from aibalance.integrations.httpx import async_transport

from . import streams


@pytest.mark.parametrize("module", ["httpx", "httpx2"])
def test_through_the_transport(module: str) -> None:
    client = pytest.importorskip(module)

    async def make(pool: Pool) -> tuple[streams.Ask, Callable[[], Awaitable[None]]]:
        picker = LeastRequest(pool, full_scan=True)
        http = client.AsyncClient(transport=async_transport(picker, module=client), timeout=streams.DEADLINE)

        async def ask(outcome: streams.Outcome) -> None:
            request: Any = http.stream(outcome.method, "http://models/v1", headers={"x-id": outcome.id})
            async with request as response:
                outcome.answered = True
                async for line in response.aiter_lines():
                    outcome.events += line.startswith("data:")
                    if outcome.leaves and outcome.events == 3:
                        return

        return ask, http.aclose

    result = streams.run(make)
    streams.check(result)
    errors = sum(1 for o in result.outcomes if o.error)
    print(f"{module}: leases at zero after {result.zero_after * 1000:.0f} ms, {errors} of {streams.STREAMS} broken off")


def test_through_the_middleware() -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def make(pool: Pool) -> tuple[streams.Ask, Callable[[], Awaitable[None]]]:
        balanced = middleware(LeastRequest(pool, full_scan=True))
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(connector=connector, middlewares=(balanced,))

        async def ask(outcome: streams.Outcome) -> None:
            headers = {"x-id": outcome.id}
            async with session.request(outcome.method, "http://models/v1", headers=headers) as response:
                outcome.answered = True
                async for line in response.content:
                    outcome.events += line.startswith(b"data:")
                    if outcome.leaves and outcome.events == 3:
                        return

        return ask, session.close

    streams.check(streams.run(make))
