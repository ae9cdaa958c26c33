"""What HTTP clients share: where a request goes, when it may be tried elsewhere, and how its lease ends."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from .. import ActiveRetryBudget, ConfigError, Endpoint, Key, Lease, Picker, RetryBudget
from .._picker import attempts, known, wrong

__all__ = ["RETRY_ON", "Balancer", "Exchange", "Held", "Target", "Trouble", "retry_after", "target"]

RETRY_ON = frozenset({429, 502, 503, 504})
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})  # RFC 9110, section 9.2.2

Trouble = Literal["unsent", "unsent_timeout", "failure", "timeout", "ours"]
"""What kept an answer from coming: no connection, one that took too long, then the same for a request that was sent;
and what was no fault of the endpoint."""

_OUTCOMES: dict[Trouble, Literal["failure", "timeout"]] = {
    "unsent": "failure",
    "unsent_timeout": "timeout",
    "failure": "failure",
    "timeout": "timeout",
}


class Target(NamedTuple):
    """Where an address leads: None is for the request to say."""

    scheme: str | None
    host: str
    port: int | None
    base: str
    authority: str


@functools.lru_cache(maxsize=4096)
def target(address: str) -> Target:
    """`host`, `host:port`, `[v6]:port`, or a URL whose path goes in front. Raises ConfigError."""
    try:
        url = urlsplit(address if "://" in address else f"//{address}")
        port, host = url.port, url.hostname
    except ValueError:
        host = None
    if (
        not host
        or not url.path.isascii()
        or url.username is not None
        or url.query
        or url.fragment
        or url.scheme not in ("", "http", "https")
    ):
        raise ConfigError(f"address: {address!r} is not allowed; host:port, or an http(s) URL without query")
    return Target(url.scheme or None, host, port, url.path.rstrip("/"), url.netloc)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After, which is a number or a date (RFC 9110, section 10.2.3); None for none or nonsense.

    A date is compared with the answer's own Date, where it has one: the server's clock need not be ours.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value[:12]), 1e9)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        now = time.time()
    return min(max(until - now, 0.0), 1e9)


@dataclass(frozen=True)
class Balancer:
    """A client's choices; `exchange` begins a request."""

    picker: Picker
    key: Callable[[Any], Key | None] | None
    cost: Callable[[Any], float] | None
    retries: int | RetryBudget | ActiveRetryBudget
    retry_on: frozenset[int]
    non_idempotent: bool
    latency: Literal["first_byte", "last_byte"]
    host: Literal["keep", "endpoint"] = field(default="keep")

    @classmethod
    def of(
        cls,
        picker: Any,
        key: Any = None,
        cost: Any = None,
        retries: Any = None,
        retry_on: Any = RETRY_ON,
        non_idempotent: bool = False,
        latency: Any = "last_byte",
        host: Any = "keep",
    ) -> Balancer:
        """Checked. Raises ConfigError."""
        known("picker", picker)
        for name, value in (("key", key), ("cost", cost)):
            if value is not None and not callable(value):
                raise wrong(name, value, "a function of the request, or None")
        if retries is None:
            retries = RetryBudget()
        most = isinstance(retries, int) and not isinstance(retries, bool) and retries >= 1
        if not most and not isinstance(retries, RetryBudget | ActiveRetryBudget):
            raise wrong("retries", retries, "the most attempts (at least 1), a RetryBudget or an ActiveRetryBudget")
        if latency not in ("first_byte", "last_byte"):
            raise wrong("latency", latency, "'first_byte' or 'last_byte'")
        if host not in ("keep", "endpoint"):
            raise wrong("host", host, "'keep' or 'endpoint'")
        return cls(picker, key, cost, retries, _statuses(retry_on), bool(non_idempotent), latency, host)

    def exchange(self, request: Any, method: str, headers: Mapping[str, str], replayable: bool) -> Exchange:
        """One request, with its first lease. Raises PickError."""
        key = None if self.key is None else self.key(request)
        cost = 1.0 if self.cost is None else self.cost(request)
        own = getattr(self.picker, "attempts", None)
        leases: Iterator[Lease] = (
            attempts(self.picker, key, self.retries) if own is None else own(key, budget=self.retries)
        )
        again = self.non_idempotent or method.upper() in IDEMPOTENT or "idempotency-key" in headers
        return Exchange(self, leases, cost, replayable, again)


