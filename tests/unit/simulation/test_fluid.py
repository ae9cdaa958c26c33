"""The fluid loop from Python, and what is said about loops without running them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, MetricError, SimulationError
from aibalance.autoscaling import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    ObjectMetric,
    OutageGuard,
    PodsMetric,
    ProportionalScaling,
    StepScaling,
    TargetTracking,
)
from aibalance.autoscaling import Step as Rung
from aibalance.simulation import dead_time_backlog, growth_headroom, loop_stability, simulate_fluid

RATES = [10.0] * 5 + [70.0] * 20 + [5.0] * 20


class Wrapped:
    """Any policy, called through Python."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    def recommend(self, observation: Mapping[str, Any], /, *, now: float) -> Any:
        return self.policy.recommend(observation, now=now)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProportionalScaling(metric="utilization", target=0.5, max_capacity=30, stabilization=300),
        lambda: TargetTracking(metric="utilization_percent", target=50, max_capacity=30),
        lambda: StepScaling(metric="queue", threshold=10, steps=[Rung(lower=0, adjustment=2)], max_capacity=30),
        lambda: HorizontalPodAutoscaler(
            max_replicas=30, metrics=[PodsMetric("arrivals_per_s_per_server", average_value=5)]
        ),
        lambda: HorizontalPodAutoscaler(
            max_replicas=30,
            min_replicas=2,
            metrics=[
                ExternalMetric("queue", average_value="2"),
                ObjectMetric("demand", value=12),
                PodsMetric("no", average_value=1),
            ],
            behavior=Behavior(),
        ),
    ],
)
def test_native_and_called_policies_decide_alike(make: Any) -> None:
    options: dict[str, Any] = {"tick": 30, "capacity": 10, "cold_start": 60, "initial": 2}
    native = simulate_fluid(RATES, make(), **options)
    called = simulate_fluid(RATES, Wrapped(make()), **options)
    assert native.desired.tolist() == called.desired.tolist()
    assert native.backlog.tolist() == called.backlog.tolist()
    assert native.peak_ready > 2


def test_policies_start_fresh_and_stay_as_they_are() -> None:
    policies: list[Any] = [
        ProportionalScaling(metric="utilization", target=0.5, max_capacity=30, cooldown=90),
        HorizontalPodAutoscaler(max_replicas=30, metrics=[PodsMetric("arrivals_per_s_per_server", average_value=5)]),
    ]
    for policy in policies:
        before = policy.state()
        first = simulate_fluid(RATES, policy, tick=30, capacity=10, initial=2)
        assert simulate_fluid(RATES, policy, tick=30, capacity=10, initial=2).desired.tolist() == first.desired.tolist()
        assert policy.state() == before
        assert first.peak_ready >= 7


@pytest.mark.parametrize(
    "option", [{"cold_start": 90}, {"period": 3}, {"lag": 2}, {"capacity": 5}, {"initial": 9}, {"max_servers": 4}]
)
def test_each_option_alone_matters(option: dict[str, Any]) -> None:
    policy = ProportionalScaling(metric="utilization", target=0.5, max_capacity=30)
    base: dict[str, Any] = {"tick": 30, "capacity": 10, "initial": 2}
    plain = simulate_fluid(RATES, policy, **base)
    other = simulate_fluid(RATES, policy, **{**base, **option})
    assert plain.ready.tolist() != other.ready.tolist()
    assert simulate_fluid(RATES, policy, **base, min_servers=3 - 1).ready.tolist()[-1] == 2


def test_what_is_reported() -> None:
    report = simulate_fluid([10, 30, 0], Wrapped(Still(2)), tick=60, capacity=10, initial=2, cold_start=60)
    assert report.backlog.tolist() == [0, 600, 0]
    assert (report.server_seconds, report.backlog_integral, report.under_provisioned_minutes) == (360, 36000, 1)
    assert report.t.tolist() == [0, 60, 120]
    assert report.server_hours == pytest.approx(0.1)
    assert "0.10 server hours" in repr(report)


class Still:
    def __init__(self, desired: Any) -> None:
        self.desired = desired

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        return SimpleNamespace(desired=self.desired)


def test_no_opinion_wrong_answers_and_errors() -> None:
    assert simulate_fluid([1.0] * 4, Still(None), initial=3).desired.tolist() == [3] * 4
    with pytest.raises(SimulationError, match="'many'"):
        simulate_fluid([1.0] * 4, Still("many"))

    class Raising(Still):
        def recommend(self, observation: Any, /, *, now: float) -> Any:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        simulate_fluid([1.0] * 4, Raising(1))
    with pytest.raises((SimulationError, MetricError), match="no data"):
        simulate_fluid([1.0] * 4, Raising2())


