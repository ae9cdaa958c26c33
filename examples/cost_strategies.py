"""Four ways to buy the same 26 servers, beside what is claimed for them.

What it teaches: the price of a strategy is arithmetic; its availability is a statement about the spot market, and
about how much of the fleet can go at once. A claim of "99 %" without the hours in which spot cannot be had says
nothing.

    python -m examples.cost_strategies [--days 28]

A picture takes 10 to 30 s on a g4dn.xlarge; traffic is a sine over the day whose peak keeps 18 of 26 servers busy. A
spot server is interrupted once in a hundred hours, with two minutes' notice; once a week, from 12:00 to 15:00 on
Wednesday, six of ten are taken and none can be had. Prices are the package's list of 2025-06-01.
"""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

from aibalance.capacity import AutoScalingGroup, CostModel, MixedInstancesPolicy, Offer, PriceList
from aibalance.simulation import (
    DiurnalTraffic,
    Fleet,
    GroupScaling,
    Report,
    Scenario,
    ServerType,
    Service,
    SpotEpisode,
    simulate,
)

SERVERS, NIGHT, BASE = 26, 10, 2
RATE_AN_HOUR = 0.01
DAY = 86_400.0

CLAIMS = {  # a month in USD, availability: to be tested, not facts
    "all_on_demand": (10_000, 0.9999),
    "mixed_80_spot": (4_000, 0.999),
    "all_spot": (3_000, 0.99),
    "scheduled_and_spot": (3_500, 0.999),
}


class Hours:
    """All by day, fewer at night."""

    def recommend(self, observation: Any, /, *, now: float) -> SimpleNamespace:
        return SimpleNamespace(desired=SERVERS if 6 * 3600 <= now % DAY < 22 * 3600 else NIGHT)


def group(strategy: str) -> AutoScalingGroup:
    """The fleet as an Auto Scaling group buys it."""
    prices = PriceList.load()
    at = ("aws", "us-east-1", "g4dn.xlarge")
    offers = []
    for zone in ("a", "b"):
        offers.append(Offer(type="g4dn.xlarge", zone=zone, price=prices.on_demand(*at)))
        if strategy != "all_on_demand":
            offers.append(Offer(type="g4dn.xlarge", zone=zone, price=prices.spot(*at), market="spot"))
    mixed: MixedInstancesPolicy | None = MixedInstancesPolicy(on_demand_base=BASE, on_demand_percent_above_base=20)
    if strategy == "all_on_demand":
        mixed = None
    elif strategy == "all_spot":
        mixed = MixedInstancesPolicy(on_demand_base=0, on_demand_percent_above_base=0)
    return AutoScalingGroup(
        offers=offers,
        max_size=SERVERS,
        desired=NIGHT if strategy == "scheduled_and_spot" else SERVERS,
        mixed=mixed,
        launch_time=60,
        load_time=60,
        warmup=30,
        drain_time=120,
        launch_retry=300,
    )


def run(strategy: str, *, days: float, seed: int = 1) -> tuple[Report, GroupScaling]:
    """The strategy over so many days, the first a Monday."""
    weeks = range(int(days // 7) + 1)
    episodes = [
        SpotEpisode(start_s=start, end_s=start + 3 * 3600, reclaim=0.6)
        for start in ((7 * week + 2.5) * DAY for week in weeks)
        if start + 3 * 3600 < days * DAY
    ]
    made: list[GroupScaling] = []

    def policy() -> GroupScaling:
        made.append(
            GroupScaling(
                group=group(strategy),
                policy=Hours() if strategy == "scheduled_and_spot" else None,
                interruptions_per_hour=RATE_AN_HOUR,
                episodes=episodes,
                seed=seed,
            )
        )
        return made[-1]

    scenario = Scenario(
        name=strategy,
        traffic=DiurnalTraffic(mean_rps=0.55, amplitude=0.64),
        service=Service("uniform", low_s=10, high_s=30),
        duration_s=days * DAY,
        slo_s=60,
        timeout_s=120,
        fleet=Fleet(
            types=[ServerType(name="g4dn.xlarge")],
            min=0,
            max=SERVERS,
            initial=NIGHT if strategy == "scheduled_and_spot" else SERVERS,
            queue_limit=4,
            decision_interval_s=60,
        ),
    )
    report = simulate(scenario, picker="LeastRequest", policy=policy, seed=seed)
    return report, made[-1]


def table(days: float) -> list[str]:
    """The figures as a table in Markdown."""
    lines = [
        "| strategy | claimed, USD a month | simulated | claimed availability | answered | in time | interruptions |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (usd, availability) in CLAIMS.items():
        report, scaling = run(name, days=days)
        month = scaling.cost * 730 / (days * 24)
        answered = report.all.served / report.all.requests
        lines.append(
            f"| `{name}` | {usd:,} | {month:,.0f} | {availability:.2%} | {answered:.3%} "
            f"| {report.all.within_slo:.3%} | {scaling.interrupted} |"
        )
    return lines


def needed() -> float:
    """The share of time in which spot must be there for `all_spot` to be as available as is claimed: the closed form.

    18 of 26 servers are needed, and where spot cannot be had it cannot for the whole fleet.
    """
    prices = PriceList.load()
    at = ("aws", "us-east-1", "g4dn.xlarge")
    model = CostModel(
        on_demand=prices.on_demand(*at),
        spot=prices.spot(*at),
        interruption_rate=RATE_AN_HOUR,
        replacement_hours=150 / 3600,
    )
    alone = model.fleet(need=18, on_demand=0, spot=SERVERS).capacity_probability
    return CLAIMS["all_spot"][1] / alone


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=28)
    given = parser.parse_args()
    print("\n".join(table(given.days)))
    print(f"\nall_spot is as available as claimed if spot can be had {needed():.1%} of the time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
