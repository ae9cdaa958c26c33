"""A page of metrics for Prometheus, beside a program of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import ConfigError
from .._extras import need
from ._proxy import split_address

if TYPE_CHECKING:
    from ._epp import EndpointPicker


@contextlib.contextmanager
def metrics_page(address: str | None, collectors: Iterable[Any]) -> Iterator[int | None]:
    """Serves `collectors`, and what the process itself takes, at /metrics in a thread; gives the port.

    Nothing where `address` (host:port, port 0 for any) is None. Raises ConfigError where it cannot be listened on.
    """
    if address is None:
        yield None
        return
    prometheus = need("prometheus_client", "prometheus")
    registry = prometheus.CollectorRegistry()
    for collector in (*collectors, prometheus.ProcessCollector(registry=None)):
        registry.register(collector)
    host, port = metrics_address(address)
    try:
        server, thread = prometheus.start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(f"metrics: {address!r} cannot be listened on: {error.strerror or error}") from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def metrics_address(address: str) -> tuple[str, int]:
    """Host and port, which may be 0. Raises ConfigError.

    >>> metrics_address("127.0.0.1:0")
    ('127.0.0.1', 0)
    """
    host = address.rpartition(":")[0]
    try:
        if re.fullmatch(r".*:0{1,5}", address):
            return split_address(f"{host}:1")[0], 0
        return split_address(address)
    except ConfigError:
        raise ConfigError(f"metrics: {address!r:.80} is not allowed; host:port, as in 127.0.0.1:9100") from None


class EppCollector:
    """What an endpoint picker and its EDS publisher count."""

    def __init__(self, picker: EndpointPicker, eds: Any = None) -> None:
        self._picker, self._eds = picker, eds

    def describe(self) -> list[Any]:
        """Nothing, as for AibalanceCollector."""
        return []

    def collect(self) -> Iterator[Any]:
        """One family a count."""
        core = need("prometheus_client.core", "prometheus")
        counts = self._picker.stats()
        about = {
            "picked": "Requests that got an endpoint",
            "refused": "Requests that were answered with 503 or 429",
            "retried": "Requests that another of the endpoints named has served",
            "lost": "Requests that Envoy sent elsewhere, by its fallback",
        }
        for name, said in about.items():
            yield core.CounterMetricFamily(f"aibalance_epp_{name}", said, value=counts[name])
        yield core.GaugeMetricFamily("aibalance_epp_streams", "Requests in flight", value=self._picker._streams)
        if self._eds is not None:
            yield core.CounterMetricFamily("aibalance_eds_acks", "Assignments that Envoys took", value=self._eds.acks)
            yield core.CounterMetricFamily(
                "aibalance_eds_nacks", "Assignments that were refused", value=self._eds._refused
            )
