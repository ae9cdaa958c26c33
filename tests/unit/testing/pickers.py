"""Pickers written in Python: two that are right, and those with planted faults."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

from aibalance import Candidate, CustomPicker, Endpoint, Key, Lease, LeastRequest, Pool, RoundRobin


class Smooth(CustomPicker):
    """Smooth weighted round robin."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.current: dict[str, float] = {}

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        total = sum(one.stats.weight for one in candidates)
        for one in candidates:
            self.current[one.stats.id] = self.current.get(one.stats.id, 0.0) + one.stats.weight
        best = max(candidates, key=lambda one: self.current[one.stats.id])
        self.current[best.stats.id] -= total
        return best.endpoint


class TwoChoices(CustomPicker):
    """Two drawn by weight, the one of less load for its weight."""

    def __init__(self, pool: Pool, seed: int = 7) -> None:
        super().__init__(pool)
        self.random = random.Random(seed)

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        weights = [one.stats.weight for one in candidates]
        two = self.random.choices(candidates, weights, k=2)
        return min(two, key=lambda one: (one.stats.load + 1) / one.stats.weight).endpoint


class HighestRandomWeight(CustomPicker):
    """Rendezvous hashing."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        def score(one: Candidate) -> bytes:
            return hashlib.blake2b(f"{key!r} {one.stats.id}".encode()).digest()

        return max(candidates, key=score).endpoint


# ---------------------------------------------------------------------------------------------------- planted faults


class PicksTheEjected:
    """Looks at the pool when it is made, and never again at health."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.inner = RoundRobin(pool)
        self.turn = 0

    def try_pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint | None:
        right = self.inner.try_pick()
        if right is None:
            return None
        rank = next(record.health for record in self.pool.stats() if record.id == right.id)
        usable = [
            (endpoint, record)
            for endpoint, record in zip(self.pool.endpoints, self.pool.stats(), strict=True)
            if record.weight > 0 and not record.draining and record.inflight < (endpoint.max_inflight or 99)
            if endpoint.backup == right.backup and record.health in (rank, "unhealthy")
        ]
        self.turn += 1
        return usable[self.turn % len(usable)][0]

    def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
        found = self.try_pick(key)
        return self.inner.pick() if found is None else found

    def acquire(self, key: Any = None, /, **options: Any) -> Lease:
        return self.inner.acquire(key, **options)

    def try_acquire(self, key: Any = None, /, **options: Any) -> Lease | None:
        return self.inner.try_acquire(key, **options)


class IgnoresWeights(CustomPicker):
    """The least loaded, as if all weighed the same."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        return min(candidates, key=lambda one: (one.stats.inflight, one.stats.picks)).endpoint


class TwiceUnfair(Smooth):
    """Everybody twice in a row: right in the long run, and twice as far from the exact share on the way."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.last: str | None = None

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        for one in candidates:
            if one.stats.id == self.last:
                self.last = None
                return one.endpoint
        chosen = super().choose(candidates, key)
        self.last = chosen.id
        return chosen


class TwiceTheShare(CustomPicker):
    """The first endpoint comes twice in each round."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.random = random.Random(1)

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        weights = [one.stats.weight * (1 + (i == 0)) for i, one in enumerate(candidates)]
        return self.random.choices(candidates, weights)[0].endpoint


class MovesAllKeys(CustomPicker):
    """The hash of the key modulo the number of endpoints."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        number = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
        return candidates[number % len(candidates)].endpoint


class NotReproducible(TwoChoices):
    """Draws from the interpreter's own source."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        self.random = random  # type: ignore[assignment]
        return super().choose(candidates, key)


class Leaks:
    """Retries with a lease of the first choice still in hand."""

    def __init__(self, pool: Pool) -> None:
        self.inner = LeastRequest(pool)
        self.lost: list[Lease] = []

    def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
        return self.inner.pick(key)

    def try_pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint | None:
        return self.inner.try_pick(key)

    def acquire(self, key: Any = None, /, **options: Any) -> Lease:
        lease = self.try_acquire(key, **options)
        return self.inner.acquire(key, **options) if lease is None else lease

    def try_acquire(self, key: Any = None, /, *, exclude: Iterable[Any] | None = (), **options: Any) -> Lease | None:
        lease = self.inner.try_acquire(key, **options)
        if lease is not None and lease.endpoint.id in set(exclude or ()):
            self.lost.append(lease)
            return self.inner.try_acquire(key, exclude=exclude, **options)
        return lease


class Careless(CustomPicker):
    """Fails in its own way when there is nobody."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        return candidates[0].endpoint

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        return self.candidates()[0].endpoint
