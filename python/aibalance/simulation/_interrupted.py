"""Ctrl-C in a long comparison: what is known by then goes with the exception."""

from __future__ import annotations

from typing import Any


class Interrupted(KeyboardInterrupt):
    """A KeyboardInterrupt that brings what is known: `known` is a Comparison or None, `text` says of how much."""

    def __init__(self, known: Any, text: str) -> None:
        super().__init__(text)
        self.known = known
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.known, self.text)
