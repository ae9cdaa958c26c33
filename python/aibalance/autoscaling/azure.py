"""Azure Monitor's autoscale.

Source: Azure Monitor's pages on autoscale settings, best practices and flapping (documentation sources of 2024-11 to
2026-08).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ._cloud import CloudPolicy, as_tuple
from .policy import Clock

__all__ = ["AzureAutoscale", "AzureRule"]


@dataclass(frozen=True, kw_only=True)
class AzureRule:
    """One rule: what a metric has to be, and what is done then.

    `direction`: "out" or "in". `metric`, `op` (">", ">=", "<", "<=", "==", "!="), `threshold`: the condition.
    `by` (1): instances, or percent, or the count itself, as `change` ("count", "percent", "exact") says.
    `cooldown` (300.0): seconds since the last change, in either direction, before this rule may act.
    `divide_by_instances` (False): the metric is of the whole group, such as the length of a queue.

    >>> AzureRule(direction="out", metric="cpu", op=">", threshold=75).cooldown
    300.0
    """

    direction: Literal["out", "in"]
    metric: str
    op: Literal[">", ">=", "<", "<=", "==", "!="]
    threshold: float
    by: int = 1
    change: Literal["count", "percent", "exact"] = "count"
    cooldown: float = 300.0
    divide_by_instances: bool = False


@dataclass(frozen=True, kw_only=True)
class AzureAutoscale(CloudPolicy):
    """Out if any rule says so, by the largest change; in only if all do, by the smallest; never in what would lead out.

    Before it scales in, each metric of a scale-out rule is projected on the fewer instances, `metric * n / (n - k)`; if
    that would fire the rule, a smaller k is tried, and with none nothing happens. Scale-out is never checked.

    `rules`: `AzureRule`s. `min_capacity` (1), `max_capacity`: bounds; a count outside, set by hand, goes back to them.
    `default_capacity` (None: `min_capacity`): what is raised to while a metric is missing and no scale-out rule fires.
    `clock` (None): None is `time.monotonic`.
    Raises ConfigError. Source: see the module. Choice: percentages round as AWS's do, which Azure does not publish.

    >>> rules = [
    ...     AzureRule(direction="out", metric="cpu", op=">=", threshold=80),
    ...     AzureRule(direction="in", metric="cpu", op="<=", threshold=60),
    ... ]
    >>> policy = AzureAutoscale(rules=rules, max_capacity=10)
    >>> policy.recommend({"current": 3, "metrics": {"cpu": 60}}, now=0.0).limited_by
    'flapping'
    >>> r = policy.recommend({"current": 3, "metrics": {"cpu": 50}}, now=0.0)
    >>> r.desired, r.details["projected_metric"]
    (2, 75.0)
    """

    rules: Sequence[AzureRule]
    max_capacity: int
    min_capacity: int = 1
    default_capacity: int | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self._begin("azure", self.clock, rules=as_tuple(self, "rules", AzureRule))
