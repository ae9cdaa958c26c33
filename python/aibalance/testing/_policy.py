"""`check_policy`: what any scaling policy must do, one property after the other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._errors import AibalanceError
from .._picker import whole, wrong
from ._check import Fault
from ._strategies import hypothesis

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["LoadPoint", "PolicyCheckError", "PolicyReport", "check_policy", "loads"]

Ask = Callable[[Any, int, float | None, float], Any]

_METHODS = ("recommend", "record", "rejected", "state", "restore")
_BOUNDS = (("min_capacity", "max_capacity"), ("min_replicas", "max_replicas"), ("min_scale", "max_scale"))


class LoadPoint(NamedTuple):
    """One observation of `loads()`.

    >>> from aibalance.testing import LoadPoint
    >>> LoadPoint(60.0, None).value is None  # no data
    True
    """

    at: float
    """Seconds from the start."""
    value: float | None
    """The metric, or None for a missing one."""


def loads(*, highest: float = 100.0, max_size: int = 40, interval: float = 60.0) -> SearchStrategy[list[LoadPoint]]:
    """Loads with plateaus, jumps, spikes, troughs at 0 and gaps, at intervals of about `interval` seconds.

    `highest`: the largest value. Raises ConfigError when Hypothesis is not installed.

    >>> from hypothesis import find
    >>> from aibalance.testing import loads
    >>> find(loads(), lambda points: len(points) == 2)[1]
    LoadPoint(at=60.0, value=0.0)
    """
    st = hypothesis().strategies
    shares = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 0.9, 1.0])
    level = st.tuples(shares, st.integers(1, 6), st.sampled_from([1.0, 1.0, 1.0, 0.5, 3.0]), st.booleans())

    def lay_out(levels: list[tuple[float, int, float, bool]]) -> list[LoadPoint]:
        at, found = 0.0, []
        for share, length, pace, gap in levels:
            for i in range(length):
                found.append(LoadPoint(at, None if gap and i == length - 1 and length > 2 else share * highest))
                at += pace * interval
        return found[:max_size]

    points: SearchStrategy[list[LoadPoint]] = st.lists(level, max_size=max(1, max_size // 2)).map(lay_out)
    return points


class PolicyCheckError(AibalanceError, AssertionError):
    """A policy that does not behave; `faults` says how, the most basic fault first."""

    def __init__(self, subject: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(subject, faults)
        self.faults = faults
        self.subject = subject

    def __str__(self) -> str:
        several = "1 property does" if len(self.faults) == 1 else f"{len(self.faults)} properties do"
        return "\n".join([f"{self.subject}: {several} not hold", *map(str, self.faults)])


@dataclass(frozen=True)
class PolicyReport:
    """What was checked, when all of it held.

    >>> from aibalance.testing import PolicyReport
    >>> print(PolicyReport("Mine", ("bounds", "flapping"), 1200))
    Mine: 1,200 decisions; hold: bounds, flapping
    """

    subject: str
    """The policy."""
    properties: tuple[str, ...]
    """What was checked."""
    decisions: int
    """How many decisions were looked at."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.decisions:,} decisions; hold: {', '.join(self.properties)}"


