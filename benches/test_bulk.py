"""Picks by the hundred thousand into a numpy array: nanoseconds a pick."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benches.operations import endpoints

COUNT = 100_000

KEYS = np.random.default_rng(42).integers(0, 2**63, COUNT, dtype=np.uint64)
TEXTS = [f"user-{key % 10**11:011d}" for key in KEYS]

CASES: dict[str, tuple[str, dict[str, Any], bool, Any, float | None]] = {
    "round robin": ("RoundRobin", {}, False, COUNT, 0.3),
    "round robin, weighted": ("RoundRobin", {}, True, COUNT, 0.3),
    "power of two": ("LeastRequest", {}, False, COUNT, 6),
    "Maglev, ready hashes": ("Maglev", {}, False, KEYS, 1.5),
    "Maglev, integers": ("Maglev", {}, False, KEYS, None),
    "Maglev, list of str": ("Maglev", {}, False, TEXTS, 10),
    "ring, ready hashes": ("RingHash", {"points": 160}, False, KEYS, 4),
    "ring, integers": ("RingHash", {"points": 160}, False, KEYS, None),
    "ring, list of str": ("RingHash", {"points": 160}, False, TEXTS, None),
}


@pytest.mark.parametrize("name", CASES)
def test_pick_many(name: str, timed) -> None:
    import aibalance

    picker, options, weighted, argument, goal = CASES[name]
    made = getattr(aibalance, picker)(endpoints(8, weighted), **options)
    statement = "p.pick_many(a, hashed=True)" if "hashes" in name else "p.pick_many(a)"
    timed("in bulk, a pick", name, statement, calls=1, per=COUNT, goal=goal, p=made, a=argument)


def test_memory_copy(timed) -> None:
    source = np.zeros(COUNT, dtype=np.uint32)
    timed("in bulk, a pick", "numpy copy", "a.copy()", calls=1, per=COUNT, a=source, note="what memory alone costs")
