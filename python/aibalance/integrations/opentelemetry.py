"""Instruments for pools, pickers, queues and policies (`pip install aibalance[opentelemetry]`)."""

from __future__ import annotations

from ._meters import WatchedPolicy
from ._opentelemetry import instrument

__all__ = ["WatchedPolicy", "instrument"]
