"""The simulator against stochastic reference values: a sample of each file with short runs, all of it in a full run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import kinds, simulated_theory
from tests.conformance.bundled import VECTORS
from tests.conformance.model import Result
from tests.conformance.recording import UnreadableError, load

Adapter = Callable[..., Result]

# File, how many cases it has and how many values of them are checked, requests a run and cases of the sample.
FILES: list[tuple[str, Adapter, int, int, float, slice]] = [
    ("supermarket_finite", simulated_theory.supermarket_finite, 66, 66, 40_000, slice(0, 66, 11)),
    ("exact_small_n", simulated_theory.exact_small_n, 35, 70, 40_000, slice(0, 35, 6)),
    ("jiq", simulated_theory.jiq, 7, 7, 40_000, slice(0, 6, 3)),
    ("stale_information", simulated_theory.stale_information, 14, 14, 40_000, slice(0, 14, 5)),
    ("mg1_ps", simulated_theory.mg1_ps, 5, 10, 30_000, slice(0, 5, 2)),
    ("priority", simulated_theory.priority, 2, 4, 60_000, slice(0, 2)),
    ("batching_ps", simulated_theory.batching_ps, 7, 21, 4_000, slice(0, 7, 3)),
    ("hedging", simulated_theory.hedging, 17, 21, 30_000, slice(0, 7, 2)),
]
NAMES = [row[0] for row in FILES]


@pytest.mark.parametrize(("name", "adapter", "count", "values", "requests", "sample"), FILES, ids=NAMES)
def test_a_sample_agrees(name: str, adapter: Adapter, count: int, values: int, requests: float, sample: slice) -> None:
    document = load(VECTORS / f"{name}.json.gz")
    assert len(document["cases"]) == count
    few = {**document, "cases": document["cases"][sample]}
    result = adapter(few, requests)
    assert result.total >= len(few["cases"])
    assert result.matched == result.total, result.first_mismatch
    assert result.bound == simulated_theory.BOUND


@pytest.mark.skipif(not simulated_theory.full(), reason="long: AIBALANCE_FULL=1")
@pytest.mark.parametrize(("name", "adapter", "count", "values", "requests", "sample"), FILES, ids=NAMES)
def test_every_value_agrees(
    name: str, adapter: Adapter, count: int, values: int, requests: float, sample: slice
) -> None:
    result = adapter(load(VECTORS / f"{name}.json.gz"))
    assert (result.matched, result.total) == (values, values), result.first_mismatch


@pytest.mark.parametrize(
    ("name", "adapter", "path"),
    [
        ("supermarket_finite", simulated_theory.supermarket_finite, ("ref", "mean_sojourn")),
        ("jiq", simulated_theory.jiq, ("check", "sim_N500_mean_sojourn")),
        ("priority", simulated_theory.priority, ("ref", "nonpreemptive_mean_wait")),
        ("batching_ps", simulated_theory.batching_ps, ("ref", "mean_latency")),
    ],
)
def test_a_changed_value_is_seen(name: str, adapter: Adapter, path: tuple[str, str]) -> None:
    document = load(VECTORS / f"{name}.json.gz")
    few: dict[str, Any] = json.loads(json.dumps({**document, "cases": document["cases"][:1]}))
    of = few["cases"][0][path[0]]
    value = of[path[1]]
    of[path[1]] = [2 * x for x in value] if isinstance(value, list) else 1.5 * value
    result = adapter(few, 4_000 if name == "batching_ps" else 40_000)
    assert result.matched < result.total
    assert path[1] in str(result.first_mismatch)


def test_every_file_is_told_by_its_shape() -> None:
    for name, adapter, *_ in FILES:
        found = kinds.cases(load(VECTORS / f"{name}.json.gz"))
        assert simulated_theory.checker(found) is adapter


def test_what_is_unknown_is_told() -> None:
    case = {"id": "x", "policy": "best", "N": 2, "lam": 0.5, "ref": {"mean_sojourn": 1.0, "se": 0.1}}
    with pytest.raises(UnreadableError, match="best"):
        kinds.replay({"meta": {"what": "x"}, "cases": [case]})
    with pytest.raises(UnreadableError, match="cauchy"):
        simulated_theory.law("cauchy")
