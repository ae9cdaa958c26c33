"""Who is let in when the fleet is full: saturation, shedding by priority, and a gate before a picker.

With a `FairQueue` on it the gate is the flow control of the Gateway API Inference Extension: strict bands of
priority, then fairness between tenants, then arrival, held while the fleet is saturated.

Sources: Gateway API Inference Extension 84436a9 (utilization and concurrency detectors), llm-d's scheduler 520af47
(probabilistic admitter).
"""

from __future__ import annotations

from ._admission import (
    Admission,
    ConcurrencySaturation,
    ProbabilisticShedding,
    Saturation,
    StrictShedding,
    UtilizationSaturation,
)

__all__ = [
    "Admission",
    "ConcurrencySaturation",
    "ProbabilisticShedding",
    "Saturation",
    "StrictShedding",
    "UtilizationSaturation",
]
