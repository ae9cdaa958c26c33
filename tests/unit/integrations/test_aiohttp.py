"""The aiohttp middleware, against servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aibalance import ConfigError, First, Latency, Maglev, NoHealthyEndpointError, OutlierDetection, Pool, RoundRobin
from aibalance.integrations.aiohttp import middleware

from .backends import Say, always, backends, closed_port, inflight, record

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("aiohttp.client_middlewares")


def ask(picker: Any, method: str = "GET", times: int = 1, url: str = "http://models/v1", **options: Any) -> list[Any]:
    """So many requests, one after the other: (status, text) of each."""
    send = {name: options.pop(name) for name in ("data", "json", "headers") if name in options}

    async def main() -> list[Any]:
        async with aiohttp.ClientSession(middlewares=(middleware(picker, **options),)) as session:
            out = []
            for _ in range(times):
                body = {name: value() if callable(value) else value for name, value in send.items()}
                async with session.request(method, url, **body) as response:
                    out.append((response.status, await response.text()))
            return out

    return asyncio.run(main())


def test_requests_take_turns_and_keep_their_host() -> None:
    with backends(always(body=b"a"), always(body=b"b")) as servers:
        pool = Pool([s.address for s in servers])
        assert ask(RoundRobin(pool), "POST", 4, data=b"body") == [(200, "a"), (200, "b")] * 2
        assert {(g.target, g.headers["host"], g.body) for s in servers for g in s.got} == {("/v1", "models", b"body")}
        assert [(r.successes, r.inflight) for r in pool.stats()] == [(2, 0), (2, 0)]


def test_urls_as_addresses() -> None:
    with backends(always()) as (server,):
        url = "http://models/v1/a%2Fb?q=%201&q=2"
        ask(RoundRobin([f"http://{server.address}/base/"]), host="endpoint", url=url)
        assert (server.got[0].target, server.got[0].headers["host"]) == ("/base/v1/a%2Fb?q=%201&q=2", server.address)


async def parts() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def test_a_dead_endpoint_is_passed_over_even_by_an_upload_that_can_be_read_once() -> None:
    with backends(always(body=b"well")) as (server,):
        dead = closed_port()
        pool = Pool([dead, server.address])
        assert ask(First(pool), "POST", data=parts) == [(200, "well")]
        assert server.got[0].body == b"onetwo"
        assert (record(pool, dead).failures, record(pool, server.address).successes, inflight(pool)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("method", "say", "options", "again"),
    [
        ("GET", Say(503), {}, True),
        ("GET", Say(500), {}, False),
        ("PUT", Say(504), {"json": {"a": 1}}, True),
        ("PUT", Say(504), {"data": parts}, False),
        ("POST", Say(503), {}, False),
        ("POST", Say(503), {"non_idempotent": True, "data": "text"}, True),
        ("POST", Say(503), {"headers": {"Idempotency-Key": "k"}}, True),
        ("POST", Say(429), {}, True),
        ("GET", Say(503), {"retries": 1}, False),
        ("PUT", Say(503), {"data": b"x" * 900_000}, True),
    ],
)
def test_which_answers_are_tried_elsewhere(method: str, say: Say, options: Any, again: bool) -> None:
    with backends(lambda got: say, always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        ((status, _),) = ask(First(pool), method, **options)
        assert status == (200 if again else say.status)
        assert [g.body for g in good.got] == ([bad.got[0].body] if again else [])
        assert (len(bad.got), inflight(pool)) == (1, 0)
        assert record(pool, bad.address).rejected == (say.status == 429)


def test_no_answer_is_tried_elsewhere_only_where_that_can_do_no_harm() -> None:
    with backends(always(hang_up=True), always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        assert ask(First(pool)) == [(200, "well")]
        with pytest.raises(aiohttp.ServerDisconnectedError):
            ask(First(pool), "POST", data=b"x")
        assert (len(good.got), inflight(pool), record(pool, bad.address).failures) == (1, 0, 2)


def run(picker: Any, work: Callable[[Any], Any], **options: Any) -> None:
    async def main() -> None:
        timeout = aiohttp.ClientTimeout(**options.pop("timeout", {}))
        async with aiohttp.ClientSession(middlewares=(middleware(picker, **options),), timeout=timeout) as session:
            await work(session)

    asyncio.run(main())


def test_the_lease_lasts_to_the_last_byte() -> None:
    with backends(always(chunks=[b"1", b"2", b"3"], pause=0.05)) as (server,):
        pool = Pool([server.address])

        async def work(session: Any) -> None:
            async with session.get("http://m/") as response:
                assert inflight(pool) == 1
                assert await response.content.readany() == b"1"
                assert inflight(pool) == 1
                assert await response.read() == b"23"
                assert inflight(pool) == 0
            async with session.get("http://m/") as response:
                await response.content.readany()
                assert inflight(pool) == 1
            assert inflight(pool) == 0

        run(RoundRobin(pool), work)
        one = record(pool, server.address)
        assert (one.successes, one.cancelled, one.failures, one.dropped) == (1, 1, 0, 0)


def test_a_stream_that_breaks_is_a_failure_and_one_that_stalls_a_timeout() -> None:
    with backends(always(chunks=[b"1"], cut=True), always(chunks=[b"1", b"2"], pause=20)) as servers:
        pool = Pool([s.address for s in servers])

        async def work(session: Any) -> None:
            for error in (aiohttp.ClientPayloadError, TimeoutError):
                with pytest.raises(error):
                    async with session.get("http://m/") as response:
                        await response.read()
                assert inflight(pool) == 0

        run(RoundRobin(pool), work, timeout={"sock_read": 0.3})
        assert [(r.failures, r.timeouts, r.successes) for r in pool.stats()] == [(1, 0, 0), (0, 1, 0)]


def test_the_time_of_the_whole_request_is_not_spent_twice() -> None:
    with backends(always(wait=20), always()) as (slow, good):
        pool = Pool([slow.address, good.address])

        async def work(session: Any) -> None:
            with pytest.raises(TimeoutError):
                await session.get("http://m/")

        run(First(pool), work, timeout={"total": 0.2})
        assert (record(pool, slow.address).timeouts, len(good.got), inflight(pool)) == (1, 0, 0)


def test_a_cancelled_task_gives_its_lease_up() -> None:
    with backends(always(wait=30)) as (server,):
        pool = Pool([server.address])

        async def work(session: Any) -> None:
            task = asyncio.create_task(session.get("http://m/"))
            while inflight(pool) != 1 or not server.got:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert inflight(pool) == 0

        run(First(pool), work)
        assert record(pool, server.address).cancelled == 1


def test_keys_latency_and_retry_after() -> None:
    with backends(always(chunks=[b"a"], pause=0.3), always(chunks=[b"a"], pause=0.3)) as servers:
        pool = Pool([s.address for s in servers], latency=Latency())
        picker = Maglev(pool)
        ask(picker, headers={"x-user": "u"}, key=lambda r: r.headers["x-user"], latency="first_byte")
        mine = picker.pick("u").id
        latency = record(pool, mine).last_latency
        assert latency is not None
        assert latency < 0.3
        assert record(pool, mine).picks == 1
    with backends(always(status=429, headers={"retry-after": "60"}), always(body=b"b")) as (busy, good):
        pool = Pool([busy.address, good.address], passive=OutlierDetection())
        assert ask(RoundRobin(pool), times=6) == [(200, "b")] * 6
        assert len(busy.got) == 1


def test_nobody_to_pick() -> None:
    pool = Pool(["a:1"], on_panic="fail")
    pool.set_health("a:1", "unhealthy")
    with pytest.raises(aiohttp.ClientConnectionError, match="no endpoint") as caught:
        ask(RoundRobin(pool))
    assert isinstance(caught.value.__cause__, NoHealthyEndpointError)
    with pytest.raises(ConfigError, match="retries: 0"):
        middleware(RoundRobin(pool), retries=0)
