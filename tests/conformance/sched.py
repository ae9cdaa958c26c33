"""What proxies decided by turn or by open requests, asked again of aibalance.

The adapters translate; they decide nothing. A script opens requests, which are leases here, and ends them.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import aibalance

from .model import Result
from .proxies import Decider, Door, _nginx_endpoints
from .recording import Record, UnreadableError, cases

# Envoy takes a start modulo this, so with it added a start of no picks is Envoy's own too.
ENVOY_START_MODULUS = 429_496_729

SEEDS = 5
DRAWS = 200
STANDARD_ERRORS = 4.0

HAPROXY_SCHEDULES = {"balance roundrobin": "fwrr", "balance static-rr": "static-rr"}


def _pool(weights: Iterable[float], names: Sequence[str] | None = None) -> aibalance.Pool:
    """A pool in which health counts as it is said, however few are healthy."""
    weights = list(weights)
    names = names if names is not None else [str(i) for i in range(len(weights))]
    endpoints = [aibalance.Endpoint(name, id=name, weight=w) for name, w in zip(names, weights, strict=True)]
    return aibalance.Pool(endpoints, panic_threshold=0.0)


def _check(result: Result, where: str, expected: Sequence[Any], got: Sequence[Any]) -> None:
    for i, (theirs, ours) in enumerate(zip(expected, got, strict=True)):
        result.check(f"{where}, pick {i}", theirs, ours)


def _weights(case: Record) -> list[float]:
    if not case.has("weights"):
        return [1] * len(case.items("endpoints", str))
    return [1 if w is None else w for w in case.items("weights", int, float, type(None))]


def _per_run(case: Record, name: str, runs: list[Any]) -> list[Any]:
    values = case.items(name, int, list, type(None)) if case.has(name) else [None] * len(runs)
    if len(values) != len(runs):
        raise UnreadableError(f"{case.where}: {name}: {len(values)} for {len(runs)} runs")
    return values


def envoy_round_robin(document: dict[str, Any], door: Door = "pick") -> Result:
    """Envoy's ROUND_ROBIN. The start is random and recorded; of equal weights it is the first pick."""
    result = Result()
    for case in cases(document):
        runs = case.items("runs", list)
        weights = _weights(case)
        for r, (run, start) in enumerate(zip(runs, _per_run(case, "initial_picks", runs), strict=True)):
            if start is None and len(set(weights)) > 1:
                result.unsupported += len(run)
                continue
            start = run[0] if start is None else start + ENVOY_START_MODULUS
            picker = aibalance.RoundRobin(_pool(weights), schedule="edf", start=start)
            _check(result, f"{case.where}, run {r}", run, Decider(picker, door).sequence(len(run)))
    return result


def traefik_wrr(document: dict[str, Any], door: Door = "pick") -> Result:
    """Traefik's wrr. The order in which servers are put in is random and recorded."""
    result = Result()
    for case in cases(document):
        runs = case.items("runs", list)
        weights = _weights(case)
        for r, (run, order) in enumerate(zip(runs, _per_run(case, "insertion", runs), strict=True)):
            if order is None:
                result.unsupported += len(run)
                continue
            pool = _pool([weights[i] for i in order], [str(i) for i in order])
            got = Decider(aibalance.RoundRobin(pool, schedule="heap"), door).sequence(len(run))
            _check(result, f"{case.where}, run {r}", run, [order[i] if isinstance(i, int) else i for i in got])
    return result


def caddy_sequences(document: dict[str, Any], door: Door = "pick") -> Result:
    """Caddy's round_robin, weighted_round_robin and first."""
    result = Result()
    for case in cases(document):
        picks = case.items("picks", int)
        policy = case.record("selection_policy")
        n = len(case.items("endpoints", str))
        weights = policy.items("weights", int) if policy.has("weights") else [1] * n
        name = policy.text("policy")
        if name in ("round_robin", "weighted_round_robin"):
            picker: Any = aibalance.RoundRobin(_pool(weights), schedule="caddy")
        elif name == "first":
            picker = aibalance.First(_pool(weights))
        else:
            result.unsupported += len(picks)
            continue
        _check(result, case.where, picks, Decider(picker, door).sequence(len(picks)))
    return result


