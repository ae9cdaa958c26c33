"""Policies as autoscalers of Google's instance groups and of Azure's scale sets, in Terraform's JSON.

Sources: the providers google 6 (google_compute_autoscaler) and azurerm 4 (azurerm_monitor_autoscale_setting).
"""

from __future__ import annotations

import math
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    AzureAutoscale,
    AzureRule,
    ManagedInstanceGroup,
    PredictiveScaling,
    ScheduledScaling,
    SimpleScaling,
    StepScaling,
    TargetTracking,
)
from ._to_aws import _single
from ._to_terraform import LABEL, dumped
from ._written import Omitted, name_for
from .model import GroupConfig, Imported, PolicyConfig, Remark

# How far a metric is above its target, and by how many percent Azure then grows: a ladder for a proportion.
LADDER = ((1.0, 10), (1.25, 25), (1.5, 50), (2.0, 100))


def write(found: Imported, cloud: str) -> tuple[str, list[Remark]]:
    """A file for "gcp" or "azure", and what it leaves out."""
    remarks: list[Remark] = []
    by_target: dict[str, list[PolicyConfig]] = {}
    for config in _single(found.policies):
        by_target.setdefault(config.target, []).append(config)
    groups = {one.name: one for one in found.groups}
    taken: set[str] = set()
    resources: dict[str, Any] = {}
    for target, configs in by_target.items():
        omitted = Omitted(target)
        body = (_gcp if cloud == "gcp" else _azure)(target, configs, groups.get(target), omitted)
        if body is not None:
            resources[name_for(target if target[:1].isalpha() else f"x_{target}", taken, LABEL)] = body
        remarks += omitted.remarks
    for group in found.groups:
        for field in ("warm_pool", "mixed", "refresh"):
            if getattr(group, field) is not None:
                remarks.append(Remark(group.name, field, f"is no part of an autoscaler of {cloud}"))
    for pool in found.pools:
        remarks.append(Remark(pool.name, "pool", "load balancers of this cloud are not written"))
    for router in found.routers:
        remarks.append(Remark(router.name, "rules", "load balancers of this cloud are not written"))
    if not resources:
        raise ConfigError(f"policies: none of {len(found.policies)} can be written for {cloud}")
    kind = "google_compute_autoscaler" if cloud == "gcp" else "azurerm_monitor_autoscale_setting"
    names = ("instance_group", "zone") if cloud == "gcp" else ("resource_group", "location", "scale_set")
    return dumped({"resource": {kind: resources}, "variable": {name: [{}] for name in names}}), remarks


def _is_cpu(metric: str) -> bool:
    return "cpu" in metric.lower()


def _bounds(configs: list[PolicyConfig], group: GroupConfig | None) -> tuple[int, int]:
    if group is not None:
        return group.min_size, group.max_size
    lows = [getattr(one.policy, "min_capacity", getattr(one.policy, "min_replicas", None)) for one in configs]
    highs = [getattr(one.policy, "max_capacity", getattr(one.policy, "max_replicas", None)) for one in configs]
    known = [(a, b) for a, b in zip(lows, highs, strict=True) if a is not None and b is not None]
    return (min(a for a, _ in known), max(b for _, b in known)) if known else (0, 1)


def _tracking_left_out(policy: TargetTracking, omitted: Omitted, cloud: str) -> None:
    for field, reason in (
        ("scale_out_cooldown", "there is none"),
        ("scale_in_cooldown", "there is none"),
        ("high_alarm", "there is none: each look decides"),
        ("low_alarm", "there is none: each look decides"),
    ):
        if getattr(policy, field):
            omitted.say(field, f"{getattr(policy, field)}: {reason} with {cloud}")


# Google


