"""Real autoscalers in a simulation: they read what is simulated under their own names, as often as they would."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from .._errors import ConfigError
from . import _checks as check

CADENCE = {
    "HorizontalPodAutoscaler": 15.0,
    "KnativePodAutoscaler": 1.0,
    "RayServeAutoscaler": 10.0,
}
"""Seconds between two looks: the defaults of the systems. What is not here looks once a minute; KEDA says it itself."""

MONDAY = 345_600.0

_BOUNDS = {
    "HorizontalPodAutoscaler": ("min_replicas", "max_replicas"),
    "KedaAutoscaler": ("min_replicas", "max_replicas"),
    "KnativePodAutoscaler": ("min_scale", "max_scale"),
    "RayServeAutoscaler": ("min_replicas", "max_replicas"),
    "ManagedInstanceGroup": ("min_replicas", "max_replicas"),
    "CloudRun": ("min_instances", "max_instances"),
    "AzureAutoscale": ("min_capacity", "max_capacity"),
    "ProportionalScaling": ("min_capacity", "max_capacity"),
    "ScheduledScaling": ("min_capacity", "max_capacity"),
    "SimpleScaling": ("min_capacity", "max_capacity"),
}

NAMES = tuple(_BOUNDS)
"""Policies that a scenario file may name, beside those that read a simulation's metrics as they are."""

OWN = ("observes", "every_s", "starts_at")
"""Keys of a policy's options that are for `Observed`; the rest is for the policy."""


