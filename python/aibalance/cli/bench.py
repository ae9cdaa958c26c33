"""`aibalance bench`: what a call costs here, beside the packages that one would use instead, if they are installed."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import options
from .progress import Progress
from .tables import table, width

if TYPE_CHECKING:
    from .._bench import Result

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "bench",
        help="measure what a pick costs on this machine",
        description="Measure what a pick costs on this machine, in nanoseconds, beside hand-written Python and the "
        "packages that one would use instead: roundrobin, uhashring, hashring, fastring, clandestined, "
        "jump-consistent-hash and litellm, each if it is installed.",
        epilog="One thread: its CPU time. Two threads: CPU time a call over both, on one picker; without a GIL, time "
        "that passed and a handle for each, if the picker has them. Instruction "
        "counts need the repository (make bench). Exit codes: 0 measured; 2 wrong usage or input.",
        allow_abbrev=False,
    )
    sizes = options.whole(1, 100_000)
    parser.add_argument("--sizes", metavar="N", type=sizes, nargs="+", default=[8, 64, 512], help="(8 64 512)")
    parser.add_argument("--rounds", metavar="N", type=options.whole(1, 10_000), default=15, help="per figure (15)")
    parser.add_argument("--only", metavar="TEXT", help="operations with this in their name")
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes on stderr")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Measure and print."""
    from .. import _bench as _measure
    from .._errors import ConfigError

    cases = _measure.cases(list(dict.fromkeys(given.sizes)))
    names = list(dict.fromkeys(case.what for case in cases))
    cases = [case for case in cases if given.only is None or given.only in case.what]
    if not cases:
        raise ConfigError(f"--only: {given.only!r} is in no name; there are: {'; '.join(names)}")
    with Progress("bench", quiet=given.quiet) as progress:
        results, absent = _measure.measure(cases, rounds=given.rounds, progress=progress)
    found = rows(results)
    if given.json:
        options.print_json({"machine": machine(), "absent": absent, "results": found})
        return 0
    print(text(found))
    if absent:
        options.note(given, f"not measured, for they are not there or do not work: {', '.join(sorted(absent))}")
    return 0


def machine() -> dict[str, Any]:
    """What the figures are of."""
    from .. import __version__

    return {
        "aibalance": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row a result; `times` is how many times ours it takes."""
    ours = {
        (r.case.what, r.case.n, r.case.keys, r.case.threads): r.ns for r in results if r.case.subject == "aibalance"
    }
    out = []
    for result in results:
        case = result.case
        own = ours.get((case.what, case.n, case.keys, case.threads))
        out.append(
            {
                "operation": case.what,
                "subject": case.subject,
                "n": case.n,
                "keys": case.keys,
                "threads": case.threads,
                "ns": result.ns,
                "times": result.ns / own if own and case.subject != "aibalance" else None,
                "note": case.note,
            }
        )
    return out


def text(found: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal."""
    about = machine()
    lines = [
        f"aibalance {about['aibalance']}, {about['python']}{'' if about['gil'] else ' without a GIL'}, "
        f"{about['machine']}, {about['cores']} cores",
        "",
    ]
    head = ["operation", "by", "n", "keys", "threads", "ns a call", "times ours"]
    cells = [
        [
            row["operation"],
            row["subject"],
            f"{row['n']:,}",
            f"{row['keys']:,}",
            str(row["threads"]),
            amount(row["ns"]),
            "" if row["times"] is None else f"{amount(row['times'])}x",
        ]
        for row in found
    ]
    return "\n".join([*lines, table(head, cells, left=2, columns=width())])


def amount(value: float | None) -> str:
    """Three figures."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
