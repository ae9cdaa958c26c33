"""The token bucket from Python."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from aibalance import ConfigError, ManualClock, TokenBucket


def test_it_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(10, 5)
    assert [bucket.take(now=0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait(now=0.0) == 0.1
    assert not bucket.take(now=0.099999999)
    assert bucket.take(now=0.1)
    assert bucket.tokens(now=1e6) == 5
    assert bucket.wait(6, now=1e6) == math.inf


def test_each_argument_matters() -> None:
    def first(rate: float, burst: float) -> list[bool]:
        bucket = TokenBucket(rate, burst)
        return [bucket.take(now=t / 10) for t in range(9)]

    assert len({tuple(first(*a)) for a in [(5, 1), (10, 1), (5, 3)]}) == 3
    assert not TokenBucket(1, 2).take(3, now=0.0)


def test_its_clock_and_its_journey() -> None:
    clock = ManualClock(0.0)
    bucket = TokenBucket(1, 1, clock=clock)
    assert bucket.take()
    assert not bucket.take()
    again = pickle.loads(pickle.dumps(TokenBucket(1, 1)))
    assert (again.rate, again.burst, repr(again)) == (1, 1, "TokenBucket(1.0, 1.0)")
    clock.advance(1.0)
    assert bucket.take()
    used = TokenBucket(1, 5)
    used.take(4, now=10.0)
    assert pickle.loads(pickle.dumps(used)).tokens(now=10.0) == 1


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: TokenBucket(-1, 1), "rate"),
        (lambda: TokenBucket(math.inf, 1), "rate"),
        (lambda: TokenBucket(1, 0), "burst"),
        (lambda: TokenBucket("1", 1), "rate"),  # type: ignore[arg-type]
        (lambda: TokenBucket(1, 1, clock=3), "clock"),  # type: ignore[arg-type]
        (lambda: TokenBucket(1, 1).take(-1, now=0.0), "tokens"),
        (lambda: TokenBucket(1, 1).take(now=math.nan), "now"),
    ],
)
def test_what_cannot_be(call: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        call()
