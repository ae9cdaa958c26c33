"""Many servers with a queue each: random splits, power of d choices, join idle queue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .._laws import invert, number, positive, probability
from .._special import poisson_pmf
from ._checks import numbers, overloaded, whole, wrong


@dataclass(frozen=True, kw_only=True)
class RandomSplit:
    """Poisson arrivals split at random over exponential servers of unequal speed: each is an M/M/1 of its own.

    `service_rates`, one a server; `weights`, as many, in any scale (default: in proportion to the rates). A server of
    weight 0 gets nothing. ConfigError when any server gets more than it can serve. Poisson splitting: Kleinrock,
    Queueing Systems I, 1975.

    >>> split = RandomSplit(arrival_rate=1.5, service_rates=[1.0, 2.0], weights=[1, 1])
    >>> round(split.mean_sojourn, 9), split.utilizations
    (2.4, [0.75, 0.375])
    """

    arrival_rate: float
    service_rates: Sequence[float]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        number("arrival_rate", self.arrival_rate, 0)
        rates = tuple(numbers("service_rates", self.service_rates, 0, above=True))
        weights = rates if self.weights is None else tuple(numbers("weights", self.weights, 0))
        if len(weights) != len(rates):
            raise wrong("weights", f"{len(weights)} weights", f"one for each of the {len(rates)} service rates")
        if sum(weights) <= 0:
            raise wrong("weights", weights, "at least one weight above 0")
        object.__setattr__(self, "service_rates", rates)
        object.__setattr__(self, "weights", tuple(one / sum(weights) for one in weights))
        worst = max(self.utilizations)
        if worst >= 1:
            raise overloaded(worst, "weights")

    @property
    def shares(self) -> list[float]:
        """The weights, so that they add up to 1."""
        return list(self.weights or ())

    @property
    def utilizations(self) -> list[float]:
        """Share of time that each server is busy."""
        return [self.arrival_rate * w / mu for w, mu in zip(self.shares, self.service_rates, strict=True)]

    @property
    def _spare(self) -> list[float]:
        return [mu - self.arrival_rate * w for w, mu in zip(self.shares, self.service_rates, strict=True)]

    @property
    def mean_sojourns(self) -> list[float]:
        """Mean time from arrival to departure at each server."""
        return [1 / spare for spare in self._spare]

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure over all requests."""
        return sum(w / spare for w, spare in zip(self.shares, self._spare, strict=True))

    @property
    def mean_number(self) -> float:
        """Mean number waiting and in service, all servers together."""
        return self.arrival_rate * self.mean_sojourn

    def sojourn_sf(self, t: float, /) -> float:
        """Chance to stay longer than `t`."""
        return self._sf(number("t", t, 0))

    def _sf(self, t: float) -> float:
        return sum(w * math.exp(-spare * t) for w, spare in zip(self.shares, self._spare, strict=True))

    def sojourn_quantile(self, q: float, /) -> float:
        """The sojourn that a share `q` of requests does not exceed."""
        return invert(self._sf, probability("q", q), self.mean_sojourn)


def optimal_split(arrival_rate: float, service_rates: Sequence[float]) -> list[float]:
    """The shares that make the mean sojourn of a random split least: spare capacity in proportion to √rate.

    Slow servers get nothing at low load. One share a server, together 1. Buzen and Chen, 1974; Bell and Stidham, 1983.

    >>> [round(share, 3) for share in optimal_split(1.0, [1.0, 4.0])]
    [0.0, 1.0]
    >>> [round(share, 3) for share in optimal_split(3.5, [1.0, 4.0])]
    [0.143, 0.857]
    """
    lam = positive("arrival_rate", arrival_rate)
    rates = numbers("service_rates", service_rates, 0, above=True)
    if lam >= sum(rates):
        raise overloaded(lam / sum(rates))
    order = sorted(range(len(rates)), key=lambda i: -rates[i])
    used = len(order)
    while True:
        among = [rates[i] for i in order[:used]]
        spare = (sum(among) - lam) / sum(math.sqrt(mu) for mu in among)
        # The slowest of those in use is worth it only if something is left for it.
        if used == 1 or math.sqrt(among[-1]) > spare:
            break
        used -= 1
    shares = [0.0] * len(rates)
    for i in order[:used]:
        shares[i] = (rates[i] - spare * math.sqrt(rates[i])) / lam
    return shares


