"""The gate on speed: instructions a call may not grow by more than 5 % over benches/baseline.json.

CONTRIBUTING.md says when and how the baseline is written anew.
"""

from __future__ import annotations

import json
import os

import pytest

from benches import instructions
from benches.operations import CALL

MOST_GROWTH = 0.05


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
    assert set(before) == {CALL.name, *instructions.GATED}
    now = instructions.gated()
    grown = []
    for name in instructions.GATED:
        # Two builds of one CPython version differ in what a call costs; that part is not ours.
        growth = (now[name] - now[CALL.name]) - (before[name] - before[CALL.name])
        assert now[name] > now[CALL.name] > 0
        if growth > MOST_GROWTH * before[name]:
            grown.append(f"{name}: {now[name]:.0f} instructions a call, {growth:+.0f} against {before[name]:.0f}")
    assert not grown
