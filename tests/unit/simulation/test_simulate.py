"""One run, seen from Python."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import aibalance
import aibalance.autoscaling
from aibalance import ConfigError, SimulationError
from aibalance.simulation import (
    BalancerSpec,
    Fleet,
    Keys,
    PoissonTraffic,
    PolicySpec,
    Scenario,
    ServerType,
    Service,
    Spike,
    SpikeTraffic,
    TokenService,
    simulate,
)

NATIVE = (
    aibalance.RoundRobin,
    aibalance.WeightedRandom,
    aibalance.LeastRequest,
    aibalance.JoinIdleQueue,
    aibalance.PeakEwma,
    aibalance.LeastTime,
    aibalance.Prequal,
    aibalance.ClientSideWeightedRoundRobin,
    aibalance.RingHash,
    aibalance.Maglev,
    aibalance.ModuloHash,
    aibalance.IpHash,
    aibalance.SourceHash,
    aibalance.Rendezvous,
    aibalance.JumpHash,
    aibalance.JumpBackHash,
    aibalance.MementoHash,
    aibalance.MultiProbeHash,
)


def scenario(**changes: Any) -> Scenario:
    fields: dict[str, Any] = {
        "name": "small",
        "traffic": PoissonTraffic(rate_rps=8),
        "service": Service("exponential", mean_s=1),
        "fleet": Fleet(types=[ServerType(name="a", price_per_hour=3.6)], min=10),
        "duration_s": 300.0,
        "slo_s": 3.0,
        "balancers": [BalancerSpec(picker="LeastRequest"), BalancerSpec(picker="RoundRobin", name="turns")],
    }
    return Scenario(**{**fields, **changes})


def trace(n: int = 50) -> SimpleNamespace:
    times = np.arange(n) * 0.5
    return SimpleNamespace(name="made up", arrival_s=times, input_tokens=np.full(n, 1000), output_tokens=np.full(n, 10))


def test_a_report_adds_up() -> None:
    report = simulate(scenario(timeout_s=4.0), records=True, seed=3)
    records = report.records
    assert records is not None
    n = report.all.requests
    assert len(records) == n
    assert abs(n - 2400) < 5 * 49
    assert np.all(np.diff(records.arrival) >= 0)
    assert records.arrival[-1] < 300
    served = records.outcome == 0
    assert served.sum() == report.all.served
    assert (records.outcome == 2).sum() == report.all.timed_out
    assert report.all.served + report.all.rejected + report.all.timed_out == n
    assert records.latency.max() <= 4.0 + 1e-9
    assert np.allclose(records.wait + records.service, records.latency, atol=2e-9)
    assert report.all.mean_s == pytest.approx(records.latency.mean(), rel=1e-9)
    assert report.all.p99_s == pytest.approx(np.quantile(records.latency, 0.99), rel=5e-3)
    assert report.all.p50_s == pytest.approx(np.quantile(records.latency, 0.5), rel=5e-3)
    assert report.all.within_slo == pytest.approx((served & (records.latency <= 3)).mean())
    assert set(np.unique(records.server)) <= set(range(10))
    low, high, counts = report.histogram
    assert counts.sum() == n
    assert np.all(low < high)
    # Ten servers for 300 s at 3.6 $ an hour.
    assert report.cost == pytest.approx(3.0)
    assert report.cost_per_month == pytest.approx(10 * 3.6 * 730)
    assert report.servers_mean == report.servers_peak == 10
    assert len(report.timeline["t_s"]) == 240
    assert report.timeline["arrivals_per_s"].mean() == pytest.approx(n / 300)
    assert np.all(report.timeline["capacity_rps"] == pytest.approx(10))
    assert "small" in report.summary()
    assert report.to_dict()["phases"]["all"]["requests"] == n
    assert report.to_dict()["phases"]["spike"] is None
    assert pickle.loads(pickle.dumps(report)).all == report.all


@pytest.mark.parametrize("cls", NATIVE, ids=lambda cls: str(cls.__name__))
def test_a_picker_decides_the_same_natively_and_through_python(cls: Any) -> None:
    # Natively the engine takes the picker's policy; a callable of a pool drives the very same class through its leases.
    kinds = [ServerType(name="fast", speed=2, weight=2), ServerType(name="slow")]
    of = scenario(fleet=Fleet(types=kinds, min=6, queue_limit=3), keys=Keys(distinct=50), timeout_s=5, duration_s=100)
    native = simulate(of, picker=cls, records=True)
    driven = simulate(of, picker=lambda pool: cls(pool), records=True)
    assert native.records is not None
    assert driven.records is not None
    assert native.all.requests > 500
    for column in ("arrival", "server", "latency", "outcome"):
        assert np.array_equal(getattr(native.records, column), getattr(driven.records, column)), column


@pytest.mark.parametrize("cls", NATIVE, ids=lambda cls: str(cls.__name__))
def test_the_fleet_may_change_under_every_picker(cls: Any) -> None:
    class Wave:
        """Up and down and up, to zero once."""

        def __init__(self) -> None:
            self.seen: list[Any] = []

        def recommend(self, observation: Any, /, *, now: float) -> Any:
            assert observation["current"] >= 0
            return SimpleNamespace(desired=[8, 2, 0, 5, 9, 1][int(now // 30) % 6])

    of = scenario(
        fleet=Fleet(types=[ServerType(name="a")], min=0, max=10, initial=3, load_s=2, decision_interval_s=10),
        traffic=PoissonTraffic(rate_rps=4),
    )
    runs = [simulate(of, picker=picker, policy=Wave) for picker in (cls, lambda pool: cls(pool))]
    for report in runs:
        assert report.servers_peak >= 9
        assert report.all.rejected > 0
        assert report.decisions == 30
        assert report.all.served > 0
    assert runs[0].all == runs[1].all
    assert runs[0].cost == runs[1].cost


def test_candidates_meet_the_same_requests() -> None:
    runs = [simulate(scenario(), picker=name, records=True).records for name in ("LeastRequest", "turns", "Maglev")]
    for other in runs[1:]:
        assert runs[0] is not None
        assert other is not None
        assert np.array_equal(runs[0].arrival, other.arrival)
        assert np.array_equal(runs[0].service, other.service)
    assert simulate(scenario(), seed=1).all != simulate(scenario(), seed=2).all
    assert simulate(scenario(), seed=1).all == simulate(scenario(), seed=1).all


def test_weights_and_cost_reach_the_balancer() -> None:
    kinds = [ServerType(name="big", weight=3), ServerType(name="small", weight=1)]
    of = scenario(fleet=Fleet(types=kinds, min=2, concurrency=100))

    def share(spec: BalancerSpec) -> float:
        records = simulate(of, picker=spec, records=True).records
        assert records is not None
        return float((records.server == 0).mean())

    assert share(BalancerSpec(picker="RoundRobin")) == pytest.approx(0.75, abs=0.01)
    assert share(BalancerSpec(picker="RoundRobin", weights="equal")) == pytest.approx(0.5, abs=0.01)

    costs: list[float] = []

    class Spy:
        def __init__(self, pool: Any) -> None:
            self.inner = aibalance.LeastRequest(pool)

        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            costs.append(cost)
            return self.inner.acquire(key, cost=cost)

    simulate(of, picker=Spy)
    assert set(costs) == {1.0}
    one = simulate(of, picker=BalancerSpec(picker="LeastRequest"), records=True).records
    work = simulate(of, picker=BalancerSpec(picker="LeastRequest", cost="work"), records=True).records
    assert one is not None
    assert work is not None
    assert not np.array_equal(one.server, work.server)


def test_phases_follow_the_spike() -> None:
    spike = Spike(factor=5, start_s=100, hold_s=50)
    report = simulate(scenario(traffic=SpikeTraffic(base_rps=2, spike=spike)), records=True)
    assert report.spike is not None
    assert report.calm is not None
    assert report.records is not None
    inside = (report.records.arrival >= 100) & (report.records.arrival < 150)
    assert report.spike.requests == inside.sum()
    assert report.calm.requests == (~inside).sum()
    assert report.spike.requests == pytest.approx(500, abs=5 * 23)
    assert "spike" in report.summary()


def test_discarded_requests_are_not_measured() -> None:
    whole, part = simulate(scenario(), records=True), simulate(scenario(discard_s=100.0))
    assert whole.records is not None
    assert part.all.requests == (whole.records.arrival >= 100).sum()


def test_a_trace_brings_its_work() -> None:
    tokens = TokenService(base_s=0.1, prefill_s_per_token=0.001, decode_s_per_token=0.05, noise_cv=0.0)
    of = scenario(tokens=tokens).with_trace(trace())
    assert of.duration_s == 25
    report = simulate(of, records=True)
    assert report.records is not None
    assert len(report.records) == 50
    assert np.allclose(report.records.service, 0.1 + 1.0 + 0.5)
    assert np.allclose(np.diff(report.records.arrival), 0.5)
    noisy = simulate(of.replace(service=TokenService(noise_cv=0.3)), records=True).records
    assert noisy is not None
    assert noisy.service.std() > 0.1
    # A spike from copies, and twice the time.
    loud = scenario(traffic=SpikeTraffic(base_rps=1, spike=Spike(factor=4, start_s=10, hold_s=5)))
    report = simulate(loud.with_trace(trace(), keep_spike=True))
    assert report.spike is not None
    assert report.spike.requests == 40
    assert simulate(of.with_trace(trace(), time_scale=2)).all.requests == 50
    assert of.with_trace(trace(), time_scale=2).duration_s == 50
    # Work from a law instead of tokens: the trace gives the arrivals.
    law = of.replace(service=Service("deterministic", value_s=0.25))
    only = simulate(law, records=True).records
    assert only is not None
    assert np.allclose(only.service, 0.25)
    with pytest.raises(ConfigError, match="at least one request"):
        scenario().with_trace(trace(0))


def test_the_policy_sees_what_is_documented() -> None:
    seen: list[Any] = []

    class Keep:
        def recommend(self, observation: Any, /, *, now: float) -> Any:
            seen.append((now, observation))
            return SimpleNamespace(desired=observation["desired"])

    of = scenario(
        traffic=PoissonTraffic(rate_rps=20),
        fleet=Fleet(types=[ServerType(name="a", concurrency=4)], min=10, decision_interval_s=30, metric_delay_s=45),
    )
    simulate(of, policy=Keep)
    # The first metric is there once something is older than the delay.
    assert [now for now, _ in seen] == [60, 90, 120, 150, 180, 210, 240, 270, 300]
    for _, observation in seen[2:]:
        metrics = observation["metrics"]
        assert observation["current"] == observation["desired"] == 10
        assert metrics["utilization"] == pytest.approx(0.5, abs=0.12)
        assert metrics["utilization_percent"] == pytest.approx(100 * metrics["utilization"])
        assert metrics["arrivals_per_s"] == pytest.approx(20, abs=4)
        assert metrics["in_flight"] == pytest.approx(40 * metrics["utilization"] + metrics["queue"])
        assert metrics["in_flight_per_server"] == pytest.approx(metrics["in_flight"] / 10)


def test_a_given_policy_object_is_not_changed() -> None:
    class Counts:
        calls = 0

        def recommend(self, observation: Any, /, *, now: float) -> Any:
            self.calls += 1
            return SimpleNamespace(desired=10)

    policy = Counts()
    simulate(scenario(), policy=policy)
    assert policy.calls == 0


def test_progress_rises_to_one() -> None:
    told: list[float] = []
    simulate(scenario(duration_s=5000.0), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) >= 1


def test_what_a_picker_or_policy_raises() -> None:
    class Broken:
        def __init__(self, pool: Any) -> None:
            pass

        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            raise ZeroDivisionError("mine")

    with pytest.raises(SimulationError, match="balancer: ZeroDivisionError: mine") as raised:
        simulate(scenario(), picker=Broken)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)

    class Stops(Broken):
        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(scenario(), picker=Stops)

    class Ours(Broken):
        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            raise aibalance.MetricError("ours")

    with pytest.raises(aibalance.MetricError, match="ours"):
        simulate(scenario(), picker=Ours)

    class NoAcquire:
        def __init__(self, pool: Any) -> None:
            pass

    with pytest.raises(ConfigError, match="acquire"):
        simulate(scenario(), picker=NoAcquire)

    class Odd:
        def recommend(self, observation: Any, /, *, now: float) -> Any:
            return SimpleNamespace(desired=2.5)

    with pytest.raises(SimulationError, match=r"2\.5"):
        simulate(scenario(fleet=Fleet(types=[ServerType(name="a")], min=1, max=5)), policy=Odd)

    def angry(fraction: float) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        simulate(scenario(), progress=angry)


def test_arguments_that_cannot_be() -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: simulate("no"), "a Scenario"),  # type: ignore[arg-type]
        (lambda: simulate(scenario(), picker="LeastRequests"), "did you mean 'LeastRequest'"),
        (lambda: simulate(scenario(), picker=7), "a picker class"),
        (lambda: simulate(scenario(balancers=())), "no \\[\\[balancers\\]\\]"),
        (lambda: simulate(scenario(), policy="none"), "Fixed"),
        (lambda: simulate(scenario(), policy=7), "recommend"),
        (lambda: simulate(scenario(), seed=-1), "seed: -1"),
        (lambda: simulate(scenario(), picker=BalancerSpec(picker="Maglev", options={"size": 3})), "options"),
        (lambda: simulate(scenario(), picker=BalancerSpec(picker="Maglev", options={"table_size": 4})), "table_size"),
        (lambda: simulate(scenario(), picker=BalancerSpec(picker="Maglev", options={"seed": 4})), "seed"),
        (lambda: simulate(scenario(), policy=PolicySpec(policy="Fixed", options={"servers": 11})), "fleet.max"),
        (lambda: scenario(slo=3), "slo"),
        (lambda: scenario().replace(slo=3), "did you mean"),
        (lambda: scenario(traffic=3), "traffic: 3"),
        (lambda: scenario(service=TokenService()), "tokens"),
        (lambda: Service("gamma", mean_s=1, shape=2, cv=1), "exactly one"),
        (lambda: Service("uniform", low_s=2, high_s=1), "high_s"),
        (lambda: Service("empirical", values_s=[]), "at least one"),
        (lambda: Service("hyperexponential", p=[0.5, 0.4], means_s=[1, 1]), "add up"),
        (lambda: Service("exponential"), "mean_s: missing"),
        (lambda: Fleet(types=[]), "at least one"),
        (lambda: Fleet(types=[ServerType(name="a", max=3)], min=4), "sum of the types' max"),
        (lambda: PolicySpec(policy="Fixed", options={"server": 3}), "unknown key"),
        (lambda: PolicySpec(policy="StepScaling"), "metric"),
        (lambda: PolicySpec(policy="Combined"), "list of policies"),
    ]
    for call, what in calls:
        with pytest.raises((ConfigError, TypeError), match=what):
            call()


def test_a_fixed_fleet_of_another_size() -> None:
    of = scenario(fleet=Fleet(types=[ServerType(name="a")], min=1, max=20, initial=5))
    report = simulate(of, policy=PolicySpec(policy="Fixed", options={"servers": 12}))
    assert report.servers_mean == report.servers_peak == 12
    assert simulate(of, policy=PolicySpec(policy="Fixed", options={"servers": 0})).all.rejected > 0


def test_the_policies_of_the_package_scale_a_fleet() -> None:
    of = scenario(
        traffic=SpikeTraffic(base_rps=4, spike=Spike(factor=6, start_s=600, hold_s=1800)),
        fleet=Fleet(
            types=[ServerType(name="a", price_per_hour=1)], min=2, max=60, initial=6, load_s=20, decision_interval_s=30
        ),
        duration_s=4800.0,
    )
    direct = {"high_alarm": None, "low_alarm": None}
    track = PolicySpec(policy="TargetTracking", metric="utilization", target=0.6, options=direct)
    steps = {"threshold": 0.8, "steps": [{"lower": 0, "adjustment": 4}]}
    less = {"threshold": 0.3, "direction": "low", "steps": [{"upper": 0, "adjustment": -1}]}
    step = {"policy": "StepScaling", "metric": "utilization"}
    both = PolicySpec(policy="Combined", options={"policies": [{**step, "options": steps}, {**step, "options": less}]})
    for policy in (track, both):
        report = simulate(of, policy=policy)
        capacity, at = report.timeline["capacity"], report.timeline["t_s"]
        before, inside, after = (
            capacity[(at > a) & (at <= b)].mean() for a, b in [(300, 600), (1500, 2400), (4200, 4800)]
        )
        # 4 and 24 busy servers at a target of 0.6, or between 0.3 and 0.8.
        assert 4 <= before <= 14
        assert 28 <= inside <= 60
        assert after < inside / 2
        assert report.all.within_slo > 0.7
    object_of_mine = aibalance.autoscaling.TargetTracking(
        metric="utilization", target=0.6, max_capacity=60, high_alarm=None, low_alarm=None
    )
    assert simulate(of, policy=object_of_mine).servers_peak > 28


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_interrupt_is_heard_while_the_engine_runs() -> None:
    def ring(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        # 10^9 requests: it would run for minutes.
        with pytest.raises(KeyboardInterrupt):
            simulate(scenario(traffic=PoissonTraffic(rate_rps=1e4), timeout_s=1.0, duration_s=1e5))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_numbers_of_numpy_are_numbers() -> None:
    of = scenario(slo_s=np.float32(2.5), seed=np.int64(3), traffic=PoissonTraffic(rate_rps=np.float64(4)))
    assert simulate(of).seed == 3
    assert simulate(of, seed=np.uint32(7)).seed == 7  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(of)) == of
