"""Ray Serve's autoscaler.

Source: Ray 2.60.0, `serve/autoscaling_policy.py`, `serve/_private/autoscaling_state.py`. Names follow Ray without the
`_s` of durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._core import adjust_to_capacity, round_to_gangs, scale_by_factor
from ._cloud import CloudPolicy
from .policy import Clock

__all__ = ["RayServeAutoscaler", "adjust_to_capacity", "round_to_gangs", "scale_by_factor"]


@dataclass(frozen=True, kw_only=True)
class RayServeAutoscaler(CloudPolicy):
    """Ray Serve's default policy: as many replicas as bring the ongoing requests of each to a target.

    Observations: `current` running replicas, `desired` the target that Serve holds now (None: the same), and the
    metric: running and queued requests of the deployment together, as Serve aggregates them over its look-back.
    Without the metric nothing moves, and what was waiting starts again.

    `target_ongoing_requests` (2.0): per replica, above 0. `min_replicas` (1), `max_replicas` (1): bounds; both are
    multiples of `gang_size`. `initial_replicas` (None): the lower bound while target capacity rises.
    `upscaling_factor` (1.0), `downscaling_factor` (1.0): what part of a difference is made up in one step, above 0.
    `upscale_delay` (30.0), `downscale_delay` (600.0), `downscale_to_zero_delay` (None: as `downscale_delay`): seconds
    for which more, or fewer, has to be wanted without a break; the newest number is applied then. Only from one
    replica does it go to none, so that takes two delays. At no running replica a request is answered at once.
    `target_capacity` (None): percent, 0 to 100, by which the bounds are scaled; `target_capacity_direction` (None):
    "up" or "down", where it is heading. `gang_size` (1): replicas that start and stop together.
    `metric` ("ongoing_requests"): its name. `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Raises ConfigError. Bounds apply after delays. Source: see the module.

    >>> policy = RayServeAutoscaler(max_replicas=10, upscale_delay=0.0)
    >>> r = policy.recommend({"current": 2, "metrics": {"ongoing_requests": 9.0}}, now=0.0)
    >>> r.desired, r.details["raw"]
    (5, 4.5)
    """

    target_ongoing_requests: float = 2.0
    min_replicas: int = 1
    max_replicas: int = 1
    initial_replicas: int | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    upscale_delay: float = 30.0
    downscale_delay: float = 600.0
    downscale_to_zero_delay: float | None = None
    target_capacity: float | None = None
    target_capacity_direction: Literal["up", "down"] | None = None
    gang_size: int = 1
    metric: str = "ongoing_requests"
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._begin("ray_serve", self.clock)
