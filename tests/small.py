"""A small fleet for tests of the command line, and that command with a word when it is under way."""

from __future__ import annotations

WORK = """
[traffic]
kind = "poisson"
rate_rps = 1
[service]
kind = "uniform"
low_s = 1
high_s = 3
"""
PLAN = f"""
name = "small"
duration_s = 120
slo_s = 5{WORK}[fleet]
max = 6
load_s = 20
[[fleet.types]]
name = "a"
price_per_hour = 1
"""


def telling(share: float, call: str = "main()") -> str:
    """A program that makes this call of the command line's `main`, and prints "begun" to stderr when more than this
    share of its progress is made.
    """
    return f"""
import signal, sys
# A shell's job in the background is born deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from aibalance.cli import main
from aibalance.cli.progress import Progress
told, begun = Progress.__call__, []
def tell(self, fraction):
    told(self, fraction)
    if fraction > {share} and not begun:
        begun.append(print("begun", file=sys.stderr, flush=True))
Progress.__call__ = tell
sys.exit({call})
"""
