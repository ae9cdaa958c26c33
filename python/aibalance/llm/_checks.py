"""Numbers that settings may be."""

from __future__ import annotations

import math
from typing import Any

from .._picker import wrong

__all__ = ["at_least", "positive", "text", "whole_from"]


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive(field: str, value: Any) -> float:
    """A finite number above 0."""
    if not _real(value) or value <= 0:
        raise wrong(field, value, "a finite number above 0")
    return float(value)


def at_least(field: str, value: Any, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number of `least` or more, up to `most`."""
    if not _real(value) or not least <= value <= most:
        limit = "" if most == math.inf else f" to {most:g}"
        raise wrong(field, value, f"a finite number of {least:g}{limit or ' or more'}")
    return float(value)


def whole_from(field: str, value: Any, least: int) -> int:
    """A whole number of `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise wrong(field, value, f"a whole number of {least} or more")
    return value


def text(field: str, value: Any) -> str:
    """A str that is not empty."""
    if not isinstance(value, str) or not value:
        raise wrong(field, value, "a str that is not empty")
    return value
