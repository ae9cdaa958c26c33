"""Stochastic reference values, asked again of the simulator: five runs a case, and the bound that the file names.

A value agrees when it is within the file's rule, where the standard error is that of both sides: the file's and that of
the mean of our five runs. `AIBALANCE_FULL=1` makes the runs ten times as long.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from aibalance.simulation import (
    BalancerSpec,
    Dispatchers,
    Fleet,
    Hedging,
    LLMService,
    PoissonTraffic,
    Report,
    RequestClass,
    Scenario,
    ServerType,
    Service,
    simulate,
)

from .model import Result
from .recording import Record, UnreadableError, cases

RUNS = 5
BOUND = "five runs a case against the mean: 3 standard errors of both sides and the share that the file allows"
EXPONENTIAL = Service("exponential", mean_s=1)


def full() -> bool:
    """Whether long runs are asked for."""
    return os.environ.get("AIBALANCE_FULL") == "1"


class Runs:
    """Five runs of one case."""

    def __init__(self, scenario: Scenario, picker: Any) -> None:
        self.reports: list[Report] = [simulate(scenario, picker=picker, seed=seed) for seed in range(RUNS)]

    def mean(self, measure: Callable[[Report], float]) -> tuple[float, float]:
        """Mean and its standard error."""
        values = np.array([measure(report) for report in self.reports])
        return float(values.mean()), float(values.std(ddof=1) / math.sqrt(RUNS))


def agree(result: Result, where: str, theirs: float, se: float, ours: tuple[float, float], share: float) -> None:
    """One value: within three standard errors of the difference and a share of the value."""
    bound = 3 * math.hypot(se, ours[1]) + share * abs(theirs)
    near = abs(ours[0] - theirs) <= bound
    result.bound = BOUND
    result.check(f"{where} (bound {bound:.4g})", theirs, theirs if near else ours[0])


def scenario(
    rate: float, requests: float, servers: list[ServerType], service: Any = EXPONENTIAL, **more: Any
) -> Scenario:
    """Poisson traffic that brings about so many requests; a fifth of the time is left out of the measures."""
    duration = requests * (10 if full() else 1) / rate
    fleet = more.pop("fleet", {})
    return Scenario(
        name="theory",
        traffic=PoissonTraffic(rate_rps=rate),
        service=service,
        fleet=Fleet(types=servers, min=fleet.pop("min", len(servers)), **fleet),
        duration_s=duration,
        discard_s=duration / 5,
        slo_s=1.0,
        **more,
    )


def _alike(n: int) -> dict[str, Any]:
    return {"servers": [ServerType(name="a")], "fleet": {"min": n}}


JSQ = BalancerSpec(picker="LeastRequest", options={"full_scan": True}, weights="equal")
POLICIES = {
    "p2c_distinct": BalancerSpec(picker="LeastRequest"),
    "p3c_distinct": BalancerSpec(picker="LeastRequest", options={"choices": 3}),
    "p2c_with_replacement": BalancerSpec(picker="LeastRequest", options={"replace": True}),
    "jsq": JSQ,
    "jsq_count": JSQ,
    "random": BalancerSpec(picker="WeightedRandom"),
    "weighted_random": BalancerSpec(picker="WeightedRandom"),
    "weighted_least_plus1": BalancerSpec(picker="LeastRequest", options={"full_scan": True}),
    "weighted_least": BalancerSpec(picker="LeastRequest", options={"full_scan": True, "score": "before"}),
    "weighted_least_tie_fast": BalancerSpec(
        picker="LeastRequest", options={"full_scan": True, "score": "before", "ties": "heaviest"}
    ),
    # One dispatcher whose list of idle servers is always right.
    "jiq_central": BalancerSpec(picker="JoinIdleQueue"),
    "jiq": BalancerSpec(picker="JoinIdleQueue"),
}


def _policy(case: Record) -> BalancerSpec:
    name = case.text("policy")
    if name not in POLICIES:
        raise UnreadableError(f"{case.where}: policy: {name!r} is not one of {', '.join(POLICIES)}")
    return POLICIES[name]


def _idle(case: Record) -> dict[str, Any]:
    # Without an idle server JIQ picks at random. Ours picks the less loaded of two that it knows of; told only who is
    # idle, it knows of no load.
    return {"dispatchers": Dispatchers(view="idle")} if case.text("policy").startswith("jiq") else {}


def supermarket_finite(document: dict[str, Any], requests: float = 3e5) -> Result:
    """Choices of two, three and all, and JIQ, over 2 to 500 servers: 3 standard errors + 0.5 %."""
    result = Result()
    for case in cases(document):
        n, load, ref = case.integer("N"), case.number("lam"), case.record("ref")
        # The closer to saturation, the longer it remembers.
        effort = requests * max(1.0, 0.05 / (1 - load))
        runs = Runs(scenario(n * load, effort, **_alike(n), **_idle(case)), _policy(case))
        agree(
            result,
            f"{case.where}: mean_sojourn",
            ref.number("mean_sojourn"),
            ref.number("se"),
            runs.mean(lambda r: r.all.mean_s),
            0.005,
        )
    return result


def exact_small_n(document: dict[str, Any], requests: float = 3e5) -> Result:
    """Two and three servers, alike and unlike: 1 % up to a load of 0.8, 2 % above."""
    result = Result()
    for case in cases(document):
        ref, mus = case.record("ref"), case.items("mus", int, float)
        load = case.number("rho") if case.has("rho") else case.number("lam")
        rate = load * sum(mus)
        types = [ServerType(name=f"s{i}", speed=mu, weight=mu, max=1) for i, mu in enumerate(mus)]
        effort = requests * max(1.0, 0.1 / (1 - load) ** 2)
        runs = Runs(scenario(rate, effort, types, **_idle(case)), _policy(case))
        share = 0.01 if load <= 0.8 else 0.02
        agree(
            result,
            f"{case.where}: mean_sojourn",
            ref.number("mean_sojourn"),
            0.0,
            runs.mean(lambda r: r.all.mean_s),
            share,
        )
        agree(
            result,
            f"{case.where}: mean_number",
            ref.number("mean_number"),
            0.0,
            # By Little's law: what is in the system before the measures begin is not of interest.
            runs.mean(lambda r: r.all.mean_s * r.all.requests / (0.8 * r.scenario.duration_s)),
            share,
        )
    return result


def jiq(document: dict[str, Any], requests: float = 3e5) -> Result:
    """500 servers and 500 / r dispatchers with their own idle queues: 3 standard errors + 1 %."""
    result = Result()
    for case in cases(document):
        load, check = case.number("lam"), case.record("check")
        count = round(500 / case.number("r"))
        effort = requests * max(1.0, 0.1 / (1 - load))
        runs = Runs(
            scenario(500 * load, effort, **_alike(500), dispatchers=Dispatchers(count=count, view="idle")),
            POLICIES["jiq"],
        )
        agree(
            result,
            f"{case.where}: sim_N500_mean_sojourn",
            check.number("sim_N500_mean_sojourn"),
            check.number("se"),
            runs.mean(lambda r: r.all.mean_s),
            0.01,
        )
    return result


def stale_information(document: dict[str, Any], requests: float = 3e5) -> Result:
    """The least loaded of d on a board that is refreshed now and then: 3 standard errors + 1 %."""
    result = Result()
    for case in cases(document):
        n, load, ref = case.integer("N"), case.number("lam"), case.record("ref")
        every = case.number("refresh_every")
        runs = Runs(
            scenario(n * load, requests, **_alike(n), dispatchers=Dispatchers(view="board", refresh_s=every)),
            BalancerSpec(picker="LeastRequest", options={"choices": case.integer("d")}),
        )
        agree(
            result,
            f"{case.where}: mean_sojourn",
            ref.number("mean_sojourn"),
            ref.number("se"),
            runs.mean(lambda r: r.all.mean_s),
            0.01,
        )
    return result


def law(text: str) -> Service:
    """A service or latency law as the files write it."""
    numbers = [float(x) for x in re.findall(r"\d*\.?\d+", text)]
    if text.startswith("deterministic"):
        return Service("deterministic", value_s=numbers[0])
    if text.startswith("exponential"):
        return Service("exponential", mean_s=numbers[0])
    if text.startswith("lognormal"):
        return Service("lognormal", mean_s=1.0, sigma=numbers[0])
    if text.startswith("bounded Pareto"):
        return Service("bounded_pareto", alpha=numbers[0], low_s=numbers[1], high_s=numbers[2])
    if text.startswith("hyperexponential"):
        p, one, two = numbers
        return Service("hyperexponential", p=[p, 1 - p], means_s=[1 / one, 1 / two])
    if text.startswith("Weibull"):
        # No law of ours: its quantiles, fine enough for the 99th percentile.
        u = (np.arange(400_000) + 0.5) / 400_000
        values = (-np.log1p(-u)) ** (1 / numbers[0])
        return Service("empirical", values_s=(values / math.gamma(1 + 1 / numbers[0])).tolist())
    raise UnreadableError(f"{text!r} is no law that is known here")


def mg1_ps(document: dict[str, Any], requests: float = 3e5) -> Result:
    """Processor sharing knows no law but the mean: 2 % up to a load of 0.8, 4 % at 0.9."""
    result = Result()
    for case in cases(document):
        load, ref = case.number("lam"), case.record("ref")
        effort = requests * max(1.0, 0.05 / (1 - load) ** 2)
        service = law(case.text("service"))
        runs = Runs(
            scenario(load, effort, [ServerType(name="a")], service, fleet={"discipline": "sharing"}), "RoundRobin"
        )
        share = 0.02 if load <= 0.8 else 0.04
        agree(
            result,
            f"{case.where}: mean_sojourn",
            ref.number("mean_sojourn"),
            0,
            runs.mean(lambda r: r.all.mean_s),
            share,
        )
        agree(
            result,
            f"{case.where}: mean_number",
            ref.number("mean_number"),
            0,
            runs.mean(lambda r: r.in_system_mean),
            share,
        )
    return result


def _by_scv(mean: float, scv: float) -> Service:
    if scv == 0:
        return Service("deterministic", value_s=mean)
    if scv == 1:
        return Service("exponential", mean_s=mean)
    return Service("gamma", mean_s=mean, cv=math.sqrt(scv))


def priority(document: dict[str, Any], requests: float = 3e5) -> Result:
    """Mean waits of two classes by Cobham. The file has no rule for simulators: 3 standard errors + 2 %."""
    result = Result()
    for case in cases(document):
        rates, means, scv = (case.items(name, int, float) for name in ("lams", "means", "scv"))
        waits = case.record("ref").items("nonpreemptive_mean_wait", int, float)
        classes = [
            RequestClass(name=str(i), share=rate, priority=i, service=_by_scv(mean, spread))
            for i, (rate, mean, spread) in enumerate(zip(rates, means, scv, strict=True))
        ]
        runs = Runs(
            scenario(sum(rates), requests, [ServerType(name="a")], fleet={"discipline": "priority"}, classes=classes),
            "RoundRobin",
        )
        for i, wait in enumerate(waits):
            ours = runs.mean(lambda r, name=str(i): r.classes[name].wait_mean_s)  # type: ignore[misc]
            agree(result, f"{case.where}: nonpreemptive_mean_wait[{i}]", wait, 0.0, ours, 0.02)
    return result


def _batch(report: Report) -> float:
    """Sequences in the batch, by Little's law: what is there before the measures begin is not of interest."""
    rate = report.all.requests / (report.scenario.duration_s - report.scenario.discard_s)
    return rate * (report.all.mean_s - report.all.wait_mean_s)


