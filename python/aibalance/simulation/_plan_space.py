"""What a plan may choose, how a choice is simulated, and where a search begins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._errors import ConfigError
from . import _checks as check
from ._detail import SHARED_QUEUE, ClosedTraffic, Failures, LLMService
from ._drivers import balancer, build_policy
from ._plan_slo import Objective
from ._plan_terms import SpotTerms, WarmPoolTerms
from ._run import HOURS_A_MONTH, simulate
from ._scenario import BalancerSpec, Fleet, PolicySpec, Scenario, ServerType
from ._traffic import PoissonTraffic, SpikeTraffic, TraceTraffic

POLICIES = ("fixed", "tracking", "surge")
SPOT_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
WAITS = (0.0, 1.0, 2.0, 4.0)
LIMITS = (0, 1, 2, 4, 8, 16)
TARGETS = (0.4, 0.95)
THRESHOLDS = (0.25, 0.5, 1.0, 2.0)
HOURS = HOURS_A_MONTH


@dataclass(frozen=True, kw_only=True)
class Design:
    """One answer to the question: everything that a plan chooses.

    Parameters
    ----------
    balancer : a name among the scenario's balancers, a picker's, or "SharedQueue".
    policy : "fixed"; "tracking" (target tracking on requests in flight, which sees a queue); "surge" (target tracking
        on utilization, and everything at once when requests wait).
    target : the share of slots that target tracking keeps busy.
    threshold : requests waiting a server at which "surge" starts everything.
    min, max : bounds of the fleet.
    warm_pool : whether max - min servers stand by, stopped.
    mix : the parts of the server types, in the scenario's order.
    spot_share : of the servers above the on-demand base.
    queue_limit : requests that may wait at a server; None for the scenario's own.
    longest_wait_s : a shared queue turns away who would wait longer; None for never.

    >>> Design(balancer="LeastRequest", policy="fixed", min=4, max=4, mix=(1.0,)).spot_share
    0.0
    """

    balancer: str
    policy: str
    min: int
    max: int
    mix: tuple[float, ...]
    target: float = 0.65
    threshold: float = 1.0
    warm_pool: bool = False
    spot_share: float = 0.0
    queue_limit: int | None = None
    longest_wait_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**dataclasses.asdict(self), "mix": list(self.mix)}


@dataclass(frozen=True)
class Space:
    """What is given: the scenario, the objectives, prices, and which choices there are."""

    scenario: Scenario
    objectives: tuple[Objective, ...]
    budget: float | None
    spot: SpotTerms | None
    pool: WarmPoolTerms | None
    lowest: int
    highest: int
    balancers: tuple[str, ...]
    pulls: frozenset[str]
    mixes: tuple[tuple[float, ...], ...]
    calm: Scenario | None
    spikes_per_month: float
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def limit_s(self) -> float:
        """The shortest time that is promised, or the scenario's own objective."""
        return min((one.limit for one in self.objectives if one.metric != "error"), default=self.scenario.slo_s)

    def specs(self, design: Design, scenario: Scenario | None = None) -> tuple[Scenario, BalancerSpec, PolicySpec]:
        """The scenario with the design's fleet, its balancer and its policy."""
        of = scenario or self.scenario
        fleet = self._fleet(design)
        changes: dict[str, Any] = {"fleet": fleet}
        if design.spot_share and self.spot is not None and self.spot.interruptions_per_month:
            changes["failures"] = self._failures(design)
        return of.replace(**changes), self._balancer(design), policy_spec(design, fleet)

    def _fleet(self, design: Design) -> Fleet:
        fleet = self.scenario.fleet
        cold = fleet.load_s + fleet.warmup_s
        if design.warm_pool and self.pool is not None:
            start = self.pool.start_s
            cold = min(cold, fleet.warmup_s if start is None else start)
        types = [
            dataclasses.replace(one, share=part) for one, part in zip(fleet.types, design.mix, strict=True) if part > 0
        ]
        limit = fleet.queue_limit if design.queue_limit is None else design.queue_limit
        return dataclasses.replace(
            fleet,
            types=types,
            min=design.min,
            max=design.max,
            initial=design.min,
            load_s=0.0,
            warmup_s=cold,
            queue_limit=limit,
        )

    def _failures(self, design: Design) -> Failures:
        assert self.spot is not None
        # As if without notice, and each server by its chance to be spot: a little worse than it is.
        rate = design.spot_share * self.spot.interruptions_per_month / (HOURS * 3600)
        down = self.scenario.fleet.load_s + self.scenario.fleet.warmup_s
        own = self.scenario.failures
        detect = 0.0
        if own is not None:
            total = rate + 1 / own.mean_up_s
            down = (rate * down + own.mean_down_s / own.mean_up_s) / total
            rate, detect = total, own.detect_s
        return Failures(mean_up_s=min(1 / rate, 1e9), mean_down_s=max(down, 1e-3), detect_s=detect)

    def _balancer(self, design: Design) -> BalancerSpec:
        known = {one.name: one for one in self.scenario.balancers}
        spec = known.get(design.balancer) or BalancerSpec(picker=design.balancer)
        if spec.picker == SHARED_QUEUE and design.longest_wait_s is not None:
            spec = dataclasses.replace(spec, options={**spec.options, "longest_wait_s": design.longest_wait_s})
        return spec

    def price(self, design: Design, types: tuple[ServerType, ...] | None = None) -> float:
        """A server hour of the mix, on demand."""
        types = types or tuple(self.scenario.fleet.types)
        total = sum(design.mix)
        return sum(one.price_per_hour * part for one, part in zip(types, design.mix, strict=True)) / total

    def money(self, design: Design, on_demand: float, duration_s: float) -> float:
        """What a run costs that would cost `on_demand` without spot; the warm pool comes on top."""
        hours = duration_s / 3600
        cost = on_demand
        if design.spot_share and self.spot is not None:
            base = min(on_demand, self.spot.on_demand_base * self.price(design) * hours)
            cost = base + (on_demand - base) * self.spot.price(design.spot_share)
        if design.warm_pool and self.pool is not None:
            cost += (design.max - design.min) * self.pool.price_per_hour * hours
        return cost


