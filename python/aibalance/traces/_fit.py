"""Which law does a log follow? Maximum likelihood for each candidate, and how well each fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from .._laws import BoundedPareto, Exponential, Gamma, Law, Lognormal, Weibull

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mmpp2:
    """A Markov-modulated Poisson process with two states: see `mmpp`.

    >>> law = Mmpp2(rates_rps=(1.0, 10.0), mean_durations_s=(90.0, 10.0))
    >>> law.mean_rps, [round(float(p), 3) for p in law.gap_sf([0.0, 1.0])]
    (1.9, [1.0, 0.175])
    """

    rates_rps: tuple[float, float]
    mean_durations_s: tuple[float, float]

    @property
    def mean_rps(self) -> float:
        """Requests a second in the long run."""
        (a, b), (s, t) = self.rates_rps, self.mean_durations_s
        return (a * s + b * t) / (s + t)

    def gap_sf(self, x: Any, /) -> Any:
        """Chance that a gap is longer than `x` seconds."""
        (a, b), (s, t) = self.rates_rps, self.mean_durations_s
        start = np.array([a * s, b * t]) / (a * s + b * t)
        return start @ _decay(np.atleast_1d(np.asarray(x, np.float64)), a, b, 1 / s, 1 / t).sum(axis=2).T


@dataclass(frozen=True)
class FittedLaw:
    """One law, fitted.

    `aic` is Akaike's criterion, 2 × parameters − 2 × log-likelihood: the least is best, and a difference above 10 is
    clear. `ks` is the largest distance between the law's distribution and that of the data (Kolmogorov, Smirnov), from
    0 to 1; `ks_limit` what chance alone keeps it below in 95 of 100 samples of a law that was given, 1.36/√n.

    >>> FittedLaw("exponential", Exponential(1.0), -100.0, 1, ks=0.05, ks_limit=0.1).good
    True
    """

    name: str
    law: Law | Mmpp2
    log_likelihood: float
    parameters: int
    ks: float
    ks_limit: float

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return 2 * self.parameters - 2 * self.log_likelihood

    @property
    def good(self) -> bool:
        """Whether the distance is one that chance explains."""
        return self.ks <= self.ks_limit


@dataclass(frozen=True, repr=False)
class Fit:
    """What `fit` found. `arrivals` and `service` are candidates, best AIC first; `service` is empty without durations.

    `gap_correlation` is that of neighbouring gaps: a renewal process has about 0. `used` gaps of `gaps` were looked at;
    `ties` is the share of gaps that were 0 on the log's clock.

    >>> found = fit([0.5 * i for i in range(50)])    # a regular beat
    >>> found.gap_cv, found.arrivals[0].name == "poisson"
    (0.0, False)
    """

    arrivals: tuple[FittedLaw, ...]
    service: tuple[FittedLaw, ...]
    mean_rps: float
    gap_cv: float
    gap_correlation: float
    gaps: int
    used: int
    ties: float

    def __repr__(self) -> str:
        service = f", service {self.service[0].name}" if self.service else ""
        return f"<Fit: arrivals {self.arrivals[0].name}{service}; {self.used:,} gaps>"

    def describe(self) -> str:
        """A table for people."""
        lines = [
            f"{self.gaps:,} gaps, {self.mean_rps:.4g} requests/s, cv {self.gap_cv:.3g}, "
            f"correlation of neighbours {self.gap_correlation:.3g}"
        ]
        if self.used < self.gaps:
            lines.append(f"fitted to the first {self.used:,} gaps")
        if self.ties > 0:
            lines.append(f"{self.ties:.1%} of the gaps are 0 on the log's clock: taken as half of its tick")
        for title, found in (("arrivals", self.arrivals), ("service", self.service)):
            for i, one in enumerate(found):
                verdict = "chance explains it" if one.good else "not explained by chance"
                better = "best" if i == 0 else f"AIC {one.aic - found[0].aic:+.1f}"
                lines.append(f"{title}: {one.name:12} {better:>14}, KS {one.ks:.4f} ({verdict}): {one.law}")
        return "\n".join(lines)


def fit(log: Any, /, *, service: Any = None, most: Any = 20_000) -> Fit:
    """Fit laws of arrivals and of service to a log.

    Parameters
    ----------
    log : a `Trace`, a `Log`, or arrival times in seconds (any origin; sorted here).
    service : how long each request took in seconds, in any order (default: the log's `service_s`, if it has them).
        Zeros are left out.
    most : how many gaps, and times, are looked at, from the first on (default 20,000, at least 10).

    Arrivals: Poisson; renewal with Gamma and with Weibull gaps; MMPP-2, whose likelihood is that of the whole sequence
    of gaps (Fischer and Meier-Hellstern, 1993), searched by Nelder and Mead's simplex from three starts. Service:
    exponential, lognormal, gamma, Pareto (bounded by the least and greatest time; Aban, Meerschaert, Panorska, 2006).
    All by maximum likelihood, compared by AIC; the KS distance says whether even the best is any good. A rate that
    changes over hours looks like bursts to all of them: fit stretches of steady traffic.

    >>> from aibalance.queueing import Gamma
    >>> from aibalance.traces import renewal
    >>> found = fit(renewal(Gamma(mean=0.5, shape=0.5), duration_s=2000.0, seed=1))
    >>> found.arrivals[0].name
    'gamma'
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 10:
        raise ConfigError(f"most: {most!r} is not allowed; expected a whole number, at least 10")
    times = _numbers("log", getattr(log, "arrival_s", log))
    if service is None:
        service = getattr(log, "service_s", None)
    if len(times) < 11:
        raise ConfigError(f"log: {len(times)} requests; expected at least 11 to fit anything")
    gaps = np.diff(np.sort(times))
    total, ties = len(gaps), float((gaps == 0).mean())
    if ties == 1 or not gaps.max() > 0:
        raise ConfigError("log: all requests came at once; expected times that differ")
    span = float(gaps.sum())
    gaps = gaps[:most]
    if not (gaps > 0).any():
        raise ConfigError("log: all requests that were looked at came at once; expected times that differ")
    # A zero is a clock's, and what is far below the mean is rounding: neither may decide the fit.
    gaps = np.maximum(gaps, max(0.5 * float(gaps[gaps > 0].min()), 1e-9 * float(gaps.mean())))
    arrivals = [
        _candidate("poisson", Exponential(float(gaps.mean())), gaps, 1),
        *(_candidate(name, law, gaps, 2) for name, law in (("gamma", gamma_fit(gaps)), ("weibull", weibull_fit(gaps)))),
    ]
    bursts = mmpp2_fit(gaps)
    if bursts is not None:
        arrivals.append(bursts)
    found: list[FittedLaw] = []
    if service is not None:
        work = _numbers("service", service)
        if (work < 0).any():
            raise ConfigError(f"service: {float(work.min())!r} is not allowed; expected times from 0")
        work = work[work > 0][:most]
        if len(work):
            work = np.maximum(work, 1e-9 * float(work.mean()))
        if len(work) < 10:
            raise ConfigError(f"service: {len(work)} times above 0; expected at least 10 to fit anything")
        found.append(_candidate("exponential", Exponential(float(work.mean())), work, 1))
        if work.max() > work.min():
            logs = np.log(work)
            sigma = min(max(float(logs.std()), 1e-6), 10.0)
            mean = math.exp(float(logs.mean()) + sigma**2 / 2)
            found.append(_candidate("lognormal", Lognormal(mean, sigma), work, 2))
            found.append(_candidate("gamma", gamma_fit(work), work, 2))
            found.append(_candidate("pareto", pareto_fit(work), work, 3))
    spread = float(gaps[1:].std() * gaps[:-1].std())
    beside = float(np.mean((gaps[1:] - gaps[1:].mean()) * (gaps[:-1] - gaps[:-1].mean())))
    correlation = beside / spread if spread > 0 else 0.0
    return Fit(
        tuple(sorted(arrivals, key=lambda one: one.aic)),
        tuple(sorted(found, key=lambda one: one.aic)),
        total / span,
        float(gaps.std() / gaps.mean()),
        correlation,
        total,
        len(gaps),
        ties,
    )


def _numbers(field: str, values: Any) -> Array:
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{field}: expected numbers, one a request") from None
    if found.ndim != 1 or not (np.abs(found) <= 1e12).all():
        raise ConfigError(f"{field}: expected seconds, at most 1e12, in one dimension")
    return found


def _candidate(name: str, law: Law, data: Array, parameters: int) -> FittedLaw:
    with np.errstate(divide="ignore"):
        likelihood = float(np.log(np.maximum(np.asarray(law.pdf(data)), 1e-300)).sum())
    return FittedLaw(name, law, likelihood, parameters, _ks(law.sf, data), 1.36 / math.sqrt(len(data)))


def _ks(sf: Callable[[Any], Any], data: Array) -> float:
    x = np.sort(data)
    n = len(x)
    theory = 1 - np.asarray(sf(x))
    return float(max((np.arange(1, n + 1) / n - theory).max(), (theory - np.arange(n) / n).max()))


def gamma_fit(data: Array) -> Gamma:
    """By Newton's method on 1/shape, from Minka's start (2002)."""
    mean = float(data.mean())
    s = max(math.log(mean) - float(np.log(data).mean()), 1e-9)
    k = (3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(50):
        step = (math.log(k) - _digamma(k) - s) / (k * k * (1 / k - _trigamma(k)))
        new = 1 / (1 / k + step)
        if not 0 < new < 1e6 or abs(new - k) < 1e-12 * k:
            break
        k = new
    return Gamma(mean, min(max(k, 1e-6), 1e5))


def _digamma(x: float) -> float:
    out = 0.0
    while x < 8:
        out -= 1 / x
        x += 1
    y = 1 / (x * x)
    return out + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))


