"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._core import (
    First,
    Hashed,
    IpHash,
    JoinIdleQueue,
    JumpBackHash,
    JumpHash,
    Lease,
    LeastConnections,
    LeastRequest,
    Maglev,
    ModuloHash,
    PeakEwma,
    Picks,
    Rendezvous,
    RingHash,
    RoundRobin,
    SourceHash,
    WeightedRandom,
    envoy_hash,
)

__all__ = [
    "First",
    "Hashed",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "ModuloHash",
    "PeakEwma",
    "Picks",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SourceHash",
    "WeightedRandom",
    "envoy_hash",
]
