from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from aibalance import ConfigError, SimulationError
from aibalance.simulation import (
    ClosedTraffic,
    Design,
    Fleet,
    Objective,
    Plan,
    PoissonTraffic,
    RequestClass,
    Scenario,
    ServerType,
    Service,
    Spike,
    SpikeTraffic,
    SpotTerms,
    WarmPoolTerms,
    plan,
    simulate,
)
from aibalance.simulation._plan_ray import Ray
from aibalance.simulation._plan_run import Outcome, Serial, excess, outcome, runner
from aibalance.simulation._plan_run_once import Action
from aibalance.simulation._plan_search import (
    Evaluated,
    Search,
    _design,
    _distributions,
    _optuna,
    _parameters,
    neighbours,
)
from aibalance.simulation._plan_slo import measured, objectives
from aibalance.simulation._plan_space import Space, settled, space, starts


def scenario(**changes: Any) -> Scenario:
    of: dict[str, Any] = {
        "name": "pictures",
        "traffic": SpikeTraffic(base_rps=0.5, spike=Spike(factor=8, start_s=120, ramp_s=20, hold_s=120)),
        "service": Service("uniform", low_s=1, high_s=3),
        "fleet": Fleet(
            types=[
                ServerType(name="fast", speed=2, weight=2, price_per_hour=2.5),
                ServerType(name="slow", price_per_hour=1),
            ],
            min=1,
            max=16,
            load_s=30,
            warmup_s=10,
            decision_interval_s=20,
        ),
        "duration_s": 400,
        "slo_s": 10,
        "timeout_s": 60,
    }
    return Scenario(**{**of, **changes})


def tiny() -> Scenario:
    one = Fleet(types=[ServerType(name="a", price_per_hour=1)], max=6)
    return scenario(traffic=PoissonTraffic(rate_rps=1), fleet=one, duration_s=120)


def given(of: Scenario | None = None, slo: str = "p95 < 10 s", **changes: Any) -> Space:
    options: dict[str, Any] = {
        "budget": 5000.0,
        "spot": SpotTerms(),
        "pool": WarmPoolTerms(),
        "max_servers": None,
        "spikes_per_month": 1.0,
    }
    return space(of or scenario(), objectives(slo)[0], **{**options, **changes})


@pytest.fixture(scope="module")
def kept() -> Plan:
    return plan(scenario(), slo="p95 < 20 s, error < 2 %", budget=6000, trials=16, workers=1)


@pytest.fixture(scope="module")
def impossible() -> Plan:
    return plan(scenario(), slo="p95 < 2.6 s", budget=1500, trials=16, workers=1)


# Objectives


