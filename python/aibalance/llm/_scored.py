"""A picker by filters and weighted scorers."""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from .._core import Endpoint, Lease, ManualClock, Pool, PrefixIndex, SystemClock, _report_ages
from .._custom import Candidate, CustomPicker
from .._errors import NoEndpointsError
from .._explain import Explanation
from .._picker import Names, names_of, whole, wrong
from ._checks import at_least, text, whole_from
from ._scorers import (
    EndpointView,
    InferenceRequest,
    MaxScore,
    NoHitLruScorer,
    PrefixScorer,
    RandomChoice,
    Scorer,
    WeightedRandomChoice,
)

__all__ = ["EndpointScore", "ScoredPicker", "ScoringProfile"]


@dataclass(frozen=True, kw_only=True)
class ScoringProfile:
    """Filters, weighted scorers, and how to choose by the sums.

    `filters` (()): LabelFilter, SaturationFilter, or yours with `keep(views, request)`; each sees what the one before
    left. `scorers` (()): pairs of a `Scorer` and its weight, a finite number of 0 or more. `choice` (MaxScore()):
    MaxScore, RandomChoice, WeightedRandomChoice. Raises ConfigError.

    >>> from aibalance.llm.scoring import KvCacheScorer, PrefixScorer, QueueScorer, ScoringProfile
    >>> ScoringProfile(scorers=[(QueueScorer(), 2), (KvCacheScorer(), 2), (PrefixScorer(), 3)]).scorers[0]
    (QueueScorer(), 2.0)
    """

    filters: Sequence[Any] = ()
    scorers: Sequence[tuple[Scorer, float]] = ()
    choice: MaxScore | RandomChoice | WeightedRandomChoice = field(default_factory=MaxScore)

    def __post_init__(self) -> None:
        filters, scorers, choice = _list("filters", self.filters), _list("scorers", self.scorers), self.choice
        for i, one in enumerate(filters):
            if isinstance(one, type) or not callable(getattr(one, "keep", None)):
                raise wrong(f"filters[{i}]", one, "a filter: an object with keep(views, request)")
        pairs = []
        for i, pair in enumerate(scorers):
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise wrong(f"scorers[{i}]", pair, "a pair of a scorer and its weight")
            if isinstance(pair[0], type) or not isinstance(pair[0], Scorer):
                raise wrong(f"scorers[{i}]", pair[0], "a scorer: an object with score(views, request)")
            pairs.append((pair[0], at_least(f"scorers[{i}].weight", pair[1])))
        if isinstance(choice, type) or not callable(getattr(choice, "order", None)):
            raise wrong("choice", choice, "MaxScore(), RandomChoice() or WeightedRandomChoice()")
        object.__setattr__(self, "filters", filters)
        object.__setattr__(self, "scorers", tuple(pairs))


def _list(name: str, given: Any) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise wrong(name, given, "a sequence")
    return tuple(given)


class EndpointScore(NamedTuple):
    """What a profile makes of one candidate: see `ScoredPicker.scores`.

    >>> from aibalance.llm.scoring import KvCacheScorer, ScoredPicker, ScoringProfile
    >>> ScoredPicker(["a"], ScoringProfile(scorers=[(KvCacheScorer(), 2)])).scores()
    [EndpointScore(endpoint=Endpoint('a'), total=2.0, parts={'KvCacheScorer': 2.0}, filtered_by=None)]
    """

    endpoint: Endpoint
    """The candidate."""
    total: float | None
    """The sum; None when it was filtered."""
    parts: dict[str, float]
    """Weight times score, by scorer."""
    filtered_by: str | None
    """The filter that it did not pass."""


class _Report(NamedTuple):
    waiting: float
    running: float | None
    kv_cache: float
    active: frozenset[str]
    queued: frozenset[str]
    most: int
    at: float


