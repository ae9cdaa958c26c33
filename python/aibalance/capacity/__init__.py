"""What capacity is made of: warm pools, on-demand and spot, refreshes, lifecycle hooks, backends, and what it costs.

These are the rules, in frozen objects; a group that lives through launch, warm-up and termination is not here yet.

>>> from aibalance.capacity import MixedInstancesPolicy
>>> MixedInstancesPolicy(on_demand_base=10, on_demand_percent_above_base=50).split(30)
Split(on_demand=20, spot=10)

Sources: EC2 Auto Scaling user guide (last public Markdown edition, 2023-06), Compute Engine v1.
"""

from __future__ import annotations

from .rules import (
    Backend,
    CostModel,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    RefreshBatch,
    Split,
    WarmPool,
    check_backends,
    rebalance_ceiling,
)

__all__ = [
    "Backend",
    "CostModel",
    "InstanceRefresh",
    "LifecycleHook",
    "MixedInstancesPolicy",
    "RefreshBatch",
    "Split",
    "WarmPool",
    "check_backends",
    "rebalance_ceiling",
]