def check_policy(
    make: Callable[[], Any],
    /,
    *,
    metric: str,
    target: float,
    tolerance: float | None = 0.0,
    metric_type: Literal["average", "total"] = "average",
    bounds: tuple[int, int] | None = None,
    ask: Ask | None = None,
    interval: float = 60.0,
    rounds: int = 20,
    examples: int = 50,
    seed: int = 0,
) -> PolicyReport:
    """Checks the properties that any scaling policy must have.

    - "protocol": it has the methods of `aibalance.autoscaling.Policy`; "errors": it raises only errors of ours.
    - "bounds": every recommendation is a whole number within its bounds.
    - "tolerance": while the metric is within the tolerance of the target it does nothing.
    - "monotone": with a higher metric it never recommends less, from the same start.
    - "flapping": under a constant load, with every recommendation carried out, it comes to rest.
    - "restore": a policy that was restored from `state()`, through JSON, goes on as if it had never stopped.
    - "zero": from nothing it comes back when there is load; only checked when its lower bound is 0.

    Parameters
    ----------
    make : makes the policy, with an empty memory; called many times.
    metric : the name under which observations carry the metric.
    target : the metric at which the policy is content (for a total: of one server).
    tolerance (0.0) : how near to the target, relatively, it does nothing; None when the policy has no such point.
    metric_type ("average") : over the servers, or "total".
    bounds (None) : (lowest, highest) recommendation; None reads the policy's own fields.
    ask (None) : `ask(policy, current, value, now)` gives a recommendation, for policies that want another observation
        or samples; value is None for a missing metric.
    interval (60.0), rounds (20) : seconds between decisions, and how many of them each start is followed, so that
        alarms can go off.
    examples (50), seed (0) : how many random loads are tried for bounds and restoring, and with which seed.

    Returns a report. Raises PolicyCheckError, an AssertionError, with every fault; ConfigError when Hypothesis is not
    installed or an argument cannot be.

    >>> from aibalance.autoscaling import ProportionalScaling
    >>> from aibalance.testing import check_policy
    >>> def make():
    ...     return ProportionalScaling(metric="cpu", target=50, max_capacity=20, min_capacity=0, tolerance=0.1)
    >>> print(check_policy(make, metric="cpu", target=50, tolerance=0.1, examples=5).subject)
    ProportionalScaling
    """
    if not callable(make):
        raise wrong("make", make, "a function without arguments that gives a policy")
    for name, value, least in (("rounds", rounds, 1), ("examples", examples, 1), ("seed", seed, 0)):
        whole(name, value, least)
    amounts: list[tuple[str, Any]] = [("target", target), ("interval", interval)]
    for name, amount in amounts:
        if not isinstance(amount, (int, float)) or not 0 < amount < math.inf:
            raise wrong(name, amount, "a finite number above 0")
    if tolerance is not None and not 0 <= tolerance < 1:
        raise wrong("tolerance", tolerance, "a number from 0, below 1, or None")
    if metric_type not in ("average", "total"):
        raise wrong("metric_type", metric_type, "average or total")
    hypothesis()
    policy = make()
    subject = type(policy).__name__
    lacking = [name for name in _METHODS if not callable(getattr(policy, name, None))]
    if lacking or isinstance(policy, type):
        raise PolicyCheckError(
            subject, (Fault("protocol", f"it has no method {', '.join(lacking) or 'of an object'}"),)
        )
    low, high = _bounds(policy) if bounds is None else bounds
    total = metric_type == "total"
    check = _Check(make, metric, target, tolerance, total, low, high, ask, interval, rounds, examples, seed)
    faults = tuple(check.faults())
    if faults:
        raise PolicyCheckError(subject, faults)
    return PolicyReport(subject, tuple(check.done), check.decisions)


def _bounds(policy: Any) -> tuple[int, int]:
    for least, most in _BOUNDS:
        low, high = getattr(policy, least, None), getattr(policy, most, None)
        if isinstance(high, int):
            return (low if isinstance(low, int) else 0), high
    raise wrong("bounds", None, "(lowest, highest): the policy has no fields that say so")


class _Broken(Exception):
    def __init__(self, property: str, message: str, example: str = "") -> None:
        super().__init__(message)
        self.property = property
        self.example = example


