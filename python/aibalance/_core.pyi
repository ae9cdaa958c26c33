from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, TypeAlias, final, overload, type_check_only

import numpy as np
import numpy.typing as npt

__all__ = [
    "Endpoint",
    "EndpointStats",
    "First",
    "Hashed",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "Latency",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "Maglev",
    "ManualClock",
    "ModuloHash",
    "Observation",
    "PeakEwma",
    "Picks",
    "Pool",
    "Recommendation",
    "Rendezvous",
    "RetryBudget",
    "RingHash",
    "RoundRobin",
    "ScalingEngine",
    "SourceHash",
    "SystemClock",
    "WeightedRandom",
    "__version__",
    "_after_fork",
    "_before_fork",
    "_picks",
    "_reseed_after_fork",
    "_simulate",
    "_simulate_balancer_seed",
    "_simulate_work_sums",
    "envoy_hash",
    "round_percent_change",
]

__version__: str

_Key: TypeAlias = str | bytes | int | Hashed
_Outcome: TypeAlias = Literal["success", "failure", "timeout", "rejected"]
_Health: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
_Clock: TypeAlias = SystemClock | ManualClock
_Endpoints: TypeAlias = Iterable[Endpoint | str]
_Array: TypeAlias = npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.uint32] | npt.NDArray[np.int32]

# Clocks

@final
class SystemClock:
    """The machine's monotonic clock, the one that `time.monotonic` reads on Linux.

    >>> clock = SystemClock()
    >>> clock.now() <= clock.now()
    True
    """

    def __new__(cls) -> Self: ...
    def now(self) -> float:
        """Seconds since the clock's own origin."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class ManualClock:
    """A clock that stands still until it is moved: for tests and simulations.

    `start` is where it stands, in seconds, not negative.

    >>> clock = ManualClock(0.0)
    >>> clock.advance(1.5)
    >>> clock.now()
    1.5
    """

    def __new__(cls, start: float = 0.0, /) -> Self: ...
    def now(self) -> float:
        """Where it stands, in seconds."""
    def advance(self, seconds: float, /) -> None:
        """Moves it on. Raises ConfigError for a number that is negative or not finite."""

# Endpoints and pool

@final
class Endpoint:
    """One endpoint of a pool. Frozen; equal and hashed by `id`.

    `address` is any text that tells you where to send a request; `id` is what the pool knows it by (default: the
    address) and must be unique in the pool. `weight` is its share relative to the others, any finite number from 0 to
    1e15; 0 means no new work. `zone` and `tags` are labels of yours. `backup=True` keeps it idle until no primary can
    be had. `max_inflight` limits the requests in flight. `hash_key` places it in hash rings and tables (default: the
    address). `data` is any object of yours. `priority` and `passive` are known by name only in this version.

    Raises ConfigError, naming the field, for a value that cannot be.

    >>> Endpoint("10.0.0.1:8080", weight=3)
    Endpoint('10.0.0.1:8080', weight=3)
    >>> Endpoint("10.0.0.1:8080").id
    '10.0.0.1:8080'
    """

    def __new__(
        cls,
        address: str,
        /,
        *,
        id: str | None = None,
        weight: float = 1.0,
        zone: str = "",
        priority: int = 0,
        backup: bool = False,
        max_inflight: int | None = None,
        hash_key: str | int | None = None,
        passive: None = None,
        tags: Mapping[str, Any] | None = None,
        data: Any = None,
    ) -> Self: ...
    @property
    def address(self) -> str:
        """Where to send a request."""
    @property
    def id(self) -> str:
        """What the pool knows it by."""
    @property
    def weight(self) -> float:
        """Its share relative to the others."""
    @property
    def zone(self) -> str:
        """A label; empty when there is none."""
    @property
    def priority(self) -> int:
        """Always 0 in this version."""
    @property
    def backup(self) -> bool:
        """Whether it gets work only when no primary can be had."""
    @property
    def max_inflight(self) -> int | None:
        """The most requests it may have in flight."""
    @property
    def hash_key(self) -> str | int | None:
        """What places it in a hash, when that is not the address."""
    @property
    def tags(self) -> dict[str, Any]:
        """A copy of its labels."""
    @property
    def data(self) -> Any:
        """Your object."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]: ...

