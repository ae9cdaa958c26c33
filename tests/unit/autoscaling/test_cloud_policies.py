"""The policies of the clouds: each option by itself, the memory, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import (
    AibrixApa,
    AzureAutoscale,
    AzureRule,
    CloudRun,
    GroupSignal,
    ManagedInstanceGroup,
    Policy,
    PredictiveScaling,
    RayServeAutoscaler,
    ScaleInLimit,
    ScalingSchedule,
    ScheduledAction,
    ScheduledScaling,
    SimpleScaling,
)

Script = Sequence[tuple[float, int, Any]]


def run(policy: Policy, script: Script) -> list[int]:
    """The capacities after each of (time, value); what is recommended is what there is next."""
    n = script[0][1]
    seen = []
    for at, current, value in script:
        n = n if current < 0 else current
        metrics = value if isinstance(value, dict) else {"m": value}
        n = policy.recommend({"current": n, "metrics": metrics}, now=at).desired
        seen.append(n)
    return seen


def ray(**o: Any) -> RayServeAutoscaler:
    base = {"metric": "m", "max_replicas": 20, "upscale_delay": 0.0, "downscale_delay": 0.0}
    return RayServeAutoscaler(**{**base, **o})


def simple(**o: Any) -> SimpleScaling:
    base = {"metric": "m", "threshold": 50, "adjustment": 2, "max_capacity": 20, "alarm": None, "cooldown": 0.0}
    return SimpleScaling(**{**base, **o})


def mig(**o: Any) -> ManagedInstanceGroup:
    base = {"signals": [GroupSignal("m", 10, kind="group")], "max_replicas": 50, "stabilization_period": 0.0}
    return ManagedInstanceGroup(**{**base, **o})


def apa(**o: Any) -> AibrixApa:
    return AibrixApa(**{"metric": "m", "target": 10, "max_replicas": 50, "scale_down_cooldown": 0.0, **o})


def azure(out: dict[str, Any] | None = None, inward: dict[str, Any] | None = None, **o: Any) -> AzureAutoscale:
    rules = [
        AzureRule(**{"direction": "out", "metric": "m", "op": ">", "threshold": 70, "cooldown": 0.0, **(out or {})}),
        AzureRule(**{"direction": "in", "metric": "m", "op": "<", "threshold": 30, "cooldown": 0.0, **(inward or {})}),
    ]
    return AzureAutoscale(**{"rules": rules, "max_capacity": 20, **o})


def cloud_run(**o: Any) -> CloudRun:
    return CloudRun(metric="m", **o)


def schedule(**o: Any) -> ScheduledScaling:
    return ScheduledScaling(**{"actions": [action()], "max_capacity": 10, **o})


def action(**o: Any) -> ScheduledAction:
    return ScheduledAction(**{"name": "a", "recurrence": "0 1 * * *", "desired": 4, **o})


def predictive(**o: Any) -> PredictiveScaling:
    policy = PredictiveScaling(**{"max_capacity": 20, "mode": "forecast_and_scale", **o})
    policy.set_forecast([4, 30, 8], start=0.0)
    return policy


UP: Script = [(0.0, 2, 9.0), (10.0, -1, 9.0)]
DOWN: Script = [(0.0, 8, 2.0), (10.0, -1, 2.0)]
NONE: Script = [(0.0, 2, 0.0), (10.0, -1, 0.0), (20.0, -1, 0.0)]
HOT: Script = [(0.0, 4, 60.0), (100.0, -1, 60.0)]
HOUR: Script = [(3599.0, 2, {}), (3600.0, -1, {}), (3660.0, -1, {})]

OPTIONS: list[tuple[Callable[..., Policy], dict[str, Any], Script, list[int], list[int]]] = [
    (ray, {"target_ongoing_requests": 3.0}, UP, [5, 5], [3, 3]),
    (ray, {"min_replicas": 3}, DOWN, [1, 1], [3, 3]),
    (ray, {"min_replicas": 0}, NONE, [1, 1, 1], [1, 0, 0]),
    (ray, {"max_replicas": 4}, UP, [5, 5], [4, 4]),
    (ray, {"upscaling_factor": 0.5}, UP, [5, 5], [4, 5]),
    (ray, {"downscaling_factor": 0.5}, DOWN, [1, 1], [5, 3]),
    (ray, {"upscale_delay": 10.0}, UP, [5, 5], [2, 5]),
    (ray, {"downscale_delay": 10.0}, DOWN, [1, 1], [8, 1]),
    (ray, {"target_capacity": 15.0}, UP, [5, 5], [3, 3]),
    (ray, {"gang_size": 4, "min_replicas": 0}, UP, [5, 5], [8, 8]),
    (simple, {"threshold": 70}, HOT, [6, 8], [4, 4]),
    (simple, {"adjustment": 3}, HOT, [6, 8], [7, 10]),
    (simple, {"direction": "low"}, HOT, [6, 8], [4, 4]),
    (simple, {"adjustment_type": "exact_capacity"}, HOT, [6, 8], [2, 2]),
    (simple, {"cooldown": 150.0}, HOT, [6, 8], [6, 6]),
    (simple, {"alarm": (1, 1)}, HOT, [6, 8], [6, 6]),
    (simple, {"max_capacity": 7}, HOT, [6, 8], [6, 7]),
    (simple, {"min_capacity": 9}, HOT, [6, 8], [9, 11]),
    (mig, {"stabilization_period": 60.0}, DOWN, [1, 1], [8, 8]),
    (mig, {"stabilization_period": 10.0}, DOWN, [1, 1], [8, 1]),
    (mig, {"mode": "only_scale_out"}, DOWN, [1, 1], [8, 8]),
    (mig, {"mode": "off"}, HOT, [6, 6], [4, 4]),
    (mig, {"min_replicas": 3}, DOWN, [1, 1], [3, 3]),
    (mig, {"max_replicas": 5}, HOT, [6, 6], [5, 5]),
    (mig, {"scale_in_limit": ScaleInLimit(2)}, DOWN, [1, 1], [6, 6]),
    (mig, {"scale_in_limit": ScaleInLimit("50%", window=5.0)}, DOWN, [1, 1], [4, 1]),
    (mig, {"signals": [GroupSignal("m", 10)]}, HOT, [6, 6], [24, 50]),
    (
        mig,
        {"schedules": [ScalingSchedule(recurrence="0 0 * * *", duration=300, min_required_replicas=9)]},
        [(299.0, 4, 10.0), (300.0, -1, 10.0)],
        [1, 1],
        [9, 1],
    ),
    (
        mig,
        {
            "schedules": [
                ScalingSchedule(
                    recurrence="0 1 * * *", duration=300, min_required_replicas=9, time_zone="Europe/Berlin"
                )
            ]
        },
        [(299.0, 4, 10.0), (300.0, -1, 10.0)],
        [1, 1],
        [9, 1],
    ),
    (apa, {"target": 3}, DOWN, [4, 2], [6, 4]),
    (apa, {"up_tolerance": 1.5}, [(0.0, 4, 20.0)], [8], [4]),
    (apa, {"down_tolerance": 0.9}, DOWN, [4, 2], [8, 8]),
    (apa, {"max_scale_up_rate": 3.0}, [(0.0, 4, 60.0)], [8], [12]),
    (apa, {"max_scale_down_rate": 4.0}, DOWN, [4, 2], [2, 1]),
    (apa, {"scale_down_cooldown": 60.0}, DOWN, [4, 2], [4, 4]),
    (apa, {"min_replicas": 3}, DOWN, [4, 2], [4, 3]),
    (apa, {"max_replicas": 5}, [(0.0, 4, 20.0)], [8], [5]),
    (azure, {"out": {"threshold": 50}}, HOT, [4, 4], [5, 6]),
    (azure, {"out": {"op": ">=", "threshold": 60}}, HOT, [4, 4], [5, 6]),
    (azure, {"out": {"threshold": 50, "by": 3}}, HOT, [4, 4], [7, 10]),
    (azure, {"out": {"threshold": 50, "by": 50, "change": "percent"}}, HOT, [4, 4], [6, 9]),
    (azure, {"out": {"threshold": 50, "by": 9, "change": "exact"}}, HOT, [4, 4], [9, 9]),
    (azure, {"out": {"threshold": 50, "cooldown": 200.0}}, HOT, [4, 4], [5, 5]),
    (azure, {"out": {"threshold": 14, "divide_by_instances": True}}, HOT, [4, 4], [5, 5]),
    (azure, {"inward": {"by": 3}}, DOWN, [7, 6], [5, 2]),
    (azure, {"min_capacity": 7}, DOWN, [7, 6], [7, 7]),
    (azure, {"max_capacity": 3}, HOT, [4, 4], [3, 3]),
    (azure, {"default_capacity": 6}, [(0.0, 4, None)], [4], [6]),
    (cloud_run, {"max_concurrency": 10}, HOT, [2, 2], [10, 10]),
    (cloud_run, {"concurrency_target": 0.2}, HOT, [2, 2], [4, 4]),
    (cloud_run, {"cpu_target": 0.3}, [(0.0, 4, {"cpu": 0.6})], [4], [8]),
    (cloud_run, {"min_instances": 3}, HOT, [2, 2], [3, 3]),
    (cloud_run, {"max_instances": 1}, HOT, [2, 2], [1, 1]),
    (schedule, {"actions": [action(recurrence="1 1 * * *")]}, HOUR, [2, 4, 4], [2, 2, 4]),
    (schedule, {"actions": [action(time_zone="Europe/Berlin", recurrence="0 2 * * *")]}, HOUR, [2, 4, 4], [2, 4, 4]),
    (schedule, {"actions": [action(time_zone="Europe/Berlin")]}, HOUR, [2, 4, 4], [2, 2, 2]),
    (schedule, {"actions": [action(start=3601.0)]}, HOUR, [2, 4, 4], [2, 2, 2]),
    (schedule, {"actions": [action(end=3599.5)]}, HOUR, [2, 4, 4], [2, 2, 2]),
    (schedule, {"actions": [action(desired=None, max_capacity=1)]}, HOUR, [2, 4, 4], [2, 1, 1]),
    (schedule, {"min_capacity": 5}, HOUR, [2, 4, 4], [5, 5, 5]),
    (predictive, {"mode": "forecast_only"}, HOUR, [20, 20, 20], [2, 2, 2]),
    (predictive, {"max_capacity": 25}, HOUR, [20, 20, 20], [25, 25, 25]),
    (predictive, {"scheduling_buffer_time": 0.0}, HOUR, [20, 20, 20], [4, 20, 20]),
    (predictive, {"max_capacity_breach": "increase", "max_capacity_buffer": 10}, HOUR, [20, 20, 20], [30, 30, 30]),
    (predictive, {"target": 3.0}, HOUR, [20, 20, 20], [10, 10, 10]),
]


@pytest.mark.parametrize(("make", "option", "script", "before", "after"), OPTIONS)
def test_an_option_by_itself(
    make: Callable[..., Policy], option: dict[str, Any], script: Script, before: list[int], after: list[int]
) -> None:
    assert run(make(), script) == before
    assert run(make(**option), script) == after


MAKERS = [ray, simple, mig, apa, azure, cloud_run, schedule, predictive]


@pytest.mark.parametrize("make", MAKERS)
def test_a_memory_goes_through_json_and_decides_the_same(make: Callable[..., Policy]) -> None:
    policy, heir = make(), make()
    for k in range(40):
        heir.restore(json.loads(json.dumps(policy.state())))
        assert heir.state() == policy.state()
        seen = {"current": 1 + k % 7, "metrics": {"m": (k * 37.0) % 100}}
        now = 3500.0 + 13.0 * k
        r = policy.recommend(seen, now=now)
        assert heir.recommend(seen, now=now) == r
        assert pickle.loads(pickle.dumps(r)) == r
        assert r.reason
        assert dict(r.trace)["desired"] == r.desired
        assert policy.recommend({"current": r.desired}, now=max(0.0, now - 20.0)).desired >= 0


@pytest.mark.parametrize("make", MAKERS)
def test_a_memory_of_another_kind_changes_nothing(make: Callable[..., Policy]) -> None:
    policy = make()
    run(policy, [(0.0, 3, 10.0)])
    state = policy.state()
    bad = [None, {}, {**state, "kind": "other"}, {**state, "version": 99}, {**state, "serial": -1}]
    for broken in bad:
        with pytest.raises(ConfigError, match="state"):
            policy.restore(broken)  # type: ignore[arg-type]
    assert policy.state() == state


@pytest.mark.parametrize("make", [m for m in MAKERS if m not in (schedule, predictive)])
def test_values_that_are_no_metrics_are_refused(make: Callable[..., Policy]) -> None:
    for value in (float("nan"), float("inf"), 1e200):
        with pytest.raises(MetricError, match="m: "):
            make().recommend({"current": 3, "metrics": {"m": value}}, now=0.0)
    r = make().recommend({"current": 3, "metrics": {"m": None}}, now=0.0)
    assert (r.desired, r.action) == (3, "insufficient_data")


@pytest.mark.parametrize("make", MAKERS)
def test_a_policy_travels_by_its_configuration(make: Callable[..., Policy]) -> None:
    policy = make()
    assert pickle.loads(pickle.dumps(policy)) == policy


REFUSED: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (ray, {"target_ongoing_requests": 0}, "target_ongoing_requests: 0"),
    (ray, {"min_replicas": 21}, "max_replicas: 20"),
    (ray, {"upscale_delay": -1.0}, "upscale_delay: -1"),
    (ray, {"gang_size": 3}, "min_replicas: 1"),
    (ray, {"initial_replicas": 21}, "initial_replicas: 21"),
    (ray, {"target_capacity_direction": "up"}, "target_capacity_direction"),
    (ray, {"target_capacity": 101.0}, "target_capacity: 101"),
    (ray, {"metric": ""}, "metric"),
    (ray, {"upscaling_factor": float("nan")}, "upscaling_factor"),
    (simple, {"alarm": (3, 2)}, "alarm"),
    (simple, {"period": 0.0}, "period"),
    (simple, {"min_adjustment_magnitude": 2}, "min_adjustment_magnitude"),
    (simple, {"adjustment_type": "percent"}, "adjustment_type"),
    (mig, {"signals": []}, "signals"),
    (mig, {"signals": ["cpu"]}, r"signals\[0\]"),
    (mig, {"signals": [GroupSignal("m", 0)]}, r"signals\[0\].target"),
    (mig, {"stabilization_period": 3601.0}, "stabilization_period"),
    (mig, {"mode": "ON"}, "mode"),
    (mig, {"scale_in_limit": ScaleInLimit("101%")}, "max_scaled_in"),
    (mig, {"scale_in_limit": ScaleInLimit("many")}, "max_scaled_in"),
    (
        mig,
        {"schedules": [ScalingSchedule(recurrence="0 0 * * *", duration=299, min_required_replicas=1)]},
        r"schedules\[0\].duration",
    ),
    (apa, {"max_scale_up_rate": 0.5}, "max_scale_up_rate"),
    (azure, {"out": {"op": "=>"}}, r"rules\[0\].op"),
    (azure, {"inward": {"by": 0}}, r"rules\[1\].by"),
    (azure, {"default_capacity": 30}, "default_capacity"),
    (cloud_run, {"concurrency_target": 0.96}, "concurrency_target"),
    (schedule, {"actions": [action(recurrence="0 25 * * *")]}, r"actions\[0\].recurrence"),
    (schedule, {"actions": [action(recurrence="0 0 1 * * *")]}, r"actions\[0\].recurrence"),
    (schedule, {"actions": [action(time_zone="Mars/Olympus")]}, r"actions\[0\].time_zone"),
    (schedule, {"actions": [action(desired=None)]}, r"actions\[0\].desired"),
    (schedule, {"actions": [action(), action()]}, r"actions\[1\].name"),
    (schedule, {"actions": [action(min_capacity=5, max_capacity=3, desired=None)]}, r"actions\[0\].max_capacity"),
    (predictive, {"max_capacity_buffer": 10}, "max_capacity_buffer"),
    (predictive, {"max_capacity_breach": "increase"}, "max_capacity_buffer"),
    (predictive, {"scheduling_buffer_time": 3601.0}, "scheduling_buffer_time"),
]


@pytest.mark.parametrize(("make", "option", "message"), REFUSED)
def test_what_cannot_be_honoured_is_refused(make: Callable[..., Any], option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**option)


def test_ray_waits_without_a_break_and_answers_the_first_request_at_once() -> None:
    policy = ray(upscale_delay=30.0, min_replicas=0)
    assert run(policy, [(0.0, 2, 8.0), (20.0, -1, 8.0), (25.0, -1, 4.0), (26.0, -1, 8.0), (56.0, -1, 8.0)])[-2:] == [
        2,
        4,
    ]
    r = policy.recommend({"current": 0, "metrics": {"m": 500}}, now=57.0)
    assert (r.desired, r.details["cold_start"]) == (1, True)


def test_simple_scaling_waits_for_what_it_began() -> None:
    policy = simple(cooldown=300.0)

    def ask(current: int, desired: int, now: float, warming: int = 0) -> tuple[int, str | None]:
        seen = {"current": current, "desired": desired, "warming": warming, "metrics": {"m": 90}}
        r = policy.recommend(seen, now=now)
        return r.desired, r.limited_by

    assert ask(4, 4, 0.0) == (6, None)
    assert ask(4, 4, 10.0) == (6, None), "not carried out yet: the same answer"
    assert ask(4, 6, 100.0, warming=2) == (6, "in_progress")
    assert ask(6, 6, 200.0) == (6, "cooldown"), "which begins now"
    assert ask(6, 6, 499.0) == (6, "cooldown")
    assert ask(6, 6, 500.0) == (8, None)
    r = policy.recommend({"current": 6, "desired": 6, "metrics": {"m": 90}}, now=501.0)
    policy.rejected(r)
    assert policy.state()["last"] is None


def test_a_schedule_follows_daylight_saving() -> None:
    morning = action(recurrence="30 2 * * *", time_zone="Europe/Berlin")
    day = 86_400.0
    spring = 1_711_846_800.0  # 2024-03-31, 1:00 UTC: from 2:00 to 3:00
    autumn = 1_729_990_800.0  # 2024-10-27, 1:00 UTC: from 3:00 to 2:00

    def fired(start: float, minutes: int) -> list[float]:
        policy = schedule(actions=[morning])
        out = []
        for k in range(minutes):
            now = start + 60.0 * k
            if policy.recommend({"current": 1}, now=now).details["fired"]:
                out.append(now)
        return out

    assert fired(spring - 7200.0, 300) == [spring], "2:30 does not exist: at once after the change"
    assert fired(autumn - 7200.0, 300) == [autumn - 1800.0], "2:30 comes twice: once"
    assert fired(autumn + day - 7200.0, 300) == [autumn + day + 1800.0]


def test_actions_that_were_missed_are_made_up_for_once_and_in_order() -> None:
    policy = schedule(
        actions=[
            action(name="down", recurrence="0 3 * * *", desired=2),
            action(name="up", recurrence="0 1,2 * * *", desired=9),
        ]
    )
    policy.recommend({"current": 1}, now=0.0)
    r = policy.recommend({"current": 1}, now=4 * 3600.0)
    assert (r.details["fired"], r.desired) == (("up", "down"), 2)
    assert policy.recommend({"current": 2}, now=60.0).details["fired"] == (), "a clock that goes back runs none again"


def test_a_raised_maximum_stays_until_it_is_reset() -> None:
    policy = predictive(max_capacity_breach="increase", max_capacity_buffer=10)
    assert policy.recommend({"current": 4}, now=3300.0).details["effective_max"] == 33
    assert policy.recommend({"current": 33}, now=7200.0).desired == 33
    policy.reset_max_capacity()
    assert policy.recommend({"current": 33}, now=7200.0).desired == 20


def test_a_forecast_is_checked_and_says_what_comes() -> None:
    policy = predictive(scheduling_buffer_time=300.0, max_capacity=100)
    r = policy.recommend({"current": 4}, now=0.0)
    assert (r.details["next_launch_at"], r.details["next_need"]) == (3300.0, 30)
    state = policy.state()
    for values in ([], [-1.0], [float("nan")], ["x"]):
        with pytest.raises(ConfigError, match="values"):
            policy.set_forecast(values, start=0.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="period"):
        policy.set_forecast([1.0], start=0.0, period=0.0)
    assert policy.state() == state
    assert policy.recommend({"current": 4}, now=1e9).action == "insufficient_data"


def test_azure_goes_in_only_if_all_rules_say_so() -> None:
    rules = [
        AzureRule(direction="in", metric="cpu", op="<", threshold=30),
        AzureRule(direction="in", metric="memory", op="<", threshold=50, by=3),
    ]
    policy = AzureAutoscale(rules=rules, max_capacity=20)
    assert policy.recommend({"current": 9, "metrics": {"cpu": 20, "memory": 60}}, now=0.0).desired == 9
    assert policy.recommend({"current": 9, "metrics": {"cpu": 20, "memory": 40}}, now=0.0).desired == 8
    r = policy.recommend({"current": 8, "metrics": {"cpu": 20, "memory": 40}}, now=299.0)
    assert (r.desired, r.limited_by) == (8, "cooldown")
    assert policy.recommend({"current": 8, "metrics": {"cpu": 20, "memory": 40}}, now=300.0).desired == 7
