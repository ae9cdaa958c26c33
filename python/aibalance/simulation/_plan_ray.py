"""Runs of designs on a Ray cluster. Its workers import this package, of this version, from their own environment."""

from __future__ import annotations

import atexit
import importlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from .. import __version__
from .._errors import ConfigError, SimulationError
from ._plan_run import Outcome, Task, outcome
from ._plan_space import Space

_ANSWERS_S = 5.0
_LISTEN_S = 0.05
"""Ray waits up to a second before it hears Ctrl-C, but no longer than for a result."""


class Ray:
    """On a Ray cluster: a connection of our own, or that of a program which has one already."""

    def __init__(self, space: Space, address: str) -> None:
        self._ray = _ray()
        self._address = address
        self._asked: list[Any] = []
        self._mine = not self._ray.is_initialized()
        if self._mine:
            _reachable(address)
            self._connect()
        try:
            self._same()
            self._space = self._ray.put(space)
            self._outcome = self._ray.remote(outcome)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            # Ray says why at the bottom of a chain, in types of many kinds.
            while error.__cause__ is not None and isinstance(error.__cause__, Exception):
                error = error.__cause__
            raise ConfigError(f"ray: {self._address!r}: {_last(error)}") from None

    def _same(self) -> None:
        """Raises ConfigError where the workers have no aibalance or another one: results would not be the same."""
        try:
            found = next(self._results([self._ray.remote(_probe()).remote()]))
        except SimulationError as error:
            raise ConfigError(f"ray: {self._address!r}: {error}") from None
        if found != __version__:
            has = "no aibalance" if found is None else f"aibalance {found}"
            raise ConfigError(
                f"ray: {self._address!r}: its workers have {has}; allowed: {__version__}, in the environment that "
                "Ray's nodes run in"
            )

    def map(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return self._results([self._outcome.remote(self._space, task) for task in tasks])

    def _results(self, asked: list[Any]) -> Iterator[Any]:
        self._asked = asked
        late = self._ray.exceptions.GetTimeoutError
        for one in asked:
            while True:
                try:
                    yield self._ray.get(one, timeout=_LISTEN_S)
                    break
                except late:
                    continue
                except self._ray.exceptions.RayError as error:
                    raise SimulationError(f"plan: a worker of the Ray cluster failed: {_last(error)}") from error
        self._asked = []

    def stop(self) -> None:
        if self._mine:
            # It waits for half a second; the cluster sees by itself that we are gone, and drops what we asked for.
            atexit.unregister(self._ray.shutdown)
        else:
            self.close()

    def close(self) -> None:
        if self._mine:
            self._ray.shutdown()
            return
        # Not by force: that kills workers, and Ray's own books with them.
        for one in self._asked:
            self._ray.cancel(one)
        self._asked = []


def _probe() -> Callable[[], str | None]:
    def version() -> str | None:
        """Of a worker's aibalance. Travels by value, so that it also runs where there is none."""
        try:
            import aibalance
        except ModuleNotFoundError:
            return None
        return aibalance.__version__

    # By reference, if it were ours.
    version.__module__ = "__main__"
    return version


def _reachable(address: str) -> None:
    """Ray tries for two minutes, and tells stderr about it, where nobody listens at all."""
    if address in ("auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None:
        raise ConfigError(f"ray: {address!r}; allowed: auto, host:port or ray://host:port")
    try:
        socket.create_connection((host, port), _ANSWERS_S).close()
    except OSError as error:
        raise ConfigError(f"ray: {address!r}: nobody answers: {error.strerror or error}") from None


def _last(error: BaseException) -> str:
    """What an error says, without the traceback that Ray puts before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError("ray: is not installed; run: pip install ray, or leave it out to use this machine") from None


__all__ = ["Ray"]
