"""Target tracking: sizing, alarms, warm-up, cooldowns, odd input."""

from __future__ import annotations

from typing import Any

import pytest

from aibalance import ConfigError, MetricError, TargetTracking
from aibalance.autoscaling import effective_warmup, warm_metric

DIRECT: dict[str, Any] = {"metric": "cpu", "high_alarm": None, "low_alarm": None, "max_capacity": 100}


def seen(current: int, cpu: float | None, **rest: Any) -> dict[str, Any]:
    return {"current": current, "metrics": {"cpu": cpu}, **rest}


@pytest.mark.parametrize(
    ("current", "metric", "target", "desired", "action"),
    [
        (10, 150, 100, 15, "scale_out"),  # AWS: 1500 messages, 0.1 s each, 10 s allowed
        (6, 37.5, 50, 5, "scale_in"),  # AWS: could remove 1.5, removes 1
        (2, 51, 50, 3, "scale_out"),
        (10, 50, 50, 10, "none"),
        (10, 45, 50, 10, "none"),
        (10, 44.9, 50, 9, "scale_in"),
        (10, 0, 50, 1, "scale_in"),
        (10, 1e-300, 50, 1, "scale_in"),
        (1, 2.0**360, 1e-300, 100, "scale_out"),
    ],
)
def test_sizing(current: int, metric: float, target: float, desired: int, action: str) -> None:
    r = TargetTracking(target=target, **DIRECT).recommend(seen(current, metric), now=0.0)
    assert (r.desired, r.action, r.current) == (desired, action, current)


def test_float_error_neither_adds_an_instance_nor_alarms() -> None:
    assert 0.1 + 0.2 > 0.3
    r = TargetTracking(target=0.3, **DIRECT).recommend(seen(10, 0.1 + 0.2), now=0.0)
    assert (r.desired, r.details["alarm"]) == (10, "ok")
    # 0.9 * 0.1 is 0.09000000000000001: a metric of 0.09 is at the edge, not below it.
    assert TargetTracking(target=0.1, **DIRECT).recommend(seen(10, 0.09), now=0.0).details["alarm"] == "ok"
    # 7 * 0.3 / 0.7 is 3.0000000000000004 in some orders of evaluation and 3 on paper.
    assert TargetTracking(target=0.7, **DIRECT).recommend(seen(7, 0.3), now=0.0).desired == 3


def test_bounds_hold_even_without_data() -> None:
    policy = TargetTracking(target=50, **{**DIRECT, "min_capacity": 3, "max_capacity": 12})
    assert policy.recommend(seen(10, 90), now=0.0).desired == 12
    assert policy.recommend(seen(10, 90), now=0.0).limited_by == "max_capacity"
    assert policy.recommend(seen(10, 1), now=0.0).desired == 3
    r = policy.recommend(seen(20, None), now=0.0)
    assert (r.desired, r.limited_by, r.action) == (12, "max_capacity", "scale_in")


def test_missing_is_no_action_and_zero_is_a_value() -> None:
    policy = TargetTracking(target=50, **{**DIRECT, "min_capacity": 0})
    for observation in (seen(10, None), {"current": 10}, {"current": 10, "metrics": {"gpu": 1.0}}):
        r = policy.recommend(observation, now=0.0)
        assert (r.desired, r.action) == (10, "insufficient_data")
        assert "no data for cpu" in r.reason
    assert policy.recommend(seen(3, 0), now=0.0).desired == 0


def test_zero_capacity_stays_unless_asked_otherwise() -> None:
    zero = {**DIRECT, "min_capacity": 0}
    r = TargetTracking(target=50, **zero).recommend(seen(0, 500), now=0.0)
    assert (r.desired, r.limited_by) == (0, "zero_capacity")
    assert TargetTracking(target=50, scale_from_zero=True, **zero).recommend(seen(0, 500), now=0.0).desired == 1
    # Something is on its way already: no second one.
    r = TargetTracking(target=50, scale_from_zero=True, **zero).recommend(seen(0, 500, warming=1), now=0.0)
    assert (r.desired, r.action) == (1, "none")


def test_disable_scale_in() -> None:
    r = TargetTracking(target=50, disable_scale_in=True, **DIRECT).recommend(seen(10, 5), now=0.0)
    assert (r.desired, r.limited_by) == (10, "disable_scale_in")


