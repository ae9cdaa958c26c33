"""A plan in words: how the question was read, the answer, and the seven points that a design has to answer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ._plan_space import Design, Space, closed
from ._statistics import Interval

if TYPE_CHECKING:
    from ._plan import Plan
    from ._plan_search import Evaluated

POINTS = ("balancer", "scaling policy", "pre-warming", "queue", "cost mix", "interruptions", "metrics and alerts")


def usd(value: float) -> str:
    """Dollars: $0.42, $12.50, $4,884."""
    if not math.isfinite(value):
        return "–"
    return f"${value:,.0f}" if value >= 100 else f"${value:,.2f}"


def _time(value: float) -> str:
    if math.isinf(value):
        return "for ever"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def shown(metric: str, of: Interval) -> str:
    """An objective's value with its interval."""
    if math.isinf(of.mean):
        return "no answer for too many"
    scale, unit = (100.0, " %") if metric == "error" else (1.0, " s")
    text = f"{of.mean * scale:.3g}"
    if math.isfinite(of.low) and of.high > of.low:
        text += f" ({of.low * scale:.3g} to {of.high * scale:.3g})"
    return text + unit


def _mix(design: Design, of: Space) -> str:
    total = sum(design.mix)
    parts = [
        f"{100 * part / total:.0f} % {one.name}" if part < total else one.name
        for one, part in zip(of.scenario.fleet.types, design.mix, strict=True)
        if part
    ]
    return " + ".join(parts)


def _policy(design: Design) -> str:
    if design.policy == "fixed":
        return f"{design.min} servers, always"
    what = "tracking" if design.policy == "tracking" else f"tracking and surge at {design.threshold:g} waiting"
    return f"{what}, target {100 * design.target:.0f} %, {design.min} to {design.max}"


def describe(design: Design, of: Space) -> str:
    """A design in one line."""
    parts = [design.balancer, _policy(design), _mix(design, of)]
    if design.warm_pool:
        parts.append(f"warm pool of {design.max - design.min}")
    if design.spot_share:
        parts.append(f"{100 * design.spot_share:.0f} % spot")
    if design.queue_limit is not None:
        parts.append(f"{design.queue_limit} may wait at a server")
    if design.longest_wait_s is not None:
        parts.append(f"nobody waits past {design.longest_wait_s:g} s")
    return "; ".join(parts)


def reading(of: Space, added: str) -> tuple[str, ...]:
    """How the question was read."""
    scenario, facts = of.scenario, of.facts
    lines = []
    work = facts["work_s"]
    if closed(scenario):
        lines.append(
            f"Traffic is a closed loop, {scenario.traffic.describe()}: users with think time, not as many requests in "
            "flight. They slow down when the servers do."
        )
    else:
        flight = facts["peak_rps"] * work
        lines.append(
            f"Traffic is open, {facts['peak_rps']:.3g} requests/s at its height: {flight:,.0f} requests in flight on "
            "servers of speed 1 if nobody waits. N users at once are read as sessions with think time, who send "
            "N / (think + answer) requests/s; N requests in flight would be another scenario."
        )
    if of.calm is not None:
        beside = "no limit" if of.budget is None else usd(of.budget)
        lines.append(
            f"The budget ({beside}) is for a month of 730 h like the calm; a spike's cost stands beside it, and "
            f"{of.spikes_per_month:g} a month count when designs are weighed."
        )
    elif of.budget is not None:
        lines.append(f"The budget ({usd(of.budget)}) is for a month of 730 h like this run.")
    lines.append(
        f"Objectives are of whole runs of {scenario.duration_s:g} s, over all requests: one that is turned away is "
        "late without end."
    )
    if added:
        lines.append(added)
    lines.append(f"The fleet may have {of.lowest} to {of.highest} servers.")
    if of.spot is not None:
        lines.append(
            f"Assumed of spot: {100 * of.spot.discount:.0f} % off, {of.spot.interruptions_per_month:g} interruptions a "
            f"month and server, {100 * of.spot.obtainability:.0f} % obtainable, on-demand stands in; the first "
            f"{of.spot.on_demand_base} servers are on demand."
        )
    if of.pool is not None:
        start = of.pool.start_s if of.pool.start_s is not None else scenario.fleet.warmup_s
        lines.append(
            f"Assumed of a warm pool: stopped servers, ready {start:g} s after the call instead of "
            f"{scenario.fleet.load_s + scenario.fleet.warmup_s:g} s, at ${of.pool.price_per_hour:g} an hour each."
        )
    return tuple(lines)


def _worst(one: Evaluated) -> int:
    """The objective that comes nearest to its limit, or misses it most."""
    of = one.space.objectives
    return max(range(len(of)), key=lambda i: one.objective(i).mean / of[i].limit)


def _money(one: Evaluated) -> str:
    text = f"{usd(one.month.mean)} a month"
    if one.space.calm is not None:
        text += f" and {usd(one.spike.mean)} a spike"
    return text


