"""A local Ray cluster with one deployment, our router and our scaling policy; prints what happened as JSON.

A program of its own, so that Ray's warnings and processes stay out of the tests' process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections import Counter

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from aibalance.integrations.ray_serve import ReplicaPicker


@serve.deployment(
    max_ongoing_requests=4,
    ray_actor_options={"num_cpus": 0.1},
    request_router_config=RequestRouterConfig(
        request_router_class="aibalance.integrations.ray_serve.RequestRouter",
        request_router_kwargs={"picker": "LeastConnections"},
    ),
    autoscaling_config=AutoscalingConfig(
        min_replicas=1,
        max_replicas=2,
        upscale_delay_s=0,
        downscale_delay_s=0,
        metrics_interval_s=0.2,
        look_back_period_s=1,
        policy=AutoscalingPolicy(
            policy_function="aibalance.integrations.ray_serve:AutoscalingPolicy",
            policy_kwargs={
                "policy": "RayServeAutoscaler",
                "options": {"target_ongoing_requests": 2.0, "upscale_delay": 0.5, "downscale_delay": 1.0},
            },
        ),
    ),
)
class Model:
    async def __call__(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()


def replicas() -> int:
    seen = serve.status().applications["default"].deployments["Model"].replica_states
    return sum(count for state, count in seen.items() if str(getattr(state, "value", state)) == "RUNNING")


def until(count: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while replicas() != count and time.monotonic() < end:
        time.sleep(0.2)
    return replicas()


def main() -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level="ERROR",
    )
    serve.start(http_options={"location": "NoServer"})
    handle = serve.run(Model.bind(), name="default", route_prefix=None)
    said = {"start": until(1, 30), "first": handle.remote(0.0).result() > 0}
    # Eight at a time, of half a second each: two replicas' worth of four.
    end = time.monotonic() + 60
    pending = [handle.remote(0.5) for _ in range(8)]
    while replicas() < 2 and time.monotonic() < end:
        pending = [*pending[1:], handle.remote(0.5)]
        pending[0].result()
    said["up"] = replicas()
    for one in pending:
        one.result()
    spread = Counter(one.result() for one in [handle.remote(0.3) for _ in range(8)])
    said["spread"] = sorted(spread.values())
    said["down"] = until(1, 60)
    # The router of this process, and what it has counted.
    (picker,) = [one for one in gc.get_objects() if isinstance(one, ReplicaPicker)]
    said["counted"] = sum(record.successes for record in picker.pool.stats()) > 0
    said["inflight"] = sum(record.inflight for record in picker.pool.stats())
    # Ray's own lines go to the same place.
    print(f"\nSAID {json.dumps(said)}", flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
