"""A channel for grpc.aio whose calls go where a picker says (`pip install aibalance[grpc]`)."""

from __future__ import annotations

from ._grpc import BalancedChannel

__all__ = ["BalancedChannel"]
