"""The fluid loop, and what can be said about a loop without running it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from . import _checks as check

__all__ = [
    "DeadTime",
    "FluidReport",
    "Headroom",
    "LoopStability",
    "dead_time_backlog",
    "growth_headroom",
    "loop_stability",
    "simulate_fluid",
]


@dataclass(frozen=True, repr=False)
class FluidReport:
    """What a fluid run measured; arrays have one entry a tick.

    >>> from aibalance.simulation import simulate_fluid
    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="utilization", target=0.5, max_capacity=20)
    >>> simulate_fluid([10.0] * 3, policy, tick=10, capacity=10, initial=2)
    <FluidReport: 3 ticks, 0.02 server hours, 0.0 under-provisioned minutes, peak 2>
    """

    tick: float
    """Seconds a tick."""
    capacity: float
    """Work a second that a ready server does."""
    rates: NDArray[np.float64]
    """Work a second that came in."""
    desired: NDArray[np.int64]
    """What was wanted after the tick's decision."""
    ready: NDArray[np.int64]
    """Servers that worked."""
    starting: NDArray[np.int64]
    """Servers that started."""
    backlog: NDArray[np.float64]
    """Work that waited at the end of the tick."""
    utilization: NDArray[np.float64]
    """Work done over what could have been; 0 without servers."""
    changes: int
    """How often a decision changed what was wanted."""

    @property
    def t(self) -> NDArray[np.float64]:
        """The starts of the ticks, in seconds."""
        return np.arange(len(self.rates), dtype=np.float64) * np.float64(self.tick)

    @property
    def server_seconds(self) -> float:
        """Seconds of ready servers."""
        return float(self.ready.sum() * self.tick)

    @property
    def server_hours(self) -> float:
        """Hours of servers that worked or started: what is paid."""
        return float((self.ready.sum() + self.starting.sum()) * self.tick / 3600)

    @property
    def backlog_integral(self) -> float:
        """Work that waited, times the seconds that it did."""
        return float(self.backlog.sum() * self.tick)

    @property
    def under_provisioned_minutes(self) -> float:
        """Minutes of ticks at whose end work waited."""
        return float((self.backlog > 1e-9).sum() * self.tick / 60)

    @property
    def peak_ready(self) -> int:
        """The most servers that worked at once."""
        return int(self.ready.max(initial=0))

    def __repr__(self) -> str:
        return (
            f"<FluidReport: {len(self.rates):,} ticks, {self.server_hours:,.2f} server hours, "
            f"{self.under_provisioned_minutes:,.1f} under-provisioned minutes, peak {self.peak_ready}>"
        )


