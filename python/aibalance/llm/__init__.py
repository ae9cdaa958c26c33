"""Balancing language models: prefixes, tokens and memory in one score."""

from __future__ import annotations

from ._prefix import PrefixAware, PrefixExplanation, PrefixIndex, PrefixMatch, Tier
from ._prefix import _explain as _explain
from ._tenants import FairQueue, TenantLease, VirtualTokenCounter

__all__ = [
    "FairQueue",
    "PrefixAware",
    "PrefixExplanation",
    "PrefixIndex",
    "PrefixMatch",
    "TenantLease",
    "Tier",
    "VirtualTokenCounter",
]