class ScoredPicker(CustomPicker):
    """A picker by filters and weighted scorers: the endpoint picker of the Gateway API Inference Extension, in process.

    Parameters
    ----------
    endpoints : a pool, or what one can be made of.
    profile : the `ScoringProfile`.
    index (None) : the `PrefixIndex` for PrefixScorer and NoHitLruScorer, which picks are told to; None makes one when
        the profile has such a scorer.
    seed (None) : of the draws, and of a pool that is made. clock (None) : of a pool that is made.

    The key is an `InferenceRequest`, or the prompt alone. Who may be picked at all (health, drains, `max_inflight`,
    `exclude`) is settled before the filters. Each score is cut to 0 to 1, times its weight, and summed. Weights of
    endpoints are not looked at: nor do the scorers of the extension. Reports come by `observe`; what was sent since
    counts only where a scorer says so (ActiveRequestScorer, TokenLoadScorer, for which `cost` is the tokens).

    It is Python and looks at every candidate: about 3 microseconds an endpoint with three scorers (`PrefixAware` is the
    one for speed). `ranked(k=...)` scores once and gives the k best, as the list that a proxy tries in order.

    Raises ConfigError; NoEndpointsError when all who could be picked are filtered out.

    >>> from aibalance.llm.scoring import KvCacheScorer, PrefixScorer, QueueScorer, ScoredPicker, ScoringProfile
    >>> profile = ScoringProfile(scorers=[(QueueScorer(), 2), (KvCacheScorer(), 2), (PrefixScorer(), 3)])
    >>> picker = ScoredPicker(["a", "b"], profile, seed=1)
    >>> picker.observe("a", waiting=3, kv_cache=0.5)
    >>> picker.observe("b", waiting=0, kv_cache=0.1)
    >>> picker.pick(list(range(64))).id
    'b'
    """

    _NEEDS: ClassVar[tuple[type, ...]] = (PrefixScorer, NoHitLruScorer)

    def __init__(
        self,
        endpoints: Pool | Iterable[Endpoint | str],
        profile: ScoringProfile,
        /,
        *,
        index: PrefixIndex | None = None,
        seed: int | None = None,
        clock: SystemClock | ManualClock | None = None,
    ) -> None:
        if not isinstance(profile, ScoringProfile):
            raise wrong("profile", profile, "a ScoringProfile")
        if index is not None and not isinstance(index, PrefixIndex):
            raise wrong("index", index, "a PrefixIndex, or None")
        super().__init__(endpoints, seed=None if isinstance(endpoints, Pool) else seed, clock=clock)
        self.profile = profile
        needs = [scorer for scorer, _ in profile.scorers if isinstance(scorer, self._NEEDS)]
        self.index = PrefixIndex() if index is None and needs else index
        self._deep = any(isinstance(scorer, NoHitLruScorer) for scorer in needs)
        depths = [scorer.max_blocks for scorer in needs if isinstance(scorer, PrefixScorer)]
        self._most = max(depths, default=256)
        self._prefix = bool(needs)
        self._seed = seed
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._reports: dict[str, _Report] = {}
        self._cold: OrderedDict[str, int] = OrderedDict()
        self._serial = 0

    def observe(
        self,
        endpoint: Endpoint | str,
        /,
        *,
        waiting: float = 0.0,
        running: float | None = None,
        kv_cache: float = 0.0,
        active_adapters: Iterable[str] = (),
        waiting_adapters: Iterable[str] = (),
        max_adapters: int = 0,
        now: float | None = None,
    ) -> None:
        """Takes in what an engine says: requests that wait and run, the used share of its KV cache, its adapters.

        Each report replaces the one before. The pool's load stays as it is; tell it by `pool.observe`. Raises
        ConfigError.
        """
        id = endpoint.id if isinstance(endpoint, Endpoint) else text("endpoint", endpoint)
        for name, names in (("active_adapters", active_adapters), ("waiting_adapters", waiting_adapters)):
            if isinstance(names, str):
                raise wrong(name, names, "an iterable of names, not one text")
        report = _Report(
            at_least("waiting", waiting),
            None if running is None else at_least("running", running),
            at_least("kv_cache", kv_cache, 0.0, 1.0),
            frozenset(active_adapters),
            frozenset(waiting_adapters),
            whole_from("max_adapters", max_adapters, 0),
            self._pool.clock.now() if now is None else now,
        )
        with self._lock:
            self._reports[id] = report
            if len(self._reports) > 2 * len(self._pool.endpoints) + 64:
                known = {one.id for one in self._pool.endpoints}
                self._reports = {name: one for name, one in self._reports.items() if name in known}

    @staticmethod
    def _request(key: Any) -> InferenceRequest:
        return key if isinstance(key, InferenceRequest) else InferenceRequest(key)

    def views(
        self, key: Any = None, /, *, candidates: Sequence[Candidate] | None = None, now: float | None = None
    ) -> list[EndpointView]:
        """What filters and scorers see of these candidates (None: of all who may be picked now)."""
        if candidates is None:
            candidates = self._able((), None, now)
        at = self._pool.clock.now() if now is None else now
        shares: dict[str, float] = {}
        prompt = self._request(key).prompt
        if self._prefix and self.index is not None and prompt is not None:
            blocks = self.index.blocks(prompt)[: self._most]
            if len(blocks):
                held = self.index.matches(blocks, now=now)
                shares = {id: match.blocks / len(blocks) for id, match in held.items()}
        out = []
        ages: dict[str, float] | None = None
        for endpoint, stats in candidates:
            id = endpoint.id
            report = self._reports.get(id)
            if report is None:
                told = stats.report
                if told is not None and ages is None:
                    ages = _report_ages(self._pool, now=now)
                age = None if told is None or ages is None else ages.get(id, 0.0)
                told = told or {}
                waiting, kv_cache = told.get("queue", 0.0), told.get("kv_cache", 0.0)
                running = told.get("inflight", float(stats.inflight))
                active = queued = frozenset[str]()
                most = 0
            else:
                waiting, _, kv_cache, active, queued, most, when = report
                running = float(stats.inflight) if report.running is None else report.running
                age = max(at - when, 0.0)
            out.append(
                EndpointView(
                    endpoint=endpoint,
                    waiting=waiting,
                    running=running,
                    kv_cache=kv_cache,
                    inflight=stats.inflight,
                    tokens=stats.load,
                    cached=shares.get(id, 0.0),
                    active_adapters=active,
                    waiting_adapters=queued,
                    max_adapters=most,
                    age=age,
                )
            )
        return out

    def _able(self, exclude: Names | None, subset: Names | None, now: float | None) -> list[Candidate]:
        return CustomPicker.candidates(self, exclude=exclude, subset=subset, now=now)

    def _parts(self, views: Sequence[EndpointView], request: InferenceRequest) -> list[dict[str, float]]:
        parts: list[dict[str, float]] = [{} for _ in views]
        for i, (scorer, weight) in enumerate(self.profile.scorers):
            name = type(scorer).__name__
            if name in parts[0]:
                name = f"{name}[{i}]"
            if isinstance(scorer, NoHitLruScorer):
                scores: Sequence[float] = scorer._rank(views, self._cold)
            else:
                scores = scorer.score(views, request)
            if len(scores) != len(views):
                raise wrong(f"{name}.score", scores, f"{len(views)} numbers, one a candidate")
            for part, score in zip(parts, scores, strict=True):
                # Also what is no number counts nothing.
                part[name] = weight * (min(max(score, 0.0), 1.0) if score == score else 0.0)
        return parts

    def _order(self, candidates: Sequence[Candidate], key: Any, now: float | None) -> list[Endpoint]:
        request = self._request(key)
        views = self.views(request, candidates=candidates, now=now)
        for one in self.profile.filters:
            views = list(one.keep(views, request))
            if not views:
                return []
        totals = [sum(part.values()) for part in self._parts(views, request)]
        return [views[i].endpoint for i in self.profile.choice.order(totals, self._chance)]

    def scores(self, key: Any = None, /, *, now: float | None = None) -> list[EndpointScore]:
        """What the profile makes of each who may be picked now, the best first and those who are filtered last."""
        request = self._request(key)
        views = self.views(request, now=now)
        gone: list[EndpointScore] = []
        for one in self.profile.filters:
            kept = list(one.keep(views, request))
            ids = {view.endpoint.id for view in kept}
            name = type(one).__name__
            gone += [EndpointScore(v.endpoint, None, {}, name) for v in views if v.endpoint.id not in ids]
            views = kept
        parts = self._parts(views, request) if views else []
        found = [EndpointScore(v.endpoint, sum(p.values()), p, None) for v, p in zip(views, parts, strict=True)]
        return sorted(found, key=lambda one: -(one.total or 0.0)) + gone

    def choose(self, candidates: Sequence[Candidate], key: Any, /) -> Endpoint:
        """The first choice. Raises NoEndpointsError when the filters leave nobody."""
        order = self._order(candidates, key, None)
        if not order:
            raise self._nobody()
        return order[0]

    def _nobody(self) -> NoEndpointsError:
        names = ", ".join(map(repr, self.profile.filters))
        return NoEndpointsError(f"nobody who may be picked passes the filters: {names}")

    def _chosen(self, key: Any, exclude: Names | None, subset: Names | None, now: float | None) -> str | None:
        candidates = self._able(exclude, subset, now)
        order = self._order(candidates, key, now) if candidates else []
        return order[0].id if order else None

    def _filtered(self, exclude: Names | None, subset: Names | None, now: float | None) -> None:
        if self.profile.filters and self._able(exclude, subset, now):
            raise self._nobody()

    def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
        """Chooses an endpoint. Raises as the built-in pickers do; NoEndpointsError when the filters leave nobody."""
        found = self.try_pick(key, now=now)
        if found is None:
            self._filtered((), None, now)
        return self._first.pick(now=now) if found is None else found

    def try_acquire(
        self,
        key: Any = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease | None:
        """As `acquire`; None when nothing can be picked."""
        lease = super().try_acquire(key, cost=cost, exclude=exclude, subset=subset, now=now)
        prompt = self._request(key).prompt
        if lease is not None and self._prefix and self.index is not None and prompt is not None:
            id = lease.endpoint.id
            blocks = self.index.blocks(prompt)[: self._most]
            if self._deep and not self.index.matches(blocks, now=now):
                capacity = min(s.capacity for s, _ in self.profile.scorers if isinstance(s, NoHitLruScorer))
                with self._lock:
                    self._serial += 1
                    self._cold[id] = self._serial
                    self._cold.move_to_end(id)
                    while len(self._cold) > capacity:
                        self._cold.popitem(last=False)
            self.index.predict(id, blocks, now=now)
        return lease

    def acquire(
        self,
        key: Any = None,
        /,
        *,
        cost: float = 1.0,
        exclude: Names | None = (),
        subset: Names | None = None,
        now: float | None = None,
    ) -> Lease:
        """Chooses an endpoint and takes a lease on it. `cost` may be the tokens. Raises as `pick` does."""
        without, within = names_of(exclude), None if subset is None else names_of(subset)
        lease = self.try_acquire(key, cost=cost, exclude=without, subset=within, now=now)
        if lease is None:
            self._filtered(without, within, now)
            return self._first.acquire(cost=cost, exclude=without, subset=within, now=now)
        return lease

    def ranked(
        self,
        key: Any = None,
        /,
        *,
        k: int,
        exclude: Names | None = None,
        subset: Names | None = None,
        now: float | None = None,
    ) -> list[Endpoint]:
        """Up to `k` different endpoints, the best first; those of a lower rank (backups, other zones) behind."""
        without, within = set(names_of(exclude)), None if subset is None else names_of(subset)
        out: list[Endpoint] = []
        wanted = whole("k", k, 0)
        while len(out) < wanted:
            candidates = self._able(without, within, now)
            if not candidates:
                break
            out += self._order(candidates, key, now)
            without.update(one.endpoint.id for one in candidates)
        return out[:wanted]

    def explain(self, key: Any = None, /, **given: Any) -> list[Explanation]:
        """As for every picker: it foretells the next pick, and moves nothing. See `scores` for the parts."""
        drawn = self._chance.getstate()
        try:
            return super().explain(key, **given)
        finally:
            self._chance.setstate(drawn)

    def __repr__(self) -> str:
        return f"ScoredPicker({self._pool!r}, {self.profile!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Reports and draws begin anew.
        return _scored, (self._pool, self.profile, self.index, self._seed)


def _scored(pool: Pool, profile: ScoringProfile, index: PrefixIndex | None, seed: int | None) -> ScoredPicker:
    return ScoredPicker(pool, profile, index=index, seed=seed)
