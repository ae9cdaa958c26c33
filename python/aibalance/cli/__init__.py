"""The command line. One file a command; argparse, so that it needs nothing that Python does not bring.

Exit codes: 0 the question was answered; 1 the answer is "no" (`compare --require`, `plan`); 2 wrong usage or input, one
line on stderr; 70 a bug of aibalance; 130 ended by Ctrl-C; 141 the reader of our output went away.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from .._errors import AibalanceError, InternalError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    # Here, so that Ctrl-C is ours already.
    from . import bench, compare, epp, explain, exports, imports, init, keda, plan, proxy, recommend, simulate

    parser = _Parser(
        prog="aibalance",
        description="Decides which server gets the next request, and how many servers there should be.",
        epilog="Exit codes: 0 answered; 1 the answer is no; 2 wrong usage or input.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"aibalance {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for module in (init, compare, plan, simulate, recommend, explain, imports, exports, proxy, epp, keda, bench):
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to the program's arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without our ± shows a question mark instead of a traceback.
            stream.reconfigure(errors="replace")
    try:
        try:
            given = _parser().parse_args(argv)
            code: int = given.run(given)
        finally:
            # Here, not at the interpreter's end, where a closed pipe would print a traceback.
            sys.stdout.flush()
    except SystemExit as done:
        # argparse ends --help, --version and wrong usage this way.
        return done.code if isinstance(done.code, int) else 2
    except InternalError as error:
        _say(f"bug: {error}; please report it")
        return 70
    except AibalanceError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        if argv is None:
            _leave(130)
        return 130
    except BrokenPipeError:
        # What is still in the buffer has no reader; without this the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _leave(code: int) -> NoReturn:
    """End the program now: to take down the modules of large libraries lasts longer than all else after Ctrl-C."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _say(message: str) -> None:
    print("aibalance: " + " ".join(message.split()), file=sys.stderr)
