"""A name for a test, and processes that end with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.processes.peer import ENTER, Peer, a_name, unlinked

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def name() -> Iterator[str]:
    with unlinked(a_name()) as name:
        yield name


@pytest.fixture
def peer(name: str) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(begin: str = ENTER) -> Peer:
        peers.append(Peer(name, begin))
        return peers[-1]

    yield start
    for each in peers:
        each.kill()
