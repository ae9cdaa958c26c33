"""Sessions: tokens that cannot be forged, tables that stay within their bound, and when a session is let go."""

from __future__ import annotations

import base64
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, LeastRequest, ManualClock, NoEndpointsError, Pool, RoundRobin
from aibalance.routing import Sticky, StickyCookie, StickyHeader, StickyTable

SECRET = b"sixteen bytes!!!"
Make = Callable[..., Sticky]


def cookie(**options: Any) -> StickyCookie:
    return StickyCookie(SECRET, **{"pool": "web", **options})


def test_a_cookie_says_neither_address_nor_pool() -> None:
    token = cookie().issue("10.0.0.1:80", now=0)
    raw = base64.urlsafe_b64decode(token + "=")
    assert len(raw) == 65
    assert b"10.0" not in raw
    assert b"web" not in raw
    assert token != cookie(pool="api").issue("10.0.0.1:80", now=0)


def test_whatever_is_altered_is_refused() -> None:
    mine = cookie()
    token = mine.issue("a", now=0)
    assert mine.read(token, now=1).status == "valid"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at, letter in enumerate(token):
        other = letters[(letters.index(letter) + 17) % 64]
        status = mine.read(token[:at] + other + token[at + 1 :], now=1).status
        assert status in ("altered", "malformed"), at
        assert mine.read(token[:at] + other + token[at + 1 :], now=1).tag is None
    for wrong in ("", "x", token[:-1], token + "A", token + "=", "é" * 87, "!" * 87, None, 3):
        assert mine.read(wrong, now=1).status == "malformed"  # type: ignore[arg-type]


def test_each_part_of_the_configuration_is_bound_in() -> None:
    token = cookie().issue("a", now=0)
    assert cookie(pool="api").read(token, now=1).status == "other_pool"
    assert cookie(name="OTHER").read(token, now=1).status == "altered"
    assert StickyCookie(b"another secret!!", pool="web").read(token, now=1).status == "altered"
    assert StickyHeader(SECRET, pool="web").read(token, now=1).status == "altered"


def test_a_cookie_ends_with_its_age() -> None:
    short, long = cookie(max_age=10), cookie(max_age=20)
    assert [m.read(m.issue("a", now=100), now=110).status for m in (short, long)] == ["expired", "valid"]
    clock = ManualClock(5.0)
    timed = cookie(max_age=10, clock=clock)
    token = timed.issue("a")
    clock.advance(10)
    assert timed.read(token).status == "expired"
    assert cookie().read(cookie().issue("a")).status == "valid"


def test_secrets_can_be_replaced() -> None:
    old, both = cookie(), StickyCookie([b"another secret!!", SECRET], pool="web")
    assert both.read(old.issue("a", now=0), now=1).status == "valid"
    assert old.read(both.issue("a", now=0), now=1).status == "altered"
    sticky = Sticky(RoundRobin(["a", "b"]), both)
    session = sticky.acquire(old.issue("b"))
    assert (session.kept, session.endpoint.id) == (True, "b")


def test_headers_are_read_and_written() -> None:
    mine = cookie(max_age=60, path="/app", secure=False, http_only=False, same_site="Strict", name="S")
    assert mine.to_header("abc") == "S=abc; Max-Age=60; Path=/app; SameSite=Strict"
    assert mine.from_header("x=1; S=abc") == "abc"
    assert mine.from_header("x=1") is None
    assert mine.from_header('"\0;=,') is None


