"""Endpoint: what it says, what it refuses, what travels."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest

from aibalance import ConfigError, Endpoint, Latency, LeastRequest, Maglev, Pool, RingHash


def test_defaults_and_values() -> None:
    plain = Endpoint("10.0.0.1:80")
    assert (plain.id, plain.weight, plain.zone, plain.priority, plain.backup) == ("10.0.0.1:80", 1.0, "", 0, False)
    assert (plain.max_inflight, plain.hash_key, plain.tags, plain.data) == (None, None, {}, None)
    full = Endpoint("x", id="i", weight=2, zone="z", backup=True, max_inflight=7, hash_key=9, tags={"a": 1}, data=[1])
    assert (full.address, full.id, full.weight, full.zone, full.backup) == ("x", "i", 2.0, "z", True)
    assert (full.max_inflight, full.hash_key, full.tags, full.data) == (7, 9, {"a": 1}, [1])


def test_it_is_its_id() -> None:
    a, same, other = Endpoint("a", id="1"), Endpoint("b", id="1", weight=5), Endpoint("a", id="2")
    assert a == same
    assert hash(a) == hash(same)
    assert a != other
    assert a != "1"
    assert len({a, same, other}) == 2


def test_it_is_frozen_and_its_tags_are_a_copy() -> None:
    given = {"rack": 1}
    e = Endpoint("a", tags=given)
    given["rack"] = 2
    e.tags["rack"] = 3
    assert e.tags == {"rack": 1}
    for name in ("weight", "id", "data", "anything"):
        with pytest.raises(AttributeError):
            setattr(e, name, 1)


@pytest.mark.parametrize(
    ("kw", "words"),
    [
        ({"weight": -1}, ["weight", "-1", "0 to 1e15"]),
        ({"weight": float("nan")}, ["weight", "NaN"]),
        ({"weight": float("inf")}, ["weight", "inf"]),
        ({"weight": 1.1e15}, ["weight", "1e15"]),
        ({"weight": 10**400}, ["weight", "float"]),
        ({"weight": "2"}, ["weight", "'2'", "number"]),
        ({"id": ""}, ["id", "not empty"]),
        ({"id": "\ud800"}, ["id", "surrogates"]),
        ({"zone": "\ud800"}, ["zone", "surrogates"]),
        ({"priority": 129}, ["priority", "129", "0"]),
        ({"priority": 2**70}, ["priority", "64 bits"]),
        ({"max_inflight": 0}, ["max_inflight", "0", "1 to 4294967294"]),
        ({"max_inflight": 2**32}, ["max_inflight", str(2**32)]),
        ({"max_inflight": 2**70}, ["max_inflight", "64 bits"]),
        ({"hash_key": 2**70}, ["hash_key", "-2**63"]),
        ({"hash_key": 1.5}, ["hash_key", "1.5"]),
        ({"passive": object()}, ["passive", "None"]),
        ({"tags": 5}, ["tags", "5", "mapping"]),
    ],
)
def test_an_error_names_field_value_and_what_is_allowed(kw: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint("a", **kw)
    for word in words:
        assert word in str(caught.value)


def test_the_address_must_be_a_text() -> None:
    for wrong in ("", "\ud800", 5, None):
        with pytest.raises(ConfigError, match="address"):
            Endpoint(wrong)  # type: ignore[arg-type]


def test_pickle_keeps_everything() -> None:
    e = Endpoint("x", id="i", weight=2.5, zone="z", backup=True, max_inflight=7, hash_key="k", tags={"a": 1}, data=[1])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(e, protocol))
        assert copy == e
        for name in (
            "address",
            "id",
            "weight",
            "zone",
            "priority",
            "backup",
            "max_inflight",
            "hash_key",
            "tags",
            "data",
        ):
            assert getattr(copy, name) == getattr(e, name)


def test_repr_makes_the_endpoint_again() -> None:
    e = Endpoint("x", id="i", weight=2.5, zone="z", backup=True, max_inflight=7)
    copy = eval(repr(e), {"Endpoint": Endpoint})
    assert repr(copy) == repr(e)
    assert copy.max_inflight == 7


def test_cycles_through_data_and_tags_are_collected() -> None:
    class Thing:
        pass

    for field in ("data", "tags"):
        thing = Thing()
        e = Endpoint("a", **({"data": thing} if field == "data" else {"tags": {"t": thing}}))  # type: ignore[arg-type]
        thing.endpoint = e  # type: ignore[attr-defined]
        gone = weakref.ref(thing)
        del thing, e
        gc.collect()
        assert gone() is None


def test_a_pool_that_is_its_own_endpoints_data_is_collected() -> None:
    box: dict[str, Any] = {}
    pool = Pool([Endpoint("a", data=box), Endpoint("b", data=box)])
    picker = LeastRequest(pool)
    box["pool"], box["picker"] = pool, picker
    picker.pick()
    with picker.acquire():
        pass
    gone = weakref.ref(pool), weakref.ref(picker), weakref.ref(pool.endpoints[0])
    del pool, picker, box
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_collection_also_works_after_changes_when_the_pickers_have_seen_them() -> None:
    box: dict[str, Any] = {}
    pool = Pool([Endpoint("a", data=box), Endpoint("b", data=box)])
    pickers = [LeastRequest(pool), RingHash(pool, points=8), Maglev(pool, table_size=11)]
    box["all"] = [pool, *pickers]
    pool.set_weight("a", 2)
    pool.update(pool.endpoints)
    pool.update([Endpoint("c", data=box)])
    for picker in pickers:
        picker.pick()
    gone = weakref.ref(pool)
    del pool, picker, pickers, box
    gc.collect()
    assert gone() is None


def test_hash_key_places_it_and_the_address_does_when_there_is_none() -> None:
    keys = [f"k{i}" for i in range(300)]
    for make in (lambda e: RingHash(e, points=16), lambda e: Maglev(e, table_size=101)):
        by_key = make([Endpoint(f"x{i}", hash_key=f"a{i}") for i in range(3)])
        by_address = make([Endpoint(f"a{i}", id=f"other {i}") for i in range(3)])
        number = make([Endpoint(f"x{i}", hash_key=i) for i in range(3)])
        digits = make([Endpoint(f"x{i}", hash_key=str(i)) for i in range(3)])
        assert by_key.pick_many(keys).indices.tolist() == by_address.pick_many(keys).indices.tolist()
        assert number.pick_many(keys).indices.tolist() == digits.pick_many(keys).indices.tolist()
        assert number.pick_many(keys).indices.tolist() != by_key.pick_many(keys).indices.tolist()


def test_latency_options() -> None:
    given = Latency(decay=2.0, default_rtt=0.1, failure_penalty=1.0)
    assert pickle.loads(pickle.dumps(given)) == given
    assert hash(pickle.loads(pickle.dumps(given))) == hash(given)
    assert given != Latency()
    for kw in (
        {"decay": 0.0},
        {"decay": -1.0},
        {"decay": float("nan")},
        {"default_rtt": 0.0},
        {"failure_penalty": -1.0},
    ):
        with pytest.raises(ConfigError, match=f"latency.{next(iter(kw))}"):
            Latency(**kw)


def test_a_picker_that_has_not_picked_since_an_update_is_collected() -> None:
    box: dict[str, Any] = {}
    pool = Pool([Endpoint("a", data=box), Endpoint("b", data=box)])
    picker = LeastRequest(pool)
    box["all"] = [pool, picker]
    picker.pick()
    pool.update(pool.endpoints)
    gone = weakref.ref(pool)
    del pool, picker, box
    gc.collect()
    assert gone() is None


def test_the_collector_leaves_what_is_in_use() -> None:
    data = [["kept"]]
    pool = Pool([Endpoint("a", data=data[0])])
    pickers = [LeastRequest(pool), RingHash(pool, points=8)]
    old = [picker.pick() for picker in pickers]
    pool.update([Endpoint("a", data=["new"])])
    gc.collect()
    assert [e.data for e in old] == [["kept"], ["kept"]]
    assert pickers[0].pick().data == ["new"]
    gc.collect()
    assert pickers[1].pick().data == ["new"]
    assert old[0].data == ["kept"]
