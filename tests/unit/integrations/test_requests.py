"""The adapter of requests, against servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aibalance import ConfigError, First, Latency, NoHealthyEndpointError, OutlierDetection, Pool, RoundRobin
from aibalance.integrations.requests import adapter

from .backends import Say, always, backends, closed_port, inflight, record

requests = pytest.importorskip("requests")


def session(picker: Any, **options: Any) -> Any:
    made = requests.Session()
    made.trust_env = False
    made.mount("http://models", adapter(picker, **options))
    return made


def test_requests_take_turns_and_keep_host_and_url() -> None:
    with backends(always(body=b"a"), always(body=b"b")) as servers:
        pool = Pool([s.address for s in servers])
        with session(RoundRobin(pool)) as http:
            answers = [http.post("http://models:8000/v1?q=1#f", data=b"body") for _ in range(4)]
        assert [r.text for r in answers] == ["a", "b", "a", "b"]
        assert [r.aibalance_endpoint.id for r in answers[:2]] == [s.address for s in servers]
        assert {r.url for r in answers} == {"http://models:8000/v1?q=1#f"}
        assert {(g.target, g.headers["host"], g.body) for s in servers for g in s.got} == {
            ("/v1?q=1", "models:8000", b"body")
        }
        assert [(r.successes, r.inflight) for r in pool.stats()] == [(2, 0), (2, 0)]


def test_urls_as_addresses() -> None:
    with backends(always()) as (server,), session(RoundRobin([f"http://{server.address}/b/"]), host="endpoint") as http:
        http.get("http://models/v1")
        assert (server.got[0].target, server.got[0].headers["host"]) == ("/b/v1", server.address)


def parts() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


def test_a_dead_endpoint_is_passed_over_even_by_an_upload_that_can_be_read_once() -> None:
    with backends(always(body=b"well")) as (server,):
        dead = closed_port()
        pool = Pool([dead, server.address])
        with session(First(pool)) as http:
            assert http.post("http://models/", data=parts()).text == "well"
        assert server.got[0].body == b"onetwo"
        assert (record(pool, dead).failures, record(pool, server.address).successes, inflight(pool)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("method", "say", "sent", "options", "again"),
    [
        ("GET", Say(503), {}, {}, True),
        ("GET", Say(500), {}, {}, False),
        ("PUT", Say(504), {"json": {"a": 1}}, {}, True),
        ("PUT", Say(504), {"data": parts}, {}, False),
        ("POST", Say(503), {}, {}, False),
        ("POST", Say(503), {"data": "text"}, {"non_idempotent": True}, True),
        ("POST", Say(503), {"headers": {"Idempotency-Key": "k"}}, {}, True),
        ("POST", Say(503, {"retry-after": "2"}), {}, {}, True),
        ("GET", Say(503), {}, {"retries": 1}, False),
    ],
)
def test_which_answers_are_tried_elsewhere(method: str, say: Say, sent: Any, options: Any, again: bool) -> None:
    with backends(lambda got: say, always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        body = {name: value() if callable(value) else value for name, value in sent.items()}
        with session(First(pool), **options) as http:
            assert http.request(method, "http://models/", **body).status_code == (200 if again else say.status)
        assert [g.body for g in good.got] == ([bad.got[0].body] if again else [])
        assert (len(bad.got), inflight(pool)) == (1, 0)


def test_no_answer_is_tried_elsewhere_only_where_that_can_do_no_harm() -> None:
    with backends(always(hang_up=True), always(body=b"well")) as (bad, good):
        pool = Pool([bad.address, good.address])
        with session(First(pool)) as http:
            assert http.get("http://models/").text == "well"
            with pytest.raises(requests.ConnectionError):
                http.post("http://models/", data=b"x")
        assert (len(good.got), inflight(pool), record(pool, bad.address).failures) == (1, 0, 2)


def test_the_lease_lasts_to_the_last_byte() -> None:
    with backends(always(chunks=[b"1\n", b"2\n", b"3\n"], pause=0.03)) as (server,):
        pool = Pool([server.address])
        with session(RoundRobin(pool)) as http:
            response = http.get("http://models/", stream=True)
            seen = []
            for line in response.iter_lines():
                seen.append((line, inflight(pool)))
            assert [line for line, _ in seen] == [b"1", b"2", b"3"]
            assert seen[0][1] == 1
            assert inflight(pool) == 0
            with http.get("http://models/", stream=True) as response:
                assert inflight(pool) == 1
            assert inflight(pool) == 0
            # A dropped iterator is one that nobody will read on.
            response = http.get("http://models/", stream=True)
            lines = response.iter_lines()
            assert next(lines) == b"1"
            assert inflight(pool) == 1
            del lines
            assert inflight(pool) == 0
            response.close()
            # Read by hand.
            response = http.get("http://models/", stream=True)
            assert response.raw.read() == b"1\n2\n3\n"
            assert inflight(pool) == 0
        one = record(pool, server.address)
        assert (one.successes, one.cancelled, one.failures, one.dropped) == (2, 2, 0, 0)


def test_streams_that_break_or_stall_and_answers_without_a_body() -> None:
    breaks = always(chunks=[b"1"], cut=True)
    with backends(breaks, always(chunks=[b"1", b"2"], pause=20), always(status=204)) as servers:
        pool = Pool([s.address for s in servers])
        with session(RoundRobin(pool)) as http:
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                http.get("http://models/")
            with pytest.raises(requests.ConnectionError, match="timed out"):
                http.get("http://models/", timeout=0.3)
            response = http.get("http://models/", stream=True)
            assert inflight(pool) == 0
            response.close()
        assert [(r.failures, r.timeouts, r.successes) for r in pool.stats()] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_timeouts() -> None:
    with backends(always(wait=20), always(body=b"well")) as (slow, good):
        pool = Pool([slow.address, good.address])
        with session(First(pool)) as http:
            assert http.get("http://models/", timeout=0.2).text == "well"
            with pytest.raises(requests.ReadTimeout):
                http.post("http://models/", timeout=0.2)
        assert (record(pool, slow.address).timeouts, inflight(pool)) == (2, 0)


def test_latency_and_retry_after() -> None:
    with backends(always(chunks=[b"a", b"b"], pause=0.3)) as (server,):
        pool = Pool([server.address], latency=Latency())
        with session(First(pool), latency="first_byte") as http:
            http.get("http://models/")
        latency = record(pool, server.address).last_latency
        assert latency is not None
        assert latency < 0.6
    with backends(always(status=429, headers={"retry-after": "60"}), always(body=b"b")) as (busy, good):
        pool = Pool([busy.address, good.address], passive=OutlierDetection())
        with session(RoundRobin(pool)) as http:
            assert {http.get("http://models/").text for _ in range(6)} == {"b"}
        assert len(busy.got) == 1


def test_nobody_to_pick() -> None:
    pool = Pool(["a:1"], on_panic="fail")
    pool.set_health("a:1", "unhealthy")
    with session(RoundRobin(pool)) as http, pytest.raises(requests.ConnectionError, match="no endpoint") as caught:
        http.get("http://models/")
    assert isinstance(caught.value.__cause__, NoHealthyEndpointError)
    with pytest.raises(ConfigError, match="latency: 1"):
        adapter(RoundRobin(pool), latency=1)  # type: ignore[arg-type]
