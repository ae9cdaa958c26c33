"""One pool for several processes: what one does the others see."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from aibalance import (
    CircuitBreaker,
    ConfigError,
    Endpoint,
    Latency,
    LeastConnections,
    LeastRequest,
    Maglev,
    ManualClock,
    MaxFails,
    OutlierDetection,
    PeakEwma,
    Pool,
    PrefixAware,
    RoundRobin,
    SharedMemory,
    SlowStart,
)
from tests.processes.peer import Peer

Start = Callable[[], Peer]


def inflight(pool: Pool) -> list[int]:
    return [stats.inflight for stats in pool.stats()]


def test_requests_in_flight_are_those_of_all_processes(name: str, peer: Start) -> None:
    pool = Pool(["a", "b", "c"], shared=name)
    other, picker = peer(), LeastConnections(pool)
    assert sorted(other("take(2)")) == sorted(set(other("[lease.endpoint.id for lease in held]")))
    third = picker.acquire()
    assert sorted([third.endpoint.id, *other("[lease.endpoint.id for lease in held]")]) == ["a", "b", "c"]
    assert inflight(pool) == [1, 1, 1] == other("[s.inflight for s in pool.stats()]")
    third.release("failure")
    other("give()")
    assert inflight(pool) == [0, 0, 0]
    assert other("sum(s.failures for s in pool.stats())") == 1
    assert sum(stats.successes for stats in pool.stats()) == 2


def test_a_limit_is_one_for_all(name: str, peer: Start) -> None:
    pool = Pool([Endpoint("a", max_inflight=2)], shared=name)
    other, picker = peer(), LeastRequest(pool)
    assert other("take(2)") == ["a", "a"]
    assert picker.try_acquire() is None
    other("give()")
    lease = picker.acquire()
    assert inflight(pool) == [1]
    lease.release()


@pytest.mark.parametrize("schedule", ["smooth", "edf", "stride", "fwrr", "static-rr", "caddy"])
def test_round_robin_has_one_rotation(name: str, peer: Start, schedule: str) -> None:
    endpoints = [Endpoint("a", weight=3), Endpoint("b", weight=2), Endpoint("c", weight=1)]
    pool = Pool(endpoints, shared=name)
    other, picker = peer(), RoundRobin(pool, schedule=schedule)  # type: ignore[arg-type]
    other(f"globals().__setitem__('rr', aibalance.RoundRobin(pool, schedule={schedule!r}))")
    together = []
    for _ in range(12):
        together += [picker.pick().id, other("rr.pick().id"), other("rr.pick().id")]
    alone = RoundRobin(Pool(endpoints), schedule=schedule)  # type: ignore[arg-type]
    assert together == [alone.pick().id for _ in range(36)]


def test_a_rotation_without_a_period_repeats_its_first_round(name: str, peer: Start) -> None:
    endpoints = [Endpoint("a", weight=3), Endpoint("b", weight=2), Endpoint("c", weight=1)]
    picker, other = RoundRobin(Pool(endpoints, shared=name), schedule="heap"), peer()
    other("globals().__setitem__('rr', aibalance.RoundRobin(pool, schedule='heap'))")
    alone = RoundRobin(Pool(endpoints), schedule="heap")
    first = [alone.pick().id for _ in range(6)]
    assert [picker.pick().id, *other("[rr.pick().id for _ in range(11)]")] == first * 2


def test_a_round_too_long_for_a_table_keeps_the_shares(name: str, peer: Start) -> None:
    pool = Pool([Endpoint("a", weight=0.123457), Endpoint("b", weight=0.876543)], shared=name)
    other, picker = peer(), RoundRobin(pool)
    counts = Counter(other("[rr.pick().id for _ in range(500)]"))
    counts.update(picker.pick().id for _ in range(500))
    assert abs(counts["a"] - 123) <= 2


def test_who_cannot_be_had_loses_the_turn(name: str, peer: Start) -> None:
    pool = Pool(["a", "b", "c"], shared=name)
    other, picker = peer(), RoundRobin(pool)
    pool.set_health("b", "unhealthy")
    assert [picker.pick().id for _ in range(4)] == ["a", "c", "a", "c"]
    assert other("[rr.pick().id for _ in range(2)]") == ["a", "c"]
    lease = picker.acquire(exclude=["a"])
    assert lease.endpoint.id == "c"
    lease.release()


def test_to_explain_moves_nothing(name: str) -> None:
    picker = RoundRobin(Pool(["a", "b", "c"], shared=name))
    foretold = [explanation.endpoint.id for explanation in picker.explain()]
    assert [explanation.endpoint.id for explanation in picker.explain()] == foretold
    assert picker.pick().id == foretold[0] == "a"
    assert repr(picker.local()).endswith(".local()")
    assert [e.id for e in picker.pick_many(3)] == ["b", "c", "a"]
    assert [e.id for e in picker.ranked(k=2)] == ["b", "c"]


@pytest.mark.parametrize("make", [LeastRequest, PeakEwma, LeastConnections, Maglev, RoundRobin])
def test_every_picker_counts_and_gives_back(name: str, make: type[LeastRequest]) -> None:
    pool = Pool([f"e{i}" for i in range(20)], shared=name)
    picker = make(pool)
    leases = [picker.acquire(f"key {i}") for i in range(60)]
    assert sum(inflight(pool)) == 60
    for lease in leases:
        lease.release()
    assert inflight(pool) == [0] * 20
    assert picker.pick("key") in pool.endpoints


def test_changes_are_seen_at_the_next_pick(name: str, peer: Start) -> None:
    pool = Pool(["a", "b"], shared=name)
    other, picker = peer(), RoundRobin(pool)
    pool.add(Endpoint("c", id="third", weight=2, zone="z", priority=0, max_inflight=7, hash_key=5, tags={"x": [1]}))
    assert other("[e.id for e in pool.endpoints]") == ["a", "b", "third"]
    fields = "(lambda e: (e.address, e.weight, e.zone, e.max_inflight, e.hash_key, e.tags))"
    assert other(f"{fields}(pool.endpoints[2])") == ("c", 2.0, "z", 7, 5, {"x": [1]})
    other("pool.remove('a'), pool.set_weight('b', 3)")
    assert {picker.pick().id for _ in range(9)} == {"b", "third"}
    assert [e.weight for e in pool.endpoints] == [3, 2]
    other("pool.drain('b')")
    assert {picker.pick().id for _ in range(9)} == {"third"}
    assert pool.is_drained("b")
    pool.undrain("b")
    pool.update(["b", "n"])
    assert sorted(other("{rr.pick().id for _ in range(9)}")) == ["b", "n"]
    assert "no such" in other("pool.remove('no such')")
    assert [e.id for e in pool.endpoints] == ["b", "n"]


def test_objects_of_endpoints_that_stay_stay(name: str, peer: Start) -> None:
    pool = Pool(["a", "b"], shared=name)
    other, before = peer(), pool.endpoints
    other("pool.add('c')")
    assert pool.endpoints[:2] == before
    assert all(now is then for now, then in zip(pool.endpoints, before, strict=False))


def test_two_writers_lose_nothing(name: str, peer: Start) -> None:
    pool = Pool(["a"], shared=name)
    one, two = peer(), peer()
    for who, of in ((one, "one"), (two, "two")):
        who.tell(f"[pool.add(f'{of}-{{i}}') for i in range(20)] and None")
    for i in range(20):
        pool.add(f"here-{i}")
    assert one.answer_text() == two.answer_text() == "None"
    assert len(pool) == 61 == one("len(pool)") == two("len(pool)")


def test_a_slot_waits_for_the_leases_of_its_old_endpoint(name: str, peer: Start) -> None:
    pool = Pool([f"e{i}" for i in range(16)], shared=SharedMemory(name, max_endpoints=16))
    other = peer()
    picker = LeastConnections(pool)
    lease = picker.acquire(subset=["e0"])
    with pytest.raises(ConfigError, match="at most 16"):
        pool.add("more")
    assert len(pool) == 16 == other("len(pool)")
    pool.remove("e0")
    with pytest.raises(ConfigError, match="wait"):
        pool.add("more")
    assert "at most 16" in other("pool.add('more')")
    lease.release()
    other("pool.add('more')")
    assert pool.endpoints[-1].id == "more"
    assert inflight(pool) == [0] * 16
    assert pool.stats()[-1].picks == 0


# From 3.12 on CPython warns of a fork beside threads, such as those of numpy's; of ours a fork waits for all.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@forks
def test_a_fork_is_a_process_of_its_own(name: str) -> None:
    pool = Pool(["a", "b"], shared=name, clock=None)
    picker = LeastConnections(pool)
    mine = picker.acquire()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover - another process
        try:
            mine.release()
            own = picker.acquire()
            pool.add("c")
            os.write(write, f"{own.endpoint.id} {inflight(pool)}".encode())
        finally:
            os._exit(0)
    os.close(write)
    told = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(pid, 0)
    other = {"a": "b", "b": "a"}[mine.endpoint.id]
    assert told == f"{other} [1, 1, 0]"
    pool.advance()
    assert [e.id for e in pool.endpoints] == ["a", "b", "c"]
    assert sum(inflight(pool)) == 1, "the child's is taken back, and the parent's was not the child's to give"
    mine.release()
    assert inflight(pool) == [0, 0, 0]


def test_it_travels_by_name(name: str, peer: Start) -> None:
    pool = Pool(["a"], shared=name, panic_threshold=0.3)
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.shared == name
    lease = LeastRequest(copy).acquire()
    assert inflight(pool) == [1]
    lease.release()
    code = "import pickle, sys; pool = pickle.loads(sys.stdin.buffer.read()); pool.add('b'); print(pool)"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(pool), capture_output=True, check=True)
    assert done.stdout.decode().strip() == f'<Pool of 2, shared as "{name}">' == repr(pool)


def takes_one(pool: Pool, told: Connection) -> None:
    lease = LeastConnections(pool).acquire()
    told.send((lease.endpoint.id, inflight(pool)))
    told.recv()
    os._exit(0)


@forks
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_however_a_process_is_started_it_has_the_same_pool(name: str, method: str) -> None:
    pool = Pool(["a", "b"], shared=name)
    mine = LeastConnections(pool).acquire()
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    process = context.Process(target=takes_one, args=(pool, there))  # type: ignore[attr-defined]
    process.start()
    assert here.recv() == ({"a": "b", "b": "a"}[mine.endpoint.id], [1, 1])
    assert inflight(pool) == [1, 1]
    here.send(None)
    process.join()
    assert process.exitcode == 0
    pool.advance()
    assert sum(inflight(pool)) == 1
    mine.release()
    assert inflight(pool) == [0, 0]
    here.close()
    there.close()


def test_others_give_the_same_options_and_find_the_endpoints(name: str) -> None:
    first = Pool(["a", "b"], shared=name, slow_start=SlowStart(5), latency=Latency(decay=3), lease_timeout=9)
    second = Pool(["x"], shared=name, slow_start=SlowStart(5), latency=Latency(decay=3), lease_timeout=9)
    assert [e.id for e in second.endpoints] == ["a", "b"]
    with pytest.raises(ConfigError, match="options"):
        Pool(["a", "b"], shared=name)
    opened = Pool.open(name)
    assert opened.endpoints == first.endpoints
    assert opened.__getnewargs_ex__()[1]["lease_timeout"] == 9
    assert pickle.loads(pickle.dumps(opened)).endpoints == first.endpoints


def test_memory_that_nobody_is_in_is_made_anew(name: str) -> None:
    pool = Pool(["a", "b"], shared=name)
    del pool
    with pytest.raises(ConfigError, match="nobody"):
        Pool.open(name)
    assert [e.id for e in Pool(["c"], shared=name).endpoints] == ["c"]


def test_given_up_memory_goes_on_for_those_who_have_it(name: str, peer: Start) -> None:
    pool = Pool(["a", "b"], shared=name)
    other = peer()
    Pool.unlink(name)
    with pytest.raises(ConfigError, match="there is none"):
        Pool.unlink(name)
    with pytest.raises(ConfigError, match="there is none"):
        Pool.open(name)
    pool.add("c")
    assert other("len(pool)") == 3
    assert len(Pool(["x"], shared=name)) == 1


@pytest.mark.parametrize("bad", ["", ".hidden", "a/b", "x" * 101, "ü", 5, b"x"])
def test_what_is_no_name_is_refused(bad: object) -> None:
    with pytest.raises(ConfigError, match="shared"):
        Pool(["a"], shared=bad)  # type: ignore[arg-type]


def test_who_fails_is_out_for_all_and_comes_back_for_all(name: str, peer: Start) -> None:
    clock = ManualClock(0.0)
    passive = OutlierDetection(consecutive_5xx=4, max_ejection_percent=50, base_ejection_time=30)
    pool = Pool(["a", "b"], shared=name, passive=passive, clock=clock)
    other = peer()
    other(
        "globals().update(clock=aibalance.ManualClock(0.0)) or globals().update(pool=aibalance.Pool.open(sys.argv[1],"
        " clock=clock)) or globals().update(rr=aibalance.RoundRobin(pool))"
    )
    picker = RoundRobin(pool)
    for _ in range(2):
        picker.acquire(subset=["a"]).release("failure", status=500)
        other("rr.acquire(subset=['a']).release('failure', status=500)")
    assert {picker.pick().id for _ in range(6)} == {"b"} == set(other("[rr.pick().id for _ in range(6)]"))
    assert other("pool.stats()[0].ejections") == 1 == pool.stats()[0].ejections
    assert other("pool.stats()[0].ejected_until") == pool.stats()[0].ejected_until
    clock.advance(60)
    assert {picker.pick().id for _ in range(6)} == {"a", "b"} == set(other("[rr.pick().id for _ in range(6)]"))
    assert other("pool.stats()[0].ejected_until") is None


def test_a_breaker_and_max_fails_are_those_of_all(name: str, peer: Start) -> None:
    pool = Pool(
        ["a", "b", Endpoint("c", passive=MaxFails(max_fails=2, fail_timeout=10))],
        shared=name,
        circuit_breaker=CircuitBreaker(failures=3),
        panic_threshold=0.0,
    )
    other, picker = peer(), RoundRobin(pool)
    assert other("(lambda p: (p.max_fails, p.fail_timeout))(pool.endpoints[2].passive)") == (2, 10)
    for _ in range(2):
        picker.acquire(subset=["a"]).release("failure")
        other("rr.acquire(subset=['a']).release('failure')")
    assert pool.stats()[0].breaker == "open" == other("pool.stats()[0].breaker")
    other("rr.acquire(subset=['c']).release('failure')")
    picker.acquire(subset=["c"]).release("failure")
    assert {picker.pick().id for _ in range(6)} == {"b"} == set(other("[rr.pick().id for _ in range(6)]"))


def test_what_is_not_to_be_had_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="data"):
        Pool([Endpoint("a", data=object())], shared=name)
    with pytest.raises(ConfigError, match="tags"):
        Pool([Endpoint("a", tags={"x": object()})], shared=name)
    pool = Pool(["a"], shared=name)
    with pytest.raises(ConfigError, match="data"):
        pool.update([Endpoint("a", data=1)])
    with pytest.raises(ConfigError, match="shared pool"):
        PrefixAware(pool)
    for sizes in ({"max_endpoints": 8}, {"max_endpoints": 5000}, {"max_processes": 0}):
        with pytest.raises(ConfigError, match=next(iter(sizes))):
            SharedMemory(name, **sizes)


def test_no_more_processes_than_there_is_room_for(name: str) -> None:
    pools = [Pool(["a"], shared=SharedMemory(name, max_processes=2)) for _ in range(2)]
    with pytest.raises(ConfigError, match="at most 2 processes"):
        Pool.open(name)
    pools.pop()
    assert len(Pool.open(name)) == 1


def test_a_change_that_is_refused_shows_what_others_have_changed(name: str, peer: Start) -> None:
    pool = Pool(["a"], shared=name)
    peer()("pool.add('b')")
    with pytest.raises(ConfigError, match="b"):
        pool.add("b")
    assert [e.id for e in pool.endpoints] == ["a", "b"]
