"""Replays the cloud cases of Ray Serve, Google, Azure, AIBrix, and AWS's schedules, forecasts and capacity."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aibalance import ConfigError
from aibalance.autoscaling import (
    AibrixApa,
    AzureAutoscale,
    AzureRule,
    CloudRun,
    GroupSignal,
    ManagedInstanceGroup,
    PredictiveScaling,
    RayServeAutoscaler,
    Recommendation,
    ScaleInLimit,
    ScalingSchedule,
    ScheduledAction,
    ScheduledScaling,
    adjust_to_capacity,
    round_to_gangs,
    scale_by_factor,
)
from aibalance.capacity import (
    Backend,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    PriceBlend,
    WarmPool,
    check_backends,
    rebalance_ceiling,
)
from aibalance.integrations.ray_serve import backoff

Case = dict[str, Any]

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
MOST = 2**31 - 1


class Unsupported(KeyError):
    """An input that asks for something no policy decides."""


def known(i: Case, *names: str) -> None:
    if unknown := set(i) - set(names):
        raise Unsupported(sorted(unknown))


# Ray Serve


def _ray(i: Case, **changed: Any) -> RayServeAutoscaler:
    fields = {
        "target_ongoing_requests": "target_ongoing_requests",
        "min_replicas": "min_replicas",
        "max_replicas": "max_replicas",
        "initial_replicas": "initial_replicas",
        "upscaling_factor": "upscaling_factor",
        "downscaling_factor": "downscaling_factor",
        "upscale_delay_s": "upscale_delay",
        "downscale_delay_s": "downscale_delay",
        "downscale_to_zero_delay_s": "downscale_to_zero_delay",
    }
    config = {ours: i[theirs] for theirs, ours in fields.items() if i.get(theirs) is not None}
    return RayServeAutoscaler(**{**config, **changed})


def _requests(current: int, target: int, total: float) -> Case:
    return {"current": current, "desired": target, "metrics": {"ongoing_requests": total}}


def ray_desired_replicas(i: Case) -> Case:
    seen = _requests(i["current"], i["target"], i["total_requests"])
    r = _ray(i).recommend(seen, now=i.get("now", 0.0))
    return {"policy_decision": r.details["policy_decision"], "bounded": r.desired}


def ray_scaling_factor(i: Case) -> Case:
    factors = {k: i[k] for k in ("upscaling_factor", "downscaling_factor") if i.get(k) is not None}
    return {"scaled": scale_by_factor(i["desired"], i["current"], **factors)}


def ray_target_capacity(i: Case) -> Case:
    return {"adjusted": adjust_to_capacity(i["num_replicas"], i["target_capacity_pct"])}


def ray_gang_rounding(i: Case) -> Case:
    return {"replicas": round_to_gangs(i["desired"], i["gang_size"])}


def ray_downscale_sequence(i: Case) -> Case:
    options = {"min_replicas": 0, "max_replicas": max(1, i["start"]), "upscale_delay": 0.0, "downscale_delay": 0.0}
    policy = _ray(i, **options)
    n, seen = i["start"], []
    for tick in range(i["ticks"]):
        n = policy.recommend(_requests(n, n, i["total_requests"]), now=float(tick)).desired
        seen.append(n)
    return {"replicas": seen}


def ray_delay_timeline(i: Case) -> Case:
    policy = _ray(i["config"], target_ongoing_requests=1.0)
    target, seen = i["start_target"], []
    for event in i["events"]:
        # With a target of one request, so many requests are what the policy wants.
        policy.restore(json.loads(json.dumps(policy.state())))
        r = policy.recommend(_requests(max(target, 1), target, event["desired"]), now=float(event["t"]))
        target = r.desired
        seen.append(target)
    return {"target_after_each": seen}


def ray_router_backoff(i: Case) -> Case:
    options = {"initial": i["initial_backoff_s"], "multiplier": i["multiplier"], "maximum": i["max_backoff_s"]}
    return {"backoff_s": backoff(i["attempt"], **options)}


# AWS: schedules and forecasts


def _at(text: str) -> float:
    hour, minute = text.split(":")
    return int(hour) * 3600.0 + int(minute) * 60.0


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}"


def predictive_effective_max(i: Case) -> Case:
    increase = {"HonorMaxCapacity": False, "IncreaseMaxCapacity": True}[i["breach_behavior"]]
    policy = PredictiveScaling(
        mode="forecast_and_scale",
        max_capacity=i["max_size"],
        max_capacity_breach="increase" if increase else "honor",
        max_capacity_buffer=(i["buffer_pct"] or 0) if increase else None,
    )
    policy.set_forecast([i["forecast"]], start=0.0)
    return {"effective_max": policy.recommend({"current": 1}, now=0.0).details["effective_max"]}


def predictive_hourly_action(i: Case) -> Case:
    policy = PredictiveScaling(mode="forecast_and_scale", min_capacity=i["min_size"], max_capacity=i["max_size"])
    policy.set_forecast([i["forecast"]], start=0.0)
    return {"desired": policy.recommend({"current": i["actual"]}, now=0.0).desired}


def predictive_prelaunch(i: Case) -> Case:
    policy = PredictiveScaling(max_capacity=10, scheduling_buffer_time=i["scheduling_buffer_s"])
    change = _at(i["forecast_change_at"])
    policy.set_forecast([1, 2], start=change - 7200.0 + 86_400.0, period=7200.0)
    r = policy.recommend({"current": 1}, now=change - 7200.0 + 86_400.0)
    return {"launch_at": _clock(r.details["next_launch_at"] % 86_400.0)}


def scheduled_cron(i: Case) -> Case:
    day, clock = i["when"].split()
    when = MONDAY + timedelta(days=DAYS.index(day), seconds=_at(clock))
    action = ScheduledAction(name="a", recurrence=i["cron"], time_zone=i.get("time_zone", "UTC"), desired=1)
    policy = ScheduledScaling(actions=[action], max_capacity=10)
    policy.recommend({"current": 1}, now=when.timestamp() - 1)
    return {"fires": policy.recommend({"current": 1}, now=when.timestamp()).details["fired"] == ("a",)}


def scheduled_action(i: Case) -> Case:
    group, action = i["group"], i["action"]
    known(action, "min", "max", "desired")
    sets = {"min": "min_capacity", "max": "max_capacity", "desired": "desired"}
    policy = ScheduledScaling(
        actions=[ScheduledAction(name="a", recurrence="* * * * *", **{sets[k]: v for k, v in action.items()})],
        min_capacity=group["min"],
        max_capacity=group["max"],
    )
    policy.recommend({"current": group["desired"]}, now=30.0)
    r = policy.recommend({"current": group["desired"]}, now=60.0)
    return {"group": {"min": r.details["min_capacity"], "max": r.details["max_capacity"], "desired": r.desired}}


# AWS: capacity


def _mixed(i: Case) -> MixedInstancesPolicy:
    return MixedInstancesPolicy(
        on_demand_base=i["on_demand_base"], on_demand_percent_above_base=i["on_demand_pct_above_base"]
    )


def mixed_instances_split(i: Case) -> Case:
    return _mixed(i).split(i["desired"])._asdict()


def mixed_instances_sweep(i: Case) -> Case:
    low, high = i["desired_range"]
    parts = [_mixed(i).split(n) for n in range(low, high + 1)]
    return {"on_demand": [p.on_demand for p in parts], "spot": [p.spot for p in parts]}


def price_per_unit_hour(i: Case) -> Case:
    price = PriceBlend().per_unit(i["spot_price"], i["weight"])
    # The recording keeps ten decimals, the document three of them, with a half rounded up.
    return {"price_per_unit": round(price, 10), "documented_rounded": math.floor(price * 1000 + 0.5) / 1000}


def weighted_overshoot(i: Case) -> Case:
    after = MixedInstancesPolicy().weighted(
        i["current"], add=i["add_units"], weight=i["launched_weight"], max_capacity=i["max"]
    )
    return {"desired": after[0], "current_capacity": after[1]}


def weighted_unit_availability(i: Case) -> Case:
    total, used = MixedInstancesPolicy(spot_pools=i["spot_pools_per_az"]).pools(
        instance_types=i["instance_types"], zones=i["azs"]
    )
    return {"total_pools": total, "usable_pools_lowest_price": used}


def warm_pool_size(i: Case) -> Case:
    pool = WarmPool(min_size=i["min_size"], max_prepared=i["max_group_prepared_capacity"])
    return {"warm_pool_size": pool.size(max_capacity=i["max_size"], desired=i["desired"])}


def warm_pool_scale_out(i: Case) -> Case:
    warm, cold, desired = WarmPool().scale_out(
        i["increase"], available=i["warm_available"], desired=i["desired"], max_capacity=i["max_size"]
    )
    return {"warm_starts": warm, "cold_starts": cold, "new_desired": desired}


def warm_pool_scale_in(i: Case) -> Case:
    gone, back, fresh = WarmPool(reuse_on_scale_in=i["reuse_on_scale_in"]).scale_in(i["decrease"])
    return {"terminated": gone, "returned_to_pool": back, "replacements_launched_into_pool": fresh}


def instance_refresh_batch(i: Case) -> Case:
    refresh = InstanceRefresh(min_healthy=i["min_healthy_pct"], max_healthy=i["max_healthy_pct"])
    return {"simultaneous_replacements": refresh.batch(i["desired"])}


def instance_refresh_checkpoint(i: Case) -> Case:
    skipped, told = InstanceRefresh(checkpoints=i["checkpoint_pct"]).checkpoint(i["group"], replaced=i["replaced"])
    return {
        "pct_replaced": 100 * i["replaced"] / i["group"],
        "skipped": list(skipped),
        "notified": [] if told is None else [told],
    }


def instance_refresh_timeline(i: Case) -> Case:
    warmup = 60.0 * i["warmup_min"]
    refresh = InstanceRefresh(
        min_healthy=i["min_healthy_pct"],
        checkpoints=i["checkpoint_pct"],
        checkpoint_delay=60.0 * i["checkpoint_delay_min"],
        warmup=warmup,
    )

    def clock(seconds: float) -> str:
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"

    batches = refresh.timeline(i["group"])
    out: Case = {"replacements": [{"t": clock(b.at), "n": b.instances} for b in batches]}
    last = i["checkpoint_pct"][-1]
    out[f"pct_complete_{last}_at"] = clock(next(b.at for b in batches if b.checkpoint == last) + warmup)
    return out


def instance_refresh_warmup_fallback(i: Case) -> Case:
    seconds = InstanceRefresh(warmup=i["instance_warmup"]).effective_warmup(
        default=i["default_instance_warmup"], grace=i["health_check_grace"]
    )
    return {"effective_warmup_s": seconds}


def lifecycle_global_timeout(i: Case) -> Case:
    return {"global_timeout_s": LifecycleHook(heartbeat=i["heartbeat_s"]).global_timeout}


def az_rebalance_ceiling(i: Case) -> Case:
    return {"temporary_max": rebalance_ceiling(i["max_size"])}


def blended_cost(i: Case) -> Case:
    model = PriceBlend(on_demand_share=i["on_demand_share"], spot_discount=i["spot_discount"])
    return {"cost": model.blended(i["all_on_demand_cost"])}


# Google


def _group(*signals: GroupSignal, **options: Any) -> ManagedInstanceGroup:
    return ManagedInstanceGroup(**{"signals": signals, "min_replicas": 0, "max_replicas": MOST, **options})


def _sizes(policy: ManagedInstanceGroup, sizes: list[int], asked: int = 0) -> Recommendation:
    """Asks once a second for so many instances' work, and gives the last answer."""
    for second, size in enumerate(sizes):
        r = policy.recommend({"current": asked, "metrics": {"work": size}}, now=float(second))
        asked = r.desired
    return r


