"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._core import (
    Hashed,
    IpHash,
    JumpBackHash,
    JumpHash,
    Lease,
    LeastRequest,
    Maglev,
    ModuloHash,
    PeakEwma,
    Picks,
    Rendezvous,
    RingHash,
    RoundRobin,
    SourceHash,
    _picks,
    envoy_hash,
)

__all__ = [
    "Hashed",
    "IpHash",
    "JumpBackHash",
    "JumpHash",
    "Lease",
    "LeastRequest",
    "Maglev",
    "ModuloHash",
    "PeakEwma",
    "Picks",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SourceHash",
    "envoy_hash",
]

_ = _picks
