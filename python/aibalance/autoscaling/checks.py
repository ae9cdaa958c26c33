"""Configurations that cannot work, or not as one hopes: each rule with the figure that it goes by.

Sources: the user guides of EC2 Auto Scaling and Elastic Load Balancing (warm pools, capacity rebalancing, slow start),
Kubernetes v1.36.2 (tolerance, stabilization), KEDA v2.20.2 (cooldown).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._errors import ConfigError
from ._aims import aims, bounds, walk, windows

__all__ = ["PolicyWarning", "check"]

Rule = Literal[
    "tolerance_swallows_step",
    "window_longer_than_cold_start",
    "target_above_saturation",
    "cooldown_without_effect",
    "stabilization_hides_scale_in",
    "warm_pool_with_mixed_or_spot",
    "slow_start_with_least_outstanding",
    "lowest_price_with_rebalancing",
    "workloads_share_servers",
]

_GPU = re.compile(r"gpu|dcgm|kv_cache|vllm|cuda", re.IGNORECASE)
_LEAST = {
    "leastrequest",
    "leastconnections",
    "leastoutstandingrequests",
    "leastconn",
    "leasttime",
    "weightedleastrequest",
}
_KEDA_COOLDOWN = 300.0


@dataclass(frozen=True)
class PolicyWarning:
    """One thing that will not work.

    `rule`: its name. `field`: what to change. `message`: what happens, with figures.

    >>> str(PolicyWarning("cooldown_without_effect", "cooldown_period", "it has no effect"))
    'cooldown_period: it has no effect'
    """

    rule: Rule
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def check(
    policy: Any,
    /,
    *,
    current: int | None = None,
    cold_start: float | None = None,
    saturation: float | Mapping[str, float] | None = None,
    gpu: bool | None = None,
    peak_interval: float = 300.0,
    warm_pool: Any = None,
    mixed_instances: Any = None,
    spot: bool = False,
    allocation_strategy: str | None = None,
    capacity_rebalancing: bool = False,
    slow_start: Any = None,
    picker: Any = None,
    beside: Iterable[Any] = (),
) -> list[PolicyWarning]:
    """What of a policy, and of the fleet that it scales, cannot work. What is not said is not looked at.

    Parameters
    ----------
    policy : one of ours, also inside filters, or any other, of which only the fleet can be judged.
    current (None) : servers at which the tolerance is judged; None is the policy's upper bound.
    cold_start (None) : seconds from a decision until a server works; None does not judge windows by it.
    saturation (None) : the value beyond which a metric does not grow (100 for percent), for all or by name.
    gpu (None) : whether servers are dear enough that idle ones matter; None goes by the names of metrics and workload.
    peak_interval (300.0) : seconds between peaks of the load, or how long an idle GPU may be kept.
    warm_pool, mixed_instances (None), spot (False) : the group's.
    allocation_strategy (None) : of spot instances, "lowest-price" or another; capacity_rebalancing (False) : theirs.
    slow_start (None), picker (None) : the pool's ramp, and the picker or its name.
    beside () : policies of other workloads that run on the same servers.

    Returns warnings, in the order above. Raises ConfigError for arguments that cannot be.

    >>> from aibalance.autoscaling import KedaScaledObject
    >>> from aibalance.autoscaling.keda import Trigger
    >>> policy = KedaScaledObject(triggers=[Trigger(name="queue", threshold=5)], min_replicas=1, cooldown_period=60)
    >>> [warning.rule for warning in check(policy, current=4)]
    ['cooldown_without_effect']
    """
    for name, value in (("cold_start", cold_start), ("peak_interval", peak_interval)):
        if value is not None and not (_real(value) and 0 <= value < math.inf):
            raise ConfigError(f"{name}: {value!r} is not allowed; seconds of 0 or more")
    size: object = current
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise ConfigError(f"current: {current!r} is not allowed; a whole number of 0 or more")
    limits = saturation.values() if isinstance(saturation, Mapping) else [saturation]
    for limit in limits:
        if limit is not None and not (_real(limit) and limit > 0):
            raise ConfigError(f"saturation: {limit!r} is not allowed; a number above 0")
    found = [
        *_tolerance(policy, current),
        *_window(policy, cold_start),
        *_saturation(policy, saturation),
        *_cooldown(policy),
        *_stabilization(policy, gpu, peak_interval),
    ]
    mixed = mixed_instances is not None and mixed_instances is not False
    if warm_pool and (mixed or spot):
        other = "a mixed instances policy" if mixed else "spot instances"
        message = f"EC2 Auto Scaling refuses a warm pool beside {other}: the group cannot be made"
        found.append(PolicyWarning("warm_pool_with_mixed_or_spot", "warm_pool", message))
    if slow_start and picker is not None and _name(picker) in _LEAST:
        message = (
            f"a server that starts slowly has the fewest requests, so {_shown(picker)} sends it the next one: the load "
            "balancer's ramp has no effect (AWS does not allow both); take round robin, or a ramp inside the weights"
        )
        found.append(PolicyWarning("slow_start_with_least_outstanding", "slow_start", message))
    strategy = allocation_strategy
    if strategy is None:
        strategy = getattr(mixed_instances, "spot_allocation_strategy", None)
    if capacity_rebalancing and str(strategy).replace("_", "-") == "lowest-price":
        message = (
            "capacity rebalancing replaces an endangered instance out of the cheapest pool, which is the one most "
            "likely to be reclaimed next: AWS advises against it; take price-capacity-optimized"
        )
        found.append(PolicyWarning("lowest_price_with_rebalancing", "allocation_strategy", message))
    own = getattr(policy, "workload", None)
    others = sorted({str(w) for w in (getattr(one, "workload", None) for one in beside) if w is not None and w != own})
    if own is not None and others:
        message = f"{own} and {', '.join(others)} share servers: give each workload servers of its own"
        found.append(PolicyWarning("workloads_share_servers", "beside", message))
    return found


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _name(picker: Any) -> str:
    text = picker if isinstance(picker, str) else getattr(picker, "__name__", type(picker).__name__)
    return re.sub(r"[^a-z]", "", str(text).lower())


def _shown(picker: Any) -> str:
    return picker if isinstance(picker, str) else str(getattr(picker, "__name__", type(picker).__name__))


def _servers(n: int) -> str:
    return "1 server" if n == 1 else f"{n:,} servers"


def _tolerance(policy: Any, current: int | None) -> list[PolicyWarning]:
    size = current if current is not None else bounds(policy)[1]
    if not size:
        return []
    widest: dict[str, float] = {}
    for one in walk(policy):
        if type(one).__name__ == "Tolerance":
            widest = {"scale_out": one.scale_out, "scale_in": one.scale_in}
    for aim in aims(policy):
        if not aim.steps:
            widest[f"tolerance of {aim.metric}"] = aim.out
    for field, share in widest.items():
        # One server more is a change by 1 / size.
        if share > 0 and share * size >= 1 - 1e-9:
            swallowed = math.floor(share * size + 1e-9)
            message = (
                f"at {_servers(size)} a tolerance of {share:g} leaves a need of up to {_servers(swallowed)} more "
                f"unanswered; below {1 / size:.3g} a single one counts"
            )
            return [PolicyWarning("tolerance_swallows_step", field, message)]
    return []


def _window(policy: Any, cold_start: float | None) -> list[PolicyWarning]:
    wait = windows(policy)[0]
    if cold_start is None or wait <= cold_start:
        return []
    message = (
        f"it waits {wait:g} s before it adds what is there {cold_start:g} s later: the wait, not the start, is most of "
        f"the {wait + cold_start:g} s that a spike goes unanswered"
    )
    return [PolicyWarning("window_longer_than_cold_start", "scale-out window", message)]


def _saturation(policy: Any, saturation: float | Mapping[str, float] | None) -> list[PolicyWarning]:
    found = []
    for aim in aims(policy):
        limit = saturation.get(aim.metric) if isinstance(saturation, Mapping) else saturation
        if limit is None or aim.kind == "total":
            continue
        edge = aim.target * (1 + aim.out)
        if edge >= limit:
            with_tolerance = f" with its tolerance ({edge:g})" if aim.out and aim.target < limit else ""
            message = (
                f"{aim.metric} ends at {limit:g} and never gets above the target {aim.target:g}{with_tolerance}: "
                "it will not scale out"
            )
            found.append(PolicyWarning("target_above_saturation", f"target of {aim.metric}", message))
    return found


def _cooldown(policy: Any) -> list[PolicyWarning]:
    for one in walk(policy):
        keda = getattr(one, "scaled_object", one)
        if type(keda).__name__ != "KedaScaledObject" or not keda.min_replicas or keda.idle_replicas is not None:
            continue
        for field, value, default in (
            ("cooldown_period", keda.cooldown_period, _KEDA_COOLDOWN),
            ("initial_cooldown_period", keda.initial_cooldown_period, 0.0),
        ):
            if value != default:
                message = (
                    f"{value:g} s have no effect with min_replicas {keda.min_replicas}: KEDA's cooldown is only the "
                    "way to zero; what delays the rest is the autoscaler's stabilization window"
                )
                return [PolicyWarning("cooldown_without_effect", field, message)]
    return []


def _stabilization(policy: Any, gpu: bool | None, peak_interval: float) -> list[PolicyWarning]:
    if gpu is None:
        names = [aim.metric for aim in aims(policy)]
        for one in walk(policy):
            keda = getattr(one, "scaled_object", one)
            names += [str(getattr(keda, name, "")) for name in ("name", "target_name")]
        gpu = any(_GPU.search(name) for name in names)
    wait = windows(policy)[1]
    if not gpu or wait == 0 or wait < peak_interval:
        return []
    message = (
        f"every server, a GPU, is kept for {wait:g} s after it was last wanted; with a peak every {peak_interval:g} s "
        "the highest one of the window always counts, and nothing is ever taken away"
    )
    return [PolicyWarning("stabilization_hides_scale_in", "scale-in window", message)]
