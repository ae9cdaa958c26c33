"""Checks that name the field, the value and what is allowed."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from .._errors import ConfigError
from .._laws import Exponential, Law, number


def wrong(field: str, value: object, allowed: str) -> ConfigError:
    """The error about `field`."""
    return ConfigError(f"{field}: {value!r} is not allowed; expected {allowed}")


def overloaded(load: float, field: str = "arrival_rate") -> ConfigError:
    """The error about a queue that would grow for ever."""
    return ConfigError(
        f"{field}: the load per server is {load:g}; a queue that does not grow for ever needs less than 1"
    )


def whole(field: str, value: Any, low: int, high: int) -> int:
    """An int within `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise wrong(field, value, f"a whole number from {low} to {high}")
    return int(value)


def law_of(field: str, value: Any) -> Law:
    """A law; a number is the mean of an exponential one."""
    if isinstance(value, Law):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(field, value, "a law such as Exponential(mean=1.0), or a number, its mean")
    return Exponential(number(field, value, 0, above=True))


def numbers(field: str, values: Any, low: float, high: float = 1e12, *, above: bool = False) -> list[float]:
    """A list of at least one number."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise wrong(field, values, "a list of at least one number")
    found = [
        number(f"{field}[{i}]", one.item() if hasattr(one, "item") else one, 1e-12 if above else low, high)
        for i, one in enumerate(values)
    ]
    if not found:
        raise wrong(field, found, "a list of at least one number")
    return found


def choice(field: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in allowed:
        raise wrong(field, value, f"one of {', '.join(allowed)}")
    return value
