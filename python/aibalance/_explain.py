"""Why a picker would take one endpoint and not another, and which leases to close for a better balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from ._core import Endpoint, EndpointStats, Pool
from ._picker import Key, Names, Picker, names_of, pools, ranked, whole

__all__ = ["Explains", "Explanation", "LeaseMove", "Reason"]

Reason: TypeAlias = Literal[
    "chosen",
    "eligible",
    "excluded",
    "unhealthy",
    "draining",
    "weight 0",
    "full",
    "ejected",
    "backup",
    "priority",
    "zone",
    "degraded",
    "not asked",
]
"""What decides about a candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a picker makes of one candidate, and why. See `picker.explain`.

    `reason` is the first of these that is so:

    - "chosen": the next request would get it (rank 0).
    - "eligible": it may get a request, and `rank` better ones would get it first.
    - "excluded": left out by `exclude` or `subset`.
    - "draining", "unhealthy", "weight 0": it gets nothing new.
    - "ejected": it is held back by itself, such as by passive ejection.
    - "full": it has as many requests in flight as it may.
    - "backup", "priority", "degraded", "zone": it stands by, since others of a better rank are there.
    - "not asked": the picker does not try it for this key.

    One that may be picked has a rank also when its own share is 0 ("backup", "priority", "degraded", "zone"): it is
    tried once the better ones are full.

    >>> picker = RoundRobin(["a", "b"])
    >>> picker.pool.drain("b")
    >>> [(one.endpoint.id, one.reason, one.rank) for one in picker.explain()]
    [('a', 'chosen', 0), ('b', 'draining', None)]
    """

    endpoint: Endpoint
    """The candidate."""
    reason: Reason
    """What decides."""
    eligible: bool
    """Whether it may get a request now."""
    rank: int | None
    """How many others the next request would try before it, or None if it would never try it."""
    share: float
    """The part of all requests that it is due by weight, priority, zone and health while nobody is full: 0 to 1."""
    warming: float
    """The part of its weight that it has so far: less than 1 while it starts slowly."""
    load: float
    """The load that picks compare, in requests."""
    inflight: int
    """Requests in flight."""
    latency: float | None
    """The latency estimate in seconds; None when there is none."""
    stats: EndpointStats
    """All that the pool knows of it."""

    def __str__(self) -> str:
        rank = "" if self.rank is None else f", rank {self.rank}"
        latency = "" if self.latency is None else f", latency {self.latency:.3g} s"
        warming = "" if self.warming == 1 else f", {self.warming:.0%} warm"
        share, load = f"share {self.share:.1%}", f"load {self.load:g}"
        return f"{self.endpoint.id}: {self.reason}{rank}, {share}, {load}{latency}{warming}"


class LeaseMove(NamedTuple):
    """A lease to close, so that its client comes again and goes elsewhere. See `Pool.rebalance`.

    >>> pool = Pool(["a"], seed=1)
    >>> ids = [LeastRequest(pool).acquire().detach() for _ in range(4)]
    >>> pool.add("b")
    >>> [(move.source.id, move.target.id) for move in pool.rebalance(1)]
    [('a', 'b')]
    """

    lease_id: int
    """The id of the lease, as from `lease.id` and `lease.detach()`."""
    source: Endpoint
    """The endpoint that has it, and has too many."""
    target: Endpoint
    """The one that lacks the most, to which the client is likely to come."""


def _explain(
    picker: Picker,
    key: Key | None = None,
    *,
    exclude: Names | None = (),
    subset: Names | None = None,
    now: float | None = None,
) -> list[Explanation]:
    without, within = names_of(exclude), None if subset is None else names_of(subset)
    order = _order(picker, key, without, within, now)
    # By identity, for endpoints of two pools may have one id.
    rank = {id(endpoint): i for i, endpoint in enumerate(order)}
    out: list[Explanation] = []
    for pool in pools(picker):
        records = [(e, s) for e, s in zip(pool.endpoints, pool.stats(now), strict=False) if e.id == s.id]
        asked = [(e, s) for e, s in records if s.share > 0]
        for endpoint, stats in records:
            left_out = endpoint.id in without or (within is not None and endpoint.id not in within)
            place = None if left_out else rank.get(id(endpoint))
            out.append(
                Explanation(
                    endpoint=endpoint,
                    reason="excluded" if left_out else _reason(endpoint, stats, asked, place),
                    eligible=place is not None,
                    rank=place,
                    share=stats.share,
                    warming=stats.effective_weight / stats.weight if stats.weight > 0 else 1.0,
                    load=stats.load,
                    inflight=stats.inflight,
                    latency=stats.latency,
                    stats=stats,
                )
            )
    return sorted(out, key=lambda one: len(out) if one.rank is None else one.rank)


class Explains:
    """What a picker written in Python has of explanations."""

    __slots__ = ()

    def explain(
        self: Any,
        key: Key | None = None,
        /,
        *,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> list[Explanation]:
        """One record a candidate, the best first: who would be picked, and why the others not.

        A picker that is made of others asks them for real, so that turns and chance move as with `ranked`.
        """
        return _explain(self, key, exclude=exclude, subset=subset, now=now)


def _order(
    picker: Any, key: Key | None, without: frozenset[str], within: frozenset[str] | None, now: float | None
) -> list[Endpoint]:
    rehearse = getattr(picker, "_rehearse", None)
    if rehearse is not None:
        found: list[Endpoint] = rehearse(key, without, within, now)
        return found
    return ranked(picker, key, sum(map(len, pools(picker))), without, within, now)


def _reason(
    endpoint: Endpoint, stats: EndpointStats, asked: list[tuple[Endpoint, EndpointStats]], rank: int | None
) -> Reason:
    if rank == 0:
        return "chosen"
    if rank is not None and stats.share > 0:
        return "eligible"
    if rank is None:
        if stats.draining:
            return "draining"
        if stats.health == "unhealthy" and stats.share == 0:
            return "unhealthy"
        if stats.weight == 0:
            return "weight 0"
        if endpoint.max_inflight is not None and stats.inflight >= endpoint.max_inflight:
            return "full"
        if not stats.eligible:
            return "ejected"
    if stats.share == 0 and asked:
        if endpoint.backup and not all(e.backup for e, _ in asked):
            return "backup"
        if all(e.priority < endpoint.priority for e, _ in asked):
            return "priority"
        if stats.health == "degraded" and all(s.health != "degraded" for _, s in asked):
            return "degraded"
        if all(e.zone != endpoint.zone for e, _ in asked):
            return "zone"
    return "not asked" if rank is None else "eligible"


def _rebalance(pool: Pool, max_moves: int, min_age: float, now: float | None) -> list[LeaseMove]:
    return [LeaseMove(*found) for found in pool._rebalance(whole("max_moves", max_moves, 0), min_age=min_age, now=now)]
