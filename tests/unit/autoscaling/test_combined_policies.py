"""Several policies on one group."""

from __future__ import annotations

from typing import Any

import pytest

from aibalance import Combined, ConfigError, MetricError, Step, StepScaling, TargetTracking

DIRECT: dict[str, Any] = {"min_capacity": 0, "max_capacity": 100, "high_alarm": None, "low_alarm": None}


def tracking(metric: str, **rest: Any) -> TargetTracking:
    # With a target of ten, ten instances want as much capacity as the metric says.
    return TargetTracking(**{"metric": metric, "target": 10, **DIRECT, **rest})


def exact(metric: str, capacity: int, **rest: Any) -> StepScaling:
    config: dict[str, Any] = {"threshold": 1, "min_capacity": 0, "max_capacity": 100, **rest}
    steps = [Step(lower=0, adjustment=capacity)]
    return StepScaling(metric=metric, steps=steps, adjustment_type="exact_capacity", **config)


def ask(policy: Combined, current: int = 10, now: float = 0.0, **metrics: float | None) -> Any:
    return policy.recommend({"current": current, "metrics": metrics}, now=now)


def test_the_largest_capacity_wins_both_ways() -> None:
    assert ask(Combined([exact("m", 11), exact("m", 12)]), m=1).desired == 12
    assert ask(Combined([exact("m", 12), exact("m", 8)]), m=1).desired == 12
    # 8 instances: three fewer, or a quarter fewer.
    three = StepScaling(metric="m", threshold=1, steps=[Step(lower=0, adjustment=-3)], max_capacity=100)
    quarter = StepScaling(
        metric="m",
        threshold=1,
        steps=[Step(lower=0, adjustment=-25)],
        adjustment_type="percent_change_in_capacity",
        max_capacity=100,
    )
    assert ask(Combined([three, quarter]), current=8, m=1).desired == 6


def test_a_step_that_asks_for_no_change_is_an_opinion_and_silence_is_none() -> None:
    policy = Combined([exact("a", 10), exact("b", 5)])
    assert ask(policy, a=1, b=1).desired == 10
    assert ask(policy, a=0, b=1).desired == 5


def test_tracking_out_if_any_in_only_if_all() -> None:
    policy = Combined([tracking("a"), tracking("b")])
    assert ask(policy, a=12, b=6).desired == 12
    assert ask(policy, a=7, b=8).desired == 8
    for b in (10, None):
        r = ask(policy, a=5, b=b)
        assert (r.desired, r.action, r.limited_by) == (10, "none", "not_unanimous")


def test_those_that_may_not_scale_in_are_not_asked() -> None:
    policy = Combined([tracking("a"), tracking("b", disable_scale_in=True)])
    assert ask(policy, a=5, b=10).desired == 5
    assert ask(policy, a=5, b=12).desired == 12
    assert ask(Combined([tracking("b", disable_scale_in=True)]), b=1).limited_by == "disable_scale_in"


def test_step_scaling_scales_in_by_itself() -> None:
    assert ask(Combined([tracking("a"), exact("b", 7)]), a=10, b=1).desired == 7


def test_all_data_missing() -> None:
    r = ask(Combined([tracking("a"), tracking("b")]), a=None)
    assert (r.action, r.desired, r.reason) == ("insufficient_data", 10, "no policy has data: stays at 10")


def test_bounds_of_the_group() -> None:
    assert ask(Combined([tracking("a")], max_capacity=15), a=90).desired == 15
    assert ask(Combined([tracking("a", max_capacity=20), tracking("b", max_capacity=30)]), a=90, b=90).desired == 30
    assert ask(Combined([tracking("a")], min_capacity=4), a=0).limited_by == "min_capacity"
    with pytest.raises(ConfigError, match="max_capacity"):
        Combined([tracking("a")], min_capacity=5, max_capacity=4)


