"""Manifests: what they become, and where and how they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError
from aibalance.autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    ObjectMetric,
    PodsMetric,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
)

pytest.importorskip("yaml")

EXAMPLE = Path(__file__).parents[3] / "examples" / "hpa.yaml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
read = HorizontalPodAutoscaler.from_manifest


def test_the_example_as_path_text_and_mapping() -> None:
    expected = HorizontalPodAutoscaler(
        min_replicas=2,
        max_replicas=40,
        metrics=[PodsMetric("waiting_requests", average_value="5")],
        behavior=Behavior(
            scale_up=ScalingRules(policies=[ScalingPolicy(kind="percent", value=100, period=60)]),
            scale_down=ScalingRules(
                stabilization_window=300, policies=[ScalingPolicy(kind="pods", value=1, period=120)]
            ),
        ),
    )
    import yaml

    assert read(EXAMPLE) == read(str(EXAMPLE)) == read(TEXT) == read(yaml.safe_load(TEXT)) == expected
    assert read("kind: Deployment\n---\n" + TEXT, tolerance=0.2).tolerance == 0.2


def test_the_reference_configuration_as_it_is() -> None:
    path = Path(__file__).parents[4] / "shared" / "reference_configs" / "hpa.yaml"
    if not path.exists():
        pytest.skip("the reference configurations are not here")
    policy = read(path)
    assert (policy.min_replicas, policy.max_replicas) == (2, 30)
    seen = {"current": 4, "metrics": {"inference_queue_depth": 7.5}}
    assert policy.recommend(seen, now=0.0).limited_by == "stabilization"
    assert policy.recommend(seen, now=60.0).desired == 6


def manifest(**spec: Any) -> dict[str, Any]:
    whole = {"scaleTargetRef": {"kind": "Deployment", "name": "x"}, "maxReplicas": 9, **spec}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": whole}


def test_every_kind_of_metric() -> None:
    average = {"type": "AverageValue", "averageValue": 2}
    metrics = [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": average}},
        {"type": "Object", "object": {"metric": {"name": "o"}, "describedObject": {"kind": "Ingress", "name": "i"},
                                      "target": {"type": "Value", "value": "3k"}}},
        {"type": "External", "external": {"metric": {"name": "e", "selector": {}}, "target": average}},
    ]  # fmt: skip
    assert read(manifest(metrics=metrics)).metrics == (
        ResourceMetric("cpu", average_utilization=70),
        ResourceMetric("cpu", average_value="2", container="c"),
        ObjectMetric("o", value="3k"),
        ExternalMetric("e", average_value="2"),
    )
    assert read(manifest()).metrics == (ResourceMetric("cpu", average_utilization=80),)
    assert read(manifest(behavior={})).behavior == Behavior()
    assert read(manifest(behavior={"scaleUp": {"tolerance": 0.3}})).behavior == Behavior(
        scale_up=ScalingRules(tolerance="300m")
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("maxReplicas", "maxReplica", r":12: spec.maxReplica: .* did you mean maxReplicas\?"),
        ("scaleUp", "scaleup", r":22: spec.behavior.scaleup: .* did you mean scaleUp\?"),
        ("minReplicas: 2", "minReplicas: 50", r":12: spec.maxReplicas: 40"),
        ("minReplicas: 2", "minReplicas: 0", r":11: spec.minReplicas: 0"),
        ("minReplicas: 2", "minReplicas: two", r":11: spec.minReplicas: 'two'"),
        ("periodSeconds: 120", "periodSeconds: 1900", r":32: spec.behavior.scaleDown.policies\[0\].periodSeconds"),
        ("value: 1\n", "value: 0\n", r":31: spec.behavior.scaleDown.policies\[0\].value: 0"),
        ("- type: Pods\n    pods", "- type: Podz\n    pods", r":14: spec.metrics\[0\].type: .*did you mean Pods"),
        ("    pods:", "    resource:", r":15: spec.metrics\[0\].resource: the type is Pods"),
        ('"5"', '"5x"', r":20: spec.metrics\[0\].pods.target.averageValue"),
        ("averageValue:", "value:", r":20: spec.metrics\[0\].pods.target.value: this metric has averageValue"),
        ("autoscaling/v2", "autoscaling/v9", r":2: apiVersion: 'autoscaling/v9'"),
        ("minReplicas: 2", "maxReplicas: 2", r":12: spec.maxReplicas: the field is there twice"),
        ("kind: Horizontal", "kind: Vertical", "one document of kind HorizontalPodAutoscaler is needed"),
        ("spec:\n  scale", "spec: [\n  scale", r":\d+: not YAML"),
        ("  maxReplicas: 40\n", "", r":7: spec.maxReplicas: the field is needed"),
        ("chat\n  minReplicas", "chat\n  minReplicas: &a [*a]\n  x", r"spec"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_field(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in TEXT
    file = tmp_path / "mine.yaml"
    file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(FormatError, match=said) as told:
        read(file)
    assert str(told.value).startswith(str(file))


def test_what_is_no_manifest() -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read("no/such/file.yaml")
    with pytest.raises(FormatError, match="one document"):
        read("\n")
    with pytest.raises(ConfigError, match="a path, YAML text or a mapping"):
        read(3)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=r"manifest: spec.behavior.scaleUp.policies: \(\)"):
        read(manifest(behavior={"scaleUp": {"policies": []}}))
