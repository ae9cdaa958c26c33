"""The page: the comparison's numbers as rows of text, and the template that lays them out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from . import charts, numbers
from .model import Candidate, Comparison, Interval, Metrics

__all__ = ["render"]

_PHASE_NAMES = {"all": "Whole run", "calm": "Calm", "spike": "Spike"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A number and, small below it, its interval; `part` (0…1) draws a bar under shares."""

    text: str
    interval: str = ""
    part: float | None = None


def render(comparison: Comparison) -> str:
    environment = Environment(
        loader=PackageLoader("aibalance.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html.j2")
    return template.render(
        version=__version__,
        css=Markup(files("aibalance.report").joinpath("page.css").read_text(encoding="utf-8")),
        comparison=comparison,
        scenario=comparison.scenario,
        slo=numbers.clock(comparison.scenario.slo_s),
        facts=_facts(comparison),
        headline=_headline(comparison),
        ranking=[_ranking_row(comparison, one) for one in comparison.candidates],
        split="spike" in comparison.phases,
        details=[
            (
                phase,
                _PHASE_NAMES[phase],
                [_detail_row(one, one.phases[phase]) for one in comparison.candidates if phase in one.phases],
            )
            for phase in comparison.phases
        ],
        colors=charts.series_of(comparison),
        charts=_charts(comparison),
    )


def _charts(comparison: Comparison) -> dict[str, tuple[Markup, Markup] | None]:
    drawn: dict[str, tuple[Markup, Markup] | None] = {}
    for name, draw in (
        ("latency", charts.latency),
        ("traffic", charts.traffic),
        ("cost", charts.cost_against_slo),
        ("differences", charts.differences),
    ):
        # A single point has nothing to be weighed against.
        alone = name == "cost" and len(comparison.candidates) == 1
        pair = [None if alone else draw(comparison, wide=wide) for wide in (True, False)]
        drawn[name] = None if pair[0] is None or pair[1] is None else (Markup(pair[0]), Markup(pair[1]))
    return drawn


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    scenario = comparison.scenario
    balancers = len({one.picker for one in comparison.candidates})
    facts = [
        ("Traffic", scenario.traffic),
        ("Service", scenario.service),
        ("Fleet", scenario.fleet),
        ("Run", f"{numbers.clock(scenario.duration_s)}, {numbers.count(scenario.requests)} requests on average"),
        ("SLO", f"answered within {numbers.clock(scenario.slo_s)}"),
        (
            "Candidates",
            f"{_many(balancers, 'balancer', 'balancers')} × "
            f"{_many(len(comparison.policies), 'scaling policy', 'scaling policies')}, "
            f"{len(comparison.candidates)} in all",
        ),
        (
            "Replications",
            f"{scenario.replications}, the same arrivals and service times for every candidate; seed {scenario.seed}",
        ),
    ]
    if math.isfinite(scenario.timeout_s):
        facts.insert(5, ("Timeout", f"clients give up after {numbers.clock(scenario.timeout_s)}"))
    return [(name, text) for name, text in facts if text]


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _headline(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The winner in four numbers: what, value, and what stands beside it."""
    best, scenario = comparison.candidates[0], comparison.scenario
    calm, spike = best.phases.get("calm"), best.phases.get("spike")

    def apart(field: str, show: Any) -> str:
        parts = [f"{name} {show(getattr(one, field).mean)}" for name, one in (("calm", calm), ("spike", spike)) if one]
        # A value is not parted from its unit.
        return " · ".join(part.replace(" ", "\u00a0") for part in parts)

    return [
        (
            f"within {numbers.clock(scenario.slo_s)}",
            numbers.share(best.all.within_slo.mean),
            apart("within_slo", numbers.share),
        ),
        ("p99 latency", numbers.seconds(best.all.p99_s.mean), apart("p99_s", numbers.seconds)),
        ("servers, mean", numbers.count(best.servers_mean.mean), f"peak {numbers.count(best.servers_peak.mean)}"),
        (
            "cost of the run",
            numbers.money(best.cost.mean, scenario.currency),
            # An hour with a spike says nothing about a month.
            f"for {numbers.clock(scenario.duration_s)}"
            if scenario.spike
            else f"{numbers.money(best.cost_per_month.mean, scenario.currency)} a month at this rate",
        ),
    ]


def _cell(interval: Interval, kind: str, currency: str = "USD") -> Cell:
    show = {"seconds": numbers.seconds, "share": numbers.share, "count": numbers.count}
    text = numbers.money(interval.mean, currency) if kind == "money" else show[kind](interval.mean)
    part = min(max(interval.mean, 0.0), 1.0) if kind == "share" and math.isfinite(interval.mean) else None
    return Cell(text, numbers.ranged(interval, kind, currency), part)


def _plain(cell: Cell) -> Cell:
    return Cell(cell.text, cell.interval)


def _ranking_row(comparison: Comparison, one: Candidate) -> dict[str, Any]:
    currency = comparison.scenario.currency
    places = {other.name: other.place for other in comparison.candidates}
    tied = sorted(places[name] for name in one.tied_with if name in places)
    cells: list[Cell] = []
    phases: list[str] = [phase for phase in ("calm", "spike") if phase in comparison.phases] or ["all"]
    empty = Cell(numbers.MISSING)
    for field, kind in (("within_slo", "share"), ("p99_s", "seconds")):
        for phase in phases:
            found = one.phases.get(phase)
            cells.append(_cell(getattr(found, field), kind) if found else empty)
    cells += [
        _plain(_cell(one.servers_mean, "count")),
        Cell(numbers.count(one.servers_peak.mean)),
        _cell(one.cost, "money", currency),
    ]
    notes = ["baseline"] if one.name == comparison.baseline else []
    if tied:
        notes.append(f"ties with {', '.join(str(place) for place in tied)}")
    return {"candidate": one, "cells": cells, "note": ", ".join(notes)}


def _detail_row(one: Candidate, metrics: Metrics) -> dict[str, Any]:
    cells = [_cell(getattr(metrics, field), "seconds") for field in ("p50_s", "p95_s", "p99_s", "mean_s")]
    cells += [_plain(_cell(getattr(metrics, field), "share")) for field in ("within_slo", "rejected", "timed_out")]
    return {"candidate": one, "cells": cells, "note": ""}
