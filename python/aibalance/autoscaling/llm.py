"""Scaling of model servers by goals for the first token (TTFT) and for those after it (ITL): prefill and decode apart.

Each pool, of servers that prefill, that decode, or that do both, has a policy of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .._core import CloudEngine
from .._errors import ConfigError, MetricError
from ._aims import Aim
from ._engines import EngineLatency, ServingEstimate
from ._signals import _positive, _value, least_zero
from ._told import counts, told
from .policy import Clock, Policy
from .proportional import ProportionalScaling

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["EngineLatency", "LoadPlanner", "ServingEstimate", "StateDependentScaling", "ThroughputPlanner"]


_NAMES = {"max_capacity": "max_replicas", "min_capacity": "min_replicas"}


@dataclass(frozen=True)
class _Need:
    """What an observation asks for; `servers` is None when it does not say."""

    servers: float | None
    said: str
    stages: Mapping[str, Any]


class _Needs:
    """Policies that divide the demand by what one server takes."""

    max_replicas: int
    min_replicas: int
    clock: Clock | None
    stabilization: float
    _kind: str
    _inner: ProportionalScaling

    def _start(self) -> None:
        inner = ProportionalScaling(
            metric="need",
            metric_type="total",
            target=1,
            max_capacity=self.max_replicas,
            min_capacity=self.min_replicas,
            stabilization=self.stabilization,
            clock=self.clock,
        )
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_memory", _Memory())

    def _needed(self, metrics: Mapping[str, Any], asked: int, memory: _Memory) -> _Need:
        raise NotImplementedError

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed at `now` (seconds; None asks the clock)."""
        at = _instant(self._inner._now() if now is None else now)
        CloudEngine.asked(observation)  # refuses what is no observation
        current, asked, metrics = counts(observation)
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        need = self._needed(metrics, current, memory)
        servers = need.servers
        # More than any bound is as many as the bound; the inner policy wants a finite number.
        inner = self._inner.recommend(
            {
                "current": current,
                "desired": asked,
                "metrics": {"need": None if servers is None else min(servers, float(self.max_replicas) + 1.0)},
            },
            now=at,
        )
        stages = {n: v for n, v in inner.trace if n not in ("current", "asked", "metric", "limited_by", "desired")}
        limit = _NAMES.get(inner.limited_by or "", inner.limited_by)
        moved = f"{asked} to {inner.desired}" if inner.desired != asked else f"stays at {asked}"
        memory.serial += 1
        answer = told(
            current=current,
            asked=asked,
            desired=inner.desired,
            limited_by=limit if servers is not None or inner.desired != asked else "missing_metrics",
            reason=f"{need.said}: {moved}" + (f", {limit.replace('_', ' ')}" if limit else ""),
            trace={**need.stages, **({} if servers is None else {"need": servers}), **stages},
            serial=memory.serial,
            now=at,
            missing=servers is None,
        )
        memory.last = (answer, inner)
        return answer

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Refused: metrics come with the observation. Raises MetricError."""
        raise MetricError(f"name: {name!r} is not allowed; metrics come with the observation")

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that this recommendation was carried out, if it is the last one."""
        last = self._memory.last  # type: ignore[attr-defined]
        if last is not None and last[0] == recommendation:
            self._inner.rejected(last[1])

    def state(self) -> dict[str, Any]:
        """The memory as a plain dictionary that JSON can carry."""
        serial: int = self._memory.serial  # type: ignore[attr-defined]
        return {"version": 1, "kind": self._kind, "serial": serial, "policy": self._inner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        memory = _Memory()
        memory.serial = _serial(state, self._kind, {"policy"})
        self._inner.restore(state["policy"])
        object.__setattr__(self, "_memory", memory)


class _Memory:
    def __init__(self) -> None:
        self.serial = 0
        self.last: tuple[Any, Any] | None = None
        self.changed_at: float | None = None
        self.before: float | None = None


def _instant(now: Any) -> float:
    if not isinstance(now, (int, float)) or isinstance(now, bool) or not math.isfinite(now):
        raise MetricError(f"now: {now!r} is not allowed; finite seconds")
    return float(now)


def _serial(state: Any, kind: str, more: set[str]) -> int:
    if not isinstance(state, dict) or set(state) != {"version", "kind", "serial"} | more:
        raise ConfigError(f"state: {type(state).__name__} is not allowed; a dictionary, as state() gives")
    if (state["version"], state["kind"]) != (1, kind):
        raise ConfigError(f"state.kind: {state['kind']!r}, version {state['version']!r}: expected {kind}, 1")
    serial = state["serial"]
    if not isinstance(serial, int) or isinstance(serial, bool) or not 0 <= serial < 2**63:
        raise ConfigError(f"state.serial: {serial!r} is not allowed; a whole number of 0 or more")
    return serial


def _tokens(metrics: Mapping[str, Any], name: str, default: float) -> float:
    value = _value(metrics, name)
    return default if value is None else value


def _check(policy: Any) -> None:
    if not isinstance(policy.engine, EngineLatency):
        raise ConfigError(f"engine: {policy.engine!r} is not allowed; an EngineLatency")
    least_zero("input_tokens", policy.input_tokens)
    _positive("output_tokens", policy.output_tokens)
    if policy.output_tokens < 1:
        raise ConfigError(f"output_tokens: {policy.output_tokens!r} is not allowed; 1 or more")


@dataclass(frozen=True, kw_only=True)
class StateDependentScaling(_Needs):
    """As many servers as serve the demand within the goals, by a queueing model of one: demand over its highest rate.

    `engine`: the EngineLatency of one server. `max_replicas`, `min_replicas` (1): bounds.
    `ttft` (0.5), `itl` (0.05): goals in seconds, None for none; at least one. Servers that only prefill have `itl=None`
    and `output_tokens` 1; servers that only decode `ttft=None` and `input_tokens` 0.
    `input_tokens` (1024.0), `output_tokens` (256.0): of a request, where an observation has no metric `input_tokens` or
    `output_tokens`. `metric` ("requests_per_s"): the demand, of all servers together.
    `stabilization` (0.0): seconds for which a scale-in goes no lower than the highest need. `clock` (None).

    Each decision is `ceil(demand / rate)`, rate being `engine.max_rate(...)` at the sizes observed. When one server
    alone cannot meet the goals at any rate, no number can: the rate just below saturation is taken and the reason says
    so. Without the metric it does nothing. Raises ConfigError, and MetricError for an observation.

    Source: llm-d's Workload Variant Autoscaler (queue analyser; the SLO-driven rule), for one variant.

    >>> from aibalance.autoscaling import EngineLatency, StateDependentScaling
    >>> engine = EngineLatency(prefill_base=0.02, prefill_per_token=2e-5, decode_base=0.01, decode_per_request=2e-4)
    >>> policy = StateDependentScaling(engine=engine, ttft=0.5, itl=0.02, max_replicas=50)
    >>> r = policy.recommend({"current": 2, "metrics": {"requests_per_s": 60.0}}, now=0.0)
    >>> r.desired, round(r.details["rate_of_one"], 1)
    (12, 5.3)
    """

    _kind = "state_dependent_scaling"
    engine: EngineLatency
    max_replicas: int
    min_replicas: int = 1
    ttft: float | None = 0.5
    itl: float | None = 0.05
    input_tokens: float = 1024.0
    output_tokens: float = 256.0
    metric: str = "requests_per_s"
    stabilization: float = 0.0
    clock: Clock | None = None
    _inner: ProportionalScaling = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        for name in ("ttft", "itl"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if self.ttft is None and self.itl is None:
            raise ConfigError("ttft: None is not allowed beside itl=None; at least one goal")
        self._start()

    def _rate(self, inputs: float, outputs: float) -> tuple[float, bool]:
        sizes = {"input_tokens": inputs, "output_tokens": max(outputs, 1.0)}
        rate = self.engine.max_rate(**sizes, ttft=self.ttft, itl=self.itl)
        return (rate, True) if rate > 0 else (self.engine.max_rate(**sizes), False)

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self._rate(self.input_tokens, self.output_tokens)[0], "total")]

    def _needed(self, metrics: Mapping[str, Any], asked: int, memory: _Memory) -> _Need:
        demand = _value(metrics, self.metric)
        inputs = _tokens(metrics, "input_tokens", self.input_tokens)
        outputs = _tokens(metrics, "output_tokens", self.output_tokens)
        rate, met = self._rate(inputs, outputs)
        stages = {"input_tokens": inputs, "output_tokens": outputs, "rate_of_one": rate, "goals_can_be_met": met}
        if demand is None:
            return _Need(None, f"{self.metric} is missing", stages)
        said = f"{demand:.4g} requests a second, of which one server takes {rate:.4g} within its goals"
        if not met:
            said = f"{demand:.4g} requests a second, of which one server takes {rate:.4g}; no number meets the goals"
        return _Need(0.0 if demand == 0 else demand / rate, said, stages)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), _fields(self))


