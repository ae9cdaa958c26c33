"""What a picker claims, and what the built-in ones do."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from .._picker import Key, wrong

__all__ = ["Claim", "Claims", "claims_of", "keys_of", "read"]

Claim: TypeAlias = Literal["weights", "fairness", "affinity", "minimal_disruption", "reproducible"]

Claims: TypeAlias = Iterable[Claim] | Mapping[Claim, float]
"""Names of claims, or their bounds by name."""

DEFAULTS: dict[Claim, float] = {
    "weights": 0.0,
    "fairness": 1.0,
    "affinity": 0.0,
    "minimal_disruption": 0.0,
    "reproducible": 0.0,
}

_KEYED: dict[Claim, float] = {"affinity": 0.0, "reproducible": 0.0}
_STABLE: dict[Claim, float] = {**_KEYED, "minimal_disruption": 0.0}
_BY_LOAD: dict[Claim, float] = {"weights": 0.0, "reproducible": 0.0}

# The largest distance from the ideal share, over every prefix, that a schedule shows for the weights of the check.
_SCHEDULES = {"smooth": 1.0, "edf": 2.5, "heap": 2.5, "stride": 2.0, "fwrr": 2.0, "static-rr": 2.0, "caddy": 4.0}


def read(claims: Claims) -> dict[Claim, float]:
    """Claims with their bounds. Raises ConfigError."""
    if isinstance(claims, str) or not isinstance(claims, Iterable):
        raise wrong("claims", claims, "names of claims, or a mapping of them to their bounds")
    bounds = dict(claims) if isinstance(claims, Mapping) else {}
    out: dict[Claim, float] = {}
    for name in claims:
        if name not in get_args(Claim):
            raise wrong("claims", name, f"any of {', '.join(map(repr, get_args(Claim)))}")
        bound: Any = bounds.get(name, DEFAULTS[name])
        if not isinstance(bound, int | float) or not 0 <= bound < float("inf"):
            raise wrong(f"claims[{name!r}]", bound, "a finite number, not negative")
        out[name] = float(bound)
    return out


def claims_of(picker: object, /) -> dict[Claim, float]:
    """What a picker of ours claims, by its class and options; of any other one, that it honours weights and repeats.

    >>> from aibalance.testing import claims_of
    >>> claims_of(RoundRobin(["a"]))
    {'weights': 0.0, 'reproducible': 0.0, 'fairness': 1.0}
    >>> sorted(claims_of(Maglev(["a"])))
    ['affinity', 'minimal_disruption', 'reproducible', 'weights']
    """
    name = type(picker).__name__
    if not type(picker).__module__.startswith("aibalance") or name not in _OURS:
        return dict(_BY_LOAD)
    options: dict[str, Any] = picker.__getnewargs_ex__()[1]  # type: ignore[attr-defined]
    return _OURS[name](options)


def _round_robin(options: Mapping[str, Any]) -> dict[Claim, float]:
    bound = _SCHEDULES.get(options.get("schedule") or "smooth", 4.0)
    # From another start, the way there and the way on add up.
    return {**_BY_LOAD, "fairness": bound if options.get("start") in (None, 0) else 2 * bound}


def _least_request(options: Mapping[str, Any]) -> dict[Claim, float]:
    if options.get("bias", 1.0) != 1.0 and options.get("schedule") is None:
        return {"reproducible": 0.0}
    return dict(_BY_LOAD)


def _least_connections(options: Mapping[str, Any]) -> dict[Claim, float]:
    return {**_BY_LOAD, "fairness": 1.0 if options.get("variant", "nginx") == "nginx" else 2.0}


def _ring(options: Mapping[str, Any]) -> dict[Claim, float]:
    # So many points an endpoint put its share within 1/sqrt(points) of the ideal, and four times that covers a pool.
    points = {"nginx": 160, "haproxy": 16}.get(options.get("ring") or "envoy", options.get("points") or 512)
    if options.get("min_size") is not None or options.get("max_size") is not None:
        # Envoy's sizes are of the whole ring: when one leaves, the others get more points, and keys of theirs move.
        return {**_KEYED, "weights": 0.5}
    return {**_STABLE, "weights": 4 / points**0.5}


def _maglev(options: Mapping[str, Any]) -> dict[Claim, float]:
    size = options.get("table_size") or 65537
    return {**_KEYED, "weights": 0.01 + 20 / size, "minimal_disruption": 0.01 + 30 / size}


def _modulo(options: Mapping[str, Any]) -> dict[Claim, float]:
    if options.get("variant", "nginx") == "nginx":
        return {**_KEYED, "weights": 0.05}
    # HAProxy's plain hashes leave the pattern of similar keys in their low bits.
    return {**_KEYED, "weights": 0.05} if options.get("avalanche") else dict(_KEYED)


def _source(options: Mapping[str, Any]) -> dict[Claim, float]:
    return dict(_KEYED) if options.get("ring") is None else {**_STABLE, "weights": 1.0}


def _rendezvous(options: Mapping[str, Any]) -> dict[Claim, float]:
    return {**_STABLE, "weights": 0.0} if options.get("variant") is None else dict(_STABLE)


def _are(claims: dict[Claim, float]) -> Callable[[Mapping[str, Any]], dict[Claim, float]]:
    return lambda options: dict(claims)


# By name, so that a class which this version does not have does no harm.
_OURS: dict[str, Callable[[Mapping[str, Any]], dict[Claim, float]]] = {
    "RoundRobin": _round_robin,
    "WeightedRandom": _are(_BY_LOAD),
    "LeastRequest": _least_request,
    "LeastConnections": _least_connections,
    "LeastTime": _are(_BY_LOAD),
    "JoinIdleQueue": _are(_BY_LOAD),
    "PeakEwma": _are(_BY_LOAD),
    "PrefixAware": _are({"reproducible": 0.0}),
    "Prequal": _are({"reproducible": 0.0}),
    "ClientSideWeightedRoundRobin": _are({"reproducible": 0.0}),
    "First": _are({"reproducible": 0.0}),
    "RingHash": _ring,
    "Maglev": _maglev,
    "Rendezvous": _rendezvous,
    "JumpHash": _are({**_KEYED, "weights": 0.0}),
    "JumpBackHash": _are({**_KEYED, "weights": 0.0}),
    "MementoHash": _are({**_STABLE, "weights": 0.0}),
    # A small fleet has one point an endpoint: the largest share is bounded, the least is not.
    "MultiProbeHash": _are(_STABLE),
    "ModuloHash": _modulo,
    "IpHash": _are(_KEYED),
    "SourceHash": _source,
}


def keys_of(picker: object) -> Callable[[int], Key]:
    """Different keys by number, of the kind that this picker takes."""
    if type(picker).__name__ in ("IpHash", "SourceHash"):
        # nginx looks at the first three bytes, so those are what differs; a step that is prime to 2**24 mixes them.
        return lambda i: str(ipaddress.IPv4Address(((i * 9_973_117) % 2**24) << 8 | 7))
    return lambda i: f"user-{i}"
