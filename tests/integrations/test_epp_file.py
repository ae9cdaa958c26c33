"""`aibalance epp`: its file, what it says of a wrong one, and the program between Envoy and servers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("httpx")
pytest.importorskip("grpc")
pytest.importorskip("envoy.service.ext_proc", reason="xds-protos is not installed")

import httpx

from aibalance import ConfigError, Endpoint, FormatError, ManualClock, Pool, RoundRobin, SlowStart
from aibalance.cli import main as command
from aibalance.integrations._epp_file import load
from aibalance.integrations.envoy import EdsPublisher, EndpointPicker, envoy_config, load_assignment, weights

from .backend import backends
from .envoys import ENVOY, envoy, free_ports

pytestmark = pytest.mark.timeout(60)
GOOD = """
listen = "127.0.0.1:9002"
picker = "RingHash"
key = "x-session"
candidates = 2
endpoints = ["127.0.0.1:1", { address = "127.0.0.1:2", weight = 3 }]

[health]
path = "/health"

[eds]
cluster = "gpu"
interval = 0.1

[envoy]
listen = "127.0.0.1:10000"
admin = "127.0.0.1:9901"
retries = 1
"""


def written(folder: Path, text: str) -> str:
    file = folder / "epp.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_file_says_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD)
    file = load(path)
    assert (file.picker._key, file.picker._candidates, len(file.picker.pool)) == ("x-session", 2, 2)
    assert file.checker is not None
    assert file.eds is not None
    assert command(["epp", "--check", path]) == 0
    assert "good; 2 endpoints" in capsys.readouterr().out
    assert command(["epp", "--bootstrap", path]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [cluster["name"] for cluster in shown["static_resources"]["clusters"]] == ["gpu", "picker"]
    assert "ads_config" in shown["dynamic_resources"]


WRONG = [
    ("listen = 'x:1'", "line 2: listen", 'listen = "127.0.0.1:9002"'),
    ("metrics = 'here'", "line 2: metrics: 'here' is not allowed; host:port", 'listen = "127.0.0.1:9002"'),
    (
        "metrics = '127.0.0.1:²'",
        "line 2: metrics: '127.0.0.1:²' is not allowed; host:port",
        'listen = "127.0.0.1:9002"',
    ),
    ("candidates = 0", "line 5: candidates: 0 is not allowed", "candidates = 2"),
    (
        'endpoints = ["gpu.example.com:80"]',
        "line 6: endpoints[0]",
        'endpoints = ["127.0.0.1:1", { address = "127.0.0.1:2", weight = 3 }]',
    ),
    ("claster = 1", "line 12: eds.claster: there is no such field", 'cluster = "gpu"'),
    ("interval = 0", "line 13: eds.interval: 0 is not allowed", "interval = 0.1"),
    ("retries = -1", "line 18: envoy.retries: -1 is not allowed", "retries = 1"),
]


@pytest.mark.parametrize(("line", "said", "instead"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_file_is_told_with_line_and_field(tmp_path: Path, line: str, said: str, instead: str) -> None:
    path = written(tmp_path, GOOD.replace(instead, line, 1))
    with pytest.raises(FormatError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}, {said}"), str(caught.value)


@pytest.mark.skipif(ENVOY is None, reason="envoy is not installed (AIBALANCE_ENVOY, or envoy on PATH)")
def test_the_program_and_its_bootstrap_work_together(tmp_path: Path) -> None:
    async def main() -> None:
        listen, admin, epp = free_ports(3)
        async with backends(2) as servers:
            addresses = ", ".join(f'"{server.address}"' for server in servers)
            text = (
                f'listen = "127.0.0.1:{epp}"\npicker = "RingHash"\nkey = "x-user"\nendpoints = [{addresses}]\n'
                f'[eds]\ninterval = 0.05\n[envoy]\nlisten = "127.0.0.1:{listen}"\nadmin = "127.0.0.1:{admin}"\n'
            )
            path = written(tmp_path, text)
            bootstrap = load(path).bootstrap()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "aibalance", "epp", path, stdout=asyncio.subprocess.PIPE
            )
            assert process.stdout is not None
            assert b"listening" in await process.stdout.readline()
            async with envoy(bootstrap, tmp_path), httpx.AsyncClient(timeout=10, trust_env=False) as http:

                async def home(user: str) -> str | None:
                    answer = await http.get(f"http://127.0.0.1:{listen}/x", headers={"x-user": user})
                    return answer.json()["name"] if answer.status_code == 200 else None

                ring = load(path).picker.picker
                names = {server.address: server.name for server in servers}
                for user in ("ann", "bob", "cy", "dee"):
                    async with asyncio.timeout(30):
                        # Until Envoy has its endpoints and has found the picker.
                        while await home(user) != names[ring.pick(user).address]:
                            await asyncio.sleep(0.05)
                    assert {await home(user) for _ in range(4)} == {names[ring.pick(user).address]}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 15) == 0

    asyncio.run(main())


def test_weights_fold_in_what_the_pool_knows() -> None:
    clock = ManualClock(0.0)
    pool = Pool(
        ["10.0.0.1:80", "10.0.0.2:80", Endpoint("10.0.0.3:80", weight=0)], clock=clock, slow_start=SlowStart(10)
    )
    clock.advance(100)
    assert weights(pool) == {"10.0.0.1:80": 1, "10.0.0.2:80": 1, "10.0.0.3:80": 0}
    pool.add("10.0.0.4:80")
    clock.advance(5)
    slow = weights(pool)
    assert slow["10.0.0.1:80"] == 100
    assert 1 <= slow["10.0.0.4:80"] < 100
    assert weights(pool, scale=10)["10.0.0.1:80"] == 10
    pool.set_health("10.0.0.2:80", "unhealthy")
    assert weights(pool)["10.0.0.2:80"] == 0
    with pytest.raises(ConfigError, match="scale"):
        weights(pool, scale=0)
    assert weights(Pool([])) == {}


def test_assignments_have_zones_priorities_and_states() -> None:
    pool = Pool(
        [
            Endpoint("10.0.0.1:80", zone="a"),
            Endpoint("10.0.0.2:80", zone="b", weight=0),
            Endpoint("10.0.0.3:80", zone="a", priority=7),
            Endpoint("[::1]:80", backup=True),
        ]
    )
    pool.set_health("10.0.0.1:80", "degraded")
    pool.set_health("10.0.0.3:80", "unhealthy")
    seen = [
        (
            place["priority"],
            place.get("locality", {}).get("zone"),
            [(one["health_status"], one["load_balancing_weight"]) for one in place["lb_endpoints"]],
        )
        for place in load_assignment("c", pool)["endpoints"]
    ]
    assert seen == [
        (0, "a", [("DEGRADED", 1)]),
        (0, "b", [("DRAINING", 1)]),
        (1, "a", [("UNHEALTHY", 1)]),
        (2, None, [("HEALTHY", 1)]),
    ]


def test_what_cannot_be_is_said() -> None:
    pool = Pool(["10.0.0.1:80"])
    for options, said in (
        ({"mode": "x"}, "mode: 'x'"),
        ({"mode": "original_dst", "picker": None}, "picker: None"),
        ({"endpoints": "ads", "picker": None}, "endpoints: 'ads'"),
        ({"retries": -1}, "retries: -1"),
        ({"message_timeout": 0}, "message_timeout: 0"),
        ({"listen": "name:80"}, "address: 'name:80'"),
    ):
        with pytest.raises(ConfigError, match=said):
            envoy_config(pool, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="candidates: 0"):
        EndpointPicker(RoundRobin(pool), candidates=0)
    with pytest.raises(ConfigError, match="picker"):
        EndpointPicker(pool)
    with pytest.raises(ConfigError, match="address: 'x'"):
        EdsPublisher({"c": Pool(["x"])})


def values(text: str) -> dict[str, float]:
    """By name, and by name and endpoint where a metric has one."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            endpoint = sample.labels.get("endpoint")
            found[sample.name if endpoint is None else f"{sample.name} {endpoint}"] = sample.value
    return found


