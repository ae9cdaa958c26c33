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

__all__ = [
    "AibalanceError",
    "ConfigError",
    "FormatError",
    "InternalError",
    "LeaseError",
    "MetricError",
    "NoEndpointsError",
    "NoHealthyEndpointError",
    "OverloadedError",
    "PickError",
    "SimulationError",
    "__version__",
]
