"""The configuration file of `aibalance epp`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._toml import read
from . import _fleets
from ._eds import EdsPublisher, ip_address
from ._envoy_config import envoy_config
from ._epp import EndpointPicker
from ._metrics_page import metrics_address

if TYPE_CHECKING:
    from ..health import HealthChecker


@dataclass(frozen=True, kw_only=True)
class EppFile:
    """What a file says: the picker, who checks its pool, what is published, and Envoy's side of it."""

    listen: str
    grace: float
    picker: EndpointPicker
    checker: HealthChecker | None
    eds: EdsPublisher | None
    envoy: dict[str, Any]
    metrics: str | None = None

    def bootstrap(self) -> dict[str, Any]:
        """A configuration for Envoy that goes with it."""
        return envoy_config(self.picker.pool, **self.envoy)


def load(path: str | os.PathLike[str], /) -> EppFile:
    """Reads the file. Raises FormatError, naming file, line and field."""
    top = read(path).root
    listen = top.text("listen", "127.0.0.1:9002")
    top.build(lambda: ip_address(listen), "listen")
    grace = top.number("grace", 5.0, above=True)
    metrics = top.text("metrics", None)
    if metrics is not None:
        top.build(lambda: metrics_address(metrics))
    key = top.text("key", None)
    candidates = top.number("candidates", 3, least=1, whole=True)
    pool = _fleets.pool(top)
    for i, endpoint in enumerate(pool.endpoints):
        top.build(lambda e=endpoint: ip_address(e.address), f"endpoints[{i}]")  # type: ignore[misc]
    chosen = _fleets.picker(top, pool)
    checker = _fleets.checker(top, pool)
    picker = top.build(lambda: EndpointPicker(chosen, key=key, candidates=candidates))
    eds = None
    given = top.table("eds")
    options: dict[str, Any] = {"picker": listen}
    if given is not None:
        cluster = given.text("cluster", "fleet")
        rest = given.rest()
        for name in rest:
            if name not in ("interval", "min_interval", "scale"):
                raise given.error(
                    name, "there is no such field; the fields here are cluster, interval, min_interval, scale"
                )
        eds = given.build(lambda: EdsPublisher({cluster: pool}, **rest))
        options |= {"cluster": cluster, "endpoints": "ads"}
    envoy = top.table("envoy")
    if envoy is not None:
        names = ("listen", "admin", "mode", "failure_mode_allow", "message_timeout", "retries")
        options |= {name: value for name in names if (value := envoy.take(name)) is not None}
        envoy.done()
    top.done()
    (envoy or top).build(lambda: envoy_config(pool, **options))
    return EppFile(listen=listen, grace=grace, picker=picker, checker=checker, eds=eds, envoy=options, metrics=metrics)
