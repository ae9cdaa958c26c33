from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.cli import main
from aibalance.cli.plan import save, sparkline
from aibalance.cli.progress import Progress
from tests.small import PLAN


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(PLAN)
    return path


def asked(*given: str) -> list[str]:
    return ["plan", *given, "--trials", "1", "--workers", "1"]


def test_a_plan_is_printed_and_written(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, lines = tmp_path / "plan.html", tmp_path / "plan.csv"
    given = asked(str(file), "--slo", "p95 < 6s", "--budget", "4000", "--html", str(page), "--csv", str(lines))
    assert main(given) == 0
    said = capsys.readouterr()
    for part in ("How the question was read", "keeps p95 < 6 s", "pre-warming: ", "ready servers"):
        assert part in said.out
    assert "plan: 100 % done" in said.err
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert page.stat().st_size < 1_000_000
    assert lines.read_text(encoding="utf-8").startswith("balancer,policy,min,max")
    assert sorted(os.listdir(tmp_path)) == ["plan.csv", "plan.html", "small.toml"]


def test_no_is_an_answer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*asked(str(file), "--slo", "p50 < 100ms", "--budget", "1000"), "--json", "--quiet"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["met"] is False
    assert "No fleet of these servers can" in found["sentence"]
    assert said.err == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--slo", "soon"], "slo: 'soon'"),
        (["--slo", "p95 < 3 s", "--budget", "much"], "--budget"),
        ([], "--slo"),
        (["--slo", "p95 < 3 s", "--no-spot", "--spot-discount", "50"], "--no-spot"),
        (["--slo", "p95 < 3 s", "--no-warm-pool", "--warm-start", "5"], "--no-warm-pool"),
        (["--slo", "p95 < 3 s", "--csv", "/nowhere/at/all.csv"], "--csv"),
        (["--slo", "p95 < 3 s", "--ray", "auto"], "ray"),
    ],
)
def test_wrong_usage_is_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: list[str], says: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["plan", str(file), *given]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "given",
    [
        ["--no-spot"],
        ["--no-warm-pool"],
        ["--spot-discount", "20"],
        ["--spot-interruptions", "9"],
        ["--spot-obtainable", "40"],
        ["--warm-price", "0.5"],
        ["--max-servers", "4"],
        ["--seed", "77"],
    ],
)
def test_each_option_alone_changes_the_result(
    file: Path, capsys: pytest.CaptureFixture[str], given: list[str], plain: dict[str, Any]
) -> None:
    main([*asked(str(file), "--slo", "p95 < 6s", "--budget", "4000"), "--json", "--quiet", *given])
    assert json.loads(capsys.readouterr().out) != plain


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("plain") / "small.toml"
    path.write_text(PLAN)
    given = asked(str(path), "--slo", "p95 < 6s", "--budget", "4000")
    done = subprocess.run(
        [sys.executable, "-m", "aibalance", *given, "--json", "--quiet"], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_tells_what_is_known_and_leaves_no_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    def stops(self: Progress, fraction: float) -> None:
        # The first designs are known once the second stage has begun.
        if fraction >= 0.15:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", stops)
    given = ["plan", str(file), "--slo", "p95 < 6s", "--trials", "16", "--workers", workers]
    assert main([*given, "--html", str(tmp_path / "plan.html"), "--csv", str(tmp_path / "plan.csv")]) == 130
    said = capsys.readouterr()
    assert "interrupted; the best of" in said.out
    assert "LeastRequest" in said.out or "SharedQueue" in said.out
    assert said.err == ""
    assert os.listdir(tmp_path) == ["small.toml"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    save(str(path), "old")
    monkeypatch.setattr(os, "replace", lambda *given: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ConfigError, match="cannot be written: full"):
        save(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([0, 0], "▁▁"), ([5], "█"), ([0, float("nan"), 8], "▁▁█"), (list(range(120)), None)],
)
def test_sparklines(values: list[float], line: str | None) -> None:
    found = sparkline(values)
    assert found == line if line is not None else len(found) == 60
