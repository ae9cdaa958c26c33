"""The cloud cases: each one that counts as decided was asked of the public API."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aibalance
import aibalance.health
from aibalance.autoscaling.policy import NativePolicy
from tests.conformance import alb, cloud, clouds, kinds, routing
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
    "slow_start_rules": 7,
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
    "ray_desired_replicas": 21,
    "ray_scaling_factor": 10,
    "ray_target_capacity": 6,
    "ray_gang_rounding": 3,
    "ray_downscale_sequence": 1,
    "ray_delay_timeline": 4,
    "ray_router_backoff": 4,
    "predictive_effective_max": 3,
    "predictive_hourly_action": 2,
    "predictive_prelaunch": 1,
    "scheduled_cron": 2,
    "scheduled_action": 2,
    "mixed_instances_split": 8,
    "mixed_instances_sweep": 9,
    "price_per_unit_hour": 3,
    "weighted_overshoot": 1,
    "weighted_unit_availability": 1,
    "warm_pool_size": 7,
    "warm_pool_scale_out": 1,
    "warm_pool_scale_in": 1,
    "instance_refresh_batch": 3,
    "instance_refresh_checkpoint": 1,
    "instance_refresh_timeline": 1,
    "instance_refresh_warmup_fallback": 2,
    "lifecycle_global_timeout": 3,
    "az_rebalance_ceiling": 3,
    "blended_cost": 4,
    "gcp_mig_recommended_raw": 4,
    "gcp_mig_stabilization": 2,
    "gcp_scale_in_control": 2,
    "gcp_multi_signal": 1,
    "gcp_schedule_overlap": 1,
    "gcp_mode": 2,
    "gcp_single_instance_assignment": 1,
    "gcp_lb_autoscale": 1,
    "gcp_capacity_scaler": 3,
    "gcp_backend_capacity": 1,
    "cloud_run_concurrency": 4,
    "azure_flapping": 7,
    "azure_queue_threshold": 2,
    "azure_queue_scale_in": 1,
    "azure_any_all": 2,
    "azure_multi_out": 1,
    "azure_manual_reset": 1,
    "azure_metric_missing": 1,
    "aibrix_apa": 5,
}

# Families that are decided by other things than a policy's recommend().
ASKED = (
    "Backend",
    "PriceBlend",
    "InstanceRefresh",
    "LifecycleHook",
    "ManagedInstanceGroup",
    "MixedInstancesPolicy",
    "PredictiveScaling",
    "ScheduledScaling",
    "WarmPool",
    "adjust_to_capacity",
    "backoff",
    "rebalance_ceiling",
    "round_to_gangs",
    "scale_by_factor",
)


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
    kind = aibalance.health.TargetGroupAttributes
    monkeypatch.setattr(aibalance.health, "TargetGroupAttributes", counting("TargetGroupAttributes", kind))
    for name in ("Pool", "SlowStart"):
        monkeypatch.setattr(aibalance, name, counting(name, getattr(aibalance, name)))
    for name in ("Router", "Rule"):
        monkeypatch.setattr(routing, name, counting(name, getattr(routing, name)))
    for name in ASKED:
        monkeypatch.setattr(clouds, name, counting(name, getattr(clouds, name)))
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
