"""What hashing pickers promise: only the keys of an endpoint that goes move, and bounds hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aibalance
from aibalance import Endpoint, Pool

weights = st.lists(st.sampled_from([0.5, 1, 2, 3, 7]), min_size=2, max_size=9)
keys = st.lists(st.text(max_size=12), min_size=1, max_size=40)


def pool_of(given: list[float]) -> Pool:
    return Pool([Endpoint(f"10.0.0.{i}:80", weight=w) for i, w in enumerate(given)])


@pytest.mark.parametrize("variant", [None, "caddy", "traefik"])
@given(weights=weights, keys=keys, data=st.data())
def test_rendezvous_moves_only_the_keys_of_the_one_that_goes_and_to_their_second_choice(
    variant: Any, weights: list[float], keys: list[str], data: st.DataObject
) -> None:
    pool = pool_of(weights)
    picker = aibalance.Rendezvous(pool, variant=variant)
    before = {key: picker.ranked(key, k=2) for key in keys}
    gone = data.draw(st.sampled_from(pool.endpoints))
    pool.remove(gone.id)
    for key, (home, second) in before.items():
        assert picker.pick(key) == (second if home == gone else home)


@given(weights=weights, keys=keys, factor=st.sampled_from([1.0, 1.1, 1.25, 2.0]), ends=st.lists(st.integers(0, 99)))
def test_bounds_hold(weights: list[float], keys: list[str], factor: float, ends: list[int]) -> None:
    for make, slack in (
        (lambda p: aibalance.Rendezvous(p, bounded_load=factor), 0),
        (lambda p: aibalance.RingHash(p, ring="haproxy", bounded_load=factor), 0),
        (lambda p: aibalance.RingHash(p, points=16, bounded_load=factor), 1),
        (lambda p: aibalance.Maglev(p, table_size=101, bounded_load=factor), 1),
    ):
        pool = pool_of(weights)
        picker = make(pool)
        leases = []
        ending = iter(ends)
        for key in keys * 2:
            leases.append(picker.acquire(key))
            stats = pool.stats()
            flight = sum(s.inflight for s in stats)
            taken = next(s for s in stats if s.id == leases[-1].endpoint.id)
            share = -(-flight * factor * 100 // 100) * taken.weight / sum(weights)
            assert taken.inflight <= max(1, int(share) + 1) + slack
            end = next(ending, None)
            if end is not None:
                leases.pop(end % len(leases)).release()
