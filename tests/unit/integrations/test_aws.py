"""The adapters for AWS, against moto, and against botocore's own validation where moto does not act as AWS does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, MetricError, Pool, TargetTracking
from aibalance.autoscaling import ProportionalScaling
from aibalance.integrations.aws import Group, TargetGroup, publish
from aibalance.integrations.signals import Signals

REGION = "eu-central-1"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3, of an account that is made up."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto")
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        yield boto3


def group(boto3: Any, desired: int = 4, **more: Any) -> Any:
    """A group named gpu of 1 to 15 instances."""
    ec2 = boto3.client("ec2", region_name=REGION)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    ec2.create_launch_template(
        LaunchTemplateName="gpu-template", LaunchTemplateData={"ImageId": image, "InstanceType": "t3.micro"}
    )
    client = boto3.client("autoscaling", region_name=REGION)
    if "MixedInstancesPolicy" not in more:
        more["LaunchTemplate"] = {"LaunchTemplateName": "gpu-template"}
    client.create_auto_scaling_group(
        AutoScalingGroupName="gpu",
        MinSize=1,
        MaxSize=15,
        DesiredCapacity=desired,
        AvailabilityZones=[f"{REGION}a"],
        **more,
    )
    return client


@pytest.mark.parametrize(
    ("asked", "desired", "changed", "reason"),
    [
        (7, 7, True, None),
        (99, 15, True, "max_size"),
        (0, 1, True, "min_size"),
        (4, 4, False, "unchanged"),
    ],
)
def test_a_number_is_applied_within_bounds(
    aws: Any, asked: int, desired: int, changed: bool, reason: str | None
) -> None:
    client = group(aws)
    done = Group("gpu", client=client).apply(asked)
    assert (done.asked, done.desired, done.changed, done.reason) == (asked, desired, changed, reason)
    (now,) = client.describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (now["DesiredCapacity"], len(now["Instances"])) == (desired, desired)


def test_a_policy_and_a_group(aws: Any) -> None:
    client = group(aws)
    own = Group("gpu", region=REGION)
    assert client.describe_auto_scaling_groups()["AutoScalingGroups"][0]["AutoScalingGroupName"] == "gpu"
    policy = ProportionalScaling(metric="queue", target=5, max_capacity=30)
    told = own.read().observation(queue=30.0)
    assert told == {"current": 4, "desired": 4, "warming": 0, "metrics": {"queue": 30.0}}
    made = policy.recommend(told, now=0.0)
    assert made.desired == 24
    assert own.apply(made).reason == "max_size"
    assert own.read().in_service == 15
    undecided = TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=30)
    nothing = undecided.recommend({"current": 15, "metrics": {"cpu": None}}, now=0.0)
    assert own.apply(nothing).reason == "insufficient_data"
    assert own.read().desired == 15


def test_capacity_is_in_weights_where_there_are_weights(aws: Any) -> None:
    overrides = [{"InstanceType": "t3.micro", "WeightedCapacity": "2"}]
    template = {"LaunchTemplateSpecification": {"LaunchTemplateName": "gpu-template"}, "Overrides": overrides}
    client = group(aws, 6, MixedInstancesPolicy={"LaunchTemplate": template})
    state = Group("gpu", client=client).read()
    assert (state.in_service, state.desired) == (2 * len(state.instances), 6)
    assert len(state.instances) == 3


def test_states_of_instances() -> None:
    class Client:
        def describe_auto_scaling_groups(self, **asked: Any) -> Any:
            assert asked == {"AutoScalingGroupNames": ["gpu"]}
            states = ("InService", "Pending", "Pending:Wait", "Terminating:Wait", "Warmed:Stopped", "Standby")
            instances = [{"InstanceId": f"i-{i}", "LifecycleState": state} for i, state in enumerate(states)]
            suspended = [{"ProcessName": "Launch"}]
            sizes = {"MinSize": 0, "MaxSize": 9, "DesiredCapacity": 3}
            return {"AutoScalingGroups": [{**sizes, "Instances": instances, "SuspendedProcesses": suspended}]}

    state = Group("gpu", client=Client()).read()
    assert (state.in_service, state.pending, state.leaving) == (1, 2, 1)
    assert (state.instances, state.suspended) == (("i-0",), ("Launch",))


def test_a_group_that_is_not_there(aws: Any) -> None:
    with pytest.raises(ConfigError, match="no Auto Scaling group 'other'"):
        Group("other", region=REGION).read()
    with pytest.raises(ConfigError, match="name: ''"):
        Group("")
    with pytest.raises(ConfigError, match="recommendation: -1"):
        Group("gpu", client=object()).apply(-1)


def test_a_cooldown_of_aws_is_no_error(aws: Any) -> None:
    stubber = pytest.importorskip("botocore.stub").Stubber
    client = aws.client("autoscaling", region_name=REGION)
    sizes = {
        "AutoScalingGroupName": "gpu",
        "MinSize": 1,
        "MaxSize": 9,
        "DesiredCapacity": 4,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["a"],
        "HealthCheckType": "EC2",
        "CreatedTime": "2026-01-01T00:00:00Z",
    }
    with stubber(client) as stub:
        for _ in range(2):
            stub.add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [sizes]})
            stub.add_client_error("set_desired_capacity", "ScalingActivityInProgress")
        assert Group("gpu", client=client).apply(5, honor_cooldown=True).reason == "cooldown"
        with pytest.raises(client.exceptions.ClientError):
            Group("gpu", client=client).apply(5)


def test_target_health_from_aws(aws: Any) -> None:
    ec2 = aws.client("ec2", region_name=REGION)
    elb = aws.client("elbv2", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = elb.create_target_group(Name="gpu", Protocol="HTTP", Port=80, VpcId=vpc, TargetType="ip")
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "10.0.0.1", "Port": 80}, {"Id": "10.0.0.2", "Port": 80}])
    pool = Pool(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])
    states = TargetGroup(arn, region=REGION).follow(pool)
    assert set(states) == {"10.0.0.1:80", "10.0.0.2:80"}
    assert set(states.values()) <= {"healthy", "unused", "initial"}


class Targets:
    """What describe_target_health says; moto has no draining and no unhealthy."""

    def __init__(self, **states: str) -> None:
        self.states: dict[tuple[str, int], str] = {(name, 80): state for name, state in states.items()}

    def describe_target_health(self, TargetGroupArn: str) -> Any:
        found = [
            {"Target": {"Id": id, "Port": port}, "TargetHealth": {"State": state}}
            for (id, port), state in self.states.items()
        ]
        return {"TargetHealthDescriptions": found}


def told(pool: Pool) -> list[tuple[str, bool]]:
    return [(r.health, r.draining) for r in pool.stats()]


def test_states_of_targets_become_those_of_the_pool() -> None:
    client = Targets(a="healthy", b="initial", c="unhealthy", d="unavailable", e="draining", f="unused")
    pool = Pool([Endpoint(f"10.0.0.{i}:80", id=name) for i, name in enumerate("abcdefg")])
    pool.set_health("f", "degraded")
    following = TargetGroup("arn", client=client)
    assert following.follow(pool) == {id: state for (id, _), state in client.states.items()}
    assert told(pool) == [
        ("healthy", False),
        ("unhealthy", False),
        ("unhealthy", False),
        ("healthy", False),
        ("healthy", True),
        ("degraded", False),
        ("healthy", False),
    ]
    pool.drain("a")
    client.states["a", 80] = "draining"
    client.states["e", 80] = "healthy"
    following.follow(pool)
    assert [draining for _, draining in told(pool)] == [True, False, False, False, False, False, False]
    client.states["a", 80] = "healthy"
    following.follow(pool)
    assert told(pool)[0] == ("healthy", True), "that drain was yours"


def test_how_targets_are_found() -> None:
    client = Targets()
    client.states = {("i-1", 80): "unhealthy", ("10.0.0.2", 80): "healthy", ("10.0.0.2", 81): "unhealthy"}
    pool = Pool([Endpoint("10.0.0.1:80", tags={"instance_id": "i-1"}), "10.0.0.2:81", "10.0.0.2:80", "10.0.0.2:82"])
    found = TargetGroup("arn", client=client).follow(pool)
    assert found == {"10.0.0.1:80": "unhealthy", "10.0.0.2:81": "unhealthy", "10.0.0.2:80": "healthy"}
    assert TargetGroup("arn", client=client).follow(pool, match=lambda e: "i-1") == {
        e.id: "unhealthy" for e in pool.endpoints
    }
    with pytest.raises(ConfigError, match="arn: ''"):
        TargetGroup("")


def test_cloudwatch_takes_one_statistic_set_a_metric(aws: Any) -> None:
    client = aws.client("cloudwatch", region_name=REGION)
    fleet = [Signals(queue=4, kv_cache=0.5, gpu_utilization=0.9), Signals(queue=8, gpu_utilization=0.7), Signals()]
    names = publish(fleet, client=client, namespace="llm", dimensions={"Fleet": "gpu"})
    assert names == ["QueueLength", "KvCacheUtilization", "GpuUtilization"]
    listed = client.list_metrics(Namespace="llm")["Metrics"]
    assert {m["MetricName"] for m in listed} == set(names)
    assert listed[0]["Dimensions"] == [{"Name": "Fleet", "Value": "gpu"}]


def test_what_is_sent_is_what_cloudwatch_expects(aws: Any) -> None:
    stubber = pytest.importorskip("botocore.stub").Stubber
    client = aws.client("cloudwatch", region_name=REGION)
    with stubber(client) as stub:
        expected = {
            "Namespace": "aibalance",
            "MetricData": [
                {
                    "MetricName": "GpuUtilization",
                    "Dimensions": [],
                    "Unit": "Percent",
                    "StatisticValues": {"SampleCount": 2.0, "Sum": 150.0, "Minimum": 50.0, "Maximum": 100.0},
                    "StorageResolution": 1,
                }
            ],
        }
        stub.add_response("put_metric_data", {}, expected)
        publish([Signals(gpu_utilization=0.5), Signals(gpu_utilization=1.0)], client=client, high_resolution=True)
        stub.assert_no_pending_responses()
    assert publish([Signals()], client=None) == [], "nothing to say, nobody to ask"
    with pytest.raises(MetricError, match="queue: "):
        publish([Signals(queue=float("inf"))], client=client)
    with pytest.raises(ConfigError, match="namespace: 'AWS/EC2'"):
        publish([Signals(queue=1)], client=client, namespace="AWS/EC2")
