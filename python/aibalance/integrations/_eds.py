"""Endpoint discovery for Envoy: what a pool knows as weights and health, by gRPC and by file."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from .. import ConfigError, EndpointStats, Pool
from ._proxy import split_address
from ._task import stop

TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def need(module: str) -> Any:
    """A module of the extra `envoy`. Raises ConfigError where it is absent."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(f"envoy: needs {error.name}; pip install aibalance[envoy]") from None


def weights(pool: Pool, /, *, scale: int = 100, now: float | None = None) -> dict[str, int]:
    """Whole weights by endpoint id: 0 for those that may get nothing new, 1 or more for the others.

    Health, ejection, drain and slow start are folded in. Weights that are whole numbers up to `scale` (100) stay as
    they are; otherwise the largest becomes `scale`, and none that counts less than 1. `now` is in seconds; None asks
    the pool's clock.

    Raises ConfigError.

    >>> from aibalance import Endpoint, ManualClock
    >>> pool = Pool([Endpoint("10.0.0.1:80", weight=6), "10.0.0.2:80", "10.0.0.3:80"], clock=ManualClock(0.0))
    >>> pool.drain("10.0.0.3:80")
    >>> weights(pool)
    {'10.0.0.1:80': 6, '10.0.0.2:80': 1, '10.0.0.3:80': 0}
    """
    given: Any = scale
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= scale <= 1_000_000:
        raise ConfigError(f"scale: {scale!r} is not allowed; a whole number from 1 to 1000000")
    return {id: whole if state in USABLE else 0 for id, (whole, state) in _states(pool, scale, now).items()}


USABLE = ("HEALTHY", "DEGRADED")


def _states(pool: Pool, scale: int, now: float | None) -> dict[str, tuple[int, str]]:
    """A weight of 1 or more, and Envoy's health status, by id."""
    records = pool.stats(now)
    time = pool.clock.now() if now is None else now
    effective = {record.id: record.effective_weight for record in records}
    largest = max(effective.values(), default=0.0)
    plain = all(weight == int(weight) and weight <= scale for weight in effective.values())
    found = {}
    for record in records:
        weight = effective[record.id]
        whole = int(weight) if plain else round(weight / largest * scale)
        found[record.id] = max(1, whole), _state(record, time)
    return found


def _state(record: EndpointStats, now: float) -> str:
    # Envoy refuses a weight of 0, and keeps the old assignment then.
    if record.draining or record.weight <= 0:
        return "DRAINING"
    out = record.ejected_until is not None and record.ejected_until > now
    if record.health == "unhealthy" or out or record.breaker == "open":
        return "UNHEALTHY"
    return "DEGRADED" if record.health == "degraded" else "HEALTHY"


def load_assignment(cluster: str, pool: Pool, /, *, scale: int = 100, now: float | None = None) -> dict[str, Any]:
    """A pool as Envoy's ClusterLoadAssignment, in its JSON form: by zone and priority, backups last.

    Addresses must be `ip:port`: Envoy resolves no names here. Raises ConfigError.

    >>> load_assignment("gpu", Pool(["10.0.0.1:80"]))["endpoints"][0]["lb_endpoints"][0]["health_status"]
    'HEALTHY'
    """
    states = _states(pool, scale, now)
    groups: dict[tuple[bool, int, str], list[dict[str, Any]]] = {}
    for endpoint in pool.endpoints:
        whole, state = states[endpoint.id]
        host, port = ip_address(endpoint.address)
        entry = {
            "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}},
            "health_status": state,
            "load_balancing_weight": whole,
        }
        groups.setdefault((endpoint.backup, endpoint.priority, endpoint.zone), []).append(entry)
    # Envoy wants priorities without a gap.
    order = sorted({key[:2] for key in groups})
    localities = [
        {
            **({"locality": {"zone": key[2]}} if key[2] else {}),
            "priority": order.index(key[:2]),
            "lb_endpoints": entries,
        }
        for key, entries in sorted(groups.items())
    ]
    return {"cluster_name": cluster, "endpoints": localities}


