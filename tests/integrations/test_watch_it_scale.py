"""The example with live processes: more of them under load, fewer after it, and no request fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).parents[2]
RUN = "import asyncio; from examples.watch_it_scale import watch; print(asyncio.run(watch(calm=1.0)))"


@pytest.mark.timeout(150)
def test_servers_come_and_go_under_a_load() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, timeout=140, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.search(r"Seen\(requests=(\d+), failed=(\d+), most=(\d+), last=(\d+)\)", done.stdout)
    assert found, done.stdout
    requests, failed, most, last = map(int, found.groups())
    assert failed == 0
    assert requests > 50
    assert most > 2
    assert last == 2
    assert "#" in done.stdout
