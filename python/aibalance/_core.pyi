from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, SupportsIndex, TypeAlias, final, overload, type_check_only

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from ._explain import Explanation, LeaseMove
from ._queue import WaitQueue
from ._shared import SharedMemory
from .llm import PrefixExplanation
from .passive import CircuitBreaker, MaxFails, OutlierDetection

__all__ = [
    "ActiveRetryBudget",
    "AdaptiveConcurrency",
    "CapacityRules",
    "ClientSideWeightedRoundRobin",
    "CloudEngine",
    "DnsDraws",
    "Endpoint",
    "EndpointStats",
    "Ewma",
    "First",
    "FlapDamping",
    "Formula",
    "GroupEngine",
    "Hashed",
    "HealthState",
    "HpaEngine",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "KedaEngine",
    "KnativeEngine",
    "Latency",
    "Lease",
    "LeastConnections",
    "LeastRequest",
    "LeastTime",
    "Maglev",
    "ManualClock",
    "MaxWindow",
    "MementoHash",
    "ModuloHash",
    "MultiProbeHash",
    "Observation",
    "PeakEwma",
    "Picks",
    "Pods",
    "Pool",
    "PrefixAware",
    "PrefixIndex",
    "PrefixMatch",
    "Prequal",
    "ProportionalEngine",
    "Recommendation",
    "Rendezvous",
    "RetryBudget",
    "RingHash",
    "RoundRobin",
    "RouteEngine",
    "ScalingEngine",
    "SeasonalModel",
    "SlowStart",
    "SourceHash",
    "StickyTable",
    "SystemClock",
    "TimeWeightedEwma",
    "TokenBucket",
    "WeightedRandom",
    "Window",
    "__version__",
    "_acquire_on",
    "_after_fork",
    "_availability",
    "_before_fork",
    "_capacity_chance",
    "_cheapest_mix",
    "_check_passive",
    "_holt",
    "_hpa_replicas",
    "_keda_fallback",
    "_parse_quantity",
    "_picks",
    "_pooled_capacity",
    "_rank_removals",
    "_rejoin_after_fork",
    "_report_ages",
    "_reseed_after_fork",
    "_simulate",
    "_simulate_balancer_seed",
    "_simulate_fluid",
    "_simulate_work_sums",
    "_target_group_zones",
    "adjust_to_capacity",
    "dynamic_limit",
    "envoy_hash",
    "expected_left",
    "round_percent_change",
    "round_to_gangs",
    "scale_by_factor",
]

__version__: str

_Key: TypeAlias = str | bytes | int | Hashed
_Prompt: TypeAlias = str | bytes | int | Hashed | Sequence[int] | npt.NDArray[np.integer[Any]] | Buffer
_Outcome: TypeAlias = Literal["success", "failure", "timeout", "rejected"]
_Health: TypeAlias = Literal["healthy", "degraded", "unhealthy"]
_Clock: TypeAlias = SystemClock | ManualClock
_Endpoints: TypeAlias = Iterable[Endpoint | str]
_Array: TypeAlias = npt.NDArray[np.uint64] | npt.NDArray[np.int64] | npt.NDArray[np.uint32] | npt.NDArray[np.int32]

_HealthStatus: TypeAlias = Literal[
    "initial", "warming", "healthy", "degraded", "unhealthy", "draining", "unused", "unavailable"
]

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
    address). `data` is any object of yours. `priority` (0 first, to 128) says in which order endpoints are used,
    see `Pool`. `passive`, a MaxFails, is a rule of its own for what failures make of it, instead of the pool's.

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
        passive: MaxFails | None = None,
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
    def passive(self) -> MaxFails | None:
        """Its own rule for failures; None when it goes by the pool's."""
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
class Ewma:
    """The exponentially weighted moving average of a series: each sample takes the share `alpha` (above 0, up to 1).

    The first sample sets it: value += alpha * (sample - value). It does not matter when samples come; see
    TimeWeightedEwma where it does. Raises ConfigError for a share or sample out of range (samples: up to 1e300 in
    size).

    Source: Roberts, "Control chart tests based on geometric moving averages", Technometrics 1959.

    >>> from aibalance.health import Ewma
    >>> average = Ewma(alpha=0.25)
    >>> average.update(8.0), average.update(0.0)
    (8.0, 6.0)
    """

    def __new__(cls, *, alpha: float) -> Self: ...
    def update(self, value: float, /) -> float:
        """Takes a sample in and gives the average after it."""
    @property
    def value(self) -> float | None:
        """The average; None before the first sample."""
    @property
    def alpha(self) -> float:
        """The share that a sample takes."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...
    def __getstate__(self) -> tuple[float | None]: ...
    def __setstate__(self, state: tuple[float | None], /) -> None: ...

@final
class TimeWeightedEwma:
    """The moving average of samples that come at any instants: after `tau` seconds an old value has 1/e of its weight.

    The first sample sets it, then value = sample * (1 - w) + value * w with w = exp(-(seconds since the sample
    before) / tau). A sample that is not later than the one before it has no time to its name and changes nothing.
    Reading never changes it. Raises ConfigError for a time constant that is not positive and finite, and for a sample
    or instant out of range.

    Source: Finagle's Ema (2024).

    >>> from aibalance.health import TimeWeightedEwma
    >>> average = TimeWeightedEwma(tau=5.0)
    >>> average.update(10.0, now=0.0)
    10.0
    >>> round(average.update(0.0, now=average.half_life), 6)
    5.0
    """

    def __new__(cls, *, tau: float) -> Self: ...
    def update(self, value: float, /, *, now: float) -> float:
        """Takes a sample of the instant `now` (seconds, of any clock) in and gives the average after it."""
    @property
    def value(self) -> float | None:
        """The average; None before the first sample."""
    @property
    def tau(self) -> float:
        """Seconds."""
    @property
    def half_life(self) -> float:
        """Seconds in which an old value loses half of its weight: tau * ln 2."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...
    def __getstate__(self) -> tuple[tuple[float, int] | None]: ...
    def __setstate__(self, state: tuple[tuple[float, int] | None], /) -> None: ...

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
    def effective_weight(self) -> float:
        """The weight that counts now: less than `weight` while the endpoint starts slowly."""
    @property
    def share(self) -> float:
        """The part of all requests that it is due by weight, priority, zone and health while nobody is full: 0 to 1."""
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
    def ejected_until(self) -> float | None:
        """When passive health lets it in again, in seconds of the pool's clock; None when it is in."""
    @property
    def ejections(self) -> int:
        """How often passive health has put it out."""
    @property
    def breaker(self) -> Literal["closed", "open", "half_open"] | None:
        """Where its circuit breaker stands; None without one."""
    @property
    def report(self) -> dict[str, float] | None:
        """What `observe` was told last, while it counts."""

@final
class SlowStart:
    """How an endpoint that has just become usable gets its share: by and by over `window` seconds.

    `ramp` names the rule for the part of its weight that it has t seconds after it was added, or after `set_health`
    said that it is unhealthy no longer:

    - `"envoy"`: (t / window) ** (1 / `aggression`), and at least `min_weight` (defaults 1.0 and 0.1);
    - `"alb"`: a straight line, 30 to 900 s; an endpoint starts at once when nobody else in the pool is warm;
    - `"haproxy"`: sixteenths, (16 t + window) // window of them, by whole seconds;
    - `"work"`: its successful requests over `requests`, and at least `min_weight`; `window` is the longest it may take.

    The endpoints that a pool is made of start at once. Pickers by key (rings, tables) take no part: a ramp would move
    keys to and fro. Pickers follow in a hundred steps, HAProxy's in its own.

    Raises ConfigError, naming the parameter. Sources: Envoy 1.40 (slow start mode), AWS Application Load Balancer
    (slow start duration), HAProxy 2.8 (`slowstart`).

    >>> pool = Pool(["a", "b"], slow_start=SlowStart(60), clock=ManualClock(0.0), seed=1)
    >>> pool.add("c")
    >>> pool.clock.advance(30)
    >>> pool.advance()
    >>> [s.share for s in pool.stats()]
    [0.4, 0.4, 0.2]
    """

    def __new__(
        cls,
        window: float,
        /,
        *,
        ramp: Literal["envoy", "alb", "haproxy", "work"] = "envoy",
        aggression: float | None = None,
        min_weight: float | None = None,
        requests: int | None = None,
    ) -> Self: ...
    @property
    def window(self) -> float:
        """Seconds."""
    @property
    def ramp(self) -> Literal["envoy", "alb", "haproxy", "work"]:
        """The rule."""
    @property
    def aggression(self) -> float | None:
        """How steep the beginning is, 1 for a straight line; None where the rule has none."""
    @property
    def min_weight(self) -> float | None:
        """The least part of the weight; None where the rule has none."""
    @property
    def requests(self) -> int | None:
        """How many successful requests make an endpoint warm; None where the rule has none."""
    def factor(self, elapsed: float, /, *, done: int = 0) -> float:
        """The part of its weight after so many seconds and successful requests, as the rule has it.

        >>> SlowStart(60, aggression=2.0).factor(15)
        0.5
        """
    def requests_while_warming(self, others: int, /) -> float:
        """How many requests an endpoint gets over the window beside `others` warm ones of its weight, at one request a
        second for all: the integral of its share.

        >>> round(SlowStart(10, min_weight=0).requests_while_warming(9), 4)
        0.5176
        """
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[float], dict[str, Any]]: ...

