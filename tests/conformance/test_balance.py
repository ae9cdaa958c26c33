"""The theory files about balance: small cases here, all of them by `python -m tests.conformance`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

import aibalance
from tests.conformance import balance, kinds
from tests.conformance.bundled import VECTORS
from tests.conformance.model import Result
from tests.conformance.recording import load

SMALL: dict[str, Callable[[dict[str, Any]], bool]] = {
    "ring_balance": lambda case: case["n"] * case["vnodes"] <= 500,
    "uniform_balance": lambda case: case["n"] * case["keys"] <= 1_000_000,
    "multiprobe_balance": lambda case: case["n"] <= 10,
    "bounded_load": lambda case: case["keys"] * case["vnodes"] <= 1000,
    "maglev_disruption": lambda case: case["M"] * case["n"] <= 200_000,
}


def read(name: str) -> Any:
    document = load(VECTORS / f"{name}.json.gz")
    document["cases"] = [case for case in document["cases"] if SMALL[name](case)]
    assert len(document["cases"]) > 3
    return document


@pytest.fixture(autouse=True)
def fewer_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "PROBES", 500_000)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many decisions each call of aibalance made."""
    counts: list[int] = []

    class Counted:
        def __init__(self, picker: Any) -> None:
            self.picker, self.pool = picker, picker.pool

        def pick_many(self, keys: Any, **options: Any) -> Any:
            counts.append(len(keys))
            return self.picker.pick_many(keys, **options)

        def acquire(self, key: Any) -> Any:
            counts.append(1)
            return self.picker.acquire(key)

    for name in {*balance.UNIFORM, "RingHash", "Maglev", "MultiProbeHash", "ModuloHash"}:
        real = getattr(aibalance, name)
        monkeypatch.setattr(aibalance, name, lambda *a, real=real, **k: Counted(real(*a, **k)))
    return counts


@pytest.mark.parametrize("name", SMALL)
def test_the_references_are_met(name: str, made: list[int]) -> None:
    result = kinds.replay(read(name))
    assert result.first_mismatch is None
    assert result.matched == result.total > 0
    # Where requests stay open, homes are asked for once more, and are no decision of the case.
    assert result.total * (2 if name == "bounded_load" else 1) == sum(made)
    assert result.unsupported == 0
    assert result.bound == "5 seeds, 4 standard errors"


def test_what_moves_is_what_must(made: list[int]) -> None:
    document = load(VECTORS / "hash_vectors.json.gz")
    document["cases"] = [case for case in document["cases"] if "moved_on_remove" in case["ref"]]
    result = kinds.replay(document)
    assert result.first_mismatch is None
    assert result.matched == result.total == sum(made)


WRONG: dict[str, dict[str, Any]] = {
    "ring_balance": {"RingHash": lambda e, points: aibalance.JumpHash(e)},
    "multiprobe_balance": {"MultiProbeHash": lambda e, probes: aibalance.JumpHash(e)},
    "uniform_balance": {name: lambda e: aibalance.MultiProbeHash(e, probes=3) for name in balance.UNIFORM},
    "maglev_disruption": {"Maglev": lambda e, table_size: aibalance.Rendezvous(e)},
}


@pytest.mark.parametrize("name", WRONG)
def test_another_algorithm_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for picker, other in WRONG[name].items():
        monkeypatch.setattr(aibalance, picker, other)
    document = read(name)
    document["cases"] = [document["cases"][0], document["cases"][-1]]
    result = kinds.replay(document)
    assert wrong(result)
    assert result.first_mismatch is not None


def test_a_ring_of_too_few_points_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real, document = aibalance.RingHash, read("bounded_load")
    document["cases"] = [case for case in document["cases"] if case["keys"] == 1000][:1]
    assert kinds.replay(document).first_mismatch is None
    monkeypatch.setattr(aibalance, "RingHash", lambda e, points: real(e, points=100 // points))
    assert wrong(kinds.replay(document))


def wrong(result: Result) -> bool:
    return result.matched < result.total


@pytest.mark.parametrize("name", SMALL)
def test_a_wrong_reference_is_found(name: str) -> None:
    document = copy.deepcopy(read(name))
    document["cases"] = document["cases"][:1]
    ref = document["cases"][0]["ref"]
    field = "displaced_fraction" if name == "bounded_load" else "max_over_mean"
    ref[field] *= 3
    assert wrong(kinds.replay(document))