def sentence(plan: Plan) -> str:
    """The answer."""
    of, best = plan.space, plan.best
    goals = " and ".join(map(str, of.objectives))
    i = _worst(best)
    metric = of.objectives[i].metric
    if plan.met:
        runs = len(best.fresh)
        # Rounded down: what is promised is not more than what was seen.
        surely = math.floor(1000 * 0.05 ** (1 / runs)) / 10
        return (
            f"{describe(best.design, of)} keeps {goals} for {_money(best)}: {metric} "
            f"{shown(metric, best.objective(i))} "
            f"in {runs} of {runs} fresh runs, so in more than {surely:g} % of all (95 % sure)."
        )
    budget = "no money" if of.budget is None else f"{usd(of.budget)} a month"
    parts = []
    if best.affordable:
        value, limit = best.objective(i).mean, of.objectives[i].limit
        by = (
            f"which is {value / limit:.2g} times the limit"
            if math.isfinite(value) and value > limit
            else f"and misses in {best.misses} of {len(best.runs)} runs"
        )
        parts.append(
            f"{budget[0].upper()}{budget[1:]} does not keep {goals}. The best for it is {describe(best.design, of)}: "
            f"{metric} {shown(metric, best.objective(i))}, {by}, for {_money(best)}."
        )
    else:
        parts.append(
            f"{budget[0].upper()}{budget[1:]} does not even pay for the smallest fleet; the nearest is "
            f"{describe(best.design, of)} for {_money(best)}."
        )
    parts.append(_would(plan))
    return " ".join(parts)


def _would(plan: Plan) -> str:
    of = plan.space
    for one in of.objectives:
        floor = of.facts[f"floor_{one.metric}"]
        if floor > one.limit:
            return (
                f"No fleet of these servers can: on the fastest, with nobody waiting, {one.metric} is already "
                f"{_time(floor) if one.metric != 'error' else f'{100 * floor:.3g} %'}. A faster type, or "
                "shorter work, would."
            )
    if plan.would is None:
        return (
            f"Nothing that was tried would, at any price, with at most {of.highest} servers: more of them, a faster "
            "start, or notice of the spike."
        )
    more = "" if of.budget is None else f", {usd(plan.would.month.mean - of.budget)} more"
    return f"{describe(plan.would.design, of)} would, for {_money(plan.would)}{more}."


def answers(plan: Plan) -> dict[str, str]:
    """The seven points."""
    return dict(
        zip(
            POINTS,
            (
                _balancer(plan),
                _scaling(plan),
                _warm(plan),
                _queue(plan),
                _cost(plan),
                _interruptions(plan),
                _metrics(plan),
            ),
            strict=True,
        )
    )


def _balancer(plan: Plan) -> str:
    of, design = plan.space, plan.best.design
    metric = of.objectives[0].metric
    others = [
        f"{name} {shown(metric, one.objective(0))}, {usd(one.total)} a month with its spikes"
        for name, one in plan.balancers
        if name != design.balancer
    ]
    own = next((one for name, one in plan.balancers if name == design.balancer), plan.best)
    why = (
        "servers pull from one queue, so nobody waits behind a slow one while another is idle"
        if design.balancer in of.pulls
        else "of the balancers that push it does best on this fleet"
    )
    text = f"{design.balancer}: {why}. {metric} is {shown(metric, own.objective(0))}"
    return text + (f"; the same fleet with others: {'; '.join(others)}." if others else ".")


def _scaling(plan: Plan) -> str:
    design, fleet = plan.best.design, plan.scenario.fleet
    every = f"every {fleet.decision_interval_s:g} s on metrics {fleet.metric_delay_s:g} s old"
    if design.policy == "fixed":
        return (
            f"None: {design.min} servers all the time. Within the reaction time no policy helps enough for its price."
        )
    bounds = f"min {design.min}, max {design.max}, decided {every}"
    if design.policy == "tracking":
        return (
            f"Target tracking on requests in flight a server, target {design.target:g} of the slots (which "
            "sees the queue, "
            f"as utilization does not); out at the first high value, in after 15 low ones; {bounds}."
        )
    return (
        f"Target tracking on utilization at {100 * design.target:.0f} %, and a step: {design.threshold:g} or "
        "more requests "
        f"waiting a server start everything at once, {design.max} servers. Only tracking scales in. {bounds[0].upper()}"
        f"{bounds[1:]}."
    )


