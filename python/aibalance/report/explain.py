"""The page of `aibalance explain`: metrics against targets, servers, and what bound each decision."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from .. import __version__
from .._errors import ConfigError
from . import numbers, times
from .charts.common import NARROW, STEPS, WIDE, shortened
from .svg import SERIES, color, inline, panel, sheet, style

__all__ = ["chart", "render", "write"]

# None of them is the colour of the first two policies.
_BINDINGS = {
    "tolerance": "same",
    "window": "s5",
    "rate": "s4",
    "min": "s3",
    "max": "s7",
    "missing metric": "ink",
    "cooldown": "s6",
    "warming": "s8",
}
_OTHER = "muted"
# A chart has fewer pixels than two weeks have minutes.
_BINS = 900


def write(found: Mapping[str, Any], path: str | os.PathLike[str], /) -> None:
    """Write the page to `path`, which is replaced whole or not at all. Raises ConfigError when that fails."""
    text = render(found)
    target = os.fspath(path)
    draft = f"{target}.part{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, target)
    except OSError as error:
        if os.path.exists(draft):
            os.unlink(draft)
        raise ConfigError(f"html: {target}: cannot be written: {error.strerror or error}") from None


def render(found: Mapping[str, Any], /) -> str:
    """The whole page as text, of what `aibalance explain --json` prints."""
    environment = Environment(
        loader=PackageLoader("aibalance.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    policies = found["policies"]
    clock = _clock(found)
    rows = [
        {
            "name": one["name"],
            "role": SERIES[i % len(SERIES)],
            "cells": [
                f"{one['summary']['server_hours']:,.1f}",
                f"{one['summary']['changes']:,}",
                f"{one['summary']['peak']:,}",
                numbers.clock(one["summary"]["above_target_s"]),
            ],
            "bound": ", ".join(f"{what} {numbers.clock(time)}" for what, time in one["summary"]["bound_s"].items()),
        }
        for i, one in enumerate(policies)
    ]
    changes = [m for m in policies[0]["moments"] if m["desired"] != m["asked"]]
    return environment.get_template("explain.html.j2").render(
        version=__version__,
        css=Markup(files("aibalance.report").joinpath("page.css").read_text(encoding="utf-8")),
        title=" against ".join(one["name"] for one in policies),
        source=f"{found['source']}; times are UTC" if times.dated(policies[0]["moments"][0]["at"]) else found["source"],
        sentence=_sentence(found, clock),
        rows=rows,
        key=[(what, role) for what, role in _used(found)],
        chart=(Markup(chart(found, wide=True)), Markup(chart(found, wide=False))),
        changes=[
            (
                clock(m["at"]),
                f"{m['asked']} → {m['desired']}",
                m["bound"] or numbers.MISSING,
                ", ".join(f"{name} {value:.4g}" for name, value in m["projected"].items()) or numbers.MISSING,
                m["reason"],
            )
            for m in changes[:200]
        ],
        more=max(0, len(changes) - 200),
        warnings=found["warnings"],
    )


def _sentence(found: Mapping[str, Any], clock: Any) -> str:
    first = found["policies"][0]
    moments, told = first["moments"], first["summary"]
    changes = "once" if told["changes"] == 1 else f"{told['changes']:,} times"
    said = (
        f"From {clock(moments[0]['at'])} to {clock(moments[-1]['at'])}, {first['name']} changed the number of servers "
        f"{changes} and used {told['server_hours']:,.1f} server hours, {told['peak']:,} servers at most."
    )
    if told["bound_s"]:
        what, time = next(iter(told["bound_s"].items()))
        said += f" What bound it longest was: {what}, {numbers.clock(time)}."
    for other in found["policies"][1:]:
        hours = other["summary"]["server_hours"] - told["server_hours"]
        said += f" {other['name']} would have used {abs(hours):,.1f} {'more' if hours >= 0 else 'fewer'}."
    return said


def _used(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    seen = {m["bound"] for one in found["policies"] for m in one["moments"] if m["bound"] is not None}
    known = [(what, role) for what, role in _BINDINGS.items() if what in seen]
    return known + [(what, _OTHER) for what in sorted(seen - set(_BINDINGS))]


def _clock(found: Mapping[str, Any]) -> Any:
    moments = found["policies"][0]["moments"]
    return times.writer(moments[0]["at"], moments[-1]["at"])


def chart(found: Mapping[str, Any], *, wide: bool) -> str:
    """Metrics, servers and bindings over time, one below the other, as an `<svg>`."""
    with style():
        return _chart(found, wide)


def _chart(found: Mapping[str, Any], wide: bool) -> str:
    policies = found["policies"]
    width = WIDE if wide else NARROW
    left, right = (58, 28) if wide else (44, 14)
    metrics = list(found["metrics"])[:4]
    each = 22
    strips = [130] * len(metrics) + [170, each * len(policies) + 6]
    gap, margin, bottom = 48, 34, 34
    figure: Figure = sheet(width, margin + sum(strips) + gap * (len(strips) - 1) + bottom)
    at = np.array([m["at"] for m in policies[0]["moments"]], np.float64)
    y = margin
    for index, tall in enumerate(strips):
        axes = panel(figure, left, y, width - left - right, tall)
        last = index == len(strips) - 1
        if index < len(metrics):
            _metric(axes, found, metrics[index], at)
        elif not last:
            _servers(axes, found, at)
        else:
            _bindings(axes, policies, at, each)
        _times(axes, at, 8 if wide else 3, labels=last)
        y += tall + gap
    return inline(
        figure,
        name=f"explain-{'wide' if wide else 'narrow'}",
        title="What the policy saw and did",
        description=f"{', '.join(metrics)} over time, the servers asked for, and what bound each decision. "
        + " ".join(f"{one['name']}: {one['summary']['changes']} changes." for one in policies),
    )


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=12.5, color=color("ink"), weight="bold", pad=8, x=0)


def _metric(axes: Axes, found: Mapping[str, Any], name: str, at: NDArray[np.float64]) -> None:
    told = found["metrics"][name]
    _title(axes, shortened(name, 46) + (", per server" if told["kind"] == "average" else ""))
    top = told["target"] if told["kind"] != "total" else 0.0
    for i, one in reversed(list(enumerate(found["policies"]))):
        values = np.array([_number(m["metrics"].get(name)) for m in one["moments"]])
        t, high = _peaks(at, values)
        top = max(top, float(np.nanmax(values, initial=0.0)))
        if told["kind"] != "average":
            # The same for all.
            axes.fill_between(t, 0, high, color=color("muted"), alpha=0.35, linewidth=0, step="post")
            break
        axes.plot(t, high, color=color(SERIES[i]), linewidth=1.3, alpha=0.9 if i == 0 else 0.6)
    if told["kind"] == "total":
        # A total has a target for each server: together as much as the servers take.
        for i, one in reversed(list(enumerate(found["policies"]))):
            takes = np.array([told["target"] * m["current"] for m in one["moments"]])
            axes.step(*_changes(at, takes), where="post", color=color(SERIES[i]), linewidth=1.2)
            top = max(top, float(takes.max(initial=0.0)))
        label = "what the servers take (lines)"
    else:
        axes.axhline(told["target"], color=color("ink"), linewidth=1, linestyle=(0, (4, 3)))
        label = f"target {told['target']:g}"
    axes.set_ylim(0, 1.08 * top or 1.0)
    axes.annotate(
        label, (1, 1), (0, 9), xycoords="axes fraction", textcoords="offset points", ha="right", va="bottom",
        color=color("muted"),
    )  # fmt: skip
    _levels(axes, whole=False)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _peaks(at: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest of each stretch: a spike is never lost. A stretch with a gap in it is a gap only if it is all gap."""
    if len(values) <= _BINS:
        return at, values
    edges = np.linspace(0, len(values), _BINS + 1).astype(int)
    parts = [values[a:b] for a, b in pairwise(edges)]
    return at[edges[:-1]], np.array([np.nan if np.isnan(p).all() else np.nanmax(p) for p in parts])


