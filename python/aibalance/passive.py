"""Passive health: what the ends of requests make of an endpoint.

`OutlierDetection` and `MaxFails` go into `Pool(passive=...)`, `CircuitBreaker` into `Pool(circuit_breaker=...)`; a
`MaxFails` may also go into `Endpoint(passive=...)`. Nothing has to be called: leases tell how requests ended, and picks
bring endpoints back when their time is over.
"""

from __future__ import annotations

from dataclasses import dataclass as _dataclass
from typing import Any as _Any
from typing import Literal as _Literal

from . import _core

__all__ = ["CircuitBreaker", "MaxFails", "OutlierDetection"]


@_dataclass(frozen=True, kw_only=True)
class OutlierDetection:
    """Puts out endpoints that fail more than the others do, for a time that grows, by Envoy's rules.

    An end of a request is told by `lease.release`: a 5xx status is a failure, 502, 503 and 504 are gateway failures,
    and a failure or timeout without a status is one where no answer came. Those count as gateway failures too, or, with
    `split_external_local_origin_errors`, apart from all others. 429, 503 with Retry-After and `"rejected"` are
    back-pressure: they count for nothing here. Cancelled and dropped leases do not count either.

    - `consecutive_5xx`, `consecutive_gateway_failure`, `consecutive_local_origin_failure`: so many in a row put an
      endpoint out at once; None for never. The last needs `split_external_local_origin_errors`.
    - Success rate: every `interval` seconds, among the endpoints with `success_rate_request_volume` requests in it, if
      those are `success_rate_minimum_hosts`, one whose rate is below the mean less `success_rate_stdev_factor` / 1000
      standard deviations (of the population).
    - Failure percentage: the same, from `failure_percentage_threshold` percent of failures on.

    `enforcing_*` is the chance in percent that what was detected is acted on; 0 switches a rule off. The k-th ejection
    in a row lasts k times `base_ejection_time` seconds, at most `max_ejection_time` (None: 300) or the base if that is
    longer, plus whole milliseconds of chance up to `max_ejection_time_jitter`; it ends with the first interval after
    that, and each healthy interval lowers k by one. No more than `max_ejection_percent` of the endpoints are out at a
    time, the next one included: with 10 and fewer than ten endpoints nobody is put out, unless `always_eject_one_host`.
    `pool.set_health(id, "healthy")` ends an ejection, unless `successful_active_health_check_uneject_host` is False.
    Endpoints that are out count as unhealthy in failover and panic.

    `OutlierDetection.grpc()` and `.robust()` have other rules. Raises ConfigError, naming the field. Source: Envoy
    1.40 (`outlier_detection`), replayed.

    >>> from aibalance import ManualClock, Pool, RoundRobin
    >>> clock = ManualClock(0.0)
    >>> passive = OutlierDetection(consecutive_5xx=2, max_ejection_percent=50)
    >>> picker = RoundRobin(Pool(["a", "b"], passive=passive, clock=clock, seed=1))
    >>> for _ in range(4):
    ...     lease = picker.acquire()
    ...     lease.release(status=500 if lease.endpoint.id == "a" else 200)
    >>> [picker.pick().id for _ in range(3)]
    ['b', 'b', 'b']
    >>> clock.advance(40)
    >>> sorted(picker.pick().id for _ in range(2))
    ['a', 'b']
    """

    flavour: _Literal["envoy", "grpc", "robust"] = "envoy"
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_time: float | None = None
    max_ejection_time_jitter: float = 0.0
    max_ejection_percent: int = 10
    always_eject_one_host: bool = False
    consecutive_5xx: int | None = 5
    enforcing_consecutive_5xx: int = 100
    consecutive_gateway_failure: int | None = 5
    enforcing_consecutive_gateway_failure: int = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failure: int | None = 5
    enforcing_consecutive_local_origin_failure: int = 100
    enforcing_success_rate: int = 100
    enforcing_local_origin_success_rate: int = 100
    success_rate_minimum_hosts: int = 5
    success_rate_request_volume: int = 100
    success_rate_stdev_factor: int = 1900
    enforcing_failure_percentage: int = 0
    enforcing_failure_percentage_local_origin: int = 0
    failure_percentage_threshold: int = 85
    failure_percentage_minimum_hosts: int = 5
    failure_percentage_request_volume: int = 50
    successful_active_health_check_uneject_host: bool = True
    deviations: float = 3.5
    failure_floor: float = 0.1
    latency_factor: float | None = None
    latency_floor: float = 0.05

    def __post_init__(self) -> None:
        _core._check_passive(self)

    @classmethod
    def grpc(cls, *, success_rate: bool = True, failure_percentage: bool = True, **fields: _Any) -> OutlierDetection:
        """gRPC's rules, proposal A50: success rate and failure percentage, which here must be above the threshold.

        Failures in a row do not count. The first is always put out: nobody more once `max_ejection_percent` are out.
        Intervals lower k as soon as an endpoint is back. `fields` are those of the class.

        >>> OutlierDetection.grpc(success_rate=False).enforcing_failure_percentage
        100
        """
        rules = {
            "consecutive_5xx": None,
            "consecutive_gateway_failure": None,
            "consecutive_local_origin_failure": None,
            "enforcing_success_rate": 100 if success_rate else 0,
            "enforcing_failure_percentage": 100 if failure_percentage else 0,
        }
        return cls(**{"flavour": "grpc", **rules, **fields})

    @classmethod
    def robust(cls, **fields: _Any) -> OutlierDetection:
        """Medians instead of means, so that neither one bad endpoint nor several hide what is bad about them.

        Every `interval`, among the endpoints with `failure_percentage_request_volume` (20) requests, one goes whose
        share of failures exceeds the median by `deviations` (3.5) median absolute deviations times 1.4826 and by
        `failure_floor` (0.1); this takes `failure_percentage_minimum_hosts` (3). A share of
        `failure_percentage_threshold` (50) percent is too much whatever the others do, so that a majority that fails is
        seen too. With a `latency_factor` so does one whose latency is that many times the median, more than
        `deviations` above it, and by `latency_floor` seconds (0.05). The worst go first, up to `max_ejection_percent`
        (50). Failures in a row count as in Envoy. `enforcing_success_rate` is the chance for all of this.

        >>> OutlierDetection.robust(latency_factor=3.0).max_ejection_percent
        50
        """
        rules = {
            "max_ejection_percent": 50,
            "failure_percentage_threshold": 50,
            "failure_percentage_minimum_hosts": 3,
            "failure_percentage_request_volume": 20,
        }
        return cls(**{"flavour": "robust", **rules, **fields})


