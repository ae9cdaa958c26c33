"""What capacity costs and how likely it is there.

>>> from aibalance.capacity import CostModel
>>> model = CostModel(on_demand=1.0, spot=0.35, interruption_rate=0.05, replacement_hours=1 / 12)
>>> model.cheapest_mix(need=8, probability=0.9999).spot
10
"""

from __future__ import annotations

from ._capacity.cost import CapacityChance, CostModel, Mix, PooledCapacity, PriceList, billed_seconds

__all__ = ["CapacityChance", "CostModel", "Mix", "PooledCapacity", "PriceList", "billed_seconds"]
