"""A policy from what one types: a manifest, a table as in scenarios, or a call as in Python."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import _toml
from .._errors import ConfigError, FormatError

__all__ = ["HELP", "Named", "read"]

HELP = (
    "a manifest (hpa.yaml, keda.yaml), a table as in scenarios (policy.toml, scenario.toml#NAME), or a call such as "
    "'TargetTracking(metric=\"cpu\", target=50, max_capacity=20)'"
)


@dataclass(frozen=True)
class Named:
    """A policy, and how it is called in what is printed."""

    name: str
    policy: Any


class Fixed:
    """As many servers as one said, whatever happens."""

    def __init__(self, servers: int) -> None:
        given: object = servers
        if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 2**31:
            raise ConfigError(f"servers: {servers!r} is not allowed; a whole number of 0 or more")
        self.servers = servers
        self.min_capacity = self.max_capacity = servers

    def recommend(self, observation: Any, /, *, now: float | None = None) -> Any:
        from ..autoscaling._told import counts, told

        current, asked, _ = counts(observation)
        return told(
            current=current,
            asked=asked,
            desired=self.servers,
            limited_by=None,
            reason=f"fixed at {self.servers}",
            trace={},
            serial=0,
            now=now or 0.0,
        )


def read(text: str) -> Named:
    """The policy. Raises ConfigError, and FormatError for files, with the field."""
    if re.match(r"\s*[A-Za-z_]\w*\s*\(", text):
        made = _called(text)
        return Named(type(made).__name__, made)
    path, _, part = text.partition("#")
    if not os.path.exists(path):
        if path.endswith((".yaml", ".yml", ".json", ".toml")):
            raise FormatError(f"{path}: cannot be read: no such file")
        raise ConfigError(f"policy: {text!r} is not allowed; {HELP}")
    if path.endswith((".yaml", ".yml", ".json")):
        return _manifest(path)
    if path.endswith(".toml"):
        return _tables(path, part)
    raise ConfigError(f"policy: {path}: unknown kind of file; .yaml, .yml, .json or .toml")


def _manifest(path: str) -> Named:
    from .. import autoscaling

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot be read: {error}") from None
    kinds = set(re.findall(r"""^\s*"?kind"?\s*:\s*["']?(HorizontalPodAutoscaler|ScaledObject)\b""", text, re.MULTILINE))
    base = os.path.basename(path)
    if kinds == {"HorizontalPodAutoscaler"}:
        return Named(base, autoscaling.HorizontalPodAutoscaler.from_manifest(os.fspath(_as_path(path))))
    if kinds == {"ScaledObject"}:
        return Named(base, autoscaling.KedaAutoscaler(autoscaling.KedaScaledObject.from_manifest(_as_path(path))))
    found = " and ".join(sorted(kinds)) or "neither"
    raise FormatError(f"{path}: kind: {found} is not allowed; one HorizontalPodAutoscaler or one ScaledObject")


def _as_path(path: str) -> Any:
    from pathlib import Path

    return Path(path)


def _classes() -> dict[str, Any]:
    """What may be called: the policies, their parts, and nothing else."""
    from .. import autoscaling
    from ..autoscaling import keda

    found: dict[str, Any] = {"Fixed": Fixed}
    for name in autoscaling.__all__:
        one = getattr(autoscaling, name)
        if inspect.isclass(one) and hasattr(one, "__dataclass_fields__"):
            found[name] = one
    for name in ("Fallback", "ScalingModifiers", "Trigger"):
        found[name] = getattr(keda, name)
    for name in ("Moment", "PolicyWarning", "Sample", "Timeline", "Workload"):
        found.pop(name, None)
    return found


