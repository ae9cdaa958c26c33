from __future__ import annotations

import math

import pytest

from aibalance.report import numbers
from aibalance.report.model import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"), (0.0000004, "0.400 µs"), (0.0421, "42.1 ms"), (0.9996, "1.00 s"), (1, "1.00 s"), (9.996, "10.0 s"),
        (18.333, "18.3 s"), (99.96, "100 s"), (455.4, "455 s"), (600, "10.0 min"), (7199, "120 min"), (7200, "2.00 h"),
        (1e7, "2,778 h"), (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"), (1, "100 %"), (0.00001, "< 0.01 %"), (0.0042, "0.42 %"), (0.5, "50.0 %"), (0.9821, "98.2 %"),
        (0.9995, "99.95 %"), (0.99996, "99.996 %"), (0.9999999, "> 99.999 %"), (math.nan, "–"),
    ],
)  # fmt: skip
def test_share_never_rounds_over_all_or_nothing(value: float, text: str) -> None:
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "$0.00"), (0.0526, "$0.053"), (7.351, "$7.35"), (1240.4, "$1,240"), (-3, "−$3.00"), (math.nan, "–")],
)
def test_money(value: float, text: str) -> None:
    assert numbers.money(value) == text
    assert numbers.money(value, "EUR") == text.replace("$", "EUR ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(60, "60 s"), (90, "90 s"), (120, "2 min"), (3600, "1 h"), (5400, "1.5 h"), (1209600, "14 days")],
)
def test_clock(value: float, text: str) -> None:
    assert numbers.clock(value) == text


@pytest.mark.parametrize(
    ("interval", "kind", "text", "around"),
    [
        (Interval(93.04, 91.1, 94.98), "seconds", "91.1 to 95.0", "93.0 ± 1.9 s"),
        (Interval(0.0425, 0.0421, 0.0429), "seconds", "42.1 to 42.9", "42.5 ± 0.4 ms"),
        (Interval(0.914, 0.910, 0.918), "share", "91.0 to 91.8", "91.4 ± 0.4 %"),
        (Interval(0.001, -0.001, 0.003), "share", "0 to 0.30", "0.10 ± 0.20 %"),
        (Interval(1.0, 1.0, 1.0), "share", "", "100 %"),
        (Interval(8.151, 8.0, 8.3), "money", "8.00 to 8.30", "$8.15 ± 0.15"),
        (Interval(15.0, 15.0, 15.0), "count", "", "15"),
        (Interval(12.3, 12.0, 12.6), "count", "12 to 12.6", "12.3 ± 0.3"),
        # Smaller than any digit that is shown: said as small, never as nothing.
        (Interval(100.0, 99.99999, 100.00001), "count", "", "100 ± 0.0001"),
        (Interval(math.nan, math.nan, math.nan), "seconds", "", "–"),
        (Interval(4.0, math.nan, math.nan), "count", "", "4"),
    ],
)
def test_intervals(interval: Interval, kind: str, text: str, around: str) -> None:
    assert numbers.ranged(interval, kind) == text
    assert numbers.plus_minus(interval, kind) == around
