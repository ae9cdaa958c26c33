"""The wheel and the source archive: what is in them, and that both install into an empty environment and work there.

Builds with the quick profile, the source archive without optimising; `pytest -m "not packages"` leaves it out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from . import rooms

pytestmark = [pytest.mark.packages, pytest.mark.timeout(1200)]

VERSION = "0.1.0"


def run(*command: str | Path, cwd: Path = rooms.ROOT, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def target() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute()


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    maturin = (sys.executable, "-m", "maturin")
    run(*maturin, "build", "--profile", "quick", "--interpreter", sys.executable, "--out", folder)
    run(*maturin, "sdist", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    (found,) = dist.glob("*.tar.gz")
    return found


def members(archive: Path) -> list[str]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return file.namelist()
    with tarfile.open(archive) as file:
        return file.getnames()


def metadata(archive: Path) -> Message:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            return message_from_string(file.read(f"aibalance-{VERSION}.dist-info/METADATA").decode())
    with tarfile.open(archive) as file:
        member = file.extractfile(f"aibalance-{VERSION}/PKG-INFO")
        assert member is not None
        return message_from_string(member.read().decode())


def check_metadata(archive: Path) -> None:
    found = metadata(archive)
    assert (found["Name"], found["Version"]) == ("aibalance", VERSION)
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in found.get_all("Classifier", [])
    # A pick needs numpy at most; what draws reports is an extra.
    needed = [r for r in found.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert [r.split(">")[0] for r in needed] == ["numpy"]
    readme = found.get_payload()
    assert isinstance(readme, str)
    assert "make demo" in readme


def test_the_wheel_carries_stubs_marker_licence_and_command(wheel: Path) -> None:
    names = members(wheel)
    info = f"aibalance-{VERSION}.dist-info"
    assert {"aibalance/__init__.py", "aibalance/_core.pyi", "aibalance/py.typed"} <= set(names)
    assert [n for n in names if n.startswith("aibalance/_core.") and n.endswith((".so", ".pyd"))]
    assert f"{info}/licenses/LICENSE" in names
    assert f"{info}/entry_points.txt" in names
    python = {str(p.relative_to(rooms.PYTHON.parent)) for p in rooms.PYTHON.rglob("*.py")}
    assert python <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "benches/", "src/", "target/"))]
    check_metadata(wheel)


def test_the_source_archive_carries_all_that_a_build_needs(sdist: Path) -> None:
    root = f"aibalance-{VERSION}"
    names = members(sdist)
    assert {
        f"{root}/{n}" for n in ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "LICENSE", "src/lib.rs")
    } <= set(names)
    assert {f"{root}/python/aibalance/{n}" for n in ("__init__.py", "_core.pyi", "py.typed")} <= set(names)
    rust = {f"{root}/{p.relative_to(rooms.ROOT)}" for p in rooms.rust_files()}
    assert rust <= set(names)
    assert not [n for n in names if "/target/" in n or n.endswith((".so", ".pyc"))]
    check_metadata(sdist)


USE = """
import pathlib, sys
import aibalance
home = pathlib.Path(aibalance.__file__).parent
assert home.is_relative_to(sys.prefix), home
assert (home / "_core.pyi").is_file() and (home / "py.typed").is_file()
picker = aibalance.RoundRobin([aibalance.Endpoint("a", weight=2), "b"])
assert [picker.pick().address for _ in range(3)] == ["a", "b", "a"]
print(aibalance.__version__)
"""


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_into_an_empty_environment(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    archive: Path = request.getfixturevalue(kind)
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", home, cwd=tmp_path)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Only for building from source: the crates that are compiled already, and ours without optimising.
    arguments = "--profile quick --config profile.quick.package.aibalance.opt-level=0"
    building = {"MATURIN_PEP517_ARGS": arguments, "CARGO_TARGET_DIR": str(target())}
    run(python, "-m", "pip", "install", "--quiet", archive, cwd=tmp_path, **building)
    assert run(python, "-I", "-W", "error", "-c", USE, cwd=tmp_path).strip() == VERSION
    assert run(home / python.parent.name / "aibalance", "--help", cwd=tmp_path)
    # A type checker sees the installed stubs: the client is checked against this environment and nothing else.
    client = tmp_path / "client.py"
    client.write_text((rooms.ROOT / "tests" / "typing" / "client.py").read_text(encoding="utf-8"), encoding="utf-8")
    cache = tmp_path / "cache"
    run(
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        cache,
        client,
        cwd=tmp_path,
    )
