"""Pickers made of pickers: fallback, traffic split, subset. They take any `Picker`, built in, yours, or each other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from ._core import (
    ActiveRetryBudget,
    Endpoint,
    Lease,
    Picks,
    Pool,
    Rendezvous,
    RetryBudget,
    RoundRobin,
    WeightedRandom,
    _picks,
)
from ._errors import NoHealthyEndpointError, OverloadedError, PickError
from ._explain import Explains
from ._picker import (
    Frozen,
    Key,
    Names,
    Picker,
    attempts,
    costing,
    each,
    gathered,
    known,
    many,
    names_of,
    pools,
    ranked,
    whole,
)
from ._picker import wrong as _wrong
from ._queue import Waits

__all__ = ["Fallback", "Subset", "TrafficSplit"]


class _Several(Frozen, Waits, Explains):
    """What fallback and split have in common: parts that are asked one after the other."""

    __slots__ = ("__weakref__", "pickers")

    pickers: tuple[Picker, ...]
    """The parts, in order."""

    @abstractmethod
    def _order(self, key: Key | None) -> Iterable[Picker]:
        """The parts that may answer this request, first choice first. Raises PickError when there is none."""

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of the parts, each once."""
        found: list[Pool] = []
        for picker in self.pickers:
            found += [pool for pool in pools(picker) if not any(pool is one for one in found)]
        return tuple(found)

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint of the first part that has one. Raises as the parts do."""
        return _first(self._order(key), lambda picker: picker.pick(key, now=now))

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
        try:
            order = self._order(key)
        except PickError:
            return None
        return next((found for picker in order if (found := picker.try_pick(key, now=now)) is not None), None)

    def acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease:
        """Takes a lease from the first part that gives one; it counts in that part's pool only.

        `exclude` and `subset` are passed on to every part; `cost=None` is each part's default.
        """
        exclude, subset = _again(exclude), _again(subset)
        more = costing(cost)
        return _first(
            self._order(key),
            lambda picker: picker.acquire(key, exclude=exclude, subset=subset, now=now, **more),
        )

    def try_acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
        try:
            return self.acquire(key, cost=cost, exclude=exclude, subset=subset, now=now)
        except PickError:
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
        """Up to `k` endpoints of different ids: those of the first part, then those of the next."""
        exclude, subset = _again(exclude), _again(subset)
        out: dict[str, Endpoint] = {}
        wanted = whole("k", k, 0)
        try:
            order = self._order(key)
        except PickError:
            return []
        for picker in order:
            if len(out) >= wanted:
                break
            for endpoint in ranked(picker, key, wanted, exclude, subset, now):
                out.setdefault(endpoint.id, endpoint)
        return list(out.values())[:wanted]

    def attempts(self, key: Key | None = None, /, *, budget: int | RetryBudget | ActiveRetryBudget) -> Iterator[Lease]:
        """The attempts of one request: `acquire` again and again, each time without those that have been tried."""
        return attempts(self, key, budget)


def _again(names: Names | None) -> Names | None:
    """Names that can be read once a part."""
    return names if names is None or isinstance(names, list | tuple | set | frozenset) else list(names)


_T = TypeVar("_T")


def _first(pickers: Iterable[Picker], call: Callable[[Picker], _T]) -> _T:
    """What the first picker that can answers, or the error that says most."""
    errors: list[PickError] = []
    try:
        for picker in pickers:
            try:
                return call(picker)
            except PickError as error:
                errors.append(error)
        raise _best(errors)
    finally:
        # An error that its own frame remembers keeps that frame and its callers, with the leases that they hold.
        errors.clear()


def _best(errors: Sequence[PickError]) -> PickError:
    """The error that says most: somebody who is full may be free soon, an empty pool says nothing about the others."""
    waits = [e.retry_after for e in errors if isinstance(e, OverloadedError) and e.retry_after is not None]
    for kind in (OverloadedError, NoHealthyEndpointError):
        for error in errors:
            if isinstance(error, kind):
                if isinstance(error, OverloadedError) and waits:
                    error.retry_after = min(waits)
                return error
    return errors[-1]


class Fallback(_Several):
    """The first picker that can pick: the others stand by.

    Parameters
    ----------
    pickers : in order of preference; they may share a pool or have different ones.

    A request goes to the second picker only while the first has nobody who may take it: all full, unhealthy, draining
    or excluded. So `attempts` tries every endpoint of the first before any of the second, and `ranked` lists them in
    that order. `pick_many` is answered by one picker.

    Raises ConfigError for no picker, or for what is none; picks raise OverloadedError if any picker does, else
    NoHealthyEndpointError, else NoEndpointsError.

    Source: fallback clusters and priorities of Envoy and gRPC, without their gradual overflow; for that, make one pool
    with `backup=True`.

    >>> here = LeastRequest([Endpoint("here", max_inflight=1)])
    >>> picker = aibalance.Fallback(here, RoundRobin(["far-1", "far-2"]))
    >>> with picker.acquire() as first, picker.acquire() as second:
    ...     first.endpoint.id, second.endpoint.id
    ('here', 'far-1')
    """

    __slots__ = ()

    def __init__(self, *pickers: Picker) -> None:
        if not pickers:
            raise _wrong("pickers", pickers, "at least one picker")
        self._set(pickers=tuple(known(f"pickers[{i}]", picker) for i, picker in enumerate(pickers)))

    def _order(self, key: Key | None) -> Iterable[Picker]:
        return self.pickers

    def pick_many(self, n_or_keys: Any, /, *, hashed: bool = False) -> Picks:
        """Many picks at once, all by the first picker that can: a number of them, or one for each key."""
        return _first(self.pickers, lambda picker: many(picker, n_or_keys, hashed))

    def __repr__(self) -> str:
        return f"Fallback({', '.join(map(repr, self.pickers))})"


_SPLITS: dict[str, type[WeightedRandom] | type[RoundRobin] | type[Rendezvous]] = {
    "chance": WeightedRandom,
    "turns": RoundRobin,
    "key": Rendezvous,
}


class TrafficSplit(_Several):
    """A share of the requests for each of several pickers: a canary, a migration, two regions.

    Parameters
    ----------
    parts : pairs of a picker and its weight, any finite number from 0 on; 0 means no requests.
    by : "chance" (default): each request is drawn, as WeightedRandom draws. "turns": smooth weighted round robin, so
        that 95 to 5 is exact in every 20 requests. "key": by the key, as Rendezvous does, so that a user stays on one
        side; a change of weights then moves only as many keys as it must, and requests without a key are drawn.
    seed : of the draws; None draws anew in each process, also after a fork.

    A part that has nobody for a request lets the next one have it, in the order of `parts` and without those of weight
    0. A retry (`attempts`, `exclude=`) is split again. `pick_many` splits once and asks each part for its share.

    Raises ConfigError for no part, for what is no picker, and for a weight that cannot be.

    Source: TrafficSplit of the Service Mesh Interface (v1alpha4), weighted clusters of Envoy.

    >>> split = aibalance.TrafficSplit([(RoundRobin(["stable"]), 95), (RoundRobin(["canary"]), 5)], by="turns")
    >>> [split.pick().id for _ in range(100)].count("canary")
    5
    >>> split.set_weights([50, 50])
    >>> [split.pick().id for _ in range(100)].count("canary")
    50
    """

    __slots__ = ("_draw", "by", "seed")

    by: Literal["chance", "turns", "key"]
    """How requests are split."""
    seed: int | None
    """The seed of the draws."""
    _draw: WeightedRandom | RoundRobin | Rendezvous

    def __init__(
        self,
        parts: Iterable[tuple[Picker, float]],
        /,
        *,
        by: Literal["chance", "turns", "key"] = "chance",
        seed: int | None = None,
    ) -> None:
        pickers, weights = [], []
        part: Any
        for i, part in enumerate(parts):
            if not isinstance(part, tuple | list) or len(part) != 2:
                raise _wrong(f"parts[{i}]", part, "a pair of a picker and its weight")
            pickers.append(known(f"parts[{i}]", part[0]))
            weights.append(part[1])
        if not pickers:
            raise _wrong("parts", [], "at least one pair of a picker and its weight")
        if by not in _SPLITS:
            raise _wrong("by", by, f"one of {', '.join(map(repr, _SPLITS))}")
        draw = _SPLITS[by](Pool(_sides(weights), seed=seed))
        self._set(pickers=tuple(pickers), by=by, seed=seed, _draw=draw)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the parts, in order."""
        return tuple(side.weight for side in self._draw.pool.endpoints)

    def set_weights(self, weights: Iterable[float], /) -> None:
        """Changes all weights in one step, from the next request on. Raises ConfigError; then nothing has changed."""
        found = list(weights)
        if len(found) != len(self.pickers):
            raise _wrong("weights", found, f"{len(self.pickers)} weights, one a part")
        self._draw.pool.update(_sides(found))

    def _order(self, key: Key | None) -> Iterable[Picker]:
        drawn: int = self._draw.pick(key).data
        return self._from(drawn)

    def _from(self, drawn: int) -> Iterator[Picker]:
        yield self.pickers[drawn]
        for i, side in enumerate(self._draw.pool.endpoints):
            if i != drawn and side.weight > 0:
                yield self.pickers[i]

    def pick_many(self, n_or_keys: Any, /, *, hashed: bool = False) -> Picks:
        """Many picks at once: a number of them, or one for each key."""
        import numpy as np

        keys = each(n_or_keys, hashed)
        count = keys if isinstance(keys, int) else len(keys)
        sides = self._draw.pick_many(count if isinstance(keys, int) or self.by != "key" else keys).indices
        indices = np.empty(count, dtype=np.uint32)
        endpoints: list[Endpoint] = []
        for drawn in np.unique(sides).tolist():
            places = np.flatnonzero(sides == drawn).tolist()
            share = len(places) if isinstance(keys, int) else [keys[i] for i in places]
            picks = Fallback(*self._from(drawn)).pick_many(share)
            indices[places] = picks.indices + np.uint32(len(endpoints))
            endpoints += picks.endpoints
        return _picks(indices, tuple(endpoints))

    def __repr__(self) -> str:
        parts = ", ".join(f"({p!r}, {w:g})" for p, w in zip(self.pickers, self.weights, strict=True))
        return f"TrafficSplit([{parts}], by={self.by!r}, seed={self.seed!r})"