@final
class Latency:
    """How a pool averages latencies, for PeakEwma and `stats()`.

    `decay` is the time in seconds in which an old value loses all but 1/e of its weight. `default_rtt` is what an
    endpoint counts as before it has answered, in seconds; None means the mean of the pool. `failure_penalty` is what a
    failure counts as, in seconds, at least, so that failing fast does not look like being fast.

    Source: Peak EWMA of Finagle and linkerd (linkerd2-proxy, 2026, for the penalty). Differences: idle estimates decay
    towards the pool's mean and not towards zero, and reading never changes them.

    >>> Latency(decay=5.0)
    Latency(decay=5.0, failure_penalty=5.0)
    """

    def __new__(
        cls, *, decay: float = 10.0, default_rtt: float | None = None, failure_penalty: float = 5.0
    ) -> Self: ...
    @property
    def decay(self) -> float:
        """Seconds."""
    @property
    def default_rtt(self) -> float | None:
        """Seconds."""
    @property
    def failure_penalty(self) -> float:
        """Seconds."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class EndpointStats:
    """What a pool knows of one endpoint.

    >>> pool = Pool(["a", "b"])
    >>> [record.inflight for record in pool.stats()]
    [0, 0]
    """

    @property
    def id(self) -> str:
        """The endpoint's id."""
    @property
    def weight(self) -> float:
        """Its weight."""
    @property
    def health(self) -> _Health:
        """Its health."""
    @property
    def draining(self) -> bool:
        """Whether it is draining."""
    @property
    def eligible(self) -> bool:
        """Whether it may get a request now."""
    @property
    def inflight(self) -> int:
        """Requests in flight."""
    @property
    def load(self) -> float:
        """The load that picks compare: the sum of costs in flight, corrected by reports."""
    @property
    def picks(self) -> int:
        """Leases given out."""
    @property
    def successes(self) -> int:
        """Leases that ended well."""
    @property
    def failures(self) -> int:
        """Leases that ended in failure."""
    @property
    def timeouts(self) -> int:
        """Leases that ended in a timeout."""
    @property
    def rejected(self) -> int:
        """Leases that the endpoint refused."""
    @property
    def cancelled(self) -> int:
        """Leases that were given up."""
    @property
    def dropped(self) -> int:
        """Leases that were dropped without a release."""
    @property
    def latency(self) -> float | None:
        """The latency estimate in seconds; None before the first measured answer."""
    @property
    def last_latency(self) -> float | None:
        """The last measured latency in seconds."""
    @property
    def report(self) -> dict[str, float] | None:
        """What `observe` was told last, while it counts."""

