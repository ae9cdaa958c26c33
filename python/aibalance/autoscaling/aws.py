"""Target tracking, step scaling and their combination, by the rules of AWS Auto Scaling.

Sources: the EC2 Auto Scaling user guide (last public Markdown edition, 2023-06, and its 2022-05 text on warm-up), the
Application Auto Scaling user guide, the service models of botocore 1.44.5. docs/autoscaling.md says what AWS does not
publish and what we do there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .._core import ScalingEngine
from .._errors import ConfigError, MetricError
from .policy import Clock, NativePolicy

__all__ = ["Combined", "Step", "StepScaling", "TargetTracking", "effective_warmup", "warm_metric"]


@dataclass(frozen=True, kw_only=True)
class TargetTracking(NativePolicy):
    """As much capacity as brings a metric to its target: `ceil(current * metric / target)`.

    Scales out when the high alarm goes off (metric above `target`), in when the low alarm does (metric below
    `scale_in_ratio * target`). Both directions round to the larger capacity. The metric must be 0 or more and fall as
    capacity grows: utilization, or work per instance. Without data there is no action; a real 0 scales in to
    `min_capacity`.

    `metric`: the name under which observations and samples carry it.
    `target`: the value to hold it at, above 0.
    `min_capacity` (1), `max_capacity`: bounds of what is recommended, always.
    `disable_scale_in` (False): only ever scales out.
    `scale_in_ratio` (0.9): above 0, at most 1.
    `high_alarm` ((3, 3)), `low_alarm` ((15, 15)): (m, n), go off when m of the last n periods breach. Only periods
    that have ended count, and one without a sample does not breach. None decides on the metric of each observation.
    `period` (60.0): seconds.
    `warmup` (0.0): seconds that capacity takes from the decision until it counts. Use it when observations cannot say
    what is `warming`. Warming capacity counts as there for the next scale-out, and blocks scale-in.
    `scale_out_cooldown` (0.0): seconds after a scale-out in which what it added counts toward the next one.
    `scale_in_cooldown` (0.0): seconds after a scale-in without another; a scale-out ends it.
    `scale_from_zero` (False): at capacity 0 a metric above the target asks for 1, where the formula stays at 0.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. The decision is O(1) but for the alarm's periods.
    Source: see the module; AWS publishes the rounding and the proportion, the alarms are its observed defaults.

    >>> policy = TargetTracking(metric="backlog", target=100, max_capacity=50, high_alarm=None, low_alarm=None)
    >>> r = policy.recommend({"current": 10, "metrics": {"backlog": 150}}, now=0.0)
    >>> r.desired, r.action, r.details["need"]
    (15, 'scale_out', 15.0)
    """

    metric: str
    target: float
    max_capacity: int
    min_capacity: int = 1
    disable_scale_in: bool = False
    scale_in_ratio: float = 0.9
    high_alarm: tuple[int, int] | None = (3, 3)
    low_alarm: tuple[int, int] | None = (15, 15)
    period: float = 60.0
    warmup: float = 0.0
    scale_out_cooldown: float = 0.0
    scale_in_cooldown: float = 0.0
    scale_from_zero: bool = False
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "high_alarm")
        _as_tuple(self, "low_alarm")
        self._start(ScalingEngine.target_tracking(self), self.clock)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: by how much capacity changes while the metric is between two bounds.

    `adjustment`: a whole number; what it means says the policy's `adjustment_type`.
    `lower`, `upper`: bounds relative to the alarm's threshold, in the metric's unit; None is infinity. On the high side
    the lower bound belongs to the step, on the low side the upper one.

    >>> Step(lower=0, upper=15, adjustment=1)  # one more, while the metric is less than 15 above the threshold
    Step(adjustment=1, lower=0, upper=15)
    """

    adjustment: int
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepScaling(NativePolicy):
    """The farther a metric is beyond an alarm's threshold, the larger the change.

    `metric`: the name under which observations and samples carry it.
    `threshold`: the alarm's; the steps' bounds are relative to it.
    `steps`: without gap or overlap; at most one without a lower and one without an upper bound, never both in one; a
    positive upper bound needs a step without one, a negative lower bound likewise.
    `min_capacity` (1), `max_capacity`: bounds of what is recommended, always.
    `direction` ("high"): the alarm goes off at or above the threshold; "low": at or below.
    `adjustment_type` ("change_in_capacity"): or "percent_change_in_capacity" (of the capacity that is warm; a change of
    less than one becomes one, a larger one is cut toward zero) or "exact_capacity".
    `min_adjustment_magnitude` (None): a percentage that changes anything changes at least this much.
    `aggregation` ("average"), "minimum" or "maximum": how samples and datapoints become the one value.
    `alarm` (None): (m, n), goes off when m of the last n periods breach; None decides on each observation.
    `period` (60.0): seconds.
    `warmup` (0.0): seconds that capacity takes from the decision until it counts; see TargetTracking.
    `cooldown` (0.0): seconds. After a scale-out, what it added counts toward the next one; after a scale-in there is no
    other, until a scale-out ends it. EC2 has none, Application Auto Scaling 300.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. Source: see the module.

    >>> policy = StepScaling(
    ...     metric="cpu", threshold=60, max_capacity=100, adjustment_type="percent_change_in_capacity",
    ...     steps=[Step(lower=0, upper=15, adjustment=10), Step(lower=15, adjustment=20)],
    ... )
    >>> r = policy.recommend({"current": 20, "metrics": {"cpu": 75}}, now=0.0)
    >>> r.desired, r.details["step"], r.details["adjustment"]
    (24, 1, 4)
    """

    metric: str
    threshold: float
    steps: Sequence[Step]
    max_capacity: int
    min_capacity: int = 1
    direction: Literal["high", "low"] = "high"
    adjustment_type: Literal["change_in_capacity", "percent_change_in_capacity", "exact_capacity"] = (
        "change_in_capacity"
    )
    min_adjustment_magnitude: int | None = None
    aggregation: Literal["average", "minimum", "maximum"] = "average"
    alarm: tuple[int, int] | None = None
    period: float = 60.0
    warmup: float = 0.0
    cooldown: float = 0.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "steps")
        _as_tuple(self, "alarm")
        self._start(ScalingEngine.step_scaling(self), self.clock)