def _sides(weights: Iterable[float]) -> list[Endpoint]:
    """The parts as endpoints. What names them in a hash is no address, so that no key goes by one thing twice."""
    return [Endpoint(f"part {i}", weight=weight, data=i) for i, weight in enumerate(weights)]


class Subset(Frozen, Waits, Explains):
    """A picker that sees only some of its endpoints: by tags, by a predicate of yours, or both.

    Parameters
    ----------
    picker : the picker that chooses among them.
    tags : what the endpoint's tags must say; other tags do not matter.
    where : called with an endpoint, says whether it is one of them.

    The picker is asked with `subset=`, and keeps its own rule: turns, load, the key's order. Counts are those of the
    pool, which other pickers share. Who belongs is asked at every pick, so a change of the pool counts at once and a
    pick costs a look at every endpoint: for a large and steady subset, a pool of its own is faster. With pools that
    have endpoints of one id, an id that belongs in one belongs in all.

    Raises ConfigError when neither `tags` nor `where` is given, or the picker has no pool. Pickles if `where` does.

    Source: subset load balancing of Envoy, without its fallbacks: for those, put it into a Fallback.

    >>> pool = Pool([Endpoint("a", tags={"gpu": "h100"}), Endpoint("b", tags={"gpu": "l4"}), "c"])
    >>> large = aibalance.Subset(RoundRobin(pool), tags={"gpu": "h100"})
    >>> [large.pick().id for _ in range(3)]
    ['a', 'a', 'a']
    >>> aibalance.Subset(RoundRobin(pool), where=lambda endpoint: endpoint.id > "a").pick().id
    'b'
    """

    __slots__ = ("__weakref__", "picker", "tags", "where")

    picker: Picker
    """Who chooses."""
    tags: Mapping[str, Any] | None
    """What the tags must say."""
    where: Callable[[Endpoint], object] | None
    """The predicate."""

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        tags: Mapping[str, Any] | None = None,
        where: Callable[[Endpoint], object] | None = None,
    ) -> None:
        known("picker", picker)
        if not pools(picker):
            raise _wrong("picker", picker, "a picker with `pool` or `pools`, so that its endpoints are known")
        if tags is not None and not isinstance(tags, Mapping):
            raise _wrong("tags", tags, "a mapping of tags to values")
        if where is not None and not callable(where):
            raise _wrong("where", where, "a function of an endpoint")
        if tags is None and where is None:
            raise _wrong("where", where, "`tags`, `where` or both")
        self._set(picker=picker, tags=None if tags is None else dict(tags), where=where)

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools of the picker, whole."""
        return pools(self.picker)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those that belong, in order."""
        return tuple(e for pool in self.pools for e in pool.endpoints if self._belongs(e))

    def _belongs(self, endpoint: Endpoint) -> bool:
        if self.tags is not None:
            found = endpoint.tags
            if any(name not in found or found[name] != value for name, value in self.tags.items()):
                return False
        return self.where is None or bool(self.where(endpoint))

    def _names(self, subset: Names | None) -> frozenset[str]:
        ours = frozenset(e.id for e in self.endpoints)
        return ours if subset is None else ours & names_of(subset)

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses among them. Raises as the picker does."""
        found = self.try_pick(key, now=now)
        if found is not None:
            return found
        lease = self.picker.acquire(key, subset=self._names(None), now=now)  # says why there is nobody
        lease.cancel()
        return lease.endpoint

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
        found = ranked(self.picker, key, 1, None, self._names(None), now)
        return found[0] if found else None

    def acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses among them, and among `subset` where that is given, and takes a lease. `cost=None` is the picker's
        default."""
        return self.picker.acquire(key, exclude=exclude, subset=self._names(subset), now=now, **costing(cost))

    def try_acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
        return self.picker.try_acquire(key, exclude=exclude, subset=self._names(subset), now=now, **costing(cost))

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
        """Up to `k` of them, in the picker's order."""
        return ranked(self.picker, key, k, exclude, self._names(subset), now)

    def attempts(self, key: Key | None = None, /, *, budget: int | RetryBudget | ActiveRetryBudget) -> Iterator[Lease]:
        """The attempts of one request, each on another one of them."""
        return attempts(self, key, budget)

    def pick_many(self, n_or_keys: Any, /, *, hashed: bool = False) -> Picks:
        """Many picks: a number of them, or one for each key. Not faster than as many calls of `pick`."""
        keys = each(n_or_keys, hashed)
        chosen = [self.pick(key) for key in ([None] * keys if isinstance(keys, int) else keys)]
        return gathered(chosen, [e for pool in self.pools for e in pool.endpoints])

    def __repr__(self) -> str:
        tags = "" if self.tags is None else f", tags={self.tags!r}"
        where = "" if self.where is None else f", where={self.where!r}"
        return f"Subset({self.picker!r}{tags}{where})"
