"""The filters, scorers and choices that a `ScoringProfile` is made of, and what they see."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .._core import Endpoint
from .._picker import wrong
from ._checks import at_least, positive, text, whole_from

__all__ = [
    "ActiveRequestScorer",
    "EndpointView",
    "InferenceRequest",
    "KvCacheScorer",
    "LabelFilter",
    "LoadAwareScorer",
    "LoraScorer",
    "MaxScore",
    "NoHitLruScorer",
    "PrefixScorer",
    "QueueScorer",
    "RandomChoice",
    "RunningRequestsScorer",
    "SaturationFilter",
    "Scorer",
    "SessionScorer",
    "TokenLoadScorer",
    "WeightedRandomChoice",
]


class InferenceRequest(NamedTuple):
    """A key for `ScoredPicker`: what scorers may go by. All of it may be left out.

    >>> from aibalance.llm.scoring import InferenceRequest
    >>> InferenceRequest([1, 2, 3], adapter="sql").adapter
    'sql'
    """

    prompt: Any = None
    """Token ids, text, or block hashes, as for `PrefixIndex`."""
    adapter: str | None = None
    """The LoRA adapter; None for the base model."""
    session: str | None = None
    """The id of the endpoint that the session's token names."""
    priority: int = 0
    """Below 0 it may be shed: see `aibalance.llm.admission`."""


class EndpointView(NamedTuple):
    """What a filter or scorer sees of one endpoint.

    >>> from aibalance.llm.scoring import EndpointView, KvCacheScorer
    >>> KvCacheScorer().score([EndpointView(endpoint=Endpoint("a"), kv_cache=0.25)], InferenceRequest())
    [0.75]
    """

    endpoint: Endpoint
    """The endpoint."""
    waiting: float = 0.0
    """Requests that wait there, by its report; 0 without one."""
    running: float = 0.0
    """Requests that run there, by its report; without one those that were sent."""
    kv_cache: float = 0.0
    """The used share of its KV cache, by its report; 0 without one."""
    inflight: int = 0
    """Requests that were sent there and have not ended."""
    tokens: float = 0.0
    """The load: of leases whose cost is their tokens, the tokens in flight."""
    cached: float = 0.0
    """The share of the prompt's blocks that it has, from the first one on."""
    active_adapters: frozenset[str] = frozenset()
    """LoRA adapters that it runs."""
    waiting_adapters: frozenset[str] = frozenset()
    """LoRA adapters for which requests wait there."""
    max_adapters: int = 0
    """How many it may run at a time."""
    age: float | None = None
    """Seconds since its report; None when there is none. One to `pool.observe` that tells neither requests nor KV cache
    has age 0."""


@runtime_checkable
class Scorer(Protocol):
    """Scores candidates, of ours or of yours: 0 is worst, 1 is best, what is beyond is cut."""

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> Sequence[float]:
        """One number for each candidate; there is at least one."""
        ...


def _least_best(values: list[float]) -> list[float]:
    least, most = min(values), max(values)
    return [1.0 if most == least else (most - value) / (most - least) for value in values]


@dataclass(frozen=True)
class QueueScorer:
    """(most - waiting) / (most - least): 1 for the shortest queue of the candidates, 0 for the longest.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, QueueScorer
    >>> QueueScorer().score([EndpointView(endpoint=Endpoint(str(n)), waiting=n) for n in (0, 1, 4)], InferenceRequest())
    [1.0, 0.75, 0.0]
    """

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return _least_best([view.waiting for view in views])


@dataclass(frozen=True)
class RunningRequestsScorer:
    """As `QueueScorer`, of the requests that run.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, RunningRequestsScorer
    >>> views = [EndpointView(endpoint=Endpoint(str(n)), running=n) for n in (3, 3)]
    >>> RunningRequestsScorer().score(views, InferenceRequest())
    [1.0, 1.0]
    """

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return _least_best([view.running for view in views])


@dataclass(frozen=True)
class KvCacheScorer:
    """1 - the used share of the KV cache.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, KvCacheScorer
    >>> KvCacheScorer().score([EndpointView(endpoint=Endpoint("a"), kv_cache=0.75)], InferenceRequest())
    [0.25]
    """

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return [1.0 - view.kv_cache for view in views]


@dataclass(frozen=True)
class PrefixScorer:
    """The share of the prompt's blocks that the endpoint has cached, of its first `max_blocks` (256).

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, PrefixScorer
    >>> PrefixScorer().score([EndpointView(endpoint=Endpoint("a"), cached=0.5)], InferenceRequest())
    [0.5]
    """

    max_blocks: int = 256

    def __post_init__(self) -> None:
        whole_from("max_blocks", self.max_blocks, 1)

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return [view.cached for view in views]


