"""Which leases to close."""

from __future__ import annotations

from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, LeaseMove, ManualClock, Pool, RoundRobin


def test_new_endpoints_get_their_share_when_what_is_named_is_closed() -> None:
    clock = ManualClock(1.0)
    pool = Pool(["a", "b"], clock=clock)
    picker = RoundRobin(pool)
    for _ in range(8):
        picker.acquire().detach()
        clock.advance(1.0)
    assert pool.rebalance(100) == []
    pool.add(Endpoint("c", weight=2))
    moves = pool.rebalance(100)
    assert [m.target.id for m in moves] == ["c"] * 4
    assert sorted(m.source.id for m in moves) == ["a", "a", "b", "b"]
    assert pool.rebalance(1) == moves[:1]
    assert pool.rebalance(0) == []
    for move in moves:
        pool.release(move.lease_id)
        picker.acquire(subset=[move.target]).detach()
    assert [s.inflight for s in pool.stats()] == [2, 2, 4]
    assert pool.rebalance(100) == []


def test_young_leases_stay() -> None:
    clock = ManualClock(1.0)
    pool = Pool(["a"], clock=clock)
    old = RoundRobin(pool).acquire().detach()
    clock.advance(60)
    for _ in range(3):
        RoundRobin(pool).acquire().detach()
    pool.add("b")
    assert pool.rebalance(10, min_age=60) == [LeaseMove(old, *pool.endpoints)]
    assert len(pool.rebalance(10)) == 2
    assert len(pool.rebalance(10, min_age=10, now=100.0)) == 2


@pytest.mark.parametrize(("most", "options"), [(-1, {}), (1.5, {}), (1, {"min_age": -1.0}), (1, {"now": -1.0})])
def test_numbers_that_cannot_be_are_refused(most: Any, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Pool(["a"]).rebalance(most, **options)
