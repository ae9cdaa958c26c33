"""What the guard tests read: the project's own sources, as lists of what stands where and who names whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUST = ROOT / "src"
PYTHON = ROOT / "python" / "aibalance"


def rust_files(folder: Path = RUST) -> list[Path]:
    return sorted(folder.rglob("*.rs"))


def rust_code(path: Path) -> str:
    """A Rust file without comments and without its unit tests."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = "\n".join(re.sub(r"(^|\s)//.*$", "", line) for line in text.splitlines())
    return re.split(r"#\[cfg\((?:all\()?test\b[^\n]*\]\s*(?:pub(?:\([^)]*\))? )?mod\s", text)[0]


def core_room(path: Path) -> str:
    """The room of a file of src/core: src/core/pickers/maglev.rs is of `pickers`, src/core/time.rs of `time`."""
    return path.relative_to(RUST / "core").parts[0].removesuffix(".rs")


def core_uses(path: Path) -> set[str]:
    """The rooms of src/core that a file of it names, by `crate::core::...` or by `super::...`."""
    code = rust_code(path)
    module = list(path.relative_to(RUST / "core").with_suffix("").parts)
    if module[-1] == "mod":
        module.pop()
    found = {name for match in re.finditer(r"\bcrate::core::", code) for name in _names(code[match.end() :])}
    for match in re.finditer(r"\b((?:super::)+)", code):
        levels = match.group(1).count("super::")
        if levels == len(module):  # as far up as src/core itself
            found |= _names(code[match.end() :])
    return found


def _names(rest: str) -> set[str]:
    """The first names of a path that starts here: `a::b` gives a, `{a::b, c::{d, e}}` gives a and c."""
    if not rest.startswith("{"):
        return set(re.findall(r"^\w+", rest))
    names, depth, start = set(), 0, 0
    for i, character in enumerate(rest):
        if character == "{":
            depth += 1
            if depth == 1:
                start = i + 1
        if depth == 1 and character in ",}":
            names |= set(re.findall(r"^\s*(\w+)", rest[start:i]))
            start = i + 1
        if character == "}":
            depth -= 1
            if depth == 0:
                break
    return names


@dataclass(frozen=True)
class Import:
    """One import of a Python module of the package."""

    importer: Path
    line: int
    name: str
    """The full dotted name that is imported."""
    lazy: bool
    """Inside a function, or only for the type checker."""


def python_files() -> list[Path]:
    return sorted(PYTHON.rglob("*.py"))


def python_room(path: Path) -> str:
    """The room of a Python file: autoscaling/hpa.py is of `autoscaling`, traces.py of `traces`."""
    return path.relative_to(PYTHON).parts[0].removesuffix(".py")


def python_imports(path: Path) -> Iterator[Import]:
    package = ["aibalance", *path.relative_to(PYTHON).parent.parts]

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(path, child.lineno, alias.name, lazy)
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                stem = ".".join([*base, *([child.module] if child.module else [])])
                # `from . import x` names the module x, `from .x import y` the module x.
                for alias in child.names:
                    yield Import(path, child.lineno, f"{stem}.{alias.name}", lazy)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                yield from walk(child, lazy or inside or typing)

    yield from walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), lazy=False)
