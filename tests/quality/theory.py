"""The engine against exact queueing results: M/M/c and M/G/1 FIFO, mean and 99th percentile of the time in system.

Each case is 20 independent runs. Chance that is known to be chance is taken out by control variates: the mean of the
drawn work and the number of arrivals, whose true values are known, and for heavy tails also the mean square of the
work and its mean excess over the percentile. The estimate is the intercept of the regression of the 20 results on
those 20 deviations, and its standard error is the intercept's. The engine itself runs as it always does.

    python -m tests.quality.theory [PART OF AN ID ...]     the full sweep, as a table; takes some minutes
"""

from __future__ import annotations

import gzip
import json
import math
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aibalance import _core
from aibalance.simulation import Fleet, PoissonTraffic, Report, Scenario, ServerType, Service, simulate

RUNS = 20
HEAVY = ("lognormal", "bounded_pareto", "hyperexponential")
"""Laws whose mean square and excess are controls too."""


def cases() -> list[dict[str, Any]]:
    """All cases of both files."""
    found = []
    for name in ("mm_queues", "mg1"):
        with gzip.open(Path(__file__).parent / "vectors" / f"{name}.json.gz", "rt", encoding="utf-8") as file:
            found += json.load(file)["cases"]
    return found


@dataclass(frozen=True)
class Law:
    """A case's service law: for the simulator, and what is known of it."""

    service: Service
    mean: float
    second: float

    def excess(self, q: float) -> float:
        """E[(S - q)+]."""
        of = dict(self.service.parameters)
        normal = NormalDist()
        match self.service.kind:
            case "lognormal":
                sigma = of["sigma"]
                mu = math.log(of["mean_s"]) - sigma**2 / 2
                d = (mu - math.log(q)) / sigma
                return float(of["mean_s"] * normal.cdf(d + sigma) - q * normal.cdf(d))
            case "bounded_pareto":
                a, low, high = of["alpha"], of["low_s"], of["high_s"]
                if q >= high:
                    return 0.0
                cut = 1 - (low / high) ** a
                tail = (low**a) * (q ** (1 - a) - high ** (1 - a)) / (a - 1) / cut
                return float(tail - (high - q) * (low / high) ** a / cut)
            case "hyperexponential":
                return float(sum(p * m * math.exp(-q / m) for p, m in zip(of["p"], of["means_s"], strict=True)))
        raise AssertionError(self.service.kind)


def law(case: dict[str, Any]) -> Law:
    """The service law of a case."""
    if "mu" in case:
        mean = 1 / case["mu"]
        return Law(Service("exponential", mean_s=mean), mean, 2 * mean**2)
    text = case["service"]
    given = [float(one) for one in re.findall(r"\d+\.?\d*(?:e-?\d+)?", text)]
    if text.startswith("deterministic"):
        service = Service("deterministic", value_s=1)
    elif text.startswith("exponential"):
        service = Service("exponential", mean_s=1)
    elif text.startswith("Erlang"):
        service = Service("erlang", mean_s=1, stages=int(given[0]))
    elif text.startswith("uniform"):
        service = Service("uniform", low_s=0, high_s=2)
    elif text.startswith("hyper"):
        service = Service("hyperexponential", p=[given[0], 1 - given[0]], means_s=[1 / given[1], 1 / given[2]])
    elif text.startswith("lognormal"):
        service = Service("lognormal", mean_s=1, sigma=given[0])
    else:
        service = Service("bounded_pareto", alpha=given[0], low_s=given[1], high_s=given[2])
    return Law(service, 1.0, case["moments"][1])


def length(case: dict[str, Any]) -> int:
    """Requests a run: more where queues remember long or work varies much."""
    rho, c = case["ref"]["rho"], case.get("c", 1)
    n = min(240_000 * max(1.0, 0.04 / (1 - rho) ** 2), 6e6)
    if rho < 0.98:
        # More slots forget sooner; close to saturation the empty start would still show.
        n /= max(1.0, min(c, 25) ** 0.5)
    if law(case).service.kind in HEAVY:
        n = max(n, 400_000 * max(1.0, case["ref"]["scv"] / 4) ** 1.5)
    return int(min(max(n, 240_000), 60_000_000))


@dataclass(frozen=True)
class Found:
    """What the runs of a case gave, beside the exact values. p99 is a bracket that holds the truth."""

    id: str
    rho: float
    n: int
    mean: float
    mean_se: float
    mean_exact: float
    p99: float
    p99_se: float
    p99_low: float
    p99_high: float
    wall_s: float

    def problems(self) -> list[str]:
        """Which bounds do not hold."""
        out = []
        most = 0.08 if self.rho >= 0.98 else 0.02
        if not self.mean_se <= most * self.mean_exact:
            out.append(f"standard error of the mean {self.mean_se / self.mean_exact:.2%} > {most:.0%}")
        if not self.p99_se <= most * self.p99_low:
            out.append(f"standard error of the p99 {self.p99_se / self.p99_low:.2%} > {most:.0%}")
        if not abs(self.mean - self.mean_exact) <= max(4 * self.mean_se, 0.01 * self.mean_exact):
            out.append(f"mean {self.mean:.6g} +- {self.mean_se:.2g}, exact {self.mean_exact:.6g}")
        room = max(4 * self.p99_se, 0.01 * self.p99_low)
        if not self.p99_low - room <= self.p99 <= self.p99_high + room:
            out.append(f"p99 {self.p99:.6g} +- {self.p99_se:.2g}, exact {self.p99_low:.6g} to {self.p99_high:.6g}")
        return out


