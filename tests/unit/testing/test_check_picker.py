"""`check_picker` finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

import aibalance as a
from aibalance import AibalanceError, ConfigError, Endpoint, Pool
from aibalance.testing import (
    Event,
    PickerCheckError,
    Script,
    check_picker,
    claims_of,
    run_script,
)

from . import pickers as mine

SCHEDULES = ["smooth", "edf", "heap", "stride", "fwrr", "static-rr", "caddy"]


def with_options(cls: Any, **options: Any) -> Callable[[Pool], Any]:
    return lambda pool: cls(pool, **options)


OURS: dict[str, Callable[[Pool], Any]] = {
    **{f"RoundRobin {s}": with_options(a.RoundRobin, schedule=s) for s in SCHEDULES},
    **{f"RoundRobin {s}, random start": with_options(a.RoundRobin, schedule=s, start="random") for s in SCHEDULES},
    "WeightedRandom": a.WeightedRandom,
    "First": a.First,
    "JoinIdleQueue": a.JoinIdleQueue,
    "PeakEwma": a.PeakEwma,
    "LeastRequest": a.LeastRequest,
    "LeastRequest one choice": with_options(a.LeastRequest, choices=1),
    "LeastRequest many choices": with_options(a.LeastRequest, choices=64),
    "LeastRequest full scan": with_options(a.LeastRequest, full_scan=True),
    "LeastRequest with replacement": with_options(a.LeastRequest, choices=3, replace=True),
    "LeastRequest edf": with_options(a.LeastRequest, schedule="edf"),
    "LeastRequest edf, random start": with_options(a.LeastRequest, schedule="edf", start="random"),
    "LeastRequest bias": with_options(a.LeastRequest, bias=0.5),
    "LeastRequest before": with_options(a.LeastRequest, score="before"),
    **{
        f"LeastRequest full scan, {ties}": with_options(a.LeastRequest, full_scan=True, ties=ties)
        for ties in ("first", "last", "rotate", "heaviest")
    },
    "LeastConnections": a.LeastConnections,
    "LeastConnections haproxy": with_options(a.LeastConnections, variant="haproxy"),
    "RingHash": a.RingHash,
    "RingHash murmur2": with_options(a.RingHash, hash="murmur2"),
    "RingHash sizes": with_options(a.RingHash, min_size=4096),
    "RingHash bounded": with_options(a.RingHash, bounded_load=1.25),
    "RingHash nginx": with_options(a.RingHash, ring="nginx"),
    "RingHash haproxy": with_options(a.RingHash, ring="haproxy"),
    "RingHash haproxy bounded": with_options(a.RingHash, ring="haproxy", bounded_load=1.25),
    "Maglev": a.Maglev,
    "Maglev small": with_options(a.Maglev, table_size=1009),
    "Maglev bounded": with_options(a.Maglev, bounded_load=1.25),
    "ModuloHash": a.ModuloHash,
    **{
        f"ModuloHash haproxy {h}": with_options(a.ModuloHash, variant="haproxy", hash=h)
        for h in ("sdbm", "djb2", "wt6", "crc32", "xxh32", "xxh64", "xxh3")
    },
    "ModuloHash haproxy avalanche": with_options(a.ModuloHash, variant="haproxy", avalanche=True),
    "IpHash": a.IpHash,
    "SourceHash": a.SourceHash,
    "SourceHash ring": with_options(a.SourceHash, ring="haproxy"),
    "SourceHash ring bounded": with_options(a.SourceHash, ring="haproxy", bounded_load=1.5),
    "WeightedRandom haproxy": with_options(a.WeightedRandom, ring="haproxy"),
    "LeastTime": a.LeastTime,
    "PrefixAware": a.PrefixAware,
    "Prequal": a.Prequal,
    "ClientSideWeightedRoundRobin": a.ClientSideWeightedRoundRobin,
    "MementoHash": a.MementoHash,
    "MultiProbeHash": a.MultiProbeHash,
    "JumpHash": a.JumpHash,
    "JumpBackHash": a.JumpBackHash,
    "Rendezvous": a.Rendezvous,
    "Rendezvous bounded": with_options(a.Rendezvous, bounded_load=1.1),
    "Rendezvous caddy": with_options(a.Rendezvous, variant="caddy"),
    "Rendezvous traefik": with_options(a.Rendezvous, variant="traefik"),
    "Fallback": lambda pool: a.Fallback(a.First(Pool([])), a.RoundRobin(pool)),
    "Fallback in one pool": lambda pool: a.Fallback(a.LeastRequest(pool, full_scan=True), a.RoundRobin(pool)),
    "TrafficSplit": lambda pool: a.TrafficSplit([(a.RoundRobin(pool), 95), (a.LeastConnections(pool), 5)], seed=1),
    "TrafficSplit turns": lambda pool: a.TrafficSplit(
        [(a.WeightedRandom(pool), 1), (mine.Smooth(pool), 2), (a.First(pool), 0)], by="turns"
    ),
    "Subset": lambda pool: a.Subset(a.RoundRobin(pool), where=lambda endpoint: endpoint.id),
    "Subset of a fallback": lambda pool: a.Subset(a.Fallback(a.PeakEwma(pool)), where=lambda endpoint: True),
    "Smooth in Python": mine.Smooth,
    "two choices in Python": mine.TwoChoices,
}


@pytest.mark.parametrize("name", OURS)
def test_ours_behave(name: str) -> None:
    report = check_picker(OURS[name], scripts=25, picks=1000)
    assert report.claims == claims_of(OURS[name](Pool(["a"])))
    assert report.counts["scripts"] == 25


def test_every_built_in_class_is_here() -> None:
    made = {type(make(Pool(["a"]))).__name__ for make in OURS.values()}
    built_in = {name for name in a.pickers.__all__ if hasattr(getattr(a, name), "pick_many")}
    assert len(built_in) >= 18
    # An abstract base, and a protocol.
    assert built_in - made <= {"CustomPicker", "Picker"}


def test_a_split_by_key_keeps_keys() -> None:
    claims: dict[Any, float] = {"affinity": 0, "reproducible": 0, "minimal_disruption": 0.02, "weights": 0.05}
    check_picker(
        lambda pool: a.TrafficSplit([(a.Rendezvous(pool), 9), (a.Maglev(pool), 1)], by="key"), claims=claims, scripts=20
    )


FAULTS = [
    (mine.PicksTheEjected, ["reproducible"], "eligibility", "which is unhealthy"),
    (mine.IgnoresWeights, ["weights"], "weights", "weights (5, 1, 1) gave"),
    (mine.TwiceUnfair, ["weights", "fairness"], "fairness", "requests from the exact share"),
    (mine.TwiceTheShare, ["weights"], "weights", "weights (1, 1, 1, 1, 1, 1) gave"),
    (mine.MovesAllKeys, ["affinity", "minimal_disruption"], "minimal_disruption", "keys moved without need"),
    (mine.NotReproducible, ["weights", "reproducible"], "reproducible", "of two runs"),
    (mine.Leaks, ["weights"], "conservation", "requests in flight;"),
    (mine.Careless, [], "errors", "IndexError"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("faulty", "claims", "property", "says"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_each_planted_fault_is_found(faulty: Any, claims: Any, property: str, says: str, seed: int) -> None:
    with pytest.raises(PickerCheckError) as caught:
        check_picker(faulty, claims=claims, seed=seed)
    found = [fault for fault in caught.value.faults if fault.property == property]
    assert found
    assert any(says in fault.message for fault in found)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{faulty.__name__}: ")
    # Nothing else is wrong with it.
    assert {fault.property for fault in caught.value.faults} == {property}


@pytest.mark.parametrize("seed", range(50))
def test_right_pickers_raise_no_alarm(seed: int) -> None:
    check_picker(mine.Smooth, claims=["weights", "fairness", "reproducible"], seed=seed, scripts=8, picks=300)
    check_picker(lambda pool: mine.TwoChoices(pool, seed), seed=seed, scripts=8, picks=300)
    keyed = ["affinity", "minimal_disruption", "reproducible"]
    check_picker(mine.HighestRandomWeight, claims=keyed, seed=seed, scripts=4)


def test_the_example_is_small_and_shows_the_fault() -> None:
    with pytest.raises(PickerCheckError) as caught:
        check_picker(mine.PicksTheEjected, claims=[])
    (fault,) = caught.value.faults
    lines = fault.example.splitlines()
    assert len(lines) <= 9
    assert "picker.try_pick(" in lines[-1]
    # It is a program, and it does what it says.
    names: dict[str, Any] = {name: getattr(a, name) for name in ("Pool", "Endpoint", "ManualClock")} | {
        "make": mine.PicksTheEjected
    }
    exec("\n".join(lines[:-1]), names)
    sick = {record.id for record in names["pool"].stats() if not record.eligible}
    assert {names["picker"].try_pick("k").id for _ in range(6)} & sick


def test_several_faults_are_reported_together() -> None:
    class Both(mine.IgnoresWeights):
        def pick(self, key: Any = None, /, *, now: float | None = None) -> Endpoint:
            return self.pool.endpoints[0]

    with pytest.raises(AssertionError, match="properties do not hold") as caught:
        check_picker(Both, claims={"weights": 0.1, "reproducible": 0})
    assert isinstance(caught.value, AibalanceError)
    assert {fault.property for fault in caught.value.faults} == {"errors", "eligibility", "weights"}  # type: ignore[attr-defined]


def test_what_is_no_picker_is_refused_at_once() -> None:
    with pytest.raises(PickerCheckError, match=r"has not all methods of aibalance\.Picker"):
        check_picker(lambda pool: object())  # type: ignore[arg-type, return-value]
    with pytest.raises(PickerCheckError, match="protocol"):
        check_picker(lambda pool: a.RoundRobin)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"claims": ["speed"]}, "claims: 'speed'"),
        ({"claims": "weights"}, "claims: 'weights' is not allowed"),
        ({"claims": {"weights": -1}}, r"claims\['weights'\]: -1"),
        ({"claims": {"weights": float("nan")}}, r"claims\['weights'\]: nan"),
        ({"scripts": 0}, "scripts: 0"),
        ({"picks": 99}, "picks: 99"),
        ({"seed": -1}, "seed: -1"),
        ({"false_alarm": 0.0}, r"false_alarm: 0\.0"),
        ({"false_alarm": 1.0}, r"false_alarm: 1\.0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        check_picker(a.RoundRobin, **options)
    with pytest.raises(ConfigError, match="make: 'x'"):
        check_picker("x")  # type: ignore[arg-type]


def test_each_bound_counts() -> None:
    for claim, bound in (("weights", 3.0), ("fairness", 9.0), ("minimal_disruption", 1.0)):
        make: Any = mine.MovesAllKeys if claim == "minimal_disruption" else mine.TwiceUnfair
        make = mine.TwiceTheShare if claim == "weights" else make
        check_picker(make, claims={claim: bound}, scripts=5)  # type: ignore[dict-item]
        with pytest.raises(PickerCheckError, match=claim):
            check_picker(make, claims=[claim], scripts=5)  # type: ignore[list-item]


def test_fewer_picks_and_a_stricter_alarm_see_less() -> None:
    with pytest.raises(PickerCheckError):
        check_picker(mine.TwiceTheShare, scripts=1, claims=["weights"], picks=1000, false_alarm=0.01)
    check_picker(mine.TwiceTheShare, scripts=1, claims=["weights"], picks=100, false_alarm=1e-30)


def test_keys_are_those_that_one_gives() -> None:
    seen = set()

    class Curious(mine.HighestRandomWeight):
        def choose(self, candidates: Any, key: Any, /) -> Endpoint:
            seen.add(key)
            return super().choose(candidates, key)

    check_picker(Curious, claims=["affinity"], keys=lambda i: i * 1000, scripts=5)
    assert seen >= {1000, 299_000}
    assert all(key is None or key % 1000 == 0 for key in seen)


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    from aibalance import testing

    for call in (lambda: check_picker(a.RoundRobin), testing.endpoints, testing.keys, testing.traffic, testing.scripts):
        with pytest.raises(ConfigError, match="pip install hypothesis"):
            call()
    # Scripts of one's own need nothing.
    assert run_script(a.First, Script((Endpoint("x"),), (Event("pick"),))) == ["x"]


def test_a_script_says_what_happened_and_is_held_to_it() -> None:
    events = (
        Event("acquire", key="k", exclude=frozenset("a")),
        Event("set_weight", "b", value=0),
        Event("pick"),
        Event("drain", "a"),
        Event("pick"),
        Event("undrain", "a"),
        Event("release", value=0),
        Event("remove", "b"),
        Event("add", value=Endpoint("c", backup=True)),
        Event("advance", value=1.0),
        Event("with", key=b"k", subset=frozenset("c")),
        Event("ranked", value=2),
        Event("attempts", value=2),
        Event("many", value=3),
        Event("drop", value=0),
        Event("cancel", value=0),
    )
    script = Script((Endpoint("a"), Endpoint("b")), events)
    assert run_script(a.RoundRobin, script) == ["b", "a", None, "c"]
    text = str(script)
    for line in (
        "pool = Pool([Endpoint('a'), Endpoint('b')], panic_threshold=0.0, clock=clock, seed=0)",
        "leases.append(picker.try_acquire('k', exclude=['a']))",
        "with picker.acquire(b'k', subset=['c']): pass",
        "picker.ranked(k=2)",
        "list(picker.attempts(budget=2))",
        "picker.pick_many(3)",
        "clock.advance(1.0); pool.advance()",
        "leases[0].release()",
        "del leases[0]",
        "pool.set_weight('b', 0)",
        "pool.remove('b')",
    ):
        assert line in text.splitlines() or line in text


def test_claims_follow_class_and_options() -> None:
    pool = Pool(["a"])
    assert claims_of(object()) == {"weights": 0.0, "reproducible": 0.0}
    assert claims_of(a.LeastRequest(pool, bias=2.0)) == {"reproducible": 0.0}
    assert claims_of(a.RoundRobin(pool, start=3))["fairness"] == 2.0
    assert "weights" not in claims_of(a.Rendezvous(pool, variant="caddy"))
    assert "minimal_disruption" not in claims_of(a.JumpHash(pool))
    smaller, larger = (claims_of(a.RingHash(pool, points=points))["weights"] for points in (1000, 100))
    assert smaller < larger
