"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._core import (
    Hashed,
    Lease,
    LeastRequest,
    Maglev,
    PeakEwma,
    Picks,
    RingHash,
    RoundRobin,
    _picks,
    envoy_hash,
)

__all__ = ["Hashed", "Lease", "LeastRequest", "Maglev", "PeakEwma", "Picks", "RingHash", "RoundRobin", "envoy_hash"]

_ = _picks
