"""The cloud cases: each one that counts as decided was asked of the public API."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aibalance
from aibalance.autoscaling.policy import NativePolicy
from tests.conformance import alb, cloud, kinds, routing
from tests.conformance.__main__ import main
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import load

FILE = VECTORS / "aws_gcp_azure_ray.json.gz"

# Every case of these families is decided.
FAMILIES = {
    "step_scaling": 27,
    "step_validation": 6,
    "percent_rounding": 7,
    "target_tracking": 15,
    "target_tracking_alarm": 5,
    "policy_combine": 3,
    "policy_combine_target_tracking": 2,
    "warmup_fallback": 3,
    "warmup_metrics": 1,
    "warmup_scale_in_block": 1,
    "knative_desired": 1,
    "knative_panic": 2,
    "slow_start_rules": 6,
    "slow_start_share": 5,
    "slow_start_distribution": 1,
    "alb_path_match": 7,
    "alb_host_match": 2,
    "alb_rule_priority": 2,
    "alb_weighted_target_groups": 3,
    "alb_health_sequence": 6,
    "alb_deregistration": 3,
    "alb_routing_failover": 3,
    "alb_zone_failover": 2,
    "alb_zone_failover_validation": 1,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the adapters ask of aibalance: recommendations, and the public functions and constructors."""
    calls: list[str] = []

    def counting(name: str, real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(NativePolicy, "recommend", counting("recommend", NativePolicy.recommend))
    for name in ("StepScaling", "round_percent_change", "effective_warmup", "warm_metric"):
        monkeypatch.setattr(cloud, name, counting(name, getattr(cloud, name)))
    for name in ("HealthState", "TargetGroupHealth"):
        monkeypatch.setattr(alb, name, counting(name, getattr(alb, name)))
    monkeypatch.setattr(routing, "Router", counting("Router", routing.Router))
    for name in ("SlowStart", "Pool"):
        monkeypatch.setattr(aibalance, name, counting(name, getattr(aibalance, name)))
    return calls


def test_every_decided_case_was_asked_of_aibalance(asked: list[str]) -> None:
    document = load(FILE)
    decided: Counter[str] = Counter()
    for case in document["cases"]:
        before = len(asked)
        one = kinds.replay({**document, "cases": [case]})
        assert one.total + one.unsupported == (case.get("conformance") is not False)
        assert one.total <= len(asked) - before, f"{case['id']} was decided without aibalance"
        assert one.matched == one.total, one.first_mismatch
        decided[case["family"]] += one.total
    whole = kinds.replay(document)
    assert whole.total == sum(decided.values())
    assert {family: decided[family] for family in FAMILIES} == FAMILIES


def test_a_wrong_expectation_is_a_mismatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = load(FILE)
    case = next(c for c in document["cases"] if c["family"] == "percent_rounding")
    case["expected"] = {"rounded": 99}
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps({**document, "cases": [case]}))
    assert main([str(file)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{file}: matched 0 of 1"
    assert "'rounded': 99" in second


def test_a_case_that_lacks_something_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "torn.json"
    file.write_text(json.dumps({"family_rules": {}, "cases": [{"id": "x", "input": {}}]}))
    assert main([str(file)]) == 2
    assert capsys.readouterr().err == f"{file}: cannot be read: a case lacks 'family'\n"
