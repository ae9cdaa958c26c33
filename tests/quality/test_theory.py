"""The engine agrees with exact queueing results; see theory.py for the method.

A part of the cases in every run of the tests; all of them with AIBALANCE_FULL=1, which takes some minutes.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from . import theory

FULL = os.environ.get("AIBALANCE_FULL") == "1"

# One of each kind: loads from light to heavy, one slot to many, laws from none to heavy-tailed.
ALWAYS = (
    "mm1_mu2.5_rho0.3",
    "mm1_mu50_rho0.9",
    "mmc_c2_rho0.8",
    "mmc_c5_rho0.99",
    "mmc_c20_rho0.95",
    "mmc_c500_rho0.7",
    "mg1_det_rho0.8",
    "mg1_uniform_rho0.3",
    "mg1_erlang4_rho0.8",
    "mg1_h2_scv10_rho0.3",
    "mg1_lognorm_s1_rho0.8",
    "mg1_bpareto_a1.5_r1000_rho0.3",
)


def test_the_vectors_hold_the_cases() -> None:
    names = [case["id"] for case in theory.cases()]
    assert len(names) == len(set(names)) == 66
    assert set(ALWAYS) <= set(names)


@pytest.mark.parametrize("case", theory.cases(), ids=lambda case: str(case["id"]))
@pytest.mark.timeout(3600)
def test_mean_and_p99_agree(case: dict[str, Any]) -> None:
    if not FULL and case["id"] not in ALWAYS:
        pytest.skip("AIBALANCE_FULL=1 runs it")
    assert theory.check(case).problems() == []


def test_excess_agrees_with_draws() -> None:
    # The controls of a heavy-tailed case rest on these closed forms.
    rng = np.random.default_rng(5)
    u = rng.random(4_000_000)
    for case in theory.cases():
        if case["id"] not in ("mg1_bpareto_a1.5_r1000_rho0.3", "mg1_h2_scv4_rho0.3", "mg1_lognorm_s1_rho0.3"):
            continue
        law = theory.law(case)
        of = dict(law.service.parameters)
        if law.service.kind == "bounded_pareto":
            cut = 1 - (of["low_s"] / of["high_s"]) ** of["alpha"]
            x = of["low_s"] / (1 - u * cut) ** (1 / of["alpha"])
        elif law.service.kind == "lognormal":
            x = rng.lognormal(-(of["sigma"] ** 2) / 2, of["sigma"], len(u))
        else:
            x = rng.exponential(np.where(u < of["p"][0], of["means_s"][0], of["means_s"][1]))
        assert x.mean() == pytest.approx(law.mean, rel=0.01)
        assert (x**2).mean() == pytest.approx(law.second, rel=0.05)
        for q in (0.5, 2.0, 5.0):
            assert np.maximum(x - q, 0).mean() == pytest.approx(law.excess(q), rel=0.03)


def test_a_wrong_engine_would_be_seen() -> None:
    # The same check on a queue with 3 % more work than the case has: the bounds must not hold.
    case = next(case for case in theory.cases() if case["id"] == "mm1_mu2.5_rho0.8")
    slow = {**case, "mu": case["mu"] / 1.03}
    assert theory.check(slow, n=200_000).problems()


def test_the_intercept_recovers_a_known_mean() -> None:
    rng = np.random.default_rng(1)
    controls = rng.normal(size=(20, 3))
    controls[:, 2] = 2 * controls[:, 1]
    values = 7 + controls[:, 0] - 3 * controls[:, 1] + 1e-3 * rng.normal(size=20)
    found, error = theory.intercept(values, controls)
    assert abs(found - 7) < 4 * error
    assert error < 1e-3