def _gcp(
    target: str, configs: list[PolicyConfig], group: GroupConfig | None, omitted: Omitted
) -> dict[str, Any] | None:
    low, high = _bounds(configs, group)
    policy: dict[str, Any] = {"min_replicas": low, "max_replicas": high}
    metrics: list[dict[str, Any]] = []
    schedules: list[dict[str, Any]] = []
    for config in configs:
        given = config.policy
        if isinstance(given, TargetTracking):
            _gcp_signal(given.metric, given.target, policy, metrics, omitted)
            if given.disable_scale_in:
                policy["mode"] = "ONLY_SCALE_OUT"
            if given.warmup:
                policy["cooldown_period"] = max(15, round(given.warmup))
            _tracking_left_out(given, omitted, "Google")
            omitted.say(
                "scale_in_ratio", f"{given.scale_in_ratio}: Google scales in by the peak of the last 10 minutes"
            )
        elif isinstance(given, ManagedInstanceGroup):
            for signal in given.signals:
                if signal.kind == "group":
                    one = {"name": _gcp_name(signal.metric), "single_instance_assignment": signal.target}
                    metrics.append(one)
                else:
                    _gcp_signal(signal.metric, signal.target, policy, metrics, omitted)
            if given.mode != "on":
                policy["mode"] = given.mode.upper()
            if given.stabilization_period != 600:
                omitted.say("stabilization_period", "is 10 minutes, or as long as an instance initializes")
            limit = given.scale_in_limit
            if limit is not None:
                percent = isinstance(limit.max_scaled_in, str)
                number = int(str(limit.max_scaled_in).removesuffix("%"))
                most = {"percent" if percent else "fixed": number}
                control = {"max_scaled_in_replicas": [most], "time_window_sec": round(limit.window)}
                policy["scale_in_control"] = [control]
            for i, schedule in enumerate(given.schedules):
                schedules.append(
                    {
                        "name": f"schedule-{i}",
                        "min_required_replicas": schedule.min_required_replicas,
                        "schedule": schedule.recurrence,
                        "time_zone": schedule.time_zone,
                        "duration_sec": round(schedule.duration),
                    }
                )
        elif isinstance(given, PredictiveScaling):
            omitted.say(
                config.name, "Google forecasts CPU alone: predictive_method is set where there is a target for it"
            )
            if "cpu_utilization" in policy:
                policy["cpu_utilization"][0]["predictive_method"] = "OPTIMIZE_AVAILABILITY"
        elif isinstance(given, ScheduledScaling):
            omitted.say(config.name, "Google's schedules last for a time and raise the minimum only; AWS's set bounds")
        elif isinstance(given, (StepScaling, SimpleScaling)):
            omitted.say(config.name, f"Google has no {type(given).__name__}: only targets and schedules")
        else:
            omitted.say(config.name, f"a {type(given).__name__} is not one of Google's")
    if metrics:
        policy["metric"] = metrics
    if schedules:
        policy["scaling_schedules"] = schedules
    if not (metrics or schedules or "cpu_utilization" in policy):
        return None
    name = name_for(target.lower(), set(), r"[^a-z0-9-]").replace("_", "-")
    return {
        "name": name if name[:1].isalpha() else f"x-{name}",
        "zone": "${var.zone}",
        "target": "${var.instance_group}",
        "autoscaling_policy": [policy],
    }


def _gcp_name(metric: str) -> str:
    return metric if "/" in metric else f"custom.googleapis.com/{metric}"


def _gcp_signal(
    metric: str, target: float, policy: dict[str, Any], metrics: list[dict[str, Any]], omitted: Omitted
) -> None:
    if _is_cpu(metric) and "cpu_utilization" not in policy:
        policy["cpu_utilization"] = [{"target": target / 100 if target > 1 else target}]
        if target > 1:
            omitted.say("target", f"{target:g} percent are written as a share")
    else:
        metrics.append({"name": _gcp_name(metric), "target": target, "type": "GAUGE"})


# Azure

OPERATORS = {
    ">": "GreaterThan",
    ">=": "GreaterThanOrEqual",
    "<": "LessThan",
    "<=": "LessThanOrEqual",
    "==": "Equals",
    "!=": "NotEquals",
}
CHANGES = {"count": "ChangeCount", "percent": "PercentChangeCount", "exact": "ExactCount"}
ADJUSTMENTS = {
    "change_in_capacity": "count",
    "percent_change_in_capacity": "percent",
    "exact_capacity": "exact",
}


def _azure(
    target: str, configs: list[PolicyConfig], group: GroupConfig | None, omitted: Omitted
) -> dict[str, Any] | None:
    low, high = _bounds(configs, group)
    default = group.desired if group is not None and group.desired is not None else low
    rules: list[dict[str, Any]] = []
    for config in configs:
        given = config.policy
        if isinstance(given, AzureAutoscale):
            rules += [_azure_rule(rule, 60.0, omitted) for rule in given.rules]
            default = low if given.default_capacity is None else given.default_capacity
        elif isinstance(given, TargetTracking):
            rules += [_azure_rule(rule, given.period, omitted) for rule in _ladder(given, omitted)]
        elif isinstance(given, StepScaling):
            rules += [_azure_rule(rule, given.period, omitted) for rule in _steps(given, omitted)]
        elif isinstance(given, SimpleScaling):
            change = given.adjustment
            out = change > 0 if given.adjustment_type != "exact_capacity" else given.direction == "high"
            rule = AzureRule(
                direction="out" if out else "in",
                metric=given.metric,
                op=">=" if given.direction == "high" else "<=",
                threshold=given.threshold,
                by=max(1, abs(change)),
                change=ADJUSTMENTS[given.adjustment_type],  # type: ignore[arg-type]
                cooldown=given.cooldown,
            )
            rules.append(_azure_rule(rule, given.period, omitted))
        elif isinstance(given, PredictiveScaling):
            omitted.say(config.name, "Azure forecasts CPU alone, in a block of its own: predictive is not written")
        elif isinstance(given, ScheduledScaling):
            omitted.say(config.name, "Azure's schedules are profiles by weekday with rules of their own; not written")
        else:
            omitted.say(config.name, f"a {type(given).__name__} is not one of Azure's")
    if not rules:
        return None
    if len(rules) > 10:
        omitted.say("rules", f"{len(rules)} rules: a profile has 10 at most, the first are written")
        rules = rules[:10]
    if not any(rule["scale_action"][0]["direction"] == "Decrease" for rule in rules):
        omitted.say("rules", "there is no rule that scales in")
    capacity = {"default": default, "minimum": low, "maximum": min(high, 1000)}
    profile = {"name": "default", "capacity": [capacity], "rule": rules}
    return {
        "name": name_for(target, set(), r"[^A-Za-z0-9_.-]"),
        "resource_group_name": "${var.resource_group}",
        "location": "${var.location}",
        "target_resource_id": "${var.scale_set}",
        "profile": [profile],
    }


