"""The commands on real scenarios, through the real simulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aibalance.cli import main
from aibalance.simulation import Scenario, compare

EXAMPLE = Path(__file__).parents[3] / "examples" / "viral-spike.toml"
TRACES = Path(__file__).parents[4] / "shared" / "traces"

SMALL = """
name = "small"
duration_s = 300
slo_s = 4
replications = 3

[traffic]
kind = "spike"
base_rps = 2
factor = 4
start_s = 100
hold_s = 50

[service]
kind = "exponential"
mean_s = 1

[fleet]
min = 4
max = 4
queue_limit = 20
[[fleet.types]]
name = "a"
price_per_hour = 0.1

[[balancers]]
picker = "LeastRequest"
[[balancers]]
picker = "RoundRobin"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_compare_writes_the_ranking_and_the_report(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = small.with_suffix(".html")
    assert main(["compare", str(small), "--report", str(report), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("small: 2 candidates, 3 replications of 5 min")
    assert "\nCalm\n" in out
    assert "\nSpike (" in out
    page = report.read_text(encoding="utf-8")
    assert "LeastRequest" in page
    assert page.count("<svg") == 8


def test_json_holds_every_replication_and_equal_seeds_agree(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for seed in ("5", "5", "6"):
        assert main(["compare", str(small), "--json", "--quiet", "--replications", "2", "--seed", seed]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert found[0] != found[2]
    values = [one["phases"]["all"]["p99_s"]["values"] for one in found[0]["candidates"]]
    assert [len(one) for one in values] == [2, 2]


def test_simulate_says_what_happened(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(small), "--balancer", "RoundRobin", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("small: RoundRobin, Fixed, seed 0")


@pytest.mark.parametrize(
    ("line", "instead", "says"),
    [
        ("base_rps = 2", "base_rsp = 2", ["line {at}", "traffic.base_rsp", "base_rps"]),
        ("base_rps = 2", "base_rps = -2", ["line {at}", "traffic.base_rps", "-2"]),
        ("base_rps = 2", "base_rps = nan", ["line {at}", "traffic.base_rps", "nan"]),
        ("base_rps = 2", "base_rps = 2 2", ["line {at}", "not TOML"]),
        ('picker = "RoundRobin"', 'picker = "RoundRobbin"', ["line {at}", "RoundRobbin", "RoundRobin", "Maglev"]),
        ('kind = "spike"', 'kind = "trace"\nfile = "empty.csv"', ["traffic"]),
        ("slo_s = 4", "", ["slo_s", "missing"]),
    ],
)
def test_a_scenario_that_cannot_be_is_two_and_one_line(
    small: Path, capsys: pytest.CaptureFixture[str], line: str, instead: str, says: list[str]
) -> None:
    assert line in SMALL
    small.write_text(SMALL.replace(line, instead))
    assert main(["compare", str(small)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    at = SMALL[: SMALL.index(line)].count("\n") + 1
    for word in ["small.toml", *says]:
        assert word.format(at=at) in err


def test_an_empty_trace_is_two_and_names_the_trace(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = small.with_name("empty.jsonl.gz")
    trace.write_bytes(b"")
    assert main(["compare", str(small), "--trace", str(trace)]) == 2
    err = capsys.readouterr().err
    assert err == f"aibalance: {trace}: no requests (the file is empty); allowed: at least one\n"


def test_the_example_tells_balancers_apart() -> None:
    # Whoever knows how much is in flight beats whoever only counts, where GPUs differ: 18 of 20 paired runs at least.
    scenario = Scenario.load(EXAMPLE)
    found = compare(scenario, pickers=["round robin", "least request"], policies=["tracking and surge"])
    for phase in ("all", "spike"):
        difference = found.difference("least request", "p99_s", phase)
        assert difference["of"] == 20
        assert difference["wins"] >= 18
        assert difference["high"] < 0


@pytest.mark.parametrize(
    "name",
    ["azure_llm_2023_code.csv.gz", "azure_llm_2023_conv.csv.gz", "mooncake_fast25_conversation.jsonl.gz"],
)
def test_the_example_runs_on_recorded_traffic(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not (TRACES / name).is_file():
        pytest.skip(f"{name} is not in ../shared/traces: the real traces are not shipped")
    code = main(["compare", str(EXAMPLE), "--trace", str(TRACES / name), "--json", "--quiet", "--replications", "2"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["candidates"]) == 16
    assert name.partition(".")[0] in found["scenario"]["traffic"]
