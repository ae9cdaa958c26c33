"""Recordings of passive health."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import kinds
from .recording import load

VECTORS = Path(__file__).with_name("vectors")


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("envoy-1.40.outlier", 46), ("nginx-1.22.failures", 1950), ("nginx-1.31.failures", 1950)],
)
def test_every_decision_is_the_same(name: str, at_least: int) -> None:
    result = kinds.replay(load(VECTORS / f"{name}.json.gz"))
    assert result.first_mismatch is None
    assert result.matched == result.total >= at_least
    assert result.unsupported == 0
