"""What model servers and GPUs say of themselves, by a table: names, units and how several series become one number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from .. import ConfigError, MetricError, Pool
from .._extras import need
from .._picker import wrong

__all__ = ["SOURCES", "SignalReader", "Signals", "Source", "observation", "read_nvml"]

_MIB = float(1 << 20)


@dataclass(frozen=True)
class Signals:
    """What one endpoint said, in one set of units; None is what it did not say.

    `inflight`, `queue`: requests that run and that wait. `kv_cache`, `gpu_utilization`, `gpu_memory`: shares, 0 to 1.
    `gpu_memory_used`, `gpu_memory_total`: bytes, of all its GPUs. `latency`, `first_token`, `queue_time`: seconds, the
    mean since the last reading. `qps`, `eps`: requests and errors a second since then. `faults`: GPUs whose last XID
    error is not 0. `systems`: who said it.

    >>> Signals(queue=3).with_others(Signals(gpu_utilization=0.5, systems=("dcgm",)))
    Signals(queue=3, gpu_utilization=0.5, systems=('dcgm',))
    """

    inflight: float | None = None
    queue: float | None = None
    kv_cache: float | None = None
    gpu_utilization: float | None = None
    gpu_memory: float | None = None
    gpu_memory_used: float | None = None
    gpu_memory_total: float | None = None
    latency: float | None = None
    first_token: float | None = None
    queue_time: float | None = None
    qps: float | None = None
    eps: float | None = None
    faults: float | None = None
    systems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        said = [f"{f.name}={v!r}" for f in fields(self) if (v := getattr(self, f.name)) not in (None, ())]
        return f"Signals({', '.join(said)})"

    def with_others(self, other: Signals, /) -> Signals:
        """Both, this one first where both say something."""
        mine = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "systems"}
        both = {name: getattr(other, name) if value is None else value for name, value in mine.items()}
        return Signals(**both, systems=tuple(dict.fromkeys(self.systems + other.systems)))

    def observe(self, pool: Pool, id: str, /, *, now: float | None = None) -> None:
        """Tells the pool what it has a word for; `utilization` is that of the GPU. Raises what `observe` raises."""
        told = {
            "inflight": self.inflight,
            "queue": self.queue,
            "utilization": self.gpu_utilization,
            "latency": self.latency if self.first_token is None else self.first_token,
            "gpu_memory": self.gpu_memory,
            "kv_cache": self.kv_cache,
            "qps": self.qps,
            "eps": self.eps,
        }
        if any(value is not None for value in told.values()):
            pool.observe(id, now=now, **told)


_SHARES = frozenset({"kv_cache", "gpu_utilization", "gpu_memory"})
_NUMBERS = frozenset(f.name for f in fields(Signals) if f.name != "systems")


@dataclass(frozen=True)
class Source:
    """Where a signal comes from.

    `system`: who says it. `signal`: a field of Signals. `metric`: names of the series; the first one that is there
    counts. `labels`: only series with these. `scale`: what makes ours of its unit. `how` several series become one:
    "sum", "mean", or "count" of those that are not 0; "rate", the growth a second; "ratio" and "share", see `per`.
    `per`: for "ratio", the growth of `metric` over that of `per`; for "share", `metric` over the sum of it and `per`,
    or over `per` alone with `whole`. `plus`: a series that is added to `metric` ("sum"), where it is there.

    Raises ConfigError.

    >>> Source("mine", "kv_cache", ("my_kv_percent",), scale=0.01, how="mean").signal
    'kv_cache'
    """

    system: str
    signal: str
    metric: tuple[str, ...]
    scale: float = 1.0
    how: Literal["sum", "mean", "count", "rate", "ratio", "share"] = "sum"
    per: tuple[str, ...] = ()
    whole: bool = False
    plus: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.signal not in _NUMBERS:
            raise wrong("signal", self.signal, f"one of {', '.join(sorted(_NUMBERS))}")
        names: Any = self.metric
        if not isinstance(names, tuple) or not names:
            raise wrong("metric", self.metric, "a tuple of names of series")
        if self.how not in ("sum", "mean", "count", "rate", "ratio", "share"):
            raise wrong("how", self.how, "'sum', 'mean', 'count', 'rate', 'ratio' or 'share'")
        if bool(self.per) != (self.how in ("ratio", "share")):
            raise wrong("per", self.per, "names of series for 'ratio' and 'share', and only there")
        scale: Any = self.scale
        if not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise wrong("scale", self.scale, "a number above 0")


def _trt(signal: str, kind: str) -> Source:
    labels = (("request_type", kind),)
    return Source("tensorrt-llm", signal, ("nv_trt_llm_request_metrics",), labels=labels)


SOURCES: tuple[Source, ...] = (
    Source("vllm", "inflight", ("vllm:num_requests_running",)),
    Source("vllm", "queue", ("vllm:num_requests_waiting",)),
    # 0 to 1, whatever the name says; the second name is the older one.
    Source("vllm", "kv_cache", ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"), how="mean"),
    Source(
        "vllm",
        "first_token",
        ("vllm:time_to_first_token_seconds_sum",),
        how="ratio",
        per=("vllm:time_to_first_token_seconds_count",),
    ),
    Source(
        "vllm",
        "latency",
        ("vllm:e2e_request_latency_seconds_sum",),
        how="ratio",
        per=("vllm:e2e_request_latency_seconds_count",),
    ),
    Source("vllm", "qps", ("vllm:request_success_total",), how="rate"),
    Source("sglang", "inflight", ("sglang:num_running_reqs",)),
    Source("sglang", "queue", ("sglang:num_queue_reqs",)),
    Source("sglang", "kv_cache", ("sglang:token_usage",), how="mean"),
    Source(
        "sglang",
        "first_token",
        ("sglang:time_to_first_token_seconds_sum",),
        how="ratio",
        per=("sglang:time_to_first_token_seconds_count",),
    ),
    _trt("inflight", "scheduled"),
    _trt("queue", "waiting"),
    Source(
        "tensorrt-llm",
        "kv_cache",
        ("nv_trt_llm_kv_cache_block_metrics",),
        how="mean",
        labels=(("kv_cache_block_type", "fraction"),),
    ),
    Source("trtllm-serve", "inflight", ("trtllm_num_requests_running",)),
    Source("trtllm-serve", "queue", ("trtllm_num_requests_waiting",)),
    Source("trtllm-serve", "kv_cache", ("trtllm_kv_cache_utilization",), how="mean"),
    Source("triton", "queue", ("nv_inference_pending_request_count",)),
    Source(
        "triton",
        "latency",
        ("nv_inference_request_duration_us",),
        scale=1e-6,
        how="ratio",
        per=("nv_inference_request_success",),
    ),
    Source(
        "triton",
        "queue_time",
        ("nv_inference_queue_duration_us",),
        scale=1e-6,
        how="ratio",
        per=("nv_inference_request_success",),
    ),
    Source("triton", "qps", ("nv_inference_request_success",), how="rate", plus="nv_inference_request_failure"),
    Source("triton", "eps", ("nv_inference_request_failure",), how="rate"),
    Source("triton", "gpu_utilization", ("nv_gpu_utilization",), how="mean"),
    Source("triton", "gpu_memory_used", ("nv_gpu_memory_used_bytes",)),
    Source("triton", "gpu_memory_total", ("nv_gpu_memory_total_bytes",)),
    Source(
        "triton",
        "gpu_memory",
        ("nv_gpu_memory_used_bytes",),
        how="share",
        per=("nv_gpu_memory_total_bytes",),
        whole=True,
    ),
    Source("tgi", "inflight", ("tgi_batch_current_size",)),
    Source("tgi", "queue", ("tgi_queue_size",)),
    Source("tgi", "latency", ("tgi_request_duration_sum",), how="ratio", per=("tgi_request_duration_count",)),
    Source(
        "tgi",
        "queue_time",
        ("tgi_request_queue_duration_sum",),
        how="ratio",
        per=("tgi_request_queue_duration_count",),
    ),
    Source("dcgm", "gpu_utilization", ("DCGM_FI_DEV_GPU_UTIL",), scale=0.01, how="mean"),
    Source("dcgm", "gpu_memory", ("DCGM_FI_DEV_FB_USED",), how="share", per=("DCGM_FI_DEV_FB_FREE",)),
    Source("dcgm", "gpu_memory_used", ("DCGM_FI_DEV_FB_USED",), scale=_MIB),
    Source("dcgm", "gpu_memory_total", ("DCGM_FI_DEV_FB_USED",), scale=_MIB, plus="DCGM_FI_DEV_FB_FREE"),
    Source("dcgm", "faults", ("DCGM_FI_DEV_XID_ERRORS",), how="count"),
)
"""The table. Earlier rows win where two systems say the same."""


class _Series:
    """Samples by name."""

    def __init__(self, text: str, where: Mapping[str, str]) -> None:
        parser = need("prometheus_client.parser", "prometheus")
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        try:
            for family in parser.text_string_to_metric_families(text):
                for sample in family.samples:
                    if math.isfinite(sample.value) and all(sample.labels.get(k, v) == v for k, v in where.items()):
                        # The parser calls counters as OpenMetrics does; Triton and DCGM do not say "_total".
                        name = sample.name.removesuffix("_total") if family.type == "counter" else sample.name
                        self._samples.setdefault(name, []).append((sample.labels, sample.value))
        except (ValueError, KeyError, IndexError) as error:
            raise MetricError(f"text: not what Prometheus reads: {error}") from None

    def values(self, names: Iterable[str], labels: tuple[tuple[str, str], ...]) -> list[float]:
        """Of the first name that has any."""
        for name in names:
            samples = self._samples.get(name) or self._samples.get(name.removesuffix("_total"), [])
            found = [v for have, v in samples if all(have.get(k) == w for k, w in labels)]
            if found:
                return found
        return []


class SignalReader:
    """Reads what an endpoint shows to Prometheus, reading after reading.

    `sources` (SOURCES): the table; put your own rows in front. Rates and mean times come from two readings, so the
    first one has none of them, nor has one after a restart of the server.
    Raises ConfigError; `read` raises it when prometheus_client is missing (`pip install aibalance[prometheus]`).

    >>> reader = SignalReader()
    >>> text = '''
    ... vllm:num_requests_running{engine="0"} 5
    ... vllm:num_requests_waiting{engine="0"} 2
    ... vllm:kv_cache_usage_perc{engine="0"} 0.75
    ... DCGM_FI_DEV_GPU_UTIL{gpu="0"} 90
    ... '''
    >>> reader.read("gpu-1", text, now=0.0)
    Signals(inflight=5.0, queue=2.0, kv_cache=0.75, gpu_utilization=0.9, systems=('vllm', 'dcgm'))
    """

    def __init__(self, sources: Iterable[Source] = SOURCES, /) -> None:
        self._sources = tuple(sources)
        for source in self._sources:
            if not isinstance(source, Source):
                raise wrong("sources", source, "Source objects")
        self._before: dict[str, tuple[float, dict[int, tuple[float, float]]]] = {}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The table."""
        return self._sources

    def forget(self, id: str, /) -> None:
        """Drops what was read of an endpoint before."""
        self._before.pop(id, None)

    def read(self, id: str, text: str, /, *, now: float, where: Mapping[str, str] | None = None) -> Signals:
        """The signals in a text in Prometheus' format, of the endpoint `id` at `now` (seconds).

        `where`: labels that series must have if they have such a label, as `{"pod": "llm-0"}` for an exporter that
        speaks for a whole node. Raises MetricError for a text that is none, for a share that cannot be one (a
        percentage where a part of 1 is due) and for a negative number.
        """
        series = _Series(text, {} if where is None else where)
        then, before = self._before.get(id, (-math.inf, {}))
        after: dict[int, tuple[float, float]] = {}
        found: dict[str, float] = {}
        systems: dict[str, None] = {}
        for i, source in enumerate(self._sources):
            value = _value(source, series, before.get(i), after, i, now - then)
            if value is None:
                continue
            systems[source.system] = None
            value *= source.scale if source.how != "share" else 1.0
            if value < 0 or (source.signal in _SHARES and value > 1.5):
                kind = "a share from 0 to 1" if source.signal in _SHARES else "a number of 0 or more"
                raise MetricError(f"{source.metric[0]}: {value:g} is not allowed; {kind}")
            found.setdefault(source.signal, value)
        self._before[id] = (now, after)
        return Signals(**found, systems=tuple(systems))