def _trigamma(x: float) -> float:
    out = 0.0
    while x < 8:
        out += 1 / (x * x)
        x += 1
    y = 1 / (x * x)
    return out + 1 / x + y / 2 + y / x * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y / 30)))


def weibull_fit(data: Array) -> Weibull:
    """The shape by bisection of the likelihood's derivative, which rises; then the scale."""
    logs = np.log(data) - float(np.log(data).max())
    middle = float(logs.mean())

    def slope(k: float) -> float:
        w = np.exp(k * logs)
        return float((w * logs).sum() / w.sum()) - 1 / k - middle

    low, high = 0.02, 1e4
    for _ in range(100):
        k = math.sqrt(low * high)
        low, high = (low, k) if slope(k) > 0 else (k, high)
    scale = float(np.mean(np.exp(k * logs))) ** (1 / k) * float(data.max())
    return Weibull(scale * math.gamma(1 + 1 / k), k)


def pareto_fit(data: Array) -> BoundedPareto:
    """The exponent by bisection of the likelihood's derivative, which falls."""
    low, high = float(data.min()), float(data.max())
    ratio = math.log(high / low)
    mean = float(np.log(data / low).mean())

    def slope(a: float) -> float:
        return 1 / a - ratio / math.expm1(a * ratio) - mean if a * ratio < 700 else 1 / a - mean

    left, right = 1e-3, 1e3
    for _ in range(100):
        a = math.sqrt(left * right)
        left, right = (a, right) if slope(a) > 0 else (left, a)
    return BoundedPareto(alpha=a, low=low, high=high)


