"""A scenario file: what is read, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibalance import ConfigError, FormatError
from aibalance.simulation import Keys, Scenario, Spike, SpikeTraffic, TokenService

GOOD = """\
name = "spike"
description = "images"
duration_s = 3600
slo_s = 45
timeout_s = 120
seed = 7
replications = 5

[traffic]
kind = "spike"
base_rps = 0.5
factor = 100
start_s = 600
ramp_s = 60
hold_s = 240

[service]
kind = "lognormal"
mean_s = 18
cv = 0.3

[tokens]
base_s = 0.2

[keys]
distinct = 100
zipf = 1.1

[fleet]
min = 2
max = 60
initial = 6
queue_limit = 20
load_s = 60
warmup_s = 30
decision_interval_s = 30
metric_delay_s = 60

[[fleet.types]]
name = "A100"
speed = 3
weight = 3
price_per_hour = 4.1

[[fleet.types]]
name = "T4"
price_per_hour = 0.526
share = 2

[[balancers]]
name = "plain"
picker = "RoundRobin"
weights = "equal"

[[balancers]]
picker = "LeastRequest"
options = { choices = 3 }

[[policies]]
policy = "Fixed"

[[policies]]
name = "track"
policy = "TargetTracking"
metric = "utilization"
target = 0.65
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_is_read(tmp_path: Path) -> None:
    found = Scenario.load(write(tmp_path, GOOD))
    assert (found.name, found.duration_s, found.slo_s, found.timeout_s) == ("spike", 3600, 45, 120)
    assert (found.seed, found.replications) == (7, 5)
    assert found.traffic == SpikeTraffic(
        base_rps=0.5, spike=Spike(factor=100, start_s=600, ramp_s=60, hold_s=240, ramp_down_s=60)
    )
    assert dict(found.service.parameters) == {"mean_s": 18, "cv": 0.3}  # type: ignore[union-attr]
    assert found.tokens == TokenService(base_s=0.2)
    assert found.keys == Keys(distinct=100, zipf=1.1)
    assert [(one.name, one.speed, one.share) for one in found.fleet.types] == [("A100", 3, 1), ("T4", 1, 2)]
    assert found.fleet.metric_period_s == 30
    assert [(one.name, one.picker, one.weights) for one in found.balancers] == [
        ("plain", "RoundRobin", "equal"),
        ("LeastRequest", "LeastRequest", "type"),
    ]
    assert found.balancers[1].options == {"choices": 3}
    assert [(one.name, one.target) for one in found.policies] == [("Fixed", None), ("track", 0.65)]
    assert "100" in found.traffic.describe()
    assert "A100" in found.fleet.describe()


