"""A made-up comparison of the shape that `Comparison.to_dict()` has: what the tests of report and cli look at."""

from __future__ import annotations

from typing import Any

import numpy as np

PICKERS = {"round robin": 1.55, "weighted round robin": 1.18, "least request": 1.0, "peak EWMA": 0.97, "ring hash": 1.9}
POLICIES = {"target tracking": (1.0, 9.0), "step scaling": (0.8, 11.5), "both": (0.7, 12.5)}


def interval(values: np.ndarray) -> dict[str, Any]:
    mean = float(values.mean())
    half = 2.093 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": values.tolist()}


def comparison(
    pickers: int = 5, policies: int = 3, *, replications: int = 20, spike: bool = True, factor: float = 100.0
) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 0.05, replications)

    def noise(scale: float = 0.02) -> Any:
        return shared + rng.normal(0, scale, replications)

    candidates: list[dict[str, Any]] = []
    p99s: dict[str, dict[str, Any]] = {}
    shares: dict[str, float] = {}
    for policy, (delay, servers) in list(POLICIES.items())[:policies]:
        for picker, slow in list(PICKERS.items())[:pickers]:
            name = f"{picker} + {policy}"
            phases: dict[str, Any] = {}
            for phase, stress in (("all", 2.4), ("calm", 1.0), ("spike", 5.0)):
                if not spike and phase != "all":
                    phases[phase] = None
                    continue
                scale = 1 + (stress - 1) * delay * slow * 0.8
                p99 = 31 * slow * scale * (1 + noise())
                late = np.clip(0.04 * slow * (scale - 0.9) * (1 + noise(0.1)), 0, 1)
                phases[phase] = {
                    "requests": interval(
                        np.full(replications, {"all": 4200.0, "calm": 1400.0, "spike": 2800.0}[phase])
                    ),
                    "mean_s": interval(14 * slow**0.5 * scale * (1 + noise())),
                    "p50_s": interval(12 * slow**0.3 * scale**0.7 * (1 + noise())),
                    "p95_s": interval(0.7 * p99 * (1 + noise(0.01))),
                    "p99_s": interval(p99),
                    "within_slo": interval(1 - late),
                    "rejected": interval(late * 0.2),
                    "timed_out": interval(np.zeros(replications)),
                }
            p99s[name] = {phase: np.array(m["p99_s"]["values"]) for phase, m in phases.items() if m}
            shares[name] = float(phases["all"]["within_slo"]["mean"])
            cost = 0.9 * servers * (1 + noise(0.01)) * (1 + 0.02 * slow)
            latencies = rng.lognormal(np.log(14 * slow**0.4), 0.45, 40_000)
            queued = rng.random(40_000) < 0.25 * slow * delay
            latencies = latencies + np.where(queued, rng.gamma(2, 30 * slow * delay, 40_000), 0)
            edges = np.geomspace(1, 1_000, 90)
            candidates.append(
                {
                    "name": name,
                    "picker": picker,
                    "policy": policy,
                    "phases": phases,
                    "servers": {
                        "mean": interval(servers * (1 + noise())),
                        "peak": interval(np.full(replications, min(15.0, servers + 3.0))),
                    },
                    "cost": {"total": interval(cost), "per_month": interval(cost * 730)},
                    "timeline": timeline(rng, delay, servers, factor if spike else 1.0),
                    "latency_histogram": {
                        "edges_s": edges.tolist(),
                        "counts": np.histogram(latencies, edges)[0].tolist(),
                    },
                }
            )
    order = sorted(shares, key=lambda name: -shares[name])
    base: str = candidates[0]["name"]
    return {
        "scenario": {
            "name": "viral spike",
            "description": "An image generation service goes viral for ten minutes.",
            "duration_s": 3600.0,
            "slo_s": 60.0,
            "timeout_s": 300.0,
            "seed": 1,
            "replications": replications,
            "requests": 4200.0,
            "spike": {"start_s": 1200.0, "end_s": 1920.0, "factor": factor} if spike else None,
            "traffic": f"Poisson, 0.05 requests/s, ×{factor:g} from 20 to 32 min",
            "service": "uniform 10 to 30 s on a T4; an A100 is 3 times as fast",
            "fleet": "2 to 15 servers, 1 request at a time each, queue of 20; cold start 60 s + 30 s",
            "currency": "USD",
        },
        "candidates": candidates,
        "ranking": [
            {
                "name": name,
                "rank": place,
                "tied_with": [other for other in order if other != name and abs(shares[other] - shares[name]) < 0.004],
            }
            for place, name in enumerate(order, start=1)
        ],
        "baseline": base,
        "differences": [
            difference(name, base, phase, p99s[name][phase] - p99s[base][phase])
            for name in shares
            if name != base
            for phase in p99s[name]
        ],
        "sentence": f"Choose {order[0]}: its slowest 1 % wait 3.1 times less than with {base}, at 24 % more cost.",
    }


def difference(name: str, base: str, phase: str, delta: np.ndarray) -> dict[str, Any]:
    found = interval(delta)
    verdict = "better" if found["high"] < 0 else "worse" if found["low"] > 0 else "tie"
    return {
        "name": name,
        "baseline": base,
        "phase": phase,
        "metric": "p99_s",
        "mean": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "wins": int((delta < 0).sum()),
        "of": len(delta),
        "verdict": verdict,
    }


def timeline(rng: np.random.Generator, delay: float, servers: float, factor: float) -> dict[str, list[float]]:
    t = np.arange(20, 3620, 20.0)
    inside = (t >= 1200) & (t < 1920)
    rate = np.where(inside, 0.05 * factor, 0.05) * (1 + rng.normal(0, 0.1, len(t)))
    ready = 3 + np.clip((t - 1200 - 240 * delay) / 60, 0, servers) * (t < 2400 + 300 * delay)
    desired = 3 + np.clip((t - 1200) / 60, 0, servers) * (t < 2300)
    backlog = np.clip(np.cumsum((rate - ready / 20) * 20), 0, 300) + 1
    return {
        "t_s": t.tolist(),
        "arrivals_per_s": rate.tolist(),
        "capacity": np.floor(ready).tolist(),
        "capacity_rps": (np.floor(ready) / 12).tolist(),
        "desired": np.floor(desired).tolist(),
        "in_system": backlog.tolist(),
    }
