"""What holds for every picker, whatever the weights, the exclusions and the changes in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibalance import (
    AibalanceError,
    ClientSideWeightedRoundRobin,
    Endpoint,
    First,
    InternalError,
    JoinIdleQueue,
    LeastConnections,
    LeastRequest,
    LeastTime,
    Maglev,
    ManualClock,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    PeakEwma,
    Pool,
    Prequal,
    RingHash,
    RoundRobin,
    WeightedRandom,
)

PICKERS: dict[str, Callable[[Any], Any]] = {
    "round_robin": RoundRobin,
    "least_request": LeastRequest,
    "least_request_scan": lambda pool: LeastRequest(pool, full_scan=True),
    "least_request_replace": lambda pool: LeastRequest(pool, choices=3, replace=True),
    "peak_ewma": PeakEwma,
    "weighted_random": WeightedRandom,
    "join_idle_queue": JoinIdleQueue,
    "least_time": LeastTime,
    "prequal": Prequal,
    "client_side_wrr": ClientSideWeightedRoundRobin,
    "ring": lambda pool: RingHash(pool, points=20),
    "maglev": lambda pool: Maglev(pool, table_size=251),
}
HASHING = ("ring", "maglev")


class Nginx:
    """nginx's loop over its peers, as its source states it. A peer of weight 0 is not in the loop."""

    def __init__(self, weights: dict[str, int]) -> None:
        self.weights = dict(weights)
        self.current = dict.fromkeys(weights, 0)

    def pick(self, excluded: frozenset[str] = frozenset()) -> str | None:
        best, total = None, 0
        for name, weight in self.weights.items():
            if weight == 0 or name in excluded:
                continue
            self.current[name] += weight
            total += weight
            if best is None or self.current[name] > self.current[best]:
                best = name
        if best is not None:
            self.current[best] -= total
        return best

    def update(self, weights: dict[str, int]) -> None:
        self.weights = dict(weights)
        self.current = {name: self.current.get(name, 0) for name in weights}


def endpoints(weights: dict[str, int]) -> list[Endpoint]:
    return [Endpoint(name, weight=weight) for name, weight in weights.items()]


def picked(picker: Any, excluded: frozenset[str] = frozenset()) -> str | None:
    if not excluded:
        chosen = picker.try_pick()
        return None if chosen is None else str(chosen.id)
    lease = picker.try_acquire(exclude=excluded)
    if lease is None:
        return None
    lease.release()
    return str(lease.endpoint.id)


names = st.sampled_from("abcdef")
weight = st.one_of(st.integers(0, 12), st.sampled_from([0, 1, 2, 3, 5, 10, 20, 30, 100, 1000, 70_000]))
some_weights = st.dictionaries(names, weight, min_size=1, max_size=6)
step = st.one_of(
    st.tuples(st.just("pick"), st.integers(1, 12)),
    st.tuples(st.just("many"), st.integers(1, 40)),
    st.tuples(st.just("exclude"), st.frozensets(names, max_size=4)),
    st.tuples(st.just("weight"), st.tuples(names, weight)),
    st.tuples(st.just("add"), st.tuples(names, weight)),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("update"), some_weights),
    st.tuples(st.just("advance"), st.none()),
    st.tuples(st.just("rank"), st.integers(1, 4)),
)


