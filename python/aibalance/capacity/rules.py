"""The rules, in frozen objects.

Sources: EC2 Auto Scaling user guide (last public Markdown edition, 2023-06), Compute Engine v1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._core import CapacityRules
from .._errors import ConfigError
from ._checks import count as _count
from ._checks import flag as _flag
from ._checks import number as _number
from ._checks import one_of as _one_of

if TYPE_CHECKING:
    from .group import Offer

SpotStrategy = Literal[
    "lowest_price", "capacity_optimized", "capacity_optimized_prioritized", "price_capacity_optimized", "diversified"
]
SPOT_STRATEGIES: tuple[str, ...] = SpotStrategy.__args__  # type: ignore[attr-defined]

__all__ = [
    "Backend",
    "InstanceRefresh",
    "LifecycleHook",
    "MixedInstancesPolicy",
    "PriceBlend",
    "RefreshBatch",
    "Split",
    "WarmPool",
    "check_backends",
    "rebalance_ceiling",
]


class Split(NamedTuple):
    """A capacity by how it is bought.

    >>> Split(3, 2).spot
    2
    """

    on_demand: int
    spot: int


@dataclass(frozen=True, kw_only=True)
class MixedInstancesPolicy:
    """On-demand and spot in one group: a base, then a share of the rest, rounded up.

    `on_demand_base` (0): instances that are on demand whatever the size. `on_demand_percent_above_base` (100): of the
    rest, 0 to 100. `spot_pools` (2): pools that the strategy lowest_price uses in each zone, 1 to 20.
    `spot_strategy` ("lowest_price"): which spot offers are taken; "capacity_optimized",
    "capacity_optimized_prioritized", "price_capacity_optimized" or "diversified". `on_demand_strategy` ("prioritized")
    or "lowest_price". `on_demand_fallback` (False): spot that cannot be had is bought on demand; AWS leaves it missing.
    Raises ConfigError. Exact: the parts add up to the whole.

    >>> MixedInstancesPolicy(on_demand_percent_above_base=20).split(6)
    Split(on_demand=2, spot=4)
    """

    on_demand_base: int = 0
    on_demand_percent_above_base: int = 100
    spot_pools: int = 2
    spot_strategy: SpotStrategy = "lowest_price"
    on_demand_strategy: Literal["prioritized", "lowest_price"] = "prioritized"
    on_demand_fallback: bool = False

    def __post_init__(self) -> None:
        _count("on_demand_base", self.on_demand_base)
        _count("on_demand_percent_above_base", self.on_demand_percent_above_base, 0, 100)
        _count("spot_pools", self.spot_pools, 1, 20)
        _one_of("spot_strategy", self.spot_strategy, SPOT_STRATEGIES)
        _one_of("on_demand_strategy", self.on_demand_strategy, ("prioritized", "lowest_price"))
        _flag("on_demand_fallback", self.on_demand_fallback)

    def split(self, desired: int, /) -> Split:
        """How a capacity is bought."""
        _count("desired", desired)
        return Split(*CapacityRules.split(desired, self.on_demand_base, self.on_demand_percent_above_base))

    def allocate(self, desired: int, offers: Sequence[Offer], /) -> dict[Offer, int]:
        """How many instances of each offer an empty group of this size takes; offers that it takes none of are left
        out.

        Zones are filled evenly, each by the strategies. The counts add up to less than `desired` where offers are not
        deep enough. Raises ConfigError.

        >>> from aibalance.capacity import Offer
        >>> offers = [Offer(type="g5", zone=z, market="spot", price=p) for z, p in (("a", 0.4), ("b", 0.5))]
        >>> policy = MixedInstancesPolicy(on_demand_percent_above_base=0)
        >>> [(offer.zone, n) for offer, n in policy.allocate(5, offers).items()]
        [('a', 3), ('b', 2)]
        """
        from .group import AutoScalingGroup

        _count("desired", desired, 0, 10_000)
        group = AutoScalingGroup(offers=offers, min_size=desired, max_size=desired, mixed=self)
        group.step(0.0)
        taken = [(i.type, i.zone, i.market) for i in group.instances()]
        counts = {offer: taken.count((offer.type, offer.zone, offer.market)) for offer in offers}
        return {offer: n for offer, n in counts.items() if n}

    def pools(self, *, instance_types: int, zones: int) -> tuple[int, int]:
        """How many spot pools there are, a type in a zone each, and how many of them lowest-price uses.

        >>> MixedInstancesPolicy().pools(instance_types=4, zones=4)
        (16, 8)
        """
        return CapacityRules.pools(_count("instance_types", instance_types), _count("zones", zones), self.spot_pools)

    @staticmethod
    def weighted(current: int, /, *, add: int, weight: int, max_capacity: int) -> tuple[int, int]:
        """The desired and the real capacity, in units, after adding so many with instances of this weight.

        The last instance may carry the group over `max_capacity`, by less than its weight.

        >>> MixedInstancesPolicy.weighted(10, add=5, weight=6, max_capacity=12)
        (12, 16)
        """
        units = _count("current", current), _count("add", add), _count("weight", weight, 1, 999)
        return CapacityRules.weighted_after(*units, _count("max_capacity", max_capacity))


@dataclass(frozen=True, kw_only=True)
class WarmPool:
    """Instances that are started beforehand and wait beside a group.

    `min_size` (0): the fewest that wait. `max_prepared` (None): the total of group and pool; None is the
    group's maximum. `reuse_on_scale_in` (False): instances go back into the pool instead of being replaced there.
    `state` ("stopped"): how they wait; a "stopped" one boots, loads and warms up when it is taken, a "hibernated" one
    boots and warms up, a "running" one is ready and costs what it costs.
    Raises ConfigError.

    >>> WarmPool().size(max_capacity=10, desired=6)
    4
    """

    min_size: int = 0
    max_prepared: int | None = None
    reuse_on_scale_in: bool = False
    state: Literal["stopped", "hibernated", "running"] = "stopped"

    def __post_init__(self) -> None:
        _count("min_size", self.min_size)
        if self.max_prepared is not None:
            _count("max_prepared", self.max_prepared)
        _flag("reuse_on_scale_in", self.reuse_on_scale_in)
        _one_of("state", self.state, ("stopped", "hibernated", "running"))

    def size(self, *, max_capacity: int, desired: int) -> int:
        """How many belong in the pool: `max(min_size, prepared - desired)`."""
        group = _count("max_capacity", max_capacity), _count("desired", desired)
        return CapacityRules.warm_pool_size(*group, self.max_prepared, self.min_size)

    def scale_out(self, increase: int, /, *, available: int, desired: int, max_capacity: int) -> tuple[int, int, int]:
        """How many start warm, how many cold, and the capacity after it.

        >>> WarmPool().scale_out(5, available=2, desired=6, max_capacity=20)
        (2, 3, 11)
        """
        return CapacityRules.warm_pool_scale_out(
            _count("available", available),
            _count("increase", increase),
            _count("desired", desired),
            _count("max_capacity", max_capacity),
        )

    def scale_in(self, decrease: int, /) -> tuple[int, int, int]:
        """How many are terminated, how many go back into the pool, and how many are started there instead.

        >>> WarmPool().scale_in(2)
        (2, 0, 2)
        """
        return CapacityRules.warm_pool_scale_in(_count("decrease", decrease), self.reuse_on_scale_in)


class RefreshBatch(NamedTuple):
    """One batch of a refresh: its start in seconds, instances, those replaced after it, the checkpoint in percent.

    >>> RefreshBatch(0.0, 2, 2, 20).checkpoint
    20
    """

    at: float
    instances: int
    replaced: int
    checkpoint: int | None


@dataclass(frozen=True, kw_only=True)
class InstanceRefresh:
    """Replaces the instances of a group in batches, with checkpoints.

    `min_healthy` (90): percent that stay, 0 to 100. `max_healthy` (None): percent that there may be for a while, 100 to
    200, at most 100 more than `min_healthy`; None terminates before it launches.
    `checkpoints` (()): rising percentages, 1 to 100, after which it waits `checkpoint_delay` (3600.0) seconds; it ends
    at the last. `warmup` (None): seconds that a new instance takes; see `effective_warmup`. These are of a group only:
    `skip_matching` (False): whoever has the template already stays. `auto_rollback` (False): a refresh that fails goes
    back to the template before it. `scale_in_protected` ("wait"): what of protected instances; "ignore" or "refresh".
    `stuck_after` (3600.0): seconds without progress after which it has failed, 1 to 1209600.
    Raises ConfigError.

    >>> refresh = InstanceRefresh(min_healthy=80, checkpoints=(20, 50), checkpoint_delay=900, warmup=600)
    >>> [(b.at, b.instances) for b in refresh.timeline(10)]
    [(0.0, 2), (1500.0, 2), (2100.0, 1)]
    """

    min_healthy: int = 90
    max_healthy: int | None = None
    checkpoints: Sequence[int] = ()
    checkpoint_delay: float = 3600.0
    warmup: float | None = None
    skip_matching: bool = False
    auto_rollback: bool = False
    scale_in_protected: Literal["wait", "ignore", "refresh"] = "wait"
    stuck_after: float = 3600.0

    def __post_init__(self) -> None:
        _count("min_healthy", self.min_healthy, 0, 100)
        if self.max_healthy is not None:
            _count("max_healthy", self.max_healthy, 100, min(200, self.min_healthy + 100))
        object.__setattr__(self, "checkpoints", tuple(self.checkpoints))
        for n, percent in enumerate(self.checkpoints):
            _count(f"checkpoints[{n}]", percent, 1 + (self.checkpoints[n - 1] if n else 0), 100)
        _number("checkpoint_delay", self.checkpoint_delay, 0, 172_800)
        if self.warmup is not None:
            _number("warmup", self.warmup, 0, 31_536_000)
        _flag("skip_matching", self.skip_matching)
        _flag("auto_rollback", self.auto_rollback)
        _one_of("scale_in_protected", self.scale_in_protected, ("wait", "ignore", "refresh"))
        _number("stuck_after", self.stuck_after, 1, 1_209_600)

    def batch(self, desired: int, /) -> int:
        """How many instances of so many are replaced at once; at least one.

        >>> InstanceRefresh(min_healthy=100).batch(10)
        1
        """
        return CapacityRules.batch(_count("desired", desired), self.min_healthy, self.max_healthy)

    def checkpoint(self, desired: int, /, *, replaced: int, before: int = 0) -> tuple[tuple[int, ...], int | None]:
        """The checkpoints that are skipped and the one that is told when `replaced` instances are new; `before` were.

        >>> InstanceRefresh(checkpoints=(10, 40, 100)).checkpoint(2, replaced=1)
        ((10,), 40)
        """
        counts = _count("before", before), _count("replaced", replaced)
        skipped, told = CapacityRules.checkpoints(_count("desired", desired), list(self.checkpoints), *counts)
        return tuple(skipped), told

    def timeline(
        self, desired: int, /, *, default_warmup: float | None = None, grace: float = 0.0
    ) -> list[RefreshBatch]:
        """The batches of a refresh in which nothing goes wrong, for up to 100000 instances."""
        _count("desired", desired, 0, 100_000)
        seconds = self.effective_warmup(default=default_warmup, grace=grace)
        batches = CapacityRules.timeline(
            desired, self.batch(desired), list(self.checkpoints), seconds, float(self.checkpoint_delay)
        )
        return [RefreshBatch(*b) for b in batches]

    def effective_warmup(self, *, default: float | None, grace: float) -> float:
        """The seconds that count: of the refresh, else the group's default warm-up, else the health check's grace.

        >>> InstanceRefresh().effective_warmup(default=None, grace=300)
        300.0
        """
        chain = [("warmup", self.warmup), ("default", default), ("grace", grace)]
        return next(_number(name, value, 0, 31_536_000) for name, value in chain if value is not None)


@dataclass(frozen=True, kw_only=True)
class LifecycleHook:
    """A pause of an instance that starts or stops.

    `heartbeat` (3600.0): seconds, 30 to 7200, each time. `result` ("abandon"): what follows when nobody answers, or
    "continue". Raises ConfigError.

    >>> LifecycleHook(heartbeat=30).global_timeout
    3000.0
    """

    heartbeat: float = 3600.0
    result: str = "abandon"

    def __post_init__(self) -> None:
        _number("heartbeat", self.heartbeat, 30, 7200)
        if self.result not in ("abandon", "continue"):
            raise ConfigError(f"result: {self.result!r} is not allowed; one of abandon, continue")

    @property
    def global_timeout(self) -> float:
        """The longest that heartbeats can put it off: a hundred of them, at most two days."""
        return min(172_800.0, 100.0 * self.heartbeat)


def rebalance_ceiling(max_capacity: int, /) -> int:
    """How large a group may be for a moment while its zones are evened out: a tenth over its maximum, at least one.

    Raises ConfigError. Source: EC2 Auto Scaling user guide, rebalancing activities.

    >>> rebalance_ceiling(100), rebalance_ceiling(5)
    (110, 6)
    """
    return CapacityRules.rebalance_ceiling(_count("max_capacity", max_capacity))


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A group of instances behind a Google load balancer.

    `max_rate_per_instance`: requests a second, above 0. `capacity_scaler` (1.0): 0, or from 0.1 to 1: how much of it
    counts. Raises ConfigError. Source: Compute Engine v1, Backend.

    >>> Backend(max_rate_per_instance=100, capacity_scaler=0.8).target_rate(5)
    400.0
    """

    max_rate_per_instance: float
    capacity_scaler: float = 1.0

    def __post_init__(self) -> None:
        _number("max_rate_per_instance", self.max_rate_per_instance, above=True)
        scaler = _number("capacity_scaler", self.capacity_scaler, 0, 1)
        if 0 < scaler < 0.1:
            raise ConfigError(f"capacity_scaler: {scaler!r} is not allowed; 0, or a number from 0.1 to 1")

    def target_rate(self, instances: int, /) -> float:
        """Requests a second that so many instances are meant to take."""
        return self.max_rate_per_instance * _count("instances", instances) * self.capacity_scaler


