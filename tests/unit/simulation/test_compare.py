"""Comparisons: pairing, ranking, ties, and the dictionary that the report reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import aibalance
from aibalance import ConfigError
from aibalance.simulation import (
    BalancerSpec,
    Comparison,
    Fleet,
    PoissonTraffic,
    PolicySpec,
    Scenario,
    ServerType,
    Service,
    Spike,
    SpikeTraffic,
    compare,
    t_quantile,
)


def mixed(**changes: Any) -> Scenario:
    """Fast and slow servers: turns without weights overload the slow ones."""
    kinds = [ServerType(name="fast", speed=3, weight=3, price_per_hour=3), ServerType(name="slow", price_per_hour=1)]
    fields: dict[str, Any] = {
        "name": "mixed",
        "description": "two types",
        "traffic": PoissonTraffic(rate_rps=14),
        "service": Service("exponential", mean_s=1),
        "fleet": Fleet(types=kinds, min=10),
        "duration_s": 200.0,
        "slo_s": 4.0,
        "timeout_s": 30.0,
        "replications": 6,
        "balancers": [
            BalancerSpec(picker="RoundRobin", name="turns", weights="equal"),
            BalancerSpec(picker="LeastRequest"),
        ],
    }
    return Scenario(**{**fields, **changes})


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(mixed())


def test_the_better_one_wins_and_the_sentence_says_so(comparison: Comparison) -> None:
    assert comparison.baseline == "turns"
    assert comparison.names == ("LeastRequest", "turns")
    gain = comparison.difference("LeastRequest", "p99_s")
    assert gain["verdict"] == "better"
    assert (gain["wins"], gain["of"]) == (6, 6)
    assert gain["high"] < 0
    sentence = comparison.sentence
    assert sentence.startswith("Choose LeastRequest: it answers ")
    assert "points more than turns (95 % interval" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_differences_are_paired(comparison: Comparison) -> None:
    mine, base = (comparison.reports[name] for name in ("LeastRequest", "turns"))
    assert [report.seed for report in mine] == [report.seed for report in base] == list(range(6))
    assert [report.all.requests for report in mine] == [report.all.requests for report in base]
    delta = np.array([a.all.p99_s - b.all.p99_s for a, b in zip(mine, base, strict=True)])
    found = comparison.difference("LeastRequest", "p99_s")
    half = t_quantile(0.975, 5) * delta.std(ddof=1) / math.sqrt(6)
    assert found["mean"] == pytest.approx(delta.mean())
    assert found["low"] == pytest.approx(delta.mean() - half)
    assert found["high"] == pytest.approx(delta.mean() + half)
    # Against itself there is no difference.
    same = comparison.difference("turns", "p99_s", baseline="turns")
    assert (same["mean"], same["wins"], same["verdict"]) == (0, 0, "tie")


def test_the_dictionary_has_every_part(comparison: Comparison) -> None:
    found = comparison.to_dict()
    assert set(found) == {"scenario", "candidates", "ranking", "baseline", "differences", "sentence"}
    assert json.loads(json.dumps(found)) == found
    of = found["scenario"]
    assert (of["name"], of["replications"], of["seed"], of["currency"]) == ("mixed", 6, 0, "USD")
    assert of["spike"] is None
    assert of["requests"] == pytest.approx(2800, rel=0.1)
    for one in found["candidates"]:
        assert one["phases"]["calm"] is None
        assert one["phases"]["spike"] is None
        metrics = one["phases"]["all"]
        assert set(metrics) == {
            "requests", "mean_s", "p50_s", "p95_s", "p99_s", "within_slo", "rejected", "timed_out",
        }  # fmt: skip
        for interval in [*metrics.values(), *one["servers"].values(), *one["cost"].values()]:
            assert set(interval) == {"mean", "low", "high", "values"}
            assert len(interval["values"]) == 6
            assert interval["low"] <= interval["mean"] <= interval["high"]
        assert one["cost"]["total"]["mean"] == pytest.approx(20 * 200 / 3600)
        assert one["cost"]["per_month"]["mean"] == pytest.approx(20 * 730)
        lengths = {len(column) for column in one["timeline"].values()}
        assert lengths == {240}
        assert {"t_s", "arrivals_per_s", "capacity", "desired", "in_system"} <= set(one["timeline"])
        histogram = one["latency_histogram"]
        assert len(histogram["edges_s"]) == len(histogram["counts"]) + 1
        assert sum(histogram["counts"]) == pytest.approx(sum(metrics["requests"]["values"]))
    assert (
        found["candidates"][0]["latency_histogram"]["edges_s"] == found["candidates"][1]["latency_histogram"]["edges_s"]
    )
    assert [one["rank"] for one in found["ranking"]] == [1, 2]
    assert {one["metric"] for one in found["differences"]} >= {"within_slo", "p99_s", "cost"}
    for one in found["differences"]:
        assert one["verdict"] in ("better", "worse", "tie")
        assert one["baseline"] == "turns"


def test_equal_candidates_tie() -> None:
    found = compare(mixed(), pickers={"one": "LeastRequest", "two": "LeastRequest"}, replications=3)
    ranking = found.to_dict()["ranking"]
    assert [(one["rank"], len(one["tied_with"])) for one in ranking] == [(1, 1), (1, 1)]
    assert "tie" in found.sentence


def test_cost_decides_when_the_rest_ties() -> None:
    # Both fleets always have an idle server, so requests see no difference: the smaller bill wins.
    policies = {
        "large": PolicySpec(policy="Fixed", options={"servers": 60}),
        "small": PolicySpec(policy="Fixed", options={"servers": 40}),
    }
    of = mixed(fleet=Fleet(types=[ServerType(name="a", price_per_hour=1)], min=1, max=60), slo_s=20.0)
    idle = BalancerSpec(picker="LeastRequest", name="idle", options={"full_scan": True})
    found = compare(of, pickers=[idle], policies=policies, replications=4)
    assert found.names == ("idle + small", "idle + large")
    assert "a month less than idle + large" in found.sentence


def test_phases_and_policies_and_python_pickers() -> None:
    class Grow:
        def recommend(self, observation: Any, /, *, now: float) -> Any:
            wanted = math.ceil(observation["metrics"]["in_flight"] / 2)
            return SimpleNamespace(desired=max(2, wanted))

    class Mine:
        def __init__(self, pool: Any) -> None:
            self.inner = aibalance.RoundRobin(pool)

        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            return self.inner.acquire(key, cost=cost)

    of = mixed(
        traffic=SpikeTraffic(base_rps=3, spike=Spike(factor=8, start_s=60, ramp_s=10, hold_s=60)),
        fleet=Fleet(types=[ServerType(name="a", price_per_hour=1)], min=2, max=40, initial=4, decision_interval_s=10),
    )
    told: list[float] = []
    found = compare(
        of,
        pickers={"mine": Mine, "least": "LeastRequest"},
        policies={"grow": Grow, "fixed": None},
        replications=3,
        seed=9,
        progress=told.append,
    )
    assert set(found.names) == {"mine + grow", "mine + fixed", "least + grow", "least + fixed"}
    data = found.to_dict()
    assert data["scenario"]["spike"] == {"start_s": 60, "end_s": 140, "factor": 8}
    assert data["scenario"]["seed"] == 9
    for one in data["candidates"]:
        phases = one["phases"]
        for i in range(3):
            total = phases["calm"]["requests"]["values"][i] + phases["spike"]["requests"]["values"][i]
            assert total == phases["all"]["requests"]["values"][i]
        assert one["name"] == f"{one['picker']} + {one['policy']}"
    assert {one["phase"] for one in data["differences"]} == {"all", "calm", "spike"}
    # What grows serves the spike; what is fixed does not.
    assert found.interval("least + grow", "within_slo").mean > found.interval("least + fixed", "within_slo").mean
    assert told == sorted(told)
    assert told[-1] == 1


def test_one_replication_has_no_interval() -> None:
    found = compare(mixed(), replications=1)
    interval = found.interval("turns", "p99_s")
    assert math.isnan(interval.low)
    # Without an interval nothing is sure: a tie.
    assert found.difference("LeastRequest", "p99_s")["verdict"] == "tie"
    assert "tie" in found.sentence


def test_equal_seeds_give_equal_comparisons() -> None:
    assert compare(mixed(), replications=2).to_dict() == compare(mixed(), replications=2).to_dict()


def test_arguments_that_cannot_be(comparison: Comparison) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: compare("no"), "a Scenario"),  # type: ignore[arg-type]
        (lambda: compare(mixed(balancers=())), "balancers"),
        (lambda: compare(mixed(), pickers=[]), "at least one"),
        (lambda: compare(mixed(), pickers="LeastRequest"), "a list"),
        (lambda: compare(mixed(), pickers=["LeastRequest", "LeastRequest"]), "names of their own"),
        (lambda: compare(mixed(), replications=0), "replications: 0"),
        (lambda: compare(mixed(), seed=2**64), "seed"),
        (lambda: comparison.interval("Least", "p99_s"), "LeastRequest"),
        (lambda: comparison.interval("turns", "p98_s"), "p99_s"),
        (lambda: comparison.interval("turns", "p99_s", "peak"), "calm"),
    ]
    for call, what in calls:
        with pytest.raises(ConfigError, match=what):
            call()
