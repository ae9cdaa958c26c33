"""What all HTTP clients share: addresses, Retry-After."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from aibalance import ActiveRetryBudget, Candidate, ConfigError, CustomPicker, Endpoint, Pool
from aibalance.integrations._client import Balancer, Target, retry_after, target


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        ("10.0.0.1:80", Target(None, "10.0.0.1", 80, "", "10.0.0.1:80")),
        ("gpu-1", Target(None, "gpu-1", None, "", "gpu-1")),
        ("[2001:db8::1]:80", Target(None, "2001:db8::1", 80, "", "[2001:db8::1]:80")),
        ("https://gpu.example/base/", Target("https", "gpu.example", None, "/base", "gpu.example")),
        ("http://[::1]:8000", Target("http", "::1", 8000, "", "[::1]:8000")),
    ],
)
def test_where_addresses_lead(address: str, leads: Target) -> None:
    assert target(address) == leads


@pytest.mark.parametrize(
    "address",
    ["", "a:b", "a:70000", "http://", "unix:///run/x", "http://a/?q", "http://a/#f", "u:p@a:80", "http://a/ä", "[::1"],
)
def test_addresses_that_lead_nowhere(address: str) -> None:
    with pytest.raises(ConfigError, match="address: "):
        target(address)


DATE = "Thu, 26 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "9" * 400}, 1e9),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Thu, 26 Nov 2026 10:02:00 GMT", "date": DATE}, 120.0),
        ({"retry-after": "Thu, 26 Nov 2026 09:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Thu, 26 Nov 1999 09:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 26 Nov 9999 09:00:00 GMT", "date": "yesterday"}, 1e9),
        ({"retry-after": "Thu, 99 Nov 2026 09:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_picker_of_ones_own_has_retries_too() -> None:
    pool = Pool(["a", "b"])

    class Own:
        """A picker with the four methods only."""

        def __init__(self) -> None:
            from aibalance import First

            self.inner = First(pool)
            self.pick, self.try_pick = self.inner.pick, self.inner.try_pick
            self.acquire, self.try_acquire = self.inner.acquire, self.inner.try_acquire

    class Custom(CustomPicker):
        """As CustomPicker makes one."""

        def choose(self, candidates: Sequence[Candidate], key: Any, /) -> Endpoint:
            return candidates[0].endpoint

    for picker in (Own(), Custom(pool)):
        exchange = Balancer.of(picker, retries=2).exchange(None, "GET", {}, True)
        assert exchange.endpoint.id == "a"
        assert exchange.failed("failure")
        assert exchange.endpoint.id == "b"
        assert not exchange.failed("failure")
    assert sum(r.inflight for r in pool.stats()) == 0


def test_a_retry_is_over_for_the_budget_when_the_answer_is() -> None:
    from aibalance import First

    budget = ActiveRetryBudget(ratio=0.0, min_concurrency=1)
    exchange = Balancer.of(First(["a", "b"]), retries=budget).exchange(None, "GET", {}, True)
    assert exchange.failed("unsent")
    assert budget.retries == 1
    held = exchange.held(200, None)
    held.chunk()
    assert budget.retries == 1
    held.done()
    assert budget.retries == 0


def test_every_end_may_be_told_twice() -> None:
    from aibalance import First

    def ends() -> Iterator[tuple[str, tuple[object, ...]]]:
        yield "done", ()
        yield "left", ()
        yield "broken", ("failure",)
        yield "broken", ("ours",)

    for name, args in ends():
        pool = Pool(["a"])
        held = Balancer.of(First(pool), latency="first_byte").exchange(None, "GET", {}, True).held(200, None)
        getattr(held, name)(*args)
        before = repr(pool.stats())
        for other, more in ends():
            getattr(held, other)(*more)
        held.chunk()
        assert repr(pool.stats()) == before
        assert pool.stats()[0].inflight == 0