def _warm(plan: Plan) -> str:
    design, of = plan.best.design, plan.space
    fleet = plan.scenario.fleet
    cold = fleet.load_s + fleet.warmup_s
    lag = fleet.metric_delay_s + fleet.decision_interval_s
    if design.policy == "fixed":
        return f"The whole fleet is always warm; a replacement needs {cold:g} s."
    if design.warm_pool and of.pool is not None:
        start = of.pool.start_s if of.pool.start_s is not None else fleet.warmup_s
        price = (design.max - design.min) * of.pool.price_per_hour * 730
        return (
            f"A warm pool of {design.max - design.min} stopped servers, ready in {start:g} s instead of {cold:g} s: "
            f"{usd(price)} a month, in the price above. It takes {lag + start:g} s at most from a change to "
            "the servers "
            "that answer it."
            + (" Look whether your cloud allows a pool beside spot: AWS did not for long." if design.spot_share else "")
        )
    return (
        f"No warm pool: {cold:g} s of cold start, and {lag + cold:g} s at most from a change to the servers "
        "that answer it, "
        f"are borne by {design.min} standing servers and the queue. Before an announced event raise min by "
        "hand or by schedule."
    )


def _queue(plan: Plan) -> str:
    of, best = plan.space, plan.best
    design = best.design
    if design.balancer in of.pulls:
        text = (
            "One queue for all, first come first served by priority; each request is told its ETA, (those "
            "ahead + 1) times "
            "the mean time in service over all slots, and may cancel."
        )
        if design.longest_wait_s is not None:
            text += f" Who would wait longer than {design.longest_wait_s:g} s is turned away at once."
    else:
        limit = plan.scenario.fleet.queue_limit if design.queue_limit is None else design.queue_limit
        rest = "without a limit" if limit is None else f"{limit} at most, the next is turned away at once"
        text = f"A queue at each server, {rest}."
    if plan.queue is not None and plan.queue is not best:
        i = _worst(plan.queue)
        metric = of.objectives[i].metric
        text += (
            f" The best queue with an ETA for the money: {describe(plan.queue.design, of)}; {metric} "
            f"{shown(metric, plan.queue.objective(i))} for {_money(plan.queue)}."
        )
    return text


def _cost(plan: Plan) -> str:
    best, of = plan.best, plan.space
    design = best.design
    text = f"{_mix(design, of)}, {usd(of.price(design))} a server hour on demand. "
    if of.spot is None:
        text += "All on demand."
    elif design.spot_share:
        saved = 1 - of.spot.price(design.spot_share)
        text += (
            f"{100 * design.spot_share:.0f} % spot above {of.spot.on_demand_base} on-demand servers, which saves "
            f"{100 * saved:.0f} % of what they would cost, on-demand standing in where there is none."
        )
    else:
        text += "All on demand: spot saves less than it costs here."
    month = best.month
    text += f" {usd(month.mean)} a month ({usd(month.low)} to {usd(month.high)})"
    if of.calm is not None:
        text += f", and {usd(best.spike.mean)} for a spike"
    return text + "."


def _interruptions(plan: Plan) -> str:
    of, design = plan.space, plan.best.design
    cold = plan.scenario.fleet.load_s + plan.scenario.fleet.warmup_s
    if of.spot is None or not design.spot_share:
        return f"Nothing is spot. A server that dies is replaced in {cold:g} s; its requests are sent again."
    servers = sum(plan.best.column("servers_mean")) / len(plan.best.runs)
    a_month = of.spot.interruptions_per_month * design.spot_share * max(0.0, servers - of.spot.on_demand_base)
    return (
        f"About {a_month:.1f} a month at the run's mean of {servers:.0f} servers. At the notice: drain (no "
        "new work; what runs is finished if it "
        f"is shorter than the notice), start an on-demand server at once ({cold:g} s), go back to spot when "
        "there is some. The simulation "
        "has them without any notice: what ran on them is lost. Spread over zones and types: what is gone in "
        "one pool is "
        "gone for all in it."
    )


def _metrics(plan: Plan) -> str:
    of, best = plan.space, plan.best
    fleet = plan.scenario.fleet
    limits = ", ".join(f"{one.metric} above {_limit(one.metric, 0.8 * one.limit)}" for one in of.objectives)
    parts = [
        f"Watch {', '.join(one.metric for one in of.objectives)}, the longest wait, requests turned away, "
        "busy slots, wanted "
        f"against ready servers, money a day. Warn at {limits}, over 5 min",
        f"at ready servers below the wanted for more than {2 * (fleet.load_s + fleet.warmup_s) or 60:g} s",
    ]
    if best.design.policy != "fixed":
        parts.append(f"at {max(best.design.max - 1, 1)} servers, where there is no more to start")
    if of.budget is not None:
        parts.append(f"at {usd(of.budget / 30.4)} a day")
    return ", ".join(parts) + "."


def _limit(metric: str, value: float) -> str:
    return f"{100 * value:.3g} %" if metric == "error" else _time(value)


def summary(plan: Plan) -> str:
    """Everything, as plain text."""
    lines = ["How the question was read"]
    lines += [f"  {line}" for line in plan.reading]
    lines += ["", plan.sentence, ""]
    lines += [f"{name}: {text}" for name, text in plan.answers.items()]
    return "\n".join(lines)
