"""The search: designs by theory first, then by optuna's TPE under successive halving, then step by step, then verified.

Two questions are searched at once, each by a study of its own, and every run tells both: the cheapest design that keeps
the objectives, and the best objectives for the budget. All designs meet the same requests (common random numbers):
replication r has the seed `seed + r`. What is promised is verified under seeds that the search has never seen.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._errors import ConfigError
from ._plan_run import Outcome, Progress, Runner, excess, heeded
from ._plan_space import (
    LIMITS,
    POLICIES,
    SPOT_SHARES,
    TARGETS,
    THRESHOLDS,
    WAITS,
    Design,
    Space,
    settled,
    starts,
)
from ._statistics import Interval, interval

RUNGS = (2, 8, 20)
"""Replications of every design, of the better third of a batch, and of the finalists."""
BATCH = 16
FRESH = 200
"""Fresh seeds under each of which a promise must hold. No miss in 200 means less than 1.5 % of misses, 95 % sure."""
FRESH_AT = 1_000_003
_CHUNK = 20
_PENALTY = 4.0
_MISSED = 100.0
_TRIES = 20


@dataclass
class Evaluated:
    """A design and its runs: `outcomes[r]` is that of replication r."""

    design: Design
    space: Space = field(repr=False)
    outcomes: list[Outcome] = field(default_factory=list, repr=False)
    fresh: list[Outcome] = field(default_factory=list, repr=False)
    """Runs under seeds that the search did not see; empty unless the design was up for a promise."""
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, until there are more runs: orders ask for the same over and over."""
        runs = (len(self.outcomes), len(self.fresh))
        if self._known.get("runs") != runs:
            self._known = {"runs": runs}
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    @property
    def runs(self) -> list[Outcome]:
        """What is known best: the fresh runs where there are any."""
        return self.fresh or self.outcomes

    def column(self, name: str) -> list[float]:
        """A value a run, by the name of a field of `Outcome`."""
        return [float(getattr(one, name)) for one in self.runs]

    def objective(self, i: int) -> Interval:
        """The i-th objective's value with its interval over runs; infinite where it is in any run."""
        return _interval([one.values[i] for one in self.runs])

    def quantile(self, i: int) -> Interval:
        """p50, p95, p99 over all requests, or the share without an answer."""
        return _interval([one.quantiles[i] for one in self.runs])

    @property
    def month(self) -> Interval:
        """USD for a month without a spike."""
        found: Interval = self._once("month", lambda: interval(self.column("month_cost")))
        return found

    @property
    def spike(self) -> Interval:
        """USD that one spike adds."""
        found: Interval = self._once("spike", lambda: interval(self.column("spike_cost")))
        return found

    @property
    def total(self) -> float:
        """USD for a month with its spikes."""
        return self.month.mean + self.space.spikes_per_month * self.spike.mean

    @property
    def misses(self) -> int:
        """Runs that miss an objective."""
        return sum(excess(self.space, one) > 0 for one in self.runs)

    @property
    def excess(self) -> float:
        """By how much runs miss, pessimistically: mean and a standard deviation, at least the worst but one of many."""
        found: float = self._once("excess", self._excess)
        return found

    def _excess(self) -> float:
        found = np.array([excess(self.space, one) for one in self.runs])
        if len(found) < RUNGS[1]:
            return float(found.max())
        return float(max(found.mean() + found.std(ddof=1), np.quantile(found, 0.98)))

    @property
    def affordable(self) -> bool:
        """Whether a month without a spike is within the budget, by the upper end of its interval."""
        return self.over <= 0

    @property
    def over(self) -> float:
        """The logarithm of that month over the budget."""
        if self.space.budget is None:
            return -math.inf
        month = self.month
        upper = month.high if math.isfinite(month.high) and len(self.runs) >= RUNGS[1] else month.mean
        return math.log(max(upper, 1e-9) / self.space.budget) if self.space.budget > 0 else math.inf

    def cheapest(self) -> float:
        """What the first study makes small: money, once nothing is missed; any miss is dearer than any money."""
        return _MISSED + self.excess if self.excess > 0 else math.log(max(self.total, 1e-9))

    def best(self) -> float:
        """What the second makes small: the miss, and a penalty for what the budget lacks; then money."""
        return self.excess + _PENALTY * max(0.0, min(self.over, 50.0)) + 1e-3 * math.log(max(self.total, 1e-9))


def _interval(values: Sequence[float]) -> Interval:
    if all(math.isfinite(value) for value in values):
        return interval(values)
    return Interval(math.inf, math.inf, math.inf, tuple(values))


