"""Fairness between tenants: the virtual token counter, and a queue that goes by it."""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from types import MappingProxyType, TracebackType
from typing import Any, Generic, Self, TypeVar

from .._core import Endpoint, Lease
from .._errors import ConfigError
from .._picker import Frozen, Key, Names, Picker, known, whole, wrong
from .._queue import WaitQueue, _checked, _Line, _Waiter
from ._checks import at_least, positive, text, whole_from

__all__ = ["FairQueue", "TenantLease", "VirtualTokenCounter"]

T = TypeVar("T")


class VirtualTokenCounter(Frozen, Generic[T]):
    """Whose turn it is, by the tokens that each tenant was served: whoever had least goes first.

    Parameters
    ----------
    weights (None) : of tenants by name, above 0; one of weight 2 is due twice the tokens. Others have `default_weight`.
    default_weight (1.0) : above 0.
    input_weight (1.0), output_weight (2.0) : what a token of a prompt and of an answer counts, 0 or more.
    max_tenants (65536) : how many counters of tenants without waiting requests are kept, 1 or more.

    A tenant's counter grows by `input_weight * tokens / weight` when a request of it is served, and by `output_weight /
    weight` for each token of its answers (`charge`). A tenant that comes to wait while nothing of it waited is lifted:
    to the least counter of those who wait; with nobody waiting, to that of whoever left last. So nobody saves up turns
    while away, and a newcomer does not keep all others waiting. Between two tenants that always have requests waiting
    the tokens served, by weight, never differ by more than twice the larger of what one prompt counts and what all
    answers in flight can count. Ties go to whoever has not been served for longest.

    It is bounded: a counter that lifting would raise anyway is forgotten first, which changes nothing; beyond that the
    least ones are, and those tenants begin anew. Any number of threads may use it. A copy by pickle has no counters.

    Use it alone (`push`, `pop`), or for those who wait for an endpoint: `FairQueue`.

    Raises ConfigError. Source: Sheng and others, "Fairness in Serving Large Language Models" (OSDI 2024), with its
    weighted and its predicting form; the defaults are the paper's.

    >>> from aibalance.llm import VirtualTokenCounter
    >>> turns = VirtualTokenCounter(weights={"paying": 2})
    >>> for i in range(4):
    ...     turns.push("paying", f"p{i}", tokens=100)
    ...     turns.push("free", f"f{i}", tokens=100)
    >>> [turns.pop()[1] for _ in range(6)]
    ['p0', 'f0', 'p1', 'f1', 'p2', 'p3']
    >>> turns.counters()
    {'paying': 200.0, 'free': 200.0}
    """

    __slots__ = (
        "_charges",
        "_counters",
        "_floor",
        "_items",
        "_last",
        "_lock",
        "_serial",
        "_served",
        "_waiting",
        "default_weight",
        "input_weight",
        "max_tenants",
        "output_weight",
        "weights",
    )

    weights: Mapping[str, float]
    """Of tenants, by name."""
    default_weight: float
    """Of all others."""
    input_weight: float
    """What a token of a prompt counts."""
    output_weight: float
    """What a token of an answer counts."""
    max_tenants: int
    """How many counters are kept of tenants without waiting requests."""
    _lock: threading.RLock
    _counters: dict[str, float]
    _served: dict[str, int]
    _waiting: dict[str, int]
    _items: dict[str, deque[tuple[T, float]]]
    _floor: float
    _last: str
    _serial: Iterator[int]

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        default_weight: float = 1.0,
        input_weight: float = 1.0,
        output_weight: float = 2.0,
        max_tenants: int = 65536,
    ) -> None:
        if weights is not None and not isinstance(weights, Mapping):
            raise wrong("weights", weights, "a mapping of tenants to numbers above 0, or None")
        given = {
            text("weights", name): positive(f"weights[{name!r}]", value) for name, value in (weights or {}).items()
        }
        self._set(
            weights=MappingProxyType(given),
            default_weight=positive("default_weight", default_weight),
            input_weight=at_least("input_weight", input_weight),
            output_weight=at_least("output_weight", output_weight),
            max_tenants=whole_from("max_tenants", max_tenants, 1),
        )
        if self.input_weight == 0 and self.output_weight == 0:
            raise ConfigError("input_weight: 0.0 is not allowed; a number above 0 where output_weight is 0")
        # Re-entrant: the garbage collector may end a lease, and so charge, inside any of these methods.
        self._set(
            _lock=threading.RLock(),
            _counters={},
            _served={},
            _waiting={},
            _items={},
            _floor=0.0,
            _last="",
            _serial=count(1),
        )

    def weight(self, tenant: str, /) -> float:
        """A tenant's weight."""
        return self.weights.get(tenant, self.default_weight)

    def counter(self, tenant: str, /) -> float:
        """What a tenant has been served, by weight; for one that is not known, what it would begin with."""
        with self._lock:
            return self._counters.get(tenant, self._base())

    def counters(self) -> dict[str, float]:
        """The counters of all who are known."""
        with self._lock:
            return dict(self._counters)

    def __len__(self) -> int:
        """How many requests wait."""
        with self._lock:
            return sum(self._waiting.values())

    def __bool__(self) -> bool:
        return True

    def _base(self) -> float:
        """To what a tenant that comes to wait is lifted."""
        if self._waiting:
            return min(self._counters[tenant] for tenant in self._waiting)
        # What whoever left last has been served since counts too.
        return max(self._floor, self._counters.get(self._last, 0.0))

    def enter(self, tenant: str, /) -> None:
        """A request of a tenant begins to wait."""
        text("tenant", tenant)
        with self._lock:
            if tenant not in self._waiting:
                base = self._base()
                self._counters[tenant] = max(self._counters.get(tenant, base), base)
            self._waiting[tenant] = self._waiting.get(tenant, 0) + 1
            self._forget()

    def leave(self, tenant: str, /) -> None:
        """A request of a tenant waits no longer, and was not served. Raises ConfigError if none of it waits."""
        with self._lock:
            left = self._waiting.get(tenant, 0) - 1
            if left < 0:
                raise wrong("tenant", tenant, "a tenant of whom requests wait")
            if left:
                self._waiting[tenant] = left
                return
            if len(self._waiting) == 1:
                self._set(_floor=max(self._floor, self._counters[tenant]), _last=tenant)
            del self._waiting[tenant]

    def serve(self, tenant: str, /, tokens: float = 0.0, *, output: float = 0.0) -> None:
        """A waiting request of a tenant is served: its prompt counts, and `output` predicted tokens of the answer."""
        with self._lock:
            self._served[tenant] = next(self._serial)
            self.charge(tenant, tokens, output=output)
            self.leave(tenant)

    def charge(self, tenant: str, /, tokens: float = 0.0, *, output: float = 0.0) -> None:
        """Counts tokens of prompts and of answers; less than 0 takes back. A counter never gets below 0."""
        text("tenant", tenant)
        for name, value in (("tokens", tokens), ("output", output)):
            at_least(name, value, -8e12, 8e12)
        with self._lock:
            more = (self.input_weight * tokens + self.output_weight * output) / self.weight(tenant)
            self._counters[tenant] = max(self._counters.get(tenant, self._floor) + more, 0.0)
            self._forget()

    def order(self, tenant: str, /) -> tuple[float, int]:
        """What tenants are compared by; the least is next."""
        with self._lock:
            return self._counters.get(tenant, self._floor), self._served.get(tenant, 0)

    def _forget(self) -> None:
        if len(self._counters) - len(self._waiting) <= self.max_tenants:
            return
        floor = self._base()
        idle = [tenant for tenant in self._counters if tenant not in self._waiting]
        # Whoever is below the floor would be lifted to it: to forget that one changes nothing.
        gone = [tenant for tenant in idle if self._counters[tenant] <= floor]
        if len(gone) <= len(idle) - self.max_tenants:
            gone = heapq.nsmallest(
                len(idle) - self.max_tenants + self.max_tenants // 8, idle, self._counters.__getitem__
            )
        for tenant in gone:
            del self._counters[tenant]
            self._served.pop(tenant, None)

    def push(self, tenant: str, item: T, /, *, tokens: float = 0.0) -> None:
        """Something of a tenant begins to wait; `tokens` of its prompt count once it is popped."""
        at_least("tokens", tokens, 0, 8e12)
        with self._lock:
            self.enter(tenant)
            self._items.setdefault(tenant, deque()).append((item, float(tokens)))

    def pop(self) -> tuple[str, T]:
        """Whose turn it is, and the first that it pushed: it is charged. Raises LookupError when nothing waits."""
        with self._lock:
            tenant = min(self._items, key=self.order, default=None)
            if tenant is None:
                raise LookupError("nothing waits")
            line = self._items[tenant]
            item, tokens = line.popleft()
            if not line:
                del self._items[tenant]
            self.serve(tenant, tokens)
            return tenant, item

    def remove(self, tenant: str, item: T, /) -> bool:
        """Takes out something that waits, such as a request whose client has gone; False when it is not there."""
        with self._lock:
            line = self._items.get(tenant, ())
            for i, (other, _) in enumerate(line):
                if other is item or other == item:
                    del self._items[tenant][i]
                    if not self._items[tenant]:
                        del self._items[tenant]
                    self.leave(tenant)
                    return True
            return False

    def __repr__(self) -> str:
        return (
            f"VirtualTokenCounter(weights={dict(self.weights)!r}, default_weight={self.default_weight!r},"
            f" input_weight={self.input_weight!r}, output_weight={self.output_weight!r},"
            f" max_tenants={self.max_tenants})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("weights", "default_weight", "input_weight", "output_weight", "max_tenants")
        values = {name: getattr(self, name) for name in names}
        return _counter, ({**values, "weights": dict(self.weights)},)


def _counter(values: dict[str, Any]) -> VirtualTokenCounter[Any]:
    return VirtualTokenCounter(**values)


class TenantLease(Frozen):
    """A lease whose tokens count for a tenant. What it has is what a `Lease` has; in a `with` block it is released.

    One that is dropped gives its work back as ever, but what was predicted of its answer stays counted.

    >>> from aibalance.llm import FairQueue
    >>> queue = FairQueue(LeastRequest(["gpu"]))
    >>> with queue.acquire_blocking(tenant="a", tokens=100, timeout=1) as lease:
    ...     lease.first_token()
    ...     lease.add(10)
    >>> lease.endpoint.id, queue.counter.counter("a")
    ('gpu', 120.0)
    """

    __slots__ = ("_counter", "_generated", "_lock", "_predicted", "lease", "tenant")

    lease: Lease
    """The lease."""
    tenant: str
    """Whose it is."""
    _counter: VirtualTokenCounter[Any]
    _predicted: float
    _generated: float
    _lock: threading.RLock

    def __init__(self, lease: Lease, tenant: str, counter: VirtualTokenCounter[Any], predicted: float) -> None:
        self._set(lease=lease, tenant=tenant, _counter=counter, _predicted=predicted, _generated=0.0)
        self._set(_lock=threading.RLock())

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint."""
        return self.lease.endpoint

    @property
    def id(self) -> int:
        """The lease's id."""
        return self.lease.id

    @property
    def cost(self) -> float:
        """The work that the request brings."""
        return self.lease.cost

    @property
    def released(self) -> bool:
        """Whether the work has been given back."""
        return self.lease.released

    def add(self, tokens: float, /) -> None:
        """So many tokens of the answer were generated: they count for the tenant, and on the endpoint.

        Those that were predicted count from the start. Raises LeaseError after a release.
        """
        at_least("tokens", tokens, 0, 8e12)
        self.lease.add(tokens)
        with self._lock:
            before = max(self._generated, self._predicted)
            self._set(_generated=self._generated + tokens)
            more = max(self._generated, self._predicted) - before
        if more:
            self._counter.charge(self.tenant, output=more)

    def first_token(self, *, now: float | None = None) -> None:
        """The answer has begun: see `Lease.first_token`."""
        self.lease.first_token(now=now)

    def _settle(self) -> None:
        with self._lock:
            over = max(self._predicted - self._generated, 0.0)
            self._set(_predicted=0.0)
        if over:
            self._counter.charge(self.tenant, output=-over)

    def release(self, outcome: Any = None, **how: Any) -> None:
        """Gives the work back: see `Lease.release`. What was predicted and not generated is taken off."""
        self.lease.release(outcome, **how)
        self._settle()

    def cancel(self) -> None:
        """Gives the work back: neither latency nor failure."""
        self.lease.cancel()
        self._settle()

    def detach(self) -> int:
        """Leaves the lease to its id. What is generated from then on, say by `counter.charge`."""
        return self.lease.detach()

    def __enter__(self) -> Self:
        self.lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lease.__exit__(kind, error, trace)
        self._settle()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"TenantLease({self.lease!r}, {self.tenant!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a TenantLease cannot be pickled: it holds work in this process")


