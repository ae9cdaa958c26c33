"""Pickers that compare everybody, look for somebody idle, or draw by weight."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    JoinIdleQueue,
    LeastRequest,
    Maglev,
    ManualClock,
    NoHealthyEndpointError,
    OverloadedError,
    Pool,
    RingHash,
    WeightedRandom,
)


def loads(pool: Pool) -> dict[str, float]:
    return {s.id: s.load for s in pool.stats()}


@pytest.mark.parametrize("ties", ["first", "last", "rotate", "heaviest", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_full_scan_finds_the_least_whatever_changed_the_load(ties: Any, weighted: bool) -> None:
    chance = random.Random(5)
    weight = {f"e{i}": chance.choice([1, 2, 3]) if weighted else 1 for i in range(70)}
    pool = Pool([Endpoint(i, weight=w) for i, w in weight.items()], seed=3)
    # Two of them on one pool: neither hides a change from the other.
    pickers = [LeastRequest(pool, full_scan=True, ties=ties) for _ in range(2)]
    other = LeastRequest(pool)
    held: list[Any] = []
    order = list(weight)
    for step in range(1500):
        least = min((load + 1) / weight[i] for i, load in loads(pool).items())
        best = [i for i, load in loads(pool).items() if (load + 1) / weight[i] == least]
        got = pickers[step % 2].pick().id
        assert got in best
        if ties == "first":
            assert got == best[0]
        elif ties == "last":
            assert got == best[-1]
        elif ties == "heaviest":
            assert got == max(best, key=lambda i: (weight[i], -order.index(i)))
        what = chance.randrange(7)
        if what < 3 or not held:
            held.append([*pickers, other][what % 3].acquire(cost=chance.choice([1, 1, 2, 0.5])))
        elif what < 5:
            held.pop(chance.randrange(len(held))).release()
        elif what == 5:
            held[-1].add(chance.choice([1.0, 3.0]))
        else:
            pool.observe(chance.choice(order), inflight=chance.choice([0, 2, 40]))


def test_ties_rotate_over_all_and_go_on_after_a_change() -> None:
    picker = LeastRequest([f"e{i}" for i in range(40)], full_scan=True, ties="rotate", seed=1)
    assert [picker.pick().id for _ in range(45)] == [f"e{i % 40}" for i in range(45)]
    picker.pool.remove("e2")
    assert [picker.pick().id for _ in range(3)] == ["e6", "e7", "e8"]


def test_a_full_scan_leaves_out_the_full_and_comes_back_to_them() -> None:
    items = [Endpoint(f"e{i}", max_inflight=1 + i % 2) for i in range(20)]
    picker = LeastRequest(items, full_scan=True, seed=1)
    leases = [picker.acquire() for _ in range(30)]
    assert Counter(lease.endpoint.id for lease in leases) == {f"e{i}": 1 + i % 2 for i in range(20)}
    with pytest.raises(OverloadedError):
        picker.pick()
    leases[11].release()
    assert picker.pick() == leases[11].endpoint
    picker.pool.drain(leases[11].endpoint.id)
    with pytest.raises((OverloadedError, NoHealthyEndpointError)):
        picker.pick()


def test_a_random_tie_is_each_as_likely() -> None:
    picker = LeastRequest([f"e{i}" for i in range(48)], full_scan=True, seed=9)
    _held = [picker.acquire() for _ in range(16)]
    counts = Counter(picker.pick_many(32_000).indices.tolist())
    assert len(counts) == 32
    # 4 standard errors of a binomial share of 1/32.
    assert all(abs(count - 1000) < 4 * (1000 * 31 / 32) ** 0.5 for count in counts.values())


def test_weighted_random_goes_by_weight_and_nothing_else() -> None:
    picker = WeightedRandom([Endpoint("a", weight=1), Endpoint("b", weight=2), Endpoint("c", weight=5)], seed=4)
    _busy = [picker.acquire(subset=["c"]) for _ in range(100)]
    counts = Counter(e.id for e in picker.pick_many(40_000))
    for i, p in (("a", 0.125), ("b", 0.25), ("c", 0.625)):
        assert abs(counts[i] - 40_000 * p) < 4 * (40_000 * p * (1 - p)) ** 0.5
    # Without c the others share as they do with it.
    without = Counter(e.id for e in (picker.ranked(k=1, exclude=["c"])[0] for _ in range(9000)))
    assert abs(without["a"] - 3000) < 4 * (9000 * 2 / 9) ** 0.5
    assert without["c"] == 0
    one, many = (WeightedRandom(Pool(picker.pool.endpoints, seed=4)) for _ in range(2))
    assert [one.pick() for _ in range(50)] == list(many.pick_many(50))
    with pytest.raises(ConfigError, match=r"ring.*haproxy"):
        WeightedRandom(["a"], ring="envoy")  # type: ignore[arg-type]


def test_join_idle_queue_prefers_the_idle_then_takes_two_choices() -> None:
    clock = ManualClock(0.0)
    picker = JoinIdleQueue([Endpoint(f"e{i}", weight=1 + i % 3) for i in range(60)], seed=2, clock=clock)
    first = [picker.acquire() for _ in range(60)]
    assert len({lease.endpoint.id for lease in first}) == 60
    more = [picker.acquire() for _ in range(60)]
    stats = picker.pool.stats()
    assert max(s.inflight for s in stats) <= 5
    mine = [lease for lease in first + more if lease.endpoint.id == "e31"]
    for lease in mine:
        lease.release()
    assert {picker.pick().id for _ in range(10)} == {"e31"}
    # A report of load makes it busy, and the report's end makes it idle again.
    picker.pool.observe("e31", inflight=3)
    assert len({picker.pick().id for _ in range(40)}) > 1
    clock.advance(11.0)
    assert {picker.pick().id for _ in range(10)} == {"e31"}


def test_join_idle_queue_with_limits_and_filters() -> None:
    picker = JoinIdleQueue([Endpoint(x, max_inflight=1) for x in "abc"], seed=1)
    leases = [picker.acquire() for _ in range(3)]
    with pytest.raises(OverloadedError):
        picker.pick()
    leases[0].release()
    assert picker.pick() == leases[0].endpoint
    assert picker.try_acquire(exclude=[leases[0].endpoint]) is None
    assert [e.id for e in picker.ranked(k=3)] == [leases[0].endpoint.id]


@pytest.mark.parametrize("kind", [Maglev, RingHash])
def test_keys_in_bulk_are_picks_one_by_one_whoever_is_left_out(kind: Any) -> None:
    items = [Endpoint(f"e{i}", max_inflight=1, backup=i > 30) for i in range(40)]
    picker = kind(items)
    keys = [f"key {i}" for i in range(300)]
    hashes = np.random.default_rng(1).integers(0, 2**63, 70_000, dtype=np.uint64)

    def same() -> None:
        assert [e.id for e in picker.pick_many(keys)] == [picker.pick(key).id for key in keys]
        whole = picker.pick_many(hashes, hashed=True)
        assert (picker.pick_many(hashes[::-1], hashed=True).indices[::-1] == whole.indices).all()
        assert (picker.pick_many(hashes[:100].tolist(), hashed=True).indices == whole.indices[:100]).all()

    same()
    _busy = picker.acquire("key 1")
    same()
    picker.pool.drain("e7")
    same()
    _more = [picker.acquire(subset=[f"e{i}"]) for i in range(31) if picker.pool.stats()[i].eligible]
    assert {e.id for e in picker.pick_many(keys)} <= {f"e{i}" for i in range(31, 40)}
    same()


def test_a_list_of_keys_that_changes_while_it_is_read() -> None:
    picker = Maglev(["a", "b"])
    keys: list[Any] = []

    class Odd:
        def __index__(self) -> int:
            keys.clear()
            return 1

    keys.extend(["x", Odd(), "y", "z"])
    assert len(picker.pick_many(keys)) == 2

    class Growing:
        def __index__(self) -> int:
            keys.append(self)
            return 1

    keys[:] = [Growing(), "x"]
    assert len(picker.pick_many(keys)) == 2


def test_ties_of_the_last_drawn_go_to_the_second_and_need_draws() -> None:
    endpoints: list[Any] = [Endpoint("a", weight=5), "b", "c"]
    # First by weight, second by weight among the others: with the second winning, the heavy one gets less.
    ties: Any
    for ties, share in (("last_drawn", 2 / 7 * (5 / 6)), ("random", 5 / 7)):
        picks = Counter(e.id for e in LeastRequest(endpoints, score="before", ties=ties, seed=1).pick_many(20_000))
        assert picks["a"] / 20_000 == pytest.approx(share, abs=0.015)
    three = Counter(
        e.id for e in LeastRequest(endpoints, choices=3, score="before", ties="last_drawn", seed=1).pick_many(7000)
    )
    assert three["a"] < three["b"]
    with pytest.raises(ConfigError, match=r"ties.*full_scan"):
        LeastRequest(["a"], full_scan=True, ties="last_drawn")
