"""The commands of docs/explain.md do what it shows, and the options that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aibalance.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")


def test_the_decision_that_it_shows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = re.findall(r"\$ aibalance recommend (.*?)\n(.*?)\n\.\.\.\n", PAGE, flags=re.DOTALL)
    assert main(["recommend", *shown[0].split()]) == 0
    assert capsys.readouterr().out.startswith(shown[1] + "\n")


def test_the_options_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known: set[str] = set()
    for command in ("recommend", "explain"):
        assert main([command, "--help"]) == 0
        known |= set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert {"--against", "--prometheus", "--query", "--html", "--strict"} <= named <= known
