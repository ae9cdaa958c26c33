"""A real local Ray Serve: one replica, two under load, one again, balanced as the picker says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Where Ray has an environment of its own, AIBALANCE_RAY_PYTHON names its interpreter.
PYTHON = os.environ.get("AIBALANCE_RAY_PYTHON") or (sys.executable if find_spec("ray") else None)


@pytest.mark.timeout(280)
@pytest.mark.skipif(PYTHON is None, reason="ray is not installed (AIBALANCE_RAY_PYTHON, or ray[serve] beside)")
def test_a_local_cluster_scales_and_balances() -> None:
    program = Path(__file__).with_name("ray_cluster.py")
    done = subprocess.run([str(PYTHON), str(program)], capture_output=True, text=True, timeout=270, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert json.loads(line.removeprefix("SAID ")) == {
        "start": 1,
        "first": True,
        "up": 2,
        "spread": [4, 4],
        "down": 1,
        "counted": True,
        "inflight": 0,
    }
