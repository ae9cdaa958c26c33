"""Arrival times drawn with a seed: renewal processes, Markov-modulated Poisson, rates that change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._errors import ConfigError
from ._laws import Law
from ._special import Array

MOST = 200_000_000
"""More arrivals than this in one call is taken for a mistake."""


def expect(count: float) -> None:
    """ConfigError when this many arrivals would be too many."""
    if not count <= MOST:
        raise ConfigError(f"duration_s: about {count:.0f} requests; expected at most {MOST:,}")


def renewal(rng: np.random.Generator, law: Law, duration_s: float) -> Array:
    """Arrivals below `duration_s` with independent gaps; the first after one gap."""
    expect(duration_s / law.mean)
    parts: list[Array] = []
    at = 0.0
    while at < duration_s:
        left = (duration_s - at) / law.mean
        gaps = law.sample(rng, int(left + 4 * math.sqrt(left) + 16))
        times = at + np.cumsum(gaps)
        parts.append(times)
        at = float(times[-1])
        if len(parts) > 100_000:
            raise ConfigError(f"law: {law!r} gives gaps that are almost all 0; expected ones that let time pass")
    times = np.concatenate(parts)
    return times[: int(np.searchsorted(times, duration_s))]


def mmpp(
    rng: np.random.Generator, rates: Sequence[float], mean_durations_s: Sequence[float], duration_s: float
) -> Array:
    """Poisson arrivals whose rate is that of a state; states last exponentially and change at random."""
    n = len(rates)
    weights = np.asarray(mean_durations_s) / sum(mean_durations_s)
    expect(float(np.dot(weights, rates)) * duration_s)
    expect(duration_s / float(np.mean(mean_durations_s)))
    state = int(rng.choice(n, p=weights))
    starts, states = [0.0], [state]
    at = 0.0
    while True:
        at += rng.exponential(mean_durations_s[state])
        if at >= duration_s:
            break
        state = int((state + rng.integers(1, n)) % n) if n > 1 else state
        starts.append(at)
        states.append(state)
    begin = np.asarray(starts)
    length = np.diff(np.append(begin, duration_s))
    counts = rng.poisson(np.asarray(rates, np.float64)[states] * length)
    expect(float(counts.sum()))
    return np.sort(np.repeat(begin, counts) + rng.random(int(counts.sum())) * np.repeat(length, counts))


def diurnal_points(
    mean_rps: float, amplitude: float, period_s: float, peak_s: float, duration_s: float, pieces: int = 96
) -> list[tuple[float, float]]:
    """A sine of the rate, as points of straight lines; `pieces` a period, which is right to 0.06 % of the amplitude."""
    count = math.ceil(duration_s / period_s * pieces) + 1
    at = np.arange(count + 1) * (period_s / pieces)
    rate = mean_rps * (1 + amplitude * np.cos(2 * math.pi * (at - peak_s) / period_s))
    return list(zip(at.tolist(), np.maximum(rate, 0.0).tolist(), strict=True))
