"""Another process with the same shared pool, which does what it is told over a pipe."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aibalance

# Enters the pool, with pickers on it and a list of leases at hand.
ENTER = """
pool = aibalance.Pool.open(name)
rr, lc = aibalance.RoundRobin(pool), aibalance.LeastConnections(pool)
held = []
def take(n=1, picker=lc):
    held.extend(picker.acquire() for _ in range(n))
    return [lease.endpoint.id for lease in held[-n:]]
def give():
    while held:
        held.pop().release()
"""

# Evaluates one line after the other.
LOOP = """
import os, sys
import aibalance
name = sys.argv[1]
{begin}
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except Exception as error:
        print(repr(f"{{type(error).__name__}}: {{error}}"), flush=True)
"""


class Peer:
    """The process. Asked for an expression, it answers with its value. Before that it runs the lines of `begin`."""

    def __init__(self, name: str, begin: str = ENTER) -> None:
        pipe, code = subprocess.PIPE, LOOP.format(begin=begin)
        self.process = subprocess.Popen([sys.executable, "-c", code, name], stdin=pipe, stdout=pipe, text=True)
        assert self.answer_text() == "ready"

    def answer_text(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, expression: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def __call__(self, expression: str) -> Any:
        self.tell(expression)
        return ast.literal_eval(self.answer_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def a_name() -> str:
    """A name that nobody else has."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"


@contextmanager
def unlinked(name: str) -> Iterator[str]:
    """The name, given up at the end."""
    try:
        yield name
    finally:
        with suppress(aibalance.ConfigError):
            aibalance.Pool.unlink(name)