def test_warming_counts_for_scale_out_and_blocks_scale_in() -> None:
    policy = TargetTracking(target=50, **DIRECT)
    assert policy.recommend(seen(10, 70, warming=4), now=0.0).action == "none"
    r = policy.recommend(seen(10, 60, warming=4), now=0.0)
    assert (r.desired, r.limited_by, r.details["in_flight"]) == (14, "in_flight", 4)
    assert policy.recommend(seen(10, 80, warming=4), now=0.0).desired == 16
    r = policy.recommend(seen(10, 5, warming=1), now=0.0)
    assert (r.desired, r.limited_by, r.details["warming"]) == (11, "warming", 1)


def test_the_policy_knows_what_it_added_itself() -> None:
    policy = TargetTracking(target=50, warmup=120.0, **DIRECT)
    assert policy.recommend(seen(10, 75), now=0.0).desired == 15
    # All run, none is warm: the work is still what ten instances report.
    r = policy.recommend(seen(15, 75), now=60.0)
    assert (r.desired, r.limited_by, r.details["warming"]) == (15, "in_flight", 5)
    assert policy.recommend(seen(15, 10), now=119.0).limited_by == "warming"
    assert policy.recommend(seen(15, 10), now=120.0).desired == 3


def test_scale_out_cooldown_counts_what_was_added() -> None:
    policy = TargetTracking(target=100, scale_out_cooldown=300.0, **DIRECT)
    assert policy.recommend(seen(10, 150), now=0.0).desired == 15
    r = policy.recommend(seen(15, 150), now=60.0)
    assert (r.desired, r.limited_by) == (15, "scale_out_cooldown")
    assert policy.recommend(seen(15, 200), now=120.0).desired == 20  # a larger step goes on, and begins it anew
    assert policy.recommend(seen(20, 200), now=419.0).desired == 20
    assert policy.recommend(seen(20, 200), now=420.0).desired == 40


def test_scale_in_cooldown_blocks_and_a_scale_out_ends_it() -> None:
    policy = TargetTracking(target=100, scale_in_cooldown=300.0, **DIRECT)
    assert policy.recommend(seen(10, 50), now=0.0).desired == 5
    assert policy.recommend(seen(5, 50), now=299.0).limited_by == "scale_in_cooldown"
    assert policy.recommend(seen(5, 120), now=299.5).desired == 6
    assert policy.recommend(seen(6, 50), now=299.6).desired == 3


def test_three_of_three_then_out_and_not_twice_on_one_datapoint() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100)
    alarms = [policy.recommend(seen(10, 75), now=60.0 * k).details["alarm"] for k in (1, 2)]
    assert alarms == ["ok", "ok"]
    r = policy.recommend(seen(10, 75), now=180.0)
    assert (r.desired, r.details["alarm"]) == (15, "high")
    # Carried out, or not yet: the same minutes do not speak twice.
    assert policy.recommend({"current": 15}, now=200.0).desired == 15
    assert policy.recommend({"current": 10}, now=210.0).desired == 15
    # The fourth minute was measured at 15 instances.
    assert policy.recommend(seen(15, 75), now=240.0).desired == 23


def test_a_datapoint_sizes_with_the_capacity_it_was_measured_at() -> None:
    """Load for 80: at 40 instances it shows 100, from half of the minute on, at 80, it shows 50."""
    policy = TargetTracking(metric="cpu", target=50, max_capacity=1000, high_alarm=(1, 1), low_alarm=(1, 1))
    for at, current, cpu in ((75.0, 40, 100.0), (90.0, 40, 100.0), (105.0, 80, 50.0), (120.0, 80, 50.0)):
        r = policy.recommend(seen(current, cpu), now=at)
    assert (r.details["metric"], r.details["measured_at"]) == (75.0, 160 / 3)
    assert r.details["need"] == pytest.approx(80, rel=1e-12)
    assert (r.desired, r.action, r.details["projected_metric"]) == (80, "none", 50.0)  # not 81 for a last bit
    # The same of samples that come by themselves: they were measured at the capacity that was seen last.
    policy.record("cpu", 100.0, at=150.0)
    r = policy.recommend({"current": 160}, now=180.0)
    assert (r.details["measured_at"], r.desired) == (80.0, 160)


