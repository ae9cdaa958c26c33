"""How many servers there should be: `policy.recommend(observation)` and why.

>>> from aibalance.autoscaling import TargetTracking
>>> policy = TargetTracking(metric="cpu", target=50.0, max_capacity=20, high_alarm=None, low_alarm=None)
>>> policy.recommend({"current": 10, "metrics": {"cpu": 75.0}}, now=0.0).desired
15
"""

from __future__ import annotations

from .._core import Observation, Pods, Recommendation, round_percent_change
from ._timeline import Moment, Sample, Timeline, binding, projected, timeline
from .ai import (
    AiScaling,
    ColdStart,
    Composite,
    GpuMemory,
    GpuUtilization,
    KvCacheUsage,
    QueueLength,
    TokenVelocity,
    Workload,
)
from .aibrix import AibrixApa
from .aws import Combined, Step, StepScaling, TargetTracking, effective_warmup, warm_metric
from .aws_schedules import PredictiveScaling, ScheduledAction, ScheduledScaling, SimpleScaling
from .azure import AzureAutoscale, AzureRule
from .checks import PolicyWarning, check
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
from .keda_hpa import KedaAutoscaler
from .knative import KnativePodAutoscaler
from .llm import EngineLatency, LoadPlanner, ServingEstimate, StateDependentScaling, ThroughputPlanner
from .policy import Clock, Policy
from .predictive import ForecastScaling, OutageGuard
from .proportional import ProportionalScaling, QueueScaling
from .ray_serve import RayServeAutoscaler, adjust_to_capacity, round_to_gangs, scale_by_factor

__all__ = [
    "AiScaling",
    "AibrixApa",
    "AzureAutoscale",
    "AzureRule",
    "Behavior",
    "Clock",
    "CloudRun",
    "ColdStart",
    "Combined",
    "Composite",
    "EngineLatency",
    "ExternalMetric",
    "FlappingGuard",
    "ForecastScaling",
    "GpuMemory",
    "GpuUtilization",
    "GroupSignal",
    "HorizontalPodAutoscaler",
    "KedaAutoscaler",
    "KedaScaledObject",
    "KnativePodAutoscaler",
    "KvCacheUsage",
    "LoadPlanner",
    "ManagedInstanceGroup",
    "Moment",
    "ObjectMetric",
    "Observation",
    "OutageGuard",
    "Pods",
    "PodsMetric",
    "Policy",
    "PolicyWarning",
    "PredictiveScaling",
    "ProportionalScaling",
    "QueueLength",
    "QueueScaling",
    "RayServeAutoscaler",
    "Recommendation",
    "ResourceMetric",
    "Sample",
    "ScaleInControl",
    "ScaleInLimit",
    "ScaleOutThreshold",
    "ScalingPolicy",
    "ScalingRules",
    "ScalingSchedule",
    "ScheduledAction",
    "ScheduledScaling",
    "ServingEstimate",
    "SimpleScaling",
    "StabilizationWindow",
    "StateDependentScaling",
    "Step",
    "StepScaling",
    "TargetTracking",
    "ThroughputPlanner",
    "Timeline",
    "TokenVelocity",
    "Tolerance",
    "Workload",
    "adjust_to_capacity",
    "binding",
    "check",
    "effective_warmup",
    "projected",
    "round_percent_change",
    "round_to_gangs",
    "scale_by_factor",
    "timeline",
    "warm_metric",
]
