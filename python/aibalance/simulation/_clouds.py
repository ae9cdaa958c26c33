"""Two clouds, one of which goes away: detection, DNS, data that had not been copied, and bytes that leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._errors import ConfigError
from . import _checks as check


@dataclass
class CloudRun:
    """What one run of a `CloudFailover` counted.

    >>> CloudRun(requests={"aws": 10, "gcp": 2}).egress_usd
    0.0
    """

    requests: dict[str, int] = field(default_factory=dict)
    """By cloud, the requests that were sent there."""
    unreachable: int = 0
    """Requests that went where nobody answered; the report counts them as rejected."""
    lost_writes: float = 0.0
    """Writes that the primary took in the last `replication_lag_s` before it went, and that the other never saw."""
    egress_usd: float = 0.0
    """What the answers' bytes cost that left each cloud."""


class CloudFailover:
    """A picker over two clouds, for `simulate(picker=...)` and `compare(pickers=...)`.

    Clients go to the cloud that DNS names. When the primary goes, health checks take `detection_s` to see it, and each
    client follows when its own copy of the record has expired, somewhere within `dns_ttl_s`; until then its requests
    reach nobody. When the primary is back they return in the same way, `failback_s` later.

    Parameters
    ----------
    primary, secondary : clouds, as the names of server types begin: "aws" for the type "aws/g4dn.xlarge".
    start_s, end_s : the primary's outage, in seconds of the simulation.
    detection_s : from the outage until the record is changed (default 30: three checks of 10 s).
    dns_ttl_s : life of the record in a client's cache (default 60).
    failback_s : how long the primary must be back before clients are sent there again (default 300).
    replication_lag_s : how far the other's data is behind (default 0).
    write_share : the share of requests that write (default 0).
    response_gb : GB (10^9 bytes) of an answer (default 0).
    egress_per_gb : by cloud, USD for a GB that leaves; needed for both clouds if `response_gb` is above 0.
    picker : a picker class, or a callable of a pool that gives a picker, which chooses within a cloud (default
        LeastRequest).

    `runs` holds a `CloudRun` for each run so far. What is in service at the primary when it goes is finished: this
    picker cannot take it back. Resolvers that ignore the record's life are not modelled.

    >>> from aibalance.simulation import Fleet, PoissonTraffic, Scenario, ServerType, Service, simulate
    >>> failover = CloudFailover(primary="aws", secondary="gcp", start_s=300, end_s=600, detection_s=30, dns_ttl_s=60)
    >>> scenario = Scenario(name="outage", traffic=PoissonTraffic(rate_rps=10), duration_s=600, slo_s=5,
    ...     service=Service("exponential", mean_s=0.5), fleet=Fleet(min=20, types=[ServerType(name="aws/g5"),
    ...     ServerType(name="gcp/g2")]))
    >>> report = simulate(scenario, picker=failover)
    >>> run = failover.runs[-1]
    >>> run.unreachable == report.all.rejected, 500 < run.unreachable < 700  # 10 a second for 30 s + half of 60 s
    (True, True)
    """

    def __init__(
        self,
        *,
        primary: str,
        secondary: str,
        start_s: float,
        end_s: float,
        detection_s: float = 30.0,
        dns_ttl_s: float = 60.0,
        failback_s: float = 300.0,
        replication_lag_s: float = 0.0,
        write_share: float = 0.0,
        response_gb: float = 0.0,
        egress_per_gb: Mapping[str, float] | None = None,
        picker: Callable[[Any], Any] | None = None,
    ) -> None:
        self.primary, self.secondary = check.text("primary", primary), check.text("secondary", secondary)
        check.distinct("secondary", [primary, secondary])
        self.start_s, self.end_s = check.seconds("start_s", start_s), check.seconds("end_s", end_s)
        if end_s <= start_s:
            raise check.wrong("end_s", end_s, f"later than start_s, {start_s:g}")
        self.detection_s = check.seconds("detection_s", detection_s)
        self.dns_ttl_s = check.seconds("dns_ttl_s", dns_ttl_s)
        self.failback_s = check.seconds("failback_s", failback_s)
        self.replication_lag_s = check.seconds("replication_lag_s", replication_lag_s)
        self.write_share = check.number("write_share", write_share, 0, 1)
        self.response_gb = check.number("response_gb", response_gb, 0, 1e6)
        self.egress_per_gb = {
            cloud: check.number(f"egress_per_gb.{cloud}", price, 0, 1e6)
            for cloud, price in (egress_per_gb or {}).items()
        }
        for cloud in (primary, secondary):
            if response_gb and cloud not in self.egress_per_gb:
                raise ConfigError(f"egress_per_gb.{cloud}: missing; an unknown price is no price, give 0 if it is free")
        if picker is not None and not callable(picker):
            raise check.wrong("picker", picker, "a picker class or a callable of a pool")
        self.picker = picker
        self.runs: list[CloudRun] = []
        self.__name__ = "CloudFailover"

    def __repr__(self) -> str:
        return (
            f"CloudFailover(primary={self.primary!r}, secondary={self.secondary!r}, start_s={self.start_s:g}, "
            f"end_s={self.end_s:g})"
        )

    def __call__(self, pool: Any) -> _Failing:
        """The picker over a pool, for one run."""
        from .. import LeastRequest

        self.runs.append(CloudRun({self.primary: 0, self.secondary: 0}))
        return _Failing(self, pool, (self.picker or LeastRequest)(pool), self.runs[-1])

    def cloud(self, now: float, late: float) -> str:
        """Where a client believes that it should go. `late`: when its record expires, 0 to 1 of the record's life."""
        wait = late * self.dns_ttl_s
        leaves = self.start_s + self.detection_s + wait
        returns = self.end_s + self.failback_s + wait
        # An outage that is over before anybody noticed changes no record.
        noticed = self.start_s + self.detection_s < self.end_s
        return self.secondary if noticed and leaves <= now < returns else self.primary


class _Failing:
    """The picker of one run."""

    def __init__(self, of: CloudFailover, pool: Any, inner: Any, run: CloudRun) -> None:
        self._of, self._pool, self._inner, self._run = of, pool, inner, run
        self._known: Any = None
        self._ids: dict[str, list[str]] = {}

    def acquire(self, key: Any = None, /, *, cost: float = 1.0) -> Any:
        from .. import NoHealthyEndpointError, envoy_hash

        of, now = self._of, self._pool.clock.now()
        cloud = of.cloud(now, int(envoy_hash(str(key))) / 2**64)
        if cloud == of.primary and of.start_s <= now < of.end_s:
            self._run.unreachable += 1
            raise NoHealthyEndpointError(f"{cloud} does not answer")
        lease = self._inner.acquire(key, cost=cost, subset=self._of_cloud(cloud))
        self._run.requests[cloud] += 1
        self._run.egress_usd += of.response_gb * of.egress_per_gb.get(cloud, 0.0)
        if cloud == of.primary and of.start_s - of.replication_lag_s <= now < of.start_s:
            self._run.lost_writes += of.write_share
        return lease

    def _of_cloud(self, cloud: str) -> list[str]:
        endpoints = self._pool.endpoints
        if endpoints != self._known:
            self._known = endpoints
            names = [one.id for one in endpoints]
            self._ids = {
                name: [one for one in names if one.startswith(f"{name}/")]
                for name in (self._of.primary, self._of.secondary)
            }
        return self._ids[cloud]
