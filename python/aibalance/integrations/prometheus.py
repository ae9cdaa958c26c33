"""A collector of pools, pickers, queues and policies for prometheus_client (`pip install aibalance[prometheus]`)."""

from __future__ import annotations

from ._meters import WatchedPolicy
from ._prometheus import AibalanceCollector, dashboard

__all__ = ["AibalanceCollector", "WatchedPolicy", "dashboard"]
