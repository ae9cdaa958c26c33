"""Prefill and decode on different endpoints: both leases, or none."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from .._core import Endpoint, Lease, PrefixAware
from .._picker import Frozen, Names, Picker, known, wrong
from .._queue import _queue_of
from ._checks import at_least, whole_from

__all__ = ["PairLease", "PrefillDecode"]


class PairLease(Frozen):
    """What a request holds that is prefilled on one endpoint and decoded on another.

    `prefill` is None when the decoding endpoint prefills itself. In a `with` block both are released at the end.

    >>> from aibalance.llm import PrefillDecode
    >>> with PrefillDecode(LeastRequest(["p"]), LeastRequest(["d"])).acquire() as pair:
    ...     pair.prefill_endpoint.id, pair.endpoint.id
    ...     pair.first_token()
    ...     pair.prefill.released, pair.decode.released
    ('p', 'd')
    (True, False)
    """

    __slots__ = ("decode", "prefill")

    prefill: Lease | None
    """The lease on the endpoint that prefills, or None."""
    decode: Lease
    """The lease on the endpoint that decodes."""

    def __init__(self, prefill: Lease | None, decode: Lease) -> None:
        self._set(prefill=prefill, decode=decode)

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that decodes."""
        return self.decode.endpoint

    @property
    def prefill_endpoint(self) -> Endpoint:
        """The endpoint that prefills: its own, or the one that decodes."""
        return self.endpoint if self.prefill is None else self.prefill.endpoint

    def prefill_done(self, *, now: float | None = None) -> None:
        """The prefill is done and its endpoint free; the time until now is its latency. Twice does nothing."""
        if self.prefill is not None and not self.prefill.released:
            self.prefill.first_token(now=now)
            self.prefill.release(now=now)

    def first_token(self, *, now: float | None = None) -> None:
        """The answer has begun: the prefill is done as well. Raises LeaseError after a release."""
        self.prefill_done(now=now)
        self.decode.first_token(now=now)

    def add(self, tokens: float, /) -> None:
        """So many tokens were generated. Raises LeaseError after a release."""
        self.decode.add(tokens)

    def fail_prefill(self, outcome: Any = "failure", **how: Any) -> None:
        """The prefill went wrong: its endpoint is told how (see `Lease.release`), the other gets its work back."""
        if self.prefill is None:
            self.decode.release(outcome, **how)
            return
        self.prefill.release(outcome, **how)
        self.decode.cancel()

    def release(self, outcome: Any = None, **how: Any) -> None:
        """Gives both back; how it went is said of the decoding. A prefill that is not done is cancelled."""
        self.decode.release(outcome, **how)
        if self.prefill is not None:
            self.prefill.cancel()

    def cancel(self) -> None:
        """Gives both back: neither latency nor failure."""
        self.decode.cancel()
        if self.prefill is not None:
            self.prefill.cancel()

    def __enter__(self) -> Self:
        self.decode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.decode.__exit__(kind, error, trace)
        finally:
            if self.prefill is not None:
                self.prefill.cancel()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"PairLease({self.prefill!r}, {self.decode!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a PairLease cannot be pickled: it holds work in this process")


