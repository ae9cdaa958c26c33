"""Fleets as a scenario file says that they are bought: by groups with spot and warm pools, and over two clouds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from . import _checks as check
from ._clouds import CloudFailover
from ._detail import SHARED_QUEUE
from ._group import GroupScaling, SpotEpisode, TimedRefresh

if TYPE_CHECKING:
    from ..capacity import AutoScalingGroup
    from ._scenario import Fleet

GROUP_OPTIONS = (
    "launch_time",
    "start_time",
    "load_time",
    "warmup",
    "drain_time",
    "stop_time",
    "terminate_time",
    "termination_policies",
    "zone_distribution",
    "protect_new",
)
"""What a group of a scenario takes of `AutoScalingGroup`: what has an effect there. Its bounds are the fleet's; nobody
answers hooks, recommends to rebalance, or lets a stage fail."""


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """How a fleet is bought: an `aibalance.capacity.AutoScalingGroup` behind the policies of a scenario.

    Parameters
    ----------
    name : as policies name it (default "group").
    offers : Offers, what can be had and for how much.
    mixed, warm_pool : a MixedInstancesPolicy, a WarmPool of `aibalance.capacity`, or None (default).
    options : further arguments of AutoScalingGroup, those in seconds and the flags; `launch_time` is needed,
        `start_time` (from a pool) is as long unless given, `load_time` and `warmup` are the fleet's.
    interruptions_per_hour, notice_s, episodes, refreshes : as `GroupScaling` has them (defaults 0, 120, none, none).
    look_s : how often the group is looked at, at least (default 10); policies decide at their own interval, of which
        this becomes a part: 7.5 where they decide every 15.

    >>> from aibalance.capacity import AutoScalingGroup, Offer
    >>> from aibalance.simulation import GroupSpec
    >>> GroupSpec(offers=[Offer(type="g5", zone="a", price=1.0)], options={"launch_time": 60}).look_s
    10.0
    """

    offers: Sequence[Any]
    name: str = "group"
    mixed: Any = None
    warm_pool: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    interruptions_per_hour: float = 0.0
    notice_s: float = 120.0
    episodes: Sequence[SpotEpisode] = ()
    refreshes: Sequence[TimedRefresh] = ()
    look_s: float = 10.0

    def __post_init__(self) -> None:
        check.text("groups.name", self.name)
        if not isinstance(self.options, Mapping):
            raise check.wrong("groups.options", self.options, "a table")
        for name in ("offers", "episodes", "refreshes"):
            if isinstance(given := getattr(self, name), str) or not isinstance(given, Sequence):
                raise check.wrong(f"groups.{name}", given, "a list")
        for name in self.options:
            if name not in GROUP_OPTIONS:
                hint = check.hint(name, GROUP_OPTIONS)
                raise ConfigError(f"groups.{name}: unknown key; allowed: {', '.join(GROUP_OPTIONS)}{hint}")
        if self.options.get("launch_time") is None:
            raise ConfigError("groups.launch_time: missing; seconds from a launch until an instance is up")
        if "start_time" in self.options and self.warm_pool is None:
            raise check.wrong("groups.start_time", self.options["start_time"], "none without a warm_pool to start from")
        object.__setattr__(self, "options", dict(self.options))
        for name in ("offers", "episodes", "refreshes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check.number("groups.look_s", self.look_s, 1e-3, 1e9, unit="seconds")

    def group(self, fleet: Fleet, desired: int) -> AutoScalingGroup:
        """The group with the fleet's bounds and times, unless its own options say otherwise."""
        from ..capacity import AutoScalingGroup

        given = {
            "load_time": float(fleet.load_s),
            "warmup": float(fleet.warmup_s),
            "start_time": self.options["launch_time"],
            **self.options,
        }
        return AutoScalingGroup(
            offers=self.offers,
            min_size=min(fleet.min, desired),
            max_size=fleet.max or desired,
            desired=desired,
            mixed=self.mixed,
            warm_pool=self.warm_pool,
            **given,
        )

    def scaling(self, fleet: Fleet, desired: int, policy: Any, seed: int) -> GroupScaling:
        """What drives the fleet in one run."""
        return GroupScaling(
            group=self.group(fleet, desired),
            policy=policy,
            every_s=fleet.decision_interval_s,
            interruptions_per_hour=self.interruptions_per_hour,
            notice_s=self.notice_s,
            episodes=self.episodes,
            refreshes=self.refreshes,
            seed=seed,
        )

    def fleet(self, of: Fleet, desired: int) -> Fleet:
        """The fleet as the engine sees it: as many servers as the group has in service, at once."""
        # A policy would wait for the look after its time.
        looks = math.ceil(of.decision_interval_s / self.look_s - 1e-9)
        return dataclasses.replace(
            of,
            types=[dataclasses.replace(one, max=None) for one in of.types],
            min=0,
            # A refresh and a rebalance may have up to twice as many for a while.
            max=2 * (of.max or desired) + 1,
            initial=desired,
            load_s=0.0,
            warmup_s=0.0,
            decision_interval_s=of.decision_interval_s / looks,
        )

    def describe(self) -> str:
        """One line for people."""
        spot = any(one.market == "spot" for one in self.offers)
        parts = [f"{len(self.offers)} offers"]
        if self.mixed is not None:
            parts.append(
                f"{self.mixed.on_demand_base} on demand and {self.mixed.on_demand_percent_above_base} % of the rest"
            )
        if self.warm_pool is not None:
            parts.append("a warm pool")
        if spot and self.interruptions_per_hour:
            parts.append(f"{self.interruptions_per_hour:g} interruptions an hour and spot server")
        if self.episodes:
            parts.append(f"{len(self.episodes)} times without spot")
        if self.refreshes:
            parts.append(f"{len(self.refreshes)} refreshes")
        return f"{self.name}: {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class FailoverSpec:
    """Two clouds of a scenario, one of which goes away: `CloudFailover` around each balancer that names it.

    `name` ("failover"): as balancers name it. The rest as `CloudFailover` has it; the balancer chooses within a cloud.

    >>> from aibalance.simulation import FailoverSpec
    >>> FailoverSpec(primary="aws", secondary="gcp", start_s=300, end_s=600).dns_ttl_s
    60.0
    """

    primary: str
    secondary: str
    start_s: float
    end_s: float
    name: str = "failover"
    detection_s: float = 30.0
    dns_ttl_s: float = 60.0
    failback_s: float = 300.0
    replication_lag_s: float = 0.0
    write_share: float = 0.0
    response_gb: float = 0.0
    egress_per_gb: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check.text("failovers.name", self.name)
        if not isinstance(self.egress_per_gb, Mapping):
            raise check.wrong("failovers.egress_per_gb", self.egress_per_gb, "a table of clouds, each with its price")
        try:
            self.picker(None)
        except ConfigError as error:
            raise ConfigError(f"failovers.{error}") from error

    def picker(self, inner: Any) -> CloudFailover:
        """What picks: `inner`, a callable of a pool, within a cloud."""
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "name"}
        return CloudFailover(picker=inner, **given)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.name}: {self.primary} is away from {self.start_s:g} to {self.end_s:g} s, seen after "
            f"{self.detection_s:g} s, DNS record of {self.dns_ttl_s:g} s"
        )


