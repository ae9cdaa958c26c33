"""Where endpoints come from: DNS, EndpointSlices, a file; and what keeps a pool up to date with them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import json
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from .. import ConfigError, Endpoint, FormatError, Pool
from .._extras import need
from .._picker import wrong
from ._task import stop

__all__ = ["Discovery", "DnsSource", "FileSource", "Found", "from_endpoint_slices"]


@dataclass(frozen=True)
class Found:
    """What a source knows: `endpoints`, the ids among them that are `draining`, and for how many seconds this holds.

    >>> Found((Endpoint("a:80"),), draining=frozenset({"a:80"})).ttl is None
    True
    """

    endpoints: tuple[Endpoint, ...]
    draining: frozenset[str] = frozenset()
    ttl: float | None = None


Source: TypeAlias = "Callable[[], Found | Iterable[Endpoint | str] | Awaitable[Found | Iterable[Endpoint | str]]]"


@dataclass(frozen=True)
class DnsSource:
    """The addresses of a name, by dnspython (`pip install aibalance[dns]`). `await source()` asks.

    `name`: the name. `port`: of every address, for records "A" and "AAAA"; SRV records bring theirs.
    `record` ("A"): "A", "AAAA" or "SRV". `nameservers` (None): their addresses, and `nameserver_port` (53); None is
    what the system uses. `timeout` (2.0): seconds for an answer, all tries together.

    The targets of SRV are looked up as A and then AAAA; ids are then "target:port", so that an endpoint whose address
    changes keeps its counters, unless a target has several addresses. SRV's priorities become 0, 1, ... in order. SRV's
    weight 0 means "hardly ever" (RFC 2782), not "never": it becomes a hundredth of the smallest other weight, or 1 if
    all are 0.

    Raises ConfigError; asking raises what dnspython raises. A name without such records is an empty answer, one that
    does not exist is an error.

    >>> DnsSource("models.internal", port=8000).record
    'A'
    """

    name: str
    port: int | None = None
    record: Literal["A", "AAAA", "SRV"] = field(default="A", kw_only=True)
    nameservers: Sequence[str] | None = field(default=None, kw_only=True)
    nameserver_port: int = field(default=53, kw_only=True)
    timeout: float = field(default=2.0, kw_only=True)

    def __post_init__(self) -> None:
        name, port, record, timeout = (getattr(self, n) for n in ("name", "port", "record", "timeout"))
        if not isinstance(name, str) or not name:
            raise wrong("name", name, "a name")
        if record not in ("A", "AAAA", "SRV"):
            raise wrong("record", record, "'A', 'AAAA' or 'SRV'")
        if (port is None) != (record == "SRV"):
            raise wrong("port", port, "a port for addresses, none for SRV")
        if port is not None and not (isinstance(port, int) and 0 < port < 65536):
            raise wrong("port", port, "1 to 65535")
        if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise wrong("timeout", timeout, "seconds above 0")

    async def __call__(self) -> Found:
        """Asks."""
        resolver = need("dns.asyncresolver", "dns").Resolver(configure=self.nameservers is None)
        if self.nameservers is not None:
            resolver.nameservers, resolver.port = list(self.nameservers), self.nameserver_port
        resolver.lifetime = self.timeout
        async with asyncio.timeout(self.timeout):
            if self.record == "SRV":
                return await self._services(resolver)
            addresses, ttl = await _addresses(resolver, self.name, self.record)
        return Found(tuple(Endpoint(_joined(one, self.port)) for one in addresses), ttl=ttl)

    async def _services(self, resolver: Any) -> Found:
        answer = await _asked(resolver, self.name, "SRV")
        if answer is None:
            return Found(())
        # "." says that there is no such service.
        records = [one for one in answer if str(one.target) != "."]
        least = min((one.weight for one in records if one.weight), default=0)
        ranks = {priority: i for i, priority in enumerate(sorted({one.priority for one in records}))}

        async def of(one: Any) -> tuple[list[Endpoint], float]:
            addresses, ttl = await _addresses(resolver, one.target, "A")
            if not addresses:
                addresses, ttl = await _addresses(resolver, one.target, "AAAA")
            weight = one.weight or (least / 100 or 1)
            name = str(one.target).rstrip(".")
            made = []
            for address in addresses:
                where = _joined(address, one.port)
                own = f"{name}:{one.port}" if len(addresses) == 1 else where
                made.append(Endpoint(where, id=own, weight=weight, priority=ranks[one.priority]))
            return made, ttl

        found = await asyncio.gather(*(of(one) for one in records))
        endpoints = _unique(one for made, _ in found for one in made)
        return Found(endpoints, ttl=min([float(answer.rrset.ttl), *(ttl for _, ttl in found)]))


async def _asked(resolver: Any, name: Any, record: str) -> Any:
    """The answer, None where the name has no such records."""
    try:
        return await resolver.resolve(name, record)
    except need("dns.resolver", "dns").NoAnswer:
        return None


async def _addresses(resolver: Any, name: Any, record: str) -> tuple[list[str], float]:
    answer = await _asked(resolver, name, record)
    if answer is None:
        return [], math.inf
    # Sorted: servers turn the order round from answer to answer, and that is no change.
    return sorted(one.address for one in answer), float(answer.rrset.ttl)


def _joined(address: str, port: int | None) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _unique(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple({one.id: one for one in endpoints}.values())


def from_endpoint_slices(slices: Iterable[Mapping[str, Any]], /, *, port: str | int | None = None) -> Found:
    """Endpoints from Kubernetes EndpointSlices (`discovery.k8s.io/v1`), as mappings in the form of the API.

    `slices`: all slices of a service. `port` (None): the name of the port, or its number; None is the only one.

    As kube-proxy has it: who is ready takes requests, `ready` that is missing means ready; who is terminating and
    still serving is draining, the rest is left out. Ids are the names of pods where the slices say them, else the
    address; tags carry `node` and `pod`. In slices of addressType FQDN addresses are host names. Raises FormatError.

    >>> piece = {
    ...     "addressType": "IPv4",
    ...     "ports": [{"name": "http", "port": 8000}],
    ...     "endpoints": [{"addresses": ["10.1.0.4"], "conditions": {"ready": True}, "zone": "a"}],
    ... }
    >>> from_endpoint_slices([piece]).endpoints
    (Endpoint('10.1.0.4:8000', id='10.1.0.4:8000', zone='a'),)
    """
    made: list[Endpoint] = []
    draining: set[str] = set()
    for i, piece in enumerate(slices):
        at = f"slices[{i}]"
        if not isinstance(piece, Mapping):
            raise FormatError(f"{at}: {piece!r} is not allowed; a mapping as the API gives it")
        # A slice of pods that are all not ready has ports all the same; one without endpoints may have none.
        endpoints = piece.get("endpoints") or []
        if not endpoints:
            continue
        number = _port(at, piece.get("ports") or [], port)
        for j, one in enumerate(endpoints):
            where = f"{at}.endpoints[{j}]"
            try:
                address = one["addresses"][0]
                conditions = one.get("conditions") or {}
                pod = (one.get("targetRef") or {}).get("name")
                ready = conditions.get("ready") is not False
                serving = conditions.get("serving")
                leaving = conditions.get("terminating") is True and (ready if serving is None else serving)
            except (KeyError, IndexError, TypeError, AttributeError):
                raise FormatError(f"{where}: {one!r} is not allowed; addresses and conditions") from None
            if piece.get("addressType") in ("IPv4", "IPv6"):
                try:
                    ipaddress.ip_address(address)
                except ValueError:
                    raise FormatError(f"{where}: address {address!r} is not allowed; an IP address") from None
            if not (leaving or (ready and conditions.get("terminating") is not True)):
                continue
            tags = {k: v for k, v in (("node", one.get("nodeName")), ("pod", pod)) if v}
            host = _joined(address, number)
            endpoint = Endpoint(host, id=pod or host, zone=one.get("zone") or "", tags=tags or None)
            made.append(endpoint)
            if leaving:
                draining.add(endpoint.id)
    return Found(_unique(made), frozenset(draining))


def _port(at: str, ports: Any, wanted: str | int | None) -> int:
    if wanted is not None:
        ports = [one for one in ports if wanted in (one.get("name"), one.get("port"))]
    numbers = {one.get("port") for one in ports}
    if len(numbers) != 1 or not all(isinstance(n, int) and 0 < n < 65536 for n in numbers):
        named = ", ".join(repr(one.get("name")) for one in ports) or "none"
        raise FormatError(f"{at}.ports: {named} is not allowed for port={wanted!r}; exactly one that fits")
    return int(numbers.pop())


@dataclass(frozen=True)
class FileSource:
    """Endpoints in a file, JSON or (with pyyaml) YAML. `source()` reads it.

    The file is a list, or a mapping with a list under `endpoints`. An item is an address, or a mapping of Endpoint's
    arguments (`address`, `id`, `weight`, `zone`, `priority`, `backup`, `max_inflight`, `tags`, and `draining`), or a
    group of Prometheus' `file_sd` (`targets`, `labels`; labels become tags).

    Write the file beside and rename it: a file that is read half is refused, and the pool stays as it is.
    Raises ConfigError, FormatError that names file and line, OSError.

    >>> FileSource("endpoints.json").path.name
    'endpoints.json'
    """

    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def __call__(self) -> Found:
        """Reads."""
        text = self.path.read_text(encoding="utf-8")
        return self._found(self._parsed(text))

    def _parsed(self, text: str) -> Any:
        if self.path.suffix in (".yaml", ".yml"):
            yaml = need("yaml", "kubernetes")
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError as error:
                mark = getattr(error, "problem_mark", None)
                line = "" if mark is None else f":{mark.line + 1}"
                raise FormatError(f"{self.path}{line}: no YAML: {getattr(error, 'problem', error)}") from None
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise FormatError(f"{self.path}:{error.lineno}: no JSON: {error.msg}") from None

    def _found(self, data: Any) -> Found:
        items = data.get("endpoints") if isinstance(data, Mapping) else data
        if not isinstance(items, list):
            raise FormatError(f"{self.path}: a list of endpoints is expected, or one under 'endpoints'")
        made: list[Endpoint] = []
        draining: set[str] = set()
        for i, item in enumerate(items):
            try:
                if isinstance(item, str):
                    made.append(Endpoint(item))
                elif "targets" in item:
                    made += [Endpoint(one, tags=dict(item.get("labels") or {}) or None) for one in item["targets"]]
                else:
                    told = dict(item)
                    leaving = told.pop("draining", False)
                    made.append(Endpoint(told.pop("address"), **told))
                    if leaving:
                        draining.add(made[-1].id)
            except (ConfigError, TypeError, KeyError, AttributeError) as error:
                raise FormatError(f"{self.path}: endpoints[{i}]: {item!r}: {error}") from None
        ids = [one.id for one in made]
        twice = next((one for one in ids if ids.count(one) > 1), None) if len(set(ids)) < len(ids) else None
        if twice is not None:
            raise FormatError(f"{self.path}: {twice!r} is there twice")
        return Found(tuple(made), frozenset(draining))


class Discovery:
    """Keeps a pool up to date with a source.

    `source`: a DnsSource, a FileSource, or a function of yours, plain or async, that returns a Found or endpoints.
    `interval` (None): seconds between two readings; None is what the source says its answer is good for (the TTL of a
    DNS answer), between 5 s and 5 minutes, and else 5 s. `allow_empty` (False): whether an answer without endpoints
    empties the pool. `on_error` (None): a function that is told of each exception.

    `async with Discovery(pool, source): ...` reads once, which may raise, and then in the background, where it does
    not: while the source fails, or is empty, the pool stays as it was. `await once()` reads once. What is said to be
    draining is drained, and taken back when it is not any more; a drain of yours stays. Readings that bring nothing new
    do not touch the pool. Plain functions run in a thread. Raises ConfigError.

    >>> import asyncio
    >>> pool = Pool(["old:80"])
    >>> asyncio.run(Discovery(pool, lambda: ["a:80", "b:80"]).once())
    True
    >>> [one.id for one in pool.endpoints]
    ['a:80', 'b:80']
    """

    def __init__(
        self,
        pool: Pool,
        source: Source,
        /,
        *,
        interval: float | None = None,
        allow_empty: bool = False,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        if not isinstance(pool, Pool):
            raise wrong("pool", pool, "a Pool")
        if not callable(source):
            raise wrong("source", source, "a source: a function that returns endpoints")
        seconds: Any = interval
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
            raise wrong("interval", interval, "seconds above 0, or None")
        self._pool = pool
        self._source = source
        self._interval = interval
        self._allow_empty = bool(allow_empty)
        self._on_error = on_error
        self._last: Found | None = None
        self._drained: set[str] = set()
        self._error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def error(self) -> Exception | None:
        """Why the last reading failed; None when it did not."""
        return self._error

    @property
    def found(self) -> Found | None:
        """What was read last, and taken over."""
        return self._last

    async def once(self) -> bool:
        """Reads once, and says whether the pool was changed. Raises what the source raises."""
        try:
            answer = await self._read()
            found = answer if isinstance(answer, Found) else Found(_endpoints(answer))
            changed = self._apply(found)
        except Exception as error:
            self._error = error
            raise
        self._error = None
        return changed

    async def _read(self) -> Any:
        call: Any = self._source
        if inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
            return await call()
        answer = await asyncio.to_thread(call)
        return await answer if inspect.isawaitable(answer) else answer

    def _apply(self, found: Found) -> bool:
        if not found.endpoints and not self._allow_empty:
            raise ConfigError("source: no endpoints; the pool stays as it was (allow_empty=True empties it)")
        same = self._last is not None and (_told(self._last), self._last.draining) == (_told(found), found.draining)
        if not same:
            self._pool.update(found.endpoints)
            there = {one.id for one in found.endpoints}
            own = {one.id for one in self._pool.stats() if one.draining} - self._drained
            for id in found.draining & there - own:
                self._pool.drain(id)
                self._drained.add(id)
            for id in self._drained - found.draining:
                if id in there:
                    self._pool.undrain(id)
            self._drained &= found.draining & there
        self._last = found
        return not same

    def _pause(self) -> float:
        if self._interval is not None:
            return self._interval
        ttl = None if self._last is None else self._last.ttl
        return 5.0 if ttl is None else min(max(ttl, 5.0), 300.0)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            try:
                await self.once()
            except Exception as error:
                if self._on_error is not None:
                    with contextlib.suppress(Exception):
                        self._on_error(error)

    async def __aenter__(self) -> Self:
        await self.once()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        await stop(task)


def _endpoints(answer: Any) -> tuple[Endpoint, ...]:
    if isinstance(answer, str | bytes) or not isinstance(answer, Iterable):
        raise wrong("source", answer, "endpoints or addresses, or a Found")
    return tuple(one if isinstance(one, Endpoint) else Endpoint(one) for one in answer)


def _told(found: Found) -> list[tuple[Any, ...]]:
    """All of it: endpoints are equal by id alone."""
    names = ("id", "address", "weight", "zone", "priority", "backup", "max_inflight", "passive", "hash_key", "tags")
    return [(*tuple(getattr(one, name) for name in names), id(one.data)) for one in found.endpoints]