class PrefillDecode(Frozen):
    """A request's two endpoints in one call: one of a pool that prefills, one of a pool that decodes.

    Parameters
    ----------
    prefill, decode : a picker each, of any kind. For `PrefixAware` one index for both lets an endpoint that is in both
        pools be seen whole; `score="dynamo", prefill_scale=0` has the decoding one go by blocks in use, and not by what
        is cached.
    local_below_tokens (0) : the decoding endpoint prefills itself when it has all but fewer than this many tokens of
        the prompt; 0 for never. It needs a `PrefixAware` to decode.
    local_below_share (None) : if given, only when it also has all but less than this share of the prompt, 0 to 1.

    Either both leases are taken or none: when nobody can prefill, the decoding lease is cancelled before the error is
    raised. The decoding endpoint is chosen first, for what it has decides whether there is anything to prefill.

    Raises ConfigError. Sources: Dynamo's conditional disaggregation (2048 tokens and 0.7), llm-d's `nonCachedTokens`
    (tokens alone), and for the order llm-d's profile handler.

    >>> from aibalance.llm import PrefillDecode
    >>> index = PrefixIndex(block_size=16)
    >>> both = PrefillDecode(
    ...     PrefixAware(["p0", "p1"], index=index),
    ...     PrefixAware(["d0", "d1"], index=index),
    ...     local_below_tokens=64,
    ... )
    >>> with both.acquire(list(range(1000))) as first:
    ...     first.prefill is None
    False
    >>> with both.acquire(list(range(1010))) as second:
    ...     second.prefill is None, second.endpoint == first.endpoint
    (True, True)
    """

    __slots__ = ("decode", "local_below_share", "local_below_tokens", "prefill")

    prefill: Any
    """Who chooses where to prefill."""
    decode: Any
    """Who chooses where to decode."""
    local_below_tokens: int
    """Below how many tokens that are not cached the decoding endpoint prefills itself."""
    local_below_share: float | None
    """Below which share of the prompt, besides."""

    def __init__(
        self,
        prefill: Picker | PrefixAware,
        decode: Picker | PrefixAware,
        /,
        *,
        local_below_tokens: int = 0,
        local_below_share: float | None = None,
    ) -> None:
        self._set(
            prefill=known("prefill", prefill),
            decode=known("decode", decode),
            local_below_tokens=whole_from("local_below_tokens", local_below_tokens, 0),
            local_below_share=None
            if local_below_share is None
            else at_least("local_below_share", local_below_share, 0.0, 1.0),
        )
        if local_below_tokens and not isinstance(decode, PrefixAware):
            raise wrong(
                "local_below_tokens", local_below_tokens, "0, or a PrefixAware to decode, which knows what is cached"
            )
        if local_below_share is not None and not local_below_tokens:
            raise wrong("local_below_share", local_below_share, "None where local_below_tokens is 0")

    def _held(self, prompt: Any, now: float | None) -> Any:
        # Before the pick, which makes the index believe that all of the prompt is there.
        return self.decode.index.matches(prompt, now=now) if self.local_below_tokens and prompt is not None else {}

    def _local(self, held: Any, lease: Lease) -> bool:
        match = held.get(lease.endpoint.id)
        if match is None:
            return False
        total = lease.cost
        fresh = max(total - match.blocks * self.decode.index.block_size, 0.0)
        share = self.local_below_share
        return fresh < self.local_below_tokens and (share is None or fresh < share * total)

    def acquire(
        self,
        prompt: Any = None,
        /,
        *,
        cost: float | None = None,
        exclude: Names | None = (),
        now: float | None = None,
    ) -> PairLease:
        """Both leases, or none. `cost=None` is the pickers' default; `exclude` holds for both pools.

        Raises as the pickers do.
        """
        more: dict[str, Any] = {} if cost is None else {"cost": cost}
        without = list(exclude or ())
        held = self._held(prompt, now)
        lease: Lease = self.decode.acquire(prompt, exclude=without, now=now, **more)
        try:
            other = None
            if not self._local(held, lease):
                other = self.prefill.acquire(prompt, exclude=without, now=now, **more)
            return PairLease(other, lease)
        except BaseException:
            lease.cancel()
            raise

    async def acquire_when_free(
        self,
        prompt: Any = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Names | None = (),
    ) -> PairLease:
        """Both leases as soon as both pools have somebody, within `timeout` seconds in all; None waits for ever.

        The decoding lease is held while the other is waited for. Raises as `WaitQueue.acquire` does.
        """
        more: dict[str, Any] = {"priority": priority, "exclude": list(exclude or ())}
        if cost is not None:
            more["cost"] = cost
        loop = asyncio.get_running_loop()
        began = loop.time()
        held = self._held(prompt, None)
        lease: Lease = await _when_free(self.decode, prompt, timeout, more)
        try:
            other = None
            if not self._local(held, lease):
                left = None if timeout is None else max(timeout - (loop.time() - began), 0.0)
                other = await _when_free(self.prefill, prompt, left, more)
            return PairLease(other, lease)
        except BaseException:
            lease.cancel()
            raise

    def __repr__(self) -> str:
        return (
            f"PrefillDecode({self.prefill!r}, {self.decode!r}, local_below_tokens={self.local_below_tokens},"
            f" local_below_share={self.local_below_share!r})"
        )


async def _when_free(picker: Any, prompt: Any, timeout: float | None, more: dict[str, Any]) -> Lease:
    own = getattr(picker, "acquire_when_free", None)
    found: Lease = await (_queue_of(picker).acquire if own is None else own)(prompt, timeout=timeout, **more)
    return found