def test_wrong_configuration_never_shows_the_secret() -> None:
    for options, field in (
        ({"pool": ""}, "pool"),
        ({"name": "a b"}, "name"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": 604801}, "max_age"),
        ({"max_age": float("nan")}, "max_age"),
        ({"clock": 3}, "clock"),
        ({"path": "/a;b"}, "path"),
        ({"same_site": "None", "secure": False}, "same_site"),
    ):
        with pytest.raises(ConfigError, match=rf"^{field}: "):
            cookie(**options)
    for secret in (b"short", [], "text", [SECRET, b"short"]):
        with pytest.raises(ConfigError, match=r"^secret: ") as told:
            StickyCookie(secret, pool="web")  # type: ignore[arg-type]
        assert "short" not in str(told.value)
    assert "sixteen" not in repr(cookie())


def test_tokens_survive_pickling() -> None:
    for mine in (cookie(max_age=77, same_site="Strict"), StickyHeader(SECRET, pool="web")):
        copy = pickle.loads(pickle.dumps(mine))
        assert repr(copy) == repr(mine)
        assert copy.read(mine.issue("a", now=0), now=1) == mine.read(mine.issue("a", now=0), now=1)


def with_cookie(picker: Any, **options: Any) -> Sticky:
    return Sticky(picker, cookie(), **options)


def with_header(picker: Any, **options: Any) -> Sticky:
    return Sticky(picker, StickyHeader(SECRET, pool="web"), **options)


def with_table(picker: Any, **options: Any) -> Sticky:
    return Sticky(picker, StickyTable(capacity=100, ttl=60, clock=picker.pool.clock), **options)


@pytest.fixture(params=[with_cookie, with_header, with_table])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


class Session:
    """A client: sends what it was given."""

    def __init__(self, sticky: Sticky, name: str = "user") -> None:
        self.sticky = sticky
        self.sent: str | None = name if isinstance(sticky.via, StickyTable) else None

    def ask(self, **options: Any) -> tuple[bool, str, str]:
        with self.sticky.acquire(self.sent, **options) as got:
            self.sent = got.token or self.sent
            return got.kept, got.reason, got.endpoint.id


def test_a_session_stays_with_any_picker(make: Make) -> None:
    for kind in (RoundRobin, LeastRequest):
        session = Session(make(kind(Pool(["a", "b", "c"], seed=3, clock=ManualClock(0.0)))))
        first = session.ask()
        assert first[:2] == (False, "new")
        assert {session.ask() for _ in range(20)} == {(True, "kept", first[2])}


def test_when_a_session_is_let_go(make: Make) -> None:
    clock = ManualClock(0.0)
    pool = Pool(["a", "b", "c", "d"], seed=3, clock=clock)
    session = Session(make(RoundRobin(pool)))
    home = session.ask()[2]
    pool.set_weight(home, 0)
    assert session.ask() == (True, "kept", home)
    pool.set_weight(home, 1)
    pool.set_health(home, "degraded")
    assert session.ask() == (True, "kept", home)
    pool.set_health(home, "healthy")
    pool.drain(home, deadline=10)
    clock.advance(9)
    assert session.ask() == (True, "kept", home)
    clock.advance(1)
    kept, reason, moved = session.ask()
    assert (kept, reason, moved != home) == (False, "drained", True)
    assert session.ask() == (True, "kept", moved)
    pool.undrain(home)
    assert session.ask() == (True, "kept", moved), "it does not go back"
    pool.drain(moved)
    kept, reason, home = session.ask()
    assert (kept, reason) == (False, "drained")
    pool.set_health(home, "unhealthy")
    kept, reason, moved = session.ask()
    assert (kept, reason, moved != home) == (False, "unhealthy", True)
    pool.remove(moved)
    assert session.ask()[:2] == (False, "gone")


def test_weight_0_takes_no_new_sessions(make: Make) -> None:
    sticky = make(RoundRobin([Endpoint("a", weight=0), "b"]))
    assert {Session(sticky, f"u{i}").ask()[2] for i in range(20)} == {"b"}


def test_an_overloaded_endpoint_lets_go(make: Make) -> None:
    pool = Pool([Endpoint("a", max_inflight=1), Endpoint("b")], seed=1)
    sticky = make(RoundRobin(pool))
    session = Session(sticky)
    while session.ask()[2] != "a":
        session = Session(sticky, f"another{id(session)}")
    busy = sticky.acquire(session.sent)
    assert session.ask() == (False, "overloaded", "b")
    busy.lease.release()


def test_the_load_factor_alone_lets_go(make: Make) -> None:
    outcomes = []
    for factor in (None, 1.0):
        pool = Pool(["a", "b", "c", "d"], seed=1)
        sticky = make(RoundRobin(pool), load_factor=factor)
        session = Session(sticky)
        home = session.ask()[2]
        held = [sticky.acquire(session.sent) for _ in range(2)]
        outcomes.append([h.endpoint.id == home for h in held])
        assert held[1].reason == ("kept" if factor is None else "overloaded")
    assert outcomes == [[True, True], [True, False]]


def test_a_refused_token_is_no_session_and_says_why() -> None:
    pool = Pool(["a", "b"], seed=1, clock=ManualClock(1000.0))
    sticky = Sticky(RoundRobin(pool), cookie(max_age=10))
    for token, reason in (
        ("nonsense", "malformed"),
        (cookie(pool="api").issue("a", now=1000), "other_pool"),
        (cookie(max_age=10).issue("a", now=900), "expired"),
        (StickyCookie(b"another secret!!", pool="web").issue("a", now=1000), "altered"),
        (b"\xff\xfe", "malformed"),
    ):
        got = sticky.acquire(token)
        assert (got.kept, got.reason) == (False, reason)
        assert sticky.acquire(got.token).kept
    assert sticky.acquire(cookie(max_age=10).issue("a", now=2000), now=2005).kept


def test_leases_are_those_of_the_pool() -> None:
    pool = Pool(["a"])
    sticky = Sticky(RoundRobin(pool), StickyTable(capacity=8))
    for _ in range(2):
        session = sticky.acquire("u", cost=3)
        with pytest.raises(KeyError), session:
            raise KeyError(pool.stats()[0].load)
    assert (pool.stats()[0].inflight, pool.stats()[0].failures) == (0, 2)
    lease = sticky.acquire("u").lease.detach()
    pool.release(lease)
    with pytest.raises(ConfigError, match="cost"):
        sticky.acquire("u", cost=-1)
    pool.update([])
    with pytest.raises(NoEndpointsError):
        sticky.acquire("u")


def test_latency_of_kept_sessions_is_measured() -> None:
    clock = ManualClock(0.0)
    from aibalance import Latency

    pool = Pool(["a"], clock=clock, latency=Latency())
    sticky = Sticky(RoundRobin(pool), StickyTable(capacity=8, clock=clock))
    sticky.acquire("u").lease.release()
    session = sticky.acquire("u")
    clock.advance(2)
    session.lease.release()
    assert (session.kept, pool.stats()[0].last_latency) == (True, 2.0)


def test_wrong_parts_are_told_and_copies_work() -> None:
    table = StickyTable(capacity=3)
    for args, options, field in (
        ((["a"], table), {}, "picker"),
        ((RoundRobin(["a"]), {}), {}, "via"),
        ((RoundRobin(["a"]), table), {"load_factor": 0.9}, "load_factor"),
        ((RoundRobin(["a"]), table), {"load_factor": float("inf")}, "load_factor"),
    ):
        with pytest.raises(ConfigError, match=rf"^{field}: "):
            Sticky(*args, **options)  # type: ignore[arg-type]
    copy = pickle.loads(pickle.dumps(Sticky(RoundRobin(["a"]), table, load_factor=2)))
    assert (copy.load_factor, copy.via.capacity, copy.acquire("u").reason) == (2, 3, "new")
    with pytest.raises(AttributeError):
        copy.load_factor = 3


def test_every_option_of_a_table() -> None:
    def kept(**options: Any) -> tuple[bool, bool, bool]:
        table = StickyTable(**{"capacity": 2, "ttl": 10, "clock": ManualClock(0.0), **options})
        table.set("a", "x", now=0)
        table.set("b", "x", now=5)
        table.get("a", now=8)
        table.set("c", "x", now=9)
        return tuple(table.get(key, now=12) is not None for key in "abc")  # type: ignore[return-value]

    assert kept() == (True, False, True)
    assert kept(capacity=3) == (True, True, True)
    assert kept(capacity=3, ttl=20, renew=False) == (True, True, True)
    assert kept(renew=False, capacity=3) == (False, True, True)
    assert kept(when_full="refuse") == (True, True, False)
    assert kept(ttl=3) == (False, False, False) or kept(ttl=3)[2]
    clock = ManualClock(0.0)
    table = StickyTable(capacity=1, ttl=1, clock=clock)
    table.set("a", "x")
    clock.advance(1)
    assert table.get("a") is None


def test_a_table_stays_within_its_bound_and_tells() -> None:
    table = StickyTable(capacity=1000, ttl=60, clock=ManualClock(0.0))
    for i in range(1_000_000):
        table.set(b"%d" % i, "x")
    assert (len(table), table.evicted) == (1000, 999_000)
    assert table.get("999999") == "x", "str and bytes are one"
    assert (table.remove("999999"), table.remove("999999"), table.forget("x"), len(table)) == (True, False, 999, 0)
    table.set("a", "x", now=0)
    assert (table.expire(now=59), table.expire(now=60)) == (0, 1)
    assert repr(table) == "<StickyTable: 0 of 1000, 60 s>"


def test_wrong_values_for_a_table() -> None:
    for options, field in (
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1 << 40}, "capacity"),
        ({"capacity": "a"}, "capacity"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"when_full": "no"}, "when_full"),
        ({"clock": 3}, "clock"),
    ):
        with pytest.raises(ConfigError, match=rf"^{field}: "):
            StickyTable(**options)  # type: ignore[arg-type]
    table = StickyTable(capacity=1)
    for call in (lambda: table.get(3), lambda: table.set("a", 3), lambda: table.get("a", now=-1)):  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            call()


def test_threads_share_a_table() -> None:
    table = StickyTable(capacity=50, ttl=60)
    wrong: list[object] = []

    def work(name: str) -> None:
        for i in range(3000):
            key = f"{name}{i % 20}"
            table.set(key, name)
            if table.get(key) not in (None, name) or len(table) > 50:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