@final
class Pool:
    """A set of endpoints with their counters. Pickers on it share both.

    `endpoints` are Endpoint objects or addresses. When fewer than `panic_threshold` (a share; 0 for never) of the
    endpoints are healthy, health is ignored and all share the load (`on_panic="all"`) or nothing is picked (`"fail"`).
    While backups can carry the load there is no panic.

    `failover` says how requests move on from the lowest `priority`. `"overflow"` (Envoy): the healthy endpoints of a
    priority carry up to `overprovisioning_factor` times their share of the load, so that 1.4 sends the first request
    away when 71 % are left; what they cannot carry goes to the next priority, then to degraded endpoints, in order.
    `"backup"` (nginx): a priority is used when nobody of those before can be had. `"first_backup"` (HAProxy): the same,
    and of the backups only the first that can be had. Backups come after all priorities in each of them. Where a tier
    shares requests, a keyed picker draws the tier by the key's hash.

    `zone_weights` maps zones to their parts of the load; a zone that has lost endpoints loses weight with them once
    `overprovisioning_factor` is used up (Envoy's locality weights; zones not named get nothing). With `local_zone` the
    caller's own zone keeps what its share of the healthy weight can carry, and only the rest goes to zones that have
    more than their callers need; `zone_weights` then says how many callers are in each zone (default: equally many).
    Keyed pickers know `zone_weights` but no `local_zone`: a key belongs to one endpoint, whoever asks.

    `passive` puts endpoints out for how their requests end: an OutlierDetection or a MaxFails, which see; so does
    `circuit_breaker`, a CircuitBreaker of each endpoint. Who is out counts as unhealthy. With either of them a
    `retry_after` that a lease was released with (as back-pressure) is heeded: its endpoint gets no request for so long,
    at most 300 s, while others can be had.

    `slow_start` gives endpoints that have just become usable their share by and by. `latency` says how latencies are
    averaged, and turns measuring on; a PeakEwma picker turns it on too. A detached lease that nobody gives back is
    taken back after `lease_timeout` seconds. `clock` answers whenever no `now=` is given. The same `seed` gives the
    same picks; None draws anew in each process, also after a fork.

    `shared`, a name or a SharedMemory, gives the pool to all processes of this user on this host that ask for the name:
    they see the same requests in flight, latencies, health and changes, and round robin has one rotation. The first one
    makes the pool; the others must give the same options, and find the endpoints that it has by then. What a process
    holds that ends in whatever way is taken back within a second by any other that works. Not to be had in a shared
    pool: `Endpoint(data=)`, and PrefixAware.

    Source of panic, overflow and locality weights: Envoy 1.40, replayed. Draining endpoints and those of weight 0 count
    on neither side.

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
        passive: OutlierDetection | MaxFails | None = None,
        slow_start: SlowStart | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        panic_threshold: float = 0.5,
        on_panic: Literal["all", "fail"] = "all",
        failover: Literal["overflow", "backup", "first_backup"] = "overflow",
        overprovisioning_factor: float = 1.4,
        local_zone: str | None = None,
        zone_weights: Mapping[str, float] | None = None,
        latency: Latency | None = None,
        lease_timeout: float | None = None,
        clock: _Clock | None = None,
        seed: int | None = None,
        shared: str | SharedMemory | None = None,
    ) -> Self: ...
    @staticmethod
    def open(name: str, /, *, clock: _Clock | None = None, seed: int | None = None) -> Pool:
        """Opens a shared pool that some process has, with the endpoints and options that it has there.

        Raises ConfigError, whose text says why: nobody has one of this name, it is another user's, another version's or
        damaged, or as many processes use it as may.
        """
    @staticmethod
    def unlink(name: str, /) -> None:
        """Gives up the memory of a shared pool's name. Those who have the pool go on with it; who comes later finds
        nothing there. Raises ConfigError when there is none.
        """
    @property
    def shared(self) -> str | None:
        """The name under which other processes find this pool; None when it is this process's alone."""
    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints, in order: picks by index refer to it."""
    @property
    def clock(self) -> _Clock:
        """What answers when no `now=` is given."""
    def update(self, endpoints: _Endpoints, /, *, now: float | None = None) -> None:
        """Replaces the endpoints in one step. Those whose id stays keep counters, health and drain; new ones start
        slowly where the pool has a `slow_start`.

        Raises ConfigError for an id that occurs twice; then nothing has changed.
        """
    def add(self, endpoint: Endpoint | str, /, *, now: float | None = None) -> None:
        """Adds one endpoint at the end. Raises ConfigError when its id is in the pool."""
    def remove(self, id: str, /) -> None:
        """Takes one endpoint out; leases on it go on. Raises ConfigError for an unknown id."""
    def set_weight(self, id: str, weight: float, /) -> None:
        """Changes a weight. Hash tables that take long to build follow at the next `advance()`."""
    def set_health(self, id: str, health: _Health, /, *, now: float | None = None) -> None:
        """Says how an endpoint is. A degraded one gets what the healthy ones cannot carry (see `failover`)."""
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
        feeds the estimate. A load is a probe for Prequal; `qps`, `utilization` and `eps` are what
        ClientSideWeightedRoundRobin goes by. The others are shown by `stats()`.

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
    def rebalance(self, max_moves: int, /, *, min_age: float = 0.0, now: float | None = None) -> list[LeaseMove]:
        """Names up to `max_moves` leases to close, so that new endpoints get their share of long-lived ones.

        Connections, streams and sessions that last do not come to a new endpoint by themselves. Close what is named, as
        gently as the protocol allows (GOAWAY, `Connection: close`), and let the clients come again: they are picked for
        anew. This itself closes and releases nothing.

        A lease is taken from the endpoint that is the furthest above its share of the requests in flight
        (`stats().share`) and meant for the one that is the furthest below and has room, as long as that brings both
        nearer to their shares; of one endpoint the oldest goes first, and none younger than `min_age` seconds. Only
        leases with an id are known: detached ones, and those whose `id` was asked for. Endpoints without a share,
        such as draining ones and those of weight 0, keep what they have. Costs O(leases log leases). Raises
        ConfigError for a number that cannot be.

        >>> pool = Pool(["a", "b"])
        >>> picker = RoundRobin(pool)
        >>> ids = [picker.acquire().detach() for _ in range(6)]
        >>> pool.add("c")
        >>> [move.target.id for move in pool.rebalance(10)]
        ['c', 'c']
        """
    def _rebalance(
        self, max_moves: int, /, *, min_age: float = 0.0, now: float | None = None
    ) -> list[tuple[int, Endpoint, Endpoint]]: ...
    def _key(self) -> int: ...
    def _measure(self) -> None: ...
    def _waiting(self, more: bool) -> None: ...
    def _room(self, now: float | None = None) -> tuple[int | None, float | None]: ...
    def __len__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __getstate__(self) -> tuple[tuple[Endpoint, ...], list[tuple[str, bool]]]: ...
    def __setstate__(self, state: tuple[tuple[Endpoint, ...], list[tuple[str, bool]]], /) -> None: ...

@final
class TokenBucket:
    """A limit on a rate that lets bursts through: the token bucket, which decides as the generic cell rate algorithm.

    The bucket starts full, holds `burst` tokens and gains `rate` tokens a second. It counts in whole units of 10^-21
    tokens and whole nanoseconds, so that nothing is lost to rounding. Time that goes back adds nothing.

    `rate`: tokens a second, 0 to 1e12, to 10^-12. `burst`: tokens, above 0, to 1e12.
    `clock` (None): answers when `now` is not given; None is the monotonic clock.
    Raises ConfigError. Safe to use from several threads. Source: ITU-T I.371, annex A (GCRA).

    >>> bucket = TokenBucket(10, 2)
    >>> [bucket.take(now=t) for t in (0.0, 0.0, 0.0, 0.1)]
    [True, True, False, True]
    >>> bucket.wait(2, now=0.1)
    0.2
    """

    def __new__(cls, rate: float, burst: float, *, clock: SystemClock | ManualClock | None = None) -> Self: ...
    def take(self, tokens: float = 1.0, /, *, now: float | None = None) -> bool:
        """Takes so many tokens if all of them are there, at `now` (seconds; None asks the clock)."""
    def tokens(self, *, now: float | None = None) -> float:
        """How many there are."""
    def wait(self, tokens: float = 1.0, /, *, now: float | None = None) -> float:
        """Seconds until so many are there; infinite when they never are."""
    @property
    def rate(self) -> float:
        """Tokens a second."""
    @property
    def burst(self) -> float:
        """The most tokens."""
    def __getnewargs_ex__(self) -> tuple[tuple[float, float], dict[str, Any]]: ...
    def __getstate__(self) -> tuple[int, int]: ...
    def __setstate__(self, state: tuple[int, int], /) -> None: ...

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
    def deposit(self, *, now: float | None = None) -> None:
        """A first attempt: it earns. `now` in seconds, of one clock throughout; the system's when not given.

        `picker.attempts` does this by itself, by its pool's clock.
        """
    def withdraw(self, *, now: float | None = None) -> bool:
        """A retry: True when there may be one, and then it is paid for."""
    def balance(self, *, now: float | None = None) -> float:
        """How many retries could be paid for."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class ActiveRetryBudget:
    """A retry budget by what is in flight: retries may be a share of all requests in flight, and a few in any case.

    Parameters
    ----------
    ratio : retries in flight over requests in flight (retries among them, over all pools of the picker), 0 to 1.
    min_concurrency : so many retries may be in flight however few requests there are.
    max_attempts : the most attempts of one request.

    With `picker.attempts`, a retry is in flight from when its lease is given out until the next attempt is asked for or
    the iterator is closed or dropped, as at the end of a loop.

    Source: Envoy's cluster `retry_budget` (1.40): `budget_percent` 20, `min_retry_concurrency` 3. Raises ConfigError
    for a parameter that cannot be.

    >>> budget = ActiveRetryBudget(ratio=0.5, min_concurrency=1)
    >>> budget.try_acquire(2), budget.try_acquire(3), budget.try_acquire(4)
    (True, False, True)
    >>> budget.retries
    2
    """

    def __new__(cls, *, ratio: float = 0.2, min_concurrency: int = 3, max_attempts: int = 3) -> Self: ...
    @property
    def ratio(self) -> float:
        """Retries in flight over requests in flight."""
    @property
    def min_concurrency(self) -> int:
        """Retries that may be in flight in any case."""
    @property
    def max_attempts(self) -> int:
        """The most attempts of one request."""
    @property
    def retries(self) -> int:
        """Retries in flight."""
    def try_acquire(self, inflight: int, /) -> bool:
        """Begins a retry while so many requests are in flight; False when there are enough."""
    def release(self) -> None:
        """Ends a retry."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class AdaptiveConcurrency:
    """A limit of requests in flight that follows from how long they take: Envoy's gradient controller.

    Parameters
    ----------
    update_interval : seconds of samples for one step of the limit (default 0.1; Envoy has none).
    percentile : the quantile that stands for a window's samples, 0 to 1 (default 0.5).
    max_limit, min_limit : the bounds of the limit (defaults 1000 and 3).
    min_rtt_interval : seconds from one measurement of the minimum RTT to the next (default 60; Envoy has none).
    min_rtt_requests : requests of one measurement (default 50).
    jitter : by which part of the interval a measurement is put off at most, at random, 0 to 1 (default 0.15).
    buffer : by which part a request may take longer than the minimum before the limit shrinks (default 0.25).
    clock, seed : as for a Pool.

    While the minimum RTT is measured the limit is `min_limit`, also at first. Otherwise, at the end of each window
    that has samples, with gradient = minimum * (1 + buffer) / sample, from 0.5 to 2, the limit becomes limit *
    gradient, plus the root of that, cut. After five windows at `min_limit` the minimum is measured anew. Quantiles
    are of microseconds in bins of two decimal digits, as Envoy's are.

    One for a pool, an endpoint or a whole service, as you like: either ask it (`try_acquire`, `release`, `cancel`), or
    feed it (`observe`) and put `limit` where it belongs, such as into `Endpoint(max_inflight=)` by `pool.update`. Safe
    to share between threads. Pickles with its parameters; what it has measured stays behind.

    Source: Envoy's adaptive concurrency filter (gradient controller, 1.40). Raises ConfigError for a parameter that
    cannot be.

    >>> clock = ManualClock(1.0)
    >>> limit = AdaptiveConcurrency(min_rtt_requests=1, clock=clock)
    >>> limit.try_acquire()
    True
    >>> clock.advance(0.01)
    >>> limit.release(latency=0.01)
    >>> limit.limit, round(limit.min_rtt, 4)
    (3, 0.0105)
    """

    def __new__(
        cls,
        *,
        update_interval: float = 0.1,
        percentile: float = 0.5,
        max_limit: int = 1000,
        min_limit: int = 3,
        min_rtt_interval: float = 60.0,
        min_rtt_requests: int = 50,
        jitter: float = 0.15,
        buffer: float = 0.25,
        clock: SystemClock | ManualClock | None = None,
        seed: int | None = None,
    ) -> Self: ...
    def try_acquire(self, *, now: float | None = None) -> bool:
        """Counts one more request in flight, if there is room; else False. `now` in seconds."""
    def release(self, *, latency: float, now: float | None = None) -> None:
        """The request has ended after so many seconds. One that began before a measurement is not a sample of it."""
    def cancel(self) -> None:
        """The request has ended and says nothing about latency."""
    def observe(self, latency: float, /, *, now: float | None = None) -> None:
        """A sample of a request that is not counted here: it took so many seconds until `now`."""
    def advance(self, *, now: float | None = None) -> None:
        """Does what time alone brings. `try_acquire`, `release` and `observe` do so too."""
    @property
    def limit(self) -> int:
        """How many requests may be in flight, as of the last call that looked at the clock."""
    @property
    def inflight(self) -> int:
        """How many are."""
    @property
    def min_rtt(self) -> float | None:
        """The minimum RTT in seconds; None before it was measured."""
    @property
    def sample_rtt(self) -> float | None:
        """The quantile of the last window in seconds; None before the first."""
    @property
    def gradient(self) -> float:
        """By what the limit was multiplied last, 0.5 to 2."""
    @property
    def measuring(self) -> bool:
        """Whether the minimum RTT is being measured."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

