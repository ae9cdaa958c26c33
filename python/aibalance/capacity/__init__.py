"""What capacity is made of: warm pools, on-demand and spot, refreshes, lifecycle hooks, backends, and what it costs.

The rules are frozen objects; `AutoScalingGroup` lives through launch, warm-up and termination, and says what to do.

>>> from aibalance.capacity import MixedInstancesPolicy
>>> MixedInstancesPolicy(on_demand_base=10, on_demand_percent_above_base=50).split(30)
Split(on_demand=20, spot=10)

Sources: EC2 Auto Scaling user guide (last public Markdown edition, 2023-06), Compute Engine v1.
"""

from __future__ import annotations

from .cost import CapacityChance, CostModel, Mix, PooledCapacity, PriceList, billed_seconds
from .group import (
    AutoScalingGroup,
    GroupAction,
    GroupInstance,
    InstanceEvent,
    Offer,
    SpotInterruption,
)
from .removal import deletion_costs, rank_removals
from .rules import (
    Backend,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    PriceBlend,
    RefreshBatch,
    Split,
    WarmPool,
    check_backends,
    rebalance_ceiling,
)

__all__ = [
    "AutoScalingGroup",
    "Backend",
    "CapacityChance",
    "CostModel",
    "GroupAction",
    "GroupInstance",
    "InstanceEvent",
    "InstanceRefresh",
    "LifecycleHook",
    "Mix",
    "MixedInstancesPolicy",
    "Offer",
    "PooledCapacity",
    "PriceBlend",
    "PriceList",
    "RefreshBatch",
    "Split",
    "SpotInterruption",
    "WarmPool",
    "billed_seconds",
    "check_backends",
    "deletion_costs",
    "rank_removals",
    "rebalance_ceiling",
]
