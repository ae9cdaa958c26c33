"""Replays the cloud cases of a load balancer's target groups: states, deregistration, failover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aibalance import ConfigError
from aibalance.health import HealthState, TargetGroupHealth

Case = dict[str, Any]


def alb_health_sequence(i: Case) -> Case:
    state = HealthState(healthy_threshold=i["healthy_threshold"], unhealthy_threshold=i["unhealthy_threshold"])
    return {"states": [state.report("pass" if check else "fail", now=0.0) for check in i["checks"]]}


def alb_deregistration(i: Case) -> Case:
    state = HealthState()
    try:
        state.deregister(delay=i["delay_s"], now=0.0)
    except ConfigError:
        return {"valid": False}
    return {"state": state.state(now=i["t"])} if "t" in i else {"valid": True}


def alb_routing_failover(i: Case) -> Case:
    group = TargetGroupHealth(
        dns_failover_count=None,
        routing_failover_count=i.get("min_count", 1),
        routing_failover_percentage=i.get("min_pct"),
    )
    mode, routable = group.route(i["healthy"])
    return {"routable": routable, "mode": mode}


def _group(i: Case) -> TargetGroupHealth:
    return TargetGroupHealth(
        dns_failover_count=i.get("dns_failover_count", 1),
        dns_failover_percentage=i.get("dns_failover_pct"),
        routing_failover_count=i.get("routing_failover_count", 1),
        routing_failover_percentage=i.get("routing_failover_pct"),
    )


def alb_zone_failover(i: Case) -> Case:
    zones = {name: (zone["healthy"], zone["total"]) for name, zone in i["zones"].items()}
    seen = _group(i).zones(zones, cross_zone=i["cross_zone"])
    out: Case = {name: {"dns_healthy": z.dns_healthy, "routable": z.routable} for name, z in seen.items()}
    if not any(z.dns_healthy for z in seen.values()):
        out["dns_all_zones_served"] = True
    return out


def alb_zone_failover_validation(i: Case) -> Case:
    try:
        _group(i)
    except ConfigError:
        return {"valid": False}
    return {"valid": True}


FAMILIES: tuple[Callable[[Case], Case], ...] = (
    alb_health_sequence,
    alb_deregistration,
    alb_routing_failover,
    alb_zone_failover,
    alb_zone_failover_validation,
)
