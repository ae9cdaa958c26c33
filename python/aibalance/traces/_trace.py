"""Request traces: when each request came, and how many tokens it read and wrote.

Two public formats are read, gzipped or plain, recognised by their content:

- `"azure-llm"`: CSV with TIMESTAMP, ContextTokens, GeneratedTokens. Azure LLM inference traces of 2023 and 2024
  (Patel et al., Splitwise, ISCA 2024).
- `"mooncake"`: a JSON object a line with timestamp (ms), input_length, output_length, hash_ids. Mooncake's traces
  (Qin et al., FAST 2025).

A trace says how long texts are, not how long a server took: that is the scenario's linear model
(`[service] kind = "tokens"`).
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import re
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError, FormatError

__all__ = ["FORMATS", "Trace", "read", "read_azure_llm", "read_mooncake"]

FORMATS = ("azure-llm", "mooncake")
"""The formats that `read` knows."""

_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_AZURE_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?")
_AZURE_TIME_SHAPE = "a time like 2023-11-16 18:17:03.9799600"

# Far above any real request, and low enough that a linear model in float64 stays exact.
_MAX_TOKENS = 1_000_000_000
_MAX_MS = 1e14
_MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Trace:
    """Requests in the order of their arrival. All arrays are read-only and have one entry a request.

    Parameters
    ----------
    name : where the trace comes from; shown in reports.
    format : the format it was read from, or any word of yours.
    arrival_s : float64, seconds since the first request, never falling, starting at 0.
    input_tokens, output_tokens : int64, tokens read (prompt) and written (answer).
    hash_values, hash_offsets : int64, prefix blocks of all requests end to end, or None; the blocks of request `i` are
        `hash_values[hash_offsets[i]:hash_offsets[i + 1]]`; `trace.blocks(i)` cuts them out. Equal ids, equal prefix.
    reordered : how many requests stood before an earlier one in the file (they were sorted, ties in file order).
    spread : whether groups of equal timestamps were spread over the clock's tick (see `read_mooncake`).
    service_s : float64, seconds that each request took, as the log says, or None.

    Raises
    ------
    ConfigError : arrays of different length, times that fall, are not finite or do not start at 0, negative tokens.

    >>> import numpy as np
    >>> when, read, wrote = np.array([0.0, 0.5, 2.0]), np.array([100, 200, 50]), np.array([10, 20, 30])
    >>> trace = Trace("mine", "made up", when, read, wrote)
    >>> len(trace), trace.duration_s, trace.mean_rps
    (3, 2.0, 1.5)
    """

    name: str
    format: str
    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    hash_values: NDArray[np.int64] | None = None
    hash_offsets: NDArray[np.int64] | None = None
    reordered: int = 0
    spread: bool = False
    service_s: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        fixed = object.__setattr__
        fixed(self, "arrival_s", _column("arrival_s", self.arrival_s, np.float64))
        for field in ("input_tokens", "output_tokens"):
            fixed(self, field, _column(field, getattr(self, field), np.int64))
        n = len(self.arrival_s)
        if n == 0:
            raise ConfigError("arrival_s: a trace holds at least one request")
        for field in ("input_tokens", "output_tokens"):
            column = getattr(self, field)
            if len(column) != n:
                raise ConfigError(f"{field}: {len(column)} entries, but arrival_s has {n}")
            if column.min() < 0:
                raise ConfigError(f"{field}: {column.min()} at index {column.argmin()}; must be >= 0")
        times = self.arrival_s
        if not np.isfinite(times).all():
            raise ConfigError(f"arrival_s: not finite at index {int(np.argmin(np.isfinite(times)))}")
        if times[0] != 0:
            raise ConfigError(f"arrival_s: starts at {times[0]}; must start at 0")
        falls = np.flatnonzero(np.diff(times) < 0)
        if falls.size:
            raise ConfigError(f"arrival_s: falls at index {falls[0] + 1}; must never fall")
        if self.service_s is not None:
            fixed(self, "service_s", _column("service_s", self.service_s, np.float64))
            took: Any = self.service_s
            if len(took) != n:
                raise ConfigError(f"service_s: {len(took)} entries, but arrival_s has {n}")
            if not (np.isfinite(took) & (took >= 0)).all():
                raise ConfigError("service_s: expected finite seconds, at least 0")
        if (self.hash_values is None) != (self.hash_offsets is None):
            raise ConfigError("hash_values and hash_offsets: give both or neither")
        if self.hash_values is not None:
            fixed(self, "hash_values", _column("hash_values", self.hash_values, np.int64))
            fixed(self, "hash_offsets", _column("hash_offsets", self.hash_offsets, np.int64))
            offsets: Any = self.hash_offsets
            right = len(offsets) == n + 1 and offsets[0] == 0 and offsets[-1] == len(self.hash_values)
            if not right or (np.diff(offsets) < 0).any():
                raise ConfigError(f"hash_offsets: must be {n + 1} rising numbers from 0 to {len(self.hash_values)}")

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __repr__(self) -> str:
        blocks = "" if self.hash_values is None else f", {len(self.hash_values):,} prefix blocks"
        return f"<Trace {self.name!r} ({self.format}): {len(self):,} requests in {self.duration_s:,.0f} s{blocks}>"

    # Rebuilt through the checks, so that the arrays of a copy are read-only too.
    def __reduce__(self) -> tuple[type[Trace], tuple[Any, ...]]:
        return Trace, tuple(getattr(self, field) for field in self.__slots__)

    @property
    def duration_s(self) -> float:
        """Seconds from the first request to the last."""
        return float(self.arrival_s[-1])

    @property
    def mean_rps(self) -> float:
        """Requests a second over the whole trace; `nan` when all came at once."""
        return len(self) / self.duration_s if self.duration_s > 0 else math.nan

    def blocks(self, i: int, /) -> NDArray[np.int64]:
        """Prefix block ids of request `i`; empty when the trace has none."""
        if self.hash_values is None or self.hash_offsets is None:
            return np.empty(0, np.int64)
        i = range(len(self))[i]
        return self.hash_values[self.hash_offsets[i] : self.hash_offsets[i + 1]]

    def describe(self) -> str:
        """One line for people: what it is, how long, and what was done to its timestamps.

        >>> import numpy as np
        >>> Trace("mine", "made up", np.array([0.0, 0.5, 2.0]), np.array([9, 9, 9]), np.array([1, 2, 3])).describe()
        'mine: 3 requests in 2 s'
        """
        text = f"{self.name}: {len(self):,} requests in {self.duration_s:,.0f} s"
        if self.spread:
            text += ", equal timestamps spread over the clock's tick"
        if self.reordered:
            text += f", {self.reordered:,} out of order in the file and sorted"
        return text


def read(path: str | os.PathLike[str], /, *, format: str | None = None, spread: bool | None = None) -> Trace:
    """Read a trace, gzipped or plain; its format is recognised by its content.

    `format` is one of `FORMATS`, or None to recognise it. `spread` goes to the format's reader: None means the format's
    default, True for Mooncake and False for Azure.

    Raises FormatError naming the file, and where one is at fault the line, the field, the value and what is allowed.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "b.csv")
    >>> _ = path.write_text('TIMESTAMP,ContextTokens,GeneratedTokens\\n2023-11-16 18:17:03,10,2\\n')
    >>> read(path).format
    'azure-llm'
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f"format: {format!r} is not one of {', '.join(FORMATS)}")
    if format is None:
        format = _recognise(path)
    if format == "azure-llm":
        return read_azure_llm(path, spread=bool(spread))
    return read_mooncake(path, spread=spread is not False)


