"""Waiting until somebody is free: a bounded priority queue with deadlines, woken by releases from any thread."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import weakref
from bisect import insort
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

from ._core import Lease
from ._errors import OverloadedError
from ._picker import Key, Names, Picker, costing, known, names_of, pools, whole, wrong

__all__ = ["WaitQueue", "Waits"]

_MOST = 1024
"""How many may wait in a picker's own queue."""

_LOOK = 0.25
"""Seconds between two looks of whoever is first. Releases and changes of a pool wake at once; what time alone brings (a
report that expires, a lease that times out) is seen at the next look."""

_NUMBERS = count()

_T = TypeVar("_T")


class _Waiter:
    """Somebody who waits."""

    __slots__ = ("arguments", "error", "filtered", "key", "lease", "like", "notify", "order", "picker", "served")

    def __init__(
        self,
        picker: Picker,
        key: Key | None,
        priority: int,
        cost: float | None,
        exclude: Names | None,
        subset: Names | None,
        notify: Callable[[], object],
    ) -> None:
        for field, names in (("exclude", exclude), ("subset", subset)):
            if isinstance(names, str):
                raise wrong(field, names, "an iterable of endpoints or ids, not one text")
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        self.picker = picker
        self.key = key
        self.arguments: dict[str, Any] = {**costing(cost), "exclude": without, "subset": within}
        self.notify = notify
        self.lease: Lease | None = None
        self.error: Exception | None = None
        # For good: who is served takes its lease away while others are still being served.
        self.served = False
        self.filtered = bool(without) or within is not None
        # Before all of lower priority and behind those who came before.
        self.order = (-priority, next(_NUMBERS))
        self.like: object = (key, without, within)
        try:
            hash(self.like)
        except TypeError:  # a picker of the user's may go by anything
            self.like = self

    def __lt__(self, other: _Waiter) -> bool:
        return self.order < other.order

    def serve(self, lease: Lease | None = None, error: Exception | None = None) -> None:
        self.lease, self.error = lease, error
        # Last: whoever looks has a lease or an error then.
        self.served = True

    def take(self) -> Lease | None:
        """Its lease, which from then on is the caller's."""
        if self.error is not None:
            raise self.error
        lease, self.lease = self.lease, None
        return lease

    def tell(self) -> None:
        try:
            self.notify()
        except RuntimeError:
            # Its event loop is closed: nobody is there to use the lease.
            self.give_up()

    def give_up(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.cancel()


class _Line:
    """The queue of a picker. It does not know the picker, so that it goes when that goes; those who wait do.

    Whoever holds `lock` hands out. Whoever cannot have it, perhaps because the garbage collector runs a release in the
    thread that holds it, leaves word in `again` and goes.
    """

    __slots__ = ("__weakref__", "again", "lock", "most", "on", "pools", "serving", "simple", "waiting")

    def __init__(self, picker: Picker, most: int) -> None:
        self.lock = threading.Lock()
        self.waiting: list[_Waiter] = []
        self.again = False
        self.serving: int | None = None
        self.on = False
        self.most = most
        self.pools = pools(picker)
        # Where one who takes anybody is refused, so is everybody. Pickers of other people may think otherwise.
        self.simple = type(picker).__module__ == "aibalance"
        for pool in self.pools:
            pool._measure()
        with _KNOWING:
            for pool in self.pools:
                others = tuple(one for one in _LINES_OF.get(pool._key(), ()) if one() is not None)
                _LINES_OF[pool._key()] = (*others, weakref.ref(self))
                weakref.finalize(self, _forget, pool._key()).atexit = False

    def __del__(self) -> None:
        if self.on:
            self._listen(False)

    def _listen(self, on: bool) -> None:
        self.on = on
        for pool in self.pools:
            pool._waiting(on)

    def _locked(self, work: Callable[[], _T]) -> _T:
        with self.lock:
            found = work()
        if self.again:
            self.serve()
        return found

    def serve(self) -> None:
        """Hands out what is free, in order."""
        if self.serving == threading.get_ident():
            # The picker itself gave a lease back while it was asked. What else was dropped is seen at the next look.
            return
        self.again = True
        while self.again and self.lock.acquire(blocking=False):
            told: list[_Waiter] = []
            try:
                self.again = False
                self.serving = threading.get_ident()
                told = self._hand_out()
            finally:
                self.serving = None
                self.lock.release()
            for waiter in told:
                waiter.tell()

    def _hand_out(self) -> list[_Waiter]:
        served: list[_Waiter] = []
        refused: set[object] = set()
        for waiter in self.waiting:
            if waiter.like in refused:
                continue
            try:
                lease = waiter.picker.try_acquire(waiter.key, **waiter.arguments)
            except Exception as error:
                waiter.serve(error=error)
            else:
                if lease is not None:
                    waiter.serve(lease)
            if waiter.served:
                served.append(waiter)
            elif self.simple and not waiter.filtered:
                break
            else:
                refused.add(waiter.like)
        if served:
            self.waiting = [waiter for waiter in self.waiting if not waiter.served]
            self._settle()
        return served

    def _settle(self) -> None:
        if bool(self.waiting) != self.on:
            self._listen(not self.on)

    def _put(self, waiter: _Waiter) -> None:
        insort(self.waiting, waiter)

    def _drop(self, waiter: _Waiter) -> None:
        self.waiting.remove(waiter)

    def _late(self, waiter: _Waiter, lease: Lease) -> None:
        """One who had left the line got a lease after all."""

    def join(self, waiter: _Waiter) -> None:
        """Stands in line, and is served at once if that is possible. Raises OverloadedError when the queue is full."""

        def enter() -> None:
            self._put(waiter)
            # First, so that whatever is given back from now on is heard of.
            self._settle()

        self._locked(enter)
        self.serve()
        if not waiter.served and len(self.waiting) > self.most and self.leave(waiter):
            raise OverloadedError(f"{self.most} requests are waiting already, as many as may", self.eta(self.most + 1))

    def leave(self, waiter: _Waiter) -> bool:
        """Leaves the line; False for one who was served before."""

        def go() -> bool:
            there = waiter in self.waiting
            if there:
                self._drop(waiter)
                self._settle()
            return there

        return self._locked(go)

    def is_first(self, waiter: _Waiter) -> bool:
        waiting = self.waiting
        return bool(waiting) and waiting[0] is waiter

    def late(self, waiter: _Waiter, timeout: float) -> Lease:
        """The lease after all, or the error of one whose time is over."""
        self.serve()
        if not self.leave(waiter):
            lease = waiter.take()
            if lease is not None:
                return lease
        try:
            lease = waiter.picker.acquire(waiter.key, **waiter.arguments)
        except OverloadedError as error:
            text = f"nobody became free within {timeout:g} s: {error}"
            raise OverloadedError(text, self.eta(len(self.waiting) + 1)) from None
        self._late(waiter, lease)
        return lease

    async def wait(self, make: Callable[[Callable[[], object]], _Waiter], seconds: float) -> Lease:
        """Stands in line in an event loop; `make` makes the waiter of what tells it that it was served."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def ready() -> None:
            if not done.done():
                done.set_result(None)

        waiter = make(lambda: loop.call_soon_threadsafe(ready))
        self.join(waiter)
        timers: list[asyncio.TimerHandle] = []

        def look() -> None:
            if not done.done():
                timers[0] = loop.call_later(_LOOK, look)
                if self.is_first(waiter):
                    self.serve()

        if not waiter.served and seconds > 0:
            timers.append(loop.call_later(_LOOK, look))
            if math.isfinite(seconds):
                timers.append(loop.call_later(seconds, ready))
            try:
                await done
            except BaseException:
                if not self.leave(waiter):
                    waiter.give_up()
                raise
            finally:
                for timer in timers:
                    timer.cancel()
        return waiter.take() or self.late(waiter, seconds)

    def wait_blocking(self, make: Callable[[Callable[[], object]], _Waiter], seconds: float) -> Lease:
        """As `wait`, for a thread."""
        bell = threading.Lock()
        bell.acquire()
        # A plain lock: giving it free is one step, whoever is interrupted for it.
        waiter = make(bell.release)
        self.join(waiter)
        try:
            left = seconds
            while not waiter.served and left > 0 and not bell.acquire(timeout=min(left, _LOOK)):
                left -= _LOOK
                if self.is_first(waiter):
                    self.serve()
        except BaseException:
            if not self.leave(waiter):
                waiter.give_up()
            raise
        return waiter.take() or self.late(waiter, seconds)

    def eta(self, position: int) -> float | None:
        free, rate = 0, 0.0
        for pool in self.pools:
            more, ends = pool._room()
            if more is None:
                return 0.0
            free += more
            rate += ends or 0.0
        if position <= free:
            return 0.0
        return (position - free) / rate if rate > 0 else None


_KNOWING = threading.Lock()
_LINES: weakref.WeakKeyDictionary[Any, _Line] = weakref.WeakKeyDictionary()
_LINES_OF: dict[int, tuple[weakref.ref[_Line], ...]] = {}


def _forget(key: int) -> None:
    # May run inside the collector, so it waits for nobody: an entry that stays is cleared by the next queue.
    if _KNOWING.acquire(blocking=False):
        try:
            left = tuple(one for one in _LINES_OF.get(key, ()) if one() is not None)
            if left:
                _LINES_OF[key] = left
            else:
                _LINES_OF.pop(key, None)
        finally:
            _KNOWING.release()


def _after_fork() -> None:
    # Those who waited are in the parent, and a lock may be held by a thread that is not here.
    global _KNOWING
    _KNOWING = threading.Lock()
    _LINES.clear()
    _LINES_OF.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _wake(key: int) -> None:
    """Something was given back to a pool, or the pool has changed. Called by any thread, also by the collector."""
    for found in _LINES_OF.get(key, ()):
        line = found()
        if line is not None:
            line.serve()


def _queue_of(picker: Picker) -> WaitQueue:
    """The queue of a picker, the same line for everybody who asks."""
    line = _LINES.get(picker)
    if line is None:
        fresh = _Line(picker, _MOST)
        line = _LINES.setdefault(picker, fresh)
    return WaitQueue._on(picker, line)


class WaitQueue:
    """A bounded queue of requests that wait until an endpoint of a picker may take one more.

    Every picker of aibalance has one, `picker.queue`, for 1024; make your own for another bound, or for a picker of
    yours. Each queue is served by itself: two on one pool take what is free as they hear of it.

    Parameters
    ----------
    picker : whom to ask: any `Picker`.
    max_waiting : how many may wait; 0 for none, which leaves what is free at once.

    Those of higher `priority` (an int, any sign) go first, always; among equals, those who came first. A stream of
    high priority can so keep the others waiting until their timeout. One who waits for certain endpoints (`key` of a
    picker of yours, `exclude`, `subset`) does not hold up those behind: whoever can be served is. `picker.acquire` does
    not queue, and may take what is free before anybody here hears of it.

    A lease that ends in any thread, a dropped one too, and a change of the pool serve the queue at once, by the
    thread in which it happens; waiters may be in different event loops and threads. While nobody waits, a release
    pays one look at a number. Cancelled or late waiters leave, and what they were given just then goes to the next.

    Timeouts are by the event loop's clock (for threads the system's), estimates by the pool's.

    Raises ConfigError for a picker that is none, or a bound that cannot be.

    Source: queues of servers and backends in HAProxy (`timeout queue`, `maxqueue`, priority classes), without its
    classes' time offsets.

    >>> import asyncio
    >>> async def main():
    ...     picker = RoundRobin([Endpoint("gpu", max_inflight=1)])
    ...     lease = picker.acquire()
    ...     waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=5))
    ...     await asyncio.sleep(0)
    ...     print(len(picker.queue))
    ...     lease.release(latency=40)
    ...     async with await waiting as lease:
    ...         return lease.endpoint.id, picker.queue.eta()
    >>> asyncio.run(main())
    1
    ('gpu', 40.0)
    """

    __slots__ = ("_line", "_picker")

    def __init__(self, picker: Picker, /, *, max_waiting: int = _MOST) -> None:
        self._picker = known("picker", picker)
        self._line = _Line(picker, whole("max_waiting", max_waiting, 0))

    @classmethod
    def _on(cls, picker: Picker, line: _Line) -> WaitQueue:
        queue = cls.__new__(cls)
        queue._picker, queue._line = picker, line
        return queue

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
        """In how many seconds the one at `position` (from 1 on) may expect a place; None when it is not known.

        Without a position, for one who came now, behind all. It is what is in front, over the requests that end in a
        second: for each endpoint, `max_inflight` over the estimate of its latency. An endpoint of which no latency is
        known counts as the others; while none is known (no lease has ended since the queue was first asked for), or
        nobody may get work, it is None. 0.0 when a place is free, or somebody has no `max_inflight`. The estimate leans
        to the slow side: it is that of PeakEwma. Leases whose `first_token` is told, or which are released with a
        `latency` of your own, count with that. Raises ConfigError for a position that cannot be.
        """
        return self._line.eta(len(self) + 1 if position is None else whole("position", position, 1))

    async def acquire(
        self,
        key: Key | None = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> Lease:
        """A lease, as soon as somebody is free: `picker.acquire_when_free`.

        `timeout` in seconds; None waits for ever, 0 not at all. `cost=None` is the picker's default. The rest is as for
        `picker.acquire`. An endpoint that is unhealthy or added only later is waited for too.

        Raises OverloadedError when the queue is full or the time is over, with `retry_after` where `eta` knows; when
        the time is over and nobody is there who could be waited for, NoHealthyEndpointError or NoEndpointsError.
        """
        seconds, rank = _checked(timeout), whole("priority", priority, -(2**62))
        return await self._line.wait(
            lambda notify: _Waiter(self._picker, key, rank, cost, exclude, subset, notify), seconds
        )

    def acquire_blocking(
        self,
        key: Key | None = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> Lease:
        """As `acquire`, for a thread, which sleeps meanwhile. Not for the thread of an event loop.

        >>> picker = RoundRobin([Endpoint("gpu", max_inflight=1)])
        >>> with picker.queue.acquire_blocking(timeout=1) as lease:
        ...     lease.endpoint.id
        'gpu'
        """
        seconds, rank = _checked(timeout), whole("priority", priority, -(2**62))
        return self._line.wait_blocking(
            lambda notify: _Waiter(self._picker, key, rank, cost, exclude, subset, notify), seconds
        )

    def __repr__(self) -> str:
        return f"WaitQueue({self._picker!r}, max_waiting={self.max_waiting})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._picker, self.max_waiting)


def _again(picker: Picker, most: int) -> WaitQueue:
    return WaitQueue(picker, max_waiting=most)


def _checked(timeout: Any) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout <= 1e10:
        raise wrong("timeout", timeout, "a number of seconds from 0 to 1e10, or None for no end")
    return float(timeout)


class Waits:
    """What a picker written in Python has of a queue."""

    __slots__ = ()

    @property
    def queue(self: Any) -> WaitQueue:
        """Those who wait until somebody is free."""
        return _queue_of(self)

    async def acquire_when_free(
        self: Any,
        key: Key | None = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Names | None = (),
        subset: Names | None = None,
    ) -> Lease:
        """A lease, as soon as somebody is free: see `WaitQueue.acquire`."""
        return await _queue_of(self).acquire(
            key, timeout=timeout, priority=priority, cost=cost, exclude=exclude, subset=subset
        )


def _acquire_when_free(picker: Picker, key: Key | None, **given: Any) -> Coroutine[Any, Any, Lease]:
    return _queue_of(picker).acquire(key, **given)