def policy_spec(design: Design, fleet: Fleet) -> PolicySpec:
    """The design's policy, as a scenario file would have it."""
    if design.policy == "fixed":
        return PolicySpec(policy="Fixed", options={"servers": design.min})
    slots = sum(one.share * (one.concurrency or fleet.concurrency) for one in fleet.types)
    slots /= sum(one.share for one in fleet.types)
    if design.policy == "tracking":
        return PolicySpec(
            policy="TargetTracking",
            name="tracking",
            metric="in_flight_per_server",
            target=design.target * slots,
            options={"high_alarm": [1, 1], "low_alarm": [15, 15]},
        )
    parts = [
        {"policy": "TargetTracking", "metric": "utilization_percent", "target": 100 * design.target},
        {
            "policy": "StepScaling",
            "metric": "queue_per_server",
            "options": {
                "threshold": design.threshold,
                "adjustment_type": "exact_capacity",
                "steps": [{"lower": 0, "adjustment": design.max}],
            },
        },
    ]
    return PolicySpec(policy="Combined", name="tracking and surge", options={"policies": parts})


def space(
    scenario: Scenario,
    wanted: tuple[Objective, ...],
    *,
    budget: float | None,
    spot: SpotTerms | None,
    pool: WarmPoolTerms | None,
    max_servers: int | None,
    spikes_per_month: float,
) -> Space:
    """The choices that a scenario leaves open. Raises ConfigError for what cannot be planned."""
    _refuse_training(scenario)
    if scenario.groups:
        raise ConfigError(
            "groups[0].name: a plan buys a fleet of its own, by [plan.spot], [plan.warm_pool] and the prices of "
            "[[fleet.types]]; leave [[groups]] to simulate and compare"
        )
    fleet = scenario.fleet
    if not any(one.price_per_hour for one in fleet.types):
        raise check.wrong("fleet.types.price_per_hour", 0, "at least one price: a plan weighs money")
    room = sum(1_000_000 if one.max is None else one.max for one in fleet.types)
    highest = check.whole("max_servers", fleet.max if max_servers is None else max_servers, 1, 1_000_000)
    highest, lowest = min(highest, room), max(fleet.min, 1)
    if highest < lowest:
        raise check.wrong("max_servers", highest, f"at least the fleet's min, {lowest}")
    names, pulls = _balancers(scenario)
    found = Space(
        scenario=scenario,
        objectives=wanted,
        budget=budget,
        spot=spot,
        pool=pool if fleet.load_s + fleet.warmup_s > 0 else None,
        lowest=lowest,
        highest=highest,
        balancers=names,
        pulls=pulls,
        mixes=_mixes(fleet, highest),
        calm=without_spike(scenario),
        spikes_per_month=spikes_per_month,
    )
    found.facts.update(_sizes(found))
    return found


