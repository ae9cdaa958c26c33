"""Terraform: load balancers, target groups, listener rules, scaling groups and their policies. Parsed by python-hcl2.

Source: the schema of Terraform's AWS provider, version 6. `*.tf.json` is read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._errors import FormatError
from . import _aws
from ._fields import ignore, json_as_yaml, suggestion, where
from ._yaml import Node, documents
from .model import Remark, Report

__all__ = ["read"]

META = {
    "depends_on": "order of creation decides nothing",
    "provider": "which account is meant decides nothing",
    "lifecycle": "what Terraform replaces decides nothing",
    "timeouts": "how long Terraform waits decides nothing",
    "tags": "labels decide nothing",
    "tags_all": "labels decide nothing",
    "tag": "labels decide nothing",
    "region": "where it stands decides nothing",
}
TOP = {
    "terraform": "settings of Terraform itself",
    "provider": "settings of Terraform itself",
    "variable": "read where it is used",
    "locals": "read where it is used",
    "output": "shows values only",
    "data": "is looked up by Terraform",
    "module": "other files are not followed: name them too",
    "moved": "settings of Terraform itself",
    "import": "settings of Terraform itself",
    "removed": "settings of Terraform itself",
    "check": "settings of Terraform itself",
}
# Blocks that stand in a resource, and in which.
INSIDE = {
    "mixed_instances_policy": "aws_autoscaling_group",
    "warm_pool": "aws_autoscaling_group",
    "instance_refresh": "aws_autoscaling_group",
    "target_tracking_configuration": "aws_autoscaling_policy",
    "step_adjustment": "aws_autoscaling_policy",
    "predictive_scaling_configuration": "aws_autoscaling_policy",
    "health_check": "aws_lb_target_group",
    "stickiness": "aws_lb_target_group",
    "condition": "aws_lb_listener_rule",
    "action": "aws_lb_listener_rule",
}


REFERENCE = re.compile(r"\$\{\s*((?:var|local)\.[\w-]+)\s*\}")
# Terraform's own defaults, where they are not the API's.
TERRAFORM = _aws.Defaults(healthy_threshold=3, unhealthy_threshold=3)


def read(files: Sequence[tuple[str, str]], report: Report) -> None:
    """Reads files, pairs of text and name, as one configuration into the report."""
    tops: list[Node] = []
    for text, source in files:

        def parse(text: str = text, source: str = source) -> None:
            tops.append(_json(text, source) if text.lstrip().startswith("{") else _tree(text, source))

        report.guard(source, parse)
    values: dict[str, Node] = {}
    for top in tops:
        values |= _values(top)
    resources: list[tuple[str, str, Node]] = []
    for top in tops:
        for name, blocks in top.value.items():
            for block in _each(blocks):
                report.guard(where(block), lambda n=name, b=block: _block(n, b, values, resources, report))  # type: ignore[misc]
    for _, _, node in resources:
        _resolve(node, values)
    _aws.resources(resources, META, report, TERRAFORM)


def _block(
    name: str,
    block: Node,
    values: Mapping[str, Node],
    resources: list[tuple[str, str, Node]],
    report: Report,
) -> None:
    if name == "resource":
        for kind, of_kind in _entries(block):
            resources += [(kind, label, node) for label, body in _entries(of_kind) for node in _each(body)]
    elif name in TOP:
        ignore(report, block, TOP[name])
    elif name in INSIDE:
        said = f"stands outside of any resource; it belongs into a resource {INSIDE[name]!r}"
        report.refused.append(Remark(where(block), name, said))
        _resolve(block, values)
        _aws.stray(name, block, report)
    else:
        close = suggestion(name, ["resource", *TOP, *INSIDE])
        report.refused.append(Remark(where(block), name, f"there is no such block; {close}"))


def _entries(node: Node) -> list[tuple[str, Node]]:
    if not isinstance(node.value, dict):
        raise node.fail(f"{node.shown()} is not allowed; a block is needed")
    return list(node.value.items())


def _each(node: Node) -> list[Node]:
    return list(node.value) if isinstance(node.value, list) else [node]


def _json(text: str, source: str) -> Node:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise FormatError(f"{source}:{line}: not JSON: {getattr(error, 'msg', error)}") from None
    # Every JSON text of these is YAML as well, and YAML's reader knows the lines.
    top = documents(json_as_yaml(text), source)[0]
    if not isinstance(top.value, dict):
        raise top.fail(f"{top.shown()} is not allowed; an object is needed")
    return top


def _tree(text: str, source: str) -> Node:
    try:
        import hcl2
        from hcl2.utils import SerializationOptions
    except ImportError:
        raise FormatError(f"{source}: reading Terraform needs the extra: pip install 'aibalance[terraform]'") from None
    options = SerializationOptions(strip_string_quotes=True, with_comments=False, explicit_blocks=False)
    last = text.count("\n") + 1
    try:
        top = hcl2.parses(text if text.endswith("\n") else text + "\n")
        return _body(top.body, 1, "", source, lambda rule: rule.serialize(options))
    except RecursionError:
        raise FormatError(f"{source}:1: blocks are nested too deeply") from None
    except FormatError:
        raise
    except Exception as error:
        # lark's errors; its transformer wraps what our code never sees.
        line = getattr(error, "line", None)
        said = str(error).partition("\n")[0]
        raise FormatError(f"{source}:{line if isinstance(line, int) and line > 0 else last}: not HCL: {said}") from None


def _body(body: Any, line: int, path: str, source: str, value_of: Callable[[Any], Any]) -> Node:
    fields: dict[str, Node] = {}
    keys: dict[str, int | None] = {}
    for child in body.children:
        kind = type(child).__name__
        at = getattr(getattr(child, "_meta", None), "line", line)
        if kind == "AttributeRule":
            name = str(child.identifier.serialize())
            below = f"{path}.{name}" if path else name
            if name in fields:
                raise FormatError(f"{source}:{at}: {below}: is there twice")
            fields[name], keys[name] = _value(value_of(child.expression), at, below, source), at
        elif kind == "BlockRule":
            words = [str(label.serialize()).strip('"') for label in child.labels]
            below = ".".join([path, *words] if path else words)
            inner = _body(child.body, at, below, source, value_of)
            # resource "type" "name" {} is {type: {name: {}}}.
            for word in reversed(words[1:]):
                inner = Node({word: inner}, at, below, source, {word: at})
            held = fields.setdefault(words[0], Node([], at, below, source))
            if not isinstance(held.value, list):
                raise FormatError(f"{source}:{at}: {below}: is there twice")
            keys.setdefault(words[0], at)
            held.value.append(inner)
    return Node(fields, line, path, source, keys)


def _value(value: Any, line: int, path: str, source: str) -> Node:
    if isinstance(value, Mapping):
        found = {str(k).strip('"'): _value(v, line, f"{path}.{k}", source) for k, v in value.items()}
        return Node(found, line, path, source, dict.fromkeys(found, line))
    if isinstance(value, list):
        return Node([_value(v, line, f"{path}[{i}]", source) for i, v in enumerate(value)], line, path, source)
    return Node(value, line, path, source)


def _values(top: Node) -> dict[str, Node]:
    """Defaults of variables, and locals, by the name that expressions have for them."""
    found: dict[str, Node] = {}
    for name in ("variable", "locals"):
        blocks = top.value.get(name)
        for block in _each(blocks) if blocks is not None else []:
            if not isinstance(block.value, dict):
                continue
            for key, node in block.value.items():
                body = _each(node)[0] if isinstance(node.value, list) and node.value else node
                if name == "locals":
                    found[f"local.{key}"] = node
                elif isinstance(body.value, dict) and "default" in body.value:
                    found[f"var.{key}"] = body.value["default"]
    return found


def _resolve(node: Node, values: Mapping[str, Node]) -> None:
    """Puts the values of variables and locals in the place of references to them, where they are literals."""
    if isinstance(node.value, dict):
        for child in node.value.values():
            _resolve(child, values)
    elif isinstance(node.value, list):
        for child in node.value:
            _resolve(child, values)
    for _ in range(20):
        found = REFERENCE.fullmatch(node.value) if isinstance(node.value, str) else None
        if found is None or found[1] not in values or isinstance(values[found[1]].value, (dict, list)):
            break
        node.value = values[found[1]].value
