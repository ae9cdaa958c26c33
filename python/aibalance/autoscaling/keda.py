"""KEDA's scaled objects: from nothing to something and back, fallbacks, and formulas over triggers.

Source: KEDA after v2.20.2 (commit 8b4f083c): pkg/scaling, pkg/fallback, controllers/keda.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .._core import Formula, KedaEngine, _keda_fallback
from .._errors import ConfigError
from .policy import Clock, NativePolicy

if TYPE_CHECKING:
    from .._core import Observation, Recommendation

__all__ = ["Fallback", "FallbackValue", "Formula", "KedaScaledObject", "ScalingModifiers", "Trigger", "fallback"]

_MetricType = Literal["AverageValue", "Value", "Utilization"]
_Behavior = Literal[
    "static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower", "scalingModifiers"
]
_PAUSE = "autoscaling.keda.sh/"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One source of events.

    `name`: observations and formulas know it by that. `type` ("external"): the scaler's; "cpu" and "memory" are the
    autoscaler's own. `threshold`: the autoscaler's target. `activation_threshold` (0.0): active above it.
    `metric_type` ("AverageValue"): the target is for each replica; "Value": for all; "Utilization": only for cpu and
    memory. `metric_name` (None): the name in the generated autoscaler, None is `type`-`name`.

    >>> Trigger(name="queue", threshold=10).activation_threshold
    0.0
    """

    name: str
    threshold: float
    type: str = "external"
    activation_threshold: float = 0.0
    metric_type: _MetricType = "AverageValue"
    metric_name: str | None = None

    def __post_init__(self) -> None:
        if self.metric_type == "Utilization" and self.type not in ("cpu", "memory"):
            raise ConfigError("metric_type: 'Utilization' is not allowed; only cpu and memory have a utilization")


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """What a trigger counts as while it cannot be asked.

    `failure_threshold`: failures in a row that are still passed on. `replicas`: how many it stands for, by `behavior`:
    "static" these, "currentReplicas" those there are, "currentReplicasIfHigher" and "currentReplicasIfLower" the larger
    or smaller of both, "scalingModifiers" none (the formula sees nil).

    >>> from aibalance.autoscaling.keda import Fallback
    >>> Fallback(failure_threshold=3, replicas=6)
    Fallback(failure_threshold=3, replicas=6, behavior='static')
    """

    failure_threshold: int
    replicas: int
    behavior: _Behavior = "static"


@dataclass(frozen=True, kw_only=True)
class ScalingModifiers:
    """One metric made of all triggers.

    `formula`: over the triggers' names, in the expression language of expr-lang. `target`: the autoscaler's, a number
    or text; a fallback needs a whole one. `activation_target` (0.0): active above it. `metric_type` ("AverageValue"):
    or "Value".

    >>> ScalingModifiers(formula="max([queue, cache])", target=10).metric_type
    'AverageValue'
    """

    formula: str
    target: float | str
    activation_target: float = 0.0
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"


@dataclass(frozen=True, kw_only=True)
class FallbackValue:
    """What a trigger counts as: see `fallback`."""

    milli: int | None
    active: bool
    composite: bool
    placeholder: bool
    failures: int | None
    health: Literal["Happy", "Failing"] | None

    @property
    def value(self) -> float | None:
        """The value in the metric's unit; None is an error."""
        return None if self.milli is None else self.milli / 1000


def fallback(
    config: Fallback | None,
    value: float | None,
    /,
    *,
    failures: int = 0,
    target: float,
    target_type: Literal["AverageValue", "Value"] = "AverageValue",
    current: int,
    ready: int,
    modifiers: ScalingModifiers | None = None,
) -> FallbackValue:
    """What a trigger counts as that answered `value`, or failed (None) after so many `failures` in a row.

    `target` and `target_type` are the trigger's; with `modifiers` theirs count, and the result stands for the composite
    metric. `current` replicas, of which `ready`. The result's `failures` go into the next call; `active` says that
    the fallback made it, `milli` is in thousandths and None for an error, `failures` and `health` are None without
    a usable fallback. Raises ConfigError. Source: pkg/fallback/fallback.go.

    >>> from aibalance.autoscaling.keda import Fallback
    >>> failing = fallback(Fallback(failure_threshold=1, replicas=6), None, failures=1, target=2.5, current=4, ready=4)
    >>> failing.value, failing.active, failing.failures
    (15.0, True, 2)
    """
    given = None if modifiers is None else (str(modifiers.target), modifiers.metric_type)
    milli, composite, active, placeholder, count, health = _keda_fallback(
        config, value, failures, target, target_type, given, current, ready
    )
    return FallbackValue(
        milli=milli, active=active, composite=composite, placeholder=placeholder, failures=count, health=health
    )


