"""The reference architecture runs through its day, and its page shows what comes out."""

from __future__ import annotations

import dataclasses
import os
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from examples import reference_architecture as reference

from aibalance import formats
from aibalance.simulation import Report

pytest.importorskip("crossplane")
pytest.importorskip("hcl2")
pytest.importorskip("yaml")

PAGE = (Path(__file__).parents[2] / "docs" / "reference-architecture.md").read_text(encoding="utf-8")
FOUND, SAID = reference.imported(), reference.facts()


FULL = bool(os.environ.get("AIBALANCE_FULL"))
# Variants of a day that others show already: checked where time is.
LONG = {"mixed_instances.tf", "asg.tf, queue too", "hpa.yaml, GPU too"}


@cache
def days(fleet: str) -> dict[str, tuple[reference.Run, Report]]:
    """Each candidate's run, once."""
    runs = reference.FLEETS[fleet](FOUND, SAID)
    return {name: (run, run.report()) for name, run in runs.items() if FULL or name not in LONG}


@pytest.mark.parametrize("fleet", reference.FLEETS)
def test_the_page_shows_the_day_of_each_fleet(fleet: str) -> None:
    runs = days(fleet)
    assert len(runs) >= 2
    for name, (run, report) in runs.items():
        shown = f"{fleet}, `{name}`"
        assert reference.row(shown, run, report) in PAGE
        for line in reference.phases(shown, report):
            assert line in PAGE
        assert report.spike is not None
        assert report.spike.requests > 0.2 * report.all.requests


def test_twenty_workers_have_worked_off_the_queue_shortly_after_four() -> None:
    assert "The queue is worked off shortly after four." in PAGE
    _, report = days("batch")["scaledobject.yaml"]
    time, waits = report.timeline["t_s"], report.timeline["in_system"] - report.timeline["busy"]
    # Fewer jobs wait than there are workers, for the first time since the hour; the curve has a point each six minutes.
    assert 16 * 3600 < time[(time > 54_300) & (waits < 20)][0] < 16.25 * 3600
    assert waits[(time > 54_300) & (time < 15.75 * 3600)].min() > 100


def test_an_hpa_without_its_behavior_swings() -> None:
    said = "swings\n  between 2 and 30 all through the hour, and two thirds are in time"
    assert said in PAGE
    if not FULL:
        pytest.skip("takes long: AIBALANCE_FULL=1")
    name = "ai-inference-hpa"
    policies = tuple(
        dataclasses.replace(one, policy=dataclasses.replace(cast(Any, one.policy), behavior=None))
        if one.name == name
        else one
        for one in FOUND.policies
    )
    report = reference.inference(dataclasses.replace(FOUND, policies=policies), SAID)["hpa.yaml"].report()
    assert report.spike is not None
    assert round(3 * report.spike.within_slo) == 2
    time, desired = report.timeline["t_s"], report.timeline["desired"]
    for start in (14, 14.5, 15):
        # The curve has a point each six minutes, so that it misses some.
        part = desired[(time >= start * 3600) & (time < (start + 0.6) * 3600)]
        assert (part.min() <= 8, part.max()) == (True, 30)
    assert desired.min() == 2


def test_what_the_page_says_in_words_is_in_its_tables() -> None:
    def usd(name: str) -> float:
        return float(cells(name)[-1])

    def percent(name: str) -> float:
        return float(cells(name)[2].rstrip("%"))

    assert "They cost three quarters more." in PAGE
    assert round(4 * usd("api, `api.tf`") / usd("api, `api.tf, no schedule`")) == 7
    assert "nearly one in four requests of the hour is late" in PAGE
    assert 22 < 100 - percent("inference, `asg.tf`, spike") < 25
    assert "**Spot saves a tenth**" in PAGE
    assert round(usd("inference, `mixed_instances.tf`") / usd("inference, `asg.tf`"), 1) == 0.9
    assert "cost 0.2 points of the rest of the day" in PAGE
    calm = [percent(f"inference, `{name}`, rest of the day") for name in ("asg.tf", "mixed_instances.tf")]
    assert round(calm[0] - calm[1], 1) == 0.2
    assert "the median job takes four and a half minutes" in PAGE
    assert round(2 * float(cells("batch, `scaledobject.yaml`, rest of the day")[3]) / 60) == 9
    assert "`asg.tf` grows to 1.54 times itself at most" in PAGE
    (target,) = (cast(Any, one.policy).target for one in FOUND.policies if one.name == "gpu-utilization-target")
    assert round(100 / target, 2) == 1.54


