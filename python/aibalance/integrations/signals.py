"""What model servers and GPUs say of themselves, for pools and policies (`pip install aibalance[prometheus]`)."""

from __future__ import annotations

from ._poll import SignalPoller
from ._signals import SOURCES, SignalReader, Signals, Source, observation, read_nvml

__all__ = ["SOURCES", "SignalPoller", "SignalReader", "Signals", "Source", "observation", "read_nvml"]
