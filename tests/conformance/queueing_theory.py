"""Exact queueing results of our own computation, asked again of `aibalance.queueing`.

Each recorded value is one decision. It matches within a relative 1e-9, as the files ask, or within what the file itself
says its numbers are good for: M/D/c 1e-7, means by quadrature 1e-6, truncated chains the truncated mass, quantiles of
M/G/1 as brackets that are right to 1e-6 in probability and have to meet ours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from aibalance import ConfigError
from aibalance import queueing as q

from .model import Result
from .recording import Record, UnreadableError, cases

Adapter = Callable[[dict[str, Any]], Result]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}


class Values:
    """The reference values of one case, each compared once; what nobody asked for is not supported."""

    def __init__(self, result: Result, case: Record) -> None:
        self.result = result
        self.case = case
        self.left = case.names() if not case.has("ref") else set(case.record("ref").names())
        self.ref = case.record("ref")

    def compare(self, name: str, ours: Any, rel: float = 1e-9) -> None:
        """One number, list, or record of numbers."""
        self.left.discard(name)
        theirs = self.ref.fields[name]
        if isinstance(theirs, dict):
            for key, value in theirs.items():
                own = ours(key) if callable(ours) else ours[key]
                if isinstance(value, list):
                    self._list(f"{name}: {key}", value, own, rel)
                else:
                    self._one(f"{name}: {key}", value, own, rel)
        elif isinstance(theirs, list):
            self._list(name, theirs, ours, rel)
        else:
            self._one(name, theirs, ours, rel)

    def _list(self, name: str, theirs: list[Any], ours: Any, rel: float) -> None:
        if len(theirs) != len(ours):
            raise UnreadableError(f"{self.case.where}: ref: {name}: expected {len(ours)} values, got {len(theirs)}")
        for i, (value, own) in enumerate(zip(theirs, ours, strict=True)):
            self._one(f"{name}[{i}]", value, own, rel)

    def quantiles(self, name: str, ours: Callable[[float], float], rel: float = 1e-9) -> None:
        """A record of quantiles by their names."""
        self.compare(name, lambda key: ours(_quantile(self.case, key)), rel)

    def _one(self, name: str, theirs: Any, ours: Any, rel: float) -> None:
        self.result.total += 1
        if _near(name, theirs, ours, rel):
            self.result.matched += 1
        elif self.result.first_mismatch is None:
            self.result.first_mismatch = f"{self.case.where}: {name}: expected {theirs!r}, got {ours!r}"

    def hold(self, name: str, holds: bool, what: str) -> None:
        """One statement."""
        self.result.total += 1
        if holds:
            self.result.matched += 1
        elif self.result.first_mismatch is None:
            self.result.first_mismatch = f"{self.case.where}: {name}: {what}"

    def done(self) -> None:
        self.result.unsupported += len(self.left)


def _near(name: str, theirs: Any, ours: Any, rel: float) -> bool:
    if isinstance(theirs, bool) or not isinstance(theirs, int | float):
        return bool(theirs == ours)
    # Times and numbers may be differences of larger ones, so that their zero is rounding; a chance has its digits
    # however small it is.
    floor = 1e-13 if name.startswith(("mean_", "var_", "wait", "sojourn")) else 0.0
    return math.isclose(theirs, float(ours), rel_tol=rel, abs_tol=floor)


def _quantile(case: Record, name: str) -> float:
    if name in QUANTILES:
        return QUANTILES[name]
    found = re.fullmatch(r"p(\d+)(?:_(\d+))?", name)
    if not found:
        raise UnreadableError(f"{case.where}: {name!r} names no quantile")
    return float(f"{found[1]}.{found[2] or 0}") / 100


def law(case: Record, name: str) -> q.Law:
    """The law that a text such as "lognormal sigma=1 mu=-0.5 (mean 1)" describes."""
    text = case.text(name)
    given = [float(one) for one in re.findall(r"-?\d*\.?\d+(?:e-?\d+)?", text)]
    try:
        match text.split()[0].split("(")[0].split("-")[0]:
            case "deterministic":
                return q.Deterministic(given[0])
            case "exponential":
                return q.Exponential(given[0])
            case "Erlang":
                return q.Gamma(mean=given[1], shape=abs(given[0]))
            case "gamma":
                return q.Gamma(mean=given[1], shape=given[0])
            case "uniform":
                return q.Uniform(given[0], given[1])
            case "hyperexponential":
                return q.HyperExponential([given[0], 1 - given[0]], [1 / given[1], 1 / given[2]])
            case "lognormal":
                if "mu=" in text:
                    return q.Lognormal(mean=math.exp(given[1] + given[0] ** 2 / 2), sigma=given[0])
                return q.Lognormal(mean=given[1], sigma=given[0])
            case "Weibull":
                return q.Weibull(mean=given[1], shape=given[0])
            case "bounded":
                return q.BoundedPareto(alpha=given[0], low=given[1], high=given[2])
    except IndexError:
        pass
    raise UnreadableError(f"{case.where}: {name}: {text!r} names no law that is known here")


def _each(document: dict[str, Any], ask: Callable[[Values, Record], None]) -> Result:
    result = Result()
    for case in cases(document):
        values = Values(result, case)
        try:
            ask(values, case)
        except KeyError as missing:
            raise UnreadableError(f"{case.where}: ref: lacks {missing}") from None
        values.done()
    return result


def mm_queues(document: dict[str, Any]) -> Result:
    """M/M/1 and M/M/c."""

    def ask(values: Values, case: Record) -> None:
        queue = q.MMc(arrival_rate=case.number("lam"), service_rate=case.number("mu"), servers=case.integer("c"))
        names = {"rho": "utilization", "erlang_c": "p_wait"}
        for name in ("rho", "erlang_c", "p_wait", "mean_number", "mean_queue", "mean_sojourn", "mean_wait"):
            if name in values.left:
                values.compare(name, getattr(queue, names.get(name, name)))
        for name in ("var_sojourn", "mean_wait_given_wait"):
            if name in values.left:
                values.compare(name, getattr(queue, name))
        if "erlang_b_same_load" in values.left:
            values.compare("erlang_b_same_load", q.erlang_b(queue.servers, queue.offered_load))
        if "p_n_ge" in values.left:
            values.compare("p_n_ge", lambda n: queue.p_number_at_least(int(n)))
        values.quantiles("sojourn", queue.sojourn_quantile)
        values.quantiles("wait", queue.wait_quantile)

    return _each(document, ask)


def loss_queues(document: dict[str, Any]) -> Result:
    """M/M/c/K and Erlang B."""

    def ask(values: Values, case: Record) -> None:
        c, places = case.integer("c"), case.integer("K")
        queue = q.MMcK(arrival_rate=case.number("lam"), service_rate=case.number("mu"), servers=c, places=places)
        names = {
            "utilisation": "utilization",
            "mean_sojourn_accepted": "mean_sojourn",
            "mean_wait_accepted": "mean_wait",
        }
        for name in sorted(values.left - {"wait_accepted"}):
            values.compare(name, getattr(queue, names.get(name, name)))
        if c == places:
            values.compare("p_block", q.erlang_b(c, queue.arrival_rate / queue.service_rate))
        if "wait_accepted" in values.left:
            values.quantiles("wait_accepted", queue.wait_quantile)

    return _each(document, ask)


def mg_inf(document: dict[str, Any]) -> Result:
    """M/G/infinity, also from empty."""

    def ask(values: Values, case: Record) -> None:
        lam, mean = case.number("lam"), case.number("mean_service")
        rooms = {"exp": q.MGInf(arrival_rate=lam, service=q.Exponential(mean))}
        rooms["det"] = q.MGInf(arrival_rate=lam, service=q.Deterministic(mean))
        for name in sorted(values.left):
            if name in ("mean_number", "var_number"):
                values.compare(name, getattr(rooms["exp"], name))
            elif name == "pmf":
                values.compare(name, lambda n: rooms["exp"].pmf(int(n)))
            elif name == "quantiles":
                values.quantiles(name, rooms["exp"].quantile)
            elif at := re.fullmatch(r"mean_from_empty_(exp|det)_t([\d.]+)", name):
                values.compare(name, rooms[at[1]].mean_number_at(float(at[2])))

    return _each(document, ask)


def mg1(document: dict[str, Any]) -> Result:
    """M/G/1 FIFO: means, variance, brackets of quantiles; means under processor sharing."""

    def ask(values: Values, case: Record) -> None:
        service = law(case, "service")
        queue = q.MG1(arrival_rate=case.number("lam"), service=service)
        sharing = q.MG1PS(arrival_rate=case.number("lam"), service=service)
        known = {
            "rho": queue.utilization,
            "scv": service.scv,
            "ps_mean_sojourn": sharing.mean_sojourn,
            "ps_mean_number": sharing.mean_number,
            "fifo_over_ps": queue.mean_sojourn / sharing.mean_sojourn,
        }
        if "wait_tail" in values.left:
            coefficients, rates = queue.wait_tail()
            values.compare("wait_tail", {"coef": coefficients, "rate": rates})
        for name in sorted(values.left - {"fifo_quantile_brackets"}):
            values.compare(name, known[name] if name in known else getattr(queue, name))
        if "fifo_quantile_brackets" not in values.left:
            return
        values.left.discard("fifo_quantile_brackets")
        for kind in ("wait", "sojourn"):
            theirs = values.ref.record("fifo_quantile_brackets").record(kind)
            for name in sorted(theirs.names()):
                bracket, at = theirs.record(name), _quantile(case, name)
                low, high = bracket.number("lo"), bracket.number("hi")
                ask_for = partial(queue.wait_quantile if kind == "wait" else queue.sojourn_quantile, points=2**16)
                ours = ask_for(at)
                # Their bracket is right to 1e-6 in probability: the quantiles a little to either side count too.
                meets = ours.low <= high and low <= ours.high
                if not meets:
                    meets = ask_for(at - 1e-6).low <= high and low <= ask_for(at + 1e-6).high
                narrow = ours.high - ours.low <= 4 * (high - low) + 3e-3 * high
                values.hold(f"{kind} {name}", meets and narrow, f"expected within [{low}, {high}], got {ours}")

    return _each(document, ask)


def mg1_ps(document: dict[str, Any]) -> Result:
    """M/G/1 with processor sharing."""

    def ask(values: Values, case: Record) -> None:
        queue = q.MG1PS(arrival_rate=case.number("lam"), service=law(case, "service"))
        for name in ("mean_sojourn", "mean_number"):
            values.compare(name, getattr(queue, name))
        values.compare("p_n", lambda n: queue.p_number(int(n)))
        values.compare("conditional_mean", lambda work: queue.conditional_mean_sojourn(float(work)))
        if "var_sojourn" in values.left:
            values.compare("var_sojourn", queue.var_sojourn)

    return _each(document, ask)


def mdc(document: dict[str, Any]) -> Result:
    """M/D/c; the file's own numbers are good to 1e-7."""

    def ask(values: Values, case: Record) -> None:
        queue = q.MDc(arrival_rate=case.number("lam"), service_time=case.number("D"), servers=case.integer("c"))
        for name in sorted(values.left):
            values.compare(name, getattr(queue, name), rel=1e-7)

    return _each(document, ask)


