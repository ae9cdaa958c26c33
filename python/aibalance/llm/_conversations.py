"""Conversations that stay with their endpoint until it has too much to do."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from .._core import StickyTable
from .._picker import Picker, wrong
from ._checks import at_least, whole_from
from ._over import Over, over_bound

__all__ = ["Conversations", "Turn"]


class Turn(NamedTuple):
    """A key for `Conversations`: which conversation (or group of siblings) a request belongs to.

    >>> from aibalance.llm import Turn
    >>> Turn("chat-7", "How are you?")
    Turn(conversation='chat-7', prompt='How are you?', load_factor=None)
    """

    conversation: str | bytes | None
    """Its name; None for a request that belongs to none."""
    prompt: Any = None
    """What the picker inside goes by."""
    load_factor: float | None = None
    """A bound of its own, 1 or more; None is that of `Conversations`."""


class Conversations(Over):
    """Turns of a conversation go to one endpoint, until that has more than its part of the load.

    Parameters
    ----------
    picker : who chooses for a conversation that is new or was let go: any on one pool, such as `PrefixAware`.
    table (None) : the `StickyTable` to remember in; None makes one for 100,000 conversations of an hour.
    load_factor (1.5) : a conversation is let go when its endpoint would have more than this many times its share of the
        requests in flight, rounded up; 1 or more, None to never let go for load. A `Turn` may have a bound of its own.
    min_inflight (4) : up to so many requests in flight nobody is let go; 0 or more.

    The key is a `Turn`; anything else goes by the picker alone. A conversation is also let go when its endpoint has
    left, is unhealthy, drains, is full, excluded, or of weight 0. Where it goes then is where it stays. Siblings of one
    prompt stay together when they are given one name.

    Unlike `routing.Sticky`, which takes the lease itself, it asks the picker: prompts are charged, remembered by the
    index and explained as ever. It reads the statistics of all endpoints at each turn, about a microsecond an endpoint.

    Raises ConfigError. Source: the sticky sessions with a margin that users ask for (verl#7435); the bound is that of
    consistent hashing with bounded loads (Mirrokni and others 2018).

    >>> from aibalance.llm import Conversations, Turn
    >>> picker = Conversations(LeastRequest(["a", "b"], seed=1))
    >>> home = picker.acquire(Turn("chat-7"))
    >>> home.release()
    >>> {picker.pick(Turn("chat-7")).id for _ in range(20)} == {home.endpoint.id}
    True
    >>> busy = [picker.acquire(subset=[home.endpoint]) for _ in range(6)]
    >>> picker.pick(Turn("chat-7")) == home.endpoint
    False
    """

    __slots__ = ("load_factor", "min_inflight", "table")

    table: StickyTable
    """Where each conversation is."""
    load_factor: float | None
    """From how many times its share of the requests in flight on an endpoint is left."""
    min_inflight: int
    """Up to how many requests in flight it is not."""

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        table: StickyTable | None = None,
        load_factor: float | None = 1.5,
        min_inflight: int = 4,
    ) -> None:
        self._begin(picker)
        if table is not None and not isinstance(table, StickyTable):
            raise wrong("table", table, "a StickyTable, or None")
        self._set(
            table=StickyTable(clock=self.pool.clock) if table is None else table,
            load_factor=None if load_factor is None else at_least("load_factor", load_factor, 1.0),
            min_inflight=whole_from("min_inflight", min_inflight, 0),
        )

    def home(self, conversation: str | bytes, /, *, now: float | None = None) -> str | None:
        """The id of the endpoint that a conversation is with; None when it has none."""
        return self.table.get(conversation, now=now)

    def _inner(self, key: Any) -> Any:
        return key.prompt if isinstance(key, Turn) else key

    def _steps(
        self, key: Any, without: frozenset[str], within: frozenset[str] | None, now: float | None
    ) -> Iterator[Collection[str] | None]:
        if isinstance(key, Turn) and key.conversation is not None:
            factor = self.load_factor if key.load_factor is None else at_least("load_factor", key.load_factor, 1.0)
            home = self.table.get(key.conversation, now=now)
            if home is not None and not (
                factor is not None and home in over_bound(self.pool.stats(now), factor, self.min_inflight)
            ):
                yield (home,)
        yield None

    def _took(self, key: Any, endpoint: str, now: float | None) -> None:
        if isinstance(key, Turn) and key.conversation is not None:
            self.table.set(key.conversation, endpoint, now=now)

    def __repr__(self) -> str:
        return (
            f"Conversations({self.picker!r}, table={self.table!r}, load_factor={self.load_factor!r},"
            f" min_inflight={self.min_inflight})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.picker, self.table, self.load_factor, self.min_inflight)


def _made(picker: Picker, table: StickyTable, load_factor: float | None, least: int) -> Conversations:
    return Conversations(picker, table=table, load_factor=load_factor, min_inflight=least)
