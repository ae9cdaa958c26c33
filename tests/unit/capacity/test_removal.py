"""Whom to take away first, and what recommendations say of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import (
    AibrixApa,
    Combined,
    ForecastScaling,
    HorizontalPodAutoscaler,
    Observation,
    PodsMetric,
    ProportionalScaling,
    RayServeAutoscaler,
    StabilizationWindow,
    TargetTracking,
)
from aibalance.capacity import deletion_costs, rank_removals

MANY: list[dict[str, Any]] = [
    {"id": "a", "zone": "x", "work_left": 8, "started": 100},
    {"id": "b", "zone": "x", "work_left": 2, "cache_value": 3, "started": 200},
    {"id": "c", "zone": "y", "work_left": 4, "price": 4.0, "started": 300},
    {"id": "d", "zone": "y", "work_left": 1, "started": 400, "template": 1},
]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "cbda"),
        ({"ready": False}, "acdb"),
        ({"protected": True}, "cbd"),
        ({"work_left": 0}, "acdb"),
        ({"cache_value": 90}, "cbda"),
        ({"price": 100}, "acdb"),
        ({"zone": "y"}, "cdba"),
    ],
)
def test_each_field_alone(change: dict[str, Any], expected: str) -> None:
    ranked = rank_removals([{**MANY[0], **change}, *MANY[1:]])
    assert "".join(ranked) == expected


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((), "abcd"),
        (("loss",), "cdba"),
        (("zone",), "acbd"),
        (("newest_instance",), "dcba"),
        (("oldest_instance",), "abcd"),
        (("oldest_launch_template",), "dabc"),
        (("closest_to_next_instance_hour",), "abcd"),
    ],
)
def test_each_criterion(order: tuple[str, ...], expected: str) -> None:
    assert "".join(rank_removals(MANY, order=order, now=1000.0)) == expected


def test_costs_rise_in_order() -> None:
    costs = deletion_costs(rank_removals(MANY))
    assert costs == {"c": 1, "b": 2, "d": 3, "a": 4}
    assert deletion_costs([]) == {}
    with pytest.raises(ConfigError, match="once"):
        deletion_costs(["a", "a"])


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([{}], r"instances\[0\].id"),
        ([{"id": "a"}, {"id": "a"}], r"instances\[1\].id"),
        ([{"id": "a", "work_left": -1}], "work_left"),
        ([{"id": "a", "price": float("nan")}], "price"),
        ([{"id": "a", "ready": 1}], "ready"),
        ([{"id": "a", "color": 1}], "color"),
        ([3], r"instances\[0\]"),
    ],
)
def test_what_cannot_be(instances: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rank_removals(instances)
    with pytest.raises(MetricError, match=message):
        Observation(2, instances=instances)
    policy = AibrixApa(metric="m", target=1.0, max_replicas=9)
    before = policy.state()
    with pytest.raises(MetricError, match=message):
        policy.recommend({"current": 2, "metrics": {"m": 1.0}, "instances": instances}, now=0.0)
    assert policy.state() == before


def test_what_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match=r"order\[0\]"):
        rank_removals(MANY, order=("luck",))
    with pytest.raises(ConfigError, match="order"):
        rank_removals(MANY, order="zone")
    with pytest.raises(ConfigError, match="instances"):
        rank_removals("ab")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="now"):
        rank_removals(MANY, now=-1.0)


def policies() -> list[Any]:
    tracking = TargetTracking(metric="m", target=10, max_capacity=9, high_alarm=None, low_alarm=None)
    apa = AibrixApa(metric="m", target=10.0, max_replicas=9)
    pods = PodsMetric("m", average_value=10)
    return [
        tracking,
        Combined([tracking]),
        apa,
        StabilizationWindow(apa, scale_in=0.0),
        RayServeAutoscaler(metric="m", target_ongoing_requests=40, max_replicas=9, downscale_delay=0.0),
        HorizontalPodAutoscaler(metrics=[pods], max_replicas=9, downscale_stabilization=0.0),
        ForecastScaling(metric="m", target=10, cold_start=60, max_capacity=9, reactive=tracking),
        ProportionalScaling(metric="m", target=10, max_capacity=9),
    ]


def ask(n: int, seen: Any) -> Any:
    policy = policies()[n]
    if isinstance(policy, HorizontalPodAutoscaler):
        # What it finds at first counts as recommended.
        policy.recommend(seen, now=0.0)
    return policy.recommend(seen, now=20.0)


@pytest.mark.parametrize("n", range(8))
def test_policies_name_them(n: int) -> None:
    seen: dict[str, Any] = {"current": 4, "metrics": {"m": 80.0 if n == 4 else 5.0}}
    r = ask(n, {**seen, "instances": MANY})
    assert (r.desired, r.remove) == (2, ("c", "b"))
    assert ask(n, seen).remove == ()
    assert ask(n, {**seen, "instances": None}).remove == ()
    again = pickle.loads(pickle.dumps(r))
    assert again == r
    assert again.remove == r.remove
    assert ask(n, Observation(4, metrics=seen["metrics"], instances=MANY)).remove == r.remove


def test_an_observation_keeps_its_instances() -> None:
    seen = Observation(2, instances=MANY[:1])
    assert seen.instances == MANY[:1]
    assert "instances=" in repr(seen)
    assert pickle.loads(pickle.dumps(seen)) == seen
    assert seen != Observation(2)
    assert Observation(2).instances is None
