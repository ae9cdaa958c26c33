"""Forecasts: what they give, what they refuse, and how they are judged."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError
from aibalance.autoscaling.forecasting import (
    HoltWinters,
    LastValue,
    SeasonalNaive,
    backtest,
    holt,
    holt_winters,
)


def daily(n: int, period: int = 24, noise: float = 1.0) -> np.ndarray[Any, np.dtype[np.float64]]:
    t = np.arange(n)
    return 100 + 20 * np.sin(2 * np.pi * t / period) + noise * np.random.default_rng(7).normal(size=n)


def test_series_of_any_kind_are_the_same() -> None:
    xs = daily(96)
    gaps: list[Any] = [float(x) for x in xs]
    models = [holt_winters(given, 24, alpha=0.3, beta=0.1, gamma=0.2) for given in (xs, list(xs), tuple(gaps))]
    assert len({model.level for model in models}) == 1
    assert math.isfinite(holt_winters([*gaps[:50], None, *gaps[51:]], 24).forecast(1).mean[0])


def test_fitting_finds_what_is_better() -> None:
    xs = daily(480)
    fitted = holt_winters(xs, 24)
    for alpha in (0.05, 0.5, 1.0):
        assert fitted.sigma <= holt_winters(xs, 24, alpha=alpha, beta=0.02, gamma=0.1).sigma * 1.001
    assert holt_winters(xs, 24, evaluations=1).sigma >= fitted.sigma
    assert 0.9 < fitted.sigma < 1.4


def test_a_daily_and_a_weekly_season_beat_the_daily_one_alone() -> None:
    week = 7 * 24
    xs = daily(6 * week, noise=0.5) - 30 * ((np.arange(6 * week) // 24) % 7 >= 5)
    start = 5 * week
    both = backtest(HoltWinters((24, week)), xs, horizon=24, start=start)
    alone = backtest(HoltWinters(24), xs, horizon=24, start=start)
    last = backtest(LastValue(), xs, horizon=24, start=start)
    assert both.rmse < 0.5 * alone.rmse < last.rmse
    assert both.wape < 0.05


def test_bounds_hold_as_often_as_they_say() -> None:
    found = backtest(HoltWinters(24), daily(60 * 24), horizon=6, start=20 * 24, every=24, level=0.8)
    assert 0.7 < found.coverage < 0.9
    wide = holt_winters(daily(96), 24).forecast(3, level=0.99)
    narrow = holt_winters(daily(96), 24).forecast(3, level=0.5)
    assert all(a < b for a, b in zip(wide.lower, narrow.lower, strict=True))
    assert wide.mean == narrow.mean
    assert wide.upper[2] - wide.lower[2] > wide.upper[0] - wide.lower[0]


def test_a_model_follows_and_travels() -> None:
    xs = daily(120)
    model = holt_winters(xs[:96], 24, alpha=0.3, beta=0.1, gamma=0.2)
    for x in xs[96:]:
        model.update(x)
    whole = holt_winters(xs, 24, alpha=0.3, beta=0.1, gamma=0.2)
    assert model.forecast(30) == whole.forecast(30)
    assert pickle.loads(pickle.dumps(model)).forecast(30) == whole.forecast(30)
    assert "periods=(24,)" in repr(model)
    model.update(None)
    assert model.forecast(1) == model.forecast(1, level=0.9)


def test_naive_ones() -> None:
    assert LastValue().forecast([1.0, None, math.nan], 2).mean == (1.0, 1.0)  # type: ignore[list-item]
    assert SeasonalNaive(period=2).forecast([1, 2, 3, 4], 3).mean == (3.0, 4.0, 3.0)
    with pytest.raises(ConfigError, match="period"):
        SeasonalNaive(period=5).forecast([1, 2], 1)
    with pytest.raises(ConfigError, match="history"):
        LastValue().forecast([], 1)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: holt([1.0], alpha=0.5, beta=0.5), "series"),
        (lambda: holt([1.0, math.nan], alpha=0.5, beta=0.5), "series"),
        (lambda: holt([1.0, 2.0], alpha=1.5, beta=0.5), "alpha"),
        (lambda: holt([1.0, 2.0], alpha=0.5, beta=-1), "beta"),
        (lambda: holt_winters([1.0] * 7, 4), "series"),
        (lambda: holt_winters([1.0] * 8, 1), "periods"),
        (lambda: holt_winters([1.0] * 8, []), "periods"),
        (lambda: holt_winters([1.0] * 8, (4, 2)), "periods"),
        (lambda: holt_winters([1.0] * 8, 2.5), "periods"),  # type: ignore[arg-type]
        (lambda: holt_winters("abcdefgh", 2), "series"),  # type: ignore[arg-type]
        (lambda: holt_winters([1.0] * 8, 2, gamma=math.nan), "gamma"),
        (lambda: holt_winters([1.0] * 8, 2, evaluations=0), "evaluations"),
        (lambda: holt_winters([1.0] * 8, 2).forecast(0), "horizon"),
        (lambda: holt_winters([1.0] * 8, 2).forecast(1, level=1), "level"),
        (lambda: backtest(LastValue(), [1.0, 2.0], horizon=1, start=2), "start"),
        (lambda: backtest(LastValue(), [1.0, math.nan], horizon=1, start=1), "series"),
    ],
)
def test_what_cannot_be(call: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        call()
