"""An adapter for requests: each request goes where a picker says (`pip install aibalance[requests]`)."""

from __future__ import annotations

from ._requests import adapter

__all__ = ["adapter"]