def read_azure_llm(path: str | os.PathLike[str], /, *, spread: bool = False) -> Trace:
    """Read an Azure LLM inference trace: CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens.

    Times are wall clock with up to nine digits after the point (the 2023 files have seven, 100 ns); a trailing `Z` or
    `+00:00` (2024) is allowed. Rows out of order are sorted and counted in `trace.reordered`; equal times stay equal,
    in file order, unless `spread` (see `read_mooncake`).

    Raises FormatError naming file, line, field, value and what is allowed; an empty trace is an error too.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.csv")
    >>> _ = path.write_text('TIMESTAMP,ContextTokens,GeneratedTokens\\n2023-11-16 18:17:03.98,10,2\\n')
    >>> read_azure_llm(path).input_tokens.tolist()
    [10]
    """
    rows = csv.reader(_lines(path), strict=True)
    columns: list[int] | None = None
    times: list[int] = []
    tokens: list[tuple[int, int]] = []
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            raise _wrong(path, rows.line_num, f"not CSV: {error}") from None
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        if columns is None:
            columns = _azure_header(path, rows.line_num, row)
            continue
        line = rows.line_num
        if len(row) <= max(columns):
            raise _wrong(path, line, f"{len(row)} fields; allowed: {max(columns) + 1} or more, as in the header")
        when, read_, wrote = (row[i] for i in columns)
        times.append(_azure_time_ns(path, line, when))
        tokens.append(
            (_csv_tokens(path, line, "ContextTokens", read_), _csv_tokens(path, line, "GeneratedTokens", wrote))
        )
    if columns is None:
        raise _empty(path)
    if not times:
        raise _empty(path, "only a header")
    ns = np.array(times, np.int64)
    counts = np.array(tokens, np.int64)
    return _build(path, "azure-llm", (ns - ns.min()) / 1e9, counts, None, spread)


