"""Sessions that stay with their endpoint: signed cookies and headers, tables, and the wrapper around a picker."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from types import TracebackType
from typing import Any, Literal, Protocol

from .._core import Endpoint, Lease, ManualClock, Pool, PrefixAware, StickyTable, _acquire_on
from .._errors import ConfigError
from .._picker import costing

VERSION = b"\x01"
# version, expiry, keyed hash of the pool, keyed hash of the endpoint, signature
_SIZES = (1, 8, 8, 16, 32)
_TOKEN = 65

Status = Literal["valid", "malformed", "altered", "other_pool", "expired"]


class Clock(Protocol):
    """Anything that tells the time in float seconds."""

    def now(self) -> float:
        """Seconds."""
        ...


class _Picker(Protocol):
    @property
    def pool(self) -> Pool: ...
    def acquire(self, key: Any = None, /, *, cost: float = 1.0, now: float | None = None) -> Lease: ...


@dataclass(frozen=True)
class Reading:
    """What a token says: `status`, and for a valid one the keyed hash of its endpoint in `tag`.

    The status is "valid", "malformed" (no token of this kind), "altered" (the signature does not fit), "other_pool" or
    "expired".

    >>> StickyCookie(b"0123456789abcdef", pool="api").read("nonsense", now=0.0).status
    'malformed'
    """

    status: Status
    tag: bytes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Signed:
    pool: str
    name: str
    max_age: float
    clock: Clock | None

    def _start(self, secret: Any, longest: float) -> None:
        given = [secret] if isinstance(secret, bytes) else list(secret) if isinstance(secret, Sequence) else []
        if not given or not all(isinstance(s, bytes) and len(s) >= 16 for s in given):
            # Not shown: a message may end in a log.
            raise ConfigError(
                "secret: what was given is not allowed; 16 bytes or more, or several such, the newest first"
            )
        for field in ("pool", "name"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{field}: {value!r} is not allowed; a str that is not empty")
        if not all(c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~") for c in self.name):
            raise ConfigError(f"name: {self.name!r} is not allowed; letters, digits and !#$%&'*+-.^_`|~")
        age: Any = self.max_age
        number = isinstance(age, int | float) and not isinstance(age, bool)
        if not (number and math.isfinite(age) and 1 <= age <= longest):
            raise ConfigError(f"max_age: {age!r} is not allowed; seconds from 1 to {longest:.0f}")
        if self.clock is not None and not callable(getattr(self.clock, "now", None)):
            raise ConfigError(f"clock: {self.clock!r} is not allowed; an object with now() -> float seconds, or None")
        # One key for each purpose: what signs never names endpoints.
        keys = tuple(tuple(_mac(s, b"aibalance " + use) for use in (b"sign", b"pool", b"endpoint")) for s in given)
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "_secret", tuple(given))

    def _now(self, now: Any) -> float:
        if now is None:
            return time.time() if self.clock is None else self.clock.now()
        if not isinstance(now, int | float) or isinstance(now, bool) or not math.isfinite(now) or now < 0:
            raise ConfigError(f"now: {now!r} is not allowed; finite seconds of 0 or more")
        return float(now)

    def _tag(self, endpoint_id: str, keys: tuple[bytes, ...]) -> bytes:
        return _mac(keys[2], self.pool.encode() + b"\0" + endpoint_id.encode())[:16]

    def issue(self, endpoint_id: str, /, *, now: float | None = None) -> str:
        """A token that binds to this endpoint until `max_age` seconds from now: 87 characters, of A-Z a-z 0-9 - _."""
        given: Any = endpoint_id
        if not isinstance(given, str):
            raise ConfigError(f"endpoint_id: {given!r:.80} is not allowed; str")
        keys: tuple[bytes, ...] = self._keys[0]  # type: ignore[attr-defined]
        expires = min(int(self._now(now) + self.max_age), 2**63)
        said = VERSION + expires.to_bytes(8, "big") + _mac(keys[1], self.pool.encode())[:8]
        said += self._tag(endpoint_id, keys)
        return base64.urlsafe_b64encode(said + _mac(keys[0], self.name.encode() + b"\0" + said)).rstrip(b"=").decode()

    def read(self, token: str, /, *, now: float | None = None) -> Reading:
        """What a token says. Signatures are compared in constant time, and before anything in the token is believed."""
        now = self._now(now)
        found = self._open(token)
        return found[0] if isinstance(found[1], Reading) else self._judge(*found, now)

    def _open(self, token: Any) -> tuple[Any, Any]:
        malformed = Reading("malformed")
        if not isinstance(token, str) or len(token) != (_TOKEN * 4 + 2) // 3 or not token.isascii():
            return malformed, malformed
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return malformed, malformed
        # The unused bits of the last character: one token has one spelling.
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token or raw[:1] != VERSION:
            return malformed, malformed
        said, signature = raw[:-32], raw[-32:]
        for keys in self._keys:  # type: ignore[attr-defined]
            if hmac.compare_digest(signature, _mac(keys[0], self.name.encode() + b"\0" + said)):
                return said, keys
        altered = Reading("altered")
        return altered, altered

    def _judge(self, said: bytes, keys: tuple[bytes, ...], now: float) -> Reading:
        if not hmac.compare_digest(said[9:17], _mac(keys[1], self.pool.encode())[:8]):
            return Reading("other_pool")
        if now >= int.from_bytes(said[1:9], "big"):
            return Reading("expired")
        return Reading("valid", said[17:33])

    def find(self, tag: bytes, pool: Pool, /) -> str | None:
        """The id of the endpoint that a tag names; None when the pool has none of that name (any more)."""
        # Endpoints are few and tags are cheap, so nothing is remembered that could go stale.
        known: dict[str, tuple[bytes, ...]] = self._known  # type: ignore[attr-defined]
        for endpoint in pool.endpoints:
            tags = known.get(endpoint.id)
            if tags is None:
                tags = tuple(self._tag(endpoint.id, keys) for keys in self._keys)  # type: ignore[attr-defined]
                if len(known) >= 65536:
                    known.clear()
                known[endpoint.id] = tags
            if any(hmac.compare_digest(tag, mine) for mine in tags):
                return endpoint.id
        return None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class StickyCookie(_Signed):
    """A cookie that binds a session to an endpoint: signed, and without anything in it that names one.

    `secret` is 16 bytes or more that all balancers share; of several the first signs, and all are accepted, so that a
    secret can be replaced. `pool` is bound into the token: a cookie of another pool is refused. `name` is the cookie's.
    `max_age` is how long it is good for, 1 to 604800 seconds; it is renewed with each request, as at AWS.
    `clock` tells the time; None is the wall clock, since cookies outlive processes. `path`, `secure`, `http_only` and
    `same_site` are the cookie's attributes.

    The token holds version, expiry, a keyed hash of the pool's name, one of the endpoint's id, and an HMAC-SHA256 over
    these and the cookie's name. Nobody without the secret can tell which endpoint it means, or make one.

    Raises ConfigError; the secret is never shown.

    Source: AWS user guide, sticky sessions of Application Load Balancers (2023), for age and renewal; RFC 2104 and
    RFC 6265.

    >>> cookie = StickyCookie(b"0123456789abcdef", pool="inference", max_age=3600)
    >>> token = cookie.issue("gpu-node-1:8080", now=1000.0)
    >>> cookie.read(token, now=2000.0).status, cookie.read(token, now=4600.0).status
    ('valid', 'expired')
    >>> StickyCookie(b"0123456789abcdef", pool="api").read(token, now=2000.0).status
    'other_pool'
    """

    path: str
    secure: bool
    http_only: bool
    same_site: Literal["Lax", "Strict", "None"]

    def __init__(
        self,
        secret: bytes | Sequence[bytes],
        /,
        *,
        pool: str,
        name: str = "AIBALANCE",
        max_age: float = 86400,
        clock: Clock | None = None,
        path: str = "/",
        secure: bool = True,
        http_only: bool = True,
        same_site: Literal["Lax", "Strict", "None"] = "Lax",
    ) -> None:
        values = {"pool": pool, "name": name, "max_age": max_age, "clock": clock, "path": path, "secure": secure}
        for field, value in {**values, "http_only": http_only, "same_site": same_site, "_known": {}}.items():
            object.__setattr__(self, field, value)
        self._start(secret, 604800)
        given: Any = path
        plain = isinstance(given, str) and path.startswith("/") and path.isascii() and path.isprintable()
        if not plain or ";" in path:
            raise ConfigError(f"path: {path!r} is not allowed; a path that begins with a slash, without a semicolon")
        if same_site not in ("Lax", "Strict", "None") or (same_site == "None" and not secure):
            raise ConfigError(f"same_site: {same_site!r} is not allowed; 'Lax', 'Strict', or 'None' with secure=True")

    def from_header(self, cookie: str, /) -> str | None:
        """The token in a request's Cookie header; None when there is none.

        >>> StickyCookie(b"0123456789abcdef", pool="api").from_header("a=b; AIBALANCE=xyz")
        'xyz'
        """
        jar: SimpleCookie = SimpleCookie()
        try:
            jar.load(cookie)
        except CookieError:
            return None
        return jar[self.name].value if self.name in jar else None

    def to_header(self, token: str, /) -> str:
        """The value of a Set-Cookie header.

        >>> StickyCookie(b"0123456789abcdef", pool="api", max_age=60).to_header("xyz")
        'AIBALANCE=xyz; HttpOnly; Max-Age=60; Path=/; SameSite=Lax; Secure'
        """
        jar: SimpleCookie = SimpleCookie()
        jar[self.name] = token
        morsel = jar[self.name]
        morsel["max-age"] = int(self.max_age)
        morsel["path"], morsel["samesite"] = self.path, self.same_site
        morsel["secure"], morsel["httponly"] = self.secure, self.http_only
        return morsel.OutputString()

    def __repr__(self) -> str:
        return f"StickyCookie(<secret>, pool={self.pool!r}, name={self.name!r}, max_age={self.max_age!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        names = ("pool", "name", "max_age", "clock", "path", "secure", "http_only", "same_site")
        return _rebuild, (StickyCookie, self._secret, {name: getattr(self, name) for name in names})  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class StickyHeader(_Signed):
    """The same token in a header of yours, for clients that keep no cookies. Parameters as for `StickyCookie`.

    The balancer sets the header `name` in its answers, the client sends it back. Source: the idea is Envoy's
    header-based session state, whose header holds the address; ours does not.

    >>> header = StickyHeader(b"0123456789abcdef", pool="inference")
    >>> header.read(header.issue("a", now=0.0), now=1.0).status
    'valid'
    """

    def __init__(
        self,
        secret: bytes | Sequence[bytes],
        /,
        *,
        pool: str,
        name: str = "x-aibalance-session",
        max_age: float = 86400,
        clock: Clock | None = None,
    ) -> None:
        values = {"pool": pool, "name": name.lower(), "max_age": max_age, "clock": clock, "_known": {}}
        for field, value in values.items():
            object.__setattr__(self, field, value)
        self._start(secret, 604800)

    def __repr__(self) -> str:
        return f"StickyHeader(<secret>, pool={self.pool!r}, name={self.name!r}, max_age={self.max_age!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        values = {name: getattr(self, name) for name in ("pool", "name", "max_age", "clock")}
        return _rebuild, (StickyHeader, self._secret, values)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StickyLease:
    """A lease and what has become of the session.

    `kept` says whether the session stayed where it was. `reason` is "kept", "new" (it had no bond), or why it was let
    go: "gone", "unhealthy", "drained", "overloaded", or for a token "malformed", "altered", "other_pool" or "expired".
    `token` is what to give the client, None with a table. In a `with` block it is its lease.

    >>> session = Sticky(RoundRobin(["a"]), StickyTable(capacity=8)).acquire("user-1")
    >>> session.reason, session.endpoint.id
    ('new', 'a')
    """

    lease: Lease
    kept: bool
    reason: str
    token: str | None

    @property
    def endpoint(self) -> Endpoint:
        """The lease's endpoint."""
        return self.lease.endpoint

    def __enter__(self) -> StickyLease:
        self.lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lease.__exit__(kind, error, trace)


