"""The transports of httpx and httpx2, against servers on loopback."""

from __future__ import annotations

import asyncio
import gc
import importlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aibalance import (
    ActiveRetryBudget,
    ConfigError,
    Endpoint,
    First,
    Latency,
    Maglev,
    NoHealthyEndpointError,
    OutlierDetection,
    Pool,
    RetryBudget,
    RoundRobin,
)
from aibalance.integrations.httpx import async_transport, transport

from .backends import Got, Say, always, backends, closed_port, inflight, record

MODULES = ["httpx", "httpx2"]


@pytest.fixture(params=MODULES)
def client(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, client: Any) -> Any:
    """`ask(picker, method, body=..., **options)`: one request, and the response, read; by either kind of client."""

    def sync(picker: Any, method: str = "GET", *, headers: Any = None, content: Any = None, **options: Any) -> Any:
        with client.Client(transport=transport(picker, module=client, **options), base_url="http://models") as c:
            return c.request(method, "/v1", headers=headers, content=content)

    def by_task(picker: Any, method: str = "GET", *, headers: Any = None, content: Any = None, **options: Any) -> Any:
        async def main() -> Any:
            body = in_parts(content) if isinstance(content, Iterator) else content
            by = async_transport(picker, module=client, **options)
            async with client.AsyncClient(transport=by, base_url="http://models") as c:
                return await c.request(method, "/v1", headers=headers, content=body)

        return asyncio.run(main())

    return sync if request.param == "sync" else by_task


