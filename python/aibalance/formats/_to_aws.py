"""Groups, policies, target groups and rules as calls of boto3, and as Terraform's JSON for AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    Combined,
    PredictiveScaling,
    ScheduledScaling,
    SimpleScaling,
    StepScaling,
    TargetTracking,
    effective_warmup,
)
from ..routing import Rule
from ._aws import FAIL_OPEN, LOCAL
from ._written import Omitted, name_for
from .boto3 import validate
from .model import GroupConfig, Imported, PolicyConfig, PoolConfig, Remark

Call = tuple[str, str, dict[str, Any]]
ARN = "arn:aws:{service}:eu-central-1:000000000000:{rest}"
OPERATORS = {"high": "GreaterThanOrEqualToThreshold", "low": "LessThanOrEqualToThreshold"}
ALGORITHMS = {"RoundRobin": "round_robin", "WeightedRandom": "weighted_random"}


def group_arn(name: str) -> str:
    """An ARN as it may look: it is known only once the thing is made."""
    return ARN.format(service="elasticloadbalancing", rest=f"targetgroup/{name}/0000000000000000")


def policy_arn(group: str, name: str) -> str:
    uuid = "00000000-0000-0000-0000-000000000000"
    return ARN.format(
        service="autoscaling", rest=f"scalingPolicy:{uuid}:autoScalingGroupName/{group}:policyName/{name}"
    )


def write_calls(found: Imported) -> tuple[str, list[Remark]]:
    """Calls as JSON, each checked by botocore."""
    made, remarks = calls(found)
    for service, operation, parameters in made:
        validate(service, operation, parameters)
    listed = [{"service": s, "operation": o, "parameters": p} for s, o, p in made]
    return json.dumps(listed, indent=2) + "\n", remarks


def write_alarms(found: Imported) -> tuple[str, list[Remark]]:
    """Alarms of CloudWatch as calls: what a policy goes by, and what nobody sees while it holds."""
    made: list[Call] = []
    remarks: list[Remark] = []
    for config in _single(found.policies):
        omitted = Omitted(config.name)
        policy = config.policy
        if isinstance(policy, TargetTracking):
            for side, alarm, threshold in (
                ("high", policy.high_alarm, policy.target),
                ("low", policy.low_alarm, policy.target * policy.scale_in_ratio),
            ):
                if alarm is None or (side == "low" and policy.disable_scale_in):
                    omitted.say(f"{side}_alarm", "there is none")
                    continue
                operator = "GreaterThanThreshold" if side == "high" else "LessThanThreshold"
                made.append(_alarm(config, f"{config.name}-{side}", operator, threshold, alarm, policy.period, omitted))
        elif isinstance(policy, (StepScaling, SimpleScaling)):
            made.append(_policy_alarm(config, policy, omitted))
        else:
            omitted.say("policy", f"a {type(policy).__name__} has no alarm")
        remarks += omitted.remarks
    if not made:
        raise ConfigError(f"policies: none of {len(found.policies)} has an alarm")
    for service, operation, parameters in made:
        validate(service, operation, parameters)
    listed = [{"service": s, "operation": o, "parameters": p} for s, o, p in made]
    return json.dumps(listed, indent=2) + "\n", remarks


def calls(found: Imported, *, numbered: bool = True) -> tuple[list[Call], list[Remark]]:
    """Service, operation and parameters of each call, and what they leave out.

    `numbered` gives each rule a priority.
    """
    made: list[Call] = []
    remarks: list[Remark] = []
    policies = _single(found.policies)
    groups = {one.name: one for one in found.groups}
    for config in policies:
        if config.target not in groups and (bounds := _bounds(config)) is not None:
            groups[config.target] = GroupConfig(name=config.target, min_size=bounds[0], max_size=bounds[1])
    for group in groups.values():
        omitted = Omitted(group.name)
        made += _group(group, omitted)
        remarks += omitted.remarks
    for config in policies:
        omitted = Omitted(config.name)
        if config.target not in groups:
            omitted.say("policy", f"a {type(config.policy).__name__} is not one of EC2 Auto Scaling")
        else:
            made += _policy(config, groups[config.target], omitted)
        remarks += omitted.remarks
    names: dict[str, str] = {}
    taken: set[str] = set()
    for pool in found.pools:
        omitted = Omitted(pool.name)
        base = re.sub(r"[^A-Za-z0-9-]+", "-", pool.name, flags=re.ASCII)[:28].strip("-") or "pool"
        names[pool.name] = name_for(base, taken).replace("_", "-")
        made += _target_group(pool, names[pool.name], omitted)
        remarks += omitted.remarks
    for router in found.routers:
        omitted = Omitted(router.name)
        # The listener, which holds the default, is made before the rules that name it.
        ordered = sorted(enumerate(router.rules, 1), key=lambda pair: pair[1].priority != "default")
        for n, rule in ordered:
            made.append(_rule(router.name, rule, n if numbered else None, names, omitted))
        remarks += omitted.remarks
    return made, remarks


def _single(policies: tuple[PolicyConfig, ...]) -> list[PolicyConfig]:
    """The policies, with those that are put together taken apart."""
    out: list[PolicyConfig] = []
    for config in policies:
        if isinstance(config.policy, Combined):
            parts = tuple(
                PolicyConfig(name=f"{config.name}-{i}", target=config.target, policy=one)
                for i, one in enumerate(config.policy.policies)
            )
            out += _single(parts)
        else:
            out.append(config)
    return out


def _bounds(config: PolicyConfig) -> tuple[int, int] | None:
    policy = config.policy
    if isinstance(policy, (TargetTracking, StepScaling, SimpleScaling, PredictiveScaling, ScheduledScaling)):
        return policy.min_capacity, policy.max_capacity
    return None


def _whole(value: float, field: str, omitted: Omitted) -> int:
    if value != int(value):
        omitted.say(field, f"{value!r} is written as {round(value)}: whole numbers only")
    return round(value)


def _group(group: GroupConfig, omitted: Omitted) -> list[Call]:
    given: dict[str, Any] = {"AutoScalingGroupName": group.name, "MinSize": group.min_size, "MaxSize": group.max_size}
    if group.desired is not None:
        given["DesiredCapacity"] = group.desired
    if group.default_cooldown != 300:
        given["DefaultCooldown"] = _whole(group.default_cooldown, "default_cooldown", omitted)
    if group.default_warmup is not None:
        given["DefaultInstanceWarmup"] = _whole(group.default_warmup, "default_warmup", omitted)
    if group.health_check_grace != 300:
        given["HealthCheckGracePeriod"] = _whole(group.health_check_grace, "health_check_grace", omitted)
    template = {"LaunchTemplateName": "launch-template"}
    omitted.say("launch_template", "what an instance is made of is not known: fill it in, and the subnets")
    if group.mixed is None:
        given["LaunchTemplate"] = template
    else:
        distribution: dict[str, Any] = {
            "OnDemandBaseCapacity": group.mixed.on_demand_base,
            "OnDemandPercentageAboveBaseCapacity": group.mixed.on_demand_percent_above_base,
        }
        if group.spot_allocation is not None:
            distribution["SpotAllocationStrategy"] = group.spot_allocation
        if group.spot_allocation in (None, "lowest-price") and group.mixed.spot_pools != 2:
            distribution["SpotInstancePools"] = group.mixed.spot_pools
        overrides: list[dict[str, Any]] = []
        for name, weight in group.instance_types:
            overrides.append({"InstanceType": name, **({"WeightedCapacity": str(weight)} if weight != 1 else {})})
        launch = {"LaunchTemplateSpecification": template, **({"Overrides": overrides} if overrides else {})}
        given["MixedInstancesPolicy"] = {"LaunchTemplate": launch, "InstancesDistribution": distribution}
    made: list[Call] = [("autoscaling", "CreateAutoScalingGroup", given)]
    if group.warm_pool is not None:
        pool = group.warm_pool
        warm: dict[str, Any] = {"AutoScalingGroupName": group.name, "MinSize": pool.min_size}
        warm["PoolState"] = group.warm_pool_state
        if pool.max_prepared is not None:
            warm["MaxGroupPreparedCapacity"] = pool.max_prepared
        if pool.reuse_on_scale_in:
            warm["InstanceReusePolicy"] = {"ReuseOnScaleIn": True}
        made.append(("autoscaling", "PutWarmPool", warm))
    if group.refresh is not None:
        refresh = group.refresh
        wishes: dict[str, Any] = {"MinHealthyPercentage": refresh.min_healthy}
        if refresh.max_healthy is not None:
            wishes["MaxHealthyPercentage"] = refresh.max_healthy
        if refresh.warmup is not None:
            wishes["InstanceWarmup"] = _whole(refresh.warmup, "refresh.warmup", omitted)
        if refresh.checkpoints:
            wishes["CheckpointPercentages"] = list(refresh.checkpoints)
        if refresh.checkpoint_delay != 3600:
            wishes["CheckpointDelay"] = _whole(refresh.checkpoint_delay, "refresh.checkpoint_delay", omitted)
        begun = {"AutoScalingGroupName": group.name, "Strategy": "Rolling", "Preferences": wishes}
        made.append(("autoscaling", "StartInstanceRefresh", begun))
    return made


def _policy(config: PolicyConfig, group: GroupConfig, omitted: Omitted) -> list[Call]:
    policy = config.policy
    bounds = _bounds(config)
    if bounds is not None and bounds != (group.min_size, group.max_size):
        omitted.say("bounds", f"{bounds} are written as the group's, {(group.min_size, group.max_size)}")
    given: dict[str, Any] = {"AutoScalingGroupName": group.name, "PolicyName": config.name}
    if isinstance(policy, (TargetTracking, StepScaling)):
        effective = effective_warmup(estimated=None, default=group.default_warmup, cooldown=group.default_cooldown)
        if "estimated_instance_warmup" in config.extra or policy.warmup != effective:
            given["EstimatedInstanceWarmup"] = _whole(policy.warmup, "warmup", omitted)
    if isinstance(policy, TargetTracking):
        for field in ("scale_in_ratio", "high_alarm", "low_alarm", "period", "scale_out_cooldown", "scale_in_cooldown"):
            default = TargetTracking.__dataclass_fields__[field].default
            if getattr(policy, field) != default:
                omitted.say(field, "AWS makes the alarms of target tracking itself")
        tracking: dict[str, Any] = {"TargetValue": float(policy.target)}
        if policy.disable_scale_in:
            tracking["DisableScaleIn"] = True
        if config.extra.get("predefined"):
            predefined = {"PredefinedMetricType": policy.metric}
            if "resource_label" in config.extra:
                predefined["ResourceLabel"] = str(config.extra["resource_label"])
            tracking["PredefinedMetricSpecification"] = predefined
        else:
            tracking["CustomizedMetricSpecification"] = _customized(config, policy.metric, omitted)
        given |= {"PolicyType": "TargetTrackingScaling", "TargetTrackingConfiguration": tracking}
        return [("autoscaling", "PutScalingPolicy", given)]
    if isinstance(policy, StepScaling):
        if policy.cooldown:
            omitted.say("cooldown", "EC2 has none for step scaling")
        given |= {"PolicyType": "StepScaling", "AdjustmentType": _camel(policy.adjustment_type)}
        if policy.aggregation != "average":
            given["MetricAggregationType"] = policy.aggregation.capitalize()
        if policy.min_adjustment_magnitude is not None:
            given["MinAdjustmentMagnitude"] = policy.min_adjustment_magnitude
        steps = []
        for step in policy.steps:
            one: dict[str, Any] = {"ScalingAdjustment": step.adjustment}
            if step.lower is not None:
                one["MetricIntervalLowerBound"] = float(step.lower)
            if step.upper is not None:
                one["MetricIntervalUpperBound"] = float(step.upper)
            steps.append(one)
        given["StepAdjustments"] = steps
        return [("autoscaling", "PutScalingPolicy", given), _policy_alarm(config, policy, omitted)]
    if isinstance(policy, SimpleScaling):
        given |= {"PolicyType": "SimpleScaling", "AdjustmentType": _camel(policy.adjustment_type)}
        given["ScalingAdjustment"] = policy.adjustment
        if policy.cooldown != group.default_cooldown or config.extra.get("cooldown"):
            given["Cooldown"] = _whole(policy.cooldown, "cooldown", omitted)
        if policy.min_adjustment_magnitude is not None:
            given["MinAdjustmentMagnitude"] = policy.min_adjustment_magnitude
        return [("autoscaling", "PutScalingPolicy", given), _policy_alarm(config, policy, omitted)]
    if isinstance(policy, PredictiveScaling):
        return [_predictive(config, policy, given, omitted)]
    assert isinstance(policy, ScheduledScaling)
    made: list[Call] = []
    for action in policy.actions:
        one = {"AutoScalingGroupName": group.name, "ScheduledActionName": action.name, "Recurrence": action.recurrence}
        if action.time_zone != "UTC":
            one["TimeZone"] = action.time_zone
        for field, word in (("start", "StartTime"), ("end", "EndTime")):
            value = getattr(action, field)
            if value is not None:
                one[word] = datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
        for field, word in (("min_capacity", "MinSize"), ("max_capacity", "MaxSize"), ("desired", "DesiredCapacity")):
            if getattr(action, field) is not None:
                one[word] = getattr(action, field)
        made.append(("autoscaling", "PutScheduledUpdateGroupAction", one))
    return made


def _camel(word: str) -> str:
    return "".join(part.capitalize() for part in word.split("_"))


def _snake_to_camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_camel(str(key)): _snake_to_camel(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_snake_to_camel(one) for one in value]
    return value


def _first(value: Any) -> Any:
    """The block of a name, which Terraform holds as a list of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _customized(config: PolicyConfig, metric: str, omitted: Omitted) -> dict[str, Any]:
    extra = config.extra
    if "metrics" in extra:
        omitted.say("metrics", "expressions over metrics are not written: the metric of that name is")
    if "namespace" not in extra:
        omitted.say("namespace", "is not known: aibalance is written")
    out: dict[str, Any] = {
        "MetricName": metric,
        "Namespace": str(extra.get("namespace", "aibalance")),
        "Statistic": str(extra.get("statistic", "Average")),
    }
    for key, word in (("unit", "Unit"), ("period", "Period")):
        if key in extra:
            out[word] = extra[key]
    if "dimensions" in extra:
        out["Dimensions"] = [{"Name": name, "Value": value} for name, value in extra["dimensions"]]
    return out


