"""The reference values of forecasts, loops and cost: each is asked of the public API, and each has to match."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aibalance.autoscaling import ProportionalScaling, QueueScaling
from aibalance.simulation import simulate_fluid
from tests.conformance import kinds, scaling_theory
from tests.conformance.bundled import VECTORS
from tests.conformance.recording import Record, UnreadableError, load

FILES = {"signals_misc": 40, "autoscale_loop": 4652, "autoscale_fluid": 23, "cost_spot": 362}


@pytest.mark.parametrize("name", FILES)
def test_every_record_matches(name: str) -> None:
    result = kinds.replay(load(VECTORS / f"{name}.json.gz"))
    assert (result.matched, result.total, result.unsupported) == (FILES[name], FILES[name], 0), result.first_mismatch


@pytest.mark.parametrize("name", FILES)
def test_a_changed_value_is_seen(name: str) -> None:
    document = load(VECTORS / f"{name}.json.gz")
    seen = 0
    for i, case in enumerate(document["cases"][:8]):
        for key, value in case["ref"].items():
            changed = json.loads(json.dumps(document))
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                changed["cases"][i]["ref"][key] = value + 1
                assert kinds.replay(changed).first_mismatch is not None, (i, key)
                seen += 1
    assert seen > 5 or name == "signals_misc"


def test_a_queue_controller_is_read() -> None:
    """No recording here has one; its rules are those of the file."""
    fields: dict[str, Any] = {
        "ctl": "queue_steps",
        "min": 1,
        "max": 9,
        "steps": [[0, 1, -1], [50, 200, 1], [200, "inf", 3]],
    }
    policy = scaling_theory._controller(Record("case", fields))
    assert isinstance(policy, QueueScaling)
    report = simulate_fluid([10.0, 60.0, 60.0, 0.0, 0.0], policy, tick=10, capacity=10, initial=2)
    assert report.desired.tolist() == [2, 1, 4, 7, 6]
    with pytest.raises(UnreadableError, match="not known"):
        scaling_theory._controller(Record("case", {**fields, "ctl": "other"}))


def test_memory_in_the_middle_of_every_timeline() -> None:
    """State that went through JSON after each tick changes no decision."""

    class Interrupted:
        def __init__(self, policy: Any) -> None:
            self.policy = policy

        def recommend(self, observation: Any, /, *, now: float) -> Any:
            fresh = type(self.policy)(**{f: getattr(self.policy, f) for f in self.policy.__dataclass_fields__})
            fresh.restore(json.loads(json.dumps(self.policy.state())))
            self.policy = fresh
            return fresh.recommend(observation, now=now)

    document = load(VECTORS / "autoscale_loop.json.gz")
    original = scaling_theory._controller
    made = []

    def interrupted(params: Record) -> Any:
        made.append(original(params))
        assert isinstance(made[-1], ProportionalScaling | QueueScaling)
        return Interrupted(made[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling_theory, "_controller", interrupted)
        result = kinds.replay(document)
    assert len(made) == len(document["cases"])
    assert result.matched == result.total == FILES["autoscale_loop"]
