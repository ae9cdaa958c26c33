"""Envoy: clusters and their endpoints are pools. YAML or JSON: a bootstrap, a discovery response, or one cluster.

Source: Envoy 1.40, config.cluster.v3 and config.endpoint.v3. Fields in camelCase are those of protobuf's JSON.
"""

from __future__ import annotations

import re
from typing import Any

from .._core import SlowStart
from .._errors import ConfigError
from ..passive import OutlierDetection
from ._fields import ignore, items, need, number, seconds, table, text, truth, where, whole
from ._fields import read as known_fields
from ._yaml import Node
from .model import HealthCheckConfig, PickerConfig, PoolConfig, Remark, Report, ServerConfig

__all__ = ["is_envoy", "read"]

TOP = {"static_resources", "resources", "lb_policy", "load_assignment", "@type", "admin", "endpoints"}
LISTENERS = "listeners and their routes are the proxy's: only clusters are read"
CLUSTER = table(
    "name",
    "lb_policy",
    "load_assignment",
    "connect_timeout",
    "round_robin_lb_config",
    "least_request_lb_config",
    "ring_hash_lb_config",
    "maglev_lb_config",
    "common_lb_config",
    "outlier_detection",
    "health_checks",
    "type",
    "load_balancing_policy",
    **{
        "@type": "",
        **dict.fromkeys(("alt_stat_name", "metadata", "track_cluster_stats"), "statistics decide nothing"),
        **dict.fromkeys(
            (
                "typed_extension_protocol_options",
                "http_protocol_options",
                "http2_protocol_options",
                "common_http_protocol_options",
                "upstream_connection_options",
                "per_connection_buffer_limit_bytes",
                "upstream_bind_config",
                "protocol_selection",
                "max_requests_per_connection",
                "filters",
                "preconnect_policy",
                "connection_pool_per_downstream_connection",
                "close_connections_on_host_health_failure",
                "ignore_health_on_host_removal",
            ),
            "connections are the caller's",
        ),
        **dict.fromkeys(("transport_socket", "transport_socket_matches"), "TLS is the proxy's"),
        **dict.fromkeys(
            (
                "dns_lookup_family",
                "dns_refresh_rate",
                "dns_resolvers",
                "dns_failure_refresh_rate",
                "respect_dns_ttl",
                "use_tcp_for_dns_lookups",
                "typed_dns_resolver_config",
                "dns_jitter",
                "cleanup_interval",
                "eds_cluster_config",
                "wait_for_warm_on_init",
            ),
            "where addresses come from decides nothing",
        ),
        "circuit_breakers": "limits of a whole cluster are not there: max_inflight is an endpoint's",
        "cluster_type": "where addresses come from decides nothing",
    },
)
NOT_THERE = ["lb_subset_config", "original_dst_lb_config"]
# Names of extensions that are load balancing policies, and of the field that says the same.
EXTENSIONS = {
    "RoundRobin": "ROUND_ROBIN",
    "LeastRequest": "LEAST_REQUEST",
    "RingHash": "RING_HASH",
    "Maglev": "MAGLEV",
    "Random": "RANDOM",
}
POLICIES = {
    "ROUND_ROBIN": "round_robin_lb_config",
    "LEAST_REQUEST": "least_request_lb_config",
    "RING_HASH": "ring_hash_lb_config",
    "MAGLEV": "maglev_lb_config",
    "RANDOM": "",
}
KEY = "hash_policy"


def is_envoy(top: Node) -> bool:
    """Whether a document is Envoy's."""
    if not isinstance(top.value, dict) or "kind" in top.value:
        return False
    return bool(TOP & {_snake(key) for key in top.value})


def _snake(name: str) -> str:
    return name if name.startswith("@") else re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: "_" + m[1].lower(), name)


def _snaked(node: Node) -> Node:
    """The document with fields as protobuf has them."""
    if isinstance(node.value, dict):
        fields: dict[str, Node] = {}
        for key, child in node.value.items():
            if _snake(key) in fields:
                raise node.fail("the field is there twice", node.keys.get(key), node.below(key))
            fields[_snake(key)] = _snaked(child)
        return Node(fields, node.line, node.path, node.source, {_snake(k): v for k, v in node.keys.items()})
    if isinstance(node.value, list):
        return Node([_snaked(one) for one in node.value], node.line, node.path, node.source)
    return node


