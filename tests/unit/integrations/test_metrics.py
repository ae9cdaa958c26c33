"""The Prometheus collector and the OpenTelemetry instruments, read by Prometheus's parser and OpenTelemetry's SDK."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest

from aibalance import (
    CircuitBreaker,
    ConfigError,
    Endpoint,
    LeastRequest,
    MetricError,
    OutlierDetection,
    Pool,
    RoundRobin,
    TargetTracking,
    WaitQueue,
)
from aibalance.autoscaling import Policy, ProportionalScaling
from aibalance.integrations._meters import FAMILIES
from aibalance.integrations.opentelemetry import instrument
from aibalance.integrations.prometheus import AibalanceCollector, WatchedPolicy, dashboard


def fleet() -> dict[str, Any]:
    """A pool with something to say, and the rest."""
    pool = Pool(
        [Endpoint("10.0.0.1:80", weight=2), "[::1]:81", Endpoint("unix", id='odd one\n"')],
        passive=OutlierDetection(consecutive_5xx=1, max_ejection_percent=40),
        circuit_breaker=CircuitBreaker(),
    )
    picker = LeastRequest(pool, full_scan=True, ties="first")
    picker.acquire(subset=["10.0.0.1:80"]).release(latency=0.25)
    picker.acquire(subset=["[::1]:81"]).release(status=500)
    pool.set_health('odd one\n"', "degraded")
    pool.observe('odd one\n"', queue=4, kv_cache=0.5)
    policy = WatchedPolicy(ProportionalScaling(metric="cpu", target=50, max_capacity=6))
    policy.recommend({"current": 4, "metrics": {"cpu": 100.0}}, now=0.0)
    return {
        "pools": {"gpu": pool},
        "pickers": {"main": picker},
        "queues": {"line": WaitQueue(picker)},
        "policies": {"web": policy},
    }


def test_prometheus_reads_what_the_collector_shows() -> None:
    client = pytest.importorskip("prometheus_client")
    parser = pytest.importorskip("prometheus_client.parser")
    registry = client.CollectorRegistry()
    shown = fleet()
    collector = AibalanceCollector(**shown)
    registry.register(collector)
    lease = shown["pickers"]["main"].acquire(subset=["10.0.0.1:80"])
    text = client.generate_latest(registry).decode()
    families = {f.name: f for f in parser.text_string_to_metric_families(text)}
    values = {(s.name, *sorted(s.labels.values())): s.value for f in families.values() for s in f.samples}
    assert values["aibalance_endpoint_inflight", "10.0.0.1:80", "gpu"] == 1
    assert values["aibalance_endpoint_picks_total", "10.0.0.1:80", "gpu"] == 2
    assert values["aibalance_endpoint_releases_total", "10.0.0.1:80", "gpu", "successes"] == 1
    assert values["aibalance_endpoint_releases_total", "[::1]:81", "failures", "gpu"] == 1
    assert values["aibalance_endpoint_ejected", "[::1]:81", "gpu"] == 1
    assert values["aibalance_endpoint_eligible", "[::1]:81", "gpu"] == 0
    assert values["aibalance_endpoint_health", "degraded", "gpu", 'odd one\n"'] == 1
    assert values["aibalance_endpoint_reported", "gpu", "kv_cache", 'odd one\n"'] == 0.5
    assert values["aibalance_endpoint_load", "gpu", 'odd one\n"'] == 4
    assert values["aibalance_endpoint_breaker", "10.0.0.1:80", "closed", "gpu"] == 1
    assert values["aibalance_picker_info", "LeastRequest", "main"] == 1
    assert values["aibalance_queue_waiting", "line"] == 0
    assert values["aibalance_policy_desired", "web"] == 6
    assert values["aibalance_policy_current", "web"] == 4
    assert values["aibalance_policy_metric", "cpu", "web"] == 100
    assert values["aibalance_policy_decisions_total", "scale_out", "web"] == 1
    assert values["aibalance_policy_limited_total", "max_capacity", "web"] == 1
    assert families["aibalance_endpoint_picks"].type == "counter"
    assert families["aibalance_endpoint_inflight"].type == "gauge"
    # The picker's pool is shown once, under the name that it has.
    assert {k[1:] for k in values if k[0] == "aibalance_endpoint_weight"} == {
        ("10.0.0.1:80", "gpu"),
        ("[::1]:81", "gpu"),
        ("gpu", 'odd one\n"'),
    }
    lease.release()
    assert collector.describe() == []
    assert "gpu" in repr(collector)


def test_a_measured_latency_is_in_seconds() -> None:
    client = pytest.importorskip("prometheus_client")
    from aibalance import PeakEwma

    picker = PeakEwma(["a:1"])
    registry = client.CollectorRegistry()
    registry.register(AibalanceCollector(pickers={"p": picker}))
    picker.acquire().release(latency=0.25)
    value = registry.get_sample_value("aibalance_endpoint_latency_seconds", {"pool": "p", "endpoint": "a:1"})
    assert value == pytest.approx(0.25)


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are() -> None:
    board = json.loads(dashboard())
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    expressions += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    asked = {name for e in expressions for name in re.findall(r"aibalance_\w+", e)}
    names = {}
    for family in FAMILIES.values():
        stem = "aibalance_" + family.name.replace(".", "_")
        names[stem + ("_total" if family.kind == "counter" else "_seconds" if family.unit == "s" else "")] = family
    assert len(asked) >= 12
    assert asked <= set(names)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 12
    for panel in board["panels"]:
        for target in panel["targets"]:
            (family, *_) = [names[n] for n in re.findall(r"aibalance_\w+", target["expr"])]
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in family.labels, f"{panel['title']}: {label}"
            for label in re.findall(r"[{,](\w+)=", target["expr"]):
                assert label in family.labels


def test_opentelemetry_reads_the_instruments() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    readers = [export.InMemoryMetricReader(), export.InMemoryMetricReader()]
    provider = sdk.MeterProvider(metric_readers=readers)
    shown = fleet()
    names = instrument(provider, **shown)
    assert len(names) == len(set(names)) == len(FAMILIES)
    for reader in readers:
        for inflight in (0, 1):
            leases = [shown["pickers"]["main"].acquire(subset=["10.0.0.1:80"]) for _ in range(inflight)]
            data = reader.get_metrics_data()
            (scope,) = data.resource_metrics[0].scope_metrics
            assert scope.scope.name == "aibalance"
            metrics = {m.name: m for m in scope.metrics}
            points = {
                (name, p.attributes.get("aibalance.endpoint"), *(p.attributes.get("aibalance.outcome", "").split())): p
                for name, m in metrics.items()
                for p in m.data.data_points
            }
            point = points["http.client.active_requests", "10.0.0.1:80"]
            assert point.value == inflight
            assert dict(point.attributes) == {
                "aibalance.pool": "gpu",
                "aibalance.endpoint": "10.0.0.1:80",
                "server.address": "10.0.0.1",
                "server.port": 80,
            }
            assert points["http.client.active_requests", "[::1]:81"].attributes["server.address"] == "::1"
            assert points["aibalance.endpoint.releases", "[::1]:81", "failures"].value == 1
            assert points["aibalance.policy.desired", None].value == 6
            assert metrics["aibalance.endpoint.picks"].unit == "{request}"
            assert metrics["aibalance.endpoint.picks"].data.is_monotonic
            assert not metrics["http.client.active_requests"].data.is_monotonic
            for lease in leases:
                lease.release()
    provider.shutdown()


def test_only_what_there_is_gets_instruments() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    names = instrument(sdk.MeterProvider(), policies={"p": fleet()["policies"]["web"]})
    assert names
    assert all(name.startswith("aibalance.policy.") for name in names)


def test_a_watched_policy_decides_as_its_own() -> None:
    own = TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=9)
    watched = WatchedPolicy(TargetTracking(metric="cpu", target=50, min_capacity=1, max_capacity=9))
    assert isinstance(watched, Policy)
    for at, cpu in enumerate((100.0, 20.0, None, 50.0)):
        asked = {"current": 4, "metrics": {"cpu": cpu}}
        assert watched.recommend(asked, now=60.0 * at) == own.recommend(asked, now=60.0 * at)
    assert sum(watched.decisions.values()) == 4
    assert watched.state() == own.state()
    watched.restore(own.state())
    assert watched.last is not None
    watched.rejected(watched.last)
    watched.record("cpu", 1.0, at=300.0)
    with pytest.raises(MetricError):
        watched.recommend({"current": 4, "metrics": {"cpu": float("nan")}}, now=300.0)
    assert watched.errors == 1
    copy = pickle.loads(pickle.dumps(watched))
    assert (repr(copy), copy.decisions) == (repr(watched), {})
    with pytest.raises(ConfigError, match="policy: 'x'"):
        WatchedPolicy("x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pools": [1]}, "pools: "),
        ({"pools": {"": Pool(["a"])}}, "pools: ''"),
        ({"pools": {"a": RoundRobin(["a"])}}, "pools"),
        ({"pickers": {"a": Pool(["a"])}}, "pickers"),
        ({"pools": {"a": Pool(["a"])}, "pickers": {"a": RoundRobin(["a"])}}, "pickers: 'a'"),
        ({"queues": {"a": 1}}, "queues"),
        ({"policies": {"a": TargetTracking(metric="c", target=1, min_capacity=1, max_capacity=2)}}, "policies"),
    ],
)
def test_what_cannot_be_shown(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AibalanceCollector(**options)
