"""What Ray Serve asks: which replica, how long to wait before asking again, and how many replicas."""

from __future__ import annotations

import functools
import inspect
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import aibalance

from .. import ConfigError, Endpoint, Lease, PickError, Pool, autoscaling
from ._fleets import PICKERS

KEYS = ("session_id", "multiplexed_model_id", "request_id", "route")
STATE = "aibalance"


def backoff(attempt: int, /, *, initial: float = 0.025, multiplier: float = 2.0, maximum: float = 0.5) -> float:
    """Seconds that Ray Serve waits before it asks the router again, `attempt` counting from 0.

    `initial` and `maximum` are seconds. There is no jitter. Raises ConfigError. Source: Ray 2.60.0,
    `RequestRouter._compute_backoff_s`.

    >>> [backoff(n) for n in (0, 2, 4, 6, 5000)]
    [0.025, 0.1, 0.4, 0.5, 0.5]
    """
    tries: Any = attempt
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 0:
        raise ConfigError(f"attempt: {attempt!r} is not allowed; a whole number from 0 on")
    for field, value in (("initial", initial), ("multiplier", multiplier), ("maximum", maximum)):
        given: Any = value
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < math.inf:
            raise ConfigError(f"{field}: {value!r} is not allowed; a finite number from 0 on")
    try:
        return float(min(initial * (multiplier**attempt), maximum))
    except OverflowError:
        return float(maximum)


class ReplicaPicker:
    """A picker that follows Ray's replicas: the router's part that needs no Ray.

    `picker` ("LeastRequest") is the name of a picker, `options` its parameters. `key` (None) is the field of a
    request's metadata that a hashing picker gets: "session_id", "multiplexed_model_id", "request_id" or "route".
    `stats` maps what a deployment's `record_routing_stats()` returns to what `pool.observe` takes: {"waiting":
    "queue"}. `candidates` (8) is how many replicas are named for a request.

    Everything is plain data, as `request_router_kwargs` must be. Replicas are any objects with Ray's attributes. Raises
    ConfigError.

    >>> picker = ReplicaPicker(picker="RoundRobin")
    >>> picker.pool.endpoints
    ()
    """

    def __init__(
        self,
        *,
        picker: str = "LeastRequest",
        options: Mapping[str, Any] | None = None,
        key: str | None = None,
        stats: Mapping[str, str] | None = None,
        candidates: int = 8,
    ) -> None:
        if picker not in PICKERS:
            raise ConfigError(f"picker: {picker!r:.80} is not allowed; {', '.join(PICKERS)}")
        if key is not None and key not in KEYS:
            raise ConfigError(f"key: {key!r:.80} is not allowed; {', '.join(KEYS)} or None")
        many: Any = candidates
        if isinstance(many, bool) or not isinstance(many, int) or many < 1:
            raise ConfigError(f"candidates: {candidates!r} is not allowed; a whole number from 1 on")
        takes = ("inflight", "queue", "utilization", "latency", "gpu_memory", "kv_cache", "qps", "eps")
        for ours in (stats or {}).values():
            if ours not in takes:
                raise ConfigError(f"stats: {ours!r:.80} is not allowed; {', '.join(takes)}")
        self.pool = Pool([])
        try:
            self.picker = getattr(aibalance, picker)(self.pool, **dict(options or {}))
        except TypeError as error:
            raise ConfigError(f"options: {error}") from None
        self._key, self._stats, self._candidates = key, dict(stats or {}), candidates
        self._leases: defaultdict[tuple[str, str], list[Lease]] = defaultdict(list)
        self._seen: dict[str, Mapping[str, Any]] = {}

    def update(self, replicas: Iterable[Any], /) -> None:
        """Takes over the replicas that there are; those that stay keep their counts."""
        members = []
        for replica in replicas:
            limit = getattr(replica, "max_ongoing_requests", None)
            zone = getattr(replica, "availability_zone", None) or ""
            name = replica.replica_id.unique_id
            members.append(Endpoint(name, zone=zone, max_inflight=limit or None))
        self.pool.update(members)

    def rank(self, replicas: Iterable[Any], /, *, metadata: Any = None) -> list[Any]:
        """The replicas for a request, best first. Those that have its model loaded come before all others."""
        by_id = {replica.replica_id.unique_id: replica for replica in replicas}
        for name, replica in by_id.items():
            self._observe(name, getattr(replica, "routing_stats", None) or {})
        key = getattr(metadata, self._key, None) or None if self._key else None
        model = getattr(metadata, "multiplexed_model_id", "") or ""
        warm = [name for name, replica in by_id.items() if model and model in replica.multiplexed_model_ids]
        found: list[Any] = []
        for group in (warm, [name for name in by_id if name not in warm]):
            left = self._candidates - len(found)
            if group and left > 0:
                try:
                    found += [by_id[e.id] for e in self.picker.ranked(key, k=left, subset=group)]
                except PickError:
                    continue
        return found

    def _observe(self, name: str, stats: Mapping[str, Any]) -> None:
        # The same report seen again is no new one: what was sent since then must keep counting.
        if not self._stats or not stats or self._seen.get(name) == stats:
            return
        self._seen[name] = dict(stats)
        values = {ours: stats[theirs] for theirs, ours in self._stats.items() if theirs in stats}
        if values and any(endpoint.id == name for endpoint in self.pool.endpoints):
            self.pool.observe(name, **values)

    def routed(self, replica: str, request: str, /) -> None:
        """A request has gone to a replica: a lease begins."""
        lease = self.picker.try_acquire(subset=[replica])
        if lease is not None:
            self._leases[replica, request].append(lease)

    def completed(self, replica: str, request: str, /) -> None:
        """It has ended, well or not: its lease does, too. Ray does not say how it went."""
        held = self._leases.get((replica, request))
        if held:
            held.pop().release()
            if not held:
                del self._leases[replica, request]

    def __repr__(self) -> str:
        return f"<ReplicaPicker {type(self.picker).__name__} of {len(self.pool)}>"