@final
class Pool:
    """A set of endpoints with their counters. Pickers on it share both.

    `endpoints` are Endpoint objects or addresses. When fewer than `panic_threshold` (a share; 0 for never) of the
    endpoints are healthy, health is ignored and all share the load (`on_panic="all"`) or nothing is picked (`"fail"`).
    While backups can carry the load there is no panic; how far healthy endpoints are trusted beyond their share is
    `overprovisioning_factor`. `latency` says how latencies are averaged, and turns measuring on; a PeakEwma picker
    turns it on too. A detached lease that nobody gives back is taken back after `lease_timeout` seconds. `clock`
    answers whenever no `now=` is given. The same `seed` gives the same picks; None draws anew in each process, also
    after a fork. The other parameters are known by name only in this version.

    Source of the panic rule: Envoy 1.40. Draining endpoints and those of weight 0 count on neither side.

    Raises ConfigError, naming the field.

    >>> pool = Pool(["10.0.0.1:80", Endpoint("10.0.0.2:80", weight=2)], seed=1)
    >>> pool
    <Pool of 2>
    >>> pool.set_health("10.0.0.1:80", "unhealthy")
    >>> RoundRobin(pool).pick().id
    '10.0.0.2:80'
    """

    def __new__(
        cls,
        endpoints: _Endpoints,
        /,
        *,
        passive: None = None,
        slow_start: None = None,
        circuit_breaker: None = None,
        panic_threshold: float = 0.5,
        on_panic: Literal["all", "fail"] = "all",
        failover: Literal["overflow"] = "overflow",
        overprovisioning_factor: float = 1.4,
        local_zone: None = None,
        zone_weights: None = None,
        latency: Latency | None = None,
        lease_timeout: float | None = None,
        clock: _Clock | None = None,
        seed: int | None = None,
        shared: None = None,
    ) -> Self: ...
    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints, in order: picks by index refer to it."""
    @property
    def clock(self) -> _Clock:
        """What answers when no `now=` is given."""
    def update(self, endpoints: _Endpoints, /) -> None:
        """Replaces the endpoints in one step. Those whose id stays keep counters, health and drain.

        Raises ConfigError for an id that occurs twice; then nothing has changed.
        """
    def add(self, endpoint: Endpoint | str, /) -> None:
        """Adds one endpoint at the end. Raises ConfigError when its id is in the pool."""
    def remove(self, id: str, /) -> None:
        """Takes one endpoint out; leases on it go on. Raises ConfigError for an unknown id."""
    def set_weight(self, id: str, weight: float, /) -> None:
        """Changes a weight. Hash tables that take long to build follow at the next `advance()`."""
    def set_health(self, id: str, health: _Health, /) -> None:
        """Says how an endpoint is. A degraded one gets work only when no healthy one of its rank can take it."""
    def drain(self, id: str, /, *, deadline: float | None = None, now: float | None = None) -> None:
        """Gives an endpoint no new work. Requests in flight go on; after `deadline` seconds it counts as drained."""
    def undrain(self, id: str, /) -> None:
        """Takes a drain back."""
    def is_drained(self, id: str, /, *, now: float | None = None) -> bool:
        """Whether a draining endpoint has nothing in flight, or its deadline has passed."""
    async def drained(self, id: str, /) -> None:
        """Waits until `is_drained`. Looks every 1 to 50 ms."""
    def observe(
        self,
        id: str,
        /,
        *,
        inflight: float | None = None,
        queue: float | None = None,
        utilization: float | None = None,
        latency: float | None = None,
        gpu_memory: float | None = None,
        kv_cache: float | None = None,
        qps: float | None = None,
        eps: float | None = None,
        now: float | None = None,
    ) -> None:
        """Takes in what others saw of an endpoint.

        `inflight` and `queue` (requests) replace the load: from then on it is their sum plus what is sent and minus
        what ends from here on. After 10 s without a new report the pool's own count is used again. `latency` (seconds)
        feeds the estimate. The others are shown by `stats()`.

        Raises MetricError for a number that is negative or not finite.

        >>> pool = Pool(["a", "b"], clock=ManualClock(0.0))
        >>> pool.observe("a", inflight=3)
        >>> LeastRequest(pool).pick().id
        'b'
        """
    def advance(self, now: float | None = None) -> None:
        """Does what time alone brings: drops old reports and leases, and rebuilds what was put off."""
    def stats(self, now: float | None = None) -> list[EndpointStats]:
        """One record an endpoint, in order."""
    def release(
        self,
        lease_id: int,
        /,
        outcome: _Outcome | None = None,
        *,
        status: int | None = None,
        latency: float | None = None,
        retry_after: float | None = None,
        now: float | None = None,
    ) -> None:
        """Releases a lease by its id. Raises LeaseError when no live lease has it.

        >>> pool = Pool(["a"])
        >>> lease_id = RoundRobin(pool).acquire().detach()
        >>> pool.release(lease_id)
        """
    def cancel(self, lease_id: int, /) -> None:
        """Gives up a lease by its id. Raises LeaseError when no live lease has it."""
    def __len__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def __getstate__(self) -> tuple[tuple[Endpoint, ...], list[tuple[str, bool]]]: ...
    def __setstate__(self, state: tuple[tuple[Endpoint, ...], list[tuple[str, bool]]], /) -> None: ...

@final
class RetryBudget:
    """How many retries there may be, over all requests that share it.

    Every first attempt earns `ratio` of a retry, and `min_per_second` retries a second are always there. One request
    makes `max_attempts` attempts at most. Source: Finagle's retry budget.

    >>> RetryBudget(ratio=0.1)
    RetryBudget(ratio=0.1, min_per_second=10, max_attempts=3)
    """

    def __new__(cls, *, ratio: float = 0.2, min_per_second: float = 10.0, max_attempts: int = 3) -> Self: ...
    @property
    def ratio(self) -> float:
        """Retries that a first attempt earns."""
    @property
    def min_per_second(self) -> float:
        """Retries a second that are always there."""
    @property
    def max_attempts(self) -> int:
        """The most attempts of one request."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

# Keys

@final
class Hashed:
    """A key that is hashed already: 64 bits, taken as they are.

    >>> Hashed(17)
    Hashed(17)
    """

    def __new__(cls, value: int, /) -> Self: ...
    @property
    def value(self) -> int:
        """The hash, from 0 to 2**64-1."""
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __lt__(self, other: Hashed, /) -> bool: ...
    def __le__(self, other: Hashed, /) -> bool: ...
    def __gt__(self, other: Hashed, /) -> bool: ...
    def __ge__(self, other: Hashed, /) -> bool: ...
    def __getnewargs__(self) -> tuple[int]: ...

