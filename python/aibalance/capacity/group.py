"""A group of instances that lives: it is told what happens, and says what to do.

Source: EC2 Auto Scaling user guide (last public Markdown edition, 2023-06). What it leaves open is in
`docs/capacity.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from .._core import GroupEngine
from ._checks import count as _count
from ._checks import flag as _flag
from ._checks import number as _number
from ._checks import one_of as _one_of
from ._checks import wrong as _wrong

if TYPE_CHECKING:
    from .rules import InstanceRefresh, LifecycleHook, MixedInstancesPolicy, WarmPool

__all__ = [
    "AutoScalingGroup",
    "GroupAction",
    "GroupInstance",
    "InstanceEvent",
    "Offer",
    "SpotInterruption",
]

Market = Literal["on_demand", "spot"]
EventKind = Literal[
    "launched",
    "loaded",
    "warmed",
    "failed",
    "drained",
    "stopped",
    "terminated",
    "continue",
    "abandon",
    "heartbeat",
    "restart",
    "replace",
    "reload",
    "scale_up",
    "stop_sending",
    "resume_sending",
    "rebalance_recommendation",
    "protect",
    "unprotect",
]
EVENTS = tuple(EventKind.__args__)  # type: ignore[attr-defined]
NOTICE = {"aws": 120.0, "gcp": 30.0, "azure": 30.0}
TERMINATION = (
    "default",
    "allocation_strategy",
    "oldest_launch_template",
    "oldest_launch_configuration",
    "closest_to_next_instance_hour",
    "newest_instance",
    "oldest_instance",
)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(field, value, "a text that is not empty")
    return value


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Instances of one type that can be had in one zone and one market.

    `type`, `zone`: names. `price`: of an hour, 0 to 1e9. `market` ("on_demand") or "spot". `depth` (None): how many the
    group can have of it at once; None is not known, and taken for enough. `interruption_rate` (0.0): the share of
    instances that is reclaimed in a month, 0 to 1. `priority` (0): lower is preferred.
    Raises ConfigError.

    >>> Offer(type="g5.xlarge", zone="a", market="spot", price=0.4, interruption_rate=0.2).depth is None
    True
    """

    type: str
    zone: str
    price: float
    market: Market = "on_demand"
    depth: int | None = None
    interruption_rate: float = 0.0
    priority: int = 0

    def __post_init__(self) -> None:
        _text("type", self.type), _text("zone", self.zone)
        _number("price", self.price, 0, 1e9)
        _one_of("market", self.market, ("on_demand", "spot"))
        if self.depth is not None:
            _count("depth", self.depth)
        _number("interruption_rate", self.interruption_rate, 0, 1)
        _count("priority", self.priority)


@dataclass(frozen=True)
class GroupAction:
    """Something that the group wants done.

    `kind`: of instances "launch", "launch_into_pool", "take_from_pool", "start", "launch_hook", "load", "warm",
    "put_in_service", "stop_sending", "resume_sending", "restart", "reload", "drain", "terminate_hook", "stop",
    "hibernate", "terminate"; of the group "set_desired", "checkpoint" (`value` percent), "refresh_ended" (`value`
    instances). `instance`: its id, None for the group. `at`: seconds, when it was due. `reason`: a word or two for
    people. `type`, `zone`, `market`, `price`, `template`: what the instance is.

    >>> GroupAction("terminate", "i-1", 60.0, "scale in").instance
    'i-1'
    """

    kind: str
    instance: str | None
    at: float
    reason: str
    value: int | None = None
    type: str | None = None
    zone: str | None = None
    market: Market | None = None
    price: float | None = None
    template: int | None = None


