"""Filters, weighted scorers, admission, and the configuration that they mirror."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aibalance import (
    ConfigError,
    Endpoint,
    FormatError,
    LeastRequest,
    ManualClock,
    NoEndpointsError,
    NoHealthyEndpointError,
    OverloadedError,
    Pool,
    PrefixIndex,
)
from aibalance.formats import inference_extension
from aibalance.llm import FairQueue
from aibalance.llm.admission import (
    Admission,
    ConcurrencySaturation,
    ProbabilisticShedding,
    StrictShedding,
    UtilizationSaturation,
)
from aibalance.llm.scoring import (
    ActiveRequestScorer,
    EndpointView,
    InferenceRequest,
    KvCacheScorer,
    LabelFilter,
    LoadAwareScorer,
    LoraScorer,
    MaxScore,
    NoHitLruScorer,
    PrefixScorer,
    QueueScorer,
    RandomChoice,
    RunningRequestsScorer,
    SaturationFilter,
    ScoredPicker,
    Scorer,
    ScoringProfile,
    SessionScorer,
    TokenLoadScorer,
    WeightedRandomChoice,
)
from aibalance.testing import check_picker

PROMPT = list(range(64))
DEFAULT = ScoringProfile(scorers=[(QueueScorer(), 2), (KvCacheScorer(), 2), (PrefixScorer(), 3)])


def by(*scorers: Any, n: int = 3, **settings: Any) -> ScoredPicker:
    pool = Pool([f"e{i}" for i in range(n)], seed=1, clock=ManualClock(0.0))
    return ScoredPicker(pool, ScoringProfile(scorers=[(one, 1.0) for one in scorers], **settings), seed=1)


def views(n: int = 3, **values: list[Any]) -> list[EndpointView]:
    return [
        EndpointView(endpoint=Endpoint(f"e{i}"), **{name: value[i] for name, value in values.items()}) for i in range(n)
    ]


def test_each_scorer_alone_chooses() -> None:
    picker = by(QueueScorer())
    for i, waiting in enumerate((3, 1, 2)):
        picker.observe(f"e{i}", waiting=waiting)
    assert [one.id for one in picker.ranked(k=3)] == ["e1", "e2", "e0"]
    picker = by(RunningRequestsScorer())
    for i, running in enumerate((3, 5, 2)):
        picker.observe(f"e{i}", running=running)
    assert picker.pick().id == "e2"
    picker = by(KvCacheScorer())
    for i, used in enumerate((0.9, 0.5, 0.8)):
        picker.observe(f"e{i}", kv_cache=used)
    assert picker.pick().id == "e1"
    picker = by(LoraScorer())
    picker.observe("e0", active_adapters=["y"], max_adapters=1)
    picker.observe("e1", active_adapters=["y"], waiting_adapters=["x"], max_adapters=2)
    picker.observe("e2", active_adapters=["y"], max_adapters=2)
    assert [one.id for one in picker.ranked(InferenceRequest(adapter="x"), k=3)] == ["e2", "e1", "e0"]
    picker.observe("e0", active_adapters=["x"], max_adapters=1)
    assert picker.pick(InferenceRequest(adapter="x")).id == "e0"
    assert by(SessionScorer()).pick(InferenceRequest(session="e2")).id == "e2"
    picker = by(LoadAwareScorer(threshold=10))
    for i, waiting in enumerate((9, 11, 12)):
        picker.observe(f"e{i}", waiting=waiting)
    assert [one.total for one in picker.scores()] == pytest.approx([0.05, 0.0, 0.0])
    picker = by(ActiveRequestScorer())
    held = [picker.acquire(subset=[id]) for id in ("e0", "e0", "e1")]
    assert [one.id for one in picker.ranked(k=3)] == ["e2", "e1", "e0"]
    picker = by(TokenLoadScorer(threshold=100))
    held += [picker.acquire(cost=tokens, subset=[id]) for id, tokens in (("e0", 50), ("e1", 10), ("e2", 80))]
    assert [one.total for one in picker.scores()] == pytest.approx([0.9, 0.5, 0.2])
    picker = by(PrefixScorer())
    picker.acquire(PROMPT, subset=["e1"])
    assert picker.pick([*PROMPT, 5]).id == "e1"
    assert picker.pick(InferenceRequest(PROMPT)).id == "e1"


def test_options_of_scorers_change_the_result() -> None:
    busy = views(inflight=[1, 2, 4])
    assert ActiveRequestScorer(idle_threshold=2).score(busy, InferenceRequest()) == [1.0, 1.0, 0.0]
    assert ActiveRequestScorer(max_busy_score=0.4).score(busy, InferenceRequest()) == pytest.approx([0.3, 0.2, 0.0])
    assert TokenLoadScorer().score(views(1, tokens=[4194304]), InferenceRequest()) == [0.0]
    assert LoadAwareScorer().score(views(1, waiting=[32]), InferenceRequest()) == [0.375]
    # Only the first blocks of a prompt are matched.
    index = PrefixIndex(block_size=16)
    index.predict("e0", PROMPT, now=0.0)
    index.predict("e1", [*PROMPT, *range(1000, 1064)], now=0.0)
    long = [*PROMPT, *range(1000, 1064)]
    pool = Pool(["e0", "e1"], clock=ManualClock(0.0))
    for most, shares in ((256, [0.5, 1.0]), (4, [1.0, 1.0])):
        picker = ScoredPicker(pool, ScoringProfile(scorers=[(PrefixScorer(most), 1)]), index=index)
        assert [view.cached for view in picker.views(long)] == shares


def test_weights_are_multiplied_and_scores_are_cut() -> None:
    class Mad:
        def score(self, views: Any, request: Any) -> list[float]:
            return [7.0, -3.0, float("nan")]

    assert isinstance(Mad(), Scorer)
    picker = by(Mad())
    assert next((one.endpoint.id, one.total) for one in picker.scores()) == ("e0", 1.0)
    assert {one.total for one in picker.scores()} == {1.0, 0.0}
    picker = ScoredPicker(picker.pool, ScoringProfile(scorers=[(QueueScorer(), 2), (KvCacheScorer(), 3)]))
    picker.observe("e0", waiting=0, kv_cache=1)
    picker.observe("e1", waiting=4, kv_cache=0.2)
    picker.observe("e2", waiting=2, kv_cache=0.5)
    assert {one.endpoint.id: one.parts for one in picker.scores()} == {
        "e0": {"QueueScorer": 2.0, "KvCacheScorer": 0.0},
        "e1": {"QueueScorer": 0.0, "KvCacheScorer": pytest.approx(2.4)},
        "e2": {"QueueScorer": 1.0, "KvCacheScorer": 1.5},
    }
    assert picker.pick().id == "e2"

    class Short:
        def score(self, views: Any, request: Any) -> list[float]:
            return [1.0]

    with pytest.raises(ConfigError, match="3 numbers"):
        by(Short()).pick()
    two = by(QueueScorer(), QueueScorer())
    assert sorted(two.scores()[0].parts) == ["QueueScorer", "QueueScorer[1]"]


def test_who_was_idle_longest_is_found_while_other_threads_send_requests() -> None:
    class Moving(dict[str, int]):
        """Another request comes between any two looks."""

        count = 0

        def get(self, key: str, default: Any = None, /) -> Any:
            self.count += 1
            return self.count

    views = [EndpointView(endpoint=Endpoint(id)) for id in "abc"]
    assert NoHitLruScorer()._rank(views, Moving()) == [1.0, 0.5, 0.0]


def test_cold_prompts_go_round_and_warm_ones_do_not() -> None:
    picker = by(NoHitLruScorer())
    first = [picker.acquire([i] * 32).endpoint.id for i in range(6)]
    assert sorted(first[:3]) == ["e0", "e1", "e2"]
    assert first[3:] == first[:3]
    assert {one.total for one in picker.scores([5] * 32)} == {0.5}
    assert [one.total for one in by(NoHitLruScorer(), n=1).scores([1] * 16)] == [1.0]
    small = by(NoHitLruScorer(capacity=1))
    for i in range(3):
        small.acquire([i] * 32)
    assert sorted(one.total or 0.0 for one in small.scores([9] * 32)) == [0.0, 1.0, 1.0]


def test_filters() -> None:
    roles = [Endpoint("p", tags={"role": "prefill"}), Endpoint("d", tags={"role": "decode"}), Endpoint("x")]
    for missing, expected in ((False, {"d"}), (True, {"d", "x"})):
        profile = ScoringProfile(filters=[LabelFilter("role", ["decode"], missing)])
        picker = ScoredPicker(roles, profile, seed=1)
        assert {picker.pick().id for _ in range(50)} == expected
        assert {one.id for one in picker.ranked(k=9)} == expected
        assert {one.endpoint.id: one.filtered_by for one in picker.scores()}["p"] == "LabelFilter"
        with pytest.raises(NoEndpointsError, match="passes the filters: LabelFilter"):
            picker.acquire(subset=["p"])
        assert picker.try_acquire(subset=["p"]) is None
    nobody = ScoredPicker(["a"], ScoringProfile(filters=[LabelFilter("role", ["decode"])]))
    with pytest.raises(NoEndpointsError, match="filters"):
        nobody.pick()
    assert nobody.try_pick() is None
    nobody.pool.drain("a")
    with pytest.raises(NoHealthyEndpointError):
        nobody.pick()
    with pytest.raises(NoEndpointsError):
        ScoredPicker([], DEFAULT).acquire()


def test_the_saturation_filter() -> None:
    picker = by(filters=[SaturationFilter(max_age=10)])
    clock = picker.pool.clock
    assert isinstance(clock, ManualClock)
    # Nobody has reported: nobody passes, so all do.
    assert len(picker.ranked(k=9)) == 3
    picker.observe("e0", waiting=4, kv_cache=0.79)
    picker.observe("e1", waiting=5)
    picker.observe("e2", kv_cache=0.8)
    assert [one.id for one in picker.ranked(k=9)] == ["e0"]
    clock.advance(11)
    picker.observe("e1")
    assert [one.id for one in picker.ranked(k=9)] == ["e1"]
    wide = SaturationFilter(headroom=0.5)
    assert [v.endpoint.id for v in wide.keep(views(waiting=[7, 8, 0], age=[0.0, 0.0, None]), InferenceRequest())] == [
        "e0",
        "e2",
    ]
    assert SaturationFilter(queue=10).saturation(views(1, waiting=[5], age=[99.0])[0]) == 0.5
    assert SaturationFilter(kv_cache=0.5).saturation(views(1, kv_cache=[0.25], age=[99.0])[0]) == 0.5


def test_choices() -> None:
    chance = random.Random(1)
    totals = [1.0, 3.0, 0.0]
    first = Counter(WeightedRandomChoice().order(totals, chance)[0] for _ in range(8000))
    assert first[2] == 0
    assert first[1] / 8000 == pytest.approx(0.75, abs=0.02)
    assert all(
        count / 3000 == pytest.approx(1 / 3, abs=0.04)
        for count in Counter(RandomChoice().order(totals, chance)[0] for _ in range(3000)).values()
    )
    assert {MaxScore().order(totals, chance)[0] for _ in range(20)} == {1}
    ties = Counter(MaxScore().order([1.0, 1.0], chance)[0] for _ in range(2000))
    assert ties[0] / 2000 == pytest.approx(0.5, abs=0.05)
    assert WeightedRandomChoice().order([0.0, 0.0], chance) in ([0, 1], [1, 0])
    # The seed is all the chance there is.
    picks = [[ScoredPicker(["a", "b", "c"], DEFAULT, seed=5).pick().id for _ in range(3)] for _ in range(2)]
    assert picks[0] == picks[1]


def test_it_is_a_picker() -> None:
    check_picker(lambda pool: ScoredPicker(pool, DEFAULT), claims=(), scripts=30)
    picker = by(QueueScorer())
    # Reports of the pool count where the picker was told none.
    picker.pool.observe("e0", queue=5, kv_cache=0.5, inflight=2)
    assert {v.endpoint.id: (v.waiting, v.running, v.kv_cache, v.age) for v in picker.views()}["e0"] == (5, 2, 0.5, 0)
    assert picker.pick().id != "e0"
    for i in range(500):
        picker.observe(f"gone{i}")
    assert len(picker._reports) < 100
    copy = pickle.loads(pickle.dumps(picker))
    assert repr(copy) == repr(picker)
    for wrong in ({"kv_cache": 1.5}, {"waiting": -1}, {"active_adapters": "x"}, {"max_adapters": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            picker.observe("e0", **wrong)
    with pytest.raises(ConfigError, match="profile"):
        ScoredPicker(["a"], QueueScorer())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="index"):
        ScoredPicker(["a"], DEFAULT, index=3)  # type: ignore[arg-type]
    assert by(QueueScorer()).index is None


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: ScoringProfile(scorers=[(QueueScorer(), -1)]), "weight"),
        (lambda: ScoringProfile(scorers=[QueueScorer()]), "pair"),  # type: ignore[list-item]
        (lambda: ScoringProfile(scorers=[(QueueScorer, 1)]), "scorer"),  # type: ignore[list-item]
        (lambda: ScoringProfile(filters=[QueueScorer()]), "filter"),
        (lambda: ScoringProfile(filters="x"), "filters"),
        (lambda: ScoringProfile(choice=MaxScore), "choice"),  # type: ignore[arg-type]
        (lambda: PrefixScorer(0), "max_blocks"),
        (lambda: LoadAwareScorer(0), "threshold"),
        (lambda: ActiveRequestScorer(-1), "idle_threshold"),
        (lambda: NoHitLruScorer(0), "capacity"),
        (lambda: LabelFilter("", ["a"]), "label"),
        (lambda: LabelFilter("a", "b"), "values"),
        (lambda: SaturationFilter(0), "queue"),
        (lambda: SaturationFilter(kv_cache=1.5), "kv_cache"),
        (lambda: SaturationFilter(max_age=-1), "max_age"),
        (lambda: UtilizationSaturation(queue=-1), "queue"),
        (lambda: ConcurrencySaturation(0), "requests"),
        (lambda: ConcurrencySaturation(tokens=0), "tokens"),
        (lambda: StrictShedding(0), "threshold"),
        (lambda: ProbabilisticShedding(power=0), "power"),
        (lambda: Admission(LeastRequest(["a"]), saturation=3), "saturation"),  # type: ignore[arg-type]
        (lambda: Admission(LeastRequest(["a"]), shedding=3), "shedding"),  # type: ignore[arg-type]
        (lambda: Admission(LeastRequest(["a"]), hold=-1), "hold"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        make()


def test_saturations() -> None:
    fleet = views(waiting=[0, 5, 10], kv_cache=[0.4, 0.0, 0.0], age=[0.0, 0.0, 0.0])
    assert UtilizationSaturation().saturation(fleet) == pytest.approx((0.5 + 1 + 2) / 3)
    assert UtilizationSaturation(queue=10).saturation(fleet) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert UtilizationSaturation(kv_cache=0.4).saturation(fleet) == pytest.approx((1 + 1 + 2) / 3)
    late = views(1, age=[0.3])
    assert UtilizationSaturation().saturation(late) == 1.0
    assert UtilizationSaturation(max_age=0.4).saturation(late) == 0.0
    assert UtilizationSaturation().saturation([]) == ConcurrencySaturation().saturation([]) == 1.0
    assert ConcurrencySaturation().saturation(views(2, inflight=[50, 100])) == 0.75
    assert ConcurrencySaturation(tokens=1000).saturation(views(2, tokens=[500, 0])) == 0.25


def test_shedding_by_priority() -> None:
    assert ProbabilisticShedding().chance(0, 9) == 0.0
    assert ProbabilisticShedding().chance(-1, 0.0) == 0.0
    assert ProbabilisticShedding().chance(-1, float("inf")) == 1.0
    assert ProbabilisticShedding(power=1, factor=0.5).chance(-1, 0.5) == 0.25
    picker = LeastRequest(["a"])
    held = [picker.acquire() for _ in range(5)]
    for shedding, share in ((StrictShedding(0.5), 1.0), (StrictShedding(0.6), 0.0), (ProbabilisticShedding(1, 1), 0.5)):
        gate = Admission(picker, saturation=ConcurrencySaturation(10), shedding=shedding, seed=1)
        shed = sum(gate.try_acquire(InferenceRequest(priority=-1)) is None for _ in range(1000))
        assert shed / 1000 == pytest.approx(share, abs=0.05)
        assert gate.try_acquire(InferenceRequest()) is not None
        assert gate.try_acquire("any key") is not None
    with pytest.raises(OverloadedError, match="priority -1 is shed"):
        Admission(picker, saturation=ConcurrencySaturation(10), shedding=StrictShedding(0.5)).acquire(
            InferenceRequest(priority=-1)
        )
    held.clear()


def test_nobody_is_let_in_while_the_fleet_is_full() -> None:
    pool = Pool(["a", "b"], clock=ManualClock(0.0))
    gate = Admission(LeastRequest(pool))
    assert gate.saturation() == 1.0  # nobody has reported
    with pytest.raises(OverloadedError, match="nobody is let in"):
        gate.acquire()
    with pytest.raises(OverloadedError):
        gate.pick()
    pool.observe("a", queue=5)
    pool.observe("b", queue=4)
    assert gate.saturation() == pytest.approx(0.9)
    gate.acquire().release()
    open_to_all = Admission(LeastRequest(["a"]), hold=None)
    assert open_to_all.saturation() == 1.0
    open_to_all.acquire().release()
    strict = Admission(LeastRequest(pool), hold=0.5)
    assert strict.try_pick() is None
    with pytest.raises(NoEndpointsError):
        Admission(LeastRequest([])).acquire()
    assert repr(pickle.loads(pickle.dumps(gate))) == repr(gate)
    scored = by(QueueScorer())
    for i in range(3):
        scored.observe(f"e{i}", waiting=i)
    inner = Admission(scored)
    assert inner.saturation() == pytest.approx(0.2)
    assert inner.pick(InferenceRequest(session="x")).id == "e0"


def test_flow_control_is_a_fair_queue_on_a_gate() -> None:
    async def main() -> list[str]:
        gate = Admission(LeastRequest(["a", "b"], seed=1), saturation=ConcurrencySaturation(1))
        queue = FairQueue(gate)
        order: list[str] = []

        async def one(name: str, tenant: str, priority: int) -> None:
            async with await queue.acquire(tenant=tenant, priority=priority, tokens=10, timeout=5):
                order.append(name)
                await asyncio.sleep(0)

        held = [gate.acquire(), gate.acquire()]
        waiting = [
            asyncio.ensure_future(one(*given))
            for given in (("a0", "a", 0), ("a1", "a", 0), ("b0", "b", 0), ("low", "c", -1), ("high", "a", 9))
        ]
        await asyncio.sleep(0)
        assert order == []
        held[0].release()
        await asyncio.gather(*waiting)
        held[1].release()
        return order

    assert asyncio.run(main()) == ["high", "b0", "a0", "a1", "low"]


SAMPLE = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
  parameters:
    blockSize: 64
    maxPrefixBlocksToMatch: 128
    lruCapacityPerServer: 1000
- name: few
  type: max-score-picker
  parameters:
    maxNumOfEndpoints: 2
- type: single-profile-handler
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
  - pluginRef: prefix-cache-scorer
    weight: 3
  - pluginRef: few
saturationDetector:
  queueDepthThreshold: 8
  kvCacheUtilThreshold: 0.75
  metricsStalenessThreshold: 150ms
"""


