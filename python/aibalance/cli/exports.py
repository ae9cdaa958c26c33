"""`aibalance export`: configuration files, or what they plan, written for another system."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import imports, options

__all__ = ["add", "run"]

TARGETS = (
    "nginx",
    "haproxy",
    "envoy",
    "envoy-eds",
    "hpa",
    "keda",
    "knative",
    "ray-serve",
    "terraform-aws",
    "terraform-gcp",
    "terraform-azure",
    "boto3",
    "prometheus",
    "cloudwatch",
)


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "export",
        help="write what files come to for another system",
        description="Read configuration files together, and write what they come to for one system. What it cannot "
        "express goes to stderr, a line each.",
        epilog="Exit codes: 0 written; 2 wrong usage, a file that was refused, or nothing that can be written.",
        allow_abbrev=False,
    )
    imports.files(parser)
    parser.add_argument("--to", metavar="SYSTEM", required=True, choices=TARGETS, help=", ".join(TARGETS))
    parser.add_argument("--output", metavar="FILE", help="write there instead of stdout")
    parser.add_argument("--plus", action="store_true", help="for nginx: also what only NGINX Plus has")
    parser.add_argument("--json", action="store_true", help="print text and remarks as JSON")
    parser.add_argument("--quiet", action="store_true", help="no remarks on stderr")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Read, write, and say what is left out."""
    from ..formats import exports

    found = imports.load(given)
    if found.refused:
        for one in found.refused:
            print(f"refused: {one}", file=sys.stderr)
        return 2
    made = exports.export(found, given.to, plus=given.plus)
    if given.json:
        omitted = [{"where": one.where, "field": one.field, "reason": one.reason} for one in made.omitted]
        options.print_json({"to": given.to, "text": made.text, "omitted": omitted})
        return 0
    if given.output is not None:
        imports.write(given.output, made.text)
    else:
        print(made.text, end="")
    for one in made.omitted:
        options.note(given, f"not written: {one}")
    return 0
