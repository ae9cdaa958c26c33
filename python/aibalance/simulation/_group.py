"""A group of instances between a scaling policy and the simulated fleet: warm pools, spot, and when there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import ConfigError
from . import _checks as check

if TYPE_CHECKING:
    from ..capacity import AutoScalingGroup, InstanceRefresh


@dataclass(frozen=True, kw_only=True)
class SpotEpisode:
    """A time in which spot capacity is short.

    Parameters
    ----------
    start_s, end_s : from when to when, in seconds of the simulation.
    reclaim : the share of the group's spot instances that is interrupted when it begins, rounded up (0 to 1; default
        1).
    depth : how many more spot instances can be had of each offer meanwhile (default 0, none).

    >>> SpotEpisode(start_s=600, end_s=1800, reclaim=0.5).end_s
    1800
    """

    start_s: float
    end_s: float
    reclaim: float = 1.0
    depth: int = 0

    def __post_init__(self) -> None:
        check.seconds("episode.start_s", self.start_s)
        check.seconds("episode.end_s", self.end_s)
        if self.end_s <= self.start_s:
            raise check.wrong("episode.end_s", self.end_s, f"later than start_s, {self.start_s:g}")
        check.number("episode.reclaim", self.reclaim, 0, 1)
        check.whole("episode.depth", self.depth, 0, 100_000)


@dataclass(frozen=True, kw_only=True)
class TimedRefresh:
    """An instance refresh that begins at a time of the simulation.

    Parameters
    ----------
    at_s : when, in seconds.
    refresh : an InstanceRefresh without a `warmup` of its own.
    template : the version that instances have after it (default 2: what a run begins with is 1).

    >>> from aibalance.capacity import InstanceRefresh
    >>> TimedRefresh(at_s=600, refresh=InstanceRefresh(min_healthy=80)).template
    2
    """

    at_s: float
    refresh: InstanceRefresh
    template: int = 2

    def __post_init__(self) -> None:
        check.seconds("refresh.at_s", self.at_s)
        check.whole("refresh.template", self.template, 0, 2**31 - 1)
        if not hasattr(self.refresh, "min_healthy"):
            raise check.wrong("refresh", self.refresh, "an InstanceRefresh")
        if self.refresh.warmup is not None:
            raise check.wrong("refresh.warmup", self.refresh.warmup, "none: the group's load_time and warmup count")


class GroupScaling:
    """A scaling policy with an `AutoScalingGroup` behind it, for `simulate(policy=...)` and `compare(policies=...)`.

    The policy says how many instances there should be, the group launches, loads, warms and drains them, takes from its
    warm pool, loses spot instances; the simulated fleet has as many servers as the group has instances in service. So
    the fleet needs `load_s = warmup_s = 0` (the group's own times count), and `decision_interval_s` is how often the
    group is looked at.

    Parameters
    ----------
    group : an AutoScalingGroup; each run works with a copy.
    policy : an object with `recommend(mapping, now=...)`, or None (default): the group stays at its desired size.
    every_s : how often the policy decides (default 60).
    interruptions_per_hour : of each spot instance in service, with two minutes' notice (or `notice_s`), drawn from
        `seed` (default 0).
    notice_s : default 120, AWS's.
    episodes : times in which spot is short, that do not overlap.
    refreshes : TimedRefreshes, in order; one that is due while another is in progress is left out, and counted in
        `skipped_refreshes`.
    seed : of the interruptions (default 0).

    After a run, `cost` is what the group's instances cost until the last look: from launch to termination, those that
    wait stopped in a warm pool free. The report's own cost knows servers in service only. A run copies the object that
    `simulate` is given; to read its cost, give a callable that makes one and keep that.

    An interruption takes a server with few requests out of service, which finishes what it has: right where requests
    are shorter than the notice. All servers of the fleet are of one speed for the group.

    >>> from aibalance.capacity import AutoScalingGroup, MixedInstancesPolicy, Offer
    >>> from aibalance.simulation import Fleet, PoissonTraffic, Scenario, ServerType, Service, simulate
    >>> offers = [Offer(type="g5", zone="a", price=1.0), Offer(type="g5", zone="a", price=0.4, market="spot")]
    >>> group = AutoScalingGroup(offers=offers, max_size=10, desired=10, launch_time=60, drain_time=60,
    ...     mixed=MixedInstancesPolicy(on_demand_base=2, on_demand_percent_above_base=0))
    >>> made = []
    >>> def spot():
    ...     made.append(GroupScaling(group=group, episodes=[SpotEpisode(start_s=600, end_s=1200)]))
    ...     return made[-1]
    >>> scenario = Scenario(name="short of spot", traffic=PoissonTraffic(rate_rps=5), duration_s=1800, slo_s=5,
    ...     service=Service("exponential", mean_s=1), fleet=Fleet(types=[ServerType(name="g5")], initial=10, min=0,
    ...     max=20, queue_limit=5, decision_interval_s=10))
    >>> report = simulate(scenario, picker="LeastRequest", policy=spot)
    >>> report.all.rejected > 0, made[0].interrupted, round(made[0].cost, 2)
    (True, 8, 2.12)
    """

    def __init__(
        self,
        *,
        group: AutoScalingGroup,
        policy: Any = None,
        every_s: float = 60.0,
        interruptions_per_hour: float = 0.0,
        notice_s: float = 120.0,
        episodes: Sequence[SpotEpisode] = (),
        refreshes: Sequence[TimedRefresh] = (),
        seed: int = 0,
    ) -> None:
        for method in ("set_desired", "set_offers", "instances", "events", "step"):
            if not callable(getattr(group, method, None)):
                raise check.wrong("group", group, "an AutoScalingGroup")
        if policy is not None and not callable(getattr(policy, "recommend", None)):
            raise check.wrong("policy", policy, "None or an object with a method 'recommend'")
        self.every_s = check.number("every_s", every_s, 1e-3, 1e9, unit="seconds")
        self.interruptions_per_hour = check.number("interruptions_per_hour", interruptions_per_hour, 0, 3600)
        self.notice_s = check.seconds("notice_s", notice_s)
        self.episodes = tuple(episodes)
        last = 0.0
        for i, one in enumerate(self.episodes):
            if not isinstance(one, SpotEpisode):
                raise check.wrong(f"episodes[{i}]", one, "a SpotEpisode")
            if one.start_s < last:
                raise check.wrong(f"episodes[{i}].start_s", one.start_s, f"in order, and not before {last:g}")
            last = one.end_s
        self.refreshes = tuple(refreshes)
        for i, timed in enumerate(self.refreshes):
            if not isinstance(timed, TimedRefresh):
                raise check.wrong(f"refreshes[{i}]", timed, "a TimedRefresh")
            if i and timed.at_s <= self.refreshes[i - 1].at_s:
                raise check.wrong(f"refreshes[{i}].at_s", timed.at_s, "later than the one before")
        self.policy = policy
        self._given = group
        self._offers = group.offers
        self.seed = check.whole("seed", seed, 0, 2**64 - 1)
        self._reset()

    def _reset(self) -> None:
        import copy

        self.group = copy.deepcopy(self._given)
        self._rng = np.random.default_rng(self.seed)
        self._now = 0.0
        self._asked = -self.every_s
        self._edges = sorted(
            [(one.start_s, 1, one) for one in self.episodes] + [(one.end_s, 0, one) for one in self.episodes],
            key=lambda edge: edge[:2],
        )
        self._begun = False
        self._due = list(self.refreshes)
        self.skipped_refreshes = 0
        self._cost = 0.0
        self._hours = {"on_demand": 0.0, "spot": 0.0}
        self._seen: tuple[Any, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> GroupScaling:
        import copy

        return GroupScaling(
            group=self._given,
            policy=copy.deepcopy(self.policy, memo),
            every_s=self.every_s,
            interruptions_per_hour=self.interruptions_per_hour,
            notice_s=self.notice_s,
            episodes=self.episodes,
            refreshes=self.refreshes,
            seed=self.seed,
        )

    def __repr__(self) -> str:
        return f"<GroupScaling: {self.group.status()['in_service']} in service, {type(self.policy).__name__}>"

    @property
    def cost(self) -> float:
        """What the instances cost until the last look, in the offers' currency."""
        return self._cost

    @property
    def interrupted(self) -> int:
        """Spot instances that were interrupted so far."""
        return int(self.group.status()["interrupted"])

    def recommend(self, observation: Mapping[str, Any], /, *, now: float) -> Any:
        """The servers that the fleet has: `desired` is the number of the group's instances in service."""
        if not self._begun:
            self._start()
        self._spend(now)
        self._interrupt(now)
        while self._edges and self._edges[0][0] <= now:
            self._edge(*self._edges.pop(0)[1:], now)
        while self._due and self._due[0].at_s <= now:
            self._refresh(self._due.pop(0), now)
        self.group.step(now)
        if self.policy is not None and now >= self._asked + self.every_s - 1e-6:
            self._asked = now
            seen = self.group.observation(observation["metrics"])
            wanted = self.policy.recommend(seen, now=now).desired
            if wanted is not None:
                self.group.set_desired(min(max(wanted, self.group.min_size), self.group.max_size), now=now)
        self._now = now
        # One view a look: it is what a look costs.
        self._seen = self.group.instances()
        return SimpleNamespace(desired=sum(one.phase == "in_service" for one in self._seen))

    def _start(self) -> None:
        """The instances that the run begins with are in service before anybody looks."""
        from ..capacity import InstanceEvent

        self._begun = True
        group = self.group
        group.step(0.0)
        for _ in range(3):
            for kind in ("launched", "loaded", "warmed"):
                group.events([InstanceEvent(one.id, kind) for one in group.instances()], now=0.0)
        group.step(0.0)
        self._seen = group.instances()

    def _spend(self, now: float) -> None:
        idle = {"waiting"} if getattr(self.group.warm_pool, "state", None) != "running" else set()
        hours = (now - self._now) / 3600
        for one in self._seen:
            if one.phase not in idle:
                self._cost += hours * one.price
                self._hours[one.market] += hours

    def _refresh(self, timed: TimedRefresh, now: float) -> None:
        try:
            self.group.start_refresh(timed.refresh, now=now, template=timed.template)
        except ConfigError:
            # Another one is in progress: what is asked of it was checked before the run.
            self.skipped_refreshes += 1

    def _end(self, now: float) -> tuple[float, dict[str, float]]:
        """What the instances cost until `now`, the end of a run, and more about them."""
        self._spend(now)
        self._now = now
        return self._cost, {
            "group_cost": self._cost,
            "interruptions": float(self.interrupted),
            "on_demand_hours": self._hours["on_demand"],
            "spot_hours": self._hours["spot"],
            "skipped_refreshes": float(self.skipped_refreshes),
        }

    @staticmethod
    def _spot(instances: Sequence[Any]) -> list[Any]:
        return [
            one
            for one in instances
            if one.market == "spot"
            and not one.at_risk
            and one.phase in ("launching", "loading", "warming", "in_service")
        ]

    def _take(self, instances: Sequence[Any], now: float) -> None:
        from ..capacity import SpotInterruption

        self.group.events([SpotInterruption(one.id, notice=self.notice_s) for one in instances], now=now)

    def _edge(self, begins: int, episode: SpotEpisode, now: float) -> None:
        if not begins:
            self.group.set_offers(self._offers, now=now)
            return
        short = [dataclasses.replace(one, depth=episode.depth) if one.market == "spot" else one for one in self._offers]
        spot = self._spot(self.group.instances())
        count = int(np.ceil(episode.reclaim * len(spot) - 1e-9))
        self.group.set_offers(short, now=now)
        self._take(spot[:count], now)

    def _interrupt(self, now: float) -> None:
        if self.interruptions_per_hour and now > self._now:
            chance = 1 - np.exp(-self.interruptions_per_hour * (now - self._now) / 3600)
            spot = self._spot(self._seen)
            self._take([one for one, u in zip(spot, self._rng.random(len(spot)), strict=True) if u < chance], now)