def _policy_alarm(config: PolicyConfig, policy: StepScaling | SimpleScaling, omitted: Omitted) -> Call:
    alarm = policy.alarm
    if alarm is None:
        omitted.say("alarm", "none is written as one of one period")
        alarm = (1, 1)
    operator = str(config.extra.get("operator", OPERATORS[policy.direction]))
    made = _alarm(config, f"{config.name}-alarm", operator, policy.threshold, alarm, policy.period, omitted)
    made[2]["AlarmActions"] = [policy_arn(config.target, config.name)]
    return made


def _alarm(
    config: PolicyConfig,
    name: str,
    operator: str,
    threshold: float,
    alarm: tuple[int, int],
    period: float,
    omitted: Omitted,
) -> Call:
    seconds = _whole(period, "period", omitted)
    if seconds not in (10, 20, 30) and seconds % 60:
        near = max(60, round(seconds / 60) * 60)
        omitted.say("period", f"{seconds} is written as {near}: 10, 20, 30 or whole minutes")
        seconds = near
    policy: Any = config.policy
    if "namespace" not in config.extra:
        omitted.say("namespace", "is not known: aibalance is written")
    given: dict[str, Any] = {
        "AlarmName": name,
        "MetricName": policy.metric,
        "Namespace": str(config.extra.get("namespace", "aibalance")),
        "Statistic": str(config.extra.get("statistic", "Average")),
        "Period": seconds,
        "EvaluationPeriods": alarm[1],
        "Threshold": float(threshold),
        "ComparisonOperator": operator,
    }
    if alarm[0] != alarm[1]:
        given["DatapointsToAlarm"] = alarm[0]
    if "dimensions" in config.extra:
        given["Dimensions"] = [{"Name": n, "Value": v} for n, v in config.extra["dimensions"]]
    return "cloudwatch", "PutMetricAlarm", given


