"""Who may get work: states, active checks, readiness, graceful shutdown; averages of what is observed."""

from __future__ import annotations

from ._core import Ewma, FlapDamping, HealthState, TimeWeightedEwma, expected_left
from ._health.checker import EndpointHealth, HealthChecker, HealthEvent
from ._health.checks import CheckRule, ProbeResult, check_rules, default_rules
from ._health.probes import GrpcProbe, HttpProbe, Probe, TcpProbe
from ._health.readiness import DrainEstimate, GracefulShutdown, drain_estimate, readiness_app
from ._health.target_group import TargetGroupAttributes, TargetGroupHealth, ZoneHealth

__all__ = [
    "CheckRule",
    "DrainEstimate",
    "EndpointHealth",
    "Ewma",
    "FlapDamping",
    "GracefulShutdown",
    "GrpcProbe",
    "HealthChecker",
    "HealthEvent",
    "HealthState",
    "HttpProbe",
    "Probe",
    "ProbeResult",
    "TargetGroupAttributes",
    "TargetGroupHealth",
    "TcpProbe",
    "TimeWeightedEwma",
    "ZoneHealth",
    "check_rules",
    "default_rules",
    "drain_estimate",
    "expected_left",
    "readiness_app",
]
