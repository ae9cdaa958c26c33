"""Exact reference values about forecasts, loops and cost, asked again of aibalance."""

from __future__ import annotations

import math
from typing import Any

import aibalance
from aibalance.autoscaling import Policy, ProportionalScaling, QueueScaling
from aibalance.autoscaling.forecasting import holt, holt_winters
from aibalance.capacity import CostModel, billed_seconds
from aibalance.simulation import dead_time_backlog, growth_headroom, loop_stability, simulate_fluid

from .model import Result
from .recording import Record, UnreadableError, cases


def _close(result: Result, where: str, expected: Any, got: float, tolerance: float = 1e-9) -> None:
    """One number, to an absolute and relative tolerance; the recording has twelve digits."""
    theirs = math.inf if expected == "inf" else float(expected)
    near = theirs == got or math.isclose(theirs, got, rel_tol=tolerance, abs_tol=tolerance)
    result.check(where, theirs, theirs if near else got)


def _all_close(result: Result, where: str, expected: list[Any], got: Any) -> None:
    ours = list(got)
    if len(ours) != len(expected):
        result.check(f"{where}: length", len(expected), len(ours))
    for i, (a, b) in enumerate(zip(expected, ours, strict=False)):
        _close(result, f"{where}[{i}]", a, float(b))


def signals(document: dict[str, Any]) -> Result:
    """Token buckets, Holt, Holt-Winters."""
    result = Result()
    for case in cases(document):
        ref = case.record("ref")
        kind = case.text("kind")
        if kind.startswith("token bucket"):
            bucket = aibalance.TokenBucket(case.number("rate"), case.number("burst"))
            arrivals = case.items("arrivals", int, float)
            for i, (at, theirs) in enumerate(zip(arrivals, ref.items("allowed", bool), strict=True)):
                result.check(f"{case.where}: arrival {i}", theirs, bucket.take(now=at))
        elif kind.startswith("Holt linear"):
            xs = case.items("xs", int, float)
            fitted = holt(xs, alpha=case.number("alpha"), beta=case.number("beta"))
            pairs = ref.items("level_trend", list)
            _all_close(result, f"{case.where}: level", [p[0] for p in pairs], fitted.levels)
            _all_close(result, f"{case.where}: trend", [p[1] for p in pairs], fitted.trends)
            for name in ref.names():
                if name.startswith("forecast_h"):
                    steps = int(name.removeprefix("forecast_h"))
                    _close(result, f"{case.where}: {name}", ref.number(name), fitted.forecast(steps)[-1])
        elif kind.startswith("additive Holt-Winters"):
            model = holt_winters(
                case.items("xs", int, float),
                case.integer("m"),
                alpha=case.number("alpha"),
                beta=case.number("beta"),
                gamma=case.number("gamma"),
            )
            _close(result, f"{case.where}: level", ref.number("level"), model.level)
            _close(result, f"{case.where}: trend", ref.number("trend"), model.trend)
            _all_close(result, f"{case.where}: seasonals", ref.items("seasonals", int, float), model.seasonals[0])
            expected = ref.items("forecast", int, float)
            _all_close(result, f"{case.where}: forecast", expected, model.forecast(len(expected)).mean)
        else:
            result.unsupported += 1
    return result


def _controller(params: Record) -> Policy:
    field = params.fields
    common: dict[str, Any] = {
        "min_capacity": params.integer("min"),
        "max_capacity": params.integer("max"),
        "stabilization": field.get("down_window") or 0.0,
        "growth_factor": field.get("up_factor"),
        "growth_step": field.get("up_add"),
        "shrink_share": field.get("down_frac"),
        "cooldown": field.get("cooldown") or 0.0,
    }
    kind = params.text("ctl")
    if kind == "queue_steps":
        rules = field.get("steps") or field.get("rules") or field.get("queue_steps")
        if not isinstance(rules, list):
            raise UnreadableError(f"{params.where}: expected the rules (lo, hi, step) of queue_steps")

        def bound(value: Any) -> float | None:
            return None if value is None or value == "inf" else float(value)

        return QueueScaling(metric="queue", steps=[(bound(a), bound(b), int(step)) for a, b, step in rules], **common)
    common["tolerance"] = float(field.get("tol") or 0.0)
    if kind == "target_util":
        return ProportionalScaling(metric="utilization", target=params.number("target"), measured="servers", **common)
    if kind == "target_demand":
        target = params.number("target") * params.number("cap")
        return ProportionalScaling(metric="demand", metric_type="total", target=target, **common)
    raise UnreadableError(f"{params.where}: ctl: {kind!r} is not known")


