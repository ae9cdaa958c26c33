"""The active checker, with a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from collections import Counter
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, LeastRequest, ManualClock, Pool, RoundRobin
from aibalance.health import CheckRule, HealthChecker, HealthEvent, ProbeResult


class World:
    """A pool on a clock that only the checker's sleep moves, and what each endpoint answers."""

    def __init__(self, *ids: str, **options: Any) -> None:
        self.clock = ManualClock(0.0)
        self.pool = Pool(ids, clock=self.clock, seed=1)
        self.answers: dict[str, Any] = dict.fromkeys(ids, True)
        self.asked: list[tuple[str, float]] = []
        self.until = 0.0
        self.reached = asyncio.Event()
        options = {"jitter": 0.0, "start_spread": 0.0, "seed": 7, "sleep": self.sleep, **options}
        self.checker = HealthChecker(self.pool, self.ask, **options)

    async def ask(self, endpoint: Endpoint) -> Any:
        self.asked.append((endpoint.id, self.clock.now()))
        answer = self.answers[endpoint.id]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        for _ in range(5):  # whoever is ready goes first
            await asyncio.sleep(0)
        if self.clock.now() >= self.until:
            self.reached.set()
            await asyncio.Event().wait()
        self.clock.advance(min(seconds, self.until - self.clock.now()) or 1e-9)

    async def run_until(self, at: float) -> None:
        self.until = at
        self.reached.clear()
        async with self.checker:
            await asyncio.wait_for(self.reached.wait(), 20)

    def health(self) -> dict[str, str]:
        return {s.id: s.health for s in self.pool.stats()}


def once(world: World, times: int = 1) -> dict[str, str]:
    async def go() -> dict[str, Any]:
        for _ in range(times):
            states = await world.checker.check_once()
        return states

    return asyncio.run(go())  # type: ignore[return-value]


def test_the_pool_is_told_after_the_thresholds() -> None:
    world = World("a", "b")
    assert once(world) == {"a": "healthy", "b": "healthy"}
    world.answers["b"] = False
    assert once(world, 2)["b"] == "healthy"
    assert once(world)["b"] == "unhealthy"
    assert world.health() == {"a": "healthy", "b": "unhealthy"}
    assert {RoundRobin(world.pool).pick().id for _ in range(4)} == {"a"}
    world.answers["b"] = True
    assert once(world)["b"] == "unhealthy"
    assert once(world)["b"] == "healthy"
    assert world.health()["b"] == "healthy"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (False, "the function said no"),
        (OSError("refused"), "OSError: refused"),
        (asyncio.CancelledError(), "the probe was cancelled"),
        (17, "the function gave int, not bool, a mapping or ProbeResult"),
        (ProbeResult(False, "sick"), "sick"),
    ],
)
def test_no_answer_ends_the_checker(answer: Any, reason: str) -> None:
    world = World("a", "b", unhealthy_threshold=1)
    world.answers["a"] = answer
    assert once(world) == {"a": "unhealthy", "b": "healthy"}
    assert world.checker.status("a").reason == reason


def test_a_probe_that_hangs_runs_into_the_timeout() -> None:
    async def hang(endpoint: Endpoint) -> bool:
        await asyncio.Event().wait()
        return True

    pool = Pool(["a"], clock=ManualClock(0.0))
    checker = HealthChecker(pool, hang, timeout=0.01, unhealthy_threshold=1)
    assert asyncio.run(checker.check_once()) == {"a": "unhealthy"}
    assert checker.status("a").reason == "no answer within 0.01 s"


def test_plain_functions_run_in_threads_and_a_hanging_one_holds_nobody() -> None:
    release = threading.Event()
    names: set[str] = set()

    def ask(endpoint: Endpoint) -> bool:
        names.add(threading.current_thread().name)
        return endpoint.id == "b" or release.wait(60)

    checker = HealthChecker(Pool(["a", "b"]), ask, timeout=0.05, unhealthy_threshold=1)
    assert asyncio.run(checker.check_once()) == {"a": "unhealthy", "b": "healthy"}
    assert asyncio.run(checker.check_once()) == {"a": "unhealthy", "b": "healthy"}
    assert checker.status("a").reason == "RuntimeError: the call before has not come back"
    release.set()
    assert names == {"aibalance-health"}


def test_each_is_checked_at_its_interval_and_first_checks_are_spread() -> None:
    world = World("a", "b", "c", interval=10.0, start_spread=5.0)
    asyncio.run(world.run_until(60.0))
    times: dict[str, list[float]] = {}
    for id, at in world.asked:
        times.setdefault(id, []).append(at)
    firsts = [t[0] for t in times.values()]
    assert len(set(firsts)) == 3
    assert all(0 <= first < 5 for first in firsts)
    for t in times.values():
        assert [round(b - a, 3) for a, b in itertools.pairwise(t)] == [10.0] * (len(t) - 1)
        assert len(t) in (6, 7)


