"""Whatever the numbers: laws of queueing that hold everywhere, and no error but our own."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibalance import AibalanceError
from aibalance import queueing as q
from aibalance.traces import fit, read_access_log, read_csv

rates = st.floats(1e-3, 1e3)
loads = st.floats(1e-3, 0.98)
chances = st.floats(0.001, 0.999)


@given(load=loads, mu=rates, c=st.integers(1, 200), p=chances)
def test_littles_law_and_quantiles(load: float, mu: float, c: int, p: float) -> None:
    queue = q.MMc(arrival_rate=load * mu * c, service_rate=mu, servers=c)
    assert queue.mean_number == pytest.approx(queue.arrival_rate * queue.mean_sojourn)
    assert 0 <= queue.p_wait <= 1
    at = queue.sojourn_quantile(p)
    assert queue.sojourn_sf(at) == pytest.approx(1 - p, rel=1e-6)
    assert queue.wait_quantile(p) <= at * (1 + 1e-9)
    # Fixed service waits less, a limit loses some.
    assert q.MDc(arrival_rate=queue.arrival_rate, service_time=1 / mu, servers=c).mean_wait <= queue.mean_wait + 1e-12
    limited = q.MMcK(arrival_rate=queue.arrival_rate, service_rate=mu, servers=c, places=c + 5)
    assert limited.mean_wait <= queue.mean_wait * (1 + 1e-9) + 1e-12
    assert float(limited.distribution.sum()) == pytest.approx(1.0)


@given(c=st.integers(1, 3000), a=st.floats(0, 5000))
def test_erlang_b_falls_with_servers_and_rises_with_load(c: int, a: float) -> None:
    assert 0 <= q.erlang_b(c, a) <= q.erlang_b(c - 1, a) <= 1
    assert q.erlang_b(c, a) <= q.erlang_b(c, a + 1)


@given(lam=st.floats(0.01, 500), p=chances)
def test_staffing_is_least(lam: float, p: float) -> None:
    c = q.min_servers(lam, p_wait=p)
    assert q.MMc(arrival_rate=lam, servers=c).p_wait <= p
    if c - 1 > lam:
        assert q.MMc(arrival_rate=lam, servers=c - 1).p_wait > p


@given(rates=st.lists(st.floats(0.1, 10), min_size=1, max_size=8), load=loads)
def test_the_optimal_split_is_a_split_and_no_worse(rates: list[float], load: float) -> None:
    lam = load * sum(rates)
    shares = q.optimal_split(lam, rates)
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0
    best = q.RandomSplit(arrival_rate=lam, service_rates=rates, weights=shares)
    assert best.mean_sojourn <= q.RandomSplit(arrival_rate=lam, service_rates=rates).mean_sojourn * (1 + 1e-9)


@given(load=loads, d=st.integers(1, 50), p=chances)
def test_the_supermarket_never_beats_the_service(load: float, d: int, p: float) -> None:
    fleet = q.Supermarket(load=load, choices=d)
    assert 1 <= fleet.mean_sojourn <= 1 / (1 - load) * (1 + 1e-9)
    assert fleet.sojourn_quantile(p) >= -math.log1p(-p) * (1 - 1e-9)


@given(values=st.lists(st.floats(0, 1e12), min_size=10, max_size=40), service=st.lists(st.floats(0, 1e12), max_size=40))
def test_fit_fits_or_says_why_not(values: list[float], service: list[float]) -> None:
    try:
        found = fit(values, service=service or None)
    except AibalanceError:
        return
    for one in (*found.arrivals, *found.service):
        assert 0 <= one.ks <= 1
        assert math.isfinite(one.aic)


@given(text=st.text(max_size=200), form=st.text(max_size=60))
def test_no_log_breaks_the_readers(text: str, form: str, tmp_path_factory: Any) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (
        lambda: read_csv(path, time="t"),
        lambda: read_access_log(path),
        lambda: read_access_log(path, log_format=f"$msec{form}$status"),
    ):
        with contextlib.suppress(AibalanceError):
            assert len(read()) >= 1


@given(times=st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_csv_sorts_and_starts_at_zero(times: list[int], tmp_path_factory: Any) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("t\n" + "\n".join(map(str, times)) + "\n", encoding="utf-8")
    trace = read_csv(path, time="t", time_unit="ms")
    expected = (np.sort(times) - min(times)) / 1e3
    assert trace.arrival_s == pytest.approx(expected, abs=1e-3)
