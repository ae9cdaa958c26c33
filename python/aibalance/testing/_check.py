"""`check_picker`: the properties, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from .._core import Endpoint, ManualClock, Pool
from .._errors import AibalanceError, NoEndpointsError, PickError
from .._picker import Key, Picker, whole, wrong
from ._claims import Claim, Claims, claims_of, keys_of, read
from ._model import Broken, Event, Kind, Make, Script, run_script
from ._strategies import hypothesis, scripts

__all__ = ["Fault", "PickerCheckError", "PickerReport", "check_picker"]

# Weights that every schedule can serve, and one endpoint that may get nothing.
_WEIGHTS = ((1, 1, 1, 1, 1, 1), (5, 1, 1), (1, 2, 3, 4), (3, 0, 2))


@dataclass(frozen=True)
class Fault:
    """A property that does not hold.

    >>> from aibalance.testing import Fault
    >>> print(Fault("eligibility", "picked 'a', which is draining", "picker.try_pick()"))
    eligibility: picked 'a', which is draining
        picker.try_pick()
    """

    property: str
    """Which one: protocol, errors, eligibility, availability, conservation, or a claim."""
    message: str
    """What was seen, and what was expected."""
    example: str = ""
    """A small program that shows it."""

    def __str__(self) -> str:
        return "\n    ".join([f"{self.property}: {self.message}", *self.example.splitlines()])


class PickerCheckError(AibalanceError, AssertionError):
    """A picker that does not behave; `faults` says how, the most basic fault first."""

    def __init__(self, subject: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(subject, faults)
        self.faults = faults
        self.subject = subject

    def __str__(self) -> str:
        several = "1 property does" if len(self.faults) == 1 else f"{len(self.faults)} properties do"
        return "\n".join([f"{self.subject}: {several} not hold", *map(str, self.faults)])


@dataclass(frozen=True)
class PickerReport:
    """What was checked, when all of it held.

    >>> from aibalance.testing import PickerReport
    >>> print(PickerReport("Mine", {"reproducible": 0.0}, {"scripts": 100}))
    Mine: scripts 100; claims hold: reproducible
    """

    subject: str
    """The picker."""
    claims: Mapping[Claim, float]
    """The claims that hold, with their bounds."""
    counts: Mapping[str, int]
    """How many scripts ran, and how many picks were looked at."""

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        claims = [f"{name} (bound {bound:g})" if bound else name for name, bound in self.claims.items()]
        return f"{self.subject}: {counts}; claims hold: {', '.join(claims) or 'none'}"


def check_picker(
    make: Make,
    /,
    *,
    claims: Claims | None = None,
    keys: Callable[[int], Key] | None = None,
    seed: int = 0,
    scripts: int = 100,
    picks: int = 3000,
    false_alarm: float = 1e-9,
) -> PickerReport:
    """Checks the properties that a picker must have, and those that it claims.

    Parameters
    ----------
    make : makes a picker for the pool that it gets; called many times. A seed of its own belongs in here.
    claims : what the picker claims, by name, or with its bound as a mapping; None for what `claims_of` says.

        - "weights": shares are proportional to weights, when leases end at once or when all are held. The bound is a
          relative error that is allowed beyond chance (0).
        - "fairness": after every pick nobody is further than the bound (1 pick) from its exact share.
        - "affinity": a key goes one way, whatever came between, in every pool of the same endpoints.
        - "minimal_disruption": when an endpoint leaves, is ejected, or comes back, other keys stay. The bound is the
          share of keys that may move without need (0).
        - "reproducible": the same pool with the same seed gives the same picks.
    keys : different keys by number (default: "user-0", ...; addresses for IpHash and SourceHash).
    seed : of the pools and scripts; the same seed checks the same.
    scripts : how many random scripts are run, at least 1, after a fixed tour. After each event of a script only
        endpoints that may be picked are picked, somebody is picked if anybody may be, in-flight counts are those of
        the leases that are held (also after updates, with leases released twice, given up and dropped), and only
        PickErrors are raised.
    picks : requests in each measurement of shares, at least 100.
    false_alarm : how likely a picker that honours weights by independent draws may fail, over the whole check
        (Bernstein's inequality, so it holds for every number of picks).

    Returns a report. Raises PickerCheckError, an AssertionError, with every fault and for each a small program that
    shows it; ConfigError for a claim that does not exist, and when Hypothesis, which shrinks the scripts, is not
    installed.

    >>> from aibalance.testing import check_picker
    >>> print(check_picker(RoundRobin, scripts=20))
    RoundRobin: scripts 20, picks 25,200; claims hold: weights, reproducible, fairness (bound 1)
    >>> class Blind(aibalance.CustomPicker):
    ...     def choose(self, candidates, key):
    ...         return self.pool.endpoints[0]
    >>> try:
    ...     check_picker(Blind, claims={"reproducible"}, scripts=20)
    ... except aibalance.testing.PickerCheckError as error:
    ...     print({fault.property for fault in error.faults})
    {'errors'}
    """
    if not callable(make):
        raise wrong("make", make, "a function of a pool that gives a picker")
    for name, value, least in (("scripts", scripts, 1), ("picks", picks, 100), ("seed", seed, 0)):
        whole(name, value, least)
    if not 0 < false_alarm < 1:
        raise wrong("false_alarm", false_alarm, "a probability between 0 and 1")
    claimed = None if claims is None else read(claims)
    hypothesis()
    picker = make(Pool(["a", "b"], seed=seed))
    subject = getattr(make, "__name__", "") if isinstance(make, type) else type(picker).__name__
    if isinstance(picker, type) or not isinstance(picker, Picker):
        raise PickerCheckError(subject, (Fault("protocol", f"{picker!r} has not all methods of aibalance.Picker"),))
    if claimed is None:
        claimed = claims_of(picker)
    check = _Check(make, claimed, keys or keys_of(picker), seed, scripts, picks, false_alarm)
    faults = tuple(check.faults())
    if faults:
        raise PickerCheckError(subject, faults)
    return PickerReport(subject, claimed, {"scripts": scripts, "picks": check.looked_at})


def _tours(key: Callable[[int], Key], seed: int) -> Iterator[Script]:
    """Each reason not to pick somebody on its own, for each of a few endpoints, with many requests in between."""
    endpoints = tuple(Endpoint(id, weight=w) for id, w in zip("abcd", (1, 3, 1, 2), strict=True))
    picks = tuple(Event("pick", key=key(i)) for i in range(12))
    ways = picks[:6] + tuple(Event("acquire", key=key(i)) for i in range(6)) + (Event("many", value=6),)
    for id in "abcd":
        others = frozenset("abcd") - {id}
        for before, after in (
            ([Event("set_health", id, value="unhealthy")], [Event("set_health", id, value="healthy")]),
            ([Event("set_health", id, value="degraded")], [Event("set_health", id, value="healthy")]),
            ([Event("drain", id)], [Event("undrain", id)]),
            ([Event("set_weight", id, value=0)], [Event("set_weight", id, value=2)]),
            ([Event("remove", id)], [Event("add", value=Endpoint(id, max_inflight=1))]),
        ):
            yield Script(endpoints, (*picks, *before, *ways, *after, *ways), seed=seed)
        kinds: tuple[Kind, ...] = ("acquire", "with", "ranked")
        endings: tuple[Kind, ...] = ("release", "cancel", "drop", "release")
        asked = [
            Event(kind, key=key(i), exclude=without, subset=within, value=2 if kind == "ranked" else 1.0)
            for i in range(4)
            for without, within in ((others, None), (frozenset(id), None), (frozenset(), frozenset(id)))
            for kind in kinds
        ]
        ends = [Event(kind, value=i) for i in range(4) for kind in endings]
        retries = [Event("attempts", key=key(i), value=3) for i in range(4)]
        yield Script(endpoints, (*picks, *asked, *ends, *retries, *ways), seed=seed)
    limited = tuple(Endpoint(id, max_inflight=2, backup=id == "c") for id in "abc")
    yield Script(limited, tuple(Event("acquire", key=key(i)) for i in range(8)) + picks, seed=seed)


@dataclass
class _Check:
    make: Make
    claims: dict[Claim, float]
    key: Callable[[int], Key]
    seed: int
    scripts: int
    picks: int
    false_alarm: float
    looked_at: int = 0

    def faults(self) -> Iterator[Fault]:
        checks: list[Callable[[], None]] = [self.nobody, self.script]
        claimed: dict[Claim, Callable[[], None]] = {
            "weights": self.weights,
            "fairness": self.fairness,
            "affinity": self.affinity,
            "minimal_disruption": self.minimal_disruption,
            "reproducible": self.reproducible,
        }
        for check in [*checks, *(found for name, found in claimed.items() if name in self.claims)]:
            try:
                check()
            except Broken as broken:
                yield Fault(broken.property, str(broken), broken.__notes__[0] if hasattr(broken, "__notes__") else "")
            except Exception as error:
                name = check.__name__
                yield Fault("errors", f"{type(error).__name__} in the check of {name}: {error}")

    # What every picker must do.

    def nobody(self) -> None:
        """Without endpoints it says so; with the first one it picks."""
        pool = Pool([], seed=self.seed)
        picker = self.make(pool)
        key = self.key(0)
        if picker.try_pick(key) is not None or picker.try_acquire(key) is not None:
            raise Broken("eligibility", "picked somebody from an empty pool")
        for name, call in (("pick", picker.pick), ("acquire", picker.acquire)):
            try:
                call(key)
            except NoEndpointsError:
                continue
            except PickError as error:
                raise Broken(
                    "errors", f"{name} on an empty pool raised {error!r}; expected NoEndpointsError"
                ) from error
            raise Broken("errors", f"{name} on an empty pool raised nothing; expected NoEndpointsError")
        pool.add("a")
        if picker.pick(key).id != "a":
            raise Broken("availability", "picked nobody after the first endpoint came")

    def script(self) -> None:
        """A tour through all reasons not to pick somebody, and random scripts; what fails is made small."""
        found = self.toured() or self.searched()
        if found is not None:
            script, broken = self.smaller(*found)
            broken.__notes__ = [str(script)]
            raise broken

    def broken(self, script: Script) -> Broken | None:
        try:
            run_script(self.make, script)
        except Broken as broken:
            return broken
        return None

    def toured(self) -> tuple[Script, Broken] | None:
        for script in _tours(self.key, self.seed):
            broken = self.broken(script)
            if broken is not None:
                return script, broken
        return None

    def searched(self) -> tuple[Script, Broken] | None:
        hyp = hypothesis()
        found: list[tuple[Script, Broken]] = []

        def attempt(script: Script) -> None:
            broken = self.broken(script)
            if broken is not None:
                # Kept here, since a picker that draws anew each time may not fail once more.
                found.append((script, broken))
                raise broken

        settings = hyp.settings(
            max_examples=self.scripts,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hyp.HealthCheck),
            phases=[hyp.Phase.generate],
            verbosity=hyp.Verbosity.quiet,
        )
        # Short scripts show little; what they show, a long one shows too.
        some = scripts(min_events=15, max_events=40, keys=hyp.strategies.integers(0, 11).map(self.key))
        try:
            settings(hyp.seed(self.seed)(hyp.given(some)(attempt)))()
        except Exception:
            if not found:
                raise
        return found[0] if found else None

    def smaller(self, script: Script, broken: Broken) -> tuple[Script, Broken]:
        """Without the events and endpoints that it does not need: one after the other, until all are needed."""
        script = replace(script, events=script.events[: broken.after])
        again = True
        while again:
            again = False
            # Several at once as well: who counts to two needs two events less.
            for name, size in (("events", 8), ("events", 2), ("events", 1), ("endpoints", 1)):
                for at in reversed(range(len(getattr(script, name)))):
                    parts = getattr(script, name)
                    candidate = replace(script, **{name: parts[:at] + parts[at + size :]})
                    other = self.broken(candidate) if at < len(parts) else None
                    if other is not None and other.property == broken.property:
                        script, broken, again = replace(candidate, events=candidate.events[: other.after]), other, True
        return script, broken

    # What it may claim.

    def pool(self, weights: tuple[float, ...], seed: int | None = None) -> tuple[Pool, ManualClock]:
        clock = ManualClock(0.0)
        endpoints = [Endpoint(f"10.0.0.{i}:80", id="abcdefghijkl"[i], weight=w) for i, w in enumerate(weights)]
        return Pool(endpoints, clock=clock, seed=self.seed if seed is None else seed, panic_threshold=0), clock

    def served(self, weights: tuple[float, ...], held: bool) -> Iterator[str]:
        """Who gets each of many requests, which end at once or not at all."""
        pool, clock = self.pool(weights)
        picker = self.make(pool)
        leases = []
        for i in range(self.picks):
            lease = picker.acquire(self.key(i))
            if held:
                leases.append(lease)
            else:
                clock.advance(0.01)
                lease.release(latency=0.01)
            self.looked_at += 1
            yield lease.endpoint.id
        for lease in leases:
            lease.release()

    def weights(self) -> None:
        """Shares are as weights, beyond what chance explains."""
        comparisons = sum(map(len, _WEIGHTS))
        log = math.log(2 * comparisons / self.false_alarm)
        for weights in _WEIGHTS:
            trouble: list[str] = []
            for held in (False, True):
                counts = dict.fromkeys("abcdefghijkl"[: len(weights)], 0)
                for id in self.served(weights, held):
                    counts[id] += 1
                off = []
                for weight, count in zip(weights, counts.values(), strict=True):
                    share = weight / sum(weights)
                    ideal = share * self.picks
                    chance = log / 3 + math.sqrt(log * log / 9 + 2 * ideal * (1 - share) * log) if weight else 0.0
                    off.append(abs(count - ideal) - chance - self.claims["weights"] * ideal)
                if max(off) <= 0:
                    break
                how = "all leases held" if held else "leases ended at once"
                trouble.append(f"{', '.join(f'{id} {n}' for id, n in counts.items())} ({how})")
            else:
                exact = ", ".join(f"{w / sum(weights) * self.picks:.0f}" for w in weights)
                raise Broken(
                    "weights",
                    f"weights {weights} gave, of {self.picks} requests, {' and '.join(trouble)}; expected {exact}",
                )

    def fairness(self) -> None:
        """Never far from the exact share, in either way of ending leases."""
        bound = self.claims["fairness"]
        for weights in _WEIGHTS:
            found: list[tuple[float, int]] = []
            for held in (False, True):
                counts = dict.fromkeys("abcdefghijkl"[: len(weights)], 0)
                worst, at = 0.0, 0
                for k, id in enumerate(self.served(weights, held), 1):
                    counts[id] += 1
                    off = max(abs(n - k * w / sum(weights)) for n, w in zip(counts.values(), weights, strict=True))
                    if off > worst:
                        worst, at = off, k
                if worst <= bound + 1e-9:
                    break
                found.append((worst, at))
            else:
                worst, at = min(found)
                raise Broken(
                    "fairness",
                    f"weights {weights}: after {at} requests somebody is {worst:.2f} requests from the exact share; "
                    f"claimed {bound:g}",
                )

    def keys(self, count: int) -> list[Key]:
        return [self.key(i) for i in range(count)]

    def homes(self, picker: Picker, keys: list[Key]) -> list[str]:
        self.looked_at += len(keys)
        return [picker.pick(key).id for key in keys]

    def affinity(self) -> None:
        """A key goes one way."""
        keys = self.keys(300)
        picker = self.make(self.pool((1, 2, 3, 4))[0])
        first = self.homes(picker, keys)
        backwards = self.homes(picker, keys[::-1])[::-1]
        twin = self.homes(self.make(self.pool((1, 2, 3, 4), seed=self.seed + 1)[0]), keys)
        for other, where in ((backwards, "the second time"), (twin, "with another picker of the same endpoints")):
            for key, one, two in zip(keys, first, other, strict=True):
                if one != two:
                    raise Broken("affinity", f"key {key!r} went to {one!r}, and {where} to {two!r}")

    def minimal_disruption(self) -> None:
        """Only the keys of whoever leaves move, and they come back with it."""
        keys = self.keys(1000)
        pool, _ = self.pool((1,) * 10)
        picker = self.make(pool)
        before = self.homes(picker, keys)
        for place in (0, 4, 9):
            left = next(e for e in pool.endpoints if e.id == "abcdefghij"[place])
            pool.set_health(left.id, "unhealthy")
            pool.advance()
            self.stayed(picker, keys, before, left.id, f"{left.id!r} of 10 was ejected")
            pool.set_health(left.id, "healthy")
            pool.remove(left.id)
            pool.advance()
            self.stayed(picker, keys, before, left.id, f"{left.id!r} of 10 left")
            pool.add(left)
            pool.advance()
            self.stayed(picker, keys, before, None, f"{left.id!r} of 10 came back")

    def stayed(self, picker: Picker, keys: list[Key], before: list[str], left: str | None, what: str) -> None:
        after = self.homes(picker, keys)
        moved = sum(old not in (left, new) for old, new in zip(before, after, strict=True))
        if moved > self.claims["minimal_disruption"] * len(keys):
            allowed = self.claims["minimal_disruption"]
            raise Broken(
                "minimal_disruption",
                f"{what}, and {moved} of {len(keys)} keys moved without need; claimed at most {allowed:.1%}",
            )

    def reproducible(self) -> None:
        """Twice the same, through leases that are held and changes of the pool."""
        for turn, weights in enumerate(_WEIGHTS):
            one, two = (list(self.journey(weights, self.seed + turn)) for _ in range(2))
            for i, (a, b) in enumerate(zip(one, two, strict=True)):
                if a != b:
                    raise Broken(
                        "reproducible",
                        f"pick {i + 1} of two runs with the pool's seed {self.seed + turn}: {a!r} and {b!r}",
                    )

    def journey(self, weights: tuple[float, ...], seed: int) -> Iterator[str]:
        pool, clock = self.pool(weights, seed)
        picker = self.make(pool)
        leases = []
        for i in range(150):
            if i == 50:
                pool.set_weight("a", 2)
            if i == 80:
                pool.add("new")
            if i == 110:
                pool.set_health("a", "unhealthy")
            clock.advance(0.25)
            leases.append(picker.acquire(self.key(i % 20)))
            self.looked_at += 1
            yield leases[-1].endpoint.id
            yield picker.pick(self.key(i)).id
            if i % 3:
                leases.pop(0).release(latency=0.05 * (1 + i % 4))
        for lease in leases:
            lease.release()
