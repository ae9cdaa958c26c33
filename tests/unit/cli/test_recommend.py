"""`aibalance recommend`, and how policies are written on a command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError
from aibalance.autoscaling import HorizontalPodAutoscaler, KedaAutoscaler, Step, StepScaling, TargetTracking
from aibalance.cli import main, policies

ROOT = Path(__file__).parents[3]
HPA = str(ROOT / "examples" / "hpa.yaml")
SCENARIO = str(ROOT / "examples" / "viral-spike.toml")
DIRECT = 'TargetTracking(metric="cpu", target=50, max_capacity=20, high_alarm=None, low_alarm=None)'
KEDA = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: worker}
spec:
  scaleTargetRef: {name: worker}
  minReplicaCount: 1
  cooldownPeriod: 60
  triggers:
  - type: prometheus
    name: queue
    metadata: {serverAddress: "http://prometheus:9090", query: "sum(queue)", threshold: "10"}
"""


def asked(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["recommend", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["recommend", *arguments]) == code
    out, err = capsys.readouterr()
    return out if code != 2 else err


def test_a_decision_with_reason_trace_and_projection(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, DIRECT, "--metric", "cpu=75", "--current", "10")
    assert (found["desired"], found["action"], found["bound"]) == (15, "scale_out", None)
    assert found["reason"] == "cpu 75 is above the target 50: 10 to 15"
    assert found["projected"] == {"cpu": 50.0}
    assert ["need", 15.0] in found["trace"]
    text = said(capsys, DIRECT, "--metric", "75", "--current", "10")
    assert text.startswith("TargetTracking: 15 servers (scale out)\ncpu 75 is above the target 50: 10 to 15\n")
    assert "Trace\n" in text
    assert said(capsys, DIRECT, "--metric", "1", "--current", "1").startswith("TargetTracking: 1 server (none)")


def test_what_bound_it_and_when_it_would_move(capsys: pytest.CaptureFixture[str]) -> None:
    policy = DIRECT.replace("high_alarm=None", "high_alarm=(3, 3)")
    found = asked(capsys, policy, "--metric", "cpu=75", "--current", "10", "--every", "60")
    assert (found["desired"], found["bound"]) == (10, "window")
    assert found["later"] == {"after_s": 120.0, "desired": 15}
    rarely = asked(capsys, policy, "--metric", "cpu=75", "--current", "10", "--every", "50s")
    assert rarely["later"] == {"after_s": 150.0, "desired": 15}
    assert "if it stays so: 15 after 2 min" in said(capsys, policy, "--metric", "cpu=75", "--current", "10")
    bound = asked(capsys, DIRECT, "--metric", "cpu=500", "--current", "10")
    assert (bound["desired"], bound["bound"], bound["limited_by"]) == (20, "max", "max_capacity")


def test_a_missing_metric_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, DIRECT, "--metric", "cpu=", "--current", "10", code=1)
    assert (found["desired"], found["bound"]) == (10, "missing metric")
    asked(capsys, DIRECT, "--current", "10", code=1)


