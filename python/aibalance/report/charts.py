"""The charts of the report. Each comes in two widths: `wide` for a desk and paper, narrow for a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from . import numbers
from .model import Candidate, Comparison, Difference
from .svg import SERIES, color, inline, panel, sheet, style

__all__ = ["cost_against_slo", "differences", "latency", "series_of", "traffic"]

WIDE, NARROW = 1000, 370
_STEPS = [1, 2, 5, 10]

_SECONDS = [
    *(base * scale for scale in (1e-3, 1e-2, 1e-1) for base in (1, 2, 5)),
    *(1, 2, 5, 10, 20, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(3600 * hours for hours in (1, 2, 5, 10, 20, 50, 100)),
]


def series_of(comparison: Comparison) -> dict[str, str]:
    """The colour of each scaling policy, the same in every chart; past eight policies colours come again."""
    return {policy: SERIES[i % len(SERIES)] for i, policy in enumerate(comparison.policies)}


def _name(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _backing() -> dict[str, object]:
    """Paper behind a text, where lines of the grid would run through it."""
    return {"facecolor": color("paper"), "edgecolor": "none", "pad": 1.0}


# --- (a) latency ---


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
            _name(policy, 60 if wide else 34), (0, y + head - 10), (-left + 4, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="left", va="baseline", weight="bold",
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
                _name(one.picker, 25 if wide else 30), where[0], where[1], xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="left", va="baseline", bbox=None if wide else _backing(),
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
    inside = [value for value in _SECONDS if low <= value <= high]
    step = max(1, math.ceil(len(inside) / at_most))
    axes.xaxis.set_major_locator(FixedLocator(inside[step // 2 :: step] if step > 1 else inside))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.tick(value)))


# --- (b) traffic against capacity ---


def traffic(comparison: Comparison, *, wide: bool) -> str:
    """Traffic, ready and wanted servers, and requests in the system over time; one line a policy, its best balancer."""
    with style():
        return _traffic(comparison, wide)


def _traffic(comparison: Comparison, wide: bool) -> str:
    width = WIDE if wide else NARROW
    left, right = (58, 170) if wide else (44, 24)
    chosen = [next(one for one in comparison.candidates if one.policy == policy) for policy in comparison.policies]
    end = comparison.scenario.duration_s
    spike = comparison.scenario.spike
    shown = [one for one in chosen if one.timeline["t_s"]][: len(SERIES)]
    arriving = "Requests arriving, a second"
    if spike is not None and not wide:
        arriving = f"Arrivals a second; spike ×{spike.factor:g} shaded"
    strips = ((110.0, arriving), (190, "Servers ready (wanted: thin)"), (150, "Requests in the system"))
    gap, margin, bottom = 44, 46, 34
    figure = sheet(width, margin + sum(tall for tall, _ in strips) + gap * (len(strips) - 1) + bottom)
    colors = series_of(comparison)
    y = float(margin)
    for index, (tall, title) in enumerate(strips):
        axes = panel(figure, left, y, width - left - right, tall)
        axes.set_xlim(0, end)
        axes.set_title(title, loc="left", fontsize=12.5, color=color("ink"), weight="bold", pad=8, x=0)
        if spike is not None:
            axes.axvspan(spike.start_s, min(spike.end_s, end), color=color("band"), linewidth=0)
            if index == 0 and wide:
                axes.annotate(
                    f"spike ×{spike.factor:g}", ((spike.start_s + min(spike.end_s, end)) / 2, 1),
                    (0, 4), xycoords=("data", "axes fraction"), textcoords="offset points",
                    ha="center", va="bottom", color=color("muted"),
                )  # fmt: skip
        if index == 0:
            one = shown[0] if shown else None
            if one is not None:
                t, rate = one.timeline["t_s"], one.timeline["arrivals_per_s"]
                axes.fill_between(t, 0, rate, color=color("muted"), alpha=0.3, linewidth=0, step="mid")
                axes.plot(t, rate, color=color("muted"), linewidth=1.2, drawstyle="steps-mid")
                axes.set_ylim(0, 1.08 * max(rate) or 1.0)
        else:
            key = "capacity" if index == 1 else "in_system"
            ends = []
            for one in reversed(shown):
                role = color(colors[one.policy])
                axes.plot(one.timeline["t_s"], one.timeline[key], color=role, linewidth=2.2, drawstyle="steps-post")
                if index == 1:
                    axes.plot(
                        one.timeline["t_s"], one.timeline["desired"], color=role, linewidth=1, alpha=0.7,
                        drawstyle="steps-post", linestyle=(0, (3, 2)),
                    )  # fmt: skip
                ends.append((one.timeline[key][-1], one.policy, role))
            top = max((max(one.timeline[key]) for one in shown), default=0.0)
            axes.set_ylim(0, max(1.08 * top, 1.0))
            if wide:
                _end_labels(axes, ends, tall)
        axes.yaxis.set_major_locator(MaxNLocator(3 if tall < 160 else 4, steps=_STEPS, integer=index > 0))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axes.grid(axis="y")
        _time_axis(axes, end, 9 if wide else 4, labels=index == len(strips) - 1)
        y += tall + gap
    peaks = ", ".join(f"{one.policy}: {max(one.timeline['capacity']):g} servers at most" for one in shown)
    return inline(
        figure,
        name=f"traffic-{'wide' if wide else 'narrow'}",
        title="Traffic against capacity over time",
        description=f"Requests a second, ready servers and requests in the system over {numbers.clock(end)}. {peaks}.",
    )


def _end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], tall: float) -> None:
    """Names at the right end of their lines, moved apart where lines end together."""
    low, high = axes.get_ylim()
    places = [(value - low) / (high - low) * tall for value, _, _ in ends]
    for (_, name, role), place in zip(ends, apart(places, 17, 4, tall), strict=True):
        axes.annotate(
            _name(name, 22), (1, 0), (10, place), xycoords="axes fraction", textcoords="offset points",
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


# --- (c) cost against SLO ---


def cost_against_slo(comparison: Comparison, *, wide: bool) -> str:
    """One point a candidate, numbered by rank: what it costs, and what share of requests it answers in time."""
    with style():
        return _cost_against_slo(comparison, wide)


def _cost_against_slo(comparison: Comparison, wide: bool) -> str:
    width, height = (WIDE, 430) if wide else (NARROW, 400)
    left, right, top, bottom = (70, 40, 40, 52) if wide else (56, 18, 40, 52)
    figure = sheet(width, height)
    axes = panel(figure, left, top, width - left - right, height - top - bottom)
    colors = series_of(comparison)
    currency = comparison.scenario.currency
    points = [
        one for one in comparison.candidates if math.isfinite(one.cost.mean) and math.isfinite(one.all.within_slo.mean)
    ]
    x = np.array([one.cost.mean for one in points])
    y = np.array([one.all.within_slo.mean for one in points])
    _room(axes.set_xlim, [x, *([one.cost.low, one.cost.high] for one in points)], 0.0, math.inf)
    _room(axes.set_ylim, [y, *([one.all.within_slo.low, one.all.within_slo.high] for one in points)], -math.inf, 1.015)
    front = _front(x, y)
    if len(front) > 1:
        axes.step(
            x[front], y[front], where="post", color=color("muted"), linewidth=1.2, linestyle=(0, (4, 3)), zorder=1
        )
    box = axes.get_window_extent()
    to_pixels = axes.transData.transform
    taken = [tuple(to_pixels((a, b))) for a, b in zip(x, y, strict=True)]
    places = _untangle(taken, 21 if wide else 19, (box.x0, box.y0, box.x1, box.y1))
    back = axes.transData.inverted().transform
    for one, place in zip(reversed(points), reversed(places), strict=True):
        role = color(colors[one.policy])
        a, b = one.cost, one.all.within_slo
        axes.plot([a.low, a.high], [b.mean, b.mean], color=role, linewidth=1.4, alpha=0.75, zorder=2)
        axes.plot([a.mean, a.mean], [max(b.low, 0), min(b.high, 1)], color=role, linewidth=1.4, alpha=0.75, zorder=2)
        moved = (float(back(place)[0]), float(back(place)[1]))
        if math.dist(place, to_pixels((a.mean, b.mean))) > 6:
            axes.plot([a.mean, moved[0]], [b.mean, moved[1]], color=role, linewidth=1, zorder=2)
            axes.plot(a.mean, b.mean, "o", markersize=4, color=role, zorder=3)
        axes.plot(
            moved[0], moved[1], "o", markersize=18 if wide else 16, markerfacecolor=color("paper"),
            markeredgecolor=role, markeredgewidth=2, zorder=4,
        )  # fmt: skip
        axes.annotate(
            f"{one.rank}", moved, (0, -0.5), textcoords="offset points", ha="center", va="center", fontsize=11,
            weight="bold", color=role, zorder=5,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(7 if wide else 4, steps=_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.money(value, currency)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %" if value <= 1 else ""))
    axes.grid()
    axes.set_xlabel(f"cost of the run ({numbers.clock(comparison.scenario.duration_s)})", labelpad=8)
    axes.annotate(
        f"answered within {numbers.clock(comparison.scenario.slo_s)}", (0, 1), (-left + 6, 14),
        xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom", color=color("muted"),
    )  # fmt: skip
    best = ", ".join(f"{points[i].rank} {points[i].name}" for i in front)
    return inline(
        figure,
        name=f"cost-{'wide' if wide else 'narrow'}",
        title="Cost against the share of requests within the SLO",
        description=f"{len(points)} points numbered by rank. None is both cheaper and better than these: {best}.",
    )


def _room(set_limits: Callable[..., object], values: Sequence[Any], lowest: float, highest: float) -> None:
    every = np.concatenate([np.asarray(one, np.float64) for one in values])
    every = every[np.isfinite(every)]
    low, high = float(every.min()), float(every.max())
    pad = max((high - low) * 0.1, abs(high) * 0.02, 1e-6)
    set_limits(max(low - pad, lowest), min(high + pad, highest))


def _front(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[int]:
    """Indices of the points that nothing beats in both ways, cheapest first."""
    found: list[int] = []
    for i in sorted(range(len(x)), key=lambda i: (x[i], -y[i])):
        if not found or y[i] > y[found[-1]]:
            found.append(i)
    return found


def _untangle(
    points: Sequence[tuple[float, float]], distance: float, box: tuple[float, float, float, float]
) -> list[tuple[float, float]]:
    """Push markers apart until none covers another, each held to its point by a spring."""
    at = np.array(points, np.float64).reshape(-1, 2)
    if len(at) < 2:
        return [tuple(one) for one in at]
    home = at.copy()
    # Points in one place need a direction to part in; the golden angle gives each its own.
    angle = 2.399963 * np.arange(len(at))
    at += 0.01 * np.column_stack([np.cos(angle), np.sin(angle)])
    for _ in range(400):
        delta = at[:, None, :] - at[None, :, :]
        far = np.hypot(delta[..., 0], delta[..., 1])
        np.fill_diagonal(far, np.inf)
        push = np.clip(distance - far, 0, None) / np.maximum(far, 1e-9)
        at += 0.5 * (delta * push[..., None]).sum(axis=1) * 0.6 + 0.01 * (home - at)
        half = distance / 2
        at = np.clip(at, [box[0] + half, box[1] + half], [box[2] - half, box[3] - half])
    return [(float(a), float(b)) for a, b in at]


# --- (d) paired differences ---


def differences(comparison: Comparison, *, wide: bool) -> str | None:
    """p99 against the baseline, paired by replication, a column a phase; None when there is nothing to compare."""
    found = [one for one in comparison.differences if one.metric == "p99_s" and math.isfinite(one.mean)]
    phases = [phase for phase in ("calm", "spike") if any(one.phase == phase for one in found)] or ["all"]
    found = [one for one in found if one.phase in phases]
    if not found:
        return None
    with style():
        return _differences(comparison, found, phases, wide)


def _differences(comparison: Comparison, found: Sequence[Difference], phases: Sequence[str], wide: bool) -> str:
    names = [one.name for one in comparison.candidates if any(one.name == other.name for other in found)]
    width = WIDE if wide else NARROW
    row = 28 if wide else 44
    left, between, right, top, bottom = (300, 96, 84, 40, 34) if wide else (24, 0, 66, 40, 40)
    tall = row * len(names)
    figure: Figure
    if wide:
        figure = sheet(width, top + tall + bottom)
        each = (width - left - right - between * (len(phases) - 1)) / len(phases)
    else:
        figure = sheet(width, (top + tall + bottom) * len(phases))
        each = width - left - right
    ranks = {one.name: one.rank for one in comparison.candidates}
    for index, phase in enumerate(phases):
        x = left + index * (each + between) if wide else left
        y = top if wide else top + index * (top + tall + bottom)
        axes = panel(figure, x, y, each, tall)
        here = {one.name: one for one in found if one.phase == phase}
        ends = np.array([value for one in here.values() for value in (one.low, one.high, 0.0)])
        ends = ends[np.isfinite(ends)]
        pad = max(float(np.ptp(ends)) * 0.06, 1e-6)
        axes.set_xlim(ends.min() - pad, ends.max() + pad)
        axes.set_ylim(tall, 0)
        axes.yaxis.set_major_locator(NullLocator())
        _delta_axis(axes)
        axes.grid(axis="x")
        axes.axvline(0, color=color("ink"), linewidth=1.2)
        title = {"calm": "Calm", "spike": "Spike", "all": "Whole run"}[phase]
        axes.annotate(
            title, (0, 1), (2, 10), xycoords="axes fraction", textcoords="offset points", weight="bold", va="bottom"
        )
        axes.annotate(
            "faster in", (1, 1), (right - 4, 10), xycoords="axes fraction", textcoords="offset points",
            ha="right", va="bottom", color=color("muted"),
        )  # fmt: skip
        for place, name in enumerate(names):
            middle = place * row + row / 2 + (0 if wide else 8)
            if not wide or index == 0:
                where = (-left + 4, 0) if wide else (0, 18)
                axes.annotate(
                    _name(f"{ranks[name]}  {name}", 44), (0, middle), where, xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="left", va="center", bbox=_backing(),
                )  # fmt: skip
            if name not in here:
                continue
            one = here[name]
            role = color({"better": "good", "worse": "bad"}.get(one.verdict, "same"))
            axes.plot([one.low, one.high], [middle, middle], color=role, linewidth=3.2, alpha=0.55)
            axes.plot(one.mean, middle, "o", markersize=7, color=role)
            axes.annotate(
                f"{one.wins} of {one.of}", (1, middle), (right - 4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", va="center", color=role,
            )  # fmt: skip
    verdicts = [one.verdict for one in found]
    return inline(
        figure,
        name=f"differences-{'wide' if wide else 'narrow'}",
        title=f"p99 latency against {comparison.baseline}",
        description=f"{len(found)} paired differences with 95 % intervals: {verdicts.count('better')} better, "
        f"{verdicts.count('worse')} worse, {verdicts.count('tie')} ties.",
    )


def _delta_axis(axes: Axes) -> None:
    low, high = axes.get_xlim()
    largest = max(-low, high)
    unit, name = (1e-3, "ms") if largest < 1 else (1.0, "s") if largest < 600 else (60.0, "min")
    ticks = (np.asarray(MaxNLocator(4, steps=_STEPS).tick_values(low / unit, high / unit)) * unit).tolist()
    axes.xaxis.set_major_locator(FixedLocator([one for one in ticks if low <= one <= high]))

    def label(value: float, _: object) -> str:
        if abs(value) < 1e-12:
            return "same"
        return f"{value / unit:+.3g} {name}".replace("-", "−")

    axes.xaxis.set_major_formatter(FuncFormatter(label))
