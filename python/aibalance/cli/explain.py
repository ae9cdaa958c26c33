"""`aibalance explain`: what a scaling policy did over a series, what bound it, and what another would have done."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from ..report import numbers, times
from . import options, policies
from .recommend import fleet, seconds, warnings, warnings_text
from .series import Series, instant, of_csv, of_prometheus
from .tables import table, width, wrapped

if TYPE_CHECKING:
    from ..autoscaling import Moment, PolicyWarning, Timeline

__all__ = ["add", "run", "sparkline", "to_dict"]

_EPILOG = """\
A series is a CSV file with a head: a time (at, t, time, timestamp: seconds or ISO 8601), metrics by name, and, if you
know them, the servers that there were (current, replicas, servers). Empty cells are missing values.

Decisions are carried out: means over the servers are scaled to those that there would be. --recorded leaves the servers
as they were and asks what the policy would have done each time.

Exit codes: 0 explained; 1 --strict and a warning; 2 wrong usage or input.
"""
_BARS = "▁▂▃▄▅▆▇█"
_LETTERS = {
    "tolerance": "t",
    "window": "w",
    "rate": "r",
    "min": "m",
    "max": "M",
    "missing metric": "?",
    "cooldown": "c",
    "warming": "s",
}


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "explain",
        help="what a scaling policy does over a series of metrics, and what bound each decision",
        description="Run a scaling policy over recorded metrics; print and draw what it did and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("policy", metavar="POLICY", help=policies.HELP)
    parser.add_argument("series", metavar="SERIES.csv", nargs="?", help="what was measured")
    parser.add_argument("--against", metavar="POLICY2", help="what this policy would have done")
    parser.add_argument("--prometheus", metavar="URL", help="take the series from this Prometheus")
    parser.add_argument(
        "--query",
        metavar="PROMQL",
        action="append",
        default=[],
        help="one for each metric of the policy, in its order, or of --metric",
    )
    parser.add_argument("--metric", metavar="NAME", action="append", default=[], help="the metric of each --query")
    parser.add_argument("--servers-query", metavar="PROMQL", help="how many servers there were")
    parser.add_argument("--range", metavar="14d", type=seconds, default=14 * 86400.0, help="how far back (14d)")
    parser.add_argument("--end", metavar="TIME", type=_instant, help="seconds since 1970 or ISO 8601 (now)")
    parser.add_argument("--step", metavar="S", type=seconds, default=60.0, help="seconds between decisions (60)")
    parser.add_argument(
        "--current",
        metavar="N",
        type=options.whole(0, 2**31 - 1),
        help="servers at the start, where the series is mute",
    )
    parser.add_argument(
        "--metric-delay", metavar="S", type=seconds, help="seconds by which metrics are late (the policy's, or 0)"
    )
    parser.add_argument("--recorded", action="store_true", help="do not carry decisions out")
    fleet(parser)
    parser.add_argument("--at", metavar="TIME", type=_instant, help="show the whole trace of the decision at that time")
    parser.add_argument(
        "--rows", metavar="N", type=options.whole(0, 1_000_000), default=40, help="changes to list at most (40)"
    )
    parser.add_argument("--bindings", action="store_true", help="list also where something else began to bind it")
    parser.add_argument("--html", metavar="FILE.html", help="write the charts, one file, readable offline")
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no notes on stderr")
    parser.set_defaults(run=run)


def _instant(text: str) -> float:
    try:
        return instant(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: seconds, or a time such as 2026-01-31T12:00") from None


def run(given: argparse.Namespace) -> int:
    """Run the policy, and tell."""
    from ..autoscaling import timeline

    if given.html is not None:
        from ..report import ready

        ready(given.html)
    named = [policies.read(given.policy)]
    if given.against is not None:
        named.append(policies.read(given.against))
    series = _series(given, named)
    for said in series.notes:
        options.note(given, said)
    current = given.current
    if current is None and series.samples[0].current is None:
        current = 1
        options.note(given, "the series does not say how many servers there were: taken as 1 (--current)")
    # How late a metric is does not depend on who reads it.
    delay = given.metric_delay
    if delay is None:
        delay = max(getattr(one.policy, "metric_delay", 0.0) for one in named)
    runs = [
        timeline(
            one.policy,
            series.samples,
            current=current,
            cold_start=given.cold_start or 0.0,
            metric_delay=delay,
            carry_out=not given.recorded,
        )
        for one in named
    ]
    names = _apart([one.name for one in named])
    size = max(moment.desired for moment in runs[0].moments)
    found = warnings(named[0].policy, given, size)
    if given.json or given.html is not None:
        whole = to_dict(names, runs, series, found)
        if given.html is not None:
            from ..report.explain import write

            write(whole, given.html)
            options.note(given, f"chart: {os.fspath(given.html)}")
        if given.json:
            options.print_json(whole)
    if not given.json:
        print(_text(names, runs, series, found, given))
    return 1 if given.strict and found else 0


def _apart(names: list[str]) -> list[str]:
    return names if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, 1)]


def _series(given: argparse.Namespace, named: Sequence[policies.Named]) -> Series:
    from ..autoscaling._aims import aims, also

    names = list(dict.fromkeys(aim.metric for one in named for aim in aims(one.policy)))
    single = all(len(aims(one.policy)) <= 1 for one in named)
    if (given.series is None) == (given.prometheus is None):
        raise ConfigError("series: needed: SERIES.csv, or --prometheus URL, and not both")
    if given.prometheus is None:
        for option in ("query", "metric", "servers_query"):
            if getattr(given, option):
                raise ConfigError(f"--{option.replace('_', '-')}: needs --prometheus")
        return of_csv(given.series, names, others=[name for one in named for name in also(one.policy)], one=single)
    from ..autoscaling._cloud import UnixClock

    if not given.query:
        raise ConfigError("--query: needed with --prometheus, one for each metric")
    metrics, queries = given.metric or names[: len(given.query)], given.query
    if single and not given.metric and len(queries) == 1:
        # One number for all, whatever each of them calls it.
        metrics, queries = names or ["value"], queries * max(1, len(names))
    if len(metrics) != len(queries):
        raise ConfigError(f"--query: {len(given.query)} of them for {len(metrics)} metrics ({', '.join(metrics)})")
    if given.step <= 0:
        raise ConfigError("--step: 0 is not allowed; seconds above 0")
    end = UnixClock().now() if given.end is None else given.end
    start = end - given.range
    return of_prometheus(
        given.prometheus,
        list(zip(metrics, queries, strict=True)),
        start=start,
        end=end,
        step=given.step,
        servers=given.servers_query,
    )


def to_dict(
    names: Sequence[str], runs: Sequence[Timeline], series: Series, found: Sequence[PolicyWarning]
) -> dict[str, Any]:
    """All of it as plain values; times are the series' seconds."""
    return {
        "source": series.source,
        "metrics": {aim.metric: {"target": aim.target, "kind": aim.kind} for one in reversed(runs) for aim in one.aims},
        "recorded": [sample.current for sample in series.samples],
        "policies": [
            {
                "name": name,
                "summary": _summary(one),
                "moments": [_moment(moment) for moment in one.moments],
            }
            for name, one in zip(names, runs, strict=True)
        ],
        "warnings": [{"rule": one.rule, "field": one.field, "message": one.message} for one in found],
    }