def _make(name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    classes = _classes()
    if name not in classes:
        import difflib

        near = difflib.get_close_matches(name, classes, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; one of {', '.join(sorted(_policies(classes)))}"
        raise ConfigError(f"policy: {name!r} is not allowed{hint}")
    try:
        return classes[name](*arguments, **options)
    except TypeError as error:
        what = str(error).partition("() ")[2] or str(error)
        raise ConfigError(f"policy: {name}: {what}") from None


def _policies(classes: Mapping[str, Any]) -> list[str]:
    return [name for name, one in classes.items() if callable(getattr(one, "recommend", None))]


def _called(text: str) -> Any:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ConfigError(f"policy: {text!r} cannot be read: {said}") from None
    made = _node(tree, text)
    if not callable(getattr(made, "recommend", None)):
        raise ConfigError(f"policy: {text!r} is not allowed; it is no policy")
    return made


def _node(node: ast.expr, text: str) -> Any:
    """Only literals and calls of known classes: nothing that one types is executed."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            options = {}
            for one in keywords:
                if one.arg is None:
                    break
                options[one.arg] = _node(one.value, text)
            else:
                return _make(name, [_node(one, text) for one in args], options)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            found = [_node(one, text) for one in items]
            return tuple(found) if isinstance(node, ast.Tuple) else found
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_node(k, text): _node(v, text) for k, v in zip(keys, values, strict=True) if k is not None}
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise ConfigError(f"policy: {ast.unparse(node)!r} is not allowed; numbers, texts, lists and calls of policies")


def _tables(path: str, part: str) -> Named:
    file = _toml.read(path)
    document = file.values
    base = os.path.basename(path)
    if "policy" in document:
        if part:
            raise ConfigError(f"policy: {path}#{part}: there is one policy in the file, without a name to choose")
        return Named(str(document.get("name") or base), _table(file, document, {}, ""))
    tables = document.get("policies")
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise file.error("policy", "missing; the file has neither a policy nor [[policies]]")
    names = [str(one.get("name") or one.get("policy")) for one in tables]
    if not part and len(tables) > 1:
        raise ConfigError(f"policy: {path} has several; say which one: {', '.join(f'{path}#{n}' for n in names)}")
    if part and part not in names:
        raise ConfigError(f"policy: {path}#{part}: there is no such policy; {', '.join(names)}")
    index = names.index(part) if part else 0
    fleet = document.get("fleet", {})
    if not isinstance(fleet, dict):
        raise file.error("fleet", f"{fleet!r} is not allowed; a table")
    bounds = {f"{k}_capacity": fleet[k] for k in ("min", "max") if k in fleet}
    where = f"policies[{index}]"
    if tables[index].get("policy") == "Fixed" and "servers" not in tables[index].get("options", {}):
        return Named(names[index], Fixed(fleet.get("initial", 1)))
    return Named(names[index], _table(file, tables[index], bounds, where))


def _table(file: _toml.Document, table: Mapping[str, Any], bounds: Mapping[str, Any], where: str) -> Any:
    def at(field: str) -> str:
        return f"{where}.{field}" if where else field

    name = table.get("policy")
    if not isinstance(name, str):
        raise file.error(at("policy"), f"{name!r} is not allowed; the name of a policy")
    if "(" in name:
        return _called(name)
    given = {key: value for key, value in table.items() if key not in ("policy", "name", "options")}
    options = table.get("options", {})
    if not isinstance(options, Mapping):
        raise file.error(at("options"), f"{options!r} is not allowed; a table")
    # TOML has no null: no alarm is false.
    given |= {key: None if value is False and key.endswith("alarm") else value for key, value in options.items()}
    if "observes" in options:
        return _observed(file, name, given, bounds, at)
    cls = _classes().get(name)
    known = getattr(cls, "__dataclass_fields__", {})
    given = {key: value for key, value in bounds.items() if key in known and name != "Combined"} | given
    for key, value in given.items():
        if key == "steps" and name in ("StepScaling",) and isinstance(value, list):
            given[key] = [_make("Step", [], dict(one)) if isinstance(one, Mapping) else one for one in value]
        elif isinstance(value, Mapping) and "policy" in value:
            given[key] = _table(file, value, bounds, at(key))
        elif isinstance(value, list) and key == "policies":
            inner = at("options.policies") if key in options else at("policies")
            given[key] = [_table(file, one, bounds, f"{inner}[{i}]") for i, one in enumerate(value)]
        elif isinstance(value, list):
            # A part, such as a signal or a metric, is written as a call.
            given[key] = [_part(one) for one in value]
    try:
        return _make(name, [], given)
    except ConfigError as error:
        field, _, said = str(error).partition(": ")
        if field in options:
            raise file.error(at(f"options.{field}"), said) from None
        raise file.located(error, within=where) from None


def _observed(
    file: _toml.Document, name: str, given: dict[str, Any], bounds: Mapping[str, Any], at: Callable[[str], str]
) -> Any:
    """A policy with metrics of its own, as scenarios have it: here it is shown those, under their names."""
    from ..simulation import _observed as scenarios

    if name not in scenarios.NAMES:
        raise file.error(at("options.observes"), f"has no meaning for {name}; allowed for {', '.join(scenarios.NAMES)}")
    try:
        return scenarios.made(name, given, bounds.get("min_capacity"), bounds.get("max_capacity"))
    except ConfigError as error:
        field, _, said = str(error).partition(": ")
        raise file.error(at(f"options.{field}"), said) from None
    except TypeError as error:
        raise file.error(at("options"), str(error).partition("() ")[2] or str(error)) from None


def _part(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"\s*[A-Z]\w*\s*\(", value):
        return _node(ast.parse(value.strip(), mode="eval").body, value)
    return value