def test_fifteen_of_fifteen_then_in() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100)
    decisions = [policy.recommend(seen(10, 20), now=60.0 * k).desired for k in range(1, 16)]
    assert decisions == [10] * 14 + [4]


def test_a_gap_breaks_a_run_and_silence_is_insufficient_data() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100)
    values = [75, 75, None, 75, 75, None, None, None]
    alarms = [policy.recommend(seen(10, v), now=60.0 * k).details["alarm"] for k, v in enumerate(values, start=1)]
    assert alarms == ["ok"] * 7 + ["insufficient_data"]


def test_samples_of_one_minute_are_one_datapoint() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100, high_alarm=(1, 1))
    for at, value in ((5.0, 30.0), (25.0, 60.0), (45.0, 90.0)):
        policy.record("cpu", value, at=at)
    policy.record("cpu", None, at=50.0)
    assert policy.recommend({"current": 10}, now=59.0).action == "insufficient_data"
    r = policy.recommend({"current": 10}, now=60.0)
    assert (r.desired, r.details["metric"]) == (12, 60.0)


def test_without_alarms_recorded_samples_stand_in_for_a_period() -> None:
    policy = TargetTracking(target=50, **DIRECT)
    policy.record("cpu", 75, at=30.0)
    assert policy.recommend({"current": 10}, now=31.0).desired == 15
    assert policy.recommend({"current": 10, "metrics": {"cpu": None}}, now=31.0).action == "insufficient_data"
    assert policy.recommend({"current": 10}, now=119.0).desired == 15
    assert policy.recommend({"current": 10}, now=120.0).action == "insufficient_data"


def test_ten_thousand_samples_keep_a_bounded_memory() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100)
    for k in range(10_000):
        policy.record("cpu", 40.0, at=30.0 * k)
    assert len(policy.state()["datapoints"]) <= 19


def test_a_clock_set_back_neither_freezes_nor_forgets() -> None:
    policy = TargetTracking(target=100, scale_in_cooldown=300.0, **DIRECT)
    assert policy.recommend(seen(10, 50), now=1e9).desired == 5
    assert policy.recommend(seen(5, 50), now=10.0).limited_by == "scale_in_cooldown"
    assert policy.recommend(seen(5, 50), now=310.0).desired == 3
    alarmed = TargetTracking(metric="cpu", target=50, max_capacity=100)
    for k in range(20):
        alarmed.recommend(seen(10, 40), now=1e9 + 60.0 * k)
    assert [alarmed.recommend(seen(10, 75), now=60.0 * k).desired for k in (1, 2, 3)] == [10, 10, 15]


def test_rejected_takes_back_cooldown_and_datapoint() -> None:
    policy = TargetTracking(metric="cpu", target=50, max_capacity=100, scale_out_cooldown=300.0, high_alarm=(1, 1))
    r = policy.recommend(seen(10, 75), now=60.0)
    before = policy.state()
    policy.rejected(r)
    assert (policy.state()["acted"], policy.state()["out_cooldown"]) == (None, None)
    policy.rejected(r)
    again = policy.recommend({"current": 10}, now=61.0)
    assert again.desired == 15
    assert policy.state()["out_cooldown"] == [61_000_000_000, 10]
    policy.rejected(r)  # superseded: nothing to take back
    assert policy.state()["out_cooldown"] == [61_000_000_000, 10]
    assert before["out_cooldown"] == [60_000_000_000, 10]


def test_asking_again_before_it_is_carried_out_counts_once() -> None:
    policy = TargetTracking(target=50, warmup=300.0, **DIRECT)
    for k in range(5):
        assert policy.recommend(seen(10, 75), now=float(k)).desired == 15
    assert policy.state()["warming"] == [[4_000_000_000, 5]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, -0.1, 1e200, 10**400, "50", True, [50]])
def test_metrics_that_cannot_be_used(value: Any) -> None:
    policy = TargetTracking(target=50, **DIRECT)
    before = policy.state()
    with pytest.raises(MetricError, match="cpu"):
        policy.recommend(seen(10, value), now=0.0)
    with pytest.raises(MetricError, match="cpu"):
        policy.record("cpu", value, at=0.0)
    assert policy.state() == before