def test_the_program_shows_metrics(tmp_path: Path) -> None:
    """Without Envoy: a client of ext_proc is enough to be counted."""
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    import grpc
    from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
    from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service

    async def main() -> None:
        (port,) = free_ports(1)
        text = f'listen = "127.0.0.1:{port}"\nmetrics = "127.0.0.1:0"\ncandidates = 1\npicker = "RoundRobin"\n'
        text += 'endpoints = [{ address = "127.0.0.1:1", max_inflight = 1 }, { address = "127.0.0.1:2", weight = 0 }]\n'
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aibalance", "epp", written(tmp_path, text + "[eds]\n")),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            said = (await process.stdout.readline()).decode()
            assert said.startswith("aibalance epp: metrics at port ")
            page = f"http://127.0.0.1:{said.split()[-1]}/metrics"
            assert b"listening" in await process.stdout.readline()
            asked = messages.ProcessingRequest(request_headers=messages.HttpHeaders())
            async with (
                grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
                httpx.AsyncClient(timeout=30, trust_env=False) as http,
            ):
                call = service.ExternalProcessorStub(channel).Process
                held = call()
                await held.write(asked)
                assert (await held.read()).HasField("request_headers")
                full = call()
                await full.write(asked)
                assert (await full.read()).immediate_response.status.code == 429
                await full.done_writing()
                await full.read()
                shown = values((await http.get(page)).text)
                assert shown["aibalance_epp_picked_total"] == 1
                assert shown["aibalance_epp_refused_total"] == 1
                assert shown["aibalance_epp_retried_total"] == shown["aibalance_epp_lost_total"] == 0
                assert shown["aibalance_epp_streams"] == 1
                assert shown["aibalance_endpoint_inflight 127.0.0.1:1"] == 1
                assert shown["aibalance_endpoint_eligible 127.0.0.1:2"] == 0
                assert shown["aibalance_eds_acks_total"] == shown["aibalance_eds_nacks_total"] == 0
                if sys.platform == "linux":
                    assert shown["process_resident_memory_bytes"] > 1e6
                await held.done_writing()
                await held.read()
                shown = values((await http.get(page)).text)
                assert shown["aibalance_epp_streams"] == shown["aibalance_endpoint_inflight 127.0.0.1:1"] == 0
        finally:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0

    asyncio.run(main())


def test_a_page_of_metrics_ends_with_its_program() -> None:
    pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")
    from aibalance.integrations._metrics_page import metrics_page

    with metrics_page(None, []) as port:
        assert port is None
    with metrics_page("127.0.0.1:0", []) as port:
        assert port is not None
        assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200
        with (
            pytest.raises(ConfigError, match=r"metrics: .* cannot be listened on"),
            metrics_page(f"127.0.0.1:{port}", []),
        ):
            pass
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
