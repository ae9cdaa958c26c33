"""What is simulated: traffic, work, fleet, and the candidates to compare."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check

PICKERS = ("RoundRobin", "LeastRequest", "PeakEwma", "RingHash", "Maglev")
"""Names that `[[balancers]]` may use for `picker`."""

POLICIES = ("Fixed", "TargetTracking", "StepScaling", "Combined")
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


class TraceLike(Protocol):
    """What a trace must have: an `aibalance.traces.Trace` does."""

    @property
    def arrival_s(self) -> NDArray[np.float64]: ...
    @property
    def input_tokens(self) -> NDArray[np.int64]: ...
    @property
    def output_tokens(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True, kw_only=True)
class Spike:
    """Traffic that rises to `factor` times itself and falls back.

    It rises from `start_s` for `ramp_s` seconds (default 0) in a straight line, stays for `hold_s`, and falls for
    `ramp_down_s` (default: as long as it rose). Requests that arrive from the begin of the rise to the end of the fall
    are the phase "spike" of a report.

    >>> Spike(factor=100, start_s=600, ramp_s=60, hold_s=240).end_s
    960.0
    """

    factor: float
    start_s: float
    hold_s: float
    ramp_s: float = 0.0
    ramp_down_s: float | None = None

    def __post_init__(self) -> None:
        check.number("traffic.factor", self.factor, 1, 1e6)
        for name in ("start_s", "hold_s", "ramp_s"):
            check.seconds(f"traffic.{name}", getattr(self, name))
        if self.ramp_down_s is None:
            object.__setattr__(self, "ramp_down_s", self.ramp_s)
        check.seconds("traffic.ramp_down_s", self.ramp_down_s)
        if self.end_s <= self.start_s:
            raise check.wrong("traffic.hold_s", self.hold_s, "a spike that lasts longer than 0 seconds")

    @property
    def end_s(self) -> float:
        """When it is over, in seconds."""
        return float(self.start_s + self.ramp_s + self.hold_s + (self.ramp_down_s or 0.0))

    def _values(self) -> tuple[float, float, float, float, float]:
        return self.factor, self.start_s, self.ramp_s, self.hold_s, float(self.ramp_down_s or 0.0)


@dataclass(frozen=True, kw_only=True)
class PoissonTraffic:
    """Poisson arrivals at one rate, in requests a second.

    >>> PoissonTraffic(rate_rps=12.5).describe()
    'Poisson, 12.5 requests/s'
    """

    rate_rps: float

    def __post_init__(self) -> None:
        check.number("traffic.rate_rps", self.rate_rps, 0, 1e9, unit="requests a second", above=True)

    def describe(self) -> str:
        """One line for people."""
        return f"Poisson, {self.rate_rps:g} requests/s"


@dataclass(frozen=True, kw_only=True)
class PiecewiseTraffic:
    """Poisson arrivals whose rate changes: `points` of (second, requests a second), the first at 0.

    With `interpolation="step"` a rate holds until the next point, with "linear" it goes straight there; the last holds to
    the end.

    >>> PiecewiseTraffic(points=[(0, 5), (600, 50)]).describe()
    'Poisson in 2 pieces (step), 5 to 50 requests/s'
    """

    points: Sequence[tuple[float, float]]
    interpolation: str = "step"

    def __post_init__(self) -> None:
        name = "traffic.points"
        if not isinstance(self.points, list | tuple) or not self.points:
            raise check.wrong(name, self.points, "a list of at least one [seconds, requests a second]")
        points = []
        last = -1.0
        for i, point in enumerate(self.points):
            if not isinstance(point, list | tuple) or len(point) != 2:
                raise check.wrong(f"{name}[{i}]", point, "[seconds, requests a second]")
            at = check.seconds(f"{name}[{i}]", point[0])
            if at <= last or (i == 0 and at != 0):
                raise check.wrong(f"{name}[{i}]", at, "times that begin at 0 and rise")
            points.append((at, check.number(f"{name}[{i}]", point[1], 0, 1e9, unit="requests a second")))
            last = at
        if not any(rate for _, rate in points):
            raise check.wrong(name, "rates that are all 0", "at least one rate above 0")
        object.__setattr__(self, "points", tuple(points))
        check.choice("traffic.interpolation", self.interpolation, ("step", "linear"))

    def describe(self) -> str:
        """One line for people."""
        rates = [rate for _, rate in self.points]
        return (
            f"Poisson in {len(rates)} piece{'s' * (len(rates) > 1)} ({self.interpolation}), "
            f"{min(rates):g} to {max(rates):g} requests/s"
        )


@dataclass(frozen=True, kw_only=True)
class SpikeTraffic:
    """Poisson arrivals at `base_rps` requests a second, with a spike on them.

    >>> SpikeTraffic(base_rps=0.5, spike=Spike(factor=100, start_s=600, hold_s=240)).describe()
    'Poisson, 0.5 requests/s, x100 from 600 s to 840 s'
    """

    base_rps: float
    spike: Spike

    def __post_init__(self) -> None:
        check.number("traffic.base_rps", self.base_rps, 0, 1e9, unit="requests a second", above=True)

    def describe(self) -> str:
        """One line for people."""
        return f"Poisson, {self.base_rps:g} requests/s, {_spike_text(self.spike)}"


@dataclass(frozen=True, kw_only=True)
class TraceTraffic:
    """Recorded arrivals.

    `time_scale` stretches time (2 halves the rate). `rate_scale` multiplies the number of requests by laying copies of the
    trace over it, each begun at another place (a fraction of a copy keeps each request with that chance); a `spike` does
    the same within its window. A trace that is shorter than the scenario repeats. So that replications differ, each begins
    the trace at a place of its own, drawn from its seed (`rotate=False` always begins at its first request).
    """

    trace: TraceLike
    time_scale: float = 1.0
    rate_scale: float = 1.0
    spike: Spike | None = None
    rotate: bool = True

    def __post_init__(self) -> None:
        check.number("traffic.time_scale", self.time_scale, 0, 1e6, above=True)
        check.number("traffic.rate_scale", self.rate_scale, 0, 1e6, above=True)
        columns = [np.asarray(getattr(self.trace, name)) for name in ("arrival_s", "input_tokens", "output_tokens")]
        if len({len(column) for column in columns}) != 1:
            raise check.wrong("traffic.trace", "columns of different length", "one entry a request in each")
        if not len(columns[0]):
            raise check.wrong("traffic.trace", "no requests", "at least one request")

    @property
    def span_s(self) -> float:
        """The time until the trace begins again: its last arrival plus its mean gap, stretched by `time_scale`."""
        times = np.asarray(self.trace.arrival_s, dtype=np.float64)
        last = float(times[-1] - times[0])
        gap = last / (len(times) - 1) if len(times) > 1 else 0.0
        return (last + gap) * self.time_scale or 1.0

    def describe(self) -> str:
        """One line for people."""
        n = len(self.trace.arrival_s)
        parts = [f"trace {getattr(self.trace, 'name', 'without a name')}, {n:,} requests in {self.span_s:,.0f} s"]
        if self.time_scale != 1:
            parts.append(f"time x{self.time_scale:g}")
        if self.rate_scale != 1:
            parts.append(f"rate x{self.rate_scale:g}")
        if self.spike is not None:
            parts.append(_spike_text(self.spike))
        if self.rotate:
            parts.append("each replication begins at a place of its own")
        return ", ".join(parts)


def _spike_text(spike: Spike) -> str:
    return f"x{spike.factor:g} from {spike.start_s:g} s to {spike.end_s:g} s"


_LAWS: dict[str, dict[str, str]] = {
    # Each parameter with its kind: s seconds from 0, S seconds above 0, n a number above 0, c a number from 0, * a list.
    "deterministic": {"value_s": "s"},
    "exponential": {"mean_s": "S"},
    "uniform": {"low_s": "s", "high_s": "S"},
    "lognormal": {"mean_s": "S", "sigma": "c?", "cv": "c?"},
    "gamma": {"mean_s": "S", "shape": "n?", "cv": "n?"},
    "erlang": {"mean_s": "S", "stages": "k"},
    "hyperexponential": {"p": "*", "means_s": "*"},
    "bounded_pareto": {"alpha": "n", "low_s": "S", "high_s": "S"},
    "empirical": {"values_s": "*"},
}


@dataclass(frozen=True, init=False)
class Service:
    """How long a request takes on a server of speed 1, as a distribution.

    | kind | parameters |
    |---|---|
    | deterministic | value_s |
    | exponential | mean_s |
    | uniform | low_s, high_s |
    | lognormal | mean_s and either sigma (standard deviation of the logarithm) or cv (standard deviation / mean) |
    | gamma | mean_s and either shape or cv |
    | erlang | mean_s, stages |
    | hyperexponential | p (chances), means_s |
    | bounded_pareto | alpha, low_s, high_s |
    | empirical | values_s, each with equal chance |

    >>> Service("lognormal", mean_s=18, cv=0.4).describe()
    'lognormal (mean_s 18, cv 0.4)'
    """

    kind: str
    parameters: tuple[tuple[str, Any], ...]

    def __init__(self, kind: str, /, **parameters: Any) -> None:
        check.choice("service.kind", kind, _LAWS)
        law = _LAWS[kind]
        for name in parameters:
            if name not in law:
                raise ConfigError(
                    f"service.{name}: unknown key; allowed for {kind}: {', '.join(law)}{check.hint(name, law)}"
                )
        found: dict[str, Any] = {}
        for name, rule in law.items():
            if name in parameters and parameters[name] is not None:
                found[name] = _parameter(f"service.{name}", parameters[name], rule)
            elif not rule.endswith("?"):
                raise ConfigError(f"service.{name}: missing; {kind} needs {', '.join(_needs(law))}")
        either = [name for name, rule in law.items() if rule.endswith("?")]
        if either and len([name for name in either if name in found]) != 1:
            raise ConfigError(f"service: {kind} needs exactly one of {' and '.join(either)}")
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "parameters", tuple(found.items()))
        self._core()

    def __repr__(self) -> str:
        return f"Service({self.kind!r}{''.join(f', {name}={value!r}' for name, value in self.parameters)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _service, (self.kind, dict(self.parameters))

    def describe(self) -> str:
        """One line for people."""
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float | int) else f"{name} of {len(value)}"
            for name, value in self.parameters
        )
        return f"{self.kind} ({shown})"

    def _core(self) -> dict[str, Any]:
        of = dict(self.parameters)
        kind, a, b = self.kind, [], list[float]()
        if kind == "hyperexponential":
            a, b = list(of["p"]), list(of["means_s"])
            if len(a) != len(b) or not math.isclose(sum(a), 1, abs_tol=1e-9):
                raise check.wrong("service.p", a, "as many chances as means_s, that add up to 1")
        elif kind == "empirical":
            a = list(of["values_s"])
        elif kind == "lognormal":
            kind, a = (
                ("lognormal", [of["mean_s"], of["sigma"]])
                if "sigma" in of
                else ("lognormal_cv", [of["mean_s"], of["cv"]])
            )
        elif kind == "erlang":
            kind, a = "gamma", [float(of["stages"]), of["mean_s"]]
        elif kind == "gamma":
            a = [of.get("shape") or 1 / of["cv"] ** 2, of["mean_s"]]
        else:
            a = [float(value) for _, value in self.parameters]
        if "low_s" in of and of["high_s"] < of["low_s"]:
            raise check.wrong("service.high_s", of["high_s"], f"at least low_s, {of['low_s']:g}")
        return {"kind": kind, "a": a, "b": b}


def _service(kind: str, parameters: dict[str, Any]) -> Service:
    return Service(kind, **parameters)


def _needs(law: Mapping[str, str]) -> list[str]:
    return [name for name, rule in law.items() if not rule.endswith("?")]


def _parameter(name: str, value: Any, rule: str) -> Any:
    match rule[0]:
        case "s" | "S":
            return check.seconds(name, value, above=rule[0] == "S")
        case "n":
            return check.number(name, value, 0, 1e6, above=True)
        case "c":
            return check.number(name, value, 0, 10 if name.endswith("sigma") else 1e6)
        case "k":
            return check.whole(name, value, 1, 1_000_000)
    if not isinstance(value, list | tuple) or not value:
        raise check.wrong(name, value, "a list of at least one number")
    high = 1.0 if name.endswith(".p") else 1e9
    return tuple(
        check.number(f"{name}[{i}]", one, 0, high, above=name.endswith("means_s")) for i, one in enumerate(value)
    )


@dataclass(frozen=True, kw_only=True)
class TokenService:
    """How long a request of a trace takes on a server of speed 1, from its tokens, by a linear model:

        base_s + prefill_s_per_token * input_tokens + decode_s_per_token * output_tokens

    times log-normal noise of mean 1 and coefficient of variation `noise_cv`. The defaults are those of Llama-2-70B on two
    A100 at batch 1 in the profile of the Splitwise simulator (Patel et al., ISCA 2024): 0.38 ms a prompt token (fitted),
    55.9 ms a written token (median). They are one model's numbers; measure your own.

    >>> TokenService(base_s=0.05).describe()
    '0.05 s + 0.38 ms x input tokens + 55.9 ms x output tokens, noise of cv 0.1'
    """

    base_s: float = 0.0
    prefill_s_per_token: float = 0.00038
    decode_s_per_token: float = 0.0559
    noise_cv: float = 0.1

    def __post_init__(self) -> None:
        for name in ("base_s", "prefill_s_per_token", "decode_s_per_token"):
            check.seconds(f"service.{name}", getattr(self, name))
        check.number("service.noise_cv", self.noise_cv, 0, 100)
        if self.base_s + self.prefill_s_per_token + self.decode_s_per_token <= 0:
            raise check.wrong("service.base_s", self.base_s, "at least one of the three times above 0")

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.base_s:g} s + {self.prefill_s_per_token * 1e3:g} ms x input tokens + "
            f"{self.decode_s_per_token * 1e3:g} ms x output tokens, noise of cv {self.noise_cv:g}"
        )

    def work_s(self, trace: TraceLike) -> NDArray[np.float64]:
        """The work of each request of a trace in seconds, without noise."""
        read = np.asarray(trace.input_tokens, dtype=np.float64) * self.prefill_s_per_token
        wrote = np.asarray(trace.output_tokens, dtype=np.float64) * self.decode_s_per_token
        return self.base_s + read + wrote

    def _core(self) -> dict[str, Any]:
        return {"kind": "given", "a": [float(self.noise_cv)], "b": []}


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

    Scale-in takes warming servers first, the newest first, then the ready server with the fewest requests; a ready server
    takes no new work, finishes what it has, and is paid for until then.
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

    def __post_init__(self) -> None:
        fixed = object.__setattr__
        if not isinstance(self.types, list | tuple) or not self.types:
            raise check.wrong("fleet.types", self.types, "at least one [[fleet.types]]")
        fixed(self, "types", tuple(self.types))
        names = [one.name for one in self.types]
        for name in names:
            if names.count(name) > 1:
                raise check.wrong("fleet.types.name", name, "names that differ")
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
        if self.launch == "share" and not sum(one.share for one in self.types):
            raise check.wrong("fleet.types.share", 0, "at least one share above 0")
        room = sum(1_000_000 if one.max is None else one.max for one in self.types)
        if room < (self.max or 0):
            raise check.wrong("fleet.max", self.max, f"at most the sum of the types' max, {room}")

    def describe(self) -> str:
        """One line for people."""
        kinds = ", ".join(
            f"{one.name} (speed {one.speed:g}, {one.concurrency or self.concurrency} at once, ${one.price_per_hour:g}/h)"
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
    """Keys of requests, for balancers that hash: `distinct` keys with Zipf exponent `zipf` (0, the default, is uniform)."""

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
    picker : the class, one of `PICKERS`.
    name : as reports show it (default: the class).
    options : keyword arguments of the class.
    weights : "type" shows the balancer each server type's weight, "equal" shows 1 for all.
    cost : "one" gives every request the cost 1, "work" its work in seconds (a balancer that knows lengths in advance).
    """

    picker: str
    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "type"
    cost: str = "one"

    def __post_init__(self) -> None:
        check.choice("balancers.picker", self.picker, PICKERS)
        object.__setattr__(self, "name", check.text("balancers.name", self.name or self.picker))
        object.__setattr__(self, "options", _table("balancers.options", self.options))
        check.choice("balancers.weights", self.weights, ("type", "equal"))
        check.choice("balancers.cost", self.cost, ("one", "work"))


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """A scaling policy to compare.

    Parameters
    ----------
    policy : one of `POLICIES`; "Fixed" keeps the number of servers at `options["servers"]` (default: the fleet's initial).
    name : as reports show it (default: the class).
    metric : what it reads, one of `METRICS`; needed by TargetTracking and StepScaling.
    target : the value that TargetTracking keeps.
    options : further keyword arguments of the class; for Combined, `policies` is a list of such tables.
    """

    policy: str
    name: str = ""
    metric: str | None = None
    target: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

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
        if self.policy in ("Fixed", "Combined") and self.metric is not None:
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


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise check.wrong(name, value, "a table")
    return dict(value)


