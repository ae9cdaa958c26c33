"""What a scaling decision costs from Python, in nanoseconds. The clock moves on, so that the memory stays as long as
a controller's."""

from __future__ import annotations

import itertools

import pytest

from aibalance.autoscaling import HorizontalPodAutoscaler, Observation, Pods, PodsMetric, ResourceMetric

DECIDE = "p.recommend(o, now=next(t))"


def ticks() -> itertools.count[float]:
    return itertools.count(0.0, 15.0)


def test_hpa_over_an_aggregated_metric(timed) -> None:
    policy = HorizontalPodAutoscaler(max_replicas=30, metrics=[PodsMetric("queue", average_value=5)])
    seen = Observation(4, metrics={"queue": 7.5})
    timed("scaling decision", "HPA, aggregated", DECIDE, n=1, goal=1500, p=policy, o=seen, t=ticks())


@pytest.mark.parametrize("n", [10, 100, 1000])
def test_hpa_over_prebuilt_pods(n: int, timed) -> None:
    records = [{"name": f"p{i}", "containers": [{"name": "c", "requests": {"cpu": "500m"}}]} for i in range(n)]
    pods = Pods(records, metrics={"cpu": {f"p{i}": 0.3 for i in range(n)}})
    policy = HorizontalPodAutoscaler(max_replicas=3000, metrics=[ResourceMetric("cpu", average_utilization=50)])
    goal = 20_000 if n == 100 else None
    timed("scaling decision", "HPA, pods", DECIDE, n=n, goal=goal, p=policy, o=Observation(n, pods=pods), t=ticks())