def dynamic_limit(*, least: int, most: int, full: int, inflight: int, warming: float = 1.0) -> int:
    """How many requests a server may have at once, when that grows with the load of all: HAProxy's dynamic maxconn.

    With `inflight` requests on the whole pool it is most * inflight / full, cut, and at least `least` (minconn); from
    `full` (fullconn) on, or where `least` is `most`, it is `most` (maxconn). A server that warms up gets `warming` of
    it (0 to 1, in whole hundredths), at least 1. Put it into `Endpoint(max_inflight=)` by `pool.update`.

    Source: HAProxy's `minconn`, `maxconn` and `fullconn` (2.8). Raises ConfigError for a number that cannot be.

    >>> [dynamic_limit(least=10, most=100, full=1000, inflight=n) for n in (0, 500, 2000)]
    [10, 50, 100]
    """

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
    def attempts(self, key: _Key | None = None, /, *, budget: int | RetryBudget | ActiveRetryBudget) -> Iterator[Lease]:
        """The attempts of one request, each on another endpoint: at most `budget`, or what a retry budget allows."""
    @property
    def queue(self) -> WaitQueue:
        """Those who wait in `acquire_when_free`: how many (`len`), and for how long (`eta`).

        From the first time that it is asked for, leases of the pool measure how long they last.
        """
    def acquire_when_free(
        self,
        key: _Key | None = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float = 1.0,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
    ) -> Coroutine[Any, Any, Lease]:
        """A lease as soon as somebody is free, to be awaited: the picker's `queue`, see `WaitQueue`.

        `timeout` in seconds, None for no end; higher `priority` first, then first come, first served; the rest is as
        for `acquire`. Raises OverloadedError when the queue is full or the time is over (`retry_after` says when to
        come again, where that is known), NoHealthyEndpointError or NoEndpointsError when the time is over and there
        was nobody to wait for.

        >>> import asyncio
        >>> picker = LeastRequest([Endpoint("gpu", max_inflight=1)])
        >>> async def main():
        ...     async with await picker.acquire_when_free(timeout=10, priority=1) as lease:
        ...         return lease.endpoint.id
        >>> asyncio.run(main())
        'gpu'
        """
    def explain(
        self,
        key: _Key | None = None,
        /,
        *,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> list[Explanation]:
        """One record a candidate, the best first: who would be picked for this key, and why the others not.

        It decides as the next pick will, on a copy of the picker's turns and chance, so that nothing moves. A hashing
        picker without a key explains the key that it would draw. Costs as much as a rebuild and a sort.

        >>> pool = Pool(["a", "b", Endpoint("spare", backup=True)])
        >>> pool.set_health("b", "unhealthy")
        >>> [(one.endpoint.id, one.reason, one.rank) for one in RoundRobin(pool).explain()]
        [('a', 'chosen', 0), ('spare', 'backup', 1), ('b', 'unhealthy', None)]
        """
    def _rehearse(
        self,
        key: _Key | None,
        exclude: Iterable[Endpoint | str] | None,
        subset: Iterable[Endpoint | str] | None,
        now: float | None,
        /,
    ) -> list[Endpoint]: ...
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
        A handle of a handle is one more handle of the same picker. Pickled, it is the picker. Without a GIL the
        endpoints that it gives are equal to the pool's but other objects: compare them with `==`.

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
    `full_scan=True` compares all. `replace=True` draws with replacement. `ties` says who wins among equals: "first"
    and "last" go by the pool's order, "rotate" needs a full scan, "last_drawn" needs draws (nginx's `random two`).

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
        ties: Literal["random", "first", "last", "rotate", "heaviest", "last_drawn"] = "random",
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
    pool were without them.

    `ring="haproxy"` is HAProxy's `balance random` (2.6 and 2.8): `choices` draws (1 to 65535, default 2) are looked up
    on its consistent ring, and the one with the fewest requests in flight for its weight is taken, the later of
    equals. So chances are lengths of arcs, which few points leave uneven: three equal servers of weight 1 get 35, 30
    and 35 %. `hash_key` is the server's id. Where a full server would be chosen HAProxy queues; here the draw goes on
    to the next on the ring.

    Source: Walker's alias method in Vose's construction ("A linear algorithm for generating random numbers with a given
    distribution", 1991). Raises ConfigError for a value that cannot be, and for `choices` without a ring.

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
        ring: Literal["haproxy"] | None = None,
        choices: int | None = None,
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
class LeastTime(_PickerMethods):
    """The least answer time x (requests in flight + 1) / weight, all endpoints compared.

    Times are rounded up to the next 20 ms, so that the load does not swing between endpoints that are nearly alike;
    from 5 s on all are equal. Ties go by smooth weighted round robin among the tied, as in LeastConnections. The time
    is the pool's estimate (see Latency), made of leases' first tokens (nginx's `header`) where `first_token()` is
    called, and of whole answers (`last_byte`) where it is not. An endpoint of which nothing is known counts as the
    pool's mean, an idle one goes towards the mean and not to zero, and a failure counts for at least `failure_penalty`.

    It counts requests, not their cost. `seed` and `clock` are for the pool that is made when endpoints are given.

    Source: nginx's `least_time` as opened in 1.31.0 (steps, ceiling, product, ties). Before that it was in NGINX Plus
    only, whose source is closed. Different here: nginx gives each success 5 % of its average, starts at 0 and halves
    the average of an idle server; its `inflight`, the age of running requests, is not there.

    >>> pool = Pool(["fast", "slow"], clock=ManualClock(0.0))
    >>> pool.observe("fast", latency=0.1)
    >>> pool.observe("slow", latency=0.3)
    >>> picker = LeastTime(pool)
    >>> leases = [picker.acquire() for _ in range(4)]
    >>> [lease.endpoint.id for lease in leases]
    ['fast', 'fast', 'slow', 'fast']
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class Prequal(_PickerMethods):
    """Goes by probes of requests in flight and latency: the fastest of those that are not busy, else the least busy.

    You probe, and tell it by `pool.observe(id, inflight=..., latency=...)`; `probe_targets()` says whom to probe for a
    request. Without `latency` the pool's estimate is used. Of the probes held, an endpoint is hot when it has more
    requests in flight than their `q_rif` quantile (the lower of two neighbours; 0 goes by requests alone, 1 by latency
    alone). Of the cold ones the fastest is taken; when all are hot, the one with the fewest requests.

    - `pool_size` (2 to 64): probes held, one an endpoint at most; never more than half of the endpoints (but two). When
      it is full the oldest goes.
    - `probe_rate` (above 0, up to 64): probes a request, on the average; fractions are drawn.
    - `remove_rate` (0 to 64): probes that a request removes, the oldest and the worst in turn.
    - `delta` (above 0, up to 64): the paper's net growth. A probe is used max(1, (1 + delta) / ((1 - m/n) * probe_rate
      - remove_rate)) times, m of n being held, and 16 times at most; each use counts as one more in flight there.
    - `max_age` (seconds): an older probe is dropped, and does not count.

    With fewer than two probes that can be used, two endpoints are drawn by weight and the less loaded one is taken.
    Requests in flight and latency count relative to the weight. An endpoint whose requests failed between its probes
    is as much slower as the pool's `failure_penalty` times the share that failed of late (half the newest, fading with
    `decay`), and from half on it is taken only when no other probe is left.

    Source: Wydrowski, Kleinberg, Rumble, Archer, "Load is not what you should balance: introducing Prequal", NSDI 2024.
    The bound on uses and on the pool in small fleets, one probe an endpoint, the fallback, weights and the rule for
    failures, of which the paper gives no details, are ours.

    Raises ConfigError for a number out of range.

    >>> clock = ManualClock(0.0)
    >>> pool = Pool(["a", "b", "c", "d"], clock=clock, seed=1)
    >>> picker = Prequal(pool)
    >>> pool.observe("b", inflight=1, latency=0.2)
    >>> pool.observe("c", inflight=1, latency=0.1)
    >>> picker.pick().id
    'c'
    >>> len(picker.probe_targets())
    3
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        pool_size: int = 16,
        probe_rate: float = 3.0,
        remove_rate: float = 1.0,
        q_rif: float = 0.84,
        delta: float = 1.0,
        max_age: float = 1.0,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...
    def probe_targets(self) -> list[Endpoint]:
        """Whom to probe for one request: `probe_rate` different endpoints on the average, each as likely."""

