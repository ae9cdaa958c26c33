"""What nginx, Envoy and HAProxy decided by chance: how often each server was chosen, compared within a bound.

Both counts are samples, theirs of one run and ours of one run a seed, so the difference of two shares is measured in
standard errors of a difference. A run in which no server is further off counts all its picks as matched, else none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import aibalance

from .model import Result
from .proxies import Decider, Door, _endpoints, _nginx_endpoints
from .recording import Record, UnreadableError, cases

SEEDS = 5
STANDARD_ERRORS = 4.0
BOUND = f"{SEEDS} seeds, {STANDARD_ERRORS:g} standard errors"


def worst(theirs: list[int], ours: list[int]) -> float:
    """The largest difference of two shares, in standard errors of it."""
    n, m = sum(theirs), sum(ours)
    most = 0.0
    for a, b in zip(theirs, ours, strict=True):
        p = (a + b) / (n + m)
        error = (p * (1 - p) * (1 / n + 1 / m)) ** 0.5
        most = max(most, abs(a / n - b / m) / error if error else 0.0)
    return most


def _compare(result: Result, case: Record, make: Callable[[int], Any], door: Door) -> None:
    theirs = case.items("counts", int)
    n = case.integer("requests", sum(theirs))
    if not theirs or min(theirs) < 0 or n < 1 or sum(theirs) != n:
        raise UnreadableError(f"{case.where}: counts: expected a count for each server, with the sum {n}")
    for seed in range(SEEDS):
        drawn = Counter(Decider(make(seed), door).sequence(n))
        off = worst(theirs, [drawn[i] for i in range(len(theirs))])
        result.total += n
        if off <= STANDARD_ERRORS:
            result.matched += n
        elif result.first_mismatch is None:
            result.first_mismatch = f"{case.where}, seed {seed}: a share is {off:.1f} standard errors off"
    result.bound = BOUND


def envoy_random(document: dict[str, Any], door: Door = "pick") -> Result:
    """Envoy's RANDOM, and its LEAST_REQUEST while nothing is in flight."""
    result = Result()
    for case in cases(document):
        policy, endpoints = case.text("policy"), _endpoints(case)
        if policy == "RANDOM":
            kind, options = aibalance.WeightedRandom, {}
        elif policy == "LEAST_REQUEST" and len({e.weight for e in endpoints}) == 1:
            kind, options = aibalance.LeastRequest, {"choices": 2, "replace": True}
        else:
            result.unsupported += 1
            continue

        def make(seed: int, kind: Any = kind, options: Any = options, endpoints: Any = endpoints) -> Any:
            return kind(aibalance.Pool(endpoints, seed=seed), **options)

        _compare(result, case, make, door)
    return result


def nginx_random(document: dict[str, Any], door: Door = "pick") -> Result:
    """nginx's `random` and `random two`."""
    from .load import nginx_random_two  # which compares by this module

    result = Result()
    for case, raw in zip(cases(document), document["cases"], strict=True):
        rest, found = re.subn(r"(?:^|(?<=;))\s*random\s*;", "", case.text("directive"))
        endpoints = _nginx_endpoints(Record(case.where, {**raw, "directive": rest}))
        if endpoints is None or found != 1:
            result.unsupported += not nginx_random_two(result, case, raw, door)
            continue

        def make(seed: int, endpoints: Any = endpoints) -> Any:
            return aibalance.WeightedRandom(aibalance.Pool(endpoints, seed=seed))

        _compare(result, case, make, door)
    return result


def haproxy_random(document: dict[str, Any], door: Door = "pick") -> Result:
    """HAProxy's `balance random`, one request at a time."""
    result = Result()
    for case in cases(document):
        found = re.fullmatch(r"\s*balance\s+random(?:\((\d+)\))?\s*", "\n".join(case.items("lines", str)))
        endpoints = []
        for i, line in enumerate(case.items("servers", str)):
            name, _address, *words = line.split()
            given = dict(zip(words[::2], words[1::2], strict=False))
            if len(words) % 2 or given.keys() - {"weight", "id"} or not all(v.isdecimal() for v in given.values()):
                found = None
                break
            # Servers are numbered from 1 where no id is given.
            weight, number = int(given.get("weight", 1)), int(given.get("id", i + 1))
            endpoints.append(aibalance.Endpoint(name, id=f"{i} {name}", weight=weight, hash_key=number))
        if found is None:
            result.unsupported += 1
            continue
        options = {"ring": "haproxy"} | ({} if found[1] is None else {"choices": int(found[1])})

        def make(seed: int, endpoints: Any = endpoints, options: Any = options) -> Any:
            return aibalance.WeightedRandom(aibalance.Pool(endpoints, seed=seed), **options)

        _compare(result, case, make, door)
    return result
