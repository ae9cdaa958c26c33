"""Scripts of events, and what has to hold after each of them whatever the picker's rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from .._core import Endpoint, Lease, ManualClock, Pool
from .._errors import PickError
from .._picker import Key, Picker

__all__ = ["Broken", "Event", "Kind", "Make", "Script", "run_script"]

Make: TypeAlias = Callable[[Pool], Picker]
"""Makes the picker under test for a pool."""

Kind: TypeAlias = Literal[
    "pick", "acquire", "with", "release", "cancel", "drop", "ranked", "attempts", "many",
    "add", "remove", "set_weight", "set_health", "drain", "undrain", "advance",
]  # fmt: skip


class Broken(AssertionError):
    """A property does not hold; `property` says which."""

    def __init__(self, property: str, message: str) -> None:
        super().__init__(message)
        self.property = property
        self.after = 0
        """How many events had happened."""


class Event(NamedTuple):
    """One event of a script. What does not apply when its turn comes is passed over.

    `kind` is what happens: "pick", "acquire", "with" (acquire in a block), "ranked", "attempts" and "many" ask the
    picker; "release", "cancel" and "drop" end one of the leases that are held; the others are the pool's methods of
    these names. `value` is the cost, the number `k` or `budget` or of picks, which lease, the weight, the health or the
    seconds.

    >>> from aibalance.testing import Event
    >>> print(Event("set_health", "a", value="unhealthy"))
    pool.set_health('a', 'unhealthy')
    """

    kind: Kind
    id: str = ""
    key: Key | None = None
    value: Any = None
    exclude: frozenset[str] = frozenset()
    subset: frozenset[str] | None = None

    def __str__(self) -> str:
        key = "" if self.key is None else repr(self.key)
        names = f", exclude={sorted(self.exclude)}" if self.exclude else ""
        names += "" if self.subset is None else f", subset={sorted(self.subset)}"
        asked = f"{key}{names}" if key else names.removeprefix(", ")
        match self.kind:
            case "pick":
                return f"picker.try_pick({key})"
            case "acquire":
                return f"leases.append(picker.try_acquire({asked}))"
            case "with":
                return f"with picker.acquire({asked}): pass"
            case "release" | "cancel":
                return f"leases[{self.value}].{self.kind}()"
            case "drop":
                return f"del leases[{self.value}]"
            case "ranked":
                return f"picker.ranked({asked}{', ' if asked else ''}k={self.value})"
            case "attempts":
                return f"list(picker.attempts({key}{', ' if key else ''}budget={self.value}))"
            case "many":
                return f"picker.pick_many({self.value})"
            case "add":
                return f"pool.add({self.value!r})"
            case "advance":
                return f"clock.advance({self.value}); pool.advance()"
            case "set_weight" | "set_health":
                return f"pool.{self.kind}({self.id!r}, {self.value!r})"
            case _:
                return f"pool.{self.kind}({self.id!r})"


@dataclass(frozen=True)
class Script:
    """A pool and what happens to it. As text it is the program that does the same.

    >>> from aibalance.testing import Event, Script, run_script
    >>> script = Script((Endpoint("a"), Endpoint("b")), (Event("drain", "a"), Event("pick")))
    >>> run_script(RoundRobin, script)
    ['b']
    """

    endpoints: tuple[Endpoint, ...]
    events: tuple[Event, ...]
    panic_threshold: float = 0.0
    seed: int = 0

    def pool(self) -> tuple[Pool, ManualClock]:
        """The pool that it starts with, and the pool's clock."""
        clock = ManualClock(0.0)
        return Pool(self.endpoints, panic_threshold=self.panic_threshold, clock=clock, seed=self.seed), clock

    def __str__(self) -> str:
        endpoints = ", ".join(map(repr, self.endpoints))
        start = f"clock = ManualClock(0.0)\npool = Pool([{endpoints}], panic_threshold={self.panic_threshold}, "
        lines = [f"{start}clock=clock, seed={self.seed})", "picker, leases = make(pool), []", *map(str, self.events)]
        return "\n".join(lines)


@dataclass(eq=False)
class _Seen:
    """An endpoint as it has to be."""

    endpoint: Endpoint
    weight: float
    health: str = "healthy"
    draining: bool = False
    inflight: int = 0

    @property
    def full(self) -> bool:
        limit = self.endpoint.max_inflight
        return limit is not None and self.inflight >= limit


