"""Named checks: what an answer has to say, and what follows when it does not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .._errors import ConfigError, FormatError

Action = Literal["restart", "replace", "reload_model", "scale_up", "stop_sending"]
Effect = Literal["unhealthy", "degraded", "drain"]
Outcome = Literal["pass", "degraded", "warming", "fail"]
ACTIONS: tuple[Action, ...] = ("restart", "replace", "reload_model", "scale_up", "stop_sending")
EFFECTS: tuple[Effect, ...] = ("unhealthy", "degraded", "drain")
WARM_UP = ("model_loaded", "inference_test")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class CheckRule:
    """One named check: what follows when it fails.

    It holds when it is true, or, with a `limit`, a number below it. When it fails, the endpoint is `"unhealthy"`, or
    `"degraded"`, or, after as many failures as the checker's threshold, `"drain"`: no new work until it holds again;
    and `action` is asked for.

    Raises ConfigError, naming the field.

    >>> CheckRule("memory_percent", "scale_up", limit=90, effect="degraded").holds(91.5)
    False
    """

    name: str
    action: Action
    limit: float | None = None
    effect: Effect = "unhealthy"

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name:
            raise ConfigError(f"name: {self.name!r} is not allowed; a text that is not empty")
        if self.action not in ACTIONS:
            raise ConfigError(f"action: {self.action!r} is not allowed; one of {', '.join(ACTIONS)}")
        if self.effect not in EFFECTS:
            raise ConfigError(f"effect: {self.effect!r} is not allowed; one of {', '.join(EFFECTS)}")
        if self.limit is not None and not (_is_number(self.limit) and math.isfinite(self.limit)):
            raise ConfigError(f"limit: {self.limit!r} is not allowed; a finite number, or None")

    def holds(self, value: object) -> bool | None:
        """Whether a value is right; None when it is neither true, false, nor a number that a limit can judge."""
        if isinstance(value, bool):
            return value
        if self.limit is not None and _is_number(value):
            return bool(value < self.limit)  # type: ignore[operator]  # NaN is below nothing
        return None


DEFAULT_RULES: tuple[CheckRule, ...] = (
    CheckRule("model_loaded", "restart"),
    CheckRule("gpu_available", "replace"),
    CheckRule("inference_test", "reload_model"),
    CheckRule("memory_percent", "scale_up", 90, "degraded"),
    CheckRule("gpu_memory_percent", "scale_up", 85, "degraded"),
    CheckRule("queue", "scale_up", 100, "degraded"),
    CheckRule("db_connected", "stop_sending", None, "drain"),
)


def default_rules() -> tuple[CheckRule, ...]:
    """The rules that are used when none are given: model, GPU, test inference, memory, GPU memory, queue, database.

    >>> [rule.name for rule in default_rules() if rule.effect == "drain"]
    ['db_connected']
    """
    return DEFAULT_RULES


def check_rules(table: Mapping[str, Any], /) -> tuple[CheckRule, ...]:
    """Rules from a table such as `[health.checks]` of a configuration file: check → action, or → limit and action.

    `memory_below_percent` is a limit on `memory_percent`, `queue_below` one on `queue`; actions may be written with
    spaces. A check with a limit degrades, one with "stop sending" drains, and any other makes unhealthy.

    Raises ConfigError, naming the entry.

    >>> check_rules({"model_loaded": "restart", "queue_below": {"limit": 100, "action": "scale up"}})[1]
    CheckRule(name='queue', action='scale_up', limit=100, effect='degraded')
    """
    rules = []
    for name, entry in table.items():
        given = {"action": entry} if isinstance(entry, str) else entry
        if not isinstance(given, Mapping) or set(given) - {"limit", "action"} or "action" not in given:
            raise ConfigError(f"{name}: {entry!r} is not allowed; an action, or a table of limit and action")
        action, limit = str(given["action"]).replace(" ", "_"), given.get("limit")
        effect: Effect = "degraded" if limit is not None else "drain" if action == "stop_sending" else "unhealthy"
        plain = name.replace("_below_percent", "_percent").removesuffix("_below")
        try:
            rules.append(CheckRule(plain, action, limit, effect))  # type: ignore[arg-type]  # checked there
        except ConfigError as wrong:
            raise ConfigError(f"{name}: {wrong}") from None
    return tuple(rules)


@dataclass(frozen=True)
class ProbeResult:
    """What one probe saw: whether it passed, why not, and the named checks of its answer, if there were any.

    >>> ProbeResult(False, "connection refused").ok
    False
    """

    ok: bool
    reason: str = ""
    checks: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Verdict:
    """What the rules make of a probe's result."""

    outcome: Outcome
    reason: str
    failed: Mapping[str, object] = field(default_factory=dict)
    """The rules that do not hold, with the values."""
    known: frozenset[str] | None = None
    """The rules that the answer had a value for; None for an answer without named checks."""
    waiting: Mapping[str, object] = field(default_factory=dict)
    """The parts of a warm-up that are not there yet, with the values."""
    loaded: bool | None = None
    inferred: bool | None = None


def judge(result: ProbeResult, rules: Iterable[CheckRule], *, warm: bool) -> Verdict:
    """What rules make of a result. An endpoint that is not `warm` may lack its model and its test inference."""
    if result.checks is None:
        return Verdict("pass" if result.ok else "fail", result.reason)
    failed: dict[str, object] = {}
    waiting: dict[str, object] = {}
    known = set()
    outcome: Outcome = "pass"
    reasons = []
    told: dict[str, bool] = {}
    for rule in rules:
        if rule.name not in result.checks:
            continue
        value = result.checks[rule.name]
        holds = rule.holds(value)
        known.add(rule.name)
        if rule.name in WARM_UP:
            told[rule.name] = bool(holds)
        if holds:
            continue
        if rule.name in WARM_UP and not warm:
            outcome = "warming" if outcome != "fail" else outcome
            reasons.append(f"{rule.name}: not yet")
            waiting[rule.name] = value
            continue
        failed[rule.name] = value
        reasons.append(f"{rule.name}: {value!r}" + ("" if rule.limit is None else f", limit {rule.limit:g}"))
        if rule.effect == "unhealthy":
            outcome = "fail"
        elif rule.effect == "degraded" and outcome == "pass":
            outcome = "degraded"
    if not result.ok and not reasons:
        outcome, reasons = "fail", [result.reason]
    loaded, inferred = map(told.get, WARM_UP)
    return Verdict(outcome, "; ".join(reasons), failed, frozenset(known), waiting, loaded, inferred)


def read_checks(body: bytes, *, max_depth: int = 8) -> dict[str, object]:
    """The named checks of a JSON body: `{"checks": {...}}` or the checks alone.

    Each is a value, or an object with the value as `value` or `ok`.

    Raises FormatError for a body that is none, or is nested deeper than `max_depth`.
    """
    if _depth(body) > max_depth:
        raise FormatError(f"body: nested deeper than {max_depth}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise FormatError(f"body: not JSON: {type(wrong).__name__}") from None
    found = document.get("checks", document) if isinstance(document, dict) else document
    if not isinstance(found, dict):
        raise FormatError("body: not an object of named checks")

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return value.get("value", value.get("ok"))
        return value

    # One spelling for a limit's check: `memory_below_percent` is `memory_percent`.
    return {name.replace("_below_percent", "_percent").removesuffix("_below"): plain(v) for name, v in found.items()}


def _depth(body: bytes) -> int:
    depth = deepest = 0
    text = escaped = False
    for byte in body:
        if text:
            text = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            text = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
