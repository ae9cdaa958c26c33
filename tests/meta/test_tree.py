"""The tree as a stranger gets it: it imports without a murmur and knows no machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from . import rooms

MODULES = sorted(
    ".".join(["aibalance", *path.relative_to(rooms.PYTHON).with_suffix("").parts]).removesuffix(".__init__")
    for path in rooms.python_files()
    if path.name != "__main__.py"
)


def run(*code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *code], capture_output=True, text=True, check=False
    )


def test_the_package_has_modules() -> None:
    assert len(MODULES) >= 2


def test_every_module_imports_under_developer_flags() -> None:
    done = run("-c", "\n".join(f"import {name}" for name in MODULES))
    assert (done.returncode, done.stderr) == (0, "")


ALONE = """
import importlib, os, sys, traceback
import aibalance, numpy
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            print(name, file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_each_module_imports_on_its_own() -> None:
    # Every import of a part begins with the package, so each fork of a process that has only that is a fresh start.
    done = subprocess.run([sys.executable, "-c", ALONE, *MODULES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    broken = subprocess.run(
        [sys.executable, "-c", ALONE, "no_such_module"], capture_output=True, text=True, check=False
    )
    assert "no_such" in broken.stderr


def test_picking_does_not_import_numpy() -> None:
    code = (
        "import sys, aibalance\n"
        "aibalance.RoundRobin(['a', 'b']).pick()\n"
        "assert 'numpy' not in sys.modules, 'numpy came along'"
    )
    done = run("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


def tracked() -> list[str]:
    if not (rooms.ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=rooms.ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def test_tracked_files_name_no_machine() -> None:
    names = tracked()
    assert len(names) >= 30
    machine = re.compile(r"(?:^|[^\w.-])/(?:work|root|farm|home/\w+|Users/\w+|tmp/\w+)/", re.MULTILINE)
    found = []
    for name in names:
        path = rooms.ROOT / name
        if path.suffix in {".gz", ".png", ".lock"} or not path.is_file():
            continue
        for match in machine.finditer(path.read_text(encoding="utf-8")):
            found.append(f"{name}: {match.group().strip()}")
    assert not found


def test_no_file_has_outgrown_its_room() -> None:
    # Past about 600 lines a file is two rooms. The stub is one by nature: one file for one native module.
    sources = [n for n in tracked() if n.endswith((".py", ".rs")) and (rooms.ROOT / n).is_file()]
    assert len(sources) >= 20
    long = {
        n: lines for n in sources if (lines := len((rooms.ROOT / n).read_text(encoding="utf-8").splitlines())) > 700
    }
    assert not long
