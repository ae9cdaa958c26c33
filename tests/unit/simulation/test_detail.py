"""Disciplines, batches, shared queues, retries, hedging, classes, closed loops, failures, several balancers."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aibalance
from aibalance import ConfigError, FormatError
from aibalance.simulation import (
    OUTCOMES,
    Antagonists,
    BalancerSpec,
    ClosedTraffic,
    Dispatchers,
    Failures,
    Fleet,
    Hedging,
    LLMService,
    Network,
    PoissonTraffic,
    Reports,
    RequestClass,
    Retries,
    Scenario,
    ServerType,
    Service,
    TraceTraffic,
    compare,
    simulate,
)
from aibalance.traces import Trace

EXPONENTIAL = Service("exponential", mean_s=1)
EXAMPLES = Path(__file__).parents[3] / "examples"


def scenario(**changes: Any) -> Scenario:
    fields: dict[str, Any] = {
        "name": "small",
        "traffic": PoissonTraffic(rate_rps=8),
        "service": EXPONENTIAL,
        "fleet": Fleet(types=[ServerType(name="a")], min=10),
        "duration_s": 300.0,
        "slo_s": 3.0,
        "replications": 2,
    }
    return Scenario(**{**fields, **changes})


def fleet(**changes: Any) -> Fleet:
    fields: dict[str, Any] = {"types": [ServerType(name="a")], "min": 10}
    return Fleet(**{**fields, **changes})


def llm(**changes: Any) -> LLMService:
    fields: dict[str, Any] = {"input_tokens": 500, "output_tokens": {"kind": "geometric", "mean": 50}}
    return LLMService(**{**fields, **changes})


PLAIN = simulate(scenario(), picker="LeastRequest")


@pytest.mark.parametrize(
    "changes",
    [
        {"fleet": fleet(discipline="sharing")},
        {"retries": Retries(attempt_timeout_s=2)},
        {"hedging": Hedging(after_s=1, budget=None)},
        {"network": Network(delay=0.1)},
        {"traffic": ClosedTraffic(users=20, think=1)},
        {"failures": Failures(mean_up_s=50, mean_down_s=10)},
        {"antagonists": Antagonists(share=0.5, speed=0.5)},
        {"dispatchers": Dispatchers(count=3)},
        {"dispatchers": Dispatchers(view="board", refresh_s=1)},
        {"dispatchers": Dispatchers(count=3, view="idle")},
        {"classes": [RequestClass(name="long", service=Service("exponential", mean_s=1.1))]},
        {"service": llm(), "fleet": fleet(concurrency=8)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_each_option_alone_changes_the_run(changes: dict[str, Any]) -> None:
    of = scenario(**changes)
    report = simulate(of, picker="LeastRequest")
    assert report.all.mean_s != PLAIN.all.mean_s
    again = simulate(of, picker="LeastRequest")
    assert report.to_dict() == again.to_dict()
    all_of = report.all
    assert all_of.served + all_of.rejected + all_of.timed_out + all_of.failed == all_of.requests
    assert pickle.loads(pickle.dumps(of)) == of


@pytest.mark.parametrize(
    ("base", "option"),
    [
        ({"fleet": fleet(discipline="sharing")}, {"fleet": fleet(discipline="sharing", sharing_limit=1)}),
        ({"retries": Retries(attempt_timeout_s=2)}, {"retries": Retries(attempt_timeout_s=2, max_attempts=1)}),
        ({"retries": Retries(attempt_timeout_s=2)}, {"retries": Retries(attempt_timeout_s=2, backoff_s=1)}),
        ({"retries": Retries(attempt_timeout_s=2)}, {"retries": Retries(attempt_timeout_s=2, budget=None)}),
        ({"retries": Retries(attempt_timeout_s=2)}, {"retries": Retries(attempt_timeout_s=2, budget_burst=0)}),
        ({"retries": Retries(attempt_timeout_s=2)}, {"retries": Retries(attempt_timeout_s=2), "work_per": "attempt"}),
        ({"hedging": Hedging(after_s=1)}, {"hedging": Hedging(after_quantile=0.9)}),
        ({"hedging": Hedging(after_s=1)}, {"hedging": Hedging(after_s=1, budget=0.5)}),
        ({"hedging": Hedging(after_s=1)}, {"hedging": Hedging(after_s=1, budget_burst=0)}),
        ({"hedging": Hedging(after_s=1)}, {"hedging": Hedging(after_s=1, cancel=False)}),
        ({"failures": Failures(mean_up_s=50, mean_down_s=10)}, {"failures": Failures(mean_up_s=40, mean_down_s=10)}),
        ({"failures": Failures(mean_up_s=50, mean_down_s=10)}, {"failures": Failures(mean_up_s=50, mean_down_s=20)}),
        (
            {"failures": Failures(mean_up_s=50, mean_down_s=10)},
            {"failures": Failures(mean_up_s=50, mean_down_s=10, detect_s=0)},
        ),
        ({"antagonists": Antagonists(share=0.5, speed=0.5)}, {"antagonists": Antagonists(share=0.9, speed=0.5)}),
        (
            {"antagonists": Antagonists(share=0.5, speed=0.5, mean_off_s=1)},
            {"antagonists": Antagonists(share=0.5, speed=0.5, mean_off_s=1, mean_on_s=2)},
        ),
        (
            {"dispatchers": Dispatchers(view="board", refresh_s=1)},
            {"dispatchers": Dispatchers(view="board", refresh_s=1, correct=True)},
        ),
        ({"dispatchers": Dispatchers(count=3)}, {"dispatchers": Dispatchers(count=3, assign="rotate")}),
    ],
    ids=str,
)
def test_each_parameter_alone_changes_the_run(base: dict[str, Any], option: dict[str, Any]) -> None:
    one, two = (simulate(scenario(**given), picker="LeastRequest") for given in (base, option))
    assert one.all.mean_s != two.all.mean_s


@pytest.mark.parametrize(
    "changes",
    [
        {"input_tokens": {"kind": "uniform", "low": 100, "high": 900}},
        {"output_tokens": 50},
        {"step_s": 0.02},
        {"sequence_s": 0.01},
        {"prefill_s_per_token": 0.0002},
        {"cached_s_per_token": 1e-6},
        {"prefill_chunk": 100},
        {"kv_tokens": 1500},
        {"prefix_tokens": 400},
    ],
    ids=str,
)
def test_each_parameter_of_a_batch_changes_the_run(changes: dict[str, Any]) -> None:
    one, two = (
        simulate(scenario(service=service, fleet=fleet(concurrency=8)), picker="LeastRequest")
        for service in (llm(), llm(**changes))
    )
    assert one.all.mean_s != two.all.mean_s
    assert one.details["first_token_mean_s"] < one.all.mean_s


def test_a_prefix_is_shared_by_key_and_block() -> None:
    from aibalance.simulation import Keys

    def reused(**changes: Any) -> float:
        of = scenario(service=llm(prefix_tokens=320, **changes), fleet=fleet(concurrency=8), keys=Keys(distinct=5))
        return simulate(of, picker="RingHash").details["prompt_tokens_reused"]

    # Nearly every request finds its prefix; only full blocks count.
    total = 320 * simulate(scenario(), picker="LeastRequest").all.requests
    assert reused() > 0.95 * total
    assert reused(block_tokens=200) == pytest.approx(200 / 320 * total, rel=0.05)


def test_a_trace_with_blocks_goes_where_its_prefix_is() -> None:
    rng = np.random.default_rng(1)
    n = 3000
    talks = rng.integers(0, 100, n)
    offsets = np.arange(n + 1) * 8
    values = (talks[:, None] * 8 + np.arange(8)).ravel()
    trace = _trace(rng, n, values, offsets)
    of = scenario(
        traffic=TraceTraffic(trace=trace),
        service=LLMService(block_tokens=64, kv_tokens=15_000),
        fleet=fleet(min=4, concurrency=32),
    )
    hashed, turns = (simulate(of, picker=name) for name in ("RingHash", "RoundRobin"))
    assert hashed.details["prompt_tokens_reused"] > 1.5 * turns.details["prompt_tokens_reused"]
    assert hashed.details["tokens_written"] == turns.details["tokens_written"]
    assert hashed.all.served == turns.all.served == hashed.all.requests
    computed = hashed.details["prompt_tokens_computed"] + hashed.details["prompt_tokens_reused"]
    assert computed >= hashed.all.requests * (8 * 64 + 10)


def _trace(rng: np.random.Generator, n: int, values: Any, offsets: Any) -> Trace:
    arrival = np.cumsum(rng.exponential(0.1, n))
    return Trace(
        "talks",
        "made up",
        arrival - arrival[0],
        np.full(n, 8 * 64 + 10),
        rng.integers(1, 60, n),
        values,
        offsets,
    )


def test_a_shared_queue_beats_pushing_and_is_a_candidate() -> None:
    comparison = compare(scenario(), pickers=["RoundRobin", "SharedQueue"])
    assert comparison.names[0] == "SharedQueue"
    limited = BalancerSpec(picker="SharedQueue", options={"limit": 0})
    report = simulate(scenario(), picker=limited)
    # Nobody waits: M/M/10/10 with 8 erlangs loses 12.2 %.
    assert report.all.wait_mean_s == 0
    assert report.all.rejected / report.all.requests == pytest.approx(0.1217, abs=0.03)
    busy = scenario(traffic=PoissonTraffic(rate_rps=12))
    longest = BalancerSpec(picker="SharedQueue", options={"longest_wait_s": 1.0})
    report = simulate(busy, picker=longest)
    assert report.all.rejected == report.details["turned_away"] > 0
    assert report.all.wait_mean_s < 1.2
    assert 0 < report.details["eta_error_s"] < 0.5


def test_classes_have_their_own_work_objective_and_turn() -> None:
    classes = [
        RequestClass(name="chat", share=3, slo_s=2, service=Service("exponential", mean_s=0.5)),
        RequestClass(name="batch", share=1, priority=5, slo_s=50, service=Service("exponential", mean_s=3)),
    ]
    of = scenario(classes=classes, duration_s=2000, traffic=PoissonTraffic(rate_rps=7.5))
    first = simulate(of.replace(fleet=fleet(discipline="priority")), picker="LeastRequest")
    turns = simulate(of, picker="LeastRequest")
    assert set(first.classes) == {"chat", "batch"}
    assert first.classes["chat"].requests == pytest.approx(3 * first.classes["batch"].requests, rel=0.1)
    assert first.classes["chat"].wait_mean_s < 0.8 * turns.classes["chat"].wait_mean_s
    assert first.classes["batch"].wait_mean_s > turns.classes["batch"].wait_mean_s
    assert first.classes["batch"].within_slo > 0.99
    total = sum(one.requests for one in first.classes.values())
    assert total == first.all.requests
    assert "chat: " in first.summary()
    pulled = simulate(of, picker="SharedQueue")
    assert pulled.classes["chat"].wait_mean_s < first.classes["chat"].wait_mean_s


def test_closed_loops_slow_down_with_the_servers() -> None:
    # 100 users, thinking 10 s, work of 1 s on servers that never make wait: 100 / 11 a second.
    of = scenario(
        traffic=ClosedTraffic(users=100, think=Service("exponential", mean_s=10)), fleet=fleet(min=40), duration_s=2000
    )
    report = simulate(of, picker="LeastRequest")
    assert report.all.requests / 2000 == pytest.approx(100 / 11, rel=0.03)
    # 4 servers do 4 a second, whatever the users want.
    report = simulate(of.replace(fleet=fleet(min=4)), picker="LeastRequest")
    assert report.all.requests / 2000 == pytest.approx(4, rel=0.03)
    # Response time law: N = X (R + Z).
    assert report.all.mean_s == pytest.approx(100 / (report.all.requests / 2000) - 10, rel=0.05)


def test_five_thousand_users() -> None:
    of = scenario(
        traffic=ClosedTraffic(users=5000, think=Service("exponential", mean_s=30)),
        fleet=fleet(min=200),
        duration_s=300,
        discard_s=100,
    )
    report = simulate(of, picker="LeastRequest")
    assert report.all.requests / 200 == pytest.approx(5000 / 31, rel=0.03)


def test_failures_are_outcomes_and_retries_cure_them() -> None:
    failing = scenario(failures=Failures(mean_up_s=100, mean_down_s=20, detect_s=10), duration_s=1000)
    report = simulate(failing, picker="RoundRobin", records=True)
    assert report.records is not None
    assert np.count_nonzero(report.records.outcome == OUTCOMES.index("failure")) == report.all.failed > 0
    assert report.details["failures"] > 20
    assert "failed" in report.summary()
    cured = simulate(failing.replace(retries=Retries(budget=None)), picker="RoundRobin")
    assert cured.all.failed < 0.2 * report.all.failed
    assert cured.details["retries"] > 0


def test_new_servers_get_warm_and_their_share_by_and_by() -> None:
    def after_growth(**changes: Any) -> float:
        of = scenario(
            fleet=fleet(min=4, max=8, initial=4, decision_interval_s=20, **changes),
            traffic=PoissonTraffic(rate_rps=5),
            duration_s=120,
        )

        class Grow:
            def recommend(self, seen: Any, *, now: float) -> Any:
                return type("Found", (), {"desired": 8})

        return simulate(of, picker="LeastRequest", policy=Grow()).all.mean_s

    plain = after_growth()
    cold = after_growth(warm_speed=0.1, warm_s=60)
    careful = after_growth(slow_start_s=60)
    assert len({plain, cold, careful}) == 3
    assert cold > plain


def test_a_picker_of_your_own_meets_all_of_it() -> None:
    class Mine:
        def __init__(self, pool: Any) -> None:
            self.inner = aibalance.LeastRequest(pool)

        def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
            return self.inner.acquire(key, cost=cost)

    rich = {
        "retries": Retries(attempt_timeout_s=3),
        "hedging": Hedging(after_quantile=0.9),
        "network": Network(delay=0.05),
        "failures": Failures(mean_up_s=100, mean_down_s=10),
        "dispatchers": Dispatchers(count=2),
        "duration_s": 100.0,
    }
    mine, ours = (simulate(scenario(**rich), picker=picker) for picker in (Mine, aibalance.LeastRequest))
    assert mine.all.requests == ours.all.requests
    assert mine.all.mean_s == pytest.approx(ours.all.mean_s, rel=0.3)
    with pytest.raises(ConfigError, match=r"dispatchers\.view"):
        simulate(scenario(dispatchers=Dispatchers(view="board", refresh_s=1)), picker=Mine)


def test_pickers_by_latency_have_no_board() -> None:
    for picker in ("PeakEwma", "LeastTime", "Prequal"):
        with pytest.raises(ConfigError, match=r"dispatchers\.view.*local"):
            simulate(scenario(dispatchers=Dispatchers(view="idle")), picker=picker)


def test_more_information_is_better_and_herds_are_worse() -> None:
    def mean(choices: int, refresh: float) -> float:
        of = scenario(
            traffic=PoissonTraffic(rate_rps=90),
            fleet=fleet(min=100),
            dispatchers=Dispatchers(view="board", refresh_s=refresh),
        )
        return simulate(of, picker=BalancerSpec(picker="LeastRequest", options={"choices": choices})).all.mean_s

    assert mean(10, 0.1) < mean(2, 0.1)
    assert mean(10, 10) > mean(2, 10) > mean(2, 0.1)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: fleet(discipline="lifo"), "fleet.discipline"),
        (lambda: fleet(sharing_limit=2), "fleet.sharing_limit"),
        (lambda: fleet(discipline="sharing", sharing_limit=0), "fleet.sharing_limit"),
        (lambda: fleet(discipline="sharing", queue_limit=2), "fleet.queue_limit"),
        (lambda: fleet(warm_speed=0.5), "fleet.warm_s"),
        (lambda: fleet(warm_speed=2, warm_s=1), "fleet.warm_speed"),
        (lambda: fleet(slow_start_s=0), "fleet.slow_start_s"),
        (lambda: Retries(max_attempts=0), "retries.max_attempts"),
        (lambda: Retries(backoff_s=-1), "retries.backoff_s"),
        (lambda: Retries(budget=math.nan), "retries.budget"),
        (lambda: Retries(budget_burst=math.inf), "retries.budget_burst"),
        (lambda: Retries(attempt_timeout_s=0), "retries.attempt_timeout_s"),
        (lambda: Hedging(), "hedging.after_s"),
        (lambda: Hedging(after_s=1, after_quantile=0.5), "hedging.after_s"),
        (lambda: Hedging(after_quantile=1), "hedging.after_quantile"),
        (lambda: Hedging(after_s=1, cancel=1), "hedging.cancel"),  # type: ignore[arg-type]
        (lambda: Network(delay={"kind": "x"}), "network.delay.kind"),  # type: ignore[arg-type]
        (lambda: Network(delay=-1), "network.delay"),
        (lambda: Failures(mean_up_s=0, mean_down_s=1), "failures.mean_up_s"),
        (lambda: Antagonists(share=1.5, speed=1), "antagonists.share"),
        (lambda: Antagonists(share=1, speed=0), "antagonists.speed"),
        (lambda: Dispatchers(count=0), "dispatchers.count"),
        (lambda: Dispatchers(view="board"), "dispatchers.refresh_s"),
        (lambda: Dispatchers(refresh_s=1), "dispatchers.refresh_s"),
        (lambda: Dispatchers(correct=True), "dispatchers.correct"),
        (lambda: ClosedTraffic(users=0, think=1), "traffic.users"),
        (lambda: ClosedTraffic(users=1, think=math.nan), "traffic.think"),
        (lambda: LLMService(input_tokens=1), "service.output_tokens"),
        (lambda: llm(output_tokens={"kind": "geometric", "mean": 0.5}), "service.output_tokens.mean"),
        (lambda: llm(input_tokens={"kind": "gamma", "mean": 0, "cv": 1}), "service.input_tokens.mean"),
        (lambda: llm(step_s=0, sequence_s=0), "service.step_s"),
        (lambda: llm(kv_tokens=0), "service.kv_tokens"),
        (lambda: llm(block_tokens=0, prefix_tokens=5), "service.prefix_tokens"),
        (lambda: RequestClass(name="", share=1), "classes.name"),
        (lambda: RequestClass(name="a", priority=256), "classes.priority"),
        (lambda: scenario(classes=[RequestClass(name="a"), RequestClass(name="a")]), "classes[1].name"),
        (lambda: scenario(classes=[RequestClass(name="a", share=0)]), "classes[0].share"),
        (lambda: scenario(work_per="attempt"), "work_per"),
        (lambda: scenario(retries={"max_attempts": 2}), "retries"),
        (lambda: scenario(service=LLMService()), "service.input_tokens"),
        (lambda: scenario(service=llm(), fleet=fleet(discipline="sharing")), "fleet.discipline"),
        (lambda: scenario(service=llm(), classes=[RequestClass(name="a", service=EXPONENTIAL)]), "classes[0].service"),
        (lambda: BalancerSpec(picker="SharedQueue", cost="work"), "balancers.weights"),
        (lambda: simulate(scenario(hedging=Hedging(after_s=1)), picker="SharedQueue"), "hedging"),
        (lambda: simulate(scenario(dispatchers=Dispatchers()), picker="SharedQueue"), "dispatchers"),
        (
            lambda: simulate(scenario(), picker=BalancerSpec(picker="SharedQueue", options={"limits": 1})),
            "balancers.options.limits",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(f"{field}:")


TOML = """\
name = "all of it"
duration_s = 60
slo_s = 3
work_per = "attempt"

