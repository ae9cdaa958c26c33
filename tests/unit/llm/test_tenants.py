"""The virtual token counter, and the queue that goes by it."""

from __future__ import annotations

import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import ConfigError, Endpoint, LeaseError, LeastRequest, OverloadedError, PrefixAware, RoundRobin
from aibalance.llm import FairQueue, TenantLease, VirtualTokenCounter


def turns(counter: VirtualTokenCounter[Any], n: int) -> list[str]:
    return [counter.pop()[0] for _ in range(n)]


def test_whoever_was_served_least_is_next() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter()
    for i in range(3):
        counter.push("long", i, tokens=100)
    for i in range(6):
        counter.push("short", i, tokens=50)
    assert len(counter) == 9
    assert [counter.pop() for _ in range(9)] == [
        *(("long", 0), ("short", 0), ("short", 1), ("long", 1), ("short", 2), ("short", 3)),
        *(("long", 2), ("short", 4), ("short", 5)),
    ]
    with pytest.raises(LookupError, match="nothing waits"):
        counter.pop()


def test_answers_count_by_their_weight() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter(output_weight=3)
    counter.push("a", 0, tokens=10)
    counter.push("b", 0, tokens=10)
    counter.charge("a", output=5)
    assert turns(counter, 1) == ["b"]
    assert counter.counters() == {"a": 15.0, "b": 10.0}
    counter.charge("a", -100)
    assert counter.counter("a") == 0.0


def test_input_weight_alone_changes_what_counts() -> None:
    for weight, expected in ((1.0, 7.0), (0.0, 0.0), (2.5, 17.5)):
        counter: VirtualTokenCounter[int] = VirtualTokenCounter(input_weight=weight)
        counter.push("a", 0, tokens=7)
        counter.pop()
        assert counter.counter("a") == expected


def test_weights_share_in_proportion() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter(weights={"gold": 3}, default_weight=0.5)
    for i in range(70):
        counter.push("gold", i, tokens=10)
        counter.push("other", i, tokens=10)
    taken = turns(counter, 70)
    assert (taken.count("gold"), taken.count("other")) == (60, 10)
    assert counter.weight("gold") == 3
    assert counter.weight("nobody") == 0.5


def test_a_newcomer_is_lifted_to_the_least_of_those_who_wait() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter()
    for i in range(20):
        counter.push("a", i, tokens=100)
        counter.push("b", i, tokens=100)
    turns(counter, 20)
    for i in range(5):
        counter.push("new", i, tokens=100)
    assert counter.counter("new") == 1000.0
    assert turns(counter, 6).count("new") == 2


def test_nobody_saves_up_turns_while_away_or_pays_for_an_idle_fleet() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter()
    counter.push("a", 0, tokens=100)
    counter.pop()
    # What the last to leave has been served since then counts too.
    counter.charge("a", output=50)
    assert counter.counter("b") == 200.0
    counter.push("b", 0, tokens=1)
    counter.push("a", 1, tokens=1)
    assert counter.counters() == {"a": 200.0, "b": 200.0}
    # Whoever has not been served for longest wins the tie.
    assert turns(counter, 1) == ["b"]


def test_a_tenant_with_more_than_the_rest_is_not_lowered() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter()
    counter.charge("a", 500)
    counter.push("b", 0, tokens=1)
    counter.push("a", 0, tokens=1)
    assert counter.counters() == {"a": 500.0, "b": 0.0}


def test_what_is_taken_out_is_not_charged() -> None:
    counter: VirtualTokenCounter[str] = VirtualTokenCounter()
    counter.push("a", "x", tokens=10)
    counter.push("a", "y", tokens=10)
    assert counter.remove("a", "x")
    assert not counter.remove("a", "x")
    assert not counter.remove("nobody", "x")
    assert counter.pop() == ("a", "y")
    assert counter.counter("a") == 10.0
    with pytest.raises(ConfigError, match="tenant"):
        counter.leave("a")


