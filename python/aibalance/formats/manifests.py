"""Kubernetes' manifests: HPA, KEDA's scaled objects and jobs, Knative's services; and Ray Serve's applications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._errors import ConfigError
from ..autoscaling import (
    HorizontalPodAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    ProportionalScaling,
    RayServeAutoscaler,
)
from . import keda, kubernetes
from ._fields import MAPPED, approximate, bare, ignore, items, need, number, read, table, text, where, whole
from ._yaml import Node
from .model import PolicyConfig, Remark, Report

__all__ = ["is_ray_serve", "read_documents", "read_ray_serve"]

LABELS = "labels and the like decide nothing"
STATUS = "what the cluster reported last decides nothing"


def read_documents(documents: Sequence[Node], report: Report) -> None:
    """Reads the documents of manifests into the report."""
    config: Node | None = None
    flat: list[Node] = []
    for top in documents:
        # kubectl writes several objects as one List.
        several = isinstance(top.value, dict) and _kind(top).endswith("List") and "items" in top.value
        flat += items(top.value["items"]) if several else [top]
    for top in flat:
        if _kind(top) == "ConfigMap" and _name(top) == "config-autoscaler":
            config = top
    for top in flat:
        report.guard(where(top), lambda t=top: _document(t, config, report))  # type: ignore[misc]


def _document(top: Node, config: Node | None, report: Report) -> None:
    if not isinstance(top.value, dict):
        raise top.fail(f"{top.shown()} is not allowed; an object with a kind is needed")
    kind = _kind(top)
    if not kind:
        raise top.fail("the field is needed", path="kind")
    version = top.value["apiVersion"].value if "apiVersion" in top.value else ""
    if kind == kubernetes.KIND:
        _hpa(top, report)
    elif kind == keda.KIND:
        _scaled_object(top, report)
    elif kind == "ScaledJob":
        _scaled_job(top, report)
    elif kind == "Service" and isinstance(version, str) and version.startswith("serving.knative.dev/"):
        _knative(top, config, report)
    elif top is config:
        ignore(report, top, "is read with the services of Knative")
    else:
        ignore(report, top, f"a {kind} decides neither picks nor sizes")


def _kind(top: Node) -> str:
    kind = top.value.get("kind") if isinstance(top.value, dict) else None
    return kind.value if kind is not None and isinstance(kind.value, str) else ""


def _name(top: Node) -> str:
    meta = top.value.get("metadata") if isinstance(top.value, dict) else None
    name = meta.value.get("name") if meta is not None and isinstance(meta.value, dict) else None
    return name.value if name is not None and isinstance(name.value, str) else ""


def _metadata(top: Node, report: Report, *mapped: str) -> None:
    """What stands in the metadata besides the name."""
    if "metadata" in top.value and isinstance(top.value["metadata"].value, dict):
        for key, node in top.value["metadata"].value.items():
            if key not in ("name", *mapped):
                ignore(report, node, LABELS, top.value["metadata"].keys.get(key))
    if "status" in top.value:
        ignore(report, top.value["status"], STATUS)


def _find(node: Node, path: str) -> Node | None:
    """The node of a path in a document."""
    children: list[Node] = []
    if isinstance(node.value, dict):
        children = list(node.value.values())
    elif isinstance(node.value, list):
        children = node.value
    for child in children:
        found = child if child.path == path else _find(child, path) if path.startswith(child.path) else None
        if found is not None:
            return found
    return None


# Kubernetes


def _hpa(top: Node, report: Report) -> None:
    gate = False

    def make(fields: dict[str, Any]) -> HorizontalPodAutoscaler:
        nonlocal gate
        gate = fields.get("min_replicas") == 0
        return HorizontalPodAutoscaler(**fields, scale_to_zero=gate)

    policy = kubernetes.from_node(top, make)
    spec = top.value["spec"].value
    extra: dict[str, Any] = {"scale_target": bare(spec["scaleTargetRef"])}
    if gate:
        approximate(report, spec["minReplicas"], "0 is taken as with the gate HPAScaleToZero")
    parts: list[dict[str, Any]] = []
    for node in spec["metrics"].value if "metrics" in spec and spec["metrics"].value else []:
        source = next(v for k, v in node.value.items() if k != "type")
        part: dict[str, Any] = {}
        if "describedObject" in source.value:
            part["describedObject"] = bare(source.value["describedObject"])
            ignore(report, source.value["describedObject"], "the metric's value comes from you")
        metric = source.value.get("metric")
        if metric is not None and "selector" in metric.value:
            part["selector"] = bare(metric.value["selector"])
            ignore(report, metric.value["selector"], "the metric's value comes from you")
        parts.append(part)
    if any(parts):
        extra["metrics"] = parts
    _metadata(top, report)
    target = str(spec["scaleTargetRef"].value["name"].value)
    report.policies.append(
        PolicyConfig(name=_name(top) or target, target=target, policy=policy, extra=extra, where=where(top))
    )


# KEDA


def _scaled_object(top: Node, report: Report) -> None:
    fields = keda.from_node(top)
    policy = KedaScaledObject(**fields)
    for path, reason in (policy.ignored or {}).items():
        node = _find(top, path)
        report.ignored.append(Remark(where(node if node is not None else top), path, reason))
    _metadata(top, report, "annotations")
    spec = top.value["spec"].value
    extra = {
        "scale_target": bare(spec["scaleTargetRef"]),
        "triggers": [_trigger(node) for node in spec["triggers"].value],
    }
    report.policies.append(
        PolicyConfig(name=policy.name, target=policy.target_name, policy=policy, extra=extra, where=where(top))
    )


def _trigger(node: Node) -> dict[str, Any]:
    """What a trigger is asked by: all but what the policy holds."""
    kind = str(node.value["type"].value)
    held = {keda.TARGETS.get(kind, "threshold"), keda.ACTIVATIONS.get(kind, "activationThreshold"), "metricName"}
    out: dict[str, Any] = {"metadata": {k: bare(v) for k, v in node.value["metadata"].value.items() if k not in held}}
    for key in ("authenticationRef", "useCachedMetrics"):
        if key in node.value:
            out[key] = bare(node.value[key])
    if "name" in node.value:
        out["name"] = node.value["name"].value
    return out


JOB_FIELDS = table(
    "minReplicaCount",
    "maxReplicaCount",
    "triggers",
    "scalingStrategy",
    jobTargetRef="what a job is made of decides nothing",
    pollingInterval="how often it is asked is the caller's",
    successfulJobsHistoryLimit="how many old jobs are kept decides nothing",
    failedJobsHistoryLimit="how many old jobs are kept decides nothing",
    envSourceContainerName="the trigger's values come from you",
    rollout="what becomes of old jobs is the operator's",
    rolloutStrategy="what becomes of old jobs is the operator's",
)


def _scaled_job(top: Node, report: Report) -> None:
    fields = read(top, table("apiVersion", "kind", "metadata", "spec", status=STATUS), report)
    need(top, fields, "apiVersion").one_of({"keda.sh/v1alpha1": "v1alpha1"})
    spec = need(top, fields, "spec")
    inner = read(spec, JOB_FIELDS, report)
    if "scalingStrategy" in inner:
        place = inner["scalingStrategy"]
        known = table("strategy", multipleScalersCalculation="there is one trigger")
        strategy = read(place, known, report, ["customScalingQueueLengthDeduction", "pendingPodConditions"])
        if "strategy" in strategy and strategy["strategy"].value not in ("default", "basic"):
            raise strategy["strategy"].fail(f"{strategy['strategy'].shown()} is not there; default")
    triggers = items(need(spec, inner, "triggers"))
    if len(triggers) != 1:
        raise inner["triggers"].fail(f"{len(triggers)} triggers are not allowed; one is needed")
    ignored: dict[str, str] = {}
    trigger = keda._trigger(triggers[0], 0, ignored)
    for path, reason in ignored.items():
        node = _find(top, path)
        report.ignored.append(Remark(where(node if node is not None else top), path, reason))
    policy = ProportionalScaling(
        metric=trigger.name,
        target=trigger.threshold,
        metric_type="total",
        min_capacity=whole(inner["minReplicaCount"]) if "minReplicaCount" in inner else 0,
        max_capacity=whole(inner["maxReplicaCount"], 1) if "maxReplicaCount" in inner else 100,
    )
    said = "jobs end by themselves and are never stopped: a smaller number only starts none"
    report.approximated.append(Remark(where(spec), spec.path, said))
    _metadata(top, report)
    name = _name(top) or "scaled-job"
    report.policies.append(
        PolicyConfig(name=name, target=name, policy=policy, extra={"kind": "ScaledJob"}, where=where(top))
    )


# Knative


def _knative(top: Node, config: Node | None, report: Report) -> None:
    _metadata(top, report)
    node, annotations, concurrency = top, None, 0
    for key in ("spec", "template"):
        if key == "template":
            for other, rest in node.value.items():
                if other != key:
                    ignore(report, rest, "where requests go decides nothing of it", node.keys.get(other))
        child = node.value.get(key) if isinstance(node.value, dict) else None
        if child is None or not isinstance(child.value, dict):
            raise node.fail("the field is needed", path=node.below(key))
        node = child
    meta = node.value.get("metadata")
    if meta is not None and isinstance(meta.value, dict):
        annotations = meta.value.get("annotations")
        for other, rest in meta.value.items():
            if other != "annotations":
                ignore(report, rest, LABELS, meta.keys.get(other))
    spec = node.value.get("spec")
    if spec is not None and isinstance(spec.value, dict):
        for key, child in spec.value.items():
            if key == "containerConcurrency":
                concurrency = whole(child)
            else:
                ignore(report, child, "what a pod is made of decides nothing", spec.keys.get(key))
    given: dict[str, str] = {}
    places: dict[str, Node] = {}
    if annotations is not None and annotations.value is not None:
        if not isinstance(annotations.value, dict):
            raise annotations.fail(f"{annotations.shown()} is not allowed; an object is needed")
        for key, child in annotations.value.items():
            if key.startswith(("autoscaling.knative.dev/", "serving.knative.dev/progress-deadline")):
                given[key] = keda._word(child)
                places[key] = child
            else:
                ignore(report, child, LABELS, annotations.keys.get(key))
    cluster: dict[str, str] = {}
    data = config.value.get("data") if config is not None else None
    if data is not None and isinstance(data.value, dict):
        for key, child in data.value.items():
            cluster[key] = keda._word(child)
            places.setdefault(key, child)
    try:
        policy = KnativePodAutoscaler.from_config(cluster, given, container_concurrency=concurrency)
    except ConfigError as error:
        key, _, said = str(error).partition(": ")
        place = places.get(key, annotations if annotations is not None else node)
        raise place.fail(said or str(error), path=key) from None
    name = _name(top) or "service"
    report.policies.append(PolicyConfig(name=name, target=name, policy=policy, where=where(top)))


# Ray Serve

RAY = {
    "target_ongoing_requests": "target_ongoing_requests",
    "min_replicas": "min_replicas",
    "max_replicas": "max_replicas",
    "initial_replicas": "initial_replicas",
    "upscaling_factor": "upscaling_factor",
    "downscaling_factor": "downscaling_factor",
    "upscale_delay_s": "upscale_delay",
    "downscale_delay_s": "downscale_delay",
    "downscale_to_zero_delay_s": "downscale_to_zero_delay",
}
RAY_IGNORED = {
    "metrics_interval_s": "how often it is measured is the caller's",
    "look_back_period_s": "over how long it is averaged is the caller's",
    "smoothing_factor": "was replaced by upscaling_factor and downscaling_factor",
    "aggregation_function": "how values are put together is the caller's",
}
WHOLE = {"min_replicas", "max_replicas", "initial_replicas"}


def is_ray_serve(top: Node) -> bool:
    """Whether a document is a configuration of Ray Serve."""
    if not isinstance(top.value, dict):
        return False
    keys = {"applications", "deployments", "autoscaling_config"}
    return bool(keys & top.value.keys()) or ("target_ongoing_requests" in top.value and "kind" not in top.value)


def read_ray_serve(top: Node, report: Report) -> None:
    """Reads a configuration of Ray Serve, or only an autoscaling_config, into the report."""
    found: list[tuple[str, Node]] = []
    if "applications" in top.value:
        for key, node in top.value.items():
            if key != "applications":
                ignore(report, node, "how Serve runs decides nothing", top.keys.get(key))
        for app in items(top.value["applications"]):
            if not isinstance(app.value, dict):
                raise app.fail(f"{app.shown()} is not allowed; an object is needed")
            for key, node in app.value.items():
                if key not in ("name", "deployments"):
                    ignore(report, node, "what an application is made of decides nothing", app.keys.get(key))
            found += [("", one) for one in items(app.value["deployments"])] if "deployments" in app.value else []
    elif "deployments" in top.value:
        found = [("", one) for one in items(top.value["deployments"])]
    elif "autoscaling_config" in top.value:
        found = [("deployment", top)]
    else:
        report.guard(where(top), lambda: _ray("deployment", top, report))
        return
    for fallback, node in found:

        def deployment(node: Node = node, fallback: str = fallback) -> None:
            if not isinstance(node.value, dict):
                raise node.fail(f"{node.shown()} is not allowed; an object is needed")
            name = text(node.value["name"]) if "name" in node.value else fallback
            for key, child in node.value.items():
                if key == "max_ongoing_requests":
                    ignore(report, child, "what a replica takes at once is the endpoint's max_inflight")
                elif key not in ("name", "autoscaling_config"):
                    ignore(report, child, "what a replica is made of decides nothing", node.keys.get(key))
            if "autoscaling_config" in node.value and node.value["autoscaling_config"].value is not None:
                _ray(name, node.value["autoscaling_config"], report)

        report.guard(where(node), deployment)


def _ray(name: str, node: Node, report: Report) -> None:
    known = {**dict.fromkeys(RAY, MAPPED), **RAY_IGNORED}
    fields = read(node, known, report, ["policy"])
    options: dict[str, Any] = {}
    for key, child in fields.items():
        options[RAY[key]] = whole(child) if key in WHOLE else float(number(child, 0, math.inf))
    # Ray's own default of the upper bound is 1, ours too.
    try:
        policy = RayServeAutoscaler(**options)
    except ConfigError as error:
        field, _, said = str(error).partition(": ")
        theirs = next((k for k, ours in RAY.items() if ours == field), field)
        raise fields.get(theirs, node).fail(said, path=node.below(theirs)) from None
    report.policies.append(PolicyConfig(name=name, target=name, policy=policy, where=where(node)))