def _summary(run: Timeline) -> dict[str, Any]:
    return {
        "decisions": len(run.moments),
        "changes": len(run.changes),
        "server_hours": run.server_hours,
        "peak": max(one.desired for one in run.moments),
        "above_target_s": run.seconds_above_target(),
        "bound_s": run.seconds_bound(),
    }


def _moment(one: Moment) -> dict[str, Any]:
    return {
        "at": one.at,
        "metrics": dict(one.metrics),
        "current": one.current,
        "warming": one.warming,
        "asked": one.asked,
        "desired": one.desired,
        "limited_by": one.recommendation.limited_by,
        "bound": one.bound,
        "reason": one.reason,
        "projected": dict(one.projected),
    }


def sparkline(values: Sequence[float | None], columns: int) -> str:
    """A line of bars, from 0 to the largest value; each is the largest of its stretch, and a space is a gap.

    >>> sparkline([0, 1, 2, None, 4, 8], 6)
    '▁▁▂ ▄█'
    """
    stretches = _stretches(values, columns)
    peaks = [max((v for v in part if v is not None), default=None) for part in stretches]
    top = max((peak for peak in peaks if peak is not None), default=0.0)
    out = []
    for peak in peaks:
        if peak is None:
            out.append(" ")
        else:
            share = peak / top if top > 0 else 0.0
            out.append(_BARS[min(len(_BARS) - 1, max(0, round(share * len(_BARS)) - 1))])
    return "".join(out)


def _stretches(values: Sequence[Any], columns: int) -> list[Sequence[Any]]:
    count = max(1, min(columns, len(values)))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [values[a:b] for a, b in pairwise(edges)]


def _binding_line(run: Timeline, columns: int) -> str:
    """A letter for what bound most decisions of each stretch."""
    out = []
    for part in _stretches([one.bound for one in run.moments], columns):
        bound = [one for one in part if one is not None]
        most = max(dict.fromkeys(bound), key=bound.count, default=None)
        out.append("·" if most is None else _LETTERS.get(most, "o"))
    return "".join(out)


