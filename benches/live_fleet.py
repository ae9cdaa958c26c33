"""A live fleet of loopback servers that our policy scales, and its simulation.

    python -m benches.live_fleet [--seconds 900] [--json FILE] [--svg FILE]
    python -m benches.live_fleet --from FILE [--svg FILE]

Each server is a process of its own with two slots; it is in service `COLD_S` after it was launched. `LeastRequest`
picks in the client, `TargetTracking` decides every ten seconds on the mean utilization of the last ten, and servers
that are taken out finish what they have. The simulator gets the recorded arrivals and service times, the same picker
and the same policy, and nothing of what the policy did. Prints p95 and server hours of both; exit 1 unless they agree
within 15 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import aibalance
from aibalance.autoscaling import TargetTracking
from aibalance.simulation import Fleet, RecordedService, Scenario, ServerType, TraceTraffic, simulate
from aibalance.traces import Trace

from . import loopback

SLOTS, MEAN_S, COLD_S, EVERY_S, LEAST, MOST = 2, 0.4, 15.0, 10.0, 2, 16
SEEDS = 10


def policy() -> TargetTracking:
    """The policy of both: out on two values in a row, in on four."""
    return TargetTracking(
        metric="utilization_percent",
        target=60,
        min_capacity=LEAST,
        max_capacity=MOST,
        period=EVERY_S,
        high_alarm=(2, 2),
        low_alarm=(4, 4),
        scale_in_cooldown=30,
    )


@dataclass
class Live:
    """The servers that run, and what the loop that scales them saw and did."""

    pool: aibalance.Pool | None = None
    picker: Any = None
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    born: dict[str, float] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    warming: list[asyncio.Task[None]] = field(default_factory=list)
    warming_at: list[float] = field(default_factory=list)
    server_s: float = 0.0
    busy: list[tuple[float, int]] = field(default_factory=list)
    history: list[tuple[float, int, int, float]] = field(default_factory=list)
    number: int = 0
    # Integrals since the last decision, of busy slots and of slots.
    busy_s: float = 0.0
    slots_s: float = 0.0
    touched: float = 0.0

    def ready(self) -> list[str]:
        return [name for name in self.processes if name not in self.leaving]

    def touch(self, now: float) -> None:
        """Takes the time since the last change into the integrals. Servers that drain count, as in the simulator."""
        span = now - self.touched
        self.touched = now
        self.busy_s += span * sum(min(SLOTS, self.present[name]) for name in self.processes)
        self.slots_s += span * SLOTS * len(self.processes)

    def launch(self, now: float) -> tuple[str, subprocess.Popen[str], int]:
        self.number += 1
        (port,) = loopback.free_ports(1)
        command = [sys.executable, "-m", "benches.loopback", str(port), "--slots", str(SLOTS)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        name = f"127.0.0.1:{port}"
        self.born[name] = now
        return name, process, port

    def join(self, name: str, process: subprocess.Popen[str], now: float) -> None:
        self.touch(now)
        self.processes[name], self.present[name] = process, 0
        if self.pool is None:
            self.pool = aibalance.Pool([aibalance.Endpoint(name)], seed=1)
            self.picker = aibalance.LeastRequest(self.pool)
        else:
            self.pool.add(aibalance.Endpoint(name))

    def leave(self, name: str, now: float) -> None:
        assert self.pool is not None
        self.pool.drain(name)
        self.leaving.add(name)
        self.gone(name, now)

    def gone(self, name: str, now: float) -> None:
        """Ends a server that has nothing left to do."""
        if name in self.leaving and not self.present[name]:
            assert self.pool is not None
            self.touch(now)
            self.pool.remove(name)
            self.leaving.discard(name)
            self.end(name, now)

    def end(self, name: str, now: float) -> None:
        process = self.processes.pop(name)
        self.server_s += now - self.born[name]
        assert process.stdin is not None
        process.stdin.close()


async def run(seconds: float) -> dict[str, Any]:
    """The live fleet under a load that rises to four times itself and falls back."""
    rng = np.random.default_rng(7)
    points = [(0.0, 4.0), (0.2, 4.0), (0.4, 18.0), (0.65, 18.0), (0.75, 5.0), (1.0, 5.0)]
    at, rates = zip(*points, strict=True)
    # Thinning: a Poisson process of the highest rate, of which each arrival stays with the rate's share.
    times = np.cumsum(rng.exponential(1 / max(rates), int(max(rates) * seconds * 1.2)))
    times = times[times < seconds]
    arrivals = times[rng.random(len(times)) * max(rates) < np.interp(times / seconds, at, rates)]
    work = rng.exponential(MEAN_S, len(arrivals))
    live, decide = Live(), policy()
    loop = asyncio.get_running_loop()

    started = [live.launch(0.0) for _ in range(LEAST)]
    for name, process, _ in started:
        assert process.stdout is not None
        await loop.run_in_executor(None, process.stdout.readline)
        live.join(name, process, 0.0)
    # The clock of both begins when the open loop does.
    base = loop.time() + 0.5
    clock = lambda: max(0.0, loop.time() - base)  # noqa: E731
    live.touched = 0.0

    async def send(amount: float) -> tuple[float, float]:
        with live.picker.acquire() as lease:
            name = lease.endpoint.id
            live.touch(clock())
            live.present[name] += 1
            try:
                return await loopback.ask(int(name.rpartition(":")[2]), amount)
            finally:
                live.touch(clock())
                live.present[name] -= 1
                loop.call_soon(live.gone, name, clock())

    async def warm(name: str, process: subprocess.Popen[str], launched: float) -> None:
        assert process.stdout is not None
        await loop.run_in_executor(None, process.stdout.readline)
        await asyncio.sleep(max(0.0, launched + COLD_S - clock()))
        live.warming_at.remove(launched)
        live.join(name, process, clock())

    async def scale() -> None:
        for tick in range(1, int(seconds / EVERY_S) + 1):
            await asyncio.sleep(max(0.0, base + tick * EVERY_S - loop.time()))
            now = clock()
            live.touch(now)
            busy = 100 * live.busy_s / live.slots_s
            live.busy_s = live.slots_s = 0.0
            ready, warming = len(live.ready()), len(live.warming_at)
            seen = {
                "current": ready + len(live.leaving),
                "desired": ready + warming,
                "warming": warming,
                "metrics": {"utilization_percent": busy},
            }
            wanted = decide.recommend(seen, now=tick * EVERY_S).desired
            if wanted is None:
                continue
            live.history.append((now, ready, wanted, busy))
            for _ in range(wanted - ready - warming):
                name, process, _ = live.launch(now)
                live.warming_at.append(now)
                live.warming.append(asyncio.create_task(warm(name, process, now)))
            for _ in range(ready - wanted):
                live.leave(min(live.ready(), key=lambda name: live.present[name]), now)

    scaling = asyncio.create_task(scale())
    found = await loopback.open_loop(arrivals, work, send)
    await scaling
    await asyncio.gather(*live.warming)
    # Costs end with the traffic; who is still there is paid for until then.
    for name in list(live.processes):
        live.end(name, seconds)
    return {
        "seconds": seconds,
        "sent": found.sent.round(6).tolist(),
        "late_p99_ms": float(np.quantile(found.late, 0.99) * 1e3),
        "late_max_ms": float(found.late.max() * 1e3),
        "latency": found.latency.round(6).tolist(),
        "work": found.work.round(6).tolist(),
        "server_hours": live.server_s / 3600,
        "history": live.history,
    }


def simulated(found: dict[str, Any]) -> list[Any]:
    """The reports of the simulator on what was recorded, one a seed."""
    sent = np.array(found["sent"])
    none = np.zeros(len(sent), dtype=np.int64)
    trace = Trace("recorded", "loopback", sent - sent[0], none, none, service_s=np.array(found["work"]))
    scenario = Scenario(
        name="live fleet",
        duration_s=found["seconds"],
        slo_s=2,
        traffic=TraceTraffic(trace=trace, rotate=False),
        service=RecordedService(),
        fleet=Fleet(
            types=[ServerType(name="server", price_per_hour=1)],
            min=LEAST,
            max=MOST,
            concurrency=SLOTS,
            load_s=COLD_S,
            decision_interval_s=EVERY_S,
        ),
    )
    return [
        simulate(scenario, picker="LeastRequest", policy=policy(), seed=seed, records=True) for seed in range(SEEDS)
    ]


def chart(found: dict[str, Any], reports: list[Any], path: str) -> None:
    """Servers over time, and both distributions."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "live_fleet", "font.size": 9, "svg.fonttype": "none"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.3, 3.0))
    times = [one[0] for one in found["history"]]
    left.step(times, [one[1] for one in found["history"]], where="post", color="#0072b2", lw=2.4, label="measured")
    for i, report in enumerate(reports):
        line = report.timeline
        left.plot(line["t_s"], line["capacity"], color="#d55e00", lw=0.6, label=None if i else "simulated, ten seeds")
    left.set(xlabel="seconds", ylabel="ready servers", ylim=(0, None))
    share = np.logspace(0, -3, 200)
    right.plot(np.quantile(found["latency"], 1 - share), share, color="#0072b2", lw=2.4, label="measured")
    ours = np.concatenate([one.records.latency for one in reports])
    right.plot(np.quantile(ours, 1 - share), share, color="#d55e00", lw=1.2, ls="--", label="simulated")
    right.axhline(0.05, color="#777", lw=0.6)
    right.set(
        xlabel="latency in seconds", ylabel="share that takes longer", yscale="log", ylim=(1e-3, 1), xlim=(0, None)
    )
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.patch.set_facecolor("white")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--json", help="what was measured, to be read again with --from")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--svg")
    given = parser.parse_args()
    if given.source:
        found = json.loads(Path(given.source).read_text(encoding="utf-8"))
    else:
        found = asyncio.run(run(given.seconds))
    if given.json:
        Path(given.json).write_text(json.dumps(found), encoding="utf-8")
    reports = simulated(found)
    p95 = float(np.quantile(found["latency"], 0.95))
    hours = found["server_hours"]
    ours = np.array([(np.quantile(one.records.latency, 0.95), one.cost) for one in reports])
    errors = [float(ours[:, 0].mean() / p95 - 1), float(ours[:, 1].mean() / hours - 1)]
    print("| | measured | simulated, mean (lowest to highest of ten seeds) | error |")
    print("|---|---|---|---|")
    for name, real, column, error in (
        ("p95, s", p95, ours[:, 0], errors[0]),
        ("server hours", hours, ours[:, 1], errors[1]),
    ):
        print(
            f"| {name} | {real:.3f} | {column.mean():.3f} ({column.min():.3f} to {column.max():.3f}) | {error:+.1%} |"
        )
    sizes = [one[1] for one in found["history"]]
    print(
        f"{len(found['sent']):,} requests, {min(sizes)} to {max(sizes)} servers; "
        f"late: p99 {found['late_p99_ms']:.1f} ms, at most {found['late_max_ms']:.0f} ms",
        file=sys.stderr,
    )
    if given.svg:
        chart(found, reports, given.svg)
    return int(max(abs(one) for one in errors) > 0.15)


if __name__ == "__main__":
    raise SystemExit(main())
