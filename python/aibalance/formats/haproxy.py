"""HAProxy: `backend` and `listen` sections are pools. No parser of it is kept anywhere, so the words are split here.

Source: the configuration manual of HAProxy 2.8, sections 2.2 (quoting), 4 and 5.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .._core import SlowStart
from .._errors import ConfigError, FormatError
from ._fields import suggestion
from .model import HealthCheckConfig, PickerConfig, PoolConfig, Remark, Report, ServerConfig

__all__ = ["read"]

SECTIONS = {
    "global": "how HAProxy runs decides nothing",
    "frontend": "frontends are the proxy's: only backends are read",
    **dict.fromkeys(
        ("userlist", "peers", "mailers", "resolvers", "ring", "cache", "program", "http-errors", "log-forward",
         "traces", "fcgi-app", "crt-store", "log-profile"),
        "decides nothing",
    ),
}  # fmt: skip
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
SCHEDULES = {"roundrobin": "fwrr", "static-rr": "static-rr"}
# What stands in a backend and decides nothing of ours: by what it begins with.
IGNORED = {
    "mode": "the protocol decides nothing",
    "option httpchk": "",
    "option": "how the proxy treats connections decides nothing",
    "timeout": "a pool has a connect and a read timeout",
    "http-request": "what the proxy does to requests decides nothing",
    "http-response": "what the proxy does to answers decides nothing",
    "http-after-response": "what the proxy does to answers decides nothing",
    "http-check": "how servers are asked is said where the checker is made",
    "tcp-check": "how servers are asked is said where the checker is made",
    "tcp-request": "what the proxy does to connections decides nothing",
    "tcp-response": "what the proxy does to connections decides nothing",
    "http-reuse": "connections are the caller's",
    "http-send-name-header": "headers that are sent on decide nothing",
    "errorfile": "answers of the proxy decide nothing",
    "errorloc": "answers of the proxy decide nothing",
    "log": "logs decide nothing",
    "retries": "retries are the caller's: see picker.attempts",
    "retry-on": "retries are the caller's: see picker.attempts",
    "fullconn": "the limits of servers do not move here: see dynamic_limit",
    "maxconn": "limits of clients are the proxy's",
    "description": "labels decide nothing",
    "id": "labels decide nothing",
    "bind": "sockets are the proxy's",
    "compression": "what the proxy does to answers decides nothing",
    "stats": "statistics decide nothing",
    "acl": "conditions are the frontend's",
    "cookie": "sessions: see aibalance.routing.StickyCookie",
    "source": "from where the proxy connects decides nothing",
    "load-server-state-from-file": "states are not kept",
    "filter": "filters decide nothing",
    "enabled": "it is read, so it is",
    "backlog": "sockets are the proxy's",
    "email-alert": "who is told decides nothing",
    "unique-id": "labels decide nothing",
    "capture": "logs decide nothing",
    "force-persist": "sessions: see aibalance.routing",
    "ignore-persist": "sessions: see aibalance.routing",
    "default_backend": "which pool it is is the frontend's",
    "monitor": "answers of the proxy decide nothing",
    "rate-limit": "limits of clients are the proxy's",
    "server-state-file-name": "states are not kept",
}
REFUSED = {
    "use-server": "a server by condition is not there",
    "stick": "sessions by table are not read: see aibalance.routing.StickyTable",
    "stick-table": "sessions by table are not read: see aibalance.routing.StickyTable",
    "server-template": "servers by template are not there; write them out",
    "disabled": "the section is switched off",
    "dispatch": "a backend has servers",
}
MAPPED = (
    "server", "default-server", "balance", "hash-type", "hash-balance-factor", "option allbackups", "timeout connect",
    "timeout server", "option httpchk",
)  # fmt: skip
# Parameters of a server: those with a value that are mapped, those without, and the rest with the number of values.
VALUES = ("weight", "maxconn", "slowstart", "id", "inter", "rise", "fall")
FLAGS = ("backup", "disabled", "check")
SERVER_IGNORED = {
    "no-check": 0, "cookie": 1, "port": 1, "addr": 1, "ssl": 0, "verify": 1, "ca-file": 1, "crt": 1, "sni": 1,
    "check-ssl": 0, "check-sni": 1, "alpn": 1, "check-alpn": 1, "proto": 1, "check-proto": 1, "send-proxy": 0,
    "send-proxy-v2": 0, "check-send-proxy": 0, "fastinter": 1, "downinter": 1, "on-error": 1, "on-marked-down": 1,
    "on-marked-up": 1, "observe": 1, "error-limit": 1, "resolvers": 1, "resolve-prefer": 1, "init-addr": 1, "source": 1,
    "track": 1, "maxqueue": 1, "minconn": 1, "pool-max-conn": 1, "pool-purge-delay": 1, "enabled": 0, "no-ssl": 0,
    "non-stick": 0, "redir": 1, "tfo": 0, "agent-check": 0, "agent-port": 1, "agent-inter": 1, "namespace": 1,
    "log-proto": 1, "ssl-min-ver": 1, "ssl-max-ver": 1, "verifyhost": 1, "hash-key": 1, "ws": 1, "usesrc": 1,
    "no-backup": 0, "no-disabled": 0,
}  # fmt: skip
SERVER_REFUSED = {
    "hash-key": "places a server by its address or name, which HAProxy 3 brought; leave it out, or give id",
    "track": "follows another server's health; give it checks",
    "agent-check": "an agent may change weights at any time; see pool.observe",
    "minconn": "makes the limit move; see dynamic_limit",
}
FUNCTIONS = ("sdbm", "djb2", "wt6", "crc32")


@dataclass(frozen=True)
class _Line:
    number: int
    words: list[str]


def read(text: str, source: str, report: Report) -> None:
    """Reads a configuration into the report."""
    sections: list[tuple[_Line, list[_Line]]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        words: list[str] = []
        report.guard(f"{source}:{number}", lambda w=words, r=raw: w.extend(_split(r)))  # type: ignore[misc]
        if not words:
            continue
        line = _Line(number, words)
        if words[0] in ("backend", "listen", "defaults", *SECTIONS):
            sections.append((line, []))
        elif not sections:
            close = suggestion(words[0], ["backend", "listen", "defaults", *SECTIONS])
            report.refused.append(Remark(f"{source}:{number}", words[0], f"no section has begun; {close}"))
        else:
            close = suggestion(words[0], ["backend", "listen", "defaults", *SECTIONS])
            if not raw[0].isspace() and close.startswith("did") and words[0] not in _first_words():
                report.refused.append(Remark(f"{source}:{number}", words[0], f"there is no such section; {close}"))
                sections.append((_Line(number, ["global"]), []))
            else:
                sections[-1][1].append(line)
    defaults: dict[str, list[_Line]] = {}
    last = ""
    for head, lines in sections:
        kind = head.words[0]
        where = f"{source}:{head.number}"
        name = head.words[1] if len(head.words) > 1 else ""
        if kind == "defaults":
            last = name or f"line {head.number}"
            defaults[last] = lines
        elif kind in SECTIONS:
            report.ignored.append(Remark(where, " ".join(head.words[:2]), SECTIONS[kind]))
        elif not name:
            report.refused.append(Remark(where, kind, "a name is needed"))
        elif any(pool.name == name for pool in report.pools):
            report.refused.append(Remark(where, kind, f"{name!r} is there twice"))
        else:
            base = head.words[3] if head.words[2:3] == ["from"] and len(head.words) > 3 else last
            reader = _Backend(source, name, head, report)
            report.guard(where, lambda r=reader, b=base, x=lines: r.read(defaults.get(b, []), x))  # type: ignore[misc]


def _first_words() -> set[str]:
    return {one.split()[0] for one in (*MAPPED, *IGNORED, *REFUSED)}


def _split(raw: str) -> list[str]:
    """Words of a line: quotes, backslashes and comments as in section 2.2 of the manual."""
    words: list[str] = []
    word, begun, quote = "", False, ""
    i = 0
    while i < len(raw):
        c = raw[i]
        if c == "\\" and quote != "'":
            if i + 1 == len(raw):
                raise ConfigError("a backslash at the end of the line")
            if quote == '"' and raw[i + 1] not in '\\"$':
                word += c
            word, begun, i = word + raw[i + 1], True, i + 2
            continue
        if quote:
            if c == quote:
                quote = ""
            else:
                word += c
        elif c in "'\"":
            quote, begun = c, True
        elif c == "#":
            break
        elif c.isspace():
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + c, True
        i += 1
    if quote:
        raise ConfigError(f"the quote {quote} is not closed")
    return [*words, word] if begun else words


def seconds(text: str, unit: str = "ms") -> float:
    """HAProxy's time: a whole number and a unit, milliseconds without. Raises ConfigError."""
    found = re.fullmatch(r"(\d{1,12})(us|ms|s|m|h|d)?", text, re.ASCII)
    if not found:
        raise ConfigError(f"{text!r} is not a time such as 500ms or 10s")
    return int(found[1]) * 1000 * UNITS[found[2] or unit] / 1000


