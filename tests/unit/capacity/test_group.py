"""The group: each option alone changes what it does, and what cannot be is refused."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.capacity import (
    AutoScalingGroup,
    GroupAction,
    InstanceEvent,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    Offer,
    SpotInterruption,
    WarmPool,
)
from aibalance.health import HealthEvent

OFFERS = [Offer(type="g5", zone=zone, price=1.0) for zone in ("a", "b")]
SPOT = [
    Offer(type="g5", zone="a", market="spot", price=0.4, depth=6, interruption_rate=0.2, priority=3),
    Offer(type="g6", zone="a", market="spot", price=0.5, depth=40, interruption_rate=0.1, priority=2),
    Offer(type="g7", zone="a", market="spot", price=0.6, depth=20, interruption_rate=0.02, priority=1),
]
BASE: dict[str, Any] = {
    "offers": OFFERS,
    "max_size": 6,
    "desired": 2,
    "launch_time": 60,
    "start_time": 20,
    "load_time": 30,
    "warmup": 10,
    "drain_time": 100,
}


def make(**options: Any) -> AutoScalingGroup:
    return AutoScalingGroup(**{**BASE, **options})


def started(until: float = 500.0, **options: Any) -> AutoScalingGroup:
    group = make(**options)
    group.step(0.0)
    group.step(until)
    return group


def of(actions: Iterable[GroupAction], instance: str | None) -> list[tuple[str, float]]:
    return [(a.kind, a.at) for a in actions if a.instance == instance]


def phases(group: AutoScalingGroup) -> Counter[str]:
    return Counter(i.phase for i in group.instances())


def event(group: AutoScalingGroup, instance: str, kind: Any, now: float) -> list[GroupAction]:
    return group.events([InstanceEvent(instance, kind)], now=now)


def everything(**options: Any) -> list[GroupAction]:
    """What a group does on its way up and down."""
    group = make(**options)
    found = group.step(0.0)
    found += group.step(400.0)
    found += event(group, "i-1", "replace", 500.0)
    found += group.set_desired(5, now=1000.0)
    found += group.step(1200.0)
    found += event(group, "i-4", "failed", 1201.0)
    found += group.set_desired(1, now=5000.0)
    return found + group.step(9000.0)


@pytest.mark.parametrize(
    "option",
    [
        {"launch_time": 70},
        {"launch_time": None},
        {"load_time": 31},
        {"warmup": 11},
        {"drain_time": 99},
        {"stop_time": 7},
        {"launch_hook": LifecycleHook(heartbeat=30)},
        {"terminate_hook": LifecycleHook(heartbeat=30)},
        {"warm_pool": WarmPool()},
        {"protect_new": True},
        {"template": 2},
        {"health_grace": 800.0},
        {"termination_policies": ("newest_instance", "default")},
        {"desired": 1},
        {"min_size": 1, "desired": None},
        {"stage_timeout": 100, "load_time": None},
    ],
)
def test_each_option_alone_changes_something(option: dict[str, Any]) -> None:
    assert everything() != everything(**option)


def test_the_rest_of_the_options() -> None:
    # terminate_time keeps an instance among the others for longer.
    assert phases(started(terminate_time=50)) == phases(started())
    for seconds, left in ((0, 1), (50, 2)):
        group = started(terminate_time=seconds)
        group.set_desired(1, now=500.0)
        group.step(601.0)
        assert len(group.instances()) == left
    # launch_retry: an offer that failed is left alone for so long.
    for retry, zones in ((10, {"a", "b"}), (1000, {"b"})):
        group = make(launch_retry=retry, desired=1)
        group.step(0.0)
        event(group, "i-1", "failed", 1.0)
        group.set_desired(3, now=50.0)
        assert {i.zone for i in group.instances() if i.phase == "launching"} == zones
    # zone_distribution: a zone that has nothing to offer leaves its share to others, or does not.
    narrow = [OFFERS[0], Offer(type="g5", zone="b", price=1.0, depth=0)]
    assert len(make(offers=narrow).step(0.0)) == 2
    assert len(make(offers=narrow, zone_distribution="balanced_only").step(0.0)) == 1


def test_hooks_are_answered_and_events_move_on() -> None:
    group = make(desired=1, launch_time=None, load_time=None, warmup=None, launch_hook=LifecycleHook())
    assert group.next_change is None
    group.step(0.0)
    assert of(event(group, "i-1", "launched", 5.0), "i-1") == [("launch_hook", 5.0)]
    assert of(event(group, "i-1", "loaded", 6.0), "i-1") == [], "it does not fit"
    assert of(event(group, "i-1", "continue", 7.0), "i-1") == [("load", 7.0)]
    assert of(event(group, "i-1", "loaded", 8.0), "i-1") == [("warm", 8.0)]
    assert of(event(group, "i-1", "warmed", 9.0), "i-1") == [("put_in_service", 9.0)]
    ended = started(desired=1, terminate_hook=LifecycleHook())
    ended.set_desired(0, now=500.0)
    assert of(event(ended, "i-1", "drained", 501.0), "i-1") == [("terminate_hook", 501.0)]
    assert of(event(ended, "i-1", "abandon", 502.0), "i-1") == [("stop", 502.0), ("terminate", 502.0)]
    abandoned = make(desired=1, launch_hook=LifecycleHook())
    abandoned.step(0.0), abandoned.step(70.0)
    found = event(abandoned, "i-1", "abandon", 80.0)
    assert [(a.kind, a.instance, a.zone) for a in found] == [("terminate", "i-1", "a"), ("launch", "i-2", "b")]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("lowest_price", {"g5": 6, "g6": 4}),
        ("capacity_optimized", {"g6": 10}),
        ("capacity_optimized_prioritized", {"g7": 10}),
        ("price_capacity_optimized", {"g7": 10}),
        ("diversified", {"g5": 4, "g6": 3, "g7": 3}),
    ],
)
def test_spot_strategies(strategy: Any, expected: dict[str, int]) -> None:
    policy = MixedInstancesPolicy(on_demand_percent_above_base=0, spot_strategy=strategy, spot_pools=1)
    assert {o.type: n for o, n in policy.allocate(10, SPOT).items()} == expected


def test_on_demand_strategies_splits_and_fallback() -> None:
    offers = [
        Offer(type="dear", zone="a", price=2.0, priority=0),
        Offer(type="cheap", zone="a", price=1.0, priority=1),
        Offer(type="s", zone="a", market="spot", price=0.3, depth=3),
    ]

    def counts(**options: Any) -> dict[str, int]:
        policy = MixedInstancesPolicy(on_demand_base=1, on_demand_percent_above_base=50, **options)
        return {o.type: n for o, n in policy.allocate(9, offers).items()}

    assert counts() == {"dear": 5, "s": 3}, "one that cannot be had is missing"
    assert counts(on_demand_strategy="lowest_price") == {"cheap": 5, "s": 3}
    assert counts(on_demand_fallback=True) == {"dear": 6, "s": 3}
    more = [*offers[:2], Offer(type="s", zone="a", market="spot", price=0.3), SPOT[1]]
    wide = MixedInstancesPolicy(on_demand_percent_above_base=0, spot_pools=2).allocate(4, more)
    assert sorted(wide.values()) == [2, 2]
    assert MixedInstancesPolicy().allocate(0, offers[:2]) == {}


def test_a_warm_pool_is_filled_drawn_from_and_returned_to() -> None:
    ready = {"stopped": 60.0, "hibernated": 30.0, "running": 0.0}
    for state, seconds in ready.items():
        group = started(desired=2, max_size=4, warm_pool=WarmPool(state=state, reuse_on_scale_in=True))  # type: ignore[arg-type]
        assert phases(group) == {"in_service": 2, "waiting": 2}
        found = group.set_desired(3, now=500.0) + group.step(700.0)
        assert of(found, "i-3")[0] == ("take_from_pool", 500.0)
        assert of(found, "i-3")[-1] == ("put_in_service", 500.0 + seconds)
        group.set_desired(2, now=800.0)
        group.step(1000.0)
        assert phases(group) == {"in_service": 2, "waiting": 2}
        assert group.status()["launched"] == 4, "it went back"
    plain = started(desired=2, max_size=4, warm_pool=WarmPool(), until=500.0)
    plain.set_desired(1, now=500.0), plain.step(700.0)
    assert plain.status()["launched"] == 5, "one was started in its place"
    small = started(desired=2, max_size=6, warm_pool=WarmPool(min_size=1, max_prepared=2))
    assert phases(small)["waiting"] == 1


def test_an_interruption_is_answered_in_time() -> None:
    group = started(drain_time=600)
    found = group.events([SpotInterruption("i-1")], now=500.0)
    assert [(a.kind, a.reason) for a in found] == [("drain", "interruption"), ("launch", "scale out")]
    assert of(group.step(900.0), "i-1") == [("terminate", 620.0)]
    assert group.status()["interrupted"] == 1
    short = started(drain_time=600)
    short.events([SpotInterruption("i-1", cloud="gcp")], now=500.0)
    assert of(short.step(900.0), "i-1") == [("terminate", 530.0)]


def test_capacity_is_rebalanced_before_an_interruption() -> None:
    options = {"offers": SPOT, "mixed": MixedInstancesPolicy(on_demand_percent_above_base=0, spot_pools=1)}
    idle = started(**options)
    assert event(idle, "i-1", "rebalance_recommendation", 500.0) == []
    group = started(**options, capacity_rebalance=True)
    found = event(group, "i-1", "rebalance_recommendation", 500.0)
    assert [(a.kind, a.type, a.reason) for a in found] == [("launch", "g6", "capacity_rebalance")]
    later = group.step(700.0)
    assert of(later, "i-1") == [("drain", 600.0), ("stop", 700.0), ("terminate", 700.0)]
    # Nothing is as good: it waits, and goes on when there is.
    best = [Offer(type="x", zone="a", market="spot", price=0.1, interruption_rate=0.0), *SPOT]
    stuck = started(**{**options, "offers": best}, capacity_rebalance=True)
    assert event(stuck, "i-1", "rebalance_recommendation", 500.0) == []
    better = [*best, Offer(type="y", zone="b", market="spot", price=0.9, interruption_rate=0.0)]
    assert [a.type for a in stuck.set_offers(better, now=600.0)] == ["y"]


def test_health_actions_are_taken_up() -> None:
    def ask(action: Any, over: bool = False, **options: Any) -> tuple[AutoScalingGroup, list[str]]:
        group = started(**options)
        found = group.events([HealthEvent("i-1", "check", action, None, 500.0, over)], now=500.0)
        return group, [f"{a.kind} {a.instance}" for a in found]

    group, found = ask("restart")
    assert found == ["restart i-1", "start i-1"]
    assert of(group.step(600.0), "i-1") == [("load", 520.0), ("warm", 550.0), ("put_in_service", 560.0)]
    group, found = ask("reload")
    assert found == ["reload i-1", "load i-1"]
    assert of(group.step(600.0), "i-1")[-1] == ("put_in_service", 540.0)
    assert ask("replace")[1] == ["drain i-1", "launch i-3"]
    group, found = ask("stop_sending")
    assert found == ["stop_sending i-1"]
    assert not group.instances()[0].sending
    again = HealthEvent("i-1", "check", "stop_sending", None, 501.0, over=True)
    assert [a.kind for a in group.events([again], now=501.0)] == ["resume_sending"]
    group, found = ask("scale_up")
    assert found == ["set_desired None", "launch i-3"]
    assert group.status()["desired"] == 3
    assert event(group, "i-2", "scale_up", 510.0) == [], "one is on the way"
    assert ask("scale_up", max_size=2)[1] == []
    assert ask("replace", over=True)[1] == []
    assert ask("replace", health_grace=1000.0)[1] == []


@pytest.mark.parametrize(
    ("policies", "gone"),
    [
        (("oldest_instance",), "i-1"),
        (("newest_instance",), "i-3"),
        (("closest_to_next_instance_hour",), "i-2"),
        (("oldest_launch_template", "newest_instance"), "i-2"),
        (("oldest_launch_configuration",), "i-3"),
        (("allocation_strategy",), "i-2"),
        (("default",), "i-3"),
    ],
)
def test_termination_policies(policies: tuple[str, ...], gone: str) -> None:
    # i-1: dear offer's better one, version 2; i-2: version 1, in its second half hour; i-3: from a configuration.
    offers = [Offer(type="p", zone="a", price=1.0, depth=1), Offer(type="q", zone="a", price=1.0, priority=1, depth=1)]
    group = make(offers=offers, desired=1, termination_policies=policies, template=2)
    group.step(0.0)
    group.set_template(1, now=500.0)
    group.set_desired(2, now=500.0)
    group.set_template(1, now=3700.0, launch_configuration=True)
    group.set_offers([*offers, Offer(type="r", zone="a", price=1.0)], now=3700.0)
    group.set_desired(3, now=3700.0)
    if policies == ("oldest_launch_template", "newest_instance"):
        # Without the configuration, which is older than any version.
        group.set_desired(2, now=4000.0, prefer=["i-3"])
        found = group.set_desired(1, now=4001.0)
    else:
        found = group.set_desired(2, now=4000.0)
    assert [a.instance for a in found if a.kind == "drain"] == [gone]


def test_protection_preference_and_zones() -> None:
    group = started(desired=4)
    event(group, "i-1", "protect", 500.0)
    assert [a.instance for a in group.set_desired(3, now=500.0)] == ["i-3"], "the oldest is protected"
    assert [a.instance for a in group.set_desired(2, now=501.0, prefer=["i-4"])] == ["i-4"]
    assert [a.instance for a in group.set_desired(0, now=502.0)] == ["i-2"]
    assert group.status()["size"] == 1
    assert [a.instance for a in event(group, "i-1", "unprotect", 503.0)] == ["i-1"]


def test_zones_are_rebalanced() -> None:
    narrow = [OFFERS[0], Offer(type="g5", zone="b", price=1.0, depth=0)]
    for rebalance in (True, False):
        group = started(offers=narrow, desired=4, zone_rebalance=rebalance)
        found = group.set_offers(OFFERS, now=500.0) + group.step(2000.0)
        zones = Counter(i.zone for i in group.instances())
        assert zones == ({"a": 2, "b": 2} if rebalance else {"a": 4})
        assert {a.reason for a in found if a.kind == "launch"} == ({"zone_rebalance"} if rebalance else set())


def test_a_refresh_with_checkpoints() -> None:
    group = started(desired=4, max_size=4)
    plan = InstanceRefresh(min_healthy=50, checkpoints=(50, 100), checkpoint_delay=1000)
    found = group.start_refresh(plan, now=500.0, template=2) + group.step(1599.0)
    assert [(a.at, a.value) for a in found if a.kind == "checkpoint"] == [(600.0, 50)]
    assert group.status()["refresh"]["status"] == "in_progress"
    with pytest.raises(ConfigError, match="one at a time"):
        group.start_refresh(plan, now=1599.0)
    found = group.step(3000.0)
    assert [(a.kind, a.at, a.value) for a in found if a.instance is None] == [
        ("checkpoint", 1700.0, 100),
        ("refresh_ended", 1700.0, 4),
    ]
    assert {i.template for i in group.instances()} == {2}


def refreshed(refresh: InstanceRefresh, before: Callable[[AutoScalingGroup], object] = lambda g: None) -> Any:
    group = started(desired=4, max_size=4)
    before(group)
    found = group.start_refresh(refresh, now=500.0, template=2) + group.step(20_000.0)
    versions = "".join(str(i.template) for i in group.instances())
    status = group.status()["refresh"]["status"]
    return versions, status, [(a.kind, a.at) for a in found]


def test_each_option_of_a_refresh_alone() -> None:
    plain = refreshed(InstanceRefresh())
    assert plain[:2] == ("2222", "successful")
    for option in ({"min_healthy": 50}, {"max_healthy": 150}, {"checkpoints": (50,), "checkpoint_delay": 5.0}):
        assert refreshed(InstanceRefresh(**option))[2] != plain[2]  # type: ignore[arg-type]

    def protect(group: AutoScalingGroup) -> None:
        event(group, "i-1", "protect", 500.0)

    assert refreshed(InstanceRefresh(), protect)[:2] == ("1222", "failed")
    assert refreshed(InstanceRefresh(scale_in_protected="ignore"), protect)[:2] == ("1222", "successful")
    assert refreshed(InstanceRefresh(scale_in_protected="refresh"), protect)[:2] == ("2222", "successful")
    assert refreshed(InstanceRefresh(auto_rollback=True), protect)[:2] == ("1111", "rolled_back")
    slow, quick = (refreshed(InstanceRefresh(stuck_after=s), protect)[2][-1] for s in (3600.0, 2000.0))
    assert slow[1] - quick[1] == 1600.0
    group = started(desired=2)
    event(group, "i-1", "terminated", 500.0)
    group.set_template(2, now=500.0)
    event(group, "i-2", "terminated", 500.0)
    group.step(1000.0)
    found = group.start_refresh(InstanceRefresh(skip_matching=True), now=1000.0)
    assert [a.instance for a in found if a.kind == "drain"] == ["i-3"]


def test_a_refresh_can_be_cancelled_and_rolled_back() -> None:
    group = started(desired=4, max_size=4)
    group.start_refresh(InstanceRefresh(), now=500.0, template=2)
    group.step(650.0)
    assert [a.reason for a in group.cancel_refresh(now=650.0) if a.kind == "refresh_ended"] == ["cancelled"]
    with pytest.raises(ConfigError, match="refresh"):
        group.cancel_refresh(now=660.0)
    group.start_refresh(InstanceRefresh(), now=700.0, template=3)
    group.step(850.0)
    group.roll_back(now=850.0)
    group.step(9000.0)
    assert group.status()["refresh"]["status"] == "rolled_back"
    assert 3 not in {i.template for i in group.instances()}
    with pytest.raises(ConfigError, match="refresh"):
        group.roll_back(now=9000.0)
    with pytest.raises(ConfigError, match=r"refresh\.warmup"):
        group.start_refresh(InstanceRefresh(warmup=5), now=9000.0)


def test_what_is_given_to_policies() -> None:
    group = started(desired=2)
    group.set_desired(3, now=500.0)
    assert group.observation({"cpu": None}) == {"current": 2, "desired": 3, "warming": 1, "metrics": {"cpu": None}}
    assert (
        "lowest_price"
        in started(
            offers=SPOT[:1], mixed=MixedInstancesPolicy(on_demand_percent_above_base=0), capacity_rebalance=True
        ).warnings[0]
    )
    assert make(capacity_rebalance=True).warnings
    assert make(zone_distribution="balanced_only", offers=OFFERS[:1]).warnings
    assert make().warnings == ()


def test_memory_travels() -> None:
    group = started(desired=3, warm_pool=WarmPool(), launch_hook=LifecycleHook(heartbeat=30, result="continue"))
    group.start_refresh(InstanceRefresh(), now=500.0, template=2)
    event(group, "i-1", "failed", 510.0)
    twin = make(desired=3, warm_pool=WarmPool(), launch_hook=LifecycleHook(heartbeat=30, result="continue"))
    twin.restore(json.loads(json.dumps(group.state())))
    third = pickle.loads(pickle.dumps(group))
    assert twin.state() == group.state() == third.state()
    assert twin.step(9000.0) == group.step(9000.0) == third.step(9000.0)
    assert group.step(1.0) == []
    assert group.status()["now"] == 9000.0, "time does not go back"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offers": []}, "offers"),
        ({"offers": OFFERS * 2}, r"offers\[2\]"),
        ({"offers": "g5"}, "offers"),
        ({"offers": [1]}, r"offers\[0\]"),
        ({"offers": SPOT}, "on-demand"),
        ({"offers": [*OFFERS, *SPOT]}, "spot offer"),
        ({"mixed": MixedInstancesPolicy(on_demand_percent_above_base=50)}, "spot"),
        ({"min_size": 7}, "max_size"),
        ({"desired": 7}, "desired"),
        ({"max_size": 10_001}, "max_size"),
        ({"warm_pool": 3}, "warm_pool"),
        ({"launch_hook": 3}, "launch_hook"),
        ({"launch_time": -1}, "launch_time"),
        ({"load_time": float("nan")}, "load_time"),
        ({"drain_time": None}, "drain_time"),
        ({"stage_timeout": 0}, "stage_timeout"),
        ({"termination_policies": ("default", "oldest_instance")}, "termination_policies"),
        ({"termination_policies": ("random",)}, r"termination_policies\[0\]"),
        ({"termination_policies": "default"}, "termination_policies"),
        ({"zone_distribution": "even"}, "zone_distribution"),
        ({"protect_new": 1}, "protect_new"),
        ({"template": -1}, "template"),
        (
            {
                "offers": SPOT,
                "mixed": MixedInstancesPolicy(on_demand_percent_above_base=0),
                "warm_pool": WarmPool(),
            },
            "warm_pool",
        ),
    ],
)
def test_what_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.set_desired(7, now=500.0), "desired"),
        (lambda g: g.set_desired(1, now=500.0, prefer=["i-99"]), "instance"),
        (lambda g: g.set_desired(1, now=500.0, prefer=["x"]), "instance"),
        (lambda g: g.set_bounds(min_size=3, max_size=2, now=500.0), "max_size"),
        (lambda g: event(g, "i-99", "launched", 500.0), "instance"),
        (lambda g: g.events([3], now=500.0), "events"),
        (lambda g: g.events([HealthEvent("i-1", "x", "dance", None, 0.0)], now=500.0), "kind"),  # type: ignore[arg-type]
        (lambda g: g.set_offers(SPOT, now=500.0), "offers"),
        (lambda g: g.set_template(-1, now=500.0), "template"),
        (lambda g: g.step(-1.0), "now"),
        (lambda g: g.step(float("nan")), "now"),
        (lambda g: g.start_refresh(3, now=500.0), "refresh"),
        (lambda g: g.restore({"version": 1}), "kind"),
        (lambda g: g.restore({**g.state(), "desired": 99}), "desired"),
        (lambda g: g.restore({**g.state(), "last": 0}), "number"),
        (lambda g: Offer(type="", zone="a", price=1), "type"),
        (lambda g: Offer(type="t", zone="a", price=-1), "price"),
        (lambda g: Offer(type="t", zone="a", price=1, interruption_rate=2), "interruption_rate"),
        (lambda g: InstanceEvent("i-1", "dance"), "kind"),
        (lambda g: SpotInterruption("i-1", cloud="moon"), "cloud"),
        (lambda g: SpotInterruption("i-1", notice=-1), "notice"),
        (lambda g: WarmPool(state="off"), "state"),
        (lambda g: MixedInstancesPolicy(spot_strategy="best"), "spot_strategy"),
        (lambda g: MixedInstancesPolicy(on_demand_strategy="best"), "on_demand_strategy"),
        (lambda g: MixedInstancesPolicy(on_demand_fallback=1), "on_demand_fallback"),
        (lambda g: InstanceRefresh(stuck_after=0), "stuck_after"),
        (lambda g: InstanceRefresh(skip_matching=1), "skip_matching"),
        (lambda g: InstanceRefresh(scale_in_protected="x"), "scale_in_protected"),
    ],
)
def test_what_cannot_be_asked_changes_nothing(call: Callable[[AutoScalingGroup], object], message: str) -> None:
    group = started()
    before = group.state()
    with pytest.raises(ConfigError, match=message):
        call(group)
    assert group.state() == before


def test_bounds_move_what_is_desired() -> None:
    group = started(desired=4)
    group.set_bounds(min_size=0, max_size=2, now=500.0)
    assert (group.status()["desired"], group.status()["size"]) == (2, 2)
    group.set_bounds(min_size=5, max_size=8, now=600.0)
    assert group.status()["size"] == 5
