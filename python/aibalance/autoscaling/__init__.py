"""How many servers there should be: `policy.recommend(observation)` and why.

>>> from aibalance.autoscaling import TargetTracking
>>> policy = TargetTracking(metric="cpu", target=50.0, max_capacity=20, high_alarm=None, low_alarm=None)
>>> policy.recommend({"current": 10, "metrics": {"cpu": 75.0}}, now=0.0).desired
15
"""

from __future__ import annotations

from .._core import Observation, Pods, Recommendation, round_percent_change
from .aibrix import AibrixApa
from .aws import Combined, Step, StepScaling, TargetTracking, effective_warmup, warm_metric
from .aws_schedules import PredictiveScaling, ScheduledAction, ScheduledScaling, SimpleScaling
from .azure import AzureAutoscale, AzureRule
from .filters import FlappingGuard, ScaleInControl, ScaleOutThreshold, StabilizationWindow, Tolerance
from .gcp import CloudRun, GroupSignal, ManagedInstanceGroup, ScaleInLimit, ScalingSchedule
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
from .ray_serve import RayServeAutoscaler, adjust_to_capacity, round_to_gangs, scale_by_factor

__all__ = [
    "AibrixApa",
    "AzureAutoscale",
    "AzureRule",
    "Behavior",
    "Clock",
    "CloudRun",
    "Combined",
    "ExternalMetric",
    "FlappingGuard",
    "ForecastScaling",
    "GroupSignal",
    "HorizontalPodAutoscaler",
    "KedaScaledObject",
    "KnativePodAutoscaler",
    "ManagedInstanceGroup",
    "ObjectMetric",
    "Observation",
    "OutageGuard",
    "Pods",
    "PodsMetric",
    "Policy",
    "PredictiveScaling",
    "ProportionalScaling",
    "QueueScaling",
    "RayServeAutoscaler",
    "Recommendation",
    "ResourceMetric",
    "ScaleInControl",
    "ScaleInLimit",
    "ScaleOutThreshold",
    "ScalingPolicy",
    "ScalingRules",
    "ScalingSchedule",
    "ScheduledAction",
    "ScheduledScaling",
    "SimpleScaling",
    "StabilizationWindow",
    "Step",
    "StepScaling",
    "TargetTracking",
    "Tolerance",
    "adjust_to_capacity",
    "effective_warmup",
    "round_percent_change",
    "round_to_gangs",
    "scale_by_factor",
    "warm_metric",
]
