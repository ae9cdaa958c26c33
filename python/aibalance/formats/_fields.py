"""Fields of foreign objects: which are mapped, which are ignored and why, and which are not known."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._errors import FormatError
from ._yaml import Node
from .model import Remark, Report

MAPPED = ""
"""In a table of fields: this one is read."""


def where(node: Node, line: int | None = None) -> str:
    """The file and the line of a node."""
    at = line or node.line
    return f"{node.source}:{at}" if at else node.source


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say about a name that is not known."""
    names = list(known)
    near = [n for n in names if n.lower() == name.lower()] or [n for n in names if name and n.startswith(name)]
    near = near or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known here are {', '.join(sorted(names))}"


def table(*mapped: str, **ignored: str) -> dict[str, str]:
    """A table of fields: the mapped ones, and the others with the reason why they are ignored."""
    return {**dict.fromkeys(mapped, MAPPED), **ignored}


def read(node: Node, known: Mapping[str, str], report: Report, extra: Sequence[str] = ()) -> dict[str, Node]:
    """The mapped fields of an object that are set; the others go to the report.

    `extra`: fields that there are, and that cannot be honoured.
    """
    if not isinstance(node.value, dict):
        raise node.fail(f"{node.shown()} is not allowed; an object is needed")
    found: dict[str, Node] = {}
    for key, value in node.value.items():
        line = node.keys.get(key) or value.line
        if key in extra:
            report.refused.append(
                Remark(where(node, line), node.below(key), "cannot be honoured: nothing here does that")
            )
        elif key not in known:
            said = f"there is no such field; {suggestion(key, [*known, *extra])}"
            report.refused.append(Remark(where(node, line), node.below(key), said))
        elif value.value is None:
            continue
        elif known[key]:
            ignore(report, value, known[key], line)
        else:
            found[key] = value
    return found


def ignore(report: Report, node: Node, reason: str, line: int | None = None) -> None:
    report.ignored.append(Remark(where(node, line), node.path, reason))


def approximate(report: Report, node: Node, reason: str) -> None:
    report.approximated.append(Remark(where(node), node.path, reason))


def bare(node: Node) -> Any:
    """The values without their lines."""
    if isinstance(node.value, dict):
        return {key: bare(value) for key, value in node.value.items()}
    return [bare(value) for value in node.value] if isinstance(node.value, list) else node.value


def number(node: Node, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number; text that says one will do, as in Terraform and protobuf's JSON."""
    value = node.value
    if isinstance(value, str):
        try:
            value = float(value) if any(c in value for c in ".eE") else int(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 2**63:
        raise node.fail(f"{node.shown()} is not allowed; a number is needed")
    if not low <= value <= high:
        raise node.fail(f"{node.shown()} is not allowed; {_range(low, high)}")
    return value


def whole(node: Node, low: int = 0, high: int = 2**31 - 1) -> int:
    """A whole number."""
    value = number(node)
    if value != int(value):
        raise node.fail(f"{node.shown()} is not allowed; a whole number is needed")
    if not low <= value <= high:
        raise node.fail(f"{node.shown()} is not allowed; a whole number {_range(low, high)}")
    return int(value)


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"of {low:g} or more" if math.isfinite(low) else ""
    return f"from {low:.15g} to {high:.15g}"


def truth(node: Node) -> bool:
    """True or false; Terraform also takes them as text."""
    words = {"true": True, "false": False}
    if isinstance(node.value, bool):
        return node.value
    if isinstance(node.value, str) and node.value in words:
        return words[node.value]
    raise node.fail(f"{node.shown()} is not allowed; true or false is needed")


def text(node: Node) -> str:
    """Text that is not empty."""
    if not isinstance(node.value, str) or not node.value:
        raise node.fail(f"{node.shown()} is not allowed; a text is needed")
    return node.value


def need(node: Node, fields: Mapping[str, Node], key: str) -> Node:
    if key not in fields:
        raise node.fail("the field is needed", path=node.below(key))
    return fields[key]


def items(node: Node) -> list[Node]:
    if not isinstance(node.value, list):
        raise node.fail(f"{node.shown()} is not allowed; a list is needed")
    return node.value


def seconds(node: Node) -> float:
    """A duration of protobuf: "1.5s"."""
    value = node.value
    if isinstance(value, str) and value.endswith("s"):
        try:
            found = float(value[:-1])
        except ValueError:
            found = math.nan
        if math.isfinite(found) and found >= 0:
            return found
    raise node.fail(f'{node.shown()} is not allowed; seconds such as "1.5s" are needed')


def json_as_yaml(text: str) -> str:
    """JSON as YAML's reader takes it, line by line the same; other text as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text

    def pair(found: re.Match[str]) -> str:
        return chr(0x10000 + ((int(found[1], 16) - 0xD800) << 10) + int(found[2], 16) - 0xDC00)

    # A tab is white space in JSON and never in a string; characters beyond 16 bits are two escapes there.
    joined = re.sub(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", pair, text, flags=re.IGNORECASE)
    return joined.replace("\t", " ")


def decode(raw: bytes, source: str) -> str:
    """Text of a file. Raises FormatError with the line."""
    try:
        found = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FormatError(f"{source}:{line}: not UTF-8") from None
    if "\0" in found:
        raise FormatError(f"{source}:{found[: found.index(chr(0))].count(chr(10)) + 1}: a NUL byte is not allowed")
    return found
