"""One run of a design in detail: what it did over time and why, and what each server did."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._drivers import Policy, PolicyDriver, balancer, build_policy, policy
from ._plan_space import Design, Space
from ._run import Report, run

_MOST_RECORDS = 3_000_000
_STEPS = 60
_MOST_SERVERS = 120
# A metric in full: people need four figures of it.
_LONG = re.compile(r"\b\d+\.\d{4,}\b")


@dataclass(frozen=True)
class Action:
    """One change of the wanted number of servers, and what the policy said and saw."""

    at_s: float
    before: int
    after: int
    reason: str
    utilization: float | None
    queue_per_server: float | None

    def text(self) -> str:
        """One sentence for people."""
        seen = []
        if self.utilization is not None:
            seen.append(f"{100 * self.utilization:.0f} % of slots busy")
        if self.queue_per_server is not None:
            seen.append(f"{self.queue_per_server:.2g} waiting a server")
        minutes, seconds = divmod(round(self.at_s), 60)
        what = "up" if self.after > self.before else "down"
        said = f": {_LONG.sub(lambda one: f'{float(one[0]):.4g}', self.reason)}" if self.reason else ""
        return f"{minutes}:{seconds:02d} {what} from {self.before} to {self.after} servers{said} ({', '.join(seen)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, and the sentence."""
        return {**self.__dict__, "text": self.text()}


class _Listening:
    """A policy that writes down what it decides."""

    def __init__(self, policy: Any, start: int) -> None:
        self._policy = policy
        self._wanted = start
        self.actions: list[Action] = []

    def recommend(self, seen: Mapping[str, Any], *, now: float) -> Any:
        found = self._policy.recommend(seen, now=now)
        wanted = found.desired
        if wanted is not None and wanted != self._wanted:
            metrics = seen["metrics"]
            self.actions.append(
                Action(
                    now,
                    self._wanted,
                    wanted,
                    str(getattr(found, "reason", "") or ""),
                    metrics.get("utilization"),
                    metrics.get("queue_per_server"),
                )
            )
            self._wanted = wanted
        return found


@dataclass(frozen=True)
class Detail:
    """A run, the actions in it, and the share of each server's slots that was busy in each step; None where unknown."""

    report: Report
    actions: tuple[Action, ...]
    heat: tuple[tuple[float, ...], ...] | None
    """A row a server, or a row a group of `servers_a_row`; 0 before it came and after it left."""
    servers_a_row: int = 1


def detail(space: Space, design: Design, seed: int) -> Detail:
    """Run a design once more, and listen."""
    of, spec, scaling = space.specs(design)
    by = balancer(spec, of)
    listening: list[_Listening] = []
    if scaling.policy == "Fixed":
        driven = policy(scaling, of)
    else:

        def make() -> PolicyDriver:
            listening.append(_Listening(build_policy(scaling, of.fleet), design.min))
            return PolicyDriver(listening[-1])

        driven = Policy(scaling.name, scaling.policy, make, of.fleet)
    report = run(of, by, driven, seed, records=space.facts["requests"] <= _MOST_RECORDS)
    heat, group = _heat(report) if report.records is not None else (None, 1)
    return Detail(report, tuple(listening[0].actions if listening else ()), heat, group)


def _heat(report: Report) -> tuple[tuple[tuple[float, ...], ...] | None, int]:
    records = report.records
    assert records is not None
    on = records.server >= 0
    if not on.any():
        return None, 1
    end = report.scenario.duration_s
    step = end / _STEPS
    servers = int(records.server[on].max()) + 1
    group = math.ceil(servers / _MOST_SERVERS)
    busy = np.zeros((math.ceil(servers / group), _STEPS))
    row = records.server[on] // group
    start = np.minimum(records.arrival[on] + records.wait[on], end)
    stop = np.minimum(start + records.service[on], end)
    # Every request adds to each step what it overlaps with it.
    first, last = (start // step).astype(int), np.ceil(stop / step).astype(int)
    for ahead in range(int((last - first).max(initial=0))):
        at = first + ahead
        inside = at < np.minimum(last, _STEPS)
        lap = np.minimum(stop, (at + 1) * step) - np.maximum(start, at * step)
        np.add.at(busy, (row[inside], at[inside]), np.maximum(lap[inside], 0.0))
    slots = max(one.concurrency or report.scenario.fleet.concurrency for one in report.scenario.fleet.types)
    busy = np.clip(busy / (step * group * slots), 0.0, 1.0)
    return tuple(tuple(round(float(value), 3) for value in line) for line in busy), group