[traffic]
kind = "closed"
users = 20
think = { kind = "exponential", mean_s = 2 }

[service]
kind = "exponential"
mean_s = 0.5

[fleet]
min = 4
discipline = "priority"
warm_speed = 0.5
warm_s = 10

[[fleet.types]]
name = "a"

[[classes]]
name = "chat"
share = 3

[[classes]]
name = "batch"
priority = 1
service = { kind = "deterministic", value_s = 1 }

[retries]
attempt_timeout_s = 5

[hedging]
after_quantile = 0.95

[network]
delay = 0.001

[failures]
mean_up_s = 600
mean_down_s = 30

[antagonists]
share = 0.25
speed = 0.5

[dispatchers]
count = 2

[[balancers]]
picker = "LeastRequest"
"""


def test_a_scenario_file_says_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(TOML)
    found = Scenario.load(path)
    assert found.traffic == ClosedTraffic(users=20, think=Service("exponential", mean_s=2))
    assert found.classes[1] == RequestClass(name="batch", priority=1, service=Service("deterministic", value_s=1))
    assert found.dispatchers == Dispatchers(count=2)
    assert simulate(found).all.requests > 200
    for old, new, line, what in [
        ("count = 2", "count = 0", 51, r"dispatchers\.count"),
        ("priority = 1", "priority = -1", 30, r"classes\[1\]\.priority"),
        ('think = { kind = "exponential", mean_s = 2 }', "", 6, r"traffic\.think: missing"),
        ("[hedging]\nafter_quantile", "[hedging]\nafter", 37, r"hedging\.after: unknown key.*after_s"),
        ("share = 0.25\n", "", 46, r"antagonists\.share: missing"),
        ('discipline = "priority"', 'discipline = "prio"', 17, "did you mean 'priority'"),
        ('picker = "LeastRequest"', 'picker = "SharedQueue"\noptions = { limit = -1 }', 55, r"options\.limit"),
    ]:
        assert TOML.count(old) == 1
        path.write_text(TOML.replace(old, new))
        with pytest.raises(FormatError, match=f"line {line}: .*{what}"):
            Scenario.load(path)


def test_a_scenario_file_of_a_language_model(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    text = """\
name = "chat"
duration_s = 30
slo_s = 10
[traffic]
kind = "poisson"
rate_rps = 20
[service]
kind = "llm"
input_tokens = { kind = "lognormal", mean = 800, cv = 1.5 }
output_tokens = { kind = "geometric", mean = 100 }
prefix_tokens = 256
[keys]
distinct = 10
[fleet]
min = 2
concurrency = 64
[[fleet.types]]
name = "H100"
"""
    path.write_text(text)
    report = simulate(Scenario.load(path), picker="RingHash")
    assert report.details["prompt_tokens_reused"] > 0
    path.write_text(text.replace("mean = 100", "mean_s = 100"))
    with pytest.raises(FormatError, match=r"line 10: service\.output_tokens"):
        Scenario.load(path)


def test_reports_and_probes_reach_those_who_read_them() -> None:
    def mean(picker: str, **options: Any) -> float:
        slow = Antagonists(share=0.5, speed=0.3, mean_on_s=5, mean_off_s=5)
        of = scenario(antagonists=slow, dispatchers=Dispatchers(count=5), duration_s=100, **options)
        return simulate(of, picker=picker).all.mean_s

    without = {name: mean(name) for name in ("Prequal", "ClientSideWeightedRoundRobin", "RoundRobin")}
    probes, every = Reports(), Reports(every_s=1, probes=False)
    assert mean("Prequal", reports=probes) != without["Prequal"]
    assert mean("Prequal", reports=every) not in (without["Prequal"], mean("Prequal", reports=probes))
    assert mean("ClientSideWeightedRoundRobin", reports=every) != without["ClientSideWeightedRoundRobin"]
    assert mean("RoundRobin", reports=Reports(every_s=1)) == without["RoundRobin"]
    for wrong in ({"every_s": 0}, {"probes": False}, {"probes": 1}):
        with pytest.raises(ConfigError, match=r"reports\."):
            Reports(**wrong)  # type: ignore[arg-type]


def test_a_picker_of_your_own_gets_reports() -> None:
    def mine(pool: Any) -> Any:
        return aibalance.LeastRequest(pool)

    of = scenario(dispatchers=Dispatchers(count=2), duration_s=100.0)
    told = simulate(of.replace(reports=Reports(every_s=0.5)), picker=mine)
    assert told.all.mean_s != simulate(of, picker=mine).all.mean_s


LOADS = tuple(0.75 * (10 / 9) ** k for k in range(9))
"""The nine steps of the paper, 0.75 to 1.74 of the allocation."""


@pytest.mark.parametrize("load", LOADS if os.environ.get("AIBALANCE_FULL") == "1" else (LOADS[3], LOADS[8]))
def test_prequal_beats_least_request_and_round_robin_beside_antagonists(load: float) -> None:
    of = Scenario.load(EXAMPLES / "antagonists.toml")
    if os.environ.get("AIBALANCE_FULL") != "1":
        of = of.replace(duration_s=6.0, discard_s=1.5)
    of = of.replace(traffic=PoissonTraffic(rate_rps=load * 5000))
    prequal, least, turns = (simulate(of, picker=one).all.p99_9_s for one in of.balancers)
    assert prequal < least < turns or (prequal < least and turns == 5.0)
    if load > 1:
        assert prequal < 0.8 * least
