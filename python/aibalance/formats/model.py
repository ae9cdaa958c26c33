"""What foreign configuration comes to in words of ours, and what became of every line of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .. import pickers
from .._core import Endpoint, ManualClock, Pool, SlowStart, SystemClock
from .._errors import ConfigError, FormatError
from ..capacity import InstanceRefresh, MixedInstancesPolicy, WarmPool
from ..passive import MaxFails, OutlierDetection
from ..routing import Router, Rule

__all__ = [
    "GroupConfig",
    "HealthCheckConfig",
    "Imported",
    "PickerConfig",
    "PolicyConfig",
    "PoolConfig",
    "Remark",
    "RouterConfig",
    "ServerConfig",
    "StickinessConfig",
]


@dataclass(frozen=True)
class Remark:
    """A line of a file that did not become anything, or not quite, and why.

    `where` is the file and the line, `field` the directive or field, `reason` the rest.

    >>> str(Remark("nginx.conf:11", "keepalive", "connections are the caller's"))
    "nginx.conf:11: keepalive: connections are the caller's"
    """

    where: str
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field}: {self.reason}" if self.field else f"{self.where}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """One server of a pool, as a file names it. Raises ConfigError for what an Endpoint refuses.

    `address`, `weight` (1), `backup`, `max_inflight`, `zone`, `priority`, `hash_key`: those of an Endpoint; `id` (None)
    is the address. `max_fails`, `fail_timeout`: nginx's rule for this server, or None. `down`: gets no request, but
    keeps its place in hashes.

    >>> ServerConfig(address="a:80", weight=3).endpoint()
    Endpoint('a:80', weight=3)
    """

    address: str
    id: str | None = None
    weight: float = 1
    backup: bool = False
    down: bool = False
    max_inflight: int | None = None
    zone: str = ""
    priority: int = 0
    hash_key: str | int | None = None
    max_fails: int | None = None
    fail_timeout: float | None = None

    def __post_init__(self) -> None:
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """The endpoint of the pool."""
        passive = None
        if self.max_fails is not None or self.fail_timeout is not None:
            passive = MaxFails(
                1 if self.max_fails is None else self.max_fails,
                10.0 if self.fail_timeout is None else self.fail_timeout,
            )
        return Endpoint(
            self.address,
            id=self.id,
            weight=self.weight,
            backup=self.backup,
            max_inflight=self.max_inflight,
            zone=self.zone,
            priority=self.priority,
            hash_key=self.hash_key,
            passive=passive,
        )


@dataclass(frozen=True, kw_only=True)
class PickerConfig:
    """How a pool is balanced: the name of a picker, its options, and what the key is taken from.

    >>> PickerConfig(name="RingHash", options={"ring": "nginx"}, key="$request_uri").build(["a", "b"]).pick("/x").id
    'a'
    """

    name: str = "RoundRobin"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    key: str | None = None

    def build(self, pool: Any, /) -> Any:
        """The picker on a pool, or on endpoints."""
        return getattr(pickers, self.name)(pool, **self.options)


@dataclass(frozen=True, kw_only=True)
class HealthCheckConfig:
    """How a pool's servers are asked whether they are well. Times in seconds.

    `kind`: "http", "tcp" or "grpc". `status`: what counts as well, as the file writes it, or None.

    >>> HealthCheckConfig(path="/health", interval=15, timeout=5).unhealthy_threshold
    3
    """

    kind: str = "http"
    path: str | None = None
    interval: float = 30.0
    timeout: float = 5.0
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3
    status: str | None = None


@dataclass(frozen=True, kw_only=True)
class StickinessConfig:
    """A session cookie: its name, its age in seconds (None: until the browser closes), and its kind.

    >>> StickinessConfig(cookie="AWSALB", max_age=3600).kind
    'lb_cookie'
    """

    cookie: str
    max_age: float | None = None
    kind: str = "lb_cookie"


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """A pool of servers and how it is balanced: an upstream, a cluster, a backend, a target group.

    `panic_threshold`, `on_panic`, `failover`, `overprovisioning_factor`, `zone_weights`, `slow_start`, `outliers`: the
    pool's options. `connect_timeout`, `read_timeout`: seconds, None where the file has none. `health`, `stickiness`:
    what else the file says. `port` is a target group's. `where`: file and line.

    >>> pool = PoolConfig(name="api", servers=(ServerConfig(address="a:80"), ServerConfig(address="b:80")))
    >>> pool.build(seed=1).pick().address
    'a:80'
    """

    name: str
    servers: tuple[ServerConfig, ...] = ()
    picker: PickerConfig = PickerConfig()
    slow_start: SlowStart | None = None
    outliers: OutlierDetection | None = None
    failover: str = "overflow"
    panic_threshold: float = 0.5
    on_panic: str = "all"
    overprovisioning_factor: float = 1.4
    zone_weights: Mapping[str, float] | None = field(default=None, hash=False)
    connect_timeout: float | None = None
    read_timeout: float | None = None
    health: HealthCheckConfig | None = None
    stickiness: StickinessConfig | None = None
    port: int | None = None
    where: str = field(default="", compare=False)

    def pool(self, *, seed: int | None = None, clock: SystemClock | ManualClock | None = None) -> Pool:
        """The pool; servers that are `down` are told unhealthy."""
        made = Pool(
            [one.endpoint() for one in self.servers],
            slow_start=self.slow_start,
            passive=self.outliers,
            failover=self.failover,  # type: ignore[arg-type]
            panic_threshold=self.panic_threshold,
            on_panic=self.on_panic,  # type: ignore[arg-type]
            overprovisioning_factor=self.overprovisioning_factor,
            zone_weights=self.zone_weights,
            clock=clock,
            seed=seed,
        )
        for one, endpoint in zip(self.servers, made.endpoints, strict=True):
            if one.down:
                made.set_health(endpoint.id, "unhealthy")
        return made

    def build(self, *, seed: int | None = None, clock: SystemClock | ManualClock | None = None) -> Any:
        """The picker on its pool."""
        return self.picker.build(self.pool(seed=seed, clock=clock))


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """Rules that say which pool a request goes to; targets are names of pools.

    `"@local"` as a target says that the proxy answers by itself.

    >>> RouterConfig(name="server", rules=(Rule(location="/api/", to="api"),)).build().route("/api/x").target
    'api'
    """

    name: str
    rules: tuple[Rule, ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def build(self, *, seed: int | None = None) -> Router:
        """The router."""
        return Router(self.rules, seed=seed, **self.options)


_Named = TypeVar("_Named", PoolConfig, "PolicyConfig", "GroupConfig")


class _Recommends(Protocol):
    def recommend(self, observation: Any, /, *, now: float | None = None) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """A scaling policy: an object of `aibalance.autoscaling`, what it scales, and what the file says besides.

    `target` is the deployment, group or service. `extra` is what an export needs and no decision does. `where`: the
    file and the line.

    >>> from aibalance.autoscaling import RayServeAutoscaler
    >>> PolicyConfig(name="llm", target="llm", policy=RayServeAutoscaler(max_replicas=4)).policy.max_replicas
    4
    """

    name: str
    target: str
    policy: _Recommends
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """A group of instances: its bounds and how they come and go. Times in seconds.

    `instance_types`: pairs of name and weighted capacity. `warm_pool_state`: "Stopped", "Running" or "Hibernated".

    >>> GroupConfig(name="gpu", min_size=2, max_size=15, warm_pool=WarmPool(min_size=2)).warm_pool_state
    'Stopped'
    """

    name: str
    min_size: int
    max_size: int
    desired: int | None = None
    default_warmup: float | None = None
    default_cooldown: float = 300.0
    health_check_grace: float = 300.0
    warm_pool: WarmPool | None = None
    warm_pool_state: str = "Stopped"
    mixed: MixedInstancesPolicy | None = None
    spot_allocation: str | None = None
    instance_types: tuple[tuple[str, int], ...] = ()
    refresh: InstanceRefresh | None = None

    def __post_init__(self) -> None:
        for name in ("min_size", "max_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
                raise ConfigError(f"{name}: {value!r} is not allowed; a whole number of 0 or more")
        if self.min_size > self.max_size:
            raise ConfigError(f"min_size: {self.min_size} is not allowed; at most max_size, {self.max_size}")
        if self.desired is not None and not self.min_size <= self.desired <= self.max_size:
            allowed = f"from min_size, {self.min_size}, to max_size, {self.max_size}"
            raise ConfigError(f"desired: {self.desired} is not allowed; {allowed}")


@dataclass(frozen=True)
class Imported:
    """What files came to: pools, routers, groups and policies, and each line that became none of these.

    `ignored`: what decides nothing, with the reason. `approximated`: what is mapped, but not exactly. `refused`: what
    is wrong or cannot be honoured; `check()` raises for it.

    >>> Imported(refused=(Remark("a.tf:4", "min", "did you mean min_size?"),)).check()
    Traceback (most recent call last):
    aibalance._errors.FormatError: a.tf:4: min: did you mean min_size?
    """

    pools: tuple[PoolConfig, ...] = ()
    routers: tuple[RouterConfig, ...] = ()
    groups: tuple[GroupConfig, ...] = ()
    policies: tuple[PolicyConfig, ...] = ()
    ignored: tuple[Remark, ...] = ()
    approximated: tuple[Remark, ...] = ()
    refused: tuple[Remark, ...] = ()

    def check(self) -> Imported:
        """Itself, or FormatError with all that was refused."""
        if self.refused:
            raise FormatError("\n".join(str(one) for one in self.refused))
        return self

    def pool(self, name: str, /) -> PoolConfig:
        """The pool of that name. Raises ConfigError."""
        return _named("pool", self.pools, name)

    def policy(self, name: str, /) -> PolicyConfig:
        """The policy of that name. Raises ConfigError."""
        return _named("policy", self.policies, name)

    def group(self, name: str, /) -> GroupConfig:
        """The group of that name. Raises ConfigError."""
        return _named("group", self.groups, name)

    def mapped(self) -> dict[str, Any]:
        """All that is mapped as plain values, for JSON and for comparing two imports."""
        return {
            name: [plain(one) for one in getattr(self, name)] for name in ("pools", "routers", "groups", "policies")
        }

    def __add__(self, other: Imported) -> Imported:
        return Imported(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


def _named(what: str, all_: Sequence[_Named], name: str) -> _Named:
    for one in all_:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in all_) or "none"
    raise ConfigError(f"{what}: {name!r} is not there; there are: {known}")


def plain(value: Any) -> Any:
    """A configuration as plain values; what is at its default is left out."""
    if isinstance(value, SlowStart):
        names = ("window", "ramp", "aggression", "min_weight", "requests")
        return {name: getattr(value, name) for name in names if getattr(value, name) is not None}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {}
        if not type(value).__name__.endswith("Config"):
            out["kind"] = type(value).__name__
        for f in dataclasses.fields(value):
            given = getattr(value, f.name)
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            if f.name not in ("clock", "ignored", "where") and given != default:
                out[f.name] = plain(given)
        return out
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value


@dataclass
class Report:
    """What a reader fills in."""

    pools: list[PoolConfig] = field(default_factory=list)
    routers: list[RouterConfig] = field(default_factory=list)
    groups: list[GroupConfig] = field(default_factory=list)
    policies: list[PolicyConfig] = field(default_factory=list)
    ignored: list[Remark] = field(default_factory=list)
    approximated: list[Remark] = field(default_factory=list)
    refused: list[Remark] = field(default_factory=list)

    def refuse(self, error: ConfigError, where: str) -> None:
        """Takes up an error; one that names no place gets `where`."""
        said = " ".join(str(error).split())
        place, _, rest = said.partition(": ")
        if not isinstance(error, FormatError) or not rest:
            place, rest = where, said
        name, _, reason = rest.partition(": ")
        remark = Remark(place, name, reason) if reason else Remark(place, "", rest)
        if remark not in self.refused:
            self.refused.append(remark)

    def guard(self, where: str, make: Callable[[], object]) -> None:
        """Runs a part of a reader; what it refuses does not keep the others from being read."""
        try:
            make()
        except ConfigError as error:
            self.refuse(error, where)

    def done(self) -> Imported:
        """What was read."""
        return Imported(*(tuple(getattr(self, f.name)) for f in dataclasses.fields(Imported)))
