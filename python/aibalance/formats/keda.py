"""Scaled objects of KEDA, with file, line and field in every complaint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .._errors import ConfigError
from ..autoscaling.keda import Fallback, ScalingModifiers, Trigger, annotated
from ._yaml import Node, load

__all__ = ["read"]

KIND = "ScaledObject"

SPEC = {
    "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
    "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers",
}  # fmt: skip
BEHAVIORS = {
    b: b for b in ("static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers")
}
TYPES = {"AverageValue": "AverageValue", "Value": "Value"}
# Keys of a trigger's metadata that hold its target, by type; `threshold` for all that are not named here.
TARGETS = {
    "cpu": "value", "memory": "value", "kafka": "lagThreshold", "apache-kafka": "lagThreshold", "rabbitmq": "value",
    "aws-sqs-queue": "queueLength", "azure-servicebus": "messageCount", "azure-queue": "queueLength",
    "redis": "listLength", "redis-cluster": "listLength", "redis-streams": "pendingEntriesCount", "cron":
    "desiredReplicas", "metrics-api": "targetValue", "postgresql": "targetQueryValue", "mysql": "queryValue",
    "mssql": "targetValue", "mongodb": "queryValue", "aws-cloudwatch": "targetMetricValue",
    "aws-kinesis-stream": "shardCount", "azure-eventhub": "unprocessedEventThreshold", "azure-monitor": "targetValue",
    "gcp-pubsub": "value", "kubernetes-workload": "value", "influxdb": "thresholdValue", "graphite": "threshold",
    "nats-jetstream": "lagThreshold", "pulsar": "msgBacklogThreshold", "datadog": "queryValue",
    "prometheus": "threshold",
}  # fmt: skip
ACTIVATIONS = {
    "kafka": "activationLagThreshold", "apache-kafka": "activationLagThreshold", "rabbitmq": "activationValue",
    "aws-sqs-queue": "activationQueueLength", "azure-queue": "activationQueueLength",
    "azure-servicebus": "activationMessageCount", "redis": "activationListLength",
    "redis-cluster": "activationListLength", "metrics-api": "activationTargetValue",
    "postgresql": "activationTargetQueryValue", "mysql": "activationQueryValue", "mssql": "activationTargetValue",
    "mongodb": "activationQueryValue", "aws-cloudwatch": "activationTargetMetricValue", "gcp-pubsub": "activationValue",
    "kubernetes-workload": "activationValue", "influxdb": "activationThresholdValue",
    "nats-jetstream": "activationLagThreshold", "datadog": "activationQueryValue",
}  # fmt: skip
# The keys of a Prometheus trigger: others' are too many to know, and are left alone.
PROMETHEUS = {
    "serverAddress", "query", "threshold", "activationThreshold", "metricName", "namespace", "authModes", "unsafeSsl",
    "ignoreNullValues", "cortexOrgID", "customHeaders", "queryParameters", "timeout", "awsRegion",
    "azureManagedPrometheus",
}  # fmt: skip
FOREIGN = {
    "min_replicas": "minReplicaCount", "max_replicas": "maxReplicaCount", "idle_replicas": "idleReplicaCount",
    "cooldown_period": "cooldownPeriod", "initial_cooldown_period": "initialCooldownPeriod",
    "polling_interval": "pollingInterval", "modifiers": "advanced.scalingModifiers",
    "formula": "advanced.scalingModifiers.formula", "failure_threshold": "failureThreshold",
}  # fmt: skip


def read(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a policy. Raises FormatError with source, line and field."""
    documents = load(source)
    found = [d for d in documents if isinstance(d.value, dict) and "kind" in d.value and d.value["kind"].value == KIND]
    if len(found) != 1:
        first = documents[0] if documents else Node(None, None, "", "manifest")
        raise first.fail(f"one document of kind {KIND} is needed, there are {len(found)}", path="kind")
    return from_node(found[0])


def from_node(top: Node) -> dict[str, Any]:
    """The fields of the policy of a document that was read."""
    fields = top.mapping({"apiVersion", "kind", "metadata", "spec", "status"})
    top.need(fields, "apiVersion").one_of({"keda.sh/v1alpha1": "v1alpha1"})
    ignored: dict[str, str] = {}
    out: dict[str, Any] = {"ignored": ignored}
    if "metadata" in fields:
        _metadata(fields["metadata"], out)
    spec = top.need(fields, "spec")
    given = spec.mapping(SPEC)
    target = spec.need(given, "scaleTargetRef").mapping({"name", "kind", "apiVersion", "envSourceContainerName"})
    out["target_name"] = given["scaleTargetRef"].need(target, "name").text()
    if "kind" in target:
        out["target_kind"] = target["kind"].text()
    for key, name in (
        ("minReplicaCount", "min_replicas"),
        ("maxReplicaCount", "max_replicas"),
        ("idleReplicaCount", "idle_replicas"),
    ):
        if key in given:
            out[name] = given[key].whole()
    for key, name in (
        ("pollingInterval", "polling_interval"),
        ("cooldownPeriod", "cooldown_period"),
        ("initialCooldownPeriod", "initial_cooldown_period"),
    ):
        if key in given:
            out[name] = float(_count(given[key]))
    if "fallback" in given:
        out["fallback"] = _fallback(given["fallback"])
    triggers = spec.need(given, "triggers")
    out["triggers"] = [_trigger(node, i, ignored) for i, node in enumerate(triggers.items())]
    if "advanced" in given:
        _advanced(given["advanced"], out, ignored)
    _check(spec, out)
    return out