@pytest.mark.parametrize(
    ("text", "metric", "limit"),
    [
        ("p50 < 1s", "p50", 1.0),
        ("p90<250ms", "p90", 0.25),
        (" p95 <= 30 s ", "p95", 30.0),
        ("p99 < 1e1 s", "p99", 10.0),
        ("p99.9 < 2.5s", "p99.9", 2.5),
        ("mean < 4 s", "mean", 4.0),
        ("error < 0.5 %", "error", 0.005),
    ],
)
def test_objectives_are_read(text: str, metric: str, limit: float) -> None:
    (found,) = Objective.parse(text)
    assert (found.metric, found.limit) == (metric, pytest.approx(limit))
    assert Objective.parse(str(found)) == [found]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "slo: ''"),
        ("p95", "slo: 'p95'"),
        ("p95 > 3s", "slo: 'p95 > 3s'"),
        ("p42 < 3s", "'p42'"),
        ("p95 < 3", "no unit"),
        ("p95 < 3 %", "'%'"),
        ("error < 3 s", "'s'"),
        ("error < 101 %", "at most 100"),
        ("p95 < 0 s", "above 0"),
        ("p95 < -1 s", "above 0"),
        ("p95 < 1e999 s", "above 0"),
        ("p95 < .e s", "above 0"),
        ("p95 < 3s,", "slo: ''"),
    ],
)
def test_what_is_no_objective_says_what_is(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        Objective.parse(text)
    assert says in str(error.value)


def test_objectives_come_in_several_ways() -> None:
    found, added = objectives(["p95 < 3s", Objective("error", 0.01)])
    assert [one.metric for one in found] == ["p95", "error"]
    assert added == ""
    found, added = objectives("mean < 3 s")
    assert [one.metric for one in found] == ["mean", "error"]
    assert "turned away" in added
    with pytest.raises(ConfigError, match="twice"):
        objectives("p95 < 3s, p95 < 4s")
    with pytest.raises(ConfigError, match="nothing"):
        objectives([])
    with pytest.raises(ConfigError, match="slo: 3"):
        objectives([3])  # type: ignore[list-item]


def test_a_request_that_is_turned_away_is_late_without_end() -> None:
    full = scenario(fleet=Fleet(types=[ServerType(name="a")], min=1, queue_limit=0))
    report = simulate(full, picker="LeastRequest")
    error = measured("error", report)
    assert error == pytest.approx((report.all.rejected + report.all.timed_out) / report.all.requests)
    assert 0.3 < error < 0.95
    assert math.isinf(measured("p99", report))
    assert measured("mean", report) == report.all.mean_s
    ample = simulate(scenario(fleet=Fleet(types=[ServerType(name="a")], min=200)), picker="LeastRequest")
    for metric in ("p50", "p95", "p99"):
        assert measured(metric, ample) == pytest.approx(getattr(ample.all, f"{metric}_s"), rel=0.01)


# The space


def test_spot_and_warm_pool_have_their_price() -> None:
    of = given()
    plain = Design(balancer="LeastRequest", policy="surge", min=2, max=10, mix=(1.0, 1.0))
    assert of.money(plain, 100.0, 3600) == 100.0
    warm = dataclasses.replace(plain, warm_pool=True)
    assert of.money(warm, 100.0, 3600) == pytest.approx(100 + 8 * 0.011)
    spot = dataclasses.replace(plain, spot_share=1.0)
    # 90 % of the time spot at 38 %, else on demand; two servers at 1.75 are on demand for good.
    price = of.spot.price(1.0)  # type: ignore[union-attr]
    assert price == pytest.approx(0.9 * 0.38 + 0.1, rel=1e-3)
    assert of.money(spot, 100.0, 3600) == pytest.approx(3.5 + 96.5 * price)


def test_a_design_changes_the_fleet() -> None:
    of = given()
    design = Design(
        balancer="SharedQueue", policy="surge", min=2, max=9, mix=(1.0, 0.0), warm_pool=True, spot_share=0.5
    )
    made, by, scaling = of.specs(dataclasses.replace(design, longest_wait_s=5.0))
    assert [one.name for one in made.fleet.types] == ["fast"]
    assert (made.fleet.min, made.fleet.initial, made.fleet.max) == (2, 2, 9)
    assert made.fleet.load_s + made.fleet.warmup_s == 10
    assert made.failures is not None
    assert made.failures.mean_up_s == pytest.approx(730 * 3600 / (0.5 * 0.15))
    assert by.options == {"longest_wait_s": 5.0}
    assert scaling.policy == "Combined"
    fixed, _, scaling = of.specs(settled(dataclasses.replace(design, policy="fixed", spot_share=0.0), of))
    assert (fixed.fleet.max, scaling.options, fixed.failures) == (2, {"servers": 2}, None)


def test_tracking_is_by_the_slots_of_a_server() -> None:
    fleet = Fleet(types=[ServerType(name="a", price_per_hour=1)], concurrency=8, max=4)
    of = given(scenario(fleet=fleet))
    _, _, scaling = of.specs(Design(balancer="LeastRequest", policy="tracking", min=1, max=4, mix=(1.0,), target=0.5))
    assert (scaling.metric, scaling.target) == ("in_flight_per_server", 4.0)


def test_training_beside_inference_is_refused() -> None:
    classes = [RequestClass(name="chat"), RequestClass(name="nightly training")]
    with pytest.raises(ConfigError, match=r"classes\[1\].name: 'nightly training' beside inference is refused"):
        plan(scenario(classes=classes), slo="p95 < 10 s", workers=1)
    alone = scenario(classes=[RequestClass(name="training")])
    assert given(alone).balancers


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": -1}, "budget: -1"),
        ({"budget": math.nan}, "budget: nan"),
        ({"max_servers": 0}, "max_servers: 0"),
        ({"trials": 0}, "trials: 0"),
        ({"workers": 0}, "workers: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"spikes_per_month": -1}, "spikes_per_month: -1"),
        ({"spot": 0.5}, "spot: 0.5"),
        ({"warm_pool": True}, "warm_pool: True"),
        ({"slo": "soon"}, "slo: 'soon'"),
    ],
)
def test_a_wrong_parameter_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(scenario(), **{"slo": "p95 < 10 s", "workers": 1, **changes})
    assert says in str(error.value)


