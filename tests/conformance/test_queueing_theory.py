"""Exact queueing results: every recorded value is asked of `aibalance.queueing`, and a changed one is seen."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import queueing_theory
from tests.conformance.bundled import VECTORS
from tests.conformance.model import Result
from tests.conformance.recording import Record, UnreadableError, cases, load

QUALITY = Path(__file__).parents[1] / "quality" / "vectors"
FILES = {
    "mm_queues": 644,
    "loss_queues": 1100,
    "mg_inf": 37,
    "mg1_ps": 71,
    "mdc": 45,
    "round_robin_gm1": 390,
    "priority": 12,
    "staffing": 65,
    "supermarket": 180,
    "random_split": 76,
    "batching_ps": 70,
    "hedging": 111,
    "jiq": 28,
    # These two take seconds; the suite asks some cases, AIBALANCE_FULL=1 all.
    "mg1": 696,
    "exact_small_n": 270,
}
SLOW = {"mg1", "exact_small_n"}
FULL = os.environ.get("AIBALANCE_FULL") == "1"


def read(name: str) -> dict[str, Any]:
    here = VECTORS / f"{name}.json.gz"
    document: dict[str, Any] = load(here if here.exists() else QUALITY / f"{name}.json.gz")
    if name in SLOW and not FULL:
        some = [case for case in document["cases"] if case.get("K", 0) <= 68][::3]
        document = {**document, "cases": some}
    return document


def closed(document: dict[str, Any]) -> Result:
    """The replay by formulas alone: some of these files are simulated as well, which is another test."""
    adapter = queueing_theory.find(cases(document))
    assert adapter is not None
    return adapter(document)


@pytest.mark.parametrize("name", FILES)
def test_every_value_matches(name: str) -> None:
    result = closed(read(name))
    assert result.unsupported == 0
    assert result.matched == result.total, result.first_mismatch
    assert result.total == FILES[name] or (name in SLOW and not FULL and result.total > 30)


@pytest.mark.parametrize("name", [name for name in FILES if name not in SLOW])
def test_a_changed_value_is_seen(name: str) -> None:
    document = read(name)
    seen = 0
    for i, case in enumerate(document["cases"][:3]):
        for key, value in case["ref"].items():
            changed = {**document, "cases": [copy.deepcopy(case)]}
            if isinstance(value, float) and value > 1e-9:
                changed["cases"][0]["ref"][key] = value * (1 + 1e-5)
                assert closed(changed).first_mismatch is not None, (i, key)
                seen += 1
    assert seen >= 1


def test_a_changed_bracket_is_seen() -> None:
    document = read("mg1")
    case = copy.deepcopy(document["cases"][1])
    bracket = case["ref"]["fifo_quantile_brackets"]["sojourn"]["p99"]
    bracket["lo"] *= 1.01
    bracket["hi"] *= 1.01
    mismatch = closed({**document, "cases": [case]}).first_mismatch
    assert mismatch is not None
    assert "sojourn p99" in mismatch


def test_what_is_not_known_is_not_supported() -> None:
    document = read("mg_inf")
    case = copy.deepcopy(document["cases"][0])
    case["ref"]["something else"] = 1
    result = closed({**document, "cases": [case]})
    assert result.unsupported == 1
    assert result.matched == result.total > 0


@pytest.mark.parametrize("text", ["cauchy 1", "lognormal", "bounded Pareto alpha=1"])
def test_a_law_that_is_not_known_is_said(text: str) -> None:
    with pytest.raises(UnreadableError, match="names no law"):
        queueing_theory.law(Record("case", {"service": text}), "service")


def test_each_file_has_one_adapter() -> None:
    found = {name: queueing_theory.find(cases(read(name))) for name in FILES}
    assert {name: adapter.__name__ for name, adapter in found.items() if adapter} == {name: name for name in FILES}