def test_idle_counters_are_bounded_and_those_that_lifting_would_raise_go_first() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter(max_tenants=10)
    counter.charge("debtor", 1e6)
    counter.push("waits", 0, tokens=1)
    counter.charge("waits", 500)
    for i in range(1000):
        counter.charge(f"t{i}", 1)
        assert len(counter.counters()) <= 12
    assert counter.counter("debtor") == 1e6
    # Those who wait are never forgotten.
    for i in range(50):
        counter.push(f"w{i}", i)
    assert len(counter) == 51
    for i in range(50):
        counter.charge(f"more{i}", 1e9 + i)
    assert {f"w{i}" for i in range(50)} <= set(counter.counters())
    assert len(counter.counters()) <= 51 + 10


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=2, max_size=5),
    st.integers(70, 200),
)
def test_busy_tenants_differ_by_no_more_than_the_bound_of_the_paper(sizes: list[tuple[int, int]], memory: int) -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter()
    running: list[list[Any]] = []
    for i in range(len(sizes)):
        counter.push(f"t{i}", i, tokens=sizes[i][0])
    for _ in range(200):
        while True:
            tenant = min((f"t{i}" for i in range(len(sizes))), key=counter.order)
            inputs, outputs = sizes[int(tenant[1:])]
            if sum(sum(sizes[one[0]]) for one in running) + inputs + outputs > memory:
                break
            which = counter.pop()[1]
            running.append([which, outputs])
            counter.push(f"t{which}", which, tokens=inputs)
        for one in running:
            counter.charge(f"t{one[0]}", output=1)
            one[1] -= 1
        running = [one for one in running if one[1] > 0]
        values = counter.counters().values()
        assert max(values) - min(values) <= 2 * max(max(a for a, _ in sizes), 2 * memory)
    assert min(counter.counters().values()) > 0


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"weights": {"a": 0}}, "weights"),
        ({"weights": {"a": float("nan")}}, "weights"),
        ({"weights": {1: 1}}, "weights"),
        ({"weights": [1]}, "weights"),
        ({"default_weight": -1}, "default_weight"),
        ({"input_weight": float("inf")}, "input_weight"),
        ({"output_weight": "2"}, "output_weight"),
        ({"input_weight": 0, "output_weight": 0}, "input_weight"),
        ({"max_tenants": 0}, "max_tenants"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        VirtualTokenCounter(**given)


def test_it_is_frozen_and_pickles_its_settings() -> None:
    counter: VirtualTokenCounter[int] = VirtualTokenCounter(weights={"a": 2}, max_tenants=7)
    counter.charge("a", 4)
    copy = pickle.loads(pickle.dumps(counter))
    assert repr(copy) == repr(counter)
    assert copy.counter("a") == 0.0
    with pytest.raises(AttributeError):
        counter.max_tenants = 3
    with pytest.raises(ConfigError, match="tokens"):
        counter.push("a", 1, tokens=float("nan"))
    with pytest.raises(ConfigError, match="tenant"):
        counter.push("", 1)
    with pytest.raises(TypeError):
        counter.weights["b"] = 1  # type: ignore[index]


def one_at_a_time(**settings: Any) -> FairQueue:
    return FairQueue(LeastRequest([Endpoint("gpu", max_inflight=1)]), **settings)


async def served(queue: FairQueue, requests: list[dict[str, Any]]) -> list[str]:
    order: list[str] = []

    async def one(request: dict[str, Any]) -> None:
        request = dict(request)
        name = request.pop("name")
        async with await queue.acquire(timeout=5, **request) as lease:
            order.append(name)
            await asyncio.sleep(0)
            lease.first_token()

    await asyncio.gather(*map(one, requests))
    return order


def test_the_queue_goes_by_priority_then_tenant_then_arrival() -> None:
    requests = [
        *({"name": f"a{i}", "tenant": "a", "tokens": 10} for i in range(4)),
        *({"name": f"b{i}", "tenant": "b", "tokens": 10} for i in range(2)),
        {"name": "urgent", "tenant": "a", "tokens": 10, "priority": 1},
    ]
    assert asyncio.run(served(one_at_a_time(), requests)) == ["a0", "urgent", "b0", "a1", "b1", "a2", "a3"]


def test_weights_and_predictions_count_in_the_queue() -> None:
    requests = [{"name": n, "tenant": n, "tokens": 10} for n in ("a", "b", "a", "b", "a", "b", "b")]
    queue = one_at_a_time(counter=VirtualTokenCounter(weights={"b": 3}))
    assert asyncio.run(served(queue, requests)) == ["a", "b", "a", "b", "b", "a", "b"]
    queue = one_at_a_time()
    with queue.acquire_blocking(tenant="a", tokens=10, predicted_output=20, timeout=0) as lease:
        assert queue.counter.counter("a") == 50.0
        lease.add(15)
        assert queue.counter.counter("a") == 50.0
        lease.add(10)
        assert queue.counter.counter("a") == 60.0
    assert queue.counter.counter("a") == 60.0
    with queue.acquire_blocking(tenant="a", tokens=0, predicted_output=20, timeout=0) as lease:
        lease.add(5)
    assert queue.counter.counter("a") == 70.0


def test_tokens_are_those_of_the_prompt_unless_told() -> None:
    queue = FairQueue(PrefixAware(["gpu"]))
    lease = queue.acquire_blocking(list(range(100)), tenant="a", timeout=0)
    assert (lease.cost, queue.counter.counter("a")) == (100.0, 100.0)
    lease.first_token()
    lease.add(1)
    lease.release()
    assert lease.released
    with pytest.raises(LeaseError):
        lease.add(1)
    assert queue.counter.counter("a") == 102.0
    plain = FairQueue(RoundRobin(["gpu"]))
    with plain.acquire_blocking("key", tenant="a", cost=7, timeout=0) as other:
        assert (other.cost, plain.counter.counter("a")) == (7.0, 7.0)
    assert isinstance(other, TenantLease)


def test_those_who_give_up_are_not_charged() -> None:
    async def main() -> None:
        queue = one_at_a_time()
        first = await queue.acquire(tenant="a", tokens=1, timeout=0)
        waiting = asyncio.ensure_future(queue.acquire(tenant="b", tokens=100, timeout=None))
        late = asyncio.ensure_future(queue.acquire(tenant="c", tokens=100, timeout=0.01))
        served_then_gone = asyncio.ensure_future(queue.acquire(tenant="d", tokens=100, timeout=None))
        await asyncio.sleep(0)
        assert len(queue) == 3
        waiting.cancel()
        with pytest.raises(OverloadedError, match="within"):
            await late
        assert len(queue) == 1
        # Served and cancelled at one moment: the place and the tokens are given back.
        first.release()
        served_then_gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await served_then_gone
        assert len(queue) == len(queue.counter) == 0
        assert queue.counter.counter("b") == queue.counter.counter("c") == queue.counter.counter("d") == 1.0
        assert queue.picker.pool.stats()[0].inflight == 0  # type: ignore[attr-defined]

    asyncio.run(main())


def test_the_queue_is_bounded_and_an_error_of_the_picker_reaches_its_request() -> None:
    async def main() -> None:
        queue = one_at_a_time(max_waiting=1)
        lease = await queue.acquire(tenant="a", timeout=0)
        waiting = asyncio.ensure_future(queue.acquire(tenant="a", timeout=1))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="waiting already"):
            await queue.acquire(tenant="b", timeout=1)
        lease.release()
        (await waiting).cancel()
        with pytest.raises(ConfigError, match="cost"):
            await queue.acquire(tenant="b", timeout=1, cost=-1)
        assert len(queue) == len(queue.counter) == 0

    asyncio.run(main())