def _ladder(policy: TargetTracking, omitted: Omitted) -> list[AzureRule]:
    """Rules that come near a proportion: the largest that fires is carried out."""
    omitted.say(
        "target", "Azure has no targets: a ladder of rules grows by 10 to 100 percent, less than the proportion"
    )
    _tracking_left_out(policy, omitted, "Azure")
    if policy.warmup:
        omitted.say("warmup", f"{policy.warmup:g} s are written as the rules' cooldown")
    cooldown = max(60.0, policy.warmup or policy.scale_out_cooldown or 300.0)
    rules = [
        AzureRule(
            direction="out",
            metric=policy.metric,
            op=">",
            threshold=round(policy.target * factor, 9),
            by=percent,
            change="percent",
            cooldown=cooldown,
        )
        for factor, percent in LADDER
    ]
    if not policy.disable_scale_in:
        below = round(policy.target * policy.scale_in_ratio, 9)
        rules.append(
            AzureRule(
                direction="in",
                metric=policy.metric,
                op="<",
                threshold=below,
                by=10,
                change="percent",
                cooldown=max(cooldown, policy.scale_in_cooldown),
            )
        )
    return rules


def _steps(policy: StepScaling, omitted: Omitted) -> list[AzureRule]:
    rules = []
    for step in policy.steps:
        if not step.adjustment and policy.adjustment_type != "exact_capacity":
            continue
        bound = step.lower if policy.direction == "high" else step.upper
        near = 0.0 if bound is None else bound
        # Of several rules that fire, Azure carries out the largest when it grows and the smallest when it shrinks.
        out = step.adjustment > 0 if policy.adjustment_type != "exact_capacity" else policy.direction == "high"
        if not out and len(policy.steps) > 1:
            omitted.say("steps", "of several steps in, Azure takes the smallest")
        rules.append(
            AzureRule(
                direction="out" if out else "in",
                metric=policy.metric,
                op=">=" if policy.direction == "high" else "<=",
                threshold=policy.threshold + near,
                by=max(1, abs(step.adjustment)),
                change=ADJUSTMENTS[policy.adjustment_type],  # type: ignore[arg-type]
                cooldown=max(60.0, policy.warmup or policy.cooldown or 300.0),
            )
        )
    if policy.min_adjustment_magnitude is not None:
        omitted.say("min_adjustment_magnitude", "is not there")
    if policy.alarm is not None:
        omitted.say("alarm", f"{policy.alarm}: rules look at one window")
    return rules


def _duration(seconds: float) -> str:
    return f"PT{max(1, math.ceil(seconds / 60))}M"


def _azure_rule(rule: AzureRule, period: float, omitted: Omitted) -> dict[str, Any]:
    name = "Percentage CPU" if _is_cpu(rule.metric) else rule.metric
    if name != rule.metric:
        omitted.say("metric", f"{rule.metric} is written as {name}")
    trigger: dict[str, Any] = {
        "metric_name": name,
        "metric_resource_id": "${var.scale_set}",
        "operator": OPERATORS[rule.op],
        "statistic": "Average",
        "threshold": rule.threshold,
        "time_aggregation": "Average",
        "time_grain": "PT1M",
        "time_window": f"PT{max(5, math.ceil(period / 60))}M",
    }
    if rule.divide_by_instances:
        trigger["divide_by_instance_count"] = True
    action = {
        "direction": "Increase" if rule.direction == "out" else "Decrease",
        "type": CHANGES[rule.change],
        "value": rule.by,
        "cooldown": _duration(rule.cooldown),
    }
    return {"metric_trigger": [trigger], "scale_action": [action]}
