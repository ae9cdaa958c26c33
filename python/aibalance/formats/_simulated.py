"""Imported policies as policies of a scenario: which metric of a simulation each of theirs is, and what cannot be seen.

Target tracking and step scaling read a simulation's metrics as they are; every other policy runs as itself, behind
`aibalance.simulation.Observed`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..autoscaling import (
    HorizontalPodAutoscaler,
    KedaAutoscaler,
    KedaScaledObject,
    PredictiveScaling,
    ProportionalScaling,
    ScheduledScaling,
    StepScaling,
    TargetTracking,
)
from ..autoscaling._aims import Aim, aims, bounds
from .model import PolicyConfig, plain

# Types of triggers that count what waits.
QUEUES = {
    "kafka", "apache-kafka", "rabbitmq", "aws-sqs-queue", "azure-servicebus", "azure-queue", "azure-eventhub", "redis",
    "redis-cluster", "redis-streams", "gcp-pubsub", "nats-jetstream", "pulsar",
}  # fmt: skip
Say = Callable[[str], None]
"""Takes a line about what is assumed or left out."""

__all__ = ["limits", "observed", "parts", "spec", "tables"]

# Words in the name of a metric that nothing in a simulation is like.
UNSEEN = (
    "memory", "network", "disk", "bytes", "cache", "latency", "duration", "error", "temperature", "power",
)  # fmt: skip
# Words in the name of a metric, the metric of a simulation that it most likely is, and how many of it make one.
SEEN = (
    (("requestcountpertarget",), "arrivals_per_s", 60.0),
    (("utiliz",), "utilization_percent", 1.0),
    # Before processors: what waits for a GPU is no share of one.
    (("queue", "pending", "backlog", "lag", "waiting"), "queue", 1.0),
    (("cpu", "gpu"), "utilization_percent", 1.0),
    (("ongoing", "concurrency", "in_flight", "inflight"), "in_flight", 1.0),
    (("rps", "per_second", "request"), "arrivals_per_s", 1.0),
)
TRIGGERS = {
    "cron": "a simulation has no calendar of a trigger",
    "memory": "a simulation has no memory",
}


def _like(name: str, target: float, kind: str, owner: str, say: Say, more: str = "") -> tuple[str, float] | None:
    """The metric of a simulation that a name is like, and the factor from it to the named one."""
    lower = f"{name} {more}".lower()
    unseen = next((word for word in UNSEEN if word in lower), None)
    if unseen is None:
        for words, metric, factor in SEEN:
            if any(word in lower for word in words):
                if metric == "utilization_percent":
                    metric = "utilization" if target <= 1 else metric
                elif kind == "average":
                    metric = f"{metric}_per_server"
                times = f", {factor:g} times" if factor != 1 else ""
                say(f"{owner}: {name} is taken for {metric}{times}")
                return metric, factor
    say(f"{owner}: no metric of a simulation is like {name}; it is left out")
    return None


def limits(policy: Any) -> tuple[int, int | None]:
    """The fewest and the most servers that a policy asks for; None is no limit."""
    return bounds(policy)


def tables(configs: Sequence[PolicyConfig], say: Say) -> list[dict[str, Any]]:
    """The policies as tables of a scenario: target tracking and steps on one group are one policy, as at AWS."""
    out: list[dict[str, Any]] = []
    of: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        made = spec(config, say)
        if made is None:
            continue
        on = of.setdefault(config.target, [])
        other = next((one for one in on if one["policy"] in _TOGETHER), None)
        if made["policy"] not in _TOGETHER or other is None:
            on.append(made)
            out.append(made)
            continue
        # In its place, for others have been told of it.
        if other["policy"] != "Combined":
            first = dict(other)
            other.clear()
            other.update({"name": "", "policy": "Combined", "options": {"policies": [first]}})
        options = other["options"]
        options["policies"].append(made)
        inner = [one["options"] for one in options["policies"]]
        options["min_capacity"] = min(one["min_capacity"] for one in inner)
        options["max_capacity"] = max(one["max_capacity"] for one in inner)
        other["name"] = " and ".join(one["name"] for one in options["policies"])
    for target, on in of.items():
        for one in on:
            if one["policy"] == "Combined":
                say(f"{one['name']}: on one group, so the largest of what they ask for")
        if len(on) > 1:
            names = ", ".join(one["name"] for one in on)
            say(f"{names}: all on {target}; here each is a candidate of its own, as if the others were not there")
    return out


def parts(table: Mapping[str, Any]) -> list[str]:
    """The names of the policies that a table of `tables` was made of."""
    if table["policy"] == "Combined":
        return [str(one["name"]) for one in table["options"]["policies"]]
    return [str(table["name"])]


_TOGETHER = ("TargetTracking", "StepScaling", "Combined")


def spec(config: PolicyConfig, say: Say) -> dict[str, Any] | None:
    """The table of a scenario, or None with a line that says why there is none."""
    policy = config.policy
    if isinstance(policy, TargetTracking):
        found = _like(policy.metric, policy.target, "average", config.name, say)
        # Warming servers are told to the policy by the simulation: the fleet has the warm-up.
        options = {"min_capacity": policy.min_capacity, "disable_scale_in": policy.disable_scale_in, **_fields(policy)}
        for key in ("metric", "target", "warmup"):
            options.pop(key, None)
        return found and {
            "name": config.name,
            "policy": "TargetTracking",
            "metric": found[0],
            "target": policy.target / found[1],
            "options": options,
        }
    if isinstance(policy, StepScaling):
        return _step(config, policy, say)
    made = observed(config, say)
    if made is None:
        return None
    ran, seen = made
    return {
        "name": config.name,
        "policy": type(ran).__name__,
        "options": {**_options(ran), "observes": {name: _source(one) for name, one in seen.items()}},
    }


def _source(found: tuple[str, float]) -> Any:
    return found[0] if found[1] == 1 else list(found)


def _step(config: PolicyConfig, policy: StepScaling, say: Say) -> dict[str, Any] | None:
    found = _like(policy.metric, policy.threshold, "average", config.name, say)
    if found is None:
        return None
    options = plain(policy)
    for key in ("kind", "metric", "warmup"):
        options.pop(key, None)
    options["threshold"] = policy.threshold / found[1]
    options["min_capacity"] = policy.min_capacity
    steps = [{k: v for k, v in one.items() if k != "kind"} for one in options["steps"]]
    if found[1] != 1:
        edges = ("lower", "upper")
        steps = [{k: v / found[1] if k in edges else v for k, v in one.items()} for one in steps]
    return {
        "name": config.name,
        "policy": "StepScaling",
        "metric": found[0],
        "options": {**options, "steps": steps},
    }


def observed(config: PolicyConfig, say: Say) -> tuple[Any, dict[str, tuple[str, float]]] | None:
    """The policy without what cannot be seen, and its metrics; None, with a line, where nothing is left."""
    policy: Any = config.policy
    if isinstance(policy, PredictiveScaling):
        say(f"{config.name}: a forecast comes from you (set_forecast); it is left out")
        return None
    if isinstance(policy, ScheduledScaling):
        say(f"{config.name}: the run begins on a Monday at 0:00 UTC")
        return policy, {}
    if isinstance(policy, KedaScaledObject):
        return _keda(config, policy, say)
    if isinstance(policy, HorizontalPodAutoscaler):
        return _hpa(config, policy, say)
    own = aims(policy)
    if not own:
        say(f"{config.name}: a simulation has no {type(policy).__name__}; it is left out")
        return None
    if isinstance(policy, ProportionalScaling):
        say(f"{config.name}: jobs are taken for servers, those that wait for queue")
        # What KEDA counts is what waits, and what a job takes is a share of that.
        return policy, {policy.metric: ("queue" if own[0].kind == "total" else "queue_per_server", 1.0)}
    seen: dict[str, tuple[str, float]] = {}
    for aim in own:
        found = _like(aim.metric, aim.target, aim.kind, config.name, say)
        if found is None:
            return None
        seen[aim.metric] = found
    return policy, seen


def _hpa(
    config: PolicyConfig, policy: HorizontalPodAutoscaler, say: Say
) -> tuple[HorizontalPodAutoscaler, dict[str, tuple[str, float]]] | None:
    kept, seen = [], {}
    for metric in policy.metrics:
        # Asked for itself, because two metrics may have one name.
        aim: Aim = aims(dataclasses.replace(policy, metrics=[metric], scale_to_zero=False))[0]
        resource = getattr(metric, "average_utilization", None)
        if resource is None and type(metric).__name__ == "ResourceMetric":
            say(f"{config.name}: {aim.metric}: a simulation knows shares of a server, no amounts; it is left out")
            continue
        shown = aim.metric if resource is None else f"{aim.metric} utilization"
        found = _like(shown, aim.target, aim.kind, config.name, say)
        if found is not None:
            kept.append(metric)
            seen[aim.metric] = found
    if not kept:
        say(f"{config.name}: no metric of it is one of a simulation; it is left out")
        return None
    if len(kept) < len(policy.metrics):
        return dataclasses.replace(policy, metrics=kept), seen
    return policy, seen


def _keda(
    config: PolicyConfig, policy: KedaScaledObject, say: Say
) -> tuple[KedaAutoscaler, dict[str, tuple[str, float]]] | None:
    metadata = [one.get("metadata", {}) for one in config.extra.get("triggers", ())]
    kept, seen = [], {}
    for i, trigger in enumerate(policy.triggers):
        kind = "average" if trigger.metric_type == "Utilization" else "total"
        found = None
        if trigger.type in TRIGGERS:
            say(f"{config.name}: {trigger.name}: {TRIGGERS[trigger.type]}; it is left out")
        else:
            said = metadata[i] if i < len(metadata) else {}
            words = next(
                (str(said[key]) for key in ("query", "metricName", "queueName", "listName") if key in said), ""
            )
            shown = f"{trigger.name} ({words})" if words else trigger.name
            more = "queue" if trigger.type in QUEUES else trigger.type
            found = _like(shown, trigger.threshold, kind, config.name, say, more=more)
        if found is not None:
            kept.append(trigger)
            seen[trigger.name] = found
    if not kept or (policy.modifiers is not None and len(kept) < len(policy.triggers)):
        why = "its formula needs all of its triggers" if kept else "no trigger of it is one of a simulation"
        say(f"{config.name}: {why}; it is left out")
        return None
    if len(kept) < len(policy.triggers):
        policy = dataclasses.replace(policy, triggers=kept)
    return KedaAutoscaler(policy), seen


# As tables of TOML, which has no null: what is at its default is left out.

SOURCE = {"ResourceMetric": "resource", "PodsMetric": "pods", "ObjectMetric": "object", "ExternalMetric": "external"}


def _options(policy: Any) -> dict[str, Any]:
    if isinstance(policy, KedaAutoscaler):
        flags = {
            name: getattr(policy, name)
            for name, default in (("tolerance", 0.1), ("downscale_stabilization", 300.0))
            if getattr(policy, name) != default
        }
        low, high = policy.scaled_object.min_replicas or 0, policy.scaled_object.max_replicas
        return {**_fields(policy.scaled_object), "min_replicas": low, "max_replicas": high, **flags}
    options = _fields(policy)
    if isinstance(policy, HorizontalPodAutoscaler):
        options["metrics"] = [{"source": SOURCE[type(one).__name__], **_fields(one)} for one in policy.metrics]
    # Bounds are named always: a reader of the file looks for them first.
    low = limits(policy)[0]
    for names in (
        ("min_capacity", "max_capacity"),
        ("min_replicas", "max_replicas"),
        ("min_scale", "max_scale"),
        ("min_instances", "max_instances"),
    ):
        if hasattr(policy, names[1]):
            options |= {names[0]: low, names[1]: getattr(policy, names[1])}
    return options


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a configuration that are not at their default, those within it as tables too."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(value):
        given = getattr(value, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if f.init and f.name not in ("clock", "ignored") and given != default:
            # TOML has no null: no alarm is false.
            out[f.name] = False if given is None and f.name.endswith("alarm") else _plain(given)
    return out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value
