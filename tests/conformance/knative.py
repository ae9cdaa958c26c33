"""Replays the recordings of Knative's pod autoscaler: each record becomes one question to the public API.

Memories go through JSON in the middle of every timeline.
"""

from __future__ import annotations

import json
import math
from typing import Any

from aibalance.autoscaling import KnativePodAutoscaler
from aibalance.autoscaling.knative import MaxWindow, Window

from .model import Result
from .recording import Record

Case = dict[str, Any]

# Weighted averages need Go's own power function for the last bit.
CLOSE = 1e-12


def _near(expected: float, got: float) -> bool:
    return math.isclose(expected, got, rel_tol=CLOSE, abs_tol=0.0)


def _policy(record: Case, config: Case | None = None) -> KnativePodAutoscaler:
    return KnativePodAutoscaler.from_config(
        record["config"] if config is None else config,
        record["annotations"],
        container_concurrency=record.get("container_concurrency", 0),
        reachable=record["reachability"] != "Unreachable",
        progress_deadline=float(record.get("deployment_progress_deadline_s", 600)),
    )


def _through_json(policy: KnativePodAutoscaler) -> None:
    policy.restore(json.loads(json.dumps(policy.state())))


def autoscaler(records: list[Record]) -> Result:
    """Metric streams to window averages, desired pods and excess burst capacity."""
    result = Result()
    for record in records:
        _autoscaler(record.where, record.plain(), result)
    return result


def _autoscaler(where: str, case: Case, result: Result) -> None:
    # Whole milliseconds as float seconds: near the origin they are exact. Buckets of 1 and 2 s keep their places.
    origin = case["start_unix_ms"] - case["start_unix_ms"] % 2000 - 1_000_000

    def seconds(ms: float) -> float:
        return float(case["start_unix_ms"] - origin + ms) / 1000

    policy = _policy(case)
    policy.start(case["ready_at_start"], at=seconds(0))
    events = case["events"]
    for i, event in enumerate(events):
        at = seconds(event["t_ms"])
        if i == len(events) // 2:
            _through_json(policy)
        if event["op"] == "stat":
            name = "concurrency" if "concurrency" in event else "requests"
            policy.record(
                "rps" if name == "requests" else name,
                event[name],
                at=seconds(event.get("at_ms", event["t_ms"])),
                proxied=event[f"proxied_{name}"],
            )
        elif event["op"] == "update":
            heir = _policy(case, event["config"])
            policy = policy.replace(
                now=at, **{name: getattr(heir, name) for name in heir.__dataclass_fields__ if name != "clock"}
            )
            expected = (event["decider"]["target_value"], event["decider"]["total_value"], event["panic_window_s"])
            got = (policy.target_value, policy.total, policy.panic_window)
            result.check(f"{where}: event {i}, resolved", expected, got)
        else:
            details = policy.recommend({"current": event["ready"]}, now=at).details
            expected_all: Case = {"valid": event["valid"]}
            got_all: Case = {"valid": details["valid"]}
            if event["valid"]:
                expected_all |= {k: event[k] for k in ("stable", "panic", "desired", "ebc")}
                got_all |= {k: details[k] for k in ("stable", "panic", "ebc")} | {"desired": details["autoscaler"]}
                for name in ("stable", "panic"):
                    if _near(expected_all[name], got_all[name]):
                        got_all[name] = expected_all[name]
            result.check(f"{where}: event {i}", expected_all, got_all)


def windows(records: list[Record]) -> Result:
    """Averages over windows, resizes, and the maximum over a window."""
    result = Result()
    for record in records:
        case = record.plain()
        granularity = case["granularity_s"]
        base = case["start_unix_ms"] % 2000 + 1_000_000
        window = Window(float(case["window_s"]), granularity=float(granularity), weighted=case["weighted"])
        most = MaxWindow(float(case["max_window_s"]), granularity=float(case["max_granularity_s"]))
        for i, op in enumerate(case["ops"]):
            now = (base + op["t_ms"]) / 1000
            if i == len(case["ops"]) // 2:
                window = Window.from_state(json.loads(json.dumps(window.state())))
                most = MaxWindow.from_state(json.loads(json.dumps(most.state())))
            if "record" in op:
                window.record(op["record"], at=(base + op["at_ms"]) / 1000)
            if "resize_s" in op:
                window.resize(float(op["resize_s"]), now=now)
            most.record(op["max_record"], at=now)
            got: Case = {"avg": window.average(now=now), "empty": window.is_empty(now=now), "max": most.current}
            if _near(op["avg"], got["avg"]):
                got["avg"] = op["avg"]
            result.check(
                f"{record.where}: op {i}", {"avg": op["avg"], "empty": op["empty"], "max": op["max_current"]}, got
            )
    return result


def scaler(records: list[Record]) -> Result:
    """What is written: bounds, initial scale, the way to zero, the active condition, the number of activators."""
    result = Result()
    for record in records:
        case = record.plain()
        policy = _policy(case)
        proxied = case["proxy_for_ms"]
        decision = policy.scale(
            case["decider_desired"],
            replicas=case["current_replicas"],
            activity=case["pa_state"],
            held=case["pa_state_for_ms"] / 1000,
            initialized=case["initialized"],
            mode=case["sks_mode"].lower(),
            proxied=None if proxied is None else proxied / 1000,
            probe_ok=case["activator_probe_ok"],
        )
        condition = case["active_condition"]
        after, reached, reason = policy.next_activity(
            condition["state_before"], initialized=case["initialized"], want=condition["want"], ready=condition["ready"]
        )
        activators = case["activators"]
        counting = KnativePodAutoscaler(
            target=activators["total_value"],
            target_burst_capacity=activators["target_burst_capacity"],
            activator_capacity=activators["activator_capacity"],
        )
        out = case["out"]
        expected = {
            "want": out["want"],
            "patched": out["patched"],
            "enqueue": out["enqueue_after_ms"],
            "probes": [out["sync_probes"], out["async_probes"]],
            "state": [condition["state_after"], condition["initialized_after"], condition["reason"]],
            "activators": activators["count"],
        }
        after_ms = decision.requeue_after
        got = {
            "want": decision.want,
            "patched": decision.patch,
            "enqueue": [] if after_ms is None else [round(after_ms * 1000)],
            "probes": [int(decision.probed), int(decision.keep_probing)],
            "state": [after, reached, reason],
            "activators": counting.activators(activators["ready"]),
        }
        result.check(record.where, expected, got)
    return result
