"""Replays the recordings of KEDA: each record becomes one question to the public API.

Memories go through JSON at every step of a timeline.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aibalance import ConfigError
from aibalance.autoscaling import KedaScaledObject
from aibalance.autoscaling.keda import Fallback, Formula, ScalingModifiers, Trigger
from aibalance.autoscaling.keda import fallback as serve

from .model import Result
from .recording import Record

Case = dict[str, Any]

# Quantities of the recordings' targets: numbers with a suffix.
SUFFIXES = {"m": 1e-3, "k": 1e3}


def _quantity(text: str) -> float:
    digits, factor = (text[:-1], SUFFIXES[text[-1]]) if text[-1] in SUFFIXES else (text, 1.0)
    return float(digits) * factor


def _fallback(fields: Case | None) -> Fallback | None:
    if fields is None:
        return None
    return Fallback(
        failure_threshold=fields["failureThreshold"],
        replicas=fields["replicas"],
        behavior=fields.get("behavior") or "static",
    )


def executor(records: list[Record]) -> Result:
    """From nothing to something and back."""
    result = Result()
    for record in records:
        case = record.plain()
        spec = {k: v for k, v in case["spec"].items() if v is not None}
        policy = KedaScaledObject(
            triggers=[Trigger(name="t", threshold=1)],
            min_replicas=spec.get("minReplicaCount"),
            max_replicas=spec.get("maxReplicaCount", 100),
            idle_replicas=spec.get("idleReplicaCount"),
            cooldown_period=float(spec.get("cooldownPeriod", 300)),
            initial_cooldown_period=float(spec.get("initialCooldownPeriod", 0)),
            fallback=_fallback(spec.get("fallback")),
            created=case["created_ms"] / 1000,
        )
        for i, step in enumerate(case["steps"]):
            fresh = replace(policy)
            fresh.restore(json.loads(json.dumps(policy.state())))
            policy = fresh.with_annotations(step["annotations"])
            seen = {"current": step["current"]}
            r = policy.decide(seen, active=step["is_active"], error=step["is_error"], now=step["t_ms"] / 1000)
            changed = r.desired != step["current"]
            remembered = r.details["set_last_active"]
            if changed and step["update_fails"]:
                policy.rejected(r)
                changed = remembered = False
            out = step["out"]
            expected = {k: out[k] for k in ("scaled_to", "set_last_active", "conditions", "error")}
            got = {
                "scaled_to": r.desired if changed else None,
                "set_last_active": remembered,
                "conditions": [list(c) for c in r.details["conditions"]],
                "error": False,
            }
            result.check(f"{record.where}: step {i}", expected, got)
    return result


def fallback(records: list[Record]) -> Result:
    """What a trigger counts as while it cannot be asked."""
    result = Result()
    for record in records:
        case = record.plain()
        given = case["scaling_modifiers"]
        modifiers = None
        if given:
            modifiers = ScalingModifiers(
                formula=given["formula"], target=given["target"], metric_type=given["metricType"] or "AverageValue"
            )
        failures = 0
        for i, call in enumerate(case["calls"]):
            served = serve(
                _fallback(case.get("fallback")),
                None if call["scaler_error"] else call["value_milli"] / 1000,
                failures=failures,
                target=_quantity(case["target"]),
                target_type=case["target_type"],
                current=case["current_replicas"],
                ready=case["ready_pods"],
                modifiers=modifiers,
            )
            failures = served.failures or 0
            names = ("out_milli", "out_name", "error", "fallback_active", "failures", "health")
            expected = {name: call.get(name) for name in names}
            name = "composite-metric" if served.composite else "m"
            got = {
                "out_milli": served.milli,
                "out_name": None if served.milli is None else name,
                "error": served.milli is None,
                "fallback_active": served.active,
                "failures": served.failures,
                "health": served.health,
            }
            result.check(f"{record.where}: call {i}", expected, got)
    return result


def formula(records: list[Record]) -> Result:
    """Formulas over triggers."""
    result = Result()
    for record in records:
        case = record.plain()
        values = {name: milli / 1000 for name, milli in case["values_milli"].items()}
        expected = {
            "milli": case.get("out_milli"),
            "compile_error": "compile_error" in case,
            "out_error": "out_error" in case,
        }
        got: Case = {"milli": None, "compile_error": False, "out_error": False}
        try:
            compiled = Formula(case["formula"], list(values))
        except ConfigError:
            got["compile_error"] = True
        else:
            try:
                got["milli"] = compiled.milli(values)
            except ConfigError:
                got["out_error"] = True
        result.check(f"{record.where}: {case['formula']}", expected, got)
    return result
