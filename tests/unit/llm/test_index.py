"""The prefix index: what a prompt may be, who has it, and how it travels."""

from __future__ import annotations

import array
import copy
import pickle
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError, Endpoint, Hashed, PrefixIndex, PrefixMatch

IDS = list(range(100, 140))


@pytest.mark.parametrize(
    "prompt",
    [
        IDS,
        tuple(IDS),
        np.array(IDS),
        np.array(IDS, np.int32),
        np.array(IDS, np.uint32),
        np.array(IDS, np.uint16),
        array.array("I", IDS),
        memoryview(array.array("q", IDS)),
        np.arange(200)[100:180][::1][:40],
    ],
)
def test_token_ids_in_any_form_are_one_prompt(prompt: Any) -> None:
    index = PrefixIndex(block_size=16)
    assert index.blocks(prompt).tolist() == index.blocks(IDS).tolist()
    assert index.blocks(prompt).shape == (2,)


def test_hashes_are_taken_as_they_are() -> None:
    index = PrefixIndex()
    hashes = np.array([5, 2**64 - 1, 7], np.uint64)
    for prompt in (hashes, memoryview(hashes), array.array("Q", hashes.tolist()), np.repeat(hashes, 2)[::2]):
        assert index.blocks(prompt).tolist() == hashes.tolist()
    assert index.blocks(Hashed(9)).tolist() == [9]
    assert index.blocks(-1).tolist() == [2**64 - 1]


def test_text_is_hashed_by_its_bytes() -> None:
    index = PrefixIndex(block_size=2)
    assert index.blocks("Zürich, main station").tolist() == index.blocks("Zürich, main station".encode()).tolist()
    assert len(index.blocks(b"12345678" * 3)) == 3
    # Eight bytes are two ids of four bytes.
    assert index.blocks(b"\1\0\0\0\2\0\0\0").tolist() == index.blocks([1, 2]).tolist()
    assert len(index.blocks("")) == 0


@pytest.mark.parametrize(
    "prompt",
    [1.5, [1, -1], [1, 2**32], ["a"], np.array([1.0]), np.array([[1]]), np.array([-1]), object(), {}, 2**64, "\ud800"],
)
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        PrefixIndex().blocks(prompt)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_size", 0),
        ("block_size", 2**21),
        ("block_size", 1.5),
        ("capacity", 0),
        ("capacity", -1),
        ("capacity", 2**40),
        ("ttl", -1.0),
        ("ttl", float("nan")),
    ],
)
def test_options_out_of_range_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        PrefixIndex(**{field: value})


def test_events_name_endpoints_tiers_and_time() -> None:
    index = PrefixIndex(block_size=4, ttl=10)
    endpoint = Endpoint("gpu-0:8000", id="gpu-0")
    index.stored(endpoint, IDS[:8], tier="disk")
    index.stored("gpu-0", IDS[:4], tier="gpu")
    assert index.matches(IDS) == {"gpu-0": PrefixMatch(gpu=1, disk=1)}
    index.removed("gpu-0", IDS[:4], tier="gpu")
    assert index.matches(IDS)["gpu-0"].disk == 2
    index.predict(endpoint, IDS, now=5.0)
    assert (index.matches(IDS, now=14.9)["gpu-0"].gpu, index.held("gpu-0")) == (10, (2, 10))
    assert index.matches(IDS, now=15.0)["gpu-0"] == PrefixMatch(disk=2)
    index.cleared("gpu-0", tier="disk")
    assert (index.matches(IDS), len(index), index.endpoints) == ({}, 0, ())
    for call in (
        lambda: index.stored("a", IDS, tier="tape"),
        lambda: index.cleared(7),
        lambda: index.predict("a", IDS, now=-1),
    ):
        with pytest.raises(ConfigError):
            call()  # type: ignore[no-untyped-call]


def test_room_is_bounded_an_endpoint() -> None:
    index = PrefixIndex(block_size=1, capacity=5, ttl=None)
    for start in range(0, 1000, 10):
        index.predict("a", list(range(start, start + 10)))
        index.stored("b", list(range(start, start + 10)))
    assert (index.held("a"), index.held("b"), len(index)) == ((0, 5), (5, 0), 5)
    index.set_capacity("a", 2)
    assert index.held("a") == (0, 2)
    index.forget("a")
    index.predict("a", list(range(10)))
    assert index.held("a") == (0, 5), "the capacity of its own is forgotten too"


def test_an_index_travels_and_warms_another() -> None:
    index = PrefixIndex(block_size=4, capacity=7, ttl=50.0)
    index.stored("a", IDS, tier="host")
    index.predict("b", IDS[:8], now=3.0)
    for twin in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert repr(twin) == repr(index) == "PrefixIndex(block_size=4, capacity=7, ttl=50.0)"
        assert twin.matches(IDS) == index.matches(IDS)
        assert twin.held("b") == (0, 2)
    other = PrefixIndex(block_size=4)
    other.restore(index.snapshot(), now=1000.0)
    assert other.matches(IDS, now=1049.0) == index.matches(IDS)
    assert set(other.matches(IDS, now=1051.0)) == {"a"}


def test_a_snapshot_that_does_not_fit_changes_nothing() -> None:
    index = PrefixIndex(block_size=4)
    index.stored("a", IDS)
    good = index.snapshot()
    bad: list[Any] = [
        [],
        {},
        {**good, "version": 2},
        {**good, "block_size": 16},
        {**good, "endpoints": {"a": {}}},
        {**good, "endpoints": {"a": {**good["endpoints"]["a"], "capacity": 0}}},
        {**good, "endpoints": {"a": {**good["endpoints"]["a"], "tiers": np.zeros(10, np.uint8)}}},
        {**good, "endpoints": {"a": {**good["endpoints"]["a"], "tiers": np.ones(1, np.uint8)}}},
        {**good, "endpoints": {"a": {**good["endpoints"]["a"], "told": [1]}}},
        {**good, "endpoints": {"a": good["endpoints"]["a"], "b": {**good["endpoints"]["a"], "left": np.array([-1.0])}}},
    ]
    for snapshot in bad:
        fresh = PrefixIndex(block_size=4)
        with pytest.raises(ConfigError, match=r"snapshot|capacity"):
            fresh.restore(snapshot)
        assert len(fresh) == 0


def test_a_match_is_a_value() -> None:
    match = PrefixMatch(gpu=1, host=2, disk=3, active=4)
    assert (match.blocks, match.active) == (6, 4)
    assert pickle.loads(pickle.dumps(match)) == match
    assert len({match, PrefixMatch(gpu=1, host=2, disk=3, active=4), PrefixMatch()}) == 2
