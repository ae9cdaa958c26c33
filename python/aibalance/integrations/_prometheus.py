"""A collector for prometheus_client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .. import Picker, Pool, WaitQueue
from .._extras import need
from ._meters import FAMILIES, WatchedPolicy, checked, rows

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["AibalanceCollector", "dashboard"]


class AibalanceCollector:
    """Shows pools, pickers, queues and policies to `prometheus_client`, which asks when it is scraped.

    Nothing is added to a pick; a scrape reads `pool.stats()`. `REGISTRY.register(AibalanceCollector(...))`.

    `pools`: pools by the name that is their label. `pickers`: pickers by name; their pools are shown under that name,
    unless they are among `pools`. `queues`: WaitQueues by name. `policies`: WatchedPolicy objects by name.

    Metrics are `aibalance_endpoint_inflight{pool, endpoint}` and so on; `aibalance_endpoint_latency_seconds` is the
    estimate that latency pickers use. Counters start again when an endpoint is removed and added anew, as Prometheus
    expects of a restart. Raises ConfigError; reading raises it when prometheus_client is not installed
    (`pip install aibalance[prometheus]`).

    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> picker = RoundRobin(["10.0.0.1:80", "10.0.0.2:80"])
    >>> registry.register(AibalanceCollector(pickers={"web": picker}))
    >>> lease = picker.acquire()
    >>> registry.get_sample_value("aibalance_endpoint_inflight", {"pool": "web", "endpoint": "10.0.0.1:80"})
    1.0
    """

    def __init__(
        self,
        pools: Mapping[str, Pool] | None = None,
        *,
        pickers: Mapping[str, Picker] | None = None,
        queues: Mapping[str, WaitQueue] | None = None,
        policies: Mapping[str, WatchedPolicy] | None = None,
    ) -> None:
        self._watched = checked(pools, pickers, queues, policies)

    def describe(self) -> list[Any]:
        """Nothing: the registry would have to scrape to know more."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One family a metric, all of one moment."""
        core = need("prometheus_client.core", "prometheus")
        made: dict[str, Any] = {}
        for name, labels, value in rows(self._watched):
            family = made.get(name)
            if family is None:
                about = FAMILIES[name]
                kind = core.CounterMetricFamily if about.kind == "counter" else core.GaugeMetricFamily
                unit = "_seconds" if about.unit == "s" else ""
                family = kind(f"aibalance_{name.replace('.', '_')}{unit}", about.help, labels=about.labels)
                made[name] = family
            family.add_metric(labels, float(value))
        return made.values()

    def __repr__(self) -> str:
        names = [name for part in self._watched for name in part]
        return f"AibalanceCollector({', '.join(map(repr, names))})"


def dashboard() -> str:
    """A Grafana dashboard (JSON text) of these metrics: import it and choose the Prometheus.

    >>> import json
    >>> json.loads(dashboard())["title"]
    'aibalance'
    """
    return (files(__package__) / "grafana.json").read_text(encoding="utf-8")