def envoy_hash(*values: _Key | list[str] | list[bytes] | list[str | bytes]) -> Hashed:
    """One hash from the values of several hash policies, as Envoy 1.40 combines them.

    A list is one header that was given several times. Raises ConfigError for no value, or a key that cannot be.

    >>> envoy_hash("user-1") == envoy_hash(["user-1"])
    True
    >>> envoy_hash("user-1", "tenant-2") == envoy_hash("tenant-2", "user-1")
    False
    """

# Pickers and leases

@final
class Lease:
    """What an acquired request holds until it is released.

    In a `with` or `async with` block it is released at the end: a block that ends by CancelledError, GeneratorExit,
    KeyboardInterrupt or SystemExit cancels it (no latency, no failure), by TimeoutError is a timeout, by any other
    exception a failure. Releasing twice does nothing. A lease that is dropped gives its work back and is counted,
    unless it was detached.

    >>> picker = LeastRequest(["a"])
    >>> with picker.acquire() as lease:
    ...     lease.endpoint.id
    'a'
    """

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint."""
    @property
    def id(self) -> int:
        """Its id, good for `pool.release()`. Raises LeaseError when the lease was released before it had one."""
    @property
    def cost(self) -> float:
        """The work that the request brings."""
    @property
    def released(self) -> bool:
        """Whether the work has been given back, here or by id."""
    def release(
        self,
        outcome: _Outcome | None = None,
        *,
        status: int | None = None,
        latency: float | None = None,
        retry_after: float | None = None,
        now: float | None = None,
    ) -> None:
        """Gives the work back and says how the request went.

        Without an `outcome` the HTTP `status` decides: 429, and 503 with `retry_after`, are "rejected", other 5xx a
        failure, everything else a success. `latency` in seconds replaces what was measured; `retry_after` is the
        server's hint in seconds.
        """
    def cancel(self) -> None:
        """Gives the work back: neither latency nor failure."""
    def detach(self) -> int:
        """Leaves the lease to its id, for `pool.release()`. Raises LeaseError when it was released."""
    def add(self, cost: float, /) -> None:
        """Corrects the work that the request brings, up or down. Raises LeaseError when it was released."""
    def first_token(self, *, now: float | None = None) -> None:
        """The answer has begun: the time until now is the latency that counts. Raises LeaseError after a release."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

