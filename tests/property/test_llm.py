"""What holds for prompts, whatever they are: books that balance, no cliff, no hot spot, shares by weight."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import ConfigError, Endpoint, ManualClock, Pool, PrefixAware, PrefixIndex, PrefixMatch

FULL = bool(os.environ.get("AIBALANCE_FULL"))
PUBLISHED = ("dynamo", "lmetric", "loadaware", "cache_aware")
SCORES = ("ttft", *PUBLISHED)


class Books:
    """What the picker should know of each endpoint: slow, plain, and by itself."""

    def __init__(self) -> None:
        self.leases: dict[int, tuple[Any, str, list[int], int, int]] = {}
        """Of each live lease: itself, endpoint, blocks, tokens to prefill, tokens that no block names."""

    def of(self, id: str, block: int) -> tuple[int, int, int]:
        mine = [entry for entry in self.leases.values() if entry[1] == id]
        shared = {hash for entry in mine for hash in entry[2]}
        return (
            len(mine),
            sum(entry[3] for entry in mine),
            len(shared) + sum(-(-max(entry[4], 0) // block) for entry in mine),
        )


class Caches:
    """What the index should know: slow and plain, each endpoint's blocks by last use."""

    def __init__(self, capacity: int, ttl: float) -> None:
        self.capacity, self.ttl, self.now = capacity, ttl, 0.0
        self.told: dict[str, dict[int, None]] = {}
        self.guessed: dict[str, dict[int, float]] = {}

    def at(self, now: float) -> None:
        self.now = max(self.now, now)
        for id, blocks in self.guessed.items():
            self.guessed[id] = {block: until for block, until in blocks.items() if until > self.now}

    def _trim(self, blocks: dict[int, Any]) -> None:
        while len(blocks) > self.capacity:
            del blocks[next(iter(blocks))]

    def stored(self, id: str, blocks: list[int]) -> None:
        told, guessed = self.told.setdefault(id, {}), self.guessed.setdefault(id, {})
        for block in reversed(blocks[: self.capacity]):
            told.pop(block, None)
            told[block] = None
            guessed.pop(block, None)
        self._trim(told)

    def removed(self, id: str, blocks: list[int]) -> None:
        for block in blocks:
            self.told.get(id, {}).pop(block, None)
            self.guessed.get(id, {}).pop(block, None)

    def cleared(self, id: str) -> None:
        self.told[id], self.guessed[id] = {}, {}

    def predict(self, id: str, blocks: list[int]) -> None:
        told, guessed = self.told.setdefault(id, {}), self.guessed.setdefault(id, {})
        for block in reversed(blocks[: self.capacity]):
            if block in told:
                told[block] = told.pop(block)
                continue
            guessed.pop(block, None)
            guessed[block] = self.now + self.ttl
        self._trim(guessed)

    def matches(self, prompt: list[int]) -> dict[str, int]:
        out = {}
        for id in self.told.keys() | self.guessed.keys():
            known = self.told.get(id, {}).keys() | self.guessed.get(id, {}).keys()
            length = next((i for i, block in enumerate(prompt) if block not in known), len(prompt))
            if length:
                out[id] = length
        return out


def seen(picker: PrefixAware) -> dict[str, tuple[float, float, float]]:
    return {part[0]: (part[4], part[5], part[6]) for part in picker._parts(None, None)}