def mmpp2_fit(gaps: Array) -> FittedLaw | None:
    """The likelihood of the whole sequence, searched on the logarithms of two rates and two ends of states."""
    mean = float(gaps.mean())
    rate = 1 / mean

    def minus(p: Array) -> float:
        if (np.abs(p - math.log(rate)) > 16).any():
            return 1e300
        a, b, q, r = np.exp(p).tolist()
        return -_mmpp2_likelihood(gaps, a, b, q, r)

    best: tuple[float, Array] | None = None
    for quick, slow, stay in ((3.0, 0.3, 20.0), (10.0, 0.5, 5.0), (1.5, 0.7, 200.0)):
        start = np.log(np.array([quick * rate, slow * rate, rate / stay, rate / stay]))
        found = _simplex(minus, start)
        if best is None or found[0] < best[0]:
            best = found
    if best is None or not math.isfinite(best[0]) or best[0] >= 1e299:
        return None
    a, b, q, r = np.exp(best[1]).tolist()
    if a > b:
        a, b, q, r = b, a, r, q
    law = Mmpp2((a, b), (1 / q, 1 / r))
    return FittedLaw("mmpp2", law, -best[0], 4, _ks(law.gap_sf, gaps), 1.36 / math.sqrt(len(gaps)))


def _decay(x: Array, a: float, b: float, q: float, r: float) -> Array:
    """exp((Q − Λ) x) for each gap: 2 × 2, in closed form."""
    p, s = -(a + q), -(b + r)
    half, root = 0.5 * (p + s), math.sqrt(max(0.25 * (p - s) ** 2 + q * r, 1e-300))
    up, down = np.exp((half + root) * x), np.exp((half - root) * x)
    even, odd = 0.5 * (up + down), 0.5 * (up - down) / root
    out = np.empty((len(x), 2, 2))
    out[:, 0, 0] = even + odd * (p - half)
    out[:, 1, 1] = even + odd * (s - half)
    out[:, 0, 1] = odd * q
    out[:, 1, 0] = odd * r
    return out


