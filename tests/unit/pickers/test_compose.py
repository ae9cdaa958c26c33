"""Pickers of one's own, and pickers made of pickers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from aibalance import (
    Candidate,
    ConfigError,
    CustomPicker,
    Endpoint,
    Fallback,
    First,
    Hashed,
    Key,
    Lease,
    LeastRequest,
    Maglev,
    ManualClock,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    Picker,
    Pool,
    Rendezvous,
    RetryBudget,
    RoundRobin,
    Subset,
    TrafficSplit,
    WeightedRandom,
)


class Least(CustomPicker):
    """The least loaded, the first among equals."""

    def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
        return min(candidates, key=lambda one: one.stats.load / one.stats.weight).endpoint


class Minimal:
    """The four methods, and nothing else."""

    def __init__(self, pool: Pool) -> None:
        self.inner = RoundRobin(pool)

    def pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint:
        return self.inner.pick(key, now=now)

    def try_pick(self, key: Key | None = None, /, *, now: float | None = None) -> Endpoint | None:
        return self.inner.try_pick(key, now=now)

    def acquire(self, key: Key | None = None, /, **options: Any) -> Lease:
        return self.inner.acquire(key, **options)

    def try_acquire(self, key: Key | None = None, /, **options: Any) -> Lease | None:
        return self.inner.try_acquire(key, **options)


def ids(endpoints: Any) -> list[str]:
    return [endpoint.id for endpoint in endpoints]


def inflight(pool: Pool) -> list[int]:
    return [record.inflight for record in pool.stats()]


def strict(*endpoints: Endpoint | str, **options: Any) -> Pool:
    return Pool(endpoints, panic_threshold=0, **options)


# ------------------------------------------------------------------------------------------------------- protocol


@pytest.mark.parametrize(
    "picker", [RoundRobin(["a"]), Maglev(["a"]), Least(["a"]), Minimal(Pool(["a"])), Fallback(First(["a"]))]
)
def test_these_are_pickers(picker: object) -> None:
    assert isinstance(picker, Picker)


@pytest.mark.parametrize("other", [object(), Pool(["a"]), "picker", None, ["a"]])
def test_these_are_not(other: Any) -> None:
    assert not isinstance(other, Picker)
    makers: list[Callable[[Any], object]] = [
        Fallback,
        lambda picker: TrafficSplit([(picker, 1)]),
        lambda picker: Subset(picker, tags={}),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match="expected a picker"):
            make(other)
        with pytest.raises(ConfigError, match="expected a picker"):
            make(RoundRobin)  # the class, not one of it


# ---------------------------------------------------------------------------------------------------------- custom


def test_a_picker_of_ones_own_does_all_that_the_built_in_ones_do() -> None:
    picker = Least([Endpoint("a"), Endpoint("b", weight=2)])
    leases = [picker.acquire() for _ in range(6)]
    assert inflight(picker.pool) == [2, 4]
    for lease in leases:
        lease.release()
    assert inflight(picker.pool) == [0, 0]
    assert ids(picker.ranked(k=5)) == ["a", "b"]
    assert ids(picker.ranked(k=5, exclude=["a"])) == ["b"]
    assert ids(lease.endpoint for lease in picker.attempts(budget=5)) == ["a", "b"]
    assert picker.pick_many(3).indices.tolist() == [0, 0, 0]
    assert picker.try_acquire(subset=["nobody"]) is None
    with picker.acquire(cost=4.0, subset=[picker.pool.endpoints[0]]):
        assert picker.pick().id == "b"


def test_candidates_are_who_may_take_it_now() -> None:
    endpoints = ["a", "b", Endpoint("c", backup=True), Endpoint("d", weight=0), Endpoint("e", max_inflight=1)]
    pool = strict(*endpoints, failover="backup")
    picker = Least(pool)
    seen = lambda **names: [one.stats.id for one in picker.candidates(**names)]  # noqa: E731
    assert seen() == ["a", "b", "e"]
    busy = picker.acquire(subset=["e"])
    assert seen() == ["a", "b"]
    pool.set_health("a", "degraded")
    assert seen() == ["b"]
    assert seen(exclude=["b"]) == ["a"]
    pool.drain("b")
    assert seen() == ["a"]
    pool.set_health("a", "unhealthy")
    busy.release()
    assert seen() == ["e"]
    assert seen(exclude=["e"]) == ["c"]
    assert seen(subset=["c", "d"]) == ["c"]
    assert seen(subset=[]) == []


def test_in_panic_everybody_is_a_candidate() -> None:
    pool = Pool(["a", "b", "c"])
    picker = Least(pool)
    pool.set_health("a", "unhealthy")
    assert [one.stats.id for one in picker.candidates()] == ["b", "c"]
    pool.set_health("b", "unhealthy")
    pool.set_health("c", "degraded")
    pool.set_health("c", "unhealthy")
    assert [one.stats.id for one in picker.candidates()] == ["a", "b", "c"]


def test_nobody_is_told_as_the_built_in_ones_tell_it() -> None:
    with pytest.raises(NoEndpointsError):
        Least([]).pick()
    pool = strict("a")
    pool.set_health("a", "unhealthy")
    with pytest.raises(NoHealthyEndpointError):
        Least(pool).acquire()
    full = Least([Endpoint("a", max_inflight=1)])
    with full.acquire(), pytest.raises(OverloadedError):
        full.acquire()
    assert full.try_pick() is not None


@pytest.mark.parametrize("answer", [None, "a", 0, Endpoint("stranger")])
def test_a_choice_that_is_no_candidate_is_an_error(answer: Any) -> None:
    class Wrong(CustomPicker):
        def choose(self, candidates: Sequence[Candidate], key: Key | None, /) -> Endpoint:
            found: Endpoint = answer
            return found

    for call in (Wrong(["a"]).pick, Wrong(["a"]).acquire, Wrong(["a"]).try_pick):
        with pytest.raises(ConfigError, match=r"Wrong\.choose: .*expected the endpoint of one of the candidates"):
            call()


def test_a_pool_brings_its_own_seed_and_clock() -> None:
    for options in ({"seed": 1}, {"clock": ManualClock()}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Least(Pool(["a"]), **options)  # type: ignore[arg-type]
    clock = ManualClock(3.0)
    assert Least(["a"], clock=clock).pool.clock is clock or Least(["a"], clock=clock).pool.clock == clock


def test_a_picker_of_ones_own_pickles() -> None:
    again = pickle.loads(pickle.dumps(Least(["a", "b"])))
    with again.acquire() as lease:
        assert inflight(again.pool) == [1, 0]
        assert lease.endpoint.id == "a"


# -------------------------------------------------------------------------------------------------------- fallback


def test_the_second_picks_only_while_the_first_cannot() -> None:
    here, there = strict(Endpoint("h", max_inflight=2)), Pool(["t1", "t2"])
    picker = Fallback(Least(here), Minimal(there))
    leases = [picker.acquire() for _ in range(4)]
    assert ids(lease.endpoint for lease in leases) == ["h", "h", "t1", "t2"]
    assert (inflight(here), inflight(there)) == ([2], [1, 1])
    leases[0].release()
    assert picker.pick().id == "h"
    here.set_health("h", "unhealthy")
    assert picker.try_pick() in there.endpoints
    assert set(ids(picker.pick_many(4))) == {"t1", "t2"}
    here.set_health("h", "healthy")
    assert ids(picker.pick_many(2)) == ["h", "h"]
    assert picker.pools == (here,)  # the other one does not say
    for lease in leases:
        lease.release()
    assert (inflight(here), inflight(there)) == ([0], [0, 0])


def test_attempts_and_ranks_go_through_the_first_before_the_second() -> None:
    picker = Fallback(First(["a", "b"]), Minimal(Pool(["c", "d"])))
    assert ids(picker.ranked(k=9))[:2] == ["a", "b"]
    assert set(ids(picker.ranked(k=9))) == set("abcd")
    assert ids(picker.ranked(k=1)) == ["a"]
    assert ids(picker.ranked(k=2, exclude=["a"])) == ["b", "c"] or ids(picker.ranked(k=1, exclude=["a"])) == ["b"]
    tried = [lease.endpoint.id for lease in picker.attempts(budget=9)]
    assert tried[:2] == ["a", "b"]
    assert sorted(tried) == list("abcd")
    assert ids(lease.endpoint for lease in picker.attempts(budget=3))[:2] == ["a", "b"]
    assert picker.acquire(exclude=iter(["a", "b"])).endpoint.id in "cd"
    assert picker.acquire(subset=iter(["d"])).endpoint.id == "d"


def test_the_error_is_the_one_that_says_most() -> None:
    sick = strict("a")
    sick.set_health("a", "unhealthy")
    full = First([Endpoint("f", max_inflight=1)])
    lease = full.acquire()
    with pytest.raises(NoEndpointsError):
        Fallback(First([]), RoundRobin([])).pick()
    with pytest.raises(NoHealthyEndpointError):
        Fallback(First(sick), RoundRobin([])).acquire()
    with pytest.raises(OverloadedError):
        Fallback(First(sick), full, First([])).pick_many(1)
    assert Fallback(First(sick), full).try_acquire() is None
    assert Fallback(First(sick), full).try_pick() is None
    assert Fallback(First(sick), full).ranked(k=1) == []
    lease.release()
    with pytest.raises(ConfigError, match=r"pickers: .*at least one"):
        Fallback()
    with pytest.raises(ConfigError, match="k: -1"):
        Fallback(full).ranked(k=-1)


@pytest.mark.parametrize("budget", [0, -1, True, 1.5, "2", None])
def test_a_budget_that_cannot_be(budget: Any) -> None:
    for picker in (Fallback(First(["a"])), Least(["a"])):
        with pytest.raises(ConfigError, match="budget"):
            picker.attempts(budget=budget)


def test_a_retry_budget_is_spent_as_by_the_built_in_ones() -> None:
    def spent(make: Callable[[Pool], Any]) -> list[int]:
        clock = ManualClock(0.0)
        pool = Pool(["a", "b", "c"], clock=clock)
        budget = RetryBudget(ratio=0.5, min_per_second=0.0, max_attempts=3)
        counts = []
        for i in range(12):
            clock.advance(0.5)
            counts.append(len(list(make(pool).attempts(budget=budget))))
            if i == 6:
                clock.advance(60.0)
        return counts

    built_in = spent(RoundRobin)
    assert len(set(built_in)) > 1
    assert spent(lambda pool: Fallback(RoundRobin(pool))) == built_in
    assert spent(Least) == built_in


# ----------------------------------------------------------------------------------------------------------- split


def canary(**options: Any) -> TrafficSplit:
    return TrafficSplit([(RoundRobin(["s1", "s2"]), 95), (Least(["c"]), 5)], **options)


def test_shares_are_as_the_weights_say() -> None:
    drawn = [canary(seed=seed).pick_many(4000) for seed in range(5)]
    for picks in drawn:
        # 5 % of 4,000 within four standard errors.
        assert abs(ids(picks).count("c") - 200) < 4 * (4000 * 0.05 * 0.95) ** 0.5
    assert len({tuple(picks.indices) for picks in drawn}) == 5
    turns = canary(by="turns")
    assert [ids(turns.pick() for _ in range(20)).count("c") for _ in range(5)] == [1] * 5
    assert [turns.acquire().endpoint.id for _ in range(20)].count("c") == 1


def test_the_seed_repeats_the_draws() -> None:
    one, two, other = (canary(seed=seed) for seed in (7, 7, 8))
    picks = [ids(p.pick() for _ in range(400)) for p in (one, two, other)]
    assert picks[0] == picks[1] != picks[2]


def test_many_picks_are_that_many_picks() -> None:
    keys = [f"user {i}" for i in range(500)]
    for by in ("chance", "turns", "key"):
        make = lambda by=by: TrafficSplit([(Maglev(["a", "b"]), 3), (Least(["c", "d"]), 1)], by=by, seed=3)  # noqa: E731
        one, many = make(), make()
        assert [one.pick(key).id for key in keys] == ids(many.pick_many(keys))
        one, many = make(), make()
        numbers = np.arange(300, dtype=np.uint64)
        assert [one.pick(Hashed(int(n))).id for n in numbers] == ids(many.pick_many(numbers, hashed=True))
        one, many = make(), make()
        assert [one.pick(int(n)).id for n in numbers] == ids(many.pick_many(numbers))
    assert len(canary().pick_many(0)) == 0
    for wrong in ("key", 1.5, None, -1):
        with pytest.raises(ConfigError, match="n_or_keys"):
            canary().pick_many(wrong)


def test_by_key_a_user_stays_and_few_move_when_weights_change() -> None:
    split = TrafficSplit([(Rendezvous(["s1", "s2"]), 95), (Rendezvous(["c1", "c2"]), 5)], by="key")
    keys = [f"user {i}" for i in range(2000)]
    before = ids(split.pick_many(keys))
    assert ids(split.pick_many(keys)) == before
    share = sum(id.startswith("c") for id in before)
    assert abs(share - 100) < 4 * (2000 * 0.05 * 0.95) ** 0.5
    split.set_weights([90, 10])
    after = ids(split.pick_many(keys))
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert moved
    assert all(old.startswith("s") and new.startswith("c") for old, new in moved)


def test_weight_0_gets_nothing_and_a_part_without_anybody_gives_its_share_away() -> None:
    pool = strict("c")
    split = TrafficSplit([(RoundRobin(["s"]), 1), (Least(pool), 1), (First(["never"]), 0)], by="turns")
    assert set(ids(split.pick_many(10))) == {"s", "c"}
    pool.set_health("c", "unhealthy")
    assert set(ids(split.pick_many(10))) == {"s"}
    assert {split.pick().id for _ in range(10)} == {"s"}
    assert ids(split.ranked(k=9)) == ["s"]
    assert split.try_acquire(exclude=["s"]) is None
    with pytest.raises(NoHealthyEndpointError):
        split.acquire(exclude=["s"])
    pool.set_health("c", "healthy")
    assert sorted(ids(split.ranked(k=9))) == ["c", "s"]
    assert split.acquire(exclude=["s"]).endpoint.id == "c"
    assert sorted(lease.endpoint.id for lease in split.attempts(budget=9)) == ["c", "s"]
    split.set_weights([0, 0, 0])
    assert split.try_pick() is None
    assert split.try_acquire() is None
    assert split.ranked(k=1) == []
    for call in (split.pick, split.acquire, lambda: split.pick_many(1)):
        with pytest.raises(NoHealthyEndpointError):
            call()


def test_a_lease_that_is_dropped_on_the_way_gives_its_work_back() -> None:
    pool = Pool([Endpoint("a", max_inflight=1), Endpoint("b", max_inflight=1)])
    for picker in (Fallback(First(pool)), TrafficSplit([(Least(pool), 1)]), Subset(Least(pool), tags={})):
        attempts = picker.attempts(budget=5)
        assert next(attempts).endpoint.id == "a"
        assert inflight(pool) == [0, 0]
        assert [lease.endpoint.id for lease in attempts] == ["b"]
        assert inflight(pool) == [0, 0]
        for call in (picker.pick, picker.acquire):
            held = [picker.acquire(), picker.acquire()]
            with pytest.raises(OverloadedError) as caught:
                call()
            del held, caught
            assert inflight(pool) == [0, 0]


def test_what_the_first_said_keeps_no_lease_of_the_second() -> None:
    pool = Pool(["a"])
    picker = Fallback(First([]), RoundRobin(pool))

    def caller() -> None:
        lease = picker.acquire()
        assert lease.endpoint.id == "a"

    caller()
    assert inflight(pool) == [0]


def test_wrong_parts_and_weights() -> None:
    for parts, names in (([], "parts"), ([RoundRobin(["a"])], r"parts\[0\]"), ([(RoundRobin(["a"]), -1)], "weight")):
        with pytest.raises(ConfigError, match=names):
            TrafficSplit(parts)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="by: 'luck' is not allowed; expected one of 'chance', 'turns', 'key'"):
        canary(by="luck")
    split = canary()
    for weights in ([1], [1, 2, 3], [1, -1], [1, float("nan")]):
        with pytest.raises(ConfigError, match="weight"):
            split.set_weights(weights)
        assert split.weights == (95, 5)


# ---------------------------------------------------------------------------------------------------------- subset


GPUS = [
    Endpoint("a", tags={"gpu": "h100", "zone": 1}),
    Endpoint("b", tags={"gpu": "l4"}, weight=3),
    Endpoint("c", tags={"gpu": "h100", "zone": 2}),
    Endpoint("d"),
]


@pytest.mark.parametrize("make", [RoundRobin, Least, Minimal, lambda pool: Fallback(First(pool))])
def test_only_those_that_belong(make: Callable[[Pool], Picker]) -> None:
    pool = strict(*GPUS)
    inner = make(pool)
    if isinstance(inner, Minimal):
        with pytest.raises(ConfigError, match="picker with `pool`"):
            Subset(inner, tags={})
        inner = Fallback(inner, First(pool))
    subset = Subset(inner, tags={"gpu": "h100"})
    assert ids(subset.endpoints) == ["a", "c"]
    assert {subset.pick().id for _ in range(8)} <= {"a", "c"}
    assert set(ids(subset.pick_many(8))) <= {"a", "c"}
    assert set(ids(subset.ranked(k=9))) == {"a", "c"}
    assert sorted(lease.endpoint.id for lease in subset.attempts(budget=9)) == ["a", "c"]
    with subset.acquire(exclude=["a"]) as lease:
        assert lease.endpoint.id == "c"
        assert inflight(pool) == [0, 0, 1, 0]
    assert subset.acquire(subset=["b", "c"]).endpoint.id == "c"
    assert subset.try_acquire(subset=["b"]) is None
    pool.set_health("a", "unhealthy")
    pool.set_health("c", "unhealthy")
    assert subset.try_pick() is None
    with pytest.raises(NoHealthyEndpointError):
        subset.pick()
    pool.add(Endpoint("e", tags={"gpu": "h100"}))
    assert subset.pick().id == "e"
    assert inflight(pool) == [0] * 5


def test_tags_and_predicate_both_count() -> None:
    pool = Pool(GPUS)
    assert ids(Subset(First(pool), tags={"gpu": "h100", "zone": 2}).endpoints) == ["c"]
    assert ids(Subset(First(pool), where=lambda e: e.weight > 1).endpoints) == ["b"]
    assert ids(Subset(First(pool), tags={"gpu": "h100"}, where=lambda e: e.id > "a").endpoints) == ["c"]
    assert ids(Subset(First(pool), tags={}).endpoints) == ["a", "b", "c", "d"]
    nested = Subset(Subset(First(pool), tags={"gpu": "h100"}), where=lambda e: e.id > "a")
    assert nested.pick().id == "c"
    for wrong in ({}, {"tags": "gpu"}, {"where": "gpu"}):
        with pytest.raises(ConfigError, match=r"tags|where"):
            Subset(First(pool), **wrong)  # type: ignore[arg-type]


def test_a_subset_keeps_the_turns_of_its_picker() -> None:
    subset = Subset(RoundRobin(Pool(GPUS)), where=lambda e: e.id != "d")
    assert ids(subset.pick() for _ in range(5)).count("b") == 3


# ----------------------------------------------------------------------------------------------------- all of them


def heavy(endpoint: Endpoint) -> bool:
    return endpoint.weight > 1


@pytest.mark.parametrize(
    "picker",
    [
        Fallback(RoundRobin(["a"]), Least(["b"])),
        TrafficSplit([(WeightedRandom(["a"], seed=1), 3), (LeastRequest(["b"], seed=2), 1)], by="turns"),
        Subset(RoundRobin(Pool(GPUS)), tags={"gpu": "l4"}, where=heavy),
    ],
    ids=lambda picker: type(picker).__name__,
)
def test_frozen_and_picklable_with_a_useful_repr(picker: Any) -> None:
    again = pickle.loads(pickle.dumps(picker))
    assert ids(again.pick() for _ in range(12)) == ids(picker.pick() for _ in range(12))
    assert copy.copy(picker) is picker
    assert repr(picker).startswith(f"{type(picker).__name__}(")
    assert "<Pool of" in repr(picker)
    for name in ("pickers", "picker", "new"):
        with pytest.raises(AttributeError):
            setattr(picker, name, 1)
    with pytest.raises(AttributeError):
        del picker.pools


def test_parts_that_share_a_pool_share_it_after_a_pickle() -> None:
    pool = Pool(["a"])
    again = pickle.loads(pickle.dumps(Fallback(RoundRobin(pool), Least(pool))))
    assert len(again.pools) == 1
