"""Endpoints, pools, clocks and latency estimates."""

from __future__ import annotations

import asyncio

from ._core import (
    ActiveRetryBudget,
    AdaptiveConcurrency,
    Endpoint,
    EndpointStats,
    Latency,
    ManualClock,
    Pool,
    RetryBudget,
    SlowStart,
    SystemClock,
    TokenBucket,
    dynamic_limit,
)

__all__ = [
    "ActiveRetryBudget",
    "AdaptiveConcurrency",
    "Endpoint",
    "EndpointStats",
    "Latency",
    "ManualClock",
    "Pool",
    "RetryBudget",
    "SlowStart",
    "SystemClock",
    "TokenBucket",
    "dynamic_limit",
]


async def _wait_until_drained(pool: Pool, id: str) -> None:
    # A release may come from any thread, and must not pay for a wake-up: a drain takes seconds, so looking is enough.
    pause = 0.001
    while not pool.is_drained(id):
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)
