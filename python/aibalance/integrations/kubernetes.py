"""Kubernetes: Deployments scaled by a policy, in an operator of yours (`pip install aibalance[kubernetes]`).

Source: Kubernetes 1.34 (the scale subresource, the HorizontalPodAutoscaler's words for bounds), kopf 1.45.
"""

from __future__ import annotations

from ._kubernetes import DeploymentScaler, Scaled, Target

__all__ = ["DeploymentScaler", "Scaled", "Target"]