def read(top: Node, report: Report) -> None:
    """Reads a document into the report."""
    top = _snaked(top)
    clusters: list[Node] = []
    assignments: dict[str, Node] = {}

    def take(node: Node) -> None:
        if not isinstance(node.value, dict):
            raise node.fail(f"{node.shown()} is not allowed; an object is needed")
        kind = str(node.value["@type"].value) if "@type" in node.value else ""
        if kind.endswith("ClusterLoadAssignment") or "cluster_name" in node.value:
            assignments[text(need(node, node.value, "cluster_name"))] = node
        elif kind.endswith(".Cluster") or (not kind and {"lb_policy", "load_assignment"} & node.value.keys()):
            clusters.append(node)
        else:
            ignore(report, node, LISTENERS)

    if "static_resources" in top.value:
        for key, node in top.value.items():
            if key != "static_resources":
                ignore(report, node, "how Envoy runs decides nothing", top.keys.get(key))
        static = top.value["static_resources"]
        for key, node in static.value.items() if isinstance(static.value, dict) else ():
            if key == "clusters":
                clusters += items(node)
            else:
                ignore(report, node, LISTENERS, static.keys.get(key))
    elif "resources" in top.value:
        for node in items(top.value["resources"]):
            report.guard(where(node), lambda n=node: take(n))  # type: ignore[misc]
    else:
        take(top)
    used: set[str] = set()
    for node in clusters:
        report.guard(where(node), lambda n=node: report.pools.append(_cluster(n, assignments, used, report)))  # type: ignore[misc]
    for name, node in assignments.items():
        if name not in used:

            def alone(name: str = name, node: Node = node) -> None:
                servers, options = _assignment(node, report, weighted=True)
                report.pools.append(
                    PoolConfig(
                        name=name,
                        servers=servers,
                        picker=PickerConfig(options={"schedule": "edf"}),
                        where=where(node),
                        **options,
                    )
                )
                said = "has no cluster in this file: round robin, as Envoy's default"
                report.approximated.append(Remark(where(node), name, said))

            report.guard(where(node), alone)


def _cluster(node: Node, assignments: dict[str, Node], used: set[str], report: Report) -> PoolConfig:
    fields = read_cluster(node, report)
    name = text(need(node, fields, "name"))
    if any(pool.name == name for pool in report.pools):
        raise fields["name"].fail(f"{name!r} is there twice")
    policy = fields["lb_policy"].one_of({k: k for k in POLICIES}) if "lb_policy" in fields else "ROUND_ROBIN"
    for other, part in POLICIES.items():
        if part in fields and other != policy:
            raise fields[part].fail(f"the policy is {policy}, which this is not for")
    section = fields.get(POLICIES[policy])
    common: dict[str, Node] = {}
    if "common_lb_config" in fields:
        known = table(
            "healthy_panic_threshold",
            "locality_weighted_lb_config",
            "consistent_hashing_lb_config",
            zone_aware_lb_config="the own zone is said where the pool is made: local_zone",
            update_merge_window="when changes are taken up decides nothing",
            close_connections_on_host_set_change="connections are the caller's",
            ignore_new_hosts_until_first_hc="who begins unhealthy is the checker's",
            override_host_status="sessions: see aibalance.routing.Sticky",
        )
        common = known_fields(fields["common_lb_config"], known, report)
    extended = False
    if "load_balancing_policy" in fields:
        policy, section = _extension(fields["load_balancing_policy"], report)
        extended = True
        for key in ("consistent_hashing_lb_config", "locality_lb_config"):
            part = section.value.pop(key, None)
            if part is not None and key == "locality_lb_config":
                words = table(
                    "locality_weighted_lb_config", zone_aware_lb_config="said where the pool is made: local_zone"
                )
                common |= known_fields(part, words, report)
            elif part is not None:
                common[key] = part
    picker, slow_start = _picker(policy, section, common, report, extended=extended)
    options: dict[str, Any] = {}
    given = fields.get("load_assignment") or assignments.get(name)
    servers: tuple[ServerConfig, ...] = ()
    if given is not None:
        used.add(name)
        servers, options = _assignment(given, report, weighted=policy != "RANDOM")
    if "locality_weighted_lb_config" not in common:
        options.pop("zone_weights", None)
    if "healthy_panic_threshold" in common:
        place = common["healthy_panic_threshold"]
        inner = known_fields(place, table("value"), report)
        options["panic_threshold"] = number(inner["value"], 0, 100) / 100 if "value" in inner else 0.0
    if "outlier_detection" in fields:
        options["outliers"] = _outliers(fields["outlier_detection"], report)
    if "health_checks" in fields:
        checks = items(fields["health_checks"])
        if checks:
            options["health"] = _health(checks[0], report)
        for one in checks[1:]:
            raise one.fail("a second health check is not there; one")
    if "connect_timeout" in fields:
        options["connect_timeout"] = seconds(fields["connect_timeout"])
    if "type" in fields:
        ignore(report, fields["type"], "where addresses come from decides nothing")
    pool = PoolConfig(name=name, servers=servers, picker=picker, slow_start=slow_start, where=where(node), **options)
    try:
        pool.build()
    except ConfigError as error:
        raise node.fail(str(error)) from None
    return pool


