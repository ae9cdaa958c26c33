"""What files come to, what is ignored with which reason, and what is refused where."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aibalance import FormatError, SlowStart
from aibalance.autoscaling import (
    HorizontalPodAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    ProportionalScaling,
    RayServeAutoscaler,
    ScheduledScaling,
    SimpleScaling,
    StepScaling,
    TargetTracking,
)
from aibalance.capacity import InstanceRefresh, MixedInstancesPolicy, WarmPool
from aibalance.formats import Imported, read, read_text

from . import samples

SHARED = Path(__file__).parents[4] / "shared" / "reference_configs"


def nginx(inside: str) -> Imported:
    return read_text(f"upstream u {{\n{inside}\n}}", "n.conf")


def picker(inside: str) -> tuple[str, dict[str, Any], str | None]:
    found = nginx(inside).check().pool("u").picker
    return found.name, dict(found.options), found.key


def refused(found: Imported) -> list[str]:
    assert found.refused
    return [str(one) for one in found.refused]


def ignored(found: Imported) -> dict[str, str]:
    return {one.field: one.reason for one in found.ignored}


# nginx


@pytest.mark.parametrize(
    ("method", "name", "options", "key"),
    [
        ("", "RoundRobin", {}, None),
        ("least_conn;", "LeastConnections", {}, None),
        ("ip_hash;", "IpHash", {}, "$remote_addr"),
        ("hash $uri;", "ModuloHash", {}, "$uri"),
        ("hash $uri consistent;", "RingHash", {"ring": "nginx"}, "$uri"),
        ("random;", "WeightedRandom", {}, None),
        ("random two;", "LeastRequest", {"score": "before", "ties": "last_drawn"}, None),
        ("random two least_conn;", "LeastRequest", {"score": "before", "ties": "last_drawn"}, None),
        ("least_time last_byte;", "LeastTime", {}, None),
    ],
)
def test_methods_of_nginx(method: str, name: str, options: dict[str, Any], key: str | None) -> None:
    assert picker(f"{method} server a:80; server b:80;") == (name, options, key)


def test_parameters_of_a_server() -> None:
    inside = "server a:80 weight=3 max_fails=2 fail_timeout=1m max_conns=7;\nserver b:80 backup;\nserver c:80 down;"
    one, two, three = nginx(inside).check().pool("u").servers
    assert (one.weight, one.max_fails, one.fail_timeout, one.max_inflight) == (3, 2, 60.0, 7)
    assert (two.backup, two.max_fails, two.fail_timeout) == (True, 1, 10.0)
    assert three.down
    pool = nginx(inside).pool("u").build()
    assert {pool.pick().address for _ in range(20)} == {"a:80"}


def test_a_server_that_stands_twice_is_two_endpoints() -> None:
    assert [e.id for e in nginx("server a:80; server a:80;").pool("u").pool().endpoints] == ["a:80", "a:80#2"]


def test_slow_start_is_one_for_a_pool_and_not_exact() -> None:
    found = nginx("server a:80 slow_start=30s;\nserver b:80 slow_start=30s;")
    assert found.pool("u").slow_start == SlowStart(30)
    assert found.approximated[0].where == "n.conf:2"
    assert "all servers need the same" in refused(nginx("server a:80 slow_start=30s;\nserver b:80;"))[0]


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("server a:80 wieght=3;", "n.conf:2: server wieght: 'wieght=3' is not known; did you mean weight?"),
        ("server a:80 weight=0;", "n.conf:2: server weight: '0' is not allowed; a whole number of 1 or more"),
        ("server a:80 fail_timeout=1x;", "n.conf:2: server fail_timeout: '1x' is not a time"),
        ("server a:80 fail_timeout=500ms;", "whole seconds"),
        ("least_con;\nserver a:80;", 'n.conf:2: unknown directive "least_con"; did you mean least_conn?'),
        ("least_conn;\nip_hash;\nserver a:80;", "n.conf:3: ip_hash: the method is least_conn already"),
        ("ip_hash;\nserver a:80 backup;", "ip_hash has no backup servers"),
        ("hash $uri consistant;\nserver a:80;", "'consistant' is not allowed; consistent"),
        ("random two least_time=header;\nserver a:80;", "is not there; two, or two least_conn"),
        ("", "n.conf:1: u: no servers are inside"),
        ("server $x;", "a variable is known only to nginx"),
        ("sticky route $x;\nserver a:80;", "'route' is not there"),
        ("proxy_pass http://a;\nserver a:80;", "is not known here"),
    ],
)
def test_what_nginx_would_refuse_is_refused(inside: str, said: str) -> None:
    messages = refused(nginx(inside))
    assert any(said in one for one in messages), messages


def test_locations_are_rules() -> None:
    found = read_text(samples.NGINX, "n.conf").check()
    routers = {one.name: one.build() for one in found.routers}
    route = routers["listen 8080"].route
    first = route("http://x.example/exact")
    assert first is not None
    assert (first.target, first.timeouts.read, first.timeouts.connect, first.streaming) == ("any", 0.5, 2.0, True)
    assert route("http://a.y.example/").target == "least"  # type: ignore[union-attr]
    assert route("http://z.example/a.PNG").target == "127.0.0.1:8081"  # type: ignore[union-attr]
    assert route("http://z.example/static/a.png").target == "@local"  # type: ignore[union-attr]
    # The default server has the hosts that nobody names.
    assert route("http://nobody.example/").timeouts.read == 90.0  # type: ignore[union-attr]
    assert routers["listen 8443"].route("/x.png").target == "127.0.0.1:8081"  # type: ignore[union-attr]
    assert routers["listen 8082"].route("/x").target == "@local"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("location / { proxy_pass http://$x; }", "a variable is known only to nginx"),
        ("location / { location /a { proxy_pass http://b; } }", "a location in a location is not there"),
        ("if ($x) { return 1; }", "changes the path before a location is looked for"),
        ("location ~ (?=x) { proxy_pass http://b; }", "n.conf:3: location:"),
        ("location / { proxy_pass http://b; proxy_read_timeout x; }", "proxy_read_timeout: 'x' is not a time"),
        ("location / { if ($x) { proxy_pass http://b; } }", "a target that depends on a condition"),
    ],
)
def test_routes_that_cannot_be_followed_are_refused(inside: str, said: str) -> None:
    messages = refused(read_text(f"server {{\nlisten 80;\n{inside}\n}}", "n.conf"))
    assert any(said in one for one in messages), messages


def test_a_stream_has_pools_and_no_routes() -> None:
    found = read_text("stream { upstream u { server a:5; } server { listen 5; proxy_pass u; } }", "n.conf").check()
    assert [one.name for one in found.pools] == ["u"]
    assert found.routers == ()


# HAProxy


def haproxy(inside: str) -> Imported:
    body = "\n".join(f"    {line}" for line in inside.split("\n"))
    return read_text(f"backend u\n{body}\n", "haproxy.cfg")


@pytest.mark.parametrize(
    ("lines", "name", "options", "key"),
    [
        ("", "RoundRobin", {"schedule": "fwrr"}, None),
        ("balance static-rr", "RoundRobin", {"schedule": "static-rr"}, None),
        ("balance leastconn", "LeastConnections", {"variant": "haproxy"}, None),
        ("balance first", "First", {}, None),
        ("balance random", "WeightedRandom", {"ring": "haproxy", "choices": 2}, None),
        ("balance random(5)", "WeightedRandom", {"ring": "haproxy", "choices": 5}, None),
        ("balance source", "SourceHash", {}, "src"),
        ("balance source\nhash-type consistent", "SourceHash", {"ring": "haproxy"}, "src"),
        ("balance hdr(x-user)", "ModuloHash", {"variant": "haproxy"}, "hdr(x-user)"),
        (
            "balance uri\nhash-type consistent wt6 avalanche\nhash-balance-factor 150",
            "RingHash",
            {"ring": "haproxy", "bounded_load": 1.5, "avalanche": True, "hash": "wt6"},
            "uri",
        ),
    ],
)
def test_balance_of_haproxy(lines: str, name: str, options: dict[str, Any], key: str | None) -> None:
    found = haproxy(f"{lines}\nserver a 10.0.0.1:80").check().pool("u").picker
    assert (found.name, found.options, found.key) == (name, options, key)


def test_servers_of_haproxy() -> None:
    found = haproxy(
        "option httpchk GET /health\ndefault-server inter 3s\noption allbackups\ntimeout connect 500\n"
        "server a 10.0.0.1:80 weight 3 maxconn 9 check fall 5 cookie x\nserver b 10.0.0.2:80 backup disabled id 9"
    ).check()
    pool = found.pool("u")
    one, two = pool.servers
    assert (one.id, one.weight, one.max_inflight, one.hash_key) == ("a", 3, 9, 1)
    assert (two.backup, two.down, two.hash_key) == (True, True, 9)
    assert pool.health is not None
    assert (pool.health.path, pool.health.interval, pool.health.unhealthy_threshold) == ("/health", 3.0, 5)
    assert (pool.failover, pool.connect_timeout, pool.panic_threshold) == ("backup", 0.5, 0.0)
    assert ignored(found)["server cookie"]


def test_defaults_are_handed_down() -> None:
    text = "defaults\n    balance leastconn\nbackend a\n    server x 1.1.1.1:80\nbackend b\n    balance first\n"
    found = read_text(text + "    server x 1.1.1.1:80\n", "haproxy.cfg").check()
    assert [one.picker.name for one in found.pools] == ["LeastConnections", "First"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("balance leastcon\nserver a b:80", "haproxy.cfg:2: balance: 'leastcon' is not there; did you mean leastconn?"),
        ("server a b:80 wieght 3", "haproxy.cfg:2: server wieght: is not known; did you mean weight?"),
        (
            "server a b:80 weight 300",
            "haproxy.cfg:2: server weight: '300' is not allowed; a whole number from 0 to 256",
        ),
        ("server a b:80 weight", "a value is needed"),
        ("server a", "a name and an address are needed"),
        ("server a b:80\nserver a c:80", "haproxy.cfg:3: server: 'a' is there twice"),
        ("server a b:80\nserver c d:80 id 1", "1 is another server's"),
        ("hash-type consistant\nserver a b:80", "map-based or consistent"),
        ("hash-balance-factor 50\nserver a b:80", "0, or 100 or more"),
        ("blance first\nserver a b:80", "haproxy.cfg:2: blance: is not known here; did you mean balance?"),
        ("use-server a if x\nserver a b:80", "a server by condition is not there"),
        ("server a b:80 agent-check", "an agent may change weights"),
        ('server "a b:80', 'the quote " is not closed'),
        ("timeout connect 5x\nserver a b:80", "'5x' is not a time"),
        ("", "haproxy.cfg:1: u: no servers are inside"),
    ],
)
def test_what_haproxy_would_refuse_is_refused(lines: str, said: str) -> None:
    messages = refused(haproxy(lines))
    assert any(said in one for one in messages), messages


# Envoy


def test_clusters_of_envoy() -> None:
    found = read_text(samples.ENVOY, "e.yaml").check()
    least = found.pool("least")
    assert least.picker.options["choices"] == 3
    assert least.slow_start == SlowStart(60, aggression=2.0, min_weight=0.2)
    assert least.outliers is not None
    assert (least.outliers.consecutive_5xx, least.outliers.consecutive_gateway_failure) == (3, None)
    assert (least.panic_threshold, least.overprovisioning_factor, least.connect_timeout) == (0.3, 2.0, 1.5)
    assert least.zone_weights == {"a": 3.0, "r/b/s": 1.0}
    assert [(one.weight, one.zone, one.priority, one.down) for one in least.servers] == [
        (1, "a", 0, False),
        (3, "a", 0, False),
        (1, "r/b/s", 1, True),
    ]
    assert dict(found.pool("ring").picker.options) == {
        "min_size": 512,
        "max_size": 4096,
        "hash": "murmur2",
        "bounded_load": 1.2,
    }
    assert found.pool("ring").servers[0].address == "[::1]:80"
    assert found.pool("full").picker.options["full_scan"] is True
    assert found.pool("turns").picker.options == {"schedule": "edf"}


def test_endpoints_of_a_discovery_service_and_json() -> None:
    end = {"endpoint": {"address": {"socketAddress": {"address": "10.0.0.1", "portValue": "80"}}}}
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    answer = {"resources": [{"@type": kind, "clusterName": "a", "endpoints": [{"lbEndpoints": [end]}]}]}
    found = read_text(json.dumps(answer, indent=1), "eds.json").check()
    assert found.pool("a").servers[0].address == "10.0.0.1:80"
    assert "round robin" in found.approximated[0].reason


def test_an_endpoint_that_drains_counts_on_neither_side() -> None:
    text = samples.ENVOY.replace("UNHEALTHY", "DRAINING")
    server = read_text(text, "e.yaml").check().pool("least").servers[2]
    assert (server.weight, server.down) == (0, False)


def test_json_with_tabs_and_pairs_of_escapes() -> None:
    text = '{\n\t"kind": "Deployment",\n\t"metadata": {"name": "\\ud83d\\ude00"}}'
    assert read_text(text, "d.json").ignored[0].reason == "a Deployment decides neither picks nor sizes"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("lb_pollicy: RANDOM", "e.yaml:2: lb_pollicy: there is no such field; did you mean lb_policy?"),
        ("lb_policy: LEAST_REQUESTS", "did you mean LEAST_REQUEST?"),
        ("lb_policy: RANDOM\nmaglev_lb_config: {table_size: 7}", "the policy is RANDOM, which this is not for"),
        ("lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 8}", "e.yaml:1"),
        ("connect_timeout: 5", 'seconds such as "1.5s" are needed'),
        ("lb_policy: RANDOM\nlb_subset_config: {}", "is not there; lb_policy and its options"),
        ("outlier_detection: {consecutive_5xx: -1}", "e.yaml:2: outlier_detection.consecutive_5xx"),
        ("load_balancing_policy: {policies: []}", "none of its policies is there"),
    ],
)
def test_what_envoy_would_refuse_is_refused(fields: str, said: str) -> None:
    text = f"name: u\n{fields}\n" + ("" if "lb_policy" in fields else "load_assignment: {cluster_name: u}\n")
    messages = refused(read_text(text, "e.yaml"))
    assert any(said in one for one in messages), messages


# Terraform


def test_resources_of_terraform() -> None:
    found = read_text(samples.TERRAFORM, "main.tf").check()
    api = found.pool("api")
    assert (api.picker.name, api.slow_start, api.port) == ("WeightedRandom", SlowStart(60, ramp="alb"), 8000)
    assert api.health is not None
    assert (api.health.interval, api.health.healthy_threshold, api.health.status) == (15, 3, "200-299")
    assert api.stickiness is not None
    assert (api.stickiness.cookie, api.stickiness.max_age) == ("SESSION", 600.0)
    assert (api.panic_threshold, api.servers[0].address) == (0.2, "i-1:8000")
    rule = found.routers[0].rules[0]
    assert (rule.to, rule.priority, rule.headers) == ({"api": 90, "blue": 10}, 5, {"X-Tier": ["gold"]})
    group = found.group("gpu")
    assert (group.min_size, group.max_size, group.desired, group.default_warmup) == (2, 15, 3, 90.0)
    assert group.warm_pool == WarmPool(min_size=1, max_prepared=6, reuse_on_scale_in=True)
    assert group.mixed == MixedInstancesPolicy(on_demand_base=2, on_demand_percent_above_base=20, spot_pools=3)
    assert group.instance_types == (("g4dn.xlarge", 1), ("g5.xlarge", 2))
    assert group.refresh == InstanceRefresh(
        min_healthy=80, max_healthy=120, checkpoints=(20, 100), checkpoint_delay=600.0, warmup=30.0
    )
    track, step, simple = (found.policy(name).policy for name in ("track", "step", "simple"))
    assert isinstance(track, TargetTracking)
    assert (track.metric, track.target, track.disable_scale_in) == ("ASGAverageCPUUtilization", 55.5, True)
    assert (track.warmup, track.min_capacity, track.max_capacity) == (45.0, 2, 15)
    assert isinstance(step, StepScaling)
    assert (step.threshold, step.alarm, step.warmup, step.aggregation) == (70, (2, 3), 90.0, "maximum")
    assert [(s.lower, s.upper, s.adjustment) for s in step.steps] == [(0, 15, 10), (15, None, 30)]
    assert isinstance(simple, SimpleScaling)
    assert (simple.direction, simple.adjustment, simple.cooldown, simple.alarm) == ("low", -1, 120.0, (5, 5))
    schedule = found.policy("gpu schedule").policy
    assert isinstance(schedule, ScheduledScaling)
    action = schedule.actions[0]
    assert (action.min_capacity, action.max_capacity, action.desired) == (6, None, None)
    assert any("at the threshold itself" in one.reason for one in found.approximated)


GROUP = 'resource "aws_autoscaling_group" "g" {\n  min_size = 1\n  max_size = 9\n'
TARGETS = 'resource "aws_lb_target_group" "t" {\n  name = "t"\n'
POLICY = GROUP + '}\nresource "aws_autoscaling_policy" "p" {\n  autoscaling_group_name = aws_autoscaling_group.g.name\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GROUP + "  desired_capacty = 3\n}", "m.tf:4: resource.aws_autoscaling_group.g.desired_capacty: there is no"),
        (GROUP + "  desired_capacity = 30\n}", "m.tf:4"),
        (GROUP.replace("= 9", "= var.x") + "}", "'${var.x}' is not allowed; a number is needed"),
        (GROUP + "  count = 2\n}", "m.tf:4: resource.aws_autoscaling_group.g.count: how many there will be"),
        (GROUP + '  warm_pool {\n    pool_state = "Stoped"\n  }\n}', "m.tf:5"),
        (GROUP.replace("autoscaling_group", "autoscaling_grup") + "}", "did you mean aws_autoscaling_group?"),
        (TARGETS + "  slow_start = 10\n}", "0, or 30 to 900 seconds"),
        (
            TARGETS + '  slow_start = 60\n  load_balancing_algorithm_type = "least_outstanding_requests"\n}',
            "m.tf:3: resource.aws_lb_target_group.t.slow_start: 60 is not allowed; 0 with load_balancing_algorithm_ty",
        ),
        (TARGETS + "  health_check {\n    timeout = 40\n  }\n}", "m.tf:4"),
        (TARGETS + '  stickiness {\n    type = "source_ip"\n  }\n}', "network load balancers"),
        (POLICY + '  policy_type = "StepScaling"\n  adjustment_type = "ChangeInCapacity"\n}', "in its alarm_actions"),
        (
            POLICY + '  policy_type = "StepScaling"\n  cooldown = 3\n}',
            "m.tf:8: resource.aws_autoscaling_policy.p.coo",
        ),
        (POLICY.replace("group.g.name", "group.h.name") + "  adjustment_type = 1\n}", "'h' is not in these files"),
        (GROUP + '  suspended_processes = ["Launch"]\n}', "m.tf:4"),
        (
            'resource "aws_cloudwatch_metric_alarm" "a" {\n  alarm_actions = [aws_autoscaling_policy.p.arn]\n'
            '  metric_query {\n    id = "m"\n  }\n}',
            "m.tf:3: resource.aws_cloudwatch_metric_alarm.a.metric_query: cannot be honoured",
        ),
        ("health_check {\n  path = 3\n}", "m.tf:1: health_check: stands outside of any resource"),
        ('resorce "a" "b" {}', "m.tf:1: resorce: there is no such block; did you mean resource?"),
        ("a = = 3", "m.tf:1: not HCL"),
        ('resource "a" "b" {\n  x = 1\n  x = 2\n}', "m.tf:3: resource.a.b.x: is there twice"),
    ],
)
def test_what_terraform_would_refuse_is_refused(text: str, said: str) -> None:
    messages = refused(read_text(text, "m.tf"))
    assert any(said in one for one in messages), messages


def test_references_go_from_file_to_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tf", tmp_path / "b.tf"
    parts = POLICY.split("}\n", 1)
    second.write_text(parts[0] + "}\n")
    tracking = '  policy_type = "TargetTrackingScaling"\n  target_tracking_configuration {\n    target_value = 5\n'
    metric = '    customized_metric_specification {\n      metric_name = "m"\n      namespace = "n"\n'
    first.write_text(parts[1] + tracking + metric + '      statistic = "Average"\n    }\n  }\n}\n')
    assert read(first, second).check().policy("p").target == "g"


# Manifests


def test_manifests() -> None:
    hpa = read_text(samples.HPA, "h.yaml").check().policy("everything").policy
    assert isinstance(hpa, HorizontalPodAutoscaler)
    assert len(hpa.metrics) == 5
    old = read_text(samples.HPA_V1, "h.yaml").check().policy("old").policy
    assert isinstance(old, HorizontalPodAutoscaler)
    assert old.max_replicas == 9
    keda = read_text(samples.KEDA, "k.yaml").check().policy("worker").policy
    assert isinstance(keda, KedaScaledObject)
    assert (keda.idle_replicas, keda.paused_scale_in, len(keda.triggers)) == (0, True, 2)
    knative = read_text(samples.KNATIVE, "k.yaml").check().policy("functions").policy
    assert isinstance(knative, KnativePodAutoscaler)
    assert (knative.target, knative.min_scale, knative.stable_window) == (20.0, 2, 30.0)
    ray = read_text(samples.RAY, "r.yaml").check().policy("llm").policy
    assert isinstance(ray, RayServeAutoscaler)
    assert (ray.upscale_delay, ray.downscale_to_zero_delay) == (5.0, 900.0)


JOB = """kind: ScaledJob
apiVersion: keda.sh/v1alpha1
metadata: {name: job}
spec:
  jobTargetRef: {}
  maxReplicaCount: 9
  triggers: [{type: rabbitmq, metadata: {value: "5", queueName: q}}]
