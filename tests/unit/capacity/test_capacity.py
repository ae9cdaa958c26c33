"""The rules of capacity: options one by one, exactness, and what is refused."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibalance import ConfigError
from aibalance.capacity import (
    Backend,
    InstanceRefresh,
    LifecycleHook,
    MixedInstancesPolicy,
    PriceBlend,
    WarmPool,
    check_backends,
    rebalance_ceiling,
)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 100))
def test_a_split_is_exact(desired: int, base: int, percent: int) -> None:
    policy = MixedInstancesPolicy(on_demand_base=base, on_demand_percent_above_base=percent)
    fixed = min(desired, base)
    on_demand, spot = policy.split(desired)
    assert on_demand == fixed + ceil(Fraction(desired - fixed) * percent / 100)
    assert on_demand + spot == desired


def test_pools_and_weights() -> None:
    assert MixedInstancesPolicy(spot_pools=3).pools(instance_types=2, zones=4) == (8, 8)
    assert MixedInstancesPolicy().weighted(10, add=1, weight=6, max_capacity=12) == (11, 16)
    assert MixedInstancesPolicy().weighted(12, add=5, weight=6, max_capacity=12) == (12, 12)


def test_a_warm_pool() -> None:
    assert WarmPool(min_size=3).size(max_capacity=10, desired=9) == 3
    assert WarmPool(max_prepared=8).size(max_capacity=10, desired=6) == 2
    assert WarmPool(reuse_on_scale_in=True).scale_in(2) == (0, 2, 0)
    assert WarmPool().scale_out(5, available=9, desired=18, max_capacity=20) == (2, 0, 20)


def test_a_refresh() -> None:
    assert InstanceRefresh().batch(20) == 2
    assert InstanceRefresh(min_healthy=0).batch(10) == 10
    assert InstanceRefresh(min_healthy=100, max_healthy=120).batch(10) == 2
    assert InstanceRefresh().batch(0) == 0
    plain = InstanceRefresh(min_healthy=50, warmup=60)
    assert [(b.at, b.instances) for b in plain.timeline(4)] == [(0.0, 2), (60.0, 2)]
    assert [b.at for b in InstanceRefresh(min_healthy=50).timeline(4, grace=30.0)] == [0.0, 30.0]
    assert [b.at for b in InstanceRefresh(min_healthy=50).timeline(4, default_warmup=0.0, grace=30.0)] == [0.0, 0.0]
    delayed = InstanceRefresh(min_healthy=50, warmup=60, checkpoints=[50, 100], checkpoint_delay=100)
    assert [(b.at, b.checkpoint) for b in delayed.timeline(4)] == [(0.0, 50), (160.0, 100)]
    assert InstanceRefresh(checkpoints=[10, 50]).checkpoint(10, replaced=5, before=1) == ((), 50)


def test_hooks_zones_backends_and_costs() -> None:
    assert LifecycleHook(heartbeat=7200).global_timeout == 172_800.0
    assert rebalance_ceiling(19) == 20
    assert Backend(max_rate_per_instance=10, capacity_scaler=0).target_rate(3) == 0
    assert PriceBlend(on_demand_share=1.0, spot_discount=0.65).blended(10_000) == 10_000.0
    assert PriceBlend(on_demand_share=0.0, spot_discount=0.65).blended(10_000) == 3500.0
    with pytest.raises(ConfigError, match="only backend"):
        check_backends([Backend(max_rate_per_instance=10, capacity_scaler=0)])
    with pytest.raises(ConfigError, match="backends"):
        check_backends([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixedInstancesPolicy(on_demand_base=-1), "on_demand_base"),
        (lambda: MixedInstancesPolicy(on_demand_percent_above_base=101), "on_demand_percent_above_base"),
        (lambda: MixedInstancesPolicy(spot_pools=0), "spot_pools"),
        (lambda: MixedInstancesPolicy().split(2.5), "desired"),  # type: ignore[arg-type]
        (lambda: WarmPool(min_size=True), "min_size"),
        (lambda: WarmPool(max_prepared=-1), "max_prepared"),
        (lambda: InstanceRefresh(min_healthy=50, max_healthy=151), "max_healthy"),
        (lambda: InstanceRefresh(checkpoints=[50, 50]), r"checkpoints\[1\]"),
        (lambda: InstanceRefresh(warmup=float("nan")), "warmup"),
        (lambda: InstanceRefresh().timeline(100_001), "desired"),
        (lambda: LifecycleHook(heartbeat=29), "heartbeat"),
        (lambda: LifecycleHook(result="wait"), "result"),
        (lambda: Backend(max_rate_per_instance=0), "max_rate_per_instance"),
        (lambda: Backend(max_rate_per_instance=1, capacity_scaler=0.05), "capacity_scaler"),
        (lambda: PriceBlend(on_demand_share=1.1), "on_demand_share"),
        (lambda: PriceBlend(spot_discount=float("inf")), "spot_discount"),
        (lambda: PriceBlend.per_unit(1.0, 0), "weight"),
    ],
)
def test_what_is_not_allowed_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
