"""PrefixAware as a balancer: the picker of production, fed by the engine's events."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError, PrefixAware, PrefixIndex, autoscaling
from aibalance.simulation import (
    BalancerSpec,
    Dispatchers,
    Failures,
    Fleet,
    Hedging,
    Keys,
    LLMService,
    Network,
    PoissonTraffic,
    Reports,
    Retries,
    Scenario,
    ServerType,
    Service,
    compare,
    simulate,
)

BLOCK = 64


def scenario(**changes: Any) -> Scenario:
    """Prompts of 40 conversations on caches that hold about eight each."""
    fields: dict[str, Any] = {
        "name": "prompts",
        "traffic": PoissonTraffic(rate_rps=8),
        "keys": Keys(distinct=40, zipf=0.5),
        "service": LLMService(
            input_tokens=200,
            prefix_tokens=2048,
            output_tokens={"kind": "geometric", "mean": 60},
            block_tokens=BLOCK,
            kv_tokens=20_000,
        ),
        "fleet": Fleet(types=[ServerType(name="a")], min=4, concurrency=16),
        "duration_s": 120.0,
        "slo_s": 10.0,
        "replications": 2,
    }
    return Scenario(**{**fields, **changes})


def spec(options: dict[str, Any] | None = None, **changes: Any) -> BalancerSpec:
    return BalancerSpec(picker="PrefixAware", options={"score": "ttft", **(options or {})}, **changes)


def outcome(found: Any) -> tuple[Any, ...]:
    return found.all.to_dict(), found.details


def reused(found: Any) -> float:
    computed = found.details["prompt_tokens_computed"]
    return float(found.details["prompt_tokens_reused"] / (found.details["prompt_tokens_reused"] + computed))


@pytest.mark.parametrize("score", ["ttft", "dynamo", "lmetric", "loadaware", "cache_aware"])
def test_it_decides_as_the_picker_itself_does(score: Any) -> None:
    def own(pool: Any) -> PrefixAware:
        return PrefixAware(pool, score=score, index=PrefixIndex(block_size=BLOCK, capacity=20_000 // BLOCK))

    case = scenario(fleet=Fleet(types=[ServerType(name="a"), ServerType(name="b", speed=2, weight=2)], min=4))
    native, driven = simulate(case, picker=spec({"score": score})), simulate(case, picker=own)
    assert outcome(native) == outcome(driven)
    assert reused(native) > reused(simulate(case, picker="RoundRobin")) + 0.1


def test_a_picker_lends_its_options_and_every_run_has_an_index_of_its_own() -> None:
    case = scenario()
    picker = PrefixAware(["x"], score="lmetric", index=PrefixIndex(block_size=BLOCK, capacity=312))
    first = simulate(case, picker=picker)
    assert outcome(first) == outcome(simulate(case, picker=picker))
    assert outcome(first) == outcome(simulate(case, picker=spec({"score": "lmetric"})))
    assert len(picker.index) == 0
    lent = PrefixIndex(block_size=BLOCK, capacity=312)
    assert outcome(first) == outcome(simulate(case, picker=spec({"score": "lmetric", "index": lent})))
    by_class = scenario(service=LLMService(input_tokens=200, output_tokens=9))
    assert simulate(by_class, picker=PrefixAware).picker == "PrefixAware"


@pytest.mark.parametrize(
    "changes",
    [
        {"options": {"score": "lmetric"}},
        {"options": {"memory_scale": 50.0}},
        {"options": {"fresh_scale": 0.2}},
        {"options": {"crowd_scale": 20.0}},
        {"options": {"temperature": 1.0}},
        {"options": {"bounded_load": 1.0}},
        {"options": {"index": {"ttl": 1.0}}},
        {"options": {"index": {"ttl": math.inf, "capacity": 40}}},
        {"cache_events_s": 0.0},
        {"growth": True, "options": {"memory_scale": 50.0}},
    ],
    ids=str,
)
def test_each_option_changes_what_happens(changes: dict[str, Any]) -> None:
    usual = {"options": {"memory_scale": 50.0}} if "growth" in changes else {}
    assert outcome(simulate(scenario(), picker=spec(**changes))) != outcome(simulate(scenario(), picker=spec(**usual)))


def test_events_know_what_was_thrown_out() -> None:
    """Caches that hold less than the picks of an endless memory let one believe: events find more, late ones less."""

    def found(**changes: Any) -> float:
        service = LLMService(
            input_tokens=200, prefix_tokens=2048, output_tokens=20, block_tokens=BLOCK, kv_tokens=12_000
        )
        options = {"index": {"ttl": changes.pop("ttl"), "capacity": 100_000}}
        case = scenario(service=service, duration_s=400.0)
        return sum(reused(simulate(case, picker=spec(options, **changes), seed=seed)) for seed in range(3)) / 3

    guessed = found(ttl=math.inf)
    told, late = found(ttl=1.0, cache_events_s=0.0), found(ttl=0.0, cache_events_s=5.0)
    assert told > guessed + 0.005
    assert told > late + 0.005


def test_reports_are_read() -> None:
    case = scenario(reports=Reports(every_s=0.5))
    assert outcome(simulate(case, picker=spec())) != outcome(simulate(scenario(), picker=spec()))
    older = spec({"max_report_age": 0.2})
    assert outcome(simulate(case, picker=older)) != outcome(simulate(case, picker=spec()))


def test_it_stands_whatever_happens_to_servers_and_requests() -> None:
    """The engine's own checks hold: every request ends, and every ticket is given back once."""
    case = scenario(
        fleet=Fleet(types=[ServerType(name="a")], min=2, max=8, initial=4, concurrency=8, queue_limit=6, load_s=5),
        traffic=PoissonTraffic(rate_rps=14),
        timeout_s=8,
        retries=Retries(max_attempts=3, attempt_timeout_s=4),
        hedging=Hedging(after_s=1.5),
        failures=Failures(mean_up_s=20, mean_down_s=3, detect_s=1),
        network=Network(delay=Service("exponential", mean_s=0.01)),
        reports=Reports(every_s=1),
    )
    policy = autoscaling.TargetTracking(metric="utilization", target=0.6, min_capacity=2, max_capacity=8)
    for one in (spec(), spec(cache_events_s=0.2, growth=True)):
        found = simulate(case.replace(fleet=case.fleet), picker=one, policy=policy)
        assert found.details["failures"] > 0
        assert found.details["hedges"] > 0
        assert found.all.served > 500
    with pytest.raises(ConfigError, match="slow_start_s"):
        simulate(scenario(fleet=Fleet(types=[ServerType(name="a")], slow_start_s=9)), picker=lambda pool: pool)
    slow = scenario(fleet=Fleet(types=[ServerType(name="a")], min=4, slow_start_s=9, concurrency=16))
    assert outcome(simulate(slow, picker=spec())) == outcome(simulate(scenario(), picker=spec()))


