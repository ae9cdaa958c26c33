"""Ray Serve's surfaces without Ray: ranks, leases, models, state, bounds."""

from __future__ import annotations

import json
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.integrations.ray_serve import AutoscalingPolicy, ReplicaPicker, backoff


def replica(name: str, *, models: tuple[str, ...] = (), limit: int = 5, stats: Any = None, zone: str = "") -> Any:
    return SimpleNamespace(
        replica_id=SimpleNamespace(unique_id=name),
        multiplexed_model_ids=set(models),
        max_ongoing_requests=limit,
        routing_stats=stats or {},
        availability_zone=zone,
    )


def names(ranked: list[Any]) -> list[str]:
    return [one.replica_id.unique_id for one in ranked]


def test_ranks_follow_the_picker_and_leases_count() -> None:
    replicas = [replica("a"), replica("b"), replica("c")]
    picker = ReplicaPicker(picker="LeastConnections")
    picker.update(replicas)
    assert sorted(names(picker.rank(replicas))) == ["a", "b", "c"]
    picker.routed("a", "1")
    picker.routed("b", "2")
    picker.routed("b", "2")
    assert names(picker.rank(replicas))[0] == "c"
    assert [record.inflight for record in picker.pool.stats()] == [1, 2, 0]
    picker.completed("b", "2")
    picker.completed("b", "2")
    picker.completed("b", "2")
    picker.completed("a", "unknown")
    assert [record.inflight for record in picker.pool.stats()] == [1, 0, 0]
    assert names(ReplicaPicker(candidates=2).rank([])) == []
    few = ReplicaPicker(candidates=2)
    few.update(replicas)
    assert len(few.rank(replicas)) == 2


def test_full_replicas_are_not_named_and_replicas_come_and_go() -> None:
    replicas = [replica("a", limit=1), replica("b", limit=1)]
    picker = ReplicaPicker()
    picker.update(replicas)
    picker.routed("a", "1")
    assert names(picker.rank(replicas)) == ["b"]
    picker.routed("b", "2")
    assert picker.rank(replicas) == []
    picker.update([*replicas, replica("c", limit=1)])
    assert names(picker.rank([*replicas, replica("c")])) == ["c"]
    picker.update([replica("c")])
    picker.completed("a", "1")
    assert [record.inflight for record in picker.pool.stats()] == [0]


def test_models_sessions_and_reports() -> None:
    replicas = [replica("a"), replica("b", models=("m",)), replica("c")]
    picker = ReplicaPicker(picker="RingHash", key="session_id")
    picker.update(replicas)
    model = SimpleNamespace(multiplexed_model_id="m", session_id="ann")
    assert names(picker.rank(replicas, metadata=model))[0] == "b"
    assert len(picker.rank(replicas, metadata=model)) == 3
    plain = SimpleNamespace(multiplexed_model_id="", session_id="ann")
    assert len({tuple(names(picker.rank(replicas, metadata=plain))) for _ in range(5)}) == 1
    homes = {
        names(picker.rank(replicas, metadata=SimpleNamespace(multiplexed_model_id="", session_id=str(i))))[0]
        for i in range(50)
    }
    assert homes == {"a", "b", "c"}

    told = [replica("a", stats={"waiting": 9}), replica("b", stats={"waiting": 0})]
    observant = ReplicaPicker(stats={"waiting": "queue"})
    observant.update(told)
    assert {names(observant.rank(told))[0] for _ in range(20)} == {"b"}
    # The same report again does not wipe out what was sent since.
    for i in range(4):
        observant.routed("b", str(i))
    observant.rank(told)
    assert observant.pool.stats()[1].load >= 4


def context(
    current: int, total: float, *, target: int | None = None, state: Any = None, now: float = 0.0, **more: Any
) -> Any:
    values = {
        "current_num_replicas": current,
        "target_num_replicas": current if target is None else target,
        "total_num_requests": total,
        "total_queued_requests": 0.0,
        "aggregated_metrics": {},
        "capacity_adjusted_min_replicas": 1,
        "capacity_adjusted_max_replicas": 10,
        "policy_state": state or {},
        "current_time": now,
    }
    return SimpleNamespace(**{**values, **more})


def test_a_policy_decides_within_bounds_and_remembers_in_plain_data() -> None:
    policy = AutoscalingPolicy(options={"upscale_delay": 10.0, "target_ongoing_requests": 2.0})
    desired, state = policy(context(1, 8.0, now=100.0))
    assert desired == 1
    assert list(state) == ["aibalance"]
    state = json.loads(json.dumps({**state, "__decision_counter": 3}))
    # Another object, as after the controller's restart: the wait goes on.
    later, _ = AutoscalingPolicy(options={"upscale_delay": 10.0, "target_ongoing_requests": 2.0})(
        context(1, 8.0, state=state, now=111.0)
    )
    assert later == 4
    at_once = AutoscalingPolicy(options={"upscale_delay": 0.0})
    assert at_once(context(1, 100.0))[0] == 10
    assert at_once(context(1, 100.0, capacity_adjusted_max_replicas=7))[0] == 7
    bounded = AutoscalingPolicy(options={"upscale_delay": 0.0, "max_replicas": 3})
    assert bounded(context(1, 100.0))[0] == 3
    again = pickle.loads(pickle.dumps(at_once))
    assert again(context(1, 100.0))[0] == 10


def test_a_policy_sees_what_the_deployment_records() -> None:
    options = {"metric": "gpu", "target": 50.0}
    policy = AutoscalingPolicy(policy="TargetTracking", options=options)
    seen = {"gpu": {"a": 80.0, "b": 100.0}}
    desired, state = policy(context(2, 0.0, aggregated_metrics=seen, now=0.0))
    for minute in range(1, 6):
        desired, state = policy(context(2, 0.0, aggregated_metrics=seen, state=state, now=60.0 * minute))
    assert desired >= 3


def test_what_cannot_be_is_said() -> None:
    for make, said in (
        (lambda: ReplicaPicker(picker="Best"), "picker: 'Best'"),
        (lambda: ReplicaPicker(key="user"), "key: 'user'"),
        (lambda: ReplicaPicker(candidates=0), "candidates: 0"),
        (lambda: ReplicaPicker(stats={"x": "y"}), "stats: 'y'"),
        (lambda: ReplicaPicker(options={"x": 1}), "options"),
        (lambda: AutoscalingPolicy(policy="Best"), "policy: 'Best'"),
        (lambda: AutoscalingPolicy(policy="Recommendation"), "policy: 'Recommendation'"),
        (lambda: AutoscalingPolicy(options={"x": 1}), "options"),
        (lambda: AutoscalingPolicy(options={"target_ongoing_requests": -1.0}), "target_ongoing_requests"),
        (lambda: backoff(-1), "attempt: -1"),
        (lambda: backoff(0, initial=float("nan")), "initial: nan"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()  # type: ignore[no-untyped-call]
