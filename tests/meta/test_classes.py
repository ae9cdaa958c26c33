"""The native classes: frozen, importable where they say they live, and their errors mapped one by one."""

from __future__ import annotations

import importlib
import inspect
import re

import aibalance
from aibalance import _core, _errors

from . import rooms

FEWEST_CLASSES = 12
FEWEST_ERRORS = 4


# The attribute with its arguments, other attributes, then the class, or $name of a macro that makes several.
PYCLASS = re.compile(
    r"#\[(?:pyo3::)?pyclass\b(\((?:[^()]|\([^()]*\))*\))?\]\s*"
    r"(?:#\[[^\]]*\]\s*)*"
    r"(?:pub(?:\([^)]*\))? )?(?:struct|enum) (\$?\w+)"
)


def test_every_pyclass_is_frozen() -> None:
    found = 0
    loose = []
    for path in rooms.rust_files(rooms.RUST / "py"):
        code = rooms.rust_code(path)
        classes = PYCLASS.findall(code)
        declared = len(re.findall(r"#\[(?:pyo3::)?pyclass\b", code))
        assert declared == len(classes), f"{path.name}: a pyclass that this test cannot read"
        found += declared
        loose += [f"{path.name}: {name}" for arguments, name in classes if not re.search(r"\bfrozen\b", arguments)]
    assert found >= FEWEST_CLASSES - 4, "the walk found the classes: one macro makes five pickers"
    assert not loose, "an unfrozen pyclass raises 'Already borrowed' under load"


def native_classes() -> dict[str, type]:
    return {name: value for name, value in vars(_core).items() if inspect.isclass(value) and not name.startswith("_")}


def test_native_classes_live_where_they_say() -> None:
    classes = native_classes()
    assert len(classes) >= FEWEST_CLASSES
    for name, cls in classes.items():
        assert cls.__name__ == name
        home = importlib.import_module(cls.__module__)
        assert getattr(home, cls.__qualname__) is cls, (
            f"{cls.__module__}.{cls.__qualname__} is not the class: no pickle"
        )
        assert cls.__doc__, f"{name} has no docstring"


def test_every_core_error_has_a_python_class() -> None:
    binding = "\n".join(rooms.rust_code(p) for p in rooms.rust_files(rooms.RUST / "py"))
    found = 0
    for path in rooms.rust_files(rooms.RUST / "core"):
        code = rooms.rust_code(path)
        pattern = r"#\[derive\([^)]*\bError\b[^)]*\)\]\s*(?:#\[[^\n]*\]\s*)*pub (struct|enum) (\w+)\s*\{(.*?)\n\}"
        for match in re.finditer(pattern, code, flags=re.DOTALL):
            kind, name, body = match.groups()
            found += 1
            impl = re.search(rf"impl From<{name}> for PyErr \{{(.*?)\n\}}", binding, flags=re.DOTALL)
            assert impl, f"{name} of {path.name} is not mapped to a Python exception"
            if kind == "enum" and "match" in impl.group(1):
                assert not re.search(r"\b_\s*=>", impl.group(1)), f"{name}: a wildcard would swallow a new variant"
            variants = re.findall(r"^    (\w+)", re.sub(r"#\[[^\n]*\]", "", body), flags=re.MULTILINE)
            if kind == "enum" and "match" in impl.group(1):
                missing = [v for v in variants if f"{name}::{v}" not in impl.group(1)]
                assert not missing, f"{name}: {', '.join(missing)}"
    assert found >= FEWEST_ERRORS, "the walk found the errors"


def test_the_tree_that_is_raised_is_the_tree_that_is_exported() -> None:
    code = "\n".join(rooms.rust_code(p) for p in rooms.rust_files(rooms.RUST / "py"))
    raised = set(re.findall(r"import_exception!\(aibalance\._errors, (\w+)\)", code))
    assert len(raised) >= 6
    assert raised <= set(_errors.__all__)
    for name in _errors.__all__:
        cls = getattr(_errors, name)
        assert issubclass(cls, aibalance.AibalanceError)
        assert getattr(aibalance, name) is cls


def test_errors_are_also_the_built_in_that_people_catch() -> None:
    assert issubclass(aibalance.ConfigError, ValueError)
    assert issubclass(aibalance.FormatError, aibalance.ConfigError)
    assert issubclass(aibalance.PickError, LookupError)
    assert issubclass(aibalance.LeaseError, RuntimeError)
    assert issubclass(aibalance.MetricError, ValueError)
    assert aibalance.OverloadedError("full", 1.5).retry_after == 1.5
