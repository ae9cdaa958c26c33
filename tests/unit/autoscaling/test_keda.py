"""KEDA's scaled objects: each option changes something, and everyday nonsense is an error or does no harm."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError, MetricError
from aibalance.autoscaling import KedaScaledObject
from aibalance.autoscaling.keda import Fallback, Formula, ScalingModifiers, Trigger, fallback

QUEUE = Trigger(name="queue", threshold=10)


def scaled(*triggers: Trigger, **options: Any) -> KedaScaledObject:
    return KedaScaledObject(triggers=triggers or (QUEUE,), **options)


def idle(policy: KedaScaledObject, current: int = 5, at: float = 1000.0) -> tuple[int, str | None]:
    """What it says long after it was created and never active."""
    policy.recommend({"current": 0, "metrics": {"queue": 0}}, now=0.0)
    r = policy.recommend({"current": current, "metrics": {"queue": 0}}, now=at)
    return r.desired, r.limited_by


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0, None)),
        ({"min_replicas": 2}, (5, None)),
        ({"min_replicas": 2, "idle_replicas": 1}, (1, None)),
        ({"initial_cooldown_period": 1000.0}, (5, "initial_cooldown")),
        ({"created": 1000.0}, (5, "initial_cooldown")),
        ({"paused": True}, (5, "paused")),
        ({"paused_replicas": 3}, (3, "paused")),
        ({"paused_scale_in": True}, (5, "paused_scale_in")),
        ({"force_activation": True}, (5, None)),
    ],
)
def test_each_option_changes_what_idleness_does(options: dict[str, Any], expected: tuple[int, str | None]) -> None:
    assert idle(scaled(**options)) == expected


def test_activity_and_cooldown() -> None:
    policy = scaled(Trigger(name="queue", threshold=10, activation_threshold=5.0))
    assert policy.recommend({"current": 0, "metrics": {"queue": 5.0}}, now=0.0).desired == 0
    r = policy.recommend({"current": 0, "metrics": {"queue": 5.1}}, now=0.0)
    assert (r.desired, r.action, r.reason) == (1, "scale_out", "a trigger is active: 0 to 1 replicas")
    assert pickle.loads(pickle.dumps(r)) == r
    for at, expected in ((300.0, 1), (300.000001, 0)):
        assert policy.recommend({"current": 1, "metrics": {"queue": 0}}, now=at).desired == expected
    assert scaled(min_replicas=3).recommend({"current": 0, "metrics": {"queue": 1}}, now=0.0).desired == 3
    shorter = scaled(cooldown_period=10.0)
    shorter.recommend({"current": 0, "metrics": {"queue": 1}}, now=0.0)
    assert shorter.recommend({"current": 1, "metrics": {"queue": 0}}, now=11.0).desired == 0
    held = scaled(paused_scale_out=True).recommend({"current": 0, "metrics": {"queue": 1}}, now=0.0)
    assert (held.desired, held.limited_by, held.details["last_active"]) == (0, "paused_scale_out", None)


def test_a_write_that_failed_is_no_activity() -> None:
    policy = scaled()
    r = policy.recommend({"current": 0, "metrics": {"queue": 1}}, now=50.0)
    policy.rejected(r)
    policy.rejected(r)
    assert policy.state()["last_active"] is None
    kept = policy.recommend({"current": 1, "metrics": {"queue": 1}}, now=60.0)
    policy.rejected(kept)
    assert policy.state()["last_active"] == 60_000_000_000


def test_an_error_takes_nothing_away() -> None:
    policy = scaled()
    r = policy.recommend({"current": 3, "metrics": {"queue": None}}, now=500.0)
    assert (r.desired, r.limited_by, r.action) == (3, "trigger_error", "insufficient_data")
    assert r.details["conditions"][0] == ("Ready", "False", "TriggerError")
    # Neither there nor recorded is an error too; recorded counts.
    assert policy.recommend({"current": 3}, now=500.0).details["error"]
    policy.record("queue", 4.0, at=500.0)
    assert policy.recommend({"current": 0}, now=500.0).desired == 1
    policy.record("queue", None, at=501.0)
    assert policy.recommend({"current": 3}, now=502.0).details["error"]


def test_a_fallback_counts_as_active_and_as_its_replicas() -> None:
    policy = scaled(fallback=Fallback(failure_threshold=1, replicas=6))
    seen = {"current": 0, "metrics": {"queue": None}}
    assert policy.recommend(seen, now=0.0).desired == 0
    r = policy.recommend(seen, now=30.0)
    assert (r.desired, r.details["metrics"], r.details["failures"]) == (1, {"queue": 60.0}, {"queue": 2})
    well = policy.recommend({"current": 1, "metrics": {"queue": 1}}, now=60.0)
    assert well.details["failures"] == {"queue": 0}


@pytest.mark.parametrize(
    ("options", "milli"),
    [
        ({}, 15_000),
        ({"failures": 0}, None),
        ({"target": 5.0}, 30_000),
        ({"target_type": "Value"}, 7_500),
        ({"target_type": "Value", "ready": 0}, None),
        ({"behavior": "currentReplicas", "current": 4}, 10_000),
        ({"behavior": "currentReplicasIfHigher", "current": 8}, 20_000),
        ({"behavior": "currentReplicasIfLower", "current": 4}, 10_000),
        ({"behavior": "scalingModifiers"}, -1000),
        ({"modifiers": ScalingModifiers(formula="a", target=100)}, 600_000),
        ({"modifiers": ScalingModifiers(formula="a", target="2.5")}, None),
    ],
)
def test_what_a_fallback_serves(options: dict[str, Any], milli: int | None) -> None:
    config = Fallback(failure_threshold=1, replicas=6, behavior=options.pop("behavior", "static"))
    given = {"failures": 1, "target": 2.5, "current": 4, "ready": 2, **options}
    assert fallback(config, None, **given).milli == milli


def test_processors_alone_never_scale_to_zero() -> None:
    cpu = Trigger(name="cpu", type="cpu", threshold=50, metric_type="Utilization")
    assert scaled(cpu).recommend({"current": 4}, now=900.0).details["active"]
    mixed = scaled(cpu, QUEUE)
    assert mixed.recommend({"current": 4, "metrics": {"queue": 0}}, now=0.0).details["active"] is False


def test_modifiers_decide_about_activity() -> None:
    modifiers = ScalingModifiers(formula="a + b", target=10, activation_target=5.0)
    policy = scaled(Trigger(name="a", threshold=1), Trigger(name="b", threshold=1), modifiers=modifiers)
    low = policy.recommend({"current": 0, "metrics": {"a": 2, "b": 3}}, now=0.0)
    assert (low.details["composite"], low.desired) == (5.0, 0)
    assert policy.recommend({"current": 0, "metrics": {"a": 2, "b": 3.5}}, now=0.0).desired == 1
    broken = policy.recommend({"current": 0, "metrics": {"a": 20, "b": None}}, now=0.0)
    assert (broken.details["active"], broken.desired) == (False, 0)
    nil = ScalingModifiers(formula="a ?? 7", target=10)
    forgiving = scaled(
        Trigger(name="a", threshold=1),
        modifiers=nil,
        fallback=Fallback(failure_threshold=0, replicas=2, behavior="scalingModifiers"),
    )
    r = forgiving.recommend({"current": 0, "metrics": {"a": None}}, now=0.0)
    assert (r.details["composite"], r.desired) == (7.0, 1)


def test_the_generated_autoscaler() -> None:
    cpu = Trigger(name="cpu", type="cpu", threshold=50, metric_type="Utilization")
    rate = Trigger(name="rate", type="prometheus", threshold=2.5, metric_type="Value", metric_name="prometheus")
    policy = scaled(
        cpu, rate, min_replicas=2, max_replicas=7, name="w", target_name="worker", target_kind="StatefulSet"
    )
    spec = policy.hpa_manifest()["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], "behavior" in spec) == (2, 7, False)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "worker"}
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}
    assert spec["metrics"][1]["external"]["metric"]["name"] == "s1-prometheus"
    assert spec["metrics"][1]["external"]["target"] == {"type": "Value", "value": "2500m"}
    paused = scaled(paused_scale_in=True, behavior={"scaleUp": {"stabilizationWindowSeconds": 5}})
    behavior = paused.hpa_manifest()["spec"]["behavior"]
    assert behavior == {"scaleUp": {"stabilizationWindowSeconds": 5}, "scaleDown": {"selectPolicy": "Disabled"}}
    one = scaled(modifiers=ScalingModifiers(formula="queue", target=3)).hpa_manifest()["spec"]["metrics"]
    assert [m["external"]["metric"]["name"] for m in one] == ["composite-metric"]


def test_annotations_keep_the_memory() -> None:
    policy = scaled()
    policy.recommend({"current": 0, "metrics": {"queue": 1}}, now=0.0)
    for text, paused in (("true", True), ("false", False), ("nonsense", True), ("0", False)):
        other = policy.with_annotations({"autoscaling.keda.sh/paused": text})
        assert (other.paused, other.state() == policy.state()) == (paused, True)
    assert policy.with_annotations({"autoscaling.keda.sh/paused-replicas": "4"}).paused_replicas == 4
    assert policy.with_annotations({"autoscaling.keda.sh/paused-replicas": "x"}).paused


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"triggers": ()}, "triggers"),
        ({"triggers": "queue"}, "triggers"),
        ({"triggers": [1]}, r"triggers\[0\]"),
        ({"triggers": [QUEUE, QUEUE]}, r"triggers\[1\].name"),
        ({"triggers": [Trigger(name="a", threshold=0)]}, r"triggers\[0\].threshold"),
        ({"triggers": [Trigger(name="a", threshold=1, activation_threshold=float("nan"))]}, r"triggers\[0\]"),
        ({"min_replicas": -1}, "min_replicas"),
        ({"max_replicas": 0}, "max_replicas"),
        ({"min_replicas": 5, "max_replicas": 4}, "max_replicas"),
        ({"idle_replicas": 0}, "idle_replicas"),
        ({"cooldown_period": -1.0}, "cooldown_period"),
        ({"polling_interval": -1.0}, "polling_interval"),
        ({"polling_interval": float("nan")}, "polling_interval"),
        ({"polling_interval": float("inf")}, "polling_interval"),
        ({"polling_interval": "30"}, "polling_interval"),
        ({"fallback": Fallback(failure_threshold=-1, replicas=1)}, "fallback.failure_threshold"),
        ({"fallback": Fallback(failure_threshold=1, replicas=1, behavior="x")}, "behavior"),  # type: ignore[arg-type]
        ({"modifiers": ScalingModifiers(formula="a %", target=1)}, "formula"),
        ({"modifiers": ScalingModifiers(formula="queue", target=0)}, "modifiers.target"),
        ({"paused": 1}, "paused"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}"):
        KedaScaledObject(**{"triggers": [QUEUE], **options})


def test_impossible_values_are_refused() -> None:
    policy = scaled()
    before = policy.state()
    for value in (float("nan"), float("inf"), "7"):
        with pytest.raises(MetricError):
            policy.recommend({"current": 1, "metrics": {"queue": value}}, now=0.0)
    with pytest.raises(MetricError, match="the triggers are queue"):
        policy.record("other", 1.0, at=0.0)
    for broken in ({}, {**before, "kind": "knative"}, {**before, "failures": {"other": 1}}, {**before, "serial": -1}):
        with pytest.raises(ConfigError, match="state"):
            policy.restore(broken)
    assert policy.state() == before


def test_formulas() -> None:
    formula = Formula("a + b", ["a", "b"])
    assert formula.evaluate({"a": 1, "b": 0.5}) == 1.5
    assert formula.milli({"a": 1, "b": 0.0004}) == 1000
    assert pickle.loads(pickle.dumps(formula)) == formula
    assert repr(formula) == 'Formula("a + b", ["a", "b"])'
    assert Formula("a / b", ["a", "b"]).milli({"a": 1, "b": 0}) == -(2**63)
    for values in ({"a": 1}, {"a": 1, "b": 1, "c": 1}):
        with pytest.raises(ConfigError, match="values"):
            formula.evaluate(values)
    with pytest.raises(ConfigError, match="formula"):
        formula.evaluate({"a": None, "b": 1})
    for text in ("", "c", "a %", "sum(1..9)", "(" * 5000, "a" * 5000):
        with pytest.raises(ConfigError, match="formula"):
            Formula(text, ["a", "b"])


MANIFEST = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: worker
  annotations:
    autoscaling.keda.sh/paused-scale-in: "true"
spec:
  scaleTargetRef:
    name: worker
  minReplicaCount: 1
  maxReplicaCount: 20
  cooldownPeriod: 60
  fallback:
    failureThreshold: 3
    replicas: 6
    behavior: currentReplicasIfHigher
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 30
    scalingModifiers:
      formula: "max([queue, 2])"
      target: "5"
      activationTarget: "1"
  triggers:
  - type: prometheus
    name: queue
    metricType: Value
    metadata:
      serverAddress: http://prometheus:9090
      metricName: pending
      query: sum(pending)
      threshold: "10"
      activationThreshold: "2"
"""


