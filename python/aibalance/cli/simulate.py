"""`aibalance simulate`: one balancer and one scaling policy, one run."""

from __future__ import annotations

import argparse
from typing import Any

from . import options
from .progress import Progress

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "simulate",
        help="run one balancer with one scaling policy, once",
        description="Run one balancer with one scaling policy of a scenario once, and say what happened.",
        epilog="Exit codes: 0 simulated; 2 wrong usage or input.",
        allow_abbrev=False,
    )
    options.scenario(parser)
    parser.add_argument(
        "--balancer", metavar="NAME", help="a balancer of the scenario, or a picker such as LeastRequest (the first)"
    )
    parser.add_argument("--policy", metavar="NAME", help="a scaling policy of the scenario, or Fixed (the first)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Simulate once and print what happened."""
    from ..simulation import simulate

    scenario = options.load(given)
    with Progress("simulate", quiet=given.quiet) as progress:
        report = simulate(scenario, picker=given.balancer, policy=given.policy, seed=given.seed, progress=progress)
    if given.json:
        options.print_json(report.to_dict())
    else:
        print(report.summary())
    return 0
