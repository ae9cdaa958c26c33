"""Timelines, projections and the command line's readers, over anything."""

from __future__ import annotations

import contextlib
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from aibalance import ConfigError
from aibalance.autoscaling import (
    AiScaling,
    Composite,
    GpuMemory,
    KvCacheUsage,
    ProportionalScaling,
    QueueLength,
    Sample,
    StabilizationWindow,
    TargetTracking,
    TokenVelocity,
    projected,
    timeline,
)
from aibalance.cli import policies
from aibalance.cli.explain import sparkline
from aibalance.testing import loads

SIGNALS = st.sampled_from(
    [QueueLength(5), KvCacheUsage(0.5), GpuMemory(0.8, idle=0.3), TokenVelocity(100.0), Composite(2, 0.5)]
)
NAMES = ("queue", "kv_cache", "gpu_memory", "tokens_per_s")
SCALING = st.builds(
    AiScaling,
    signals=st.lists(SIGNALS, min_size=1, max_size=3),
    max_replicas=st.integers(4, 50),
    workload=st.sampled_from(["realtime", "batch"]),
    cold_start=st.sampled_from([0.0, 90.0]),
    metric_delay=st.sampled_from([0.0, 120.0]),
    stabilization=st.sampled_from([0.0, 300.0]),
    growth_factor=st.sampled_from([None, 2.0]),
)


@given(SCALING, loads(highest=50.0), st.integers(0, 60), st.sampled_from([0.0, 45.0, 400.0]))
def test_ai_scaling_stays_within_its_bounds_on_any_load(
    policy: AiScaling, points: list[Any], current: int, cold_start: float
) -> None:
    samples = [Sample(p.at, dict.fromkeys(NAMES, p.value)) for p in points]
    run = timeline(policy, samples, current=current, cold_start=cold_start)
    assert len(run.moments) == len(points)
    for moment in run.moments:
        missing = moment.recommendation.action == "insufficient_data"
        assert (policy.min_replicas or 0) <= moment.desired <= policy.max_replicas or missing
        assert moment.recommendation.trace[-1] == ("desired", moment.desired)
    assert math.isclose(sum(seconds for _, seconds in run.durations()), _span(points))
    assert sum(run.seconds_bound().values()) <= _span(points) + 1e-6


def _span(points: list[Any]) -> float:
    if len(points) < 2:
        return 0.0
    return float(points[-1].at - points[0].at + points[-1].at - points[-2].at)


@given(st.floats(0, 1e9), st.integers(1, 1000), st.integers(1, 1000))
def test_a_projection_keeps_the_load(value: float, current: int, desired: int) -> None:
    mean = ProportionalScaling(metric="m", target=5, max_capacity=20)
    there = projected(mean, {"m": value}, current=current, desired=desired)["m"]
    back = projected(mean, {"m": there}, current=desired, desired=current)["m"]
    assert math.isclose(back, value, rel_tol=1e-9, abs_tol=1e-9)


@given(
    st.one_of(
        SCALING,
        st.builds(
            TargetTracking,
            metric=st.text(min_size=1, max_size=9),
            target=st.floats(1e-3, 1e6),
            max_capacity=st.integers(1, 99),
            high_alarm=st.sampled_from([None, (2, 3)]),
        ),
        st.builds(
            StabilizationWindow,
            st.builds(ProportionalScaling, metric=st.just("m"), target=st.just(5), max_capacity=st.integers(1, 9)),
            scale_in=st.floats(0, 600),
        ),
    )
)
def test_what_a_policy_prints_the_command_line_reads(policy: Any) -> None:
    assert policies.read(repr(policy)).policy == policy


@given(st.text(max_size=60))
@example("A(" * 500)
@example("TargetTracking(metric={}, target=[], max_capacity=())")
@example("AiScaling(signals=[QueueLength({1: 2})])")
@example("Combined(3)")
@example("Combined(policies=[Fixed(3)])")
def test_no_text_does_anything_but_fail(text: str) -> None:
    for one in (text, f"TargetTracking({text})"):
        with contextlib.suppress(ConfigError):
            policies.read(one)


@given(st.lists(st.none() | st.floats(0, 1e300), max_size=300), st.integers(1, 120))
def test_a_sparkline_fits(values: list[float | None], columns: int) -> None:
    line = sparkline(values, columns)
    assert len(line) == max(1, min(columns, len(values)))
    known = [v for v in values if v is not None]
    if known and max(known) > 0:
        assert "█" in line
