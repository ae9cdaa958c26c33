"""`aibalance import`: what configuration files come to, line by line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._errors import ConfigError
from . import options

if TYPE_CHECKING:
    from ..formats import Imported, Remark

__all__ = ["add", "load", "run", "text"]

FORMATS = ("nginx", "haproxy", "terraform", "yaml")
_EPILOG = """\
Formats: nginx; Terraform (aws_lb*, aws_autoscaling_*); HAProxy; and YAML or JSON of Kubernetes' HPA, KEDA, Knative,
Envoy, Ray Serve, and calls of boto3. Exit codes: 0 imported; 2 wrong usage, or a file that was refused.
"""


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "import",
        help="read nginx, Terraform, HPA, KEDA, Envoy, HAProxy ... files",
        description="Read configuration files together, and say what became of each line of them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files(parser)
    parser.add_argument("--to", metavar="SCENARIO.toml", help="write a scenario that can be simulated at once")
    parser.add_argument("--pool", metavar="NAME", help="the pool of the scenario (the first)")
    parser.add_argument("--rate", metavar="R", type=_number, help="requests a second of the scenario (60 %% busy)")
    parser.add_argument("--service", metavar="S", type=_number, default=1.0, help="mean seconds of a request (1)")
    parser.add_argument("--json", action="store_true", help="print it as JSON and nothing else on stdout")
    parser.add_argument("--quiet", action="store_true", help="no notes on stderr")
    parser.set_defaults(run=run)


def files(parser: argparse.ArgumentParser) -> None:
    """The files and their format."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a configuration file")
    parser.add_argument("--format", choices=FORMATS, help="of all files; told by name and content when left out")


def load(given: argparse.Namespace) -> Imported:
    """The files, read together."""
    # Late, so that --help and a wrong option answer at once.
    from .. import formats

    return formats.read(*given.files, format=given.format)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number above 0")
    return value


def run(given: argparse.Namespace) -> int:
    """Import, print, and write the scenario."""
    if given.to is None and (given.pool is not None or given.rate is not None):
        raise ConfigError(f"--{'pool' if given.pool is not None else 'rate'}: needs --to")
    found = load(given)
    if given.json:
        remarks = {name: _plain(getattr(found, name)) for name in ("ignored", "approximated", "refused")}
        options.print_json({**found.mapped(), **remarks})
    else:
        print(text(found))
    if found.refused:
        return 2
    if given.to is not None:
        from ..formats import scenario

        name = ", ".join(os.path.basename(file) for file in given.files)
        written = scenario(found, name=name, pool=given.pool, rate=given.rate, service=given.service)
        write(given.to, written)
        options.note(given, f"scenario: {given.to}")
    return 0


def write(path: str, written: str) -> None:
    """Writes a file whole or not at all. Raises ConfigError."""
    from .plan import save

    save(path, written)


def _plain(remarks: Sequence[Remark]) -> list[dict[str, str]]:
    return [{"where": one.where, "field": one.field, "reason": one.reason} for one in remarks]


def text(found: Imported) -> str:
    """What was mapped, and the lines that were not, for people."""
    lines: list[str] = []
    for pool in found.pools:
        picker = pool.picker
        how = ", ".join(f"{key}={value!r}" for key, value in picker.options.items())
        key = f" by {picker.key}" if picker.key else ""
        lines.append(f"pool {pool.name}: {len(pool.servers)} servers, {picker.name}({how}){key}")
    for router in found.routers:
        lines.append(f"router {router.name}: {len(router.rules)} rules")
        for rule in router.rules:
            at = rule.location if rule.location is not None else rule.path if rule.path is not None else "everything"
            what = at if isinstance(at, str) else ", ".join(at)
            lines.append(f"  {what} -> {rule.to}")
    for group in found.groups:
        parts = [part for part in ("warm_pool", "mixed", "refresh") if getattr(group, part) is not None]
        more = f", {', '.join(parts)}" if parts else ""
        lines.append(f"group {group.name}: {group.min_size} to {group.max_size} instances{more}")
    for policy in found.policies:
        lines.append(f"policy {policy.name}: {type(policy.policy).__name__} on {policy.target}")
    out = ["Mapped", *(f"  {line}" for line in lines or ["nothing"])]
    for title, remarks in (("Ignored", found.ignored), ("Not exactly", found.approximated), ("Refused", found.refused)):
        if remarks:
            out += ["", title, *(f"  {one}" for one in remarks)]
    return "\n".join(out)
