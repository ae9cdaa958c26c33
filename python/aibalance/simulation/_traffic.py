"""Traffic and the work that it brings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check
from ._arrival_laws import DiurnalTraffic, MmppTraffic, RenewalTraffic


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

    With `interpolation="step"` a rate holds until the next point, with "linear" it goes straight there; the last holds
    to the end.

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


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceTraffic:
    """Recorded arrivals.

    `time_scale` stretches time (2 halves the rate). `rate_scale` multiplies the number of requests by laying copies of
    the trace over it, each begun at another place (a fraction of a copy keeps each request with that chance); a
    `spike` does the same within its window. A trace that is shorter than the scenario repeats. So that replications
    differ, each begins the trace at a place of its own, drawn from its seed (`rotate=False` always begins at its first
    request).
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


Traffic = (
    PoissonTraffic | PiecewiseTraffic | SpikeTraffic | TraceTraffic | RenewalTraffic | MmppTraffic | DiurnalTraffic
)


def _spike_text(spike: Spike) -> str:
    return f"x{spike.factor:g} from {spike.start_s:g} s to {spike.end_s:g} s"


LAWS: dict[str, dict[str, str]] = {
    # Each parameter with its kind: s seconds from 0, S seconds above 0, n a number above 0, c a number from 0, * a
    # list.
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
        check.choice("service.kind", kind, LAWS)
        law = LAWS[kind]
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

    times log-normal noise of mean 1 and coefficient of variation `noise_cv`. The defaults are those of Llama-2-70B on
    two A100 at batch 1 in the profile of the Splitwise simulator (Patel et al., ISCA 2024): 0.38 ms a prompt token
    (fitted), 55.9 ms a written token (median). They are one model's numbers; measure your own.

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
