"""Two or three servers with a queue each, exactly: the stationary Markov chain, truncated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._errors import ConfigError
from .._laws import invert, number, positive, probability
from .._special import Array, poisson_pmf
from ._checks import choice, numbers, overloaded, whole, wrong

State = tuple[int, ...]

POLICIES = (
    "random",
    "weighted_random",
    "jsq",
    "jiq",
    "p2c",
    "p2c_with_replacement",
    "weighted_least",
    "weighted_least_plus1",
    "weighted_least_tie_fast",
)
"""Policies of `SmallFleet`."""


@dataclass(frozen=True, kw_only=True)
class SmallFleet:
    """One to three exponential servers, a FIFO queue each, behind a policy that sees the queues: exact.

    Parameters
    ----------
    arrival_rate : Poisson arrivals of all, below the sum of the service rates.
    service_rates : one a server, 1 to 3; three must be equal.
    policy : where a request goes. "random"; "weighted_random" (in proportion to the service rates); "jsq" (fewest
        jobs, ties at random); "jiq" (an idle server at random, else any at random); "p2c" (the one with fewer jobs of
        two different servers at random); "p2c_with_replacement" (they may be the same); "weighted_least" (least q/μ),
        "weighted_least_plus1" (least (q+1)/μ, the shortest expected delay), both with ties at random;
        "weighted_least_tie_fast" (least q/μ, ties to the fastest).
    truncation : the most jobs at one server; one more is lost (default: as many as it takes to make
        `truncation_mass` × truncation less than 1e-11).

    The chain is solved by block elimination over the number of jobs: all terms of one sign, so about 13 digits. Three
    servers up to some 45 jobs and two up to some 250 take seconds. With processor sharing the means are the same.

    >>> fleet = SmallFleet(arrival_rate=1.0, service_rates=[1.0, 1.0], policy="jsq")
    >>> round(fleet.mean_sojourn, 6), [round(share, 6) for share in fleet.shares]
    (1.426321, [0.5, 0.5])
    """

    arrival_rate: float
    service_rates: Sequence[float]
    policy: str = "jsq"
    truncation: int | None = None
    mean_number: float = field(init=False)
    """Mean number waiting and in service, all servers together."""
    mean_sojourn: float = field(init=False)
    """Mean time from arrival to departure (Little's law)."""
    p_wait: float = field(init=False)
    """Chance that a request is sent to a busy server."""
    p_all_idle: float = field(init=False)
    """Chance that all servers are idle."""
    shares: tuple[float, ...] = field(init=False)
    """Share of requests that each server gets."""
    truncation_mass: float = field(init=False)
    """Chance that some queue is as long as the truncation: what the answer may be wrong by, times the truncation."""
    _ahead: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lam = positive("arrival_rate", self.arrival_rate)
        rates = tuple(numbers("service_rates", self.service_rates, 0, above=True))
        if len(rates) > 3 or (len(rates) == 3 and len(set(rates)) > 1):
            raise wrong("service_rates", list(rates), "one or two servers, or three equal ones")
        if max(rates) > 1e6 * min(rates) or lam < 1e-6 * sum(rates):
            raise wrong("service_rates", list(rates), "rates, and an arrival rate, within a factor of 1e6")
        choice("policy", self.policy, POLICIES)
        if lam >= sum(rates):
            raise overloaded(lam / sum(rates))
        if self.policy in ("random", "p2c_with_replacement") and lam / len(rates) >= min(rates):
            if self.policy == "random":
                raise overloaded(lam / len(rates) / min(rates))
        elif self.policy == "jiq" and lam / len(rates) >= min(rates) and len(set(rates)) > 1:
            raise wrong("policy", "jiq", "another one: the slowest server cannot take its share at random")
        fixed = object.__setattr__
        fixed(self, "service_rates", rates)
        top = 250 if len(rates) < 3 else 45
        if self.truncation is not None:
            found = self._solve(whole("truncation", self.truncation, 1, 400 if len(rates) < 3 else 60))
            size = self.truncation
        else:
            size = 20
            while True:
                found = self._solve(size)
                if found["truncation_mass"] * size < 1e-11 or size == top:
                    break
                size = min(top, max(size + 4, size * 3 // 2))
            if found["truncation_mass"] * size > 1e-6:
                raise ConfigError(
                    f"arrival_rate: {lam!r} is too near the limit: with {size} jobs a server, the chance of a full "
                    f"queue is still {found['truncation_mass']:.1g}; expected a lower load, or give truncation"
                )
        for name, value in found.items():
            fixed(self, name, value)

    def __reduce__(self) -> Any:
        return _fleet, (self.arrival_rate, self.service_rates, self.policy, self.truncation)

    def sojourn_sf(self, t: float, /) -> float:
        """Chance to stay longer than `t` (FIFO); for equal servers."""
        return self._sf(number("t", t, 0))

    def _sf(self, t: float) -> float:
        if len(set(self.service_rates)) > 1:
            raise wrong("service_rates", list(self.service_rates), "equal servers for the law of the sojourn")
        return float(poisson_pmf(np.arange(len(self._ahead)), self.service_rates[0] * t) @ self._ahead)

    def sojourn_quantile(self, q: float, /) -> float:
        """The sojourn that a share `q` of requests does not exceed (FIFO); for equal servers."""
        return invert(self._sf, probability("q", q), 1 / self.service_rates[0])

    def _solve(self, most: int) -> dict[str, Any]:
        rates, lam = tuple(self.service_rates), self.arrival_rate
        n = len(rates)
        equal = len(set(rates)) == 1
        route = _router(self.policy, rates)
        top = n * most
        states: list[list[State]] = [[] for _ in range(top + 1)]
        for state in (
            itertools.combinations_with_replacement(range(most, -1, -1), n)
            if equal
            else itertools.product(range(most + 1), repeat=n)
        ):
            states[sum(state)].append(state)
        place = {state: i for level in states for i, state in enumerate(level)}
        sends = {state: route(state) for level in states for state in level}

        def key(state: Sequence[int]) -> State:
            return tuple(sorted(state, reverse=True)) if equal else tuple(state)

        def flows(state: State) -> list[tuple[State, float]]:
            out = []
            for i, share in sends[state]:
                if state[i] < most:
                    out.append((key([q + (j == i) for j, q in enumerate(state)]), lam * share))
            for i in range(n):
                if state[i]:
                    out.append((key([q - (j == i) for j, q in enumerate(state)]), rates[i]))
            return out

        # Down from all queues full, by the number of jobs: what a level above sends back becomes part of this one.
        local: list[Array] = []
        ups: list[Array] = []
        downs: list[Array] = []
        for level, members in enumerate(states):
            here = np.zeros((len(members), len(members)))
            up = np.zeros((len(members), len(states[level + 1]) if level < top else 0))
            down = np.zeros((len(members), len(states[level - 1]) if level else 0))
            for i, state in enumerate(members):
                for target, rate in flows(state):
                    at = sum(target)
                    (here if at == level else up if at > level else down)[i, place[target]] += rate
            for i in range(len(members)):
                here[i, i] -= here[i].sum() + up[i].sum() + down[i].sum()
            local.append(here)
            ups.append(up)
            downs.append(down)
        steps: list[Array] = []
        for level in range(top, 0, -1):
            try:
                step: Array = np.asarray(np.linalg.solve(-local[level].T, ups[level - 1].T).T, np.float64)
            except np.linalg.LinAlgError:
                raise wrong("truncation", most, "less: a state is all but never reached") from None
            steps.append(step)
            local[level - 1] = local[level - 1] + step @ downs[level]
        vectors = [np.ones(1)]
        for step in reversed(steps):
            with np.errstate(over="ignore", invalid="ignore"):
                vectors.append(np.maximum(vectors[-1] @ step, 0.0))
        total = math.fsum(float(v.sum()) for v in vectors)
        if not math.isfinite(total):
            raise wrong("policy", self.policy, "another one: under this one a server gets more than it can serve")

        numbers_, waits, mass, ahead = 0.0, 0.0, 0.0, np.zeros(most + 2)
        shares = [0.0] * n
        for members, vector in zip(states, vectors, strict=True):
            for state, chance in zip(members, (vector / total).tolist(), strict=True):
                numbers_ += chance * sum(state)
                mass += chance * (max(state) == most)
                for i, share in sends[state]:
                    shares[i] += chance * share
                    ahead[state[i]] += chance * share
                    waits += chance * share * (state[i] > 0)
        return {
            "mean_number": numbers_,
            "mean_sojourn": numbers_ / lam,
            "p_wait": waits,
            "p_all_idle": 1 / total,
            "shares": tuple([1 / n] * n if equal else shares),
            "truncation_mass": mass,
            # Chance to find at least k jobs ahead.
            "_ahead": np.cumsum(ahead[::-1])[::-1],
        }


def _fleet(arrival_rate: float, service_rates: Sequence[float], policy: str, truncation: int | None) -> SmallFleet:
    return SmallFleet(arrival_rate=arrival_rate, service_rates=service_rates, policy=policy, truncation=truncation)


def _router(policy: str, rates: tuple[float, ...]) -> Callable[[State], list[tuple[int, float]]]:
    n = len(rates)
    every = list(range(n))

    def among(chosen: Sequence[int]) -> list[tuple[int, float]]:
        return [(i, 1 / len(chosen)) for i in chosen]

    def least(state: State, score: Callable[[int], float], of: Sequence[int] = every) -> list[int]:
        scores = [score(i) for i in of]
        low = min(scores)
        # (q+1)/μ of two servers may be equal in exact arithmetic and differ in the last digit.
        return [i for i, one in zip(of, scores, strict=True) if one <= low * (1 + 1e-12)]

    def pairs(state: State, replace: bool) -> list[tuple[int, float]]:
        drawn = list(itertools.product(every, repeat=2) if replace else itertools.permutations(every, 2))
        shares = [0.0] * n
        for pair in drawn or [(0, 0)]:
            best = sorted(set(least(state, lambda i: state[i], pair)))
            for i in best:
                shares[i] += 1 / (len(drawn) or 1) / len(best)
        return list(enumerate(shares))

    match policy:
        case "random":
            return lambda state: among(every)
        case "weighted_random":
            return lambda state: [(i, mu / sum(rates)) for i, mu in enumerate(rates)]
        case "jsq":
            return lambda state: among(least(state, lambda i: state[i]))
        case "jiq":
            return lambda state: among([i for i in every if state[i] == 0] or every)
        case "p2c":
            return lambda state: pairs(state, False)
        case "p2c_with_replacement":
            return lambda state: pairs(state, True)
        case "weighted_least_plus1":
            return lambda state: among(least(state, lambda i: (state[i] + 1) / rates[i]))
        case "weighted_least":
            return lambda state: among(least(state, lambda i: state[i] / rates[i]))

    def tie_fast(state: State) -> list[tuple[int, float]]:
        tied = least(state, lambda i: state[i] / rates[i])
        best = max(rates[i] for i in tied)
        return among([i for i in tied if rates[i] == best])

    return tie_fast
