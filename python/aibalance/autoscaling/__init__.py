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

__all__ = [
    "Behavior",
    "Clock",
    "Combined",
    "ExternalMetric",
    "HorizontalPodAutoscaler",
    "KedaScaledObject",
    "KnativePodAutoscaler",
    "ObjectMetric",
    "Observation",
    "Pods",
    "PodsMetric",
    "Policy",
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
