"""Between the engine and what decides: pickers over a Pool on a ManualClock, policies over a mapping.

The engine calls a balancer as `add(server, kind, weight, max_inflight, now)`, `drain(server, now)`, `remove(server,
now)`, `acquire(key, cost, now[, blocks, tokens]) -> (server, lease) | None`, `first_token(lease, now)`, `release(lease,
outcome, latency, now)`,
`report(server, in_flight, latency, utilization, qps, now)`, and a scaler as
`scaler(now, seen) -> int | None`. Times are seconds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import _core
from .._errors import ConfigError, PickError, SimulationError
from . import _checks as check
from ._buying import FailoverSpec, GroupSpec, Timetable, check_over_clouds, named
from ._detail import SHARED_QUEUE, LLMService, shared_queue
from ._group import GroupScaling
from ._observed import NAMES, Observed, alarms, build
from ._scenario import PICKERS, PROMPTED, BalancerSpec, Fleet, PolicySpec, Scenario


class PoolDriver:
    """A picker with the `Picker` protocol, over a pool whose clock is the simulation's."""

    def __init__(self, factory: Callable[[Any], Any], seed: int) -> None:
        self._factory = factory
        self._seed = _core._simulate_balancer_seed(seed)
        self._clock = _aibalance("ManualClock")(0.0)
        self._now = 0.0
        self._pool: Any = None
        self._acquire: Any = None
        self._addresses = False
        self._prompts = False
        self._ids: dict[str, int] = {}

    def _to(self, now: float) -> None:
        if now > self._now:
            self._clock.advance(now - self._now)
            self._now = now

    def add(self, server: int, kind: str, weight: float, max_inflight: int | None, now: float) -> None:
        self._to(now)
        name = f"{kind}-{server}"
        endpoint = _aibalance("Endpoint")(name, weight=weight, max_inflight=max_inflight)
        self._ids[name] = server
        if self._pool is None:
            self._pool = _aibalance("Pool")([endpoint], clock=self._clock, seed=self._seed)
            picker = self._factory(self._pool)
            for method in ("acquire",):
                if not callable(getattr(picker, method, None)):
                    raise check.wrong("picker", picker, f"an object with a method {method!r}")
            self._acquire = picker.acquire
            self._addresses = isinstance(picker, (_aibalance("IpHash"), _aibalance("SourceHash")))
            # One's own picker says by an attribute that its keys are prompts.
            self._prompts = isinstance(picker, _aibalance(PROMPTED)) or getattr(picker, "prompts", False) is True
        else:
            self._pool.add(endpoint)

    def drain(self, server: int, now: float) -> None:
        self._to(now)
        self._pool.drain(self._name(server))

    def remove(self, server: int, now: float) -> None:
        self._to(now)
        name = self._name(server)
        self._pool.remove(name)
        del self._ids[name]

    def acquire(
        self, key: Any, cost: float, now: float, blocks: Any = None, tokens: int | None = None
    ) -> tuple[int, Any] | None:
        if self._acquire is None:
            return None
        self._to(now)
        if self._addresses:
            # As in the engine: a client's address is drawn from its key.
            key = int(_aibalance("envoy_hash")(key)) & 0xFFFFFFFF
        elif self._prompts and blocks is not None and tokens is not None:
            key, cost = blocks, tokens
        try:
            lease = self._acquire(key, cost=cost)
        except PickError:
            return None
        return self._ids[lease.endpoint.id], lease

    def first_token(self, lease: Any, now: float) -> None:
        self._to(now)
        lease.first_token()

    def release(self, lease: Any, outcome: str, latency: float, now: float) -> None:
        self._to(now)
        if outcome == "cancelled":
            lease.cancel()
        else:
            lease.release(outcome, latency=latency)

    def report(
        self, server: int, in_flight: float, latency: float | None, utilization: float, qps: float, now: float
    ) -> None:
        self._to(now)
        self._pool.observe(self._name(server), inflight=in_flight, latency=latency, utilization=utilization, qps=qps)

    def _name(self, server: int) -> str:
        for name, known in self._ids.items():
            if known == server:
                return name
        raise SimulationError(f"server {server} is not in the pool")


