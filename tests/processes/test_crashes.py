"""Processes that die, memory that is damaged, and users that are not meant."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aibalance import (
    CircuitBreaker,
    ConfigError,
    Endpoint,
    LeastConnections,
    LeastRequest,
    OutlierDetection,
    Pool,
    RoundRobin,
    SharedMemory,
    SlowStart,
)
from tests.processes.peer import Peer

FULL = os.environ.get("AIBALANCE_FULL") == "1"

WORK = """
import os, sys
import aibalance
pool = aibalance.Pool.open(sys.argv[1])
kind = [aibalance.LeastConnections, aibalance.LeastRequest, aibalance.RoundRobin, aibalance.PeakEwma][int(sys.argv[2])]
picker, n = kind(pool), int(sys.argv[3])
print("ready", flush=True)
for i in range(n):
    lease = picker.acquire()
    if i % 7 == 0:
        other = picker.acquire(cost=2.5)
        other.release("failure")
    lease.release()
print("done", sum(s.inflight for s in pool.stats()), flush=True)
"""


def worker(name: str, kind: int, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORK, name, str(kind), str(n)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def test_four_processes_and_updates_lose_no_count(name: str) -> None:
    n = 1_000_000 if FULL else 50_000
    pool = Pool([f"e{i}" for i in range(6)], shared=name)
    workers = [worker(name, kind, n) for kind in range(4)]
    turn = 0
    while any(process.poll() is None for process in workers):
        turn += 1
        pool.update([f"e{i}" for i in range(6) if i not in (turn % 3, 3)] + [f"new-{turn % 4}"])
        pool.set_weight("e4", 1 + turn % 3)
        pool.set_health("e5", "healthy" if turn % 2 else "unhealthy")
        time.sleep(0.002)
    for process in workers:
        assert process.stdout is not None
        assert process.stdout.read().startswith("done")
        process.stdout.close()
        assert process.wait() == 0
    assert turn > 10
    assert [stats.inflight for stats in pool.stats()] == [0] * len(pool)
    assert [stats.load for stats in pool.stats()] == [0] * len(pool)


def test_picks_of_four_processes_are_those_of_one_pool(name: str, peer: Callable[[], Peer]) -> None:
    pool = Pool([f"e{i}" for i in range(8)], shared=name)
    peers = [peer() for _ in range(4)]
    for one in peers:
        one("take(10)")
    assert [stats.inflight for stats in pool.stats()] == [5] * 8
    for one in peers:
        one.tell("[rr.pick() for _ in range(2000)] and None")
    for one in peers:
        one.answer_text()
    assert RoundRobin(pool).pick().id == "e0", "8,000 turns are whole rounds"


@pytest.mark.parametrize("round", range(50 if FULL else 5))
def test_what_a_killed_process_held_comes_back_within_a_second(name: str, round: int) -> None:
    chance = random.Random(round)
    pool = Pool(["a", "b", "c", "d"], shared=name)
    picker = LeastConnections(pool)
    others = [worker(name, kind, 1 << 60) for kind in range(3)]
    time.sleep(chance.uniform(0, 0.05))
    for process in others:
        process.kill()
    killed = time.monotonic()
    for process in others:
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    mine = picker.acquire()
    while [stats.inflight for stats in pool.stats()].count(0) < 3 or sum(s.load for s in pool.stats()) != 1:
        assert time.monotonic() - killed < 1, [(stats.inflight, stats.load) for stats in pool.stats()]
        picker.acquire().release()
        time.sleep(0.01)
    mine.release()
    assert [(stats.inflight, stats.load) for stats in pool.stats()] == [(0, 0)] * 4


COME_AND_GO = """
import sys, aibalance
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    pool = aibalance.Pool(["a", "b"], shared=sys.argv[1])
    lease = aibalance.LeastConnections(pool).acquire()
    del lease, pool
