"""YAML with lines: each value of a document knows where it stands, so that a complaint can say so."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .._errors import ConfigError, FormatError

T = TypeVar("T")


@dataclass
class Node:
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

    def mapping(self, known: set[str]) -> dict[str, Node]:
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

    def items(self) -> list[Node]:
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

    def one_of(self, words: Mapping[str, T]) -> T:
        found = words.get(self.value) if isinstance(self.value, str) else None
        if found is None:
            near = difflib.get_close_matches(str(self.value), words, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.fail(f"{self.shown()} is not allowed; one of {', '.join(words)}{hint}")
        return found

    def need(self, fields: dict[str, Node], key: str) -> Node:
        if key not in fields:
            raise self.fail("the field is needed", path=self.below(key))
        return fields[key]

    def shown(self) -> str:
        if isinstance(self.value, dict):
            return "an object"
        return "a list" if isinstance(self.value, list) else repr(self.value)


def plain_nodes(value: Any, path: str, source: str) -> Node:
    """Nodes of a document that somebody else read: without lines."""
    if isinstance(value, Mapping):
        fields = {str(k): plain_nodes(v, f"{path}.{k}" if path else str(k), source) for k, v in value.items()}
        return Node(fields, None, path, source)
    if isinstance(value, (list, tuple)):
        return Node([plain_nodes(v, f"{path}[{i}]", source) for i, v in enumerate(value)], None, path, source)
    return Node(value, None, path, source)


def documents(text: str, source: str) -> list[Node]:
    try:
        import yaml
    except ImportError:
        raise FormatError(f"{source}: reading YAML needs the extra: pip install 'aibalance[kubernetes]'") from None
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise FormatError(f"{source}:{line}: not YAML: the character {e.character!r} is not allowed") from None

    def convert(node: Any, path: str, above: tuple[int, ...]) -> Node:
        line = node.start_mark.line + 1
        if id(node) in above:
            raise FormatError(f"{source}:{line}: {path}: an alias that contains itself")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            fields: dict[str, Node] = {}
            keys: dict[str, int | None] = {}
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                below = f"{path}.{name}" if path else name
                if name in fields:
                    raise FormatError(f"{source}:{key.start_mark.line + 1}: {below}: the field is there twice")
                fields[name] = convert(value, below, above)
                keys[name] = key.start_mark.line + 1
            return Node(fields, line, path, source, keys)
        if isinstance(node, yaml.SequenceNode):
            return Node([convert(v, f"{path}[{i}]", above) for i, v in enumerate(node.value)], line, path, source)
        return Node(loader.construct_object(node), line, path, source)

    found = []
    try:
        while loader.check_node():
            found.append(convert(loader.get_node(), "", ()))
    except FormatError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        # Tags such as !!int let through what their constructors raise.
        mark = getattr(e, "problem_mark", None) or loader.get_mark()  # type: ignore[no-untyped-call,unused-ignore]
        where = f"{source}:{mark.line + 1}"
        raise FormatError(f"{where}: not YAML: {getattr(e, 'problem', None) or e}") from None
    finally:
        loader.dispose()  # type: ignore[no-untyped-call,unused-ignore]
    return found


def load(manifest: str | os.PathLike[str] | Mapping[str, Any]) -> list[Node]:
    if isinstance(manifest, Mapping):
        return [plain_nodes(manifest, "", "manifest")]
    if isinstance(manifest, str) and "\n" in manifest:
        return documents(manifest, "manifest")
    if not isinstance(manifest, (str, os.PathLike)):
        raise ConfigError(f"manifest: {manifest!r} is not allowed; a path, YAML text or a mapping")
    path = Path(manifest)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise FormatError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from None
    return documents(text, str(path))