def read_cluster(node: Node, report: Report) -> dict[str, Node]:
    """The fields of a cluster."""
    if isinstance(node.value, dict):
        for key in NOT_THERE:
            if key in node.value:
                raise node.value[key].fail("is not there; lb_policy and its options")
    return known_fields(node, CLUSTER, report)


def _picker(
    policy: str, section: Node | None, common: dict[str, Node], report: Report, *, extended: bool
) -> tuple[PickerConfig, SlowStart | None]:
    options: dict[str, Any] = {}
    slow_start = None
    known = {
        "ROUND_ROBIN": table("slow_start_config"),
        "LEAST_REQUEST": table("choice_count", "active_request_bias", "slow_start_config"),
        "RING_HASH": table("minimum_ring_size", "maximum_ring_size", "hash_function"),
        "MAGLEV": table("table_size"),
        "RANDOM": {},
    }[policy]
    if extended:
        # Only the extension has it, and there the sections' own fields are the same.
        known = {**known, "@type": "", **({"selection_method": ""} if policy == "LEAST_REQUEST" else {})}
    fields = known_fields(section, known, report) if section is not None else {}
    if "slow_start_config" in fields:
        slow_start = _slow_start(fields["slow_start_config"], report)
    bounded: dict[str, Any] = {}
    if "consistent_hashing_lb_config" in common:
        place = common["consistent_hashing_lb_config"]
        if policy not in ("RING_HASH", "MAGLEV"):
            raise place.fail(f"the policy is {policy}, which this is not for")
        words = table(
            "hash_balance_factor", use_hostname_for_hashing="names are placed by what the endpoint's hash_key says"
        )
        inner = known_fields(place, words, report)
        if "hash_balance_factor" in inner and whole(inner["hash_balance_factor"]):
            bounded["bounded_load"] = whole(inner["hash_balance_factor"], 100, 65535) / 100
    match policy:
        case "ROUND_ROBIN":
            return PickerConfig(options={"schedule": "edf"}), slow_start
        case "LEAST_REQUEST":
            options = {"schedule": "edf", "replace": True, "score": "before", "ties": "first"}
            if "selection_method" in fields:
                methods: dict[str, Any] = {"N_CHOICES": "n", "FULL_SCAN": "full"}
                if fields["selection_method"].one_of(methods) == "full":
                    options = {"schedule": "edf", "full_scan": True, "score": "before"}
            if "choice_count" in fields and "full_scan" not in options:
                options["choices"] = whole(fields["choice_count"], 2, 64)
            if "active_request_bias" in fields:
                bias = known_fields(
                    fields["active_request_bias"], table("default_value", runtime_key="Envoy's run time"), report
                )
                options["bias"] = float(number(bias["default_value"], 0)) if "default_value" in bias else 1.0
            return PickerConfig(name="LeastRequest", options=options), slow_start
        case "RING_HASH":
            options["min_size"] = _size(fields, "minimum_ring_size", 1024)
            if "maximum_ring_size" in fields:
                options["max_size"] = _size(fields, "maximum_ring_size", 8388608)
            if "hash_function" in fields:
                options["hash"] = fields["hash_function"].one_of({"XX_HASH": "xxh64", "MURMUR_HASH_2": "murmur2"})
            return PickerConfig(name="RingHash", options={**options, **bounded}, key=KEY), None
        case "MAGLEV":
            if "table_size" in fields:
                options["table_size"] = _size(fields, "table_size", 65537)
            return PickerConfig(name="Maglev", options={**options, **bounded}, key=KEY), None
    return PickerConfig(name="WeightedRandom"), None


def _extension(node: Node, report: Report) -> tuple[str, Node]:
    """The first policy of a list that is one of ours, as Envoy takes the first that it knows."""
    fields = known_fields(node, table("policies"), report)
    for one in items(need(node, fields, "policies")):
        inner = known_fields(one, table("typed_extension_config"), report)
        place = need(one, inner, "typed_extension_config")
        typed = known_fields(place, table("name", "typed_config"), report)
        config = need(place, typed, "typed_config")
        if not isinstance(config.value, dict):
            raise config.fail(f"{config.shown()} is not allowed; an object is needed")
        kind = text(need(config, config.value, "@type")).rpartition(".")[2]
        if kind in EXTENSIONS:
            return EXTENSIONS[kind], config
    raise node.fail(f"none of its policies is there; {', '.join(EXTENSIONS)} are")


