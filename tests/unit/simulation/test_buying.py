"""Fleets that a scenario file buys: groups with spot and warm pools, two clouds, what a plan assumes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError
from aibalance.capacity import AutoScalingGroup, MixedInstancesPolicy, Offer
from aibalance.simulation import (
    CloudFailover,
    FailoverSpec,
    GroupScaling,
    GroupSpec,
    Report,
    Scenario,
    SpotTerms,
    WarmPoolTerms,
    compare,
    plan,
    simulate,
)
from aibalance.simulation._plan import prepare

HEAD = """\
name = "bought"
duration_s = 1800
slo_s = 5
[traffic]
kind = "poisson"
rate_rps = 5
[service]
kind = "exponential"
mean_s = 1
[[balancers]]
picker = "LeastRequest"
"""
GROUP = (
    HEAD
    + """\
[fleet]
min = 2
max = 10
initial = 10
queue_limit = 5
load_s = 30
decision_interval_s = 30
[[fleet.types]]
name = "g5"
[[groups]]
launch_time = 60
drain_time = 60
interruptions_per_hour = 0
mixed = { on_demand_base = 2, on_demand_percent_above_base = 0 }
[[groups.offers]]
type = "g5"
zone = "a"
price = 1.0
[[groups.offers]]
type = "g5"
zone = "a"
price = 0.4
market = "spot"
[[groups.episodes]]
start_s = 600
end_s = 1200
"""
)
CLOUDS = (
    HEAD
    + """\
[fleet]
min = 20
[[fleet.types]]
name = "aws/g5"
[[fleet.types]]
name = "gcp/g2"
[[failovers]]
primary = "aws"
secondary = "gcp"
start_s = 300
end_s = 900
dns_ttl_s = 60
write_share = 0.5
replication_lag_s = 10
response_gb = 0.01
egress_per_gb = { aws = 0.09, gcp = 0.12 }
"""
)


def load(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return Scenario.load(path)


def test_a_group_buys_the_fleet_as_in_python(tmp_path: Path) -> None:
    scenario = load(tmp_path, GROUP)
    report = simulate(scenario)
    spec = scenario.groups[0]
    made: list[GroupScaling] = []

    def policy() -> GroupScaling:
        offers = [
            Offer(type="g5", zone="a", price=1.0),
            Offer(type="g5", zone="a", price=0.4, market="spot"),
        ]
        mixed = MixedInstancesPolicy(on_demand_base=2, on_demand_percent_above_base=0)
        group = AutoScalingGroup(
            offers=offers, min_size=2, max_size=10, desired=10, mixed=mixed, launch_time=60, load_time=30, drain_time=60
        )
        made.append(GroupScaling(group=group, every_s=30, episodes=spec.episodes))
        return made[-1]

    plain = scenario.replace(groups=(), fleet=spec.fleet(scenario.fleet, 10))
    other = simulate(plain, policy=policy)
    assert report.all == other.all
    assert report.details["interruptions"] == made[0].interrupted == 8
    assert report.details["spot_hours"] > 0
    # What the object knows ends with its last look.
    assert report.cost == report.details["group_cost"] == pytest.approx(made[0].cost, rel=0.01)
    assert other.cost == 0


def figures(report: Report) -> tuple[Any, ...]:
    return (report.all, report.cost, report.details.get("interruptions"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("launch_time = 60", "launch_time = 300"),
        ("launch_time = 60", "launch_time = 60\nload_time = 200"),
        ("launch_time = 60", "launch_time = 60\nwarmup = 200"),
        ("drain_time = 60", "drain_time = 100"),
        ("drain_time = 60", "drain_time = 60\nnotice_s = 5"),
        ("drain_time = 60", "drain_time = 60\nlook_s = 30"),
        ("interruptions_per_hour = 0", "interruptions_per_hour = 3"),
        ("on_demand_base = 2", "on_demand_base = 5"),
        ("on_demand_base = 2", "on_demand_fallback = true, on_demand_base = 2"),
        ("price = 0.4", "price = 0.5"),
        ("price = 0.4", "price = 0.4\ndepth = 3"),
        ("end_s = 1200", "end_s = 1500"),
        ("end_s = 1200", "end_s = 1200\nreclaim = 0.5"),
        ("end_s = 1200", "end_s = 1200\ndepth = 4"),
        ("load_s = 30", "load_s = 300"),
        ("[[groups.episodes]]\n", "[[groups.refreshes]]\nat_s = 60\nmin_healthy = 50\n[[groups.episodes]]\n"),
    ],
)
def test_each_key_alone_changes_the_run(tmp_path: Path, old: str, new: str) -> None:
    assert GROUP.count(old) == 1
    plain = simulate(load(tmp_path, GROUP))
    other = simulate(load(tmp_path, GROUP.replace(old, new)))
    assert figures(other) != figures(plain)


TWO = (
    HEAD
    + """\