def autoscale_loop(document: dict[str, Any]) -> Result:
    """Closed loops, tick by tick: what was desired, what was ready, what waited."""
    result = Result()
    for case in cases(document):
        params, ref = case.record("params"), case.record("ref")
        tick = params.number("dt")
        steps = params.items("load", list)
        rates = []
        for k in range(params.integer("ticks")):
            rates.append(float([level for since, level in steps if since <= k * tick][-1]))
        period = params.number("period") / tick
        report = simulate_fluid(
            rates,
            _controller(params),
            tick=tick,
            capacity=params.number("cap"),
            cold_start=float(params.fields.get("boot") or 0.0),
            period=round(period),
            lag=int(params.fields.get("lag") or 0),
            initial=params.integer("start"),
        )
        for name, ours in (("desired", report.desired), ("ready", report.ready)):
            for k, (a, b) in enumerate(zip(ref.items(name, int), ours.tolist(), strict=True)):
                result.check(f"{case.where}: {name}[{k}]", a, b)
        for name, values in (
            ("t", report.t),
            ("load", report.rates),
            ("backlog", report.backlog),
            ("util", report.utilization),
        ):
            _all_close(result, f"{case.where}: {name}", ref.items(name, int, float), values)
        _close(result, f"{case.where}: replica_seconds", ref.number("replica_seconds"), report.server_seconds)
        _close(result, f"{case.where}: backlog_integral", ref.number("backlog_integral"), report.backlog_integral)
        result.check(f"{case.where}: peak_ready", ref.integer("peak_ready"), report.peak_ready)
        result.check(f"{case.where}: changes", ref.integer("changes"), report.changes)
    return result


def autoscale_fluid(document: dict[str, Any]) -> Result:
    """Steps with dead time, headroom for ramps, stability."""
    result = Result()
    for case in cases(document):
        ref = case.record("ref")
        values: dict[str, Any]
        if "detect" in case:
            step = dead_time_backlog(
                case.number("load"),
                servers=case.integer("start"),
                capacity=case.number("cap"),
                target=case.number("target"),
                detect=case.number("detect"),
                boot=case.number("boot"),
            )
            values = {
                "final_replicas": step.final_replicas,
                "peak_backlog": step.peak_backlog,
                "time_of_peak": step.time_of_peak,
                "drain_time": step.drain_time,
                "clear_at": step.clear_at,
                "max_fifo_delay": step.max_fifo_delay,
                "delay_of_last_arrival_before_capacity": step.delay_of_last_arrival,
            }
        elif "growth" in case:
            room = growth_headroom(
                case.number("growth"),
                reaction=case.number("reaction"),
                capacity=case.number("cap"),
                load=case.number("load0"),
            )
            values = {
                "extra_capacity": room.extra_capacity,
                "target_utilisation_max": room.max_utilization,
                "replicas": room.replicas,
            }
        else:
            # The gain and the delay are in the name of the case alone.
            gain, delay = case.text("id").removeprefix("loop_gain").split("_delay")
            loop = loop_stability(gain=float(gain), delay=int(delay))
            values = {
                "spectral_radius": loop.spectral_radius,
                "stable": loop.stable,
                "max_stable_gain": loop.max_stable_gain,
            }
        for name, theirs in ref.fields.items():
            if isinstance(theirs, bool):
                result.check(f"{case.where}: {name}", theirs, values[name])
            else:
                _close(result, f"{case.where}: {name}", theirs, values[name])
    return result


def cost_spot(document: dict[str, Any]) -> Result:
    """Availability, capacity, cost; pools; the cheapest mix; billing."""
    result = Result()
    for case in cases(document):
        ref = case.record("ref")
        values: dict[str, Any]
        if "run_seconds" in case:
            seconds = billed_seconds(
                case.number("run_seconds"),
                minimum=case.number("minimum_seconds"),
                granularity=case.number("granularity_seconds"),
            )
            values = {"billed_seconds": seconds}
        elif "pools" in case:
            model = CostModel(
                on_demand=1.0,
                spot=1.0,
                interruption_rate=case.number("pool_loss_rate_per_hour"),
                replacement_hours=case.number("outage_hours"),
            )
            pooled = model.pools(need=case.integer("need"), spot=case.integer("n_spot"), pools=case.integer("pools"))
            values = {
                "pool_availability": pooled.pool_availability,
                "p_capacity_ge_need": pooled.capacity_probability,
                "expected_capacity": pooled.expected_capacity,
                "capacity_sd": pooled.capacity_sd,
            }
        else:
            model = CostModel(
                on_demand=case.number("price_on_demand"),
                spot=case.number("price_spot"),
                interruption_rate=case.number("interruption_rate_per_hour"),
                replacement_hours=case.number("replacement_hours"),
            )
            if "slo" in case:
                mix = model.cheapest_mix(need=case.integer("need"), probability=case.number("slo"))
                values = {
                    "on_demand": mix.on_demand,
                    "spot": mix.spot,
                    "cost_per_hour": mix.cost_per_hour,
                    "achieved": mix.achieved,
                    "all_on_demand_cost": mix.all_on_demand_cost,
                }
            else:
                fleet = model.fleet(
                    need=case.integer("need"), on_demand=case.integer("n_on_demand"), spot=case.integer("n_spot")
                )
                values = {
                    "spot_availability": fleet.spot_availability,
                    "expected_capacity": fleet.expected_capacity,
                    "p_capacity_ge_need": fleet.capacity_probability,
                    "expected_shortfall": fleet.expected_shortfall,
                    "unserved_fraction": fleet.unserved_fraction,
                    "cost_per_hour": fleet.cost_per_hour,
                    "all_on_demand_cost": fleet.all_on_demand_cost,
                    "saving": fleet.saving,
                    "interruptions_per_hour": fleet.interruptions_per_hour,
                    "cost_with_on_demand_fallback": fleet.cost_with_on_demand_fallback,
                    "cost_per_useful_replica_hour": fleet.cost_per_useful_hour,
                    "p_survive_1h_no_interruption": fleet.survival_probability,
                }
        for name, theirs in ref.fields.items():
            _close(result, f"{case.where}: {name}", theirs, values[name])
    return result