@settings(max_examples=400, deadline=None)
@given(some_weights, st.lists(step, max_size=30))
def test_smooth_round_robin_is_nginx_whatever_happens(weights: dict[str, int], steps: list[tuple[str, Any]]) -> None:
    pool = Pool(endpoints(weights))
    picker, nginx = RoundRobin(pool), Nginx(weights)
    for kind, value in steps:
        if kind == "pick":
            for _ in range(value):
                assert picked(picker) == nginx.pick()
        elif kind == "many":
            expected = [nginx.pick() for _ in range(value)]
            if expected[0] is None:
                with pytest.raises(NoHealthyEndpointError if len(pool) else NoEndpointsError):
                    picker.pick_many(value)
            else:
                assert [e.id for e in picker.pick_many(value)] == expected
        elif kind == "exclude":
            assert picked(picker, value) == nginx.pick(value)
        elif kind == "weight":
            name, w = value
            if name in nginx.weights:
                pool.set_weight(name, w)
                nginx.update(nginx.weights | {name: w})
        elif kind == "add":
            name, w = value
            if name not in nginx.weights:
                pool.add(Endpoint(name, weight=w))
                nginx.update(nginx.weights | {name: w})
        elif kind == "remove":
            if value in nginx.weights:
                pool.remove(value)
                nginx.update({n: w for n, w in nginx.weights.items() if n != value})
        elif kind == "update":
            pool.update(endpoints(value))
            nginx.update(value)
        elif kind == "advance":
            pool.advance()
        else:
            ranked, tried = [e.id for e in picker.ranked(k=value)], frozenset[str]()
            for name in ranked:
                assert name == nginx.pick(tried)
                tried |= {name}
            if len(ranked) < value:
                assert nginx.pick(tried) is None


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, st.integers(1, 20), min_size=1), st.integers(0, 200))
def test_start_is_that_many_picks_later(weights: dict[str, int], start: int) -> None:
    nginx = Nginx(weights)
    for _ in range(start):
        nginx.pick()
    picker = RoundRobin(endpoints(weights), start=start)
    assert [picker.pick().id for _ in range(30)] == [nginx.pick() for _ in range(30)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.floats(1e-6, 1e6))
def test_the_scale_of_weights_does_not_matter_where_it_is_exact(weights: list[int], unit: float) -> None:
    unit = 2.0 ** round(unit).bit_length()
    plain = RoundRobin([Endpoint(str(i), weight=w) for i, w in enumerate(weights)])
    scaled = RoundRobin([Endpoint(str(i), weight=w * unit) for i, w in enumerate(weights)])
    assert [e.id for e in plain.pick_many(100)] == [e.id for e in scaled.pick_many(100)]


# ---------------------------------------------------------------------------------------------------- eligibility

one = st.fixed_dictionaries(
    {
        "weight": st.sampled_from([0, 1, 1, 1, 2, 5, 0.25, 100]),
        "health": st.sampled_from(["healthy", "healthy", "degraded", "unhealthy"]),
        "draining": st.sampled_from([False, False, False, True]),
        "backup": st.sampled_from([False, False, True]),
        "full": st.sampled_from([False, False, True]),
    }
)


def ranks(state: list[dict[str, Any]], threshold: float) -> list[set[int]]:
    """Who may be picked, best rank first, by Envoy's rule in whole percents: first all who are asked for a part of the
    requests, then those who help out."""
    levels = []
    for backup in (False, True):
        all_ = [i for i, e in enumerate(state) if e["backup"] is backup and e["weight"] > 0 and not e["draining"]]
        levels.append((all_, *({i for i in all_ if state[i]["health"] == h} for h in ("healthy", "degraded"))))
    able = [[min(100, 140 * len(part) // len(a)) if a else 0 for part in (h, d)] for a, h, d in levels]
    available = sum(map(sum, able))
    panics = [bool(a) and available < 100 and 100 * (len(h) + len(d)) / len(a) < 100 * threshold for a, h, d in levels]
    # Backups are asked when no primary can be had, and no panic makes them had.
    asked = 0 if sum(able[0]) or panics[0] else 1
    asked_first, rest = set[int](), list[set[int]]()
    for i, (all_, healthy, degraded) in enumerate(levels):
        if i == asked and panics[i]:
            asked_first |= set(all_)
        elif i == asked and sum(able[i]):
            share = min(100, able[i][0] * 100 // min(100, sum(able[i])))
            asked_first |= healthy | (degraded if share < 100 else set())
            if not degraded <= asked_first:
                rest.append(degraded)
        else:
            rest += [healthy, degraded]
    return [asked_first, *rest]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(PICKERS)),
    st.lists(one, max_size=9),
    st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]),
    st.frozensets(st.integers(0, 8), max_size=4),
    st.one_of(st.none(), st.frozensets(st.integers(0, 8), max_size=6)),
    st.booleans(),
)
def test_nobody_ineligible_is_picked_and_somebody_eligible_always_is(
    kind: str,
    state: list[dict[str, Any]],
    threshold: float,
    exclude: frozenset[int],
    subset: frozenset[int] | None,
    changed_later: bool,
) -> None:
    if changed_later:
        pool = Pool(
            [Endpoint(str(i), backup=e["backup"], max_inflight=1) for i, e in enumerate(state)],
            panic_threshold=threshold,
            seed=1,
        )
    else:
        pool = Pool(
            [Endpoint(str(i), backup=e["backup"], max_inflight=1, weight=e["weight"]) for i, e in enumerate(state)],
            panic_threshold=threshold,
            seed=1,
        )
    picker = PICKERS[kind](pool)
    held = []
    for i, e in enumerate(state):
        if e["full"]:
            held.append(picker.try_acquire(subset=[str(i)]) if e["weight"] or changed_later else None)
        if changed_later:
            pool.set_weight(str(i), e["weight"])
        pool.set_health(str(i), e["health"])
        if e["draining"]:
            pool.drain(str(i))
    full = {int(lease.endpoint.id) for lease in held if lease is not None}
    order = ranks(state, threshold)

    def allowed(without: frozenset[int], within: frozenset[int] | None) -> set[int]:
        for rank in order:
            usable = {i for i in rank - full - without if within is None or i in within}
            if usable:
                return usable
        return set()

    now = allowed(frozenset(), None)
    for i in range(8):
        chosen = picker.try_pick(f"key {i}")
        assert (chosen is None) == (not now)
        assert chosen is None or int(chosen.id) in now
    if now:
        assert {int(e.id) for e in picker.pick_many(20)} <= now
    else:
        with pytest.raises((NoEndpointsError, NoHealthyEndpointError, OverloadedError)):
            picker.pick("key")
        with pytest.raises((NoEndpointsError, NoHealthyEndpointError, OverloadedError)):
            picker.pick_many(1)
    without = frozenset(map(str, exclude))
    within = None if subset is None else frozenset(map(str, subset))
    filtered = allowed(exclude, subset)
    lease = picker.try_acquire("key", exclude=without, subset=within)
    assert (lease is None) == (not filtered)
    if lease is not None:
        assert int(lease.endpoint.id) in filtered
        lease.cancel()
    ranked = [int(e.id) for e in picker.ranked("key", k=20, exclude=without, subset=within)]
    everybody = {i for rank in order for i in rank if i not in full | exclude and (subset is None or i in subset)}
    assert len(set(ranked)) == len(ranked)
    assert set(ranked) == everybody


