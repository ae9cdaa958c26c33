"""Signals of model servers, workloads, late metrics and cold starts."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from aibalance import ConfigError, ManualClock, MetricError
from aibalance.autoscaling import (
    AiScaling,
    ColdStart,
    Composite,
    GpuMemory,
    GpuUtilization,
    KedaScaledObject,
    KvCacheUsage,
    ProportionalScaling,
    QueueLength,
    TokenVelocity,
    check,
)
from aibalance.autoscaling.ai import WORKLOADS
from aibalance.autoscaling.keda import ScalingModifiers, Trigger
from aibalance.testing import check_policy

NOW: dict[str, Any] = {"metric_delay": 0.0, "tolerance": 0.0, "stabilization": 0.0}


def ai(*signals: Any, **options: Any) -> AiScaling:
    return AiScaling(signals=list(signals), **{**NOW, "max_replicas": 40, **options})


def asks(policy: Any, current: int, /, *, now: float = 0.0, **metrics: float | None) -> Any:
    return policy.recommend({"current": current, "metrics": metrics}, now=now)


@pytest.mark.parametrize(
    ("signal", "metrics", "desired"),
    [
        (QueueLength(5), {"queue": 12.5}, 10),
        (GpuUtilization(0.7), {"gpu_utilization": 0.84}, 5),
        (GpuUtilization(0.7), {"gpu_utilization": 0.35}, 2),
        (GpuMemory(0.8), {"gpu_memory": 0.79}, 4),
        (GpuMemory(0.8), {"gpu_memory": 0.81}, 5),
        (GpuMemory(0.8, idle=0.6), {"gpu_memory": 0.9}, 6),
        (GpuMemory(0.8, idle=0.6), {"gpu_memory": 0.5}, 2),
        (KvCacheUsage(0.8), {"kv_cache": 1.0}, 5),
        (TokenVelocity(1000), {"tokens_per_s": 7300}, 8),
        (Composite(), {"queue": 1, "kv_cache": 0.96}, 5),
        (Composite(), {"queue": 10, "kv_cache": 0.4}, 8),
        (Composite(), {"queue": 10, "kv_cache": None}, 8),
    ],
)
def test_each_signal_by_hand(signal: Any, metrics: dict[str, float | None], desired: int) -> None:
    r = asks(ai(signal), 4, **metrics)
    assert r.desired == desired
    if desired != 4:
        assert type(signal).__name__ in r.reason


def test_the_largest_need_counts_and_the_trace_shows_all() -> None:
    r = asks(ai(QueueLength(5), KvCacheUsage(0.8), TokenVelocity(1000)), 4, queue=5, kv_cache=0.9, tokens_per_s=7300)
    assert r.desired == 8
    stages = dict(r.trace)
    assert stages["signals.0.QueueLength"] == 4
    assert stages["signals.1.KvCacheUsage"] == pytest.approx(4.5)
    assert stages["signals.2.TokenVelocity"] == pytest.approx(7.3)


def test_a_missing_signal_never_scales_in() -> None:
    policy = ai(QueueLength(5), KvCacheUsage(0.8))
    low = asks(policy, 8, queue=1, kv_cache=None)
    assert (low.desired, low.limited_by, low.action) == (8, "missing_metrics", "none")
    assert asks(policy, 8, queue=10, kv_cache=None).desired == 16
    nothing = asks(policy, 8)
    assert (nothing.desired, nothing.limited_by, nothing.action) == (8, "missing_metrics", "insufficient_data")


def test_what_was_ordered_is_not_ordered_again_while_the_metric_is_late() -> None:
    """The same 10 a replica is measured on 4 replicas until the metric can know better."""
    late, at_once = ai(QueueLength(5), metric_delay=120.0), ai(QueueLength(5))
    for policy, second in ((late, 8), (at_once, 16)):
        assert asks(policy, 4, now=0.0, queue=10).desired == 8
        assert asks(policy, 8, now=60.0, queue=10).desired == second
    assert asks(late, 8, now=179.0, queue=10).desired == 8
    assert asks(late, 8, now=181.0, queue=10).desired == 16


def test_a_server_is_capacity_once_it_has_loaded_and_warmed_up() -> None:
    policy = ai(QueueLength(5), cold_start=ColdStart(load=90, warm_up=30))
    asks(policy, 4, now=0.0, queue=10)
    early = asks(policy, 8, now=60.0, queue=10)
    assert (early.desired, early.details["ready"]) == (8, 4)
    assert asks(policy, 8, now=179.0, queue=10).details["ready"] == 4
    ready = asks(policy, 8, now=180.0, queue=10)
    assert (ready.desired, ready.details["ready"]) == (16, 8)


def test_what_the_platform_says_of_warming_is_believed() -> None:
    policy = ai(QueueLength(5), cold_start=120.0)
    asks(policy, 4, now=0.0, queue=5)
    r = policy.recommend({"current": 6, "warming": 2, "metrics": {"queue": 5}}, now=10.0)
    assert (r.details["ready"], r.details["warming"], r.desired) == (6, 2, 6)


def test_cold_start_from_a_models_size() -> None:
    assert ColdStart.of_model(140e9, 2e9, initialize=10, warm_up=20).seconds == 100
    assert ai(QueueLength(), cold_start=ColdStart(60, 30)) == ai(QueueLength(), cold_start=ColdStart(60, 30))
    assert ai(QueueLength(), cold_start=90).cold_start == ColdStart(90)


def test_realtime_is_always_on_and_batch_goes_to_zero_and_back() -> None:
    realtime, batch = ai(QueueLength()), ai(QueueLength(), workload="batch")
    assert asks(realtime, 4, queue=0).desired == 2
    assert asks(batch, 4, queue=0).desired == 0
    assert asks(batch, 0, queue=1).desired == 1
    assert asks(batch, 0, queue=40).desired == 8
    assert asks(batch, 0, queue=0).desired == 0
    with pytest.raises(ConfigError, match="always on, at least 2"):
        ai(QueueLength(), min_replicas=1)
    assert ai(QueueLength(), min_replicas=3).min_replicas == 3


def test_training_is_fixed_or_scheduled() -> None:
    fixed = AiScaling(workload="training", replicas=6, max_replicas=8)
    r = asks(fixed, 2)
    assert (r.desired, r.details["spot"]) == (6, "prefer")
    nightly = ProportionalScaling(metric="m", target=1, max_capacity=20, min_capacity=0)
    scheduled = AiScaling(workload="training", schedule=nightly, max_replicas=8)
    r = asks(scheduled, 2, m=9)
    assert (r.desired, r.limited_by) == (8, "max_replicas")
    for options in ({}, {"replicas": 2, "schedule": nightly}, {"replicas": 9}, {"signals": [QueueLength()]}):
        with pytest.raises(ConfigError):
            AiScaling(workload="training", max_replicas=8, **options)
    assert WORKLOADS["training"].scaled_by == "schedule"


def test_workloads_never_share_servers() -> None:
    realtime, batch = ai(QueueLength()), ai(QueueLength(), workload="batch")
    training = AiScaling(workload="training", replicas=6)
    found = [w for w in check(realtime, beside=[batch, training, ai(KvCacheUsage())]) if w.field == "beside"]
    assert [w.rule for w in found] == ["workloads_share_servers"]
    assert "batch, training" in found[0].message
    assert not [w for w in check(realtime, beside=[ai(KvCacheUsage())]) if w.field == "beside"]


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"tolerance": 0.3}, 4),
        ({"growth_factor": 1.25}, 5),
        ({"growth_step": 3}, 7),
        ({"max_replicas": 4}, 4),
        ({"min_replicas": 9}, 9),
    ],
)
def test_filters_are_passed_on(options: dict[str, Any], changed: int) -> None:
    assert asks(ai(QueueLength(5), **options), 4, queue=6.25 if "tolerance" in options else 10).desired == changed
    assert asks(ai(QueueLength(5)), 4, queue=10).desired == 8


def test_a_clock_answers_when_nobody_says_the_time() -> None:
    clock = ManualClock(0.0)
    policy = ai(QueueLength(5), cooldown=60.0, clock=clock)
    assert policy.recommend({"current": 4, "metrics": {"queue": 10}}).desired == 8
    assert policy.recommend({"current": 8, "metrics": {"queue": 10}}).limited_by == "cooldown"
    clock.advance(61.0)
    assert policy.recommend({"current": 8, "metrics": {"queue": 10}}).desired == 16


@pytest.mark.parametrize("options", [{"stabilization": 300.0}, {"cooldown": 300.0}, {"shrink_share": 0.25}])
def test_filters_on_the_way_down(options: dict[str, Any]) -> None:
    policy = ai(QueueLength(5), **options)
    assert asks(policy, 4, now=0.0, queue=10).desired == 8
    assert asks(policy, 8, now=60.0, queue=1).desired == (6 if "shrink_share" in options else 8)
    assert asks(ai(QueueLength(5)), 8, now=60.0, queue=1).desired == 2


def test_the_composite_is_kedas_formula() -> None:
    composite = Composite(queue=4, kv_cache=0.5)
    keda = KedaScaledObject(
        triggers=[Trigger(name="queue", threshold=1), Trigger(name="kv_cache", threshold=1)],
        modifiers=ScalingModifiers(formula=composite.formula, target=1),
    )
    for queue, kv in ((8, 0.1), (0, 0.75), (2, 0.25)):
        told = keda.recommend({"current": 1, "metrics": {"queue": queue, "kv_cache": kv}}, now=0.0)
        assert told.details["composite"] == pytest.approx(composite.ratio({"queue": queue, "kv_cache": kv}))


class Late:
    """Hands a policy the metric as it was two minutes ago: the load is constant, the servers are not."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []

    def __call__(self, policy: Any, current: int, value: float | None, now: float) -> Any:
        if self.seen and now <= self.seen[-1][0]:
            self.seen.clear()  # another run begins
        self.seen.append((now, current))
        then = [count for at, count in self.seen if at <= now - 120.0] or [self.seen[0][1]]
        late = None if value is None else value * max(current, 1) / max(then[-1], 1)
        return policy.recommend({"current": current, "metrics": {"m": late}}, now=now)


