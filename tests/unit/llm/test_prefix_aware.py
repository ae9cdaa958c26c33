"""The picker for language models: scores, options, leases, reports, explanations."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    LeaseError,
    ManualClock,
    NoEndpointsError,
    OverloadedError,
    Pool,
    PrefixAware,
    PrefixExplanation,
    PrefixIndex,
    RoundRobin,
    SlowStart,
)
from aibalance.testing import check_picker

SCORES = ("ttft", "dynamo", "lmetric", "loadaware", "cache_aware")
PROMPT = list(range(64))
"""Four blocks."""


def loads(picker: PrefixAware, prompt: Any = None) -> dict[str, tuple[float | None, ...]]:
    return {
        one.endpoint.id: (one.requests, one.prefill_tokens, one.decode_blocks)
        for one in sorted(picker.explain(prompt), key=lambda one: one.endpoint.id)
    }


@pytest.mark.parametrize("score", SCORES)
def test_it_is_a_picker_like_any_other(score: Any) -> None:
    report = check_picker(lambda pool: PrefixAware(pool, score=score), claims={"reproducible"}, scripts=10, picks=200)
    assert report.claims == {"reproducible": 0.0} or "reproducible" in report.claims


def test_a_lease_charges_prefill_until_the_first_token_and_blocks_until_its_end() -> None:
    picker = PrefixAware(["a"], seed=1)
    lease = picker.acquire(np.arange(40))
    assert loads(picker)["a"] == (1, 40, 3)
    assert (lease.cost, picker.pool.stats()[0].load) == (40, 40)
    lease.add(24)
    assert (loads(picker)["a"], lease.cost) == ((1, 40, 4), 64)
    lease.add(1)
    assert loads(picker)["a"] == (1, 40, 5)
    lease.first_token()
    lease.first_token()
    assert loads(picker)["a"] == (1, 0, 5)
    sibling = picker.acquire(np.arange(40), cost=40)
    assert loads(picker)["a"] == (2, 8, 6), "two blocks are shared, the ends are not"
    lease.release()
    lease.release()
    assert loads(picker)["a"] == (1, 8, 3)
    sibling.cancel()
    assert loads(picker)["a"] == (0, 0, 0)
    with pytest.raises(LeaseError):
        sibling.first_token()


@pytest.mark.parametrize("way", ["release", "cancel", "drop", "detach", "id", "expire", "with", "remove"])
def test_however_a_lease_ends_nothing_stays(way: str) -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a"], clock=clock, lease_timeout=10.0)
    picker = PrefixAware(pool)
    lease: Any = picker.acquire(PROMPT)
    if way in ("release", "cancel"):
        getattr(lease, way)()
    elif way == "drop":
        del lease
    elif way == "detach":
        held = lease.detach()
        lease.add(16)
        assert loads(picker)["a"] == (1, 64, 5)
        lease.first_token()
        del lease
        assert loads(picker)["a"] == (1, 0, 5)
        pool.release(held)
    elif way == "id":
        pool.cancel(lease.id)
        lease.release()
    elif way == "expire":
        lease.detach()
        clock.advance(10.5)
        pool.advance()
    elif way == "with":
        with lease:
            lease.first_token()
    else:
        pool.update(["b"])
        assert loads(picker) == {"b": (0, 0, 0)}
        lease.release()
        pool.update(["b", "a"])
    assert loads(picker)["a"] == (0, 0, 0)
    assert picker.pool.stats()[0].load == 0


def test_siblings_meet_and_spill_when_that_costs_less() -> None:
    picker = PrefixAware(["a", "b", "c", "d"], seed=3, bounded_load=None)
    first = picker.acquire(PROMPT)
    first.first_token()
    assert picker.pick([*PROMPT, 1, 2, 3]) == first.endpoint
    held = [first, *(picker.acquire([*PROMPT, *[1000 + i] * 160]) for i in range(8))]
    assert len({lease.endpoint.id for lease in held}) == 4


@pytest.mark.parametrize("score", SCORES)
def test_each_score_goes_to_the_prefix_when_all_are_idle(score: Any) -> None:
    for seed in range(8):
        picker = PrefixAware(["a", "b", "c"], seed=seed, score=score)
        picker.index.stored("b", PROMPT)
        assert picker.pick([*PROMPT, 1, 2]).id == "b"


def chosen(*, busy: str = "", tier: Any = "gpu", **options: Any) -> str:
    """Who gets a prompt that a has cached, with a request in flight on each that is named."""
    picker = PrefixAware(["a", "b"], seed=5, **options)
    picker.index.stored("a", PROMPT, tier=tier)
    held = [picker.acquire([1000 + i] * 160, subset=[id]) for i, id in enumerate(busy)]
    found = picker.pick(PROMPT).id
    del held
    return found


@pytest.mark.parametrize(
    ("base", "option", "value"),
    [
        ({"busy": "a", "score": "loadaware", "beta": 0.5}, "beta", 10.0),
        ({"score": "cache_aware", "tier": "disk", "match_threshold": 0.2}, "match_threshold", 0.3),
        ({"busy": "aaa", "score": "cache_aware", "bounded_load": None}, "balance_abs", 2),
        ({"busy": "aaaaab", "score": "cache_aware", "bounded_load": None, "balance_abs": 2}, "balance_rel", 9.0),
        ({"busy": "aaa", "score": "lmetric"}, "bounded_load", None),
        ({"tier": "disk", "score": "cache_aware"}, "credits", (1.0, 1.0, 1.0)),
        ({"busy": "aaaa", "score": "loadaware", "bounded_load": None}, "score", "lmetric"),
    ],
)
def test_each_option_alone_changes_the_choice(base: dict[str, Any], option: str, value: Any) -> None:
    before, after = chosen(**base), chosen(**{**base, option: value})
    if option == "credits":
        # Without credit nobody has enough of it, so that chance decides; with it a does.
        assert after == "a"
        assert {PrefixAware(["a", "b"], seed=seed, score="cache_aware").pick(PROMPT).id for seed in range(9)} == {
            "a",
            "b",
        }
    else:
        assert before != after


def test_prefill_scale_says_what_prefill_counts_against_blocks_in_use() -> None:
    # a has 2 of 4 blocks cached, and 3 blocks in use: 2 + 7 against 4 + 4.
    for scale, wanted in ((1.0, "b"), (4.0, "a")):
        picker = PrefixAware(["a", "b"], seed=1, score="dynamo", prefill_scale=scale)
        picker.index.stored("a", PROMPT[:32])
        lease = picker.acquire([7] * 48, subset=["a"])
        lease.first_token()
        assert picker.pick(PROMPT).id == wanted
        lease.release()


def test_dynamos_own_options_change_the_choice() -> None:
    # a has all cached and 4 blocks more in use: 4 + 4 against 4 + 4 + 4, until each request there costs 9 blocks.
    def pick(**options: Any) -> str:
        picker = PrefixAware(["a", "b"], seed=1, score="dynamo", bounded_load=None, **options)
        picker.index.stored("a", PROMPT)
        lease = picker.acquire([7] * 32, subset=["a"])
        if "credit_decay" not in options:
            lease.first_token()
        found = picker.pick(PROMPT).id
        lease.release()
        return found

    assert pick() == "a"
    assert pick(request_weight=9.0) == "b"
    held = PrefixAware(["a", "b"], seed=1, score="dynamo", bounded_load=None)
    held.index.stored("a", PROMPT)
    busy = held.acquire([7] * 16, subset=["a"])
    assert held.pick(PROMPT).id == "a"
    assert pick(credit_decay=100.0) == "b"
    busy.release()


@pytest.mark.parametrize(
    ("options", "costs"),
    [
        # a: 32 tokens wait, 0 of 64 are its own, 6 of 10 blocks in use; b: 0, 64, 4 of 10. The mean prompt has 32.
        # One of two is busy, and a third is idle: what others wait for counts 1 / (1 - 1/3) - 1 times.
        ({}, {"a": (32, 0, 0, 48, 32), "b": (0, 64, 32, 64 / 3, 0)}),
        ({"fresh_scale": 3.0}, {"a": (32, 0, 0, 48, 64), "b": (0, 64, 128, 64 / 3, 0)}),
        ({"fresh_scale": 0.5}, {"b": (0, 32, 0, 64 / 3, 0), "a": (32, 0, 0, 48, 32 / 3)}),
        ({"crowd_scale": 3.0}, {"b": (0, 64, 32, 64 / 3, 0), "a": (32, 0, 0, 48, 96)}),
        ({"memory_scale": 3.0}, {"b": (0, 64, 32, 64, 0), "a": (32, 0, 0, 144, 32)}),
        ({"credits": (0.0, 0.0, 0.0)}, {"b": (0, 64, 32, 64 / 3, 0), "a": (32, 64, 32, 48, 32)}),
    ],
)
def test_ttft_counts_what_comes_before_the_first_token_memory_and_others(
    options: dict[str, Any], costs: dict[str, tuple[float, ...]]
) -> None:
    picker = PrefixAware(["a", "b"], seed=1, score="ttft", index=PrefixIndex(capacity=10), **options)
    picker.index.stored("a", PROMPT)
    lease = picker.acquire([7] * 32, subset=["a"])
    found = picker.explain(PROMPT)
    names = ("waiting", "own", "others", "memory", "crowd")
    assert [one.endpoint.id for one in found] == list(costs)
    for one, terms in zip(found, costs.values(), strict=True):
        assert dict(one.terms) == pytest.approx(dict(zip(names, terms, strict=True)))
        assert one.cost == pytest.approx(sum(terms))
        assert f"crowd {terms[-1]:.4g})" in str(one)
    assert picker.pick(PROMPT).id == next(iter(costs))
    lease.release()


def test_ttft_goes_by_strength() -> None:
    """A weight divides what waits and what is its own; what that costs others is the same wherever it is."""
    picker = PrefixAware([Endpoint("a", weight=3), "b"], seed=1, index=PrefixIndex(capacity=8))
    held = [picker.acquire([7] * 32, subset=[id]) for id in "aab"]
    strong, weak = sorted(picker.explain([9] * 64), key=lambda one: one.endpoint.id)
    # All are busy: a strength of 4, with a mean one that is idle 6, so that others count twice. The second lease on a
    # shares the first one's blocks. M is 32, R is 1.5 on the average.
    costs = [32 / 3, 64 / 3, 2 * 64 / 2, 32 * 6 / 2 / 3, 3 * 32 * 2 / 2.5 / 3]
    assert [value for _, value in strong.terms] == pytest.approx(costs)
    assert [value for _, value in weak.terms] == pytest.approx([32, 64, 64, 32 * 6 / 2, 3 * 32 * 1 / 2.5])
    assert PrefixAware(["a"], score="dynamo").explain([9] * 64)[0].terms == ()
    for lease in held:
        lease.release()


def test_ttft_follows_how_many_are_busy() -> None:
    """Nobody busy: own tokens count once. All of four: five times."""
    picker = PrefixAware([f"e{n}" for n in range(4)], seed=1)
    held: list[Any] = []
    for busy in range(5):
        terms = dict(picker.explain([9] * 64)[0].terms)
        assert terms["own"] + terms["others"] == pytest.approx(64 * 5 / (5 - busy))
        held.append(picker.acquire([busy] * 64, subset=[f"e{busy % 4}"]))
    for lease in held:
        lease.first_token()
    assert dict(picker.explain([9] * 64)[0].terms)["others"] == 0, "who has the first token waits no longer"


def test_ttft_bears_a_memory_that_is_more_than_full() -> None:
    picker = PrefixAware(["a", "b"], seed=1, score="ttft", index=PrefixIndex(capacity=8))
    held = [picker.acquire([7, i] * 80, subset=["a"]) for i in range(3)]
    for lease in held:
        lease.first_token()
    worst, best = sorted(picker.explain(PROMPT), key=lambda one: -(one.cost or 0.0))
    assert (worst.endpoint.id, best.endpoint.id) == ("a", "b")
    assert worst.cost == pytest.approx(64 + 160 * (30 + 4) / 0.008 + 160 * 3 / 2.5)


def test_credits_and_weights_count() -> None:
    def pick(endpoints: Any, **options: Any) -> str:
        picker = PrefixAware(endpoints, seed=2, **options)
        picker.index.stored("a", PROMPT, tier="host")
        picker.index.stored("b", PROMPT[:32])
        return picker.pick(PROMPT).id

    assert pick(["a", "b"]) == "a"
    assert pick(["a", "b"], credits=(1.0, 0.25, 0.1)) == "b"
    strong = [Endpoint("a"), Endpoint("b", weight=10)]
    for score in ("ttft", "dynamo", "lmetric"):
        assert pick(strong, score=score) == "b"


def test_temperature_draws_and_zero_does_not() -> None:
    picker = PrefixAware(["a", "b"], seed=4)
    picker.index.stored("a", PROMPT)
    assert {picker.pick(PROMPT).id for _ in range(50)} == {"a"}
    warm = PrefixAware(["a", "b"], seed=4, temperature=1.0, index=picker.index)
    share = sum(warm.pick(PROMPT).id == "a" for _ in range(4000)) / 4000
    assert abs(share - 1 / (1 + np.exp(-1))) < 0.04


def test_a_report_stands_in_for_what_was_sent_before_it() -> None:
    clock = ManualClock(0.0)
    picker = PrefixAware(Pool(["a", "b"], clock=clock, seed=1), bounded_load=None)
    picker.index.set_capacity("a", 1000)
    lease = picker.acquire(PROMPT, subset=["a"])
    picker.pool.observe("a", inflight=4, queue=3, kv_cache=0.5)
    assert loads(picker)["a"] == (7, 3 * 64, 500), "what waits has as many tokens as the mean prompt so far"
    lease.release()
    assert loads(picker)["a"] == (6, 2 * 64, 496)
    assert picker.pick(PROMPT).id == "b"
    clock.advance(10.5)
    assert loads(picker)["a"] == (0, 0, 0)
    assert [one.stale for one in picker.explain()].count(True) == 1
    assert picker.pick(PROMPT).id == "a"
    for age, stale, wanted in ((None, "own", "b"), (1.0, "own", "a"), (1.0, "saturated", "b")):
        other = PrefixAware(picker.pool, index=picker.index, max_report_age=age, stale=stale, bounded_load=None)  # type: ignore[arg-type]
        other.index.stored("a", PROMPT)
        assert other.pick(PROMPT).id == wanted
    # All are out of date: then that is no reason.
    picker.pool.observe("b", inflight=0)
    clock.advance(10.5)
    assert picker.pick(PROMPT).id == "a"


def test_health_limits_exclusion_and_slow_start_are_the_pools() -> None:
    clock = ManualClock(0.0)
    pool = Pool([Endpoint("a", max_inflight=1), Endpoint("b"), Endpoint("idle", weight=0)], clock=clock, seed=1)
    picker = PrefixAware(pool)
    picker.index.stored("a", PROMPT)
    lease = picker.acquire(PROMPT)
    assert lease.endpoint.id == "a"
    assert picker.pick(PROMPT).id == "b"
    lease.release()
    assert [e.id for e in picker.ranked(PROMPT, k=9)] == ["a", "b"]
    assert [lease.endpoint.id for lease in picker.attempts(PROMPT, budget=5)] == ["a", "b"]
    assert picker.acquire(PROMPT, exclude=["a"]).endpoint.id == "b"
    pool.drain("a")
    assert picker.pick(PROMPT).id == "b"
    full = PrefixAware([Endpoint("x", max_inflight=1)])
    last = full.acquire(PROMPT)
    with pytest.raises(OverloadedError):
        full.acquire(PROMPT)
    last.release()
    with pytest.raises(NoEndpointsError):
        PrefixAware([]).pick(PROMPT)
    assert PrefixAware([]).try_pick(PROMPT) is None
    assert PrefixAware([]).try_acquire(PROMPT) is None
    slow = PrefixAware(Pool(["old"], clock=clock, seed=1, slow_start=SlowStart(100.0)))
    clock.advance(1000.0)
    slow.pool.advance()
    slow.pool.add("new")
    held = [slow.acquire([i] * 160) for i in range(40)]
    assert 1 <= sum(lease.endpoint.id == "new" for lease in held) <= 8


def test_batches_queues_and_handles() -> None:
    picker = PrefixAware([Endpoint("a", max_inflight=1), Endpoint("b", max_inflight=1)], seed=1)
    picker.index.stored("b", PROMPT)
    assert [e.id for e in picker.pick_many([PROMPT, np.array([1], np.uint64), None, PROMPT])][::3] == ["b", "b"]
    assert len(picker.pick_many(5)) == 5
    with pytest.raises(ConfigError, match="hashed"):
        picker.pick_many([1], hashed=True)
    with pytest.raises(ConfigError, match="n_or_keys"):
        picker.pick_many(3.5)  # type: ignore[call-overload]
    assert picker.local().pick(PROMPT).id == "b"

    async def main() -> tuple[str, float]:
        async with await picker.acquire_when_free(PROMPT, timeout=1) as lease:
            return lease.endpoint.id, lease.cost

    assert asyncio.run(main()) == ("b", 64)


def test_an_explanation_has_the_parts_of_the_score() -> None:
    picker = PrefixAware(["a", "b", Endpoint("off", weight=0)], seed=1, score="dynamo")
    picker.index.stored("a", PROMPT)
    best, other, off = picker.explain(PROMPT)
    assert isinstance(best, PrefixExplanation)
    assert (best.endpoint.id, best.reason, best.cached.gpu, best.uncached_tokens, best.cost) == ("a", "chosen", 4, 0, 4)
    assert (other.uncached_tokens, other.cost, other.spared) == (64, 8, False)
    assert (off.cost, off.reason) == (None, "weight 0")
    assert "4 blocks cached" in str(best)
    assert "cost" not in str(off)
    assert picker.explain(PROMPT, exclude=["a"])[-1].reason in ("excluded", "weight 0")


def test_several_pickers_share_an_index_and_its_loads() -> None:
    index = PrefixIndex()
    prefill, decode = PrefixAware(["a", "b"], index=index), PrefixAware(["a", "c"], index=index)
    lease = prefill.acquire(PROMPT, subset=["a"])
    assert loads(decode)["a"] == (1, 64, 4)
    prefill.pool.update(["b"])
    assert index.matches(PROMPT)["a"].blocks == 4, "it is still in the other pool"
    decode.pool.update(["c"])
    assert index.matches(PROMPT) == {}
    lease.release()
    assert index.endpoints == ("b", "c")
    index.stored("b", PROMPT)
    del prefill
    assert index.matches(PROMPT)["b"].blocks == 4, "a picker that goes takes nothing along"


def test_it_travels_with_pool_index_and_options() -> None:
    for score in SCORES:
        picker = PrefixAware(["a", "b"], score=score, temperature=0.5, stale="saturated", max_report_age=None, seed=3)  # type: ignore[arg-type]
        picker.index.stored("b", PROMPT)
        twin = pickle.loads(pickle.dumps(picker))
        assert repr(twin) == repr(picker)
        assert twin.index.matches(PROMPT) == picker.index.matches(PROMPT)
        assert f"score='{score}'" in repr(twin)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"score": "best"}, "score"),
        ({"beta": 1.0}, "beta"),
        ({"score": "lmetric", "prefill_scale": 1.0}, "prefill_scale"),
        ({"score": "loadaware", "beta": -1.0}, "beta"),
        ({"score": "cache_aware", "match_threshold": 1.5}, "match_threshold"),
        ({"score": "cache_aware", "balance_rel": 0.5}, "balance_rel"),
        ({"score": "dynamo", "credit_decay": float("nan")}, "credit_decay"),
        ({"score": "ttft", "fresh_scale": -1.0}, "fresh_scale"),
        ({"score": "dynamo", "memory_scale": 1.0}, "memory_scale"),
        ({"crowd_scale": -0.5}, "crowd_scale"),
        ({"score": "lmetric", "crowd_scale": 1.0}, "crowd_scale"),
        ({"prefill_scale": 8.0}, "prefill_scale"),
        ({"credits": (1.0, 2.0, 0.0)}, r"credits\[1\]"),
        ({"credits": 1.0}, "credits"),
        ({"temperature": float("inf")}, "temperature"),
        ({"bounded_load": 0.9}, "bounded_load"),
        ({"max_report_age": -1.0}, "max_report_age"),
        ({"stale": "maybe"}, "stale"),
        ({"index": 3}, "index"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_that_cannot_be_honoured_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        PrefixAware(["a"], **options)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="tempo"):
        PrefixAware(["a"], tempo=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="cost"):
        PrefixAware(["a"]).acquire(PROMPT, cost=-1)
    with pytest.raises(ConfigError, match="prompt"):
        PrefixAware(["a"]).acquire(1.5)  # type: ignore[arg-type]


def test_other_pickers_leases_have_no_tokens() -> None:
    pool = Pool(["a"])
    lease = RoundRobin(pool).acquire(cost=5)
    assert loads(PrefixAware(pool))["a"] == (0, 0, 0)
    lease.first_token()
    lease.add(3)
    lease.release()