def test_a_scale_out_of_one_ends_the_scale_in_cooldown_of_another() -> None:
    low = StepScaling(
        metric="m", threshold=2, direction="low", steps=[Step(upper=0, adjustment=-1)], cooldown=300.0, max_capacity=100
    )
    policy = Combined([exact("n", 20), low])
    assert ask(policy, 10, 0.0, m=1, n=0).desired == 9
    assert ask(policy, 9, 10.0, m=1, n=0).limited_by == "scale_in_cooldown"
    assert ask(policy, 9, 20.0, m=5, n=1).desired == 20
    assert ask(policy, 20, 30.0, m=1, n=0).desired == 19


def test_what_one_added_warms_up_for_all() -> None:
    policy = Combined([tracking("a", warmup=60.0), tracking("b", warmup=60.0)])
    assert ask(policy, 10, 0.0, a=15, b=10).desired == 15
    r = ask(policy, 15, 30.0, a=5, b=5)
    assert (r.desired, r.limited_by, r.details["warming"]) == (15, "warming", 5)
    assert ask(policy, 15, 60.0, a=4, b=4).desired == 6


def test_one_datapoint_leads_to_one_decision_for_all_that_wished_it() -> None:
    alarms: dict[str, Any] = {"high_alarm": (1, 1), "low_alarm": (1, 1)}
    policy = Combined([tracking("a", **alarms), tracking("b", **alarms)])
    assert ask(policy, 10, 60.0, a=12, b=15).desired == 15
    assert policy.recommend({"current": 15}, now=70.0).desired == 15
    assert ask(policy, 15, 120.0, a=10, b=10).desired == 15


def test_rejected_reaches_every_policy() -> None:
    policy = Combined([tracking("a", warmup=60.0), tracking("b", scale_out_cooldown=60.0)])
    before = policy.state()
    r = ask(policy, 10, 0.0, a=15, b=15)
    assert policy.state()["policies"][0]["warming"] == [[0, 5]]
    policy.rejected(r)
    for old, new in zip(before["policies"], policy.state()["policies"], strict=True):
        assert {**old, "serial": 1, "seen": 10} == new


def test_nothing_is_taken_up_when_one_policy_cannot_use_the_observation() -> None:
    alarmed = TargetTracking(metric="a", target=10, max_capacity=100)
    policy = Combined([alarmed, tracking("b")])
    before = policy.state()
    with pytest.raises(MetricError, match="b: -1"):
        ask(policy, a=5, b=-1)
    with pytest.raises(MetricError, match="this policy reads a, b"):
        policy.record("c", 1, at=0.0)
    assert policy.state() == before
    # Step scaling takes negative values of a metric, target tracking of the same name does not.
    shared = Combined([exact("a", 5, alarm=(1, 1)), tracking("a")])
    before = shared.state()
    with pytest.raises(MetricError, match="a: -1"):
        shared.record("a", -1, at=0.0)
    assert shared.state() == before


def test_members_are_taken_with_an_empty_memory_of_their_own() -> None:
    member = TargetTracking(metric="a", target=10, max_capacity=100, high_alarm=(1, 1))
    member.record("a", 50, at=60.0)
    policy = Combined([member])
    assert policy.recommend({"current": 10}, now=60.0).action == "insufficient_data"
    policy.record("a", 12, at=60.0)
    assert policy.recommend({"current": 10}, now=60.0).desired == 12
    assert member.recommend({"current": 10}, now=60.0).desired == 50


def test_combined_in_combined() -> None:
    policy = Combined([Combined([tracking("a"), tracking("b")]), exact("c", 4)])
    assert ask(policy, a=12, b=5, c=1).desired == 12
    assert ask(policy, a=7, b=8, c=1).desired == 8
    trace = dict(ask(policy, a=7, b=8, c=1).trace)
    assert trace["policies[0].policies[1].wanted"] == 8
    assert trace["desired"] == 8


@pytest.mark.parametrize("policies", [[], 3, ["cpu"], [None], "ab"])
def test_policies_that_cannot_be(policies: Any) -> None:
    with pytest.raises(ConfigError, match="policies"):
        Combined(policies)
