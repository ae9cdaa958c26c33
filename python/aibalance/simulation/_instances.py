"""Server types from a table of instances: relative speeds by data sheets, prices by a list."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from .. import _toml
from . import _checks as check
from ._scenario import ServerType

if TYPE_CHECKING:
    from ..capacity import PriceList

_BY = {"bandwidth": "gigabytes_per_s", "compute": "teraflops"}


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = (resources.files("aibalance") / "simulation" / "instances.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = _toml.parse(text, "instances.toml").values["instances"]
    return found


def server_type(
    instance: str,
    /,
    *,
    by: str = "bandwidth",
    relative_to: str = "g4dn.xlarge",
    market: str = "on_demand",
    cloud: str = "aws",
    region: str = "us-east-1",
    prices: PriceList | None = None,
    **options: Any,
) -> ServerType:
    """A `ServerType` of a known instance: speed and weight relative to another, price from a list.

    Parameters
    ----------
    instance : its name: g4dn.xlarge (T4), g5.xlarge and g5.8xlarge (A10G), g6.xlarge (L4), p4d.24xlarge (8 A100),
        p5.48xlarge (8 H100).
    by : what is compared, over all its GPUs: "bandwidth" of memory (default; tokens are written at that speed) or
        "compute" (prompts are read, pictures are made).
    relative_to : the instance of speed 1 (default g4dn.xlarge).
    market : "on_demand" (default) or "spot".
    cloud, region, prices : where the price is looked up (default AWS, us-east-1, the package's list); not needed when
        `price_per_hour` is given.
    options : further fields of ServerType, which win over the table's.

    Raises ConfigError: an instance or a price that is not known. Source: data sheets, in `instances.toml`; they are
    upper bounds, and the ratio for your model is what you should measure.

    >>> server_type("g5.xlarge", market="spot")
    ServerType(name='g5.xlarge', speed=1.875, weight=1.875, concurrency=None, price_per_hour=0.397, share=1.0, max=None)
    >>> server_type("p4d.24xlarge", by="compute", price_per_hour=21.96, concurrency=64).speed
    38.4
    """
    table = _table()
    check.choice("instance", instance, table)
    check.choice("relative_to", relative_to, table)
    column = _BY[check.choice("by", by, _BY)]
    check.choice("market", market, ("on_demand", "spot"))

    def power(name: str) -> float:
        return float(table[name]["gpus"] * table[name][column])

    speed = round(power(instance) / power(relative_to), 6)
    if "price_per_hour" not in options:
        if prices is None:
            from ..capacity import PriceList

            prices = PriceList.load()
        options["price_per_hour"] = (prices.spot if market == "spot" else prices.on_demand)(cloud, region, instance)
    return ServerType(**{"name": instance, "speed": speed, "weight": speed, **options})