def round_robin_gm1(document: dict[str, Any]) -> Result:
    """Round robin: E_N/M/1 at each server."""

    def ask(values: Values, case: Record) -> None:
        n = case.fields["N"]
        mu = case.number("mu")
        stages = math.inf if n in ("inf", "infinity", None) else case.integer("N")
        queue = q.EkM1(arrival_rate=case.number("rho") * mu, service_rate=mu, stages=stages)
        values.compare("sigma", queue.p_wait)
        values.compare("p_wait", queue.p_wait)
        for name in ("mean_sojourn", "mean_wait"):
            values.compare(name, getattr(queue, name))
        values.compare("mean_number_at_server", queue.mean_number)
        values.quantiles("sojourn", queue.sojourn_quantile)
        values.quantiles("wait", queue.wait_quantile)

    return _each(document, ask)


def priority(document: dict[str, Any]) -> Result:
    """Cobham's and preemptive-resume means."""

    def service(mean: float, scv: float) -> q.Law:
        if scv == 0:
            return q.Deterministic(mean)
        return q.Exponential(mean) if scv == 1 else q.Gamma(mean=mean, shape=1 / scv)

    def ask(values: Values, case: Record) -> None:
        rates = case.items("lams", float, int)
        shapes = zip(case.items("means", float, int), case.items("scv", float, int), strict=True)
        queue = q.PriorityMG1(arrival_rates=rates, services=[service(mean, scv) for mean, scv in shapes])
        means = case.items("means", float, int)
        values.compare("nonpreemptive_mean_wait", queue.mean_waits)
        values.compare("preemptive_resume_mean_sojourn", queue.preemptive_mean_sojourns)
        values.compare("fifo_mean_wait", queue.fifo_mean_wait)
        loads = [rate * mean for rate, mean in zip(rates, means, strict=True)]
        held = sum(load * wait for load, wait in zip(loads, queue.mean_waits, strict=True))
        values.compare("conservation_sum_rho_W", held)

    return _each(document, ask)