def simulate_fluid(
    rates: Sequence[float] | NDArray[np.floating[Any]],
    policy: Any,
    /,
    *,
    tick: float = 60.0,
    capacity: float = 1.0,
    cold_start: float = 0.0,
    period: int = 1,
    lag: int = 0,
    initial: int = 1,
    min_servers: int = 0,
    max_servers: int = 2**31 - 1,
) -> FluidReport:
    """Runs a policy over a series of rates, with work as a fluid: no request has an event of its own.

    Within a tick, in this order: servers whose start is over become ready; every `period` ticks the policy decides on
    the metrics of an earlier tick; what is missing starts, and of what is too much the youngest that starts is
    cancelled first, ready servers leave at once; ready servers do the work that came and that waited, and the rest
    waits.

    Parameters
    ----------
    rates : work a second, one value a tick: 0 to 1e15.
    policy : one of ours, or any object with `recommend(observation, now=seconds)` whose answer has `desired`. Ours
        start with an empty memory and stay as they are; `ProportionalScaling`, `QueueScaling`, `TargetTracking`,
        `StepScaling`, `Combined` and `HorizontalPodAutoscaler` run without Python. The observation is a mapping as
        `Observation` describes, with the metrics "utilization", "utilization_percent", "busy" (servers),
        "arrivals_per_s", "demand" (what waited included; work a second), "queue" (work that waits), each of the last
        three also "..._per_server", and "servers" (that worked when all this was measured).
    tick (60.0), cold_start (0.0) : seconds; the latter from a decision until a server works.
    capacity (1.0) : work a second that one server does.
    period (1), lag (0) : ticks. Metrics are those of the tick before the decision, and `lag` ticks older.
    initial (1) : ready servers at the start.
    min_servers (0), max_servers : bounds of what may be desired.

    Raises ConfigError, and SimulationError or what the policy raised. About 25 ns a tick, and the policy.
    Source: the rules of `autoscale_loop` in our theory vectors.

    >>> from aibalance.simulation import simulate_fluid
    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="demand", metric_type="total", target=5, max_capacity=20)
    >>> simulate_fluid([10, 10, 40, 40, 40, 40], policy, tick=10, capacity=10, initial=2, cold_start=10).ready
    array([ 2,  2,  2,  2,  8, 12])
    """
    series = np.ascontiguousarray(rates, dtype=np.float64)
    if series.ndim != 1:
        raise check.wrong("rates", rates, "one value a tick")
    native = (_core.ScalingEngine, _core.ProportionalEngine, _core.HpaEngine)
    engine = getattr(policy, "_engine", None)
    recommend = getattr(policy, "recommend", None)
    if not callable(recommend) or isinstance(policy, type):
        raise check.wrong("policy", policy, "an object with a method recommend")
    if engine is not None and not isinstance(engine, native):
        import copy

        recommend = copy.deepcopy(policy).recommend
    bound = 2**31 - 1
    found = _core._simulate_fluid(
        series,
        engine if isinstance(engine, native) else recommend,
        tick_s=check.seconds("tick", tick, above=True),
        capacity=check.number("capacity", capacity, 0, 1e15, above=True),
        boot_s=check.seconds("cold_start", cold_start),
        period=check.whole("period", period, 1, bound),
        lag=check.whole("lag", lag, 0, bound),
        initial=check.whole("initial", initial, 0, bound),
        min=check.whole("min_servers", min_servers, 0, bound),
        max=check.whole("max_servers", max_servers, 0, bound),
    )
    return FluidReport(tick=float(tick), capacity=float(capacity), rates=series, **found)


@dataclass(frozen=True)
class DeadTime:
    """What a step of the load does before new capacity works. Work in the unit of the load times seconds.

    >>> from aibalance.simulation import dead_time_backlog
    >>> dead_time_backlog(40, servers=2, capacity=10, target=0.5, detect=10, boot=30).clear_at
    60.0
    """

    final_replicas: int
    """Servers that the target asks for."""
    peak_backlog: float
    """The most work that waits."""
    time_of_peak: float
    """Seconds after the step at which new capacity works."""
    drain_time: float
    """Seconds from then until nothing waits; infinite when nothing is left over to drain it."""
    clear_at: float
    """Seconds after the step at which nothing waits."""
    max_fifo_delay: float
    """Seconds that the last work before new capacity would wait, had it been left to the old one."""
    delay_of_last_arrival: float
    """Seconds that it does wait, first come first served."""


def dead_time_backlog(
    load: float, /, *, servers: int, capacity: float, target: float = 1.0, detect: float = 0.0, boot: float = 0.0
) -> DeadTime:
    """What waits when the load steps up and the answer takes `detect + boot` seconds.

    `load`: work a second after the step. `servers`: ready before it. `capacity`: work a second of one. `target`: the
    utilization that is wanted after it, above 0, up to 1. `detect`, `boot`: seconds until the decision, and from it
    until new servers work. Raises ConfigError. The backlog grows to `(load - servers * capacity) * (detect + boot)` and
    drains with what the new fleet has left over. Source: `autoscale_fluid` in our theory vectors.

    >>> from aibalance.simulation import dead_time_backlog
    >>> dead_time_backlog(40, servers=2, capacity=10, target=0.5, detect=10, boot=30).peak_backlog
    800.0
    """
    load = check.number("load", load, 0, 1e15)
    capacity = check.number("capacity", capacity, 0, 1e15, above=True)
    target = check.number("target", target, 0, 1, above=True)
    old = check.whole("servers", servers, 0, 2**31 - 1) * capacity
    dead = check.seconds("detect", detect) + check.seconds("boot", boot)
    final = _enough(load / (capacity * target))
    new = final * capacity
    peak = max(0.0, load - old) * dead

    def over(work: float, rate: float) -> float:
        return 0.0 if work == 0 else work / rate if rate > 0 else math.inf

    drain = over(peak, new - load)
    return DeadTime(final, peak, dead, drain, dead + drain, over(peak, old), over(peak, new))


