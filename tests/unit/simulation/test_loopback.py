"""The benches beside real servers: what they send arrives, and what was recorded is what is simulated."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from benches import live_fleet, loopback, real_proxy


def test_servers_on_loopback_answer_with_what_they_took() -> None:
    async def talk() -> loopback.Measured:
        (port,) = loopback.free_ports(1)
        server = loopback.Server(slots=1)
        listening = await asyncio.start_server(server.connection, "127.0.0.1", port)
        async with listening:
            work = [0.01, 0.0, 0.02, 0.0]
            found = await loopback.open_loop([0.0, 0.0, 0.001, 0.002], work, lambda s: loopback.ask(port, s))
            await asyncio.sleep(0.05)  # what was hung up ends before the loop does
        assert server.present == 0
        assert server.busy_s == pytest.approx(found.work.sum(), abs=1e-4)
        return found

    found = asyncio.run(talk())
    assert (found.work >= [0.0099, 0.0, 0.0199, 0.0]).all()
    assert (found.late >= 0).all()
    assert (np.diff(found.sent) >= 0).all()
    assert (found.latency >= found.work - 1e-6).all()


def test_what_was_recorded_is_what_is_simulated() -> None:
    # Seventeen on eight servers of two slots: sixteen are served, one waits for the first that is done.
    found = {
        "cell": "nginx_least_conn:0.5",
        "sent": [0.001 * i for i in range(17)],
        "work": [1.0] * 16 + [0.5],
        "latency": [1.0] * 17,
    }
    ours = real_proxy.simulated(found, seeds=2)
    assert ours.shape == (2, 17)
    assert ours[0] == pytest.approx([1.0] * 16 + [1.0 - 0.016 + 0.5])
    assert set(real_proxy.KINDS) == {"nginx_least_conn", "nginx_round_robin", "envoy_least_request"}


def test_the_live_fleet_is_simulated_with_its_own_policy() -> None:
    rng = np.random.default_rng(1)
    sent = np.cumsum(rng.exponential(0.1, 1000))
    found = {"seconds": 100.0, "sent": (sent - sent[0]).tolist(), "work": rng.exponential(0.4, 1000).tolist()}
    reports = live_fleet.simulated(found)
    assert len(reports) == live_fleet.SEEDS
    # Ten a second of 400 ms are four busy slots, which two servers would have at 100 %: it scales.
    assert all(4 <= one.servers_peak <= live_fleet.MOST for one in reports)
