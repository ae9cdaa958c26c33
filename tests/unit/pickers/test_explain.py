"""Why one is picked and another not."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import aibalance
from aibalance import (
    Endpoint,
    Fallback,
    LeastRequest,
    Maglev,
    ManualClock,
    Pool,
    Prequal,
    RoundRobin,
    SlowStart,
    Subset,
    TrafficSplit,
    WeightedRandom,
)

PICKERS = [name for name in aibalance.__all__ if hasattr(getattr(aibalance, name), "_rehearse")]


def reasons(picker: Any, *key: Any, **options: Any) -> dict[str, str]:
    return {one.endpoint.id: one.reason for one in picker.explain(*key, **options)}


@pytest.mark.parametrize("name", PICKERS)
def test_every_picker_foretells_its_next_pick_and_moves_nothing(name: str) -> None:
    picker = getattr(aibalance, name)([Endpoint(f"10.0.0.{i}", weight=1 + i % 3) for i in range(6)], seed=7)
    for i in range(20):
        key = f"192.0.2.{i}"
        told = picker.explain(key)
        assert [one.rank for one in told][:1] == [0]
        assert len(told) == 6
        assert [(one.endpoint.id, one.rank) for one in picker.explain(key)] == [
            (one.endpoint.id, one.rank) for one in told
        ]
        assert picker.pick(key) == told[0].endpoint
        assert told[0].reason == "chosen"


def test_there_are_as_many_pickers_as_there_should_be() -> None:
    assert len(PICKERS) >= 18


def test_reasons() -> None:
    pool = Pool(
        [
            "fine",
            "also",
            Endpoint("full", max_inflight=1),
            Endpoint("sick"),
            Endpoint("leaving"),
            Endpoint("none", weight=0),
            Endpoint("spare", backup=True),
        ],
        panic_threshold=0,
    )
    held = RoundRobin(pool).acquire(subset=["full"])
    pool.set_health("sick", "unhealthy")
    pool.drain("leaving")
    picker = RoundRobin(pool)
    assert reasons(picker) == {
        "fine": "chosen",
        "also": "eligible",
        "full": "full",
        "sick": "unhealthy",
        "leaving": "draining",
        "none": "weight 0",
        "spare": "backup",
    }
    assert reasons(picker, exclude=["fine"])["fine"] == "excluded"
    assert reasons(picker, subset=["spare"]) | {"spare": "excluded"} == dict.fromkeys(pool_ids(pool), "excluded")
    by_id = {one.endpoint.id: one for one in picker.explain()}
    assert (by_id["full"].inflight, by_id["full"].load, by_id["full"].eligible) == (1, 1.0, False)
    held.release()
    assert reasons(picker)["full"] == "eligible"


def pool_ids(pool: Pool) -> list[str]:
    return [e.id for e in pool.endpoints]


def test_ranks_of_priority_zone_and_health() -> None:
    pool = Pool([Endpoint("near"), Endpoint("far", priority=1)])
    assert reasons(RoundRobin(pool)) == {"near": "chosen", "far": "priority"}
    pool.set_health("near", "unhealthy")
    assert reasons(RoundRobin(pool))["far"] == "chosen"
    weak = Pool(["good", "fine", "sound", "weak"])
    weak.set_health("weak", "degraded")
    told = {"good": "chosen", "fine": "eligible", "sound": "eligible", "weak": "degraded"}
    assert reasons(RoundRobin(weak)) == told


def test_warming_latency_and_text() -> None:
    clock = ManualClock(1.0)
    pool = Pool(["a"], slow_start=SlowStart(100.0), clock=clock)
    pool.add("b")
    pool.observe("a", latency=0.25)
    told = {one.endpoint.id: one for one in LeastRequest(pool).explain()}
    assert told["a"].latency == pytest.approx(0.25)
    assert told["a"].warming == 1
    assert told["b"].warming < 1
    assert str(told["a"]).startswith("a: ")
    assert "0.25 s" in str(told["a"])
    assert "warm" in str(told["b"])
    assert pickle.loads(pickle.dumps(told["a"].endpoint)) == told["a"].endpoint
    assert told["a"].stats.id == "a"


def test_keys_and_nobody() -> None:
    picker = Maglev(["a", "b", "c"])
    for key in ("x", "y", b"z", 17):
        assert picker.explain(key)[0].endpoint == picker.pick(key)
    assert RoundRobin([]).explain() == []
    sick = RoundRobin(["a"])
    sick.pool.drain("a")
    assert [one.rank for one in sick.explain()] == [None]


def test_chance_is_foretold() -> None:
    picker = WeightedRandom(["a", "b", "c"], seed=3)
    for _ in range(50):
        assert picker.explain()[0].endpoint == picker.pick()
    probed = Prequal(["a", "b"], seed=3)
    probed.pool.observe("a", inflight=1, latency=0.1)
    assert reasons(probed) == reasons(probed)


def test_composed_and_custom_pickers_explain() -> None:
    class Last(aibalance.CustomPicker):
        def choose(self, candidates: Any, key: Any, /) -> Endpoint:
            found: Endpoint = candidates[-1].endpoint
            return found

    assert reasons(Last(["a", "b"])) == {"b": "chosen", "a": "eligible"}
    here, there = RoundRobin(["a"]), RoundRobin(["b"])
    assert reasons(Fallback(here, there)) == {"a": "chosen", "b": "eligible"}
    assert reasons(TrafficSplit([(here, 0), (there, 1)]))["b"] == "chosen"
    assert reasons(Subset(RoundRobin(["a", "b"]), where=lambda e: e.id == "b")) == {"b": "chosen", "a": "not asked"}