@final
class Picks:
    """Many picks: places in a tuple of endpoints.

    >>> picks = RoundRobin(["a", "b"]).pick_many(3)
    >>> picks.indices.tolist()
    [0, 1, 0]
    >>> picks[2].id
    'a'
    """

    @property
    def indices(self) -> npt.NDArray[np.uint32]:
        """Shape (n,): the place of each pick in `endpoints`."""
    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints of the pool when the picks were made."""
    def __len__(self) -> int: ...
    def __getitem__(self, at: SupportsIndex, /) -> Endpoint: ...
    def __iter__(self) -> Iterator[Endpoint]: ...
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]: ...

def _picks(indices: npt.NDArray[np.uint32], endpoints: tuple[Endpoint, ...]) -> Picks: ...

@type_check_only
class _PickerMethods:
    @property
    def pool(self) -> Pool:
        """The pool."""
    def pick(self, key: _Key | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint. Counts nothing but the picker's own rotation.

        Policies without keys do not look at `key`; a hashing picker without a key picks at random. `now` is in seconds.
        Raises NoEndpointsError, NoHealthyEndpointError or OverloadedError.
        """
    def try_pick(self, key: _Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
    def acquire(
        self,
        key: _Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses an endpoint and takes a lease on it.

        `cost` is the work that the request brings (1, tokens, seconds), from 0 to 8e12. `exclude` and `subset` are
        endpoints or ids; those that the pool does not know are no matter. Raises as `pick` does.
        """
    def try_acquire(
        self,
        key: _Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
    def ranked(
        self,
        key: _Key | None = None,
        /,
        *,
        k: int,
        exclude: Iterable[Endpoint | str] | None = None,
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> list[Endpoint]:
        """Up to `k` different endpoints, in the order in which one request would try them."""
    @overload
    def pick_many(self, n_or_keys: int, /, *, hashed: bool = False) -> Picks: ...
    @overload
    def pick_many(self, n_or_keys: Sequence[_Key] | _Array, /, *, hashed: bool = False) -> Picks:
        """Many picks at once: a number of them, or one for each key.

        Keys are a list, or an array of 32- or 64-bit integers, shape (n,); with `hashed=True` its numbers are ready
        hashes. Raises as `pick` does.
        """
    def attempts(self, key: _Key | None = None, /, *, budget: int | RetryBudget) -> Iterator[Lease]:
        """The attempts of one request, each on another endpoint: at most `budget`, or what a RetryBudget allows."""
    def local(self) -> Self:
        """A handle on this picker for one thread, with the same methods.

        Threads that pick through one picker without a GIL meet at its rotation, its source of chance and its locks;
        each with a handle of its own, they do not. Weights, health, limits and requests in flight are the pool's: all
        handles see them at once. A hashing picker's handles give each key the endpoint that the picker gives it, and
        share its table. A handle draws by itself. Where turns are taken, each handle takes turns by itself: the first
        one in the picker's own order from its start, each later one from another place. Of N picks by H handles an
        endpoint gets its share within H times what the schedule itself allows: for equal weights, less than H too many
        or too few.

        Make it in the thread that uses it: without a GIL, another thread may use it too, at the price of a picker.
        A handle of a handle is one more handle of the same picker. Pickled, it is the picker.

        >>> picker = Maglev(["a", "b", "c"])
        >>> handle = picker.local()
        >>> handle.pick("user-17") == picker.pick("user-17")
        True
        """
    def __getnewargs_ex__(self) -> tuple[tuple[Pool], dict[str, Any]]: ...

@final
class RoundRobin(_PickerMethods):
    """Weighted round robin, in the order of the system whose `schedule` you name.

    - "smooth": nginx (1.22, 1.31), which spreads turns evenly: 5, 1, 1 gives a a b a c a a.
    - "edf": Envoy (1.40), earliest deadline first: a a a a b c a. `start` is the number of picks, modulo 429,496,729,
      that are worked out before the first, as Envoy does with a random one (0: from the very start, without Envoy's
      rounding). Equal weights take turns.
    - "heap": Traefik (3.7): deadlines in a heap without a rule for equal ones, so equal weights do not take turns. The
      order of the pool is that in which they are put in; `start="random"` shuffles it, as Traefik does.
    - "stride": gRPC (C++), static stride over one counter; a weight counts for 0.01 to 10 times the mean. `start` is a
      place in its sequence, of which not every one is a pick.
    - "fwrr": HAProxy's `balance roundrobin` (2.6, 2.8): a a a b a a c. Weights may change while it runs; a full
      endpoint uses up its turn.
    - "static-rr": HAProxy's map of turns: a a a b a a c. A full endpoint's places are skipped.
    - "caddy": Caddy (2.11): blocks, a a a a b c a; with all weights 1 turns, from the second endpoint on. The turns of
      a block whose endpoint is full or excluded go to its neighbours.

    HAProxy's weights go up to 256: when one is larger, all are scaled for "fwrr". `start` is the number of picks to
    start after (default 0; at most 1,000,000 for "heap" and "fwrr"), or "random". `seed` and `clock` are for the pool
    that is made when endpoints are given instead of one. A change of the pool keeps the turns of those that stay.

    Raises ConfigError for an unknown schedule, or a start that cannot be.

    >>> picker = RoundRobin([Endpoint("a", weight=5), "b", "c"])
    >>> [picker.pick().id for _ in range(7)]
    ['a', 'a', 'b', 'a', 'c', 'a', 'a']
    >>> picker = RoundRobin([Endpoint("a", weight=5), "b", "c"], schedule="fwrr")
    >>> [picker.pick().id for _ in range(7)]
    ['a', 'a', 'a', 'b', 'a', 'a', 'c']
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        schedule: Literal["smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy"] = "smooth",
        start: int | Literal["random"] | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class LeastRequest(_PickerMethods):
    """The least loaded of a few endpoints, or of all.

    Draws `choices` (1 to 64) distinct endpoints by weight and takes the one of the least load^bias / weight; the load
    is the sum of costs in flight, with the new request's cost (`score="after"`) or without (`"before"`).
    `full_scan=True` compares all. `replace=True` draws with replacement. `ties` says who wins among equals; "rotate"
    needs a full scan.

    `schedule="edf"` is Envoy's rule for unequal weights (1.40): earliest deadline first with weight / (load + 1)^bias,
    which is read when an endpoint has had its turn. `start` is the number of picks (modulo 429,496,729) to start after,
    or "random"; default 0. Endpoints of equal weight go by the other options, as in Envoy.

    Source: Mitzenmacher, "The power of two choices in randomized load balancing", 2001. Envoy and gRPC draw with
    replacement and know no weights here.

    >>> picker = LeastRequest(["a", "b"], seed=1)
    >>> first = picker.acquire()
    >>> picker.pick() == first.endpoint
    False
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        choices: int = 2,
        full_scan: bool = False,
        replace: bool = False,
        schedule: Literal["edf"] | None = None,
        bias: float = 1.0,
        score: Literal["after", "before"] = "after",
        ties: Literal["random", "first", "last", "rotate", "heaviest"] = "random",
        start: int | Literal["random"] | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class LeastConnections(_PickerMethods):
    """The fewest requests in flight for its weight, all endpoints compared.

    - `variant="nginx"`: nginx's `least_conn` (1.22, 1.31): requests over weight; ties by smooth weighted round robin
      among the tied, so that an idle pool takes turns by weight. Without a tie nobody's turn moves.
    - `variant="haproxy"`: HAProxy's `leastconn` (2.6, 2.8): idle endpoints first whatever their weight, then (requests
      + 1) * 4096 // (weight * 16); of equal ones the one that has been so for longest.

    It counts requests, not their cost. `seed` and `clock` are for the pool that is made when endpoints are given.
    Raises ConfigError for an unknown variant.

    >>> picker = LeastConnections(["a", "b"])
    >>> busy = picker.acquire()
    >>> [picker.pick().id for _ in range(3)]
    ['b', 'b', 'b']
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        variant: Literal["nginx", "haproxy"] = "nginx",
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class First(_PickerMethods):
    """The first endpoint, in the pool's order, that has a free place.

    Fills one endpoint up to its `max_inflight` before the next gets work, so that the last ones stay idle and can be
    taken away. Weights do not matter, except that 0 means no work. `seed` and `clock` are for the pool that is made
    when endpoints are given.

    Source: HAProxy's `balance first` (2.6, 2.8), Caddy's `first` (2.11).

    >>> picker = First([Endpoint("a", max_inflight=1), "b"])
    >>> busy = picker.acquire()
    >>> busy.endpoint.id, picker.pick().id
    ('a', 'b')
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class WeightedRandom(_PickerMethods):
    """Any endpoint, each with a chance proportional to its weight, whatever it has in flight.

    One draw and one look, at any number of endpoints. Endpoints that may not take the request are left out as if the
    pool were without them. `ring` is known by name only in this version.

    Source: Walker's alias method in Vose's construction ("A linear algorithm for generating random numbers with a given
    distribution", 1991).

    >>> picker = WeightedRandom([Endpoint("a", weight=3), Endpoint("b", weight=1)], seed=1)
    >>> picks = picker.pick_many(4000)
    >>> 2850 < (picks.indices == 0).sum().item() < 3150
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        ring: None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class JoinIdleQueue(_PickerMethods):
    """An idle endpoint, drawn by weight; when nobody is idle, the less loaded of two drawn by weight.

    Idle is who has no request in flight and of whom no report (`Pool.observe`) tells load. At its best where somebody
    usually is idle and no request should wait: a slot for each request, such as an LLM's.

    Source: Lu et al., "Join-Idle-Queue: a novel load balancing algorithm for dynamically scalable web services", 2011,
    with one dispatcher. There a request goes to a random server when nobody is idle; here to one of two choices.

    >>> picker = JoinIdleQueue(["a", "b", "c"], seed=1)
    >>> busy = [picker.acquire(), picker.acquire()]
    >>> {picker.pick().id for _ in range(20)} == {"a", "b", "c"} - {lease.endpoint.id for lease in busy}
    True
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class PeakEwma(_PickerMethods):
    """Of two endpoints drawn by weight, the one with the least latency x (work in flight + 1) / weight.

    The pool keeps the latency estimate; see Latency. It jumps up with every slower answer, blends faster ones in, and
    takes a failure for at least 5 s. Picks compare estimates that are up to a 64th of the decay time old.

    Source: Peak EWMA of Finagle and linkerd.

    >>> pool = Pool(["fast", "slow"], clock=ManualClock(0.0), seed=1)
    >>> pool.observe("fast", latency=0.1)
    >>> pool.observe("slow", latency=2.0)
    >>> PeakEwma(pool).pick().id
    'fast'
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class RingHash(_PickerMethods):
    """Consistent hashing on a ring: a key keeps its endpoint while others come and go.

    `ring="envoy"` is Envoy's RING_HASH (1.40). `points` is the number of points of an endpoint of the least weight
    (default 512: max/mean at most 1.15 with 100 endpoints). `min_size` and `max_size` (defaults 1024 and 8388608 when
    one of them is given) are Envoy's sizes of the whole ring and replace `points`. `hash` places the points: "xxh64"
    (default) or "murmur2".

    `ring="nginx"` is `hash ... consistent` (nginx 1.22 and 1.31): 160 points for a unit of weight, placed by the
    endpoint's `hash_key`, which is the text of a `server` line; endpoints of one text share their keys by smooth round
    robin. Endpoints that are unhealthy, draining or full keep their points: a key goes on to at most 20 more points,
    and then to smooth round robin, as an empty key does at once.

    `ring="haproxy"` is `hash-type consistent` (HAProxy 2.6 and 2.8): 16 nodes for a unit of weight (at most 4096:
    larger weights are scaled down together), placed by `hash_key`, a whole number being the server's id and any other
    text hashed by XXH32; the nearest node on either side has the key. `hash` hashes keys: "sdbm" (default), "djb2",
    "wt6", "crc32", or "xxh32", "xxh64", "xxh3" for HAProxy's converters of these names. `avalanche` is True unless one
    of the first four is named.

    `bounded_load` (for "envoy" and "haproxy") is a factor from 1 to 655.35 in whole percent: no endpoint gets more than
    that many times its share of the requests in flight. With "envoy" (`hash_balance_factor`) an endpoint may have one
    request more, and a key that cannot go home goes to the others in an order that the key shuffles; with "haproxy"
    (`hash-balance-factor`) it goes on along the ring. Only `acquire` counts as in flight.

    Raises ConfigError for a value that cannot be, and for an option that the ring does not have.

    >>> picker = RingHash(["a", "b", "c"])
    >>> picker.pick("user-1") == picker.pick("user-1")
    True
    >>> RingHash(["10.0.0.1:80", "10.0.0.2:80"], ring="nginx").pick("user-1").address
    '10.0.0.1:80'
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        ring: Literal["envoy", "nginx", "haproxy"] = "envoy",
        points: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        hash: Literal["xxh64", "murmur2", "sdbm", "djb2", "wt6", "crc32", "xxh32", "xxh3"] | None = None,
        avalanche: bool | None = None,
        bounded_load: float | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class Maglev(_PickerMethods):
    """Maglev hashing: even shares, one look-up a pick; somewhat more keys move than on a ring when endpoints change.

    `table_size` is a prime up to 5000011 (default 65537), well above 100 times the number of endpoints.
    `bounded_load` is Envoy's `hash_balance_factor` as a factor from 1 to 655.35 in whole percent: see RingHash.

    Source: Eisenbud et al., "Maglev", NSDI 2016, with Envoy's weights and table (Envoy 1.40).

    >>> picker = Maglev(["a", "b", "c"])
    >>> picker.pick("user-1") == picker.pick_many(["user-1"])[0]
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        table_size: int = 65537,
        bounded_load: float | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class ModuloHash(_PickerMethods):
    """A hash of the key modulo the sum of weights: not consistent, nearly every key moves when endpoints change.

    `variant="nginx"` is `hash key` (nginx 1.22 and 1.31). Endpoints that are unhealthy, draining or full keep their
    part of the sum: a key that meets one is hashed again, 20 times at most, and then goes by smooth round robin, as an
    empty key does at once. Weights that are not whole are scaled so that the largest is 256. `variant="haproxy"` is
    `hash-type map-based` (HAProxy 2.6 and 2.8): a map of the endpoints that may be picked, with `hash` (default "sdbm")
    and `avalanche` (default False) as in RingHash; a key that meets a full endpoint goes on along the map.

    Raises ConfigError for a value that cannot be, and for an option that the variant does not have.

    >>> ModuloHash(["a", "b", "c"]).pick("user-1").id
    'c'
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        variant: Literal["nginx", "haproxy"] = "nginx",
        hash: Literal["sdbm", "djb2", "wt6", "crc32", "xxh32", "xxh64", "xxh3"] | None = None,
        avalanche: bool | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class IpHash(_PickerMethods):
    """nginx's ip_hash (1.22 and 1.31): by the first three bytes of an IPv4 address, or all of an IPv6 address.

    The key is an address: a str, its 4 or 16 bytes, or an int below 2**32 for IPv4; anything else raises ConfigError.
    Endpoints that may not be picked are treated as in ModuloHash.

    >>> picker = IpHash(["a", "b", "c"])
    >>> picker.pick("192.0.2.1") == picker.pick("192.0.2.200")
    True
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class SourceHash(_PickerMethods):
    """HAProxy's balance source (2.6 and 2.8): by all bytes of the client's address.

    The key is an address: a str, its 4 or 16 bytes, an int below 2**32 for IPv4, or Hashed; anything else raises
    ConfigError. `ring=None` looks it up in a map of the endpoints (`hash-type map-based`), `ring="haproxy"` on
    HAProxy's ring, where `bounded_load` may limit loads as in RingHash. `avalanche` is True with a ring unless said
    otherwise.

    >>> SourceHash(["a", "b", "c"], ring="haproxy").pick("192.0.2.1") in SourceHash(["a", "b", "c"]).pool.endpoints
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        ring: Literal["haproxy"] | None = None,
        avalanche: bool | None = None,
        bounded_load: float | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class JumpHash(_PickerMethods):
    """Jump hash: no table, even shares; only the last endpoint of the pool can go without moving the keys of others.

    Endpoints are buckets in the pool's order, as many each as its weight after a common divisor. Those that are
    unhealthy, draining or full keep their buckets: a key that meets one is hashed again. Removing any but the last
    moves many keys, so it is for shards that never go.

    Source: Lamping and Veach, "A fast, minimal memory, consistent hash algorithm", 2014.

    >>> JumpHash([f"shard-{i}" for i in range(666)]).pick(Hashed(3735883980)).id
    'shard-361'
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class JumpBackHash(_PickerMethods):
    """JumpBackHash: as JumpHash, at a price that does not grow with the number of endpoints.

    Source: Ertl, "JumpBackHash: say goodbye to the modulo operation to distribute keys uniformly to buckets", 2024,
    over SplitMix64 as hash4j has it.

    >>> JumpBackHash(["a", "b", "c"]).pick(Hashed(9184114998275508886)).id
    'b'
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class Rendezvous(_PickerMethods):
    """Rendezvous hashing (highest random weight): the endpoint that draws the best number from the key has it.

    When an endpoint goes, only its own keys move, each to its second choice, and the price is a look at every endpoint.
    Weights count exactly. `variant="caddy"` is Caddy 2.11's (XXH64 of `hash_key` and key; weights do not count),
    `variant="traefik"` Traefik 3.7's (FNV-1a of key and `hash_key`, the server's URL: keys or names that differ only at
    their end cluster, so take it only to agree with Traefik). `bounded_load` is a factor from 1
    to 655.35 in whole percent: an endpoint with that many times its share of the requests in flight is passed over, and
    a key goes to its next best.

    Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998. Raises ConfigError for a
    value that cannot be.

    >>> picker = Rendezvous(["a", "b", "c"])
    >>> home, second = picker.ranked("user-1", k=2)
    >>> picker.pool.remove(home.id)
    >>> picker.pick("user-1") == second
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        variant: Literal["caddy", "traefik"] | None = None,
        bounded_load: float | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

def _after_fork() -> None: ...
def _before_fork() -> None: ...
def _reseed_after_fork() -> None: ...

# Autoscaling

@final
class Observation:
    def __new__(
        cls,
        current: int,
        *,
        desired: int | None = None,
        status: int | None = None,
        warming: int = 0,
        metrics: Mapping[str, float | None] = {},
        pods: Any = None,
    ) -> Observation: ...
    @property
    def current(self) -> int: ...
    @property
    def desired(self) -> int | None: ...
    @property
    def status(self) -> int | None: ...
    @property
    def warming(self) -> int: ...
    @property
    def metrics(self) -> dict[str, float | None]: ...
    @property
    def pods(self) -> Any: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, Any]]: ...

