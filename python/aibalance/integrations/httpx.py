"""Transports for httpx and httpx2: each request goes where a picker says (`pip install aibalance[httpx]`)."""

from __future__ import annotations

from ._httpx import async_transport, transport

__all__ = ["async_transport", "transport"]
