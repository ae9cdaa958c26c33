"""Replays the cloud cases that the AWS policies decide: each case's input becomes one question to the public API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aibalance import AibalanceError, ConfigError
from aibalance.autoscaling import (
    Combined,
    KnativePodAutoscaler,
    Recommendation,
    Step,
    StepScaling,
    TargetTracking,
    effective_warmup,
    round_percent_change,
    warm_metric,
)

from . import alb, clouds, health
from .model import Result

Case = dict[str, Any]
Adapter = Callable[[Case], Case]

ADJUSTMENT_TYPES = {
    "ChangeInCapacity": "change_in_capacity",
    "PercentChangeInCapacity": "percent_change_in_capacity",
    "ExactCapacity": "exact_capacity",
}
UNBOUNDED: dict[str, Any] = {"min_capacity": 0, "max_capacity": 2**31 - 1}
METRIC = "metric"


class UnsupportedCase(Exception):
    """A case of a known family that asks for something no policy decides."""


def _steps(steps: list[Case]) -> list[Step]:
    return [Step(lower=s["lower"], upper=s["upper"], adjustment=s["adjustment"]) for s in steps]


def step_scaling(i: Case) -> Case:
    policy = StepScaling(
        metric=METRIC,
        threshold=i["alarm_threshold"],
        direction=i["alarm_direction"],
        steps=_steps(i["steps"]),
        adjustment_type=ADJUSTMENT_TYPES[i["adjustment_type"]],  # type: ignore[arg-type]
        min_adjustment_magnitude=i.get("min_adjustment_magnitude"),
        aggregation=i.get("aggregation", "average").lower(),
        min_capacity=i["min_size"],
        max_capacity=i["max_size"],
    )
    seen = {"current": i["current_capacity"], "desired": i["desired_capacity"], "metrics": {METRIC: i["metric"]}}
    r = policy.recommend(seen, now=0.0)
    return {
        "step_index": r.details["step"],
        "rounded_delta": r.details["adjustment"],
        "new_desired_capacity": r.desired,
    }


def step_validation(i: Case) -> Case:
    try:
        StepScaling(metric=METRIC, threshold=0, steps=_steps(i["steps"]), **UNBOUNDED)
    except ConfigError:
        return {"valid": False}
    return {"valid": True}


def percent_rounding(i: Case) -> Case:
    return {"rounded": round_percent_change(i["raw_change"])}


def target_tracking(i: Case) -> Case:
    policy = TargetTracking(
        metric=METRIC,
        target=i["target"],
        min_capacity=i["min_size"],
        max_capacity=i["max_size"],
        disable_scale_in=i["disable_scale_in"],
        scale_in_ratio=i["scale_in_threshold_ratio"],
        high_alarm=None,
        low_alarm=None,
    )
    r = policy.recommend({"current": i["capacity"], "metrics": {METRIC: i["metric"]}}, now=0.0)
    return {"capacity": r.desired, "action": r.action}


def target_tracking_alarm(i: Case) -> Case:
    policy = TargetTracking(
        metric=METRIC,
        target=i["target"],
        high_alarm=i["high_m_of_n"],
        low_alarm=i["low_m_of_n"],
        scale_in_ratio=i["low_threshold_ratio"],
        period=60.0,
        **UNBOUNDED,
    )
    states = []
    for minute, value in enumerate(i["one_minute_datapoints"], start=1):
        seen = {"current": 10, "metrics": {METRIC: value}}
        states.append(policy.recommend(seen, now=60.0 * minute).details["alarm"])
    first = {word: states.index(word) if word in states else None for word in ("high", "low")}
    return {"state_after_each": states, "first_high": first["high"], "first_low": first["low"]}


def _always(capacity: int) -> StepScaling:
    """A policy that asks for this capacity at any metric of 0 or more."""
    steps = [Step(lower=0, adjustment=capacity)]
    return StepScaling(metric=METRIC, threshold=0, steps=steps, adjustment_type="exact_capacity", **UNBOUNDED)


def policy_combine(i: Case) -> Case:
    policy = Combined([_always(capacity) for capacity in i["candidate_capacities"]])
    return {"capacity": policy.recommend({"current": i["current"], "metrics": {METRIC: 1}}, now=0.0).desired}


def policy_combine_target_tracking(i: Case) -> Case:
    current = i["current"]
    policies, metrics = [], {}
    for n, wish in enumerate(i["policies"]):
        known = {"wants", "direction", "scale_in_enabled", "disable_scale_in", "scale_in_disabled"}
        if unknown := set(wish) - known:
            raise UnsupportedCase(f"policies[{n}] has {sorted(unknown)}")
        disabled = wish.get("disable_scale_in", wish.get("scale_in_disabled", not wish.get("scale_in_enabled", True)))
        name = f"{METRIC}{n}"
        # With the present capacity as its target, a policy wants as much as its metric.
        metrics[name] = wish["wants"] if wish["direction"] in ("out", "in") else current
        policies.append(
            TargetTracking(
                metric=name,
                target=current,
                disable_scale_in=disabled,
                scale_in_ratio=1.0,
                high_alarm=None,
                low_alarm=None,
                **UNBOUNDED,
            )
        )
    r = Combined(policies).recommend({"current": current, "metrics": metrics}, now=0.0)
    return {"action": r.action, "capacity": r.desired}


def warmup_fallback(i: Case) -> Case:
    seconds = effective_warmup(
        estimated=i["estimated_instance_warmup"], default=i["default_instance_warmup"], cooldown=i["default_cooldown"]
    )
    return {"effective_warmup_s": seconds}


def warmup_metrics(i: Case) -> Case:
    return {"aggregated_metric": warm_metric((x["metric"], x["warming"]) for x in i["instances"])}


def warmup_scale_in_block(i: Case) -> Case:
    policy = TargetTracking(metric=METRIC, target=100, high_alarm=None, low_alarm=None, **UNBOUNDED)
    seen = {"current": 10, "warming": i["warming"], "metrics": {METRIC: 10 if i["scale_in_wanted"] else 100}}
    return {"scale_in_allowed": policy.recommend(seen, now=0.0).action == "scale_in"}


def step_cooldown_inflight(i: Case) -> Case:
    if "new_step_adjustment" in i:
        before, first, second = i["current_before"], i["previous_increase_in_cooldown"], i["new_step_adjustment"]
        steps = [Step(lower=0, upper=10, adjustment=first), Step(lower=10, adjustment=second)]
        policy = StepScaling(metric=METRIC, threshold=0, steps=steps, cooldown=300.0, **UNBOUNDED)
        now = policy.recommend({"current": before, "metrics": {METRIC: 5}}, now=0.0).desired
        r = policy.recommend({"current": now, "metrics": {METRIC: 15}}, now=60.0)
        return {"added_now": r.desired - now, "new_desired": r.desired}
    if i != {"event": "scale_in cooldown active", "then": "scale_out alarm"}:
        raise UnsupportedCase(f"event {i!r}")
    both = Combined(
        [
            StepScaling(metric=METRIC, threshold=50, steps=[Step(lower=0, adjustment=2)], cooldown=300.0, **UNBOUNDED),
            StepScaling(
                metric=METRIC,
                threshold=20,
                direction="low",
                steps=[Step(upper=0, adjustment=-1)],
                cooldown=300.0,
                **UNBOUNDED,
            ),
        ]
    )

    def ask(current: int, metric: float, now: float) -> Recommendation:
        return both.recommend({"current": current, "metrics": {METRIC: metric}}, now=now)

    assert ask(10, 10, 0.0).desired == 9
    assert ask(9, 10, 10.0).limited_by == "scale_in_cooldown"
    out = ask(9, 60, 20.0)
    return {
        "scale_out_applied": out.action == "scale_out",
        "scale_in_cooldown_cancelled": ask(out.desired, 10, 30.0).action == "scale_in",
    }


def weighted_no_action(i: Case) -> Case:
    step = Step(lower=0, adjustment=i["adjustment"])
    policy = StepScaling(metric=METRIC, threshold=0, steps=[step], **UNBOUNDED)
    seen = {"current": i["current"], "desired": i["desired"], "metrics": {METRIC: 1}}
    return {"action": policy.recommend(seen, now=0.0).action}


def knative_desired(i: Case) -> Case:
    policy = KnativePodAutoscaler(
        container_concurrency=i["container_concurrency"], target_utilization=i["target_utilization"]
    )
    r = policy.recommend({"current": 1, "metrics": {"concurrency": i["concurrency"]}}, now=0.0)
    return {"pods": r.details["autoscaler"]}


def knative_panic(i: Case) -> Case:
    policy = KnativePodAutoscaler(target=1, target_utilization=1.0, panic_threshold_percentage=i["panic_threshold_pct"])
    policy.start(0, at=0.0)  # several pods at the start would begin a panic of their own
    r = policy.recommend({"current": i["ready"], "metrics": {"concurrency": i["desired_from_panic_window"]}}, now=0.0)
    return {"panic": r.details["panicking"]}


ADAPTERS: dict[str, Adapter] = {
    f.__name__: f
    for f in (
        step_scaling,
        step_validation,
        percent_rounding,
        target_tracking,
        target_tracking_alarm,
        policy_combine,
        policy_combine_target_tracking,
        warmup_fallback,
        warmup_metrics,
        warmup_scale_in_block,
        step_cooldown_inflight,
        weighted_no_action,
        health.slow_start_share,
        health.slow_start_distribution,
        health.slow_start_rules,
        knative_desired,
        knative_panic,
        *alb.FAMILIES,
        *clouds.FAMILIES,
    )
}


def replay(doc: Case) -> Result:
    """Replays one document of cases; a vendor's example that contradicts itself (conformance: false) is left out."""
    result = Result()
    for case in doc["cases"]:
        if case.get("conformance") is False:
            continue
        adapter = ADAPTERS.get(case["family"])
        try:
            got = None if adapter is None else adapter(case["input"])
        except (UnsupportedCase, KeyError):
            # An input that does not have this family's fields is one that no adapter knows.
            got = None
        except AibalanceError as error:
            got = {"error": str(error)}
        if got is None:
            result.unsupported += 1
            continue
        # `reason` is prose of the recording.
        expected = {key: value for key, value in case["expected"].items() if key != "reason"}
        result.check(case["id"], expected, got)
    return result
