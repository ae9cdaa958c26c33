"""Imported policies in a scenario are themselves, and what a simulation cannot show them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import (
    AzureAutoscale,
    AzureRule,
    CloudRun,
    GroupSignal,
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    ManagedInstanceGroup,
    PodsMetric,
    PredictiveScaling,
    ProportionalScaling,
    RayServeAutoscaler,
    ResourceMetric,
    SimpleScaling,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.autoscaling.keda import ScalingModifiers, Trigger
from aibalance.formats import Imported, PolicyConfig, read_text, scenario
from aibalance.formats._simulated import observed
from aibalance.simulation import Fleet, Scenario, ServerType, simulate
from aibalance.simulation._drivers import build_policy

from . import samples


def loaded(found: Imported, folder: Path) -> tuple[Scenario, str]:
    text = scenario(found)
    (folder / "s.toml").write_text(text)
    return Scenario.load(folder / "s.toml"), text


def one(policy: Any, **more: Any) -> Imported:
    return Imported(policies=(PolicyConfig(name="p", target="t", policy=policy, **more),))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.yaml", samples.HPA),
        ("h.yaml", samples.HPA_V1),
        ("k.yaml", samples.KEDA),
        ("k.yaml", samples.KNATIVE),
        ("r.yaml", samples.RAY),
        ("m.tf", samples.TERRAFORM),
    ],
)
def test_what_the_file_makes_is_what_was_imported(name: str, text: str, tmp_path: Path) -> None:
    found = read_text(text, name).check()
    read, _ = loaded(found, tmp_path)
    by_name = {spec.name: build_policy(spec, read.fleet) for spec in read.policies if spec.policy != "Fixed"}
    seen = 0
    for config in found.policies:
        made = by_name.get(config.name)
        if made is None or isinstance(config.policy, (TargetTracking, StepScaling)):
            continue
        wanted = observed(config, lambda line: None)
        assert wanted is not None
        policy, metrics = wanted
        assert made.metrics == metrics
        mine, its = (
            (made.policy.scaled_object, policy.scaled_object)
            if isinstance(policy, KedaAutoscaler)
            else (made.policy, policy)
        )
        # What a manifest says besides decides nothing, and is not written.
        assert {**vars(mine), **dict.fromkeys(("_engine", "_now", "ignored"))} == {
            **vars(its),
            **dict.fromkeys(("_engine", "_now", "ignored")),
        }
        seen += 1
    assert seen
    assert simulate(read.replace(duration_s=700), picker=read.balancers[0].name, policy=read.policies[0].name).decisions


CASES: list[tuple[Any, str, dict[str, Any] | None]] = [
    (
        HorizontalPodAutoscaler(max_replicas=9, metrics=[PodsMetric("queue_depth", average_value=5)]),
        "p: queue_depth is taken for queue_per_server",
        {"queue_depth": "queue_per_server"},
    ),
    (
        HorizontalPodAutoscaler(max_replicas=9, metrics=[PodsMetric("gpu_jobs_waiting", average_value=5)]),
        "p: gpu_jobs_waiting is taken for queue_per_server",
        {"gpu_jobs_waiting": "queue_per_server"},
    ),
    (
        HorizontalPodAutoscaler(max_replicas=9, metrics=[PodsMetric("queue_utilization", average_value="0.7")]),
        "p: queue_utilization is taken for utilization",
        {"queue_utilization": "utilization"},
    ),
    (
        HorizontalPodAutoscaler(
            max_replicas=9,
            metrics=[ResourceMetric("memory", average_utilization=70), ResourceMetric("cpu", average_utilization=60)],
        ),
        "p: no metric of a simulation is like memory utilization; it is left out",
        {"cpu": "utilization_percent"},
    ),
    (
        HorizontalPodAutoscaler(max_replicas=9, metrics=[ResourceMetric("cpu", average_value="500m")]),
        "p: cpu: a simulation knows shares of a server, no amounts; it is left out",
        None,
    ),
    (
        HorizontalPodAutoscaler(max_replicas=9, metrics=[PodsMetric("gpu_cache_usage", average_value=5)]),
        "p: no metric of it is one of a simulation; it is left out",
        None,
    ),
    (
        KedaScaledObject(
            triggers=[Trigger(name="jobs_waiting", threshold=5), Trigger(name="office", type="cron", threshold=3)]
        ),
        "p: office: a simulation has no calendar of a trigger; it is left out",
        {"jobs_waiting": "queue"},
    ),
    (
        KedaScaledObject(
            triggers=[Trigger(name="waiting", threshold=5), Trigger(name="memory", threshold=3)],
            modifiers=ScalingModifiers(formula="max([waiting, memory])", target=5),
        ),
        "p: its formula needs all of its triggers; it is left out",
        None,
    ),
    (
        RayServeAutoscaler(max_replicas=4),
        "p: ongoing_requests is taken for in_flight",
        {"ongoing_requests": "in_flight"},
    ),
    (
        SimpleScaling(metric="RequestCountPerTarget", threshold=600, adjustment=1, max_capacity=4),
        "p: RequestCountPerTarget is taken for arrivals_per_s_per_server, 60 times",
        {"RequestCountPerTarget": ["arrivals_per_s_per_server", 60.0]},
    ),
    (
        ManagedInstanceGroup(signals=[GroupSignal("requests", 80.0, kind="group")], max_replicas=4),
        "p: requests is taken for arrivals_per_s",
        {"requests": "arrivals_per_s"},
    ),
    (
        AzureAutoscale(rules=[AzureRule(direction="out", metric="disk_queue", op=">", threshold=7)], max_capacity=4),
        "p: no metric of a simulation is like disk_queue; it is left out",
        None,
    ),
    (
        ProportionalScaling(metric="jobs", target=5, max_capacity=4, metric_type="total"),
        "p: jobs are taken for servers, those that wait for queue",
        {"jobs": "queue"},
    ),
    (
        PredictiveScaling(max_capacity=4),
        "p: a forecast comes from you (set_forecast); it is left out",
        None,
    ),
]


@pytest.mark.parametrize(("policy", "line", "observes"), CASES, ids=[type(case[0]).__name__ for case in CASES])
def test_each_metric_is_seen_or_told(policy: Any, line: str, observes: dict[str, Any] | None, tmp_path: Path) -> None:
    read, text = loaded(one(policy), tmp_path)
    assert f"# {line}\n" in text
    kept = [spec for spec in read.policies if spec.policy != "Fixed"]
    if observes is None:
        assert not kept
    else:
        assert kept[0].options["observes"] == observes
        assert simulate(read.replace(duration_s=700), picker="LeastRequest", policy="p").decisions > 5


def test_steps_of_another_unit_are_divided(tmp_path: Path) -> None:
    steps = [Step(lower=0, upper=300, adjustment=1), Step(lower=300, adjustment=3)]
    policy = StepScaling(metric="ALBRequestCountPerTarget", threshold=600, steps=steps, max_capacity=9)
    read, _ = loaded(one(policy), tmp_path)
    spec = read.policies[0]
    assert (spec.metric, spec.options["threshold"]) == ("arrivals_per_s_per_server", 10.0)
    assert spec.options["steps"][0]["upper"] == 5.0


TRACKING = TargetTracking(metric="cpu", target=60, min_capacity=2, max_capacity=9)
STEPS = StepScaling(metric="queue", threshold=5, steps=[Step(lower=0, adjustment=3)], min_capacity=2, max_capacity=12)


def on(*named: tuple[str, str, Any]) -> Imported:
    return Imported(policies=tuple(PolicyConfig(name=n, target=t, policy=p) for n, t, p in named))


def test_policies_on_one_group_are_one_candidate(tmp_path: Path) -> None:
    third = TargetTracking(metric="in_flight", target=3, min_capacity=1, max_capacity=9)
    read, text = loaded(on(("a", "g", TRACKING), ("b", "g", STEPS), ("c", "h", TRACKING), ("d", "g", third)), tmp_path)
    assert [(one.name, one.policy) for one in read.policies] == [
        ("a and b and d", "Combined"),
        ("c", "TargetTracking"),
        ("Fixed", "Fixed"),
    ]
    assert "# a and b and d: on one group, so the largest of what they ask for\n" in text
    built = build_policy(read.policies[0], read.fleet)
    assert (built.min_capacity, built.max_capacity) == (1, 12)
    assert [type(one) for one in built.policies] == [TargetTracking, StepScaling, TargetTracking]
    assert [(one.metric, one.period) for one in built.policies] == [
        ("utilization_percent", 60),
        ("queue_per_server", 60),
        ("in_flight_per_server", 60),
    ]
    # Steps see the queue at once, where utilization ends at 100 % and its alarm takes three minutes.
    both, alone = (simulate(read, picker="LeastRequest", policy=policy, seed=1) for policy in ("a and b and d", "c"))
    assert both.servers_peak > alone.servers_peak


def test_what_has_no_place_beside_others_is_told(tmp_path: Path) -> None:
    simple = SimpleScaling(metric="cpu", threshold=80, adjustment=1, max_capacity=9)
    read, text = loaded(on(("a", "g", TRACKING), ("b", "g", simple), ("c", "g", STEPS)), tmp_path)
    assert [one.name for one in read.policies] == ["a and c", "b", "Fixed"]
    assert "# a and c, b: all on g; here each is a candidate of its own, as if the others were not there\n" in text
    unseen = TargetTracking(metric="memory", target=60, max_capacity=9)
    read, text = loaded(on(("a", "g", unseen), ("b", "g", STEPS)), tmp_path)
    assert [one.name for one in read.policies] == ["b", "Fixed"]
    assert "all on g" not in text


def test_without_an_alarm_is_without_an_alarm(tmp_path: Path) -> None:
    simple = SimpleScaling(metric="cpu", threshold=80, adjustment=1, max_capacity=9, alarm=None)
    tracking = TargetTracking(metric="cpu", target=60, max_capacity=9, high_alarm=None, low_alarm=None)
    read, _ = loaded(on(("a", "g", simple), ("b", "h", tracking)), tmp_path)
    built = [build_policy(spec, read.fleet) for spec in read.policies[:2]]
    assert built[0].policy.alarm is None
    assert (built[1].high_alarm, built[1].low_alarm) == (None, None)


def test_target_tracking_keeps_all_of_its_fields(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "disable_scale_in": True,
        "scale_in_ratio": 0.8,
        "high_alarm": (2, 4),
        "low_alarm": (5, 5),
        "period": 30.0,
        "scale_out_cooldown": 45.0,
        "scale_in_cooldown": 300.0,
        "scale_from_zero": True,
    }
    policy = TargetTracking(metric="cpu", target=60, min_capacity=2, max_capacity=9, **given)
    read, _ = loaded(one(policy), tmp_path)
    built = build_policy(read.policies[0], read.fleet)
    assert {name: getattr(built, name) for name in given} == given


def test_bounds_at_their_default_are_not_those_of_the_widest(tmp_path: Path) -> None:
    keda = KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)])
    wide = TargetTracking(metric="cpu", target=60, max_capacity=500)
    read, _ = loaded(on(("a", "g", keda), ("b", "h", wide), ("c", "i", CloudRun())), tmp_path)
    assert read.fleet.max == 500
    assert [build_policy(spec, read.fleet).policy.max_replicas for spec in read.policies[:1]] == [100]
    assert build_policy(read.policies[2], read.fleet).policy.max_instances == 100
    # Nor do they rise with the fleet of another scenario, from nothing to something.
    fleet = Fleet(types=[ServerType(name="a")], min=3, max=500)
    assert build_policy(read.policies[0], fleet).policy.min_replicas == 0
    assert build_policy(read.policies[2], fleet).policy.min_instances == 0


def test_a_trigger_is_known_by_its_query(tmp_path: Path) -> None:
    triggers = [Trigger(name="s0-prometheus", type="prometheus", threshold=10)]
    extra = {"triggers": [{"metadata": {"query": "sum(inference_queue_pending)"}}]}
    _, text = loaded(one(KedaScaledObject(triggers=triggers), extra=extra), tmp_path)
    assert "# p: s0-prometheus (sum(inference_queue_pending)) is taken for queue\n" in text


def test_where_there_may_be_nobody_one_queue_stands_in_front(tmp_path: Path) -> None:
    read, text = loaded(one(KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)])), tmp_path)
    assert read.balancers[0].picker == "SharedQueue"
    assert "# there may be no server at all, so one queue in front is a candidate\n" in text
    report = simulate(read.replace(duration_s=900), picker="one queue", policy="p", seed=1)
    assert report.all.rejected == 0


def test_a_name_that_is_no_bare_key_is_quoted(tmp_path: Path) -> None:
    metric = ResourceMetric("cpu", container="web app", average_utilization=60)
    read, _ = loaded(one(HorizontalPodAutoscaler(max_replicas=9, metrics=[metric])), tmp_path)
    assert read.policies[0].options["observes"] == {"web app/cpu": "utilization_percent"}