class _Backend:
    def __init__(self, source: str, name: str, head: _Line, report: Report) -> None:
        self.source = source
        self.name = name
        self.head = head
        self.report = report
        self.balance: _Line | None = None
        self.hash_type: list[str] = []
        self.factor: float | None = None
        self.allbackups = False
        self.timeouts: dict[str, float] = {}
        self.httpchk: list[str] | None = None
        self.base: list[str] = []
        self.servers: list[ServerConfig] = []
        self.ids: set[int] = set()
        self.ramps: list[float] = []
        self.check: dict[str, Any] = {}

    def fail(self, line: _Line, field: str, said: str) -> FormatError:
        return FormatError(f"{self.source}:{line.number}: {field}: {said}")

    def ignore(self, line: _Line, field: str, reason: str) -> None:
        remark = Remark(f"{self.source}:{line.number}", field, reason)
        if remark not in self.report.ignored:
            self.report.ignored.append(remark)

    def read(self, defaults: list[_Line], lines: list[_Line]) -> None:
        before = len(self.report.refused)
        for line in (*defaults, *lines):
            where = f"{self.source}:{line.number}"
            self.report.guard(where, lambda x=line: self.line(x))  # type: ignore[misc]
        if not self.servers and len(self.report.refused) == before:
            raise self.fail(self.head, self.name, "no servers are inside")
        if len(self.report.refused) > before:
            return
        pool = PoolConfig(
            name=self.name,
            servers=tuple(self.servers),
            picker=self.picker(),
            slow_start=self.ramp(),
            failover="backup" if self.allbackups else "first_backup",
            panic_threshold=0.0,
            connect_timeout=self.timeouts.get("connect"),
            read_timeout=self.timeouts.get("server"),
            health=self.health(),
            where=f"{self.source}:{self.head.number}",
        )
        try:
            pool.build()
        except ConfigError as error:
            raise self.fail(self.head, self.name, str(error)) from None
        self.report.pools.append(pool)

    def line(self, line: _Line) -> None:
        words = line.words
        if words[0] == "no":
            self.ignore(line, " ".join(words[:3]), "what is switched off decides nothing")
            return
        two = " ".join(words[:2])
        if words[0] == "server":
            self.server(line)
        elif words[0] == "default-server":
            self.base += words[1:]
            self.parameters(line, words[1:], {})
        elif words[0] == "balance":
            self.balance = line
        elif words[0] == "hash-type":
            self.hash_type = words[1:]
            if words[1:2] not in (["map-based"], ["consistent"]):
                raise self.fail(line, "hash-type", f"{' '.join(words[1:])!r} is not allowed; map-based or consistent")
            if len(words) > 2 and words[2] not in FUNCTIONS:
                raise self.fail(line, "hash-type", f"{words[2]!r} is not there; one of {', '.join(FUNCTIONS)}")
            if words[3:] not in ([], ["avalanche"]):
                raise self.fail(line, "hash-type", f"{' '.join(words[3:])!r} is not allowed; avalanche")
        elif words[0] == "hash-balance-factor":
            factor = self.whole(line, "hash-balance-factor", words[1:], 0, 65535)
            if 0 < factor < 100:
                raise self.fail(line, "hash-balance-factor", f"{factor} is not allowed; 0, or 100 or more")
            self.factor = factor / 100 or None
        elif two == "option allbackups":
            self.allbackups = True
        elif two in ("timeout connect", "timeout server"):
            if len(words) != 3:
                raise self.fail(line, two, "a time is needed")
            self.timeouts[words[1]] = self.time(line, two, words[2])
        elif two == "option httpchk":
            self.httpchk = words[2:]
        else:
            known = [k for k in IGNORED if two == k or words[0] == k or two.startswith(k)]
            if words[0] in REFUSED:
                raise self.fail(line, words[0], REFUSED[words[0]])
            if not known:
                close = suggestion(words[0], _first_words())
                raise self.fail(line, words[0], f"is not known here; {close}")
            self.ignore(line, two, IGNORED[max(known, key=len)])

    def time(self, line: _Line, field: str, text: str, unit: str = "ms") -> float:
        try:
            return seconds(text, unit)
        except ConfigError as error:
            raise self.fail(line, field, str(error)) from None

    def whole(self, line: _Line, field: str, words: list[str], low: int, high: int) -> int:
        if not words or not re.fullmatch(r"\d{1,10}", words[0], re.ASCII) or not low <= int(words[0]) <= high:
            raise self.fail(line, field, f"{' '.join(words[:1])!r} is not allowed; a whole number from {low} to {high}")
        return int(words[0])

    def parameters(self, line: _Line, words: list[str], into: dict[str, Any]) -> None:
        i = 0
        while i < len(words):
            word, rest = words[i], words[i + 1 :]
            field = f"server {word}"
            if word in SERVER_REFUSED:
                raise self.fail(line, field, SERVER_REFUSED[word])
            if word in VALUES:
                if not rest:
                    raise self.fail(line, field, "a value is needed")
                if word == "slowstart":
                    into[word] = self.time(line, field, rest[0], "ms")
                elif word == "inter":
                    into[word] = self.time(line, field, rest[0])
                else:
                    low = 1 if word in ("id", "rise", "fall") else 0
                    into[word] = self.whole(line, field, rest, low, 256 if word == "weight" else 2**31 - 1)
                i += 2
            elif word in FLAGS:
                into[word] = True
                i += 1
            elif word in SERVER_IGNORED:
                self.ignore(line, field, "connections and checks are said where they are made")
                i += 1 + SERVER_IGNORED[word]
                if i > len(words):
                    raise self.fail(line, field, "a value is needed")
            else:
                close = suggestion(word, (*VALUES, *FLAGS, *SERVER_IGNORED))
                raise self.fail(line, field, f"is not known; {close}")

    def server(self, line: _Line) -> None:
        if len(line.words) < 3:
            raise self.fail(line, "server", "a name and an address are needed")
        name, address = line.words[1:3]
        if any(one.id == name for one in self.servers):
            raise self.fail(line, "server", f"{name!r} is there twice")
        given: dict[str, Any] = {}
        self.parameters(line, [*self.base, *line.words[3:]], given)
        # Servers are numbered by their places, where they have no number.
        number = given.get("id", len(self.servers) + 1)
        if number in self.ids:
            raise self.fail(line, "server id", f"{number} is another server's")
        self.ids.add(number)
        if given.get("slowstart"):
            self.ramps.append(given["slowstart"])
        if given.get("check"):
            self.check = {k: given[k] for k in ("inter", "rise", "fall") if k in given} | {"check": True}
        self.servers.append(
            ServerConfig(
                address=address,
                id=name,
                weight=given.get("weight", 1),
                backup=given.get("backup", False),
                down=given.get("disabled", False),
                max_inflight=given.get("maxconn") or None,
                hash_key=number,
            )
        )

    def picker(self) -> PickerConfig:
        line = self.balance
        words = line.words[1:] if line is not None else ["roundrobin"]
        at = line or self.head
        kind, _, argument = (words[0] if words else "").partition("(")
        consistent = self.hash_type[:1] == ["consistent"]
        options: dict[str, Any] = {}
        if kind in SCHEDULES:
            return PickerConfig(options={"schedule": SCHEDULES[kind]})
        if kind == "leastconn":
            return PickerConfig(name="LeastConnections", options={"variant": "haproxy"})
        if kind == "first":
            return PickerConfig(name="First")
        if kind == "random":
            draws = argument.removesuffix(")")
            options["choices"] = self.whole(at, "balance random", [draws], 1, 65535) if draws else 2
            return PickerConfig(name="WeightedRandom", options={"ring": "haproxy", **options})
        if consistent and self.factor is not None:
            options["bounded_load"] = self.factor
        elif self.factor is not None:
            self.ignore(at, "hash-balance-factor", "counts with hash-type consistent only")
        if self.hash_type[2:] == ["avalanche"]:
            options["avalanche"] = True
        if kind == "source":
            if consistent:
                options["ring"] = "haproxy"
            return PickerConfig(name="SourceHash", options=options, key="src")
        if kind in ("uri", "url_param", "hdr", "hash"):
            if kind == "uri" and len(words) > 1:
                raise self.fail(
                    at, "balance uri", f"{' '.join(words[1:])!r}: parts of it are not cut here; give the key"
                )
            key = " ".join(words)
            if len(self.hash_type) > 1:
                options["hash"] = self.hash_type[1]
            if consistent:
                return PickerConfig(name="RingHash", options={"ring": "haproxy", **options}, key=key)
            return PickerConfig(name="ModuloHash", options={"variant": "haproxy", **options}, key=key)
        known = ["roundrobin", "static-rr", "leastconn", "first", "source", "uri", "url_param", "hdr", "random", "hash"]
        raise self.fail(at, "balance", f"{' '.join(words)!r} is not there; {suggestion(kind, known)}")

    def ramp(self) -> SlowStart | None:
        if not self.ramps:
            return None
        if len(set(self.ramps)) > 1 or len(self.ramps) != len(self.servers):
            raise self.fail(self.head, "server slowstart", "a pool has one slow start: all servers need the same")
        try:
            return SlowStart(self.ramps[0], ramp="haproxy")
        except ConfigError as error:
            raise self.fail(self.head, "server slowstart", str(error)) from None

    def health(self) -> HealthCheckConfig | None:
        if not self.check:
            return None
        path = None
        if self.httpchk is not None:
            path = self.httpchk[1] if len(self.httpchk) > 1 else self.httpchk[0] if self.httpchk else "/"
        inter = self.check.get("inter", 2.0)
        return HealthCheckConfig(
            kind="tcp" if self.httpchk is None else "http",
            path=path,
            interval=inter,
            timeout=inter,
            healthy_threshold=self.check.get("rise", 2),
            unhealthy_threshold=self.check.get("fall", 3),
        )
