"""Queues with several servers: Erlang B and C, M/M/c, M/M/c/K, M/D/c, M/G/infinity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._laws import Law, invert, number, positive, probability
from .._special import Array, gamma_p, gamma_q, poisson_pmf
from ._checks import law_of, overloaded, whole

MAX_SERVERS = 10_000_000


def erlang_b(servers: int, offered_load: float) -> float:
    """Chance that all `servers` are busy when nobody may wait (M/G/c/c; the law of service does not matter).

    `offered_load` is arrival rate × mean service time, in Erlang, from 0 to 1e9; more than the servers is allowed. By
    the recursion B_n = aB/(n + aB), which never cancels or overflows. Erlang, 1917.

    >>> round(erlang_b(5, 3.0), 6)
    0.110054
    """
    c = whole("servers", servers, 0, MAX_SERVERS)
    a = number("offered_load", offered_load, 0, 1e9)
    if a == 0:
        return 0.0 if c else 1.0
    blocked = 1.0
    for n in range(1, c + 1):
        blocked = a * blocked / (n + a * blocked)
    return blocked


def erlang_c(servers: int, offered_load: float) -> float:
    """Chance to wait in M/M/c, from `erlang_b`. `offered_load` in Erlang must be below `servers`. Erlang, 1917.

    >>> round(erlang_c(2, 0.6), 6)
    0.138462
    """
    c = whole("servers", servers, 1, MAX_SERVERS)
    a = number("offered_load", offered_load, 0, 1e9)
    if a >= c:
        raise overloaded(a / c)
    blocked = erlang_b(c, a)
    return blocked / (1 - a / c * (1 - blocked))


@dataclass(frozen=True, kw_only=True)
class MMc:
    """M/M/c, FIFO from one shared queue: Poisson arrivals, exponential service, `servers` equal servers.

    `arrival_rate` of all, `service_rate` of one server, in the same unit; times come out in its inverse. The load per
    server must be below 1. Erlang, 1917; Kleinrock, Queueing Systems I, 1975.

    >>> queue = MMc(arrival_rate=0.9)
    >>> round(queue.mean_sojourn, 6), round(queue.sojourn_quantile(0.99), 3)
    (10.0, 46.052)
    """

    arrival_rate: float
    service_rate: float = 1.0
    servers: int = 1
    p_wait: float = field(init=False)
    """Chance to wait (Erlang C)."""

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        positive("service_rate", self.service_rate)
        whole("servers", self.servers, 1, MAX_SERVERS)
        if self.utilization >= 1:
            raise overloaded(self.utilization)
        object.__setattr__(self, "p_wait", erlang_c(self.servers, self.offered_load))

    @property
    def offered_load(self) -> float:
        """Arrival rate × mean service time, in Erlang."""
        return self.arrival_rate / self.service_rate

    @property
    def utilization(self) -> float:
        """Share of time that a server is busy."""
        return self.offered_load / self.servers

    @property
    def _spare(self) -> float:
        return self.servers * self.service_rate - self.arrival_rate

    @property
    def mean_wait(self) -> float:
        """Mean time in the queue, over all requests."""
        return self.p_wait / self._spare

    @property
    def mean_wait_given_wait(self) -> float:
        """Mean time in the queue of those who wait."""
        return 1 / self._spare

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return self.mean_wait + 1 / self.service_rate

    @property
    def var_sojourn(self) -> float:
        """Variance of the time from arrival to departure."""
        return self.p_wait * (2 - self.p_wait) / self._spare**2 + 1 / self.service_rate**2

    @property
    def mean_queue(self) -> float:
        """Mean number waiting (Little's law)."""
        return self.arrival_rate * self.mean_wait

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service."""
        return self.mean_queue + self.offered_load

    def p_number_at_least(self, n: int, /) -> float:
        """Chance that at least `n` requests are in the system.

        >>> round(MMc(arrival_rate=0.5).p_number_at_least(3), 6)
        0.125
        """
        n = whole("n", n, 0, 10**12)
        if n >= self.servers:
            return self.p_wait * self.utilization ** (n - self.servers)
        # Down from c: the chance of k < c is that of k + 1 times (k + 1)/a.
        a = self.offered_load
        if a == 0:
            return float(n == 0)
        found = self.p_wait
        at = self.p_wait * (1 - self.utilization)
        for k in range(self.servers - 1, n - 1, -1):
            at *= (k + 1) / a
            found += at
        return min(found, 1.0)

    def wait_sf(self, t: float, /) -> float:
        """Chance to wait longer than `t`."""
        return self.p_wait * math.exp(-self._spare * number("t", t, 0))

    def wait_quantile(self, q: float, /) -> float:
        """The wait that a share `q` of requests does not exceed, 0 < q < 1."""
        q = probability("q", q)
        return max(math.log(self.p_wait / (1 - q)) / self._spare, 0.0) if self.p_wait > 0 else 0.0

    def sojourn_sf(self, t: float, /) -> float:
        """Chance to stay longer than `t`, waiting and service together."""
        return self._sojourn_sf(number("t", t, 0))

    def _sojourn_sf(self, t: float) -> float:
        low, high = sorted((self.service_rate, self._spare))
        gap = (high - low) * t
        both = math.exp(-low * t) * (1 + low * t * (-math.expm1(-gap) / gap if gap > 0 else 1.0))
        return (1 - self.p_wait) * math.exp(-self.service_rate * t) + self.p_wait * both

    def sojourn_quantile(self, q: float, /) -> float:
        """The sojourn that a share `q` of requests does not exceed, 0 < q < 1."""
        return invert(self._sojourn_sf, probability("q", q), self.mean_sojourn)


@dataclass(frozen=True, kw_only=True)
class MMcK:
    """M/M/c/K: at most `places` requests in the system, those in service included; one more is turned away.

    The load may be above 1. `places == servers` is Erlang's loss system, where the law of service does not matter.
    Waits and sojourns are of accepted requests. Kleinrock, Queueing Systems I, 1975, section 3.

    >>> queue = MMcK(arrival_rate=4.0, servers=5, places=5)
    >>> round(queue.p_block - erlang_b(5, 4.0), 12)
    0.0
    """

    arrival_rate: float
    service_rate: float = 1.0
    servers: int = 1
    places: int = 1
    distribution: Array = field(init=False, repr=False, compare=False)
    """Chance of n = 0 … `places` requests in the system."""

    def __post_init__(self) -> None:
        positive("arrival_rate", self.arrival_rate)
        positive("service_rate", self.service_rate)
        whole("servers", self.servers, 1, MAX_SERVERS)
        whole("places", self.places, self.servers, MAX_SERVERS)
        n = np.arange(1, self.places + 1)
        logs = np.log(self.arrival_rate / self.service_rate / np.minimum(n, self.servers))
        weights = np.concatenate(([0.0], np.cumsum(logs)))
        if self.places > 100_000:
            # The sum of so many logarithms loses digits; relative to the peak they are exact enough from there.
            weights = _from_peak(logs)
        p = np.exp(weights - weights.max())
        p /= p.sum()
        p.setflags(write=False)
        object.__setattr__(self, "distribution", p)

    def __reduce__(self) -> Any:
        return _mmck, (self.arrival_rate, self.service_rate, self.servers, self.places)

    @property
    def p_block(self) -> float:
        """Chance to be turned away."""
        return float(self.distribution[-1])

    @property
    def p_empty(self) -> float:
        """Chance that nobody is there."""
        return float(self.distribution[0])

    @property
    def throughput(self) -> float:
        """Accepted requests per unit of time."""
        return self.arrival_rate * float(self.distribution[:-1].sum())

    @property
    def utilization(self) -> float:
        """Share of time that a server is busy."""
        return self.throughput / (self.servers * self.service_rate)

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service."""
        return float(self.distribution @ np.arange(self.places + 1))

    @property
    def mean_queue(self) -> float:
        """Mean number waiting."""
        return float(self.distribution[self.servers :] @ np.arange(self.places - self.servers + 1))

    @property
    def mean_wait(self) -> float:
        """Mean time in the queue of accepted requests."""
        return self.mean_queue / self.throughput

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure of accepted requests."""
        return self.mean_wait + 1 / self.service_rate

    @property
    def p_wait(self) -> float:
        """Chance that an accepted request waits."""
        seen = self.distribution[:-1]
        return float(seen[self.servers :].sum() / seen.sum())

    def wait_sf(self, t: float, /) -> float:
        """Chance that an accepted request waits longer than `t`."""
        return self._wait_sf(number("t", t, 0))

    def _wait_sf(self, t: float) -> float:
        seen = self.distribution[:-1]
        # Who finds c + k requests waits for k + 1 departures, at rate cμ.
        tails = np.cumsum(seen[self.servers :][::-1])[::-1] / seen.sum()
        if not len(tails):
            return 0.0
        return float(poisson_pmf(np.arange(len(tails)), self.servers * self.service_rate * t) @ tails)

    def wait_quantile(self, q: float, /) -> float:
        """The wait that a share `q` of accepted requests does not exceed, 0 < q < 1."""
        return invert(self._wait_sf, probability("q", q), 1 / (self.servers * self.service_rate))


def _mmck(arrival_rate: float, service_rate: float, servers: int, places: int) -> MMcK:
    return MMcK(arrival_rate=arrival_rate, service_rate=service_rate, servers=servers, places=places)


def _from_peak(logs: Array) -> Array:
    peak = int(np.searchsorted(-logs, 0.0))
    return np.concatenate((-np.cumsum(logs[:peak][::-1])[::-1], [0.0], np.cumsum(logs[peak:])))


@dataclass(frozen=True, kw_only=True)
class MDc:
    """M/D/c FIFO: Poisson arrivals, every service takes exactly `service_time`, `servers` equal servers.

    Exact: the number waiting, looked at every service time, is a random walk that is reflected at zero, so Spitzer's
    identity gives its mean as a sum of positive terms; where that converges slowly (few servers near load 1), by the
    roots of z^c = e^(−λ(1−z)) in the unit disc. Crommelin, 1932; Franx, A simple solution for the M/D/c waiting time
    distribution, 2001.

    >>> round(MDc(arrival_rate=0.9, service_time=1.0).mean_wait, 9)
    4.5
    """

    arrival_rate: float
    service_time: float = 1.0
    servers: int = 1
    p_wait: float = field(init=False)
    """Chance to wait."""
    mean_queue: float = field(init=False)
    """Mean number waiting."""

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        positive("service_time", self.service_time)
        whole("servers", self.servers, 1, 100_000)
        if self.utilization >= 1:
            raise overloaded(self.utilization)
        waits, queue = _mdc(self.arrival_rate * self.service_time, self.servers)
        object.__setattr__(self, "p_wait", waits)
        object.__setattr__(self, "mean_queue", queue)

    @property
    def utilization(self) -> float:
        """Share of time that a server is busy."""
        return self.arrival_rate * self.service_time / self.servers

    @property
    def mean_wait(self) -> float:
        """Mean time in the queue."""
        return self.mean_queue / self.arrival_rate if self.arrival_rate > 0 else 0.0

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return self.mean_wait + self.service_time

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service."""
        return self.mean_queue + self.arrival_rate * self.service_time


def _mdc(a: float, c: int) -> tuple[float, float]:
    """Chance to wait and mean number waiting for an offered load `a`."""
    rho = a / c
    if a == 0:
        return 0.0, 0.0
    if c == 1:
        return rho, rho * rho / (2 * (1 - rho))
    decay = c * (rho - 1 - math.log(rho))
    if decay < 1e-15:
        raise overloaded(rho)
    steps = math.ceil(45 / decay) + 1
    width = math.ceil(min(45 / -math.log(rho), 14 * math.sqrt(steps * c) + 60)) + 2
    if steps * width <= 20_000_000:
        return _spitzer(a, c, steps, width)
    return _roots(a, c)


def _spitzer(a: float, c: int, steps: int, width: int) -> tuple[float, float]:
    m = np.arange(1, steps + 1, dtype=np.float64)
    least = m * c
    term = poisson_pmf(least, m * a)
    reach, over = term.copy(), np.zeros_like(term)
    for j in range(1, width + 1):
        term = term * (m * a) / (least + j)
        reach += term
        over += j * term
        if j % 64 == 0 and (term * j <= 1e-18 * over).all():
            break
    return float(-math.expm1(-float((reach / m).sum()))), float((over / m).sum())


def _roots(a: float, c: int) -> tuple[float, float]:
    turn = np.exp(2j * np.pi * np.arange(1, c) / c)
    rho = a / c
    z = turn * math.exp(-rho)
    for _ in range(500):
        back = turn * np.exp(-rho * (1 - z))
        step = (back - z) / (1 - rho * back)
        z = z + step
        if np.abs(step).max() < 1e-15:
            break
    away = 1 - z
    none = (c - a) * math.exp(-float(np.log(np.abs(away)).sum()))
    queue = float((1 / away).real.sum()) - (c * (c - 1) - a * a) / (2 * (c - a))
    return 1 - none, queue


@dataclass(frozen=True, kw_only=True)
class MGInf:
    """M/G/∞: nobody waits; the number in the system is Poisson with mean arrival rate × mean service time.

    `service` is a law, or a number for an exponential law of that mean; the stationary answers depend on its mean
    alone. At most 1e6 in the mean. Takács, Introduction to the Theory of Queues, 1962.

    >>> from aibalance.queueing import Deterministic
    >>> room = MGInf(arrival_rate=3.0, service=Deterministic(10.0))
    >>> room.mean_number, room.quantile(0.99), float(room.mean_number_at(2.0))
    (30.0, 43, 6.0)
    """

    arrival_rate: float
    service: Law | float

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        object.__setattr__(self, "service", law_of("service", self.service))
        number("arrival_rate × mean service time", self.mean_number, 0, 1e6)

    @property
    def _law(self) -> Law:
        return law_of("service", self.service)

    @property
    def mean_number(self) -> float:
        """Mean number in the system."""
        return self.arrival_rate * self._law.mean

    @property
    def var_number(self) -> float:
        """Variance of the number in the system: its mean."""
        return self.mean_number

    def pmf(self, n: int, /) -> float:
        """Chance that `n` are in the system."""
        return float(poisson_pmf(whole("n", n, 0, 10**12), self.mean_number))

    def sf(self, n: int, /) -> float:
        """Chance that more than `n` are in the system."""
        n = whole("n", n, 0, 10**12)
        return float(gamma_p(n + 1.0, self.mean_number)) if self.mean_number > 0 else 0.0

    def quantile(self, q: float, /) -> int:
        """The least n that the number in the system does not exceed with chance `q`."""
        q = probability("q", q)
        low, high = -1, max(1, int(self.mean_number))
        while self._cdf(high) < q:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._cdf(middle) < q else (low, middle)
        return high

    def _cdf(self, n: int) -> float:
        return float(gamma_q(n + 1.0, self.mean_number)) if self.mean_number > 0 else 1.0

    def mean_number_at(self, t: float, /) -> float:
        """Mean number in the system at time `t` after it was empty; the number is Poisson then too."""
        t = number("t", t, 0)
        return self.mean_number * float(self._law.excess_cdf(t))