@pytest.mark.parametrize("seed", range(2))
def test_the_books_balance_after_any_life(seed: int) -> None:
    chance, block = random.Random(seed), 4
    clock = ManualClock(0.0)
    ids = [f"e{i}" for i in range(6)]
    pool = Pool(ids, clock=clock, seed=seed, lease_timeout=500.0)
    index = PrefixIndex(block_size=block, capacity=20, ttl=30.0)
    picker = PrefixAware(pool, index=index, bounded_load=None)
    books, number, alive = Books(), 0, set(ids)
    caches = Caches(20, 30.0)
    for step in range(1_000_000 if FULL else 6_000):
        clock.advance(chance.random())
        what = chance.random()
        if what < 0.35 and len(books.leases) < 60:
            start = chance.randrange(5) * 100
            blocks = list(range(start, start + chance.randrange(8)))
            tokens = len(blocks) * block + chance.randrange(6)
            prompt = np.array(blocks, np.uint64)
            had = index.matches(prompt, now=clock.now())
            lease = picker.acquire(prompt, cost=tokens)
            id = lease.endpoint.id
            cached = had[id].blocks if id in had else 0
            caches.at(clock.now())
            assert cached == caches.matches(blocks).get(id, 0)
            caches.predict(id, blocks)
            number += 1
            if chance.random() < 0.3:
                lease.id  # noqa: B018 - from now on the ledger knows it
            books.leases[number] = (lease, id, blocks, max(tokens - cached * block, 0), tokens - len(blocks) * block)
        elif what < 0.85 and books.leases:
            which = chance.choice(list(books.leases))
            lease, id, blocks, prefill, loose = books.leases[which]
            act = chance.randrange(6)
            if act == 0:
                lease.first_token()
                books.leases[which] = (lease, id, blocks, 0, loose)
            elif act == 1:
                more = chance.randrange(-3, 9)
                before = lease.cost
                lease.add(more)
                books.leases[which] = (lease, id, blocks, prefill, loose + round(lease.cost - before))
            else:
                del books.leases[which]
                if act == 2:
                    lease.cancel()
                elif act == 3:
                    lease.release("failure")
                elif act == 4:
                    pool.release(lease.detach())
                del lease
        elif what < 0.87:
            # Somebody dies, or comes back.
            id = chance.choice(ids)
            if id in alive and len(alive) > 1:
                alive.remove(id)
                pool.remove(id)
                seen(picker)
                caches.at(clock.now())
                caches.cleared(id)
            elif id not in alive:
                alive.add(id)
                pool.add(id)
        elif what < 0.9:
            pool.set_health(chance.choice(sorted(alive)), chance.choice(["healthy", "unhealthy"]))
        else:
            # Events come late, twice, and for endpoints that are gone.
            some = [chance.randrange(5) * 100 + chance.randrange(8) for _ in range(4)]
            event = chance.choice(["stored", "removed"])
            for _ in range(chance.randrange(1, 3)):
                id = chance.choice(ids)
                getattr(index, event)(id, np.array(some, np.uint64))
                getattr(caches, event)(id, some)
            if chance.random() < 0.05:
                id = chance.choice(ids)
                index.cleared(id)
                caches.cleared(id)
        if step % 37 == 0:
            for one in sorted(alive):
                pool.set_health(one, "healthy")
            assert seen(picker) == {id: books.of(id, block) for id in alive}
            caches.at(clock.now())
            for start in range(0, 500, 100):
                prompt = list(range(start, start + 8))
                held = index.matches(np.array(prompt, np.uint64), now=clock.now())
                assert {id: one.blocks for id, one in held.items()} == caches.matches(prompt)
    books.leases.clear()
    lease = picker.acquire()
    lease.release()
    del lease
    for id in ids:
        index.forget(id)
    assert set(seen(picker).values()) == {(0, 0, 0)}
    assert len(index) == 0
    assert index.endpoints == tuple(sorted(alive))
    assert all(one.inflight == 0 and one.load == 0 for one in pool.stats())


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def test_memory_stays_within_its_bound() -> None:
    """Over 10^7 distinct blocks: as many are known as there is room for, and the process does not grow."""
    capacity, endpoints = 500, [f"e{i}" for i in range(4)]
    index = PrefixIndex(block_size=16, capacity=capacity, ttl=None)
    picker = PrefixAware(endpoints, index=index, seed=1)
    size, total, before = 1000, 10_000_000 if FULL else 200_000, 0
    for start in range(0, total, size):
        if start == total // 10:
            before = resident()
        picker.acquire(np.arange(start, start + size, dtype=np.uint64)).release()
        index.stored("e0", np.arange(start, start + size, dtype=np.uint64), tier="disk")
        assert len(index) <= 2 * capacity * len(endpoints)
    # A byte and a half for each of the 9 million blocks since.
    assert resident() - before < 16 * 2**20
    assert all(max(index.held(id)) <= capacity for id in endpoints)