def test_servers_without_a_price_cannot_be_weighed() -> None:
    with pytest.raises(ConfigError, match="price_per_hour"):
        plan(scenario(fleet=Fleet(types=[ServerType(name="a")], max=4)), slo="p95 < 10 s", workers=1)
    with pytest.raises(ConfigError, match="scenario: 3"):
        plan(3, slo="p95 < 10 s")  # type: ignore[arg-type]


def test_theory_staffs_the_first_designs() -> None:
    of = given()
    assert of.facts["work_s"] == pytest.approx(2.0, rel=0.05)
    assert of.facts["peak_rps"] == pytest.approx(4.0, rel=0.2)
    found = starts(of)
    fixed = {one.mix: one.min for one in found if one.policy == "fixed"}
    # 4 requests/s of 2 s are 8 servers of speed 1, 4 of speed 2; nobody staffs below the load.
    assert 8 <= fixed[(0.0, 1.0)] <= 12
    assert 4 <= fixed[(1.0, 0.0)] <= 7
    assert all(of.lowest <= one.min <= one.max <= of.highest for one in found)


def test_parameters_and_designs_are_two_forms_of_one() -> None:
    of = given()
    kinds = _distributions(_optuna(), of)
    designs = starts(of)
    for one in [*designs, *neighbours(designs[3], of)]:
        there = _parameters(one, of)
        assert there.keys() == kinds.keys()
        assert _design(there, of) == one


def test_neighbours_differ_in_little_and_stay_within() -> None:
    of = given()
    for start in starts(of)[:8]:
        near = neighbours(start, of)
        assert start not in near
        assert len(near) >= 10
        assert all(of.lowest <= one.min <= one.max <= of.highest for one in near)


def test_choices_without_a_meaning_are_dropped() -> None:
    of = given()
    one = Design(
        balancer="LeastRequest", policy="fixed", min=3, max=9, mix=(1.0, 1.0), target=0.9, threshold=2.0,
        warm_pool=True, longest_wait_s=4.0,
    )  # fmt: skip
    assert settled(one, of) == Design(balancer="LeastRequest", policy="fixed", min=3, max=3, mix=(1.0, 1.0))


def test_no_spot_and_no_pool_leave_the_search() -> None:
    of = given(spot=None, pool=None)
    assert all(not one.spot_share and not one.warm_pool for one in starts(of))
    assert not {"spot", "warm"} & _distributions(_optuna(), of).keys()


# Runs


def test_an_outcome_is_of_the_spike_and_of_the_calm() -> None:
    of = given()
    design = Design(balancer="LeastRequest", policy="fixed", min=8, max=8, mix=(0.0, 1.0))
    found = outcome(of, (design, 3))
    assert found.month_cost == pytest.approx(8 * 730, rel=0.01)
    assert found.spike_cost == pytest.approx(0, abs=0.01)
    surge = Design(balancer="SharedQueue", policy="surge", min=4, max=12, mix=(0.0, 1.0), threshold=2.0)
    assert 0 < outcome(of, (surge, 3)).spike_cost < 12 * 400 / 3600
    every_day = given(scenario(traffic=PoissonTraffic(rate_rps=1)))
    assert outcome(every_day, (design, 3)).spike_cost == 0


def test_a_miss_has_a_slope_where_nothing_is_finite() -> None:
    of = given()

    def run(value: float, error: float) -> float:
        return excess(of, Outcome((value,), (value, value, value, error), 1, 1, 0, 1, 1))

    assert run(10.0, 0) == pytest.approx(0)
    assert run(5.0, 0) < 0 < run(20.0, 0) < run(math.inf, 0.1) < run(math.inf, 0.2)


def test_one_that_misses_is_never_cheaper_than_one_that_keeps() -> None:
    of = given()
    one = Design(balancer="LeastRequest", policy="fixed", min=3, max=3, mix=(1.0, 1.0))

    def of_runs(value: float, cost: float) -> Evaluated:
        return Evaluated(one, of, [Outcome((value,), (value, value, value, 0), 1, cost, 0, 1, 1)] * 20)

    dear, cheap = of_runs(9.0, 1e6), of_runs(11.0, 1.0)
    assert dear.cheapest() < cheap.cheapest()
    assert not dear.affordable
    assert cheap.affordable
    assert cheap.best() < dear.best()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_whatever_runs_them(workers: int) -> None:
    of = given()
    tasks = [(one, seed) for one in starts(of)[:4] for seed in (1, 2)]
    run = runner(of, workers=workers, ray=None)
    try:
        assert list(run.map(tasks)) == [outcome(of, task) for task in tasks]
    finally:
        run.close()


