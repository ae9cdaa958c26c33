"""Numbers as a person would write them: few digits, a unit, and never rounded over a line that matters."""

from __future__ import annotations

import math
import re

from .model import Interval

__all__ = [
    "clock", "count", "delta_seconds", "money", "money_tick", "plus_minus", "ranged", "seconds", "share", "tick",
    "unbroken",
]  # fmt: skip

MISSING = "–"

_TEXT = re.compile(r"(?<=>)[^<>]+(?=<)")
_GAP = re.compile(r"(?<=\d) (?=%|(?:µs|ms|s|min|h)\b)")


def unbroken(page: str) -> str:
    """A page in whose texts no line ends between a number and its unit.

    >>> unbroken("<p>95 % in 30 s</p>")
    '<p>95\\xa0% in 30\\xa0s</p>'
    """
    return _TEXT.sub(lambda text: _GAP.sub("\u00a0", text[0]), page)


# Seconds up to ten minutes: a column with 45 s, 103 s and 2.2 min is hard to compare.
_UNITS = ((600.0, 1.0, "s"), (7200.0, 60.0, "min"), (math.inf, 3600.0, "h"))


def _unit(value: float) -> tuple[float, str]:
    size = abs(value)
    # What three figures would round up to 1 s is 1 s.
    if 0 < size < 0.9995:
        return (1e-3, "ms") if size >= 0.9995e-3 else (1e-6, "µs")
    return next(((unit, name) for below, unit, name in _UNITS if size < below), (1.0, "s"))


def _digits(value: float, figures: int = 3) -> str:
    """Three figures, no exponent, thousands apart; whole numbers from 100 on."""
    if value == 0:
        return "0"
    # Twice, because 9.996 becomes 10.0, which needs one digit less.
    rounded = float(f"{value:.{figures - 1}e}")
    decimals = max(0, figures - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{value:,.{min(decimals, 6)}f}"
    return text.replace("-", "−")


def seconds(value: float) -> str:
    """A duration: 420 ms, 18.3 s, 255 s, 12.5 min, 2.5 h.

    >>> seconds(0.42), seconds(18.333), seconds(255), seconds(750), seconds(float("nan"))
    ('420 ms', '18.3 s', '255 s', '12.5 min', '–')
    """
    if not math.isfinite(value):
        return MISSING
    unit, name = _unit(value)
    return f"{_digits(value / unit)} {name}"


def delta_seconds(value: float) -> str:
    """A difference of durations, always with its sign: +1.2 s, −45 s."""
    if not math.isfinite(value):
        return MISSING
    text = seconds(value)
    return text if value <= 0 else f"+{text}"


def clock(value: float) -> str:
    """A point or span of a run, as short as it can be: 90 s, 20 min, 1 h, 14 days.

    >>> clock(90), clock(1200), clock(3600), clock(5400), clock(1_209_600)
    ('90 s', '20 min', '1 h', '1.5 h', '14 days')
    """
    if not math.isfinite(value):
        return MISSING
    for size, name, start in ((86400.0, "days", 172_800.0), (3600.0, "h", 3600.0), (60.0, "min", 120.0)):
        if abs(value) >= start:
            return f"{value / size:.1f}".removesuffix(".0") + f" {name}"
    return f"{value:.3g} s"


def tick(value: float) -> str:
    """A label on a time axis, which has round values only: 200 ms, 5 s, 2 min."""
    unit, name = (60.0, "min") if 60 <= value < 3600 else _unit(value)
    return f"{value / unit:g} {name}"


def share(value: float) -> str:
    """A share in percent; 100 % and 0 % only when nothing or everything is missing.

    >>> share(0.9821), share(0.99996), share(0.999996), share(1.0), share(0.00001), share(0)
    ('98.2 %', '99.996 %', '> 99.999 %', '100 %', '< 0.01 %', '0 %')
    """
    if not math.isfinite(value):
        return MISSING
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if 0 < percent < 0.005:
        return "< 0.01 %"
    if 99.9995 <= percent < 100:
        return "> 99.999 %"
    # Near 100 % the nines are what people read: two figures of what is missing.
    missing = 100 - percent
    decimals = 1 if missing >= 0.1 else 2 if missing >= 0.01 else 3
    if percent < 1:
        decimals = 2
    return f"{percent:.{decimals}f} %"


def money(value: float, currency: str = "USD") -> str:
    """An amount: $0.053, $7.35, $1,240; other currencies by their code.

    >>> money(7.351), money(1240.4), money(0.0526), money(12, "EUR")
    ('$7.35', '$1,240', '$0.053', 'EUR 12.00')
    """
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    decimals = 0 if size >= 1000 else 2 if size >= 0.1 or size == 0 else 3
    text = f"{size:,.{decimals}f}"
    sign = "−" if value < 0 else ""
    return f"{sign}${text}" if currency == "USD" else f"{sign}{currency} {text}"


def money_tick(value: float, currency: str = "USD") -> str:
    """An amount on an axis: without cents where it has none.

    >>> money_tick(50), money_tick(0.25)
    ('$50', '$0.25')
    """
    return money(value, currency).removesuffix(".00")


def count(value: float) -> str:
    """How many, a mean over runs: 15, 4.3, 4,200."""
    if not math.isfinite(value):
        return MISSING
    if value == round(value) or abs(round(value, 1)) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}"


def ranged(interval: Interval, kind: str, currency: str = "USD") -> str:
    """The interval in the unit of its mean: `17.9 to 18.7`; empty when it says nothing more than the mean.

    `kind` is "seconds", "share", "money" or "count".
    """
    low, high = interval.low, interval.high
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return ""
    if kind == "seconds":
        unit, _ = _unit(interval.mean)
        texts = [_digits(max(low, 0.0) / unit), _digits(high / unit)]
    elif kind == "share":
        texts = [share(min(max(one, 0.0), 1.0)).removesuffix(" %") for one in (low, high)]
    elif kind == "money":
        texts = [money(max(one, 0.0), currency).replace("$", "") for one in (low, high)]
    else:
        texts = [count(max(low, 0.0)), count(high)]
    return "" if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def plus_minus(interval: Interval, kind: str, currency: str = "USD") -> str:
    """The mean and half of its interval in one unit: `93.0 ± 1.9 s`; the mean alone where the two ends are one.

    >>> plus_minus(Interval(93.04, 91.1, 94.98), "seconds"), plus_minus(Interval(0.914, 0.91, 0.918), "share")
    ('93.0 ± 1.9 s', '91.4 ± 0.4 %')
    >>> plus_minus(Interval(15.0, 15.0, 15.0), "count"), plus_minus(Interval(8.151, 8.0, 8.3), "money")
    ('15', '$8.15 ± 0.15')
    """
    mean, half = interval.mean, (interval.high - interval.low) / 2
    if kind == "seconds":
        text, scale = seconds(mean), _unit(mean)[0]
    elif kind == "share":
        text, scale = share(mean), 0.01
    elif kind == "money":
        text, scale = money(mean, currency), 1.0
    else:
        text, scale = count(mean), 1.0
    if not (math.isfinite(mean) and half > 0):
        return text
    number, _, unit = text.partition(" ") if kind in ("seconds", "share") else (text, "", "")
    decimals = len(number.partition(".")[2])
    # An interval smaller than the last digit shown still deserves one digit of its own.
    shown = f"{half / scale:,.{decimals}f}"
    if float(shown.replace(",", "")) == 0:
        shown = f"{max(half / scale, 1e-4):.1g}"
    return f"{number} ± {shown} {unit}".rstrip()
