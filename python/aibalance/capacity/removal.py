"""Whom to take away first when there are too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._core import _rank_removals
from ._checks import wrong as _wrong

__all__ = ["deletion_costs", "rank_removals"]

USUAL = ("unready", "zone", "loss", "newest_instance")


def rank_removals(
    instances: Iterable[Mapping[str, Any]],
    /,
    *,
    order: Sequence[str] = USUAL,
    now: float = 0.0,
) -> tuple[str, ...]:
    """The ids of instances, who should go first first.

    `instances`: mappings with `id` (needed, unique), `ready` (True), `protected` (False: such are left out),
    `work_left` (0.0) and `cache_value` (0.0): the work in flight and the work that the cache saves, in one unit;
    `price` (1.0) of an hour, `zone` (""), `started` (None) in seconds, `template` (None), a version. No others.
    `order`: the criteria, the first one first. "unready"; "zone": of the zone with the most left; "loss": least
    `(work_left + cache_value) / price`, of equals the dearest; "newest_instance", "oldest_instance",
    "oldest_launch_template", "closest_to_next_instance_hour". What is not known comes last; of equals the first given.
    `now`: seconds, for the hour that has begun. Raises ConfigError. The rule is ours. O(n log n + n zones).

    >>> rank_removals(
    ...     [
    ...         {"id": "a", "zone": "x", "work_left": 40, "cache_value": 10},
    ...         {"id": "b", "zone": "x", "work_left": 5},
    ...         {"id": "c", "zone": "y", "work_left": 1},
    ...     ]
    ... )
    ('b', 'c', 'a')
    """
    if isinstance(order, str) or not all(isinstance(word, str) for word in order):
        raise _wrong("order", order, "a sequence of criteria")
    if isinstance(instances, (str, Mapping)) or not isinstance(instances, Iterable):
        raise _wrong("instances", instances, "mappings, one an instance")
    given: Iterable[Any] = instances
    found = [dict(i) if isinstance(i, Mapping) else i for i in given]
    return tuple(_rank_removals(found, list(order), now))


def deletion_costs(ranked: Sequence[str], /) -> dict[str, int]:
    """Values for the annotation `controller.kubernetes.io/pod-deletion-cost`, by pod: who goes first has the lowest.

    They begin at 1, so that pods without the annotation, which count as 0, go before all that were ranked: they are
    newcomers with nothing to lose. Raises ConfigError for a name that comes twice. Source: Kubernetes, ReplicaSet.

    >>> deletion_costs(rank_removals([{"id": "a", "work_left": 9}, {"id": "b"}]))
    {'b': 1, 'a': 2}
    """
    costs = {name: n for n, name in enumerate(ranked, 1)}
    if len(costs) < len(ranked):
        raise _wrong("ranked", ranked, "each name once")
    return costs
