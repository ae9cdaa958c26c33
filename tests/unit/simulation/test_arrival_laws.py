"""Renewal, Markov-modulated and diurnal traffic, through the simulator."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, FormatError
from aibalance.queueing import EkM1, MMc
from aibalance.simulation import (
    DiurnalTraffic,
    Fleet,
    MmppTraffic,
    RecordedService,
    RenewalTraffic,
    Scenario,
    ServerType,
    Service,
    simulate,
)


def scenario(traffic: Any, duration_s: float = 20_000.0, servers: int = 1) -> Scenario:
    return Scenario(
        name="t",
        traffic=traffic,
        service=Service("exponential", mean_s=1.0),
        fleet=Fleet(types=[ServerType(name="a")], min=servers),
        duration_s=duration_s,
        slo_s=10.0,
    )


def test_gamma_gaps_make_the_queue_that_theory_says() -> None:
    regular = RenewalTraffic(law="gamma", rate_rps=0.8, shape=4)
    reports = [simulate(scenario(regular, 50_000), picker="RoundRobin", seed=seed) for seed in range(3)]
    mean = np.mean([report.all.mean_s for report in reports])
    assert mean == pytest.approx(EkM1(arrival_rate=0.8, stages=4).mean_sojourn, rel=0.06)
    assert mean < MMc(arrival_rate=0.8).mean_sojourn * 0.8
    assert reports[0].all.requests == pytest.approx(40_000, rel=0.02)
    assert reports[0].all.requests != reports[1].all.requests
    again = simulate(scenario(regular, 50_000), picker="RoundRobin", seed=0)
    assert again.all.mean_s == reports[0].all.mean_s


@pytest.mark.parametrize("law", ["gamma", "weibull"])
def test_cv_and_shape_say_the_same(law: str) -> None:
    by_cv = RenewalTraffic(law=law, rate_rps=5.0, cv=3.0)
    assert by_cv.gaps.cv == pytest.approx(3.0)
    by_shape = RenewalTraffic(law=law, rate_rps=5.0, shape=by_cv.shape)
    assert by_shape.cv == pytest.approx(3.0)
    assert "cv 3" in by_cv.describe()
    assert pickle.loads(pickle.dumps(by_cv)) == by_cv
    gaps = np.diff(by_cv._times(3, 4000.0))
    assert gaps.mean() == pytest.approx(0.2, rel=0.15)


def test_bursts_cost_more_than_their_mean() -> None:
    bursty = MmppTraffic(rates_rps=[0.2, 3.0], mean_durations_s=[90.0, 10.0])
    assert bursty.mean_rps == pytest.approx(0.48)
    report = simulate(scenario(bursty, 40_000), picker="RoundRobin", seed=1)
    assert report.all.requests == pytest.approx(0.48 * 40_000, rel=0.15)
    assert report.all.mean_s > 3 * MMc(arrival_rate=0.48).mean_sojourn
    assert "0.48 requests/s" in bursty.describe()


def test_a_day_has_a_peak() -> None:
    day = DiurnalTraffic(mean_rps=2.0, amplitude=0.9, period_s=1000.0, peak_s=250.0)
    report = simulate(scenario(day, 10_000, servers=20), picker="RoundRobin", seed=1, records=True)
    assert report.records is not None
    phase = report.records.arrival % 1000
    near, far = ((phase > 150) & (phase < 350)).sum(), ((phase > 650) & (phase < 850)).sum()
    assert near > 5 * far
    assert len(phase) == pytest.approx(20_000, rel=0.03)
    flat = DiurnalTraffic(mean_rps=2.0, amplitude=0.0, period_s=1000.0)
    assert simulate(scenario(flat, 10_000, 20), picker="RoundRobin").all.requests == pytest.approx(20_000, rel=0.03)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RenewalTraffic(law="pareto", rate_rps=1, cv=1), "traffic.law"),
        (lambda: RenewalTraffic(law="gamma", rate_rps=0, cv=1), "traffic.rate_rps"),
        (lambda: RenewalTraffic(law="gamma", rate_rps=1), "exactly one"),
        (lambda: RenewalTraffic(law="gamma", rate_rps=1, cv=1, shape=1), "exactly one"),
        (lambda: RenewalTraffic(law="gamma", rate_rps=1, cv=float("nan")), "traffic.cv"),
        (lambda: RenewalTraffic(law="weibull", rate_rps=1, cv=1000), "traffic.cv"),
        (lambda: RenewalTraffic(law="weibull", rate_rps=1, shape=0), "traffic.shape"),
        (lambda: MmppTraffic(rates_rps=[], mean_durations_s=[]), "traffic.rates_rps"),
        (lambda: MmppTraffic(rates_rps=[0, 0], mean_durations_s=[1, 1]), "traffic.rates_rps"),
        (lambda: MmppTraffic(rates_rps=[1, 1], mean_durations_s=[1]), "traffic.mean_durations_s"),
        (lambda: MmppTraffic(rates_rps=[1, 1], mean_durations_s=[1, 0]), r"traffic.mean_durations_s\[1\]"),
        (lambda: DiurnalTraffic(mean_rps=1, amplitude=1.1), "traffic.amplitude"),
        (lambda: DiurnalTraffic(mean_rps=1, period_s=0), "traffic.period_s"),
    ],
)
def test_what_cannot_be(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()


def test_too_little_and_too_fast() -> None:
    with pytest.raises(ConfigError, match=r"traffic\.period_s"):
        simulate(scenario(DiurnalTraffic(mean_rps=1, period_s=1e-6)), picker="RoundRobin")
    rare = simulate(scenario(RenewalTraffic(law="gamma", rate_rps=1e-5, cv=1), 100.0), picker="RoundRobin")
    assert rare.all.requests == 1


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ('kind = "renewal"\nlaw = "weibull"\nrate_rps = 3\ncv = 2', RenewalTraffic),
        ('kind = "mmpp"\nrates_rps = [1, 9]\nmean_durations_s = [60, 6]', MmppTraffic),
        ('kind = "diurnal"\nmean_rps = 3\namplitude = 0.2', DiurnalTraffic),
    ],
)
def test_from_a_file(tmp_path: Path, table: str, kind: type) -> None:
    path = tmp_path / "s.toml"
    rest = '[service]\nkind = "exponential"\nmean_s = 1\n[fleet]\n[[fleet.types]]\nname = "a"\n'
    path.write_text(f'name = "x"\nduration_s = 50\nslo_s = 2\n[traffic]\n{table}\n{rest}', encoding="utf-8")
    assert isinstance(Scenario.load(path).traffic, kind)
    path.write_text(f'name = "x"\nduration_s = 50\nslo_s = 2\n[traffic]\n{table}\nfoo = 1\n{rest}', encoding="utf-8")
    with pytest.raises(FormatError, match=r"traffic\.foo"):
        Scenario.load(path)
    path.write_text(
        f'name = "x"\nduration_s = 50\nslo_s = 2\n[traffic]\n{table}\nfactor = 9\nstart_s = 1\nhold_s = 1\n{rest}',
        encoding="utf-8",
    )
    with pytest.raises(FormatError, match=r"traffic\.factor"):
        Scenario.load(path)


def test_a_log_with_its_own_service_times(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("t,d\n0,100\n1,200\n2,300\n", encoding="utf-8")
    path = tmp_path / "s.toml"
    head = 'name = "x"\nduration_s = 3\nslo_s = 2\n[traffic]\nkind = "log"\nfile = "log.csv"\nrotate = false\n'
    columns = 'format = "csv"\ntime = "t"\nduration = "d"\nduration_unit = "ms"\n'
    rest = '[service]\nkind = "recorded"\n[fleet]\n[[fleet.types]]\nname = "a"\n'
    path.write_text(head + columns + rest, encoding="utf-8")
    report = simulate(Scenario.load(path), picker="RoundRobin", records=True)
    assert report.records is not None
    assert report.records.arrival.tolist() == pytest.approx([0.0, 1.0, 2.0])
    assert report.records.service.tolist() == pytest.approx([0.1, 0.2, 0.3])
    for broken, what in (
        (head + 'format = "csv"\n' + rest, r"traffic\.time"),
        (head + 'format = "csv"\ntime = "t"\n' + rest, "service times"),
        (head + columns.replace("csv", "nginx", 1) + rest, r"traffic\.time"),
        (head + columns + "rate_rps = 1\n" + rest, r"traffic\.rate_rps"),
        (head + columns.replace("csv", "table", 1) + rest, r"traffic\.format"),
        (head + columns + rest.replace('"recorded"', '"recorded"\nbase_s = 1'), r"service\.base_s"),
    ):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(FormatError, match=what):
            Scenario.load(path)
    noisy = RecordedService(noise_cv=0.5)
    assert noisy.describe() == "as recorded, noise of cv 0.5"
    with pytest.raises(ConfigError, match="recorded"):
        Scenario(**{**vars(scenario(RenewalTraffic(law="gamma", rate_rps=1, cv=1))), "service": noisy})


def test_an_access_log_as_traffic(tmp_path: Path) -> None:
    lines = [f"10{i}.500 200 0.{i + 1}00\n" for i in range(3)]
    (tmp_path / "access.log").write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "x"\nduration_s = 2\nslo_s = 2\n[traffic]\nkind = "log"\nfile = "access.log"\nformat = "nginx"\n'
        'rotate = false\nlog_format = "$msec $status $request_time"\n'
        '[service]\nkind = "recorded"\nnoise_cv = 0\n[fleet]\n[[fleet.types]]\nname = "a"\n',
        encoding="utf-8",
    )
    report = simulate(Scenario.load(path), picker="RoundRobin", records=True)
    assert report.records is not None
    assert report.records.arrival.tolist() == pytest.approx([0.0, 0.9, 1.8])
    assert report.records.service.tolist() == pytest.approx([0.1, 0.2, 0.3])