class FailoverDriver(PoolDriver):
    """A picker over two clouds: what a run counted goes into its report."""

    def __init__(self, failover: Any, seed: int) -> None:
        super().__init__(failover, seed)
        self._failover = failover

    def extra(self, end_s: float) -> tuple[float, dict[str, float]]:
        """What the answers' bytes cost, and counts."""
        if not self._failover.runs:
            return 0.0, {}
        found = self._failover.runs[-1]
        requests = {f"requests_{cloud}": float(count) for cloud, count in found.requests.items()}
        counts = {"unreachable": float(found.unreachable), "lost_writes": found.lost_writes}
        return found.egress_usd, {**requests, **counts, "egress_cost": found.egress_usd}


def build_picker(spec: BalancerSpec, service: Any = None) -> Any:
    """The spec's picker, on an empty pool: the engine takes its options from it."""
    if spec.picker == SHARED_QUEUE:
        return shared_queue(spec.options)
    options = dict(spec.options)
    if spec.picker == PROMPTED:
        options["index"] = _index(options.get("index", {}), spec, service)
    for key in ("seed", "clock"):
        if key in spec.options:
            raise ConfigError(f"balancers.options.{key}: not allowed; the simulation has a seed and a clock of its own")
    try:
        return _aibalance(spec.picker)([], **options)
    except TypeError as error:
        raise ConfigError(
            f"balancers.options: {dict(spec.options)!r} is not allowed for {spec.picker}: {error}"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"balancers.options.{error}") from error


