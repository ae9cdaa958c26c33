"""Logs of your own: CSV with named columns, access logs of nginx and Envoy."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError, FormatError
from ._trace import Trace, _empty, _lines, _name, _shown, _wrong

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Units of times that are numbers."""


@dataclass(frozen=True, eq=False, repr=False)
class Log:
    """Requests of a log: when each came and, where the log says so, how long it took and what else is known.

    `arrival_s` are seconds since the first request, sorted; `service_s` the time that each took, or None; `columns`
    holds further columns of texts, in the same order.

    >>> log = Log("mine", np.array([0.0, 0.5]), np.array([0.1, 0.2]), {"status": ("200", "503")})
    >>> log, len(log.trace())
    (<Log 'mine': 2 requests in 0 s, with durations>, 2)
    """

    name: str
    arrival_s: NDArray[np.float64]
    service_s: NDArray[np.float64] | None
    columns: dict[str, tuple[str, ...]]
    skipped: int = 0
    """Lines that were not understood and left out."""

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __repr__(self) -> str:
        timed = "" if self.service_s is None else ", with durations"
        return f"<Log {self.name!r}: {len(self):,} requests in {float(self.arrival_s[-1]):,.0f} s{timed}>"

    def trace(self) -> Trace:
        """As a `Trace`, without tokens."""
        none = np.zeros(len(self), np.int64)
        return Trace(self.name, "log", self.arrival_s, none, none, service_s=self.service_s)


def read_csv(
    path: str | os.PathLike[str],
    /,
    *,
    time: str,
    duration: str | None = None,
    input_tokens: str | None = None,
    output_tokens: str | None = None,
    time_unit: str = "s",
    duration_unit: str = "s",
    delimiter: Any = ",",
) -> Trace:
    """Read any CSV with a header: a trace, with `service_s` where `duration` names a column.

    Parameters
    ----------
    time : the column that says when a request came: numbers in `time_unit`, or ISO 8601 texts (without an offset they
        are UTC).
    duration : the column that says how long it took, in `duration_unit`.
    input_tokens, output_tokens : columns of token counts (default: all 0).
    time_unit, duration_unit : "s", "ms", "us" or "ns".
    delimiter : one character.

    Rows out of order are sorted, and counted in `trace.reordered`. Raises FormatError naming file, line, field, value
    and what is allowed.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "mine.csv")
    >>> _ = path.write_text("when,took\\n1000,20\\n1500,35\\n")
    >>> read_csv(path, time="when", duration="took", time_unit="ms", duration_unit="ms").service_s.tolist()
    [0.02, 0.035]
    """
    for field, unit in (("time_unit", time_unit), ("duration_unit", duration_unit)):
        if unit not in UNITS:
            raise ConfigError(f"{field}: {unit!r} is not allowed; expected one of {', '.join(UNITS)}")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigError(f"delimiter: {delimiter!r} is not allowed; expected one character")
    wanted = {"time": time, "duration": duration, "input_tokens": input_tokens, "output_tokens": output_tokens}
    place: dict[str, int] | None = None
    rows: list[tuple[float, float, float, float]] = []
    table = csv.reader(_lines(path), strict=True, delimiter=delimiter)
    try:
        for row in table:
            line = table.line_num
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if place is None:
                names = [one.strip() for one in row]
                place = {}
                for field, column in wanted.items():
                    if column is None:
                        continue
                    if names.count(column) != 1:
                        raise _wrong(path, line, f"{field}: column {column!r} must stand once in the header, {names}")
                    place[field] = names.index(column)
                continue
            if len(row) <= max(place.values()):
                raise _wrong(path, line, f"{len(row)} fields; allowed: {max(place.values()) + 1} or more")
            rows.append(
                (
                    _when(path, line, time, row[place["time"]], UNITS[time_unit]),
                    _number(path, line, duration, row, place.get("duration"), 1e9) * UNITS[duration_unit],
                    _number(path, line, input_tokens, row, place.get("input_tokens"), 1e9, whole=True),
                    _number(path, line, output_tokens, row, place.get("output_tokens"), 1e9, whole=True),
                )
            )
    except csv.Error as error:
        raise _wrong(path, table.line_num, f"not CSV: {error}") from None
    if not rows:
        raise _empty(path)
    data = np.array(rows, np.float64)
    reordered = int((data[:, 0] < np.maximum.accumulate(data[:, 0])).sum())
    data = data[np.argsort(data[:, 0], kind="stable")]
    tokens = data[:, 2:].astype(np.int64)
    took = data[:, 1] if duration is not None else None
    seconds = data[:, 0] - data[0, 0]
    return Trace(_name(path), "csv", seconds, tokens[:, 0], tokens[:, 1], reordered=reordered, service_s=took)


