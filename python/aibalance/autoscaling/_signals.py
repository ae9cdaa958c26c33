"""What model servers say about themselves, how late they are, and what kinds of work they do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .._errors import ConfigError, MetricError
from ._aims import Aim

__all__ = [
    "WORKLOADS",
    "ColdStart",
    "Composite",
    "GpuMemory",
    "GpuUtilization",
    "KvCacheUsage",
    "QueueLength",
    "Signal",
    "TokenVelocity",
    "Workload",
    "least_zero",
]


def _positive(name: str, value: Any, most: float = math.inf) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 < value <= most or not math.isfinite(value):
        limit = "" if most == math.inf else f", up to {most:g}"
        raise ConfigError(f"{name}: {value!r} is not allowed; a number above 0{limit}")


def least_zero(name: str, value: Any) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not real or not 0 <= value < math.inf:
        raise ConfigError(f"{name}: {value!r} is not allowed; a finite number of 0 or more")


class Signal:
    """A metric, or several, over a target."""

    _kind: ClassVar[Literal["average", "total"]] = "average"
    metric: str

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """The metric over its target; None when it is missing. Raises MetricError for what cannot be used."""
        raise NotImplementedError

    def _aims(self) -> list[Aim]:
        raise NotImplementedError


def _value(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise MetricError(f"{name}: {value!r} is not allowed; a finite number of 0 or more, or None")
    return float(value)


@dataclass(frozen=True)
class QueueLength(Signal):
    """Requests that wait at a replica, on average (vLLM's `num_requests_waiting`): the earliest sign of too little.

    `target` (5.0): above 0. `metric` ("queue").

    >>> QueueLength(4).ratio({"queue": 6})
    1.5
    """

    target: float = 5.0
    metric: str = "queue"

    def __post_init__(self) -> None:
        _positive("target", self.target)

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """The queue over its target."""
        value = _value(metrics, self.metric)
        return None if value is None else value / self.target

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self.target)]


@dataclass(frozen=True)
class GpuUtilization(Signal):
    """How busy GPUs are, a share from 0 to 1 (DCGM's `GPU_UTIL` over 100). It ends at 1, however much waits.

    `target` (0.7): above 0, below 1. `metric` ("gpu_utilization").
    One decision grows at most to 1 / target times the servers; a queue beside it says how far.

    >>> GpuUtilization().ratio({"gpu_utilization": 0.84})
    1.2
    """

    target: float = 0.7
    metric: str = "gpu_utilization"

    def __post_init__(self) -> None:
        _positive("target", self.target, 1.0)
        if self.target == 1:
            raise ConfigError("target: 1 is not allowed; below 1: a utilization never gets above it")

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """The utilization over its target."""
        value = _value(metrics, self.metric)
        return None if value is None else round(value / self.target, 12)

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self.target)]


@dataclass(frozen=True)
class GpuMemory(Signal):
    """Used memory of a GPU, a share from 0 to 1: more servers above the limit, before it runs out.

    `limit` (0.8): above `idle`, below 1. `idle` (0.0): the share that a server without requests uses (the weights),
    which no number of servers makes smaller. `metric` ("gpu_memory").
    An engine that reserves its memory (vLLM: 0.9 by default) always shows it as used: take KvCacheUsage for it.

    >>> GpuMemory(idle=0.5).ratio({"gpu_memory": 0.89})
    1.3
    """

    limit: float = 0.8
    idle: float = 0.0
    metric: str = "gpu_memory"

    def __post_init__(self) -> None:
        _positive("limit", self.limit, 1.0)
        least_zero("idle", self.idle)
        if self.limit == 1 or self.idle >= self.limit:
            raise ConfigError(f"idle: {self.idle!r} is not allowed; 0 or more, below a limit that is below 1")

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """What requests use over what they may use."""
        value = _value(metrics, self.metric)
        return None if value is None else round(max(0.0, value - self.idle) / (self.limit - self.idle), 12)

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self.limit)]


@dataclass(frozen=True)
class KvCacheUsage(Signal):
    """Used share of the KV cache, 0 to 1 (vLLM's `kv_cache_usage_perc`, which is a share in spite of its name).

    `target` (0.8): above 0, below 1. `metric` ("kv_cache"). Full means that requests are preempted and computed again.

    >>> KvCacheUsage(0.75).ratio({"kv_cache": 0.9})
    1.2
    """

    target: float = 0.8
    metric: str = "kv_cache"

    def __post_init__(self) -> None:
        GpuUtilization(self.target)

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """The usage over its target."""
        value = _value(metrics, self.metric)
        return None if value is None else round(value / self.target, 12)

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self.target)]


@dataclass(frozen=True)
class TokenVelocity(Signal):
    """Tokens that arrive a second, of all servers together, over those that one replica gets done.

    `per_replica`: tokens a second of one within its SLO, above 0; prompt and output tokens differ, so measure the mix,
    or take one signal each. `metric` ("tokens_per_s"): their sum over the fleet.
    It says what is needed without waiting for a queue, and is as high when servers are full as when they are not.

    >>> TokenVelocity(2500).ratio({"tokens_per_s": 20000})  # replicas
    8.0
    """

    _kind: ClassVar[Literal["average", "total"]] = "total"
    per_replica: float
    metric: str = "tokens_per_s"

    def __post_init__(self) -> None:
        _positive("per_replica", self.per_replica)

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """Replicas that the tokens ask for."""
        value = _value(metrics, self.metric)
        return None if value is None else value / self.per_replica

    def _aims(self) -> list[Aim]:
        return [Aim(self.metric, self.per_replica, "total")]


@dataclass(frozen=True)
class Composite(Signal):
    """`max(queue / t, kv / t)` in one number: 1 is full, whichever of the two it is.

    `queue` (5.0), `kv_cache` (0.8): the targets. `queue_metric` ("queue"), `kv_cache_metric` ("kv_cache"): means over
    the replicas. With one of the two missing, the other counts alone.
    Source: the saturation of llm-d's inference scheduler, whose thresholds these are; `formula` is the same for KEDA.

    >>> Composite().ratio({"queue": 2, "kv_cache": 0.88}), Composite().formula
    (1.1, 'max([queue / 5, kv_cache / 0.8])')
    """

    queue: float = 5.0
    kv_cache: float = 0.8
    queue_metric: str = "queue"
    kv_cache_metric: str = "kv_cache"

    def __post_init__(self) -> None:
        _positive("queue", self.queue)
        _positive("kv_cache", self.kv_cache, 1.0)

    @property
    def formula(self) -> str:
        """The same as a formula of KEDA's scaling modifiers, with target 1 and triggers of these names."""
        return f"max([{self.queue_metric} / {self.queue:g}, {self.kv_cache_metric} / {self.kv_cache:g}])"

    def ratio(self, metrics: Mapping[str, Any], /) -> float | None:
        """The larger of both over their targets."""
        both = ((self.queue_metric, self.queue), (self.kv_cache_metric, self.kv_cache))
        found = [(_value(metrics, name), target) for name, target in both]
        return max((round(value / target, 12) for value, target in found if value is not None), default=None)

    def _aims(self) -> list[Aim]:
        return [Aim(self.queue_metric, self.queue), Aim(self.kv_cache_metric, self.kv_cache)]


@dataclass(frozen=True)
class ColdStart:
    """How long a new server takes until it is capacity.

    `load`: seconds until the model is loaded. `warm_up` (0.0): seconds of compiling and first requests after that.

    >>> ColdStart(load=85, warm_up=35).seconds
    120.0
    """

    load: float
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        for name in ("load", "warm_up"):
            least_zero(name, getattr(self, name))

    @property
    def seconds(self) -> float:
        """Both together."""
        return float(self.load + self.warm_up)

    @classmethod
    def of_model(cls, size: float, bandwidth: float, *, initialize: float = 0.0, warm_up: float = 0.0) -> ColdStart:
        """From the model's `size` (bytes), the `bandwidth` of where it lies (bytes a second), and seconds of the rest.

        Source: ServerlessLLM (OSDI 2024): bytes over bandwidth, and initialization.

        >>> ColdStart.of_model(140e9, 2e9, initialize=10, warm_up=20).seconds
        100.0
        """
        _positive("size", size)
        _positive("bandwidth", bandwidth)
        return cls(size / bandwidth + initialize, warm_up)


@dataclass(frozen=True)
class Workload:
    """What a kind of work asks of its servers. No two kinds share servers (`aibalance.autoscaling.check` says so).

    `name`. `min_replicas`: always on. `scaled_by`: "metrics" or "schedule". `spot`: whether it may be interrupted:
    "never", "may", "prefer".

    >>> WORKLOADS["realtime"].min_replicas, WORKLOADS["training"].spot
    (2, 'prefer')
    """

    name: Literal["realtime", "batch", "training"]
    min_replicas: int
    scaled_by: Literal["metrics", "schedule"]
    spot: Literal["never", "may", "prefer"]


WORKLOADS: Mapping[str, Workload] = {
    "realtime": Workload("realtime", 2, "metrics", "never"),
    "batch": Workload("batch", 0, "metrics", "may"),
    "training": Workload("training", 0, "schedule", "prefer"),
}
"""The kinds of work that `AiScaling` knows."""
