"""Knative and KEDA: every recorded decision is asked of the public API, and agrees."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import KedaScaledObject, KnativePodAutoscaler
from aibalance.autoscaling import keda as public_keda
from tests.conformance import keda, kinds, knative
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import UnreadableError, load

# Decisions of the bundled files: of the two large ones, every fifth and every fourth record.
FILES = {
    "knative.autoscaler.jsonl.gz": 1653,
    "knative.windows.jsonl.gz": 1792,
    "knative.scaler.jsonl.gz": 600,
    "keda.executor.jsonl.gz": 6545,
    "keda.fallback.jsonl.gz": 445,
    "keda.formula.jsonl.gz": 150,
}
FULL = Path(__file__).parents[3] / "shared" / "vectors" / "autoscaling"
WHOLE = {"kpa_autoscaler": 9487, "kpa_buckets": 7130}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the adapters ask of aibalance."""
    calls: list[str] = []

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    for cls, name in (
        (KnativePodAutoscaler, "recommend"),
        (KnativePodAutoscaler, "replace"),
        (KnativePodAutoscaler, "scale"),
        (KedaScaledObject, "decide"),
    ):
        monkeypatch.setattr(cls, name, counting(name, getattr(cls, name)))
    monkeypatch.setattr(keda, "serve", counting("fallback", keda.serve))
    monkeypatch.setattr(keda, "Formula", counting("formula", public_keda.Formula))

    class Counted:
        """A window that counts its averages."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.window = real_window(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.window, name)

        def average(self, *, now: float) -> float:
            calls.append("average")
            return self.window.average(now=now)

        @classmethod
        def from_state(cls, state: dict[str, Any]) -> Counted:
            made = cls(1.0)
            made.window = real_window.from_state(state)
            return made

    real_window = knative.Window
    monkeypatch.setattr(knative, "Window", Counted)
    return calls


@pytest.mark.parametrize("name", FILES)
def test_every_decision_was_asked_of_aibalance_and_agrees(name: str, asked: list[str]) -> None:
    result = kinds.replay(load(VECTORS / name))
    assert (result.matched, result.unsupported, result.first_mismatch) == (FILES[name], 0, None)
    assert result.total == FILES[name] == len(asked)


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_of_the_large_recordings_agrees(name: str) -> None:
    file = FULL / f"{name}.jsonl.gz"
    if not file.exists():
        pytest.skip("the full recordings are not here")
    result = kinds.replay(load(file))
    assert (result.matched, result.total, result.first_mismatch) == (WHOLE[name], WHOLE[name], None)


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_expectation_is_a_mismatch(name: str) -> None:
    record = copy.deepcopy(load(VECTORS / name)[0])
    if "events" in record:
        next(e for e in record["events"] if e["op"] == "scale")["desired"] += 1
    elif "ops" in record:
        record["ops"][0]["avg"] += 1
    elif "pa_state" in record:
        record["out"]["want"] += 1
    elif "steps" in record:
        record["steps"][0]["out"]["set_last_active"] ^= True
    elif "calls" in record:
        record["calls"][0]["health"] = "?"
    else:
        record["out_milli"] += 1
    result = kinds.replay([record])
    assert result.matched == result.total - 1
    assert result.first_mismatch is not None


TORN = {
    "kpa_autoscaler": {"decider": {}, "stable_window_s": 60, "events": [{"op": "stat"}, {"op": "scale"}]},
    "kpa_buckets": {"window_s": 60, "granularity_s": 1, "ops": [{}, {}]},
    "kpa_scaler": {"pa_state": "active", "decider_desired": 1, "out": {}},
    "keda_executor": {"spec": {}, "created_ms": 0, "steps": [{}, {}]},
    "keda_fallback": {"scaling_modifiers": {}, "calls": [{}]},
    "keda_formula": {"formula": "a"} | {"values_milli": None},
}


@pytest.mark.parametrize("kind", TORN)
def test_a_torn_record_cannot_be_read(kind: str) -> None:
    with pytest.raises(UnreadableError, match="a record"):
        kinds.replay([TORN[kind]])
