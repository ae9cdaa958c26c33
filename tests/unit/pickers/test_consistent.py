"""MementoHash, MultiProbeHash and HAProxy's random: what is theirs alone."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest

import aibalance
from aibalance import ConfigError, Endpoint, Hashed, MementoHash, MultiProbeHash, Pool, WeightedRandom

KEYS = np.random.default_rng(7).integers(0, 2**64, 20_000, dtype=np.uint64)
STATEFUL = pytest.mark.parametrize("make", [MementoHash, MultiProbeHash])


def homes(picker: Any, keys: Any = KEYS) -> np.ndarray:
    picks = picker.pick_many(keys, hashed=True)
    return np.array([e.id for e in picks.endpoints])[picks.indices]


def moved(before: np.ndarray, after: np.ndarray) -> tuple[set[str], set[str]]:
    """Whom keys left, and to whom they went."""
    differ = before != after
    return set(before[differ].tolist()), set(after[differ].tolist())


@STATEFUL
def test_endpoints_go_and_come_in_any_order_and_move_only_their_own_keys(make: Any) -> None:
    rng = np.random.default_rng(3)
    picker = make([f"n{i}" for i in range(12)])
    gone: list[str] = []
    now = homes(picker)
    for step in range(60):
        ids = [e.id for e in picker.pool.endpoints]
        if gone and (len(ids) < 3 or rng.random() < 0.5):
            newcomer = gone.pop(int(rng.integers(len(gone)))) if rng.random() < 0.7 else f"new {step}"
            picker.pool.add(newcomer)
            then = homes(picker)
            left, to = moved(now, then)
            assert to <= {newcomer}
            assert newcomer not in left
        else:
            leaver = ids[int(rng.integers(len(ids)))]
            gone.append(leaver)
            picker.pool.remove(leaver)
            then = homes(picker)
            assert moved(now, then)[0] == {leaver}
        now = then
        counts = Counter(now.tolist())
        assert len(counts) == len(picker.pool.endpoints)


def test_memento_gives_the_place_that_was_left_last_to_whoever_comes() -> None:
    picker = MementoHash(["a", "b", "c", "d", "e"])
    first = homes(picker)
    picker.pool.remove("b")
    picker.pool.remove("d")
    picker.pool.add("x")
    picker.pool.add("y")
    names = {"a": "a", "b": "y", "c": "c", "d": "x", "e": "e"}
    assert (np.vectorize(names.get)(first) == homes(picker)).all()
    # The same in one change, for those that leave together: in reverse order.
    pool = Pool(["a", "b", "c", "d", "e"])
    picker = MementoHash(pool)
    pool.update(["a", "c", "e", "p", "q"])
    assert (np.vectorize({**names, "d": "p", "b": "q"}.get)(first) == homes(picker)).all()


def test_memento_keeps_its_order_of_departures_over_other_changes() -> None:
    pool = Pool([f"n{i}" for i in range(8)], panic_threshold=0)
    picker = MementoHash(pool)
    first = homes(picker)
    pool.remove("n3")
    without = homes(picker)
    for i in (0, 1, 2, 4, 5, 6, 7):
        pool.set_health(f"n{i}", "unhealthy")
    with pytest.raises(aibalance.NoHealthyEndpointError):
        picker.pick("k")
    for i in (7, 2, 5, 0, 1, 6, 4):
        pool.set_health(f"n{i}", "healthy")
    assert (homes(picker) == without).all()
    # The order of the pool does not count, only names do.
    pool.update([e.id for e in reversed(pool.endpoints)])
    assert (homes(picker) == without).all()
    pool.add("n3")
    assert (homes(picker) == first).all()
    # Everybody leaves: a new beginning.
    pool.update(["z"])
    pool.update([f"n{i}" for i in range(8)])
    assert len(set(homes(picker).tolist())) == 8


def test_memento_keeps_the_places_of_primaries_and_backups_apart() -> None:
    pool = Pool(["a", "b", "c", Endpoint("p", backup=True), Endpoint("q", backup=True)], panic_threshold=0)
    picker = MementoHash(pool)
    first = homes(picker)
    pool.remove("p")
    assert (homes(picker) == first).all()
    pool.remove("b")
    for name in ("a", "c"):
        pool.set_health(name, "unhealthy")
    assert set(homes(picker).tolist()) == {"q"}
    pool.add("b")
    for name in ("a", "c"):
        pool.set_health(name, "healthy")
    assert (homes(picker) == first).all()


WEIGHTS = [[5, 1, 3, 0.5], [0.02, 0.01, 0.03], [300, 100, 50.5, 1], [1e6, 3e6], [0.3, 1.7, 1.7], [7]]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_memento_honours_weights_exactly(weights: list[float]) -> None:
    n = 100_000
    keys = np.random.default_rng(1).integers(0, 2**64, n, dtype=np.uint64)
    picker = MementoHash([Endpoint(str(i), weight=w) for i, w in enumerate(weights)])
    got = np.bincount(picker.pick_many(keys, hashed=True).indices, minlength=len(weights))
    share = np.array(weights) / sum(weights)
    assert (np.abs(got - n * share) <= 4.5 * np.sqrt(n * share * (1 - share))).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_multi_probe_honours_weights_as_far_as_its_points_are_even(weights: list[float]) -> None:
    each = 60
    picker = MultiProbeHash([Endpoint(f"{i} {j}", weight=w) for i, w in enumerate(weights) for j in range(each)])
    kinds = np.bincount(picker.pick_many(KEYS, hashed=True).indices // each, minlength=len(weights)) / len(KEYS)
    share = np.array(weights) / sum(weights)
    # A point's share has a standard deviation of about a tenth with 21 probes.
    points = np.ceil(np.array(weights) / max(1.0, 2 ** np.ceil(np.log2(max(weights) / 64)))) * each
    error = np.sqrt(share * (1 - share) / len(KEYS)) + 0.1 * share / np.sqrt(points)
    assert (np.abs(kinds - share) <= 4.5 * error).all()


def weighted_moves(picker: Any, weights: list[float]) -> None:
    now = homes(picker)
    for weight in weights:
        previous = next(e.weight for e in picker.pool.endpoints if e.id == "n4")
        picker.pool.set_weight("n4", weight)
        then = homes(picker)
        left, to = moved(now, then)
        assert left == {"n4"} if weight < previous else to == {"n4"}
        now = then
    assert "n4" in now


def test_a_weight_moves_keys_of_its_own_endpoint_only() -> None:
    picker = MultiProbeHash([Endpoint(f"n{i}", weight=1 + i % 3) for i in range(10)])
    weighted_moves(picker, [3, 2.5, 2.25, 0.5, 0, 1.5, 7, 4])
    picker = MementoHash([Endpoint(f"n{i}", weight=1 + i % 3) for i in range(10)])
    weighted_moves(picker, [3, 1, 0, 5, 2, 7, 6.5, 6.25, 6.75, 7, 3.5, 3, 4])


def test_memento_moves_a_buckets_keys_for_a_fraction_that_comes() -> None:
    pool = Pool([f"n{i}" for i in range(20)])
    picker = MementoHash(pool)
    first = homes(picker)
    pool.add(Endpoint("half", weight=0.5))
    second = homes(picker)
    assert abs((second == "half").mean() - 0.5 / 20.5) < 0.005
    # Half of the bucket's keys are not for it, and go on: no more than one bucket's keys move in all.
    assert (first != second).mean() < 1 / 21 + 0.007
    pool.set_weight("half", 0.25)
    third = homes(picker)
    assert moved(second, third)[0] == {"half"}
    pool.remove("half")
    assert moved(third, homes(picker))[0] == {"half"}


@STATEFUL
def test_who_cannot_be_had_for_now_gets_its_keys_back(make: Any) -> None:
    pool = Pool([Endpoint(f"n{i}", weight=1 + i % 2, max_inflight=1) for i in range(6)], panic_threshold=0)
    picker = make(pool)
    first = homes(picker)
    hashed = [Hashed(int(k)) for k in KEYS[:400]]
    for change, back in (
        (lambda: pool.set_health("n2", "unhealthy"), lambda: pool.set_health("n2", "healthy")),
        (lambda: pool.drain("n2"), lambda: pool.undrain("n2")),
    ):
        change()
        assert moved(first, homes(picker))[0] == {"n2"}
        back()
        assert (homes(picker) == first).all()
    key = next(k for k, home in zip(hashed, first[:400], strict=True) if home == "n2")
    with picker.acquire(key) as lease:
        assert lease.endpoint.id == "n2"
        now = np.array([picker.pick(k).id for k in hashed])
        assert moved(first[:400], now)[0] == {"n2"}
    for k, home in zip(hashed, first[:400], strict=True):
        order = [e.id for e in picker.ranked(k, k=6)]
        assert order[0] == home
        assert len(set(order)) == 6
        assert [e.id for e in picker.ranked(k, k=1, exclude=[home])] == order[1:2]


@STATEFUL
def test_nobody_one_and_none_that_counts(make: Any) -> None:
    with pytest.raises(aibalance.NoEndpointsError):
        make([]).pick("k")
    assert make(["a"]).pick("k").id == "a"
    assert make([Endpoint("a", weight=0), Endpoint("b", weight=1e-9)]).pick("k").id == "b"
    pool = Pool([Endpoint("a", weight=0)])
    picker = make(pool)
    assert picker.try_pick("k") is None
    pool.set_weight("a", 1e15)
    assert picker.pick("k").id == "a"
    pool.update([Endpoint("a", hash_key="same"), Endpoint("b", hash_key="same"), "c"])
    assert len(set(homes(picker).tolist())) >= 2


def test_memento_is_laid_out_anew_only_when_the_largest_weight_changes_much() -> None:
    pool = Pool([Endpoint(f"n{i}", weight=100) for i in range(10)])
    picker = MementoHash(pool)
    first = homes(picker)
    pool.set_weight("n0", 390)
    assert moved(first, homes(picker))[1] == {"n0"}
    pool.set_weight("n0", 100)
    assert (homes(picker) == first).all()
    pool.set_weight("n0", 10_000)
    pool.set_weight("n0", 100)
    assert len(Counter(homes(picker).tolist())) == 10


def test_more_probes_are_more_even() -> None:
    names = [f"n{i}" for i in range(100)]
    most = {
        p: np.bincount(MultiProbeHash(names, probes=p).pick_many(KEYS, hashed=True).indices).max() for p in (1, 3, 21)
    }
    assert most[1] > 1.5 * most[3] > 1.5 * most[21]
    assert repr(MultiProbeHash(["a"])).endswith("probes=21)")
    for bad in (0, -1, 1025, 1.5, "many", 2**70):
        with pytest.raises(ConfigError, match="probes"):
            MultiProbeHash(["a"], probes=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "options"),
    [(MementoHash, {}), (MultiProbeHash, {"probes": 5}), (WeightedRandom, {"ring": "haproxy", "choices": 3})],
)
def test_they_travel_with_their_options(make: Any, options: dict[str, Any]) -> None:
    picker = make(Pool([Endpoint(str(i), weight=1 + i % 2) for i in range(6)], seed=9), **options)
    other = pickle.loads(pickle.dumps(picker))
    assert repr(other) == repr(picker)
    assert [e.id for e in other.pick_many(60)] == [e.id for e in picker.pick_many(60)]


# WeightedRandom(ring="haproxy")


def test_haproxys_random_goes_by_arcs_and_takes_the_least_loaded_of_its_draws() -> None:
    names = [Endpoint(f"s{i}", hash_key=i + 1) for i in range(3)]
    n = 60_000
    arcs = np.bincount(
        aibalance.RingHash(names, ring="haproxy").pick_many(KEYS >> np.uint64(32), hashed=True).indices, minlength=3
    ) / len(KEYS)
    assert 0.28 < arcs[1] < 0.31
    for choices in (1, 2, 5):
        picker = WeightedRandom(Pool(names, seed=1), ring="haproxy", choices=choices)
        shares = np.bincount(picker.pick_many(n).indices) / n
        assert np.abs(shares - arcs).max() < 0.015  # nobody is busy: the last draw decides
        with picker.acquire(subset=["s0"]):
            # The busy one is taken only when all draws fall on it.
            busy = (picker.pick_many(n).indices == 0).mean()
            assert abs(busy - arcs[0] ** choices) < 0.015
    assert repr(WeightedRandom(names, ring="haproxy")).endswith("ring='haproxy', choices=2)")


def test_haproxys_random_compares_load_for_the_weight() -> None:
    pool = Pool([Endpoint("light", weight=1, hash_key=1), Endpoint("heavy", weight=4, hash_key=2)], seed=3)
    picker = WeightedRandom(pool, ring="haproxy", choices=64)
    held = [picker.acquire() for _ in range(500)]
    counts = Counter(lease.endpoint.id for lease in held)
    assert 96 <= counts["light"] <= 104


def test_haproxys_random_goes_on_from_who_cannot_be_had() -> None:
    pool = Pool(
        [Endpoint(f"s{i}", weight=w, hash_key=i + 1, max_inflight=2) for i, w in enumerate((1, 2, 0, 1))], seed=5
    )
    picker = WeightedRandom(pool, ring="haproxy")
    held = [picker.acquire() for _ in range(6)]
    assert Counter(lease.endpoint.id for lease in held) == {"s0": 2, "s1": 2, "s3": 2}
    assert picker.try_acquire() is None
    held.pop().release()
    assert picker.try_pick() is not None
    assert {e.id for e in picker.ranked(k=5, exclude=["s0"])} <= {"s1", "s3"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ring": "envoy"}, "ring"),
        ({"choices": 2}, "choices.*None without ring"),
        ({"ring": "haproxy", "choices": 0}, "choices"),
        ({"ring": "haproxy", "choices": 65_536}, "choices"),
        ({"ring": "haproxy", "choices": 2.0}, "choices"),
        ({"ring": "haproxy", "choices": True}, "choices"),
    ],
)
def test_what_haproxys_random_cannot_do_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WeightedRandom(["a"], **options)
