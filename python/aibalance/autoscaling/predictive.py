"""Scaling ahead of the load, and doubting a metric that falls."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from .._core import SeasonalModel
from .._errors import ConfigError, MetricError
from ._told import counts, told
from .policy import Clock, Policy

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["ForecastScaling", "OutageGuard"]


def _number(field: str, value: Any, low: float, high: float, *, above: bool = False) -> None:
    fits = not isinstance(value, bool) and isinstance(value, (int, float)) and low <= value <= high
    if not fits or (above and value == low):
        allowed = f"a number {'above' if above else 'from'} {low:g}, up to {high:g}"
        raise ConfigError(f"{field}: {value!r} is not allowed; {allowed}")


def _whole(field: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{field}: {value!r} is not allowed; a whole number from {low} to {high}")


def _metric(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e150:
        raise MetricError(
            f"{name}: {value!r} is not a usable metric; a number of 0 or more, or None for a missing value"
        )
    return float(value)


def _clock(clock: Clock | None) -> Any:
    now = time.monotonic if clock is None else getattr(clock, "now", None)
    if not callable(now):
        raise ConfigError(f"clock: {clock!r} is not allowed; an object with now() -> float seconds, or None")
    return now


def _instant(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e10:
        raise ConfigError(f"{field}: {value!r} is not allowed; finite seconds of 0 or more")
    return float(value)


def _read(state: Any, kind: str) -> dict[str, Any]:
    if not isinstance(state, dict) or state.get("kind") != kind or state.get("version") != 1:
        raise ConfigError(f"state: expected what state() of {kind} gives, version 1")
    return state


def _rebuild(cls: Any, config: dict[str, Any]) -> Any:
    return cls(**config)


class _Wrapping:
    """What the policies of this module share. Attributes beside the configuration are of no field."""

    _now: Callable[[], float]
    _past: _Past
    _doubt: _Doubt
    _z: float
    _lead: int
    _kept: int

    def __reduce__(self) -> tuple[Any, ...]:
        # The configuration travels; the memory travels through state() and restore().
        return _rebuild, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]


class _Past:
    """The history of a metric in equal steps, and the model that follows it."""

    def __init__(self) -> None:
        self.values: deque[float] = deque()
        self.step: int | None = None
        self.sum = 0.0
        self.count = 0
        self.model: SeasonalModel | None = None
        self.fitted = -1
        self.tried = 0
        self.serial = 0


@dataclass(frozen=True, kw_only=True)
class ForecastScaling(_Wrapping):
    """Capacity that is ready when the load comes: what the next `cold_start + buffer` seconds will need at most.

    It keeps the history of the load in steps, fits additive Holt-Winters with daily and weekly seasons to it, and
    recommends `ceil(highest forecast of the time ahead / target)`. A reactive policy inside may ask for more, never for
    less. As long as the history is shorter than two of the shortest season there is no forecast, and the reactive
    policy decides alone (without one, capacity stays).

    `metric`: the load of all servers together (work or requests a second), 0 or more.
    `target`: the load that one server shall take, above 0.
    `max_capacity`, `min_capacity` (1): bounds of what is recommended, always.
    `cold_start`: seconds from a decision until a server works.
    `buffer` (300.0): seconds by which it shall be ready earlier; AWS calls it SchedulingBufferTime.
    `step` (60.0): seconds of history that become one value, their mean. Steps without data are gaps.
    `seasons` ((86400.0, 604800.0)): seconds of each season, ascending; whole numbers of steps.
    `history` (1209600.0): seconds that are kept, two weeks; a season needs two of itself before it is used.
    `refit` (86400.0): seconds between fits; in between the model follows each value.
    `quantile` (0.9): the forecast's quantile that capacity shall cover, 0.5 to below 1: more is safer and dearer.
    `scale_in` (True): whether a forecast may lower capacity; AWS's only raises it. False holds what was asked for,
    unless a reactive policy lowers it.
    `reactive` (None): a policy of its own, whose recommendation counts when it is larger.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. A decision is O(steps ahead); a fit of two weeks of minutes takes some tens of milliseconds.
    Sources: EC2 Auto Scaling user guide, predictive scaling; the model: `aibalance.autoscaling.forecasting`.

    >>> from aibalance.autoscaling import ForecastScaling
    >>> policy = ForecastScaling(
    ...     metric="rps", target=10, max_capacity=50, cold_start=120, buffer=0, step=60, seasons=(600,), quantile=0.5
    ... )
    >>> for minute in range(29):  # every ten minutes there is one of 400 requests a second
    ...     r = policy.recommend({"current": 4, "metrics": {"rps": 400 if minute % 10 == 9 else 40}}, now=minute * 60.0)
    >>> r.desired, r.trace[2]
    (40, ('forecast', 400.0))
    """

    metric: str
    target: float
    max_capacity: int
    cold_start: float
    min_capacity: int = 1
    buffer: float = 300.0
    step: float = 60.0
    seasons: tuple[float, ...] = (86400.0, 604800.0)
    history: float = 1209600.0
    refit: float = 86400.0
    quantile: float = 0.9
    scale_in: bool = True
    reactive: Policy | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise ConfigError(f"metric: {self.metric!r} is not allowed; text")
        _number("target", self.target, 0, 1e150, above=True)
        _whole("min_capacity", self.min_capacity, 0, 2**31 - 1)
        _whole("max_capacity", self.max_capacity, self.min_capacity, 2**31 - 1)
        for name in ("cold_start", "buffer", "refit"):
            _number(name, getattr(self, name), 0, 31_536_000)
        _number("step", self.step, 0, 86_400, above=True)
        seasons: Any = self.seasons
        if isinstance(seasons, list):
            seasons = tuple(seasons)
            object.__setattr__(self, "seasons", seasons)
        if not isinstance(seasons, tuple) or not seasons or list(seasons) != sorted(set(seasons)):
            raise ConfigError(f"seasons: {seasons!r} is not allowed; seconds that ascend, at least one")
        for i, season in enumerate(self.seasons):
            _number(f"seasons[{i}]", season, 2 * self.step, 31_536_000)
            if abs(season / self.step - round(season / self.step)) > 1e-9:
                raise ConfigError(
                    f"seasons[{i}]: {season!r} is not allowed; a whole number of steps of {self.step!r} s"
                )
        _number("history", self.history, 2 * self.seasons[0], 315_360_000)
        _number("quantile", self.quantile, 0.5, 0.999999)
        if self.reactive is not None and not callable(getattr(self.reactive, "recommend", None)):
            raise ConfigError(f"reactive: {self.reactive!r} is not allowed; a policy, or None")
        object.__setattr__(self, "_past", _Past())
        object.__setattr__(self, "_now", _clock(self.clock))
        object.__setattr__(self, "_z", NormalDist().inv_cdf(self.quantile))
        object.__setattr__(self, "_lead", max(1, math.ceil((self.cold_start + self.buffer) / self.step - 1e-9)))
        object.__setattr__(self, "_kept", max(2, round(self.history / self.step)))

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Takes up one sample of the load; None is a gap. Other names go to the reactive policy."""
        if name == self.metric:
            self._take(_metric(name, value), _instant("at", at))
        if self.reactive is not None:
            try:
                self.reactive.record(name, value, at=at)
            except MetricError:
                if name != self.metric:  # one of the two reads it
                    raise
        elif name != self.metric:
            raise MetricError(f"{name}: is not read by this policy; {self.metric!r} is")

    def _take(self, value: float | None, at: float) -> None:
        past = self._past
        step = int(at / self.step + 1e-9)
        if past.step is None:
            past.step = step
        # More steps than are kept are no more than those.
        if step - past.step > self._kept:
            past.values.clear()
            past.model, past.sum, past.count, past.step = None, 0.0, 0, step
        while past.step < step:
            self._close(past)
        if value is not None:
            past.sum += value
            past.count += 1

    def _close(self, past: _Past) -> None:
        mean = past.sum / past.count if past.count else math.nan
        past.values.append(mean)
        if len(past.values) > self._kept:
            past.values.popleft()
        past.sum, past.count = 0.0, 0
        past.step = (past.step or 0) + 1
        if past.model is not None:
            past.model.update(mean)

    def _model(self) -> SeasonalModel | None:
        past = self._past
        periods = [round(s / self.step) for s in self.seasons if len(past.values) >= 2 * round(s / self.step)]
        if not periods or past.step is None:
            return past.model
        due = past.model is None or (past.step - past.fitted) * self.step >= self.refit
        if due or past.tried < len(periods):
            # A longer season that was seen twice only may be noise: the model with the smaller error counts.
            values = list(past.values)
            fits = [SeasonalModel.fit(values, periods[: n + 1], None, None, None, 80) for n in range(len(periods))]
            past.model = min(fits, key=lambda model: model.sigma)
            past.fitted, past.tried = past.step, len(periods)
        return past.model

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed at `now` (seconds; None asks the clock)."""
        at = _instant("now", self._now() if now is None else now)
        current, asked, metrics = counts(observation)
        value = _metric(self.metric, metrics.get(self.metric))
        inner = None if self.reactive is None else self.reactive.recommend(observation, now=at)
        self._take(value, at)
        model = self._model()
        expected = None if model is None else model.peak(1, self._lead + 1, self._z)
        need = None if expected is None else math.ceil(max(0.0, expected) / self.target - 1e-9)
        wanted, limit = asked if need is None else need, None
        if need is not None and not self.scale_in and need < asked:
            wanted, limit = asked if inner is None else need, "disable_scale_in" if inner is None else None
        if inner is not None and (need is None or inner.desired > wanted):
            wanted, limit = inner.desired, inner.limited_by
        desired = min(max(wanted, self.min_capacity), self.max_capacity)
        if desired != wanted:
            limit = "max_capacity" if desired < wanted else "min_capacity"
        if need is None and inner is None and desired == asked:
            limit = "missing_metrics"
        self._past.serial += 1
        trace = {
            "forecast": expected,
            "need": need,
            "reactive": None if inner is None else inner.desired,
            "wanted": wanted,
        }
        shown = "no forecast yet" if expected is None else f"{self.metric} will be up to {expected:.4g}"
        return told(
            current=current,
            asked=asked,
            desired=desired,
            limited_by=limit,
            reason=f"{shown} within {self._lead * self.step:g} s: {asked} to {desired}",
            trace=trace,
            serial=self._past.serial,
            now=at,
            missing=need is None and inner is None,
            observation=observation,
        )

    def rejected(self, recommendation: Recommendation) -> None:
        """Does nothing: a forecast assumes nothing about what is carried out."""

    def state(self) -> dict[str, Any]:
        """The history, the model and the reactive policy's memory as a plain dictionary that JSON can carry."""
        past = self._past
        return {
            "version": 1,
            "kind": "forecast",
            "values": [None if math.isnan(x) else x for x in past.values],
            "step": past.step,
            "sum": past.sum,
            "count": past.count,
            "fitted": past.fitted,
            "tried": past.tried,
            "serial": past.serial,
            "model": None if past.model is None else past.model.state(),
            "reactive": None if self.reactive is None else self.reactive.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        found = _read(state, "forecast")
        new = _Past()
        try:
            new.values.extend(math.nan if x is None else float(x) for x in found["values"])
            new.step = None if found["step"] is None else int(found["step"])
            new.sum, new.count = float(found["sum"]), int(found["count"])
            new.fitted, new.tried, new.serial = int(found["fitted"]), int(found["tried"]), int(found["serial"])
            new.model = None if found["model"] is None else SeasonalModel.of_state(found["model"])
            reactive = found["reactive"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"state: {error!r}; expected what state() gives") from error
        if (self.reactive is None) != (reactive is None):
            raise ConfigError("state.reactive: does not fit; a policy's state exactly when there is a reactive policy")
        if self.reactive is not None:
            self.reactive.restore(reactive)
        object.__setattr__(self, "_past", new)


class _Doubt:
    """What a guard remembers."""

    def __init__(self) -> None:
        self.seen: deque[tuple[float, float]] = deque()
        self.since: float | None = None
        self.reference = 0.0
        self.same_since: float | None = None
        self.last: float | None = None
        self.serial = 0


@dataclass(frozen=True, kw_only=True)
class OutageGuard(_Wrapping):
    """Any policy, with doubt about its metric: a drop, a gap or one that stands still may be a fault, not a trough.

    While it doubts, the policy inside is told that the value is missing (so that a forecast does not learn an outage),
    and capacity is not lowered below what was asked for. Doubt ends when the metric is back, or after `hold` seconds,
    when what it says is believed.

    `policy`: the policy inside. `metric`: the metric that is watched, 0 or more; best the load of all servers together.
    `drop` (0.5): a value this share below the mean of the last `window` seconds is a drop, above 0, below 1; None
    doubts no drop.
    `window` (300.0): seconds.
    `frozen` (600.0): seconds for which the very same value, other than 0, is believed; None believes it always.
    `hold` (1800.0): seconds for which a drop or a metric that stands still is doubted. A gap is doubted while it lasts.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. Source: Netflix, "Scryer: Netflix's predictive auto scaling engine", 2013, which was built after
    outages whose lost traffic had made the reactive policy scale in.

    >>> from aibalance.autoscaling import OutageGuard, ProportionalScaling
    >>> inner = ProportionalScaling(metric="rps", metric_type="total", target=10, max_capacity=50)
    >>> policy = OutageGuard(policy=inner, metric="rps")
    >>> for minute, rps in enumerate([100, 101, 99, 3]):
    ...     r = policy.recommend({"current": 10, "metrics": {"rps": rps}}, now=minute * 60.0)
    >>> r.desired, r.limited_by
    (10, 'outage_guard')
    """

    policy: Policy
    metric: str
    drop: float | None = 0.5
    window: float = 300.0
    frozen: float | None = 600.0
    hold: float = 1800.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if not callable(getattr(self.policy, "recommend", None)):
            raise ConfigError(f"policy: {self.policy!r} is not allowed; a policy")
        if not isinstance(self.metric, str):
            raise ConfigError(f"metric: {self.metric!r} is not allowed; text")
        if self.drop is not None:
            _number("drop", self.drop, 0, 0.999999, above=True)
        if self.frozen is not None:
            _number("frozen", self.frozen, 0, 31_536_000, above=True)
        _number("window", self.window, 0, 31_536_000, above=True)
        _number("hold", self.hold, 0, 31_536_000)
        object.__setattr__(self, "_doubt", _Doubt())
        object.__setattr__(self, "_now", _clock(self.clock))

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Goes to the policy inside, unless it is the watched metric and in doubt."""
        if name == self.metric and self._why(_metric(name, value), _instant("at", at)) is not None:
            value = None
        self.policy.record(name, value, at=at)

    def _why(self, value: float | None, at: float) -> str | None:
        """Why the value is doubted, or None; takes it up."""
        d = self._doubt
        if value is None:
            return "gap"
        if value != d.last or d.same_since is None:
            d.last, d.same_since = value, at
        while d.seen and at - d.seen[0][0] > self.window:
            d.seen.popleft()
        usual = sum(v for _, v in d.seen) / len(d.seen) if d.seen else None
        if d.since is not None:
            if self.drop is None or value >= (1 - self.drop) * d.reference or at - d.since >= self.hold:
                d.since = None
                d.seen.clear()
        elif self.drop is not None and usual is not None and value < (1 - self.drop) * usual:
            d.since, d.reference = at, usual
        if d.since is not None:
            return "drop"
        d.seen.append((at, value))
        still = at - d.same_since
        if self.frozen is not None and value != 0 and self.frozen <= still < self.frozen + self.hold:
            return "frozen"
        return None

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """The recommendation of the policy inside, without a scale-in while the metric is in doubt."""
        at = _instant("now", self._now() if now is None else now)
        current, asked, metrics = counts(observation)
        if self.metric not in metrics:
            return self.policy.recommend(observation, now=at)
        why = self._why(_metric(self.metric, metrics[self.metric]), at)
        if why is None:
            return self.policy.recommend(observation, now=at)
        doubted = {"current": current, "desired": asked, "metrics": {**metrics, self.metric: None}}
        inner = self.policy.recommend(doubted, now=at)
        wanted = inner.desired
        desired = max(wanted, asked)
        if wanted < asked:
            self.policy.rejected(inner)
        self._doubt.serial += 1
        return told(
            current=current,
            asked=asked,
            desired=desired,
            limited_by="outage_guard" if desired == asked else inner.limited_by,
            reason=f"{self.metric} may be at fault ({why}): {asked} to {desired}",
            trace={"doubt": why, "policy": wanted},
            serial=self._doubt.serial,
            now=at,
            missing=True,
            observation=observation,
        )

    def rejected(self, recommendation: Recommendation) -> None:
        """Goes to the policy inside."""
        self.policy.rejected(recommendation)

    def state(self) -> dict[str, Any]:
        """The memory, that of the policy inside included, as a plain dictionary that JSON can carry."""
        d = self._doubt
        return {
            "version": 1,
            "kind": "outage_guard",
            "seen": [list(pair) for pair in d.seen],
            "since": d.since,
            "reference": d.reference,
            "same_since": d.same_since,
            "last": d.last,
            "serial": d.serial,
            "policy": self.policy.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        found = _read(state, "outage_guard")
        new = _Doubt()
        try:
            new.seen.extend((float(t), float(v)) for t, v in found["seen"])
            for name in ("since", "same_since", "last"):
                setattr(new, name, None if found[name] is None else float(found[name]))
            new.reference, new.serial = float(found["reference"]), int(found["serial"])
            inner = found["policy"]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"state: {error!r}; expected what state() gives") from error
        self.policy.restore(inner)
        object.__setattr__(self, "_doubt", new)
