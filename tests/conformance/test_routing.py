"""The listener rules among the cloud cases: each was asked of a router, and each fits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aibalance.routing import Router
from tests.conformance import kinds, routing
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import load

FILE = VECTORS / "aws_gcp_azure_ray.json.gz"
FAMILIES = {"alb_path_match": 7, "alb_host_match": 2, "alb_rule_priority": 2, "alb_weighted_target_groups": 3}


def test_every_case_was_asked_of_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(name: str) -> Any:
        real = getattr(Router, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return real(*args, **kwargs)

        return call

    for name in ("route", "shares"):
        monkeypatch.setattr(Router, name, counting(name))
    document = load(FILE)
    decided: Counter[str] = Counter()
    for case in document["cases"]:
        if case["family"] not in routing.ADAPTERS:
            continue
        before = len(asked)
        one = kinds.replay({**document, "cases": [case]})
        assert one.matched == one.total == 1, one.first_mismatch
        assert len(asked) == before + 1
        decided[case["family"]] += 1
    assert decided == FAMILIES


def test_wrong_expectations_are_mismatches() -> None:
    document = load(FILE)
    for family, wrong in {
        "alb_path_match": {"match": None},
        "alb_weighted_target_groups": {"share": [0.4, 0.6]},
    }.items():
        case = next(c for c in document["cases"] if c["family"] == family)
        one = kinds.replay({**document, "cases": [{**case, "expected": wrong}]})
        assert (one.matched, one.total) == (0, 1)
