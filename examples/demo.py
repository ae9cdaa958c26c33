"""`make demo`: replay real decisions, compare balancers on a spike, show what to paste into a server of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conformance.bundled import replay_bundled

from aibalance import cli

HERE = Path(__file__).parent
REPORT = Path("demo-out/report.html")


def main() -> int:
    print("1. Does it decide as the real programs do? Recorded decisions, asked again:\n", flush=True)
    replayed = replay_bundled(1000)
    if replayed.matched != replayed.total:
        print(f"first difference: {replayed.first_mismatch}", file=sys.stderr)
        return 1

    scenario = HERE / "viral-spike.toml"
    print(f"\n2. Which balancer, how many servers? aibalance compare {scenario.relative_to(HERE.parent)}\n", flush=True)
    REPORT.parent.mkdir(exist_ok=True)
    code = cli.main(["compare", str(scenario), "--report", str(REPORT)])
    if code:
        return code

    print("\n3. In a server of your own (examples/own_server.py):\n")
    print((HERE / "own_server.py").read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
