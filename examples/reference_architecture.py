"""The reference architecture whole: its files imported, its parts built, and a day with a viral spike simulated.

Two fleets behind one balancer and a third behind a queue, as `examples/reference/` describes them: nginx and an ALB
route, EC2 groups, a HorizontalPodAutoscaler and KEDA scale. The day is a Tuesday; at two in the afternoon somebody with
many followers links to the service, and for an hour five times as many come.

    python -m examples.reference_architecture [--report FOLDER]

prints what docs/reference-architecture.md shows; with --report it writes a page for each fleet.
"""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np

from aibalance import formats
from aibalance.autoscaling import (
    Combined,
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    PodsMetric,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.capacity import AutoScalingGroup, Offer, PriceList
from aibalance.formats import GroupConfig, Imported, PoolConfig
from aibalance.health import check_rules
from aibalance.report import write_html
from aibalance.routing import Route
from aibalance.simulation import (
    Failures,
    Fleet,
    GroupScaling,
    Observed,
    PhaseReport,
    Report,
    RequestClass,
    Retries,
    Scenario,
    ServerType,
    Service,
    Spike,
    SpotEpisode,
    TraceTraffic,
    compare,
    simulate,
)
from aibalance.traces import Trace

HERE = Path(__file__).parent / "reference"
FILES = ("nginx.conf", "alb.tf", "asg.tf", "api.tf", "mixed_instances.tf", "hpa.yaml", "scaledobject.yaml")
DAY, HOUR = 86_400.0, 3600.0
TUESDAY = 5 * DAY  # 6 January 1970, midnight UTC, in Unix seconds: calendars go by it


Kind = TypeVar("Kind")


def policy(found: Imported, name: str, kind: type[Kind]) -> Kind:
    """A policy of the files, which is of this kind."""
    of = found.policy(name).policy
    if not isinstance(of, kind):
        raise TypeError(f"{name}: {type(of).__name__}, not {kind.__name__}")
    return of


def imported() -> Imported:
    """All the files together. Raises FormatError for what a real system would refuse."""
    return formats.read(*(HERE / name for name in FILES)).check()


def facts() -> dict[str, Any]:
    """What no file of nginx, AWS or Kubernetes says."""
    return tomllib.loads((HERE / "architecture.toml").read_text(encoding="utf-8"))


# Who answers


def front_door(found: Imported) -> Callable[[str], tuple[Route, str]]:
    """Routes of nginx.conf over its pools: a path to its route and the server that gets it."""
    pickers = {pool.name: pool.build(seed=1) for pool in found.pools if pool.servers}
    router = next(one for one in found.routers if one.name == "listen 443").build()

    def answer(path: str) -> tuple[Route, str]:
        route = router.route(path)
        assert route is not None, path
        with pickers[route.target].acquire() as lease:
            return route, lease.endpoint.address

    return answer


def detection(pool: PoolConfig) -> float:
    """Seconds for which a dead server is still chosen: so many looks in a row."""
    assert pool.health is not None
    return pool.health.interval * pool.health.unhealthy_threshold


# Who comes


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuesday(TraceTraffic):
    """A day whose spike is in its arrivals: the engine's factor is 1, and only says where the spike is."""

    words: str = ""

    def describe(self) -> str:
        """One line for people."""
        return self.words


def traffic(busiest_rps: float, said: dict[str, Any], empty: tuple[int, ...] = ()) -> Tuesday:
    """Requests of a Tuesday by minutes, to the millisecond, so that machines agree to the digit."""
    of = said["spike"]
    spike = Spike(**{**of, "factor": 1})
    up, top = of["start_s"], of["start_s"] + of["ramp_s"]
    edges = np.arange(0, DAY + 60, 60)
    minute = edges[:-1] + 30
    rates = np.array([0 if hour in empty else part / 100 for hour, part in enumerate(said["hourly"])])
    rate = busiest_rps * np.repeat(rates, 60)
    rate *= np.interp(minute, [up, top, top + of["hold_s"], spike.end_s], [1, of["factor"], of["factor"], 1])
    total = np.concatenate([[0.0], np.cumsum(rate * 60)])
    rng = np.random.default_rng(said["seed"])
    at = np.interp(np.sort(rng.random(round(total[-1]))) * total[-1], total, edges)
    times = np.round(np.concatenate([[0.0], at]), 3)
    nothing = np.zeros(len(times), np.int64)
    words = f"a Tuesday by hours, {busiest_rps:g} requests/s at its busiest; {of['factor']} times as many from 14:00 on"
    trace = Trace("a Tuesday", "made up", times, nothing, nothing)
    return Tuesday(trace=trace, spike=spike, rotate=False, words=words)


# How many there are


class Counted:
    """A policy, and how often it changed its mind: what an operator would find in the log."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.out = self.into = 0
        self._last: int | None = None

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        answer = self.policy.recommend(observation, now=now)
        if answer.desired is not None:
            if self._last is not None:
                self.out += answer.desired > self._last
                self.into += answer.desired < self._last
            self._last = answer.desired
        return answer


class Scheduled:
    """As in an EC2 group: schedules move its bounds, and target tracking stays within them."""

    def __init__(self, schedule: Observed, tracking: Observed) -> None:
        self.schedule, self.tracking = schedule, tracking

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        bounds = self.schedule.recommend(observation, now=now).details
        answer = self.tracking.recommend(observation, now=now)
        held = min(max(answer.desired, bounds["min_capacity"]), bounds["max_capacity"])
        if held != answer.desired:
            self.tracking.policy.rejected(answer)
        return SimpleNamespace(desired=held)


def group(found: GroupConfig, said: dict[str, Any], prices: PriceList) -> AutoScalingGroup:
    """The EC2 group of a file, with what its template or its overrides can buy."""
    fleet = said["fleets"]["inference"]
    types = [name for name, _ in found.instance_types] or ["g4dn.xlarge"]
    offers = []
    for place, name in enumerate(types):
        own = said["prices"].get(name)
        at = ("aws", "us-east-1", name)
        offers.append(
            Offer(type=name, zone="a", price=own["on_demand"] if own else prices.on_demand(*at), priority=place)
        )
        if found.mixed is not None:
            spot = own["spot"] if own else prices.spot(*at)
            offers.append(Offer(type=name, zone="a", price=spot, market="spot", priority=place))
    return AutoScalingGroup(
        offers=offers,
        min_size=found.min_size,
        max_size=found.max_size,
        desired=found.desired,
        mixed=found.mixed,
        warm_pool=found.warm_pool,
        launch_time=fleet["launch_s"],
        start_time=fleet["launch_s"] / 2,
        load_time=fleet["model_load_s"],
        warmup=fleet["warmup_inference_s"],
        drain_time=120,
    )


@dataclass
class Run:
    """One candidate of one fleet over the day."""

    scenario: Scenario
    picker: str
    make: Callable[[], Counted | GroupScaling]
    made: list[Any] = dataclasses.field(default_factory=list)

    def policy(self) -> Any:
        self.made.append(self.make())
        return self.made[-1]

    def report(self, seed: int = 1) -> Report:
        return simulate(self.scenario, picker=self.picker, policy=self.policy, seed=seed)

    @property
    def counted(self) -> Counted:
        last = self.made[-1]
        counted: Counted = last.policy if isinstance(last, GroupScaling) else last
        return counted

    def cost(self, report: Report) -> float:
        last = self.made[-1]
        return last.cost if isinstance(last, GroupScaling) else report.cost


def api(found: Imported, said: dict[str, Any]) -> dict[str, Run]:
    """CPU servers: the group of api.tf."""
    fleet, prices = said["fleets"]["api"], PriceList.load()
    bounds, pool = found.group("ai-api-asg"), found.pool("ai-api-tg")
    tracking = found.policy("api-cpu-target").policy
    schedule = found.policy("ai-api-asg schedule").policy
    scenario = Scenario(
        name="/api/ on CPU servers",
        description="A Tuesday with a viral hour; 2 to 20 t3.medium by target tracking, with and without a calendar.",
        traffic=traffic(fleet["busiest_rps"], said["day"]),
        service=law(fleet["work"]),
        duration_s=DAY,
        slo_s=fleet["slo_s"],
        timeout_s=fleet["timeout_s"],
        fleet=Fleet(
            types=[ServerType(name="t3.medium", price_per_hour=prices.on_demand("aws", "us-east-1", "t3.medium"))],
            min=bounds.min_size,
            max=bounds.max_size,
            concurrency=fleet["concurrency"],
            load_s=fleet["start_s"],
        ),
        failures=failures(said, detection(pool)),
        retries=Retries(max_attempts=2, backoff_s=0, budget=None),
    )

    def tracked() -> Observed:
        return Observed(tracking, metrics={"ASGAverageCPUUtilization": "utilization_percent"})

    def scheduled() -> Scheduled:
        return Scheduled(Observed(schedule, metrics={}, starts_at=TUESDAY), tracked())

    return {
        "api.tf": Run(scenario, "LeastConnections", lambda: Counted(fresh(scheduled()))),
        "api.tf, no schedule": Run(scenario, "LeastConnections", lambda: Counted(fresh(tracked()))),
    }


def inference(found: Imported, said: dict[str, Any]) -> dict[str, Run]:
    """GPU servers: the groups of asg.tf and mixed_instances.tf, and hpa.yaml on nodes of the first."""
    fleet, pool, prices = said["fleets"]["inference"], found.pool("ai-inference-tg"), PriceList.load()
    share = {path: of["share"] for path, of in said["routes"].items()}
    scenario = Scenario(
        name="/predict and /stream on GPU servers",
        description="A Tuesday with a viral hour, scaled by each file in turn. /predict is in time within 3 s, which "
        "is the charts' line, /stream within 40 s. Costs are of servers in service at the price on demand.",
        traffic=traffic(fleet["busiest_rps"], said["day"]),
        service=law(fleet["predict"]),
        classes=[
            RequestClass(name="/predict", share=share["/predict"], slo_s=fleet["predict_slo_s"]),
            RequestClass(
                name="/stream", share=share["/stream"], service=law(fleet["stream"]), slo_s=fleet["stream_slo_s"]
            ),
        ],
        duration_s=DAY,
        slo_s=fleet["predict_slo_s"],
        timeout_s=fleet["timeout_s"],
        fleet=Fleet(
            types=[ServerType(name="T4", price_per_hour=prices.on_demand("aws", "us-east-1", "g4dn.xlarge"))],
            min=0,
            initial=3,
            max=30,
            concurrency=fleet["concurrency"],
            slow_start_s=pool.slow_start.window if pool.slow_start is not None else None,
            decision_interval_s=15,
        ),
        failures=failures(said, detection(pool)),
        retries=Retries(max_attempts=2, backoff_s=0, budget=None),
    )
    spot = said["spot"]

    def scaled(of: GroupConfig, policy: Any, metrics: dict[str, str]) -> GroupScaling:
        return GroupScaling(
            group=group(of, said, prices),
            policy=Counted(fresh(Observed(policy, metrics=metrics, starts_at=TUESDAY))),
            every_s=15,
            interruptions_per_hour=spot["interruptions_per_hour"],
            episodes=[SpotEpisode(**spot["short"])],
            seed=1,
        )

    busy = {"GPUUtilization": "utilization_percent"}
    waiting = {"inference_queue_depth": "queue_per_server"}
    on_demand, mixed = found.group("ai-gpu-asg"), found.group("ai-gpu-mixed")
    tracking = policy(found, "gpu-utilization-target", TargetTracking)
    hpa = policy(found, "ai-inference-hpa", HorizontalPodAutoscaler)
    nodes = dataclasses.replace(on_demand, max_size=hpa.max_replicas, warm_pool=None)
    # The architecture wishes for it, and no file has it: where ten wait at each server, everything starts.
    step = StepScaling(
        metric="inference_queue_depth",
        threshold=10,
        adjustment_type="exact_capacity",
        steps=[Step(lower=0, adjustment=on_demand.max_size)],
        alarm=(1, 1),
        min_capacity=on_demand.min_size,
        max_capacity=on_demand.max_size,
    )
    both = dataclasses.replace(hpa, metrics=[*hpa.metrics, PodsMetric("GPUUtilization", average_value="65")])
    makes: dict[str, Callable[[], GroupScaling]] = {
        "asg.tf": lambda: scaled(on_demand, tracking, busy),
        "mixed_instances.tf": lambda: scaled(mixed, found.policy("gpu-mixed-target").policy, busy),
        "hpa.yaml": lambda: scaled(nodes, hpa, waiting),
        "asg.tf, queue too": lambda: scaled(on_demand, Combined([tracking, step]), busy | waiting),
        "hpa.yaml, GPU too": lambda: scaled(nodes, both, busy | waiting),
    }
    return {name: Run(scenario, "LeastConnections", make) for name, make in makes.items()}


def batch(found: Imported, said: dict[str, Any]) -> dict[str, Run]:
    """Workers that pull from one queue, and are gone while it is empty: scaledobject.yaml, on spot."""
    fleet, prices = said["fleets"]["batch"], PriceList.load()
    scaled = policy(found, "ai-worker-scaler", KedaScaledObject)
    scenario = Scenario(
        name="batch workers behind a queue",
        description="A Tuesday with a viral hour; none to 20 or 40 workers on spot, by KEDA.",
        traffic=traffic(fleet["busiest_rps"], said["day"], empty=tuple(fleet["empty_hours"])),
        service=law(fleet["work"]),
        duration_s=DAY,
        slo_s=fleet["slo_s"],
        fleet=Fleet(
            types=[ServerType(name="g4dn.xlarge, spot", price_per_hour=prices.spot("aws", "us-east-1", "g4dn.xlarge"))],
            min=0,
            max=2 * scaled.max_replicas,
            load_s=fleet["start_s"],
            decision_interval_s=15,
        ),
        # A spot instance that goes takes its job along, which waits again.
        failures=Failures(mean_up_s=HOUR / said["spot"]["interruptions_per_hour"], mean_down_s=300, detect_s=0),
        retries=Retries(max_attempts=3, backoff_s=0, budget=None),
    )

    def keda(most: int) -> Counted:
        by = KedaAutoscaler(dataclasses.replace(scaled, max_replicas=most))
        return Counted(fresh(Observed(by, metrics={"pending": "queue"})))

    return {
        "scaledobject.yaml": Run(scenario, "SharedQueue", lambda: keda(scaled.max_replicas)),
        "up to 40 workers": Run(scenario, "SharedQueue", lambda: keda(40)),
    }


def law(table: dict[str, Any]) -> Service:
    return Service(table["kind"], **{name: value for name, value in table.items() if name != "kind"})


def failures(said: dict[str, Any], detect_s: float) -> Failures:
    of = said["failures"]
    return Failures(mean_up_s=of["hours"] * HOUR, mean_down_s=of["replaced_s"], detect_s=detect_s)


def fresh(policy: Any) -> Any:
    """With an empty memory: policies of files are one object, and runs do not share it."""
    import copy

    return copy.deepcopy(policy)


FLEETS = {"api": api, "inference": inference, "batch": batch}
"""What makes the candidates of each fleet."""

HEAD = (
    "| fleet, scaled by | requests | in time | p50, s | p95, s | p99, s | failed or late | busy | servers, mean | peak "
    "| out, in | USD |"
)


def runs(found: Imported, said: dict[str, Any]) -> dict[tuple[str, str], Run]:
    """All candidates, by fleet and file."""
    return {(fleet, name): run for fleet, make in FLEETS.items() for name, run in make(found, said).items()}


def times(of: PhaseReport) -> str:
    """Three columns: p50, p95 and p99 in seconds."""
    shown = (f"{value:.3g}" if value < 1000 else f"{value:,.0f}" for value in (of.p50_s, of.p95_s, of.p99_s))
    return " | ".join(shown)


def row(name: str, run: Run, report: Report) -> str:
    of = report.all
    lost = of.rejected + of.timed_out + of.failed
    return (
        f"| {name} | {of.requests:,} | {of.within_slo:.2%} | {times(of)} | {lost:,} | {report.utilization:.0%} "
        f"| {report.servers_mean:.1f} | {report.servers_peak} | {run.counted.out}, {run.counted.into} "
        f"| {run.cost(report):,.2f} |"
    )


def phases(name: str, report: Report) -> list[str]:
    """The hour of the spike beside the rest of the day, and each route."""
    lines = []
    both = {"rest of the day": report.calm, "spike": report.spike, **report.classes}
    for phase, of in both.items():
        assert of is not None
        lines.append(f"| {name}, {phase} | {of.requests:,} | {of.within_slo:.2%} | {times(of)} |")
    return lines


def tables(found: Imported, said: dict[str, Any]) -> tuple[list[str], list[str], dict[str, Report]]:
    """The day, its phases, and the reports that they are made of."""
    day = [HEAD, "|---" * HEAD[1:].count("|") + "|"]
    parts = ["| fleet, phase or route | requests | in time | p50, s | p95, s | p99, s |", "|---|---|---|---|---|---|"]
    reports: dict[str, Report] = {}
    for (fleet, name), run in runs(found, said).items():
        report = run.report()
        reports[f"{fleet}, {name}"] = report
        day.append(row(f"{fleet}, `{name}`", run, report))
        parts += phases(f"{fleet}, `{name}`", report)
    return day, parts, reports


def write_reports(folder: Path, found: Imported, said: dict[str, Any], *, replications: int) -> list[Path]:
    """A page for each fleet."""
    written = []
    for fleet, make in FLEETS.items():
        candidates = make(found, said)
        first = next(iter(candidates.values()))
        policies = {name: run.policy for name, run in candidates.items()}
        found_ = compare(first.scenario, pickers=[first.picker], policies=policies, replications=replications)
        shown = found_.to_dict()
        shown["scenario"]["spike"]["factor"] = said["day"]["spike"]["factor"]
        written.append(folder / f"{fleet}.html")
        write_html(shown, written[-1])
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write a page for each fleet")
    parser.add_argument("--replications", type=int, default=3, help="days of each page (3)")
    given = parser.parse_args()
    found, said = imported(), facts()
    answer = front_door(found)
    for path in said["routes"]:
        route, address = answer(path)
        how = "streamed" if route.streaming else "buffered"
        print(f"{path:10} -> {address:16} read timeout {route.timeouts.read:g} s, {how}")
    print(f"checks: {', '.join(f'{rule.name} -> {rule.action}' for rule in check_rules(said['health']['checks']))}\n")
    day, parts, _ = tables(found, said)
    print("\n".join([*day, "", *parts]))
    if given.report is not None:
        given.report.mkdir(parents=True, exist_ok=True)
        for page in write_reports(given.report, found, said, replications=given.replications):
            print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
