"""The charts of a plan: one run over time, every server, cost against the objective, latencies by balancer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .. import numbers
from ..svg import SERIES, color, inline, panel, sheet, style
from .common import NARROW, SECONDS, STEPS, WIDE, shortened
from .traffic import _time_axis, apart

__all__ = ["balancers", "front", "heat", "timeline"]


def timeline(found: Mapping[str, Any], *, wide: bool) -> str:
    """Traffic, capacity, queue and cost of one run; each scaling action is a dot that explains itself."""
    with style():
        return _timeline(found, wide)


def _timeline(found: Mapping[str, Any], wide: bool) -> str:
    left, right = (64, 24) if wide else (50, 24)
    time, end = found["timeline"], found["scenario"]["duration_s"]
    t = [0.0, *time["t_s"]]

    def steps(values: Sequence[float]) -> list[float]:
        known = np.nan_to_num(np.array(values, np.float64)).tolist()
        return [known[0], *known]

    hourly = [value * found["price_per_server_hour"] for value in time["capacity"]]
    waiting = [max(0.0, a - b) for a, b in zip(time["in_system"], time["busy"], strict=True)]
    strips = (
        (
            130,
            ("Requests a second" if wide else "Requests/s")
            + ": arriving (grey)"
            + (", servable (line)" if "capacity_rps" in time else ""),
        ),
        (
            160,
            "Servers: ready (thick), wanted (dashed)" + ("; triangles are scaling actions" if found["actions"] else ""),
        ),
        (110, "Requests that wait"),
        (110, "USD an hour, for ready servers"),
    )
    gap, top, bottom = 46, 30, 36
    width = WIDE if wide else NARROW
    figure = sheet(width, top + sum(tall for tall, _ in strips) + gap * (len(strips) - 1) + bottom)
    tips: dict[str, str] = {}
    y = top
    for index, (tall, title) in enumerate(strips):
        axes = panel(figure, left, y, width - left - right, tall)
        axes.set_xlim(0, end)
        title = title if wide else title.partition("; triangles")[0]
        axes.set_title(title, loc="left", fontsize=12.5 if wide else 11, color=color("ink"), weight="bold", pad=8, x=0)
        spike = found["scenario"]["spike"]
        if spike is not None:
            axes.axvspan(spike["start_s"], min(spike["end_s"], end), color=color("band"), linewidth=0)
        lines = [
            steps(values)
            for values in ((time["arrivals_per_s"],), (time["capacity"], time["desired"]), (waiting,), (hourly,))[index]
        ]
        if index in (0, 2):
            axes.fill_between(t, 0, lines[0], color=color("muted"), alpha=0.35, linewidth=0, step="pre")
        if index == 0 and "capacity_rps" in time:
            lines.append(steps(time["capacity_rps"]))
            axes.plot(t, lines[1], color=color("s1"), linewidth=2, drawstyle="steps-pre")
        if index in (1, 3):
            axes.plot(t, lines[0], color=color("s1" if index == 1 else "s3"), linewidth=2, drawstyle="steps-pre")
        highest = max(max(line) for line in lines)
        if index == 1:
            axes.plot(
                t, lines[1], color=color("s1"), alpha=0.8, linewidth=1, linestyle=(0, (3, 2)), drawstyle="steps-pre"
            )
            for i, one in enumerate(found["actions"]):
                up = one["after"] > one["before"]
                (dot,) = axes.plot(
                    one["at_s"], one["after"], "^" if up else "v", markersize=9, color=color("bad" if up else "good"),
                    markeredgecolor=color("paper"), zorder=5, clip_on=False,
                )  # fmt: skip
                gid = f"action-{'wide' if wide else 'narrow'}-{i}"
                dot.set_gid(gid)
                tips[gid] = one["text"]
                highest = max(highest, one["after"])
        axes.set_ylim(0, 1.08 * highest or 1.0)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=index in (1, 2)))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: numbers.money_tick(value, "USD"))
            if index == 3
            else FuncFormatter(lambda value, _: f"{value:,.6g}")
        )
        axes.grid(axis="y")
        _time_axis(axes, end, 9 if wide else 4, labels=index == len(strips) - 1)
        y += tall + gap
    return inline(
        figure,
        name=f"plan-time-{'wide' if wide else 'narrow'}",
        title="One run of the plan over time",
        description=f"Requests a second, servers, requests that wait and cost over {numbers.clock(end)}. "
        f"{len(found['actions'])} scaling actions; at most {numbers.count(max(time['capacity']))} servers ready and "
        f"{numbers.count(max(waiting))} requests waiting.",
        tips=tips,
    )


def heat(found: Mapping[str, Any], *, wide: bool) -> str | None:
    """How busy each server was over time; None where nobody counted."""
    if not found["heat"]:
        return None
    with style():
        return _heat(found, wide)


def _heat(found: Mapping[str, Any], wide: bool) -> str:
    busy = np.asarray(found["heat"], np.float64)
    end, group = found["scenario"]["duration_s"], found["servers_a_row"]
    left, right, top, bottom = (64, 90, 34, 36) if wide else (50, 24, 34, 36)
    width = WIDE if wide else NARROW
    tall = 280 if wide else 240
    figure = sheet(width, top + tall + bottom)
    axes = panel(figure, left, top, width - left - right, tall)
    # One colour by its strength, which stands on light and on dark paper.
    shades = LinearSegmentedColormap.from_list("busy", [(0.13, 0.52, 0.78, 0.0), (0.13, 0.52, 0.78, 1.0)])
    rows = len(busy) * group
    axes.imshow(
        busy, aspect="auto", cmap=shades, vmin=0, vmax=1, extent=(0, end, rows + 0.5, 0.5), interpolation="nearest"
    )
    axes.set_title(
        "Servers, in the order of their launch" if wide else "Servers, by launch",
        loc="left", fontsize=12.5 if wide else 11, color=color("ink"), weight="bold", pad=8, x=0,
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else ""))
    _time_axis(axes, end, 9 if wide else 4, labels=True)
    if wide:
        scale = panel(figure, width - right + 20, top, 14, tall)
        scale.imshow(np.linspace(1, 0, 64)[:, None], aspect="auto", cmap=shades, vmin=0, vmax=1, extent=(0, 1, 0, 1))
        scale.xaxis.set_major_locator(NullLocator())
        scale.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        scale.yaxis.tick_right()
        scale.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    return inline(
        figure,
        name=f"plan-heat-{'wide' if wide else 'narrow'}",
        title="How busy each server was",
        description=f"{rows} servers over {numbers.clock(end)}; the darker, the busier; "
        f"{numbers.share(float(busy.mean()))} of all their slots on average.",
    )


def front(found: Mapping[str, Any], *, wide: bool) -> str | None:
    """Cost against the first objective: the front, the runners-up, the plan; None when nothing can be drawn."""
    with style():
        return _front(found, wide)


def _front(found: Mapping[str, Any], wide: bool) -> str | None:
    goal = found["objectives"][0]

    def point(one: Mapping[str, Any]) -> tuple[float, float]:
        value = one["values"][0]["mean"]
        return one["total"], math.inf if value is None else value

    def drawable(one: tuple[float, float]) -> bool:
        return math.isfinite(one[0]) and math.isfinite(one[1]) and one[0] > 0 and one[1] > 0

    line = [one for one in map(point, found["front"]) if drawable(one)]
    others = [one for one in map(point, found["runners_up"]) if drawable(one)]
    named = [("plan" if found["met"] else "best for the money", found["best"]), ("would do", found["would"])]
    marks = [(name, point(one)) for name, one in named if one is not None and drawable(point(one))]
    every = [*line, *others, *(at for _, at in marks)]
    if not every:
        return None
    width, height = (WIDE, 420) if wide else (NARROW, 400)
    left, right, top, bottom = (76, 30, 44, 54) if wide else (58, 18, 44, 54)
    figure = sheet(width, height)
    axes = panel(figure, left, top, width - left - right, height - top - bottom)
    axes.set_xscale("log")
    axes.set_yscale("log")
    x, y = [one[0] for one in every], [one[1] for one in every] + [goal["limit"]]
    axes.set_xlim(min(x) / 1.25, max(x) * 1.35)
    axes.set_ylim(min(y) / 1.3, max(y) * 1.3)
    axes.axhspan(min(y) / 1.3, goal["limit"], color=color("good"), alpha=0.10, linewidth=0)
    axes.axhline(goal["limit"], color=color("ink"), linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        goal["text"], (1, goal["limit"]), (-6, 5), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", weight="bold",
    )  # fmt: skip
    if line:
        axes.step(*zip(*line, strict=True), where="post", color=color("muted"), linewidth=1.4, zorder=2)
    tips: dict[str, str] = {}
    for key, face, edge in (("front", "s1", "s1"), ("runners_up", "paper", "s4")):
        for i, one in enumerate(found[key]):
            at = point(one)
            if drawable(at):
                (dot,) = axes.plot(
                    *at, "o", markersize=7, markerfacecolor=color(face), markeredgecolor=color(edge),
                    markeredgewidth=1.6, zorder=3,
                )  # fmt: skip
                gid = f"{key}-{wide}-{i}"
                dot.set_gid(gid)
                tips[gid] = f"{one['text']}: {numbers.money(at[0])} a month, {goal['metric']} {_said(goal, at[1])}"
    to_pixels = axes.transData.transform
    box = axes.get_window_extent()
    for name, at in marks:
        axes.plot(*at, "*", markersize=19, color=color("bad"), markeredgecolor=color("paper"), zorder=5)
        rightmost = to_pixels(at)[0] > box.x0 + 0.7 * box.width
        axes.annotate(
            name, at, (-12 if rightmost else 12, 9), textcoords="offset points", ha="right" if rightmost else "left",
            va="bottom", weight="bold", color=color("bad"), zorder=6,
            bbox={"facecolor": color("paper"), "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )  # fmt: skip
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(FixedLocator(_log_ticks(*axes.get_xlim(), 8 if wide else 4)))
    axes.yaxis.set_major_locator(FixedLocator(_log_ticks(*axes.get_ylim(), 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.money_tick(value, "USD")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _said(goal, value)))
    axes.grid()
    axes.set_xlabel("USD a month, with its spikes" if found["scenario"]["spike"] else "USD a month", labelpad=8)
    axes.annotate(
        f"{goal['metric']}, {'share of requests' if goal['metric'] == 'error' else 'time'}", (0, 1), (-left + 6, 14),
        xycoords="axes fraction", textcoords="offset points", ha="left", va="bottom", color=color("muted"),
    )  # fmt: skip
    return inline(
        figure,
        name=f"plan-front-{'wide' if wide else 'narrow'}",
        title=f"Cost against {goal['metric']}",
        description=f"{len(line)} designs that nothing beats in both; the limit is {goal['text']}.",
        tips=tips,
    )


def _said(goal: Mapping[str, Any], value: float) -> str:
    return numbers.share(value) if goal["metric"] == "error" else numbers.seconds(value)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within, at most so many."""
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            break
    return found


