"""Random scripts of processes that start, fork, take, give back, change the pool, leave and are killed, against a plain
list of what there should be."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibalance import ConfigError, Pool
from tests.processes.peer import a_name

LONG = bool(os.environ.get("EXPLORE")) or os.environ.get("AIBALANCE_FULL") == "1"
EXAMPLES = int(os.environ.get("AIBALANCE_SCRIPTS", "150" if LONG else "12"))
# It is to take a second at most. Where everything is tested at once a process may take longer than that to die.
PATIENCE = 1 if LONG else 10

PLACES = 6
# One that leaves with leases and comes back has a place for each time, and so have the children that it forks.
ROOM = 64
IDS = [f"e{i}" for i in range(6)]
EXTRAS = ["x0", "x1", "x2"]
KINDS = ["lc", "full", "p2c", "rr", "ewma", "maglev"]

which = st.integers(0, 5)
ids = st.lists(st.sampled_from(IDS), min_size=1, unique=True)
id = st.sampled_from(IDS)
costs = st.sampled_from([1.0, 1.0, 2.5, 0.0])
outcomes = st.sampled_from(["success", "failure", "timeout"])

# What can happen, by the methods of `Script`: how often, and with what. Nothing is drawn by what has happened before,
# which is not the same twice: a kill falls where it falls.
STEPS: dict[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "start": (3, ()),
    "enter": (5, (which, ids, st.booleans())),
    "fork": (2, (which,)),
    "give_what_is_its_parents": (1, (which,)),
    "take": (12, (which, st.sampled_from(KINDS), costs, st.integers(1, 4))),
    "give": (6, (which, st.integers(0, 100), outcomes)),
    "update": (3, (which, ids)),
    "add": (2, (which, id)),
    "remove": (2, (which, id)),
    "weigh": (1, (which, which, st.sampled_from([0, 1, 1, 2, 5]))),
    "judge": (2, (which, which, st.sampled_from(["healthy", "healthy", "unhealthy"]))),
    "drain": (2, (which, which, st.booleans())),
    "leave": (1, (which,)),
    "kill": (2, (which,)),
    "end": (1, (which,)),
    "work_at_once": (2, (st.integers(1, 5), st.integers(0, 1 << 20), which, st.floats(0, 0.01))),
}
steps = st.one_of([st.tuples(st.just(name), *args) for name, (often, args) in STEPS.items() for _ in range(often)])


@dataclass
class Proc:
    """A process, with the leases that it should have: the endpoint's incarnation and the units of each."""

    connection: socket.socket
    stream: Any
    pid: int
    leases: list[tuple[int, float]] = field(default_factory=list)
    inside: bool = False

    def tell(self, expression: str) -> None:
        print(expression, file=self.stream, flush=True)

    def answer(self) -> Any:
        line = self.stream.readline()
        assert line, f"process {self.pid} has died"
        return ast.literal_eval(line)

    def __call__(self, expression: str) -> Any:
        self.tell(expression)
        return self.answer()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.connection.close()


class Nursery:
    """Where processes come from."""

    def __init__(self, folder: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(folder / "socket"))
        self.server.listen()
        self.server.settimeout(60)
        command = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(folder / "socket")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)

    def born(self) -> Proc:
        connection, _ = self.server.accept()
        connection.settimeout(60)
        stream = connection.makefile("rw")
        return Proc(connection, stream, int(stream.readline()))

    def start(self) -> Proc:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self.born()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.server.close()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path)
    yield nursery
    nursery.close()


@dataclass
class Place:
    """An endpoint as it should be. One that leaves and comes back is another incarnation, with counts of its own."""

    incarnation: int
    weight: float = 1.0
    health: str = "healthy"
    draining: bool = False

    @property
    def open(self) -> bool:
        return self.health == "healthy" and not self.draining and self.weight > 0


