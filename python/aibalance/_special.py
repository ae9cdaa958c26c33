"""Special functions that numpy lacks: the normal law and the incomplete gamma function, over arrays."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NORMAL = NormalDist()
_ERFC = np.frompyfunc(math.erfc, 1, 1)
_LGAMMA = np.frompyfunc(math.lgamma, 1, 1)


def lgamma(x: Any) -> Any:
    """The logarithm of the gamma function, elementwise."""
    return np.asarray(_LGAMMA(np.asarray(x, np.float64)), np.float64)


def normal_cdf(z: Any) -> Any:
    """Φ(z), elementwise, accurate in both tails."""
    return 0.5 * np.asarray(_ERFC(-np.asarray(z, np.float64) / math.sqrt(2)), np.float64)


def normal_quantile(p: float) -> float:
    """The z with Φ(z) = p, 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def gamma_p(a: float, x: Any) -> Any:
    """P(a, x), the regularised lower incomplete gamma function, elementwise for x ≥ 0."""
    return _gamma_pq(a, x)[0]


def gamma_q(a: float, x: Any) -> Any:
    """Q(a, x) = 1 − P(a, x), without cancellation in the upper tail."""
    return _gamma_pq(a, x)[1]


def _gamma_pq(a: float, x: Any) -> tuple[Array, Array]:
    # The series below a + 1, Lentz's continued fraction above: Numerical Recipes, 3rd ed., section 6.2.
    given = np.asarray(x, np.float64)
    flat = np.atleast_1d(given).ravel()
    p = np.zeros_like(flat)
    q = np.ones_like(flat)
    low = (flat > 0) & (flat < a + 1)
    high = flat >= a + 1
    if low.any():
        v = flat[low]
        term = np.full_like(v, 1.0 / a)
        total = term.copy()
        n = a
        for _ in range(20_000):
            n += 1
            term *= v / n
            total += term
            if (term <= total * 5e-17).all():
                break
        p[low] = np.minimum(total * _front(a, v), 1.0)
        q[low] = 1 - p[low]
    if high.any():
        v = np.minimum(flat[high], 1e300)
        b = v + 1 - a
        c = np.full_like(v, 1e300)
        d = 1 / b
        h = d.copy()
        for i in range(1, 20_000):
            an = -i * (i - a)
            b = b + 2
            d = an * d + b
            d = np.where(np.abs(d) < 1e-300, 1e-300, d)
            c = b + an / c
            c = np.where(np.abs(c) < 1e-300, 1e-300, c)
            d = 1 / d
            step = d * c
            h = h * step
            if (np.abs(step - 1) < 5e-16).all():
                break
        q[high] = np.clip(_front(a, v) * h, 0.0, 1.0)
        p[high] = 1 - q[high]
    return p.reshape(given.shape), q.reshape(given.shape)


def _front(a: float, x: Array) -> Array:
    """x^a e^-x / Γ(a); for large a by Loader's saddle point, so that no digits are lost."""
    if a < 10:
        return np.asarray(np.exp(a * np.log(x) - x - math.lgamma(a)))
    return np.asarray(a * poisson_pmf(a, x))


def stirling_error(n: Any) -> Any:
    """ln Γ(n+1) − (n + ½) ln n + n − ½ ln 2π, elementwise for n > 0 (Loader 2000)."""
    n = np.asarray(n, np.float64)
    small = n < 16
    safe = np.where(small, n, 1.0)
    near = lgamma(safe + 1) - (safe + 0.5) * np.log(safe) + safe - 0.5 * math.log(2 * math.pi)
    m = np.where(small, 16.0, n)
    s = m * m
    far = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - (1 / 1188) / s) / s) / s) / s) / m
    return np.where(small, near, far)


def poisson_pmf(n: Any, mean: Any) -> Any:
    """e^-mean · mean^n / Γ(n+1), elementwise, also for n that is not whole; full precision for any size.

    Loader, Fast and accurate computation of binomial probabilities (2000).
    """
    n = np.asarray(n, np.float64)
    mean = np.asarray(mean, np.float64)
    n, mean = np.broadcast_arrays(n, mean)
    zero = n <= 0
    x = np.where(zero, 1.0, n)
    m = np.where(mean <= 0, 1.0, mean)
    out = np.exp(-stirling_error(x) - _deviance(x, m)) / np.sqrt(2 * math.pi * x)
    out = np.where(zero, np.exp(-m), out)
    return np.where(mean <= 0, np.where(zero, 1.0, 0.0), out)


def _deviance(x: Array, m: Array) -> Array:
    """x ln(x/m) + m − x without cancellation near x = m."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        plain = x * np.log(x / m) + m - x
    near = np.abs(x - m) < 0.1 * (x + m)
    if not np.any(near):
        return np.asarray(plain)
    v = (x - m) / (x + m)
    v = np.where(near, v, 0.0)
    # x ln(x/m) = 2x artanh v, and 2xv + m − x = (x − m) v.
    total = (x - m) * v
    term = 2 * x * v
    for j in range(1, 40):
        term = term * v * v
        total = total + term / (2 * j + 1)
    return np.where(near, total, plain)


def poisson_tail(k: int, mean: float) -> float:
    """P(Poisson(mean) ≥ k), accurate also where it is tiny."""
    return 1.0 if k <= 0 else float(gamma_p(float(k), mean)) if mean > 0 else 0.0
