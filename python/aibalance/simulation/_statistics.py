"""Intervals over replications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=1024)
def t_quantile(p: float, df: float) -> float:
    """The quantile of Student's t distribution with `df` degrees of freedom.

    By bisection of its distribution function, which is a regularised incomplete beta function (Abramowitz and Stegun
    26.7.1), here by Lentz's continued fraction (A&S 26.5.8). Good to 1e-9.

    >>> round(t_quantile(0.975, 19), 6)
    2.093024
    """
    if not 0 < p < 1 or df <= 0:
        return math.nan
    if p <= 0.5:
        return -t_quantile(1 - p, df) if p < 0.5 else 0.0
    low, high = 0.0, 2.0
    while _t_cdf(high, df) < p:
        high *= 2
        if high > 1e12:
            return math.inf
    for _ in range(200):
        mid = 0.5 * (low + high)
        if mid in (low, high):
            break
        if _t_cdf(mid, df) < p:
            low = mid
        else:
            high = mid
    return 0.5 * (low + high)


def _t_cdf(t: float, df: float) -> float:
    return 1 - 0.5 * _beta(df / (df + t * t), df / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    out = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            out *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return out


@dataclass(frozen=True)
class Interval:
    """A mean over replications with its 95 % t-interval; bounds are nan with fewer than two usable values."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "values": list(self.values)}


def interval(values: Sequence[float] | NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The mean of the finite values and its t-interval.

    >>> found = interval([1.0, 2.0, 3.0])
    >>> round(found.low, 3), found.mean, round(found.high, 3)
    (-0.484, 2.0, 4.484)
    """
    array = np.asarray(values, dtype=np.float64)
    usable = array[np.isfinite(array)]
    n = len(usable)
    mean = float(usable.mean()) if n else math.nan
    half = math.nan
    if n > 1:
        half = t_quantile(0.5 + confidence / 2, n - 1) * float(usable.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, tuple(float(one) for one in array))
