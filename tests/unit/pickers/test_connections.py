"""Least connections by nginx's and HAProxy's rule, Envoy's schedule by load, and first."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

import aibalance
from aibalance import ConfigError, Endpoint, First, LeastConnections, LeastRequest, OverloadedError, Pool

MAKE: dict[str, Any] = {
    "nginx": lambda p: LeastConnections(p),
    "haproxy": lambda p: LeastConnections(p, variant="haproxy"),
    "edf": lambda p: LeastRequest(p, schedule="edf"),
    "first": lambda p: First(p),
}


def pool(*weights: float, limits: tuple[int | None, ...] = ()) -> Pool:
    bounds = limits or (None,) * len(weights)
    pairs = zip("abcdefgh", weights, bounds, strict=False)
    return Pool([Endpoint(n, weight=w, max_inflight=m) for n, w, m in pairs], panic_threshold=0.0, seed=3)


def ids(items: Any) -> str:
    return "".join(item.endpoint.id for item in items)


@pytest.mark.parametrize("name", MAKE)
def test_the_contract_of_every_picker(name: str) -> None:
    picker = MAKE[name](pool(3, 0, 1, limits=(2, None, 3)))
    assert {picker.acquire(exclude=["a"]).endpoint.id for _ in range(5)} == {"c"}
    assert {picker.acquire(subset=["a"]).endpoint.id for _ in range(5)} == {"a"}
    assert picker.try_acquire(subset=["b"]) is None
    assert sorted(e.id for e in picker.ranked(k=9)) == ["a", "c"]
    leases = [picker.acquire() for _ in range(5)]
    assert Counter(ids(leases)) == {"a": 2, "c": 3}
    with pytest.raises(OverloadedError):
        picker.pick()
    assert picker.ranked(k=2) == []
    for lease in leases:
        lease.release()
    assert len(picker.pick_many(10)) == 10
    assert [s.inflight for s in picker.pool.stats()] == [0, 0, 0]
    picker.pool.update([])
    with pytest.raises(aibalance.NoEndpointsError):
        picker.pick()
    picker.pool.update(["x"])
    assert picker.pick().id == "x"
    assert repr(pickle.loads(pickle.dumps(picker))) == repr(picker)


@pytest.mark.parametrize("name", MAKE)
def test_backups_wait(name: str) -> None:
    both = Pool([Endpoint("a", max_inflight=1), Endpoint("b", backup=True)], panic_threshold=0.0)
    picker = MAKE[name](both)
    first, second = picker.acquire(), picker.acquire()
    assert ids([first, second]) == "ab"


def test_nginx_idle_is_smooth_and_a_clear_choice_moves_nobodys_turn() -> None:
    picker = LeastConnections(pool(5, 1, 1))
    assert "".join(picker.pick().id for _ in range(7)) == "aabacaa"
    picker = LeastConnections(pool(1, 1))
    with picker.acquire() as first:
        assert first.endpoint.id == "a"
        assert [picker.pick().id for _ in range(5)] == ["b"] * 5
    assert picker.pick().id == "b", "the tie after it goes on where the first left off"


def test_nginx_compares_requests_over_weight() -> None:
    picker = LeastConnections(pool(3, 1, 0.5))
    leases = [picker.acquire() for _ in range(18)]
    assert Counter(ids(leases)) == {"a": 12, "b": 4, "c": 2}


def test_a_change_keeps_turns() -> None:
    picker = LeastConnections(pool(1, 1, 1))
    assert picker.pick().id == "a"
    picker.pool.set_health("b", "unhealthy")
    assert picker.pick().id == "c"
    picker.pool.set_health("b", "healthy")
    assert [picker.pick().id for _ in range(3)] == ["b", "c", "a"]


def test_haproxy_takes_idle_ones_first_and_the_longest_waiting_of_equals() -> None:
    picker = LeastConnections(pool(1, 1, 100), variant="haproxy")
    a, b, c = (picker.acquire() for _ in range(3))
    assert ids([a, b, c]) == "abc"
    for lease in (c, a, b):
        lease.release()
    assert "".join(picker.acquire().endpoint.id for _ in range(3)) == "cab"


def test_haproxy_sees_what_another_picker_of_the_pool_does() -> None:
    shared = pool(1, 1, 1)
    least, other = LeastConnections(shared, variant="haproxy"), LeastRequest(shared)
    held = other.acquire(subset=["a"])
    assert least.pick().id == "b"
    held.release()
    assert [least.pick().id for _ in range(3)] == ["c", "b", "a"]


def test_haproxy_weight_change_goes_to_the_end() -> None:
    picker = LeastConnections(pool(1, 1, 1), variant="haproxy")
    picker.pool.set_weight("a", 2)
    assert "".join(picker.pick().id for _ in range(3)) == "bca"


def test_envoys_example_of_load_and_weight() -> None:
    shared = pool(1, 2)
    picker = LeastRequest(shared, schedule="edf")
    assert "".join(picker.pick().id for _ in range(6)) == "babbab"
    plain = LeastRequest(pool(1, 2), schedule="edf", bias=0.0)
    leases = [plain.acquire() for _ in range(300)]
    assert Counter(ids(leases)) == {"a": 100, "b": 200}


def test_equal_weights_go_by_choices() -> None:
    picker = LeastRequest(pool(1, 1), schedule="edf", full_scan=True)
    with picker.acquire() as lease:
        assert picker.pick() != lease.endpoint


def test_first_fills_in_order() -> None:
    picker = First(pool(1, 9, 1, limits=(1, 2, None)))
    leases = [picker.acquire() for _ in range(5)]
    assert ids(leases) == "abbcc"
    leases[1].release()
    assert picker.pick().id == "b"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match='variant: "apache" is not allowed; one of "nginx", "haproxy"'):
        LeastConnections(["a"], variant="apache")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'schedule: .*rr.* is not allowed; "edf" or None'):
        LeastRequest(["a"], schedule="rr")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='start: 3 is not allowed; None, or a start together with schedule="edf"'):
        LeastRequest(["a"], start=3)
    with pytest.raises(ConfigError, match="start"):
        LeastRequest(["a"], schedule="edf", start="soon")  # type: ignore[arg-type]
    assert "schedule='edf', start='random'" in repr(LeastRequest(["a"], schedule="edf", start="random"))
