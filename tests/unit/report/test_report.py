from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aibalance import ConfigError
from aibalance.report import parse, ready, to_html, write_html
from aibalance.report.charts.cost import _front, _untangle
from aibalance.report.charts.traffic import apart

from .sample import comparison


@pytest.fixture(scope="module")
def page() -> str:
    return to_html(comparison())


class Balance(HTMLParser):
    """Every element is closed, in order, and ids are unique."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _look(self, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("href", "xlink:href", "src"):
                self.links.append(value or "")


def test_the_page_is_well_formed_and_whole(page: str) -> None:
    reader = Balance()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert set(reader.links) <= {f"#{one}" for one in reader.ids}
    used = re.findall(r"url\(#([^)]+)\)", page)
    assert used
    assert set(used) <= set(reader.ids)
    for policy in ("target tracking", "step scaling", "both"):
        assert policy in page
    assert comparison()["sentence"] in page


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|<script|<link|<iframe", page)


def test_charts_are_named_for_screen_readers_and_take_the_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 8  # four charts, wide and narrow
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.attrib["role"] == "img"
        names = root.attrib["aria-labelledby"].split()
        assert [child.attrib["id"] for child in root[:2]] == names
        assert all(child.text for child in root[:2])
        assert root.find(".//text") is not None  # text is text
        colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing))
        assert {one for one in colors if not one.startswith("var(--")} <= {"none"}
    assert page.count("<caption>") == 4
    roles = set(re.findall(r"var\(--([a-z0-9]+)\)", page))
    css = page[page.index("<style>") : page.index("</style>")]
    light, dark = css.split("prefers-color-scheme: dark", 1)
    for role in roles - {"sans"}:
        assert f"--{role}:" in light
        assert f"--{role}:" in dark.split("@media", 1)[0]


def test_the_same_comparison_gives_the_same_bytes(page: str) -> None:
    assert to_html(comparison()) == page


def test_names_are_text_and_never_markup() -> None:
    found = comparison(2, 1)
    evil = '<script>alert("1")</script> & $x$ ½ 负载均衡'
    found["scenario"]["name"] = evil
    found["sentence"] = evil
    found["candidates"][0]["picker"] = evil
    found["candidates"][0]["policy"] = evil
    text = to_html(found)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    Balance().feed(text)


@pytest.mark.parametrize(
    ("pickers", "policies", "replications", "spike"),
    [(1, 1, 1, False), (1, 1, 2, True), (5, 1, 3, False), (1, 3, 2, True)],
)
def test_small_comparisons(pickers: int, policies: int, replications: int, spike: bool) -> None:
    text = to_html(comparison(pickers, policies, replications=replications, spike=spike))
    reader = Balance()
    reader.feed(text)
    assert reader.open == []
    assert "nan" not in re.sub(r"[a-z]+nan|nan[a-z]+", "", text.lower())
    assert ("Spike" in text) == spike


def test_what_was_not_measured_is_a_dash() -> None:
    found = comparison(2, 2)
    hole: dict[str, Any] = {"mean": math.nan, "low": math.nan, "high": math.nan, "values": []}
    for one in found["candidates"]:
        for metrics in one["phases"].values():
            for field in ("mean_s", "p50_s", "p95_s", "p99_s"):
                metrics[field] = dict(hole)
        one["latency_histogram"] = {"edges_s": [], "counts": []}
        one["timeline"] = {key: [] for key in one["timeline"]}
    found["candidates"][1]["phases"]["all"]["within_slo"] = {"mean": None, "low": None, "high": None, "values": [None]}
    for one in found["differences"]:
        one.update(mean=math.nan, low=math.nan, high=math.nan)
    text = to_html(found)
    assert "<td>–</td>" in text
    assert "nan" not in re.sub(r"[a-z]+nan|nan[a-z]+", "", text.lower())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    broken = comparison(1, 1)
    del broken["sentence"]
    with pytest.raises(ConfigError):
        write_html(broken, path)
    assert path.read_text() == "before"
    write_html(comparison(1, 1), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ConfigError, match=r"nowhere.r\.html: cannot be written: No such file"):
        write_html(comparison(1, 1), tmp_path / "nowhere" / "r.html")


def test_ready_says_before_what_would_fail_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(tmp_path / "report.html")
    ready("report.html")
    with pytest.raises(ConfigError, match="is a folder"):
        ready(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        ready(tmp_path / "nowhere" / "report.html")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "aibalance.report.page", raising=False)
    with pytest.raises(ConfigError, match=r"report: needs jinja2; run: pip install aibalance\[report\]"):
        ready(tmp_path / "report.html")


def without(*path: str | int) -> dict[str, Any]:
    found = comparison(2, 1)
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return found


def put(value: Any, *path: str | int) -> dict[str, Any]:
    found = comparison(2, 1)
    at: Any = found
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (without("ranking"), r"comparison\.ranking: missing"),
        (without("scenario", "slo_s"), r"comparison\.scenario\.slo_s: missing"),
        (
            without("candidates", 1, "phases", "all", "p99_s"),
            r"comparison\.candidates\[1\]\.phases\.all\.p99_s: missing",
        ),
        (without("ranking", 0), "has no place in the ranking"),
        (put([], "candidates"), r"comparison\.candidates: empty"),
        (put("soon", "scenario", "slo_s"), r"comparison\.scenario\.slo_s: 'soon'; must be a number"),
        (put(3, "candidates"), r"comparison\.candidates: int; must be a list"),
        (put([1.0], "candidates", 0, "timeline", "t_s"), r"candidates\[0\]\.timeline: columns of different length"),
        (put([1.0], "candidates", 0, "latency_histogram", "edges_s"), "1 edges for 89 counts"),
        (put(None, "candidates", 0, "phases", "all"), "has no phase 'all'"),
    ],
)
def test_a_wrong_comparison_names_the_part(found: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(found)


def test_candidates_come_in_the_order_of_the_ranking() -> None:
    parsed = parse(comparison())
    assert [one.place for one in parsed.candidates] == list(range(1, 16))
    assert parsed.policies[0] == parsed.candidates[0].policy
    assert parsed.phases == ("all", "calm", "spike")


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        places = rng.uniform(0, 100, rng.integers(1, 6)).tolist()
        moved = apart(places, 17, 4, 100)
        order = sorted(range(len(places)), key=lambda i: places[i])
        assert all(moved[b] - moved[a] >= 17 - 1e-9 for a, b in pairwise(order))
        assert min(moved) >= 4 - 1e-9
        assert max(moved) <= 100 + 1e-9
    assert apart([10, 50], 17, 0, 100) == [10, 50]


def test_markers_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(2)
    for count in (2, 5, 16):
        points = [(float(x), float(y)) for x, y in rng.normal(100, 8, (count, 2))]
        moved = np.array(_untangle([*points, points[0]], 20, (0, 0, 400, 300)))
        gaps = np.hypot(*(moved[:, None] - moved[None]).transpose(2, 0, 1))
        np.fill_diagonal(gaps, np.inf)
        assert gaps.min() > 17
    far = [(50.0, 50.0), (200.0, 200.0)]
    np.testing.assert_allclose(_untangle(far, 20, (0, 0, 400, 300)), far, atol=0.1)


def test_the_front_holds_what_nothing_beats_in_both_ways() -> None:
    cost = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    good = np.array([0.5, 0.9, 0.8, 0.7, 0.95])
    assert _front(cost, good) == [0, 1, 4]


def test_one_run_is_a_page_too(tmp_path: Path) -> None:
    from aibalance.simulation import Fleet, PoissonTraffic, Scenario, ServerType, Service, simulate

    scenario = Scenario(
        name="alone", traffic=PoissonTraffic(rate_rps=2), service=Service("exponential", mean_s=1), duration_s=100,
        slo_s=5, fleet=Fleet(types=[ServerType(name="a", price_per_hour=1)], min=4),
    )  # fmt: skip
    simulate(scenario, picker="LeastRequest").to_html(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    for part in ("aibalance simulation", "of one run", "1 balancer × 1 scaling policy, 1 in all", "How long requests"):
        assert part in page
    assert "What it costs, and what it brings" not in page
    assert len(page) < 1_000_000
