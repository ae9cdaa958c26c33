"""Imported policies in a scenario are themselves, and what a simulation cannot show them is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import (
    AzureAutoscale,
    AzureRule,
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
from aibalance.simulation import Scenario, simulate
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
