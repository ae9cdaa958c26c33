"""Pools as nginx's upstreams, routers as its servers and locations."""

from __future__ import annotations

import re
from typing import Any

from .._errors import ConfigError, FormatError
from ..routing import Rule
from ._written import Omitted, cannot, whole_weights
from .model import Imported, PoolConfig, Remark, RouterConfig
from .nginx import LOCAL, NO_BACKUP

Directive = dict[str, Any]


def write(found: Imported, *, plus: bool = False) -> tuple[str, list[Remark]]:
    """A whole configuration, and what it leaves out."""
    try:
        import crossplane
    except ImportError:
        raise FormatError("nginx: writing it needs the extra: pip install 'aibalance[nginx]'") from None
    remarks: list[Remark] = []
    blocks: list[Directive] = []
    for pool in found.pools:
        omitted = Omitted(pool.name)
        blocks.append(_upstream(pool, omitted, plus=plus))
        remarks += omitted.remarks
    pools = {pool.name for pool in found.pools}
    for router in found.routers:
        omitted = Omitted(router.name)
        blocks += _servers(router, pools, omitted)
        remarks += omitted.remarks
    for kind, things in (("groups", found.groups), ("policies", found.policies)):
        remarks += [Remark(one.name, kind, "nginx does not scale") for one in things]
    payload = [_d("events", block=[]), _d("http", block=blocks)]
    text = crossplane.build(payload, indent=4)
    return text.rstrip() + "\n", remarks


def _d(directive: str, *args: object, block: list[Directive] | None = None) -> Directive:
    out: Directive = {"directive": directive, "args": [str(one) for one in args], "line": 1}
    if block is not None:
        out["block"] = block
    return out


