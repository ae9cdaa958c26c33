"""What `aibalance bench` measures, and how. The repository's own benches build on it.

A case is one statement, compiled into a bare loop over keys. Cases of one operation and size take turns, a round each,
and the median round counts, less the bare loop: machines are noisy, ratios within a table are not.
"""

from __future__ import annotations

import importlib
import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import _bench_peers as _peers
from . import _core

__all__ = [
    "KEY",
    "KEYS",
    "SIZES",
    "WEIGHTS",
    "Case",
    "Result",
    "addresses",
    "cases",
    "compiled",
    "endpoints",
    "keys_of",
    "measure",
]

SIZES = (8, 64, 512)
WEIGHTS = (5, 1, 3, 2, 1, 4, 1, 7)
KEY = "user-0123456789a"
KEYS = 4096
ROUND = 0.01
"""Seconds of a round: so many that its start, with cold caches, does not matter."""


def addresses(n: int) -> list[str]:
    """So many addresses."""
    return [f"10.0.{i >> 8}.{i & 255}:8080" for i in range(n)]


def endpoints(n: int, weighted: bool = False) -> list[_core.Endpoint]:
    """So many endpoints, of weight 1 or of WEIGHTS again and again."""
    return [_core.Endpoint(a, weight=WEIGHTS[i % 8] if weighted else 1) for i, a in enumerate(addresses(n))]


def compiled(statement: str, *, over: str = "_", **names: Any) -> Callable[[Iterable[Any]], None]:
    """A function that runs the statement once for each item of its argument, with local names only."""
    parameters = ", ".join(f"{name}={name}" for name in names)
    namespace = dict(names)
    exec(f"def loop(items, {parameters}):\n    for {over} in items:\n        {statement}", namespace)
    loop: Callable[[Iterable[Any]], None] = namespace["loop"]
    return loop


@dataclass(frozen=True)
class Case:
    """One statement over a picker `p` and a key `k`, by one subject."""

    what: str
    """The operation: cases of one operation and size are compared."""
    subject: str
    """"aibalance", or the peer."""
    n: int
    make: Callable[[int], Any]
    """Makes `p`. Raises ImportError where the peer is not installed."""
    statement: str
    keys: int = 1
    threads: int = 1
    at_least: float | None = None
    """How many times slower than ours the design wants the peer to be."""
    note: str = ""
    integers: bool = False
    """Keys are integers."""
    shared: bool = False
    """May be called from several threads at once."""


@dataclass(frozen=True)
class Result:
    """What a case takes."""

    case: Case
    ns: float
    """Nanoseconds a call, of CPU time; without a GIL and with two threads, of the time that passed, over the calls of
    both."""


def keys_of(case: Case) -> list[Any]:
    """The keys that a case goes through."""
    numbers = [123_456_789_012] if case.keys == 1 else [i * 2_654_435_761 % 10**11 for i in range(case.keys)]
    if case.integers:
        return numbers
    return [KEY] if case.keys == 1 else [f"user-{number:011d}" for number in numbers]


def _ours(name: str, *, weighted: bool = False, **options: Any) -> Callable[[int], Any]:
    return lambda n: getattr(_core, name)(_core.Pool(endpoints(n, weighted), seed=42), **options)


def _smooth(n: int) -> Any:
    roundrobin = importlib.import_module("roundrobin")

    return roundrobin.smooth([(a, WEIGHTS[i % 8]) for i, a in enumerate(addresses(n))])


def _uhashring(n: int) -> Any:
    uhashring = importlib.import_module("uhashring")

    return uhashring.HashRing(nodes=addresses(n))


def _hashring(n: int) -> Any:
    hashring = importlib.import_module("hashring")

    return hashring.HashRing(addresses(n))


def _fastring(n: int) -> Any:
    fastring = importlib.import_module("fastring")

    ring = fastring.HashRing()
    for address in addresses(n):
        ring.add_node(address)
    return ring


def _jump(n: int) -> Any:
    jump = importlib.import_module("jump")

    return lambda key: jump.hash(key, n)


def _clandestined(n: int) -> Any:
    clandestined = importlib.import_module("clandestined")

    return clandestined.RendezvousHash(nodes=addresses(n))


