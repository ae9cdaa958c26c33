"""Pickers: every option alone changes something, and what they refuse is named."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    First,
    Hashed,
    JoinIdleQueue,
    Latency,
    LeastConnections,
    LeastRequest,
    Maglev,
    ManualClock,
    NoHealthyEndpointError,
    PeakEwma,
    Pool,
    RingHash,
    RoundRobin,
    WeightedRandom,
    envoy_hash,
)

ALL: list[Any] = [
    RoundRobin,
    WeightedRandom,
    LeastRequest,
    JoinIdleQueue,
    PeakEwma,
    RingHash,
    Maglev,
    LeastConnections,
    First,
]
HASHING: list[Any] = [RingHash, Maglev]
KEYS = [f"key {i}" for i in range(500)]


def ids(picks: Any) -> list[str]:
    return [e.id for e in picks]


# ------------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("picker", HASHING)
def test_keys(picker: Any) -> None:
    p = picker(list("abcdefgh"))
    assert p.pick("é") == p.pick("é".encode()) == p.pick(Hashed(envoy_hash("é").value))
    assert p.pick(-1) == p.pick(2**64 - 1) == p.pick(b"\xff" * 8)
    assert p.pick(258) == p.pick((258).to_bytes(8, "little"))

    class Text(str):
        def __hash__(self) -> int:
            raise AssertionError("Python's hash is never used")

    assert p.pick(Text("abc")) == p.pick("abc")
    for wrong in (1.5, -(2**63) - 1, 2**64, "\ud800", [], {}, object()):
        for call in (
            p.pick,
            p.try_pick,
            p.acquire,
            p.try_acquire,
            lambda k: p.ranked(k, k=1),
            lambda k: p.pick_many([k]),
        ):
            with pytest.raises(ConfigError, match=r"key: .*str, bytes, an int from"):
                call(wrong)
    # No key: any endpoint will do.
    assert len({p.pick().id for _ in range(200)}) == 8
    assert len({p.pick(None).id for _ in range(200)}) == 8


@pytest.mark.parametrize("picker", [RoundRobin, WeightedRandom, LeastRequest, JoinIdleQueue, PeakEwma])
def test_a_key_that_has_no_use_is_not_looked_at_by_any_method(picker: Any) -> None:
    p = picker(["a", "b"])
    for key in (1.5, object(), "\ud800", None, "x"):
        p.pick(key)
        p.pick(key, now=1)
        p.acquire(key).release()
        p.acquire(key, cost=2).release()
        p.ranked(key, k=1)
        assert len(list(p.attempts(key, budget=1))) == 1


def test_envoy_hash() -> None:
    assert envoy_hash("a").value == envoy_hash(b"a").value == envoy_hash(["a"]).value
    assert envoy_hash("a", "b") != envoy_hash("b", "a")
    # A header given several times is hashed in sorted order, Envoy 1.40.
    assert envoy_hash(["a", "b"]) == envoy_hash([b"b", "a"])
    assert envoy_hash(["a", "b"]) != envoy_hash("a", "b")
    both = envoy_hash("x", Hashed(5)).value
    x = envoy_hash("x").value
    assert both == ((x << 1 | x >> 63) & (2**64 - 1)) ^ 5
    for wrong in ((), ([],), ([1],), (1.5,), ("\ud800",), (["\ud800"],)):
        with pytest.raises(ConfigError):
            envoy_hash(*wrong)


def test_hashed() -> None:
    h = Hashed(7)
    assert (h.value, int(h), repr(h), hash(h)) == (7, 7, "Hashed(7)", hash(Hashed(7)))
    assert Hashed(-1).value == 2**64 - 1
    assert Hashed(1) < Hashed(2)
    assert pickle.loads(pickle.dumps(h)) == h
    for wrong in (1.5, "7", None, 2**64, -(2**63) - 1):
        with pytest.raises(ConfigError, match="value"):
            Hashed(wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- exclude and subset


@pytest.mark.parametrize("picker", ALL)
def test_exclude_and_subset(picker: Any) -> None:
    pool = Pool(list("abcd"))
    a, b, *_ = pool.endpoints
    p = picker(pool)
    for kw, allowed in [
        ({"exclude": [a, "b"]}, {"c", "d"}),
        ({"exclude": (x for x in ("a", "c"))}, {"b", "d"}),
        ({"exclude": {"nobody"}}, set("abcd")),
        ({"exclude": ()}, set("abcd")),
        ({"exclude": None, "subset": None}, set("abcd")),
        ({"subset": [b, "nobody", "b"]}, {"b"}),
        ({"subset": ["a", "b"], "exclude": ["a"]}, {"b"}),
    ]:
        with p.acquire("k", **kw) as lease:
            assert lease.endpoint.id in allowed
    for kw in ({"exclude": list("abcd")}, {"subset": []}, {"subset": ["nobody"]}, {"subset": ["a"], "exclude": ["a"]}):
        with pytest.raises(NoHealthyEndpointError, match=r"[34] excluded"):
            p.acquire("k", **kw)
        assert p.try_acquire("k", **kw) is None
        assert p.ranked("k", k=4, **kw) == []
    assert set(ids(p.ranked("k", k=9, exclude=["a"], subset=["a", "b", "c"]))) == {"b", "c"}
    for field in ("exclude", "subset"):
        for wrong in ("a", 5, [5], ["\ud800"]):
            with pytest.raises(ConfigError, match=field):
                p.acquire("k", **{field: wrong})
            with pytest.raises(ConfigError, match=field):
                p.ranked("k", k=1, **{field: wrong})
    for wrong in (-1, 1.5, "x", None, True):
        with pytest.raises(ConfigError, match="k: "):
            p.ranked(k=wrong)
    assert p.ranked(k=0) == []
    assert all(r.inflight == 0 for r in pool.stats())


def test_exclude_means_the_same_endpoints_when_the_pool_changes_meanwhile() -> None:
    pool = Pool(list("abcd"))
    picker = RoundRobin(pool)

    class Now(float):
        def __float__(self) -> float:
            pool.update(list("dcba"))
            return 1.0

    class Names:
        def __iter__(self) -> Any:
            yield "a"
            pool.update(list("xyabcd"))
            yield "b"

    for _ in range(10):
        lease = picker.acquire(subset=Names(), now=Now(1.0))
        assert lease.endpoint.id in "ab"
        lease.release()


@pytest.mark.parametrize("picker", ALL)
def test_wrong_call_shapes_are_type_errors(picker: Any) -> None:
    p = picker(["a"])
    for method in (p.pick, p.try_pick, p.acquire, p.try_acquire):
        for args, kw in [((1, 2), {}), ((), {"key": 1}), ((), {"nonsense": 1}), (("k",), {"key": "k"})]:
            with pytest.raises(TypeError, match=method.__name__):
                method(*args, **kw)
    with pytest.raises(TypeError):
        p.ranked("k")
    with pytest.raises(TypeError):
        p.pick_many()


# --------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("picker", [p for p in ALL if p is not First])
def test_weights(picker: Any) -> None:
    make: Callable[..., Any] = lambda *w: picker([Endpoint(f"10.0.0.{i}", weight=x) for i, x in enumerate(w)])  # noqa: E731
    assert {e.id for e in make(0, 1, 0).pick_many(50)} == {"10.0.0.1"}
    with pytest.raises(NoHealthyEndpointError, match="2 of weight 0"):
        make(0, 0).pick()
    huge = Counter(ids(make(1e15, 1e15, 1).pick_many(2000)))
    assert huge["10.0.0.2"] <= 5
    if picker is not LeastRequest and picker is not PeakEwma:
        shares = Counter(ids(make(0.5, 1.5, 2).pick_many(8000)))
        for i, share in enumerate((0.125, 0.375, 0.5)):
            assert shares[f"10.0.0.{i}"] / 8000 == pytest.approx(share, abs=0.04)
    tiny = make(5e-324, 5e-324)
    assert len({tiny.pick().id for _ in range(100)}) >= 1


def test_least_request_balances_load_over_weight() -> None:
    pool = Pool([Endpoint("a", weight=3), Endpoint("b", weight=1)], seed=1)
    picker = LeastRequest(pool)
    held = [picker.acquire() for _ in range(400)]
    assert [r.inflight for r in pool.stats()] == [300, 100]
    assert len(held) == 400


# ----------------------------------------------------------------------------- every option alone changes something


def test_start() -> None:
    assert ids(RoundRobin(["a", "b", "c"], start=2).pick_many(4)) == ["c", "a", "b", "c"]
    starts = {RoundRobin([str(i) for i in range(50)], start="random", seed=s).pick().id for s in range(20)}
    assert len(starts) > 5
    for wrong in (-1, 1.5, "middle", True, 2**64):
        with pytest.raises(ConfigError, match="start"):
            RoundRobin(["a"], start=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="schedule"):
        RoundRobin(["a"], schedule="fair")  # type: ignore[arg-type]


def loaded(n: int, **kw: Any) -> tuple[Pool, Any]:
    pool = Pool([str(i) for i in range(n)], seed=3)
    return pool, LeastRequest(pool, **kw)


def test_choices_and_full_scan() -> None:
    def most(**kw: Any) -> int:
        pool, picker = loaded(50, **kw)
        held = [picker.acquire() for _ in range(500)]
        assert len(held) == 500
        return max(r.inflight for r in pool.stats())

    spread = [most(choices=1), most(choices=2), most(choices=50), most(full_scan=True)]
    assert spread[0] > spread[1] >= spread[2] == spread[3] == 10


def test_replace_draws_the_same_twice() -> None:
    # With two endpoints, distinct draws always see the idle one; with replacement every fourth pick does not.
    for replace, share in ((False, 0.0), (True, 0.25)):
        _, picker = loaded(2, replace=replace)
        busy = picker.acquire()
        picks = Counter(ids(picker.pick_many(4000)))
        assert picks[busy.endpoint.id] / 4000 == pytest.approx(share, abs=0.03)


def test_bias() -> None:
    def winner(bias: float) -> str:
        pool = Pool([Endpoint("heavy", weight=3), Endpoint("light", weight=1)])
        picker = LeastRequest(pool, full_scan=True, bias=bias, score="before")
        held = [picker.acquire(subset=["heavy"], cost=4), picker.acquire(subset=["light"], cost=2)]
        assert len(held) == 2
        return str(picker.pick().id)

    # 4/3 < 2, and 16/3 > 4, and without load 1/3 < 1.
    assert [winner(1.0), winner(2.0), winner(0.0)] == ["heavy", "light", "heavy"]
    for wrong in (-1.0, float("nan"), float("inf"), "x"):
        with pytest.raises(ConfigError, match="bias"):
            LeastRequest(["a"], bias=wrong)  # type: ignore[arg-type]


def test_score() -> None:
    def winner(score: Any) -> str:
        pool = Pool([Endpoint("heavy", weight=2), Endpoint("light", weight=1)])
        picker = LeastRequest(pool, full_scan=True, score=score)
        held = picker.acquire(subset=["heavy"])
        assert held.endpoint.id == "heavy"
        return str(picker.pick().id)

    # After: 2/2 ties with 1/1 and the draw decides; before: 1/2 loses against 0.
    assert winner("before") == "light"
    assert {winner("after") for _ in range(40)} == {"heavy", "light"}


def test_ties() -> None:
    weights = [1, 2, 2, 1]

    def order(ties: Any, n: int = 6) -> list[str]:
        pool = Pool([Endpoint(str(i), weight=w) for i, w in enumerate(weights)], seed=1)
        return ids(LeastRequest(pool, full_scan=True, score="before", ties=ties).pick_many(n))

    assert order("first") == ["0"] * 6
    assert order("last") == ["3"] * 6
    assert order("heaviest") == ["1"] * 6
    assert order("rotate") == ["0", "1", "2", "3", "0", "1"]
    assert set(order("random", 200)) == {"0", "1", "2", "3"}
    with pytest.raises(ConfigError, match=r"ties.*full_scan"):
        LeastRequest(["a"], ties="rotate")
    for kw, field in [
        ({"ties": "x"}, "ties"),
        ({"score": "x"}, "score"),
        ({"choices": 0}, "choices"),
        ({"choices": 65}, "choices"),
        ({"choices": 2**70}, "choices"),
        ({"schedule": "rr"}, "schedule"),
        ({"start": 1}, "start"),
    ]:
        with pytest.raises(ConfigError, match=field):
            LeastRequest(["a"], **kw)


def test_ring_options() -> None:
    nine = [f"10.0.0.{i}" for i in range(9)]
    maps = [
        RingHash(nine, **kw).pick_many(KEYS).indices.tolist()
        for kw in ({}, {"points": 100}, {"min_size": 2000}, {"min_size": 10, "max_size": 20}, {"hash": "murmur2"})
    ]
    assert len({tuple(m) for m in maps}) == 5
    assert RingHash(nine, points=1024).pick_many(KEYS).indices.tolist() == maps[0]
    # Equal weights: Envoy's whole size in equal parts is so many points each.
    assert RingHash(nine, min_size=900).pick_many(KEYS).indices.tolist() == maps[1]
    for kw, field in [
        ({"points": 0}, "points"),
        ({"points": 1.5}, "points"),
        ({"points": 2**70}, "points"),
        ({"min_size": 0}, "min_size"),
        ({"max_size": 8_388_609}, "max_size"),
        ({"min_size": 9, "max_size": 8}, "min_size"),
        ({"points": 5, "min_size": 5}, "points"),
        ({"hash": "md5"}, "hash"),
        ({"ring": "ketama"}, "ring"),
        ({"avalanche": True}, "avalanche"),
        ({"bounded_load": 0.5}, "bounded_load"),
    ]:
        with pytest.raises(ConfigError, match=field):
            RingHash(["a"], **kw)


def test_the_points_of_an_endpoint_are_its_own() -> None:
    # A weight of 2 has twice the points, whoever else is there.
    pool = Pool(["a", Endpoint("b", weight=2), "c"])
    picker = RingHash(pool, points=50)
    before = ids(picker.pick_many(KEYS))
    pool.add("d")
    after = ids(picker.pick_many(KEYS))
    assert all(new in (old, "d") for old, new in zip(before, after, strict=True))
    assert "d" in after


def test_a_ring_copes_with_very_different_weights() -> None:
    picker = RingHash([Endpoint("a", weight=1e15), Endpoint("b", weight=1)], points=64)
    assert Counter(ids(picker.pick_many(KEYS)))["a"] > 490


def test_maglev_options() -> None:
    nine = [f"10.0.0.{i}" for i in range(9)]
    assert ids(Maglev(nine, table_size=101).pick_many(KEYS)) != ids(Maglev(nine).pick_many(KEYS))
    for wrong in (0, 1, 4, 65536, 5_000_012, -7, 2**70, "x"):
        with pytest.raises(ConfigError, match="table_size"):
            Maglev(["a"], table_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bounded_load"):
        Maglev(["a"], bounded_load=0.9)
    # More endpoints than entries: those without an entry still answer when nobody else may.
    many = Maglev([str(i) for i in range(20)], table_size=7)
    assert {ids(many.ranked("k", k=20))[i] for i in range(20)} == {str(i) for i in range(20)}


@pytest.mark.parametrize("picker", ALL)
def test_a_pool_of_its_own(picker: Any) -> None:
    clock = ManualClock(4.0)
    p = picker(["a", "b"], seed=4, clock=clock)
    assert p.pool.clock is clock
    assert len(p.pool) == 2
    assert ids(p.pick_many(30)) == ids(picker(["a", "b"], seed=4).pick_many(30))
    for kw, field in [({"seed": 1}, "seed"), ({"clock": clock}, "clock")]:
        with pytest.raises(ConfigError, match=field):
            picker(Pool(["a"]), **kw)
    for wrong in ("abc", 5, None):
        with pytest.raises(ConfigError, match="endpoints"):
            picker(wrong)


# ------------------------------------------------------------------------------------------------------- pick_many


@pytest.mark.parametrize("picker", HASHING)
def test_batches(picker: Any) -> None:
    p = picker(list("abcdefgh"))
    assert ids(p.pick_many(KEYS)) == [p.pick(k).id for k in KEYS]
    assert ids(p.pick_many(tuple(KEYS))) == ids(p.pick_many(KEYS))
    for kind in ("uint64", "int64", "uint32", "int32"):
        array = np.arange(50, dtype=kind)
        assert ids(p.pick_many(array)) == [p.pick(int(k)).id for k in array]
        assert ids(p.pick_many(array[::3])) == [p.pick(int(k)).id for k in array[::3]]
        assert ids(p.pick_many(array, hashed=True)) == [p.pick(Hashed(int(k))).id for k in array]
    negative = np.array([-1, -5], dtype=np.int32)
    assert ids(p.pick_many(negative)) == [p.pick(-1).id, p.pick(-5).id]
    assert ids(p.pick_many([1, Hashed(2), -1], hashed=True)) == [p.pick(Hashed(k)).id for k in (1, 2, -1)]
    for wrong in (["a"], [b"a"], [1.5], [2**64]):
        with pytest.raises(ConfigError, match="hashed=True"):
            p.pick_many(wrong, hashed=True)
    for wrong in (1.5, "abc", None, np.zeros(3), np.zeros((2, 2), dtype=np.uint64), True, -1, 2**33):
        with pytest.raises(ConfigError, match="n_or_keys"):
            p.pick_many(wrong)


def test_picks() -> None:
    pool = Pool(["a", "b", "c"])
    picks = RoundRobin(pool).pick_many(5)
    assert picks.indices.dtype == np.uint32
    assert picks.indices.tolist() == [0, 1, 2, 0, 1]
    assert picks.endpoints == pool.endpoints
    assert (len(picks), picks[0].id, picks[-1].id, ids(picks)) == (5, "a", "b", list("abcab"))
    for wrong in (5, -6, 2**70):
        with pytest.raises(IndexError):
            picks[wrong]
    copy = pickle.loads(pickle.dumps(picks))
    assert ids(copy) == ids(picks)
    assert list(reversed(picks)) == list(picks)[::-1]


# --------------------------------------------------------------------------------------------------------- latency


def run(pool: Pool, picker: Any, clock: ManualClock, id: str, seconds: float, outcome: str = "success") -> None:
    lease = picker.acquire(subset=[id])
    clock.advance(seconds)
    lease.release(outcome)


def test_peak_ewma_prefers_the_fast_and_reading_changes_nothing() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["fast", "slow"], seed=1, clock=clock)
    picker = PeakEwma(pool)
    for _ in range(5):
        run(pool, picker, clock, "fast", 0.01)
        run(pool, picker, clock, "slow", 0.2)
    assert set(ids(picker.pick_many(50))) == {"fast"}
    before = [r.latency for r in pool.stats()]
    for _ in range(1000):
        picker.pick()
        pool.stats()
    assert [r.latency for r in pool.stats()] == before
    # Work in flight counts: 0.2 s for the idle one is less than 0.01 s times 30.
    held = [picker.acquire(subset=["fast"]) for _ in range(60)]
    assert picker.pick().id == "slow"
    assert len(held) == 60


def test_a_failure_never_looks_fast() -> None:
    clock = ManualClock(0.0)
    for outcome in ("failure", "timeout", "rejected"):
        pool = Pool(["good", "bad"], seed=1, clock=clock)
        picker = PeakEwma(pool)
        run(pool, picker, clock, "good", 0.3)
        run(pool, picker, clock, "bad", 0.001, outcome)
        assert set(ids(picker.pick_many(50))) == {"good"}
        assert pool.stats()[1].latency == pytest.approx(5.0)


def test_the_server_s_hint_counts_and_is_limited() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b"], clock=clock, latency=Latency(failure_penalty=0.0))
    picker = PeakEwma(pool)
    picker.acquire(subset=["a"]).release(status=503, retry_after=30)
    picker.acquire(subset=["b"]).release(status=429, retry_after=1e6)
    assert [r.latency for r in pool.stats()] == [pytest.approx(30), pytest.approx(300)]


def test_a_new_endpoint_is_not_flooded_and_idleness_does_not_attract() -> None:
    clock = ManualClock(0.0)
    pool = Pool([str(i) for i in range(4)], seed=2, clock=clock)
    picker = PeakEwma(pool)
    for i in range(4):
        for _ in range(20):
            run(pool, picker, clock, str(i), 0.1)
    pool.add("new")
    held = [picker.acquire() for _ in range(100)]
    assert pool.stats()[4].inflight <= 30
    for lease in held:
        lease.cancel()
    # A slow one that idles for ever is never better than the others.
    run(pool, picker, clock, "0", 2.0)
    clock.advance(1e6)
    picker.pick()
    slow = pool.stats()[0].latency
    assert slow is not None
    assert slow >= 0.1


def test_latency_knobs() -> None:
    def after(latency: Latency, *steps: tuple[float, str]) -> float:
        clock = ManualClock(0.0)
        pool = Pool(["a", "b"], clock=clock, latency=latency)
        picker = LeastRequest(pool)
        for seconds, outcome in steps:
            run(pool, picker, clock, "a", seconds, outcome)
        result = pool.stats()[0].latency
        assert result is not None
        return result

    steps = ((1.0, "success"), (0.1, "success"))
    assert after(Latency(decay=0.05), *steps) < after(Latency(decay=10.0), *steps)
    fail = ((0.1, "failure"),)
    assert after(Latency(failure_penalty=7.0), *fail) == pytest.approx(7.0)
    assert after(Latency(failure_penalty=0.0), *fail) == pytest.approx(0.1)

    def share_of_unknown(default: float) -> int:
        clock = ManualClock(0.0)
        pool = Pool(["known", "unknown"], clock=clock, latency=Latency(default_rtt=default))
        picker = PeakEwma(pool)
        run(pool, picker, clock, "known", 1.0)
        return ids(picker.pick_many(20)).count("unknown")

    assert (share_of_unknown(0.01), share_of_unknown(100.0)) == (20, 0)


def test_now_everywhere() -> None:
    pool = Pool(["a", "b"], latency=Latency(), clock=ManualClock(0.0))
    for picker in (cls(pool) for cls in ALL):
        picker.pick("k", now=5)
        picker.try_pick("k", now=5)
        picker.try_acquire("k", now=5).release(now=6.5)
        picker.ranked("k", k=1, now=5)
        lease = picker.acquire("k", now=5)
        lease.first_token(now=5.5)
        lease.release(now=7)
        for call in (picker.pick, picker.try_pick, picker.acquire, picker.try_acquire):
            for wrong in (-1, float("nan"), "x", 1e11, 10**400):
                with pytest.raises(ConfigError, match="now"):
                    call("k", now=wrong)
            call("k", now=None)
    assert {r.last_latency for r in pool.stats()} <= {None, 0.5, 1.5}


# ------------------------------------------------------------------------------------------- processes and copies


@pytest.mark.parametrize("picker", ALL)
def test_pickers_travel_with_their_options(picker: Any) -> None:
    options: dict[Any, dict[str, Any]] = {
        RoundRobin: {"start": "random"},
        LeastRequest: {"choices": 3, "replace": True, "bias": 2.0, "score": "before", "ties": "last"},
        LeastConnections: {"variant": "haproxy"},
        First: {},
        PeakEwma: {},
        WeightedRandom: {},
        JoinIdleQueue: {},
        RingHash: {"min_size": 100, "max_size": 300, "hash": "murmur2"},
        Maglev: {"table_size": 101},
    }
    pool = Pool([Endpoint(str(i), weight=1 + i % 2) for i in range(6)], seed=9)
    p = picker(pool, **options[picker])
    copy = pickle.loads(pickle.dumps(p))
    assert repr(copy) == repr(p)
    assert ids(copy.pick_many(60)) == ids(p.pick_many(60))
    assert copy.pool is not pool
    one, other = pickle.loads(pickle.dumps([p, RoundRobin(pool)]))
    assert one.pool is other.pool


def draws_of(picker: Any) -> list[str]:
    return ids(picker.pick_many(40))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seed", [None, 7])
def test_a_forked_child_draws_anew_unless_seeded(seed: int | None) -> None:
    pool = Pool([str(i) for i in range(1000)], seed=seed)
    pickers = [LeastRequest(pool), Maglev(pool)]
    for p in pickers:
        p.pick()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            late = LeastRequest(pool)
            os.write(write, ",".join(draws_of(pickers[0]) + draws_of(pickers[1]) + draws_of(late)).encode())
        finally:
            os._exit(0)
    os.close(write)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(read) as pipe:
        theirs = pipe.read().split(",")
    ours = draws_of(pickers[0]) + draws_of(pickers[1]) + draws_of(LeastRequest(pool))
    for at in (0, 40, 80):
        assert (theirs[at : at + 40] == ours[at : at + 40]) == (seed is not None)


def test_without_a_seed_every_pool_draws_differently() -> None:
    many = [str(i) for i in range(1000)]
    assert draws_of(LeastRequest(many)) != draws_of(LeastRequest(many))
    pool = Pool(many, seed=3)
    assert draws_of(LeastRequest(pool)) != draws_of(LeastRequest(pool))
    assert draws_of(LeastRequest(many, seed=1)) != draws_of(LeastRequest(many, seed=2))


def test_a_spawned_process_gets_the_same_picker() -> None:
    picker = LeastRequest(Pool([str(i) for i in range(50)], seed=5))
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        assert workers.apply(draws_of, (picker,)) == draws_of(picker)


def test_the_import_is_clean() -> None:
    code = "import aibalance as a; p = a.LeastRequest(['x', 'y']); p.acquire().release(); p.acquire(); p.pick_many(5)"
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
