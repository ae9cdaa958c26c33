"""The figures of `multi-cloud.toml`: what standby costs beside what it saves.

python -m examples.multi_cloud
"""

from __future__ import annotations

from pathlib import Path

from aibalance.simulation import Report, Scenario, simulate

SCENARIO = Path(__file__).parent / "multi-cloud.toml"
CASES = {
    "hot: 5 servers": ("record of 60 s", 5),
    "warm: 2 servers": ("record of 60 s", 2),
    "cold: none": ("record of 60 s", 0),
    "hot: 5 servers, record of 300 s": ("record of 300 s", 5),
}
"""By what they are called: the balancer and the servers that stand by; the policy is what stands before the comma."""


def run(case: str) -> Report:
    """An hour and a half with the outage in it."""
    return simulate(Scenario.load(SCENARIO), picker=CASES[case][0], policy=case.partition(",")[0])


def table() -> list[str]:
    """The figures as a table in Markdown."""
    price = Scenario.load(SCENARIO).fleet.types[1].price_per_hour
    lines = [
        "| standby | in time | reached nobody | turned away or late | lost writes | USD a month | egress, USD |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (_, standby) in CASES.items():
        report = run(name)
        of, counts = report.all, report.details
        nobody = counts["unreachable"]
        late = of.requests - round(of.within_slo * of.requests) - nobody
        lines.append(
            f"| {name} | {of.within_slo:.1%} | {nobody:,.0f} | {late:,.0f} | {counts['lost_writes']:.0f} "
            f"| {standby * price * 730:,.0f} | {counts['egress_cost']:.2f} |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