Traffic = PoissonTraffic | PiecewiseTraffic | SpikeTraffic | TraceTraffic


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything a simulation depends on, and the candidates to compare on it.

    Parameters
    ----------
    name : as reports show it.
    traffic : PoissonTraffic, PiecewiseTraffic, SpikeTraffic or TraceTraffic.
    service : Service or, for a trace, TokenService.
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

    Raises ConfigError naming the field, the value and what is allowed.

    >>> scenario = Scenario(name="small", traffic=PoissonTraffic(rate_rps=8), service=Service("exponential", mean_s=1),
    ...                     fleet=Fleet(types=[ServerType(name="a")], min=10), duration_s=600, slo_s=3)
    >>> scenario.replace(slo_s=5).slo_s
    5
    """

    name: str
    traffic: Traffic
    service: Service | TokenService
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
        for name, kinds in (("traffic", Traffic), ("service", Service | TokenService), ("fleet", Fleet)):
            if not isinstance(getattr(self, name), kinds):
                raise check.wrong(name, getattr(self, name), str(kinds))
        if isinstance(self.service, TokenService) and not isinstance(self.traffic, TraceTraffic):
            raise check.wrong(
                "service.kind", "tokens", "another kind, or traffic of kind trace: only a trace has tokens"
            )
        if self.spike is not None and self.spike.start_s >= self.duration_s:
            raise check.wrong("traffic.start_s", self.spike.start_s, f"less than duration_s, {self.duration_s:g}")
        for name in ("balancers", "policies"):
            found = tuple(getattr(self, name))
            names = [one.name for one in found]
            for one in names:
                if names.count(one) > 1:
                    raise check.wrong(f"{name}.name", one, "names that differ")
            object.__setattr__(self, name, found)

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

        The work of a request follows from its tokens by `tokens`. The duration becomes one pass of the trace, unless given.
        With `keep_spike`, the spike of the traffic is laid over the trace.
        """
        spike = self.spike if keep_spike else None
        traffic = TraceTraffic(trace=trace, time_scale=time_scale, rate_scale=rate_scale, spike=spike)
        own = self.service if isinstance(self.service, TokenService) else None
        return self.replace(
            traffic=traffic,
            service=self.tokens or own or TokenService(),
            duration_s=traffic.span_s if duration_s is None else duration_s,
            discard_s=0.0,
        )

    def _core(self, *, equal_weights: bool, cost_is_work: bool) -> dict[str, Any]:
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
            case PiecewiseTraffic():
                out.update(kind="piecewise", points=list(traffic.points), linear=traffic.interpolation == "linear")
            case SpikeTraffic():
                out.update(kind="spike", points=[(0.0, float(traffic.base_rps))])
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
        }

    def _columns(self) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Arrivals and work of a trace, in seconds."""
        traffic = self.traffic
        if not isinstance(traffic, TraceTraffic):
            return None, None
        arrival = np.ascontiguousarray(traffic.trace.arrival_s, dtype=np.float64) * traffic.time_scale
        if isinstance(self.service, TokenService):
            return arrival, self.service.work_s(traffic.trace)
        return arrival, np.zeros(len(arrival))


def names_of(specs: Iterable[BalancerSpec | PolicySpec]) -> list[str]:
    """Their names."""
    return [one.name for one in specs]
