"""Times of a series as a person would write them: dates where they are Unix times, else time since the start."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["dated", "writer"]


def dated(start: float) -> bool:
    """Whether a series that starts so counts from 1970 rather than from its own beginning.

    >>> dated(0.0), dated(1_760_000_000.0)
    (False, True)
    """
    return start >= 1e8


def writer(start: float, end: float) -> Callable[[float], str]:
    """What writes the times of a series: to the second where it is short, to the minute where it is long.

    >>> writer(0.0, 3600.0)(90.0), writer(0.0, 1e6)(93_600.0)
    ('00:01:30', '1 d 02:00')
    >>> writer(1_760_054_400.0, 1_760_058_000.0)(1_760_054_430.0)
    '00:00:30'
    >>> writer(1_760_054_400.0, 1_761_264_000.0)(1_760_054_430.0)
    '2025-10-10 00:00'
    """
    short = end - start < 6 * 3600
    if dated(start):
        form = "%H:%M:%S" if short else "%Y-%m-%d %H:%M"
        return lambda at: datetime.fromtimestamp(at, UTC).strftime(form)

    def since(at: float) -> str:
        sign, seconds = ("−", -at) if at < 0 else ("", at)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        if short and hours < 24:
            return f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}"
        days, hours = divmod(hours, 24)
        return f"{sign}{days} d {hours:02d}:{minutes:02d}"

    return since
