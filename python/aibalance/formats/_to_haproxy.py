"""Pools as HAProxy's backends."""

from __future__ import annotations

import re

from .._errors import ConfigError
from ._written import Omitted, cannot, is_ip, name_for, whole_weights
from .haproxy import FUNCTIONS
from .model import Imported, PoolConfig, Remark


def write(found: Imported) -> tuple[str, list[Remark]]:
    """Backends, and what they leave out."""
    remarks: list[Remark] = []
    parts: list[str] = []
    taken: set[str] = set()
    for pool in found.pools:
        omitted = Omitted(pool.name)
        parts.append("\n".join(_backend(pool, taken, omitted)))
        remarks += omitted.remarks
    for router in found.routers:
        remarks.append(Remark(router.name, "rules", "frontends are not written: their rules are use_backend"))
    for kind, things in (("groups", found.groups), ("policies", found.policies)):
        remarks += [Remark(one.name, kind, "HAProxy does not scale") for one in things]
    return "\n\n".join(parts) + "\n", remarks


def time(seconds: float) -> str:
    """Seconds as HAProxy writes them."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def _key(pool: PoolConfig, omitted: Omitted) -> str:
    key = pool.picker.key or ""
    if re.match(r"(uri|url_param|hdr|hash|source)\b", key):
        return key
    header = re.fullmatch(r"\$http_(\w+)", key)
    if header:
        return f"hdr({header[1].replace('_', '-')})"
    argument = re.fullmatch(r"\$arg_(\w+)", key)
    if argument:
        return f"url_param {argument[1]}"
    if key == "src" or "remote_addr" in key:
        return "source"
    if key not in ("$uri", "$request_uri"):
        omitted.say("key", f"{key or None!r} is not HAProxy's: uri is written, put in yours")
    return "uri"


def _balance(pool: PoolConfig, omitted: Omitted) -> list[str]:
    name, options = pool.picker.name, dict(pool.picker.options)

    def near(said: str) -> None:
        omitted.say("picker", f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())}): {said}")

    if name == "RoundRobin":
        words = {"fwrr": "roundrobin", "static-rr": "static-rr"}
        if options.get("schedule") not in words:
            near("the order of turns is HAProxy's own")
        return ["balance " + words.get(str(options.get("schedule")), "roundrobin")]
    if name == "LeastConnections" or (name == "LeastRequest" and options.get("full_scan")):
        if options.get("variant") != "haproxy":
            near("leastconn breaks ties by its own rule")
        return ["balance leastconn"]
    if name == "First":
        return ["balance first"]
    if name in ("WeightedRandom", "LeastRequest"):
        own = options.get("ring") == "haproxy"
        if not own:
            near("random draws on HAProxy's ring")
        draws = int(options.get("choices", 2 if own or name == "LeastRequest" else 1))
        return [f"balance random({draws})"]
    hashes = {"RingHash", "Maglev", "Rendezvous", "JumpHash", "MementoHash", "MultiProbeHash"}
    if name not in hashes | {"ModuloHash", "SourceHash", "IpHash"}:
        raise cannot("HAProxy", pool.picker, pool)
    source = name in ("SourceHash", "IpHash")
    consistent = name in hashes or options.get("ring") == "haproxy"
    own = (
        name == "SourceHash"
        or (name == "RingHash" and options.get("ring") == "haproxy")
        or (name == "ModuloHash" and options.get("variant") == "haproxy")
    )
    if not own:
        near("keys move once: the hash is HAProxy's own")
    out = ["balance " + ("source" if source else _key(pool, omitted))]
    function = str(options.get("hash", "")) if own else ""
    if function and function not in FUNCTIONS:
        raise ConfigError(
            f"{pool.name}: hash-type of HAProxy has no {function}; a converter of that name in balance hash"
        )
    avalanche = bool(own and options.get("avalanche"))
    if own and options.get("avalanche") is False:
        omitted.say("picker", "avalanche=False is written as the function's name")
    if consistent or function or avalanche:
        kind = "consistent" if consistent else "map-based"
        parts = [kind, function or ("sdbm" if avalanche else ""), "avalanche" if avalanche else ""]
        out.append("hash-type " + " ".join(word for word in parts if word))
    if "bounded_load" in options and consistent:
        out.append(f"hash-balance-factor {round(float(options['bounded_load']) * 100)}")
    return out


def _backend(pool: PoolConfig, taken: set[str], omitted: Omitted) -> list[str]:
    if not pool.servers:
        raise ConfigError(f"{pool.name}: a backend needs a server")
    name = name_for(pool.name, taken, r"[^\w.:-]")
    if name != pool.name:
        omitted.say("name", f"is written as {name}")
    lines = [f"backend {name}", "    mode http", *(f"    {line}" for line in _balance(pool, omitted))]
    if pool.failover == "backup":
        lines.append("    option allbackups")
    elif pool.failover != "first_backup" and any(one.backup or one.priority for one in pool.servers):
        omitted.say("failover", f"{pool.failover!r}: HAProxy uses its first backup when no other server is left")
    for field, value in (("connect", pool.connect_timeout), ("server", pool.read_timeout)):
        if value is not None:
            lines.append(f"    timeout {field} {time(value)}")
    health = pool.health
    if health is not None and health.kind == "http":
        lines.append(f"    option httpchk GET {health.path or '/'}")
    elif health is not None and health.kind != "tcp":
        omitted.say("health", f"a check by {health.kind} is written as one by tcp")
    if health is not None and health.timeout != health.interval:
        omitted.say("health", "the time for an answer is the interval")
    weights = whole_weights(pool.servers, 256, omitted)
    names: set[str] = set()
    for place, (one, weight) in enumerate(zip(pool.servers, weights, strict=True), 1):
        words = ["server", name_for(one.id or one.address, names, r"[^\w.:-]"), one.address]
        if isinstance(one.hash_key, int) and one.hash_key != place:
            words += ["id", str(one.hash_key)]
        elif isinstance(one.hash_key, str):
            omitted.say("hash_key", "places in hashes are those of numbers")
        if weight != 1:
            words += ["weight", str(weight)]
        if one.max_inflight is not None:
            words += ["maxconn", str(one.max_inflight)]
        if pool.slow_start is not None:
            if pool.slow_start.ramp != "haproxy":
                omitted.say("slow_start", "the ramp is HAProxy's own")
            words += ["slowstart", time(pool.slow_start.window)]
        if health is not None:
            words += ["check", "inter", time(health.interval)]
            words += ["rise", str(health.healthy_threshold), "fall", str(health.unhealthy_threshold)]
        if one.backup or one.priority:
            if one.priority and not one.backup:
                omitted.say("priority", "all priorities after the first are backups")
            words.append("backup")
        if one.down:
            words.append("disabled")
        if one.max_fails not in (None, 0):
            omitted.say("max_fails", "HAProxy puts servers out by checks only: see observe, on-error")
        if not is_ip(one.address.rpartition(":")[0].strip("[]")) and not one.address.startswith(
            ("/", "unix@", "abns@")
        ):
            # A name that cannot be looked up at once does not keep it from starting.
            words += ["init-addr", "last,libc,none"]
        lines.append("    " + " ".join(words))
    for field, given in (
        ("outliers", pool.outliers),
        ("zone_weights", pool.zone_weights),
        ("stickiness", pool.stickiness),
    ):
        if given is not None:
            omitted.say(field, "is not written")
    if any(one.zone for one in pool.servers):
        omitted.say("zone", "HAProxy knows no zones")
    if pool.panic_threshold:
        omitted.say("panic_threshold", "HAProxy has none: when no server is left, none is picked")
    return lines