def check_backends(backends: Sequence[Backend], /) -> None:
    """Raises ConfigError for backends that one service cannot have: none, or a single one that takes nothing.

    >>> check_backends([Backend(max_rate_per_instance=10, capacity_scaler=0)] * 2)
    """
    if not backends:
        raise ConfigError("backends: () is not allowed; one or more")
    if len(backends) == 1 and backends[0].capacity_scaler == 0:
        raise ConfigError("backends[0].capacity_scaler: 0 is not allowed; above 0 for the only backend")


@dataclass(frozen=True, kw_only=True)
class PriceBlend:
    """What capacity costs, from a price and a discount that you give; there is no price list in here.

    `on_demand_share` (1.0): of the capacity, 0 to 1. `spot_discount` (0.0): of the on-demand price, 0 to 1.
    Raises ConfigError.

    >>> PriceBlend(on_demand_share=0.2, spot_discount=0.65).blended(10_000)
    4800.0
    """

    on_demand_share: float = 1.0
    spot_discount: float = 0.0

    def __post_init__(self) -> None:
        _number("on_demand_share", self.on_demand_share, 0, 1)
        _number("spot_discount", self.spot_discount, 0, 1)

    def blended(self, all_on_demand: float, /) -> float:
        """The cost of what would cost `all_on_demand` without spot, in the same currency, to a millionth."""
        price = _number("all_on_demand", all_on_demand, 0, 1e15)
        return round(CapacityRules.blended(price, self.on_demand_share, self.spot_discount), 6)

    @staticmethod
    def per_unit(price: float, weight: int, /) -> float:
        """The price of a unit of capacity, of an instance that counts as `weight` of them.

        >>> PriceBlend.per_unit(0.18, 2)
        0.09
        """
        return _number("price", price, 0, 1e15) / _count("weight", weight, 1, 999)
