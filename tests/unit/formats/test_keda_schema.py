"""What is exported for KEDA fits its custom resource definition, and what fits it is read.

`keda_schema.json` is made of the definition of KEDA 2.16 by `scripts/keda-schema`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aibalance.autoscaling import KedaScaledObject
from aibalance.autoscaling.keda import Fallback, ScalingModifiers, Trigger
from aibalance.formats import Imported, PolicyConfig, export, read_text

from . import samples

jsonschema = pytest.importorskip("jsonschema")
yaml = pytest.importorskip("yaml")

SCHEMA = json.loads((Path(__file__).parent / "keda_schema.json").read_text(encoding="utf-8"))
REFERENCE = Path(__file__).parents[3] / "examples" / "reference" / "scaledobject.yaml"


def faults(document: dict[str, Any]) -> list[str]:
    """What the API server would say."""
    return [f"{one.json_path}: {one.message}" for one in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def written(found: Imported) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(export(found, "keda").text) if one["kind"] == "ScaledObject"]


@pytest.mark.parametrize("text", [samples.KEDA, REFERENCE.read_text(encoding="utf-8")], ids=["sample", "reference"])
def test_what_is_written_fits(text: str) -> None:
    documents = written(read_text(text, "k.yaml").check())
    assert documents
    for document in documents:
        # Newer than the definition that is here.
        document["spec"].get("fallback", {}).pop("behavior", None)
    assert [fault for one in documents for fault in faults(one)] == []


def test_every_option_that_is_written_fits() -> None:
    policy = KedaScaledObject(
        triggers=[
            Trigger(name="waiting", type="prometheus", threshold=10, activation_threshold=2, metric_type="Value"),
            Trigger(name="cpu", type="cpu", threshold=60, metric_type="Utilization"),
        ],
        min_replicas=1,
        max_replicas=9,
        idle_replicas=0,
        cooldown_period=60,
        initial_cooldown_period=30,
        polling_interval=10,
        fallback=Fallback(failure_threshold=3, replicas=4),
        modifiers=ScalingModifiers(formula="waiting + cpu", target=10, activation_target=1),
        behavior={
            "scaleDown": {
                "stabilizationWindowSeconds": 60,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
            }
        },
        name="worker",
        target_name="worker",
    )
    extra = {"scale_target": {"name": "worker"}, "triggers": [{"metadata": {"query": "sum(q)"}}, {"metadata": {}}]}
    found = Imported(policies=(PolicyConfig(name="worker", target="worker", policy=policy, extra=extra),))
    (document,) = written(found)
    assert "behavior" not in document["spec"]["fallback"]
    assert faults(document) == []
    assert set(document["spec"]) == set(SCHEMA["$defs"]["ScaledObjectSpec"]["properties"])


def test_the_schema_refuses_what_it_does_not_know() -> None:
    (document,) = written(read_text(REFERENCE.read_text(encoding="utf-8"), "k.yaml").check())
    document["spec"]["minReplicas"] = 0
    document["spec"]["triggers"][0].pop("type")
    document["spec"]["pollingInterval"] = "30s"
    said = "\n".join(faults(document))
    assert "'minReplicas' was unexpected" in said
    assert "'type' is a required property" in said
    assert "'30s' is not valid" in said


def test_the_reader_knows_every_field_of_a_scaled_object() -> None:
    from aibalance.formats import keda

    assert set(SCHEMA["$defs"]["ScaledObjectSpec"]["properties"]) <= keda.SPEC
