"""Whatever comes: bounds hold, nothing panics, more of a metric never means fewer replicas, a memory is complete."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import AibalanceError, ConfigError
from aibalance.autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    Pods,
    PodsMetric,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
    hpa,
)

RULES = st.builds(
    ScalingRules,
    stabilization_window=st.none() | st.integers(0, 3600),
    select_policy=st.sampled_from([None, "max", "min", "disabled"]),
    policies=st.none()
    | st.lists(
        st.builds(
            ScalingPolicy,
            kind=st.sampled_from(["pods", "percent"]),
            value=st.integers(1, 2**31 - 1),
            period=st.integers(1, 1800),
        ),
        min_size=1,
        max_size=3,
    ),
    tolerance=st.none() | st.floats(0, 2),
)
BEHAVIORS = st.none() | st.builds(Behavior, scale_up=st.none() | RULES, scale_down=st.none() | RULES)
VALUES = st.none() | st.floats(-1e15, 1e15) | st.lists(st.integers(-(10**12), 10**12), max_size=3)
STEPS = st.lists(st.tuples(st.integers(0, 2**31 - 1), VALUES, st.floats(0, 1e6)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 50), st.integers(0, 200), BEHAVIORS, st.booleans(), st.booleans(), STEPS)
def test_bounds_hold_and_a_restored_memory_decides_the_same(
    least: int, more: int, behavior: Any, zero: bool, average: bool, steps: Any
) -> None:
    def build() -> HorizontalPodAutoscaler:
        target = {"average_value": 7} if average else {"value": 7}
        return HorizontalPodAutoscaler(
            min_replicas=least,
            max_replicas=max(1, least + more),
            metrics=[ExternalMetric("m", **target)],  # type: ignore[arg-type]
            behavior=behavior,
            scale_to_zero=zero,
        )

    policy = build()
    for current, value, now in steps:
        heir = build()
        heir.restore(json.loads(json.dumps(policy.state())))
        seen = {"current": current, "metrics": {"m": value}}
        r = policy.recommend(seen, now=now)
        assert r == heir.recommend(seen, now=now)
        if r.limited_by in {"scaling_disabled", "missing_metrics"}:
            assert r.desired == current
        elif current == 0:
            assert 0 <= r.desired <= policy.max_replicas
        else:
            assert least <= r.desired <= policy.max_replicas
        assert r.reason
        assert dict(r.trace)["bounds"] == r.desired


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 1000), st.floats(0, 1e6), st.floats(0, 1e6), BEHAVIORS)
def test_more_of_a_metric_never_means_fewer_replicas(current: int, a: float, b: float, behavior: Any) -> None:
    low, high = sorted((a, b))

    def desired(value: float) -> int:
        policy = HorizontalPodAutoscaler(
            max_replicas=10_000, metrics=[PodsMetric("m", average_value=100)], behavior=behavior
        )
        return policy.recommend({"current": current, "metrics": {"m": value}}, now=0.0).desired

    assert desired(low) <= desired(high)


PODS = st.lists(
    st.fixed_dictionaries(
        {
            "phase": st.sampled_from(["pending", "running", "succeeded", "failed", "unknown"]),
            "deleted": st.booleans(),
            "ready": st.sampled_from([True, False, "unknown", None]),
            "ready_since": st.floats(-1e300, 1e300),
            "started": st.none() | st.floats(-1e300, 1e300),
            "requests": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.integers(-(10**15), 10**15)),
        }
    ),
    max_size=6,
)
SAMPLES = st.none() | st.tuples(st.integers(-(10**15), 10**15), st.floats(-1e300, 1e300), st.floats(0, 1e300))


@settings(max_examples=150, deadline=None)
@given(PODS, st.lists(SAMPLES, max_size=7), st.booleans(), st.integers(0, 2**31 - 1))
def test_no_pods_and_no_values_break_it(pods: Any, samples: Any, percent: bool, current: int) -> None:
    values = {f"p{i}": s for i, s in enumerate(samples)}
    joined = Pods([{"name": f"p{i}", **p} for i, p in enumerate(pods)], metrics={"cpu": values})
    target = {"average_utilization": 50} if percent else {"average_value": "50m"}
    metric = ResourceMetric("cpu", **target)  # type: ignore[arg-type]
    policy = HorizontalPodAutoscaler(max_replicas=9, metrics=[metric])
    r = policy.recommend({"current": current, "pods": joined}, now=5.0)
    assert (r.desired == current) or 1 <= r.desired <= 9


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.from_regex(r"[+-]?[0-9]{0,30}(\.[0-9]{0,30})?(e-?[0-9]{1,12}|[numkMGTPE]|[KMGTPE]i)?"))
def test_any_text_is_a_quantity_or_an_error(text: str) -> None:
    try:
        q = hpa.parse_quantity(text)
    except ConfigError:
        return
    again = hpa.parse_quantity(q.canonical)
    assert again.sign == q.sign
    assert isinstance(q, hpa.Quantity)


FIELDS = st.sampled_from(["spec", "kind", "metrics", "maxReplicas", "behavior", "apiVersion"])
PLAIN = st.none() | st.integers() | st.text(max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.recursive(PLAIN, lambda c: st.dictionaries(FIELDS, c) | st.lists(c), max_leaves=8))
def test_any_mapping_is_a_policy_or_an_error(document: Any) -> None:
    whole = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": document}
    try:
        policy = HorizontalPodAutoscaler.from_manifest(whole)
    except AibalanceError:
        return
    assert policy.max_replicas >= 1
