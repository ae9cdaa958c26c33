"""Instructions a call, counted by valgrind's cachegrind: steady where time is noisy, and so fit for a gate.

A loop of N1 calls less a loop of N0 calls, over N1 - N0, less the same for an empty loop: interpreter included,
start-up and loop excluded. PYTHONHASHSEED moves a count by up to 10 %, so a figure is the least over five seeds.

    python -m benches.instructions                    the table, beside the floor and what the design asks for
    python -m benches.instructions --write-baseline   what tests/meta/test_instructions.py compares with
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benches import floor
from benches.operations import ALL, CALL, EMPTY, FLOOR, OURS, Operation

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).with_name("baseline.json")
N0, N1 = 500, 5_500
SEEDS = range(5)
MOST_GROWTH = 0.05
GATED = ["round robin", "power of two", "Maglev", "ring", "acquire, release", "with acquire"]


def available() -> bool:
    return shutil.which("valgrind") is not None


def counts(names: list[str], seed: int, python: str) -> list[float]:
    """Instructions a call of each operation in one process and its forks, loop included."""
    # Another interpreter brings its own aibalance: only `benches` comes from here.
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as out:
        valgrind = ["valgrind", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={out}/%p"]
        done = subprocess.run(
            [*valgrind, python, "-m", "benches.operations", f"{N0},{N1},{N0}", *names],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-800:])
    found = re.findall(r"^==(\d+)==\s+I\s+refs:\s+([\d,]+)", done.stderr, flags=re.MULTILINE)
    totals = {pid: int(total.replace(",", "")) for pid, total in found}
    runs = [totals[pid] for pid in done.stdout.split()]
    # A fork starts with its parent's count, to which each fork adds the same little: the mean of a short run before and
    # one after takes that off too.
    return [
        (long - (before + after) / 2) / (N1 - N0)
        for before, long, after in zip(runs[::3], runs[1::3], runs[2::3], strict=True)
    ]


def measure(
    operations: Iterable[Operation | str], seeds: Iterable[int] = SEEDS, python: str = sys.executable
) -> dict[str, float]:
    """Instructions a call of each operation (or its name), the empty loop taken off: the least over the hash seeds."""
    names = [EMPTY.name, *(o if isinstance(o, str) else o.name for o in operations)]
    # Counts do not depend on what else the machine does, so the cores may share the work.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        each = list(threads.map(lambda seed: counts(names, seed, python), seeds))
    empty, *least = (min(column) for column in zip(*each, strict=True))
    return {name: value - empty for name, value in zip(names[1:], least, strict=True)}


def table() -> str:
    trouble = floor.build()
    figures = measure([*([] if trouble else FLOOR), *OURS])
    lines = [
        f"Instructions a call, CPython {platform.python_version()}, {platform.machine()}",
        "",
        "| operation | aibalance | C floor | must | goal | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for o in OURS:
        ours, least = figures[o.name], figures.get(f"floor: {o.floor}")
        must = "" if o.must is None else f"{o.must:,}"
        goal = "" if o.goal is None else f"{o.goal:,}"
        verdict = ""
        if o.must is not None:
            verdict = "TOO MANY" if ours > o.must else "ok"
        if o.goal is not None and ours <= o.goal:
            verdict = "goal"
        lines.append(
            f"| {o.name} | {ours:,.0f} | {'' if least is None else f'{least:,.0f}'} | {must} | {goal} | {verdict} |"
        )
    if trouble:
        lines += ["", f"The floor could not be built: {trouble}"]
    return "\n".join(lines)


def key() -> str:
    """What a baseline holds for: the minor version of CPython and the kind of processor."""
    return f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}-{platform.machine()}"


def gated() -> dict[str, float]:
    """The figures that the gate compares, the bare call among them."""
    return measure([CALL, *(ALL[name] for name in GATED)])


def grown(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """The operations that cost more than the gate allows, in words."""
    found = []
    for name in GATED:
        # Two builds of one CPython version differ in what a call costs; that part is not ours.
        growth = (now[name] - now[CALL.name]) - (before[name] - before[CALL.name])
        if growth > MOST_GROWTH * before[name]:
            found.append(f"{name}: {now[name]:.0f} instructions a call, {growth:+.0f} against {before[name]:.0f}")
    return found


def write_baseline() -> None:
    known = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    known[key()] = {name: round(value, 1) for name, value in gated().items()}
    BASELINE.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.instructions")
    parser.add_argument(
        "--write-baseline", action="store_true", help=f"measure the gate's operations into {BASELINE.name}"
    )
    arguments = parser.parse_args()
    if not available():
        print("valgrind is not installed: no instruction counts", file=sys.stderr)
        return 2
    if arguments.write_baseline:
        write_baseline()
        print(f"{BASELINE.relative_to(ROOT)}: {key()} written")
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