def test_jitter_varies_the_interval_and_the_seed_fixes_it() -> None:
    def asked(seed: int) -> list[tuple[str, float]]:
        world = World("a", "b", interval=10.0, jitter=0.2, seed=seed)
        asyncio.run(world.run_until(100.0))
        return world.asked

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
    times = [at for id, at in asked(1) if id == "a"]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len({round(g, 6) for g in gaps}) > 3
    assert all(8 <= gap <= 12.001 for gap in gaps)


def test_it_follows_the_pool() -> None:
    world = World("a", "b", interval=5.0, follow=1.0)

    async def go() -> None:
        await world.run_until(7.0)
        world.answers["c"] = True
        world.pool.update(["b", "c"])
        world.asked.clear()
        await world.run_until(20.0)

    asyncio.run(go())
    assert {id for id, _ in world.asked} == {"b", "c"}
    assert world.checker.states() == {"b": "healthy", "c": "healthy"}
    with pytest.raises(ConfigError, match=r"^id: 'a'"):
        world.checker.status("a")


def test_who_is_put_back_is_not_thought_better_of() -> None:
    world = World("a", "b", unhealthy_threshold=1)
    world.answers["a"] = False
    once(world)
    world.pool.remove("a")
    world.pool.add("a")
    assert world.health()["a"] == "healthy"
    once(world)
    assert world.health()["a"] == "unhealthy"


def test_at_most_so_many_at_once() -> None:
    now = most = 0

    async def ask(endpoint: Endpoint) -> bool:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return True

    ids = [f"e{i}" for i in range(40)]
    asyncio.run(HealthChecker(Pool(ids), ask, concurrency=3).check_once())
    assert most == 3


READY = {"model_loaded": True, "inference_test": True, "gpu_available": True, "queue": 3, "db_connected": True}


def deep(world: World, **options: Any) -> HealthChecker:
    return HealthChecker(world.pool, None, deep=world.ask, seed=1, sleep=world.sleep, **options)


def test_warming_ends_only_after_model_and_inference() -> None:
    world = World("a")
    world.checker = deep(world)
    seen = []
    for answer in (
        {},
        READY | {"model_loaded": False, "inference_test": False},
        READY | {"inference_test": False},
        READY,
    ):
        world.answers["a"] = answer
        seen.append((once(world)["a"], world.health()["a"]))
    assert seen == [("warming", "unhealthy")] * 3 + [("healthy", "healthy")]
    assert world.checker.take_events() == []


def test_warming_for_too_long_asks_for_a_restart() -> None:
    world = World("a")
    world.checker = deep(world, warming_timeout=60.0, unhealthy_threshold=1)
    world.answers["a"] = READY | {"model_loaded": False}
    assert once(world)["a"] == "warming"
    world.clock.advance(60)
    assert once(world)["a"] == "unhealthy"
    assert [(e.check, e.action) for e in world.checker.actions()] == [("model_loaded", "restart")]


@pytest.mark.parametrize(
    ("check", "value", "state", "health", "action"),
    [
        ("model_loaded", False, "unhealthy", "unhealthy", "restart"),
        ("gpu_available", False, "unhealthy", "unhealthy", "replace"),
        ("inference_test", False, "unhealthy", "unhealthy", "reload_model"),
        ("memory_percent", 90, "degraded", "degraded", "scale_up"),
        ("gpu_memory_percent", 85.0, "degraded", "degraded", "scale_up"),
        ("queue", 100, "degraded", "degraded", "scale_up"),
        ("queue", float("nan"), "degraded", "degraded", "scale_up"),
        ("queue", "many", "degraded", "degraded", "scale_up"),
        ("db_connected", False, "draining", "healthy", "stop_sending"),
    ],
)
def test_each_check_has_its_state_and_its_action(check: str, value: Any, state: str, health: str, action: str) -> None:
    world = World("a")
    world.checker = deep(world, unhealthy_threshold=2)
    world.answers["a"] = READY
    once(world, 2)
    world.answers["a"] = READY | {check: value}
    once(world)
    assert world.checker.actions() == (), "once is not enough"
    assert once(world)["a"] == state
    assert world.health()["a"] == health
    [event] = world.checker.actions()
    assert (event.endpoint, event.check, event.action, event.over) == ("a", check, action, False)
    assert world.checker.metrics()[action] == 1
    assert world.pool.stats()[0].draining == (check == "db_connected")
    world.answers["a"] = READY
    assert once(world, 2)["a"] == "healthy"
    assert world.checker.actions() == ()
    assert [e.over for e in world.checker.take_events()] == [False, True]
    assert not world.pool.stats()[0].draining
    assert world.checker.take_events() == []


