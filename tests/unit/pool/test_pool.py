"""Pool: membership, health, drain, reports, time, copies."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    Latency,
    LeastRequest,
    Maglev,
    ManualClock,
    MetricError,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    PeakEwma,
    Pool,
    RingHash,
    RoundRobin,
    SystemClock,
)


def stat(pool: Pool, id: str) -> Any:
    return next(record for record in pool.stats() if record.id == id)


# ----------------------------------------------------------------------------------------------------- membership


def test_order_length_and_repr() -> None:
    pool = Pool(["a", Endpoint("b", weight=0), "c", "d"])
    assert [e.id for e in pool.endpoints] == ["a", "b", "c", "d"]
    assert len(pool) == 4
    pool.set_health("a", "unhealthy")
    pool.drain("c")
    assert repr(pool) == "<Pool of 4, 1 unhealthy, 1 draining, 1 of weight 0>"


def test_update_keeps_counters_health_and_drain_of_those_that_stay() -> None:
    pool = Pool(["a", "b", "c"], panic_threshold=0.0)
    picker = RoundRobin(pool)
    leases = [picker.acquire(cost=2.5) for _ in range(3)]
    pool.set_health("b", "unhealthy")
    pool.drain("c")
    pool.update([Endpoint("c", weight=4), "new", "b", "a"])
    assert [e.id for e in pool.endpoints] == ["c", "new", "b", "a"]
    records = {record.id: record for record in pool.stats()}
    assert [records[i].inflight for i in "abc"] == [1, 1, 1]
    assert [records[i].load for i in "abc"] == [2.5, 2.5, 2.5]
    assert (records["new"].inflight, records["new"].picks, records["new"].load) == (0, 0, 0.0)
    assert (records["b"].health, records["c"].draining, records["c"].weight) == ("unhealthy", True, 4.0)
    for lease in leases:
        lease.release()
    assert [record.inflight for record in pool.stats()] == [0, 0, 0, 0]


def test_a_lease_outlives_its_endpoint_and_its_slot_is_reused_only_when_idle() -> None:
    pool = Pool(["a"])
    picker = LeastRequest(pool)
    lease = picker.acquire(cost=7)
    pool.remove("a")
    pool.add("b")
    assert (stat(pool, "b").inflight, stat(pool, "b").load) == (0, 0.0)
    pool.remove("b")
    pool.add("c")
    lease.release("failure")
    record = stat(pool, "c")
    assert (record.inflight, record.load, record.failures, record.picks) == (0, 0.0, 0, 0)
    # Now that it is idle its slot may come back, and its past does not.
    pool.update(["c", "d", "e"])
    assert all(r.failures == r.picks == r.inflight == 0 for r in pool.stats())


def test_an_endpoint_that_comes_back_starts_anew() -> None:
    pool = Pool(["a", "b"], panic_threshold=0.0)
    picker = RoundRobin(pool)
    picker.acquire().release()
    pool.set_health("a", "unhealthy")
    pool.remove("a")
    pool.add("a")
    assert (stat(pool, "a").picks, stat(pool, "a").health) == (0, "healthy")


def test_nothing_is_half_applied() -> None:
    pool = Pool(["a", "b"])
    before = pool.endpoints
    for wrong in (["c", "c"], ["c", 5], ["c", Endpoint("x", id="c")], "abc", 5, None):
        with pytest.raises(ConfigError, match="endpoints"):
            pool.update(wrong)  # type: ignore[arg-type]
        assert pool.endpoints == before

    def broken() -> Any:
        yield "c"
        raise KeyError("mine")

    with pytest.raises(KeyError):
        pool.update(broken())
    assert pool.endpoints == before
    with pytest.raises(ConfigError, match=r"endpoints\[2\].id.*endpoints\[0\]"):
        Pool(["a", "b", "a"])
    with pytest.raises(ConfigError, match="not in the pool yet"):
        pool.add("a")


@pytest.mark.parametrize("method", ["remove", "drain", "undrain", "is_drained", "drained", "observe"])
def test_an_unknown_id_is_named(method: str) -> None:
    pool = Pool(["a"])
    for wrong in ("nobody", "\ud800", 5, None):
        with pytest.raises(ConfigError, match=r"id: .*allowed"):
            getattr(pool, method)(wrong)
    with pytest.raises(ConfigError, match='id: "nobody"'):
        pool.set_weight("nobody", 1)
    with pytest.raises(ConfigError, match='id: "nobody"'):
        pool.set_health("nobody", "healthy")


def test_set_weight_changes_shares_and_the_endpoint() -> None:
    pool = Pool(["a", "b"])
    old = pool.endpoints[0]
    pool.set_weight("a", 3)
    assert (pool.endpoints[0].weight, old.weight) == (3.0, 1.0)
    assert pool.endpoints[0] == old
    picks = RoundRobin(pool).pick_many(400)
    assert [e.id for e in picks].count("a") == 300
    pool.set_weight("a", 0)
    assert {e.id for e in RoundRobin(pool).pick_many(10)} == {"b"}
    for wrong in (-1, float("nan"), 2e15, "x", None):
        with pytest.raises(ConfigError, match="weight"):
            pool.set_weight("a", wrong)  # type: ignore[arg-type]
    assert pool.endpoints[0].weight == 0.0


@pytest.mark.parametrize("picker", [RoundRobin, LeastRequest, PeakEwma, RingHash, Maglev])
def test_empty_pools(picker: Any) -> None:
    pool = Pool([])
    p = picker(pool)
    assert p.try_pick() is None
    assert p.try_acquire() is None
    assert p.ranked(k=3) == []
    assert len(p.pick_many(0)) == 0
    for call in (p.pick, p.acquire, lambda: p.pick_many(1), lambda: next(p.attempts(budget=2))):
        with pytest.raises(NoEndpointsError):
            call()
    pool.add("a")
    assert p.pick().id == "a"
    pool.remove("a")
    with pytest.raises(NoEndpointsError):
        p.pick()


# --------------------------------------------------------------------------------------------------- health, panic


def served(pool: Pool) -> set[str]:
    try:
        return {e.id for e in RoundRobin(pool).pick_many(50)}
    except NoHealthyEndpointError:
        return set()


def test_panic_is_strictly_below_the_threshold() -> None:
    pool = Pool(list("abcd"))
    pool.set_health("a", "unhealthy")
    pool.set_health("b", "unhealthy")
    assert served(pool) == {"c", "d"}
    pool.set_health("c", "unhealthy")
    assert served(pool) == {"a", "b", "c", "d"}


def test_panic_never_with_zero_and_fail_with_fail() -> None:
    for kw in ({"panic_threshold": 0.0}, {"on_panic": "fail"}):
        pool = Pool(list("abcd"), **kw)  # type: ignore[arg-type]
        for id in "abc":
            pool.set_health(id, "unhealthy")
        assert served(pool) == ({"d"} if "panic_threshold" in kw else set())
        pool.set_health("d", "unhealthy")
        assert served(pool) == set()


def test_degraded_count_as_available_and_get_what_the_healthy_cannot_carry() -> None:
    for failover, expected in (("overflow", {"c", "d"}), ("backup", {"d"})):
        pool = Pool(list("abcd"), failover=failover)  # type: ignore[arg-type]
        for id, health in zip("abc", ["unhealthy", "unhealthy", "degraded"], strict=True):
            pool.set_health(id, health)  # type: ignore[arg-type]
        assert served(pool) == expected
        pool.set_health("d", "unhealthy")
        assert served(pool) == {"a", "b", "c", "d"}


def test_the_overprovisioning_factor_decides_whether_panic_is_looked_at() -> None:
    for factor, expected in ((1.4, {str(i) for i in range(5)}), (1.0, {str(i) for i in range(7)})):
        pool = Pool([str(i) for i in range(7)], panic_threshold=0.9, overprovisioning_factor=factor)
        pool.set_health("5", "unhealthy")
        pool.set_health("6", "unhealthy")
        # 140 % of 5/7 is exactly 100: with 1.4 the five carry everything, and 71 % < 90 % is no panic.
        assert served(pool) == expected


def test_availability_is_cut_to_whole_percents_as_in_envoy() -> None:
    # 1/3 of 140 % is 46, 8/21 is 53: 99 together, so the levels cannot carry all of it, and both are in panic.
    pool = Pool([*(f"p{i}" for i in range(3)), *(Endpoint(f"b{i}", backup=True) for i in range(21))])
    for i in range(1, 3):
        pool.set_health(f"p{i}", "unhealthy")
    for i in range(8, 21):
        pool.set_health(f"b{i}", "unhealthy")
    assert served(pool) == {"p0", "p1", "p2"}


def test_backups_wait_for_primaries_and_take_over_when_those_are_full() -> None:
    pool = Pool([Endpoint("a", max_inflight=1), Endpoint("b", backup=True)], panic_threshold=0.0)
    picker = LeastRequest(pool)
    assert {picker.pick().id for _ in range(20)} == {"a"}
    first = picker.acquire()
    assert picker.pick().id == "b"
    first.release()
    assert picker.pick().id == "a"
    pool.set_health("a", "unhealthy")
    assert picker.pick().id == "b"


def test_messages_count_who_is_out() -> None:
    pool = Pool(["a", "b", Endpoint("c", weight=0)], panic_threshold=0.0)
    pool.set_health("a", "unhealthy")
    pool.drain("b")
    with pytest.raises(
        NoHealthyEndpointError, match="3 in the pool, 1 unhealthy, 1 draining, 1 of weight 0, 0 excluded"
    ):
        RoundRobin(pool).pick()
    for wrong in ("ill", "", 5, None):
        with pytest.raises(ConfigError, match="health"):
            pool.set_health("a", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kw", "field"),
    [
        ({"panic_threshold": -0.1}, "panic_threshold"),
        ({"panic_threshold": 1.1}, "panic_threshold"),
        ({"panic_threshold": float("nan")}, "panic_threshold"),
        ({"on_panic": "run"}, "on_panic"),
        ({"failover": "back"}, "failover"),
        ({"overprovisioning_factor": 0.9}, "overprovisioning_factor"),
        ({"lease_timeout": 0}, "lease_timeout"),
        ({"lease_timeout": -1}, "lease_timeout"),
        ({"clock": 5}, "clock"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"passive": 1}, "passive"),
        ({"slow_start": 1}, "slow_start"),
        ({"circuit_breaker": 1}, "circuit_breaker"),
        ({"local_zone": 3}, "local_zone"),
        ({"zone_weights": {}}, "zone_weights"),
        ({"shared": "no/name"}, "shared"),
    ],
)
def test_what_a_pool_refuses(kw: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Pool(["a"], **kw)


# ----------------------------------------------------------------------------------------------------------- drain


def test_drain_undrain_and_deadline() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b"], clock=clock)
    picker = RoundRobin(pool)
    lease = picker.acquire()
    assert lease.endpoint.id == "a"
    with pytest.raises(ConfigError, match="draining"):
        pool.is_drained("a")
    pool.drain("a", deadline=5)
    assert {picker.pick().id for _ in range(5)} == {"b"}
    assert not pool.is_drained("a")
    clock.advance(4.999)
    assert not pool.is_drained("a")
    clock.advance(0.001)
    assert pool.is_drained("a")
    assert not pool.is_drained("a", now=4)
    pool.drain("a")
    assert not pool.is_drained("a")
    lease.release()
    assert pool.is_drained("a")
    pool.undrain("a")
    assert {picker.pick().id for _ in range(5)} == {"a", "b"}
    pool.drain("a", deadline=5, now=100)
    assert pool.is_drained("a", now=0)
    with picker.acquire(), pytest.raises(ConfigError, match="deadline"):
        pool.drain("a", deadline=-1)


def test_draining_wins_over_panic() -> None:
    pool = Pool(["a", "b", "c"])
    for id in "abc":
        pool.set_health(id, "unhealthy")
    pool.drain("a")
    assert served(pool) == {"b", "c"}


def test_drained_is_awaited() -> None:
    async def run() -> list[str]:
        pool = Pool(["a", "b"])
        picker, seen = RoundRobin(pool), []
        lease = picker.acquire()
        pool.drain("a")
        waiting = asyncio.ensure_future(pool.drained("a"))
        await asyncio.sleep(0.02)
        seen.append("waiting" if not waiting.done() else "early")
        lease.release()
        await asyncio.wait_for(waiting, 5)
        seen.append("done")
        await pool.drained("a")
        pool.remove("a")
        with pytest.raises(ConfigError, match="id"):
            pool.drained("a")
        return seen

    assert asyncio.run(run()) == ["waiting", "done"]


# --------------------------------------------------------------------------------------------------------- reports


def test_a_report_is_the_load_and_what_was_sent_since_is_added() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a"], clock=clock)
    picker = LeastRequest(pool)
    sent = [picker.acquire(cost=2), picker.acquire(cost=2)]
    assert stat(pool, "a").load == 4
    pool.observe("a", inflight=10, queue=5)
    assert stat(pool, "a").load == 15
    assert stat(pool, "a").inflight == 2
    sent.append(picker.acquire(cost=1))
    assert stat(pool, "a").load == 16
    sent.pop().release()
    sent.pop().release()
    assert stat(pool, "a").load == 13
    assert stat(pool, "a").report == {"inflight": 10.0, "queue": 5.0}
    clock.advance(9.999)
    picker.pick()
    assert stat(pool, "a").load == 13
    clock.advance(0.001)
    assert stat(pool, "a").report is None
    picker.pick()
    assert stat(pool, "a").load == 2
    sent.pop().release()
    assert stat(pool, "a").load == 0


def test_reports_expire_by_advance_and_by_now() -> None:
    pool = Pool(["a", "b"], clock=ManualClock(0.0))
    pool.observe("a", inflight=5, now=100)
    pool.advance(109.9)
    assert stat(pool, "a").load == 5
    pool.advance(110)
    assert stat(pool, "a").load == 0


def test_a_report_without_a_load_does_not_keep_an_old_load_alive() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b"], clock=clock)
    pool.observe("a", inflight=5)
    clock.advance(8)
    pool.observe("a", utilization=0.5)
    assert stat(pool, "a").load == 5
    clock.advance(3)
    pool.advance()
    assert stat(pool, "a").load == 0
    assert stat(pool, "a").report == {"utilization": 0.5}
    clock.advance(8)
    pool.advance()
    assert stat(pool, "a").report is None


def test_a_report_steers_picks() -> None:
    pool = Pool(["a", "b"], seed=1)
    picker = LeastRequest(pool)
    pool.observe("a", queue=3)
    assert {picker.pick().id for _ in range(20)} == {"b"}
    pool.observe("a", inflight=0)
    pool.observe("b", inflight=1)
    assert {picker.pick().id for _ in range(20)} == {"a"}


def test_a_report_dies_with_its_endpoint() -> None:
    pool = Pool(["a", "b"])
    pool.observe("a", inflight=50)
    pool.remove("a")
    pool.add("c")
    pool.add("a")
    assert [r.load for r in pool.stats()] == [0, 0, 0]
    assert [r.report for r in pool.stats()] == [None, None, None]


METRICS = ["inflight", "queue", "utilization", "latency", "gpu_memory", "kv_cache", "qps", "eps"]


@pytest.mark.parametrize("field", METRICS)
def test_metrics_are_checked_and_shown(field: str) -> None:
    pool = Pool(["a"])
    pool.observe("a", **{field: 0.25})
    assert stat(pool, "a").report == {field: 0.25}
    for wrong in (-1, float("nan"), float("inf"), 1e13):
        with pytest.raises(MetricError, match=field):
            pool.observe("a", **{field: wrong})
    with pytest.raises(ConfigError, match=field):
        pool.observe("a", **{field: "x"})  # type: ignore[arg-type]
    assert stat(pool, "a").report == {field: 0.25}


# ------------------------------------------------------------------------------------------------------------ time


def test_detached_leases_are_taken_back_after_the_timeout() -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a"], lease_timeout=10, clock=clock)
    picker = LeastRequest(pool)
    picker.acquire().detach()
    clock.advance(1)
    pool.advance()
    assert stat(pool, "a").inflight == 1
    late = picker.acquire().detach()
    clock.advance(8.999)
    pool.advance()
    assert stat(pool, "a").inflight == 2
    clock.advance(0.001)
    pool.advance()
    assert (stat(pool, "a").inflight, stat(pool, "a").timeouts) == (1, 1)
    pool.release(late)
    assert (stat(pool, "a").inflight, stat(pool, "a").successes) == (0, 1)


def test_clocks() -> None:
    pool = Pool(["a"])
    assert pool.clock == SystemClock()
    manual = ManualClock(3.0)
    assert Pool(["a"], clock=manual).clock is manual
    with pytest.raises(ConfigError, match="seconds"):
        manual.advance(-1)
    with pytest.raises(ConfigError, match="start"):
        ManualClock(float("nan"))
    assert pickle.loads(pickle.dumps(manual)).now() == 3.0
    assert pickle.loads(pickle.dumps(SystemClock())) == SystemClock()
    for call in (pool.advance, pool.stats):
        for wrong in (-1, float("nan"), float("inf"), "x"):
            with pytest.raises(ConfigError, match="now"):
                call(wrong)  # type: ignore[arg-type]


def test_a_rebuild_that_was_put_off_does_not_leave_a_picker_without_anybody() -> None:
    # A table of the largest size takes longer to build than a change may, so that it waits for advance().
    pool = Pool(["a", Endpoint("b", weight=0)], seed=1)
    pickers = [Maglev(pool, table_size=5_000_011)]
    for call in (
        lambda p: p.pick("k"),
        lambda p: p.acquire("k").endpoint,
        lambda p: p.acquire("k", exclude=iter(["nobody"])).endpoint,
        lambda p: p.pick_many(["k"])[0],
        lambda p: p.pick_many(1)[0],
        lambda p: p.ranked("k", k=1)[0],
        lambda p: p.try_pick("k"),
        lambda p: p.try_acquire("k").endpoint,
    ):
        pool.update(["a", Endpoint("b", weight=0)])
        pool.set_weight("b", 1)
        pool.set_weight("a", 0)
        assert [call(p).id for p in pickers] == ["b"]


# ---------------------------------------------------------------------------------------------------------- copies


def test_pickle_keeps_members_health_drain_and_options() -> None:
    pool = Pool(
        [Endpoint("a", weight=2, data={"x": 1}), "b", "c", "d"],
        panic_threshold=0.2,
        on_panic="fail",
        overprovisioning_factor=1.1,
        latency=Latency(decay=3.0),
        lease_timeout=7.0,
        clock=ManualClock(2.0),
        seed=5,
    )
    RoundRobin(pool).acquire().detach()
    pool.set_health("b", "unhealthy")
    pool.set_health("c", "degraded")
    pool.drain("d")
    copy = pickle.loads(pickle.dumps(pool))
    assert [(e.id, e.weight, e.data) for e in copy.endpoints] == [(e.id, e.weight, e.data) for e in pool.endpoints]
    assert [(r.health, r.draining) for r in copy.stats()] == [(r.health, r.draining) for r in pool.stats()]
    # What is in flight belongs to this process.
    assert [r.inflight for r in copy.stats()] == [0, 0, 0, 0]
    assert pickle.dumps(pickle.loads(pickle.dumps(copy))) == pickle.dumps(copy)
    assert copy.clock.now() == 2.0
    draws = [
        [e.id for e in LeastRequest(p).pick_many(50)]
        for p in (Pool(["x", "y"], seed=5), pickle.loads(pickle.dumps(Pool(["x", "y"], seed=5))))
    ]
    assert draws[0] == draws[1]


def test_a_pool_in_its_own_endpoints_data_travels() -> None:
    box: dict[str, Any] = {}
    pool = Pool([Endpoint("a", data=box)])
    box["pool"] = pool
    copy = pickle.loads(pickle.dumps(pool))
    assert copy.endpoints[0].data["pool"] is copy


def test_overloaded_and_its_reason() -> None:
    pool = Pool([Endpoint("a", max_inflight=1), Endpoint("b", max_inflight=2)])
    picker = LeastRequest(pool)
    held = [picker.acquire() for _ in range(3)]
    assert [r.inflight for r in pool.stats()] == [1, 2]
    assert [r.eligible for r in pool.stats()] == [False, False]
    for call in (
        picker.pick,
        picker.acquire,
        lambda: picker.pick_many(1),
        lambda: picker.acquire(exclude=["a"]),
        lambda: picker.acquire(subset=["a"]),
    ):
        with pytest.raises(OverloadedError) as caught:
            call()
        assert caught.value.retry_after is None
    with pytest.raises(NoHealthyEndpointError, match="2 excluded"):
        picker.acquire(subset=[])
    held.pop().release()
    assert picker.pick().id == "b"
    # A larger limit counts at once, and a smaller one stops new work only.
    pool.update([Endpoint("a", max_inflight=3), Endpoint("b", max_inflight=1)])
    assert picker.pick().id == "a"
    assert stat(pool, "b").inflight == 1
