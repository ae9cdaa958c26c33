"""Balancing language models: prefixes, tokens and memory in one score."""

from __future__ import annotations

from ._adapters import LoraAware, LoraRequest
from ._conversations import Conversations, Turn
from ._pairs import PairLease, PrefillDecode
from ._prefix import PrefixAware, PrefixExplanation, PrefixIndex, PrefixMatch, Tier
from ._prefix import _explain as _explain
from ._tenants import FairQueue, TenantLease, VirtualTokenCounter

__all__ = [
    "Conversations",
    "FairQueue",
    "LoraAware",
    "LoraRequest",
    "PairLease",
    "PrefillDecode",
    "PrefixAware",
    "PrefixExplanation",
    "PrefixIndex",
    "PrefixMatch",
    "TenantLease",
    "Tier",
    "Turn",
    "VirtualTokenCounter",
]
