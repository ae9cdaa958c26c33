"""Proportional scaling with the usual filters, each of which can be left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._core import ProportionalEngine
from .policy import Clock, NativePolicy

__all__ = ["ProportionalScaling", "QueueScaling"]


@dataclass(frozen=True, kw_only=True)
class ProportionalScaling(NativePolicy):
    """As many servers as bring a metric to its target, through filters that are common to most autoscalers.

    The stages are, in this order: raw need (rounded up), tolerance, bounds, stabilization, limit of growth, limit of
    shrinking, cooldown, bounds. Without data it does nothing. It decides on each observation and records no samples.

    `metric`: the name under which observations carry it; 0 or more.
    `target`: the value to hold it at; for a total what one server takes. Above 0.
    `max_capacity`, `min_capacity` (1): bounds of what is recommended, always.
    `metric_type` ("average"): a mean over the servers, `servers * metric / target`; "total": a sum, `metric / target`.
    `measured` (None): the metric that says over how many servers the mean was taken; None is `current`. Use it when the
    metric is late.
    `tolerance` (0.0): no action while the metric is this near to the target, relatively.
    `stabilization` (0.0): seconds; a scale-in goes no lower than the highest recommendation of this time.
    `growth_factor`, `growth_step` (None): a decision grows at most to `growth_factor` times the capacity or by
    `growth_step`, whichever is more.
    `shrink_share` (None): a decision gives up at most this share, and leaves the rest rounded up.
    `cooldown` (0.0): seconds after a change without another one.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. Source: the rules of `autoscale_loop` in our theory vectors; the filters are those of
    Kubernetes, AIBrix and AWS in their simplest form.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> policy = ProportionalScaling(metric="utilization", target=0.5, max_capacity=20, growth_factor=2)
    >>> r = policy.recommend({"current": 3, "metrics": {"utilization": 1.2}}, now=0.0)
    >>> r.desired, r.limited_by
    (6, 'scale_up_limit')
    """

    metric: str
    target: float
    max_capacity: int
    min_capacity: int = 1
    metric_type: Literal["average", "total"] = "average"
    measured: str | None = None
    tolerance: float = 0.0
    stabilization: float = 0.0
    growth_factor: float | None = None
    growth_step: int | None = None
    shrink_share: float | None = None
    cooldown: float = 0.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._start(ProportionalEngine(self), self.clock)


@dataclass(frozen=True, kw_only=True)
class QueueScaling(NativePolicy):
    """A change of capacity for each range of a metric, such as the length of a queue.

    `metric`: the name under which observations carry it; 0 or more.
    `steps`: triples (low, high, change); the first with `low <= metric < high` counts, None is no bound. A metric in
    none of them changes nothing.
    The other fields are those of `ProportionalScaling`.

    Raises ConfigError. Source: `queue_steps` in the rules of `autoscale_loop` in our theory vectors.

    >>> from aibalance.autoscaling import QueueScaling
    >>> policy = QueueScaling(metric="queue", steps=[(0, 1, -1), (100, 500, 1), (500, None, 4)], max_capacity=20)
    >>> policy.recommend({"current": 3, "metrics": {"queue": 620}}, now=0.0).desired
    7
    """

    metric: str
    steps: Sequence[tuple[float | None, float | None, int]]
    max_capacity: int
    min_capacity: int = 1
    stabilization: float = 0.0
    growth_factor: float | None = None
    growth_step: int | None = None
    shrink_share: float | None = None
    cooldown: float = 0.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        steps: Any = self.steps
        if isinstance(steps, Iterable) and not isinstance(steps, (str, bytes)):
            rows = tuple(tuple(row) if isinstance(row, list) else row for row in steps)
            object.__setattr__(self, "steps", rows)
        self._start(ProportionalEngine(self), self.clock)
