"""Warnings: each rule is said where it holds, and not beside it."""

from __future__ import annotations

from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.autoscaling import (
    AibrixApa,
    AiScaling,
    Behavior,
    CloudRun,
    Combined,
    ExternalMetric,
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    KvCacheUsage,
    OutageGuard,
    PodsMetric,
    PolicyWarning,
    ProportionalScaling,
    QueueLength,
    QueueScaling,
    RayServeAutoscaler,
    ResourceMetric,
    ScalingRules,
    StabilizationWindow,
    Step,
    StepScaling,
    TargetTracking,
    Tolerance,
    check,
)
from aibalance.autoscaling._aims import aims, bounds, windows
from aibalance.autoscaling.keda import Trigger
from aibalance.capacity import MixedInstancesPolicy, WarmPool

QUIET: dict[str, Any] = {"high_alarm": None, "low_alarm": None}


def tracking(**options: Any) -> TargetTracking:
    return TargetTracking(**{"metric": "cpu", "target": 50, "max_capacity": 9, **QUIET, **options})


def hpa(**options: Any) -> HorizontalPodAutoscaler:
    return HorizontalPodAutoscaler(**{"max_replicas": 30, "metrics": [PodsMetric("queue", average_value=5)], **options})


def keda(**options: Any) -> KedaScaledObject:
    return KedaScaledObject(**{"triggers": [Trigger(name="queue", threshold=10)], "max_replicas": 20, **options})


def rules(policy: Any, **options: Any) -> list[str]:
    return [one.rule for one in check(policy, **options)]


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert check(tracking(), current=4, cold_start=120.0, saturation=100.0) == []


@pytest.mark.parametrize(
    ("policy", "current", "said"),
    [
        (hpa(), 9, False),
        (hpa(), 10, True),
        (hpa(tolerance="200m"), 5, True),
        (hpa(tolerance=0), 1000, False),
        (hpa(behavior=Behavior(scale_up=ScalingRules(tolerance="0.01"))), 99, False),
        (hpa(behavior=Behavior(scale_up=ScalingRules(tolerance="0.01"))), 100, True),
        (Tolerance(tracking(), scale_out=0.25), 3, False),
        (Tolerance(tracking(), scale_out=0.25), 4, True),
        (AibrixApa(metric="m", target=1, max_replicas=20, up_tolerance=0.5), 2, True),
    ],
)
def test_a_tolerance_that_swallows_a_step_at_this_size(policy: Any, current: int, said: bool) -> None:
    assert ("tolerance_swallows_step" in rules(policy, current=current)) is said


def test_the_swallowed_step_is_really_swallowed() -> None:
    """At ten pods a need of eleven is left alone, at nine a need of ten is not."""
    for current, queue, desired in ((10, 5.5, 10), (9, 5.55, 10)):
        assert hpa().recommend({"current": current, "metrics": {"queue": queue}}, now=0.0).desired == desired


def test_the_upper_bound_counts_where_no_size_is_said() -> None:
    assert rules(hpa()) == ["tolerance_swallows_step"]
    assert rules(hpa(max_replicas=9)) == []


@pytest.mark.parametrize(
    ("policy", "wait"),
    [
        (hpa(behavior=Behavior(scale_up=ScalingRules(stabilization_window=60))), 60.0),
        (tracking(high_alarm=(3, 3)), 180.0),
        (
            StepScaling(metric="m", threshold=1, steps=[Step(lower=0, adjustment=1)], max_capacity=9, alarm=(2, 3)),
            120.0,
        ),
        (RayServeAutoscaler(max_replicas=9, upscale_delay=45.0), 45.0),
        (StabilizationWindow(tracking(), scale_out=90.0), 90.0),
        (Combined([tracking(), tracking(metric="ram", high_alarm=(5, 5))]), 300.0),
    ],
)
def test_a_window_longer_than_the_cold_start(policy: Any, wait: float) -> None:
    assert windows(policy)[0] == wait
    assert "window_longer_than_cold_start" in rules(policy, current=1, cold_start=wait - 1)
    assert "window_longer_than_cold_start" not in rules(policy, current=1, cold_start=wait)
    assert "window_longer_than_cold_start" not in rules(policy, current=1)


def test_a_target_above_saturation() -> None:
    assert rules(tracking(target=100), saturation=100) == ["target_above_saturation"]
    assert rules(tracking(target=99), saturation=100) == []
    assert rules(tracking(target=100), saturation={"ram": 100}) == []
    cpu = hpa(metrics=[ResourceMetric("cpu", average_utilization=95)], max_replicas=5)
    assert rules(cpu, saturation=100) == ["target_above_saturation"], "the tolerance is above it"
    assert rules(cpu, saturation=110) == []
    total = hpa(metrics=[ExternalMetric("queue", average_value=30)], max_replicas=5)
    assert rules(total, saturation=10) == [], "a total has no end for each server"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_replicas": 1, "cooldown_period": 60.0}, True),
        ({"min_replicas": 1}, False),
        ({"min_replicas": 0, "cooldown_period": 60.0}, False),
        ({"min_replicas": 2, "idle_replicas": 0, "cooldown_period": 60.0}, False),
        ({"min_replicas": 1, "initial_cooldown_period": 60.0}, True),
    ],
)
def test_a_cooldown_of_keda_without_effect(options: dict[str, Any], said: bool) -> None:
    for policy in (keda(**options), KedaAutoscaler(keda(**options))):
        assert ("cooldown_without_effect" in rules(policy, current=4)) is said