def test_queues_may_share_a_counter_and_pickle() -> None:
    counter: VirtualTokenCounter[Any] = VirtualTokenCounter()
    one, two = one_at_a_time(counter=counter), one_at_a_time(counter=counter)
    one.acquire_blocking(tenant="a", tokens=5, timeout=0).release()
    two.acquire_blocking(tenant="a", tokens=5, timeout=0).release()
    assert counter.counter("a") == 10.0
    assert repr(pickle.loads(pickle.dumps(one))) == repr(one)
    assert one.max_waiting == 1024
    assert one.eta() == 0.0
    with pytest.raises(ConfigError, match="counter"):
        FairQueue(LeastRequest(["a"]), counter=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="picker"):
        FairQueue(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tenant"):
        one.acquire_blocking(tenant="", timeout=0)
    with pytest.raises(ConfigError, match="predicted_output"):
        one.acquire_blocking(tenant="a", predicted_output=-1, timeout=0)


def test_threads_share_one_queue_and_nothing_is_lost() -> None:
    queue = FairQueue(LeastRequest([Endpoint("gpu", max_inflight=2)]))

    def work(tenant: str) -> None:
        for i in range(30):
            with queue.acquire_blocking(tenant=tenant, tokens=10, priority=i % 2, timeout=30) as lease:
                lease.add(1)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, f"t{i % 4}") for i in range(8)]:
            done.result()
    assert len(queue) == len(queue.counter) == 0
    stats = queue.picker.pool.stats()[0]  # type: ignore[attr-defined]
    assert (stats.inflight, stats.load, stats.successes) == (0, 0, 240)
    counters = queue.counter.counters()
    # Lifting may have raised some, and nothing lowers one.
    assert len(counters) == 4
    assert all(value >= 60 * 12 for value in counters.values())
