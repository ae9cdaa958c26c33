"""AIBrix's APA, an autoscaler for inference pods. Source: vllm-project/aibrix, podautoscaler algorithm `apa`."""

from __future__ import annotations

from dataclasses import dataclass

from ._cloud import CloudPolicy
from .policy import Clock

__all__ = ["AibrixApa"]


@dataclass(frozen=True, kw_only=True)
class AibrixApa(CloudPolicy):
    """A tolerance either way, growth and shrinking capped a step, a cooldown before shrinking.

    With r = metric / target and n replicas: above `1 + up_tolerance` the smaller of ceil(n r) and ceil(n rate), below
    `1 - down_tolerance` the larger of ceil(n r) and floor(n / rate), and n between.

    `metric`, `target`: the value per pod, above 0. `up_tolerance` (0.1), `down_tolerance` (0.1): shares.
    `max_scale_up_rate` (2.0), `max_scale_down_rate` (2.0): factors of 1 or more. `scale_down_cooldown` (300.0): seconds
    after a change in which nothing is removed. `min_replicas` (1), `max_replicas`: bounds. `clock` (None).
    Raises ConfigError. Source: see the module.

    >>> policy = AibrixApa(metric="kv_cache", target=0.5, max_replicas=20)
    >>> policy.recommend({"current": 4, "metrics": {"kv_cache": 0.54}}, now=0.0).limited_by
    'tolerance'
    """

    metric: str
    target: float
    max_replicas: int
    min_replicas: int = 1
    up_tolerance: float = 0.1
    down_tolerance: float = 0.1
    max_scale_up_rate: float = 2.0
    max_scale_down_rate: float = 2.0
    scale_down_cooldown: float = 300.0
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._begin("aibrix_apa", self.clock)