def _when(path: Any, line: int, column: str, text: str, unit: float) -> float:
    text = text.strip()
    try:
        value = float(text) * unit
    except ValueError:
        try:
            value = _seconds(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            raise _wrong(
                path, line, f"{column}: {_shown(text)}; allowed: a number, or a time like 2025-01-31T12:00:00Z"
            ) from None
    if not abs(value) <= 1e12:
        raise _wrong(path, line, f"{column}: {_shown(text)}; allowed: at most 1e12 seconds")
    return value


def _seconds(at: datetime) -> float:
    """Unix time; what has no offset is UTC, whatever the machine's zone."""
    offset = at.utcoffset()
    shift = 0.0 if offset is None else offset.total_seconds()
    return (
        (at.toordinal() - 719_163) * 86_400.0
        + at.hour * 3600
        + at.minute * 60
        + at.second
        + at.microsecond / 1e6
        - shift
    )


def _number(
    path: Any, line: int, column: str | None, row: list[str], at: int | None, high: float, *, whole: bool = False
) -> float:
    if at is None:
        return 0.0
    try:
        value = float(row[at])
    except ValueError:
        value = math.nan
    if not 0 <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise _wrong(path, line, f"{column}: {_shown(row[at])}; allowed: {kind} from 0 to {high:g}")
    return value


NGINX_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
"""nginx's `combined`, also Apache's; nginx documents it at ngx_http_log_module."""

ENVOY_DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
"""Envoy's default access log format."""

_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}|%([A-Z_]+)(?:\(([^)]*)\))?(?::\d+)?%")


def read_access_log(
    path: str | os.PathLike[str], /, *, log_format: str = NGINX_COMBINED, duration: str | None = None
) -> Log:
    """Read an access log of nginx or Envoy, gzipped or plain, by its own format string.

    `log_format` is nginx's `log_format` or Envoy's `text_format`, as in their configuration (`NGINX_COMBINED`,
    `ENVOY_DEFAULT`). The time comes from `$msec`, `$time_iso8601`, `$time_local` or `%START_TIME%`; it is when nginx
    logged, at the request's end, so a duration is taken off again, and when Envoy got the first byte. Durations come
    from `$request_time` or `$upstream_response_time` (seconds) or `%DURATION%` (milliseconds); `duration` names another
    variable, with the same units. Times with whole seconds only are spread evenly within their second.

    Lines that do not fit are left out and counted in `log.skipped`; when more than half do not fit, it is an
    error.
    All other variables are `log.columns` by their names.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "access.log")
    >>> _ = path.write_text("100.5 200 0.5\\n101.5 503 0.25\\n")
    >>> log = read_access_log(path, log_format="$msec $status $request_time")
    >>> log.arrival_s.tolist(), log.columns["status"]
    ([0.0, 1.25], ('200', '503'))
    """
    pattern, names = _compiled(log_format)
    stamp = next((one for one in ("msec", "time_iso8601", "time_local", "START_TIME") if one in names), None)
    if stamp is None:
        raise ConfigError("log_format: no time; expected $msec, $time_iso8601, $time_local or %START_TIME%")
    timed = duration or next(
        (one for one in ("request_time", "upstream_response_time", "DURATION") if one in names), None
    )
    if timed is not None and timed not in names:
        raise ConfigError(f"duration: {timed!r} is not in log_format; expected one of {', '.join(names)}")
    unit = 1e-3 if stamp == "START_TIME" else 1.0
    at, took, columns = [], [], {name: list[str]() for name in names if name not in (stamp, timed)}
    skipped, coarse, first = 0, True, ""
    for line, text in _numbered(path):
        fields = pattern.fullmatch(text)
        found = None if fields is None else _stamp(fields[names[stamp]], stamp)
        spent = 0.0 if timed is None or fields is None else _spent(fields[names[timed]], unit)
        if fields is None or found is None or spent is None:
            first = first or f"line {line}: {_shown(text)}"
            skipped += 1
            continue
        coarse = coarse and found == int(found)
        at.append(found if stamp == "START_TIME" else found - spent)
        took.append(spent)
        for name, values in columns.items():
            values.append(fields[names[name]])
    if not at and not skipped:
        raise _empty(path)
    if skipped > len(at):
        raise FormatError(
            f"{os.fspath(path)}: {skipped} of {skipped + len(at)} lines are not of log_format, first {first}"
        )
    times = np.array(at)
    times -= math.floor(times.min())
    if coarse and timed is None:
        times = _within_seconds(times)
    order = np.argsort(times, kind="stable")
    return Log(
        _name(path),
        times[order] - times[order[0]],
        None if timed is None else np.array(took)[order],
        {name: tuple(values[i] for i in order) for name, values in columns.items()},
        skipped,
    )