def _statuses(given: Any) -> frozenset[int]:
    try:
        found = frozenset(given)
    except TypeError:
        raise wrong("retry_on", given, "a set of HTTP statuses") from None
    for status in found:
        if not isinstance(status, int) or isinstance(status, bool) or not 400 <= status <= 599:
            raise wrong("retry_on", status, "HTTP statuses from 400 to 599")
    return found


class Exchange:
    """One request: its attempts, and the lease of the present one."""

    __slots__ = ("_again", "_balancer", "_cost", "_leases", "_replayable", "lease")

    def __init__(self, balancer: Balancer, leases: Iterator[Lease], cost: float, replayable: bool, again: bool) -> None:
        self._balancer = balancer
        self._leases = leases
        self._cost = cost
        self._replayable = replayable
        self._again = again
        first = self._next()
        # attempts() raises when there is nobody for the first attempt.
        assert first is not None
        self.lease = first

    def _next(self) -> Lease | None:
        lease = next(self._leases, None)
        if lease is not None and self._cost != 1.0:
            try:
                lease.add(self._cost - 1.0)
            except BaseException:
                lease.cancel()
                raise
        return lease

    @property
    def endpoint(self) -> Endpoint:
        """Where to send it now."""
        return self.lease.endpoint

    def failed(self, trouble: Trouble, *, final: bool = False) -> bool:
        """No answer came. Ends the lease; True when there is another endpoint to try, which `final` rules out."""
        if trouble == "ours":
            self.cancel()
            return False
        self.lease.release(_OUTCOMES[trouble])
        # Nothing of an unsent request has been seen, not even of a body that can be read only once.
        if final or not (trouble.startswith("unsent") or (self._replayable and self._again)):
            self._close()
            return False
        lease = self._next()
        if lease is None:
            self._close()
            return False
        self.lease = lease
        return True

    def refused(self, status: int, after: float | None) -> bool:
        """An answer came. True when it is to be thrown away, for there is another endpoint to try."""
        if status not in self._balancer.retry_on or not self._replayable:
            return False
        # Who refuses has done nothing; other errors may come after the work.
        if not (self._again or status == 429 or (status == 503 and after is not None)):
            return False
        lease = self._next()
        if lease is None:
            return False
        self.lease.release(status=status, retry_after=after)
        self.lease = lease
        return True

    def held(self, status: int, after: float | None) -> Held:
        """The lease until the end of the body."""
        return Held(self, status, after, self._balancer.latency == "first_byte")

    def cancel(self) -> None:
        """Given up by us."""
        self.lease.cancel()
        self._close()

    def _close(self) -> None:
        # Dropped, so that a retry is no longer in flight for an ActiveRetryBudget.
        self._leases = iter(())


class Held:
    """A lease that is held while a body is read. Each end may be told more than once; the first counts."""

    __slots__ = ("_after", "_awaited", "_exchange", "_status")

    def __init__(self, exchange: Exchange, status: int, after: float | None, awaited: bool) -> None:
        self._exchange = exchange
        self._status = status
        self._after = after
        self._awaited = awaited

    def chunk(self) -> None:
        """A part of the body is there."""
        if self._awaited:
            self._awaited = False
            if not self._exchange.lease.released:
                self._exchange.lease.first_token()

    def done(self) -> None:
        """The body was read to its end."""
        self._exchange.lease.release(status=self._status, retry_after=self._after)
        self._exchange._close()

    def broken(self, trouble: Trouble) -> None:
        """The body ended before its end."""
        if trouble == "ours":
            self.left()
        else:
            self._exchange.lease.release(_OUTCOMES[trouble])
            self._exchange._close()

    def left(self) -> None:
        """The client went away. What the status said still counts when it was an error."""
        if self._status >= 429:
            self.done()
        else:
            self._exchange.cancel()
