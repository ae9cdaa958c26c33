"""The comparison as the report reads it: `Comparison.to_dict()`, checked and typed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import ConfigError

__all__ = ["PHASES", "Candidate", "Comparison", "Difference", "Interval", "Metrics", "Spike", "parse"]

PHASES = ("all", "calm", "spike")


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over replications with its 95 % interval."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Metrics:
    requests: Interval
    mean_s: Interval
    p50_s: Interval
    p95_s: Interval
    p99_s: Interval
    within_slo: Interval
    rejected: Interval
    timed_out: Interval


@dataclass(frozen=True, slots=True)
class Spike:
    start_s: float
    end_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    description: str
    duration_s: float
    slo_s: float
    timeout_s: float
    seed: int
    replications: int
    requests: float
    spike: Spike | None
    traffic: str
    service: str
    fleet: str
    currency: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One balancer with one scaling policy."""

    name: str
    picker: str
    policy: str
    place: int
    """1 for the first in the ranking, and so on; ties have places of their own."""
    tied_with: tuple[str, ...]
    phases: Mapping[str, Metrics]
    servers_mean: Interval
    servers_peak: Interval
    cost: Interval
    cost_per_month: Interval
    timeline: Mapping[str, Sequence[float]]
    edges_s: Sequence[float]
    counts: Sequence[float]

    @property
    def all(self) -> Metrics:
        return self.phases["all"]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a candidate changes against the baseline, replication by replication."""

    name: str
    phase: str
    metric: str
    mean: float
    low: float
    high: float
    wins: int
    of: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    scenario: Scenario
    candidates: tuple[Candidate, ...]
    """Best first."""
    baseline: str
    differences: tuple[Difference, ...]
    sentence: str

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that hold requests: `all` alone when the traffic has no spike."""
        return tuple(phase for phase in PHASES if any(phase in one.phases for one in self.candidates))

    @property
    def policies(self) -> tuple[str, ...]:
        """Scaling policies, that of the best candidate first."""
        return tuple(dict.fromkeys(one.policy for one in self.candidates))


class _At:
    """A part of the dictionary that knows where it is, so that what is missing can be named."""

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def __getitem__(self, key: str) -> _At:
        where = f"{self.where}.{key}"
        if not isinstance(self.value, Mapping):
            raise ConfigError(f"{self.where}: {type(self.value).__name__}; must be a mapping with {key!r}")
        if key not in self.value:
            raise ConfigError(f"{where}: missing; a comparison is what Comparison.to_dict() returns")
        return _At(self.value[key], where)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and key in self.value

    def items(self) -> list[_At]:
        if not isinstance(self.value, list | tuple):
            raise ConfigError(f"{self.where}: {type(self.value).__name__}; must be a list")
        return [_At(one, f"{self.where}[{i}]") for i, one in enumerate(self.value)]

    def number(self) -> float:
        """A float; nan where nothing was measured (None)."""
        if self.value is None:
            return math.nan
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise ConfigError(f"{self.where}: {self.value!r}; must be a number")
        return float(self.value)

    def numbers(self) -> tuple[float, ...]:
        return tuple(one.number() for one in self.items())

    def text(self) -> str:
        return "" if self.value is None else str(self.value)

    def interval(self) -> Interval:
        return Interval(self["mean"].number(), self["low"].number(), self["high"].number(), self["values"].numbers())


def _metrics(at: _At) -> Metrics:
    return Metrics(**{field: at[field].interval() for field in Metrics.__slots__})


def _scenario(at: _At) -> Scenario:
    spike = at["spike"]
    return Scenario(
        spike=None if spike.value is None else Spike(*(spike[field].number() for field in Spike.__slots__)),
        name=at["name"].text(),
        description=at["description"].text(),
        duration_s=at["duration_s"].number(),
        slo_s=at["slo_s"].number(),
        timeout_s=at["timeout_s"].number(),
        requests=at["requests"].number(),
        traffic=at["traffic"].text(),
        service=at["service"].text(),
        fleet=at["fleet"].text(),
        currency=at["currency"].text(),
        seed=int(at["seed"].number()),
        replications=int(at["replications"].number()),
    )


def _candidate(at: _At, places: Mapping[str, tuple[int, tuple[str, ...]]]) -> Candidate:
    name = at["name"].text()
    if name not in places:
        raise ConfigError(f"{at.where}: {name!r} has no place in the ranking")
    phases = {phase: at["phases"][phase] for phase in PHASES}
    columns = ["t_s", "arrivals_per_s", "capacity", "desired", "in_system"]
    # What the ready servers could answer a second; a chart more where it is known.
    columns += ["capacity_rps"] if "capacity_rps" in at["timeline"] else []
    timeline = {key: at["timeline"][key].numbers() for key in columns}
    if len({len(column) for column in timeline.values()}) != 1:
        raise ConfigError(f"{at.where}.timeline: columns of different length")
    edges, counts = (at["latency_histogram"][key].numbers() for key in ("edges_s", "counts"))
    if counts and len(edges) != len(counts) + 1:
        raise ConfigError(
            f"{at.where}.latency_histogram: {len(edges)} edges for {len(counts)} counts; must be one more"
        )
    return Candidate(
        name=name,
        picker=at["picker"].text(),
        policy=at["policy"].text(),
        place=places[name][0],
        tied_with=places[name][1],
        phases={phase: _metrics(found) for phase, found in phases.items() if found.value is not None},
        servers_mean=at["servers"]["mean"].interval(),
        servers_peak=at["servers"]["peak"].interval(),
        cost=at["cost"]["total"].interval(),
        cost_per_month=at["cost"]["per_month"].interval(),
        timeline=timeline,
        edges_s=edges,
        counts=counts,
    )


def _difference(at: _At) -> Difference:
    return Difference(
        name=at["name"].text(),
        phase=at["phase"].text(),
        metric=at["metric"].text(),
        mean=at["mean"].number(),
        low=at["low"].number(),
        high=at["high"].number(),
        verdict=at["verdict"].text(),
        wins=int(at["wins"].number()),
        of=int(at["of"].number()),
    )


def parse(comparison: Mapping[str, Any]) -> Comparison:
    """Check and type what `Comparison.to_dict()` returns; ConfigError names a part that is missing or wrong."""
    at = _At(comparison, "comparison")
    ranking = at["ranking"].items()
    order = [one["name"].text() for one in ranking]
    places = {
        name: (place, tuple(other.text() for other in one["tied_with"].items()))
        for place, (name, one) in enumerate(zip(order, ranking, strict=True), start=1)
    }
    candidates = [_candidate(one, places) for one in at["candidates"].items()]
    if not candidates:
        raise ConfigError("comparison.candidates: empty; a report needs at least one")
    for one in candidates:
        if "all" not in one.phases:
            raise ConfigError(f"comparison.candidates: {one.name!r} has no phase 'all'")
    return Comparison(
        scenario=_scenario(at["scenario"]),
        candidates=tuple(sorted(candidates, key=lambda one: order.index(one.name))),
        baseline=at["baseline"].text(),
        differences=tuple(_difference(one) for one in at["differences"].items()),
        sentence=at["sentence"].text(),
    )
