"""Whatever stands around a PrefixAware: the prompt is charged with its tokens, and reports have an age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aibalance import Endpoint, Fallback, ManualClock, Pool, PrefixAware, RoundRobin, Subset, WaitQueue
from aibalance.llm import Conversations, Turn
from aibalance.llm.admission import Admission, UtilizationSaturation
from aibalance.llm.scoring import QueueScorer, SaturationFilter, ScoredPicker, ScoringProfile
from aibalance.routing import Sticky, StickyTable

PROMPT = list(range(64))


def loads(picker: PrefixAware) -> dict[str, tuple[float | None, ...]]:
    return {one.endpoint.id: (one.requests, one.prefill_tokens, one.decode_blocks) for one in picker.explain()}


def waited(picker: PrefixAware, **more: Any) -> Any:
    async def main() -> Any:
        return await WaitQueue(picker).acquire(PROMPT, timeout=1, **more)

    return asyncio.run(main())


AROUND: dict[str, Callable[..., Any]] = {
    "picker": lambda picker, **more: picker.acquire(PROMPT, **more),
    "wait queue": waited,
    "wait queue of a thread": lambda picker, **more: WaitQueue(picker).acquire_blocking(PROMPT, timeout=1, **more),
    "fallback": lambda picker, **more: Fallback(picker, RoundRobin([])).acquire(PROMPT, **more),
    "fallback, tried": lambda picker, **more: Fallback(picker, RoundRobin([])).try_acquire(PROMPT, **more),
    "subset": lambda picker, **more: Subset(picker, where=lambda endpoint: True).acquire(PROMPT, **more),
    "subset, tried": lambda picker, **more: Subset(picker, where=lambda endpoint: True).try_acquire(PROMPT, **more),
    "conversations": lambda picker, **more: Conversations(picker).acquire(Turn("chat", PROMPT), **more),
    "admission": lambda picker, **more: Admission(picker, hold=None).acquire(PROMPT, **more),
    "sticky": lambda picker, **more: Sticky(picker, StickyTable(capacity=9)).acquire("me", key=PROMPT, **more).lease,
}


@pytest.mark.parametrize("name", AROUND)
def test_a_prompt_is_charged_with_its_tokens_through_whatever_is_around(name: str) -> None:
    picker = PrefixAware(["a"], seed=1)
    lease = AROUND[name](picker)
    assert (loads(picker)["a"], lease.cost) == ((1, 64, 4), 64)
    lease.release()
    again = AROUND[name](picker, cost=70)
    assert (loads(picker)["a"], again.cost) == ((1, 6, 5), 70), "what is cached is not prefilled"
    again.release()
    assert loads(picker)["a"] == (0, 0, 0)


@pytest.mark.parametrize("name", [name for name in AROUND if name not in ("picker", "sticky", "conversations")])
def test_others_cost_one_as_ever(name: str) -> None:
    assert AROUND[name](RoundRobin(["a"])).cost == 1


@pytest.mark.parametrize("load_factor", [None, 1.25])
def test_a_session_that_stays_is_charged_and_remembered_too(load_factor: float | None) -> None:
    picker = PrefixAware(Pool(["a", "b", "c"], seed=1))
    sticky = Sticky(picker, StickyTable(capacity=9), load_factor=load_factor)
    first = sticky.acquire("me", key=PROMPT)
    first.lease.release()
    home = first.endpoint.id
    other = [1000 + i for i in range(64)]
    second = sticky.acquire("me", key=other)
    assert (second.kept, second.endpoint.id) == (True, home)
    assert loads(picker)[home] == (1, 64, 4)
    assert picker.index.matches(other)[home].blocks == 4
    assert picker.pool.stats()[0].picks + picker.pool.stats()[1].picks + picker.pool.stats()[2].picks == 2
    second.lease.first_token()
    second.lease.release()
    assert loads(picker)[home] == (0, 0, 0)


def test_bounds_drains_and_weights_of_sessions_are_as_without_prompts() -> None:
    def life(make: Callable[[Pool], Any]) -> list[tuple[bool, str]]:
        clock = ManualClock(0.0)
        pool = Pool([Endpoint("a", max_inflight=4), "b", "c"], clock=clock, seed=1)
        picker = make(pool)
        sticky = Sticky(picker, StickyTable(capacity=9, clock=clock), load_factor=1.5)
        out, held = [], []

        def turn() -> None:
            sticky.via.set("me", "a", now=clock.now())  # type: ignore[union-attr]
            found = sticky.acquire("me")
            out.append((found.kept, found.reason))
            if found.kept:
                held.append(found.lease)
            else:
                # Where it goes then is each picker's own choice.
                found.lease.cancel()

        held.append(picker.acquire(subset=["a"]))
        turn()
        held += [picker.acquire(subset=[name]) for name in "bcbcbc"]
        for _ in range(4):
            turn()
        for lease in held:
            lease.release()
        held.clear()
        pool.set_weight("a", 0)
        turn()
        pool.drain("a", deadline=10.0)
        turn()
        clock.advance(11.0)
        turn()
        for lease in held:
            lease.release()
        return out

    plain = life(lambda pool: RoundRobin(pool))
    assert life(lambda pool: PrefixAware(pool)) == plain
    assert {kept for kept, _ in plain} == {True, False}


def test_reports_to_the_pool_have_an_age() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b", "c", "d"], clock=clock, seed=1)
    profile = ScoringProfile(scorers=[(QueueScorer(), 1.0)], filters=[SaturationFilter(max_age=10.0)])
    picker = ScoredPicker(pool, profile)
    pool.observe("a", queue=1, inflight=0)
    clock.advance(4.0)
    pool.observe("b", kv_cache=0.5)
    pool.observe("c", utilization=0.5)
    clock.advance(3.0)
    ages = {view.endpoint.id: view.age for view in picker.views()}
    assert ages == {"a": 7.0, "b": 3.0, "c": 0.0, "d": None}
    assert {view.endpoint.id: view.age for view in picker.views(now=8.0)} == {"a": 8.0, "b": 4.0, "c": 0.0, "d": None}
    gate = Admission(PrefixAware(pool), saturation=UtilizationSaturation(max_age=5.0))
    # a is too old and d says nothing: full, both. b has 0.5 of 0.8; c waits for nothing.
    assert gate.saturation() == pytest.approx((1 + 0.5 / 0.8 + 0 + 1) / 4)
    pool.observe("a", queue=1, inflight=0)
    assert gate.saturation() == pytest.approx((1 / 5 + 0.5 / 0.8 + 0 + 1) / 4)
    assert {view.endpoint.id: view.age for view in picker.views()}["a"] == 0.0
