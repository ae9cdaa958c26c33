"""The worked example sends requests where the reference configuration would."""

from __future__ import annotations

import pytest
from examples import three_routes

from aibalance.routing import Request


@pytest.mark.parametrize(
    ("target", "node", "how"),
    [
        ("/api/users", "api-node-", "read 30 s, buffered"),
        ("/predict", "gpu-node-", "read 60 s, buffered"),
        ("/predictions", "gpu-node-", "read 60 s, buffered"),
        ("/stream/x", "gpu-node-", "read 300 s, streamed"),
        ("/x/../api/y", "api-node-", "read 30 s, buffered"),
    ],
)
def test_each_route_reaches_its_fleet(target: str, node: str, how: str) -> None:
    answer = three_routes.handle(Request(target))
    assert answer.startswith(node)
    assert how in answer


@pytest.mark.parametrize(
    ("target", "answer"), [("/api", "301 /api/"), ("/", "404 no_rule"), ("/api/../../x", "400 bad_path"), ("*", "400")]
)
def test_what_is_no_route_reaches_nobody(target: str, answer: str) -> None:
    assert three_routes.handle(Request(target)).startswith(answer)


def test_it_runs_and_leaves_nothing_in_flight(capsys: pytest.CaptureFixture[str]) -> None:
    assert three_routes.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert all(record.inflight == 0 for pool in three_routes.fleets.values() for record in pool.stats())
