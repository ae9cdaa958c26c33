"""`aibalance compare`: several balancers and scaling policies on the same traffic."""

from __future__ import annotations

import argparse
import logging
import math
import os
from typing import Any

from ..report import numbers, parse, ready, write_html
from ..report.model import Comparison, Interval, Metrics
from . import baseline, options
from .progress import Progress
from .tables import table, width, wrapped

__all__ = ["add", "run", "text"]

_EPILOG = """\
The ranking goes to stdout, progress and notes to stderr. Exit codes: 0 compared; 1 no candidate reaches --require;
2 wrong usage or input; 130 ended by Ctrl-C, with the ranking of the runs that were over by then.
"""


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "compare",
        help="rank balancers and scaling policies on the same traffic",
        description="Run every balancer with every scaling policy of a scenario on the same traffic, and rank them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.scenario(parser)
    parser.add_argument("--report", metavar="FILE.html", help="write a report with charts, one file, readable offline")
    parser.add_argument(
        "--require",
        metavar="SHARE",
        type=_share,
        help="ask whether some candidate answers this share of requests within the SLO (0.95 or 95%%): exit 1 if none "
        "does, by the lower end of its interval over the whole run",
    )
    parser.add_argument(
        "--replications", metavar="N", type=options.whole(1, 10_000), help="runs of each candidate (scenario's)"
    )
    parser.add_argument(
        "--baseline",
        metavar="FILE[,FILE]",
        help="also what these configuration files do (see aibalance import), and which of their lines to change",
    )
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a share above 0, at most 1 (0.95) or 100% (95%)")
    return value


def run(given: argparse.Namespace) -> int:
    """Compare, print, and say whether what was required is reached."""
    # Late, so that --help and a wrong option answer at once.
    from ..simulation import compare

    if given.report is not None:
        # What it has to say about its font cache is not for whoever waits for a ranking.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        ready(given.report)
    scenario = options.load(given)
    present = baseline.load(given) if given.baseline is not None else None
    more = baseline.candidates(given, present, scenario) if present is not None else {}
    try:
        with Progress("compare", quiet=given.quiet) as progress:
            result = compare(scenario, replications=given.replications, seed=given.seed, progress=progress, **more)
    except KeyboardInterrupt as stop:
        _known(given, getattr(stop, "known", None), getattr(stop, "text", ""))
        raise
    found = result.to_dict()
    comparison = parse(found)
    if given.json:
        options.print_json(found)
    else:
        print(text(comparison, width()))
        if present is not None:
            print("\n" + baseline.verdict(present, comparison))
    if given.report is not None:
        write_html(found, given.report)
        options.note(given, f"report: {os.fspath(given.report)}")
    if given.require is not None:
        return _answer(given, comparison)
    return 0


def _known(given: argparse.Namespace, known: Any, counted: str) -> None:
    """What an interrupted comparison knows: no report and no answer, only what its runs say."""
    if known is None:
        options.note(given, f"interrupted; nothing is known yet{f': {counted}' if counted else ''}")
        return
    found = known._plain(brief=not given.json)
    if given.json:
        options.print_json({"interrupted": True, "counted": counted, **found})
    else:
        print(f"interrupted; partial: {counted}\n\n" + text(parse(found), width()))


def _answer(given: argparse.Namespace, comparison: Comparison) -> int:
    within = numbers.clock(comparison.scenario.slo_s)
    reached = [one for one in comparison.candidates if one.all.within_slo.low >= given.require]
    if reached:
        return 0
    best = max(comparison.candidates, key=lambda one: (math.isfinite(one.all.within_slo.low), one.all.within_slo.low))
    share = best.all.within_slo
    options.note(
        given,
        f"no: none answers {numbers.share(given.require)} within {within}; "
        f"{best.name} comes nearest with {_interval(share, 'share')}",
    )
    return 1


def text(comparison: Comparison, columns: int) -> str:
    """The ranking for a terminal of `columns`: the whole run, then calm and spike, then one sentence."""
    scenario = comparison.scenario
    slo = numbers.clock(scenario.slo_s)
    parts = [
        f"{scenario.name}: {len(comparison.candidates)} candidates, {scenario.replications} replications of "
        f"{numbers.clock(scenario.duration_s)}, {numbers.count(scenario.requests)} requests each; ± is 95 %",
    ]
    places = {one.name: one.place for one in comparison.candidates}
    rows = []
    for one in comparison.candidates:
        ties = ", ".join(str(place) for place in sorted(places[name] for name in one.tied_with if name in places))
        rows.append(
            [
                str(one.place),
                one.picker,
                one.policy,
                _interval(one.all.within_slo, "share"),
                _interval(one.all.p99_s, "seconds"),
                _interval(one.servers_mean, "count"),
                numbers.count(one.servers_peak.mean),
                _interval(one.cost, "money", scenario.currency),
                ties or numbers.MISSING,
            ]
        )
    head = ["#", "balancer", "policy", f"within {slo}", "p99", "servers", "peak", "cost", "ties with"]
    parts.append("Ranking, whole run\n" + table(head, rows, left=3, columns=columns))
    for phase in [one for one in ("calm", "spike") if one in comparison.phases]:
        title = phase.capitalize()
        if phase == "spike" and scenario.spike is not None:
            title += f" ({numbers.clock(scenario.spike.start_s)} to {numbers.clock(scenario.spike.end_s)})"
        parts.append(title + "\n" + _phase(comparison, phase, slo, columns))
    parts.append(wrapped(comparison.sentence, columns))
    return "\n\n".join(parts)


def _phase(comparison: Comparison, phase: str, slo: str, columns: int) -> str:
    head = ["#", "balancer", "policy", f"within {slo}", "p50", "p95", "p99", "rejected", "timed out"]
    rows = []
    for one in comparison.candidates:
        found: Metrics | None = one.phases.get(phase)
        if found is None:
            continue
        rows.append(
            [
                str(one.place),
                one.picker,
                one.policy,
                _interval(found.within_slo, "share"),
                *(_interval(value, "seconds") for value in (found.p50_s, found.p95_s, found.p99_s)),
                numbers.share(found.rejected.mean),
                numbers.share(found.timed_out.mean),
            ]
        )
    return table(head, rows, left=3, columns=columns)


def _interval(interval: Interval, kind: str, currency: str = "USD") -> str:
    """`93.0 ± 1.9 s`: the mean and half of its interval, in one unit and to the same digit."""
    return numbers.plus_minus(interval, kind, currency)
