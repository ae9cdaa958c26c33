"""`aibalance bench`: the table and its JSON. Nothing here depends on how long anything takes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from aibalance import _bench
from aibalance._bench import Case, Result, cases, keys_of, measure
from aibalance.cli import main
from aibalance.cli.bench import rows, text

PEERS = ("roundrobin", "uhashring", "hashring", "fastring", "jump", "clandestined", "litellm")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rounds, and no peer but the hand-written ones, whatever is installed."""
    monkeypatch.setattr(_bench, "ROUND", 1e-5)
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, None)


def test_the_table_names_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--sizes", "3", "5", "--rounds", "1", "--only", "power of two", "--quiet"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert ["operation", "by", "n", "keys", "threads", "ns", "a", "call", "times", "ours"] in lines
    assert sum("hand-written" in line for line in lines) == 4
    assert err == ""


def test_json_has_machine_results_and_who_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--sizes", "3", "--rounds", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["machine"]["python"].startswith("CPython")
    assert {"roundrobin.smooth", "uhashring", "hashring", "clandestined"} <= set(found["absent"])
    results = found["results"]
    assert {(row["keys"], row["threads"]) for row in results} == {(1, 1), (1, 2), (4096, 1), (4096, 2)}
    assert {row["subject"] for row in results} == {"aibalance", "hand-written", "itertools.cycle"}
    assert {row["n"] for row in results} == {3}
    assert all(row["ns"] >= 0 for row in results)
    assert all(row["times"] is None for row in results if row["subject"] == "aibalance")
    assert "bench: 100 % done" in err


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "teleport"]) == 2
    assert "--only: 'teleport' is in no name; there are: round robin, weighted; " in capsys.readouterr().err
    assert main(["bench", "--sizes", "0"]) == 2
    assert main(["bench", "--rounds", "x"]) == 2


def test_every_case_of_the_design_is_there() -> None:
    found = cases()
    assert {case.n for case in found} == {8, 64, 512}
    assert {case.threads for case in found} == {1, 2}
    keyed = {case.what for case in found if case.keys == 4096}
    assert keyed == {
        "consistent hashing, Maglev",
        "consistent hashing, ring",
        "rendezvous hashing",
        "jump hash, integers",
    }
    for what in {case.what for case in found}:
        for n in (8, 64, 512):
            assert next(c.subject for c in found if (c.what, c.n, c.keys, c.threads) == (what, n, 1, 1)) == "aibalance"
    wanted = {(c.subject, c.n): c.at_least for c in found if c.threads == 1 and c.keys == 1}
    assert wanted["roundrobin.smooth", 512] == 1000
    assert wanted["clandestined", 64] == 100
    assert wanted["litellm Router", 8] == 500
    assert wanted["fastring", 8] == 2.5


def test_keys_are_so_many_and_different() -> None:
    for integers in (False, True):
        case = Case("x", "aibalance", 8, lambda n: None, "pass", keys=4096, integers=integers)
        assert len(set(keys_of(case))) == 4096
        assert {type(key) for key in keys_of(case)} == {int if integers else str}


def test_each_case_runs_its_statement_over_its_keys() -> None:
    seen: dict[str, list[Any]] = {"one": [], "two": []}
    made = [
        Case("x", "aibalance", 1, lambda n: seen["one"], "p.append(k)", keys=3),
        Case("x", "peer", 1, lambda n: seen["two"], "p.append(k)", keys=3, threads=1),
    ]
    fractions: list[float] = []
    results, absent = measure(made, rounds=2, progress=fractions.append)
    assert [result.case for result in results] == made
    assert absent == {}
    assert fractions == [1.0]
    for calls in seen.values():
        assert set(calls) == set(keys_of(made[0]))
        assert len(calls) >= 3 * 2


def test_a_peer_that_is_broken_is_named_and_ours_is_not_forgiven() -> None:
    def broken(n: int) -> Any:
        raise RuntimeError("no such luck")

    ours = Case("x", "aibalance", 1, lambda n: None, "pass")
    results, absent = measure([ours, Case("x", "peer", 1, broken, "pass")], rounds=1)
    assert [result.case for result in results] == [ours]
    assert absent == {"peer": "no such luck"}
    with pytest.raises(RuntimeError, match="no such luck"):
        measure([Case("x", "aibalance", 1, broken, "pass")], rounds=1)


def test_ratios_are_to_ours_of_the_same_row() -> None:
    def result(subject: str, ns: float, **options: Any) -> Result:
        return Result(Case("x", subject, 8, lambda n: None, "pass", **options), ns)

    some = [result("aibalance", 10.0), result("peer", 250.0), result("aibalance", 20.0, keys=4096)]
    found = rows([*some, result("peer", 40.0, keys=4096), result("peer", 5.0, threads=2)])
    assert [row["times"] for row in found] == [None, 25.0, None, 2.0, None]
    shown = text(found)
    assert "25.0x" in shown
    assert "2.00x" in shown


def test_what_is_written_by_hand_is_of_its_own_comparison() -> None:
    made: dict[tuple[str, str, int], Any] = {}
    by_hand = [case for case in _bench.cases([8], [1]) if case.subject == "hand-written" and case.keys == 1]
    kinds = set()
    for case in by_hand:
        before = set(made)
        _bench._ready(case, made)
        (new,) = set(made) - before
        kinds.add(type(made[new]).__name__)
    assert {"LeastConnections", "PowerOfTwo"} <= kinds
