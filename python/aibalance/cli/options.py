"""What the commands that simulate share: the scenario, a trace in place of its traffic, JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from ..traces import FORMATS

if TYPE_CHECKING:
    from ..simulation import Scenario

__all__ = ["load", "note", "print_json", "scenario", "whole"]


def scenario(parser: argparse.ArgumentParser) -> None:
    """Add the scenario and the options that go with one."""
    parser.add_argument("scenario", metavar="SCENARIO.toml", help="the scenario file")
    parser.add_argument("--trace", metavar="FILE", help="take arrivals and tokens from this trace (plain or gzip)")
    parser.add_argument(
        "--trace-format",
        metavar="FORMAT",
        choices=FORMATS,
        help=f"{' or '.join(FORMATS)}; recognised by content when left out",
    )
    parser.add_argument("--seed", metavar="S", type=whole(0, 2**64 - 1), help="seed of the (first) run (scenario's)")
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress and no notes on stderr")


def load(given: argparse.Namespace) -> Scenario:
    """The scenario that was asked for, with the trace's traffic if there is one."""
    # Late, so that --help and a wrong option answer at once.
    from .. import traces
    from ..simulation import Scenario

    if given.trace_format is not None and given.trace is None:
        raise ConfigError("--trace-format: needs --trace")
    found = Scenario.load(given.scenario)
    if given.trace is None:
        return found
    trace = traces.read(given.trace, format=given.trace_format)
    note(given, trace.describe())
    return found.with_trace(trace)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers for argparse."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from {low} to {high}")
        return value

    return read


def note(given: argparse.Namespace, message: str) -> None:
    """A line on stderr, unless --quiet."""
    if not given.quiet:
        print(message, file=sys.stderr)


def print_json(value: Any) -> None:
    """Machine-readable results on stdout."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