def test_a_configuration_is_mirrored(tmp_path: Path) -> None:
    config = inference_extension.read(SAMPLE)
    assert config.profiles["default"] == ScoringProfile(
        scorers=[(QueueScorer(), 2), (KvCacheScorer(), 1), (PrefixScorer(128), 3)]
    )
    assert config.max_endpoints == {"default": 2}
    assert config.saturation == UtilizationSaturation(8, 0.75, 0.15)
    assert (config.block_size, config.capacity, config.hold) == (16, 1000, False)
    path = tmp_path / "epp.yaml"
    path.write_text(SAMPLE)
    assert inference_extension.read(path) == config
    picker = config.picker(["a", "b"], seed=1)
    assert picker.index is not None
    assert (picker.index.block_size, picker.index.capacity) == (16, 1000)
    gate = config.gate(picker)
    assert (gate.hold, gate.shedding) == (None, StrictShedding())


def document(**fields: Any) -> dict[str, Any]:
    return {"kind": "EndpointPickerConfig", **fields}


def test_defaults_gates_and_two_profiles() -> None:
    plain = inference_extension.read(document(plugins=[{"type": "load-aware-scorer", "parameters": {"threshold": 10}}]))
    assert plain.profiles == {"default": ScoringProfile(scorers=[(LoadAwareScorer(10), 1)])}
    assert plain.saturation == UtilizationSaturation(5, 0.8, 0.2)
    held = inference_extension.read(document(plugins=[], featureGates=["flowControl"]))
    assert (held.gate(LeastRequest(["a"])).hold, held.gate(LeastRequest(["a"])).shedding) == (1.0, None)
    two = inference_extension.read(
        document(
            plugins=[
                {"type": "prefill-filter"},
                {"type": "decode-filter"},
                {"type": "random-picker"},
                {"type": "weighted-random-picker"},
                {"type": "no-hit-lru-scorer", "parameters": {"lruSize": 9}},
                {"type": "active-request-scorer", "parameters": {"idleThreshold": 1, "maxBusyScore": 0.5}},
                {"type": "token-load-scorer", "parameters": {"queueThresholdTokens": 1000}},
                {"name": "mine", "type": "by-label", "parameters": {"label": "l", "validValues": ["v"]}},
                {"type": "utilization-detector", "parameters": {"headroom": 0.2, "metricsStalenessThreshold": "1m"}},
            ],
            schedulingProfiles=[
                {"name": "prefill", "plugins": [{"pluginRef": "prefill-filter"}, {"pluginRef": "random-picker"}]},
                {
                    "name": "decode",
                    "plugins": [
                        {"pluginRef": "decode-filter"},
                        {"pluginRef": "mine"},
                        {"pluginRef": "no-hit-lru-scorer"},
                        {"pluginRef": "active-request-scorer"},
                        {"pluginRef": "token-load-scorer", "weight": 0.5},
                        {"pluginRef": "weighted-random-picker"},
                    ],
                },
            ],
            saturationDetector={"pluginRef": "utilization-detector"},
        )
    )
    assert two.profiles["prefill"].filters == (LabelFilter("llm-d.ai/role", ("prefill",)),)
    assert two.profiles["prefill"].choice == RandomChoice()
    assert two.profiles["decode"].scorers == (
        (NoHitLruScorer(9), 1.0),
        (ActiveRequestScorer(1, 0.5), 1.0),
        (TokenLoadScorer(1000), 0.5),
    )
    assert two.saturation == UtilizationSaturation(max_age=60)
    fleet = [Endpoint("p", tags={"llm-d.ai/role": "prefill"}), Endpoint("d", tags={"l": "v"})]
    assert [two.picker(fleet, name).pick().id for name in ("prefill", "decode")] == ["p", "d"]
    with pytest.raises(ConfigError, match="one of prefill, decode"):
        two.picker(fleet)
    admitter = inference_extension.read(
        document(
            plugins=[{"type": "probabilistic-admitter", "parameters": {"power": 2, "k": 3, "queueDepthThreshold": 7}}]
        )
    )
    assert admitter.shedding == ProbabilisticShedding(2, 3)
    assert admitter.saturation == UtilizationSaturation(7)
    assert admitter.gate(LeastRequest(["a"])).hold is None
    counted = inference_extension.read(
        document(
            plugins=[{"type": "concurrency-detector", "parameters": {"maxConcurrency": 10}}],
            saturationDetector={"pluginRef": "concurrency-detector"},
            schedulingProfiles=[{"name": "default"}],
        )
    )
    assert counted.saturation == ConcurrencySaturation(10)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"plugins": [{"type": "magic-scorer"}]}, "there is no plugin 'magic-scorer'"),
        ({"plugins": [{"type": "pd-profile-handler"}]}, "PrefillDecode"),
        ({"plugins": [{"name": "x"}]}, "type"),
        ({"plugins": [{"type": "queue-scorer"}, {"type": "queue-scorer"}]}, "two plugins"),
        ({"plugins": [{"type": "queue-scorer", "parameters": {"x": 1}}]}, "no such field"),
        ({"plugins": [{"type": "load-aware-scorer", "parameters": {"threshold": 0}}]}, "threshold"),
        ({"plugins": [{"type": "load-aware-scorer", "parameters": {"threshold": "x"}}]}, "number"),
        ({"plugins": [{"type": "prefix-cache-scorer", "parameters": {"blockSizeTokens": 0}}]}, "block size"),
        ({"plugins": [{"type": "prefix-cache-scorer", "parameters": {"autoTune": True}}]}, "autoTune"),
        ({"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 0}}]}, "maxNumOfEndpoints"),
        ({"plugins": [{"type": "by-label", "parameters": {"label": "a", "validValues": "b"}}]}, "list"),
        ({"plugins": [], "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "b"}]}]}, "of the name 'b'"),
        ({"plugins": [], "schedulingProfiles": [{"plugins": []}]}, "name"),
        ({"plugins": [], "schedulingProfiles": []}, "profile is needed"),
        ({"plugins": [], "schedulingProfiles": [{"name": "a"}, {"name": "a"}]}, "two profiles"),
        ({"plugins": [], "saturationDetector": {"metricsStalenessThreshold": "5"}}, "duration"),
        ({"plugins": [], "saturationDetector": {"queueDepthThreshold": 0}}, "queue"),
        ({"plugins": [], "saturationDetector": {"pluginRef": "x"}}, "no saturation detector"),
        ({"plugins": [], "featureGates": ["flowcontrol"]}, "did you mean flowControl"),
        ({"plugins": [], "flowControl": {}}, "FairQueue"),
        ({"plugins": [], "dataLayer": {}}, "observe"),
        ({"plugins": [], "extra": 1}, "no such field"),
        ({"kind": "InferencePool"}, "EndpointPickerConfig is needed"),
        (
            {
                "plugins": [{"type": "max-score-picker"}],
                "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "max-score-picker", "weight": 2}]}],
            },
            "weight has no effect",
        ),
        (
            {"plugins": [{"type": "max-score-picker"}, {"type": "random-picker"}]},
            "one picker",
        ),
        (
            {
                "plugins": [{"type": "queue-scorer"}],
                "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "queue-scorer", "weight": -1}]}],
            },
            "weight",
        ),
        (
            {
                "plugins": [{"type": "probabilistic-admitter"}],
                "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "probabilistic-admitter"}]}],
            },
            "no plugin of a profile",
        ),
        ({"plugins": [{"type": "probabilistic-admitter"}], "featureGates": ["flowControl"]}, "take one"),
        (
            {
                "plugins": [
                    {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1, "maxTokenConcurrency": 2}}
                ]
            },
            "one of them",
        ),
    ],
)
def test_what_would_have_no_effect_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        inference_extension.read({"kind": "EndpointPickerConfig", **fields})


def test_complaints_say_the_line() -> None:
    with pytest.raises(FormatError, match=r"manifest:5: plugins\[0\].type: there is no plugin 'queue-score'"):
        inference_extension.read(SAMPLE.replace("- type: queue-scorer", "- type: queue-score"))
    with pytest.raises(ConfigError, match="2 documents"):
        inference_extension.read(SAMPLE + "\n---\n" + SAMPLE)


def test_an_explanation_foretells_and_moves_nothing() -> None:
    picker = by(QueueScorer())
    for _ in range(20):
        told = [one.endpoint for one in picker.explain() if one.reason == "chosen"]
        assert [picker.pick()] == told
    half = ProbabilisticShedding(1, 0.5)
    held = LeastRequest(["a"])
    gate = Admission(held, saturation=ConcurrencySaturation(1), shedding=half, hold=None, seed=3)
    lease = held.acquire()
    shed = []
    for _ in range(40):
        told = [one.endpoint for one in gate.explain(InferenceRequest(priority=-1)) if one.rank == 0]
        found = gate.try_pick(InferenceRequest(priority=-1))
        assert told == ([] if found is None else [found])
        shed.append(found is None)
    assert 5 < sum(shed) < 35
    lease.release()
