from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aibalance
from aibalance import FormatError, InternalError
from aibalance.cli import main
from aibalance.cli.compare import text
from aibalance.cli.progress import Progress
from aibalance.cli.tables import table
from aibalance.report import parse
from tests.unit.report.sample import comparison


class Simulation(types.ModuleType):
    """Stands in for `aibalance.simulation`: what the command asks for, and a ready answer."""

    def __init__(self) -> None:
        super().__init__("aibalance.simulation")
        self.asked: dict[str, Any] = {}
        self.result = comparison()
        self.fails: BaseException | None = None
        self.Scenario = self

    def load(self, path: str) -> Simulation:
        if not os.path.exists(path):
            raise FormatError(f"{path}: cannot be read:\nNo such file")
        self.asked["scenario"] = path
        return self

    def with_trace(self, trace: Any) -> Simulation:
        self.asked["trace"] = trace
        return self

    def compare(self, scenario: Any, *, replications: int | None, seed: int | None, progress: Any) -> Simulation:
        self.asked.update(replications=replications, seed=seed)
        for done in range(1, 5):
            progress(done / 4)
            if self.fails is not None:
                raise self.fails
        return self

    def simulate(
        self, scenario: Any, *, picker: str | None, policy: str | None, seed: int | None, progress: Any
    ) -> Simulation:
        self.asked.update(picker=picker, policy=policy, seed=seed)
        progress(1.0)
        return self

    def summary(self) -> str:
        return "two lines\nof summary"

    def to_dict(self) -> dict[str, Any]:
        return self.result


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Simulation:
    fake = Simulation()
    monkeypatch.setitem(sys.modules, "aibalance.simulation", fake)
    return fake


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "scenario.toml"
    path.write_text("")
    return str(path)


