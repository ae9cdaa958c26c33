"""Several candidates on the same traffic, in paired replications."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check
from ._drivers import Balancer, Policy, balancer, policy
from ._interrupted import Interrupted
from ._run import PhaseReport, Report, run
from ._scenario import Scenario
from ._statistics import Interval, interval
from ._traffic import TokenService, TraceTraffic

_PHASES = ("all", "calm", "spike")
_METRICS = ("requests", "mean_s", "p50_s", "p95_s", "p99_s", "within_slo", "rejected", "timed_out")

# What a ranking looks at, in this order, and the smallest difference that counts: a tenth of a percentage point of the
# requests, 1 % of the p99, 1 % of the cost. Smaller ones are ties however sure they are.
_CRITERIA = (("within_slo", 1, 0.001, False), ("p99_s", -1, 0.01, True), ("cost", -1, 0.01, True))

_DIFFERENCES = ("within_slo", "p50_s", "p95_s", "p99_s", "mean_s", "rejected", "timed_out")
_KNOWN = (*_METRICS, "wait_mean_s", "p90_s", "p99_9_s", "cost", "servers_mean")
_BINS_A_DECADE = 20


@dataclass(frozen=True, repr=False)
class _Candidate:
    name: str
    by: Balancer
    scaling: Policy
    reports: tuple[Report, ...]

    def column(self, metric: str, phase: str = "all") -> NDArray[np.float64]:
        """A value a replication."""
        check.choice("metric", metric, _KNOWN)
        check.choice("phase", phase, _PHASES)
        return np.array([_value(report, metric, phase) for report in self.reports], dtype=np.float64)


def _value(report: Report, metric: str, phase: str) -> float:
    match metric:
        case "cost":
            return report.cost
        case "servers_mean":
            return report.servers_mean
    of: PhaseReport | None = getattr(report, phase)
    if of is None:
        return math.nan
    if metric in ("rejected", "timed_out"):
        return getattr(of, metric) / of.requests if of.requests else math.nan
    return float(getattr(of, metric))


def _verdict(mine: NDArray[np.float64], other: NDArray[np.float64], sign: int, margin: float, relative: bool) -> str:
    """Whether `mine` is better, worse, or a tie, from paired values."""
    both = np.isfinite(mine) & np.isfinite(other)
    if not both.any():
        return "tie"
    found = interval(mine[both] - other[both])
    least = margin * abs(float(other[both].mean())) if relative else margin
    if abs(found.mean) <= least:
        return "tie"
    if found.low > 0 or found.high < 0:
        return "better" if sign * found.mean > 0 else "worse"
    return "tie"


class Comparison:
    """What `compare` found. `reports[name]` are a candidate's runs, one a replication."""

    def __init__(self, scenario: Scenario, candidates: Sequence[_Candidate], seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.replications = len(candidates[0].reports)
        self._candidates = tuple(candidates)
        self._ranking = self._rank()

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.names)} on {self.scenario.name!r}, {self.replications} replications>"

    @property
    def names(self) -> tuple[str, ...]:
        """The candidates, best first."""
        return tuple(one["name"] for one in self._ranking)

    @property
    def baseline(self) -> str:
        """The candidate that differences are against: the first that was given."""
        return self._candidates[0].name

    @property
    def reports(self) -> dict[str, tuple[Report, ...]]:
        """Each candidate's runs, in the order of replications."""
        return {one.name: one.reports for one in self._candidates}

    def interval(self, name: str, metric: str, phase: str = "all") -> Interval:
        """A candidate's mean of a metric over replications, with its 95 % interval."""
        return interval(self._find(name).column(metric, phase))

    def difference(self, name: str, metric: str, phase: str = "all", *, baseline: str | None = None) -> dict[str, Any]:
        """What `name` has more of than the baseline, replication by replication, with its 95 % interval.

        `metric` is "within_slo", "rejected", "timed_out" (shares), "mean_s", "p50_s", "p95_s", "p99_s", "cost" or
        "servers_mean". `wins` counts the replications in which it is strictly better; less is
        better but for "within_slo".
        """
        mine, other = self._find(name), self._find(baseline or self.baseline)
        a, b = mine.column(metric, phase), other.column(metric, phase)
        sign = 1 if metric == "within_slo" else -1
        share = metric in ("within_slo", "rejected", "timed_out")
        found = interval(a - b)
        return {
            "name": mine.name,
            "baseline": other.name,
            "phase": phase,
            "metric": metric,
            "mean": found.mean,
            "low": found.low,
            "high": found.high,
            "wins": int(np.sum(sign * (a - b) > 0)),
            "of": int(np.sum(np.isfinite(a - b))),
            "verdict": _verdict(a, b, sign, 0.001 if share else 0.01, not share),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the scenario, the candidates with their intervals, the ranking, the differences, a sentence."""
        return self._plain()

    def _plain(self, *, brief: bool = False) -> dict[str, Any]:
        """`brief` leaves out the differences, for who is in a hurry: they are half of the work."""
        edges = self._edges()
        others = [one.name for one in self._candidates if one.name != self.baseline]
        phases = [phase for phase in _PHASES if getattr(self._candidates[0].reports[0], phase) is not None]
        if self.scenario.spike is None:
            phases = ["all"]
        if brief:
            others = []
        differences = [
            self.difference(name, metric, phase) for name in others for phase in phases for metric in _DIFFERENCES
        ]
        differences += [self.difference(name, metric) for name in others for metric in ("cost", "servers_mean")]
        return {
            "scenario": self._scenario(),
            "candidates": [self._candidate(one, phases, edges) for one in self._candidates],
            "ranking": [dict(one) for one in self._ranking],
            "baseline": self.baseline,
            "differences": differences,
            "sentence": self.sentence,
        }

    def to_html(self, path: str | PathLike[str], /) -> None:
        """Writes the report: one HTML file, readable offline. Needs the extra `aibalance[report]`."""
        from ..report import write_html

        write_html(self.to_dict(), path)

    def _repr_html_(self) -> str:
        """The report, in a notebook."""
        from ..report import shown, to_html

        return shown(lambda: to_html(self.to_dict()), self.sentence)

    def _find(self, name: str) -> _Candidate:
        for one in self._candidates:
            if one.name == name:
                return one
        raise check.wrong("name", name, f"one of {', '.join(one.name for one in self._candidates)}")

    def _against(self, a: _Candidate, b: _Candidate) -> tuple[str, str]:
        """Whether a is better than b, and by which criterion."""
        for metric, sign, margin, relative in _CRITERIA:
            verdict = _verdict(a.column(metric), b.column(metric), sign, margin, relative)
            if verdict != "tie":
                return verdict, metric
        return "tie", ""

    def _rank(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, str]] = {one.name: {} for one in self._candidates}
        for i, a in enumerate(self._candidates):
            for b in self._candidates[i + 1 :]:
                verdict, _ = self._against(a, b)
                found[a.name][b.name] = verdict
                found[b.name][a.name] = {"better": "worse", "worse": "better"}.get(verdict, "tie")
        means = {
            one.name: tuple(
                -sign * mean if math.isfinite(mean := interval(one.column(metric)).mean) else math.inf
                for metric, sign, _, _ in _CRITERIA
            )
            for one in self._candidates
        }
        rows = [
            {
                "name": name,
                "rank": 1 + sum(verdict == "worse" for verdict in against.values()),
                "tied_with": [other for other, verdict in against.items() if verdict == "tie"],
            }
            for name, against in found.items()
        ]
        return sorted(rows, key=lambda row: (row["rank"], means[row["name"]]))

    @property
    def sentence(self) -> str:
        """What to choose and what it gains, in one sentence."""
        best = self._find(self._ranking[0]["name"])
        share = interval(best.column("within_slo"))
        p99 = interval(best.column("p99_s"))
        slo = f"{self.scenario.slo_s:g} s"
        price = self._price(interval(best.column("cost")).mean)
        text = f"it answers {share.mean:.1%} of requests within {slo} (p99 {_seconds(p99.mean)}) at {price}"
        if len(self._candidates) == 1:
            return f"{best.name} is the only candidate: {text}."
        tied = self._ranking[0]["tied_with"]
        other = self._reference(best)
        if other is None:
            return f"The candidates tie, so take the simplest; with {best.name}, {text}."
        # What set it apart from the one that it is held against.
        _, metric = self._against(best, other)
        gain = interval(best.column(metric) - other.column(metric))
        match metric:
            case "within_slo":
                surely = _range(100 * gain.low, 100 * gain.high, ".2f" if abs(gain.mean) < 0.01 else ".1f")
                rival = interval(other.column("p99_s"))
                what = f"{100 * gain.mean:.1f} points more than {other.name} ({surely}; p99 {_seconds(rival.mean)})"
            case "p99_s":
                surely = _range(-gain.high, -gain.low, ".3g")
                what = f"a p99 {_seconds(-gain.mean)} shorter than with {other.name} ({surely})"
            case _:
                what = f"{self._price(-gain.mean)} less than {other.name}"
        tie = f" ({_list(tied)} {'ties' if len(tied) == 1 else 'tie'} with it)" if tied else ""
        return f"Choose {best.name}{tie}: {text}, {what}."

    def _reference(self, best: _Candidate) -> _Candidate | None:
        """Whom to hold the best against: the baseline, or if that is it or ties, the next that it beats."""
        order = [self.baseline, *(one["name"] for one in self._ranking)]
        for name in order:
            other = self._find(name)
            if other is not best and self._against(best, other)[0] == "better":
                return other
        return None

    def _per_month(self) -> float:
        return 730 * 3600 / self.scenario.duration_s

    def _price(self, cost: float) -> str:
        """What a run's cost means. Nobody has a spike all month long, so a run with one is priced as it is."""
        if self.scenario.spike is not None:
            return f"{_usd(cost)} for the run"
        return f"{_usd(cost * self._per_month())} a month"

    def _scenario(self) -> dict[str, Any]:
        of = self.scenario
        spike = of.spike
        traffic = of.traffic.describe()
        service = of.service.describe()
        if isinstance(of.traffic, TraceTraffic) and isinstance(of.service, TokenService):
            traffic += " (replications differ in that and in the noise of the work)"
        requests = [report.all.requests for one in self._candidates[:1] for report in one.reports]
        return {
            "name": of.name,
            "description": of.description,
            "duration_s": of.duration_s,
            "slo_s": of.slo_s,
            "timeout_s": of.timeout_s,
            "seed": self.seed,
            "replications": self.replications,
            "requests": float(np.mean(requests)),
            "spike": None
            if spike is None
            else {"start_s": spike.start_s, "end_s": spike.end_s, "factor": spike.factor},
            "traffic": traffic,
            "service": service,
            "fleet": of.fleet.describe(),
            "currency": "USD",
            "latencies": "of served and timed-out requests; a timed-out one counts with its timeout, a rejected one "
            "has none; both count as outside the SLO",
        }

    def _candidate(self, one: _Candidate, phases: list[str], edges: NDArray[np.float64]) -> dict[str, Any]:
        cost = one.column("cost")
        timeline = {
            name: np.mean([report.timeline[name] for report in one.reports], axis=0).tolist()
            for name in one.reports[0].timeline
        }
        timeline["t_s"] = one.reports[0].timeline["t_s"].tolist()
        counts = np.zeros(max(len(edges) - 1, 0))
        for report in one.reports:
            low, high, n = report.histogram
            if len(n):
                at = np.clip(np.searchsorted(edges, np.sqrt(low * high), side="right") - 1, 0, len(counts) - 1)
                np.add.at(counts, at, n)
        return {
            "name": one.name,
            "picker": one.by.name,
            "policy": one.scaling.name,
            "phases": {
                phase: {metric: interval(one.column(metric, phase)).to_dict() for metric in _METRICS}
                if phase in phases
                else None
                for phase in _PHASES
            },
            "servers": {
                "mean": interval(one.column("servers_mean")).to_dict(),
                "peak": interval([report.servers_peak for report in one.reports]).to_dict(),
            },
            "cost": {
                "total": interval(cost).to_dict(),
                "per_month": interval(cost * self._per_month()).to_dict(),
            },
            "timeline": timeline,
            "latency_histogram": {"edges_s": edges.tolist(), "counts": counts.tolist()},
        }

    def _edges(self) -> NDArray[np.float64]:
        """Edges that the latencies of all candidates fit in, equal on a logarithmic scale."""
        cells = [report.histogram for one in self._candidates for report in one.reports if len(report.histogram[2])]
        if not cells:
            return np.empty(0)
        low = min(float(cell[0][0]) for cell in cells)
        high = max(float(cell[1][-1]) for cell in cells)
        # A latency below a microsecond is shown as one.
        first = math.floor(math.log10(max(low, 1e-6)) * _BINS_A_DECADE)
        last = max(math.ceil(math.log10(max(high, 1e-6)) * _BINS_A_DECADE), first + 1)
        return np.power(10.0, np.arange(first, last + 1) / _BINS_A_DECADE)


def _seconds(value: float) -> str:
    if not math.isfinite(value):
        return "unknown"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def _usd(value: float) -> str:
    return f"${value:,.0f}" if value >= 100 else f"${value:,.2f}"


def _range(low: float, high: float, form: str) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "one replication: no interval"
    return f"95 % interval {low:{form}} to {high:{form}}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _named(given: Any, what: str) -> list[tuple[str | None, Any]]:
    if isinstance(given, Mapping):
        out: list[tuple[str | None, Any]] = [(check.text(what, name), one) for name, one in given.items()]
    elif isinstance(given, list | tuple):
        out = [(None, one) for one in given]
    else:
        raise check.wrong(what, given, "a list, or a mapping of names")
    if not out:
        raise check.wrong(what, given, "at least one")
    return out


def compare(
    scenario: Scenario,
    /,
    *,
    pickers: Any = None,
    policies: Any = None,
    replications: int | None = None,
    seed: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Comparison:
    """Run every balancer with every scaling policy on the same traffic, several times, and rank them.

    Replication r of every candidate uses the seed `seed + r`: the same arrivals, the same work for the same request,
    the same keys. So differences are taken pair by pair, and chance that hits all alike cancels.

    Parameters
    ----------
    pickers, policies : lists, or mappings from a name to one, of whatever `simulate` takes (default: the scenario's;
        without any policy the fleet is fixed).
    replications : runs of each candidate (default: the scenario's); an interval needs at least 2.
    seed : of the first replication (default: the scenario's).
    progress : called with the fraction done, now and then.

    Raises what `simulate` raises. A KeyboardInterrupt has `known`: the Comparison of the replications that all have
    run (in the first one, of the candidates that have), None before the first run is over; and `text`, of how much.
    """
    if not isinstance(scenario, Scenario):
        raise check.wrong("scenario", scenario, "a Scenario; Scenario.load(path) reads a file")
    if pickers is None:
        if not scenario.balancers:
            raise check.wrong("pickers", pickers, "at least one, as the scenario has no [[balancers]]")
        pickers = scenario.balancers
    if policies is None:
        policies = scenario.policies or [None]
    by = [balancer(one, scenario, name=name) for name, one in _named(pickers, "pickers")]
    scaling = [policy(one, scenario, name=name) for name, one in _named(policies, "policies")]
    n = scenario.replications if replications is None else check.whole("replications", replications, 1, 10_000)
    first = scenario.seed if seed is None else check.whole("seed", seed, 0, 2**64 - 1)
    pairs = [(one, other) for one in by for other in scaling]
    names = [one.name if len(scaling) == 1 else f"{one.name} + {other.name}" for one, other in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"pickers: two candidates are called {name!r}; give them names of their own")
    reports: list[list[Report]] = [[] for _ in pairs]
    total = n * len(pairs)
    # Replication by replication, so that an interrupted run has wasted no pair, and progress is even.
    try:
        for r in range(n):
            for i, (one, other) in enumerate(pairs):
                done = r * len(pairs) + i
                tell = None if progress is None else _scaled(progress, done, total)
                reports[i].append(run(scenario, one, other, (first + r) % 2**64, progress=tell))
        if progress is not None:
            progress(1.0)
    except KeyboardInterrupt as stop:
        raise _interrupted(scenario, names, pairs, reports, n, first) from stop
    candidates = [
        _Candidate(name, one, other, tuple(of)) for name, (one, other), of in zip(names, pairs, reports, strict=True)
    ]
    return Comparison(scenario, candidates, first)


def _interrupted(
    scenario: Scenario,
    names: Sequence[str],
    pairs: Sequence[tuple[Balancer, Policy]],
    reports: Sequence[Sequence[Report]],
    replications: int,
    seed: int,
) -> Interrupted:
    """What is known when a comparison is stopped: only whole replications compare like with like."""
    runs = sum(len(of) for of in reports)
    text = f"{runs:,} of {replications * len(pairs):,} runs are over"
    whole = min(len(of) for of in reports)
    known = [
        _Candidate(name, one, other, tuple(of[: max(whole, 1)]))
        for name, (one, other), of in zip(names, pairs, reports, strict=True)
        if of
    ]
    if not known:
        return Interrupted(None, text)
    counted = (
        f"{whole} of {replications} replications count"
        if whole
        else f"only {len(known)} of {len(pairs)} candidates have run, once each"
    )
    return Interrupted(Comparison(scenario, known, seed), f"{text}; {counted}")


def alone(report: Report) -> Comparison:
    """One run as a comparison of one candidate, which is what a page is made of."""
    scenario = report.scenario
    by = Balancer(report.picker, report.picker, lambda seed: None)
    scaling = Policy(report.policy, report.policy, lambda: None, scenario.fleet)
    return Comparison(scenario, [_Candidate(report.picker, by, scaling, (report,))], report.seed)


def _scaled(progress: Callable[[float], object], done: int, total: int) -> Callable[[float], object]:
    return lambda fraction: progress((done + fraction) / total)