def _mmpp2_likelihood(gaps: Array, a: float, b: float, q: float, r: float) -> float:
    product = _decay(gaps, a, b, q, r) * np.array([a, b])
    product = np.maximum(product, 0.0)
    total = 0.0
    # A product of many small matrices, in pairs, so that numpy does the work; scaled against underflow.
    while True:
        size = product.max(axis=(1, 2))
        if not (size > 0).all():
            return -1e300
        total += float(np.log(size).sum())
        product = product / size[:, None, None]
        if len(product) == 1:
            break
        last = product[-1:] if len(product) % 2 else None
        product = product[: len(product) // 2 * 2]
        product = product[0::2] @ product[1::2]
        if last is not None:
            product = np.concatenate((product, last))
    start = np.array([a * r, b * q]) / (a * r + b * q)
    return total + math.log(max(float((start @ product[0]).sum()), 1e-300))


def _simplex(f: Callable[[Array], float], start: Array, most: int = 400) -> tuple[float, Array]:
    """The least value near `start`: Nelder and Mead, The Computer Journal 7, 1965."""
    n = len(start)
    points = [start, *(start + 0.7 * np.eye(n)[i] for i in range(n))]
    found = [(f(p), i, p) for i, p in enumerate(points)]
    for step in range(most):
        found.sort(key=lambda one: one[:2])
        if found[-1][0] - found[0][0] < 1e-4:
            break
        middle = np.mean([p for _, _, p in found[:-1]], axis=0)
        worst = found[-1]

        def at(by: float, middle: Array = middle, worst: Array = worst[2], age: int = step) -> tuple[float, int, Array]:
            p = middle + by * (worst - middle)
            return f(p), age + n + 1, p

        reflected = at(-1.0)
        if reflected[0] < found[0][0]:
            expanded = at(-2.0)
            found[-1] = expanded if expanded[0] < reflected[0] else reflected
        elif reflected[0] < found[-2][0]:
            found[-1] = reflected
        else:
            inside = at(-0.5) if reflected[0] < worst[0] else at(0.5)
            if inside[0] < min(worst[0], reflected[0]):
                found[-1] = inside
            else:
                best = found[0][2]
                found = [found[0], *((f(p), i, p) for i, p in ((i, best + 0.5 * (p - best)) for _, i, p in found[1:]))]
    best_of = min(found, key=lambda one: one[:2])
    return best_of[0], best_of[2]
