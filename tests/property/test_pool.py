"""A pool against a model of it: whatever is done in whatever order, the counts are right."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from aibalance import (
    ConfigError,
    Endpoint,
    LeaseError,
    LeastRequest,
    Maglev,
    ManualClock,
    PeakEwma,
    PickError,
    Pool,
    RingHash,
    RoundRobin,
)

IDS = [f"e{i}" for i in range(7)]
ids = st.sampled_from(IDS)
# In units of 1/1024, so that sums are exact.
costs = st.integers(0, 5 * 1024).map(lambda n: n / 1024)
weights = st.sampled_from([0, 1, 1, 2, 0.5, 100])
outcomes = st.sampled_from(["success", "failure", "timeout", "rejected"])
NAMES = {"success": "successes", "failure": "failures", "timeout": "timeouts", "rejected": "rejected"}
TTL = 10.0
LEASE_TIMEOUT = 25.0


class Member:
    """One endpoint in the pool: a new one each time that an id comes in."""

    def __init__(self) -> None:
        self.inflight = 0
        self.sent = 0.0
        self.picks = 0
        self.ended = dict.fromkeys([*NAMES.values(), "cancelled", "dropped"], 0)
        self.told: tuple[float, float, float] | None = None  # correction, until

    @property
    def load(self) -> float:
        return max(0.0, self.sent + (self.told[0] if self.told else 0.0))


class Held:
    """A lease: the real one or its id, and what it holds."""

    def __init__(self, lease: Any, member: Member, cost: float, start: float) -> None:
        self.lease, self.member, self.cost, self.start = lease, member, cost, start
        self.id: int | None = None
        self.entered: float | None = None
        self.live = True

    def end(self, how: str) -> None:
        if self.live:
            self.live = False
            self.member.inflight -= 1
            self.member.sent -= self.cost
            self.member.ended[how] += 1


class PoolMachine(RuleBasedStateMachine):
    held: Any = Bundle("held")

    @initialize(start=st.lists(ids, unique=True), seed=st.integers(0, 9))
    def make(self, start: list[str], seed: int) -> None:
        self.clock = ManualClock(0.0)
        self.time = 0.0
        self.pool = Pool(start, clock=self.clock, seed=seed, lease_timeout=LEASE_TIMEOUT)
        self.pickers: list[Any] = [
            RoundRobin(self.pool),
            LeastRequest(self.pool),
            PeakEwma(self.pool),
            RingHash(self.pool, points=4),
            Maglev(self.pool, table_size=13),
        ]
        self.members = {id: Member() for id in start}
        self.entered: list[Held] = []

    # ----------------------------------------------------------------------------------------------- membership

    @rule(members=st.lists(st.tuples(ids, weights), unique_by=lambda m: m[0]))
    def update(self, members: list[tuple[str, float]]) -> None:
        self.pool.update([Endpoint(id, weight=w, max_inflight=4) for id, w in members])
        self.members = {id: self.members.get(id) or Member() for id, _ in members}

    @rule(id=ids, weight=weights)
    def add(self, id: str, weight: float) -> None:
        if id in self.members:
            with pytest.raises(ConfigError):
                self.pool.add(Endpoint(id, weight=weight))
        else:
            self.pool.add(Endpoint(id, weight=weight))
            self.members[id] = Member()

    @rule(id=ids)
    def remove(self, id: str) -> None:
        if id in self.members:
            self.pool.remove(id)
            del self.members[id]
        else:
            with pytest.raises(ConfigError):
                self.pool.remove(id)

    @rule(id=ids, weight=weights)
    def set_weight(self, id: str, weight: float) -> None:
        if id in self.members:
            self.pool.set_weight(id, weight)

    @rule(id=ids, health=st.sampled_from(["healthy", "degraded", "unhealthy"]))
    def set_health(self, id: str, health: Any) -> None:
        if id in self.members:
            self.pool.set_health(id, health)

    @rule(id=ids, on=st.booleans())
    def drain(self, id: str, on: bool) -> None:
        if id in self.members:
            if on:
                self.pool.drain(id)
                assert self.pool.is_drained(id) == (self.members[id].inflight == 0)
            else:
                self.pool.undrain(id)

    # ----------------------------------------------------------------------------------------------------- work

    @rule(which=st.integers(0, 4), key=st.one_of(st.none(), st.text("ab")), n=st.integers(1, 5))
    def pick(self, which: int, key: str | None, n: int) -> None:
        picker = self.pickers[which]
        for _ in range(n):
            chosen = picker.try_pick(key)
            assert chosen is None or chosen.id in self.members
        try:
            assert {e.id for e in picker.pick_many(n)} <= set(self.members)
        except PickError:
            assert chosen is None
        assert len(picker.ranked(key, k=9)) <= len(self.members)

    @rule(target=held, which=st.integers(0, 4), cost=costs, exclude=st.frozensets(ids, max_size=3))
    def acquire(self, which: int, cost: float, exclude: frozenset[str]) -> Any:
        lease = self.pickers[which].try_acquire("k", cost=cost, exclude=exclude)
        if lease is None:
            return multiple()
        id = lease.endpoint.id
        assert id not in exclude
        member = self.members[id]
        member.inflight += 1
        member.sent += cost
        member.picks += 1
        return Held(lease, member, cost, self.time)

    @rule(one=held, outcome=outcomes)
    def release(self, one: Held, outcome: str) -> None:
        if one.lease is not None:
            one.lease.release(outcome)
            one.end(NAMES[outcome])

    @rule(one=held)
    def cancel(self, one: Held) -> None:
        if one.lease is not None:
            one.lease.cancel()
            one.end("cancelled")

    @rule(one=held, error=st.sampled_from([None, ValueError, TimeoutError, KeyboardInterrupt]))
    def block(self, one: Held, error: type[BaseException] | None) -> None:
        if one.lease is not None:
            with pytest.raises(error) if error else nullcontext(), one.lease:
                if error:
                    raise error
            how = {None: "successes", ValueError: "failures", TimeoutError: "timeouts", KeyboardInterrupt: "cancelled"}
            one.end(how[error])

    @rule(one=held, cost=st.integers(-2048, 2048).map(lambda n: n / 1024))
    def correct(self, one: Held, cost: float) -> None:
        if one.lease is None:
            return
        if not one.live:
            with pytest.raises(LeaseError):
                one.lease.add(cost)
            return
        one.lease.add(cost)
        after = max(0.0, one.cost + cost)
        one.member.sent += after - one.cost
        one.cost = after
        assert one.lease.cost == after

    @rule(one=held, detach=st.booleans())
    def enter(self, one: Held, detach: bool) -> None:
        if one.lease is None or not one.live:
            return
        one.id = one.lease.detach() if detach else one.lease.id
        if one.entered is None:
            one.entered = one.start
            self.entered.append(one)
        if detach:
            one.lease = None

    @rule(one=held, outcome=st.one_of(st.none(), outcomes))
    def release_by_id(self, one: Held, outcome: str | None) -> None:
        if one.id is None:
            return
        call = (lambda: self.pool.cancel(one.id)) if outcome is None else (lambda: self.pool.release(one.id, outcome))  # type: ignore[arg-type]
        if one.live:
            call()
            one.end("cancelled" if outcome is None else NAMES[outcome])
        else:
            with pytest.raises(LeaseError):
                call()

    @rule(one=consumes(held))
    def drop(self, one: Held) -> None:
        if one.lease is not None:
            one.lease = None
            one.end("dropped")

    # ----------------------------------------------------------------------------------------------------- time

    @rule(id=ids, inflight=st.one_of(st.none(), st.integers(0, 20)), queue=st.one_of(st.none(), st.integers(0, 20)))
    def observe(self, id: str, inflight: int | None, queue: int | None) -> None:
        if id not in self.members:
            return
        self.pool.observe(id, inflight=inflight, queue=queue, utilization=0.5)
        if inflight is not None or queue is not None:
            member = self.members[id]
            told = float((inflight or 0) + (queue or 0))
            member.told = (told - member.sent, self.time + TTL, told)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.time += seconds
        self.pool.advance()
        for member in self.members.values():
            if member.told and member.told[1] <= self.time:
                member.told = None
        for one in self.entered:
            if one.live and one.entered is not None and self.time - one.entered >= LEASE_TIMEOUT:
                one.end("timeouts")

    # ----------------------------------------------------------------------------------------------- invariants

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "pool"):
            return
        records = {record.id: record for record in self.pool.stats()}
        assert set(records) == set(self.members)
        for id, member in self.members.items():
            record = records[id]
            assert record.inflight == member.inflight
            assert record.load == pytest.approx(member.load, abs=1e-9)
            assert record.picks == member.picks
            assert {name: getattr(record, name) for name in member.ended} == member.ended

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pickers = []
        self.clock.advance(1000)
        self.pool.advance()
        # What this test still holds goes now.
        self.bundles.clear()
        self.names_to_values.clear()
        for record in self.pool.stats():
            assert record.inflight >= 0


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
