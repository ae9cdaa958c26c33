"""The health state against a second, plainer telling of its rules, and against time and chance."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from aibalance.health import FlapDamping, HealthState, TargetGroupHealth

thresholds = st.integers(1, 6)
checks = st.lists(st.booleans(), max_size=60)


@given(checks, thresholds, thresholds)
def test_as_an_alb_tells_it(results: list[bool], healthy: int, unhealthy: int) -> None:
    machine = HealthState(healthy_threshold=healthy, unhealthy_threshold=unhealthy)
    state, run, last = "initial", 0, None
    for result in results:
        run = run + 1 if result == last else 1
        last = result
        if state == "initial":
            state = "healthy" if result else "unhealthy" if run == unhealthy else state
        elif state == "healthy" and not result and run >= unhealthy:
            state = "unhealthy"
        elif state == "unhealthy" and result and run >= healthy:
            state = "healthy"
        assert machine.report("pass" if result else "fail", now=0.0) == state


@given(checks, thresholds, thresholds, st.sampled_from(["up", "down", "fully-up", "fully-down"]))
def test_as_haproxy_counts(results: list[bool], rise: int, fall: int, start: str) -> None:
    machine = HealthState(healthy_threshold=rise, unhealthy_threshold=fall, start=start)  # type: ignore[arg-type]
    full = rise + fall - 1
    health = {"up": rise, "down": rise - 1, "fully-up": full, "fully-down": 0}[start]
    for result in results:
        health = (full if health + 1 >= rise else health + 1) if result else health - 1 if health > rise else 0
        state = machine.report("pass" if result else "fail", now=0.0)
        assert (machine.counter, state) == (health, "healthy" if health >= rise else "unhealthy")


events = st.tuples(
    st.sampled_from(["pass", "fail", "degraded", "warming", "drain", "undrain", "disable", "enable", "pickle"]),
    st.floats(0, 1e6),
    st.none() | st.booleans(),
)


@given(st.lists(events, max_size=40), st.booleans(), st.none() | st.floats(0, 100), st.booleans())
def test_no_history_makes_a_state_that_good_checks_do_not_end(
    script: list[tuple[str, float, bool | None]], warm_up: bool, limit: float | None, damped: bool
) -> None:
    damping = FlapDamping(half_life=5, max_hold=50) if damped else None
    machine = HealthState(warm_up=warm_up, warming_timeout=limit, damping=damping)
    latest = 0.0
    for word, at, known in script:
        latest = max(latest, at)
        if word == "drain":
            machine.drain(deadline=at, now=at)
        elif word in ("undrain", "disable", "enable"):
            getattr(machine, word)(now=at)
        elif word == "pickle":
            machine = pickle.loads(pickle.dumps(machine))
        else:
            machine.report(word, model_loaded=known, inference_test=known, now=at)  # type: ignore[arg-type]
        assert 0 <= machine.counter <= 4
        assert machine.penalty(latest) >= 0
    machine.undrain(now=latest)
    machine.enable(now=latest)
    for step in range(4):
        # Past the longest hold.
        machine.report("pass", model_loaded=True, inference_test=True, now=latest + 60 + step)
    assert machine.state(latest + 64) == "healthy"


counts = st.integers(0, 50).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(st.dictionaries(st.text("abc", max_size=2), counts, max_size=4), st.booleans(), st.floats(1, 100))
def test_nobody_is_routed_to_who_is_not_there(zones: dict[str, tuple[int, int]], cross: bool, percent: float) -> None:
    group = TargetGroupHealth(dns_failover_percentage=percent, routing_failover_percentage=percent)
    for name, seen in group.zones(zones, cross_zone=cross).items():
        healthy, total = zones[name]
        assert seen.routable == (healthy if seen.mode == "normal" else total)
        # One threshold for both: a zone that leaves DNS is one that routes to all, unless it is empty.
        if total and not cross:
            assert seen.dns_healthy == (seen.mode == "normal")
