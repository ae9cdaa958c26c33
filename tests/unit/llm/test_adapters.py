"""Adapters with k replicas, conversations that let go, pairs of prefill and decode, ranks as endpoints."""

from __future__ import annotations

import asyncio
import pickle
import random
from typing import Any

import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    LeaseError,
    LeastRequest,
    ManualClock,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    Pool,
    PrefixAware,
    PrefixIndex,
    RoundRobin,
)
from aibalance.llm import Conversations, LoraAware, LoraRequest, PairLease, PrefillDecode, Turn
from aibalance.routing import StickyTable
from aibalance.testing import check_picker

PROMPT = list(range(160))
"""Ten blocks."""


def lora(n: int = 4, *, most: int | None = None, **settings: Any) -> tuple[LoraAware, ManualClock]:
    clock = ManualClock(0.0)
    pool = Pool([Endpoint(f"e{i}", max_inflight=most) for i in range(n)], seed=1, clock=clock)
    return LoraAware(LeastRequest(pool), **settings), clock


def test_an_adapter_stays_on_its_replicas() -> None:
    picker, _ = lora(replicas=2, slots=1)
    leases = [picker.acquire(LoraRequest("a")) for _ in range(40)]
    used = {lease.endpoint.id for lease in leases}
    assert used == picker.replicas_of("a")
    assert len(used) == 2
    counts = [sum(lease.endpoint.id == id for lease in leases) for id in used]
    assert abs(counts[0] - counts[1]) <= 6


def test_one_replica_is_enough_while_it_has_no_more_than_its_share() -> None:
    picker, _ = lora(replicas=3, slots=2)
    for _ in range(30):
        picker.acquire(LoraRequest("a")).release()
    assert len(picker.replicas_of("a")) == 1
    held = [picker.acquire(LoraRequest("a")) for _ in range(12)]
    assert len(picker.replicas_of("a")) == 3
    del held
    few, _ = lora(replicas=3, min_inflight=12)
    held = [few.acquire(LoraRequest("a")) for _ in range(12)]
    assert len(few.replicas_of("a")) == 1
    held += [few.acquire(LoraRequest("a"))]
    assert len(few.replicas_of("a")) == 2
    del held
    alone, _ = lora(replicas=3, load_factor=None)
    held = [alone.acquire(LoraRequest("a")) for _ in range(12)]
    assert len(alone.replicas_of("a")) == 1
    assert len({lease.endpoint.id for lease in held}) == 1


def test_new_adapters_go_where_there_is_room() -> None:
    picker, _ = lora(4, slots=2, replicas=1)
    for i in range(8):
        picker.acquire(LoraRequest(f"a{i}")).release()
    assert sorted(len(picker.adapters_of(f"e{i}")) for i in range(4)) == [2, 2, 2, 2]


def test_the_adapter_that_was_not_used_for_longest_goes() -> None:
    picker, clock = lora(1, slots=2, hold=5.0)
    for name in ("a", "b"):
        picker.acquire(LoraRequest(name)).release()
        clock.advance(1)
    picker.acquire(LoraRequest("a")).release()
    assert picker.adapters_of("e0") == ("b", "a")
    clock.advance(60)
    picker.acquire(LoraRequest("c")).release()
    assert picker.adapters_of("e0") == ("a", "c")


def test_what_was_used_within_hold_is_spared_as_long_as_others_can_go() -> None:
    for hold, expected in ((10.0, "e1"), (0.0, None)):
        picker, clock = lora(2, slots=1, replicas=1, hold=hold)
        picker.loaded("e1", "old", now=0.0)
        clock.advance(20)
        picker.loaded("e0", "young")
        lease = picker.acquire(LoraRequest("new"), subset=None)
        # Least request draws between two of equal load unless one of them is spared.
        homes = {lease.endpoint.id}
        for seed in range(20):
            other = LoraAware(LeastRequest(Pool(["e0", "e1"], seed=seed, clock=clock)), slots=1, replicas=1, hold=hold)
            other.loaded("e1", "old", now=0.0)
            other.loaded("e0", "young", now=20.0)
            homes.add(other.acquire(LoraRequest("new")).endpoint.id)
        assert homes == ({expected} if expected else {"e0", "e1"})
    # Nobody can go, and still the request is served.
    picker, _ = lora(1, slots=1)
    picker.acquire(LoraRequest("a"))
    picker.acquire(LoraRequest("b"))
    assert picker.adapters_of("e0") == ("b",)