@dataclass(frozen=True)
class GroupInstance:
    """An instance as the group knows it. Instants are seconds.

    `phase`: "launching", "starting" (from the pool, or anew), "launch_hook", "loading", "warming", "in_service",
    "resting" (on the way into the pool), "waiting" (in it), "draining", "terminate_hook", "stopping" or "terminating".
    `pooled`: whether it belongs to the warm pool. `sending`: whether it gets requests. `at_risk`: whether an
    interruption was announced. `replaces`: the id of the one that it stands for until that one goes.

    >>> group = AutoScalingGroup(offers=[Offer(type="g5", zone="a", price=1.0)], min_size=1, max_size=2, launch_time=60)
    >>> _ = group.step(0.0)
    >>> group.instances()[0].phase
    'launching'
    """

    id: str
    phase: str
    type: str
    zone: str
    market: Market
    price: float
    template: int
    launched_at: float
    since: float
    pooled: bool
    protected: bool
    sending: bool
    at_risk: bool
    replaces: str | None


@dataclass(frozen=True)
class InstanceEvent:
    """Something that happened to an instance, or is asked for it.

    `kind`: a stage is over ("launched", "loaded", "warmed", "drained", "stopped", "terminated"), or it never began to
    work ("failed"); a hook's answer ("continue", "abandon", "heartbeat"); what a health check asks for ("restart",
    "replace", "reload", "scale_up", "stop_sending", "resume_sending"); "rebalance_recommendation" of the cloud;
    "protect" and "unprotect" from scaling in. One that does not fit where the instance is changes nothing. Raises
    ConfigError.

    >>> InstanceEvent("i-1", "launched").kind
    'launched'
    """

    instance: str
    kind: EventKind

    def __post_init__(self) -> None:
        _text("instance", self.instance)
        _one_of("kind", self.kind, EVENTS)


@dataclass(frozen=True)
class SpotInterruption:
    """The cloud takes an instance away: `notice` seconds are left.

    `cloud` ("aws", "gcp" or "azure") says how long that is if `notice` does not: 120 seconds on AWS, 30 elsewhere.
    Raises ConfigError. Source: EC2 user guide, Spot interruption notices; Compute Engine and Azure by secondary
    sources.

    >>> SpotInterruption("i-1").notice, SpotInterruption("i-1", cloud="gcp").notice
    (120.0, 30.0)
    """

    instance: str
    cloud: str = "aws"
    notice: float | None = None

    def __post_init__(self) -> None:
        _text("instance", self.instance)
        _one_of("cloud", self.cloud, tuple(NOTICE))
        notice = NOTICE[self.cloud] if self.notice is None else self.notice
        object.__setattr__(self, "notice", _number("notice", notice, 0, 86_400))