def _haproxy_pool(case: Record) -> aibalance.Pool | None:
    """The servers of a backend; None where a word is not translated."""
    lines = case.items("lines", str)
    if any(not line.startswith("balance ") and line != "option allbackups" for line in lines):
        return None
    endpoints, backups = [], 0
    for i, server in enumerate(case.items("servers", str)):
        words = server.split()
        weight, limit, backup, enabled = 1, None, False, True
        rest = iter(words[2:])
        for word in rest:
            if word in ("weight", "maxconn"):
                value = next(rest, "")
                if not value.isdecimal():
                    raise UnreadableError(f"{case.where}: servers[{i}]: {word}: expected a number, got {value!r}")
                if word == "weight":
                    weight = int(value)
                else:
                    limit = int(value) or None
            elif word == "backup":
                backup = True
            elif word == "disabled":
                enabled = False
            else:
                return None
        # Without `option allbackups` only the first backup is ever used.
        backups += backup
        if backup and backups > 1 and "option allbackups" not in lines:
            enabled = False
        endpoints.append(aibalance.Endpoint(str(i), weight=weight if enabled else 0, backup=backup, max_inflight=limit))
    return aibalance.Pool(endpoints, panic_threshold=0.0)


def _count(case: Record) -> int:
    if case.has("picks"):
        return len(case.items("picks", int, str))
    total = 0
    for op in case.items("ops", int, str, list):
        if isinstance(op, list) and op[:1] == ["pick"]:
            total += len(op[1])
        elif not isinstance(op, list):
            total += 1
    return total


def haproxy(document: dict[str, Any], door: Door = "pick") -> Result:
    """HAProxy's roundrobin and static-rr with live changes, and scripts of these, leastconn and first."""
    result = Result()
    for case in cases(document):
        pool = _haproxy_pool(case)
        picker = None if pool is None else _haproxy_picker(case, pool)
        if picker is None or pool is None:
            result.unsupported += _count(case)
        elif case.has("picks"):
            picks = case.items("picks", int)
            _check(result, case.where, picks, Decider(picker, door).sequence(len(picks)))
        elif any(isinstance(op, list) and op[:1] == ["pick"] for op in case.items("ops", int, list)):
            _haproxy_changes(result, case, pool, Decider(picker, door))
        else:
            _script(result, case, picker)
    return result


def _haproxy_picker(case: Record, pool: aibalance.Pool) -> Any:
    balance = case.items("lines", str)[0]
    if balance in HAPROXY_SCHEDULES:
        return aibalance.RoundRobin(pool, schedule=HAPROXY_SCHEDULES[balance])  # type: ignore[arg-type]
    if balance == "balance leastconn":
        return aibalance.LeastConnections(pool, variant="haproxy")
    if balance == "balance first":
        return aibalance.First(pool)
    return None


def _haproxy_changes(result: Result, case: Record, pool: aibalance.Pool, decider: Decider) -> None:
    for k, op in enumerate(case.items("ops", list)):
        if op[0] == "pick":
            _check(result, f"{case.where}, op {k}", op[1], decider.sequence(len(op[1])))
        elif op[0] == "weight":
            pool.set_weight(str(op[1]), op[2])
        elif op[0] in ("maint", "ready"):
            pool.set_health(str(op[1]), "unhealthy" if op[0] == "maint" else "healthy")
        else:
            raise UnreadableError(f"{case.where}: ops[{k}]: {op[0]!r} is not known")


def _ended(op: Any) -> int | None:
    """Which of the open requests an op ends: `[k]` or `["end", k]`."""
    if isinstance(op, list) and op:
        return int(op[-1])
    return None