def test_several_balancers_know_their_own_picks_and_all_events() -> None:
    apart = scenario(dispatchers=Dispatchers(count=4, assign="rotate"))
    guessed, told = simulate(apart, picker=spec()), simulate(apart, picker=spec(cache_events_s=0.0))
    assert reused(guessed) < reused(simulate(scenario(), picker=spec()))
    assert reused(told) > reused(guessed)
    with pytest.raises(ConfigError, match=r"dispatchers\.view"):
        simulate(scenario(dispatchers=Dispatchers(count=2, view="idle")), picker=spec())


def test_ones_own_picker_may_take_prompts() -> None:
    class Own:
        prompts = True

        def __init__(self, pool: Any) -> None:
            index = PrefixIndex(block_size=BLOCK, capacity=20_000 // BLOCK)
            self.inner = PrefixAware(pool, score="ttft", index=index)
            self.seen: list[tuple[int, float]] = []

        def acquire(self, key: Any, *, cost: float) -> Any:
            self.seen.append((len(key), cost))
            return self.inner.acquire(key, cost=cost)

    made: list[Own] = []

    def make(pool: Any) -> Own:
        made.append(Own(pool))
        return made[-1]

    assert outcome(simulate(scenario(), picker=make)) == outcome(simulate(scenario(), picker=spec()))
    assert set(made[0].seen) == {(2048 // BLOCK, 2248)}


TOML = """
name = "prompts"
duration_s = 60
slo_s = 10
traffic = {{ kind = "poisson", rate_rps = 4 }}
keys = {{ distinct = 10 }}
{service}
[fleet]
min = 2
concurrency = 16
types = [{{ name = "a" }}]
[[balancers]]
picker = "RoundRobin"
[[balancers]]
picker = "PrefixAware"
cache_events_s = 0.1
growth = true
options = {{ score = "dynamo", prefill_scale = 16, index = {{ ttl = inf, capacity = {capacity} }} }}
"""
LLM = '[service]\nkind = "llm"\ninput_tokens = 100\nprefix_tokens = 1024\noutput_tokens = 20'


def test_a_scenario_file_names_it_with_its_options(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(TOML.format(service=LLM, capacity=500))
    case = Scenario.load(path)
    given = case.balancers[1]
    assert (given.cache_events_s, given.growth, given.options["prefill_scale"]) == (0.1, True, 16)
    found = compare(case, replications=2)
    assert set(found.reports) == {"RoundRobin", "PrefixAware"}
    assert all(reused(a) < reused(b) for a, b in zip(*found.reports.values(), strict=True))
    path.write_text(TOML.format(service=LLM, capacity=0))
    with pytest.raises(FormatError, match=r"line 22: balancers\[1\]\.options\.index\.capacity: 0 "):
        Scenario.load(path)
    path.write_text(TOML.format(service='[service]\nkind = "exponential"\nmean_s = 1', capacity=5))
    with pytest.raises(FormatError, match=r"balancers\[1\]\.picker: 'PrefixAware' .*llm"):
        Scenario.load(path)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: spec(cost="work"), "balancers.cost"),
        (lambda: spec(cache_events_s=-1.0), "balancers.cache_events_s"),
        (lambda: spec(growth=1), "balancers.growth"),
        (lambda: BalancerSpec(picker="LeastRequest", growth=True), "balancers.growth"),
        (lambda: BalancerSpec(picker="SharedQueue", cache_events_s=1.0), "balancers.cache_events_s"),
        (lambda: simulate(scenario(), picker=spec({"index": 3})), "balancers.options.index"),
        (lambda: simulate(scenario(), picker=spec({"index": {"room": 3}})), "balancers.options.index"),
        (
            lambda: simulate(scenario(), picker=spec({"index": {"block_size": 3}})),
            "balancers.options.index.block_size",
        ),
        (lambda: simulate(scenario(), picker=PrefixAware([])), "balancers.options.index.block_size"),
        (lambda: simulate(scenario(), picker=spec({"score": "best"})), "balancers.options.score"),
        (lambda: simulate(scenario(), picker=spec({"beta": 1.0})), "balancers.options.beta"),
        (lambda: simulate(scenario(service=Service("exponential", mean_s=1)), picker=spec()), "balancers.picker"),
    ],
)
def test_what_cannot_be_is_told(make: Any, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(f"{field}:")