def _index(given: Any, spec: BalancerSpec, service: Any) -> Any:
    """The index of a picker that goes by prompts: as the servers' caches, unless told otherwise."""
    block = prompted(service)
    if not isinstance(given, Mapping):
        if isinstance(given, _aibalance("PrefixIndex")):
            return _fits(given, service)
        raise check.wrong("balancers.options.index", given, "a table of parameters of PrefixIndex")
    room = min(max(service.kv_tokens // block, 1), 2**30)
    ttl = 120.0 if spec.cache_events_s is None else 5.0
    values = {"block_size": block, "capacity": room, "ttl": ttl, **given}
    if values["ttl"] == math.inf:
        values["ttl"] = None
    try:
        return _fits(_aibalance("PrefixIndex")(**values), service)
    except TypeError as error:
        raise ConfigError(f"balancers.options.index: {dict(given)!r} is not allowed: {error}") from error
    except ConfigError as error:
        message = str(error)
        at = "balancers.options.index."
        raise ConfigError(message if message.startswith("balancers.") else at + message) from error


def prompted(service: Any) -> int:
    """Tokens of a block of what has prompts; an error for what has none."""
    if not isinstance(service, LLMService):
        raise check.wrong("balancers.picker", PROMPTED, "another one without service.kind llm: there are no prompts")
    return service.block_tokens or 16


def _fits(index: Any, service: Any) -> Any:
    block = prompted(service)
    if index.block_size != block:
        allowed = f"{block}, the service's block_tokens: prompts come in its blocks"
        raise check.wrong("balancers.options.index.block_size", index.block_size, allowed)
    return index


def _aibalance(name: str) -> Any:
    """A public name of the package, looked up when it is needed."""
    import aibalance

    found = getattr(aibalance, name, None)
    if found is None:
        raise ConfigError(f"{name}: this build of aibalance does not have it")
    return found


@dataclass(frozen=True)
class Balancer:
    """A balancer as a candidate: `make(seed)` gives what the engine takes."""

    name: str
    picker: str
    make: Callable[[int], Any]
    equal_weights: bool = False
    cost_is_work: bool = False
    pull: tuple[int | None, float | None] | None = None
    """Servers pull from a shared queue: how many may wait, and how long they may expect to."""


def balancer(given: Any, scenario: Scenario, *, name: str | None = None) -> Balancer:
    """A balancer from a name in the scenario, a BalancerSpec, a picker class, or a callable of a pool."""
    if isinstance(given, str):
        if given.startswith("test:"):
            # The engine's own test balancers, for tests and benches of the simulator.
            return Balancer(name or given, given, lambda seed: given)
        known = {one.name: one for one in scenario.balancers}
        if given in known:
            given = known[given]
        else:
            check.choice("picker", given, (*known, *(one for one in (*PICKERS, SHARED_QUEUE) if one not in known)))
            given = BalancerSpec(picker=given)
    if isinstance(given, BalancerSpec):
        spec = given
        picker = build_picker(spec, scenario.service)
        failover = named("balancers.failover", spec.failover, scenario.failovers, "failovers")
        if failover is not None and spec.picker == PROMPTED:
            raise check.wrong("balancers.picker", spec.picker, "another one with [[failovers]]: clouds share no caches")
        if failover is not None:
            return _over_clouds(spec, failover, scenario, name)
        if spec.picker == SHARED_QUEUE:
            if scenario.hedging is not None:
                raise check.wrong(
                    "hedging", scenario.hedging, f"none with {SHARED_QUEUE}: nothing is sent to two servers"
                )
            if scenario.reports is not None:
                raise check.wrong("reports", scenario.reports, f"none with {SHARED_QUEUE}: nobody listens")
            if scenario.dispatchers is not None:
                raise check.wrong("dispatchers", scenario.dispatchers, f"none with {SHARED_QUEUE}: nobody pushes")
            return Balancer(name or spec.name, SHARED_QUEUE, lambda seed: "test:round_robin", pull=picker)
        made = (picker, spec.cache_events_s, spec.growth) if spec.picker == PROMPTED else picker
        return Balancer(name or spec.name, spec.picker, lambda seed: made, spec.weights == "equal", spec.cost == "work")
    if isinstance(given, type) and given.__name__ in PICKERS and given is _aibalance(given.__name__):
        return balancer(BalancerSpec(picker=given.__name__), scenario, name=name)
    if type(given).__name__ in PICKERS and type(given) is _aibalance(type(given).__name__):
        if scenario.failovers:
            raise check.wrong("picker", given, "a name, a class or a BalancerSpec with [[failovers]]")
        # It lends its options; the run gives them a pool of its own.
        shown = name or type(given).__name__
        if type(given).__name__ == PROMPTED:
            _fits(given.index, scenario.service)
            return Balancer(shown, PROMPTED, lambda seed: (given, None, False))
        return Balancer(shown, type(given).__name__, lambda seed: given)
    if callable(given):
        shown = name or str(getattr(given, "__name__", type(given).__name__))
        if scenario.fleet.slow_start_s is not None:
            raise check.wrong("fleet.slow_start_s", scenario.fleet.slow_start_s, "none with a picker of your own")
        clouds: FailoverSpec | None = named("balancers.failover", "", scenario.failovers, "failovers")
        if clouds is not None:
            return Balancer(shown, shown, lambda seed: FailoverDriver(clouds.picker(given), seed))
        return Balancer(shown, shown, lambda seed: PoolDriver(given, seed))
    raise check.wrong(
        "picker", given, "a name, a BalancerSpec, a picker class, or a callable of a pool that gives a picker"
    )


def _over_clouds(spec: BalancerSpec, failover: FailoverSpec, scenario: Scenario, name: str | None) -> Balancer:
    """The spec's picker within each of two clouds."""
    check_over_clouds("balancers.picker", spec.picker)
    if scenario.fleet.slow_start_s is not None:
        raise check.wrong("fleet.slow_start_s", scenario.fleet.slow_start_s, "none with [[failovers]]")

    def inner(pool: Any) -> Any:
        return _aibalance(spec.picker)(pool, **spec.options)

    return Balancer(
        name or spec.name,
        spec.picker,
        lambda seed: FailoverDriver(failover.picker(inner), seed),
        spec.weights == "equal",
        spec.cost == "work",
    )


class PolicyDriver:
    """A policy with `recommend(mapping, now=...)`, fed with what the engine measured."""

    def __init__(self, policy: Any) -> None:
        self._recommend = policy.recommend

    def __call__(self, now: float, seen: Mapping[str, Any]) -> int | None:
        servers = seen["servers"]
        # Without any server all wait (in a shared queue), and the engine has no queue to divide.
        waiting = seen["queue_per_server"] * servers if servers > 0 else seen["in_flight"]

        def per_server(value: float) -> float:
            return value / servers if servers > 0 else math.inf if value > 0 else 0.0

        metrics: dict[str, float | None] = {
            "utilization": seen["utilization"],
            "utilization_percent": 100 * seen["utilization"],
            "in_flight": seen["in_flight"],
            "in_flight_per_server": per_server(seen["in_flight"]),
            "queue": waiting,
            "queue_per_server": seen["queue_per_server"],
            "arrivals_per_s": seen["arrivals_per_s"],
            "arrivals_per_s_per_server": per_server(seen["arrivals_per_s"]),
        }
        observation = {
            # Who drains serves no one new: no system counts it, and what is per server here is not over it either.
            "current": seen["ready"],
            "desired": seen["desired"],
            "warming": seen["warming"],
            "metrics": {
                name: value if value is not None and math.isfinite(value) else None for name, value in metrics.items()
            },
        }
        wanted = self._recommend(observation, now=now).desired
        if wanted is None:
            return None
        if isinstance(wanted, bool) or not isinstance(wanted, int):
            raise SimulationError(f"the policy recommended {wanted!r}; expected a whole number of servers")
        return wanted


class GroupDriver:
    """A policy with a group behind it; `begin` is told the seed of the run."""

    def __init__(self, group: GroupSpec, fleet: Fleet, desired: int, policy: Any) -> None:
        self._group, self._fleet, self._desired, self._policy = group, fleet, desired, policy

    def begin(self, seed: int) -> None:
        self._scaling = self._group.scaling(self._fleet, self._desired, self._policy, seed)
        self._driver = PolicyDriver(self._scaling)

    def __call__(self, now: float, seen: Mapping[str, Any]) -> int | None:
        return self._driver(now, seen)

    def extra(self, end_s: float) -> tuple[float, dict[str, float]]:
        """What the instances cost, and counts."""
        return self._scaling._end(end_s)


@dataclass(frozen=True)
class Policy:
    """A scaling policy as a candidate: `make()` gives a fresh scaler, or None for a fixed fleet of `fleet`."""

    name: str
    policy: str
    make: Callable[[], Callable[[float, Mapping[str, Any]], int | None] | None]
    fleet: Fleet


def policy(given: Any, scenario: Scenario, *, name: str | None = None) -> Policy:
    """A policy from None (a fixed fleet), a name in the scenario, a PolicySpec, an object with `recommend`, or a
    callable that makes one."""
    fleet = scenario.fleet
    if given is None:
        given = PolicySpec(policy="Fixed")
    if isinstance(given, str):
        known = {one.name: one for one in scenario.policies}
        check.choice("policy", given, (*known, "Fixed"))
        given = known.get(given) or PolicySpec(policy="Fixed")
    if isinstance(given, PolicySpec):
        spec = given
        group = named("policies.group", spec.group, scenario.groups, "groups")
        if spec.policy == "Fixed":
            servers = spec.options.get("servers", fleet.initial)
            if servers > (fleet.max or 0):
                raise check.wrong("policies.options.servers", servers, f"at most fleet.max, {fleet.max}")
            if group is not None:
                return _bought(group, fleet, servers, lambda: None, name or spec.name, "Fixed")
            fixed = Fleet(**{**_fields(fleet), "min": servers, "initial": servers})
            return Policy(name or spec.name, "Fixed", lambda: None, fixed)
        built = build_policy(spec, fleet)
        if isinstance(built, Timetable):
            # As with a fixed fleet, what the table begins with is there.
            fleet = Fleet(**{**_fields(fleet), "initial": min(max(built.points[0][1], fleet.min), fleet.max or 0)})
        fleet = _looks(built, fleet)
        if group is not None:
            shown = name or spec.name
            return _bought(group, fleet, fleet.initial or 0, lambda: copy.deepcopy(built), shown, spec.policy)
        return Policy(name or spec.name, spec.policy, lambda: PolicyDriver(copy.deepcopy(built)), fleet)
    if not isinstance(given, type) and callable(getattr(given, "recommend", None)):
        kind = type(given.policy if isinstance(given, Observed) else given).__name__
        fleet = _looks(given, fleet)
        if (group := _group_of(given, scenario)) is not None:
            return _bought(group, fleet, fleet.initial or 0, lambda: copy.deepcopy(given), name or kind, kind)
        # Every run starts from the state that it was given in.
        return Policy(name or kind, kind, lambda: PolicyDriver(copy.deepcopy(given)), fleet)
    if callable(given):
        shown = name or str(getattr(given, "__name__", type(given).__name__))

        def made() -> Any:
            # It is made when the run's fleet is there: how often that is looked at cannot follow it any more.
            found, own = given(), fleet.decision_interval_s
            if not callable(getattr(found, "recommend", None)) and not (found is None and scenario.groups):
                raise check.wrong("policy", found, "an object with a method 'recommend' from the callable")
            if isinstance(found, Observed) and found.every_s != own:
                raise check.wrong(
                    "every_s",
                    found.every_s,
                    f"fleet.decision_interval_s, {own:g}, of an Observed that a callable makes",
                )
            return found

        if (group := _group_of(given, scenario)) is not None:
            return _bought(group, fleet, fleet.initial or 0, made, shown, shown)
        return Policy(shown, shown, lambda: PolicyDriver(made()), fleet)
    raise check.wrong(
        "policy", given, "None, a name, a PolicySpec, an object with a method 'recommend', or a callable that makes one"
    )


def _group_of(given: Any, scenario: Scenario) -> GroupSpec | None:
    """The group behind a policy that is given as an object."""
    if scenario.groups and isinstance(given, GroupScaling):
        raise check.wrong("policy", given, "no GroupScaling with [[groups]]: one group buys the servers")
    group: GroupSpec | None = named("policies.group", "", scenario.groups, "groups")
    return group


def _bought(group: GroupSpec, fleet: Fleet, desired: int, built: Callable[[], Any], name: str, kind: str) -> Policy:
    """A policy whose servers a group buys; `built` makes it anew for each run."""
    return Policy(name, kind, lambda: GroupDriver(group, fleet, desired, built()), group.fleet(fleet, desired))


def _looks(policy: Any, fleet: Fleet) -> Fleet:
    """The fleet, looked at as often as an observed policy does."""
    if not isinstance(policy, Observed) or policy.every_s == fleet.decision_interval_s:
        return fleet
    changes = {"decision_interval_s": policy.every_s}
    if fleet.metric_period_s == fleet.decision_interval_s:
        changes["metric_period_s"] = policy.every_s
    return Fleet(**{**_fields(fleet), **changes})


def _fields(fleet: Fleet) -> dict[str, Any]:
    return {name: getattr(fleet, name) for name in fleet.__dataclass_fields__}


def build_policy(spec: PolicySpec, fleet: Fleet) -> Any:
    """The policy that a spec describes, within the fleet's bounds unless its options say otherwise."""
    from aibalance import autoscaling

    if spec.policy == "Timetable":
        table = Timetable(**spec.options)
        for i, (second, servers) in enumerate(table.points):
            if not fleet.min <= servers <= (fleet.max or 0):
                bounds = f"{fleet.min} to {fleet.max} servers, the fleet's bounds"
                raise check.wrong(f"policies.options.points[{i}]", [second, servers], bounds)
        return table
    if spec.policy in NAMES:
        return _observed(spec, fleet)
    options: dict[str, Any] = {"min_capacity": fleet.min, "max_capacity": fleet.max, **alarms(spec.options)}
    if "clock" in options:
        raise ConfigError("policies.options.clock: not allowed; the simulation has a clock of its own")
    try:
        if spec.policy == "Combined":
            parts = [_part(one, i) for i, one in enumerate(options.pop("policies"))]
            return autoscaling.Combined([build_policy(one, fleet) for one in parts], **options)
        if spec.policy == "TargetTracking":
            return autoscaling.TargetTracking(metric=str(spec.metric), target=float(spec.target or 0), **options)
        if isinstance(options.get("steps"), list | tuple):
            options["steps"] = [
                autoscaling.Step(**one) if isinstance(one, Mapping) else one for one in options["steps"]
            ]
        return autoscaling.StepScaling(metric=str(spec.metric), **options)
    except TypeError as error:
        what = str(error).partition("() ")[2] or str(error)
        raise ConfigError(
            f"policies.options: {dict(spec.options)!r} is not allowed for {spec.policy}: {what}"
        ) from error
    except ConfigError as error:
        message = str(error)
        raise ConfigError(message if message.startswith("policies.") else f"policies.options.{message}") from error


def _observed(spec: PolicySpec, fleet: Fleet) -> Observed:
    try:
        return build(spec.policy, spec.options, fleet.min, fleet.max or 1)
    except TypeError as error:
        what = str(error).partition("() ")[2] or str(error)
        raise ConfigError(
            f"policies.options: {dict(spec.options)!r} is not allowed for {spec.policy}: {what}"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"policies.options.{error}") from error


def _part(given: Any, i: int) -> PolicySpec:
    if isinstance(given, PolicySpec):
        return given
    if not isinstance(given, Mapping):
        raise check.wrong(f"policies.options.policies[{i}]", given, "a table")
    known = ("policy", "name", "metric", "target", "options")  # a part has no group of its own
    for key in given:
        if key not in known:
            where = f"policies.options.policies[{i}].{key}"
            raise ConfigError(f"{where}: unknown key; allowed: {', '.join(known)}{check.hint(key, known)}")
    return PolicySpec(**given)
