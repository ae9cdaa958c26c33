"""The public surface is pinned: a name comes or goes only together with this file."""

from __future__ import annotations

import importlib
import types

import pytest

EXPORTED: dict[str, set[str]] = {
    "aibalance": {
        "AibalanceError",
        "ClientSideWeightedRoundRobin",
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
        "JoinIdleQueue",
        "IpHash",
        "JumpBackHash",
        "JumpHash",
        "Key",
        "Latency",
        "Lease",
        "LeaseError",
        "LeastConnections",
        "LeastRequest",
        "LeastTime",
        "Maglev",
        "MementoHash",
        "ManualClock",
        "MetricError",
        "ModuloHash",
        "MultiProbeHash",
        "NoEndpointsError",
        "NoHealthyEndpointError",
        "Observation",
        "OverloadedError",
        "PeakEwma",
        "PickError",
        "Picker",
        "Picks",
        "Pool",
        "Prequal",
        "Recommendation",
        "Rendezvous",
        "RetryBudget",
        "RingHash",
        "RoundRobin",
        "SimulationError",
        "SourceHash",
        "Step",
        "StepScaling",
        "SlowStart",
        "Subset",
        "SystemClock",
        "TargetTracking",
        "TokenBucket",
        "TrafficSplit",
        "WeightedRandom",
        "__version__",
        "envoy_hash",
    },
    "aibalance.autoscaling": {
        "Clock",
        "Combined",
        "ForecastScaling",
        "OutageGuard",
        "ProportionalScaling",
        "QueueScaling",
        "KedaScaledObject",
        "KnativePodAutoscaler",
        "Observation",
        "Policy",
        "Recommendation",
        "Step",
        "StepScaling",
        "TargetTracking",
        "effective_warmup",
        "round_percent_change",
        "Behavior",
        "ExternalMetric",
        "HorizontalPodAutoscaler",
        "ObjectMetric",
        "Pods",
        "PodsMetric",
        "ResourceMetric",
        "ScalingPolicy",
        "ScalingRules",
        "warm_metric",
    },
    "aibalance.capacity": {
        "CapacityChance",
        "CostModel",
        "Mix",
        "PooledCapacity",
        "PriceList",
        "billed_seconds",
    },
    "aibalance.routing": {
        "Decision",
        "DnsPolicy",
        "DnsRecord",
        "Place",
        "Reading",
        "Request",
        "Route",
        "Router",
        "Rule",
        "Sticky",
        "StickyCookie",
        "StickyHeader",
        "StickyLease",
        "StickyTable",
        "Timeouts",
    },
    "aibalance.health": {
        "CheckRule",
        "Ewma",
        "TimeWeightedEwma",
        "DrainEstimate",
        "EndpointHealth",
        "FlapDamping",
        "GracefulShutdown",
        "GrpcProbe",
        "HealthChecker",
        "HealthEvent",
        "HealthState",
        "HttpProbe",
        "Probe",
        "ProbeResult",
        "TargetGroupHealth",
        "TcpProbe",
        "ZoneHealth",
        "check_rules",
        "default_rules",
        "drain_estimate",
        "expected_left",
        "readiness_app",
    },
    "aibalance.testing": {
        "Event",
        "Fault",
        "PickerCheckError",
        "PickerReport",
        "Request",
        "Script",
        "check_picker",
        "check_policy",
        "LoadPoint",
        "PolicyCheckError",
        "PolicyReport",
        "loads",
        "claims_of",
        "endpoints",
        "keys",
        "run_script",
        "scripts",
        "traffic",
    },
}


@pytest.mark.parametrize("name", EXPORTED)
def test_all_is_pinned_and_equal_to_what_is_visible(name: str) -> None:
    module = importlib.import_module(name)
    assert set(module.__all__) == EXPORTED[name]
    assert len(module.__all__) == len(set(module.__all__))
    assert list(module.__all__) == sorted(module.__all__)
    visible = {
        n
        for n, value in vars(module).items()
        if not n.startswith("_") and not isinstance(value, types.ModuleType) and n != "annotations"
    }
    assert visible == {n for n in EXPORTED[name] if not n.startswith("_")}
    for n in EXPORTED[name]:
        assert hasattr(module, n)


def test_the_version_is_one() -> None:
    from importlib.metadata import version

    import aibalance

    assert aibalance.__version__ == version("aibalance")