def _litellm(n: int) -> Any:
    # Measuring is no reason to fetch a price list from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = importlib.import_module("litellm")

    models = [
        {"model_name": "m", "litellm_params": {"model": "openai/x", "api_key": "none", "api_base": f"http://{a}"}}
        for a in addresses(n)
    ]
    router = litellm.Router(model_list=models)
    return lambda: router.get_available_deployment(model="m", messages=[{"role": "user", "content": "hi"}])


_PICK, _BY_KEY, _BOTH = "p.pick()", "p.pick(k)", "p.acquire().release()"
_HAND = "p.release(p.pick())"


def _of_size(n: int) -> Iterator[Case]:
    def least(*factors: float) -> float | None:
        return dict(zip(SIZES, factors, strict=True)).get(n)

    what = "round robin, weighted"
    yield Case(what, "aibalance", n, _ours("RoundRobin", weighted=True), _PICK, shared=True)
    yield Case(what, "roundrobin.smooth", n, _smooth, "p()", at_least=least(25, 150, 1000))
    yield Case(
        what, "hand-written", n, lambda n: _peers.RoundRobin(addresses(n)), _PICK, shared=True, note="not weighted"
    )
    yield Case(what, "itertools.cycle", n, lambda n: itertools.cycle(addresses(n)), "next(p)", note="C, not weighted")
    what = "least connections, pick and release"
    yield Case(
        what,
        "aibalance",
        n,
        _ours("LeastRequest", full_scan=True, ties="first"),
        _BOTH,
        shared=True,
        note="the first of equals, as min() does",
    )
    by_hand = Case(what, "hand-written", n, lambda n: _peers.LeastConnections(addresses(n)), _HAND, shared=True)
    yield _replace(by_hand, at_least=least(20, 40, 100))
    what = "power of two, pick and release"
    yield Case(what, "aibalance", n, _ours("LeastRequest"), _BOTH, shared=True)
    by_hand = Case(what, "hand-written", n, lambda n: _peers.PowerOfTwo(addresses(n)), _HAND, shared=True)
    yield _replace(by_hand, at_least=8)
    litellm = Case(what, "litellm Router", n, _litellm, "p()", at_least=500, note="get_available_deployment")
    yield litellm
    for keys in (1, KEYS):
        yield from _keyed(n, keys, least)


def _keyed(n: int, keys: int, least: Callable[..., float | None]) -> Iterator[Case]:
    get = "p.get_node(k)"
    for what, ours, factor in (
        ("consistent hashing, Maglev", _ours("Maglev"), 40),
        ("consistent hashing, ring", _ours("RingHash", points=160), 25),
    ):
        yield Case(what, "aibalance", n, ours, _BY_KEY, keys, shared=True)
        yield Case(what, "uhashring", n, _uhashring, get, keys, at_least=factor, shared=True)
        yield Case(what, "hashring", n, _hashring, get, keys, at_least=factor, shared=True)
        if factor == 25:
            yield Case(what, "fastring", n, _fastring, get, keys, at_least=2.5, note="Rust, Python 3.13+")
    what = "rendezvous hashing"
    yield Case(what, "aibalance", n, _ours("Rendezvous"), _BY_KEY, keys, shared=True)
    clandestined = Case(what, "clandestined", n, _clandestined, "p.find_node(k)", keys, note="murmur3")
    yield _replace(clandestined, at_least=least(40, 100, 150), shared=True)
    what = "jump hash, integers"
    yield Case(what, "aibalance", n, _ours("JumpHash"), _BY_KEY, keys, integers=True, shared=True)
    yield Case(what, "jump-consistent-hash", n, _jump, "p(k)", keys, integers=True, note="C, no pool", shared=True)


def _replace(case: Case, **changes: Any) -> Case:
    return Case(**{**case.__dict__, **changes})


def cases(sizes: Sequence[int] = SIZES, threads: Sequence[int] = (1, 2)) -> list[Case]:
    """All cases, those of one operation, size, number of keys and of threads next to each other."""
    found = [
        _replace(case, threads=count)
        for n in sizes
        for case in _of_size(n)
        for count in threads
        if count == 1 or case.shared
    ]
    return sorted(found, key=lambda case: (_order(found, case.what), case.n, case.keys, case.threads))


