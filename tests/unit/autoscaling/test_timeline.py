"""Timelines: what was done, what bound it, and what would have been measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import (
    AiScaling,
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    KnativePodAutoscaler,
    ObjectMetric,
    PodsMetric,
    ProportionalScaling,
    QueueLength,
    Sample,
    ScalingPolicy,
    ScalingRules,
    TargetTracking,
    binding,
    projected,
    timeline,
)


def queue(**options: Any) -> ProportionalScaling:
    return ProportionalScaling(**{"metric": "queue", "target": 5, "max_capacity": 20, **options})


def series(*values: float | None, current: int | None = None) -> list[Sample]:
    return [Sample(60.0 * i, {"queue": value}, current) for i, value in enumerate(values)]


def test_what_bound_each_decision() -> None:
    slow = ScalingRules(policies=[ScalingPolicy(kind="pods", value=2, period=60)], stabilization_window=0)
    policy = HorizontalPodAutoscaler(
        min_replicas=2,
        max_replicas=10,
        metrics=[PodsMetric("queue", average_value=5)],
        behavior=Behavior(scale_up=slow, scale_down=ScalingRules(stabilization_window=120)),
    )
    run = timeline(policy, series(5.2, 20.0, None, 30.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0), current=4)
    # The load is 20.8, 80, missing, 120, 20, then 4; a metric is what it makes of the servers that there are.
    assert [(m.desired, m.bound) for m in run.moments] == [
        (4, "tolerance"),
        (6, "rate"),
        (6, "missing metric"),
        (8, "rate"),
        (8, "window"),
        (4, "window"),
        (2, "min"),
        (2, "min"),
        (2, "min"),
        (2, "min"),
    ]
    assert all(m.reason for m in run.moments)
    assert run.seconds_bound() == {"min": 240, "rate": 120, "window": 120, "tolerance": 60, "missing metric": 60}
    assert [m.at for m in run.changes] == [60, 180, 300, 360]


def test_means_are_scaled_to_the_servers_that_there_would_be() -> None:
    run = timeline(queue(), series(10, 10, 10), current=4)
    assert [(m.metrics["queue"], m.current, m.desired) for m in run.moments] == [(10, 4, 8), (5, 8, 8), (5, 8, 8)]
    assert run.moments[0].projected == {"queue": 5.0}
    assert run.server_hours == pytest.approx(8 * 3 / 60)
    assert run.seconds_above_target() == 60.0


def test_recorded_servers_say_what_a_mean_is_over() -> None:
    samples = [Sample(0.0, {"queue": 10.0}, 2), Sample(60.0, {"queue": 4.0}, 8)]
    run = timeline(queue(), samples)
    assert [(m.metrics["queue"], m.desired) for m in run.moments] == [(10.0, 4), (8.0, 7)]
    as_recorded = timeline(queue(), samples, carry_out=False)
    assert [(m.metrics["queue"], m.current, m.desired) for m in as_recorded.moments] == [(10.0, 2, 4), (4.0, 8, 7)]


def test_servers_come_after_the_cold_start() -> None:
    run = timeline(queue(), series(10, 10, 10, 10), current=4, cold_start=90.0)
    assert [(m.current, m.warming) for m in run.moments] == [(4, 0), (4, 4), (8, 0), (8, 0)]
    assert [m.metrics["queue"] for m in run.moments] == [10, 10, 5, 5]


def test_what_starts_is_cancelled_first() -> None:
    policy = queue(metric_type="total")
    run = timeline(policy, series(50, 20, 10), current=4, cold_start=600.0)
    assert [(m.current, m.warming, m.desired) for m in run.moments] == [(4, 0, 10), (4, 6, 4), (4, 0, 2)]


def test_totals_and_single_values_stay_as_they_are() -> None:
    total = HorizontalPodAutoscaler(max_replicas=20, metrics=[ExternalMetric("queue", average_value=5)])
    value = HorizontalPodAutoscaler(max_replicas=20, metrics=[ObjectMetric("queue", value=5)])
    for policy, after in ((total, {"queue": 5.0}), (value, {})):
        run = timeline(policy, series(40, 40), current=4)
        assert [m.metrics["queue"] for m in run.moments] == [40, 40]
        assert run.moments[0].projected == (after if run.moments[0].desired == 8 else {})
    assert (
        timeline(KnativePodAutoscaler(target=10), [Sample(0.0, {"concurrency": 70.0})], current=1).moments[0].desired
        == 10
    )


def test_a_late_metric_is_over_the_servers_of_then() -> None:
    """Late by a tick, the ten a server is seen once more after the answer, and answered again."""
    run = timeline(queue(max_capacity=99), series(*[10.0] * 4), current=4, metric_delay=60.0)
    assert [(m.metrics["queue"], m.current, m.desired) for m in run.moments] == [
        (10, 4, 8),
        (10, 8, 16),
        (5, 16, 16),
        (2.5, 16, 8),
    ]
    knowing = AiScaling(signals=[QueueLength(5)], metric_delay=60.0, stabilization=0.0, max_replicas=99)
    assert {m.desired for m in timeline(knowing, series(*[10.0] * 4), current=4).moments} == {8}
    with pytest.raises(ConfigError, match="metric_delay"):
        timeline(queue(), series(1.0), current=1, metric_delay=-1.0)


def test_how_many_a_mean_is_over_follows_the_servers() -> None:
    samples = [Sample(60.0 * i, {"queue": 10.0, "on": 4.0}) for i in range(3)]
    run = timeline(queue(measured="on"), samples, current=4)
    assert [(m.metrics["queue"], m.metrics["on"], m.desired) for m in run.moments] == [(10, 4, 8), (5, 8, 8), (5, 8, 8)]


def test_projection() -> None:
    assert projected(queue(), {"queue": 10, "other": 3}, current=4, desired=8) == {"queue": 5.0}
    assert projected(queue(metric_type="total"), {"queue": 40}, current=4, desired=8) == {"queue": 5.0}
    assert projected(queue(), {"queue": None}, current=4, desired=8) == {}
    assert projected(queue(), {"queue": 10}, current=4, desired=0) == {}
    assert projected(queue(), {"queue": 10}, current=0, desired=2) == {}


def test_a_quiet_alarm_is_a_window() -> None:
    policy = TargetTracking(metric="queue", target=5, max_capacity=20)
    run = timeline(policy, series(*[10.0] * 6), current=4)
    assert [(m.desired, m.bound) for m in run.moments][:3] == [(4, "window"), (4, "window"), (8, None)]
    assert binding(run.moments[0].recommendation) is None
    assert binding(run.moments[0].recommendation, policy) == "window"
    low = timeline(policy, series(*[4.7] * 3), current=20)
    assert [m.bound for m in low.moments] == ["tolerance"] * 3
    low = timeline(policy, series(*[2.0] * 3), current=20)
    assert [m.bound for m in low.moments] == ["window"] * 3


def test_on_the_target_nothing_binds() -> None:
    assert timeline(queue(), series(5, 5), current=4).moments[0].bound is None
    assert timeline(queue(tolerance=0.1), series(5, 5), current=4).moments[0].bound == "tolerance"


def test_the_policy_that_was_given_keeps_its_memory() -> None:
    policy = queue(cooldown=600.0)
    before = policy.state()
    first, second = (timeline(policy, series(10, 2), current=4) for _ in range(2))
    assert policy.state() == before
    assert [m.desired for m in first.moments] == [m.desired for m in second.moments]


def test_policies_of_ones_own() -> None:
    class Answer:
        limited_by = None
        action = "none"
        trace = ()

        def __init__(self, desired: int) -> None:
            self.desired = desired

    class Mine:
        def recommend(self, observation: Mapping[str, Any], /, *, now: float) -> Answer:
            return Answer(observation["current"] + 1)

    run = timeline(Mine(), series(1, 2, 3), current=1)
    assert [m.desired for m in run.moments] == [2, 3, 4]
    assert (run.policy, run.aims) == ("Mine", ())


def test_ai_scaling_waits_for_what_it_ordered() -> None:
    policy = AiScaling(signals=[QueueLength(5)], max_replicas=20, metric_delay=120.0, stabilization=600.0)
    run = timeline(policy, series(*[10.0] * 5), current=4, cold_start=60.0)
    assert max(m.desired for m in run.moments) == 8


@pytest.mark.parametrize(
    ("samples", "options", "said"),
    [
        ([Sample(0.0, {})], {}, "current: missing"),
        ([Sample(1.0, {}, 1), Sample(0.0, {}, 1)], {}, r"series\[1\].at"),
        ([Sample(float("nan"), {}, 1)], {}, r"series\[0\].at"),
        ([Sample(0.0, {}, 1)], {"cold_start": -1}, "cold_start"),
        ([Sample(0.0, {}, 1)], {"current": -1}, "current"),
    ],
)
def test_series_that_cannot_be(samples: list[Sample], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        timeline(queue(), samples, **options)


def test_values_that_cannot_be() -> None:
    with pytest.raises(MetricError, match="queue"):
        timeline(queue(), series(float("inf")), current=1)
    with pytest.raises(ConfigError, match="recommend"):
        timeline(object(), series(1.0), current=1)
    empty = timeline(queue(), [], current=1)
    assert (empty.moments, empty.server_hours, repr(empty)[:21]) == ((), 0, "<Timeline: 0 decision")