def test_that_cooldown_really_has_no_effect() -> None:
    answers = []
    for cooldown in (60.0, 900.0):
        policy = keda(min_replicas=1, cooldown_period=cooldown)
        seen = [(3, 50.0, 0.0), (3, 0.0, 30.0), (3, 0.0, 600.0)]
        answers.append([policy.recommend({"current": n, "metrics": {"queue": q}}, now=t).desired for n, q, t in seen])
    assert answers[0] == answers[1]


def test_a_stabilization_that_hides_scale_in_for_gpus() -> None:
    rule = "stabilization_hides_scale_in"
    assert rule in rules(hpa(), current=4, gpu=True)
    assert rule not in rules(hpa(), current=4)
    assert rule in rules(hpa(metrics=[PodsMetric("DCGM_FI_DEV_GPU_UTIL", average_value=70)]), current=4)
    assert rule not in rules(hpa(downscale_stabilization=60.0), current=4, gpu=True)
    assert rule in rules(hpa(downscale_stabilization=60.0), current=4, gpu=True, peak_interval=60.0)
    assert rule in rules(keda(target_name="ai-gpu-worker"), current=4)
    assert rule not in rules(keda(target_name="ai-gpu-worker"), current=4, gpu=False)


def test_model_servers_pass_with_their_defaults() -> None:
    policy = AiScaling(signals=[QueueLength(5), KvCacheUsage(0.8)], max_replicas=9)
    assert windows(policy) == (0.0, 180.0)
    assert check(policy, cold_start=60.0, saturation={"kv_cache": 1.0}, gpu=True) == []
    slow = AiScaling(signals=[KvCacheUsage(0.8)], max_replicas=9, stabilization=600.0)
    assert rules(slow) == ["stabilization_hides_scale_in"], "its metric says that it is a GPU"


def test_the_fleet() -> None:
    mixed = MixedInstancesPolicy(on_demand_percent_above_base=20)
    pool = WarmPool()
    rule = "warm_pool_with_mixed_or_spot"
    assert rules(tracking(), warm_pool=pool, mixed_instances=mixed) == [rule]
    assert rules(tracking(), warm_pool=pool, spot=True) == [rule]
    assert rules(tracking(), warm_pool=pool) == rules(tracking(), mixed_instances=mixed, spot=True) == []
    rule = "slow_start_with_least_outstanding"
    for picker in ("least_outstanding_requests", "LeastConnections", "LeastRequest"):
        assert rules(tracking(), slow_start=30.0, picker=picker) == [rule]
    assert rules(tracking(), slow_start=30.0, picker="RoundRobin") == []
    assert rules(tracking(), slow_start=None, picker="LeastRequest") == []
    rule = "lowest_price_with_rebalancing"
    assert rules(tracking(), allocation_strategy="lowest-price", capacity_rebalancing=True) == [rule]
    assert rules(tracking(), allocation_strategy="lowest_price", capacity_rebalancing=True) == [rule]
    assert rules(tracking(), allocation_strategy="lowest-price") == []
    assert rules(tracking(), allocation_strategy="price-capacity-optimized", capacity_rebalancing=True) == []


def test_pickers_by_class() -> None:
    from aibalance import LeastConnections, LeastRequest, RoundRobin

    assert rules(tracking(), slow_start=30.0, picker=LeastConnections)
    assert rules(tracking(), slow_start=30.0, picker=LeastRequest(["a", "b"]))
    assert not rules(tracking(), slow_start=30.0, picker=RoundRobin(["a", "b"]))


@pytest.mark.parametrize(
    "options",
    [{"current": -1}, {"current": 1.5}, {"cold_start": -1}, {"cold_start": float("nan")}, {"saturation": 0}],
)
def test_arguments_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        check(tracking(), **options)


def test_a_policy_of_ones_own_is_only_judged_by_its_fleet() -> None:
    class Mine:
        def recommend(self, observation: Any, /, *, now: float) -> Any: ...

    assert check(Mine(), current=100, cold_start=1.0, saturation=1.0) == []
    assert rules(Mine(), warm_pool=WarmPool(), spot=True) == ["warm_pool_with_mixed_or_spot"]


def test_a_warning_says_what_to_change() -> None:
    (found,) = check(keda(min_replicas=1, cooldown_period=60.0), current=4)
    assert isinstance(found, PolicyWarning)
    assert str(found).startswith("cooldown_period: 60 s have no effect with min_replicas 1")


def test_what_a_policy_looks_at() -> None:
    def read(policy: Any) -> list[tuple[str, float, str]]:
        return [(a.metric, a.target, a.kind) for a in aims(policy)]

    assert read(tracking()) == [("cpu", 50, "average")]
    assert read(OutageGuard(policy=tracking(), metric="cpu")) == [("cpu", 50, "average")]
    assert read(keda()) == read(KedaAutoscaler(keda())) == [("queue", 10, "total")]
    assert read(KnativePodAutoscaler(target=10)) == [("concurrency", 7.0, "total")]
    assert read(CloudRun(max_concurrency=10))[0] == ("in_flight", 6.0, "total")
    assert read(hpa(metrics=[ExternalMetric("q", value="1500m")])) == [("q", 1.5, "value")]
    assert read(AiScaling(signals=[QueueLength(4)])) == [("queue", 4, "average")]
    assert read(QueueScaling(metric="q", steps=[(0, 1, -1), (50, None, 2)], max_capacity=9)) == [("q", 50, "value")]
    assert bounds(Combined([tracking(), tracking(metric="ram", max_capacity=20)])) == (1, 20)
    assert bounds(KnativePodAutoscaler()) == (0, None)
    assert bounds(Tolerance(hpa())) == (1, 30)
    assert windows(ProportionalScaling(metric="m", target=1, max_capacity=2, stabilization=60)) == (0.0, 60)
