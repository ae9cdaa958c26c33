"""How the benches take their time: loops compiled beforehand, on one core, the price of a bare loop known."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest

from benches.operations import compiled

ROUNDS = 60


def pytest_configure(config: pytest.Config) -> None:
    # All candidates on the same core: ratios survive a noisy machine, absolute times do not.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@pytest.fixture
def timed(benchmark: Any) -> Callable[..., None]:
    """Time a statement: `calls` of it a round, each doing `per` operations."""

    def run(
        what: str,
        subject: str,
        statement: str,
        *,
        n: int = 8,
        calls: int = 1000,
        per: int = 1,
        rounds: int = ROUNDS,
        goal: float | None = None,
        at_least: float | None = None,
        note: str = "",
        **names: Any,
    ) -> None:
        loop = compiled(statement, **names)
        benchmark.group = what
        benchmark.name = f"{subject} [n = {n}]"
        benchmark.extra_info.update(
            what=what,
            subject=subject,
            n=n,
            operations=calls * per,
            calls=calls,
            goal=goal,
            at_least=at_least,
            note=note,
        )
        benchmark.pedantic(
            loop, setup=lambda: ((itertools.repeat(None, calls),), {}), rounds=rounds, iterations=1, warmup_rounds=3
        )

    return run
