"""Saturation, shedding by priority, and the gate before a picker."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .._core import _report_ages
from .._errors import OverloadedError
from .._explain import Explanation
from .._picker import Picker, wrong
from ._checks import at_least, positive
from ._over import Over
from ._scorers import EndpointView, InferenceRequest, SaturationFilter

__all__ = [
    "Admission",
    "ConcurrencySaturation",
    "ProbabilisticShedding",
    "Saturation",
    "StrictShedding",
    "UtilizationSaturation",
]


@runtime_checkable
class Saturation(Protocol):
    """How full a fleet is, of ours or of yours: 1 is full."""

    def saturation(self, views: Sequence[EndpointView], /) -> float:
        """Of these endpoints together."""
        ...


@dataclass(frozen=True)
class UtilizationSaturation:
    """The mean over the endpoints of max(waiting / queue, kv_cache / limit); 1 for one without a fresh report.

    `queue` (5.0): requests that wait, above 0. `kv_cache` (0.8): the limit, above 0, up to 1. `max_age` (0.2): seconds
    after which a report is out of date, None for never. A fleet of nobody is full.

    >>> from aibalance.llm.admission import UtilizationSaturation
    >>> from aibalance.llm.scoring import EndpointView
    >>> views = [EndpointView(endpoint=Endpoint(str(n)), waiting=n, kv_cache=0.4, age=0.1) for n in (0, 5)]
    >>> UtilizationSaturation().saturation(views)
    0.75
    """

    queue: float = 5.0
    kv_cache: float = 0.8
    max_age: float | None = 0.2

    def __post_init__(self) -> None:
        SaturationFilter(self.queue, self.kv_cache, 0.0, self.max_age)

    def saturation(self, views: Sequence[EndpointView], /) -> float:
        """See the class."""
        if not views:
            return 1.0
        one = SaturationFilter(self.queue, self.kv_cache, 0.0, self.max_age)
        return sum(map(one.saturation, views)) / len(views)


@dataclass(frozen=True)
class ConcurrencySaturation:
    """What is in flight over what may be: requests over `requests` (100.0) an endpoint, or tokens over `tokens` (None).

    `tokens`, if given, counts the load instead, which is in tokens where leases cost their tokens; the extension's
    limit is 1,000,000. It needs no reports. A fleet of nobody is full.

    >>> from aibalance.llm.admission import ConcurrencySaturation
    >>> from aibalance.llm.scoring import EndpointView
    >>> ConcurrencySaturation(10).saturation([EndpointView(endpoint=Endpoint(n), inflight=4) for n in "ab"])
    0.4
    """

    requests: float = 100.0
    tokens: float | None = None

    def __post_init__(self) -> None:
        positive("requests", self.requests)
        if self.tokens is not None:
            positive("tokens", self.tokens)

    def saturation(self, views: Sequence[EndpointView], /) -> float:
        """See the class."""
        if not views:
            return 1.0
        if self.tokens is not None:
            return sum(view.tokens for view in views) / (len(views) * self.tokens)
        return sum(view.inflight for view in views) / (len(views) * self.requests)


@dataclass(frozen=True)
class StrictShedding:
    """Requests of a priority below 0 are shed from saturation `threshold` (1.0) on, all others never.

    >>> from aibalance.llm.admission import StrictShedding
    >>> [StrictShedding().chance(priority, 1.2) for priority in (-1, 0)]
    [1.0, 0.0]
    """

    threshold: float = 1.0

    def __post_init__(self) -> None:
        positive("threshold", self.threshold)

    def chance(self, priority: int, saturation: float, /) -> float:
        """How likely a request is shed."""
        return 1.0 if priority < 0 and saturation >= self.threshold else 0.0


@dataclass(frozen=True)
class ProbabilisticShedding:
    """Requests of a priority below 0 are shed with chance min(1, factor * saturation ** power), all others never.

    `power` (5.0), `factor` (300.0): above 0. With the defaults one in ten is shed at a saturation of 0.2, and from
    0.32 on all are.

    >>> from aibalance.llm.admission import ProbabilisticShedding
    >>> [round(ProbabilisticShedding().chance(-1, s), 3) for s in (0.1, 0.2, 0.3, 0.4)]
    [0.003, 0.096, 0.729, 1.0]
    """

    power: float = 5.0
    factor: float = 300.0

    def __post_init__(self) -> None:
        positive("power", self.power)
        positive("factor", self.factor)

    def chance(self, priority: int, saturation: float, /) -> float:
        """How likely a request is shed."""
        if priority >= 0 or saturation <= 0:
            return 0.0
        # More than full is all, without a power that overflows.
        return float(min(self.factor * min(saturation, 1e3) ** min(self.power, 100.0), 1.0))


class Admission(Over):
    """A gate before a picker: nobody is let in while the fleet is full, and what may be shed is before that.

    Parameters
    ----------
    picker : whom to ask for those who are let in: a `ScoredPicker`, or any on one pool, whose reports are then those of
        `pool.observe`.
    saturation (None) : how full the fleet is; None is `UtilizationSaturation()` with `max_age=None`.
    shedding (None) : StrictShedding, ProbabilisticShedding, or None to shed nobody.
    hold (1.0) : from this saturation on nobody is let in; None lets in all who are not shed.
    seed (None) : of the draws.

    Priorities are those of an `InferenceRequest`, 0 for any other key. Who is not let in gets OverloadedError, or None
    from `try_acquire`; in a `FairQueue` on the gate it waits, and chances are drawn anew at each look. A release, a
    change of the pool and the queue's look four times a second see that the fleet is full no more. With nobody in the
    pool the picker's own error is raised. It looks at all endpoints, about two microseconds each, at every call.

    Raises ConfigError.

    >>> from aibalance.llm.admission import Admission, ConcurrencySaturation, StrictShedding
    >>> from aibalance.llm.scoring import InferenceRequest
    >>> gate = Admission(
    ...     LeastRequest(["a", "b"]), saturation=ConcurrencySaturation(2), shedding=StrictShedding(threshold=0.5)
    ... )
    >>> held = [gate.acquire(), gate.acquire()]
    >>> gate.saturation(), gate.try_acquire(InferenceRequest(priority=-1))
    (0.5, None)
    >>> held += [gate.acquire(), gate.acquire()]
    >>> gate.try_acquire(InferenceRequest(priority=5)) is None
    True
    """

    __slots__ = ("_chance", "_detector", "_seed", "hold", "shedding")

    shedding: Any
    """Who may be shed."""
    hold: float | None
    """From which saturation on nobody is let in."""
    _detector: Any
    _chance: random.Random
    _seed: int | None

    def __init__(
        self,
        picker: Picker,
        /,
        *,
        saturation: Saturation | None = None,
        shedding: StrictShedding | ProbabilisticShedding | None = None,
        hold: float | None = 1.0,
        seed: int | None = None,
    ) -> None:
        self._begin(picker)
        detector = UtilizationSaturation(max_age=None) if saturation is None else saturation
        if isinstance(detector, type) or not isinstance(detector, Saturation):
            raise wrong("saturation", saturation, "UtilizationSaturation, ConcurrencySaturation, or None")
        if shedding is not None and (isinstance(shedding, type) or not callable(getattr(shedding, "chance", None))):
            raise wrong("shedding", shedding, "StrictShedding, ProbabilisticShedding, or None")
        self._set(
            _detector=detector,
            _chance=random.Random(seed),
            _seed=seed,
            shedding=shedding,
            hold=None if hold is None else at_least("hold", hold),
        )

    def saturation(self, *, now: float | None = None) -> float:
        """How full the fleet is now."""
        return float(self._detector.saturation(self._views(now)))

    def _views(self, now: float | None) -> list[EndpointView]:
        pool = self.pool
        # Who is full is part of the fleet; who is unhealthy or drains is not.
        fleet = [
            (endpoint, stats)
            for endpoint, stats in zip(pool.endpoints, pool.stats(now), strict=False)
            if endpoint.id == stats.id and (stats.eligible or stats.share > 0)
        ]
        own = getattr(self.picker, "views", None)
        if own is not None:
            found: list[EndpointView] = own(None, candidates=fleet, now=now)
            return found
        out = []
        ages = _report_ages(pool, now=now) if any(stats.report for _, stats in fleet) else {}
        for endpoint, stats in fleet:
            told = stats.report
            report = told or {}
            out.append(
                EndpointView(
                    endpoint=endpoint,
                    waiting=report.get("queue", 0.0),
                    running=report.get("inflight", float(stats.inflight)),
                    kv_cache=report.get("kv_cache", 0.0),
                    inflight=stats.inflight,
                    tokens=stats.load,
                    age=None if told is None else ages.get(endpoint.id, 0.0),
                )
            )
        return out

    def _full(self, key: Any, now: float | None) -> str | None:
        views = self._views(now)
        if not views:
            return None
        value = float(self._detector.saturation(views))
        if self.hold is not None and value >= self.hold:
            return f"saturation {value:.3g}: nobody is let in from {self.hold:g} on"
        priority = key.priority if isinstance(key, InferenceRequest) else 0
        chance = 0.0 if self.shedding is None else self.shedding.chance(priority, value)
        if chance > 0 and self._chance.random() < chance:
            return f"saturation {value:.3g}: a request of priority {priority} is shed with chance {chance:.3g}"
        return None

    def _inner(self, key: Any) -> Any:
        own = callable(getattr(self.picker, "views", None))
        return key.prompt if isinstance(key, InferenceRequest) and not own else key

    def _steps(
        self, key: Any, without: frozenset[str], within: frozenset[str] | None, now: float | None
    ) -> Iterator[Collection[str] | None]:
        if self._full(key, now) is None:
            yield None

    def _took(self, key: Any, endpoint: str, now: float | None) -> None:
        pass

    def _refused(self, key: Any) -> Exception | None:
        said = self._full(key, None)
        return OverloadedError(said or "shed") if said or self.shedding is not None else None

    def explain(self, key: Any = None, /, **given: Any) -> list[Explanation]:
        """As for every picker; its own draws are not spent. Nobody has a rank when nobody is let in."""
        drawn = self._chance.getstate()
        try:
            return super().explain(key, **given)
        finally:
            self._chance.setstate(drawn)

    def __repr__(self) -> str:
        return (
            f"Admission({self.picker!r}, saturation={self._detector!r}, shedding={self.shedding!r}, hold={self.hold!r})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _gate, (self.picker, self._detector, self.shedding, self.hold, self._seed)


def _gate(picker: Picker, detector: Any, shedding: Any, hold: float | None, seed: int | None) -> Admission:
    return Admission(picker, saturation=detector, shedding=shedding, hold=hold, seed=seed)
