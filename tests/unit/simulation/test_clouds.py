"""Two clouds, one of which goes away; and server types from the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aibalance
from aibalance import ConfigError
from aibalance.capacity import PriceList
from aibalance.simulation import (
    CloudFailover,
    CloudRun,
    Fleet,
    LLMService,
    PoissonTraffic,
    Report,
    Scenario,
    ServerType,
    Service,
    TokenService,
    server_type,
    simulate,
)
from aibalance.traces import Trace

GIVEN: dict[str, Any] = {"primary": "aws", "secondary": "gcp", "start_s": 300, "end_s": 600}


def run(**options: Any) -> tuple[Report, CloudRun]:
    failover = CloudFailover(**{**GIVEN, **options})
    scenario = Scenario(
        name="outage",
        traffic=PoissonTraffic(rate_rps=20),
        service=Service("deterministic", value_s=0.2),
        duration_s=1200,
        slo_s=5,
        fleet=Fleet(types=[ServerType(name="aws/a"), ServerType(name="gcp/b")], min=20),
    )
    return simulate(scenario, picker=failover), failover.runs[-1]


def test_who_is_unreachable_for_how_long() -> None:
    for detection, ttl in ((30, 0), (30, 60), (0, 60), (60, 120)):
        report, found = run(detection_s=detection, dns_ttl_s=ttl)
        assert found.unreachable == report.all.rejected
        assert found.unreachable == pytest.approx(20 * (detection + ttl / 2), rel=0.12)
        assert sum(found.requests.values()) + found.unreachable == report.all.requests


def test_they_return_after_the_failback() -> None:
    # From 300 + 0 to 600 + failback everybody is at the other cloud.
    for failback in (0, 300):
        _, found = run(detection_s=0, dns_ttl_s=0, failback_s=failback)
        assert found.requests["gcp"] == pytest.approx(20 * (300 + failback), rel=0.1)
        assert found.unreachable == 0


def test_an_outage_that_nobody_noticed_changes_no_record() -> None:
    _, found = run(detection_s=300)
    assert found.requests["gcp"] == 0
    assert found.unreachable == pytest.approx(6000, rel=0.1)


def test_writes_that_were_not_copied_and_bytes_that_left() -> None:
    _, found = run(replication_lag_s=10, write_share=0.5)
    assert found.lost_writes == pytest.approx(20 * 10 * 0.5, rel=0.2)
    assert run()[1].lost_writes == 0
    _, found = run(response_gb=0.01, egress_per_gb={"aws": 0.09, "gcp": 0.12})
    paid = 0.01 * (0.09 * found.requests["aws"] + 0.12 * found.requests["gcp"])
    assert found.egress_usd == pytest.approx(paid)


def test_within_a_cloud_the_picker_given_chooses() -> None:
    first, _ = run(picker=aibalance.First)
    turns, _ = run(picker=aibalance.RoundRobin)
    # First crowds one server of each cloud: 4 s of work a second.
    assert first.all.p99_s > 10 * turns.all.p99_s


def test_each_client_is_late_in_its_own_way() -> None:
    failover = CloudFailover(**GIVEN, detection_s=30, dns_ttl_s=60)
    assert failover.cloud(329, 0.0) == "aws"
    assert failover.cloud(330, 0.0) == "gcp"
    assert failover.cloud(389, 1.0) == "aws"
    assert failover.cloud(390, 1.0) == "gcp"
    assert failover.cloud(900, 0.0) == "aws"
    assert failover.cloud(959, 1.0) == "gcp"
    assert repr(failover) == "CloudFailover(primary='aws', secondary='gcp', start_s=300, end_s=600)"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"secondary": "aws"}, "secondary"),
        ({"primary": ""}, "primary"),
        ({"end_s": 300}, "end_s"),
        ({"start_s": float("nan")}, "start_s"),
        ({"dns_ttl_s": -1}, "dns_ttl_s"),
        ({"write_share": 2}, "write_share"),
        ({"response_gb": 1}, "egress_per_gb.aws: missing"),
        ({"egress_per_gb": {"aws": -1}}, "egress_per_gb.aws"),
        ({"picker": 3}, "picker"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        CloudFailover(**{**GIVEN, **options})
    assert said in str(error.value)


def test_a_trace_leaves_servers_that_batch_as_they_are() -> None:
    times = np.array([0.0, 1.0])
    tokens = np.array([600, 700])
    trace = Trace("two", "made up", times, tokens, tokens, np.array([1, 2, 1, 3]), np.array([0, 2, 4]))
    chat = Scenario(
        name="chat",
        traffic=PoissonTraffic(rate_rps=1),
        service=LLMService(input_tokens=10, output_tokens=10, prefix_tokens=100, kv_tokens=9000, block_tokens=256),
        duration_s=10,
        slo_s=100,
        fleet=Fleet(types=[ServerType(name="a")]),
    )
    found = chat.with_trace(trace)
    assert found.service == LLMService(kv_tokens=9000, block_tokens=256)
    report = simulate(found, picker="RoundRobin")
    assert report.details["tokens_written"] == 1300
    assert report.details["prompt_tokens_reused"] == 256
    # Given, the linear model of [tokens] goes first.
    assert chat.replace(tokens=TokenService()).with_trace(trace).service == TokenService()


def test_server_types_of_the_table() -> None:
    assert server_type("g4dn.xlarge").speed == 1
    assert server_type("g4dn.xlarge").price_per_hour == 0.526
    assert server_type("g4dn.xlarge", market="spot").price_per_hour == 0.1845
    assert server_type("g6.xlarge", by="compute", price_per_hour=1).speed == pytest.approx(121 / 65, abs=1e-6)
    assert server_type("g6.xlarge", price_per_hour=1).speed == pytest.approx(300 / 320)
    assert server_type("g5.xlarge", relative_to="g5.8xlarge").speed == 1
    named = server_type("g5.xlarge", name="mine", weight=2, share=3, max=4, concurrency=8)
    assert (named.name, named.weight, named.share, named.max, named.concurrency) == ("mine", 2, 3, 4, 8)


def test_prices_of_ones_own() -> None:
    rows = {("gcp", "eu", "g6.xlarge"): {"on_demand": 2.5, "date": "2026-01-01", "source": "mine"}}
    prices = PriceList(rows, {})
    assert server_type("g6.xlarge", cloud="gcp", region="eu", prices=prices).price_per_hour == 2.5
    with pytest.raises(ConfigError, match="p4d"):
        server_type("p4d.24xlarge")


@pytest.mark.parametrize("options", [{"by": "hope"}, {"market": "grey"}, {"relative_to": "abacus"}, {"speed": -1}])
def test_types_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        server_type("g5.xlarge", **options)
    with pytest.raises(ConfigError, match="instance"):
        server_type("abacus")