# ------------------------------------------------------------------------------------------------------- hashing

keys = st.lists(st.one_of(st.text(max_size=20), st.binary(max_size=20), st.integers(-(2**63), 2**64 - 1)), min_size=1)
hash_weights = st.lists(st.sampled_from([1, 1, 1, 2, 3, 0.5, 7]), min_size=1, max_size=8)


def valid(key: Any) -> bool:
    return not isinstance(key, str) or key.isprintable() or key.encode("utf-8", "ignore").decode() == key


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(HASHING), hash_weights, keys)
def test_a_key_goes_one_way_through_every_door(kind: str, weights: list[float], some: list[Any]) -> None:
    some = [key for key in some if valid(key)]
    pool = Pool([Endpoint(f"10.0.0.{i}:80", weight=w) for i, w in enumerate(weights)])
    picker, twin = PICKERS[kind](pool), PICKERS[kind](Pool(pool.endpoints))
    many = list(picker.pick_many(some))
    for key, chosen in zip(some, many, strict=True):
        assert picker.pick(key) == chosen == twin.pick(key) == picker.ranked(key, k=1)[0]
        ranked = picker.ranked(key, k=len(weights))
        assert ranked[0] == chosen
        assert len(set(ranked)) == len(weights)
        with picker.acquire(key) as lease:
            assert lease.endpoint == chosen
        if len(weights) > 1:
            with picker.acquire(key, exclude=[chosen]) as lease:
                assert lease.endpoint == ranked[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.data())
