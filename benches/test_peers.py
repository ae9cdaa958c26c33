"""Ours beside what a user would pick instead, in one run. `at_least` is how many times slower the peer has to be."""

from __future__ import annotations

import itertools

import pytest

from benches import handwritten
from benches.operations import KEY, WEIGHTS, addresses, endpoints

SIZES = [8, 64, 512]


def at_least(n: int, *factors: float) -> float:
    return dict(zip(SIZES, factors, strict=True))[n]


@pytest.mark.parametrize("n", SIZES)
class TestRotation:
    what = "weighted round robin, one pick"

    def test_aibalance(self, n: int, timed) -> None:
        import aibalance

        timed(self.what, "aibalance", "p.pick()", n=n, p=aibalance.RoundRobin(endpoints(n, weighted=True)))

    def test_roundrobin(self, n: int, timed) -> None:
        roundrobin = pytest.importorskip("roundrobin")
        smooth = roundrobin.smooth([(a, WEIGHTS[i % 8]) for i, a in enumerate(addresses(n))])
        factor = at_least(n, 25, 150, 1000)
        timed(self.what, "roundrobin.smooth", "f()", n=n, calls=8000 // n, at_least=factor, f=smooth)

    def test_handwritten(self, n: int, timed) -> None:
        picker = handwritten.RoundRobin(addresses(n))
        timed(self.what, "hand-written", "p.pick()", n=n, p=picker, note="equal weights")

    def test_cycle(self, n: int, timed) -> None:
        cycle = itertools.cycle(addresses(n))
        timed(self.what, "itertools.cycle", "next(c)", n=n, c=cycle, note="C, equal weights, fixed list")


@pytest.mark.parametrize("n", SIZES)
class TestLeastConnections:
    what = "least connections, pick and release"

    def test_aibalance(self, n: int, timed) -> None:
        import aibalance

        picker = aibalance.LeastRequest(endpoints(n), full_scan=True, seed=42)
        timed(self.what, "aibalance", "p.acquire().release()", n=n, p=picker)

    def test_handwritten(self, n: int, timed) -> None:
        factor = at_least(n, 20, 40, 100)
        picker = handwritten.LeastConnections(addresses(n))
        timed(self.what, "hand-written", "p.release(p.pick())", n=n, calls=8000 // n, at_least=factor, p=picker)


@pytest.mark.parametrize("n", SIZES)
class TestPowerOfTwo:
    what = "power of two choices, pick and release"

    def test_aibalance(self, n: int, timed) -> None:
        import aibalance

        timed(self.what, "aibalance", "p.acquire().release()", n=n, p=aibalance.LeastRequest(endpoints(n), seed=42))

    def test_handwritten(self, n: int, timed) -> None:
        picker = handwritten.PowerOfTwo(addresses(n))
        timed(self.what, "hand-written", "p.release(p.pick())", n=n, at_least=8, p=picker)


@pytest.mark.parametrize("n", SIZES)
class TestConsistentHashing:
    what = "consistent hashing, one pick"

    def test_maglev(self, n: int, timed) -> None:
        import aibalance

        timed(self.what, "aibalance", "p.pick(k)", n=n, p=aibalance.Maglev(endpoints(n)), k=KEY, note="Maglev")

    def test_ring(self, n: int, timed) -> None:
        import aibalance

        picker = aibalance.RingHash(endpoints(n), points=160)
        timed(self.what, "aibalance, ring", "p.pick(k)", n=n, p=picker, k=KEY, note="160 points an endpoint")

    def test_uhashring(self, n: int, timed) -> None:
        uhashring = pytest.importorskip("uhashring")
        ring = uhashring.HashRing(nodes=addresses(n))
        timed(self.what, "uhashring", "r.get_node(k)", n=n, at_least=40, r=ring, k=KEY)

    def test_hashring(self, n: int, timed) -> None:
        hashring = pytest.importorskip("hashring")
        ring = hashring.HashRing(addresses(n))
        timed(self.what, "hashring", "r.get_node(k)", n=n, calls=300, at_least=40, r=ring, k=KEY)

    def test_jump(self, n: int, timed) -> None:
        jump = pytest.importorskip("jump")
        timed(
            self.what,
            "jump-consistent-hash",
            "f(k, m)",
            n=n,
            m=n,
            f=jump.hash,
            k=123456789012,
            note="C, integers, fixed list",
        )