def test_warming_and_desired_have_an_effect(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(capsys, DIRECT, "--metric", "75", "--current", "10", "--warming", "5")["desired"] == 15
    found = asked(capsys, DIRECT, "--metric", "40", "--current", "10", "--desired", "12")
    assert found["action"] in ("scale_in", "none")
    assert found["trace"][1] == ["asked", 12]


def test_metrics_beside_the_one_with_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    policy = 'ProportionalScaling(metric="queue", target=5, max_capacity=20, measured="on")'
    assert asked(capsys, policy, "--metric", "queue=10", "--metric", "on=2", "--current", "4")["desired"] == 4
    assert asked(capsys, policy, "--metric", "queue=10", "--current", "4")["desired"] == 8
    guard = 'FlappingGuard(CloudRun(), [ScaleOutThreshold("ram", 0.8)])'
    assert (
        asked(capsys, guard, "--metric", "in_flight=1", "--metric", "ram=0.7", "--current", "4")["bound"] == "flapping"
    )


def test_warnings_and_strict(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [DIRECT.replace("target=50", "target=95"), "--metric", "97", "--current", "4", "--saturation", "90"]
    found = asked(capsys, *arguments)
    assert [one["rule"] for one in found["warnings"]] == ["target_above_saturation"]
    assert "1 warning\n- target of cpu" in said(capsys, *arguments)
    asked(capsys, *arguments, "--strict", code=1)
    named = [*arguments[:-1], "cpu=96"]
    assert asked(capsys, *named, "--strict")["warnings"] == []
    waits = DIRECT.replace("high_alarm=None", "high_alarm=(3, 3)")
    cold = asked(capsys, waits, "--metric", "75", "--current", "4", "--cold-start", "1m")
    assert [one["rule"] for one in cold["warnings"]] == ["window_longer_than_cold_start"]
    gpu = asked(
        capsys, DIRECT.replace("low_alarm=None", "low_alarm=(15, 15)"), "--metric", "75", "--current", "4", "--gpu"
    )
    assert [one["rule"] for one in gpu["warnings"]] == ["stabilization_hides_scale_in"]


def test_manifests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = policies.read(HPA)
    assert (found.name, type(found.policy)) == ("hpa.yaml", HorizontalPodAutoscaler)
    path = tmp_path / "keda.yaml"
    path.write_text(KEDA)
    assert type(policies.read(str(path)).policy) is KedaAutoscaler
    answer = asked(capsys, str(path), "--metric", "queue=35", "--current", "1")
    assert (answer["desired"], answer["projected"]) == (4, {"queue": 8.75})
    assert [one["rule"] for one in answer["warnings"]] == ["cooldown_without_effect"]
    path.write_text(KEDA.replace("minReplicaCount", "minReplicaCuont"))
    assert f"{path}:6: spec.minReplicaCuont" in said(capsys, str(path), "--current", "1", code=2)
    path.write_text(KEDA + "---\nkind: HorizontalPodAutoscaler\n")
    with pytest.raises(FormatError, match="one HorizontalPodAutoscaler or one ScaledObject"):
        policies.read(str(path))


def test_scenarios_and_tables(tmp_path: Path) -> None:
    tracking = policies.read(f"{SCENARIO}#tracking")
    assert (tracking.name, tracking.policy.metric, tracking.policy.target) == ("tracking", "utilization_percent", 65)
    assert (tracking.policy.min_capacity, tracking.policy.max_capacity) == (2, 200)
    combined = policies.read(f"{SCENARIO}#tracking and steps").policy
    assert [type(one) for one in combined.policies] == [TargetTracking, StepScaling]
    assert combined.policies[1].steps == (Step(adjustment=100, lower=0),)
    assert policies.read(f"{SCENARIO}#fixed").policy.servers == 8
    table = tmp_path / "policy.toml"
    table.write_text('policy = "AiScaling"\nsignals = ["QueueLength(4)", "KvCacheUsage()"]\nmax_replicas = 9\n')
    assert policies.read(str(table)).policy.signals[0].target == 4
    table.write_text(f"name = 'mine'\npolicy = '{DIRECT}'\n")
    assert policies.read(str(table)).name == "mine"
    with pytest.raises(ConfigError, match="has several; say which one"):
        policies.read(SCENARIO)
    with pytest.raises(ConfigError, match="no such policy"):
        policies.read(f"{SCENARIO}#nope")
    table.write_text('policy = "TargetTracking"\nmetric = "cpu"\ntraget = 3\n')
    with pytest.raises(FormatError, match=r"policy\.toml, line 1: .*traget"):
        policies.read(str(table))
    table.write_text('policy = "TargetTracking"\nmetric = "cpu"\noptions = { max_capacity = 4 }\n\ntarget = -1\n')
    with pytest.raises(FormatError, match=r"policy\.toml, line 5: target: -1"):
        policies.read(str(table))
    table.write_text('policy = "TargetTracking"\nmetric = "cpu"\ntarget = 1\n[options]\nmax_capacity = -4\n')
    with pytest.raises(FormatError, match=r"policy\.toml, line 5: options\.max_capacity: -4"):
        policies.read(str(table))
    table.write_text("a = 1\n")
    with pytest.raises(FormatError, match="neither a policy nor"):
        policies.read(str(table))
    table.write_text("a = \n")
    with pytest.raises(FormatError, match="not TOML"):
        policies.read(str(table))


def test_an_imported_policy_in_a_scenario_is_asked_under_its_own_names(tmp_path: Path) -> None:
    from aibalance.autoscaling import Combined, PodsMetric, SimpleScaling
    from aibalance.formats import Imported, PolicyConfig, scenario

    hpa = HorizontalPodAutoscaler(max_replicas=9, metrics=[PodsMetric("queue_depth", average_value="5")])
    given = {
        "hpa": hpa,
        "simple": SimpleScaling(metric="cpu", threshold=80, adjustment=1, max_capacity=7, alarm=None),
        "track": TargetTracking(metric="cpu", target=50, max_capacity=8, high_alarm=None, low_alarm=None),
        "step": StepScaling(metric="queue", threshold=5, steps=[Step(lower=0, adjustment=3)], max_capacity=8),
    }
    configs = [PolicyConfig(name=n, target=n if n in ("hpa", "simple") else "g", policy=p) for n, p in given.items()]
    table = tmp_path / "s.toml"
    table.write_text(scenario(Imported(policies=tuple(configs))))
    read = {name: policies.read(f"{table}#{name}").policy for name in ("hpa", "simple", "track and step")}
    assert read["hpa"] == hpa
    assert read["simple"] == given["simple"]
    assert read["simple"].alarm is None
    assert isinstance(read["track and step"], Combined)
    assert read["track and step"].policies[0].high_alarm is None
    assert read["hpa"].recommend({"current": 2, "metrics": {"queue_depth": 10}}, now=0.0).desired == 4
    text = table.read_text()
    table.write_text(text.replace('average_value = "5"', 'average_value = "x"'))
    with pytest.raises(
        FormatError, match=r"s\.toml, line \d\d: policies\[0\]\.options\.metrics\[0\]\.average_value: 'x'"
    ):
        policies.read(f"{table}#hpa")
    table.write_text(text.replace("max_replicas = 9", "most = 9"))
    with pytest.raises(FormatError, match=r"s\.toml, line \d\d: policies\[0\]\.options: .*'most'"):
        policies.read(f"{table}#hpa")
    table.write_text('policy = "StepScaling"\nmetric = "cpu"\noptions = { observes = { cpu = "queue" } }\n')
    with pytest.raises(FormatError, match=r"line 3: options\.observes: has no meaning for StepScaling"):
        policies.read(str(table))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('__import__("os").system("true")', "is not allowed"),
        ("TargetTracking(metric=open('x'), target=1, max_capacity=2)", "'open' is not allowed"),
        ("TargetTrackin(metric='cpu')", "did you mean TargetTracking"),
        ("TargetTracking(metric='cpu', traget=3)", "traget"),
        ("TargetTracking(**{})", "is not allowed"),
        ("TargetTracking(metric='cpu', target=0, max_capacity=3)", "target"),
        ("Step(adjustment=1)", "it is no policy"),
        ("TargetTracking(", "cannot be read"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read: no such file"),
        ("nothing", "a manifest (hpa.yaml, keda.yaml)"),
        ("Fixed(servers=-1)", "servers"),
        ("Fixed(servers=1+1)", "is not allowed"),
    ],
)
def test_what_is_no_policy(capsys: pytest.CaptureFixture[str], text: str, complaint: str) -> None:
    assert complaint in said(capsys, text, "--current", "4", code=2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--metric", "ram=3", "--current", "4"], "the policy reads no metric 'ram'; it reads cpu"),
        (["--metric", "cpu=x", "--current", "4"], "'x' is not allowed"),
        (["--metric", "cpu=nan", "--current", "4"], "cpu"),
        (["--current", "-4"], "--current"),
        (["--metric", "cpu=3"], "--current"),
        (["--current", "4", "--cold-start", "soon"], "seconds, or such as 30s"),
        (["--current", "4", "--saturation", "cpu=-3"], "--saturation"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert complaint in said(capsys, DIRECT, *arguments, code=2)


def test_a_nested_policy() -> None:
    text = "StabilizationWindow(OutageGuard(policy=CloudRun(), metric='in_flight'), scale_in=60)"
    assert policies.read(text).policy.policy.metric == "in_flight"
    assert policies.read("QueueScaling(metric='q', steps=[(0, 5, -1), (50, None, 2)], max_capacity=9)").policy.steps
