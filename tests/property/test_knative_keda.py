"""What Knative's and KEDA's policies keep, whatever they are told."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aibalance import ConfigError
from aibalance.autoscaling import KedaScaledObject, KnativePodAutoscaler
from aibalance.autoscaling.keda import Fallback, Formula, Trigger
from aibalance.autoscaling.knative import MaxWindow, Window

# Time goes forward, stands still, and now and then back.
steps = st.lists(st.tuples(st.floats(-30, 120), st.floats(0, 500), st.integers(0, 50)), min_size=1, max_size=30)


@given(
    st.sampled_from(["linear", "weighted_exponential"]),
    st.sampled_from([0.0, 15.0]),
    st.integers(0, 5),
    st.integers(0, 5),
    steps,
    st.integers(0, 29),
)
def test_knative_restored_is_never_stopped(
    aggregation: Any, delay: float, low: int, above: int, told: list[tuple[float, float, int]], stop: int
) -> None:
    def make() -> KnativePodAutoscaler:
        return KnativePodAutoscaler(
            target=10, aggregation=aggregation, scale_down_delay=delay, min_scale=low, max_scale=low + above + 1
        )

    policy, now = make(), 1000.0
    for i, (pause, load, ready) in enumerate(told):
        now = max(now + pause, 0.0)
        if i == stop % len(told):
            heir = make()
            heir.restore(json.loads(json.dumps(policy.state())))
            assert heir.state() == policy.state()
            policy = heir
        twin = make()
        twin.restore(policy.state())
        for p in (policy, twin):
            p.record("concurrency", load, at=now)
        seen = {"current": ready, "desired": ready}
        r = policy.recommend(seen, now=now)
        assert r == twin.recommend(seen, now=now)
        assert r.desired == ready or 0 <= r.desired <= low + above + 1
        if r.desired != ready and r.desired:
            assert r.desired >= low
        assert math.isfinite(r.details["stable"])
        assert dict(r.trace)["desired"] == r.desired
        assert str(r.desired) in r.reason


@given(st.one_of(st.none(), st.integers(1, 5)), st.booleans(), st.booleans(), steps)
def test_keda_restored_is_never_stopped(
    low: int | None, idle: bool, careful: bool, told: list[tuple[float, float, int]]
) -> None:
    def make() -> KedaScaledObject:
        return KedaScaledObject(
            triggers=[Trigger(name="queue", threshold=10, activation_threshold=100)],
            min_replicas=low,
            idle_replicas=0 if idle and low else None,
            fallback=Fallback(failure_threshold=1, replicas=3) if careful else None,
        )

    policy, now = make(), 1000.0
    for pause, value, current in told:
        now = max(now + pause, 0.0)
        heir = make()
        heir.restore(json.loads(json.dumps(policy.state())))
        seen = {"current": current, "metrics": {"queue": None if value > 400 else value}}
        r = policy.recommend(seen, now=now)
        assert r == heir.recommend(seen, now=now)
        # It moves only to nothing, to idle, to the minimum, or from nothing to one.
        assert r.desired in {current, 0, low or 1}
        if r.details["active"] and current:
            assert r.desired >= current or r.desired == low
        policy = heir


@given(st.booleans(), st.integers(2, 90), st.lists(st.tuples(st.floats(0, 300), st.floats(0, 100)), max_size=40))
def test_an_average_stays_between_nothing_and_the_sum(
    weighted: bool, length: int, told: list[tuple[float, float]]
) -> None:
    window, most = Window(float(length), weighted=weighted), MaxWindow(float(length))
    for at, value in told:
        window.record(value, at=at)
        most.record(int(value), at=at)
        now = max(t for t, _ in told)
        assert -1e-3 <= window.average(now=now) <= sum(v for _, v in told) + 1e-3
        assert most.current in {int(v) for _, v in told}


@given(st.text(alphabet="ab01.+-*/%()[]#?:,<> !&|^\"'{}~=lenmaxsumfiltercount;", max_size=40))
def test_any_text_is_a_formula_or_a_clear_error(text: str) -> None:
    said, result = "formula: ", None
    try:
        result = Formula(text, ["a", "b"]).evaluate({"a": 1.5, "b": 0})
    except ConfigError as e:
        said = str(e)
    assert said.startswith("formula: ")
    assert result is None or isinstance(result, float)
