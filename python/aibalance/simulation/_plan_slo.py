"""Objectives as people write them, "p95 < 30s", and what a run says about them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._errors import ConfigError
from ._run import Report

_GRAMMAR = 'p50, p90, p95, p99, p99.9 or mean "<" a time in s or ms, or error "<" a share in %; commas between several'
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
_FORM = re.compile(r"\s*([\w.]+)\s*(<=?)\s*([0-9.eE+-]+)\s*(ms|s|%)?\s*$")

MOST_ERRORS = 0.01
"""What is asked of errors beside a mean, which says nothing of requests that were turned away."""


@dataclass(frozen=True)
class Objective:
    """One objective: `metric` ("p50", "p90", "p95", "p99", "p99.9", "mean", "error") stays below `limit`.

    The limit is in seconds, for "error" a share from 0 to 1. A percentile is of all requests: one that was rejected or
    failed never came back, so it counts as infinitely late; one that timed out counts with its timeout. A mean is of
    those that were answered or timed out. Errors are all requests without an answer.

    >>> Objective.parse("p95 < 1500 ms")
    [Objective(metric='p95', limit=1.5)]
    >>> [str(one) for one in Objective.parse("p99 < 2s, error < 0.5 %")]
    ['p99 < 2 s', 'error < 0.5 %']
    """

    metric: str
    limit: float

    @staticmethod
    def parse(text: str) -> list[Objective]:
        """The objectives in a text. Raises ConfigError that says what is wrong and what is allowed."""
        if not text.strip():
            raise ConfigError(f"slo: {text!r} is not allowed; expected {_GRAMMAR}")
        return [_one(part) for part in text.split(",")]

    def __str__(self) -> str:
        if self.metric == "error":
            return f"error < {100 * self.limit:.6g} %"
        return f"{self.metric} < {self.limit:.6g} s"

    def value(self, report: Report) -> float:
        """What a run measured; infinite where too many requests have no answer."""
        return measured(self.metric, report)


def _one(part: str) -> Objective:
    found = _FORM.match(part)
    if not found:
        raise ConfigError(f"slo: {part.strip()!r} is not allowed; expected {_GRAMMAR}")
    metric, _, number, unit = found.groups()
    if metric not in (*_QUANTILES, "mean", "error"):
        raise ConfigError(f"slo: {metric!r} in {part.strip()!r} is not allowed; expected {_GRAMMAR}")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    wanted = ("%",) if metric == "error" else ("s", "ms")
    if unit not in wanted:
        have = f"{unit!r}" if unit else "no unit"
        raise ConfigError(f"slo: {have} in {part.strip()!r} is not allowed; {metric} is in {' or '.join(wanted)}")
    if not math.isfinite(limit) or limit <= 0 or (unit == "%" and limit > 100):
        most = ", at most 100" if unit == "%" else ""
        raise ConfigError(f"slo: {number} in {part.strip()!r} is not allowed; expected a number above 0{most}")
    return Objective(metric, limit * {"%": 0.01, "s": 1.0, "ms": 1e-3}[unit])


def objectives(slo: str | Objective | Sequence[str | Objective]) -> tuple[tuple[Objective, ...], str]:
    """All objectives that were asked for, and what had to be added, in words."""
    given: list[Any] = [slo] if isinstance(slo, str | Objective) else list(slo)
    for one in given:
        if not isinstance(one, str | Objective):
            raise ConfigError(f"slo: {one!r} is not allowed; expected {_GRAMMAR}")
    found = [each for one in given for each in ([one] if isinstance(one, Objective) else Objective.parse(one))]
    if not found:
        raise ConfigError(f"slo: nothing is asked; expected {_GRAMMAR}")
    metrics = [one.metric for one in found]
    for metric in metrics:
        if metrics.count(metric) > 1:
            raise ConfigError(f"slo: {metric} is asked for twice")
    added = ""
    if metrics == ["mean"]:
        found.append(Objective("error", MOST_ERRORS))
        added = f"A mean says nothing of requests that are turned away, so {found[-1]} is asked beside it."
    return tuple(found), added


def measured(metric: str, report: Report) -> float:
    """A metric of a whole run, by the rules of `Objective`."""
    of = report.all
    if not of.requests:
        return math.nan
    if metric == "error":
        return (of.rejected + of.timed_out + of.failed) / of.requests
    if metric == "mean":
        return of.mean_s
    _, high, counts = report.histogram
    # Without an answer and without a timeout: later than any time.
    rank = math.ceil(_QUANTILES[metric] * of.requests - 1e-9)
    below = np.cumsum(counts)
    at = int(np.searchsorted(below, rank))
    return float(high[at]) if at < len(high) else math.inf
