"""A scaled object together with the autoscaler that KEDA makes for it: the number that one sees in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from ._aims import Aim, aims
from ._told import counts, told
from .hpa import HorizontalPodAutoscaler
from .keda import KedaScaledObject

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["KedaAutoscaler"]


@dataclass(frozen=True)
class KedaAutoscaler:
    """KEDA's scaled object from nothing to the first replica and back, and its autoscaler for all between.

    `KedaScaledObject` alone leaves the range from one to many to the autoscaler that `hpa_manifest` describes, as KEDA
    does. This asks both, in KEDA's order: while there are replicas and the scaled object does not act, the autoscaler
    decides, on what the triggers say (after fallback and formula).

    `scaled_object`: the first. `tolerance` (0.1), `downscale_stabilization` (300.0): flags of the cluster's controller.
    The clock is the scaled object's. Observations are those of `KedaScaledObject`. Raises ConfigError.
    Source: see `KedaScaledObject` and `HorizontalPodAutoscaler`.

    >>> from aibalance.autoscaling.keda import Trigger
    >>> policy = KedaAutoscaler(KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)], max_replicas=20))
    >>> [policy.recommend({"current": n, "metrics": {"queue": 35}}, now=t).desired for n, t in ((0, 0.0), (1, 15.0))]
    [1, 4]
    """

    scaled_object: KedaScaledObject
    tolerance: float = 0.1
    downscale_stabilization: float = 300.0
    _hpa_inside: HorizontalPodAutoscaler = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.scaled_object, KedaScaledObject):
            raise ConfigError(f"scaled_object: {self.scaled_object!r} is not allowed; a KedaScaledObject")
        hpa = HorizontalPodAutoscaler.from_manifest(
            self.scaled_object.hpa_manifest(),
            tolerance=self.tolerance,
            downscale_stabilization=self.downscale_stabilization,
        )
        object.__setattr__(self, "_hpa_inside", hpa)
        object.__setattr__(self, "_last", None)
        object.__setattr__(self, "_serial", 0)

    @property
    def min_replicas(self) -> int:
        """The fewest replicas: idle ones, if there are, else the scaled object's minimum."""
        one = self.scaled_object
        return one.min_replicas or 0 if one.idle_replicas is None else one.idle_replicas

    @property
    def max_replicas(self) -> int:
        """The most replicas."""
        return max(self.scaled_object.max_replicas, self.scaled_object.paused_replicas or 0)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The names of the triggers."""
        return tuple(t.name for t in self.scaled_object.triggers)

    def _aims(self) -> list[Aim]:
        return [replace(aim, out=self.tolerance, into=self.tolerance) for aim in aims(self.scaled_object)]

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many replicas there will be; see `KedaScaledObject.recommend`."""
        at = self.scaled_object._now() if now is None else now
        keda = self.scaled_object.recommend(observation, now=at)
        current, asked, metrics = counts(observation)
        inner: Recommendation | None = None
        if keda.details["hpa"] and keda.desired == asked:
            inner = self._hpa_inside.recommend(self._seen(current, asked, metrics, keda.details), now=at)
        object.__setattr__(self, "_serial", self._serial + 1)  # type: ignore[attr-defined]
        by = keda if inner is None else inner
        stages = {f"keda.{name}": value for name, value in keda.trace if name not in ("current", "asked")}
        if inner is not None:
            stages |= {f"hpa.{name}": value for name, value in inner.trace if name not in ("current", "asked")}
        silent = inner is not None and inner.action == "insufficient_data"
        answer = told(
            current=current,
            asked=asked,
            desired=by.desired,
            limited_by=by.limited_by if by.limited_by is not None else keda.limited_by,
            reason=by.reason,
            trace={"by": "keda" if inner is None else "hpa", **stages},
            serial=self._serial,  # type: ignore[attr-defined]
            now=at,
            missing=silent or keda.action == "insufficient_data",
        )
        object.__setattr__(self, "_last", (answer, keda, inner))
        return answer

    def _seen(self, current: int, asked: int, metrics: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
        """What the triggers say, under the names of the generated autoscaler."""
        seen: dict[str, Any] = {}
        for i, t in enumerate(self.scaled_object.triggers):
            if t.type in ("cpu", "memory"):
                seen[t.type] = metrics.get(t.name)
            elif self.scaled_object.modifiers is None:
                name = t.metric_name if t.metric_name is not None else f"{t.type}-{t.name}"
                seen[f"s{i}-{name}"] = details["metrics"].get(t.name)
        if self.scaled_object.modifiers is not None:
            seen["composite-metric"] = details["composite"]
        return {"current": current, "desired": asked, "metrics": seen}

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """What a trigger answered last; see `KedaScaledObject.record`."""
        self.scaled_object.record(name, value, at=at)

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that this recommendation was carried out, if it is the last one."""
        last = self._last  # type: ignore[attr-defined]
        if last is not None and last[0] == recommendation:
            (self._hpa_inside if last[2] is not None else self.scaled_object).rejected(last[2] or last[1])

    def state(self) -> dict[str, Any]:
        """The memories of both, as a plain dictionary that JSON can carry."""
        return {"scaled_object": self.scaled_object.state(), "hpa": self._hpa_inside.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit."""
        given: object = state
        if not isinstance(given, dict) or set(given) != {"scaled_object", "hpa"}:
            raise ConfigError(f"state: {type(state).__name__} is not allowed; a dictionary, as state() gives")
        before = self.scaled_object.state()
        self.scaled_object.restore(given["scaled_object"])
        try:
            self._hpa_inside.restore(given["hpa"])
        except BaseException:
            self.scaled_object.restore(before)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        # The configuration travels; the memory travels through state() and restore().
        return KedaAutoscaler, (self.scaled_object, self.tolerance, self.downscale_stabilization)
