"""Recordings of chance: replayed within a bound that finds the wrong rule."""

from __future__ import annotations

from typing import Any

import pytest

import aibalance
from tests.conformance import chance, kinds, proxies
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import UnreadableError, load

PICKS = {f"{name}.random": 2 * 5 * 6000 for name in ("envoy-1.40", "haproxy-2.6", "haproxy-2.8")} | {
    f"{name}.random": 3 * 5 * 6000 for name in ("nginx-1.22", "nginx-1.31")
}


@pytest.mark.parametrize("name", PICKS)
def test_the_shares_are_those_of_the_real_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    asked = proxies.Decider.sequence

    def counted(self: proxies.Decider, n: int) -> Any:
        nonlocal made
        picks = asked(self, n)
        made += len(picks)
        return picks

    monkeypatch.setattr(chance.Decider, "sequence", counted)
    result = kinds.replay(load(VECTORS / f"{name}.json.gz"))
    assert result.matched == result.total == made == PICKS[name]
    assert result.unsupported == 0
    assert result.bound == "5 seeds, 4 standard errors"


@pytest.mark.parametrize("door", proxies.DOORS)
def test_every_door(door: proxies.Door) -> None:
    result = chance.nginx_random(load(VECTORS / "nginx-1.31.random.json.gz"), door)
    assert result.matched == result.total == PICKS["nginx-1.31.random"]


def test_a_rule_that_is_not_the_recorded_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    document = load(VECTORS / "nginx-1.31.random.json.gz")
    document["cases"] = [{**document["cases"][0], "servers": ["a weight=9", "b weight=8", "c weight=8"]}]
    result = chance.nginx_random(document)
    assert (result.matched, result.total) == (0, 30_000)
    assert "standard errors off" in str(result.first_mismatch)
    # Somebody who never draws.
    monkeypatch.setattr(
        aibalance, "WeightedRandom", lambda pool: aibalance.LeastRequest(pool, full_scan=True, ties="first")
    )
    # `random two` does not draw by that class.
    assert chance.nginx_random(load(VECTORS / "nginx-1.31.random.json.gz")).matched == 30_000


def test_counts_that_do_not_add_up_are_refused() -> None:
    document = load(VECTORS / "envoy-1.40.random.json.gz")
    document["cases"][0]["counts"] = [1, 2, 3, 4]
    with pytest.raises(UnreadableError, match="counts"):
        chance.envoy_random(document)


@pytest.mark.parametrize("door", proxies.DOORS)
@pytest.mark.parametrize("version", ["2.6", "2.8"])
def test_every_door_of_haproxy(version: str, door: proxies.Door) -> None:
    result = chance.haproxy_random(load(VECTORS / f"haproxy-{version}.random.json.gz"), door)
    assert result.matched == result.total == PICKS[f"haproxy-{version}.random"]


def test_haproxys_own_numbers_give_the_recorded_counts() -> None:
    # Its xorshift starts at the same number in every process: the counts of the first case are those of the later of
    # two draws a request, on the ring that our picker draws from, and not of the earlier one.
    numbers, x = [], 2463534242
    for _ in range(12_000):
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        numbers.append(x)
    case = load(VECTORS / "haproxy-2.6.random.json.gz")["cases"][0]
    ring = aibalance.RingHash([aibalance.Endpoint(f"s{i}", hash_key=i + 1) for i in range(3)], ring="haproxy")
    later, earlier = (ring.pick_many([aibalance.Hashed(n) for n in numbers[i::2]]).indices for i in (1, 0))
    assert [(later == i).sum() for i in range(3)] == case["counts"]
    assert [(earlier == i).sum() for i in range(3)] != case["counts"]


def test_by_weight_is_not_haproxys_way_and_what_it_does_not_translate_is_counted() -> None:
    document = load(VECTORS / "haproxy-2.6.random.json.gz")
    document["cases"] = [
        {**document["cases"][0], "lines": ["balance random(1)"], "servers": [f"s{i} a" for i in (1, 2, 3)]}
    ]
    assert chance.haproxy_random(document).matched == 30_000
    document["cases"][0]["servers"][0] += " weight 2"
    assert chance.haproxy_random(document).matched == 0
    document["cases"][0]["servers"][0] = "s1 a maxconn 3"
    result = chance.haproxy_random(document)
    assert (result.total, result.unsupported) == (0, 1)
