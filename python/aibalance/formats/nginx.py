"""nginx: `upstream` blocks are pools, `location` blocks with a `..._pass` are routes. Parsed by crossplane.

Source: nginx 1.31, ngx_http_upstream_module and its balancers, ngx_http_core_module.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from typing import Any

from .._core import SlowStart
from .._errors import ConfigError, FormatError
from ..routing import Rule
from ._fields import suggestion
from .model import PickerConfig, PoolConfig, Remark, Report, RouterConfig, ServerConfig, StickinessConfig

__all__ = ["read"]

LOCAL = "@local"
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}
PASSES = ("proxy", "grpc", "fastcgi", "uwsgi", "scgi")
PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}

# What stands in an upstream and decides nothing of ours.
IN_UPSTREAM = {
    "keepalive": "connections that are kept open are the caller's",
    "keepalive_requests": "connections that are kept open are the caller's",
    "keepalive_timeout": "connections that are kept open are the caller's",
    "keepalive_time": "connections that are kept open are the caller's",
    "zone": "memory that nginx's workers share: a pool is one process's",
    "resolver": "names are resolved by the caller",
    "resolver_timeout": "names are resolved by the caller",
    "ntlm": "connections that are kept open are the caller's",
    "queue": "who waits for a free server is the picker's queue's business: see picker.queue",
    "state": "where NGINX Plus keeps changes at run time",
    "#": "a comment",
}
METHODS = ("least_conn", "ip_hash", "hash", "random", "least_time")
NO_BACKUP = {"ip_hash", "hash", "random"}
SERVER = ("weight", "max_fails", "fail_timeout", "max_conns", "slow_start", "backup", "down")
SERVER_IGNORED = {
    "resolve": "names are resolved by the caller",
    "service": "names are resolved by the caller",
    "route": "the name of the server in a sticky route: sessions are not bound by it here",
}
# Reasons by what a directive begins with; anything else that nginx knows says nothing about where a request goes.
REASONS = {
    "ssl": "TLS is the proxy's",
    "proxy_ssl": "TLS is the proxy's",
    "listen": "sockets are the proxy's",
    "proxy_next_upstream": "retries are the caller's: see picker.attempts",
    "proxy_set_header": "headers that are sent on decide nothing",
    "proxy_http_version": "the protocol to the server decides nothing",
    "proxy_send_timeout": "a route has a connect and a read timeout",
    "include": "other files are not followed: name them too",
    "limit_": "limits of clients are the proxy's",
    "access_log": "logs decide nothing",
    "error_log": "logs decide nothing",
}


def read(text: str, source: str, report: Report) -> None:
    """Reads a configuration, whole or a part of one, into the report."""
    _Reader(source, report).run(_parse(text, source, report))


def _parse(text: str, source: str, report: Report) -> list[dict[str, Any]]:
    try:
        import crossplane
    except ImportError:
        raise FormatError(f"{source}: reading nginx needs the extra: pip install 'aibalance[nginx]'") from None
    handle, path = tempfile.mkstemp(suffix=".conf")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        # Without the check of contexts, because a file that is included has no http {} around it.
        found = crossplane.parse(path, single=True, strict=True, check_ctx=False, comments=False)
    except RecursionError:
        raise FormatError(f"{source}:1: blocks are nested too deeply") from None
    except Exception as error:
        # crossplane's lexer lets IndexError and the like through on broken quotes.
        raise FormatError(f"{source}:{text.count(chr(10)) + 1}: not nginx's: {error}") from None
    finally:
        os.unlink(path)
    for wrong in found["errors"]:
        said = str(wrong["error"]).split(" in " + path)[0].replace(path, source)
        name = re.match(r'unknown directive "(.*)"', said)
        if name:
            known = [*METHODS, *IN_UPSTREAM, *(f"{p}_pass" for p in PASSES), "server", "location", "upstream"]
            close = suggestion(name[1], known)
            said += f"; {close}" if close.startswith("did") else ""
        report.refused.append(Remark(f"{source}:{wrong.get('line') or 1}", "", said))
    parsed: list[dict[str, Any]] = found["config"][0]["parsed"] if found["config"] else []
    return _with_arguments(parsed, source, report)


# Directives that are nothing without an argument; crossplane does not ask where the context may be any.
NEED_ARGUMENTS = {"upstream", "location", "listen", "hash", "sticky", *(f"{p}_pass" for p in PASSES)}


def _with_arguments(blocks: list[dict[str, Any]], source: str, report: Report) -> list[dict[str, Any]]:
    kept = []
    for d in blocks:
        name = d["directive"]
        bare = not d["args"] and (name in NEED_ARGUMENTS or _is_timeout(d) or (name == "server" and "block" not in d))
        if bare or (name in ("upstream", "location") and d.get("block") is None):
            said = "an argument is needed" if bare else "a block is needed"
            report.refused.append(Remark(f"{source}:{d['line']}", name, said))
            continue
        if d.get("block"):
            d["block"] = _with_arguments(d["block"], source, report)
        kept.append(d)
    return kept


def seconds(value: str, *, whole: bool = False) -> float:
    """nginx's time: 30, 30s, 1m30s, 500ms. Raises ConfigError."""
    parts = re.findall(r"(\d+)(ms|[smhdwMy])?\s*", value)
    if not parts or "".join(n + u for n, u in parts) != re.sub(r"\s", "", value) or any(not u for _, u in parts[:-1]):
        raise ConfigError(f"{value!r} is not a time such as 30s or 1m30s")
    if whole and any(unit == "ms" for _, unit in parts):
        raise ConfigError(f"{value!r} is not allowed; whole seconds")
    found = sum(int(n) * 1000 * UNITS[unit or "s"] for n, unit in parts) / 1000
    if found > 2**31:
        raise ConfigError(f"{value!r} is not allowed; at most {2**31} seconds")
    return found