def tail(report: Report, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of requests whose latency is above each level."""
    low, high, counts = report.histogram
    above = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]]).astype(np.float64)
    at = np.searchsorted(high, levels, side="left")
    out = above[np.minimum(at + 1, len(counts))]
    inside = at < len(counts)
    cell = np.minimum(at, len(counts) - 1)
    part = np.clip((high[cell] - levels) / (high[cell] - low[cell]), 0, 1)
    return np.asarray((out + np.where(inside, part * counts[cell], 0)) / counts.sum())


def intercept(values: NDArray[np.float64], controls: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of `values` where every control (a column each, true mean 0) is 0, and its standard error."""
    n = len(values)
    basis: list[NDArray[np.float64]] = []
    shift: list[float] = []
    for column in controls.T:
        mean = float(column.mean())
        rest = column - mean
        size = float(np.linalg.norm(rest))
        for kept, kept_mean in zip(basis, shift, strict=True):
            part = float(kept @ rest)
            rest, mean = rest - part * kept, mean - part * kept_mean
        left = float(np.linalg.norm(rest))
        # A column that the others say already, such as that of a law without chance, adds nothing.
        if left > 1e-6 * size:
            basis.append(rest / left)
            shift.append(mean / left)
    slopes = [float(kept @ values) for kept in basis]
    rest = values - values.mean()
    for kept, slope in zip(basis, slopes, strict=True):
        rest = rest - slope * kept
    variance = float(rest @ rest) / (n - 1 - len(basis))
    at = float(values.mean()) - sum(slope * mean for slope, mean in zip(slopes, shift, strict=True))
    return at, math.sqrt(variance * (1 / n + sum(mean**2 for mean in shift)))


def check(case: dict[str, Any], n: int | None = None, seed: int = 1) -> Found:
    """Run a case."""
    began = time.perf_counter()
    of, lam, ref = law(case), case["lam"], case["ref"]
    n = n or length(case)
    if "fifo_quantile_brackets" in ref:
        bracket = ref["fifo_quantile_brackets"]["sojourn"]["p99"]
        low, high = bracket["lo"], bracket["hi"]
    else:
        low = high = ref["sojourn"]["p99"]
    levels = low * np.linspace(0.7, 1.3, 25)
    heavy = of.service.kind in HEAVY
    scenario = Scenario(
        name=case["id"],
        traffic=PoissonTraffic(rate_rps=lam),
        service=of.service,
        fleet=Fleet(types=[ServerType(name="a", concurrency=case.get("c", 1))]),
        duration_s=n / lam,
        slo_s=1,
    )
    core = scenario._core(equal_weights=False, cost_is_work=False)
    means, tails, drawn = [], [], []
    for run in range(RUNS):
        report = simulate(scenario, picker="test:round_robin", seed=seed * 1_000_003 + run)
        sums = _core._simulate_work_sums(core, report.seed, report.all.requests, list(levels) if heavy else [])
        means.append(report.all.mean_s)
        tails.append(tail(report, levels))
        drawn.append([report.all.requests, *sums])
    table = np.array(drawn)
    count = table[:, 0]
    # Deviations from what is known; each has mean 0. Sums run to a random count, which is independent of what is
    # summed.
    known = [count / n - 1, (table[:, 1] - count * of.mean) / n]
    if heavy:
        known.append((table[:, 2] - count * of.second) / n)
    base = np.column_stack(known)
    mean, mean_se = intercept(np.array(means), base)
    shares = np.array(tails)
    curve = []
    for j, level in enumerate(levels):
        extra = [(table[:, 3 + j] - count * of.excess(level)) / n] if heavy else []
        curve.append(intercept(shares[:, j], np.column_stack([base, *extra])))
    share = np.array([one[0] for one in curve])
    # The level that one in a hundred exceeds, where the curve crosses; its error is that of the share over the slope.
    logs = np.log(np.maximum(share, 1e-12))
    p99 = float(np.interp(-math.log(0.01), -logs, levels))
    at = int(np.argmin(np.abs(levels - p99)))
    slope = abs(np.polyfit(levels[max(at - 3, 0) : at + 4], logs[max(at - 3, 0) : at + 4], 1)[0]) * 0.01
    return Found(
        case["id"],
        ref["rho"],
        n,
        mean,
        mean_se,
        ref["mean_sojourn"],
        p99,
        curve[at][1] / slope,
        low,
        high,
        time.perf_counter() - began,
    )


def main(only: list[str]) -> int:
    """Print the full sweep as a table; 1 when a bound does not hold."""
    print("| case | requests a run | mean: off, se | p99: off, se | s | |\n|---|---:|---:|---:|---:|---|")
    bad = 0
    for case in cases():
        if only and not any(part in case["id"] for part in only):
            continue
        found = check(case)
        problems = found.problems()
        bad += bool(problems)
        off = found.p99 / min(max(found.p99, found.p99_low), found.p99_high) - 1
        mean, error = found.mean / found.mean_exact - 1, found.mean_se / found.mean_exact
        print(
            f"| {found.id} | {found.n:,} | {mean:+.2%}, {error:.2%} "
            f"| {off:+.2%}, {found.p99_se / found.p99_low:.2%} | {found.wall_s:.1f} | {'; '.join(problems)} |",
            flush=True,
        )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