def _size(fields: dict[str, Node], key: str, default: int) -> int:
    return whole(fields[key], 1, 8388608) if key in fields else default


def _slow_start(node: Node, report: Report) -> SlowStart:
    fields = known_fields(node, table("slow_start_window", "aggression", "min_weight_percent"), report)
    options: dict[str, Any] = {}
    if "aggression" in fields:
        inner = known_fields(fields["aggression"], table("default_value", runtime_key="Envoy's run time"), report)
        if "default_value" in inner:
            options["aggression"] = float(number(inner["default_value"], 0))
    if "min_weight_percent" in fields:
        inner = known_fields(fields["min_weight_percent"], table("value"), report)
        options["min_weight"] = number(inner["value"], 0, 100) / 100 if "value" in inner else 0.0
    try:
        return SlowStart(seconds(need(node, fields, "slow_start_window")), **options)
    except ConfigError as error:
        raise node.fail(str(error)) from None


def _assignment(node: Node, report: Report, *, weighted: bool) -> tuple[tuple[ServerConfig, ...], dict[str, Any]]:
    known = table("cluster_name", "endpoints", "policy", named_endpoints="endpoints are written out", **{"@type": ""})
    fields = known_fields(node, known, report)
    servers: list[ServerConfig] = []
    zones: dict[str, float] = {}
    options: dict[str, Any] = {}
    for locality in items(fields["endpoints"]) if "endpoints" in fields else []:
        words = table(
            "locality",
            "lb_endpoints",
            "load_balancing_weight",
            "priority",
            proximity="has no effect in Envoy",
            metadata="labels decide nothing",
        )
        inner = known_fields(locality, words, report)
        zone = ""
        if "locality" in inner:
            part = known_fields(inner["locality"], table("zone", "region", "sub_zone"), report)
            zone = "/".join(text(part[key]) for key in ("region", "zone", "sub_zone") if key in part)
        priority = whole(inner["priority"], 0, 128) if "priority" in inner else 0
        if "load_balancing_weight" in inner:
            zones[zone] = float(whole(inner["load_balancing_weight"], 1))
        for one in items(inner["lb_endpoints"]) if "lb_endpoints" in inner else []:
            servers.append(_endpoint(one, zone, priority, servers, report, weighted=weighted))
    if zones:
        options["zone_weights"] = zones
    if "policy" in fields:
        words = table(
            "overprovisioning_factor",
            drop_overloads="requests that are dropped by share are the caller's",
            endpoint_stale_after="how long endpoints are believed is the caller's",
            weighted_priority_health="health is counted by endpoints",
        )
        inner = known_fields(fields["policy"], words, report)
        if "overprovisioning_factor" in inner:
            options["overprovisioning_factor"] = whole(inner["overprovisioning_factor"], 100) / 100
    return tuple(servers), options


def _endpoint(
    node: Node, zone: str, priority: int, others: list[ServerConfig], report: Report, *, weighted: bool
) -> ServerConfig:
    known = table("endpoint", "health_status", "load_balancing_weight", metadata="labels decide nothing")
    fields = known_fields(node, known, report, ["endpoint_name"])
    endpoint = need(node, fields, "endpoint")
    words = table(
        "address",
        "hostname",
        health_check_config="where checks go is said where the checker is made",
        additional_addresses="one address is tried",
    )
    inner = known_fields(endpoint, words, report)
    if "hostname" in inner:
        ignore(report, inner["hostname"], "the name for the server decides nothing")
    place = need(endpoint, inner, "address")
    kinds = known_fields(place, table("socket_address", "pipe"), report, ["envoy_internal_address"])
    if "pipe" in kinds:
        pipe = known_fields(kinds["pipe"], table("path", mode="sockets are the proxy's"), report)
        address = text(need(kinds["pipe"], pipe, "path"))
    else:
        socket = need(place, kinds, "socket_address")
        port = known_fields(
            socket, table("address", "port_value", "protocol", resolver_name="names", ipv4_compat="names"), report
        )
        host = text(need(socket, port, "address"))
        address = f"[{host}]" if ":" in host else host
        address += f":{whole(need(socket, port, 'port_value'), 0, 65535)}"
    weight = 1
    if "load_balancing_weight" in fields:
        weight = whole(fields["load_balancing_weight"], 1)
        if not weighted:
            ignore(report, fields["load_balancing_weight"], "RANDOM does not look at weights")
            weight = 1
    down = False
    if "health_status" in fields:
        states: dict[str, Any] = {"UNKNOWN": 0, "HEALTHY": 0, "UNHEALTHY": 1, "DRAINING": 2, "TIMEOUT": 1}
        if fields["health_status"].value == "DEGRADED":
            raise fields["health_status"].fail("'DEGRADED' is not there; pool.set_health(id, \"degraded\") at run time")
        state = fields["health_status"].one_of(states)
        down = state == 1
        if state == 2:
            # Counts on neither side of panic, as weight 0 does here.
            weight = 0
    same = sum(one.address == address for one in others)
    return ServerConfig(
        address=address,
        id=f"{address}#{same + 1}" if same else None,
        weight=weight,
        zone=zone,
        priority=priority,
        down=down,
    )