@dataclass(frozen=True, kw_only=True)
class ThroughputPlanner(_Needs):
    """As many servers of one kind as the demand takes: prefill by tokens a second, decode by the batch that ITL allows.

    `role`: "prefill" or "decode", what the servers do. `engine`: the EngineLatency of one.
    `max_replicas`, `min_replicas` (1): bounds. `ttft` (0.5), `itl` (0.05): the goals in seconds.
    `input_tokens` (1024.0), `output_tokens` (256.0): of a request, where an observation has no metric of these names.
    `metric` ("requests_per_s"): the demand that is expected, of all servers together; a forecast may be given.
    `correction` (True): the metrics `ttft` or `itl`, what was observed, say by how much the model errs; without them it
    does not.
    `stabilization` (0.0): see StateDependentScaling. `clock` (None).

    Prefill: demand * input_tokens * min(1, observed TTFT / expected), over the tokens a second of one server that does
    one prefill after the other. Decode: demand * output_tokens over batch / ITL(batch), for the largest batch whose ITL
    is within `itl` / (observed ITL / expected at the batch that there is). A goal that not even one request alone
    meets is given up, and the reason says so. Ask every 180 s, as Dynamo does.

    Raises ConfigError, and MetricError for an observation. Source: NVIDIA Dynamo's planner, throughput mode
    with correction factors; its predictors are `aibalance.autoscaling.forecasting`'s business.

    >>> from aibalance.autoscaling import EngineLatency, ThroughputPlanner
    >>> engine = EngineLatency(prefill_base=0.02, prefill_per_token=2e-5, decode_base=0.01, decode_per_request=5e-4)
    >>> load = {"current": 4, "metrics": {"requests_per_s": 100.0, "input_tokens": 4000.0, "output_tokens": 200.0}}
    >>> for role in ("prefill", "decode"):
    ...     policy = ThroughputPlanner(role=role, engine=engine, max_replicas=50)
    ...     print(policy.recommend(load, now=0.0).desired)
    10
    13
    """

    _kind = "throughput_planner"
    role: Literal["prefill", "decode"]
    engine: EngineLatency
    max_replicas: int
    min_replicas: int = 1
    ttft: float = 0.5
    itl: float = 0.05
    input_tokens: float = 1024.0
    output_tokens: float = 256.0
    metric: str = "requests_per_s"
    correction: bool = True
    stabilization: float = 0.0
    clock: Clock | None = None
    _inner: ProportionalScaling = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        if self.role not in ("prefill", "decode"):
            raise ConfigError(f"role: {self.role!r} is not allowed; 'prefill' or 'decode'")
        if not isinstance(self.correction, bool):
            raise ConfigError(f"correction: {self.correction!r} is not allowed; True or False")
        _positive("ttft", self.ttft)
        _positive("itl", self.itl)
        if self.role == "prefill" and self.engine.prefill(max(self.input_tokens, 1.0)) <= 0:
            raise ConfigError("engine: a prefill that takes no time needs no servers")
        self._start()

    def _aims(self) -> list[Aim]:
        if self.role == "prefill":
            return [Aim(self.metric, 1 / self.engine.prefill(max(self.input_tokens, 1.0)), "total")]
        batch = max(self.engine.batch_within(self.itl), 1)
        return [Aim(self.metric, batch / self.engine.token(batch) / self.output_tokens, "total")]

    def _needed(self, metrics: Mapping[str, Any], asked: int, memory: _Memory) -> _Need:
        demand = _value(metrics, self.metric)
        inputs = max(_tokens(metrics, "input_tokens", self.input_tokens), 1.0)
        outputs = max(_tokens(metrics, "output_tokens", self.output_tokens), 1.0)
        stages: dict[str, Any] = {"role": self.role, "input_tokens": inputs, "output_tokens": outputs}
        if self.role == "prefill":
            expected = self.engine.prefill(inputs)
            seen = _value(metrics, "ttft") if self.correction else None
            factor = 1.0 if seen is None else min(seen / expected, 1.0)
            met = expected <= self.ttft
            rate = inputs / expected
            stages |= {"expected_ttft": expected, "correction": factor, "tokens_per_s_of_one": rate}
            tokens, goal = inputs, f"a first token within {self.ttft:g} s"
        else:
            factor = 1.0
            seen = _value(metrics, "itl") if self.correction else None
            if seen and demand:
                # What the model makes of the load that there is, by Little's law, on the servers that there are.
                servers = max(asked, 1)
                expected = self._itl_at(demand * outputs / servers)
                factor = seen / expected
            batch = self.engine.batch_within(self.itl / factor)
            met = batch > 0
            batch = max(batch, 1)
            rate = batch / self.engine.token(batch)
            stages |= {"correction": factor, "batch": batch, "tokens_per_s_of_one": rate}
            tokens, goal = outputs, f"tokens within {self.itl:g} s of each other"
        stages["goals_can_be_met"] = met
        if demand is None:
            return _Need(None, f"{self.metric} is missing", stages)
        load = demand * tokens * (factor if self.role == "prefill" else 1.0)
        said = f"{load:.4g} tokens a second to {self.role}, of which one server takes {rate:.4g}"
        return _Need(load / rate, said if met else f"{said}; no number gives {goal}", stages)

    def _itl_at(self, tokens_per_s: float) -> float:
        # batch / token(batch) = rate, solved for the batch.
        engine = self.engine
        left = 1 - tokens_per_s * engine.decode_per_request
        batch = tokens_per_s * engine.decode_base / left if left > 0 else float(engine.max_batch)
        return engine.token(min(max(batch, 1.0), float(engine.max_batch)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), _fields(self))


