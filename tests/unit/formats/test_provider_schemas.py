"""What is exported as Terraform has the names, blocks and types of the providers' own schemas.

`provider_schemas.json` is made of the providers' classes by `scripts/provider-schemas`: aws 6.25, azurerm 4.55, google
6.50.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import (
    AzureAutoscale,
    AzureRule,
    GroupSignal,
    ManagedInstanceGroup,
    PredictiveScaling,
    ScaleInLimit,
    ScalingSchedule,
    SimpleScaling,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.formats import GroupConfig, Imported, PolicyConfig, export, read_text

from . import samples

pytest.importorskip("cronsim")
SCHEMAS = json.loads((Path(__file__).parent / "provider_schemas.json").read_text(encoding="utf-8"))


def faults(fields: dict[str, Any], body: Any, at: str) -> list[str]:
    """What a provider would say about a block."""
    if not isinstance(body, dict):
        return [f"{at}: {body!r} is no block"]
    out = [f"{at}.{key}: there is no such field" for key in body if key not in fields]
    out += [f"{at}.{key}: is needed" for key, field in fields.items() if field.get("needed") and key not in body]
    for key, value in body.items():
        field, here = fields.get(key), f"{at}.{key}"
        if field is None:
            continue
        if "block" in field:
            blocks = value if isinstance(value, list) else [value]
            if len(blocks) > 1 and not field["many"]:
                out.append(f"{here}: {len(blocks)} blocks; there is one at most")
            for i, block in enumerate(blocks):
                out += faults(field["block"], block, f"{here}[{i}]")
            continue
        if isinstance(value, str) and value.startswith("${"):
            continue  # an expression: known when it is applied
        shape = field.get("shape")
        if shape is not None and not isinstance(value, list if shape == "list" else dict):
            out.append(f"{here}: {value!r} is no {shape}")
            continue
        values = list(value.values()) if shape == "map" else value if shape == "list" else [value]
        for one in values:
            if isinstance(one, str) and one.startswith("${"):
                continue
            kinds: dict[str, Any] = {"number": (int, float), "string": str, "bool": bool}
            fits = isinstance(one, kinds[field["type"]]) and (field["type"] == "bool" or not isinstance(one, bool))
            # Terraform turns numbers in text into numbers, and numbers into text.
            if not fits and not (field["type"] == "string" and isinstance(one, (int, float))):
                out.append(f"{here}: {one!r} is no {field['type']}")
            elif "allowed" in field and one not in field["allowed"]:
                out.append(f"{here}: {one!r} is none of {', '.join(field['allowed'])}")
    return out


def checked(found: Imported, to: str) -> dict[str, int]:
    """Checks all resources of an export; how many there were of each type."""
    resources = json.loads(export(found, to).text)["resource"]
    said: list[str] = []
    seen: dict[str, int] = {}
    for kind, named in resources.items():
        for name, body in named.items():
            seen[kind] = seen.get(kind, 0) + 1
            for one in body if isinstance(body, list) else [body]:
                said += faults(SCHEMAS[kind]["fields"], one, f"{kind}.{name}")
    assert not said
    return seen


def policies(*given: Any, group: GroupConfig | None = None) -> Imported:
    configs = tuple(PolicyConfig(name=f"p{i}", target="web", policy=one) for i, one in enumerate(given))
    return Imported(policies=configs, groups=() if group is None else (group,))


TRACKING = TargetTracking(metric="cpu", target=60, min_capacity=2, max_capacity=9, warmup=90)
SIMPLE = SimpleScaling(metric="queue", threshold=5, adjustment=2, min_capacity=2, max_capacity=9)
STEPS = StepScaling(
    metric="queue",
    threshold=5,
    steps=[Step(lower=0, upper=5, adjustment=10), Step(lower=5, adjustment=30)],
    adjustment_type="percent_change_in_capacity",
    max_capacity=9,
)
MANAGED = ManagedInstanceGroup(
    signals=[GroupSignal("cpu", 0.6), GroupSignal("requests", 80.0, kind="group"), GroupSignal("gpu", 65.0)],
    max_replicas=9,
    mode="only_scale_out",
    stabilization_period=300,
    scale_in_limit=ScaleInLimit("20%"),
    schedules=[ScalingSchedule(recurrence="0 9 * * 1-5", duration=3600, min_required_replicas=4)],
)
AZURE = AzureAutoscale(
    rules=[
        AzureRule(direction="out", metric="cpu", op=">", threshold=75, by=50, change="percent"),
        AzureRule(direction="in", metric="queue", op="<=", threshold=3, divide_by_instances=True),
        AzureRule(direction="out", metric="queue", op="==", threshold=9, by=9, change="exact"),
    ],
    max_capacity=9,
    default_capacity=3,
)
FORECAST = PredictiveScaling(mode="forecast_and_scale", max_capacity=9)


@pytest.mark.parametrize(
    "given",
    [[TRACKING], [TRACKING, FORECAST], [MANAGED], [TargetTracking(metric="gpu", target=65, max_capacity=9)]],
    ids=["tracking", "forecast", "managed", "custom"],
)
def test_google_knows_what_is_written_for_it(given: list[Any]) -> None:
    assert checked(policies(*given), "terraform-gcp") == {"google_compute_autoscaler": 1}


@pytest.mark.parametrize(
    "given",
    [[TRACKING], [STEPS], [SIMPLE], [AZURE], [TRACKING, STEPS]],
    ids=["tracking", "steps", "simple", "own", "two"],
)
def test_azure_knows_what_is_written_for_it(given: list[Any]) -> None:
    group = GroupConfig(name="web", min_size=2, max_size=9, desired=3)
    assert checked(policies(*given, group=group), "terraform-azure") == {"azurerm_monitor_autoscale_setting": 1}


def test_the_sample_of_every_resource_is_known_in_all_clouds() -> None:
    found = read_text(samples.TERRAFORM, "main.tf").check()
    seen = checked(found, "terraform-aws")
    assert set(seen) == {name for name in SCHEMAS if name.startswith("aws_")}
    assert checked(found, "terraform-gcp")
    assert checked(found, "terraform-azure")


def test_the_checker_finds_what_is_wrong() -> None:
    of = SCHEMAS["google_compute_autoscaler"]["fields"]
    good = {"name": "a", "target": "t", "autoscaling_policy": [{"min_replicas": 1, "max_replicas": 2}]}
    assert faults(of, good, "g") == []
    policy = {"min_replicas": "one", "cpu_utilization": [{}, {}], "metric": [{"name": "m", "type": "COUNTER"}]}
    assert faults(of, {"target": 3, "labels": {}, "autoscaling_policy": [policy]}, "g") == [
        "g.labels: there is no such field",
        "g.name: is needed",
        "g.autoscaling_policy[0].max_replicas: is needed",
        "g.autoscaling_policy[0].min_replicas: 'one' is no number",
        "g.autoscaling_policy[0].cpu_utilization: 2 blocks; there is one at most",
        "g.autoscaling_policy[0].cpu_utilization[0].target: is needed",
        "g.autoscaling_policy[0].cpu_utilization[1].target: is needed",
        "g.autoscaling_policy[0].metric[0].type: 'COUNTER' is none of GAUGE, DELTA_PER_SECOND, DELTA_PER_MINUTE",
    ]


# What the reader knows

WHOLE: dict[str, dict[str, Any]] = {
    "aws_autoscaling_group": {"name": "g", "min_size": 1, "max_size": 2},
    "aws_autoscaling_policy": {"name": "p", "autoscaling_group_name": "g"},
    "aws_autoscaling_schedule": {"scheduled_action_name": "s", "autoscaling_group_name": "g", "min_size": 1},
    "aws_cloudwatch_metric_alarm": {"alarm_name": "a", "alarm_actions": ["${aws_autoscaling_policy.a.arn}"]},
    "aws_lb_listener_rule": {"listener_arn": "l"},
    "aws_lb_target_group": {"name": "t"},
    "aws_lb_target_group_attachment": {"target_group_arn": "t", "target_id": "i"},
}
TYPES = {
    "target_tracking_configuration": "TargetTrackingScaling",
    "predictive_scaling_configuration": "PredictiveScaling",
    **dict.fromkeys(("step_adjustment", "metric_aggregation_type", "estimated_instance_warmup"), "StepScaling"),
}


def leaves(fields: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each field that is no block, with a value of its type."""
    for name, field in fields.items():
        if "block" in field:
            yield from leaves(field["block"], (*path, name))
        else:
            value: Any = {"number": 1, "string": "x", "bool": True}[field["type"]]
            yield (*path, name), {"list": [value], "map": {"a": value}}.get(field.get("shape", ""), value)


@pytest.mark.parametrize("kind", WHOLE)
def test_the_reader_knows_every_field_that_the_provider_knows(kind: str) -> None:
    fields = {name: field for name, field in SCHEMAS[kind]["fields"].items() if name != "id"}
    seen = 0
    # All that stands alone at once, for what is refused first hides the rest; blocks one by one.
    for path, value in leaves(fields):
        body: dict[str, Any] = {**WHOLE[kind]}
        nested = value
        for name in reversed(path[1:]):
            nested = [{name: nested}]
        body.setdefault(path[0], nested)
        resources: dict[str, Any] = {
            "aws_autoscaling_group": {"g": WHOLE["aws_autoscaling_group"]},
            "aws_autoscaling_policy": {"a": {**WHOLE["aws_autoscaling_policy"], "scaling_adjustment": 1}},
        }
        if kind == "aws_autoscaling_policy":
            body["policy_type"] = TYPES.get(path[0], "SimpleScaling")
        resources.setdefault(kind, {})["a"] = body
        for one in read_text(json.dumps({"resource": resources}), "m.tf.json").refused:
            assert "there is no such field" not in one.reason, f"{'.'.join(path)}: {one}"
        seen += 1
    assert seen >= 5
