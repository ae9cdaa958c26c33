"""The reference architecture runs through its day, and its page shows what comes out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from examples import reference_architecture as reference

from aibalance import formats

pytest.importorskip("crossplane")
pytest.importorskip("hcl2")
pytest.importorskip("yaml")

PAGE = (Path(__file__).parents[2] / "docs" / "reference-architecture.md").read_text(encoding="utf-8")
FOUND, SAID = reference.imported(), reference.facts()


@pytest.mark.parametrize("fleet", reference.FLEETS)
def test_the_page_shows_the_day_of_each_fleet(fleet: str) -> None:
    runs = reference.FLEETS[fleet](FOUND, SAID)
    assert len(runs) >= 2
    for name, run in runs.items():
        report = run.report()
        shown = f"{fleet}, `{name}`"
        assert reference.row(shown, run, report) in PAGE
        for line in reference.phases(shown, report):
            assert line in PAGE
        assert report.spike is not None
        assert report.spike.requests > 0.2 * report.all.requests


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
    small = {**SAID, "fleets": {**SAID["fleets"], "batch": {**SAID["fleets"]["batch"], "busiest_rps": 0.02}}}
    only = {"batch": reference.FLEETS["batch"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "FLEETS", only)
        (page,) = reference.write_reports(tmp_path, FOUND, small, replications=1)
    text = page.read_text(encoding="utf-8")
    assert "spike ×5" in text
    assert "up to 40 workers" in text