def batching_ps(document: dict[str, Any], requests: float = 6e4) -> Result:
    """Continuous batching in discrete steps with geometric lengths against the birth-death chain: 3 %. A request waits
    up to one step before it joins, so half a step comes on top of its latency."""
    result = Result()
    for case in cases(document):
        ref = case.record("ref")
        a, b, cap, mean = case.number("a"), case.number("b"), case.integer("cap"), case.number("mean_out_tokens")
        service = LLMService(
            input_tokens=0, output_tokens={"kind": "geometric", "mean": mean}, step_s=a, sequence_s=b, block_tokens=0
        )
        runs = Runs(
            scenario(ref.number("req_rate"), requests, [ServerType(name="a", concurrency=cap)], service), "RoundRobin"
        )
        half = (a + b * ref.number("mean_batch")) / 2
        latency, se = runs.mean(lambda r: r.all.mean_s)
        agree(result, f"{case.where}: mean_latency", ref.number("mean_latency"), 0.0, (latency - half, se), 0.03)
        token = ref.number("mean_time_per_output_token")
        agree(
            result,
            f"{case.where}: mean_time_per_output_token",
            token,
            0.0,
            runs.mean(lambda r: r.details["token_mean_s"]),
            0.03,
        )
        agree(result, f"{case.where}: mean_batch", ref.number("mean_batch"), 0.0, runs.mean(_batch), 0.03)
    return result


