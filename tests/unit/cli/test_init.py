from __future__ import annotations

import io
import json
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from aibalance.cli import init, main
from aibalance.simulation import LLMService, RequestClass, Scenario, _load
from aibalance.simulation._schema import schema
from aibalance.simulation._traffic import LAWS


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_defaults_make_a_scenario_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "service.toml"
    assert main(["init", str(path), "--yes"]) == 0
    found = Scenario.load(path)
    # 2.5 servers are busy on an ordinary day, which is 65 % of 4.
    assert (found.name, found.fleet.min, found.fleet.max) == ("service", 4, 50)
    assert found.spike is not None
    assert "aibalance plan" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8").count("#") > 12


def test_a_contradiction_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # rps, spike, work low and high (too low first), SLO, price, concurrency, cold start, min, max (too low first).
    monkeypatch.setattr(sys, "stdin", Terminal("\n\n3\n1\n5\n\n\n2\n\n9\n8\n12\n"))
    path = tmp_path / "a.toml"
    assert main(["init", str(path)]) == 0
    said = capsys.readouterr()
    assert "--work-high: 1 is not allowed; expected more than --work-low" in said.err
    assert "--max: 8 is not allowed; expected at least --min, 9" in said.err
    assert said.err.startswith("Enter takes what stands in brackets")
    found = Scenario.load(path)
    assert (found.fleet.min, found.fleet.max) == (9, 12)
    assert dict(found.service.parameters) == {"low_s": 3, "high_s": 5}  # type: ignore[union-attr]
    assert f"aibalance simulate {path}" in path.read_text(encoding="utf-8").splitlines()[1]


def test_busy_traffic_is_offered_a_fleet_that_can_serve_it(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    assert main(["init", str(path), "--yes", "--quiet", "--rps", "100", "--concurrency", "5"]) == 0
    # 100 a second of 1.25 s each keep 25 servers of five busy; ten times that in the spike.
    found = Scenario.load(path).fleet
    assert (found.min, found.max) == (39, 500)


@pytest.mark.parametrize("ends", [EOFError, KeyboardInterrupt])
def test_who_gives_up_finds_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ends: type[BaseException]
) -> None:
    def asks(prompt: str) -> str:
        raise ends

    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr("builtins.input", asks)
    assert main(["init", str(tmp_path / "a.toml")]) == (2 if ends is EOFError else 130)
    said = capsys.readouterr().err
    assert ("--rps: no answer" in said) if ends is EOFError else ("interrupted; nothing was written" in said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("question", init._QUESTIONS, ids=lambda one: one.flag)
def test_each_option_alone_changes_the_file(tmp_path: Path, question: init._Question) -> None:
    path, other = tmp_path / "a.toml", tmp_path / "b.toml"
    value = question.default + 1
    assert main(["init", str(path), "--yes", "--quiet", "--name", "x"]) == 0
    assert main(["init", str(other), "--yes", "--quiet", "--name", "x", f"--{question.flag}", str(value)]) == 0
    before, after = (tomllib.loads(one.read_text(encoding="utf-8")) for one in (path, other))
    assert before != after
    Scenario.load(other)


def test_questions_are_asked_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("4\n1\n\n\n\nmany\n3\n\n\n\n\n\n"))
    path = tmp_path / "a.toml"
    assert main(["init", str(path), "--rps", "9"]) == 0
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    # --rps was given, so the first answer is the spike's; 1 the shortest work, and "many" is asked again.
    assert found["traffic"] == {
        "kind": "spike", "base_rps": 9, "factor": 4, "start_s": 900, "ramp_s": 60, "hold_s": 600,
    }  # fmt: skip
    assert found["service"]["low_s"] == 1
    assert found["fleet"]["concurrency"] == 3
    assert "'many'; allowed: a whole number" in capsys.readouterr().err