class Sticky:
    """A picker whose sessions stay with their endpoint: any picker, and a cookie, a header or a table.

    A session stays as long as its endpoint is in the pool and may get work, and also at weight 0, and while it drains,
    until the drain's deadline (a drain without deadline keeps no session). It is let go, and the picker chooses anew,
    when the endpoint has left the pool or is unhealthy (unless the pool panics and uses all), when it is at its
    `max_inflight`, or when with this request it would have more than `ceil(load_factor * share)` of the requests in
    flight, its share being that of its weight; None turns the latter off.

    Raises ConfigError. Source: AWS user guide, sticky sessions (2023); weight 0 and drains as with HAProxy 2.8 and
    nginx 1.31; the bound is that of consistent hashing with bounded loads (Mirrokni and others 2018).

    >>> pool = Pool(["a", "b"], seed=1)
    >>> sticky = Sticky(RoundRobin(pool), StickyCookie(b"0123456789abcdef", pool="web"))
    >>> first = sticky.acquire(None)
    >>> second = sticky.acquire(first.token)
    >>> second.kept, second.endpoint == first.endpoint
    (True, True)
    >>> pool.set_health(first.endpoint.id, "unhealthy")
    >>> third = sticky.acquire(second.token)
    >>> third.kept, third.reason, third.endpoint == first.endpoint
    (False, 'unhealthy', False)
    """

    __slots__ = ("load_factor", "picker", "via")

    picker: Any
    via: StickyCookie | StickyHeader | StickyTable
    load_factor: float | None

    def __init__(
        self,
        picker: _Picker,
        via: StickyCookie | StickyHeader | StickyTable,
        /,
        *,
        load_factor: float | None = None,
    ) -> None:
        if not isinstance(getattr(picker, "pool", None), Pool) or not callable(getattr(picker, "acquire", None)):
            raise ConfigError(f"picker: {picker!r:.80} is not allowed; a picker on a Pool")
        if not isinstance(via, StickyCookie | StickyHeader | StickyTable):
            raise ConfigError(f"via: {via!r:.80} is not allowed; StickyCookie, StickyHeader or StickyTable")
        number = isinstance(load_factor, int | float) and not isinstance(load_factor, bool)
        if load_factor is not None and not (number and math.isfinite(load_factor) and load_factor >= 1):
            raise ConfigError(f"load_factor: {load_factor!r} is not allowed; a finite number of 1 or more, or None")
        for name, value in (("picker", picker), ("via", via), ("load_factor", load_factor)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a Sticky is frozen")

    def acquire(
        self, session: str | bytes | None, /, *, key: Any = None, cost: float | None = None, now: float | None = None
    ) -> StickyLease:
        """Takes a lease where the session belongs, or else where the picker says.

        `session` is the token that the client sent, or with a table the session's key (of a header, a user's name);
        None for none. `key` and `cost` are as for the picker; `cost=None` is its default. `now` is the time for pool,
        token and table, in seconds; None asks the clock of each, but a pool on a ManualClock tells the token's time
        too. Errors are the picker's.

        A `PrefixAware` charges and remembers the prompt also where the session stays, unless the endpoint takes no new
        work (it drains, or has the weight 0): then it has nothing to weigh.
        """
        pool = self.picker.pool
        via = self.via
        token_now = now
        if now is None and isinstance(pool.clock, ManualClock):
            token_now = pool.clock.now()
        reason, home = "new", None
        if session is not None:
            if isinstance(via, StickyTable):
                home = via.get(session, now=token_now)
            else:
                # bytes come from ASGI headers
                text = session.decode("latin-1") if isinstance(session, bytes) else session
                reading = via.read(text, now=token_now)
                reason = reading.status
                if reading.tag is not None:
                    home = via.find(reading.tag, pool)
                    reason = "gone"
        if home is not None:
            found = self._kept(home, key, cost, now)
            if not isinstance(found, str):
                return self._bound(found, session, True, "kept", token_now)
            reason = found
        lease = self.picker.acquire(key, now=now, **costing(cost))
        return self._bound(lease, session, False, reason, token_now)

    def _kept(self, home: str, key: Any, cost: float | None, now: float | None) -> Lease | str:
        """A lease where the session is, or why it is let go."""
        pool = self.picker.pool
        if isinstance(self.picker, PrefixAware) and not self._full(pool, home, now):
            # A prompt is charged and remembered by its picker. Where that takes nobody new, it has nothing to weigh.
            lease: Lease | None = self.picker.try_acquire(key, subset=[home], now=now, **costing(cost))
            if lease is not None:
                return lease
        return _acquire_on(pool, home, cost=1.0 if cost is None else cost, load_factor=self.load_factor, now=now)

    def _full(self, pool: Pool, home: str, now: float | None) -> bool:
        """Whether with one request more it would be beyond its bound; the rule of the core."""
        if self.load_factor is None:
            return False
        records = pool.stats(now)
        total = 1 + sum(record.inflight for record in records)
        weights = sum(record.weight for record in records)
        for record in records:
            if record.id == home and record.weight > 0:
                return record.inflight >= math.ceil(self.load_factor * total * record.weight / weights)
        return False

    def _bound(self, lease: Lease, session: Any, kept: bool, reason: str, now: float | None) -> StickyLease:
        try:
            if isinstance(self.via, StickyTable):
                token = None
                # A session that stays was renewed by the look.
                if session is not None and not kept:
                    self.via.set(session, lease.endpoint.id, now=now)
            else:
                token = self.via.issue(lease.endpoint.id, now=now)
        except BaseException:
            lease.cancel()
            raise
        return StickyLease(lease, kept, reason, token)

    def __repr__(self) -> str:
        return f"Sticky({self.picker!r}, {self.via!r}, load_factor={self.load_factor!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _sticky, (self.picker, self.via, self.load_factor)


def _sticky(picker: Any, via: Any, load_factor: float | None) -> Sticky:
    return Sticky(picker, via, load_factor=load_factor)


def _rebuild(cls: Any, secret: tuple[bytes, ...], values: dict[str, Any]) -> Any:
    return cls(secret, **values)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)
