"""`aibalance import` and `aibalance export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aibalance.cli import exports, imports, main
from aibalance.formats import read_text, scenario
from aibalance.formats._read import FORMATS
from aibalance.formats.exports import TARGETS
from aibalance.simulation import Scenario, simulate

from ..formats import samples


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n.conf").write_text(
        "upstream u {\n least_conn;\n server a:80 weight=3;\n server b:80;\n keepalive 8;\n}\n"
    )
    (tmp_path / "hpa.yaml").write_text(samples.HPA)
    (tmp_path / "bad.conf").write_text("upstream u {\n server a:80 wieght=3;\n}\n")
    (tmp_path / "main.tf").write_text(samples.TERRAFORM)
    return tmp_path


def test_the_names_of_the_options_are_those_of_the_library() -> None:
    assert imports.FORMATS == FORMATS
    assert exports.TARGETS == TARGETS


def test_import_says_what_became_of_each_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "n.conf", "hpa.yaml"]) == 0
    said = capsys.readouterr().out
    assert "pool u: 2 servers, LeastConnections()" in said
    assert "policy everything: HorizontalPodAutoscaler on web" in said
    assert "n.conf:5: keepalive: connections that are kept open are the caller's" in said


def test_what_is_refused_ends_with_2_and_writes_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "bad.conf", "n.conf", "--to", "s.toml"]) == 2
    assert "bad.conf:2: server wieght: 'wieght=3' is not known; did you mean weight?" in capsys.readouterr().out
    assert not (files / "s.toml").exists()
    assert main(["export", "bad.conf", "--to", "haproxy", "--output", "h.cfg"]) == 2
    assert "refused: bad.conf:2" in capsys.readouterr().err
    assert not (files / "h.cfg").exists()


def test_json_holds_all_of_it(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "n.conf", "main.tf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pools"][0]["picker"] == {"name": "LeastConnections"}
    assert found["ignored"][0] == {
        "where": "n.conf:5",
        "field": "keepalive",
        "reason": "connections that are kept open are the caller's",
    }
    assert main(["export", "n.conf", "--to", "nginx", "--json"]) == 0
    assert "upstream u" in json.loads(capsys.readouterr().out)["text"]


def test_a_scenario_can_be_simulated_at_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "n.conf", "hpa.yaml", "main.tf", "--to", "s.toml", "--pool", "u", "--rate", "2"]) == 0
    assert "scenario: s.toml" in capsys.readouterr().err
    found = Scenario.load("s.toml")
    assert [(one.name, one.speed, one.share) for one in found.fleet.types] == [
        ("weight 3", 3.0, 1.0),
        ("weight 1", 1.0, 1.0),
    ]
    assert [one.picker for one in found.balancers] == ["LeastConnections", "LeastRequest"]
    assert [(one.name, one.policy) for one in found.policies] == [
        ("everything", "HorizontalPodAutoscaler"),
        ("track and step", "Combined"),
        ("simple", "SimpleScaling"),
        ("gpu schedule", "ScheduledScaling"),
        ("Fixed", "Fixed"),
    ]
    assert (found.fleet.min, found.fleet.max, found.fleet.initial) == (2, 30, 3)
    report = simulate(found.replace(duration_s=700), picker="u as it is", policy="track and step", seed=1)
    assert report.to_dict()


def test_each_sample_makes_a_scenario(files: Path) -> None:
    for name, text in (
        ("n.conf", samples.NGINX),
        ("haproxy.cfg", samples.HAPROXY),
        ("e.yaml", samples.ENVOY),
        ("k.yaml", samples.KEDA),
        ("k.yaml", samples.KNATIVE),
        ("r.yaml", samples.RAY),
    ):
        Path("s.toml").write_text(scenario(read_text(text, name).check(), name='a "name"\\'))
        assert Scenario.load("s.toml").name == 'a "name"\\'


@pytest.mark.parametrize("to", TARGETS)
def test_each_target_writes_or_says_why_not(files: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["export", "main.tf", "hpa.yaml", "n.conf", "--to", to, "--output", "out"])
    said = capsys.readouterr().err
    if to in ("keda", "knative", "ray-serve"):
        assert code == 2
        assert "can be written as" in said
    elif to in ("nginx", "haproxy"):
        # The reference rule draws among weighted groups, which a location cannot.
        assert code == 2
        assert said
    else:
        assert code == 0
        assert (files / "out").stat().st_size > 100
        assert "not written: " in said


SCENARIO = """
name = "small"
duration_s = 300.0
slo_s = 2.0
replications = 2
[traffic]
kind = "poisson"
rate_rps = 6.0
[service]
kind = "exponential"
mean_s = 1.0
[fleet]
min = 4
max = 12
[[fleet.types]]
name = "server"
[[balancers]]
picker = "LeastRequest"
options = { full_scan = true }
[[policies]]
policy = "Fixed"
options = { servers = 12 }
"""


def test_compare_says_where_the_present_configuration_stands(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.toml").write_text(SCENARIO)
    Path("now.conf").write_text("\nupstream now {\n random;\n server a:80;\n server b:80;\n}\n")
    Path("hpa.yaml").write_text(samples.HPA_V1)
    assert main(["compare", "s.toml", "--baseline", "now.conf,hpa.yaml"]) == 0
    told = capsys.readouterr()
    assert "Baseline: now as it is + old, place " in told.out
    assert "  now.conf:2: now: WeightedRandom; LeastRequest is first" in told.out
    assert "  hpa.yaml:2: old: HorizontalPodAutoscaler; Fixed is first" in told.out
    assert "baseline: old: cpu utilization is taken for utilization_percent" in told.err


def test_each_policy_of_a_group_is_a_line_of_the_baseline(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.toml").write_text(SCENARIO)
    assert main(["compare", "s.toml", "--baseline", "main.tf"]) == 0
    told = capsys.readouterr()
    assert "baseline: track and step: on one group, so the largest of what they ask for" in told.err
    assert "baseline: track and step, simple, gpu schedule: all on gpu; here each is a candidate of its own" in told.err
    assert " + track and step, place " in told.out
    for name, kind in (("track", "TargetTracking"), ("step", "StepScaling")):
        assert f": {name}: {kind}; Fixed is first" in told.out


def test_a_baseline_that_is_refused_or_empty(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.toml").write_text(SCENARIO)
    assert main(["compare", "s.toml", "--baseline", "bad.conf"]) == 2
    assert "did you mean weight?" in capsys.readouterr().err
    Path("d.yaml").write_text("kind: Deployment")
    assert main(["compare", "s.toml", "--baseline", "d.yaml"]) == 2
    assert "no pool and no policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import"], "FILE"),
        (["import", "none.conf"], "none.conf: cannot be read"),
        (["import", "n.conf", "--rate", "2"], "--rate: needs --to"),
        (["import", "n.conf", "--to", "s.toml", "--rate", "0"], "a number above 0"),
        (["import", "n.conf", "--to", "s.toml", "--pool", "x"], "pool: 'x' is not there; there are: u"),
        (["import", "n.conf", "--to", "none/s.toml"], "none/s.toml: cannot be written"),
        (["export", "n.conf"], "--to"),
        (["export", "n.conf", "--to", "traefik"], "traefik"),
        (["export", "n.conf", "--to", "hpa"], "none of 0 can be written as hpa"),
    ],
)
def test_wrong_usage_ends_with_2(
    files: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
