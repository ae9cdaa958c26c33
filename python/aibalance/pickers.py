"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._core import (
    First,
    Hashed,
    Lease,
    LeastConnections,
    LeastRequest,
    Maglev,
    PeakEwma,
    Picks,
    RingHash,
    RoundRobin,
    _picks,
    envoy_hash,
)

__all__ = [
    "First",
    "Hashed",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "PeakEwma",
    "Picks",
    "RingHash",
    "RoundRobin",
    "envoy_hash",
]

_ = _picks
