"""Recordings of chance under open requests, and the averages."""

from __future__ import annotations

from typing import Any

import pytest

import aibalance
from tests.conformance import kinds, load
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import UnreadableError
from tests.conformance.recording import load as read

COUNTS = {"caddy-2.11.random_least_conn": 5 * 4000 + 82, "traefik-3.7.p2c": 102, "ewma": 16}


@pytest.mark.parametrize("name", COUNTS)
def test_every_record_that_is_compared_matches(name: str) -> None:
    result = kinds.replay(read(VECTORS / f"{name}.json.gz"))
    assert (result.matched, result.total, result.first_mismatch) == (COUNTS[name], COUNTS[name], None)
    assert result.unsupported == (327 if name == "ewma" else 0)
    assert result.bound == (None if name == "ewma" else "5 seeds, 4 standard errors")


@pytest.mark.parametrize("name", ["caddy-2.11.random_least_conn", "traefik-3.7.p2c"])
def test_the_busier_one_is_no_match(name: str) -> None:
    document = read(VECTORS / f"{name}.json.gz")
    document["cases"] = [case for case in document["cases"] if "ops" in case]
    for case in document["cases"]:
        case["ops"] = [0 if isinstance(op, int) else op for op in case["ops"]]
    result = kinds.replay(document)
    assert result.matched < result.total


def test_more_servers_than_choices_are_compared_by_the_load_of_what_is_taken() -> None:
    document = {"about": {"system": "traefik 3.7", "algorithm": "strategy p2c (made up)"}, "cases": [{}]}
    pool = aibalance.Pool([str(i) for i in range(6)], seed=77)
    picker = aibalance.LeastRequest(pool, score="before")
    leases = [picker.acquire() for _ in range(60)]
    ops = [int(lease.endpoint.id) for lease in leases]
    document["cases"] = [{"endpoints": [str(i) for i in range(6)], "ops": ops}]
    result = kinds.replay(document)
    assert (result.matched, result.total) == (60, 60)
    document["cases"] = [{"endpoints": [str(i) for i in range(6)], "ops": [i % 2 for i in range(60)]}]
    assert kinds.replay(document).matched == 0


def test_caddys_random_choose_is_compared_only_while_nothing_is_in_flight() -> None:
    case: dict[str, Any] = {"selection_policy": {"policy": "random_choose", "choose": 2}, "endpoints": ["a", "b"]}
    about = {"system": "caddy", "algorithm": "random, random_choose, least_conn"}
    counted = {**case, "requests": 4000, "counts": [2000, 2000]}
    result = kinds.replay({"about": about, "cases": [counted, {**case, "ops": [0, 1, ["end", 0]]}]})
    assert (result.matched, result.total, result.unsupported) == (20_000, 20_000, 2)


def test_an_average_that_differs_is_found_and_a_series_that_is_torn_refused() -> None:
    document = read(VECTORS / "ewma.json.gz")
    case = next(case for case in document["cases"] if case["flavour"].startswith("plain"))
    case["ref"]["values"][3] *= 1 + 1e-8
    result = load.ewma(document)
    assert (result.matched, result.total) == (15, 16)
    assert "value 3" in str(result.first_mismatch)
    case["xs"].pop()
    with pytest.raises(UnreadableError, match="9 for 8 samples"):
        load.ewma(document)


def test_the_tie_of_random_two_goes_to_the_second_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    real = aibalance.LeastRequest
    document = read(VECTORS / "nginx-1.31.random.json.gz")
    document["cases"] = [case for case in document["cases"] if "two" in case["directive"]]
    assert kinds.replay(document).matched == 30_000
    monkeypatch.setattr(aibalance, "LeastRequest", lambda pool, **k: real(pool, **{**k, "ties": "random"}))
    assert kinds.replay(document).matched == 0
