"""Memory goes through JSON into a fresh policy before every decision of every recorded timeline: nothing changes.

Timelines of the fluid loop, which decides without Python, have the same in `test_scaling_theory`.
"""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import KedaScaledObject, StepScaling, TargetTracking
from aibalance.autoscaling.policy import NativePolicy

from . import kinds
from .recording import load

VECTORS = Path(__file__).parent / "vectors"

# Decisions that have a past, at least: a policy that was never asked before has nothing to carry.
LEAST = {
    "hpa_behavior.jsonl.gz": 1669,
    "hpa_reconcile.jsonl.gz": 177,
    "keda.executor.jsonl.gz": 5000,
    "knative.autoscaler.jsonl.gz": 1638,
    "aws_gcp_azure_ray.json.gz": 50,
}


class Interruption:
    """Every policy is replaced by a fresh one with its memory, before it is asked."""

    def __init__(self) -> None:
        self.carried = 0

    def move(self, policy: Any) -> None:
        state = policy.state()
        twin = pickle.loads(pickle.dumps(policy))
        if twin.state() != state:
            self.carried += 1
        twin.restore(json.loads(json.dumps(state)))
        assert twin.state() == state
        # The old memory is gone: what was not in the state cannot help.
        vars(policy).update({name: value for name, value in vars(twin).items() if name not in ("clock", "_now")})


WHOLE = Path(__file__).parents[3] / "shared" / "vectors" / "autoscaling"
FILES = ("hpa_behavior", "hpa_reconcile", "keda_executor", "kpa_autoscaler")


@pytest.mark.parametrize("name", LEAST)
def test_no_decision_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _replayed(VECTORS / name, monkeypatch) >= LEAST[name]


@pytest.mark.skipif(not os.environ.get("AIBALANCE_FULL"), reason="long: AIBALANCE_FULL=1")
@pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole recordings are not here")
@pytest.mark.parametrize("name", FILES)
def test_nor_in_the_whole_recordings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _replayed(WHOLE / f"{name}.jsonl.gz", monkeypatch) > 1000


def _replayed(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Replays a file with interruptions; how many memories were carried."""
    interruption = Interruption()
    classes = [NativePolicy, *NativePolicy.__subclasses__()]
    for cls in classes:
        for method in ("recommend", "decide"):
            original = cls.__dict__.get(method)
            if original is None:
                continue

            def moved(self: Any, *given: Any, _original: Any = original, **options: Any) -> Any:
                interruption.move(self)
                return _original(self, *given, **options)

            monkeypatch.setattr(cls, method, moved)
    result = kinds.replay(load(path))
    assert result.matched == result.total > 0, result.first_mismatch
    return interruption.carried


def test_the_test_would_notice() -> None:
    """A policy that keeps something to itself loses it."""
    policy = TargetTracking(metric="m", target=50, max_capacity=9, warmup=90.0)
    for minute in range(1, 5):
        policy.recommend({"current": 2, "metrics": {"m": 90}}, now=60.0 * minute)
    before = policy.state()
    interruption = Interruption()
    interruption.move(policy)
    assert interruption.carried == 1
    assert policy.state() == before
    engine = policy._engine
    interruption.move(policy)
    assert policy._engine is not engine
    assert {StepScaling, KedaScaledObject} <= set(NativePolicy.__subclasses__())
