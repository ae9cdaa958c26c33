"""Whatever a scenario asks for, a run ends, adds up, and passes its own checks."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance.simulation import (
    Antagonists,
    ClosedTraffic,
    Dispatchers,
    Failures,
    Fleet,
    Hedging,
    Keys,
    LLMService,
    Network,
    PoissonTraffic,
    Reports,
    RequestClass,
    Retries,
    Scenario,
    ServerType,
    Service,
    simulate,
)

EXPONENTIAL = Service("exponential", mean_s=1)
SERVICES = st.sampled_from(
    [EXPONENTIAL, Service("deterministic", value_s=0), Service("bounded_pareto", alpha=1.1, low_s=0.1, high_s=50)]
)
BATCHES = st.builds(
    LLMService,
    input_tokens=st.sampled_from([0, 30, {"kind": "uniform", "low": 0, "high": 300}]),
    output_tokens=st.sampled_from([1, {"kind": "geometric", "mean": 20}]),
    kv_tokens=st.sampled_from([200, 400, 10_000]),
    prefill_chunk=st.sampled_from([16, 2048]),
    prefix_tokens=st.sampled_from([0, 64]),
    step_s=st.just(0.05),
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    batch = draw(st.booleans())
    discipline = "fifo" if batch else draw(st.sampled_from(["fifo", "priority", "sharing"]))
    limit = draw(maybe(st.integers(1, 5))) if discipline == "sharing" else None
    fleet: dict[str, Any] = {
        "min": draw(st.integers(1, 5)),
        "concurrency": draw(st.integers(1, 4)),
        "discipline": discipline,
        "sharing_limit": limit,
    }
    if discipline != "sharing" or limit is not None:
        fleet["queue_limit"] = draw(maybe(st.integers(0, 3)))
    if draw(st.booleans()):
        fleet.update(warm_speed=0.2, warm_s=5)
    classes = [RequestClass(name="a", priority=1, slo_s=2), RequestClass(name="b", share=0.5)]
    hedging = st.builds(Hedging, after_s=st.sampled_from([0, 0.5]), budget=maybe(st.just(0.3)), cancel=st.booleans())
    return Scenario(
        name="any",
        traffic=draw(
            st.sampled_from(
                [PoissonTraffic(rate_rps=3), PoissonTraffic(rate_rps=12), ClosedTraffic(users=15, think=EXPONENTIAL)]
            )
        ),
        service=draw(BATCHES if batch else SERVICES),
        fleet=Fleet(types=[ServerType(name="a", speed=draw(st.sampled_from([0.5, 3])))], **fleet),
        duration_s=20,
        discard_s=draw(st.sampled_from([0, 5])),
        slo_s=1,
        timeout_s=draw(maybe(st.sampled_from([0.5, 4]))),
        keys=draw(maybe(st.just(Keys(distinct=3)))),
        classes=draw(st.sampled_from([(), classes])),
        retries=draw(
            maybe(st.builds(Retries, backoff_s=st.sampled_from([0, 0.1]), attempt_timeout_s=maybe(st.just(1.5))))
        ),
        hedging=draw(maybe(hedging)),
        network=draw(maybe(st.sampled_from([Network(delay=0.05), Network(delay=EXPONENTIAL)]))),
        failures=draw(maybe(st.builds(Failures, mean_up_s=st.just(5), mean_down_s=st.sampled_from([0.5, 5])))),
        antagonists=draw(maybe(st.just(Antagonists(share=0.5, speed=0.1, mean_off_s=2)))),
        dispatchers=draw(
            maybe(
                st.sampled_from(
                    [Dispatchers(count=3), Dispatchers(view="board", refresh_s=1), Dispatchers(count=2, view="idle")]
                )
            )
        ),
        reports=draw(maybe(st.just(Reports(every_s=1)))),
    )


@settings(max_examples=150, deadline=None)
@given(scenarios(), st.booleans())
def test_every_run_ends_and_adds_up(of: Scenario, pulls: bool) -> None:
    if pulls:
        of = of.replace(hedging=None, dispatchers=None, reports=None)
    report = simulate(of, picker="SharedQueue" if pulls else "LeastRequest", seed=3, records=True)
    everything = report.all
    assert everything.served + everything.rejected + everything.timed_out + everything.failed == everything.requests
    assert 0 <= report.utilization <= 1 + 1e-9
    assert report.records is not None
    known = report.records.arrival >= of.discard_s
    assert int(known.sum()) == everything.requests
    assert (report.records.latency[known] >= 0).all()
    if of.timeout_s is not None:
        assert report.records.latency.max(initial=0) <= of.timeout_s + 1e-9
    if of.classes:
        assert sum(one.requests for one in report.classes.values()) == everything.requests
