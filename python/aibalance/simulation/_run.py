"""One run, and what it measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from . import _checks as check
from ._drivers import Balancer, FailoverDriver, GroupDriver, Policy, balancer, policy
from ._scenario import Scenario

OUTCOMES = ("success", "rejected", "timeout", "failure")
"""What the numbers in `Records.outcome` mean."""

HOURS_A_MONTH = 730.0
"""Hours that a monthly cost is for: 365 * 24 / 12."""


@dataclass(frozen=True, repr=False)
class Records:
    """One entry a request, in order of arrival. Times are seconds; a rejected request has server -1 and zeros."""

    arrival: NDArray[np.float64]
    wait: NDArray[np.float64]
    service: NDArray[np.float64]
    latency: NDArray[np.float64]
    server: NDArray[np.int64]
    outcome: NDArray[np.uint8]
    """0 success, 1 rejected, 2 timeout, 3 failure."""

    def __len__(self) -> int:
        return len(self.arrival)

    def __repr__(self) -> str:
        return f"<Records: {len(self):,} requests>"


@dataclass(frozen=True)
class PhaseReport:
    """What happened to the requests of one phase (all, calm, or spike) or class.

    Latencies are of served and timed-out requests; a timed-out one counts with its timeout, a rejected or failed one
    has none.
    Shares are of all requests. Percentiles come from a histogram with three significant digits, the mean is exact.
    """

    requests: int
    served: int
    rejected: int
    timed_out: int
    within_slo: float
    mean_s: float
    wait_mean_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    p99_9_s: float
    failed: int = 0

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return dict(self.__dict__)


@dataclass(frozen=True, repr=False)
class Report:
    """What one run measured. `all`, `calm` and `spike` are PhaseReports (`spike` is None for traffic without one)."""

    scenario: Scenario
    picker: str
    policy: str
    seed: int
    all: PhaseReport
    calm: PhaseReport | None
    spike: PhaseReport | None
    servers_mean: float
    servers_peak: int
    launched: dict[str, int]
    cost: float
    utilization: float
    in_system_mean: float
    decisions: int
    timeline: dict[str, NDArray[np.float64]]
    histogram: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint64]]
    """The cells of the latency histogram that hold something: lowest and highest latency in seconds, count."""
    records: Records | None
    classes: dict[str, PhaseReport] = field(default_factory=dict)
    """By class, for a scenario with `classes`."""
    details: dict[str, float] = field(default_factory=dict)
    """Counts and means that only some scenarios have: see docs/simulation.md. Counts are of the whole run."""

    def __repr__(self) -> str:
        return f"<Report: {self.picker}, {self.policy}, {self.all.requests:,} requests, p99 {self.all.p99_s:.4g} s>"

    @property
    def cost_per_month(self) -> float:
        """USD for 730 hours like this run."""
        return self.cost * HOURS_A_MONTH * 3600 / self.scenario.duration_s

    def summary(self) -> str:
        """Some lines for people."""
        lines = [
            f"{self.scenario.name}: {self.picker}, {self.policy}, seed {self.seed}",
            "".join(
                [f"{'':8}", *(f"{head:>10}" for head in ("requests", "mean", "p50", "p95", "p99"))]
                + [f"{head:>9}" for head in ("in SLO", "rejected", "timeout")]
            ),
        ]
        for name in ("all", "calm", "spike"):
            of: PhaseReport | None = getattr(self, name)
            if of is None or (name == "calm" and self.spike is None):
                continue
            times = "".join(f"{value:>9.4g}s" for value in (of.mean_s, of.p50_s, of.p95_s, of.p99_s))
            shares = (of.within_slo, _share(of.rejected, of.requests), _share(of.timed_out, of.requests))
            lines.append(f"{name:8}{of.requests:>10,}{times}" + "".join(f"{value:>9.2%}" for value in shares))
        for name, of in self.classes.items():
            lines.append(
                f"{name}: {of.requests:,} requests, mean {of.mean_s:.4g} s, p99 {of.p99_s:.4g} s, "
                f"in SLO {of.within_slo:.2%}"
            )
        if self.all.failed:
            lines.append(f"failed: {self.all.failed:,} ({_share(self.all.failed, self.all.requests):.2%})")
        lines.append(
            f"servers: mean {self.servers_mean:.4g}, peak {self.servers_peak}; busy {self.utilization:.1%}; "
            f"${self.cost:,.2f}, ${self.cost_per_month:,.0f} a month"
        )
        return "\n".join(lines)

    def to_html(self, path: str | PathLike[str], /) -> None:
        """Writes the run as a page: one HTML file, readable offline. Needs the extra `aibalance[report]`."""
        from ._compare import alone

        alone(self).to_html(path)

    def _repr_html_(self) -> str:
        """A table, in a notebook."""
        phases = [(name, of) for name in ("all", "calm", "spike") if (of := getattr(self, name)) is not None]
        if self.spike is None:
            phases = phases[:1]
        phases += list(self.classes.items())
        heads = ("", "requests", "mean", "p50", "p95", "p99", "in SLO", "rejected", "timed out")
        rows = [
            (
                escape(name),
                f"{of.requests:,}",
                *(f"{value:.4g} s" for value in (of.mean_s, of.p50_s, of.p95_s, of.p99_s)),
                f"{of.within_slo:.2%}",
                f"{_share(of.rejected, of.requests):.2%}",
                f"{_share(of.timed_out, of.requests):.2%}",
            )
            for name, of in phases
        ]
        head = "".join(f"<th>{one}</th>" for one in heads)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        title, last = (escape(line) for line in (self.summary().splitlines()[0], self.summary().splitlines()[-1]))
        return f"<p><b>{title}</b></p><table><tr>{head}</tr>{body}</table><p>{last}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the records."""
        return {
            "scenario": self.scenario.name,
            "picker": self.picker,
            "policy": self.policy,
            "seed": self.seed,
            "phases": {
                name: None if of is None else of.to_dict()
                for name, of in (("all", self.all), ("calm", self.calm), ("spike", self.spike))
            },
            "servers": {"mean": self.servers_mean, "peak": self.servers_peak, "launched": dict(self.launched)},
            "cost": {"total": self.cost, "per_month": self.cost_per_month, "currency": "USD"},
            "utilization": self.utilization,
            "in_system_mean": self.in_system_mean,
            "decisions": self.decisions,
            "classes": {name: of.to_dict() for name, of in self.classes.items()},
            "details": dict(self.details),
            "timeline": {name: column.tolist() for name, column in self.timeline.items()},
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _phase(of: dict[str, Any]) -> PhaseReport:
    share = _share(of["within_slo"], of["requests"])
    rest = {name: of[name] for name in PhaseReport.__dataclass_fields__ if name != "within_slo"}
    return PhaseReport(within_slo=share, **rest)


def _made(scenario: Scenario, by: Balancer, seed: int) -> Any:
    """What the engine takes as balancer: one, or as many as there are dispatchers, each with a chance of its own."""
    if scenario.dispatchers is None:
        return by.make(seed)
    return [by.make((seed + (i << 32)) % 2**64) for i in range(scenario.dispatchers.count)]


def run(
    scenario: Scenario,
    by: Balancer,
    scaling: Policy,
    seed: int,
    *,
    records: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Report:
    """One run of one candidate."""
    arrival, work = scenario._columns(seed)
    of = scenario if scaling.fleet is scenario.fleet else scenario.replace(fleet=scaling.fleet)
    made, scaler = _made(scenario, by, seed), scaling.make()
    if isinstance(scaler, GroupDriver):
        scaler.begin(seed)
    found = _core._simulate(
        of._core(equal_weights=by.equal_weights, cost_is_work=by.cost_is_work, pull=by.pull),
        made,
        scaler,
        seed=seed,
        records=records,
        progress=progress,
        arrival_s=arrival,
        work_s=work,
        tokens=scenario._tokens(),
    )
    detail = dict(found["detail"] or {})
    classes = detail.pop("classes", ())
    cost = found["cost"]
    for one in (scaler, *(made if isinstance(made, list) else [made])):
        if isinstance(one, GroupDriver | FailoverDriver):
            spent, more = one.extra(float(scenario.duration_s))
            cost += spent
            detail.update({name: detail.get(name, 0.0) + value for name, value in more.items()})
    whole = found["all"]
    spike = scenario.spike is not None
    columns = found["records"]
    return Report(
        scenario=scenario,
        picker=by.name,
        policy=scaling.name,
        seed=seed,
        all=_phase(whole),
        calm=_phase(found["calm"]),
        spike=_phase(found["spike"]) if spike else None,
        servers_mean=found["servers_mean"],
        servers_peak=found["servers_peak"],
        launched=dict(zip((one.name for one in scenario.fleet.types), found["launched"], strict=True)),
        cost=cost,
        utilization=found["utilization"],
        in_system_mean=found["in_system_mean"],
        decisions=found["decisions"],
        timeline=found["timeline"],
        histogram=(whole["low_s"], whole["high_s"], whole["counts"]),
        records=None if columns is None else Records(**columns),
        classes={name: _phase(one) for name, one in classes},
        # What did not occur has no mean.
        details={name: value for name, value in detail.items() if not math.isnan(value)},
    )


def simulate(
    scenario: Scenario,
    /,
    *,
    picker: Any = None,
    policy: Any = None,
    seed: int | None = None,
    records: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Report:
    """Run a scenario once.

    Parameters
    ----------
    picker : a name in the scenario, a picker's name such as "LeastRequest", a BalancerSpec, a picker class, or a
        callable of a Pool that gives an object with the `Picker` protocol (default: the scenario's first balancer).
    policy : a name in the scenario, a PolicySpec, an object with `recommend(mapping, now=...)`, or a callable that
        makes one; "Fixed" keeps the fleet's initial size (default: the scenario's first policy, else "Fixed"). A given
        object is copied, so that every run starts from its state.
    seed : equal seeds give equal runs (default: the scenario's).
    records : keep one record a request (default False).
    progress : called with the fraction done, now and then.

    Raises ConfigError for a parameter that cannot be, SimulationError when the run cannot go on or when a picker or
    policy raised (its exception is the cause; aibalance's own pass as they are).
    """
    if not isinstance(scenario, Scenario):
        raise check.wrong("scenario", scenario, "a Scenario; Scenario.load(path) reads a file")
    if picker is None:
        if not scenario.balancers:
            raise check.wrong("picker", picker, "a picker, as the scenario has no [[balancers]]")
        picker = scenario.balancers[0]
    if policy is None and scenario.policies:
        policy = scenario.policies[0]
    seed = scenario.seed if seed is None else check.whole("seed", seed, 0, 2**64 - 1)
    by, scaling = balancer(picker, scenario), _policy(policy, scenario)
    return run(scenario, by, scaling, seed, records=records, progress=progress)


_policy = policy
