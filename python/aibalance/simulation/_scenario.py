"""What is simulated: the fleet, the candidates, and the whole scenario."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check
from . import _detail
from ._arrival_laws import DiurnalTraffic, LawTraffic
from ._buying import FailoverSpec, GroupSpec, Timetable, check_over_clouds, named
from ._detail import (
    SHARED_QUEUE,
    Antagonists,
    ClosedTraffic,
    Dispatchers,
    Failures,
    Hedging,
    LLMService,
    Network,
    Reports,
    RequestClass,
    Retries,
)
from ._observed import NAMES as OBSERVED
from ._plan_terms import SpotTerms, WarmPoolTerms
from ._recorded import RecordedService
from ._traffic import (
    PiecewiseTraffic,
    PoissonTraffic,
    Service,
    Spike,
    SpikeTraffic,
    TokenService,
    TraceLike,
    TraceTraffic,
    Traffic,
)

PICKERS = (
    "RoundRobin",
    "WeightedRandom",
    "LeastRequest",
    "JoinIdleQueue",
    "PeakEwma",
    "RingHash",
    "Maglev",
    "LeastConnections",
    "First",
    "ModuloHash",
    "IpHash",
    "SourceHash",
    "Rendezvous",
    "JumpHash",
    "JumpBackHash",
    "LeastTime",
    "Prequal",
    "ClientSideWeightedRoundRobin",
    "MementoHash",
    "MultiProbeHash",
    "PrefixAware",
)
"""Names that `[[balancers]]` may use for `picker`."""

PROMPTED = "PrefixAware"
"""The picker that goes by prompts."""

POLICIES = ("Fixed", "Timetable", "TargetTracking", "StepScaling", "Combined", *OBSERVED)
"""Names that `[[policies]]` may use for `policy`."""

METRICS = (
    "utilization",
    "utilization_percent",
    "in_flight",
    "in_flight_per_server",
    "queue",
    "queue_per_server",
    "arrivals_per_s",
    "arrivals_per_s_per_server",
)
"""Metrics that a policy can read in a simulation."""


@dataclass(frozen=True, kw_only=True)
class ServerType:
    """A type of server.

    Parameters
    ----------
    name : as reports show it.
    speed : a request takes its work divided by this (default 1).
    weight : the weight that balancers see (default 1); a balancer with `weights="equal"` does not see it.
    concurrency : requests served at once (default: the fleet's).
    price_per_hour : in USD, billed by the second from launch to termination (default 0).
    share : its part of the fleet, relative to the other types (default 1).
    max : how many there may be of this type (default: no limit).
    """

    name: str
    speed: float = 1.0
    weight: float = 1.0
    concurrency: int | None = None
    price_per_hour: float = 0.0
    share: float = 1.0
    max: int | None = None

    def __post_init__(self) -> None:
        at = "fleet.types"
        check.text(f"{at}.name", self.name)
        check.number(f"{at}.speed", self.speed, 1e-6, 1e6)
        check.number(f"{at}.weight", self.weight, 0, 1e6)
        if self.concurrency is not None:
            check.whole(f"{at}.concurrency", self.concurrency, 1, 1_000_000)
        check.number(f"{at}.price_per_hour", self.price_per_hour, 0, 1e6, unit="USD")
        check.number(f"{at}.share", self.share, 0, 1e6)
        if self.max is not None:
            check.whole(f"{at}.max", self.max, 0, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The servers and the loop that scales them.

    Parameters
    ----------
    types : server types, at least one.
    min, max : bounds of what a policy may ask for (defaults 1 and `initial`).
    initial : servers that are ready at the start (default `min`).
    concurrency : requests that a server serves at once, unless its type says otherwise (default 1).
    queue_limit : requests that may wait at a server; one more is rejected (default None, no limit). Balancers are told
        concurrency + queue_limit as the endpoint's `max_inflight`.
    load_s, warmup_s : a launched server is ready after both (defaults 0). It is paid for from its launch.
    decision_interval_s : time between two decisions of the policy (default 60).
    metric_delay_s : how old the metrics are that a decision sees (default 0).
    metric_period_s : what metrics are averaged over (default: the decision interval).
    launch : "share" launches the type furthest below its share, "order" the first type below its `max`.
    discipline : how a server serves. "fifo" (default): first come first served. "priority": by the class's priority,
        without
        interrupting anybody. "sharing": processor sharing; requests beyond `concurrency` share the server's speed
        evenly.
    sharing_limit : requests that share a server; more wait (default None, no limit). Only with "sharing".
    slow_start_s : balancers give a server that has joined its share by and by for so long (the pool's `slow_start`,
        Envoy's rule; default None, at once). The servers that a run begins with are not new.
    warm_speed, warm_s : a server that has just become ready has this part of its speed, and gets to the whole in ten
        equal steps within `warm_s` (default None, at once).

    Scale-in takes warming servers first, the newest first, then the ready server with the fewest requests; a ready
    server takes no new work, finishes what it has, and is paid for until then.
    """

    types: Sequence[ServerType]
    min: int = 1
    max: int | None = None
    initial: int | None = None
    concurrency: int = 1
    queue_limit: int | None = None
    load_s: float = 0.0
    warmup_s: float = 0.0
    decision_interval_s: float = 60.0
    metric_delay_s: float = 0.0
    metric_period_s: float | None = None
    launch: str = "share"
    discipline: str = "fifo"
    sharing_limit: int | None = None
    slow_start_s: float | None = None
    warm_speed: float | None = None
    warm_s: float | None = None

    def __post_init__(self) -> None:
        fixed = object.__setattr__
        if not isinstance(self.types, list | tuple) or not self.types:
            raise check.wrong("fleet.types", self.types, "at least one [[fleet.types]]")
        fixed(self, "types", tuple(self.types))
        names = [one.name for one in self.types]
        check.distinct("fleet.types", names)
        check.whole("fleet.min", self.min, 0, 1_000_000)
        if self.initial is None:
            fixed(self, "initial", self.min)
        if self.max is None:
            fixed(self, "max", max(self.min, self.initial or 0, 1))
        check.whole("fleet.max", self.max, max(self.min, 1), 1_000_000)
        check.whole("fleet.initial", self.initial, self.min, self.max or 0)
        check.whole("fleet.concurrency", self.concurrency, 1, 1_000_000)
        if self.queue_limit is not None:
            check.whole("fleet.queue_limit", self.queue_limit, 0, 1_000_000_000)
        for name in ("load_s", "warmup_s", "metric_delay_s"):
            check.seconds(f"fleet.{name}", getattr(self, name))
        check.number("fleet.decision_interval_s", self.decision_interval_s, 1e-3, 1e9, unit="seconds")
        if self.metric_period_s is None:
            fixed(self, "metric_period_s", self.decision_interval_s)
        check.number("fleet.metric_period_s", self.metric_period_s, 1e-3, 1e9, unit="seconds")
        check.choice("fleet.launch", self.launch, ("share", "order"))
        check.choice("fleet.discipline", self.discipline, ("fifo", "priority", "sharing"))
        if self.sharing_limit is not None:
            if self.discipline != "sharing":
                raise check.wrong("fleet.sharing_limit", self.sharing_limit, "none without discipline sharing")
            check.whole("fleet.sharing_limit", self.sharing_limit, 1, 1_000_000_000)
        if self.queue_limit is not None and self.discipline == "sharing" and self.sharing_limit is None:
            raise check.wrong("fleet.queue_limit", self.queue_limit, "a sharing_limit beside it: nobody waits without")
        if self.slow_start_s is not None:
            check.seconds("fleet.slow_start_s", self.slow_start_s, above=True)
        if (self.warm_speed is None) != (self.warm_s is None):
            raise check.wrong("fleet.warm_s", self.warm_s, "both warm_speed and warm_s, or none")
        if self.warm_speed is not None:
            check.number("fleet.warm_speed", self.warm_speed, 1e-3, 1)
            check.seconds("fleet.warm_s", self.warm_s, above=True)
        if self.launch == "share" and not sum(one.share for one in self.types):
            raise check.wrong("fleet.types.share", 0, "at least one share above 0")
        room = sum(1_000_000 if one.max is None else one.max for one in self.types)
        if room < (self.max or 0):
            raise check.wrong("fleet.max", self.max, f"at most the sum of the types' max, {room}")

    def describe(self) -> str:
        """One line for people."""
        kinds = ", ".join(
            f"{one.name} (speed {one.speed:g}, {one.concurrency or self.concurrency} at once, "
            f"${one.price_per_hour:g}/h)"
            for one in self.types
        )
        size = f"{self.min} to {self.max} servers" if self.min != self.max else f"{self.max} servers"
        return f"{size}: {kinds}; ready {self.load_s + self.warmup_s:g} s after launch"

    def _core(self, *, equal_weights: bool) -> dict[str, Any]:
        types = [
            {
                "name": one.name,
                "speed": float(one.speed),
                "weight": 1.0 if equal_weights else float(one.weight),
                "concurrency": one.concurrency or self.concurrency,
                "price_per_hour": float(one.price_per_hour),
                "share": float(one.share),
                "max": one.max,
            }
            for one in self.types
        ]
        return {
            "min": self.min,
            "max": self.max,
            "initial": self.initial,
            "queue_limit": self.queue_limit,
            "cold_start_s": float(self.load_s + self.warmup_s),
            "decision_interval_s": float(self.decision_interval_s),
            "metric_delay_s": float(self.metric_delay_s),
            "metric_period_s": float(self.metric_period_s or self.decision_interval_s),
            "launch": self.launch,
            "types": types,
        }


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys of requests, for balancers that hash: `distinct` keys with Zipf exponent `zipf` (default 0, uniform)."""

    distinct: int
    zipf: float = 0.0

    def __post_init__(self) -> None:
        check.whole("keys.distinct", self.distinct, 1, 2**32 - 1)
        check.number("keys.zipf", self.zipf, 0, 20)


@dataclass(frozen=True, kw_only=True)
class BalancerSpec:
    """A balancer to compare.

    Parameters
    ----------
    picker : the class, one of `PICKERS`; or "SharedQueue": nobody pushes, servers with a free slot pull from one
        queue by
        priority, then first come first served. Its options are `limit`, how many may wait, and `longest_wait_s`: who
        would wait longer, as the queue expects, is turned away.
    name : as reports show it (default: the class).
    options : keyword arguments of the class.
    weights : "type" shows the balancer each server type's weight, "equal" shows 1 for all.
    cost : "one" gives every request the cost 1, "work" its work in seconds (a balancer that knows lengths in advance).
    failover : the scenario's FailoverSpec that clients follow (default: the only one, if there is one).
    cache_events_s : for PrefixAware: how many seconds after the fact it hears what servers' prefix caches store and
        throw out (0 or more). None (default): not at all, it goes by its own picks.
    growth : for PrefixAware: whether it hears of each block by which an answer has grown (default False).

    PrefixAware needs `service` of kind "llm". It is told prompts, first tokens and ends; of the scenario's `reports` it
    reads requests, queue and KV use. Each run gives it a new index: `options["index"]` may be a table of parameters of
    `PrefixIndex`, which are otherwise `block_size` as the service's `block_tokens`, `capacity` as many as its
    `kv_tokens` hold, and `ttl` 120 seconds, or 5 with `cache_events_s`; `ttl` may be `inf`.
    """

    picker: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "type"
    cost: str = "one"
    failover: str = ""
    cache_events_s: float | None = None
    growth: bool = False

    def __post_init__(self) -> None:
        check.choice("balancers.picker", self.picker, (*PICKERS, SHARED_QUEUE))
        object.__setattr__(self, "name", check.text("balancers.name", self.name or self.picker))
        object.__setattr__(self, "options", _table("balancers.options", self.options))
        check.choice("balancers.weights", self.weights, ("type", "equal"))
        check.choice("balancers.cost", self.cost, ("one", "work"))
        check.text("balancers.failover", self.failover, empty=True)
        if self.picker == SHARED_QUEUE and (self.weights, self.cost) != ("type", "one"):
            raise ConfigError(f"balancers.weights: {SHARED_QUEUE} knows neither weights nor costs")
        if self.cache_events_s is not None:
            check.seconds("balancers.cache_events_s", self.cache_events_s)
        if not isinstance(self.growth, bool):
            raise check.wrong("balancers.growth", self.growth, "true or false")
        if self.picker == PROMPTED:
            if self.cost != "one":
                raise check.wrong("balancers.cost", self.cost, f"one with {PROMPTED}: it counts tokens")
        elif self.cache_events_s is not None or self.growth:
            name, value = ("growth", True) if self.cache_events_s is None else ("cache_events_s", self.cache_events_s)
            raise check.wrong(f"balancers.{name}", value, f"none without {PROMPTED}")


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """A scaling policy to compare.

    Parameters
    ----------
    policy : one of `POLICIES`; "Fixed" keeps the number of servers at `options["servers"]` (default: the fleet's
        initial); "Timetable" follows `options["points"]`, a list of [second, servers] of which the first is at 0, again
        and again every `options["period_s"]` if that is given.
    name : as reports show it (default: the class).
    metric : what it reads, one of `METRICS`; needed by TargetTracking and StepScaling.
    target : the value that TargetTracking keeps.
    options : further keyword arguments of the class; for Combined, `policies` is a list of such tables. Autoscalers
        with metrics of their own, such as HorizontalPodAutoscaler, have `observes` (from their metrics to `METRICS`),
        `every_s` and `starts_at` as well: see `Observed`.
    group : the scenario's GroupSpec that buys the servers (default: the only one, if there is one).
    """

    policy: str
    name: str = ""
    metric: str | None = None
    target: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""

    def __post_init__(self) -> None:
        check.choice("policies.policy", self.policy, POLICIES)
        object.__setattr__(self, "name", check.text("policies.name", self.name or self.policy))
        object.__setattr__(self, "options", _table("policies.options", self.options))
        if self.metric is not None:
            check.choice("policies.metric", self.metric, METRICS)
        if self.target is not None:
            check.number("policies.target", self.target, 0, 1e12, above=True)
        tracks = self.policy == "TargetTracking"
        if self.policy in ("TargetTracking", "StepScaling") and self.metric is None:
            raise ConfigError(f"policies.metric: missing; {self.policy} needs one of {', '.join(METRICS)}")
        if tracks and self.target is None:
            raise ConfigError("policies.target: missing; TargetTracking needs the value to keep")
        if not tracks and self.target is not None:
            raise ConfigError(f"policies.target: {self.target!r} has no meaning for {self.policy}")
        check.text("policies.group", self.group, empty=True)
        if self.policy == "Timetable":
            for name in self.options:
                if name not in ("points", "period_s"):
                    raise ConfigError(f"policies.options.{name}: unknown key; allowed for Timetable: points, period_s")
            if "points" not in self.options:
                raise ConfigError("policies.options.points: missing; Timetable needs a list of [second, servers]")
            Timetable(**self.options)
        if self.policy not in ("TargetTracking", "StepScaling") and self.metric is not None:
            raise ConfigError(f"policies.metric: {self.metric!r} has no meaning for {self.policy}")
        if self.policy == "Fixed":
            for name in self.options:
                if name != "servers":
                    raise ConfigError(f"policies.options.{name}: unknown key; allowed for Fixed: servers")
            if "servers" in self.options:
                check.whole("policies.options.servers", self.options["servers"], 0, 1_000_000)
        if self.policy == "Combined":
            parts = self.options.get("policies")
            if not isinstance(parts, list | tuple) or not parts:
                raise ConfigError("policies.options.policies: missing; Combined needs a list of policies")


def _of(name: str, given: str, specs: Sequence[Any], table: str) -> None:
    if given and not specs:
        raise check.wrong(name, given, f"none without [[{table}]]")
    named(name, given, specs, table)


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise check.wrong(name, value, "a table")
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything a simulation depends on, and the candidates to compare on it.

    Parameters
    ----------
    name : as reports show it.
    traffic : PoissonTraffic, PiecewiseTraffic, SpikeTraffic, DiurnalTraffic, RenewalTraffic, MmppTraffic, TraceTraffic
        or ClosedTraffic.
    service : Service, LLMService or, for a trace, TokenService or RecordedService.
    fleet : Fleet.
    duration_s : how long traffic lasts; what is in the system then is finished. Costs end here.
    slo_s : the latency objective.
    timeout_s : a client gives up this long after its arrival, and its work is cancelled (default None, never).
    discard_s : requests that arrive earlier are not measured (default 0).
    keys : Keys, or None: every request has a key of its own.
    tokens : the TokenService that `with_trace` uses (default: `service` if it is one, else `TokenService()`).
    seed : of the first replication (default 0); replication r uses seed + r.
    replications : runs of each candidate in `compare` (default 20).
    balancers, policies : what `compare` compares when it is not told.
    classes : RequestClass of a mixture; none for one class.
    retries, hedging : Retries, Hedging.
    work_per : "request" (default): what a request costs does not depend on who serves it; "attempt": every attempt
        draws its own, as if slowness were the server's and not the request's.
    network, failures, antagonists : Network, Failures, Antagonists.
    dispatchers : Dispatchers; without it one balancer that knows all.
    reports : Reports, for pickers that probe or read what servers report.
    groups : GroupSpecs, how the fleet is bought; each policy has one. Prices are then the offers'.
    failovers : FailoverSpecs, two clouds of which one goes away; each balancer has one.
    spot, warm_pool : SpotTerms and WarmPoolTerms, what `plan` assumes unless it is told otherwise (default None).

    Raises ConfigError naming the field, the value and what is allowed.

    >>> scenario = Scenario(name="small", traffic=PoissonTraffic(rate_rps=8), service=Service("exponential", mean_s=1),
    ...                     fleet=Fleet(types=[ServerType(name="a")], min=10), duration_s=600, slo_s=3)
    >>> scenario.replace(slo_s=5).slo_s
    5
    """

    name: str
    traffic: Traffic | ClosedTraffic
    service: Service | TokenService | RecordedService | LLMService
    fleet: Fleet
    duration_s: float
    slo_s: float
    description: str = ""
    timeout_s: float | None = None
    discard_s: float = 0.0
    keys: Keys | None = None
    tokens: TokenService | None = None
    seed: int = 0
    replications: int = 20
    balancers: Sequence[BalancerSpec] = ()
    policies: Sequence[PolicySpec] = ()
    classes: Sequence[RequestClass] = ()
    retries: Retries | None = None
    hedging: Hedging | None = None
    work_per: str = "request"
    network: Network | None = None
    failures: Failures | None = None
    antagonists: Antagonists | None = None
    dispatchers: Dispatchers | None = None
    reports: Reports | None = None
    groups: Sequence[GroupSpec] = ()
    failovers: Sequence[FailoverSpec] = ()
    spot: SpotTerms | None = None
    warm_pool: WarmPoolTerms | None = None

    def __post_init__(self) -> None:
        check.text("name", self.name)
        check.text("description", self.description, empty=True)
        check.number("duration_s", self.duration_s, 1e-3, 1e9, unit="seconds")
        check.seconds("slo_s", self.slo_s, above=True)
        if self.timeout_s is not None:
            check.seconds("timeout_s", self.timeout_s, above=True)
        check.seconds("discard_s", self.discard_s)
        if self.discard_s >= self.duration_s:
            raise check.wrong("discard_s", self.discard_s, f"less than duration_s, {self.duration_s:g}")
        check.whole("seed", self.seed, 0, 2**64 - 1)
        check.whole("replications", self.replications, 1, 10_000)
        for name, kinds in (
            ("traffic", Traffic | ClosedTraffic),
            ("service", Service | TokenService | RecordedService | LLMService),
            ("fleet", Fleet),
        ):
            if not isinstance(getattr(self, name), kinds):
                raise check.wrong(name, getattr(self, name), str(kinds))
        if isinstance(self.service, TokenService) and not isinstance(self.traffic, TraceTraffic):
            raise check.wrong(
                "service.kind", "tokens", "another kind, or traffic of kind trace: only a trace has tokens"
            )
        if isinstance(self.service, RecordedService):
            if not isinstance(self.traffic, TraceTraffic):
                raise check.wrong("service.kind", "recorded", "another kind, or traffic with recorded service times")
            self.service.work_s(self.traffic.trace)
        self._check_detail()
        if self.spike is not None and self.spike.start_s >= self.duration_s:
            raise check.wrong("traffic.start_s", self.spike.start_s, f"less than duration_s, {self.duration_s:g}")
        for name in ("balancers", "policies"):
            found = tuple(getattr(self, name))
            check.distinct(name, [one.name for one in found])
            object.__setattr__(self, name, found)
        self._check_buying()

    def _check_buying(self) -> None:
        kinds: tuple[tuple[str, Any], ...] = (("groups", GroupSpec), ("failovers", FailoverSpec))
        for name, kind in kinds:
            found = tuple(getattr(self, name))
            object.__setattr__(self, name, found)
            for i, one in enumerate(found):
                if not isinstance(one, kind):
                    raise check.wrong(f"{name}[{i}]", one, f"a {kind.__name__}")
            check.distinct(name, [one.name for one in found])
        for name, terms in (("spot", SpotTerms), ("warm_pool", WarmPoolTerms)):
            given = getattr(self, name)
            if given is not None and not isinstance(given, terms):
                raise check.wrong(f"plan.{name}", given, f"a {terms.__name__} or None")
        types = tuple(self.fleet.types)
        if self.groups and len(types) > 1:
            raise check.wrong("fleet.types[1].name", types[1].name, "one type with [[groups]], whose offers are types")
        if self.groups and types[0].price_per_hour:
            raise check.wrong(
                "fleet.types[0].price_per_hour", types[0].price_per_hour, "none with [[groups]], whose offers have one"
            )
        for i, group in enumerate(self.groups):
            try:
                group.scaling(self.fleet, self.fleet.initial or 0, None, 0)
            except ConfigError as error:
                raise ConfigError(f"groups[{i}].{error}") from error
        for i, failover in enumerate(self.failovers):
            for side in ("primary", "secondary"):
                cloud = getattr(failover, side)
                if not any(one.name.startswith(f"{cloud}/") for one in types):
                    raise check.wrong(f"failovers[{i}].{side}", cloud, f"what some fleet type begins with: {cloud}/…")
        for i, policy in enumerate(self.policies):
            _of(f"policies[{i}].group", policy.group, self.groups, "groups")
        for i, balancer in enumerate(self.balancers):
            _of(f"balancers[{i}].failover", balancer.failover, self.failovers, "failovers")
            if self.failovers:
                check_over_clouds(f"balancers[{i}].picker", balancer.picker)

    def _check_detail(self) -> None:
        for name, kind in (
            ("retries", Retries),
            ("hedging", Hedging),
            ("network", Network),
            ("failures", Failures),
            ("antagonists", Antagonists),
            ("dispatchers", Dispatchers),
            ("reports", Reports),
        ):
            given = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise check.wrong(name, given, f"a {kind.__name__} or None")
        classes = tuple(self.classes)
        object.__setattr__(self, "classes", classes)
        for i, one in enumerate(classes):
            if not isinstance(one, RequestClass):
                raise check.wrong(f"classes[{i}]", one, "a RequestClass")
        check.distinct("classes", [one.name for one in classes])
        if classes and not sum(one.share for one in classes):
            raise check.wrong("classes[0].share", 0, "at least one share above 0")
        check.choice("work_per", self.work_per, ("request", "attempt"))
        if self.work_per == "attempt" and self.retries is None and self.hedging is None:
            raise check.wrong("work_per", self.work_per, "request without retries and hedging")
        if isinstance(self.service, LLMService):
            trace = isinstance(self.traffic, TraceTraffic)
            if trace == (self.service.input_tokens is not None):
                raise check.wrong(
                    "service.input_tokens", self.service.input_tokens, "none with a trace, and a law without one"
                )
            if self.fleet.discipline != "fifo":
                raise check.wrong("fleet.discipline", self.fleet.discipline, "fifo with service.kind llm")
            if self.work_per == "attempt":
                raise check.wrong("work_per", self.work_per, "request with service.kind llm")
            for i, one in enumerate(classes):
                if one.service is not None:
                    raise check.wrong(f"classes[{i}].service", one.service, "none with service.kind llm")

    @classmethod
    def load(cls, path: str | os.PathLike[str], /) -> Scenario:
        """Read a scenario file (TOML; every key is in docs/simulation.md).

        Raises FormatError naming the file, the line, the field, the value and what is allowed.
        """
        from ._load import load

        return load(path)

    @property
    def spike(self) -> Spike | None:
        """The spike of the traffic, if it has one."""
        return getattr(self.traffic, "spike", None)

    def replace(self, **changes: Any) -> Scenario:
        """The scenario with some fields changed."""
        known = [one.name for one in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"{name}: unknown field; allowed: {', '.join(known)}{check.hint(name, known)}")
        return dataclasses.replace(self, **changes)

    def with_trace(
        self,
        trace: TraceLike,
        /,
        *,
        time_scale: float = 1.0,
        rate_scale: float = 1.0,
        keep_spike: bool = False,
        duration_s: float | None = None,
    ) -> Scenario:
        """The scenario with its traffic and work replaced by a trace's.

        The work of a request follows from its tokens by `tokens`; without those, servers that batch (`LLMService`) go
        on batching, with the trace's tokens and blocks. The duration becomes one pass of the trace, unless given. With
        `keep_spike`, the spike of the traffic is laid over the trace.
        """
        spike = self.spike if keep_spike else None
        traffic = TraceTraffic(trace=trace, time_scale=time_scale, rate_scale=rate_scale, spike=spike)
        own: TokenService | LLMService | None = self.service if isinstance(self.service, TokenService) else None
        if isinstance(self.service, LLMService):
            own = dataclasses.replace(self.service, input_tokens=None, output_tokens=None, prefix_tokens=0)
        return self.replace(
            traffic=traffic,
            service=self.tokens or own or TokenService(),
            duration_s=traffic.span_s if duration_s is None else duration_s,
            discard_s=0.0,
        )

    def _core(
        self,
        *,
        equal_weights: bool,
        cost_is_work: bool,
        pull: tuple[int | None, float | None] | None = None,
    ) -> dict[str, Any]:
        """The plain values that the core takes."""
        traffic = self.traffic
        out: dict[str, Any] = {
            "kind": "trace",
            "points": [],
            "linear": False,
            "spike": self.spike._values() if self.spike is not None else None,
            "rate_scale": 1.0,
            "rotate": False,
        }
        match traffic:
            case PoissonTraffic():
                out.update(kind="poisson", points=[(0.0, float(traffic.rate_rps))])
            case DiurnalTraffic():
                out.update(kind="piecewise", points=traffic._points(self.duration_s), linear=True)
            case PiecewiseTraffic():
                out.update(kind="piecewise", points=list(traffic.points), linear=traffic.interpolation == "linear")
            case SpikeTraffic():
                out.update(kind="spike", points=[(0.0, float(traffic.base_rps))])
            case ClosedTraffic():
                out.update(kind="poisson", points=[(0.0, 0.0)])
            case TraceTraffic():
                out.update(rate_scale=float(traffic.rate_scale), rotate=traffic.rotate)
        spike = self.spike
        return {
            "duration_s": float(self.duration_s),
            "discard_s": float(self.discard_s),
            "timeout_s": None if self.timeout_s is None else float(self.timeout_s),
            "slo_s": float(self.slo_s),
            "spike": None if spike is None else (float(spike.start_s), spike.end_s),
            "keys": None if self.keys is None else (self.keys.distinct, float(self.keys.zipf)),
            "cost_is_work": cost_is_work,
            "timeline_steps": 240,
            "traffic": out,
            "service": self.service._core(),
            "fleet": self.fleet._core(equal_weights=equal_weights),
            "detail": _detail.core(self, pull),
            "dispatchers": None if self.dispatchers is None else self.dispatchers._core(),
            "slow_start_s": self.fleet.slow_start_s,
        }

    def _columns(self, seed: int) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Arrivals and work of a trace, or of a law and a seed, in seconds."""
        traffic = self.traffic
        if isinstance(traffic, LawTraffic):
            arrival = traffic._times(seed, float(self.duration_s))
            return arrival, np.zeros(len(arrival))
        if not isinstance(traffic, TraceTraffic):
            return None, None
        arrival = np.ascontiguousarray(traffic.trace.arrival_s, dtype=np.float64) * traffic.time_scale
        if isinstance(self.service, TokenService | RecordedService):
            return arrival, self.service.work_s(traffic.trace)
        if isinstance(self.service, LLMService):
            # The row of each request: its tokens are looked up by it.
            return arrival, np.arange(len(arrival), dtype=np.float64)
        return arrival, np.zeros(len(arrival))

    def _tokens(self) -> tuple[NDArray[np.int64], ...] | None:
        """The tokens of a trace, for servers that batch."""
        if isinstance(self.service, LLMService) and isinstance(self.traffic, TraceTraffic):
            return _detail.token_columns(self.traffic.trace)
        return None