def _order(found: Sequence[Case], what: str) -> int:
    return list(dict.fromkeys(case.what for case in found)).index(what)


@dataclass
class _Runner:
    """A case that is ready to run."""

    case: Case
    loops: list[Callable[[Iterable[Any]], None]]
    keys: list[Any]
    calls: int = 16

    def items(self) -> list[Any]:
        return list(itertools.islice(itertools.cycle(self.keys), self.calls))

    def seconds(self) -> float:
        """One round."""
        items = self.items()
        if len(self.loops) == 1:
            start = time.thread_time()
            self.loops[0](items)
            return time.thread_time() - start
        # With a GIL one thread runs at a time, and CPU time says what a call costs while others use the machine too.
        clock = time.perf_counter if _free() else time.process_time
        spans: list[tuple[float, float]] = []
        together = threading.Barrier(len(self.loops))

        def go(loop: Callable[[Iterable[Any]], None]) -> None:
            together.wait()
            start = clock()
            loop(items)
            spans.append((start, clock()))

        threads = [threading.Thread(target=go, args=(loop,)) for loop in self.loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (max(end for _, end in spans) - min(start for start, _ in spans)) / len(self.loops)

    def settle(self, aim: float) -> None:
        """As many calls a round as take about that long, and a whole number of times through the keys."""
        self.loops[0](self.keys)  # warm
        while (took := self.seconds()) < aim / 4 and self.calls < 1 << 20:
            self.calls *= 4
        self.calls = max(16, int(self.calls * aim / max(took, 1e-9)))
        self.calls = min(max(1, round(self.calls / len(self.keys))) * len(self.keys), 1 << 20)


def _free() -> bool:
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


def _ready(case: Case, made: dict[tuple[str, str, int], Any]) -> _Runner:
    # Packages are the same whatever they are compared for; ours and what one writes by hand are not.
    own = case.subject in {"aibalance", "hand-written"}
    name = (case.what if own else "", case.subject + case.statement, case.n)
    if name not in made:
        made[name] = case.make(case.n)
    picker = made[name]
    loops = []
    for _ in range(case.threads):
        # Without a GIL each thread has a handle of its own, where the picker gives one.
        handle = picker.local() if _free() and case.threads > 1 and hasattr(picker, "local") else picker
        loops.append(compiled(case.statement, over="k", p=handle))
    return _Runner(case, loops, keys_of(case))


def measure(
    wanted: Sequence[Case], *, rounds: int = 15, progress: Callable[[float], object] | None = None
) -> tuple[list[Result], dict[str, str]]:
    """The results of all cases that can be run, and the peers that cannot, with the reason."""
    results: list[Result] = []
    absent: dict[str, str] = {}
    groups = [list(g) for _, g in itertools.groupby(wanted, key=lambda c: (c.what, c.n, c.keys, c.threads))]
    made: dict[tuple[str, str, int], Any] = {}
    for done, group in enumerate(groups):
        runners = []
        for case in group:
            if case.subject in absent:
                continue
            try:
                runners.append(_ready(case, made))
            except Exception as error:  # a peer that is broken is a result, not a failure
                if case.subject == "aibalance":
                    raise
                absent[case.subject] = str(error) or type(error).__name__
        bare = _Runner(group[0], [compiled("pass", over="k", p=None)] * group[0].threads, keys_of(group[0]))
        aim = ROUND if group[0].threads == 1 else 2 * ROUND
        for runner in (bare, *runners):
            runner.settle(aim)
        times: list[list[float]] = [[] for _ in (bare, *runners)]
        for _ in range(rounds if group[0].threads == 1 else max(3, rounds // 3)):
            for runner, taken in zip((bare, *runners), times, strict=True):
                taken.append(runner.seconds() / runner.calls)
        empty, *each = (statistics.median(taken) for taken in times)
        results += [Result(r.case, max(t - empty, 0.0) * 1e9) for r, t in zip(runners, each, strict=True)]
        if progress is not None:
            progress((done + 1) / len(groups))
    return results, absent