OUTLIER_SECONDS = ("interval", "base_ejection_time", "max_ejection_time", "max_ejection_time_jitter")
OUTLIER_WHOLE = (
    "max_ejection_percent",
    "consecutive_5xx",
    "enforcing_consecutive_5xx",
    "consecutive_gateway_failure",
    "enforcing_consecutive_gateway_failure",
    "consecutive_local_origin_failure",
    "enforcing_consecutive_local_origin_failure",
    "enforcing_success_rate",
    "enforcing_local_origin_success_rate",
    "success_rate_minimum_hosts",
    "success_rate_request_volume",
    "success_rate_stdev_factor",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
    "failure_percentage_threshold",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
)
OUTLIER_BOOL = (
    "always_eject_one_host",
    "split_external_local_origin_errors",
    "successful_active_health_check_uneject_host",
)


def _outliers(node: Node, report: Report) -> OutlierDetection:
    known = table(
        *OUTLIER_SECONDS,
        *OUTLIER_WHOLE,
        *OUTLIER_BOOL,
        monitors="other monitors are not there",
        detect_degraded_hosts="-",
    )
    fields = known_fields(node, known, report)
    options: dict[str, Any] = {}
    for key, child in fields.items():
        if key in OUTLIER_SECONDS:
            options[key] = seconds(child)
        else:
            options[key] = whole(child) if key in OUTLIER_WHOLE else truth(child)
    for key in ("consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"):
        if options.get(key) == 0:
            options[key] = None
    try:
        return OutlierDetection(**options)
    except ConfigError as error:
        field, _, said = str(error).partition(": ")
        raise fields.get(field, node).fail(said, path=node.below(field)) from None


def _health(node: Node, report: Report) -> HealthCheckConfig:
    known = table(
        "timeout",
        "interval",
        "healthy_threshold",
        "unhealthy_threshold",
        "http_health_check",
        "tcp_health_check",
        "grpc_health_check",
        **dict.fromkeys(
            (
                "initial_jitter",
                "interval_jitter",
                "interval_jitter_percent",
                "no_traffic_interval",
                "no_traffic_healthy_interval",
                "unhealthy_interval",
                "unhealthy_edge_interval",
                "healthy_edge_interval",
            ),
            "the checker has one interval",
        ),
        **dict.fromkeys(
            (
                "reuse_connection",
                "event_log_path",
                "event_logger",
                "tls_options",
                "alt_port",
                "transport_socket_match_criteria",
            ),
            "how it is asked is said where the checker is made",
        ),
        always_log_health_check_failures="logs decide nothing",
        always_log_health_check_success="logs decide nothing",
    )
    fields = known_fields(node, known, report, ["custom_health_check"])
    kinds = [kind for kind in ("http", "tcp", "grpc") if f"{kind}_health_check" in fields]
    if len(kinds) != 1:
        raise node.fail("one of http_health_check, tcp_health_check and grpc_health_check is needed")
    path = None
    if kinds == ["http"]:
        place = fields["http_health_check"]
        how = "how it is asked is said where the checker is made"
        words = (
            "host",
            "request_headers_to_add",
            "request_headers_to_remove",
            "expected_statuses",
            "codec_client_type",
        )
        more = ("method", "service_name_matcher", "send", "receive", "response_buffer_size", "retriable_statuses")
        path = text(
            need(place, known_fields(place, table("path", **dict.fromkeys((*words, *more), how)), report), "path")
        )
    return HealthCheckConfig(
        kind=kinds[0],
        path=path,
        interval=seconds(need(node, fields, "interval")),
        timeout=seconds(need(node, fields, "timeout")),
        healthy_threshold=whole(need(node, fields, "healthy_threshold"), 1),
        unhealthy_threshold=whole(need(node, fields, "unhealthy_threshold"), 1),
    )
