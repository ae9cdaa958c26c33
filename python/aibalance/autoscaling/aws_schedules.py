"""Simple, scheduled and predictive scaling, by the rules of AWS Auto Scaling.

Sources: the EC2 Auto Scaling user guide (last public Markdown edition, 2023-06) and the service models of botocore
1.44.5. docs/cloud-policies.md says what AWS does not publish and what we do there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._core import CloudEngine
from .._errors import ConfigError
from . import _cron
from ._cloud import CloudPolicy, UnixClock, as_tuple
from .policy import Clock

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["PredictiveScaling", "ScheduledAction", "ScheduledScaling", "SimpleScaling"]


@dataclass(frozen=True, kw_only=True)
class SimpleScaling(CloudPolicy):
    """One adjustment when an alarm sounds, then nothing until it is carried out and a cooldown has passed.

    `metric`, `threshold`, `direction` ("high" or "low"): the alarm sounds at or beyond the threshold. `alarm` ((3, 3)):
    (m, n), m of the last n periods; None decides on each observation. `period` (60.0): seconds.
    `adjustment`: by how much; `adjustment_type`: "change_in_capacity", "percent_change_in_capacity" (rounded as in step
    scaling) or "exact_capacity". `min_adjustment_magnitude` (None): the least change, of percentages.
    `cooldown` (300.0): seconds, from when the last instance has been launched or terminated: when an observation shows
    `current` at what was asked for, and nothing `warming`. Until then the policy waits as well.
    `min_capacity` (1), `max_capacity`: bounds. `clock` (None): None is `time.monotonic`.

    Raises ConfigError. Source: see the module.

    >>> policy = SimpleScaling(metric="cpu", threshold=80, adjustment=2, max_capacity=20, alarm=None)
    >>> policy.recommend({"current": 4, "metrics": {"cpu": 85}}, now=0.0).desired
    6
    >>> policy.recommend({"current": 6, "metrics": {"cpu": 85}}, now=100.0).limited_by
    'cooldown'
    >>> policy.recommend({"current": 6, "metrics": {"cpu": 85}}, now=400.0).desired
    8
    """

    metric: str
    threshold: float
    adjustment: int
    max_capacity: int
    min_capacity: int = 1
    direction: Literal["high", "low"] = "high"
    adjustment_type: Literal["change_in_capacity", "percent_change_in_capacity", "exact_capacity"] = (
        "change_in_capacity"
    )
    min_adjustment_magnitude: int | None = None
    cooldown: float = 300.0
    alarm: tuple[int, int] | None = (3, 3)
    period: float = 60.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        alarm: object = self.alarm
        if isinstance(alarm, list):
            object.__setattr__(self, "alarm", tuple(alarm))
        self._begin("simple_scaling", self.clock)


@dataclass(frozen=True, kw_only=True)
class ScheduledAction:
    """What a group is set to when its time has come.

    `recurrence`: a cron expression of five fields. `time_zone` ("UTC"): an IANA name; the clock changes of daylight
    saving are followed: an hour that does not exist is due at once after the change, one that comes twice only once.
    `start`, `end` (None): Unix seconds between which it counts. `min_capacity`, `max_capacity`, `desired` (None): what
    it sets, one or more. `name`: as in the trace.

    >>> ScheduledAction(name="morning", recurrence="0 9 * * MON-FRI", time_zone="Europe/Berlin", min_capacity=6).name
    'morning'
    """

    name: str
    recurrence: str
    time_zone: str = "UTC"
    start: float | None = None
    end: float | None = None
    min_capacity: int | None = None
    max_capacity: int | None = None
    desired: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduledScaling(CloudPolicy):
    """Actions that set bounds or capacity at their time, each once.

    `actions`: `ScheduledAction`s of different names. `min_capacity`, `max_capacity`: the group's bounds until an action
    sets others; they are part of the memory. Actions due since the last question are carried out in order of time, of
    each the last time only; those before the first question are not made up for. An action whose bounds would cross
    the group's is left out, and told.
    `clock` (None): Unix time, as `now` has to be. Raises ConfigError; needs the extra `schedules`.
    Source: see the module; the calendar is cronsim's, by Debian's rules for daylight saving.

    >>> policy = ScheduledScaling(
    ...     actions=[ScheduledAction(name="open", recurrence="0 9 * * MON-FRI", min_capacity=6)],
    ...     min_capacity=1,
    ...     max_capacity=10,
    ... )
    >>> monday = 1_704_099_600.0  # 2024-01-01, 9:00 UTC
    >>> [policy.recommend({"current": 4}, now=monday + s).desired for s in (-60, 0)]
    [4, 6]
    """

    actions: Sequence[ScheduledAction]
    max_capacity: int
    min_capacity: int = 1
    clock: Clock | None = None

    def __post_init__(self) -> None:
        plain = as_tuple(self, "actions", ScheduledAction)
        names = [a.name for a in self.actions]
        for n, action in enumerate(self.actions):
            field = f"actions[{n}]"
            if names.index(action.name) != n:
                raise ConfigError(f"{field}.name: {action.name!r} is not allowed; a name that no other action has")
            _cron.check(field, action.recurrence, action.time_zone)
            for bound in ("start", "end"):
                value = getattr(action, bound)
                number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**53
                if value is not None and not number:
                    raise ConfigError(f"{field}.{bound}: {value!r} is not allowed; Unix seconds of 0 or more, or None")
        self._begin("scheduled_scaling", self.clock or UnixClock(), actions=plain)

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """What the group is set to at `now` (Unix seconds); see `NativePolicy.recommend`."""
        now = self._now() if now is None else now
        CloudEngine.asked(observation)
        seen = self._engine.state()["seen"]
        due = [] if seen is None else sorted(self._due(seen / 1e9, now), key=lambda item: item[0])
        return self._native.recommend(observation, now, {"due": [action for _, action in due]})

    def _due(self, since: float, now: float) -> Iterable[tuple[float, dict[str, Any]]]:
        for a in self.actions:
            upto = now if a.end is None else min(now, a.end)
            at = _cron.last_due(a.recurrence, a.time_zone, upto) if upto > since else None
            if at is None or at <= since or (a.start is not None and at < a.start):
                continue
            sets = {"min_capacity": a.min_capacity, "max_capacity": a.max_capacity, "desired": a.desired}
            yield at, {"name": a.name, **sets}


@dataclass(frozen=True, kw_only=True)
class PredictiveScaling(CloudPolicy):
    """A forecast raises capacity before it is needed; it never lowers it.

    Give it a forecast with `set_forecast`, as often as there is a new one (AWS: every 6 hours, for 48, by the hour).
    Combine it with reactive policies by the larger number.

    `mode` ("forecast_only"): or "forecast_and_scale". The first only tells what it would do.
    `scheduling_buffer_time` (300.0): seconds, up to 3600, before a period of the forecast at which its capacity is
    launched: the time until an instance serves.
    `target` (None): None if the forecast is in instances, or the load per instance if it is in load.
    `max_capacity_breach` ("honor"): or "increase": a forecast above `max_capacity` raises it, by so many percent more
    than the forecast as `max_capacity_buffer` says (0 to 100), and it stays raised until `reset_max_capacity`.
    `min_capacity` (1), `max_capacity`: bounds. `clock` (None): Unix time, or whatever the forecast's `start` is in.
    Raises ConfigError. Source: see the module.

    >>> policy = PredictiveScaling(mode="forecast_and_scale", max_capacity=40)
    >>> policy.set_forecast([6, 10, 8], start=0.0)
    >>> [policy.recommend({"current": 6}, now=t).desired for t in (0.0, 3299.0, 3300.0)]
    [6, 6, 10]
    """

    max_capacity: int
    min_capacity: int = 1
    mode: Literal["forecast_only", "forecast_and_scale"] = "forecast_only"
    scheduling_buffer_time: float = 300.0
    target: float | None = None
    max_capacity_breach: Literal["honor", "increase"] = "honor"
    max_capacity_buffer: int | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._begin("predictive_scaling", self.clock or UnixClock())

    def set_forecast(self, values: Iterable[float], /, *, start: float, period: float = 3600.0) -> None:
        """Takes a forecast in place of the last: the first of `values` is for `period` seconds from `start` on.

        Values are finite and 0 or more, from 1 to 527040 of them. Raises ConfigError, and changes nothing.
        """
        self._native.learn({"values": list(values), "start": start, "period": period})

    def reset_max_capacity(self) -> None:
        """Sets the upper bound back to `max_capacity`."""
        self._native.learn({"values": None})
