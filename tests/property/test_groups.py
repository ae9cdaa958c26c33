"""Groups under random scripts: bounds, counts, no instance that is stuck, and a memory that loses nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import ConfigError
from aibalance.capacity import (
    AutoScalingGroup,
    InstanceEvent,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    Offer,
    SpotInterruption,
    WarmPool,
    rank_removals,
    rebalance_ceiling,
)
from aibalance.capacity.group import EVENTS

ON_DEMAND = [Offer(type="t", zone=zone, price=1.0, depth=d) for zone, d in (("a", None), ("b", 4), ("c", 2))]
SPOT = [Offer(type="s", zone=zone, market="spot", price=0.3, depth=3) for zone in ("a", "b")]
MAX = 8


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Any]:
    seconds = st.one_of(st.none(), st.sampled_from([0.0, 5.0, 60.0]))
    hook = st.one_of(st.none(), st.builds(LifecycleHook, heartbeat=st.just(30.0), result=st.just("continue")))
    options: dict[str, Any] = {name: draw(seconds) for name in ("launch_time", "start_time", "load_time", "warmup")}
    options |= {name: draw(seconds) for name in ("stop_time", "terminate_time")}
    options |= {"offers": ON_DEMAND, "max_size": MAX, "desired": draw(st.integers(0, MAX)), "stage_timeout": 200.0}
    options |= {
        "drain_time": draw(st.sampled_from([0.0, 40.0])),
        "launch_hook": draw(hook),
        "terminate_hook": draw(hook),
    }
    options["capacity_rebalance"] = draw(st.booleans())
    if draw(st.booleans()):
        options["offers"] = [*ON_DEMAND, *SPOT]
        percent = draw(st.sampled_from([0, 40]))
        options["mixed"] = MixedInstancesPolicy(
            on_demand_percent_above_base=percent, on_demand_fallback=draw(st.booleans())
        )
    elif draw(st.booleans()):
        state: Any = draw(st.sampled_from(["stopped", "hibernated", "running"]))
        options["warm_pool"] = WarmPool(state=state, reuse_on_scale_in=draw(st.booleans()))
    return options


instances = st.integers(1, 20).map(lambda n: f"i-{n}")
happenings = st.one_of(
    st.builds(InstanceEvent, instances, st.sampled_from([e for e in EVENTS if e != "protect"])),
    st.builds(SpotInterruption, instances, st.sampled_from(["aws", "gcp"])),
)
refreshes = st.builds(
    InstanceRefresh,
    min_healthy=st.sampled_from([0, 50, 100]),
    max_healthy=st.sampled_from([None, 100]),
    checkpoints=st.sampled_from([(), (50, 100)]),
    checkpoint_delay=st.just(30.0),
    skip_matching=st.booleans(),
    auto_rollback=st.booleans(),
)
commands = st.one_of(
    st.tuples(st.just("desired"), st.integers(0, MAX)),
    st.tuples(st.just("events"), st.lists(happenings, max_size=3)),
    st.tuples(st.just("refresh"), refreshes),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.sampled_from(["cancel", "roll_back"]), st.none()),
)
scripts = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 20.0, 90.0, 400.0]), commands), max_size=25)


def carry_out(group: AutoScalingGroup, verb: str, value: Any, now: float) -> list[Any]:
    try:
        if verb == "desired":
            return list(group.set_desired(value, now=now))
        if verb == "events":
            return list(group.events(value, now=now))
        if verb == "refresh":
            return list(group.start_refresh(value, now=now, template=int(now)))
        if verb == "cancel":
            return list(group.cancel_refresh(now=now))
        if verb == "roll_back":
            return list(group.roll_back(now=now))
    except ConfigError as error:
        return [str(error)]
    return list(group.step(now))


@settings(max_examples=100)
@given(groups(), scripts)
def test_a_group_under_a_random_script(options: dict[str, Any], script: list[tuple[float, tuple[str, Any]]]) -> None:
    group, never_stopped = AutoScalingGroup(**options), AutoScalingGroup(**options)
    now, present = 0.0, set[str]()
    ceiling = rebalance_ceiling(MAX)
    for pause, (verb, value) in script:
        now += pause
        done = carry_out(group, verb, value, now)
        assert done == carry_out(never_stopped, verb, value, now)
        stopped = AutoScalingGroup(**options)
        stopped.restore(json.loads(json.dumps(group.state())))
        assert stopped.state() == group.state()
        group = stopped
        status, listed = group.status(), group.instances()
        assert status["size"] <= ceiling
        replacing = any(i.replaces for i in listed)
        assert status["size"] <= status["desired"] or replacing
        assert status["launched"] == status["gone"] + len(listed)
        present |= {a.instance for a in done if not isinstance(a, str) and a.kind.startswith("launch") and a.instance}
        assert {i.id for i in listed} <= present
        held = [i for i in listed if i.phase not in ("in_service", "waiting")]
        assert not held or group.next_change is not None
        used = {
            o: sum((i.type, i.zone, i.market) == (o.type, o.zone, o.market) for i in listed) for o in options["offers"]
        }
        assert all(o.depth is None or n <= o.depth for o, n in used.items())
    # Events stop: hooks continue, stages run out, and everybody gets where it belongs, or is tried again.
    if all(options[name] is not None for name in ("launch_time", "start_time", "load_time", "warmup")):
        group.step(now)
        group.step(now + 50_000.0)
        assert {i.phase for i in group.instances()} <= {"in_service", "waiting"}
        status = group.status()
        assert status["in_service"] == status["size"] <= status["desired"]
        plenty = sum(99 if o.depth is None else o.depth for o in options["offers"] if o.market == "on_demand")
        if plenty >= MAX and options.get("mixed") is None:
            assert status["size"] == status["desired"]


@settings(max_examples=40)
@given(groups(), st.lists(st.sampled_from([1.0, 7.0, 50.0, 300.0]), min_size=1, max_size=12))
def test_how_often_one_asks_does_not_matter(options: dict[str, Any], pauses: list[float]) -> None:
    often, once = AutoScalingGroup(**options), AutoScalingGroup(**options)
    found, expected = often.step(0.0), once.step(0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        found += often.step(now)
    assert found == expected + once.step(now)
    assert often.state() == once.state()


def record(n: int, zone: str, work: float, price: float) -> dict[str, Any]:
    return {"id": f"p{n}", "zone": zone, "work_left": work, "price": price}


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.floats(0, 1e9), st.floats(0, 1e3)), max_size=30))
def test_a_ranking_names_each_once_and_keeps_zones_even(drawn: list[tuple[str, float, float]]) -> None:
    given_ = [record(n, *fields) for n, fields in enumerate(drawn)]
    ranked = rank_removals(given_)
    assert sorted(ranked) == sorted(r["id"] for r in given_)
    zone = {r["id"]: r["zone"] for r in given_}
    left = [r["zone"] for r in given_]
    for name in ranked:
        assert left.count(zone[name]) == max(left.count(z) for z in "xyz")
        left.remove(zone[name])
