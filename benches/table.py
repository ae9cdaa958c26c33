"""The one table: floor, ours and peers, in nanoseconds and instructions, by size, number of keys and of threads.

    python -m benches.table [--sizes N ...] [--rounds N] [--only TEXT]

Cases are those of `aibalance bench`; here the floor and the instruction counts come to them. Prints Markdown for
docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from aibalance._bench import SIZES, Result, cases, measure
from aibalance.cli.bench import amount
from aibalance.cli.progress import Progress
from benches import floor, instructions
from benches.operations import name_of, with_floor

SLOWEST = 20_000
"""Nanoseconds a call above which valgrind would take minutes."""


def counted(results: Sequence[Result]) -> dict[str, float]:
    """Instructions a call by name, of one thread and what is not too slow. One hash seed: ratios here are large."""
    if not instructions.available():
        return {}
    # One process a size, so that what is slow to build is built once.
    out: dict[str, float] = {}
    one = [r.case for r in results if r.case.threads == 1 and r.ns < SLOWEST and "litellm" not in r.case.subject]
    for n in dict.fromkeys(case.n for case in one):
        names = [name_of(case) for case in one if case.n == n]
        empty = [f"table||empty|{n}|{keys}" for keys in dict.fromkeys(case.keys for case in one)]
        found = instructions.measure([*empty, *names], seeds=[0])
        for name in names:
            out[name] = found[name] - found[f"table||empty|{n}|{name.rpartition('|')[2]}"]
    return out


def table(sizes: Sequence[int] = SIZES, rounds: int = 15, only: str = "", quiet: bool = False) -> str:
    trouble = floor.build()
    wanted = [case for case in cases(sizes) if only in case.what]
    wanted = wanted if trouble else with_floor(wanted)
    with Progress("table", quiet=quiet) as progress:
        results, absent = measure(wanted, rounds=rounds, progress=progress)
    counts = counted(results)
    ours = {(r.case.what, r.case.n, r.case.keys, r.case.threads): r for r in results if r.case.subject == "aibalance"}
    lines = [
        "| operation | by | n | keys | threads | ns | instructions | times ours, ns | and instructions | at least | |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for result in results:
        case = result.case
        own = ours[case.what, case.n, case.keys, case.threads]
        mine = result is own
        count = counts.get(name_of(case)) if case.threads == 1 else None
        base = counts.get(name_of(own.case))
        times = None if mine or not own.ns else result.ns / own.ns
        more = None if mine or count is None or not base else count / base
        below = times is not None and case.at_least is not None and times < case.at_least
        cells = [
            case.what,
            case.subject,
            str(case.n),
            f"{case.keys:,}",
            str(case.threads),
            amount(result.ns),
            "" if count is None else f"{count:,.0f}",
            "" if times is None else f"{amount(times)} x",
            "" if more is None else f"{amount(more)} x",
            "" if case.at_least is None else f"{case.at_least:g} x",
            " ".join(part for part in (case.note, "BELOW" if below else "") if part),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if trouble:
        lines += ["", f"The floor could not be built: {trouble}"]
    if absent:
        lines += ["", f"Not measured, for they are not there or do not work: {', '.join(sorted(absent))}."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.table")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    print(table(given.sizes, given.rounds, given.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
