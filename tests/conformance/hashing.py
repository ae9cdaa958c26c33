"""What the hashes of nginx, HAProxy, Caddy, Traefik and Envoy decided, asked again of aibalance.

The adapters translate configurations and requests, and decide nothing. A server that is down is an endpoint that is
unhealthy: each picker has its system's own rule for whether it keeps its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import aibalance

from . import balance
from .model import Result
from .proxies import Decider, Door, _decide, _envoy_picker, _picks
from .recording import Record, UnreadableError, cases

ALWAYS = 0.0  # panic_threshold: these systems never send work to a server that is down


def _pool(endpoints: Sequence[aibalance.Endpoint], down: Sequence[int]) -> aibalance.Pool:
    pool = aibalance.Pool(endpoints, panic_threshold=ALWAYS)
    for i in down:
        pool.set_health(endpoints[i].id, "unhealthy")
    return pool


def _whole(where: str, name: str, text: str | None) -> int:
    if text is None or not text.isdecimal():
        raise UnreadableError(f"{where}: {name}: expected a whole number, got {text!r}")
    return int(text)


def _ask(picker: Any, keys: Sequence[Any], door: Door, same: Sequence[int] | None = None) -> Sequence[Any]:
    """One decision a key; `same[i]` is the index that a recording shows for server i."""
    got = Decider(picker, door).keyed(keys)
    return got if same is None else [same[i] if isinstance(i, int) else i for i in got]


# nginx


def _nginx(document: dict[str, Any], door: Door, keys: str, make: Any) -> Result:
    result = Result()
    common = Record("file", document)
    for case in cases(document):
        expected = case.items("picks", int)
        asked = (case if keys in case else common).items(keys, str)
        if len(expected) > len(asked):
            raise UnreadableError(f"{case.where}: picks: {len(expected)} picks for {len(asked)} keys")
        endpoints, down, names = [], [], []
        translated = True
        for i, line in enumerate(case.items("servers", str)):
            name, *words = line.split() or [""]
            if not name:
                raise UnreadableError(f"{case.where}: servers[{i}]: expected an address, got {line!r}")
            options = dict(word.partition("=")[::2] for word in words)
            translated &= not options.keys() - {"weight", "down", "max_fails", "fail_timeout"}
            weight = _whole(case.where, f"servers[{i}]: weight", options.get("weight", "1"))
            endpoints.append(aibalance.Endpoint(name, id=f"{i} {name}", weight=weight))
            names.append(name)
            if "down" in options:
                down.append(i)
        if not translated:
            result.unsupported += len(expected)
            continue
        # The address of a server is all that was recorded: of one listed twice it shows the first.
        same = [names.index(name) for name in names]
        ask = partial(_ask, make(_pool(endpoints, down)), asked[: len(expected)], door, same)
        _decide(result, case.where, expected, ask)
    return result


def nginx_hash(document: dict[str, Any], door: Door = "pick") -> Result:
    """`hash $key`."""
    return _nginx(document, door, "keys", lambda pool: aibalance.ModuloHash(pool, variant="nginx"))


def nginx_hash_consistent(document: dict[str, Any], door: Door = "pick") -> Result:
    """`hash $key consistent`."""
    return _nginx(document, door, "keys", lambda pool: aibalance.RingHash(pool, ring="nginx"))


def nginx_ip_hash(document: dict[str, Any], door: Door = "pick") -> Result:
    """`ip_hash`: the client's address is the key."""
    return _nginx(document, door, "ips", aibalance.IpHash)


# HAProxy

FUNCTIONS = {"sdbm", "djb2", "wt6", "crc32"}
CONVERTERS = {"xxh32", "xxh64", "xxh3"}


