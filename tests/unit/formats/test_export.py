"""What is written says the same, and what a system cannot express is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aibalance import ConfigError, FormatError, SlowStart
from aibalance.autoscaling import (
    AzureAutoscale,
    AzureRule,
    Combined,
    GroupSignal,
    HorizontalPodAutoscaler,
    ManagedInstanceGroup,
    ResourceMetric,
    ScaleInLimit,
    ScalingSchedule,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.formats import (
    Exported,
    Imported,
    PickerConfig,
    PolicyConfig,
    PoolConfig,
    ServerConfig,
    export,
    read_text,
)
from aibalance.formats.boto3 import validate
from aibalance.formats.exports import TARGETS

from . import samples

CASES = [
    ("nginx", samples.NGINX, "n.conf", "n.conf"),
    ("haproxy", samples.HAPROXY, "haproxy.cfg", "haproxy.cfg"),
    ("envoy", samples.ENVOY, "e.yaml", "e.yaml"),
    ("hpa", samples.HPA, "h.yaml", "h.yaml"),
    ("hpa", samples.HPA_V1, "h.yaml", "h.yaml"),
    ("keda", samples.KEDA, "k.yaml", "k.yaml"),
    ("knative", samples.KNATIVE, "k.yaml", "k.yaml"),
    ("ray-serve", samples.RAY, "r.yaml", "r.yaml"),
    ("terraform-aws", samples.TERRAFORM, "m.tf", "m.tf.json"),
    ("boto3", samples.TERRAFORM, "m.tf", "c.json"),
]


def fields(made: Exported) -> dict[str, str]:
    return {one.field: one.reason for one in made.omitted}


@pytest.mark.parametrize(("to", "text", "name", "back"), CASES)
def test_what_is_written_is_read_as_the_same(to: str, text: str, name: str, back: str) -> None:
    found = read_text(text, name).check()
    again = read_text(export(found, to).text, back).check()
    assert again.mapped() == found.mapped()
    # And so is what was read: nothing is lost the second time either.
    assert export(again, to).text == export(found, to).text


def test_plus_is_asked_for() -> None:
    found = read_text(samples.PLUS, "n.conf").check()
    plain = export(found, "nginx")
    assert "slow_start" not in plain.text
    assert {"slow_start", "stickiness"} <= fields(plain).keys()
    again = read_text(export(found, "nginx", plus=True).text, "n.conf").check()
    assert again.mapped() == found.mapped()


def pool(picker: str = "RoundRobin", *servers: ServerConfig, **more: Any) -> Imported:
    options = more.pop("options", {})
    given = servers or (ServerConfig(address="10.0.0.1:80"), ServerConfig(address="10.0.0.2:80"))
    config = PoolConfig(name="u", servers=given, picker=PickerConfig(name=picker, options=options), **more)
    return Imported(pools=(config,))


@pytest.mark.parametrize(
    ("to", "picker", "word"),
    [
        ("nginx", "PeakEwma", None),
        ("nginx", "First", None),
        ("nginx", "Maglev", "hash $request_uri consistent;"),
        ("nginx", "SourceHash", "hash $remote_addr;"),
        ("haproxy", "Prequal", None),
        ("haproxy", "LeastTime", None),
        ("haproxy", "Rendezvous", "hash-type consistent"),
        ("haproxy", "LeastRequest", "balance random(2)"),
        ("envoy", "JoinIdleQueue", None),
        ("envoy", "First", None),
        ("envoy", "Rendezvous", "RING_HASH"),
        ("envoy", "LeastConnections", "FULL_SCAN"),
        ("terraform-aws", "Maglev", None),
        ("terraform-aws", "LeastRequest", "least_outstanding_requests"),
    ],
)
def test_a_picker_is_written_as_the_nearest_or_refused(to: str, picker: str, word: str | None) -> None:
    if word is None:
        with pytest.raises(ConfigError, match=f"nothing like {picker}"):
            export(pool(picker), to)
        return
    made = export(pool(picker), to)
    assert word in made.text
    assert "picker" in fields(made)


def test_what_a_proxy_has_no_word_for_is_told() -> None:
    servers = (
        ServerConfig(address="10.0.0.1:80", weight=1.5, zone="a", max_inflight=3),
        ServerConfig(address="10.0.0.2:80", weight=0, priority=1, zone="b"),
        ServerConfig(address="10.0.0.3:80", backup=True, max_fails=2),
    )
    given = pool("RoundRobin", *servers, slow_start=SlowStart(60, ramp="alb"), zone_weights={"a": 1.5, "b": 1.0})
    assert {"weight", "zone", "zone_weights", "slow_start", "panic_threshold", "priority", "failover"} <= fields(
        export(given, "nginx")
    ).keys()
    assert "server 10.0.0.1:80 weight=3" in export(given, "nginx").text
    assert {"weight", "zone", "max_fails", "slow_start", "priority", "failover"} <= fields(
        export(given, "haproxy")
    ).keys()
    assert {"weight", "max_inflight", "max_fails", "backup", "zone_weights"} <= fields(export(given, "envoy")).keys()
    assert {"weight", "backup", "max_inflight", "passive", "port"} <= fields(export(given, "boto3")).keys()


def test_backups_are_refused_where_nginx_refuses_them() -> None:
    servers = (ServerConfig(address="a:80"), ServerConfig(address="b:80", backup=True))
    with pytest.raises(ConfigError, match="hash of nginx has no backup servers, 'b:80' is one"):
        export(pool("RingHash", *servers, options={"ring": "nginx"}), "nginx")


def test_names_that_collide_stay_apart() -> None:
    pools = tuple(PoolConfig(name=n, servers=(ServerConfig(address="10.0.0.1:80"),)) for n in ("a b", "a_b", "a/b"))
    text = export(Imported(pools=pools), "haproxy").text
    assert [line for line in text.splitlines() if line.startswith("backend")] == [
        "backend a_b",
        "backend a_b_2",
        "backend a_b_3",
    ]
    calls = json.loads(export(Imported(pools=pools), "boto3").text)
    names = [one["parameters"]["Name"] for one in calls if one["operation"] == "CreateTargetGroup"]
    assert len(set(names)) == 3


def test_nothing_that_was_refused_is_written() -> None:
    with pytest.raises(FormatError, match="did you mean weight"):
        export(read_text("upstream u { server a:80 wieght=1; }", "n.conf"), "nginx")
    with pytest.raises(ConfigError, match="did you mean nginx"):
        export(Imported(), "nginxx")


@pytest.mark.parametrize("to", TARGETS)
def test_of_nothing_comes_nothing_or_an_error(to: str) -> None:
    if to in ("nginx", "haproxy", "envoy", "envoy-eds", "terraform-aws", "boto3"):
        assert export(Imported(), to).omitted == ()
        return
    with pytest.raises(ConfigError, match="none of 0"):
        export(Imported(), to)


# One policy, three clouds

TRACKING = TargetTracking(metric="GPUUtilization", target=65, min_capacity=2, max_capacity=15, warmup=120)


def policy(given: Any, name: str = "p", **extra: Any) -> Imported:
    return Imported(policies=(PolicyConfig(name=name, target="gpu", policy=given, extra=extra),))


def resource(made: Exported) -> dict[str, Any]:
    kinds = json.loads(made.text)["resource"]
    (kind,) = [k for k in kinds if "autoscal" in k and "group" not in k]
    (body,) = kinds[kind].values()
    return dict(body)


def test_target_tracking_in_three_clouds() -> None:
    aws = export(policy(TRACKING), "terraform-aws")
    body = resource(aws)["target_tracking_configuration"][0]
    assert body["target_value"] == 65
    assert {"launch_template", "namespace"} <= fields(aws).keys()
    gcp = export(policy(TRACKING), "terraform-gcp")
    auto = resource(gcp)["autoscaling_policy"][0]
    assert auto["metric"] == [{"name": "custom.googleapis.com/GPUUtilization", "target": 65, "type": "GAUGE"}]
    assert (auto["min_replicas"], auto["max_replicas"], auto["cooldown_period"]) == (2, 15, 120)
    assert {"high_alarm", "low_alarm", "scale_in_ratio"} <= fields(gcp).keys()
    azure = export(policy(TRACKING), "terraform-azure")
    rules = resource(azure)["profile"][0]["rule"]
    assert [r["metric_trigger"][0]["threshold"] for r in rules] == [65.0, 81.25, 97.5, 130.0, 58.5]
    assert rules[-1]["scale_action"][0] == {
        "direction": "Decrease",
        "type": "PercentChangeCount",
        "value": 10,
        "cooldown": "PT2M",
    }
    assert {"target", "warmup"} <= fields(azure).keys()


def test_what_a_cloud_has_of_its_own_is_exact() -> None:
    group = ManagedInstanceGroup(
        signals=[GroupSignal("cpu", 0.6), GroupSignal("work", 40, kind="group")],
        min_replicas=2,
        max_replicas=50,
        mode="only_scale_out",
        scale_in_limit=ScaleInLimit("20%", window=900),
        schedules=[ScalingSchedule(recurrence="0 8 * * *", duration=3600, min_required_replicas=8)],
    )
    made = export(policy(group), "terraform-gcp")
    auto = resource(made)["autoscaling_policy"][0]
    assert auto["cpu_utilization"] == [{"target": 0.6}]
    assert auto["metric"] == [{"name": "custom.googleapis.com/work", "single_instance_assignment": 40}]
    control = {"max_scaled_in_replicas": [{"percent": 20}], "time_window_sec": 900}
    assert (auto["mode"], auto["scale_in_control"]) == ("ONLY_SCALE_OUT", [control])
    assert auto["scaling_schedules"][0]["duration_sec"] == 3600
    assert made.omitted == ()
    azure = AzureAutoscale(
        rules=[
            AzureRule(direction="out", metric="queue", op=">=", threshold=10, by=2, divide_by_instances=True),
            AzureRule(direction="in", metric="queue", op="<", threshold=2, by=50, change="percent", cooldown=600),
        ],
        max_capacity=10,
        default_capacity=3,
    )
    profile = resource(export(policy(azure), "terraform-azure"))["profile"][0]
    assert profile["capacity"] == [{"default": 3, "minimum": 1, "maximum": 10}]
    assert profile["rule"][0]["metric_trigger"][0]["divide_by_instance_count"] is True
    assert profile["rule"][1]["scale_action"][0]["cooldown"] == "PT10M"


def test_steps_in_azure_and_not_in_google() -> None:
    steps = StepScaling(
        metric="cpu", threshold=60, steps=[Step(lower=0, upper=20, adjustment=1), Step(lower=20, adjustment=4)],
        max_capacity=9,
    )  # fmt: skip
    rules = resource(export(policy(steps), "terraform-azure"))["profile"][0]["rule"]
    found = [(r["metric_trigger"][0]["threshold"], r["scale_action"][0]["value"]) for r in rules]
    assert found == [(60.0, 1), (80.0, 4)]
    with pytest.raises(ConfigError, match="none of 1 can be written for gcp"):
        export(policy(steps), "terraform-gcp")


def test_policies_that_are_put_together_are_taken_apart() -> None:
    direct: dict[str, Any] = {"max_capacity": 20}
    both = Combined(
        [TargetTracking(metric="cpu", target=50, **direct), TargetTracking(metric="queue", target=8, **direct)]
    )
    calls = json.loads(export(policy(both), "boto3").text)
    assert [one["parameters"].get("PolicyName") for one in calls] == [None, "p-0", "p-1"]


# Alarms


def test_alarms_of_cloudwatch_have_the_shape_of_botocore() -> None:
    calls = json.loads(export(read_text(samples.TERRAFORM, "m.tf"), "cloudwatch").text)
    names = [one["parameters"]["AlarmName"] for one in calls]
    assert names == ["track-high", "step-alarm", "simple-alarm"]
    for one in calls:
        validate(one["service"], one["operation"], one["parameters"])
    assert calls[1]["parameters"]["DatapointsToAlarm"] == 2
    low = json.loads(export(policy(TRACKING), "cloudwatch").text)[1]["parameters"]
    assert (low["Threshold"], low["EvaluationPeriods"], low["ComparisonOperator"]) == (58.5, 15, "LessThanThreshold")


def test_alerts_of_prometheus() -> None:
    yaml = pytest.importorskip("yaml")
    groups = yaml.safe_load(export(policy(TRACKING), "prometheus").text)["groups"]
    (rule,) = groups[0]["rules"]
    assert (rule["expr"], rule["for"]) == ("avg(gpu_utilization) > 65", "300s")
    found = read_text(samples.KEDA, "k.yaml")
    made = export(found, "prometheus")
    (rule,) = yaml.safe_load(made.text)["groups"][0]["rules"]
    assert rule["expr"] == "(sum(queue)) > 200.0"
    assert fields(made)["p"] == "is not of Prometheus"


def test_target_tracking_as_an_hpa() -> None:
    yaml = pytest.importorskip("yaml")
    tracking = TargetTracking(metric="cpu", target=60, min_capacity=0, max_capacity=9, disable_scale_in=True)
    made = export(policy(tracking), "hpa")
    again = HorizontalPodAutoscaler.from_manifest(yaml.safe_load(made.text))
    assert again.metrics == (ResourceMetric("cpu", average_utilization=60),)
    assert again.min_replicas == 1
    assert again.behavior is not None
    assert again.behavior.scale_down is not None
    assert again.behavior.scale_down.select_policy == "disabled"
    assert "policy" in fields(made)


def test_operations_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="did you mean PutScalingPolicy"):
        validate("autoscaling", "PutScalingPolicies", {})


@pytest.mark.parametrize(("to", "name"), [("terraform-aws", "m.tf.json"), ("boto3", "c.json")])
def test_a_listener_keeps_its_default(to: str, name: str) -> None:
    """A router with a default stays one router: the listener is named, and its rules refer to it."""
    text = """
resource "aws_lb_target_group" "a" {
  name = "a"
  port = 8000
}
resource "aws_lb_target_group" "b" {
  name = "b"
  port = 8000
}
resource "aws_lb_listener" "https" {
  load_balancer_arn = "lb"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.a.arn
  }
}
resource "aws_lb_listener_rule" "b" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 3
  condition {
    path_pattern { values = ["/b*"] }
  }
  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.b.arn
  }
}
"""
    found = read_text(text, "m.tf").check()
    assert [(rule.to, rule.priority) for rule in found.routers[0].rules] == [("b", 3), ("a", "default")]
    made = export(found, to)
    assert read_text(made.text, name).check().mapped() == found.mapped()
    if to == "terraform-aws":
        assert "${aws_lb_listener.https.arn}" in made.text
