"""A scenario of what was imported, to be simulated at once: what files do not say is assumed, and said so."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._errors import ConfigError
from ..autoscaling import StepScaling, TargetTracking
from ._simulated import limits
from ._simulated import tables as policies_of
from .model import Imported, PoolConfig

__all__ = ["scenario"]

KEYED = {"RingHash", "Maglev", "ModuloHash", "IpHash", "SourceHash", "Rendezvous", "JumpHash"}


@dataclass
class _Notes:
    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        if text not in self.lines:
            self.lines.append(text)


def scenario(
    imported: Imported,
    /,
    *,
    name: str = "imported",
    pool: str | None = None,
    rate: float | None = None,
    service: float = 1.0,
) -> str:
    """A scenario file (TOML) of one pool and the policies; see docs/simulation.md.

    `pool` (None): its name; None is the first with servers. `rate` (None): requests a second; None is what keeps 60 %
    of the first servers busy. `service` (1.0): mean seconds of a request on a server of weight 1. Each assumption is a
    comment. Raises ConfigError when nothing was imported that can be simulated.

    >>> from aibalance.formats import read_text
    >>> text = scenario(read_text("upstream api { least_conn; server a:80; server b:80; }", "nginx.conf"))
    >>> [line for line in text.splitlines() if line.startswith("picker")]
    ['picker = "LeastConnections"', 'picker = "LeastRequest"']
    """
    for field_, value in (("rate", rate), ("service", service)):
        if value is not None and not (math.isfinite(value) and 0 < value < 1e9):
            raise ConfigError(f"{field_}: {value!r} is not allowed; a number above 0")
    notes = _Notes()
    chosen = imported.pool(pool) if pool is not None else next((one for one in imported.pools if one.servers), None)
    if chosen is None and not (imported.policies or imported.groups):
        raise ConfigError("pools: () is not allowed; a pool with servers, a group or a policy is needed to simulate")
    if len(imported.pools) > 1 and chosen is not None:
        others = ", ".join(one.name for one in imported.pools if one is not chosen)
        notes.say(f"the pool is {chosen.name}; there are also {others}")
    warmups = [one.policy.warmup for one in imported.policies if isinstance(one.policy, (TargetTracking, StepScaling))]
    policies = policies_of(imported.policies, notes.say)
    types = _types(chosen, notes)
    low, high, initial = _bounds(imported, chosen)
    warmup = max(warmups, default=0.0)
    if policies and not warmup:
        warmup = 60.0
        notes.say("new servers are assumed to be ready after 60 s")
    speed = sum(one["speed"] * one["share"] for one in types) / sum(one["share"] for one in types)
    if rate is None:
        rate = round(0.6 * max(initial, 1) * speed / service, 6)
        notes.say("the rate is assumed: it keeps 60 % of the servers that are there at first busy")
    notes.say(f"the work of a request is assumed: {service:g} s on average at speed 1, exponential; one at a time")
    notes.say("the spike is assumed: four times as much from 600 s on, for 600 s")
    tables: list[tuple[str, dict[str, Any]]] = [
        (
            "",
            {
                "name": name,
                "duration_s": 2400.0,
                "slo_s": round(5 * service, 6),
                "timeout_s": round(60 * service, 6),
                "replications": 5,
            },
        ),
        (
            "[traffic]",
            {"kind": "spike", "base_rps": rate, "factor": 4.0, "start_s": 600.0, "ramp_s": 60.0, "hold_s": 600.0},
        ),
        ("[service]", {"kind": "exponential", "mean_s": service}),
        ("[fleet]", {"min": low, "max": high, "initial": initial, "warmup_s": warmup, "decision_interval_s": 60.0}),
    ]
    tables += [("[[fleet.types]]", one) for one in types]
    balancers = _balancers(chosen, notes)
    if not low:
        # Without a queue in front, who comes while there is no server would be turned away.
        balancers.insert(0, {"name": "one queue", "picker": "SharedQueue", "options": {}})
        notes.say("there may be no server at all, so one queue in front is a candidate")
    if any(one["picker"] in KEYED for one in balancers):
        tables.append(("[keys]", {"distinct": 10_000, "zipf": 0.9}))
        notes.say("keys are assumed: 10000, by Zipf's law")
    tables += [("[[balancers]]", one) for one in balancers]
    tables += [("[[policies]]", one) for one in policies]
    tables.append(("[[policies]]", {"policy": "Fixed"}))
    if chosen is not None and len(chosen.servers) and not imported.policies and not imported.groups:
        notes.say("no policy was imported: the fleet is fixed")
    parts = ["\n".join(f"# {line}" for line in notes.lines)]
    for head, values in tables:
        parts.append("\n".join([*([head] if head else []), *(f"{k} = {_toml(v)}" for k, v in values.items())]))
    return "\n\n".join(parts) + "\n"


def specs(imported: Imported) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Balancers of all pools and policies, as tables of a scenario, and what is assumed in them."""
    notes = _Notes()
    balancers: list[dict[str, Any]] = []
    for pool in imported.pools:
        for one in _balancers(pool, notes)[:1]:
            same = [b for b in balancers if (b["picker"], b["options"]) == (one["picker"], one["options"])]
            if same:
                notes.say(f"{pool.name} is balanced as {same[0]['name'].removesuffix(' as it is')} is")
            elif one["name"] != "LeastRequest":
                balancers.append(one)
    policies = policies_of(imported.policies, notes.say)
    return balancers, policies, notes.lines


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; what neither may hold is written as an escape.
        return json.dumps(value).replace("\x7f", "\\u007f")
    return repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _types(pool: PoolConfig | None, notes: _Notes) -> list[dict[str, Any]]:
    servers = [one for one in pool.servers if one.weight > 0 and not one.backup and not one.down] if pool else []
    weights = sorted({float(one.weight) for one in servers}, reverse=True)
    if not weights:
        return [{"name": "server", "speed": 1.0, "weight": 1.0, "share": 1.0}]
    if len(weights) > 1:
        notes.say("weights are taken for speeds: a server of weight 3 is three times as fast as one of weight 1")
    if pool is not None and len(servers) < len(pool.servers):
        notes.say("backup servers, servers that are down and those of weight 0 are left out")
    return [
        {
            "name": f"weight {weight:g}" if len(weights) > 1 else "server",
            "speed": weight / weights[-1],
            "weight": weight,
            "share": float(sum(float(one.weight) == weight for one in servers)),
        }
        for weight in weights
    ]


