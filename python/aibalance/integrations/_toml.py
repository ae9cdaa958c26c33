"""TOML files whose every complaint names the file, the line, the field, the value and what is allowed."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .. import ConfigError, FormatError

T = TypeVar("T")


class Table:
    """A table of a file: fields are taken out one by one, and what is left at the end is a typo."""

    def __init__(self, values: Any, path: str, text: str, shown: str) -> None:
        self._text, self._shown, self.path = text, shown, path
        if not isinstance(values, dict):
            raise self.error("", f"{values!r:.80} is not allowed; a table")
        self._left = dict(values)
        self._names: list[str] = []

    def error(self, field: str, said: str) -> FormatError:
        """The exception for a field of this table; the table itself where `field` is empty."""
        where = ".".join(part for part in (self.path, field) if part)
        return FormatError(f"{self._shown}, line {line_of(self._text, where)}: {where}: {said}")

    def take(self, field: str, default: Any = None) -> Any:
        """A value as it stands."""
        self._names.append(field)
        return self._left.pop(field, default)

    def text(self, field: str, default: Any = ..., *, choice: Iterable[str] = ()) -> Any:
        """A text, one of `choice` where there is one; required without a default."""
        value = self.take(field, default)
        if value is ...:
            raise self.error(field, "is missing; a text")
        allowed = tuple(choice)
        if value is default:
            return value
        if not isinstance(value, str) or not value or (allowed and value not in allowed):
            raise self.error(field, f"{value!r:.80} is not allowed; {', '.join(allowed) or 'a text'}")
        return value

    def number(self, field: str, default: Any, *, least: float = 0.0, whole: bool = False, above: bool = False) -> Any:
        """A number from `least` on (or above it)."""
        value: Any = self.take(field, default)
        if value is ...:
            raise self.error(field, "is missing; a number")
        if value is default:
            return value
        kinds: tuple[type, ...] = (int,) if whole else (int, float)
        number: Any = value if isinstance(value, kinds) and not isinstance(value, bool) else -1
        if not least <= number < 2**53 or (above and number == least):
            what = "a whole number" if whole else "a number"
            raise self.error(
                field, f"{value!r:.80} is not allowed; {what}, {'more than' if above else 'from'} {least:g}"
            )
        return value

    def flag(self, field: str, default: bool) -> bool:
        """true or false."""
        value = self.take(field, default)
        if not isinstance(value, bool):
            raise self.error(field, f"{value!r:.80} is not allowed; true or false")
        return value

    def items(self, field: str) -> list[Any]:
        """An array that is not empty."""
        value = self.take(field, [])
        if not isinstance(value, list) or not value:
            raise self.error(field, f"{value!r:.80} is not allowed; an array of at least one")
        return value

    def table(self, field: str, *, required: bool = False) -> Table | None:
        """A table within this one."""
        value = self.take(field)
        if value is None:
            if required:
                raise self.error(field, "is missing; a table")
            return None
        return self.below(field, value)

    def below(self, field: str, value: Any) -> Table:
        """The table of a value of this one."""
        return Table(value, ".".join(part for part in (self.path, field) if part), self._text, self._shown)

    def rest(self) -> dict[str, Any]:
        """All fields that were not taken yet."""
        left, self._left = self._left, {}
        return left

    def build(self, make: Callable[[], T], field: str = "") -> T:
        """What `make` gives; what it complains of is said with file and line."""
        try:
            return make()
        except FormatError:
            raise
        except ConfigError as error:
            name, _, said = str(error).partition(": ")
            where = ".".join(part for part in (field, name if re.fullmatch(r"[\w.\[\]]+", name) else "") if part)
            raise self.error(where, said or str(error)) from error
        except TypeError as error:
            raise self.error(field, str(error)) from error

    def done(self) -> None:
        """Raises FormatError where a field was not understood."""
        for field in self._left:
            near = difflib.get_close_matches(field, self._names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(sorted(self._names))}"
            raise self.error(field, f"there is no such field; {hint}")


def read(path: str | os.PathLike[str]) -> Table:
    """The whole file. Raises FormatError."""
    shown = os.fspath(path)
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise FormatError(f"{shown}: cannot be read: {error.strerror or error}") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise FormatError(f"{shown}, line {line}: not UTF-8") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        said = re.sub(r" \(at .*\)$", "", str(error))
        raise FormatError(f"{shown}, line {line}: not TOML: {said}") from error
    return Table(values, "", text, shown)


def line_of(text: str, where: str) -> int:
    """The line of a field such as `rules[1].to`; that of the nearest table above it when it stands nowhere."""
    wanted = where.split(".")
    counts: dict[str, int] = {}
    header: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        key: list[str] = []
        if found := re.match(r"\s*\[(\[?)\s*([^\]\[]+?)\s*\]", line):
            names = _names(found[2])
            if found[1]:
                name = ".".join(names)
                counts[name] = counts.get(name, -1) + 1
            header = [
                f"{part}[{counts[full]}]" if (full := ".".join(names[: i + 1])) in counts else part
                for i, part in enumerate(names)
            ]
        elif found := re.match(r"\s*([\w\"'.-]+)\s*=", line):
            key = _names(found[1])
        else:
            continue
        place = header + key
        common = 0
        for have, want in zip(place, wanted, strict=False):
            # endpoints[2] of an array in one value stands where `endpoints =` does.
            if have != want and have != re.sub(r"\[\d+\]$", "", want):
                break
            common += 1
        if common > depth and common == len(place):
            best, depth = number, common
    return best


def _names(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