WORK = GroupSignal("work", 1, kind="group")


def gcp_mig_recommended_raw(i: Case) -> Case:
    known(i, "vm_utilization", "utilization_target")
    used = i["vm_utilization"]
    policy = _group(GroupSignal("cpu", i["utilization_target"]))
    r = policy.recommend({"current": len(used), "metrics": {"cpu": math.fsum(used) / len(used)}}, now=0.0)
    return {"size": r.details["recommended"]}


def gcp_mig_stabilization(i: Case) -> Case:
    policy = _group(WORK, stabilization_period=i["stabilization_s"], min_replicas=i["min"], max_replicas=i["max"])
    return {"size": _sizes(policy, i["recommended_sizes_inside_window"]).desired}


def gcp_scale_in_control(i: Case) -> Case:
    policy = _group(WORK, stabilization_period=0.0, scale_in_limit=ScaleInLimit(i["max_scaled_in"]))
    return {"size": _sizes(policy, [i["peak_recommendation_in_window"], i["raw_recommendation"]]).desired}


def gcp_multi_signal(i: Case) -> Case:
    wanted = i["recommendations"]
    policy = _group(*(GroupSignal(f"m{n}", 1, kind="group") for n in range(len(wanted))))
    metrics = {f"m{n}": size for n, size in enumerate(wanted)}
    return {"size": policy.recommend({"current": 0, "metrics": metrics}, now=0.0).desired}


