"""Random configurations come back the same; broken ones never leave the error tree, and say where."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aibalance import AibalanceError, ConfigError
from aibalance.autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    KedaScaledObject,
    PodsMetric,
    RayServeAutoscaler,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
    Step,
    StepScaling,
    TargetTracking,
)
from aibalance.autoscaling.keda import Trigger
from aibalance.capacity import InstanceRefresh, MixedInstancesPolicy, WarmPool
from aibalance.formats import (
    GroupConfig,
    Imported,
    PickerConfig,
    PolicyConfig,
    PoolConfig,
    RouterConfig,
    ServerConfig,
    export,
    read_text,
    scenario,
)
from aibalance.formats._simulated import observed
from aibalance.routing import Rule
from aibalance.simulation import Fleet, PolicySpec, ServerType
from aibalance.simulation._drivers import build_policy

from ..unit.formats import samples

NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
PORTS = st.integers(1, 65535)
WEIGHTS = st.integers(1, 256)


def same(found: Imported, to: str, name: str, **more: Any) -> None:
    text = export(found, to, **more).text
    again = read_text(text, name).check()
    assert again.mapped() == found.mapped(), text


@st.composite
def nginx(draw: st.DrawFn) -> Imported:
    pools = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        method, picker = draw(
            st.sampled_from(
                [
                    ("", PickerConfig()),
                    ("least_conn", PickerConfig(name="LeastConnections")),
                    ("ip_hash", PickerConfig(name="IpHash", key="$remote_addr")),
                    ("hash", PickerConfig(name="ModuloHash", key="$uri$arg_x y")),
                    ("hash", PickerConfig(name="RingHash", options={"ring": "nginx"}, key="${uri};'\"")),
                    ("random", PickerConfig(name="WeightedRandom")),
                    ("random", PickerConfig(name="LeastRequest", options={"score": "before", "ties": "last_drawn"})),
                ]
            )
        )
        servers = []
        for port in draw(st.lists(PORTS, min_size=1, max_size=5, unique=True)):
            servers.append(
                ServerConfig(
                    address=f"10.0.0.1:{port}",
                    weight=draw(WEIGHTS),
                    max_fails=draw(st.integers(0, 5)),
                    fail_timeout=float(draw(st.integers(0, 4000))),
                    max_inflight=draw(st.none() | st.integers(1, 1000)),
                    down=draw(st.booleans()),
                    backup=method in ("", "least_conn") and draw(st.booleans()),
                )
            )
        pools.append(
            PoolConfig(name=name, servers=tuple(servers), picker=picker, failover="backup", panic_threshold=0.0)
        )
    rules = []
    for path in draw(st.lists(st.from_regex(r"/[a-z]{0,6}/?", fullmatch=True), max_size=4, unique=True)):
        modifier = draw(st.sampled_from(["", "= ", "^~ "]))
        rules.append(
            Rule(
                location=modifier + path,
                to=draw(st.sampled_from(pools)).name,
                connect_timeout=draw(st.none() | st.integers(1, 10**6).map(lambda n: n / 1000)),
                read_timeout=draw(st.none() | st.integers(1, 10**6).map(lambda n: n / 1000)),
                streaming=draw(st.booleans()),
            )
        )
    routers = (RouterConfig(name=f"listen {draw(PORTS)}", rules=tuple(rules)),) if rules else ()
    try:
        for router in routers:
            router.build()
    except ConfigError:
        assume(False)
    return Imported(pools=tuple(pools), routers=routers)


@given(nginx())
def test_nginx_comes_back(found: Imported) -> None:
    same(found, "nginx", "n.conf")


HAPROXY_PICKERS = st.one_of(
    st.sampled_from(
        [
            PickerConfig(options={"schedule": "fwrr"}),
            PickerConfig(options={"schedule": "static-rr"}),
            PickerConfig(name="LeastConnections", options={"variant": "haproxy"}),
            PickerConfig(name="First"),
            PickerConfig(name="SourceHash", key="src"),
            PickerConfig(name="SourceHash", options={"ring": "haproxy", "bounded_load": 1.25}, key="src"),
        ]
    ),
    st.integers(1, 9).map(lambda n: PickerConfig(name="WeightedRandom", options={"ring": "haproxy", "choices": n})),
    st.builds(
        lambda function, factor: PickerConfig(
            name="RingHash",
            options={"ring": "haproxy", "bounded_load": factor / 100, "avalanche": True, "hash": function},
            key="hdr(x-user)",
        ),
        st.sampled_from(["sdbm", "djb2", "wt6", "crc32"]),
        st.integers(100, 1000),
    ),
)


@st.composite
def haproxy(draw: st.DrawFn) -> Imported:
    pools = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        servers = [
            ServerConfig(
                address=f"10.0.0.1:{port}",
                id=f"s{place}",
                weight=draw(st.integers(0, 256)),
                max_inflight=draw(st.none() | st.integers(1, 1000)),
                hash_key=place,
                down=draw(st.booleans()),
                backup=draw(st.booleans()),
            )
            for place, port in enumerate(draw(st.lists(PORTS, min_size=1, max_size=5)), 1)
        ]
        pools.append(
            PoolConfig(
                name=name,
                servers=tuple(servers),
                picker=draw(HAPROXY_PICKERS),
                failover=draw(st.sampled_from(["backup", "first_backup"])),
                panic_threshold=0.0,
                connect_timeout=draw(st.none() | st.integers(1, 10**6).map(lambda n: n / 1000)),
            )
        )
    return Imported(pools=tuple(pools))


@given(haproxy())
def test_haproxy_comes_back(found: Imported) -> None:
    same(found, "haproxy", "haproxy.cfg")


@st.composite
def envoy(draw: st.DrawFn) -> Imported:
    pools = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        servers = [
            ServerConfig(
                address=f"10.0.0.{place}:{port}",
                weight=draw(WEIGHTS),
                down=draw(st.booleans()),
                zone="a" if place % 2 else "b",
                priority=0 if place < 3 else 1,
            )
            for place, port in enumerate(draw(st.lists(PORTS, max_size=5)), 1)
        ]
        # Endpoints are written locality by locality.
        servers.sort(key=lambda one: (one.priority, one.zone))
        picker = draw(
            st.sampled_from(
                [
                    PickerConfig(options={"schedule": "edf"}),
                    PickerConfig(name="RingHash", options={"min_size": 2048}, key="hash_policy"),
                    PickerConfig(name="Maglev", options={"bounded_load": 1.2}, key="hash_policy"),
                ]
            )
        )
        panic = draw(st.integers(0, 100)) / 100
        overflow = draw(st.integers(100, 300)) / 100
        pools.append(
            PoolConfig(
                name=name,
                servers=tuple(servers),
                picker=picker,
                panic_threshold=panic,
                overprovisioning_factor=overflow,
                connect_timeout=draw(st.none() | st.integers(1, 10**6).map(lambda n: n / 1000)),
            )
        )
    return Imported(pools=tuple(pools))


@given(envoy())
def test_envoy_comes_back(found: Imported) -> None:
    same(found, "envoy", "e.yaml")


RULES = st.builds(
    ScalingRules,
    stabilization_window=st.none() | st.integers(0, 3600),
    select_policy=st.sampled_from([None, "max", "min", "disabled"]),
    policies=st.none()
    | st.lists(
        st.builds(
            ScalingPolicy,
            kind=st.sampled_from(["pods", "percent"]),
            value=st.integers(1, 500),
            period=st.integers(1, 1800),
        ),
        min_size=1,
        max_size=3,
    ),
)
QUANTITIES = st.integers(1, 10**6).map(str) | st.integers(1, 10**6).map(lambda n: f"{n}m")


@st.composite
def policies(draw: st.DrawFn, kind: str) -> Imported:
    out = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)):
        low = draw(st.integers(1, 50))
        high = low + draw(st.integers(0, 500))
        extra: dict[str, Any] = {}
        given_: Any
        if kind == "hpa":
            metrics: list[Any] = [ResourceMetric("cpu", average_utilization=draw(st.integers(1, 100)))]
            metrics.append(PodsMetric("queue", average_value=draw(QUANTITIES)))
            metrics.append(ExternalMetric("lag", value=draw(QUANTITIES)))
            behavior = draw(st.none() | st.builds(Behavior, scale_up=st.none() | RULES, scale_down=st.none() | RULES))
            given_ = HorizontalPodAutoscaler(min_replicas=low, max_replicas=high, metrics=metrics, behavior=behavior)
            extra["scale_target"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        elif kind == "keda":
            trigger = Trigger(
                name="s0-prometheus",
                type="prometheus",
                threshold=draw(st.integers(1, 10**9)) / 4,
                activation_threshold=draw(st.integers(0, 99)) / 4,
                metric_name="prometheus",
            )
            given_ = KedaScaledObject(
                triggers=[trigger],
                min_replicas=low,
                max_replicas=high,
                cooldown_period=float(draw(st.integers(0, 9999))),
                name=name,
                target_name=name,
            )
            extra["scale_target"] = {"name": name}
            extra["triggers"] = [{"metadata": {"query": draw(st.text(st.characters(codec="ascii", min_codepoint=32)))}}]
        else:
            given_ = RayServeAutoscaler(
                min_replicas=low,
                max_replicas=high,
                target_ongoing_requests=draw(st.integers(1, 999)) / 4,
                upscale_delay=float(draw(st.integers(0, 999))),
            )
        out.append(PolicyConfig(name=name, target=name, policy=given_, extra=extra))
    return Imported(policies=tuple(out))


@pytest.mark.parametrize("kind", ["hpa", "keda", "ray-serve"])
@settings(max_examples=40)
@given(data=st.data())
def test_manifests_come_back(kind: str, data: st.DataObject) -> None:
    same(data.draw(policies(kind)), kind, "m.yaml")


@pytest.mark.parametrize("kind", ["hpa", "keda", "ray-serve"])
@settings(max_examples=25)
@given(data=st.data())
def test_policies_in_a_scenario_are_themselves(kind: str, data: st.DataObject) -> None:
    """What is read back from the scenario decides as what was imported: no field is lost on the way."""
    drawn = data.draw(policies(kind))
    extra = {"triggers": [{"metadata": {"query": "sum(queue)"}}]}
    found = Imported(policies=tuple(dataclasses.replace(one, extra=extra) for one in drawn.policies))
    read = tomllib.loads(scenario(found))
    fleet = Fleet(types=[ServerType(name="a")], **{name: read["fleet"][name] for name in ("min", "max", "initial")})
    made = {one["name"]: build_policy(PolicySpec(**one), fleet) for one in read["policies"] if "name" in one}
    assert set(made) == {one.name for one in found.policies}
    for config in found.policies:
        wanted = observed(config, lambda line: None)
        assert wanted is not None
        mine, its = (getattr(one, "scaled_object", one) for one in (made[config.name].policy, wanted[0]))
        assert mine == its
        assert made[config.name].metrics == wanted[1]


@st.composite
def aws(draw: st.DrawFn) -> Imported:
    low = draw(st.integers(0, 20))
    high = low + draw(st.integers(0, 50))
    bounds: dict[str, int] = {"min_capacity": low, "max_capacity": high}
    group = GroupConfig(
        name="g",
        min_size=low,
        max_size=high,
        desired=draw(st.none() | st.integers(low, high)),
        default_warmup=draw(st.none() | st.integers(0, 900).map(float)),
        default_cooldown=float(draw(st.integers(0, 900))),
        warm_pool=draw(
            st.none() | st.builds(WarmPool, min_size=st.integers(0, 9), max_prepared=st.none() | st.integers(0, 99))
        ),
        mixed=draw(
            st.none()
            | st.builds(
                MixedInstancesPolicy,
                on_demand_base=st.integers(0, 9),
                on_demand_percent_above_base=st.integers(0, 100),
                spot_pools=st.integers(1, 20),
            )
        ),
        refresh=draw(
            st.none()
            | st.builds(
                InstanceRefresh, min_healthy=st.integers(0, 100), warmup=st.none() | st.integers(0, 900).map(float)
            )
        ),
    )
    target = draw(st.integers(1, 10**6)) / 8
    seconds = float(draw(st.integers(0, 900)))
    tracking = TargetTracking(metric="m", target=target, warmup=seconds, disable_scale_in=draw(st.booleans()), **bounds)
    extra: dict[str, Any] = {"namespace": "n", "statistic": "Average"}
    warm = {"estimated_instance_warmup": int(seconds)}
    first = PolicyConfig(name="t", target="g", policy=tracking, extra={**warm, **extra})
    edge = draw(st.integers(1, 50))
    alarm = draw(st.integers(1, 9))
    step = StepScaling(
        metric="cpu",
        threshold=float(draw(st.integers(0, 100))),
        steps=[
            Step(lower=0.0, upper=float(edge), adjustment=draw(st.integers(0, 9))),
            Step(lower=float(edge), adjustment=draw(st.integers(1, 99))),
        ],
        alarm=(draw(st.integers(1, alarm)), alarm),
        warmup=seconds,
        **bounds,  # type: ignore[arg-type]
    )
    more = {"operator": "GreaterThanOrEqualToThreshold", **extra}
    second = PolicyConfig(name="s", target="g", policy=step, extra={**warm, **more})
    return Imported(groups=(group,), policies=(first, second))


@pytest.mark.parametrize(("to", "name"), [("terraform-aws", "m.tf.json"), ("boto3", "c.json")])
@settings(max_examples=40)
@given(data=st.data())
def test_aws_comes_back(to: str, name: str, data: st.DataObject) -> None:
    same(data.draw(aws()), to, name)


# What is broken

TEXTS = [
    ("n.conf", samples.NGINX + samples.PLUS, 60),
    ("haproxy.cfg", samples.HAPROXY, 150),
    ("e.yaml", samples.ENVOY, 40),
    ("h.yaml", samples.HPA + "---" + samples.KEDA + "---" + samples.KNATIVE, 40),
    ("r.yaml", samples.RAY, 60),
    ("m.tf", samples.TERRAFORM, 12),
]


@pytest.mark.parametrize(("name", "text", "examples"), TEXTS, ids=[one[0] for one in TEXTS])
def test_what_is_broken_stays_in_the_error_tree(name: str, text: str, examples: int) -> None:
    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(cut=st.integers(0, len(text)), flips=st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(0, 126))))
    def broken(cut: int, flips: list[tuple[int, int]]) -> None:
        letters = list(text)
        for at, letter in flips[:4]:
            letters[at] = chr(letter)
        told("".join(letters)[:cut] if cut % 3 else "".join(letters), name)

    broken()


def told(text: str, name: str) -> None:
    try:
        found = read_text(text, name)
    except AibalanceError as error:
        messages = [str(error)]
    else:
        messages = [str(one) for one in found.refused]
    for message in messages:
        assert re.match(rf"{re.escape(name)}:\d+: ", message), message


@pytest.mark.parametrize("to", ["terraform-aws", "boto3", "envoy-eds"])
def test_broken_json_stays_in_the_error_tree(to: str) -> None:
    source = samples.ENVOY if to == "envoy-eds" else samples.TERRAFORM
    written = export(read_text(source, "e.yaml" if to == "envoy-eds" else "m.tf"), to).text
    name = {"terraform-aws": "m.tf.json", "boto3": "c.json", "envoy-eds": "e.yaml"}[to]

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(cut=st.integers(0, len(written)), at=st.integers(0, len(written) - 1), letter=st.integers(0, 126))
    def broken(cut: int, at: int, letter: int) -> None:
        flipped = written[:at] + chr(letter) + written[at + 1 :]
        told(flipped if cut % 2 else flipped[:cut], name)

    broken()
