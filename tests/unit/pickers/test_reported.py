"""Pickers that go by what endpoints report: LeastTime, Prequal, ClientSideWeightedRoundRobin."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import pytest

from aibalance import (
    ClientSideWeightedRoundRobin,
    ConfigError,
    Endpoint,
    Latency,
    LeastTime,
    ManualClock,
    NoHealthyEndpointError,
    OverloadedError,
    Pool,
    Prequal,
)

ALL: list[Any] = [LeastTime, Prequal, ClientSideWeightedRoundRobin]


def pool(*endpoints: Any, **options: Any) -> tuple[Pool, ManualClock]:
    clock = ManualClock(10.0)
    return Pool(endpoints, clock=clock, **{"seed": 1, **options}), clock


def shares(picker: Any, n: int) -> Counter[str]:
    return Counter(e.id for e in picker.pick_many(n))


# ------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("picker", ALL)
def test_backups_limits_weights_and_exclusion_are_honoured(picker: Any) -> None:
    ours, _ = pool(Endpoint("a", max_inflight=1), Endpoint("z", weight=0), Endpoint("b", max_inflight=2),
                   Endpoint("spare", backup=True, max_inflight=1))  # fmt: skip
    for e in ours.endpoints:
        ours.observe(e.id, inflight=0, latency=0.1, qps=10, utilization=0.5)
    p = picker(ours)
    with p.acquire(exclude=["a"]) as lease:
        assert lease.endpoint.id == "b"
    with p.acquire(exclude=["a", "b"]) as lease:
        assert lease.endpoint.id == "spare"
    leases = [p.acquire() for _ in range(4)]
    assert sorted(lease.endpoint.id for lease in leases) == ["a", "b", "b", "spare"]
    assert leases[3].endpoint.id == "spare"
    with pytest.raises(OverloadedError):
        p.acquire()
    for lease in leases:
        lease.release()
    ours.set_health("a", "unhealthy")
    ours.drain("b")
    assert p.pick().id == "spare"
    with pytest.raises(NoHealthyEndpointError):
        picker([Endpoint("a", weight=0)]).pick()
    assert len(p.ranked(k=5)) == 1


@pytest.mark.parametrize("picker", ALL)
def test_picks_repeat_under_a_seed_and_copies_travel(picker: Any) -> None:
    options: dict[Any, dict[str, Any]] = {
        LeastTime: {},
        Prequal: {"pool_size": 8, "probe_rate": 2.5, "remove_rate": 0.5, "q_rif": 0.6, "delta": 2.0, "max_age": 3.0},
        ClientSideWeightedRoundRobin: {
            "blackout_period": 1.0,
            "weight_expiration_period": 30.0,
            "weight_update_period": 2.0,
            "error_utilization_penalty": 0.5,
        },
    }
    one = picker(pool("a", "b", "c", "d")[0], **options[picker])
    copy = pickle.loads(pickle.dumps(one))
    assert repr(copy) == repr(one)
    for name, value in options[picker].items():
        assert f"{name}={value!r}" in repr(one)
    for p in (one, copy):
        for i, id in enumerate("abcd"):
            p.pool.observe(id, inflight=i, latency=0.1 * (4 - i), qps=10 * (i + 1), utilization=0.5)
    assert list(one.pick_many(50)) == list(copy.pick_many(50))


def test_reports_of_one_who_left_do_not_stick_to_who_takes_its_place() -> None:
    ours, _ = pool("a", "b", "c")
    turns = ClientSideWeightedRoundRobin(ours, blackout_period=0)
    probing = Prequal(ours, q_rif=1.0, remove_rate=0.0)
    for id, latency, qps in (("b", 1.0, 10), ("c", 1.0, 10), ("a", 0.001, 1000)):
        ours.observe(id, inflight=5, latency=latency, qps=qps, utilization=0.5)
    assert probing.pick().id == "a"
    assert shares(turns, 300)["a"] > 200
    ours.update(["b", "c"])
    ours.update(["b", "c", "d"])
    busy = [probing.acquire(subset=["d"]) for _ in range(9)]
    # One probe is left, so that the less loaded one is taken.
    assert probing.ranked(k=1, subset=["c", "d"])[0].id == "c"
    assert len(busy) == 9
    assert shares(turns, 300) == {"b": 100, "c": 100, "d": 100}


@pytest.mark.parametrize(
    ("picker", "field", "wrong"),
    [
        (Prequal, field, wrong)
        for field, values in {
            "pool_size": (1, 65, -1, 10**30, "x"),
            "probe_rate": (0, -1, 65, math.nan, math.inf),
            "remove_rate": (-0.1, 65, math.nan),
            "q_rif": (-0.1, 1.1, math.nan),
            "delta": (0, math.nan, math.inf),
            "max_age": (0, -1, math.nan, math.inf, 1e300),
        }.items()
        for wrong in values
    ]
    + [
        (ClientSideWeightedRoundRobin, field, wrong)
        for field, values in {
            "blackout_period": (-1, math.nan, math.inf, "x"),
            "weight_expiration_period": (0, -1, math.nan),
            "weight_update_period": (0.0999, 0, math.nan),
            "error_utilization_penalty": (-0.1, math.nan, math.inf),
        }.items()
        for wrong in values
    ],
)
def test_options_out_of_range_are_refused_by_name(picker: Any, field: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        picker(["a"], **{field: wrong})


# ------------------------------------------------------------------------------------------------------ least time


def test_least_time_goes_by_time_requests_and_weight() -> None:
    ours, _ = pool("a", Endpoint("b", weight=3))
    ours.observe("a", latency=0.095)
    ours.observe("b", latency=0.295)
    # In steps of 20 ms over weight: 100 and 100, so they take turns by weight.
    assert shares(LeastTime(ours), 400) == {"a": 100, "b": 300}
    ours.observe("a", latency=0.105)
    assert shares(LeastTime(ours), 100) == {"b": 100}


def test_least_time_learns_from_first_tokens_or_whole_answers() -> None:
    ours, clock = pool("a", "b")
    p = LeastTime(ours)
    for id, first, whole in (("a", 0.3, 0.1), ("b", 0.1, 9.0)):
        lease = p.acquire(subset=[id])
        clock.advance(first)
        lease.first_token()
        clock.advance(whole)
        lease.release()
    assert p.pick().id == "b"


def test_a_new_endpoint_counts_as_the_mean_and_a_failing_one_is_not_fast() -> None:
    ours, _ = pool("a", "b", latency=Latency(failure_penalty=1.0))
    p = LeastTime(ours)
    for id in "ab":
        ours.observe(id, latency=0.1)
    ours.add(Endpoint("new"))
    leases = [p.acquire() for _ in range(30)]
    assert Counter(lease.endpoint.id for lease in leases) == {"a": 10, "b": 10, "new": 10}
    for lease in leases:
        lease.cancel()
    p.acquire(subset=["a"]).release("failure", latency=0.0001)
    assert "a" not in shares(p, 100)


# --------------------------------------------------------------------------------------------------------- prequal


def probed(count: int = 40, **options: Any) -> tuple[Prequal, ManualClock]:
    """Eight probes: number i has i requests and answers in (8 - i) / 10 seconds."""
    ours, clock = pool(*[f"e{i}" for i in range(count)])
    for i in range(8):
        ours.observe(f"e{i}", inflight=i, latency=(8 - i) / 10)
        clock.advance(0.01)
    return Prequal(ours, **options), clock


def test_the_quantile_alone_says_who_is_hot() -> None:
    # Of 0..7 in flight the lower neighbours are 0, 3, 5 and 7; the fastest of the cold has the most.
    for q, whom in ((0.0, "e0"), (0.5, "e3"), (0.84, "e5"), (1.0, "e7")):
        assert probed(q_rif=q)[0].pick().id == whom


def test_the_age_alone_drops_probes() -> None:
    # Those younger than 0.05 s are 4 to 7.
    for age, whom in ((0.05, "e5"), (2.0, "e3")):
        assert probed(max_age=age, q_rif=0.5)[0].pick().id == whom
    p, clock = probed(q_rif=0.5)
    clock.advance(1.0)
    assert len({p.pick().id for _ in range(200)}) > 10, "all are too old: two choices"


def test_the_size_of_the_pool_alone_keeps_the_youngest() -> None:
    for size, whom in ((8, "e0"), (4, "e4"), (2, "e6")):
        assert probed(pool_size=size, q_rif=0.0)[0].pick().id == whom


def test_half_of_a_small_fleet_is_held_at_most() -> None:
    assert probed(count=8, q_rif=0.0)[0].pick().id == "e4"


def test_the_removal_rate_alone_says_how_many_probes_go() -> None:
    # Probes alone go by latency here, for which the later is better; two choices take the less loaded, the earlier.
    for rate, first, second in ((0.0, "e1", "e3"), (2.0, "e0", "e3"), (4.0, "e0", "e2")):
        p, _ = probed(q_rif=1.0, remove_rate=rate, probe_rate=10.0)
        assert p.pick().id == "e7"
        assert p.ranked(k=1, subset=["e2", "e3"])[0].id == second
        p, _ = probed(q_rif=1.0, remove_rate=rate, probe_rate=10.0)
        p.pick()
        assert p.ranked(k=1, subset=["e0", "e1"])[0].id == first


def test_the_budget_of_uses_follows_the_rates() -> None:
    def uses(**options: Any) -> int:
        ours, _ = pool(*[f"e{i}" for i in range(1000)])
        p = Prequal(ours, remove_rate=0.0, q_rif=1.0, **options)
        for i in range(4):
            ours.observe(f"e{i}", inflight=0, latency=0.1 + i)
        first = [p.pick().id for _ in range(40)]
        return first.index("e1")

    # (1 + delta) / ((1 - 16/1000) * probe_rate), at least 1 and at most 16.
    assert uses(probe_rate=3.0) == 1
    assert uses(probe_rate=0.5) in (4, 5)
    assert uses(probe_rate=0.5, delta=3.0) in (8, 9)
    assert uses(probe_rate=0.01) == 16


def test_targets_are_as_many_as_the_rate_says() -> None:
    for rate, low, high in ((3.0, 300, 300), (0.5, 30, 70)):
        p = Prequal([str(i) for i in range(20)], probe_rate=rate, seed=1)
        got = [p.probe_targets() for _ in range(100)]
        assert low <= sum(map(len, got)) <= high
        assert all(len(set(targets)) == len(targets) for targets in got)
    ours, _ = pool("a", Endpoint("b", backup=True), "c")
    ours.set_health("a", "unhealthy")
    assert [e.id for e in Prequal(ours).probe_targets()] == ["c"]
    assert Prequal([]).probe_targets() == []


def test_whoever_fails_is_not_taken_for_being_fast() -> None:
    p, clock = probed()
    p.pick()
    for _ in range(4):
        p.acquire(subset=["e7"]).release("failure", latency=0.0001)
    for i in range(8):
        p.pool.observe(f"e{i}", inflight=0 if i == 7 else 3, latency=0.0001 if i == 7 else 0.5)
    assert p.pick().id != "e7"
    clock.advance(100.0)
    for i in range(8):
        p.pool.observe(f"e{i}", inflight=3, latency=0.0001 if i == 7 else 0.5)
    assert p.pick().id == "e7", "forgiven"


# ---------------------------------------------------------------------------------- client-side weighted round robin


def rated(**options: Any) -> tuple[ClientSideWeightedRoundRobin, ManualClock]:
    """One that reports 300 a second at half use, and another 100; both for 20 s."""
    ours, clock = pool("a", "b")
    p = ClientSideWeightedRoundRobin(ours, **options)
    for _ in range(5):
        ours.observe("a", qps=300, utilization=0.5)
        ours.observe("b", qps=100, utilization=0.5, eps=25)
        clock.advance(5)
    return p, clock


def test_the_penalty_alone_changes_the_weights() -> None:
    # 100 / (0.5 + 0.25 * penalty)
    for penalty, b in ((0.0, 200), (1.0, 400 / 3), (2.0, 100)):
        got = shares(rated(error_utilization_penalty=penalty)[0], 8000)
        assert got["b"] / 8000 == pytest.approx(b / (600 + b), abs=0.002)


def test_the_blackout_alone_delays_the_weights() -> None:
    for blackout, even in ((0, False), (25, False), (26, True)):
        got = shares(rated(blackout_period=blackout)[0], 400)
        assert (abs(got["a"] - got["b"]) <= 1) == even


def test_the_expiration_alone_ends_the_weights() -> None:
    for expiration, even in ((180, False), (5.1, False), (5, True)):
        got = shares(rated(weight_expiration_period=expiration, blackout_period=0)[0], 400)
        assert (abs(got["a"] - got["b"]) <= 1) == even


def test_the_update_period_alone_delays_new_weights() -> None:
    for period, changed in ((0.5, True), (2.0, False)):
        p, clock = rated(weight_update_period=period, error_utilization_penalty=0.0)
        assert shares(p, 400) == {"a": 300, "b": 100}
        p.pool.observe("b", qps=300, utilization=0.5)
        clock.advance(1.0)
        assert (abs(shares(p, 400)["b"] - 200) <= 1) == changed


def test_who_has_no_weight_counts_as_the_mean() -> None:
    p, _ = rated(error_utilization_penalty=0.0)
    p.pool.add(Endpoint("new"))
    got = shares(p, 600)
    assert [got[id] for id in ("a", "b", "new")] == pytest.approx([300, 100, 200], abs=2)
