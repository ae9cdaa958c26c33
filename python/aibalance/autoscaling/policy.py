"""What every scaling policy does, and what a policy of your own has to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from .._errors import ConfigError

if TYPE_CHECKING:
    from .._core import (
        CloudEngine,
        HpaEngine,
        KedaEngine,
        KnativeEngine,
        Observation,
        ProportionalEngine,
        Recommendation,
        ScalingEngine,
    )

    Engine: TypeAlias = ScalingEngine | HpaEngine | KedaEngine | KnativeEngine | CloudEngine | ProportionalEngine

__all__ = ["Clock", "NativePolicy", "Policy"]


class Clock(Protocol):
    """Anything that tells the time in float seconds: `SystemClock`, `ManualClock`, or your own."""

    def now(self) -> float:
        """Seconds since an origin of its own."""
        ...


@runtime_checkable
class Policy(Protocol):
    """A scaling policy, ours or yours."""

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed."""
        ...

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Takes up one sample of a metric."""
        ...

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that the recommendation was carried out."""
        ...

    def state(self) -> dict[str, Any]:
        """The memory as a plain dictionary."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over a memory."""
        ...


class NativePolicy:
    """The part that our policies share: configuration is the dataclass, memory is native."""

    _engine: Engine
    _now: Callable[[], float]

    def _start(self, engine: Engine, clock: Clock | None) -> None:
        now = time.monotonic if clock is None else getattr(clock, "now", None)
        if not callable(now):
            raise ConfigError(f"clock: {clock!r} is not allowed; an object with now() -> float seconds, or None")
        object.__setattr__(self, "_engine", engine)
        object.__setattr__(self, "_now", now)

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """How many servers there should be, given what is observed at `now` (seconds; None asks the clock).

        The policy's memory assumes that the recommendation is carried out; if it is not, say so with `rejected`.
        Raises MetricError for an observation that cannot be used; nothing of it is remembered then.
        """
        return self._engine.recommend(observation, self._now() if now is None else now)

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """Takes up one sample of a metric, taken `at` these seconds of the policy's clock; None is a gap.

        Samples become one datapoint a period. A policy without an alarm uses the newest datapoint when an observation
        leaves the metric out. Raises MetricError for a value that cannot be used, or a name the policy does not read.
        """
        self._engine.record(name, value, at)

    def rejected(self, recommendation: Recommendation) -> None:
        """Takes back the assumption that this recommendation was carried out: its cooldown, its warm-up, its datapoint.

        Does nothing for one that asked for no change, that was taken back already, or after which the policy asked for
        another change.
        """
        self._engine.rejected(recommendation)

    def state(self) -> dict[str, Any]:
        """The memory (samples, cooldowns, warm-ups) as a plain dictionary that JSON can carry.

        Instants in it are nanoseconds of the policy's clock: across processes use a clock that they share.
        """
        return self._engine.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this policy."""
        self._engine.restore(state)

    def __reduce__(self) -> tuple[Any, ...]:
        # The configuration travels; the memory travels through state() and restore().
        config = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return _rebuild, (type(self), config)


T = TypeVar("T")


def _rebuild(cls: Callable[..., T], config: dict[str, Any]) -> T:
    return cls(**config)
