"""Knative's pod autoscaler: averages over two windows, panic, burst capacity, and the way to zero.

Source: Knative Serving after v0.50 (commit 98e5ef90): pkg/autoscaler, pkg/reconciler/autoscaling/kpa.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .._core import KnativeEngine, MaxWindow, Window
from .._errors import ConfigError
from .policy import Clock, NativePolicy

__all__ = ["KnativePodAutoscaler", "MaxWindow", "ScaleDecision", "Window"]

_ANNOTATIONS = "autoscaling.knative.dev/"
_DEADLINE = "serving.knative.dev/progress-deadline"
_Activity = Literal["active", "activating", "inactive"]


@dataclass(frozen=True, kw_only=True)
class ScaleDecision:
    """What the scaler does with the autoscaler's number.

    `want`: replicas there should be; -1 is not known yet. `patch`: replicas to write, None for nothing.
    `requeue_after`: seconds until it has to be asked again, None if time alone changes nothing. `probed`: whether the
    activator was probed for; `keep_probing`: whether to go on. `limited_by`: what moved or held it.

    >>> KnativePodAutoscaler(min_scale=2).scale(1, replicas=1, activity="active", held=90.0).patch
    2
    """

    want: int
    patch: int | None
    requeue_after: float | None
    probed: bool
    keep_probing: bool
    limited_by: str | None


@dataclass(frozen=True, kw_only=True)
class KnativePodAutoscaler(NativePolicy):
    """Knative's pod autoscaler, decision for decision.

    `current` of an observation are the ready pods, `desired` the replicas that were last written. Metrics come by
    `record`, one sample a pod and scrape (samples of one second add up), or as the total in the observation; the metric
    `activator_probe` of an observation says whether a probe finds the activator in the path (0 is no).

    `metric` ("concurrency"): requests in flight; or "rps", requests a second.
    `container_concurrency` (0): requests that a pod takes at most; 0 is no limit.
    `target` (None): what a pod is meant to take; None is that limit, or else `default_target` (None: 100, rps 200).
    `target_utilization` (0.7): the share of it that is aimed at.
    `stable_window` (60.0): whole seconds, 6 to 3600. `panic_window_percentage` (10.0): of it.
    `panic_threshold_percentage` (200.0): panic begins when the panic window asks for this many percent of the pods.
    `max_scale_up_rate` (1000.0), `max_scale_down_rate` (2.0): the largest factors in a step.
    `target_burst_capacity` (211.0): requests that may come at once; -1 has the activator always in the path, 0 never
    but at zero. `activator_capacity` (100.0): requests that one activator takes.
    `activation_scale` (0): the fewest pods when there are any. `scale_down_delay` (0.0): seconds that a smaller number
    has to last. `aggregation` ("linear"): or "weighted_exponential".
    `min_scale` (0), `max_scale` (0, no limit), `initial_scale` (1): replicas.
    `enable_scale_to_zero` (True), `scale_to_zero_grace_period` (30.0), `scale_to_zero_pod_retention_period` (0.0),
    `progress_deadline` (600.0): the way to zero, in seconds. `reachable` (True): whether traffic is routed to it.
    `clock` (None): answers when `now` is not given; None is `time.monotonic`.

    Instants count to the microsecond. Buckets are seconds of the clock: use Unix time to share a state.
    Raises ConfigError. Source: see the module.

    >>> policy = KnativePodAutoscaler(container_concurrency=10, target_burst_capacity=0)
    >>> for second in range(60):
    ...     policy.record("concurrency", 100.0, at=float(second))
    >>> r = policy.recommend({"current": 15, "desired": 12}, now=59.0)
    >>> r.desired, r.details["stable"], r.details["panicking"]
    (15, 100.0, True)
    """

    metric: Literal["concurrency", "rps"] = "concurrency"
    container_concurrency: int = 0
    target: float | None = None
    default_target: float | None = None
    target_utilization: float = 0.7
    stable_window: float = 60.0
    panic_window_percentage: float = 10.0
    panic_threshold_percentage: float = 200.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    target_burst_capacity: float = 211.0
    activator_capacity: float = 100.0
    activation_scale: int = 0
    scale_down_delay: float = 0.0
    aggregation: Literal["linear", "weighted_exponential"] = "linear"
    min_scale: int = 0
    max_scale: int = 0
    initial_scale: int = 1
    enable_scale_to_zero: bool = True
    scale_to_zero_grace_period: float = 30.0
    scale_to_zero_pod_retention_period: float = 0.0
    progress_deadline: float = 600.0
    reachable: bool = True
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._start(KnativeEngine(self), self.clock)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        *,
        container_concurrency: int = 0,
        reachable: bool = True,
        progress_deadline: float = 600.0,
        clock: Clock | None = None,
    ) -> KnativePodAutoscaler:
        """The policy of a revision: the cluster's `config-autoscaler` map, and the revision's annotations over it.

        Both are text as Kubernetes holds it, keys of annotations with their prefix; annotations of others are left
        alone, an unknown one of Knative's is an error that names the nearest. `progress_deadline`: the deployment's.
        Raises ConfigError with the key.

        >>> policy = KnativePodAutoscaler.from_config(
        ...     {"stable-window": "30s"}, {"autoscaling.knative.dev/target": "20"}, container_concurrency=10
        ... )
        >>> policy.stable_window, policy.total, policy.target_value
        (30.0, 10.0, 7.0)
        """
        return cls(
            **_resolved(dict(config or {}), dict(annotations or {}), container_concurrency),
            container_concurrency=container_concurrency,
            reachable=reachable,
            progress_deadline=_deadline(annotations or {}, progress_deadline),
            clock=clock,
        )

    @property
    def _native(self) -> KnativeEngine:
        engine = self._engine
        assert isinstance(engine, KnativeEngine)
        return engine

    @property
    def total(self) -> float:
        """What a pod is meant to take, before `target_utilization`."""
        return self._native.resolved()[0]

    @property
    def target_value(self) -> float:
        """What is aimed at: total times utilization, at least 0.01."""
        return self._native.resolved()[1]

    @property
    def panic_window(self) -> float:
        """Seconds: the percentage of the stable window, rounded, at least one."""
        return self._native.resolved()[2]

    def record(self, name: str, value: float | None, *, at: float, proxied: float = 0.0) -> None:
        """Takes up what one pod, or the activator, reported `at` these seconds.

        `proxied` is the part of it that came through the activator, which reports it too. None is no report.
        Raises MetricError for another metric than the policy's, or a value that is not finite.
        """
        self._native.record(name, value, at, proxied)

    def start(self, ready: int, *, at: float) -> None:
        """Says that the autoscaler is made while `ready` pods are there: more than one begin a panic.

        Without it, the first recommendation does that. Source: restart protection of Knative's autoscaler.
        """
        self._native.start(ready, at)

    def replace(self, *, now: float | None = None, **changes: Any) -> KnativePodAutoscaler:
        """This policy with some options changed, as when an annotation changes: the memory goes on.

        Windows are resized; a scale-down delay stays what it was when the policy was made, as in Knative.
        """
        other = replace(self, **changes)
        other._native.adopt(self.state(), self._now() if now is None else now)
        return other

    def activators(self, ready: int) -> int:
        """How many activators should stand in the path of so many ready pods.

        >>> KnativePodAutoscaler(container_concurrency=10).activators(30)
        6
        """
        return self._native.activators(ready)

    def scale(
        self,
        desired: int,
        /,
        *,
        replicas: int,
        activity: _Activity = "active",
        held: float = 0.0,
        initialized: bool = True,
        mode: Literal["serve", "proxy"] = "serve",
        proxied: float | None = None,
        probe_ok: bool = True,
    ) -> ScaleDecision:
        """What the scaler makes of the autoscaler's number; the memory is neither read nor changed.

        `desired`: the number, -1 for none. `replicas`: as last written. `activity`, and for how many seconds it `held`.
        `initialized`: whether the initial scale was reached once. `mode` of the service, and for how many seconds it
        has been proxied (None: never). `probe_ok`: whether a probe finds the activator.
        """
        told = self._native.scale(desired, replicas, activity, held, initialized, mode, proxied, probe_ok)
        return ScaleDecision(**told)

    def next_activity(
        self, activity: _Activity, /, *, initialized: bool, want: int, ready: int
    ) -> tuple[_Activity, bool, str]:
        """The activity after a decision, whether the initial scale counts as reached, and Knative's word for why.

        >>> KnativePodAutoscaler().next_activity("activating", initialized=False, want=1, ready=1)
        ('active', True, '')
        """
        return self._native.next_activity(activity, initialized, want, ready)


_NAMES = {
    "class": "class",
    "metric": "metric",
    "target": "target",
    "target-utilization-percentage": "targetUtilizationPercentage",
    "window": "window",
    "panic-window-percentage": "panicWindowPercentage",
    "panic-threshold-percentage": "panicThresholdPercentage",
    "min-scale": "minScale",
    "max-scale": "maxScale",
    "initial-scale": "initialScale",
    "activation-scale": "activationScale",
    "scale-down-delay": "scaleDownDelay",
    "target-burst-capacity": "targetBurstCapacity",
    "scale-to-zero-pod-retention-period": "scaleToZeroPodRetentionPeriod",
    "metric-aggregation-algorithm": "metricAggregationAlgorithm",
}
_CONFIG = {
    "enable-scale-to-zero", "allow-zero-initial-scale", "max-scale-up-rate", "max-scale-down-rate",
    "container-concurrency-target-percentage", "container-concurrency-target-default",
    "requests-per-second-target-default", "target-burst-capacity", "activator-capacity", "panic-window-percentage",
    "panic-threshold-percentage", "stable-window", "scale-down-delay", "scale-to-zero-grace-period",
    "scale-to-zero-pod-retention-period", "initial-scale", "min-scale", "max-scale", "max-scale-limit",
    "pod-autoscaler-class",
}  # fmt: skip
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _refuse(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{key}: {value!r} is not allowed; {allowed}")


def _unknown(key: str, known: list[str]) -> ConfigError:
    import difflib

    near = difflib.get_close_matches(key, known, 1, 0.6)
    return _refuse(key, "this key", f"did you mean {near[0]}?" if near else f"the keys are {', '.join(sorted(known))}")


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        raise _refuse(key, text, "a number") from None
    if not abs(number) < float("inf"):
        raise _refuse(key, text, "a finite number")
    return number


def _whole(key: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", str(text)):
        raise _refuse(key, text, "a whole number")
    return int(text)


def _seconds(key: str, text: str) -> float:
    """A duration as Go writes it: 1m30s."""
    text = str(text)
    if text == "0":
        return 0.0
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(n + unit for n, unit in parts) != text.removeprefix("+"):
        raise _refuse(key, text, "a duration such as 90s or 1m30s")
    return sum(float(n) * _UNITS[unit] for n, unit in parts)


def _deadline(annotations: Mapping[str, str], default: float) -> float:
    return _seconds(_DEADLINE, annotations[_DEADLINE]) if _DEADLINE in annotations else default


def _bool(key: str, text: str) -> bool:
    if str(text).lower() not in ("true", "false"):
        raise _refuse(key, text, "true or false")
    return str(text).lower() == "true"


def _resolved(config: dict[str, str], annotations: dict[str, str], container_concurrency: int) -> dict[str, Any]:
    for key in config:
        if key not in _CONFIG and not key.startswith("_"):
            raise _unknown(key, sorted(_CONFIG))
    own: dict[str, str] = {}
    for key, value in annotations.items():
        if not key.startswith(_ANNOTATIONS):
            continue
        name = key.removeprefix(_ANNOTATIONS)
        kebab = next((k for k, camel in _NAMES.items() if name in (k, camel)), None)
        if kebab is None:
            raise _unknown(key, [_ANNOTATIONS + k for k in _NAMES])
        own[kebab] = value
    if own.get("class", config.get("pod-autoscaler-class", "kpa")).split(".")[0] != "kpa":
        raise _refuse(_ANNOTATIONS + "class", own.get("class"), "the class kpa.autoscaling.knative.dev")
    metric = own.get("metric", "concurrency")
    if metric not in ("concurrency", "rps"):
        raise _refuse(_ANNOTATIONS + "metric", metric, "one of concurrency, rps")

    out: dict[str, Any] = {"metric": metric}

    def take(field: str, key: str, read: Any, annotation: str | None = None) -> None:
        if annotation in own:
            out[field] = read(_ANNOTATIONS + str(annotation), own[str(annotation)])
        elif key in config:
            out[field] = read(key, config[key])

    take("stable_window", "stable-window", _seconds, "window")
    take("panic_window_percentage", "panic-window-percentage", _number, "panic-window-percentage")
    take("panic_threshold_percentage", "panic-threshold-percentage", _number, "panic-threshold-percentage")
    take("max_scale_up_rate", "max-scale-up-rate", _number)
    take("max_scale_down_rate", "max-scale-down-rate", _number)
    take("target_burst_capacity", "target-burst-capacity", _number, "target-burst-capacity")
    take("activator_capacity", "activator-capacity", _number)
    take("scale_down_delay", "scale-down-delay", _seconds, "scale-down-delay")
    take("min_scale", "min-scale", _whole, "min-scale")
    take("max_scale", "max-scale", _whole, "max-scale")
    take("activation_scale", "", _whole, "activation-scale")
    take("target", "", _number, "target")
    take("enable_scale_to_zero", "enable-scale-to-zero", _bool)
    take("scale_to_zero_grace_period", "scale-to-zero-grace-period", _seconds)
    retention = "scale-to-zero-pod-retention-period"
    take("scale_to_zero_pod_retention_period", retention, _seconds, retention)

    take("initial_scale", "initial-scale", _whole)
    if "initial-scale" in own:
        initial = _whole(_ANNOTATIONS + "initial-scale", own["initial-scale"])
        allowed = "allow-zero-initial-scale"
        if initial != 0 or (allowed in config and _bool(allowed, config[allowed])):
            out["initial_scale"] = initial
    if metric == "rps":
        take("default_target", "requests-per-second-target-default", _number)
    else:
        take("default_target", "container-concurrency-target-default", _number)
        take("target_utilization", "container-concurrency-target-percentage", _number)
        if out.get("target_utilization", 0.0) > 1.0:
            out["target_utilization"] /= 100.0
    if "target-utilization-percentage" in own:
        key = "target-utilization-percentage"
        out["target_utilization"] = _number(_ANNOTATIONS + key, own[key]) / 100.0
    algorithm = own.get("metric-aggregation-algorithm", "linear")
    if algorithm not in ("", "linear", "weightedExponential", "weighted-exponential"):
        raise _refuse(_ANNOTATIONS + "metric-aggregation-algorithm", algorithm, "linear or weighted-exponential")
    out["aggregation"] = "weighted_exponential" if algorithm.startswith("weighted") else "linear"
    return out