class Observed:
    """A scaling policy with metrics of its own, for `simulate(policy=...)` and `compare(policies=...)`.

    An HPA reads `inference_queue_depth`, a simulation has `queue_per_server`: this says which is which, and how often
    the policy looks. It decides itself; nothing is approximated.

    Parameters
    ----------
    policy : an object with `recommend(mapping, now=...)`.
    metrics : the policy's metric to a metric of a simulation (`METRICS`), or to a pair of it and a factor:
        `{"requests_a_minute": ("arrivals_per_s", 60)}`. A metric that is not here is missing for the policy; one that
        it does not read is refused.
    every_s : seconds between two looks, which become the fleet's `decision_interval_s` for this policy; where the
        fleet's metrics are means over its decision interval, they are over this one. None (default): the system's
        own: 15 for HPA, 10 for Ray Serve, 1 for Knative, else 60; for KEDA the longest of which both its
        `polling_interval` and the 15 seconds of its autoscaler are multiples. Within a `GroupScaling` its interval
        counts.
    starts_at : Unix seconds at which a run begins, for calendars (default 345600, a Monday in 1970, 0:00 UTC).

    A `KedaAutoscaler` scales from and to nothing only every `polling_interval`, as KEDA does, and its autoscaler every
    15 seconds (at each look, where `every_s` is given); Knative's records at each look and decides at every second one,
    as it does with a scrape a second and a tick of two. Raises ConfigError.

    >>> from aibalance.autoscaling import HorizontalPodAutoscaler, PodsMetric
    >>> from aibalance.simulation import Fleet, PoissonTraffic, Scenario, ServerType, Service, simulate
    >>> hpa = HorizontalPodAutoscaler(max_replicas=20, metrics=[PodsMetric("waiting", average_value=2)])
    >>> scenario = Scenario(name="hpa", traffic=PoissonTraffic(rate_rps=8), service=Service("exponential", mean_s=1),
    ...     fleet=Fleet(types=[ServerType(name="pod")], max=20), duration_s=600, slo_s=5)
    >>> policy = Observed(hpa, metrics={"waiting": "queue_per_server"})
    >>> report = simulate(scenario, picker="LeastRequest", policy=policy)
    >>> report.decisions, report.servers_peak > 8
    (40, True)
    """

    def __init__(
        self,
        policy: Any,
        /,
        *,
        metrics: Mapping[str, str | tuple[str, float]],
        every_s: float | None = None,
        starts_at: float = MONDAY,
    ) -> None:
        from ._scenario import METRICS

        if isinstance(policy, type) or not callable(getattr(policy, "recommend", None)):
            raise check.wrong("policy", policy, "an object with a method 'recommend'")
        if not isinstance(metrics, Mapping):
            raise check.wrong("observes", metrics, "a table from the policy's metrics to those of a simulation")
        self.metrics: dict[str, tuple[str, float]] = {}
        for name, given in metrics.items():
            source, factor = given if isinstance(given, tuple | list) and len(given) == 2 else (given, 1.0)
            check.choice(f"observes.{name}", source, METRICS)
            self.metrics[check.text("observes", name)] = (
                source,
                check.number(f"observes.{name}", factor, 0, 1e12, above=True),
            )
        known = _reads(policy)
        for name in self.metrics:
            if known and name not in known:
                allowed = f"a metric that the policy reads: {', '.join(known)}{check.hint(name, known)}"
                raise check.wrong("observes", name, allowed)
        if known and not self.metrics:
            raise check.wrong("observes", {}, f"one or more of the metrics that the policy reads: {', '.join(known)}")
        # KEDA's autoscaler decides at each look only where somebody says how often that is.
        self._sync_s = 15.0 if every_s is None else 0.0
        if every_s is None:
            every_s = _cadence(policy)
        self.every_s = check.number("every_s", every_s, 1e-3, 1e9, unit="seconds")
        self.starts_at = check.number("starts_at", starts_at, 0, 1e12, unit="seconds")
        self.policy = policy
        self._look = 0
        self._polled = self._synced = -math.inf

    def __repr__(self) -> str:
        return f"<Observed {type(self.policy).__name__}, every {self.every_s:g} s>"

    def recommend(self, observation: Mapping[str, Any], /, *, now: float) -> Any:
        """What the policy decides at `now` (seconds of the simulation); `desired` is None where it does not look."""
        given = observation["metrics"]
        seen: dict[str, float | None] = {}
        for name, (source, factor) in self.metrics.items():
            value = given.get(source)
            seen[name] = None if value is None else value * factor
        at = self.starts_at + now
        self._look += 1
        kind = type(self.policy).__name__
        if kind == "KnativePodAutoscaler" and self._look % 2:
            for name, value in seen.items():
                self.policy.record(name, value, at=at)
            return SimpleNamespace(desired=None)
        asked = {**observation, "metrics": seen}
        if kind == "KedaAutoscaler":
            return self._keda(asked, at)
        return self.policy.recommend(asked, now=at)

    def _keda(self, asked: Mapping[str, Any], at: float) -> Any:
        """Both where both act; else the one whose turn it is, and the other's memory stays as it was."""
        scaled = self.policy.scaled_object
        polls = at >= self._polled + scaled.polling_interval - 1e-6
        syncs = at >= self._synced + self._sync_s - 1e-6
        if polls:
            self._polled = at
        if syncs:
            self._synced = at
        if not syncs:
            return scaled.recommend(asked, now=at) if polls else SimpleNamespace(desired=None)
        if polls:
            return self.policy.recommend(asked, now=at)
        before = scaled.state()
        answer = self.policy.recommend(asked, now=at)
        scaled.restore(before)
        return answer if dict(answer.trace)["by"] == "hpa" else SimpleNamespace(desired=None)


def _cadence(policy: Any) -> float:
    """How often the system looks by itself."""
    kind = type(policy).__name__
    if kind == "KedaScaledObject":
        return float(policy.polling_interval)
    if kind == "KedaAutoscaler":
        polling = policy.scaled_object.polling_interval
        # In whole seconds, as KEDA's intervals are; else as often as the more frequent of both.
        return float(math.gcd(15, int(polling)) if polling == int(polling) else min(15.0, polling))
    return CADENCE.get(kind, 60.0)


def _reads(policy: Any) -> list[str]:
    """The names of a policy's metrics; empty for one that is not ours."""
    from aibalance.autoscaling import _aims

    found = [one.metric for one in _aims.aims(policy)]
    rules = getattr(policy, "rules", ())
    found += [one.metric for one in rules] if type(policy).__name__ == "AzureAutoscale" else []
    return list(dict.fromkeys([*found, *(_aims.also(policy) if found else ())]))


def build(kind: str, options: Mapping[str, Any], low: int, high: int) -> Observed:
    """The policy of a scenario's table; bounds that it does not name are the fleet's."""
    given = dict(options)
    own = {name: given.pop(name) for name in OWN if name in given}
    if "observes" not in own and kind != "ScheduledScaling":
        raise ConfigError("observes: missing; a table from the policy's metrics to those of a simulation")
    policy = made(kind, given, low, high)
    return Observed(policy, metrics=own.pop("observes", {}), **own)