def _predictive(config: PolicyConfig, policy: PredictiveScaling, given: dict[str, Any], omitted: Omitted) -> Call:
    specification: dict[str, Any] = {"TargetValue": float(policy.target if policy.target is not None else 1.0)}
    if policy.target is None:
        omitted.say("target", "a forecast in instances is one of load with the target 1")
    parts = {k: v for k, v in config.extra.items() if k.endswith("_specification")}
    for key, value in parts.items():
        if key.startswith("customized"):
            omitted.say(key, "expressions over metrics are not written")
            continue
        specification[_camel(key)] = _snake_to_camel(_first(value))
    if len(specification) == 1:
        omitted.say("metric", "where the load comes from is not known: CPU is written")
        specification["PredefinedMetricPairSpecification"] = {"PredefinedMetricType": "ASGCPUUtilization"}
    configuration: dict[str, Any] = {"MetricSpecifications": [specification], "Mode": _camel(policy.mode)}
    if policy.scheduling_buffer_time != 300:
        configuration["SchedulingBufferTime"] = _whole(policy.scheduling_buffer_time, "scheduling_buffer_time", omitted)
    if policy.max_capacity_breach != "honor":
        configuration["MaxCapacityBreachBehavior"] = "IncreaseMaxCapacity"
    if policy.max_capacity_buffer is not None:
        configuration["MaxCapacityBuffer"] = policy.max_capacity_buffer
    given |= {"PolicyType": "PredictiveScaling", "PredictiveScalingConfiguration": configuration}
    return "autoscaling", "PutScalingPolicy", given


