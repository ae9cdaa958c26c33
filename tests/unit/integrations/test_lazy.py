"""Third-party packages are imported when they are first needed, and what is missing says how it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aibalance
from aibalance import ConfigError
from aibalance._extras import need

FOLDER = Path(aibalance.__file__).parent / "integrations"
SURFACES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
THIRD = (
    "aiohttp",
    "boto3",
    "dns",
    "google",
    "grpc",
    "httpx",
    "httpx2",
    "kopf",
    "kubernetes",
    "opentelemetry",
    "prometheus_client",
    "requests",
)


def test_no_surface_imports_its_package() -> None:
    assert {"httpx", "aiohttp", "grpc", "keda", "aws"} <= set(SURFACES)
    code = (
        "import sys, aibalance\n"
        "assert not [m for m in sys.modules if m.startswith('aibalance.integrations')]\n"
        f"for name in {SURFACES!r}: __import__(f'aibalance.integrations.{{name}}')\n"
        f"print([m for m in {THIRD!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


@pytest.mark.parametrize(
    "surface",
    [
        "aiohttp",
        "aws",
        "discovery",
        "grpc",
        "httpx",
        "keda",
        "kubernetes",
        "opentelemetry",
        "prometheus",
        "requests",
        "signals",
    ],
)
def test_each_surface_has_an_extra_of_the_project(surface: str) -> None:
    import tomllib

    project = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {"discovery": "dns", "signals": "prometheus"}.get(surface, surface)
    assert named in extras
    assert f"aibalance[{named}]" in (FOLDER / f"{surface}.py").read_text(encoding="utf-8")


def test_what_is_missing_and_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"x: no_such_package.sub is not installed; pip install aibalance\[x\]"):
        need("no_such_package.sub", "x")
    (tmp_path / "broken_package.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="no_such_dependency"):
        need("broken_package", "x")


def test_a_surface_says_so_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from aibalance.integrations.aiohttp import middleware
    from aibalance.integrations.aws import Group
    from aibalance.integrations.grpc import BalancedChannel
    from aibalance.integrations.opentelemetry import instrument
    from aibalance.integrations.requests import adapter

    picker = aibalance.RoundRobin(["a:1"])
    uses: dict[str, Any] = {
        "aiohttp": lambda: middleware(picker),
        "requests": lambda: adapter(picker),
        "grpc": lambda: BalancedChannel(picker),
        "boto3": lambda: Group("g"),
        "opentelemetry.metrics": lambda: instrument(pickers={"a": picker}),
    }
    for module, use in uses.items():
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=f"{module} is not installed"):
            use()