class _FairWaiter(_Waiter):
    __slots__ = ("charged", "counter", "predicted", "tenant", "tokens")

    def __init__(
        self,
        queue: FairQueue,
        key: Any,
        rank: int,
        tenant: str,
        tokens: float | None,
        predicted: float,
        cost: float | None,
        exclude: Names | None,
        subset: Names | None,
        notify: Callable[[], object],
    ) -> None:
        super().__init__(queue.picker, key, rank, cost, exclude, subset, notify)
        self.tenant, self.tokens, self.predicted = tenant, tokens, predicted
        self.counter = queue.counter
        self.charged = 0.0

    def prompt(self, lease: Lease) -> float:
        self.charged = lease.cost if self.tokens is None else self.tokens
        return self.charged

    def give_up(self) -> None:
        if self.lease is not None:
            self.counter.charge(self.tenant, -self.charged, output=-self.predicted)
        super().give_up()


class _FairLine(_Line):
    __slots__ = ("counter",)

    def __init__(self, picker: Picker, most: int, counter: VirtualTokenCounter[Any]) -> None:
        self.counter = counter
        super().__init__(picker, most)

    def _put(self, waiter: Any) -> None:
        self.counter.enter(waiter.tenant)
        super()._put(waiter)

    def _drop(self, waiter: Any) -> None:
        super()._drop(waiter)
        self.counter.leave(waiter.tenant)

    def _late(self, waiter: Any, lease: Lease) -> None:
        self.counter.charge(waiter.tenant, waiter.prompt(lease), output=waiter.predicted)

    def _hand_out(self) -> list[_Waiter]:
        served: list[_Waiter] = []
        refused: set[object] = set()
        bands: dict[int, dict[str, deque[Any]]] = {}
        for waiter in self.waiting:
            lines = bands.setdefault(waiter.order[0], {})
            lines.setdefault(waiter.tenant, deque()).append(waiter)  # type: ignore[attr-defined]
        everybody = False
        for _, lines in sorted(bands.items()):
            while lines and not everybody:
                tenant = min(lines, key=self.counter.order)
                waiter = lines[tenant].popleft()
                if not lines[tenant]:
                    del lines[tenant]
                if waiter.like in refused:
                    continue
                try:
                    lease = waiter.picker.try_acquire(waiter.key, **waiter.arguments)
                except Exception as error:
                    self.counter.leave(tenant)
                    waiter.serve(error=error)
                else:
                    if lease is not None:
                        self.counter.serve(tenant, waiter.prompt(lease), output=waiter.predicted)
                        waiter.serve(lease)
                if waiter.served:
                    served.append(waiter)
                else:
                    refused.add(waiter.like)
                    everybody = self.simple and not waiter.filtered
        if served:
            self.waiting = [waiter for waiter in self.waiting if not waiter.served]
            self._settle()
        return served