class Backend:
    """A backend of a recorded configuration; `known` is false where a word of it is not translated."""

    def __init__(self, case: Record) -> None:
        self.known = True
        self.all_backups = False
        self.balance: list[str] = []
        self.converter: str | None = None
        self.options: dict[str, Any] = {}
        self.consistent = False
        for line in case.items("lines", str):
            word, *rest = line.split()
            if word == "balance":
                self.balance = rest
                self._balance(rest)
            elif word == "hash-type":
                self.consistent = rest[:1] == ["consistent"]
                self.known &= self.consistent or rest[:1] == ["map-based"]
                named = [w for w in rest[1:] if w != "avalanche"]
                self.known &= set(named) <= FUNCTIONS and len(named) < 2
                if named:
                    self.options["hash"] = named[0]
                if len(rest) > 1:
                    self.options["avalanche"] = "avalanche" in rest
            elif word == "option" and rest == ["allbackups"]:
                self.all_backups = True
            elif word == "hash-balance-factor":
                percent = _whole(case.where, word, rest[0] if rest else None)
                if percent:
                    self.options["bounded_load"] = percent / 100
            else:
                self.known = False
        # The converters are followed by the hash function that needs no name.
        self.known &= self.converter is None or "hash" not in self.options
        self._servers(case)

    def _balance(self, words: list[str]) -> None:
        if words[:1] == ["hash"]:
            converter = words[1].rpartition(",")[2] if len(words) > 1 else ""
            self.known &= converter in CONVERTERS
            self.converter = converter
        else:
            self.known &= words[:1] in (["hdr(x-key)"], ["url_param"], ["uri"], ["source"])

    def _servers(self, case: Record) -> None:
        self.endpoints: list[aibalance.Endpoint] = []
        self.down: list[int] = []
        backups: list[int] = []
        for i, line in enumerate(case.items("servers", str)):
            name, _address, *words = line.split()
            flags = {w for w in words if w in ("disabled", "backup")}
            values = [w for w in words if w not in flags]
            given = dict(zip(values[::2], values[1::2], strict=False))
            self.known &= not given.keys() - {"weight", "id"} and len(values) % 2 == 0
            self.endpoints.append(
                aibalance.Endpoint(
                    name,
                    id=f"{i} {name}",
                    weight=_whole(case.where, "weight", given.get("weight", "1")),
                    backup="backup" in flags,
                    # Servers are numbered from 1 where no id is given.
                    hash_key=_whole(case.where, "id", given.get("id", str(i + 1))),
                )
            )
            if "disabled" in flags:
                self.down.append(i)
            elif "backup" in flags:
                backups.append(i)
        # Without `option allbackups` only the first backup that is up is used.
        if not self.all_backups:
            self.down += backups[1:]

    def picker(self) -> Any:
        pool = _pool(self.endpoints, self.down)
        options = dict(self.options)
        if self.balance[:1] == ["source"]:
            options.pop("hash", None)  # it has no effect on addresses
            return aibalance.SourceHash(pool, ring="haproxy" if self.consistent else None, **options)
        if self.converter is not None:
            options["hash"] = self.converter
        if self.consistent:
            return aibalance.RingHash(pool, ring="haproxy", **options)
        return aibalance.ModuloHash(pool, variant="haproxy", **options)

    def key(self, key: str) -> str:
        """What of the request is hashed: GET /a/b/<key>?x=<key> for uri, else the key itself."""
        if self.balance[:1] != ["uri"]:
            return key
        words = self.balance[1:]
        uri = f"/a/b/{key}?x={key}"
        if "len" in words:
            uri = uri[: int(words[words.index("len") + 1])]
        if "whole" not in words:
            uri = uri.partition("?")[0]
        if "depth" in words:
            uri = "/".join(uri.split("/")[: int(words[words.index("depth") + 1]) + 1])
        return uri


def _haproxy(document: dict[str, Any], door: Door, keys: str) -> Result:
    result = Result()
    asked = Record("file", document).items(keys, str)
    for case in cases(document):
        expected = _picks(case, "picks", asked)
        backend = Backend(case)
        if not backend.known:
            result.unsupported += len(expected)
            continue
        values = [backend.key(key) for key in asked[: len(expected)]]
        _decide(result, case.where, expected, partial(_ask, backend.picker(), values, door))
    return result


def haproxy_hash(document: dict[str, Any], door: Door = "pick") -> Result:
    """`hash-type map-based` and `consistent` with every function."""
    return _haproxy(document, door, "keys")


def haproxy_source(document: dict[str, Any], door: Door = "pick") -> Result:
    """`balance source`: the client's address is the key."""
    return _haproxy(document, door, "ips")


# Requests that stay open