class FakeRay(types.ModuleType):
    """A cluster of this process, with its real fixtures' names: tests/integrations has a real one."""

    class exceptions:
        class RayError(Exception):
            pass

        class GetTimeoutError(RayError):
            pass

    def __init__(self, *, there: bool = False) -> None:
        super().__init__("ray")
        self.there = there
        self.asked: list[str] = []
        self.gone: list[Any] = []
        self.down = False
        self.late = 1

    def is_initialized(self) -> bool:
        return self.there

    def init(self, *, address: str, log_to_driver: bool, logging_level: str) -> None:
        if address == "auto":
            raise ConnectionError("Traceback\nno cluster here") from ValueError("a trace\n  what was wrong")
        self.asked.append(address)

    def put(self, value: Any) -> Any:
        return value

    def remote(self, function: Any) -> Any:
        return types.SimpleNamespace(remote=lambda *given: lambda: function(*given))

    def get(self, one: Any, *, timeout: float) -> Any:
        if self.late:
            self.late -= 1
            raise self.exceptions.GetTimeoutError
        return one()

    def cancel(self, one: Any) -> None:
        self.gone.append(one)

    def shutdown(self) -> None:
        self.down = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    one = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", one)
    return one


def test_ray_maps_the_same_function(fake: FakeRay) -> None:
    of = given()
    tasks = [(one, 5) for one in starts(of)[:3]]
    run = runner(of, workers=None, ray="local")
    assert isinstance(run, Ray)
    assert list(run.map(tasks)) == list(Serial(of).map(tasks))
    run.close()
    assert (fake.asked, fake.down) == (["local"], True)
    with pytest.raises(ConfigError, match="workers: 2"):
        runner(of, workers=2, ray="auto")


def test_ray_of_a_program_is_left_as_it_was(fake: FakeRay) -> None:
    fake.there = True
    of = given()
    run = runner(of, workers=None, ray="auto")
    results = iter(run.map([(one, 5) for one in starts(of)[:3]]))
    next(results)
    run.stop()
    assert len(fake.gone) == 3
    assert (fake.asked, fake.down) == ([], False)


