"""Health: averages of what is observed."""

from __future__ import annotations

from ._core import Ewma, TimeWeightedEwma

__all__ = ["Ewma", "TimeWeightedEwma"]
