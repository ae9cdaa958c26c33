"""How large the memory of a shared pool is made."""

from __future__ import annotations

from dataclasses import dataclass as _dataclass
from typing import Any as _Any

from ._errors import ConfigError


@_dataclass(frozen=True)
class SharedMemory:
    """The memory of a shared pool: `Pool(endpoints, shared=SharedMemory("backends", max_endpoints=500))`.

    Only whoever makes the memory goes by the sizes; the others find it as large as it is. `name` has 1 to 100 letters,
    digits, `.`, `_` or `-`. The pool has room for `max_endpoints` (16 to 4096, rounded up to a power of two; None: four
    times as many as it begins with, 64 at least) and `max_processes` (1 to 1024) at a time. Memory that nobody has
    touched costs nothing on Linux; an endpoint has up to 4 KiB, and 16 bytes more for each process.

    Raises ConfigError, naming the field.

    >>> SharedMemory("backends", max_endpoints=500)
    SharedMemory(name='backends', max_endpoints=500, max_processes=64)
    """

    name: str
    max_endpoints: int | None = None
    max_processes: int = 64

    def __post_init__(self) -> None:
        """Checks the sizes."""
        if not isinstance(self.name, str):
            raise ConfigError(f"name: {self.name!r} is not allowed; the name of a shared pool (str)")
        _check("max_endpoints", self.max_endpoints, 16, 4096, ", or None")
        _check("max_processes", self.max_processes, 1, 1024, "")


def _opened(name: str, clock: _Any) -> _Any:
    """The shared pool of a name: what a pickled one is made from."""
    from ._core import Pool

    return Pool.open(name, clock=clock)


def _check(field: str, value: object, least: int, most: int, also: str) -> None:
    if value is None and also:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{field}: {value!r} is not allowed; a whole number from {least} to {most}{also}")
