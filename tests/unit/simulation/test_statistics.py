"""Intervals over replications."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aibalance.simulation import interval, t_quantile


@pytest.mark.parametrize(
    ("p", "df", "value"),
    [
        # Exact: tan(pi (p - 1/2)) for one degree, and the closed form for two.
        (0.975, 1, math.tan(math.pi * 0.475)),
        (0.975, 2, 0.95 / math.sqrt(2 * 0.975 * 0.025)),
        # Printed tables (NIST/SEMATECH e-Handbook, 1.3.6.7.2), three digits.
        (0.975, 4, 2.776),
        (0.975, 9, 2.262),
        (0.975, 19, 2.093),
        (0.95, 19, 1.729),
        (0.995, 30, 2.750),
        (0.999, 100, 3.174),
        (0.975, 10**9, 1.959963985),
    ],
)
def test_t_quantiles(p: float, df: float, value: float) -> None:
    exact = df < 3 or df > 1000
    assert t_quantile(p, df) == pytest.approx(value, abs=1e-6 if exact else 5.1e-4)
    assert t_quantile(1 - p, df) == pytest.approx(-t_quantile(p, df), abs=1e-9)


def test_t_quantile_outside_its_domain() -> None:
    assert all(math.isnan(t_quantile(p, df)) for p, df in [(0, 3), (1, 3), (0.5, 0), (math.nan, 3)])
    assert t_quantile(0.5, 7) == 0


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    inside = sum((found := interval(rng.normal(3, 2, 5))).low <= 3 <= found.high for _ in range(4000))
    assert abs(inside / 4000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_few_values() -> None:
    assert interval([2.0]).mean == 2
    assert math.isnan(interval([2.0]).low)
    assert math.isnan(interval([]).mean)
    with_gap = interval([1.0, math.nan, 3.0])
    assert with_gap.mean == 2
    assert len(with_gap.values) == 3
    assert interval([4.0, 4.0]).low == 4.0