def hedging(document: dict[str, Any], requests: float = 4e5) -> Result:
    """Hedged requests without queueing: p99 and mean within 1 %, and so many more requests. Fan-out and retry
    amplification of the file are closed forms without a queue; they are not for the simulator."""
    result = Result()
    for case in cases(document):
        if not case.has("latency"):
            continue
        ref = case.record("ref")
        runs = Runs(
            scenario(
                100.0,
                requests,
                [ServerType(name="a", concurrency=1_000_000)],
                law(case.text("latency")),
                fleet={"min": 20},
                hedging=Hedging(after_s=ref.number("delay"), budget=None),
                work_per="attempt",
            ),
            "WeightedRandom",
        )
        quantiles = ref.record("quantiles")
        agree(result, f"{case.where}: mean", ref.number("mean"), 0.0, runs.mean(lambda r: r.all.mean_s), 0.01)
        agree(result, f"{case.where}: p99", quantiles.number("p99"), 0.0, runs.mean(lambda r: r.all.p99_s), 0.01)
        extra = runs.mean(lambda r: r.details["hedges"] / (r.details["attempts"] - r.details["hedges"]))
        agree(result, f"{case.where}: extra_request_fraction", ref.number("extra_request_fraction"), 0.0, extra, 0.01)
    return result


KINDS: list[tuple[set[str], set[str], Callable[[dict[str, Any]], Result]]] = [
    ({"policy", "N", "lam"}, {"mean_sojourn", "se"}, supermarket_finite),
    ({"policy", "N", "mus"}, {"mean_sojourn", "mean_number"}, exact_small_n),
    ({"model", "lam", "r"}, {"mean_sojourn_mean_field"}, jiq),
    ({"N", "lam", "d", "refresh_every"}, {"mean_sojourn"}, stale_information),
    ({"model", "service", "lam"}, {"conditional_mean"}, mg1_ps),
    ({"model", "lams", "means", "scv"}, {"nonpreemptive_mean_wait"}, priority),
    ({"model", "a", "b", "cap", "mean_out_tokens"}, {"mean_batch"}, batching_ps),
]


def checker(found: list[Record]) -> Callable[[dict[str, Any]], Result] | None:
    """Who checks these cases of a theory file by simulation; None when nobody does."""
    for fields, values, adapter in KINDS:
        if all(fields <= case.names() and values <= case.record("ref").names() for case in found):
            return adapter
    if any(case.has("hedge_after_quantile") for case in found):
        return hedging
    return None