POLICIES: dict[str, tuple[Callable[[], AiScaling], dict[str, Any]]] = {
    "queue": (lambda: ai(QueueLength(50, "m"), tolerance=0.1), {"tolerance": 0.1}),
    "late": (
        lambda: ai(QueueLength(50, "m"), metric_delay=120.0, stabilization=300.0),
        {"tolerance": None, "ask": Late()},
    ),
    "batch": (lambda: ai(QueueLength(50, "m"), workload="batch"), {}),
    "tokens": (lambda: ai(TokenVelocity(50, "m"), stabilization=300.0), {"metric_type": "total"}),
    "defaults": (
        lambda: AiScaling(signals=[QueueLength(50, "m")], max_replicas=40),
        {"tolerance": None, "ask": Late()},
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_they_behave(name: str) -> None:
    make, options = POLICIES[name]
    report = check_policy(make, metric="m", target=50, examples=25, **options)
    assert {"bounds", "monotone", "flapping", "restore"} <= set(report.properties)


def test_state_goes_through_json_and_configuration_pickles() -> None:
    policy = ai(QueueLength(5), metric_delay=120.0, cold_start=60.0, stabilization=300.0)
    for k in range(6):
        asks(policy, 4 + k % 3, now=60.0 * k, queue=5 + k)
    heir = pickle.loads(pickle.dumps(policy))
    assert heir == policy
    assert repr(heir) == repr(policy)
    assert hash(heir) == hash(policy)
    assert heir.state() == copy.deepcopy(policy).state() != policy.state()
    heir.restore(json.loads(json.dumps(policy.state())))
    for k in range(6, 20):
        current, queue = 4 + k % 5, (k * 37) % 20
        assert asks(heir, current, now=60.0 * k, queue=queue) == asks(policy, current, now=60.0 * k, queue=queue)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "hpa"},
        {"seen": [[0.0, -1]]},
        {"seen": [[5.0, 1], [4.0, 1]]},
        {"seen": 3},
        {"serial": -1},
        {"policy": {}},
        {"more": 1},
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any]) -> None:
    policy = ai(QueueLength(5), metric_delay=60.0)
    asks(policy, 4, queue=9)
    before = policy.state()
    with pytest.raises(ConfigError):
        policy.restore({**before, **change})
    assert policy.state() == before


