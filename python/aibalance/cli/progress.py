"""Progress on stderr: a bar on a terminal, a line every quarter elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Counts runs. Use as a context: the bar is wiped at the end, also after an error or Ctrl-C."""

    def __init__(self, what: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._what = what
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._bar = not quiet and self._stream.isatty()
        self._start = time.monotonic()
        self._shown = -1.0
        self._quarter = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar and self._shown >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, done: int, total: int) -> None:
        if self._quiet or total <= 0:
            return
        if self._bar:
            self._draw(done, total)
        elif 4 * done // total > self._quarter:
            self._quarter = 4 * done // total
            self._stream.write(f"{self._what}: {done} of {total} runs\n")
            self._stream.flush()

    def _draw(self, done: int, total: int) -> None:
        now = time.monotonic()
        # Ten times a second is smooth enough.
        if now - self._shown < 0.1 and done < total:
            return
        self._shown = now
        filled = 30 * done // total
        left = ""
        spent = now - self._start
        if done and spent > 1:
            left = f", {max(1, round(spent / done * (total - done)))} s left"
        bar = "█" * filled + "·" * (30 - filled)
        self._stream.write(f"\r\x1b[K{self._what} {bar} {done} of {total} runs{left}")
        self._stream.flush()
