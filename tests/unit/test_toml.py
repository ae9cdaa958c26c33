"""Where a field stands in a TOML file, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibalance import _toml
from aibalance._errors import ConfigError, FormatError

TEXT = '''\
title = "x"
description = """
[fleet]
max = 3
"""
points = [
  [0, 1],
  [2, 3],   # ]
  { a = 1 },
]
after = 1

[fleet] # comment
max = 4
types = [{ name = "a" }, { name = "b" }]

[[policies]]
name = "one"

[[policies.parts]]
x = 1

[[policies]]
options = { period = 3, other = [
    1,
  ] }

[[policies.parts]]
x = 2

[[policies.parts]]
x = 3

[instances.aws."g5.xlarge"]
on_demand = 1
"dotted.key" = 2
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("title", 1),
        ("points", 6),
        ("points[1]", 6),
        ("after", 11),
        ("fleet.max", 14),
        ("fleet.min", 13),
        ("fleet.types[1].name", 15),
        ("policies[0].name", 18),
        ("policies[0].parts[0].x", 21),
        ("policies[1].options.period", 24),
        ("policies[1].options.other", 24),
        ("policies[1].parts[0].x", 29),
        ("policies[1].parts[1].x", 32),
        ("policies[1].name", 23),
        (["instances", "aws", "g5.xlarge", "on_demand"], 35),
        (["instances", "aws", "g5.xlarge", "dotted.key"], 36),
        (["instances", "aws", "g5.xlarge", "spot"], 34),
        ("nowhere", 1),
        ("", 1),
    ],
)
def test_the_line_of_a_field(where: str | list[str], line: int) -> None:
    assert _toml.parse(TEXT, "x.toml").line(where) == line


@pytest.mark.parametrize(
    "before",
    [
        'a = "x" # say """ now',
        "a = 1 # don't, or [do",
        'a = "x\u2028y\x85z"',
        """a = 'a\"\"\"b'""",
        'a = """x"""\nb = """y""" # """',
        'a = """\n\\"""\nz = 0\n""\\""""',
        "a = '''\n[[z]]\n\"\"\"\n''''",
        'a = """x\\\n   y"""\nb = [ """\n]\n[z]\nz = 2\n""", 2 ]',
        "a = [ # ]\n  '[', \"]\",\n  [ 1 ] ]\r",
        'a = { b = "}", c = [ { d = 1 } ] }',
    ],
)
def test_texts_and_comments_move_no_line(before: str) -> None:
    text = f"{before}\n[t]\nz = 1\n"
    assert _toml.parse(text, "x.toml").line("t.z") == before.count("\n") + 3


def test_what_a_class_says_gets_its_place() -> None:
    file = _toml.parse(TEXT, "x.toml")
    said = file.located(ConfigError("max: 4 is not allowed; expected 5"), within="fleet")
    assert str(said) == "x.toml, line 14: fleet.max: 4 is not allowed; expected 5"
    assert str(file.located(ConfigError("nothing: in it is a field or so"))).startswith(
        "x.toml, line 1: nothing: in it"
    )
    assert str(file.located(ConfigError("it cannot be"), within="fleet")) == "x.toml, line 13: fleet: it cannot be"
    known = FormatError("y.csv, line 3: wrong")
    assert file.located(known) is known
    assert "text" not in repr(file)


def test_a_table_names_what_is_left() -> None:
    table = _toml.parse("max = 3\nmni = 1\n", "x.toml").root
    assert table.number("max", 1, whole=True) == 3
    assert table.number("min", 1, whole=True) == 1
    with pytest.raises(FormatError, match=r"x.toml, line 2: mni: there is no such field; did you mean min\?"):
        table.done()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"a = 1\nb = \n", "line 2: not TOML: Invalid value"),
        (b"a = 1\na = 2\n", "not TOML: Cannot overwrite a value"),
        (b"a = 1\n\xff", "line 2: not UTF-8"),
    ],
)
def test_no_toml(tmp_path: Path, text: bytes, says: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text)
    with pytest.raises(FormatError) as raised:
        _toml.read(path)
    assert str(raised.value).startswith(f"{path}, ")
    assert says in str(raised.value)
    with pytest.raises(FormatError, match=r"none\.toml: cannot be read: No such file"):
        _toml.read(tmp_path / "none.toml")
