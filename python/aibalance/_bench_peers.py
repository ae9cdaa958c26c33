"""What people use instead: packages, where they are installed, and what they write when none fits.

Hand-written ones are plain, readable and safe to share between threads.
"""

from __future__ import annotations

import random
import threading

__all__ = ["LeastConnections", "PowerOfTwo", "RoundRobin"]


class RoundRobin:
    """A counter behind a lock."""

    def __init__(self, endpoints: list[str]) -> None:
        self.endpoints = endpoints
        self.turn = 0
        self.lock = threading.Lock()

    def pick(self) -> str:
        """The next one."""
        with self.lock:
            endpoint = self.endpoints[self.turn]
            self.turn = (self.turn + 1) % len(self.endpoints)
        return endpoint


class LeastConnections:
    """The least of a dict of requests in flight."""

    def __init__(self, endpoints: list[str]) -> None:
        self.in_flight = dict.fromkeys(endpoints, 0)
        self.lock = threading.Lock()

    def pick(self) -> str:
        """The least loaded, counted."""
        with self.lock:
            endpoint = min(self.in_flight, key=self.in_flight.__getitem__)
            self.in_flight[endpoint] += 1
        return endpoint

    def release(self, endpoint: str) -> None:
        """Gives it back."""
        with self.lock:
            self.in_flight[endpoint] -= 1


class PowerOfTwo(LeastConnections):
    """Two different endpoints by `random.random()`, the one with fewer requests in flight."""

    def __init__(self, endpoints: list[str]) -> None:
        super().__init__(endpoints)
        self.endpoints = endpoints

    def pick(self) -> str:
        """The less loaded of two, counted."""
        n = len(self.endpoints)
        a = int(random.random() * n)
        b = int(random.random() * (n - 1))
        one, other = self.endpoints[a], self.endpoints[b + (b >= a)]
        with self.lock:
            endpoint = one if self.in_flight[one] <= self.in_flight[other] else other
            self.in_flight[endpoint] += 1
        return endpoint
