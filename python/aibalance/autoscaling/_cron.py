"""When a cron expression was last due, in a time zone, through daylight saving: by cronsim and zoneinfo."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .._errors import ConfigError

__all__ = ["check", "last_due", "next_due"]


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _library() -> Any:
    try:
        import cronsim
    except ImportError:
        raise ConfigError("recurrence: schedules need cronsim; pip install 'aibalance[schedules]'") from None
    return cronsim


def check(field: str, expression: object, time_zone: object) -> None:
    """Raises ConfigError unless both can be used: five fields, an IANA name."""
    if not isinstance(time_zone, str):
        raise ConfigError(f"{field}.time_zone: {time_zone!r} is not allowed; an IANA name such as Europe/Berlin")
    try:
        zone = _zone(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{field}.time_zone: {time_zone!r} is not allowed; an IANA name such as Europe/Berlin, or UTC"
        ) from None
    library = _library()
    allowed = 'a cron expression of five fields, such as "0 9 * * MON-FRI"'
    if not isinstance(expression, str) or len(expression.split()) != 5:
        raise ConfigError(f"{field}.recurrence: {expression!r} is not allowed; {allowed}")
    try:
        library.CronSim(expression, datetime(2024, 1, 1, tzinfo=zone))
    except library.CronSimError as error:
        raise ConfigError(f"{field}.recurrence: {expression!r} is not allowed; {allowed} ({error})") from None


def _first(expression: str, start: datetime, reverse: bool) -> float | None:
    for moment in _library().CronSim(expression, start, reverse):
        return float(moment.timestamp())
    return None


def last_due(expression: str, time_zone: str, now: float) -> float | None:
    """The last instant at or before `now` (Unix seconds) at which it was due; None if there was none."""
    # Going back finds what is strictly before, so it begins one second later.
    start = datetime.fromtimestamp(int(now), tz=_zone(time_zone)).astimezone(_zone("UTC")) + timedelta(seconds=1)
    return _first(expression, start.astimezone(_zone(time_zone)), True)


def next_due(expression: str, time_zone: str, now: float) -> float | None:
    """The first instant after `now` at which it is due."""
    return _first(expression, datetime.fromtimestamp(int(now), tz=_zone(time_zone)), False)
