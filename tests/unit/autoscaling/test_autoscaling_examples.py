"""Every example of the page and of the docstrings runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import aibalance._core
from aibalance import autoscaling
from aibalance.autoscaling import aws

PAGE = Path(__file__).parents[3] / "docs" / "autoscaling.md"


def test_the_page() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried >= 25
    assert failed == 0


@pytest.mark.parametrize(("module", "least"), [(autoscaling, 3), (aws, 12)])
def test_the_modules(module: object, least: int) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried >= least
    assert failed == 0


@pytest.mark.parametrize("name", ["Observation", "Recommendation", "round_percent_change"])
def test_the_native_docstrings(name: str) -> None:
    text = getattr(aibalance._core, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
