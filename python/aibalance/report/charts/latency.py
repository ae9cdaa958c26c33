"""How long requests take: one row a candidate."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from .. import numbers
from ..model import Candidate, Comparison
from ..svg import color, inline, panel, sheet, style
from .common import NARROW, SECONDS, WIDE, backing, shortened

__all__ = ["latency"]


def latency(comparison: Comparison, *, wide: bool) -> str:
    """One row a candidate: the shape of its latencies on a log axis, coloured by the SLO, with p50, p95 and p99."""
    with style():
        return _latency(comparison, wide)


def _latency(comparison: Comparison, wide: bool) -> str:
    width = WIDE if wide else NARROW
    left, right = (190, 232) if wide else (10, 66)
    row, head, top, bottom = (38, 34, 42, 34) if wide else (56, 36, 40, 34)
    groups = [
        (policy, [one for one in comparison.candidates if one.policy == policy]) for policy in comparison.policies
    ]
    height_rows = sum(head + row * len(members) for _, members in groups)
    figure = sheet(width, top + height_rows + bottom)
    axes = panel(figure, left, top, width - left - right, height_rows)
    slo = comparison.scenario.slo_s
    low, high = _latency_span(comparison)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(height_rows, 0)
    axes.yaxis.set_major_locator(NullLocator())
    _log_seconds(axes, low, high, 8 if wide else 4)
    axes.grid(axis="x")
    axes.axvline(slo, color=color("ink"), linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"SLO {numbers.clock(slo)}",
        (slo, 0),
        (0, 6),
        textcoords="offset points",
        ha="center",
        va="bottom",
        weight="bold",
    )
    span = axes.get_yaxis_transform()
    columns = ((70, "p50"), (140, "p99"), (222, "in SLO")) if wide else ((60, "p99"),)
    for offset, text in columns:
        axes.annotate(
            text, (1, 0), (offset, 6), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", va="bottom", color=color("muted"),
        )  # fmt: skip
    y = 0.0
    labelled = False
    for policy, members in groups:
        axes.annotate(
            shortened(policy, 60 if wide else 34), (0, y + head - 10), (-left + 4, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points", ha="left", va="baseline", weight="bold",
        )  # fmt: skip
        y += head
        for one in members:
            base = y + row - 8
            tall = row - 10 if wide else row - 26
            axes.plot([0, 1], [base, base], transform=span, color=color("grid"), linewidth=1)
            _ridge(axes, one, base, tall, slo)
            marks = _percentile_marks(axes, one, base)
            if not labelled and marks:
                labelled = True
            where = ((0, base), (-left + 14, 2)) if wide else ((0, y + 12), (4, 0))
            axes.annotate(
                shortened(one.picker, 25 if wide else 30), where[0], where[1], xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="left", va="baseline", bbox=None if wide else backing(),
            )  # fmt: skip
            found = one.all
            values = (
                [
                    numbers.seconds(found.p50_s.mean),
                    numbers.seconds(found.p99_s.mean),
                    numbers.share(found.within_slo.mean),
                ]
                if wide
                else [numbers.seconds(found.p99_s.mean)]
            )
            for (offset, _), text in zip(columns, values, strict=True):
                axes.annotate(
                    text, (1, base), (offset, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                    ha="right", va="baseline",
                )  # fmt: skip
            y += row
    best = comparison.candidates[0]
    return inline(
        figure,
        name=f"latency-{'wide' if wide else 'narrow'}",
        title="How long requests take, by balancer and scaling policy",
        description=f"{len(comparison.candidates)} distributions of latency on a logarithmic axis. Best: {best.name}, "
        f"p50 {numbers.seconds(best.all.p50_s.mean)}, p99 {numbers.seconds(best.all.p99_s.mean)}.",
    )


def _latency_span(comparison: Comparison) -> tuple[float, float]:
    lows, highs = [comparison.scenario.slo_s], [comparison.scenario.slo_s]
    for one in comparison.candidates:
        edges, shares = _cumulative(one)
        if shares.size:
            lows.append(float(np.interp(0.002, shares, edges)))
            highs.append(float(np.interp(0.9995, shares, edges)))
        for found in (one.all.p50_s.mean, one.all.p99_s.mean):
            if math.isfinite(found) and found > 0:
                lows.append(found)
                highs.append(found)
    return max(min(lows) * 0.8, 1e-4), max(highs) * 1.25


def _cumulative(one: Candidate) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    counts = np.asarray(one.counts, np.float64)
    if counts.sum() <= 0:
        return np.empty(0), np.empty(0)
    edges = np.asarray(one.edges_s, np.float64)
    return edges, np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])


def _ridge(axes: Axes, one: Candidate, base: float, tall: float, slo: float) -> None:
    edges, shares = _cumulative(one)
    if not edges.size:
        return
    low, high = axes.get_xlim()
    grid = np.geomspace(low, high, 161)
    density = np.diff(np.interp(grid, edges, shares))
    # A light smoothing over 5 of 160 steps: bins of the histogram are no features of the service.
    density = np.convolve(density, np.array([1, 2, 3, 2, 1]) / 9, mode="same")
    if density.max() <= 0:
        return
    middle = np.sqrt(grid[1:] * grid[:-1])
    line = base - tall * density / density.max()
    at_slo = float(np.interp(slo, middle, line))
    for role, inside in (("good", middle <= slo), ("bad", middle > slo)):
        x, y = middle[inside], line[inside]
        if not x.size:
            continue
        if low < slo < high:
            x, y = (
                (np.append(x, slo), np.append(y, at_slo))
                if role == "good"
                else (np.append(slo, x), np.append(at_slo, y))
            )
        axes.fill_between(x, base, y, color=color(role), alpha=0.35, linewidth=0)
        axes.plot(x, y, color=color(role), linewidth=1.3)


def _percentile_marks(axes: Axes, one: Candidate, base: float) -> bool:
    found = [one.all.p50_s.mean, one.all.p95_s.mean, one.all.p99_s.mean]
    if not all(math.isfinite(value) and value > 0 for value in found):
        return False
    axes.plot([found[0], found[2]], [base, base], color=color("ink"), linewidth=1.4)
    for value, size, face in zip(found, (7.5, 5, 7.5), ("ink", "ink", "paper"), strict=True):
        axes.plot(
            value,
            base,
            "o",
            markersize=size,
            markerfacecolor=color(face),
            markeredgecolor=color("ink"),
            markeredgewidth=1.4,
        )
    return True


def _log_seconds(axes: Axes, low: float, high: float, at_most: int) -> None:
    inside = [value for value in SECONDS if low <= value <= high]
    step = max(1, math.ceil(len(inside) / at_most))
    axes.xaxis.set_major_locator(FixedLocator(inside[step // 2 :: step] if step > 1 else inside))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.tick(value)))