class Script:
    """What happens, and what there should be."""

    def __init__(self, nursery: Nursery) -> None:
        self.nursery = nursery
        self.name = a_name()
        self.procs: list[Proc] = []
        self.places: dict[str, Place] = {}
        self.made = 0
        self.turn = 0

    # What should be.

    def fresh(self) -> Place:
        self.made += 1
        return Place(self.made)

    @property
    def inside(self) -> list[Proc]:
        return [proc for proc in self.procs if proc.inside]

    def held(self, place: Place) -> list[float]:
        return [units for proc in self.procs for incarnation, units in proc.leases if incarnation == place.incarnation]

    def slots(self, ids: set[str]) -> int:
        """How many slots are taken at most when these come in beside those that are there."""
        there = {place.incarnation for place in self.places.values()}
        old = {incarnation for proc in self.procs for incarnation, _ in proc.leases} - there
        return len(ids | set(self.places)) + len(old)

    def at(self, index: int) -> Proc:
        return self.inside[index % len(self.inside)]

    def expected(self) -> tuple[list[tuple[str, float, str, bool]], list[tuple[int, float]]]:
        members = [(id, place.weight, place.health, place.draining) for id, place in self.places.items()]
        counts = [(len(held), sum(held)) for held in map(self.held, self.places.values())]
        return members, counts

    def recovers(self, proc: Proc) -> None:
        """The dead are taken back."""
        deadline = time.monotonic() + PATIENCE
        while (found := proc("state()")) != self.expected():
            assert time.monotonic() < deadline, (found, self.expected())
            time.sleep(0.002)

    # What happens.

    def begin(self, ids: list[str]) -> None:
        self.start()
        self.makes(self.procs[-1], ids)

    def step(self, name: str, *args: Any) -> None:
        """Does it where it can be done."""
        lacking = {
            "start": len(self.procs) >= PLACES,
            "enter": len(self.inside) == len(self.procs),
            "give_what_is_its_parents": not self.procs,
            "give": not any(proc.leases for proc in self.procs),
            "kill": not self.procs,
            "fork": not self.inside or len(self.procs) >= PLACES,
            "work_at_once": len(self.inside) < 2,
        }
        if lacking.get(name, not self.inside or (name in ("weigh", "judge", "drain") and not self.places)):
            return
        getattr(self, name)(*args)
        self.turn += 1
        if self.inside:
            assert self.at(self.turn)("state()") == self.expected()

    def makes(self, proc: Proc, ids: list[str]) -> None:
        assert proc(f"enter({self.name!r}, {ids!r}, {ROOM})") is None
        # Nobody is in the memory that was there, and what anybody has of it counts no more.
        for other in self.procs:
            other.leases = [(0, units) for _, units in other.leases]
        self.places = {id: self.fresh() for id in ids}
        proc.inside = True

    def start(self) -> None:
        self.procs.append(self.nursery.start())

    def enter(self, index: int, ids: list[str], opens: bool) -> None:
        outside = [proc for proc in self.procs if not proc.inside]
        proc = outside[index % len(outside)]
        if opens or self.inside:
            answer = proc(f"enter({self.name!r}" + (")" if opens else f", {ids!r}, {ROOM})"))
            if answer is not None:
                # One that has left and has nothing out any more may be in for a while, if nobody else cleans up.
                assert not self.inside, answer
                assert not any(incarnation for other in self.procs for incarnation, _ in other.leases), answer
                assert "nobody" in answer
                return
            proc.inside = True
        elif not any(incarnation for other in self.procs for incarnation, _ in other.leases):
            # The same name, made anew, unless somebody who has left is still noted there.
            Pool.unlink(self.name)
            self.makes(proc, ids)
        if proc.inside:
            self.recovers(proc)

    def fork(self, index: int) -> None:
        proc = self.at(index)
        assert proc("fork()") is None
        child = self.nursery.born()
        child.inside = True
        self.procs.append(child)

    def give_what_is_its_parents(self, index: int) -> None:
        assert self.procs[index % len(self.procs)]("give_what_was_inherited()") is None

    def take(self, index: int, kind: str, cost: float, n: int) -> None:
        proc = self.at(index)
        for _ in range(n):
            taken = proc(f"take({kind!r}, {cost})")
            had = {id: len(self.held(place)) for id, place in self.places.items()}
            able = {id for id, place in self.places.items() if place.open and not (id == "e0" and had[id] >= 2)}
            if taken is None:
                assert not able
                return
            assert taken in able, (taken, self.expected())
            place = self.places[taken]
            if kind == "lc":
                relative = {id: had[id] / self.places[id].weight for id in able}
                assert relative[taken] == min(relative.values()), (taken, relative)
            proc.leases.append((place.incarnation, cost))

    def give(self, index: int, which: int, outcome: str) -> None:
        holders = [proc for proc in self.procs if proc.leases]
        proc = holders[index % len(holders)]
        at = which % len(proc.leases)
        assert proc(f"give({at}, {outcome!r})") is None
        del proc.leases[at]

    def update(self, index: int, ids: list[str]) -> None:
        room = self.slots(set(ids)) <= 16
        answer = self.at(index)(f"update({ids!r})")
        if answer is not None:
            assert "at most 16" in answer
            assert not room
            return
        kept = {id: self.places[id] if id in self.places else self.fresh() for id in ids}
        for place in kept.values():
            place.weight = 1.0
        self.places = kept

    def add(self, index: int, id: str) -> None:
        answer = self.at(index)(f"pool.add(endpoint({id!r}))")
        if id in self.places:
            assert answer.startswith("ConfigError"), answer
        elif answer is None:
            self.places[id] = self.fresh()
        else:
            assert "at most 16" in answer
            assert self.slots({id}) > 16

    def remove(self, index: int, id: str) -> None:
        answer = self.at(index)(f"pool.remove({id!r})")
        if id in self.places:
            assert answer is None
            del self.places[id]
        else:
            assert answer.startswith(("ConfigError", "UnknownEndpoint")), answer

    def weigh(self, index: int, which: int, weight: int) -> None:
        id = list(self.places)[which % len(self.places)]
        assert self.at(index)(f"pool.set_weight({id!r}, {weight})") is None
        self.places[id].weight = weight

    def judge(self, index: int, which: int, health: str) -> None:
        id = list(self.places)[which % len(self.places)]
        assert self.at(index)(f"pool.set_health({id!r}, {health!r})") is None
        self.places[id].health = health

    def drain(self, index: int, which: int, drains: bool) -> None:
        id = list(self.places)[which % len(self.places)]
        assert not isinstance(self.at(index)(f"pool.{'drain' if drains else 'undrain'}({id!r})"), str)
        self.places[id].draining = drains

    def leave(self, index: int) -> None:
        """With what it has out: it gives that back later, comes back, or dies with it."""
        proc = self.at(index)
        assert proc("leave()") is None
        proc.inside = False

    def kill(self, index: int) -> None:
        proc = self.procs.pop(index % len(self.procs))
        proc.kill()
        if self.inside:
            self.recovers(self.at(index))

    def end(self, index: int) -> None:
        """Without a word, but by itself: what it had comes back all the same."""
        proc = self.at(index)
        self.procs.remove(proc)
        proc.close()
        if self.inside:
            self.recovers(self.at(index))

    def work_at_once(self, n: int, seed: int, killed: int, after: float) -> None:
        """Several work at the same time, and some of them are killed in the middle of it. One at least stays."""
        workers = self.inside[:n]
        dying = workers[: min(killed, len(self.inside) - 1)]
        for i, proc in enumerate(workers):
            turns = 1 << 40 if proc in dying else 60
            proc.tell(f"busy({seed + i}, {turns}, {EXTRAS!r})")
        if dying:
            time.sleep(after)
        for proc in dying:
            self.procs.remove(proc)
            proc.kill()
        for proc in workers:
            if proc not in dying:
                assert proc.answer() is None
        self.tidy(self.inside[0])

    def tidy(self, proc: Proc) -> None:
        """What those who worked have brought in goes."""
        members = [id for id, *_ in proc("state()")[0]]
        assert [id for id in members if id not in EXTRAS] == list(self.places), members
        for id in members:
            if id in EXTRAS:
                assert proc(f"pool.remove({id!r})") is None
        self.recovers(proc)

    def finish(self) -> None:
        for proc in self.inside:
            assert proc("state()") == self.expected()

    def close(self) -> None:
        for proc in self.procs:
            proc.kill()
        with suppress(ConfigError):
            Pool.unlink(self.name)


def test_any_script_of_processes_leaves_what_it_should(nursery: Nursery) -> None:
    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(ids, st.lists(steps, min_size=20, max_size=80))
    def run(first: list[str], steps: list[Any]) -> None:
        script = Script(nursery)
        try:
            script.begin(first)
            for step in steps:
                script.step(*step)
            script.finish()
        finally:
            script.close()

    run()