def staffing(document: dict[str, Any]) -> Result:
    """The least number of servers, and Halfin and Whitt's beta."""

    def ask(values: Values, case: Record) -> None:
        rule, target = case.text("rule"), case.number("target")
        if rule.startswith("square-root"):
            values.compare("beta", q.halfin_whitt_beta(target))
            return
        a, mu = case.number("offered_load"), case.number("mu")
        lam = a * mu
        at = re.fullmatch(r"p(\d+(?:_\d+)?)_(sojourn|wait)_le", rule)
        if rule in ("p_wait_le", "mean_wait_le", "mean_sojourn_le"):
            asked: dict[str, Any] = {rule.removesuffix("_le"): target}
            c = q.min_servers(lam, mu, **asked)
        elif at:
            of = _quantile(case, f"p{at[1]}")
            c = (
                q.min_servers(lam, mu, sojourn=(of, target))
                if at[2] == "sojourn"
                else q.min_servers(lam, mu, wait=(of, target))
            )
        else:
            raise UnreadableError(f"{case.where}: rule: {rule!r} is not known here")
        queue = q.MMc(arrival_rate=lam, service_rate=mu, servers=c)
        values.compare("min_servers", c)
        if at:
            values.compare("achieved", getattr(queue, f"{at[2]}_quantile")(of))
        else:
            values.compare("achieved", getattr(queue, rule.removesuffix("_le")))
        values.compare("beta", (c - a) / math.sqrt(a))

    return _each(document, ask)


