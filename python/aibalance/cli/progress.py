"""Progress on stderr: a bar on a terminal, a line every quarter elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Shows what fraction is done. Use as a context: the bar is wiped at the end, also after an error or Ctrl-C."""

    def __init__(self, what: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._what = what
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._bar = not quiet and self._stream.isatty()
        self._start = time.monotonic()
        self._shown = -1.0
        self._quarter = 0
        self.fraction = 0.0
        """What was told last."""

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar and self._shown >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, fraction: float) -> None:
        """Show that this fraction (0 to 1) is done."""
        self.fraction = fraction = min(max(fraction, 0.0), 1.0)
        if self._quiet:
            return
        if self._bar:
            self._draw(fraction)
        elif int(4 * fraction) > self._quarter:
            self._quarter = int(4 * fraction)
            self._stream.write(f"{self._what}: {25 * self._quarter} % done\n")
            self._stream.flush()

    def _draw(self, fraction: float) -> None:
        now = time.monotonic()
        # Ten times a second is smooth enough.
        if now - self._shown < 0.1 and fraction < 1:
            return
        self._shown = now
        filled = int(30 * fraction)
        spent = now - self._start
        left = f", {max(1, round(spent / fraction * (1 - fraction)))} s left" if fraction > 0 and spent > 1 else ""
        bar = "█" * filled + "·" * (30 - filled)
        self._stream.write(f"\r\x1b[K{self._what} {bar} {int(100 * fraction):3} %{left}")
        self._stream.flush()
