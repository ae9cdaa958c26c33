"""Replays what nginx and Envoy make of failures.

nginx: request by request, exact, in nginx's whole seconds. Envoy: its recorded answers are told, and every instant at
which an endpoint is put out or comes back must be as recorded within BOUND seconds. Answers of
endpoints that are out here are left away. Envoy's intervals began at an unrecorded instant, so they are laid where the
recorded ends of ejections fall.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import aibalance

from .model import Result
from .proxies import NO_SERVER
from .recording import Record, UnreadableError, cases

BOUND = 0.25
"""Seconds: the recording looked every 0.06 s and is late by up to 0.1 s, and its requests came every 0.04 s."""
RATE = 25
STATUS = {"F": 500, "G": 503, "O": 200}


def _nginx_endpoint(case: Record, i: int, line: str) -> aibalance.Endpoint:
    address, *words = line.split()
    options = dict(word.partition("=")[::2] for word in words)
    if options.keys() - {"weight", "down", "backup", "max_conns", "max_fails", "fail_timeout"}:
        raise UnreadableError(f"{case.where}: servers[{i}]: {line!r}")
    return aibalance.Endpoint(
        address,
        id=f"{i} {address}",
        weight=0 if "down" in options else int(options.get("weight", "1")),
        backup="backup" in options,
        max_inflight=int(options.get("max_conns", "0")) or None,
        passive=aibalance.MaxFails(
            int(options.get("max_fails", "1")), _nginx_seconds(options.get("fail_timeout", "10"))
        ),
    )


def _nginx_seconds(text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


def nginx_failures(document: dict[str, Any]) -> Result:
    """Which servers each request tried, second by second."""
    result = Result()
    for case in cases(document):
        rows = case.items("timeline", list)
        directive = case.text("directive", "")
        make: Any = {
            "": aibalance.RoundRobin,
            "least_conn;": aibalance.LeastConnections,
            "ip_hash;": aibalance.IpHash,
        }.get(directive)
        mode, retried = case.text("mode"), case.text("next")
        if make is None or mode not in {"refuse", "http_503"}:
            result.unsupported += sum(len(row) for row in rows)
            continue
        endpoints = [_nginx_endpoint(case, i, line) for i, line in enumerate(case.items("servers", str))]
        clock = aibalance.ManualClock(1000.0)
        picker = make(aibalance.Pool(endpoints, clock=clock, panic_threshold=0.0, failover="backup"))
        place = {endpoint.id: i for i, endpoint in enumerate(endpoints)}
        failing = mode == "refuse" or "http_503" in retried
        key = ("10.0.0.1",) if directive == "ip_hash;" else ()
        down: set[int] = set()
        for second, row in enumerate(rows):
            for at, server, what in case.items("events", list):
                if at == second:
                    (down.add if what == "down" else down.discard)(server)
            for i, theirs in enumerate(row):
                clock.advance(max(0.0, 1000.0 + second + i / (len(row) + 1) - clock.now()))
                ours = _nginx_request(picker, key, place, down, mode, failing)
                expected = (
                    theirs if isinstance(theirs, int) else [NO_SERVER if isinstance(t, str) else t for t in theirs]
                )
                result.check(f"{case.where}: second {second}, request {i}", expected, ours)
    return result


def _nginx_request(
    picker: Any, key: tuple[str, ...], place: dict[str, int], down: set[int], mode: str, failing: bool
) -> int | list[int | str]:
    """The server that answered 200, or the status and those that were tried."""
    tried: list[str] = []
    names: list[int | str] = []
    while True:
        lease = picker.try_acquire(*key, exclude=tried)
        if lease is None:
            return [502 if mode == "refuse" or not tried else 503, *(names or [NO_SERVER])]
        tried.append(lease.endpoint.id)
        names.append(place[lease.endpoint.id])
        if names[-1] not in down:
            lease.release()
            return names[0] if len(names) == 1 else [200, *names]  # type: ignore[return-value]
        if not failing:
            lease.release()
            return [503, *names]
        lease.release("failure", status=503 if mode == "http_503" else None)


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def envoy_outlier(document: dict[str, Any]) -> Result:
    """When endpoints were put out and came back."""
    result = Result(bound=f"instants within {BOUND:g} s")
    for case in cases(document):
        settings = dict(case.record("outlier_detection").fields)
        for name in ("interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter"):
            if name in settings:
                settings[name] = _seconds(settings[name])
        config = aibalance.OutlierDetection(**settings)
        theirs = [(float(at), int(i), str(what)) for at, i, what in case.items("ejections", list)]
        ends = sorted(at % config.interval for at, _, what in theirs if what == "back")
        phase = ends[len(ends) // 2] if ends else 0.0
        ours = _envoy_timeline(case, config, phase)
        if not theirs:
            result.check(f"{case.where}: ejections", [], ours)
        for k, (at, i, what) in enumerate(theirs):
            got = ours[k] if k < len(ours) else None
            near = got is not None and got[1:] == (i, what) and abs(got[0] - at) <= BOUND
            result.check(f"{case.where}: change {k}", (at, i, what), (at, i, what) if near else got)
        if len(ours) > len(theirs):
            result.check(f"{case.where}: number of changes", len(theirs), len(ours))
    return result


def _requests(case: Record) -> list[tuple[float, int, int]]:
    """When which endpoint answered how, as recorded: failures by their instants, what the plan has between them, and
    all other requests of a second at equal distances."""
    failures: dict[int, list[float]] = {}
    out: list[tuple[float, int, int]] = []
    plan = {int(i): parts for i, parts in case.record("plan").fields.items()}
    for at, i, status in case.items("failures_seen", list):
        if i >= 0:
            failures.setdefault(i, []).append(at)
            out.append((at, i, status))
    for i, times in failures.items():
        for start, end, pattern in plan.get(i, []):
            seen, k = [at for at in times if start <= at < end + 0.5], 0
            for before, after in pairwise(seen):
                k += 1
                while STATUS[pattern[k % len(pattern)]] == 200:
                    out.append(((before + after) / 2, i, 200))
                    k += 1
    for second, counts in enumerate(case.items("requests_per_second_of_each_endpoint", list)):
        for i, count in enumerate(counts):
            known = sum(1 for at, j, _ in out if j == i and second <= at < second + 1)
            if not any(start <= second < end for start, end, _ in plan.get(i, [])):
                rest = count - known
                out += [(second + (k + 0.5) / rest, i, 200) for k in range(rest)]
    return sorted(out)


def _envoy_timeline(case: Record, config: aibalance.OutlierDetection, phase: float) -> list[tuple[float, int, str]]:
    addresses = case.items("endpoints", str)
    clock = aibalance.ManualClock(phase)
    # Some intervals before second 0 of the recording, so that they fall where theirs did.
    origin = config.interval
    pool = aibalance.Pool(addresses, passive=config, clock=clock, panic_threshold=0.0, seed=1)
    picker = aibalance.RoundRobin(pool)
    out: set[int] = set()
    changes: list[tuple[float, int, str]] = []
    steps: list[tuple[float, int | None, int]] = list(_requests(case))
    seconds = len(case.items("requests_per_second_of_each_endpoint", list))
    # Picks alone bring endpoints back: one every 0.04 s, as they were asked.
    steps += [(n / RATE, None, 0) for n in range(seconds * RATE)]
    for at, i, status in sorted(steps, key=lambda step: step[0]):
        clock.advance(max(0.0, origin + at - clock.now()))
        if i is None:
            picker.try_pick()
        else:
            lease = picker.try_acquire(subset=[addresses[i]])
            # Envoy's picks follow an ejection up to a second late (update_merge_window); ours do at once.
            if lease is not None:
                lease.release(status=status)
        now = {k for k, record in enumerate(pool.stats()) if record.ejected_until is not None}
        changes += [(at, k, "back") for k in sorted(out - now)] + [(at, k, "ejected") for k in sorted(now - out)]
        out = now
    return changes
