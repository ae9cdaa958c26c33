"""`aibalance explain` against a real Prometheus that remembers a known series."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibalance.cli import main

httpx = pytest.importorskip("httpx")

START = 1_760_054_400  # a full hour and day
MINUTES = 240
GAP = range(100, 110)
POLICY = 'ProportionalScaling(metric="queue", metric_type="total", target=10, max_capacity=12)'


def queue(minute: int) -> float:
    """What waits: calm, a spike that lasts an hour, calm."""
    return 90.0 if 60 <= minute < 120 else 200.0 if 120 <= minute < 130 else 30.0


def wanted(minute: int) -> int:
    """By hand: a tenth, at most 12; where there is no value, as many as there are."""
    return 9 if minute in GAP else min(12, round(queue(minute) / 10))


def openmetrics() -> str:
    lines = ["# TYPE queue gauge"]
    for pod, share in (("a", 0.25), ("b", 0.75)):
        for minute in range(MINUTES):
            if minute not in GAP:
                lines.append(f'queue{{pod="{pod}"}} {share * queue(minute)} {START + 60 * minute}')
    lines.append("# TYPE pods gauge")
    lines += [f"pods 3 {START + 60 * minute}" for minute in range(MINUTES)]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if server is None or tool is None:
        pytest.skip("prometheus (Debian's package of that name) is not installed")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    (folder / "series.om").write_text(openmetrics(), encoding="utf-8")
    (folder / "empty.yml").write_text("global: {scrape_interval: 1h}\n", encoding="utf-8")
    data = folder / "data"
    command = [tool, "tsdb", "create-blocks-from", "openmetrics", str(folder / "series.om"), str(data)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = [
        f"--config.file={folder / 'empty.yml'}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        # A gap is a gap after a minute, not after five.
        "--query.lookback-delta=59s",
    ]
    with open(folder / "log", "wb") as log:
        running = subprocess.Popen([server, *options], stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{url}/-/ready", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert running.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text(errors="replace")[-2000:])
        yield url
    finally:
        running.terminate()
        running.wait(30)


def explained(url: str, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Any:
    end = str(START + 60 * (MINUTES - 1))
    asked = ["explain", POLICY, "--prometheus", url, "--end", end, "--json", "--quiet", *options]
    assert main(asked) == code
    out, err = capsys.readouterr()
    return json.loads(out) if code == 0 else err


def test_every_decision_over_a_known_series(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(prometheus, capsys, "--query", "sum(queue)", "--range", "239m", "--current", "3")
    (told,) = found["policies"]
    moments = told["moments"]
    assert [m["at"] for m in moments] == [START + 60.0 * i for i in range(MINUTES)]
    assert [m["metrics"]["queue"] for m in moments] == [None if i in GAP else queue(i) for i in range(MINUTES)]
    assert [m["desired"] for m in moments] == [wanted(i) for i in range(MINUTES)]
    assert told["summary"]["changes"] == 3
    assert told["summary"]["bound_s"] == {"missing metric": 600.0, "max": 600.0}
    assert told["summary"]["server_hours"] == pytest.approx(sum(map(wanted, range(MINUTES))) / 60)


def test_fourteen_days_are_asked_for_in_parts_and_begin_where_the_series_does(
    prometheus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--query",
        "sum(queue)",
        "--servers-query",
        "sum(pods)",
        "--range",
        "14d",
        "--against",
        "Fixed(servers=5)",
    ]
    found = explained(prometheus, capsys, *options)
    ours, fixed = found["policies"]
    assert len(ours["moments"]) == MINUTES
    assert set(found["recorded"]) == {3}
    assert {m["desired"] for m in fixed["moments"]} == {5}
    assert [m["desired"] for m in ours["moments"]] == [wanted(i) for i in range(MINUTES)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("queue", "2 series; make it one"),
        ("sum(queue", "Prometheus says: 1:10: parse error"),
        ("nothing_of_the_kind", "knows nothing"),
    ],
)
def test_queries_that_have_no_answer(
    prometheus: str, capsys: pytest.CaptureFixture[str], query: str, said: str
) -> None:
    assert said in explained(prometheus, capsys, "--query", query, "--range", "2h", code=2)


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "ConnectError" in explained(url, capsys, "--query", "queue", code=2)


def test_fewer_decisions(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--query", "sum(queue)", "--range", "238m", "--current", "3", "--step", "2m"]
    (told,) = explained(prometheus, capsys, *options)["policies"]
    assert [m["desired"] for m in told["moments"]] == [wanted(i) for i in range(1, MINUTES, 2)]


def test_one_query_is_what_each_policy_calls_it(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = POLICY.replace('"queue"', '"depth"')
    found = explained(
        prometheus, capsys, "--query", "sum(queue)", "--range", "2h", "--current", "3", "--against", other
    )
    ours, theirs = ([m["desired"] for m in one["moments"]] for one in found["policies"])
    assert ours == theirs == [wanted(i) for i in range(MINUTES - 121, MINUTES)]
