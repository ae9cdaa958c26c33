"""Pools, pickers and checkers from tables of a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aibalance

from .. import Endpoint, Latency, Pool, SlowStart, health
from .._toml import Table
from ..health import HealthChecker, HttpProbe
from ..passive import CircuitBreaker, MaxFails, OutlierDetection

PICKERS = (
    "ClientSideWeightedRoundRobin",
    "First",
    "IpHash",
    "JoinIdleQueue",
    "JumpBackHash",
    "JumpHash",
    "LeastConnections",
    "LeastRequest",
    "LeastTime",
    "Maglev",
    "MementoHash",
    "ModuloHash",
    "MultiProbeHash",
    "PeakEwma",
    "Prequal",
    "Rendezvous",
    "RingHash",
    "RoundRobin",
    "SourceHash",
    "WeightedRandom",
)
_POOL = {
    "outlier_detection": ("passive", OutlierDetection),
    "max_fails": ("passive", MaxFails),
    "circuit_breaker": ("circuit_breaker", CircuitBreaker),
    "latency": ("latency", Latency),
}


def endpoints(table: Table, field: str = "endpoints") -> list[Endpoint]:
    """Addresses, or tables of an Endpoint's fields."""
    found = []
    for i, item in enumerate(table.items(field)):
        at = f"{field}[{i}]"
        if isinstance(item, dict):
            values = dict(item)
            address = values.pop("address", None)
            found.append(table.build(lambda a=address, v=values: Endpoint(a, **v), at))  # type: ignore[misc]
        else:
            found.append(table.build(lambda a=item: Endpoint(a), at))  # type: ignore[misc]
    return found


def pool(table: Table) -> Pool:
    """A pool: `endpoints`, and in the table `pool` its parameters."""
    members = endpoints(table)
    options: dict[str, Any] = {}
    given = table.table("pool")
    if given is not None:
        for name, (parameter, cls) in _POOL.items():
            inner = given.table(name)
            if inner is not None:
                if parameter in options:
                    raise given.error(name, "is not allowed beside another kind of passive check")
                options[parameter] = inner.build(lambda c=cls, t=inner: c(**t.rest()))  # type: ignore[misc]
        slow = given.table("slow_start")
        if slow is not None:
            window = slow.number("window", ...)
            options["slow_start"] = slow.build(lambda: SlowStart(window, **slow.rest()))
        for name in ("panic_threshold", "on_panic", "failover", "overprovisioning_factor", "local_zone"):
            value = given.take(name)
            if value is not None:
                options[name] = value
        weights = given.take("zone_weights")
        if weights is not None:
            options["zone_weights"] = weights
        lease_timeout = given.number("lease_timeout", None, above=True)
        if lease_timeout is not None:
            options["lease_timeout"] = lease_timeout
        given.done()
    return (given or table).build(lambda: Pool(members, **options))


def picker(table: Table, pool: Pool) -> Any:
    """The picker that `picker` names, with the `options` of its class."""
    name = table.text("picker", "LeastRequest", choice=PICKERS)
    options = table.table("options")
    cls = getattr(aibalance, name)
    if options is None:
        return table.build(lambda: cls(pool), "picker")
    return options.build(lambda: cls(pool, **options.rest()))


def checker(table: Table, pool: Pool, probe: Mapping[str, Any] | None = None) -> HealthChecker | None:
    """The active checker of the table `health`, whose probes have these options."""
    given = table.table("health")
    if given is None:
        return None
    shallow, deep = given.text("path", None), given.text("deep", None)
    rules = given.take("rules")
    options = given.rest()
    if rules is not None:
        options["rules"] = given.build(lambda: health.check_rules(rules), "rules")
    allowed = ("interval", "jitter", "timeout", "healthy_threshold", "unhealthy_threshold", "start", "warm_up")
    also = ("warming_timeout", "grace_period", "concurrency", "start_spread", "follow", "seed", "rules")
    for name in options:
        if name not in allowed + also:
            raise given.error(
                name, f"there is no such field; the fields here are {', '.join(('path', 'deep', *allowed, *also))}"
            )
    asks = probe or {}
    return given.build(
        lambda: HealthChecker(
            pool,
            None if shallow is None else HttpProbe(shallow, **asks),
            deep=None if deep is None else HttpProbe(deep, checks=True, **asks),
            **options,
        )
    )
