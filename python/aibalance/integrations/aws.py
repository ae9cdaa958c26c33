"""EC2 Auto Scaling groups, target health and CloudWatch (`pip install aibalance[aws]`)."""

from __future__ import annotations

from ._aws import Applied, Group, GroupState, TargetGroup, publish

__all__ = ["Applied", "Group", "GroupState", "TargetGroup", "publish"]
