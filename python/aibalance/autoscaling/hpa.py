"""The Horizontal Pod Autoscaler of Kubernetes, decision for decision.

Source: Kubernetes v1.36.2, `pkg/controller/podautoscaler`. `python -m tests.conformance` replays recordings of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from typing import Any, ClassVar, Literal, NamedTuple

from .._core import HpaEngine, Observation, _hpa_replicas, _parse_quantity
from .aws import _as_tuple
from .policy import Clock, NativePolicy

__all__ = [
    "Behavior",
    "ExternalMetric",
    "HorizontalPodAutoscaler",
    "ObjectMetric",
    "PodsMetric",
    "Proposal",
    "Quantity",
    "ResourceMetric",
    "ScalingPolicy",
    "ScalingRules",
    "parse_quantity",
    "replicas",
]

Number = float | int | str
"""A number, or a quantity as text: 0.5 and "500m" are the same."""


class Quantity(NamedTuple):
    """What a Kubernetes quantity is worth.

    `milli`: thousandths, rounded up. `value`: whole units, rounded up. `float`: digits times a power of ten as written.
    `canonical`: the text that the API stores. `sign`: -1, 0 or 1. Values beyond 64 bits are what Kubernetes makes of
    them: 0, or what is left after wrapping around.

    >>> parse_quantity("1500m").value
    2
    """

    milli: int
    value: int
    float: float
    canonical: str
    sign: int


def parse_quantity(text: str, /) -> Quantity:
    """Reads a Kubernetes quantity: `"250m"`, `"1.5Gi"`, `"3e2"`.

    Suffixes are n u m k M G T P E (powers of 1000), Ki Mi Gi Ti Pi Ei (powers of 1024) and exponents e or E.
    Raises ConfigError for any other text. Source: apimachinery, `pkg/api/resource`.

    >>> parse_quantity("1.5Gi").canonical, parse_quantity("0.5").milli
    ('1536Mi', 500)
    """
    return Quantity(*_parse_quantity(text))


@dataclass(frozen=True)
class ResourceMetric:
    """A resource that the pods use, "cpu" or "memory", or that one of their containers uses.

    `name`: the resource. `average_utilization`: target in whole percent of what the pods request; 80 is 80 %.
    `average_value`: target a pod, a number or quantity; of two targets this one counts. `container`: only this one.
    `key`: the name under which observations carry it; None is `name`, or `container/name`.
    Without pods, observations carry the utilization in percent, or the average a pod.

    >>> ResourceMetric("cpu", average_utilization=80)
    ResourceMetric(name='cpu', average_utilization=80, average_value=None, container=None, key=None)
    """

    _source: ClassVar[str] = "resource"
    name: str
    _: KW_ONLY
    average_utilization: int | None = None
    average_value: Number | None = None
    container: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class PodsMetric:
    """A metric of your own that each pod reports, such as the length of its queue.

    `name`: the metric. `average_value`: target a pod, a number or quantity. `key`: the name under which observations
    carry it; None is `name`. Without pods, observations carry the average a pod.

    >>> PodsMetric("inference_queue_depth", average_value=5).average_value
    5
    """

    _source: ClassVar[str] = "pods"
    name: str
    _: KW_ONLY
    average_value: Number
    key: str | None = None


@dataclass(frozen=True)
class ObjectMetric:
    """One value of another object of the cluster, such as the requests a second of an ingress.

    `name`: the metric. `value`: target of the value itself; the count follows the pods that are ready. `average_value`:
    target of the value divided by the replicas. Exactly one of them. `key`: see PodsMetric.

    >>> ObjectMetric("requests_per_second", average_value="10").average_value
    '10'
    """

    _source: ClassVar[str] = "object"
    name: str
    _: KW_ONLY
    value: Number | None = None
    average_value: Number | None = None
    key: str | None = None


@dataclass(frozen=True)
class ExternalMetric:
    """A metric from outside the cluster, one value or several that are added up, such as the length of a queue.

    `name`, `value`, `average_value`, `key`: see ObjectMetric; of two targets `average_value` counts.

    >>> ExternalMetric("queue_length", average_value=30).key is None
    True
    """

    _source: ClassVar[str] = "external"
    name: str
    _: KW_ONLY
    value: Number | None = None
    average_value: Number | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScalingPolicy:
    """How much may change in a period.

    `kind`: "pods" (so many) or "percent" (of the replicas at the start of the period). `value`: 1 or more. `period`:
    seconds from 1 to 1800.

    >>> ScalingPolicy(kind="pods", value=4, period=60)
    ScalingPolicy(kind='pods', value=4, period=60)
    """

    kind: Literal["pods", "percent"]
    value: int
    period: float


@dataclass(frozen=True, kw_only=True)
class ScalingRules:
    """The rules of one direction. What is None is the default of the API.

    `stabilization_window`: seconds from 0 to 3600 in which past recommendations count; None is 0 for scaling up, and
    the controller's `downscale_stabilization` for scaling down.
    `select_policy`: "max" (the policy that allows the largest change), "min", or "disabled" (no change); None is "max".
    `policies`: at least one ScalingPolicy; None is 4 pods or 100 % in 15 s up, and 100 % in 15 s down.
    `tolerance`: how far a ratio may be from 1 in this direction, a number or quantity; None is the controller's.

    >>> ScalingRules(stabilization_window=60).policies is None
    True
    """

    stabilization_window: float | None = None
    select_policy: Literal["max", "min", "disabled"] | None = None
    policies: Sequence[ScalingPolicy] | None = None
    tolerance: Number | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "policies")


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """The rules of both directions; None is that direction's defaults.

    A Behavior without anything in it is not the same as none at all: without, Kubernetes takes an older path, which
    scales up to twice the replicas, at least 4, and keeps no account of periods.

    >>> Behavior(scale_down=ScalingRules(select_policy="disabled")).scale_up is None
    True
    """

    scale_up: ScalingRules | None = None
    scale_down: ScalingRules | None = None


@dataclass(frozen=True, kw_only=True)
class HorizontalPodAutoscaler(NativePolicy):
    """Kubernetes' Horizontal Pod Autoscaler (autoscaling/v2): as many replicas as bring each metric to its target.

    `max_replicas`, `min_replicas` (1): bounds. With 0 but not `scale_to_zero`, or without an object or external metric,
    it can go to 0 and stays there, paused; Kubernetes refuses to make such an object, and so does from_manifest.
    `metrics`: ResourceMetric, PodsMetric, ObjectMetric, ExternalMetric; the largest answer wins. Default: CPU at 80 %.
    `behavior` (None): a Behavior; None is the older path, see there.
    `tolerance` (0.1): how far a metric may be from its target without consequences, a number or quantity.
    `downscale_stabilization` (300.0): seconds in which a higher recommendation holds back scaling down.
    `cpu_initialization_period` (300.0): seconds in which the CPU of a started pod counts only once it is ready.
    `initial_readiness_delay` (30.0): seconds after its start in which a change to unready is a pod's first report.
    `scale_to_zero` (False): the gate HPAScaleToZero.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Observations: `current` is the number of replicas in service, `desired` what was asked for (`scale.spec.replicas`;
    None is `current + warming`), `status` what a controller last reported (None is the same). `metrics` holds values;
    without `pods`, those of pods are averages a pod (or percent), as if all were alike and ready, the warming ones not.
    With `pods`, a Pods object, each pod's values, readiness and requests count, by Kubernetes' rules.

    A metric that is missing does not raise: the recommendation stays, `limited_by` is "missing_metrics", unless
    the others ask for more. At 0 replicas that somebody else set, it is paused ("scaling_disabled").
    Raises ConfigError, and MetricError for an observation that cannot be used.
    Source: Kubernetes v1.36.2, `pkg/controller/podautoscaler`.

    >>> policy = HorizontalPodAutoscaler(
    ...     max_replicas=30, metrics=[PodsMetric("inference_queue_depth", average_value=5)]
    ... )
    >>> r = policy.recommend(Observation(4, metrics={"inference_queue_depth": 7.5}), now=0.0)
    >>> r.desired, r.reason
    (6, 'inference_queue_depth 7.5 is above the target 5: 4 to 6')
    """

    max_replicas: int
    min_replicas: int = 1
    metrics: Sequence[ResourceMetric | PodsMetric | ObjectMetric | ExternalMetric] = (
        ResourceMetric("cpu", average_utilization=80),
    )
    behavior: Behavior | None = None
    tolerance: Number = 0.1
    downscale_stabilization: float = 300.0
    cpu_initialization_period: float = 300.0
    initial_readiness_delay: float = 30.0
    scale_to_zero: bool = False
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "metrics")
        self._start(HpaEngine(self), self.clock)

    def status(self) -> dict[str, Any]:
        """The conditions as (type, status, reason), `desired_replicas`, and `last_scale` in seconds or None.

        After `rejected` they say so, which the recommendation, made before, cannot.
        """
        return self._hpa().status()

    def _hpa(self) -> HpaEngine:
        assert isinstance(self._engine, HpaEngine)
        return self._engine

    @classmethod
    def from_manifest(
        cls,
        manifest: str | PathLike[str] | Mapping[str, Any],
        /,
        *,
        tolerance: Number = 0.1,
        downscale_stabilization: float = 300.0,
        cpu_initialization_period: float = 300.0,
        initial_readiness_delay: float = 30.0,
        scale_to_zero: bool = False,
        clock: Clock | None = None,
    ) -> HorizontalPodAutoscaler:
        """A policy from a manifest of kind HorizontalPodAutoscaler, autoscaling/v2 or v1.

        `manifest`: a path, the YAML text itself (it has a line break), or a mapping that was read already. Of several
        documents the one HorizontalPodAutoscaler counts. The other arguments are the controller's flags, which no
        manifest holds. Texts and paths need the extra `aibalance[kubernetes]`.
        Raises FormatError with file, line, field and, for a typo, the right name; what Kubernetes' validation refuses
        is refused here.

        >>> HorizontalPodAutoscaler.from_manifest({
        ...     "apiVersion": "autoscaling/v1",
        ...     "kind": "HorizontalPodAutoscaler",
        ...     "spec": {
        ...         "scaleTargetRef": {"kind": "Deployment", "name": "web"},
        ...         "maxReplicas": 9,
        ...         "targetCPUUtilizationPercentage": 60,
        ...     },
        ... }).metrics[0].average_utilization
        60
        """
        from ..formats.kubernetes import read_hpa

        flags: dict[str, Any] = {
            "tolerance": tolerance,
            "downscale_stabilization": downscale_stabilization,
            "cpu_initialization_period": cpu_initialization_period,
            "initial_readiness_delay": initial_readiness_delay,
            "scale_to_zero": scale_to_zero,
            "clock": clock,
        }
        return read_hpa(manifest, lambda fields: cls(**fields, **flags))


class Proposal(NamedTuple):
    """What one metric asks for.

    `replicas`: that many, before bounds and rates. `usage`: the metric: a pod's average, or the whole. `usage_milli`:
    the same in thousandths. `utilization`: whole percent of what is requested, or None. `ratio`: over the target, as
    it decided. `within_tolerance`: nothing is to be done.

    >>> replicas(PodsMetric("queue", average_value=5), {"current": 4, "metrics": {"queue": 7.5}}, now=0.0).usage_milli
    7500
    """

    replicas: int
    usage: float
    usage_milli: int
    utilization: int | None
    ratio: float
    within_tolerance: bool


def replicas(
    metric: ResourceMetric | PodsMetric | ObjectMetric | ExternalMetric,
    observation: Observation | Mapping[str, Any],
    /,
    *,
    now: float,
    tolerance: Number | tuple[Number, Number] = 0.1,
    cpu_initialization_period: float = 300.0,
    initial_readiness_delay: float = 30.0,
) -> Proposal:
    """How many replicas one metric asks for: Kubernetes' replica calculator, without memory, bounds or rates.

    `tolerance`: both directions, or a pair (down, up). The others: see HorizontalPodAutoscaler.
    Raises MetricError when the metric gives no answer. Source: `replica_calculator.go` of Kubernetes v1.36.2.

    >>> cpu = ResourceMetric("cpu", average_utilization=50)
    >>> replicas(cpu, {"current": 4, "metrics": {"cpu": 90}}, now=0.0).replicas
    8
    """
    count, milli, utilization, ratio, within = _hpa_replicas(
        metric,
        observation,
        now=now,
        tolerance=tolerance,
        cpu_initialization_period=cpu_initialization_period,
        initial_readiness_delay=initial_readiness_delay,
    )
    return Proposal(count, milli / 1000, milli, utilization, ratio, within)
