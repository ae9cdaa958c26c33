"""Filters and weighted scorers as data, as in the Gateway API Inference Extension and llm-d.

A `ScoringProfile` lists filters, scorers with weights, and how to choose by the sums; `ScoredPicker` goes by it.
Scorers look at what endpoints report (`picker.observe`), at the prefix index, and at what was sent.

Sources: Gateway API Inference Extension 84436a9 and llm-d's scheduler 520af47 (formulas and defaults).
"""

from __future__ import annotations

from ._scored import EndpointScore, ScoredPicker, ScoringProfile
from ._scorers import (
    ActiveRequestScorer,
    EndpointView,
    InferenceRequest,
    KvCacheScorer,
    LabelFilter,
    LoadAwareScorer,
    LoraScorer,
    MaxScore,
    NoHitLruScorer,
    PrefixScorer,
    QueueScorer,
    RandomChoice,
    RunningRequestsScorer,
    SaturationFilter,
    Scorer,
    SessionScorer,
    TokenLoadScorer,
    WeightedRandomChoice,
)

__all__ = [
    "ActiveRequestScorer",
    "EndpointScore",
    "EndpointView",
    "InferenceRequest",
    "KvCacheScorer",
    "LabelFilter",
    "LoadAwareScorer",
    "LoraScorer",
    "MaxScore",
    "NoHitLruScorer",
    "PrefixScorer",
    "QueueScorer",
    "RandomChoice",
    "RunningRequestsScorer",
    "SaturationFilter",
    "ScoredPicker",
    "Scorer",
    "ScoringProfile",
    "SessionScorer",
    "TokenLoadScorer",
    "WeightedRandomChoice",
]
