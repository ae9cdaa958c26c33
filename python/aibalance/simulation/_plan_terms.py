"""What a plan assumes about what it can buy."""

from __future__ import annotations

from dataclasses import dataclass

from . import _checks as check

HOURS = 730.0
"""Hours of a month: 365 * 24 / 12."""


@dataclass(frozen=True, kw_only=True)
class SpotTerms:
    """What spot servers are assumed to be. Take your own account's figures where you have them.

    Parameters
    ----------
    discount : off the on-demand price (0 to 1, default 0.62).
    interruptions_per_month : of a running server (default 0.15).
    replacement_s : from an interruption to spot capacity again; on-demand stands in (default 600).
    obtainability : share of time in which spot capacity can be had at all; else on-demand stands in (default 0.9).
    on_demand_base : servers that are never spot (default 2).

    The defaults are medians of GPU types in the Spot Advisor's June 2025 snapshot, and of public probes in one zone.

    >>> SpotTerms(discount=0.5, obtainability=1, interruptions_per_month=0).price(1.0)
    0.5
    """

    discount: float = 0.62
    interruptions_per_month: float = 0.15
    replacement_s: float = 600.0
    obtainability: float = 0.9
    on_demand_base: int = 2

    def __post_init__(self) -> None:
        check.number("spot.discount", self.discount, 0, 1)
        check.number("spot.interruptions_per_month", self.interruptions_per_month, 0, 1e5)
        check.seconds("spot.replacement_s", self.replacement_s)
        check.number("spot.obtainability", self.obtainability, 0, 1, above=True)
        check.whole("spot.on_demand_base", self.on_demand_base, 0, 1_000_000)

    def price(self, share: float, /) -> float:
        """A server hour with so large a share of spot, on-demand standing in, as a share of the on-demand price."""
        from ..capacity import CostModel

        model = CostModel(
            on_demand=1.0,
            spot=1 - self.discount,
            interruption_rate=self.interruptions_per_month / HOURS,
            replacement_hours=self.replacement_s / 3600,
            obtainability=self.obtainability,
        )
        spot = model.fleet(need=1, on_demand=0, spot=1).cost_with_on_demand_fallback
        return (1 - share) + share * spot


@dataclass(frozen=True, kw_only=True)
class WarmPoolTerms:
    """What a pool of stopped, prepared servers is assumed to be.

    Parameters
    ----------
    start_s : from leaving the pool to ready (default: the fleet's `warmup_s`; it has its image and its model on disk).
    price_per_hour : of a stopped server, USD (default 0.011: a disk of 100 GB at 0.08 USD a GB and month).

    >>> WarmPoolTerms(start_s=20).price_per_hour
    0.011
    """

    start_s: float | None = None
    price_per_hour: float = 0.011

    def __post_init__(self) -> None:
        if self.start_s is not None:
            check.seconds("warm_pool.start_s", self.start_s)
        check.number("warm_pool.price_per_hour", self.price_per_hour, 0, 1e6, unit="USD")