def balancers(found: Mapping[str, Any], *, wide: bool) -> str | None:
    """What share of all requests was answered within a time, one line a balancer, on the plan's fleet."""
    if not found["latencies"]:
        return None
    with style():
        return _balancers(found, wide)


def _balancers(found: Mapping[str, Any], wide: bool) -> str:
    width, height = (WIDE, 380) if wide else (NARROW, 360)
    left, right, top, bottom = (64, 200, 40, 50) if wide else (50, 16, 40, 50)
    figure = sheet(width, height)
    axes = panel(figure, left, top, width - left - right, height - top - bottom)
    axes.set_xscale("log")
    rows = {one["balancer"]: one for one in found["balancers"]}
    lows, highs, ends = [], [], []
    for i, (name, of) in enumerate(found["latencies"].items()):
        counts = np.asarray(of["counts"], np.float64)
        if not counts.size:
            continue
        # Who was turned away never gets an answer, so a line may end below 1.
        error = rows[name]["errors"]["mean"] if name in rows else 0.0
        shares = np.cumsum(counts) / counts.sum() * (1 - (error or 0.0))
        at = np.asarray(of["high_s"], np.float64)
        # A line needs no more points than the page has pixels.
        keep = np.unique(np.searchsorted(shares, np.linspace(shares[0], shares[-1], 240)).clip(0, len(shares) - 1))
        role = SERIES[i % len(SERIES)]
        axes.plot(at[keep], shares[keep], color=color(role), linewidth=2)
        lows.append(float(at[np.searchsorted(shares, 0.01 * shares[-1])]))
        highs.append(float(at[-1]))
        ends.append((float(shares[-1]), name, role))
    low, high = max(min(lows, default=0.1), 1e-4), max(highs, default=1.0)
    timed = [one for one in found["objectives"] if one["metric"] != "error"]
    high = max([high, *(one["limit"] * 1.2 for one in timed)])
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.03)
    for one in timed[:1]:
        axes.axvline(one["limit"], color=color("ink"), linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            one["text"], (one["limit"], 1), (0, 6), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", weight="bold",
        )  # fmt: skip
    inside = [value for value in SECONDS if low <= value <= high]
    step = max(1, math.ceil(len(inside) / (9 if wide else 5)))
    axes.xaxis.set_major_locator(FixedLocator(inside[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.tick(value)))
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 0.9, 1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.grid()
    axes.set_xlabel("time to the answer", labelpad=8)
    if wide:
        _names(axes, ends, height - top - bottom)
    said = "; ".join(f"{name} answers {numbers.share(share)}" for share, name, _ in ends)
    return inline(
        figure,
        name=f"plan-balancers-{'wide' if wide else 'narrow'}",
        title="Share of all requests that are answered within a time, by balancer",
        description=f"One line a balancer, on the same fleet. In the end {said}.",
    )


def _names(axes: Axes, ends: Sequence[tuple[float, str, str]], tall: float) -> None:
    low, high = axes.get_ylim()
    places = [(value - low) / (high - low) * tall for value, _, _ in ends]
    for (_, name, role), place in zip(ends, apart(places, 18, 4, tall), strict=True):
        axes.annotate(
            shortened(name, 22), (1, 0), (10, place), xycoords="axes fraction", textcoords="offset points", ha="left",
            va="center", color=color(role), weight="bold",
        )  # fmt: skip
