"""A client middleware for aiohttp: each request goes where a picker says (`pip install aibalance[aiohttp]`)."""

from __future__ import annotations

from ._aiohttp import middleware

__all__ = ["middleware"]
