"""`aibalance plan --ray`: a real cluster of this machine, started and ended here, gives the same plan to the byte."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.connections import free_port
from tests.small import PLAN, telling

# Where Ray has an environment of its own, AIBALANCE_RAY_PYTHON names its interpreter.
PYTHON = os.environ.get("AIBALANCE_RAY_PYTHON") or (sys.executable if find_spec("ray") else None)
pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(PYTHON is None, reason="ray is not installed (AIBALANCE_RAY_PYTHON, or ray beside)"),
    pytest.mark.skipif(sys.platform == "win32", reason="ray start --block in a session of its own"),
]


# Ray listens beyond loopback whatever it is told: nobody without the token may run code there.
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster with two cores."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [
                str(PYTHON), "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2",
                f"--port={port}", "--node-ip-address=127.0.0.1", f"--ray-client-server-port={free_port()}",
                f"--dashboard-agent-listen-port={free_port()}", "--include-dashboard=false",
                "--object-store-memory=100000000", f"--temp-dir={folder}",
            ],
            env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            end = time.monotonic() + 90
            while process.poll() is None and time.monotonic() < end:
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            assert process.poll() is None, "ray start ended"
            yield f"127.0.0.1:{port}"
        finally:
            # Ours only: `ray stop` would stop every cluster of this machine.
            process.terminate()
            try:
                process.wait(30)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def command(tmp_path: Path, *more: str, program: tuple[str, ...] = ("-m", "aibalance")) -> list[str]:
    (tmp_path / "small.toml").write_text(PLAN)
    given = ["plan", "small.toml", "--slo", "p95 < 6s", "--budget", "4000", "--trials", "16"]
    return [str(PYTHON), *program, *given, *more]


def run(tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, *more), cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=200, check=False
    )


def test_a_cluster_gives_the_same_plan(tmp_path: Path, cluster: str) -> None:
    here = run(tmp_path, "--json", "--quiet", "--workers", "2", "--csv", "here.csv")
    there = run(tmp_path, "--json", "--quiet", "--ray", cluster, "--csv", "there.csv")
    assert there.returncode == here.returncode == 0, there.stderr[-2000:]
    assert here.stdout.startswith("{")
    assert there.stdout == here.stdout
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert there.stderr == ""


def test_ctrl_c_tells_what_is_known(tmp_path: Path, cluster: str) -> None:
    process = subprocess.Popen(
        # More designs than anybody waits for.
        command(tmp_path, "--trials", "100000", "--csv", "never.csv", "--ray", cluster, program=("-c", telling(0.15))),
        cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    # What ends the wait if nothing else does; the time that it takes is no part of the test.
    killer = threading.Timer(120, process.kill)
    killer.start()
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    finally:
        killer.cancel()
    assert process.returncode == 130, err[-2000:]
    assert err == ""
    assert out.startswith("interrupted; the best of ")
    assert os.listdir(tmp_path) == ["small.toml"]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nonsense", "ray: 'nonsense'; allowed: auto, host:port or ray://host:port"),
        ("127.0.0.1:{free}", "nobody answers"),
    ],
)
def test_a_wrong_address_is_one_line(tmp_path: Path, address: str, says: str) -> None:
    done = run(tmp_path, "--ray", address.format(free=free_port()))
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert says in line
