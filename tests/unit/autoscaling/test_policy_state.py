"""State, restore, pickle, and the plain values around policies."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from aibalance import Combined, ConfigError, MetricError, Observation, Recommendation, Step, StepScaling, TargetTracking
from aibalance.autoscaling import Policy


def tracking(**rest: Any) -> TargetTracking:
    config: dict[str, Any] = {"metric": "cpu", "target": 50, "max_capacity": 100, "warmup": 90.0}
    return TargetTracking(**{**config, "scale_out_cooldown": 120.0, "scale_in_cooldown": 300.0, **rest})


def stepping() -> StepScaling:
    return StepScaling(metric="cpu", threshold=60, steps=[Step(lower=0, adjustment=2)], max_capacity=50, alarm=(2, 2))


def lived(policy: Any) -> Any:
    for k in range(1, 8):
        policy.recommend({"current": 10 + k, "metrics": {"cpu": 80.0 + k}}, now=60.0 * k)
    return policy


POLICIES = [tracking, stepping, lambda: Combined([tracking(), stepping()])]


@pytest.mark.parametrize("make", POLICIES)
def test_state_goes_through_json_and_decides_the_same(make: Any) -> None:
    policy, heir = lived(make()), make()
    heir.restore(json.loads(json.dumps(policy.state())))
    assert heir.state() == policy.state()
    for k in range(8, 30):
        observation = {"current": 20, "metrics": {"cpu": (k * 37) % 100}}
        assert heir.recommend(observation, now=60.0 * k) == policy.recommend(observation, now=60.0 * k)


def _broken(state: dict[str, Any]) -> list[tuple[str, Any]]:
    def changed(**fields: Any) -> dict[str, Any]:
        return {**copy.deepcopy(state), **fields}

    without = copy.deepcopy(state)
    del without["warming"]
    last = copy.deepcopy(state)
    last["last"]["prior"]["warming"] = [[1, 2**40]]
    point = state["datapoints"][0]
    return [
        ("a dictionary", [1]),
        ("a dictionary", None),
        ("version", changed(version=2)),
        ("kind", changed(kind="knative")),
        ("kind", changed(kind="step_scaling")),
        ("metric", changed(metric="gpu")),
        ("metric", changed(metric=3)),
        ("period", changed(period=1)),
        ("serial", changed(serial=-1)),
        ("warming", without),
        ("warming", changed(warming=[[1]])),
        ("warming", changed(warming=[[1, -1]])),
        ("out_cooldown", changed(out_cooldown=[1, 2, 3])),
        ("out_cooldown.base", changed(out_cooldown=[1, 2**40])),
        ("acted.desired", changed(acted=[1, 2**40])),
        ("seen", changed(seen=2**40)),
        ("scaled_in", changed(scaled_in="never")),
        ("last", changed(last=[])),
        (r"last\.prior\.warming", last),
        ("datapoints", changed(datapoints=[point, point])),
        ("datapoints", changed(datapoints=[[0, 0, 0.0, 0.0, 0.0, 0.0, 0.0]])),
        ("datapoints", changed(datapoints=[[0, 1, float("nan"), 0.0, 0.0, 0.0, 0.0]])),
        ("datapoints", changed(datapoints=[[0, 1, 1.0, 2.0, 1.0, 0.0, 0.0]])),
        ("datapoints", changed(datapoints=[[k, 1, 1.0, 1.0, 1.0, 0.0, 0.0] for k in range(100)])),
        ("datapoints", changed(datapoints=[["0", 1, 1.0, 1.0, 1.0, 0.0, 0.0]])),
    ]


@pytest.mark.parametrize("n", range(25))
def test_a_state_that_does_not_fit_changes_nothing(n: int) -> None:
    policy = lived(tracking())
    before = policy.state()
    complaint, state = _broken(before)[n]
    with pytest.raises(ConfigError, match=complaint):
        policy.restore(state)
    assert policy.state() == before


def test_combined_restores_all_or_nothing() -> None:
    policy = lived(Combined([tracking(), stepping()]))
    before = policy.state()
    state = Combined([tracking(), stepping()]).state()
    state["policies"][1]["metric"] = "gpu"
    with pytest.raises(ConfigError, match=r"state\.policies\[1\]\.metric"):
        policy.restore(state)
    with pytest.raises(ConfigError, match=r"2 policies, as this policy has"):
        policy.restore({**state, "policies": state["policies"][:1]})
    with pytest.raises(ConfigError, match=r"state\.policies\[0\]\.version"):
        policy.restore({**state, "policies": [{"version": 9}, state["policies"][1]]})
    with pytest.raises(ConfigError, match="combined"):
        tracking().restore(before)
    assert policy.state() == before


@pytest.mark.parametrize("make", POLICIES)
def test_configuration_pickles_and_memory_stays(make: Any) -> None:
    policy = lived(make())
    for twin in (pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy), copy.copy(policy)):
        assert twin == policy
        assert hash(twin) == hash(policy)
        assert repr(twin) == repr(policy)
        assert twin.state() == make().state()
        assert isinstance(twin, Policy)


def test_replace_makes_a_variant() -> None:
    policy = replace(tracking(high_alarm=None, low_alarm=None), target=25)
    assert policy.recommend({"current": 10, "metrics": {"cpu": 50}}, now=0.0).desired == 20
    with pytest.raises(AttributeError):
        policy.target = 30  # type: ignore[misc]


@pytest.mark.parametrize("make", POLICIES)
def test_recommendations_pickle(make: Any) -> None:
    r = lived(make()).recommend({"current": 12, "metrics": {"cpu": 99}}, now=480.0)
    twin = pickle.loads(pickle.dumps(r))
    assert isinstance(twin, Recommendation)
    assert (twin, hash(twin), twin.trace, twin.reason) == (r, hash(r), r.trace, r.reason)


def test_observation_is_a_value() -> None:
    o = Observation(10, desired=12, warming=2, metrics={"cpu": 50, "gpu": None}, status=11, pods=["a"])
    assert repr(o) == (
        "Observation(10, desired=12, status=11, warming=2, metrics={'cpu': 50.0, 'gpu': None}, pods=['a'])"
    )
    assert pickle.loads(pickle.dumps(o)) == o
    assert o != Observation(10)
    assert o != 10
    assert (o.current, o.desired, o.status, o.warming, o.pods) == (10, 12, 11, 2, ["a"])
    assert Observation(current=3) == Observation(3, metrics={})
    with pytest.raises(AttributeError):
        o.current = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        hash(o)


def test_an_observation_and_its_mapping_are_the_same() -> None:
    class Other(dict[str, Any]):
        pass

    from collections import ChainMap

    policy = tracking(high_alarm=None, low_alarm=None)
    fields = {"current": 10, "desired": 12, "status": None, "warming": 2, "metrics": {"cpu": 75.0}, "pods": None}
    for o in (Observation(10, desired=12, warming=2, metrics={"cpu": 75.0}), fields, Other(fields), ChainMap(fields)):
        assert policy.recommend(o, now=0.0).desired == 15


@pytest.mark.parametrize(
    ("observation", "complaint"),
    [
        ({}, "current is needed"),
        ({"current": -1}, "current: -1"),
        ({"current": 2**31}, "current"),
        ({"current": 10**400}, "current"),
        ({"current": 10**5000}, "current"),
        ({"current": 1.5}, "current: 1.5"),
        ({"current": True}, "current: True"),
        ({"current": None}, "current: None"),
        ({"current": 1, "desired": -2}, "desired: -2"),
        ({"current": 1, "warming": -2}, "warming: -2"),
        ({"current": 1, "warming": None}, "warming: None"),
        ({"current": 1, "status": "x"}, "status: 'x'"),
        ({"current": 1, "metrics": 3}, "metrics: 3"),
        ({"current": 1, "metrics": {1: 2}}, "metrics: 1"),
        ({"current": 1, "metrics": {"\ud800": 2}}, "valid Unicode"),
        ({"current": 1, "metric": {}}, "observation: 'metric'"),
        ({1: 1}, "observation: 1"),
        (3, "observation: 3"),
        (None, "observation: None"),
    ],
)
def test_observations_that_cannot_be(observation: Any, complaint: str) -> None:
    policy = tracking()
    with pytest.raises(MetricError, match=complaint):
        policy.recommend(observation, now=0.0)


@pytest.mark.parametrize(
    "fields", [{"current": -1}, {"current": 1, "desired": 1.5}, {"current": 1, "metrics": {"a": "b"}}]
)
def test_observation_refuses_what_a_mapping_may_not_hold(fields: dict[str, Any]) -> None:
    with pytest.raises(MetricError):
        Observation(**fields)


def test_a_mapping_that_fails_raises_its_own_error() -> None:
    class Broken(dict[str, Any]):
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(MetricError, match="current"):
        tracking().recommend(Broken(), now=0.0)
