"""Simulated requests a second beside simpy, ciw and a loop over heapq, in one run: `python -m benches.simulators`.

Four systems with Poisson arrivals and exponential service: one server and ten behind one queue at 0.8 of their
capacity, a hundred servers at 0.9 behind a balancer that joins the shortest queue or the shorter of two. Every
simulator runs each, in turn, several rounds. Times are the thread's own; the last column shows that all simulate the
same. Ours keeps all its statistics, the others one sum.

`--memory` tells the growth of memory a request instead, each size in a process of its own, and `--huge` runs 10^8
requests and tells the peak. Peers that are not installed are left out by name: `pip install simpy ciw`.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from aibalance.simulation import BalancerSpec, Fleet, PoissonTraffic, Scenario, ServerType, Service, simulate

#: Name, servers, slots of each, utilisation, draws (0: all are compared).
SYSTEMS = (
    ("M/M/1", 1, 1, 0.8, 0),
    ("M/M/10", 1, 10, 0.8, 0),
    ("100 servers, shortest queue", 100, 1, 0.9, 0),
    ("100 servers, shorter of two", 100, 1, 0.9, 2),
)
#: At least so many times a peer's speed, by servers (design goals; for ciw with a routing of one's own).
AT_LEAST = {("simpy", 1): 50, ("simpy", 100): 50, ("ciw", 100): 500}

Outcome = tuple[int, float, float]


def ours(
    servers: int, slots: int, load: float, draws: int, requests: int, seed: int = 1, records: bool = False
) -> Outcome:
    """Requests, seconds of this thread, mean time in the system."""
    picker = BalancerSpec(picker="LeastRequest", options={"choices": draws} if draws else {"full_scan": True})
    rate = load * servers * slots
    scenario = Scenario(
        name="speed",
        traffic=PoissonTraffic(rate_rps=rate),
        service=Service("exponential", mean_s=1.0),
        fleet=Fleet(min=servers, max=servers, types=[ServerType(name="a", concurrency=slots)]),
        duration_s=requests / rate,
        slo_s=5.0,
    )
    begin = time.thread_time()
    report = simulate(scenario, picker=picker, seed=seed, records=records)
    return report.all.requests, time.thread_time() - begin, report.all.mean_s


def with_simpy(servers: int, slots: int, load: float, draws: int, requests: int, seed: int = 1) -> Outcome:
    import simpy

    env, rng = simpy.Environment(), random.Random(seed)
    stations = [simpy.Resource(env, capacity=slots) for _ in range(servers)]
    inside = [0] * servers
    sums = [0, 0.0]

    def visit() -> Any:
        came = env.now
        at = choose(rng, inside, draws)
        inside[at] += 1
        with stations[at].request() as turn:
            yield turn
            yield env.timeout(rng.expovariate(1.0))
        inside[at] -= 1
        sums[0] += 1
        sums[1] += env.now - came

    def arrive() -> Any:
        for _ in range(requests):
            env.process(visit())
            yield env.timeout(rng.expovariate(load * servers * slots))

    env.process(arrive())
    begin = time.thread_time()
    env.run()
    return int(sums[0]), time.thread_time() - begin, sums[1] / sums[0]


def with_ciw(servers: int, slots: int, load: float, draws: int, requests: int, seed: int = 1) -> Outcome:
    import ciw

    exponential = ciw.dists.Exponential(rate=1.0)
    arrivals = ciw.dists.Exponential(rate=load * servers * slots)
    if servers == 1:
        network = ciw.create_network(
            arrival_distributions=[arrivals], service_distributions=[exponential], number_of_servers=[slots]
        )
    else:

        class Balancer(ciw.routing.NodeRouting):  # type: ignore[misc]
            def next_node(self, ind: object) -> Any:
                nodes = self.simulation.transitive_nodes[1:]
                asked = random.sample(nodes, draws) if draws else nodes
                return min(asked, key=lambda node: node.number_of_individuals)

        network = ciw.create_network(
            arrival_distributions=[arrivals, *[None] * servers],
            service_distributions=[ciw.dists.Deterministic(value=0.0), *[exponential] * servers],
            number_of_servers=[float("inf"), *[slots] * servers],
            routing=ciw.routing.NetworkRouting([Balancer(), *[ciw.routing.Leave()] * servers]),
        )
    ciw.seed(seed)
    simulation = ciw.Simulation(network)
    begin = time.thread_time()
    simulation.simulate_until_max_customers(requests)
    took = time.thread_time() - begin
    visits = [r for r in simulation.get_all_records() if servers == 1 or r.node != 1]
    return len(visits), took, sum(r.waiting_time + r.service_time for r in visits) / len(visits)


def with_heapq(servers: int, slots: int, load: float, draws: int, requests: int, seed: int = 1) -> Outcome:
    rng = random.Random(seed)
    now = total = 0.0
    begin = time.thread_time()
    if servers == 1:
        free = [0.0] * slots
        for _ in range(requests):
            now += rng.expovariate(load * slots)
            end = max(free[0], now) + rng.expovariate(1.0)
            heapq.heapreplace(free, end)
            total += end - now
    else:
        inside, last, ends = [0] * servers, [0.0] * servers, list[tuple[float, int]]()
        for _ in range(requests):
            now += rng.expovariate(load * servers)
            while ends and ends[0][0] <= now:
                inside[heapq.heappop(ends)[1]] -= 1
            at = choose(rng, inside, draws)
            inside[at] += 1
            last[at] = max(last[at], now) + rng.expovariate(1.0)
            total += last[at] - now
            heapq.heappush(ends, (last[at], at))
    return requests, time.thread_time() - begin, total / requests


def choose(rng: random.Random, inside: list[int], draws: int) -> int:
    """The shortest of all, or the shorter of two that differ."""
    if len(inside) == 1:
        return 0
    if not draws:
        return min(range(len(inside)), key=inside.__getitem__)
    one = int(rng.random() * len(inside))
    other = int(rng.random() * (len(inside) - 1))
    other += other >= one
    return one if inside[one] <= inside[other] else other


SIMULATORS: dict[str, tuple[Callable[..., Outcome], int]] = {
    "aibalance": (ours, 1_000_000),
    "simpy": (with_simpy, 20_000),
    "ciw": (with_ciw, 4_000),
    "heapq": (with_heapq, 50_000),
}


def speeds(rounds: int) -> None:
    there = [name for name in SIMULATORS if name in ("aibalance", "heapq") or importlib.util.find_spec(name)]
    print("| system | by | requests/s | ours is | at least | mean time, s |\n|---|---|--:|--:|--:|--:|")
    for system, servers, slots, load, draws in SYSTEMS:
        runs: dict[str, list[Outcome]] = {name: [] for name in there}
        for seed in range(1, rounds + 1):
            for name in there:
                run, requests = SIMULATORS[name]
                runs[name].append(run(servers, slots, load, draws, requests, seed))
        rate = {name: statistics.median(n / took for n, took, _ in outcomes) for name, outcomes in runs.items()}
        for name, outcomes in runs.items():
            times, least = rate["aibalance"] / rate[name], AT_LEAST.get((name, servers))
            verdict = "" if least is None else f"{least} x" + ("" if times >= least else " BELOW")
            mean = statistics.mean(m for _, _, m in outcomes)
            ratio = "" if name == "aibalance" else f"{times:,.1f} x"
            print(f"| {system} | {name} | {rate[name]:,.0f} | {ratio} | {verdict} | {mean:.3f} |", flush=True)
    missing = [name for name in SIMULATORS if name not in there]
    if missing:
        print(f"\nNot measured, for they are not there: {', '.join(missing)}.")


def peak(requests: int, records: bool = False) -> tuple[int, float]:
    """Peak memory in bytes and seconds of a run in a process of its own."""
    code = "import sys; from benches.simulators import one; one(int(sys.argv[1]), sys.argv[2] == 'True')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(requests), str(records)], capture_output=True, text=True, check=True
    )
    memory, took = json.loads(done.stdout)
    return memory, took


def one(requests: int, records: bool) -> None:
    _, took, _ = ours(100, 1, 0.9, 2, requests, records=records)
    unit = 1 if sys.platform == "darwin" else 1024
    print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, took)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="bytes of memory a simulated request")
    parser.add_argument("--huge", action="store_true", help="10^8 requests and the peak of memory")
    options = parser.parse_args()
    if options.memory:
        small, large = 1_000_000, 11_000_000
        for records in (False, True):
            grown = (peak(large, records)[0] - peak(small, records)[0]) / (large - small)
            kept = "with a record of each" if records else "all statistics"
            print(f"{kept}: {grown:.2f} bytes a request, between {small:,} and {large:,} requests")
    elif options.huge:
        memory, took = peak(10**8)
        print(f"10^8 requests in {took:.1f} s of CPU, {memory / 2**20:.0f} MiB at the peak")
    else:
        speeds(options.rounds)


if __name__ == "__main__":
    main()