async def in_parts(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_requests_take_turns_and_keep_their_host(ask: Any) -> None:
    with backends(always(body=b"a"), always(body=b"b")) as servers:
        pool = Pool([s.address for s in servers])
        picker = RoundRobin(pool)
        answers = [ask(picker, "POST", content=b"body") for _ in range(4)]
        assert [r.text for r in answers] == ["a", "b", "a", "b"]
        assert [r.extensions["aibalance.endpoint"].id for r in answers[:2]] == [s.address for s in servers]
        assert {(g.method, g.target, g.headers["host"], g.body) for s in servers for g in s.got} == {
            ("POST", "/v1", "models", b"body")
        }
        assert [(r.successes, r.inflight) for r in pool.stats()] == [(2, 0), (2, 0)]


def test_a_url_as_an_address_has_scheme_and_path_and_host_may_be_the_endpoints(ask: Any) -> None:
    with backends(always()) as (server,):
        ask(RoundRobin([f"http://{server.address}/base/"]), host="endpoint")
        assert (server.got[0].target, server.got[0].headers["host"]) == ("/base/v1", server.address)


def test_a_dead_endpoint_is_passed_over_even_by_an_upload_that_can_be_read_once(ask: Any) -> None:
    with backends(always(body=b"well")) as (server,):
        dead = closed_port()
        pool = Pool([dead, server.address])
        assert ask(First(pool), "POST", content=iter([b"one", b"two"])).text == "well"
        assert server.got[0].body == b"onetwo"
        assert (record(pool, dead).failures, record(pool, server.address).successes, inflight(pool)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("method", "say", "options", "headers", "again"),
    [
        ("GET", Say(503), {}, {}, True),
        ("GET", Say(500), {}, {}, False),
        ("GET", Say(500), {"retry_on": {500}}, {}, True),
        ("GET", Say(502), {"retry_on": ()}, {}, False),
        ("PUT", Say(504), {}, {}, True),
        ("POST", Say(503), {}, {}, False),
        ("POST", Say(503), {"non_idempotent": True}, {}, True),
        ("POST", Say(503), {}, {"Idempotency-Key": "k"}, True),
        ("POST", Say(503, {"retry-after": "1"}), {}, {}, True),
        ("POST", Say(429), {}, {}, True),
        ("PATCH", Say(502), {}, {}, False),
        ("GET", Say(503), {"retries": 1}, {}, False),
    ],
)
def test_which_answers_are_tried_elsewhere(
    ask: Any, method: str, say: Say, options: Any, headers: Any, again: bool
) -> None:
    with backends(lambda got: say, always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        response = ask(First(pool), method, content=b"body", headers=headers, **options)
        assert response.status_code == (200 if again else say.status)
        assert [g.body for g in good.got] == ([b"body"] if again else [])
        assert len(bad.got) == 1
        assert inflight(pool) == 0
        first = record(pool, bad.address)
        refused = say.status == 429 or "retry-after" in say.headers
        assert (first.failures, first.rejected) == ((0, 1) if refused else (1, 0))


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("POST", False)])
def test_no_answer_is_tried_elsewhere_only_where_that_can_do_no_harm(
    ask: Any, client: Any, method: str, again: bool
) -> None:
    with backends(always(hang_up=True), always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        if again:
            assert ask(First(pool), method, content=b"body").text == "well"
        else:
            with pytest.raises(client.TransportError):
                ask(First(pool), method, content=b"body")
        assert (len(bad.got), len(good.got), inflight(pool)) == (1, int(again), 0)
        assert record(pool, bad.address).failures == 1


def test_a_body_that_was_read_is_not_sent_again(ask: Any) -> None:
    with backends(always(status=503), always()) as (bad, good):
        assert ask(First([bad.address, good.address]), "PUT", content=iter([b"once"])).status_code == 503
        assert not good.got


def test_a_timeout_is_one_and_is_tried_elsewhere_when_it_can_be(client: Any) -> None:
    with backends(always(wait=5), always()) as (slow, good):
        pool = Pool([slow.address, good.address])
        with client.Client(transport=transport(First(pool), module=client), timeout=0.1) as c:
            assert c.get("http://m/").status_code == 200
            with pytest.raises(client.ReadTimeout):
                c.post("http://m/")
        assert (record(pool, slow.address).timeouts, len(good.got), inflight(pool)) == (2, 1, 0)


def test_the_last_answer_is_the_callers_when_nobody_else_can_be_tried(ask: Any) -> None:
    with backends(always(status=503, body=b"no 1"), always(status=503, body=b"no 2")) as servers:
        pool = Pool([s.address for s in servers])
        assert ask(First(pool)).text == "no 2"
        assert [len(s.got) for s in servers] == [1, 1]
        assert [(r.failures, r.inflight) for r in pool.stats()] == [(1, 0), (1, 0)]


def test_budgets_are_shared_by_requests(ask: Any) -> None:
    with backends(always(status=503), always()) as (bad, good):
        picker = First([bad.address, good.address])
        budget = RetryBudget(ratio=0.5, min_per_second=0.0)
        assert [ask(picker, retries=budget).status_code for _ in range(4)] == [503, 200, 503, 200]
        active = ActiveRetryBudget(ratio=0.0, min_concurrency=1)
        assert ask(picker, retries=active).status_code == 200
        assert active.retries == 0


def test_retry_after_and_ejection_are_respected(ask: Any) -> None:
    with backends(always(status=429, headers={"retry-after": "60"}), always(body=b"b")) as (busy, good):
        picker = RoundRobin(Pool([busy.address, good.address], passive=OutlierDetection()))
        assert {ask(picker).text for _ in range(6)} == {"b"}
        assert len(busy.got) == 1, "it rests"
    with backends(always(status=500), always(body=b"b")) as (bad, good):
        pool = Pool([bad.address, good.address], passive=OutlierDetection(consecutive_5xx=2, max_ejection_percent=50))
        picker = RoundRobin(pool)
        for _ in range(8):
            ask(picker)
        assert len(bad.got) == 2
        assert record(pool, bad.address).ejected_until is not None


def test_keys_and_costs_are_functions_of_the_request(ask: Any) -> None:
    with backends(always(body=b"a"), always(body=b"b"), always(body=b"c")) as servers:
        pool = Pool([s.address for s in servers])
        loads = []

        def cost(request: Any) -> float:
            return float(request.headers["x-tokens"])

        for server in servers:

            def answer(got: Got) -> Say:
                loads.append(max(r.load for r in pool.stats()))
                return Say()

            server.answer = answer
        picker = Maglev(pool)
        where = {
            user: ask(
                picker,
                headers={"x-user": user, "x-tokens": "7.5"},
                key=lambda r: r.headers["x-user"],
                cost=cost,
            ).extensions["aibalance.endpoint"]
            for user in "abcdef"
        }
        assert where == {user: picker.pick(user) for user in "abcdef"}
        assert set(loads) == {7.5}


def test_nobody_to_pick_is_a_connect_error_with_its_reason(ask: Any, client: Any) -> None:
    pool = Pool(["a:1"], on_panic="fail")
    pool.set_health("a:1", "unhealthy")
    with pytest.raises(client.ConnectError, match="no endpoint") as caught:
        ask(RoundRobin(pool))
    assert isinstance(caught.value.__cause__, NoHealthyEndpointError)


def test_the_lease_lasts_to_the_last_byte(client: Any) -> None:
    with backends(always(chunks=[b"1", b"2", b"3"], pause=0.01)) as (server,):
        pool = Pool([server.address])
        with client.Client(transport=transport(RoundRobin(pool), module=client)) as c:
            with c.stream("GET", "http://m/") as response:
                seen = [inflight(pool)]
                for _ in response.iter_raw():
                    seen.append(inflight(pool))
                assert set(seen) == {1}
                assert len(seen) > 1
                assert inflight(pool) == 0, "at the last byte, before the response is closed"
            # Left early: neither a success nor a failure.
            with c.stream("GET", "http://m/") as response:
                parts = response.iter_raw()
                assert next(parts) == b"1"
                assert inflight(pool) == 1
            one = record(pool, server.address)
            assert (one.inflight, one.successes, one.cancelled, one.failures, one.dropped) == (0, 1, 1, 0, 0)
            # Dropped without being closed: the place comes back all the same.
            response = c.send(c.build_request("GET", "http://m/"), stream=True)
            assert inflight(pool) == 1
            del response
            gc.collect()
            assert inflight(pool) == 0


def test_a_stream_that_breaks_is_a_failure_and_is_not_repeated(client: Any) -> None:
    with backends(always(chunks=[b"1"], cut=True), always()) as (bad, good):
        pool = Pool([bad.address, good.address])
        with client.Client(transport=transport(First(pool), module=client)) as c, pytest.raises(client.TransportError):
            c.get("http://m/")
        assert (record(pool, bad.address).failures, inflight(pool), len(good.got)) == (1, 0, 0)


def test_an_error_that_nobody_reads_is_one(client: Any) -> None:
    with backends(always(status=500, chunks=[b"1"] * 50, pause=0.05)) as (bad,):
        pool = Pool([bad.address])
        with client.Client(transport=transport(First(pool), module=client)) as c:
            with c.stream("GET", "http://m/"):
                pass
            assert (record(pool, bad.address).failures, inflight(pool)) == (1, 0)


def test_the_latency_of_a_stream_may_be_that_of_its_first_byte(client: Any) -> None:
    with backends(always(chunks=[b"1", b"2"], pause=0.3)) as (server,):
        pools = {}
        for latency in ("first_byte", "last_byte"):
            pool = pools[latency] = Pool([server.address], latency=Latency())
            by = transport(RoundRobin(pool), latency=latency, module=client)  # type: ignore[arg-type]
            with client.Client(transport=by) as c:
                c.get("http://m/")
        first, last = (pools[n].stats()[0].last_latency for n in ("first_byte", "last_byte"))
        assert first is not None
        assert last is not None
        assert last >= 0.6 > first


def test_a_cancelled_task_gives_its_lease_up(client: Any) -> None:
    with backends(always(wait=30), always(chunks=[b"1"] * 100, pause=0.1)) as servers:
        pool = Pool([s.address for s in servers])

        async def main() -> None:
            by = async_transport(RoundRobin(pool), module=client)
            async with client.AsyncClient(transport=by) as c:
                for wanted in (1, 2):
                    task = asyncio.create_task(c.get("http://m/"))
                    while inflight(pool) != 1 or sum(len(s.got) for s in servers) != wanted:
                        await asyncio.sleep(0.005)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    assert inflight(pool) == 0

        asyncio.run(main())
        assert [(r.cancelled, r.failures, r.dropped) for r in pool.stats()] == [(1, 0, 0), (1, 0, 0)]


def test_a_wait_for_the_clients_own_connections_is_not_the_endpoints_fault(client: Any) -> None:
    with backends(always(chunks=[b"1", b"2"], pause=0.3)) as (server,):
        pool = Pool([server.address])
        inner = client.HTTPTransport(limits=client.Limits(max_connections=1))
        with client.Client(transport=transport(First(pool), inner=inner, module=client), timeout=0.05) as c:
            with c.stream("GET", "http://m/"), pytest.raises(client.PoolTimeout):
                c.get("http://m/")
            assert (record(pool, server.address).failures, record(pool, server.address).timeouts) == (0, 0)
            assert inflight(pool) == 0


def test_an_upload_that_raises_is_not_the_endpoints_fault(client: Any) -> None:
    def body() -> Iterator[bytes]:
        yield b"1"
        raise KeyError("mine")

    with backends(always()) as (server,):
        pool = Pool([server.address])
        with client.Client(transport=transport(First(pool), module=client)) as c, pytest.raises(KeyError, match="mine"):
            c.post("http://m/", content=body())
        assert (record(pool, server.address).failures, record(pool, server.address).cancelled) == (0, 1)


def test_many_threads_share_one_transport(client: Any) -> None:
    with backends(*[always(body=b"x" * 100)] * 3) as servers:
        pool = Pool([s.address for s in servers])
        with client.Client(transport=transport(RoundRobin(pool), module=client)) as c:

            def work() -> None:
                for _ in range(25):
                    assert c.get("http://m/").content == b"x" * 100

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [(len(s.got), r.successes, r.inflight) for s, r in zip(servers, pool.stats(), strict=True)] in (
            [(34, 34, 0), (33, 33, 0), (33, 33, 0)],
        )


def test_addresses_that_lead_nowhere(ask: Any) -> None:
    for address in ("host:port", "ftp://x", "http://x/?q=1", "http://"):
        pool = Pool([address])
        with pytest.raises(ConfigError, match="address: "):
            ask(RoundRobin(pool))
        assert inflight(pool) == 0


def test_the_last_attempts_error_is_raised(ask: Any, client: Any) -> None:
    pool = Pool([closed_port(), closed_port()])
    with pytest.raises(client.ConnectError):
        ask(RoundRobin(pool))
    assert [(r.failures, r.inflight) for r in pool.stats()] == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": 1}, "key: 1"),
        ({"cost": "x"}, "cost: 'x'"),
        ({"retries": 0}, "retries: 0"),
        ({"retries": True}, "retries: True"),
        ({"retry_on": 503}, "retry_on: 503"),
        ({"retry_on": [200]}, "retry_on: 200"),
        ({"latency": "ttft"}, "latency: 'ttft'"),
        ({"host": "x"}, "host: 'x'"),
        ({"inner": 3}, "inner: 3"),
        ({"module": "requests"}, "module: 'requests'"),
    ],
)
def test_arguments_that_cannot_be(options: Any, said: str) -> None:
    pytest.importorskip("httpx")
    for make in (transport, async_transport):
        with pytest.raises(ConfigError, match=said):
            make(RoundRobin(["a"]), **options)
    with pytest.raises(ConfigError, match="picker: "):
        transport(["a"])  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name.startswith("httpx"):
            raise ImportError(f"No module named {name!r}", name=name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ConfigError, match=r"pip install aibalance\[httpx\]"):
        transport(RoundRobin(["a"]))
    with pytest.raises(ConfigError, match=r"pip install aibalance\[httpx2\]"):
        transport(RoundRobin(["a"]), module="httpx2")


def test_an_endpoint_object_says_where(ask: Any) -> None:
    with backends(always(body=b"a")) as (server,):
        assert ask(RoundRobin([Endpoint(server.address, id="gpu-1")])).extensions["aibalance.endpoint"].id == "gpu-1"
