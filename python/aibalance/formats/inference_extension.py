"""EndpointPickerConfig of the Gateway API Inference Extension and llm-d, with file, line and field in every complaint.

Sources: Gateway API Inference Extension 84436a9 (`site-src/guides/epp-configuration`), llm-d's scheduler 520af47.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._core import Endpoint, Pool, PrefixIndex
from .._errors import ConfigError
from ..llm.admission import (
    Admission,
    ConcurrencySaturation,
    ProbabilisticShedding,
    StrictShedding,
    UtilizationSaturation,
)
from ..llm.scoring import (
    ActiveRequestScorer,
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
    ScoringProfile,
    SessionScorer,
    TokenLoadScorer,
    WeightedRandomChoice,
)
from ._yaml import Node, load

__all__ = ["EndpointPickerConfig", "read"]

KIND = "EndpointPickerConfig"
TOP = {"apiVersion", "kind", "plugins", "schedulingProfiles", "saturationDetector", "featureGates"}
# Sections that are for the server around the picker. To leave them out in silence would be to say that they count.
ELSEWHERE = {
    "dataLayer": "reports come by picker.observe",
    "data": "reports come by picker.observe",
    "flowControl": "make a FairQueue on config.gate(picker); the feature gate flowControl holds requests",
    "parser": "an InferenceRequest is what a parser would give",
    "requestHandler": "an InferenceRequest is what a parser would give",
}
ROLE = "llm-d.ai/role"
CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class EndpointPickerConfig:
    """What a configuration says: see `read`.

    `profiles`: by name, the first one first. `max_endpoints`: of each, how many endpoints its picker names.
    `saturation`: when the fleet is full. `shedding`: who is not let in then. `hold`: whether the feature gate
    `flowControl` has requests wait while it is. `block_size`, `capacity`: tokens of a block and blocks an endpoint of
    the prefix index.
    """

    profiles: Mapping[str, ScoringProfile]
    max_endpoints: Mapping[str, int]
    saturation: UtilizationSaturation | ConcurrencySaturation
    shedding: StrictShedding | ProbabilisticShedding
    hold: bool = False
    block_size: int = 16
    capacity: int = 31250

    def picker(
        self,
        endpoints: Pool | Iterable[Endpoint | str],
        /,
        profile: str | None = None,
        *,
        index: PrefixIndex | None = None,
        seed: int | None = None,
    ) -> ScoredPicker:
        """A picker by one of the profiles (None: the only one). Raises ConfigError for a name that is not there."""
        if profile is None and len(self.profiles) == 1:
            profile = next(iter(self.profiles))
        if profile is None or profile not in self.profiles:
            raise ConfigError(f"profile: {profile!r} is not allowed; one of {', '.join(self.profiles)}")
        if index is None:
            index = PrefixIndex(block_size=self.block_size, capacity=self.capacity)
        return ScoredPicker(endpoints, self.profiles[profile], index=index, seed=seed)

    def gate(self, picker: Any, /, *, seed: int | None = None) -> Admission:
        """The admission before a picker."""
        return Admission(
            picker,
            saturation=self.saturation,
            shedding=None if self.hold and isinstance(self.shedding, StrictShedding) else self.shedding,
            hold=1.0 if self.hold else None,
            seed=seed,
        )


def _number(node: Node) -> float:
    value = node.value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise node.fail(f"{node.shown()} is not allowed; a number is needed")
    return float(value)


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _duration(node: Node) -> float:
    text = node.text()
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", text)
    if not parts or "".join(a + b for a, b in parts) != text:
        raise node.fail(f"{node.shown()} is not allowed; a duration such as 200ms is needed")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _texts(node: Node) -> list[str]:
    return [item.text() for item in node.items()]


def _flag(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise node.fail(f"{node.shown()} is not allowed; true or false is needed")
    return node.value


def _same(node: Node) -> str:
    return node.text()


class _Plugin:
    """A type of plugin: its role, what it is made of, and its parameters with how they are read."""

    def __init__(
        self, role: str, make: Callable[..., Any], **parameters: tuple[str | None, Callable[[Node], Any]]
    ) -> None:
        self.role, self.make, self.parameters = role, make, parameters

    def read(self, given: Node | None) -> Any:
        if given is None:
            return self.make()
        fields = given.mapping(set(self.parameters))
        found: dict[str, Any] = {}
        for name, node in fields.items():
            target, convert = self.parameters[name]
            value = convert(node)
            if target is not None:
                found[target] = value
        try:
            return self.make(**found)
        except ConfigError as error:
            raise given.fail(str(error)) from None


def _whole(node: Node) -> int:
    return node.whole()


_PICK = {"maxNumOfEndpoints": ("most", _whole)}
_DETECTOR: dict[str, tuple[str | None, Callable[[Node], Any]]] = {
    "queueDepthThreshold": ("queue", _number),
    "kvCacheUtilThreshold": ("kv_cache", _number),
    "metricsStalenessThreshold": ("max_age", _duration),
}


def _prefix(
    *, tokens: int | None = None, characters: int | None = None, blocks: int = 256, capacity: int = 31250
) -> tuple[PrefixScorer, int, int]:
    size = 16 if characters is None else max(characters // CHARACTERS_A_TOKEN, 1)
    size = size if tokens is None else tokens
    return PrefixScorer(blocks), size, capacity


def _label(*, label: str = "", values: Any = (), missing: bool = False) -> LabelFilter:
    return LabelFilter(label, values, missing)


def _admitter(*, queue: float = 5.0, kv_cache: float = 0.8, power: float = 5.0, factor: float = 300.0) -> Any:
    return ProbabilisticShedding(power, factor), UtilizationSaturation(queue, kv_cache)


def _filter(
    *, queue: float = 5.0, kv_cache: float = 0.8, max_age: float = 0.2, headroom: float = 0.0
) -> SaturationFilter:
    return SaturationFilter(queue, kv_cache, headroom, max_age)


def _concurrency(*, requests: float | None = None, tokens: float | None = None) -> ConcurrencySaturation:
    if requests is not None and tokens is not None:
        raise ConfigError("maxConcurrency and maxTokenConcurrency: one of them")
    return ConcurrencySaturation(100.0 if requests is None else requests, tokens)


def _choice(make: Callable[[], Any]) -> Callable[..., Any]:
    def made(*, most: int = 1) -> tuple[Any, int]:
        if most < 1:
            raise ConfigError(f"maxNumOfEndpoints: {most} is not allowed; 1 or more")
        return make(), most

    return made


PLUGINS: dict[str, _Plugin] = {
    "queue-scorer": _Plugin("scorer", QueueScorer),
    "running-requests-size-scorer": _Plugin("scorer", RunningRequestsScorer),
    "kv-cache-utilization-scorer": _Plugin("scorer", KvCacheScorer),
    "kv-cache-scorer": _Plugin("scorer", KvCacheScorer),
    "prefix-cache-scorer": _Plugin(
        "scorer",
        _prefix,
        blockSizeTokens=("tokens", _whole),
        blockSize=("characters", _whole),
        hashBlockSize=("characters", _whole),
        maxPrefixBlocksToMatch=("blocks", _whole),
        lruCapacityPerServer=("capacity", _whole),
    ),
    "lora-affinity-scorer": _Plugin("scorer", LoraScorer),
    "session-affinity-scorer": _Plugin("scorer", SessionScorer),
    "load-aware-scorer": _Plugin("scorer", LoadAwareScorer, threshold=("threshold", _number)),
    "active-request-scorer": _Plugin(
        "scorer",
        ActiveRequestScorer,
        idleThreshold=("idle_threshold", _whole),
        maxBusyScore=("max_busy_score", _number),
    ),
    "token-load-scorer": _Plugin("scorer", TokenLoadScorer, queueThresholdTokens=("threshold", _number)),
    "no-hit-lru-scorer": _Plugin(
        "scorer",
        NoHitLruScorer,
        lruSize=("capacity", _whole),
        prefixPluginName=(None, _same),
        prefixPluginType=(None, _same),
    ),
    "by-label": _Plugin(
        "filter", _label, label=("label", _same), validValues=("values", _texts), allowsNoLabel=("missing", _flag)
    ),
    "decode-filter": _Plugin("filter", lambda: LabelFilter(ROLE, ("decode", "both", "prefill-decode"), True)),
    "prefill-filter": _Plugin("filter", lambda: LabelFilter(ROLE, ("prefill",))),
    "utilization-detector": _Plugin("filter", _filter, **_DETECTOR, headroom=("headroom", _number)),
    "concurrency-detector": _Plugin(
        "detector", _concurrency, maxConcurrency=("requests", _number), maxTokenConcurrency=("tokens", _number)
    ),
    "max-score-picker": _Plugin("picker", _choice(MaxScore), **_PICK),
    "random-picker": _Plugin("picker", _choice(RandomChoice), **_PICK),
    "weighted-random-picker": _Plugin("picker", _choice(WeightedRandomChoice), **_PICK),
    "single-profile-handler": _Plugin("handler", lambda: None),
    "probabilistic-admitter": _Plugin(
        "admission",
        _admitter,
        queueDepthThreshold=("queue", _number),
        kvCacheUtilThreshold=("kv_cache", _number),
        power=("power", _number),
        k=("factor", _number),
    ),
}
HINTS = {
    "pd-profile-handler": "PrefillDecode takes a picker for each profile",
    "disagg-profile-handler": "PrefillDecode takes a picker for each profile",
    "prefill-header-handler": "a PairLease names both endpoints",
    "precise-prefix-cache-scorer": "use prefix-cache-scorer, and tell the index the engines' events",
    "latency-scorer": "there is no model of latency here",
    "metrics-data-source": "reports come by picker.observe",
    "core-metrics-extractor": "reports come by picker.observe",
}


@dataclass
class _Found:
    """What the plugins of a document came to."""

    made: dict[str, tuple[str, Any, Node]] = field(default_factory=dict)
    block_size: int = 16
    capacity: int = 31250


def _plugins(node: Node | None) -> _Found:
    found = _Found()
    for item in [] if node is None else node.items():
        fields = item.mapping({"name", "type", "parameters"})
        kind = item.need(fields, "type")
        name = fields["name"].text() if "name" in fields else kind.text()
        if kind.text() not in PLUGINS:
            hint = HINTS.get(kind.text()) or f"known are {', '.join(sorted(PLUGINS))}"
            raise kind.fail(f"there is no plugin {kind.text()!r}; {hint}")
        if name in found.made:
            raise item.fail(f"there are two plugins of the name {name!r}")
        plugin = PLUGINS[kind.text()]
        made = plugin.read(fields.get("parameters"))
        if kind.text() == "prefix-cache-scorer":
            made, found.block_size, found.capacity = made
            if found.block_size < 1 or found.capacity < 1:
                raise item.fail("a block size and a capacity are whole numbers above 0")
        found.made[name] = (plugin.role, made, item)
    return found


def _profile(entries: list[tuple[Node, str, float | None]], found: _Found) -> tuple[ScoringProfile, int]:
    filters, scorers, choices = [], [], []
    for node, name, weight in entries:
        if name not in found.made:
            raise node.fail(f"there is no plugin of the name {name!r}; named are {', '.join(found.made) or 'none'}")
        role, made, _ = found.made[name]
        if weight is not None and role != "scorer":
            raise node.fail(f"{name!r} is no scorer: a weight has no effect")
        if role == "scorer":
            scorers.append((made, 1.0 if weight is None else weight))
        elif role == "filter":
            filters.append(made)
        elif role == "picker":
            choices.append(made)
        elif role != "handler":
            raise node.fail(f"{name!r} is no plugin of a profile")
        if len(choices) > 1:
            raise node.fail("a profile has one picker")
    choice, most = choices[0] if choices else (MaxScore(), 1)
    try:
        return ScoringProfile(filters=filters, scorers=scorers, choice=choice), most
    except ConfigError as error:
        raise entries[0][0].fail(str(error)) from None


def _profiles(node: Node | None, found: _Found, top: Node) -> tuple[dict[str, ScoringProfile], dict[str, int]]:
    profiles: dict[str, ScoringProfile] = {}
    most: dict[str, int] = {}
    if node is None:
        # A single profile with every plugin that has a place in one.
        all_of = [
            (item, name, None) for name, (role, _, item) in found.made.items() if role in ("filter", "scorer", "picker")
        ]
        profiles["default"], most["default"] = _profile(list(all_of), found)
        return profiles, most
    for item in node.items():
        fields = item.mapping({"name", "plugins"})
        name = item.need(fields, "name").text()
        if name in profiles:
            raise item.fail(f"there are two profiles of the name {name!r}")
        entries: list[tuple[Node, str, float | None]] = []
        for entry in fields["plugins"].items() if "plugins" in fields else []:
            inside = entry.mapping({"pluginRef", "weight"})
            weight = _number(inside["weight"]) if "weight" in inside else None
            entries.append((entry, entry.need(inside, "pluginRef").text(), weight))
        profiles[name], most[name] = _profile(entries, found)
    if not profiles:
        raise top.fail("a profile is needed", path="schedulingProfiles")
    return profiles, most


def _saturation(node: Node | None, found: _Found) -> UtilizationSaturation | ConcurrencySaturation:
    if node is None:
        return UtilizationSaturation()
    if isinstance(node.value, dict) and "pluginRef" in node.value:
        ref = node.mapping({"pluginRef"})["pluginRef"]
        role, made, _ = found.made.get(ref.text(), ("", None, node))
        if isinstance(made, SaturationFilter):
            return UtilizationSaturation(made.queue, made.kv_cache, made.max_age)
        if role != "detector":
            raise ref.fail(f"{ref.text()!r} is no saturation detector among the plugins")
        detector: ConcurrencySaturation = made
        return detector
    return _Plugin("detector", UtilizationSaturation, **_DETECTOR).read(node)  # type: ignore[no-any-return]


def read(manifest: str | os.PathLike[str] | Mapping[str, Any]) -> EndpointPickerConfig:
    """An EndpointPickerConfig: a path, YAML text or a mapping.

    Plugins are those of `PLUGINS`; one that is not known is refused by name, and so is a parameter or section that
    would have no effect. A block size in characters is a quarter of it in tokens, as the extension takes it. Raises
    FormatError.

    >>> from aibalance.formats import inference_extension
    >>> config = inference_extension.read({
    ...     "kind": "EndpointPickerConfig",
    ...     "plugins": [
    ...         {"type": "queue-scorer"},
    ...         {"type": "prefix-cache-scorer", "parameters": {"blockSizeTokens": 64}},
    ...     ],
    ...     "schedulingProfiles": [{"name": "default", "plugins": [
    ...         {"pluginRef": "queue-scorer"}, {"pluginRef": "prefix-cache-scorer", "weight": 3}]}],
    ... })
    >>> config.profiles["default"].scorers, config.block_size
    (((QueueScorer(), 1.0), (PrefixScorer(max_blocks=256), 3.0)), 64)
    >>> config.picker(["a", "b"]).pick("Hello").id in ("a", "b")
    True
    """
    nodes = load(manifest)
    if len(nodes) != 1:
        raise ConfigError(f"manifest: {len(nodes)} documents are not allowed; one is needed")
    top = nodes[0]
    if isinstance(top.value, dict):
        for name, instead in ELSEWHERE.items():
            if name in top.value:
                raise top.fail(f"it has no effect here; {instead}", top.keys.get(name), name)
    fields = top.mapping(TOP)
    kind = top.need(fields, "kind")
    if kind.text() != KIND:
        raise kind.fail(f"{kind.shown()} is not allowed; {KIND} is needed")
    found = _plugins(fields.get("plugins"))
    gates = fields["featureGates"].items() if "featureGates" in fields else []
    for gate in gates:
        gate.one_of({"flowControl": True})
    profiles, most = _profiles(fields.get("schedulingProfiles"), found, top)
    saturation = _saturation(fields.get("saturationDetector"), found)
    shedding: StrictShedding | ProbabilisticShedding = StrictShedding()
    admitters = [(made, item) for role, made, item in found.made.values() if role == "admission"]
    if admitters:
        (shedding, own), item = admitters[0]
        if len(admitters) > 1:
            raise admitters[1][1].fail("there is one admitter")
        if gates:
            raise item.fail("it and the feature gate flowControl have saturations of their own; take one of them")
        if "saturationDetector" in fields and isinstance(saturation, UtilizationSaturation):
            own = UtilizationSaturation(own.queue, own.kv_cache, saturation.max_age)
        saturation = own
    return EndpointPickerConfig(
        profiles=profiles,
        max_endpoints=most,
        saturation=saturation,
        shedding=shedding,
        hold=bool(gates),
        block_size=found.block_size,
        capacity=found.capacity,
    )