class _Health(Protocol):
    """What a health checker raises: `aibalance.health.HealthEvent`."""

    @property
    def endpoint(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def over(self) -> bool: ...


def _event(event: Any) -> dict[str, Any] | None:
    """As the native half reads it; None for what needs nothing done."""
    if isinstance(event, SpotInterruption):
        return {"instance": event.instance, "kind": "interruption", "notice": event.notice}
    if isinstance(event, InstanceEvent):
        return {"instance": event.instance, "kind": event.kind}
    try:
        instance, action, over = event.endpoint, event.action, event.over
    except AttributeError:
        raise _wrong("events", event, "InstanceEvent, SpotInterruption or HealthEvent") from None
    if over:
        return {"instance": instance, "kind": "resume_sending"} if action == "stop_sending" else None
    return {"instance": instance, "kind": action}


def _one(field: str, value: Any, kind: type[Any]) -> list[dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, kind):
        raise _wrong(field, value, f"a {kind.__name__} or None")
    plain: dict[str, Any] = asdict(value)
    return [plain]


def _offers(offers: Any) -> tuple[Offer, ...]:
    if isinstance(offers, (str, Mapping)) or not isinstance(offers, Iterable):
        raise _wrong("offers", offers, "a sequence of Offer")
    found = tuple(offers)
    for n, offer in enumerate(found):
        if not isinstance(offer, Offer):
            raise _wrong(f"offers[{n}]", offer, "an Offer")
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class AutoScalingGroup:
    """A group of instances as a deterministic state machine: launch, load, warm, in service, drain, stop, terminate.

    It does nothing itself: each call says what is to be done at `now` (seconds of any clock), as actions in order. A
    stage lasts a stated time, or, with None, until an event; what takes longer than `stage_timeout` is given up and
    replaced. Time is worked through in order, so it does not matter how often one asks; `next_change` says when it is
    worth it.

    `offers`: what can be had, each type once in a zone and market. `min_size` (0), `max_size`, `desired` (None: the
    minimum): instances, up to 10000. `mixed` (None): a MixedInstancesPolicy; None buys on demand by priority.
    `warm_pool` (None): a WarmPool, not with spot. `launch_hook`, `terminate_hook` (None): a LifecycleHook each.
    `launch_time`, `start_time` (None): seconds until a new, a stopped instance is up. `load_time`, `warmup` (0.0): of
    the model, of test requests. `drain_time` (300.0): the most that draining takes. `stop_time`, `terminate_time`
    (0.0). `stage_timeout` (3600.0): 1 to 604800. `termination_policies` (("default",)): who goes first; "default",
    "allocation_strategy", "oldest_launch_template", "oldest_launch_configuration", "closest_to_next_instance_hour",
    "newest_instance", "oldest_instance"; "default" is the last one. `protect_new` (False): new instances are protected
    from scaling in. `zone_distribution` ("balanced_best_effort") or "balanced_only". `zone_rebalance` (True): zones are
    evened out, one started before one goes. `capacity_rebalance` (False): who may be interrupted is replaced
    beforehand. `health_grace` (0.0): seconds in service before health counts. `launch_retry` (60.0): seconds for which
    an offer that failed is left alone. `template` (1): the version that instances are started from;
    `launch_configuration` (False): whether that is one of the older kind.
    Raises ConfigError. Pickling keeps the memory. Source: see the module.

    >>> group = AutoScalingGroup(
    ...     offers=[Offer(type="g5.xlarge", zone=zone, price=1.006) for zone in ("a", "b")],
    ...     min_size=1, max_size=4, launch_time=60, load_time=90, warmup=30, drain_time=120,
    ... )
    >>> [(a.kind, a.instance, a.zone) for a in group.set_desired(2, now=0.0)]
    [('launch', 'i-1', 'a'), ('launch', 'i-2', 'b')]
    >>> [(a.kind, a.at) for a in group.step(200.0) if a.instance == "i-1"]
    [('load', 60.0), ('warm', 150.0), ('put_in_service', 180.0)]
    >>> [(a.kind, a.instance) for a in group.set_desired(1, now=300.0)], group.next_change
    ([('drain', 'i-1')], 420.0)
    """

    offers: Sequence[Offer]
    max_size: int
    min_size: int = 0
    desired: int | None = None
    mixed: MixedInstancesPolicy | None = None
    warm_pool: WarmPool | None = None
    launch_hook: LifecycleHook | None = None
    terminate_hook: LifecycleHook | None = None
    launch_time: float | None = None
    start_time: float | None = None
    load_time: float | None = 0.0
    warmup: float | None = 0.0
    drain_time: float = 300.0
    stop_time: float | None = 0.0
    terminate_time: float | None = 0.0
    stage_timeout: float = 3600.0
    termination_policies: Sequence[str] = ("default",)
    protect_new: bool = False
    zone_distribution: Literal["balanced_best_effort", "balanced_only"] = "balanced_best_effort"
    zone_rebalance: bool = True
    capacity_rebalance: bool = False
    health_grace: float = 0.0
    launch_retry: float = 60.0
    template: int = 1
    launch_configuration: bool = False

    def __post_init__(self) -> None:
        from .rules import LifecycleHook, MixedInstancesPolicy, WarmPool

        object.__setattr__(self, "offers", _offers(self.offers))
        policies = self.termination_policies
        if isinstance(policies, str) or not isinstance(policies, Iterable):
            raise _wrong("termination_policies", policies, f"a sequence of {', '.join(TERMINATION)}")
        object.__setattr__(self, "termination_policies", tuple(policies))
        config = {f.name: getattr(self, f.name) for f in fields(self)}
        config["offers"] = [asdict(offer) for offer in self.offers]
        config["termination_policies"] = [
            {"policy": _one_of(f"termination_policies[{n}]", p, TERMINATION)}
            for n, p in enumerate(self.termination_policies)
        ]
        config["mixed"] = _one("mixed", self.mixed, MixedInstancesPolicy)
        config["warm_pool"] = _one("warm_pool", self.warm_pool, WarmPool)
        for name in ("launch_hook", "terminate_hook"):
            hook = getattr(self, name)
            config[name] = _one(name, hook, LifecycleHook)
            if hook is not None:
                config[name][0]["most"] = hook.global_timeout
        object.__setattr__(self, "_engine", GroupEngine(config))

    def _act(self, verb: str, values: dict[str, Any], now: float) -> list[GroupAction]:
        return [GroupAction(*head, *(about or ())) for head, about in self._native.act(verb, values, now)]

    @property
    def _native(self) -> GroupEngine:
        engine: GroupEngine = self.__dict__["_engine"]
        return engine

    def step(self, now: float, /) -> list[GroupAction]:
        """Works through what is due until `now`, in order. A time before the last one is the last one."""
        return [GroupAction(*head, *(about or ())) for head, about in self._native.step(now)]

    def set_desired(self, desired: int, /, *, now: float, prefer: Iterable[str] = ()) -> list[GroupAction]:
        """So many instances. `prefer`: ids to take out first, such as `Recommendation.remove`.

        Raises ConfigError, and changes nothing, outside of the bounds or for an id that was never one of the group.
        """
        named = [{"instance": instance} for instance in prefer]
        return self._act("desired", {"desired": desired, "prefer": named}, now)

    def set_bounds(self, *, min_size: int, max_size: int, now: float) -> list[GroupAction]:
        """Other bounds; what is desired is moved into them. Raises ConfigError."""
        return self._act("bounds", {"min_size": min_size, "max_size": max_size}, now)

    def set_offers(self, offers: Iterable[Offer], /, *, now: float) -> list[GroupAction]:
        """What can be had from now on, with new prices and depths. Raises ConfigError."""
        return self._act("offers", {"offers": [asdict(o) for o in _offers(offers)]}, now)

    def set_template(self, template: int, /, *, now: float, launch_configuration: bool = False) -> list[GroupAction]:
        """What instances are started from from now on; those that run stay as they are. Raises ConfigError."""
        values = {"template": template, "launch_configuration": _flag("launch_configuration", launch_configuration)}
        return self._act("template", values, now)

    def events(
        self, events: Iterable[InstanceEvent | SpotInterruption | _Health], /, *, now: float
    ) -> list[GroupAction]:
        """Takes up what happened, in order: InstanceEvent, SpotInterruption, or HealthEvent of `aibalance.health`.

        Of health events, "scale_up" starts at most one instance at a time, and one that is over sends requests again
        if they had been stopped. Raises ConfigError, and takes up none, if one is about an unknown instance.
        """
        read = [found for event in events if (found := _event(event)) is not None]
        return self._act("events", {"events": read}, now)

    def start_refresh(
        self, refresh: InstanceRefresh, /, *, now: float, template: int | None = None
    ) -> list[GroupAction]:
        """Replaces all instances in batches, by `template` if it is given.

        The group's own `load_time` and `warmup` count: a refresh with a `warmup` is refused. Raises ConfigError for
        that, and while another refresh is in progress.
        """
        from .rules import InstanceRefresh

        if not isinstance(refresh, InstanceRefresh):
            raise _wrong("refresh", refresh, "an InstanceRefresh")
        if refresh.warmup is not None:
            raise _wrong("refresh.warmup", refresh.warmup, "None: the group's own load_time and warmup count")
        return self._act("refresh", {**asdict(refresh), "template": template}, now)

    def cancel_refresh(self, *, now: float) -> list[GroupAction]:
        """Stops a refresh where it is. Raises ConfigError if none is in progress."""
        return self._act("cancel_refresh", {}, now)

    def roll_back(self, *, now: float) -> list[GroupAction]:
        """Ends a refresh and replaces what it had begun, by the template from before it.

        Raises ConfigError if none is in progress.
        """
        return self._act("roll_back", {}, now)

    def instances(self) -> tuple[GroupInstance, ...]:
        """All that are there, in the order in which they were started."""
        return tuple(GroupInstance(**i) for i in self._native.view()["instances"])

    def status(self) -> dict[str, Any]:
        """Counts, bounds, what became of instances since the beginning, and the last refresh.

        `size`: instances that count for the group; `in_service`, `warming` (of those), `pool` (ready in it), `leaving`;
        `launched`, `gone`, `failed`, `interrupted` since the beginning; `refresh`: None, or its status and counts.
        """
        view: dict[str, Any] = self._native.view()
        del view["instances"]
        return view

    def observation(self, metrics: Mapping[str, float | None] | None = None) -> dict[str, Any]:
        """What a scaling policy wants to see of the group: current, desired, warming, and these metrics.

        >>> group = AutoScalingGroup(offers=[Offer(type="g5", zone="a", price=1.0)], min_size=1, max_size=2)
        >>> _ = group.step(0.0)
        >>> group.observation({"cpu": 50.0})
        {'current': 0, 'desired': 1, 'warming': 1, 'metrics': {'cpu': 50.0}}
        """
        view = self._native.view()
        return {
            "current": view["in_service"],
            "desired": view["desired"],
            "warming": view["warming"],
            "metrics": dict(metrics or {}),
        }

    @property
    def next_change(self) -> float | None:
        """When something is due next, in seconds, if nothing happens before; None is never."""
        due: float | None = self._native.view()["next_change"]
        return due

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed here and unwise.

        >>> offers = [Offer(type="g5", zone="a", market="spot", price=0.4)]
        >>> from aibalance.capacity import MixedInstancesPolicy
        >>> mixed = MixedInstancesPolicy(on_demand_percent_above_base=0)
        >>> AutoScalingGroup(offers=offers, max_size=4, mixed=mixed, capacity_rebalance=True).warnings[0][:37]
        'capacity_rebalance with lowest_price:'
        """
        found = []
        spot = self.mixed is not None and self.mixed.on_demand_percent_above_base < 100
        if spot and self.mixed is not None and self.capacity_rebalance and self.mixed.spot_strategy == "lowest_price":
            found.append("capacity_rebalance with lowest_price: replacements come from pools that are interrupted soon")
        if self.capacity_rebalance and not spot:
            found.append("capacity_rebalance without spot instances: nothing is ever at risk")
        pools = {(o.type, o.zone) for o in self.offers if o.market == "spot"}
        if spot and len(pools) == 1:
            found.append("spot from one pool: an interruption takes all at once")
        zones = {o.zone for o in self.offers}
        if self.zone_distribution == "balanced_only" and len(zones) == 1:
            found.append("balanced_only with one zone: there is nothing to balance")
        return tuple(found)

    def state(self) -> dict[str, Any]:
        """Everything the group remembers, as a plain dictionary that JSON can carry. Instants are nanoseconds."""
        state: dict[str, Any] = self._native.state()
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state()` gave. Raises ConfigError, and changes nothing, if it does not fit this group."""
        self._native.restore(state)

    def __reduce__(self) -> tuple[Any, ...]:
        config = {f.name: getattr(self, f.name) for f in fields(self)}
        return _revive, (type(self), config, self.state())


def _revive(cls: Callable[..., AutoScalingGroup], config: dict[str, Any], state: dict[str, Any]) -> AutoScalingGroup:
    group = cls(**config)
    group.restore(state)
    return group