def _script(result: Result, case: Record, picker: Any) -> None:
    """Opens and ends requests in the recorded order."""
    index = {e: i for i, e in enumerate(picker.pool.endpoints)}
    leases: list[Any] = []
    for k, op in enumerate(case.items("ops", int, list, str)):
        ended = _ended(op)
        if ended is not None:
            leases.pop(ended).release()
            continue
        lease = picker.try_acquire()
        result.check(f"{case.where}, op {k}", op if isinstance(op, int) else None, lease and index[lease.endpoint])
        # A request that found nobody is not open.
        if isinstance(op, int):
            leases.append(lease if lease is not None else picker.acquire(subset=[str(op)]))
        elif lease is not None:
            lease.release()


def nginx_least_conn(document: dict[str, Any]) -> Result:
    """nginx's least_conn, and its default balancing with max_conns."""
    result = Result()
    for case in cases(document):
        directive = case.text("directive", "").replace("least_conn;", "").strip()
        endpoints = _nginx_endpoints(case, directive)
        if endpoints is None:
            result.unsupported += _count(case)
            continue
        pool = aibalance.Pool(endpoints, panic_threshold=0.0)
        least = "least_conn;" in case.text("directive", "")
        _script(result, case, aibalance.LeastConnections(pool) if least else aibalance.RoundRobin(pool))
    return result


def envoy_least_request_weighted(document: dict[str, Any]) -> Result:
    """Envoy's LEAST_REQUEST over unequal weights. The start is random and recorded."""
    result = Result()
    for case in cases(document):
        if not case.has("initial_picks"):
            result.unsupported += _count(case)
            continue
        bias = case.number("active_request_bias")
        start = case.integer("initial_picks")
        _script(result, case, aibalance.LeastRequest(_pool(_weights(case)), schedule="edf", bias=bias, start=start))
    return result


def envoy_least_request(document: dict[str, Any]) -> Result:
    """Envoy's LEAST_REQUEST over equal weights, of which chance decides.

    A full scan takes one of the least loaded, and ours must be as little loaded as the recorded one at every step. For
    a number of choices the load of what is picked is compared over the whole script, in five seeds.
    """
    result = Result()
    for case in cases(document):
        policy = case.text("policy")
        choices = re.search(r"choice_count (\d+)", policy)
        if not choices and "FULL_SCAN" not in policy:
            result.unsupported += _count(case)
            continue
        n = len(case.items("endpoints", str))
        matched, total = [], 0
        for seed in range(SEEDS):
            pool = aibalance.Pool([aibalance.Endpoint(str(i)) for i in range(n)], seed=seed)
            picker = (
                aibalance.LeastRequest(pool, choices=int(choices[1]), replace=True, score="before")
                if choices
                else aibalance.LeastRequest(pool, full_scan=True, score="before")
            )
            steps = list(_loads(case, picker, DRAWS if choices else 1))
            total = len(steps)
            if choices:
                off = sum(theirs - statistics.fmean(ours) for theirs, ours in steps)
                spread = math.sqrt(sum(statistics.pvariance(ours) * (1 + 1 / DRAWS) for _, ours in steps))
                matched.append(total if abs(off) <= STANDARD_ERRORS * spread else 0)
            else:
                matched.append(sum(theirs == ours[0] for theirs, ours in steps))
        for i in range(total):
            result.check(f"{case.where} ({policy}), decision {i}", True, i < min(matched))
    result.bound = f"{SEEDS} seeds, {STANDARD_ERRORS:g} standard errors"
    return result


def _loads(case: Record, picker: Any, draws: int) -> Iterator[tuple[int, list[int]]]:
    """Open requests of the recorded choice, and of ours, at each step of a script; the recorded one is followed."""
    endpoints = picker.pool.endpoints
    load = dict.fromkeys(endpoints, 0)
    leases: list[Any] = []
    for op in case.items("ops", int, list):
        ended = _ended(op)
        if ended is not None:
            lease = leases.pop(ended)
            load[lease.endpoint] -= 1
            lease.release()
            continue
        yield load[endpoints[op]], [load[picker.pick()] for _ in range(draws)]
        leases.append(picker.acquire(subset=[endpoints[op]]))
        load[endpoints[op]] += 1
