"""aibalance decides which server gets the next request, and how many servers there should be."""

from __future__ import annotations

from ._core import __version__
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

__all__ = [
    "AibalanceError",
    "Combined",
    "ConfigError",
    "FormatError",
    "InternalError",
    "LeaseError",
    "MetricError",
    "NoEndpointsError",
    "NoHealthyEndpointError",
    "Observation",
    "OverloadedError",
    "PickError",
    "Recommendation",
    "SimulationError",
    "Step",
    "StepScaling",
    "TargetTracking",
    "__version__",
]
