"""Knative's pod autoscaler: each option changes something, and everyday nonsense is an error or does no harm."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import KnativePodAutoscaler, Recommendation
from aibalance.autoscaling.knative import MaxWindow, Window


def after(load: float = 70.0, ready: int = 10, seconds: int = 60, **options: Any) -> Recommendation:
    """What a policy says after a steady load."""
    options = {"target": 10, "target_burst_capacity": 0, **options}
    policy = KnativePodAutoscaler(**options)
    policy.start(0, at=0.0)
    name = policy.metric
    for second in range(seconds):
        policy.record(name, load, at=float(second))
    return policy.recommend({"current": ready}, now=seconds - 1.0)


def test_a_steady_load_gets_its_pods() -> None:
    r = after()
    assert (r.desired, r.details["autoscaler"], r.details["stable"], r.limited_by) == (10, 10, 70.0, None)
    assert r.reason == "concurrency 70 at the target 7: stays at 10"
    assert dict(r.trace)["stable_pods"] == 10.0
    assert pickle.loads(pickle.dumps(r)) == r


@pytest.mark.parametrize(
    ("options", "expected", "limit"),
    [
        ({"target": 20}, 5, None),
        ({"container_concurrency": 5}, 20, None),
        ({"target": None}, 5, "max_scale_down_rate"),
        ({"target": None, "default_target": 20}, 5, None),
        ({"metric": "rps", "target": None}, 5, "max_scale_down_rate"),
        ({"target_utilization": 1.0}, 7, None),
        ({"load": 7.0}, 5, "max_scale_down_rate"),
        ({"load": 7.0, "max_scale_down_rate": 10.0}, 1, None),
        ({"load": 7.0, "reachable": False}, 1, None),
        ({"load": 190.0, "max_scale_up_rate": 1.5, "panic_threshold_percentage": 1000.0}, 15, "max_scale_up_rate"),
        ({"load": 190.0, "panic_threshold_percentage": 1000.0}, 28, None),
        ({"activation_scale": 12}, 12, "activation_scale"),
        ({"min_scale": 11}, 11, "min_scale"),
        ({"max_scale": 9}, 9, "max_scale"),
        ({"min_scale": 11, "max_scale": 9}, 11, "min_scale"),
        ({"initial_scale": 30}, 30, "initial_scale"),
    ],
)
def test_each_option_changes_the_answer(options: dict[str, Any], expected: int, limit: str | None) -> None:
    r = after(**options)
    assert (r.desired, r.limited_by) == (expected, limit)


def panicking(**options: Any) -> list[int]:
    policy = KnativePodAutoscaler(target=10, target_utilization=1.0, target_burst_capacity=0, **options)
    policy.start(0, at=0.0)
    out = []
    for second in range(140):
        policy.record("concurrency", 200.0 if 50 <= second < 56 else 10.0, at=float(second))
        if second % 2:
            out.append(policy.recommend({"current": 4}, now=float(second)).details["autoscaler"])
    return out


def test_panic_begins_at_once_and_holds_for_a_stable_window() -> None:
    # Every second second from 1 on: the burst begins at 50, is seen by the panic window, and is held.
    pods = panicking()
    assert max(pods) == 20
    assert pods[pods.index(20) :].count(20) >= 30
    assert pods[-1] == 2
    assert max(panicking(panic_threshold_percentage=1000.0)) < 20
    assert max(panicking(panic_window_percentage=100.0)) < 20
    assert panicking(stable_window=120.0)[-1] > 2
    assert panicking(aggregation="weighted_exponential") != pods


def test_several_pods_at_the_start_begin_a_panic() -> None:
    for ready, expected in ((1, False), (5, True)):
        policy = KnativePodAutoscaler(target=10, target_burst_capacity=0)
        policy.start(ready, at=0.0)
        policy.record("concurrency", 1.0, at=1.0)
        assert policy.recommend({"current": 5}, now=1.0).details["panicking"] is expected


def test_a_delay_keeps_the_larger_number() -> None:
    for delay, expected, limit in ((0.0, 1, None), (30.0, 5, "scale_down_delay")):
        policy = KnativePodAutoscaler(
            target=10,
            target_utilization=1.0,
            target_burst_capacity=0,
            stable_window=6.0,
            panic_threshold_percentage=1000.0,
            max_scale_down_rate=10.0,
            scale_down_delay=delay,
        )
        policy.start(0, at=0.0)
        policy.record("concurrency", 50.0, at=0.0)
        assert policy.recommend({"current": 5}, now=0.0).details["autoscaler"] == 5
        policy.record("concurrency", 1.0, at=20.0)
        r = policy.recommend({"current": 5}, now=20.0)
        assert (r.details["autoscaler"], r.limited_by) == (expected, limit)
        policy.record("concurrency", 1.0, at=31.0)
        assert policy.recommend({"current": 5}, now=31.0).details["autoscaler"] == 1


def test_burst_capacity() -> None:
    assert after(target_burst_capacity=0).details["ebc"] == 0
    assert after(target_burst_capacity=-1).details["ebc"] == -1
    assert after(target_burst_capacity=20).details["ebc"] == 10 * 10 - 20 - 70
    assert after(target_burst_capacity=20).details["mode"] == "serve"
    assert after(target_burst_capacity=211).details["mode"] == "proxy"
    assert KnativePodAutoscaler(target=10).activators(100) == 13
    assert KnativePodAutoscaler(target=10, activator_capacity=1000).activators(100) == 2


def test_without_data_nothing_changes() -> None:
    policy = KnativePodAutoscaler(min_scale=0)
    r = policy.recommend({"current": 3}, now=0.0)
    assert (r.desired, r.details["valid"]) == (3, False)
    # With the activator always in the path it alone reports, and silence is a load of 0.
    assert KnativePodAutoscaler(target_burst_capacity=-1).recommend({"current": 3}, now=0.0).details["valid"]


def test_the_last_pod_goes_step_by_step() -> None:
    policy = KnativePodAutoscaler(target=10, target_burst_capacity=0)
    policy.start(0, at=0.0)
    replicas, seen = 1, []
    for second in range(0, 400, 2):
        policy.record("concurrency", 5.0 if second < 60 else 0.0, at=float(second))
        r = policy.recommend({"current": replicas, "desired": replicas}, now=float(second))
        replicas = r.desired
        seen.append((r.details["activity"], r.limited_by))
        if replicas == 0:
            break
    assert replicas == 0
    assert ("active", None) in seen
    assert any(limit == "grace_period" for _, limit in seen)
    assert seen[-1][0] == "inactive"


@pytest.mark.parametrize(
    ("options", "given", "want", "limit"),
    [
        ({}, {"activity": "active", "held": 60.0}, 0, "deactivating"),
        ({"stable_window": 90.0}, {"activity": "active", "held": 60.0}, 1, "stable_window"),
        ({"enable_scale_to_zero": False}, {"activity": "inactive", "held": 900.0}, 1, "scale_to_zero_disabled"),
        ({}, {"activity": "inactive", "held": 30.0}, 0, None),
        ({"scale_to_zero_grace_period": 40.0}, {"activity": "inactive", "held": 30.0}, 0, "grace_period"),
        (
            {"scale_to_zero_pod_retention_period": 40.0},
            {"activity": "inactive", "held": 30.0},
            0,
            "pod_retention_period",
        ),
        ({}, {"activity": "inactive", "held": 30.0, "probe_ok": False}, 0, "activator_probe"),
        ({}, {"activity": "activating", "held": 630.0}, -1, "activating"),
        ({"progress_deadline": 100.0}, {"activity": "activating", "held": 630.0}, 0, None),
    ],
)
def test_the_way_to_zero(options: dict[str, Any], given: dict[str, Any], want: int, limit: str | None) -> None:
    decision = KnativePodAutoscaler(**options).scale(0, replicas=1, **given)
    assert (decision.want, decision.limited_by) == (want, limit)


def test_an_observation_counts_once_a_second() -> None:
    policy = KnativePodAutoscaler(target=10, target_burst_capacity=0)
    for tenth in range(40):
        r = policy.recommend({"current": 1, "metrics": {"concurrency": 30.0}}, now=tenth / 10)
    assert r.details["stable"] == 30.0


def test_state_fits_only_its_policy_and_replace_resizes() -> None:
    policy = KnativePodAutoscaler(target=10)
    policy.record("concurrency", 30.0, at=5.0)
    state = json.loads(json.dumps(policy.state()))
    heir = KnativePodAutoscaler(target=10)
    heir.restore(state)
    assert heir.state() == policy.state()
    for other in (KnativePodAutoscaler(stable_window=30.0), KnativePodAutoscaler(metric="rps")):
        before = other.state()
        with pytest.raises(ConfigError, match="state"):
            other.restore(state)
        assert other.state() == before
    shorter = policy.replace(now=5.0, stable_window=30.0)
    assert shorter.state()["stable"]["window"] == 30_000_000_000
    for broken in ({}, {**state, "version": 2}, {**state, "stable": None}, {**state, "activity": "x"}, [], None):
        with pytest.raises(ConfigError):
            heir.restore(broken)  # type: ignore[arg-type]
    assert heir.state() == policy.state()


@pytest.mark.parametrize(
    "options",
    [
        {"metric": "cpu"},
        {"target": 0},
        {"target": float("nan")},
        {"target_utilization": 1.5},
        {"stable_window": 5.0},
        {"stable_window": 60.5},
        {"panic_window_percentage": 0},
        {"panic_threshold_percentage": 100},
        {"max_scale_up_rate": 1.0},
        {"max_scale_down_rate": float("inf")},
        {"target_burst_capacity": -2},
        {"min_scale": -1},
        {"max_scale": 2**31},
        {"container_concurrency": -1},
        {"scale_down_delay": 3601.0},
        {"aggregation": "mean"},
        {"reachable": 1},
        {"activator_capacity": 0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    (field,) = options
    with pytest.raises(ConfigError, match=f"^{field}: "):
        KnativePodAutoscaler(**options)


def test_impossible_samples_are_refused() -> None:
    policy = KnativePodAutoscaler()
    before = policy.state()
    for value in (float("nan"), float("inf"), -1e200):
        with pytest.raises(MetricError):
            policy.record("concurrency", value, at=0.0)
        with pytest.raises(MetricError):
            policy.recommend({"current": 1, "metrics": {"concurrency": value}}, now=0.0)
    with pytest.raises(MetricError, match="this policy reads concurrency"):
        policy.record("rps", 1.0, at=0.0)
    assert policy.state() == before


def test_time_that_goes_back_does_no_harm() -> None:
    policy = KnativePodAutoscaler(target=10)
    policy.record("concurrency", 30.0, at=1000.0)
    assert policy.recommend({"current": 2}, now=1000.0).details["stable"] == 30.0
    policy.record("concurrency", 99.0, at=10.0)
    assert policy.recommend({"current": 2}, now=10.0).details["stable"] == 30.0


@pytest.mark.parametrize(
    ("config", "annotations", "said"),
    [
        ({"stable-windw": "60s"}, {}, "did you mean stable-window"),
        ({}, {"autoscaling.knative.dev/minscale": "1"}, "did you mean"),
        ({"stable-window": "soon"}, {}, "a duration"),
        ({}, {"autoscaling.knative.dev/metric": "cpu"}, "one of concurrency, rps"),
        ({}, {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}, "kpa"),
        ({"max-scale": "1.5"}, {}, "a whole number"),
    ],
)
def test_what_a_configuration_cannot_say(config: dict[str, str], annotations: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        KnativePodAutoscaler.from_config(config, annotations)


def test_windows_pickle_and_refuse() -> None:
    window = Window(60.0, weighted=True)
    window.record(3.0, at=5.0)
    again = pickle.loads(pickle.dumps(window))
    assert again.state() == window.state()
    assert repr(again) == "Window(60, granularity=1, weighted=True)"
    most = MaxWindow(30.0)
    assert most.current is None
    most.record(4, at=0.0)
    assert pickle.loads(pickle.dumps(most)).current == 4
    for make in (lambda: Window(0.0), lambda: Window(float("nan")), lambda: Window(60.0, granularity=0.5)):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(MetricError):
        window.record(float("nan"), at=0.0)
    with pytest.raises(ConfigError):
        window.average(now=-1.0)
