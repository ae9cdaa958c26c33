"""ALB's target group health: DNS failover, routing failover, fail-open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .._core import _target_group_zones

Mode = Literal["normal", "routing_failover", "fail_open"]


@dataclass(frozen=True)
class ZoneHealth:
    """What becomes of a zone: whether DNS names it, to whom its requests go, and how many targets that are.

    >>> ZoneHealth(dns_healthy=True, mode="normal", routable=3).routable
    3
    """

    dns_healthy: bool
    mode: Mode
    routable: int


@dataclass(frozen=True, kw_only=True)
class TargetGroupHealth:
    """How many targets have to be healthy, by count, by percentage of all, or both; missing either is enough.

    Below a `routing_failover_*` requests go to all targets, below a `dns_failover_*` the zone leaves DNS; None is off.
    With no healthy target at all requests always go to all (fail-open).

    Source: Target group health, Application Load Balancer user guide; the defaults are those of its API.
    Raises ConfigError for a count below 1, a percentage outside 1 to 100, or a DNS threshold below the one for routing.

    >>> half = TargetGroupHealth(dns_failover_percentage=50, routing_failover_percentage=50)
    >>> half.route([True, False, False])
    ('routing_failover', [True, True, True])
    >>> half.zones({"a": (10, 10), "b": (4, 10)})["b"]
    ZoneHealth(dns_healthy=False, mode='routing_failover', routable=10)
    """

    dns_failover_count: int | None = 1
    dns_failover_percentage: float | None = None
    routing_failover_count: int | None = 1
    routing_failover_percentage: float | None = None

    def __post_init__(self) -> None:
        self._ask([], True)

    def _ask(self, zones: list[tuple[int, int]], cross_zone: bool) -> list[tuple[bool, Mode, int]]:
        dns = (self.dns_failover_count, self.dns_failover_percentage)
        routing = (self.routing_failover_count, self.routing_failover_percentage)
        return _target_group_zones(dns, routing, zones, cross_zone)

    def route(self, healthy: Iterable[bool], /) -> tuple[Mode, list[bool]]:
        """To whom requests go, from which targets are healthy: the mode, and for each target whether it gets any."""
        healthy = list(healthy)
        [(_, mode, _)] = self._ask([(sum(healthy), len(healthy))], True)
        return mode, healthy if mode == "normal" else [True] * len(healthy)

    def zones(self, zones: Mapping[str, tuple[int, int]], /, *, cross_zone: bool = False) -> dict[str, ZoneHealth]:
        """What becomes of each zone, from its (healthy, all) targets; with `cross_zone`, all zones are judged as one.

        When DNS names no zone, it names all of them.
        """
        return {
            name: ZoneHealth(*row) for name, row in zip(zones, self._ask([*zones.values()], cross_zone), strict=True)
        }
