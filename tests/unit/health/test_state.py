"""The state machine and the target group through the public names."""

from __future__ import annotations

import copy
import pickle

import pytest

from aibalance import ConfigError, ManualClock, Pool
from aibalance.health import FlapDamping, HealthState, TargetGroupHealth, ZoneHealth, drain_estimate, expected_left


def run(state: HealthState, letters: str) -> list[str]:
    words = {"+": "pass", "-": "fail", "d": "degraded", "w": "warming"}
    return [state.report(words[x], now=0.0)[0] for x in letters]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "letters", "states"),
    [
        ({}, "+--+---++", "hhhhhhuuh"),
        ({"healthy_threshold": 3}, "---+++", "iiuuuh"),
        ({"unhealthy_threshold": 1}, "-+-", "uuu"),
        ({"start": "up"}, "-++", "uuh"),
        ({"start": "fully-up"}, "---", "hhu"),
        ({"start": "down"}, "+", "h"),
        ({"start": "fully-down"}, "++", "uh"),
        ({"warm_up": True}, "++", "ww"),
        ({}, "dd+d", "ddhd"),
    ],
)
def test_each_option_changes_the_states(options: dict[str, object], letters: str, states: str) -> None:
    assert "".join(run(HealthState(**options), letters)) == states  # type: ignore[arg-type]


def test_warming_ends_with_model_and_inference_only() -> None:
    state = HealthState(warm_up=True, warming_timeout=60)
    assert state.report("pass", model_loaded=True, now=0) == "warming"
    assert state.report("warming", model_loaded=True, inference_test=False, now=59) == "warming"
    late = copy.deepcopy(state)
    assert late.report("warming", now=60) == "unhealthy"
    assert not state.warm
    assert state.report("pass", inference_test=True, now=59) == "healthy"
    assert state.warm


def test_damping_holds_back_and_time_lets_go() -> None:
    clock = ManualClock(0.0)
    damping = FlapDamping(half_life=10, suppress=1.5, reuse=1)
    state = HealthState(healthy_threshold=1, unhealthy_threshold=1, damping=damping, clock=clock)
    for outcome in ("pass", "fail", "pass", "fail", "pass"):
        state.report(outcome)  # type: ignore[arg-type]
    assert (state.state(), state.penalty()) == ("unhealthy", 2.0)
    clock.advance(11)
    assert state.state() == "healthy"


def test_states_and_dampings_pickle() -> None:
    damping = FlapDamping(half_life=10, suppress=1.5)
    assert pickle.loads(pickle.dumps(damping)) == damping
    assert hash(damping) == hash(FlapDamping(half_life=10, suppress=1.5))
    state = HealthState(healthy_threshold=4, damping=damping, warm_up=True, clock=ManualClock(5.0))
    state.report("pass", model_loaded=True)
    state.deregister(delay=10)
    again = pickle.loads(pickle.dumps(state))
    for one in (state, again):
        assert (one.counter, one.state(14.9), one.state(15.0)) == (6, "draining", "unused")
        one.undrain()
        assert one.report("pass", inference_test=True) == "healthy"


def test_disabled_is_unavailable() -> None:
    state = HealthState()
    state.report("pass")
    state.disable()
    assert state.state() == "unavailable"
    state.enable()
    assert state.state() == "initial"
    state = HealthState(clock=ManualClock(0.0))
    state.drain(deadline=5)
    assert repr(state) == "<HealthState draining, counter 0>"
    state.undrain()
    assert repr(state) == "<HealthState initial, counter 0>"


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("healthy_threshold", {"healthy_threshold": 0}),
        ("unhealthy_threshold", {"unhealthy_threshold": -1}),
        ("start", {"start": "sideways"}),
        ("warming_timeout", {"warming_timeout": float("nan")}),
    ],
)
def test_what_cannot_be_is_told(field: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"^{field}:"):
        HealthState(**options)  # type: ignore[arg-type]


def test_wrong_words_are_told() -> None:
    with pytest.raises(ConfigError, match=r"^outcome:"):
        HealthState().report("fine")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^delay:"):
        HealthState().deregister(delay=3601)
    for bad in ({"half_life": 0}, {"reuse": 0}, {"suppress": 1}, {"max_hold": -1}):
        with pytest.raises(ConfigError, match=f"^{next(iter(bad))}:"):
            FlapDamping(**bad)  # type: ignore[arg-type]


def test_target_groups() -> None:
    group = TargetGroupHealth(routing_failover_count=2, dns_failover_count=2)
    assert group.route([True, True, False]) == ("normal", [True, True, False])
    assert group.route([True, False, False]) == ("routing_failover", [True] * 3)
    assert group.route([False]) == ("fail_open", [True])
    assert group.route([]) == ("normal", [])
    half = TargetGroupHealth(dns_failover_percentage=60, routing_failover_percentage=50)
    zones = {"a": (10, 10), "b": (5, 10)}
    assert half.zones(zones)["b"] == ZoneHealth(False, "normal", 5)
    assert half.zones(zones, cross_zone=True)["b"] == ZoneHealth(True, "normal", 5)
    assert pickle.loads(pickle.dumps(half)) == half


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("dns_failover_count", {"dns_failover_count": 0}),
        ("routing_failover_count", {"routing_failover_count": -3}),
        ("dns_failover_count", {"routing_failover_count": 2}),
        ("routing_failover_percentage", {"routing_failover_percentage": 101}),
        ("dns_failover_percentage", {"dns_failover_percentage": 40, "routing_failover_percentage": 50}),
    ],
)
def test_target_group_thresholds_are_checked(field: str, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"^{field}:"):
        TargetGroupHealth(**options)  # type: ignore[arg-type]


def test_what_a_drain_leaves() -> None:
    assert expected_left([0.0] * 4, latencies=[10, 30], remaining=20) == 2.0
    with pytest.raises(ConfigError, match=r"^remaining:"):
        expected_left([0.0], latencies=[], remaining=-1)
    pool = Pool(["a"])
    with pytest.raises(ConfigError, match=r"^id:"):
        drain_estimate(pool, "b", deadline=1)


def test_a_pickled_pool_keeps_the_deadline_of_a_drain() -> None:
    clock = ManualClock(100.0)
    pool = Pool(["a", "b", "c"], clock=clock)
    pool.drain("a", deadline=30)
    pool.drain("b")
    clock.advance(10)
    again = pickle.loads(pickle.dumps(pool))
    assert [s.draining for s in again.stats()] == [True, True, False]
    assert again.__getstate__()[1] == [("healthy", 20.0), ("healthy", float("inf")), ("healthy", None)]
