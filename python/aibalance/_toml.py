"""TOML files whose every complaint names the file, the line, the field, the value and what is allowed.

The only module that reads TOML. A `Document` knows where a field stands, a `Table` takes one apart.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ._errors import ConfigError, FormatError

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """A file that was read: its values, and where each stands."""

    values: dict[str, Any] = dataclasses.field(repr=False)
    text: str = dataclasses.field(repr=False)
    shown: str
    """As messages name the file."""

    def line(self, where: str | Sequence[str]) -> int:
        """The line of a field such as `fleet.types[1].speed`, or of its table where the field is missing."""
        return line_of(self.text, where)

    def error(self, where: str | Sequence[str], said: str) -> FormatError:
        """The exception for a field; for the whole file where that is empty."""
        name = where if isinstance(where, str) else ".".join(where)
        return FormatError(f"{self.shown}, line {self.line(where)}: {name}{': ' if name else ''}{said}")

    def located(self, error: ConfigError, *, within: str = "") -> FormatError:
        """What a class said about a field (`field: value is not allowed; …`), with file and line.

        `within`: the table that the field is of. An error that names a file already stays as it is.
        """
        if isinstance(error, FormatError):
            return error
        name, _, said = str(error).partition(": ")
        plain = bool(re.fullmatch(r"[\w.\[\]-]+", name)) and bool(said)
        where = ".".join(part for part in (within, name if plain else "") if part)
        return self.error(where, said if plain else str(error))

    @property
    def root(self) -> Table:
        """The whole file as a table."""
        return Table(self.values, "", self)


class Table:
    """A table of a file: fields are taken out one by one, and what is left at the end is a typo."""

    def __init__(self, values: Any, path: str, document: Document) -> None:
        self._document, self.path = document, path
        if not isinstance(values, dict):
            raise self.error("", f"{values!r:.80} is not allowed; a table")
        self._left = dict(values)
        self._names: list[str] = []

    def error(self, field: str, said: str) -> FormatError:
        """The exception for a field of this table; the table itself where `field` is empty."""
        return self._document.error(".".join(part for part in (self.path, field) if part), said)

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
        return Table(value, ".".join(part for part in (self.path, field) if part), self._document)

    def rest(self) -> dict[str, Any]:
        """All fields that were not taken yet."""
        left, self._left = self._left, {}
        return left

    def build(self, make: Callable[[], T], field: str = "") -> T:
        """What `make` gives; what it complains of is said with file and line."""
        try:
            return make()
        except ConfigError as error:
            raise self._document.located(error, within=".".join(p for p in (self.path, field) if p)) from error
        except TypeError as error:
            raise self.error(field, str(error)) from error

    def done(self) -> None:
        """Raises FormatError where a field was not understood."""
        for field in self._left:
            near = difflib.get_close_matches(field, self._names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(sorted(self._names))}"
            raise self.error(field, f"there is no such field; {hint}")


def read(path: str | os.PathLike[str]) -> Document:
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
        raise FormatError(f"{shown}, line {line}: not UTF-8; expected a TOML file") from error
    return parse(text, shown)


def parse(text: str, shown: str) -> Document:
    """A text that is there already; `shown` names it. Raises FormatError."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r"\(at line (\d+)", str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        said = re.sub(r" \(at .*\)$", "", str(error))
        raise FormatError(f"{shown}, line {line}: not TOML: {said}") from error
    return Document(values, text, shown)


_NAME = r"""(?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*\[(\[?)\s*({_DOTTED})\s*\](?:\])?\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
# What there is in a line besides names and numbers; and where texts of several lines end, with quotes of their own.
_TOKEN = re.compile(r"""\"{3}|'{3}|"(?:[^"\\]|\\.)*"|'[^']*'|\#.*|[\[\]{}]""")
_ENDS = {
    '"""': re.compile(r"""(?:[^"\\]|\\(?:.|$)|"(?!""))*"{3,5}"""),
    "'''": re.compile(r"""(?:[^']|'(?!''))*'{3,5}"""),
}


def line_of(text: str, where: str | Sequence[str]) -> int:
    """The line of a field such as `rules[1].to`; that of the nearest table above it when it stands nowhere.

    Parts whose names have dots are given one by one.
    """
    wanted = where.split(".") if isinstance(where, str) else list(where)
    counts: dict[str, int] = {}
    header: list[str] = []
    best, depth = 1, 0
    for number, found, opened in _lines(text):
        names = _names(found)
        if opened is None:
            place = header + names
        else:
            header = place = _counted(names, counts, grows=opened)
        common = 0
        for have, want in zip(place, wanted, strict=False):
            # endpoints[2] of an array in one value stands where `endpoints =` does.
            if have != want and have != re.sub(r"\[\d+\]$", "", want):
                break
            common += 1
        if common > depth and common == len(place):
            best, depth = number, common
    return best


def _lines(text: str) -> Iterable[tuple[int, str, bool | None]]:
    """Lines with a header or a key: its number, the dotted name, and for headers whether of an array."""
    inside, until = 0, ""
    # Not by splitlines, which knows ends that TOML does not.
    for number, line in enumerate(text.split("\n"), 1):
        if not until and inside <= 0:
            if header := _HEADER.match(line):
                yield number, header[2], bool(header[1])
                continue
            if key := _KEY.match(line):
                yield number, key[1], None
        at = 0
        while at < len(line):
            if until:
                # In a text of several lines, or at its beginning.
                end = _ENDS[until].match(line, at)
                if end is None:
                    break
                until, at = "", end.end()
            if (token := _TOKEN.search(line, at)) is None:
                break
            at = token.end()
            if token[0] in _ENDS:
                until = token[0]
            elif token[0] in ("[", "{"):
                inside += 1
            elif token[0] in ("]", "}"):
                inside = max(0, inside - 1)


def _counted(names: list[str], counts: dict[str, int], *, grows: bool) -> list[str]:
    """The names of a header with the places in the arrays that they lie in: `a`, `b` is `a[1]`, `b[0]`."""
    place: list[str] = []
    for i, name in enumerate(names):
        full = ".".join([*place, name])
        if grows and i == len(names) - 1:
            counts[full] = counts.get(full, -1) + 1
        place.append(f"{name}[{counts[full]}]" if full in counts else name)
    return place


def _names(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_NAME, dotted)]
