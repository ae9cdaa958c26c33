"""A base for pickers that are written in Python."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ._core import Endpoint, EndpointStats, First, Lease, ManualClock, Picks, Pool, RetryBudget, SystemClock
from ._picker import Key, Names, attempts, each, gathered, names_of, whole, wrong

__all__ = ["Candidate", "CustomPicker"]


class Candidate(NamedTuple):
    """An endpoint that may take the request, and what the pool knows of it.

    >>> pool = Pool(["a"])
    >>> candidate = aibalance.Candidate(pool.endpoints[0], pool.stats()[0])
    >>> candidate.endpoint.id, candidate.stats.inflight
    ('a', 0)
    """

    endpoint: Endpoint
    """The endpoint."""
    stats: EndpointStats
    """Its record: weight, load, requests in flight, latency."""


class CustomPicker(ABC):
    """A picker of your own, from one method: `choose`.

    Parameters
    ----------
    endpoints : a pool, or what one can be made of.
    seed, clock : of the pool that is made when endpoints are given.

    Everything else follows: `choose` sees only who may take the request now (health, drains, weight 0, full ones,
    `exclude`, `subset`, backups and panic are settled before), and a lease counts as it does with the built-in pickers.
    Each pick looks at every endpoint in Python: about a microsecond each. Weights are yours to honour.

    A subclass that keeps state of its own between picks and is shared by threads needs a lock of its own.

    >>> class Quickest(aibalance.CustomPicker):
    ...     def choose(self, candidates, key):
    ...         return min(candidates, key=lambda one: (one.stats.last_latency or 0.0, one.stats.load)).endpoint
    >>> picker = Quickest(["a", "b"])
    >>> picker.acquire(subset=["a"]).release(latency=0.2)
    >>> picker.pick().id
    'b'
    >>> isinstance(picker, aibalance.Picker)
    True
    """

    def __init__(
        self,
        endpoints: Pool | Iterable[Endpoint | str],
        /,
        *,
        seed: int | None = None,
        clock: SystemClock | ManualClock | None = None,
    ) -> None:
        if isinstance(endpoints, Pool):
            for name, value in (("seed", seed), ("clock", clock)):
                if value is not None:
                    raise wrong(name, value, "None, since the pool that is given has its own")
        self._pool = endpoints if isinstance(endpoints, Pool) else Pool(endpoints, seed=seed, clock=clock)
        # Takes the places, and knows whose turn it is by rank.
        self._first = First(self._pool)

    @abstractmethod
    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        """The endpoint of one of these candidates. There is at least one; all are of one rank, in the pool's order."""

    @property
    def pool(self) -> Pool:
        """The pool."""
        return self._pool

    def candidates(
        self, *, exclude: Names | None = (), subset: Names | None = None, now: float | None = None
    ) -> list[Candidate]:
        """Who may take a request now: those who are due a part of the requests (`stats.share`), by priority, health,
        zone and panic; when none of them can take one, the first who help out."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        able = [
            Candidate(endpoint, stats)
            for endpoint, stats in zip(self._pool.endpoints, self._pool.stats(now), strict=False)
            if stats.eligible
            and stats.id == endpoint.id
            and stats.id not in without
            and (within is None or stats.id in within)
        ]
        asked = [one for one in able if one.stats.share > 0]
        if asked or not able:
            return asked
        best = self._first.ranked(k=1, exclude=without, subset=within, now=now)

        def rank(one: Candidate) -> tuple[object, ...]:
            return one.endpoint.backup, one.endpoint.priority, one.stats.health

        ranks = {rank(one) for one in able if best and one.endpoint == best[0]}
        return [one for one in able if rank(one) in ranks]

    def _chosen(self, key: Key | None, exclude: Names | None, subset: Names | None, now: float | None) -> str | None:
        candidates = self.candidates(exclude=exclude, subset=subset, now=now)
        if not candidates:
            return None
        chosen: Any = self.choose(candidates, key)
        if not isinstance(chosen, Endpoint) or all(chosen.id != one.stats.id for one in candidates):
            raise wrong(f"{type(self).__name__}.choose", chosen, "the endpoint of one of the candidates")
        return chosen.id

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint. Raises as the built-in pickers do."""
        chosen = self._chosen(key, (), None, now)
        found = [e for e in self._pool.endpoints if e.id == chosen]
        return found[0] if found else self._first.pick(now=now)

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
        chosen = self._chosen(key, (), None, now)
        return next((e for e in self._pool.endpoints if e.id == chosen), None)

    def acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses an endpoint and takes a lease on it. Raises as the built-in pickers do."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        lease = self.try_acquire(key, cost=cost, exclude=without, subset=within, now=now)
        return self._first.acquire(cost=cost, exclude=without, subset=within, now=now) if lease is None else lease

    def try_acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        while (chosen := self._chosen(key, without, within, now)) is not None:
            lease = self._first.try_acquire(cost=cost, subset=[chosen], now=now)
            if lease is not None:
                return lease
            # Another thread took its last place in between.
            without |= {chosen}
        return None

    def ranked(
        self,
        key: Key | None = None,
        /,
        *,
        k: int,
        exclude: Names | None = None,
        subset: Names | None = None,
        now: float | None = None,
    ) -> list[Endpoint]:
        """Up to `k` different endpoints, in the order in which one request would try them."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        everybody = {e.id: e for e in self._pool.endpoints}
        out: list[Endpoint] = []
        while len(out) < whole("k", k, 0) and (chosen := self._chosen(key, without, within, now)) is not None:
            without |= {chosen}
            out += [everybody[chosen]] if chosen in everybody else []
        return out

    def attempts(self, key: Key | None = None, /, *, budget: int | RetryBudget) -> Iterator[Lease]:
        """The attempts of one request, each on another endpoint: at most `budget`, or what a RetryBudget allows."""
        return attempts(self, key, budget)

    def pick_many(self, n_or_keys: Any, /, *, hashed: bool = False) -> Picks:
        """Many picks: a number of them, or one for each key. Not faster than as many calls of `pick`."""
        keys = each(n_or_keys, hashed)
        chosen = [self.pick(key) for key in ([None] * keys if isinstance(keys, int) else keys)]
        return gathered(chosen, self._pool.endpoints)