def _script(result: Result, case: Record, picker: Any) -> None:
    """Opens with a key and the server that each got, and ends of the k-th request that is open."""
    index = {e: i for i, e in enumerate(picker.pool.endpoints)}
    leases: list[aibalance.Lease] = []
    for i, op in enumerate(case.items("ops", list)):
        if op[:1] == ["end"]:
            leases.pop(op[1]).release()
            continue
        key, expected = op
        lease = picker.acquire(key)
        leases.append(lease)
        result.check(f"{case.where}, op {i}", expected, index[lease.endpoint])


def haproxy_bounded_load(document: dict[str, Any]) -> Result:
    """`hash-balance-factor` on the consistent hash, with requests that stay open."""
    result = Result()
    for case in cases(document):
        backend = Backend(case)
        if backend.known:
            _script(result, case, backend.picker())
        else:
            result.unsupported += sum(1 for op in case.items("ops", list) if op[:1] != ["end"])
    return result


def envoy_bounded_load(document: dict[str, Any]) -> Result:
    """`hash_balance_factor` on ring and Maglev table, with requests that stay open."""
    result = Result()
    for case in cases(document):
        _script(result, case, _envoy_picker(case))
    return result


# Caddy and Traefik

CADDY = {"header": "{}", "uri_hash": "/p/{}?q=1", "query": "{}", "client_ip_hash": "{}", "ip_hash": "{}"}


def caddy_hash(document: dict[str, Any], door: Door = "pick") -> Result:
    """The rendezvous policies: by header, URI, query value or address."""
    result = Result()
    common = Record("file", document)
    for case in cases(document):
        policy = case.record("selection_policy").text("policy")
        keys = common.items(case.text("by"), str)
        expected = _picks(case, "picks", keys)
        if policy not in CADDY:
            result.unsupported += len(expected)
            continue
        values = [CADDY[policy].format(key) for key in keys[: len(expected)]]
        endpoints = [
            aibalance.Endpoint(address, id=f"{i} {address}") for i, address in enumerate(case.items("endpoints", str))
        ]
        picker = aibalance.Rendezvous(aibalance.Pool(endpoints), variant="caddy")
        _decide(result, case.where, expected, partial(_ask, picker, values, door))
    return result


def traefik_hrw(document: dict[str, Any], door: Door = "pick") -> Result:
    """`strategy: hrw`: the client's address and the server's URL."""
    result = Result()
    keys = Record("file", document).items("source_ips", str)
    for case in cases(document):
        expected = _picks(case, "picks", keys)
        addresses = case.items("endpoints", str)
        weights = case.items("weights", int, float) if case.has("weights") else [1] * len(addresses)
        endpoints = [
            aibalance.Endpoint(a, id=f"{i} {a}", weight=w, hash_key=f"http://{a}")
            for i, (a, w) in enumerate(zip(addresses, weights, strict=True))
        ]
        picker = aibalance.Rendezvous(aibalance.Pool(endpoints), variant="traefik")
        _decide(result, case.where, expected, partial(_ask, picker, keys[: len(expected)], door))
    return result


# Published algorithms

JUMPS = {"jump": "JumpHash", "jumpback_splitmix64": "JumpBackHash"}


def hash_vectors(document: dict[str, Any], door: Door = "pick") -> Result:
    """Buckets of ready hashes, Memento's timeline, and the fractions that move."""
    result = Result()
    for case in cases(document):
        name = JUMPS.get(case.text("algo"))
        if case.text("algo") == "memento" and "timeline" in case.record("ref"):
            balance.memento(result, case, door)
            continue
        if {"moved_on_remove", "moved_on_add", "modulo_moved_on_add"} <= case.record("ref").names():
            balance.disruption(result, case)
            continue
        if name is None:
            result.unsupported += 1
            continue
        one = "key" in case
        keys = [case.integer("key")] if one else [int(key) for key in case.items("keys", str)]
        ref = case.record("ref")
        expected = [ref.integer("bucket")] if one else ref.items("buckets", int)
        picker = getattr(aibalance, name)(aibalance.Pool([str(i) for i in range(case.integer("n"))]))
        _decide(result, case.where, expected, partial(_ask, picker, [aibalance.Hashed(k) for k in keys], door))
    return result