@pytest.mark.parametrize("now", [float("nan"), float("inf"), -1.0, "0"])
def test_times_that_cannot_be(now: Any) -> None:
    policy = TargetTracking(target=50, **DIRECT)
    with pytest.raises(ConfigError, match="now"):
        policy.recommend(seen(10, 50), now=now)
    with pytest.raises(ConfigError, match="at"):
        policy.record("cpu", 50, at=now)


def test_a_name_that_is_not_read_is_a_typo() -> None:
    with pytest.raises(MetricError, match="this policy reads cpu"):
        TargetTracking(target=50, **DIRECT).record("cup", 50, at=0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target", 0),
        ("target", -1),
        ("target", float("nan")),
        ("target", float("inf")),
        ("target", "50"),
        ("metric", ""),
        ("metric", 7),
        ("min_capacity", -1),
        ("min_capacity", 101),
        ("max_capacity", 2**31),
        ("max_capacity", 10.5),
        ("max_capacity", 10**400),
        ("scale_in_ratio", 0),
        ("scale_in_ratio", 1.1),
        ("high_alarm", (0, 3)),
        ("high_alarm", (4, 3)),
        ("low_alarm", (1, 10**9)),
        ("low_alarm", 15),
        ("period", 0),
        ("period", 1e9),
        ("warmup", -1),
        ("scale_out_cooldown", float("nan")),
        ("scale_in_cooldown", None),
        ("disable_scale_in", 1),
        ("scale_from_zero", "yes"),
        ("clock", 3),
    ],
)
def test_configurations_that_cannot_be(field: str, value: Any) -> None:
    config: dict[str, Any] = {"metric": "cpu", "target": 50, "max_capacity": 100, field: value}
    with pytest.raises(ConfigError) as caught:
        TargetTracking(**config)
    # A lower bound above the upper one is reported as the upper one's fault.
    assert field in str(caught.value)
    assert "is not allowed; " in str(caught.value)


def test_the_clock_answers_when_now_is_left_out() -> None:
    class Clock:
        at = 0.0

        def now(self) -> float:
            return self.at

    clock = Clock()
    policy = TargetTracking(target=100, scale_in_cooldown=300.0, clock=clock, **DIRECT)
    assert policy.recommend(seen(10, 50)).desired == 5
    assert policy.recommend(seen(5, 50)).action == "none"
    clock.at = 300.0
    assert policy.recommend(seen(5, 50)).desired == 3


def test_the_story_is_told() -> None:
    r = TargetTracking(target=50, **{**DIRECT, "max_capacity": 12}).recommend(seen(10, 75), now=0.0)
    assert r.trace == [
        ("current", 10),
        ("asked", 10),
        ("metric", 75.0),
        ("measured_at", 10.0),
        ("target", 50.0),
        ("alarm", "high"),
        ("base", 10),
        ("need", 15.0),
        ("wanted", 15),
        ("limited_by", "max_capacity"),
        ("desired", 12),
    ]
    assert r.details["projected_metric"] == 62.5
    assert r.remove == ()
    assert r.reason == "cpu 75 is above the target 50: 10 to 12 (bounded by max_capacity)"
    assert repr(r) == "Recommendation(12, current=10, action='scale_out', limited_by='max_capacity')"


@pytest.mark.parametrize(
    ("estimated", "default", "cooldown", "seconds"),
    [(120, 300, 300, 120), (None, None, 300, 300), (None, 0, 300, 0), (None, -1, 200, 200), (0, 300, 300, 0)],
)
def test_effective_warmup(estimated: float | None, default: float | None, cooldown: float, seconds: float) -> None:
    assert effective_warmup(estimated=estimated, default=default, cooldown=cooldown) == seconds


@pytest.mark.parametrize("bad", [{"estimated": -1}, {"default": -2}, {"cooldown": float("nan")}, {"cooldown": None}])
def test_effective_warmup_refuses(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        effective_warmup(**{"estimated": None, "default": None, **bad})


def test_warm_metric() -> None:
    instances = [(90, False), (70, False), (None, False), (5, True)]
    assert warm_metric(instances) == 80
    assert warm_metric(instances, aggregation="minimum") == 70
    assert warm_metric(instances, aggregation="maximum") == 90
    assert warm_metric([(5, True)]) is None
    assert warm_metric([(1e308, False)] * 4) == 1e308
    with pytest.raises(MetricError, match=r"instances\[1\]"):
        warm_metric([(1, False), (float("nan"), False)])
