"""A user's program on the integrations: mypy reads it in strict mode. Nothing runs it."""

from __future__ import annotations

from typing import assert_type

import httpx

from aibalance import LeastRequest, Pool, TargetTracking
from aibalance.integrations.discovery import Discovery, FileSource
from aibalance.integrations.httpx import async_transport, transport
from aibalance.integrations.prometheus import AibalanceCollector, WatchedPolicy
from aibalance.integrations.signals import SignalPoller, Signals

pool = Pool(["10.0.0.1:80"])
picker = LeastRequest(pool)
assert_type(transport(picker, key=lambda request: request.headers.get("x-user")), httpx.BaseTransport)
client = httpx.AsyncClient(transport=async_transport(picker, cost=lambda request: 2.0, retries=2))
watched = WatchedPolicy(TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=9))
collector = AibalanceCollector(pools={"web": pool}, pickers={"web": picker}, policies={"web": watched})


async def serve() -> None:
    async with Discovery(pool, FileSource("endpoints.json"), interval=1.0), SignalPoller(pool) as poller:
        assert_type(await poller.poll_once(), dict[str, Signals])
