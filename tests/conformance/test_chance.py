"""Recordings of chance: replayed within a bound that finds the wrong rule."""

from __future__ import annotations

from typing import Any

import pytest

import aibalance
from tests.conformance import chance, kinds, proxies
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import UnreadableError, load

PICKS = {"envoy-1.40.random": 2 * 5 * 6000, "nginx-1.22.random": 3 * 5 * 6000, "nginx-1.31.random": 3 * 5 * 6000}


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
