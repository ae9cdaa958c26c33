"""Scaling groups of AWS: bounds, warm pools, mixed instances, refreshes, and the policies on them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    PredictiveScaling,
    ScheduledAction,
    ScheduledScaling,
    SimpleScaling,
    Step,
    StepScaling,
    TargetTracking,
    effective_warmup,
)
from ..capacity import InstanceRefresh, MixedInstancesPolicy, WarmPool
from ._aws_common import block, blocks, label_of
from ._fields import approximate, bare, ignore, items, need, number, read, table, text, truth, where, whole
from ._yaml import Node
from .model import GroupConfig, PolicyConfig, Report

Names = Mapping[tuple[str, str], str]
GROUP = "aws_autoscaling_group"
POLICY = "aws_autoscaling_policy"

GROUP_FIELDS = table(
    "name",
    "min_size",
    "max_size",
    "desired_capacity",
    "default_cooldown",
    "default_instance_warmup",
    "health_check_grace_period",
    "warm_pool",
    "mixed_instances_policy",
    "instance_refresh",
    "suspended_processes",
    **dict.fromkeys(
        ("vpc_zone_identifier", "availability_zones", "availability_zone_distribution", "availability_zone_ids"),
        "where instances stand decides nothing here",
    ),
    **dict.fromkeys(
        ("launch_template", "launch_configuration", "placement_group", "service_linked_role_arn", "context"),
        "what an instance is made of decides nothing",
    ),
    **dict.fromkeys(
        ("target_group_arns", "load_balancers", "traffic_source"), "which pool the instances join is told to the pool"
    ),
    **dict.fromkeys(
        (
            "force_delete",
            "force_delete_warm_pool",
            "wait_for_capacity_timeout",
            "min_elb_capacity",
            "wait_for_elb_capacity",
            "ignore_failed_scaling_activities",
            "deletion_protection",
        ),
        "how Terraform applies it decides nothing",
    ),
    **dict.fromkeys(("enabled_metrics", "metrics_granularity"), "which metrics AWS keeps decides nothing"),
    name_prefix="the name does not change a decision",
    health_check_type="who says that an instance is ill decides nothing here",
    termination_policies="which instance goes decides nothing here",
    protect_from_scale_in="which instance goes decides nothing here",
    instance_maintenance_policy="replacing instances for their health decides nothing here",
    max_instance_lifetime="replacing instances for their age decides nothing here",
    capacity_rebalance="replacing spot instances before they are taken decides nothing here",
    desired_capacity_type="capacity is counted in instances or their weights",
    initial_lifecycle_hook="pauses of single instances: see aibalance.capacity.LifecycleHook",
    instance_lifecycle_policy="pauses of single instances: see aibalance.capacity.LifecycleHook",
    capacity_reservation_specification="what is reserved decides nothing",
)


def read_all(
    found: Mapping[str, Sequence[tuple[str, Node]]], names: Names, meta: Mapping[str, str], report: Report
) -> None:
    """Reads groups, then the policies, alarms and schedules on them."""
    for label, node in found.get(GROUP, ()):

        def one(label: str = label, node: Node = node) -> None:
            report.groups.append(_group(node, names[GROUP, label], meta, report))

        report.guard(where(node), one)
    alarms: dict[str, tuple[Node, dict[str, Node]]] = {}
    for label, node in found.get("aws_cloudwatch_metric_alarm", ()):
        report.guard(where(node), lambda n=node, x=label: _alarm(n, names, meta, alarms, report))  # type: ignore[misc]
    for label, node in found.get(POLICY, ()):
        report.guard(where(node), lambda n=node, x=label: _policy(n, names[POLICY, x], names, meta, alarms, report))  # type: ignore[misc]
    schedules: dict[str, list[tuple[Node, ScheduledAction]]] = {}
    for label, node in found.get("aws_autoscaling_schedule", ()):

        def action(label: str = label, node: Node = node) -> None:
            group, made = _schedule(node, names["aws_autoscaling_schedule", label], names, meta, report)
            schedules.setdefault(group.name, []).append((node, made))

        report.guard(where(node), action)
    for name, actions in schedules.items():

        def schedule(name: str = name, actions: list[tuple[Node, ScheduledAction]] = actions) -> None:
            group = next(one for one in report.groups if one.name == name)
            made = tuple(one for _, one in actions)
            try:
                policy = ScheduledScaling(actions=made, min_capacity=group.min_size, max_capacity=group.max_size)
            except ConfigError as error:
                place = re.match(r"actions\[(\d+)\]\.", str(error))
                node = actions[int(place[1])][0] if place else actions[0][0]
                raise node.fail(str(error)[place.end() if place else 0 :]) from None
            report.policies.append(
                PolicyConfig(name=f"{name} schedule", target=name, policy=policy, where=where(actions[0][0]))
            )

        report.guard(where(actions[0][0]), schedule)
    rest = {
        "aws_autoscaling_lifecycle_hook": "pauses of single instances: see aibalance.capacity.LifecycleHook",
        "aws_autoscaling_attachment": "which pool the instances join is told to the pool",
        "aws_autoscaling_traffic_source_attachment": "which pool the instances join is told to the pool",
        "aws_autoscaling_notification": "who is told decides nothing",
        "aws_autoscaling_group_tag": "labels decide nothing",
    }
    for kind, reason in rest.items():
        for _, node in found.get(kind, ()):
            ignore(report, node, reason)


def _group(node: Node, name: str, meta: Mapping[str, str], report: Report) -> GroupConfig:
    fields = read(node, {**meta, **GROUP_FIELDS}, report)
    suspended = fields.get("suspended_processes")
    if suspended is not None and suspended.value:
        raise suspended.fail("processes that are suspended are not there: policies act")
    given: dict[str, Any] = {}
    if "mixed_instances_policy" in fields:
        given |= mixed(block(fields["mixed_instances_policy"]), report)
    if "warm_pool" in fields:
        given["warm_pool"], given["warm_pool_state"] = warm_pool(block(fields["warm_pool"]), report)
    if "instance_refresh" in fields:
        given["refresh"] = refresh(block(fields["instance_refresh"]), report)
    if "desired_capacity" in fields:
        given["desired"] = whole(fields["desired_capacity"])
    if "default_instance_warmup" in fields:
        warmup = whole(fields["default_instance_warmup"], -1)
        given["default_warmup"] = None if warmup == -1 else float(warmup)
    for key, ours in (("default_cooldown", "default_cooldown"), ("health_check_grace_period", "health_check_grace")):
        if key in fields:
            given[ours] = float(whole(fields[key]))
    low, high = whole(need(node, fields, "min_size")), whole(need(node, fields, "max_size"))
    if low > high:
        raise fields["min_size"].fail(f"{low} is not allowed; at most max_size, {high}")
    if "desired" in given and not low <= given["desired"] <= high:
        raise fields["desired_capacity"].fail(f"{given['desired']} is not allowed; from {low} to {high}")
    return GroupConfig(name=name, min_size=low, max_size=high, **given)


def warm_pool(node: Node, report: Report) -> tuple[WarmPool, str]:
    """A warm pool and the state in which its instances wait."""
    known = table("pool_state", "min_size", "max_group_prepared_capacity", "instance_reuse_policy")
    fields = read(node, known, report)
    states = {state: state for state in ("Stopped", "Running", "Hibernated")}
    reuse = False
    if "instance_reuse_policy" in fields:
        inner = read(block(fields["instance_reuse_policy"]), table("reuse_on_scale_in"), report)
        reuse = truth(inner["reuse_on_scale_in"]) if "reuse_on_scale_in" in inner else False
    # -1 is AWS's word for the group's maximum.
    prepared = whole(fields["max_group_prepared_capacity"], -1) if "max_group_prepared_capacity" in fields else -1
    made = WarmPool(
        min_size=whole(fields["min_size"]) if "min_size" in fields else 0,
        max_prepared=None if prepared == -1 else prepared,
        reuse_on_scale_in=reuse,
    )
    return made, fields["pool_state"].one_of(states) if "pool_state" in fields else "Stopped"


def mixed(node: Node, report: Report) -> dict[str, Any]:
    """The fields of a group that a policy of mixed instances is."""
    fields = read(node, table("instances_distribution", "launch_template"), report)
    given: dict[str, Any] = {"mixed": MixedInstancesPolicy()}
    if "instances_distribution" in fields:
        given |= _distribution(block(fields["instances_distribution"]), report)
    template = block(need(node, fields, "launch_template"))
    made_of = "what an instance is made of decides nothing"
    # The specification is needed, so its absence is told below, after the overrides are read.
    inner = read(template, table("override", launch_template_specification=made_of), report)
    types: list[tuple[str, int]] = []
    for one in blocks(inner["override"]) if "override" in inner else []:
        known = table("instance_type", "weighted_capacity", launch_template_specification=made_of, image_id=made_of)
        if "instance_requirements" in one.value:
            raise one.value["instance_requirements"].fail("which types these are is known to AWS only; instance_type")
        override = read(one, known, report)
        weight = whole(override["weighted_capacity"], 1, 999) if "weighted_capacity" in override else 1
        types.append((text(need(one, override, "instance_type")), weight))
    given["instance_types"] = tuple(types)
    if "launch_template_specification" not in template.value:
        raise template.fail("the field is needed", path=template.below("launch_template_specification"))
    return given


def _distribution(node: Node, report: Report) -> dict[str, Any]:
    known = table(
        "on_demand_base_capacity",
        "on_demand_percentage_above_base_capacity",
        "spot_allocation_strategy",
        "spot_instance_pools",
        on_demand_allocation_strategy="the order of types decides nothing here",
        spot_max_price="a limit of the price decides nothing here",
    )
    fields = read(node, known, report)
    options: dict[str, Any] = {}
    if "on_demand_base_capacity" in fields:
        options["on_demand_base"] = whole(fields["on_demand_base_capacity"])
    if "on_demand_percentage_above_base_capacity" in fields:
        percent = whole(fields["on_demand_percentage_above_base_capacity"], 0, 100)
        options["on_demand_percent_above_base"] = percent
    names = ("lowest-price", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized")
    strategy = fields.get("spot_allocation_strategy")
    spot = None if strategy is None else strategy.one_of({name: name for name in names})
    if "spot_instance_pools" in fields:
        pools = whole(fields["spot_instance_pools"], 0, 20)
        if spot not in (None, "lowest-price") and pools:
            raise fields["spot_instance_pools"].fail(f"{pools} is not allowed; only lowest-price has pools")
        if pools:
            options["spot_pools"] = pools
    return {"mixed": MixedInstancesPolicy(**options), "spot_allocation": spot}


def refresh(node: Node, report: Report) -> InstanceRefresh:
    """A refresh of instances."""
    known = table("strategy", "preferences", triggers="what begins it decides nothing")
    fields = read(node, known, report)
    need(node, fields, "strategy").one_of({"Rolling": "Rolling"})
    if "preferences" not in fields:
        return InstanceRefresh()
    place = block(fields["preferences"])
    words = table(
        "min_healthy_percentage",
        "max_healthy_percentage",
        "instance_warmup",
        "checkpoint_percentages",
        "checkpoint_delay",
        skip_matching="which instances are new already is known to AWS",
        auto_rollback="the way back is another refresh",
        alarm_specification="alarms that end it are yours",
        scale_in_protected_instances="which instances are protected is known to AWS",
        standby_instances="which instances stand by is known to AWS",
        bake_time="waiting at the end decides nothing",
    )
    inner = read(place, words, report)
    options: dict[str, Any] = {}
    if "min_healthy_percentage" in inner:
        options["min_healthy"] = whole(inner["min_healthy_percentage"], 0, 100)
    if "max_healthy_percentage" in inner:
        options["max_healthy"] = whole(inner["max_healthy_percentage"], 100, 200)
    if "instance_warmup" in inner:
        options["warmup"] = float(whole(inner["instance_warmup"]))
    if "checkpoint_percentages" in inner:
        options["checkpoints"] = tuple(whole(one, 1, 100) for one in items(inner["checkpoint_percentages"]))
    if "checkpoint_delay" in inner:
        options["checkpoint_delay"] = float(whole(inner["checkpoint_delay"], 0, 172_800))
    try:
        return InstanceRefresh(**options)
    except ConfigError as error:
        raise place.fail(str(error)) from None


# Policies

ALL = ("name", "autoscaling_group_name", "policy_type", "enabled")
BY_TYPE: dict[str, tuple[str, ...]] = {
    "TargetTrackingScaling": ("target_tracking_configuration", "estimated_instance_warmup"),
    "StepScaling": (
        "adjustment_type",
        "min_adjustment_magnitude",
        "metric_aggregation_type",
        "step_adjustment",
        "estimated_instance_warmup",
    ),
    "SimpleScaling": ("adjustment_type", "min_adjustment_magnitude", "scaling_adjustment", "cooldown"),
    "PredictiveScaling": ("predictive_scaling_configuration",),
}
ADJUSTMENTS: dict[str, Any] = {
    "ChangeInCapacity": "change_in_capacity",
    "PercentChangeInCapacity": "percent_change_in_capacity",
    "ExactCapacity": "exact_capacity",
}


def _policy(
    node: Node,
    name: str,
    names: Names,
    meta: Mapping[str, str],
    alarms: Mapping[str, tuple[Node, dict[str, Node]]],
    report: Report,
) -> None:
    kind = "SimpleScaling"
    if "policy_type" in node.value and node.value["policy_type"].value is not None:
        kind = node.value["policy_type"].one_of({k: k for k in BY_TYPE})
    for key in [*node.value]:
        if key not in BY_TYPE[kind] and any(key in keys for keys in BY_TYPE.values()):
            raise node.value[key].fail(f"{kind} has no such field; it has {', '.join(BY_TYPE[kind])}")
    fields = read(node, {**meta, **table(*ALL, *BY_TYPE[kind])}, report)
    if "enabled" in fields and not truth(fields["enabled"]):
        ignore(report, node, "is not enabled")
        return
    group = _group_of(need(node, fields, "autoscaling_group_name"), names, report)
    bounds = {"min_capacity": group.min_size, "max_capacity": group.max_size}
    estimated = fields.get("estimated_instance_warmup")
    warmup = effective_warmup(
        estimated=None if estimated is None else float(whole(estimated)),
        default=group.default_warmup,
        cooldown=group.default_cooldown,
    )
    extra: dict[str, Any] = {}
    if estimated is not None:
        extra["estimated_instance_warmup"] = whole(estimated)
    try:
        if kind == "TargetTrackingScaling":
            policy: Any = _tracking(
                need(node, fields, "target_tracking_configuration"), name, warmup, bounds, extra, report
            )
        elif kind == "PredictiveScaling":
            policy = _predictive(need(node, fields, "predictive_scaling_configuration"), bounds, extra, report)
        else:
            if name not in alarms:
                said = f"no aws_cloudwatch_metric_alarm has this policy, {name!r}, in its alarm_actions"
                raise node.fail(said)
            policy = _adjusting(kind, node, fields, alarms[name], warmup, group, bounds, extra, report)
    except ConfigError as error:
        if type(error) is ConfigError:
            raise node.fail(str(error)) from None
        raise
    report.policies.append(PolicyConfig(name=name, target=group.name, policy=policy, extra=extra, where=where(node)))


def _group_of(node: Node, names: Names, report: Report) -> GroupConfig:
    name = label_of(node, {GROUP}, names)
    group = next((one for one in report.groups if one.name == name), None)
    if group is None:
        known = ", ".join(one.name for one in report.groups) or "none"
        raise node.fail(f"{name!r} is not in these files, and the bounds are in it; groups that are: {known}")
    return group


def _tracking(
    given: Node, name: str, warmup: float, bounds: Mapping[str, Any], extra: dict[str, Any], report: Report
) -> TargetTracking:
    node = block(given)
    known = table(
        "predefined_metric_specification", "customized_metric_specification", "target_value", "disable_scale_in"
    )
    fields = read(node, known, report)
    target = number(need(node, fields, "target_value"))
    if target <= 0:
        raise fields["target_value"].fail(f"{target:g} is not allowed; a number above 0")
    both = {"predefined_metric_specification", "customized_metric_specification"} & fields.keys()
    if len(both) != 1:
        raise node.fail("one of predefined_metric_specification and customized_metric_specification is needed")
    if "predefined_metric_specification" in fields:
        metric = _predefined(block(fields["predefined_metric_specification"]), extra, report)
    else:
        metric = _customized(block(fields["customized_metric_specification"]), name, extra, report)
    return TargetTracking(
        metric=metric,
        target=target,
        warmup=warmup,
        disable_scale_in=truth(fields["disable_scale_in"]) if "disable_scale_in" in fields else False,
        **bounds,
    )


PREDEFINED = (
    "ASGAverageCPUUtilization",
    "ASGAverageNetworkIn",
    "ASGAverageNetworkOut",
    "ALBRequestCountPerTarget",
)


def _predefined(node: Node, extra: dict[str, Any], report: Report) -> str:
    fields = read(node, table("predefined_metric_type", "resource_label"), report)
    kind = need(node, fields, "predefined_metric_type").one_of({k: k for k in PREDEFINED})
    extra["predefined"] = True
    if "resource_label" in fields:
        extra["resource_label"] = text(fields["resource_label"])
    elif kind == "ALBRequestCountPerTarget":
        raise node.fail("the field is needed", path=node.below("resource_label"))
    return kind


def _customized(node: Node, name: str, extra: dict[str, Any], report: Report) -> str:
    known = table("metric_name", "namespace", "statistic", "unit", "period", "metric_dimension", "metrics")
    fields = read(node, known, report)
    if "metrics" in fields:
        ignore(report, fields["metrics"], f"the value comes from you, under the policy's name, {name!r}")
        extra["metrics"] = bare(fields["metrics"])
        return name
    extra["namespace"] = text(need(node, fields, "namespace"))
    kinds = ("Average", "Minimum", "Maximum", "SampleCount", "Sum")
    extra["statistic"] = need(node, fields, "statistic").one_of({k: k for k in kinds})
    if "unit" in fields:
        extra["unit"] = text(fields["unit"])
    if "period" in fields:
        extra["period"] = whole(fields["period"], 1)
    if "metric_dimension" in fields:
        dimensions = []
        for one in blocks(fields["metric_dimension"]):
            inner = read(one, table("name", "value"), report)
            dimensions.append((text(need(one, inner, "name")), str(need(one, inner, "value").value)))
        extra["dimensions"] = dimensions
    return text(need(node, fields, "metric_name"))


def _predictive(given: Node, bounds: Mapping[str, Any], extra: dict[str, Any], report: Report) -> PredictiveScaling:
    node = block(given)
    known = table(
        "mode",
        "scheduling_buffer_time",
        "max_capacity_breach_behavior",
        "max_capacity_buffer",
        "metric_specification",
    )
    fields = read(node, known, report)
    options: dict[str, Any] = {}
    if "mode" in fields:
        modes = {"ForecastOnly": "forecast_only", "ForecastAndScale": "forecast_and_scale"}
        options["mode"] = fields["mode"].one_of(modes)
    if "scheduling_buffer_time" in fields:
        options["scheduling_buffer_time"] = float(whole(fields["scheduling_buffer_time"], 0, 3600))
    if "max_capacity_breach_behavior" in fields:
        breach = {"HonorMaxCapacity": "honor", "IncreaseMaxCapacity": "increase"}
        options["max_capacity_breach"] = fields["max_capacity_breach_behavior"].one_of(breach)
    if "max_capacity_buffer" in fields:
        options["max_capacity_buffer"] = whole(fields["max_capacity_buffer"], 0, 100)
    metric = block(need(node, fields, "metric_specification"))
    parts = (
        "predefined_load_metric_specification",
        "predefined_metric_pair_specification",
        "predefined_scaling_metric_specification",
        "customized_load_metric_specification",
        "customized_capacity_metric_specification",
        "customized_scaling_metric_specification",
    )
    inner = read(metric, table("target_value", *parts), report)
    options["target"] = float(number(need(metric, inner, "target_value")))
    for part in parts:
        if part in inner:
            ignore(report, inner[part], "the forecast comes from you: see set_forecast")
            extra[part] = bare(block(inner[part]))
    return PredictiveScaling(**options, **bounds)


# Alarms, and what follows them

ALARM_FIELDS = table(
    "alarm_name",
    "alarm_actions",
    "comparison_operator",
    "threshold",
    "evaluation_periods",
    "datapoints_to_alarm",
    "period",
    "metric_name",
    "namespace",
    "statistic",
    "dimensions",
    alarm_description="what it says to people decides nothing",
    ok_actions="who is told decides nothing",
    insufficient_data_actions="who is told decides nothing",
    actions_enabled="whether it acts is the policy's being there",
    treat_missing_data="a period without a value does not breach",
    unit="the unit of the value is yours",
    evaluate_low_sample_count_percentiles="percentiles are not there",
)


def _alarm(
    node: Node,
    names: Names,
    meta: Mapping[str, str],
    alarms: dict[str, tuple[Node, dict[str, Node]]],
    report: Report,
) -> None:
    found: list[str] = []
    actions = node.value.get("alarm_actions")
    for action in items(actions) if actions is not None and isinstance(actions.value, list) else []:
        value = action.value if isinstance(action.value, str) else ""
        reference = re.search(rf"\b{POLICY}\.([\w-]+)\.arn", value)
        arn = re.search(r":policyName/(.+)$", value)
        if reference:
            found.append(names.get((POLICY, reference[1]), reference[1]))
        elif arn:
            found.append(arn[1])
    if not found:
        ignore(report, node, "has no policy of these files in its alarm_actions")
        return
    fields = read(
        node, {**meta, **ALARM_FIELDS}, report, ["metric_query", "metrics", "extended_statistic", "threshold_metric_id"]
    )
    for name in found:
        if name in alarms:
            raise node.fail(f"the policy {name!r} has an alarm already, {where(alarms[name][0])}; one is needed")
        alarms[name] = (node, fields)


def _adjusting(
    kind: str,
    node: Node,
    fields: Mapping[str, Node],
    alarm: tuple[Node, dict[str, Node]],
    warmup: float,
    group: GroupConfig,
    bounds: Mapping[str, Any],
    extra: dict[str, Any],
    report: Report,
) -> Any:
    place, said = alarm
    operators: dict[str, tuple[str, bool]] = {
        "GreaterThanOrEqualToThreshold": ("high", True),
        "GreaterThanThreshold": ("high", False),
        "LessThanOrEqualToThreshold": ("low", True),
        "LessThanThreshold": ("low", False),
    }
    operator = need(place, said, "comparison_operator")
    direction, at = operator.one_of(operators)
    if not at:
        approximate(report, operator, "at the threshold itself the alarm counts as gone off")
    periods = whole(need(place, said, "evaluation_periods"), 1)
    points = whole(said["datapoints_to_alarm"], 1, periods) if "datapoints_to_alarm" in said else periods
    extra["operator"] = operator.value
    for key in ("namespace", "statistic"):
        if key in said:
            extra[key] = text(said[key])
    if "dimensions" in said:
        extra["dimensions"] = [(str(k), str(v)) for k, v in _pairs(said["dimensions"])]
    common: dict[str, Any] = {
        "metric": text(need(place, said, "metric_name")),
        "threshold": number(need(place, said, "threshold")),
        "direction": direction,
        "adjustment_type": need(node, fields, "adjustment_type").one_of(ADJUSTMENTS),
        "alarm": (points, periods),
        "period": float(whole(said["period"], 10)) if "period" in said else 300.0,
        **bounds,
    }
    if "min_adjustment_magnitude" in fields:
        common["min_adjustment_magnitude"] = whole(fields["min_adjustment_magnitude"], 1)
    if kind == "SimpleScaling":
        cooldown = float(whole(fields["cooldown"])) if "cooldown" in fields else group.default_cooldown
        if "cooldown" in fields:
            extra["cooldown"] = True
        adjustment = whole(need(node, fields, "scaling_adjustment"), -(2**31))
        return SimpleScaling(adjustment=adjustment, cooldown=cooldown, **common)
    steps = []
    for one in blocks(need(node, fields, "step_adjustment")):
        known = table("scaling_adjustment", "metric_interval_lower_bound", "metric_interval_upper_bound")
        inner = read(one, known, report)
        low, high = inner.get("metric_interval_lower_bound"), inner.get("metric_interval_upper_bound")
        steps.append(
            Step(
                adjustment=whole(need(one, inner, "scaling_adjustment"), -(2**31)),
                lower=None if low is None or low.value == "" else number(low),
                upper=None if high is None or high.value == "" else number(high),
            )
        )
    if "metric_aggregation_type" in fields:
        kinds = {"Average": "average", "Minimum": "minimum", "Maximum": "maximum"}
        common["aggregation"] = fields["metric_aggregation_type"].one_of(kinds)
    return StepScaling(steps=tuple(steps), warmup=warmup, **common)


def _pairs(node: Node) -> list[tuple[Any, Any]]:
    if isinstance(node.value, dict):
        return [(key, one.value) for key, one in node.value.items()]
    found = []
    for one in items(node):
        if not isinstance(one.value, dict) or not {"name", "value"} <= one.value.keys():
            raise one.fail(f"{one.shown()} is not allowed; a name and a value are needed")
        found.append((one.value["name"].value, one.value["value"].value))
    return found


def _schedule(
    node: Node, name: str, names: Names, meta: Mapping[str, str], report: Report
) -> tuple[GroupConfig, ScheduledAction]:
    known = table(
        "scheduled_action_name",
        "autoscaling_group_name",
        "min_size",
        "max_size",
        "desired_capacity",
        "recurrence",
        "start_time",
        "end_time",
        "time_zone",
    )
    fields = read(node, {**meta, **known}, report)
    group = _group_of(need(node, fields, "autoscaling_group_name"), names, report)
    given: dict[str, Any] = {}
    for key, ours in (("min_size", "min_capacity"), ("max_size", "max_capacity"), ("desired_capacity", "desired")):
        # -1 is Terraform's word for no change.
        value = whole(fields[key], -1) if key in fields else -1
        if value >= 0:
            given[ours] = value
    if not given:
        raise node.fail("one of min_size, max_size and desired_capacity is needed")
    for key, ours in (("start_time", "start"), ("end_time", "end")):
        if key in fields:
            given[ours] = _instant(fields[key])
    if "recurrence" not in fields:
        if "start" not in given:
            raise node.fail("the field is needed, or start_time", path=node.below("recurrence"))
        at = datetime.fromtimestamp(given["start"], UTC)
        # Once: the minute of its start, until an hour later.
        given["recurrence"] = f"{at.minute} {at.hour} {at.day} {at.month} *"
        given.setdefault("end", given["start"] + 3600)
        approximate(report, node, "an action that comes once is one with an end an hour after its start")
    else:
        given["recurrence"] = text(fields["recurrence"])
        if "time_zone" in fields:
            given["time_zone"] = text(fields["time_zone"])
    return group, ScheduledAction(name=name, **given)


def _instant(node: Node) -> float:
    try:
        found = datetime.fromisoformat(text(node).replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise node.fail(f"{node.shown()} is not allowed; an instant such as 2027-01-01T09:00:00Z is needed") from None


__all__ = ["mixed", "read_all", "refresh", "warm_pool"]
