"""A scenario from a TOML file. Every error names the file, the line, the field, the value and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from functools import partial
from typing import Any

from .. import _toml
from .._errors import ConfigError
from . import _checks as check
from . import _load_buying as buying
from ._arrival_laws import DiurnalTraffic, MmppTraffic, RenewalTraffic
from ._detail import (
    Antagonists,
    ClosedTraffic,
    Dispatchers,
    Failures,
    Hedging,
    LLMService,
    Network,
    Reports,
    RequestClass,
    Retries,
)
from ._drivers import build_picker, build_policy
from ._recorded import LOG, RecordedService, read_log
from ._scenario import BalancerSpec, Fleet, Keys, PolicySpec, Scenario, ServerType
from ._traffic import (
    LAWS,
    PiecewiseTraffic,
    PoissonTraffic,
    Service,
    Spike,
    SpikeTraffic,
    TokenService,
    TraceTraffic,
    Traffic,
)

_TOP = ("name", "description", "duration_s", "slo_s", "timeout_s", "discard_s", "seed", "replications", "work_per")
_TABLES = (
    "traffic",
    "service",
    "tokens",
    "fleet",
    "keys",
    "balancers",
    "policies",
    "classes",
    "retries",
    "hedging",
    "network",
    "failures",
    "antagonists",
    "dispatchers",
    "reports",
    "groups",
    "failovers",
    "plan",
)
_PARTS = (Retries, Hedging, Network, Failures, Antagonists, Dispatchers, Reports)
_SPIKE = ("factor", "start_s", "ramp_s", "hold_s", "ramp_down_s")
_TRAFFIC = {
    "poisson": ("rate_rps",),
    "piecewise": ("points", "interpolation"),
    "spike": ("base_rps", *_SPIKE),
    "renewal": ("law", "rate_rps", "cv", "shape"),
    "mmpp": ("rates_rps", "mean_durations_s"),
    "diurnal": ("mean_rps", "amplitude", "period_s", "peak_s"),
    "log": (*LOG, "time_scale", "rate_scale", "rotate", *_SPIKE),
    "closed": ("users", "think"),
    "trace": ("file", "format", "time_scale", "rate_scale", "rotate", *_SPIKE),
}
_TOKENS = ("base_s", "prefill_s_per_token", "decode_s_per_token", "noise_cv")
_FLEET = (
    "min",
    "max",
    "initial",
    "concurrency",
    "queue_limit",
    "load_s",
    "warmup_s",
    "decision_interval_s",
    "metric_delay_s",
    "metric_period_s",
    "launch",
    "types",
    "discipline",
    "sharing_limit",
    "slow_start_s",
    "warm_speed",
    "warm_s",
)
_TYPE = ("name", "speed", "weight", "concurrency", "price_per_hour", "share", "max")
_BALANCER = ("name", "picker", "options", "weights", "cost", "failover", "cache_events_s", "growth")
_POLICY = ("name", "policy", "metric", "target", "options", "group")


def load(path: str | os.PathLike[str]) -> Scenario:
    """Read a scenario file."""
    document = _toml.read(path)
    try:
        return _scenario(document.values, os.path.dirname(os.path.abspath(path)))
    except ConfigError as error:
        # A trace file that is wrong names itself.
        raise document.located(error) from error


def _known(where: str, table: dict[str, Any], allowed: Collection[str]) -> None:
    for key in table:
        if key not in allowed:
            name = f"{where}.{key}" if where else key
            raise ConfigError(f"{name}: unknown key; allowed: {', '.join(allowed)}{check.hint(key, allowed)}")


def _need(where: str, table: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in table:
            name = f"{where}.{key}" if where else key
            raise ConfigError(f"{name}: missing")


def _sub(table: dict[str, Any], name: str) -> dict[str, Any]:
    found = table[name]
    if not isinstance(found, dict):
        raise check.wrong(name, found, f"a table [{name}]")
    return found


def _each(where: str, tables: Any, allowed: Collection[str], make: Callable[..., Any]) -> list[Any]:
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise check.wrong(where, tables, f"tables [[{where}]]")
    out = []
    for i, one in enumerate(tables):
        _known(f"{where}[{i}]", one, allowed)
        out.append(_at(f"{where}[{i}]", partial(make, one)))
    return out


def _scenario(table: dict[str, Any], folder: str) -> Scenario:
    _known("", table, (*_TOP, *_TABLES))
    _need("", table, "name", "duration_s", "slo_s", "traffic", "service", "fleet")
    found = Scenario(
        **{name: table[name] for name in _TOP if name in table},
        traffic=_traffic(_sub(table, "traffic"), folder),
        service=_service(_sub(table, "service")),
        tokens=_tokens("tokens", _sub(table, "tokens")) if "tokens" in table else None,
        fleet=_fleet(_sub(table, "fleet")),
        keys=_keys(_sub(table, "keys")) if "keys" in table else None,
        balancers=_each("balancers", table.get("balancers", []), _BALANCER, _balancer),
        policies=_each("policies", table.get("policies", []), _POLICY, _policy),
        classes=_each("classes", table.get("classes", []), _fields(RequestClass), _class),
        groups=_each("groups", table.get("groups", []), buying.GROUP, buying.group),
        failovers=_each("failovers", table.get("failovers", []), buying.FAILOVER, buying.failover),
        **(buying.plan(_sub(table, "plan")) if "plan" in table else {}),
        **{part.__name__.lower(): _part(part, table) for part in _PARTS if part.__name__.lower() in table},
    )
    # Options are the business of the classes: build each once, so that a mistake is told now and with its line.
    for i, balancer in enumerate(found.balancers):
        _at(f"balancers[{i}]", partial(build_picker, balancer, found.service))
    for i, policy in enumerate(found.policies):
        if policy.policy != "Fixed":
            _at(f"policies[{i}]", partial(build_policy, policy, found.fleet))
        elif policy.options.get("servers", 0) > (found.fleet.max or 0):
            name = f"policies[{i}].options.servers"
            raise check.wrong(name, policy.options["servers"], f"at most fleet.max, {found.fleet.max}")
    return found


def _fields(part: type[Any]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(part))


def _part(part: type[Any], table: dict[str, Any]) -> Any:
    """A table whose keys are the fields of a class."""
    name = part.__name__.lower()
    found = _sub(table, name)
    _known(name, found, _fields(part))
    needed = (one.name for one in fields(part) if one.default is MISSING)
    _need(name, found, *needed)
    return part(**found)


def _class(table: dict[str, Any]) -> RequestClass:
    _need("classes", table, "name")
    return RequestClass(**table)


def _at(where: str, make: Callable[[], Any]) -> Any:
    """What `make` gives; what it says about `balancers.x` is about `where.x`."""
    try:
        return make()
    except ConfigError as error:
        plain = where.partition("[")[0]
        raise ConfigError(str(error).replace(f"{plain}.", f"{where}.", 1)) from error


def _traffic(table: dict[str, Any], folder: str) -> Traffic | ClosedTraffic:
    _need("traffic", table, "kind")
    kind = check.choice("traffic.kind", table["kind"], _TRAFFIC)
    _known("traffic", table, ("kind", *_TRAFFIC[kind]))
    rest = {key: value for key, value in table.items() if key != "kind"}
    of_spike = {key: rest.pop(key) for key in _SPIKE if key in rest}
    spike = None
    if of_spike or kind == "spike":
        _need("traffic", of_spike, "factor", "start_s", "hold_s")
        spike = Spike(**of_spike)
    match kind:
        case "poisson":
            _need("traffic", rest, "rate_rps")
            return PoissonTraffic(**rest)
        case "piecewise":
            _need("traffic", rest, "points")
            return PiecewiseTraffic(**rest)
        case "closed":
            _need("traffic", rest, "users", "think")
            return ClosedTraffic(**rest)
        case "spike":
            _need("traffic", rest, "base_rps")
            assert spike is not None
            return SpikeTraffic(spike=spike, **rest)
        case "renewal":
            _need("traffic", rest, "law", "rate_rps")
            return RenewalTraffic(**rest)
        case "mmpp":
            _need("traffic", rest, "rates_rps", "mean_durations_s")
            return MmppTraffic(**rest)
        case "diurnal":
            _need("traffic", rest, "mean_rps")
            return DiurnalTraffic(**rest)
    if kind == "log":
        _need("traffic", rest, "file", "format")
        return TraceTraffic(trace=read_log(rest, folder), spike=spike, **_rotated(rest))
    _need("traffic", rest, "file")
    file = check.text("traffic.file", rest.pop("file"))
    form = rest.pop("format", None)
    from .. import traces

    trace = traces.read(os.path.join(folder, file), format=form)
    return TraceTraffic(trace=trace, spike=spike, **_rotated(rest))


def _rotated(table: dict[str, Any]) -> dict[str, Any]:
    if "rotate" in table and not isinstance(table["rotate"], bool):
        raise check.wrong("traffic.rotate", table["rotate"], "true or false")
    return table


def _service(table: dict[str, Any]) -> Service | TokenService | RecordedService | LLMService:
    _need("service", table, "kind")
    kind = table["kind"]
    rest = {key: value for key, value in table.items() if key != "kind"}
    if kind == "tokens":
        return _tokens("service", rest)
    if kind == "recorded":
        _known("service", rest, ("noise_cv",))
        return RecordedService(**rest)
    if kind == "llm":
        _known("service", rest, _fields(LLMService))
        return LLMService(**rest)
    check.choice("service.kind", kind, (*LAWS, "tokens", "recorded", "llm"))
    return Service(kind, **rest)


def _tokens(where: str, table: dict[str, Any]) -> TokenService:
    _known(where, table, _TOKENS)
    try:
        return TokenService(**table)
    except ConfigError as error:
        raise ConfigError(str(error).replace("service.", f"{where}.", 1)) from error


def _fleet(table: dict[str, Any]) -> Fleet:
    _known("fleet", table, _FLEET)
    _need("fleet", table, "types")
    kinds = _each("fleet.types", table["types"], _TYPE, _server_type)
    return Fleet(**{key: value for key, value in table.items() if key != "types"}, types=kinds)


def _server_type(table: dict[str, Any]) -> ServerType:
    _need("fleet.types", table, "name")
    return ServerType(**table)


def _keys(table: dict[str, Any]) -> Keys:
    _known("keys", table, ("distinct", "zipf"))
    _need("keys", table, "distinct")
    return Keys(**table)


def _balancer(table: dict[str, Any]) -> BalancerSpec:
    _need("balancers", table, "picker")
    return BalancerSpec(**table)


def _policy(table: dict[str, Any]) -> PolicySpec:
    _need("policies", table, "policy")
    return PolicySpec(**table)
