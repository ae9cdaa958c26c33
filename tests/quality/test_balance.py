"""How evenly picks fall. Seeded, so a failure is a change and not bad luck; the bounds say how unlikely one would be
by chance alone if the seeds were drawn anew."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from aibalance import Endpoint, LeastRequest, Maglev, PeakEwma, Pool, RingHash


def fill(picker: Any, n: int) -> int:
    """The most on one of n endpoints after n requests that stay."""
    held = [picker.acquire() for _ in range(n)]
    assert len(held) == n
    return max(record.inflight for record in picker.pool.stats())


@pytest.mark.parametrize("seed", range(5))
def test_two_choices_are_far_below_random(seed: int) -> None:
    n = 10_000
    addresses = [str(i) for i in range(n)]
    random = fill(LeastRequest(Pool(addresses, seed=seed), choices=1), n)
    two = fill(LeastRequest(Pool(addresses, seed=seed)), n)
    # n balls in n bins: ln n / ln ln n (1 + o(1)), 6 to 8 in practice, below 5 with chance e^-30; with two choices
    # log2 ln n + O(1): above 4 with chance below 1e-6 (Azar et al. 1994, the layers at n = 10^4).
    assert random >= 5
    assert two <= 4


@pytest.mark.parametrize("seed", range(3))
def test_two_choices_stay_flat_when_much_is_in_flight(seed: int) -> None:
    pool = Pool([str(i) for i in range(100)], seed=seed)
    held = [LeastRequest(pool).acquire() for _ in range(100)]
    picker = LeastRequest(pool)
    held += [picker.acquire() for _ in range(50_000)]
    loads = [record.inflight for record in pool.stats()]
    # The gap over the mean does not grow with the number of balls (Berenbrink et al. 2000): log2 ln 100 + O(1).
    assert max(loads) - 501 <= 5
    assert len(held) == 50_100


def z_scores(counts: Counter[str], weights: dict[str, float]) -> list[float]:
    n, total = sum(counts.values()), sum(weights.values())
    return [
        (counts[name] - n * w / total) / math.sqrt(n * (w / total) * (1 - w / total)) for name, w in weights.items()
    ]


@pytest.mark.parametrize("seed", range(5))
def test_weighted_shares(seed: int) -> None:
    weights = {str(i): w for i, w in enumerate([1, 2, 3, 0.5, 10, 0.001, 7, 1])}
    pool = Pool([Endpoint(name, weight=w) for name, w in weights.items()], seed=seed)
    picks = LeastRequest(pool, choices=1).pick_many(200_000)
    counts = Counter(np.asarray(picks.indices).astype(str).tolist())
    scores = dict(zip(weights, z_scores(counts, weights), strict=True))
    # The rarest has 8 picks expected: no normal distribution.
    rarest = scores.pop("5")
    # 35 scores beyond 4.5 standard errors: 35 * 7e-6 = 2e-4 by chance.
    assert max(map(abs, scores.values())) < 4.5
    assert abs(rarest) < 6


@pytest.mark.parametrize("picker", [LeastRequest, PeakEwma])
def test_idle_equals_share_equally(picker: Any) -> None:
    names = [str(i) for i in range(16)]
    picks = picker(Pool(names, seed=11)).pick_many(160_000)
    counts = Counter(np.asarray(picks.indices).astype(str).tolist())
    # 16 scores beyond 4.5 standard errors: 1e-4 by chance.
    assert max(map(abs, z_scores(counts, dict.fromkeys(names, 1.0)))) < 4.5


def shares(picker: Any, n: int, keys: int) -> np.ndarray:
    hashes = np.random.default_rng(1).integers(0, 2**64, size=keys, dtype=np.uint64)
    counts = np.bincount(picker.pick_many(hashes, hashed=True).indices, minlength=n)
    return counts / counts.mean()


def test_the_default_ring_is_even_enough() -> None:
    addresses = [f"10.0.{i // 250}.{i % 250}:8080" for i in range(100)]
    # 1024 points each: the share of one has a standard deviation of 1/sqrt(1024) = 3.1 %; the largest of 100 is about
    # 2.5 of them above, 1.08. 4 million keys add 0.5 %.
    relative = shares(RingHash(addresses), 100, 4_000_000)
    assert relative.max() <= 1.15
    assert relative.min() >= 0.85


def test_ring_shares_follow_weights() -> None:
    weights = [1 + i % 4 for i in range(40)]
    picker = RingHash([Endpoint(f"10.0.0.{i}:80", weight=w) for i, w in enumerate(weights)])
    relative = shares(picker, 40, 2_000_000) / (np.array(weights) / np.mean(weights))
    # 4.5 standard deviations of 1/sqrt(1024 weight), the least weight being the widest: 40 * 7e-6 by chance.
    assert np.all(np.abs(relative - 1) < 4.5 / np.sqrt(1024 * np.array(weights)))


def test_maglev_is_nearly_even() -> None:
    addresses = [f"10.0.{i // 250}.{i % 250}:8080" for i in range(100)]
    relative = shares(Maglev(addresses), 100, 4_000_000)
    # Entries differ by one in 655 at most; the rest is 5 standard errors of 40,000 keys each.
    assert np.all(np.abs(relative - 1) < 1 / 655 + 5 / 200)
