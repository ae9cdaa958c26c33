"""Runs of designs, on one core or on all, here or on a Ray cluster: the same function, the same results."""

from __future__ import annotations

import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from .._errors import SimulationError
from . import _checks as check
from ._drivers import balancer, policy
from ._plan_space import HOURS, Design, Space
from ._run import run


@dataclass(frozen=True)
class Outcome:
    """What one run of a design measured. `values` are the objectives', in their order; money is in USD."""

    values: tuple[float, ...]
    quantiles: tuple[float, float, float, float]
    """p50, p95, p99 over all requests (infinite where too many have no answer), and the share without an answer."""
    run_cost: float
    month_cost: float
    """A month without a spike."""
    spike_cost: float
    servers_mean: float
    servers_peak: float


Task = tuple[Design, int]


def outcome(space: Space, task: Task) -> Outcome:
    """One run of a design under one seed, and one of an ordinary day beside it."""
    from ._plan_slo import measured

    design, seed = task
    of, spec, scaling = space.specs(design)
    by = balancer(spec, of)
    report = run(of, by, policy(scaling, of), seed)
    hours = of.duration_s / 3600
    cost = space.money(design, report.cost, of.duration_s)
    if space.calm is None:
        month, spike = cost / hours * HOURS, 0.0
    else:
        calm, _, _ = space.specs(design, space.calm)
        ordinary = space.money(design, run(calm, by, policy(scaling, calm), seed).cost, of.duration_s)
        month, spike = ordinary / hours * HOURS, cost - ordinary
    return Outcome(
        values=tuple(one.value(report) for one in space.objectives),
        quantiles=(
            measured("p50", report),
            measured("p95", report),
            measured("p99", report),
            measured("error", report),
        ),
        run_cost=cost,
        month_cost=month,
        spike_cost=spike,
        servers_mean=report.servers_mean,
        servers_peak=float(report.servers_peak),
    )


class Runner(Protocol):
    """Maps `outcome` over tasks; results come in the tasks' order."""

    def map(self, tasks: Sequence[Task]) -> Iterable[Outcome]: ...

    def stop(self) -> None:
        """Nothing runs any more; at once, by a process that ends soon."""

    def close(self) -> None:
        """Nothing runs any more, and nothing is held."""


class Serial:
    """In this process."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def map(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return (outcome(self._space, task) for task in tasks)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


_SPACE: Space | None = None


def _begin(space: Space) -> None:
    global _SPACE
    # Ctrl-C is the parent's business; it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    _SPACE = space


def _follow(parent: int) -> None:
    """End with the parent, also where it is killed: else a worker would wait for tasks for good."""
    multiprocessing.connection.wait([parent])
    os._exit(1)


def _work(tasks: Sequence[Task]) -> list[Outcome]:
    assert _SPACE is not None
    return [outcome(_SPACE, task) for task in tasks]


@contextmanager
def _later() -> Iterator[None]:
    """Ctrl-C waits until the end of this: no process is half born, and those that are born do not hear it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *given: heard.append(given))
    # Processes inherit it. A thread of a library may still hear, so this alone does not do.
    masks = hasattr(signal, "pthread_sigmask")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if heard and callable(before):
            before(*heard[0])


@contextmanager
def heeded() -> Iterator[Callable[[], None]]:
    """Gives what raises the KeyboardInterrupt of a Ctrl-C once more. Some code swallows any exception: modules written
    in Cython do while they are imported, and libraries import late.
    """
    before: Any = signal.getsignal(signal.SIGINT)
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        try:
            before(number, frame)
        except KeyboardInterrupt:
            heard.append(number)
            raise

    def again() -> None:
        if heard:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield again
        return
    signal.signal(signal.SIGINT, hear)
    try:
        yield again
    finally:
        if signal.getsignal(signal.SIGINT) is hear:
            signal.signal(signal.SIGINT, before)


class Processes:
    """In processes of this machine."""

    def __init__(self, space: Space, workers: int) -> None:
        # A fork of a process with threads may hang; these start anew.
        ways = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
        self._workers = workers
        self._before = set(multiprocessing.active_children())
        self._pool: ProcessPoolExecutor | None = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(space,)
        )

    def map(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        assert self._pool is not None
        size = max(1, min(8, len(tasks) // (4 * self._workers)))
        try:
            with _later():
                # Not the pool's map, which cancels what is left: when its workers then end, its thread trips over that.
                asked = [self._pool.submit(_work, tasks[i : i + size]) for i in range(0, len(tasks), size)]
            for one in asked:
                yield from one.result()
        except BrokenProcessPool as error:
            raise SimulationError(
                "plan: a worker process ended; out of memory, or a script that calls plan() without "
                'if __name__ == "__main__"? workers=1 does without processes'
            ) from error

    def stop(self) -> None:
        self.close()

    def close(self) -> None:
        if self._pool is None:
            return
        # At once: a run that nobody waits for may be long.
        for child in set(multiprocessing.active_children()) - self._before:
            child.kill()
        # With nobody left to wait for, this is short; and a thread that outlives us would complain at the end.
        self._pool.shutdown(wait=True)
        self._pool = None


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def runner(space: Space, *, workers: int | None, ray: str | None) -> Runner:
    """Where to run. Raises ConfigError when Ray is asked for and not there."""
    if ray is not None:
        if workers is not None:
            raise check.wrong("workers", workers, "none with ray, which has workers of its own")
        from ._plan_ray import Ray

        return Ray(space, check.text("ray", ray))
    n = cores() if workers is None else check.whole("workers", workers, 1, 4096)
    return Serial(space) if n == 1 else Processes(space, n)


def excess(space: Space, of: Outcome) -> float:
    """By how much a run misses the objectives: the logarithm of the worst value over its limit; up to 0 for no miss.

    Infinite values have a finite excess that grows with the share without an answer, so that a search has a slope.
    """
    worst = -math.inf
    for one, value in zip(space.objectives, of.values, strict=True):
        if math.isinf(value) or math.isnan(value):
            found = 5.0 + 5.0 * of.quantiles[3]
        else:
            found = min(math.log(max(value, 1e-9) / one.limit), 5.0)
        worst = max(worst, found)
    return worst


Progress = Callable[[float], object]
