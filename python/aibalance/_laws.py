"""Laws of service times, latencies and gaps between arrivals; public as `aibalance.queueing.Exponential` and so on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ._errors import ConfigError
from ._special import Array, gamma_p, gamma_q, normal_cdf, normal_quantile

_MOST = 1e12


def number(field: str, value: Any, low: float, high: float = _MOST, *, above: bool = False) -> float:
    """A finite float within `low` to `high`; with `above`, `low` itself is not allowed."""
    allowed = f"a number, {'more than' if above else 'at least'} {low:g} and at most {high:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{field}: {value!r} is not allowed; expected {allowed}")
    found = float(value)
    if not low <= found <= high or (above and found == low):
        raise ConfigError(f"{field}: {value!r} is not allowed; expected {allowed}")
    return found


def positive(field: str, value: Any) -> float:
    """A rate, a time or a count above 0: from 1e-12 to 1e12, so that products and ratios stay numbers."""
    return number(field, value, 1e-12)


def probability(field: str, value: Any) -> float:
    """A chance strictly between 0 and 1."""
    found = number(field, value, 0, 1, above=True)
    if found == 1:
        raise ConfigError(f"{field}: {value!r} is not allowed; expected a number, more than 0 and less than 1")
    return found


class Law:
    """A law of non-negative times. All methods take a number or an array and answer in kind.

    `mean`, `second_moment` and `third_moment` are in the unit of time and its powers (`math.inf` where there is none);
    `cv` is standard deviation / mean and `scv` its square.

    >>> law: Law = Exponential(2.0)
    >>> float(law.cdf(0.0)), law.second_moment
    (0.0, 8.0)
    """

    mean: float

    @property
    def second_moment(self) -> float:
        """E[S²]."""
        return self.moment(2)

    @property
    def third_moment(self) -> float:
        """E[S³]."""
        return self.moment(3)

    @property
    def variance(self) -> float:
        """E[S²] − E[S]²."""
        return max(self.second_moment - self.mean**2, 0.0)

    @property
    def scv(self) -> float:
        """Squared coefficient of variation: variance / mean²."""
        return self.variance / self.mean**2

    @property
    def cv(self) -> float:
        """Coefficient of variation: standard deviation / mean."""
        return math.sqrt(self.scv)

    def moment(self, k: int, /) -> float:
        """E[S^k], k = 1, 2, 3, …"""
        raise NotImplementedError

    def sf(self, x: Any, /) -> Any:
        """P(S > x)."""
        raise NotImplementedError

    def cdf(self, x: Any, /) -> Any:
        """P(S ≤ x)."""
        return 1 - self.sf(x)

    def pdf(self, x: Any, /) -> Any:
        """The density."""
        raise NotImplementedError

    def partial_mean(self, x: Any, /) -> Any:
        """E[S; S ≤ x]."""
        raise NotImplementedError

    def quantile(self, q: float, /) -> float:
        """The x with P(S ≤ x) = q, 0 < q < 1."""
        q = probability("q", q)
        return invert(lambda t: float(self.sf(t)), q, self.mean)

    def excess_cdf(self, x: Any, /) -> Any:
        """P(remaining time ≤ x) of a time that is seen at random: (1/mean) ∫₀ˣ P(S > t) dt."""
        x = np.asarray(x, np.float64)
        return np.clip((x * self.sf(x) + self.partial_mean(x)) / self.mean, 0.0, 1.0)

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        """`size` independent draws."""
        raise NotImplementedError

    def service(self) -> tuple[str, dict[str, Any]]:
        """Kind and parameters of `aibalance.simulation.Service`; ConfigError where the simulator has no such law.

        >>> Lognormal(mean=2.0, sigma=1.0).service()
        ('lognormal', {'mean_s': 2.0, 'sigma': 1.0})
        """
        raise ConfigError(f"{type(self).__name__}: the simulator has no such service law")


def invert(sf: Any, q: float, scale: float) -> float:
    """The least t ≥ 0 with sf(t) ≤ 1 − q, for a survival function that never rises."""
    target = 1 - q
    if sf(0.0) <= target:
        return 0.0
    high = scale if scale > 0 else 1.0
    low = 0.0
    while sf(high) > target:
        low, high = high, high * 2
        if high > 1e300:
            raise ConfigError(f"q: {q!r} is not allowed; the quantile lies beyond 1e300")
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            break
        if sf(middle) > target:
            low = middle
        else:
            high = middle
    return high


def _array(x: Any) -> Array:
    return np.asarray(x, np.float64)


@dataclass(frozen=True)
class Deterministic(Law):
    """Always `value`.

    >>> Deterministic(2.0).scv
    0.0
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", positive("value", self.value))

    @property
    def mean(self) -> float:  # type: ignore[override]
        return self.value

    def moment(self, k: int, /) -> float:
        return self.value**k

    def sf(self, x: Any, /) -> Any:
        return np.where(_array(x) < self.value, 1.0, 0.0)

    def partial_mean(self, x: Any, /) -> Any:
        return np.where(_array(x) < self.value, 0.0, self.value)

    def quantile(self, q: float, /) -> float:
        probability("q", q)
        return self.value

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return np.full(size, self.value)

    def service(self) -> tuple[str, dict[str, Any]]:
        return "deterministic", {"value_s": self.value}


