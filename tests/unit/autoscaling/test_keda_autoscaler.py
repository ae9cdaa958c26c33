"""KEDA and its autoscaler together: who decides when, on what, and with which memory."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.autoscaling import HorizontalPodAutoscaler, KedaAutoscaler, KedaScaledObject
from aibalance.autoscaling.keda import Fallback, ScalingModifiers, Trigger


def keda(**options: Any) -> KedaAutoscaler:
    fields: dict[str, Any] = {"triggers": [Trigger(name="queue", threshold=10)], "max_replicas": 20, **options}
    return KedaAutoscaler(KedaScaledObject(**fields), downscale_stabilization=0.0)


def ask(policy: KedaAutoscaler, current: int, now: float, **metrics: float | None) -> Any:
    return policy.recommend({"current": current, "metrics": metrics}, now=now)


def test_from_nothing_to_many_and_back() -> None:
    policy, n, seen = keda(), 0, []
    for k, queue in enumerate([0, 35, 35, 80, 20, 0, 0, 0, 0]):
        r = ask(policy, n, 100.0 * k, queue=queue)
        n = r.desired
        seen.append((n, dict(r.trace)["by"]))
    assert seen == [
        (0, "keda"),
        (1, "keda"),
        (4, "hpa"),
        (8, "hpa"),
        (2, "hpa"),
        (1, "hpa"),
        (1, "hpa"),
        (1, "hpa"),  # 300 s after the last activity are not more than the cooldown
        (0, "keda"),
    ]


def test_between_one_and_many_it_is_the_autoscaler_that_the_manifest_describes() -> None:
    policy = keda(min_replicas=2)
    alone = HorizontalPodAutoscaler.from_manifest(policy.scaled_object.hpa_manifest(), downscale_stabilization=0.0)
    for k, (n, queue) in enumerate([(2, 55), (6, 58), (6, 70), (7, 300), (11, 0)]):
        r = ask(policy, n, 15.0 * k, queue=queue)
        other = alone.recommend({"current": n, "metrics": {"s0-external-queue": queue}}, now=15.0 * k)
        assert (r.desired, r.limited_by) == (other.desired, other.limited_by)


def test_a_fallback_and_a_formula_reach_the_autoscaler() -> None:
    policy = keda(fallback=Fallback(failure_threshold=1, replicas=6), min_replicas=1)
    for now in (0.0, 30.0):
        r = ask(policy, 3, now, queue=None)
    assert (r.desired, dict(r.trace)["keda.fallback"]) == (6, True)
    both = keda(
        triggers=[Trigger(name="queue", threshold=10), Trigger(name="kv", threshold=10)],
        modifiers=ScalingModifiers(formula="max([queue, kv * 100])", target=10),
    )
    assert ask(both, 4, 0.0, queue=20, kv=0.7).desired == 7


def test_cpu_goes_through() -> None:
    policy = keda(triggers=[Trigger(name="c", type="cpu", metric_type="Utilization", threshold=50)], min_replicas=1)
    assert ask(policy, 4, 0.0, c=90).desired == 8
    silent = ask(policy, 4, 0.0, c=None)
    assert (silent.desired, silent.action) == (4, "insufficient_data")


def test_pauses_and_bounds() -> None:
    assert ask(keda(paused_replicas=5, paused=True), 2, 0.0, queue=90).desired == 5
    assert ask(keda(paused_scale_out=True), 2, 0.0, queue=90).desired == 2
    assert (keda(min_replicas=3).min_replicas, keda().min_replicas, keda().max_replicas) == (3, 0, 20)
    assert keda(min_replicas=3, idle_replicas=1).min_replicas == 1
    assert keda().triggers == ("queue",)


def test_memory_of_both() -> None:
    policy = keda()
    policy_of_five = KedaAutoscaler(policy.scaled_object, downscale_stabilization=300.0)
    for k in range(5):
        ask(policy_of_five, 4, 60.0 * k, queue=35 - 5 * k)
    heir = pickle.loads(pickle.dumps(policy_of_five))
    assert heir == policy_of_five
    assert heir.state() != policy_of_five.state()
    heir.restore(json.loads(json.dumps(policy_of_five.state())))
    for k in range(5, 15):
        seen = {"queue": float((k * 37) % 60)}
        ours, theirs = (ask(one, 4, 60.0 * k, **seen) for one in (policy_of_five, heir))
        assert (ours.desired, ours.limited_by, ours.reason) == (theirs.desired, theirs.limited_by, theirs.reason)
    before = heir.state()
    for wrong in ({}, {**before, "hpa": {}}, {**before, "scaled_object": {}}, [1]):
        with pytest.raises(ConfigError):
            heir.restore(wrong)
        assert heir.state() == before
    with pytest.raises(ConfigError, match="KedaScaledObject"):
        KedaAutoscaler(heir)  # type: ignore[arg-type]


def test_a_write_that_failed() -> None:
    policy = keda()
    r = ask(policy, 0, 0.0, queue=5)
    policy.rejected(r)
    again = ask(policy, 0, 30.0, queue=5)
    assert (r.desired, again.desired) == (1, 1)
    up = ask(policy, 1, 60.0, queue=50)
    before = policy.state()
    policy.rejected(up)
    assert policy.state() != before
    policy.rejected(r)
    policy.record("queue", 35.0, at=90.0)
    assert ask(policy, 1, 90.0).desired == 4
