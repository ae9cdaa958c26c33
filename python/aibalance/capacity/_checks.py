"""What every configuration in here is checked with."""

from __future__ import annotations

from typing import Any

from .._errors import ConfigError

__all__ = ["count", "flag", "number", "one_of", "wrong"]

_MOST = 2**31 - 1


def wrong(field: str, value: object, allowed: str) -> ConfigError:
    """The error about a field: what it was, and what is allowed."""
    return ConfigError(f"{field}: {value!r} is not allowed; {allowed}")


def count(field: str, value: Any, low: int = 0, high: int = _MOST) -> int:
    """A whole number in a range; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise wrong(field, value, f"a whole number from {low} to {high}")
    return value


def number(field: str, value: Any, low: float = 0.0, high: float = 1e15, *, above: bool = False) -> float:
    """A number in a range, `low` itself left out if `above`; NaN, True and False are none."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if not fits or (above and value == low):
        raise wrong(field, value, f"a number {'above' if above else 'from'} {low:g} to {high:g}")
    return float(value)


def flag(field: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong(field, value, "True or False")
    return value


def one_of(field: str, value: Any, words: tuple[str, ...]) -> str:
    """One of several words."""
    if not isinstance(value, str) or value not in words:
        raise wrong(field, value, f"one of {', '.join(words)}")
    return value