def gcp_schedule_overlap(i: Case) -> Case:
    schedules = [
        ScalingSchedule(recurrence="0 * * * *", duration=3600, min_required_replicas=n)
        for n in i["active_min_required"]
    ]
    policy = _group(WORK, schedules=schedules, min_replicas=i["policy_min"])
    return {"size": _sizes(policy, [i["metric_recommendation"]]).desired}


def gcp_mode(i: Case) -> Case:
    policy = _group(WORK, mode=i["mode"].lower(), stabilization_period=0.0)
    return {"target_size": _sizes(policy, [i["recommended"]], i["target_size"]).desired}


def gcp_single_instance_assignment(i: Case) -> Case:
    policy = _group(GroupSignal("work", i["single_instance_assignment"], kind="group"))
    return {"size": _sizes(policy, [i["group_metric"]]).desired}


def gcp_lb_autoscale(i: Case) -> Case:
    policy = _group(GroupSignal("work", i["max_rate_per_instance"] * i["utilization_target"], kind="group"))
    return {"size": _sizes(policy, [i["serving_rps"]]).desired}


def gcp_capacity_scaler(i: Case) -> Case:
    try:
        backend = Backend(max_rate_per_instance=1, capacity_scaler=i["capacity_scaler"])
        check_backends([backend] * i.get("backends", 2))
    except ConfigError:
        return {"valid": False}
    return {"valid": True}