def _value(
    source: Source,
    series: _Series,
    before: tuple[float, float] | None,
    after: dict[int, tuple[float, float]],
    i: int,
    elapsed: float,
) -> float | None:
    own = series.values(source.metric, source.labels)
    if not own:
        return None
    total = math.fsum(own)
    if source.plus is not None:
        total += math.fsum(series.values((source.plus,), source.labels))
    if source.how == "sum":
        return total
    if source.how == "mean":
        return total / len(own)
    if source.how == "count":
        return float(sum(1 for value in own if value))
    per = math.fsum(series.values(source.per, source.labels))
    if source.how == "share":
        whole = per if source.whole else total + per
        return total / whole if whole > 0 else None
    after[i] = (total, per)
    if before is None or total < before[0] or per < before[1]:
        return None  # the first reading, or counters that began anew
    if source.how == "rate":
        return (total - before[0]) / elapsed if elapsed > 0 else None
    return (total - before[0]) / (per - before[1]) if per > before[1] else None


def observation(signals: Iterable[Signals], /, *, current: int, **metrics: float | None) -> dict[str, Any]:
    """What a scaling policy is told of a fleet: means a server, under the names that AiScaling's signals have.

    `signals`: one of each server that answered. `queue`, `kv_cache`, `gpu_utilization`, `gpu_memory` are means of those
    that say them, and missing (None) where nobody does; more `metrics` are added as they are. `current`: servers.

    >>> observation([Signals(queue=4, kv_cache=0.5), Signals(queue=8)], current=2, tokens_per_s=900.0)["metrics"]
    {'queue': 6.0, 'kv_cache': 0.5, 'gpu_utilization': None, 'gpu_memory': None, 'tokens_per_s': 900.0}
    """
    given = list(signals)
    told: dict[str, float | None] = {}
    for name in ("queue", "kv_cache", "gpu_utilization", "gpu_memory"):
        values = [value for one in given if (value := getattr(one, name)) is not None]
        told[name] = math.fsum(values) / len(values) if values else None
    return {"current": current, "metrics": {**told, **metrics}}


