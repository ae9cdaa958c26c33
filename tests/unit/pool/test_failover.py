"""Priorities, backups, zones and slow start, as a pool's pickers see them."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

import aibalance
from aibalance import ConfigError, Endpoint, ManualClock, Pool, SlowStart

PICKERS: list[Any] = [aibalance.RoundRobin, aibalance.LeastRequest, aibalance.Maglev, aibalance.Rendezvous]


def levels(*sizes: int, **options: Any) -> Pool:
    endpoints = [Endpoint(f"{p}/{i}", priority=p) for p, size in enumerate(sizes) for i in range(size)]
    return Pool(endpoints, seed=1, **options)


def priorities(picker: Any, n: int = 6000) -> dict[str, float]:
    counts = Counter(picker.pick(f"key {i}").id.split("/")[0] for i in range(n))
    return {priority: count / n for priority, count in sorted(counts.items())}


@pytest.mark.parametrize("kind", PICKERS)
def test_a_priority_that_is_half_gone_sends_what_it_cannot_carry_to_the_next(kind: Any) -> None:
    pool = levels(4, 4)
    picker = kind(pool)
    assert priorities(picker, 400) == {"0": 1.0}
    pool.set_health("0/0", "unhealthy")
    assert priorities(picker, 400) == {"0": 1.0}, "three of four carry 105 %"
    pool.set_health("0/1", "unhealthy")
    assert priorities(picker) == pytest.approx({"0": 0.7, "1": 0.3}, abs=0.03)
    many = picker.pick_many([f"key {i}" for i in range(6000)] if kind in PICKERS[2:] else 6000)
    share = sum(pool.endpoints[i].priority == 0 for i in many.indices) / 6000
    assert share == pytest.approx(0.7, abs=0.03)
    assert {e.priority for e in picker.ranked("key", k=9)} == {0, 1}
    for i in range(2, 4):
        pool.set_health(f"0/{i}", "unhealthy")
    assert priorities(picker, 400) == {"1": 1.0}


def test_the_factor_says_when_the_next_priority_is_asked() -> None:
    pool = levels(4, 4, overprovisioning_factor=1.0)
    pool.set_health("0/0", "unhealthy")
    assert priorities(aibalance.RoundRobin(pool)) == pytest.approx({"0": 0.75, "1": 0.25}, abs=0.03)


def test_without_overflow_a_priority_is_used_to_the_last() -> None:
    pool = levels(4, 4, failover="backup")
    for i in range(3):
        pool.set_health(f"0/{i}", "unhealthy")
    picker = aibalance.RoundRobin(pool)
    assert priorities(picker, 100) == {"0": 1.0}
    pool.set_health("0/3", "unhealthy")
    assert priorities(picker, 100) == {"1": 1.0}


def test_of_haproxys_backups_one_at_a_time_is_used() -> None:
    endpoints = ["a", Endpoint("b", backup=True), Endpoint("c", backup=True, max_inflight=1)]
    for failover, expected in (("first_backup", {"b"}), ("backup", {"b", "c"})):
        pool = Pool(endpoints, failover=failover, panic_threshold=0)
        pool.set_health("a", "unhealthy")
        picker = aibalance.RoundRobin(pool)
        assert {picker.pick().id for _ in range(10)} == expected
        pool.set_health("b", "unhealthy")
        assert picker.pick().id == "c"


def test_a_tier_that_is_full_is_helped_out_by_the_others() -> None:
    endpoints = [Endpoint("a", max_inflight=1), Endpoint("b", priority=1, max_inflight=1), Endpoint("c", backup=True)]
    pool = Pool(endpoints, panic_threshold=0)
    pool.set_health("b", "degraded")
    picker = aibalance.RoundRobin(pool)
    leases = [picker.acquire() for _ in range(3)]
    assert [lease.endpoint.id for lease in leases] == ["a", "b", "c"]


def test_zone_weights_share_by_turns_and_by_key() -> None:
    endpoints = [Endpoint(f"{zone}{i}", zone=zone) for zone in "abc" for i in range(2)]
    pool = Pool(endpoints, zone_weights={"a": 3, "b": 1}, seed=1)
    picker = aibalance.RoundRobin(pool)
    turns = Counter(picker.pick().id for _ in range(800))
    assert turns == {"a0": 300, "a1": 300, "b0": 100, "b1": 100}
    keys = aibalance.Rendezvous(pool).pick_many([f"key {i}" for i in range(8000)])
    zones = Counter(endpoints[i].zone for i in keys.indices)
    assert zones["a"] / 8000 == pytest.approx(0.75, abs=0.03)
    assert zones["c"] == 0
    assert [round(s.share, 3) for s in pool.stats()] == [0.375, 0.375, 0.125, 0.125, 0, 0]
    pool.set_health("a0", "unhealthy")
    left = Counter(picker.pick().zone for _ in range(3100))
    assert left["a"] / 3100 == pytest.approx(3 * 0.7 / (3 * 0.7 + 1), abs=0.01)


def test_the_own_zone_comes_first_and_the_rest_spills() -> None:
    endpoints = [Endpoint("a", zone="a"), *(Endpoint(f"b{i}", zone="b") for i in range(2))]
    picker = aibalance.RoundRobin(Pool(endpoints, local_zone="a", seed=1))
    zones = Counter(picker.pick().zone for _ in range(6000))
    assert zones["a"] / 6000 == pytest.approx(2 / 3, abs=0.03)
    pool = Pool(endpoints, local_zone="a", zone_weights={"a": 1, "b": 3}, seed=1)
    picker = aibalance.RoundRobin(pool)
    assert {picker.pick().zone for _ in range(100)} == {"a"}, "few callers here"
    pool.set_health("a", "unhealthy")
    assert {picker.pick().zone for _ in range(100)} == {"b"}


def test_a_new_endpoint_starts_slowly_and_those_of_the_beginning_do_not() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b"], slow_start=SlowStart(10), clock=clock, seed=1)
    picker = aibalance.RoundRobin(pool)
    assert [s.effective_weight for s in pool.stats()] == [1, 1]
    pool.add("c")
    seen = []
    for _ in range(11):
        seen.append(round(Counter(picker.pick().id for _ in range(210))["c"] / 210, 2))
        clock.advance(1.0)
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(0.1 / 2.1, abs=0.01)
    assert seen[5] == pytest.approx(0.5 / 2.5, abs=0.02)
    assert seen[-1] == pytest.approx(1 / 3, abs=0.01)


def test_recovery_starts_slowly_and_degraded_is_no_recovery() -> None:
    pool = Pool(["a", "b"], slow_start=SlowStart(10), clock=ManualClock(0.0), panic_threshold=0)
    pool.set_health("b", "degraded")
    pool.set_health("b", "healthy")
    assert pool.stats()[1].effective_weight == 1
    pool.set_health("b", "unhealthy")
    pool.set_health("b", "healthy", now=100.0)
    pool.advance(102.0)
    assert pool.stats()[1].effective_weight == pytest.approx(0.2)
    pool.advance(110.0)
    assert pool.stats()[1].effective_weight == 1


def test_work_warms_an_endpoint() -> None:
    pool = Pool(["a"], slow_start=SlowStart(100, ramp="work", requests=4), clock=ManualClock(0.0))
    pool.add("b")
    picker = aibalance.LeastRequest(pool)
    for done in (1, 2, 3):
        with picker.acquire(subset=["b"]):
            pass
        pool.advance(float(done))
        assert pool.stats()[1].effective_weight == done / 4
    with picker.acquire(subset=["b"]) as lease:
        lease.release("failure")
    pool.advance(4.0)
    assert pool.stats()[1].effective_weight == 3 / 4, "only what ended well"


def test_keys_stay_where_they_are_while_an_endpoint_starts_slowly() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b"], slow_start=SlowStart(10), clock=clock)
    ring = aibalance.RingHash(pool)
    pool.add("c")
    keys = [f"key {i}" for i in range(500)]
    before = [ring.pick(key).id for key in keys]
    clock.advance(5.0)
    assert [ring.pick(key).id for key in keys] == before
    assert 100 < before.count("c") < 250


def test_a_copy_keeps_rules_and_starts_nobody_slowly() -> None:
    pool = Pool(
        [Endpoint("a", priority=3, zone="z"), "b"],
        failover="backup",
        local_zone="z",
        zone_weights={"z": 2.0},
        slow_start=SlowStart(10, aggression=2.0),
    )
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.endpoints[0].priority == 3
    assert [s.effective_weight for s in copy.stats()] == [1, 1]
    assert copy.__getnewargs_ex__()[1] == pool.__getnewargs_ex__()[1]
    slow = SlowStart(30, ramp="work", requests=7, min_weight=0.2)
    assert pickle.loads(pickle.dumps(slow)) == slow
    assert repr(slow) == "SlowStart(30, ramp='work', min_weight=0.2, requests=7)"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Endpoint("a", priority=-1), "priority"),
        (lambda: Endpoint("a", priority=129), "priority"),
        (lambda: Pool(["a"], failover="never"), "failover"),
        (lambda: Pool(["a"], local_zone=""), "local_zone"),
        (lambda: Pool(["a"], zone_weights={"a": -1}), "zone_weights"),
        (lambda: Pool(["a"], zone_weights={"a": float("nan")}), "zone_weights"),
        (lambda: Pool(["a"], zone_weights={"a": 0}), "zone_weights"),
        (lambda: Pool(["a"], zone_weights=3), "zone_weights"),
        (lambda: Pool(["a"], slow_start=30), "slow_start"),
        (lambda: SlowStart(0), "window"),
        (lambda: SlowStart(float("nan")), "window"),
        (lambda: SlowStart(20, ramp="alb"), "window"),
        (lambda: SlowStart(20, ramp="steep"), "ramp"),
        (lambda: SlowStart(20, aggression=0), "aggression"),
        (lambda: SlowStart(20, min_weight=1.5), "min_weight"),
        (lambda: SlowStart(20, ramp="haproxy", min_weight=0.1), "min_weight"),
        (lambda: SlowStart(20, ramp="work"), "requests"),
        (lambda: SlowStart(20, requests=3), "requests"),
        (lambda: SlowStart(20).factor(-1), "elapsed"),
        (lambda: SlowStart(20).requests_while_warming(-1), "others"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()
