"""What AWS's load balancers and target groups come to, named as Terraform names them; `_aws_groups` has the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigError
from ..health import TargetGroupAttributes
from ..routing import Rule
from . import _aws_groups as groups
from ._aws_common import block, blocks, label_of, name_of
from ._fields import approximate, ignore, items, need, number, read, suggestion, table, text, truth, where, whole
from ._yaml import Node
from .model import (
    HealthCheckConfig,
    PickerConfig,
    PoolConfig,
    Remark,
    Report,
    RouterConfig,
    ServerConfig,
    StickinessConfig,
)

LOCAL = "@local"
# Less than one healthy of any number: an ALB sends to all only when no target is healthy.
FAIL_OPEN = 1e-9


@dataclass(frozen=True)
class Defaults:
    """Where Terraform and the API differ in what is not said."""

    healthy_threshold: int = 5
    unhealthy_threshold: int = 2


BALANCERS = {"aws_lb", "aws_alb"}
TARGET_GROUPS = {"aws_lb_target_group", "aws_alb_target_group"}
RULES = {"aws_lb_listener_rule", "aws_alb_listener_rule"}
LISTENERS = {"aws_lb_listener", "aws_alb_listener"}
ATTACHMENTS = {"aws_lb_target_group_attachment", "aws_alb_target_group_attachment"}
AUTOSCALING = {
    "aws_autoscaling_group",
    "aws_autoscaling_policy",
    "aws_autoscaling_schedule",
    "aws_autoscaling_lifecycle_hook",
    "aws_autoscaling_attachment",
    "aws_autoscaling_notification",
    "aws_autoscaling_group_tag",
    "aws_autoscaling_traffic_source_attachment",
}
KNOWN = BALANCERS | TARGET_GROUPS | RULES | LISTENERS | ATTACHMENTS | AUTOSCALING | {"aws_cloudwatch_metric_alarm"}

GROUP_FIELDS = table(
    "name",
    "port",
    "protocol",
    "health_check",
    "stickiness",
    "slow_start",
    "load_balancing_algorithm_type",
    "load_balancing_anomaly_mitigation",
    "deregistration_delay",
    "target_group_health",
    name_prefix="the name does not change a decision",
    vpc_id="networks decide nothing",
    target_type="what a target is decides nothing",
    protocol_version="the protocol to the server decides nothing",
    ip_address_type="the protocol to the server decides nothing",
    connection_termination="what becomes of connections of a target that leaves is the proxy's",
    preserve_client_ip="what the server sees of the client decides nothing",
    proxy_protocol_v2="what the server sees of the client decides nothing",
    lambda_multi_value_headers_enabled="headers that are sent on decide nothing",
    load_balancing_cross_zone_enabled="zones are those of the servers",
    target_failover="of network load balancers: what becomes of flows is the proxy's",
    target_health_state="of network load balancers: what becomes of connections is the proxy's",
    target_control_port="agents on targets are not asked",
)
HEALTH_FIELDS = table(
    "path",
    "interval",
    "timeout",
    "healthy_threshold",
    "unhealthy_threshold",
    "matcher",
    "protocol",
    "enabled",
    port="the port is said where the checker is made",
)
STICKY_FIELDS = table("type", "cookie_duration", "cookie_name", "enabled")
BALANCER_IGNORED = "the balancer itself decides nothing that its listeners and target groups do not say"


def resources(
    found: Sequence[tuple[str, str, Node]], meta: Mapping[str, str], report: Report, defaults: Defaults
) -> None:
    """Reads resources, triples of type, label and body; `meta` are fields that all have, with the reason."""
    names = {(kind, label): name_of(node, label) for kind, label, node in found}
    seen: set[tuple[str, str]] = set()
    for kind, label, node in found:
        if (kind, label) in seen:
            report.refused.append(Remark(where(node), f"{kind}.{label}", "is there twice"))
        seen.add((kind, label))
        if not isinstance(node.value, dict):
            report.refused.append(Remark(where(node), f"{kind}.{label}", "a block is needed"))
            continue
        for word in ("count", "for_each", "dynamic"):
            if word in node.value and kind in KNOWN:
                said = "how many there will be is known only to Terraform; write them out"
                report.refused.append(Remark(where(node.value[word]), node.below(word), said))
                del node.value[word]
        if kind in BALANCERS:
            ignore(report, node, BALANCER_IGNORED)
        elif kind not in KNOWN:
            close = suggestion(kind, KNOWN)
            if close.startswith("did") and kind.split("_")[1:2] in (["lb"], ["alb"], ["autoscaling"]):
                report.refused.append(Remark(where(node), f"{kind}.{label}", f"there is no such resource; {close}"))
            else:
                ignore(report, node, f"a resource {kind} decides neither picks nor sizes")

    def of(kinds: set[str]) -> list[tuple[str, Node]]:
        return [(label, node) for kind, label, node in found if kind in kinds and isinstance(node.value, dict)]

    targets = _attached(of(ATTACHMENTS), names, report, meta)
    for label, node in of(TARGET_GROUPS):

        def pool(label: str = label, node: Node = node) -> None:
            name = names[next(key for key in names if key[1] == label and key[0] in TARGET_GROUPS)]
            report.pools.append(_target_group(node, name, tuple(targets.get(name, ())), meta, defaults, report))

        report.guard(where(node), pool)
    _rules(of(LISTENERS), of(RULES), names, meta, report)
    groups.read_all(
        {kind: of({kind}) for kind in sorted(AUTOSCALING | {"aws_cloudwatch_metric_alarm"})}, names, meta, report
    )


def stray(name: str, node: Node, report: Report) -> None:
    """Reads a block that stands outside of any resource, for what is wrong inside of it."""
    readers: dict[str, Callable[[], object]] = {
        "mixed_instances_policy": lambda: groups.mixed(node, report),
        "warm_pool": lambda: groups.warm_pool(node, report),
        "instance_refresh": lambda: groups.refresh(node, report),
        "health_check": lambda: _health(node, Defaults(), report),
        "stickiness": lambda: _stickiness(node, report),
    }
    if name in readers:
        report.guard(where(node), readers[name])


def _attached(
    attachments: list[tuple[str, Node]],
    names: Mapping[tuple[str, str], str],
    report: Report,
    meta: Mapping[str, str],
) -> dict[str, list[ServerConfig]]:
    found: dict[str, list[ServerConfig]] = {}
    for _, node in attachments:

        def one(node: Node = node) -> None:
            fields = read(node, {**meta, **table("target_group_arn", "target_id", "port", "availability_zone")}, report)
            group = label_of(need(node, fields, "target_group_arn"), TARGET_GROUPS, names)
            target = text(need(node, fields, "target_id")).removeprefix("${").removesuffix("}")
            port = f":{whole(fields['port'], 1, 65535)}" if "port" in fields else ""
            zone = text(fields["availability_zone"]) if "availability_zone" in fields else ""
            found.setdefault(group, []).append(ServerConfig(address=f"{target}{port}", zone=zone))

        report.guard(where(node), one)
    return found


def _target_group(
    node: Node,
    name: str,
    servers: tuple[ServerConfig, ...],
    meta: Mapping[str, str],
    defaults: Defaults,
    report: Report,
) -> PoolConfig:
    fields = read(node, {**meta, **GROUP_FIELDS}, report)
    attributes: dict[str, Any] = {}
    if "load_balancing_algorithm_type" in fields:
        attributes["algorithm"] = text(fields["load_balancing_algorithm_type"])
    if "slow_start" in fields:
        attributes["slow_start"] = whole(fields["slow_start"])
    if "load_balancing_anomaly_mitigation" in fields:
        attributes["anomaly_mitigation"] = fields["load_balancing_anomaly_mitigation"].one_of(
            {"on": True, "off": False}
        )
    if "deregistration_delay" in fields:
        attributes["deregistration_delay"] = whole(fields["deregistration_delay"])
        ignore(
            report, fields["deregistration_delay"], "a drain has its deadline where it is begun: pool.drain(deadline=)"
        )
    words = {
        "algorithm": "load_balancing_algorithm_type",
        "anomaly_mitigation": "load_balancing_anomaly_mitigation",
    }
    try:
        checked = TargetGroupAttributes(**attributes)
    except ConfigError as error:
        field, _, said = str(error).partition(": ")
        for ours, theirs in words.items():
            said = said.replace(ours, theirs)
        raise fields[words.get(field, field)].fail(said) from None
    picker = PickerConfig()
    if checked.algorithm == "least_outstanding_requests":
        picker = PickerConfig(name="LeastRequest", options={"full_scan": True})
        approximate(
            report, fields["load_balancing_algorithm_type"], "AWS does not publish who wins among equals: chance"
        )
    elif checked.algorithm == "weighted_random":
        picker = PickerConfig(name="WeightedRandom")
        if checked.anomaly_mitigation:
            approximate(
                report, fields["load_balancing_anomaly_mitigation"], "AWS does not publish it: see OutlierDetection"
            )
    panic = FAIL_OPEN
    if "target_group_health" in fields:
        panic = _group_health(block(fields["target_group_health"]), report)
    stickiness = _stickiness(block(fields["stickiness"]), report) if "stickiness" in fields else None
    return PoolConfig(
        name=name,
        servers=servers,
        picker=picker,
        slow_start=checked.as_slow_start(),
        panic_threshold=panic,
        health=_health(block(fields["health_check"]), defaults, report) if "health_check" in fields else None,
        stickiness=stickiness,
        port=whole(fields["port"], 1, 65535) if "port" in fields else None,
        where=where(node),
    )


def _group_health(node: Node, report: Report) -> float:
    dns = "names are answered by DNS: see aibalance.health.TargetGroupHealth"
    fields = read(node, table("unhealthy_state_routing", dns_failover=dns), report)
    if "unhealthy_state_routing" not in fields:
        return FAIL_OPEN
    routing = block(fields["unhealthy_state_routing"])
    inner = read(routing, table("minimum_healthy_targets_count", "minimum_healthy_targets_percentage"), report)
    count = inner.get("minimum_healthy_targets_count")
    if count is not None and whole(count) > 1:
        raise count.fail(f"{count.shown()} is not there; a pool knows the share: minimum_healthy_targets_percentage")
    share = inner.get("minimum_healthy_targets_percentage")
    return FAIL_OPEN if share is None or share.value == "off" else whole(share, 1, 100) / 100


def _health(node: Node, defaults: Defaults, report: Report) -> HealthCheckConfig | None:
    fields = read(node, HEALTH_FIELDS, report)
    if "enabled" in fields and not truth(fields["enabled"]):
        return None
    protocol = text(fields["protocol"]).upper() if "protocol" in fields else "HTTP"
    if protocol not in ("HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "GENEVE"):
        raise fields["protocol"].fail(f"{fields['protocol'].shown()} is not allowed; HTTP, HTTPS or TCP")
    kind = "http" if protocol.startswith("HTTP") else "tcp"
    interval = number(fields["interval"], 5, 300) if "interval" in fields else 30
    timeout = number(fields["timeout"], 2, 120) if "timeout" in fields else 5 if kind == "http" else 10
    if timeout >= interval and "timeout" in fields:
        raise fields["timeout"].fail(f"{timeout:g} is not allowed; less than the interval, {interval:g}")
    return HealthCheckConfig(
        kind=kind,
        path=text(fields["path"]) if "path" in fields else "/" if kind == "http" else None,
        interval=interval,
        timeout=timeout,
        healthy_threshold=whole(fields["healthy_threshold"], 2, 10)
        if "healthy_threshold" in fields
        else defaults.healthy_threshold,
        unhealthy_threshold=whole(fields["unhealthy_threshold"], 2, 10)
        if "unhealthy_threshold" in fields
        else defaults.unhealthy_threshold,
        status=str(fields["matcher"].value) if "matcher" in fields else None,
    )


def _stickiness(node: Node, report: Report) -> StickinessConfig | None:
    fields = read(node, STICKY_FIELDS, report)
    if "enabled" in fields and not truth(fields["enabled"]):
        return None
    kind = need(node, fields, "type").one_of(
        {k: k for k in ("lb_cookie", "app_cookie", "source_ip", "source_ip_dest_ip")}
    )
    age = float(whole(fields["cookie_duration"], 1, 604800)) if "cookie_duration" in fields else 86400.0
    if kind.startswith("source_ip"):
        raise fields["type"].fail(f"{kind!r} is of network load balancers, which have flows and no requests")
    if kind == "app_cookie":
        return StickinessConfig(cookie=text(need(node, fields, "cookie_name")), max_age=age, kind=kind)
    return StickinessConfig(cookie="AWSALB", max_age=age)


# Rules

RULE_FIELDS = table("listener_arn", "priority", "condition", "action", transform="what is sent on decides nothing")
LISTENER_FIELDS = table(
    "default_action",
    load_balancer_arn="the balancer decides nothing that its rules do not say",
    port="sockets are the proxy's",
    protocol="sockets are the proxy's",
    ssl_policy="TLS is the proxy's",
    certificate_arn="TLS is the proxy's",
    alpn_policy="TLS is the proxy's",
    mutual_authentication="TLS is the proxy's",
    tcp_idle_timeout_seconds="idle connections are the proxy's",
)
ACTION_FIELDS = table(
    "type",
    "target_group_arn",
    "forward",
    "order",
    redirect="the balancer answers by itself",
    fixed_response="the balancer answers by itself",
    authenticate_cognito="who the client is decides nothing",
    authenticate_oidc="who the client is decides nothing",
    jwt_validation="who the client is decides nothing",
)
CONDITIONS = ("path_pattern", "host_header", "http_request_method", "http_header", "query_string", "source_ip")


def _rules(
    listeners: list[tuple[str, Node]],
    rules: list[tuple[str, Node]],
    names: Mapping[tuple[str, str], str],
    meta: Mapping[str, str],
    report: Report,
) -> None:
    found: dict[str, list[tuple[Node, Rule]]] = {}
    for _, node in rules:

        def one(node: Node = node) -> None:
            fields = read(node, {**meta, **RULE_FIELDS}, report)
            listener = label_of(need(node, fields, "listener_arn"), LISTENERS, names)
            given: dict[str, Any] = {}
            for condition in blocks(need(node, fields, "condition")):
                _condition(condition, given, report)
            to = _action(need(node, fields, "action"), names, report)
            if to is None:
                raise node.fail("an action that forwards or answers is needed", path=node.below("action"))
            priority = whole(fields["priority"], 1, 50000) if "priority" in fields else None
            found.setdefault(listener, []).append((node, Rule(to=to, priority=priority, **given)))

        report.guard(where(node), one)
    for label, node in listeners:

        def default(label: str = label, node: Node = node) -> None:
            headers = {key: "headers decide nothing" for key in node.value if key.startswith("routing_http_")}
            fields = read(node, {**meta, **LISTENER_FIELDS, **headers}, report)
            to = _action(fields["default_action"], names, report) if "default_action" in fields else None
            if to is not None:
                found.setdefault(label, []).append((node, Rule(to=to, priority="default")))

        report.guard(where(node), default)
    for listener, pairs in found.items():
        try:
            router = RouterConfig(name=listener, rules=tuple(rule for _, rule in pairs))
            router.build()
            report.routers.append(router)
        except ConfigError as error:
            place = re.match(r"rules\[(\d+)\]\.?", str(error))
            node = pairs[int(place[1])][0] if place else pairs[0][0]
            report.refused.append(Remark(where(node), node.path, str(error)[place.end() if place else 0 :]))


def _action(node: Node, names: Mapping[tuple[str, str], str], report: Report) -> Any:
    for action in blocks(node):
        fields = read(action, ACTION_FIELDS, report)
        kinds = ("forward", "redirect", "fixed-response", "authenticate-cognito", "authenticate-oidc", "jwt-validation")
        kind = need(action, fields, "type").one_of({k: k for k in kinds})
        if kind in ("redirect", "fixed-response"):
            return LOCAL
        if kind != "forward":
            continue
        if "target_group_arn" in fields:
            return label_of(fields["target_group_arn"], TARGET_GROUPS, names)
        forward = block(need(action, fields, "forward"))
        sticky = "a rule's group is drawn for each request: see Router.route(key=)"
        inner = read(forward, table("target_group", stickiness=sticky), report)
        weights: dict[str, int] = {}
        for group in blocks(need(forward, inner, "target_group")):
            one = read(group, table("arn", "weight"), report)
            weight = whole(one["weight"], 0, 999) if "weight" in one else 1
            weights[label_of(need(group, one, "arn"), TARGET_GROUPS, names)] = weight
        return weights
    return None


def _condition(node: Node, given: dict[str, Any], report: Report) -> None:
    fields = read(node, table(*CONDITIONS), report)
    names = {"path_pattern": "path", "host_header": "host", "http_request_method": "method"}
    for kind, found in fields.items():
        if kind == "source_ip":
            raise found.fail("conditions on addresses are not there")
        for inner in blocks(found):
            if kind == "query_string":
                pair = read(inner, table("key", "value"), report)
                key = text(pair["key"]) if "key" in pair else None
                given.setdefault("query", []).append((key, text(need(inner, pair, "value"))))
                continue
            regex = "expressions are not there; values"
            known = table("values", *(["http_header_name"] if kind == "http_header" else []))
            if "regex_values" in inner.value:
                raise inner.value["regex_values"].fail(regex)
            part = read(inner, known, report)
            values = [text(one) for one in items(need(inner, part, "values"))]
            if kind == "http_header":
                given.setdefault("headers", {})[text(need(inner, part, "http_header_name"))] = values
            elif names[kind] in given:
                raise inner.fail(f"a rule has one {kind}")
            else:
                given[names[kind]] = values


__all__ = ["Defaults", "resources", "stray"]
