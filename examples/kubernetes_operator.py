"""An operator that scales Deployments by their queue: `kopf run --all-namespaces -m examples.kubernetes_operator`.

A Deployment takes part by its annotations:

    kubectl annotate deployment llm aibalance/policy=queue aibalance/max-replicas=20
    kubectl annotate deployment llm aibalance/query='sum(vllm:num_requests_waiting{app="llm"})'
    kubectl annotate deployment llm aibalance/paused=true   # until it is taken away again

See docs/integrations/kubernetes.md for the rights that it needs.
"""

from __future__ import annotations

import os

import httpx

from aibalance.autoscaling import Policy, ProportionalScaling
from aibalance.integrations.kubernetes import DeploymentScaler, Target

PROMETHEUS = os.environ.get("PROMETHEUS", "http://prometheus.monitoring:9090")


def by_queue(target: Target) -> Policy:
    """Five requests in the queue for each pod."""
    return ProportionalScaling(
        metric="queue", metric_type="total", target=5, min_capacity=target.minimum, max_capacity=target.maximum
    )


async def metrics(target: Target) -> dict[str, float] | None:
    """What the Deployment's own query says; None, and so no scaling, when it says nothing."""
    query = target.annotations["aibalance/query"]
    async with httpx.AsyncClient(base_url=PROMETHEUS, timeout=5) as http:
        answer = await http.get("/api/v1/query", params={"query": query})
    series = answer.raise_for_status().json()["data"]["result"]
    return {"queue": float(series[0]["value"][1])} if len(series) == 1 else None


scaler = DeploymentScaler({"queue": by_queue}, metrics)
scaler.register()
