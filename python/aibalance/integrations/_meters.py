"""What pools, pickers and policies show of themselves, once for all systems of metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from .. import Endpoint, Observation, Pool, Recommendation, WaitQueue
from .._picker import known, pools, wrong
from ..autoscaling import Policy

__all__ = ["FAMILIES", "Family", "Row", "WatchedPolicy", "checked", "endpoints_of", "rows"]


class Family(NamedTuple):
    """A metric: its name in parts, what it is, unit (UCUM) and the names of its labels."""

    name: str
    kind: Literal["gauge", "counter"]
    unit: str
    help: str
    labels: tuple[str, ...]


class Row(NamedTuple):
    """One value of a metric."""

    name: str
    labels: tuple[str, ...]
    value: float


_ENDPOINT = ("pool", "endpoint")

FAMILIES = {
    family.name: family
    for family in (
        Family("endpoint.inflight", "gauge", "{request}", "Requests in flight", _ENDPOINT),
        Family("endpoint.load", "gauge", "1", "Costs in flight, corrected by reports: what picks compare", _ENDPOINT),
        Family("endpoint.weight", "gauge", "1", "Weight as configured", _ENDPOINT),
        Family("endpoint.effective_weight", "gauge", "1", "Weight that counts now", _ENDPOINT),
        Family("endpoint.share", "gauge", "1", "Part of the requests that is due, 0 to 1", _ENDPOINT),
        Family("endpoint.eligible", "gauge", "1", "1 while it may get a request", _ENDPOINT),
        Family("endpoint.draining", "gauge", "1", "1 while it is draining", _ENDPOINT),
        Family("endpoint.ejected", "gauge", "1", "1 while passive health has it out", _ENDPOINT),
        Family("endpoint.health", "gauge", "1", "1 for the state that it is in", (*_ENDPOINT, "state")),
        Family("endpoint.breaker", "gauge", "1", "1 for where its circuit breaker stands", (*_ENDPOINT, "state")),
        Family("endpoint.latency", "gauge", "s", "Latency estimate", _ENDPOINT),
        Family("endpoint.reported", "gauge", "1", "What the endpoint was last reported to do", (*_ENDPOINT, "signal")),
        Family("endpoint.picks", "counter", "{request}", "Leases given out", _ENDPOINT),
        Family("endpoint.releases", "counter", "{request}", "Leases that ended", (*_ENDPOINT, "outcome")),
        Family("endpoint.ejections", "counter", "{ejection}", "Times that passive health put it out", _ENDPOINT),
        Family("picker.info", "gauge", "1", "Always 1; the algorithm of a picker", ("picker", "algorithm")),
        Family("queue.waiting", "gauge", "{request}", "Requests that wait for a free endpoint", ("queue",)),
        Family("policy.desired", "gauge", "{server}", "Servers that the last decision asks for", ("policy",)),
        Family("policy.current", "gauge", "{server}", "Servers that it was told of", ("policy",)),
        Family("policy.metric", "gauge", "1", "Metrics that it was told", ("policy", "metric")),
        Family("policy.decisions", "counter", "{decision}", "Decisions", ("policy", "action")),
        Family("policy.limited", "counter", "{decision}", "Decisions that something bound", ("policy", "by")),
        Family("policy.errors", "counter", "{error}", "Decisions that raised", ("policy",)),
    )
}

OUTCOMES = ("successes", "failures", "timeouts", "rejected", "cancelled", "dropped")
HEALTH = ("healthy", "degraded", "unhealthy")
BREAKER = ("closed", "open", "half_open")


class WatchedPolicy:
    """A policy that remembers its last decision and counts them, for metrics. It decides as `policy` does.

    Raises ConfigError for what is no policy. Pickles as its policy, with the counts at nothing.

    >>> watched = WatchedPolicy(TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=9))
    >>> watched.recommend({"current": 4, "metrics": {"cpu": 50}}, now=0.0).desired
    4
    >>> watched.last.desired, watched.decisions
    (4, {'none': 1})
    """

    __slots__ = ("_counts", "_errors", "_last", "_limits", "_lock", "_metrics", "_policy")

    def __init__(self, policy: Policy, /) -> None:
        if isinstance(policy, type) or not isinstance(policy, Policy):
            raise wrong("policy", policy, "a scaling policy")
        self._policy = policy
        self._lock = threading.Lock()
        self._last: Recommendation | None = None
        self._metrics: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._limits: Counter[str] = Counter()
        self._errors = 0

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._policy

    @property
    def last(self) -> Recommendation | None:
        """Its last decision."""
        return self._last

    @property
    def decisions(self) -> dict[str, int]:
        """How many decisions of each action there were."""
        with self._lock:
            return dict(self._counts)

    @property
    def limits(self) -> dict[str, int]:
        """How often decisions were bound by what."""
        with self._lock:
            return dict(self._limits)

    @property
    def errors(self) -> int:
        """How many decisions raised."""
        return self._errors

    def recommend(self, observation: Observation | Mapping[str, Any], /, *, now: float | None = None) -> Recommendation:
        """As the policy."""
        try:
            made = self._policy.recommend(observation, now=now)
        except Exception:
            with self._lock:
                self._errors += 1
            raise
        given = observation.get("metrics") if isinstance(observation, Mapping) else observation.metrics
        numbers = {
            name: float(value)
            for name, value in (given or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        with self._lock:
            self._last = made
            self._metrics = numbers
            self._counts[made.action] += 1
            if made.limited_by is not None:
                self._limits[made.limited_by] += 1
        return made

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """As the policy."""
        self._policy.record(name, value, at=at)

    def rejected(self, recommendation: Recommendation) -> None:
        """As the policy."""
        self._policy.rejected(recommendation)

    def state(self) -> dict[str, Any]:
        """As the policy."""
        return self._policy.state()

    def restore(self, state: dict[str, Any]) -> None:
        """As the policy."""
        self._policy.restore(state)

    def __repr__(self) -> str:
        return f"WatchedPolicy({self._policy!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return WatchedPolicy, (self._policy,)

    def _rows(self, name: str) -> Iterator[Row]:
        with self._lock:
            last, metrics = self._last, dict(self._metrics)
            counts, limits, errors = dict(self._counts), dict(self._limits), self._errors
        if last is not None:
            yield Row("policy.desired", (name,), last.desired)
            yield Row("policy.current", (name,), last.current)
        for metric, value in metrics.items():
            yield Row("policy.metric", (name, metric), value)
        for action, times in counts.items():
            yield Row("policy.decisions", (name, action), times)
        for by, times in limits.items():
            yield Row("policy.limited", (name, by), times)
        yield Row("policy.errors", (name,), errors)


class Watched(NamedTuple):
    """What is shown, by name."""

    pools: dict[str, Pool]
    pickers: dict[str, Any]
    queues: dict[str, WaitQueue]
    policies: dict[str, WatchedPolicy]


def checked(pools_: Any, pickers: Any, queues: Any, policies: Any) -> Watched:
    """The arguments of a collector. A picker's pools are shown under its name. Raises ConfigError."""

    def named(field: str, given: Any, kind: type | None) -> dict[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise wrong(field, given, "a mapping of names")
        for name, value in given.items():
            if not isinstance(name, str) or not name:
                raise wrong(field, name, "names that are text")
            if kind is not None and not isinstance(value, kind):
                raise wrong(f"{field}[{name!r}]", value, f"a {kind.__name__}")
        return dict(given)

    all_pools = named("pools", pools_, Pool)
    all_pickers = named("pickers", pickers, None)
    for name, picker in all_pickers.items():
        known(f"pickers[{name!r}]", picker)
        own = pools(picker)
        for i, pool in enumerate(own):
            if any(pool is other for other in all_pools.values()):
                continue
            label = name if len(own) == 1 else f"{name}/{i}"
            if label in all_pools:
                raise wrong("pickers", name, "names that no other pool has")
            all_pools[label] = pool
    return Watched(
        all_pools, all_pickers, named("queues", queues, WaitQueue), named("policies", policies, WatchedPolicy)
    )


def endpoints_of(watched: Watched) -> dict[tuple[str, str], Endpoint]:
    """Endpoints by pool and id, for what is to be said of them besides numbers."""
    return {(name, one.id): one for name, pool in watched.pools.items() for one in pool.endpoints}


def rows(watched: Watched) -> Iterator[Row]:
    """All values, now."""
    for name, pool in watched.pools.items():
        for one in pool.stats():
            at = (name, one.id)
            yield Row("endpoint.inflight", at, one.inflight)
            yield Row("endpoint.load", at, one.load)
            yield Row("endpoint.weight", at, one.weight)
            yield Row("endpoint.effective_weight", at, one.effective_weight)
            yield Row("endpoint.share", at, one.share)
            yield Row("endpoint.eligible", at, one.eligible)
            yield Row("endpoint.draining", at, one.draining)
            yield Row("endpoint.ejected", at, one.ejected_until is not None)
            for state in HEALTH:
                yield Row("endpoint.health", (*at, state), one.health == state)
            if one.breaker is not None:
                for state in BREAKER:
                    yield Row("endpoint.breaker", (*at, state), one.breaker == state)
            if one.latency is not None:
                yield Row("endpoint.latency", at, one.latency)
            for signal, value in (one.report or {}).items():
                if isinstance(value, int | float):
                    yield Row("endpoint.reported", (*at, signal), value)
            yield Row("endpoint.picks", at, one.picks)
            for outcome in OUTCOMES:
                yield Row("endpoint.releases", (*at, outcome), getattr(one, outcome))
            yield Row("endpoint.ejections", at, one.ejections)
    for name, picker in watched.pickers.items():
        yield Row("picker.info", (name, type(picker).__name__), 1)
    for name, queue in watched.queues.items():
        yield Row("queue.waiting", (name,), len(queue))
    for name, policy in watched.policies.items():
        yield from policy._rows(name)