def ip_address(address: str) -> tuple[str, int]:
    """IP address and port. Raises ConfigError for a name."""
    host, port = split_address(address)
    try:
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise ConfigError(f"address: {address!r} is not allowed; ip:port, since Envoy resolves no names here") from None


def write_eds_file(
    path: str | os.PathLike[str], pools: Mapping[str, Pool], /, *, scale: int = 100, now: float | None = None
) -> bool:
    """Writes the pools, by cluster name, as the file that Envoy watches; True when it has changed.

    The file is renamed into place, which is what Envoy looks for (`watched_directory`). There is no word back from
    Envoy: a file that it refuses shows in its admin's statistics only. Raises ConfigError, and OSError of the file
    system.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/eds.json"
    ...     write_eds_file(file, {"gpu": Pool(["10.0.0.1:80"])}), write_eds_file(file, {"gpu": Pool(["10.0.0.1:80"])})
    (True, False)
    """
    resources = [{"@type": TYPE, **load_assignment(name, pool, scale=scale, now=now)} for name, pool in pools.items()]
    # The version is that of the content, so that nothing has to be remembered.
    text = json.dumps({"version_info": _version(resources), "resources": resources}, indent=1) + "\n"
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        if file.read() == text:
            return False
    folder = os.path.dirname(os.path.abspath(path))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".eds-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp's files are for their owner only, and Envoy may be another user.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return True


def _version(resources: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]


