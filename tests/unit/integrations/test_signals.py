"""Signals of model servers and GPUs: names, units, several series; against texts as the servers write them."""

from __future__ import annotations

import asyncio
import sys
import types
from typing import Any

import pytest

from aibalance import ConfigError, LeastRequest, ManualClock, MetricError, Pool
from aibalance.autoscaling import AiScaling, KvCacheUsage, QueueLength
from aibalance.integrations.signals import (
    SOURCES,
    SignalPoller,
    SignalReader,
    Signals,
    Source,
    observation,
    read_nvml,
)

from .backends import Say, always, backends, closed_port

pytest.importorskip("prometheus_client")

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 5.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
"""
VLLM_TOTALS = """# TYPE vllm:request_success counter
vllm:request_success_total{{finished_reason="stop"}} {stop}
vllm:request_success_total{{finished_reason="length"}} {length}
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {n}
vllm:time_to_first_token_seconds_count {n}
vllm:time_to_first_token_seconds_sum {ttft}
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{{le="+Inf"}} {n}
vllm:e2e_request_latency_seconds_count {n}
vllm:e2e_request_latency_seconds_sum {e2e}
"""
TRITON = """# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="a",version="1"}} {good}
nv_inference_request_success{{model="b",version="1"}} 100
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="a",reason="OTHER",version="1"}} {bad}
# TYPE nv_inference_request_duration_us counter
nv_inference_request_duration_us{{model="a",version="1"}} {us}
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="a",version="1"}} {queue_us}
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{{model="a",version="1"}} 4
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{{gpu_uuid="GPU-0"}} 0.8
nv_gpu_utilization{{gpu_uuid="GPU-1"}} 0.4
# TYPE nv_gpu_memory_total_bytes gauge
nv_gpu_memory_total_bytes{{gpu_uuid="GPU-0"}} 8e10
nv_gpu_memory_total_bytes{{gpu_uuid="GPU-1"}} 8e10
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-0"}} 6e10
nv_gpu_memory_used_bytes{{gpu_uuid="GPU-1"}} 2e10
"""
TRT = """# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 6
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 8
nv_trt_llm_request_metrics{model="m",request_type="active",version="1"} 14
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m",version="1"} 0.125
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m",version="1"} 6239
"""
DCGM = """# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",pod="llm-0"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",pod="llm-1"} 10
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="0",pod="llm-0"} 20480
DCGM_FI_DEV_FB_FREE{gpu="1",pod="llm-1"} 81920
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="0",pod="llm-0"} 61440
DCGM_FI_DEV_FB_USED{gpu="1",pod="llm-1"} 0
# TYPE DCGM_FI_DEV_XID_ERRORS gauge
DCGM_FI_DEV_XID_ERRORS{gpu="0",pod="llm-0"} 79
DCGM_FI_DEV_XID_ERRORS{gpu="1",pod="llm-1"} 0
"""
GIB = float(1 << 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (VLLM, Signals(inflight=7, queue=3, kv_cache=0.375, systems=("vllm",))),
        ("vllm:gpu_cache_usage_perc 0.5\n", Signals(kv_cache=0.5, systems=("vllm",))),
        # In a version that shows both, the newer name counts, and only that.
        ("vllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.5\n", Signals(kv_cache=0.5, systems=("vllm",))),
        (
            "sglang:num_running_reqs 4\nsglang:num_queue_reqs 1\nsglang:token_usage 0.28\n",
            Signals(inflight=4, queue=1, kv_cache=0.28, systems=("sglang",)),
        ),
        (TRT, Signals(inflight=8, queue=6, kv_cache=0.125, systems=("tensorrt-llm",))),
        (
            "trtllm_num_requests_running 2\ntrtllm_num_requests_waiting 9\ntrtllm_kv_cache_utilization 0.9\n",
            Signals(inflight=2, queue=9, kv_cache=0.9, systems=("trtllm-serve",)),
        ),
        ("tgi_queue_size 5\ntgi_batch_current_size 32\n", Signals(inflight=32, queue=5, systems=("tgi",))),
        (
            DCGM,
            Signals(
                gpu_utilization=0.5,
                gpu_memory=0.375,
                gpu_memory_used=60 * GIB,
                gpu_memory_total=160 * GIB,
                faults=1,
                systems=("dcgm",),
            ),
        ),
        ("", Signals()),
        ("vllm:num_requests_waiting NaN\nup 1\n", Signals()),
    ],
)
def test_each_system_in_one_set_of_units(text: str, said: Signals) -> None:
    assert SignalReader().read("a", text, now=0.0) == said


def test_an_exporter_that_speaks_for_a_node_is_read_for_one_pod() -> None:
    said = SignalReader().read("llm-0", DCGM + VLLM, now=0.0, where={"pod": "llm-0"})
    assert (said.gpu_utilization, said.gpu_memory, said.faults, said.inflight) == (0.9, 0.75, 1, 7)


def test_rates_and_mean_times_come_from_two_readings() -> None:
    reader = SignalReader()
    first = reader.read("a", VLLM_TOTALS.format(stop=90, length=10, n=100, ttft=20.0, e2e=500.0), now=10.0)
    assert (first.qps, first.latency, first.first_token) == (None, None, None)
    second = reader.read("a", VLLM_TOTALS.format(stop=100, length=10, n=110, ttft=25.0, e2e=540.0), now=14.0)
    assert (second.qps, second.latency, second.first_token) == (2.5, 4.0, 0.5)
    other = reader.read("b", VLLM_TOTALS.format(stop=1, length=1, n=2, ttft=1, e2e=1), now=14.0)
    assert other.qps is None, "another endpoint"
    again = reader.read("a", VLLM_TOTALS.format(stop=3, length=0, n=3, ttft=1.0, e2e=3.0), now=16.0)
    assert (again.qps, again.latency) == (None, None), "it was restarted"
    idle = reader.read("a", VLLM_TOTALS.format(stop=3, length=0, n=3, ttft=1.0, e2e=3.0), now=18.0)
    assert (idle.qps, idle.latency) == (0.0, None), "no request, no time"
    same = reader.read("a", VLLM_TOTALS.format(stop=9, length=0, n=9, ttft=2.0, e2e=9.0), now=18.0)
    assert same.qps is None, "no time has passed"
    reader.forget("a")
    gone = reader.read("a", VLLM_TOTALS.format(stop=10, length=0, n=10, ttft=2.0, e2e=9.0), now=20.0)
    assert gone.qps is None


def test_triton_counts_microseconds() -> None:
    reader = SignalReader()
    reader.read("a", TRITON.format(good=100, bad=0, us=1e6, queue_us=1e5), now=0.0)
    said = reader.read("a", TRITON.format(good=140, bad=10, us=5e6, queue_us=9e5), now=10.0)
    assert said.latency == pytest.approx(0.1)
    assert said.queue_time == pytest.approx(0.02)
    assert (said.qps, said.eps, said.queue) == (5.0, 1.0, 4.0)
    assert (said.gpu_utilization, said.gpu_memory, said.gpu_memory_used) == (pytest.approx(0.6), 0.5, 8e10)


def test_units_that_are_wrong_are_refused() -> None:
    reader = SignalReader()
    with pytest.raises(MetricError, match=r"vllm:kv_cache_usage_perc: 37 is not allowed; a share from 0 to 1"):
        reader.read("a", "vllm:kv_cache_usage_perc 37\n", now=0.0)
    with pytest.raises(MetricError, match="num_requests_waiting: -1"):
        reader.read("a", "vllm:num_requests_waiting -1\n", now=0.0)
    for text in ("<html>no metrics</html>\n", 'a{b="c 1\n', "a b c d e\n"):
        with pytest.raises(MetricError, match="text: "):
            reader.read("a", text, now=0.0)


def test_rows_of_ones_own_come_first() -> None:
    mine = Source("mine", "queue", ("backlog_thousands",), scale=1000)
    said = SignalReader((mine, *SOURCES)).read("a", VLLM + "backlog_thousands 2\n", now=0.0)
    assert (said.queue, said.inflight, said.systems) == (2000.0, 7.0, ("mine", "vllm"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"signal": "speed"}, "signal: 'speed'"),
        ({"metric": "text"}, "metric: 'text'"),
        ({"metric": ()}, "metric: ()"),
        ({"how": "max"}, "how: 'max'"),
        ({"how": "share"}, r"per: \(\)"),
        ({"per": ("x",)}, r"per: \('x',\)"),
        ({"scale": 0}, "scale: 0"),
    ],
)
def test_rows_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Source(**{"system": "s", "signal": "queue", "metric": ("m",), **options})
    with pytest.raises(ConfigError, match="sources: 1"):
        SignalReader([1])  # type: ignore[list-item]


def test_the_pool_is_told_and_picks_by_it() -> None:
    pool = Pool(["a", "b"], clock=ManualClock(0.0))
    Signals(inflight=7, queue=3, kv_cache=0.4, gpu_memory=0.5, gpu_utilization=0.9).observe(pool, "a")
    assert pool.stats()[0].report == {"inflight": 7, "queue": 3, "utilization": 0.9, "gpu_memory": 0.5, "kv_cache": 0.4}
    assert pool.stats()[0].load == 10
    assert LeastRequest(pool, full_scan=True).pick().id == "b"
    Signals(systems=("x",)).observe(pool, "b")
    assert pool.stats()[1].report is None


def test_observations_are_means_over_those_that_say_something() -> None:
    told = observation([Signals(queue=10, kv_cache=0.9), Signals(queue=20), Signals()], current=3)
    assert told == {
        "current": 3,
        "metrics": {"queue": 15.0, "kv_cache": 0.9, "gpu_utilization": None, "gpu_memory": None},
    }
    policy = AiScaling(signals=[QueueLength(5), KvCacheUsage(0.9)], max_replicas=20, metric_delay=0.0)
    assert policy.recommend(told, now=0.0).desired == 9


def test_both_say_something() -> None:
    both = Signals(queue=1, systems=("vllm",)).with_others(Signals(queue=2, faults=1, systems=("dcgm", "vllm")))
    assert both == Signals(queue=1, faults=1, systems=("vllm", "dcgm"))


def test_polling_tells_the_pool_and_survives_whoever_is_not_well() -> None:
    pytest.importorskip("httpx")
    vllm = always(body=VLLM.encode())
    with backends(vllm, always(status=500), always(body=b"<html>"), always(wait=30)) as servers:
        dead = closed_port()
        pool = Pool([*(s.address for s in servers), dead], seed=1)
        poller = SignalPoller(pool, timeout=0.5)
        said = asyncio.run(poller.poll_once())
        good, bad, odd, slow = (s.address for s in servers)
        assert set(said) == {good}
        assert {r.id: r.load for r in pool.stats()}[good] == 10
        errors = poller.errors
        assert errors[bad] == "status 500"
        assert errors[odd].startswith("text: ")
        assert errors[slow] == "no answer in 0.5 s" or "Timeout" in errors[slow]
        assert "Connect" in errors[dead]
        assert poller.observation(current=2, x=1.0)["metrics"]["x"] == 1.0
        assert [g.target for g in servers[0].got] == ["/metrics"]


def test_polling_in_the_background_follows_the_pool() -> None:
    pytest.importorskip("httpx")
    waiting = [1.0]

    def answer(got: Any) -> Say:
        return Say(body=f"tgi_queue_size {waiting[0]}\n".encode())

    with backends(answer, answer) as servers:
        pool = Pool([servers[0].address])

        async def until(condition: Any) -> None:
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.01)

        async def main() -> None:
            async with SignalPoller(pool, interval=0.02, url=lambda e: f"http://{e.address}/m?x=1") as poller:
                assert poller.signals == {servers[0].address: Signals(queue=1.0, systems=("tgi",))}
                waiting[0] = 5.0
                await until(lambda: pool.stats()[0].load == 5)
                pool.update([servers[1].address])
                await until(lambda: set(poller.signals) == {servers[1].address})
                assert poller.observation()["current"] == 1

        asyncio.run(main())
        assert servers[0].got[0].target == "/m?x=1"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"path": "metrics"}, "path: 'metrics'"), ({"interval": 0}, "interval: 0"), ({"timeout": True}, "timeout: True")],
)
def test_pollers_that_cannot_be(options: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SignalPoller(Pool(["a"]), **options)
    with pytest.raises(ConfigError, match="pool: "):
        SignalPoller(["a"])  # type: ignore[arg-type]


def test_nvml_without_a_driver_says_nothing() -> None:
    pytest.importorskip("pynvml")
    said = read_nvml()
    assert said is None or said.systems == ("nvml",)


def test_nvml_percent_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = types.ModuleType("pynvml")
    fake.NVMLError = RuntimeError
    fake.nvmlInit = fake.nvmlShutdown = lambda: None
    fake.nvmlDeviceGetCount = lambda: 3
    fake.nvmlDeviceGetHandleByIndex = lambda i: i
    fake.nvmlDeviceGetMemoryInfo = lambda i: types.SimpleNamespace(used=20 * GIB, total=80 * GIB)

    def rates(i: int) -> Any:
        if i == 2:
            raise RuntimeError("Not Supported")
        return types.SimpleNamespace(gpu=(40, 60)[i])

    fake.nvmlDeviceGetUtilizationRates = rates
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    said = read_nvml()
    assert said is not None
    assert (said.gpu_utilization, said.gpu_memory, said.gpu_memory_used) == (0.5, 0.25, 60 * GIB)
    one = read_nvml([1])
    assert one is not None
    assert (one.gpu_utilization, one.gpu_memory_total) == (0.6, 80 * GIB)
    with pytest.raises(ConfigError, match="gpus: 3"):
        read_nvml([3])