def read_nvml(gpus: Iterable[int] | None = None, /) -> Signals | None:
    """Utilization and memory of this machine's GPUs by NVML (`pip install aibalance[nvml]`); None without a driver.

    `gpus` (None): their numbers; None is all of them. Utilization is the mean, memory is summed; a GPU that does not
    say its utilization (some virtual ones) counts for its memory only. Raises ConfigError for a GPU that is not there,
    or when nvidia-ml-py is not installed.

    >>> found = read_nvml()
    >>> found is None or found.systems == ("nvml",)
    True
    """
    nvml = need("pynvml", "nvml")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        count = nvml.nvmlDeviceGetCount()
        busy, used, total = [], 0.0, 0.0
        wanted: Iterable[Any] = range(count) if gpus is None else gpus
        for gpu in wanted:
            if not isinstance(gpu, int) or isinstance(gpu, bool) or not 0 <= gpu < count:
                raise ConfigError(f"gpus: {gpu!r} is not allowed; numbers from 0 to {count - 1}")
            handle = nvml.nvmlDeviceGetHandleByIndex(gpu)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            used, total = used + memory.used, total + memory.total
            try:
                busy.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except nvml.NVMLError:
                continue
        return Signals(
            gpu_utilization=math.fsum(busy) / len(busy) if busy else None,
            gpu_memory=used / total if total else None,
            gpu_memory_used=used if total else None,
            gpu_memory_total=total or None,
            systems=("nvml",),
        )
    finally:
        nvml.nvmlShutdown()
