"""The gallery's scenarios teach what their pages say, and the page shows the figures that come out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from benches import which_picker
from examples import cost_strategies, gallery, multi_cloud

from aibalance.capacity import PriceList
from aibalance.simulation import Comparison, compare

PAGE = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text(encoding="utf-8")
PICKERS = (Path(__file__).parents[2] / "docs" / "which-picker.md").read_text(encoding="utf-8")
FULL = bool(os.environ.get("AIBALANCE_FULL"))
QUICK = {"`JoinIdleQueue`, slots", "`Rendezvous(bounded_load=1.25)`, hot keys"}
LONG = {"multi-cloud", "everyday", "cost-strategies", "viral-spike"}


@pytest.mark.parametrize("name", gallery.TABLES)
def test_the_page_shows_what_comes_out(name: str) -> None:
    if name in LONG and not FULL:
        pytest.skip("takes long: AIBALANCE_FULL=1")
    table = "\n".join(gallery.TABLES[name]())
    assert table in PAGE


def test_the_page_has_every_table() -> None:
    heads = PAGE.count("|---|---|---|---|---|---|")
    assert heads >= len(gallery.TABLES)
    for name in gallery.TABLES:
        assert name.replace("-", "_") in PAGE.replace("-", "_").lower(), name


def test_every_scenario_says_what_it_teaches() -> None:
    scenarios = sorted(gallery.HERE.glob("*.toml"))
    assert len(scenarios) >= 8
    for path in scenarios:
        if path.stem not in {"viral-spike"}:  # whose page is docs/compare.md
            assert "# What it teaches:" in path.read_text(encoding="utf-8") or path.stem == "antagonists", path.name
        assert gallery.scenario(path.stem).balancers, path.name


def mean(comparison: Comparison, name: str, metric: str) -> float:
    (found,) = [one for one in comparison.reports if name in one.split(" + ")]
    return comparison.interval(found, metric).mean


def test_everyday_a_target_is_a_price_for_head_room() -> None:
    targets = ["target 95 %", "target 65 %", "target 30 %"]
    found = compare(gallery.scenario("everyday"), policies=targets, replications=1)
    late = [1 - mean(found, one, "within_slo") for one in targets]
    cost = [mean(found, one, "cost") for one in targets]
    assert late[0] > 4 * late[1] > 8 * late[2]
    assert cost[0] < cost[1] < cost[2]
    assert cost[2] > 2 * cost[1]


def test_viral_spike_a_plan_for_the_day_beats_tracking() -> None:
    found = compare(
        gallery.scenario("viral-spike"),
        pickers=["least request"],
        policies=["tracking and surge", "tracking"],
        replications=2,
    )
    assert mean(found, "tracking and surge", "within_slo") > 0.75
    assert mean(found, "tracking", "within_slo") < 0.15


def test_cost_strategies_prices_are_arithmetic_and_availability_is_the_market() -> None:
    # Monday to Wednesday, with the hours in which spot is short.
    dear, cheap = (cost_strategies.run(name, days=3) for name in ("all on demand", "all spot"))
    assert dear.cost_per_month == pytest.approx(26 * 0.526 * 730, rel=0.001)
    assert 0.33 < cheap.cost / dear.cost < 0.351
    assert dear.all.served == dear.all.requests
    assert 0.9 < cheap.all.served / cheap.all.requests < 0.99
    assert cheap.details["interruptions"] >= 15
    assert 0.989 < cost_strategies.needed() < 0.991


def test_multi_cloud_dns_costs_what_arithmetic_says() -> None:
    expected = 20 * (30 + 60 / 2)
    found = multi_cloud.run("hot: 5 servers").details
    assert found["unreachable"] == pytest.approx(expected, rel=0.1)
    assert found["lost_writes"] == pytest.approx(20 * 5 * 0.1, rel=0.3)


def test_prices_of_the_gallery_are_the_list_s() -> None:
    prices = PriceList.load()
    at = ("aws", "us-east-1", "g4dn.xlarge")
    groups = gallery.scenario("cost-strategies").groups
    offered = {(one.market, one.price) for group in groups for one in group.offers}
    assert offered == {("on_demand", prices.on_demand(*at)), ("spot", prices.spot(*at))}
    clouds = gallery.scenario("multi-cloud")
    assert clouds.fleet.types[0].price_per_hour == prices.on_demand(*at)
    for one in clouds.failovers:
        assert one.egress_per_gb == {cloud: prices.egress_per_gb(cloud) for cloud in ("aws", "gcp")}


@pytest.mark.parametrize("claim", which_picker.CLAIMS)
def test_each_claim_about_pickers_has_its_figure(claim: str) -> None:
    if claim not in QUICK and not FULL:
        pytest.skip("takes long: AIBALANCE_FULL=1")
    what, figures = which_picker.CLAIMS[claim]()
    assert f"| {claim} | {what} | {figures} |" in PICKERS


def test_no_claim_is_without_a_figure() -> None:
    advice = PICKERS[: PICKERS.index("## Does it show?")]
    # Each picker of the first table, but for what recordings, replays and your own code show.
    named = set(re.findall(r"`(\w+)(?:\(|`)", "\n".join(re.findall(r"^\|[^|]*\|([^|]*)\|", advice, re.MULTILINE))))
    shown = {name for claim in which_picker.CLAIMS for name in re.findall(r"`(\w+)", claim)}
    assert named - {"PrefixAware", "CustomPicker", "max_inflight"} == shown
