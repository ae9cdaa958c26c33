"""Tables for a terminal."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Sequence

__all__ = ["table", "width", "wrapped"]


def width() -> int:
    """Columns of the terminal; 200 when the output goes elsewhere."""
    return shutil.get_terminal_size((200, 40)).columns


def _columns(text: str) -> int:
    # Names may be written in scripts whose letters take two columns, or with marks that take none.
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _put(text: str, columns: int, *, right: bool) -> str:
    space = " " * max(0, columns - _columns(text))
    return space + text if right else text + space


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, columns: int) -> str:
    """Rows under a head; the first `left` columns are names and go to the left, the rest are numbers.

    Where the terminal is narrower than the table, each row's names get a line of their own.
    """
    sizes = [max(_columns(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str], first: int, last: int) -> str:
        return "  ".join(_put(row[i], sizes[i], right=i >= left) for i in range(first, last)).rstrip()

    if sum(sizes) + 2 * (len(sizes) - 1) <= columns:
        return "\n".join(line(row, 0, len(row)) for row in (head, *rows))
    lines = ["    " + line(head, left, len(head))]
    for row in rows:
        lines += ["  ".join(row[:left]).rstrip(), "    " + line(row, left, len(row))]
    return "\n".join(lines)


def wrapped(text: str, columns: int) -> str:
    """Text broken into lines of at most `columns`, and never more than 100, which nobody likes to read."""
    return textwrap.fill(text, max(20, min(columns, 100)), break_long_words=False, break_on_hyphens=False)