def test_a_manifest_becomes_a_policy(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "keda.yaml"
    file.write_text(MANIFEST)
    policy = KedaScaledObject.from_manifest(file)
    assert policy == KedaScaledObject.from_manifest(MANIFEST)
    assert (policy.min_replicas, policy.max_replicas, policy.cooldown_period) == (1, 20, 60.0)
    assert policy.fallback == Fallback(failure_threshold=3, replicas=6, behavior="currentReplicasIfHigher")
    assert policy.modifiers == ScalingModifiers(formula="max([queue, 2])", target="5", activation_target=1.0)
    (trigger,) = policy.triggers
    assert (trigger.name, trigger.threshold, trigger.activation_threshold) == ("queue", 10.0, 2.0)
    assert (policy.paused_scale_in, policy.name) == (True, "worker")
    assert policy.ignored is not None
    assert "spec.triggers[0].metadata.metricName" in policy.ignored
    assert policy.hpa_manifest()["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 30
    assert json.loads(json.dumps(policy.hpa_manifest())) == policy.hpa_manifest()


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "minReplicaCount",
            "minReplicas",
            10,
            "spec.minReplicas: there is no such field; did you mean minReplicaCount",
        ),
        ("cooldownPeriod: 60", "cooldownPeriod: soon", 12, "a whole number is needed"),
        ('threshold: "10"', 'treshold: "10"', 34, "did you mean threshold"),
        ('threshold: "10"', "threshold: many", 34, "a number is needed"),
        ("behavior: currentReplicasIfHigher", "behavior: higher", 16, "one of static"),
        ("maxReplicaCount: 20", "maxReplicaCount: 0", 11, "spec.maxReplicaCount: 0 is not allowed"),
        ("max([queue, 2])", "max([cue, 2])", 0, "formula"),
        ("kind: ScaledObject", "kind: ScaledJob", 0, "one document of kind ScaledObject"),
        ("apiVersion: keda.sh/v1alpha1", "apiVersion: keda.sh/v2", 1, "keda.sh/v1alpha1"),
    ],
)
def test_a_mistake_in_a_manifest_has_a_place(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    pytest.importorskip("yaml")
    assert old in MANIFEST
    file = tmp_path / "typo.yaml"
    file.write_text(MANIFEST.replace(old, new))
    with pytest.raises(FormatError) as caught:
        KedaScaledObject.from_manifest(file)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{file}:{line}: " if line else str(file))


def test_what_is_no_manifest_is_said() -> None:
    pytest.importorskip("yaml")
    for source in ("no such file.yaml", "a: [\n", "\n", {"kind": "ScaledObject"}):
        with pytest.raises(FormatError):
            KedaScaledObject.from_manifest(source)


def test_the_reference_manifest_becomes_a_policy_as_it_is() -> None:
    pytest.importorskip("yaml")
    file = Path(__file__).parents[4] / "shared" / "reference_configs" / "keda.yaml"
    if not file.exists():
        pytest.skip("the reference configurations are not shipped")
    policy = KedaScaledObject.from_manifest(file)
    assert (policy.min_replicas, policy.max_replicas, policy.triggers[0].threshold) == (0, 20, 10.0)
    assert policy.ignored is not None
    assert "removed in v2.13" in policy.ignored["spec.triggers[0].metadata.metricName"]
    assert policy.recommend({"current": 0, "metrics": {"s0-prometheus": 1}}, now=0.0).desired == 1
