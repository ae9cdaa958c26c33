"""`plan`: which balancer, which policy, which fleet, for these objectives and this money."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from . import _checks as check
from . import _plan_answers as words
from ._plan_run import runner
from ._plan_run_once import Detail, detail
from ._plan_search import FRESH, RUNGS, Evaluated, Search, kind
from ._plan_slo import Objective, objectives
from ._plan_space import Design, Space, settled, space
from ._plan_terms import SpotTerms, WarmPoolTerms
from ._scenario import Scenario
from ._statistics import Interval


@dataclass(frozen=True, repr=False)
class Plan:
    """What `plan` found.

    `met` says whether the best design keeps every objective within the budget, under every fresh seed. `best` is that
    design, or, if none does, the best for the money; `would` is then the cheapest that keeps the objectives for more
    money, if any does.
    `queue` is the best design with one queue and an ETA for the money. `front` are the designs that nothing
    beats in both cost and the first objective, cheapest first; `runners_up` come next after the best.
    """

    scenario: Scenario
    space: Space
    seed: int
    met: bool
    best: Evaluated
    would: Evaluated | None
    queue: Evaluated | None
    front: tuple[Evaluated, ...]
    runners_up: tuple[Evaluated, ...]
    balancers: tuple[tuple[str, Evaluated], ...]
    """The best design with each balancer in turn."""
    evaluated: tuple[Evaluated, ...]
    run: Detail
    by_balancer: dict[str, Any]
    """Histogram of latencies (low_s, high_s, counts) of one run of the best design with each balancer."""
    reading: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        met = "meets" if self.met else "misses"
        return f"<Plan for {self.scenario.name!r}: {met} {', '.join(map(str, self.objectives))}; {self.best.design}>"

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What was asked for."""
        return self.space.objectives

    @property
    def budget(self) -> float | None:
        """USD for a month without a spike, if there was a limit."""
        return self.space.budget

    @property
    def sentence(self) -> str:
        """The answer in two or three sentences."""
        return words.sentence(self)

    @property
    def answers(self) -> dict[str, str]:
        """The seven points: balancer, scaling policy, pre-warming, queue, cost mix, interruptions, metrics."""
        return words.answers(self)

    def summary(self) -> str:
        """Everything for people, as plain text."""
        return words.summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        report = self.run.report
        return {
            "scenario": {
                "name": self.scenario.name,
                "description": self.scenario.description,
                "duration_s": self.scenario.duration_s,
                "traffic": self.scenario.traffic.describe(),
                "service": self.scenario.service.describe(),
                "fleet": self.scenario.fleet.describe(),
                "spike": None
                if self.scenario.spike is None
                else {"start_s": self.scenario.spike.start_s, "end_s": self.scenario.spike.end_s},
            },
            "objectives": [{"metric": one.metric, "limit": one.limit, "text": str(one)} for one in self.objectives],
            "budget_per_month": self.budget,
            "spikes_per_month": self.space.spikes_per_month,
            "seed": self.seed,
            "met": self.met,
            "sentence": self.sentence,
            "reading": list(self.reading),
            "answers": self.answers,
            "best": row(self.best),
            "would": None if self.would is None else row(self.would),
            "queue_for_the_money": None if self.queue is None else row(self.queue),
            "front": [row(one) for one in self.front],
            "runners_up": [row(one) for one in self.runners_up],
            "balancers": [{"balancer": name, **row(one)} for name, one in self.balancers],
            "designs_tried": len(self.evaluated),
            "timeline": {name: column.tolist() for name, column in report.timeline.items()},
            "actions": [one.to_dict() for one in self.run.actions],
            "heat": self.run.heat,
            "servers_a_row": self.run.servers_a_row,
            "price_per_server_hour": self.space.money(self.best.design, self.space.price(self.best.design), 3600.0),
            "latencies": {
                name: {"low_s": low.tolist(), "high_s": high.tolist(), "counts": counts.tolist()}
                for name, (low, high, counts) in self.by_balancer.items()
            },
        }

    def to_csv(self) -> str:
        """Every design that was tried, a line each, with its means and intervals; the best first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [one.metric for one in self.objectives]
        writer.writerow(
            [*self.best.design.to_dict(), "replications", "misses", "excess"]
            + [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
            + ["month_usd", "month_usd_low", "month_usd_high", "spike_usd", "total_usd"]
        )
        for one in self.evaluated:
            month = one.month
            cells: list[Any] = [
                " ".join(f"{part:g}" for part in value) if isinstance(value, list) else value
                for value in one.design.to_dict().values()
            ]
            cells += [len(one.runs), one.misses, one.excess]
            for i in range(len(names)):
                found = one.objective(i)
                cells += [found.mean, found.low, found.high]
            writer.writerow([*cells, month.mean, month.low, month.high, one.spike.mean, one.total])
        return text.getvalue()

    def to_html(self, path: str | os.PathLike[str], /) -> None:
        """Writes the report: one HTML file, readable offline. Needs the extra `aibalance[report]`."""
        from ..report import write_plan

        write_plan(self.to_dict(), path)

    def _repr_html_(self) -> str:
        """The report, in a notebook."""
        from ..report import plan_to_html, shown

        return str(shown(lambda: plan_to_html(self.to_dict()), self.summary()))


def row(one: Evaluated) -> dict[str, Any]:
    """A design and what its runs measured, as plain values."""

    def plain(of: Interval) -> dict[str, Any]:
        return {"mean": of.mean, "low": of.low, "high": of.high}

    of = one.space
    return {
        "design": one.design.to_dict(),
        "text": words.describe(one.design, of),
        "runs": len(one.runs),
        "fresh": bool(one.fresh),
        "misses": one.misses,
        "values": [plain(one.objective(i)) for i in range(len(of.objectives))],
        **{name: plain(one.quantile(i)) for i, name in enumerate(("p50_s", "p95_s", "p99_s", "errors"))},
        "month": plain(one.month),
        "spike": plain(one.spike),
        "total": one.total,
        "affordable": one.affordable,
        "keeps": one.misses == 0,
        "servers_mean": sum(one.column("servers_mean")) / len(one.runs),
        "servers_peak": max(one.column("servers_peak")),
    }


def plan(
    scenario: Scenario,
    /,
    *,
    slo: str | Objective | Sequence[str | Objective],
    budget: float | None = None,
    spot: SpotTerms | Literal["scenario"] | None = "scenario",
    warm_pool: WarmPoolTerms | Literal["scenario"] | None = "scenario",
    max_servers: int | None = None,
    spikes_per_month: float = 1.0,
    trials: int = 240,
    seed: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    progress: Callable[[float], object] | None = None,
) -> Plan:
    """Search balancer, scaling policy, bounds, target, warm pool and fleet mix for the cheapest that keep an objective.

    Parameters
    ----------
    slo : objectives such as "p95 < 30s" or "p99 < 800 ms, error < 1 %", or several of them: see `Objective`.
    budget : USD for a month without a spike (730 hours); what a spike costs is said beside it. None for no limit.
    spot : what spot servers are assumed to be; None for none; "scenario" (default) for the scenario's `spot`, or the
        defaults of SpotTerms if it has none.
    warm_pool : what stopped, prepared servers are assumed to be; likewise, with the scenario's `warm_pool`.
    max_servers : the most there may be (default: the fleet's max).
    spikes_per_month : how many spikes are counted when designs are weighed (default 1).
    trials : designs that optuna proposes, beside those by theory and the last steps (default 240).
    seed : of the first replication and of the search (default: the scenario's). Equal seeds give equal plans, whatever
        `workers` and `ray` are.
    workers : processes (default: one a core; 1 for none). With more than one, a script that calls `plan` needs
        `if __name__ == "__main__"`.
    ray : the address of a Ray cluster ("auto", "ray://host:10001") that runs the simulations.
    progress : called with the fraction done, now and then.

    A promise is made only for a design that keeps every objective under each of 200 fresh seeds. Raises ConfigError for
    parameters that cannot be, for training beside inference, and without the extra `aibalance[plan]`. Sources: Bergstra
    et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011 (TPE, by optuna); Jamieson and Talwalkar,
    AISTATS 2016 (successive halving).

    >>> from aibalance.simulation import Fleet, PoissonTraffic, Scenario, ServerType, Service, plan
    >>> small = Scenario(name="small", traffic=PoissonTraffic(rate_rps=2), service=Service("exponential", mean_s=1),
    ...     fleet=Fleet(types=[ServerType(name="a", price_per_hour=1)], max=8), duration_s=300, slo_s=5)
    >>> found = plan(small, slo="p95 < 5s", budget=6000, trials=16, workers=1)
    >>> found.met, 3 <= found.best.design.max <= 8
    (True, True)
    """
    search = prepare(
        scenario,
        slo=slo,
        budget=budget,
        spot=spot,
        warm_pool=warm_pool,
        max_servers=max_servers,
        spikes_per_month=spikes_per_month,
        trials=trials,
        seed=seed,
        workers=workers,
        ray=ray,
        progress=progress,
    )
    try:
        search.run()
        return conclude(search)
    finally:
        search.close()


def prepare(
    scenario: Scenario,
    *,
    slo: Any,
    budget: float | None,
    spot: SpotTerms | Literal["scenario"] | None,
    warm_pool: WarmPoolTerms | Literal["scenario"] | None,
    max_servers: int | None,
    spikes_per_month: float,
    trials: int,
    seed: int | None,
    workers: int | None,
    ray: str | None,
    progress: Callable[[float], object] | None,
) -> Search:
    """A search that is ready to run; everything that can be refused is refused here."""
    if not isinstance(scenario, Scenario):
        raise check.wrong("scenario", scenario, "a Scenario; Scenario.load(path) reads a file")
    wanted, added = objectives(slo)
    if budget is not None:
        check.number("budget", budget, 0, 1e12, unit="USD")
    if spot == "scenario":
        spot = scenario.spot or SpotTerms()
    if warm_pool == "scenario":
        warm_pool = scenario.warm_pool or WarmPoolTerms()
    if spot is not None and not isinstance(spot, SpotTerms):
        raise check.wrong("spot", spot, 'a SpotTerms, "scenario" or None')
    if warm_pool is not None and not isinstance(warm_pool, WarmPoolTerms):
        raise check.wrong("warm_pool", warm_pool, 'a WarmPoolTerms, "scenario" or None')
    check.number("spikes_per_month", spikes_per_month, 0, 1e4)
    check.whole("trials", trials, 1, 100_000)
    seed = scenario.seed if seed is None else check.whole("seed", seed, 0, 2**64 - 1)
    of = space(
        scenario,
        wanted,
        budget=budget,
        spot=spot,
        pool=warm_pool,
        max_servers=max_servers,
        spikes_per_month=spikes_per_month,
    )
    search = Search(of, None, seed=seed, trials=trials, progress=progress)
    search.added = added
    search.use(runner(of, workers=workers, ray=ray))
    return search


def so_far(search: Search, most: int = 5) -> list[Evaluated]:
    """The best that an interrupted search knows: those that keep the objectives for the money first."""
    order = sorted(search.ordered(Evaluated.cheapest), key=lambda one: not one.affordable)
    return order[:most]


def conclude(search: Search) -> Plan:
    """The plan from what a search has seen."""
    of = search.space
    promised = search.promised
    met = promised is not None and promised.affordable
    ordered = search.ordered(Evaluated.cheapest if met else Evaluated.best)
    best = promised if met and promised is not None else _for_the_money(ordered, of)
    queue = next((one for one in search.ordered(Evaluated.best) if _pulls(one) and one.affordable), None)
    for one in (best, queue):
        if one is not None:
            search.refresh(one)
    others = _balancers(search, best)
    shown = {name: _histogram(of, one.design, search.seed) for name, one in others}
    return Plan(
        scenario=of.scenario,
        space=of,
        seed=search.seed,
        met=met,
        best=best,
        would=None if met else promised,
        queue=queue,
        front=_front(ordered),
        runners_up=_runners_up(search, best, met),
        balancers=tuple(others),
        evaluated=tuple(ordered),
        run=detail(of, best.design, search.seed),
        by_balancer=shown,
        reading=words.reading(of, search.added),
    )


def _for_the_money(ordered: Sequence[Evaluated], of: Space) -> Evaluated:
    """The best that the budget buys; without a budget, and if it buys nothing, the first in order."""
    full = [one for one in ordered if len(one.outcomes) >= RUNGS[1]] or list(ordered)
    return next((one for one in full if one.affordable), full[0])


def _pulls(one: Evaluated) -> bool:
    return one.design.balancer in one.space.pulls


def _balancers(search: Search, best: Evaluated) -> list[tuple[str, Evaluated]]:
    of = search.space
    limit = best.design.queue_limit
    designs = {name: settled(replace(best.design, balancer=name, queue_limit=limit), of) for name in of.balancers}
    search.evaluate(designs.values(), RUNGS[2])
    rows = [(name, search.seen[one]) for name, one in designs.items()]
    return sorted(rows, key=lambda pair: (Evaluated.cheapest(pair[1]), pair[0]))


def _histogram(of: Space, design: Design, seed: int) -> Any:
    from ._drivers import balancer, policy
    from ._run import run

    scenario, spec, scaling = of.specs(design)
    return run(scenario, balancer(spec, scenario), policy(scaling, scenario), seed).histogram


def _front(ordered: Sequence[Evaluated]) -> tuple[Evaluated, ...]:
    """What nothing beats in both money and the first objective."""
    known = [one for one in ordered if len(one.outcomes) >= RUNGS[1] and math.isfinite(one.objective(0).mean)]
    found: list[Evaluated] = []
    for one in sorted(known, key=lambda one: (one.total, one.objective(0).mean)):
        if not found or one.objective(0).mean < found[-1].objective(0).mean * 0.995:
            found.append(one)
    return tuple(found)


def _runners_up(search: Search, best: Evaluated, met: bool, most: int = 5) -> tuple[Evaluated, ...]:
    """The next ones that differ in more than a number."""
    found: dict[tuple[Any, ...], Evaluated] = {}
    for one in search.ordered(Evaluated.cheapest if met else Evaluated.best):
        what = kind(one.design)
        fits = one.affordable and (one.excess <= 0 or not met)
        if len(one.outcomes) >= RUNGS[1] and what != kind(best.design) and fits:
            found.setdefault(what, one)
        if len(found) == most:
            break
    return tuple(found.values())


__all__ = ["FRESH", "Plan", "conclude", "plan", "prepare", "row", "so_far"]
