"""Pools as Envoy's clusters with their endpoints, or as endpoints of a discovery service."""

from __future__ import annotations

import math
from typing import Any

from .._errors import FormatError
from ._written import Omitted, cannot, host_and_port, is_ip, whole_weights
from .envoy import OUTLIER_BOOL, OUTLIER_SECONDS, OUTLIER_WHOLE
from .model import HealthCheckConfig, Imported, PoolConfig, Remark

EXTENSION = "type.googleapis.com/envoy.extensions.load_balancing_policies."
TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def write(found: Imported, *, discovery: bool = False) -> tuple[str, list[Remark]]:
    """A bootstrap with static clusters, or with `discovery` the answer of an endpoint discovery service."""
    remarks: list[Remark] = []
    clusters: list[dict[str, Any]] = []
    assignments: list[dict[str, Any]] = []
    for pool in found.pools:
        omitted = Omitted(pool.name)
        cluster = _cluster(pool, omitted)
        clusters.append(cluster)
        assignments.append({"@type": TYPE, **cluster["load_assignment"]})
        remarks += omitted.remarks
    for router in found.routers:
        remarks.append(Remark(router.name, "rules", "routes are not written: they are a listener's"))
    for kind, things in (("groups", found.groups), ("policies", found.policies)):
        remarks += [Remark(one.name, kind, "Envoy does not scale") for one in things]
    if discovery:
        return dumped({"version_info": "1", "resources": assignments}), remarks
    return dumped({"static_resources": {"clusters": clusters}}), remarks


def dumped(value: Any) -> str:
    """YAML, in the order in which it was put together."""
    try:
        import yaml
    except ImportError:
        raise FormatError("YAML: writing it needs the extra: pip install 'aibalance[kubernetes]'") from None
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    return text


