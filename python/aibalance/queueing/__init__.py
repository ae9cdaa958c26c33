"""Queueing theory in closed form: what to expect of a fleet before anything is simulated or bought.

Rates and times may be in any unit, as long as it is one: with requests a second, times are seconds. Everything is in
equilibrium unless it says otherwise. Inputs that make no sense, and queues that would grow for ever, are a ConfigError
that names the field. Laws of service (`Exponential`, `Lognormal`, …) are shared with `aibalance.traces.fit`.

>>> from aibalance.queueing import MMc, min_servers
>>> c = min_servers(90.0, 1.0, sojourn=(0.99, 5.0))     # 90 requests/s of 1 s each, p99 within 5 s
>>> c, round(MMc(arrival_rate=90.0, servers=c).p_wait, 3)
(93, 0.666)
"""

from __future__ import annotations

from .._laws import (
    BoundedPareto,
    Deterministic,
    Exponential,
    Gamma,
    HyperExponential,
    Law,
    Lognormal,
    Uniform,
    Weibull,
)
from ._chain import SmallFleet
from ._fleet import JoinIdleQueueLimit, RandomSplit, Supermarket, optimal_split
from ._llm import ContinuousBatching
from ._multi import MDc, MGInf, MMc, MMcK, erlang_b, erlang_c
from ._requests import Hedged, Retries, fan_out, fan_out_mean_exponential, fan_out_quantile
from ._single import MG1, MG1PS, Bracket, EkM1, PriorityMG1
from ._staffing import halfin_whitt, halfin_whitt_beta, min_servers, square_root_staffing

__all__ = [  # noqa: RUF022
    "BoundedPareto",
    "Bracket",
    "ContinuousBatching",
    "Deterministic",
    "EkM1",
    "Exponential",
    "Gamma",
    "Hedged",
    "HyperExponential",
    "JoinIdleQueueLimit",
    "Law",
    "Lognormal",
    "MDc",
    "MG1",
    "MG1PS",
    "MGInf",
    "MMc",
    "MMcK",
    "PriorityMG1",
    "RandomSplit",
    "Retries",
    "SmallFleet",
    "Supermarket",
    "Uniform",
    "Weibull",
    "erlang_b",
    "erlang_c",
    "fan_out",
    "fan_out_mean_exponential",
    "fan_out_quantile",
    "halfin_whitt",
    "halfin_whitt_beta",
    "min_servers",
    "optimal_split",
    "square_root_staffing",
]
