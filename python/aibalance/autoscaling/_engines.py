"""What one model server can take: its latencies by load, and the highest rate within goals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .._errors import ConfigError
from ._signals import _positive, least_zero

__all__ = ["EngineLatency", "ServingEstimate"]


class ServingEstimate(NamedTuple):
    """How one model server does at a rate of requests: see `EngineLatency.at`.

    >>> from aibalance.autoscaling import EngineLatency
    >>> EngineLatency(0.02, 0.0001, 0.02, 0.0005).at(0.01, input_tokens=1000, output_tokens=101).ttft < 0.13
    True
    """

    ttft: float
    """Seconds to the first token, waiting included, on average."""
    itl: float
    """Seconds from one token to the next, on average."""
    wait: float
    """Seconds of waiting, on average."""
    batch: float
    """Requests that are served at a time, by the time that they take."""
    throughput: float
    """Requests a second that are served; the rest were refused at a full queue."""


@dataclass(frozen=True)
class EngineLatency:
    """How long one model server takes, by how many requests it serves at a time.

    A prefill takes `prefill_base + prefill_per_token * tokens * batch` seconds, a token after the first `decode_base +
    decode_per_request * batch`. `max_batch` (256) requests are served at a time, `max_queue` (None: ten times as many)
    wait. Fit the four to a benchmark of two batch sizes, or to two lengths.

    The server is a queue of Markov whose rate depends on its state: with n requests in service each takes the prefill
    and `output_tokens - 1` tokens at batch n. Raises ConfigError.

    Source: the queue analyser of llm-d's Workload Variant Autoscaler (state-dependent M/M/1/K, ITL = alpha + beta *
    batch, prefill = gamma + delta * tokens * batch), with its safety margin of a thousandth below saturation.

    >>> from aibalance.autoscaling import EngineLatency
    >>> engine = EngineLatency(prefill_base=0.02, prefill_per_token=2e-5, decode_base=0.01, decode_per_request=2e-4)
    >>> rate = engine.max_rate(input_tokens=1000, output_tokens=200, ttft=0.5, itl=0.02)
    >>> at = engine.at(rate, input_tokens=1000, output_tokens=200)
    >>> round(at.ttft, 3) <= 0.5, round(at.itl, 3) <= 0.02
    (True, True)
    """

    prefill_base: float
    prefill_per_token: float
    decode_base: float
    decode_per_request: float
    max_batch: int = 256
    max_queue: int | None = None

    def __post_init__(self) -> None:
        for name in ("prefill_base", "prefill_per_token", "decode_per_request"):
            least_zero(name, getattr(self, name))
        _positive("decode_base", self.decode_base)
        for name, least in (("max_batch", 1), ("max_queue", 0)):
            value = getattr(self, name)
            if value is None and name == "max_queue":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 65536:
                raise ConfigError(f"{name}: {value!r} is not allowed; a whole number from {least} to 65536")

    def prefill(self, tokens: float, batch: float = 1.0) -> float:
        """Seconds of a prefill of so many tokens."""
        return 0.0 if tokens <= 0 else self.prefill_base + self.prefill_per_token * tokens * batch

    def token(self, batch: float = 1.0) -> float:
        """Seconds from one token to the next."""
        return self.decode_base + self.decode_per_request * batch

    def batch_within(self, itl: float) -> int:
        """The largest batch whose tokens come within `itl` seconds, up to `max_batch`; 0 when not even one does."""
        if self.token(1) > itl:
            return 0
        if self.decode_per_request == 0:
            return self.max_batch
        return min(int((itl - self.decode_base) / self.decode_per_request * (1 + 1e-12)), self.max_batch)

    def _rates(self, input_tokens: float, output_tokens: float) -> tuple[float, ...]:
        return _service_rates(self, input_tokens, output_tokens)

    def at(self, rate: float, /, *, input_tokens: float, output_tokens: float) -> ServingEstimate:
        """How it does at `rate` requests a second; above what it can serve its queue is full."""
        _positive("rate", rate)
        _sizes(input_tokens, output_tokens)
        return _solve(self, self._rates(input_tokens, output_tokens), rate, input_tokens, output_tokens)

    def max_rate(
        self, *, input_tokens: float, output_tokens: float, ttft: float | None = None, itl: float | None = None
    ) -> float:
        """The highest rate, in requests a second, at which both goals (seconds; None for none) are met on average.

        0.0 when not even a server that is all but idle meets them. Without goals it is just below saturation.
        """
        _sizes(input_tokens, output_tokens)
        for name, goal in (("ttft", ttft), ("itl", itl)):
            if goal is not None:
                _positive(name, goal)
        return _best(self, float(input_tokens), float(output_tokens), ttft, itl)


def _sizes(input_tokens: float, output_tokens: float) -> None:
    least_zero("input_tokens", input_tokens)
    least_zero("output_tokens", output_tokens)
    if output_tokens < 1:
        raise ConfigError(f"output_tokens: {output_tokens!r} is not allowed; 1 or more")


def _decodes(input_tokens: float, output_tokens: float) -> float:
    # The first token comes with the prefill; without a prefill one token is still one.
    return 1.0 if input_tokens <= 0 and output_tokens == 1 else output_tokens - 1


@lru_cache(maxsize=64)
def _service_rates(engine: EngineLatency, input_tokens: float, output_tokens: float) -> tuple[float, ...]:
    tokens = _decodes(input_tokens, output_tokens)
    times = (engine.prefill(input_tokens, n) + tokens * engine.token(n) for n in range(1, engine.max_batch + 1))
    return tuple(n / time if time > 0 else math.inf for n, time in enumerate(times, 1))


def _solve(
    engine: EngineLatency, rates: tuple[float, ...], rate: float, input_tokens: float, output_tokens: float
) -> ServingEstimate:
    if math.isinf(rates[0]):
        return ServingEstimate(0.0, engine.token(1), 0.0, 0.0, rate)
    batch = len(rates)
    queue = 10 * batch if engine.max_queue is None else engine.max_queue
    # Chances of each state, relative to the largest so far, so that nothing overflows.
    weight, total, in_service, waiting, served = 1.0, 1.0, 0.0, 0.0, 0.0
    full = rate / rates[-1]
    # The states in which somebody waits are a geometric series; where it is long and falls, in closed form.
    closed = queue > 64 and full < 0.999
    for n in range(1, batch + (0 if closed else queue) + 1):
        speed = rates[min(n, batch) - 1]
        weight *= min(rate / speed, 1e60)
        total += weight
        served += weight * speed
        in_service += min(n, batch) * weight
        waiting += max(n - batch, 0) * weight
        if weight > 1e200:
            weight, total, in_service, waiting, served = (
                x / 1e200 for x in (weight, total, in_service, waiting, served)
            )
    if closed:
        last = full**queue
        several = weight * full * (1 - last) / (1 - full)
        total += several
        served += several * rates[-1]
        in_service += several * batch
        waiting += weight * full * (1 - (queue + 1) * last + queue * last * full) / (1 - full) ** 2
    throughput = served / total
    time = in_service / total / throughput
    wait = waiting / total / throughput
    tokens = _decodes(input_tokens, output_tokens)
    slope = engine.prefill_per_token * input_tokens + engine.decode_per_request * tokens
    base = (engine.prefill_base if input_tokens > 0 else 0.0) + engine.decode_base * tokens
    at_once = min(max((time - base) / slope, 0.0), float(batch)) if slope > 0 else min(rate * time, float(batch))
    return ServingEstimate(
        wait + engine.prefill(input_tokens, at_once), engine.token(at_once), wait, at_once, throughput
    )


@lru_cache(maxsize=256)
def _best(
    engine: EngineLatency, input_tokens: float, output_tokens: float, ttft: float | None, itl: float | None
) -> float:
    rates = _service_rates(engine, input_tokens, output_tokens)
    low, high = rates[0] * 1e-3, rates[-1] * (1 - 1e-3)
    if math.isinf(low):
        return math.inf

    def good(rate: float) -> bool:
        found = _solve(engine, rates, rate, input_tokens, output_tokens)
        return (ttft is None or found.ttft <= ttft) and (itl is None or found.itl <= itl)

    if not good(low):
        return 0.0
    if good(high):
        return high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if good(middle) else (low, middle)
        if high - low <= 1e-6 * high:
            break
    return low