@final
class PrefixMatch:
    """How many blocks of a prompt an endpoint has, without a gap from the first one on; each counts in its best tier.

    >>> index = PrefixIndex(block_size=16)
    >>> index.stored("a", index.blocks(list(range(48))), tier="host")
    >>> index.matches(list(range(40)))
    {'a': PrefixMatch(gpu=0, host=2, disk=0, active=0)}
    """

    def __new__(cls, *, gpu: int = 0, host: int = 0, disk: int = 0, active: int = 0) -> Self: ...
    @property
    def gpu(self) -> int:
        """In the memory of the accelerator."""
    @property
    def host(self) -> int:
        """In the memory of the host."""
    @property
    def disk(self) -> int:
        """On disk, or in a store as slow."""
    @property
    def active(self) -> int:
        """In use by requests in flight there."""
    @property
    def blocks(self) -> int:
        """All that are cached: gpu, host and disk."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]: ...

@final
class PrefixIndex:
    """Which endpoint has which prefix in its cache.

    A prompt is cut into blocks of `block_size` tokens, and each block's hash covers all before it. A prompt may be:

    - a one-dimensional numpy array or buffer of uint64: block hashes of your own (any numbers, such as an engine's);
    - a list or tuple of ints, or an array or buffer of other integers: token ids, 0 to 2**32-1. Each whole block is
      hashed by XXH3-64 of its ids as little-endian 32-bit words, with the hash of the block before as the seed;
    - str (as UTF-8) or bytes: a block is `4 * block_size` bytes, which is taken for `block_size` tokens;
    - an int or `Hashed`: a prompt of one block, such as the hash of a session.

    What endpoints hold is told in two ways, alone or together. Engine events are plain calls: `stored`, `removed`,
    `cleared`. Picks of a `PrefixAware` on this index (and `predict`) are believed for `ttl` seconds: long (120, or None
    for as long as there is room) where there are no events; a few seconds beside events, so that siblings of one
    prompt meet before the first event; 0 for events only. An event that stores a block ends the guess about it.

    An endpoint has room for `capacity` blocks that events told of and as many believed ones; the least recently used go
    first, and of a prompt its end. That bounds the memory: about 200 bytes a block and endpoint. A look-up goes along
    the blocks of the prompt, not over the endpoints, and ends where nobody has the next.

    `now` is in seconds on any clock, the pool's where a picker uses the index; without it the latest instant that the
    index heard of counts. Time that goes back is that instant too. An endpoint is named by itself or its id. One that
    leaves the pool of the last picker on the index is forgotten.

    Sources: NVIDIA Dynamo's KV router 1.6 (tiers, events, guesses), Gateway API Inference Extension (hash chain, 31,250
    blocks an endpoint), SGLang's gateway.

    Raises ConfigError for a size, capacity or time out of range, and for a prompt that is none of these.

    >>> index = PrefixIndex(block_size=4)
    >>> index.stored("a", [1, 2, 3, 4, 5, 6, 7, 8])
    >>> index.predict("b", [1, 2, 3, 4, 9, 9], now=0.0)
    >>> {id: match.blocks for id, match in index.matches([1, 2, 3, 4, 5, 6, 7, 8], now=1.0).items()}
    {'a': 2, 'b': 1}
    >>> {id: match.blocks for id, match in index.matches([1, 2, 3, 4, 5, 6, 7, 8], now=200.0).items()}
    {'a': 2}
    """

    def __new__(cls, *, block_size: int = 16, capacity: int = 31250, ttl: float | None = 120.0) -> Self: ...
    @property
    def block_size(self) -> int:
        """Tokens of a block."""
    @property
    def capacity(self) -> int:
        """Room for how many blocks an endpoint has, where `set_capacity` has not said otherwise."""
    @property
    def ttl(self) -> float | None:
        """For how many seconds picks are believed; None for as long as there is room."""
    @property
    def endpoints(self) -> tuple[str, ...]:
        """The ids of the endpoints that it knows, sorted."""
    def __len__(self) -> int:
        """How many different blocks are known: held by somebody, or in use."""
    def blocks(self, prompt: _Prompt, /) -> npt.NDArray[np.uint64]:
        """Shape (n,): the hashes of a prompt's whole blocks."""
    def matches(self, prompt: _Prompt, /, *, now: float | None = None) -> dict[str, PrefixMatch]:
        """What each endpoint has of a prompt, by id, without those who have nothing."""
    def stored(
        self,
        endpoint: Endpoint | str,
        blocks: _Prompt,
        /,
        *,
        tier: Literal["gpu", "host", "disk"] = "gpu",
        now: float | None = None,
    ) -> None:
        """An event: the endpoint has stored these blocks in a tier, beside the tiers that it has them in already."""
    def removed(
        self,
        endpoint: Endpoint | str,
        blocks: _Prompt,
        /,
        *,
        tier: Literal["gpu", "host", "disk"] | None = None,
        now: float | None = None,
    ) -> None:
        """An event: the endpoint has these blocks no longer in a tier, or in none. Unknown blocks are no matter."""
    def cleared(
        self,
        endpoint: Endpoint | str,
        /,
        *,
        tier: Literal["gpu", "host", "disk"] | None = None,
        now: float | None = None,
    ) -> None:
        """An event: the endpoint has emptied a tier, or all."""
    def predict(self, endpoint: Endpoint | str, prompt: _Prompt, /, *, now: float | None = None) -> None:
        """Believes for `ttl` seconds that the endpoint has the prompt: what a pick of `PrefixAware` does by itself."""
    def forget(self, endpoint: Endpoint | str, /) -> None:
        """Forgets what an endpoint holds, and its own capacity. Requests in flight stay counted."""
    def set_capacity(self, endpoint: Endpoint | str, capacity: int, /) -> None:
        """Room for how many blocks this endpoint has: what its engine says. Reported cache use is a share of it."""
    def held(self, endpoint: Endpoint | str, /) -> tuple[int, int]:
        """How many blocks the endpoint has by what events told, and how many are believed besides."""
    def snapshot(self, *, now: float | None = None) -> dict[str, Any]:
        """All that is known of what endpoints hold, to warm another router: a dict of numpy arrays.

        `"endpoints"` has a dict an id: `capacity`; `told` (uint64) with `tiers` (uint8: 1 gpu, 2 host, 4 disk, added);
        `guesses` (uint64) with `left` (float64: for how many seconds more, inf for ever). Shape (n,) each, the least
        recently used first. It pickles; what is in flight is not in it.
        """
    def restore(self, snapshot: dict[str, Any], /, *, now: float | None = None) -> None:
        """Takes a snapshot in, beside what is known. Raises ConfigError, and takes nothing in, when it does not fit.

        >>> old, new = PrefixIndex(), PrefixIndex()
        >>> old.stored("a", list(range(32)))
        >>> new.restore(old.snapshot())
        >>> new.matches(list(range(32)))["a"].blocks
        2
        """
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...
    def __getstate__(self) -> dict[str, Any]: ...
    def __setstate__(self, state: dict[str, Any], /) -> None: ...

