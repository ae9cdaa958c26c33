"""Limits that move, and retry budgets."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aibalance import (
    ActiveRetryBudget,
    AdaptiveConcurrency,
    ConfigError,
    Fallback,
    ManualClock,
    Pool,
    RetryBudget,
    RoundRobin,
    dynamic_limit,
)


def count(picker: Any, budget: Any) -> int:
    made = 0
    for lease in picker.attempts(budget=budget):
        lease.cancel()
        made += 1
    return made


def test_the_limit_follows_the_latency() -> None:
    clock = ManualClock(1.0)
    limit = AdaptiveConcurrency(min_rtt_requests=2, buffer=0.0, jitter=0.0, clock=clock)
    assert [limit.try_acquire() for _ in range(4)] == [True, True, True, False]
    assert (limit.inflight, limit.measuring, limit.min_rtt) == (3, True, None)
    limit.cancel()
    clock.advance(0.01)
    limit.release(latency=0.01)
    limit.release(latency=0.01)
    assert (limit.inflight, limit.measuring) == (0, False)
    clock.advance(0.05)
    limit.observe(0.001)
    clock.advance(0.1)
    limit.advance()
    assert limit.gradient > 1
    assert limit.limit > 3
    assert limit.sample_rtt == pytest.approx(0.001, rel=0.1)
    again = pickle.loads(pickle.dumps(limit))
    assert (again.limit, again.inflight) == (3, 0)
    assert "limit" in repr(limit)


@pytest.mark.parametrize(
    "wrong",
    [
        {"update_interval": 0.0},
        {"percentile": float("nan")},
        {"max_limit": 2},
        {"min_limit": 0},
        {"min_rtt_interval": -1.0},
        {"min_rtt_requests": 0},
        {"jitter": 2.0},
        {"buffer": -0.1},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        AdaptiveConcurrency(**wrong)


def test_a_latency_that_cannot_be_is_refused_and_keeps_the_count() -> None:
    limit = AdaptiveConcurrency()
    assert limit.try_acquire()
    with pytest.raises(ConfigError, match="latency"):
        limit.release(latency=float("nan"))
    assert limit.inflight == 1


def test_a_dynamic_limit_is_within_its_bounds() -> None:
    assert dynamic_limit(least=2, most=10, full=100, inflight=55) == 5
    assert dynamic_limit(least=2, most=10, full=100, inflight=1000, warming=0.3) == 3
    for wrong in ({"least": 0}, {"least": 11}, {"full": 0}, {"warming": 1.5}):
        with pytest.raises(ConfigError):
            dynamic_limit(**({"least": 1, "most": 10, "full": 10, "inflight": 0} | wrong))  # type: ignore[arg-type]


def test_tokens_can_be_asked_directly() -> None:
    budget = RetryBudget(ratio=0.5, min_per_second=0)
    assert not budget.withdraw(now=1.0)
    budget.deposit(now=1.0)
    budget.deposit(now=1.0)
    assert budget.balance(now=1.0) == 1.0
    assert budget.withdraw(now=1.0)
    assert not budget.withdraw()


@pytest.mark.parametrize("composed", [False, True])
def test_active_retries_end_with_the_loop(composed: bool) -> None:
    native = RoundRobin(["a", "b", "c", "d"])
    picker = Fallback(native) if composed else native
    budget = ActiveRetryBudget(ratio=0.0, min_concurrency=1, max_attempts=4)
    first, second = picker.attempts(budget=budget), picker.attempts(budget=budget)
    next(first).release()
    next(second).release()
    assert budget.retries == 0
    next(first).release()
    assert budget.retries == 1
    assert next(second, None) is None
    next(first).release()
    assert budget.retries == 1
    del first
    assert budget.retries == 0
    assert count(picker, budget) == 4
    assert budget.retries == 0


@pytest.mark.parametrize("composed", [False, True])
def test_active_retries_are_a_share_of_what_is_in_flight(composed: bool) -> None:
    native = RoundRobin(["a", "b", "c"])
    picker = Fallback(native) if composed else native
    budget = ActiveRetryBudget(ratio=0.5, min_concurrency=0)
    assert count(picker, budget) == 1
    held = [native.acquire() for _ in range(2)]
    assert count(picker, budget) == 3
    del held


@pytest.mark.parametrize("composed", [False, True])
def test_token_budgets_go_by_the_pools_clock(composed: bool) -> None:
    clock = ManualClock(1.0)
    native = RoundRobin(Pool(["a", "b", "c"], clock=clock))
    picker = Fallback(native) if composed else native
    budget = RetryBudget(ratio=0.0, min_per_second=1.0)
    counts = [count(picker, budget) for _ in range(2)]
    clock.advance(2.0)
    assert [*counts, count(picker, budget)] == [2, 1, 3]


def test_budgets_that_cannot_be() -> None:
    for wrong in ({"ratio": 1.5}, {"min_concurrency": -1}, {"max_attempts": 0}):
        with pytest.raises(ConfigError):
            ActiveRetryBudget(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="budget"):
        RoundRobin(["a"]).attempts(budget=0)
    with pytest.raises(ConfigError, match="budget"):
        Fallback(RoundRobin(["a"])).attempts(budget=0)
    assert repr(pickle.loads(pickle.dumps(ActiveRetryBudget()))) == repr(ActiveRetryBudget())