def _bounds(imported: Imported, pool: PoolConfig | None) -> tuple[int, int, int]:
    servers = sum(not one.backup and not one.down and one.weight > 0 for one in pool.servers) if pool else 0
    of = [limits(one.policy) for one in imported.policies]
    lows = [low for low, _ in of] + [one.min_size for one in imported.groups]
    # Knative has no limit unless it is told one.
    highs = [100 if high is None else high for _, high in of] + [one.max_size for one in imported.groups]
    low = min(lows) if lows else max(servers, 1)
    high = max([*highs, 1]) if highs else max(servers, 1)
    desired = [one.desired for one in imported.groups if one.desired is not None]
    initial = desired[0] if desired else servers or max(low, 1)
    return low, high, max(low, min(initial, high))


def _balancers(pool: PoolConfig | None, notes: _Notes) -> list[dict[str, Any]]:
    # Late, because a simulation needs numpy and the rest does not.
    from ..simulation import PICKERS

    out: list[dict[str, Any]] = []
    if pool is not None:
        picker = pool.picker
        if picker.name in PICKERS:
            out.append({"name": f"{pool.name} as it is", "picker": picker.name, "options": dict(picker.options)})
        else:
            notes.say(f"a simulation has no {picker.name}")
    if not any(one["picker"] == "LeastRequest" and not one["options"] for one in out):
        out.append({"name": "LeastRequest", "picker": "LeastRequest", "options": {}})
    return out
