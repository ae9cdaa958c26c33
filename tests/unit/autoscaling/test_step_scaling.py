"""Step scaling: AWS's documented runs, bounds, rounding, validation, cooldown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aibalance import ConfigError, MetricError, Step, StepScaling
from aibalance.autoscaling import Combined, round_percent_change

OUT = [Step(lower=0, upper=10, adjustment=0), Step(lower=10, upper=20, adjustment=10), Step(lower=20, adjustment=30)]
IN = [
    Step(lower=-10, upper=0, adjustment=0),
    Step(lower=-20, upper=-10, adjustment=-10),
    Step(upper=-20, adjustment=-30),
]


def percent(steps: list[Step], **rest: Any) -> StepScaling:
    config: dict[str, Any] = {"metric": "cpu", "threshold": 50, "min_capacity": 0, "max_capacity": 100}
    return StepScaling(**{**config, "steps": steps, "adjustment_type": "percent_change_in_capacity", **rest})


def change(steps: list[Step], **rest: Any) -> StepScaling:
    return percent(steps, **{"adjustment_type": "change_in_capacity", **rest})


def seen(current: int, cpu: float | None, **rest: Any) -> dict[str, Any]:
    return {"current": current, "metrics": {"cpu": cpu}, **rest}


def test_the_documented_run() -> None:
    """10 at 60 % to 11, at 70 % to 14, at 40 % to 13, at 30 % to 10 (EC2 Auto Scaling user guide)."""
    both = Combined([percent(OUT), percent(IN, direction="low")])
    capacity, run = 10, []
    for minute, cpu in enumerate((60, 70, 40, 30)):
        capacity = both.recommend(seen(capacity, cpu), now=60.0 * minute).desired
        run.append(capacity)
    assert run == [11, 14, 13, 10]


def test_the_documented_warm_up() -> None:
    """While the 11th instance warms up: 62 % stays at 11, 70 % goes to 13 (user guide of 2017 to 2022)."""
    told = percent(OUT)
    assert told.recommend(seen(10, 60), now=0.0).desired == 11
    r = told.recommend(seen(10, 62, warming=1), now=60.0)
    assert (r.desired, r.limited_by, r.details["adjustment"]) == (11, "in_flight", 1)
    assert told.recommend(seen(10, 70, warming=1), now=120.0).desired == 13

    knows = percent(OUT, warmup=300.0)
    assert knows.recommend(seen(10, 60), now=0.0).desired == 11
    assert knows.recommend(seen(11, 62), now=60.0).desired == 11
    assert knows.recommend(seen(11, 70), now=120.0).desired == 13
    # The 11th is warm after 300 s, the 12th and 13th after 420 s.
    assert knows.recommend(seen(13, 70), now=300.0).details["warming"] == 2
    assert knows.recommend(seen(13, 70), now=420.0).desired == 16


@pytest.mark.parametrize(("metric", "step"), [(49.9, None), (50, 0), (59.9, 0), (60, 1), (69.9, 1), (70, 2), (1e9, 2)])
def test_the_lower_bound_belongs_to_the_step_on_the_high_side(metric: float, step: int | None) -> None:
    assert percent(OUT).recommend(seen(10, metric), now=0.0).details["step"] == step


@pytest.mark.parametrize(("metric", "step"), [(50.1, None), (50, 0), (40.1, 0), (40, 1), (30.1, 1), (30, 2), (-1e9, 2)])
def test_the_upper_bound_belongs_to_the_step_on_the_low_side(metric: float, step: int | None) -> None:
    assert percent(IN, direction="low").recommend(seen(10, metric), now=0.0).details["step"] == step


def test_float_error_does_not_move_a_bound() -> None:
    assert 0.7 - 0.6 < 0.1
    steps = [Step(lower=0, upper=0.1, adjustment=1), Step(lower=0.1, adjustment=2)]
    assert change(steps, threshold=0.6).recommend(seen(10, 0.7), now=0.0).details["step"] == 1


@pytest.mark.parametrize(
    ("current", "adjustment", "desired"),
    [(4, 25, 5), (10, 5, 11), (100, 7, 107), (100, 29, 129), (1, 100, 2), (9, 50, 13), (3, 250, 10), (0, 50, 0)],
)
def test_percent(current: int, adjustment: int, desired: int) -> None:
    policy = percent([Step(lower=0, adjustment=adjustment)], max_capacity=1000)
    assert policy.recommend(seen(current, 50), now=0.0).desired == desired


def test_min_adjustment_magnitude_lifts_a_change_but_makes_none() -> None:
    lifted = percent([Step(lower=0, adjustment=25)], min_adjustment_magnitude=2)
    assert lifted.recommend(seen(4, 50), now=0.0).desired == 6
    assert lifted.recommend(seen(40, 50), now=0.0).desired == 50
    assert lifted.recommend(seen(0, 50), now=0.0).desired == 0
    removed = percent([Step(upper=0, adjustment=-5)], direction="low", min_adjustment_magnitude=3)
    assert removed.recommend(seen(10, 50), now=0.0).desired == 7


def test_exact_and_bounds() -> None:
    exact = change([Step(lower=0, adjustment=50)], adjustment_type="exact_capacity", max_capacity=20)
    r = exact.recommend(seen(3, 60), now=0.0)
    assert (r.desired, r.details["adjustment"], r.limited_by) == (20, 47, "max_capacity")
    assert change([Step(lower=0, adjustment=3)], max_capacity=3).recommend(seen(2, 60), now=0.0).desired == 3
    low = change([Step(upper=0, adjustment=-2)], direction="low", min_capacity=2)
    assert low.recommend(seen(3, 40), now=0.0).desired == 2


def test_a_decrement_smaller_than_what_is_leaving_already_does_nothing() -> None:
    policy = change([Step(upper=0, adjustment=-1)], direction="low")
    assert policy.recommend(seen(32, 40, desired=30), now=0.0).desired == 30
    assert policy.recommend(seen(32, 40, desired=32), now=0.0).desired == 31


def test_scale_in_waits_for_warm_up() -> None:
    r = change([Step(upper=0, adjustment=-1)], direction="low").recommend(seen(10, 40, warming=1), now=0.0)
    assert (r.desired, r.limited_by, r.action) == (11, "warming", "none")


def test_cooldown_counts_what_was_added() -> None:
    """+2 runs, then +3 adds only 1 (Application Auto Scaling)."""
    policy = change([Step(lower=0, upper=10, adjustment=2), Step(lower=10, adjustment=3)], cooldown=300.0)
    assert policy.recommend(seen(10, 55), now=0.0).desired == 12
    r = policy.recommend(seen(12, 55), now=30.0)
    assert (r.desired, r.limited_by) == (12, "scale_out_cooldown")
    assert policy.recommend(seen(12, 60), now=60.0).desired == 13
    assert policy.recommend(seen(13, 60), now=359.0).desired == 13
    assert policy.recommend(seen(13, 60), now=360.0).desired == 16


def test_alarm_and_aggregation() -> None:
    wanted = {"average": 2, "minimum": 1, "maximum": 3}
    steps = [
        Step(lower=0, upper=10, adjustment=1),
        Step(lower=10, upper=20, adjustment=2),
        Step(lower=20, adjustment=3),
    ]
    for aggregation, adjustment in wanted.items():
        policy = change(steps, alarm=(2, 2), aggregation=aggregation)
        assert policy.recommend(seen(10, 55), now=60.0).desired == 10
        r = policy.recommend(seen(10, 75), now=120.0)
        assert (r.desired, r.details["adjustment"]) == (10 + adjustment, adjustment)
        # The same two minutes do not speak twice.
        assert policy.recommend({"current": r.desired}, now=130.0).desired == r.desired


def test_no_step_while_the_alarm_is_quiet() -> None:
    steps = [Step(upper=-10, adjustment=-1), Step(lower=-10, upper=0, adjustment=0), Step(lower=0, adjustment=1)]
    policy = change(steps, alarm=(1, 1))
    r = policy.recommend(seen(10, 20), now=60.0)
    assert (r.desired, r.details["step"], r.details["alarm"]) == (10, None, "ok")


def test_negative_metrics_are_fine_and_nan_is_not() -> None:
    policy = change([Step(lower=0, adjustment=1)], threshold=-5)
    assert policy.recommend(seen(1, -4), now=0.0).desired == 2
    for value in (float("nan"), float("-inf"), 1e200):
        with pytest.raises(MetricError, match="cpu"):
            policy.recommend(seen(1, value), now=0.0)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([], "at least one"),
        ([Step(adjustment=1)], "a lower bound, an upper bound, or both"),
        ([Step(lower=0, upper=10, adjustment=1), Step(lower=20, adjustment=2)], "no gap"),
        ([Step(lower=0, upper=10, adjustment=1), Step(lower=5, adjustment=2)], "overlap"),
        ([Step(lower=0, upper=10, adjustment=1)], "positive upper bound"),
        ([Step(lower=-10, upper=0, adjustment=1)], "negative lower bound"),
        ([Step(lower=0, adjustment=1), Step(lower=5, adjustment=1)], "only one step may have no upper"),
        ([Step(upper=0, adjustment=1), Step(upper=5, adjustment=1)], "only one step may have no lower"),
        ([Step(lower=10, upper=5, adjustment=1), Step(lower=5, adjustment=1)], "must exceed"),
        ([Step(lower=5, upper=5, adjustment=1), Step(lower=5, adjustment=1)], "must exceed"),
        ([Step(lower=float("nan"), adjustment=1)], "finite"),
        ([Step(lower=0, adjustment=2**40)], "adjustment"),
        ([Step(lower=0, adjustment=1.5)], "adjustment"),  # type: ignore[arg-type]
        ([Step(lower="0", adjustment=1)], "lower"),  # type: ignore[arg-type]
        ([(0, None, 1)], "a Step"),
    ],
)
def test_steps_that_cannot_be(steps: list[Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        change(steps)


def test_steps_in_any_order_keep_their_index() -> None:
    policy = change(
        [Step(lower=10, adjustment=2), Step(upper=-10, adjustment=-2), Step(lower=-10, upper=10, adjustment=0)]
    )
    assert policy.recommend(seen(10, 60), now=0.0).details["step"] == 0
    assert policy.recommend(seen(10, 50), now=0.0).details["step"] == 2
    assert isinstance(policy.steps, tuple)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", float("nan")),
        ("direction", "up"),
        ("adjustment_type", "ExactCapacity"),
        ("aggregation", None),
        ("min_adjustment_magnitude", 0),
        ("min_adjustment_magnitude", 1.5),
        ("alarm", (3, 2)),
        ("cooldown", -1),
        ("period", 0),
        ("steps", 3),
        ("max_capacity", -1),
    ],
)
def test_configurations_that_cannot_be(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        replace(percent(OUT), **{field: value})


def test_options_that_would_have_no_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="only with adjustment_type percent_change_in_capacity"):
        change(OUT, min_adjustment_magnitude=2)
    with pytest.raises(ConfigError, match="from 0 to"):
        change([Step(lower=0, adjustment=-1)], adjustment_type="exact_capacity")


@pytest.mark.parametrize(
    ("raw", "rounded"), [(12.7, 12), (0.67, 1), (-0.58, -1), (-6.67, -6), (0, 0), (0.29 * 100, 29), (1e-9, 1), (-3, -3)]
)
def test_round_percent_change(raw: float, rounded: int) -> None:
    assert round_percent_change(raw) == rounded


@pytest.mark.parametrize("raw", [float("nan"), float("inf"), 1e300, "1", None])
def test_round_percent_change_refuses(raw: Any) -> None:
    with pytest.raises(ConfigError, match="change"):
        round_percent_change(raw)
