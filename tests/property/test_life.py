"""Random lives of a pool: whatever happens, nobody ineligible is picked, counts fit, and nothing gets stuck."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import aibalance
from aibalance import Endpoint, Lease, ManualClock, PickError, Pool, SlowStart

IDS = [f"10.0.0.{i}" for i in range(6)]
ids = st.sampled_from(IDS)
PICKERS = sorted(name for name in aibalance.__all__ if hasattr(getattr(aibalance, name), "_rehearse"))

endpoints = st.builds(
    Endpoint,
    ids,
    weight=st.sampled_from([0, 1, 1, 2, 7]),
    priority=st.sampled_from([0, 0, 1]),
    backup=st.booleans(),
    zone=st.sampled_from(["", "x", "y"]),
    max_inflight=st.sampled_from([None, 1, 2]),
)
events = st.one_of(
    st.tuples(st.just("add"), endpoints),
    st.tuples(st.just("remove"), ids),
    st.tuples(st.just("health"), ids, st.sampled_from(["healthy", "degraded", "unhealthy"])),
    st.tuples(st.just("drain"), ids, st.sampled_from([None, 5.0])),
    st.tuples(st.just("undrain"), ids),
    st.tuples(st.just("weight"), ids, st.sampled_from([0, 1, 5])),
    st.tuples(st.just("acquire"), st.integers(0, 9)),
    st.tuples(st.just("pick"), st.integers(0, 9)),
    st.tuples(st.just("end"), st.integers(0, 99), st.sampled_from(["success", "failure", "timeout", "rejected"])),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("detach"), st.integers(0, 99)),
    st.tuples(st.just("time"), st.sampled_from([0.01, 1.0, 20.0, 1e6])),
    st.tuples(st.just("report"), ids, st.sampled_from([0.0, 3.0])),
)


class Life:
    """A pool, a picker, and what a plain model says of them."""

    def __init__(self, name: str, on_panic: str, slow: bool, zone: str | None) -> None:
        self.clock = ManualClock(1.0)
        options: dict[str, Any] = {"local_zone": zone} if zone else {}
        self.pool = Pool(
            [],
            slow_start=SlowStart(10.0) if slow else None,
            on_panic=on_panic,  # type: ignore[arg-type]
            clock=self.clock,
            seed=1,
            lease_timeout=None,
            **options,
        )
        self.picker = getattr(aibalance, name)(self.pool)
        self.draining: set[str] = set()
        self.sick: set[str] = set()
        self.leases: list[tuple[Lease, Endpoint]] = []
        self.detached: list[int] = []

    def known(self) -> dict[str, Endpoint]:
        return {e.id: e for e in self.pool.endpoints}

    def happen(self, what: str, *how: Any) -> None:
        pool, known = self.pool, self.known()
        if what in ("remove", "health", "drain", "undrain", "weight", "report") and how[0] not in known:
            return
        match what:
            case "add" if how[0].id not in known:
                pool.add(how[0])
            case "remove":
                pool.remove(how[0])
                self.draining.discard(how[0])
                self.sick.discard(how[0])
            case "health":
                pool.set_health(*how)
                (self.sick.add if how[1] == "unhealthy" else self.sick.discard)(how[0])
            case "drain":
                pool.drain(how[0], deadline=how[1])
                self.draining.add(how[0])
            case "undrain":
                pool.undrain(how[0])
                self.draining.discard(how[0])
            case "weight":
                pool.set_weight(*how)
            case "report":
                pool.observe(how[0], inflight=how[1])
            case "acquire":
                lease = self.ask("try_acquire", how[0])
                if lease is not None:
                    self.leases.append((lease, lease.endpoint))
                    limit = lease.endpoint.max_inflight
                    assert limit is None or self.inflight()[lease.endpoint.id] <= limit
            case "pick":
                self.ask("try_pick", how[0])
            case "end" if self.leases:
                self.leases.pop(how[0] % len(self.leases))[0].release(how[1])
            case "drop" if self.leases:
                self.leases.pop(how[0] % len(self.leases))
            case "detach" if self.leases:
                self.detached.append(self.leases.pop(how[0] % len(self.leases))[0].detach())
            case "time":
                self.clock.advance(how[0])
                pool.advance()

    def inflight(self) -> dict[str, int]:
        return {s.id: s.inflight for s in self.pool.stats()}

    def able(self) -> set[str]:
        """Who may get something: in a panic the sick too; never one that drains, is full or has weight 0."""
        stats = {s.id: s for s in self.pool.stats()}
        return {
            e.id
            for e in self.pool.endpoints
            if e.weight > 0
            and e.id not in self.draining
            and (e.max_inflight is None or stats[e.id].inflight < e.max_inflight)
            and (e.id not in self.sick or stats[e.id].share > 0)
        }

    def ask(self, how: str, key: int) -> Any:
        able = self.able()
        found = getattr(self.picker, how)(f"192.0.2.{key}")
        if found is not None:
            chosen = found if isinstance(found, Endpoint) else found.endpoint
            assert chosen.id in able, (chosen, able)
        else:
            # Whoever is healthy and has room is found.
            assert not able - self.sick
        return found

    def check(self) -> None:
        for record in self.pool.stats():
            assert 0 <= record.inflight < 2**32
            assert record.load >= 0
            assert 0 <= record.share <= 1 + 1e-9
            assert 0 <= record.effective_weight <= record.weight
        told = self.picker.explain("192.0.2.1")
        assert len(told) == len(self.pool)
        assert [one.rank for one in told if one.rank is not None] == list(range(sum(one.eligible for one in told)))
        for move in self.pool.rebalance(3):
            assert move.lease_id in self.detached
            assert move.source.id != move.target.id


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PICKERS),
    st.sampled_from(["all", "fail"]),
    st.booleans(),
    st.sampled_from([None, "x"]),
    st.lists(events, max_size=40),
)
def test_a_pool_lives_through_anything(name: str, on_panic: str, slow: bool, zone: str | None, script: Any) -> None:
    life = Life(name, on_panic, slow, zone)
    for event in script:
        life.happen(*event)
    life.check()
    # Everything is given back, everybody gets well, and with nothing called but picks the pool serves again.
    for lease, _ in life.leases:
        lease.release()
    life.leases.clear()
    for lease_id in life.detached:
        life.pool.release(lease_id)
    assert all(n == 0 for n in life.inflight().values())
    life.pool.update([Endpoint(IDS[0]), Endpoint(IDS[1])])
    for e in life.pool.endpoints:
        life.pool.set_health(e.id, "healthy")
        life.pool.undrain(e.id)
        life.pool.set_weight(e.id, 1)
    life.clock.advance(1e6)
    try:
        picked = {life.picker.pick(f"192.0.2.{i}").id for i in range(64)}
    except PickError as error:
        raise AssertionError("stuck") from error
    assert picked <= set(IDS[:2])
    assert picked


PASSIVE: list[dict[str, Any]] = [
    {
        "passive": aibalance.OutlierDetection(
            consecutive_5xx=2, interval=1, base_ejection_time=5, max_ejection_percent=100
        )
    },
    {"passive": aibalance.MaxFails(max_fails=2, fail_timeout=5.0)},
    {"circuit_breaker": aibalance.CircuitBreaker(failures=2, open_time=5.0)},
]
answers = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 9)),
    st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from([200, 500, 500, 503, 429])),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 1.0, 20.0])),
    st.tuples(st.just("health"), st.sampled_from(IDS[:3]), st.sampled_from(["healthy", "unhealthy"])),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PICKERS), st.sampled_from(PASSIVE), st.lists(answers, max_size=60))
def test_who_was_put_out_gets_nothing_and_comes_back_by_picks_alone(name: str, options: Any, script: Any) -> None:
    clock = ManualClock(1.0)
    pool = Pool(IDS[:3], clock=clock, seed=1, panic_threshold=0, **options)
    picker = getattr(aibalance, name)(pool)
    leases: list[Lease] = []
    for what, *how in script:
        match what:
            case "ask":
                able = {s.id for s in pool.stats() if s.eligible}
                lease = picker.try_acquire(f"192.0.2.{how[0]}")
                if lease is None:
                    assert not able
                else:
                    assert lease.endpoint.id in able
                    leases.append(lease)
            case "answer" if leases:
                lease = leases.pop(how[0] % len(leases))
                lease.release("success" if how[1] == 200 else "failure", status=how[1])
            case "cancel" if leases:
                leases.pop(how[0] % len(leases)).cancel()
            case "wait":
                clock.advance(how[0])
            case "health":
                pool.set_health(*how)
    for lease in leases:
        lease.release("success", status=200)
    assert [s.inflight for s in pool.stats()] == [0, 0, 0]
    for endpoint in pool.endpoints:
        pool.set_health(endpoint.id, "healthy")
    # Nothing but picks from here on: everybody has been forgiven.
    clock.advance(1e5)
    for i in range(200):
        picker.acquire(f"192.0.2.{i}").release("success", status=200)
    assert all(s.eligible for s in pool.stats())
