"""How evenly hashes spread keys, and how many they move: reference values of our own computation, asked of aibalance.

The references are means and standard deviations over random rings, tables or keys. Ours are random in the same way: the
names of the endpoints, and the keys, come from five seeds. A mean of ours may be four standard errors of the difference
off, as `meta.tolerance` of each file says, and what is exact must be exact. A case that holds counts all picks that it
took as matched, else none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

import aibalance

from .model import Result
from .proxies import Decider, Door
from .recording import Record, UnreadableError, cases

SEEDS = 5
OFF = 4.0
BOUND = f"{SEEDS} seeds, {OFF:g} standard errors"

Array = npt.NDArray[Any]


class Sample:
    """What one case asked of aibalance, and where it was wrong."""

    def __init__(self, result: Result, case: Record) -> None:
        self.result = result
        self.case = case
        self.ref = case.record("ref")
        self.picks = 0
        self.faults: list[str] = []
        self.values: dict[str, list[float]] = {}

    def note(self, **values: float) -> None:
        """One value each of a run."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def expect(self, holds: bool, fault: str) -> None:
        if not holds:
            self.faults.append(fault)

    def compare(self, name: str, sd: str, runs: int = 0, *, above: float = 0.0, resolution: float = 0.0) -> None:
        """The mean of our runs against that of theirs (of unknown number: against their spread).

        For want of keys ours may be `above` the reference.
        """
        ours, theirs = self.values[name], self.ref.number(name)
        off = sum(ours) / len(ours) - theirs
        spread = sqrt(1 / len(ours) + 1 / runs) if runs else 1.0
        allowed = OFF * self.ref.number(sd) * spread + resolution
        self.expect(-allowed <= off <= allowed + above, f"{name}: expected {theirs:g}, got {theirs + off:g}")

    def done(self) -> None:
        self.result.total += self.picks
        if not self.faults:
            self.result.matched += self.picks
        elif self.result.first_mismatch is None:
            self.result.first_mismatch = f"{self.case.where}: {self.faults[0]}"
        self.result.bound = BOUND


def _size(case: Record, name: str) -> int:
    """A whole number of at least 1."""
    value = case.integer(name)
    if value < 1:
        raise UnreadableError(f"{case.where}: {name}: expected at least 1, got {value}")
    return value


def _names(seed: int, run: int, n: int) -> list[str]:
    return [f"{seed}-{run}-{i}" for i in range(n)]


def _runs(rings: int) -> Iterator[tuple[int, int, np.random.Generator]]:
    """Seeds, `rings` runs each."""
    for seed in range(SEEDS):
        for run in range(rings):
            yield seed, run, np.random.default_rng((seed, run))


def _hashes(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint64]:
    return rng.integers(0, 2**64, count, dtype=np.uint64)


def _counts(sample: Sample, picker: Any, hashes: npt.NDArray[np.uint64], n: int) -> Array:
    picks = picker.pick_many(hashes, hashed=True)
    sample.picks += len(picks)
    return np.bincount(picks.indices, minlength=n)


def _within(most: int, least: int, value: float) -> int:
    return max(least, min(most, int(value)))