def read_mooncake(path: str | os.PathLike[str], /, *, spread: bool = True) -> Trace:
    """Read a Mooncake trace: one JSON object a line with timestamp (ms), input_length, output_length and hash_ids.

    `hash_ids` are ids of prefix blocks of 512 tokens; they may be missing, then in every line. Lines out of order are
    sorted and counted in `trace.reordered`.

    The clock of the recorded traces ticks: `conversation` has 12,031 requests on 1,180 distinct times, one about every
    3 s. Taken literally, ten requests would arrive in the same instant, then none for 3 s, which nobody sent. So by
    default (`spread=True`) a group of k equal times is spread evenly over the gap to the next time: t, t + gap/k,
    t + 2 gap/k, … The gap used is never longer than the trace's median gap, the clock's tick, so that a group before a
    pause stays together. The last group uses that tick. `spread=False` keeps the times as they are in the file.

    Raises FormatError naming file, line, field, value and what is allowed; an empty trace is an error too.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "m.jsonl")
    >>> _ = path.write_text('{"timestamp": 0, "input_length": 9, "output_length": 2, "hash_ids": [1, 2]}\\n')
    >>> read_mooncake(path).blocks(0).tolist()
    [1, 2]
    """
    times: list[float] = []
    tokens: list[tuple[int, int]] = []
    blocks: list[list[int]] = []
    has_blocks: bool | None = None
    for line, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        record = _json_object(path, line, text)
        times.append(_json_ms(path, line, record))
        lengths = tuple(_json_tokens(path, line, record, field) for field in ("input_length", "output_length"))
        tokens.append((lengths[0], lengths[1]))
        if has_blocks is None:
            has_blocks = "hash_ids" in record
        if has_blocks != ("hash_ids" in record):
            raise _wrong(path, line, "hash_ids: in some lines and not in others; allowed: in all or in none")
        if has_blocks:
            blocks.append(_json_ids(path, line, record["hash_ids"]))
    if not times:
        raise _empty(path)
    seconds = np.array(times, np.float64) / 1e3
    return _build(path, "mooncake", seconds - seconds.min(), np.array(tokens, np.int64), blocks or None, spread)


# --- what both readers share ---


def _column(field: str, values: Any, kind: type[np.float64] | type[np.int64]) -> NDArray[Any]:
    try:
        given = np.asarray(values)
        if given.ndim != 1:
            raise ValueError("one dimension")
        column = given.astype(kind, casting="same_kind" if given.size else "unsafe", copy=True)
    except (TypeError, ValueError, OverflowError):
        kinds = "floats" if kind is np.float64 else "whole numbers below 2^63"
        raise ConfigError(f"{field}: must be a one-dimensional array of {kinds}") from None
    column.setflags(write=False)
    return column


def _name(path: str | os.PathLike[str]) -> str:
    name = os.path.basename(os.fspath(path)).removesuffix(".gz")
    return name.rsplit(".", 1)[0] or name


def _wrong(path: str | os.PathLike[str], line: int, what: str) -> FormatError:
    return FormatError(f"{os.fspath(path)}, line {line}: {what}")


def _empty(path: str | os.PathLike[str], why: str = "the file is empty") -> FormatError:
    return FormatError(f"{os.fspath(path)}: no requests ({why}); allowed: at least one")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _lines(path: str | os.PathLike[str]) -> Generator[str, None, None]:
    """Lines of a plain or gzipped text file; whatever goes wrong below is a FormatError naming the file."""
    number = 0
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            for binary in gzip.GzipFile(fileobj=raw) if packed else raw:
                number += 1
                line = binary.decode()
                # Spreadsheets write a byte order mark before the header.
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError:
        raise _wrong(path, number, "not UTF-8 text") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _wrong(path, number + 1, f"damaged gzip data: {error}") from None
    except OSError as error:
        raise FormatError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from None


def _recognise(path: str | os.PathLike[str]) -> str:
    with closing(_lines(path)) as lines:
        first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise _empty(path)
    if first.lstrip().startswith("{"):
        return "mooncake"
    names = {name.strip() for name in first.split(",")}
    if names & set(_AZURE_COLUMNS):
        return "azure-llm"
    raise _wrong(
        path,
        1,
        f"{_shown(first.strip())} starts no known trace; allowed: a CSV header with {', '.join(_AZURE_COLUMNS)} "
        "(azure-llm), or a JSON object a line (mooncake)",
    )