def duration(seconds: float) -> str:
    """A duration of protobuf."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _cluster(pool: PoolConfig, omitted: Omitted) -> dict[str, Any]:
    out: dict[str, Any] = {"name": pool.name, "type": "STATIC"}
    if pool.connect_timeout is not None:
        out["connect_timeout"] = duration(pool.connect_timeout)
    if pool.read_timeout is not None:
        omitted.say("read_timeout", "stands in a route")
    common = _policy(pool, out, omitted)
    if pool.panic_threshold != 0.5:
        common["healthy_panic_threshold"] = {"value": _percent(pool.panic_threshold)}
    if pool.on_panic != "all":
        omitted.say("on_panic", "in panic all endpoints are used")
    if pool.zone_weights is not None and "load_balancing_policy" not in out:
        common["locality_weighted_lb_config"] = {}
    if common:
        out["common_lb_config"] = common
    if pool.outliers is not None:
        out["outlier_detection"] = _outliers(pool, omitted)
    if pool.health is not None:
        out["health_checks"] = [_health(pool.health)]
        if pool.health.status not in (None, "200"):
            omitted.say("health.status", f"{pool.health.status!r}: 200 is written")
    out["load_assignment"] = _assignment(pool, omitted)
    if any(not is_ip(host_and_port(one, pool)[0]) for one in pool.servers):
        out["type"] = "STRICT_DNS"
    if pool.stickiness is not None:
        omitted.say("stickiness", "stands in a route: hash_policy, or a filter of sessions")
    return out


def _percent(share: float) -> float:
    return float(f"{share * 100:.12g}")


def _policy(pool: PoolConfig, out: dict[str, Any], omitted: Omitted) -> dict[str, Any]:
    name, options = pool.picker.name, dict(pool.picker.options)
    common: dict[str, Any] = {}
    shown = f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"

    def slow_start(section: dict[str, Any]) -> None:
        ramp = pool.slow_start
        if ramp is None:
            return
        config: dict[str, Any] = {"slow_start_window": duration(ramp.window)}
        if ramp.ramp != "envoy":
            omitted.say("slow_start", f"the ramp {ramp.ramp!r} is written as a straight line from a tenth")
        else:
            if ramp.aggression not in (None, 1.0):
                config["aggression"] = {"default_value": ramp.aggression, "runtime_key": f"{pool.name}.aggression"}
            if ramp.min_weight not in (None, 0.1):
                config["min_weight_percent"] = {"value": _percent(ramp.min_weight or 0.0)}
        section["slow_start_config"] = config

    def keep(kind: str, section: dict[str, Any], key: str) -> None:
        out["lb_policy"] = kind
        if section:
            out[key] = section

    def key() -> None:
        if pool.picker.key != "hash_policy":
            omitted.say("key", f"{pool.picker.key!r}: what is hashed stands in a route, hash_policy")
        if "bounded_load" in options:
            factor = round(float(options["bounded_load"]) * 100)
            common["consistent_hashing_lb_config"] = {"hash_balance_factor": factor}

    section: dict[str, Any] = {}
    hashed = name in ("RingHash", "Maglev", "ModuloHash", "IpHash", "SourceHash", "Rendezvous", "JumpHash")
    if hashed and pool.slow_start is not None:
        omitted.say("slow_start", "pickers by key take no part in it")
    if name == "RoundRobin":
        if options.get("schedule") != "edf":
            omitted.say("picker", f"{shown}: the order of turns is Envoy's own")
        slow_start(section)
        keep("ROUND_ROBIN", section, "round_robin_lb_config")
    elif name in ("LeastRequest", "LeastConnections"):
        own = {"schedule": "edf", "replace": True, "score": "before", "ties": "first"}
        full = name == "LeastConnections" or bool(options.get("full_scan"))
        if full:
            own = {"schedule": "edf", "full_scan": True, "score": "before"}
            section |= {"@type": EXTENSION + "least_request.v3.LeastRequest", "selection_method": "FULL_SCAN"}
        if {k: v for k, v in options.items() if k not in ("choices", "bias")} != own:
            omitted.say("picker", f"{shown}: with unequal weights Envoy takes turns, weighted by load")
        if "choices" in options and not full:
            section["choice_count"] = max(2, int(options["choices"]))
        if float(options.get("bias", 1.0)) != 1.0:
            section["active_request_bias"] = {"default_value": options["bias"], "runtime_key": f"{pool.name}.bias"}
        slow_start(section)
        if full:
            # The field lb_policy knows no full scan: the extension does.
            if pool.zone_weights is not None:
                section["locality_lb_config"] = {"locality_weighted_lb_config": {}}
            typed = {"name": "envoy.load_balancing_policies.least_request", "typed_config": section}
            out["load_balancing_policy"] = {"policies": [{"typed_extension_config": typed}]}
        else:
            keep("LEAST_REQUEST", section, "least_request_lb_config")
    elif name == "WeightedRandom":
        if any(one.weight != pool.servers[0].weight for one in pool.servers):
            omitted.say("weight", "RANDOM does not look at weights")
        if options:
            omitted.say("picker", f"{shown}: RANDOM draws evenly")
        keep("RANDOM", {}, "")
    elif name == "Maglev":
        key()
        if "table_size" in options:
            section["table_size"] = options["table_size"]
        keep("MAGLEV", section, "maglev_lb_config")
    elif hashed:
        key()
        if name != "RingHash" or options.get("ring", "envoy") != "envoy" or "min_size" not in options:
            omitted.say("picker", f"{shown}: keys move once: the ring is Envoy's own")
        if options.get("min_size", 1024) != 1024:
            section["minimum_ring_size"] = options["min_size"]
        if "max_size" in options:
            section["maximum_ring_size"] = options["max_size"]
        if name == "RingHash" and "hash" in options and options.get("ring", "envoy") == "envoy":
            section["hash_function"] = {"xxh64": "XX_HASH", "murmur2": "MURMUR_HASH_2"}[str(options["hash"])]
        keep("RING_HASH", section, "ring_hash_lb_config")
    else:
        raise cannot("Envoy", pool.picker, pool)
    return common


def _assignment(pool: PoolConfig, omitted: Omitted) -> dict[str, Any]:
    weights = whole_weights(pool.servers, 2**31, omitted)
    last = max((one.priority for one in pool.servers), default=0)
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for one, weight in zip(pool.servers, weights, strict=True):
        host, port = host_and_port(one, pool)
        socket = {"address": host, "port_value": port}
        entry: dict[str, Any] = {"endpoint": {"address": {"socket_address": socket}}}
        if weight != 1:
            entry["load_balancing_weight"] = max(weight, 1)
        if one.down:
            entry["health_status"] = "UNHEALTHY"
        if weight == 0:
            entry["health_status"] = "DRAINING"
            omitted.say("weight", "a weight of 0 is written as draining")
        if one.backup:
            omitted.say("backup", "backups are written as the last priority, to which requests overflow gradually")
        if one.max_inflight is not None:
            omitted.say("max_inflight", "limits are a whole cluster's: circuit_breakers")
        if one.max_fails not in (None, 0):
            omitted.say("max_fails", "see outlier_detection")
        groups.setdefault((last + 1 if one.backup else one.priority, one.zone), []).append(entry)
    endpoints = []
    priorities = sorted({priority for priority, _ in groups})
    if priorities != list(range(len(priorities))):
        omitted.say("priority", "priorities have no gaps: they are numbered anew")
    for (priority, zone), entries in groups.items():
        locality: dict[str, Any] = {}
        if zone:
            locality["locality"] = _locality(zone)
        if priorities.index(priority):
            locality["priority"] = priorities.index(priority)
        if pool.zone_weights is not None and zone in pool.zone_weights:
            share = pool.zone_weights[zone]
            if share != int(share):
                omitted.say("zone_weights", f"{share!r} is written as {math.ceil(share)}")
            locality["load_balancing_weight"] = math.ceil(share)
        endpoints.append({**locality, "lb_endpoints": entries})
    out: dict[str, Any] = {"cluster_name": pool.name, "endpoints": endpoints}
    if pool.overprovisioning_factor != 1.4:
        out["policy"] = {"overprovisioning_factor": round(pool.overprovisioning_factor * 100)}
    return out


def _locality(zone: str) -> dict[str, str]:
    parts = zone.split("/", 2)
    return {"zone": zone} if len(parts) == 1 else dict(zip(("region", "zone", "sub_zone"), parts, strict=False))


def _outliers(pool: PoolConfig, omitted: Omitted) -> dict[str, Any]:
    found = pool.outliers
    assert found is not None
    if found.flavour != "envoy":
        omitted.say("outliers", f"the rules of {found.flavour!r} are written as Envoy's")
    default = type(found)()
    out: dict[str, Any] = {}
    for name in (*OUTLIER_SECONDS, *OUTLIER_WHOLE, *OUTLIER_BOOL):
        value = getattr(found, name)
        if value == getattr(default, name):
            continue
        if name in OUTLIER_SECONDS:
            out[name] = duration(value)
        else:
            out[name] = 0 if value is None else value
    return out


def _health(check: HealthCheckConfig) -> dict[str, Any]:
    out: dict[str, Any] = {
        "timeout": duration(check.timeout),
        "interval": duration(check.interval),
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
    }
    out[f"{check.kind}_health_check"] = {"path": check.path or "/"} if check.kind == "http" else {}
    return out