def test_an_unhealthy_replica_is_replaced_and_does_not_count() -> None:
    picker, _ = lora(3, replicas=1)
    home = picker.acquire(LoraRequest("a")).endpoint.id
    picker.pool.set_health(home, "unhealthy")
    other = picker.acquire(LoraRequest("a")).endpoint.id
    assert other != home
    assert picker.replicas_of("a") == {other}
    # A retry goes elsewhere, though there is one replica only.
    tried = [lease.endpoint.id for lease in picker.attempts(LoraRequest("a"), budget=2)]
    assert len(set(tried)) == 2
    picker.pool.remove(tried[-1])
    picker.acquire(LoraRequest("b"))
    assert picker.adapters_of(tried[-1]) == ()


def test_full_replicas_refuse_although_others_are_free() -> None:
    picker, _ = lora(3, most=1, replicas=2, load_factor=1.0, min_inflight=0)
    held = [picker.acquire(LoraRequest("a")) for _ in range(2)]
    assert picker.try_acquire(LoraRequest("a")) is None
    with pytest.raises(OverloadedError, match="all of its 2 replicas are full"):
        picker.acquire(LoraRequest("a"))
    with pytest.raises(OverloadedError, match="replicas"):
        picker.pick(LoraRequest("a"))
    base = picker.acquire(None)
    with pytest.raises(OverloadedError):
        picker.acquire(None)
    base.release()

    async def waits() -> str:
        waiting = asyncio.ensure_future(picker.acquire_when_free(LoraRequest("a"), timeout=5))
        await asyncio.sleep(0)
        held[0].release()
        return (await waiting).endpoint.id

    assert asyncio.run(waits()) == held[0].endpoint.id


def test_events_and_slots() -> None:
    picker, _ = lora(3, slots=2, replicas=2)
    picker.loaded("e1", "a")
    assert picker.pick(LoraRequest("a")).id == "e1"
    assert picker.replicas_of("a") == {"e1"}
    picker.unloaded("e1", "a")
    picker.unloaded("e2", "never")
    assert picker.replicas_of("a") == set()
    for name in ("a", "b", "c"):
        picker.loaded(picker.pool.endpoints[0], name)
    assert picker.adapters_of("e0") == ("b", "c")
    picker.set_slots("e0", 1)
    assert picker.adapters_of("e0") == ("c",)
    picker.unloaded("e0")
    assert picker.adapters_of("e0") == ()
    # Base model requests have no adapter.
    picker.acquire(LoraRequest(None)).release()
    picker.acquire("key").release()
    assert picker.adapters_of("e0") == ()


