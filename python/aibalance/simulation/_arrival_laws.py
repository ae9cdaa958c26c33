"""Traffic that is not Poisson, or whose rate follows the day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import _arrivals
from .._laws import Gamma, Law, Weibull
from . import _checks as check

_STREAM = 0x0A221
"""Keeps arrivals apart from whatever else a seed draws."""


@dataclass(frozen=True, kw_only=True)
class RenewalTraffic:
    """Arrivals with independent gaps: `law` "gamma" or "weibull", at `rate_rps` on average, with `cv` or `shape`.

    `cv` is standard deviation / mean of the gaps: 1 is Poisson, more is bursty, less is regular; `shape` is the law's
    own parameter. Exactly one of them; cv from 0.01 to 100 (Weibull: from 0.05 to 50). A run begins with an arrival.
    The laws of ServeGen's clients (Xiang et al., 2025).

    >>> RenewalTraffic(law="gamma", rate_rps=10, cv=2).shape
    0.25
    """

    law: str
    rate_rps: float
    cv: float | None = None
    shape: float | None = None

    def __post_init__(self) -> None:
        check.choice("traffic.law", self.law, ("gamma", "weibull"))
        check.number("traffic.rate_rps", self.rate_rps, 0, 1e9, unit="requests a second", above=True)
        if (self.cv is None) == (self.shape is None):
            raise check.wrong("traffic.cv", self.cv, "exactly one of cv and shape")
        low, high = (0.01, 100) if self.law == "gamma" else (0.05, 50)
        if self.cv is not None:
            check.number("traffic.cv", self.cv, low, high)
            object.__setattr__(self, "shape", 1 / self.cv**2 if self.law == "gamma" else _weibull_shape(self.cv))
        else:
            check.number("traffic.shape", self.shape, 1e-4 if self.law == "gamma" else 0.15, 1e4)
            object.__setattr__(self, "cv", self.gaps.cv)

    def __reduce__(self) -> tuple[object, ...]:
        return _renewal, (self.law, self.rate_rps, self.shape, self.cv)

    @property
    def gaps(self) -> Law:
        """The law of the gaps."""
        mean, shape = 1 / self.rate_rps, float(self.shape or 1.0)
        return Gamma(mean, shape) if self.law == "gamma" else Weibull(mean, shape)

    def describe(self) -> str:
        """One line for people."""
        return f"{self.law} gaps of cv {self.cv:g}, {self.rate_rps:g} requests/s"

    def _times(self, seed: int, duration_s: float) -> NDArray[np.float64]:
        return _cover(lambda rng, span: _arrivals.renewal(rng, self.gaps, span), seed, duration_s, 1 / self.rate_rps)


def _renewal(law: str, rate_rps: float, shape: float, cv: float) -> RenewalTraffic:
    made = RenewalTraffic(law=law, rate_rps=rate_rps, shape=shape)
    object.__setattr__(made, "cv", cv)
    return made


def _weibull_shape(cv: float) -> float:
    low, high = 0.1, 100.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if Weibull(1.0, middle).cv > cv else (low, middle)
    return high


@dataclass(frozen=True, kw_only=True)
class MmppTraffic:
    """Poisson arrivals whose rate jumps at random between states, each with its rate and its mean duration.

    States last exponentially; the next one is drawn with equal chances from the others, the first in proportion to
    their durations. A run begins with an arrival. Fischer and Meier-Hellstern, Performance Evaluation 18, 1993.

    >>> MmppTraffic(rates_rps=[1, 50], mean_durations_s=[90, 10]).mean_rps
    5.9
    """

    rates_rps: Sequence[float]
    mean_durations_s: Sequence[float]

    def __post_init__(self) -> None:
        found = {}
        for name in ("rates_rps", "mean_durations_s"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or not given:
                raise check.wrong(f"traffic.{name}", given, "a list of numbers, one a state")
            above = name != "rates_rps"
            found[name] = tuple(
                check.number(f"traffic.{name}[{i}]", one, 0, 1e9, above=above) for i, one in enumerate(given)
            )
            object.__setattr__(self, name, found[name])
        if len(found["rates_rps"]) != len(found["mean_durations_s"]):
            raise check.wrong("traffic.mean_durations_s", self.mean_durations_s, "as many as rates_rps")
        if not any(found["rates_rps"]):
            raise check.wrong("traffic.rates_rps", self.rates_rps, "at least one rate above 0")

    @property
    def mean_rps(self) -> float:
        """Requests a second in the long run."""
        parts = zip(self.rates_rps, self.mean_durations_s, strict=True)
        return sum(rate * last for rate, last in parts) / sum(self.mean_durations_s)

    def describe(self) -> str:
        """One line for people."""
        states = ", ".join(
            f"{rate:g}/s for {last:g} s" for rate, last in zip(self.rates_rps, self.mean_durations_s, strict=True)
        )
        return f"Markov-modulated Poisson, {states}; {self.mean_rps:g} requests/s on average"

    def _times(self, seed: int, duration_s: float) -> NDArray[np.float64]:
        gap = 1 / self.mean_rps + max(self.mean_durations_s)
        return _cover(
            lambda rng, span: _arrivals.mmpp(rng, self.rates_rps, self.mean_durations_s, span), seed, duration_s, gap
        )


@dataclass(frozen=True, kw_only=True)
class DiurnalTraffic:
    """Poisson arrivals whose rate is a sine: `mean_rps` × (1 + `amplitude` × cos(2π (t − `peak_s`) / `period_s`)).

    `amplitude` is from 0 to 1, `period_s` a day unless told, `peak_s` the second of the (first) peak, default 14 h.

    >>> DiurnalTraffic(mean_rps=100, amplitude=0.8).describe()
    'Poisson, 20 to 180 requests/s in a sine of 86400 s'
    """

    mean_rps: float
    amplitude: float = 0.5
    period_s: float = 86_400.0
    peak_s: float = 50_400.0

    def __post_init__(self) -> None:
        check.number("traffic.mean_rps", self.mean_rps, 0, 1e9, unit="requests a second", above=True)
        check.number("traffic.amplitude", self.amplitude, 0, 1)
        check.seconds("traffic.period_s", self.period_s, above=True)
        check.seconds("traffic.peak_s", self.peak_s)

    def describe(self) -> str:
        """One line for people."""
        low, high = self.mean_rps * (1 - self.amplitude), self.mean_rps * (1 + self.amplitude)
        return f"Poisson, {low:g} to {high:g} requests/s in a sine of {self.period_s:g} s"

    def _points(self, duration_s: float) -> list[tuple[float, float]]:
        pieces = 96
        if duration_s / self.period_s * pieces > 1e6:
            raise check.wrong("traffic.period_s", self.period_s, f"at least {duration_s * pieces / 1e6:g} seconds here")
        return _arrivals.diurnal_points(self.mean_rps, self.amplitude, self.period_s, self.peak_s, duration_s, pieces)


LawTraffic = RenewalTraffic | MmppTraffic
"""Traffic whose arrivals are drawn before the run, and handed to the engine as a list."""


def _cover(
    draw: Callable[[np.random.Generator, float], NDArray[np.float64]], seed: int, duration_s: float, gap: float
) -> NDArray[np.float64]:
    """Arrivals that reach at least `duration_s` beyond the first, which is at 0."""
    span = duration_s * 1.02 + 30 * gap
    for attempt in range(40):
        times = draw(np.random.default_rng((seed, _STREAM, attempt)), span)
        if len(times) > 1 and times[-1] - times[0] >= duration_s:
            return np.asarray(times - times[0], np.float64)
        span *= 2
    raise check.wrong("traffic", "almost no requests", "a higher rate or a longer duration_s")
