"""`make bench`: instructions and nanoseconds a call, beside the C floor and beside what people use instead.

Times are medians of the thread's own CPU time over many rounds on one core, the bare loop taken off. Machines are
noisy: quote ratios, and instruction counts.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches import instructions, table

ROOT = Path(__file__).parents[1]


def timings() -> list[dict[str, Any]]:
    """Every case of benches/test_*.py, as pytest-benchmark measured it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "benchmark.json"
        command = [sys.executable, "-m", "pytest", "benches", "-q", "-p", "no:warnings", "--timeout=0"]
        command += ["--benchmark-timer=time.thread_time", "--benchmark-disable-gc", "--benchmark-quiet"]
        done = subprocess.run(
            [*command, f"--benchmark-json={out}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        cases = json.loads(out.read_text(encoding="utf-8"))["benchmarks"]
    rows = [{**case["extra_info"], "seconds": case["stats"]["median"]} for case in cases]
    bare = next(row["seconds"] / row["calls"] for row in rows if row["subject"] == "empty loop")
    for row in rows:
        row["ns"] = max(row["seconds"] - bare * row["calls"], 0.0) / row["operations"] * 1e9
    return rows


def amount(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def section(what: str, rows: list[dict[str, Any]]) -> str:
    """A table of one group: what is compared with ours of the same size, where the group has an `aibalance` row."""
    ours = {row["n"]: row["ns"] for row in rows if row["subject"] == "aibalance"}
    lines = [f"\n### {what}\n", "| | n | ns | times ours | at least | goal, ns | |", "|---|--:|--:|--:|--:|--:|---|"]
    for row in sorted(rows, key=lambda row: (row["n"], row["subject"] != "aibalance")):
        ratio = row["ns"] / ours[row["n"]] if row["n"] in ours and row["subject"] != "aibalance" else None
        verdict = ""
        if row["at_least"] is not None and ratio is not None:
            verdict = "" if ratio >= row["at_least"] else "BELOW"
        if row["goal"] is not None:
            verdict = "" if row["ns"] <= row["goal"] else "ABOVE"
        times = "" if ratio is None else f"{amount(ratio)} x"
        least = "" if row["at_least"] is None else f"{row['at_least']:g} x"
        note = " ".join(part for part in (row["note"], verdict) if part)
        cells = [row["subject"], str(row["n"]), amount(row["ns"]), times, least, amount(row["goal"]), note]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    print(f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores\n", flush=True)
    if instructions.available():
        print("## Instructions\n", flush=True)
        print(instructions.table(), flush=True)
    else:
        print("valgrind is not installed: no instruction counts", flush=True)
    print("\n## Beside the floor and beside what one would use instead\n", flush=True)
    print(table.table(), flush=True)
    print("\n## Nanoseconds", flush=True)
    rows = timings()
    for what in dict.fromkeys(row["what"] for row in rows):
        print(section(what, [row for row in rows if row["what"] == what]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
