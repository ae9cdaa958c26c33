"""Waiting until somebody is free: order, bounds, deadlines, cancellation, threads, estimates."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

import aibalance
from aibalance import (
    ConfigError,
    Endpoint,
    Fallback,
    Lease,
    LeastRequest,
    ManualClock,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    Pool,
    RoundRobin,
    Subset,
    TrafficSplit,
    WaitQueue,
)
from aibalance.llm import FairQueue

_T = TypeVar("_T")


def run(work: Callable[[], Awaitable[_T]]) -> _T:
    async def limited() -> _T:
        return await asyncio.wait_for(work(), 20)

    return asyncio.run(limited())


def one(**options: Any) -> Pool:
    return Pool([Endpoint("a", max_inflight=1)], **options)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_somebody_who_is_free_is_had_at_once() -> None:
    async def main() -> None:
        picker = RoundRobin(one())
        lease = await picker.acquire_when_free(timeout=0)
        assert lease.endpoint.id == "a"
        assert picker.pool.stats()[0].inflight == 1
        lease.release()

    run(main)


def test_a_release_wakes_in_order_of_priority_and_then_of_arrival() -> None:
    async def main() -> list[str]:
        picker = RoundRobin(one())
        lease = picker.acquire()
        order: list[str] = []

        async def wait(name: str, priority: int) -> None:
            async with await picker.acquire_when_free(timeout=10, priority=priority):
                order.append(name)
                await asyncio.sleep(0)

        tasks = [asyncio.ensure_future(wait(*who)) for who in [("low", -1), ("first", 0), ("second", 0), ("high", 7)]]
        await settled()
        assert len(picker.queue) == 4
        lease.release()
        await asyncio.gather(*tasks)
        assert picker.pool.stats()[0].inflight == 0
        assert len(picker.queue) == 0
        return order

    assert run(main) == ["high", "first", "second", "low"]


@pytest.mark.parametrize("how", ["release", "cancel", "drop", "by id", "by id, cancelled", "exit"])
def test_every_way_to_give_back_wakes(how: str) -> None:
    async def main() -> None:
        picker = RoundRobin(one())
        pool = picker.pool
        lease: Any = picker.acquire()
        waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=10))
        await settled()
        assert not waiting.done()
        match how:
            case "release":
                lease.release()
            case "cancel":
                lease.cancel()
            case "drop":
                lease = None
                gc.collect()
            case "by id":
                pool.release(lease.detach())
            case "by id, cancelled":
                pool.cancel(lease.detach())
            case _:
                with lease:
                    pass
        # Nothing else than the wake: less time than the queue takes to look by itself.
        await settled()
        assert waiting.done()
        (await waiting).release()

    run(main)


@pytest.mark.parametrize("how", ["add", "update", "healthy", "undrain", "weight"])
def test_a_change_of_the_pool_wakes(how: str) -> None:
    async def main() -> str:
        picker = RoundRobin(["a"])
        pool = picker.pool
        if how == "undrain":
            pool.drain("a")
        elif how == "weight":
            pool.set_weight("a", 0)
        else:
            pool.set_health("a", "unhealthy")
            pool.set_weight("a", 0)
        waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=10))
        await settled()
        assert not waiting.done()
        match how:
            case "add":
                pool.add("b")
            case "update":
                pool.update(["b"])
            case "healthy":
                pool.set_weight("a", 1)
                pool.set_health("a", "healthy")
            case "undrain":
                pool.undrain("a")
            case _:
                pool.set_weight("a", 1)
        await settled()
        assert waiting.done()
        with await waiting as lease:
            return lease.endpoint.id

    assert run(main) == ("b" if how in ("add", "update") else "a")


def test_time_alone_is_seen_at_the_next_look() -> None:
    async def main() -> None:
        clock = ManualClock()
        picker = RoundRobin(one(lease_timeout=5.0, clock=clock))
        picker.acquire().detach()
        waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=10))
        await settled()
        clock.advance(6)
        picker.pool.advance()
        await settled()
        assert waiting.done()
        (await waiting).cancel()

    run(main)


def test_a_full_queue_and_a_late_one_say_when_to_come_again() -> None:
    async def main() -> None:
        picker = RoundRobin(one(clock=ManualClock()))
        queue = WaitQueue(picker, max_waiting=1)
        picker.acquire().release(latency=8.0)
        lease = picker.acquire()
        first = asyncio.ensure_future(queue.acquire(timeout=10))
        await settled()
        with pytest.raises(OverloadedError, match="1 requests are waiting") as full:
            await queue.acquire(timeout=10)
        assert full.value.retry_after == pytest.approx(16.0)
        assert len(queue) == 1
        with pytest.raises(OverloadedError, match=r"within 0\.01 s") as late:
            await picker.acquire_when_free(timeout=0.01)
        assert late.value.retry_after == pytest.approx(8.0)
        lease.cancel()
        (await first).cancel()
        assert picker.pool.stats()[0].inflight == 0
        none = WaitQueue(picker, max_waiting=0)
        (await none.acquire(timeout=10)).cancel()

    run(main)


def test_nobody_to_wait_for_is_told_when_the_time_is_over() -> None:
    async def main() -> None:
        with pytest.raises(NoEndpointsError):
            await RoundRobin([]).acquire_when_free(timeout=0)
        sick = RoundRobin(["a"])
        sick.pool.drain("a")
        with pytest.raises(NoHealthyEndpointError):
            await sick.acquire_when_free(timeout=0.01)

    run(main)


def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    async def main() -> None:
        picker = RoundRobin(one())
        lease = picker.acquire()
        gone, stays = (asyncio.ensure_future(picker.acquire_when_free(timeout=10)) for _ in range(2))
        await settled()
        gone.cancel()
        await settled()
        assert len(picker.queue) == 1
        lease.release()
        with await stays:
            assert picker.pool.stats()[0].inflight == 1
        assert picker.pool.stats()[0].inflight == 0

    run(main)


def test_one_cancelled_after_it_was_served_passes_it_on() -> None:
    async def main() -> None:
        picker = RoundRobin(one())
        lease = picker.acquire()
        gone, stays = (asyncio.ensure_future(picker.acquire_when_free(timeout=10)) for _ in range(2))
        await settled()
        lease.release()  # hands the place to the first, who has not run yet
        assert picker.pool.stats()[0].inflight == 1
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        with await stays:
            assert picker.pool.stats()[0].inflight == 1
        assert picker.pool.stats()[0].inflight == 0

    run(main)


def test_a_loop_that_ends_takes_no_place_with_it() -> None:
    picker = RoundRobin(one())
    held = picker.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(picker.acquire_when_free(timeout=10))
    loop.run_until_complete(settled())
    assert len(picker.queue) == 1
    loop.close()
    held.release()  # goes to the one in the closed loop, and comes back
    assert picker.pool.stats()[0].inflight == 0
    assert len(picker.queue) == 0
    picker.acquire().release()
    del task
    gc.collect()


def test_threads_and_loops_wait_in_one_line() -> None:
    picker = LeastRequest([Endpoint("a", max_inflight=2), Endpoint("b", max_inflight=1)], seed=1)
    most, done = [0], [0]
    lock = threading.Lock()

    def count(lease: Lease) -> None:
        with lock:
            done[0] += 1
            most[0] = max(most[0], sum(s.inflight for s in picker.pool.stats()))
        lease.release()

    def blocking() -> None:
        for _ in range(50):
            count(picker.queue.acquire_blocking(timeout=30))

    def looping() -> None:
        async def each() -> None:
            for _ in range(10):
                lease = await picker.acquire_when_free(timeout=30)
                await asyncio.sleep(0)
                count(lease)

        async def main() -> None:
            await asyncio.gather(*(each() for _ in range(5)))

        asyncio.run(main())

    threads = [threading.Thread(target=work) for work in [blocking, looping] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done[0] == 300
    assert most[0] <= 3
    assert sum(s.inflight for s in picker.pool.stats()) == 0
    assert len(picker.queue) == 0


@pytest.mark.parametrize("fair", [False, True])
def test_one_who_goes_with_a_lease_while_others_are_still_asked_for_is_not_served_twice(fair: bool) -> None:
    class Slow:
        """Asked for the second, it answers once the first has gone."""

        def __init__(self) -> None:
            self.inner = LeastRequest([Endpoint("a", max_inflight=1)])
            self.pool = self.inner.pool
            self.gone: threading.Event | None = None

        def try_acquire(self, key: Any = None, /, **options: Any) -> Lease | None:
            if key == "second" and self.gone is not None:
                assert self.gone.wait(10)
            return self.inner.try_acquire(**options)

        acquire = pick = try_pick = try_acquire

    picker: Any = Slow()
    tenant: dict[str, Any] = {"tenant": "t"} if fair else {}
    queue: Any = FairQueue(picker) if fair else WaitQueue(picker)
    gone = threading.Event()
    leases: dict[str, Any] = {}

    def wait(who: str) -> None:
        leases[who] = queue.acquire_blocking(who, timeout=20, **tenant)
        gone.set()

    held = picker.inner.acquire()
    threads = [threading.Thread(target=wait, args=(who,)) for who in ("first", "second")]
    for i, thread in enumerate(threads):
        thread.start()
        while len(queue) <= i:
            time.sleep(0.001)
    picker.gone = gone
    held.release()
    assert (len(queue), list(leases)) == (1, ["first"])
    picker.gone = None
    leases["first"].release()
    for thread in threads:
        thread.join(10)
    leases["second"].release()
    assert len(queue) == 0
    stats = picker.pool.stats()[0]
    assert (stats.inflight, stats.successes) == (0, 3)


def test_who_waits_for_certain_endpoints_holds_up_nobody() -> None:
    async def main() -> None:
        picker = RoundRobin([Endpoint("a", max_inflight=1), Endpoint("b", max_inflight=1)])
        leases = {lease.endpoint.id: lease for lease in (picker.acquire(), picker.acquire())}
        only_a = asyncio.ensure_future(picker.acquire_when_free(timeout=10, subset=["a"]))
        not_b = asyncio.ensure_future(picker.acquire_when_free(timeout=10, exclude=(e for e in ["b"])))
        anybody = asyncio.ensure_future(picker.acquire_when_free(timeout=10, cost=3.0))
        await settled()
        leases["b"].release()
        await settled()
        assert (only_a.done(), not_b.done(), anybody.done()) == (False, False, True)
        assert (await anybody).cost == 3.0
        leases["a"].release()
        with await only_a:
            pass
        assert (await not_b).endpoint.id == "a"

    run(main)


def test_composed_and_custom_pickers_have_a_queue() -> None:
    class Mine(aibalance.CustomPicker):
        def choose(self, candidates: Any, key: Any, /) -> Endpoint:
            found: Endpoint = candidates[-1].endpoint
            return found

    async def main() -> None:
        mine = Mine([Endpoint("c", max_inflight=1)])
        here, there = RoundRobin(one()), RoundRobin([Endpoint("b", max_inflight=1)])
        for picker in (mine, Fallback(here, there), TrafficSplit([(here, 1), (there, 0)]), Subset(here, where=bool)):
            held = []
            while (lease := picker.try_acquire()) is not None:
                held.append(lease)
            waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=10))
            await settled()
            assert len(picker.queue) == 1
            held[0].release()
            await settled()
            assert waiting.done(), picker
            (await waiting).release()
            for lease in held:
                lease.release()

    run(main)


def test_any_picker_may_have_a_queue_and_its_errors_reach_who_waits() -> None:
    class Plain:
        def __init__(self) -> None:
            self.inner = RoundRobin(one())
            self.broken = False

        def try_acquire(self, key: Any = None, /, **options: Any) -> Lease | None:
            if self.broken:
                raise RuntimeError("broken")
            return self.inner.try_acquire(**options)

        def acquire(self, key: Any = None, /, **options: Any) -> Lease:
            return self.inner.acquire(**options)

        def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
            return self.inner.pick()

        def try_pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint | None:
            return self.inner.try_pick()

    async def main() -> None:
        picker = Plain()
        queue = WaitQueue(picker)
        held = picker.acquire()
        # It has no `pool`, so that only looking helps.
        waiting = asyncio.ensure_future(queue.acquire(["an unhashable key"], timeout=10))
        await settled()
        held.release()
        (await waiting).release()
        picker.broken = True
        with pytest.raises(RuntimeError, match="broken"):
            await queue.acquire(timeout=10)
        assert len(queue) == 0

    run(main)


def test_the_estimate_counts_who_is_in_front_and_how_long_requests_take() -> None:
    async def main() -> None:
        pool = Pool([Endpoint("a", max_inflight=2), Endpoint("b", max_inflight=2)], clock=ManualClock())
        picker = RoundRobin(pool)
        queue = picker.queue
        assert queue.eta() == 0.0
        leases = [picker.acquire() for _ in range(4)]
        assert queue.eta() is None
        pool.observe("a", latency=20.0)
        pool.observe("b", latency=20.0)
        # Four places of 20 s: one every 5 s.
        assert queue.eta() == pytest.approx(5.0)
        assert queue.eta(8) == pytest.approx(40.0)
        with pytest.raises(OverloadedError) as error:
            picker.pick()
        assert error.value.retry_after == pytest.approx(5.0)
        with pytest.raises(OverloadedError) as error:
            picker.acquire(subset=["a"])
        assert error.value.retry_after == pytest.approx(10.0)
        waiting = asyncio.ensure_future(picker.acquire_when_free(timeout=10))
        await settled()
        assert queue.eta() == pytest.approx(10.0)
        leases.pop().release()
        (await waiting).release()
        assert queue.eta(1) == 0.0
        assert RoundRobin(["unlimited"]).queue.eta(100) == 0.0
        assert RoundRobin([]).queue.eta() is None

    run(main)


def test_retry_after_is_unknown_without_a_latency() -> None:
    picker = RoundRobin(one())
    with picker.acquire(), pytest.raises(OverloadedError) as error:
        picker.acquire()
    assert error.value.retry_after is None


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_cannot_be_is_refused(timeout: Any) -> None:
    picker = RoundRobin(one())
    with pytest.raises(ConfigError, match="timeout"):
        run(lambda: picker.acquire_when_free(timeout=timeout))
    with pytest.raises(ConfigError, match="timeout"):
        picker.queue.acquire_blocking(timeout=timeout)


def test_what_else_cannot_be_is_refused() -> None:
    picker = RoundRobin(one())
    with pytest.raises(ConfigError, match="max_waiting"):
        WaitQueue(picker, max_waiting=-1)
    with pytest.raises(ConfigError, match="picker"):
        WaitQueue(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="position"):
        picker.queue.eta(0)
    with pytest.raises(ConfigError, match="priority"):
        run(lambda: picker.acquire_when_free(timeout=1, priority=0.5))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cost"):
        run(lambda: picker.acquire_when_free(timeout=1, cost=-1))
    with pytest.raises(ConfigError, match="exclude"):
        run(lambda: picker.acquire_when_free(timeout=1, exclude="a"))
    assert len(picker.queue) == 0


def test_no_end_and_blocking_timeout() -> None:
    picker = RoundRobin(one())
    lease = picker.acquire()
    threading.Timer(0.02, lease.release).start()
    with picker.queue.acquire_blocking(timeout=None), pytest.raises(OverloadedError, match="within"):
        picker.queue.acquire_blocking(timeout=0.01)


def test_a_queue_has_a_repr_and_travels_empty() -> None:
    queue = WaitQueue(RoundRobin(["a"]), max_waiting=3)
    assert repr(queue).endswith("max_waiting=3)")
    assert pickle.loads(pickle.dumps(queue)).max_waiting == 3
    assert queue.picker.pick().id == "a"
    assert bool(queue)
    split = TrafficSplit([(RoundRobin(["a"]), 1)])
    assert len(split.queue) == 0
    assert copy.deepcopy(split).pick().id == "a"


def test_a_picker_that_goes_takes_its_queue_along() -> None:
    import weakref

    picker = RoundRobin(one())
    assert len(picker.queue) == 0
    line, pool = weakref.ref(picker.queue._line), picker.pool
    del picker
    gc.collect()
    assert line() is None
    RoundRobin(pool).acquire().release()
