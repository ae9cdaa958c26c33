"""Pickers: which endpoint gets the next request."""

from __future__ import annotations

from ._compose import Fallback, Subset, TrafficSplit
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
from ._custom import Candidate, CustomPicker
from ._picker import Key, Picker

__all__ = [
    "Candidate",
    "CustomPicker",
    "Fallback",
    "First",
    "Hashed",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "Key",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "ModuloHash",
    "PeakEwma",
    "Picker",
    "Picks",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SourceHash",
    "Subset",
    "TrafficSplit",
    "WeightedRandom",
    "envoy_hash",
]
