"""The error tree. Every exception that aibalance raises on purpose is one of these.

AibalanceError
├─ ConfigError(ValueError)          a parameter that cannot be: names the field, the value and what is allowed
│  └─ FormatError                   a file that cannot be read as what it claims to be: names the file and the line
├─ PickError(LookupError)
│  ├─ NoEndpointsError              the pool is empty
│  ├─ NoHealthyEndpointError        endpoints exist, none may get work
│  └─ OverloadedError               every eligible endpoint is full; `retry_after` in seconds, if known
├─ LeaseError(RuntimeError)         a lease used after its release, or an id that is not live
├─ MetricError(ValueError)          a metric that is missing, negative or not finite where it must be
├─ SimulationError                  a simulation that cannot go on
└─ InternalError                    our bug: please report it
"""

from __future__ import annotations

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
]


class AibalanceError(Exception):
    """Base of every exception of aibalance."""


class ConfigError(AibalanceError, ValueError):
    """A parameter that cannot be: the message names the field, the value and what is allowed."""


class FormatError(ConfigError):
    """A file that cannot be read as what it claims to be: the message names the file and the line."""


class PickError(AibalanceError, LookupError):
    """No endpoint could be picked."""


class NoEndpointsError(PickError):
    """The pool is empty."""


class NoHealthyEndpointError(PickError):
    """Endpoints exist, and none of them may get work."""


class OverloadedError(PickError):
    """Every eligible endpoint has as many requests in flight as it may.

    `retry_after` is the time in seconds after which to try again, or None when it is not known.
    """

    retry_after: float | None

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LeaseError(AibalanceError, RuntimeError):
    """A lease that was used after its release, or an id that is not live."""


class MetricError(AibalanceError, ValueError):
    """A metric that cannot be used: missing, negative or not finite where it must be."""


class SimulationError(AibalanceError):
    """A simulation that cannot go on."""


class InternalError(AibalanceError):
    """A bug of aibalance: please report it."""
