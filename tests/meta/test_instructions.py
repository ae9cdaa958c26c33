"""The gate on speed: instructions a call may not grow by more than 5 % over benches/baseline.json.

CONTRIBUTING.md says when and how the baseline is written anew.
"""

from __future__ import annotations

import itertools
import json
import os

import pytest
from benches import instructions
from benches.operations import CALL, OURS, Operation


@pytest.mark.timeout(600)
def test_no_operation_costs_more_instructions_than_before() -> None:
    if not instructions.available():
        if os.environ.get("CI"):
            pytest.fail("valgrind is not installed: the gate on instruction counts cannot run, and under CI it must")
        pytest.skip("valgrind is not installed: no instruction counts")
    baseline = json.loads(instructions.BASELINE.read_text(encoding="utf-8"))
    assert baseline, "there is a baseline"
    if instructions.key() not in baseline:
        pytest.skip(f"no baseline for {instructions.key()}: `make baseline` writes one")
    before = baseline[instructions.key()]
    assert set(before) == {CALL.name, *instructions.GATED}, "the baseline has each operation of the gate"
    assert not instructions.grown(before, instructions.gated())


def test_the_gate_sees_growth_beyond_five_per_cent_and_nothing_else() -> None:
    before = dict.fromkeys([CALL.name, *instructions.GATED], 200.0) | {CALL.name: 100.0}
    assert instructions.grown(before, before) == []
    assert instructions.grown(before, before | {"ring": 209.0, "Maglev": 150.0}) == []
    (text,) = instructions.grown(before, before | {"ring": 211.0})
    assert text == "ring: 211 instructions a call, +11 against 200"
    # An interpreter in which every call costs 40 more is no growth of ours; growth beside it still is.
    dearer = {name: value + 40 for name, value in before.items()}
    assert instructions.grown(before, dearer) == []
    assert len(instructions.grown(before, dearer | {"with acquire": 260.0})) == 1


@pytest.mark.parametrize("operation", OURS, ids=lambda o: o.name)
def test_every_measured_operation_runs(operation: Operation) -> None:
    operation.loop()(itertools.repeat(None, 10))
    # The design has no figure for some operations, and no goal beside the limit for others.
    if operation.must is not None and operation.goal is not None:
        assert operation.goal < operation.must


def test_what_the_gate_watches_has_figures() -> None:
    with_figures = {o.name for o in OURS if o.must is not None and o.goal is not None}
    assert set(instructions.GATED) <= with_figures