@dataclass(frozen=True)
class Exponential(Law):
    """Memoryless, with `mean`.

    >>> round(Exponential(1.0).quantile(0.99), 4)
    4.6052
    """

    mean: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", positive("mean", self.mean))

    def moment(self, k: int, /) -> float:
        return math.factorial(k) * self.mean**k

    def sf(self, x: Any, /) -> Any:
        return np.exp(-np.maximum(_array(x), 0) / self.mean)

    def cdf(self, x: Any, /) -> Any:
        return -np.expm1(-np.maximum(_array(x), 0) / self.mean)

    def pdf(self, x: Any, /) -> Any:
        return np.exp(-_array(x) / self.mean) / self.mean

    def partial_mean(self, x: Any, /) -> Any:
        z = np.maximum(_array(x), 0) / self.mean
        return self.mean * (-np.expm1(-z) - z * np.exp(-z))

    def quantile(self, q: float, /) -> float:
        return -self.mean * math.log1p(-probability("q", q))

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return rng.exponential(self.mean, size)

    def service(self) -> tuple[str, dict[str, Any]]:
        return "exponential", {"mean_s": self.mean}


@dataclass(frozen=True)
class Uniform(Law):
    """Uniform between `low` and `high`.

    >>> Uniform(0.0, 2.0).mean
    1.0
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", number("low", self.low, 0))
        object.__setattr__(self, "high", number("high", self.high, self.low, above=True))

    @property
    def mean(self) -> float:  # type: ignore[override]
        return 0.5 * (self.low + self.high)

    def moment(self, k: int, /) -> float:
        return float((self.high ** (k + 1) - self.low ** (k + 1)) / ((k + 1) * (self.high - self.low)))

    def sf(self, x: Any, /) -> Any:
        return np.clip((self.high - _array(x)) / (self.high - self.low), 0.0, 1.0)

    def pdf(self, x: Any, /) -> Any:
        x = _array(x)
        return np.where((x >= self.low) & (x <= self.high), 1 / (self.high - self.low), 0.0)

    def partial_mean(self, x: Any, /) -> Any:
        x = np.clip(_array(x), self.low, self.high)
        return (x**2 - self.low**2) / (2 * (self.high - self.low))

    def quantile(self, q: float, /) -> float:
        return self.low + probability("q", q) * (self.high - self.low)

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return rng.uniform(self.low, self.high, size)

    def service(self) -> tuple[str, dict[str, Any]]:
        return "uniform", {"low_s": self.low, "high_s": self.high}


@dataclass(frozen=True)
class Lognormal(Law):
    """`mean`, and `sigma`, the standard deviation of the logarithm.

    >>> round(Lognormal(mean=1.0, sigma=1.0).scv, 4)
    1.7183
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", positive("mean", self.mean))
        object.__setattr__(self, "sigma", number("sigma", self.sigma, 0, 10, above=True))

    @property
    def mu(self) -> float:
        """The mean of the logarithm."""
        return math.log(self.mean) - 0.5 * self.sigma**2

    def moment(self, k: int, /) -> float:
        return float(math.exp(k * self.mu + 0.5 * (k * self.sigma) ** 2))

    def _z(self, x: Any) -> Array:
        with np.errstate(divide="ignore"):
            return np.asarray((np.log(np.maximum(_array(x), 0.0)) - self.mu) / self.sigma)

    def sf(self, x: Any, /) -> Any:
        return normal_cdf(-self._z(x))

    def cdf(self, x: Any, /) -> Any:
        return normal_cdf(self._z(x))

    def pdf(self, x: Any, /) -> Any:
        x = _array(x)
        return np.exp(-0.5 * self._z(x) ** 2) / (x * self.sigma * math.sqrt(2 * math.pi))

    def partial_mean(self, x: Any, /) -> Any:
        return self.mean * normal_cdf(self._z(x) - self.sigma)

    def quantile(self, q: float, /) -> float:
        return math.exp(self.mu + self.sigma * normal_quantile(probability("q", q)))

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return rng.lognormal(self.mu, self.sigma, size)

    def service(self) -> tuple[str, dict[str, Any]]:
        return "lognormal", {"mean_s": self.mean, "sigma": self.sigma}