def _changes(at: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Only where a line of steps changes, and its ends."""
    keep = np.ones(len(values), bool)
    keep[1:-1] = values[1:-1] != values[:-2]
    return at[keep], values[keep]


def _servers(axes: Axes, found: Mapping[str, Any], at: NDArray[np.float64]) -> None:
    policies = found["policies"]
    recorded = found["recorded"]
    top = 0.0
    known = any(count is not None for count in recorded)
    if known:
        values = np.array([_number(count) for count in recorded])
        axes.step(*_changes(at, values), where="post", color=color("same"), linewidth=3, alpha=0.5)
        top = float(np.nanmax(values))
    for i, one in reversed(list(enumerate(policies))):
        wanted = np.array([m["desired"] for m in one["moments"]], np.float64)
        axes.step(*_changes(at, wanted), where="post", color=color(SERIES[i]), linewidth=1.8)
        ready = np.array([m["current"] for m in one["moments"]], np.float64)
        if any(m["warming"] for m in one["moments"]):
            axes.step(*_changes(at, ready), where="post", color=color(SERIES[i]), linewidth=1, linestyle=(0, (2, 2)))
        top = max(top, float(wanted.max()), float(ready.max()))
    said = ["asked for (line)"]
    if any(m["warming"] for one in policies for m in one["moments"]):
        said.append("ready (dotted)")
    if known:
        said.append("recorded (grey)")
    _title(axes, "Servers: " + ", ".join(said))
    axes.set_ylim(0, 1.08 * top or 1.0)
    _levels(axes, whole=True)


def _bindings(axes: Axes, policies: Sequence[Mapping[str, Any]], at: NDArray[np.float64], each: int) -> None:
    _title(axes, "What bound each decision")
    for row, one in enumerate(policies):
        bound, starts, ends = _stretches([m["bound"] for m in one["moments"]], at)
        begin = 0
        stretches: dict[str, list[tuple[float, float]]] = {}
        for i in range(1, len(bound) + 1):
            if i == len(bound) or bound[i] != bound[begin]:
                what = bound[begin]
                if what is not None:
                    stretch = (float(starts[begin]), float(ends[i - 1] - starts[begin]))
                    stretches.setdefault(what, []).append(stretch)
                begin = i
        place = (row * each + 3, each - 6)
        axes.axhspan(place[0], sum(place), color=color("grid"), alpha=0.5, linewidth=0)
        for name, spans in stretches.items():
            axes.broken_barh(spans, place, facecolors=color(_BINDINGS.get(name, _OTHER)), linewidth=0)
        axes.plot([], [])
        axes.annotate(
            str(row + 1), (0, sum(place) - place[1] / 2), (-8, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="center", color=color(SERIES[row]), weight="bold",
        )  # fmt: skip
    axes.set_ylim(each * len(policies), 0)
    axes.yaxis.set_major_locator(NullLocator())


def _stretches(
    bound: Sequence[str | None], at: NDArray[np.float64]
) -> tuple[list[str | None], NDArray[np.float64], NDArray[np.float64]]:
    """What bound most decisions of each stretch, with its start and end."""
    last = at[-1] + (at[-1] - at[-2] if len(at) > 1 else 1.0)
    if len(bound) <= _BINS:
        return list(bound), at, np.append(at[1:], last)
    edges = np.linspace(0, len(bound), _BINS + 1).astype(int)
    parts = [bound[a:b] for a, b in pairwise(edges)]
    most = [max(dict.fromkeys(part), key=list(part).count) for part in parts]
    starts = at[edges[:-1]]
    return most, starts, np.append(starts[1:], last)


def _levels(axes: Axes, *, whole: bool) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS, integer=whole))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.grid(axis="y")


def _times(axes: Axes, at: NDArray[np.float64], at_most: int, *, labels: bool) -> None:
    start, end = float(at[0]), float(at[-1])
    # One decision, or several at once, still want an axis.
    end = end if end > start else start + 1.0
    axes.set_xlim(start, end)
    dated = times.dated(start)
    steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800]
    step = next((one for one in steps if (end - start) / one <= at_most), 10 ** math.ceil(math.log10(end - start + 1)))
    first = math.ceil(start / step) * step
    ticks = np.arange(first, end + 1e-9, step).tolist()
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())

    def label(value: float, _: object) -> str:
        if not labels:
            return ""
        if not dated:
            return numbers.clock(value) if value else "0"
        moment = datetime.fromtimestamp(value, UTC)
        return moment.strftime("%d %b" if step >= 86400 or (value % 86400 == 0) else "%H:%M")

    axes.xaxis.set_major_formatter(FuncFormatter(label))