@dataclass(frozen=True, kw_only=True)
class KedaScaledObject(NativePolicy):
    """A scaled object of KEDA, decision for decision.

    It moves between nothing, idle, the minimum and active; between one and many decides the autoscaler that
    `hpa_manifest` describes (`details["hpa"]` says when). Observations carry one value a trigger, under its name: None
    is an error of that trigger, and so is a name that is neither there nor recorded. `desired` are the replicas last
    written. Say `rejected` when a write failed.

    `triggers`: Trigger, at least one. `min_replicas` (None, which is 0), `max_replicas` (100), `idle_replicas` (None):
    below the minimum. `cooldown_period` (300.0): seconds after the last activity until it scales in; with a minimum
    above 0 and no idle count it has no effect. `initial_cooldown_period` (0.0): the same after creation.
    `polling_interval` (30.0): seconds; how often it wants to be asked. `fallback`, `modifiers` (None).
    `behavior` (None): the autoscaler's, as its manifest has it.
    `paused`, `paused_scale_in`, `paused_scale_out`, `force_activation` (False), `paused_replicas` (None): the
    annotations. `created` (None): when it was, in seconds of the clock; None is the first decision.
    `name`, `target_name`, `target_kind`: for the manifest. `ignored` (None): what a manifest said that no decision
    depends on, by field, each with the reason.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Instants count to the microsecond. Raises ConfigError. Source: see the module.

    >>> policy = KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)], max_replicas=20)
    >>> policy.recommend({"current": 0, "metrics": {"queue": 3}}, now=0.0).desired
    1
    >>> policy.recommend({"current": 1, "metrics": {"queue": 0}}, now=100.0).limited_by
    'cooldown'
    >>> policy.recommend({"current": 1, "metrics": {"queue": 0}}, now=301.0).desired
    0
    """

    triggers: Sequence[Trigger]
    min_replicas: int | None = None
    max_replicas: int = 100
    idle_replicas: int | None = None
    cooldown_period: float = 300.0
    initial_cooldown_period: float = 0.0
    polling_interval: float = 30.0
    fallback: Fallback | None = None
    modifiers: ScalingModifiers | None = None
    behavior: Mapping[str, Any] | None = field(default=None, hash=False)
    paused: bool = False
    paused_replicas: int | None = None
    paused_scale_in: bool = False
    paused_scale_out: bool = False
    force_activation: bool = False
    created: float | None = None
    name: str = "scaled-object"
    target_name: str = "workload"
    target_kind: str = "Deployment"
    ignored: Mapping[str, str] | None = field(default=None, hash=False)
    clock: Clock | None = None

    def __post_init__(self) -> None:
        triggers: object = self.triggers
        if isinstance(triggers, Iterable) and not isinstance(triggers, (tuple, str, bytes)):
            object.__setattr__(self, "triggers", tuple(triggers))
        # The engine is asked and never asks; who asks goes by this.
        every: object = self.polling_interval
        if isinstance(every, bool) or not isinstance(every, (int, float)) or not 0 <= every < float("inf"):
            raise ConfigError(f"polling_interval: {every!r} is not allowed; finite seconds of 0 or more")
        self._start(KedaEngine(self), self.clock)

    @classmethod
    def from_manifest(
        cls, source: str | Path | Mapping[str, Any], /, *, clock: Clock | None = None
    ) -> KedaScaledObject:
        """The policy of a ScaledObject: a file's path, YAML text, or a mapping.

        What has no influence on a decision is listed in `ignored` with the reason. Raises FormatError with file, line,
        field and, for a typo, the right name.

        >>> text = '''
        ... apiVersion: keda.sh/v1alpha1
        ... kind: ScaledObject
        ... metadata: {name: worker}
        ... spec:
        ...   scaleTargetRef: {name: worker}
        ...   triggers:
        ...   - type: prometheus
        ...     metadata: {serverAddress: "http://prometheus:9090", query: "sum(queue)", threshold: "10"}
        ... '''
        >>> KedaScaledObject.from_manifest(text).triggers[0].threshold
        10.0
        """
        from ..formats import keda as reader

        return cls(**reader.read(source), clock=clock)

    @property
    def _native(self) -> KedaEngine:
        engine = self._engine
        assert isinstance(engine, KedaEngine)
        return engine

    def record(self, name: str, value: float | None, *, at: float) -> None:
        """What a trigger answered last; it counts when an observation leaves the trigger out. None is an error.

        `at` is checked and not used: KEDA has no age at which an answer is too old.
        Raises MetricError for a name that is no trigger, or a value that cannot be used.
        """
        self._native.record(name, value, at)

    def decide(
        self,
        observation: Observation | Mapping[str, Any],
        /,
        *,
        active: bool,
        error: bool = False,
        now: float | None = None,
    ) -> Recommendation:
        """The decision where it is known already whether a trigger is `active` or in `error`: one step of KEDA's loop.

        >>> policy = KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)], min_replicas=2)
        >>> policy.decide({"current": 0}, active=True, now=0.0).desired
        2
        """
        return self._native.decide(active, error, observation, self._now() if now is None else now)

    def with_annotations(self, annotations: Mapping[str, str], /) -> KedaScaledObject:
        """This policy under these annotations, with the same memory. What KEDA cannot read as a truth value is true.

        >>> policy = KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)])
        >>> policy.with_annotations({"autoscaling.keda.sh/paused": "true"}).paused
        True
        """
        other = replace(self, **annotated(annotations))
        other.restore(self.state())
        return other

    def hpa_manifest(self) -> dict[str, Any]:
        """The horizontal pod autoscaler that KEDA generates, as a manifest (autoscaling/v2).

        >>> spec = KedaScaledObject(triggers=[Trigger(name="queue", threshold=10)]).hpa_manifest()["spec"]
        >>> spec["minReplicas"], spec["maxReplicas"], spec["metrics"][0]["external"]["target"]
        (1, 100, {'type': 'AverageValue', 'averageValue': '10'})
        """
        spec: dict[str, Any] = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": self.target_kind, "name": self.target_name},
            "minReplicas": self.min_replicas if self.min_replicas else 1,
            "maxReplicas": self.max_replicas,
            "metrics": self._hpa_metrics(),
        }
        behavior = {key: dict(value) for key, value in (self.behavior or {}).items()}
        for key, paused in (("scaleDown", self.paused_scale_in), ("scaleUp", self.paused_scale_out)):
            if paused:
                behavior.setdefault(key, {})["selectPolicy"] = "Disabled"
        if behavior or self.behavior is not None:
            spec["behavior"] = behavior
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": f"keda-hpa-{self.name}"},
            "spec": spec,
        }

    def _hpa_metrics(self) -> list[dict[str, Any]]:
        resources, external = [], []
        for i, t in enumerate(self.triggers):
            if t.type in ("cpu", "memory"):
                if t.metric_type == "Utilization":
                    target = {"type": "Utilization", "averageUtilization": int(t.threshold)}
                else:
                    target = {"type": "AverageValue", "averageValue": _quantity(t.threshold)}
                resources.append({"type": "Resource", "resource": {"name": t.type, "target": target}})
                continue
            name = t.metric_name if t.metric_name is not None else f"{t.type}-{t.name}"
            external.append(self._external(f"s{i}-{name}", t.metric_type, t.threshold))
        if self.modifiers is not None:
            target_value = float(self.modifiers.target)
            external = [self._external("composite-metric", self.modifiers.metric_type, target_value)]
        return [*resources, *external]

    def _external(self, name: str, kind: str, value: float) -> dict[str, Any]:
        target = {"type": kind, "averageValue" if kind == "AverageValue" else "value": _quantity(value)}
        labels = {"matchLabels": {"scaledobject.keda.sh/name": self.name}}
        return {"type": "External", "external": {"metric": {"name": name, "selector": labels}, "target": target}}


def _quantity(value: float) -> str:
    """Thousandths, as Kubernetes writes them: 10, 2500m."""
    milli = int(f"{value:.3f}".replace(".", ""))
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def annotated(annotations: Mapping[str, str]) -> dict[str, Any]:
    """KEDA's annotations as fields of the policy."""

    def truth(name: str) -> bool:
        text = annotations.get(_PAUSE + name)
        # Go's words for false; anything else that cannot be read counts as true.
        return text is not None and text not in ("0", "f", "F", "false", "False", "FALSE")

    replicas = annotations.get(_PAUSE + "paused-replicas")
    number = int(replicas) if replicas is not None and str(replicas).isdecimal() else None
    return {
        "paused": truth("paused") or (replicas is not None and number is None),
        "paused_replicas": number,
        "paused_scale_in": truth("paused-scale-in"),
        "paused_scale_out": truth("paused-scale-out"),
        "force_activation": truth("force-activation"),
    }
