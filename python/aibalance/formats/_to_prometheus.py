"""Alert rules for Prometheus: what a policy should keep from happening, and when it can do no more."""

from __future__ import annotations

import re
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    ExternalMetric,
    HorizontalPodAutoscaler,
    KedaScaledObject,
    PodsMetric,
    SimpleScaling,
    StepScaling,
    TargetTracking,
)
from ._to_aws import _single
from ._to_envoy import dumped
from ._written import Omitted
from .model import Imported, PolicyConfig, Remark


def write(found: Imported) -> tuple[str, list[Remark]]:
    """Groups of alert rules, one a policy."""
    remarks: list[Remark] = []
    groups: list[dict[str, Any]] = []
    for config in _single(found.policies):
        omitted = Omitted(config.name)
        rules = _rules(config, omitted)
        if rules:
            groups.append({"name": f"aibalance-{config.name}", "rules": rules})
        remarks += omitted.remarks
    for pool in found.pools:
        remarks.append(Remark(pool.name, "pool", "what a proxy calls its metrics is not known"))
    if not groups:
        raise ConfigError(f"policies: none of {len(found.policies)} has a metric that an alert can name")
    return dumped({"groups": groups}), remarks


def metric_name(name: str) -> str:
    """A name as Prometheus has it: GPUUtilization is gpu_utilization."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    found = re.sub(r"[^a-z0-9_:]", "_", snake, flags=re.ASCII)
    return found if re.match(r"[a-z_:]", found) else f"_{found}"


def _seconds(seconds: float) -> str:
    return f"{max(1, round(seconds))}s"


def _rule(config: PolicyConfig, kind: str, expr: str, hold: float, severity: str, summary: str) -> dict[str, Any]:
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", config.name)) or "Policy"
    return {
        "alert": f"{name if name[:1].isalpha() else 'X' + name}{kind}",
        "expr": expr,
        "for": _seconds(hold),
        "labels": {"severity": severity, "policy": config.name},
        "annotations": {"summary": summary.replace("{", "(").replace("}", ")")},
    }


def _rules(config: PolicyConfig, omitted: Omitted) -> list[dict[str, Any]]:
    policy = config.policy
    if isinstance(policy, TargetTracking):
        name = metric_name(policy.metric)
        omitted.say("metric", f"{policy.metric} is called {name} here")
        hold = policy.period * (policy.high_alarm[1] if policy.high_alarm else 1) + policy.warmup
        said = f"{name} is above its target {policy.target:g}, longer than scaling out takes"
        return [_rule(config, "AboveTarget", f"avg({name}) > {policy.target!r}", hold, "warning", said)]
    if isinstance(policy, (StepScaling, SimpleScaling)):
        name = metric_name(policy.metric)
        omitted.say("metric", f"{policy.metric} is called {name} here")
        points, periods = policy.alarm or (1, 1)
        if points != periods:
            omitted.say("alarm", f"{points} of {periods} periods are written as all of them")
        op = ">=" if policy.direction == "high" else "<="
        expr = f"avg_over_time({name}[{_seconds(policy.period)}]) {op} {policy.threshold!r}"
        said = f"the alarm of {config.name} has gone off"
        return [_rule(config, "Alarm", expr, policy.period * periods, "info", said)]
    if isinstance(policy, HorizontalPodAutoscaler):
        return _hpa(config, policy, omitted)
    if isinstance(policy, KedaScaledObject):
        return _keda(config, policy, omitted)
    omitted.say("policy", f"a {type(policy).__name__} has no metric that an alert can name")
    return []


def _hpa(config: PolicyConfig, policy: HorizontalPodAutoscaler, omitted: Omitted) -> list[dict[str, Any]]:
    from .._core import _parse_quantity

    label = f'{{horizontalpodautoscaler="{_quoted(config.name)}"}}'
    # Names of kube-state-metrics.
    most = "kube_horizontalpodautoscaler_spec_max_replicas"
    now = "kube_horizontalpodautoscaler_status_current_replicas"
    out = [
        _rule(
            config,
            "AtMaximum",
            f"{now}{label} >= {most}{label}",
            900,
            "warning",
            f"{config.name} has all {policy.max_replicas} replicas that it may have",
        )
    ]
    for metric in policy.metrics:
        if not isinstance(metric, (PodsMetric, ExternalMetric)) or metric.average_value is None:
            omitted.say(metric.name, "what it is called in Prometheus is not known")
            continue
        target = _parse_quantity(str(metric.average_value))[2]
        name = metric_name(metric.name)
        expr = (
            f"avg({name}) > {target!r}"
            if isinstance(metric, PodsMetric)
            else f"sum({name}) > {target!r} * {now}{label}"
        )
        said = f"{name} is above its target {target:g}, longer than scaling out takes"
        out.append(_rule(config, "AboveTarget", expr, 300, "warning", said))
    return out


def _keda(config: PolicyConfig, policy: KedaScaledObject, omitted: Omitted) -> list[dict[str, Any]]:
    out = []
    known = config.extra.get("triggers", ())
    for i, trigger in enumerate(policy.triggers):
        query = known[i]["metadata"].get("query") if i < len(known) else None
        if trigger.type != "prometheus" or not isinstance(query, str):
            omitted.say(trigger.name, "is not of Prometheus")
            continue
        most = policy.max_replicas if trigger.metric_type == "AverageValue" else 1
        limit = trigger.threshold * most
        said = f"{trigger.name} is more than {policy.max_replicas} replicas are meant to take"
        out.append(_rule(config, f"Overloaded{i or ''}", f"({query}) > {limit!r}", 300, "warning", said))
    return out


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
