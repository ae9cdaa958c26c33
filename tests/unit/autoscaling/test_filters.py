"""Filters over a policy: what they change, what they hand on, and their memory."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibalance import ConfigError
from aibalance.autoscaling import (
    CloudRun,
    FlappingGuard,
    Policy,
    RayServeAutoscaler,
    ScaleInControl,
    ScaleInLimit,
    ScaleOutThreshold,
    SimpleScaling,
    StabilizationWindow,
    Tolerance,
)


def sized() -> CloudRun:
    """Asks for as many as its metric says."""
    return CloudRun(max_concurrency=10, concurrency_target=0.1, metric="n", cpu_metric="other", max_instances=1000)


def ask(policy: Policy, current: int, wanted: float, now: float, **metrics: Any) -> tuple[int, str | None]:
    r = policy.recommend({"current": current, "metrics": {"n": wanted, **metrics}}, now=now)
    return r.desired, r.limited_by


def test_a_window_holds_either_way() -> None:
    policy = StabilizationWindow(sized(), scale_in=60.0, scale_out=10.0)
    assert ask(policy, 5, 8, 0.0) == (5, "stabilization")
    assert ask(policy, 5, 8, 10.0) == (8, None)
    assert ask(policy, 8, 2, 20.0) == (8, "stabilization")
    assert ask(policy, 8, 2, 69.0) == (8, "stabilization")
    assert ask(policy, 8, 2, 70.0) == (2, None)


def test_control_keeps_what_may_not_go_yet() -> None:
    policy = ScaleInControl(sized(), ScaleInLimit(3, window=60.0))
    assert ask(policy, 10, 2, 0.0) == (7, "scale_in_control")
    assert ask(policy, 7, 2, 30.0) == (7, "scale_in_control")
    assert ask(policy, 7, 2, 60.0) == (2, None), "the peak of ten is out of the window"
    percent = ScaleInControl(sized(), ScaleInLimit("25%"))
    assert ask(percent, 10, 2, 0.0) == (8, "scale_in_control"), "a part of an instance stays"
    assert ask(percent, 10, 20, 1.0) == (20, None)


def test_a_guard_tries_a_smaller_step() -> None:
    policy = FlappingGuard(sized(), [ScaleOutThreshold("cpu", 70, ">")])
    assert ask(policy, 30, 20, 0.0, cpu=65) == (28, "flapping")
    assert ask(policy, 3, 2, 0.0, cpu=60) == (3, "flapping")
    assert ask(policy, 4, 2, 0.0, cpu=35) == (2, None), "70 is not above 70"
    assert ask(FlappingGuard(sized(), [ScaleOutThreshold("cpu", 70)]), 4, 2, 0.0, cpu=35) == (3, "flapping")
    assert ask(policy, 4, 9, 0.0, cpu=99) == (9, None), "scale-out is never checked"
    assert ask(policy, 4, 2, 0.0) == (4, "flapping"), "what cannot be projected is not risked"


def test_a_tolerance_either_way() -> None:
    policy = Tolerance(sized(), scale_out=0.2, scale_in=0.5)
    assert ask(policy, 10, 12, 0.0) == (10, "tolerance")
    assert ask(policy, 10, 13, 0.0) == (13, None)
    assert ask(policy, 10, 5, 0.0) == (10, "tolerance")
    assert ask(policy, 10, 4, 0.0) == (4, None)


FILTERS = [
    lambda p: StabilizationWindow(p, scale_in=50.0, scale_out=20.0),
    lambda p: ScaleInControl(p, ScaleInLimit(2, window=40.0)),
    lambda p: FlappingGuard(p, [ScaleOutThreshold("n", 50)]),
    lambda p: Tolerance(p),
    lambda p: Tolerance(StabilizationWindow(ScaleInControl(p, ScaleInLimit("10%")))),
]


@pytest.mark.parametrize("over", FILTERS)
def test_a_memory_holds_the_policy_s_too(over: Any) -> None:
    inner = {"metric": "n", "max_replicas": 50, "upscale_delay": 15.0, "downscale_delay": 30.0}
    policy, heir = over(RayServeAutoscaler(**inner)), over(RayServeAutoscaler(**inner))
    n = 5
    for k in range(60):
        heir.restore(json.loads(json.dumps(policy.state())))
        seen = {"current": n, "metrics": {"n": (k * 53 % 90) + 0.5}}
        r = policy.recommend(seen, now=10.0 * k)
        assert heir.recommend(seen, now=10.0 * k) == r
        n = r.desired
    state = policy.state()
    with pytest.raises(ConfigError, match="state"):
        policy.restore({**state, "policy": {}})
    with pytest.raises(ConfigError, match="state"):
        policy.restore({})
    assert policy.state() == state
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_the_policy_does_not_count_what_was_not_done() -> None:
    inner = SimpleScaling(metric="n", threshold=5, adjustment=1, max_capacity=50, alarm=None)
    assert ask(Tolerance(inner), 10, 9, 0.0) == (10, "tolerance")
    assert inner.state()["last"] is None
    policy = Tolerance(inner)
    r = policy.recommend({"current": 5, "metrics": {"n": 9}}, now=0.0)
    assert r.desired == 6
    assert inner.state()["last"] is not None
    policy.rejected(r)
    assert inner.state()["last"] is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tolerance("cpu"), "policy"),  # type: ignore[arg-type]
        (lambda: Tolerance(sized(), scale_in=1.5), "scale_in"),
        (lambda: StabilizationWindow(sized(), scale_in=-1.0), "scale_in"),
        (lambda: FlappingGuard(sized(), []), "scale_out"),
        (lambda: FlappingGuard(sized(), [ScaleOutThreshold("cpu", float("nan"))]), "threshold"),
        (lambda: ScaleInControl(sized(), 3), "limit"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_honoured_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 200)), min_size=1, max_size=40))
def test_a_peak_is_the_largest_of_its_window(asked: list[tuple[int, float]]) -> None:
    policy = StabilizationWindow(sized(), scale_in=100.0)
    now, seen = 0.0, []
    for wanted, wait in asked:
        now = round(now + wait, 3)
        if not seen:
            seen.append((now, 100))
        seen.append((now, wanted))
        desired = policy.recommend({"current": 100, "metrics": {"n": wanted}}, now=now).desired
        assert desired == max(n for at, n in seen if now - at < 100.0 - 1e-7 or at == now)