def flow(picker: PrefixAware, inflight: int, prompts: Any, requests: int, waiting: int | None = None) -> dict[str, int]:
    """Sends requests, of which so many are in flight at a time, and counts their tokens.

    Half of those in flight wait for a first token, or so many.
    """
    waiting = inflight // 2 if waiting is None else waiting
    counts = {endpoint.id: 0 for endpoint in picker.pool.endpoints}
    held: list[Any] = []
    for i in range(requests):
        if len(held) >= inflight:
            held.pop(0).release()
        lease = picker.acquire(prompts(i))
        counts[lease.endpoint.id] += int(lease.cost)
        held.append(lease)
        if len(held) > waiting:
            held[-1 - waiting].first_token()
    return counts


HOT = list(range(512))
"""A prompt that all requests begin with."""
HOT_BLOCKS = PrefixIndex().blocks(HOT)


def fresh(number: int, blocks: int) -> Any:
    """So many blocks that no other number has."""
    return np.arange(number * 1000, number * 1000 + blocks, dtype=np.uint64)


def after_hot(number: int) -> Any:
    """The hot prompt, and four blocks of its own."""
    return np.concatenate([HOT_BLOCKS, fresh(number, 4)])


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("inflight", [40, 160])
def test_one_hot_prefix_makes_no_hot_spot(score: Any, inflight: int) -> None:
    for n in (4, 8):
        picker = PrefixAware([f"e{i}" for i in range(n)], score=score, seed=n)
        counts = flow(picker, inflight, after_hot, 1200)
        assert max(counts.values()) <= 1.25 * sum(counts.values()) / n


@pytest.mark.parametrize("waiting", [0, 1, 4])
@pytest.mark.parametrize("inflight", [40, 160])
def test_by_default_that_holds_also_where_nobody_waits(inflight: int, waiting: int) -> None:
    for n in (4, 8):
        counts = flow(PrefixAware([f"e{i}" for i in range(n)], seed=n), inflight, after_hot, 1200, waiting)
        assert max(counts.values()) <= 1.25 * sum(counts.values()) / n


FLEET = [Endpoint(f"a100-{i}", weight=3) for i in range(4)] + [Endpoint(f"t4-{i}", weight=1) for i in range(4)]


@pytest.mark.parametrize("score", PUBLISHED)
def test_shares_of_tokens_follow_weights(score: Any) -> None:
    for bound in (1.25, None):
        picker = PrefixAware(FLEET, score=score, seed=1, bounded_load=bound)
        requests = 4000
        # Lengths of a cycle, so that each gets its share of long ones; nothing is shared.
        tokens = flow(picker, 320, lambda i: fresh(i, 4 + 4 * (i * 7 % 5)), requests)
        strong = sum(count for id, count in tokens.items() if id.startswith("a100")) / sum(tokens.values())
        assert abs(strong - 0.75) <= 0.05 * 0.75


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bound", [1.25, None])
def test_the_share_of_each_endpoint_follows_its_weight_at_saturation(score: Any, bound: float | None) -> None:
    """As full as engines get: 80 requests a unit of weight, 240 on an A100. Scores count the request itself too, of
    which less is left the more is in flight.
    """
    chance = random.Random(1)
    picker = PrefixAware(FLEET, score=score, seed=1, bounded_load=bound)
    tokens = flow(picker, 1280, lambda i: fresh(i, chance.randrange(4, 21)), 20_000)
    total = sum(tokens.values())
    shares = {one.id: tokens[one.id] / total / (one.weight / 16) for one in FLEET}
    assert all(abs(share - 1) <= 0.05 for share in shares.values()), shares


