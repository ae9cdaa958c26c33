"""Recorded traffic with the service times that were recorded beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check


@dataclass(frozen=True, kw_only=True)
class RecordedService:
    """Each request of a trace takes what the log says it took (`trace.service_s`), times log-normal noise of mean 1.

    `noise_cv` is the noise's coefficient of variation (default 0). Only with a trace that has service times, such as
    those of `aibalance.traces.read_csv` and `read_access_log`. A log's durations hold the waiting of its day too: with
    them, a simulation of a busy system counts waiting twice.

    >>> RecordedService().describe()
    'as recorded'
    """

    noise_cv: float = 0.0

    def __post_init__(self) -> None:
        check.number("service.noise_cv", self.noise_cv, 0, 100)

    def describe(self) -> str:
        """One line for people."""
        return "as recorded" + (f", noise of cv {self.noise_cv:g}" if self.noise_cv else "")

    def work_s(self, trace: Any) -> NDArray[np.float64]:
        """The work of each request of a trace in seconds, without noise."""
        recorded = getattr(trace, "service_s", None)
        if recorded is None:
            raise ConfigError("service.kind: 'recorded' needs a trace with service times; this one has none")
        return np.ascontiguousarray(recorded, dtype=np.float64)

    def _core(self) -> dict[str, Any]:
        return {"kind": "given", "a": [float(self.noise_cv)], "b": []}


CSV = ("time", "duration", "input_tokens", "output_tokens", "time_unit", "duration_unit", "delimiter")
ACCESS = ("log_format", "duration")
LOG = ("file", "format", *dict.fromkeys((*CSV, *ACCESS)))
"""Keys of `[traffic] kind = "log"`, besides those of a trace."""


def read_log(table: dict[str, Any], folder: str) -> Any:
    """The trace of a `[traffic]` table of kind "log"; its keys are taken out of the table."""
    from .. import traces

    file = os.path.join(folder, check.text("traffic.file", table.pop("file")))
    form = check.choice("traffic.format", table.pop("format"), ("csv", "nginx", "envoy"))
    allowed = CSV if form == "csv" else ACCESS
    given = {name: table.pop(name) for name in LOG if name in table}
    for name, value in given.items():
        if name not in allowed:
            raise ConfigError(f"traffic.{name}: has no meaning for format {form!r}; allowed: {', '.join(allowed)}")
        check.text(f"traffic.{name}", value)
    if form == "csv":
        if "time" not in given:
            raise ConfigError("traffic.time: missing; format 'csv' needs the column that says when a request came")
        return traces.read_csv(file, **given)
    given.setdefault("log_format", traces.NGINX_COMBINED if form == "nginx" else traces.ENVOY_DEFAULT)
    return traces.read_access_log(file, **given).trace()
