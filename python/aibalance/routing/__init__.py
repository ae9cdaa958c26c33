"""Routing: rules to fleets, sessions to endpoints, names to addresses."""

from __future__ import annotations

from .._core import StickyTable
from ._dns import DnsPolicy, DnsRecord, Place
from ._request import Request
from ._rules import Decision, Route, Router, Rule, Timeouts
from ._sticky import Reading, Sticky, StickyCookie, StickyHeader, StickyLease

__all__ = [
    "Decision",
    "DnsPolicy",
    "DnsRecord",
    "Place",
    "Reading",
    "Request",
    "Route",
    "Router",
    "Rule",
    "Sticky",
    "StickyCookie",
    "StickyHeader",
    "StickyLease",
    "StickyTable",
    "Timeouts",
]