@dataclass(frozen=True)
class LoraScorer:
    """1 where the request's adapter runs, 0.8 where there is room for one more, 0.6 where it waits, else 0.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, LoraScorer
    >>> views = [
    ...     EndpointView(endpoint=Endpoint("a"), active_adapters=frozenset({"x"}), max_adapters=1),
    ...     EndpointView(endpoint=Endpoint("b"), active_adapters=frozenset({"y"}), max_adapters=2),
    ...     EndpointView(endpoint=Endpoint("c"), active_adapters=frozenset({"y"}), max_adapters=1),
    ... ]
    >>> LoraScorer().score(views, InferenceRequest(adapter="x"))
    [1.0, 0.8, 0.0]
    """

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        out = []
        for view in views:
            if request.adapter in view.active_adapters:
                out.append(1.0)
            elif len(view.active_adapters) + len(view.waiting_adapters) < view.max_adapters:
                out.append(0.8)
            else:
                out.append(0.6 if request.adapter in view.waiting_adapters else 0.0)
        return out


@dataclass(frozen=True)
class SessionScorer:
    """1 for the endpoint that the session names, 0 for others.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, SessionScorer
    >>> SessionScorer().score([EndpointView(endpoint=Endpoint(n)) for n in "ab"], InferenceRequest(session="b"))
    [0.0, 1.0]
    """

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return [1.0 if view.endpoint.id == request.session else 0.0 for view in views]


@dataclass(frozen=True)
class LoadAwareScorer:
    """0.5 where nothing waits; where w wait, 0.5 * (1 - min(w, threshold) / threshold). `threshold` (128.0), above 0.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, LoadAwareScorer
    >>> views = [EndpointView(endpoint=Endpoint(str(n)), waiting=n) for n in (0, 64, 200)]
    >>> LoadAwareScorer().score(views, InferenceRequest())
    [0.5, 0.25, 0.0]
    """

    threshold: float = 128.0

    def __post_init__(self) -> None:
        positive("threshold", self.threshold)

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return [0.5 * (1.0 - min(view.waiting, self.threshold) / self.threshold) for view in views]


@dataclass(frozen=True)
class ActiveRequestScorer:
    """1 with up to `idle_threshold` (0) requests in flight, else (most - n) / most * `max_busy_score` (1.0).

    It counts what this picker's pool sent, and waits for no report.

    >>> from aibalance.llm.scoring import ActiveRequestScorer, EndpointView, InferenceRequest
    >>> views = [EndpointView(endpoint=Endpoint(str(n)), inflight=n) for n in (0, 1, 4)]
    >>> ActiveRequestScorer(max_busy_score=0.5).score(views, InferenceRequest())
    [1.0, 0.375, 0.0]
    """

    idle_threshold: int = 0
    max_busy_score: float = 1.0

    def __post_init__(self) -> None:
        whole_from("idle_threshold", self.idle_threshold, 0)
        at_least("max_busy_score", self.max_busy_score, 0.0, 1.0)

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        most = max(view.inflight for view in views)
        return [
            1.0 if view.inflight <= self.idle_threshold else (most - view.inflight) / most * self.max_busy_score
            for view in views
        ]


@dataclass(frozen=True)
class TokenLoadScorer:
    """1 - min(tokens, threshold) / threshold, of the tokens in flight. `threshold` (4194304.0), above 0.

    >>> from aibalance.llm.scoring import EndpointView, InferenceRequest, TokenLoadScorer
    >>> TokenLoadScorer(1000).score([EndpointView(endpoint=Endpoint("a"), tokens=250)], InferenceRequest())
    [0.75]
    """

    threshold: float = 4_194_304.0

    def __post_init__(self) -> None:
        positive("threshold", self.threshold)

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """See the class."""
        return [1.0 - min(view.tokens, self.threshold) / self.threshold for view in views]


