"""The figures of `cost-strategies.toml`: four ways to buy the same 26 servers, beside what is claimed for them.

python -m examples.cost_strategies [--weeks 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from aibalance.capacity import CostModel
from aibalance.simulation import Report, Scenario, simulate

SCENARIO = Path(__file__).parent / "cost-strategies.toml"

CLAIMS = {  # a month in USD, availability: to be tested, not facts
    "all on demand": (10_000, 0.9999),
    "mixed, 80 % spot": (4_000, 0.999),
    "all spot": (3_000, 0.99),
    "scheduled and spot": (3_500, 0.999),
}


def run(strategy: str, *, seed: int = 1, days: float = 7) -> Report:
    """The strategy for a week, or for its first days."""
    scenario = Scenario.load(SCENARIO)
    return simulate(scenario.replace(duration_s=days * 86_400), policy=strategy, seed=seed)


def table(weeks: int) -> list[str]:
    """The figures as a table in Markdown."""
    lines = [
        "| strategy | claimed, USD a month | simulated | claimed availability | answered | in time | interruptions |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (usd, availability) in CLAIMS.items():
        reports = [run(name, seed=1 + week) for week in range(weeks)]
        requests = sum(one.all.requests for one in reports)
        answered = sum(one.all.served for one in reports) / requests
        within = sum(one.all.within_slo * one.all.requests for one in reports) / requests
        month = sum(one.cost_per_month for one in reports) / weeks
        interrupted = sum(one.details["interruptions"] for one in reports)
        lines.append(
            f"| {name} | {usd:,} | {month:,.0f} | {availability:.2%} | {answered:.3%} | {within:.3%} "
            f"| {interrupted:.0f} |"
        )
    return lines


def needed() -> float:
    """The share of time in which spot must be there for all spot to be as available as is claimed: the closed form.

    18 of 26 servers are needed, and where spot cannot be had it cannot for the whole fleet.
    """
    scenario = Scenario.load(SCENARIO)
    of = {one.name: one for one in scenario.groups}["all spot"]
    fleet, spot = scenario.fleet, of.offers[0]
    replacement_s = of.options["launch_time"] + fleet.load_s + fleet.warmup_s
    model = CostModel(
        on_demand=scenario.groups[0].offers[0].price,
        spot=spot.price,
        interruption_rate=of.interruptions_per_hour,
        replacement_hours=replacement_s / 3600,
    )
    alone = model.fleet(need=18, on_demand=0, spot=fleet.max or 0).capacity_probability
    return CLAIMS["all spot"][1] / alone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=4)
    given = parser.parse_args()
    print("\n".join(table(given.weeks)))
    print(f"\nall spot is as available as claimed if spot can be had {needed():.1%} of the time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
