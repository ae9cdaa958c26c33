"""Ray Serve: a request router that asks our pickers, and an autoscaling policy that asks ours.

Needs `ray[serve]` 2.60 (`pip install aibalance[ray]`) on every node, as aibalance itself. Ray calls its request router
alpha. `aibalance.integrations.ray_serve.RequestRouter` is the router as a class, for import paths; it is made when it
is first asked for, since its base is Ray's."""

from __future__ import annotations

from typing import Any as _Any

from ._ray import AutoscalingPolicy, ReplicaPicker, backoff, request_router

__all__ = ["AutoscalingPolicy", "ReplicaPicker", "backoff", "request_router"]


def __getattr__(name: str) -> _Any:
    if name == "RequestRouter":
        return request_router()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
