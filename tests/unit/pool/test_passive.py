"""Passive ejection, nginx's max_fails and circuit breakers, through the public API."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

import aibalance
from aibalance import (
    CircuitBreaker,
    ConfigError,
    Endpoint,
    ManualClock,
    MaxFails,
    NoHealthyEndpointError,
    OutlierDetection,
    Pool,
    RoundRobin,
)


def pool_of(n: int, **options: Any) -> tuple[Pool, ManualClock]:
    clock = ManualClock(0.0)
    pool = Pool([f"e{i}" for i in range(n)], clock=clock, seed=1, **{"panic_threshold": 0.0, **options})
    return pool, clock


def end(picker: Any, id: str, *outcome: str, **ending: Any) -> None:
    """One request that goes to this endpoint."""
    lease = picker.acquire(subset=[id])
    lease.release(*outcome, **ending)


def picked(picker: Any, n: int = 20) -> set[str]:
    return {picker.pick().id for _ in range(n)}


def outliers(**fields: Any) -> OutlierDetection:
    return OutlierDetection(**{"max_ejection_percent": 100, **fields})


@pytest.mark.parametrize(
    "make", ["RoundRobin", "LeastRequest", "LeastConnections", "PeakEwma", "Maglev", "RingHash", "Rendezvous"]
)
@pytest.mark.parametrize("passive", [outliers(consecutive_5xx=2), MaxFails(2)])
def test_who_fails_is_out_at_once_and_picks_alone_bring_it_back(make: str, passive: Any) -> None:
    pool, clock = pool_of(3, passive=passive)
    picker = getattr(aibalance, make)(pool)
    end(picker, "e1", status=500)
    assert pool.stats()[1].eligible
    end(picker, "e1", status=500)
    assert picked(picker, 300) == {"e0", "e2"}
    record = pool.stats()[1]
    assert (record.ejections, record.eligible) == (1, False)
    assert record.ejected_until is not None
    assert 10 < record.ejected_until <= 40
    clock.advance(record.ejected_until - 0.01)
    assert picked(picker, 300) == {"e0", "e2"}
    clock.advance(0.02)
    end(picker, "e1")


@pytest.mark.parametrize("schedule", ["smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy"])
def test_every_schedule_leaves_out_who_is_out(schedule: Any) -> None:
    pool, clock = pool_of(3, passive=outliers(consecutive_5xx=1))
    picker = RoundRobin(pool, schedule=schedule)
    end(picker, "e1", status=500)
    assert picked(picker) == {"e0", "e2"}
    clock.advance(40)
    assert picked(picker) == {"e0", "e1", "e2"}


@pytest.mark.parametrize(
    ("ending", "rule", "out"),
    [
        ({"status": 500}, {"consecutive_5xx": 1}, True),
        ({"status": 404}, {"consecutive_5xx": 1}, False),
        ({"status": 429}, {"consecutive_5xx": 1}, False),
        ({"status": 503, "retry_after": 0.0}, {"consecutive_5xx": 1}, False),
        ({"outcome": "rejected"}, {"consecutive_5xx": 1}, False),
        ({"outcome": "timeout"}, {"consecutive_5xx": 1}, True),
        ({"outcome": "failure"}, {"consecutive_5xx": 1}, True),
        ({"status": 500}, {"consecutive_gateway_failure": 1}, False),
        ({"status": 502}, {"consecutive_gateway_failure": 1}, True),
        ({"status": 503}, {"consecutive_gateway_failure": 1}, True),
        ({"status": 504}, {"consecutive_gateway_failure": 1}, True),
        ({"outcome": "failure"}, {"consecutive_gateway_failure": 1}, True),
        ({"outcome": "failure"}, {"consecutive_local_origin_failure": 1}, False),
        (
            {"outcome": "failure"},
            {"consecutive_local_origin_failure": 1, "split_external_local_origin_errors": True},
            True,
        ),
        ({"status": 502}, {"consecutive_local_origin_failure": 1, "split_external_local_origin_errors": True}, False),
        ({"outcome": "failure"}, {"consecutive_5xx": 1, "split_external_local_origin_errors": True}, False),
    ],
)
def test_what_counts_as_what(ending: dict[str, Any], rule: dict[str, Any], out: bool) -> None:
    none: dict[str, Any] = {"consecutive_5xx": None, "consecutive_gateway_failure": None}
    fields: dict[str, Any] = {**none, "enforcing_consecutive_gateway_failure": 100, **rule}
    pool, _ = pool_of(2, passive=outliers(**fields))
    end(RoundRobin(pool), "e0", **ending)
    assert (pool.stats()[0].ejected_until is not None) is out


def test_back_pressure_asks_for_a_rest_and_is_no_failure() -> None:
    pool, clock = pool_of(2, passive=outliers(consecutive_5xx=1))
    picker = RoundRobin(pool)
    end(picker, "e0", status=429, retry_after=5.0)
    assert picked(picker) == {"e1"}
    assert [s.ejections for s in pool.stats()] == [0, 0]
    end(picker, "e1", status=503, retry_after=2.0)
    assert picked(picker) == {"e0", "e1"}, "nobody else is there"
    clock.advance(2.0)
    assert picked(picker) == {"e1"}
    clock.advance(3.0)
    assert picked(picker) == {"e0", "e1"}
    end(picker, "e0", status=429, retry_after=1e6)
    clock.advance(299.0)
    assert picked(picker) == {"e1"}
    clock.advance(1.0)
    assert picked(picker) == {"e0", "e1"}, "300 s are the most"


def test_without_passive_health_nobody_rests() -> None:
    pool, _ = pool_of(2)
    picker = RoundRobin(pool)
    end(picker, "e0", status=429, retry_after=5.0)
    assert picked(picker) == {"e0", "e1"}


def test_who_is_out_is_unhealthy_to_the_panic_rule() -> None:
    pool, _ = pool_of(3, passive=outliers(consecutive_5xx=1), panic_threshold=0.5)
    picker = RoundRobin(pool)
    end(picker, "e0", status=500)
    assert picked(picker) == {"e1", "e2"}
    end(picker, "e1", status=500)
    assert picked(picker) == {"e0", "e1", "e2"}


def test_all_out_and_no_panic_is_nobody() -> None:
    pool, clock = pool_of(1, passive=outliers(consecutive_5xx=1))
    picker = RoundRobin(pool)
    end(picker, "e0", status=500)
    with pytest.raises(NoHealthyEndpointError):
        picker.pick()
    clock.advance(40)
    assert picker.pick().id == "e0"


def test_word_that_it_is_healthy_lets_it_in() -> None:
    for lets_in in (True, False):
        passive = outliers(consecutive_5xx=1, successful_active_health_check_uneject_host=lets_in)
        pool, _ = pool_of(2, passive=passive)
        picker = RoundRobin(pool)
        end(picker, "e0", status=500)
        pool.set_health("e0", "healthy")
        assert ("e0" in picked(picker)) is lets_in


def test_success_rates_are_compared_every_interval() -> None:
    pool, clock = pool_of(5, passive=outliers(consecutive_5xx=None))
    picker = RoundRobin(pool)
    for i in range(500):
        lease = picker.acquire()
        lease.release(status=500 if lease.endpoint.id == "e2" and i % 10 < 5 else 200)
    clock.advance(9.9)
    picker.pick()
    assert pool.stats()[2].ejected_until is None
    clock.advance(0.2)
    assert picked(picker) == {"e0", "e1", "e3", "e4"}
    clock.advance(30)
    assert len(picked(picker)) == 5


def test_the_slow_one_is_put_out_by_the_robust_mode() -> None:
    pool, clock = pool_of(4, passive=OutlierDetection.robust(latency_factor=3.0))
    picker = RoundRobin(pool)
    for _ in range(100):
        lease = picker.acquire()
        lease.release(latency=2.0 if lease.endpoint.id == "e3" else 0.1)
    clock.advance(10.1)
    assert picked(picker) == {"e0", "e1", "e2"}


def test_max_fails_lets_one_request_try() -> None:
    pool, clock = pool_of(2, passive=MaxFails(1, 3))
    picker = RoundRobin(pool)
    end(picker, "e0", "failure")
    clock.advance(3.5)
    assert picked(picker) == {"e1"}
    clock.advance(0.5)
    probes = [picker.acquire() for _ in range(6)]
    assert [p.endpoint.id for p in probes].count("e0") == 1
    assert [e.id for e in picker.pick_many(6)].count("e0") == 0
    for probe in probes:
        probe.release()
    assert picked(picker) == {"e0", "e1"}


def test_max_fails_never_leaves_the_only_one_alone() -> None:
    pool, _ = pool_of(1, passive=MaxFails(1, 3))
    picker = RoundRobin(pool)
    end(picker, "e0", "failure")
    assert picker.pick().id == "e0"


def test_effective_weights_fall_with_failures_and_grow_back() -> None:
    # Weights 6 and 3: a failure at the first pick takes half of the weight away, and picks give it back (nginx).
    endpoints = [Endpoint("a", weight=6), Endpoint("b", weight=3)]
    pool = Pool(endpoints, passive=MaxFails(2, 10), clock=ManualClock(0.0), failover="backup", panic_threshold=0)
    picker = RoundRobin(pool)
    out = []
    for i in range(10):
        lease = picker.acquire()
        out.append(lease.endpoint.id)
        lease.release("failure" if i == 0 else None)
    assert "".join(out) == "ababaabaab"


def test_an_endpoint_has_a_rule_of_its_own() -> None:
    endpoints = [Endpoint("a", passive=MaxFails(1, 5)), Endpoint("b"), Endpoint("c", passive=MaxFails(0))]
    pool = Pool(endpoints, clock=ManualClock(0.0), panic_threshold=0)
    picker = RoundRobin(pool)
    for id in "abc":
        end(picker, id, "failure")
    assert picked(picker) == {"b", "c"}
    assert endpoints[0].passive == MaxFails(1, 5)
    assert pickle.loads(pickle.dumps(endpoints[0])).passive == MaxFails(1, 5)
    assert "passive=MaxFails" in repr(endpoints[0])


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = CircuitBreaker(failures=2, open_time=5.0, probes=2, successes=2)
    pool, clock = pool_of(2, circuit_breaker=breaker)
    picker = RoundRobin(pool)
    end(picker, "e0", "failure")
    end(picker, "e0", "timeout")
    assert pool.stats()[0].breaker == "open"
    assert pool.stats()[0].ejected_until == 5.0
    assert picked(picker) == {"e1"}
    clock.advance(5.0)
    leases = [picker.acquire() for _ in range(10)]
    probes = [lease for lease in leases if lease.endpoint.id == "e0"]
    assert len(probes) == 2
    assert pool.stats()[0].breaker == "half_open"
    probes[0].release()
    again = [picker.acquire() for _ in range(10)]
    assert [lease.endpoint.id for lease in again].count("e0") == 1
    probes[1].release()
    assert pool.stats()[0].breaker == "closed"
    assert picked(picker) == {"e0", "e1"}


def test_a_probe_that_fails_opens_the_breaker_for_longer() -> None:
    pool, clock = pool_of(2, circuit_breaker=CircuitBreaker(failures=1, open_time=5.0, max_open_time=8.0))
    picker = RoundRobin(pool)
    old = picker.acquire(subset=["e0"])
    end(picker, "e0", "failure")
    for after, until in ((5.0, 13.0), (8.0, 21.0)):
        clock.advance(after)
        probe = picker.acquire(subset=["e0"])
        old.release("failure")
        assert pool.stats()[0].breaker == "half_open", "an old request is no probe"
        probe.release("failure")
        assert pool.stats()[0].ejected_until == until


def test_a_probe_that_tells_nothing_gives_its_permit_back() -> None:
    pool, clock = pool_of(2, circuit_breaker=CircuitBreaker(failures=1, open_time=5.0))
    picker = RoundRobin(pool)
    end(picker, "e0", "failure")
    clock.advance(5.0)
    picker.acquire(subset=["e0"]).cancel()
    lost = picker.acquire(subset=["e0"]).detach()
    assert picker.try_acquire(subset=["e0"]) is None
    clock.advance(5.0)
    assert picker.try_acquire(subset=["e0"]) is not None, "lost probes are followed by others"
    pool.cancel(lost)


def test_a_breaker_goes_by_the_share_of_failures() -> None:
    breaker = CircuitBreaker(failures=None, failure_share=0.5, min_requests=10, window=10.0)
    pool, _ = pool_of(2, circuit_breaker=breaker)
    picker = RoundRobin(pool)
    for i in range(9):
        end(picker, "e0", "failure" if i % 2 == 0 else "success")
    assert pool.stats()[0].breaker == "closed"
    end(picker, "e0", "failure")
    assert pool.stats()[0].breaker == "open"


@pytest.mark.parametrize(
    "config",
    [
        OutlierDetection(interval=1.0),
        OutlierDetection.grpc(),
        OutlierDetection.robust(latency_factor=2.0),
        MaxFails(3, 20),
    ],
)
def test_a_pickled_pool_keeps_its_configuration(config: Any) -> None:
    pool, _ = pool_of(2, passive=config, circuit_breaker=CircuitBreaker(failures=1))
    copy = pickle.loads(pickle.dumps(pool))
    end(RoundRobin(copy), "e0", "failure")
    assert copy.stats()[0].breaker == "open"
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config) == config
    assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: OutlierDetection(interval=0.0), "interval"),
        (lambda: OutlierDetection(interval=float("nan")), "interval"),
        (lambda: OutlierDetection(max_ejection_percent=101), "max_ejection_percent"),
        (lambda: OutlierDetection(consecutive_5xx=0), "consecutive_5xx"),
        (lambda: OutlierDetection(consecutive_5xx="x"), "consecutive_5xx"),  # type: ignore[arg-type]
        (lambda: OutlierDetection(flavour="nginx"), "flavour"),  # type: ignore[arg-type]
        (lambda: OutlierDetection.robust(deviations=0.0), "deviations"),
        (lambda: MaxFails(-1), "max_fails"),
        (lambda: MaxFails(1, 0.5), "fail_timeout"),
        (lambda: MaxFails(1, float("inf")), "fail_timeout"),
        (lambda: CircuitBreaker(failures=None), "failures"),
        (lambda: CircuitBreaker(failure_share=2.0), "failure_share"),
        (lambda: CircuitBreaker(probes=0), "probes"),
        (lambda: CircuitBreaker(max_open_time=1.0), "max_open_time"),
        (lambda: Pool(["a"], passive=3), "passive"),  # type: ignore[arg-type]
        (lambda: Pool(["a"], circuit_breaker=MaxFails()), "circuit_breaker"),  # type: ignore[arg-type]
        (lambda: Endpoint("a", passive=OutlierDetection()), "passive"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        make()