def _text(
    names: Sequence[str],
    runs: Sequence[Timeline],
    series: Series,
    found: list[PolicyWarning],
    given: argparse.Namespace,
) -> str:
    columns = width()
    first, samples = runs[0], series.samples
    span = samples[-1].at - samples[0].at
    clock = times.writer(samples[0].at, samples[-1].at)
    parts = [
        f"{names[0]} over {series.source}: {len(samples):,} decisions in {numbers.clock(span)}, "
        f"{clock(samples[0].at)} to {clock(samples[-1].at)}"
    ]
    room = max(20, min(columns, 120) - max(len(n) for n in [*names, *[a.metric for a in first.aims]]) - 26)
    rows = []
    for aim in first.aims:
        values = [one.metrics.get(aim.metric) for one in first.moments]
        known = [value for value in values if value is not None]
        ends = f"{min(known):.4g} to {max(known):.4g}" if known else numbers.MISSING
        rows.append([aim.metric, sparkline(values, room), f"{ends}, target {aim.target:g}"])
    for name, one in zip(names, runs, strict=True):
        counts = [moment.desired for moment in one.moments]
        rows.append([name, sparkline(counts, room), f"{min(counts)} to {max(counts)} servers"])
        rows.append(["  bound by", _binding_line(one, room), ""])
    parts.append(table(["", "", ""], rows, left=3, columns=1000).lstrip("\n"))
    used = {one.bound for run in runs for one in run.moments if one.bound is not None}
    key = [f"{letter} {bound}" for bound, letter in _LETTERS.items() if bound in used]
    if other := sorted(used - set(_LETTERS)):
        key.append(f"o {', '.join(other)}")
    if key:
        parts[-1] += "\n" + wrapped("; ".join([*key, "· nothing"]), columns)
    summaries = [_summary(one) for one in runs]
    head = ["policy", "server hours", "changes", "peak", "above target", "bound longest by"]
    body = []
    for name, told in zip(names, summaries, strict=True):
        bound = [f"{what} {numbers.clock(time)}" for what, time in told["bound_s"].items()]
        body.append(
            [
                name,
                f"{told['server_hours']:,.1f}",
                f"{told['changes']:,}",
                f"{told['peak']:,}",
                numbers.clock(told["above_target_s"]),
                ", ".join(bound[:3]) or numbers.MISSING,
            ]
        )
    parts.append(table(head, body, left=1, columns=columns))
    if given.at is None:
        parts.append(_changes(first, given.rows, clock, bindings=given.bindings))
        if len(runs) > 1:
            parts.append(_differences(names, runs, clock))
    else:
        parts.append(_trace(first, given.at, columns, clock))
    if found:
        parts.append(warnings_text(found, columns))
    return "\n\n".join(parts)


def _changes(run: Timeline, limit: int, clock: Any, *, bindings: bool) -> str:
    """What it changed and, with `bindings`, where it began to be bound by something."""
    rows, before = [], None
    for one in run.moments:
        if one.desired != one.asked or (bindings and one.bound != before and one.bound is not None):
            after = ", ".join(f"{name} {value:.4g}" for name, value in one.projected.items())
            change = f"{one.asked} to {one.desired}" if one.desired != one.asked else f"{one.desired}"
            rows.append([clock(one.at), change, one.bound or numbers.MISSING, after or numbers.MISSING, one.reason])
        before = one.bound
    if not rows:
        return "It never changed anything."
    more = len(rows) - limit
    head = ["at", "servers", "bound by", "per server after", "reason"]
    shown = table(head, rows[:limit], left=5, columns=1000) if limit else ""
    return "\n".join(["Decisions", shown, *([f"and {more:,} more (--rows)"] if more > 0 else [])])


def _differences(names: Sequence[str], runs: Sequence[Timeline], clock: Any) -> str:
    pairs = list(zip(runs[0].moments, runs[1].moments, strict=True))
    apart = [(a, b) for a, b in pairs if a.desired != b.desired]
    if not apart:
        return f"{names[1]} would have done the same."
    a, b = apart[0]
    hours = runs[1].server_hours - runs[0].server_hours
    sign = "more" if hours >= 0 else "fewer"
    return (
        f"{names[1]} would have had another number in {len(apart):,} of {len(pairs):,} decisions, first at "
        f"{clock(a.at)} ({b.desired} instead of {a.desired}); {abs(hours):,.1f} server hours {sign} in all."
    )


def _trace(run: Timeline, at: float, columns: int, clock: Any) -> str:
    one = max((m for m in run.moments if m.at <= at), key=lambda m: m.at, default=run.moments[0])
    rows = [
        [name, numbers.MISSING if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)]
        for name, value in one.recommendation.trace
    ]
    return f"At {clock(one.at)}: {one.reason}\n" + table(["stage", "value"], rows, left=1, columns=columns)
