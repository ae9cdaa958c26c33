"""Replays what Envoy, HAProxy and AWS make of health, priority and slow start."""

from __future__ import annotations

import math
from typing import Any

import aibalance
import aibalance.health

from .chance import BOUND, SEEDS, STANDARD_ERRORS, worst
from .model import Result
from .proxies import NO_SERVER, Decider, Door
from .recording import Record, UnreadableError, cases

NO_HOST = "503 no healthy upstream"
UNHEALTHY = {"UNHEALTHY", "DRAINING", "TIMEOUT"}
"""Envoy treats these three alike; a drain of ours would give no work even in panic."""
SHARE_GAP = 0.02
"""How far the share of the endpoint that warms up may be off in half a second: 150 requests, and a clock of theirs."""


def envoy_panic(document: dict[str, Any], door: Door = "pick") -> Result:
    """Which endpoints share the load when so many are unhealthy; each as often as the others."""
    result = Result()
    for case in cases(document):
        addresses = case.items("endpoints", str)
        status = {int(k): v for k, v in dict(case.fields.get("health_status") or {}).items()}
        unhealthy = {i for i, s in status.items() if s in UNHEALTHY} | set(range(case.integer("unhealthy", 0)))
        threshold = case.fields.get("healthy_panic_threshold")
        pool = aibalance.Pool(
            addresses,
            panic_threshold=(50 if threshold is None else threshold) / 100,
            on_panic="fail" if case.fields.get("fail_traffic_on_panic") else "all",
        )
        for i in unhealthy:
            pool.set_health(addresses[i], "unhealthy")
        theirs = case.items("counts", int)
        n = case.integer("requests", sum(theirs))
        drawn = Decider(aibalance.RoundRobin(pool), door).sequence(n)
        ours = [drawn.count(i) for i in range(len(theirs))]
        errors = drawn.count(NO_SERVER)
        alike = all(abs(a - b) <= 1 for a, b in zip(theirs, ours, strict=True))
        same = alike and errors == sum(dict(case.fields.get("errors") or {}).values())
        _whole(result, case, n, same, f"expected {theirs}, got {ours} and {errors} refusals")
    return result


def _whole(result: Result, case: Record, n: int, same: bool, text: str) -> None:
    result.total += n
    if same:
        result.matched += n
    elif result.first_mismatch is None:
        result.first_mismatch = f"{case.where}: {text}"


def envoy_priority(document: dict[str, Any], door: Door = "pick") -> Result:
    """Shares of degraded endpoints, of priorities and of localities."""
    result = Result(bound=BOUND)
    for case in cases(document):
        theirs = case.items("counts", int)
        n = sum(theirs)
        for seed in range(SEEDS):
            pool = _prioritised(case, seed)
            drawn = Decider(aibalance.RoundRobin(pool), door).sequence(n)
            index = {address: i for i, address in enumerate(case.items("endpoints", str))}
            place = [index[endpoint.address] for endpoint in pool.endpoints]
            ours = [0] * len(theirs)
            for pick in drawn:
                if isinstance(pick, int):
                    ours[place[pick]] += 1
            off = worst(theirs, ours) if sum(ours) == n else math.inf
            _whole(result, case, n, off <= STANDARD_ERRORS, f"seed {seed}: a share is {off:.1f} standard errors off")
    return result


