"""Recommendations of policies that are put together in Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core import Recommendation


def told(
    *,
    current: int,
    asked: int,
    desired: int,
    limited_by: str | None,
    reason: str,
    trace: Mapping[str, Any],
    serial: int,
    now: float,
    missing: bool = False,
    observation: Any = None,
) -> Recommendation:
    """A recommendation that tells these things; `asked` is what had been asked for before.

    `observation`: if it has instances, those to remove first are named.
    """
    same = "insufficient_data" if missing else "none"
    action = "scale_out" if desired > asked else "scale_in" if desired < asked else same
    fields = {
        "told": True,
        "current": current,
        "desired": desired,
        "action": action,
        "limited_by": limited_by,
        "reason": reason,
        "trace": {"current": current, "asked": asked, **trace, "limited_by": limited_by, "desired": desired},
        "details": dict(trace),
        "serial": serial,
        "at": round(now * 1e9),
    }
    made: Recommendation = Recommendation._rebuild(fields)  # type: ignore[attr-defined,unused-ignore]
    return made if observation is None else made._ranked(observation, now)


def counts(observation: Any) -> tuple[int, int, Mapping[str, Any]]:
    """Current and asked capacity and the metrics, of an Observation or a mapping."""
    if isinstance(observation, Mapping):
        current, desired = observation["current"], observation.get("desired")
        warming, metrics = observation.get("warming") or 0, observation.get("metrics") or {}
    else:
        current, desired = observation.current, observation.desired
        warming, metrics = observation.warming, observation.metrics
    return current, current + warming if desired is None else desired, metrics
