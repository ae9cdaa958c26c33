"""One server: M/G/1 FIFO and processor sharing, E_k/M/1 and D/M/1, priorities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._laws import Exponential, HyperExponential, Law, number, positive, probability
from .._special import Array
from ._checks import law_of, numbers, overloaded, whole, wrong


class Bracket(NamedTuple):
    """A value that is known to lie between `low` and `high`.

    >>> Bracket(1.0, 1.5).middle
    1.25
    """

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Half way between."""
        return 0.5 * (self.low + self.high)


@dataclass(frozen=True, kw_only=True)
class MG1:
    """M/G/1 FIFO: Poisson arrivals, any law of service, one server.

    `service` is a law, or a number for an exponential law of that mean. Means by Pollaczek (1930) and Khinchine (1932),
    the variance by Takács (1962). They are `math.inf` where the law has no second (third) moment.

    >>> from aibalance.queueing import Lognormal
    >>> queue = MG1(arrival_rate=0.8, service=Lognormal(mean=1.0, sigma=1.0))
    >>> round(queue.mean_wait, 6)
    5.436564
    >>> low, high = queue.sojourn_quantile(0.99)
    >>> 0 < high - low < 0.01
    True
    """

    arrival_rate: float
    service: Law | float

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        object.__setattr__(self, "service", law_of("service", self.service))
        if self.utilization >= 1:
            raise overloaded(self.utilization)

    @property
    def _law(self) -> Law:
        return law_of("service", self.service)

    @property
    def utilization(self) -> float:
        """Share of time that the server is busy."""
        return self.arrival_rate * self._law.mean

    @property
    def p_wait(self) -> float:
        """Chance to wait: the utilization."""
        return self.utilization

    @property
    def mean_wait(self) -> float:
        """Mean time in the queue."""
        return self.arrival_rate * self._law.second_moment / (2 * (1 - self.utilization))

    @property
    def var_wait(self) -> float:
        """Variance of the time in the queue."""
        return self.mean_wait**2 + self.arrival_rate * self._law.third_moment / (3 * (1 - self.utilization))

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return self.mean_wait + self._law.mean

    @property
    def var_sojourn(self) -> float:
        """Variance of the time from arrival to departure."""
        return self.var_wait + self._law.variance

    @property
    def mean_queue(self) -> float:
        """Mean number waiting."""
        return self.arrival_rate * self.mean_wait

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service."""
        return self.arrival_rate * self.mean_sojourn

    def wait_tail(self) -> tuple[list[float], list[float]]:
        """Coefficients c and rates r, slowest first, with P(wait > t) = Σ c e^(−r t); exact.

        For service that is exponential or a mix of exponentials; any other law is a ConfigError. The rates are the
        roots of λ Σ pᵢ/(μᵢ − r) = 1, one below each μᵢ (Kleinrock, Queueing Systems I, 1975, section 5.7).

        >>> coefficients, rates = MG1(arrival_rate=0.5, service=1.0).wait_tail()
        >>> round(coefficients[0], 9), round(rates[0], 9)
        (0.5, 0.5)
        """
        law = self._law
        if isinstance(law, Exponential):
            phases = {1 / law.mean: 1.0}
        elif isinstance(law, HyperExponential):
            phases = {}
            for p, m in zip(law.chances, law.means, strict=True):
                if p > 0:
                    phases[1 / m] = phases.get(1 / m, 0.0) + p
        else:
            raise wrong("service", law, "Exponential or HyperExponential: no other law has a closed form here")
        if self.arrival_rate == 0:
            return [], []
        speeds = sorted(phases)
        rates, below = [], 0.0
        for mu in speeds:
            rates.append(self._root(phases, below, mu))
            below = mu
        # The transform of the wait is Π (1 + s/μ)/(1 + s/r): partial fractions give the weight of each rate.
        weights = []
        for i, r in enumerate(rates):
            weight = 1 - r / speeds[i]
            for j, (other, mu) in enumerate(zip(rates, speeds, strict=True)):
                if j != i:
                    weight *= (1 - r / mu) / (1 - r / other)
            weights.append(weight)
        return weights, rates

    def _root(self, phases: dict[float, float], low: float, high: float) -> float:
        def above(r: float) -> bool:
            return self.arrival_rate * sum(p / (mu - r) for mu, p in phases.items()) > 1

        bottom, top = low, high
        for _ in range(2000):
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            if middle in (bottom, top) or not above(middle):
                low = middle
            else:
                high = middle
        return low

    def wait_quantile(self, q: float, /, *, points: int = 2**18) -> Bracket:
        """Bounds of the wait that a share `q` of requests does not exceed.

        The wait is a geometric number of remaining service times (Pollaczek and Khinchine). These are rounded down and
        up to a grid of `points` (a power of two from 2^10 to 2^24), and the transform of the sum is inverted by FFT,
        tilted against wrap-around (Embrechts and Frei, 2009). More points give a narrower bracket, in proportion.
        """
        return self._quantile(q, points, sojourn=False)

    def sojourn_quantile(self, q: float, /, *, points: int = 2**18) -> Bracket:
        """Bounds of the sojourn that a share `q` of requests does not exceed; see `wait_quantile`."""
        return self._quantile(q, points, sojourn=True)

    def _quantile(self, q: float, points: int, *, sojourn: bool) -> Bracket:
        q = probability("q", q)
        n = whole("points", points, 2**10, 2**24)
        if n & (n - 1):
            raise wrong("points", points, "a power of two")
        law, rho = self._law, self.utilization
        if not sojourn and q <= 1 - rho:
            return Bracket(0.0, 0.0)
        # A coarse pass finds how far the grid has to reach, a fine one gives the bounds.
        reach = 4 * law.mean / (1 - rho)
        for _ in range(200):
            found = _bounds(law, rho, q, reach, 2**11, sojourn)
            if found is not None:
                break
            reach *= 2
        else:
            raise wrong("q", q, "a quantile below 1e60 mean service times")
        for _ in range(8):
            closer = _bounds(law, rho, q, min(reach, max(found.high * 1.15, law.mean * 1e-3)), 2**11, sojourn)
            if closer is None or closer.high >= found.high * 0.9:
                break
            found = closer
        reach = found.high * 1.05
        for _ in range(60):
            bounds = _bounds(law, rho, q, reach, n, sojourn)
            if bounds is not None:
                return bounds
            reach *= 1.2
        raise wrong("q", q, "a quantile that the grid reaches; give more points")


def _bounds(law: Law, rho: float, q: float, reach: float, n: int, sojourn: bool) -> Bracket | None:
    """The quantile with everything rounded down, and up, on a grid of n steps to `reach`; None if it lies beyond."""
    grid = np.arange(n + 1) * (reach / n)
    excess = np.asarray(law.excess_cdf(grid), np.float64)
    plain = np.asarray(law.cdf(grid), np.float64) if sojourn else None
    tilt = np.exp(-14.0 / n * np.arange(n))
    ends = []
    for up in (False, True):
        spectrum = np.fft.rfft(_masses(excess, up) * tilt)
        out = (1 - rho) / (1 - rho * spectrum)
        if plain is not None:
            out = out * np.fft.rfft(_masses(plain, up) * tilt)
        total = np.cumsum(np.fft.irfft(out, n) / tilt)
        # The inversion is good to some 1e-10; the bounds allow for it.
        at = int(np.argmax(total >= q + (1e-10 if up else -1e-10)))
        if total[at] < q - 1e-10 or (at == 0 and total[0] < q - 1e-10):
            return None
        ends.append(at)
    step = reach / n
    return Bracket(ends[0] * step, ends[1] * step)


def _masses(cdf: Array, up: bool) -> Array:
    """Masses on 0 … n−1 of a law with this distribution at 0 … n, rounded down or up; what lies beyond is left out."""
    if up:
        return np.concatenate((cdf[:1], np.diff(cdf[:-1])))
    return np.concatenate((cdf[1:2], np.diff(cdf[1:])))


@dataclass(frozen=True, kw_only=True)
class MG1PS:
    """M/G/1 with processor sharing: all present share the server equally. Means do not depend on the law of service.

    `service` is a law, or a number for an exponential law of that mean. Kleinrock, 1967; Sakata, Noguchi, Oizumi, 1971.

    >>> queue = MG1PS(arrival_rate=0.8, service=1.0)
    >>> round(queue.mean_sojourn, 9), round(queue.conditional_mean_sojourn(0.1), 9)
    (5.0, 0.5)
    """

    arrival_rate: float
    service: Law | float

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        object.__setattr__(self, "service", law_of("service", self.service))
        if self.utilization >= 1:
            raise overloaded(self.utilization)

    @property
    def _law(self) -> Law:
        return law_of("service", self.service)

    @property
    def utilization(self) -> float:
        """Share of time that the server is busy."""
        return self.arrival_rate * self._law.mean

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return self._law.mean / (1 - self.utilization)

    @property
    def mean_number(self) -> float:
        """Mean number in the system."""
        return self.utilization / (1 - self.utilization)

    @property
    def var_sojourn(self) -> float:
        """Variance of the sojourn, for exponential service only (Coffman, Muntz, Trotter, 1970); else ConfigError."""
        if not isinstance(self._law, Exponential):
            raise wrong("service", self._law, "Exponential: no other law has a closed form here")
        rho = self.utilization
        return self._law.mean**2 * (2 + rho) / ((2 - rho) * (1 - rho) ** 2)

    def p_number(self, n: int, /) -> float:
        """Chance that `n` requests are in the system."""
        return (1 - self.utilization) * self.utilization ** whole("n", n, 0, 10**12)

    def conditional_mean_sojourn(self, work: float, /) -> float:
        """Mean sojourn of a request that brings `work` (its service time on an idle server)."""
        return number("work", work, 0) / (1 - self.utilization)


@dataclass(frozen=True, kw_only=True)
class EkM1:
    """E_k/M/1: gaps between arrivals are Erlang with `stages` (`math.inf`: constant, D/M/1), service is exponential.

    This is what each of `stages` equal servers sees behind round robin with Poisson arrivals; `arrival_rate` is that at
    the one server. An arrival finds the server busy with chance sigma, the root of sigma = A*(μ(1−sigma)). Kleinrock,
    Queueing Systems I, 1975, section 6.4.

    >>> round(EkM1(arrival_rate=0.9, stages=10).mean_sojourn, 3)
    5.66
    """

    arrival_rate: float
    service_rate: float = 1.0
    stages: int | float = 1
    p_wait: float = field(init=False)
    """Chance to wait, sigma."""
    _free: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        positive("service_rate", self.service_rate)
        if self.stages != math.inf:
            whole("stages", self.stages, 1, 10**9)
        if self.utilization >= 1:
            raise overloaded(self.utilization)
        object.__setattr__(self, "_free", self._idle())
        object.__setattr__(self, "p_wait", 1 - self._free)

    def _idle(self) -> float:
        """1 − sigma, by bisection of y = 1 − A*(μy), which has one root above 0."""
        rho, k = self.utilization, self.stages
        if rho == 0:
            return 1.0

        def above(y: float) -> float:
            log = -y / rho if k == math.inf else -k * math.log1p(y / (k * rho))
            return y + math.expm1(log)

        low, high = 0.0, 1.0
        # Near 0 the difference is negative (its slope is 1 − 1/rho), at 1 it is positive.
        for _ in range(2000):
            middle = 0.5 * (low + high)
            if middle in (low, high):
                break
            low, high = (middle, high) if above(middle) < 0 else (low, middle)
        return high

    @property
    def utilization(self) -> float:
        """Share of time that the server is busy."""
        return self.arrival_rate / self.service_rate

    @property
    def _rate(self) -> float:
        return self.service_rate * self._free

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure; the sojourn is exponential."""
        return 1 / self._rate

    @property
    def mean_wait(self) -> float:
        """Mean time in the queue."""
        return self.p_wait / self._rate

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service."""
        return self.arrival_rate * self.mean_sojourn

    def wait_quantile(self, q: float, /) -> float:
        """The wait that a share `q` of requests does not exceed."""
        q = probability("q", q)
        return max(math.log(self.p_wait / (1 - q)) / self._rate, 0.0) if self.p_wait > 0 else 0.0

    def sojourn_quantile(self, q: float, /) -> float:
        """The sojourn that a share `q` of requests does not exceed."""
        return -math.log1p(-probability("q", q)) / self._rate


@dataclass(frozen=True, kw_only=True)
class PriorityMG1:
    """M/G/1 with classes, the first served first; FIFO within a class.

    `arrival_rates` and `services` (laws, or means of exponential laws) have one entry a class. Cobham, 1954, for
    service that is not interrupted; preemptive resume as in Kleinrock, Queueing Systems II, 1976, section 3.

    >>> queue = PriorityMG1(arrival_rates=[0.3, 0.4], services=[1.0, 1.0])
    >>> [round(wait, 6) for wait in queue.mean_waits]
    [1.0, 3.333333]
    """

    arrival_rates: Sequence[float]
    services: Sequence[Law | float]

    def __post_init__(self) -> None:
        rates = tuple(numbers("arrival_rates", self.arrival_rates, 0))
        given: Any = self.services
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            raise wrong("services", given, "a list of laws")
        laws = tuple(law_of(f"services[{i}]", one) for i, one in enumerate(given))
        if len(laws) != len(rates):
            raise wrong("services", f"{len(laws)} laws", f"one for each of the {len(rates)} arrival rates")
        object.__setattr__(self, "arrival_rates", rates)
        object.__setattr__(self, "services", laws)
        if self.utilization >= 1:
            raise overloaded(self.utilization, "arrival_rates")

    @property
    def _classes(self) -> list[tuple[float, Law]]:
        laws = [law_of("services", one) for one in self.services]
        return list(zip(self.arrival_rates, laws, strict=True))

    @property
    def utilization(self) -> float:
        """Share of time that the server is busy."""
        return sum(rate * law.mean for rate, law in self._classes)

    def _steps(self) -> list[tuple[float, float, float]]:
        """For each class: load of those above, load with it, mean remaining work of both."""
        out, load, left = [], 0.0, 0.0
        for rate, law in self._classes:
            before = load
            load += rate * law.mean
            left += rate * law.second_moment / 2
            out.append((before, load, left))
        return out

    @property
    def mean_waits(self) -> list[float]:
        """Mean wait of each class when a service that has begun is finished."""
        steps = self._steps()
        return [steps[-1][2] / ((1 - above) * (1 - with_it)) for above, with_it, _ in steps]

    @property
    def preemptive_mean_sojourns(self) -> list[float]:
        """Mean sojourn of each class when a higher one interrupts, and service goes on where it was."""
        return [
            law.mean / (1 - above) + left / ((1 - above) * (1 - with_it))
            for (above, with_it, left), (_, law) in zip(self._steps(), self._classes, strict=True)
        ]

    @property
    def fifo_mean_wait(self) -> float:
        """Mean wait without priorities."""
        return self._steps()[-1][2] / (1 - self.utilization)
