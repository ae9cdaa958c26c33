"""What capacity costs, and how likely it is there: closed forms, and a list of prices."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .. import _toml
from .._core import _availability, _capacity_chance, _cheapest_mix, _pooled_capacity
from .._errors import ConfigError
from ._checks import count as _whole
from ._checks import number as _number
from ._checks import wrong as _wrong

__all__ = [
    "CapacityChance",
    "CostModel",
    "Mix",
    "PooledCapacity",
    "PriceList",
    "billed_seconds",
]


_SERVERS = 100_000


def _count(field: str, value: Any, *, low: int = 0) -> int:
    return _whole(field, value, low, _SERVERS)


def billed_seconds(run: float, /, *, minimum: float = 0.0, granularity: float = 1.0) -> float:
    """Seconds that are paid for a server which ran `run` seconds: at least `minimum`, in whole units of `granularity`.

    Raises ConfigError. Source: our theory vectors, `cost_spot`; AWS bills Linux by the second with a minimum of 60.

    >>> from aibalance.capacity import billed_seconds
    >>> billed_seconds(3599, minimum=3600, granularity=3600), billed_seconds(61.5, minimum=60)
    (3600.0, 62.0)
    """
    seconds = max(_number("run", run), _number("minimum", minimum))
    unit = _number("granularity", granularity, above=True)
    units = seconds / unit
    near = round(units)
    return (near if abs(units - near) <= 1e-9 * max(1.0, near) else math.ceil(units)) * unit


@dataclass(frozen=True)
class CapacityChance:
    """What a fleet of on-demand and spot servers gives and costs. Prices in the unit of the model, times are hours.

    >>> from aibalance.capacity import CostModel
    >>> model = CostModel(on_demand=1.0, spot=0.35, interruption_rate=0.05, replacement_hours=1 / 12)
    >>> found = model.fleet(need=8, on_demand=2, spot=8)
    >>> round(found.capacity_probability, 6), round(found.cost_per_hour, 3)
    (0.999996, 4.788)
    """

    spot_availability: float
    """The share of time for which a spot server is up."""
    expected_capacity: float
    """Servers that are up, on average."""
    capacity_probability: float
    """The chance that as many are up as are needed."""
    expected_shortfall: float
    """Servers that are missing, on average."""
    unserved_fraction: float
    """That over the need; 0 without a need."""
    cost_per_hour: float
    """On average: spot servers that are down are not billed."""
    all_on_demand_cost: float
    """What the need costs on demand alone."""
    saving: float
    """The share of that which is saved; 0 without a need."""
    interruptions_per_hour: float
    """Of the whole fleet, on average."""
    cost_with_on_demand_fallback: float
    """Per hour, when an on-demand server stands in for each spot server that is down."""
    cost_per_useful_hour: float
    """Cost over servers that are up; infinite when none ever is."""
    survival_probability: float
    """The chance that no running spot server is interrupted within an hour."""


@dataclass(frozen=True)
class PooledCapacity:
    """What spot servers give whose pools (zone and type) fail as a whole.

    >>> from aibalance.capacity import CostModel
    >>> model = CostModel(on_demand=1, spot=0.35, interruption_rate=0.02, replacement_hours=0.5)
    >>> round(model.pools(need=8, spot=12, pools=4).capacity_probability, 6)
    0.99942
    """

    pool_availability: float
    """The share of time for which a pool is up."""
    capacity_probability: float
    """The chance that as many servers are up as are needed."""
    expected_capacity: float
    """Servers that are up, on average."""
    capacity_sd: float
    """The standard deviation of that."""


@dataclass(frozen=True)
class Mix:
    """The cheapest mix for a need.

    >>> from aibalance.capacity import CostModel
    >>> model = CostModel(on_demand=1, spot=0.35, interruption_rate=0.2, replacement_hours=2)
    >>> mix = model.cheapest_mix(need=4, probability=0.99999)
    >>> mix.on_demand, mix.spot
    (4, 0)
    """

    on_demand: int
    """On-demand servers."""
    spot: int
    """Spot servers."""
    cost_per_hour: float
    """On average."""
    achieved: float
    """The chance that the need is met."""
    all_on_demand_cost: float
    """What the need costs on demand alone."""


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """On-demand and spot servers in closed form, from stated inputs.

    A spot server is interrupted at `interruption_rate` an hour of running and replaced after `replacement_hours`: it is
    up a share `obtainability / (1 + rate * hours)` of the time, and billed while it is up. Servers are independent in
    `fleet` and `cheapest_mix`; in `pools` whole pools fail. No default is a guess: take rates and obtainability from
    your own account.

    `on_demand`, `spot`: price of a server hour, in one currency, 0 or more.
    `interruption_rate`: interruptions an hour of running, 0 or more.
    `replacement_hours`: mean hours from an interruption until the replacement works, 0 or more.
    `obtainability` (1.0): the share of time in which spot capacity can be had at all, above 0, up to 1.
    `egress_per_gb` (None): price of a GB (10^9 bytes) that leaves; None makes `egress` an error.
    `minimum_seconds` (0.0), `granularity_seconds` (1.0): how running time is billed.
    Raises ConfigError. Source: `cost_spot` in our theory vectors (alternating renewal: only the mean of the replacement
    time matters).

    >>> from aibalance.capacity import CostModel
    >>> model = CostModel(on_demand=1.0, spot=0.35, interruption_rate=0.2, replacement_hours=0.5)
    >>> round(model.spot_availability, 4), model.run_cost(on_demand=3, seconds=7200)
    (0.9091, 6.0)
    """

    on_demand: float
    spot: float
    interruption_rate: float
    replacement_hours: float
    obtainability: float = 1.0
    egress_per_gb: float | None = None
    minimum_seconds: float = 0.0
    granularity_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("on_demand", "spot", "interruption_rate", "replacement_hours", "minimum_seconds"):
            _number(name, getattr(self, name))
        _number("obtainability", self.obtainability, high=1, above=True)
        _number("granularity_seconds", self.granularity_seconds, above=True)
        if self.egress_per_gb is not None:
            _number("egress_per_gb", self.egress_per_gb)

    @property
    def spot_availability(self) -> float:
        """The share of time for which a spot server is up."""
        return self.obtainability * _availability(self.interruption_rate, self.replacement_hours)

    def fleet(self, *, need: int, on_demand: int, spot: int) -> CapacityChance:
        """What so many servers of each kind give and cost, when `need` are needed."""
        _count("need", need), _count("on_demand", on_demand), _count("spot", spot)
        up = self.spot_availability
        missing = max(0, need - on_demand)
        chance, shortfall = _capacity_chance(spot, up, missing)
        capacity = on_demand + spot * up
        cost = on_demand * self.on_demand + spot * up * self.spot
        alone = need * self.on_demand
        return CapacityChance(
            spot_availability=up,
            expected_capacity=capacity,
            capacity_probability=chance,
            expected_shortfall=shortfall,
            unserved_fraction=shortfall / need if need else 0.0,
            cost_per_hour=cost,
            all_on_demand_cost=alone,
            saving=1 - cost / alone if alone else 0.0,
            interruptions_per_hour=spot * up * self.interruption_rate,
            cost_with_on_demand_fallback=cost + spot * (1 - up) * self.on_demand,
            cost_per_useful_hour=cost / capacity if capacity else math.inf,
            survival_probability=math.exp(-spot * self.interruption_rate),
        )

    def pools(self, *, need: int, spot: int, pools: int | Sequence[int]) -> PooledCapacity:
        """What `spot` servers give that are spread evenly over `pools` pools, each of which fails as a whole.

        `pools`: how many, or the number of servers in each. The model's rate and hours are those of a pool's outages.
        """
        _count("need", need), _count("spot", spot)
        if isinstance(pools, int):
            whole, rest = divmod(spot, _count("pools", pools, low=1))
            sizes = [whole + (i < rest) for i in range(pools)]
        else:
            sizes = [_count(f"pools[{i}]", n) for i, n in enumerate(pools)]
            if sum(sizes) != spot:
                raise _wrong("pools", pools, f"sizes that add up to {spot}, the number of spot servers")
        up = self.spot_availability
        chances = _pooled_capacity([n for n in sizes if n], up)
        chance = math.fsum(chances[need:]) if need else 1.0
        deviation = math.sqrt(sum(n * n for n in sizes) * up * (1 - up))
        return PooledCapacity(up, chance, spot * up, deviation)

    def cheapest_mix(self, *, need: int, probability: float) -> Mix:
        """The cheapest numbers of which `need` are up with at least this probability; of equals the fewest on-demand.

        `probability`: above 0, below 1.
        """
        _count("need", need)
        given: Any = probability
        if not isinstance(given, (int, float)) or not 0 < given < 1:
            raise _wrong("probability", probability, "a number above 0, below 1")
        on_demand, spot, cost, achieved = _cheapest_mix(
            need, self.spot_availability, self.on_demand, self.spot, probability
        )
        return Mix(on_demand, spot, cost, achieved, need * self.on_demand)

    def run_cost(self, *, seconds: float, on_demand: int = 0, spot: int = 0) -> float:
        """What servers cost that run so long, by the rules of billing."""
        hours = billed_seconds(seconds, minimum=self.minimum_seconds, granularity=self.granularity_seconds) / 3600
        servers = _count("on_demand", on_demand) * self.on_demand + _count("spot", spot) * self.spot
        return servers * hours

    def startup_waste(self, *, launches: int, cold_start: float, spot: bool = False) -> float:
        """What is paid for servers that start and do not work yet: launches times `cold_start` seconds."""
        price = self.spot if spot else self.on_demand
        return _count("launches", launches) * _number("cold_start", cold_start) / 3600 * price

    def egress(self, gigabytes: float, /) -> float:
        """What so many GB cost that leave. Raises ConfigError without `egress_per_gb`: an unknown price is no price."""
        if self.egress_per_gb is None:
            raise ConfigError("egress_per_gb: is not known; give the price of a GB that leaves, 0 if it is free")
        return _number("gigabytes", gigabytes) * self.egress_per_gb


@dataclass(frozen=True)
class PriceList:
    """Prices with a date and a source each. What is not in it is an error, never a guess.

    `instances`: by (cloud, region, type) the on-demand price and, if known, the spot price of an hour, in US dollars.
    `egress`: by cloud the price of a GB that leaves, of the first 10 TB beyond what is free.
    The list that comes with the package is small and old on purpose of proof: replace it by your own, with
    `PriceList.load("prices.toml")`.

    >>> from aibalance.capacity import PriceList
    >>> prices = PriceList.load()
    >>> prices.on_demand("aws", "us-east-1", "g5.xlarge"), prices.egress_per_gb("gcp")
    (1.006, 0.12)
    >>> prices.on_demand("aws", "us-east-1", "p9.huge")
    Traceback (most recent call last):
        ...
    aibalance._errors.ConfigError: prices: aws us-east-1 p9.huge is not in the list; add it with its date and source
    """

    instances: Mapping[tuple[str, str, str], Mapping[str, Any]]
    egress: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def load(path: str | Path | None = None) -> PriceList:
        """Reads a TOML file; None is the list that comes with the package.

        Tables `[instances.CLOUD.REGION."TYPE"]` have `on_demand`, perhaps `spot`, `date` and `source`; `[egress.CLOUD]`
        has `per_gb`, `date` and `source`. Raises FormatError that names the file, the line and the field.
        """
        if path is None:
            text = (resources.files("aibalance") / "capacity" / "prices.toml").read_text(encoding="utf-8")
            file = _toml.parse(text, "prices.toml")
        else:
            file = _toml.read(path)
        instances = {}
        for where, row in _rows(file):
            _check_row(file, where, row, {"on_demand"}, {"spot"})
            _, cloud, region, kind = where
            instances[cloud, region, kind] = row
        egress = {}
        leaving = file.values.get("egress", {})
        if not isinstance(leaving, dict):
            raise file.error("egress", f"expected tables, one a cloud; {leaving!r} is not allowed")
        for cloud, row in leaving.items():
            _check_row(file, ("egress", cloud), row, {"per_gb"}, set())
            egress[cloud] = row
        for unknown in sorted(set(file.values) - {"instances", "egress"}):
            raise file.error(unknown, "unknown table; allowed: instances, egress")
        return PriceList(instances, egress)

    def _row(self, cloud: str, region: str, kind: str) -> Mapping[str, Any]:
        found = self.instances.get((cloud, region, kind))
        if found is None:
            raise ConfigError(f"prices: {cloud} {region} {kind} is not in the list; add it with its date and source")
        return found

    def on_demand(self, cloud: str, region: str, kind: str, /) -> float:
        """The price of an on-demand hour. Raises ConfigError when it is not known."""
        return float(self._row(cloud, region, kind)["on_demand"])

    def spot(self, cloud: str, region: str, kind: str, /) -> float:
        """The price of a spot hour. Raises ConfigError when it is not known."""
        row = self._row(cloud, region, kind)
        if "spot" not in row:
            raise ConfigError(f"prices: {cloud} {region} {kind} has no spot price; add it with its date and source")
        return float(row["spot"])

    def egress_per_gb(self, cloud: str, /) -> float:
        """The price of a GB that leaves. Raises ConfigError when it is not known."""
        if cloud not in self.egress:
            raise ConfigError(f"prices: egress of {cloud} is not in the list; add it with its date and source")
        return float(self.egress[cloud]["per_gb"])

    def source(self, cloud: str, region: str, kind: str, /) -> str:
        """Where a price is from, and of when."""
        row = self._row(cloud, region, kind)
        return f"{row['source']}, {row['date']}"


def _rows(file: _toml.Document) -> list[tuple[tuple[str, ...], Any]]:
    """Where each row stands, and the row."""
    found: list[tuple[tuple[str, ...], Any]] = [(("instances",), file.values.get("instances", {}))]
    for below in ("one a cloud", "one a region", "one a type"):
        for where, tables in found:
            if not isinstance(tables, dict):
                raise file.error(where, f"expected tables, {below}; {tables!r} is not allowed")
        found = [((*where, name), one) for where, tables in found for name, one in tables.items()]
    return found


def _check_row(file: _toml.Document, where: tuple[str, ...], row: Any, needed: set[str], allowed: set[str]) -> None:
    if not isinstance(row, dict):
        raise file.error(where, f"expected a table; {row!r} is not allowed")
    for name in sorted(needed | {"date", "source"}):
        if name not in row:
            raise file.error((*where, name), f"missing; {name} is needed")
    for name, value in row.items():
        at = (*where, name)
        if name in needed | allowed:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
                raise file.error(at, f"{value!r} is not a price of 0 or more")
        elif name == "date":
            if not isinstance(value, datetime.date) or isinstance(value, datetime.datetime):
                raise file.error(at, f"{value!r} is not a date such as 2025-06-01")
        elif name != "source":
            known = ", ".join(sorted(needed | allowed | {"date", "source"}))
            raise file.error(at, f"not a field that is known; allowed: {known}")
        elif not isinstance(value, str) or not value:
            raise file.error(at, f"{value!r} is not a text")
