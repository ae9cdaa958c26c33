"""Policies as manifests: HorizontalPodAutoscaler, ScaledObject, Knative's services, and Ray Serve's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    ObjectMetric,
    PodsMetric,
    ProportionalScaling,
    RayServeAutoscaler,
    ResourceMetric,
    ScalingRules,
    TargetTracking,
)
from ._to_envoy import dumped
from ._written import Omitted
from .keda import ACTIVATIONS, TARGETS
from .manifests import RAY
from .model import Imported, PolicyConfig, Remark

PAUSES = {
    "paused": "paused",
    "paused_scale_in": "paused-scale-in",
    "paused_scale_out": "paused-scale-out",
    "force_activation": "force-activation",
}


def write(found: Imported, to: str) -> tuple[str, list[Remark]]:
    """The policies that are of this kind, or near it; "hpa", "keda", "knative" or "ray-serve"."""
    makers = {"hpa": _hpa, "keda": _scaled_object, "knative": _knative, "ray-serve": _ray}
    remarks: list[Remark] = []
    written: list[Any] = []
    for policy in found.policies:
        omitted = Omitted(policy.name)
        made = makers[to](policy, omitted)
        if made is None:
            omitted.say("policy", f"a {type(policy.policy).__name__} is not one of {to}")
        else:
            written.append(made)
        remarks += omitted.remarks
    if not written:
        raise ConfigError(f"policies: none of {len(found.policies)} can be written as {to}")
    if to == "ray-serve":
        return dumped({"applications": [{"name": "app", "deployments": written}]}), remarks
    return "---\n".join(dumped(one) for one in written), remarks


def quantity(value: float | int | str) -> str:
    """A number as Kubernetes writes it."""
    if isinstance(value, str):
        return value
    if value == int(value):
        return str(int(value))
    milli = value * 1000
    return f"{round(milli)}m" if abs(milli - round(milli)) < 1e-9 else f"{value:.9g}"


def _whole(value: float, field: str, omitted: Omitted) -> int:
    if value != int(value):
        omitted.say(field, f"{value!r} is written as {round(value)}: whole numbers only")
    return round(value)


def _target(config: PolicyConfig) -> dict[str, Any]:
    given = config.extra.get("scale_target")
    if isinstance(given, Mapping):
        return dict(given)
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": config.target}


def _hpa(config: PolicyConfig, omitted: Omitted) -> dict[str, Any] | None:
    policy = config.policy
    if isinstance(policy, KedaScaledObject):
        omitted.say("policy", "KEDA's way to zero and its fallbacks are left out")
        spec = policy.hpa_manifest()["spec"]
        return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", config.name, spec)
    if isinstance(policy, TargetTracking):
        percent = policy.metric.lower() in ("cpu", "cpu_utilization", "asgaveragecpuutilization")
        said = "cpu" if percent else f"a Pods metric {policy.metric!r}"
        omitted.say(
            "policy", f"target tracking is written as an HPA with {said}: its tolerance and windows are the HPA's"
        )
        metric: Any = PodsMetric(policy.metric, average_value=policy.target)
        if percent:
            metric = ResourceMetric("cpu", average_utilization=_whole(policy.target, "target", omitted))
        rules = ScalingRules(select_policy="disabled") if policy.disable_scale_in else None
        policy = HorizontalPodAutoscaler(
            min_replicas=max(policy.min_capacity, 1),
            max_replicas=policy.max_capacity,
            metrics=[metric],
            behavior=None if rules is None else Behavior(scale_down=rules),
        )
    if not isinstance(policy, HorizontalPodAutoscaler):
        return None
    for field, default in (
        ("tolerance", 0.1),
        ("downscale_stabilization", 300.0),
        ("cpu_initialization_period", 300.0),
        ("initial_readiness_delay", 30.0),
    ):
        if getattr(policy, field) != default:
            omitted.say(field, "is a flag of the controller, which no manifest holds")
    parts = config.extra.get("metrics", ())
    metrics = [_metric(one, parts[i] if i < len(parts) else {}, omitted) for i, one in enumerate(policy.metrics)]
    out: dict[str, Any] = {
        "scaleTargetRef": _target(config),
        "minReplicas": policy.min_replicas,
        "maxReplicas": policy.max_replicas,
        "metrics": metrics,
    }
    if policy.behavior is not None:
        sides = (("scaleUp", policy.behavior.scale_up), ("scaleDown", policy.behavior.scale_down))
        out["behavior"] = {side: _rules(rules, omitted) for side, rules in sides if rules is not None}
    return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", config.name, out)


def _manifest(version: str, kind: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def _metric(metric: Any, part: Mapping[str, Any], omitted: Omitted) -> dict[str, Any]:
    if metric.key is not None:
        omitted.say("key", f"{metric.key!r} is ours only")
    if isinstance(metric, ResourceMetric):
        values = {"averageUtilization": metric.average_utilization, "averageValue": metric.average_value}
        kind = "Utilization" if metric.average_utilization is not None else "AverageValue"
        source: dict[str, Any] = {"name": metric.name}
        if metric.container is not None:
            source["container"] = metric.container
    else:
        given = metric.average_value
        whole = None if isinstance(metric, PodsMetric) else metric.value
        values = {"value": whole, "averageValue": given}
        kind = "AverageValue" if given is not None else "Value"
        source = {"metric": {"name": metric.name}}
        if "selector" in part:
            source["metric"]["selector"] = part["selector"]
        if isinstance(metric, ObjectMetric):
            described = part.get("describedObject")
            if described is None:
                omitted.say("describedObject", "is not known: fill it in")
                described = {"apiVersion": "v1", "kind": "Service", "name": metric.name.lower().replace("_", "-")}
            source["describedObject"] = described
    target: dict[str, Any] = {"type": kind}
    for name, value in values.items():
        if value is not None:
            target[name] = value if name == "averageUtilization" else quantity(value)
    names: tuple[tuple[type, str, str], ...] = (
        (PodsMetric, "Pods", "pods"),
        (ObjectMetric, "Object", "object"),
        (ExternalMetric, "External", "external"),
    )
    word, section = next(((w, s) for cls, w, s in names if isinstance(metric, cls)), ("Resource", "resource"))
    if isinstance(metric, ResourceMetric) and metric.container is not None:
        word, section = "ContainerResource", "containerResource"
    return {"type": word, section: {**source, "target": target}}


def _rules(rules: ScalingRules, omitted: Omitted) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if rules.stabilization_window is not None:
        out["stabilizationWindowSeconds"] = _whole(rules.stabilization_window, "stabilization_window", omitted)
    if rules.select_policy is not None:
        out["selectPolicy"] = rules.select_policy.capitalize()
    if rules.tolerance is not None:
        out["tolerance"] = quantity(rules.tolerance)
    if rules.policies is not None:
        out["policies"] = [
            {"type": one.kind.capitalize(), "value": one.value, "periodSeconds": _whole(one.period, "period", omitted)}
            for one in rules.policies
        ]
    return out


def _scaled_object(config: PolicyConfig, omitted: Omitted) -> dict[str, Any] | None:
    policy = config.policy
    if isinstance(policy, ProportionalScaling) and config.extra.get("kind") == "ScaledJob":
        omitted.say("policy", "what a job is made of is not known, so no ScaledJob is written")
        return None
    if not isinstance(policy, KedaScaledObject):
        return None
    spec: dict[str, Any] = {}
    target = config.extra.get("scale_target")
    kind = {} if policy.target_kind == "Deployment" else {"kind": policy.target_kind}
    spec["scaleTargetRef"] = dict(target) if isinstance(target, Mapping) else {**kind, "name": policy.target_name}
    for field, word in (
        ("min_replicas", "minReplicaCount"),
        ("max_replicas", "maxReplicaCount"),
        ("idle_replicas", "idleReplicaCount"),
    ):
        if getattr(policy, field) is not None:
            spec[word] = getattr(policy, field)
    for field, word, usual in (
        ("polling_interval", "pollingInterval", 30.0),
        ("cooldown_period", "cooldownPeriod", 300.0),
        ("initial_cooldown_period", "initialCooldownPeriod", 0.0),
    ):
        value = getattr(policy, field)
        if value != usual:
            spec[word] = _whole(value, field, omitted)
    if policy.fallback is not None:
        spec["fallback"] = {
            "failureThreshold": policy.fallback.failure_threshold,
            "replicas": policy.fallback.replicas,
        }
        # Older KEDAs do not have the field, and do what its default says.
        if policy.fallback.behavior != "static":
            spec["fallback"]["behavior"] = policy.fallback.behavior
    advanced: dict[str, Any] = {}
    if policy.behavior is not None:
        advanced["horizontalPodAutoscalerConfig"] = {"behavior": _plain(policy.behavior)}
    if policy.modifiers is not None:
        modifiers = policy.modifiers
        advanced["scalingModifiers"] = {
            "formula": modifiers.formula,
            "target": str(modifiers.target),
            "activationTarget": quantity(modifiers.activation_target),
            "metricType": modifiers.metric_type,
        }
    if advanced:
        spec["advanced"] = advanced
    known = config.extra.get("triggers", ())
    spec["triggers"] = []
    for i, trigger in enumerate(policy.triggers):
        given = known[i] if i < len(known) else None
        out: dict[str, Any] = {"type": trigger.type, "metadata": dict(given["metadata"]) if given else {}}
        if given is None or "name" in given:
            out["name"] = trigger.name
        if given is None and trigger.type not in ("cpu", "memory", "external"):
            omitted.say(f"triggers[{i}].metadata", "where its value comes from is not known: fill it in")
        out["metadata"][TARGETS.get(trigger.type, "threshold")] = f"{trigger.threshold:.15g}"
        if trigger.activation_threshold:
            activation = ACTIVATIONS.get(trigger.type, "activationThreshold")
            out["metadata"][activation] = f"{trigger.activation_threshold:.15g}"
        default = "Utilization" if trigger.type in ("cpu", "memory") else "AverageValue"
        if trigger.metric_type != default:
            out["metricType"] = trigger.metric_type
        for key in ("authenticationRef", "useCachedMetrics"):
            if given and key in given:
                out[key] = given[key]
        spec["triggers"].append(out)
    notes = {f"autoscaling.keda.sh/{word}": "true" for field, word in PAUSES.items() if getattr(policy, field)}
    if policy.paused_replicas is not None:
        notes["autoscaling.keda.sh/paused-replicas"] = str(policy.paused_replicas)
    if policy.created is not None:
        omitted.say("created", "is the cluster's")
    meta = {"annotations": notes} if notes else {}
    return _manifest("keda.sh/v1alpha1", "ScaledObject", config.name, spec, **meta)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


# Annotations of a revision, by field; the others are the cluster's config-autoscaler.
KNATIVE: dict[str, str] = {
    "metric": "metric",
    "target": "target",
    "stable_window": "window",
    "panic_window_percentage": "panic-window-percentage",
    "panic_threshold_percentage": "panic-threshold-percentage",
    "target_burst_capacity": "target-burst-capacity",
    "activation_scale": "activation-scale",
    "scale_down_delay": "scale-down-delay",
    "min_scale": "min-scale",
    "max_scale": "max-scale",
    "initial_scale": "initial-scale",
    "scale_to_zero_pod_retention_period": "scale-to-zero-pod-retention-period",
}
CLUSTER = (
    "default_target",
    "max_scale_up_rate",
    "max_scale_down_rate",
    "activator_capacity",
    "enable_scale_to_zero",
    "scale_to_zero_grace_period",
)


def _knative(config: PolicyConfig, omitted: Omitted) -> dict[str, Any] | None:
    policy = config.policy
    if not isinstance(policy, KnativePodAutoscaler):
        return None
    default = KnativePodAutoscaler()
    notes: dict[str, str] = {}
    for field, word in KNATIVE.items():
        value = getattr(policy, field)
        if value != getattr(default, field):
            seconds = field in ("stable_window", "scale_down_delay", "scale_to_zero_pod_retention_period")
            notes[f"autoscaling.knative.dev/{word}"] = f"{value:.15g}s" if seconds else _word(value)
    if policy.target_utilization != default.target_utilization:
        percent = f"{policy.target_utilization * 100:.12g}"
        notes["autoscaling.knative.dev/target-utilization-percentage"] = percent
    if policy.aggregation != "linear":
        notes["autoscaling.knative.dev/metric-aggregation-algorithm"] = "weighted-exponential"
    if policy.progress_deadline != default.progress_deadline:
        notes["serving.knative.dev/progress-deadline"] = f"{policy.progress_deadline:.15g}s"
    for field in CLUSTER:
        if getattr(policy, field) != getattr(default, field):
            omitted.say(field, "is the cluster's: config-autoscaler")
    spec: dict[str, Any] = {}
    if policy.container_concurrency:
        spec["containerConcurrency"] = policy.container_concurrency
    omitted.say("containers", "what a pod is made of is not known: fill it in")
    template: dict[str, Any] = {"metadata": {"annotations": notes}} if notes else {}
    return _manifest("serving.knative.dev/v1", "Service", config.name, {"template": {**template, "spec": spec}})


def _word(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _ray(config: PolicyConfig, omitted: Omitted) -> dict[str, Any] | None:
    policy = config.policy
    if not isinstance(policy, RayServeAutoscaler):
        return None
    default = RayServeAutoscaler()
    out: dict[str, Any] = {}
    for word, field in RAY.items():
        value = getattr(policy, field)
        if field in ("min_replicas", "max_replicas") or value != getattr(default, field):
            out[word] = value
    for field in ("target_capacity", "target_capacity_direction", "gang_size", "metric"):
        if getattr(policy, field) != getattr(default, field):
            omitted.say(field, "stands elsewhere in Serve")
    return {"name": config.name, "autoscaling_config": out}
