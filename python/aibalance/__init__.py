"""aibalance decides which server gets the next request, and how many servers there should be."""

from __future__ import annotations

import os as _os

from ._core import __version__, _after_fork, _before_fork, _reseed_after_fork
from ._errors import (
    AibalanceError,
    ConfigError,
    FormatError,
    InternalError,
    LeaseError,
    MetricError,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    PickError,
    SimulationError,
)
from .autoscaling import Combined, Observation, Recommendation, Step, StepScaling, TargetTracking
from .endpoints import Endpoint, EndpointStats, Latency, ManualClock, Pool, RetryBudget, SystemClock
from .pickers import (
    Candidate,
    CustomPicker,
    Fallback,
    First,
    Hashed,
    IpHash,
    JoinIdleQueue,
    JumpBackHash,
    JumpHash,
    Key,
    Lease,
    LeastConnections,
    LeastRequest,
    Maglev,
    ModuloHash,
    PeakEwma,
    Picker,
    Picks,
    Rendezvous,
    RingHash,
    RoundRobin,
    SourceHash,
    Subset,
    TrafficSplit,
    WeightedRandom,
    envoy_hash,
)

__all__ = [
    "AibalanceError",
    "Candidate",
    "Combined",
    "ConfigError",
    "CustomPicker",
    "Endpoint",
    "EndpointStats",
    "Fallback",
    "First",
    "FormatError",
    "Hashed",
    "InternalError",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "Key",
    "Latency",
    "Lease",
    "LeaseError",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "ManualClock",
    "MetricError",
    "ModuloHash",
    "NoEndpointsError",
    "NoHealthyEndpointError",
    "Observation",
    "OverloadedError",
    "PeakEwma",
    "PickError",
    "Picker",
    "Picks",
    "Pool",
    "Recommendation",
    "Rendezvous",
    "RetryBudget",
    "RingHash",
    "RoundRobin",
    "SimulationError",
    "SourceHash",
    "Step",
    "StepScaling",
    "Subset",
    "SystemClock",
    "TargetTracking",
    "TrafficSplit",
    "WeightedRandom",
    "__version__",
    "envoy_hash",
]

# Pools without a seed of their own draw anew in each process, also after a fork.
if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
    _os.register_at_fork(after_in_child=_reseed_after_fork)