def _numbered(path: Any) -> Iterator[tuple[int, str]]:
    for line, text in enumerate(_lines(path), start=1):
        if text.strip():
            yield line, text.rstrip("\r\n")


def _compiled(log_format: Any) -> tuple[re.Pattern[str], dict[str, str]]:
    """A pattern of the format, and the group of each variable."""
    if not isinstance(log_format, str) or not _VARIABLE.search(log_format):
        raise ConfigError(f"log_format: {log_format!r} is not allowed; expected nginx's or Envoy's format string")
    log_format = log_format.rstrip("\n")
    out, names, last = "", dict[str, str](), 0
    for i, found in enumerate(_VARIABLE.finditer(log_format)):
        out += re.escape(log_format[last : found.start()])
        name = found[1] or found[2] or found[3]
        if found[3] and found[3] != "START_TIME" and found[4]:
            name = found[4].split("?")[0].lower().strip(":")
        before, after = log_format[: found.start()][-1:], log_format[found.end() : found.end() + 1]
        # What stands in quotes may hold blanks and escaped quotes; the rest ends where its delimiter stands.
        if before == '"':
            inside = r'(?:[^"\\]|\\.)*?'
        elif before == "[":
            inside = r"[^\]]*"
        elif after:
            inside = f"[^{re.escape(after)}]*"
        else:
            inside = r".*"
        names.setdefault(name, f"v{i}")
        out += f"(?P<v{i}>{inside})"
        last = found.end()
    return re.compile(out + re.escape(log_format[last:])), names


def _stamp(text: str, kind: str) -> float | None:
    try:
        if kind == "msec":
            value = float(text)
            return value if 0 <= value < 1e12 else None
        if kind == "time_local":
            return _seconds(datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z"))
        return _seconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def _spent(text: str, unit: float) -> float | None:
    """Seconds; nginx writes one time an upstream tried, with commas and colons: their sum. "-" is 0."""
    total = 0.0
    for part in re.split(r"[,:]", text):
        part = part.strip()
        if part in ("-", ""):
            continue
        try:
            value = float(part)
        except ValueError:
            return None
        if not 0 <= value < 1e9:
            return None
        total += value
    return total * unit


def _within_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, sizes = np.unique(times, return_inverse=True, return_counts=True)
    order = np.argsort(times, kind="stable")
    place = np.empty(len(times))
    place[order] = np.arange(len(times)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(times + (place + 0.5) / sizes[group])
