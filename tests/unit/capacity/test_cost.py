"""Cost in closed form, and a list of prices that does not guess."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from aibalance import ConfigError, FormatError
from aibalance.capacity import CostModel, PriceList, billed_seconds

BASE: dict[str, Any] = {"on_demand": 1.0, "spot": 0.35, "interruption_rate": 0.2, "replacement_hours": 0.5}


def test_a_fleet_against_a_simulation() -> None:
    model = CostModel(**BASE)
    rng = random.Random(5)
    up = model.spot_availability
    draws = [2 + sum(rng.random() < up for _ in range(8)) for _ in range(20_000)]
    found = model.fleet(need=9, on_demand=2, spot=8)
    assert found.expected_capacity == pytest.approx(sum(draws) / len(draws), abs=0.03)
    assert found.capacity_probability == pytest.approx(sum(d >= 9 for d in draws) / len(draws), abs=0.015)
    assert found.expected_shortfall == pytest.approx(sum(max(0, 9 - d) for d in draws) / len(draws), abs=0.02)


@pytest.mark.parametrize(
    "option",
    [{"on_demand": 2.0}, {"spot": 0.2}, {"interruption_rate": 0.4}, {"replacement_hours": 1.0}, {"obtainability": 0.9}],
)
def test_each_input_alone_matters(option: dict[str, float]) -> None:
    plain = CostModel(**BASE).fleet(need=8, on_demand=2, spot=7)
    other = CostModel(**{**BASE, **option}).fleet(need=8, on_demand=2, spot=7)
    assert plain != other


def test_edges() -> None:
    model = CostModel(**BASE)
    nothing = model.fleet(need=0, on_demand=0, spot=0)
    assert (nothing.capacity_probability, nothing.saving, nothing.cost_per_useful_hour) == (1.0, 0.0, math.inf)
    assert model.fleet(need=3, on_demand=2, spot=0).capacity_probability == 0
    assert model.fleet(need=2, on_demand=2, spot=0).capacity_probability == 1
    never = CostModel(on_demand=1, spot=0.3, interruption_rate=0, replacement_hours=9)
    assert never.spot_availability == 1
    assert never.cheapest_mix(need=5, probability=0.99).spot == 5
    dear = CostModel(**{**BASE, "spot": 1.5})
    assert dear.cheapest_mix(need=5, probability=0.99).on_demand == 5


def test_pools() -> None:
    model = CostModel(**BASE)
    one, four = (model.pools(need=8, spot=12, pools=n) for n in (1, 4))
    assert one.capacity_probability < four.capacity_probability
    assert one.capacity_sd > four.capacity_sd
    assert model.pools(need=8, spot=12, pools=[3, 3, 3, 3]) == four
    assert model.pools(need=10, spot=10, pools=3).capacity_probability == pytest.approx(four.pool_availability**3)
    alone = model.pools(need=8, spot=12, pools=12).capacity_probability
    assert alone == pytest.approx(model.fleet(need=8, on_demand=0, spot=12).capacity_probability)
    with pytest.raises(ConfigError, match="pools"):
        model.pools(need=8, spot=12, pools=[3, 3])


def test_running_and_leaving() -> None:
    model = CostModel(**BASE, minimum_seconds=60, granularity_seconds=60, egress_per_gb=0.09)
    assert model.run_cost(seconds=61, on_demand=1) == pytest.approx(120 / 3600)
    assert model.run_cost(seconds=1, spot=2) == pytest.approx(2 * 0.35 * 60 / 3600)
    assert model.egress(10) == pytest.approx(0.9)
    assert model.startup_waste(launches=10, cold_start=360) == pytest.approx(1.0)
    assert model.startup_waste(launches=10, cold_start=360, spot=True) == pytest.approx(0.35)
    with pytest.raises(ConfigError, match="egress_per_gb: is not known"):
        CostModel(**BASE).egress(10)
    assert billed_seconds(0.3, granularity=0.1) == pytest.approx(0.3)
    assert billed_seconds(0) == 0


def test_prices(tmp_path: Path) -> None:
    prices = PriceList.load()
    assert prices.spot("aws", "us-east-1", "g5.xlarge") < prices.on_demand("aws", "us-east-1", "g5.xlarge")
    assert "2025-06-01" in prices.source("aws", "us-east-1", "t3.large")
    for call in (
        lambda: prices.on_demand("aws", "eu-west-1", "g5.xlarge"),
        lambda: prices.egress_per_gb("oracle"),
        lambda: prices.source("aws", "us-east-1", "none"),
    ):
        with pytest.raises(ConfigError, match="is not in the list"):
            call()
    own = tmp_path / "prices.toml"
    own.write_text('[instances.me.here."big"]\non_demand = 3\ndate = 2026-01-01\nsource = "bill"\n', encoding="utf-8")
    assert PriceList.load(own).on_demand("me", "here", "big") == 3
    with pytest.raises(ConfigError, match="no spot price"):
        PriceList.load(own).spot("me", "here", "big")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[instances.a.b."c"]\non_demand = 1\nsource = "x"', "date is needed"),
        ('[instances.a.b."c"]\ndate = 2026-01-01\nsource = "x"', "on_demand is needed"),
        ('[instances.a.b."c"]\non_demand = -1\ndate = 2026-01-01\nsource = "x"', "not a price"),
        ('[instances.a.b."c"]\non_demand = 1\ndate = "May"\nsource = "x"', "not a date"),
        ('[instances.a.b."c"]\non_demand = 1\ndate = 2026-01-01\nsource = ""', "not a text"),
        ('[instances.a.b."c"]\non_demand = 1\ndate = 2026-01-01\nsource = "x"\nodd = 1', "not a field"),
        ("[egress]\na = 1", "expected a table"),
        ("[other]", "other"),
        ("[", "TOML|Expected|Invalid|Unclosed|invalid"),
        ("instances = 3", "expected tables"),
        ("[instances]\naws = 3", "instances.aws: expected tables"),
        ("[instances.aws]\neast = 3", "instances.aws.east: expected tables"),
        ("egress = 3", "egress: expected tables"),
        ('[instances.a.b."c"]\non_demand = 1\ndate = 2026-01-01T00:00:00\nsource = "x"', "not a date"),
    ],
)
def test_lists_that_cannot_be(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=where) as raised:
        PriceList.load(path)
    assert str(raised.value).startswith(f"{path}, line ")


def test_a_list_names_the_line_of_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('# mine\n[instances.a.b."c.d"]\non_demand = 1\ndate = 2026-01-01\nsource = 3\n', encoding="utf-8")
    with pytest.raises(FormatError, match=r"line 5: instances\.a\.b\.c\.d\.source: 3 is not a text"):
        PriceList.load(path)
    with pytest.raises(FormatError, match=r"none\.toml: cannot be read"):
        PriceList.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: CostModel(**{**BASE, "spot": -1}), "spot"),
        (lambda: CostModel(**{**BASE, "interruption_rate": math.nan}), "interruption_rate"),
        (lambda: CostModel(**BASE, obtainability=0), "obtainability"),
        (lambda: CostModel(**BASE, granularity_seconds=0), "granularity_seconds"),
        (lambda: CostModel(**BASE).fleet(need=-1, on_demand=0, spot=0), "need"),
        (lambda: CostModel(**BASE).fleet(need=1, on_demand=0, spot=200_000), "spot"),
        (lambda: CostModel(**BASE).cheapest_mix(need=1, probability=1), "probability"),
        (lambda: CostModel(**BASE).pools(need=1, spot=3, pools=0), "pools"),
        (lambda: billed_seconds(-1), "run"),
    ],
)
def test_what_cannot_be(call: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        call()
