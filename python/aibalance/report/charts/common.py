"""What the charts share: sizes, steps of axes, colours of policies."""

from __future__ import annotations

from ..model import Comparison
from ..svg import SERIES, color

__all__ = ["NARROW", "SECONDS", "STEPS", "WIDE", "backing", "series_of", "shortened"]

WIDE, NARROW = 1000, 370
STEPS = [1, 2, 5, 10]

SECONDS = [
    *(base * scale for scale in (1e-3, 1e-2, 1e-1) for base in (1, 2, 5)),
    *(1, 2, 5, 10, 20, 30),
    *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(3600 * hours for hours in (1, 2, 5, 10, 20, 50, 100)),
]


def series_of(comparison: Comparison) -> dict[str, str]:
    """The colour of each scaling policy, the same in every chart; past eight policies colours come again."""
    return {policy: SERIES[i % len(SERIES)] for i, policy in enumerate(comparison.policies)}


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def backing() -> dict[str, object]:
    """Paper behind a text, where lines of the grid would run through it."""
    return {"facecolor": color("paper"), "edgecolor": "none", "pad": 1.0}
