"""Every public class and function has an example, and every example runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import aibalance
import pytest

from . import rooms
from .test_exports import EXPORTED
from .test_tree import MODULES

STUB = rooms.PYTHON / "_core.pyi"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


@dataclass(frozen=True)
class Documented:
    """A class, function or method of the stub with its docstring."""

    name: str
    doc: str | None
    line: int


def stub() -> Iterator[Documented]:
    """What the stub documents. A native object's docstring is kept there, where type checkers and editors read it."""

    def walk(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Documented]:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield Documented(prefix + child.name, ast.get_docstring(child), child.lineno)
            if isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.")

    if STUB.exists():
        yield from walk(ast.parse(STUB.read_text(encoding="utf-8"), str(STUB)), "")


def run(test: doctest.DocTest) -> None:
    out: list[str] = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=out.append)
    assert not results.failed, "".join(out)


def namespace() -> dict[str, object]:
    return {**{name: getattr(aibalance, name) for name in aibalance.__all__}, "aibalance": aibalance}


WITH_EXAMPLES = [d for d in stub() if d.doc and ">>>" in d.doc]


@pytest.mark.parametrize("documented", WITH_EXAMPLES, ids=lambda d: d.name)
def test_examples_of_the_native_classes(documented: Documented) -> None:
    assert documented.doc is not None
    run(doctest.DocTestParser().get_doctest(documented.doc, namespace(), documented.name, str(STUB), documented.line))


@pytest.mark.parametrize("name", [m for m in MODULES if not m.startswith("aibalance.cli")])
def test_examples_of_the_python_modules(name: str) -> None:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, extraglobs=namespace()):
        run(test)


@pytest.mark.parametrize("module", EXPORTED)
def test_every_public_name_has_an_example(module: str) -> None:
    native = {d.name: d.doc or "" for d in stub()}
    seen = 0
    without = []
    for name in sorted(EXPORTED[module]):
        thing = getattr(importlib.import_module(module), name)
        if not (inspect.isclass(thing) or callable(thing)) or (
            inspect.isclass(thing) and issubclass(thing, BaseException)
        ):
            continue
        seen += 1
        doc = (
            native.get(name)
            if thing.__module__ in {"aibalance", "aibalance._core"} and name in native
            else thing.__doc__
        )
        if ">>>" not in (doc or ""):
            without.append(name)
    assert seen >= 3, "the walk found the public names"
    assert not without, "a public docstring shows how the thing is used"


def test_every_public_method_of_the_stub_is_documented() -> None:
    documented = list(stub())
    assert len(documented) >= 40, "the walk found the stub"
    silent = [d.name for d in documented if not d.doc and not d.name.rpartition(".")[2].startswith("_")]
    assert not silent