def test_another_server_under_the_same_id_starts_afresh() -> None:
    world = World("a")
    world.checker = deep(world, unhealthy_threshold=1)
    world.answers["a"] = READY
    once(world)
    world.answers["a"] = READY | {"db_connected": False}
    assert once(world)["a"] == "draining"
    world.pool.update([Endpoint("b", id="a")])
    world.answers["a"] = READY
    assert once(world)["a"] == "healthy"
    assert not world.pool.stats()[0].draining
    assert world.checker.actions() == ()


def test_a_drain_of_somebody_else_stays() -> None:
    world = World("a")
    world.checker = deep(world, unhealthy_threshold=1, healthy_threshold=1)
    world.answers["a"] = READY
    once(world)
    world.pool.drain("a")
    world.answers["a"] = READY | {"db_connected": False}
    once(world)
    world.answers["a"] = READY
    once(world)
    assert world.pool.stats()[0].draining


def test_own_rules_shallow_action_grace_and_callback() -> None:
    heard: list[HealthEvent] = []

    def hear(event: HealthEvent) -> None:
        heard.append(event)
        raise RuntimeError("not your business")

    world = World("a", unhealthy_threshold=1, shallow_action="replace", grace_period=5.0, on_event=hear)
    world.answers["a"] = False
    once(world)
    assert heard == []
    world.clock.advance(5)
    once(world)
    assert [(e.check, e.action, e.at) for e in heard] == [("shallow", "replace", 5.0)]
    quiet = World("a", unhealthy_threshold=1, shallow_action=None)
    quiet.answers["a"] = False
    once(quiet)
    assert quiet.checker.actions() == ()
    ruled = World("a", rules=[CheckRule("disk", "replace", 50)], unhealthy_threshold=1)
    ruled.answers["a"] = {"disk": 51, "queue": 1e9}
    assert once(ruled)["a"] == "unhealthy"


def test_the_deep_check_waits_for_the_shallow_one() -> None:
    world = World("a")
    deep_asked: list[str] = []

    def ask_deep(endpoint: Endpoint) -> dict[str, object]:
        deep_asked.append(endpoint.id)
        return READY

    world.checker = HealthChecker(world.pool, world.ask, deep=ask_deep, unhealthy_threshold=1)
    world.answers["a"] = False
    once(world)
    assert deep_asked == []
    world.answers["a"] = True
    assert once(world, 2)["a"] == "healthy"
    assert deep_asked == ["a", "a"]


def test_leases_in_flight_survive_a_stop_of_sending() -> None:
    world = World("a", "b")
    world.checker = deep(world, unhealthy_threshold=1)
    world.answers = dict.fromkeys("ab", READY)
    once(world)
    picker = LeastRequest(world.pool, seed=None)
    leases = [picker.acquire() for _ in range(4)]
    world.answers["a"] = READY | {"db_connected": False}
    once(world)
    assert Counter(picker.pick().id for _ in range(10)) == {"b": 10}
    assert not world.pool.is_drained("a")
    for lease in leases:
        lease.release()
    assert world.pool.is_drained("a")


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("interval", {"interval": 0}),
        ("interval", {"interval": float("inf")}),
        ("timeout", {"timeout": -1}),
        ("jitter", {"jitter": 1}),
        ("follow", {"follow": 0}),
        ("concurrency", {"concurrency": 0}),
        ("start_spread", {"start_spread": -1}),
        ("grace_period", {"grace_period": float("nan")}),
        ("healthy_threshold", {"healthy_threshold": 0}),
        ("start", {"start": "sideways"}),
        ("rules", {"rules": [CheckRule("x", "replace"), CheckRule("x", "restart")]}),
        ("shallow", {"shallow": None}),
        ("path", {"shallow": "health"}),
    ],
)
def test_what_cannot_be_is_told(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{field}:"):
        HealthChecker(Pool(["a"]), **options)


def test_it_starts_once_stops_and_does_not_pickle() -> None:
    world = World("a")

    async def go() -> None:
        world.checker.start()
        world.checker.start()
        assert "running" in repr(world.checker)
        await world.checker.aclose()
        await world.checker.aclose()

    asyncio.run(go())
    assert "stopped" in repr(world.checker)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(world.checker)
