"""A bootstrap for Envoy that works, to start from."""

from __future__ import annotations

import os
from typing import Any, Literal

from .. import ConfigError, Pool
from ._eds import ip_address, load_assignment

DESTINATION = "x-gateway-destination-endpoint"
NAMESPACE = "envoy.lb"
_V3 = "type.googleapis.com/envoy.extensions"


def envoy_config(
    pool: Pool,
    /,
    *,
    picker: str | None = "127.0.0.1:9002",
    mode: Literal["override_host", "original_dst"] = "override_host",
    endpoints: str | os.PathLike[str] = "static",
    listen: str = "127.0.0.1:10000",
    admin: str | None = None,
    cluster: str = "fleet",
    failure_mode_allow: bool | None = None,
    message_timeout: float = 1.0,
    retries: int = 2,
) -> dict[str, Any]:
    """An Envoy bootstrap as a mapping: write it with `json.dump`, and start `envoy -c FILE`.

    `picker` ("127.0.0.1:9002") is where an EndpointPicker is served; None sends by the endpoints' weights alone. `mode`
    ("override_host") says how its answer is taken: "override_host" knows lists and falls back on round robin over the
    endpoints that Envoy knows; "original_dst" goes to a single address, known or not. `endpoints` ("static") is where
    Envoy has its endpoints from: the pool as it is now, "ads" (an EdsPublisher that is served at `picker`, or at the
    address in "ads:ADDRESS"), or the path of a file that `write_eds_file` writes. `listen`, `admin` (None: no admin)
    are `ip:port`; `cluster` is the cluster's name, and the resource's in EDS. `failure_mode_allow` (None: with
    "override_host") lets requests through when the picker fails. `message_timeout` (1.0) is how many seconds the picker
    has for an answer, `retries` (2) how often Envoy tries again: after a failed connection or 429, and after a 5xx or a
    connection that breaks where the method may be sent twice (GET, HEAD, OPTIONS, PUT, DELETE).

    A header `x-gateway-destination-endpoint` that a client sends is removed. Raises ConfigError.

    >>> config = envoy_config(Pool(["10.0.0.1:80"]), admin="127.0.0.1:9901")
    >>> config["static_resources"]["clusters"][0]["name"]
    'fleet'
    """
    if mode not in ("override_host", "original_dst"):
        raise ConfigError(f"mode: {mode!r} is not allowed; 'override_host' or 'original_dst'")
    if mode == "original_dst" and picker is None:
        raise ConfigError("picker: None is not allowed with mode='original_dst'; an address")
    tries: Any = retries
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 0:
        raise ConfigError(f"retries: {retries!r} is not allowed; a whole number from 0 on")
    given: Any = message_timeout
    if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < 1e6:
        raise ConfigError(f"message_timeout: {message_timeout!r} is not allowed; seconds, more than 0")
    lenient = mode == "override_host" if failure_mode_allow is None else failure_mode_allow
    where = os.fspath(endpoints)
    ads = where == "ads" or where.startswith("ads:")
    server = where.removeprefix("ads:") if where.startswith("ads:") else picker
    if ads and server is None:
        raise ConfigError("endpoints: 'ads' is not allowed without a picker; 'ads:ADDRESS'")
    clusters = [_fleet(pool, cluster, mode if picker else None, where, ads)]
    config: dict[str, Any] = {
        "node": {"id": "aibalance", "cluster": "aibalance"},
        "static_resources": {
            "listeners": [_listener(listen, cluster, picker, lenient, message_timeout, retries)],
            "clusters": clusters,
        },
    }
    if picker is not None:
        clusters.append(_grpc("picker", picker))
    if ads and mode != "original_dst":
        name = "picker"
        if server != picker:
            name = "eds"
            clusters.append(_grpc(name, str(server)))
        service = {"envoy_grpc": {"cluster_name": name}}
        config["dynamic_resources"] = {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
        }
    if admin is not None:
        config["admin"] = {"address": _address(admin)}
    return config


def _address(text: str) -> dict[str, Any]:
    host, port = ip_address(text)
    return {"socket_address": {"address": host, "port_value": port}}


def _grpc(name: str, address: str) -> dict[str, Any]:
    options = {
        "@type": f"{_V3}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": BREAKERS,
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(address)}}]}],
        },
    }