@dataclass(frozen=True, kw_only=True)
class Supermarket:
    """Power of d choices with very many servers: each job looks at `choices` at random and joins the shortest queue.

    `load` per server below 1; times are in mean service times (exponential, FIFO). The limit for infinitely many
    servers; with N servers it is higher, by about 1/(N(1 − load)). Vvedenskaya, Dobrushin, Karpelevich, 1996;
    Mitzenmacher, IEEE TPDS, 2001.

    >>> fleet = Supermarket(load=0.9, choices=2)
    >>> round(fleet.mean_sojourn, 4), round(fleet.sojourn_quantile(0.99), 2)
    (2.6141, 8.79)
    """

    load: float
    choices: int = 2

    def __post_init__(self) -> None:
        number("load", self.load, 0)
        if self.load >= 1:
            raise overloaded(self.load, "load")
        whole("choices", self.choices, 1, 10**9)

    def tail(self, i: int, /) -> float:
        """Share of servers with at least `i` jobs."""
        return math.exp(self._log_tail(whole("i", i, 0, 10**9)))

    def _log_tail(self, i: int) -> float:
        if i == 0:
            return 0.0
        if self.load == 0:
            return -math.inf
        d = self.choices
        if d == 1:
            return i * math.log(self.load)
        # d^i beyond a float means a tail of 0.
        if i * math.log(d) > 600:
            return -math.inf
        return float((d**i - 1) // (d - 1) * math.log(self.load))

    def _joins(self) -> list[float]:
        """Chance that a job finds at least i = 0, 1, … jobs in the queue that it joins, while it matters."""
        out = [1.0]
        while len(out) < 100_000:
            found = math.exp(self.choices * self._log_tail(len(out)))
            if found < 1e-320:
                break
            out.append(found)
        return out

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return 1 / (1 - self.load) if self.choices == 1 else math.fsum(self._joins())

    @property
    def mean_number(self) -> float:
        """Mean number of jobs a server."""
        return self.load * self.mean_sojourn

    @property
    def p_wait(self) -> float:
        """Chance that all choices are busy."""
        return self.load**self.choices

    def sojourn_sf(self, t: float, /) -> float:
        """Chance to stay longer than `t`."""
        t = number("t", t, 0)
        return math.exp(-(1 - self.load) * t) if self.choices == 1 else self._mixture(np.asarray(self._joins()), t)

    @staticmethod
    def _mixture(joins: np.ndarray[tuple[int], np.dtype[np.float64]], t: float) -> float:
        # Who finds k jobs stays for k + 1 services: longer than t while at most k have ended.
        return float(poisson_pmf(np.arange(len(joins)), t) @ joins)

    def sojourn_quantile(self, q: float, /) -> float:
        """The sojourn that a share `q` of jobs does not exceed."""
        q = probability("q", q)
        if self.choices == 1:
            return -math.log1p(-q) / (1 - self.load)
        joins = np.asarray(self._joins())
        return invert(lambda t: self._mixture(joins, t), q, 1.0)


@dataclass(frozen=True, kw_only=True)
class JoinIdleQueueLimit:
    """Join idle queue with very many servers: idle servers enlist with one of several dispatchers at random.

    `load` per server, and `servers_per_dispatcher`. Lu et al., Performance Evaluation 68, 2011: the approximation is
    good to some percent up to load 0.95, and grows worse beyond (Mitzenmacher, 2016). Times in mean service times
    (exponential).

    >>> round(JoinIdleQueueLimit(load=0.5, servers_per_dispatcher=5).mean_sojourn, 6)
    1.166667
    """

    load: float
    servers_per_dispatcher: float
    occupied: float = field(init=False)
    """Chance that a dispatcher has an idle server in its list."""

    def __post_init__(self) -> None:
        number("load", self.load, 0)
        if self.load >= 1:
            raise overloaded(self.load, "load")
        positive("servers_per_dispatcher", self.servers_per_dispatcher)
        odds = self.servers_per_dispatcher * (1 - self.load)
        object.__setattr__(self, "occupied", odds / (1 + odds))

    @property
    def random_load(self) -> float:
        """Load from requests that went to a server at random, because the dispatcher knew no idle one."""
        return self.load / (1 + self.servers_per_dispatcher * (1 - self.load))

    @property
    def p_wait(self) -> float:
        """Chance to wait."""
        return self.random_load

    @property
    def mean_sojourn(self) -> float:
        """Mean time from arrival to departure."""
        return 1 / (1 - self.random_load)