def _refuse_training(scenario: Scenario) -> None:
    words = ("train", "finetun", "fine-tun", "fine tun")
    trains = [one.name for one in scenario.classes if any(word in one.name.lower() for word in words)]
    if trains and len(trains) < len(scenario.classes):
        at = next(i for i, one in enumerate(scenario.classes) if one.name == trains[0])
        raise ConfigError(
            f"classes[{at}].name: {trains[0]!r} beside inference is refused: training takes whole servers for hours "
            "and starves whoever waits for an answer. Plan a fleet of its own for it, in a scenario of its own"
        )


def _balancers(scenario: Scenario) -> tuple[tuple[str, ...], frozenset[str]]:
    names = [one.name for one in scenario.balancers]
    pickers = {one.picker for one in scenario.balancers}
    extra = ["LeastRequest"] if names else ["RoundRobin", "LeastRequest", "PeakEwma", "JoinIdleQueue"]
    names += [name for name in extra if name not in pickers]
    shared = scenario.hedging is None and scenario.reports is None and scenario.dispatchers is None
    shared = shared and not scenario.failovers
    if SHARED_QUEUE not in pickers and shared:
        names.append(SHARED_QUEUE)
    pulls = {one.name for one in scenario.balancers if one.picker == SHARED_QUEUE} | {SHARED_QUEUE}
    for name in names:
        balancer(name, scenario)
    return tuple(names), frozenset(pulls)


def _mixes(fleet: Fleet, highest: int) -> tuple[tuple[float, ...], ...]:
    """Parts of the types that are tried: the scenario's, each type alone, and steps between."""
    own = tuple(float(one.share) for one in fleet.types)
    if len(own) == 1 or fleet.launch != "share":
        return (tuple(one or 1.0 for one in own),)
    alone = [tuple(float(i == j) for j in range(len(own))) for i in range(len(own))]
    between = [(1.0, 3.0), (1.0, 1.0), (3.0, 1.0)] if len(own) == 2 else [tuple(1.0 for _ in own)]
    found = dict.fromkeys([own, *alone, *between])

    def fits(mix: tuple[float, ...]) -> bool:
        room = sum(
            1_000_000 if one.max is None else one.max for one, part in zip(fleet.types, mix, strict=True) if part
        )
        return room >= highest

    return tuple(mix for mix in found if fits(mix)) or (own,)


def without_spike(scenario: Scenario) -> Scenario | None:
    """The scenario on an ordinary day; None where every day is like this."""
    if scenario.spike is None:
        return None
    if isinstance(scenario.traffic, SpikeTraffic):
        return scenario.replace(traffic=PoissonTraffic(rate_rps=scenario.traffic.base_rps))
    assert isinstance(scenario.traffic, TraceTraffic)
    return scenario.replace(traffic=dataclasses.replace(scenario.traffic, spike=None))


def _sizes(space: Space) -> dict[str, float]:
    """Rates, work, and what the work alone takes on the fastest type, from one run in which nobody waits."""
    scenario, fleet = space.scenario, space.scenario.fleet
    fastest = max(fleet.types, key=lambda one: one.speed)
    servers = 1_000
    while True:
        ample = dataclasses.replace(
            fleet,
            types=[dataclasses.replace(fastest, share=1.0, max=None)],
            min=servers,
            max=servers,
            initial=servers,
            discipline="fifo",
            sharing_limit=None,
            queue_limit=None,
        )
        alone = scenario.replace(fleet=ample, failures=None, antagonists=None, discard_s=0.0)
        found = simulate(alone, picker="LeastRequest", policy="Fixed", records=True)
        if found.all.wait_mean_s <= 0.01 * found.all.mean_s or servers >= 64_000:
            break
        servers *= 4
    facts = {f"floor_{one.metric}": one.value(found) for one in space.objectives}
    records = found.records
    assert records is not None
    served = records.service[records.outcome == 0]
    work = float(served.mean()) * fastest.speed if len(served) else 1.0
    rate = found.timeline["arrivals_per_s"]
    facts["mean_rps"] = float(rate.mean())
    spike = scenario.spike
    # The top without the noise of single steps.
    blocks = [float(part.mean()) for part in np.array_split(rate, 12) if len(part)]
    facts["peak_rps"] = max(blocks, default=facts["mean_rps"])
    facts["calm_rps"] = facts["peak_rps"] / spike.factor if spike is not None else facts["mean_rps"]
    if spike is not None:
        busy = (found.timeline["t_s"] > spike.start_s) & (found.timeline["t_s"] <= spike.end_s)
        facts["peak_rps"] = float(np.quantile(rate[busy], 0.5)) if busy.any() else facts["peak_rps"]
        facts["calm_rps"] = facts["peak_rps"] / spike.factor
    facts["work_s"] = work
    facts["requests"] = float(found.all.requests)
    return facts


