"""Model servers by their goals: the queueing model of one, and the three policies."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, ManualClock, MetricError
from aibalance.autoscaling import (
    EngineLatency,
    LoadPlanner,
    StateDependentScaling,
    ThroughputPlanner,
    check,
)
from aibalance.autoscaling._aims import aims, bounds, windows
from aibalance.testing import check_policy

ENGINE = EngineLatency(
    prefill_base=0.02, prefill_per_token=2e-5, decode_base=0.01, decode_per_request=5e-4, max_batch=32, max_queue=64
)


def chain(engine: EngineLatency, rate: float, inputs: float, outputs: float) -> tuple[float, float, float]:
    """The same chain, state by state: throughput, mean in service, mean waiting."""
    batch = engine.max_batch
    states = batch + (engine.max_queue or 0) + 1
    served = np.array(
        [
            n / (engine.prefill(inputs, n) + (outputs - 1) * (engine.decode_base + engine.decode_per_request * n))
            for n in range(1, batch + 1)
        ]
    )
    logs = np.zeros(states)
    for state in range(1, states):
        logs[state] = logs[state - 1] + math.log(rate) - math.log(served[min(state, batch) - 1])
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    n = np.arange(states)
    return (
        rate * (1 - chances[-1]),
        float((np.minimum(n, batch) * chances).sum()),
        float((np.maximum(n - batch, 0) * chances).sum()),
    )


@pytest.mark.parametrize("queue", [0, 64, 65, 1000])
@pytest.mark.parametrize("rate", [0.01, 1.0, 4.0, 7.0, 9.0, 9.65, 9.68, 9.7, 30.0])
def test_the_model_is_the_chain(rate: float, queue: int) -> None:
    engine = replace(ENGINE, max_queue=queue)
    found = engine.at(rate, input_tokens=1000, output_tokens=100)
    throughput, serving, waiting = chain(engine, rate, 1000, 100)
    assert found.throughput == pytest.approx(throughput, rel=1e-9)
    assert found.wait == pytest.approx(waiting / throughput, rel=1e-6, abs=1e-12)
    # The batch is that at which a request takes what it takes on average.
    time = ENGINE.prefill(1000, found.batch) + 99 * ENGINE.token(found.batch)
    assert time == pytest.approx(serving / throughput, rel=1e-6) or found.batch in (0.0, 32.0)
    assert found.itl == ENGINE.token(found.batch)
    assert found.ttft == pytest.approx(found.wait + ENGINE.prefill(1000, found.batch))


def test_the_highest_rate_meets_the_goals_and_no_higher_one_does() -> None:
    for ttft, itl in ((0.3, None), (None, 0.015), (0.3, 0.015), (2.0, 0.02)):
        rate = ENGINE.max_rate(input_tokens=1000, output_tokens=100, ttft=ttft, itl=itl)
        at, above = (ENGINE.at(rate * f, input_tokens=1000, output_tokens=100) for f in (1.0, 1.001))
        assert at.ttft <= (ttft or math.inf)
        assert at.itl <= (itl or math.inf)
        assert above.ttft > (ttft or math.inf) or above.itl > (itl or math.inf)
    saturated = ENGINE.max_rate(input_tokens=1000, output_tokens=100)
    most = 32 / (ENGINE.prefill(1000, 32) + 99 * ENGINE.token(32))
    assert saturated == pytest.approx(most * 0.999)
    assert ENGINE.max_rate(input_tokens=1000, output_tokens=100, ttft=99, itl=9) == saturated
    assert ENGINE.max_rate(input_tokens=1000, output_tokens=100, itl=0.01) == 0.0
    # Prefill alone, and decoding alone.
    assert ENGINE.max_rate(input_tokens=1000, output_tokens=1, ttft=0.2) > 0
    assert ENGINE.max_rate(input_tokens=0, output_tokens=1, itl=0.02) > 0


def test_each_parameter_of_an_engine_changes_what_it_takes() -> None:
    given: dict[str, Any] = {
        "prefill_base": 0.02,
        "prefill_per_token": 2e-5,
        "decode_base": 0.01,
        "decode_per_request": 5e-4,
        "max_batch": 32,
        "max_queue": 64,
    }
    sizes = {"input_tokens": 1000.0, "output_tokens": 100.0}
    usual = EngineLatency(**given).at(8.0, **sizes)
    for name, other in (
        ("prefill_base", 0.1),
        ("prefill_per_token", 1e-5),
        ("decode_base", 0.02),
        ("decode_per_request", 1e-4),
        ("max_batch", 16),
        ("max_queue", 2),
    ):
        assert EngineLatency(**{**given, name: other}).at(8.0, **sizes) != usual
    assert EngineLatency(**{**given, "max_queue": None}) != ENGINE
    assert [ENGINE.batch_within(s) for s in (0.01, 0.0105, 0.012, 9.0)] == [0, 1, 4, 32]
    assert EngineLatency(0, 0, 0.01, 0).batch_within(0.01) == 256
    for wrong in ({"decode_base": 0}, {"prefill_base": -1}, {"max_batch": 0}, {"max_queue": -1}, {"max_batch": 2.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            EngineLatency(**{**given, **wrong})
    for name, value in (("input_tokens", -1), ("output_tokens", 0.5)):
        with pytest.raises(ConfigError, match=name):
            ENGINE.max_rate(**{**sizes, name: value})
    with pytest.raises(ConfigError, match="rate"):
        ENGINE.at(0, **sizes)
    with pytest.raises(ConfigError, match="ttft"):
        ENGINE.max_rate(**sizes, ttft=-1)
    # Nothing to do takes no time, and numbers far beyond the queue do not overflow.
    assert EngineLatency(0, 0, 0.01, 0).at(5.0, input_tokens=10, output_tokens=1).ttft == 0.0
    assert math.isfinite(ENGINE.at(1e300, **sizes).wait)


def state_dependent(**given: Any) -> StateDependentScaling:
    return StateDependentScaling(**{"engine": ENGINE, "ttft": 0.5, "itl": 0.02, "max_replicas": 40, **given})


def ask(policy: Any, current: int, now: float = 0.0, **metrics: Any) -> Any:
    return policy.recommend({"current": current, "metrics": metrics}, now=now)


def test_demand_over_the_rate_of_one() -> None:
    policy = state_dependent()
    rate = ENGINE.max_rate(input_tokens=1024, output_tokens=256, ttft=0.5, itl=0.02)
    for demand in (0.0, 0.5 * rate, rate, 3.2 * rate):
        r = ask(policy, 2, requests_per_s=demand)
        assert r.desired == max(math.ceil(demand / rate - 1e-12), 1)
    assert r.details["rate_of_one"] == rate
    assert "of which one server takes" in r.reason
    longer = ask(policy, 2, requests_per_s=20.0, output_tokens=512.0)
    assert longer.desired > ask(policy, 2, requests_per_s=20.0).desired
    larger = ask(policy, 2, requests_per_s=20.0, input_tokens=8000.0)
    assert larger.desired > ask(policy, 2, requests_per_s=20.0).desired
    assert ask(policy, 2, requests_per_s=1e9).limited_by == "max_replicas"
    assert ask(state_dependent(min_replicas=3), 4, requests_per_s=0.0).desired == 3
    assert ask(state_dependent(min_replicas=0), 4, requests_per_s=0.0).desired == 0
    missing = ask(policy, 5)
    assert (missing.desired, missing.limited_by, missing.action) == (5, "missing_metrics", "insufficient_data")
    assert "requests_per_s is missing" in missing.reason
    assert ask(state_dependent(metric="rps"), 5, rps=1.0).desired == 1


def test_goals_change_the_rate_and_what_cannot_be_met_is_said() -> None:
    usual = ask(state_dependent(), 2, requests_per_s=30.0).desired
    assert ask(state_dependent(ttft=0.1), 2, requests_per_s=30.0).desired > usual
    assert ask(state_dependent(itl=0.012), 2, requests_per_s=30.0).desired > usual
    assert ask(state_dependent(ttft=None), 2, requests_per_s=30.0).desired <= usual
    never = ask(state_dependent(itl=0.001), 2, requests_per_s=30.0)
    assert "no number meets the goals" in never.reason
    assert never.details["goals_can_be_met"] is False
    held = state_dependent(stabilization=300.0)
    first = ask(held, 10, 0.0, requests_per_s=30.0).desired
    assert ask(held, first, 60.0, requests_per_s=1.0).desired == first
    assert ask(held, first, 301.0, requests_per_s=1.0).desired == 1
    assert windows(held) == (0.0, 300.0)


def throughput(role: Any, **given: Any) -> ThroughputPlanner:
    return ThroughputPlanner(**{"role": role, "engine": ENGINE, "max_replicas": 99, **given})


def test_prefill_by_tokens_a_second() -> None:
    load = {"requests_per_s": 50.0, "input_tokens": 4000.0}
    # 0.02 + 4000 * 2e-5 = 0.1 s a prefill: ten a second.
    r = ask(throughput("prefill"), 2, **load)
    assert (r.desired, r.details["tokens_per_s_of_one"]) == (5, pytest.approx(40_000))
    # Half the expected latency halves the load; twice does not double it.
    assert ask(throughput("prefill"), 2, **load, ttft=0.05).desired == 3
    assert ask(throughput("prefill"), 2, **load, ttft=0.2).desired == 5
    assert ask(throughput("prefill", correction=False), 2, **load, ttft=0.05).desired == 5
    slow = ask(throughput("prefill", ttft=0.05), 2, **load)
    assert (slow.desired, slow.details["goals_can_be_met"]) == (5, False)
    assert "no number gives a first token within 0.05 s" in slow.reason
    assert ask(throughput("prefill", input_tokens=4000.0), 2, requests_per_s=50.0).desired == 5
    assert ask(throughput("prefill", min_replicas=7), 2, **load).desired == 7
    assert ask(throughput("prefill"), 3).limited_by == "missing_metrics"


def test_decode_by_the_batch_that_the_goal_allows() -> None:
    load = {"requests_per_s": 40.0, "output_tokens": 200.0}
    # 0.02 s a token allows a batch of 20: 1000 tokens a second.
    r = ask(throughput("decode", itl=0.02), 4, **load)
    assert (r.details["batch"], r.details["tokens_per_s_of_one"], r.desired) == (20, pytest.approx(1000), 8)
    assert ask(throughput("decode", itl=0.0125), 4, **load).desired == 20
    # On four servers 2000 tokens a second each are more than the model gives: the largest batch, 26 ms.
    worse = ask(throughput("decode", itl=0.02), 4, **load, itl=0.052)
    assert worse.details["correction"] == pytest.approx(2.0)
    assert worse.desired > 8
    assert ask(throughput("decode", itl=0.02, correction=False), 4, **load, itl=0.052).desired == 8
    # On sixteen 500 each: a batch of 500 * 0.01 / (1 - 0.25), 13.3 ms a token.
    even = ask(throughput("decode", itl=0.02), 16, **load, itl=0.01 + 5e-4 * 500 * 0.01 / 0.75)
    assert even.details["correction"] == pytest.approx(1.0)
    never = ask(throughput("decode", itl=0.001), 4, **load)
    assert (never.details["batch"], never.details["goals_can_be_met"]) == (1, False)
    assert "no number gives tokens within 0.001 s" in never.reason
    assert ask(throughput("decode", output_tokens=200.0, itl=0.02), 4, requests_per_s=40.0).desired == 8


def load(**given: Any) -> LoadPlanner:
    return LoadPlanner(**{"role": "decode", "interval": 0.0, **given})


@pytest.mark.parametrize(
    ("given", "name", "steps"),
    [
        ({"role": "decode"}, "kv_usage", [(1.01, 5), (1.0, 4), (0.6, 4), (0.59, 3)]),
        ({"role": "decode", "target": "latency"}, "kv_usage", [(0.41, 5), (0.4, 4), (0.1, 4), (0.09, 3)]),
        ({"role": "prefill"}, "prefill_queue", [(1.0, 5), (0.99, 4), (0.1, 4), (0.09, 3)]),
        ({"role": "prefill", "target": "latency"}, "prefill_queue", [(0.1, 5), (0.09, 4), (0.01, 4), (0.0, 3)]),
        ({"role": "prefill", "target": "sla"}, "ttft", [(0.51, 5), (0.5, 4), (0.4, 4), (0.29, 3)]),
        ({"role": "decode", "target": "sla", "goal": 0.1}, "itl", [(0.11, 5), (0.1, 4), (0.08, 4), (0.05, 3)]),
        ({"up": 0.5, "down": 0.2, "metric": "mine"}, "mine", [(0.51, 5), (0.5, 4), (0.2, 4), (0.19, 3)]),
    ],
)
def test_levels(given: dict[str, Any], name: str, steps: list[tuple[float, int]]) -> None:
    for value, desired in steps:
        assert ask(load(**given), 4, **{name: value}).desired == desired


def test_one_less_only_if_the_rest_can_take_it() -> None:
    held = ask(load(), 2, kv_usage=0.5)
    assert (held.desired, held.limited_by) == (2, "consolidation")
    assert "the rest would be at 1" in held.reason
    assert ask(load(), 3, kv_usage=0.5).desired == 2
    assert ask(load(sensitivity=0.7), 3, kv_usage=0.5).limited_by == "consolidation"
    assert ask(load(), 1, kv_usage=0.0).desired == 1


def test_all_servers_have_to_agree_where_they_are_told_apart() -> None:
    assert ask(load(), 4, kv_usage=1.5, kv_usage_least=0.7).desired == 4
    assert ask(load(), 4, kv_usage=1.5, kv_usage_least=1.1).desired == 5
    assert ask(load(), 4, kv_usage=0.3, kv_usage_most=0.8).desired == 4
    assert ask(load(), 4, kv_usage=0.3, kv_usage_most=0.5).desired == 3
    assert ask(load(), 4, kv_usage_least=1.1, kv_usage_most=1.2).desired == 5


def test_interval_bounds_and_gaps() -> None:
    policy = load(interval=5.0)
    assert ask(policy, 4, 0.0, kv_usage=2.0).desired == 5
    again = ask(policy, 5, 4.9, kv_usage=2.0)
    assert (again.desired, again.limited_by) == (5, "cooldown")
    assert ask(policy, 5, 5.0, kv_usage=2.0).desired == 6
    refused = ask(policy, 6, 20.0, kv_usage=2.0)
    policy.rejected(refused)
    policy.rejected(refused)
    assert ask(policy, 6, 21.0, kv_usage=2.0).desired == 7
    assert ask(load(max_replicas=4), 4, kv_usage=2.0).limited_by == "max_replicas"
    assert ask(load(min_replicas=4), 4, kv_usage=0.0).limited_by == "min_replicas"
    assert ask(load(), 20, kv_usage=0.9).desired == 8
    assert ask(load(min_replicas=0), 0, kv_usage=0.1).desired == 1
    assert ask(load(min_replicas=0), 0, kv_usage=0.0).desired == 0
    assert ask(load(), 3).limited_by == "missing_metrics"
    clock = ManualClock(3.0)
    assert load(clock=clock).recommend({"current": 2, "metrics": {"kv_usage": 2.0}}).desired == 3


def test_both_modes_together() -> None:
    both = load(floor=throughput("decode", itl=0.02))
    quiet = {"requests_per_s": 20.0, "output_tokens": 200.0}
    # The load would let one go, the throughput holds four.
    held = ask(both, 4, 0.0, **quiet, kv_usage=0.1)
    assert (held.desired, held.limited_by, held.details["floor"]) == (4, "floor", 4)
    assert "4000 tokens a second to decode" in held.reason
    assert ask(load(), 4, 0.0, **quiet, kv_usage=0.1).desired == 3
    assert ask(both, 4, 10.0, **quiet, kv_usage=1.5).desired == 5
    both.rejected(held)
    state = json.loads(json.dumps(both.state()))
    both.restore(state)
    assert [aim.metric for aim in aims(both)] == ["kv_usage", "requests_per_s"]
    with pytest.raises(ConfigError, match="floor"):
        load().restore(state)
    with pytest.raises(ConfigError, match="floor"):
        load(floor=3)


POLICIES = [
    (state_dependent, "requests_per_s"),
    (lambda: throughput("prefill"), "requests_per_s"),
    (lambda: throughput("decode"), "requests_per_s"),
]


@pytest.mark.parametrize(("make", "metric"), POLICIES)
def test_they_are_policies(make: Any, metric: str) -> None:
    policy = make()
    (aim,) = aims(policy)
    assert (aim.metric, aim.kind) == (metric, "total")
    # At the target of its aim one server is what is asked for.
    assert ask(policy, 3, **{metric: aim.target * 3}).desired == 3
    assert ask(policy, 3, **{metric: aim.target * 3.01}).desired == 4
    assert bounds(policy) == (1, policy.max_replicas)
    check_policy(make, metric=metric, target=aim.target, metric_type="total", tolerance=None, examples=10)
    assert check(policy) == []
    state = json.loads(json.dumps(policy.state()))
    other = make()
    other.restore(state)
    assert other.state() == state
    for wrong in (
        {},
        {**state, "kind": "x"},
        {**state, "serial": -1},
        {**state, "more": 1},
        {**state, "policy": {}},
        3,
    ):
        with pytest.raises(ConfigError, match="state"):
            other.restore(wrong)
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(MetricError, match="come with the observation"):
        policy.record(metric, 1.0, at=0.0)
    with pytest.raises(MetricError, match="now"):
        ask(policy, 1, float("nan"), **{metric: 1.0})
    with pytest.raises(MetricError):
        ask(policy, 1, **{metric: -1.0})
    last = ask(policy, 3, **{metric: aim.target * 9})
    policy.rejected(last)


def test_the_load_planner_is_one_too() -> None:
    check_policy(load, metric="kv_usage", target=0.8, tolerance=None, bounds=(1, 8), examples=10)
    policy = load(interval=5.0)
    ask(policy, 3, 7.0, kv_usage=2.0)
    state = json.loads(json.dumps(policy.state()))
    other = load(interval=5.0)
    other.restore(state)
    assert ask(other, 4, 8.0, kv_usage=2.0).limited_by == "cooldown"
    for wrong in ({**state, "changed_at": "x"}, {**state, "version": 2}, {}):
        with pytest.raises(ConfigError, match="state"):
            other.restore(wrong)
    assert aims(policy)[0].steps
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(MetricError):
        policy.record("kv_usage", 1.0, at=0.0)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: state_dependent(engine=3), "engine"),
        (lambda: state_dependent(ttft=None, itl=None), "ttft"),
        (lambda: state_dependent(itl=0), "itl"),
        (lambda: state_dependent(output_tokens=0.5), "output_tokens"),
        (lambda: state_dependent(input_tokens=-1), "input_tokens"),
        (lambda: state_dependent(max_replicas=0), "max_capacity|max_replicas"),
        (lambda: throughput("both"), "role"),
        (lambda: throughput("decode", correction=1), "correction"),
        (lambda: throughput("decode", itl=-1), "itl"),
        (lambda: throughput("prefill", engine=EngineLatency(0, 0, 0.01, 0)), "engine"),
        (lambda: load(role="x"), "role"),
        (lambda: load(target="x"), "target"),
        (lambda: load(goal=1.0), "goal"),
        (lambda: load(target="sla", goal=0), "goal"),
        (lambda: load(up=0.5, down=0.5), "down"),
        (lambda: load(up=0), "up"),
        (lambda: load(down=-1), "down"),
        (lambda: load(sensitivity=1.5), "sensitivity"),
        (lambda: load(interval=-1), "interval"),
        (lambda: load(metric=""), "metric"),
        (lambda: load(min_replicas=9), "min_capacity|max_capacity|min_replicas"),
    ],
)
def test_settings_that_cannot_be(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()
