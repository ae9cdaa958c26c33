"""What a policy does over a series of metrics, decision by decision, and what bound each of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError, MetricError
from ._aims import Aim, aims, measured

if TYPE_CHECKING:
    from .._core import Recommendation

__all__ = ["BINDINGS", "Moment", "Sample", "Timeline", "binding", "projected", "timeline"]

BINDINGS: Mapping[str, str] = {
    "tolerance": "tolerance",
    "stabilization": "window",
    "stabilization_window": "window",
    "scale_down_delay": "window",
    "upscale_delay": "window",
    "downscale_delay": "window",
    "downscale_to_zero_delay": "window",
    "stabilization_period": "window",
    "stable_window": "window",
    "grace_period": "window",
    "pod_retention_period": "window",
    "scale_up_limit": "rate",
    "scale_down_limit": "rate",
    "max_scale_up_rate": "rate",
    "max_scale_down_rate": "rate",
    "scale_in_control": "rate",
    "scale_in_limit": "rate",
    "missing_metrics": "missing metric",
    "trigger_error": "missing metric",
    "no_decision": "missing metric",
    "outage_guard": "missing metric",
    "cooldown": "cooldown",
    "initial_cooldown": "cooldown",
    "scale_in_cooldown": "cooldown",
    "scale_out_cooldown": "cooldown",
    "scale_down_cooldown": "cooldown",
    "in_flight": "warming",
    "warming": "warming",
}
"""`limited_by` of our policies, in few words; bounds are "min" and "max", and what is not here stays what it is."""


def binding(recommendation: Recommendation, /, policy: Any = None) -> str | None:
    """What bound a decision: "tolerance", "window", "rate", "min", "max", "missing metric", "cooldown", "warming",
    what else the policy calls it, or None.

    `policy` (None): whose decision it is. An alarm that has not gone off yet is a "window" that only its policy knows.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="cpu", target=50, max_capacity=8)
    >>> binding(policy.recommend({"current": 4, "metrics": {"cpu": 300}}, now=0.0))
    'max'
    """
    return _bound(recommendation, aims(policy) if policy is not None else ())


def _bound(recommendation: Recommendation, found: Iterable[Aim]) -> str | None:
    limit = recommendation.limited_by
    if limit is None:
        action = getattr(recommendation, "action", None)
        if action == "insufficient_data":
            return "missing metric"
        return _quiet_alarm(recommendation, found) if action == "none" and found else None
    if limit == "tolerance" and found and not any(aim.out or aim.into for aim in found):
        return None  # right on the target
    if limit in BINDINGS:
        return BINDINGS[limit]
    if limit.startswith(("min_", "max_")):
        return limit[:3]
    return limit


def _quiet_alarm(recommendation: Recommendation, found: Iterable[Aim]) -> str | None:
    details = recommendation.details
    value, need = details.get("metric"), details.get("need")
    if details.get("alarm") != "ok" or value is None or need is None:
        return None
    for aim in found:
        if not aim.steps and aim.target == details.get("target", aim.target):
            if value > aim.target * (1 + aim.out):
                return "window"
            if value < aim.target and math.ceil(need) < recommendation.desired:
                return "window" if value < aim.target * (1 - aim.into) else "tolerance"
    return None


@dataclass(frozen=True)
class Sample:
    """What was measured at one time.

    `at`: seconds, rising. `metrics`: by name; None is missing. `current` (None): servers that there were.

    >>> Sample(60.0, {"queue": 7.5}, 4).current
    4
    """

    at: float
    metrics: Mapping[str, float | None]
    current: int | None = None


@dataclass(frozen=True)
class Moment:
    """One decision of a timeline.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="queue", target=5, max_capacity=20)
    >>> moment = timeline(policy, [Sample(0.0, {"queue": 10.0})], current=4).moments[0]
    >>> moment.desired, moment.bound, moment.projected
    (8, None, {'queue': 5.0})
    """

    at: float
    """Seconds."""
    metrics: Mapping[str, float | None]
    """What the policy saw."""
    current: int
    """Servers in service."""
    warming: int
    """Servers that start."""
    asked: int
    """What had been asked for before."""
    recommendation: Recommendation = field(repr=False)
    """The decision, with its trace."""
    bound: str | None
    """What bound it; see `binding`."""
    projected: Mapping[str, float]
    """Where the metrics per server would be once this is carried out, if the load stays."""

    @property
    def desired(self) -> int:
        """How many servers it asked for."""
        return int(self.recommendation.desired)

    @property
    def reason(self) -> str:
        """Why, in one sentence."""
        return str(getattr(self.recommendation, "reason", ""))


@dataclass(frozen=True, repr=False)
class Timeline:
    """What a policy did over a series.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="queue", target=5, max_capacity=20)
    >>> timeline(policy, [Sample(t * 60.0, {"queue": 10.0}) for t in range(4)], current=4)
    <Timeline: 4 decisions, 1 change, 4 to 8 servers, 0.53 server hours>
    """

    policy: str
    """Its class."""
    aims: tuple[Aim, ...]
    """The metrics that it reads, with targets."""
    moments: tuple[Moment, ...]
    """Each decision."""

    @property
    def changes(self) -> tuple[Moment, ...]:
        """The decisions that changed what was asked for."""
        return tuple(one for one in self.moments if one.desired != one.asked)

    def durations(self) -> Iterator[tuple[Moment, float]]:
        """Each decision with the seconds until the next; the last one counts like the one before."""
        last = 0.0
        for one, after in zip(self.moments, self.moments[1:], strict=False):
            last = after.at - one.at
            yield one, last
        if self.moments:
            yield self.moments[-1], last

    @property
    def server_hours(self) -> float:
        """Hours of servers, in service or starting."""
        # What is asked for starts, or is gone, at once.
        return sum(one.desired * seconds for one, seconds in self.durations()) / 3600

    def seconds_bound(self) -> dict[str, float]:
        """For how long which thing bound its decisions, longest first."""
        found: dict[str, float] = {}
        for one, seconds in self.durations():
            if one.bound is not None:
                found[one.bound] = found.get(one.bound, 0.0) + seconds
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def seconds_above_target(self) -> float:
        """For how long a metric was above its target, by more than the tolerance."""
        return sum(s for one, s in self.durations() if _above(self.aims, one))

    def __repr__(self) -> str:
        counts = [one.current for one in self.moments] + [one.desired for one in self.moments]
        changes = len(self.changes)
        return (
            f"<Timeline: {len(self.moments):,} decisions, {changes:,} change{'' if changes == 1 else 's'}, "
            f"{min(counts, default=0)} to {max(counts, default=0)} servers, {self.server_hours:,.2f} server hours>"
        )


def _above(found: Iterable[Aim], moment: Moment) -> bool:
    for aim in found:
        value = moment.metrics.get(aim.metric)
        if value is None:
            continue
        each = value / moment.current if aim.kind == "total" and moment.current else value
        if each > aim.target * (1 + aim.out) * (1 + 1e-9):
            return True
    return False


def projected(policy: Any, metrics: Mapping[str, float | None], /, *, current: int, desired: int) -> dict[str, float]:
    """Where each metric per server goes when `current` servers become `desired` and the load stays.

    A mean over servers is spread over the new number, a total is divided by it; a value that is compared as it is
    (such as an object's) does not depend on servers in a known way and is left out. Metrics that the policy does not
    read are left out, too. The answer for no servers is that nobody measures.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="queue", target=5, max_capacity=20)
    >>> projected(policy, {"queue": 7.5}, current=4, desired=6)
    {'queue': 5.0}
    """
    return _projected(aims(policy), metrics, current, desired)


def _projected(
    found: Iterable[Aim], metrics: Mapping[str, float | None], current: int, desired: int
) -> dict[str, float]:
    out = {}
    for aim in found:
        value = metrics.get(aim.metric)
        if value is None or desired <= 0 or aim.kind == "value":
            continue
        if aim.kind == "total":
            out[aim.metric] = value / desired
        elif current > 0:
            out[aim.metric] = value * current / desired
    return out


def timeline(
    policy: Any,
    series: Iterable[Sample],
    /,
    *,
    current: int | None = None,
    cold_start: float = 0.0,
    metric_delay: float | None = None,
    carry_out: bool = True,
) -> Timeline:
    """Runs a policy over what was measured, and keeps every decision with its reason.

    With `carry_out`, decisions are carried out: servers come `cold_start` seconds later, and means over the servers are
    scaled from those that there were to those that there would be, so the load stays what it was. Totals stay as they
    are. Without it, the policy is asked what it would do at each time, and the servers stay as they were recorded.

    Parameters
    ----------
    policy : one of ours, or any with `recommend`; it is copied, ours with an empty memory.
    series : Samples in order of time. `current` of a sample says how many servers a mean is over.
    current (None) : servers at the start, and of samples that do not say; None needs a first sample that does.
    cold_start (0.0) : seconds.
    metric_delay (None) : seconds by which the series was late when it was read: means are over the servers of then.
        None is what the policy itself reckons with (AiScaling does), or else 0.

    Raises ConfigError for a series out of order or without a number of servers, and what the policy raises.
    The projection is a line: a utilization that ended at 100 % does not say how much more there was.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="cpu", target=50, max_capacity=9, tolerance=0.1)
    >>> run = timeline(policy, [Sample(60.0 * i, {"cpu": cpu}) for i, cpu in enumerate((52, 80, 80, 300))], current=4)
    >>> [(moment.metrics["cpu"], moment.desired, moment.bound) for moment in run.moments]
    [(52.0, 4, 'tolerance'), (80.0, 7, None), (45.714285714285715, 7, 'tolerance'), (171.42857142857142, 9, 'max')]
    """
    if not callable(getattr(policy, "recommend", None)) or isinstance(policy, type):
        raise ConfigError(f"policy: {policy!r} is not allowed; an object with a method recommend")
    if not _real(cold_start) or not 0 <= cold_start < math.inf:
        raise ConfigError(f"cold_start: {cold_start!r} is not allowed; seconds of 0 or more")
    delay: Any = getattr(policy, "metric_delay", 0.0) if metric_delay is None else metric_delay
    if not _real(delay) or not 0 <= delay < math.inf:
        raise ConfigError(f"metric_delay: {delay!r} is not allowed; seconds of 0 or more, or None")
    given: object = current
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 2**31):
        raise ConfigError(f"current: {current!r} is not allowed; a whole number of 0 or more")
    asked_policy = copy.deepcopy(policy)
    found = tuple(aims(policy))
    means = {aim.metric for aim in found if aim.kind == "average"}
    counted = measured(policy)
    fleet: _Fleet | None = None
    recorded = current
    moments: list[Moment] = []
    # Times, the servers that there were and those that there would have been; and the one that is measured now.
    past: list[tuple[float, int, int]] = []
    then = 0
    last = -math.inf
    for i, sample in enumerate(series):
        if not _real(sample.at) or not last <= sample.at < math.inf:
            raise ConfigError(f"series[{i}].at: {sample.at!r} is not allowed; finite seconds that do not go back")
        last = float(sample.at)
        recorded = recorded if sample.current is None else sample.current
        if recorded is None:
            raise ConfigError(f"series[{i}].current: missing; say how many servers there were, or give current")
        if fleet is None:
            fleet = _Fleet(recorded if current is None else current)
        fleet.advance(last)
        if not carry_out:
            fleet = _Fleet(recorded)
        seen = {name: _seen(name, value) for name, value in sample.metrics.items()}
        past.append((last, recorded, fleet.ready))
        while then + 1 < len(past) and past[then + 1][0] <= last - delay:
            then += 1
        _, over, ready = past[then]
        if carry_out and ready != over:
            for name in means:
                value = seen.get(name)
                if value is not None:
                    # Without a server nobody measures a mean; what is to be done is as much as there is.
                    seen[name] = value * over / ready if ready else value * over
            for name in counted:
                if seen.get(name) is not None:
                    seen[name] = float(ready)
        asked, warming = fleet.ready + fleet.warming, fleet.warming
        observation = {"current": fleet.ready, "desired": asked, "warming": warming, "metrics": seen}
        answer = asked_policy.recommend(observation, now=last)
        moments.append(
            Moment(
                last,
                seen,
                fleet.ready,
                warming,
                asked,
                answer,
                _bound(answer, found),
                _projected(found, seen, fleet.ready, answer.desired),
            )
        )
        if carry_out:
            fleet.become(answer.desired, last, float(cold_start))
    return Timeline(type(policy).__name__, found, tuple(moments))


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _seen(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if not _real(value) or not math.isfinite(value):
        raise MetricError(f"{name}: {value!r} is not allowed; a finite number, or None")
    return float(value)


class _Fleet:
    """Servers that are ready and servers that start."""

    def __init__(self, ready: int) -> None:
        self.ready = ready
        self.starting: list[tuple[float, int]] = []

    @property
    def warming(self) -> int:
        return sum(count for _, count in self.starting)

    def advance(self, now: float) -> None:
        self.ready += sum(count for at, count in self.starting if at <= now)
        self.starting = [(at, count) for at, count in self.starting if at > now]

    def become(self, desired: int, now: float, cold_start: float) -> None:
        more = desired - self.ready - self.warming
        if more > 0:
            self.starting.append((now + cold_start, more))
            self.advance(now)
        while more < 0 and self.starting:
            # The youngest that starts goes first.
            at, count = self.starting.pop()
            gone = min(count, -more)
            more += gone
            if count > gone:
                self.starting.append((at, count - gone))
        if more < 0:
            self.ready = max(0, self.ready + more)
