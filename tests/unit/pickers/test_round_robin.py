"""Round robin: what every schedule promises, and what one of them alone does."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

import aibalance
from aibalance import ConfigError, Endpoint, OverloadedError, Pool, RoundRobin

SCHEDULES = ("smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy")


def pool(*weights: float, limits: tuple[int | None, ...] = ()) -> Pool:
    bounds = limits or (None,) * len(weights)
    names = "abcdefghijkl"
    endpoints = [
        Endpoint(names[i], weight=w, max_inflight=m) for i, (w, m) in enumerate(zip(weights, bounds, strict=True))
    ]
    return Pool(endpoints, panic_threshold=0.0, seed=7)


def turns(picker: Any, n: int) -> str:
    return "".join(picker.pick().id for _ in range(n))


def of(schedule: Any, *weights: float, **options: Any) -> Any:
    return RoundRobin(pool(*weights), schedule=schedule, **options)


ORDERS = {
    "smooth": "aabacaa",
    "edf": "aaaabca",
    "fwrr": "aaabaac",
    "caddy": "aaaabca",
}


@pytest.mark.parametrize("schedule", ORDERS)
def test_the_order_of_each_system(schedule: str) -> None:
    assert turns(of(schedule, 5, 1, 1), 7) == ORDERS[schedule]


def test_orders_of_heap_stride_and_static() -> None:
    assert turns(of("heap", 11, 3), 14) == "AAABAAAABAAABA".lower()
    assert turns(of("stride", 1, 2, 3), 12) == "bccabc" * 2
    assert turns(of("static-rr", 3, 1), 8) == turns(of("static-rr", 9, 3), 8)
    assert turns(of("caddy", 1, 1, 1), 4) == "bcab"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("weights", [(5, 1, 1), (1, 1, 1), (4, 3, 2, 1), (0.5, 1.5), (1000, 10), (7,)])
def test_shares_follow_weights(schedule: str, weights: tuple[float, ...]) -> None:
    n = 20_000
    counts = Counter(turns(of(schedule, *weights), n))
    for name, weight in zip("abcd", weights, strict=False):
        share = n * weight / sum(weights)
        # gRPC holds weights to within a hundredth of the mean and ten times it, Caddy's blocks are long.
        assert counts[name] == pytest.approx(share, abs=max(n * 0.012, 1100 if schedule == "caddy" else 0))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weight_zero_and_excluded_get_nothing(schedule: str) -> None:
    picker = of(schedule, 3, 0, 1)
    assert "b" not in turns(picker, 40)
    assert {picker.acquire(exclude=["a"]).endpoint.id for _ in range(20)} == {"c"}
    assert {picker.acquire(subset=["a"]).endpoint.id for _ in range(20)} == {"a"}
    assert [e.id for e in picker.ranked(k=9)] in (["a", "c"], ["c", "a"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_full_ones_are_skipped_and_come_back(schedule: str) -> None:
    picker = RoundRobin(pool(5, 1, limits=(2, 3)), schedule=schedule)  # type: ignore[arg-type]
    leases = [picker.acquire() for _ in range(5)]
    assert Counter(lease.endpoint.id for lease in leases) == {"a": 2, "b": 3}
    with pytest.raises(OverloadedError):
        picker.pick()
    assert picker.try_acquire() is None
    for lease in leases:
        lease.release()
    assert set(turns(picker, 30)) == {"a", "b"}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_change_keeps_the_turns_of_those_that_stay(schedule: str) -> None:
    changed, same = of(schedule, 1, 1, 1, 1), of(schedule, 1, 1, 1, 1)
    assert turns(changed, 2) == turns(same, 2)
    changed.pool.set_health("a", "unhealthy")
    changed.pool.set_health("a", "healthy")
    changed.pool.add(Endpoint("z"))
    changed.pool.remove("z")
    n = 4000
    assert Counter(turns(changed, n)) == pytest.approx(Counter(turns(same, n)), abs=2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_empty_rank_and_backups(schedule: str) -> None:
    both = Pool([Endpoint("a"), Endpoint("b", backup=True)], panic_threshold=0.0)
    picker = RoundRobin(both, schedule=schedule)  # type: ignore[arg-type]
    assert turns(picker, 5) == "aaaaa"
    both.set_health("a", "unhealthy")
    assert turns(picker, 5) == "bbbbb"
    both.set_health("b", "unhealthy")
    with pytest.raises(aibalance.NoHealthyEndpointError):
        picker.pick()
    both.set_health("a", "healthy")
    assert turns(picker, 5) == "aaaaa"
    both.update([])
    with pytest.raises(aibalance.NoEndpointsError):
        picker.pick()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_starts(schedule: str) -> None:
    late = of(schedule, 4, 2, 1, start=5)
    walked = turns(of(schedule, 4, 2, 1), 12)
    if schedule == "stride":  # the start is a place in its sequence, of which not every one is a pick
        assert turns(late, 7) in walked
    else:
        assert turns(late, 7) == walked[5:]
    firsts = {
        turns(RoundRobin(Pool([*"abcdefgh"], seed=seed), schedule=schedule, start="random"), 1)  # type: ignore[arg-type]
        for seed in range(40)
    }
    assert len(firsts) > 4
    again = pickle.loads(pickle.dumps(of(schedule, 4, 2, 1, start=5)))
    assert repr(again) == repr(late)
    assert f"schedule='{schedule}', start=5" in repr(again)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_many_are_as_one_by_one(schedule: str) -> None:
    weights = (5, 1, 3)
    many = of(schedule, *weights).pick_many(50)
    assert "".join(e.id for e in many) == turns(of(schedule, *weights), 50)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match='schedule: "fair" is not allowed; one of "smooth", "edf"'):
        RoundRobin(["a"], schedule="fair")  # type: ignore[arg-type]
    for schedule in ("heap", "fwrr"):
        with pytest.raises(ConfigError, match="start: 1000001 is not allowed; a whole number from 0 to 1000000"):
            of(schedule, 1, start=1_000_001)
    with pytest.raises(ConfigError, match="start"):
        of("edf", 1, start=-1)


def test_haproxy_takes_a_new_weight_while_it_runs() -> None:
    picker = of("fwrr", 10, 20, 30, 40)
    turns(picker, 33)
    picker.pool.set_weight("d", 10)
    n = 16 * 70
    counts = Counter(turns(picker, 20 * n))
    for name, weight in zip("abcd", (10, 20, 30, 10), strict=True):
        assert counts[name] == pytest.approx(20 * n * weight / 70, rel=0.01)


def test_envoy_reads_a_new_weight_when_a_turn_comes() -> None:
    picker = of("edf", 1, 2)
    turns(picker, 30)
    picker.pool.set_weight("a", 8)
    assert Counter(turns(picker, 1000))["a"] == pytest.approx(800, abs=2)


def test_caddys_missing_give_their_turns_to_a_neighbour() -> None:
    picker = RoundRobin(pool(5, 1, 1, limits=(1, None, None)), schedule="caddy")
    with picker.acquire(subset=["a"]):
        assert turns(picker, 7).count("a") == 0
