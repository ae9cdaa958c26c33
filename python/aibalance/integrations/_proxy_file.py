"""The configuration file of `aibalance proxy`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from typing import Any

from .. import ConfigError
from .._toml import Table, read
from ..routing import Router, Rule, StickyCookie
from . import _fleets
from ._metrics_page import metrics_address
from ._proxy import Fleet, Limits, Proxy, split_address

_RULE = tuple(field.name for field in fields(Rule))


@dataclass(frozen=True, kw_only=True)
class ProxyFile:
    """What a file says: the application, and what its server is told.

    `grace` is how many seconds requests may go on after a SIGTERM, `keep_alive` how many an idle connection stays,
    `max_connections` (None: any) how many there may be at a time. `metrics` (None: nowhere) is where Prometheus reads.
    """

    proxy: Proxy
    host: str
    port: int
    grace: float
    keep_alive: float
    max_connections: int | None
    metrics: str | None = None


def load(path: str | os.PathLike[str], /) -> ProxyFile:
    """Reads the file. Raises FormatError, naming file, line and field."""
    top = read(path).root
    listen = top.text("listen", "127.0.0.1:8080")
    # Port 0: any that is free.
    host, port = top.build(lambda: _listen(listen), "listen")
    grace = top.number("grace", 30.0, above=True)
    keep_alive = top.number("keep_alive", 75.0, above=True)
    most = top.number("max_connections", None, least=1, whole=True)
    metrics = top.text("metrics", None)
    if metrics is not None:
        top.build(lambda: metrics_address(metrics))
    trust = top.flag("trust_forwarded", False)
    given = top.table("limits")
    limits = Limits()
    if given is not None:
        names = [field.name for field in fields(Limits)]
        values = {name: value for name in names if (value := given.take(name)) is not None}
        given.done()
        values |= {name: None for name in ("max_body", "max_message") if values.get(name) == "any"}
        limits = given.build(lambda: Limits(**values))
    tables = top.table("fleets", required=True)
    assert tables is not None
    named = tables.rest()
    if not named:
        raise top.error("fleets", "is not allowed without a fleet; at least one table such as [fleets.api]")
    fleets = {name: _fleet(tables.below(name, value), name) for name, value in named.items()}
    rules = [_rule(top, i, item, fleets) for i, item in enumerate(top.items("rules"))]
    routing = top.table("router")
    options: dict[str, Any] = {}
    if routing is not None:
        for name in ("ambiguous", "alb_limits", "merge_slashes", "redirect", "seed"):
            value = routing.take(name)
            if value is not None:
                options[name] = value
        routing.done()
    top.done()
    router = top.build(lambda: Router(rules, **options))
    proxy = top.build(lambda: Proxy(router, fleets, limits=limits, trust_forwarded=trust))
    return ProxyFile(
        proxy=proxy,
        host=host,
        port=port,
        grace=grace,
        keep_alive=keep_alive,
        max_connections=most,
        metrics=metrics,
    )


def _listen(text: str) -> tuple[str, int]:
    if re.fullmatch(r".*:0", text):
        return split_address(f"{text[:-1]}1")[0], 0
    try:
        return split_address(text)
    except ConfigError:
        raise ConfigError(f"{text!r:.80} is not allowed; host:port, as in 127.0.0.1:8080") from None


def _rule(top: Table, at: int, item: Any, fleets: dict[str, Fleet]) -> Rule:
    table = top.below(f"rules[{at}]", item)
    values = {name: value for name in _RULE if (value := table.take(name)) is not None}
    table.done()
    if "to" not in values:
        raise table.error("to", f"is missing; one of {', '.join(fleets)}, or a table of them with weights")
    to = values["to"]
    for name in to if isinstance(to, dict) else [to]:
        if not isinstance(name, str) or name not in fleets:
            raise table.error("to", f"{name!r:.80} is not allowed; one of {', '.join(fleets)}")
    return table.build(lambda: Rule(**values))


def _fleet(table: Table, name: str) -> Fleet:
    pool = _fleets.pool(table)
    for i, endpoint in enumerate(pool.endpoints):
        table.build(lambda e=endpoint: split_address(e.address), f"endpoints[{i}]")  # type: ignore[misc]
    picker = _fleets.picker(table, pool)
    scheme, key = table.text("scheme", "http"), table.text("key", None)
    tls: dict[str, Any] = {"ca": table.text("ca", None), "server_name": table.text("server_name", None)}
    websockets = table.flag("websockets", True)
    secure = table.build(lambda: Fleet(picker=picker, scheme=scheme, **tls))
    probe = {"scheme": scheme, "server_name": secure.server_name, "verify": secure._tls or True}
    checker = _fleets.checker(table, pool, probe)
    sticky = table.table("sticky")
    cookie = None
    if sticky is not None:
        secret = _secret(sticky)
        options = sticky.rest()
        for field in options:
            if field not in ("name", "max_age", "path", "secure", "http_only", "same_site"):
                raise sticky.error(field, "there is no such field")
        cookie = sticky.build(lambda: StickyCookie(secret, pool=name, **options))
    table.done()
    return table.build(
        lambda: Fleet(
            picker=picker,
            scheme=scheme,
            sticky=cookie,
            checker=checker,
            key=key,
            websockets=websockets,
            **tls,
        )
    )


def _secret(table: Table) -> bytes:
    """From a variable of the environment or a file, so that the configuration can be shown around."""
    variable, file = table.text("secret_env", None), table.text("secret_file", None)
    if (variable is None) == (file is None):
        raise table.error("secret_env", "either it or secret_file must be given, and not both")
    if variable is not None:
        secret = os.environ.get(variable, "").encode()
        if not secret:
            raise table.error("secret_env", f"{variable} is not set")
        return secret
    try:
        with open(file, "rb") as opened:
            return opened.read().strip()
    except OSError as error:
        raise table.error("secret_file", f"{file}: cannot be read: {error.strerror or error}") from error