def _target_group(pool: PoolConfig, name: str, omitted: Omitted) -> list[Call]:
    if name != pool.name:
        omitted.say("name", f"is written as {name}")
    picker, options = pool.picker.name, dict(pool.picker.options)
    algorithm = ALGORITHMS.get(picker, "")
    if picker in ("LeastConnections", "LeastRequest"):
        algorithm = "least_outstanding_requests"
        if options != {"full_scan": True} or picker != "LeastRequest":
            omitted.say("picker", "least outstanding requests is near; weights do not count")
    elif not algorithm:
        raise ConfigError(f"{pool.name}: a target group has nothing like {picker}; another picker is needed")
    if any(one.weight != 1 for one in pool.servers):
        omitted.say("weight", "targets have no weights: a group for each weight, and a rule with weights")
    if any(one.backup or one.priority for one in pool.servers):
        omitted.say("backup", "a target group has no backups")
    if any(one.max_inflight is not None for one in pool.servers):
        omitted.say("max_inflight", "a target group has no such limit")
    if pool.outliers is not None or any(one.max_fails for one in pool.servers):
        omitted.say("passive", "a target group goes by health checks, and by anomaly mitigation")
    given: dict[str, Any] = {"Name": name, "Protocol": "HTTP"}
    given["Port"] = pool.port if pool.port is not None else 80
    if pool.port is None:
        omitted.say("port", "is not known: 80 is written")
    check = pool.health
    if check is not None:
        given["HealthCheckProtocol"] = {"http": "HTTP", "tcp": "TCP"}.get(check.kind, "HTTP")
        if check.path is not None:
            given["HealthCheckPath"] = check.path
        given["HealthCheckIntervalSeconds"] = _whole(check.interval, "health.interval", omitted)
        given["HealthCheckTimeoutSeconds"] = _whole(check.timeout, "health.timeout", omitted)
        given["HealthyThresholdCount"] = check.healthy_threshold
        given["UnhealthyThresholdCount"] = check.unhealthy_threshold
        if check.status is not None:
            given["Matcher"] = {"HttpCode": check.status}
    attributes: dict[str, str] = {}
    if algorithm != "round_robin":
        attributes["load_balancing.algorithm.type"] = algorithm
    if pool.slow_start is not None:
        if pool.slow_start.ramp != "alb":
            omitted.say("slow_start", "the ramp is an ALB's own")
        if algorithm == "least_outstanding_requests":
            omitted.say("slow_start", "not with least outstanding requests")
        else:
            seconds = min(900, max(30, _whole(pool.slow_start.window, "slow_start", omitted)))
            attributes["slow_start.duration_seconds"] = str(seconds)
    if pool.stickiness is not None:
        sticky = pool.stickiness
        kind = "app_cookie" if sticky.kind == "app_cookie" else "lb_cookie"
        attributes |= {"stickiness.enabled": "true", "stickiness.type": kind}
        age = 604800.0 if sticky.max_age is None else min(sticky.max_age, 604800.0)
        attributes[f"stickiness.{kind}.duration_seconds"] = str(_whole(age, "stickiness", omitted))
        if kind == "app_cookie":
            attributes["stickiness.app_cookie.cookie_name"] = sticky.cookie
        elif sticky.cookie != "AWSALB":
            omitted.say("stickiness", f"the cookie {sticky.cookie!r} is called AWSALB there")
    if pool.panic_threshold > FAIL_OPEN:
        percent = max(1, round(pool.panic_threshold * 100))
        key = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage"
        attributes[key] = str(percent)
    elif pool.panic_threshold == 0:
        omitted.say("panic_threshold", "a target group sends to all targets when none is healthy")
    made: list[Call] = [("elbv2", "CreateTargetGroup", given)]
    if attributes:
        listed = [{"Key": key, "Value": value} for key, value in attributes.items()]
        arn = {"TargetGroupArn": group_arn(name)}
        made.append(("elbv2", "ModifyTargetGroupAttributes", {**arn, "Attributes": listed}))
    if pool.servers:
        targets: list[dict[str, Any]] = []
        for one in pool.servers:
            host, _, port = one.address.rpartition(":")
            target: dict[str, Any] = (
                {"Id": host, "Port": int(port)} if host and port.isdecimal() else {"Id": one.address}
            )
            if one.zone:
                target["AvailabilityZone"] = one.zone
            targets.append(target)
        made.append(("elbv2", "RegisterTargets", {"TargetGroupArn": group_arn(name), "Targets": targets}))
    return made


