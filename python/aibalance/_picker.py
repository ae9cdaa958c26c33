"""The `Picker` protocol, and how what it leaves out is made from what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from ._core import ActiveRetryBudget, Endpoint, Hashed, Lease, Picks, Pool, RetryBudget, _picks
from ._errors import ConfigError, PickError

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    import numpy.typing as npt

__all__ = ["Frozen", "Key", "Names", "Picker", "attempts", "known", "many", "names_of", "pools", "ranked", "wrong"]

Key: TypeAlias = str | bytes | int | Hashed
"""What a picker may go by."""

Names: TypeAlias = Iterable[Endpoint | str]
"""Endpoints or their ids."""


@runtime_checkable
class Picker(Protocol):
    """What a picker has to have: these four methods.

    Every built-in picker has them, and so has whatever you write; `CustomPicker` makes them from one method of yours.
    `Fallback`, `TrafficSplit`, `Subset` and `aibalance.testing` ask for nothing else, so that all of them can be put
    together. What a picker may have besides, with the meaning that it has for the built-in ones, is `pool`, `ranked`,
    `attempts` and `pick_many`; where it has not, they are made from these four.

    - A picker that cannot pick raises PickError (NoEndpointsError, NoHealthyEndpointError, OverloadedError), and its
      `try_` methods return None.
    - It picks nobody who is unhealthy, draining, full, of weight 0, excluded or outside the subset.
    - `pick` leaves the counts of the pool as they are; `acquire` counts one request in flight, until its lease ends.

    `isinstance` looks at the names only; `aibalance.testing.check_picker` looks at what they do.

    >>> isinstance(RoundRobin(["a", "b"]), aibalance.Picker)
    True
    """

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint."""

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""

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
        """Chooses an endpoint and takes a lease on it."""

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


def costing(cost: float | None) -> dict[str, Any]:
    """The argument for a picker; none leaves it its default, which for a prompt is its tokens."""
    return {} if cost is None else {"cost": cost}


class Frozen:
    """Slots that are set once, and that a pickle carries."""

    __slots__ = ()

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        slots = [name for cls in type(self).__mro__ for name in getattr(cls, "__slots__", ()) if name != "__weakref__"]
        return _restored, (type(self), {name: getattr(self, name) for name in slots})

    def __copy__(self) -> Self:
        return self


def _restored(cls: type[Frozen], values: dict[str, object]) -> Frozen:
    made = cls.__new__(cls)
    Frozen._set(made, **values)
    return made


def wrong(field: str, value: object, allowed: str) -> ConfigError:
    """The error about an argument."""
    return ConfigError(f"{field}: {value!r} is not allowed; expected {allowed}")


def known(field: str, picker: Any) -> Picker:
    """A picker, or ConfigError. A class has the methods too, and is none."""
    if isinstance(picker, type) or not isinstance(picker, Picker):
        raise wrong(field, picker, "a picker: an object with pick, try_pick, acquire and try_acquire")
    return picker


def pools(picker: object) -> tuple[Pool, ...]:
    """The pools that a picker picks from, as far as it says so."""
    many = getattr(picker, "pools", None)
    if isinstance(many, tuple):
        return many
    one = getattr(picker, "pool", None)
    return (one,) if isinstance(one, Pool) else ()


def names_of(names: Names | None) -> frozenset[str]:
    """Ids, whatever way they were named; a wrong argument is left to the picker that gets them."""
    return frozenset(one.id if isinstance(one, Endpoint) else one for one in names or ())


def ranked(
    picker: Picker,
    key: Key | None,
    k: int,
    exclude: Names | None,
    subset: Names | None,
    now: float | None,
) -> list[Endpoint]:
    """`picker.ranked`, or one lease after the other, each given up again."""
    own = getattr(picker, "ranked", None)
    if own is not None:
        found: list[Endpoint] = own(key, k=k, exclude=exclude, subset=subset, now=now)
        return found
    names = None if subset is None else names_of(subset)
    out: list[Endpoint] = []
    tried = set(names_of(exclude))
    while len(out) < whole("k", k, 0):
        lease = picker.try_acquire(key, exclude=tried, subset=names, now=now)
        if lease is None:
            break
        lease.cancel()
        tried.add(lease.endpoint.id)
        out.append(lease.endpoint)
    return out


