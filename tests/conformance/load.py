"""What proxies decided by chance and open requests, and averages of load, asked again of aibalance.

The adapters translate; they decide nothing. Where chance decides, five seeds are run and the bound is named.
"""

from __future__ import annotations

import math
import re
import statistics
from typing import Any

import aibalance
import aibalance.health

from .chance import BOUND, SEEDS, STANDARD_ERRORS, _compare
from .model import Result
from .proxies import Door, _endpoints, _nginx_endpoints
from .recording import Record, UnreadableError, cases
from .sched import DRAWS, _count, _loads

RELATIVE = 1e-9


def nginx_random_two(result: Result, case: Record, raw: dict[str, Any], door: Door) -> bool:
    """nginx's `random two`: least_conn of two distinct draws by weight, and the second wins a tie. False when the case
    is of another rule."""
    rest, found = re.subn(r"(?:^|(?<=;))\s*random\s+two(?:\s+least_conn)?\s*;", "", case.text("directive"))
    endpoints = _nginx_endpoints(Record(case.where, {**raw, "directive": rest}))
    if endpoints is None or found != 1:
        return False

    def make(seed: int) -> Any:
        return aibalance.LeastRequest(aibalance.Pool(endpoints, seed=seed), score="before", ties="last_drawn")

    _compare(result, case, make, door)
    return True


def caddy_random(document: dict[str, Any], door: Door = "pick") -> Result:
    """Caddy's random and least_conn, and random_choose while nothing is in flight.

    With requests in flight random_choose may take one that is not the least loaded of its draw; nothing here does.
    """
    result = Result()
    for case in cases(document):
        policy = case.record("selection_policy")
        name, scripted = policy.text("policy"), case.has("ops")
        options: dict[str, Any] = {"score": "before"}
        kind: Any = aibalance.LeastRequest
        if name == "random" and not scripted:
            kind, options = aibalance.WeightedRandom, {}
        elif name == "random_choose" and not scripted:
            options["choices"] = policy.integer("choose", 2)
        elif name == "least_conn":
            options["full_scan"] = True
        else:
            result.unsupported += _count(case) if scripted else 1
            continue
        endpoints = _endpoints(case)

        def make(seed: int, kind: Any = kind, options: Any = options, endpoints: Any = endpoints) -> Any:
            return kind(aibalance.Pool(endpoints, seed=seed), **options)

        if scripted:
            _least(result, case, make, whole=True)
        else:
            _compare(result, case, make, door)
    result.bound = BOUND
    return result


def traefik_p2c(document: dict[str, Any]) -> Result:
    """Traefik's p2c: of two different servers the one with fewer requests in flight. Weights do not count there."""
    result = Result()
    for case in cases(document):
        n = len(case.items("endpoints", str))

        def make(seed: int, n: int = n) -> Any:
            pool = aibalance.Pool([aibalance.Endpoint(str(i)) for i in range(n)], seed=seed)
            return aibalance.LeastRequest(pool, choices=2, score="before")

        _least(result, case, make, whole=n <= 2)
    result.bound = BOUND
    return result


def _least(result: Result, case: Record, make: Any, *, whole: bool) -> None:
    """A script. When all servers are compared, ours must be as little loaded as the recorded one at every step; when
    some are, the load of what is picked is compared over the whole script."""
    matched, total = [], 0
    for seed in range(SEEDS):
        steps = list(_loads(case, make(seed), 1 if whole else DRAWS))
        total = len(steps)
        if whole:
            matched.append(sum(theirs == ours[0] for theirs, ours in steps))
        else:
            off = sum(theirs - statistics.fmean(ours) for theirs, ours in steps)
            spread = math.sqrt(sum(statistics.pvariance(ours) * (1 + 1 / DRAWS) for _, ours in steps))
            matched.append(total if abs(off) <= STANDARD_ERRORS * spread else 0)
    for i in range(total):
        result.check(f"{case.where}, decision {i}", True, i < min(matched))


def ewma(document: dict[str, Any]) -> Result:
    """The plain and the time-weighted average. Those of Finagle and tower change on reading, which ours do not: they
    are not replayed."""
    result = Result()
    for case in cases(document):
        flavour = case.text("flavour")
        expected = case.record("ref").items("values", int, float, type(None))
        if flavour.startswith("plain"):
            samples = case.items("xs", int, float)
            plain = aibalance.health.Ewma(alpha=case.number("alpha"))
            got = [plain.update(x) for x in samples]
        elif flavour.startswith("time-weighted"):
            samples, instants = case.items("xs", int, float), case.items("ts", int, float)
            timed = aibalance.health.TimeWeightedEwma(tau=case.number("tau"))
            got = [timed.update(x, now=t) for x, t in zip(samples, instants, strict=True)]
        else:
            result.unsupported += len(expected)
            continue
        if len(expected) != len(got):
            raise UnreadableError(f"{case.where}: ref: values: {len(expected)} for {len(got)} samples")
        for i, (theirs, ours) in enumerate(zip(expected, got, strict=True)):
            close = theirs is not None and math.isclose(theirs, ours, rel_tol=RELATIVE)
            result.check(f"{case.where}, value {i}", theirs, theirs if close else ours)
    return result