class Timetable:
    """A policy that asks for as many servers as its table says for the time."""

    def __init__(self, points: Any, period_s: float | None = None) -> None:
        at = "policies.options"
        if not isinstance(points, list | tuple) or not points:
            raise check.wrong(f"{at}.points", points, "a list of [second, servers]")
        if period_s is not None:
            check.seconds(f"{at}.period_s", period_s, above=True)
        last = -1.0
        for i, one in enumerate(points):
            if not isinstance(one, list | tuple) or len(one) != 2:
                raise check.wrong(f"{at}.points[{i}]", one, "[second, servers]")
            second = check.seconds(f"{at}.points[{i}]", one[0])
            check.whole(f"{at}.points[{i}]", one[1], 0, 1_000_000)
            if second <= last or (i == 0 and second) or (period_s is not None and second >= period_s):
                raise check.wrong(f"{at}.points[{i}]", one, "times that begin at 0 and rise, all within period_s")
            last = second
        self.points = tuple((float(second), int(servers)) for second, servers in points)
        self.period_s = period_s

    def recommend(self, observation: Any, /, *, now: float) -> SimpleNamespace:
        at = now if self.period_s is None else now % self.period_s
        return SimpleNamespace(desired=[servers for second, servers in self.points if second <= at][-1])


def check_over_clouds(field_name: str, picker: str) -> None:
    """Refuses what cannot be kept within one of two clouds."""
    if picker in (SHARED_QUEUE, "IpHash", "SourceHash"):
        raise check.wrong(field_name, picker, "a picker that pushes, by anything but addresses, with [[failovers]]")


def named(field_name: str, given: str, specs: Sequence[Any], table: str) -> Any:
    """The spec that a policy or a balancer names; the only one if there is one, None if there is none."""
    if given:
        check.choice(field_name, given, [one.name for one in specs])
        return next(one for one in specs if one.name == given)
    if len(specs) > 1:
        names = ", ".join(one.name for one in specs)
        raise ConfigError(f"{field_name}: missing; there are several [[{table}]], say which of {names}")
    return specs[0] if specs else None
