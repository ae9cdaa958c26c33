"""A picker over a picker: who is asked first, and what is remembered of the answer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from .._core import ActiveRetryBudget, Endpoint, EndpointStats, Lease, Picks, Pool, RetryBudget
from .._explain import Explains
from .._picker import Frozen, Names, Picker, attempts, each, gathered, known, names_of, ranked, whole, wrong
from .._queue import Waits

__all__ = ["Over", "over_bound"]


def over_bound(stats: Iterable[EndpointStats], factor: float, least: int) -> set[str]:
    """Who would have more than `factor` times its share of the requests in flight, rounded up, and than `least`."""
    records = list(stats)
    total = sum(record.inflight for record in records) + 1
    return {
        record.id for record in records if record.inflight + 1 > max(math.ceil(factor * record.share * total), least)
    }


class Over(Frozen, Waits, Explains, ABC):
    """What a picker on another one's pool has. A subclass says whom to ask, in order, and hears who it became."""

    __slots__ = ("__weakref__", "picker")

    picker: Any
    """The picker that chooses among those who are asked."""

    def _begin(self, picker: Picker) -> None:
        known("picker", picker)
        if not isinstance(getattr(picker, "pool", None), Pool):
            raise wrong("picker", picker, "a picker on one Pool")
        self._set(picker=picker)

    @property
    def pool(self) -> Pool:
        """The pool."""
        pool: Pool = self.picker.pool
        return pool

    def _at(self, now: float | None) -> float:
        return self.pool.clock.now() if now is None else now

    @abstractmethod
    def _inner(self, key: Any) -> Any:
        """The key of the picker inside."""

    @abstractmethod
    def _steps(
        self, key: Any, without: frozenset[str], within: frozenset[str] | None, now: float | None
    ) -> Iterator[Collection[str] | None]:
        """Whom to ask, the first first; None is everybody."""

    @abstractmethod
    def _took(self, key: Any, endpoint: str, now: float | None) -> None:
        """A lease was given out."""

    def _refused(self, key: Any) -> Exception | None:
        """Why nobody got it, although the picker inside knows somebody."""
        return None

    @staticmethod
    def _both(within: frozenset[str] | None, asked: Collection[str] | None) -> Collection[str] | None:
        if asked is None or within is None:
            return within if asked is None else asked
        return within.intersection(asked)

    def ranked(
        self,
        key: Any = None,
        /,
        *,
        k: int,
        exclude: Names | None = None,
        subset: Names | None = None,
        now: float | None = None,
    ) -> list[Endpoint]:
        """Up to `k` different endpoints, in the order in which one request would try them."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        out: dict[str, Endpoint] = {}
        wanted = whole("k", k, 0)
        for asked in self._steps(key, without, within, now):
            if len(out) >= wanted:
                break
            names = self._both(within, asked)
            for endpoint in ranked(self.picker, self._inner(key), wanted, without.union(out), names, now):
                out.setdefault(endpoint.id, endpoint)
        return list(out.values())[:wanted]

    def try_pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
        found = self.ranked(key, k=1, now=now)
        return found[0] if found else None

    def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint, and remembers nothing. Raises as the built-in pickers do."""
        found = self.try_pick(key, now=now)
        if found is None:
            error = self._refused(key)
            if error is not None and ranked(self.picker, self._inner(key), 1, None, None, now):
                raise error
            found = self.picker.pick(self._inner(key), now=now)
        return found

    def try_acquire(
        self,
        key: Any = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        more = {} if cost is None else {"cost": cost}
        for asked in self._steps(key, without, within, now):
            names = self._both(within, asked)
            lease: Lease | None = self.picker.try_acquire(
                self._inner(key), exclude=without, subset=names, now=now, **more
            )
            if lease is not None:
                self._took(key, lease.endpoint.id, now)
                return lease
        return None

    def acquire(
        self,
        key: Any = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses an endpoint and takes a lease on it. `cost=None` is the picker's default. Raises as that does."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        lease = self.try_acquire(key, cost=cost, exclude=without, subset=within, now=now)
        if lease is not None:
            return lease
        more = {} if cost is None else {"cost": cost}
        error = self._refused(key)
        if error is not None and ranked(self.picker, self._inner(key), 1, without, within, now):
            raise error
        # Raises what the picker inside has to say, unless somebody became free in between.
        found: Lease = self.picker.acquire(self._inner(key), exclude=without, subset=within, now=now, **more)
        self._took(key, found.endpoint.id, now)
        return found

    async def acquire_when_free(
        self,
        key: Any = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> Lease:
        """A lease, as soon as somebody is free: see `WaitQueue.acquire`. `cost=None` is the picker's default."""
        return await self.queue.acquire(
            key, timeout=timeout, priority=priority, cost=cost, exclude=exclude, subset=subset
        )

    def attempts(self, key: Any = None, /, *, budget: int | RetryBudget | ActiveRetryBudget) -> Iterator[Lease]:
        """The attempts of one request, each on another endpoint: at most `budget`, or what a retry budget allows."""
        return attempts(self, key, budget)

    def pick_many(self, n_or_keys: Any, /, *, hashed: bool = False) -> Picks:
        """Many picks: a number of them, or one for each key. Not faster than as many calls of `pick`."""
        keys = each(n_or_keys, hashed)
        chosen = [self.pick(key) for key in ([None] * keys if isinstance(keys, int) else keys)]
        return gathered(chosen, self.pool.endpoints)