def whole(field: str, value: Any, low: int, allowed: str | None = None) -> int:
    """A whole number from `low` on."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise wrong(field, value, allowed or f"a whole number of at least {low}")
    return int(value)


def attempts(picker: Picker, key: Key | None, budget: int | RetryBudget | ActiveRetryBudget) -> Iterator[Lease]:
    """The attempts of one request, each on an endpoint that has not been tried."""
    if isinstance(budget, RetryBudget | ActiveRetryBudget):
        return _attempts(picker, key, budget.max_attempts, budget)
    allowed = "the most attempts (a whole number of at least 1), a RetryBudget or an ActiveRetryBudget"
    return _attempts(picker, key, whole("budget", budget, 1, allowed), None)


def _paid(own: tuple[Pool, ...], budget: RetryBudget | ActiveRetryBudget | None, first: bool) -> bool:
    """Whether there may be one more attempt."""
    if isinstance(budget, RetryBudget):
        now = own[0].clock.now() if own else None
        if not first:
            return budget.withdraw(now=now)
        budget.deposit(now=now)
    elif budget is not None and not first:
        return budget.try_acquire(sum(record.inflight for pool in own for record in pool.stats()))
    return True


def _attempts(
    picker: Picker, key: Key | None, most: int, budget: RetryBudget | ActiveRetryBudget | None
) -> Iterator[Lease]:
    tried: list[str] = []
    own = pools(picker)
    while len(tried) < most:
        if not _paid(own, budget, not tried):
            return
        try:
            try:
                leases = [picker.acquire(key, exclude=tried)]
            except PickError:
                # The first attempt says why there is nobody; later ones end when everybody has been tried.
                if tried:
                    return
                raise
            # Not kept here: a lease that is dropped gives its work back.
            endpoint = leases[0].endpoint.id
            yield leases.pop()
        finally:
            if tried and isinstance(budget, ActiveRetryBudget):
                budget.release()
        tried.append(endpoint)


def each(n_or_keys: Any, hashed: bool) -> Sequence[Key] | int:
    """A number of picks, or a key for each."""
    if isinstance(n_or_keys, Integral):
        return whole("n_or_keys", n_or_keys, 0)
    if isinstance(n_or_keys, str | bytes) or not hasattr(n_or_keys, "__len__"):
        raise wrong("n_or_keys", n_or_keys, "a number of picks, a list of keys or an array of integers")
    keys = n_or_keys.tolist() if hasattr(n_or_keys, "tolist") else n_or_keys
    if hashed:
        return [key if isinstance(key, Hashed) else Hashed(key) for key in keys]
    return list(keys)


def many(picker: Picker, n_or_keys: Any, hashed: bool) -> Picks:
    """`picker.pick_many`, or that many picks."""
    own = getattr(picker, "pick_many", None)
    if own is not None:
        found: Picks = own(n_or_keys, hashed=hashed)
        return found
    keys = each(n_or_keys, hashed)
    chosen = [picker.pick(key) for key in ([None] * keys if isinstance(keys, int) else keys)]
    return gathered(chosen, [e for pool in pools(picker) for e in pool.endpoints])


def gathered(chosen: Sequence[Endpoint], endpoints: Sequence[Endpoint]) -> Picks:
    """Picks as places in these endpoints, with whoever was picked and is not among them at the end."""
    import numpy as np

    everybody = list(endpoints)
    # By identity: endpoints of two pools may have one id.
    place = {id(endpoint): i for i, endpoint in enumerate(everybody)}
    indices: npt.NDArray[np.uint32] = np.empty(len(chosen), dtype=np.uint32)
    for i, endpoint in enumerate(chosen):
        at = place.get(id(endpoint))
        if at is None:
            at = place[id(endpoint)] = len(everybody)
            everybody.append(endpoint)
        indices[i] = at
    return _picks(indices, tuple(everybody))
