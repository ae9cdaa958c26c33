"""Replays the recordings of Kubernetes' autoscaler: each record becomes one question to the public API."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from aibalance import ConfigError, MetricError
from aibalance.autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    ObjectMetric,
    Observation,
    Pods,
    PodsMetric,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
    hpa,
)

from .model import Result
from .recording import Record

Case = dict[str, Any]

# The recordings count from the instant of the decision; metrics and pods may be much older than a timeline.
ORIGIN_S = 10_000


def _seconds(at: float, offset_ms: int | None) -> float | None:
    return None if offset_ms is None else at + offset_ms / 1000


def _milli(value: int | None) -> str | None:
    return None if value is None else f"{value}m"


def _metric(kind: str, target: int, name: str, key: str, container: str | None) -> Any:
    percent = target if kind.endswith("_utilization") else None
    value = None if kind.endswith("_utilization") else _milli(target)
    match kind:
        case "resource_utilization" | "resource_value" | "container_resource_utilization" | "container_resource_value":
            inside = container if kind.startswith("container") else None
            return ResourceMetric(name, average_utilization=percent, average_value=value, container=inside, key=key)
        case "pods":
            return PodsMetric(name, average_value=value or "", key=key)
        case "object_value":
            return ObjectMetric(name, value=value, key=key)
        case "object_average":
            return ObjectMetric(name, average_value=value, key=key)
        case "external_value":
            return ExternalMetric(name, value=value, key=key)
        case "external_average":
            return ExternalMetric(name, average_value=value, key=key)
    raise ValueError(f"kind: {kind!r} is not known")


def _pod(pod: Case, at: float, resource: str) -> Case:
    ready = {"True": True, "False": False, "Unknown": "unknown", None: None}[pod.get("ready")]
    out: Case = {
        "name": pod["name"],
        "phase": pod["phase"].lower(),
        "deleted": bool(pod.get("deleted")),
        "ready": ready,
        "started": _seconds(at, pod.get("start_ms")),
        "containers": [
            {
                "name": c["name"],
                "requests": {resource: c["request"]} if c.get("request") is not None else {},
                "init": bool(c.get("init")),
                "sidecar": bool(c.get("init")) and c.get("restart_policy") == "Always",
            }
            for c in pod.get("containers") or []
        ],
    }
    if pod.get("ready_transition_ms") is not None:
        out["ready_since"] = _seconds(at, pod["ready_transition_ms"])
    if pod.get("pod_request") is not None:
        out["requests"] = {resource: pod["pod_request"]}
    return out


def _samples(values: Case, at: float) -> Case:
    return {
        name: (_milli(v["value"]), _seconds(at, v.get("ts_ms") or 0), (v.get("window_ms") or 60_000) / 1000)
        for name, v in values.items()
    }


def _observation(case: Case, at: float, resource: str, status: int, readings: list[tuple[str, Any]]) -> Observation:
    single: Case = {}
    each: Case = {}
    for key, value in readings:
        if isinstance(value, dict):
            each[key] = _samples(value, at)
        elif isinstance(value, list):
            single[key] = [_milli(v) for v in value]
        else:
            single[key] = _milli(value)
    pods = Pods([_pod(p, at, resource) for p in case.get("pods") or []], metrics=each)
    return Observation(case["current"], status=status, metrics=single, pods=pods)


def metric(records: list[Record]) -> Result:
    """One metric to replicas."""
    result = Result()
    for record in records:
        r: Case = record.plain()
        kind = r["kind"]
        resource = r.get("resource") or "cpu"
        per_pod = kind.startswith(("resource", "container", "pods"))
        value = r.get("metrics") if per_pod else r.get("values", r.get("value"))
        if r.get("metric_error"):
            value = None
        seen = _observation(
            {"current": r["current_replicas"], "pods": r.get("pods")},
            ORIGIN_S,
            resource,
            r.get("status_replicas", r["current_replicas"]),
            [("m", value)],
        )
        name = resource if kind.startswith(("resource", "container")) else "m"
        expected = {**r["out"], "error": bool(r["out"].get("error"))}
        try:
            p = hpa.replicas(
                _metric(kind, r["target"], name, "m", r.get("container")),
                seen,
                now=ORIGIN_S,
                tolerance=(r["tol_down"], r["tol_up"]),
                cpu_initialization_period=r["cpu_init_ms"] / 1000,
                initial_readiness_delay=r["readiness_delay_ms"] / 1000,
            )
        except MetricError:
            got: Case = dict.fromkeys(expected, 0)
            got["error"] = True
        else:
            got = {"replicas": p.replicas, "error": False}
            if kind.endswith("_utilization"):
                got |= {"utilization": p.utilization, "raw": p.usage_milli}
            else:
                got["usage"] = p.usage_milli
        result.check(f"{record.where} (id {r.get('id')}, {kind})", expected, got)
    return result


def _rules(rules: Case | None) -> ScalingRules | None:
    if rules is None:
        return None
    policies = rules.get("policies")
    select = rules.get("selectPolicy")
    return ScalingRules(
        stabilization_window=rules.get("stabilizationWindowSeconds"),
        select_policy=select.lower() if select else None,
        tolerance=rules.get("tolerance"),
        policies=None
        if policies is None
        else [ScalingPolicy(kind=p["type"].lower(), value=p["value"], period=p["periodSeconds"]) for p in policies],
    )


def _behavior(record: Case) -> Behavior | None:
    """As the user wrote it: what the API fills in is ours to fill in."""
    if record.get("behavior") is None:
        return None
    written = record.get("behavior_user")
    if written is None:
        written = record["behavior"]
    return Behavior(scale_up=_rules(written.get("scaleUp")), scale_down=_rules(written.get("scaleDown")))


Carry = Callable[[HorizontalPodAutoscaler], dict[str, Any]]


def through_json(policy: HorizontalPodAutoscaler) -> dict[str, Any]:
    """The memory, as another process would get it."""
    state: dict[str, Any] = json.loads(json.dumps(policy.state()))
    return state


def behavior(records: list[Record], carry: Carry | None = None) -> Result:
    """A raw recommendation to what is asked for. It is an external metric of target 1 here, without tolerance."""
    result = Result()
    for record in records:
        r = record.plain()
        rules = _behavior({**r, "behavior": None} if r.get("legacy") else r)

        def fresh(r: Case = r, rules: Behavior | None = rules) -> HorizontalPodAutoscaler:
            return HorizontalPodAutoscaler(
                min_replicas=r["min"],
                max_replicas=r["max"],
                metrics=[ExternalMetric("raw", average_value=1)],
                behavior=rules,
                tolerance=0,
                downscale_stabilization=r["controller_downscale_window_s"],
                scale_to_zero=r["min"] == 0,
            )

        policy = fresh()
        for i, step in enumerate(r["steps"]):
            if carry is not None and i:
                state = carry(policy)
                policy = fresh()
                policy.restore(state)
            seen = Observation(step["current"], status=step["current"], metrics={"raw": step["raw"]})
            rec = policy.recommend(seen, now=ORIGIN_S + step["t_ms"] / 1000)
            stages = dict(rec.trace)
            conditions = {name: [status, reason] for name, status, reason in rec.details["conditions"]}
            if rec.details["scaled_to"] is not None:
                # The recording looks before the write.
                able = "ReadyForNewScale"
                if stages["stabilization"] != stages["tolerance"]:
                    up = rules is not None and stages["tolerance"] >= step["current"]
                    able = "ScaleUpStabilized" if up else "ScaleDownStabilized"
                conditions["AbleToScale"] = ["True", able]
            got = {
                "stabilized": stages["stabilization"],
                "desired": rec.desired,
                "able": conditions["AbleToScale"],
                "limited": conditions["ScalingLimited"],
            }
            if step.get("scale_update_failed"):
                policy.rejected(rec)
            result.check(f"{record.where} (id {r.get('id')}), step {i}", {k: step[k] for k in got}, got)
    return result


def reconcile(records: list[Record], carry: Carry | None = None) -> Result:
    """The whole reconcile. An edit of the bounds is another policy that takes over the memory."""
    result = Result()
    for record in records:
        r = record.plain()
        names = [f"m{i}" for i in range(len(r["metrics"]))]
        metrics = [
            _metric(
                m["kind"], m["target"], "cpu" if m["kind"].startswith(("resource", "container")) else key, key, "c0"
            )
            for m, key in zip(r["metrics"], names, strict=True)
        ]
        rules = _behavior(r)

        def build(step: Case, r: Case = r, metrics: Any = metrics, rules: Any = rules) -> HorizontalPodAutoscaler:
            least = step.get("min")
            return HorizontalPodAutoscaler(
                min_replicas=1 if least is None else least,
                max_replicas=step["max"],
                metrics=metrics,
                behavior=rules,
                tolerance=r["controller_tolerance"],
                downscale_stabilization=r["controller_downscale_window_s"],
                cpu_initialization_period=r["cpu_init_ms"] / 1000,
                initial_readiness_delay=r["readiness_delay_ms"] / 1000,
                scale_to_zero=r["gate_scale_to_zero"],
            )

        policy: HorizontalPodAutoscaler | None = None
        bounds: Any = None
        for i, step in enumerate(r["steps"]):
            if policy is None or carry is not None or bounds != (step.get("min"), step["max"]):
                edited = build(step)
                if policy is not None:
                    edited.restore((carry or HorizontalPodAutoscaler.state)(policy))
                policy, bounds = edited, (step.get("min"), step["max"])
            at = ORIGIN_S + step["t_ms"] / 1000
            readings = list(zip(names, step["values"], strict=True))
            seen = _observation(step, at, "cpu", step["status_replicas"], readings)
            rec = policy.recommend(seen, now=at)
            scaled = rec.details["scaled_to"]
            error = rec.details["error"] is not None
            if scaled is not None and step.get("scale_update_fails"):
                policy.rejected(rec)
                scaled, error = None, True
            status = policy.status()
            last = status["last_scale"]
            got = {
                "scaled_to": scaled,
                "error": error,
                "status_current": rec.details["current_replicas"],
                "status_desired": status["desired_replicas"],
                "conditions": [list(c) for c in status["conditions"]],
                "last_scale_ms": None if last is None else round((last - ORIGIN_S) * 1000),
            }
            expected = {name: step["out"].get(name) for name in got}
            result.check(f"{record.where} (id {r.get('id')}), step {i}", expected, got)
    return result


def quantity(records: list[Record]) -> Result:
    """A text to numbers."""
    result = Result()
    for record in records:
        r = record.plain()
        try:
            q = hpa.parse_quantity(record.text("s"))
        except ConfigError:
            got: Case = {"error": True}
        else:
            got = q._asdict()
            if got["float"] > sys.float_info.max:
                got["float"] = None  # JSON has no infinity
        expected: Case = {"error": True} if r.get("error") else {name: r.get(name) for name in got}
        if isinstance(expected.get("float"), int):
            expected["float"] = float(expected["float"])  # written without a point
        result.check(f"{record.where} ({r['s']!r})", expected, got)
    return result