@final
class Recommendation:
    @property
    def desired(self) -> int: ...
    @property
    def current(self) -> int: ...
    @property
    def action(self) -> Literal["scale_out", "scale_in", "none", "insufficient_data"]: ...
    @property
    def reason(self) -> str: ...
    @property
    def limited_by(self) -> str | None: ...
    @property
    def trace(self) -> list[tuple[str, float | int | str | None]]: ...
    @property
    def remove(self) -> tuple[str, ...]: ...
    @property
    def details(self) -> dict[str, Any]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class ScalingEngine:
    @staticmethod
    def target_tracking(config: object) -> ScalingEngine: ...
    @staticmethod
    def step_scaling(config: object) -> ScalingEngine: ...
    @staticmethod
    def combined(policies: Sequence[ScalingEngine], config: object) -> ScalingEngine: ...
    def recommend(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
    def record(self, name: str, value: float | None, at: float) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

def round_percent_change(change: float, /) -> int: ...

# Simulation

def _simulate(
    args: Mapping[str, Any],
    balancer: Any,
    scaler: Callable[[float, Mapping[str, Any]], int | None] | None,
    *,
    seed: int,
    records: bool,
    progress: Callable[[float], object] | None,
    arrival_s: npt.NDArray[np.float64] | None,
    work_s: npt.NDArray[np.float64] | None,
) -> dict[str, Any]: ...
def _simulate_balancer_seed(seed: int) -> int: ...
def _simulate_work_sums(args: Mapping[str, Any], seed: int, n: int, levels: list[float]) -> list[float]: ...