class Search:
    """A search under way; `seen` is what is known so far, also when it was interrupted."""

    def __init__(
        self, space: Space, runner: Runner | None, *, seed: int, trials: int, progress: Progress | None
    ) -> None:
        self.space = space
        self.seed = seed
        self.seen: dict[Design, Evaluated] = {}
        self.promised: Evaluated | None = None
        self.stage = "begin"
        self.added = ""
        self._span = (0.0, 1.0)
        self._runner = runner
        self._trials = trials
        self._progress = progress
        self._done = 0.0
        self._again: Callable[[], None] = lambda: None
        self._optuna = _optuna()

    def use(self, runner: Runner) -> None:
        """Where to run."""
        self._runner = runner

    def stop(self) -> None:
        """End whatever still runs, at once; `close` is still to come, unless the process ends."""
        if self._runner is not None:
            self._runner.stop()

    def close(self) -> None:
        """End whatever still runs."""
        if self._runner is not None:
            self._runner.close()

    def _map(self, tasks: Sequence[tuple[Design, int]]) -> Iterable[Outcome]:
        self._again()
        if not tasks:
            return ()
        assert self._runner is not None
        return self._runner.map(tasks)

    def run(self) -> None:
        """All stages."""
        with heeded() as self._again:
            self._stages()

    def _stages(self) -> None:
        self._stage("start", 0.0, 0.15)
        self._rungs(starts(self.space))
        self._stage("search", 0.15, 0.7)
        self._sample()
        self._stage("refine", 0.7, 0.85)
        for key in self._keys():
            self._refine(key)
        self._stage("verify", 0.85, 1.0)
        self._verify()
        self._tell(1.0)

    def _keys(self) -> list[Callable[[Evaluated], float]]:
        keys: list[Callable[[Evaluated], float]] = [Evaluated.cheapest]
        return keys if self.space.budget is None else [*keys, Evaluated.best]

    def ordered(self, key: Callable[[Evaluated], float]) -> list[Evaluated]:
        """All designs, the best by this key first."""
        known = [one for one in self.seen.values() if one.outcomes]
        return sorted(known, key=lambda one: (key(one), repr(one.design)))

    # Runs

    def evaluate(self, designs: Iterable[Design], replications: int) -> list[Evaluated]:
        """Run each design until it has so many replications."""
        wanted = list(dict.fromkeys(designs))
        found = [self.seen.setdefault(one, Evaluated(one, self.space)) for one in wanted]
        tasks = [(one.design, (self.seed + r) % 2**64) for one in found for r in range(len(one.outcomes), replications)]
        results = iter(self._map(tasks))
        for one in found:
            for _ in range(len(one.outcomes), replications):
                one.outcomes.append(next(results))
        return found

    def _rungs(self, designs: Iterable[Design]) -> list[Evaluated]:
        """Successive halving within a batch: the better third by either question gets more replications."""
        found = self.evaluate(designs, RUNGS[0])
        n = max(1, len(found) // 3)
        keys = self._keys()
        kept: dict[Design, None] = {}
        for key in keys:
            kept.update(dict.fromkeys(one.design for one in sorted(found, key=key)[: max(1, n // len(keys))]))
        self.evaluate(kept, RUNGS[1])
        return found

    # Stages

    def _sample(self) -> None:
        optuna = self._optuna
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                # Options that optuna calls experimental; they have been there for years.
                warnings.simplefilter("ignore")
                self._ask_and_tell(optuna)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _ask_and_tell(self, optuna: Any) -> None:
        kinds = _distributions(optuna, self.space)
        keys = self._keys()
        studies = [
            optuna.create_study(
                sampler=optuna.samplers.TPESampler(
                    seed=(self.seed + i) % 2**32, multivariate=True, constant_liar=True, n_startup_trials=8
                )
            )
            for i in range(len(keys))
        ]

        def tell(found: Iterable[Evaluated], asked: dict[Design, Any], by: int) -> None:
            for i, (study, key) in enumerate(zip(studies, keys, strict=True)):
                for one in found:
                    value = key(one)
                    if i == by and one.design in asked:
                        study.tell(asked[one.design], value)
                    else:
                        given = _parameters(one.design, self.space)
                        study.add_trial(optuna.create_trial(params=given, distributions=kinds, value=value))

        tell(list(self.seen.values()), {}, -1)
        batches = max(1, math.ceil(self._trials / BATCH))
        for batch in range(batches):
            by = batch % len(studies)
            asked: dict[Design, Any] = {}
            for _ in range(BATCH):
                self._again()
                trial = studies[by].ask(kinds)
                design = _design(trial.params, self.space)
                if design in self.seen or design in asked:
                    # Nothing to learn from the same once more.
                    studies[by].tell(trial, state=optuna.trial.TrialState.FAIL)
                    continue
                asked[design] = trial
            tell(self._rungs(asked), asked, by)
            self._tell((batch + 1) / batches)

    def _refine(self, key: Callable[[Evaluated], float]) -> None:
        """From the best few, one change at a time for as long as it helps."""
        rounds = min(6, 1 + self._trials // 32)
        for round_ in range(rounds):
            self.evaluate([one.design for one in self.ordered(key)[:6]], RUNGS[1])
            order = self.ordered(key)
            other = next((one for one in order if kind(one.design) != kind(order[0].design)), None)
            top = [order[0]] if other is None else [order[0], other]
            before = key(top[0])
            near = [each for one in top for each in neighbours(one.design, self.space)]
            fresh = [one for one in dict.fromkeys(near) if one not in self.seen]
            if not fresh:
                break
            self._rungs(fresh)
            self._tell((round_ + 1) / rounds)
            if key(self.ordered(key)[0]) >= before - 1e-4 and round_:
                break

    def _verify(self) -> None:
        """Promise the cheapest design that keeps the objectives under every fresh seed, for the budget if one does."""
        for key, count in zip(self._keys(), (10, 6), strict=False):
            self._settle(key, count)
        for affordable in (True, False):
            for tried in range(_TRIES):
                # Who has failed often wants more room.
                one = self._candidate(affordable, 0.005 * tried)
                if one is None:
                    break
                self.refresh(one, first_miss=True)
                self._tell((tried + 1 + _TRIES * (not affordable)) / (2 * _TRIES))
                if one.misses == 0 and len(one.fresh) == FRESH and (one.affordable or not affordable):
                    self.promised = one
                    return

    def _settle(self, key: Callable[[Evaluated], float], count: int) -> None:
        """The finalists get all replications, until the first `count` in order have them."""
        for _ in range(3):
            top = [one for one in self.ordered(key)[:count] if len(one.outcomes) < RUNGS[2]]
            if not top:
                break
            self.evaluate([one.design for one in top], RUNGS[2])

    def _candidate(self, affordable: bool, room: float) -> Evaluated | None:
        """The cheapest design that has kept the objectives, with some room, and was not verified yet."""
        failed = [one for one in self.seen.values() if one.fresh and one.misses]
        passed: set[Design] = set()
        for _ in range(100):
            for one in self.ordered(Evaluated.cheapest):
                if one.excess > 0:
                    return None
                if one.fresh or one.design in passed or (affordable and not one.affordable):
                    continue
                break
            else:
                return None
            self.evaluate([one.design], RUNGS[2])
            # What all but equals a design that failed would fail too: it needs some more room.
            doubted = any(kind(other.design) == kind(one.design) and _near(other, one) for other in failed)
            if one.excess <= -room and not doubted and (one.affordable or not affordable):
                return one
            passed.add(one.design)
        return None

    def refresh(self, one: Evaluated, *, first_miss: bool = False) -> None:
        """Run a design under all fresh seeds, or until one of them misses."""
        while len(one.fresh) < FRESH:
            seeds = range(len(one.fresh), len(one.fresh) + _CHUNK)
            one.fresh.extend(list(self._map([(one.design, (self.seed + FRESH_AT + r) % 2**64) for r in seeds])))
            if first_miss and one.misses:
                break

    # Progress

    def _stage(self, name: str, start: float, end: float) -> None:
        self.stage, self._span = name, (start, end)
        self._tell(0.0)

    def _tell(self, part: float) -> None:
        if self._progress is not None:
            start, end = self._span
            self._done = max(self._done, start + (end - start) * part)
            self._progress(self._done)


def kind(design: Design) -> tuple[Any, ...]:
    """What makes designs more than variants of each other."""
    return design.balancer, design.policy, design.mix, design.warm_pool


def _near(failed: Evaluated, one: Evaluated) -> bool:
    worst = sorted(excess(one.space, run) for run in one.outcomes)[-2]
    then = sorted(excess(one.space, run) for run in failed.outcomes)[-2]
    return worst > then - 0.01 and one.total < 1.02 * failed.total


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError("plan: needs optuna; run: pip install aibalance[plan]") from None
    return optuna


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds = optuna.distributions
    found = {
        "balancer": kinds.CategoricalDistribution(list(space.balancers)),
        "policy": kinds.CategoricalDistribution(list(POLICIES)),
        "min": kinds.IntDistribution(space.lowest, space.highest, log=True),
        # Where max lies between min and the highest, on a logarithmic scale.
        "room": kinds.FloatDistribution(0.0, 1.0),
        "target": kinds.FloatDistribution(*TARGETS),
        "threshold": kinds.CategoricalDistribution(list(THRESHOLDS)),
        "mix": kinds.CategoricalDistribution(list(range(len(space.mixes)))),
        "queue": kinds.IntDistribution(0, len(LIMITS)),
        "wait": kinds.IntDistribution(0, len(WAITS) - 1),
    }
    if space.pool is not None:
        found["warm"] = kinds.CategoricalDistribution([False, True])
    if space.spot is not None:
        found["spot"] = kinds.IntDistribution(0, len(SPOT_SHARES) - 1)
    return found


def _design(given: dict[str, Any], space: Space) -> Design:
    low = given["min"]
    high = round(low * (space.highest / low) ** given["room"])
    limit = given["queue"]
    wait = WAITS[given["wait"]]
    return settled(
        Design(
            balancer=given["balancer"],
            policy=given["policy"],
            min=low,
            max=min(max(high, low), space.highest),
            mix=space.mixes[given["mix"]],
            target=round(given["target"], 2),
            threshold=given["threshold"],
            warm_pool=given.get("warm", False),
            spot_share=SPOT_SHARES[given.get("spot", 0)],
            queue_limit=_queue(LIMITS[limit - 1] if limit else None, space),
            longest_wait_s=wait * space.limit_s if wait else None,
        ),
        space,
    )


def _queue(limit: int | None, space: Space) -> int | None:
    """Servers that share their speed keep the scenario's limit: nobody waits at them, or by another limit."""
    return None if space.scenario.fleet.discipline == "sharing" else limit


def _parameters(design: Design, space: Space) -> dict[str, Any]:
    wide = math.log(space.highest / design.min)
    wait = (design.longest_wait_s or 0.0) / space.limit_s
    found = {
        "balancer": design.balancer,
        "policy": design.policy,
        "min": design.min,
        "room": min(max(math.log(design.max / design.min) / wide, 0.0), 1.0) if wide > 0 else 0.0,
        "target": design.target,
        "threshold": design.threshold,
        "mix": space.mixes.index(design.mix),
        "queue": 0 if design.queue_limit is None else LIMITS.index(design.queue_limit) + 1,
        "wait": int(np.argmin([abs(wait - one) for one in WAITS])),
    }
    if space.pool is not None:
        found["warm"] = design.warm_pool
    if space.spot is not None:
        found["spot"] = SPOT_SHARES.index(design.spot_share)
    return found


def neighbours(design: Design, space: Space) -> list[Design]:
    """Designs that differ in one thing."""
    found: list[Design] = []

    def add(**changes: Any) -> None:
        other = dataclasses.replace(design, **changes)
        if other.min <= other.max:
            other = settled(other, space)
            if other != design:
                found.append(other)

    def within(value: float) -> int:
        return min(max(round(value), space.lowest), space.highest)

    fixed = design.policy == "fixed"
    for value in (design.min - 1, design.min + 1, design.min * 0.8, design.min * 1.25):
        low = within(value)
        add(min=low, max=low if fixed else max(design.max, low))
    if not fixed:
        for value in (design.max * 0.8, design.max * 0.93, design.max * 1.07, design.max * 1.25):
            add(max=within(value))
        for step in (-0.15, -0.05, 0.05, 0.15):
            add(target=round(min(max(design.target + step, TARGETS[0]), TARGETS[1]), 2))
        if space.pool is not None:
            add(warm_pool=not design.warm_pool)
    if design.policy == "surge":
        for threshold in THRESHOLDS:
            add(threshold=threshold)
    for name in space.balancers:
        add(balancer=name)
    for policy in POLICIES:
        add(policy=policy, max=design.min if policy == "fixed" else max(design.max, design.min))
    for mix in space.mixes:
        add(mix=mix)
        # For the same money.
        low = within(design.min * space.price(design) / max(space.price(dataclasses.replace(design, mix=mix)), 1e-9))
        add(mix=mix, min=low, max=low if fixed else max(design.max, low))
    if space.spot is not None:
        at = SPOT_SHARES.index(design.spot_share)
        for other in SPOT_SHARES[max(0, at - 1) : at + 2]:
            add(spot_share=other)
        add(spot_share=SPOT_SHARES[-1])
    if design.balancer in space.pulls:
        for wait in WAITS:
            add(longest_wait_s=wait * space.limit_s if wait else None)
    else:
        for limit in (None, *LIMITS):
            add(queue_limit=_queue(limit, space))
    return found