class EdsPublisher:
    """Tells Envoys, over ADS or EDS, what endpoints there are and how much each should get.

    `pools` are pools by cluster name. Every `interval` seconds (0.25) each pool is looked at, and what has changed is
    pushed, at most once in `min_interval` (1.0): slow starts would push at each look otherwise. Changes of health,
    drains, and endpoints that come or go are pushed at the next look. `scale` is that of `weights`.

    `nacks` lists what Envoys have refused, the last 100: cluster names and the reason. Add it to a server of yours with
    `add_to(server)` and run it in `async with`, or pass it to `EndpointPicker.serving`.

    Raises ConfigError. Source: Envoy 1.40, xDS protocol, state of the world.

    >>> EdsPublisher({"gpu": Pool(["10.0.0.1:80"])})
    <EdsPublisher of gpu>
    """

    def __init__(
        self, pools: Mapping[str, Pool], /, *, interval: float = 0.25, min_interval: float = 1.0, scale: int = 100
    ) -> None:
        for name, pool in pools.items():
            if not isinstance(pool, Pool):
                raise ConfigError(f"pools[{name!r}]: {pool!r:.80} is not allowed; a Pool")
            load_assignment(name, pool, scale=scale)
        for field, value in (("interval", interval), ("min_interval", min_interval)):
            given: Any = value
            if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < value < 1e9:
                raise ConfigError(f"{field}: {value!r} is not allowed; seconds, more than 0")
        self._pools = dict(pools)
        self._interval, self._min_interval, self._scale = interval, min_interval, scale
        self.nacks: list[tuple[tuple[str, ...], str]] = []
        self.acks = 0
        self._refused = 0
        self._current: dict[str, dict[str, Any]] = {}
        self._version = 0
        self._changed: asyncio.Condition | None = None
        self._task: asyncio.Task[None] | None = None
        self._pushed = float("-inf")
        self._nonces = itertools.count(1)

    def add_to(self, server: Any) -> None:
        """Registers the services ADS and EDS with a grpc.aio server."""
        ads = need("envoy.service.discovery.v3.ads_pb2_grpc")
        eds = need("envoy.service.endpoint.v3.eds_pb2_grpc")
        ads.add_AggregatedDiscoveryServiceServicer_to_server(_Service(self), server)
        eds.add_EndpointDiscoveryServiceServicer_to_server(_Service(self), server)

    async def __aenter__(self) -> Self:
        self._changed = asyncio.Condition()
        self._look()
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        await stop(task)
        self._changed = None

    def _look(self) -> bool:
        """Takes the pools in; True when that is to be pushed."""
        seen: dict[str, dict[str, Any]] = {}
        for name, pool in self._pools.items():
            try:
                seen[name] = load_assignment(name, pool, scale=self._scale)
            except ConfigError as error:
                # An endpoint that Envoy cannot have: the last good list stays, as it would in Envoy.
                self._note((name,), str(error))
                seen[name] = self._current.get(name, {"cluster_name": name, "endpoints": []})
        if seen == self._current:
            return False
        time = asyncio.get_running_loop().time()
        urgent = _shape(seen) != _shape(self._current)
        if not urgent and time < self._pushed + self._min_interval:
            return False
        self._current, self._pushed = seen, time
        self._version += 1
        return True

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if self._look() and self._changed is not None:
                async with self._changed:
                    self._changed.notify_all()

    def _note(self, clusters: tuple[str, ...], reason: str) -> None:
        self._refused += 1
        if (clusters, reason) not in self.nacks[-1:]:
            self.nacks.append((clusters, reason))
            del self.nacks[:-100]

    async def _stream(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """One Envoy: answers what it asks for, and pushes what changes."""
        if self._changed is None:
            raise ConfigError("EdsPublisher: not running is not allowed; use it in `async with`")
        changed = self._changed
        wanted: tuple[str, ...] | None = None
        ended = False
        sent: int | None = None

        def due() -> bool:
            return ended or (wanted is not None and sent != self._version)

        async def read() -> None:
            nonlocal wanted, ended, sent
            try:
                async for request in requests:
                    if request.type_url not in ("", TYPE):
                        continue
                    names = tuple(request.resource_names)
                    if request.HasField("error_detail"):
                        self._note(names, request.error_detail.message)
                    elif request.response_nonce:
                        self.acks += 1
                    if names != wanted:
                        wanted, sent = names, None
                        async with changed:
                            changed.notify_all()
            finally:
                ended = True
                async with changed:
                    changed.notify_all()

        reading = asyncio.get_running_loop().create_task(read())
        try:
            while True:
                async with changed:
                    await changed.wait_for(due)
                if ended:
                    return
                sent = self._version
                yield self._response(wanted or ())
        finally:
            await stop(reading)

    def _response(self, names: tuple[str, ...]) -> Any:
        json_format = need("google.protobuf.json_format")
        discovery = need("envoy.service.discovery.v3.discovery_pb2")
        endpoint = need("envoy.config.endpoint.v3.endpoint_pb2")
        response = discovery.DiscoveryResponse(
            version_info=str(self._version), type_url=TYPE, nonce=str(next(self._nonces))
        )
        for name in names or tuple(self._current):
            if name in self._current:
                message = json_format.ParseDict(self._current[name], endpoint.ClusterLoadAssignment())
                response.resources.add().Pack(message)
        return response

    def __repr__(self) -> str:
        return f"<EdsPublisher of {', '.join(self._pools)}>"


class _Service:
    """Both services: their streams say the same."""

    def __init__(self, publisher: EdsPublisher) -> None:
        self._publisher = publisher

    async def StreamAggregatedResources(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for response in self._publisher._stream(requests):
            yield response

    async def StreamEndpoints(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for response in self._publisher._stream(requests):
            yield response

    async def DeltaAggregatedResources(self, requests: Any, context: Any) -> None:
        await self._refuse(context)

    async def DeltaEndpoints(self, requests: Any, context: Any) -> None:
        await self._refuse(context)

    async def FetchEndpoints(self, request: Any, context: Any) -> None:
        await self._refuse(context)

    async def _refuse(self, context: Any) -> None:
        grpc = need("grpc")
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "state-of-the-world streams only")


def _shape(assignments: Mapping[str, Any]) -> Any:
    """What is pushed at once: who is there, and in which state; not how much each gets."""
    return [
        (name, place.get("locality"), place["priority"], one["endpoint"], one["health_status"])
        for name, assignment in assignments.items()
        for place in assignment["endpoints"]
        for one in place["lb_endpoints"]
    ]