def test_bounds_hold_through_any_life() -> None:
    chance = random.Random(3)
    picker, clock = lora(5, most=6, replicas=2, slots=3)
    held: list[Any] = []
    for step in range(3000):
        clock.advance(chance.random())
        if chance.random() < 0.6:
            lease = picker.try_acquire(LoraRequest(f"a{chance.randrange(9)}"))
            held += [] if lease is None else [lease]
        elif held:
            held.pop(chance.randrange(len(held))).release()
        if step % 97 == 0:
            picker.pool.set_health(f"e{chance.randrange(5)}", chance.choice(["healthy", "unhealthy"]))
        assert all(len(picker.adapters_of(f"e{i}")) <= 3 for i in range(5))
        assert all(len(picker.replicas_of(f"a{i}")) <= 2 for i in range(9))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"replicas": 0}, "replicas"),
        ({"slots": True}, "slots"),
        ({"load_factor": 0.5}, "load_factor"),
        ({"hold": -1}, "hold"),
        ({"min_inflight": -1}, "min_inflight"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        LoraAware(RoundRobin(["a"]), **given)
    with pytest.raises(ConfigError, match="picker"):
        LoraAware(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="adapter"):
        LoraAware(RoundRobin(["a"])).pick(LoraRequest(""))
    with pytest.raises(ConfigError, match="endpoint"):
        LoraAware(RoundRobin(["a"])).loaded(3, "a")  # type: ignore[arg-type]


def test_wrappers_are_pickers() -> None:
    def with_adapters(pool: Pool) -> LoraAware:
        return LoraAware(RoundRobin(pool), replicas=100, slots=100)

    check_picker(with_adapters, claims=(), scripts=30)
    check_picker(with_adapters, claims=(), scripts=30, keys=lambda i: LoraRequest(f"a{i % 3}", f"u{i}"))  # type: ignore[arg-type,return-value]
    check_picker(lambda pool: Conversations(RoundRobin(pool)), claims=(), scripts=30, keys=lambda i: Turn(f"c{i}"))  # type: ignore[arg-type,return-value]
    with pytest.raises(NoEndpointsError):
        LoraAware(RoundRobin([])).acquire(LoraRequest("a"))
    picker = LoraAware(RoundRobin(["a"]), replicas=3, slots=2, load_factor=None, hold=1.5)
    assert repr(pickle.loads(pickle.dumps(picker))) == repr(picker)
    with pytest.raises(AttributeError):
        picker.hold = 3
    picker.pool.drain("a")
    with pytest.raises(NoHealthyEndpointError):
        picker.acquire(LoraRequest("a"))
    assert [one.reason for one in picker.explain(LoraRequest("a"))] == ["draining"]  # type: ignore[arg-type]
    assert len(LoraAware(RoundRobin(["a", "b"])).pick_many(5)) == 5


def test_a_prompt_under_an_adapter_is_charged_and_remembered() -> None:
    prefixes = PrefixAware(["a", "b", "c"], seed=1)
    picker = LoraAware(prefixes, replicas=1)
    lease = picker.acquire(LoraRequest("x", PROMPT))
    assert lease.cost == 160
    assert prefixes.index.matches(PROMPT)[lease.endpoint.id].blocks == 10

    async def waits() -> float:
        return (await picker.acquire_when_free(LoraRequest("x", PROMPT), timeout=1)).cost

    assert asyncio.run(waits()) == 160


def test_conversations_stay_and_let_go() -> None:
    clock = ManualClock(0.0)
    pool = Pool([f"e{i}" for i in range(4)], seed=1, clock=clock)
    picker = Conversations(LeastRequest(pool), load_factor=1.5, min_inflight=0)
    home = picker.acquire(Turn("chat"))
    home.release()
    for i in range(10):
        picker.acquire(Turn(f"other{i}")).release()
        lease = picker.acquire(Turn("chat"))
        assert lease.endpoint == home.endpoint
        lease.release()
    assert picker.home("chat") == home.endpoint.id
    busy = [picker.acquire(subset=[home.endpoint]) for _ in range(3)]
    spread = [picker.acquire() for _ in range(6)]
    # Three of nine, and with this one four of ten: 1.5 times a quarter of ten is 3.75, rounded up four.
    assert picker.pick(Turn("chat")) == home.endpoint
    busy += [picker.acquire(subset=[home.endpoint]) for _ in range(2)]
    assert picker.pick(Turn("chat", load_factor=3)) == home.endpoint
    moved = picker.acquire(Turn("chat"))
    assert moved.endpoint != home.endpoint
    for lease in (*busy, *spread):
        lease.release()
    # One in flight is more than its share of two, unless the fleet is said to be at ease with it.
    assert picker.pick(Turn("chat")) != moved.endpoint
    at_ease = Conversations(picker.picker, table=picker.table, min_inflight=2)
    assert at_ease.pick(Turn("chat")) == moved.endpoint
    moved.release()
    assert picker.pick(Turn("chat")) == moved.endpoint
    pool.drain(moved.endpoint.id)
    assert picker.pick(Turn("chat")) != moved.endpoint
    loyal = Conversations(LeastRequest(pool), load_factor=None)
    first = loyal.acquire(Turn("x"))
    assert {loyal.acquire(Turn("x")).endpoint for _ in range(20)} == {first.endpoint}


def test_a_conversation_is_forgotten_after_its_time() -> None:
    clock = ManualClock(0.0)
    table = StickyTable(capacity=8, ttl=60, clock=clock)
    picker = Conversations(RoundRobin(Pool(["a", "b"], clock=clock)), table=table)
    assert [picker.acquire(Turn("x")).endpoint.id for _ in range(3)] == ["a", "a", "a"]
    clock.advance(61)
    assert picker.home("x") is None
    assert picker.acquire(Turn("x")).endpoint.id == "b"
    # Without a conversation it is the picker alone.
    assert {picker.acquire(Turn(None)).endpoint.id for _ in range(2)} == {"a", "b"}
    assert repr(pickle.loads(pickle.dumps(picker))).startswith("Conversations(RoundRobin(")
    for wrong in ({"table": 3}, {"load_factor": 0.9}, {"load_factor": float("nan")}):
        with pytest.raises(ConfigError):
            Conversations(RoundRobin(["a"]), **wrong)
    with pytest.raises(ConfigError, match="load_factor"):
        picker.acquire(Turn("x", load_factor=0.5))


def test_a_turn_is_charged_by_the_picker_inside() -> None:
    picker = Conversations(PrefixAware(["a", "b"], seed=1))
    lease = picker.acquire(Turn("x", PROMPT))
    assert lease.cost == 160
    again = picker.acquire(Turn("x", PROMPT))
    assert again.endpoint == lease.endpoint
    assert picker.picker.index.matches(PROMPT)[lease.endpoint.id].active == 10


def pair(**settings: Any) -> PrefillDecode:
    index = PrefixIndex(block_size=16)
    return PrefillDecode(
        PrefixAware([Endpoint("p", max_inflight=1)], index=index),
        PrefixAware([Endpoint("d", max_inflight=2)], index=index),
        **settings,
    )


def inflight(both: PrefillDecode) -> tuple[int, int]:
    return both.prefill.pool.stats()[0].inflight, both.decode.pool.stats()[0].inflight


def test_both_leases_or_none() -> None:
    both = pair()
    first = both.acquire(PROMPT)
    assert (first.prefill_endpoint.id, first.endpoint.id) == ("p", "d")
    assert inflight(both) == (1, 1)
    with pytest.raises(OverloadedError):
        both.acquire(PROMPT)
    assert inflight(both) == (1, 1)
    first.first_token()
    assert inflight(both) == (0, 1)
    second = both.acquire(PROMPT)
    third = both.prefill.try_acquire()
    assert third is None
    second.prefill_done()
    second.prefill_done()
    with pytest.raises(OverloadedError):
        both.acquire(PROMPT)
    assert inflight(both) == (0, 2)
    first.add(16)
    first.release()
    second.cancel()
    assert inflight(both) == (0, 0)
    with pytest.raises(LeaseError):
        first.add(1)
    both.prefill.pool.drain("p")
    with pytest.raises(NoHealthyEndpointError):
        both.acquire(PROMPT)
    assert inflight(both) == (0, 0)


def test_what_ends_badly_gives_both_back() -> None:
    both = pair()
    with pytest.raises(OSError, match="reset"), both.acquire(PROMPT):
        raise OSError("reset")
    assert inflight(both) == (0, 0)
    assert both.decode.pool.stats()[0].failures == 1
    assert both.prefill.pool.stats()[0].cancelled == 1
    one = both.acquire(PROMPT)
    one.fail_prefill()
    assert inflight(both) == (0, 0)
    assert (both.prefill.pool.stats()[0].failures, both.decode.pool.stats()[0].failures) == (1, 1)
    assert both.decode.pool.stats()[0].cancelled == 1
    one = both.acquire(PROMPT)
    one.release("timeout")
    assert inflight(both) == (0, 0)
    assert both.decode.pool.stats()[0].timeouts == 1


def test_what_is_cached_where_it_is_decoded_needs_no_prefill_elsewhere() -> None:
    for settings, expected in (
        ({}, False),
        ({"local_below_tokens": 9}, True),
        ({"local_below_tokens": 8}, False),
        ({"local_below_tokens": 9, "local_below_share": 0.04}, False),
        ({"local_below_tokens": 9, "local_below_share": 0.05}, True),
    ):
        both = pair(**settings)
        cold = both.acquire(PROMPT)
        assert cold.prefill is not None
        cold.release()
        # Eight tokens of 168 are not cached.
        warm = both.acquire([*PROMPT, *range(8)])
        assert (warm.prefill is None) == expected
        assert warm.prefill_endpoint.id == ("d" if expected else "p")
        warm.fail_prefill() if expected else warm.first_token()
    for wrong in (
        {"local_below_share": 0.5},
        {"local_below_tokens": -1},
        {"local_below_tokens": 1, "local_below_share": 2},
    ):
        with pytest.raises(ConfigError):
            pair(**wrong)
    with pytest.raises(ConfigError, match="PrefixAware"):
        PrefillDecode(RoundRobin(["p"]), RoundRobin(["d"]), local_below_tokens=5)
    with pytest.raises(ConfigError, match="decode"):
        PrefillDecode(RoundRobin(["p"]), 3)  # type: ignore[arg-type]


def test_pairs_wait_within_one_deadline() -> None:
    async def main() -> None:
        both = pair()
        first = await both.acquire_when_free(PROMPT, timeout=0)
        with pytest.raises(OverloadedError):
            await both.acquire_when_free(PROMPT, timeout=0.01)
        assert inflight(both) == (1, 1)
        waiting = asyncio.ensure_future(both.acquire_when_free(PROMPT, timeout=5, cost=160))
        await asyncio.sleep(0.01)
        assert inflight(both) == (1, 2)
        first.first_token()
        async with await waiting as second:
            assert inflight(both) == (1, 2)
            assert second.decode.cost == 160
        third = both.acquire(PROMPT)
        gone = asyncio.ensure_future(both.acquire_when_free(PROMPT, timeout=None))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        first.release()
        third.release()
        assert inflight(both) == (0, 0)

    asyncio.run(main())
    plain = PrefillDecode(RoundRobin(["p"]), RoundRobin(["d"]))
    assert isinstance(asyncio.run(plain.acquire_when_free(timeout=0)), PairLease)
    assert repr(plain).startswith("PrefillDecode(RoundRobin(")


def test_ranks_are_endpoints_with_caches_of_their_own() -> None:
    ranks = [Endpoint("10.0.0.1:8000", id=f"gpu-0/{rank}") for rank in range(4)]
    picker = PrefixAware(ranks, seed=1)
    first = picker.acquire(PROMPT)
    first.first_token()
    host, _, rank = first.endpoint.id.rpartition("/")
    assert (host, first.endpoint.address) == ("gpu-0", "10.0.0.1:8000")
    assert rank in "0123"
    assert picker.pick(PROMPT) == first.endpoint
    others = [picker.acquire([10_000 + i] * 160) for i in range(3)]
    assert len({lease.endpoint.id for lease in (first, *others)}) == 4
    # All ranks of a server that goes are gone.
    for endpoint in ranks[1:]:
        picker.pool.drain(endpoint.id)
    assert picker.pick(PROMPT).id == "gpu-0/0"
