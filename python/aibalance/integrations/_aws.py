"""AWS: an EC2 Auto Scaling group that does what a policy says, target health for a pool, metrics for CloudWatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import ConfigError, Endpoint, MetricError, Pool, Recommendation
from .._extras import need
from .._picker import wrong
from ._signals import Signals

__all__ = ["Applied", "Group", "GroupState", "TargetGroup", "publish"]


@dataclass(frozen=True)
class GroupState:
    """An Auto Scaling group, in units of capacity: instances, or their weights where the group has weights.

    `desired`, `minimum`, `maximum`: as configured. `in_service`; `pending`: on their way, the warm pool not among them;
    `leaving`: terminating. `instances`: ids in service. `suspended`: names of processes that AWS does not run.

    >>> GroupState(desired=4, minimum=1, maximum=9, in_service=3, pending=1).observation(queue=8.0)
    {'current': 3, 'desired': 4, 'warming': 1, 'metrics': {'queue': 8.0}}
    """

    desired: int
    minimum: int
    maximum: int
    in_service: int
    pending: int = 0
    leaving: int = 0
    instances: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()

    def observation(self, **metrics: float | None) -> dict[str, Any]:
        """What a scaling policy is told."""
        told = {"current": self.in_service, "desired": self.desired, "warming": self.pending}
        return {**told, "metrics": metrics}


@dataclass(frozen=True)
class Applied:
    """What became of a recommendation: `asked` for, now `desired` by the group, and `reason` where they differ or
    nothing was done: "min_size", "max_size", "unchanged", "insufficient_data", "cooldown".

    >>> Applied(asked=99, desired=15, changed=True, reason="max_size").reason
    'max_size'
    """

    asked: int
    desired: int
    changed: bool
    reason: str | None = None


def _client(service: str, given: Any, region: str | None) -> Any:
    if given is not None:
        return given
    return need("boto3", "aws").client(service, region_name=region)


class Group:
    """An EC2 Auto Scaling group that exists.

    `name`: its name. `client` (None): a boto3 client for "autoscaling"; None makes one, in `region` (None: boto3's).

    Let nothing else set its capacity: no scaling policy of AWS beside ours. boto3 blocks: in a program with asyncio,
    call it in a thread. Raises ConfigError, also for a group that is not there; what AWS refuses is botocore's
    ClientError (`pip install aibalance[aws]`).

    >>> class Recorded:
    ...     "Stands for boto3.client('autoscaling')."
    ...     def describe_auto_scaling_groups(self, AutoScalingGroupNames):
    ...         return {"AutoScalingGroups": [{"MinSize": 1, "MaxSize": 15, "DesiredCapacity": 4, "Instances": []}]}
    ...     def set_desired_capacity(self, **asked):
    ...         print(asked["DesiredCapacity"])
    >>> Group("gpu", client=Recorded()).apply(99)
    15
    Applied(asked=99, desired=15, changed=True, reason='max_size')
    """

    def __init__(self, name: str, /, *, client: Any = None, region: str | None = None) -> None:
        if not name or not str(name).strip():
            raise wrong("name", name, "the name of an Auto Scaling group")
        self._name = name
        self._client = _client("autoscaling", client, region)

    def __repr__(self) -> str:
        return f"Group({self._name!r})"

    def read(self) -> GroupState:
        """The group as it is."""
        groups = self._client.describe_auto_scaling_groups(AutoScalingGroupNames=[self._name])["AutoScalingGroups"]
        if not groups:
            raise ConfigError(f"name: there is no Auto Scaling group {self._name!r} in this account and region")
        group = groups[0]
        overrides = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {}).get("Overrides", ())
        weights = {one.get("InstanceType"): one.get("WeightedCapacity") for one in overrides}
        units = {"in": 0, "pending": 0, "leaving": 0}
        serving = []
        for one in group.get("Instances", ()):
            # A weight is text there; none is 1.
            weight = int(one.get("WeightedCapacity") or weights.get(one.get("InstanceType")) or 1)
            state = one["LifecycleState"]
            if state == "InService":
                units["in"] += weight
                serving.append(one["InstanceId"])
            elif state.startswith("Pending"):
                units["pending"] += weight
            elif state.startswith("Terminating"):
                units["leaving"] += weight
        return GroupState(
            desired=group["DesiredCapacity"],
            minimum=group["MinSize"],
            maximum=group["MaxSize"],
            in_service=units["in"],
            pending=units["pending"],
            leaving=units["leaving"],
            instances=tuple(serving),
            suspended=tuple(one["ProcessName"] for one in group.get("SuspendedProcesses", ())),
        )

    def apply(self, recommendation: Recommendation | int, /, *, honor_cooldown: bool = False) -> Applied:
        """Sets the desired capacity, within the group's own bounds, which AWS would otherwise refuse as a whole.

        When `desired` is not what was asked for, tell the policy (`policy.rejected`) where it keeps account of that.
        `honor_cooldown` (False): AWS's own cooldown may refuse; ours are the policy's.
        """
        if isinstance(recommendation, Recommendation):
            asked: Any = recommendation.desired
            decided = recommendation.action != "insufficient_data"
        else:
            asked, decided = recommendation, True
        if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
            raise wrong("recommendation", recommendation, "a Recommendation, or a number of 0 or more")
        now = self.read()
        if not decided:
            return Applied(asked, now.desired, False, "insufficient_data")
        bounded = min(max(asked, now.minimum), now.maximum)
        reason = None if bounded == asked else "max_size" if bounded < asked else "min_size"
        if bounded == now.desired:
            return Applied(asked, bounded, False, reason or "unchanged")
        try:
            self._client.set_desired_capacity(
                AutoScalingGroupName=self._name, DesiredCapacity=bounded, HonorCooldown=honor_cooldown
            )
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            if honor_cooldown and code == "ScalingActivityInProgress":
                return Applied(asked, now.desired, False, "cooldown")
            raise
        return Applied(asked, bounded, True, reason)


_HEALTH = {
    "healthy": "healthy",
    "unavailable": "healthy",  # nobody checks it
    "initial": "unhealthy",
    "unhealthy": "unhealthy",
    "unhealthy.draining": "unhealthy",
}


class TargetGroup:
    """A target group of an Elastic Load Balancer: what it says of its targets, for a pool.

    `arn`: its ARN. `client` (None): a boto3 client for "elbv2"; None makes one, in `region`. Raises ConfigError.

    >>> class Recorded:
    ...     "Stands for boto3.client('elbv2')."
    ...     def describe_target_health(self, TargetGroupArn):
    ...         healthy = {"Target": {"Id": "i-1", "Port": 80}, "TargetHealth": {"State": "healthy"}}
    ...         failing = {"Target": {"Id": "i-2", "Port": 80}, "TargetHealth": {"State": "unhealthy"}}
    ...         return {"TargetHealthDescriptions": [healthy, failing]}
    >>> pool = Pool([Endpoint("10.0.0.1:80", id="i-1"), Endpoint("10.0.0.2:80", id="i-2")])
    >>> TargetGroup("arn:aws:elasticloadbalancing:...", client=Recorded()).follow(pool)
    {'i-1': 'healthy', 'i-2': 'unhealthy'}
    >>> [s.health for s in pool.stats()]
    ['healthy', 'unhealthy']
    """

    def __init__(self, arn: str, /, *, client: Any = None, region: str | None = None) -> None:
        if not arn or not str(arn).strip():
            raise wrong("arn", arn, "the ARN of a target group")
        self._arn = arn
        self._client = _client("elbv2", client, region)
        self._drained: set[str] = set()

    def __repr__(self) -> str:
        return f"TargetGroup({self._arn!r})"

    def health(self) -> dict[tuple[str, int | None], str]:
        """The state of each target, by its id (instance, address, function) and port, in AWS's words."""
        answer = self._client.describe_target_health(TargetGroupArn=self._arn)
        return {
            (one["Target"]["Id"], one["Target"].get("Port")): one["TargetHealth"]["State"]
            for one in answer["TargetHealthDescriptions"]
        }

    def follow(self, pool: Pool, /, *, match: Callable[[Endpoint], str] | None = None) -> dict[str, str]:
        """Reads the states and tells the pool; returns them by endpoint id, without those that are no target.

        `match` (None): what a target's Id is for an endpoint; None tries its id, its address, both without port, and
        `tags["instance_id"]`. Initial and unhealthy become unhealthy, unavailable healthy, draining drains and is taken
        back; unused and strangers stay as they are.
        """
        states = self.health()
        by_id: dict[str, dict[int | None, str]] = {}
        for (target, port), one in states.items():
            by_id.setdefault(target, {})[port] = one
        found: dict[str, str] = {}
        for endpoint in pool.endpoints:
            said = _state(endpoint, by_id, match)
            if said is None:
                continue
            state = found[endpoint.id] = said
            if state == "draining":
                if endpoint.id not in self._drained and not _draining(pool, endpoint.id):
                    self._drained.add(endpoint.id)
                    pool.drain(endpoint.id)
                continue
            if endpoint.id in self._drained:
                self._drained.discard(endpoint.id)
                pool.undrain(endpoint.id)
            health: Any = _HEALTH.get(state)
            if health is not None:
                pool.set_health(endpoint.id, health)
        self._drained &= {one.id for one in pool.endpoints}
        return found


def _draining(pool: Pool, id: str) -> bool:
    return next(one.draining for one in pool.stats() if one.id == id)


def _state(
    endpoint: Endpoint, by_id: Mapping[str, Mapping[int | None, str]], match: Callable[[Endpoint], str] | None
) -> str | None:
    names: Iterable[str | None]
    port: int | None = None
    host, colon, number = endpoint.address.rpartition(":")
    if colon and number.isdigit():
        port = int(number)
    if match is not None:
        names = [match(endpoint)]
    else:
        bare = host.strip("[]") if colon else endpoint.address
        names = [endpoint.id, endpoint.id.rpartition(":")[0], endpoint.address, bare, endpoint.tags.get("instance_id")]
    for name in names:
        ports = by_id.get(name or "")
        if ports:
            # A target may be there with several ports; then ours is the one that counts.
            return next(iter(ports.values())) if len(ports) == 1 else ports.get(port)
    return None


# Field of Signals -> CloudWatch's name, unit, and what makes ours of it.
_PUBLISHED = (
    ("queue", "QueueLength", "Count", 1.0),
    ("inflight", "RunningRequests", "Count", 1.0),
    ("kv_cache", "KvCacheUtilization", "Percent", 100.0),
    ("gpu_utilization", "GpuUtilization", "Percent", 100.0),
    ("gpu_memory", "GpuMemoryUtilization", "Percent", 100.0),
    ("first_token", "TimeToFirstToken", "Seconds", 1.0),
)


def publish(
    signals: Iterable[Signals],
    /,
    *,
    namespace: str = "aibalance",
    dimensions: Mapping[str, str] | None = None,
    client: Any = None,
    region: str | None = None,
    high_resolution: bool = False,
) -> list[str]:
    """Sends what model servers say to CloudWatch, and returns the names of the metrics.

    `signals`: one of each server. `namespace` ("aibalance"), `dimensions` (None): of all metrics. `client` (None): a
    boto3 client for "cloudwatch"; None makes one, in `region`. `high_resolution` (False): kept by the second.

    A metric is one statistic set over the servers, so that Average is the mean of a server, Sum the total and Maximum
    the worst one, and the number of metrics (which AWS bills) does not grow with them: `QueueLength`, `RunningRequests`
    (Count), `KvCacheUtilization`, `GpuUtilization`, `GpuMemoryUtilization` (Percent, 0 to 100), `TimeToFirstToken`
    (Seconds). Raises ConfigError, MetricError for what is not finite, botocore's ClientError.

    >>> class Recorded:
    ...     "Stands for boto3.client('cloudwatch')."
    ...     def put_metric_data(self, Namespace, MetricData):
    ...         print(Namespace, MetricData[0]["MetricName"], MetricData[0]["StatisticValues"]["Sum"])
    >>> publish([Signals(queue=4), Signals(queue=8)], client=Recorded(), dimensions={"Fleet": "gpu"})
    aibalance QueueLength 12.0
    ['QueueLength']
    """
    if not namespace or str(namespace).startswith("AWS/"):
        raise wrong("namespace", namespace, "a name that does not begin with AWS/")
    given = list(signals)
    named = [{"Name": name, "Value": value} for name, value in (dimensions or {}).items()]
    data = []
    for field, name, unit, scale in _PUBLISHED:
        values = [value * scale for one in given if (value := getattr(one, field)) is not None]
        if not values:
            continue
        if not all(math.isfinite(value) for value in values):
            raise MetricError(f"{field}: {values!r} is not allowed; finite numbers")
        statistics = {
            "SampleCount": float(len(values)),
            "Sum": math.fsum(values),
            "Minimum": min(values),
            "Maximum": max(values),
        }
        one = {"MetricName": name, "Dimensions": named, "Unit": unit, "StatisticValues": statistics}
        data.append({**one, "StorageResolution": 1 if high_resolution else 60})
    if data:
        _client("cloudwatch", client, region).put_metric_data(Namespace=namespace, MetricData=data)
    return [str(one["MetricName"]) for one in data]
