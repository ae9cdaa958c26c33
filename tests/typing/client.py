"""A user's program: mypy reads it in strict mode, against the installed stubs. Nothing runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_type

import numpy as np
import numpy.typing as npt

import aibalance
from aibalance import (
    Candidate,
    CustomPicker,
    Endpoint,
    Fallback,
    Hashed,
    Key,
    Lease,
    LeastRequest,
    Maglev,
    ManualClock,
    PeakEwma,
    Picker,
    Picks,
    Pool,
    RetryBudget,
    RingHash,
    RoundRobin,
    Subset,
    SystemClock,
    TrafficSplit,
    envoy_hash,
    testing,
)
from aibalance.health import FlapDamping, HealthChecker, HealthEvent, HealthState, TargetGroupHealth, TcpProbe


def pools() -> Pool:
    pool = Pool([Endpoint("10.0.0.1:80", weight=2), "10.0.0.2:80"], clock=ManualClock(0.0), seed=7)
    pool.update([Endpoint("10.0.0.1:80", weight=0.5)])
    pool.add(Endpoint("10.0.0.3:80", id="c", max_inflight=4, data=object()))
    pool.set_weight("c", 3)
    pool.set_health("c", "degraded")
    pool.drain("c")
    pool.undrain("c")
    pool.remove("c")
    assert_type(pool.endpoints, tuple[Endpoint, ...])
    return pool


def picking() -> None:
    pool = pools()
    pickers = RoundRobin(pool), LeastRequest(pool, choices=2), PeakEwma(pool), RingHash(pool), Maglev(["a", "b"])
    for picker in pickers:
        assert_type(picker.pick(), Endpoint)
        assert_type(picker.try_pick(), Endpoint | None)
        assert_type(picker.pool, Pool)
        assert_type(picker.ranked(k=2), list[Endpoint])
    keyed = RingHash(pool, ring="envoy")
    assert_type(keyed.pick("user"), Endpoint)
    assert_type(keyed.pick(b"user"), Endpoint)
    assert_type(keyed.pick(17), Endpoint)
    assert_type(keyed.pick(Hashed(17)), Endpoint)
    assert_type(keyed.pick(envoy_hash("a", ["b", "c"])), Endpoint)


def leasing(picker: RoundRobin) -> None:
    with picker.acquire(cost=2.5, exclude=["a"]) as lease:
        assert_type(lease, Lease)
        assert_type(lease.endpoint, Endpoint)
    other = picker.try_acquire()
    assert_type(other, Lease | None)
    if other is not None:
        other.release("failure", latency=0.2)


async def leasing_from_a_coroutine(picker: LeastRequest) -> None:
    async with picker.acquire() as lease:
        assert_type(lease, Lease)


def retrying(picker: PeakEwma) -> None:
    attempts = picker.attempts(budget=RetryBudget(ratio=0.2))
    assert_type(attempts, Iterator[Lease])


def in_bulk(picker: Maglev) -> None:
    picks = picker.pick_many(["a", "b"])
    assert_type(picks, Picks)
    assert_type(picks.indices, npt.NDArray[np.uint32])
    assert_type(picks.endpoints, tuple[Endpoint, ...])


class Mine(CustomPicker):
    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        return min(candidates, key=lambda one: one.stats.load).endpoint


class FromScratch:
    """The four methods, with no base."""

    def __init__(self, pool: Pool) -> None:
        self.inner = RoundRobin(pool)

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        return self.inner.pick(key, now=now)

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        return self.inner.try_pick(key, now=now)

    def acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease:
        return self.inner.acquire(key, cost=cost, exclude=exclude, subset=subset, now=now)

    def try_acquire(
        self,
        key: Key | None = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Iterable[Endpoint | str] | None = (),
        subset: Iterable[Endpoint | str] | None = None,
        now: float | None = None,
    ) -> Lease | None:
        return self.inner.try_acquire(key, cost=cost, exclude=exclude, subset=subset, now=now)


class HalfAPicker:
    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        return Endpoint("a")


def composing(pool: Pool) -> Picker:
    some: list[Picker] = [RoundRobin(pool), LeastRequest(pool), Maglev(pool), Mine(pool), FromScratch(pool)]
    fallback = Fallback(*some)
    split = TrafficSplit([(fallback, 95), (RingHash(pool), 5)], by="key", seed=1)
    subset = Subset(split, tags={"gpu": "h100"}, where=lambda endpoint: endpoint.weight > 1)
    assert_type(subset.pick("user"), Endpoint)
    assert_type(split.try_acquire(), Lease | None)
    assert_type(fallback.pick_many(3), Picks)
    assert_type(fallback.attempts(budget=3), Iterator[Lease])
    assert_type(split.weights, tuple[float, ...])
    Fallback(HalfAPicker())  # type: ignore[arg-type]
    TrafficSplit([(subset, 1)], by="luck")  # type: ignore[arg-type]
    testing.check_picker(FromScratch, claims=["weights"])
    testing.check_picker(Mine, claims={"weights": 0.1})
    testing.check_picker(RoundRobin, claims=["speed"])  # type: ignore[list-item]
    return subset


def clocks() -> None:
    clock = ManualClock(1.0)
    clock.advance(0.5)
    Pool(["a"], clock=SystemClock())


def failing(pool: Pool) -> float | None:
    try:
        RoundRobin(pool).pick()
    except aibalance.OverloadedError as e:
        return e.retry_after
    except aibalance.PickError:
        return None
    return 0.0


async def checking(pool: Pool) -> None:
    def ask(endpoint: Endpoint) -> bool:
        return bool(endpoint.id)

    state = HealthState(healthy_threshold=3, damping=FlapDamping(half_life=30))
    assert_type(state.counter, int)
    async with HealthChecker(pool, ask, deep=TcpProbe(), interval=5) as checker:
        assert_type(checker.actions(), tuple[HealthEvent, ...])
        assert_type(checker.metrics(), dict[str, float])
        state.report("good")  # type: ignore[arg-type]
    HealthChecker(pool, 17)  # type: ignore[arg-type]
    TargetGroupHealth(dns_failover_percentage="50")  # type: ignore[arg-type]


def refused(pool: Pool, picker: RingHash, lease: Lease) -> None:
    """What a type checker should stop. Strict mode reports an ignore that ignores nothing, so each line is a test."""
    Endpoint(17)  # type: ignore[arg-type]
    Endpoint("a", "b")  # type: ignore[call-arg]
    Endpoint("a", wieght=2)  # type: ignore[call-arg]
    RoundRobin(pool, schedule="fair")  # type: ignore[arg-type]
    LeastRequest(pool, ties="coin")  # type: ignore[arg-type]
    pool.set_health("a", "sick")  # type: ignore[arg-type]
    picker.pick(1.5)  # type: ignore[arg-type]
    picker.acquire(cost="much")  # type: ignore[arg-type]
    lease.release("won")  # type: ignore[arg-type]
