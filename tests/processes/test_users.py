"""Processes of other users, who are not let in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aibalance import ConfigError, LeastConnections, Pool
from tests.processes.peer import Peer

pytestmark = pytest.mark.skipif(
    not hasattr(os, "setresuid") or os.geteuid() != 0, reason="to start processes of other users takes root"
)

NOBODY, SOMEBODY = 65534, 65533

# The interpreter is started and everything imported as root, for it may stand where nobody else can read. From then on
# the process is the other user's in every respect: real, effective and saved ids, and no groups.
STRANGER = """
pool = aibalance.Pool(["a"], shared=name + "-first")
aibalance.LeastConnections(pool).acquire().release()
del pool
aibalance.Pool.unlink(name + "-first")
os.setgroups([])
os.setresgid({user}, {user}, {user})
os.setresuid({user}, {user}, {user})
def make():
    global pool, lc
    pool = aibalance.Pool(["a", "b"], shared=name)
    lc = aibalance.LeastConnections(pool)
    return len(pool)
"""

Start = Callable[..., Peer]


def stranger(start: Start, user: int) -> Peer:
    try:
        other = start(STRANGER.format(user=user))
    except AssertionError:
        pytest.skip(f"this root cannot become user {user}")
    assert other("os.getresuid() + os.getresgid()") == (user,) * 6
    return other


def is_refused(other: Peer, owner: int, user: int) -> None:
    why = f"belongs to user {owner}, and this is user {user}"
    for attempt in ("aibalance.Pool.open(name)", "make()", "aibalance.Pool.unlink(name)"):
        answer = other(attempt)
        assert answer.startswith("ConfigError: shared: "), (attempt, answer)
        assert why in answer, (attempt, answer)


def test_another_user_is_refused_and_told_whose_it_is(name: str, peer: Start) -> None:
    pool = Pool(["a", "b"], shared=name)
    lease = LeastConnections(pool).acquire()
    is_refused(stranger(peer, NOBODY), 0, NOBODY)
    assert sum(stats.inflight for stats in Pool.open(name).stats()) == 1
    lease.release()


def test_a_pool_of_another_user_is_that_users_alone(name: str, peer: Start) -> None:
    owner = stranger(peer, NOBODY)
    assert owner("make()") == 2
    is_refused(stranger(peer, SOMEBODY), NOBODY, SOMEBODY)
    # Root could do as it likes, and would share memory with somebody that it has no reason to trust.
    for attempt in (lambda: Pool.open(name), lambda: Pool(["a", "b"], shared=name)):
        with pytest.raises(ConfigError, match=f"belongs to user {NOBODY}, and this is user 0"):
            attempt()
    # Another process of the owner's is let in, and theirs are the same counts.
    second = stranger(peer, NOBODY)
    assert second("make()") == 2
    assert second("globals().update(lease=lc.acquire())") is None
    assert owner("sum(s.inflight for s in pool.stats())") == 1


def test_memory_that_its_owner_cannot_read_is_refused(name: str, peer: Start) -> None:
    owner = stranger(peer, NOBODY)
    assert owner("make()") == 2
    path = Path(f"/dev/shm/aibalance-{name}")
    if not path.exists():
        pytest.skip("shared memory is no file here")
    path.chmod(0o400)
    assert "its permissions forbid it" in owner("aibalance.Pool.open(name)")