def ring_balance(document: dict[str, Any]) -> Result:
    """Lengths of arcs of `RingHash(points=vnodes)`, measured by hashes at equal distances around the ring."""
    result = Result()
    for case in cases(document):
        n, points = _size(case, "n"), _size(case, "vnodes")
        sample = Sample(result, case)
        count = 2**20 if n * points > 20_000 else 2**17
        grid = (np.arange(count, dtype=np.uint64) * np.uint64(2**64 // count)).astype(np.uint64)
        for seed, run, rng in _runs(_within(20, 1, 200_000 / (n * points))):
            picker = aibalance.RingHash(_names(seed, run, n), points=points)
            shift = rng.integers(0, 2**64 // count, dtype=np.uint64)
            shares = _counts(sample, picker, grid + shift, n) * (n / count)
            sample.note(max_over_mean=shares.max(), min_over_mean=shares.min())
        theirs = case.record("check").integer("seeds")
        for name in ("max_over_mean", "min_over_mean"):
            sample.compare(name, f"{name}_sd", theirs, resolution=n / count)
        sample.done()
    return result


PROBES = 5_000_000  # of a run, for few endpoints


def multiprobe_balance(document: dict[str, Any]) -> Result:
    """Shares of `MultiProbeHash`, by random keys."""
    result = Result()
    for case in cases(document):
        n, probes = _size(case, "n"), _size(case, "probes")
        sample = Sample(result, case)
        count = min(2_000_000, (4 if n > 50 else 1) * PROBES // probes)
        for seed, run, rng in _runs(1 if n > 50 else 4):
            picker = aibalance.MultiProbeHash(_names(seed, run, n), probes=probes)
            shares = _counts(sample, picker, _hashes(rng, count), n) * (n / count)
            sample.note(max_over_mean=shares.max())
        noise = sqrt(n / count) * sqrt(2 * log(n)) if n > 1 else 0.0
        sample.compare("max_over_mean", "sd", case.record("check").integer("seeds"), above=noise)
        sample.done()
    return result


UNIFORM = ("Rendezvous", "JumpHash", "JumpBackHash", "MementoHash")
UNIFORM_RUNS = 50  # of the reference, at least


def uniform_balance(document: dict[str, Any]) -> Result:
    """Counts of keys of the hashes that are uniform. Of five seeds one may exceed the 99.9 % limit of chi-square."""
    result = Result()
    for case in cases(document):
        n, count = _size(case, "n"), _size(case, "keys")
        for name in UNIFORM:
            sample = Sample(result, case)
            above = 0
            for seed, run, rng in _runs(1):
                picker = getattr(aibalance, name)(_names(seed, run, n))
                counts = _counts(sample, picker, _hashes(rng, count), n)
                shares = counts * (n / count)
                sample.note(max_over_mean=shares.max(), min_over_mean=shares.min())
                above += ((counts - count / n) ** 2 / (count / n)).sum() >= sample.ref.number("chi2_p999")
            sample.expect(above <= 1, f"{name}: chi-square is above its limit for {above} seeds")
            sample.compare("max_over_mean", "sd", UNIFORM_RUNS)
            sample.compare("min_over_mean", "min_sd", UNIFORM_RUNS)
            sample.done()
    return result


BOUNDED_RUNS = 60  # of the reference


def _steps(names: Sequence[str], vnodes: int, hashes: Array, places: Array, moved: Array) -> int:
    """How many points the keys that moved passed on their way to the first point of their endpoint."""
    points = np.array([aibalance.envoy_hash(f"{name}_{i}") for name in names for i in range(vnodes)], dtype=np.uint64)
    order = np.argsort(points)
    owners = (order // vnodes).tolist()
    steps = 0
    for at, place in zip(np.searchsorted(points[order], hashes[moved]).tolist(), places[moved].tolist(), strict=True):
        while owners[at % len(owners)] != place:
            at += 1
            steps += 1
    return steps


def bounded_load(document: dict[str, Any]) -> Result:
    """A ring whose endpoints take no more than `max_inflight` requests, each key a request that stays open."""
    result = Result()
    for case in cases(document):
        n, vnodes, keys, cap = (_size(case, name) for name in ("n", "vnodes", "keys", "cap"))
        sample = Sample(result, case)
        sample.expect(cap == ceil((1 + case.number("eps")) * keys / n - 1e-9), f"cap: not that of eps, got {cap}")
        for seed, run, rng in _runs(_within(12, 1, 60_000 / keys)):
            names = _names(seed, run, n)
            picker = aibalance.RingHash([aibalance.Endpoint(name, max_inflight=cap) for name in names], points=vnodes)
            hashes = _hashes(rng, keys)
            home = picker.pick_many(hashes, hashed=True).indices
            index = {name: i for i, name in enumerate(names)}
            leases = [picker.acquire(aibalance.Hashed(h)) for h in hashes.tolist()]
            places = np.array([index[lease.endpoint.id] for lease in leases])
            sample.picks += keys
            sample.expect(np.bincount(places).max() <= cap, "an endpoint has more than its cap")
            moved = np.flatnonzero(places != home)
            steps = _steps(names, vnodes, hashes, places, moved) if len(moved) else 0
            sample.note(displaced_fraction=len(moved) / keys, extra_steps_per_key=steps / keys)
        resolution = OFF / (keys * len(sample.values["displaced_fraction"]))
        sample.compare("displaced_fraction", "displaced_sd", BOUNDED_RUNS, resolution=resolution)
        sample.compare("extra_steps_per_key", "extra_steps_sd", BOUNDED_RUNS, resolution=resolution)
        sample.done()
    return result


def maglev_disruption(document: dict[str, Any]) -> Result:
    """Every entry of `Maglev(table_size=M)`, before and after one endpoint has gone.

    The fractions have long tails, and where tables are large the reference saw few of them: the file's bound for one
    table is taken for the mean of ours.
    """
    result = Result()
    for case in cases(document):
        n, size = _size(case, "n"), _size(case, "M")
        sample = Sample(result, case)
        entries = np.arange(size, dtype=np.uint64)
        for seed, run, rng in _runs(_within(8, 4, 40_000 / size)):
            picker = aibalance.Maglev(_names(seed, run, n), table_size=size)
            before = picker.pick_many(entries, hashed=True).indices.astype(np.int64)
            counts = np.bincount(before, minlength=n)
            sample.expect(np.ptp(counts) <= sample.ref.integer("exact_bound_spread_slots"), "endpoints differ by slots")
            for name, most in (("max_over_mean", counts.max()), ("min_over_mean", counts.min())):
                got = float(most) * n / size
                sample.expect(abs(got - sample.ref.number(name)) < 1e-9, f"{name}: got {got:.12g}")
            gone = int(rng.integers(n))
            picker.pool.remove(picker.pool.endpoints[gone].id)
            after = picker.pick_many(entries, hashed=True).indices.astype(np.int64)
            sample.picks += 2 * size
            lost = before == gone
            needless = float((before - (before > gone) != after)[~lost].sum()) / size
            sample.note(needless_moves_fraction=needless, total_moves_fraction=needless + float(lost.sum()) / size)
        sample.compare("needless_moves_fraction", "needless_sd")
        sample.compare("total_moves_fraction", "total_sd")
        sample.done()
    return result


# Records of `hash_vectors`


def memento(result: Result, case: Record, door: Door) -> None:
    """A timeline of MementoHash: buckets that go and come, and where every key is after each step."""
    keys = [aibalance.Hashed(int(key)) for key in case.items("keys", str)]
    names = {bucket: str(bucket) for bucket in range(_size(case, "start"))}
    picker = aibalance.MementoHash(list(names.values()))
    for i, raw in enumerate(case.record("ref").items("timeline", dict)):
        step = Record(f"{case.where}, step {i}", raw)
        bucket = step.integer("bucket")
        if step.text("op") == "remove":
            picker.pool.remove(names.pop(bucket))
        else:
            names[bucket] = f"{bucket} of step {i}"
            picker.pool.add(names[bucket])
        buckets = {name: bucket for bucket, name in names.items()}
        ids = [endpoint.id for endpoint in picker.pool.endpoints]
        expected = step.items("buckets", int)
        for key, theirs, ours in zip(keys, expected, Decider(picker, door).keyed(keys), strict=True):
            result.check(f"{step.where}, key {key!r}", theirs, buckets[ids[ours]])


DISRUPTED = 20_000  # keys of a run


def disruption(result: Result, case: Record) -> None:
    """Which keys move when an endpoint goes and another comes: no other than they must, and as many as that makes."""
    n = _size(case, "n")
    makers: dict[str, Any] = {name: getattr(aibalance, name) for name in UNIFORM}

    def near(sample: Sample, name: str, share: float) -> None:
        p = sample.ref.number(name)
        allowed = OFF * sqrt(p * (1 - p) / DISRUPTED)
        sample.expect(abs(share - p) <= allowed + 1e-12, f"{name}: expected {p:g}, got {share:g}")

    for name, make in makers.items():
        sample = Sample(result, case)
        for seed, run, rng in _runs(1):
            keys = _hashes(rng, DISRUPTED)
            # A jump hash gives up its last endpoint only.
            gone = n - 1 if name.startswith("Jump") else int(rng.integers(n))
            picker = make(_names(seed, run, n))

            def homes(picker: Any = picker, keys: Any = keys, sample: Sample = sample) -> Array:
                picks = picker.pick_many(keys, hashed=True)
                sample.picks += len(picks)
                return np.array([endpoint.id for endpoint in picks.endpoints])[picks.indices]

            first = homes()
            leaver = picker.pool.endpoints[gone].id
            if n > 1:
                picker.pool.remove(leaver)
                second = homes()
                needless = int(((first != second) & (first != leaver)).sum())
                sample.expect(needless == sample.ref.integer("needless"), f"{name}: {needless} needless moves")
                near(sample, "moved_on_remove", float((first != second).mean()))
                picker = make(_names(seed, run, n))
            picker.pool.add("newcomer")
            third = homes(picker)
            needless = int(((first != third) & (third != "newcomer")).sum())
            sample.expect(needless == sample.ref.integer("needless"), f"{name}: {needless} needless moves")
            near(sample, "moved_on_add", float((first != third).mean()))
        sample.done()
    sample = Sample(result, case)
    for seed, run, rng in _runs(1):
        keys = _hashes(rng, DISRUPTED)
        picker = aibalance.ModuloHash(_names(seed, run, n), variant="haproxy", hash="xxh64")
        before = picker.pick_many(keys).indices
        picker.pool.add("newcomer")
        after = picker.pick_many(keys).indices
        sample.picks += 2 * DISRUPTED
        near(sample, "modulo_moved_on_add", float((before != after).mean()))
    sample.done()
