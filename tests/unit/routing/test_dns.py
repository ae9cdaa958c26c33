"""DNS policies: each rule of Route 53, and what each option changes."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

from aibalance import ConfigError
from aibalance.routing import DnsPolicy, DnsRecord, Place


def drawn(weights: list[int], unhealthy: set[str] | frozenset[str] = frozenset(), n: int = 6000) -> Counter[str]:
    policy = DnsPolicy.weighted([DnsRecord(f"r{i}", weight=w) for i, w in enumerate(weights)], seed=4)
    return Counter(policy.answer(unhealthy=unhealthy)[0] for _ in range(n))


def test_weights_are_shares() -> None:
    counts = drawn([1, 2, 0, 255])
    assert counts["r2"] == 0
    assert 5750 < counts["r3"] < 5990
    assert 2800 < drawn([0, 0])["r0"] < 3200
    assert drawn([1, 0], {"r0"}) == {"r1": 6000}
    both_ill = drawn([1, 0, 1], {"r0", "r1", "r2"})
    assert set(both_ill) == {"r0", "r2"}


def test_the_seed_alone_decides_draws() -> None:
    def answers(seed: int | None) -> list[tuple[str, ...]]:
        policy = DnsPolicy.weighted([DnsRecord("a"), DnsRecord("b")], seed=seed)
        return [policy.answer() for _ in range(64)]

    assert answers(1) == answers(1) != answers(2)
    assert answers(None) != answers(None)


def test_latency_goes_by_the_table() -> None:
    records = [DnsRecord("us", region="us-east-1"), DnsRecord("eu", region="eu-west-1"), DnsRecord("x", region="x")]
    policy = DnsPolicy.latency(records, table={"berlin": {"us-east-1": 0.1, "eu-west-1": 0.02}})
    assert policy.answer(client="berlin") == ("eu",)
    assert policy.answer(client="berlin", unhealthy={"eu"}) == ("us",)
    assert policy.answer(client="berlin", unhealthy={"eu", "us"}) == ("x",)
    assert policy.answer(client="berlin", unhealthy={"eu", "us", "x"}) == ("eu",)
    assert policy.answer(client="nowhere") == policy.answer() == ("us",)


def test_failover_in_any_order_of_the_list() -> None:
    pair = [DnsRecord("b", role="secondary"), DnsRecord("a", role="primary")]
    for records in (pair, pair[::-1]):
        policy = DnsPolicy.failover(records)
        answers = [policy.answer(unhealthy=ill) for ill in ((), ("a",), ("b",), ("a", "b"))]
        assert answers == [("a",), ("b",), ("a",), ("a",)]


def test_geolocation_takes_the_narrowest_healthy_place() -> None:
    policy = DnsPolicy.geolocation(
        [
            DnsRecord("default"),
            DnsRecord("na", place=Place(continent="na")),
            DnsRecord("us", place=Place(country="US")),
            DnsRecord("ca", place=Place(country="US", subdivision="CA")),
        ]
    )
    client = Place(continent="NA", country="us", subdivision="ca")
    order = ["ca", "us", "na", "default"]
    for n in range(4):
        assert policy.answer(client=client, unhealthy=order[:n]) == (order[n],)
    assert policy.answer(client=client, unhealthy=order) == ("ca",)
    assert policy.answer(client=Place(country="DE", subdivision="CA")) == policy.answer() == ("default",)
    nowhere = DnsPolicy.geolocation([DnsRecord("us", place=Place(country="US"))])
    assert nowhere.answer(client=Place(country="DE")) == ()


def test_multivalue_gives_up_to_eight_of_the_healthy() -> None:
    records = [DnsRecord(f"r{i}") for i in range(10)]
    policy = DnsPolicy.multivalue(records, seed=1)
    seen = Counter(value for _ in range(2000) for value in policy.answer())
    assert all(1500 < seen[r.value] < 1700 for r in records)
    assert set(policy.answer(unhealthy={f"r{i}" for i in range(7)})) == {"r7", "r8", "r9"}
    assert len(policy.answer(unhealthy={r.value for r in records})) == 8


def test_health_goes_by_id() -> None:
    policy = DnsPolicy.failover([DnsRecord("v", role="primary", id="p"), DnsRecord("v", role="secondary", id="s")])
    assert policy.answer(unhealthy={"p"}) == ("v",)
    with pytest.raises(ConfigError, match="unhealthy"):
        policy.answer(unhealthy={"v"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DnsRecord(""), "value"),
        (lambda: DnsRecord("a", weight=256), "weight: 256"),
        (lambda: DnsRecord("a", weight=True), "weight: True"),
        (lambda: DnsRecord("a", role="main"), "role"),
        (lambda: DnsRecord("a", place="US"), "place"),  # type: ignore[arg-type]
        (lambda: Place(subdivision="CA"), "country: None"),
        (lambda: Place(country="United States"), "country"),
        (lambda: DnsPolicy("anycast", [DnsRecord("a")]), "kind"),
        (lambda: DnsPolicy.weighted([]), "records"),
        (lambda: DnsPolicy.weighted(["a"]), r"records\[0\]"),  # type: ignore[list-item]
        (lambda: DnsPolicy.weighted([DnsRecord("a"), DnsRecord("a")]), r"records\[1\].id"),
        (lambda: DnsPolicy.weighted([DnsRecord("a")], seed=-1), "seed"),
        (lambda: DnsPolicy.failover([DnsRecord("a", role="primary")]), "roles"),
        (lambda: DnsPolicy.geolocation([DnsRecord("a"), DnsRecord("b")]), r"records\[1\].place"),
        (lambda: DnsPolicy.latency([DnsRecord("a")], table={}), r"records\[0\].region"),
        (lambda: DnsPolicy.latency([DnsRecord("a", region="r")], table={"c": {"r": -1}}), r"table\['c'\]\['r'\]"),
        (lambda: DnsPolicy("weighted", [DnsRecord("a")], table={}), "table"),
        (lambda: DnsPolicy.weighted([DnsRecord("a")]).answer(unhealthy="a"), "unhealthy"),
        (lambda: DnsPolicy.weighted([DnsRecord("a")]).answer(client="x"), "client"),
        (lambda: DnsPolicy.geolocation([DnsRecord("a")]).answer(client="x"), "client"),
    ],
)
def test_what_cannot_be_is_told(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_copies_answer_alike() -> None:
    for policy in (
        DnsPolicy.multivalue([DnsRecord(f"r{i}") for i in range(9)], seed=3),
        DnsPolicy.latency([DnsRecord("a", region="r"), DnsRecord("b", region="s")], table={"c": {"s": 1.0}}),
    ):
        copy = pickle.loads(pickle.dumps(policy))
        client = "c" if "latency" in repr(policy) else None
        assert [copy.answer(client=client) for _ in range(9)] == [policy.answer(client=client) for _ in range(9)]
        assert copy.records == policy.records
