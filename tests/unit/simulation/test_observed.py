"""Real autoscalers in a simulation: their own metrics, their own cadence, their own decisions."""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError
from aibalance.autoscaling import (
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    KnativePodAutoscaler,
    PodsMetric,
    ResourceMetric,
    ScheduledAction,
    ScheduledScaling,
    SimpleScaling,
    TargetTracking,
)
from aibalance.autoscaling.keda import Trigger
from aibalance.capacity import Offer
from aibalance.simulation import (
    Fleet,
    GroupSpec,
    Observed,
    PiecewiseTraffic,
    PolicySpec,
    Scenario,
    ServerType,
    Service,
    compare,
    simulate,
)
from aibalance.simulation._drivers import PolicyDriver, build_policy, policy

STEP = Scenario(
    name="a step",
    traffic=PiecewiseTraffic(points=[(0, 2), (300, 20)]),
    service=Service("exponential", mean_s=1),
    duration_s=1500,
    slo_s=5,
    fleet=Fleet(types=[ServerType(name="pod")], min=2, max=40, load_s=30),
)
HPA = HorizontalPodAutoscaler(min_replicas=2, max_replicas=40, metrics=[PodsMetric("waiting", average_value=2)])


class Spy:
    """Asks for two, and remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, Any]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Spy:
        return self

    def recommend(self, observation: Any, /, *, now: float) -> Any:
        from types import SimpleNamespace

        self.seen.append((now, observation))
        return SimpleNamespace(desired=2)


def test_a_policy_reads_its_metrics_at_its_cadence() -> None:
    spy = Spy()
    metrics = {"a_minute": ("arrivals_per_s", 60), "busy": "utilization_percent"}
    simulate(STEP, picker="LeastRequest", policy=Observed(spy, metrics=metrics, every_s=20))
    times = [now for now, _ in spy.seen]
    assert times[0] == 345_620
    assert {b - a for a, b in pairwise(times)} == {20}
    shown = spy.seen[5][1]
    assert set(shown["metrics"]) == {"a_minute", "busy"}
    assert 60 < shown["metrics"]["a_minute"] < 240  # of 2 a second
    assert (shown["current"], shown["desired"], shown["warming"]) == (2, 2, 0)


def test_the_calendar_begins_where_one_says() -> None:
    spy = Spy()
    simulate(STEP, picker="LeastRequest", policy=Observed(spy, metrics={}, starts_at=1e9))
    assert spy.seen[0][0] == 1e9 + 60


def test_each_candidate_looks_as_often_as_its_system() -> None:
    policies = {"hpa": Observed(HPA, metrics={"waiting": "queue_per_server"}), "60 s": Spy()}
    found = compare(STEP, pickers=["LeastRequest"], policies=policies, replications=1)
    decisions = {name: reports[0].decisions for name, reports in found.reports.items()}
    assert list(decisions.values()) == [100, 25]


def test_means_of_the_fleet_stay_what_they_are_told_to_be() -> None:
    own = STEP.replace(fleet=Fleet(types=[ServerType(name="pod")], min=2, max=40, metric_period_s=120))
    observed = Observed(HPA, metrics={"waiting": "queue_per_server"})
    assert policy(observed, own).fleet.metric_period_s == 120
    assert policy(observed, own).fleet.decision_interval_s == 15
    assert policy(observed, STEP).fleet.metric_period_s == 15


def test_an_hpa_in_a_simulation_is_the_hpa() -> None:
    """The decisions of a run are those of a policy that is asked the same by hand."""
    asked: list[tuple[float, Any, Any]] = []

    class Recorder:
        def __init__(self) -> None:
            self.inner = copy.deepcopy(HPA)

        def recommend(self, observation: Any, /, *, now: float) -> Any:
            answer = self.inner.recommend(observation, now=now)
            asked.append((now, observation, answer.desired))
            return answer

    observed = {"waiting": "queue_per_server"}
    mine = simulate(
        STEP, picker="LeastRequest", policy=lambda: Observed(Recorder(), metrics=observed, every_s=60), seed=3
    )
    its = simulate(STEP, picker="LeastRequest", policy=Observed(HPA, metrics=observed, every_s=60), seed=3)
    assert mine.timeline["desired"].tolist() == its.timeline["desired"].tolist()
    again = copy.deepcopy(HPA)
    assert [again.recommend(seen, now=now).desired for now, seen, _ in asked] == [n for _, _, n in asked]
    # It grows at most to the double, or by four, in a look.
    assert max(n for _, _, n in asked) > 15


def test_keda_wakes_when_it_polls_and_grows_when_its_autoscaler_looks() -> None:
    scaled = KedaScaledObject(triggers=[Trigger(name="jobs", threshold=5)], max_replicas=20, cooldown_period=60)
    quiet = Observed(KedaAutoscaler(scaled), metrics={"jobs": "queue"})
    asked = [
        quiet.recommend({"current": n, "desired": n, "metrics": {"queue": q}}, now=now).desired
        for now, n, q in ((15, 0, 0), (30, 0, 40), (45, 0, 40), (60, 1, 40), (75, 4, 40), (90, 4, 0))
    ]
    # 15 and 45 are polls, 30 is none: nothing wakes there. The autoscaler grows by four at most, and holds for 300 s.
    assert asked == [0, None, 1, 4, 8, 8]


@pytest.mark.parametrize(
    ("polling", "every"), [(30, 15), (15, 15), (5, 5), (20, 5), (7, 1), (0, 15), (0.5, 0.5), (40.5, 15)]
)
def test_keda_is_looked_at_as_often_as_it_polls_and_its_autoscaler_decides(polling: float, every: float) -> None:
    scaled = KedaScaledObject(triggers=[Trigger(name="jobs", threshold=5)], polling_interval=polling)
    assert Observed(KedaAutoscaler(scaled), metrics={"jobs": "queue"}).every_s == every
    assert Observed(scaled, metrics={"jobs": "queue"}, every_s=3).every_s == 3
    if polling:
        assert Observed(scaled, metrics={"jobs": "queue"}).every_s == polling


def test_a_poll_between_two_decisions_of_its_autoscaler_wakes_and_no_more() -> None:
    scaled = KedaScaledObject(triggers=[Trigger(name="jobs", threshold=5)], max_replicas=20, polling_interval=5)
    quick = Observed(KedaAutoscaler(scaled), metrics={"jobs": "queue"})
    steps = ((5, 0, 0), (10, 0, 40), (15, 1, 40), (20, 1, 40), (25, 4, 40), (30, 4, 40), (35, 4, 40))
    asked = [quick.recommend({"current": n, "desired": n, "metrics": {"queue": q}}, now=t).desired for t, n, q in steps]
    # Both at 5, 20, 35; the polls between them change nothing where the autoscaler decides.
    assert asked == [0, 1, 1, 4, 4, 4, 8]
    own = Observed(KedaAutoscaler(scaled), metrics={"jobs": "queue"}, every_s=5)
    asked = [own.recommend({"current": n, "desired": n, "metrics": {"queue": q}}, now=t).desired for t, n, q in steps]
    assert asked[:4] == [0, 1, 4, 4]


def test_a_callable_cannot_say_how_often_it_is_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"every_s: 15.0 is not allowed; expected fleet.decision_interval_s, 60, of"):
        simulate(STEP, picker="LeastRequest", policy=lambda: Observed(HPA, metrics={"waiting": "queue_per_server"}))


def test_a_callable_has_to_make_a_policy() -> None:
    with pytest.raises(ConfigError, match=r"policy: None is not allowed; expected an object with a method 'recommend'"):
        simulate(STEP, picker="LeastRequest", policy=lambda: None)


def test_who_drains_is_not_counted_among_those_who_serve() -> None:
    """Metrics per server are over those who take requests, so what they are multiplied by is that number as well."""
    tracking = TargetTracking(metric="queue_per_server", target=5, max_capacity=50, high_alarm=None, low_alarm=None)
    seen = {"servers": 4.0, "ready": 4, "draining": 2, "warming": 0, "desired": 4, "utilization": 1.0}
    seen |= {"in_flight": 44.0, "queue_per_server": 10.0, "arrivals_per_s": 1.0}
    assert PolicyDriver(tracking)(60.0, seen) == 8  # for the 40 that wait


def test_a_policy_with_a_group_decides_at_its_own_cadence() -> None:
    offers = [Offer(type="a", zone="a", price=1.0)]
    for look, times in ((10, [7.5, 22.5, 37.5]), (4, [3.75, 18.75, 33.75]), (15, [15, 30, 45]), (100, [15, 30, 45])):
        bought = STEP.replace(groups=[GroupSpec(offers=offers, options={"launch_time": 60}, look_s=look)])
        spy = Spy()
        simulate(bought, picker="LeastRequest", policy=Observed(spy, metrics={}, every_s=15, starts_at=0))
        assert [now for now, _ in spy.seen[:3]] == times
    for look in (7, 11, 13):
        bought = STEP.replace(groups=[GroupSpec(offers=offers, options={"launch_time": 60}, look_s=look)])
        spy = Spy()
        simulate(bought, picker="LeastRequest", policy=Observed(spy, metrics={}, every_s=60, starts_at=0))
        assert {round(b - a, 3) for (a, _), (b, _) in pairwise(spy.seen)} == {60}


def test_keda_goes_to_nothing_after_its_cooldown() -> None:
    scaled = KedaScaledObject(triggers=[Trigger(name="jobs", threshold=5)], max_replicas=20, cooldown_period=60)
    batch = STEP.replace(
        traffic=PiecewiseTraffic(points=[(0, 0), (300, 2), (600, 0)]),
        fleet=Fleet(types=[ServerType(name="worker")], min=0, max=20, load_s=30),
    )
    report = simulate(
        batch, picker="SharedQueue", policy=Observed(KedaAutoscaler(scaled), metrics={"jobs": "queue"}), seed=1
    )
    desired = report.timeline["desired"]
    assert desired[0] == 0
    assert desired.max() > 1
    assert desired[-1] == 0
    assert report.all.rejected == 0


def test_knative_is_scraped_each_second_and_decides_each_two() -> None:
    knative = KnativePodAutoscaler(container_concurrency=1, min_scale=1, max_scale=40, target_burst_capacity=0)
    observed = Observed(knative, metrics={"concurrency": "in_flight"})
    seen = {"current": 2, "desired": 2, "metrics": {"in_flight": 7.0}}
    assert [observed.recommend(seen, now=float(now)).desired for now in (1, 2, 3, 4)] == [None, 10, None, 10]
    report = simulate(STEP, picker="LeastRequest", policy=Observed(knative, metrics={"concurrency": "in_flight"}))
    assert report.decisions == 1500
    assert report.servers_peak > 20


def test_a_schedule_follows_the_calendar() -> None:
    actions = [ScheduledAction(name="open", recurrence="10 0 * * MON", min_capacity=6)]
    schedule = ScheduledScaling(actions=actions, min_capacity=2, max_capacity=40)
    monday = simulate(STEP, picker="LeastRequest", policy=Observed(schedule, metrics={}))
    tuesday = simulate(STEP, picker="LeastRequest", policy=Observed(schedule, metrics={}, starts_at=345_600 + 86_400))
    assert (monday.servers_peak, tuesday.servers_peak) == (6, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": {"waiting": "queues"}}, "observes.waiting: 'queues' is not allowed; .* did you mean 'queue'"),
        ({"metrics": {"waiting": ("queue", 0)}}, "observes.waiting: 0 is not allowed"),
        ({"metrics": {"wating": "queue"}}, "observes: 'wating' is not allowed; .*did you mean 'waiting'"),
        ({"metrics": {}}, "observes: {} is not allowed; expected one or more of .* waiting"),
        ({"metrics": 3}, "observes: 3 is not allowed"),
        ({"every_s": 0}, "every_s: 0 is not allowed"),
        ({"starts_at": float("nan")}, "starts_at: nan is not allowed"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Observed(HPA, **{"metrics": {"waiting": "queue"}, **changes})
    with pytest.raises(ConfigError, match="policy: "):
        Observed(HorizontalPodAutoscaler, metrics={})


# In a scenario's table

TABLES: list[tuple[str, dict[str, Any], Any]] = [
    (
        "HorizontalPodAutoscaler",
        {
            "metrics": [{"source": "resource", "name": "cpu", "average_utilization": 60}],
            "behavior": {"scale_up": {"policies": [{"kind": "pods", "value": 4, "period": 60}]}},
        },
        ResourceMetric("cpu", average_utilization=60),
    ),
    ("KedaAutoscaler", {"triggers": [{"name": "jobs", "threshold": 5}], "cooldown_period": 60.0}, None),
    ("KnativePodAutoscaler", {"container_concurrency": 4}, None),
    ("RayServeAutoscaler", {"target_ongoing_requests": 3.0}, None),
    ("ProportionalScaling", {"metric": "busy", "target": 0.5}, None),
    ("SimpleScaling", {"metric": "cpu", "threshold": 80.0, "adjustment": 2}, None),
    ("ScheduledScaling", {"actions": [{"name": "a", "recurrence": "0 9 * * *", "min_capacity": 3}]}, None),
    (
        "ManagedInstanceGroup",
        {"signals": [{"metric": "cpu", "target": 0.6}], "scale_in_limit": {"max_scaled_in": "20%"}},
        None,
    ),
    ("AzureAutoscale", {"rules": [{"direction": "out", "metric": "cpu", "op": ">", "threshold": 70.0}]}, None),
    ("CloudRun", {"max_concurrency": 10}, None),
]


@pytest.mark.parametrize(("kind", "options", "metric"), TABLES, ids=[one[0] for one in TABLES])
def test_a_table_makes_the_policy_within_the_fleets_bounds(kind: str, options: dict[str, Any], metric: Any) -> None:
    names = {"KedaAutoscaler": "jobs", "KnativePodAutoscaler": "concurrency", "RayServeAutoscaler": "ongoing_requests"}
    names |= {"ProportionalScaling": "busy"}
    observes = {} if kind == "ScheduledScaling" else {names.get(kind, "cpu"): "utilization"}
    spec = PolicySpec(policy=kind, options={**options, "observes": observes, "every_s": 30})
    built = build_policy(spec, STEP.fleet)
    assert type(built.policy).__name__ == kind
    assert built.every_s == 30
    from aibalance.autoscaling._aims import bounds

    assert bounds(built.policy) == (2, 40)
    if metric is not None:
        assert built.policy.metrics == (metric,)
        assert built.policy.behavior.scale_up.policies[0].value == 4
    assert simulate(STEP.replace(duration_s=200), picker="LeastRequest", policy=spec).decisions == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{ metrics = [] }", "policies\\[0\\].options.observes: missing"),
        ("{ metrics = [{ source = 'pod' }], observes = {} }", "policies\\[0\\].options.metrics.source: 'pod'"),
        ("{ metrics = 3, observes = {} }", "policies\\[0\\].options.metrics: 3"),
        ("{ behavior = { up = { x = 1 } }, observes = {} }", "policies\\[0\\].options.*"),
        ("{ observes = { cpu = 'cpu' } }", "policies\\[0\\].options.observes.cpu: 'cpu'"),
        ("{ speed = 3, observes = {} }", "unexpected keyword argument 'speed'"),
        ("{ clock = 3, observes = {} }", "options.clock: not allowed"),
    ],
)
def test_a_wrong_table_is_told_with_its_line(tmp_path: Path, options: str, said: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        'name = "s"\nduration_s = 60\nslo_s = 1\n[traffic]\nkind = "poisson"\nrate_rps = 1\n[service]\n'
        'kind = "exponential"\nmean_s = 1\n[fleet]\nmin = 1\nmax = 3\n[[fleet.types]]\nname = "a"\n'
        f'[[policies]]\npolicy = "HorizontalPodAutoscaler"\noptions = {options}\n'
    )
    with pytest.raises(FormatError, match=f"line 1[5-7]: .*{said}"):
        Scenario.load(file)


def test_a_metric_beside_it_has_no_meaning() -> None:
    with pytest.raises(ConfigError, match=r"policies.metric: 'queue' has no meaning for SimpleScaling"):
        PolicySpec(policy="SimpleScaling", metric="queue")


def test_simple_scaling_waits_for_what_it_began() -> None:
    simple = SimpleScaling(metric="waiting", threshold=1, adjustment=3, max_capacity=40, alarm=None, cooldown=120)
    observed = Observed(simple, metrics={"waiting": "queue_per_server"}, every_s=30)
    report = simulate(STEP, picker="LeastRequest", policy=observed, seed=2)
    desired = report.timeline["desired"]
    steps = {int(b - a) for a, b in pairwise(desired)}
    assert steps == {0, 3}
