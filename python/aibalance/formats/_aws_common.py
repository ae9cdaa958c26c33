"""References and blocks, as Terraform has them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ._fields import items
from ._yaml import Node


def blocks(node: Node) -> list[Node]:
    """The blocks of a name: a list of them, or the one."""
    found = items(node) if isinstance(node.value, list) else [node]
    for one in found:
        if not isinstance(one.value, dict):
            raise one.fail(f"{one.shown()} is not allowed; a block is needed")
    return found


def block(node: Node) -> Node:
    """The only block of a name."""
    found = blocks(node)
    if len(found) != 1:
        raise node.fail(f"{len(found)} blocks are not allowed; one is needed")
    return found[0]


def name_of(node: Node, label: str) -> str:
    """The name of a resource: what it says, if that is a literal, or else its label."""
    if isinstance(node.value, dict):
        for key in ("name", "alarm_name", "scheduled_action_name"):
            given = node.value.get(key)
            if given is not None and isinstance(given.value, str) and given.value and "${" not in given.value:
                return given.value
    return label


def label_of(node: Node, kinds: Collection[str], names: Mapping[tuple[str, str], str]) -> str:
    """The name of the resource that a field refers to: by reference, by ARN or by name."""
    value = node.value
    if not isinstance(value, str) or not value:
        raise node.fail(f"{node.shown()} is not allowed; a reference is needed")
    found = re.search(r"\b(aws_\w+)\.([\w-]+)(?:\[[^\]]*\])?\.", value)
    if found and found[1] in kinds:
        return names.get((found[1], found[2]), found[2])
    if found:
        raise node.fail(
            f"{node.shown()} is not allowed; it refers to a {found[1]}, not to {' or '.join(sorted(kinds))}"
        )
    if "${" in value:
        return value
    # arn:...:targetgroup/NAME/ID, arn:...:policyName/NAME
    arn = re.search(r":targetgroup/([^/]+)/", value) or re.search(r":autoScalingGroupName/([^:]+)$", value)
    return arn[1] if arn else value