"""


def test_a_scaled_job() -> None:
    found = read_text(JOB, "j.yaml").check()
    policy = found.policy("job").policy
    assert isinstance(policy, ProportionalScaling)
    assert policy.recommend({"current": 0, "metrics": {"s0-rabbitmq": 23}}, now=0.0).desired == 5
    assert "never stopped" in found.approximated[0].reason
    assert "default" in refused(read_text(JOB + "  scalingStrategy: {strategy: eager}\n", "j.yaml"))[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (samples.HPA.replace("maxReplicas", "maxReplica"), "h.yaml:8: spec.maxReplica: there is no such field"),
        (samples.KEDA.replace("maxReplicaCount", "maxReplicas"), "did you mean maxReplicaCount?"),
        (samples.KNATIVE.replace("dev/min-scale", "dev/minscale"), "did you mean autoscaling.knative.dev/min"),
        (samples.KNATIVE.replace('"2"', "x"), "h.yaml:10: autoscaling.knative.dev/min-scale: 'x' is not allowed"),
        (samples.RAY.replace("upscale_delay_s", "upscale_delay"), "did you mean upscale_delay_s?"),
        (samples.RAY.replace("max_replicas: 8", "max_replicas: 0"), "h.yaml:7"),
        ("a: [", "h.yaml:1"),
        ("", "h.yaml:1: nothing is in it"),
        ("- 1\n", "h.yaml:1"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused(text: str, said: str) -> None:
    messages = refused(read_text(text, "h.yaml"))
    assert any(said in one for one in messages), messages


# boto3


def test_fields_of_boto3_that_no_table_has_are_ignored() -> None:
    group = {"AutoScalingGroupName": "g", "MinSize": 1, "MaxSize": 9, "NewInstancesProtectedFromScaleIn": True}
    found = read_text(json.dumps([{"operation": "CreateAutoScalingGroup", "parameters": group}]), "c.json").check()
    assert found.group("g").max_size == 9
    assert found.ignored[0].reason == "decides nothing here"
    alarm = {"AlarmName": "a", "EvaluationPeriods": 1, "ComparisonOperator": "LessThanThreshold", "Metrics": []}
    alarm["AlarmActions"] = ["arn:aws:autoscaling:r:1:scalingPolicy:u:autoScalingGroupName/g:policyName/p"]
    held = read_text(json.dumps([{"operation": "PutMetricAlarm", "parameters": alarm}]), "c.json")
    assert any("metrics: cannot be honoured" in one for one in refused(held))


def test_calls_of_boto3_are_checked_by_their_shapes() -> None:
    group = {"AutoScalingGroupName": "g", "MinSize": 1, "MaxSize": 9, "MixedInstancesPolicy": {}}
    pair = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}, "TargetValue": 50}
    policy = {"AutoScalingGroupName": "g", "PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    calls = [
        {"service": "autoscaling", "operation": "CreateAutoScalingGroup", "parameters": group},
        {"operation": "PutScalingPolicy", "parameters": {**policy, "TargetTrackingConfiguration": pair}},
        {"operation": "DescribePolicies", "parameters": {}},
    ]
    del group["MixedInstancesPolicy"]
    found = read_text(json.dumps(calls, indent=1), "c.json").check()
    assert found.policy("p").extra == {"predefined": True}
    assert "decides neither" in found.ignored[0].reason
    calls[1]["parameters"]["PolicyNme"] = "q"  # type: ignore[index]
    messages = refused(read_text(json.dumps(calls, indent=1), "c.json"))
    assert messages == ["c.json:23: PutScalingPolicy: PolicyNme: there is no such field; did you mean PolicyName?"]


# Files


def test_formats_are_told_by_content_too() -> None:
    assert read_text(samples.HAPROXY, "lb.conf").pools[0].name == "ring"
    assert read_text("upstream u { server a:80; }", "x").pools[0].name == "u"
    with pytest.raises(FormatError, match="x:1: not told what it is"):
        read_text("hello", "x")
    with pytest.raises(FormatError, match="one of nginx"):
        read_text("", "x", format="toml")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read(tmp_path / "none.tf")
    broken = tmp_path / "b.yaml"
    broken.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(FormatError, match=r"b\.yaml:2: not UTF-8"):
        read(broken)


@pytest.mark.parametrize(
    ("module", "text", "name", "extra"),
    [
        ("crossplane", "upstream u { server a:80; }", "a.conf", "nginx"),
        ("hcl2", "a = 1", "a.tf", "terraform"),
        ("yaml", "a: 1", "a.yaml", "kubernetes"),
    ],
)
def test_a_parser_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, text: str, name: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"aibalance[{extra}]" in refused(read_text(text, name))[0]


# The reference files

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the reference files are not here")


@needs_shared
@pytest.mark.parametrize("name", ["nginx.conf", "alb.tf", "asg.tf", "hpa.yaml", "keda.yaml"])
def test_reference_files_import_as_they_are(name: str) -> None:
    found = read(SHARED / name).check()
    assert found.pools or found.policies
    if name == "keda.yaml":
        assert any(one.field.endswith("metricName") and one.where.endswith(":14") for one in found.ignored)


@needs_shared
def test_the_three_faults_of_the_reference() -> None:
    text = (SHARED / "mixed_instances.tf").read_text()
    assert refused(read_text(text, "m.tf")) == [
        "m.tf:1: mixed_instances_policy: stands outside of any resource; it belongs into a resource "
        "'aws_autoscaling_group'",
        "m.tf:4: mixed_instances_policy.instances_distribution.on_demand_percentage_above_base: there is no such field"
        "; did you mean on_demand_percentage_above_base_capacity?",
        "m.tf:7: mixed_instances_policy.launch_template.launch_template_specification: the field is needed",
    ]
    corrected = text.replace("above_base =", "above_base_capacity =").replace(
        "launch_template {", 'launch_template {\n    launch_template_specification { launch_template_id = "lt" }'
    )
    found = read_text(f"{GROUP}{corrected}}}", "m.tf").check()
    assert found.group("g").mixed == MixedInstancesPolicy(on_demand_base=2, on_demand_percent_above_base=20)
    assert [name for name, _ in found.group("g").instance_types] == ["g4dn.xlarge", "g4dn.2xlarge", "g5.xlarge"]
