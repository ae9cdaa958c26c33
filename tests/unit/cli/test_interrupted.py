"""Ctrl-C: what is known by then is printed, and no file is left half written."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aibalance.cli import main
from aibalance.cli.plan import save
from aibalance.cli.progress import Progress
from aibalance.simulation import Scenario, compare
from aibalance.simulation import _compare as comparing
from aibalance.simulation import _plan_search as searching
from tests.small import PLAN, WORK, telling

SMALL = f"""
name = "small"
duration_s = 100
slo_s = 5{WORK}[fleet]
min = 4
[[fleet.types]]
name = "a"
[[balancers]]
picker = "RoundRobin"
[[balancers]]
picker = "LeastRequest"
"""
# Of what a shell would give.
COMMAND = telling(0.001, "main(sys.argv[1:])")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


REAL = comparing.run
REAL_PARAMETERS = searching._parameters


def stop_at(monkeypatch: pytest.MonkeyPatch, runs: int) -> None:
    """Ctrl-C in the run after so many."""
    left = iter(range(runs))

    def run(*given: Any, **more: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return REAL(*given, **more)

    monkeypatch.setattr(comparing, "run", run)


@pytest.mark.parametrize(
    ("runs", "counted", "names"),
    [
        (5, "5 of 40 runs are over; 2 of 20 replications count", 2),
        (1, "1 of 40 runs are over; only 1 of 2 candidates have run, once each", 1),
    ],
)
def test_a_comparison_brings_its_whole_replications(
    file: Path, monkeypatch: pytest.MonkeyPatch, runs: int, counted: str, names: int
) -> None:
    stop_at(monkeypatch, runs)
    with pytest.raises(KeyboardInterrupt) as stop:
        compare(Scenario.load(file))
    assert stop.value.text == counted  # type: ignore[attr-defined]
    known = stop.value.known  # type: ignore[attr-defined]
    assert {len(reports) for reports in known.reports.values()} == {max(1, runs // 2)}
    assert len(known.names) == names


def test_the_command_prints_what_is_known(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(monkeypatch, 5)
    page = tmp_path / "page.html"
    assert main(["compare", str(file), "--quiet", "--report", str(page)]) == 130
    said = capsys.readouterr()
    assert said.out.startswith("interrupted; partial: 5 of 40 runs are over; 2 of 20 replications count\n\n")
    assert "2 candidates, 2 replications" in said.out
    assert said.err == ""
    assert os.listdir(tmp_path) == ["small.toml"]
    stop_at(monkeypatch, 5)
    assert main(["compare", str(file), "--quiet", "--json"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert (found["interrupted"], found["scenario"]["replications"]) == (True, 2)
    stop_at(monkeypatch, 0)
    assert main(["compare", str(file)]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "interrupted; nothing is known yet: 0 of 40 runs are over\n")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_shows_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    path = tmp_path / "long.toml"
    path.write_text(SMALL.replace("duration_s = 100", "duration_s = 1000000"))
    told = Progress.__call__

    def stops(self: Progress, fraction: float) -> None:
        told(self, fraction)
        if fraction >= 0.02:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", stops)
    assert main(["simulate", str(path), "--quiet", *more]) == 130
    out = capsys.readouterr().out
    if more:
        found = json.loads(out)
        assert found["interrupted"] is True
        assert found["phases"]["all"]["requests"] > 100
    else:
        assert out.startswith("interrupted; partial: ")
        assert "as if traffic had ended then\nsmall: RoundRobin, Fixed, seed 0" in out


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"duration_s = 1000000": "duration_s = 1000000\ndiscard_s = 999999"}, "nothing of it is measured")],
)
def test_a_run_without_a_beginning_says_how_far_it_came(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    why: str,
) -> None:
    text = SMALL.replace("duration_s = 100", "duration_s = 1000000")
    for old, new in changes.items():
        text = text.replace(old, new)
    path = tmp_path / "long.toml"
    path.write_text(text)

    def stops(self: Progress, fraction: float) -> None:
        self.fraction = fraction
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", stops)
    assert main(["simulate", str(path)]) == 130, why
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("interrupted; ")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of a group")
@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_a_real_sigint_ends_a_real_run(tmp_path: Path, command: str) -> None:
    path = tmp_path / "endless.toml"
    # A long run for the one, many short ones for the other.
    path.write_text(SMALL.replace("= 100", f"= {100_000_000 if command == 'simulate' else 500}"))
    more = ["--replications", "10000", "--report", str(tmp_path / "page.html")] if command == "compare" else []
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, command, str(path), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # What ends the wait if nothing else does; the time that it takes is no part of the test.
    killer = threading.Timer(120, process.kill)
    killer.start()
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    finally:
        killer.cancel()
    assert process.returncode == 130
    assert out.startswith("interrupted; partial: "), err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == ["endless.toml"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a group")
@pytest.mark.parametrize("how", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGINT)])
def test_no_worker_of_a_plan_outlives_it(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace('name = "a"', 'name = "a"\nprice_per_hour = 1').replace("min = 4", "max = 6"))
    files = ["--html", str(tmp_path / "plan.html"), "--csv", str(tmp_path / "plan.csv")]
    # As the program itself, which ends without taking itself down; but what others have registered still runs.
    program = telling(0.14)
    program = "import atexit\natexit.register(print, 'last')" + program
    process = subprocess.Popen(
        # More designs than anybody waits for.
        [
            *(sys.executable, "-c", program, "plan", str(path), "--slo", "p95 < 6 s"),
            *("--trials", "100000", "--workers", "2", *files),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
        # Every worker holds the other end of these, so this ends when the last of them has.
        out, err = process.communicate(timeout=120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert out.startswith("interrupted; the best of "), err
        assert out.endswith("\nlast\n")
        assert err == ""
    assert os.listdir(tmp_path) == ["small.toml"]


@pytest.mark.skipif(sys.platform == "win32", reason="a signal to oneself")
def test_ctrl_c_is_heeded_also_where_a_library_swallows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.toml"
    path.write_text(PLAN)
    designs: list[Any] = []

    def swallows(design: Any, space: Any) -> Any:
        designs.append(design)
        if len(designs) == 1:
            # As modules do while they are imported.
            with contextlib.suppress(BaseException):
                signal.raise_signal(signal.SIGINT)
        return REAL_PARAMETERS(design, space)

    monkeypatch.setattr(searching, "_parameters", swallows)
    before = signal.getsignal(signal.SIGINT)
    assert main(["plan", str(path), "--slo", "p95 < 6 s", "--workers", "1", "--trials", "64", "--quiet"]) == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_a_link_and_a_device_are_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    save(str(link), "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    save(os.devnull, "new")
    assert not os.path.isfile(os.devnull)
