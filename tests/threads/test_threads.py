"""Many threads on one pool: afterwards nothing is in flight, and nobody has waited."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aibalance import (
    ClientSideWeightedRoundRobin,
    Endpoint,
    LeaseError,
    LeastConnections,
    LeastRequest,
    LeastTime,
    Maglev,
    PeakEwma,
    PickError,
    Pool,
    Prequal,
    RingHash,
    RoundRobin,
)

THREADS = 8
# Operations of each thread. A full run by hand: AIBALANCE_THREAD_OPERATIONS=1000000 (the default is the same).
OPERATIONS = int(os.environ.get("AIBALANCE_THREAD_OPERATIONS", "1000000"))


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    yield
    sys.setswitchinterval(before)


def run(bodies: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def mixed(pool: Pool, pickers: list[Any], operations: int) -> Callable[[], None]:
    """A thread's work. Only what was done counts: a block that ends because everybody is full counts what it made."""

    def block(picker: Any) -> Iterator[int]:
        pick, acquire, try_acquire = picker.pick, picker.acquire, picker.try_acquire
        for _ in range(60):
            pick()
            pick("key")
            acquire().release()
            acquire("key").cancel()
            with acquire():
                pass
            acquire()
            # Two picks, four acquires, and what ended those.
            yield 10
        for lease in [try_acquire() for _ in range(20)]:
            if lease is not None:
                lease.add(0.5)
                lease.release("failure")
                yield 3
        for id in [acquire(cost=2.25).detach() for _ in range(10)]:
            pool.release(id)
            yield 3
        by_id = acquire()
        pool.cancel(by_id.id)
        by_id.release()
        yield 3
        for attempt in picker.attempts("key", budget=2):
            attempt.release("timeout")
            yield 2
        picker.pick_many(20)
        picker.ranked("key", k=2)
        yield 2

    def body() -> None:
        done, turn = 0, 0
        while done < operations:
            turn += 1
            try:
                for made in block(pickers[turn % len(pickers)]):
                    done += made
            except PickError:
                # Everybody is full, draining or of weight 0 for the moment.
                time.sleep(1e-4)

    return body


@pytest.mark.timeout(280)
def test_eight_threads_and_one_that_changes_everything() -> None:
    def members(n: int) -> list[Endpoint]:
        return [
            Endpoint(f"10.0.0.{i}:80", weight=1 + i % 3, max_inflight=None if i % 4 else 50, backup=i % 7 == 6)
            for i in range(n)
        ]

    pool = Pool(members(12), seed=1)
    pickers = [
        RoundRobin(pool),
        LeastRequest(pool),
        LeastRequest(pool, full_scan=True, ties="rotate"),
        PeakEwma(pool),
        LeastTime(pool),
        Prequal(pool),
        ClientSideWeightedRoundRobin(pool),
        RingHash(pool, points=8),
        Maglev(pool, table_size=251),
    ]
    stop = threading.Event()
    changes = 0
    rng = random.Random(5)

    def change() -> None:
        nonlocal changes
        ids: list[str] = []
        while not stop.is_set():
            changes += 1
            ids = [e.id for e in pool.endpoints]
            what = rng.randrange(9)
            if what == 0:
                pool.update(members(rng.randrange(4, 40)))
            elif what == 1:
                pool.add(f"extra {changes}")
            elif what == 2 and len(ids) > 3:
                pool.remove(rng.choice(ids))
            elif what == 3:
                pool.set_weight(rng.choice(ids), rng.choice([0, 1, 2.5, 7]))
            elif what == 4:
                pool.set_health(rng.choice(ids), rng.choice(["healthy", "healthy", "degraded", "unhealthy"]))
            elif what == 5:
                pool.drain(rng.choice(ids), deadline=rng.choice([None, 0.01]))
            elif what == 6:
                pool.undrain(rng.choice(ids))
            elif what == 7:
                pool.observe(rng.choice(ids), inflight=rng.randrange(50), latency=rng.random())
            else:
                pool.advance()
                assert all(r.inflight >= 0 and r.load >= 0 for r in pool.stats())
            time.sleep(2e-4)

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    try:
        run([mixed(pool, pickers, OPERATIONS) for _ in range(THREADS)])
    finally:
        stop.set()
        changer.join()
    assert changes > 100
    pool.advance(now=1e9)
    records = pool.stats()
    assert [r.inflight for r in records] == [0] * len(records)
    assert [r.load for r in records] == [0] * len(records)
    for r in records:
        ended = r.successes + r.failures + r.timeouts + r.rejected + r.cancelled + r.dropped
        assert r.picks == ended