def test_a_log_is_fitted(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    times = np.cumsum(chance.exponential(0.5, 2000))
    spent = chance.lognormal(0.0, 0.5, 2000)
    log = tmp_path / "log.csv"
    rows = (f"{a:.6f},{b:.6f}" for a, b in zip(times, spent, strict=True))
    log.write_text("when,took\n" + "\n".join(rows) + "\n")
    path = tmp_path / "a.toml"
    given = ["init", str(path), "--trace", str(log), "--trace-format", "csv", "--time", "when"]
    assert main([*given, "--duration", "took"]) == 0
    found = Scenario.load(path)
    assert found.traffic.describe().startswith(("Poisson, 2", "Poisson, 1.9"))
    assert found.service.describe().startswith("lognormal (mean_s 1.1")
    assert "KS" in path.read_text(encoding="utf-8")
    assert main([*given, "--force", "--work-low", "1", "--work-high", "4"]) == 0
    assert Scenario.load(path).service.describe().startswith("uniform (low_s 1, high_s 4")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--time", "x"], "--time: needs --trace"),
        (["--min", "9", "--max", "3"], "--max: 3"),
        (["--work-low", "9", "--work-high", "3"], "--work-high: 3"),
        (["--rps", "0"], "--rps"),
        (["--trace", "x", "--rps", "3"], "x"),
        (["--trace", "x", "--trace-format", "csv"], "--time: missing"),
        (["--trace", "x", "--log-format", "y"], "--log-format: needs"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], says: str
) -> None:
    assert main(["init", str(tmp_path / "a.toml"), "--yes", *given]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "a.toml").exists()


def test_a_file_is_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.toml"
    path.write_text("mine")
    assert main(["init", str(path), "--yes"]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "mine"


# The schema


def test_the_schema_has_the_keys_of_the_reader(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--schema"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == schema()
    of = found["properties"]
    assert set(of) == {*_load._TOP, *_load._TABLES}
    assert set(of["fleet"]["properties"]) == set(_load._FLEET)
    assert set(of["fleet"]["properties"]["types"]["items"]["properties"]) == set(_load._TYPE)
    assert set(of["balancers"]["items"]["properties"]) == set(_load._BALANCER)
    assert set(of["policies"]["items"]["properties"]) == set(_load._POLICY)
    assert set(of["tokens"]["properties"]) == set(_load._TOKENS)
    assert set(of["classes"]["items"]["properties"]) == {one.name for one in fields(RequestClass)}
    kinds = {one["properties"]["kind"]["const"]: set(one["properties"]) - {"kind"} for one in of["traffic"]["oneOf"]}
    assert kinds == {kind: set(keys) for kind, keys in _load._TRAFFIC.items()}
    kinds = {one["properties"]["kind"]["const"]: set(one["properties"]) - {"kind"} for one in of["service"]["oneOf"]}
    assert kinds == {
        **{kind: set(keys) for kind, keys in LAWS.items()},
        "recorded": {"noise_cv"},
        "tokens": set(_load._TOKENS),
        "llm": {one.name for one in fields(LLMService)},
    }
    for part in _load._PARTS:
        assert set(of[part.__name__.lower()]["properties"]) == {one.name for one in fields(part)}


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[3] / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_examples_follow_the_schema(path: Path) -> None:
    validate = pytest.importorskip("jsonschema").Draft7Validator
    validate.check_schema(schema())
    assert [error.message for error in validate(schema()).iter_errors(tomllib.loads(path.read_text("utf-8")))] == []
    assert list(validate(schema()).iter_errors({"name": 3, "colour": "red"}))


def test_the_schema_has_the_tables_of_groups_and_clouds() -> None:
    from aibalance.simulation import _load_buying as buying

    of = schema()["properties"]
    assert set(of["groups"]["items"]["properties"]) == set(buying.GROUP)
    for name in buying.parts():
        one = of["groups"]["items"]["properties"][name]
        assert set(one.get("items", one)["properties"]) == set(buying.keys(name))
    assert set(of["failovers"]["items"]["properties"]) == set(buying.FAILOVER)
    assert of["failovers"]["items"]["required"] == ["primary", "secondary", "start_s", "end_s"]
    assert set(of["plan"]["properties"]["spot"]["properties"]) == {one.name for one in fields(buying.PLAN["spot"])}
