"""Requests that are sent more than once: hedging, fan-out, retries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .._laws import Exponential, Law, invert, number, positive, probability
from ._checks import law_of, whole


@dataclass(frozen=True, kw_only=True)
class Hedged:
    """A request that is sent again after `delay` without an answer; the first answer counts: min(X₁, delay + X₂).

    `latency` is the law of one attempt (a number: exponential of that mean); attempts are independent, and the extra
    load is taken not to slow anybody down. Dean and Barroso, The tail at scale, CACM 2013.

    >>> from aibalance.queueing import Exponential
    >>> hedged = Hedged.after_quantile(Exponential(1.0), 0.95)
    >>> round(hedged.extra_requests, 6), round(hedged.quantile(0.99), 3)
    (0.05, 3.8)
    """

    latency: Law | float
    delay: float
    mean: float = field(init=False)
    """Mean latency (the second part by double exponential quadrature)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency", law_of("latency", self.latency))
        number("delay", self.delay, 0)
        law = self._law
        first = float(law.partial_mean(self.delay)) + self.delay * float(law.sf(self.delay))
        object.__setattr__(self, "mean", first + self._rest())

    @staticmethod
    def after_quantile(latency: Law | float, q: float | None, /) -> Hedged:
        """Sent again after the `q` quantile of one attempt; None: both at once.

        >>> from aibalance.queueing import Exponential
        >>> Hedged.after_quantile(Exponential(1.0), None).mean
        0.5
        """
        law = law_of("latency", latency)
        return Hedged(latency=law, delay=0.0 if q is None else law.quantile(q))

    @property
    def _law(self) -> Law:
        return law_of("latency", self.latency)

    def _rest(self) -> float:
        """∫ P(X > delay + u) P(X > u) du over u > 0; the substitution tames both ends."""
        law = self._law
        if isinstance(law, Exponential):
            return 0.5 * law.mean * math.exp(-self.delay / law.mean)
        s = np.linspace(-4.6, 4.6, 4001)
        u = law.mean * np.exp(0.5 * math.pi * np.sinh(s))
        weight = u * 0.5 * math.pi * np.cosh(s)
        inside = np.asarray(law.sf(self.delay + u)) * np.asarray(law.sf(u)) * weight
        return float(np.nansum(inside) * (s[1] - s[0]))

    @property
    def extra_requests(self) -> float:
        """Share of requests that are sent again."""
        return 1.0 if self.delay == 0 else float(self._law.sf(self.delay))

    def sf(self, t: float, /) -> float:
        """Chance that it takes longer than `t`."""
        return self._sf(number("t", t, 0))

    def _sf(self, t: float) -> float:
        one = float(self._law.sf(t))
        return one if t < self.delay else one * float(self._law.sf(t - self.delay))

    def quantile(self, q: float, /) -> float:
        """The latency that a share `q` of requests does not exceed."""
        return invert(self._sf, probability("q", q), self._law.mean)


def fan_out(n: int, p: float) -> float:
    """Chance that at least one of `n` parallel calls is slow, when each is with chance `p`: 1 − (1 − p)^n.

    Dean and Barroso, CACM 2013.

    >>> round(fan_out(100, 0.01), 3)
    0.634
    """
    n = whole("n", n, 0, 10**15)
    p = number("p", p, 0, 1)
    return 1.0 if p == 1 and n else -math.expm1(n * math.log1p(-p)) if n else 0.0


def fan_out_quantile(latency: Law | float, n: int, q: float) -> float:
    """The time within which all of `n` parallel calls have answered with chance `q`.

    >>> from aibalance.queueing import Exponential
    >>> round(fan_out_quantile(Exponential(1.0), 100, 0.5), 3)
    4.975
    """
    law = law_of("latency", latency)
    q = probability("q", q) ** (1 / whole("n", n, 1, 10**12))
    return math.inf if q >= 1 else law.quantile(q)


def fan_out_mean_exponential(n: int, mean: float = 1.0) -> float:
    """Mean of the longest of `n` exponential times: the n-th harmonic number times `mean`.

    >>> round(fan_out_mean_exponential(100), 4)
    5.1874
    """
    n = whole("n", n, 1, 10**15)
    if n <= 1000:
        harmonic = math.fsum(1 / i for i in range(1, n + 1))
    else:
        harmonic = math.log(n) + 0.57721566490153286061 + 1 / (2 * n) - 1 / (12 * n**2)
    return positive("mean", mean) * harmonic


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Attempts until one succeeds, at most `max_attempts`, each failing independently with chance `p_failure`.

    >>> retries = Retries(p_failure=0.5, max_attempts=3)
    >>> retries.p_success, retries.mean_attempts
    (0.875, 1.75)
    """

    p_failure: float
    max_attempts: int

    def __post_init__(self) -> None:
        number("p_failure", self.p_failure, 0, 1)
        whole("max_attempts", self.max_attempts, 1, 10**9)

    @property
    def p_success(self) -> float:
        """Chance that some attempt succeeds."""
        return 1 - self.p_failure**self.max_attempts

    @property
    def mean_attempts(self) -> float:
        """Attempts a request: what retries multiply the load by."""
        p = self.p_failure
        return float(self.max_attempts) if p == 1 else (1 - p**self.max_attempts) / (1 - p)
