"""What the stable ABI costs a pick: wheels built both ways, each in a virtual environment of its own, counted in
instructions. docs/decisions/0002-wheels.md holds what came out.

    python -m benches.abi [--profile quick|release]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benches import instructions
from benches.operations import CALL, OURS

ROOT = Path(__file__).parents[1]


def environment(folder: Path, profile: str, features: str) -> str:
    """A fresh virtual environment with a wheel built with these features; its interpreter."""
    wheels = folder / "wheels"
    build = [sys.executable, "-m", "maturin", "build", "--quiet", "--profile", profile, "--features", features]
    subprocess.run([*build, "--interpreter", sys.executable, "--out", str(wheels)], cwd=ROOT, check=True)
    (wheel,) = wheels.glob("*.whl")
    print(f"built {wheel.name}", file=sys.stderr)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    return str(python)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.abi", description=__doc__)
    parser.add_argument("--profile", default="release", help="Cargo profile of both wheels")
    profile = parser.parse_args().profile
    if not instructions.available():
        print("valgrind is not installed: nothing to count with", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            name: instructions.measure([CALL, *OURS], python=environment(Path(folder) / name, profile, features))
            for name, features in (("version", "python"), ("stable", "python,abi3"))
        }
    print(f"CPython {platform.python_version()}, {platform.machine()}, profile {profile}: instructions a call\n")
    print("| operation | per-version | abi3 | more |\n|---|--:|--:|--:|")
    for name, version in figures["version"].items():
        stable = figures["stable"][name]
        print(f"| {name} | {version:,.0f} | {stable:,.0f} | {stable / version - 1:+.0%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
