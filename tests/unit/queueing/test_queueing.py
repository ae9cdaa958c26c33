"""Closed forms against each other, against limits, against brute force; and input that makes no sense."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError
from aibalance import queueing as q

LAWS: list[q.Law] = [
    q.Deterministic(2.0),
    q.Exponential(0.5),
    q.Uniform(0.5, 2.5),
    q.Lognormal(mean=2.0, sigma=0.7),
    q.Gamma(mean=1.5, shape=0.6),
    q.Gamma(mean=1.5, shape=40.0),
    q.Weibull(mean=1.0, shape=0.8),
    q.HyperExponential([0.2, 0.8], [3.0, 0.5]),
    q.BoundedPareto(alpha=1.5, low=0.2, high=50.0),
    q.BoundedPareto(alpha=1.0, low=0.2, high=50.0),
]


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_parts_of_a_law_agree(law: q.Law) -> None:
    rng = np.random.default_rng(1)
    drawn = law.sample(rng, 200_000)
    assert drawn.mean() == pytest.approx(law.mean, abs=5 * law.cv * law.mean / math.sqrt(200_000) + 1e-12)
    for p in (0.05, 0.5, 0.99):
        at = law.quantile(p)
        if not isinstance(law, q.Deterministic):
            assert float(law.cdf(at)) == pytest.approx(p, rel=1e-9)
        assert float(law.sf(at)) == pytest.approx(1 - float(law.cdf(at)), abs=1e-12)
        below = drawn[drawn <= at].sum() / len(drawn)
        assert float(law.partial_mean(at)) == pytest.approx(below, rel=0.05, abs=1e-6)
    # Moments by the integral of k x^(k-1) P(S > x).
    x = np.linspace(0, law.quantile(1 - 1e-12) * 1.2, 400_001)
    for k in (1, 2):
        inside = k * x ** (k - 1) * np.asarray(law.sf(x))
        assert float(((inside[1:] + inside[:-1]) / 2 * np.diff(x)).sum()) == pytest.approx(law.moment(k), rel=2e-3)
    assert float(law.excess_cdf(0.0)) == 0.0
    assert float(law.excess_cdf(1e9)) == pytest.approx(1.0)
    assert pickle.loads(pickle.dumps(law)) == law


def test_laws_are_those_of_the_simulator() -> None:
    from aibalance.simulation import Service

    for law in LAWS:
        if isinstance(law, q.Weibull):
            with pytest.raises(ConfigError, match="Weibull"):
                law.service()
        else:
            kind, parameters = law.service()
            assert Service(kind, **parameters).kind == kind


def test_erlang_is_stable_from_nobody_to_very_many() -> None:
    assert q.erlang_b(0, 3.0) == 1.0
    assert q.erlang_b(3, 0.0) == 0.0
    assert q.erlang_b(1, 1e9) == pytest.approx(1.0)
    # Near saturation B ~ sqrt(2/(pi c)).
    assert q.erlang_b(100_000, 100_000.0) == pytest.approx(math.sqrt(2 / (math.pi * 100_000)), rel=0.01)
    assert 0 < q.erlang_c(5000, 4900.0) < 1
    assert q.erlang_c(5000, 100.0) == 0.0
    direct = (2.5**4 / 24) / sum(2.5**k / math.factorial(k) for k in range(5))
    assert q.erlang_b(4, 2.5) == pytest.approx(direct, rel=1e-14)


def test_mmc_and_its_limits() -> None:
    one = q.MMc(arrival_rate=0.5)
    for n in range(5):
        assert one.p_number_at_least(n) == pytest.approx(0.5**n)
    three = q.MMc(arrival_rate=2.0, service_rate=1.0, servers=3)
    assert three.p_number_at_least(0) == pytest.approx(1.0)
    assert sum(three.p_number_at_least(n) for n in range(1, 400)) == pytest.approx(three.mean_number)
    # Service rate equal to the spare rate: the formula's removable singularity.
    even = q.MMc(arrival_rate=1.0, service_rate=1.0, servers=2)
    near = q.MMc(arrival_rate=1.0 + 1e-9, service_rate=1.0, servers=2)
    assert even.sojourn_sf(2.0) == pytest.approx(near.sojourn_sf(2.0), rel=1e-7)
    assert even.sojourn_sf(1e6) == 0.0
    idle = q.MMc(arrival_rate=0.0, servers=4)
    assert (idle.p_wait, idle.wait_quantile(0.99), idle.p_number_at_least(1)) == (0.0, 0.0, 0.0)
    wide = q.MMcK(arrival_rate=2.0, servers=3, places=3000)
    assert wide.mean_wait == pytest.approx(three.mean_wait, rel=1e-12)
    assert wide.wait_quantile(0.99) == pytest.approx(three.wait_quantile(0.99), rel=1e-9)


def test_a_full_system_turns_away() -> None:
    queue = q.MMcK(arrival_rate=50.0, servers=2, places=4)
    assert queue.throughput == pytest.approx(2.0, abs=1e-2)
    assert queue.p_block + queue.throughput / 50 == pytest.approx(1.0)
    assert queue.mean_number == pytest.approx(queue.throughput * queue.mean_sojourn)
    assert q.MMcK(arrival_rate=1.0, servers=3, places=3).p_wait == 0.0
    huge = q.MMcK(arrival_rate=200_000.0, servers=200_000, places=200_000)
    assert huge.p_block == pytest.approx(q.erlang_b(200_000, 200_000.0), rel=1e-9)


@pytest.mark.parametrize(("c", "rho"), [(2, 0.5), (5, 0.9), (40, 0.95)])
def test_mdc_two_ways(c: int, rho: float) -> None:
    from aibalance.queueing import _multi

    a = c * rho
    series = _multi._spitzer(a, c, math.ceil(45 / (c * (rho - 1 - math.log(rho)))) + 1, 4000)
    roots = _multi._roots(a, c)
    assert series == pytest.approx(roots, rel=1e-9)


def test_mdc_waits_less_than_mmc_and_almost_half_near_saturation() -> None:
    fixed = q.MDc(arrival_rate=9.95, servers=10)
    free = q.MMc(arrival_rate=9.95, servers=10)
    assert fixed.mean_wait < free.mean_wait
    assert fixed.mean_wait == pytest.approx(free.mean_wait / 2, rel=0.02)
    assert q.MDc(arrival_rate=0.0).mean_wait == 0.0
    assert q.MDc(arrival_rate=900.0, servers=1000).mean_queue > 0
    assert q.MDc(arrival_rate=100.0, servers=1000).p_wait == 0.0
    assert q.MDc(arrival_rate=0.999, servers=1).mean_wait == pytest.approx(0.999 / (2 * 0.001))


def test_mg1_with_exponential_service_is_mm1() -> None:
    general, plain = q.MG1(arrival_rate=0.7, service=1.0), q.MMc(arrival_rate=0.7)
    for p in (0.2, 0.5, 0.99, 0.9999):
        low, high = general.sojourn_quantile(p)
        assert low <= plain.sojourn_quantile(p) <= high
        assert high - low < 1e-3 * high + 1e-5
        low, high = general.wait_quantile(p)
        assert low <= plain.wait_quantile(p) <= high
    assert general.var_sojourn == pytest.approx(plain.var_sojourn)
    coarse = general.sojourn_quantile(0.99, points=2**12)
    assert coarse.high - coarse.low > 10 * (general.sojourn_quantile(0.99).high - general.sojourn_quantile(0.99).low)
    tail = q.MG1(arrival_rate=0.8, service=q.HyperExponential.balanced(1.0, 4.0)).wait_tail()
    assert sum(tail[0]) == pytest.approx(0.8)
    assert sum(c / r for c, r in zip(*tail, strict=True)) == pytest.approx(0.8 * 5 / (2 * 0.2))


def test_round_robin_halves_the_wait_at_most() -> None:
    waits = [q.EkM1(arrival_rate=0.9, stages=k).mean_wait for k in (1, 2, 10, 1000, math.inf)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] == pytest.approx(9.0)
    assert waits[-1] == pytest.approx(waits[-2], rel=0.01)
    assert q.EkM1(arrival_rate=0.0).p_wait == 0.0
    assert q.EkM1(arrival_rate=1 - 1e-9).mean_sojourn == pytest.approx(1e9, rel=1e-6)


def test_priorities_keep_the_sum() -> None:
    queue = q.PriorityMG1(arrival_rates=[0.1, 0.2, 0.4], services=[q.Deterministic(1.0), 0.5, q.Gamma(mean=1, shape=2)])
    loads = [0.1, 0.1, 0.4]
    held = sum(load * wait for load, wait in zip(loads, queue.mean_waits, strict=True))
    assert held == pytest.approx(0.6 * queue.fifo_mean_wait)
    assert queue.mean_waits == sorted(queue.mean_waits)
    one = q.PriorityMG1(arrival_rates=[0.5], services=[1.0])
    assert one.preemptive_mean_sojourns[0] == pytest.approx(q.MMc(arrival_rate=0.5).mean_sojourn)


def test_the_optimal_split_beats_its_neighbours() -> None:
    rates, lam = [0.5, 1.0, 1.0, 2.5], 3.0
    best = q.RandomSplit(arrival_rate=lam, service_rates=rates, weights=q.optimal_split(lam, rates)).mean_sojourn
    rng = np.random.default_rng(3)
    for _ in range(200):
        near = np.abs(np.array(q.optimal_split(lam, rates)) + rng.normal(0, 0.02, 4))
        try:
            other = q.RandomSplit(arrival_rate=lam, service_rates=rates, weights=near.tolist()).mean_sojourn
        except ConfigError:
            continue
        assert other >= best - 1e-12
    assert q.optimal_split(0.1, [1.0, 1.0]) == pytest.approx([0.5, 0.5])
    assert q.optimal_split(1e-6, [1.0, 9.0])[0] == 0.0


def test_choices_help_and_one_is_random() -> None:
    means = [q.Supermarket(load=0.95, choices=d).mean_sojourn for d in (1, 2, 3, 10, 10**6)]
    assert means == sorted(means, reverse=True)
    assert means[0] == pytest.approx(20.0)
    assert means[-1] == pytest.approx(1.0)
    fleet = q.Supermarket(load=0.9, choices=2)
    assert fleet.sojourn_sf(fleet.sojourn_quantile(0.9)) == pytest.approx(0.1)
    assert fleet.sojourn_sf(0.0) == pytest.approx(1.0)
    assert q.Supermarket(load=0.9, choices=1).sojourn_quantile(0.9) == pytest.approx(math.log(10) / 0.1)
    assert q.Supermarket(load=0.0).mean_sojourn == 1.0


@pytest.mark.parametrize("policy", ["random", "jsq", "jiq", "p2c", "p2c_with_replacement"])
def test_small_fleets(policy: str) -> None:
    fleet = q.SmallFleet(arrival_rate=1.0, service_rates=[1.0, 1.0], policy=policy)
    assert fleet.mean_number == pytest.approx(fleet.mean_sojourn)
    pooled = q.MMc(arrival_rate=1.0, servers=2).mean_sojourn
    assert pooled < fleet.mean_sojourn <= 2.0 + 1e-9
    assert fleet.sojourn_sf(0.0) == pytest.approx(1.0)
    assert pickle.loads(pickle.dumps(fleet)).mean_sojourn == fleet.mean_sojourn
    single = q.SmallFleet(arrival_rate=0.5, service_rates=[1.0], policy=policy)
    assert single.mean_sojourn == pytest.approx(2.0)


def test_policies_of_unequal_servers_differ() -> None:
    policies = ("weighted_random", "jsq", "weighted_least", "weighted_least_plus1", "weighted_least_tie_fast")
    found = {
        policy: q.SmallFleet(arrival_rate=3.5, service_rates=[1.0, 4.0], policy=policy, truncation=60).mean_sojourn
        for policy in policies
    }
    assert len({round(mean, 6) for mean in found.values()}) == 5
    assert min(found, key=lambda policy: found[policy]) == "weighted_least_tie_fast"
    fleet = q.SmallFleet(arrival_rate=3.5, service_rates=[1.0, 4.0], truncation=60)
    assert sum(fleet.shares) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="equal servers"):
        fleet.sojourn_quantile(0.5)


def test_batching_between_its_limits() -> None:
    common: dict[str, Any] = {"arrival_rate": 3.0, "mean_output_tokens": 10.0, "max_batch": 5}
    flat = q.ContinuousBatching(base_s=0.1, per_sequence_s=0.0, **common)
    many = q.MMc(arrival_rate=3.0, servers=5)
    assert flat.mean_latency == pytest.approx(many.mean_sojourn)
    assert flat.p_batch_full == pytest.approx(many.p_wait)
    shared = q.ContinuousBatching(base_s=0.0, per_sequence_s=0.02, **common)
    assert shared.mean_latency == pytest.approx(0.2 / (1 - 0.6))
    assert pickle.loads(pickle.dumps(flat)) == flat


def test_hedging_retries_fan_out() -> None:
    both = q.Hedged.after_quantile(q.Weibull(mean=1.0, shape=0.5), None)
    assert both.mean == pytest.approx(0.25, rel=1e-9)
    rng = np.random.default_rng(5)
    law = q.Lognormal(mean=1.0, sigma=1.0)
    hedged = q.Hedged(latency=law, delay=2.0)
    drawn = np.minimum(law.sample(rng, 400_000), 2.0 + law.sample(rng, 400_000))
    assert hedged.mean == pytest.approx(drawn.mean(), rel=0.01)
    assert hedged.quantile(0.99) == pytest.approx(np.quantile(drawn, 0.99), rel=0.02)
    assert q.fan_out(0, 0.5) == 0.0
    assert q.fan_out(3, 1.0) == 1.0
    assert q.fan_out(10**12, 1e-12) == pytest.approx(1 - math.exp(-1))
    assert q.fan_out_mean_exponential(1001) == pytest.approx(q.fan_out_mean_exponential(1000) + 1 / 1001, rel=1e-12)
    assert q.Retries(p_failure=1.0, max_attempts=4).mean_attempts == 4.0
    assert q.Retries(p_failure=0.0, max_attempts=4).mean_attempts == 1.0


def test_staffing_is_the_least() -> None:
    assert q.min_servers(0.0, p_wait=0.1) == 1
    c = q.min_servers(30.0, sojourn=(0.99, 4.8))
    assert q.MMc(arrival_rate=30.0, servers=c).sojourn_quantile(0.99) <= 4.8
    assert q.MMc(arrival_rate=30.0, servers=c - 1).sojourn_quantile(0.99) > 4.8
    c = q.min_servers(30.0, wait=(0.9, 0.1))
    assert (
        q.MMc(arrival_rate=30.0, servers=c).wait_sf(0.1) <= 0.1 < q.MMc(arrival_rate=30.0, servers=c - 1).wait_sf(0.1)
    )
    assert q.min_servers(30.0, mean_sojourn=1.01, p_wait=0.9) >= q.min_servers(30.0, mean_sojourn=1.01)
    assert q.min_servers(30.0, mean_wait=0.001) > q.min_servers(30.0, mean_wait=1.0)
    assert q.min_servers(1_000_000.0, p_wait=0.2) == pytest.approx(q.square_root_staffing(1e6, p_wait=0.2), abs=2)


BAD = [math.nan, math.inf, -1.0, 1e300, "1", None, True]


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        lambda x: q.MMc(arrival_rate=x),
        lambda x: q.MMc(arrival_rate=0.5, service_rate=x) if x != 1e300 else q.MMc(arrival_rate=x),
        lambda x: q.MMcK(arrival_rate=x),
        lambda x: q.MDc(arrival_rate=x),
        lambda x: q.MGInf(arrival_rate=1.0, service=x),
        lambda x: q.MG1(arrival_rate=x, service=1.0),
        lambda x: q.MG1PS(arrival_rate=0.5, service=x),
        lambda x: q.EkM1(arrival_rate=x),
        lambda x: q.PriorityMG1(arrival_rates=[0.1, x], services=[1.0, 1.0]),
        lambda x: q.RandomSplit(arrival_rate=0.5, service_rates=[1.0], weights=[x]),
        lambda x: q.optimal_split(0.5, [x]),
        lambda x: q.Supermarket(load=x),
        lambda x: q.JoinIdleQueueLimit(load=0.5, servers_per_dispatcher=x),
        lambda x: q.SmallFleet(arrival_rate=0.5, service_rates=[1.0, x]),
        lambda x: q.Hedged(latency=1.0, delay=x),
        lambda x: q.fan_out(3, x),
        lambda x: q.Retries(p_failure=x, max_attempts=2),
        lambda x: q.min_servers(x, p_wait=0.5),
        lambda x: q.halfin_whitt(x),
        lambda x: q.halfin_whitt_beta(x),
        lambda x: q.erlang_b(3, x),
        lambda x: q.Exponential(x),
        lambda x: q.Lognormal(mean=1.0, sigma=x),
        lambda x: q.Uniform(0.0, x),
        lambda x: q.BoundedPareto(alpha=x, low=1.0, high=2.0),
    ],
)
def test_numbers_that_cannot_be(make: Any, value: Any) -> None:
    with pytest.raises(ConfigError):
        make(value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: q.MMc(arrival_rate=2.0, servers=2), "arrival_rate"),
        (lambda: q.MMc(arrival_rate=2.0, servers=0), "servers"),
        (lambda: q.MDc(arrival_rate=1 - 1e-16 + 1, servers=2), "arrival_rate"),
        (lambda: q.MDc(arrival_rate=2 - 4e-16, servers=2), "arrival_rate"),
        (lambda: q.SmallFleet(arrival_rate=1.0, service_rates=[1e9, 1.0]), "service_rates"),
        (lambda: q.MMc(arrival_rate=0.0, service_rate=1e-300), "service_rate"),
        (lambda: q.MMc(arrival_rate=2.0, servers=2.5), "servers"),  # type: ignore[arg-type]
        (lambda: q.MMcK(arrival_rate=2.0, servers=4, places=3), "places"),
        (lambda: q.erlang_c(2, 2.0), "load"),
        (lambda: q.MG1(arrival_rate=1.0, service=1.0), "arrival_rate"),
        (lambda: q.MG1(arrival_rate=0.5, service=1.0).wait_quantile(1.0), "q"),
        (lambda: q.MG1(arrival_rate=0.5, service=1.0).wait_quantile(0.9, points=1000), "points"),
        (lambda: q.MG1PS(arrival_rate=0.5, service=q.Uniform(0, 1)).var_sojourn, "service"),
        (lambda: q.MG1(arrival_rate=0.5, service=q.Uniform(0, 1)).wait_tail(), "service"),
        (lambda: q.EkM1(arrival_rate=0.5, stages=0), "stages"),
        (lambda: q.PriorityMG1(arrival_rates=[0.5], services=[1.0, 1.0]), "services"),
        (lambda: q.RandomSplit(arrival_rate=1.0, service_rates=[1.0, 1.0], weights=[0, 0]), "weights"),
        (lambda: q.RandomSplit(arrival_rate=3.0, service_rates=[1.0, 9.0], weights=[1, 1]), "weights"),
        (lambda: q.SmallFleet(arrival_rate=1.0, service_rates=[1.0, 2.0, 3.0]), "service_rates"),
        (lambda: q.SmallFleet(arrival_rate=1.0, service_rates=[1.0, 2.0], policy="best"), "policy"),
        (lambda: q.SmallFleet(arrival_rate=1.9999, service_rates=[1.0, 1.0], truncation=0), "truncation"),
        (lambda: q.min_servers(1.0), "min_servers"),
        (lambda: q.min_servers(1.0, sojourn=(0.99, 4.6)), "sojourn"),
        (lambda: q.min_servers(1.0, mean_sojourn=1.0), "mean_sojourn"),
        (lambda: q.min_servers(1.0, wait=0.5), "wait"),  # type: ignore[arg-type]
        (lambda: q.HyperExponential([0.5, 0.4], [1.0, 2.0]), "chances"),
        (
            lambda: q.ContinuousBatching(
                arrival_rate=1e6, base_s=1, per_sequence_s=0, mean_output_tokens=9, max_batch=2
            ),
            "load",
        ),
    ],
)
def test_the_field_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()


def test_objects_are_frozen_and_pickle() -> None:
    for thing in (
        q.MMc(arrival_rate=0.5),
        q.MDc(arrival_rate=0.5),
        q.MG1(arrival_rate=0.5, service=q.Lognormal(1.0, 1.0)),
        q.RandomSplit(arrival_rate=0.5, service_rates=[1.0, 2.0]),
        q.Hedged(latency=1.0, delay=0.5),
    ):
        assert pickle.loads(pickle.dumps(thing)) == thing
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.arrival_rate = 2.0  # type: ignore
