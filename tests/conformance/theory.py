"""Exact reference values of our own computation, asked again of aibalance."""

from __future__ import annotations

from typing import Any

import aibalance

from .model import Result
from .proxies import Decider, Door
from .recording import cases


def wrr_sequences(document: dict[str, Any], door: Door = "pick") -> Result:
    """One period of smooth weighted round robin a case, and as much of the order of earliest deadlines."""
    result = Result()
    for case in cases(document):
        weights = case.items("weights", int)
        ref = case.record("ref")
        for name in ("smooth", "edf"):
            expected = ref.items(name, int)
            pool = aibalance.Pool([aibalance.Endpoint(str(i), weight=w) for i, w in enumerate(weights)])
            picker = aibalance.RoundRobin(pool, schedule="smooth" if name == "smooth" else "edf")
            got = Decider(picker, door).sequence(len(expected))
            for i, (theirs, ours) in enumerate(zip(expected, got, strict=True)):
                result.check(f"{case.where}: {name}, pick {i}", theirs, ours)
    return result
