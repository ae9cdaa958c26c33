"""Filters that go over any policy, ours or yours: each is a policy that asks another one first.

Sources: Compute Engine's autoscaler, Kubernetes' HPA, Azure Monitor; see docs/cloud-policies.md for the order to put
them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .._core import CloudEngine
from .._errors import ConfigError
from ._cloud import CloudPolicy, as_tuple
from .gcp import ScaleInLimit
from .policy import Clock, Policy

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["FlappingGuard", "ScaleInControl", "ScaleOutThreshold", "StabilizationWindow", "Tolerance"]


class _Filter(CloudPolicy):
    policy: Policy

    def _over(self, kind: str, clock: Clock | None, **config: Any) -> None:
        if not isinstance(self.policy, Policy):
            raise ConfigError(f"policy: {self.policy!r} is not allowed; a scaling policy")
        self._start(CloudEngine(kind, config), clock)

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """What the policy proposes, after this filter; see `NativePolicy.recommend`."""
        now = self._now() if now is None else now
        CloudEngine.asked(observation)
        inner = self.policy.recommend(observation, now=now)
        given = {
            "proposed": inner.desired,
            "policy_reason": inner.reason,
            "policy_limited_by": inner.limited_by,
        }
        result = self._native.recommend(observation, now, given)
        if result.desired != inner.desired:
            # The policy must not count what was not done.
            self.policy.rejected(inner)
        object.__setattr__(self, "_last", (result, inner))
        return result

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Hands a sample to the policy."""
        self.policy.record(name, value, at=at)

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back, in the policy, the assumption that this recommendation was carried out, if it is the last one."""
        last: tuple[Recommendation, Recommendation] | None = getattr(self, "_last", None)
        if last is not None and last[0] == recommendation and last[0].desired == last[1].desired:
            self.policy.rejected(last[1])

    def state(self) -> dict[str, Any]:
        """The memory of the filter and of its policy, as a plain dictionary that JSON can carry."""
        return {**self._engine.state(), "policy": self.policy.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit."""
        given: object = state
        if not isinstance(given, dict) or "policy" not in given:
            raise ConfigError(f"state: {type(state).__name__} is not allowed; a dictionary, as state() gives")
        own = {key: value for key, value in state.items() if key != "policy"}
        before = self._engine.state()
        self._engine.restore(own)
        try:
            self.policy.restore(state["policy"])
        except BaseException:
            self._engine.restore(before)
            raise


@dataclass(frozen=True)
class StabilizationWindow(_Filter):
    """Scales in only to the peak of what was proposed in a window, and out only to the lowest of another.

    `policy`: whose proposals are filtered. `scale_in` (300.0), `scale_out` (0.0): seconds. What there is when it is
    first asked counts as proposed. `clock` (None): None is `time.monotonic`. Raises ConfigError.
    Source: Kubernetes' HPA behaviors; with `scale_out=0` also Compute Engine's stabilization period.

    >>> from aibalance.autoscaling import CloudRun
    >>> policy = StabilizationWindow(CloudRun(), scale_in=600.0)
    >>> busy, idle = ({"current": 10, "metrics": {"in_flight": n}} for n in (480, 48))
    >>> [policy.recommend(o, now=t).desired for o, t in ((busy, 0.0), (idle, 60.0), (idle, 600.0))]
    [10, 10, 1]
    """

    policy: Policy
    scale_in: float = 300.0
    scale_out: float = 0.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._over("stabilization_window", self.clock, scale_in=self.scale_in, scale_out=self.scale_out)


@dataclass(frozen=True)
class ScaleInControl(_Filter):
    """Never fewer than the peak of a window less what may go at once.

    `policy`; `limit`: a `ScaleInLimit`, a count or percent of the peak and the window. A part of an instance that may
    go is none. `clock` (None). Raises ConfigError. Source: Compute Engine v1, AutoscalingPolicyScaleInControl.

    >>> from aibalance.autoscaling import CloudRun, ScaleInLimit
    >>> policy = ScaleInControl(CloudRun(), ScaleInLimit(2))
    >>> policy.recommend({"current": 10, "metrics": {"in_flight": 48}}, now=0.0).desired
    8
    """

    policy: Policy
    limit: ScaleInLimit
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.limit, ScaleInLimit):
            raise ConfigError(f"limit: {self.limit!r} is not allowed; a ScaleInLimit")
        self._over("scale_in_control", self.clock, **self.limit._plain())


@dataclass(frozen=True)
class ScaleOutThreshold:
    """What makes a policy scale out: a metric per instance, and where.

    `op` (">="): ">" or ">=".

    >>> ScaleOutThreshold("cpu", 80).op
    '>='
    """

    metric: str
    threshold: float
    op: Literal[">", ">="] = ">="


@dataclass(frozen=True)
class FlappingGuard(_Filter):
    """Scales in only as far as would not at once lead to scaling out: `metric * n / (n - k)` stays short of it.

    `policy`; `scale_out`: the `ScaleOutThreshold`s of it. A smaller step is tried, and with none, or without a value
    for one of the metrics, nothing is removed. `clock` (None). Raises ConfigError. Source: Azure Monitor, flapping.

    >>> from aibalance.autoscaling import Step, StepScaling
    >>> steps = StepScaling(
    ...     metric="cpu", threshold=60, direction="low", steps=[Step(upper=0, adjustment=-1)], max_capacity=9
    ... )
    >>> policy = FlappingGuard(steps, [ScaleOutThreshold("cpu", 80)])
    >>> policy.recommend({"current": 3, "metrics": {"cpu": 60}}, now=0.0).desired
    3
    >>> policy.recommend({"current": 3, "metrics": {"cpu": 50}}, now=1.0).details["projected"]
    {'cpu': 75.0}
    """

    policy: Policy
    scale_out: Sequence[ScaleOutThreshold]
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._over("flapping_guard", self.clock, scale_out=as_tuple(self, "scale_out", ScaleOutThreshold))


@dataclass(frozen=True)
class Tolerance(_Filter):
    """Leaves alone what is almost right: a change by no more than a share of what is asked for.

    `policy`; `scale_out` (0.1), `scale_in` (0.1): shares from 0 to 1. `clock` (None). Raises ConfigError. A tolerance
    swallows whole steps at large sizes: with 0.1, ten do not become eleven.

    >>> from aibalance.autoscaling import CloudRun
    >>> policy = Tolerance(CloudRun(), scale_in=0.25)
    >>> policy.recommend({"current": 4, "metrics": {"in_flight": 140}}, now=0.0).limited_by
    'tolerance'
    """

    policy: Policy
    scale_out: float = 0.1
    scale_in: float = 0.1
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._over("tolerance", self.clock, scale_out=self.scale_out, scale_in=self.scale_in)
