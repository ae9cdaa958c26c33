"""Google's autoscalers: managed instance groups of Compute Engine, and Cloud Run.

Sources: Compute Engine v1, AutoscalingPolicy and Backend (discovery document, revision 20261106); Google Cloud's pages
on autoscaler decisions and on instance autoscaling in Cloud Run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._errors import ConfigError
from . import _cron
from ._cloud import CloudPolicy, UnixClock, as_tuple
from .policy import Clock

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["CloudRun", "GroupSignal", "ManagedInstanceGroup", "ScaleInLimit", "ScalingSchedule"]


@dataclass(frozen=True)
class GroupSignal:
    """One metric that a managed instance group scales by.

    `kind` "utilization": the mean over the instances that serve, which `target` is for: CPU (0.6 by default with
    Google), a custom metric per instance. "group": what the whole group has to do, where `target` is what one instance
    is to take: a single-instance assignment, or requests a second at a backend's `max_rate_per_instance` times its
    utilization target (0.8 by default).

    >>> GroupSignal("requests", 100 * 0.8, kind="group").target
    80.0
    """

    metric: str
    target: float
    kind: Literal["utilization", "group"] = "utilization"


@dataclass(frozen=True)
class ScaleInLimit:
    """How many instances may go within a window: a count, or percent of the peak.

    `max_scaled_in`: a whole number, or percent as text: "20%". `window` (600.0): seconds.

    >>> ScaleInLimit("20%").window
    600.0
    """

    max_scaled_in: int | str
    window: float = 600.0

    def _plain(self) -> dict[str, Any]:
        value: Any = self.max_scaled_in
        if isinstance(value, str):
            digits = value.removesuffix("%")
            if not value.endswith("%") or not (digits.isascii() and digits.isdigit()):
                raise ConfigError(f'max_scaled_in: {value!r} is not allowed; a whole number, or percent as in "20%"')
            return {"max_scaled_in": int(digits), "percent": True, "window": self.window}
        return {"max_scaled_in": value, "percent": False, "window": self.window}


@dataclass(frozen=True, kw_only=True)
class ScalingSchedule:
    """A floor from a cron expression on, for a while.

    `recurrence`: five fields. `duration`: seconds, 300 or more. `min_required_replicas`: the floor. `time_zone`
    ("UTC"): an IANA name. Of several active ones the greatest floor counts.

    >>> ScalingSchedule(recurrence="0 8 * * *", duration=3600, min_required_replicas=8).time_zone
    'UTC'
    """

    recurrence: str
    duration: float
    min_required_replicas: int
    time_zone: str = "UTC"


@dataclass(frozen=True, kw_only=True)
class ManagedInstanceGroup(CloudPolicy):
    """Compute Engine's autoscaler: the largest of what the signals ask for, held for a stabilization period.

    Observations: `current` the instances that serve; those that initialize are `warming` and do not count in the
    metrics. Without a value for any signal the size stays.

    `signals`: `GroupSignal`s. `min_replicas` (1), `max_replicas`: bounds. `mode` ("on"): "only_scale_out" never
    removes, "off" never changes anything. `stabilization_period` (600.0): seconds, 0 to 3600; the size serves the peak
    of it. `scale_in_limit` (None): a `ScaleInLimit`. `schedules` (()): up to 128 `ScalingSchedule`s; these raise the
    floor only, and need Unix time and the extra `schedules`. `clock` (None): Unix time.
    Raises ConfigError. Source: see the module. Choice: of a percentage that is no whole instance, none goes.

    >>> policy = ManagedInstanceGroup(signals=[GroupSignal("cpu", 0.6)], max_replicas=50)
    >>> r = policy.recommend({"current": 3, "metrics": {"cpu": 0.9}}, now=0.0)
    >>> r.desired, r.details["recommended"]
    (5, 5)
    """

    max_replicas: int
    signals: Sequence[GroupSignal] = ()
    min_replicas: int = 1
    mode: Literal["on", "only_scale_out", "off"] = "on"
    stabilization_period: float = 600.0
    scale_in_limit: ScaleInLimit | None = None
    schedules: Sequence[ScalingSchedule] = ()
    clock: Clock | None = None

    def __post_init__(self) -> None:
        signals = as_tuple(self, "signals", GroupSignal)
        as_tuple(self, "schedules", ScalingSchedule)
        if not self.signals and not self.schedules:
            raise ConfigError("signals: () is not allowed; one or more signals or schedules")
        if len(self.schedules) > 128:
            raise ConfigError(f"schedules: {len(self.schedules)} of them are not allowed; up to 128")
        for n, s in enumerate(self.schedules):
            _cron.check(f"schedules[{n}]", s.recurrence, s.time_zone)
            if not _real(s.duration) or not 300 <= s.duration <= 31_536_000:
                raise ConfigError(f"schedules[{n}].duration: {s.duration!r} is not allowed; seconds from 300 to a year")
            floor: object = s.min_required_replicas
            if not isinstance(floor, int) or isinstance(floor, bool) or not 0 <= floor < 2**31:
                raise ConfigError(
                    f"schedules[{n}].min_required_replicas: {floor!r} is not allowed; a whole number of 0 or more"
                )
        limit = self.scale_in_limit
        if limit is not None and not isinstance(limit, ScaleInLimit):
            raise ConfigError(f"scale_in_limit: {limit!r} is not allowed; a ScaleInLimit or None")
        self._begin(
            "managed_instance_group",
            self.clock or UnixClock(),
            signals=signals,
            schedules=(),
            scale_in_limit=None,
            scale_in_control=() if limit is None else (limit._plain(),),
        )

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """The size of the group at `now` (Unix seconds, where there are schedules); see `NativePolicy.recommend`."""
        now = self._now() if now is None else now
        return self._native.recommend(observation, now, {"floors": list(self._floors(now))} if self.schedules else None)

    def _floors(self, now: float) -> Iterator[int]:
        for s in self.schedules:
            at = _cron.last_due(s.recurrence, s.time_zone, now)
            if at is not None and now < at + s.duration:
                yield s.min_required_replicas


@dataclass(frozen=True, kw_only=True)
class CloudRun(CloudPolicy):
    """Cloud Run's instances: the larger of what concurrency and CPU ask for.

    Metrics are averages over a minute: `metric` ("in_flight"), the requests in flight of the service, and `cpu_metric`
    ("cpu"), the mean utilization of its instances, 0 to 1; one of them is enough.
    `max_concurrency` (80): requests that an instance takes at once, 1 to 1000. `concurrency_target` (0.6), `cpu_target`
    (0.6): shares of it to aim at, 0.1 to 0.95. `min_instances` (0), `max_instances` (100): bounds; Google may go over
    the upper one for a moment, this policy does not. `clock` (None): None is `time.monotonic`.
    Raises ConfigError. Source: see the module.

    >>> CloudRun().recommend({"current": 2, "metrics": {"in_flight": 100}}, now=0.0).desired
    3
    """

    max_concurrency: int = 80
    concurrency_target: float = 0.6
    cpu_target: float = 0.6
    min_instances: int = 0
    max_instances: int = 100
    metric: str = "in_flight"
    cpu_metric: str = "cpu"
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._begin("cloud_run", self.clock)


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