def supermarket(document: dict[str, Any]) -> Result:
    """The fixed point of power of d choices."""

    def ask(values: Values, case: Record) -> None:
        fleet = q.Supermarket(load=case.number("lam"), choices=case.integer("d"))
        values.compare("mean_sojourn", fleet.mean_sojourn)
        values.compare("mean_number_per_server", fleet.mean_number)
        values.compare("tail", lambda i: fleet.tail(int(i)))
        values.quantiles("sojourn", fleet.sojourn_quantile)

    return _each(document, ask)


POLICIES = {"p2c_distinct": "p2c", "jsq_count": "jsq"}


def exact_small_n(document: dict[str, Any]) -> Result:
    """The chains of two and three servers, truncated where the file truncates them."""

    def ask(values: Values, case: Record) -> None:
        mus = [float(one) for one in case.items("mus", float, int)]
        lam = case.number("lam_total") if case.has("lam_total") else case.number("lam") * len(mus)
        policy, most = case.text("policy"), case.integer("K")
        fleet = q.SmallFleet(arrival_rate=lam, service_rates=mus, policy=POLICIES.get(policy, policy), truncation=most)
        mass = values.ref.number("truncation_mass")
        rel = 1e-9 + 3 * mass * most
        # Twelve digits of a mass far below any rounding: only its size is a statement.
        values.compare("truncation_mass", fleet.truncation_mass, rel=1e-3)
        for name in ("mean_sojourn", "mean_number", "p_all_idle", "p_wait"):
            if name in values.left:
                values.compare(name, getattr(fleet, name), rel)
        if "share" in values.left:
            values.compare("share", fleet.shares, rel)
        if "sojourn_fifo" in values.left:
            values.quantiles("sojourn_fifo", fleet.sojourn_quantile, rel)

    return _each(document, ask)


def random_split(document: dict[str, Any]) -> Result:
    """Random splits over unequal servers; one that cannot be stable has to be refused."""

    def ask(values: Values, case: Record) -> None:
        mus, lam = case.items("mus", float, int), case.number("lam_total")
        weights: list[float] = case.items("weights", float, int)
        shares = [one / sum(weights) for one in weights]
        # Recorded to 12 digits: where they are those of a known rule, take the rule's.
        rules = [[1 / len(mus)] * len(mus), [mu / sum(mus) for mu in mus]]
        if lam < sum(mus):
            rules.append(q.optimal_split(lam, mus))
        for rule in rules:
            if all(math.isclose(a, b, rel_tol=1e-11, abs_tol=1e-12) for a, b in zip(shares, rule, strict=True)):
                shares = rule
                break
        try:
            split = q.RandomSplit(arrival_rate=lam, service_rates=mus, weights=shares)
        except ConfigError:
            values.compare("stable", False)
            return
        values.compare("stable", True)
        values.compare("mean_sojourn", split.mean_sojourn)
        values.compare("utilisation", split.utilizations)
        values.compare("per_server_sojourn", split.mean_sojourns)
        values.quantiles("sojourn", split.sojourn_quantile)

    return _each(document, ask)


