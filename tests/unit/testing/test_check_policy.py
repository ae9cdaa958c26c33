"""`check_policy` finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aibalance import AibalanceError, ConfigError
from aibalance.autoscaling import (
    Combined,
    ForecastScaling,
    HorizontalPodAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    OutageGuard,
    PodsMetric,
    ProportionalScaling,
    QueueScaling,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.autoscaling.keda import Trigger
from aibalance.testing import PolicyCheckError, check_policy

DIRECT: dict[str, Any] = {"high_alarm": None, "low_alarm": None, "max_capacity": 40}


def tracking(**options: Any) -> Callable[[], Any]:
    return lambda: TargetTracking(**{"metric": "m", "target": 50, "max_capacity": 40, **options})


def steps(**options: Any) -> StepScaling:
    up = [Step(lower=0, upper=20, adjustment=1), Step(lower=20, adjustment=3)]
    return StepScaling(metric="m", threshold=60, steps=up, max_capacity=40, **options)


def knative(policy: Any, current: int, value: float | None, now: float) -> Any:
    for i in range(60):
        if value is not None:
            policy.record("concurrency", value, at=now + i)
    return policy.recommend({"current": current, "desired": current}, now=now + 60)


def proportional(**options: Any) -> Callable[[], Any]:
    return lambda: ProportionalScaling(**{"metric": "m", "target": 50, "max_capacity": 40, **options})


def forecast(**options: Any) -> ForecastScaling:
    fields: dict[str, Any] = {
        "metric": "m",
        "target": 50,
        "max_capacity": 40,
        "cold_start": 60,
        "buffer": 0,
        "seasons": (240,),
        "history": 1200,
        "refit": 600,
    }
    return ForecastScaling(**{**fields, **options})


OURS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "TargetTracking": (tracking(), {}),
    "TargetTracking, no alarms": (tracking(**DIRECT), {}),
    "TargetTracking, to zero and back": (tracking(**DIRECT, min_capacity=0, scale_from_zero=True), {}),
    "TargetTracking, cooldowns": (
        tracking(**DIRECT, scale_out_cooldown=120, scale_in_cooldown=300, warmup=90),
        {"tolerance": 0.0},
    ),
    "StepScaling": (steps, {"tolerance": None}),
    "StepScaling, alarm": (lambda: steps(alarm=(2, 3), cooldown=180), {"tolerance": None}),
    "Combined": (lambda: Combined([tracking(**DIRECT)(), steps()]), {"bounds": (1, 40)}),
    "HorizontalPodAutoscaler": (
        lambda: HorizontalPodAutoscaler(max_replicas=40, metrics=[PodsMetric("m", average_value=50)]),
        {"tolerance": 0.1},
    ),
    "KedaScaledObject": (
        lambda: KedaScaledObject(triggers=[Trigger(name="m", threshold=50)], max_replicas=40, min_replicas=0),
        {"tolerance": None, "metric_type": "total"},
    ),
    "KnativePodAutoscaler": (
        lambda: KnativePodAutoscaler(target=50, target_utilization=1.0, max_scale=40, target_burst_capacity=0),
        {"tolerance": None, "metric_type": "total", "ask": knative},
    ),
    "ProportionalScaling": (proportional(tolerance=0.1), {"tolerance": 0.1}),
    "ProportionalScaling, total": (
        proportional(metric_type="total", min_capacity=0),
        {"metric_type": "total"},
    ),
    "ProportionalScaling, filters": (
        proportional(stabilization=300, growth_factor=2, growth_step=4, shrink_share=0.5, cooldown=60),
        {},
    ),
    "QueueScaling": (
        lambda: QueueScaling(metric="m", steps=[(0, 20, -1), (80, 200, 1), (200, None, 3)], max_capacity=40),
        {"tolerance": 0.1},
    ),
    "ForecastScaling": (forecast, {"tolerance": None, "metric_type": "total"}),
    "ForecastScaling, reactive": (
        lambda: forecast(reactive=proportional(metric_type="total")()),
        {"tolerance": None, "metric_type": "total"},
    ),
    "OutageGuard": (
        lambda: OutageGuard(policy=proportional(metric_type="total")(), metric="m"),
        {"bounds": (1, 40), "metric_type": "total"},
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_ours_behave(name: str) -> None:
    make, options = OURS[name]
    report = check_policy(make, metric="m", target=50, examples=25, **options)
    assert {"bounds", "monotone", "flapping", "restore"} <= set(report.properties)
    assert report.decisions > 1000


class Plain:
    """A small policy that behaves; the ones below have one fault each."""

    min_capacity, max_capacity = 0, 20

    def __init__(self) -> None:
        self.high = 0.0

    def need(self, current: int, value: float) -> int:
        if abs(value / 50 - 1) <= 0.1 and current:
            return current
        return max(math.ceil(current * value / 50), 1 if value else 0)

    def bounded(self, wanted: int) -> int:
        return min(max(wanted, self.min_capacity), self.max_capacity)

    def recommend(self, observation: Mapping[str, Any], /, *, now: float | None = None) -> Any:
        current, value = observation["current"], observation["metrics"]["m"]
        wanted = current if value is None else self.need(current, value)
        answer = type("Answer", (), {})()
        answer.desired, answer.limited_by = self.bounded(wanted), None
        return answer

    def record(self, name: str, value: float | None, *, at: float) -> None: ...
    def rejected(self, recommendation: Any) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"high": self.high}

    def restore(self, state: dict[str, Any]) -> None:
        self.high = state["high"]


class AboveMax(Plain):
    def bounded(self, wanted: int) -> int:
        return max(wanted, self.min_capacity)


class Restless(Plain):
    def need(self, current: int, value: float) -> int:
        return max(math.ceil(current * value / 50), 1 if value else 0)


class NotMonotone(Plain):
    def need(self, current: int, value: float) -> int:
        return current if value > 200 else super().need(current, value)


class Flapping(Plain):
    # Rounds up on the way up and takes one more away on the way down.
    def need(self, current: int, value: float) -> int:
        need = super().need(current, value)
        return need - 1 if need == current and need > 1 and abs(value / 50 - 1) > 0.1 else need


class Forgetful(Plain):
    """Goes down only slowly, and forgets where it was."""

    def need(self, current: int, value: float) -> int:
        self.high = max(self.high * 0.8, super().need(current, value))
        return math.ceil(self.high)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


class StuckAtZero(Plain):
    def need(self, current: int, value: float) -> int:
        return current if current and abs(value / 50 - 1) <= 0.1 else math.ceil(current * value / 50)


class Raising(Plain):
    def need(self, current: int, value: float) -> int:
        return super().need(current, value) // (0 if value > 1e6 else 1)


def found(make: Callable[[], Any], **options: Any) -> set[str]:
    with pytest.raises(PolicyCheckError) as caught:
        check_policy(make, metric="m", target=50, tolerance=0.1, examples=25, **options)
    assert all(str(fault) for fault in caught.value.faults)
    assert type(make()).__name__ in str(caught.value)
    return {fault.property for fault in caught.value.faults}


def test_the_plain_one_behaves() -> None:
    report = check_policy(Plain, metric="m", target=50, tolerance=0.1, examples=25)
    assert set(report.properties) == {"bounds", "tolerance", "monotone", "flapping", "restore", "zero"}


@pytest.mark.parametrize(
    ("make", "property"),
    [
        (AboveMax, "bounds"),
        (Restless, "tolerance"),
        (NotMonotone, "monotone"),
        (Flapping, "flapping"),
        (Forgetful, "restore"),
        (StuckAtZero, "zero"),
        (Raising, "errors"),
    ],
)
def test_planted_faults_are_found(make: Callable[[], Any], property: str) -> None:
    assert property in found(make)


def test_a_documented_fault_of_target_tracking_is_found() -> None:
    """AWS multiplies: without `scale_from_zero` nothing comes from nothing."""
    with pytest.raises(PolicyCheckError) as caught:
        check_policy(tracking(**DIRECT, min_capacity=0), metric="m", target=50, examples=5)
    assert {fault.property for fault in caught.value.faults} == {"zero"}


def test_what_is_no_policy() -> None:
    with pytest.raises(PolicyCheckError, match="protocol"):
        check_policy(lambda: object(), metric="m", target=50)
    assert issubclass(PolicyCheckError, AibalanceError)
    assert issubclass(PolicyCheckError, AssertionError)


@pytest.mark.parametrize(
    "options",
    [{"target": 0}, {"target": 50, "tolerance": 1}, {"target": 50, "metric_type": "sum"}, {"target": 50, "rounds": 0}],
)
def test_arguments_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        check_policy(Plain, metric="m", **options)


def test_bounds_that_nobody_says() -> None:
    class Boundless(Plain):
        max_capacity = None  # type: ignore[assignment]

        def bounded(self, wanted: int) -> int:
            return max(0, min(wanted, 20))

    with pytest.raises(ConfigError, match="bounds"):
        check_policy(Boundless, metric="m", target=50)
    assert check_policy(Boundless, metric="m", target=50, tolerance=0.1, bounds=(0, 20), examples=5).decisions