"""


def who_come_and_go(name: str, times: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-c", COME_AND_GO, name, str(times)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        process.stdout.close()
    return processes


def test_processes_that_come_and_go_at_once_are_all_let_in(name: str) -> None:
    # The last to leave has the next make the memory anew, while a third waits at the door.
    assert [process.wait() for process in who_come_and_go(name, 20_000 if FULL else 1000)] == [0, 0, 0]


@pytest.mark.parametrize("round", range(40 if FULL else 3))
def test_processes_that_die_while_they_enter_or_leave_keep_nobody_out(name: str, round: int) -> None:
    others = who_come_and_go(name, 1 << 60)
    time.sleep(random.Random(round).uniform(0, 0.1))
    for process in others:
        process.kill()
    assert [process.wait() for process in others] == [-9, -9, -9]
    pool = Pool(["a", "b"], shared=name)
    picker = LeastConnections(pool)
    pool.advance()
    assert [stats.inflight for stats in pool.stats()] == [0, 0]
    with picker.acquire(), picker.acquire():
        assert [stats.inflight for stats in Pool.open(name).stats()] == [1, 1]


def test_places_of_the_dead_are_had_again_where_the_living_are_idle(name: str, peer: Callable[[], Peer]) -> None:
    pool = Pool(["a", "b"], shared=SharedMemory(name, max_processes=2))
    for _ in range(3):
        other = peer()
        other("take(3)")
        assert sum(stats.inflight for stats in pool.stats()) == 3
        other.kill()
    other = peer()
    assert other("[s.inflight for s in pool.stats()]") == [0, 0]
    assert sorted(other("take(2)")) == ["a", "b"]


def test_a_process_that_dies_while_it_changes_the_pool_leaves_what_was(name: str) -> None:
    pool = Pool(["a", "b"], shared=name)
    code = """
import sys, aibalance
pool = aibalance.Pool.open(sys.argv[1])
print("ready", flush=True)
while True:
    pool.update(["a", "b"] + [f"x{i}" for i in range(30)])
    pool.update(["a", "b"])
"""
    for _ in range(10 if FULL else 3):
        process = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random().uniform(0, 0.02))
        process.kill()
        process.wait()
        process.stdout.close()
        assert len(pool) in (2, 32)
        pool.update(["a", "b"])
        picker = LeastRequest(pool)
        assert {picker.pick().id for _ in range(40)} == {"a", "b"}


def memory(name: str) -> Path:
    path = Path("/dev/shm") / f"aibalance-{name}"
    if not path.exists():
        pytest.skip("shared memory is no file here")
    return path


def test_damaged_memory_is_refused_or_harmless(name: str) -> None:
    count = 2000 if FULL else 40
    endpoints = [Endpoint(f"e{i}", weight=1 + i, max_inflight=100 if i == 4 else None) for i in range(5)]
    pool = Pool(
        endpoints,
        shared=name,
        passive=OutlierDetection(),
        circuit_breaker=CircuitBreaker(failures=3),
        slow_start=SlowStart(30),
    )
    memory(name)
    # Somebody is in it whatever becomes of the copies.
    keeper = Peer(name)
    keeper("take(3) and pool.drain('e3')")
    keeper("[rr.pick() for _ in range(7)] and None")
    try:
        command = [sys.executable, str(Path(__file__).with_name("spoil.py")), name, "0", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        lines = done.stdout.splitlines()
        assert done.returncode == 0, (done.returncode, lines[-1:], done.stderr)
        assert lines[::2] == [f"turn {turn}" for turn in range(count)]
        assert set(lines[1::2]) == {"refused", "harmless"}
        assert len(pool) == 5
    finally:
        keeper.kill()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"y" * 5000, b"\0" * 100_000], ids=["empty", "short", "foreign", "zero"]
)
def test_memory_of_others_is_refused(name: str, content: bytes) -> None:
    pool = Pool(["a"], shared=name)
    path = memory(name)
    Pool.unlink(name)
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="shared"):
        Pool.open(name)
    assert len(pool) == 1


def test_memory_that_others_may_use_is_refused(name: str) -> None:
    pool = Pool(["a"], shared=name)
    path = memory(name)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="permissions"):
        Pool.open(name)
    del pool


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becoming another user takes root")
def test_another_user_is_refused(name: str) -> None:
    pool = Pool(["a"], shared=name)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match="belongs to user 0, and this is user 65534"):
            Pool(["a"], shared=name)
        with pytest.raises(ConfigError, match="belongs to user 0, and this is user 65534"):
            Pool.unlink(name)
    finally:
        os.seteuid(0)
    # Nor is root to take what is somebody else's for its own.
    os.chown(memory(name), 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to user 65534"):
        Pool.open(name)
    assert len(pool) == 1
