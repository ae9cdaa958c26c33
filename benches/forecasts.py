"""Forecasts of recorded traffic: ours beside none, last week's value and statsmodels'.

    python -m benches.forecasts FOLDER    # with the traces that docs/forecasting.md names; none is shipped

Each forecasts the next hour, again and again through the second half of a trace, always from all that came before. Ours
fits each time, statsmodels once, on the first half, for it is slow. Printed is the sum of absolute errors over
the sum of values (WAPE), the share of values within the bounds of 90 %, and the time of one forecast.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aibalance import ConfigError
from aibalance.autoscaling.forecasting import Forecast, HoltWinters, LastValue, SeasonalNaive, backtest
from benches.scaling_policies import traces

MOST = 60  # forecasts a trace: statsmodels takes most of a second for each


@dataclass
class Statsmodels:
    """`ExponentialSmoothing` of statsmodels, additive, fitted on the first half."""

    period: int
    first: Sequence[float]
    parameters: dict[str, float] = field(init=False)

    def _model(self, values: Any) -> Any:
        from statsmodels.tsa.holtwinters import ExponentialSmoothing

        return ExponentialSmoothing(
            np.asarray(values),
            trend="add",
            seasonal="add",
            seasonal_periods=self.period,
            initialization_method="heuristic",
        )

    def __post_init__(self) -> None:
        found = self._model(self.first).fit(minimize_kwargs={"options": {"maxiter": 50}}).params
        names = ("smoothing_level", "smoothing_trend", "smoothing_seasonal")
        self.parameters = {name: float(found[name]) for name in names}

    def forecast(self, history: Any, horizon: int, /, *, level: float = 0.9) -> Forecast:
        made = tuple(self._model(history).fit(optimized=False, **self.parameters).forecast(horizon))
        return Forecast(mean=made, lower=made, upper=made, level=level)


def main(folder: Path) -> None:
    print("| trace | forecaster | error | within 90 % | ms a forecast |")
    print("|---|---|--:|--:|--:|")
    for name, tick, rates in traces(folder):
        day, hour = round(86_400 / tick), round(3_600 / tick)
        half = len(rates) // 2
        # Whole hours that do not always fall on the same time of the day.
        every = max(1, (len(rates) - half) // MOST // hour) * hour
        first = rates[:half].tolist()
        made = {
            "none: the last value": lambda: LastValue(),
            "last week's value": lambda w=7 * day: SeasonalNaive(w),
            "ours, daily": lambda d=day: HoltWinters(d),
            "ours, daily and weekly": lambda d=day: HoltWinters((d, 7 * d)),
            "statsmodels, daily": lambda d=day, f=first: Statsmodels(d, f),
        }
        for title, make in made.items():
            forecaster = make()
            begin = time.process_time()
            try:
                found = backtest(forecaster, rates.tolist(), horizon=hour, start=half, every=every)
            except ConfigError:
                continue  # the half is shorter than two weeks
            each = (time.process_time() - begin) / found.forecasts * 1e3
            inside = "" if title.startswith("statsmodels") else f"{found.coverage:.0%}"
            print(f"| {name} | {title} | {found.wape:.2%} | {inside} | {each:,.1f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
