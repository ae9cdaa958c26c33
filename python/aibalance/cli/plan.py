"""`aibalance plan`: which balancer, which policy, which fleet, for this objective and this money."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from . import options
from .progress import Progress
from .tables import table, width, wrapped

if TYPE_CHECKING:
    from ..simulation import Plan
    from ..simulation._plan_search import Search

__all__ = ["add", "run", "save", "sparkline", "text"]

_EPILOG = """\
objectives: p50, p90, p95, p99, p99.9 or mean "<" a time in s or ms; error "<" a share in %; several with commas,
or --slo again. The plan goes to stdout, progress and notes to stderr. Exit codes: 0 the objectives can be kept; 1 not
for this money; 2 wrong usage or input; 130 ended by Ctrl-C, with what was known by then.
"""


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "plan",
        help="search the cheapest balancer, policy and fleet that keep an objective",
        description="Search balancer, scaling policy, bounds, warm pool and fleet mix for the cheapest that keep the "
        "objectives, and verify them under fresh seeds. Needs: pip install aibalance[plan].",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.scenario(parser)
    parser.add_argument("--slo", metavar="OBJECTIVE", action="append", required=True, help='such as "p95 < 30s"')
    parser.add_argument(
        "--budget", metavar="USD", type=_number(0, 1e12), help="for a month without a spike (default: no limit)"
    )
    parser.add_argument("--html", metavar="FILE.html", help="write a report with charts, one file, readable offline")
    parser.add_argument("--csv", metavar="FILE.csv", help="write every design that was tried")
    parser.add_argument("--max-servers", metavar="N", type=options.whole(1, 1_000_000), help="the most (fleet's max)")
    parser.add_argument(
        "--spikes", metavar="N", type=_number(0, 1e4), default=1.0, help="spikes a month that are counted (1)"
    )
    parser.add_argument("--no-spot", action="store_true", help="on-demand servers only")
    for name, unit, low, high, what in (
        ("discount", "PERCENT", 0, 100, "off the on-demand price (62)"),
        ("interruptions", "N", 0, 1e5, "a month and server (0.15)"),
        ("obtainable", "PERCENT", 0.1, 100, "of the time in which there is any (90)"),
    ):
        parser.add_argument(f"--spot-{name}", metavar=unit, type=_number(low, high), help=f"spot: {what}")
    parser.add_argument("--no-warm-pool", action="store_true", help="no stopped servers that stand by")
    parser.add_argument(
        "--warm-start", metavar="S", type=_number(0, 1e6), help="from the warm pool to ready (fleet's warmup_s)"
    )
    parser.add_argument(
        "--warm-price", metavar="USD", type=_number(0, 1e6), help="of a stopped server, an hour (0.011)"
    )
    parser.add_argument(
        "--trials", metavar="N", type=options.whole(1, 100_000), default=240, help="designs that optuna proposes (240)"
    )
    parser.add_argument("--workers", metavar="N", type=options.whole(1, 4096), help="processes (one a core)")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on this Ray cluster, with the same result")
    parser.set_defaults(run=run)


def _number(low: float, high: float) -> Any:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number from {low:g} to {high:g}")
        return value

    return read


def run(given: argparse.Namespace) -> int:
    """Plan, print, and say whether the objectives can be kept."""
    from dataclasses import replace

    from ..simulation import SpotTerms, WarmPoolTerms
    from ..simulation._plan import conclude, prepare

    if given.html is not None:
        from ..report import ready

        ready(given.html)
    if given.csv is not None:
        _writable(given.csv)
    spot = {"discount": given.spot_discount, "obtainability": given.spot_obtainable}
    terms = {name: value / 100 for name, value in spot.items() if value is not None}
    if given.spot_interruptions is not None:
        terms["interruptions_per_month"] = given.spot_interruptions
    if given.no_spot and terms:
        raise ConfigError("--no-spot: has no meaning beside --spot-…")
    if given.no_warm_pool and (given.warm_start is not None or given.warm_price is not None):
        raise ConfigError("--no-warm-pool: has no meaning beside --warm-…")
    pool = {"start_s": given.warm_start, "price_per_hour": given.warm_price}
    scenario = options.load(given)
    # An option says more than the scenario's [plan.spot] and [plan.warm_pool], and those more than the defaults.
    spot_terms = None if given.no_spot else replace(scenario.spot or SpotTerms(), **terms)
    known = {name: value for name, value in pool.items() if value is not None}
    pool_terms = None if given.no_warm_pool else replace(scenario.warm_pool or WarmPoolTerms(), **known)
    search: Search | None = None
    with Progress("plan", quiet=given.quiet) as progress:
        try:
            search = prepare(
                scenario,
                slo=given.slo,
                budget=given.budget,
                spot=spot_terms,
                warm_pool=pool_terms,
                max_servers=given.max_servers,
                spikes_per_month=given.spikes,
                trials=given.trials,
                seed=given.seed,
                workers=given.workers,
                ray=given.ray,
                progress=progress,
            )
            search.run()
            found = conclude(search)
        except KeyboardInterrupt:
            if search is None:
                options.note(given, "interrupted; no design was tried yet")
                raise
            # Workers first: what they still do, nobody waits for.
            search.stop()
            _known(given, search)
            raise
        except BaseException:
            if search is not None:
                search.close()
            raise
        search.close()
    if given.json:
        options.print_json(found.to_dict())
    else:
        print(text(found, width()))
    if given.csv is not None:
        save(given.csv, found.to_csv())
        options.note(given, f"designs: {os.fspath(given.csv)}")
    if given.html is not None:
        from ..report import write_plan

        write_plan(found.to_dict(), given.html)
        options.note(given, f"report: {os.fspath(given.html)}")
    return 0 if found.met else 1


def _known(given: argparse.Namespace, search: Search) -> None:
    """What an interrupted search knows, with nothing promised."""
    from ..simulation._plan import row, so_far

    known = so_far(search)
    if given.json:
        options.print_json({"interrupted": True, "designs": [row(one) for one in known]})
        return
    tried = len(search.ordered(lambda one: 0.0))
    print(f"interrupted; the best of {tried} designs so far, nothing verified:")
    metrics = [one.metric for one in search.space.objectives]
    if known:
        print(_rows([row(one) for one in known], metrics, width(), calm=search.space.calm is not None))


def _writable(path: str) -> None:
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ConfigError(f"--csv: {path}: cannot be written; allowed: the name of a file in a folder that is there")


def save(path: str, content: str) -> None:
    """Write a file whole or not at all. Raises ConfigError when that fails."""
    try:
        # The file, not the link to it; and what is no file (/dev/stdout) cannot be replaced.
        path = os.path.realpath(path) if os.path.islink(path) else path
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(content)
            return
        draft = tempfile.NamedTemporaryFile(  # noqa: SIM115  it outlives its with
            "w", encoding="utf-8", dir=os.path.dirname(path) or ".", prefix=".aibalance-", delete=False
        )
        try:
            with draft as file:
                file.write(content)
            # As any other new file would be.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(draft.name, 0o666 & ~mask)
            os.replace(draft.name, path)
        except BaseException:
            if os.path.exists(draft.name):
                os.unlink(draft.name)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def sparkline(values: Sequence[float], columns: int = 60) -> str:
    """Values as a line of blocks, each the largest of its part; the tallest is the maximum.

    >>> sparkline([0, 1, 2, 4, 8], 5)
    '▁▁▂▄█'
    """
    bars = "▁▂▃▄▅▆▇█"
    known = [value if value == value else 0.0 for value in values]
    n = min(columns, len(known))
    parts = [known[i * len(known) // n : (i + 1) * len(known) // n] for i in range(n)]
    top = max(known, default=0.0)
    return "".join(bars[min(7, int(8 * max(part) / top))] if top > 0 else bars[0] for part in parts)


def text(plan: Plan, columns: int) -> str:
    """The plan for a terminal of `columns`."""
    found = plan.to_dict()
    metrics = [one.metric for one in plan.objectives]
    calm = plan.space.calm is not None
    parts = [
        f"{plan.scenario.name}: {found['designs_tried']} designs tried",
        "How the question was read\n" + "\n".join(wrapped(f"- {line}", columns) for line in plan.reading),
        wrapped(plan.sentence, columns),
        "\n".join(wrapped(f"{name}: {answer}", columns) for name, answer in plan.answers.items()),
        "Cost against the objective (the front: nothing is better in both)\n"
        + _rows(_thinned(found["front"], 10), metrics, columns, calm=calm),
    ]
    if found["runners_up"]:
        parts.append("Runners-up\n" + _rows(found["runners_up"], metrics, columns, calm=calm))
    time = found["timeline"]
    wide = max(20, min(60, columns - 30))
    lines = [
        f"{name:18} {sparkline(time[key], wide)} at most {max(time[key]):,.4g}"
        for name, key in (
            ("requests/s", "arrivals_per_s"),
            ("ready servers", "capacity"),
            ("in the system", "in_system"),
        )
    ]
    parts.append("One run of it, over time\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _thinned(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first, the last, and some between."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def _rows(rows: Sequence[dict[str, Any]], metrics: Sequence[str], columns: int, *, calm: bool) -> str:
    from ..report import numbers
    from ..report.model import Interval

    def value(metric: str, of: dict[str, float]) -> str:
        if of["mean"] == float("inf"):
            return "no answer"
        interval = Interval(of["mean"], of["low"], of["high"])
        return numbers.plus_minus(interval, "share" if metric == "error" else "seconds")

    head = ["design", *metrics, "a month", *(["a spike"] if calm else []), "missed"]
    lines = [
        [
            one["text"],
            *(value(metric, of) for metric, of in zip(metrics, one["values"], strict=True)),
            numbers.money(one["month"]["mean"]),
            *([numbers.money(one["spike"]["mean"])] if calm else []),
            f"{one['misses']} of {one['runs']}",
        ]
        for one in rows
    ]
    return table(head, lines, left=1, columns=columns)