def affinity(score: Any, share: float) -> float:
    """How many of the requests for a prefix that one of eight endpoints has go there, when so many want it."""
    picker = PrefixAware([f"e{i}" for i in range(8)], score=score, seed=1, index=PrefixIndex(ttl=0))
    picker.index.stored("e0", HOT)
    chance, held, hits, asked = random.Random(5), [], 0, 0
    for i in range(800):
        if len(held) >= 64:
            held.pop(chance.randrange(len(held))).release()
        hot = chance.random() < share
        # As long on the average, cached or not.
        lease = picker.acquire(after_hot(i) if hot else fresh(i, chance.randrange(4, 69)))
        if chance.random() < 0.5:
            lease.first_token()
        held.append(lease)
        if hot and i > 64:
            hits, asked = hits + (lease.endpoint.id == "e0"), asked + 1
    return hits / max(asked, 1)


@pytest.mark.parametrize("score", SCORES)
def test_affinity_falls_smoothly_as_load_rises(score: Any) -> None:
    """As more want the one who has their prefix, fewer of them get it: no step of 1/20 of the load is a cliff."""
    shares = [affinity(score, share / 20) for share in range(2, 21)]
    assert shares[0] > shares[-1] + 0.02
    assert max(before - after for before, after in itertools.pairwise(shares)) <= 0.25
    # Chance aside, it does not rise again either.
    assert max(after - before for before, after in itertools.pairwise(shares)) <= 0.15


prompts = st.one_of(
    st.none(),
    st.text(max_size=300),
    st.binary(max_size=300),
    st.lists(st.integers(0, 2**32 - 1), max_size=100),
    st.integers(-(2**63), 2**64 - 1),
    st.lists(st.integers(0, 2**64 - 1), max_size=20).map(lambda hashes: np.array(hashes, np.uint64)),
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(prompts, st.floats(0, 1e6) | st.none()), max_size=30), st.sampled_from(SCORES), st.floats(0, 5)
)
def test_any_prompt_finds_somebody_and_leaves_nothing(asked: Any, score: Any, temperature: float) -> None:
    picker = PrefixAware(
        ["a", Endpoint("b", weight=1e-6), Endpoint("c", weight=1e6)], score=score, temperature=temperature
    )
    held = [picker.acquire(prompt, cost=cost) for prompt, cost in asked]
    for prompt, _ in asked:
        assert picker.explain(prompt)[0].reason == "chosen"
    for lease in held:
        lease.first_token()
        lease.release()
    assert set(seen(picker).values()) == {(0, 0, 0)}


@given(
    st.one_of(
        st.floats(), st.lists(st.integers() | st.floats() | st.text(), min_size=1), st.integers(), st.complex_numbers()
    )
)
def test_what_is_no_prompt_is_told_in_our_own_words(value: Any) -> None:
    picker = PrefixAware(["a"])
    with contextlib.suppress(ConfigError):
        assert picker.pick(value).id == "a"


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 11), st.sampled_from(["gpu", "host", "disk"]), st.booleans()),
    max_size=30,
    unique_by=lambda event: event[:3],
)
"""Endpoint, block, tier, and whether the block is stored or removed; each place is spoken of once."""


@given(EVENTS, st.randoms(use_true_random=False), st.lists(st.integers(0, 11), max_size=12))
def test_events_twice_and_in_any_order_say_the_same(events: Any, chance: Any, prompt: list[int]) -> None:
    def told(order: list[Any]) -> Any:
        index = PrefixIndex(block_size=4, capacity=100, ttl=None)
        # Everything was there before, so that removals have something to remove.
        for endpoint in range(4):
            index.stored(f"e{endpoint}", np.arange(12, dtype=np.uint64), tier="host")
        for endpoint, block, tier, stored in order:
            (index.stored if stored else index.removed)(f"e{endpoint}", np.array([block], np.uint64), tier=tier)
        return index.matches(np.array(prompt, np.uint64)), len(index)

    usual = told(events)
    again = events + events
    chance.shuffle(again)
    assert told(again) == usual
    for endpoint in range(4):
        places = {(b, t): s for e, b, t, s in events if e == endpoint}
        length = 0
        for block in prompt:
            if not any(places.get((block, tier), tier == "host") for tier in ("gpu", "host", "disk")):
                break
            length += 1
        assert usual[0].get(f"e{endpoint}", PrefixMatch()).blocks == length
