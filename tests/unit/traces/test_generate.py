"""Made-up traces and fitted laws: what was put in is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, FormatError
from aibalance.queueing import BoundedPareto, Deterministic, Exponential, Gamma, Lognormal, Weibull
from aibalance.traces import Mmpp2, Trace, fit, merge, mmpp, poisson, read_servegen, renewal, scale


@pytest.mark.parametrize("law", [Exponential(0.1), Gamma(0.1, 0.3), Weibull(0.1, 0.6), Deterministic(0.1)], ids=repr)
def test_renewal_has_its_law(law: Any) -> None:
    trace = renewal(law, duration_s=3000.0, seed=4)
    gaps = np.diff(trace.arrival_s)
    assert gaps.mean() == pytest.approx(0.1, rel=5 * law.cv / len(gaps) ** 0.5 + 1e-9)
    assert gaps.std() / gaps.mean() == pytest.approx(law.cv, rel=0.15, abs=1e-9)
    assert trace.duration_s < 3000
    again = renewal(law, duration_s=3000.0, seed=4)
    assert np.array_equal(trace.arrival_s, again.arrival_s)
    if law.cv > 0:
        assert not np.array_equal(trace.arrival_s[:10], renewal(law, duration_s=3000.0, seed=5).arrival_s[:10])


def test_mmpp_has_its_rate_and_is_bursty() -> None:
    trace = mmpp([1.0, 50.0, 0.0], [30.0, 5.0, 10.0], duration_s=20_000.0, seed=2)
    assert len(trace) == pytest.approx(20_000 * (30 + 250) / 45, rel=0.15)
    counts = np.bincount(trace.arrival_s.astype(np.int64))
    assert counts.var() / counts.mean() > 10
    one = mmpp([10.0], [5.0], duration_s=1000.0, seed=2)
    counts = np.bincount(one.arrival_s.astype(np.int64))
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mmpp([1.0], [1.0, 2.0], duration_s=1.0),
        lambda: mmpp([0.0, 0.0], [1.0, 2.0], duration_s=1.0),
        lambda: mmpp([1.0, float("nan")], [1.0, 2.0], duration_s=1.0),
        lambda: mmpp([1.0, 2.0], [1.0, 0.0], duration_s=1.0),
        lambda: mmpp("ab", [1.0, 2.0], duration_s=1.0),  # type: ignore[arg-type]
        lambda: poisson(0.0, duration_s=1.0),
        lambda: poisson(1e9, duration_s=1e9),
        lambda: poisson(1e-9, duration_s=1.0),
        lambda: poisson(1.0, duration_s=float("inf")),
        lambda: poisson(1.0, duration_s=1.0, seed=-1),
        lambda: renewal("gamma", duration_s=1.0),  # type: ignore[arg-type]
        lambda: merge(),
        lambda: scale(poisson(1.0, duration_s=100.0), time=0.0),
        lambda: fit([1.0] * 20),
        lambda: fit([1.0, 2.0]),
        lambda: fit(["a"] * 20),
        lambda: fit([float("nan")] * 20),
        lambda: fit(list(range(20)), service=[-1.0] * 20),
        lambda: fit(list(range(20)), service=[1.0]),
        lambda: fit(list(range(20)), most=1),
    ],
)
def test_what_cannot_be(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_mixture_keeps_requests_and_blocks_apart() -> None:
    def blocks(times: list[float], ids: list[int]) -> Trace:
        n = np.arange(len(times))
        return Trace("t", "x", np.array(times), n, n, np.array(ids), np.arange(len(ids) + 1))

    both, source = merge(blocks([0.0, 2.0], [7, 7]), blocks([0.0, 1.0], [7, 8]))
    assert both.arrival_s.tolist() == [0.0, 0.0, 1.0, 2.0]
    assert source.tolist() == [0, 1, 1, 0]
    assert [both.blocks(i).tolist() for i in range(4)] == [[7], [15], [16], [7]]
    dropped, _ = merge(blocks([0.0], [7]), poisson(1.0, duration_s=50.0))
    assert dropped.hash_values is None


def test_scaling() -> None:
    n = np.array([0, 1, 10])
    trace = Trace("t", "x", np.array([0.0, 1.0, 2.0]), n, n)
    other = scale(trace, time=0.5, tokens=0.1)
    assert other.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert other.input_tokens.tolist() == [0, 1, 1]


def test_fit_finds_what_was_put_in() -> None:
    for name, law in (("poisson", Exponential(0.2)), ("gamma", Gamma(0.2, 0.4)), ("weibull", Weibull(0.2, 0.5))):
        found = fit(renewal(law, duration_s=1500.0, seed=7))
        best = found.arrivals[0]
        if name == "poisson":  # the others contain it: they may win by a hair
            best = next(one for one in found.arrivals if one.name == "poisson")
            assert best.aic - found.arrivals[0].aic < 10
        assert best.name == name
        assert best.good
        assert isinstance(best.law, Exponential | Gamma | Weibull)
        assert best.law.mean == pytest.approx(0.2, rel=0.1)
        if isinstance(law, Gamma | Weibull):
            assert best.law.shape == pytest.approx(law.shape, rel=0.05)  # type: ignore[union-attr]
        assert len(found.arrivals) == 4
        assert name in found.describe()


def test_fit_finds_bursts() -> None:
    found = fit(mmpp([2.0, 40.0], [50.0, 5.0], duration_s=3000.0, seed=3))
    best = found.arrivals[0]
    assert isinstance(best.law, Mmpp2)
    assert best.law.rates_rps == pytest.approx((2.0, 40.0), rel=0.1)
    assert best.law.mean_durations_s == pytest.approx((50.0, 5.0), rel=0.4)
    assert best.law.mean_rps == pytest.approx(found.mean_rps, rel=0.2)
    assert found.gap_correlation > 0.1


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("lognormal", Lognormal(2.0, 1.2)),
        ("gamma", Gamma(2.0, 3.0)),
        ("pareto", BoundedPareto(1.3, 0.5, 200.0)),
    ],
)
def test_fit_of_service(name: str, law: Any) -> None:
    rng = np.random.default_rng(11)
    found = fit(np.arange(100.0), service=law.sample(rng, 8000))
    best = found.service[0]
    assert best.name == name
    assert best.good
    assert best.law.mean == pytest.approx(law.mean, rel=0.1)  # type: ignore[union-attr]
    assert best.law.service()  # type: ignore[union-attr]
    exponential = fit(np.arange(100.0), service=Exponential(2.0).sample(rng, 3000)).service
    assert next(one for one in exponential if one.name == "exponential").good
    constant = fit(np.arange(100.0), service=[1.0] * 50)
    assert [one.name for one in constant.service] == ["exponential"]


def test_fit_says_what_it_did_to_the_clock() -> None:
    times = np.floor(poisson(5.0, duration_s=400.0, seed=1).arrival_s)
    found = fit(times, most=1000)
    assert found.ties > 0.5
    assert (found.used, found.gaps) == (1000, len(times) - 1)
    assert "tick" in found.describe()
    assert "first 1,000" in found.describe()


def test_servegen(tmp_path: Path) -> None:
    path = tmp_path / "clients.csv"
    rows = ["client,t_s,rate_rps,cv,dist,arg1,arg2"]
    rows += [f"{c},{t},{2 + c},1,{d},{s},9" for c, d, s in ((0, "Gamma", 0.3), (1, "Weibull", 0.7)) for t in (0, 600)]
    path.write_text("\n".join([*rows, "0,1800,1,1,Gamma,1,9"]) + "\n", encoding="utf-8")
    table = read_servegen(path)
    assert table.rates() == [(0.0, 5.0), (600.0, 5.0), (1200.0, 0.0), (1800.0, 1.0)]
    trace = table.generate(duration_s=1200.0, rate_scale=3.0, seed=1)
    assert len(trace) == pytest.approx(18_000, rel=0.05)
    assert len(table.generate(start_s=1800.0, seed=1)) == pytest.approx(600, rel=0.2)
    with pytest.raises(ConfigError, match="no request"):
        table.generate(start_s=1250.0, duration_s=100.0)
    for row, what in (("0,0,1,1,Normal,1,1", "dist"), ("0,0,x,1,Gamma,1,1", "rate_rps"), ("0,0", "fields")):
        path.write_text(f"{rows[0]}\n{row}\n", encoding="utf-8")
        with pytest.raises(FormatError, match=f"line 2: .*{what}"):
            read_servegen(path)
    path.write_text("client,t_s\n", encoding="utf-8")
    with pytest.raises(FormatError, match="rate_rps"):
        read_servegen(path)


def test_service_times_travel_along() -> None:
    n = np.arange(3)
    trace = Trace("t", "x", np.array([0.0, 1.0, 2.0]), n, n, service_s=np.array([0.5, 0.25, 1.0]))
    both, _ = merge(trace, scale(trace, time=0.25))
    assert both.service_s is not None
    assert both.service_s.tolist() == [0.5, 0.5, 0.25, 1.0, 0.25, 1.0]
    assert merge(trace, poisson(1.0, duration_s=50.0))[0].service_s is None
    for bad in ([1.0], [1.0, -1.0, 0.0], [1.0, float("nan"), 0.0]):
        with pytest.raises(ConfigError, match="service_s"):
            Trace("t", "x", np.array([0.0, 1.0, 2.0]), n, n, service_s=np.array(bad))
    assert fit(Trace("t", "x", np.arange(20.0), np.arange(20), np.arange(20), service_s=np.arange(20.0) + 1)).service
