"""The Horizontal Pod Autoscaler: each option alone changes a decision, and what it says about itself."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import (
    Behavior,
    Combined,
    ExternalMetric,
    HorizontalPodAutoscaler,
    ObjectMetric,
    Observation,
    Pods,
    PodsMetric,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
    hpa,
)

QUEUE = PodsMetric("queue", average_value=10)


def policy(**changes: Any) -> HorizontalPodAutoscaler:
    return HorizontalPodAutoscaler(**{"max_replicas": 100, "metrics": [QUEUE], **changes})


def seen(current: int, value: Any, **more: Any) -> dict[str, Any]:
    return {"current": current, "metrics": {"queue": value}, **more}


def test_the_proportion_rounds_up_and_the_tolerance_holds_still() -> None:
    assert policy().recommend(seen(4, 12), now=0.0).desired == 5
    at_the_edge = policy().recommend(seen(4, 11), now=0.0)
    assert (at_the_edge.desired, at_the_edge.limited_by) == (4, "tolerance")
    assert policy(tolerance=0).recommend(seen(4, 11), now=0.0).desired == 5
    assert policy(tolerance="300m").recommend(seen(4, 12), now=0.0).desired == 4


@pytest.mark.parametrize(
    ("changes", "observed", "desired", "limited_by"),
    [
        ({}, seen(4, 100), 8, "scale_up_limit"),
        ({"max_replicas": 6}, seen(4, 100), 6, "max_replicas"),
        ({"max_replicas": 6}, seen(9, 100), 6, "max_replicas"),
        ({"min_replicas": 6}, seen(4, 1), 6, "min_replicas"),
        ({"behavior": Behavior()}, seen(3, 100), 7, "scale_up_limit"),
        ({"behavior": Behavior(scale_up=ScalingRules(select_policy="min"))}, seen(3, 100), 6, "scale_up_limit"),
        ({"behavior": Behavior(scale_up=ScalingRules(select_policy="disabled"))}, seen(3, 100), 3, "scale_up_limit"),
        ({"behavior": Behavior(scale_up=ScalingRules(stabilization_window=60))}, seen(3, 100), 3, "stabilization"),
        ({"behavior": Behavior(scale_up=ScalingRules(tolerance=0.5))}, seen(4, 14), 4, "tolerance"),
        ({}, seen(4, 1), 4, "stabilization"),
        ({"behavior": Behavior(scale_down=ScalingRules(stabilization_window=0))}, seen(20, 1), 2, None),
        (
            {
                "behavior": Behavior(
                    scale_down=ScalingRules(
                        stabilization_window=0, policies=[ScalingPolicy(kind="pods", value=3, period=60)]
                    )
                )
            },
            seen(20, 1),
            17,
            "scale_down_limit",
        ),
        (
            {
                "behavior": Behavior(
                    scale_down=ScalingRules(
                        stabilization_window=0, policies=[ScalingPolicy(kind="percent", value=10, period=60)]
                    )
                )
            },
            seen(5, 1),
            4,
            "scale_down_limit",
        ),
        ({}, seen(0, 100), 0, "scaling_disabled"),
        ({}, seen(4, None), 4, "missing_metrics"),
        ({}, {"current": 4}, 4, "missing_metrics"),
    ],
)
def test_what_bounds_a_decision(changes: Any, observed: Any, desired: int, limited_by: str | None) -> None:
    r = policy(**changes).recommend(observed, now=0.0)
    assert (r.desired, r.limited_by) == (desired, limited_by)
    assert dict(r.trace)["desired"] == desired
    assert r.reason.count(":") >= 1


def test_scaling_down_waits_for_the_window_and_its_length_is_an_option() -> None:
    for window, later in ((300.0, 301.0), (60.0, 61.0)):
        p = policy(downscale_stabilization=window)
        assert p.recommend(seen(10, 10), now=0.0).desired == 10
        assert p.recommend(seen(10, 5), now=window).limited_by == "stabilization"
        assert p.recommend(seen(10, 5), now=window + later).desired == 5


def test_the_period_of_a_rate_is_an_option() -> None:
    for period, desired in ((60, 6), (15, 8)):
        rate = ScalingPolicy(kind="pods", value=2, period=period)
        p = policy(behavior=Behavior(scale_up=ScalingRules(policies=[rate])))
        assert p.recommend(seen(4, 100), now=0.0).desired == 6
        assert p.recommend(seen(6, 100), now=30.0).desired == desired


def test_a_missing_metric_stops_scaling_down_and_not_up() -> None:
    two = policy(metrics=[QUEUE, ExternalMetric("jobs", average_value=1)])
    held = two.recommend({"current": 4, "metrics": {"queue": 1}}, now=0.0)
    assert (held.desired, held.action, held.limited_by) == (4, "insufficient_data", "missing_metrics")
    grown = two.recommend({"current": 4, "metrics": {"queue": 20}}, now=15.0)
    assert (grown.desired, grown.action) == (8, "scale_out")
    assert "1 of 2 metrics failed, first jobs" in grown.details["error"]


def test_scaling_to_zero_and_back_is_an_option() -> None:
    jobs = {"metrics": [ExternalMetric("jobs", average_value=1)], "min_replicas": 0, "downscale_stabilization": 0}
    on, off = policy(**jobs, scale_to_zero=True), policy(**jobs)
    for p in (on, off):
        p.recommend({"current": 1, "metrics": {"jobs": 1}}, now=0.0)
        assert p.recommend({"current": 1, "metrics": {"jobs": 0}}, now=15.0).desired == 0
    assert on.recommend({"current": 0, "metrics": {"jobs": 3}}, now=30.0).desired == 3
    assert off.recommend({"current": 0, "metrics": {"jobs": 3}}, now=30.0).limited_by == "scaling_disabled"


def test_kinds_of_metrics_without_pods() -> None:
    at = {"now": 0.0}
    assert hpa.replicas(ObjectMetric("m", value=10), {"current": 4, "metrics": {"m": 20}}, **at).replicas == 8
    assert hpa.replicas(ObjectMetric("m", average_value=10), {"current": 4, "metrics": {"m": 20}}, **at).replicas == 2
    several = hpa.replicas(ExternalMetric("m", value=10), {"current": 4, "metrics": {"m": [5, "15", 0.5]}}, **at)
    assert (several.replicas, several.usage) == (9, 20.5)
    cpu = hpa.replicas(ResourceMetric("cpu", average_utilization=50), {"current": 2, "metrics": {"cpu": 80.9}}, **at)
    assert (cpu.replicas, cpu.utilization) == (4, 80)
    per_pod = {"current": 4, "status": 2, "metrics": {"m": 20}}
    assert hpa.replicas(ExternalMetric("m", average_value=10), per_pod, **at) == (2, 10.0, 10_000, None, 1.0, True)


def test_warming_replicas_count_as_asked_for_and_not_as_ready() -> None:
    r = policy().recommend(seen(4, 12, warming=1), now=0.0)
    assert (r.desired, r.action) == (5, "none")
    assert policy().recommend(seen(4, 12), now=0.0).desired == 5


def test_with_pods_readiness_and_missing_values_count() -> None:
    def decide(pods: list[dict[str, Any]], values: dict[str, Any], **more: Any) -> int:
        metric = ResourceMetric("cpu", average_value="100m")
        observation = Observation(len(pods), pods=Pods(pods, metrics={"cpu": values}))
        return hpa.replicas(metric, observation, **{"now": 1000.0, **more}).replicas

    ready = [{"name": "a"}, {"name": "b"}]
    assert decide(ready, {"a": 0.2, "b": 0.2}) == 4
    assert decide(ready, {"a": 0.2}) == 2, "a missing one counts as idle when scaling up"
    young = [{"name": "a"}, {"name": "b", "started": 900.0, "ready": False, "ready_since": 900.0}]
    assert decide(young, {"a": 0.2, "b": 9.0}) == 2, "an unready one counts as idle when scaling up"
    assert decide(young, {"a": 0.2, "b": 9.0}, cpu_initialization_period=50.0) == 2
    later = [{"name": "a"}, {"name": "b", "started": 900.0, "ready": False, "ready_since": 940.0}]
    assert decide(later, {"a": 0.2, "b": 9.0}, cpu_initialization_period=50.0) == 92
    assert decide(later, {"a": 0.2, "b": 9.0}, cpu_initialization_period=50.0, initial_readiness_delay=60.0) == 2
    assert decide([{"name": "a"}, {"name": "b", "deleted": True}], {"a": 0.2, "b": 9}) == 2
    with pytest.raises(MetricError, match="there are no pods"):
        decide([], {})


def test_requests_of_pods_containers_and_sidecars() -> None:
    def utilization(pod: dict[str, Any], **metric: Any) -> int | None:
        pods = Pods([{"name": "a", **pod}], metrics={"m": {"a": 0.5}})
        spec = ResourceMetric("cpu", average_utilization=50, key="m", **metric)
        return hpa.replicas(spec, {"current": 1, "pods": pods}, now=0.0).utilization

    main = {"name": "main", "requests": {"cpu": 1}}
    side = {"name": "side", "requests": {"cpu": "250m"}, "init": True, "sidecar": True}
    init = {"name": "init", "requests": {"cpu": 8}, "init": True}
    assert utilization({"containers": [main, init]}) == 50
    assert utilization({"containers": [main, side]}) == 40
    assert utilization({"containers": [main, side]}, container="side") == 200
    assert utilization({"containers": [main], "requests": {"cpu": 5}}) == 10
    with pytest.raises(MetricError, match="container main of pod a requests no cpu"):
        utilization({"containers": [{"name": "main"}]})


def test_conditions_and_a_write_that_failed() -> None:
    p = policy(behavior=Behavior())
    r = p.recommend(seen(4, 12), now=0.0)
    assert ("AbleToScale", "True", "SucceededRescale") in r.details["conditions"]
    assert p.status()["desired_replicas"] == 5
    p.rejected(r)
    assert ("AbleToScale", "False", "FailedUpdateScale") in p.status()["conditions"]
    assert (p.status()["last_scale"], p.state()["scale_up_events"]) == (None, [])
    p.rejected(r)
    assert p.status()["last_scale"] is None


def test_reason_trace_details_and_pickle() -> None:
    r = policy().recommend(seen(4, 7.5), now=0.0)
    assert r.reason == (
        "queue 7.5 is below the target 10: stays at 4 (past recommendations in the stabilization window count)"
    )
    stages = dict(r.trace)
    assert [stages[s] for s in ("raw", "tolerance", "stabilization", "rate_limits", "bounds")] == [3.0, 3, 4, 4, 4]
    assert r.details["metrics"][0]["usage"] == 7.5
    copy = pickle.loads(pickle.dumps(r))
    assert (copy, hash(copy), repr(copy), copy.trace) == (r, hash(r), repr(r), r.trace)
    assert copy != policy().recommend(seen(4, 7.6), now=0.0)


def test_configuration_and_pods_pickle() -> None:
    p = policy(behavior=Behavior(scale_up=ScalingRules(tolerance="10m")))
    assert pickle.loads(pickle.dumps(p)) == p
    pods = Pods(
        [{"name": "a", "started": None, "ready": "unknown", "containers": [{"name": "c", "requests": {"cpu": 1}}]}],
        metrics={"m": {"a": ("1m", -5.0, 30), "ghost": 4}, "gone": None},
    )
    assert pickle.loads(pickle.dumps(pods)) == pods
    assert (len(pods), pods.ready, pods.names, pods.metrics) == (1, 0, ("a",), {"m": 2, "gone": None})
    assert "1, 0 ready" in repr(pods)


def test_a_memory_is_checked_before_it_is_taken() -> None:
    p = policy(behavior=Behavior())
    p.recommend(seen(4, 12), now=0.0)
    state = json.loads(json.dumps(p.state()))
    heir = policy(behavior=Behavior())
    heir.restore(state)
    assert heir.state() == p.state()
    for field, value in [
        ("version", 9),
        ("kind", "step_scaling"),
        ("recommendations", [[1]]),
        ("recommendations", [[-1, 0]]),
        ("scale_up_events", [[0, 0, False]]),
        ("scale_up_events", [[1, 0, 0]]),
        ("conditions", {**state["conditions"], "AbleToScale": "Fine"}),
        ("desired_replicas", 1.5),
        ("last_scale", -1),
        ("last", 3),
    ]:
        with pytest.raises(ConfigError, match="state"):
            heir.restore({**state, field: value})
    assert heir.state() == p.state()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_replicas": 0}, "max_replicas"),
        ({"min_replicas": -1}, "min_replicas"),
        ({"min_replicas": 200}, "max_replicas: 100"),
        ({"metrics": []}, "metrics"),
        ({"metrics": [3]}, r"metrics\[0\]: 3"),
        ({"metrics": [QUEUE, QUEUE]}, r"metrics\[1\].key: queue"),
        ({"metrics": [PodsMetric("q", average_value=0)]}, r"metrics\[0\].average_value"),
        ({"metrics": [PodsMetric("q", average_value="1x")]}, r"metrics\[0\].average_value"),
        ({"metrics": [ObjectMetric("q", value=1, average_value=1)]}, "only one of"),
        ({"metrics": [ExternalMetric("q")]}, "a target"),
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"scale_to_zero": 1}, "scale_to_zero"),
        ({"behavior": 3}, "behavior"),
        ({"behavior": Behavior(scale_up=ScalingRules(policies=[]))}, "behavior.scale_up.policies"),
        ({"behavior": Behavior(scale_down=ScalingRules(stabilization_window=3601))}, "stabilization_window"),
        (
            {"behavior": Behavior(scale_up=ScalingRules(policies=[ScalingPolicy(kind="pods", value=0, period=1)]))},
            r"policies\[0\].value",
        ),
        ({"downscale_stabilization": -1}, "downscale_stabilization"),
    ],
)
def test_what_cannot_be_is_refused(changes: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        policy(**changes)


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (seen(4, "x"), "queue"),
        (seen(4, [1, None]), "queue"),
        (seen(4, 1e300), "thousandths"),
        (seen(4, float("nan")), "queue"),
        (seen(4, 1, pods=3), "a Pods object"),
        (seen(4, 1, pods=Pods([{"name": "a"}])), "one value a pod"),
        (seen(-1, 1), "current"),
    ],
)
def test_an_observation_that_cannot_be_used_changes_nothing(observed: Any, said: str) -> None:
    p = policy()
    before = p.state()
    with pytest.raises(MetricError, match=said):
        p.recommend(observed, now=0.0)
    assert p.state() == before
    with pytest.raises(MetricError, match="keeps no samples"):
        p.record("queue", 1.0, at=0.0)


@pytest.mark.parametrize(
    "record",
    [{}, {"name": 3}, {"name": "a", "phase": "Running"}, {"name": "a", "reddy": True}, {"name": "a", "ready": 1},
     {"name": "a", "started": float("inf")}, {"name": "a", "requests": {"cpu": "1x"}},
     {"name": "a", "containers": [{"sidecar": True}]}],
)  # fmt: skip
def test_pods_that_cannot_be_are_refused(record: Any) -> None:
    with pytest.raises(MetricError, match=r"pods\[0\]"):
        Pods([record])


def test_two_pods_of_one_name_are_refused() -> None:
    with pytest.raises(MetricError, match="pods: a"):
        Pods([{"name": "a"}, {"name": "a"}])


def test_aws_policies_do_not_take_what_only_kubernetes_knows() -> None:
    with pytest.raises(ConfigError, match=r"policies\[0\]"):
        Combined([policy()])  # type: ignore[list-item]
    from aibalance.autoscaling import TargetTracking

    aws = TargetTracking(metric="queue", target=10, max_capacity=9, high_alarm=None, low_alarm=None)
    for value in ("12", [12]):
        for observed in (seen(4, value), Observation(4, metrics={"queue": value})):  # type: ignore[dict-item]
            with pytest.raises(MetricError, match="queue"):
                aws.recommend(observed, now=0.0)
