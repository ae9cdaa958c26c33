"""What a candidate costs against what it brings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from .. import numbers
from ..model import Comparison
from ..svg import color, inline, panel, sheet, style
from .common import NARROW, STEPS, WIDE, series_of

__all__ = ["cost_against_slo"]


def cost_against_slo(comparison: Comparison, *, wide: bool) -> str:
    """A point a candidate, numbered by place: what it costs, and what share of requests it answers in time."""
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
            f"{one.place}", moved, (0, -0.5), textcoords="offset points", ha="center", va="center", fontsize=11,
            weight="bold", color=role, zorder=5,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(7 if wide else 4, steps=STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.money_tick(value, currency)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %" if value <= 1 else ""))
    axes.grid()
    axes.set_xlabel(f"cost of the run ({numbers.clock(comparison.scenario.duration_s)})", labelpad=8)
    axes.annotate(
        f"answered within {numbers.clock(comparison.scenario.slo_s)}", (0, 1), (-left + 6, 14),
        xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom", color=color("muted"),
    )  # fmt: skip
    best = ", ".join(f"{points[i].place} {points[i].name}" for i in front)
    return inline(
        figure,
        name=f"cost-{'wide' if wide else 'narrow'}",
        title="Cost against the share of requests within the SLO",
        description=f"{len(points)} points, numbered by place. None is both cheaper and better than these: {best}.",
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
    # The springs go in the end: what they still pull together would overlap.
    for round_ in range(500):
        delta = at[:, None, :] - at[None, :, :]
        far = np.hypot(delta[..., 0], delta[..., 1])
        np.fill_diagonal(far, np.inf)
        push = np.clip(distance - far, 0, None) / np.maximum(far, 1e-9)
        at += 0.5 * (delta * push[..., None]).sum(axis=1) * 0.6 + (0.01 if round_ < 400 else 0.0) * (home - at)
        half = distance / 2
        at = np.clip(at, [box[0] + half, box[1] + half], [box[2] - half, box[3] - half])
    return [(float(a), float(b)) for a, b in at]
