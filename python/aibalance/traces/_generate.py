"""Made-up traces: arrivals from a law and a seed, mixtures of classes, scaling; ServeGen's clients."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arrivals
from .._errors import ConfigError
from .._laws import Exponential, Gamma, Law, Weibull, number
from ._trace import Trace, _empty, _lines, _name, _wrong


def poisson(rate_rps: float, *, duration_s: float, seed: int = 0) -> Trace:
    """Poisson arrivals at one rate, as a trace without tokens. Equal seeds give equal traces, here and below.

    >>> trace = poisson(10.0, duration_s=1000.0, seed=1)
    >>> 9_500 < len(trace) < 10_500
    True
    """
    return renewal(Exponential(1 / number("rate_rps", rate_rps, 0, 1e9, above=True)), duration_s=duration_s, seed=seed)


def renewal(law: Law, /, *, duration_s: float, seed: int = 0) -> Trace:
    """Arrivals with independent gaps of this law, in seconds; ServeGen's clients are Gamma and Weibull ones.

    `law` comes from `aibalance.queueing`. Xiang et al., ServeGen, 2025.

    >>> from aibalance.queueing import Gamma
    >>> trace = renewal(Gamma(mean=0.1, shape=0.25), duration_s=1000.0, seed=1)    # gaps of cv 2
    >>> 9_000 < len(trace) < 11_000
    True
    """
    if not isinstance(law, Law):
        raise ConfigError(f"law: {law!r} is not allowed; expected a law of gaps such as Exponential(mean=0.1)")
    times = _arrivals.renewal(_rng(seed), law, _span(duration_s))
    return _trace("renewal", times)


def mmpp(rates_rps: Sequence[float], mean_durations_s: Sequence[float], *, duration_s: float, seed: int = 0) -> Trace:
    """Markov-modulated Poisson arrivals: one rate a state; states last exponentially, the next one is drawn equally.

    Fischer and Meier-Hellstern, The Markov-modulated Poisson process cookbook, 1993.

    >>> len(mmpp([1.0, 100.0], [90.0, 10.0], duration_s=1000.0, seed=1)) > 1000
    True
    """
    rates, durations = check_mmpp(rates_rps, mean_durations_s)
    return _trace("mmpp", _arrivals.mmpp(_rng(seed), rates, durations, _span(duration_s)))


def check_mmpp(rates_rps: Any, mean_durations_s: Any) -> tuple[list[float], list[float]]:
    """Rates and durations of as many states, at least one rate above 0."""
    for field, values in (("rates_rps", rates_rps), ("mean_durations_s", mean_durations_s)):
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"{field}: {values!r} is not allowed; expected a list of numbers, one a state")
    rates = [number(f"rates_rps[{i}]", one, 0, 1e9) for i, one in enumerate(rates_rps)]
    lasts = [number(f"mean_durations_s[{i}]", one, 0, 1e9, above=True) for i, one in enumerate(mean_durations_s)]
    if len(rates) != len(lasts) or not any(rates):
        raise ConfigError(
            f"rates_rps: {rates!r} is not allowed; expected as many as mean_durations_s ({len(lasts)}), "
            "one of them above 0"
        )
    return rates, lasts


def merge(*traces: Trace, name: str = "mixture") -> tuple[Trace, NDArray[np.int64]]:
    """Several traces laid over each other, and for each request the number of the trace that it came from.

    Each keeps its own begin: all start together. Prefix blocks are kept apart by class only where all traces have them;
    otherwise they are dropped; so are service
    times.

    >>> a, b = poisson(1.0, duration_s=100.0, seed=1), poisson(2.0, duration_s=100.0, seed=2)
    >>> both, source = merge(a, b)
    >>> len(both) == len(a) + len(b), int(source.sum()) == len(b)
    (True, True)
    """
    if not traces:
        raise ConfigError("traces: none given; expected at least one")
    source = np.repeat(np.arange(len(traces)), [len(one) for one in traces])
    arrival = np.concatenate([one.arrival_s for one in traces])
    order = np.argsort(arrival, kind="stable")
    took: list[Any] = [one.service_s for one in traces]
    values = offsets = None
    if all(one.hash_values is not None for one in traces):
        lists, shift = [], 0
        for one in traces:
            lists += [one.blocks(i) + shift for i in range(len(one))]
            shift += (
                int(max(one.hash_values.max(), -1)) + 1 if one.hash_values is not None and one.hash_values.size else 0
            )
        lists = [lists[i] for i in order]
        offsets = np.concatenate(([0], np.cumsum([len(one) for one in lists]))).astype(np.int64)
        values = np.concatenate(lists).astype(np.int64) if lists else np.empty(0, np.int64)
    return (
        Trace(
            name,
            "mixture",
            arrival[order],
            np.concatenate([one.input_tokens for one in traces])[order],
            np.concatenate([one.output_tokens for one in traces])[order],
            values,
            offsets,
            service_s=None if any(one is None for one in took) else np.concatenate(took)[order],
        ),
        source[order],
    )


def scale(trace: Trace, /, *, time: float = 1.0, tokens: float = 1.0) -> Trace:
    """The trace with its times and its token counts multiplied (counts are rounded; above 0 they stay above 0).

    To multiply the number of requests, lay copies over it: `TraceTraffic(rate_scale=...)`.

    >>> scale(poisson(1.0, duration_s=100.0), time=2.0).duration_s > 150
    True
    """
    by = number("time", time, 0, 1e9, above=True)
    size = number("tokens", tokens, 0, 1e6, above=True)

    def sized(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.minimum(np.rint(counts * size), 1e9).astype(np.int64)
        return np.where((counts > 0) & (out == 0), 1, out)

    return Trace(
        trace.name,
        trace.format,
        trace.arrival_s * by,
        sized(trace.input_tokens),
        sized(trace.output_tokens),
        trace.hash_values,
        trace.hash_offsets,
        trace.reordered,
        trace.spread,
        trace.service_s,
    )


@dataclass(frozen=True, eq=False, repr=False)
class ServeGen:
    """Rates of many clients over time, each window with its own law of gaps; `generate` draws requests from it.

    All arrays have one entry a client and window: `client`, `start_s`, `rate_rps`, `dist` ("Gamma" or "Weibull") and
    `shape` of the gaps. Xiang et al., ServeGen, arXiv 2505.09999, 2025.

    >>> one = np.array([0]), np.array([0.0]), np.array([2.0]), np.array(["Gamma"]), np.array([1.0])
    >>> clients = ServeGen("mine", *one, window_s=600.0)
    >>> clients.rates(), 1000 < len(clients.generate(seed=1)) < 1400
    ([(0.0, 2.0)], True)
    """

    name: str
    client: NDArray[np.int64]
    start_s: NDArray[np.float64]
    rate_rps: NDArray[np.float64]
    dist: NDArray[np.str_]
    shape: NDArray[np.float64]
    window_s: float

    def __len__(self) -> int:
        return len(self.client)

    def __repr__(self) -> str:
        return f"<ServeGen {self.name!r}: {len(np.unique(self.client))} clients, {len(self):,} windows>"

    @property
    def duration_s(self) -> float:
        """Seconds from 0 to the end of the last window."""
        return float(self.start_s.max()) + self.window_s

    def rates(self) -> list[tuple[float, float]]:
        """Points (second, requests a second) of all clients together, for `PiecewiseTraffic`; empty windows are 0."""
        at = np.arange(0.0, self.duration_s, self.window_s)
        total = np.bincount((self.start_s / self.window_s).astype(np.int64), self.rate_rps, minlength=len(at))
        return list(zip(at.tolist(), total[: len(at)].tolist(), strict=True))

    def generate(
        self, *, start_s: float = 0.0, duration_s: float | None = None, rate_scale: float = 1.0, seed: int = 0
    ) -> Trace:
        """Requests of `duration_s` seconds from `start_s` on (default: all): each client's gaps are drawn anew in
        every window, of the window's law and shape, with mean 1/(rate × `rate_scale`). Token counts are 0: the public
        data has none.
        """
        begin = number("start_s", start_s, 0, self.duration_s)
        end = begin + (
            self.duration_s - begin if duration_s is None else number("duration_s", duration_s, 0, 1e9, above=True)
        )
        by = number("rate_scale", rate_scale, 0, 1e6, above=True)
        rng = _rng(seed)
        chosen = np.flatnonzero((self.start_s + self.window_s > begin) & (self.start_s < end) & (self.rate_rps > 0))
        _arrivals.expect(float(self.rate_rps[chosen].sum()) * self.window_s * by)
        parts = []
        for i in chosen:
            law = _client_law(str(self.dist[i]), float(self.shape[i]), 1 / (float(self.rate_rps[i]) * by))
            # Thrown in from a random phase: a renewal process that began at the window's edge would bunch there.
            lead = float(rng.random()) * 5 * law.mean
            times = _arrivals.renewal(rng, law, self.window_s + lead) - lead
            parts.append(self.start_s[i] + times[times >= 0])
        times = np.sort(np.concatenate(parts)) if parts else np.empty(0)
        times = times[(times >= begin) & (times < end)]
        if not len(times):
            raise ConfigError(f"start_s: no request from {begin:g} to {end:g} s; expected a stretch with traffic")
        return _trace(self.name, times - begin, "servegen")


def _client_law(dist: str, shape: float, mean: float) -> Law:
    return Gamma(mean=mean, shape=max(shape, 1e-3)) if dist == "Gamma" else Weibull(mean=mean, shape=max(shape, 0.1))


def read_servegen(path: str | os.PathLike[str], /) -> ServeGen:
    """Read a table of clients: CSV with client, t_s, rate_rps, dist (Gamma, Weibull), arg1 (the shape); others are
    ignored. The recorded scale (arg2) is not used, as it does not agree with the rate: gaps have mean 1/rate_rps.

    Raises FormatError naming file, line, field, value and what is allowed.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "clients.csv")
    >>> _ = path.write_text("client,t_s,rate_rps,dist,arg1\\n0,0,2,Gamma,0.5\\n0,600,4,Weibull,0.9\\n")
    >>> read_servegen(path)
    <ServeGen 'clients': 1 clients, 2 windows>
    """
    columns = ("client", "t_s", "rate_rps", "dist", "arg1")
    header: list[int] | None = None
    rows: list[tuple[int, float, float, str, float]] = []
    table = csv.reader(_lines(path), strict=True)
    try:
        for row in table:
            line = table.line_num
            if not row:
                continue
            if header is None:
                names = [one.strip() for one in row]
                for column in columns:
                    if names.count(column) != 1:
                        raise _wrong(path, line, f"header: {column} must stand there once (with {', '.join(columns)})")
                header = [names.index(column) for column in columns]
                continue
            if len(row) <= max(header):
                raise _wrong(path, line, f"{len(row)} fields; allowed: {max(header) + 1} or more, as in the header")
            found = [row[i].strip() for i in header]
            if found[3] not in ("Gamma", "Weibull"):
                raise _wrong(path, line, f"dist: {found[3]!r}; allowed: Gamma or Weibull")
            numbers = []
            for i in (0, 1, 2, 4):
                try:
                    value = float(found[i])
                except ValueError:
                    value = math.nan
                if not 0 <= value <= 1e12:
                    raise _wrong(path, line, f"{columns[i]}: {found[i]!r}; allowed: a number from 0 to 1e12")
                numbers.append(value)
            rows.append((int(numbers[0]), numbers[1], numbers[2], found[3], numbers[3]))
    except csv.Error as error:
        raise _wrong(path, table.line_num, f"not CSV: {error}") from None
    if not rows:
        raise _empty(path, "no client")
    client, start, rate, dist, shape = (np.array(column) for column in zip(*rows, strict=True))
    steps = np.diff(np.unique(start))
    window = float(steps.min()) if steps.size else 600.0
    return ServeGen(_name(path), client.astype(np.int64), start, rate, dist, shape, window)


def _rng(seed: Any) -> np.random.Generator:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigError(f"seed: {seed!r} is not allowed; expected a whole number from 0 to 2^64 - 1")
    return np.random.default_rng(seed)


def _span(duration_s: float) -> float:
    return number("duration_s", duration_s, 0, 1e9, above=True)


def _trace(name: str, times: NDArray[np.float64], format: str = "generated") -> Trace:
    if not len(times):
        raise ConfigError("duration_s: no request came in that time; expected a longer one or a higher rate")
    none = np.zeros(len(times), np.int64)
    return Trace(name, format, times - times[0], none, none)
