"""Forecasts of load: Holt, Holt-Winters with daily and weekly seasons, last week's value, and how good they are.

>>> from aibalance.autoscaling.forecasting import holt_winters
>>> model = holt_winters([10, 20, 30, 20] * 4, 4, alpha=0.4, beta=0.2, gamma=0.3)
>>> model.forecast(4).mean
(10.0, 20.0, 30.0, 20.0)

A series is any sequence of numbers at equal steps (a numpy array of float64 is read fastest); None or NaN is a gap.
Sources: Holt, ONR memorandum 52, 1957; Winters, Management Science 6(3), 1960; several seasons: Taylor, Journal of the
Operational Research Society 54, 2003; intervals: Hyndman and others, Forecasting with Exponential Smoothing, 2008.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

from .._core import SeasonalModel, _holt
from .._errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Series = Sequence[float] | npt.NDArray[np.float64]

__all__ = [
    "Backtest",
    "Forecast",
    "Forecaster",
    "Holt",
    "HoltWinters",
    "HoltWintersModel",
    "LastValue",
    "SeasonalNaive",
    "backtest",
    "holt",
    "holt_winters",
]


@dataclass(frozen=True)
class Forecast:
    """What is expected one step ahead, two, and so on, and the bounds within which it will be with a chance of `level`.

    >>> from aibalance.autoscaling.forecasting import LastValue
    >>> LastValue().forecast([3.0, 5.0, 4.0], 2).mean
    (4.0, 4.0)
    """

    mean: tuple[float, ...]
    """Expected values."""
    lower: tuple[float, ...]
    """Lower bounds."""
    upper: tuple[float, ...]
    """Upper bounds."""
    level: float
    """The chance of each value to lie between its bounds, were errors independent, equal and normal."""


class Forecaster(Protocol):
    """Anything that forecasts from a history: one of ours, or yours."""

    def forecast(self, history: Series, horizon: int, /, *, level: float = 0.9) -> Forecast:
        """The next `horizon` values."""
        ...


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ConfigError(f"level: {level!r} is not allowed; a probability between 0 and 1")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _horizon(horizon: Any) -> int:
    if isinstance(horizon, bool) or not isinstance(horizon, int) or not 1 <= horizon <= 10_000_000:
        raise ConfigError(f"horizon: {horizon!r} is not allowed; a whole number of steps from 1")
    return int(horizon)


def _with_bounds(mean: Sequence[float], deviations: Sequence[float], level: float) -> Forecast:
    z = _level(level)
    rows = list(zip(mean, deviations, strict=True))
    return Forecast(tuple(mean), tuple(m - z * d for m, d in rows), tuple(m + z * d for m, d in rows), level)


@dataclass(frozen=True)
class Holt:
    """Holt's linear method after a series: `levels` and `trends` after each value from the second on.

    >>> from aibalance.autoscaling.forecasting import holt
    >>> fitted = holt([10, 12, 14, 16, 18], alpha=0.5, beta=0.5)
    >>> fitted.level, fitted.trend, fitted.forecast(3)
    (18.0, 2.0, (20.0, 22.0, 24.0))
    """

    levels: tuple[float, ...]
    trends: tuple[float, ...]

    @property
    def level(self) -> float:
        """The last level."""
        return self.levels[-1]

    @property
    def trend(self) -> float:
        """The last trend, a step."""
        return self.trends[-1]

    def forecast(self, horizon: int) -> tuple[float, ...]:
        """The values that are expected 1 to `horizon` steps after the last one."""
        return tuple(self.level + h * self.trend for h in range(1, _horizon(horizon) + 1))


def holt(series: Series, /, *, alpha: float, beta: float) -> Holt:
    """Holt's linear method: a level and a trend that follow the series.

    Begins with the first value and the first difference; updates from the second value on: the level is
    `alpha * x + (1 - alpha) * (level + trend)`, the trend `beta * change of the level + (1 - beta) * trend`.
    `alpha`, `beta`: 0 to 1. Raises ConfigError, also for fewer than two values or a gap. Source: Holt 1957.

    >>> from aibalance.autoscaling.forecasting import holt
    >>> holt([1, 2, 4], alpha=1, beta=1).forecast(1)
    (6.0,)
    """
    levels, trends = _holt(series, alpha, beta)
    return Holt(tuple(levels), tuple(trends))


@dataclass(frozen=True, eq=False)
class HoltWintersModel:
    """Additive Holt-Winters after a series, as `holt_winters` gives it. Values that come later go to `update`.

    >>> from aibalance.autoscaling.forecasting import holt_winters
    >>> model = holt_winters([1, 5, 1, 5, 1], 2, alpha=0.5, beta=0, gamma=0.5)
    >>> model.update(5.0)
    >>> model.level, model.seasonals, model.forecast(2).mean
    (3.0, ((-2.0, 2.0),), (1.0, 5.0))
    """

    _model: SeasonalModel = field(repr=False)

    @property
    def alpha(self) -> float:
        """How fast the level follows, 0 to 1."""
        return self._model.alpha

    @property
    def beta(self) -> float:
        """How fast the trend follows, 0 to 1."""
        return self._model.beta

    @property
    def gammas(self) -> tuple[float, ...]:
        """How fast each season follows, 0 to 1."""
        return self._model.gammas

    @property
    def periods(self) -> tuple[int, ...]:
        """The lengths of the seasons in steps."""
        return self._model.periods

    @property
    def level(self) -> float:
        """The level."""
        return self._model.level

    @property
    def trend(self) -> float:
        """The trend a step."""
        return self._model.trend

    @property
    def seasonals(self) -> tuple[tuple[float, ...], ...]:
        """What each place of each season adds; place i is that of the values number i, i + period, and so on."""
        return self._model.seasonals

    @property
    def sigma(self) -> float:
        """The standard deviation of the errors one step ahead."""
        return self._model.sigma

    def update(self, value: float | None) -> None:
        """Takes up the next value; None or NaN is a gap."""
        self._model.update(value)

    def forecast(self, horizon: int, /, *, level: float = 0.9) -> Forecast:
        """The next `horizon` values, and bounds that widen with the distance."""
        steps = _horizon(horizon)
        return _with_bounds(self._model.forecast(steps), self._model.deviations(steps), level)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name):.4g}" for name in ("alpha", "beta", "level", "trend", "sigma"))
        return f"<HoltWintersModel periods={self.periods}, {shown}>"


def holt_winters(
    series: Series,
    periods: int | Sequence[int],
    /,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    evaluations: int = 150,
) -> HoltWintersModel:
    """Additive Holt-Winters over a series, with one season or several.

    Begins after the first (longest) season, with its mean as the level, the mean step to the next one as the trend, and
    the distances from the level as the season; of several seasons the shorter ones come first, the longer ones hold
    what those leave. Then, for each value x: the level becomes `alpha * (x - seasons) + (1 - alpha) * (level + trend)`,
    the trend `beta * change of the level + (1 - beta) * trend`, a season
    `gamma * (x - level - other seasons) + (1 - gamma) * season`. At a gap it believes its own forecast.

    `periods`: steps in a season, 2 or more; several ascend: (1440, 10080) is daily and weekly for minutes.
    `alpha`, `beta`, `gamma` (None): 0 to 1; None looks for the value with the least squared error one step ahead.
    `evaluations` (150): how many passes that search may make; it is Powell's COBYLA.
    Raises ConfigError, also for a series shorter than twice the longest period. O(values) a pass.

    >>> from aibalance.autoscaling.forecasting import holt_winters
    >>> holt_winters([10, 20, 30, 20] * 4, 4).forecast(2).upper
    (10.0, 20.0)
    """
    given: Any = periods
    each = [given] if isinstance(given, int) else given
    plain = isinstance(each, Sequence) and not isinstance(each, (str, bytes))
    if not plain or any(isinstance(p, bool) or not isinstance(p, int) or not 0 <= p < 2**53 for p in each):
        raise ConfigError(f"periods: {periods!r} is not allowed; a whole number of steps, or several that ascend")
    passes: Any = evaluations
    if isinstance(passes, bool) or not isinstance(passes, int) or passes < 1:
        raise ConfigError(f"evaluations: {evaluations!r} is not allowed; a whole number of 1 or more")
    return HoltWintersModel(SeasonalModel.fit(series, list(each), alpha, beta, gamma, evaluations))


@dataclass(frozen=True)
class HoltWinters:
    """Additive Holt-Winters as a forecaster: fits what it is given each time.

    The fields are the arguments of `holt_winters`.

    >>> from aibalance.autoscaling.forecasting import HoltWinters
    >>> HoltWinters(periods=(4,)).forecast([10, 20, 30, 20] * 4, 3).mean
    (10.0, 20.0, 30.0)
    """

    periods: int | Sequence[int]
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    evaluations: int = 150

    def forecast(self, history: Series, horizon: int, /, *, level: float = 0.9) -> Forecast:
        """The next `horizon` values."""
        model = holt_winters(
            history,
            self.periods,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            evaluations=self.evaluations,
        )
        return model.forecast(horizon, level=level)


def _plain(history: Series) -> list[float]:
    values = [math.nan if x is None else float(x) for x in history]
    if not values:
        raise ConfigError("history: 0 values are not allowed; at least one")
    return values


def _root_mean_square(errors: list[float]) -> float:
    real = [e for e in errors if not math.isnan(e)]
    return math.sqrt(sum(e * e for e in real) / len(real)) if real else 0.0


@dataclass(frozen=True)
class LastValue:
    """No forecast: the last value stays. What every other one has to beat.

    >>> from aibalance.autoscaling.forecasting import LastValue
    >>> LastValue().forecast([1.0, 2.0], 1).mean
    (2.0,)
    """

    def forecast(self, history: Series, horizon: int, /, *, level: float = 0.9) -> Forecast:
        """The next `horizon` values; bounds widen with the root of the distance, as those of a random walk."""
        values = _plain(history)
        last = next((x for x in reversed(values) if not math.isnan(x)), 0.0)
        sigma = _root_mean_square([b - a for a, b in pairwise(values)])
        steps = _horizon(horizon)
        return _with_bounds([last] * steps, [sigma * math.sqrt(h) for h in range(1, steps + 1)], level)


@dataclass(frozen=True)
class SeasonalNaive:
    """The value of the same place in the last season: last week's, when `period` is a week.

    >>> from aibalance.autoscaling.forecasting import SeasonalNaive
    >>> SeasonalNaive(period=3).forecast([1, 2, 3, 4, 5, 6], 4).mean
    (4.0, 5.0, 6.0, 4.0)
    """

    period: int
    """Steps in a season, 1 or more."""

    def forecast(self, history: Series, horizon: int, /, *, level: float = 0.9) -> Forecast:
        """The next `horizon` values; raises ConfigError when the history is shorter than a season."""
        values = _plain(history)
        m: Any = self.period
        if isinstance(m, bool) or not isinstance(m, int) or not 1 <= m <= len(values):
            raise ConfigError(
                f"period: {m!r} is not allowed; a whole number from 1 to the history's {len(values)} values"
            )
        season = values[-m:]
        sigma = _root_mean_square([b - a for a, b in zip(values, values[m:], strict=False)])
        steps = range(_horizon(horizon))
        return _with_bounds([season[h % m] for h in steps], [sigma * math.sqrt(h // m + 1) for h in steps], level)


@dataclass(frozen=True)
class Backtest:
    """How far forecasts were from what came. Errors are in the unit of the series.

    >>> from aibalance.autoscaling.forecasting import LastValue, backtest
    >>> found = backtest(LastValue(), [1.0, 2.0] * 10, horizon=1, start=10)
    >>> found.mae, found.bias, found.forecasts
    (1.0, 0.0, 10)
    """

    mae: float
    """Mean absolute error."""
    rmse: float
    """Root mean square error."""
    wape: float
    """Sum of absolute errors over sum of absolute values; infinite when those are all 0."""
    bias: float
    """Mean of forecast minus value."""
    coverage: float
    """The share of values within the bounds: `level` when the bounds are right."""
    forecasts: int
    """How many forecasts were made."""


def backtest(
    forecaster: Forecaster,
    series: Series,
    /,
    *,
    horizon: int,
    start: int,
    every: int | None = None,
    level: float = 0.9,
) -> Backtest:
    """Forecasts a series from its own past: from the first `start` values, then `every` steps on (a rolling origin).

    `horizon`: steps that each forecast looks ahead; all of them count. `every` (None): steps between forecasts, None is
    `horizon`. Gaps do not count. Raises ConfigError. Source: Hyndman and Athanasopoulos, Forecasting: Principles and
    Practice, 3rd edition, section 5.10.

    >>> from aibalance.autoscaling.forecasting import HoltWinters, backtest
    >>> backtest(HoltWinters(4), [10, 20, 30, 20] * 8, horizon=4, start=16).mae
    0.0
    """
    values = _plain(series)
    steps = _horizon(horizon)
    gap = steps if every is None else _horizon(every)
    first: Any = start
    if isinstance(first, bool) or not isinstance(first, int) or not 1 <= first < len(values):
        raise ConfigError(
            f"start: {start!r} is not allowed; a whole number from 1, below the series' {len(values)} values"
        )
    errors: list[float] = []
    within = forecasts = 0
    total = 0.0
    for origin in range(start, len(values), gap):
        made = forecaster.forecast(values[:origin], steps, level=level)
        forecasts += 1
        future = values[origin : origin + steps]
        for x, m, low, high in zip(future, made.mean, made.lower, made.upper, strict=False):
            if math.isnan(x):
                continue
            errors.append(m - x)
            within += low <= x <= high
            total += abs(x)
    if not errors:
        raise ConfigError("series: no value to compare with; gaps alone follow the start")
    off = sum(map(abs, errors))
    n = len(errors)
    return Backtest(
        mae=off / n,
        rmse=_root_mean_square(errors),
        wape=off / total if total else math.inf if off else 0.0,
        bias=sum(errors) / n,
        coverage=within / n,
        forecasts=forecasts,
    )
