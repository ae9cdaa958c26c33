"""`check_policy` on the policies of the clouds, on filters, and on policies inside others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aibalance.autoscaling import (
    AibrixApa,
    AzureAutoscale,
    AzureRule,
    CloudRun,
    FlappingGuard,
    GroupSignal,
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    ManagedInstanceGroup,
    PodsMetric,
    PredictiveScaling,
    ProportionalScaling,
    RayServeAutoscaler,
    ScaleInControl,
    ScaleInLimit,
    ScaleOutThreshold,
    ScheduledAction,
    ScheduledScaling,
    SimpleScaling,
    StabilizationWindow,
    Tolerance,
)
from aibalance.autoscaling.keda import Trigger
from aibalance.testing import check_policy


def plain(**options: Any) -> ProportionalScaling:
    return ProportionalScaling(**{"metric": "m", "target": 50, "max_capacity": 40, **options})


def simple() -> SimpleScaling:
    return SimpleScaling(metric="m", threshold=60, adjustment=2, max_capacity=40, alarm=None)


def scheduled() -> ScheduledScaling:
    pytest.importorskip("cronsim", reason="needs the extra aibalance[schedules]")
    nightly = ScheduledAction(name="night", recurrence="0 * * * *", min_capacity=3)
    return ScheduledScaling(actions=[nightly], max_capacity=40)


def predictive() -> PredictiveScaling:
    policy = PredictiveScaling(mode="forecast_and_scale", max_capacity=40)
    policy.set_forecast([6, 10, 8], start=0.0)
    return policy


def azure() -> AzureAutoscale:
    rules = [
        AzureRule(direction="out", metric="m", op=">=", threshold=60, by=2, cooldown=60),
        AzureRule(direction="in", metric="m", op="<=", threshold=30, cooldown=60),
    ]
    return AzureAutoscale(rules=rules, max_capacity=40)


def hpa() -> HorizontalPodAutoscaler:
    return HorizontalPodAutoscaler(max_replicas=40, metrics=[PodsMetric("m", average_value=50)])


def run() -> CloudRun:
    return CloudRun(max_concurrency=100, concurrency_target=0.5, metric="m", max_instances=40, min_instances=1)


POLICIES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "SimpleScaling": (simple, {"tolerance": None}),
    "ScheduledScaling": (scheduled, {"tolerance": None}),
    "PredictiveScaling": (predictive, {"tolerance": None}),
    "RayServeAutoscaler": (
        lambda: RayServeAutoscaler(target_ongoing_requests=50, max_replicas=40, min_replicas=0, metric="m"),
        {"metric_type": "total"},
    ),
    "ManagedInstanceGroup": (lambda: ManagedInstanceGroup(signals=[GroupSignal("m", 50)], max_replicas=40), {}),
    "AzureAutoscale": (azure, {"tolerance": 0.1}),
    "CloudRun": (run, {"metric_type": "total", "bounds": (1, 40)}),
    "AibrixApa": (lambda: AibrixApa(metric="m", target=50, max_replicas=40), {"tolerance": 0.1}),
    "KedaAutoscaler": (
        lambda: KedaAutoscaler(KedaScaledObject(triggers=[Trigger(name="m", threshold=50)], max_replicas=40)),
        {"tolerance": 0.1, "metric_type": "total"},
    ),
    "StabilizationWindow": (lambda: StabilizationWindow(plain(), scale_in=180.0), {"bounds": (1, 40)}),
    "StabilizationWindow, both": (
        lambda: StabilizationWindow(plain(), scale_in=180.0, scale_out=60.0),
        {"bounds": (1, 40)},
    ),
    "ScaleInControl": (lambda: ScaleInControl(plain(), ScaleInLimit(3)), {"bounds": (1, 40)}),
    "FlappingGuard": (
        lambda: FlappingGuard(plain(), [ScaleOutThreshold("m", 50, ">")]),
        {"bounds": (1, 40)},
    ),
    # Its tolerance is of the count, not of the metric.
    "Tolerance": (lambda: Tolerance(plain()), {"bounds": (1, 40)}),
    "Tolerance over HorizontalPodAutoscaler": (lambda: Tolerance(hpa()), {"bounds": (1, 40), "tolerance": 0.1}),
}


@pytest.mark.parametrize("name", POLICIES)
def test_they_behave(name: str) -> None:
    make, options = POLICIES[name]
    report = check_policy(make, metric="m", target=50, examples=15, **options)
    assert {"bounds", "monotone", "flapping", "restore"} <= set(report.properties)
    assert report.decisions > 1000


@pytest.mark.parametrize("name", POLICIES)
def test_they_say_why(name: str) -> None:
    policy = POLICIES[name][0]()
    for minute, value in enumerate([50.0, 500.0, None, 5.0, 5.0]):
        r = policy.recommend({"current": 4, "desired": 4, "metrics": {"m": value}}, now=60.0 * minute)
        assert r.reason
        stages = dict(r.trace)
        assert stages["desired"] == r.desired
        assert len(stages) >= 3
