"""Calls of boto3 as dicts: which operation, with which parameters. Checked by botocore's own shapes, no network.

A call is `{"service": "autoscaling", "operation": "PutScalingPolicy", "parameters": {...}}`. Source: botocore 1.44.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .._errors import ConfigError, FormatError
from . import _aws, _aws_groups
from ._fields import bare, ignore, items, need, suggestion, text, where
from ._yaml import Node
from .model import Remark, Report

__all__ = ["is_calls", "read", "validate"]

# Operation -> (service, kind of resource as Terraform names it).
OPERATIONS = {
    "CreateAutoScalingGroup": ("autoscaling", "aws_autoscaling_group"),
    "UpdateAutoScalingGroup": ("autoscaling", "aws_autoscaling_group"),
    "PutWarmPool": ("autoscaling", "warm_pool"),
    "StartInstanceRefresh": ("autoscaling", "instance_refresh"),
    "PutScalingPolicy": ("autoscaling", "aws_autoscaling_policy"),
    "PutScheduledUpdateGroupAction": ("autoscaling", "aws_autoscaling_schedule"),
    "PutMetricAlarm": ("cloudwatch", "aws_cloudwatch_metric_alarm"),
    "CreateTargetGroup": ("elbv2", "aws_lb_target_group"),
    "ModifyTargetGroupAttributes": ("elbv2", "attributes"),
    "RegisterTargets": ("elbv2", "targets"),
    "CreateListener": ("elbv2", "aws_lb_listener"),
    "CreateRule": ("elbv2", "aws_lb_listener_rule"),
}
RENAMED = {
    "auto_scaling_group_name": "autoscaling_group_name",
    "policy_name": "name",
    "step_adjustments": "step_adjustment",
    "overrides": "override",
    "dimensions": "metric_dimension",
    "metric_specifications": "metric_specification",
    "target_group_ar_ns": "target_group_arns",
    "vpczone_identifier": "vpc_zone_identifier",
    "conditions": "condition",
    "actions": "action",
    "default_actions": "default_action",
    "target_groups": "target_group",
    "path_pattern_config": "path_pattern",
    "host_header_config": "host_header",
    "http_header_config": "http_header",
    "http_request_method_config": "http_request_method",
    "query_string_config": "query_string",
    "source_ip_config": "source_ip",
    "forward_config": "forward",
}
ATTRIBUTES = {
    "slow_start.duration_seconds": "slow_start",
    "load_balancing.algorithm.type": "load_balancing_algorithm_type",
    "load_balancing.algorithm.anomaly_mitigation": "load_balancing_anomaly_mitigation",
    "deregistration_delay.timeout_seconds": "deregistration_delay",
}
HEALTH = {
    "health_check_path": "path",
    "health_check_interval_seconds": "interval",
    "health_check_timeout_seconds": "timeout",
    "healthy_threshold_count": "healthy_threshold",
    "unhealthy_threshold_count": "unhealthy_threshold",
    "health_check_protocol": "protocol",
    "health_check_port": "port",
    "health_check_enabled": "enabled",
}
# Fields of an alarm that change what it means, and are refused where it is read.
HELD = ("metrics", "extended_statistic", "threshold_metric_id")
META = {
    "tags": "labels decide nothing",
    "tag": "labels decide nothing",
    "ip_address_type": "the protocol to the server decides nothing",
}
TABLES: dict[str, Collection[str]] = {
    "aws_autoscaling_group": {*_aws_groups.GROUP_FIELDS, "autoscaling_group_name"},
    "aws_autoscaling_policy": {*_aws_groups.ALL, *(key for keys in _aws_groups.BY_TYPE.values() for key in keys)},
    "aws_cloudwatch_metric_alarm": {*_aws_groups.ALARM_FIELDS, *HELD, "metric_dimension"},
    "aws_lb_target_group": {*_aws.GROUP_FIELDS, *HEALTH, "matcher"},
    "aws_lb_listener": _aws.LISTENER_FIELDS,
    "aws_lb_listener_rule": _aws.RULE_FIELDS,
}


@functools.cache
def _model(service: str) -> Any:
    try:
        import botocore.session
    except ImportError:
        raise FormatError("boto3: its shapes need the extra: pip install 'aibalance[aws]'") from None
    return botocore.session.Session().get_service_model(service)


def validate(service: str, operation: str, parameters: Mapping[str, Any]) -> None:
    """Asks botocore whether parameters have the shape of an operation. Raises ConfigError with what it says.

    >>> validate("autoscaling", "PutWarmPool", {"AutoScalingGroupName": "gpu", "MinSize": "two"})
    Traceback (most recent call last):
    aibalance._errors.ConfigError: PutWarmPool: Invalid type for parameter MinSize, value: two, ...
    """
    from botocore.validate import ParamValidator

    model = _model(service)
    if operation not in model.operation_names:
        raise ConfigError(f"{operation}: there is no such operation; {suggestion(operation, model.operation_names)}")
    shape = model.operation_model(operation).input_shape
    try:
        said = ParamValidator().validate(parameters, shape).generate_report()
    except (ValueError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
        # Of instants botocore says so in its own way.
        raise ConfigError(f"{operation}: {error}") from None
    if said:
        raise ConfigError("\n".join(f"{operation}: {line}" for line in said.splitlines()))


def is_calls(top: Node) -> bool:
    """Whether a document is calls of boto3."""
    first = top.value[0] if isinstance(top.value, list) and top.value else top
    return isinstance(first.value, dict) and "operation" in first.value


def read(tops: Sequence[Node], report: Report) -> None:
    """Reads calls into the report."""
    resources: dict[tuple[str, str], Node] = {}
    for top in tops:
        for call in items(top) if isinstance(top.value, list) else [top]:
            report.guard(where(call), lambda c=call: _call(c, resources, report))  # type: ignore[misc]
    _aws.resources([(kind, label, node) for (kind, label), node in resources.items()], META, report, _aws.Defaults())


def _call(call: Node, resources: dict[tuple[str, str], Node], report: Report) -> None:
    if not isinstance(call.value, dict):
        raise call.fail(f"{call.shown()} is not allowed; an object with an operation is needed")
    for key in call.value:
        if key not in ("service", "operation", "parameters"):
            near = suggestion(key, ["service", "operation", "parameters"])
            raise call.value[key].fail(f"there is no such field; {near}")
    operation = text(need(call, call.value, "operation"))
    if operation not in OPERATIONS:
        close = suggestion(operation, OPERATIONS)
        if close.startswith("did"):
            raise call.value["operation"].fail(f"{operation!r} is not there; {close}")
        ignore(report, call, f"{operation} decides neither picks nor sizes")
        return
    service, kind = OPERATIONS[operation]
    given = need(call, call.value, "parameters")
    try:
        validate(service, operation, bare(given) if isinstance(given.value, dict) else {})
    except FormatError:
        raise
    except ConfigError as error:
        for line in str(error).splitlines():
            # An unknown parameter is often a name of another case, or of Terraform.
            found = re.search(r'Unknown parameter in (\S+): "(\w+)", must be one of: (.*)', line)
            said = line.removeprefix(f"{operation}: ")
            if found:
                said = f"{found[2]}: there is no such field; {suggestion(found[2], found[3].split(', '))}"
            named = found[2] if found else (re.findall(r"for parameter [\w.\[\]]*?(\w+),", line) or [""])[0]
            report.refused.append(Remark(where(given, _line_of(given, named)), operation, said))
        return
    body = _snaked(given)
    fields = body.value
    # Whether there is such a field botocore has said; what no table has decides nothing.
    known = TABLES.get(kind, ())
    for key in [*fields] if known else []:
        if key not in known and key not in META:
            ignore(report, fields.pop(key), "decides nothing here")
    if kind == "aws_autoscaling_group":
        label = str(fields.pop("autoscaling_group_name").value)
        resources[kind, label] = _named(body, label)
    elif kind in ("warm_pool", "instance_refresh"):
        label = str(fields.pop("autoscaling_group_name").value)
        group = resources.get(("aws_autoscaling_group", label))
        if group is None:
            raise given.fail(f"the group {label!r} is not made before")
        group.value[kind] = body
    elif kind in ("attributes", "targets"):
        _of_target_group(kind, given, resources, report)
    elif kind == "aws_lb_target_group":
        _health(body)
        resources[kind, str(fields["name"].value)] = body
    elif kind == "aws_cloudwatch_metric_alarm":
        resources[kind, str(fields["alarm_name"].value)] = body
        if "metric_dimension" in fields:
            fields["dimensions"] = fields.pop("metric_dimension")
    else:
        for key in ("action", "default_action"):
            for one in fields[key].value if key in fields else []:
                _forward(one)
                for lower in ("redirect_config", "fixed_response_config"):
                    if lower in one.value:
                        one.value[lower.removesuffix("_config")] = one.value.pop(lower)
        for one in fields["condition"].value if "condition" in fields else []:
            _condition(one)
        label = str(fields["scheduled_action_name"].value) if "scheduled_action_name" in fields else ""
        tags = fields["tags"].value if kind == "aws_lb_listener" and "tags" in fields else []
        for tag in tags if isinstance(tags, list) else []:
            if (
                isinstance(tag.value, dict)
                and {"key", "value"} <= tag.value.keys()
                and tag.value["key"].value == "Name"
            ):
                label = str(tag.value["value"].value)
        label = label or (str(fields["name"].value) if "name" in fields else f"{kind} {len(resources)}")
        resources[kind, label] = body


def _forward(action: Node) -> None:
    """Target groups of a forward as Terraform names them."""
    forward = action.value.get("forward")
    groups = forward.value.get("target_group") if forward is not None else None
    for one in groups.value if groups is not None else []:
        if "target_group_arn" in one.value:
            one.value["arn"] = one.value.pop("target_group_arn")


def _line_of(node: Node, key: str) -> int | None:
    """The first line of a key, anywhere inside."""
    if isinstance(node.value, dict):
        if key in node.keys:
            return node.keys[key]
        children = list(node.value.values())
    else:
        children = node.value if isinstance(node.value, list) else []
    return next((found for child in children if (found := _line_of(child, key)) is not None), None)


def _named(body: Node, label: str) -> Node:
    body.value["name"] = Node(label, body.line, body.below("name"), body.source)
    return body


def _snaked(node: Node) -> Node:
    if isinstance(node.value, dict):
        fields = {_field(key): _snaked(child) for key, child in node.value.items()}
        return Node(fields, node.line, node.path, node.source, {_field(k): v for k, v in node.keys.items()})
    if isinstance(node.value, list):
        return Node([_snaked(one) for one in node.value], node.line, node.path, node.source)
    return node


def _field(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])", lambda m: "_" + m[0], name).lower()
    return RENAMED.get(snake, snake)


def _health(body: Node) -> None:
    fields = {}
    for theirs, ours in HEALTH.items():
        if theirs in body.value:
            fields[ours] = body.value.pop(theirs)
    if "matcher" in body.value:
        matcher = body.value.pop("matcher")
        if "http_code" in matcher.value:
            fields["matcher"] = matcher.value["http_code"]
    if fields:
        body.value["health_check"] = Node(fields, body.line, body.below("health_check"), body.source)


def _of_target_group(kind: str, given: Node, resources: dict[tuple[str, str], Node], report: Report) -> None:
    arn = str(given.value["TargetGroupArn"].value)
    found = re.search(r":targetgroup/([^/]+)/", arn)
    name = found[1] if found else arn
    group = resources.get(("aws_lb_target_group", name))
    if group is None:
        raise given.value["TargetGroupArn"].fail(f"the target group {name!r} is not made before")
    if kind == "targets":
        for one in items(given.value["Targets"]):
            fields = {"target_group_arn": given.value["TargetGroupArn"]}
            words = {"Id": "target_id", "Port": "port", "AvailabilityZone": "availability_zone"}
            fields |= {ours: one.value[theirs] for theirs, ours in words.items() if theirs in one.value}
            label = f"{name} {len(resources)}"
            resources["aws_lb_target_group_attachment", label] = Node(fields, one.line, one.path, one.source)
        return
    sticky: dict[str, Node] = {}
    for one in items(given.value["Attributes"]):
        key, value = text(need(one, one.value, "Key")), need(one, one.value, "Value")
        if key in ATTRIBUTES:
            group.value[ATTRIBUTES[key]] = value
        elif key.startswith("stickiness."):
            words = {
                "stickiness.enabled": "enabled",
                "stickiness.type": "type",
                "stickiness.lb_cookie.duration_seconds": "cookie_duration",
                "stickiness.app_cookie.duration_seconds": "cookie_duration",
                "stickiness.app_cookie.cookie_name": "cookie_name",
            }
            if key in words:
                sticky[words[key]] = value
        elif key == "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage":
            inner = Node({"minimum_healthy_targets_percentage": value}, one.line, one.path, one.source)
            group.value["target_group_health"] = Node(
                {"unhealthy_state_routing": inner}, one.line, one.path, one.source
            )
        else:
            ignore(report, one, f"{key} decides nothing here")
    if sticky:
        group.value["stickiness"] = Node(sticky, given.line, given.path, given.source)


def _condition(node: Node) -> None:
    """A condition as Terraform has it: its kind is the name of its block."""
    field = node.value.pop("field", None)
    values = node.value.pop("values", None)
    if field is not None and values is not None:
        name = str(field.value).replace("-", "_")
        node.value[name] = Node({"values": values}, node.line, node.path, node.source)
    query = node.value.get("query_string")
    if query is not None and isinstance(query.value, dict) and "values" in query.value:
        node.value["query_string"] = query.value["values"]
