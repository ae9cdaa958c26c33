"""A group of instances behind a simulated fleet."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.capacity import AutoScalingGroup, MixedInstancesPolicy, Offer, WarmPool
from aibalance.simulation import (
    Fleet,
    GroupScaling,
    PoissonTraffic,
    Report,
    Scenario,
    ServerType,
    Service,
    SpotEpisode,
    compare,
    simulate,
)

SPOT = [Offer(type="g5", zone="a", price=1.0), Offer(type="g5", zone="a", price=0.4, market="spot")]
MIXED = MixedInstancesPolicy(on_demand_base=2, on_demand_percent_above_base=0)


def group(**options: Any) -> AutoScalingGroup:
    given: dict[str, Any] = {"offers": SPOT, "mixed": MIXED, "max_size": 10, "desired": 10, "launch_time": 60.0}
    return AutoScalingGroup(**{**given, "drain_time": 60.0, **options})


def scenario(initial: int = 10, **options: Any) -> Scenario:
    given: dict[str, Any] = {
        "name": "group",
        "traffic": PoissonTraffic(rate_rps=5),
        "service": Service("exponential", mean_s=1),
        "duration_s": 1800,
        "slo_s": 5,
        "fleet": Fleet(
            types=[ServerType(name="g5")], initial=initial, min=0, max=20, queue_limit=50, decision_interval_s=10
        ),
    }
    return Scenario(**{**given, **options})


def run(**options: Any) -> tuple[Report, GroupScaling]:
    made: list[GroupScaling] = []

    def policy() -> GroupScaling:
        made.append(GroupScaling(**{"group": group(), **options}))
        return made[-1]

    return simulate(scenario(), picker="LeastRequest", policy=policy), made[-1]


class Step:
    """So many instances from an instant on."""

    def __init__(self, before: int, after: int, at: float) -> None:
        self.before, self.after, self.at = before, after, at
        self.asked: list[float] = []

    def recommend(self, observation: dict[str, Any], /, *, now: float) -> SimpleNamespace:
        self.asked.append(now)
        assert set(observation) == {"current", "desired", "warming", "metrics"}
        return SimpleNamespace(desired=self.after if now >= self.at else self.before)


def test_without_anything_it_is_a_fixed_fleet() -> None:
    report, scaling = run()
    fixed = simulate(scenario(), picker="LeastRequest", policy="Fixed")
    assert report.all == fixed.all
    assert report.servers_mean == pytest.approx(10)
    assert scaling.cost == pytest.approx(0.5 * (2 * 1.0 + 8 * 0.4))
    assert scaling.interrupted == 0


def test_an_episode_takes_spot_and_keeps_it_away() -> None:
    report, scaling = run(episodes=[SpotEpisode(start_s=600, end_s=1200)])
    assert scaling.interrupted == 8
    # 600 s of 10, then 2 until a launch of 60 s after the end, then 10 again.
    assert report.servers_mean == pytest.approx((600 * 10 + 660 * 2 + 540 * 10) / 1800, rel=0.05)
    assert scaling.group.status()["in_service"] == 10


def test_reclaim_is_a_share_and_depth_what_is_left() -> None:
    _, half = run(episodes=[SpotEpisode(start_s=600, end_s=1200, reclaim=0.5)])
    assert half.interrupted == 4
    open_, closed = (
        run(episodes=[SpotEpisode(start_s=600, end_s=1700, depth=depth)])[0].servers_mean for depth in (100, 0)
    )
    assert open_ > closed + 3


def test_single_interruptions_by_rate_and_seed() -> None:
    _, calm = run(interruptions_per_hour=0.0)
    _, first = run(interruptions_per_hour=3.0)
    _, again = run(interruptions_per_hour=3.0)
    _, other = run(interruptions_per_hour=3.0, seed=5)
    assert calm.interrupted == 0
    # Eight instances for half an hour.
    assert 4 <= first.interrupted <= 22
    assert first.interrupted == again.interrupted
    assert first.cost == again.cost
    assert (first.interrupted, first.cost) != (other.interrupted, other.cost)


def test_notice_is_how_long_one_drains_and_is_paid_for() -> None:
    episode = [SpotEpisode(start_s=600, end_s=1200)]
    given = {"group": group(drain_time=300.0), "episodes": episode}
    _, short = run(**given, notice_s=0)
    _, long = run(**given, notice_s=120)
    assert long.cost - short.cost == pytest.approx(8 * 0.4 * 120 / 3600, rel=0.1)


def test_the_policy_is_asked_at_its_own_pace_and_starts_take_time() -> None:
    step = Step(4, 10, 600)
    scaling = GroupScaling(group=group(desired=4), policy=step, every_s=120)
    asked: list[Step] = []

    def policy() -> GroupScaling:
        asked.append(Step(4, 10, 600))
        return GroupScaling(group=group(desired=4), policy=asked[-1], every_s=120)

    report = simulate(scenario(initial=4), picker="LeastRequest", policy=policy)
    assert asked[0].asked[:3] == [10.0, 130.0, 250.0]
    # Decided at 610 s, in service at 670 s.
    assert report.servers_mean == pytest.approx((670 * 4 + 1130 * 10) / 1800, rel=0.02)
    assert scaling.policy is step


def test_what_waits_in_a_warm_pool_is_quick_and_free_unless_it_runs() -> None:
    def cost(pool: WarmPool | None) -> tuple[float, float]:
        made: list[GroupScaling] = []
        plain = group(
            offers=[Offer(type="g5", zone="a", price=1.0)],
            mixed=None,
            desired=4,
            warm_pool=pool,
            launch_time=300.0,
            start_time=30.0,
        )

        def policy() -> GroupScaling:
            made.append(GroupScaling(group=plain, policy=Step(4, 10, 600)))
            return made[-1]

        report = simulate(scenario(initial=4), picker="LeastRequest", policy=policy)
        return report.servers_mean, made[-1].cost

    cold, stopped, running = (cost(pool) for pool in (None, WarmPool(), WarmPool(state="running")))
    assert stopped[0] > cold[0] + 0.5
    assert stopped[1] < running[1]


def test_a_run_works_with_a_copy() -> None:
    scaling = GroupScaling(group=group(), interruptions_per_hour=3.0, episodes=[SpotEpisode(start_s=600, end_s=900)])
    found = compare(scenario(), pickers=["LeastRequest"], policies={"group": scaling}, replications=2)
    assert scaling.cost == 0
    assert scaling.interrupted == 0
    # Two replications: other requests, the same interruptions.
    servers = [one.servers_mean for one in next(iter(found.reports.values()))]
    assert servers[0] == pytest.approx(servers[1], rel=0.02)
    again = copy.deepcopy(scaling)
    assert repr(again) == repr(scaling)
    assert again.episodes == scaling.episodes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": 3}, "group: 3"),
        ({"policy": 3}, "policy: 3"),
        ({"every_s": 0}, "every_s: 0"),
        ({"interruptions_per_hour": -1}, "interruptions_per_hour"),
        ({"notice_s": float("nan")}, "notice_s"),
        ({"episodes": [3]}, "episodes[0]"),
        (
            {"episodes": [SpotEpisode(start_s=100, end_s=200), SpotEpisode(start_s=150, end_s=300)]},
            "episodes[1].start_s",
        ),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        GroupScaling(**{"group": group(), **options})
    assert said in str(error.value)


@pytest.mark.parametrize(
    "options", [{"start_s": -1}, {"end_s": 0}, {"end_s": 10}, {"reclaim": 1.5}, {"depth": -1}, {"depth": True}]
)
def test_episodes_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="episode"):
        SpotEpisode(**{"start_s": 10, "end_s": 20, **options})


def test_a_queue_without_a_server_is_seen() -> None:
    """From zero, `queue` says how many wait: nothing else would ever start a server."""
    seen: list[tuple[int, float]] = []

    class Queue:
        def recommend(self, observation: dict[str, Any], /, *, now: float) -> SimpleNamespace:
            waiting = observation["metrics"]["queue"]
            seen.append((observation["current"], waiting))
            return SimpleNamespace(desired=2 if waiting > 0 else None)

    fleet = Fleet(types=[ServerType(name="g5")], min=0, initial=0, max=4, decision_interval_s=10)
    report = simulate(
        scenario(fleet=fleet, traffic=PoissonTraffic(rate_rps=1), duration_s=120), picker="SharedQueue", policy=Queue
    )
    assert seen[0][0] == 0
    assert seen[0][1] > 0
    assert report.all.served == report.all.requests
