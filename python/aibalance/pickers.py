"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._core import (
    First,
    Hashed,
    JoinIdleQueue,
    Lease,
    LeastConnections,
    LeastRequest,
    Maglev,
    PeakEwma,
    Picks,
    RingHash,
    RoundRobin,
    WeightedRandom,
    _picks,
    envoy_hash,
)

__all__ = [
    "First",
    "Hashed",
    "JoinIdleQueue",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "PeakEwma",
    "Picks",
    "RingHash",
    "RoundRobin",
    "WeightedRandom",
    "envoy_hash",
]

_ = _picks
