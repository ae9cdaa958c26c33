"""`aibalance simulate`: one balancer and one scaling policy, one run."""

from __future__ import annotations

import argparse
import logging
import time
from typing import TYPE_CHECKING, Any

from .._errors import AibalanceError
from ..report import numbers, ready
from . import options
from .progress import Progress

if TYPE_CHECKING:
    from ..simulation import Report, Scenario

__all__ = ["add", "run"]

_INSTANT_S = 0.15
_STEP = 0.005


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "simulate",
        help="run one balancer with one scaling policy, once",
        description="Run one balancer with one scaling policy of a scenario once, and say what happened.",
        epilog="Exit codes: 0 simulated; 2 wrong usage or input; 130 ended by Ctrl-C, with the run's beginning.",
        allow_abbrev=False,
    )
    options.scenario(parser)
    parser.add_argument(
        "--balancer", metavar="NAME", help="a balancer of the scenario, or a picker such as LeastRequest (the first)"
    )
    parser.add_argument("--policy", metavar="NAME", help="a scaling policy of the scenario, or Fixed (the first)")
    parser.add_argument("--report", metavar="FILE.html", help="write a report with charts, one file, readable offline")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Simulate once and print what happened."""
    from ..simulation import simulate

    if given.report is not None:
        # What it has to say about its font cache is not for whoever waits for a run.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        ready(given.report)
    scenario = options.load(given)
    progress = Progress("simulate", quiet=given.quiet)
    try:
        with progress:
            report = simulate(scenario, picker=given.balancer, policy=given.policy, seed=given.seed, progress=progress)
    except KeyboardInterrupt:
        _known(given, scenario, progress)
        raise
    if given.json:
        options.print_json(report.to_dict())
    else:
        print(report.summary())
    if given.report is not None:
        report.to_html(given.report)
        options.note(given, f"report: {given.report}")
    return 0


def _known(given: argparse.Namespace, scenario: Scenario, progress: Progress) -> None:
    """What an interrupted run knows. The engine's own figures end with it, so as much of its beginning as takes an
    instant is run once more: under the same seed it is the same run, of shorter traffic.
    """
    of, done = scenario.duration_s, progress.fraction
    counted = f"{numbers.clock(of * done)} of {numbers.clock(of)} were simulated"
    if done == 0:
        # The engine tells every half of a percent; it may not have begun, too.
        counted = f"less than {numbers.clock(of * _STEP)} of {numbers.clock(of)} were simulated"
    report = _beginning(given, scenario, max(done, _STEP / 2) * of, progress.seconds)
    if report is None:
        options.note(given, f"interrupted; {counted}")
        return
    shown = numbers.clock(report.scenario.duration_s)
    if given.json:
        options.print_json({"interrupted": True, "counted": counted, **report.to_dict()})
    else:
        print(f"interrupted; partial: {counted}; below are the first {shown}, as if traffic had ended then")
        print(report.summary())


def _beginning(given: argparse.Namespace, scenario: Scenario, reached_s: float, took_s: float) -> Report | None:
    """The first of the `reached_s` seconds that took `took_s`, as far as an instant goes; None if that is nothing."""
    from ..simulation import simulate
    from ..simulation._plan_space import without_spike

    start = time.monotonic()
    end = reached_s * min(1.0, _INSTANT_S / max(took_s, _INSTANT_S))
    if end <= scenario.discard_s or end < 1e-3:
        return None
    spike = scenario.spike
    if spike is not None and spike.start_s >= end:
        scenario = without_spike(scenario) or scenario

    def stop(fraction: float) -> None:
        if time.monotonic() - start > 1.5 * _INSTANT_S:
            raise KeyboardInterrupt

    try:
        of = scenario.replace(duration_s=end)
        return simulate(of, picker=given.balancer, policy=given.policy, seed=given.seed, progress=stop)
    except (KeyboardInterrupt, AibalanceError):
        # Slower than it was, or too short to be a scenario: then there is nothing to show.
        return None