@functools.cache
def request_router() -> Any:
    """The class for Ray Serve's `RequestRouterConfig(request_router_class=...)`; its kwargs are those of ReplicaPicker.

    Each process that calls a deployment has a router of its own, and so leases of its own; what `stats` names is what
    they share. Ranks have one replica each, so that Ray keeps the picker's order, and asks again with `backoff` when
    all are full. Raises ConfigError where Ray is not installed.

    >>> from importlib.util import find_spec
    >>> request_router().__name__ if find_spec("ray") else "RequestRouter"
    'RequestRouter'
    """
    try:
        base = import_module("ray.serve.request_router")
    except ImportError as error:
        raise ConfigError(f"ray: needs {error.name}; pip install aibalance[ray]") from None

    class RequestRouter(base.FIFOMixin, base.RequestRouter):  # type: ignore[misc, name-defined]
        """Ray Serve's router by aibalance's pickers."""

        def initialize_state(self, **kwargs: Any) -> None:
            self._replica_picker = ReplicaPicker(**kwargs)

        def update_replicas(self, replicas: Any) -> None:
            super().update_replicas(replicas)
            self._replica_picker.update(self.curr_replicas.values())

        async def choose_replicas(self, candidate_replicas: Any, pending_request: Any = None) -> list[list[Any]]:
            metadata = None
            if pending_request is not None:
                metadata = pending_request.metadata
                # Without it Ray asks again at once, and a full deployment spins.
                pending_request.routing_context.should_backoff = True
            return [[replica] for replica in self._replica_picker.rank(candidate_replicas, metadata=metadata)]

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            self._replica_picker.routed(replica_id.unique_id, pending_request.metadata.internal_request_id)

        def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
            self._replica_picker.completed(replica_id.unique_id, internal_request_id)

    # Found by its path, as pickle and Ray look for it.
    RequestRouter.__module__ = "aibalance.integrations.ray_serve"
    RequestRouter.__qualname__ = "RequestRouter"
    return RequestRouter


class AutoscalingPolicy:
    """A scaling policy of ours for Ray Serve's `AutoscalingPolicy(policy_function=..., policy_kwargs={...})`.

    `policy` ("RayServeAutoscaler") is the name of a class in `aibalance.autoscaling`, `options` its parameters, plain
    data. Bounds that `options` does not name are those of the deployment, as Ray has adjusted them.

    The policy sees the running and the wanted replicas, and as metrics: "ongoing_requests" (of the whole deployment),
    "ongoing_requests_per_replica", "queued_requests", and the mean over replicas of everything that the deployment's
    `record_autoscaling_stats()` returns. Its memory is plain data under one key of Ray's policy state; time is Ray's.

    Ray's own factors and delays come on top: set `upscale_delay_s` and `downscale_delay_s` to 0 unless both are meant.
    Raises ConfigError.

    >>> policy = AutoscalingPolicy(options={"upscale_delay": 0.0})
    >>> policy
    AutoscalingPolicy(policy='RayServeAutoscaler', options={'upscale_delay': 0.0})
    """

    def __init__(self, *, policy: str = "RayServeAutoscaler", options: Mapping[str, Any] | None = None) -> None:
        cls = getattr(autoscaling, str(policy), None)
        if not inspect.isclass(cls) or not callable(getattr(cls, "recommend", None)):
            raise ConfigError(f"policy: {policy!r:.80} is not allowed; a policy of aibalance.autoscaling")
        self._policy, self._options, self._cls = policy, dict(options or {}), cls
        fields = set(inspect.signature(cls).parameters)
        self._bounds = next(
            (
                pair
                for pair in (("min_replicas", "max_replicas"), ("min_capacity", "max_capacity"))
                if set(pair) <= fields
            ),
            None,
        )
        # Says what cannot be before the controller has it.
        self._build(0, 1_000)

    def _build(self, least: int, most: int) -> Any:
        bounds: dict[str, Any] = {}
        if self._bounds is not None:
            bounds = {name: n for name, n in zip(self._bounds, (least, most), strict=True) if name not in self._options}
        try:
            return self._cls(**bounds, **self._options)
        except TypeError as error:
            raise ConfigError(f"options: {error}") from None

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """Ray's call, some ten times a second: how many replicas, and what is to be remembered."""
        policy = self._build(int(ctx.capacity_adjusted_min_replicas), int(ctx.capacity_adjusted_max_replicas))
        remembered = (ctx.policy_state or {}).get(STATE)
        if remembered is not None:
            policy.restore(remembered)
        current = int(ctx.current_num_replicas)
        total = float(ctx.total_num_requests)
        metrics: dict[str, float] = {"ongoing_requests": total}
        if current > 0:
            metrics["ongoing_requests_per_replica"] = total / current
        if ctx.total_queued_requests is not None:
            metrics["queued_requests"] = float(ctx.total_queued_requests)
        for name, values in (ctx.aggregated_metrics or {}).items():
            seen = [float(value) for value in values.values()]
            if seen:
                metrics[name] = sum(seen) / len(seen)
        observation = {"current": current, "desired": int(ctx.target_num_replicas), "metrics": metrics}
        found = policy.recommend(observation, now=ctx.current_time)
        return found.desired, {STATE: policy.state()}

    def __repr__(self) -> str:
        return f"AutoscalingPolicy(policy={self._policy!r}, options={self._options!r})"
