"""`aibalance keda`: a policy as an external scaler of KEDA."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from .._errors import AibalanceError, ConfigError
from .._extras import need
from . import options, policies
from .recommend import seconds

__all__ = ["add", "run"]

_EPILOG = """\
The ScaledObject's trigger is of type external or external-push, with scalerAddress HOST:PORT and metricType
AverageValue. Every ScaledObject gets the same answer: run one scaler for each policy. While Prometheus does not answer,
KEDA is told that nothing is known, and its fallback decides.
"""


def add(commands: Any) -> None:
    """Add the command to argparse's subcommands."""
    parser = commands.add_parser(
        "keda",
        help="serve a scaling policy to KEDA, as an external scaler",
        description="Ask a scaling policy again and again, over metrics of a Prometheus, and tell KEDA what it says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("policy", metavar="POLICY", help=policies.HELP)
    parser.add_argument("--prometheus", metavar="URL", required=True, help="where the metrics are")
    parser.add_argument(
        "--query",
        metavar="[NAME=]PROMQL",
        action="append",
        required=True,
        help="a metric: its name in the policy (may be left out where that reads only one) and a query for one series",
    )
    parser.add_argument("--servers-query", metavar="PROMQL", required=True, help="a query for the servers in service")
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:9090", help="(127.0.0.1:9090)")
    parser.add_argument("--every", metavar="S", type=seconds, default=15.0, help="seconds between decisions (15)")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain (PEM); without it there is no TLS")
    parser.add_argument("--tls-key", metavar="FILE", help="its key (PEM)")
    parser.add_argument(
        "--tls-client-ca", metavar="FILE", help="clients must have a certificate of this authority (PEM)"
    )
    parser.add_argument("--metrics", metavar="HOST:PORT", help="metrics of the policy for Prometheus (none)")
    parser.add_argument("--quiet", action="store_true", help="no notes on stderr")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    if not given.every > 0:
        raise ConfigError("--every: 0 is not allowed; seconds above 0")
    named = policies.read(given.policy)
    queries = _queries(given.query, named.policy)
    credentials = _credentials(given)
    decided = _Decided(named, given, queries)
    if given.metrics is not None:
        from ..integrations._metrics_page import metrics_address

        metrics_address(given.metrics)
    # Imported before the first decision, which may be stale when a slow machine has read all of gRPC.
    need("grpc.aio", "keda")
    decided.look()  # what is wrong with the queries is wrong now
    asyncio.run(_serve(given, decided, credentials))
    return 0


class _Decided:
    """The last decision, and when it was made."""

    def __init__(self, named: policies.Named, given: argparse.Namespace, queries: list[tuple[str, str]]) -> None:
        self.shown: dict[str, Any] = {}
        self._policy = named.policy
        if given.metrics is not None:
            from ..integrations.prometheus import WatchedPolicy

            self._policy = WatchedPolicy(named.policy)
            self.shown[named.name] = self._policy
        self._given = given
        self._queries = queries
        self._desired: int | None = None
        self._at = float("-inf")

    def look(self) -> int | None:
        """Reads the metrics and decides anew."""
        from .series import of_prometheus

        now = time.time()
        read = of_prometheus(
            self._given.prometheus,
            self._queries,
            start=now,
            end=now,
            step=1.0,
            servers=self._given.servers_query,
            timeout=max(1.0, min(self._given.every, 10.0)),
        )
        sample = read.samples[-1]
        if sample.current is None:
            raise ConfigError("--servers-query: Prometheus knows nothing of it")
        answer = self._policy.recommend({"current": sample.current, "metrics": sample.metrics}, now=now)
        if answer.action != "insufficient_data":
            self._desired, self._at = answer.desired, time.monotonic()
        return self._desired

    def now(self, _: object) -> int | None:
        """For KEDA: None when the last decision is older than three intervals."""
        return self._desired if time.monotonic() - self._at <= 3 * self._given.every else None


async def _serve(given: argparse.Namespace, decided: _Decided, credentials: Any) -> None:
    from ..integrations._metrics_page import metrics_page
    from ..integrations.prometheus import AibalanceCollector

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with metrics_page(given.metrics, [AibalanceCollector(policies=decided.shown)]) as page:
        if page is not None:
            options.note(given, f"metrics at port {page}")
        await _answer(given, decided, credentials, stop)


async def _answer(given: argparse.Namespace, decided: _Decided, credentials: Any, stop: asyncio.Event) -> None:
    from ..integrations.keda import KedaScaler

    async with KedaScaler(decided.now).serve(given.listen, credentials=credentials) as serving:
        host = given.listen.rpartition(":")[0]
        options.note(given, f"listening on {host}:{serving.port}")
        said = ""
        while not stop.is_set():
            try:
                desired = await asyncio.to_thread(decided.look)
                problem = ""
            except AibalanceError as error:
                problem = str(error)
            if problem != said:
                options.note(given, problem or f"well again: {desired} servers")
                said = problem
            try:
                await asyncio.wait_for(stop.wait(), given.every)
            except TimeoutError:
                continue


def _queries(given: list[str], policy: Any) -> list[tuple[str, str]]:
    from ..autoscaling._aims import aims, also

    names = [aim.metric for aim in aims(policy)]
    known = [*names, *also(policy)]
    found = []
    for text in given:
        name, equals, query = text.partition("=")
        if not equals or name.strip() not in known:
            if len(set(names)) != 1:
                raise ConfigError(f"--query: {text!r} is not allowed; NAME=PROMQL, of {', '.join(map(str, known))}")
            name, query = names[0], text
        found.append((name.strip(), query))
    return found


def _credentials(given: argparse.Namespace) -> Any:
    if given.tls_cert is None and given.tls_key is None and given.tls_client_ca is None:
        return None
    if given.tls_cert is None or given.tls_key is None:
        raise ConfigError("--tls-cert: needs --tls-key, and the other way round")

    def read(option: str, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{option}: {path}: {error.strerror}") from None

    chain, key = read("--tls-cert", given.tls_cert), read("--tls-key", given.tls_key)
    ca = None if given.tls_client_ca is None else read("--tls-client-ca", given.tls_client_ca)
    return need("grpc", "keda").ssl_server_credentials(
        [(key, chain)], root_certificates=ca, require_client_auth=ca is not None
    )
