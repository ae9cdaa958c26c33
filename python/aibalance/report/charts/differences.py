"""Paired differences against the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ..model import Comparison, Difference
from ..svg import color, inline, panel, sheet, style
from .common import NARROW, WIDE, backing, shortened

__all__ = ["differences"]


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
    places = {one.name: one.place for one in comparison.candidates}
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
                    shortened(f"{places[name]}  {name}", 44), (0, middle), where, xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="left", va="center", bbox=backing(),
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
    ticks = (np.asarray(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low / unit, high / unit)) * unit).tolist()
    axes.xaxis.set_major_locator(FixedLocator([one for one in ticks if low <= one <= high]))

    def label(value: float, _: object) -> str:
        if abs(value) < 1e-12:
            return "same"
        return f"{value / unit:+.3g} {name}".replace("-", "−")

    axes.xaxis.set_major_formatter(FuncFormatter(label))
