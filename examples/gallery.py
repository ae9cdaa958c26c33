"""The figures of docs/gallery.md.

    python -m examples.gallery [NAME ...]

Prints a table in Markdown for each scenario of the gallery; without names for all of them, which takes a minute or
two. Equal seeds give equal figures on every machine, and the tests hold the page to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aibalance.capacity import CostModel
from aibalance.simulation import Comparison, Fleet, Scenario, compare

from . import cost_strategies, multi_cloud

HERE = Path(__file__).parent
HEAD = [
    "| candidate | in time | p50, s | p99, s | turned away | servers, mean | peak | cost, USD |",
    "|---|---|---|---|---|---|---|---|",
]


def scenario(name: str, **changes: object) -> Scenario:
    """A scenario of the gallery; `changes` are of its fleet."""
    found = Scenario.load(HERE / f"{name}.toml")
    if not changes:
        return found
    fields = {field: getattr(found.fleet, field) for field in found.fleet.__dataclass_fields__}
    return found.replace(fleet=Fleet(**{**fields, **changes}))


def rows(comparison: Comparison, *, prefix: str = "") -> list[str]:
    """A row a candidate, in the order of the scenario. `±` is half of a 95 % interval."""
    lines = []
    for name, reports in comparison.reports.items():
        of = comparison.interval
        within, cost = of(name, "within_slo"), of(name, "cost")
        half = (within.high - within.low) / 2
        lines.append(
            f"| {prefix}{shown(name, comparison)} | {within.mean:.1%} ± {half:.1%} | {of(name, 'p50_s').mean:.3g} "
            f"| {of(name, 'p99_s').mean:.3g} | {of(name, 'rejected').mean:.1%} | {of(name, 'servers_mean').mean:.1f} "
            f"| {max(one.servers_peak for one in reports)} | {cost.mean:.2f} |"
        )
    return lines


def shown(name: str, comparison: Comparison) -> str:
    """The part of a candidate's name that differs from the others'."""
    parts = [one.split(" + ") for one in comparison.reports]
    keep = [i for i in range(len(parts[0])) if len({one[i] for one in parts}) > 1]
    return " + ".join(name.split(" + ")[i] for i in keep) or name


def of(name: str, replications: int, **selection: Any) -> list[str]:
    """The table of one scenario."""
    return [*HEAD, *rows(compare(scenario(name), replications=replications, **selection))]


def viral_spike() -> list[str]:
    """The balancers with one policy, then the policies with one balancer."""
    balancers = compare(scenario("viral-spike"), policies=["tracking and surge"], replications=5)
    policies = compare(scenario("viral-spike"), pickers=["least request"], replications=5)
    lines = [*HEAD]
    for one in rows(balancers):
        lines.append(one)
    # The first policy with this balancer stands above already.
    return [*lines, *rows(policies, prefix="least request, ")[1:]]


def cold_start_trap() -> list[str]:
    """As it is, and with servers that start in 20 s."""
    slow = compare(scenario("cold-start-trap"), replications=5)
    quick = compare(scenario("cold-start-trap", load_s=20), replications=5)
    return [*HEAD, *rows(slow), *rows(quick, prefix="start of 20 s: ")]


def spot_storm() -> list[str]:
    """With the closed form beside the simulation: the chance that the 16 servers that are needed are there."""
    found = scenario("spot-storm")
    assert found.failures is not None
    up, down = found.failures.mean_up_s, found.failures.mean_down_s
    model = CostModel(on_demand=0.526, spot=0.1845, interruption_rate=3600 / up, replacement_hours=down / 3600)
    lines = [f"{HEAD[0]} 16 are up, closed form |", f"{HEAD[1]}---|"]
    for of, prefix in ((found, ""), (found.replace(retries=None), "no second attempt: ")):
        comparison = compare(of, replications=10)
        for row, reports in zip(rows(comparison, prefix=prefix), comparison.reports.values(), strict=True):
            chance = model.fleet(need=16, on_demand=0, spot=reports[0].servers_peak).capacity_probability
            lines.append(f"{row} {chance:.1%} |")
    calm = compare(found.replace(failures=None), policies=["20 servers"], replications=10)
    # One candidate has no part of its name that differs.
    return [*lines, rows(calm, prefix="no interruptions: ")[0].replace("LeastRequest", "20 servers") + " |"]


TABLES: dict[str, Callable[[], list[str]]] = {
    "viral-spike": viral_spike,
    "everyday": lambda: of("everyday", 4),
    "mixed-gpus": lambda: of("mixed-gpus", 10),
    "batch-to-zero": lambda: of("batch-to-zero", 10),
    "diurnal": lambda: of("diurnal", 3),
    "spot-storm": spot_storm,
    "cold-start-trap": cold_start_trap,
    "hashing-prompts": lambda: of("hashing-prompts", 5),
    "multi-cloud": multi_cloud.table,
    "cost-strategies": lambda: cost_strategies.table(4),
}
"""What makes each table."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*TABLES, []], metavar="NAME", help=", ".join(TABLES))
    for name in parser.parse_args().names or TABLES:
        print(f"{name}\n\n" + "\n".join(TABLES[name]()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
