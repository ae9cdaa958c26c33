"""Leases: how they end, what they count, who may give them back."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sys
from contextlib import nullcontext
from typing import Any

import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    Latency,
    LeaseError,
    LeastRequest,
    ManualClock,
    OverloadedError,
    PeakEwma,
    Pool,
    RetryBudget,
    RingHash,
    RoundRobin,
)

COUNTS = ("successes", "failures", "timeouts", "rejected", "cancelled", "dropped")


def counts(pool: Pool) -> dict[str, int]:
    total = {name: sum(getattr(r, name) for r in pool.stats()) for name in COUNTS}
    return {name: n for name, n in total.items() if n}


def idle(pool: Pool) -> bool:
    return all(r.inflight == 0 and r.load == 0 for r in pool.stats())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "successes"),
        (ValueError, "failures"),
        (OSError, "failures"),
        (TimeoutError, "timeouts"),
        (asyncio.TimeoutError, "timeouts"),
        (asyncio.CancelledError, "cancelled"),
        (GeneratorExit, "cancelled"),
        (KeyboardInterrupt, "cancelled"),
        (SystemExit, "cancelled"),
        (BaseException, "failures"),
    ],
)
def test_how_a_block_ends_says_how_the_request_did(error: type[BaseException] | None, outcome: str) -> None:
    async def asynchronously(picker: Any, clock: ManualClock) -> None:
        async with picker.acquire() as lease:
            assert lease.endpoint.id == "a"
            clock.advance(0.5)
            if error is not None:
                raise error

    def synchronously(picker: Any, clock: ManualClock) -> None:
        with picker.acquire() as lease:
            assert picker.pool.stats()[0].inflight == 1
            assert not lease.released
            clock.advance(0.5)
            if error is not None:
                raise error

    def run(way: Any, picker: Any, clock: ManualClock) -> None:
        coroutine = way(picker, clock)
        if coroutine is not None:
            with pytest.raises(StopIteration) if error is None else nullcontext():
                coroutine.send(None)

    for way in (synchronously, asynchronously):
        clock = ManualClock(0.0)
        pool = Pool(["a"], latency=Latency(), clock=clock)
        with nullcontext() if error is None else pytest.raises(error):
            run(way, LeastRequest(pool), clock)
        assert counts(pool) == {outcome: 1}
        assert idle(pool)
        # A request that was given up says nothing of the latency.
        assert pool.stats()[0].last_latency == (None if outcome == "cancelled" else pytest.approx(0.5))


def test_a_generator_that_is_closed_cancels() -> None:
    pool = Pool(["a"])

    def stream() -> Any:
        with RoundRobin(pool).acquire():
            yield 1

    one = stream()
    next(one)
    one.close()
    assert counts(pool) == {"cancelled": 1}


def test_release_is_idempotent_and_the_first_one_counts() -> None:
    pool = Pool(["a"])
    lease = LeastRequest(pool).acquire(cost=3)
    lease.release("failure")
    lease.release()
    lease.cancel()
    lease.__exit__(None, None, None)
    assert counts(pool) == {"failures": 1}
    assert idle(pool)
    for name, args in [("add", (1,)), ("detach", ()), ("first_token", ())]:
        with pytest.raises(LeaseError, match="released"):
            getattr(lease, name)(*args)
    with pytest.raises(LeaseError, match="released"):
        _ = lease.id
    del lease
    gc.collect()
    assert counts(pool) == {"failures": 1}


@pytest.mark.parametrize(
    ("kw", "outcome"),
    [
        ({}, "successes"),
        ({"status": 200}, "successes"),
        ({"status": 404}, "successes"),
        ({"status": 429}, "rejected"),
        ({"status": 500}, "failures"),
        ({"status": 503}, "failures"),
        ({"status": 503, "retry_after": 2}, "rejected"),
        ({"status": 504}, "failures"),
        ({"outcome": "success", "status": 500}, "successes"),
        ({"outcome": "failure"}, "failures"),
        ({"outcome": "timeout"}, "timeouts"),
        ({"outcome": "rejected"}, "rejected"),
    ],
)
def test_outcome_and_status(kw: dict[str, Any], outcome: str) -> None:
    for by_id in (False, True):
        pool = Pool(["a"])
        lease = LeastRequest(pool).acquire()
        if by_id:
            pool.release(lease.id, **kw)
        else:
            lease.release(**kw)
        assert counts(pool) == {outcome: 1}
        assert idle(pool)
        assert lease.released


def test_what_a_release_refuses_leaves_the_lease_live() -> None:
    pool = Pool(["a"])
    lease = LeastRequest(pool).acquire()
    for kw, field in [
        ({"outcome": "good"}, "outcome"),
        ({"outcome": 5}, "outcome"),
        ({"status": 99}, "status"),
        ({"status": 1000}, "status"),
        ({"status": "200"}, "status"),
        ({"latency": -1}, "latency"),
        ({"latency": float("nan")}, "latency"),
        ({"retry_after": "soon"}, "retry_after"),
        ({"now": -1}, "now"),
    ]:
        with pytest.raises(ConfigError, match=field):
            lease.release(**kw)
    for args, kw in [(("success", 5), {}), (("success",), {"outcome": "failure"}), ((), {"nonsense": 1})]:
        with pytest.raises(TypeError):
            lease.release(*args, **kw)
    assert pool.stats()[0].inflight == 1
    lease.release()
    assert counts(pool) == {"successes": 1}


def test_detach_and_release_by_id() -> None:
    pool = Pool(["a"])
    picker = LeastRequest(pool)
    lease = picker.acquire(cost=2)
    id = lease.detach()
    assert id == lease.id == lease.detach()
    assert "detached" in repr(lease)
    del lease
    gc.collect()
    assert (pool.stats()[0].inflight, pool.stats()[0].load) == (1, 2)
    pool.release(id, status=500)
    assert counts(pool) == {"failures": 1}
    for wrong in (id, 0, 1, 2**64 - 1):
        with pytest.raises(LeaseError, match=str(wrong)):
            pool.release(wrong)
    for wrong in (-1, 2**64, "x", None, 1.5):
        with pytest.raises(ConfigError, match="lease_id"):
            pool.release(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="lease_id"):
            pool.cancel(wrong)  # type: ignore[arg-type]
    pool.cancel(picker.acquire().detach())
    assert counts(pool) == {"failures": 1, "cancelled": 1}
    assert idle(pool)


def test_an_id_before_detach_and_the_lease_after_a_release_by_id() -> None:
    pool = Pool(["a"])
    picker = LeastRequest(pool)
    lease = picker.acquire()
    id = lease.id
    assert id == lease.id
    del lease
    gc.collect()
    # Its id was asked for, but it was not detached: dropping it gives it back.
    assert counts(pool) == {"dropped": 1}
    with pytest.raises(LeaseError):
        pool.release(id)
    lease = picker.acquire()
    pool.release(lease.id)
    assert lease.released
    lease.release("failure")
    with pytest.raises(LeaseError):
        lease.add(1)
    with pytest.raises(LeaseError):
        lease.detach()
    assert counts(pool) == {"dropped": 1, "successes": 1}
    # An old id never names a newer lease.
    newer = picker.acquire()
    assert newer.id != id
    detached = picker.acquire()
    detached.detach()
    detached.release()
    assert idle(pool) is False
    newer.cancel()
    assert idle(pool)


def test_a_dropped_lease_frees_its_slot_and_is_counted() -> None:
    pool = Pool([Endpoint("a", max_inflight=1)], latency=Latency())
    picker = LeastRequest(pool)
    picker.acquire()
    gc.collect()
    assert counts(pool) == {"dropped": 1}
    assert pool.stats()[0].last_latency is None
    with picker.acquire(), pytest.raises(OverloadedError):
        picker.acquire()


def test_cost_and_add_in_units_of_1_1024() -> None:
    pool = Pool(["a"])
    lease = LeastRequest(pool).acquire(cost=0.5)
    assert (lease.cost, pool.stats()[0].load, pool.stats()[0].inflight) == (0.5, 0.5, 1)
    lease.add(1000.25)
    assert (lease.cost, pool.stats()[0].load) == (1000.75, 1000.75)
    lease.add(1 / 1024)
    assert pool.stats()[0].load == 1000.75 + 1 / 1024
    lease.add(1 / 4096)
    assert pool.stats()[0].load == 1000.75 + 1 / 1024
    lease.add(-5000)
    assert (lease.cost, pool.stats()[0].load) == (0, 0)
    lease.add(3)
    lease.detach()
    lease.add(4)
    assert (lease.cost, pool.stats()[0].load) == (7, 7)
    for wrong in (float("nan"), float("inf"), 1e13, "x", None, 10**400):
        with pytest.raises(ConfigError, match="cost"):
            lease.add(wrong)  # type: ignore[arg-type]
    lease.release()
    assert idle(pool)
    for wrong in (-1, float("nan"), 9e12, "x", 10**400):
        with pytest.raises(ConfigError, match=r"cost.*8e12"):
            LeastRequest(pool).acquire(cost=wrong)  # type: ignore[arg-type]
    huge = LeastRequest(pool).acquire(cost=8e12)
    huge.add(8e12)
    assert huge.cost == 8e12
    huge.release()
    assert idle(pool)


def test_latency_is_measured_given_or_the_first_token() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a"], latency=Latency(decay=1e-6), clock=clock)
    picker = LeastRequest(pool)

    def last() -> Any:
        return pool.stats()[0].last_latency

    # A clock that starts at zero measures too.
    lease = picker.acquire()
    clock.advance(1.5)
    lease.release()
    assert last() == pytest.approx(1.5)
    lease = picker.acquire(now=10)
    lease.release(now=10.25)
    assert last() == pytest.approx(0.25)
    lease = picker.acquire()
    clock.advance(1)
    lease.release(latency=0.125)
    assert last() == pytest.approx(0.125)
    for detach in (False, True):
        for token_first in (False, True):
            lease = picker.acquire()
            if detach and not token_first:
                lease.detach()
            clock.advance(0.5)
            lease.first_token()
            lease.first_token()
            if detach and token_first:
                lease.detach()
            clock.advance(60)
            if detach:
                pool.release(lease.id)
            else:
                lease.release()
            assert last() == pytest.approx(0.5), (detach, token_first)
    by_id = picker.acquire().detach()
    clock.advance(2)
    pool.release(by_id)
    assert last() == pytest.approx(2)


def test_nothing_is_measured_without_need() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a"], clock=clock)
    lease = RoundRobin(pool).acquire()
    clock.advance(1)
    lease.release()
    assert pool.stats()[0].last_latency is None
    PeakEwma(pool)
    lease = RoundRobin(pool).acquire()
    clock.advance(1)
    lease.release()
    assert pool.stats()[0].last_latency == pytest.approx(1)


def test_leases_do_not_travel() -> None:
    lease = RoundRobin(["a"]).acquire()
    with pytest.raises(TypeError, match="detach"):
        pickle.dumps(lease)
    with pytest.raises(TypeError):
        type(lease)()
    lease.release()


def test_attempts_are_on_different_endpoints_within_the_budget() -> None:
    pool = Pool(list("abcd"))
    picker = RoundRobin(pool)
    tried = []
    for lease in picker.attempts(budget=3):
        tried.append(lease.endpoint.id)
        lease.release("failure")
    assert len(tried) == len(set(tried)) == 3
    tried = [lease.endpoint.id for lease in picker.attempts(budget=100)]
    assert sorted(tried) == list("abcd")
    for wrong in (0, -1, 1.5, "x", None, True):
        with pytest.raises(ConfigError, match="budget"):
            picker.attempts(budget=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="key"):
        next(RingHash(pool).attempts(1.5, budget=2))  # type: ignore[arg-type]
    ring = RingHash(pool, points=16)
    order = [e.id for e in ring.ranked("key", k=4)]
    assert [lease.endpoint.id for lease in ring.attempts("key", budget=4)] == order


def test_a_retry_budget_is_shared_and_refills() -> None:
    clock = ManualClock(0.0)
    picker = RoundRobin(Pool(list("abcd"), clock=clock))
    budget = RetryBudget(ratio=0.5, min_per_second=0.0, max_attempts=3)
    made = [len(list(picker.attempts(budget=budget))) for _ in range(4)]
    # Half a retry a request: every second request has one.
    assert made == [1, 2, 1, 2]
    floor = RetryBudget(ratio=0.0, min_per_second=1.0, max_attempts=4)
    made = []
    for _ in range(3):
        made.append(len(list(picker.attempts(budget=floor))))
        clock.advance(2)
    assert made == [2, 3, 3]
    assert len(list(picker.attempts(budget=RetryBudget(ratio=10, max_attempts=1)))) == 1


def test_retry_budgets_travel_and_refuse() -> None:
    budget = RetryBudget(ratio=0.5, min_per_second=3, max_attempts=7)
    copy = pickle.loads(pickle.dumps(budget))
    assert (copy.ratio, copy.min_per_second, copy.max_attempts) == (0.5, 3.0, 7)
    for kw in ({"ratio": -1}, {"ratio": 11}, {"min_per_second": float("nan")}, {"max_attempts": 0}):
        with pytest.raises(ConfigError, match=next(iter(kw))):
            RetryBudget(**kw)  # type: ignore[arg-type]


def test_references_and_memory_stay_flat() -> None:
    pool = Pool(["a", "b", "c"])
    pickers: list[Any] = [RoundRobin(pool), LeastRequest(pool), PeakEwma(pool), RingHash(pool, points=8)]
    endpoint = pool.endpoints[0]

    def work(n: int) -> None:
        for picker in pickers:
            for _ in range(n):
                picker.pick()
                picker.try_pick("key")
                picker.acquire().release()
                with picker.acquire(cost=2, exclude=["b"]):
                    pass
                pool.release(picker.acquire().detach())
            list(picker.pick_many(10))
            picker.ranked(k=2)
            list(picker.attempts(budget=2))

    work(100)
    gc.collect()
    before = sys.getrefcount(endpoint), sys.getrefcount(pool), sys.getallocatedblocks()
    work(25_000)
    gc.collect()
    after = sys.getrefcount(endpoint), sys.getrefcount(pool), sys.getallocatedblocks()
    assert before[:2] == after[:2]
    assert after[2] - before[2] < 200
