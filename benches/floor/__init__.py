"""The floor: a small C extension, built in place when it is first needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = """
from setuptools import Extension, setup
setup(name="floor", ext_modules=[Extension("_floor", ["floor.c"], extra_compile_args=["-O3", "-g0"])])
"""


def built() -> Path:
    return HERE / f"_floor{sysconfig.get_config_var('EXT_SUFFIX')}"


def build() -> str | None:
    """Build the extension if it is missing or older than its source; why that failed, or None."""
    source = HERE / "floor.c"
    if built().exists() and built().stat().st_mtime >= source.stat().st_mtime:
        return None
    with tempfile.TemporaryDirectory() as objects:
        done = subprocess.run(
            [sys.executable, "-c", BUILD, "-q", "build_ext", "--inplace", "--build-temp", objects],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode or not built().exists():
        return (done.stderr.strip() or done.stdout.strip() or "no extension came out").splitlines()[-1]
    return None


def picker(endpoints: list[str]) -> Any:
    """A floor picker over these endpoints; ImportError where it has not been built."""
    return importlib.import_module(f"{__name__}._floor").Picker(endpoints)
