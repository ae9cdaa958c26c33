"""The code in docs/compare.md runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aibalance.cli import main

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "viral-spike.toml").write_bytes((ROOT / "examples" / "viral-spike.toml").read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/compare.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert said[0] in PAGE
    assert said[1] == names["comparison"].sentence  # type: ignore[attr-defined]
    assert (tmp_path / "report.html").stat().st_size > 50_000


def test_the_options_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert {"--report", "--trace", "--json", "--require"} <= named <= known
