"""`aibalance recommend`: one decision of a scaling policy, with its reason."""

from __future__ import annotations

import argparse
import copy
import math
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from ..report import numbers
from . import options, policies
from .tables import table, width, wrapped

if TYPE_CHECKING:
    from ..autoscaling import PolicyWarning, Recommendation

__all__ = ["add", "fleet", "run", "warnings", "warnings_text"]

_EPILOG = """\
A policy has a memory: windows and alarms that need several observations are asked again while the metrics stay as they
are ("if it stays so").

Exit codes: 0 decided; 1 it cannot decide, or --strict and a warning; 2 wrong usage or input.
"""

_AHEAD = 3600.0


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "recommend",
        help="ask a scaling policy how many servers there should be, and why",
        description="Ask a scaling policy once, and say what it decides, why, and what bound it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("policy", metavar="POLICY", help=policies.HELP)
    parser.add_argument(
        "--metric",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a metric; without a value it is missing (the name may be left out where the policy reads only one)",
    )
    parser.add_argument(
        "--current", metavar="N", type=options.whole(0, 2**31 - 1), required=True, help="servers in service"
    )
    parser.add_argument(
        "--warming", metavar="N", type=options.whole(0, 2**31 - 1), default=0, help="servers that start (0)"
    )
    parser.add_argument("--desired", metavar="N", type=options.whole(0, 2**31 - 1), help="servers last asked for")
    parser.add_argument(
        "--every", metavar="S", type=seconds, default=15.0, help="seconds between decisions, for what comes next (15)"
    )
    fleet(parser)
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no notes on stderr")
    parser.set_defaults(run=run)


def fleet(parser: argparse.ArgumentParser) -> None:
    """Options that say what the warnings go by."""
    parser.add_argument("--cold-start", metavar="S", type=seconds, help="seconds until a new server works")
    parser.add_argument(
        "--saturation",
        metavar="[NAME=]VALUE",
        action="append",
        default=[],
        help="the value at which a metric ends, such as 100 for percent",
    )
    parser.add_argument("--gpu", action="store_true", default=None, help="servers are GPUs: idle ones are dear")
    parser.add_argument("--strict", action="store_true", help="exit 1 when there is a warning")


def seconds(text: str) -> float:
    """A reader of seconds, also as 30s, 5m, 2h, 14d, 1h30m."""
    import re

    units = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
    try:
        value = float(text)
    except ValueError:
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw])", text)
        if not parts or "".join(a + b for a, b in parts) != text:
            raise argparse.ArgumentTypeError(f"{text!r}; allowed: seconds, or such as 30s, 5m, 2h, 14d") from None
        value = sum(float(number) * units[unit] for number, unit in parts)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: seconds of 0 or more")
    return value


def run(given: argparse.Namespace) -> int:
    """Decide once, and say so."""
    from ..autoscaling import binding, projected
    from ..autoscaling._aims import also

    named = policies.read(given.policy)
    metrics = _metrics(given.metric, _names(named.policy), also(named.policy))
    observation: dict[str, Any] = {"current": given.current, "warming": given.warming, "metrics": metrics}
    if given.desired is not None:
        observation["desired"] = given.desired
    asked = copy.deepcopy(named.policy)
    answer = asked.recommend(observation, now=0.0)
    after = projected(named.policy, metrics, current=given.current, desired=answer.desired)
    later = _later(asked, observation, answer.desired, given.every)
    found = warnings(named.policy, given, given.current)
    if given.json:
        options.print_json(
            {
                "policy": named.name,
                "current": answer.current,
                "desired": answer.desired,
                "action": answer.action,
                "reason": answer.reason,
                "limited_by": answer.limited_by,
                "bound": binding(answer, named.policy),
                "trace": [list(stage) for stage in answer.trace],
                "projected": after,
                "later": None if later is None else {"after_s": later[0], "desired": later[1].desired},
                "warnings": [{"rule": one.rule, "field": one.field, "message": one.message} for one in found],
            }
        )
    else:
        print(_text(named.name, answer, binding(answer, named.policy), metrics, after, later, found))
    undecided = answer.action == "insufficient_data"
    return 1 if undecided or (given.strict and found) else 0


