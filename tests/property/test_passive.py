"""Random scripts: nobody stays out for good, and no more are out than may be."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import (
    CircuitBreaker,
    LeastRequest,
    Maglev,
    ManualClock,
    MaxFails,
    OutlierDetection,
    Pool,
    RoundRobin,
)

ENDINGS: list[dict[str, Any]] = [
    {},
    {"status": 500},
    {"status": 503},
    {"outcome": "failure"},
    {"outcome": "timeout"},
    {"status": 429, "retry_after": 3.0},
]
STEP = st.one_of(
    st.tuples(st.just("end"), st.integers(0, 5), st.integers(0, len(ENDINGS) - 1)),
    st.tuples(st.just("advance"), st.floats(0.0, 60.0)),
    st.tuples(st.just("hold"), st.integers(0, 5)),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("replace"), st.integers(0, 5)),
)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 6),
    passive=st.sampled_from(
        [
            OutlierDetection(consecutive_5xx=2, max_ejection_percent=50, interval=1.0, base_ejection_time=2.0),
            OutlierDetection.robust(interval=1.0, base_ejection_time=2.0, failure_percentage_request_volume=1),
            MaxFails(1, 3),
            MaxFails(2, 5),
            None,
        ]
    ),
    breaker=st.sampled_from([None, CircuitBreaker(failures=2, open_time=2.0, max_open_time=5.0)]),
    make=st.sampled_from([RoundRobin, LeastRequest, Maglev]),
    steps=st.lists(STEP, max_size=60),
)
def test_scripts(n: int, passive: Any, breaker: Any, make: Any, steps: list[tuple[Any, ...]]) -> None:
    clock = ManualClock(0.0)
    ids = [f"e{i}" for i in range(n)]
    pool = Pool(ids, passive=passive, circuit_breaker=breaker, clock=clock, seed=1, panic_threshold=0.0)
    picker = make(pool)
    held: list[Any] = []
    for step in steps:
        match step:
            case ("end", i, ending):
                lease = picker.try_acquire(subset=[ids[i % n]])
                if lease is not None:
                    lease.release(**ENDINGS[ending])
            case ("advance", seconds):
                clock.advance(seconds)
            case ("hold", i):
                held.append(picker.try_acquire(subset=[ids[i % n]]))
            case ("cancel",):
                if held and (lease := held.pop()) is not None:
                    lease.cancel()
            case ("replace", i):
                ids[i % n] += "'"
                pool.update(ids)
        stats = pool.stats()
        assert all(s.inflight <= s.picks for s in stats)
        if isinstance(passive, OutlierDetection) and breaker is None:
            assert sum(s.ejected_until is not None for s in stats) <= n * passive.max_ejection_percent / 100
        choice = picker.try_pick()
        assert choice is None or choice.id in ids
    # Nobody asks for anything but leases, and everybody comes back.
    for id in ids:
        for _ in range(40):
            clock.advance(10.0)
            lease = picker.try_acquire(subset=[id])
            if lease is not None:
                lease.release()
    assert all(s.eligible and s.ejected_until is None for s in pool.stats())
