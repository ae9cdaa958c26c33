"""Which recording is this, and who replays it? Told by content: what `about` says, or the shape of the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import (
    balance,
    chance,
    cloud,
    hashing,
    health,
    hpa,
    keda,
    knative,
    load,
    passive,
    proxies,
    queueing_theory,
    routing,
    scaling_theory,
    sched,
    simulated_theory,
    theory,
)
from .model import Result
from .recording import Record, UnreadableError, cases

Replay = Callable[[Any], Result]

# Fields of each case and of its `ref` in the theory files about balance.
BALANCE: list[tuple[set[str], set[str], Replay]] = [
    ({"n", "vnodes"}, {"node_cv_exact", "max_over_mean_sd"}, balance.ring_balance),
    ({"n", "keys"}, {"chi2_p999", "min_sd"}, balance.uniform_balance),
    ({"n", "probes"}, {"max_over_mean", "sd"}, balance.multiprobe_balance),
    ({"n", "vnodes", "eps", "keys", "cap"}, {"displaced_fraction"}, balance.bounded_load),
    ({"n", "M"}, {"needless_moves_fraction"}, balance.maglev_disruption),
]
cloud.ADAPTERS.update(routing.ADAPTERS)

# Who may check a theory file about queues: each looks at its cases and gives its adapter, or None. All that do check it
# and count what they checked: one by closed forms, one by simulation.
QUEUES: list[Callable[[list[Record]], Replay | None]] = [
    queueing_theory.find,
    simulated_theory.checker,
]

PROXIES = {"nginx", "envoy", "haproxy", "caddy", "traefik", "twemproxy", "libmemcached"}

# (system, `about.algorithm` up to the first " on "). Other recordings of these systems are not supported yet.
REPLAYED: dict[tuple[str, str], Replay] = {
    ("nginx", "weighted round robin (default)"): proxies.nginx_wrr,
    ("envoy", "RING_HASH"): proxies.envoy_keyed,
    ("envoy", "MAGLEV"): proxies.envoy_keyed,
    ("envoy", "two header hash policies"): proxies.envoy_hash_policies,
    ("envoy", "ROUND_ROBIN"): sched.envoy_round_robin,
    ("haproxy", "balance roundrobin"): sched.haproxy,
    ("haproxy", "balance static-rr"): sched.haproxy,
    ("haproxy", "roundrobin and static-rr with per-server maxconn"): sched.haproxy,
    ("haproxy", "balance leastconn"): sched.haproxy,
    ("haproxy", "balance first"): sched.haproxy,
    ("nginx", "least_conn"): sched.nginx_least_conn,
    ("envoy", "LEAST_REQUEST, equal weights"): sched.envoy_least_request,
    ("envoy", "LEAST_REQUEST, unequal weights"): sched.envoy_least_request_weighted,
    ("caddy", "weighted_round_robin, round_robin, first"): sched.caddy_sequences,
    ("traefik", "wrr"): sched.traefik_wrr,
    ("nginx", "hash $arg_key;"): hashing.nginx_hash,
    ("nginx", "hash $arg_key consistent;"): hashing.nginx_hash_consistent,
    ("nginx", "ip_hash"): hashing.nginx_ip_hash,
    ("haproxy", "hash-type map-based / consistent"): hashing.haproxy_hash,
    ("haproxy", "balance source"): hashing.haproxy_source,
    ("haproxy", "hash-type consistent with hash-balance-factor"): hashing.haproxy_bounded_load,
    (
        "envoy",
        "RING_HASH / MAGLEV with common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
    ): hashing.envoy_bounded_load,
    ("caddy", "rendezvous (highest random weight) policies"): hashing.caddy_hash,
    ("traefik", "strategy hrw"): hashing.traefik_hrw,
    ("envoy", "RANDOM, LEAST_REQUEST without concurrency"): chance.envoy_random,
    ("nginx", "random; random two least_conn"): chance.nginx_random,
    ("envoy", "panic threshold, health_status, fail_traffic_on_panic"): health.envoy_panic,
    ("envoy", "degraded hosts, priorities with overprovisioning factor, locality weights"): health.envoy_priority,
    ("envoy", "slow start"): health.envoy_slow_start,
    ("haproxy", "server slowstart, effective weight over time"): health.haproxy_slowstart,
    ("nginx", "max_fails / fail_timeout, effective weight, backup"): passive.nginx_failures,
    ("envoy", "outlier_detection timelines"): passive.envoy_outlier,
    ("caddy", "random, random_choose, least_conn"): load.caddy_random,
    ("traefik", "strategy p2c"): load.traefik_p2c,
    ("haproxy", "balance random"): chance.haproxy_random,
}

# Keys that every record of an autoscaling recording has, and the list in it that holds its decisions (None: the record
# is one). The first kind that fits is the one. Kinds that SCALING does not name are not supported yet.
AUTOSCALING: list[tuple[str, set[str], str | None]] = [
    ("Kubernetes HPA, whole reconcile", {"metrics", "controller_tolerance", "steps"}, "steps"),
    ("Kubernetes HPA, behavior", {"behavior", "controller_downscale_window_s", "steps"}, "steps"),
    ("Kubernetes HPA, one metric", {"kind", "target", "tol_up", "tol_down", "out"}, None),
    ("Kubernetes quantity", {"s"}, None),
    ("Knative autoscaler", {"decider", "events", "stable_window_s"}, "events"),
    ("Knative windows", {"window_s", "granularity_s", "ops"}, "ops"),
    ("Knative scaler", {"pa_state", "decider_desired", "out"}, None),
    ("KEDA executor", {"spec", "created_ms", "steps"}, "steps"),
    ("KEDA fallback", {"scaling_modifiers", "calls"}, "calls"),
    ("KEDA formula", {"formula", "values_milli"}, None),
]

SCALING: dict[str, Callable[[list[Record]], Result]] = {
    "Kubernetes HPA, whole reconcile": hpa.reconcile,
    "Kubernetes HPA, behavior": hpa.behavior,
    "Kubernetes HPA, one metric": hpa.metric,
    "Kubernetes quantity": hpa.quantity,
    "Knative autoscaler": knative.autoscaler,
    "Knative windows": knative.windows,
    "Knative scaler": knative.scaler,
    "KEDA executor": keda.executor,
    "KEDA fallback": keda.fallback,
    "KEDA formula": keda.formula,
}


def replay(document: Any) -> Result:
    """Replay a loaded recording through aibalance; UnreadableError when it is none that is known here."""
    if isinstance(document, dict):
        if "about" in document:
            return _proxy(document)
        if "family_rules" in document:
            cases(document)
            try:
                return cloud.replay(document)
            except KeyError as missing:
                raise UnreadableError(f"a case lacks {missing}") from None
        if "meta" in document:
            return _theory(document)
        document = [document]  # JSON lines with a single record
    if isinstance(document, list) and document:
        return _autoscaling([Record(f"record {i}", record) for i, record in enumerate(document)])
    raise UnreadableError("not a recording: expected `about`, `meta` or `family_rules` beside `cases`, or records")


def _proxy(document: dict[str, Any]) -> Result:
    about = Record("about", document["about"])
    system, algorithm = about.text("system").split()[0], about.text("algorithm")
    if system not in PROXIES:
        raise UnreadableError(f"about: system: {system!r} is not one of {', '.join(sorted(PROXIES))}")
    found = cases(document)
    for (known, start), adapter in REPLAYED.items():
        # Not a mere prefix: "RING_HASH / MAGLEV with hash_balance_factor" is another algorithm.
        if system == known and (algorithm == start or algorithm.startswith((f"{start} on ", f"{start} ("))):
            return adapter(document)
    return Result(unsupported=sum(_decisions(case) for case in found))


def _theory(document: dict[str, Any]) -> Result:
    Record("meta", document["meta"]).text("what")
    found = cases(document)
    for case in found:
        case.text("id")
    if all("weights" in case and "smooth" in case.record("ref") for case in found):
        return theory.wrr_sequences(document)
    if all("window" in case for case in found):
        return health.slow_start_theory(document)
    if all("algo" in case for case in found):
        return hashing.hash_vectors(document)
    if all("flavour" in case for case in found):
        return load.ewma(document)
    try:
        if all("kind" in case and ("arrivals" in case or "xs" in case) for case in found):
            return scaling_theory.signals(document)
        if all("params" in case and "ctl" in case.record("params") for case in found):
            return scaling_theory.autoscale_loop(document)
        if all("detect" in case or "growth" in case or case.text("id").startswith("loop_gain") for case in found):
            return scaling_theory.autoscale_fluid(document)
        if all("n_spot" in case or "slo" in case or "run_seconds" in case for case in found):
            return scaling_theory.cost_spot(document)
    except KeyError as missing:
        raise UnreadableError(f"a case lacks {missing}") from None
    for fields, values, adapter in BALANCE:
        if all(fields <= case.names() and values <= case.record("ref").names() for case in found):
            return adapter(document)
    adapters = [adapter for checker in QUEUES if (adapter := checker(found)) is not None]
    if adapters:
        return _together([adapter(document) for adapter in adapters])
    return Result(unsupported=len(found))


def _together(parts: list[Result]) -> Result:
    """What several adapters found in one file."""
    out = Result()
    for part in parts:
        out.matched += part.matched
        out.total += part.total
        out.unsupported += part.unsupported
        out.first_mismatch = out.first_mismatch or part.first_mismatch
        out.bound = out.bound or part.bound
    return out


def _autoscaling(records: list[Record]) -> Result:
    for name, keys, decisions in AUTOSCALING:
        if all(key in record for record in records for key in keys):
            count = len(records)
            if decisions is not None:
                count = sum(len(record.items(decisions, dict)) for record in records)
            if not count:
                raise UnreadableError(f"{name}: {decisions}: no decision in the whole file")
            return _scaling(SCALING[name], records) if name in SCALING else Result(unsupported=count)
    raise UnreadableError("not a recording that is known here: the records have the keys of none")


def _scaling(adapter: Callable[[list[Record]], Result], records: list[Record]) -> Result:
    try:
        return adapter(records)
    except KeyError as missing:
        raise UnreadableError(f"a record lacks {missing}") from None
    except (AttributeError, TypeError, ValueError) as wrong:
        raise UnreadableError(f"a record is not as it should be: {wrong}") from None


def _decisions(case: Record) -> int:
    """How many decisions a case records."""
    if case.has("picks"):
        return len(case.items("picks", int, str, list))
    if case.has("runs"):
        return sum(len(run) for run in case.items("runs", list))
    if case.has("ops"):
        return sum(1 for op in case.items("ops", int, str, list) if not (isinstance(op, list) and op[:1] == ["end"]))
    return 1
