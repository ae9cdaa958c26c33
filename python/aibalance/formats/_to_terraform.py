"""Terraform's JSON for AWS, made of the calls of boto3; for Google and Azure see `_to_clouds`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ._to_aws import calls
from ._written import name_for
from .boto3 import ATTRIBUTES, HEALTH, _field
from .model import Imported, Remark

LABEL = r"[^A-Za-z0-9_-]"
STICKY = {
    "stickiness.enabled": "enabled",
    "stickiness.type": "type",
    "stickiness.lb_cookie.duration_seconds": "cookie_duration",
    "stickiness.app_cookie.duration_seconds": "cookie_duration",
    "stickiness.app_cookie.cookie_name": "cookie_name",
}


def write(found: Imported) -> tuple[str, list[Remark]]:
    """A file `main.tf.json`, and what it leaves out."""
    made, remarks = calls(found, numbered=False)
    files = _Resources()
    for _, operation, parameters in made:
        getattr(files, "on_" + operation)(parameters)
    document: dict[str, Any] = {"resource": files.resources}
    if files.variables:
        document["variable"] = {name: [{}] for name in sorted(files.variables)}
    return dumped(document), remarks


def dumped(document: Mapping[str, Any]) -> str:
    """JSON as Terraform reads it."""
    return json.dumps(document, indent=2) + "\n"


def _blocks(value: Any) -> Any:
    """Objects as blocks: lists of one."""
    if isinstance(value, Mapping):
        return {_field(str(key)): _block(one) for key, one in value.items()}
    return value


def _block(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [_blocks(value)]
    if isinstance(value, list):
        return [_blocks(one) if isinstance(one, Mapping) else one for one in value]
    return value


class _Resources:
    def __init__(self) -> None:
        self.resources: dict[str, dict[str, dict[str, Any]]] = {}
        self.variables: set[str] = set()
        self.labels: dict[tuple[str, str], str] = {}
        self.taken: set[str] = set()

    def add(self, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        label = name_for(name if re.match(r"[A-Za-z_]", name) else f"x_{name}", self.taken, LABEL)
        self.labels[kind, name] = label
        self.resources.setdefault(kind, {})[label] = body
        return body

    def variable(self, name: str) -> str:
        self.variables.add(name)
        return f"${{var.{name}}}"

    def refer(self, kind: str, name: str, attribute: str) -> str:
        label = self.labels.get((kind, name))
        return name if label is None else f"${{{kind}.{label}.{attribute}}}"

    def on_CreateAutoScalingGroup(self, given: dict[str, Any]) -> None:
        body = _blocks(given)
        body["name"] = body.pop("autoscaling_group_name")
        template = {"name": self.variable("launch_template"), "version": "$Latest"}
        if "mixed_instances_policy" in body:
            specification = {"launch_template_name": template["name"], "version": "$Latest"}
            body["mixed_instances_policy"][0]["launch_template"][0]["launch_template_specification"] = [specification]
        else:
            body["launch_template"] = [template]
        body["vpc_zone_identifier"] = self.variable("subnets")
        self.add("aws_autoscaling_group", body["name"], body)

    def on_PutWarmPool(self, given: dict[str, Any]) -> None:
        self._in_group("warm_pool", given)

    def on_StartInstanceRefresh(self, given: dict[str, Any]) -> None:
        self._in_group("instance_refresh", given)

    def _in_group(self, block: str, given: dict[str, Any]) -> None:
        body = _blocks(given)
        label = self.labels["aws_autoscaling_group", body.pop("autoscaling_group_name")]
        self.resources["aws_autoscaling_group"][label][block] = [body]

    def _of_group(self, body: dict[str, Any]) -> None:
        name = body["autoscaling_group_name"]
        body["autoscaling_group_name"] = self.refer("aws_autoscaling_group", name, "name")

    def on_PutScalingPolicy(self, given: dict[str, Any]) -> None:
        body = _blocks(given)
        self._of_group(body)
        self.add("aws_autoscaling_policy", body["name"], body)

    def on_PutScheduledUpdateGroupAction(self, given: dict[str, Any]) -> None:
        body = _blocks(given)
        self._of_group(body)
        # -1 is no change; without it the provider would set 0.
        for key in ("min_size", "max_size", "desired_capacity"):
            body.setdefault(key, -1)
        self.add("aws_autoscaling_schedule", body["scheduled_action_name"], body)

    def on_PutMetricAlarm(self, given: dict[str, Any]) -> None:
        body = {_field(key): value for key, value in given.items()}
        if "metric_dimension" in body:
            body["dimensions"] = {one["Name"]: one["Value"] for one in body.pop("metric_dimension")}
        actions = []
        for arn in body.pop("alarm_actions", []):
            name = arn.rpartition(":policyName/")[2]
            actions.append(self.refer("aws_autoscaling_policy", name, "arn"))
        body["alarm_actions"] = actions
        self.add("aws_cloudwatch_metric_alarm", body["alarm_name"], body)

    def on_CreateTargetGroup(self, given: dict[str, Any]) -> None:
        body = {_field(key): value for key, value in given.items()}
        check = {ours: body.pop(theirs) for theirs, ours in HEALTH.items() if theirs in body}
        if "matcher" in body:
            check["matcher"] = body.pop("matcher")["HttpCode"]
        if check:
            body["health_check"] = [check]
        body["vpc_id"] = self.variable("vpc")
        self.add("aws_lb_target_group", body["name"], body)

    def _target_group(self, arn: str) -> str:
        return arn.split(":targetgroup/")[1].split("/")[0]

    def on_ModifyTargetGroupAttributes(self, given: dict[str, Any]) -> None:
        label = self.labels["aws_lb_target_group", self._target_group(given["TargetGroupArn"])]
        body = self.resources["aws_lb_target_group"][label]
        sticky: dict[str, Any] = {}
        for one in given["Attributes"]:
            key, value = one["Key"], one["Value"]
            plain = int(value) if value.isdecimal() else value == "true" if value in ("true", "false") else value
            if key in STICKY:
                sticky[STICKY[key]] = plain
            elif key in ATTRIBUTES:
                body[ATTRIBUTES[key]] = plain
            else:
                routing = {"minimum_healthy_targets_percentage": value}
                body["target_group_health"] = [{"unhealthy_state_routing": [routing]}]
        if sticky:
            body["stickiness"] = [sticky]

    def on_RegisterTargets(self, given: dict[str, Any]) -> None:
        name = self._target_group(given["TargetGroupArn"])
        words = {"Id": "target_id", "Port": "port", "AvailabilityZone": "availability_zone"}
        for i, one in enumerate(given["Targets"]):
            body = {words[key]: value for key, value in one.items()}
            body["target_group_arn"] = self.refer("aws_lb_target_group", name, "arn")
            self.add("aws_lb_target_group_attachment", f"{name}-{i}", body)

    def _action(self, action: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {"type": action["Type"]}
        if "TargetGroupArn" in action:
            name = self._target_group(action["TargetGroupArn"])
            body["target_group_arn"] = self.refer("aws_lb_target_group", name, "arn")
        if "ForwardConfig" in action:
            groups = []
            for one in action["ForwardConfig"]["TargetGroups"]:
                name = self._target_group(one["TargetGroupArn"])
                arn = self.refer("aws_lb_target_group", name, "arn")
                groups.append({"arn": arn, "weight": one["Weight"]})
            body["forward"] = [{"target_group": groups}]
        if "FixedResponseConfig" in action:
            status = action["FixedResponseConfig"]["StatusCode"]
            body["fixed_response"] = [{"content_type": "text/plain", "status_code": status}]
        return body

    def on_CreateListener(self, given: dict[str, Any]) -> None:
        body: dict[str, Any] = {"load_balancer_arn": self.variable("load_balancer"), "port": 80, "protocol": "HTTP"}
        body["default_action"] = [self._action(given["DefaultActions"][0])]
        self.add("aws_lb_listener", given["Tags"][0]["Value"], body)

    def on_CreateRule(self, given: dict[str, Any]) -> None:
        conditions: list[dict[str, Any]] = []
        for one in given["Conditions"]:
            kind = one["Field"].replace("-", "_")
            config = next(value for key, value in one.items() if key != "Field")
            if kind == "query_string":
                pairs = [{key.lower(): value for key, value in pair.items()} for pair in config["Values"]]
                conditions.append({kind: pairs})
            else:
                names = {"Values": "values", "HttpHeaderName": "http_header_name"}
                conditions.append({kind: [{names[key]: value for key, value in config.items()}]})
        listener = given["ListenerArn"]
        body: dict[str, Any] = {
            "listener_arn": self.refer("aws_lb_listener", listener, "arn"),
            "condition": conditions,
            "action": [self._action(given["Actions"][0])],
        }
        if given["Priority"] is not None:
            body["priority"] = given["Priority"]
        self.add("aws_lb_listener_rule", f"{listener}-rule", body)