def test_ray_is_refused_where_it_cannot_answer_the_same(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    of = given()

    def says(address: str) -> str:
        with pytest.raises(ConfigError) as error:
            runner(of, workers=None, ray=address)
        return str(error.value)

    for address in ("nonsense", "host:1:2", "host:none", ":6379", "ray://host"):
        assert says(address) == f"ray: {address!r}; allowed: auto, host:port or ray://host:port"
    assert says("nowhere.invalid:6379").startswith("ray: 'nowhere.invalid:6379': nobody answers")
    assert says("auto") == "ray: 'auto': what was wrong"
    monkeypatch.setattr("aibalance.simulation._plan_ray.__version__", "0.0.9")
    assert "its workers have aibalance " in says("local")
    monkeypatch.setitem(sys.modules, "aibalance", None)
    assert "its workers have no aibalance; allowed: 0.0.9" in says("local")
    monkeypatch.undo()
    assert fake.down


def test_a_worker_of_ray_that_fails_says_so(fake: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    of = given()
    run = runner(of, workers=None, ray="local")

    def get(one: Any, *, timeout: float) -> Any:
        raise fake.exceptions.RayError("Traceback\n  of the worker\nMemoryError: no room")

    monkeypatch.setattr(fake, "get", get)
    with pytest.raises(SimulationError, match="plan: a worker of the Ray cluster failed: MemoryError: no room"):
        list(run.map([(starts(of)[0], 5)]))


def test_ray_and_optuna_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="ray: is not installed"):
        plan(scenario(), slo="p95 < 10 s", ray="auto")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install aibalance\[plan\]"):
        plan(scenario(), slo="p95 < 10 s", workers=1)


# Plans


def test_a_promise_holds_under_seeds_that_nobody_saw(kept: Plan) -> None:
    assert kept.met
    assert (len(kept.best.fresh), kept.best.misses) == (200, 0)
    of = kept.space
    again = [outcome(of, (kept.best.design, 77_000_000 + i)) for i in range(20)]
    assert sum(excess(of, one) <= 0 for one in again) >= 19
    assert kept.best.month.mean <= 6000


def test_a_plan_is_pinned_by_its_seed(kept: Plan) -> None:
    found = [plan(tiny(), slo="p95 < 5 s", budget=6000, trials=16, workers=1, seed=seed) for seed in (3, 3, 4)]
    assert found[0].to_dict() == found[1].to_dict() != found[2].to_dict()
    assert pickle.loads(pickle.dumps(kept)).best.design == kept.best.design


def test_a_plan_answers_seven_points(kept: Plan, impossible: Plan) -> None:
    for one in (kept, impossible):
        assert list(one.answers) == [
            "balancer", "scaling policy", "pre-warming", "queue", "cost mix", "interruptions", "metrics and alerts",
        ]  # fmt: skip
        assert all(len(text) > 30 for text in one.answers.values())
        assert "sessions with think time" in one.summary()
        assert "730 h" in one.summary()
        json.dumps(one.to_dict())
    assert "keeps p95 < 20 s and error < 2 %" in kept.sentence


def test_an_impossible_objective_says_by_how_much_and_why(impossible: Plan) -> None:
    assert not impossible.met
    assert impossible.best.affordable
    assert "does not keep p95 < 2.6 s" in impossible.sentence
    assert "times the limit" in impossible.sentence
    assert impossible.queue is not None
    assert impossible.queue.design.balancer == "SharedQueue"


def test_what_no_server_can_do_is_told_apart() -> None:
    found = plan(tiny(), slo="p50 < 100 ms", budget=1e6, trials=1, workers=1)
    assert not found.met
    assert found.would is None
    assert "No fleet of these servers can" in found.sentence


def test_the_front_goes_down(kept: Plan) -> None:
    assert len(kept.front) >= 2
    costs = [one.total for one in kept.front]
    values = [one.objective(0).mean for one in kept.front]
    assert costs == sorted(costs)
    assert values == sorted(values, reverse=True)


def test_every_balancer_is_held_against_the_best(kept: Plan) -> None:
    assert {name for name, _ in kept.balancers} == set(kept.space.balancers)
    assert set(kept.by_balancer) == set(kept.space.balancers)
    designs = {dataclasses.replace(one.design, balancer="", queue_limit=None) for _, one in kept.balancers}
    assert len(designs) == 1


def test_actions_and_heat_are_of_the_run(kept: Plan, impossible: Plan) -> None:
    for one in (kept, impossible):
        heat = one.run.heat
        assert heat is not None
        assert all(0 <= value <= 1 for line in heat for value in line)
        if one.best.design.policy != "fixed":
            assert one.run.actions
            first = one.run.actions[0]
            assert first.before == one.best.design.min
            assert f"to {first.after} servers" in first.text()
    said = Action(60.0, 3, 9, "queue 5.738775505244444 above 2.5", 1.0, 5.7).text()
    assert said == "1:00 up from 3 to 9 servers: queue 5.739 above 2.5 (100 % of slots busy, 5.7 waiting a server)"


def test_csv_has_a_line_a_design(kept: Plan) -> None:
    rows = list(csv.DictReader(io.StringIO(kept.to_csv())))
    assert len(rows) == len(kept.evaluated) > 30
    assert rows[0]["balancer"] in kept.space.balancers
    assert float(rows[0]["month_usd"]) > 0


def test_a_closed_loop_is_read_as_users_who_think() -> None:
    users = ClosedTraffic(users=20, think=Service("exponential", mean_s=5))
    found = plan(tiny().replace(traffic=users), slo="p95 < 20 s", trials=1, workers=1)
    assert "users with think time" in found.reading[0]
    assert found.budget is None
    assert found.met


def test_an_interrupted_search_knows_what_it_saw() -> None:
    of = given()

    class Stops:
        def __init__(self) -> None:
            self.left = 10

        def map(self, tasks: Any) -> Iterator[Outcome]:
            for task in tasks:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                yield outcome(of, task)

        def stop(self) -> None:
            pass

        def close(self) -> None:
            pass

    from aibalance.simulation._plan import so_far

    search = Search(of, Stops(), seed=1, trials=16, progress=None)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    known = so_far(search)
    assert 1 <= len(known) <= 5
    assert all(one.outcomes for one in known)


def test_notebooks_show_pages(kept: Plan) -> None:
    assert kept._repr_html_().startswith("<iframe srcdoc=")
    report = simulate(scenario(), picker="LeastRequest", policy="Fixed")
    assert "<table>" in report._repr_html_()