@pytest.mark.timeout(120)
def test_a_large_update_stops_nobody_from_picking() -> None:
    many = [Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:80", weight=1 + i % 5) for i in range(10_000)]
    pool = Pool(many)
    picker = LeastRequest(pool)
    # What is slow about this update is the two tables, which nobody picks from here.
    slow = [RingHash(pool, points=200), Maglev(pool, table_size=655_373)]
    updating, stop = threading.Event(), threading.Event()
    spans: list[float] = []

    def change() -> None:
        for _ in range(3):
            updating.set()
            begin = time.monotonic()
            pool.update(many)
            spans.append(time.monotonic() - begin)
            updating.clear()
        stop.set()

    during = 0

    def pick() -> None:
        nonlocal during
        while not stop.is_set():
            picker.pick()
            picker.acquire().release()
            during += updating.is_set()

    run([change, pick])
    assert len(slow) == 2
    # The update has the interpreter for a moment at its start and its end; a pick takes a microsecond or two. One
    # percent of what fits is far more than what a waiting picker could have made.
    assert during > sum(spans) * 10_000
    assert all(r.inflight == 0 for r in pool.stats())


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_during_an_update_still_picks() -> None:
    many = [str(i) for i in range(3000)]
    pool = Pool(many)
    # The last ones have a lock of their own, which an update holds while it copies their state.
    pickers = [
        RingHash(pool, points=100),
        LeastRequest(pool),
        RoundRobin(pool, schedule="edf"),
        RoundRobin(pool, schedule="heap"),
        RoundRobin(pool, schedule="fwrr"),
        LeastConnections(pool, variant="haproxy"),
    ]
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            pool.update(many)

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        for _ in range(15):
            time.sleep(0.003)
            child = os.fork()
            if child == 0:  # pragma: no cover
                try:
                    for p in pickers:
                        p.acquire().release()
                finally:
                    os._exit(0)
            deadline = time.monotonic() + 10
            done = 0
            while not done and time.monotonic() < deadline:
                done = os.waitpid(child, os.WNOHANG)[0]
                time.sleep(0.001)
            if not done:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert done, "the child hangs"
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(120)
def test_threads_with_handles_of_their_own_lose_nothing() -> None:
    pool = Pool([Endpoint(f"e{i}", weight=1 + i % 3) for i in range(9)], seed=3)
    wholes = [
        RoundRobin(pool),
        RoundRobin(pool, schedule="edf"),
        LeastRequest(pool),
        LeastRequest(pool, full_scan=True),
        LeastConnections(pool),
        LeastConnections(pool, variant="haproxy"),
        Maglev(pool, table_size=251),
    ]
    rounds = OPERATIONS // 200
    made = [0] * THREADS

    def body(which: int) -> Callable[[], None]:
        def work() -> None:
            handles = [whole.local() for whole in wholes]
            for turn in range(rounds):
                handle = handles[turn % len(handles)]
                handle.acquire("key").release()
                with handle.acquire(cost=2.5) as lease:
                    lease.add(1)
                made[which] += 2
                if turn % 500 == which:
                    pool.set_weight(f"e{turn % 9}", 1 + turn % 4)

        return work

    run([body(which) for which in range(THREADS)])
    records = pool.stats()
    assert all((r.inflight, r.load) == (0, 0) for r in records)
    assert sum(r.successes for r in records) == sum(made) == THREADS * rounds * 2


@pytest.mark.timeout(120)
def test_one_lease_used_by_two_threads_at_once_keeps_its_sums() -> None:
    pool = Pool(["a"])
    picker = LeastRequest(pool)
    leases = [picker.acquire() for _ in range(2000)]
    barrier = threading.Barrier(3)
    refused = [0, 0]

    def add(which: int) -> Callable[[], None]:
        def work() -> None:
            barrier.wait()
            for lease in leases:
                try:
                    lease.add(2)
                except LeaseError:
                    refused[which] += 1

        return work

    def release() -> None:
        barrier.wait()
        for lease in leases:
            lease.release()

    run([add(0), add(1), release])
    record = pool.stats()[0]
    assert (record.inflight, record.load, record.successes) == (0, 0, 2000)


@pytest.mark.timeout(60)
def test_one_lease_released_by_many_threads_counts_once() -> None:
    pool = Pool(["a"])
    picker = LeastRequest(pool)
    barrier = threading.Barrier(4)
    leases = [picker.acquire() for _ in range(3000)]
    ids = [lease.id if i % 2 else 0 for i, lease in enumerate(leases)]

    def release() -> None:
        barrier.wait()
        for lease, id in zip(leases, ids, strict=True):
            lease.release()
            if id:
                assert lease.released

    run([release] * 4)
    record = pool.stats()[0]
    assert (record.inflight, record.load, record.successes) == (0, 0, 3000)