class FairQueue:
    """A `WaitQueue` in which tenants take turns by the tokens that they were served.

    Parameters
    ----------
    picker : whom to ask: any `Picker`.
    counter (None) : the `VirtualTokenCounter` to go by, which queues may share; None makes one.
    max_waiting (1024) : how many may wait, of all tenants together.

    Who waits is served by priority first, strictly; among those of one priority by tenant, whoever has the least
    counter; of one tenant first come, first served. Deadlines, bounds, cancelling and waking are those of `WaitQueue`.
    A release that serves somebody pays about a microsecond for each who waits.

    Raises ConfigError. Source: the dispatch order of the Gateway API Inference Extension's flow control (priority, then
    fairness, then arrival), with the virtual token counter for its fairness.

    >>> from aibalance.llm import FairQueue, VirtualTokenCounter
    >>> queue = FairQueue(LeastRequest([Endpoint("gpu", max_inflight=1)]), counter=VirtualTokenCounter())
    >>> async def request(tenant):
    ...     async with await queue.acquire(tenant=tenant, tokens=100, timeout=5) as lease:
    ...         order.append(tenant)
    ...         await asyncio.sleep(0)
    >>> async def main():
    ...     await asyncio.gather(*map(request, ["greedy", "greedy", "greedy", "modest"]))
    >>> import asyncio
    >>> order = []
    >>> asyncio.run(main())
    >>> order
    ['greedy', 'modest', 'greedy', 'greedy']
    """

    __slots__ = ("_line", "_picker", "counter")

    counter: VirtualTokenCounter[Any]
    """Whose turn it is."""

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        counter: VirtualTokenCounter[Any] | None = None,
        max_waiting: int = 1024,
    ) -> None:
        if counter is not None and not isinstance(counter, VirtualTokenCounter):
            raise wrong("counter", counter, "a VirtualTokenCounter, or None")
        self._picker = known("picker", picker)
        self.counter = VirtualTokenCounter() if counter is None else counter
        self._line = _FairLine(picker, whole("max_waiting", max_waiting, 0), self.counter)

    @property
    def picker(self) -> Picker:
        """Whom it asks."""
        return self._picker

    @property
    def max_waiting(self) -> int:
        """How many may wait."""
        return self._line.most

    def __len__(self) -> int:
        """How many wait."""
        return len(self._line.waiting)

    def __bool__(self) -> bool:
        return True

    def eta(self, position: int | None = None, /) -> float | None:
        """As `WaitQueue.eta`, for a place in line whoever's it is."""
        return WaitQueue._on(self._picker, self._line).eta(position)

    def _made(
        self, key: Any, given: dict[str, Any], timeout: float | None
    ) -> tuple[Callable[[Callable[[], object]], _FairWaiter], str, float, float]:
        seconds, rank = _checked(timeout), whole("priority", given["priority"], -(2**62))
        tenant, tokens, predicted = text("tenant", given["tenant"]), given["tokens"], given["predicted_output"]
        if tokens is not None:
            at_least("tokens", tokens, 0, 8e12)
        at_least("predicted_output", predicted, 0, 8e12)
        rest = (given["cost"], given["exclude"], given["subset"])
        return (
            lambda notify: _FairWaiter(self, key, rank, tenant, tokens, predicted, *rest, notify),
            tenant,
            predicted,
            seconds,
        )

    async def acquire(
        self,
        key: Key | Any = None,
        /,
        *,
        tenant: str,
        timeout: float | None,
        priority: int = 0,
        tokens: float | None = None,
        predicted_output: float = 0.0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> TenantLease:
        """A lease for a tenant, as soon as somebody is free and it is its turn.

        `tokens` of the prompt count for the tenant; None takes the lease's cost, which `PrefixAware` knows.
        `predicted_output` tokens of the answer count from the start, and are corrected at the end. `cost=None` is the
        picker's default. The rest, and what it raises, is as for `WaitQueue.acquire`.
        """
        make, tenant, predicted, seconds = self._made(
            key,
            {
                "tenant": tenant,
                "priority": priority,
                "tokens": tokens,
                "predicted_output": predicted_output,
                "cost": cost,
                "exclude": exclude,
                "subset": subset,
            },
            timeout,
        )
        return TenantLease(await self._line.wait(make, seconds), tenant, self.counter, predicted)

    def acquire_blocking(
        self,
        key: Key | Any = None,
        /,
        *,
        tenant: str,
        timeout: float | None,
        priority: int = 0,
        tokens: float | None = None,
        predicted_output: float = 0.0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> TenantLease:
        """As `acquire`, for a thread, which sleeps meanwhile. Not for the thread of an event loop."""
        make, tenant, predicted, seconds = self._made(
            key,
            {
                "tenant": tenant,
                "priority": priority,
                "tokens": tokens,
                "predicted_output": predicted_output,
                "cost": cost,
                "exclude": exclude,
                "subset": subset,
            },
            timeout,
        )
        return TenantLease(self._line.wait_blocking(make, seconds), tenant, self.counter, predicted)

    def __repr__(self) -> str:
        return f"FairQueue({self._picker!r}, counter={self.counter!r}, max_waiting={self.max_waiting})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _queue, (self._picker, self.counter, self.max_waiting)


def _queue(picker: Picker, counter: VirtualTokenCounter[Any], most: int) -> FairQueue:
    return FairQueue(picker, counter=counter, max_waiting=most)
