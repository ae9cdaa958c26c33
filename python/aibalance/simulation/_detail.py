"""What a scenario may have beyond plain servers, one balancer and open traffic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ConfigError
from . import _checks as check
from ._traffic import LAWS, Service, TraceLike

SHARED_QUEUE = "SharedQueue"
"""The name that `[[balancers]]` uses for workers that pull from one queue."""


def law(field: str, given: Any) -> Service:
    """A law from a Service, a number of seconds, or a table with `kind` as in `[service]`."""
    if isinstance(given, Service):
        return given
    if isinstance(given, Mapping):
        rest = dict(given)
        kind = rest.pop("kind", None)
        check.choice(f"{field}.kind", kind, LAWS)
        try:
            return Service(kind, **rest)
        except ConfigError as error:
            raise ConfigError(str(error).replace("service", field, 1)) from error
    return Service("deterministic", value_s=check.seconds(field, given))


@dataclass(frozen=True, kw_only=True)
class ClosedTraffic:
    """Users who send a request, wait for its answer, and think before the next: a closed loop.

    Parameters
    ----------
    users : how many (1 to 1,000,000).
    think : from an answer to the next request: a Service law, or seconds. Every user begins by thinking.

    A request that is rejected, fails or times out is an answer too.

    >>> ClosedTraffic(users=5000, think=Service("exponential", mean_s=30)).describe()
    '5000 users who think: exponential (mean_s 30)'
    """

    users: int
    think: Service | float

    def __post_init__(self) -> None:
        check.whole("traffic.users", self.users, 1, 1_000_000)
        object.__setattr__(self, "think", law("traffic.think", self.think))

    def describe(self) -> str:
        """One line for people."""
        assert isinstance(self.think, Service)
        return f"{self.users} users who think: {self.think.describe()}"


@dataclass(frozen=True, kw_only=True)
class LLMService:
    """Servers that generate text by continuous batching. `concurrency` is the largest batch, speed divides step times.

    A step takes

        step_s + sequence_s * B + prefill_s_per_token * P + cached_s_per_token * K

    for B sequences that decode, P prompt tokens that are read in it and K tokens in the KV cache, and brings each of
    the B sequences one token. Requests join and leave between steps. Prompts are read first come first served, at most
    `prefill_chunk` tokens a step; the end of a prompt brings the first token.

    Parameters
    ----------
    input_tokens, output_tokens : a number, or a law of a number of tokens: a mapping with `kind` as in `[service]`
        and its
        parameters without `_s`, or `{"kind": "geometric", "mean": m}`. Not given with a trace, which has its own.
    step_s, sequence_s : the defaults are Llama-2-70B on eight H100 in the profile of the Splitwise simulator: 29.8
        ms and 0.31 ms.
    prefill_s_per_token : the default is 0.1 ms (the same profile, up to 2,048 tokens).
    cached_s_per_token : default 0.
    prefill_chunk : tokens (default 2048).
    kv_tokens : tokens that the KV cache holds (default 500,000). When it is full the newest sequence is preempted
        and its tokens are computed anew later. A request that can never fit is rejected.
    block_tokens : tokens a block of the prefix cache (default 16; 0 for no cache). Blocks stay until room is needed,
        the least recently used first.
    prefix_tokens : tokens at the front of the prompt, beside `input_tokens`, that requests of one key share (default
        0). With a trace its own blocks are used, and the balancer's key is the first block.

    Sources: Yu et al., Orca, OSDI 2022; Kwon et al., vLLM, SOSP 2023; Agrawal et al., Sarathi-Serve, OSDI 2024; the
    figures from Patel et al., Splitwise, ISCA 2024.

    >>> LLMService(input_tokens=1000, output_tokens={"kind": "geometric", "mean": 200}).describe()
    'batches: a step of 29.8 ms + 0.31 ms a sequence + 0.1 ms a prompt token'
    """

    input_tokens: Any = None
    output_tokens: Any = None
    step_s: float = 0.0298
    sequence_s: float = 0.00031
    prefill_s_per_token: float = 0.0001
    cached_s_per_token: float = 0.0
    prefill_chunk: int = 2048
    kv_tokens: int = 500_000
    block_tokens: int = 16
    prefix_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("step_s", "sequence_s", "prefill_s_per_token", "cached_s_per_token"):
            check.number(f"service.{name}", getattr(self, name), 0, 1e6, unit="seconds")
        if self.step_s + self.sequence_s <= 0:
            raise check.wrong("service.step_s", self.step_s, "a step that takes time")
        check.whole("service.prefill_chunk", self.prefill_chunk, 1, 2**32 - 1)
        check.whole("service.kv_tokens", self.kv_tokens, 1, 2**53)
        check.whole("service.block_tokens", self.block_tokens, 0, 2**32 - 1)
        check.whole("service.prefix_tokens", self.prefix_tokens, 0, 2**32 - 1)
        if self.prefix_tokens and not self.block_tokens:
            raise check.wrong("service.prefix_tokens", self.prefix_tokens, "0 without a prefix cache (block_tokens 0)")
        if (self.input_tokens is None) != (self.output_tokens is None):
            raise check.wrong(
                "service.output_tokens", self.output_tokens, "both input_tokens and output_tokens, or none"
            )
        if self.input_tokens is not None:
            self._laws()

    def _laws(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return _lengths("input_tokens", self.input_tokens), _lengths("output_tokens", self.output_tokens)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"batches: a step of {self.step_s * 1e3:g} ms + {self.sequence_s * 1e3:g} ms a sequence + "
            f"{self.prefill_s_per_token * 1e3:g} ms a prompt token"
        )

    def _core(self) -> dict[str, Any]:
        # Work is counted in tokens, which come from the laws or, by the row that an arrival brings, from the trace.
        return {"kind": "given" if self.input_tokens is None else "deterministic", "a": [0.0], "b": []}

    def _batch(self) -> dict[str, Any]:
        return {
            "step_s": float(self.step_s),
            "sequence_s": float(self.sequence_s),
            "prefill_s": float(self.prefill_s_per_token),
            "cached_s": float(self.cached_s_per_token),
            "chunk": self.prefill_chunk,
            "kv_tokens": self.kv_tokens,
            "block_tokens": self.block_tokens,
        }


def _lengths(name: str, given: Any) -> dict[str, Any]:
    field = f"service.{name}"
    if not isinstance(given, Mapping):
        return {"kind": "deterministic", "a": [check.number(field, given, 0, 1e9, unit="tokens")], "b": []}
    rest = dict(given)
    kind = rest.pop("kind", None)
    if kind == "geometric":
        for key in rest:
            if key != "mean":
                raise ConfigError(f"{field}.{key}: unknown key; allowed for geometric: mean")
        return {"kind": kind, "a": [check.number(f"{field}.mean", rest.get("mean"), 1, 1e9, unit="tokens")], "b": []}
    check.choice(f"{field}.kind", kind, ("geometric", *LAWS))
    timed = [key for key in LAWS[kind] if key.endswith("_s")]
    try:
        return Service(
            kind, **{f"{key}_s" if f"{key}_s" in timed else key: value for key, value in rest.items()}
        )._core()
    except ConfigError as error:
        message = str(error).replace("service", field, 1).replace(" seconds", " tokens")
        for key in timed:
            message = message.replace(key, key.removesuffix("_s"))
        raise ConfigError(message) from error


@dataclass(frozen=True, kw_only=True)
class RequestClass:
    """A class of requests in a mixture.

    Parameters
    ----------
    name : as reports show it.
    share : its share of the requests, relative to the other classes (default 1).
    priority : 0 goes first (0 to 255, default 0); for servers of discipline "priority" and for a shared queue.
    service : its own law of work (default: the scenario's).
    slo_s : its own objective (default: the scenario's).
    """

    name: str
    share: float = 1.0
    priority: int = 0
    service: Service | None = None
    slo_s: float | None = None

    def __post_init__(self) -> None:
        check.text("classes.name", self.name)
        check.number("classes.share", self.share, 0, 1e9)
        check.whole("classes.priority", self.priority, 0, 255)
        if self.service is not None:
            object.__setattr__(self, "service", law("classes.service", self.service))
        if self.slo_s is not None:
            check.seconds("classes.slo_s", self.slo_s, above=True)

    def _core(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "share": float(self.share),
            "priority": self.priority,
            "service": None if self.service is None else self.service._core(),
            "slo_s": None if self.slo_s is None else float(self.slo_s),
        }


def _budget(where: str, budget: Any, burst: Any) -> None:
    if budget is not None:
        check.number(f"{where}.budget", budget, 0, 100)
    check.number(f"{where}.budget_burst", burst, 0, 1e9)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """An attempt that is rejected, fails or takes too long is repeated, on another server if there is one.

    Parameters
    ----------
    max_attempts : attempts of a request in all (1 to 1000, default 3).
    backoff_s : before retry k a uniform wait of 0 to (2^k - 1) times this, as in Envoy (default 0.025).
    budget : each request brings this much credit and a retry takes 1 (default 0.2); None for no budget.
    budget_burst : credit at the start, and the most that is kept (default 10).
    attempt_timeout_s : an attempt without an answer for so long is cancelled and counts as failed (default: never).

    The scenario's `timeout_s` stays the limit for the request as a whole.
    """

    max_attempts: int = 3
    backoff_s: float = 0.025
    budget: float | None = 0.2
    budget_burst: float = 10.0
    attempt_timeout_s: float | None = None

    def __post_init__(self) -> None:
        check.whole("retries.max_attempts", self.max_attempts, 1, 1000)
        check.seconds("retries.backoff_s", self.backoff_s)
        _budget("retries", self.budget, self.budget_burst)
        if self.attempt_timeout_s is not None:
            check.seconds("retries.attempt_timeout_s", self.attempt_timeout_s, above=True)


@dataclass(frozen=True, kw_only=True)
class Hedging:
    """A second attempt on another server while the first is under way; the first answer counts.

    Parameters
    ----------
    after_s : so long after the arrival; or
    after_quantile : when so large a share of requests has been answered by then (0 to 0.9999): a live quantile of the
        latencies of the run, once there are 100.
    budget : each request brings this much credit and a hedge takes 1 (default 0.05); None for no budget.
    budget_burst : credit at the start, and the most that is kept (default 10).
    cancel : whether the loser's work is cancelled (default True).

    Source: Dean, Barroso, "The tail at scale", CACM 2013.
    """

    after_s: float | None = None
    after_quantile: float | None = None
    budget: float | None = 0.05
    budget_burst: float = 10.0
    cancel: bool = True

    def __post_init__(self) -> None:
        if (self.after_s is None) == (self.after_quantile is None):
            raise ConfigError("hedging.after_s: exactly one of after_s and after_quantile is needed")
        if self.after_s is not None:
            check.seconds("hedging.after_s", self.after_s)
        else:
            check.number("hedging.after_quantile", self.after_quantile, 0, 0.9999)
        _budget("hedging", self.budget, self.budget_burst)
        if not isinstance(self.cancel, bool):
            raise check.wrong("hedging.cancel", self.cancel, "true or false")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Between balancer and server: `delay` one way, a Service law or seconds, drawn anew for each way."""

    delay: Service | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "delay", law("network.delay", self.delay))


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Servers die and come back. What a server had is lost; its requests fail at once, as they do while it is dead and
    balancers still choose it.

    Parameters
    ----------
    mean_up_s, mean_down_s : mean times to failure and to repair of each server, exponential.
    detect_s : how long balancers go on choosing a dead server (default 5).
    """

    mean_up_s: float
    mean_down_s: float
    detect_s: float = 5.0

    def __post_init__(self) -> None:
        check.seconds("failures.mean_up_s", self.mean_up_s, above=True)
        check.seconds("failures.mean_down_s", self.mean_down_s, above=True)
        check.seconds("failures.detect_s", self.detect_s)


@dataclass(frozen=True, kw_only=True)
class Antagonists:
    """Neighbours on the same machines that take speed from some servers now and then.

    Parameters
    ----------
    share : part of the servers that have such a neighbour, 0 to 1.
    speed : the server's speed while the neighbour is at work, relative to its usual (0.001 to 1000).
    mean_on_s, mean_off_s : mean times at work and at rest, exponential; `mean_off_s` 0 (default) for never at rest.
    """

    share: float
    speed: float
    mean_on_s: float = 1.0
    mean_off_s: float = 0.0

    def __post_init__(self) -> None:
        check.number("antagonists.share", self.share, 0, 1)
        check.number("antagonists.speed", self.speed, 1e-3, 1e3)
        check.seconds("antagonists.mean_on_s", self.mean_on_s, above=True)
        check.seconds("antagonists.mean_off_s", self.mean_off_s)


@dataclass(frozen=True, kw_only=True)
class Dispatchers:
    """Several balancers in front of one fleet, each with a pool of its own, and what they know.

    Parameters
    ----------
    count : how many (1 to 100,000, default 1).
    view : what a balancer goes by. "local" (default): what it sent itself. "board": how many requests each server
        had at the last refresh. "idle": the idle servers that enlisted with it; one that becomes idle enlists with one
        balancer
        at random, and leaves when a request comes. "board" and "idle" are for pickers that go by numbers of requests.
    refresh_s : time between two refreshes of the board.
    correct : whether a balancer adds to the board what it has sent since, less what has come back (default False).
    assign : which balancer gets a request: "random" (default) or "rotate".

    Sources: Mitzenmacher, "How useful is old information?", TPDS 2000; Lu et al., "Join-Idle-Queue", Performance
    Evaluation 2011.
    """

    count: int = 1
    view: str = "local"
    refresh_s: float | None = None
    correct: bool = False
    assign: str = "random"

    def __post_init__(self) -> None:
        check.whole("dispatchers.count", self.count, 1, 100_000)
        check.choice("dispatchers.view", self.view, ("local", "board", "idle"))
        check.choice("dispatchers.assign", self.assign, ("random", "rotate"))
        if (self.view == "board") != (self.refresh_s is not None):
            raise check.wrong(
                "dispatchers.refresh_s", self.refresh_s, "a number of seconds with view board, and only then"
            )
        if self.refresh_s is not None:
            check.number("dispatchers.refresh_s", self.refresh_s, 1e-9, 1e9, unit="seconds")
        if not isinstance(self.correct, bool):
            raise check.wrong("dispatchers.correct", self.correct, "true or false")
        if self.correct and self.view != "board":
            raise check.wrong("dispatchers.correct", True, "false without view board")

    def _core(self) -> dict[str, Any]:
        return {
            "view": self.view,
            "refresh_s": float(self.refresh_s or 0.0),
            "correct": self.correct,
            "assign": self.assign,
        }


@dataclass(frozen=True, kw_only=True)
class Reports:
    """What servers tell balancers of themselves, as `pool.observe` takes it.

    Parameters
    ----------
    every_s : every server tells every balancer so often its requests in flight, an estimate of latency, utilization and
        answers a second (default None, not at all).
    probes : pickers that probe (Prequal) probe some servers with each request, at once (default True); a picker of your
        own does not.

    The estimate is the median of the eight of a server's last 32 answers whose requests met about as many others as are
    there now.

    Source: Wydrowski et al., Prequal, NSDI 2024.
    """

    every_s: float | None = None
    probes: bool = True

    def __post_init__(self) -> None:
        if self.every_s is not None:
            check.number("reports.every_s", self.every_s, 1e-6, 1e9, unit="seconds")
        if not isinstance(self.probes, bool):
            raise check.wrong("reports.probes", self.probes, "true or false")
        if self.every_s is None and not self.probes:
            raise check.wrong("reports.probes", False, "probes, every_s, or no reports at all")


def shared_queue(options: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """The options of a SharedQueue: `limit` (requests that may wait) and `longest_wait_s`."""
    for key in options:
        if key not in ("limit", "longest_wait_s"):
            raise ConfigError(
                f"balancers.options.{key}: unknown key; allowed for {SHARED_QUEUE}: limit, longest_wait_s"
            )
    limit, longest = options.get("limit"), options.get("longest_wait_s")
    if limit is not None:
        check.whole("balancers.options.limit", limit, 0, 1_000_000_000)
    if longest is not None:
        check.seconds("balancers.options.longest_wait_s", longest)
    return limit, None if longest is None else float(longest)


def token_columns(trace: TraceLike) -> tuple[NDArray[np.int64], ...]:
    """Prompt and answer lengths of a trace, its blocks, and where those of each request begin."""
    n = len(trace.arrival_s)
    values = getattr(trace, "hash_values", None)
    offsets = getattr(trace, "hash_offsets", None)
    if values is None or offsets is None:
        values, offsets = np.zeros(0, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    columns = (trace.input_tokens, trace.output_tokens, values, offsets)
    return tuple(np.ascontiguousarray(column, dtype=np.int64) for column in columns)


def core(scenario: Any, pull: tuple[int | None, float | None] | None) -> dict[str, Any] | None:
    """What the core takes for a detailed run; None when the scenario needs none."""
    fleet, service, traffic = scenario.fleet, scenario.service, scenario.traffic
    batch = isinstance(service, LLMService)
    closed = isinstance(traffic, ClosedTraffic)
    extras = (
        scenario.retries,
        scenario.hedging,
        scenario.network,
        scenario.failures,
        scenario.antagonists,
        scenario.reports,
        pull,
    )
    plain = fleet.discipline == "fifo" and fleet.warm_speed is None and not scenario.classes and not batch
    if plain and not closed and all(one is None for one in extras):
        return None
    retries, hedging, failures, neighbours = (
        scenario.retries,
        scenario.hedging,
        scenario.failures,
        scenario.antagonists,
    )
    reads, writes = service._laws() if batch and service.input_tokens is not None else (None, None)
    return {
        "discipline": "batch" if batch else fleet.discipline,
        "sharing_limit": fleet.sharing_limit,
        "batch": service._batch() if batch else None,
        "input": reads,
        "output": writes,
        "prefix": service.prefix_tokens if batch else 0,
        "pull": pull,
        "retry": None
        if retries is None
        else (
            retries.max_attempts,
            float(retries.backoff_s),
            retries.budget,
            float(retries.budget_burst),
            retries.attempt_timeout_s,
        ),
        "hedge": None
        if hedging is None
        else (hedging.after_s, hedging.after_quantile, hedging.budget, float(hedging.budget_burst), hedging.cancel),
        "fresh_work": scenario.work_per == "attempt",
        "network": None if scenario.network is None else scenario.network.delay._core(),
        "users": (traffic.users, traffic.think._core()) if closed else None,
        "classes": [one._core() for one in scenario.classes],
        "failures": None
        if failures is None
        else (float(failures.mean_up_s), float(failures.mean_down_s), float(failures.detect_s)),
        "antagonists": None
        if neighbours is None
        else (
            float(neighbours.share),
            float(neighbours.speed),
            float(neighbours.mean_on_s),
            float(neighbours.mean_off_s),
        ),
        "reports": None if scenario.reports is None else (scenario.reports.every_s, scenario.reports.probes),
        "warm_up": None if fleet.warm_speed is None else (float(fleet.warm_speed), float(fleet.warm_s)),
    }
