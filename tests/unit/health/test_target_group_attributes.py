"""Attributes that an Application Load Balancer would refuse."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from aibalance import ConfigError, SlowStart
from aibalance.health import TargetGroupAttributes


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"algorithm": "random"}, "algorithm"),
        ({"slow_start": 29}, "slow_start"),
        ({"slow_start": 901}, "slow_start"),
        ({"slow_start": float("nan")}, "slow_start"),
        ({"slow_start": 30, "algorithm": "least_outstanding_requests"}, "slow_start"),
        ({"anomaly_mitigation": True}, "anomaly_mitigation"),
        ({"deregistration_delay": -1}, "deregistration_delay"),
        ({"deregistration_delay": 3601}, "deregistration_delay"),
    ],
)
def test_what_aws_refuses_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: "):
        TargetGroupAttributes(**options)


def test_what_it_allows_becomes_a_slow_start() -> None:
    made = TargetGroupAttributes(slow_start=900, deregistration_delay=0)
    assert made.as_slow_start() == SlowStart(900, ramp="alb")
    assert pickle.loads(pickle.dumps(made)) == made
    assert TargetGroupAttributes(algorithm="least_outstanding_requests").as_slow_start() is None
