"""A figure from the simulator for each claim of "which picker should I use?" (docs/which-picker.md).

    python -m benches.which_picker

Prints the page's table in Markdown. Each claim has a small scenario in which it should show, with what one would use
instead; ± is half of a 95 % interval over replications.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from aibalance.simulation import (
    Antagonists,
    BalancerSpec,
    Comparison,
    Failures,
    Fleet,
    Keys,
    LLMService,
    PoissonTraffic,
    Scenario,
    ServerType,
    Service,
    compare,
    simulate,
)

ALIKE = Service("deterministic", value_s=1)
DIFFERENT = Service("hyperexponential", p=[0.9, 0.1], means_s=[0.5, 5.5])


def scenario(
    name: str, servers: int, load: float, service: Service | LLMService = ALIKE, *, speed: float = 1.0, **rest: object
) -> Scenario:
    """So many servers, busy to `load`, with work of 1 s on average."""
    fleet = rest.pop("fleet", None) or Fleet(types=[ServerType(name="server", speed=speed)], min=servers)
    given: dict[str, object] = {
        "traffic": PoissonTraffic(rate_rps=load * servers),
        "duration_s": 20_000 / servers * 10,
        "discard_s": 200,
        "slo_s": 5,
        "replications": 5,
        **rest,
    }
    return Scenario(name=name, service=service, fleet=fleet, **given)  # type: ignore[arg-type]


def told(comparison: Comparison, metric: str, unit: str = "s") -> str:
    """A metric of each candidate, in the order given."""
    out = []
    for name in comparison.reports:
        found = comparison.interval(name, metric)
        out.append(f"{name} {found.mean:.3g} ± {(found.high - found.low) / 2:.2g} {unit}")
    return ", ".join(out)


def pick(*names: str | BalancerSpec) -> Sequence[str | BalancerSpec]:
    return names


def spec(name: str, picker: str, **options: object) -> BalancerSpec:
    return BalancerSpec(picker=picker, name=name, options=options)


def alike() -> tuple[str, str]:
    found = compare(scenario("alike", 20, 0.9), pickers=pick("RoundRobin", "LeastRequest", "WeightedRandom"))
    return "wait on average, 20 servers 90 % busy, all work alike", told(found, "wait_mean_s")


def different() -> tuple[str, str]:
    found = compare(
        scenario("different", 100, 0.8, DIFFERENT), pickers=pick("LeastRequest", "RoundRobin", "WeightedRandom")
    )
    return "p99, 100 servers 80 % busy, one in ten takes eleven times as long", told(found, "p99_s")


def few() -> tuple[str, str]:
    found = compare(
        scenario("few", 5, 0.8, DIFFERENT, duration_s=20_000),
        pickers=pick(
            spec("full scan", "LeastRequest", full_scan=True), spec("two choices", "LeastRequest"), "RoundRobin"
        ),
    )
    return "the same, 5 servers", told(found, "p99_s")


def any_number() -> tuple[str, str]:
    parts = []
    for servers in (10, 500):
        found = compare(
            scenario("any number", servers, 0.8, DIFFERENT, duration_s=200_000 / servers, discard_s=100),
            pickers=pick("LeastRequest", "RoundRobin"),
        )
        parts.append(f"{servers}: {told(found, 'p99_s')}")
    return "the same, 10 and 500 servers", "; ".join(parts)


def unknown() -> tuple[str, str]:
    parts = []
    for name, service in (("alike", ALIKE), ("different", DIFFERENT)):
        found = compare(scenario(name, 20, 0.9, service), pickers=pick("LeastRequest", "RoundRobin", "WeightedRandom"))
        parts.append(f"{name}: {told(found, 'p99_s')}")
    return "p99, 20 servers 90 % busy, all work alike, and one in ten eleven times as long", "; ".join(parts)


def slots() -> tuple[str, str]:
    found = compare(scenario("slots", 50, 0.7, DIFFERENT), pickers=pick("JoinIdleQueue", "LeastRequest", "RoundRobin"))
    return "wait on average, 50 servers of one slot, 70 % busy", told(found, "wait_mean_s")


def speeds() -> tuple[str, str]:
    """Half of the servers lose three quarters of their speed now and then, and nobody tells."""
    found = compare(
        scenario(
            "speeds",
            20,
            0.55,
            Service("gamma", mean_s=1, cv=0.5),
            antagonists=Antagonists(share=0.5, speed=0.25, mean_on_s=60, mean_off_s=60),
            fleet=Fleet(types=[ServerType(name="server", concurrency=4)], min=20),
            traffic=PoissonTraffic(rate_rps=0.5 * 80),
            duration_s=6000,
            replications=8,
        ),
        pickers=pick("PeakEwma", "LeastRequest", "RoundRobin"),
    )
    less = found.difference("LeastRequest", "p99_s")
    paired = f"; seed by seed LeastRequest takes {less['low']:.2g} to {less['high']:.2g} s longer"
    return "p99, half of 20 servers of four slots are four times as slow now and then", told(found, "p99_s") + paired


def let_go() -> tuple[str, str]:
    out = []
    of = scenario(
        "let go",
        20,
        0.15,
        DIFFERENT,
        fleet=Fleet(types=[ServerType(name="server", concurrency=4)], min=20, queue_limit=0),
    )
    of = of.replace(traffic=PoissonTraffic(rate_rps=0.15 * 80), duration_s=5000)
    for name in ("First", "LeastRequest", "RoundRobin"):
        records = simulate(of, picker=name, records=True).records
        assert records is not None
        share = np.bincount(records.server[records.server >= 0], minlength=20) / len(records)
        out.append(f"{name} {int((np.sort(share)[::-1].cumsum() < 0.999).sum()) + 1}")
    return "servers of 20 (four slots, 15 % busy) that do 99.9 % of the work", ", ".join(out)


def cached() -> tuple[str, str]:
    out = []
    of = Scenario(
        name="sessions",
        traffic=PoissonTraffic(rate_rps=10),
        service=LLMService(
            input_tokens=200, prefix_tokens=2048, output_tokens={"kind": "geometric", "mean": 100}, kv_tokens=400_000
        ),
        fleet=Fleet(types=[ServerType(name="H100")], min=10, concurrency=64),
        keys=Keys(distinct=1000),
        failures=Failures(mean_up_s=1200, mean_down_s=60, detect_s=1),
        duration_s=3000,
        discard_s=300,
        slo_s=20,
    )
    for name in ("Maglev", "Rendezvous", "ModuloHash", "LeastRequest"):
        found = simulate(of, picker=name).details
        reused = found["prompt_tokens_reused"] / (found["prompt_tokens_reused"] + found["prompt_tokens_computed"])
        out.append(f"{name} {reused:.1%}")
    return "prompt tokens found cached, 1,000 sessions, 10 servers that leave every 20 minutes for one", ", ".join(out)


def hot() -> tuple[str, str]:
    found = compare(
        scenario("hot", 20, 0.6, Service("exponential", mean_s=1), keys=Keys(distinct=2000, zipf=0.9), timeout_s=60),
        pickers=pick(spec("bounded 1.25", "Rendezvous", bounded_load=1.25), spec("unbounded", "Rendezvous")),
    )
    return "p99 with a Zipf law of keys (0.9), 20 servers 60 % busy, 60 s of patience", told(found, "p99_s")


CLAIMS: dict[str, Callable[[], tuple[str, str]]] = {
    "`RoundRobin`, alike": alike,
    "`LeastRequest`, different": different,
    "`LeastRequest`, any number": any_number,
    "`LeastRequest(full_scan=True)`, few": few,
    "`JoinIdleQueue`, slots": slots,
    "`PeakEwma`, speeds": speeds,
    "`First`, letting go": let_go,
    "`Maglev`, `Rendezvous`, caches": cached,
    "`Rendezvous(bounded_load=1.25)`, hot keys": hot,
    "`LeastRequest`, if you do not know": unknown,
}
"""By claim, what makes its figure."""


def rows() -> list[str]:
    """The table."""
    lines = ["| claim | measured | figures |", "|---|---|---|"]
    for name, make in CLAIMS.items():
        what, figures = make()
        lines.append(f"| {name} | {what} | {figures} |")
    return lines


def main() -> int:
    for line in rows():
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
