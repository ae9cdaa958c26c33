"""Series to explain a policy by: a CSV file, or what a Prometheus remembers."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError, FormatError

if TYPE_CHECKING:
    from ..autoscaling import Sample

__all__ = ["Series", "instant", "of_csv", "of_prometheus"]

_TIMES = ("at", "t", "time", "timestamp", "seconds", "t_s")
_SERVERS = ("current", "replicas", "servers", "capacity", "instances")
# What Prometheus answers to one query; more is asked for in parts.
_POINTS = 11_000
_MISSING = ("", "nan", "null", "none", "na", "-")


@dataclass(frozen=True)
class Series:
    """Samples, the name of where they come from, and what is worth saying about them."""

    source: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def instant(text: str) -> float:
    """Seconds, or a date and time in ISO 8601 (UTC unless it says otherwise), as seconds since 1970."""
    try:
        return float(text)
    except ValueError:
        pass
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def of_csv(path: str, names: Sequence[str], *, others: Sequence[str] = (), one: bool = False) -> Series:
    """A file with a head: a time (seconds or ISO 8601), metrics by name, and the servers that there were.

    `names`: the metrics that policies read; `others`: those that they read if they are there. `one`: each policy reads
    one; a file with one column of values has it then, whatever its name.
    Empty cells are missing values. Raises FormatError with file and line.
    """
    from ..autoscaling import Sample

    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: cannot be read: {error}") from None
    if not rows or not any(rows[0]):
        raise FormatError(f"{path}:1: the head is missing: a time, metrics by name, and maybe servers")
    head = [cell.strip() for cell in rows[0]]
    if twice := next((name for name in head if name and head.count(name) > 1), None):
        raise FormatError(f"{path}:1: two columns are called {twice}")
    lower = [cell.lower() for cell in head]
    time = next((lower.index(name) for name in _TIMES if name in lower), None)
    if time is None:
        raise FormatError(f"{path}:1: no column of times; one of {', '.join(_TIMES)}")
    servers = next((i for i, name in enumerate(lower) if name in _SERVERS and head[i] not in names), None)
    columns = {head[i]: i for i in range(len(head)) if i not in (time, servers) and head[i]}
    values = [name for name in columns if name not in others]
    notes = []
    wanted = {name: columns[name] for name in names if name in columns}
    if one and names and len(values) == 1:
        column = values[0]
        wanted = dict.fromkeys(names, columns[column])
        if called := [name for name in names if name != column]:
            notes.append(f"column {column} is taken as {' and as '.join(called)}")
    elif not names:
        wanted = columns
    if not wanted:
        raise FormatError(f"{path}:1: no column of {' or '.join(names)}; there are {', '.join(columns) or 'none'}")
    if names:
        wanted |= {name: head.index(name) for name in others if name in head}
    if lacking := [name for name in names if name not in wanted]:
        notes.append(f"{', '.join(lacking)}: not in the file, so missing throughout")
    samples: list[Sample] = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(head):
            raise FormatError(f"{path}:{number}: {len(row)} cells; the head has {len(head)}")
        try:
            at = instant(row[time].strip())
        except ValueError:
            raise FormatError(
                f"{path}:{number}: {head[time]}: {row[time]!r} is not allowed; seconds or ISO 8601"
            ) from None
        metrics: dict[str, float | None] = dict.fromkeys(names)
        for name, i in wanted.items():
            metrics[name] = _cell(row[i], f"{path}:{number}: {head[i]}")
        count = None if servers is None else _cell(row[servers], f"{path}:{number}: {head[servers]}")
        if count is not None and (count < 0 or count != int(count)):
            raise FormatError(f"{path}:{number}: {head[servers or 0]}: {count:g} is not allowed; a whole number")
        if not math.isfinite(at) or (samples and at < samples[-1].at):
            raise FormatError(f"{path}:{number}: {head[time]}: {row[time]!r} is not allowed; times must not go back")
        samples.append(Sample(at, metrics, None if count is None else int(count)))
    if not samples:
        raise FormatError(f"{path}: nothing below the head")
    return Series(path, tuple(samples), tuple(notes))


def _cell(text: str, where: str) -> float | None:
    text = text.strip()
    if text.lower() in _MISSING:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"{where}: {text!r} is not allowed; a finite number, or nothing for a missing value")
    return value


def of_prometheus(
    url: str,
    queries: Sequence[tuple[str, str]],
    *,
    start: float,
    end: float,
    step: float,
    servers: str | None = None,
    timeout: float = 30.0,
) -> Series:
    """The answers of a Prometheus to queries, (metric, PromQL) each, every `step` seconds of a time (Unix seconds).

    `servers`: a query for the number of servers that there were. Where there is no answer the value is missing; what is
    before the first answer is left out. Raises ConfigError when it cannot be asked, or answers with several series.
    """
    from ..autoscaling import Sample

    try:
        import httpx
    except ModuleNotFoundError:
        raise ConfigError("--prometheus: needs httpx; run: pip install aibalance[prometheus]") from None
    count = int((end - start) / step + 1e-9) + 1
    grid = [start + i * step for i in range(count)]
    found: dict[str | None, dict[int, float]] = {}
    answered: dict[str, dict[int, float]] = {}
    with httpx.Client(timeout=timeout) as client:
        for name, query in [*queries, *([(None, servers)] if servers is not None else [])]:
            values: dict[int, float] = answered.setdefault(query, {})
            found[name] = values
            if values:
                continue
            for first in range(0, count, _POINTS):
                last = min(first + _POINTS, count) - 1
                asked = {"query": query, "start": repr(grid[first]), "end": repr(grid[last]), "step": repr(step)}
                for at, value in _ask(client, url, asked):
                    values[round((at - start) / step)] = value
    known = [i for values in found.values() for i in values]
    if not known:
        raise ConfigError(f"--query: Prometheus knows nothing of {queries[0][1]!r} in that time")
    samples = []
    for i in range(min(known), count):
        many = found.get(None, {}).get(i)
        metrics = {name: found[name].get(i) for name, _ in queries}
        samples.append(Sample(grid[i], metrics, None if many is None else round(many)))
    notes = []
    if min(known):
        notes.append(f"the first answer is {min(known) * step:g} s after the start that was asked for")
    return Series(url, tuple(samples), tuple(notes))


def _ask(client: Any, url: str, asked: dict[str, str]) -> list[tuple[float, float]]:
    import httpx

    try:
        # A long query does not fit an address.
        response = client.post(url.rstrip("/") + "/api/v1/query_range", data=asked)
        answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"--prometheus: {url}: {type(error).__name__}: {error}") from None
    except ValueError:
        raise ConfigError(f"--prometheus: {url}: {response.status_code}, and no JSON: no Prometheus there") from None
    if not isinstance(answer, dict) or answer.get("status") != "success":
        said = answer.get("error", response.status_code) if isinstance(answer, dict) else response.status_code
        raise ConfigError(f"--query: {asked['query']!r}: Prometheus says: {said}")
    data = answer.get("data", {})
    result = data.get("result", [])
    if data.get("resultType") != "matrix":
        raise ConfigError(f"--query: {asked['query']!r}: a {data.get('resultType')}; numbers over time are needed")
    if len(result) > 1:
        raise ConfigError(f"--query: {asked['query']!r}: {len(result)} series; make it one, with sum(...) or avg(...)")
    if not result:
        return []
    points = [(float(at), float(value)) for at, value in result[0]["values"]]
    # Stale markers, and 0 / 0.
    return [(at, value) for at, value in points if math.isfinite(value)]
