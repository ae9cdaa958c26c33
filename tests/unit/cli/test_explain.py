"""`aibalance explain` over files: what it says, draws and refuses. Prometheus has tests of its own in tests/live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aibalance.cli import main
from aibalance.cli.explain import sparkline
from aibalance.cli.series import instant, of_csv

DIRECT = 'ProportionalScaling(metric="queue", target=5, max_capacity=12, tolerance=0.1)'
DAY = 1_760_054_400


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Two servers: calm, a spike, a gap, calm."""
    path = tmp_path / "series.csv"
    values = ["5.1"] * 5 + ["40"] * 5 + [""] * 5 + ["5"] * 5
    rows = [f"{DAY + 60 * i},{value},2" for i, value in enumerate(values)]
    path.write_text("\n".join(["time,queue,replicas", *rows, ""]))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["explain", *arguments]) == code
    out, err = capsys.readouterr()
    return out if code != 2 else err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(told(capsys, *arguments, "--json", code=code))


def test_the_timeline(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    found = as_json(capsys, DIRECT, str(series))
    (one,) = found["policies"]
    assert [m["desired"] for m in one["moments"]] == [2] * 5 + [12] * 10 + [2] * 5
    assert [m["bound"] for m in one["moments"]] == (
        ["tolerance"] * 5 + ["max"] * 5 + ["missing metric"] * 5 + [None] + ["tolerance"] * 4
    )
    assert one["moments"][5]["projected"] == {"queue": pytest.approx(80 / 12)}
    assert one["summary"]["changes"] == 2
    assert found["recorded"] == [2] * 20
    assert found["metrics"] == {"queue": {"target": 5, "kind": "average"}}


def test_the_text(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    text = told(capsys, DIRECT, str(series))
    lines = text.splitlines()
    assert lines[0].startswith(f"ProportionalScaling over {series}: 20 decisions in 19 min, 00:00:00 to 00:19:00")
    assert "tttttMMMMM?????·tttt" in text
    assert "t tolerance; M max; ? missing metric; · nothing" in text
    decisions = text.split("Decisions\n")[1].splitlines()
    assert decisions[1].split()[:5] == ["00:05:00", "2", "to", "12", "max"]
    assert len([line for line in decisions if line.startswith("00:")]) == 2
    listed = told(capsys, DIRECT, str(series), "--bindings", "--rows", "3")
    assert "and 2 more (--rows)" in listed


def test_another_policy(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    found = as_json(capsys, DIRECT, str(series), "--against", "Fixed(servers=4)")
    assert [one["name"] for one in found["policies"]] == ["ProportionalScaling", "Fixed"]
    assert {m["desired"] for m in found["policies"][1]["moments"]} == {4}
    text = told(capsys, DIRECT, str(series), "--against", "Fixed(servers=4)")
    assert "Fixed would have had another number in 20 of 20 decisions, first at 00:00:00 (4 instead of 2)" in text
    assert "ProportionalScaling (2) would have done the same." in told(capsys, DIRECT, str(series), "--against", DIRECT)


def test_one_column_is_what_each_of_them_calls_it(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    other = DIRECT.replace('"queue"', '"depth"')
    assert main(["explain", DIRECT, str(series), "--against", other]) == 0
    out, err = capsys.readouterr()
    assert "column queue is taken as depth" in err
    assert "ProportionalScaling (2) would have done the same." in out


def test_metrics_without_a_target_are_read_where_they_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("t,queue,measured_on\n0,10,4\n60,10,2\n")
    policy = DIRECT.replace('"queue",', '"queue", measured="measured_on",')
    moments = as_json(capsys, policy, str(path), "--current", "4", "--recorded")["policies"][0]["moments"]
    assert [m["desired"] for m in moments] == [8, 4]
    assert moments[0]["metrics"] == {"queue": 10, "measured_on": 4}


def test_cold_start_recorded_and_current(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    warm = as_json(capsys, DIRECT, str(series), "--cold-start", "90s")["policies"][0]["moments"]
    assert [m["warming"] for m in warm[5:8]] == [0, 10, 0]
    late = as_json(capsys, DIRECT, str(series), "--metric-delay", "60")["policies"][0]["moments"]
    assert [m["metrics"]["queue"] for m in late[5:8]] == [40, 40, pytest.approx(80 / 12)]
    recorded = as_json(capsys, DIRECT, str(series), "--recorded")["policies"][0]["moments"]
    assert {m["current"] for m in recorded} == {2}
    started = as_json(capsys, DIRECT, str(series), "--current", "4")["policies"][0]["moments"]
    assert (started[0]["current"], started[0]["metrics"]["queue"]) == (4, pytest.approx(2.55))


def test_one_decision_in_full(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    text = told(capsys, DIRECT, str(series), "--at", str(DAY + 330))
    assert "At 00:05:00: queue is 40: 2 to 12 (max capacity)" in text
    assert "need" in text.split("At 00:05:00")[1]


def test_the_chart(capsys: pytest.CaptureFixture[str], series: Path, tmp_path: Path) -> None:
    path = tmp_path / "chart.html"
    arguments = [DIRECT, str(series), "--against", "Fixed(servers=4)", "--html", str(path)]
    told(capsys, *arguments)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 2
    for word in (
        "ProportionalScaling",
        "Fixed",
        "missing metric",
        "What bound each decision",
        "2 → 12",
        "queue, per server",
    ):
        assert word in page
    assert "http" not in page.replace("http://www.w3.org", "")
    told(capsys, *arguments)
    assert path.read_text(encoding="utf-8") == page
    assert "no folder" in told(capsys, DIRECT, str(series), "--html", "/nowhere/at/all.html", code=2)


def test_a_long_series_is_drawn_with_its_spike(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f"{60 * i},{90 if i == 4321 else 5}" for i in range(20_160)]
    path.write_text("\n".join(["t,queue", *rows]))
    found = as_json(capsys, DIRECT, str(path), "--current", "2", "--html", str(tmp_path / "long.html"))
    assert found["policies"][0]["summary"]["peak"] == 12
    assert (tmp_path / "long.html").stat().st_size < 1_500_000


def test_warnings(capsys: pytest.CaptureFixture[str], series: Path) -> None:
    found = as_json(capsys, DIRECT, str(series), "--strict", code=1)
    assert [one["rule"] for one in found["warnings"]] == ["tolerance_swallows_step"], "at its peak of 12"
    assert "1 warning\n- tolerance of queue: at 12 servers" in told(capsys, DIRECT, str(series))


def test_kinds_of_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("timestamp,depth\n2026-01-31T12:00:00Z,5\n2026-01-31T13:01:00+01:00,nan\n")
    found = of_csv(str(path), ["queue"], one=True)
    assert [(s.at, s.metrics, s.current) for s in found.samples] == [
        (1_769_860_800.0, {"queue": 5.0}, None),
        (1_769_860_860.0, {"queue": None}, None),
    ]
    assert found.notes == ("column depth is taken as queue",)
    assert main(["explain", DIRECT, str(path)]) == 0
    assert "taken as 1 (--current)" in capsys.readouterr().err
    path.write_text("t,queue,kv\n0,1,2\n")
    assert of_csv(str(path), ["queue", "gone"]).samples[0].metrics == {"queue": 1.0, "gone": None}
    assert of_csv(str(path), []).samples[0].metrics == {"queue": 1.0, "kv": 2.0}
    assert instant("2026-01-31T12:00") == 1_769_860_800.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ":1: the head is missing"),
        ("queue\n1\n", ":1: no column of times"),
        ("t,kv,ram\n0,1,2\n", ":1: no column of queue; there are kv, ram"),
        ("t,queue\n", "nothing below the head"),
        ("t,queue,queue\n0,1,2\n", ":1: two columns are called queue"),
        ("t,queue\n0,1\n60\n", ":3: 1 cells; the head has 2"),
        ("t,queue\nx,1\n", ":2: t: 'x' is not allowed"),
        ("t,queue\n0,x\n", ":2: queue: 'x' is not allowed"),
        ("t,queue\n0,inf\n", ":2: queue: 'inf' is not allowed"),
        ("t,queue\n60,1\n0,1\n", ":3: t: '0' is not allowed; times must not go back"),
        ("t,queue,replicas\n0,1,1.5\n", ":2: replicas: 1.5 is not allowed"),
    ],
)
def test_files_that_cannot_be(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert f"{path}{complaint}" in told(capsys, DIRECT, str(path), code=2).replace(": nothing", "nothing")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "SERIES.csv, or --prometheus URL"),
        (["gone.csv"], "cannot be read"),
        (["gone.csv", "--query", "q"], "--query: needs --prometheus"),
        (["--prometheus", "http://127.0.0.1:9"], "--query: needed"),
        (["--prometheus", "http://127.0.0.1:9", "--query", "a", "--query", "b"], "2 of them for 1 metrics"),
        (["--prometheus", "http://127.0.0.1:9", "--query", "a", "--step", "0"], "--step"),
        (["--at", "noon"], "--at"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert complaint in told(capsys, DIRECT, *arguments, code=2)


def test_sparklines() -> None:
    assert sparkline([0, 1, 2, None, 4, 8], 6) == "▁▁▂ ▄█"
    assert sparkline([0.0, 0.0], 10) == "▁▁"
    assert sparkline([1, 9, 1, 1], 2) == "█▁"
    assert sparkline([], 5) == " "


def test_a_chart_of_almost_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, chart = tmp_path / "little.csv", tmp_path / "little.html"
    for rows in (["0,"], ["0,", "60,"], ["0,0", "0,0"], ["5,7"]):
        path.write_text("\n".join(["t,queue", *rows]))
        told(capsys, DIRECT, str(path), "--current", "0", "--html", str(chart))
        assert "queue, per server" in chart.read_text(encoding="utf-8")


def test_totals_and_other_words_are_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, chart = tmp_path / "total.csv", tmp_path / "total.html"
    path.write_text("\n".join(["t,concurrency", *(f"{i},{500 if i > 60 else 20}" for i in range(120))]))
    policy = "KnativePodAutoscaler(target=10, max_scale=30)"
    told(capsys, policy, str(path), "--current", "3", "--html", str(chart), "--cold-start", "5")
    page = chart.read_text(encoding="utf-8")
    assert "what the servers take" in page
    assert "ready (dotted)" in page
    assert "panic" in page