def starts(space: Space) -> list[Design]:
    """Designs to begin with: fleets staffed by theory for the calm and for the peak, plain ones first."""
    from ..queueing import min_servers, square_root_staffing

    fleet = space.scenario.fleet

    def staffed(rate: float, mix: tuple[float, ...]) -> int:
        parts = [(one, part / sum(mix)) for one, part in zip(fleet.types, mix, strict=True) if part]
        speed = sum(one.speed * part for one, part in parts)
        slots = sum((one.concurrency or fleet.concurrency) * part for one, part in parts)
        mean = space.facts["work_s"] / speed
        load = rate * mean
        try:
            servers = min_servers(rate, 1 / mean, mean_wait=max(space.limit_s - mean, 0.1 * mean))
        except ConfigError:
            servers = square_root_staffing(load, p_wait=0.2)
        # A batch of many shares one machine: what one request takes there is no measure of a slot.
        servers = math.ceil(
            max(servers, load * 1.05) / (1.0 if isinstance(space.scenario.service, LLMService) else slots)
        )
        return min(max(servers, space.lowest), space.highest)

    push = next((name for name in space.balancers if "least" in name.lower()), space.balancers[0])
    pull = next((name for name in space.balancers if name in space.pulls), push)
    found: list[Design] = []
    for mix in space.mixes:
        calm, peak = (staffed(space.facts[key], mix) for key in ("calm_rps", "peak_rps"))
        for name in dict.fromkeys((push, pull)):
            for spot in (0.0, 0.75) if space.spot is not None else (0.0,):
                found.append(Design(balancer=name, policy="fixed", min=peak, max=peak, mix=mix, spot_share=spot))
                for warm in (False, True) if space.pool is not None else (False,):
                    found.append(
                        Design(
                            balancer=name,
                            policy="surge",
                            min=calm,
                            max=space.highest,
                            mix=mix,
                            warm_pool=warm,
                            spot_share=spot,
                            threshold=0.5,
                        )
                    )
        found += _spending(space, mix, dict.fromkeys((push, pull)))
    return list(dict.fromkeys(settled(one, space) for one in found))


def _spending(space: Space, mix: tuple[float, ...], names: Iterable[str]) -> list[Design]:
    """Designs whose standing servers and warm pool cost some nine tenths of the budget."""
    found: list[Design] = []
    if space.budget is None:
        return found
    for name in names:
        for spot in (0.0, 1.0) if space.spot is not None else (0.0,):
            for warm in (False, True) if space.pool is not None else (False,):
                some = Design(
                    balancer=name,
                    policy="surge",
                    min=space.lowest,
                    max=space.highest,
                    mix=mix,
                    warm_pool=warm,
                    spot_share=spot,
                    threshold=0.5,
                )

                def month(low: int, some: Design = some) -> float:
                    hour = low * space.price(some)
                    return HOURS * space.money(dataclasses.replace(some, min=low), hour, 3600.0)

                low, high = space.lowest, space.highest
                while low < high:
                    middle = (low + high + 1) // 2
                    low, high = (middle, high) if month(middle) <= 0.9 * space.budget else (low, middle - 1)
                found.append(dataclasses.replace(some, min=low))
    return found


def settled(design: Design, space: Space) -> Design:
    """The design without choices that mean nothing in it, so that equals are equal."""
    changes: dict[str, Any] = {}
    if design.policy == "fixed":
        changes.update(max=design.min, warm_pool=False)
    if design.policy != "surge":
        changes["threshold"] = 1.0
    if design.policy == "fixed":
        changes["target"] = 0.65
    if design.max == design.min:
        changes["warm_pool"] = False
    if design.balancer in space.pulls:
        changes["queue_limit"] = None
    else:
        changes["longest_wait_s"] = None
    return dataclasses.replace(design, **changes)


def closed(scenario: Scenario) -> bool:
    """Whether traffic is a closed loop of users."""
    return isinstance(scenario.traffic, ClosedTraffic)


def checked(design: Design, space: Space) -> None:
    """Build the parts once: what cannot be is told here."""
    of, spec, scaling = space.specs(design)
    balancer(spec, of)
    if scaling.policy != "Fixed":
        build_policy(scaling, of.fleet)
