"""Simulate balancers and scaling policies on traffic, and compare them.

    from aibalance.simulation import Scenario, compare
    comparison = compare(Scenario.load("examples/viral-spike.toml"))
    print(comparison.sentence)

The engine calls the same pickers and policies as production, with a clock of its own. See docs/simulation.md for the
model.
"""

from __future__ import annotations

from ._arrival_laws import DiurnalTraffic, MmppTraffic, RenewalTraffic
from ._buying import FailoverSpec, GroupSpec
from ._clouds import CloudFailover, CloudRun
from ._compare import Comparison, compare
from ._detail import (
    Antagonists,
    ClosedTraffic,
    Dispatchers,
    Failures,
    Hedging,
    LLMService,
    Network,
    Reports,
    RequestClass,
    Retries,
)
from ._fluid import (
    DeadTime,
    FluidReport,
    Headroom,
    LoopStability,
    dead_time_backlog,
    growth_headroom,
    loop_stability,
    simulate_fluid,
)
from ._group import GroupScaling, SpotEpisode, TimedRefresh
from ._instances import server_type
from ._observed import Observed
from ._plan import Plan, plan
from ._plan_slo import Objective
from ._plan_space import Design
from ._plan_terms import SpotTerms, WarmPoolTerms
from ._recorded import RecordedService
from ._run import OUTCOMES, PhaseReport, Records, Report, simulate
from ._scenario import (
    METRICS,
    PICKERS,
    POLICIES,
    BalancerSpec,
    Fleet,
    Keys,
    PolicySpec,
    Scenario,
    ServerType,
)
from ._statistics import Interval, interval, t_quantile
from ._traffic import (
    PiecewiseTraffic,
    PoissonTraffic,
    Service,
    Spike,
    SpikeTraffic,
    TokenService,
    TraceTraffic,
)

__all__ = [
    "METRICS",
    "OUTCOMES",
    "PICKERS",
    "POLICIES",
    "Antagonists",
    "BalancerSpec",
    "ClosedTraffic",
    "CloudFailover",
    "CloudRun",
    "Comparison",
    "DeadTime",
    "Design",
    "Dispatchers",
    "DiurnalTraffic",
    "FailoverSpec",
    "Failures",
    "Fleet",
    "FluidReport",
    "GroupScaling",
    "GroupSpec",
    "Headroom",
    "Hedging",
    "Interval",
    "Keys",
    "LLMService",
    "LoopStability",
    "MmppTraffic",
    "Network",
    "Objective",
    "Observed",
    "PhaseReport",
    "PiecewiseTraffic",
    "Plan",
    "PoissonTraffic",
    "PolicySpec",
    "RecordedService",
    "Records",
    "RenewalTraffic",
    "Report",
    "Reports",
    "RequestClass",
    "Retries",
    "Scenario",
    "ServerType",
    "Service",
    "Spike",
    "SpikeTraffic",
    "SpotEpisode",
    "SpotTerms",
    "TimedRefresh",
    "TokenService",
    "TraceTraffic",
    "WarmPoolTerms",
    "compare",
    "dead_time_backlog",
    "growth_headroom",
    "interval",
    "loop_stability",
    "plan",
    "server_type",
    "simulate",
    "simulate_fluid",
    "t_quantile",
]