def _whole(value: str, low: int = 0) -> int:
    if not re.fullmatch(r"\d{1,9}", value) or int(value) < low:
        raise ConfigError(f"{value!r} is not allowed; a whole number of {low} or more")
    return int(value)


# A server: its block, its locations with their rules, and whether it is its port's default.
_Server = tuple[dict[str, Any], list[tuple[dict[str, Any], Rule]], bool]


class _Reader:
    def __init__(self, source: str, report: Report) -> None:
        self.source = source
        self.report = report
        self.upstreams: set[str] = set()
        self.ports: dict[str, list[_Server]] = {}

    def at(self, d: dict[str, Any]) -> str:
        return f"{self.source}:{d['line']}"

    def refuse(self, d: dict[str, Any], said: str, field: str = "") -> None:
        self.report.refused.append(Remark(self.at(d), field or d["directive"], said))

    def ignore(self, d: dict[str, Any], reason: str = "", field: str = "") -> None:
        name = d["directive"]
        if not reason:
            known = [k for k in REASONS if name.startswith(k)]
            reason = REASONS[max(known, key=len)] if known else "says nothing about where a request goes"
        self.report.ignored.append(Remark(self.at(d), field or name, reason))

    def approximate(self, d: dict[str, Any], reason: str, field: str = "") -> None:
        self.report.approximated.append(Remark(self.at(d), field or d["directive"], reason))

    def run(self, blocks: list[dict[str, Any]]) -> None:
        self.collect(blocks)
        self.context(blocks, {})
        for port, servers in self.ports.items():
            self.router(port, servers)

    def collect(self, blocks: list[dict[str, Any]]) -> None:
        for d in blocks:
            if d["directive"] == "upstream" and d.get("block") is not None and d["args"]:
                self.upstreams.add(d["args"][0])
            elif d["directive"] in ("http", "stream") and d.get("block"):
                self.collect(d["block"])

    def context(self, blocks: list[dict[str, Any]], inherited: dict[str, str], *, stream: bool = False) -> None:
        given = {**inherited, **_timeouts(blocks)}
        for d in blocks:
            name = d["directive"]
            if name == "upstream":
                if any(pool.name == d["args"][0] for pool in self.report.pools):
                    self.refuse(d, f"there is a second upstream {d['args'][0]!r}")
                    continue
                self.upstream(d)
            elif name in ("http", "stream"):
                self.context(d["block"], given, stream=name == "stream")
            elif name == "server" and stream:
                self.ignore(d, "a stream has no requests to route; its upstream is a pool")
            elif name == "server" and d.get("block") is not None:
                self.server(d, given)
            elif name == "server" or name in METHODS:
                self.refuse(d, "belongs into an upstream")
            elif name == "location":
                self.refuse(d, "belongs into a server")
            elif not _is_timeout(d):
                self.ignore(d)

    # Upstreams

    def upstream(self, block: dict[str, Any]) -> None:
        before = len(self.report.refused)
        servers: list[ServerConfig] = []
        picker, method = PickerConfig(), ""
        stickiness = None
        ramps: list[tuple[dict[str, Any], float]] = []
        for d in block["block"]:
            name = d["directive"]
            if name == "server" and "block" in d:
                self.refuse(d, "a server block belongs into http {}, not into an upstream")
            elif name == "server":
                self.report.guard(self.at(d), lambda d=d: servers.append(self.one(d, servers, ramps)))  # type: ignore[misc]
            elif name in METHODS:
                if method:
                    self.refuse(d, f"the method is {method} already; one of them is needed")
                method = name
                found = self.method(d)
                picker = found or picker
            elif name == "sticky":
                stickiness = self.sticky(d)
            elif name in IN_UPSTREAM:
                self.ignore(d, IN_UPSTREAM[name])
            else:
                self.refuse(d, f"is not known here; {suggestion(name, [*METHODS, 'server', 'sticky', *IN_UPSTREAM])}")
        if not servers and len(self.report.refused) == before:
            self.refuse(block, "no servers are inside", block["args"][0])
        if method in NO_BACKUP and any(one.backup for one in servers):
            self.refuse(block, f"{method} has no backup servers", block["args"][0])
        ramp = self.ramp(ramps, servers, method)
        if len(self.report.refused) == before:
            pool = PoolConfig(
                name=block["args"][0],
                servers=tuple(servers),
                picker=picker,
                slow_start=ramp,
                failover="backup",
                panic_threshold=0.0,
                stickiness=stickiness,
                where=self.at(block),
            )

            def add() -> None:
                pool.build()
                self.report.pools.append(pool)

            self.report.guard(self.at(block), add)

    def one(self, d: dict[str, Any], others: list[ServerConfig], ramps: list[tuple[dict[str, Any], float]]) -> Any:
        address = d["args"][0]
        given: dict[str, Any] = {"max_fails": 1, "fail_timeout": 10.0}
        if "$" in address:
            raise FormatError(f"{self.at(d)}: server: {address!r} is not allowed; a variable is known only to nginx")
        for arg in d["args"][1:]:
            name, eq, value = arg.partition("=")
            where = f"{self.at(d)}: server {name}"
            if name in SERVER_IGNORED:
                self.ignore(d, SERVER_IGNORED[name], f"server {name}")
                continue
            if name not in SERVER or bool(eq) != (name not in ("backup", "down")):
                raise FormatError(f"{where}: {arg!r} is not known; {suggestion(name, (*SERVER, *SERVER_IGNORED))}")
            try:
                if name in ("backup", "down"):
                    given[name] = True
                elif name == "slow_start":
                    ramps.append((d, seconds(value, whole=True)))
                elif name == "fail_timeout":
                    given[name] = seconds(value, whole=True)
                elif name == "max_conns":
                    # 0 is no limit.
                    given["max_inflight"] = _whole(value) or None
                else:
                    given[name] = _whole(value, 1 if name == "weight" else 0)
            except ConfigError as error:
                raise FormatError(f"{where}: {error}") from None
        same = sum(one.address == address for one in others)
        return ServerConfig(address=address, id=f"{address}#{same + 1}" if same else None, **given)

    def method(self, d: dict[str, Any]) -> PickerConfig | None:
        name, args = d["directive"], d["args"]
        if name == "least_conn":
            return PickerConfig(name="LeastConnections")
        if name == "ip_hash":
            return PickerConfig(name="IpHash", key="$remote_addr")
        if name == "hash":
            if len(args) == 2 and args[1] != "consistent":
                self.refuse(d, f"{args[1]!r} is not allowed; consistent, or nothing")
                return None
            if len(args) == 2:
                return PickerConfig(name="RingHash", options={"ring": "nginx"}, key=args[0])
            return PickerConfig(name="ModuloHash", key=args[0])
        if name == "least_time":
            if not args or args[0] not in ("header", "last_byte") or args[1:] not in ([], ["inflight"]):
                self.refuse(d, f"{' '.join(args)!r} is not allowed; header or last_byte")
                return None
            said = (
                f"{args[0]}: the time is that of first_token() where the caller tells it, or else of the whole answer"
            )
            if args[1:]:
                said += "; the age of running requests is not counted (inflight)"
            self.approximate(d, said)
            return PickerConfig(name="LeastTime", key=None)
        if not args:
            return PickerConfig(name="WeightedRandom")
        if args[0] == "two" and args[1:] in ([], ["least_conn"]):
            return PickerConfig(name="LeastRequest", options={"score": "before", "ties": "last_drawn"})
        self.refuse(d, f"{' '.join(args)!r} is not there; two, or two least_conn")
        return None

    def sticky(self, d: dict[str, Any]) -> StickinessConfig | None:
        kind = d["args"][0] if d["args"] else ""
        if kind != "cookie" or len(d["args"]) < 2:
            self.refuse(d, f"{kind!r} is not there; cookie, whose sessions aibalance.routing.Sticky keeps")
            return None
        age: float | None = None
        for arg in d["args"][2:]:
            name, _, value = arg.partition("=")
            if name == "expires" and value != "max":
                try:
                    age = seconds(value)
                except ConfigError as error:
                    self.refuse(d, str(error), "sticky expires")
            elif name == "expires":
                age = 10 * 31536000.0
            else:
                self.ignore(d, "attributes of the cookie decide nothing", f"sticky {name}")
        return StickinessConfig(cookie=d["args"][1], max_age=age, kind="nginx")

    def ramp(
        self, ramps: list[tuple[dict[str, Any], float]], servers: list[ServerConfig], method: str
    ) -> SlowStart | None:
        windows = {window for _, window in ramps}
        if not windows - {0.0}:
            return None
        d, window = ramps[0]
        if method in NO_BACKUP:
            self.refuse(d, f"{method} has no slow start", "server slow_start")
            return None
        if len(windows) > 1 or len(ramps) != len(servers):
            self.refuse(d, "a pool has one slow start: all servers need the same", "server slow_start")
            return None
        self.approximate(d, "NGINX Plus does not publish its ramp: a straight line from a tenth", "server slow_start")
        return SlowStart(window)

    # Servers and locations

    def server(self, block: dict[str, Any], inherited: dict[str, str]) -> None:
        listen = [d["args"] for d in block["block"] if d["directive"] == "listen"]
        ports: dict[str, bool] = {}
        for args in listen or [["80"]]:
            port = args[0] if args[0].startswith("unix:") else args[0].rsplit(":", 1)[-1]
            ports[port if port.isdigit() or port.startswith("unix:") else "80"] = "default_server" in args[1:]
        found = self.locations(block["block"], {**inherited, **_timeouts(block["block"])})
        for port, default in ports.items():
            self.ports.setdefault(port, []).append((block, found, default))

    def locations(self, blocks: list[dict[str, Any]], inherited: dict[str, str]) -> list[tuple[dict[str, Any], Rule]]:
        found: list[tuple[dict[str, Any], Rule]] = []
        whole = next((d for d in blocks if d["directive"] == "return"), None)
        for d in blocks:
            name = d["directive"]
            if name in ("rewrite", "if"):
                self.refuse(d, "changes the path before a location is looked for; write locations")
            elif name == "location" and d["args"][0].startswith("@"):
                self.ignore(d, "is reached by internal redirects only")
            elif name == "location" and whole is not None:
                self.ignore(d, f"the server returns in line {whole['line']}, whatever the path")
            elif name == "location":
                self.report.guard(self.at(d), lambda d=d: found.append((d, self.location(d, inherited))))  # type: ignore[misc]
            elif name == "return":
                self.ignore(d, f"the server answers by itself: requests end at {LOCAL!r}")
            elif name != "server_name" and not _is_timeout(d):
                self.ignore(d)
        return [(whole, Rule(location="/", to=LOCAL))] if whole is not None else found

    def router(self, port: str, servers: list[_Server]) -> None:
        first = next((i for i, one in enumerate(servers) if one[2]), 0)
        # The default server has its own hosts and all that no other has.
        placed: list[tuple[dict[str, Any], Rule]] = list(servers[first][1])
        for block, locations, _ in servers:
            told = [d for d in block["block"] if d["directive"] == "server_name"]
            if len(servers) == 1:
                for d in told:
                    self.ignore(d, "the only server of its port answers every host")
                continue
            names = [n for d in told for n in d["args"] if n not in ("", "_")]
            if any(n.startswith("~") for n in names):
                self.refuse(told[0], "an expression is not there; names, *.name or name.*")
            elif names:
                # A leading dot is the name and all below it.
                hosts = [h for n in names for h in ((n[1:], "*" + n) if n.startswith(".") else (n,))]
                placed += [(d, replace(rule, host=hosts)) for d, rule in locations]
        if not placed:
            return
        router = RouterConfig(name=f"listen {port}", rules=tuple(rule for _, rule in placed))
        try:
            router.build()
        except ConfigError as error:
            found = re.match(r"rules\[(\d+)\]", str(error))
            d = placed[int(found[1])][0] if found else placed[0][0]
            self.refuse(d, str(error).partition(": ")[2] or str(error), "location")
            return
        self.report.routers.append(router)

    def location(self, block: dict[str, Any], inherited: dict[str, str]) -> Rule:
        given = {**inherited, **_timeouts(block["block"])}
        to, kind = LOCAL, "proxy"
        for d in block["block"]:
            name = d["directive"]
            if name.endswith("_pass") and name.split("_")[0] in PASSES:
                kind = name.split("_")[0]
                to = self.target(d)
            elif name == "location":
                self.refuse(d, "a location in a location is not there; write it beside the other")
            elif name == "if" and any(one["directive"].endswith("_pass") for one in d["block"]):
                self.refuse(d, "a target that depends on a condition is not there; write locations")
            elif name == "rewrite" and d["args"][2:] not in (["break"],):
                self.refuse(d, "looks for another location; write locations, or break")
            elif not _is_timeout(d):
                self.ignore(d)
        if to == LOCAL:
            self.ignore(block, f"has no target: requests end at {LOCAL!r}")
        values: dict[str, Any] = {}
        for field, option in (("connect_timeout", "connect_timeout"), ("read_timeout", "read_timeout")):
            value = given.get(f"{kind}_{option}")
            if value is not None and to != LOCAL:
                try:
                    values[field] = seconds(value)
                except ConfigError as error:
                    raise FormatError(f"{self.at(block)}: {kind}_{option}: {error}") from None
        streaming = given.get(f"{kind}_buffering") == "off" and to != LOCAL
        return Rule(location=" ".join(block["args"]), to=to, streaming=streaming, **values)

    def target(self, d: dict[str, Any]) -> str:
        url = d["args"][0]
        if "$" in url:
            raise FormatError(
                f"{self.at(d)}: {d['directive']}: {url!r} is not allowed; a variable is known only to nginx"
            )
        scheme, sep, rest = url.partition("://")
        host = rest if sep else url
        if not host.startswith("unix:"):
            host, slash, uri = host.partition("/")
            if slash:
                self.ignore(d, f"/{uri}: what the path becomes for the server decides nothing", d["directive"])
        if not host:
            raise FormatError(f"{self.at(d)}: {d['directive']}: {url!r} is not allowed; a host is needed")
        if host not in self.upstreams and all(pool.name != host for pool in self.report.pools):
            port = "" if re.search(r":\d+$", host) or host.startswith("unix:") else f":{PORTS.get(scheme, 80)}"
            server = ServerConfig(address=host + port, max_fails=1, fail_timeout=10.0)
            self.report.pools.append(
                PoolConfig(name=host, servers=(server,), failover="backup", panic_threshold=0.0, where=self.at(d))
            )
        return str(host)


def _is_timeout(d: dict[str, Any]) -> bool:
    kind, _, option = d["directive"].partition("_")
    return kind in PASSES and option in ("connect_timeout", "read_timeout", "buffering")


def _timeouts(blocks: list[dict[str, Any]]) -> dict[str, str]:
    """Timeouts and buffering, which a block hands down to those in it."""
    return {d["directive"]: d["args"][0] for d in blocks if _is_timeout(d)}