def _prioritised(case: Record, seed: int) -> aibalance.Pool:
    factor = case.fields.get("overprovisioning_factor")
    options: dict[str, Any] = {"overprovisioning_factor": (140 if factor is None else factor) / 100, "seed": seed}
    health: list[str] = []
    if "p0" in case:
        levels = [(name, case.items(name, str)) for name in ("p0", "p1", "p2", "p3") if name in case]
        endpoints = [aibalance.Endpoint(a, priority=p) for p, (_, those) in enumerate(levels) for a in those]
        for name, those in levels:
            sick = case.integer(f"{name}_unhealthy", 0)
            health += ["unhealthy"] * sick + ["healthy"] * (len(those) - sick)
    elif "locality_weights" in case:
        weights = case.items("locality_weights", int)
        endpoints = [aibalance.Endpoint(a, zone=f"z{z}") for z in range(len(weights)) for a in case.items(f"z{z}", str)]
        options["zone_weights"] = {f"z{z}": w for z, w in enumerate(weights)}
        health = ["healthy"] * len(endpoints)
    elif "healthy" in case:
        endpoints = [aibalance.Endpoint(a) for a in case.items("endpoints", str)]
        for status in ("healthy", "degraded", "unhealthy"):
            health += [status] * case.integer(status, 0)
    else:
        raise UnreadableError(f"{case.where}: neither priorities, localities nor degraded endpoints")
    pool = aibalance.Pool(endpoints, **options)
    for endpoint, status in zip(endpoints, health, strict=True):
        pool.set_health(endpoint.id, status)  # type: ignore[arg-type]
    return pool


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def envoy_slow_start(document: dict[str, Any], door: Door = "pick") -> Result:
    """The share of an endpoint that joins two warm ones, half a second at a time."""
    result = Result(bound=f"share of the new endpoint within {SHARE_GAP:g} in each half second")
    for case in cases(document):
        config = case.record("config")
        for key, made in (
            ("round_robin_lb_config", lambda pool: aibalance.RoundRobin(pool, schedule="edf")),
            ("least_request_lb_config", lambda pool: aibalance.LeastRequest(pool, schedule="edf")),
        ):
            if key in config:
                settings, make = dict(config.fields[key].get("slow_start_config") or {}), made
                break
        else:
            raise UnreadableError(f"{case.where}: config: neither round robin nor least request")
        slow_start = aibalance.SlowStart(
            _seconds(settings["slow_start_window"]),
            aggression=dict(settings.get("aggression") or {}).get("default_value", 1.0),
            min_weight=dict(settings.get("min_weight_percent") or {}).get("value", 10.0) / 100,
        )
        addresses = case.items("endpoints", str)
        weights = case.fields.get("weights") or [1] * len(addresses)
        endpoints = [aibalance.Endpoint(a, weight=w) for a, w in zip(addresses, weights, strict=True)]
        clock = aibalance.ManualClock(0.0)
        pool = aibalance.Pool(endpoints[:-1], slow_start=slow_start, clock=clock, seed=1)
        picker = make(pool)
        pool.add(endpoints[-1])
        for half, counts in enumerate(case.fields["counts_per_half_second"]):
            n, got = sum(counts), 0
            for _ in range(n):
                got += picker.pick() == endpoints[-1]
                clock.advance(0.5 / n)
            gap = abs(got / n - counts[-1] / n)
            _whole(result, case, n, gap <= SHARE_GAP, f"half second {half}: the share is {gap:.3f} off")
    return result


def haproxy_slowstart(document: dict[str, Any], door: Door = "pick") -> Result:
    """The weight that HAProxy shows, at each change."""
    result = Result()
    for case in cases(document):
        weights = case.items("weights", int)
        window = _seconds(case.text("slowstart"))
        clock = aibalance.ManualClock(0.0)
        pool = aibalance.Pool(
            [aibalance.Endpoint(f"s{i}", weight=w) for i, w in enumerate(weights)],
            slow_start=aibalance.SlowStart(window, ramp="haproxy"),
            clock=clock,
            panic_threshold=0,
        )
        pool.set_health("s1", "unhealthy")
        pool.set_health("s1", "healthy")
        changes: list[tuple[int, int]] = []
        for second in range(math.ceil(window) + 2):
            pool.advance()
            shown = math.ceil(round(pool.stats()[1].effective_weight * 16) / 16)
            if not changes or changes[-1][1] != shown:
                changes.append((second, shown))
            clock.advance(1.0)
        expected = [(int(at), int(weight)) for at, weight in case.fields["changes"]]
        for i, change in enumerate(expected):
            result.check(f"{case.where}: change {i}", change, changes[i] if i < len(changes) else None)
        if len(changes) > len(expected):
            result.check(f"{case.where}: changes", len(expected), len(changes))
    return result


