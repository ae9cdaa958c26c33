"""Instruments for OpenTelemetry."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import ConfigError, Endpoint, Picker, Pool, WaitQueue, __version__
from .._extras import need
from .._picker import wrong
from ._client import target
from ._meters import FAMILIES, Family, Watched, WatchedPolicy, checked, endpoints_of, rows

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["instrument"]

# What the semantic conventions (0.66) name; what they do not is ours.
_NAMES = {"endpoint.inflight": "http.client.active_requests"}


def instrument(
    meter_provider: MeterProvider | None = None,
    /,
    *,
    pools: Mapping[str, Pool] | None = None,
    pickers: Mapping[str, Picker] | None = None,
    queues: Mapping[str, WaitQueue] | None = None,
    policies: Mapping[str, WatchedPolicy] | None = None,
) -> list[str]:
    """Makes observable instruments for pools, pickers, queues and policies, and returns their names.

    `meter_provider` (None): None is the global one. The others: see `prometheus.AibalanceCollector`. All instruments of
    one collection show one moment: what was read serves until an instrument is read a second time.

    Requests in flight are `http.client.active_requests` with `server.address` and `server.port`; the rest are
    `aibalance.endpoint.*`, `aibalance.picker.*`, `aibalance.queue.*` and `aibalance.policy.*`, with attributes
    `aibalance.pool`, `aibalance.endpoint` and so on. Instruments live as long as their provider: call this once.
    Raises ConfigError, also when there is nothing to show or OpenTelemetry is not installed
    (`pip install aibalance[opentelemetry]`).

    >>> instrument()
    Traceback (most recent call last):
    aibalance._errors.ConfigError: pools: None is not allowed; expected something to show: pools, pickers, ...
    """
    watched = checked(pools, pickers, queues, policies)
    if not any(watched):
        raise wrong("pools", None, "something to show: pools, pickers, queues or policies")
    metrics = need("opentelemetry.metrics", "opentelemetry")
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = provider.get_meter("aibalance", __version__)
    moment = _Moment(watched)
    names = []
    for family in FAMILIES.values():
        if not _concerns(family, watched):
            continue
        name = _NAMES.get(family.name, f"aibalance.{family.name}")
        if family.kind == "counter":
            make = meter.create_observable_counter
        elif family.unit.startswith("{"):
            make = meter.create_observable_up_down_counter
        else:
            make = meter.create_observable_gauge
        make(name, [_callback(moment, family, metrics.Observation)], unit=family.unit, description=family.help)
        names.append(name)
    return names


def _concerns(family: Family, watched: Watched) -> bool:
    shown = {"endpoint": watched.pools, "picker": watched.pickers, "queue": watched.queues, "policy": watched.policies}
    return bool(shown[family.name.partition(".")[0]])


class _Moment:
    """What was read once, for all instruments of a collection."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._values: dict[str, list[tuple[dict[str, Any], float]]] = {}
        self._asked: set[str] | None = None
        self._lock = threading.Lock()  # readers have threads of their own

    def of(self, family: Family) -> list[tuple[dict[str, Any], float]]:
        with self._lock:
            if self._asked is None or family.name in self._asked:
                self._read()
                self._asked = set()
            self._asked.add(family.name)
            return self._values.get(family.name, [])

    def _read(self) -> None:
        where = {at: _server(one) for at, one in endpoints_of(self._watched).items()}
        read: dict[str, list[tuple[dict[str, Any], float]]] = {}
        for name, labels, value in rows(self._watched):
            family = FAMILIES[name]
            attributes: dict[str, Any] = {
                f"aibalance.{label}": text for label, text in zip(family.labels, labels, strict=True)
            }
            if name.startswith("endpoint."):
                attributes.update(where.get((labels[0], labels[1]), {}))
            if math.isfinite(value):
                read.setdefault(name, []).append(
                    (attributes, float(value) if family.unit in ("1", "s") else int(value))
                )
        self._values = read


def _callback(moment: _Moment, family: Family, observation: Any) -> Callable[[Any], Iterable[Any]]:
    def read(options: Any) -> Iterable[Any]:
        return [observation(value, attributes) for attributes, value in moment.of(family)]

    return read


def _server(endpoint: Endpoint) -> dict[str, Any]:
    """`server.address` and `server.port`, where the address is one of a server."""
    try:
        to = target(endpoint.address)
    except ConfigError:
        return {"server.address": endpoint.address}
    if to.port is None:
        return {"server.address": to.host}
    return {"server.address": to.host, "server.port": to.port}
