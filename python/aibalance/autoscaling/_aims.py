"""What a policy looks at and by what it is bound, read from its fields: for warnings, timelines and projections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Aim", "aims", "also", "bounds", "children", "measured", "number", "walk", "windows"]

Kind = Literal["average", "total", "value"]


@dataclass(frozen=True)
class Aim:
    """One metric of a policy.

    `kind`: "average" (a mean over the servers, it falls as they grow), "total" (a sum, of which a server takes
    `target`) or "value" (one value that is compared as it is). `out`, `into`: relative tolerances around the target.
    `steps`: a threshold with steps, without a target that the metric is brought to.
    """

    metric: str
    target: float
    kind: Kind = "average"
    out: float = 0.0
    into: float = 0.0
    steps: bool = False


def number(value: Any) -> float:
    """A number, or a quantity of Kubernetes as text."""
    if isinstance(value, str):
        from .hpa import parse_quantity

        return parse_quantity(value).float
    return float(value)


def children(policy: Any) -> list[Any]:
    """The policies inside a policy."""
    found = [getattr(policy, name, None) for name in ("policy", "reactive", "_hpa_inside", "schedule", "floor")]
    several = getattr(policy, "policies", None)
    if isinstance(several, tuple):
        found += several
    return [one for one in found if callable(getattr(one, "recommend", None))]


def walk(policy: Any) -> Iterator[Any]:
    """The policy, and all inside it."""
    yield policy
    for one in children(policy):
        yield from walk(one)


def aims(policy: Any) -> list[Aim]:
    """The metrics that a policy reads, each once, the outermost first; empty for one that we do not know."""
    found: dict[str, Aim] = {}
    inside: set[int] = set()
    for one in walk(policy):
        # KEDA's autoscaler has the triggers under names of its own.
        inside.add(id(getattr(one, "_hpa_inside", None)))
        for aim in [] if id(one) in inside else _own(one):
            found.setdefault(aim.metric, aim)
    return list(found.values())


def measured(policy: Any) -> list[str]:
    """Metrics that say over how many servers another one is."""
    found = [getattr(one, "measured", None) for one in walk(policy)]
    return [name for name in found if isinstance(name, str)]


def also(policy: Any) -> list[str]:
    """Metrics that a policy reads without a target of their own."""
    probes = ["activator_probe" for one in walk(policy) if type(one).__name__ == "KnativePodAutoscaler"]
    return measured(policy) + probes


def _own(policy: Any) -> list[Aim]:
    told = getattr(policy, "_aims", None)
    if callable(told):
        own: list[Aim] = told()
        return own
    get = _field(policy)
    match type(policy).__name__:
        case "TargetTracking":
            return [Aim(policy.metric, policy.target, "average", 0.0, 1 - policy.scale_in_ratio)]
        case "StepScaling" | "SimpleScaling":
            return [Aim(policy.metric, policy.threshold, steps=True)]
        case "ProportionalScaling":
            return [Aim(policy.metric, policy.target, policy.metric_type, policy.tolerance, policy.tolerance)]
        case "QueueScaling":
            highs = [low for low, _, change in policy.steps if change > 0 and low is not None]
            return [Aim(policy.metric, min(highs), "value", steps=True)] if highs and min(highs) > 0 else []
        case "ForecastScaling" | "RayServeAutoscaler":
            target = get("target") or get("target_ongoing_requests")
            return [Aim(policy.metric, target, "total")]
        case "KnativePodAutoscaler":
            return [Aim(policy.metric, policy.target_value, "total")]
        case "FlappingGuard":
            return [Aim(one.metric, one.threshold, steps=True) for one in policy.scale_out]
        case "AibrixApa":
            return [Aim(policy.metric, policy.target, "average", policy.up_tolerance, policy.down_tolerance)]
        case "ManagedInstanceGroup":
            return [Aim(s.metric, s.target, "average" if s.kind == "utilization" else "total") for s in policy.signals]
        case "CloudRun":
            total = Aim(policy.metric, policy.max_concurrency * policy.concurrency_target, "total")
            return [total, Aim(policy.cpu_metric, policy.cpu_target)]
        case "AzureAutoscale":
            out = [r for r in policy.rules if r.direction == "out"]
            return [
                Aim(r.metric, r.threshold, "total" if r.divide_by_instances else "average", steps=True) for r in out
            ]
        case "HorizontalPodAutoscaler":
            return [_of_hpa(policy, metric) for metric in policy.metrics]
        case "KedaScaledObject":
            return [Aim(t.name, t.threshold, _KEDA.get(t.metric_type, "average")) for t in policy.triggers]
    return []


_KEDA: dict[str, Kind] = {"AverageValue": "total", "Value": "value"}


def _field(policy: Any) -> Any:
    return lambda name: getattr(policy, name, None)


def _of_hpa(policy: Any, metric: Any) -> Aim:
    get = _field(metric)
    name = get("key") or (f"{metric.container}/{metric.name}" if get("container") else metric.name)
    outside = type(metric).__name__ in ("ObjectMetric", "ExternalMetric")
    target = get("average_value")
    kind: Kind = "total" if outside else "average"
    if target is None:
        target = get("average_utilization")
    if target is None:
        target, kind = get("value"), "value"
    up, down = (_rules(policy, direction) for direction in ("scale_up", "scale_down"))
    both = [policy.tolerance if r is None or r.tolerance is None else r.tolerance for r in (up, down)]
    return Aim(name, number(target), kind, number(both[0]), number(both[1]))


def _rules(policy: Any, direction: str) -> Any:
    return None if policy.behavior is None else getattr(policy.behavior, direction)


def bounds(policy: Any) -> tuple[int, int | None]:
    """The fewest and the most servers; None is no limit."""
    for one in walk(policy):
        for low, high in (
            ("min_capacity", "max_capacity"),
            ("min_replicas", "max_replicas"),
            ("min_instances", "max_instances"),
            ("min_scale", "max_scale"),
        ):
            most = getattr(one, high, None)
            if isinstance(most, int):
                return getattr(one, low, None) or 0, most or None
        if type(one).__name__ == "Combined":
            pairs = [bounds(part) for part in one.policies]
            return min(a for a, _ in pairs), max((b for _, b in pairs if b is not None), default=None)
    return 0, None


def windows(policy: Any) -> tuple[float, float]:
    """Seconds for which more, and for which less, has to be wanted before anything happens."""
    out, into = 0.0, 0.0
    for one in walk(policy):
        get = _field(one)
        match type(one).__name__:
            case "HorizontalPodAutoscaler":
                up, down = _rules(one, "scale_up"), _rules(one, "scale_down")
                out = max(out, (up and up.stabilization_window) or 0.0)
                hold = None if down is None else down.stabilization_window
                into = max(into, one.downscale_stabilization if hold is None else hold)
            case "StabilizationWindow":
                out, into = max(out, one.scale_out), max(into, one.scale_in)
            case "ProportionalScaling" | "QueueScaling" | "AiScaling" | "StateDependentScaling" | "ThroughputPlanner":
                into = max(into, one.stabilization)
            case "ManagedInstanceGroup":
                into = max(into, one.stabilization_period)
            case "RayServeAutoscaler":
                out, into = max(out, one.upscale_delay), max(into, one.downscale_delay)
            case "KnativePodAutoscaler":
                into = max(into, one.scale_down_delay + one.stable_window)
            case "AibrixApa":
                into = max(into, one.scale_down_cooldown)
            case "TargetTracking":
                if one.high_alarm is not None:
                    out = max(out, one.high_alarm[0] * one.period)
                if one.low_alarm is not None:
                    into = max(into, one.low_alarm[0] * one.period)
            case "StepScaling" | "SimpleScaling":
                if one.alarm is not None:
                    wait = one.alarm[0] * one.period
                    out, into = (max(out, wait), into) if one.direction == "high" else (out, max(into, wait))
            case "KedaScaledObject":
                if not get("min_replicas"):
                    into = max(into, one.cooldown_period)
    return out, into
