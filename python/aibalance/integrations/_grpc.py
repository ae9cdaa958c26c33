"""A channel for grpc.aio whose calls go where a picker says."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from .. import ActiveRetryBudget, Endpoint, Key, Lease, Picker, PickError, RetryBudget
from .._extras import need
from .._picker import attempts, known, wrong

__all__ = ["BalancedChannel"]

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class BalancedChannel:
    """Stands for a grpc.aio channel: give it to a generated stub, and each call goes to an endpoint of `picker`.

    `credentials` (None): of grpc, for TLS; None is without. `options` (None): channel arguments for every endpoint.
    `key`, `cost` (None): functions of (method, request), for `picker.acquire`; request is None for a stream of them.
    `retries` (None): a RetryBudget, an ActiveRetryBudget or the most attempts of a call; None is `RetryBudget()`.
    `idempotent` (()): methods ("/package.Service/Method") that may be repeated after UNAVAILABLE.

    Each endpoint has one channel, made when it is first picked. The lease of a call lasts until the call is done: at
    the end of a stream, at an error, when it is cancelled. A unary-unary call is tried elsewhere when no connection
    could be made, and, if it is `idempotent`, after any UNAVAILABLE; calls with streams are not. DEADLINE_EXCEEDED is a
    timeout, RESOURCE_EXHAUSTED a refusal (with the server's `grpc-retry-pushback-ms`), UNAVAILABLE, INTERNAL,
    UNKNOWN and DATA_LOSS are failures, CANCELLED is neither; other codes are answers.

    Raises ConfigError (`pip install aibalance[grpc]`). A call raises PickError when nobody can be picked. It belongs to
    the event loop that it is first used in.

    >>> BalancedChannel(RoundRobin(["10.0.0.1:50051", "10.0.0.2:50051"]))
    <BalancedChannel by RoundRobin(...)>
    """

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        credentials: Any = None,
        options: Sequence[tuple[str, Any]] | None = None,
        key: Callable[[str, Any], Key | None] | None = None,
        cost: Callable[[str, Any], float] | None = None,
        retries: int | RetryBudget | ActiveRetryBudget | None = None,
        idempotent: Collection[str] = (),
    ) -> None:
        known("picker", picker)
        functions: tuple[tuple[str, Any], ...] = (("key", key), ("cost", cost))
        for name, value in functions:
            if value is not None and not callable(value):
                raise wrong(name, value, "a function of method and request, or None")
        budget: Any = RetryBudget() if retries is None else retries
        most = isinstance(budget, int) and not isinstance(budget, bool) and budget >= 1
        if not most and not isinstance(budget, RetryBudget | ActiveRetryBudget):
            raise wrong("retries", retries, "the most attempts (at least 1), a RetryBudget or an ActiveRetryBudget")
        methods: Any = idempotent
        if isinstance(methods, str) or not all(str(m).startswith("/") for m in methods):
            raise wrong("idempotent", idempotent, 'methods as "/package.Service/Method"')
        self._grpc = need("grpc", "grpc")
        self._aio = need("grpc.aio", "grpc")
        self._picker = picker
        self._credentials = credentials
        self._options = options
        self._key = key
        self._cost = cost
        self._retries = budget
        self._idempotent = frozenset(idempotent)
        self._channels: dict[Endpoint, Any] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<BalancedChannel by {self._picker!r}>"

    def unary_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """As grpc.aio's; the call may be tried on several endpoints."""
        return self._callable("unary_unary", method, args, options)

    def unary_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """As grpc.aio's."""
        return self._callable("unary_stream", method, args, options)

    def stream_unary(self, method: str, *args: Any, **options: Any) -> Any:
        """As grpc.aio's."""
        return self._callable("stream_unary", method, args, options)

    def stream_stream(self, method: str, *args: Any, **options: Any) -> Any:
        """As grpc.aio's."""
        return self._callable("stream_stream", method, args, options)

    def _callable(self, kind: str, method: str, args: Any, options: Any) -> Callable[..., Any]:
        made: dict[Any, Any] = {}

        def on(endpoint: Endpoint) -> Any:
            channel = self._channel(endpoint)
            there = made.get(endpoint)
            if there is None or there[0] is not channel:
                there = made[endpoint] = (channel, getattr(channel, kind)(method, *args, **options))
            return there[1]

        def call(request: Any = None, **how: Any) -> Any:
            first = request if kind.startswith("unary") else None
            leases = self._leases(method, first)
            lease = self._first(leases, method, first)
            try:
                if kind == "unary_unary":
                    return _Call(self, method, on, lease, leases, request, how)
                running = on(lease.endpoint)(request, **how)
            except BaseException:
                lease.cancel()
                raise
            self._watch(running, lease)
            return _Stream(running)

        return call

    def _leases(self, method: str, request: Any) -> Iterator[Lease]:
        key = None if self._key is None else self._key(method, request)
        own = getattr(self._picker, "attempts", None)
        leases: Iterator[Lease] = (
            attempts(self._picker, key, self._retries) if own is None else own(key, budget=self._retries)
        )
        return leases

    def _first(self, leases: Iterator[Lease], method: str, request: Any) -> Lease:
        cost = 1.0 if self._cost is None else self._cost(method, request)
        lease = next(leases)
        if cost != 1.0:
            lease.add(cost - 1.0)
        return lease

    def _channel(self, endpoint: Endpoint) -> Any:
        channel = self._channels.get(endpoint)
        if channel is None:
            self._sweep()
            if self._credentials is None:
                channel = self._aio.insecure_channel(endpoint.address, options=self._options)
            else:
                channel = self._aio.secure_channel(endpoint.address, self._credentials, options=self._options)
            self._channels[endpoint] = channel
        return channel

    def _sweep(self) -> None:
        """Closes the channels of endpoints that have left the pool, when their calls are done."""
        pool = getattr(self._picker, "pool", None)
        if pool is None:
            return
        there = set(pool.endpoints)
        for gone in [one for one in self._channels if one not in there]:
            task = asyncio.ensure_future(self._channels.pop(gone).close(grace=600.0))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _watch(self, running: Any, lease: Lease) -> None:
        running.add_done_callback(functools.partial(self._ended, lease))

    def _ended(self, lease: Lease, running: Any) -> None:
        """Releases by the code of a call that is done."""
        codes = self._grpc.StatusCode
        code = _now(running.code())
        if code is None or code == codes.CANCELLED:
            lease.cancel()
        elif code == codes.DEADLINE_EXCEEDED:
            lease.release("timeout")
        elif code == codes.RESOURCE_EXHAUSTED:
            lease.release("rejected", retry_after=_pushback(_now(running.trailing_metadata())))
        elif code in (codes.UNAVAILABLE, codes.INTERNAL, codes.UNKNOWN, codes.DATA_LOSS):
            lease.release("failure")
        else:
            lease.release("success")

    def _again(self, method: str, error: Any) -> bool:
        """Whether a call that raised may be made elsewhere."""
        if error.code() != self._grpc.StatusCode.UNAVAILABLE:
            return False
        # gRPC has no code of its own for a call that has never left; this is how its core says so.
        return method in self._idempotent or (error.details() or "").startswith("failed to connect to all addresses")

    async def close(self, grace: float | None = None) -> None:
        """Closes all channels; calls that run have `grace` seconds."""
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.close(grace) for channel in channels))
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine answers that has nothing to wait for, as those of a call that is done."""
    try:
        coroutine.send(None)
    except StopIteration as answer:
        return answer.value
    coroutine.close()
    return None


def _pushback(metadata: Any) -> float | None:
    for name, value in metadata or ():
        if name == "grpc-retry-pushback-ms":
            try:
                return max(float(value), 0.0) / 1000
            except ValueError:
                return None
    return None


class _Call:
    """A unary-unary call that may be made on several endpoints, one after the other."""

    def __init__(
        self,
        channel: BalancedChannel,
        method: str,
        on: Callable[[Endpoint], Any],
        lease: Lease,
        leases: Iterator[Lease],
        request: Any,
        how: dict[str, Any],
    ) -> None:
        self._channel = channel
        self._method = method
        self._on = on
        self._leases = leases
        self._request = request
        self._how = how
        self._start(lease)
        self._task = asyncio.ensure_future(self._run())

    def _start(self, lease: Lease) -> None:
        try:
            self._running = self._on(lease.endpoint)(self._request, **self._how)
        except BaseException:
            lease.cancel()
            raise
        self._channel._watch(self._running, lease)

    async def _run(self) -> Any:
        while True:
            try:
                return await self._running
            except self._channel._aio.AioRpcError as error:
                if not self._channel._again(self._method, error):
                    raise
                try:
                    lease = next(self._leases, None)
                except PickError:
                    lease = None
                if lease is None:
                    raise
                self._start(lease)
            except asyncio.CancelledError:
                self._running.cancel()
                raise

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def cancel(self) -> bool:
        """Cancels the call."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls back with this call when it has ended."""
        self._task.add_done_callback(lambda _: callback(self))

    def __getattr__(self, name: str) -> Any:
        # Metadata, code and details: of the attempt that runs, or ran last.
        return getattr(self._running, name)


class _Stream:
    """A call with streams. A call that has a callback lives as long as its server likes; this one ends when dropped."""

    def __init__(self, running: Any) -> None:
        self._running = running

    def __del__(self) -> None:
        if not self._running.done():
            self._running.cancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for message in self._running:
            yield message

    def __await__(self) -> Generator[Any, None, Any]:
        return (yield from self._running.__await__())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._running, name)
