"""`python -m tests.conformance FILE...`: replay recordings of real systems and say how many decisions are the same.

Exit code 0: every record of every file matched; 1: one differs or is not supported yet; 2: a file cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import kinds
from .recording import UnreadableError, load


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help="a recording: .json or .jsonl, gzipped or not"
    )
    files: list[Path] = parser.parse_args(argv).files

    code = 0
    mismatches = []
    for file in files:
        try:
            result = kinds.replay(load(file))
        except UnreadableError as e:
            print(f"{file}: cannot be read: {e}", file=sys.stderr, flush=True)
            code = 2
            continue
        waiting = f", {result.unsupported} not yet supported" if result.unsupported else ""
        bound = f" ({result.bound})" if result.bound else ""
        print(f"{file}: matched {result.matched} of {result.total}{waiting}{bound}", flush=True)
        if result.first_mismatch is not None:
            mismatches.append(f"{file}: {result.first_mismatch}")
        if result.matched < result.total or result.unsupported:
            code = max(code, 1)
    for mismatch in mismatches:
        print(mismatch)
    return code


if __name__ == "__main__":
    sys.exit(main())
