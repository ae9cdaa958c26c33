"""A server that batches: the decode phase of a language model as a birth-death process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._laws import number, positive
from .._special import Array
from ._checks import overloaded, whole


@dataclass(frozen=True, kw_only=True)
class ContinuousBatching:
    """Continuous batching, decode only: a step of `base_s + per_sequence_s`·B gives B sequences a token.

    Poisson arrivals at `arrival_rate` a second; output lengths are exponential with mean `mean_output_tokens` (the
    limit of geometric ones); at most `max_batch` sequences at once, the others wait FIFO. Prefill costs nothing. So the
    number in the system is a birth-death process with deaths at rate
    B/((base_s + per_sequence_s·B) · mean_output_tokens).
    Step times of this form: Agrawal et al., Vidur, MLSys 2024; Patel et al., Splitwise, ISCA 2024.

    `per_sequence_s` = 0 makes it M/M/c, `base_s` = 0 processor sharing.

    >>> server = ContinuousBatching(arrival_rate=10.0, base_s=0.02, per_sequence_s=0.0002, mean_output_tokens=200,
    ...                             max_batch=256)
    >>> round(server.mean_batch, 2), round(server.mean_time_per_output_token, 4)
    (67.33, 0.0337)
    """

    arrival_rate: float
    base_s: float
    per_sequence_s: float
    mean_output_tokens: float
    max_batch: int
    distribution: Array = field(init=False, repr=False, compare=False)
    """Chance of n = 0 … `max_batch` sequences in the system; each further one by the factor `utilization`."""

    def __post_init__(self) -> None:
        positive("arrival_rate", self.arrival_rate)
        number("base_s", self.base_s, 0)
        number("per_sequence_s", self.per_sequence_s, 0, above=self.base_s == 0)
        positive("mean_output_tokens", self.mean_output_tokens)
        whole("max_batch", self.max_batch, 1, 10_000_000)
        if self.utilization >= 1:
            raise overloaded(self.utilization)
        n = np.arange(1, self.max_batch + 1)
        step = (self.base_s + self.per_sequence_s * n) * self.mean_output_tokens
        logs = np.concatenate(([0.0], np.cumsum(np.log(self.arrival_rate * step / n))))
        weights = np.exp(logs - logs.max())
        p = weights / (weights.sum() + weights[-1] * self.utilization / (1 - self.utilization))
        p.setflags(write=False)
        object.__setattr__(self, "distribution", p)

    def __reduce__(self) -> Any:
        given = (self.arrival_rate, self.base_s, self.per_sequence_s, self.mean_output_tokens, self.max_batch)
        return _batching, given

    @property
    def capacity(self) -> float:
        """Requests a second with a full batch."""
        full = (self.base_s + self.per_sequence_s * self.max_batch) * self.mean_output_tokens
        return self.max_batch / full

    @property
    def utilization(self) -> float:
        """Arrival rate / capacity."""
        return self.arrival_rate / self.capacity

    @property
    def _beyond(self) -> float:
        """Chance of exactly `max_batch` + 1, + 2, … together, and their mean excess, follow from this geometric law."""
        return float(self.distribution[-1]) / (1 - self.utilization)

    @property
    def p_batch_full(self) -> float:
        """Chance that at least `max_batch` sequences are there: an arrival waits."""
        return self._beyond

    @property
    def p_idle(self) -> float:
        """Chance that nobody is there."""
        return float(self.distribution[0])

    @property
    def mean_queue(self) -> float:
        """Mean number waiting for a place in the batch."""
        return self._beyond * self.utilization / (1 - self.utilization)

    @property
    def mean_batch(self) -> float:
        """Mean number in the batch."""
        inside = float(self.distribution[:-1] @ np.arange(self.max_batch))
        return inside + self.max_batch * self._beyond

    @property
    def mean_in_system(self) -> float:
        """Mean number waiting and in the batch."""
        return self.mean_batch + self.mean_queue

    @property
    def mean_latency(self) -> float:
        """Mean time from arrival to the last token, in seconds."""
        return self.mean_in_system / self.arrival_rate

    @property
    def mean_latency_in_batch(self) -> float:
        """Mean time in the batch, in seconds."""
        return self.mean_batch / self.arrival_rate

    @property
    def mean_wait(self) -> float:
        """Mean time until a place in the batch is free, in seconds."""
        return self.mean_queue / self.arrival_rate

    @property
    def mean_time_per_output_token(self) -> float:
        """Mean time in the batch / mean output length, in seconds."""
        return self.mean_latency_in_batch / self.mean_output_tokens

    @property
    def tokens_per_s(self) -> float:
        """Tokens written a second."""
        return self.arrival_rate * self.mean_output_tokens


def _batching(
    arrival_rate: float, base_s: float, per_sequence_s: float, mean_output_tokens: float, max_batch: int
) -> ContinuousBatching:
    return ContinuousBatching(
        arrival_rate=arrival_rate,
        base_s=base_s,
        per_sequence_s=per_sequence_s,
        mean_output_tokens=mean_output_tokens,
        max_batch=max_batch,
    )