@dataclass
class _Run:
    """A script on its way."""

    script: Script
    picker: Any
    pool: Pool
    clock: ManualClock
    seen: dict[str, _Seen] = field(default_factory=dict)
    held: list[tuple[Lease, _Seen]] = field(default_factory=list)
    choices: list[str | None] = field(default_factory=list)

    def ranks(self) -> Iterable[list[_Seen]]:
        """Who may be picked, best first: those who are asked for a part of the requests, then those who help out.

        Envoy's rule in whole percent, which docs/concepts.md states.
        """
        levels = []
        for backup in (False, True):
            level = [s for s in self.seen.values() if s.endpoint.backup is backup and s.weight > 0 and not s.draining]
            levels.append((level, *([s for s in level if s.health == h] for h in ("healthy", "degraded"))))
        able: list[list[int]] = [
            [min(100, 140 * len(part) // len(level)) if level else 0 for part in parts] for level, *parts in levels
        ]
        panics = [
            bool(level)
            and sum(sum(two) for two in able) < 100
            and 100 * (len(healthy) + len(degraded)) < 100 * self.script.panic_threshold * len(level)
            for level, healthy, degraded in levels
        ]
        # Backups are asked when no primary can be had, and no panic makes them had.
        asked = 0 if sum(able[0]) or panics[0] else 1
        first: list[_Seen] = []
        behind: list[list[_Seen]] = []
        for i, (level, healthy, degraded) in enumerate(levels):
            if i == asked and panics[i]:
                first = level
            elif i == asked and (total := sum(able[i], 0)) and able[i][0] * 100 // min(100, total) < 100:
                first = healthy + degraded
            elif i == asked:
                first = healthy
                behind.append(degraded)
            else:
                behind += [healthy, degraded]
        return [first, *behind]

    def allowed(self, exclude: Iterable[str] = (), subset: Iterable[str] | None = None) -> set[str]:
        for rank in self.ranks():
            free = {s.endpoint.id for s in rank if not s.full} - set(exclude)
            if subset is not None:
                free &= set(subset)
            if free:
                return free
        return set()

    def why_not(self, id: str, exclude: Iterable[str], subset: Iterable[str] | None) -> str:
        if id not in self.seen:
            return "not in the pool"
        if id in exclude:
            return "excluded"
        if subset is not None and id not in subset:
            return "not in the subset"
        seen = self.seen[id]
        if seen.weight <= 0:
            return "of weight 0"
        if seen.draining:
            return "draining"
        if seen.full:
            return f"full: {seen.inflight} in flight, max_inflight={seen.endpoint.max_inflight}"
        return f"{seen.health}{', a backup' if seen.endpoint.backup else ''}, while better ones are there"

    def judge(self, chosen: Any, exclude: Iterable[str] = (), subset: Iterable[str] | None = None) -> None:
        allowed = self.allowed(exclude, subset)
        if chosen is None:
            if allowed:
                raise Broken("availability", f"picked nobody, although {sorted(allowed)} could take the request")
        elif not isinstance(chosen, Endpoint):
            raise Broken("protocol", f"picked {chosen!r}, which is no Endpoint")
        elif chosen.id not in allowed:
            why = self.why_not(chosen.id, exclude, subset)
            raise Broken("eligibility", f"picked {chosen.id!r}, which is {why}; allowed: {sorted(allowed) or 'nobody'}")

    def take(self, lease: Any, exclude: Iterable[str], subset: Iterable[str] | None) -> _Seen:
        if not isinstance(lease, Lease):
            raise Broken("protocol", f"acquired {lease!r}, which is no Lease")
        self.judge(lease.endpoint, exclude, subset)
        seen = self.seen[lease.endpoint.id]
        seen.inflight += 1
        return seen

    def counted(self) -> None:
        for record in self.pool.stats():
            wanted = self.seen[record.id].inflight
            if record.inflight != wanted:
                raise Broken(
                    "conservation", f"{record.id!r} has {record.inflight} requests in flight; {wanted} leases are held"
                )

    def step(self, event: Event) -> None:
        key, value, exclude, subset = event.key, event.value, event.exclude, event.subset
        match event.kind:
            case "pick":
                chosen = self.picker.try_pick(key)
                self.judge(chosen)
                self.choices.append(None if chosen is None else chosen.id)
                if chosen is None:
                    self.refuses(lambda: self.picker.pick(key), "pick")
            case "acquire" | "with":
                lease = self.picker.try_acquire(key, cost=value or 1.0, exclude=exclude, subset=subset)
                self.choices.append(None if lease is None else lease.endpoint.id)
                if lease is None:
                    self.judge(None, exclude, subset)
                    self.refuses(lambda: self.picker.acquire(key, exclude=exclude, subset=subset), "acquire")
                else:
                    seen = self.take(lease, exclude, subset)
                    self.held.append((lease, seen))
                    if event.kind == "with":
                        self.counted()
                        with lease:
                            pass
                        self.ended(len(self.held) - 1)
            case "release" | "cancel":
                if self.held:
                    lease, seen = self.held[value % len(self.held)]
                    (lease.release if event.kind == "release" else lease.cancel)()
                    self.ended(value % len(self.held))
                    self.counted()
                    lease.release()  # once more: it must not matter
            case "drop":
                if self.held:
                    self.ended(value % len(self.held))
            case "ranked" | "attempts" | "many":
                if hasattr(self.picker, "pick_many" if event.kind == "many" else event.kind):
                    getattr(self, event.kind)(event)
            case "advance":
                self.clock.advance(value)
                self.pool.advance()
            case "add":
                if value.id not in self.seen:
                    self.pool.add(value)
                    self.seen[value.id] = _Seen(value, value.weight)
            case _:
                if event.id in self.seen:
                    self.changed(event)

    def changed(self, event: Event) -> None:
        seen = self.seen[event.id]
        match event.kind:
            case "remove":
                self.pool.remove(event.id)
                del self.seen[event.id]
            case "set_weight":
                self.pool.set_weight(event.id, event.value)
                seen.weight = event.value
            case "set_health":
                self.pool.set_health(event.id, event.value)
                seen.health = event.value
            case "drain":
                self.pool.drain(event.id)
                seen.draining = True
            case _:
                self.pool.undrain(event.id)
                seen.draining = False

    def ended(self, at: int) -> None:
        _, seen = self.held.pop(at)
        seen.inflight -= 1

    def refuses(self, call: Callable[[], object], name: str) -> None:
        try:
            got = call()
        except PickError:
            return
        raise Broken("errors", f"{name} gave {got!r} where nobody may take the request; expected a PickError")

    def ranked(self, event: Event) -> None:
        found = self.picker.ranked(event.key, k=event.value, exclude=event.exclude, subset=event.subset)
        ids = [endpoint.id for endpoint in found]
        if len(set(ids)) != len(ids) or len(ids) > event.value:
            raise Broken("eligibility", f"ranked gave {ids}; expected at most {event.value}, each once")
        without = set(event.exclude)
        for endpoint in found:
            self.judge(endpoint, without, event.subset)
            without.add(endpoint.id)
        if len(ids) < event.value:
            self.judge(None, without, event.subset)

    def attempts(self, event: Event) -> None:
        tried: list[str] = []
        taken: list[tuple[Lease, _Seen]] = []
        try:
            for lease in self.picker.attempts(event.key, budget=event.value):
                taken.append((lease, self.take(lease, tried, None)))
                tried.append(lease.endpoint.id)
        except PickError:
            if tried:
                raise Broken("errors", f"attempts raised after {tried}; expected its end") from None
        if len(tried) < event.value:
            self.judge(None, tried)
        elif len(tried) > event.value:
            raise Broken("errors", f"attempts gave {tried}; expected at most {event.value}")
        for lease, seen in taken:
            lease.release()
            seen.inflight -= 1

    def many(self, event: Event) -> None:
        try:
            found = list(self.picker.pick_many(event.value))
        except PickError:
            found = []
        for chosen in found:
            self.judge(chosen)
        if self.allowed() and len(found) != event.value:
            raise Broken("availability", f"pick_many({event.value}) gave {len(found)} picks")


def run_script(make: Make, script: Script) -> list[str | None]:
    """Runs a script, looks after each event, and gives up all leases at the end.

    Returns the id that each "pick", "acquire" and "with" got, or None. Raises AssertionError when somebody was picked
    who may not be, nobody although somebody may, when counts are not those of the leases that are held, or when an
    error is not a PickError.

    >>> from aibalance.testing import Event, Script, run_script
    >>> events = (Event("acquire"), Event("acquire"), Event("acquire"), Event("release", value=0), Event("pick"))
    >>> run_script(First, Script((Endpoint("a", max_inflight=1), Endpoint("b", max_inflight=1)), events))
    ['a', 'b', None, 'a']
    """
    pool, clock = script.pool()
    run = _Run(script, make(pool), pool, clock)
    run.seen = {e.id: _Seen(e, e.weight) for e in script.endpoints}
    at = 0
    try:
        for event in script.events:
            at += 1
            try:
                run.step(event)
            except AssertionError:
                raise
            except Exception as error:
                raise Broken("errors", f"{event} raised {type(error).__name__}: {error}") from error
            run.counted()
        while run.held:
            run.held[-1][0].release()
            run.ended(len(run.held) - 1)
            run.counted()
    except Broken as broken:
        broken.after = at
        raise
    return run.choices