def test_on_a_ring_only_the_keys_of_the_one_that_leaves_move(n: int, data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 5), min_size=n, max_size=n))
    gone = data.draw(st.integers(0, n - 1))
    # The least weight sets the number of points, so one of that weight stays.
    if weights.count(min(weights)) == 1 and weights[gone] == min(weights):
        weights[gone] += 1
    pool = Pool([Endpoint(f"10.0.0.{i}:80", weight=w) for i, w in enumerate(weights)])
    if min(weights[:gone] + weights[gone + 1 :]) != min(weights):
        return
    picker = RingHash(pool, points=64)
    before = list(picker.pick_many([f"key {i}" for i in range(2000)]))
    pool.remove(f"10.0.0.{gone}:80")
    after = list(picker.pick_many([f"key {i}" for i in range(2000)]))
    for old, new in zip(before, after, strict=True):
        assert old == new or old.id == f"10.0.0.{gone}:80"


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 20), st.data())
def test_maglev_moves_few_keys_and_does_not_care_about_the_order(n: int, data: st.DataObject) -> None:
    addresses = [f"10.0.0.{i}:80" for i in range(n)]
    some = [f"key {i}" for i in range(3000)]
    pool = Pool(addresses)
    picker = Maglev(pool, table_size=5003)
    before = [e.id for e in picker.pick_many(some)]
    shuffled = Maglev(data.draw(st.permutations(addresses)), table_size=5003)
    assert [e.id for e in shuffled.pick_many(some)] == before
    gone = data.draw(st.sampled_from(addresses))
    pool.remove(gone)
    after = [e.id for e in picker.pick_many(some)]
    # The paper's figure 12 has under 3 % beyond the share that must move; with 5 % this is far from chance.
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != gone)
    assert moved <= 0.05 * len(some)
    assert gone not in after


@given(st.sampled_from(HASHING), st.lists(st.text("abc:.", min_size=1, max_size=4), min_size=1, unique=True))
def test_an_int_a_hash_and_an_array_agree(kind: str, addresses: list[str]) -> None:
    np = pytest.importorskip("numpy")
    from aibalance import Hashed

    picker = PICKERS[kind](addresses)
    numbers = [0, 1, 2**31, 2**63, 2**64 - 1]
    one_by_one = [picker.pick(n) for n in numbers]
    assert list(picker.pick_many(np.array(numbers, dtype=np.uint64))) == one_by_one
    ready = [picker.pick(Hashed(n)) for n in numbers]
    assert list(picker.pick_many(np.array(numbers, dtype=np.uint64), hashed=True)) == ready
    assert list(picker.pick_many(numbers, hashed=True)) == ready


# -------------------------------------------------------------------------------------------------- seeds, batches


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(PICKERS)),
    st.lists(st.tuples(st.sampled_from([1, 1, 2, 5, 0.3]), st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 2**64 - 1),
)
def test_pick_many_is_that_many_picks(kind: str, state: list[tuple[float, bool, bool]], seed: int) -> None:
    def make() -> tuple[Any, list[Any]]:
        items = [Endpoint(str(i), weight=w, backup=b, max_inflight=1) for i, (w, b, _) in enumerate(state)]
        clock = ManualClock(5.0)
        picker = PICKERS[kind](Pool(items, seed=seed, clock=clock))
        # One stays free, so that there is something to pick.
        taken = [picker.acquire(subset=[str(i)]) for i, (_, _, full) in enumerate(state) if full and i > 0]
        return picker, taken

    (one, _held), (many, _also) = make(), make()
    assert [one.pick() for _ in range(40)] == list(many.pick_many(40))
    assert [one.pick() for _ in range(5)] == [many.pick() for _ in range(5)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PICKERS)), st.integers(0, 2**64 - 1))
def test_the_same_seed_gives_the_same_picks(kind: str, seed: int) -> None:
    runs = []
    for _ in range(2):
        # PeakEwma measures, so that the clock is part of what must be the same.
        clock = ManualClock(0.0)
        picker = PICKERS[kind](Pool([Endpoint(str(i), weight=1 + i % 3) for i in range(20)], seed=seed, clock=clock))
        held = []
        for i in range(60):
            held.append(picker.acquire(cost=1 + i % 3))
            clock.advance(0.25)
            if i % 4 == 0:
                held.pop(0).release()
        runs.append([lease.endpoint.id for lease in held])
    assert runs[0] == runs[1]


# ------------------------------------------------------------------------------------------------------ any value

anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters()),
        st.binary(max_size=9),
        st.sampled_from([10**400, -(10**400), 2**63, 2**64, -1, "\ud800", complex(1, 2), object(), Endpoint, len]),
        st.text(st.characters(categories=["Cs"]), max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(), inner, max_size=2)
    ),
    max_leaves=5,
)


