"""Real programs judge what is exported, and nginx, HAProxy and Envoy started on it pick as we do.

Each program is found on the PATH or by an environment variable (AIBALANCE_NGINX, AIBALANCE_HAPROXY, AIBALANCE_ENVOY,
AIBALANCE_PROMTOOL); without it its tests skip.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibalance import formats
from aibalance.formats import export

from ..unit.formats import samples


def program(name: str) -> str:
    found = os.environ.get(f"AIBALANCE_{name.upper()}") or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def newer_nginx(nginx: str) -> bool:
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False).stderr
    version = said.rpartition("/")[2].split()[0].split(".")
    return (int(version[0]), int(version[1])) >= (1, 31)


def test_nginx_accepts_it(folder: Path) -> None:
    nginx = program("nginx")
    text = samples.NGINX if newer_nginx(nginx) else samples.NGINX.replace("least_time header;", "")
    made = export(formats.read_text(text, "nginx.conf"), "nginx")
    (folder / "nginx.conf").write_text(f"pid {folder}/pid;\nerror_log stderr;\n{made.text}")
    checked(nginx, "-t", "-p", f"{folder}/", "-c", f"{folder}/nginx.conf")


def test_haproxy_accepts_it(folder: Path) -> None:
    haproxy = program("haproxy")
    made = export(formats.read_text(samples.HAPROXY, "haproxy.cfg"), "haproxy")
    (folder / "haproxy.cfg").write_text(f"{made.text}\nfrontend f\n    mode http\n    bind 127.0.0.1:{port()}\n")
    checked(haproxy, "-c", "-f", f"{folder}/haproxy.cfg")


@pytest.mark.parametrize("text", [samples.ENVOY, samples.HAPROXY.replace("balance first", "balance leastconn")])
def test_envoy_accepts_it(folder: Path, text: str) -> None:
    envoy = program("envoy")
    name = "envoy.yaml" if "static_resources" in text else "haproxy.cfg"
    (folder / "envoy.yaml").write_text(export(formats.read_text(text, name), "envoy").text)
    checked(envoy, "--mode", "validate", "-c", f"{folder}/envoy.yaml")


def test_promtool_accepts_it(folder: Path) -> None:
    promtool = program("promtool")
    found = formats.read_text(samples.HPA, "hpa.yaml") + formats.read_text(samples.KEDA, "keda.yaml")
    found += formats.read_text(samples.TERRAFORM, "main.tf")
    made = export(found, "prometheus")
    assert made.text.count("alert:") >= 6
    (folder / "rules.yaml").write_text(made.text)
    checked(promtool, "check", "rules", f"{folder}/rules.yaml")


def test_the_models_of_the_kubernetes_client_hold_it() -> None:
    client = pytest.importorskip("kubernetes.client")
    yaml = pytest.importorskip("yaml")
    made = yaml.safe_load(export(formats.read_text(samples.HPA, "hpa.yaml"), "hpa").text)

    api = client.ApiClient()
    # Fields that no model has do not come back.
    read = api._ApiClient__deserialize(made, "V2HorizontalPodAutoscaler")
    assert api.sanitize_for_serialization(read) == made


# The same picks


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], ports: list[int]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for one in ports:
            for _ in range(400):
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", one), timeout=1):
                    break
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(at: int, keys: list[str]) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", at, timeout=10)
    out = []
    for key in keys:
        connection.request("GET", "/", headers={"X-Key": key})
        answer = connection.getresponse()
        out.append(answer.read().decode().strip())
        assert answer.status == 200
    connection.close()
    return out


def picks(pool: formats.PoolConfig, keys: list[str], keyed: bool) -> list[str]:
    picker = pool.build(seed=1)
    out = []
    for key in keys:
        lease = picker.acquire(key) if keyed else picker.acquire()
        out.append(lease.endpoint.address)
        lease.release(status=200)
    return out


ADDRESSES = [f"10.{i % 7}.{i * 31 % 256}.{i % 250 + 1}" for i in range(1000)]
KEYS = [f"user-{i * 7919 % 400}" for i in range(1000)]


@pytest.mark.parametrize(
    ("method", "keyed"),
    [
        ("", False),
        ("least_conn;", False),
        ("hash $http_x_key;", True),
        ("hash $http_x_key consistent;", True),
        ("ip_hash;", True),
    ],
)
def test_nginx_picks_the_same(folder: Path, method: str, keyed: bool) -> None:
    nginx = program("nginx")
    ports = [port() for _ in range(4)]
    servers = [f"server 127.0.0.1:{p} weight={w};" for p, w in zip(ports, (5, 1, 2), strict=False)]
    front = port()
    text = f"upstream u {{ {method} {' '.join(servers)} }}\n"
    text += f"server {{ listen {front}; location / {{ proxy_pass http://u; }} }}"
    found = formats.read_text(text, "nginx.conf").check()
    written = export(found, "nginx").text.replace("http {", "http { access_log off;", 1)
    written = written.replace(f"listen {front};", f"listen 127.0.0.1:{front};")
    # The client's address is what the header says.
    keys = ADDRESSES if method == "ip_hash;" else KEYS
    if method == "ip_hash;":
        written = written.replace("http {", "http { set_real_ip_from 127.0.0.1; real_ip_header X-Key;", 1)
    own = "".join(
        f"server {{ listen 127.0.0.1:{p}; location / {{ return 200 '127.0.0.1:{p}'; }} }}\n" for p in ports[:3]
    )
    body = written.rstrip().removesuffix("}") + own + "}\n"
    (folder / "nginx.conf").write_text(
        f"daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n{body}"
    )
    command = [nginx, "-p", f"{folder}/", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"]
    # It is asked whether it listens at its servers, never at the front: that would be a pick.
    with running(command, ports[:3]):
        assert answers(front, keys) == picks(found.pool("u"), keys, keyed)


@pytest.mark.parametrize(
    ("balance", "keyed"),
    [
        ("balance roundrobin", False),
        ("balance static-rr", False),
        ("balance leastconn", False),
        ("balance hdr(x-key)", True),
        ("balance hdr(x-key)\n    hash-type consistent", True),
        ("balance hdr(x-key)\n    hash-type consistent sdbm", True),
        ("balance hdr(x-key)\n    hash-type map-based wt6 avalanche", True),
        ("balance hdr(x-key)\n    hash-type map-based crc32", True),
        ("balance hdr(x-key)\n    hash-type consistent\n    hash-balance-factor 150", True),
        ("balance hdr(x-key)\n    hash-type consistent djb2 avalanche", True),
    ],
)
def test_haproxy_picks_the_same(folder: Path, balance: str, keyed: bool) -> None:
    haproxy = program("haproxy")
    ports = [port() for _ in range(3)]
    front = port()
    lines = [f"    server s{i} 127.0.0.1:{p} weight {w}" for i, (p, w) in enumerate(zip(ports, (5, 1, 2), strict=True))]
    text = f"backend u\n    {balance}\n" + "\n".join(lines) + "\n"
    found = formats.read_text(text, "haproxy.cfg").check()
    own = "".join(
        f"frontend s{p}\n    bind 127.0.0.1:{p}\n    mode http\n"
        f'    http-request return status 200 content-type text/plain string "127.0.0.1:{p}"\n'
        for p in ports
    )
    (folder / "haproxy.cfg").write_text(
        "global\n    nbthread 1\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n"
        f"    timeout server 30s\nfrontend front\n    bind 127.0.0.1:{front}\n    default_backend u\n"
        f"{own}\n{export(found, 'haproxy').text}"
    )
    with running([haproxy, "-db", "-f", f"{folder}/haproxy.cfg"], ports):
        assert answers(front, KEYS) == picks(found.pool("u"), KEYS, keyed)


def listener(at: int, route: dict[str, Any]) -> dict[str, Any]:
    base = "type.googleapis.com/envoy.extensions.filters."
    router = {"name": "router", "typed_config": {"@type": base + "http.router.v3.Router"}}
    hosts = [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}]
    manager = {
        "@type": base + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"p{at}",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [router],
    }
    return {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": at}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


# Schedules begin at a random place in Envoy, so keys are what can be compared.
@pytest.mark.parametrize(
    "policy",
    [
        "lb_policy: RING_HASH",
        "lb_policy: RING_HASH\n  ring_hash_lb_config: {hash_function: MURMUR_HASH_2, minimum_ring_size: 64}",
        "lb_policy: MAGLEV\n  maglev_lb_config: {table_size: 251}",
    ],
)
def test_envoy_picks_the_same(folder: Path, policy: str) -> None:
    envoy = program("envoy")
    yaml = pytest.importorskip("yaml")
    ports = [port() for _ in range(3)]
    front = port()
    ends = []
    for weight, one in zip((5, 1, 2), ports, strict=True):
        address = f"{{socket_address: {{address: 127.0.0.1, port_value: {one}}}}}"
        ends.append(f"{{load_balancing_weight: {weight}, endpoint: {{address: {address}}}}}")
    text = (
        f"- name: u\n  {policy}\n  load_assignment:\n    cluster_name: u\n    endpoints:\n"
        f"    - lb_endpoints: [{', '.join(ends)}]\n"
    )
    text = "static_resources:\n  clusters:\n" + "".join(f"  {line}\n" for line in text.splitlines())
    found = formats.read_text(text, "envoy.yaml").check()
    document = yaml.safe_load(export(found, "envoy").text)
    hashed = {"route": {"cluster": "u", "hash_policy": [{"header": {"header_name": "x-key"}}]}}
    said = [{"direct_response": {"status": 200, "body": {"inline_string": f"127.0.0.1:{p}"}}} for p in ports]
    listeners = [listener(front, hashed), *(listener(p, route) for p, route in zip(ports, said, strict=True))]
    document["static_resources"]["listeners"] = listeners
    (folder / "envoy.yaml").write_text(yaml.safe_dump(document))
    command = [envoy, "-c", f"{folder}/envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "off"]
    with running(command, [*ports, front]):
        assert answers(front, KEYS) == picks(found.pool("u"), KEYS, keyed=True)
