"""LoRA adapters: which endpoint has which, and k replicas of each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from .._core import Endpoint
from .._errors import OverloadedError
from .._picker import Picker, wrong
from ._checks import at_least, text, whole_from
from ._over import Over, over_bound

__all__ = ["LoraAware", "LoraRequest"]


class LoraRequest(NamedTuple):
    """A key for `LoraAware`: the adapter that a request needs, and the key for the picker inside.

    >>> from aibalance.llm import LoraRequest
    >>> LoraRequest("sql", [1, 2, 3])
    LoraRequest(adapter='sql', prompt=[1, 2, 3])
    """

    adapter: str | None
    """The adapter's name; None for the base model."""
    prompt: Any = None
    """What the picker inside goes by."""


class LoraAware(Over):
    """Sends a request where its LoRA adapter is, and keeps an adapter on at most `replicas` endpoints.

    Parameters
    ----------
    picker : who chooses among the endpoints that come into question: any on one pool, such as `PrefixAware`.
    replicas (2) : on how many endpoints at most an adapter is, 1 or more.
    slots (4) : how many adapters an endpoint has at a time (vLLM's `max_loras`), 1 or more.
    load_factor (1.25) : a replica that would have more than this many times its share of the requests in flight,
        rounded up, is overloaded, and gets another one beside it; 1 or more, None for never: then one is all there is.
    min_inflight (4) : a replica with no more requests in flight than this is not overloaded; 0 or more.
    hold (10.0) : seconds for which an adapter that was used is not made to go for another one; 0 or more.

    The key is a `LoraRequest`; anything else, and `adapter=None`, is for the base model and goes by the picker alone.
    Asked are, the first that has somebody: the replicas that are not overloaded; if there are fewer than `replicas`,
    those with a free slot, then those whose least recently used adapter is older than `hold`, which goes; the others
    of the replicas; and for an adapter without replicas everybody, and the least recently used one there goes. So the
    fleet loads an adapter when it must, no endpoint has more than `slots`, and no adapter more than `replicas`: a
    replica that is unhealthy, draining or excluded does not count, and goes when another takes its place. When all
    `replicas` are at their `max_inflight`, the answer is OverloadedError although others may be free.

    It believes its own picks. `loaded` and `unloaded` are events of yours: what engines say they have. It reads the
    statistics of all endpoints at each pick, about a microsecond an endpoint. Any number of threads may use it.

    Prompts of different adapters do not share a cache: have the adapter in the block hashes, or an index each.

    Raises ConfigError. Sources: LoRA affinity of the Gateway API Inference Extension (active, then room for one more),
    with the bound on replicas that users ask of it (llm-d-router#709); the bound on load is that of consistent hashing
    with bounded loads (Mirrokni and others 2018).

    >>> from aibalance.llm import LoraAware, LoraRequest
    >>> picker = LoraAware(LeastRequest(["a", "b", "c"], seed=1), replicas=2, slots=1)
    >>> leases = [picker.acquire(LoraRequest("sql")) for _ in range(10)]
    >>> picker.replicas_of("sql") == {lease.endpoint.id for lease in leases}, len(picker.replicas_of("sql"))
    (True, 2)
    >>> picker.acquire(LoraRequest("poems")).endpoint.id in picker.replicas_of("sql")
    False
    """

    __slots__ = ("_held", "_lock", "_slots", "hold", "load_factor", "min_inflight", "replicas", "slots")

    replicas: int
    """On how many endpoints an adapter may be."""
    slots: int
    """How many adapters an endpoint has, where `set_slots` has not said otherwise."""
    load_factor: float | None
    """From how many times its share of the requests in flight on a replica is overloaded."""
    min_inflight: int
    """Up to how many requests in flight it is not."""
    hold: float
    """For how many seconds an adapter that was used stays."""
    _lock: threading.RLock
    # Of each endpoint its adapters, the least recently used first, and when that was.
    _held: dict[str, OrderedDict[str, float]]
    _slots: dict[str, int]

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        replicas: int = 2,
        slots: int = 4,
        load_factor: float | None = 1.25,
        min_inflight: int = 4,
        hold: float = 10.0,
    ) -> None:
        self._begin(picker)
        self._set(
            replicas=whole_from("replicas", replicas, 1),
            slots=whole_from("slots", slots, 1),
            load_factor=None if load_factor is None else at_least("load_factor", load_factor, 1.0),
            min_inflight=whole_from("min_inflight", min_inflight, 0),
            hold=at_least("hold", hold),
            _lock=threading.RLock(),
            _held={},
            _slots={},
        )

    def replicas_of(self, adapter: str, /) -> frozenset[str]:
        """The ids of the endpoints that have an adapter."""
        with self._lock:
            return frozenset(id for id, held in self._held.items() if adapter in held)

    def adapters_of(self, endpoint: Endpoint | str, /) -> tuple[str, ...]:
        """The adapters that an endpoint has, the least recently used first."""
        with self._lock:
            return tuple(self._held.get(_id(endpoint), ()))

    def set_slots(self, endpoint: Endpoint | str, slots: int, /) -> None:
        """How many adapters this endpoint has at a time. The least recently used that are too many go."""
        id, most = _id(endpoint), whole_from("slots", slots, 1)
        with self._lock:
            self._slots[id] = most
            held = self._held.get(id, OrderedDict())
            while len(held) > most:
                held.popitem(last=False)

    def loaded(self, endpoint: Endpoint | str, adapter: str, /, *, now: float | None = None) -> None:
        """An event: the endpoint has this adapter, and used it just now."""
        self._use(text("adapter", adapter), _id(endpoint), self._at(now))

    def unloaded(self, endpoint: Endpoint | str, adapter: str | None = None, /) -> None:
        """An event: the endpoint has this adapter no longer, or none (None), as after a restart."""
        with self._lock:
            held = self._held.get(_id(endpoint), OrderedDict())
            if adapter is None:
                held.clear()
            held.pop(adapter or "", None)

    def _use(self, adapter: str, endpoint: str, at: float) -> None:
        with self._lock:
            held = self._held.setdefault(endpoint, OrderedDict())
            held[adapter] = max(at, held.get(adapter, at))
            held.move_to_end(adapter)
            if len(held) > self._slots.get(endpoint, self.slots):
                held.popitem(last=False)
            others = [id for id, its in self._held.items() if adapter in its and id != endpoint]
            others.sort(key=lambda id: self._held[id][adapter])
            for id in others[: max(len(others) + 1 - self.replicas, 0)]:
                del self._held[id][adapter]

    def _adapter(self, key: Any) -> str | None:
        if not isinstance(key, LoraRequest) or key.adapter is None:
            return None
        return text("adapter", key.adapter)

    def _inner(self, key: Any) -> Any:
        return key.prompt if isinstance(key, LoraRequest) else key

    def _steps(
        self, key: Any, without: frozenset[str], within: frozenset[str] | None, now: float | None
    ) -> Iterator[Collection[str] | None]:
        adapter = self._adapter(key)
        if adapter is None:
            yield None
            return
        stats = self.pool.stats(now)
        at = self._at(now)
        with self._lock:
            ids = {record.id for record in stats}
            for gone in self._held.keys() - ids:
                del self._held[gone]
            for gone in self._slots.keys() - ids:
                del self._slots[gone]
            # Whoever is only full may get a request again soon: it counts as a replica.
            usable = {
                record.id
                for record in stats
                if (record.eligible or record.share > 0)
                and record.id not in without
                and (within is None or record.id in within)
            }
            mine = {id for id in usable if adapter in self._held.get(id, ())}
            over = set() if self.load_factor is None else over_bound(stats, self.load_factor, self.min_inflight)
            room, stale = set(), set()
            for id in usable - mine:
                held = self._held.get(id)
                if held is None or len(held) < self._slots.get(id, self.slots):
                    room.add(id)
                elif at - next(iter(held.values())) >= self.hold:
                    stale.add(id)
        yield mine - over
        # Without a bound on load, one that is there is never too loaded for another.
        if len(mine) < self.replicas and (not mine or self.load_factor is not None):
            yield room
            yield stale
        yield mine & over
        if not mine:
            yield usable

    def _took(self, key: Any, endpoint: str, now: float | None) -> None:
        adapter = self._adapter(key)
        if adapter is not None:
            self._use(adapter, endpoint, self._at(now))

    def _refused(self, key: Any) -> Exception | None:
        adapter = self._adapter(key)
        if adapter is None or not self.replicas_of(adapter):
            return None
        return OverloadedError(f"adapter {adapter!r}: all of its {self.replicas} replicas are full")

    def __repr__(self) -> str:
        return (
            f"LoraAware({self.picker!r}, replicas={self.replicas}, slots={self.slots},"
            f" load_factor={self.load_factor!r}, min_inflight={self.min_inflight}, hold={self.hold!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("replicas", "slots", "load_factor", "min_inflight", "hold")
        return _made, (self.picker, {name: getattr(self, name) for name in names})


def _made(picker: Picker, values: dict[str, Any]) -> LoraAware:
    return LoraAware(picker, **values)


def _id(endpoint: Any) -> str:
    if isinstance(endpoint, Endpoint):
        return endpoint.id
    if not isinstance(endpoint, str):
        raise wrong("endpoint", endpoint, "an endpoint or its id")
    return endpoint