def test_the_page_has_no_rows_that_nothing_makes() -> None:
    made = {f"{fleet}, `{name}`" for fleet, make in reference.FLEETS.items() for name in make(FOUND, SAID)}
    shown = re.findall(r"^\| ((?:api|inference|batch), `[^`]+`)", PAGE, re.MULTILINE)
    assert set(shown) == made


def cells(start: str) -> list[str]:
    (line,) = [one for one in PAGE.splitlines() if one.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_what_one_would_change_is_taken_from_the_tables() -> None:
    changes = re.findall(r"^\| `[\w.]+`: .*\| ([\d.]+%) \| ([\d.]+%) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    pairs = [
        ("inference, `asg.tf`", "inference, `asg.tf, queue too`"),
        ("inference, `hpa.yaml`", "inference, `hpa.yaml, GPU too`"),
        ("batch, `scaledobject.yaml`", "batch, `up to 40 workers`"),
    ]
    assert len(changes) == len(pairs)
    for (before, after, more), (old, new) in zip(changes, pairs, strict=True):
        assert [before, after] == [cells(f"{name}, spike")[2] for name in (old, new)]
        assert float(more) == round(float(cells(new)[-1]) - float(cells(old)[-1]), 2)


def test_each_file_of_the_folder_is_read() -> None:
    files = {path.name for path in reference.HERE.iterdir()}
    assert files == {*reference.FILES, "architecture.toml"}
    assert not FOUND.refused
    for name in files:
        assert f"`{name}`" in PAGE
    # What an importer would have to guess is said in the other file.
    assert set(SAID["routes"]) == {"/api/users", "/predict", "/stream"}


@pytest.mark.parametrize(
    ("to", "back"),
    [
        ("nginx", "again.conf"),
        ("hpa", "again.yaml"),
        ("keda", "again.yaml"),
        ("terraform-aws", "again.tf.json"),
        ("boto3", "again.json"),
        ("terraform-gcp", None),
        ("terraform-azure", None),
        ("envoy", None),
        ("prometheus", None),
        ("cloudwatch", None),
    ],
)
def test_the_files_can_be_written_for_each_system(to: str, back: str | None) -> None:
    own = {"nginx": ("nginx.conf",), "envoy": ("nginx.conf",), "hpa": ("hpa.yaml",), "keda": ("scaledobject.yaml",)}
    files = own.get(to, ("alb.tf", "asg.tf", "api.tf", "mixed_instances.tf"))
    pytest.importorskip("botocore")
    found = formats.read(*(reference.HERE / name for name in files)).check()
    made = formats.export(found, to)
    assert len(made.text) > 300
    if back is not None:
        again = formats.read_text(made.text, back).check()
        assert again.mapped() == found.mapped()


def test_a_report_is_written_for_each_fleet(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    if not FULL:
        pytest.skip("takes long: AIBALANCE_FULL=1")
    small = {**SAID, "fleets": {**SAID["fleets"], "batch": {**SAID["fleets"]["batch"], "busiest_rps": 0.02}}}
    only = {"batch": reference.FLEETS["batch"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "FLEETS", only)
        (page,) = reference.write_reports(tmp_path, FOUND, small, replications=1)
    text = page.read_text(encoding="utf-8")
    assert "spike ×5" in text
    assert "up to 40 workers" in text
