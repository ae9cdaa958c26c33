"""Hypothesis strategies for endpoints, traffic and scripts. Hypothesis is needed only when one is called."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core import Endpoint
from .._errors import ConfigError
from .._picker import Key
from ._model import Event, Script

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Request", "endpoints", "hypothesis", "keys", "scripts", "traffic"]

_IDS = "abcdefgh"
_WEIGHTS = (1, 1, 1, 2, 3, 5, 0.5, 0)


def hypothesis() -> Any:
    """The package, or an error that says how to get it."""
    try:
        import hypothesis
        import hypothesis.strategies
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ConfigError("aibalance.testing: needs hypothesis; run: pip install hypothesis") from None
    return hypothesis


class Request(NamedTuple):
    """One request of `traffic()`.

    >>> from aibalance.testing import Request
    >>> Request(at=0.5, key="user-1").cost
    1.0
    """

    at: float
    """When it arrives, in seconds from the start."""
    key: Key
    """What a hashing picker goes by."""
    cost: float = 1.0
    """The work it brings."""
    duration: float = 0.0
    """How long it stays in flight, in seconds."""


def endpoints(*, min_size: int = 0, max_size: int = 6) -> SearchStrategy[list[Endpoint]]:
    """A pool's endpoints, ids "a", "b", ...: weights 0 to 5, some limited to 1 or 2 in flight, some backups.

    `max_size` is at most 8. Raises ConfigError when Hypothesis is not installed.

    >>> from hypothesis import find
    >>> from aibalance.testing import endpoints
    >>> find(endpoints(min_size=2), lambda found: len(found) == 2)
    [Endpoint('a'), Endpoint('b')]
    """
    st = hypothesis().strategies
    one = st.tuples(st.sampled_from(_WEIGHTS), st.sampled_from([False, False, False, True]), _limit(st))
    several = st.lists(one, min_size=min_size, max_size=min(max_size, len(_IDS)))
    found: SearchStrategy[list[Endpoint]] = several.map(
        lambda rows: [_endpoint(_IDS[i], *r) for i, r in enumerate(rows)]
    )
    return found


def _limit(st: Any) -> Any:
    return st.sampled_from([None, None, 1, 2])


def _endpoint(id: str, weight: float, backup: bool, limit: int | None) -> Endpoint:
    return Endpoint(id, weight=weight, backup=backup, max_inflight=limit)


def keys() -> SearchStrategy[Key]:
    """Keys of every kind that pickers take: text, bytes, integers of up to 64 bits.

    >>> from hypothesis import find
    >>> from aibalance.testing import keys
    >>> find(keys(), lambda key: isinstance(key, int) and key > 2**63)
    9223372036854775809
    """
    st = hypothesis().strategies
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    found: SearchStrategy[Key] = st.one_of(text, st.binary(max_size=20), st.integers(-(2**63), 2**64 - 1))
    return found


def _event(kind: Any, **parts: Any) -> Event:
    return Event(kind, **parts)


def traffic(*, max_size: int = 50, keys: SearchStrategy[Key] | None = None) -> SearchStrategy[list[Request]]:
    """Requests in the order in which they arrive, some of them at once, with costs and durations.

    `keys` says which keys they have (default: a dozen users, so that keys come back).

    >>> from hypothesis import find
    >>> from aibalance.testing import traffic
    >>> find(traffic(), lambda requests: len(requests) == 2 and requests[1].at > 1)[0].key
    'user-0'
    """
    st = hypothesis().strategies
    users = st.integers(0, 11).map(lambda i: f"user-{i}") if keys is None else keys
    gap = st.sampled_from([0.0, 0.001, 0.1, 2.0])
    one = st.tuples(gap, users, st.sampled_from([1.0, 1.0, 0.5, 8.0]), st.sampled_from([0.0, 0.01, 1.0, 30.0]))

    def timed(rows: list[tuple[float, Key, float, float]]) -> list[Request]:
        at, out = 0.0, []
        for wait, key, cost, duration in rows:
            at += wait
            out.append(Request(at, key, cost, duration))
        return out

    found: SearchStrategy[list[Request]] = st.lists(one, max_size=max_size).map(timed)
    return found


def scripts(
    *, min_events: int = 0, max_events: int = 25, keys: SearchStrategy[Key] | None = None
) -> SearchStrategy[Script]:
    """Pools and what happens to them: picks, leases and their ends, health, drains, weights, changes of the pool.

    For `run_script`, which says whether a picker behaves. Pools of no endpoint up to six, with and without panic.
    `keys` says which keys requests have (default: a dozen users).

    >>> from hypothesis import find
    >>> from aibalance.testing import scripts
    >>> print(find(scripts(), lambda script: any(event.kind == "drain" for event in script.events)).events[0])
    pool.drain('a')
    """
    st = hypothesis().strategies
    ids = st.sampled_from(_IDS[:6])
    some = st.frozensets(ids, max_size=4)
    key = st.integers(0, 11).map(lambda i: f"user-{i}") if keys is None else keys
    health = st.sampled_from(["unhealthy", "degraded", "healthy"])
    added = st.builds(_endpoint, ids, st.sampled_from(_WEIGHTS), st.booleans(), _limit(st))
    place = st.integers(0, 5)

    def event(kind: str, **parts: Any) -> Any:
        return st.builds(partial(_event, kind), **parts)

    asked = {"key": key, "exclude": some, "subset": st.one_of(st.none(), st.none(), some)}
    one = st.one_of(
        event("pick", key=key),
        event("acquire", value=st.sampled_from([1.0, 0.5, 3.0]), **asked),
        event("acquire", key=key),
        event("with", **asked),
        event("release", value=place),
        event("cancel", value=place),
        event("drop", value=place),
        event("ranked", value=st.integers(0, 6), **asked),
        event("attempts", key=key, value=st.integers(1, 4)),
        event("many", value=st.integers(0, 5)),
        event("set_health", id=ids, value=health),
        event("set_weight", id=ids, value=st.sampled_from(_WEIGHTS)),
        event("drain", id=ids),
        event("undrain", id=ids),
        event("add", value=added),
        event("remove", id=ids),
        event("advance", value=st.sampled_from([0.01, 1.0, 20.0])),
    )
    found: SearchStrategy[Script] = st.builds(
        Script,
        endpoints(max_size=6).map(tuple),
        st.lists(one, min_size=min_events, max_size=max_events).map(tuple),
        panic_threshold=st.sampled_from([0.0, 0.5, 0.75]),
        seed=st.integers(0, 3),
    )
    return found
