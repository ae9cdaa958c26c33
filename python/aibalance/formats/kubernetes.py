"""Manifests of Kubernetes, with file, line and field in every complaint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import ConfigError, FormatError
from ._yaml import Node, load

if TYPE_CHECKING:
    from ..autoscaling import HorizontalPodAutoscaler

__all__ = ["read_hpa"]

KIND = "HorizontalPodAutoscaler"
T = TypeVar("T")


def _quantity(node: Node) -> str:
    """A quantity, which YAML may have read as a number."""
    from .._core import _parse_quantity

    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise node.fail(f"{node.shown()} is not allowed; a quantity such as 500m is needed")
    text = value if isinstance(value, str) else f"{value}"
    try:
        _parse_quantity(text)
    except ConfigError as e:
        raise node.fail(str(e).removeprefix("quantity: ")) from None
    return text


def read_hpa(
    manifest: str | os.PathLike[str] | Mapping[str, Any], make: Callable[[dict[str, Any]], HorizontalPodAutoscaler]
) -> HorizontalPodAutoscaler:
    """The policy of a manifest; `make` gets the fields of the configuration."""
    documents = load(manifest)
    found = [d for d in documents if isinstance(d.value, dict) and "kind" in d.value and d.value["kind"].value == KIND]
    if len(found) != 1:
        first = documents[0] if documents else Node(None, None, "", "manifest")
        raise first.fail(f"one document of kind {KIND} is needed, there are {len(found)}", path="kind")
    return from_node(found[0], make)


def from_node(top: Node, make: Callable[[dict[str, Any]], HorizontalPodAutoscaler]) -> HorizontalPodAutoscaler:
    """The policy of a document that was read; `make` gets the fields of the configuration."""
    fields = top.mapping({"apiVersion", "kind", "metadata", "spec", "status"})
    versions = {"autoscaling/v2": _spec_v2, "autoscaling/v1": _spec_v1}
    reader = top.need(fields, "apiVersion").one_of(versions)
    spec = top.need(fields, "spec")
    config = reader(spec)
    try:
        policy = make(config)
    except FormatError:
        raise
    except ConfigError as e:
        raise _placed(spec, e) from None
    outside = any(m._source in {"object", "external"} for m in policy.metrics)
    if policy.min_replicas == 0 and not (policy.scale_to_zero and outside):
        said = "0 is not allowed; 1 or more, 0 only with scale_to_zero=True and an Object or External metric"
        raise spec.value["minReplicas"].fail(said)
    return policy


# Our names of what only the whole configuration can tell is wrong, and theirs.
FOREIGN = {
    "min_replicas": "minReplicas",
    "max_replicas": "maxReplicas",
    "scale_up": "scaleUp",
    "scale_down": "scaleDown",
    "stabilization_window": "stabilizationWindowSeconds",
    "period": "periodSeconds",
}


def _placed(spec: Node, error: ConfigError) -> FormatError:
    name, _, said = str(error).partition(": ")
    node, path = spec, "spec"
    for part in name.replace("[", ".[").split("."):
        word = FOREIGN.get(part, part)
        path += word if word.startswith("[") else f".{word}"
        if isinstance(node.value, dict) and word in node.value:
            node = node.value[word]
        elif isinstance(node.value, list) and word.startswith("[") and int(word[1:-1]) < len(node.value):
            node = node.value[int(word[1:-1])]
    return node.fail(said, path=path)


def _bounds(spec: Node, fields: dict[str, Node]) -> dict[str, Any]:
    spec.need(fields, "scaleTargetRef").mapping({"apiVersion", "kind", "name"})
    out = {"max_replicas": spec.need(fields, "maxReplicas").whole()}
    if "minReplicas" in fields:
        out["min_replicas"] = fields["minReplicas"].whole()
    return out


def _spec_v1(spec: Node) -> dict[str, Any]:
    from ..autoscaling import ResourceMetric

    fields = spec.mapping({"scaleTargetRef", "minReplicas", "maxReplicas", "targetCPUUtilizationPercentage"})
    out = _bounds(spec, fields)
    if "targetCPUUtilizationPercentage" in fields:
        percent = fields["targetCPUUtilizationPercentage"].whole()
        out["metrics"] = [ResourceMetric("cpu", average_utilization=percent)]
    return out


def _spec_v2(spec: Node) -> dict[str, Any]:
    fields = spec.mapping({"scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "behavior"})
    out = _bounds(spec, fields)
    if "metrics" in fields and fields["metrics"].items():
        out["metrics"] = [_metric(node) for node in fields["metrics"].items()]
    if "behavior" in fields:
        out["behavior"] = _behavior(fields["behavior"])
    return out


SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
TARGETS = {"Utilization": "averageUtilization", "Value": "value", "AverageValue": "averageValue"}
OURS = {"averageUtilization": "average_utilization", "value": "value", "averageValue": "average_value"}
ALLOWED = {
    "Resource": ("averageUtilization", "averageValue"),
    "ContainerResource": ("averageUtilization", "averageValue"),
    "Pods": ("averageValue",),
    "Object": ("value", "averageValue"),
    "External": ("value", "averageValue"),
}


def _metric(node: Node) -> Any:
    from ..autoscaling import ExternalMetric, ObjectMetric, PodsMetric, ResourceMetric

    fields = node.mapping({"type", *SOURCES.values()})
    kind = node.need(fields, "type")
    section = kind.one_of(SOURCES)
    for other in fields:
        if other not in {"type", section}:
            said = f"the type is {kind.value}, whose section is {section}"
            raise node.fail(said, node.keys.get(other), node.below(other))
    source = node.need(fields, section)
    known = {"target"}
    if kind.value in {"Resource", "ContainerResource"}:
        known |= {"name", "container"} if kind.value == "ContainerResource" else {"name"}
    else:
        known |= {"metric", "describedObject"} if kind.value == "Object" else {"metric"}
    inner = source.mapping(known)
    targets = _target(source.need(inner, "target"), ALLOWED[kind.value])
    if "name" in known:
        name = source.need(inner, "name").text()
        container = source.need(inner, "container").text() if "container" in known else None
        return ResourceMetric(name, container=container, **targets)
    if "describedObject" in known:
        source.need(inner, "describedObject").mapping({"apiVersion", "kind", "name"})
    metric = source.need(inner, "metric")
    name = metric.need(metric.mapping({"name", "selector"}), "name").text()
    return {"Pods": PodsMetric, "Object": ObjectMetric, "External": ExternalMetric}[str(kind.value)](name, **targets)


def _target(node: Node, allowed: tuple[str, ...]) -> dict[str, Any]:
    fields = node.mapping({"type", *OURS})
    kind = node.need(fields, "type").one_of(TARGETS)
    out: dict[str, Any] = {}
    for name, ours in OURS.items():
        if name in fields:
            if name not in allowed:
                raise fields[name].fail(f"this metric has {' or '.join(allowed)}")
            out[ours] = fields[name].whole() if name == "averageUtilization" else _quantity(fields[name])
    if kind not in allowed:
        words = [word for word, name in TARGETS.items() if name in allowed]
        raise fields["type"].fail(f"{fields['type'].value!r} is not allowed; one of {', '.join(words)}")
    if not out:
        raise node.fail("the field is needed", path=node.below(kind))
    if allowed == ALLOWED["Object"] and OURS[kind] in out:
        # Only the one that the type names is read of an object; of others the average value wins.
        return {OURS[kind]: out[OURS[kind]]} if ".object." in f"{node.path}." else out
    return out


def _behavior(node: Node) -> Any:
    from ..autoscaling import Behavior

    fields = node.mapping({"scaleUp", "scaleDown"})
    up, down = fields.get("scaleUp"), fields.get("scaleDown")
    return Behavior(scale_up=None if up is None else _rules(up), scale_down=None if down is None else _rules(down))


def _rules(node: Node) -> Any:
    from ..autoscaling import ScalingPolicy, ScalingRules

    fields = node.mapping({"stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"})
    out: dict[str, Any] = {}
    if "stabilizationWindowSeconds" in fields:
        out["stabilization_window"] = fields["stabilizationWindowSeconds"].whole()
    if "selectPolicy" in fields:
        out["select_policy"] = fields["selectPolicy"].one_of({"Max": "max", "Min": "min", "Disabled": "disabled"})
    if "tolerance" in fields:
        from .._core import _parse_quantity

        # The API stores the canonical text, which may differ from this one in the last bit of its float.
        out["tolerance"] = _parse_quantity(_quantity(fields["tolerance"]))[3]
    if "policies" in fields:
        out["policies"] = []
        for item in fields["policies"].items():
            policy = item.mapping({"type", "value", "periodSeconds"})
            out["policies"].append(
                ScalingPolicy(
                    kind=item.need(policy, "type").one_of({"Pods": "pods", "Percent": "percent"}),
                    value=item.need(policy, "value").whole(),
                    period=item.need(policy, "periodSeconds").whole(),
                )
            )
    return ScalingRules(**out)
