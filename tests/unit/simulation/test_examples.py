"""Every example of the page and of the docstrings runs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest

from aibalance.simulation import Scenario, _detail, _scenario, _statistics, _traffic

PAGE = Path(__file__).parents[3] / "docs" / "simulation.md"


def test_the_page() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert failed == 0
    assert tried > 5


def test_the_scenario_on_the_page(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(name = .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    path = tmp_path / "page.toml"
    path.write_text(found[1], encoding="utf-8")
    assert Scenario.load(path).name == "images"


@pytest.mark.parametrize("module", [_detail, _scenario, _statistics, _traffic], ids=lambda module: str(module.__name__))
def test_the_docstrings(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried > 0