@dataclass
class _Check:
    make: Callable[[], Any]
    metric: str
    target: float
    tolerance: float | None
    total: bool
    low: int
    high: int
    ask: Ask | None
    interval: float
    rounds: int
    examples: int
    seed: int
    decisions: int = 0

    def __post_init__(self) -> None:
        self.done: list[str] = []

    def faults(self) -> Iterator[Fault]:
        checks: list[Callable[[], None]] = [self.bounds, self.monotone, self.flapping, self.restore]
        if self.tolerance is not None:
            checks.insert(1, self.inside_tolerance)
        if self.low == 0:
            checks.append(self.zero)
        names = {"inside_tolerance": "tolerance"}
        for check in checks:
            name = names.get(check.__name__, check.__name__)
            try:
                check()
                self.done.append(name)
            except _Broken as broken:
                yield Fault(broken.property, str(broken), broken.example)
            except Exception as error:
                yield Fault("errors", f"{type(error).__name__} in the check of {name}: {error}")

    def decide(self, policy: Any, current: int, value: float | None, now: float) -> Any:
        """One recommendation, which is within bounds."""
        self.decisions += 1
        if self.ask is not None:
            answer = self.ask(policy, current, value, now)
        else:
            answer = policy.recommend({"current": current, "metrics": {self.metric: value}}, now=now)
        desired = answer.desired
        if isinstance(desired, bool) or not isinstance(desired, int):
            raise _Broken("bounds", f"recommended {desired!r}; expected a whole number")
        if not self.low <= desired <= self.high and (value is not None or desired != current):
            example = f"policy.recommend({{'current': {current}, 'metrics': {{{self.metric!r}: {value}}}}}, now={now})"
            raise _Broken("bounds", f"recommended {desired}; expected {self.low} to {self.high}", example)
        return answer

    def at(self, current: int, share: float) -> float:
        """The metric at this share of the target."""
        return share * self.target * (current if self.total else 1)

    def starts(self) -> list[int]:
        least = max(self.low, 1)
        some = {least, least + 1, least + 3, least + 9, (least + min(self.high, least + 40)) // 2}
        return sorted(n for n in some if n <= self.high)

    def follow(self, current: int, value: float) -> list[int]:
        """What it recommends while nothing changes."""
        policy = self.make()
        return [self.decide(policy, current, value, i * self.interval).desired for i in range(self.rounds)]

    def bounds(self) -> None:
        for current in (self.low, self.high, *self.starts()):
            for share in (0.0, 0.5, 1.0, 3.0, 1e6):
                self.follow(current, self.at(max(current, 1), share))
        self.search(lambda points: self.walk(points))

    def inside_tolerance(self) -> None:
        for current in self.starts():
            for off in (0.0, 0.5, -0.5, 0.9, -0.9):
                value = self.at(current, 1 + off * (self.tolerance or 0.0))
                found = self.follow(current, value)
                if set(found) != {current}:
                    moved = next(n for n in found if n != current)
                    raise _Broken(
                        "tolerance",
                        f"at {current} servers and {self.metric} {value:g} it recommended {moved}; expected no action "
                        f"within {self.tolerance:g} of the target {self.target:g}",
                    )

    def monotone(self) -> None:
        for current in self.starts():
            before: tuple[float, int, int] | None = None
            for share in (0.0, 0.2, 0.5, 0.8, 0.95, 1.0, 1.05, 1.2, 2.0, 5.0, 20.0):
                value = self.at(current, share)
                found = self.follow(current, value)
                peak, trough = max(found), min(found)
                if before is not None and (peak < before[1] or trough < before[2]):
                    raise _Broken(
                        "monotone",
                        f"at {current} servers it went between {before[2]} and {before[1]} for {self.metric} "
                        f"{before[0]:g}, and between {trough} and {peak} for {value:g}; more load asks for no less",
                    )
                before = (value, peak, trough)

    def flapping(self) -> None:
        least = max(self.low, 1)
        for load in (0.0, 0.6, 1.5, 3.3, 7.7):
            for current in {least, min(self.high, least + 9)}:
                policy, seen = self.make(), [current]
                for i in range(8 * self.rounds):
                    here = seen[-1]
                    work = load * self.target
                    value = work if self.total else work / max(here, 1)
                    seen.append(self.decide(policy, here, value, i * self.interval).desired)
                half = seen[len(seen) // 2 :]
                steps = [b - a for a, b in pairwise(half)]
                if any(s > 0 for s in steps) and any(s < 0 for s in steps):
                    raise _Broken(
                        "flapping", f"under a constant load of {load:g} targets it goes on: {half[-8:]}; expected rest"
                    )

    def walk(self, points: list[Any], cut: int | None = None) -> list[tuple[int, str | None]]:
        """A load with every recommendation carried out; at `cut` another policy takes over the memory."""
        policy, current, found = self.make(), max(self.low, 1), []
        for i, (at, value) in enumerate(points):
            if i == cut:
                kept = policy.state()
                text = json.dumps(kept)
                policy = self.make()
                policy.restore(json.loads(text))
                if json.dumps(policy.state()) != text:
                    raise _Broken("restore", "its state is not what was restored", f"policy.restore({text})")
            answer = self.decide(policy, current, value, at)
            current = answer.desired
            found.append((answer.desired, answer.limited_by))
        return found

    def restore(self) -> None:
        def attempt(points: list[Any]) -> None:
            whole = self.walk(points)
            for cut in {len(points) // 2, len(points) // 3, len(points) - 1} - {-1}:
                again = self.walk(points, cut)
                if again != whole:
                    i = next(i for i, (a, b) in enumerate(zip(whole, again, strict=True)) if a != b)
                    raise _Broken(
                        "restore",
                        f"restored at {points[cut].at:g} s it recommended {again[i]} at {points[i].at:g} s; expected "
                        f"{whole[i]}, as if it had never stopped",
                        f"loads: {[tuple(p) for p in points]}",
                    )

        # Two walks that surely move: up to much and down again, with time for alarms and windows.
        up = [LoadPoint(i * self.interval, self.at(1, 3.0)) for i in range(self.rounds)]
        down = [LoadPoint((self.rounds + i) * self.interval, self.at(1, 0.2)) for i in range(2 * self.rounds)]
        for cut in range(1, len(up) + len(down), 5):
            points = up + down
            if self.walk(points, cut) != self.walk(points):
                attempt(points[: cut + self.rounds])
                raise _Broken("restore", f"restored at {points[cut].at:g} s it decides otherwise than without a stop")
        self.search(attempt)

    def zero(self) -> None:
        policy, current = self.make(), 0
        value = 5 * self.target
        for i in range(8 * self.rounds):
            current = self.decide(policy, current, value, i * self.interval).desired
            if current > 0:
                return
        raise _Broken("zero", f"at 0 servers and {self.metric} {value:g} it stays at 0; expected at least one")

    def search(self, attempt: Callable[[list[Any]], object]) -> None:
        hyp = hypothesis()
        settings = hyp.settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hyp.HealthCheck),
            verbosity=hyp.Verbosity.quiet,
        )
        some = loads(highest=5 * self.target, interval=self.interval).filter(len)
        found: list[_Broken] = []

        def tried(points: list[Any]) -> None:
            try:
                attempt(points)
            except _Broken as broken:
                found.append(broken)  # the last one is the smallest
                raise

        try:
            settings(hyp.seed(self.seed)(hyp.given(some)(tried)))()
        except _Broken as broken:
            raise (found[-1] if found else broken) from None