def slow_start_theory(document: dict[str, Any], door: Door = "pick") -> Result:
    """Ramp factors, and the requests that an endpoint gets while it warms up."""
    result = Result()
    for case in cases(document):
        ref, window = case.record("ref"), float(case.fields["window"])
        if "flavour" in case:
            slow = aibalance.SlowStart(window, ramp="haproxy")
            for t, w in zip(ref.fields["t"], ref.fields["w"], strict=True):
                result.check(f"{case.where}: t = {t}", w, round(slow.factor(t) * 16))
            continue
        slow = aibalance.SlowStart(window, aggression=case.fields["aggression"], min_weight=case.fields["min_factor"])
        for t, factor in zip(ref.fields["t"], ref.fields["factor"], strict=True):
            ours = slow.factor(t)
            result.check(f"{case.where}: t = {t}", factor, factor if abs(ours - factor) <= 1e-9 else ours)
        for name, value in (
            ("share_integral_1_of_10", slow.requests_while_warming(9)),
            ("share_integral_warm", window / 10),
        ):
            expected = ref.fields[name]
            result.check(f"{case.where}: {name}", expected, expected if abs(value - expected) <= 1e-6 else value)
    return result


def slow_start_share(i: dict[str, Any]) -> dict[str, Any]:
    slow = aibalance.SlowStart(i["duration_s"], ramp="alb")
    return {"relative_weight": slow.factor(i["elapsed_s"])}


def slow_start_distribution(i: dict[str, Any]) -> dict[str, Any]:
    targets = i["targets"]
    (window,) = {t["duration_s"] for t in targets if "duration_s" in t} or {60}
    clock = aibalance.ManualClock(0.0)
    warm = [aibalance.Endpoint(str(k), weight=t["weight"]) for k, t in enumerate(targets) if "weight" in t]
    pool = aibalance.Pool(warm, slow_start=aibalance.SlowStart(window, ramp="alb"), clock=clock)
    cold = sorted(((t["elapsed_s"], k) for k, t in enumerate(targets) if "elapsed_s" in t), reverse=True)
    end = max((elapsed for elapsed, _ in cold), default=0)
    for elapsed, k in cold:
        pool.add(str(k), now=end - elapsed)
    pool.advance(end)
    shares = {s.id: s.share for s in pool.stats()}
    return {"share": [round(shares[str(k)], 12) for k in range(len(targets))]}


def slow_start_rules(i: dict[str, Any]) -> dict[str, Any]:
    if "slow_start_s" in i or "algorithm" in i:
        return _slow_start_validity(i)
    clock = aibalance.ManualClock(0.0)
    options: dict[str, Any] = {"slow_start": aibalance.SlowStart(60, ramp="alb"), "clock": clock, "panic_threshold": 0}
    warm = [f"warm {k}" for k in range(i.get("healthy_non_slow", 0))]
    pool = aibalance.Pool(warm, **options)

    def starts_slowly(id: str) -> bool:
        return next(s.effective_weight < s.weight for s in pool.stats() if s.id == id)

    match i["event"]:
        case "enable slow start":
            # Ours is set when the pool is made: of its targets.
            pool = aibalance.Pool(["a", "b"], **options)
            return {"enters_slow_start": starts_slowly("a")}
        case "new target healthy":
            pool.add("new")
            return {"enters_slow_start": starts_slowly("new")}
        case "register batch into empty group":
            pool.update([*warm, "new 1", "new 2"])
            return {"enters_slow_start": starts_slowly("new 1")}
        case "deregister then re-register":
            pool = aibalance.Pool(["a", "b"], **options)
            pool.remove("b")
            pool.add("b")
            return {"re_enters_when_healthy": starts_slowly("b")}
        case "slow-start target becomes unhealthy":
            pool = aibalance.Pool(["a"], **options)
            pool.add("b")
            assert starts_slowly("b")
            pool.set_health("b", "unhealthy")
            return {"exits_slow_start": not starts_slowly("b")}
        case other:
            raise ValueError(other)


def _slow_start_validity(i: dict[str, Any]) -> dict[str, Any]:
    seconds = i.get("slow_start_s", 0)
    try:
        attributes = aibalance.health.TargetGroupAttributes(
            algorithm=i.get("algorithm", "round_robin"),
            slow_start=seconds,
            anomaly_mitigation=i.get("anomaly_mitigation") == "on",
        )
    except aibalance.ConfigError:
        return {"valid": False}
    enabled = attributes.as_slow_start() is not None
    return {"valid": True} if enabled or "slow_start_s" not in i else {"valid": True, "enabled": False}