def _enough(need: float) -> int:
    """Whole servers, with a float that is all but whole taken as that."""
    near = round(need)
    return near if abs(need - near) <= 1e-9 * max(1.0, near) else math.ceil(need)


@dataclass(frozen=True)
class Headroom:
    """What to hold ready for a load that grows.

    >>> from aibalance.simulation import growth_headroom
    >>> growth_headroom(0.5, reaction=180, capacity=20, load=400).replicas
    25
    """

    extra_capacity: float
    """Work a second that may come before more can be there."""
    max_utilization: float
    """The highest utilization target that leaves so much."""
    replicas: int
    """Servers for the load and that."""


def growth_headroom(growth: float, /, *, reaction: float, capacity: float, load: float) -> Headroom:
    """What a load that grows by `growth` work a second each second needs beyond itself while the answer is on its way.

    `reaction`: seconds from growth until new servers work. `capacity`: work a second of one. `load`: work a second now.
    Raises ConfigError. Source: `autoscale_fluid` in our theory vectors.

    >>> from aibalance.simulation import growth_headroom
    >>> growth_headroom(0.5, reaction=180, capacity=20, load=400).extra_capacity
    90.0
    """
    extra = check.number("growth", growth, 0, 1e15) * check.seconds("reaction", reaction)
    capacity = check.number("capacity", capacity, 0, 1e15, above=True)
    load = check.number("load", load, 0, 1e15)
    most = load / (load + extra) if load + extra > 0 else 1.0
    return Headroom(extra, most, _enough((load + extra) / capacity))


@dataclass(frozen=True)
class LoopStability:
    """Whether a loop comes to rest.

    >>> from aibalance.simulation import loop_stability
    >>> loop_stability(delay=1).stable
    False
    """

    spectral_radius: float
    """By what an error is multiplied each interval, in the long run."""
    stable: bool
    """Whether that is below 1: errors die out."""
    max_stable_gain: float
    """The gain below which they do, `2 sin(pi / (2 (2 delay + 1)))`."""


def loop_stability(*, gain: float = 1.0, delay: int = 0) -> LoopStability:
    """Whether a controller whose metric is `delay` decisions late comes to rest: x[k+1] = x[k] - gain * x[k-delay].

    x is the error of the logarithm of the replicas. `gain` (1.0): that of a controller which takes the whole ratio of
    metric and target at once, as Kubernetes' does; above 0. `delay` (0): intervals between an action and the metric
    that shows it, at most 200: starting servers that do not count make it long. Raises ConfigError.
    Source: `autoscale_fluid` in our theory vectors; Levin and May, Theoretical Population Biology 9, 1976.

    >>> from aibalance.simulation import loop_stability
    >>> round(loop_stability(gain=1, delay=3).max_stable_gain, 3)
    0.445
    """
    gain = check.number("gain", gain, 0, 1e6, above=True)
    j = check.whole("delay", delay, 0, 200)
    most = 2 * math.sin(math.pi / (2 * (2 * j + 1)))
    if j == 0:
        radius = abs(1 - gain)
    elif gain <= (double := j**j / (j + 1) ** (j + 1)):
        # Near the double root at j / (j + 1) an eigenvalue solver loses half its digits; the largest root is real.
        low, high = j / (j + 1), 1.0
        for _ in range(100 if gain < double else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if middle**j * (1 - middle) > gain else (low, middle)
        radius = low
    else:
        radius = float(np.abs(np.roots([1.0, -1.0, *[0.0] * (j - 1), gain])).max())
    return LoopStability(radius, gain < most * (1 - 1e-12), most)
