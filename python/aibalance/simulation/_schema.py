"""The JSON schema of scenario files: editors complete and check with it. Its keys are those of the reader."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from . import _load as reader
from . import _load_buying as buying
from ._detail import SHARED_QUEUE, LLMService, RequestClass
from ._scenario import METRICS, PICKERS, POLICIES
from ._traffic import LAWS

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_NUMBERS = {"type": "array", "items": _NUMBER}

# Keys by name, wherever they stand; the rest is told by the end of the name.
_KNOWN: dict[str, dict[str, Any]] = {
    "name": _TEXT,
    "description": _TEXT,
    "file": _TEXT,
    "log_format": _TEXT,
    "delimiter": _TEXT,
    "time": _TEXT,
    "duration": _TEXT,
    "input_tokens": {},
    "output_tokens": {},
    "time_unit": {"enum": ["s", "ms", "us", "ns"]},
    "duration_unit": {"enum": ["s", "ms", "us", "ns"]},
    "rotate": _FLAG,
    "cancel": _FLAG,
    "correct": _FLAG,
    "probes": _FLAG,
    "growth": _FLAG,
    "seed": _COUNT,
    "replications": {"type": "integer", "minimum": 1},
    "work_per": {"enum": ["request", "attempt"]},
    "points": {"type": "array", "items": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}},
    "interpolation": {"enum": ["constant", "linear"]},
    "law": {"enum": ["gamma", "weibull"]},
    "rates_rps": _NUMBERS,
    "mean_durations_s": _NUMBERS,
    "means_s": _NUMBERS,
    "values_s": _NUMBERS,
    "p": _NUMBERS,
    "users": {"type": "integer", "minimum": 1},
    "think": {"type": ["number", "object"]},
    "delay": {"type": ["number", "object"]},
    "stages": {"type": "integer", "minimum": 1},
    "launch": {"enum": ["share", "order"]},
    "discipline": {"enum": ["fifo", "priority", "sharing"]},
    "view": {"enum": ["local", "board", "idle"]},
    "assign": {"enum": ["random", "rotate"]},
    "picker": {"enum": [*PICKERS, SHARED_QUEUE]},
    "weights": {"enum": ["type", "equal"]},
    "cost": {"enum": ["one", "work"]},
    "policy": {"enum": list(POLICIES)},
    "metric": {"enum": list(METRICS)},
    "options": {"type": "object"},
    "group": _TEXT,
    "failover": _TEXT,
    "primary": _TEXT,
    "secondary": _TEXT,
    "type": _TEXT,
    "zone": _TEXT,
    "egress_per_gb": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    "market": {"enum": ["on_demand", "spot"]},
    "state": {"enum": ["stopped", "hibernated", "running"]},
    "spot_strategy": {
        "enum": [
            "lowest_price",
            "capacity_optimized",
            "capacity_optimized_prioritized",
            "price_capacity_optimized",
            "diversified",
        ]
    },
    "on_demand_strategy": {"enum": ["prioritized", "lowest_price"]},
    "scale_in_protected": {"enum": ["wait", "ignore", "refresh"]},
    "zone_distribution": {"enum": ["balanced_best_effort", "balanced_only"]},
    "termination_policies": {"type": "array", "items": _TEXT},
    "checkpoints": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 100}},
    **dict.fromkeys(
        (
            "on_demand_fallback",
            "reuse_on_scale_in",
            "skip_matching",
            "auto_rollback",
            "protect_new",
        ),
        _FLAG,
    ),
    **dict.fromkeys(
        (
            "concurrency",
            "count",
            "depth",
            "max_healthy",
            "max_prepared",
            "min_healthy",
            "min_size",
            "on_demand_base",
            "on_demand_percent_above_base",
            "spot_pools",
            "template",
            "distinct",
            "initial",
            "kv_tokens",
            "block_tokens",
            "prefix_tokens",
            "max",
            "max_attempts",
            "min",
            "prefill_chunk",
            "priority",
            "queue_limit",
            "sharing_limit",
        ),
        _COUNT,
    ),
}

_SAYS = {
    "duration_s": "how long traffic lasts, in seconds",
    "slo_s": "the latency objective, in seconds",
    "timeout_s": "a client gives up so long after its arrival",
    "discard_s": "requests that arrive earlier are not measured",
    "base_rps": "requests a second in the calm",
    "rate_rps": "requests a second",
    "factor": "the spike's height over the calm",
    "ramp_s": "seconds in which a spike rises",
    "hold_s": "seconds for which a spike stays",
    "load_s": "from the launch of a server to its model being loaded",
    "warmup_s": "from then to ready",
    "decision_interval_s": "seconds between two decisions of the policy",
    "metric_delay_s": "how old the metrics are that a decision sees",
    "speed": "a request takes its work divided by this",
    "weight": "what balancers see",
    "price_per_hour": "USD, on demand",
    "share": "its part, relative to the others",
    "concurrency": "requests that a server serves at once",
    "queue_limit": "requests that may wait at a server",
    "target": "the value that TargetTracking keeps",
    "kind": "which kind; the other keys depend on it",
    "group": "the [[groups]] that buys this policy's servers; the only one if left out",
    "failover": "the [[failovers]] that clients of this balancer follow; the only one if left out",
    "launch_time": "seconds from a launch until an instance is up",
    "start_time": "seconds from the warm pool until an instance is up",
    "look_s": "how often the group is looked at",
    "interruptions_per_hour": "of each spot instance in service",
    "notice_s": "between an interruption's notice and its end",
    "market": "on_demand (default) or spot",
    "depth": "how many can be had of it; no limit if left out",
    "on_demand_base": "servers that are on demand whatever the size",
    "on_demand_percent_above_base": "of the servers above the base, on demand; the rest is spot",
    "reclaim": "the share of the spot instances that is interrupted when it begins",
    "primary": "a cloud, as the names of its fleet types begin: aws for aws/g4dn.xlarge",
    "detection_s": "from the outage until the DNS record is changed",
    "dns_ttl_s": "life of the record in a client's cache",
    "replication_lag_s": "how far the other cloud's data is behind",
    "egress_per_gb": "by cloud, USD for a GB that leaves",
}


def _key(name: str) -> dict[str, Any]:
    found = dict(_KNOWN.get(name, _NUMBER))
    if found == _NUMBER and name.endswith("_s"):
        found["minimum"] = 0
    if name in _SAYS:
        found["description"] = _SAYS[name]
    return found


def _table(keys: Any, *, required: Any = (), **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {**{key: _key(key) for key in keys}, **more},
        "additionalProperties": False,
    }
    if required:
        found["required"] = list(required)
    return found


def _kinds(kinds: dict[str, Any]) -> dict[str, Any]:
    """A table whose keys depend on its `kind`."""
    return {
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(kinds), "description": _SAYS["kind"]}},
        "oneOf": [_table(keys, required=["kind"], kind={"const": kind}) for kind, keys in kinds.items()],
    }


def service_kinds() -> dict[str, tuple[str, ...]]:
    """The keys of `[service]` by kind."""
    return {
        **{kind: tuple(keys) for kind, keys in LAWS.items()},
        "recorded": ("noise_cv",),
        "tokens": reader._TOKENS,
        "llm": tuple(one.name for one in fields(LLMService)),
    }


def schema() -> dict[str, Any]:
    """The JSON schema (draft 7) of scenario files, as a new dictionary.

    >>> found = schema()
    >>> found["required"][:2], "spike" in found["properties"]["traffic"]["properties"]["kind"]["enum"]
    (['name', 'duration_s'], True)
    """
    laws = _kinds({kind: keys for kind, keys in service_kinds().items() if kind in LAWS})
    classes = _table([one.name for one in fields(RequestClass)], required=["name"])
    classes["properties"]["service"] = laws
    tables: dict[str, Any] = {
        "traffic": _kinds(reader._TRAFFIC),
        "service": _kinds(service_kinds()),
        "tokens": _table(reader._TOKENS),
        "fleet": _table(
            [key for key in reader._FLEET if key != "types"],
            required=["types"],
            types={"type": "array", "minItems": 1, "items": _table(reader._TYPE, required=["name"])},
        ),
        "keys": _table(("distinct", "zipf"), required=["distinct"]),
        "balancers": {"type": "array", "items": _table(reader._BALANCER, required=["picker"])},
        "policies": {"type": "array", "items": _table(reader._POLICY, required=["policy"])},
        "classes": {"type": "array", "items": classes},
    }
    inner = {
        name: _table(buying.keys(name), required=["at_s"] if name == "refreshes" else buying.needed(of))
        for name, of in buying.parts().items()
    }
    group = _table([key for key in buying.GROUP if key not in inner], required=["launch_time", "offers"])
    for name, one in inner.items():
        many = name in ("offers", "episodes", "refreshes")
        group["properties"][name] = {"type": "array", "items": one} if many else one
    tables["groups"] = {"type": "array", "items": group}
    failover = _table(buying.FAILOVER, required=buying.needed(buying.FailoverSpec))
    tables["failovers"] = {"type": "array", "items": failover}
    terms = {name: _table([one.name for one in fields(of)]) for name, of in buying.PLAN.items()}
    tables["plan"] = {"type": "object", "properties": terms, "additionalProperties": False}
    for part in reader._PARTS:
        needed = [one.name for one in fields(part) if one.default is MISSING]
        tables[part.__name__.lower()] = _table([one.name for one in fields(part)], required=needed)
    top = _table(reader._TOP, required=["name", "duration_s", "slo_s", "traffic", "service", "fleet"])
    # A table that the reader learns and this file does not yet is let through.
    top["properties"].update({name: tables.get(name, {}) for name in reader._TABLES})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "aibalance scenario",
        "description": "What `aibalance simulate`, `compare` and `plan` read. Every key is in docs/simulation.md.",
        **top,
    }
