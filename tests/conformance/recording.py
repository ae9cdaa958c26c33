"""Reading a recording: `.json` or `.jsonl`, gzipped or not, told apart by content and never by name."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

GZIP_MAGIC = b"\x1f\x8b"


class UnreadableError(Exception):
    """The file is not a recording that this harness knows, or a record of it lacks something."""


def load(path: Path) -> Any:
    """The file's JSON value; for JSON lines the list of its records."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise UnreadableError(e.strerror or str(e)) from None
    if raw.startswith(GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as e:
            raise UnreadableError(f"not a whole gzip file: {e}") from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UnreadableError(f"not UTF-8 text: {e.reason} at byte {e.start}") from None
    if not text.strip():
        raise UnreadableError("the file is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        try:
            return _lines(text)
        except UnreadableError as by_line:
            # One broken document, or lines of which one is broken: say what fits.
            first = text.lstrip().split("\n", 1)[0]
            if "\n" in text.strip() and _is_json(first):
                raise by_line from None
            raise UnreadableError(f"line {whole.lineno}: not JSON: {whole.msg}") from None


def _lines(text: str) -> list[Any]:
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                out.append(json.loads(line))
            except json.JSONDecodeError as e:
                raise UnreadableError(f"line {number}: not JSON: {e.msg}") from None
    return out


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


class Record:
    """One case of a recording: reading what is not there, or is not of its kind, says where and what."""

    def __init__(self, where: str, fields: object) -> None:
        if not isinstance(fields, dict):
            raise UnreadableError(f"{where}: expected an object, got {type(fields).__name__}")
        self.where = where
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def plain(self) -> dict[str, Any]:
        """All fields, as they were read."""
        return self._fields

    def text(self, name: str, default: str | None = None) -> str:
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise UnreadableError(f"{self.where}: {name}: expected a text, got {value!r:.80}")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UnreadableError(f"{self.where}: {name}: expected a whole number, got {value!r:.80}")
        return value

    def number(self, name: str) -> float:
        value = self._fields.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UnreadableError(f"{self.where}: {name}: expected a number, got {value!r:.80}")
        return float(value)

    def items(self, name: str, *kinds: type) -> list[Any]:
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise UnreadableError(f"{self.where}: {name}: expected a list, got {value!r:.80}")
        for i, item in enumerate(value):
            if not isinstance(item, kinds):
                allowed = " or ".join(k.__name__ for k in kinds)
                raise UnreadableError(f"{self.where}: {name}[{i}]: expected {allowed}, got {item!r:.80}")
        return value

    def record(self, name: str) -> Record:
        return Record(f"{self.where}: {name}", self._fields.get(name))


def cases(document: dict[str, Any]) -> list[Record]:
    """The records of a document that has `cases`."""
    found = document.get("cases")
    if not isinstance(found, list) or not found:
        raise UnreadableError("cases: expected a list with at least one case")
    out = []
    for i, case in enumerate(found):
        name = case.get("name") or case.get("id") or case.get("kind") if isinstance(case, dict) else None
        out.append(Record(f"case {i}" + (f" ({name})" if name else ""), case))
    return out