@dataclass(frozen=True)
class NoHitLruScorer:
    """For a prompt of which nobody has anything: 1 for whoever got such a prompt longest ago, 0 for the last; else 0.5.

    So prompts that must be cached anew go round. It remembers up to `capacity` (1024) endpoints, in the picker.

    >>> from aibalance.llm.scoring import NoHitLruScorer, ScoredPicker, ScoringProfile
    >>> picker = ScoredPicker(["a", "b", "c"], ScoringProfile(scorers=[(NoHitLruScorer(), 1.0)]), seed=1)
    >>> len({picker.acquire(InferenceRequest([i] * 16)).endpoint.id for i in range(3)})
    3
    """

    capacity: int = 1024

    def __post_init__(self) -> None:
        whole_from("capacity", self.capacity, 1)

    def score(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[float]:
        """0.5: without the picker's memory nobody is known."""
        return [0.5 for _ in views]

    def _rank(self, views: Sequence[EndpointView], last: Mapping[str, int]) -> list[float]:
        if any(view.cached > 0 for view in views):
            return [0.5 for _ in views]
        if len(views) == 1:
            return [1.0]
        # Once: other threads' requests change it meanwhile.
        used = [last.get(view.endpoint.id, 0) for view in views]
        order = sorted(used)
        return [1.0 - order.index(one) / (len(views) - 1) for one in used]


@dataclass(frozen=True)
class LabelFilter:
    """Endpoints whose tag `label` is one of `values`; those without the tag too, if `allow_missing` (False).

    >>> from aibalance.llm.scoring import EndpointView, LabelFilter
    >>> views = [EndpointView(endpoint=Endpoint("a", tags={"role": "decode"})), EndpointView(endpoint=Endpoint("b"))]
    >>> [view.endpoint.id for view in LabelFilter("role", ["decode", "both"]).keep(views, InferenceRequest())]
    ['a']
    """

    label: str
    values: Sequence[str]
    allow_missing: bool = False

    def __post_init__(self) -> None:
        text("label", self.label)
        if isinstance(self.values, str) or not isinstance(self.values, Iterable):
            raise wrong("values", self.values, "a sequence of texts")
        object.__setattr__(self, "values", tuple(text("values", value) for value in self.values))

    def keep(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[EndpointView]:
        """Those who pass."""
        out = []
        for view in views:
            tags = view.endpoint.tags
            if tags[self.label] in self.values if self.label in tags else self.allow_missing:
                out.append(view)
        return out


@dataclass(frozen=True)
class SaturationFilter:
    """Endpoints with max(waiting / queue, kv_cache / limit) below 1 + `headroom`; all, when there are none.

    `queue` (5.0), `kv_cache` (0.8): above 0, the latter up to 1. `headroom` (0.0). `max_age` (None): seconds after
    which a report is out of date, and its endpoint counts as saturated, as one without a report does.

    >>> from aibalance.llm.scoring import EndpointView, SaturationFilter
    >>> views = [EndpointView(endpoint=Endpoint(str(n)), waiting=n, age=0.0) for n in (4, 5)]
    >>> [view.endpoint.id for view in SaturationFilter().keep(views, InferenceRequest())]
    ['4']
    """

    queue: float = 5.0
    kv_cache: float = 0.8
    headroom: float = 0.0
    max_age: float | None = None

    def __post_init__(self) -> None:
        positive("queue", self.queue)
        positive("kv_cache", self.kv_cache)
        at_least("kv_cache", self.kv_cache, 0.0, 1.0)
        at_least("headroom", self.headroom)
        if self.max_age is not None:
            at_least("max_age", self.max_age)

    def saturation(self, view: EndpointView, /) -> float:
        """How full one endpoint is: 1 is full."""
        if view.age is None or (self.max_age is not None and view.age > self.max_age):
            return 1.0
        return max(view.waiting / self.queue, view.kv_cache / self.kv_cache)

    def keep(self, views: Sequence[EndpointView], request: InferenceRequest, /) -> list[EndpointView]:
        """Those who pass."""
        return [view for view in views if self.saturation(view) < 1.0 + self.headroom] or list(views)


@dataclass(frozen=True)
class MaxScore:
    """The largest sum; ties are drawn.

    >>> from aibalance.llm.scoring import MaxScore
    >>> MaxScore().order([0.5, 2.0, 1.0], random.Random(1))
    [1, 2, 0]
    """

    def order(self, totals: Sequence[float], chance: random.Random, /) -> list[int]:
        """Places, the first choice first."""
        places = list(range(len(totals)))
        chance.shuffle(places)
        return sorted(places, key=lambda i: -totals[i])


@dataclass(frozen=True)
class RandomChoice:
    """Anybody, whatever the sums.

    >>> from aibalance.llm.scoring import RandomChoice
    >>> sorted(RandomChoice().order([0.5, 2.0, 1.0], random.Random(1)))
    [0, 1, 2]
    """

    def order(self, totals: Sequence[float], chance: random.Random, /) -> list[int]:
        """Places, the first choice first."""
        places = list(range(len(totals)))
        chance.shuffle(places)
        return places


@dataclass(frozen=True)
class WeightedRandomChoice:
    """Drawn with chances in proportion to the sums; those with 0 come last.

    Source: A-Res, Efraimidis and Spirakis 2006: the largest u ** (1 / score) wins.

    >>> from aibalance.llm.scoring import WeightedRandomChoice
    >>> WeightedRandomChoice().order([0.0, 2.0], random.Random(1))
    [1, 0]
    """

    def order(self, totals: Sequence[float], chance: random.Random, /) -> list[int]:
        """Places, the first choice first."""
        # The logarithm of u ** (1 / score), which does not vanish for small scores.
        keys = [
            (total > 0, math.log(1.0 - chance.random()) / total if total > 0 else chance.random()) for total in totals
        ]
        return sorted(range(len(totals)), key=lambda i: keys[i], reverse=True)
