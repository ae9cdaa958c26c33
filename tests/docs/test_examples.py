"""The programs in examples/ do what they say."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path

import pytest
from examples import demo

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_demonstration_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo.main() == 0
    out = capsys.readouterr().out
    assert "1,000 of 1,000 identical\n" in out
    assert "Choose " in out
    assert out.endswith((EXAMPLES / "own_server.py").read_text(encoding="utf-8"))
    page = (tmp_path / "demo-out" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert "viral" in page.lower()


def test_the_snippet_for_a_server_of_ones_own() -> None:
    names = runpy.run_path(str(EXAMPLES / "own_server.py"))
    asked = []

    async def send(request: str, address: str) -> str:
        assert sum(record.inflight for record in names["pool"].stats()) == 1
        asked.append(address)
        if request == "bad":
            raise OSError("connection reset")
        return request.upper()

    assert asyncio.run(names["handle"]("good", send)) == "GOOD"
    with pytest.raises(OSError, match="reset"):
        asyncio.run(names["handle"]("bad", send))
    records = {record.id: record for record in names["pool"].stats()}
    assert all(record.inflight == 0 for record in records.values())
    assert sum(record.successes for record in records.values()) == 1
    assert sum(record.failures for record in records.values()) == 1

    names["checked"](asked[0], False)
    assert {names["picker"].pick().address for _ in range(50)} == set(records) - {asked[0]}
    names["deployed"](["10.0.0.9:8000"])
    assert names["picker"].pick().address == "10.0.0.9:8000"
