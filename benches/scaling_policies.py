"""Reactive, scheduled, predictive and combined scaling on recorded traffic: server hours and under-provisioned minutes.

    python benches/scaling_policies.py FOLDER    # with the traces that docs/forecasting.md names; none is shipped

Each policy is tuned on the first half of a trace and scored on the second, by
server hours + K * under-provisioned minutes.
"""

from __future__ import annotations

import csv
import gzip
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from aibalance.autoscaling import ForecastScaling, ProportionalScaling
from aibalance.simulation import FluidReport, simulate_fluid

K = 0.5  # server hours that an under-provisioned minute is worth; fixed before the first run
COLD_START = 300.0
MEAN_SERVERS = 20  # at full utilization
MOST = 400


def column(path: Path, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return np.array([float(row[name]) for row in csv.DictReader(lines)])


def traces(folder: Path) -> Iterator[tuple[str, float, np.ndarray[Any, np.dtype[np.float64]]]]:
    """Name, seconds a tick, work a second."""
    yield "servegen_m-large_total", 600.0, column(folder / "servegen_m-large_total.csv.gz", "total_rate_rps")
    for name, seconds in (("nasa_http_1995_per_second", 300), ("twitter_stream_2021_per_minute", 5)):
        counts = column(folder / f"{name}.csv.gz", "count")
        whole = counts[: len(counts) // seconds * seconds].reshape(-1, seconds)
        yield name, 300.0, whole.sum(axis=1) / 300.0


class LastWeek:
    """A schedule: what the same time of last week needed at most, from now until a new server would work."""

    def __init__(self, rates: Any, tick: float, target: float) -> None:
        self.rates, self.tick, self.target = rates, tick, target
        self.week = round(604800 / tick)
        self.lead = math.ceil(COLD_START / tick) + 1

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        k = round(now / self.tick) - self.week
        if k < 0:  # no last week yet: what is there now
            return SimpleNamespace(desired=math.ceil(observation["metrics"]["arrivals_per_s"] / self.target) or 1)
        return SimpleNamespace(desired=max(1, math.ceil(self.rates[k : k + self.lead].max() / self.target)))


def candidates(rates: Any, tick: float, capacity: float) -> dict[str, list[Callable[[], Any]]]:
    def reactive(share: float, window: float) -> Any:
        return ProportionalScaling(
            metric="arrivals_per_s",
            metric_type="total",
            target=share * capacity,
            max_capacity=MOST,
            stabilization=window,
        )

    def predictive(share: float, quantile: float, inner: Any = None) -> Any:
        return ForecastScaling(
            metric="arrivals_per_s",
            target=share * capacity,
            max_capacity=MOST,
            cold_start=COLD_START,
            buffer=0.0,
            step=tick,
            quantile=quantile,
            reactive=inner,
        )

    shares = (0.5, 0.6, 0.7, 0.8, 0.9)
    return {
        "reactive": [lambda s=s, w=w: reactive(s, w) for s in shares for w in (0.0, 1800.0)],
        "scheduled": [lambda s=s: LastWeek(rates, tick, s * capacity) for s in (0.4, *shares)],
        "predictive": [lambda s=s, q=q: predictive(s, q) for s in (0.6, 0.75, 0.9) for q in (0.5, 0.9)],
        "combined": [
            lambda s=s, r=r: predictive(s, 0.5, reactive(r, 0.0)) for s in (0.75, 0.9) for r in (0.5, 0.6, 0.7, 0.8)
        ],
    }


def score(report: FluidReport, first: int, last: int) -> tuple[float, float, float]:
    """Hours, minutes and both, from tick `first` to tick `last`."""
    hours = float((report.ready[first:last].sum() + report.starting[first:last].sum()) * report.tick / 3600)
    minutes = float((report.backlog[first:last] > 1e-9).sum() * report.tick / 60)
    return hours, minutes, hours + K * minutes


def main(folder: Path) -> None:
    print(f"| trace | policy | server hours | under-provisioned minutes | hours + {K:g} * minutes |")
    print("|---|---|---|---|---|")
    for name, tick, rates in traces(folder):
        capacity = float(rates.mean()) / MEAN_SERVERS
        half = len(rates) // 2
        options: dict[str, Any] = {
            "tick": tick,
            "capacity": capacity,
            "cold_start": COLD_START,
            "initial": MEAN_SERVERS,
        }
        for kind, made in candidates(rates, tick, capacity).items():
            tuned = min(made, key=lambda make: score(simulate_fluid(rates[:half], make(), **options), 0, half)[2])
            hours, minutes, both = score(simulate_fluid(rates, tuned(), **options), half, len(rates))
            print(f"| {name} | {kind} | {hours:,.0f} | {minutes:,.0f} | {both:,.0f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