[fleet]
min = 2
max = 10
[[fleet.types]]
name = "g5"
[[policies]]
policy = "Timetable"
options = { points = [[0, 3], [300, 8], [900, 3]] }
[[groups]]
launch_time = 60
offers = [
  { type = "g5", zone = "a", price = 1.0, depth = 4 },
  { type = "g6", zone = "b", price = 2.0, depth = 2 },
  { type = "g7", zone = "a", price = 3.0 },
]
"""
)


@pytest.mark.parametrize(
    "key",
    [
        'termination_policies = ["newest_instance"]',
        'zone_distribution = "balanced_only"',
        "protect_new = true",
        "terminate_time = 60",
        "stop_time = 60",
    ],
)
def test_each_key_of_a_group_in_two_zones_alone_changes_the_run(tmp_path: Path, key: str) -> None:
    told = TWO.replace("launch_time", 'termination_policies = ["oldest_instance"]\nlaunch_time')
    plain = simulate(load(tmp_path, told if "policies" in key else TWO))
    assert figures(plain) != figures(simulate(load(tmp_path, TWO.replace("launch_time", f"{key}\nlaunch_time"))))


def test_a_warm_pool_is_quicker_than_none(tmp_path: Path) -> None:
    rises = GROUP.replace("initial = 10", "initial = 2").replace("mixed = {", "# {")
    rises = rises.replace(
        '[[groups.offers]]\ntype = "g5"\nzone = "a"\nprice = 0.4\nmarket = "spot"\n[[groups.episodes]]\nstart_s = 600\n'
        "end_s = 1200\n",
        '[[policies]]\npolicy = "Timetable"\noptions = { points = [[0, 2], [600, 10]] }\n',
    )
    cold = simulate(load(tmp_path, rises))
    pool = '[[policies]]\npolicy = "Timetable"\n'
    warm = simulate(
        load(
            tmp_path,
            rises.replace("launch_time = 60", "launch_time = 60\nstart_time = 5").replace(
                pool, f"[groups.warm_pool]\nreuse_on_scale_in = true\n{pool}"
            ),
        )
    )
    assert warm.all.within_slo > cold.all.within_slo
    assert cold.servers_peak == warm.servers_peak == 10


def test_replications_have_interruptions_of_their_own(tmp_path: Path) -> None:
    scenario = load(tmp_path, GROUP.replace("interruptions_per_hour = 0", "interruptions_per_hour = 2"))
    found = compare(scenario, replications=3)
    counts = [one.details["interruptions"] for one in found.reports["LeastRequest"]]
    assert len(set(counts)) > 1
    assert simulate(scenario, seed=1).details["interruptions"] == counts[1]


def test_policies_name_their_group(tmp_path: Path) -> None:
    second = GROUP[GROUP.index("[[groups]]") :]
    both = GROUP.replace("[[groups]]", '[[groups]]\nname = "a"') + second.replace(
        "[[groups]]", '[[groups]]\nname = "b"'
    ).replace("on_demand_base = 2", "on_demand_base = 10")
    named = '[[policies]]\nname = "in a"\npolicy = "Fixed"\ngroup = "a"\n'
    named += '[[policies]]\nname = "in b"\npolicy = "Fixed"\ngroup = "b"\noptions = { servers = 9 }\n'
    named += (
        '[[policies]]\nname = "tracks"\npolicy = "TargetTracking"\nmetric = "utilization"\ntarget = 0.5\ngroup = "b"\n'
    )
    scenario = load(tmp_path, both + named)
    found = {one.name: simulate(scenario, policy=one.name) for one in scenario.policies}
    assert found["in a"].details["spot_hours"] > 0 == found["in b"].details["spot_hours"]
    assert (found["in b"].servers_peak, found["in a"].servers_peak) == (9, 10)
    assert found["tracks"].decisions > 10
    with pytest.raises(
        ConfigError, match=r"policies\.group: missing; there are several \[\[groups\]\], say which of a, b"
    ):
        simulate(scenario, policy="Fixed")
    with pytest.raises(FormatError, match=r"line \d+: policies\[0\].group: missing"):
        load(tmp_path, both + named.replace('group = "a"\n', ""))
    with pytest.raises(FormatError, match=r"policies\[0\].group: 'c' is not allowed; expected one of a, b"):
        load(tmp_path, both + named.replace('group = "a"', 'group = "c"'))

    class Nine:
        def recommend(self, seen: Any, /, *, now: float) -> Any:
            return type("R", (), {"desired": 9})

    one = load(tmp_path, GROUP)
    assert simulate(one, policy=Nine()).details["group_cost"] > 0
    assert simulate(one, policy=Nine).details["group_cost"] > 0
    group = one.groups[0].scaling(one.fleet, 10, None, 0)
    with pytest.raises(ConfigError, match="no GroupScaling"):
        simulate(one, policy=group)


def test_two_clouds_as_in_python(tmp_path: Path) -> None:
    scenario = load(tmp_path, CLOUDS)
    report = simulate(scenario)
    given = {one.name: getattr(scenario.failovers[0], one.name) for one in dataclasses.fields(FailoverSpec)}
    failover = CloudFailover(**{name: value for name, value in given.items() if name != "name"})
    other = simulate(scenario.replace(failovers=()), picker=failover)
    assert report.all == other.all
    counts = failover.runs[-1]
    assert report.details["unreachable"] == counts.unreachable == report.all.rejected > 200
    assert report.details["lost_writes"] == counts.lost_writes > 0
    assert report.details["requests_gcp"] == counts.requests["gcp"]
    assert report.cost == pytest.approx(other.cost + counts.egress_usd)
    assert report.picker == "LeastRequest"
    # And every balancer of a comparison goes over both.
    found = compare(
        scenario,
        pickers=["RoundRobin", "LeastRequest", lambda pool: __import__("aibalance").First(pool)],
        replications=1,
    )
    assert all(of[0].details["unreachable"] == counts.unreachable for of in found.reports.values())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dns_ttl_s = 60", "dns_ttl_s = 200"),
        ("dns_ttl_s = 60", "dns_ttl_s = 60\ndetection_s = 90"),
        ("dns_ttl_s = 60", "dns_ttl_s = 60\nfailback_s = 10"),
        ("replication_lag_s = 10", "replication_lag_s = 60"),
        ("write_share = 0.5", "write_share = 0.1"),
        ("response_gb = 0.01", "response_gb = 0.02"),
        ("aws = 0.09", "aws = 0.2"),
        ("end_s = 900", "end_s = 1200"),
    ],
)
def test_each_key_of_clouds_alone_changes_the_run(tmp_path: Path, old: str, new: str) -> None:
    plain, other = simulate(load(tmp_path, CLOUDS)), simulate(load(tmp_path, CLOUDS.replace(old, new)))
    assert (plain.all, plain.details, plain.cost) != (other.all, other.details, other.cost)


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (GROUP, "launch_time = 60\n", "", "groups[0].launch_time: missing"),
        (GROUP, "launch_time = 60", "lanch_time = 60", "groups[0].lanch_time: unknown key"),
        (GROUP, "launch_time = 60", "launch_time = -1", "groups[0].launch_time: -1"),
        (GROUP, "drain_time = 60", "drain_time = 60\nlaunch_retry = 60", "groups[0].launch_retry: unknown key"),
        (GROUP, "drain_time = 60", "drain_time = 60\nstart_time = 60", "groups[0].start_time: 60"),
        (GROUP, "drain_time = 60", "drain_time = true", "groups[0].drain_time: True"),
        (GROUP, "price = 0.4", "price = -1", "groups[0].offers[1].price: -1"),
        (GROUP, "price = 0.4\n", "", "groups[0].offers[1].price: missing"),
        (GROUP, 'market = "spot"', 'market = "spott"', "groups[0].offers[1].market: 'spott'"),
        (GROUP, 'market = "spot"', 'markt = "spot"', "groups[0].offers[1].markt: unknown key"),
        (GROUP, "on_demand_base = 2", "on_demand_base = -2", "groups[0].mixed.on_demand_base: -2"),
        (GROUP, "mixed = {", "mixed = 3 # {", "groups[0].mixed: 3"),
        (GROUP, "end_s = 1200", "end_s = 300", "groups[0].episodes[0].end_s: 300"),
        (GROUP, "interruptions_per_hour = 0", "interruptions_per_hour = inf", "groups[0].interruptions_per_hour: inf"),
        (GROUP, "[[groups.episodes]]", "[[groups.refreshes]]\nat_s = -1\n[[groups.episodes]]", "refreshes[0].at_s: -1"),
        (GROUP, "[[groups.episodes]]", "[groups.warm_pool]\n[[groups.episodes]]", "groups[0].warm_pool"),
        (GROUP, 'name = "g5"', 'name = "g5"\nprice_per_hour = 1', "fleet.types[0].price_per_hour: 1"),
        (GROUP, 'name = "g5"', 'name = "g5"\n[[fleet.types]]\nname = "x"', "fleet.types[1].name: 'x'"),
        (GROUP, "[[groups]]", '[[policies]]\npolicy = "Fixed"\ngroup = "x"\n[[groups]]', "policies[0].group: 'x'"),
        (CLOUDS, "end_s = 900", "end_s = 200", "failovers[0].end_s: 200"),
        (CLOUDS, 'primary = "aws"', 'primary = "azure"', "failovers[0].egress_per_gb.azure: missing"),
        (CLOUDS, 'name = "aws/g5"', 'name = "g5"', "failovers[0].primary: 'aws'"),
        (CLOUDS, "gcp = 0.12", "gcp = -1", "failovers[0].egress_per_gb.gcp: -1"),
        (CLOUDS, "end_s = 900\n", "", "failovers[0].end_s: missing"),
        (CLOUDS, '"LeastRequest"', '"LeastRequest"\nfailover = "x"', "balancers[0].failover: 'x'"),
        (CLOUDS, '"LeastRequest"', '"SharedQueue"', "balancers[0].picker: 'SharedQueue'"),
        (CLOUDS, "[fleet]", "[plan]\nsopt = {}\n[fleet]", "plan.sopt: unknown key"),
        (CLOUDS, "[fleet]", "[plan.spot]\ndiscount = 2\n[fleet]", "plan.spot.discount: 2"),
        (CLOUDS, "[fleet]", '[[policies]]\npolicy = "Timetable"\n[fleet]', "policies[0].options.points: missing"),
        (
            CLOUDS,
            "[fleet]",
            '[[policies]]\npolicy = "Timetable"\noptions = { points = [[5, 1]] }\n[fleet]',
            "policies[0].options.points[0]: [5, 1]",
        ),
    ],
)
def test_mistakes_name_file_line_and_field(tmp_path: Path, text: str, old: str, new: str, says: str) -> None:
    assert text.count(old) >= 1
    with pytest.raises(FormatError) as raised:
        load(tmp_path, text.replace(old, new, 1))
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'scenario.toml'}, line ")
    assert says in message
    field = says.split(":")[0].split(".")[-1]
    line = int(message.split("line ")[1].split(":")[0])
    shown = (tmp_path / "scenario.toml").read_text().splitlines()[line - 1]
    missing = "missing" in says
    assert missing or field.partition("[")[0] in shown or shown.startswith("["), (message, shown)


def test_a_plan_takes_its_terms_from_the_file(tmp_path: Path) -> None:
    text = HEAD + '[fleet]\nmax = 12\nload_s = 60\n[[fleet.types]]\nname = "a"\nprice_per_hour = 1\n'
    terms = "[plan.spot]\ndiscount = 0.5\nobtainability = 1\n[plan.warm_pool]\nprice_per_hour = 0.2\nstart_s = 3\n"
    scenario = load(tmp_path, text + terms)
    assert scenario.spot == SpotTerms(discount=0.5, obtainability=1)
    assert scenario.warm_pool == WarmPoolTerms(price_per_hour=0.2, start_s=3)

    def space(of: Scenario, **given: Any) -> Any:
        asked: dict[str, Any] = {
            "slo": "p95 < 6s",
            "budget": None,
            "spot": "scenario",
            "warm_pool": "scenario",
            "max_servers": None,
            "spikes_per_month": 1.0,
            "trials": 1,
            "seed": None,
            "workers": 1,
            "ray": None,
            "progress": None,
        }
        return prepare(of, **{**asked, **given}).space

    assert space(scenario).spot == scenario.spot
    assert space(scenario).pool == scenario.warm_pool
    assert space(scenario, spot=None).spot is None
    assert space(load(tmp_path, text)).spot == SpotTerms()
    with pytest.raises(ConfigError, match=r"groups\[0\].name: a plan buys a fleet of its own"):
        plan(load(tmp_path, GROUP), slo="p95 < 6s")


@pytest.mark.parametrize(
    ("name", "given"), [("offers", 3), ("offers", "ab"), ("episodes", None), ("refreshes", {}), ("options", 3)]
)
def test_a_spec_of_a_group_takes_lists_and_tables(name: str, given: Any) -> None:
    options: dict[str, Any] = {"offers": [Offer(type="a", zone="a", price=1.0)], "options": {"launch_time": 1}}
    with pytest.raises(ConfigError, match=rf"groups\.{name}: .* is not allowed; expected a (list|table)"):
        GroupSpec(**{**options, name: given})


def test_what_a_spec_cannot_be() -> None:
    offers = [Offer(type="g5", zone="a", price=1.0)]
    with pytest.raises(ConfigError, match=r"groups\.max_size: unknown key"):
        GroupSpec(offers=offers, options={"launch_time": 1, "max_size": 3})
    with pytest.raises(ConfigError, match=r"groups\.look_s"):
        GroupSpec(offers=offers, options={"launch_time": 1}, look_s=0)


@pytest.mark.parametrize("servers", [1, 11])
def test_a_timetable_stays_within_the_fleet(tmp_path: Path, servers: int) -> None:
    head = HEAD + "[fleet]\nmin = 2\nmax = 10\n[[fleet.types]]\nname = 'a'\n[[policies]]\npolicy = 'Timetable'\n"
    load(tmp_path, head + "options = { points = [[0, 2], [60, 10]] }\n")
    with pytest.raises(FormatError, match=rf"line 19: policies\[0\].options.points\[1\]: \[60.0, {servers}\] is not"):
        load(tmp_path, head + f"options = {{ points = [[0, 2], [60, {servers}]] }}\n")