def batching_ps(document: dict[str, Any]) -> Result:
    """Continuous batching as a birth-death process."""

    def ask(values: Values, case: Record) -> None:
        given: dict[str, Any] = {
            "base_s": case.number("a"),
            "per_sequence_s": case.number("b"),
            "mean_output_tokens": case.number("mean_out_tokens"),
            "max_batch": case.integer("cap"),
        }
        capacity = q.ContinuousBatching(arrival_rate=1e-9, **given).capacity
        server = q.ContinuousBatching(arrival_rate=case.number("load") * capacity, **given)
        names = {"req_rate": "arrival_rate", "mean_queue_wait": "mean_wait"}
        for name in sorted(values.left):
            values.compare(name, getattr(server, names.get(name, name)))

    return _each(document, ask)


def hedging(document: dict[str, Any]) -> Result:
    """Hedged requests, fan-out, retries; the means of the file are good to 1e-6."""

    def ask(values: Values, case: Record) -> None:
        if case.has("fanout"):
            values.compare("p_any_slow", q.fan_out(case.integer("fanout"), case.number("p_slow")))
            values.compare("mean_max_exponential", q.fan_out_mean_exponential(case.integer("fanout")))
        elif case.has("attempt_failure"):
            retries = q.Retries(p_failure=case.number("attempt_failure"), max_attempts=case.integer("max_attempts"))
            values.compare("success", retries.p_success)
            values.compare("mean_attempts", retries.mean_attempts)
        else:
            text = case.text("latency")
            numbers = [float(one) for one in re.findall(r"\d*\.?\d+", text)]
            latency: q.Law = q.Exponential(numbers[-1])
            if text.startswith("lognormal"):
                latency = q.Lognormal(mean=numbers[1], sigma=numbers[0])
            elif text.startswith("Weibull"):
                latency = q.Weibull(mean=numbers[1], shape=numbers[0])
            elif not text.startswith("exponential"):
                raise UnreadableError(f"{case.where}: latency: {text!r} names no law that is known here")
            after = case.number("hedge_after_quantile") if case.has("hedge_after_quantile") else None
            hedged = q.Hedged.after_quantile(latency, after)
            values.compare("delay", hedged.delay)
            values.compare("extra_request_fraction", hedged.extra_requests)
            values.compare("mean", hedged.mean, rel=1e-6)
            values.quantiles("quantiles", hedged.quantile)
            values.quantiles("unhedged", latency.quantile)

    return _each(document, ask)


def jiq(document: dict[str, Any]) -> Result:
    """The limit of join idle queue. What was simulated is the simulator's to answer."""

    def ask(values: Values, case: Record) -> None:
        fleet = q.JoinIdleQueueLimit(load=case.number("lam"), servers_per_dispatcher=case.number("r"))
        values.compare("idle_queue_occupied", fleet.occupied)
        values.compare("reduced_load", fleet.random_load)
        values.compare("mean_sojourn_mean_field", fleet.mean_sojourn)
        values.compare("p_wait_mean_field", fleet.p_wait)

    return _each(document, ask)


# Fields of each case, and of its `ref`, where each file differs from the others.
ADAPTERS: list[tuple[set[str], set[str], Adapter]] = [
    ({"lam", "mu", "c", "K"}, {"p_block", "throughput"}, loss_queues),
    ({"lam", "mu", "c"}, {"rho", "mean_wait", "sojourn", "wait"}, mm_queues),
    ({"lam", "mean_service"}, {"mean_number", "pmf"}, mg_inf),
    ({"lam", "service", "moments"}, {"fifo_over_ps"}, mg1),
    ({"lam", "service"}, {"p_n", "conditional_mean"}, mg1_ps),
    ({"lam", "D", "c"}, {"mean_wait", "p_wait"}, mdc),
    ({"N", "rho", "mu"}, {"sigma"}, round_robin_gm1),
    ({"lams", "means", "scv"}, {"nonpreemptive_mean_wait"}, priority),
    ({"rule", "target"}, {"beta"}, staffing),
    ({"lam", "d"}, {"tail"}, supermarket),
    ({"policy", "K", "mus"}, {"truncation_mass"}, exact_small_n),
    ({"mus", "lam_total", "weights"}, {"stable"}, random_split),
    ({"a", "b", "mean_out_tokens", "cap", "load"}, {"mean_batch"}, batching_ps),
    ({"lam", "r"}, {"idle_queue_occupied"}, jiq),
]
HEDGING = ({"latency"}, {"fanout", "p_slow"}, {"attempt_failure", "max_attempts"})


def find(found: list[Record]) -> Adapter | None:
    """Whose recording this is, if it is one of these."""
    if all(any(fields <= case.names() for fields in HEDGING) and case.has("ref") for case in found):
        return hedging
    for fields, values, adapter in ADAPTERS:
        if all(fields <= case.names() and case.has("ref") and values <= case.record("ref").names() for case in found):
            return adapter
    return None
