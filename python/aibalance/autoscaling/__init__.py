"""How many servers there should be: `policy.recommend(observation)` and why.

>>> from aibalance.autoscaling import TargetTracking
>>> policy = TargetTracking(metric="cpu", target=50.0, max_capacity=20, high_alarm=None, low_alarm=None)
>>> policy.recommend({"current": 10, "metrics": {"cpu": 75.0}}, now=0.0).desired
15
"""

from __future__ import annotations

from .._core import Observation, Pods, Recommendation, round_percent_change
from .aws import Combined, Step, StepScaling, TargetTracking, effective_warmup, warm_metric
from .hpa import (
    Behavior,
    ExternalMetric,
    HorizontalPodAutoscaler,
    ObjectMetric,
    PodsMetric,
    ResourceMetric,
    ScalingPolicy,
    ScalingRules,
)
from .keda import KedaScaledObject
from .knative import KnativePodAutoscaler
from .policy import Clock, Policy
from .predictive import ForecastScaling, OutageGuard
from .proportional import ProportionalScaling, QueueScaling

__all__ = [
    "Behavior",
    "Clock",
    "Combined",
    "ExternalMetric",
    "ForecastScaling",
    "HorizontalPodAutoscaler",
    "KedaScaledObject",
    "KnativePodAutoscaler",
    "ObjectMetric",
    "Observation",
    "OutageGuard",
    "Pods",
    "PodsMetric",
    "Policy",
    "ProportionalScaling",
    "QueueScaling",
    "Recommendation",
    "ResourceMetric",
    "ScalingPolicy",
    "ScalingRules",
    "Step",
    "StepScaling",
    "TargetTracking",
    "effective_warmup",
    "round_percent_change",
    "warm_metric",
]