Said = Callable[[], tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    def read() -> tuple[str, str]:
        out, err = capsys.readouterr()
        return out, err

    return read


def test_the_ranking_goes_to_stdout_and_progress_to_stderr(simulation: Simulation, scenario: str, said: Said) -> None:
    assert main(["compare", scenario, "--replications", "7", "--seed", "3"]) == 0
    out, err = said()
    assert simulation.asked == {"scenario": scenario, "replications": 7, "seed": 3}
    assert err.splitlines() == [f"compare: {n} % done" for n in (25, 50, 75, 100)]
    parts = out.split("\n\n")
    assert [part.splitlines()[0] for part in parts[1:4]] == ["Ranking, whole run", "Calm", "Spike (20 min to 32 min)"]
    assert " ".join(parts[4].split()) == simulation.result["sentence"]
    first = parts[1].splitlines()[2]
    assert first.split("  ")[0] == "1"
    assert "peak EWMA" in first
    assert first.endswith("2, 3")
    assert "±" in first
    for part in parts[1:4]:
        assert len(part.splitlines()) == 2 + 15


def test_quiet_says_nothing_on_stderr(simulation: Simulation, scenario: str, said: Said, tmp_path: Path) -> None:
    code = main(["compare", scenario, "--quiet", "--report", str(tmp_path / "r.html"), "--require", "0.999"])
    assert (code, said()[1]) == (1, "")


def test_json_is_the_only_thing_on_stdout(simulation: Simulation, scenario: str, said: Said) -> None:
    simulation.result["candidates"][0]["phases"]["all"]["p99_s"]["mean"] = math.nan
    assert main(["compare", scenario, "--json"]) == 0
    found = json.loads(said()[0])
    assert found["candidates"][0]["phases"]["all"]["p99_s"]["mean"] is None
    assert found["ranking"] == simulation.result["ranking"]


def test_the_report_is_written_and_said_so(simulation: Simulation, scenario: str, said: Said, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert main(["compare", scenario, "--report", str(path)]) == 0
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert said()[1].splitlines()[-1] == f"report: {path}"


def test_a_report_that_cannot_be_written_is_found_before_the_runs(
    simulation: Simulation, scenario: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compare", scenario, "--report", "/nowhere/at/all.html"]) == 2
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [one for one in sys.modules if one.startswith(("aibalance.report.page", "aibalance.report.charts"))]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(sys.modules["aibalance.report"], name.split(".")[2], raising=False)
    monkeypatch.delitem(sys.modules, "aibalance.report.svg", raising=False)
    assert main(["compare", scenario, "--report", "report.html"]) == 2
    err = said()[1].splitlines()
    assert err[0] == "aibalance: report: /nowhere/at/all.html: there is no folder /nowhere/at"
    assert err[1] == "aibalance: report: needs matplotlib; run: pip install aibalance[report]"
    assert simulation.asked == {}


@pytest.mark.parametrize(("share", "code"), [("0.9", 0), ("90%", 0), ("0.99", 1), ("100%", 1)])
def test_require_answers_by_the_exit_code(
    simulation: Simulation, scenario: str, said: Said, share: str, code: int
) -> None:
    assert main(["compare", scenario, "--require", share]) == code
    assert ("no: none answers" in said()[1]) == (code == 1)


def test_a_trace_replaces_the_traffic(simulation: Simulation, scenario: str, said: Said, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 00:00:00,5,6\n")
    assert main(["compare", scenario, "--trace", str(path)]) == 0
    assert simulation.asked["trace"].input_tokens.tolist() == [5]
    assert said()[1].splitlines()[0] == "day: 1 requests in 0 s"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    assert main(["compare", scenario, "--trace", str(path)]) == 2
    assert main(["compare", scenario, "--trace", str(path), "--trace-format", "mooncake"]) == 2
    assert main(["compare", scenario, "--trace-format", "mooncake"]) == 2
    assert said()[1].splitlines() == [
        f"aibalance: {path}: no requests (only a header); allowed: at least one",
        f"aibalance: {path}, line 1: not JSON: Expecting value; allowed: one JSON object a line",
        "aibalance: --trace-format: needs --trace",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "required: COMMAND"),
        (["compere"], "invalid choice: 'compere'"),
        (["compare"], "required: SCENARIO.toml"),
        (["compare", "x", "--replications", "0"], "'0'; allowed: a whole number from 1 to 10000"),
        (["compare", "x", "--replications", "many"], "'many'; allowed: a whole number"),
        (["compare", "x", "--seed", "-1"], "'-1'; allowed: a whole number from 0"),
        (["compare", "x", "--require", "nan"], "'nan'; allowed: a share above 0"),
        (["compare", "x", "--require", "101%"], "'101%'; allowed"),
        (["compare", "x", "--reprot", "y"], "unrecognized arguments: --reprot"),
        (["compare", "x", "--trace", "y", "--trace-format", "csv"], "invalid choice: 'csv'"),
        (["compare", "/nowhere.toml"], "/nowhere.toml: cannot be read: No such file"),
    ],
)
def test_wrong_usage_is_two_and_one_line(simulation: Simulation, said: Said, arguments: list[str], says: str) -> None:
    assert main(arguments) == 2
    out, err = said()
    assert out == ""
    assert err.startswith("aibalance")
    assert says in err
    assert err.count("\n") == 1


def test_ctrl_c_and_our_own_bugs(simulation: Simulation, scenario: str, said: Said) -> None:
    simulation.fails = KeyboardInterrupt()
    assert main(["compare", scenario, "--quiet"]) == 130
    assert said() == ("", "")
    simulation.fails = InternalError("the sky fell")
    assert main(["compare", scenario, "--quiet"]) == 70
    assert said()[1] == "aibalance: bug: the sky fell; please report it\n"


def test_simulate_runs_once(simulation: Simulation, scenario: str, said: Said) -> None:
    assert main(["simulate", scenario, "--balancer", "peak EWMA", "--policy", "Fixed", "--seed", "9"]) == 0
    assert said() == ("two lines\nof summary\n", "".join(f"simulate: {n} % done\n" for n in (100,)))
    assert simulation.asked == {"scenario": scenario, "picker": "peak EWMA", "policy": "Fixed", "seed": 9}
    assert main(["simulate", scenario, "--json", "--quiet"]) == 0
    out, err = said()
    assert (json.loads(out)["baseline"], err) == (simulation.result["baseline"], "")


def test_without_a_spike_there_is_one_table(simulation: Simulation) -> None:
    shown = text(parse(comparison(2, 1, spike=False)), 120)
    assert "Ranking, whole run" in shown
    assert "Spike" not in shown


def test_a_narrow_terminal_gets_names_on_lines_of_their_own() -> None:
    head, rows = (
        ["#", "name", "p50", "p99"],
        [["1", "weighted round robin", "1 s", "10 s"], ["2", "负载均衡", "2 s", "3 s"]],
    )
    wide = table(head, rows, left=2, columns=80).splitlines()
    assert wide == [
        "#  name                  p50   p99",
        "1  weighted round robin  1 s  10 s",
        "2  负载均衡              2 s   3 s",
    ]
    narrow = table(head, rows, left=2, columns=30).splitlines()
    assert narrow == ["    p50   p99", "1  weighted round robin", "    1 s  10 s", "2  负载均衡", "    2 s   3 s"]
    shown = text(parse(comparison()), 60)
    assert max(len(line) for line in shown.splitlines()[1:]) <= 100


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_draws_a_bar_on_a_terminal_and_wipes_it() -> None:
    stream = Terminal()
    with Progress("compare", stream=stream) as progress:
        progress(1.0)
    shown = stream.getvalue()
    assert "compare " + "█" * 30 + " 100 %" in shown
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown
    quiet = Terminal()
    with Progress("compare", quiet=True, stream=quiet) as progress:
        progress(0.25)
    assert quiet.getvalue() == ""


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    # Buffered output, as in a shell: an unbuffered one hides a broken pipe inside argparse.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "aibalance", *arguments]
    return subprocess.run(command, text=True, timeout=60, env=environment, **options)


def test_the_module_is_the_command() -> None:
    done = run("--version", capture_output=True)
    assert (done.returncode, done.stdout) == (0, f"aibalance {aibalance.__version__}\n")
    done = run("--help", capture_output=True)
    assert done.returncode == 0
    assert "compare" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipe signal")
def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run("compare", "--help", stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