@pytest.mark.parametrize(
    ("old", "new", "line", "parts"),
    [
        ("duration_s = 3600", "duraton_s = 3600", 3, ["duraton_s", "did you mean 'duration_s'"]),
        ("duration_s = 3600\n", "", 1, ["duration_s: missing"]),
        ("duration_s = 3600", "duration_s = -1", 3, ["duration_s: -1", "at least 0.001"]),
        ("duration_s = 3600", 'duration_s = "1h"', 3, ["duration_s: '1h'", "a number"]),
        ("slo_s = 45", "slo_s = nan", 4, ["slo_s: nan"]),
        ("slo_s = 45", "slo_s = true", 4, ["slo_s: True", "a number"]),
        ("seed = 7", "seed = -7", 6, ["seed: -7", "from 0"]),
        ('kind = "spike"', 'kind = "spikes"', 10, ["traffic.kind", "did you mean 'spike'"]),
        ("base_rps = 0.5", "base_rps = -0.5", 11, ["traffic.base_rps: -0.5", "more than 0"]),
        ("base_rps = 0.5", "base_rps = inf", 11, ["traffic.base_rps: inf"]),
        ("base_rps = 0.5", "rate_rps = 0.5", 11, ["traffic.rate_rps: unknown key", "base_rps"]),
        ("factor = 100", "factor = 0.5", 12, ["traffic.factor: 0.5", "at least 1"]),
        ("start_s = 600", "start_s = 4000", 13, ["traffic.start_s: 4000", "less than duration_s"]),
        ("hold_s = 240\n", "", 9, ["traffic.hold_s: missing"]),
        ('kind = "lognormal"', 'kind = "log-normal"', 18, ["service.kind", "did you mean 'lognormal'"]),
        ("mean_s = 18", "mean = 18", 19, ["service.mean: unknown key", "mean_s"]),
        ("cv = 0.3\n", "", 17, ["service: lognormal needs exactly one of sigma and cv"]),
        ("cv = 0.3", "cv = nan", 20, ["service.cv: nan"]),
        ('kind = "lognormal"\nmean_s = 18\ncv = 0.3', 'kind = "tokens"', 18, ["service.kind: 'tokens'", "trace"]),
        ("base_s = 0.2", "base_s = -0.2", 23, ["tokens.base_s: -0.2"]),
        ("distinct = 100", "distinct = 0", 26, ["keys.distinct: 0"]),
        ("max = 60", "max = 1", 31, ["fleet.max: 1", "from 2"]),
        ("initial = 6", "initial = 61", 32, ["fleet.initial: 61"]),
        ("initial = 6", "inital = 6", 32, ["fleet.inital", "did you mean 'initial'"]),
        ("speed = 3", "speed = 0", 41, ["fleet.types[0].speed: 0"]),
        ("share = 2", "share = nan", 48, ["fleet.types[1].share: nan"]),
        ('name = "T4"', 'nme = "T4"', 46, ["fleet.types[1].nme", "did you mean 'name'"]),
        ('name = "T4"', 'name = "A100"', 46, ["fleet.types[1].name: 'A100'", "of its own"]),
        ('picker = "RoundRobin"', 'picker = "RoundRobbin"', 52, ["balancers[0].picker", "did you mean 'RoundRobin'"]),
        ('weights = "equal"', 'weights = "same"', 53, ["balancers[0].weights: 'same'", "type, equal"]),
        ("options = { choices = 3 }", "options = 3", 57, ["balancers[1].options: 3", "a table"]),
        ('policy = "TargetTracking"', 'policy = "Tracking"', 64, ["policies[1].policy: 'Tracking'"]),
        ('metric = "utilization"', 'metric = "utilisation"', 65, ["policies[1].metric", "did you mean 'utilization'"]),
        ("target = 0.65", "target = -1", 66, ["policies[1].target: -1"]),
        ("target = 0.65\n", "", 62, ["policies[1].target: missing"]),
        ("choices = 3", "choice = 3", 57, ["balancers[1].options: {'choice': 3}", "LeastRequest"]),
        ("choices = 3", "choices = 0", 57, ["balancers[1].options.choices: 0"]),
        ("target = 0.65", "target = 0.65\noptions = { period = -1 }", 67, ["policies[1].options.period: -1"]),
        ("target = 0.65", "target = 0.65\noptions = { perod = 1 }", 67, ["policies[1].options: {'perod': 1}"]),
        ('policy = "Fixed"', 'policy = "Fixed"\noptions = { servers = 61 }', 61, ["policies[0].options.servers: 61"]),
        ("[keys]", "[kyes]", 25, ["kyes: unknown key", "did you mean 'keys'"]),
        ("[keys]", "[keys", 25, ["not TOML"]),
    ],
)
def test_each_mistake_names_file_line_field_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, line: int, parts: list[str]
) -> None:
    assert GOOD.count(old) >= 1
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(FormatError) as raised:
        Scenario.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}, line {line}: "), message
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        Scenario.load(tmp_path / "none.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'name = "a"\n\xff\xfe')
    with pytest.raises(FormatError, match="line 2: not UTF-8"):
        Scenario.load(binary)
    with pytest.raises(FormatError, match="name: missing"):
        Scenario.load(write(tmp_path, ""))


def test_piecewise_and_poisson(tmp_path: Path) -> None:
    start = GOOD.index("[traffic]")
    end = GOOD.index("[service]")

    def with_traffic(text: str) -> Path:
        return write(tmp_path, GOOD[:start] + text + "\n" + GOOD[end:])

    found = Scenario.load(with_traffic('[traffic]\nkind = "piecewise"\npoints = [[0, 1], [60, 5.5]]'))
    assert found.traffic.points == ((0.0, 1.0), (60.0, 5.5))  # type: ignore[union-attr]
    assert found.spike is None
    assert Scenario.load(with_traffic('[traffic]\nkind = "poisson"\nrate_rps = 2')).traffic.rate_rps == 2  # type: ignore[union-attr]
    for bad, what in [
        ("points = []", "at least one"),
        ("points = [[1, 1]]", "begin at 0"),
        ("points = [[0, 1], [0, 2]]", "rise"),
        ("points = [[0, -1]]", r"points\[0\]: -1"),
        ("points = [[0, 0]]", "rate above 0"),
        ("points = [[0]]", r"points\[0\]"),
        ('points = [[0, 1]]\ninterpolation = "cubic"', "step, linear"),
    ]:
        with pytest.raises(FormatError, match=what):
            Scenario.load(with_traffic('[traffic]\nkind = "piecewise"\n' + bad))


def test_a_trace_file_beside_the_scenario(tmp_path: Path) -> None:
    pytest.importorskip("aibalance.traces")
    start, end = GOOD.index("[traffic]"), GOOD.index("[service]")
    text = GOOD[:start] + '[traffic]\nkind = "trace"\nfile = "t.csv"\nrate_scale = 2\n\n' + GOOD[end:]
    text = text.replace('kind = "lognormal"\nmean_s = 18\ncv = 0.3', 'kind = "tokens"')
    head = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    (tmp_path / "t.csv").write_text(head + "2023-11-16 18:00:00.0,10,2\n2023-11-16 18:00:05.5,20,4\n")
    found = Scenario.load(write(tmp_path, text))
    assert found.traffic.span_s == 11  # type: ignore[union-attr]
    (tmp_path / "t.csv").write_text(head)
    with pytest.raises(ConfigError, match=r"t\.csv"):
        Scenario.load(write(tmp_path, text))