def _build(
    path: str | os.PathLike[str],
    format: str,
    seconds: NDArray[np.float64],
    tokens: NDArray[np.int64],
    blocks: list[list[int]] | None,
    spread: bool,
) -> Trace:
    reordered = int((seconds < np.maximum.accumulate(seconds)).sum())
    if reordered:
        order = np.argsort(seconds, kind="stable")
        seconds, tokens = seconds[order], tokens[order]
        if blocks is not None:
            blocks = [blocks[i] for i in order]
    values = offsets = None
    if blocks is not None:
        offsets = np.zeros(len(blocks) + 1, np.int64)
        np.cumsum([len(ids) for ids in blocks], out=offsets[1:])
        values = np.array([one for ids in blocks for one in ids], np.int64)
    moved = _spread(seconds) if spread else seconds
    name = _name(path)
    return Trace(
        name, format, moved, tokens[:, 0], tokens[:, 1], values, offsets, reordered, not np.array_equal(moved, seconds)
    )


def _spread(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    distinct, group, sizes = np.unique(seconds, return_inverse=True, return_counts=True)
    gaps = np.diff(distinct)
    if gaps.size == 0 or sizes.max() == 1:
        return seconds
    tick = float(np.median(gaps))
    reach = np.minimum(np.append(gaps, tick), tick)
    place = np.arange(len(seconds)) - (np.cumsum(sizes) - sizes)[group]
    return np.asarray(distinct[group] + reach[group] * place / sizes[group], np.float64)


# --- Azure ---


def _azure_header(path: str | os.PathLike[str], line: int, row: list[str]) -> list[int]:
    names = [name.strip() for name in row]
    for column in _AZURE_COLUMNS:
        if names.count(column) != 1:
            found = _shown(",".join(row))
            raise _wrong(
                path, line, f"header {found}: {column} must stand there once (with {', '.join(_AZURE_COLUMNS)})"
            )
    return [names.index(column) for column in _AZURE_COLUMNS]


def _azure_time_ns(path: str | os.PathLike[str], line: int, text: str) -> int:
    match = _AZURE_TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        # Days and seconds apart: a float timestamp would lose the 100 ns digits.
        day = datetime.fromisoformat(match[1])
    except ValueError:
        raise _wrong(path, line, f"TIMESTAMP: {_shown(text)}; allowed: {_AZURE_TIME_SHAPE}") from None
    seconds = (day.toordinal() * 24 + day.hour) * 3600 + day.minute * 60 + day.second
    return (seconds - 62_135_596_800) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def _csv_tokens(path: str | os.PathLike[str], line: int, field: str, text: str) -> int:
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 18 and int(digits) <= _MAX_TOKENS:
        return int(digits)
    raise _wrong(path, line, f"{field}: {_shown(text)}; allowed: a whole number from 0 to {_MAX_TOKENS:,}")


# --- Mooncake ---


def _json_object(path: str | os.PathLike[str], line: int, text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else "too large or too deep"
        raise _wrong(path, line, f"not JSON: {why}; allowed: one JSON object a line") from None
    if not isinstance(record, dict):
        raise _wrong(path, line, f"{_shown(record)}; allowed: one JSON object a line")
    return record


def _json_field(path: str | os.PathLike[str], line: int, record: dict[str, Any], field: str, allowed: str) -> Any:
    if field not in record:
        raise _wrong(path, line, f"{field}: missing; allowed: {allowed}")
    return record[field]


def _json_ms(path: str | os.PathLike[str], line: int, record: dict[str, Any]) -> float:
    allowed = "milliseconds from 0 to 1e14"
    value = _json_field(path, line, record, "timestamp", allowed)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_MS:
        raise _wrong(path, line, f"timestamp: {_shown(value)}; allowed: {allowed}")
    return float(value)


def _json_tokens(path: str | os.PathLike[str], line: int, record: dict[str, Any], field: str) -> int:
    allowed = f"a whole number from 0 to {_MAX_TOKENS:,}"
    value = _json_field(path, line, record, field, allowed)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_TOKENS:
        raise _wrong(path, line, f"{field}: {_shown(value)}; allowed: {allowed}")
    return value


def _json_ids(path: str | os.PathLike[str], line: int, value: Any) -> list[int]:
    if isinstance(value, list):
        for one in value:
            if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one <= _MAX_ID:
                raise _wrong(path, line, f"hash_ids: {_shown(one)}; allowed: whole numbers from 0 to 2^63 - 1")
        return value
    raise _wrong(path, line, f"hash_ids: {_shown(value)}; allowed: a list of whole numbers from 0 to 2^63 - 1")
