"""The charts of the report. Each comes in two widths: wide for a desk and paper, narrow for a phone."""

from __future__ import annotations

from .common import series_of
from .cost import cost_against_slo
from .differences import differences
from .latency import latency
from .traffic import traffic

__all__ = ["cost_against_slo", "differences", "latency", "series_of", "traffic"]