@final
class PrefixAware(_PickerMethods):
    """For language models: goes by what of the prompt is cached, and by tokens and blocks in flight, in one score.

    The key is the prompt: see `PrefixIndex` for what it may be. `cost` is the number of its tokens where the prompt
    does not say (block hashes leave the end out); `stats.load` counts them until the lease ends. A lease charges the
    tokens that are not cached as prefill until `lease.first_token()`, and the blocks in use until it ends;
    `lease.add(n)` says that n tokens were generated. Blocks that several requests on one endpoint share count once.

    Of a candidate: T tokens and L blocks of the prompt, B tokens a block; C blocks cached, weighted by `credits` (a
    block in the memory of gpu, host, disk); P tokens to prefill, D blocks in use with this request, R requests; weight
    w. The least cost wins, ties are drawn:

    - `score="ttft"` (default), ours: with U = max(0, T - C * B) tokens to compute anew,
      (P + U + memory_scale * M * k / (1 - k)) / w + (f - 1) * U / mean w + f * crowd_scale * M * R / (mean R + 1) / w.
      M is the mean prompt so far, k = D / capacity in the index (1 - k being 0.001 at least). P + U is what must be
      computed before the first token, memory costs the more the less is left (`memory_scale`, default 1), and the rest
      is what the request does to others: f - 1 of them are delayed by what it has computed, and those in flight by the
      slot that it takes of a batch (`crowd_scale`, default 1: an endpoint with the mean of requests and one more costs
      f mean prompts). f is 1 / (1 - r) with r the share of the strength where somebody waits for a first token (one
      idle mean endpoint added), or `fresh_scale`; below 1 that scales U itself.
    - `"dynamo"`: (prefill_scale * max(0, (P + T) / B - C * decay) + D + request_weight * R) / w, with decay =
      1 / (1 + credit_decay * (P - least P) / B / L). Defaults 1, 0, 0; a `prefill_scale` of 8 to 16 finds more cached
      where prefill is what takes time.
    - `"lmetric"`: max(0, T - C * B) * (R + 1) / w; ties by (R + 1) / w.
    - `"loadaware"`: beta * (R - mean R) / max(1, mean R) - min(1, C * B / T), R + 1 being divided by w / mean w.
    - `"cache_aware"`: when the loads differ (largest - least > balance_abs and largest > balance_rel * least), or
      nobody has more than `match_threshold` of the prompt: (R + 1) / w. Else T - C * B, ties by (R + 1) / w. Defaults
      32, 1.1, 0.5.

    Weights, which may be of unequal accelerators and shrink while an endpoint starts slowly, divide the cost; those of
    equal endpoints change nothing. That, the fair ties and the bound are ours; with `bounded_load=None` and equal
    weights the scores but "ttft" are the published ones.

    - `temperature`: 0 takes the least cost; else chances are exp(-(cost - least) / ((most - least) * temperature)).
    - `bounded_load`: an endpoint with more than this many times its share of the requests in flight (rounded up, by
      weight, this one included) is left out, unless all are. None for no bound; by default 1.25 for "lmetric" and
      "cache_aware", which else send all of a hot prefix to one endpoint while there is little load, and None.
    - `max_report_age` (seconds, None for any): `pool.observe(id, inflight=, queue=, kv_cache=)` replaces what was sent
      before it: R by inflight + queue, P by queue times the mean prompt, D by kv_cache times the endpoint's capacity in
      the index; what was sent and ended since is added and taken off. What is older is ignored (`stale="own"`), or the
      endpoint is left out unless all are (`stale="saturated"`).

    Parameters of another score are refused. `index` may be shared by pickers; without one it is `PrefixIndex()`.

    Sources: NVIDIA Dynamo 1.6 (`dynamo`, temperature); LMetric, in SGLang's gateway; vLLM production-stack's loadaware;
    SGLang's gateway (`cache_aware`, its defaults).

    >>> picker = PrefixAware(["a", "b"], seed=1)
    >>> lease = picker.acquire(list(range(1000)))
    >>> lease.first_token()
    >>> lease.release()
    >>> picker.pick(list(range(900))) == lease.endpoint
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        index: PrefixIndex | None = None,
        score: Literal["ttft", "dynamo", "lmetric", "loadaware", "cache_aware"] = "ttft",
        credits: tuple[float, float, float] = (1.0, 0.75, 0.25),
        temperature: float = 0.0,
        bounded_load: float | None = ...,
        max_report_age: float | None = 10.0,
        stale: Literal["own", "saturated"] = "own",
        fresh_scale: float | None = None,
        memory_scale: float | None = None,
        crowd_scale: float | None = None,
        prefill_scale: float | None = None,
        credit_decay: float | None = None,
        request_weight: float | None = None,
        beta: float | None = None,
        match_threshold: float | None = None,
        balance_abs: float | None = None,
        balance_rel: float | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...
    @property
    def index(self) -> PrefixIndex:
        """The index that it goes by and that its picks are told to."""
    def pick(self, key: _Prompt | None = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint for a prompt, and counts nothing."""
    def try_pick(self, key: _Prompt | None = None, /, *, now: float | None = None) -> Endpoint | None:
        """As `pick`; None when nothing can be picked."""
    def acquire(
        self,
        key: _Prompt | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses an endpoint for a prompt, charges its tokens there, and takes a lease on it.

        `cost` is the number of tokens of the prompt, from 0 to 8e12; without it as many as the prompt has, 1 without a
        prompt. The rest is as for every picker.
        """
    def try_acquire(
        self,
        key: _Prompt | None = None,
        /,
        *,
        cost: float | None = None,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
    def ranked(
        self,
        key: _Prompt | None = None,
        /,
        *,
        k: int,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> list[Endpoint]:
        """Up to `k` different endpoints, in the order in which one request would try them."""
    @overload
    def pick_many(self, n_or_keys: int, /, *, hashed: bool = False) -> Picks: ...
    @overload
    def pick_many(self, n_or_keys: Sequence[_Prompt | None] | _Array, /, *, hashed: bool = False) -> Picks:
        """Many picks at once: a number of them, or one for each prompt. `hashed` must be False."""
    def attempts(
        self, key: _Prompt | None = None, /, *, budget: int | RetryBudget | ActiveRetryBudget
    ) -> Iterator[Lease]:
        """The attempts of one request, each on another endpoint: at most `budget`, or what a retry budget allows."""
    def acquire_when_free(
        self,
        key: _Prompt | None = None,
        /,
        *,
        timeout: float | None,
        priority: int = 0,
        cost: float | None = None,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
    ) -> Coroutine[Any, Any, Lease]:
        """A lease as soon as somebody is free, as for every picker; `cost` is as for `acquire`."""
    def explain(  # type: ignore[override]
        self,
        key: _Prompt | None = None,
        /,
        *,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> list[PrefixExplanation]:
        """One record a candidate, the best first, with the parts of its score: see `PrefixExplanation`."""
    def _parts(self, key: _Prompt | None, now: float | None, /) -> list[tuple[Any, ...]]: ...

@final
class ClientSideWeightedRoundRobin(_PickerMethods):
    """Turns by weights that follow from what endpoints report: qps / (utilization + eps / qps * penalty).

    You tell the reports (ORCA, or your own) by `pool.observe(id, qps=..., utilization=..., eps=...)`; one without
    `qps` or `utilization` above zero changes no weight. Durations are in seconds:

    - `blackout_period`: an endpoint's weight counts when it has reported for so long, since it came or came back; 0
      means at once.
    - `weight_expiration_period`: when its last report is as old as this, its weight does not count, and the blackout
      begins again with the next. Where pickers of one pool differ in this, reports after the shortest begin anew.
    - `weight_update_period`: how often weights are computed, at a pick; at least 0.1.
    - `error_utilization_penalty`: how much a share of errors counts as utilization; 0 ignores errors.

    An endpoint without a weight counts as the mean of those that have one; without any, all are equal. Turns go by
    the static stride: a weight counts for 0.01 to 10 times the mean. The endpoints' own weights, of which gRPC knows
    none, multiply the reported ones. The start is drawn.

    Raises ConfigError for a period or penalty out of range.

    Source: gRPC proposals A58 and A114, in the arithmetic of gRPC C++; defaults are theirs. Envoy's policy of this name
    has the same weights, and the median instead of the mean.

    >>> clock = ManualClock(0.0)
    >>> pool = Pool(["a", "b"], clock=clock, seed=1)
    >>> picker = ClientSideWeightedRoundRobin(pool, blackout_period=0)
    >>> pool.observe("a", qps=300, utilization=0.5)
    >>> pool.observe("b", qps=100, utilization=0.5)
    >>> [e.id for e in picker.pick_many(400)].count("a")
    300
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        blackout_period: float = 10.0,
        weight_expiration_period: float = 180.0,
        weight_update_period: float = 1.0,
        error_utilization_penalty: float = 1.0,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...

@final
class RingHash(_PickerMethods):
    """Consistent hashing on a ring: a key keeps its endpoint while others come and go.

    `ring="envoy"` is Envoy's RING_HASH (1.40). `points` is the number of points of an endpoint of the least weight
    (default 1024: max/mean at most 1.15 with 100 endpoints). `min_size` and `max_size` (defaults 1024 and 8388608 when
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
class MementoHash(_PickerMethods):
    """MementoHash: as JumpHash, and endpoints may come and go in any order without moving a key of the others.

    An endpoint has a bucket for each unit of weight, and for a rest one that takes that part of its keys; the unit is 1
    for largest weights from 1 to 64, else the power of two that brings the largest there (a weight of 100 has 50
    buckets). It keeps its buckets while it is in the pool, by its `hash_key`: one that is unhealthy, draining, full or
    excluded gets its own keys back afterwards. One that leaves, or whose weight is 0, gives them up, and whoever comes
    next takes the bucket that was given up last: all balancers that are to agree must see the same order of changes.
    A weight that changes by whole units moves keys of its endpoint alone; a rest that comes moves its whole bucket's
    keys, those that it does not take to others. When the largest weight becomes more than four times as large, or less
    than a quarter, everything is laid out anew.

    Source: Coluzzi, Brocco, Antonucci and Leidi, "MementoHash: a stateful, minimal memory, best performing consistent
    hash algorithm", 2023, over JumpHash, with the finaliser of SplitMix64 to hash on.

    >>> picker = MementoHash(["a", "b", "c", "d"])
    >>> before = [picker.pick(i).id for i in range(1000)]
    >>> picker.pool.remove("b")
    >>> all(picker.pick(i).id == home for i, home in enumerate(before) if home != "b")
    True
    """

    def __new__(
        cls, endpoints: Pool | _Endpoints, /, *, seed: int | None = None, clock: _Clock | None = None
    ) -> Self: ...

@final
class MultiProbeHash(_PickerMethods):
    """Multi-probe consistent hashing: a ring with one point a unit of weight, and several probes a key.

    Of `probes` (1 to 1024, default 21) hashes of the key, the one that is closest to the next point decides. The
    fullest of many endpoints has about probes / (probes - 1) times the mean (1.05 with 21, where a ring needs
    thousands of points an endpoint), and when one leaves, only its own keys move. A pick costs `probes` look-ups.

    Weights are points: one for each unit, and for a rest one that takes that part of the keys; the unit is 1 for
    largest weights from 1 to 64, else the power of two that brings the largest there.

    Source: Appleton and O'Reilly, "Multi-probe consistent hashing", 2015. Raises ConfigError for a value that cannot
    be.

    >>> picks = MultiProbeHash([str(i) for i in range(100)]).pick_many(list(range(100_000)))
    >>> max((picks.indices == i).sum() for i in range(100)).item() < 1.15 * 1000
    True
    """

    def __new__(
        cls,
        endpoints: Pool | _Endpoints,
        /,
        *,
        probes: int | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
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
def _check_passive(value: object, /) -> None: ...
def _reseed_after_fork() -> None: ...
def _rejoin_after_fork() -> None: ...

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
        metrics: Mapping[str, float | str | Sequence[float | str] | None] = {},
        pods: Any = None,
        instances: Sequence[Mapping[str, Any]] | None = None,
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
    def metrics(self) -> dict[str, Any]: ...
    @property
    def pods(self) -> Any: ...
    @property
    def instances(self) -> Any: ...
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
    def _ranked(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
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

@final
class ProportionalEngine:
    def __new__(cls, config: object) -> Self: ...
    def recommend(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
    def record(self, name: str, value: float | None, at: float) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

@final
class SeasonalModel:
    @staticmethod
    def fit(
        values: Any,
        periods: list[int],
        alpha: float | None,
        beta: float | None,
        gamma: float | None,
        evaluations: int,
    ) -> SeasonalModel: ...
    @staticmethod
    def of_state(state: dict[str, Any]) -> SeasonalModel: ...
    def update(self, value: float | None) -> None: ...
    def forecast(self, horizon: int) -> list[float]: ...
    def deviations(self, horizon: int) -> list[float]: ...
    def peak(self, first: int, last: int, deviations: float) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def beta(self) -> float: ...
    @property
    def gammas(self) -> tuple[float, ...]: ...
    @property
    def level(self) -> float: ...
    @property
    def trend(self) -> float: ...
    @property
    def seasonals(self) -> tuple[tuple[float, ...], ...]: ...
    @property
    def periods(self) -> tuple[int, ...]: ...
    @property
    def sigma(self) -> float: ...
    def state(self) -> dict[str, Any]: ...

def _holt(series_: Any, alpha: float, beta: float) -> tuple[list[float], list[float]]: ...
def _availability(rate: float, hours: float) -> float: ...
def _capacity_chance(n: int, up: float, need: int) -> tuple[float, float]: ...
def _rank_removals(instances: list[dict[str, Any]], order: list[str], now: float) -> list[str]: ...
def _pooled_capacity(sizes: list[int], up: float) -> list[float]: ...
def _cheapest_mix(
    need: int, up: float, price: float, spot_price: float, slo: float
) -> tuple[int, int, float, float]: ...

@final
class Pods:
    """Pods as an autoscaler sees them, with the metrics that have one value a pod, read once.

    `records`: an iterable of mappings with these keys:
    `name` (needed, unique); `phase` ("running"), "pending", "succeeded", "failed" or "unknown"; `deleted` (False);
    `ready` (True), False, "unknown", or None for no such condition; `ready_since` (long ago): seconds of the policy's
    clock, also negative, of the last change of `ready`; `started` (long ago): seconds, or None for not yet;
    `containers`: mappings with `name`, `requests`, `init` (False), `sidecar` (False: an init container that runs on);
    `requests`: those of the pod as a whole. Requests are mappings of resource to number or quantity ("500m").
    `metrics` ({}): by key, a mapping of pod name to its value, or to (value, at seconds, window seconds = 60); None for
    a metric that could not be had. A pod left out has no value; a name that is no pod's counts as Kubernetes counts it.

    Frozen, equal by content. Raises MetricError with the field's path. Reading is O(pods); a decision over them runs
    without Python objects.

    >>> from aibalance.autoscaling import Pods
    >>> pods = Pods([{"name": "a"}, {"name": "b", "ready": False}], metrics={"queue": {"a": 9, "b": "1500m"}})
    >>> len(pods), pods.ready, pods.metrics
    (2, 1, {'queue': 2})
    """

    def __new__(
        cls, records: Iterable[Mapping[str, Any]], /, *, metrics: Mapping[str, Mapping[str, Any] | None] | None = {}
    ) -> Pods: ...
    @property
    def ready(self) -> int:
        """How many run and are ready."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""

    @property
    def metrics(self) -> dict[str, int | None]:
        """How many pods have a value, by metric; None for a metric that could not be had."""

    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    @staticmethod
    def _rebuild(pods: list[Any], series: list[Any]) -> Pods: ...

@final
class HpaEngine:
    def __new__(cls, config: object) -> HpaEngine: ...
    def recommend(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
    def record(self, name: str, value: float | None, at: float) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def status(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

def _parse_quantity(text: str, /) -> tuple[int, int, float, str, int]: ...
def _hpa_replicas(
    metric: object,
    observation: Observation | Mapping[str, Any],
    /,
    *,
    now: float,
    tolerance: Any,
    cpu_initialization_period: float,
    initial_readiness_delay: float,
) -> tuple[int, int, int | None, float, bool]: ...

@final
class CloudEngine:
    def __new__(cls, kind: str, config: dict[str, Any]) -> Self: ...
    def recommend(
        self, observation: Observation | Mapping[str, Any], now: float, given: dict[str, Any] | None = None
    ) -> Recommendation: ...
    @staticmethod
    def asked(observation: Observation | Mapping[str, Any]) -> int: ...
    def record(self, name: str, value: float | None, at: float) -> None: ...
    def learn(self, given: dict[str, Any]) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

@final
class GroupEngine:
    def __new__(cls, config: dict[str, Any]) -> Self: ...
    def step(self, now: float) -> list[tuple[Any, Any]]: ...
    def act(self, verb: str, values: dict[str, Any], now: float) -> list[tuple[Any, Any]]: ...
    def view(self) -> dict[str, Any]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

@final
class CapacityRules:
    @staticmethod
    def warm_pool_size(max_size: int, desired: int, prepared: int | None, min_size: int) -> int: ...
    @staticmethod
    def warm_pool_scale_out(available: int, increase: int, desired: int, max_size: int) -> tuple[int, int, int]: ...
    @staticmethod
    def warm_pool_scale_in(decrease: int, reuse: bool) -> tuple[int, int, int]: ...
    @staticmethod
    def split(desired: int, base: int, percent_above: int) -> tuple[int, int]: ...
    @staticmethod
    def pools(instance_types: int, zones: int, lowest: int) -> tuple[int, int]: ...
    @staticmethod
    def weighted_after(current: int, units: int, weight: int, max_size: int) -> tuple[int, int]: ...
    @staticmethod
    def rebalance_ceiling(max_size: int) -> int: ...
    @staticmethod
    def batch(desired: int, min_healthy: int, max_healthy: int | None) -> int: ...
    @staticmethod
    def checkpoints(
        desired: int, percents: Sequence[int], before: int, replaced: int
    ) -> tuple[list[int], int | None]: ...
    @staticmethod
    def timeline(
        desired: int, size: int, percents: Sequence[int], warmup: float, delay: float
    ) -> list[tuple[float, int, int, int | None]]: ...
    @staticmethod
    def blended(all_on_demand: float, on_demand_share: float, spot_discount: float) -> float: ...

@final
class KnativeEngine:
    def __new__(cls, config: object) -> Self: ...
    def recommend(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
    def record(self, name: str, value: float | None, at: float, proxied: float | None = None) -> None: ...
    def start(self, ready: int, at: float) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...
    def adopt(self, state: dict[str, Any], now: float) -> None: ...
    def resolved(self) -> tuple[float, float, float, float]: ...
    def activators(self, ready: int) -> int: ...
    def scale(
        self,
        desired: int,
        replicas: int,
        activity_now: str,
        held: float,
        initialized: bool,
        mode: str,
        proxied: float | None,
        probe_ok: bool,
    ) -> dict[str, Any]: ...
    def next_activity(
        self, before: str, initialized: bool, want: int, ready: int
    ) -> tuple[Literal["active", "activating", "inactive"], bool, str]: ...

@final
class Window:
    """The average of a metric over the last seconds, as Knative computes it.

    `window`: seconds, above 0. `granularity` (1.0): the length of a bucket, whole seconds; values of one bucket add up.
    `weighted` (False): newer buckets weigh more. The linear average of a young window is over the seconds it has seen;
    seconds since the newest value are left out, gaps inside count as 0. It is rounded to six decimals.
    Not safe to share between policies; safe between threads. Raises ConfigError.
    Source: Knative Serving after v0.50, pkg/autoscaler/aggregation/bucketing.go.

    >>> from aibalance.autoscaling.knative import Window
    >>> window = Window(60.0)
    >>> window.record(10.0, at=100.0)
    >>> window.record(20.0, at=101.5)
    >>> window.average(now=102.0)
    15.0
    """

    def __new__(cls, window: float, /, *, granularity: float = 1.0, weighted: bool = False) -> Self: ...
    def record(self, value: float, /, *, at: float) -> None:
        """Adds a value to the bucket of its instant (seconds). One that is a window or more old is dropped.

        Raises MetricError for what is not a finite number.
        """
    def average(self, *, now: float) -> float:
        """The average; 0.0 when nothing is left in the window."""
    def is_empty(self, *, now: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
    def resize(self, window: float, /, *, now: float) -> None:
        """Changes the length, and keeps the newest buckets that fit."""
    def state(self) -> dict[str, Any]:
        """The content as a plain dictionary that JSON can carry."""
    @classmethod
    def from_state(cls, state: dict[str, Any], /) -> Self:
        """A window from what `state()` gave. Raises ConfigError."""

@final
class MaxWindow:
    """The largest of the values of the last seconds: Knative's scale-down delay.

    `window`: seconds, above 0. `granularity` (2.0): the length of a slot, whole seconds. It moves only when something
    is recorded. Raises ConfigError. Source: Knative Serving after v0.50, pkg/autoscaler/aggregation/max.

    >>> from aibalance.autoscaling.knative import MaxWindow
    >>> window = MaxWindow(30.0)
    >>> window.record(5, at=0.0)
    >>> window.record(3, at=10.0)
    >>> window.current
    5
    """

    def __new__(cls, window: float, /, *, granularity: float = 2.0) -> Self: ...
    def record(self, value: int, /, *, at: float) -> None:
        """Takes up a value of 32 bits, taken `at` these seconds."""
    @property
    def current(self) -> int | None:
        """The largest value; None before the first."""
    def state(self) -> dict[str, Any]:
        """The content as a plain dictionary that JSON can carry."""
    @classmethod
    def from_state(cls, state: dict[str, Any], /) -> Self:
        """One from what `state()` gave. Raises ConfigError."""

@final
class KedaEngine:
    def __new__(cls, config: object) -> Self: ...
    def recommend(self, observation: Observation | Mapping[str, Any], now: float) -> Recommendation: ...
    def decide(
        self, active: bool, error: bool, observation: Observation | Mapping[str, Any], now: float
    ) -> Recommendation: ...
    def record(self, name: str, value: float | None, at: float) -> None: ...
    def rejected(self, recommendation: Recommendation) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...

@final
class Formula:
    """A formula over triggers, in the expression language of expr-lang.

    `text`: the formula, up to 4096 bytes. `names`: the triggers that it may use. As KEDA does, it is tried once with
    every trigger at -1, and values are taken to thousandths. Ranges (`1..9`) and `repeat` are refused.
    Raises ConfigError for a formula that cannot be used. Source: KEDA after v2.20.2, pkg/scaling/modifiers; the
    language by the crate expr-lang, which checks types when a formula runs and not before.

    >>> from aibalance.autoscaling.keda import Formula
    >>> Formula("max([a, b]) / 2", ["a", "b"]).evaluate({"a": 3, "b": 5})
    2.5
    """

    def __new__(cls, text: str, names: Iterable[str], /) -> Self: ...
    @property
    def text(self) -> str:
        """The formula."""
    @property
    def names(self) -> tuple[str, ...]:
        """The triggers that it may use."""
    def evaluate(self, values: dict[str, float | None], /) -> float | None:
        """The result for a value of each trigger; None is nil. Raises ConfigError when it fails."""
    def milli(self, values: dict[str, float | None], /) -> int | None:
        """The result in thousandths, cut toward zero, as Kubernetes is told it; infinity is -2**63."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(self) -> tuple[str, tuple[str, ...]]: ...

def _keda_fallback(
    config: object,
    value: float | None,
    failures: int,
    target: float,
    target_type: str,
    modifiers: tuple[str, str] | None,
    current: int,
    ready: int,
) -> tuple[int | None, bool, bool, bool, int | None, Literal["Happy", "Failing"] | None]: ...
def round_percent_change(change: float, /) -> int: ...
def scale_by_factor(
    desired: float, current: int, /, *, upscaling_factor: float = 1.0, downscaling_factor: float = 1.0
) -> int:
    """What Ray Serve makes of the replicas that a policy asks for, by its scaling factors.

    `current + factor * (desired - current)`, rounded up; at least one fewer where `desired` is fewer. From 0 replicas
    the factor does not count. The result may be negative; bounds come after. Raises ConfigError.
    Source: Ray 2.60.0, `_apply_scaling_factors`.

    >>> from aibalance.autoscaling import scale_by_factor
    >>> scale_by_factor(20, 10, upscaling_factor=0.5)
    15
    """

def adjust_to_capacity(replicas: int, target_capacity: float | None, /) -> int:
    """A number of replicas at `target_capacity` percent: rounded half up, at least 1 unless either is 0.

    None is all of it. Raises ConfigError. Source: Ray 2.60.0, `get_capacity_adjusted_num_replicas`.

    >>> from aibalance.autoscaling import adjust_to_capacity
    >>> adjust_to_capacity(3, 50)
    2
    """

def round_to_gangs(replicas: int, gang_size: int, /) -> int:
    """The next multiple of `gang_size`. Raises ConfigError. Source: Ray 2.60.0, `GangSchedulingAutoscalingPolicy`.

    >>> from aibalance.autoscaling import round_to_gangs
    >>> round_to_gangs(5, 4)
    8
    """

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
    tokens: tuple[npt.NDArray[np.int64], ...] | None = None,
) -> dict[str, Any]: ...
def _simulate_fluid(
    rates: npt.NDArray[np.float64],
    policy: ScalingEngine | ProportionalEngine | HpaEngine | Callable[..., Any],
    *,
    tick_s: float,
    capacity: float,
    boot_s: float,
    period: int,
    lag: int,
    initial: int,
    min: int,
    max: int,
) -> dict[str, Any]: ...
def _simulate_balancer_seed(seed: int) -> int: ...
def _simulate_work_sums(args: Mapping[str, Any], seed: int, n: int, levels: list[float]) -> list[float]: ...

# Routing

@final
class RouteEngine:
    """The native half of `aibalance.routing.Router`."""

    def __new__(
        cls,
        rules: list[Any],
        routes: list[list[Any]],
        *,
        alb_limits: bool,
        refuse_ambiguous: bool,
        merge_slashes: bool,
        redirect: bool,
        seed: int,
    ) -> Self: ...
    def route(self, target: Any, method: Any, host: Any, headers: Any, key: Any) -> Any | None:
        """The route object of the rule and target that were decided; None for none."""
    def explain(
        self, target: Any, method: Any, host: Any, headers: Any, key: Any
    ) -> tuple[Any | None, str, int, str | None, int | None]:
        """Route, reason, status, redirect and rule."""
    def shares(self, rule: int) -> list[float]:
        """The shares of a rule's targets."""

@final
class StickyTable:
    """Which endpoint each session is bound to: at most `capacity` of them, each for `ttl` seconds.

    A session's time counts from its last use (`renew`) or from when it was set. A full table lets the session go that
    was not used for longest (`when_full="evict"`), or keeps no new one until another has expired (`"refuse"`). Keys are
    `str` (as UTF-8) or `bytes`, kept as 128-bit XXH3 hashes, so that a session takes about 100 bytes whatever its key
    is. Any number of threads may use it. `clock` answers where no `now=` (seconds) is given. A copy by pickle is empty.

    Raises ConfigError. Source: HAProxy 2.8, stick tables (`renew` and "evict" are its behaviour, "refuse" its nopurge).

    >>> from aibalance.routing import StickyTable
    >>> table = StickyTable(capacity=1000, ttl=60, clock=ManualClock(0.0))
    >>> table.set("user-1", "10.0.0.1:80")
    True
    >>> table.get("user-1", now=59), table.get("user-1", now=200)
    ('10.0.0.1:80', None)
    """

    def __new__(
        cls,
        *,
        capacity: int = 100_000,
        ttl: float = 3600.0,
        renew: bool = True,
        when_full: Literal["evict", "refuse"] = "evict",
        clock: _Clock | None = None,
    ) -> Self: ...
    @property
    def capacity(self) -> int:
        """The most sessions."""
    @property
    def ttl(self) -> float:
        """How long a session is kept, in seconds."""
    @property
    def renew(self) -> bool:
        """Whether a look gives a session its time anew."""
    @property
    def when_full(self) -> Literal["evict", "refuse"]:
        """What a full table does with a new session."""
    @property
    def evicted(self) -> int:
        """How many sessions had to go for others."""
    def get(self, key: str | bytes, /, *, now: float | None = None) -> str | None:
        """The id of a session's endpoint; None when it has none, or its time is over."""
    def set(self, key: str | bytes, endpoint: str, /, *, now: float | None = None) -> bool:
        """Binds a session to the endpoint of this id; False when the table is full and refuses."""
    def remove(self, key: str | bytes, /) -> bool:
        """Lets a session go; whether there was one."""
    def forget(self, endpoint: str, /) -> int:
        """Lets all sessions of an endpoint go; how many there were. Takes time in proportion to the table."""
    def expire(self, *, now: float | None = None) -> int:
        """Drops all whose time is over; how many there were. Nobody has to call it."""
    def __len__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class DnsDraws:
    """The native half of `aibalance.routing.DnsPolicy`."""

    def __new__(cls, seed: int) -> Self: ...
    def weighted(self, weights: list[int], healthy: list[bool]) -> int | None:
        """A draw by weight."""
    @staticmethod
    def least(costs: list[float], healthy: list[bool]) -> int | None:
        """The nearest."""
    @staticmethod
    def failover(primary: bool, secondary: bool) -> int:
        """0 for the primary, 1 for the secondary."""
    @staticmethod
    def geolocation(levels: list[int], healthy: list[bool]) -> int | None:
        """The closest."""
    def multivalue(self, healthy: list[bool]) -> list[int]:
        """Up to eight."""

def _report_ages(pool: Pool, /, *, now: float | None) -> dict[str, float]: ...
def _acquire_on(pool: Pool, id: str, /, *, cost: float, load_factor: float | None, now: float | None) -> Lease | str:
    """A lease for a session on the endpoint that it is bound to, or why it is let go."""

# Health

@final
class FlapDamping:
    """When an endpoint that comes and goes is held back.

    Each fall from up to down adds 1 to a penalty, which is worth half after `half_life` seconds. From `suppress` on the
    endpoint stays unhealthy although checks pass, until the penalty is below `reuse`; never longer than `max_hold`
    seconds after its last fall.

    Source: RFC 2439, with penalties in flaps instead of thousands. Raises ConfigError, naming the field.

    >>> from aibalance.health import FlapDamping
    >>> FlapDamping(suppress=2)
    FlapDamping(half_life=60, suppress=2, reuse=1, max_hold=300)
    """

    def __new__(
        cls, *, half_life: float = 60.0, suppress: float = 3.0, reuse: float = 1.0, max_hold: float = 300.0
    ) -> Self: ...
    @property
    def half_life(self) -> float:
        """Seconds until a penalty is worth half."""
    @property
    def suppress(self) -> float:
        """The penalty from which on an endpoint is held back."""
    @property
    def reuse(self) -> float:
        """The penalty below which it is let back."""
    @property
    def max_hold(self) -> float:
        """The most seconds that it is held back after its last fall."""
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class HealthState:
    """What checks make of one endpoint: initial, warming, healthy, degraded, unhealthy, draining, unused, unavailable.

    `healthy_threshold` passes in a row make an unhealthy endpoint healthy, `unhealthy_threshold` failures in a row a
    healthy one unhealthy. `start="initial"` is a fresh target of an ALB: its first pass is enough. The other starts are
    HAProxy's: `"up"` falls at its first failure, `"fully-up"` after the threshold; `"down"` rises at its first pass,
    `"fully-down"` after the threshold. With `warm_up`, an endpoint that passes is warming until the model is loaded
    and a test inference was answered, each time that it comes up; from `warming_timeout` seconds on that is a failure.
    `damping` holds one back that comes and goes. `clock` answers when no `now=` (seconds) is given; time that goes
    backwards stands still.

    Source: Application Load Balancer (target states and thresholds), HAProxy 2.8 (the counter), 3.1 (the starts).
    Raises ConfigError, naming the field.

    >>> from aibalance.health import HealthState
    >>> state = HealthState(healthy_threshold=2, unhealthy_threshold=2)
    >>> [state.report(outcome) for outcome in ("pass", "fail", "fail", "pass", "pass")]
    ['healthy', 'healthy', 'unhealthy', 'unhealthy', 'healthy']
    """

    def __new__(
        cls,
        *,
        healthy_threshold: int = 2,
        unhealthy_threshold: int = 3,
        start: Literal["initial", "up", "fully-up", "down", "fully-down"] = "initial",
        warm_up: bool = False,
        warming_timeout: float | None = None,
        damping: FlapDamping | None = None,
        clock: _Clock | None = None,
    ) -> Self: ...
    def report(
        self,
        outcome: Literal["pass", "degraded", "warming", "fail"],
        /,
        *,
        model_loaded: bool | None = None,
        inference_test: bool | None = None,
        now: float | None = None,
    ) -> _HealthStatus:
        """Takes in what a check said, and gives the state.

        "degraded" is a pass of an endpoint that is at a limit. "warming" is an answer of one that is not ready yet: a
        failure once it has been. What a check does not know of the model (None) stays as it was.
        """
    def state(self, now: float | None = None) -> _HealthStatus:
        """The state now."""
    @property
    def counter(self) -> int:
        """HAProxy's counter: up from `healthy_threshold` on, at most `healthy_threshold + unhealthy_threshold - 1`."""
    @property
    def warm(self) -> bool:
        """Whether the warm-up is over, or none is asked for."""
    def penalty(self, now: float | None = None) -> float:
        """The penalty of flapping now, in flaps; 0 without `damping`."""
    def drain(self, *, deadline: float | None = None, now: float | None = None) -> None:
        """No new work: draining for `deadline` seconds (None: until `undrain`), then unused. Checks go on."""
    def deregister(self, *, delay: float = 300.0, now: float | None = None) -> None:
        """Drains as an ALB does: draining for the whole `delay` (0 to 3600 s), then unused."""
    def undrain(self, *, now: float | None = None) -> None:
        """Takes a drain back: the state is what checks have made of it."""
    def disable(self, *, now: float | None = None) -> None:
        """Nobody checks any more: unavailable, which is routed to."""
    def enable(self, *, now: float | None = None) -> None:
        """Checks begin again, from the start."""
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...
    def __getstate__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, state: tuple[Any, ...], /) -> None: ...

def expected_left(ages: Sequence[float], /, *, latencies: Sequence[float], remaining: float) -> float:
    """How many of the requests in flight are expected to be still running `remaining` seconds from now.

    `ages` says for how many seconds each has run, `latencies` how many seconds earlier ones took: of those that ran
    longer than a request has, the share that also outlived the rest of the time. A request that has outlived them all
    is taken as memoryless with their mean; without `latencies` nothing is expected to end.

    >>> from aibalance.health import expected_left
    >>> expected_left([0.0, 0.0, 2.5], latencies=[1.0, 2.0, 3.0, 4.0], remaining=2.0)
    1.0
    """

def _target_group_zones(
    dns: tuple[int | None, float | None],
    routing: tuple[int | None, float | None],
    zones: Sequence[tuple[int, int]],
    cross_zone: bool,
) -> list[tuple[bool, Literal["normal", "routing_failover", "fail_open"], int]]: ...