def gcp_backend_capacity(i: Case) -> Case:
    backend = Backend(max_rate_per_instance=i["max_rate_per_instance"], capacity_scaler=i["capacity_scaler"])
    return {"target_rps": round(backend.target_rate(i["instances"]), 9)}


def cloud_run_concurrency(i: Case) -> Case:
    policy = CloudRun(
        max_concurrency=i["max_concurrency"], concurrency_target=i["target_utilization"], max_instances=MOST
    )
    return {"instances": policy.recommend({"current": 0, "metrics": {"in_flight": i["in_flight"]}}, now=0.0).desired}


# Azure


def _azure(*rules: AzureRule, **options: Any) -> AzureAutoscale:
    return AzureAutoscale(**{"rules": rules, "min_capacity": 1, "max_capacity": MOST, **options})


def azure_flapping(i: Case) -> Case:
    out, inward = i["scale_out"], i["scale_in"]
    policy = _azure(
        AzureRule(direction="out", metric="m", **out),
        AzureRule(direction="in", metric="m", **inward),
        **{f"{k}_capacity": i[k] for k in ("min", "max") if k in i},
    )
    r = policy.recommend({"current": i["instances"], "metrics": {"m": i["per_instance_metric"]}}, now=0.0)
    projected = r.details["projected_metric"]
    return {
        "action": r.action,
        "instances": r.desired,
        "projected_metric": None if projected is None else round(projected, 6),
    }


def _queue(direction: Any, op: Any, threshold: float) -> AzureRule:
    return AzureRule(direction=direction, metric="m", op=op, threshold=threshold, divide_by_instances=True)


