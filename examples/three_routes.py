"""Three routes to two fleets: /api/ to CPU servers, /predict and /stream to GPU servers, as nginx would send them."""

from __future__ import annotations

import secrets
import sys

from aibalance import Endpoint, LeastConnections, Pool
from aibalance.routing import Request, Router, Rule, Sticky, StickyCookie

fleets = {
    "api": Pool([f"api-node-{n}:8000" for n in (1, 2, 3)]),
    "inference": Pool(
        [
            Endpoint("gpu-node-1:8080", weight=3),  # A100
            Endpoint("gpu-node-2:8080", weight=3),  # A100
            Endpoint("gpu-node-3:8080", weight=1),  # T4
        ]
    ),
}
router = Router(
    [
        Rule(location="/api/", to="api", connect_timeout=5, read_timeout=30),
        Rule(location="/predict", to="inference", connect_timeout=5, read_timeout=60),
        Rule(location="/stream", to="inference", read_timeout=300, streaming=True),
    ]
)
# The API keeps sessions for an hour; inference takes whoever is least busy. In production all balancers share a secret.
pickers = {name: LeastConnections(pool) for name, pool in fleets.items()}
sessions = Sticky(pickers["api"], StickyCookie(secrets.token_bytes(32), pool="api", max_age=3600))


def handle(request: Request, cookie: str | None = None) -> str:
    """What a proxy does with a request, up to the sending."""
    decision = router.decide(request)
    route = decision.route
    if route is None:
        return f"{decision.status} {decision.location or decision.reason}"
    read = route.timeouts.read
    how = "streamed" if route.streaming else "buffered"
    if route.target == "api":
        with sessions.acquire(cookie) as session:
            return f"{session.endpoint.address}, read {read} s, {how}, session {session.reason}"
    with pickers[route.target].acquire() as lease:
        return f"{lease.endpoint.address}, read {read} s, {how}"


def main() -> int:
    for target in ("/api/users", "/predict?model=a", "/stream/tokens", "/api", "/%61pi/x", "/predict/../admin", "/etc"):
        print(f"{target:20} -> {handle(Request(target, host='api.myaiapp.com'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
