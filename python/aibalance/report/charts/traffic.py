"""Traffic against capacity over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .. import numbers
from ..model import Candidate, Comparison
from ..svg import SERIES, color, inline, panel, sheet, style
from .common import NARROW, STEPS, WIDE, series_of, shortened

__all__ = ["traffic"]


def traffic(comparison: Comparison, *, wide: bool) -> str:
    """Traffic, ready and wanted servers, and requests in the system over time; one line a policy, its best balancer."""
    with style():
        return _traffic(comparison, wide)


def _traffic(comparison: Comparison, wide: bool) -> str:
    left, right = (58, 170) if wide else (44, 24)
    scenario = comparison.scenario
    end, spike = scenario.duration_s, scenario.spike
    best = [next(one for one in comparison.candidates if one.policy == policy) for policy in comparison.policies]
    shown = [one for one in best if one.timeline["t_s"]][: len(SERIES)]
    servable = any("capacity_rps" in one.timeline for one in shown)
    first = "Requests a second: arriving (grey)" if wide else "Requests/s: arriving (grey)"
    first += ", servable (lines)" if servable else ""
    strips = ((150, first), (150, "Servers: ready (thick), wanted (thin)"), (130, "Requests in the system"))
    gap, margin, bottom = 46, 46 if wide else 30, 34
    figure = sheet(WIDE if wide else NARROW, margin + sum(tall for tall, _ in strips) + 2 * gap + bottom)
    y = margin
    for index, (tall, title) in enumerate(strips):
        axes = panel(figure, left, y, (WIDE if wide else NARROW) - left - right, tall)
        axes.set_xlim(0, end)
        axes.set_title(title, loc="left", fontsize=12.5, color=color("ink"), weight="bold", pad=8, x=0)
        if spike is not None:
            until = min(spike.end_s, end)
            axes.axvspan(spike.start_s, until, color=color("band"), linewidth=0)
            inside = axes.annotate(
                f"spike ×{spike.factor:g}", ((spike.start_s + until) / 2, 1), (0, 22),
                xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", va="bottom",
                color=color("muted"),
            )  # fmt: skip
            inside.set_visible(index == 0 and wide)
        _strip(axes, index, shown, series_of(comparison), tall if wide else None)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=index > 0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.grid(axis="y")
        _time_axis(axes, end, 9 if wide else 4, labels=index == len(strips) - 1)
        y += tall + gap
    peaks = ", ".join(f"{one.policy}: {numbers.count(max(one.timeline['capacity']))} servers at most" for one in shown)
    return inline(
        figure,
        name=f"traffic-{'wide' if wide else 'narrow'}",
        title="Traffic against capacity over time",
        description=f"Requests a second, ready servers and requests in the system over {numbers.clock(end)}. {peaks}.",
    )


def _strip(axes: Axes, index: int, shown: Sequence[Candidate], colors: dict[str, str], labels: int | None) -> None:
    """One strip's lines; `labels` is its height where the lines are named at their right ends."""
    key = ("capacity_rps", "capacity", "in_system")[index]
    top = 0.0
    ends = []
    if index == 0 and shown:
        # Traffic is the same for all.
        t, rate = _steps(shown[0], "arrivals_per_s")
        axes.fill_between(t, 0, rate, color=color("muted"), alpha=0.35, linewidth=0, step="pre")
        top = max(rate)
    # The best is drawn last, on top.
    for one in reversed([one for one in shown if key in one.timeline]):
        role = color(colors[one.policy])
        t, values = _steps(one, key)
        axes.plot(t, values, color=role, linewidth=2, drawstyle="steps-pre")
        top = max(top, *values)
        if index == 1:
            t, wanted = _steps(one, "desired")
            axes.plot(t, wanted, color=role, linewidth=1, alpha=0.8, drawstyle="steps-pre", linestyle=(0, (3, 2)))
            top = max(top, *wanted)
        ends.append((values[-1], one.policy, role))
    axes.set_ylim(0, 1.06 * top or 1.0)
    if labels is not None and ends:
        _end_labels(axes, ends, labels)


def _steps(one: Candidate, key: str) -> tuple[list[float], list[float]]:
    """A column of the timeline; each value holds for the step that ends at its time, so the first reaches back to 0."""
    t, values = list(one.timeline["t_s"]), [0.0 if math.isnan(value) else value for value in one.timeline[key]]
    return [0.0, *t], [values[0], *values]


def _end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], tall: float) -> None:
    """Names at the right end of their lines, moved apart where lines end together."""
    low, high = axes.get_ylim()
    places = [(value - low) / (high - low) * tall for value, _, _ in ends]
    for (_, name, role), place in zip(ends, apart(places, 17, 4, tall), strict=True):
        axes.annotate(
            shortened(name, 22), (1, 0), (10, place), xycoords="axes fraction", textcoords="offset points",
            ha="left", va="center", color=role, weight="bold",
        )  # fmt: skip


def apart(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Places in the same order, at least `distance` apart, moved as little as goes; within low…high if they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    # Clusters that share their mean, merged while they overlap: the least squares answer (isotonic regression).
    clusters: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        mean, size = places[i] - rank * distance, 1
        while clusters and clusters[-1][0] >= mean:
            before, count = clusters.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        clusters.append((mean, size))
    moved = [mean for mean, size in clusters for _ in range(size)]
    top = high - (len(places) - 1) * distance
    moved = [max(low, min(value, top)) for value in moved]
    result = [0.0] * len(places)
    for rank, i in enumerate(order):
        result[i] = moved[rank] + rank * distance
    return result


def _time_axis(axes: Axes, end: float, at_most: int, *, labels: bool) -> None:
    unit, name = (
        (1.0, "s")
        if end <= 180
        else (60.0, "min")
        if end < 3 * 3600
        else (3600.0, "h")
        if end < 3 * 86400
        else (86400.0, "days")
    )
    steps = [1, 2, 5, 10, 15, 20, 30, 60, 100, 200, 500]
    step = next((one for one in steps if end / unit / one <= at_most), 1000)
    axes.xaxis.set_major_locator(FixedLocator((np.arange(0, end / unit + 1e-9, step) * unit).tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    if labels:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g} {name}" if value else "0"))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ""))
