"""Per-thread handles: what they share with their picker, and what each has for itself."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections import Counter
from typing import Any

import pytest

import aibalance as ab
from aibalance import Endpoint, LeastRequest, Maglev, NoHealthyEndpointError, Pool, RingHash, RoundRobin

SCHEDULES = ["smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy"]
# Name, options: every class, and the options that change what a handle has for itself.
PICKERS: list[tuple[str, dict[str, Any]]] = [
    *[("RoundRobin", {"schedule": schedule}) for schedule in SCHEDULES],
    ("WeightedRandom", {}),
    ("LeastRequest", {}),
    ("LeastRequest", {"full_scan": True, "ties": "rotate"}),
    ("LeastRequest", {"schedule": "edf"}),
    ("LeastConnections", {}),
    ("LeastConnections", {"variant": "haproxy"}),
    ("JoinIdleQueue", {}),
    ("PeakEwma", {}),
    ("First", {}),
    ("RingHash", {"points": 20}),
    ("RingHash", {"ring": "nginx", "points": None}),
    ("Maglev", {"table_size": 251}),
    ("Rendezvous", {}),
    ("JumpHash", {}),
    ("JumpBackHash", {}),
    ("ModuloHash", {}),
]
HASHING = [item for item in PICKERS if "Hash" in item[0] or item[0] in ("Maglev", "Rendezvous")]
every = pytest.mark.parametrize(("name", "options"), PICKERS, ids=str)


def made(pool: Pool, name: str, options: dict[str, Any]) -> Any:
    return getattr(ab, name)(pool, **{k: v for k, v in options.items() if v is not None})


def pool_of(weights: list[float], **options: Any) -> Pool:
    return Pool([Endpoint(f"e{i}", weight=w) for i, w in enumerate(weights)], seed=7, **options)


@every
def test_a_handle_is_of_the_same_class_and_says_what_it_is(name: str, options: dict[str, Any]) -> None:
    picker = made(pool_of([1, 2, 3]), name, options)
    handle = picker.local()
    assert type(handle) is type(picker)
    assert handle.pool is picker.pool
    assert repr(handle) == repr(picker) + ".local()"
    assert repr(picker.local()) == repr(handle), "also one that starts elsewhere"
    copy = pickle.loads(pickle.dumps(handle))
    assert repr(copy) == repr(picker), "pickled, a handle is the picker"


@every
def test_handles_see_what_becomes_of_the_pool(name: str, options: dict[str, Any]) -> None:
    pool = pool_of([1, 1, 1, 1], panic_threshold=0)
    handles = [made(pool, name, options).local() for _ in range(3)]
    keys = [f"k{i}" for i in range(200)]

    def seen() -> list[set[str]]:
        return [{handle.acquire(key).endpoint.id for key in keys} for handle in handles]

    for handle in handles:
        assert handle.pick("k").id in {"e0", "e1", "e2", "e3"}
    pool.drain("e0")
    pool.set_weight("e1", 0)
    assert all(ids and ids <= {"e2", "e3"} for ids in seen())
    pool.update([Endpoint("e3"), Endpoint("new")])
    assert all(ids and ids <= {"e3", "new"} for ids in seen())
    pool.set_health("e3", "unhealthy")
    pool.drain("new")
    with pytest.raises(NoHealthyEndpointError):
        handles[0].pick()
    pool.undrain("new")
    assert seen() == [{"new"}] * 3
    assert all(r.inflight == 0 for r in pool.stats())


@pytest.mark.parametrize(("name", "options"), HASHING, ids=str)
def test_a_key_goes_to_the_same_endpoint_through_every_handle(name: str, options: dict[str, Any]) -> None:
    pool = pool_of([1, 1, 1, 1, 1] if name.startswith("Jump") else [1, 2, 3, 1, 5])
    picker = made(pool, name, options)
    handles = [picker.local(), picker.local().local()]
    keys = [f"key {i}" for i in range(300)]

    def agree() -> None:
        expected = [picker.pick(key).id for key in keys]
        for handle in handles:
            assert [handle.pick(key).id for key in keys] == expected
            assert [e.id for e in handle.pick_many(keys)] == expected

    agree()
    pool.add("e9")
    agree()
    pool.remove("e2")
    pool.set_weight("e1", 1)
    pool.advance()
    agree()


def test_a_table_that_is_rebuilt_later_reaches_the_handles_then() -> None:
    pool = pool_of([1.0] * 2000)
    picker = RingHash(pool, points=200)
    handle = picker.local()
    keys = [f"key {i}" for i in range(2000)]
    before = [e.id for e in handle.pick_many(keys)]
    pool.set_weight("e7", 100)
    assert [e.id for e in handle.pick_many(keys)] == [e.id for e in picker.pick_many(keys)]
    pool.advance()
    after = [handle.pick(key).id for key in keys]
    assert after == [picker.pick(key).id for key in keys]
    assert after.count("e7") > before.count("e7")


def test_requests_in_flight_count_for_all_handles() -> None:
    pool = pool_of([1, 1])
    picker = LeastRequest(pool)
    one, two = picker.local(), picker.local()
    first = one.acquire()
    assert two.pick() != first.endpoint
    assert picker.pick() != first.endpoint
    second = two.acquire()
    assert {first.endpoint.id, second.endpoint.id} == {"e0", "e1"}
    first.release()
    second.release()
    assert [r.successes for r in pool.stats()] == [1, 1]


def test_a_limit_holds_for_all_handles_together() -> None:
    pool = Pool([Endpoint("a", max_inflight=3)])
    picker = RoundRobin(pool)
    handles = [picker.local() for _ in range(4)]
    leases = [h.try_acquire() for h in handles]
    assert [lease is not None for lease in leases] == [True, True, True, False]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_first_handle_takes_turns_as_the_picker_does(schedule: Any) -> None:
    pool = pool_of([5, 1, 2, 3])
    fresh = RoundRobin(pool, schedule=schedule)
    expected = [fresh.pick().id for _ in range(40)]
    picker = RoundRobin(pool, schedule=schedule)
    one, two = picker.local(), picker.local()
    picker.pick_many(3)
    assert [one.pick().id for _ in range(40)] == expected
    assert [two.pick().id for _ in range(40)] != expected, "the second one starts elsewhere"


def test_handles_draw_by_themselves_and_again_under_the_same_seed() -> None:
    def draws() -> list[list[str]]:
        picker = ab.WeightedRandom(pool_of([1.0] * 50))
        return [[h.pick().id for _ in range(20)] for h in (picker, picker.local(), picker.local())]

    first = draws()
    assert first == draws()
    assert first[0] != first[1] != first[2] != first[0]


@pytest.mark.parametrize("handles", [1, 2, 5])
@pytest.mark.parametrize("picks", [1, 7, 100, 1001])
def test_turns_of_several_handles_are_shared_fairly(handles: int, picks: int) -> None:
    pool = pool_of([1.0] * 12)
    picker = RoundRobin(pool)
    counts: Counter[str] = Counter()
    for handle in [picker.local() for _ in range(handles)]:
        counts.update(handle.pick().id for _ in range(picks))
    share = handles * picks / 12
    assert all(abs(counts[f"e{i}"] - share) < handles for i in range(12)), counts


def test_turns_of_several_handles_go_by_weight() -> None:
    pool = pool_of([5, 1, 3, 2])
    picker = RoundRobin(pool)
    counts: Counter[str] = Counter()
    for handle in [picker.local() for _ in range(4)]:
        counts.update(handle.pick().id for _ in range(11 * 6))
    assert [counts[f"e{i}"] for i in range(4)] == [4 * 6 * w for w in (5, 1, 3, 2)], "whole cycles from any start"


def test_a_handle_works_in_another_thread_too() -> None:
    pool = pool_of([1, 1, 1])
    handle = Maglev(pool).local()
    expected = [handle.pick(f"k{i}").id for i in range(50)]
    got: list[list[str]] = []

    def body() -> None:
        for _ in range(3):
            got.append([handle.pick(f"k{i}").id for i in range(50)])
            pool.set_weight("e0", 1)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert got == [expected] * 3
    assert [handle.pick(f"k{i}").id for i in range(50)] == expected


def test_a_handle_holds_its_picker_and_is_forgotten_when_it_goes() -> None:
    picker = Maglev(["a", "b"], seed=1)
    expected = picker.pick("k").id
    handle = picker.local()
    pool, gone = picker.pool, weakref.ref(picker)
    del picker
    gc.collect()
    assert gone() is None
    pool.add("c")
    pool.remove("c")
    assert handle.pick("k").id == expected
    for _ in range(100):
        RoundRobin(pool).local().pick()
    pool.add("d")
    assert handle.pick("k").id in {"a", "b", "d"}