@dataclass(frozen=True)
class Combined(NativePolicy):
    """Several policies on one group: the largest capacity wins, for scale-out and for scale-in.

    It scales out if any policy wants to. It scales in only if every target tracking policy that may scale in wants to;
    step scaling scales in by itself. A step that matches and asks for no change is an opinion (this capacity is right);
    a policy whose alarm is quiet has none.

    `policies`: TargetTracking, StepScaling or Combined, taken with their configuration and an empty memory of their
    own: samples go to this object's `record`, and only this object's clock is read.
    `min_capacity`, `max_capacity` (None): bounds; None is the smallest lower and the largest upper one of the policies.

    Raises ConfigError. Source: see the module.

    >>> direct = {"max_capacity": 20, "high_alarm": None, "low_alarm": None}
    >>> policy = Combined([
    ...     TargetTracking(metric="cpu", target=50, **direct),
    ...     TargetTracking(metric="queue", target=8, **direct),
    ... ])
    >>> policy.recommend({"current": 10, "metrics": {"cpu": 20, "queue": 10}}, now=0.0).desired
    13
    """

    policies: Sequence[TargetTracking | StepScaling | Combined]
    min_capacity: int | None = None
    max_capacity: int | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "policies")
        members: object = self.policies
        if not isinstance(members, tuple):
            raise ConfigError(f"policies: {members!r} is not allowed; a sequence of policies")
        engines = []
        for i, policy in enumerate(members):
            if not isinstance(policy, NativePolicy) or not isinstance(policy._engine, ScalingEngine):
                raise ConfigError(f"policies[{i}]: {policy!r} is not allowed; TargetTracking, StepScaling or Combined")
            engines.append(policy._engine)
        self._start(ScalingEngine.combined(engines, self), self.clock)


def _as_tuple(config: object, field: str) -> None:
    """Sequences are kept as tuples, so that a configuration is hashable and does not change."""
    value = getattr(config, field)
    if isinstance(value, Iterable) and not isinstance(value, (tuple, str, bytes)):
        object.__setattr__(config, field, tuple(value))


def effective_warmup(*, estimated: float | None, default: float | None, cooldown: float = 300.0) -> float:
    """How many seconds new capacity warms up, by AWS's order: the policy's own, else the group's, else the cooldown.

    `estimated`: the policy's EstimatedInstanceWarmup. `default`: the group's DefaultInstanceWarmup, where -1 means that
    there is none. `cooldown` (300.0): the group's DefaultCooldown. 0 is a value, None is not.
    Raises ConfigError for negative or non-finite seconds. Source: EC2 Auto Scaling user guide, available warm-up and
    cooldown settings.

    >>> effective_warmup(estimated=None, default=0)
    0.0
    >>> effective_warmup(estimated=None, default=-1)
    300.0
    """
    chain: dict[str, object] = {
        "estimated": estimated,
        "default": None if default == -1 else default,
        "cooldown": cooldown,
    }
    for field, value in chain.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value < float("inf")):  # type: ignore[operator]
            raise ConfigError(f"{field}: {value!r} is not allowed; finite seconds of 0 or more, or None")
    for seconds in (chain["estimated"], chain["default"], chain["cooldown"]):
        if isinstance(seconds, (int, float)):
            return float(seconds)
    raise ConfigError("cooldown: None is not allowed; it is what remains without the others")


def warm_metric(
    instances: Iterable[tuple[float | None, bool]],
    /,
    *,
    aggregation: Literal["average", "minimum", "maximum"] = "average",
) -> float | None:
    """The metric of a group, of pairs (value, warming) of its instances: warming ones and missing values do not count.

    None if nothing counts. Raises MetricError for a value that is not finite. Source: EC2 Auto Scaling user guide,
    available warm-up and cooldown settings.

    >>> warm_metric([(90, False), (70, False), (5, True)])
    80.0
    """
    values = []
    for i, (value, warming) in enumerate(instances):
        if value is None or warming:
            continue
        number = float(value)
        if not abs(number) < float("inf"):
            raise MetricError(f"instances[{i}]: {value!r} is not a usable metric; a finite number, or None is allowed")
        values.append(number)
    if aggregation not in ("average", "minimum", "maximum"):
        raise ConfigError(f"aggregation: {aggregation!r} is not allowed; one of average, minimum, maximum")
    if not values:
        return None
    if aggregation == "average":
        # Each share is divided first: the sum of huge values would overflow.
        return sum(v / len(values) for v in values) if max(map(abs, values)) > 1e300 else sum(values) / len(values)
    return min(values) if aggregation == "minimum" else max(values)