def made(kind: str, options: Mapping[str, Any], low: int | None, high: int | None) -> Any:
    """The policy alone of a scenario's table; bounds that neither it nor the fleet names are the policy's default."""
    given = {name: value for name, value in alarms(options).items() if name not in OWN}
    if "clock" in given:
        raise ConfigError("clock: not allowed; the simulation has a clock of its own")
    names = _BOUNDS[kind]
    if low is not None:
        given.setdefault(names[0], max(low, 1) if kind in ("HorizontalPodAutoscaler", "AzureAutoscale") else low)
    if high is not None:
        given.setdefault(names[1], high)
    return _made(kind, given)


def alarms(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file, which has no null: `alarm = false` is none."""
    return {name: None if value is False and name.endswith("alarm") else value for name, value in options.items()}


def _made(kind: str, given: dict[str, Any]) -> Any:
    from aibalance import autoscaling
    from aibalance.autoscaling import keda

    made: dict[str, Any] = {}
    for name, value in given.items():
        if (part := _ONE.get((kind, name)) or _ONE.get(("", name))) is not None:
            made[name] = _part(name, part, value)
        elif (part := _MANY.get((kind, name))) is not None:
            if not isinstance(value, list | tuple):
                raise check.wrong(name, value, "a list of tables")
            made[name] = [_part(f"{name}[{i}]", part, one) for i, one in enumerate(value)]
        else:
            made[name] = value
    if kind == "KedaAutoscaler":
        flags = {name: made.pop(name) for name in ("tolerance", "downscale_stabilization") if name in made}
        return autoscaling.KedaAutoscaler(keda.KedaScaledObject(**made), **flags)
    return getattr(autoscaling, kind)(**made)


def _part(name: str, make: str | Callable[[dict[str, Any]], Any], value: Any) -> Any:
    from aibalance import autoscaling
    from aibalance.autoscaling import keda

    if not isinstance(value, Mapping):
        raise check.wrong(name, value, "a table")
    table = dict(value)
    try:
        if callable(make):
            return make(table)
        return getattr(keda if hasattr(keda, make) else autoscaling, make)(**table)
    except TypeError as error:
        raise ConfigError(f"{name}: {table!r} is not allowed: {str(error).partition('() ')[2] or error}") from error


SOURCES = {
    "resource": "ResourceMetric",
    "pods": "PodsMetric",
    "object": "ObjectMetric",
    "external": "ExternalMetric",
}


def _metric(table: dict[str, Any]) -> Any:
    from aibalance import autoscaling

    source = check.choice("metrics.source", table.pop("source", None), tuple(SOURCES))
    return getattr(autoscaling, SOURCES[source])(table.pop("name", ""), **table)


def _behavior(table: dict[str, Any]) -> Any:
    from aibalance import autoscaling

    made = {}
    for direction, rules in table.items():
        if not isinstance(rules, Mapping):
            raise check.wrong(f"behavior.{direction}", rules, "a table")
        inner = dict(rules)
        if "policies" in inner:
            inner["policies"] = [_part("policies", "ScalingPolicy", one) for one in inner["policies"]]
        made[direction] = autoscaling.ScalingRules(**inner)
    return autoscaling.Behavior(**made)


def _signal(table: dict[str, Any]) -> Any:
    from aibalance import autoscaling

    return autoscaling.GroupSignal(table.pop("metric", ""), table.pop("target", 0.0), **table)


# Fields that hold a table, or several, and what is made of each.
_ONE: dict[tuple[str, str], Any] = {
    ("HorizontalPodAutoscaler", "behavior"): _behavior,
    ("KedaAutoscaler", "fallback"): "Fallback",
    ("KedaAutoscaler", "modifiers"): "ScalingModifiers",
    ("ManagedInstanceGroup", "scale_in_limit"): "ScaleInLimit",
}
_MANY: dict[tuple[str, str], Any] = {
    ("HorizontalPodAutoscaler", "metrics"): _metric,
    ("KedaAutoscaler", "triggers"): "Trigger",
    ("ManagedInstanceGroup", "signals"): _signal,
    ("ManagedInstanceGroup", "schedules"): "ScalingSchedule",
    ("AzureAutoscale", "rules"): "AzureRule",
    ("ScheduledScaling", "actions"): "ScheduledAction",
}
