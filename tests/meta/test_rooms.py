"""Who may call whom: the rules of the house, held by walking the imports."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

import aibalance

from . import rooms

BASE = {"time", "rng", "hash", "sync", "error"}
PICKING = BASE | {"endpoints", "health", "pickers", "pool", "routing", "llm"}

# Room of src/core -> rooms of src/core that it may name, besides itself. Picking and scaling never meet, a picker sees
# eligibility and weight but never how health came about, and nothing but the simulator names the simulator.
CORE = {
    **dict.fromkeys(BASE, BASE),
    # Cells and what stands beside them may stand in memory that several processes map.
    "endpoints": BASE | {"shared"},
    "health": BASE | {"endpoints"},
    "pickers": BASE | {"endpoints"},
    "pool": BASE | {"endpoints", "health", "pickers", "shared"},
    "routing": BASE | {"endpoints", "pickers"},
    "llm": BASE | {"endpoints", "pickers"},
    # The part of a pool that several processes map. Its tests alone name endpoints: the size of their cells.
    "shared": BASE | {"endpoints"},
    "queueing": BASE,
    "autoscaling": BASE,
    "capacity": BASE | {"autoscaling"},
    "simulation": PICKING | {"queueing", "autoscaling", "capacity"},
    "mod": PICKING | {"shared", "queueing", "autoscaling", "capacity", "simulation"},
}

NATIVE = {"_core", "_errors"}
DOMAIN = {
    *(
        "endpoints",
        "pickers",
        "health",
        "passive",
        "routing",
        "llm",
        "autoscaling",
        "capacity",
        "queueing",
        "simulation",
        "traces",
    ),
}

# Room of the Python package -> (rooms that it may import, rooms that it may import only inside a function).
PACKAGE: dict[str, tuple[set[str], set[str]]] = {
    "_errors": (set(), set()),
    "__init__": (NATIVE | DOMAIN, set()),
    "__main__": ({"cli"}, set()),
    **{room: (NATIVE, set()) for room in DOMAIN},
    "autoscaling": (NATIVE, {"formats"}),
    # What it simulates is what users import; a plan begins with theory and weighs money.
    "simulation": (NATIVE, {"report", "traces", "autoscaling", "capacity", "queueing"}),
    "testing": (NATIVE, DOMAIN),
    "formats": (NATIVE | DOMAIN, set()),
    "report": (NATIVE, {"simulation"}),
    "integrations": (set(), set()),
    "cli": (NATIVE | DOMAIN | {"formats", "integrations", "report", "testing"}, set()),
}

# Who may import a private helper module that is not for all: one module reads TOML, and only for these.
HELPERS = {"_toml": {"simulation", "capacity", "integrations", "cli"}}

# The numeric edge: who may import numpy, and only there.
NUMERIC = {"simulation", "traces", "queueing", "_arrivals", "_laws", "_special", "report", "cli"}


def relative(path: Path) -> str:
    return str(path.relative_to(rooms.ROOT))


def test_every_core_room_names_only_what_it_may() -> None:
    files = rooms.rust_files(rooms.RUST / "core")
    assert len(files) >= 4, "the walk found the core"
    seen = 0
    broken = []
    for path in files:
        room = rooms.core_room(path)
        assert room in CORE, f"{relative(path)}: a new room of src/core: give it a row in CORE"
        uses = rooms.core_uses(path) - {room, "self"}
        seen += len(uses)
        if uses - CORE[room]:
            broken.append(f"{relative(path)} names {', '.join(sorted(uses - CORE[room]))}")
    assert not broken
    assert seen >= len(files) // 2, "the walk found imports"


def test_the_walk_reads_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "RUST", tmp_path)
    deep = tmp_path / "core" / "pickers" / "hashing"
    deep.mkdir(parents=True)
    file = deep / "ring.rs"
    file.write_text(
        "use crate::core::{endpoints::{Slot, Snapshot}, hash, time::Nanos};\n"
        "use super::super::super::pool::Pool;\n"
        "use super::super::random::Alias;\n"
        "fn f() { crate::core::rng::draw(1, 2); } // crate::core::comment\n"
        "#[cfg(test)]\nmod tests { use crate::core::simulation; }\n"
    )
    assert rooms.core_uses(file) == {"endpoints", "hash", "time", "pool", "rng"}


def test_only_the_binding_knows_python_and_clocks() -> None:
    files = [p for p in rooms.rust_files() if "py" not in p.relative_to(rooms.RUST).parts]
    assert len(files) >= 5
    for path in files:
        code = rooms.rust_code(path)
        for word in ("pyo3", "numpy"):
            assert not re.search(rf"\b{word}\b", code), f"{relative(path)} says {word}: only src/py may"
        for clock in ("Instant::now", "SystemTime::now", "rand::rng", "thread_rng"):
            assert clock not in code, f"{relative(path)} says {clock}: time and seed are arguments"
    assert any("pyo3" in rooms.rust_code(p) for p in rooms.rust_files(rooms.RUST / "py"))


def test_unsafe_code_stands_where_it_may_and_argues_for_itself() -> None:
    files = rooms.rust_files()
    assert len(files) >= 6
    assert "#![deny(unsafe_code)]" in (rooms.RUST / "core" / "mod.rs").read_text(encoding="utf-8")
    core = rooms.rust_files(rooms.RUST / "core")
    mapped = {relative(path) for path in core if re.search(r"\bunsafe\b(?!_)", rooms.rust_code(path))}
    memory = {"src/core/shared/region.rs", "src/core/endpoints/watch.rs"}
    assert mapped == {*memory, "src/core/endpoints/fetch.rs"}, "in the core only mapped memory and one hint are reasons"
    silent = []
    for path in files:
        lines = path.read_text(encoding="utf-8").splitlines()
        for i, line in enumerate(lines):
            if re.search(r"\bunsafe\b(?!_)", re.sub(r"//.*", "", line)) and not re.search(
                r"unsafe (extern|fn)\b", line
            ):
                above = "\n".join(lines[max(0, i - 8) : i + 1])
                if not re.search(r"SAFETY|# Safety", above):
                    silent.append(f"{relative(path)}:{i + 1}")
    assert not silent, "each unsafe needs a SAFETY comment that says why it is sound"


def test_every_python_room_imports_only_what_it_may() -> None:
    files = rooms.python_files()
    assert len(files) >= 2, "the walk found the package"
    seen = 0
    broken = []
    for path in files:
        room = rooms.python_room(path)
        private = room.startswith("_") and room not in PACKAGE
        assert private or room in PACKAGE, f"{relative(path)}: a new room of the package: give it a row in PACKAGE"
        # A private helper module may use the native module and the errors, and be used by all.
        always, lazily = (NATIVE, set()) if private else PACKAGE[room]
        for found in rooms.python_imports(path):
            at = f"{relative(path)}:{found.line} imports {found.name}"
            parts = found.name.split(".")
            if parts[0] != "aibalance":
                if parts[0] == "numpy" and room not in NUMERIC and not found.lazy:
                    broken.append(f"{at}: numpy belongs to {', '.join(sorted(NUMERIC))}")
                if room == "_errors" and parts[0] != "__future__":
                    broken.append(f"{at}: _errors imports nothing")
                continue
            seen += 1
            target = parts[1] if len(parts) > 1 else ""
            if room == "integrations" and not target.startswith("_"):
                continue  # public names
            if room == "simulation" and found.lazy and (not target or hasattr(aibalance, target)):
                continue  # public names, where it builds what it simulates
            if target == room or target in always or (found.lazy and target in lazily):
                continue
            if target.startswith("_") and target not in NATIVE and room != "_errors":
                continue  # a private helper, or a private name of the package's root such as __version__
            if not (rooms.PYTHON / target).is_dir() and not (rooms.PYTHON / f"{target}.py").is_file() and room == "cli":
                continue  # a public name of the package's root
            broken.append(at)
    assert not broken
    assert seen >= 2, "the walk found imports"


def test_files_in_toml_are_read_by_one_module() -> None:
    seen = set()
    for path in rooms.python_files():
        room = rooms.python_room(path)
        for found in rooms.python_imports(path):
            assert found.name.split(".")[0] != "tomllib" or room == "_toml", f"{relative(path)}:{found.line}: tomllib"
            helper = [*found.name.split("."), ""][1] if found.name.startswith("aibalance.") else ""
            if helper in HELPERS:
                assert room in HELPERS[helper], f"{relative(path)}:{found.line} imports {found.name}"
                seen.add(room)
    assert seen == set.union(*HELPERS.values()), "each room that may is one that does"


def test_nobody_imports_the_command_line() -> None:
    importers = {
        relative(path)
        for path in rooms.python_files()
        for found in rooms.python_imports(path)
        if found.name.startswith("aibalance.cli") and rooms.python_room(path) not in {"cli", "__main__"}
    }
    assert not importers


def test_third_party_imports_are_declared() -> None:
    with (rooms.ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    optional = [name for names in project.get("optional-dependencies", {}).values() for name in names]
    declared = {re.split(r"[^\w.-]", name)[0].replace("-", "_") for name in [*project["dependencies"], *optional]}
    assert "numpy" in declared
    for path in rooms.python_files():
        for found in rooms.python_imports(path):
            top = found.name.split(".")[0]
            if top in {"aibalance", *sys.stdlib_module_names} or found.lazy:
                continue
            assert top in declared or rooms.python_room(path) == "integrations", f"{relative(path)}:{found.line}: {top}"
