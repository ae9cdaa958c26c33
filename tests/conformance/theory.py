"""Exact reference values of our own computation, asked again of aibalance."""

from __future__ import annotations

from typing import Any

import aibalance

from .model import Result
from .proxies import Decider, Door
from .recording import cases


def wrr_sequences(document: dict[str, Any], door: Door = "pick") -> Result:
    """One period of smooth weighted round robin a case. The EDF order beside it waits for `schedule="edf"`."""
    result = Result()
    for case in cases(document):
        weights = case.items("weights", int)
        ref = case.record("ref")
        smooth = ref.items("smooth", int)
        pool = aibalance.Pool([aibalance.Endpoint(str(i), weight=w) for i, w in enumerate(weights)])
        got = Decider(aibalance.RoundRobin(pool, schedule="smooth"), door).sequence(len(smooth))
        for i, (theirs, ours) in enumerate(zip(smooth, got, strict=True)):
            result.check(f"{case.where}: smooth, pick {i}", theirs, ours)
        result.unsupported += len(ref.items("edf", int))
    return result