def _rule(listener: str, rule: Rule, number: int | None, names: Mapping[str, str], omitted: Omitted) -> Call:
    conditions: list[dict[str, Any]] = []

    def values(given: Any) -> list[str]:
        return [given] if isinstance(given, str) else list(given)

    path = rule.path
    if rule.location is not None:
        path = _pattern(rule.location, omitted)
    if path is not None:
        conditions.append({"Field": "path-pattern", "PathPatternConfig": {"Values": values(path)}})
    if rule.host is not None:
        conditions.append({"Field": "host-header", "HostHeaderConfig": {"Values": values(rule.host)}})
    if rule.method is not None:
        method = {"Values": values(rule.method)}
        conditions.append({"Field": "http-request-method", "HttpRequestMethodConfig": method})
    for name, patterns in (rule.headers or {}).items():
        header = {"HttpHeaderName": name, "Values": values(patterns)}
        conditions.append({"Field": "http-header", "HttpHeaderConfig": header})
    if rule.query is not None:
        for pairs in rule._query():
            listed = [{**({"Key": key} if key is not None else {}), "Value": value} for key, value in pairs]
            conditions.append({"Field": "query-string", "QueryStringConfig": {"Values": listed}})
    for field in ("connect_timeout", "read_timeout"):
        if getattr(rule, field) is not None:
            omitted.say(field, "an ALB has one idle timeout for all its rules")
    if rule.streaming:
        omitted.say("streaming", "an ALB passes answers on as they come")
    targets = rule._targets()
    if rule.to == LOCAL:
        omitted.say("@local", "what it answered is not known: 404 is written")
        action: dict[str, Any] = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    elif len(targets) == 1 and isinstance(rule.to, str):
        action = {"Type": "forward", "TargetGroupArn": group_arn(names.get(rule.to, rule.to))}
    else:
        groups = [
            {"TargetGroupArn": group_arn(names.get(str(name), str(name))), "Weight": weight} for name, weight in targets
        ]
        action = {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}
    if rule.priority == "default":
        # A listener has no name but by its tags.
        tags = [{"Key": "Name", "Value": listener}]
        given: dict[str, Any] = {"LoadBalancerArn": "load-balancer", "DefaultActions": [action], "Tags": tags}
        return "elbv2", "CreateListener", given
    if not conditions:
        conditions.append({"Field": "path-pattern", "PathPatternConfig": {"Values": ["*"]}})
        omitted.say("path", "a rule needs a condition: every path is written")
    priority = rule.priority
    if priority is None and number is not None:
        priority = number
        omitted.say("priority", "priorities are written in the order of the rules")
    omitted.say("listener", "its ARN is not known: fill it in")
    given = {"ListenerArn": listener, "Priority": priority, "Conditions": conditions, "Actions": [action]}
    return "elbv2", "CreateRule", given


def _pattern(location: str, omitted: Omitted) -> str:
    omitted.say("location", "nginx takes the longest prefix, an ALB the first rule: check their order")
    if location.startswith("~"):
        raise ConfigError(f"{omitted.name}: {location!r}: a rule of an ALB has no such expressions")
    if location.startswith("="):
        return location[1:].strip()
    return location.removeprefix("^~").strip() + "*"