def azure_queue_threshold(i: Case) -> Case:
    policy = _azure(_queue("out", ">=", i["scale_out_ge"]))
    r = policy.recommend({"current": i["instances"], "metrics": {"m": i["messages"]}}, now=0.0)
    return {"scale_out": r.action == "scale_out"}


def azure_queue_scale_in(i: Case) -> Case:
    policy = _azure(_queue("in", "<=", i["scale_in_le"]), _queue("out", ">=", i["scale_out_ge"]))
    r = policy.recommend({"current": i["instances"], "metrics": {"m": i["messages"]}}, now=0.0)
    return {"scale_in": r.action == "scale_in", "projected": r.details["projected_metric"]}


OPS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def azure_any_all(i: Case) -> Case:
    rules = []
    for direction, conditions in i["rules"].items():
        for name, threshold in conditions.items():
            metric, _, op = name.rpartition("_")
            metric = {"mem": "memory"}.get(metric, metric)
            rules.append(AzureRule(direction=direction, metric=metric, op=OPS[op], threshold=threshold))  # type: ignore[arg-type]
    metrics = {r.metric: i[r.metric] for r in rules}
    r = _azure(*rules).recommend({"current": 100, "metrics": metrics}, now=0.0)
    return {"action": {"scale_out": "out", "scale_in": "in"}.get(r.action, "none")}


def azure_multi_out(i: Case) -> Case:
    rules = [AzureRule(direction="out", metric="m", op=">", threshold=0, by=n) for n in i["increases"]]
    return {"increase": _azure(*rules).recommend({"current": 10, "metrics": {"m": 1}}, now=0.0).desired - 10}


def azure_manual_reset(i: Case) -> Case:
    policy = _azure(min_capacity=i["min"], max_capacity=i["max"])
    return {"count": policy.recommend({"current": i["manual_count"]}, now=0.0).desired}


def azure_metric_missing(i: Case) -> Case:
    rule = AzureRule(direction="out", metric="m", op=">", threshold=0)
    policy = _azure(rule, default_capacity=i["default"], min_capacity=0)
    return {"count": policy.recommend({"current": i["current"], "metrics": {"m": None}}, now=0.0).desired}


# AIBrix


def aibrix_apa(i: Case) -> Case:
    policy = AibrixApa(
        metric="m",
        target=i["target"],
        up_tolerance=i["up_tolerance"],
        down_tolerance=i["down_tolerance"],
        max_scale_up_rate=i["max_scale_up_rate"],
        max_scale_down_rate=i["max_scale_down_rate"],
        min_replicas=0,
        max_replicas=MOST,
    )
    return {
        "desired": policy.recommend({"current": i["current"], "metrics": {"m": i["per_pod_metric"]}}, now=0.0).desired
    }


FAMILIES: tuple[Callable[[Case], Case], ...] = (
    ray_desired_replicas,
    ray_scaling_factor,
    ray_target_capacity,
    ray_gang_rounding,
    ray_downscale_sequence,
    ray_delay_timeline,
    ray_router_backoff,
    predictive_effective_max,
    predictive_hourly_action,
    predictive_prelaunch,
    scheduled_cron,
    scheduled_action,
    mixed_instances_split,
    mixed_instances_sweep,
    price_per_unit_hour,
    weighted_overshoot,
    weighted_unit_availability,
    warm_pool_size,
    warm_pool_scale_out,
    warm_pool_scale_in,
    instance_refresh_batch,
    instance_refresh_checkpoint,
    instance_refresh_timeline,
    instance_refresh_warmup_fallback,
    lifecycle_global_timeout,
    az_rebalance_ceiling,
    blended_cost,
    gcp_mig_recommended_raw,
    gcp_mig_stabilization,
    gcp_scale_in_control,
    gcp_multi_signal,
    gcp_schedule_overlap,
    gcp_mode,
    gcp_single_instance_assignment,
    gcp_lb_autoscale,
    gcp_capacity_scaler,
    gcp_backend_capacity,
    cloud_run_concurrency,
    azure_flapping,
    azure_queue_threshold,
    azure_queue_scale_in,
    azure_any_all,
    azure_multi_out,
    azure_manual_reset,
    azure_metric_missing,
    aibrix_apa,
)
