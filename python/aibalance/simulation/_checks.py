"""Checks that name the field, the value and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

from .._errors import ConfigError


def wrong(field: str, value: object, allowed: str) -> ConfigError:
    """The error about `field`."""
    return ConfigError(f"{field}: {value!r} is not allowed; expected {allowed}")


def number(field: str, value: Any, low: float, high: float, *, unit: str = "", above: bool = False) -> float:
    """A float within `low` to `high`; with `above`, `low` itself is not allowed."""
    allowed = f"{'more than' if above else 'at least'} {low:g} and at most {high:g}{' ' if unit else ''}{unit}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise wrong(field, value, f"a number, {allowed}")
    found = float(value)
    if not math.isfinite(found) or found > high or found < low or (above and found == low):
        raise wrong(field, value, allowed)
    return found


def seconds(field: str, value: Any, *, above: bool = False) -> float:
    """Seconds from 0 to 1e9."""
    return number(field, value, 0, 1e9, unit="seconds", above=above)


def whole(field: str, value: Any, low: int, high: int) -> int:
    """An int within `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise wrong(field, value, f"a whole number from {low} to {high}")
    return int(value)


def text(field: str, value: Any, *, empty: bool = False) -> str:
    """A str, not empty unless told."""
    if not isinstance(value, str) or not (value.strip() or empty):
        raise wrong(field, value, "a text")
    return value


def choice(field: str, value: Any, allowed: Collection[str]) -> str:
    """One of these words; a near miss gets a hint."""
    if not isinstance(value, str) or value not in allowed:
        raise wrong(field, value, f"one of {', '.join(allowed)}{hint(value, allowed)}")
    return value


def distinct(field: str, names: Sequence[str]) -> None:
    """Names that differ."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise wrong(f"{field}[{i}].name", name, "a name of its own")


def hint(value: object, allowed: Collection[str]) -> str:
    """`; did you mean x?` when one of the words is near."""
    lower = {word.lower(): word for word in allowed}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[near[0]]!r}?" if near else ""
