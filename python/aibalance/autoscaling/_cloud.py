"""What the policies of the clouds share: the configuration goes to the native half as plain values."""

from __future__ import annotations

import time
from dataclasses import asdict, fields
from typing import Any

from .._core import CloudEngine
from .._errors import ConfigError
from .policy import Clock, NativePolicy

__all__ = ["CloudPolicy", "UnixClock", "as_tuple"]


class UnixClock:
    """Unix time in seconds, what calendars are read by."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()


class CloudPolicy(NativePolicy):
    """A dataclass whose fields, but the clock, are the configuration of a native policy."""

    def _begin(self, kind: str, clock: Clock | None, **changed: Any) -> None:
        plain = {}
        for f in fields(self):  # type: ignore[arg-type]
            if f.name != "clock" and f.name not in changed:
                plain[f.name] = getattr(self, f.name)
        self._start(CloudEngine(kind, {**plain, **changed}), clock)

    @property
    def _native(self) -> CloudEngine:
        engine = self._engine
        assert isinstance(engine, CloudEngine)
        return engine


def as_tuple(policy: object, field: str, kind: type) -> tuple[dict[str, Any], ...]:
    """Makes a field a tuple, checks its items' class, and gives them as plain values."""
    value = getattr(policy, field)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise ConfigError(f"{field}: {value!r} is not allowed; a sequence of {kind.__name__}")
    items = tuple(value)
    for n, item in enumerate(items):
        if not isinstance(item, kind):
            raise ConfigError(f"{field}[{n}]: {item!r} is not allowed; a {kind.__name__}")
    object.__setattr__(policy, field, items)
    return tuple(asdict(item) for item in items)