def test_a_recommendation_that_was_not_carried_out_is_taken_back() -> None:
    policy = ai(QueueLength(5), cooldown=300.0)
    r = asks(policy, 4, queue=10)
    assert asks(policy, 4, now=10.0, queue=15).limited_by == "cooldown"
    policy = ai(QueueLength(5), cooldown=300.0)
    policy.rejected(asks(policy, 4, queue=10))
    assert asks(policy, 4, now=10.0, queue=15).desired == 12
    assert r.desired == 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: QueueLength(0),
        lambda: QueueLength(float("nan")),
        lambda: GpuUtilization(1),
        lambda: GpuUtilization(70),
        lambda: GpuMemory(0.8, idle=0.8),
        lambda: KvCacheUsage(80),
        lambda: TokenVelocity(-1),
        lambda: Composite(kv_cache=80),
        lambda: ColdStart(-1),
        lambda: ColdStart.of_model(1, 0),
        lambda: AiScaling(),
        lambda: ai("queue"),
        lambda: ai(QueueLength(), workload="online"),
        lambda: ai(QueueLength(), metric_delay=-1),
        lambda: ai(QueueLength(), replicas=3),
        lambda: AiScaling(signals=QueueLength()),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError):
        make()


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", True])
def test_values_that_cannot_be(value: Any) -> None:
    policy = ai(QueueLength())
    with pytest.raises(MetricError):
        asks(policy, 4, queue=value)
    with pytest.raises(MetricError):
        policy.recommend({"current": -1, "metrics": {"queue": 3}}, now=0.0)
    with pytest.raises(MetricError):
        policy.recommend({"current": 3, "metrics": {"queue": 3}}, now=float("nan"))
    with pytest.raises(MetricError):
        policy.record("queue", 3.0, at=0.0)