_LEVELS: dict[tuple[str, str], tuple[float, float]] = {
    ("prefill", "throughput"): (1.0, 0.1),
    ("prefill", "latency"): (0.1, 0.0),
    ("decode", "throughput"): (1.0, 0.6),
    ("decode", "latency"): (0.4, 0.1),
}


@dataclass(frozen=True, kw_only=True)
class LoadPlanner:
    """One server more or less by how loaded those are that there are, every few seconds.

    `role`: "prefill" or "decode". `max_replicas` (8), `min_replicas` (1): bounds.
    `target` ("throughput"): "throughput" and "latency" go by `prefill_queue` (tokens that wait, over the context
    length) or `kv_usage` (used share of the KV cache, with what is queued, which may be above 1); "sla" goes by `ttft`
    or `itl`, the estimate or measurement in seconds, and `goal`.
    `goal` (None): for "sla", in seconds; None is 0.5 (prefill) or 0.05 (decode).
    `up`, `down` (None): levels; None are Dynamo's: prefill 1.0 and 0.1, for latency 0.1 and 0; decode 1.0 and 0.6, for
    latency 0.4 and 0.1; sla the goal, and the goal times `sensitivity`.
    `sensitivity` (0.8): what fewer servers would be loaded to must stay below `up` times this, above 0, up to 1.
    `metric` (None): another name for the metric, a mean over the servers. With `<metric>_least` and `<metric>_most` in
    the observation all servers must be over `up`, or all below `down`, as Dynamo asks; without them the mean must.
    `interval` (5.0): seconds after a change without another.
    `floor` (None): a policy below which it does not go, such as a ThroughputPlanner, asked with the same observation.
    `clock` (None).

    One more at `up` and above (decode and sla: above it), one less below `down` if the rest could take it: load * n /
    (n - 1) below `sensitivity * up`; servers without any load may always lose one. Raises ConfigError, and
    MetricError for an observation.

    Source: NVIDIA Dynamo's planner, load mode.

    >>> from aibalance.autoscaling import LoadPlanner
    >>> policy = LoadPlanner(role="decode")
    >>> for at, usage in ((0.0, 1.2), (2.0, 1.2), (10.0, 0.5), (20.0, 0.7)):
    ...     r = policy.recommend({"current": 3, "metrics": {"kv_usage": usage}}, now=at)
    ...     print(r.desired, r.limited_by)
    4 None
    3 cooldown
    2 None
    3 None
    """

    role: Literal["prefill", "decode"]
    max_replicas: int = 8
    min_replicas: int = 1
    target: Literal["throughput", "latency", "sla"] = "throughput"
    goal: float | None = None
    up: float | None = None
    down: float | None = None
    sensitivity: float = 0.8
    metric: str | None = None
    interval: float = 5.0
    floor: Policy | None = None
    clock: Clock | None = None
    _inner: ProportionalScaling = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.role not in ("prefill", "decode"):
            raise ConfigError(f"role: {self.role!r} is not allowed; 'prefill' or 'decode'")
        if self.target not in ("throughput", "latency", "sla"):
            raise ConfigError(f"target: {self.target!r} is not allowed; 'throughput', 'latency' or 'sla'")
        _positive("sensitivity", self.sensitivity, 1.0)
        least_zero("interval", self.interval)
        if self.goal is not None:
            _positive("goal", self.goal)
            if self.target != "sla":
                raise ConfigError(f"goal: {self.goal!r} is not allowed; None unless target is 'sla'")
        name: Any = self.metric
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigError(f"metric: {self.metric!r} is not allowed; a name, or None")
        floor: Any = self.floor
        if floor is not None and (isinstance(floor, type) or not isinstance(floor, Policy)):
            raise ConfigError(f"floor: {floor!r} is not allowed; a policy, or None")
        if self.up is not None:
            _positive("up", self.up)
        if self.down is not None:
            least_zero("down", self.down)
        up, down = self._levels
        if down >= up:
            raise ConfigError(f"down: {down:g} is not allowed; below up, {up:g}")
        # For the bounds, their errors, and the clock.
        inner = ProportionalScaling(
            metric="need", target=1, max_capacity=self.max_replicas, min_capacity=self.min_replicas, clock=self.clock
        )
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_memory", _Memory())

    @property
    def _levels(self) -> tuple[float, float]:
        if self.target == "sla":
            usual = 0.5 if self.role == "prefill" else 0.05
            goal = usual if self.goal is None else self.goal
            found = (goal, goal * self.sensitivity)
        else:
            found = _LEVELS[self.role, self.target]
        return (found[0] if self.up is None else self.up, found[1] if self.down is None else self.down)

    @property
    def _name(self) -> str:
        if self.metric is not None:
            return self.metric
        if self.target == "sla":
            return "ttft" if self.role == "prefill" else "itl"
        return "prefill_queue" if self.role == "prefill" else "kv_usage"

    def _aims(self) -> list[Aim]:
        return [Aim(self._name, self._levels[0], steps=True)]

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed at `now` (seconds; None asks the clock)."""
        at = _instant(self._inner._now() if now is None else now)
        CloudEngine.asked(observation)
        current, asked, metrics = counts(observation)
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        up, down = self._levels
        value = _value(metrics, self._name)
        least, most = _value(metrics, f"{self._name}_least"), _value(metrics, f"{self._name}_most")
        least, most = value if least is None else least, value if most is None else most
        rest = None if most is None else most * asked / (asked - 1) if asked > 1 else math.inf
        wanted, limit = asked, None
        if least is None or most is None:
            said, limit = f"{self._name} is missing", "missing_metrics"
        elif asked == 0:
            wanted = 1 if most > 0 else 0
            said = f"{self._name} {most:.4g} with nobody there"
        elif least >= up if self.role == "prefill" and self.target != "sla" else least > up:
            wanted, said = asked + 1, f"{self._name} {least:.4g} is over {up:g}"
        elif (most < down or most == 0) and asked > 1:
            if rest is not None and rest < self.sensitivity * up:
                wanted, said = asked - 1, f"{self._name} {most:.4g} is below {down:g}, the rest would be at {rest:.4g}"
            else:
                said = f"{self._name} {most:.4g} is below {down:g}, but the rest would be at {rest:.4g}"
                limit = "consolidation"
        else:
            said = f"{self._name} {most:.4g} is between {down:g} and {up:g}"
        if wanted != asked and memory.changed_at is not None and at < memory.changed_at + self.interval:
            wanted, limit = asked, "cooldown"
        below = None if self.floor is None else self.floor.recommend(observation, now=at)
        if below is not None and below.desired > wanted:
            said, wanted, limit = f"{said}, but {below.reason.partition(':')[0]}", below.desired, "floor"
        desired = min(max(wanted, self.min_replicas), self.max_replicas)
        if desired != wanted:
            limit = "max_replicas" if desired < wanted else "min_replicas"
        memory.serial += 1
        before = memory.changed_at
        if desired != asked:
            memory.changed_at = at
        answer = told(
            current=current,
            asked=asked,
            desired=desired,
            limited_by=limit,
            reason=f"{said}: " + (f"{asked} to {desired}" if desired != asked else f"stays at {asked}"),
            trace={
                "role": self.role,
                "target": self.target,
                "least": least,
                "most": most,
                "up": up,
                "down": down,
                "rest": None if rest is None or math.isinf(rest) else rest,
                **({} if below is None else {"floor": below.desired}),
                "wanted": wanted,
            },
            serial=memory.serial,
            now=at,
            missing=least is None or most is None,
        )
        memory.last, memory.before = (answer, below), before
        return answer

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Refused: metrics come with the observation. Raises MetricError."""
        raise MetricError(f"name: {name!r} is not allowed; metrics come with the observation")

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that this recommendation was carried out, if it is the last one."""
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        if memory.last is not None and memory.last[0] == recommendation:
            if self.floor is not None:
                self.floor.rejected(memory.last[1])
            memory.changed_at, memory.last = memory.before, None

    def state(self) -> dict[str, Any]:
        """The memory as a plain dictionary that JSON can carry; instants are seconds of the policy's clock."""
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        floor = None if self.floor is None else self.floor.state()
        mine = {"serial": memory.serial, "changed_at": memory.changed_at, "floor": floor}
        return {"version": 1, "kind": "load_planner", **mine}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        memory = _Memory()
        memory.serial = _serial(state, "load_planner", {"changed_at", "floor"})
        at = state["changed_at"]
        if at is not None and (not isinstance(at, (int, float)) or isinstance(at, bool) or not math.isfinite(at)):
            raise ConfigError(f"state.changed_at: {at!r} is not allowed; finite seconds, or None")
        memory.changed_at = at
        if (self.floor is None) != (state["floor"] is None):
            raise ConfigError("state.floor: is not allowed; a state where the policy has a floor, and only there")
        if self.floor is not None:
            self.floor.restore(state["floor"])
        object.__setattr__(self, "_memory", memory)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), _fields(self))


def _fields(policy: Any) -> dict[str, Any]:
    # The configuration travels; the memory travels through state() and restore().
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__ if name != "_inner"}


def _made(cls: Any, fields: dict[str, Any]) -> Any:
    return cls(**fields)
