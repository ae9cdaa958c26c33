"""Manifests of Kubernetes, with file, line and field in every complaint."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .._errors import ConfigError, FormatError

if TYPE_CHECKING:
    from ..autoscaling import HorizontalPodAutoscaler

__all__ = ["read_hpa"]

KIND = "HorizontalPodAutoscaler"
T = TypeVar("T")


@dataclass
class _Node:
    """A value of a document with where it stands: a mapping of nodes, a list of nodes, or a plain value."""

    value: Any
    line: int | None
    path: str
    source: str
    keys: dict[str, int | None] = field(default_factory=dict)

    def fail(self, said: str, line: int | None = None, path: str | None = None) -> FormatError:
        at = line or self.line
        where = f"{self.source}:{at}" if at else self.source
        name = path if path is not None else self.path
        return FormatError(f"{where}: {name}: {said}" if name else f"{where}: {said}")

    def below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def mapping(self, known: set[str]) -> dict[str, _Node]:
        """The fields of an object; one that is not known is a typo."""
        if not isinstance(self.value, dict):
            raise self.fail(f"{self.shown()} is not allowed; an object is needed")
        for key in self.value:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                lower = [name for name in known if name.lower() == key.lower()]
                hint = (lower or near or [""])[0]
                said = f"did you mean {hint}?" if hint else f"the fields here are {', '.join(sorted(known))}"
                raise self.fail(f"there is no such field; {said}", self.keys.get(key), self.below(key))
        # A field that is null is a field that is not set.
        return {key: node for key, node in self.value.items() if node.value is not None}

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise self.fail(f"{self.shown()} is not allowed; a list is needed")
        return self.value

    def whole(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.fail(f"{self.shown()} is not allowed; a whole number is needed")
        return self.value

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fail(f"{self.shown()} is not allowed; a text is needed")
        return self.value

    def quantity(self) -> str:
        """A quantity, which YAML may have read as a number."""
        from .._core import _parse_quantity

        value = self.value
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.fail(f"{self.shown()} is not allowed; a quantity such as 500m is needed")
        text = value if isinstance(value, str) else f"{value}"
        try:
            _parse_quantity(text)
        except ConfigError as e:
            raise self.fail(str(e).removeprefix("quantity: ")) from None
        return text

    def one_of(self, words: Mapping[str, T]) -> T:
        found = words.get(self.value) if isinstance(self.value, str) else None
        if found is None:
            near = difflib.get_close_matches(str(self.value), words, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.fail(f"{self.shown()} is not allowed; one of {', '.join(words)}{hint}")
        return found

    def need(self, fields: dict[str, _Node], key: str) -> _Node:
        if key not in fields:
            raise self.fail("the field is needed", path=self.below(key))
        return fields[key]

    def shown(self) -> str:
        if isinstance(self.value, dict):
            return "an object"
        return "a list" if isinstance(self.value, list) else repr(self.value)


def _plain(value: Any, path: str, source: str) -> _Node:
    """Nodes of a document that somebody else read: without lines."""
    if isinstance(value, Mapping):
        fields = {str(k): _plain(v, f"{path}.{k}" if path else str(k), source) for k, v in value.items()}
        return _Node(fields, None, path, source)
    if isinstance(value, (list, tuple)):
        return _Node([_plain(v, f"{path}[{i}]", source) for i, v in enumerate(value)], None, path, source)
    return _Node(value, None, path, source)


def _documents(text: str, source: str) -> list[_Node]:
    try:
        import yaml
    except ImportError:
        raise FormatError(f"{source}: reading YAML needs the extra: pip install 'aibalance[kubernetes]'") from None
    loader = yaml.SafeLoader(text)

    def convert(node: Any, path: str, above: tuple[int, ...]) -> _Node:
        line = node.start_mark.line + 1
        if id(node) in above:
            raise FormatError(f"{source}:{line}: {path}: an alias that contains itself")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            fields: dict[str, _Node] = {}
            keys: dict[str, int | None] = {}
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                below = f"{path}.{name}" if path else name
                if name in fields:
                    raise FormatError(f"{source}:{key.start_mark.line + 1}: {below}: the field is there twice")
                fields[name] = convert(value, below, above)
                keys[name] = key.start_mark.line + 1
            return _Node(fields, line, path, source, keys)
        if isinstance(node, yaml.SequenceNode):
            return _Node([convert(v, f"{path}[{i}]", above) for i, v in enumerate(node.value)], line, path, source)
        return _Node(loader.construct_object(node), line, path, source)

    found = []
    try:
        while loader.check_node():
            found.append(convert(loader.get_node(), "", ()))
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        if isinstance(e, FormatError):
            raise
        mark = getattr(e, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise FormatError(f"{where}: not YAML: {getattr(e, 'problem', None) or e}") from None
    finally:
        loader.dispose()  # type: ignore[no-untyped-call,unused-ignore]
    return found


def _load(manifest: str | os.PathLike[str] | Mapping[str, Any]) -> list[_Node]:
    if isinstance(manifest, Mapping):
        return [_plain(manifest, "", "manifest")]
    if isinstance(manifest, str) and "\n" in manifest:
        return _documents(manifest, "manifest")
    if not isinstance(manifest, (str, os.PathLike)):
        raise ConfigError(f"manifest: {manifest!r} is not allowed; a path, YAML text or a mapping")
    path = Path(manifest)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise FormatError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from None
    return _documents(text, str(path))


def read_hpa(
    manifest: str | os.PathLike[str] | Mapping[str, Any], make: Callable[[dict[str, Any]], HorizontalPodAutoscaler]
) -> HorizontalPodAutoscaler:
    """The policy of a manifest; `make` gets the fields of the configuration."""
    documents = _load(manifest)
    found = [d for d in documents if isinstance(d.value, dict) and "kind" in d.value and d.value["kind"].value == KIND]
    if len(found) != 1:
        first = documents[0] if documents else _Node(None, None, "", "manifest")
        raise first.fail(f"one document of kind {KIND} is needed, there are {len(found)}", path="kind")
    top = found[0]
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


def _placed(spec: _Node, error: ConfigError) -> FormatError:
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


def _bounds(spec: _Node, fields: dict[str, _Node]) -> dict[str, Any]:
    spec.need(fields, "scaleTargetRef").mapping({"apiVersion", "kind", "name"})
    out = {"max_replicas": spec.need(fields, "maxReplicas").whole()}
    if "minReplicas" in fields:
        out["min_replicas"] = fields["minReplicas"].whole()
    return out


def _spec_v1(spec: _Node) -> dict[str, Any]:
    from ..autoscaling import ResourceMetric

    fields = spec.mapping({"scaleTargetRef", "minReplicas", "maxReplicas", "targetCPUUtilizationPercentage"})
    out = _bounds(spec, fields)
    if "targetCPUUtilizationPercentage" in fields:
        percent = fields["targetCPUUtilizationPercentage"].whole()
        out["metrics"] = [ResourceMetric("cpu", average_utilization=percent)]
    return out


def _spec_v2(spec: _Node) -> dict[str, Any]:
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


def _metric(node: _Node) -> Any:
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


def _target(node: _Node, allowed: tuple[str, ...]) -> dict[str, Any]:
    fields = node.mapping({"type", *OURS})
    kind = node.need(fields, "type").one_of(TARGETS)
    out: dict[str, Any] = {}
    for name, ours in OURS.items():
        if name in fields:
            if name not in allowed:
                raise fields[name].fail(f"this metric has {' or '.join(allowed)}")
            out[ours] = fields[name].whole() if name == "averageUtilization" else fields[name].quantity()
    if kind not in allowed:
        words = [word for word, name in TARGETS.items() if name in allowed]
        raise fields["type"].fail(f"{fields['type'].value!r} is not allowed; one of {', '.join(words)}")
    if not out:
        raise node.fail("the field is needed", path=node.below(kind))
    if allowed == ALLOWED["Object"] and OURS[kind] in out:
        # Only the one that the type names is read of an object; of others the average value wins.
        return {OURS[kind]: out[OURS[kind]]} if ".object." in f"{node.path}." else out
    return out


def _behavior(node: _Node) -> Any:
    from ..autoscaling import Behavior

    fields = node.mapping({"scaleUp", "scaleDown"})
    up, down = fields.get("scaleUp"), fields.get("scaleDown")
    return Behavior(scale_up=None if up is None else _rules(up), scale_down=None if down is None else _rules(down))


def _rules(node: _Node) -> Any:
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
        out["tolerance"] = _parse_quantity(fields["tolerance"].quantity())[3]
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
