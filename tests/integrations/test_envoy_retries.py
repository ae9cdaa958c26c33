"""What Envoy sends again with our bootstrap, and what it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aibalance import Pool
from aibalance.integrations.envoy import envoy_config

from .backend import backends
from .envoys import ENVOY, envoy, free_ports


def routes(retries: int) -> list[dict[str, object]]:
    config = envoy_config(Pool(["127.0.0.1:1"]), retries=retries)
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, object]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


def test_without_retries_there_is_one_route() -> None:
    assert routes(0) == [{"match": {"prefix": "/"}, "route": {"cluster": "fleet", "timeout": "0s"}}]
    assert len(routes(1)) == 2
    for route in routes(1):
        policy = route["route"]["retry_policy"]  # type: ignore[index]
        assert ("retriable-status-codes" in policy["retry_on"], policy["retriable_status_codes"]) == (True, [429])


@pytest.mark.timeout(60)
@pytest.mark.skipif(ENVOY is None, reason="envoy is not installed (AIBALANCE_ENVOY, or envoy on PATH)")
def test_a_post_is_sent_once_where_nobody_knows_what_became_of_it(tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx")

    async def main() -> None:
        listen, admin, dead = free_ports(3)
        async with backends(2) as servers:
            # One more at whose address nobody listens: what never left is sent again, whatever it is.
            addresses = [server.address for server in servers]
            config = envoy_config(
                Pool([*addresses, f"127.0.0.1:{dead}"]),
                picker=None,
                listen=f"127.0.0.1:{listen}",
                admin=f"127.0.0.1:{admin}",
            )
            async with (
                envoy(config, tmp_path),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{listen}", timeout=15, trust_env=False) as http,
            ):

                async def sent(method: str, target: str) -> tuple[int, int]:
                    before = sum(len(server.seen) for server in servers)
                    answer = await http.request(method, target)
                    return answer.status_code, sum(len(server.seen) for server in servers) - before

                for _ in range(6):
                    assert await sent("POST", "/x") == (200, 1)
                    assert await sent("GET", "/x") == (200, 1)
                for method in ("POST", "PATCH"):
                    for target in ("/drop", "/status/503", "/status/500"):
                        status, times = await sent(method, target)
                        assert (status >= 500, times) == (True, 1), (method, target)
                    # Who says 429 has not begun with it.
                    status, times = await sent(method, "/status/429")
                    assert (status, times >= 2) == (429, True)
                for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
                    status, times = await sent(method, "/status/429")
                    assert (status, times >= 2) == (429, True), method
                    status, times = await sent(method, "/drop")
                    assert (status >= 500, times >= 2) == (True, True), method

    asyncio.run(main())
