"""`aibalance proxy`: its file, what it says of a wrong one, and the program itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

import httpx

from aibalance import FormatError
from aibalance.cli import main as command
from aibalance.integrations._proxy_file import load
from tests.connections import free_port

from .backend import backends

GOOD = """
listen = "127.0.0.1:0"
grace = 5
keep_alive = 10
max_connections = 100
trust_forwarded = true

[limits]
max_body = 2048
read_timeout = 7

[router]
seed = 1

[[rules]]
location = "/api/"
to = "api"
read_timeout = 30

[[rules]]
location = "/predict"
to = { gpu = 90, api = 10 }
streaming = true

[fleets.api]
picker = "RoundRobin"
endpoints = ["127.0.0.1:1", { address = "127.0.0.1:2", weight = 3, max_inflight = 5 }]
options = { schedule = "edf" }

[fleets.api.sticky]
secret_env = "PROXY_SECRET"
max_age = 60
secure = false

[fleets.gpu]
picker = "RingHash"
key = "header:x-user"
scheme = "https"
endpoints = ["127.0.0.1:3"]

[fleets.gpu.pool]
panic_threshold = 0.2
slow_start = { window = 30 }
max_fails = { max_fails = 2 }

[fleets.gpu.health]
path = "/health"
interval = 3
"""


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_SECRET", "0123456789abcdef")


def written(folder: Path, text: str) -> str:
    file = folder / "proxy.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_file_says_everything(tmp_path: Path) -> None:
    file = load(written(tmp_path, GOOD))
    assert (file.host, file.port, file.grace, file.keep_alive, file.max_connections) == ("127.0.0.1", 0, 5, 10, 100)
    proxy = file.proxy
    assert (proxy._limits.max_body, proxy._limits.read_timeout, proxy._trust) == (2048, 7, True)
    api, gpu = proxy.fleets["api"], proxy.fleets["gpu"]
    assert [(e.address, e.weight, e.max_inflight) for e in api.pool.endpoints] == [
        ("127.0.0.1:1", 1, None),
        ("127.0.0.1:2", 3, 5),
    ]
    assert type(api.picker).__name__ == "RoundRobin"
    assert "edf" in repr(api.picker)
    assert api.sticky is not None
    assert (api.sticky.max_age, api.sticky.secure) == (60, False)
    assert (gpu.key, gpu.scheme) == ("header:x-user", "https")
    assert gpu.checker is not None
    assert "panic_threshold=0.2" in repr(gpu.pool) or len(gpu.pool) == 1
    route = proxy._router.rules[0]
    assert (route.to, route.read_timeout) == ("api", 30)
    assert proxy._router.shares(1) == (0.9, 0.1)


WRONG = [
    ("listen = 5", "line 2: listen: 5 is not allowed", 'listen = "127.0.0.1:0"'),
    ('listen = "here"', "line 2: listen: 'here' is not allowed; host:port", 'listen = "127.0.0.1:0"'),
    ("max_bdy = 2048", "line 9: limits.max_bdy: there is no such field; did you mean max_body?", "max_body = 2048"),
    ("max_body = -1", "line 9: limits.max_body: -1 is not allowed", "max_body = 2048"),
    ('to = "apu"', "line 17: rules[0].to: 'apu' is not allowed; one of api, gpu", 'to = "api"\nread'),
    ("read_timeout = 0", "line 18: rules[0].read_timeout: 0 is not allowed", "read_timeout = 30"),
    ('location = "~ ("', "line 21: rules[1]", 'location = "/predict"'),
    ('picker = "Best"', "line 26: fleets.api.picker: 'Best' is not allowed", 'picker = "RoundRobin"'),
    ("weight = -3", "line 27: fleets.api.endpoints[1].weight", "weight = 3"),
    ('schedule = "x"', "line 28: fleets.api.options.schedule", 'schedule = "edf"'),
    ('secret_env = "NOBODY_SET_IT"', "line 31: fleets.api.sticky.secret_env", 'secret_env = "PROXY_SECRET"'),
    ("metrics = 5", "line 2: metrics: 5 is not allowed", 'listen = "127.0.0.1:0"'),
    ('ca = "absent.pem"', "line 37: fleets.gpu.ca: 'absent.pem' is not allowed", 'key = "header:x-user"'),
    ("websockets = 1", "line 37: fleets.gpu.websockets: 1 is not allowed", 'key = "header:x-user"'),
    ('max_message = "some"', "line 9: limits.max_message: 'some' is not allowed", "max_body = 2048"),
    ("max_age = 0", "line 32: fleets.api.sticky.max_age: 0 is not allowed", "max_age = 60"),
    ('endpoints = ["nowhere"]', "line 39: fleets.gpu.endpoints[0]", 'endpoints = ["127.0.0.1:3"]'),
    ("panic_threshold = 2", "line 42: fleets.gpu.pool.panic_threshold", "panic_threshold = 0.2"),
    ("slow_start = {}", "line 43: fleets.gpu.pool.slow_start.window: is missing", "slow_start = { window = 30 }"),
    ("intervall = 3", "line 48: fleets.gpu.health.intervall: there is no such field", "interval = 3"),
    ("interval = -3", "line 48: fleets.gpu.health.interval: -3", "interval = 3"),
    ("listen = ", "line 2: not TOML", 'listen = "127.0.0.1:0"'),
]


@pytest.mark.parametrize(("line", "said", "instead"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_file_is_told_with_line_and_field(tmp_path: Path, line: str, said: str, instead: str) -> None:
    if instead.endswith("\nread"):
        line += "\nread"
    assert GOOD.count(instead) >= 1
    path = written(tmp_path, GOOD.replace(instead, line, 1))
    with pytest.raises(FormatError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {said}"), str(caught.value)


def test_a_file_without_fleets_or_rules(tmp_path: Path) -> None:
    for text, said in (
        ("", "fleets: is missing"),
        ("[fleets]", "fleets: is not allowed without a fleet"),
        ('[fleets.a]\nendpoints = ["a:1"]', "rules: [] is not allowed"),
        ("[fleets.a]\nendpoints = []\n", "fleets.a.endpoints: [] is not allowed"),
    ):
        with pytest.raises(FormatError) as caught:
            load(written(tmp_path, text))
        assert said in str(caught.value)
    with pytest.raises(FormatError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_the_command_checks_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["proxy", "--check", written(tmp_path, GOOD)]) == 0
    assert "good; 2 rules, 2 fleets" in capsys.readouterr().out
    assert command(["proxy", written(tmp_path, "rules = 3")]) == 2
    assert "proxy.toml, line 1: fleets: is missing" in capsys.readouterr().err


def test_the_program_serves_and_ends_in_peace(tmp_path: Path) -> None:
    async def main() -> None:
        port = free_port()
        async with backends(1) as (a,):
            page = free_port()
            text = f'listen = "127.0.0.1:{port}"\nmetrics = "127.0.0.1:{page}"\n[[rules]]\npath = "*"\nto = "f"\n'
            text += f'[fleets.f]\nendpoints = ["{a.address}"]\n'
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "aibalance", "proxy", written(tmp_path, text), env=dict(os.environ)
            )
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as http:
                for _ in range(400):
                    try:
                        assert (await http.get("/x")).json()["name"] == "b0"
                        break
                    except httpx.ConnectError:
                        assert process.returncode is None
                        await asyncio.sleep(0.05)
                stream = asyncio.create_task(http.get("/sse/40/50"))
                while a.streams == 0:
                    await asyncio.sleep(0.01)
                shown = (await http.get(f"http://127.0.0.1:{page}/metrics")).text
                assert f'aibalance_endpoint_inflight{{endpoint="{a.address}",pool="f"}} 1.0' in shown
                process.send_signal(signal.SIGTERM)
                assert (await stream).text.count("data:") == 40
            assert await asyncio.wait_for(process.wait(), 20) in (0, -signal.SIGTERM)

    asyncio.run(main())
