"""Two clouds, and one goes away for half an hour: what standby is worth, and how long clients look the wrong way.

What it teaches: the requests that are lost first are lost to detection and to DNS, and no server brings them back: at
20 requests/s, 30 s of checks and a record that lives 60 s cost 1,200 of them, a record of 300 s 3,600. After that it
is the standby that counts: a cold one is late by its start, a small one drowns in the meantime.

    python -m examples.multi_cloud
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from aibalance.capacity import PriceList
from aibalance.simulation import CloudFailover, Fleet, PoissonTraffic, Report, Scenario, ServerType, Service, simulate

HOME, START_S, END_S = 5, 900.0, 2700.0
GB_AN_ANSWER = 0.002  # a picture of 2 MB
GCP_PRICE = 0.54  # USD an hour, assumed; the package's list has none


@dataclass
class Runbook:
    """When the outage has been seen, the other cloud is brought to full size; afterwards all stay until the end."""

    standby: int
    at: float

    def recommend(self, observation: dict[str, Any], /, *, now: float) -> SimpleNamespace:
        return SimpleNamespace(desired=HOME + (HOME if now >= self.at else self.standby))


def run(standby: int, dns_ttl_s: float, *, detection_s: float = 30, seed: int = 1) -> tuple[Report, CloudFailover]:
    """An hour and a half with the outage in it."""
    prices = PriceList.load()
    failover = CloudFailover(
        primary="aws",
        secondary="gcp",
        start_s=START_S,
        end_s=END_S,
        detection_s=detection_s,
        dns_ttl_s=dns_ttl_s,
        replication_lag_s=5,
        write_share=0.1,
        response_gb=GB_AN_ANSWER,
        egress_per_gb={cloud: prices.egress_per_gb(cloud) for cloud in ("aws", "gcp")},
    )
    scenario = Scenario(
        name="multi-cloud failover",
        traffic=PoissonTraffic(rate_rps=20),
        service=Service("gamma", mean_s=0.8, cv=0.7),
        duration_s=5400,
        slo_s=3,
        timeout_s=15,
        fleet=Fleet(
            # "order": the first five are the primary's, who comes later is the other's.
            types=[
                ServerType(name="aws/g4dn.xlarge", max=HOME, price_per_hour=0.526),
                ServerType(name="gcp/n1-t4", price_per_hour=GCP_PRICE),
            ],
            launch="order",
            min=HOME,
            max=2 * HOME,
            initial=HOME + standby,
            concurrency=4,
            queue_limit=12,
            load_s=90,
            warmup_s=30,
            decision_interval_s=10,
        ),
    )
    return simulate(scenario, picker=failover, policy=Runbook(standby, START_S + detection_s), seed=seed), failover


CASES = {
    "hot: 5 servers, record of 60 s": (5, 60),
    "warm: 2 servers, record of 60 s": (2, 60),
    "cold: none, record of 60 s": (0, 60),
    "hot: 5 servers, record of 300 s": (5, 300),
}


def table() -> list[str]:
    """The figures as a table in Markdown."""
    lines = [
        "| standby | in time | reached nobody | turned away or late | lost writes | USD a month | egress, USD |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (standby, ttl) in CASES.items():
        report, failover = run(standby, ttl)
        counts = failover.runs[-1]
        late = report.all.requests - round(report.all.within_slo * report.all.requests) - counts.unreachable
        lines.append(
            f"| {name} | {report.all.within_slo:.1%} | {counts.unreachable:,} | {late:,} | {counts.lost_writes:.0f} "
            f"| {standby * GCP_PRICE * 730:,.0f} | {counts.egress_usd:.2f} |"
        )
    return lines


def main() -> int:
    print("\n".join(table()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
