"""ALB's target group health: DNS failover, routing failover, fail-open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .._core import SlowStart, _target_group_zones
from .._errors import ConfigError

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


ALGORITHMS = ("round_robin", "least_outstanding_requests", "weighted_random")


@dataclass(frozen=True, kw_only=True)
class TargetGroupAttributes:
    """What a target group is set to, refused where AWS would refuse it.

    `algorithm`: how targets are chosen. `slow_start`: seconds, 30 to 900, or 0 for none; not with
    "least_outstanding_requests". `anomaly_mitigation`: only with "weighted_random". `deregistration_delay`: seconds,
    0 to 3600.

    Source: TargetGroupAttribute (Elastic Load Balancing API) and the Application Load Balancer user guide.
    Raises ConfigError, naming the field.

    >>> TargetGroupAttributes(algorithm="weighted_random", anomaly_mitigation=True).slow_start
    0
    >>> TargetGroupAttributes(algorithm="least_outstanding_requests", slow_start=30)
    Traceback (most recent call last):
    aibalance._errors.ConfigError: slow_start: 30 is not allowed; 0 with algorithm="least_outstanding_requests"
    """

    algorithm: Literal["round_robin", "least_outstanding_requests", "weighted_random"] = "round_robin"
    slow_start: float = 0
    anomaly_mitigation: bool = False
    deregistration_delay: float = 300

    def __post_init__(self) -> None:
        def refuse(field: str, allowed: str) -> ConfigError:
            return ConfigError(f"{field}: {getattr(self, field)!r} is not allowed; {allowed}")

        if self.algorithm not in ALGORITHMS:
            raise refuse("algorithm", " or ".join(f'"{name}"' for name in ALGORITHMS))
        if not (self.slow_start == 0 or 30 <= self.slow_start <= 900):
            raise refuse("slow_start", "0, or 30 to 900 seconds")
        if self.slow_start and self.algorithm == "least_outstanding_requests":
            raise refuse("slow_start", '0 with algorithm="least_outstanding_requests"')
        if self.anomaly_mitigation and self.algorithm != "weighted_random":
            raise refuse("anomaly_mitigation", 'False unless algorithm="weighted_random"')
        if not 0 <= self.deregistration_delay <= 3600:
            raise refuse("deregistration_delay", "0 to 3600 seconds")

    def as_slow_start(self) -> SlowStart | None:
        """The pool's `slow_start=` that does the same.

        >>> TargetGroupAttributes(slow_start=120).as_slow_start()
        SlowStart(120, ramp='alb')
        """
        return SlowStart(self.slow_start, ramp="alb") if self.slow_start else None