@dataclass(frozen=True)
class Gamma(Law):
    """`mean` and `shape`; a whole shape is Erlang's law. Squared coefficient of variation 1/shape.

    >>> Gamma(mean=1.0, shape=4).scv
    0.25
    """

    mean: float
    shape: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", positive("mean", self.mean))
        object.__setattr__(self, "shape", number("shape", self.shape, 1e-6, 1e5))

    @property
    def scale(self) -> float:
        """mean / shape."""
        return self.mean / self.shape

    def moment(self, k: int, /) -> float:
        return float(math.prod(self.shape + i for i in range(k)) * self.scale**k)

    def sf(self, x: Any, /) -> Any:
        return gamma_q(self.shape, np.maximum(_array(x), 0) / self.scale)

    def cdf(self, x: Any, /) -> Any:
        return gamma_p(self.shape, np.maximum(_array(x), 0) / self.scale)

    def pdf(self, x: Any, /) -> Any:
        z = _array(x) / self.scale
        return np.exp((self.shape - 1) * np.log(z) - z - math.lgamma(self.shape)) / self.scale

    def partial_mean(self, x: Any, /) -> Any:
        return self.mean * gamma_p(self.shape + 1, np.maximum(_array(x), 0) / self.scale)

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return rng.gamma(self.shape, self.scale, size)

    def service(self) -> tuple[str, dict[str, Any]]:
        return "gamma", {"mean_s": self.mean, "shape": self.shape}


@dataclass(frozen=True)
class Weibull(Law):
    """`mean` and `shape`; below 1 bursts and heavy tails, 1 is exponential.

    >>> round(Weibull(mean=1.0, shape=0.5).second_moment, 9)
    6.0
    """

    mean: float
    shape: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", positive("mean", self.mean))
        object.__setattr__(self, "shape", number("shape", self.shape, 0.02, 1e4))

    @property
    def scale(self) -> float:
        """mean / Γ(1 + 1/shape)."""
        return self.mean / math.gamma(1 + 1 / self.shape)

    def moment(self, k: int, /) -> float:
        try:
            return float(self.scale**k * math.gamma(1 + k / self.shape))
        except OverflowError:
            return math.inf

    def _z(self, x: Any) -> Array:
        with np.errstate(over="ignore"):
            return np.asarray((np.maximum(_array(x), 0) / self.scale) ** self.shape)

    def sf(self, x: Any, /) -> Any:
        return np.exp(-self._z(x))

    def cdf(self, x: Any, /) -> Any:
        return -np.expm1(-self._z(x))

    def pdf(self, x: Any, /) -> Any:
        x = _array(x)
        return self.shape / x * self._z(x) * np.exp(-self._z(x))

    def partial_mean(self, x: Any, /) -> Any:
        return self.mean * gamma_p(1 + 1 / self.shape, self._z(x))

    def quantile(self, q: float, /) -> float:
        return float(self.scale * (-math.log1p(-probability("q", q))) ** (1 / self.shape))

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return self.scale * rng.weibull(self.shape, size)


