"""The page of a plan: the answer in words, the seven points, charts, tables, and the scenario."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from . import numbers
from .charts import plan as charts
from .model import Interval
from .svg import SERIES

__all__ = ["render"]


def render(found: Mapping[str, Any], /) -> str:
    """The page; `found` is what `Plan.to_dict()` returns."""
    environment = Environment(
        loader=PackageLoader("aibalance.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    goals = found["objectives"]
    page = environment.get_template("plan.html.j2").render(
        version=__version__,
        css=Markup(files("aibalance.report").joinpath("page.css").read_text(encoding="utf-8")),
        plan=found,
        tiles=_tiles(found),
        goals=goals,
        spiky=found["scenario"]["spike"] is not None,
        series={name: SERIES[i % len(SERIES)] for i, name in enumerate(found["latencies"])},
        charts={
            name: _pair(draw, found)
            for name, draw in (
                ("front", charts.front),
                ("timeline", charts.timeline),
                ("heat", charts.heat),
                ("balancers", charts.balancers),
            )
        },
        tables=[
            (title, note, [_row(found, one, name) for one, name in rows])
            for title, note, rows in (
                (
                    "By balancer",
                    "The plan's fleet with each balancer.",
                    [(one, one["balancer"]) for one in found["balancers"]],
                ),
                (
                    "The front",
                    "Nothing that was tried is better in both cost and the first objective.",
                    _own(found["front"]),
                ),
                ("Runners-up", "The next that differ in more than a number.", _own(found["runners_up"])),
            )
            if rows
        ],
        facts=[
            ("Traffic", found["scenario"]["traffic"]),
            ("Service", found["scenario"]["service"]),
            ("Fleet", found["scenario"]["fleet"]),
            ("Run", numbers.clock(found["scenario"]["duration_s"])),
            ("Tried", f"{found['designs_tried']} designs, all on the same requests; seed {found['seed']}"),
        ],
    )
    return numbers.unbroken(page)


def _own(rows: Any) -> list[tuple[Mapping[str, Any], str]]:
    return [(one, one["text"]) for one in rows]


def _pair(draw: Callable[..., str | None], found: Mapping[str, Any]) -> tuple[Markup, Markup] | None:
    wide, narrow = (draw(found, wide=one) for one in (True, False))
    return None if wide is None or narrow is None else (Markup(wide), Markup(narrow))


def _interval(of: Mapping[str, Any]) -> Interval:
    mean, low, high = (math.nan if of[key] is None else float(of[key]) for key in ("mean", "low", "high"))
    return Interval(mean, low, high)


def _tiles(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    best = found["best"]
    goal, value = found["objectives"][0], _interval(best["values"][0])
    kind = "share" if goal["metric"] == "error" else "seconds"
    shown = numbers.share(value.mean) if kind == "share" else numbers.seconds(value.mean)
    month, spike = _interval(best["month"]), _interval(best["spike"])
    budget = found["budget_per_month"]
    tiles = [
        (f"{goal['metric']}, limit {goal['text'].partition('< ')[2]}", shown, numbers.ranged(value, kind)),
        (
            "a month" + (" without a spike" if found["scenario"]["spike"] else ""),
            numbers.money(month.mean),
            f"of {numbers.money(budget)}" if budget is not None else numbers.ranged(month, "money"),
        ),
        ("a spike, beside it", numbers.money(spike.mean), numbers.ranged(spike, "money"))
        if found["scenario"]["spike"]
        else (
            "servers, mean of the run",
            numbers.count(best["servers_mean"]),
            f"peak {numbers.count(best['servers_peak'])}",
        ),
        (
            "runs that keep the objectives",
            f"{best['runs'] - best['misses']} of {best['runs']}",
            "fresh seeds" if best["fresh"] else "",
        ),
    ]
    return tiles


def _row(found: Mapping[str, Any], one: Mapping[str, Any], name: str) -> dict[str, Any]:
    cells: list[tuple[str, str]] = []
    for goal, value in zip(found["objectives"], one["values"], strict=True):
        of = _interval(value)
        kind = "share" if goal["metric"] == "error" else "seconds"
        if not math.isfinite(of.mean):
            cells.append(("no answer", "for too many"))
        else:
            text = numbers.share(of.mean) if kind == "share" else numbers.seconds(of.mean)
            cells.append((text, numbers.ranged(of, kind)))
    errors, month = _interval(one["errors"]), _interval(one["month"])
    cells.append((numbers.share(errors.mean), ""))
    cells.append((numbers.money(month.mean), numbers.ranged(month, "money")))
    if found["scenario"]["spike"]:
        cells.append((numbers.money(_interval(one["spike"]).mean), ""))
    cells.append((f"{one['misses']} of {one['runs']}", ""))
    return {"name": name, "cells": cells, "best": one["design"] == found["best"]["design"]}