@_dataclass(frozen=True)
class MaxFails:
    """nginx's rule: after `max_fails` failures within `fail_timeout` seconds an endpoint is left alone for as long.

    Then one request may try it: if it goes well the failures are forgotten, else it waits again. nginx counts in whole
    seconds, so that an endpoint is back a second after `fail_timeout`, which must be whole. 0 failures means never. A
    failure also lowers the endpoint's weight by `weight // max_fails` in RoundRobin's smooth schedule and in
    LeastConnections; it grows back by one at each pick. The only endpoint of a pool is never left alone.

    Failures are those that `lease.release` tells, with or without a status; back-pressure is none. Source: nginx 1.22
    and 1.31, replayed. Raises ConfigError, naming the field.

    >>> MaxFails(max_fails=3, fail_timeout=30)
    MaxFails(max_fails=3, fail_timeout=30)
    """

    max_fails: int = 1
    fail_timeout: float = 10.0

    def __post_init__(self) -> None:
        _core._check_passive(self)


@_dataclass(frozen=True, kw_only=True)
class CircuitBreaker:
    """Stops requests to an endpoint that fails, and lets a few probes find out when it does no longer.

    It opens after `failures` in a row (None for never), or when of at least `min_requests` in the last `window` seconds
    (by tenths) a `failure_share` fails (None for never). It stays open for `open_time` seconds, `growth` times longer
    each time that probes fail, at most `max_open_time`. Then it is half open: at most `probes` requests at once go
    through. After `successes` good ones it closes; one failure opens it again. Probes that bring no verdict within one
    open time are followed by others. Only requests that began after it was half open are probes, and a `pick()`, which
    tells nobody how it ended, takes one.

    429, 503 with Retry-After and `"rejected"` are neither good nor bad. Raises ConfigError, naming the field.

    >>> from aibalance import ManualClock, Pool, RoundRobin
    >>> pool = Pool(["a", "b"], circuit_breaker=CircuitBreaker(failures=1), clock=ManualClock(0.0), seed=1)
    >>> RoundRobin(pool).acquire().release("failure")
    >>> [s.breaker for s in pool.stats()]
    ['open', 'closed']
    """

    failures: int | None = 5
    failure_share: float | None = None
    window: float = 30.0
    min_requests: int = 20
    open_time: float = 30.0
    growth: float = 2.0
    max_open_time: float = 300.0
    probes: int = 1
    successes: int = 2

    def __post_init__(self) -> None:
        _core._check_passive(self)
