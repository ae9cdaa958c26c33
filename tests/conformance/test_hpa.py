"""The bundled recordings of Kubernetes' autoscaler: every decision is aibalance's, and a memory survives JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling.policy import NativePolicy
from tests.conformance import hpa, kinds
from tests.conformance.__main__ import main
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import Record, load

# Decisions of each bundled file: a sample of the recordings but for the quantities.
BUNDLED = {
    "quantity.jsonl.gz": 300,
    "hpa_metric.jsonl.gz": 192,
    "hpa_behavior.jsonl.gz": 1719,
    "hpa_reconcile.jsonl.gz": 192,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the adapters ask of aibalance."""
    calls: list[str] = []

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(NativePolicy, "recommend", counting("recommend", NativePolicy.recommend))
    for name in ("replicas", "parse_quantity"):
        monkeypatch.setattr(hpa.hpa, name, counting(name, getattr(hpa.hpa, name)))
    return calls


@pytest.mark.parametrize("name", BUNDLED)
def test_every_recorded_decision_is_the_same(name: str, asked: list[str]) -> None:
    result = kinds.replay(load(VECTORS / name))
    assert (result.matched, result.unsupported, result.first_mismatch) == (BUNDLED[name], 0, None)
    assert result.total == len(asked) == result.matched


@pytest.mark.parametrize(("name", "replay"), [("hpa_behavior", hpa.behavior), ("hpa_reconcile", hpa.reconcile)])
def test_a_memory_that_went_through_json_at_every_step_decides_the_same(name: str, replay: Any) -> None:
    records = [Record(f"record {i}", r) for i, r in enumerate(load(VECTORS / f"{name}.jsonl.gz"))]
    carried: list[int] = []

    def carry(policy: Any) -> dict[str, Any]:
        carried.append(1)
        return hpa.through_json(policy)

    result = replay(records, carry)
    assert (result.matched, result.first_mismatch) == (BUNDLED[f"{name}.jsonl.gz"], None)
    assert len(carried) == result.total - len(records), "between any two steps of a timeline"


def test_a_wrong_expectation_is_a_mismatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = load(VECTORS / "hpa_metric.jsonl.gz")[:2]
    records[0]["out"]["replicas"] += 1
    file = tmp_path / "wrong.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in records))
    assert main([str(file)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{file}: matched 1 of 2"
    assert "expected" in second


def test_a_record_that_lacks_something_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "torn.jsonl"
    file.write_text('{"kind": "pods", "target": 1, "tol_up": 0.1, "tol_down": 0.1, "out": {}}\n')
    assert main([str(file)]) == 2
    assert "a record lacks 'current_replicas'" in capsys.readouterr().err
