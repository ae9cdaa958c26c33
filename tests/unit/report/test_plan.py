from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from aibalance.report import plan_to_html, shown
from aibalance.simulation import Fleet, Scenario, ServerType, Service, Spike, SpikeTraffic, plan


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    scenario = Scenario(
        name="a <b> & c",
        traffic=SpikeTraffic(base_rps=0.5, spike=Spike(factor=6, start_s=40, ramp_s=5, hold_s=40)),
        service=Service("uniform", low_s=1, high_s=3),
        fleet=Fleet(types=[ServerType(name="a", price_per_hour=1)], max=8, load_s=10, decision_interval_s=10),
        duration_s=150,
        slo_s=6,
    )
    return plan(scenario, slo="p95 < 15 s, error < 5 %", budget=3000, trials=1, workers=1).to_dict()


def test_the_page_is_whole_and_offline(found: dict[str, Any]) -> None:
    page = plan_to_html(found)
    assert len(page.encode()) < 1_000_000
    assert "a &lt;b&gt; &amp; c" in page
    assert "<b> & c" not in page
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "url(http" not in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    for part in found["answers"]:
        assert f"<dt>{part}</dt>" in page
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 8
    ids = [one for drawing in drawings for one in re.findall(r'\bid="([^"]+)"', drawing)]
    assert len(ids) == len(set(ids))
    for drawing in drawings:
        ET.fromstring(drawing)


def test_no_line_ends_between_a_number_and_its_unit(found: dict[str, Any]) -> None:
    page = plan_to_html({**found, "sentence": "95 % within 30 s, 20 servers", "reading": ["730 h and 5 shops"]})
    assert "95\u00a0% within 30\u00a0s, 20 servers" in page
    assert "730\u00a0h and 5 shops" in page


def test_paper_has_every_row_and_no_pointer(found: dict[str, Any]) -> None:
    page = plan_to_html(found)
    _, _, paper = page.partition("@media print")
    assert "details::details-content" in paper
    short = re.findall(r'<div class="scroll short" role="region" aria-label="([^"]+)"', page)
    assert "By balancer" in short
    rows = [{**found["front"][0]}] * 30
    assert 'class="scroll" role="region" aria-label="The front"' in plan_to_html({**found, "front": rows})


def test_every_action_explains_itself(found: dict[str, Any]) -> None:
    action = {
        "at_s": 60.0, "before": 2, "after": 8, "reason": "a step", "utilization": 1.0, "queue_per_server": 2.0,
        "text": "1:00 up from 2 to 8 servers: because",
    }  # fmt: skip
    page = plan_to_html({**found, "actions": [action]})
    # On the wide chart, on the narrow one, and in the list.
    assert page.count("1:00 up from 2 to 8 servers: because") == 3
    assert "<title>1:00 up from 2 to 8 servers: because</title>" in page


def test_a_page_without_heat_and_with_nothing_finite(found: dict[str, Any]) -> None:
    bad = {**found["best"], "values": [{"mean": float("inf"), "low": None, "high": None}] * 2}
    page = plan_to_html({**found, "heat": None, "front": [], "runners_up": [bad], "best": bad, "would": None})
    assert "How busy each server was" not in page
    assert "no answer" in page


def test_a_notebook_gets_text_where_nothing_draws() -> None:
    def fails() -> str:
        from aibalance import ConfigError

        raise ConfigError("report: needs jinja2")

    assert shown(fails, "a < b") == "<pre>a &lt; b</pre>"