def _names(policy: Any) -> list[str]:
    from ..autoscaling._aims import aims

    return [aim.metric for aim in aims(policy)]


def _metrics(given: list[str], names: list[str], others: list[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for text in given:
        name, equals, value = text.rpartition("=")
        if not equals and len(names) == 1:
            name = names[0]
        if not name:
            raise ConfigError(f"--metric: {text!r} is not allowed; NAME=VALUE" + (_known(names)))
        if names and name not in (*names, *others):
            raise ConfigError(f"--metric: the policy reads no metric {name!r}" + _known(names))
        try:
            found[name] = float(value) if value else None
        except ValueError:
            raise ConfigError(f"--metric: {name}: {value!r} is not allowed; a number") from None
    return found


def _known(names: list[str]) -> str:
    return f"; it reads {', '.join(names)}" if names else ""


def _later(policy: Any, observation: dict[str, Any], now_desired: int, every: float) -> tuple[float, Any] | None:
    """When, if the metrics stay so and nothing is carried out, another answer comes within an hour."""
    if every <= 0 or now_desired != observation.get("desired", observation["current"] + observation["warming"]):
        return None
    at = every
    while at <= _AHEAD:
        answer = policy.recommend(observation, now=at)
        if answer.desired != now_desired:
            return at, answer
        at += every
    return None


def warnings(policy: Any, given: argparse.Namespace, current: int | None) -> list[PolicyWarning]:
    """What of the policy cannot work, by what the options say."""
    from ..autoscaling import check

    limits: dict[str, float] = {}
    everywhere: float | None = None
    for text in given.saturation:
        name, equals, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not 0 < limit < math.inf:
            raise ConfigError(f"--saturation: {text!r} is not allowed; a number above 0, or NAME=NUMBER")
        if equals:
            limits[name] = limit
        else:
            everywhere = limit
    if everywhere is not None:
        limits = dict.fromkeys(_names(policy), everywhere) | limits
    return check(policy, current=current or None, cold_start=given.cold_start, saturation=limits, gpu=given.gpu)


def warnings_text(found: list[PolicyWarning], columns: int) -> str:
    """The warnings, each wrapped, under a head."""
    lines = [wrapped(f"- {one}", columns) for one in found]
    return "\n".join([f"{len(found)} warning{'' if len(found) == 1 else 's'}", *lines])


def _text(
    name: str,
    answer: Recommendation,
    bound: str | None,
    metrics: dict[str, float | None],
    after: dict[str, float],
    later: tuple[float, Any] | None,
    found: list[PolicyWarning],
) -> str:
    columns = width()
    limit = f", bound by {bound}" if bound else ""
    if bound and answer.limited_by and answer.limited_by != bound:
        limit += f" ({answer.limited_by})"
    servers = "1 server" if answer.desired == 1 else f"{answer.desired:,} servers"
    parts = [f"{name}: {servers} ({answer.action.replace('_', ' ')}{limit})\n{answer.reason}"]
    if later is not None:
        at, next_answer = later
        parts[0] += f"\nif it stays so: {next_answer.desired} after {numbers.clock(at)}"
    rows = [
        [metric, "missing" if value is None else f"{value:.6g}", f"{after[metric]:.6g}" if metric in after else "–"]
        for metric, value in metrics.items()
    ]
    if rows:
        parts.append(table(["metric", "now", "per server after"], rows, left=1, columns=columns))
    stages = [[stage, _shown(value)] for stage, value in answer.trace]
    parts.append("Trace\n" + table(["stage", "value"], stages, left=1, columns=columns))
    if found:
        parts.append(warnings_text(found, columns))
    return "\n\n".join(parts)


def _shown(value: Any) -> str:
    if value is None:
        return numbers.MISSING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
