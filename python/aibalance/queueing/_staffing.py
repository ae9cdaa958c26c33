"""How many servers: the least that keep a promise, and square-root staffing."""

from __future__ import annotations

import math
from collections.abc import Callable

from .._errors import ConfigError
from .._laws import number, positive, probability
from .._special import normal_cdf
from ._checks import wrong
from ._multi import MAX_SERVERS, MMc


def min_servers(
    arrival_rate: float,
    service_rate: float = 1.0,
    *,
    p_wait: float | None = None,
    mean_wait: float | None = None,
    mean_sojourn: float | None = None,
    wait: tuple[float, float] | None = None,
    sojourn: tuple[float, float] | None = None,
) -> int:
    """The least number of servers of an M/M/c that keeps every promise given.

    Parameters
    ----------
    p_wait : the most chance to wait.
    mean_wait, mean_sojourn : the most mean time in the queue, or from arrival to departure.
    wait, sojourn : (q, t): a share `q` of requests waits, or stays, at most `t`; (0.99, 0.5) bounds the p99.

    ConfigError when nothing is asked, or when no number of servers can do it: a sojourn below the service itself.
    Erlang, 1917.

    >>> min_servers(100.0, p_wait=0.2)
    111
    >>> min_servers(1.0, sojourn=(0.99, 4.7))
    3
    """
    lam = number("arrival_rate", arrival_rate, 0, 1e9)
    mu = positive("service_rate", service_rate)
    tests: list[Callable[[MMc], bool]] = []
    if p_wait is not None:
        most = number("p_wait", p_wait, 0, 1, above=True)
        tests.append(lambda queue: queue.p_wait <= most)
    if mean_wait is not None:
        limit = positive("mean_wait", mean_wait)
        tests.append(lambda queue: queue.mean_wait <= limit)
    if mean_sojourn is not None:
        least = positive("mean_sojourn", mean_sojourn)
        if least <= 1 / mu:
            raise wrong("mean_sojourn", mean_sojourn, f"more than the mean service time, {1 / mu:g}")
        tests.append(lambda queue: queue.mean_sojourn <= least)
    if wait is not None:
        wait_q, wait_t = _promise("wait", wait)
        tests.append(lambda queue: queue.wait_sf(wait_t) <= 1 - wait_q)
    if sojourn is not None:
        stay_q, stay_t = _promise("sojourn", sojourn)
        floor = -math.log1p(-stay_q) / mu
        if stay_t <= floor:
            raise wrong("sojourn", sojourn, f"a time above {floor:g}, that quantile of the service alone")
        tests.append(lambda queue: queue.sojourn_quantile(stay_q) <= stay_t)
    if not tests:
        raise ConfigError("min_servers: give at least one of p_wait, mean_wait, mean_sojourn, wait, sojourn")

    def keeps(c: int) -> bool:
        queue = MMc(arrival_rate=lam, service_rate=mu, servers=c)
        return all(test(queue) for test in tests)

    if lam / mu >= MAX_SERVERS / 2:
        raise wrong("arrival_rate", arrival_rate, f"an offered load below {MAX_SERVERS // 2} Erlang")
    # More servers never wait longer: gallop up from the least stable number, then halve.
    low = math.floor(lam / mu)
    step = 1
    high = low + 1
    while not keeps(high):
        low, high = high, high + step
        step *= 2
        if high > MAX_SERVERS:
            raise ConfigError(f"min_servers: not even {MAX_SERVERS:,} servers keep the promise")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _promise(field: str, value: object) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(field, value, "(q, t): a share of requests and a time")
    return probability(f"{field}[0]", value[0]), number(f"{field}[1]", value[1], 0)


def halfin_whitt(beta: float) -> float:
    """Chance to wait with a + β√a servers for an offered load a that is large: 1/(1 + βΦ(β)/φ(β)).

    `beta` from above 0. Halfin and Whitt, Operations Research 29, 1981.

    >>> round(halfin_whitt(0.506054468989), 9)
    0.5
    """
    beta = number("beta", beta, 0, 1e3, above=True)
    density = math.exp(-0.5 * beta**2) / math.sqrt(2 * math.pi)
    return density / (density + beta * float(normal_cdf(beta)))


def halfin_whitt_beta(p_wait: float) -> float:
    """The β of `halfin_whitt` for a chance to wait, between 0 and 1.

    >>> round(halfin_whitt_beta(0.05), 3)
    1.74
    """
    target = probability("p_wait", p_wait)
    low, high = 0.0, 1.0
    while halfin_whitt(high) > target:
        low, high = high, high * 2
        if high > 38:
            raise wrong("p_wait", p_wait, "at least 1e-300")
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if halfin_whitt(middle) > target else (low, middle)
    return high


def square_root_staffing(offered_load: float, *, p_wait: float) -> int:
    """Servers for an offered load (Erlang) by the square-root rule: a + β√a, rounded up, β from `halfin_whitt_beta`.

    A rule of thumb that is off by a server at most from a dozen Erlang on; `min_servers` is exact.

    >>> square_root_staffing(100.0, p_wait=0.2), min_servers(100.0, p_wait=0.2)
    (111, 111)
    """
    a = number("offered_load", offered_load, 0, 1e9)
    return max(math.ceil(a + halfin_whitt_beta(p_wait) * math.sqrt(a)), 1)
