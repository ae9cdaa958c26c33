"""Whatever servers and clients do, no lease is left, and nothing is repeated that may not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibalance import First, OutlierDetection, Pool, RetryBudget
from aibalance.integrations.httpx import transport

httpx = pytest.importorskip("httpx")

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"}
# What an endpoint does: a status (with Retry-After), or what keeps an answer from coming.
STATUSES = st.tuples(st.sampled_from([200, 204, 400, 404, 429, 500, 502, 503, 504]), st.booleans())
TROUBLE = st.sampled_from(["ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "RemoteProtocolError"])
DEEDS = st.one_of(STATUSES, TROUBLE)


class Body(httpx.SyncByteStream):  # type: ignore[misc]
    """A body in parts, which may break off."""

    def __init__(self, breaks: bool) -> None:
        self.breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield b"part"
        if self.breaks:
            raise httpx.ReadError("broken")
        yield b"rest"


class Servers(httpx.BaseTransport):  # type: ignore[misc]
    """Sends to nobody: each endpoint does what it was told, and whether it got the request is noted."""

    def __init__(self, deeds: list[Any], breaks: bool) -> None:
        self.deeds, self.breaks = deeds, breaks
        self.reached: list[int] = []
        self.asked: list[int] = []

    def handle_request(self, request: Any) -> Any:
        number = int(request.url.host.removeprefix("e"))
        deed = self.deeds[number]
        self.asked.append(number)
        if isinstance(deed, str):
            if not deed.startswith("Connect"):
                self.reached.append(number)
                list(request.stream)
            raise getattr(httpx, deed)("as told")
        self.reached.append(number)
        list(request.stream)
        status, after = deed
        return httpx.Response(status, headers={"retry-after": "1"} if after else {}, stream=Body(self.breaks))


@given(
    deeds=st.lists(DEEDS, min_size=1, max_size=5),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "HEAD"]),
    once=st.booleans(),
    non_idempotent=st.booleans(),
    most=st.integers(1, 6),
    breaks=st.booleans(),
    leaves=st.booleans(),
    passive=st.booleans(),
    budget=st.booleans(),
)
def test_no_lease_is_left_and_nothing_is_repeated_that_may_not_be(
    deeds: list[Any],
    method: str,
    once: bool,
    non_idempotent: bool,
    most: int,
    breaks: bool,
    leaves: bool,
    passive: bool,
    budget: bool,
) -> None:
    names = [f"e{i}" for i in range(len(deeds))]
    pool = Pool(names, passive=OutlierDetection() if passive else None)
    inner = Servers(deeds, breaks)
    retries = RetryBudget(ratio=1.0, max_attempts=most) if budget else most
    by = transport(First(pool), inner=inner, retries=retries, non_idempotent=non_idempotent)
    answered, broke = None, False
    with httpx.Client(transport=by) as client:
        try:
            with client.stream(method, "http://m/", content=iter([b"x"]) if once else b"x") as response:
                answered = response.status_code
                for _ in response.iter_raw():
                    if leaves:
                        break
        except httpx.TransportError:
            broke = answered is not None
    stats = pool.stats()
    assert all(s.inflight == 0 and s.load == 0 and s.dropped == 0 for s in stats)
    ends = sum(s.successes + s.failures + s.timeouts + s.rejected + s.cancelled for s in stats)
    assert sum(s.picks for s in stats) == ends == len(inner.asked) <= most
    assert inner.asked == list(range(len(inner.asked))), "each attempt on another endpoint"
    assert broke == (breaks and not leaves and answered is not None)

    def refused(deed: Any) -> bool:
        return not isinstance(deed, str) and (deed[0] == 429 or (deed[0] == 503 and deed[1]))

    def may_go_on(deed: Any) -> bool:
        if isinstance(deed, str):
            return deed.startswith("Connect") or (not once and (method in IDEMPOTENT or non_idempotent))
        again = method in IDEMPOTENT or non_idempotent or refused(deed)
        return deed[0] in {429, 502, 503, 504} and not once and again

    # All that were passed over may be, and who was asked last may not, or was the last that there is.
    assert all(may_go_on(deeds[i]) for i in inner.asked[:-1])
    last = inner.asked[-1]
    assert not may_go_on(deeds[last]) or len(inner.asked) in (most, len(deeds))
    assert (answered is None) == isinstance(deeds[last], str)
    if answered is not None:
        assert answered == deeds[last][0]