@dataclass(frozen=True)
class HyperExponential(Law):
    """One of several exponentials: `chances` that add up to 1, and the `means` of each.

    >>> HyperExponential([0.5, 0.5], [0.5, 1.5]).mean
    1.0
    """

    chances: Sequence[float]
    means: Sequence[float]

    def __post_init__(self) -> None:
        p = tuple(number(f"chances[{i}]", one, 0, 1) for i, one in enumerate(_list("chances", self.chances)))
        m = tuple(positive(f"means[{i}]", one) for i, one in enumerate(_list("means", self.means)))
        if len(p) != len(m) or not math.isclose(sum(p), 1, abs_tol=1e-9):
            raise ConfigError(f"chances: {p!r} is not allowed; expected as many as means, that add up to 1")
        object.__setattr__(self, "chances", p)
        object.__setattr__(self, "means", m)

    @staticmethod
    def balanced(mean: float, scv: float) -> HyperExponential:
        """Two phases that bring half of the work each, with this squared coefficient of variation (at least 1).

        >>> round(HyperExponential.balanced(1.0, 4.0).scv, 9)
        4.0
        """
        mean, scv = positive("mean", mean), number("scv", scv, 1)
        p = 0.5 * (1 + math.sqrt((scv - 1) / (scv + 1)))
        return HyperExponential([p, 1 - p], [mean / (2 * p), mean / (2 * (1 - p))])

    @property
    def mean(self) -> float:  # type: ignore[override]
        return self.moment(1)

    def _mix(self, of: Any) -> Any:
        return sum(p * of(Exponential(m)) for p, m in zip(self.chances, self.means, strict=True))

    def moment(self, k: int, /) -> float:
        return float(self._mix(lambda law: law.moment(k)))

    def sf(self, x: Any, /) -> Any:
        return self._mix(lambda law: law.sf(x))

    def pdf(self, x: Any, /) -> Any:
        return self._mix(lambda law: law.pdf(x))

    def partial_mean(self, x: Any, /) -> Any:
        return self._mix(lambda law: law.partial_mean(x))

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return rng.exponential(np.asarray(self.means)[rng.choice(len(self.means), size, p=self.chances)])

    def service(self) -> tuple[str, dict[str, Any]]:
        return "hyperexponential", {"p": list(self.chances), "means_s": list(self.means)}


@dataclass(frozen=True)
class BoundedPareto(Law):
    """P(S > x) falls as x^−`alpha` from `low` and is cut at `high`.

    >>> law = BoundedPareto(alpha=1.5, low=1.0, high=1000.0)
    >>> 2.9 < law.mean < 3.0
    True
    """

    alpha: float
    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", number("alpha", self.alpha, 1e-3, 1e3))
        object.__setattr__(self, "low", positive("low", self.low))
        object.__setattr__(self, "high", number("high", self.high, self.low, above=True))

    @property
    def mean(self) -> float:  # type: ignore[override]
        return self.moment(1)

    def _cut(self) -> float:
        return -math.expm1(self.alpha * math.log(self.low / self.high))

    def moment(self, k: int, /) -> float:
        return float(self._partial(k, _array(self.high)))

    def _partial(self, k: int, x: Array) -> Array:
        """E[S^k; S ≤ x] for low ≤ x ≤ high."""
        a = self.alpha
        ratio = np.log(x / self.low)
        grow = ratio if math.isclose(a, k, rel_tol=1e-12) else np.expm1((k - a) * ratio) / (k - a)
        return np.asarray(a * self.low**k * grow / self._cut())

    def sf(self, x: Any, /) -> Any:
        x = np.clip(_array(x), self.low, self.high)
        return np.clip(((self.low / x) ** self.alpha - (self.low / self.high) ** self.alpha) / self._cut(), 0.0, 1.0)

    def pdf(self, x: Any, /) -> Any:
        x = _array(x)
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, self.alpha / x * (self.low / x) ** self.alpha / self._cut(), 0.0)

    def partial_mean(self, x: Any, /) -> Any:
        x = _array(x)
        return np.where(x < self.low, 0.0, self._partial(1, np.clip(x, self.low, self.high)))

    def quantile(self, q: float, /) -> float:
        return float(self.low * (1 - probability("q", q) * self._cut()) ** (-1 / self.alpha))

    def sample(self, rng: np.random.Generator, size: int, /) -> Array:
        return np.asarray(self.low * (1 - rng.random(size) * self._cut()) ** (-1 / self.alpha))

    def service(self) -> tuple[str, dict[str, Any]]:
        return "bounded_pareto", {"alpha": self.alpha, "low_s": self.low, "high_s": self.high}


def _list(field: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise ConfigError(f"{field}: {values!r} is not allowed; expected a list of at least one number")
    found = list(values)
    if not found:
        raise ConfigError(f"{field}: {found!r} is not allowed; expected a list of at least one number")
    return found
