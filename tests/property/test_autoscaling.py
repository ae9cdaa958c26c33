"""What holds for every policy, configuration and history."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aibalance import AibalanceError, Combined, ConfigError, Step, StepScaling, TargetTracking
from aibalance.autoscaling import round_percent_change

NAMES = ("cpu", "queue")
seconds = st.floats(0, 600)
datapoints = st.one_of(st.none(), st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(0, 30))
    return {"min_capacity": low, "max_capacity": draw(st.integers(low, 200))}


@st.composite
def tracking(draw: st.DrawFn) -> TargetTracking:
    return TargetTracking(
        metric=draw(st.sampled_from(NAMES)),
        target=draw(st.floats(0.01, 1000)),
        disable_scale_in=draw(st.booleans()),
        scale_in_ratio=draw(st.floats(0.1, 1)),
        high_alarm=draw(datapoints),
        low_alarm=draw(datapoints),
        warmup=draw(seconds),
        scale_out_cooldown=draw(seconds),
        scale_in_cooldown=draw(seconds),
        scale_from_zero=draw(st.booleans()),
        **draw(bounds()),
    )


@st.composite
def stepping(draw: st.DrawFn) -> StepScaling:
    edges = sorted(draw(st.sets(st.integers(-50, 50), min_size=1, max_size=4)))
    kind = draw(st.sampled_from(["change_in_capacity", "percent_change_in_capacity", "exact_capacity"]))
    change = st.integers(0 if kind == "exact_capacity" else -100, 100)
    pairs = zip([None, *edges], [*edges, None], strict=True)
    return StepScaling(
        metric=draw(st.sampled_from(NAMES)),
        threshold=draw(st.floats(-100, 1000)),
        direction=draw(st.sampled_from(["high", "low"])),
        steps=[Step(lower=a, upper=b, adjustment=draw(change)) for a, b in pairs],
        adjustment_type=kind,  # type: ignore[arg-type]
        aggregation=draw(st.sampled_from(["average", "minimum", "maximum"])),
        alarm=draw(datapoints),
        warmup=draw(seconds),
        cooldown=draw(seconds),
        **draw(bounds()),
    )


single = st.one_of(tracking(), stepping())
policies = st.one_of(single, st.lists(single, min_size=1, max_size=3).map(Combined))
values = st.one_of(st.none(), st.just(0.0), st.floats(0, 2000))
observations = st.builds(
    lambda current, desired, warming, metrics: {
        "current": current,
        "desired": desired,
        "warming": warming,
        "metrics": metrics,
    },
    st.integers(0, 300),
    st.one_of(st.none(), st.integers(0, 300)),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from(NAMES), values),
)
# Time goes forward, stands still, and now and then back.
moves = st.one_of(st.floats(0, 200), st.just(60.0), st.floats(-1000, 0))
histories = st.lists(st.tuples(observations, moves), max_size=25)


def played(policy: Any, history: list[tuple[dict[str, Any], float]], each: Callable[..., None]) -> float:
    now = 1000.0
    for observation, move in history:
        now = max(0.0, now + move)
        each(policy.recommend(observation, now=now), observation)
    return now


def limits(policy: Any) -> tuple[int, int]:
    members: Any = policy.policies if isinstance(policy, Combined) else (policy,)
    return min(p.min_capacity for p in members), max(p.max_capacity for p in members)


@given(policies, histories)
def test_bounds_always_hold(policy: Any, history: list[tuple[dict[str, Any], float]]) -> None:
    low, high = limits(policy)

    def check(r: Any, _: object) -> None:
        assert low <= r.desired <= high
        assert dict(r.trace)["desired"] == r.desired
        assert r.reason

    played(policy, history, check)


@given(tracking(), histories)
def test_target_tracking_never_moves_against_its_metric(policy: TargetTracking, history: list[Any]) -> None:
    def check(r: Any, observation: dict[str, Any]) -> None:
        asked = observation["desired"]
        if asked is None:
            asked = observation["current"] + observation["warming"]
        held = min(max(asked, policy.min_capacity), policy.max_capacity)
        alarm = r.details["alarm"]
        if alarm == "high":
            assert r.desired >= min(held, policy.max_capacity)
        elif alarm == "low":
            assert r.desired <= held
            if policy.disable_scale_in:
                assert r.desired == held
        else:
            assert r.desired == held

    played(policy, history, check)


@given(policies, histories, histories)
def test_a_restored_policy_decides_the_same(policy: Any, past: list[Any], future: list[Any]) -> None:
    from copy import copy

    played(policy, past, lambda *_: None)
    heir = copy(policy)
    heir.restore(json.loads(json.dumps(policy.state())))
    ours: list[Any] = []
    theirs: list[Any] = []
    played(policy, future, lambda r, _: ours.append(r))
    played(heir, future, lambda r, _: theirs.append(r))
    assert ours == theirs
    assert policy.state() == heir.state()


@given(single, histories, observations)
def test_rejected_makes_it_the_same_question_again(policy: Any, past: list[Any], last: dict[str, Any]) -> None:
    now = played(policy, past, lambda *_: None)
    r = policy.recommend(last, now=now)
    before = policy.state()
    policy.rejected(r)
    after = policy.state()
    if r.action in ("none", "insufficient_data"):
        assert after == before
        return
    assert after["last"] is None
    policy.rejected(r)
    assert policy.state() == after
    if "as decided on this datapoint before" in r.reason:
        return  # what came before it counts again, with what is observed now
    # Samples stay taken, so an alarm's policy is asked again without them.
    alarms = [getattr(policy, name, None) for name in ("high_alarm", "low_alarm", "alarm")]
    if not any(alarms):
        assert policy.recommend(last, now=now).desired == r.desired
    elif isinstance(policy, StepScaling) or all(alarms[:2]):
        assert policy.recommend({**last, "metrics": {}}, now=now).desired == r.desired


@given(
    st.integers(0, 5000),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.sampled_from([1, 10, 100, 1000]),
)
def test_sizing_agrees_with_exact_arithmetic(current: int, metric: int, target: int, scale: int) -> None:
    """Decimal metrics, as people write them: the float result is the one that fractions give."""
    policy = TargetTracking(
        metric="m", target=target / scale, min_capacity=0, max_capacity=2**31 - 1, high_alarm=None, low_alarm=None
    )
    r = policy.recommend({"current": current, "metrics": {"m": metric / scale}}, now=0.0)
    need = math.ceil(Fraction(current) * metric / target)
    if metric > target or 10 * metric < 9 * target:
        assert r.desired == min(max(need, 0), 2**31 - 1)
    else:
        assert r.desired == current


@given(st.integers(-(10**6), 10**6), st.integers(-1000, 1000))
def test_percent_rounding_agrees_with_exact_arithmetic(capacity: int, percent: int) -> None:
    exact = Fraction(capacity * percent, 100)
    rounded = round_percent_change(capacity * (percent / 100))
    if exact == 0:
        assert rounded == 0
    elif abs(exact) < 1:
        assert rounded == (1 if exact > 0 else -1)
    else:
        assert rounded == math.trunc(exact)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-3, 3)), st.one_of(st.none(), st.integers(-3, 3)), st.integers(-2, 2)
        ),
        max_size=4,
    )
)
def test_accepted_steps_leave_no_gap(bounds: list[tuple[int | None, int | None, int]]) -> None:
    steps = [Step(lower=a, upper=b, adjustment=c) for a, b, c in bounds]
    try:
        policy = StepScaling(metric="m", threshold=0, steps=steps, max_capacity=10)
    except ConfigError:
        return
    inside = [
        s
        for s in range(-8, 9)
        if policy.recommend({"current": 5, "metrics": {"m": s / 2}}, now=0.0).details["step"] is not None
    ]
    assert inside
    assert inside == list(range(inside[0], inside[-1] + 1))
    # What has no bound reaches to the end.
    assert (inside[-1] == 8) == any(b is None for _, b, _ in bounds)
    assert (inside[0] == -8) == any(a is None for a, _, _ in bounds)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["current", "desired", "status", "warming", "metrics", "pods", "m", ""])


@given(st.one_of(anything, st.dictionaries(keys, anything)), anything)
def test_no_input_escapes_the_error_tree(observation: Any, now: Any) -> None:
    policy = TargetTracking(metric="m", target=1, max_capacity=5)
    for call in (
        lambda: policy.recommend(observation, now=now),
        lambda: policy.recommend(observation, now=1.0),
        lambda: policy.record("m", observation, at=now),
        lambda: policy.restore(observation),
        lambda: TargetTracking(metric="m", target=observation, max_capacity=now),
        lambda: StepScaling(metric="m", threshold=observation, steps=now, max_capacity=5),
    ):
        before = policy.state()
        try:
            call()
        except AibalanceError:
            assert policy.state() == before
