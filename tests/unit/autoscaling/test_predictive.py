"""Scaling ahead, and doubting a metric: each option alone changes what happens."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from aibalance import ConfigError, ManualClock, MetricError
from aibalance.autoscaling import ForecastScaling, OutageGuard, ProportionalScaling, QueueScaling

BASE: dict[str, Any] = {
    "metric": "rps",
    "target": 10,
    "max_capacity": 100,
    "cold_start": 120,
    "buffer": 0,
    "seasons": (600,),
    "history": 3600,
    "quantile": 0.5,
}


def wave(minute: int) -> float:
    """Quiet, and a jump in the last three of ten minutes."""
    return 400.0 if minute % 10 >= 7 else 40.0


def run(policy: Any, minutes: int, *, start: int = 0, current: int = 4) -> list[int]:
    found = []
    for minute in range(start, start + minutes):
        current = policy.recommend({"current": current, "metrics": {"rps": wave(minute)}}, now=minute * 60.0).desired
        found.append(current)
    return found


def test_it_scales_before_the_jump() -> None:
    found = run(ForecastScaling(**BASE), 50)
    # A server asked for in minute 35 is ready in minute 37, when the load jumps.
    assert found[34] == 4
    assert found[35] == 40
    assert found[:19] == [4] * 19  # no forecast yet
    assert found[40] == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cold_start", 0),
        ("buffer", 120),
        ("target", 20),
        ("max_capacity", 30),
        ("min_capacity", 9),
        ("scale_in", False),
        ("seasons", (1200,)),
        ("history", 1200 * 2),
        ("step", 120.0),
        ("reactive", ProportionalScaling(metric="rps", metric_type="total", target=5, max_capacity=100)),
    ],
)
def test_each_option_alone_matters(option: str, value: Any) -> None:
    plain = run(ForecastScaling(**BASE), 50)
    other = run(ForecastScaling(**{**BASE, option: value}), 50)
    if option == "history":
        kept = ForecastScaling(**{**BASE, option: value})
        run(kept, 100)
        assert len(kept.state()["values"]) == 40
    else:
        assert plain != other


def test_quantile_and_refit_matter() -> None:
    def noisy(**options: Any) -> tuple[int, int]:
        policy = ForecastScaling(**{**BASE, **options})
        for minute in range(60):
            value = wave(minute) + 37 * (minute * 7919 % 13)
            r = policy.recommend({"current": 4, "metrics": {"rps": value}}, now=minute * 60.0)
        return r.desired, policy.state()["fitted"]

    assert noisy(quantile=0.99)[0] > noisy()[0]
    assert noisy(refit=60.0)[1] > noisy()[1]


def test_a_reactive_policy_may_ask_for_more_and_never_for_less() -> None:
    reactive = ProportionalScaling(metric="rps", metric_type="total", target=10, max_capacity=100)
    policy = ForecastScaling(**BASE, reactive=reactive)
    run(policy, 45)
    r = policy.recommend({"current": 4, "metrics": {"rps": 900}}, now=45 * 60.0)
    assert r.desired == 90
    assert dict(r.trace)["reactive"] == 90
    r = policy.recommend({"current": 4, "metrics": {"rps": 40}}, now=45 * 60.0 + 1)
    assert r.desired > dict(r.trace)["reactive"]


def test_gaps_long_ones_and_samples() -> None:
    policy = ForecastScaling(**BASE)
    run(policy, 40)
    r = policy.recommend({"current": 4, "metrics": {"rps": None}}, now=40 * 60.0)
    assert r.desired == 4
    policy.record("rps", 40.0, at=45 * 60.0)
    assert policy.state()["values"][-5:] == [None] * 5
    policy.record("rps", 1.0, at=1e9)  # more than is kept: it begins anew
    assert policy.state()["values"] == []
    with pytest.raises(MetricError, match="cpu"):
        policy.record("cpu", 1.0, at=1e9)
    with pytest.raises(MetricError, match="rps"):
        policy.recommend({"current": 4, "metrics": {"rps": -1}}, now=1e9)


@pytest.mark.parametrize("cut", [1, 15, 25, 44])
def test_forecast_memory_survives_json(cut: int) -> None:
    reactive = ProportionalScaling(metric="rps", metric_type="total", target=10, max_capacity=9, cooldown=90)
    policy = ForecastScaling(**BASE, reactive=reactive)
    whole = run(copy.deepcopy(policy), 50)
    head = run(policy, cut)
    other = pickle.loads(pickle.dumps(policy))
    other.restore(json.loads(json.dumps(policy.state())))
    assert head + run(other, 50 - cut, start=cut, current=head[-1]) == whole


def guarded(**options: Any) -> OutageGuard:
    inner = ProportionalScaling(metric="rps", metric_type="total", target=10, max_capacity=100)
    return OutageGuard(policy=inner, metric="rps", **options)


def follow(policy: Any, values: list[float | None]) -> list[int]:
    current, found = 10, []
    for minute, value in enumerate(values):
        current = policy.recommend({"current": current, "metrics": {"rps": value}}, now=minute * 60.0).desired
        found.append(current)
    return found


def test_a_drop_is_doubted_and_then_believed() -> None:
    values: list[float | None] = [100, 101, 100, *[3 + 0.1 * i for i in range(40)]]
    found = follow(guarded(), values)
    assert found[3] == 10
    assert found[32] == 10
    assert found[33] == 1
    assert follow(guarded(drop=None), values)[3] == 1
    assert follow(guarded(hold=300), values)[8] == 1
    # A slow fall is a trough.
    assert follow(guarded(), [100 - 4.0 * i for i in range(20)])[19] == 3


def test_a_drop_that_comes_back() -> None:
    assert follow(guarded(), [100, 101, 2, 3, 99, 61])[2:] == [11, 11, 10, 7]


def test_gaps_and_a_metric_that_stands_still() -> None:
    assert follow(guarded(), [100, None, None, 70])[1:] == [10, 10, 7]
    still: list[float | None] = [100.0] * 11 + [100.0]
    policy = guarded(frozen=300, drop=0.9)
    follow(policy, still)
    r = policy.recommend({"current": 30, "metrics": {"rps": 100.0}}, now=12 * 60.0)
    assert r.desired == 30
    assert dict(r.trace)["doubt"] == "frozen"
    lively = guarded(frozen=None, drop=0.9)
    follow(lively, still)
    assert lively.recommend({"current": 30, "metrics": {"rps": 100.0}}, now=12 * 60.0).desired == 10


def test_the_window_matters() -> None:
    values: list[float | None] = [100, 60, 31, 29]
    assert follow(guarded(window=600), values)[3] == 6
    assert follow(guarded(window=60), values)[3] == 3


def test_an_outage_is_not_learnt() -> None:
    policy = OutageGuard(policy=ForecastScaling(**BASE), metric="rps", drop=0.95, frozen=None)
    run(policy, 40)
    for minute in range(40, 50):
        policy.recommend({"current": 40, "metrics": {"rps": 0.5}}, now=minute * 60.0)
    assert policy.state()["policy"]["values"][-5:] == [None] * 5


def test_guard_memory_survives_json() -> None:
    values: list[float | None] = [100, 101, 100, 3, 4, 3, 90, 91]
    whole = follow(guarded(), values)
    for cut in range(1, len(values)):
        policy, other = guarded(), guarded()
        follow(policy, values[:cut])
        other.restore(json.loads(json.dumps(policy.state())))
        current = whole[cut - 1]
        r = other.recommend({"current": current, "metrics": {"rps": values[cut]}}, now=cut * 60.0)
        assert r.desired == whole[cut]


def test_clocks() -> None:
    clock = ManualClock(32.0)
    policy = OutageGuard(policy=ForecastScaling(**BASE, clock=clock), metric="rps", clock=clock)
    policy.recommend({"current": 1, "metrics": {"rps": 5}})
    assert policy.state()["seen"] == [[pytest.approx(32.0), 5.0]]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ForecastScaling(**{**BASE, "target": 0}), "target"),
        (lambda: ForecastScaling(**{**BASE, "max_capacity": -1}), "max_capacity"),
        (lambda: ForecastScaling(**{**BASE, "min_capacity": 101}), "max_capacity"),
        (lambda: ForecastScaling(**{**BASE, "cold_start": float("nan")}), "cold_start"),
        (lambda: ForecastScaling(**{**BASE, "seasons": ()}), "seasons"),
        (lambda: ForecastScaling(**{**BASE, "seasons": (90,)}), "seasons"),
        (lambda: ForecastScaling(**{**BASE, "seasons": (600, 300)}), "seasons"),
        (lambda: ForecastScaling(**{**BASE, "history": 60}), "history"),
        (lambda: ForecastScaling(**{**BASE, "quantile": 1}), "quantile"),
        (lambda: ForecastScaling(**{**BASE, "reactive": 3}), "reactive"),
        (lambda: ForecastScaling(**{**BASE, "clock": 3}), "clock"),
        (lambda: guarded(drop=1), "drop"),
        (lambda: guarded(window=0), "window"),
        (lambda: guarded(frozen=0), "frozen"),
        (lambda: OutageGuard(policy=3, metric="m"), "policy"),  # type: ignore[arg-type]
        (lambda: ForecastScaling(**BASE).restore({"kind": "other"}), "state"),
        (lambda: guarded().restore({}), "state"),
        (lambda: ProportionalScaling(metric="m", target=0, max_capacity=3), "target"),
        (lambda: ProportionalScaling(metric="m", target=1, max_capacity=3, metric_type="sum"), "metric_type"),  # type: ignore[arg-type]
        (
            lambda: ProportionalScaling(metric="m", target=1, max_capacity=3, metric_type="total", measured="n"),
            "measured",
        ),
        (lambda: ProportionalScaling(metric="m", target=1, max_capacity=3, growth_factor=0.5), "growth_factor"),
        (lambda: ProportionalScaling(metric="m", target=1, max_capacity=3, shrink_share=0), "shrink_share"),
        (lambda: QueueScaling(metric="m", steps=[], max_capacity=3), "steps"),
        (lambda: QueueScaling(metric="m", steps=[(3, 1, 1)], max_capacity=3), "steps"),
        (lambda: QueueScaling(metric="m", steps=[(1, 3)], max_capacity=3), "steps"),  # type: ignore[list-item]
        (lambda: QueueScaling(metric="m", steps=5, max_capacity=3), "steps"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()


def test_proportional_state_and_samples() -> None:
    policy = ProportionalScaling(metric="m", target=0.5, max_capacity=30, cooldown=60, stabilization=120)
    policy.recommend({"current": 4, "metrics": {"m": 0.9}}, now=10.0)
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    assert again.state() != policy.state()
    again.restore(json.loads(json.dumps(policy.state())))
    assert again.state() == policy.state()
    with pytest.raises(MetricError, match="nothing is recorded"):
        policy.record("m", 1.0, at=0.0)
    with pytest.raises(ConfigError, match="state"):
        policy.restore({"version": 1, "kind": "other"})