def quietly(call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    """Calls; errors of our tree and TypeErrors are what bad values may give."""
    try:
        return call(*args, **kw)
    except InternalError:
        raise
    except (AibalanceError, TypeError):
        return None


def small(value: Any) -> Any:
    # As a number of picks or points, a huge whole number is valid and only takes long.
    return value % 1000 if isinstance(value, int) and abs(value) < 2**40 else value


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_no_value_of_any_argument_escapes_the_error_tree(data: st.DataObject) -> None:
    value, other = data.draw(anything), data.draw(anything)
    clock = ManualClock(1.0)
    pool = Pool([Endpoint("a", max_inflight=3), "b", "c"], seed=1, clock=clock, lease_timeout=5.0)
    kind = data.draw(st.sampled_from(sorted(PICKERS)))
    picker = PICKERS[kind](pool)
    lease = picker.acquire()
    bound = [pool.update, pool.add, pool.remove, pool.set_weight, pool.set_health, pool.drain, pool.undrain,
             pool.is_drained, pool.drained, pool.observe, pool.advance, pool.stats, pool.release, pool.cancel,
             picker.pick, picker.try_pick, picker.acquire, picker.try_acquire, lease.release, lease.cancel, lease.add,
             lease.first_token, lease.detach, lease.__exit__, lease.__aexit__, clock.advance]  # fmt: skip
    call = data.draw(st.sampled_from(bound))
    names = ["id", "key", "now", "cost", "exclude", "subset", "k", "deadline", "inflight", "queue", "utilization",
             "latency", "gpu_memory", "kv_cache", "qps", "eps", "outcome", "status", "retry_after"]  # fmt: skip
    which = data.draw(st.sampled_from(names))
    first = data.draw(st.sampled_from(["a", value, lease, pool]))
    for args, kw in [((first,), {}), ((value, other), {}), ((first,), {which: other}), ((), {which: value})]:
        result = quietly(call, *args, **kw)
        if hasattr(result, "close"):
            result.close()
    quietly(picker.ranked, value, k=other)
    quietly(picker.ranked, k=3, exclude=value, subset=other)
    quietly(picker.pick_many, small(value), hashed=other)
    attempts = quietly(picker.attempts, value, budget=other)
    if attempts is not None:
        quietly(next, attempts, None)
    assert all(record.inflight >= 0 for record in pool.stats())


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_no_value_of_any_option_escapes_the_error_tree(data: st.DataObject) -> None:
    from aibalance import Hashed, Latency, RetryBudget, envoy_hash

    value, other = data.draw(anything), data.draw(anything)
    options: dict[Any, list[str]] = {
        Endpoint: ["id", "weight", "zone", "priority", "backup", "max_inflight", "hash_key", "passive", "tags", "data"],
        Pool: ["passive", "slow_start", "circuit_breaker", "panic_threshold", "on_panic", "failover", "latency",
               "overprovisioning_factor", "local_zone", "zone_weights", "lease_timeout", "clock", "seed", "shared"],
        RoundRobin: ["schedule", "start", "seed", "clock"],
        LeastRequest: ["choices", "full_scan", "replace", "schedule", "bias", "score", "ties", "start", "seed"],
        LeastConnections: ["variant", "seed", "clock"],
        First: ["seed", "clock"],
        PeakEwma: ["seed", "clock"],
        LeastTime: ["seed", "clock"],
        Prequal: ["pool_size", "probe_rate", "remove_rate", "q_rif", "delta", "max_age", "seed", "clock"],
        ClientSideWeightedRoundRobin: ["blackout_period", "weight_expiration_period", "weight_update_period",
                                       "error_utilization_penalty", "seed", "clock"],
        WeightedRandom: ["ring", "choices", "seed", "clock"],
        JoinIdleQueue: ["seed", "clock"],
        RingHash: ["ring", "points", "min_size", "max_size", "hash", "avalanche", "bounded_load", "seed", "clock"],
        Maglev: ["table_size", "bounded_load", "seed", "clock"],
        Latency: ["decay", "default_rtt", "failure_penalty"],
        RetryBudget: ["ratio", "min_per_second", "max_attempts"],
    }  # fmt: skip
    kind = data.draw(st.sampled_from(sorted(options, key=lambda c: str(c.__name__))))
    name = data.draw(st.sampled_from(options[kind]))
    good: tuple[Any, ...] = () if kind in (Latency, RetryBudget) else ("a",) if kind is Endpoint else (["a", "b"],)
    if name in ("points", "min_size", "max_size", "table_size"):
        other = small(other)
    quietly(kind, *good, **{name: other})
    quietly(kind, value)
    quietly(Hashed, value)
    quietly(ManualClock, value)
    quietly(envoy_hash, value, other)
    quietly(envoy_hash, [value, other])