class Raising2(Still):
    def __init__(self) -> None:
        super().__init__(1)

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        raise MetricError("no data")


def test_a_guard_holds_through_an_outage_of_the_metric() -> None:
    rates = [100.0] * 30 + [1.0] * 10 + [100.0] * 30
    inner = ProportionalScaling(metric="arrivals_per_s", metric_type="total", target=8, max_capacity=30)
    options: dict[str, Any] = {"capacity": 10, "cold_start": 180, "initial": 13}
    plain = simulate_fluid(rates, inner, **options)
    careful = simulate_fluid(rates, OutageGuard(policy=inner, metric="arrivals_per_s", frozen=None), **options)
    assert careful.under_provisioned_minutes == 0 < plain.under_provisioned_minutes


@pytest.mark.parametrize(
    ("rates", "options", "field"),
    [
        ([1.0, math.nan], {}, r"rates\[1\]"),
        ([-1.0], {}, r"rates\[0\]"),
        ([[1.0]], {}, "rates"),
        ([1.0], {"tick": 0}, "tick"),
        ([1.0], {"capacity": 0}, "capacity"),
        ([1.0], {"cold_start": -1}, "cold_start"),
        ([1.0], {"period": 0}, "period"),
        ([1.0], {"lag": 1.5}, "lag"),
        ([1.0], {"initial": 9, "max_servers": 3}, "initial"),
        ([1.0], {"min_servers": 9, "max_servers": 3}, "max_servers"),
    ],
)
def test_what_cannot_be(rates: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        simulate_fluid(rates, Still(1), **options)


def test_what_is_no_policy() -> None:
    for policy in (3, Still, None):
        with pytest.raises(ConfigError, match="policy"):
            simulate_fluid([1.0], policy)
    assert len(simulate_fluid([], Still(1)).ready) == 0


def test_the_formula_of_dead_time_is_what_the_loop_does() -> None:
    said = dead_time_backlog(40, servers=2, capacity=10, target=0.5, detect=10, boot=30)
    policy = ProportionalScaling(metric="arrivals_per_s", metric_type="total", target=5, max_capacity=50)
    report = simulate_fluid([40.0] * 12, policy, tick=10, capacity=10, cold_start=30, initial=2)
    assert report.backlog.max() == said.peak_backlog
    assert report.t[int(report.backlog.argmax())] + 10 == said.time_of_peak
    assert report.t[4:][report.backlog[4:] == 0][0] + 10 == said.clear_at
    assert dead_time_backlog(5, servers=2, capacity=10).peak_backlog == 0
    assert dead_time_backlog(40, servers=0, capacity=10, target=1, boot=1).max_fifo_delay == math.inf
    assert dead_time_backlog(40, servers=2, capacity=10, boot=1).drain_time == math.inf


@pytest.mark.parametrize("delay", range(8))
def test_stability_is_what_the_recurrence_does(delay: int) -> None:
    most = loop_stability(delay=delay).max_stable_gain
    for gain in (0.05, 0.2, 0.9 * most, 1.1 * most):
        said = loop_stability(gain=gain, delay=delay)
        assert said.stable == (gain < most) == (said.spectral_radius < 1)
        x = [1.0] * (delay + 1)
        for _ in range(4000):
            x.append(x[-1] - gain * x[-1 - delay])
            if abs(x[-1]) > 1e100 or max(map(abs, x[-delay - 1 :])) < 1e-100:
                break
        assert (abs(x[-1]) < 1) == said.stable
    assert not loop_stability(gain=most, delay=delay).stable
    double = delay**delay / (delay + 1) ** (delay + 1)
    assert loop_stability(gain=double, delay=delay).spectral_radius == pytest.approx(delay / (delay + 1), abs=1e-9)


def test_headroom() -> None:
    assert growth_headroom(0, reaction=60, capacity=10, load=35).replicas == 4
    assert growth_headroom(1, reaction=60, capacity=10, load=0).max_utilization == 0
    with pytest.raises(ConfigError, match="growth"):
        growth_headroom(-1, reaction=60, capacity=10, load=0)
    assert isinstance(np.float64(growth_headroom(1, reaction=1, capacity=1, load=1).extra_capacity), float)
