"""What every schedule and least-connections rule keeps to, whatever happens to the pool."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aibalance
from aibalance import Endpoint, Pool

MAKE: dict[str, Any] = {
    **{
        s: lambda p, s=s: aibalance.RoundRobin(p, schedule=s)
        for s in ("smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy")
    },
    "nginx": lambda p: aibalance.LeastConnections(p),
    "haproxy": lambda p: aibalance.LeastConnections(p, variant="haproxy"),
    "least request, edf": lambda p: aibalance.LeastRequest(p, schedule="edf"),
    "first": lambda p: aibalance.First(p),
}

NAMES = "abcde"
WEIGHTS = st.one_of(st.integers(0, 9), st.sampled_from([0.25, 1e-9, 1e15, 300]))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.none(), st.none()),
        st.tuples(st.just("pick"), st.none(), st.none()),
        st.tuples(st.just("release"), st.integers(0, 9), st.none()),
        st.tuples(st.just("weight"), st.sampled_from(NAMES), WEIGHTS),
        st.tuples(st.just("down"), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("up"), st.sampled_from(NAMES), st.none()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("name", MAKE)
@given(limits=st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=5, max_size=5), actions=ACTIONS)
@settings(max_examples=40, deadline=None)
def test_somebody_is_picked_exactly_when_somebody_can_be(
    name: str, limits: list[int | None], actions: list[tuple[str, Any, Any]]
) -> None:
    pool = Pool(
        [Endpoint(n, max_inflight=m, backup=n == "e") for n, m in zip(NAMES, limits, strict=True)],
        panic_threshold=0.0,
    )
    picker = MAKE[name](pool)
    weights: dict[str, float] = dict.fromkeys(NAMES, 1)
    down: set[str] = set()
    held: list[Any] = []
    for what, who, value in actions:
        load = Counter(lease.endpoint.id for lease in held)
        limit = dict(zip(NAMES, limits, strict=True))
        free = {n for n in NAMES if weights[n] > 0 and n not in down and load[n] < (limit[n] or 99)}
        able = free - {"e"} or free
        if what in ("pick", "acquire"):
            got = picker.try_pick() if what == "pick" else picker.try_acquire()
            endpoint = got if what == "pick" or got is None else got.endpoint
            assert (endpoint is None) == (not able)
            assert endpoint is None or endpoint.id in able
            if what == "acquire" and got is not None:
                held.append(got)
        elif what == "release" and held:
            held.pop(who % len(held)).release()
        elif what == "weight":
            pool.set_weight(who, value)
            weights[who] = value
        elif what == "down":
            pool.set_health(who, "unhealthy")
            down.add(who)
        elif what == "up":
            pool.set_health(who, "healthy")
            down.discard(who)


@pytest.mark.parametrize("name", ["smooth", "edf", "heap", "fwrr", "static-rr", "nginx"])
@given(weights=st.lists(st.integers(1, 20), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_turns_follow_weights_to_within_a_few(name: str, weights: list[int]) -> None:
    picker = MAKE[name](Pool([Endpoint(str(i), weight=w) for i, w in enumerate(weights)]))
    n = 20 * sum(weights)
    counts = Counter(picker.pick_many(n).indices.tolist())
    for i, weight in enumerate(weights):
        assert abs(counts[i] - n * weight / sum(weights)) <= len(weights) + 1