def _fleet(pool: Pool, name: str, mode: str | None, where: str, ads: bool) -> dict[str, Any]:
    if mode == "original_dst":
        return {
            "name": name,
            "type": "ORIGINAL_DST",
            "connect_timeout": "1s",
            "lb_policy": "CLUSTER_PROVIDED",
            "circuit_breakers": BREAKERS,
            "original_dst_lb_config": {"use_http_header": True, "http_header_name": DESTINATION},
        }
    fleet: dict[str, Any] = {"name": name, "connect_timeout": "1s", "circuit_breakers": BREAKERS}
    if where == "static":
        fleet |= {"type": "STATIC", "load_assignment": load_assignment(name, pool)}
    elif ads:
        fleet |= {
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
        }
    else:
        folder = os.path.dirname(os.path.abspath(where))
        source = {"path": os.path.abspath(where), "watched_directory": {"path": folder}}
        fleet |= {
            "type": "EDS",
            "eds_cluster_config": {"eds_config": {"path_config_source": source, "resource_api_version": "V3"}},
        }
    spread = {"name": "envoy.load_balancing_policies.round_robin"}
    spread_config = {"@type": f"{_V3}.load_balancing_policies.round_robin.v3.RoundRobin"}
    fallback = {"policies": [{"typed_extension_config": {**spread, "typed_config": spread_config}}]}
    if mode is None:
        fleet["load_balancing_policy"] = fallback
    else:
        override = {
            "@type": f"{_V3}.load_balancing_policies.override_host.v3.OverrideHost",
            "override_host_sources": [{"metadata": {"key": NAMESPACE, "path": [{"key": DESTINATION}]}}],
            "fallback_policy": fallback,
        }
        policy = {"name": "envoy.load_balancing_policies.override_host", "typed_config": override}
        fleet["load_balancing_policy"] = {"policies": [{"typed_extension_config": policy}]}
    return fleet


def _listener(
    listen: str, cluster: str, picker: str | None, lenient: bool, message_timeout: float, retries: int
) -> dict[str, Any]:
    filters: list[dict[str, Any]] = []
    if picker is not None:
        process = {
            "@type": f"{_V3}.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}, "timeout": f"{message_timeout:g}s"},
            "message_timeout": f"{message_timeout:g}s",
            "failure_mode_allow": lenient,
            # Trailers keep the stream open to the end of the answer, without a message for each piece of it.
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "NONE",
                "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP",
                "response_trailer_mode": "SEND",
            },
            "response_attributes": ["upstream.address", "response.code"],
            "metadata_options": {
                "forwarding_namespaces": {"untyped": [NAMESPACE, "envoy.lb.subset_hint"]},
                "receiving_namespaces": {"untyped": [NAMESPACE]},
            },
        }
        filters.append({"name": "envoy.filters.http.ext_proc", "typed_config": process})
    router = {"@type": f"{_V3}.filters.http.router.v3.Router"}
    filters.append({"name": "envoy.filters.http.router", "typed_config": router})
    removal = {
        "@type": f"{_V3}.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [{"remove": DESTINATION}],
    }
    manager = {
        "@type": f"{_V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "aibalance",
        "normalize_path": True,
        "early_header_mutation_extensions": [
            {"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": removal}
        ],
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes(cluster, retries)}]},
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {"name": "all", "address": _address(listen), "filter_chains": [chain]}


# Limits are the pool's (max_inflight). Envoy's own would refuse whatever is beyond 1024 streams, without a word to the
# picker, and all but 3 of the retries that a server's death makes due at once.
BREAKERS = {
    "thresholds": [
        {
            "max_connections": 1_000_000,
            "max_pending_requests": 1_000_000,
            "max_requests": 1_000_000,
            "retry_budget": {"budget_percent": {"value": 20}, "min_retry_concurrency": 20},
        }
    ]
}
# May be sent twice (RFC 9110, section 9.2.2).
IDEMPOTENT = "GET|HEAD|OPTIONS|PUT|DELETE"


def _routes(cluster: str, retries: int) -> list[dict[str, Any]]:
    """All to one cluster; what may be sent twice is, after more kinds of failure."""
    route: dict[str, Any] = {"cluster": cluster, "timeout": "0s"}
    if not retries:
        return [{"match": {"prefix": "/"}, "route": route}]
    previous = f"{_V3}.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    elsewhere = {
        "num_retries": retries,
        # Where Envoy's own policy decides, it may otherwise choose the one that has just failed.
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": previous}}
        ],
        "host_selection_retry_max_attempts": 5,
    }
    full = {"retriable_status_codes": [429], **elsewhere}
    twice = {"retry_on": "5xx,connect-failure,retriable-status-codes", **full}
    # Only what no endpoint has begun with.
    once = {"retry_on": "connect-failure,refused-stream,retriable-status-codes", **full}
    method = {"name": ":method", "string_match": {"safe_regex": {"regex": IDEMPOTENT}}}
    return [
        {"match": {"prefix": "/", "headers": [method]}, "route": {**route, "retry_policy": twice}},
        {"match": {"prefix": "/"}, "route": {**route, "retry_policy": once}},
    ]