def _check(spec: Node, out: dict[str, Any]) -> None:
    """Asks the policy itself, so that what is wrong has a line."""
    from ..autoscaling.keda import KedaScaledObject

    try:
        KedaScaledObject(**out)
    except ConfigError as e:
        name, _, said = str(e).partition(": ")
        node, path = spec, "spec"
        for part in ".".join(FOREIGN.get(p, p) for p in name.replace("[", ".[").split(".")).split("."):
            path += part if part.startswith("[") else f".{part}"
            below = node.value
            if isinstance(below, dict) and part in below:
                node = below[part]
            elif isinstance(below, list) and part[1:-1].isdecimal() and int(part[1:-1]) < len(below):
                node = below[int(part[1:-1])]
        for ours, theirs in FOREIGN.items():
            said = said.replace(ours, theirs)
        raise node.fail(said, path=path) from None


def _metadata(node: Node, out: dict[str, Any]) -> None:
    if not isinstance(node.value, dict):
        raise node.fail(f"{node.shown()} is not allowed; an object is needed")
    if "name" in node.value:
        out["name"] = node.value["name"].text()
    if "annotations" in node.value and node.value["annotations"].value is not None:
        annotations = node.value["annotations"]
        if not isinstance(annotations.value, dict):
            raise annotations.fail(f"{annotations.shown()} is not allowed; an object is needed")
        out |= annotated({key: _word(value) for key, value in annotations.value.items()})


def _word(node: Node) -> str:
    """Text as KEDA sees it; YAML may have read a number or a truth value."""
    value = node.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise node.fail(f"{node.shown()} is not allowed; a text is needed")
    return str(value)


def _number(node: Node) -> float:
    try:
        number = float(_word(node))
    except ValueError:
        raise node.fail(f"{node.shown()} is not allowed; a number is needed") from None
    if not abs(number) < float("inf"):
        raise node.fail(f"{node.shown()} is not allowed; a finite number is needed")
    return number


def _count(node: Node) -> int:
    number = node.whole()
    if number < 0:
        raise node.fail(f"{number} is not allowed; a whole number of 0 or more is needed")
    return number


def _fallback(node: Node) -> Fallback:
    given = node.mapping({"failureThreshold", "replicas", "behavior"})
    return Fallback(
        failure_threshold=_count(node.need(given, "failureThreshold")),
        replicas=_count(node.need(given, "replicas")),
        behavior=given["behavior"].one_of(BEHAVIORS) if "behavior" in given else "static",  # type: ignore[arg-type]
    )


def _trigger(node: Node, i: int, ignored: dict[str, str]) -> Trigger:
    given = node.mapping({"type", "name", "metadata", "metricType", "useCachedMetrics", "authenticationRef"})
    kind = node.need(given, "type").text()
    meta = node.need(given, "metadata")
    if not isinstance(meta.value, dict):
        raise meta.fail(f"{meta.shown()} is not allowed; an object is needed")
    target = TARGETS.get(kind, "threshold")
    activation = ACTIVATIONS.get(kind, "activationThreshold")
    if kind == "prometheus":
        meta.mapping(PROMETHEUS)
    if "useCachedMetrics" in given:
        ignored[given["useCachedMetrics"].path] = "where values are kept does not change a decision"
    if "authenticationRef" in given:
        ignored[given["authenticationRef"].path] = "the trigger's values come from you"
    for key, value in meta.value.items():
        if key == "metricName":
            ignored[value.path] = "KEDA takes no name from it any more (removed in v2.13): the trigger's own is used"
        elif key not in (target, activation):
            ignored[value.path] = "says where the trigger's values come from, and they come from you"
    kinds = {**TYPES, "Utilization": "Utilization"} if kind in ("cpu", "memory") else TYPES
    default = "Utilization" if kind in ("cpu", "memory") else "AverageValue"
    name = given["name"].text() if "name" in given else f"s{i}-{kind}"
    threshold = _number(meta.need(meta.value, target))
    if not threshold > 0:
        raise meta.value[target].fail(f"{meta.value[target].shown()} is not allowed; a number above 0 is needed")
    return Trigger(
        name=name,
        type=kind,
        threshold=threshold,
        activation_threshold=_number(meta.value[activation]) if activation in meta.value else 0.0,
        metric_type=given["metricType"].one_of(kinds) if "metricType" in given else default,  # type: ignore[arg-type]
        metric_name=kind,
    )


def _advanced(node: Node, out: dict[str, Any], ignored: dict[str, str]) -> None:
    given = node.mapping({"restoreToOriginalReplicaCount", "horizontalPodAutoscalerConfig", "scalingModifiers"})
    if "restoreToOriginalReplicaCount" in given:
        ignored[given["restoreToOriginalReplicaCount"].path] = "it says what happens when the object is deleted"
    if "horizontalPodAutoscalerConfig" in given:
        hpa = given["horizontalPodAutoscalerConfig"].mapping({"name", "behavior"})
        if "name" in hpa:
            ignored[hpa["name"].path] = "the autoscaler's name does not change a decision"
        if "behavior" in hpa:
            hpa["behavior"].mapping({"scaleUp", "scaleDown"})
            out["behavior"] = _bare(hpa["behavior"])
    if "scalingModifiers" in given:
        place = given["scalingModifiers"]
        fields = place.mapping({"formula", "target", "activationTarget", "metricType"})
        out["modifiers"] = ScalingModifiers(
            formula=place.need(fields, "formula").text(),
            target=_word(place.need(fields, "target")),
            activation_target=_number(fields["activationTarget"]) if "activationTarget" in fields else 0.0,
            metric_type=fields["metricType"].one_of(TYPES) if "metricType" in fields else "AverageValue",  # type: ignore[arg-type]
        )


def _bare(node: Node) -> Any:
    """What a document says, without its lines."""
    if isinstance(node.value, dict):
        return {key: _bare(value) for key, value in node.value.items()}
    return [_bare(value) for value in node.value] if isinstance(node.value, list) else node.value