def time(seconds: float) -> str:
    """Seconds as nginx writes them."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def _key(pool: PoolConfig, omitted: Omitted) -> str:
    key = pool.picker.key or ("src" if pool.picker.name == "SourceHash" else "")
    if "$" in key:
        return key
    header = re.fullmatch(r"hdr\(([\w-]+)\)", key)
    if header:
        return "$http_" + header[1].lower().replace("-", "_")
    parameter = re.fullmatch(r"url_param (\w+)", key)
    if parameter:
        return "$arg_" + parameter[1]
    if key in ("src", "source"):
        return "$remote_addr"
    if key == "uri":
        return "$uri"
    omitted.say("key", f"{key or None!r} is not nginx's: $request_uri is written, put in yours")
    return "$request_uri"


def _method(pool: PoolConfig, omitted: Omitted) -> list[Directive]:
    name, options = pool.picker.name, dict(pool.picker.options)

    def near(said: str, exactly: dict[str, Any] | None = None) -> None:
        if exactly is None or options != exactly:
            omitted.say("picker", f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())}): {said}")

    if name == "RoundRobin":
        if options.get("schedule", "smooth") != "smooth" or "start" in options:
            near("the order of turns is nginx's own")
        return []
    if name == "LeastConnections":
        if options.get("variant", "nginx") != "nginx":
            near("least_conn breaks ties by its own rule")
        return [_d("least_conn")]
    if name == "LeastRequest" and options.get("full_scan"):
        near("least_conn is near")
        return [_d("least_conn")]
    if name == "LeastRequest":
        near("random two least_conn is near", {"score": "before", "ties": "last_drawn"})
        return [_d("random", "two", "least_conn")]
    if name == "WeightedRandom":
        near("random is near", {})
        return [_d("random")]
    if name == "IpHash":
        return [_d("ip_hash")]
    if name == "LeastTime":
        return [_d("least_time", "header")]
    if name in ("ModuloHash", "SourceHash") and not options.get("ring"):
        if name != "ModuloHash" or options.get("variant", "nginx") != "nginx":
            near("keys move once: the hash is nginx's own")
        return [_d("hash", _key(pool, omitted))]
    if name in ("RingHash", "Maglev", "Rendezvous", "SourceHash", "JumpHash", "MementoHash", "MultiProbeHash"):
        near("keys move once: the ring is nginx's own", {"ring": "nginx"} if name == "RingHash" else None)
        return [_d("hash", _key(pool, omitted), "consistent")]
    raise cannot("nginx", pool.picker, pool)


def _upstream(pool: PoolConfig, omitted: Omitted, *, plus: bool) -> Directive:
    if not pool.servers:
        raise ConfigError(f"{pool.name}: an upstream needs a server")
    block = _method(pool, omitted)
    method = block[0]["directive"] if block else ""
    weights = whole_weights(pool.servers, 1_000_000, omitted)
    for one, weight in zip(pool.servers, weights, strict=True):
        args: list[str] = []
        if weight > 1:
            args.append(f"weight={weight}")
        fails = one.max_fails if one.max_fails is not None else 0 if one.fail_timeout is None else 1
        if fails != 1:
            args.append(f"max_fails={fails}")
        if one.fail_timeout not in (None, 10):
            args.append(f"fail_timeout={time(one.fail_timeout or 0.0)}")
        if one.max_inflight is not None:
            args.append(f"max_conns={one.max_inflight}")
        if one.backup or one.priority:
            if method in NO_BACKUP:
                raise ConfigError(f"{pool.name}: {method} of nginx has no backup servers, {one.address!r} is one")
            if one.priority and not one.backup:
                omitted.say("priority", "all priorities after the first are backups")
            args.append("backup")
        if one.down or weight == 0:
            if weight == 0:
                omitted.say("weight", "a weight of 0 is written as down")
            args.append("down")
        if pool.slow_start is not None and plus:
            args.append(f"slow_start={time(pool.slow_start.window)}")
        block.append(_d("server", one.address, *args))
    if pool.slow_start is not None and not plus:
        omitted.say("slow_start", "is NGINX Plus's: ask for it by plus=True, --plus")
    if pool.stickiness is not None:
        age = pool.stickiness.max_age
        if plus:
            expires = [] if age is None else [f"expires={time(age)}"]
            block.append(_d("sticky", "cookie", pool.stickiness.cookie, *expires))
        else:
            omitted.say("stickiness", "is NGINX Plus's: ask for it by plus=True, --plus")
    for field, value in (("health", pool.health), ("outliers", pool.outliers), ("zone_weights", pool.zone_weights)):
        if value is not None:
            omitted.say(field, "is not there; max_fails is")
    if any(one.zone for one in pool.servers):
        omitted.say("zone", "nginx knows no zones")
    if pool.panic_threshold:
        omitted.say("panic_threshold", "nginx has none: when no server is left, none is picked")
    if pool.failover != "backup" and any(one.backup or one.priority for one in pool.servers):
        omitted.say("failover", f"{pool.failover!r}: nginx uses backups when no other server is left")
    if pool.connect_timeout is not None or pool.read_timeout is not None:
        omitted.say("timeouts", "stand in a location")
    return _d("upstream", pool.name, block=block)


def _servers(router: RouterConfig, pools: set[str], omitted: Omitted) -> list[Directive]:
    found = re.fullmatch(r"listen (\S+)", router.name)
    port = found[1] if found else "80"
    patterns = any(rule.location is None for rule in router.rules)
    hosts: dict[tuple[str, ...], list[Directive]] = {}
    for rule in sorted(router.rules, key=_order) if patterns else router.rules:
        host = () if rule.host is None else (rule.host,) if isinstance(rule.host, str) else tuple(rule.host)
        for location in [rule.location] if rule.location is not None else _locations(rule, omitted):
            hosts.setdefault(host, []).append(_location(str(location), rule, pools, omitted))
    out: list[Directive] = []
    for host, locations in sorted(hosts.items(), key=lambda item: item[0] != ()):
        block = [_d("listen", port, *(["default_server"] if not host and len(hosts) > 1 else []))]
        if host:
            block.append(_d("server_name", *host))
        out.append(_d("server", block=[*block, *locations]))
    return out


def _order(rule: Rule) -> int:
    return 2**31 if rule.priority == "default" else 2**30 if rule.priority is None else int(rule.priority)


def _locations(rule: Rule, omitted: Omitted) -> list[str]:
    for field in ("headers", "method", "query"):
        if getattr(rule, field) is not None:
            raise ConfigError(f"{omitted.name}: a location of nginx sees the path only, not {field}")
    if rule.path is None:
        return ["/"]
    paths = [rule.path] if isinstance(rule.path, str) else list(rule.path)
    # Expressions are asked in order, as the rules of an ALB are; prefixes are not.
    omitted.say("path", "nginx compares the path after decoding it, an ALB as it was sent")
    return ["~ ^" + re.escape(path).replace(r"\*", ".*").replace(r"\?", ".") + "$" for path in paths]


def _location(location: str, rule: Rule, pools: set[str], omitted: Omitted) -> Directive:
    if not isinstance(rule.to, str):
        raise ConfigError(f"{omitted.name}: targets by weight are split_clients in nginx, which is not written")
    modifier, _, path = location.partition(" ") if location[:1] in "=~^" else ("", "", location)
    block: list[Directive] = []
    if rule.to == LOCAL:
        block.append(_d("return", 404))
        omitted.say("@local", f"{location}: what it answered is not known: 404 is written")
    else:
        if rule.to not in pools:
            raise ConfigError(f"{omitted.name}: the pool {rule.to!r} is not there")
        block.append(_d("proxy_pass", f"http://{rule.to}"))
        for field, value in (("connect", rule.connect_timeout), ("read", rule.read_timeout)):
            if value is not None:
                block.append(_d(f"proxy_{field}_timeout", time(value)))
        if rule.streaming:
            block.append(_d("proxy_buffering", "off"))
    return _d("location", *([modifier] if modifier else []), path.strip(), block=block)
