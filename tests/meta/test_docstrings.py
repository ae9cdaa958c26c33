"""Every public class and function has an example, and every example runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from operator import attrgetter
from typing import get_origin

import pytest

import aibalance
from aibalance import _core

from . import rooms
from .test_exports import EXPORTED
from .test_tree import MODULES

STUB = rooms.PYTHON / "_core.pyi"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


def stub() -> dict[str, tuple[str, int]]:
    """What the stub declares, by dotted name: its docstring, and the line it is at."""
    found: dict[str, tuple[str, int]] = {}

    def walk(node: ast.Module | ast.ClassDef, prefix: str) -> None:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = prefix + child.name
                # One overload carries the docstring for all.
                doc = ast.get_docstring(child) or found.get(name, ("", 0))[0]
                found[name] = (doc, child.lineno)
            if isinstance(child, ast.ClassDef):
                walk(child, f"{prefix}{child.name}.")

    if STUB.exists():
        walk(ast.parse(STUB.read_text(encoding="utf-8"), str(STUB)), "")
    return found


def native() -> dict[str, tuple[str, int]]:
    """The documentation of the native half: of the stub, or else what the object itself says."""
    found = {}
    for name, (doc, line) in stub().items():
        try:
            thing = attrgetter(name)(_core)
        except AttributeError:  # a base that only the stub has, to write five classes once
            thing = None
        found[name] = (doc or inspect.getdoc(thing) or "" if thing is not None else doc, line)
    return found


def run(test: doctest.DocTest) -> None:
    out: list[str] = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=out.append)
    assert not results.failed, "".join(out)


def namespace() -> dict[str, object]:
    return {**{name: getattr(aibalance, name) for name in aibalance.__all__}, "aibalance": aibalance}


@pytest.mark.parametrize("name", [name for name, (doc, _) in native().items() if ">>>" in doc])
def test_examples_of_the_native_half(name: str) -> None:
    doc, line = native()[name]
    run(doctest.DocTestParser().get_doctest(doc, namespace(), name, str(STUB), line))


@pytest.mark.parametrize("name", [m for m in MODULES if not m.startswith("aibalance.cli")])
def test_examples_of_the_python_modules(name: str) -> None:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, extraglobs=namespace()):
        run(test)


@pytest.mark.parametrize("module", EXPORTED)
def test_every_public_name_has_an_example(module: str) -> None:
    documented = native()
    seen = 0
    without = []
    for name in sorted(EXPORTED[module]):
        thing = getattr(importlib.import_module(module), name)
        exception = inspect.isclass(thing) and issubclass(thing, BaseException)
        # A protocol is shown by what follows it, and an alias has no docstring of its own.
        alias = get_origin(thing) is not None
        if not callable(thing) or exception or alias or getattr(thing, "_is_protocol", False):
            continue
        seen += 1
        if ">>>" not in (documented[name][0] if hasattr(_core, name) else thing.__doc__ or ""):
            without.append(name)
    assert seen >= min(3, len(EXPORTED[module])), "the walk found the public names"
    assert not without, "a public docstring shows how the thing is used"


def test_every_public_member_of_the_native_half_is_documented() -> None:
    documented = native()
    assert len(documented) >= 40, "the walk found the stub"
    public = {*EXPORTED["aibalance"], *EXPORTED["aibalance.autoscaling"], "_PickerMethods"}
    silent = [
        name
        for name, (doc, _) in documented.items()
        if not doc and name.split(".")[0] in public and not name.rpartition(".")[2].startswith("_")
    ]
    assert not silent
