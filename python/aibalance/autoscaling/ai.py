"""Scaling of model servers: what they say about themselves, what kind of work they do, and how late both are.

Metrics of inference servers come minutes late and new servers load a model before they serve, so a policy that divides
today's metric by today's servers acts twice. `AiScaling` divides by the servers that there were when it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .._core import CloudEngine
from .._errors import ConfigError, MetricError
from ._aims import Aim
from ._signals import (
    WORKLOADS,
    ColdStart,
    Composite,
    GpuMemory,
    GpuUtilization,
    KvCacheUsage,
    QueueLength,
    Signal,
    TokenVelocity,
    Workload,
    least_zero,
)
from ._told import counts, told
from .policy import Clock, Policy
from .proportional import ProportionalScaling

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = [
    "WORKLOADS",
    "AiScaling",
    "ColdStart",
    "Composite",
    "GpuMemory",
    "GpuUtilization",
    "KvCacheUsage",
    "QueueLength",
    "TokenVelocity",
    "Workload",
]


@dataclass(frozen=True, kw_only=True)
class AiScaling:
    """As many model servers as their signals ask for, by the servers that were ready when those were measured.

    `signals`: QueueLength, GpuUtilization, GpuMemory, KvCacheUsage, TokenVelocity, Composite; the largest need counts.
    A missing one holds back scaling in. From nothing, the first request asks for one server.
    `max_replicas`, `min_replicas` (None: the workload's): bounds.
    `workload` ("realtime"): always on, at least 2; "batch": to zero when nothing waits; "training": no signals but
    either `replicas`, a fixed number, or `schedule`, a policy such as ScheduledScaling.
    `cold_start` (0.0): a ColdStart or seconds. Unless an observation says what is `warming`, a server of `current`
    counts as ready when it has been there for so long.
    `metric_delay` (120.0): seconds by which metrics are late; taken for more than it is, it makes the policy swing.
    `tolerance` (0.1), `stabilization` (180.0), `growth_factor`, `growth_step`, `shrink_share` (None), `cooldown` (0.0):
    see ProportionalScaling, which they go to. `clock` (None): answers when `now` is not given.

    The need of an average is `ready * ratio`, with the servers ready `metric_delay` ago: what was ordered since
    does not show in the metric yet, and is not ordered again. Raises ConfigError, and MetricError for an observation.

    >>> policy = AiScaling(signals=[QueueLength(5), KvCacheUsage(0.8)], max_replicas=20, cold_start=ColdStart(90, 30))
    >>> for at, servers, queue in ((0.0, 4, 10), (60.0, 8, 10), (240.0, 8, 10), (360.0, 8, 5)):
    ...     r = policy.recommend({"current": servers, "metrics": {"queue": queue, "kv_cache": 0.6}}, now=at)
    ...     print(r.desired, r.details["measured_on"])
    8 4
    8 4
    8 4
    8 8
    """

    signals: Sequence[QueueLength | GpuUtilization | GpuMemory | KvCacheUsage | TokenVelocity | Composite] = ()
    max_replicas: int = 10
    min_replicas: int | None = None
    workload: Literal["realtime", "batch", "training"] = "realtime"
    cold_start: ColdStart | float = 0.0
    metric_delay: float = 120.0
    tolerance: float = 0.1
    stabilization: float = 180.0
    growth_factor: float | None = None
    growth_step: int | None = None
    shrink_share: float | None = None
    cooldown: float = 0.0
    replicas: int | None = None
    schedule: Policy | None = None
    clock: Clock | None = None
    _need: ProportionalScaling = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kind = WORKLOADS.get(self.workload)
        if kind is None:
            raise ConfigError(f"workload: {self.workload!r} is not allowed; one of {', '.join(WORKLOADS)}")
        signals: Any = self.signals
        if isinstance(signals, Signal) or not isinstance(signals, Sequence):
            raise ConfigError(f"signals: {signals!r} is not allowed; a sequence of signals")
        object.__setattr__(self, "signals", tuple(signals))
        for i, signal in enumerate(signals):
            if not isinstance(signal, Signal):
                raise ConfigError(f"signals[{i}]: {signal!r} is not allowed; QueueLength, KvCacheUsage or another")
        if not isinstance(self.cold_start, ColdStart):
            object.__setattr__(self, "cold_start", ColdStart(self.cold_start))
        least_zero("metric_delay", self.metric_delay)
        least = kind.min_replicas if self.min_replicas is None else self.min_replicas
        if kind.name == "realtime" and least < kind.min_replicas:
            raise ConfigError(f"min_replicas: {least} is not allowed; realtime work is always on, at least 2 servers")
        if kind.name == "training":
            if signals:
                raise ConfigError("signals: not allowed for training; it runs by replicas or a schedule")
            if (self.replicas is None) == (self.schedule is None):
                raise ConfigError("replicas: needed for training, or a schedule instead, not both")
            if self.replicas is not None and not 0 <= self.replicas <= self.max_replicas:
                raise ConfigError(f"replicas: {self.replicas} is not allowed; 0 to max_replicas, {self.max_replicas}")
        elif self.replicas is not None or self.schedule is not None:
            raise ConfigError(f"replicas and schedule: not allowed for {kind.name}; it is scaled by its signals")
        elif not signals:
            raise ConfigError("signals: () is not allowed; at least one")
        object.__setattr__(self, "min_replicas", least)
        inner = ProportionalScaling(
            metric="need",
            metric_type="total",
            target=1,
            max_capacity=self.max_replicas,
            min_capacity=least,
            tolerance=self.tolerance,
            stabilization=self.stabilization,
            growth_factor=self.growth_factor,
            growth_step=self.growth_step,
            shrink_share=self.shrink_share,
            cooldown=self.cooldown,
            clock=self.clock,
        )
        object.__setattr__(self, "_need", inner)
        object.__setattr__(self, "_memory", _Memory())

    @property
    def _start_s(self) -> float:
        assert isinstance(self.cold_start, ColdStart)
        return self.cold_start.seconds

    def _aims(self) -> list[Aim]:
        found = [aim for signal in self.signals for aim in signal._aims()]
        return [Aim(a.metric, a.target, a.kind, self.tolerance, self.tolerance) for a in found]

    def ready(self, current: int, /, *, now: float) -> int:
        """How many of `current` servers have been there long enough to be capacity, by what was observed before."""
        return self._memory.least(current, now, now - self._start_s, now)  # type: ignore[attr-defined, no-any-return]

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed at `now` (seconds; None asks the clock)."""
        at = self._need._now() if now is None else now
        if not math.isfinite(at):
            raise MetricError(f"now: {at!r} is not allowed; finite seconds")
        if self.workload == "training":
            return self._by_schedule(observation, at)
        CloudEngine.asked(observation)  # refuses what is no observation
        current, asked, metrics = counts(observation)
        warming = asked - current if asked > current else 0
        told_warming = _warming(observation) > 0
        ratios = [(signal, signal.ratio(metrics)) for signal in self.signals]
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        start = 0.0 if told_warming else self._start_s
        seen_at = at - self.metric_delay
        ready = memory.least(current, at, at - start, at)
        # A fleet that shrank since did its work with those that it had.
        measured_on = memory.least(current, at, seen_at - start, seen_at)
        needs: dict[str, float | None] = {}
        for i, (signal, ratio) in enumerate(ratios):
            name = f"{i}.{type(signal).__name__}"
            if ratio is None:
                needs[name] = None
            elif signal._kind == "total":
                needs[name] = ratio
            else:
                needs[name] = max(ratio, 1.0 if ratio > 0 else 0.0) if measured_on == 0 else measured_on * ratio
        known = [value for value in needs.values() if value is not None]
        need = max(known, default=None)
        missing = len(known) < len(needs)
        held = missing and need is not None and need < asked
        inner = self._need.recommend(
            {
                "current": current,
                "desired": asked,
                "metrics": {"need": float(asked) if held else need},
            },
            now=at,
        )
        memory.keep(at, current, self._start_s + self.metric_delay)
        return self._answer(current, asked, at, inner, needs, held, missing, measured_on, ready, warming)

    def _answer(
        self,
        current: int,
        asked: int,
        at: float,
        inner: Recommendation,
        needs: Mapping[str, float | None],
        held: bool,
        missing: bool,
        measured_on: int,
        ready: int,
        warming: int,
    ) -> Recommendation:
        known = {name: value for name, value in needs.items() if value is not None}
        by = max(known, key=lambda name: known[name], default=None)
        limited_by = inner.limited_by
        if (held or not known) and inner.desired == asked:
            limited_by = "missing_metrics"
        stages = {f"signals.{name}": value for name, value in needs.items()}
        inner_stages = {
            n: v for n, v in inner.trace if n not in ("current", "asked", "metric", "limited_by", "desired")
        }
        if not known:
            said = "no signal has a value: " + ("stays" if inner.desired == asked else "bounded")
        elif held:
            said = f"a signal is missing, so nothing is taken away: stays at {asked}"
        else:
            assert by is not None
            said = (
                f"{by.partition('.')[2]} asks for {known[by]:.4g} servers (measured on {measured_on}): "
                + (f"{asked} to {inner.desired}" if inner.desired != asked else f"stays at {asked}")
                + (f", {limited_by.replace('_', ' ')}" if limited_by else "")
            )
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        memory.serial += 1
        answer = told(
            current=current,
            asked=asked,
            desired=inner.desired,
            limited_by=limited_by,
            reason=said,
            trace={
                "workload": self.workload,
                "ready": ready,
                "warming": warming,
                "measured_on": measured_on,
                **stages,
                **inner_stages,
            },
            serial=memory.serial,
            now=at,
            missing=not known,
        )
        memory.last = (answer, inner)
        return answer

    def _by_schedule(self, observation: Any, at: float) -> Recommendation:
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        if self.schedule is not None:
            inner = self.schedule.recommend(observation, now=at)
            least = self.min_replicas or 0
            desired, reason = min(max(inner.desired, least), self.max_replicas), inner.reason
        else:
            inner, desired, reason = None, self.replicas or 0, f"training runs on {self.replicas} servers, fixed"
            self._need.recommend(observation, now=at)  # checks it
        current, asked, _ = counts(observation)
        memory.serial += 1
        limit = None if inner is None else inner.limited_by
        if inner is not None and inner.desired != desired:
            limit = "max_replicas" if inner.desired > desired else "min_replicas"
        answer = told(
            current=current,
            asked=asked,
            desired=desired,
            limited_by=limit,
            reason=reason,
            trace={"workload": self.workload, "spot": WORKLOADS["training"].spot},
            serial=memory.serial,
            now=at,
        )
        memory.last = (answer, inner)
        return answer

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Signals are read from observations; a schedule's samples go to it. Raises MetricError."""
        if self.schedule is None:
            raise MetricError(f"name: {name!r} is not allowed; signals come with the observation")
        self.schedule.record(name, value, at=at)

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that this recommendation was carried out, if it is the last one."""
        last = self._memory.last  # type: ignore[attr-defined]
        if last is not None and last[0] == recommendation and last[1] is not None:
            (self.schedule or self._need).rejected(last[1])

    def state(self) -> dict[str, Any]:
        """The memory as a plain dictionary that JSON can carry; instants are seconds of the policy's clock."""
        memory: _Memory = self._memory  # type: ignore[attr-defined]
        inside = self._need if self.schedule is None else self.schedule
        seen = [list(point) for point in memory.seen]
        return {"version": 1, "kind": "ai_scaling", "seen": seen, "serial": memory.serial, "policy": inside.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        given: Any = state
        if not isinstance(given, dict) or set(given) != {"version", "kind", "seen", "serial", "policy"}:
            raise ConfigError(f"state: {type(state).__name__} is not allowed; a dictionary, as state() gives")
        if (given["version"], given["kind"]) != (1, "ai_scaling"):
            raise ConfigError(f"state.kind: {given['kind']!r}, version {given['version']!r}: expected ai_scaling, 1")
        memory = _Memory()
        last = -math.inf
        seen = given["seen"]
        for i, point in enumerate(seen if isinstance(seen, list) else [seen]):
            good = isinstance(point, (list, tuple)) and len(point) == 2 and not isinstance(point[1], bool)
            if not good or not isinstance(point[1], int) or not 0 <= point[1] < 2**31 or not _later(point[0], last):
                raise ConfigError(f"state.seen[{i}]: {point!r} is not allowed; seconds that rise, and a count")
            last = float(point[0])
            memory.seen.append((last, point[1]))
        serial = given["serial"]
        if not isinstance(serial, int) or isinstance(serial, bool) or not 0 <= serial < 2**63:
            raise ConfigError(f"state.serial: {serial!r} is not allowed; a whole number of 0 or more")
        memory.serial = serial
        (self._need if self.schedule is None else self.schedule).restore(given["policy"])
        object.__setattr__(self, "_memory", memory)

    def __reduce__(self) -> tuple[Any, ...]:
        # The configuration travels; the memory travels through state() and restore().
        return _made, ({name: getattr(self, name) for name in self.__dataclass_fields__ if name != "_need"},)


def _made(fields: dict[str, Any]) -> AiScaling:
    return AiScaling(**fields)


def _later(value: Any, than: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= than


def _warming(observation: Any) -> int:
    value = observation.get("warming") if isinstance(observation, Mapping) else observation.warming
    return value or 0


class _Memory:
    """How many servers there were, for as long as it matters."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []
        self.serial = 0
        self.last: tuple[Recommendation, Recommendation | None] | None = None

    def least(self, current: int, now: float, since: float, until: float) -> int:
        """The fewest servers in a time; before the first look there were as many as at it, and now there are these."""
        points = [*self.seen, (max(now, self.seen[-1][0]) if self.seen else now, current)]
        before = [count for at, count in points if at <= since]
        within = [count for at, count in points if since < at <= until]
        return min([before[-1] if before else points[0][1], *within])

    def keep(self, at: float, current: int, horizon: float) -> None:
        at = max(at, self.seen[-1][0]) if self.seen else at
        if not self.seen or self.seen[-1][1] != current:
            self.seen.append((at, current))
        while len(self.seen) > 1 and self.seen[1][0] <= at - horizon:
            self.seen.pop(0)
