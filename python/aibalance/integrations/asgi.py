"""A streaming reverse proxy as an ASGI application: rules, fleets, sessions, leases that last to the last byte.

It is a reference application: it decides as nginx or Envoy would, at the speed of Python. Needs `httpx`
(`pip install aibalance[proxy]`).
"""

from __future__ import annotations

from ._proxy import Fleet, Limits, Proxy

__all__ = ["Fleet", "Limits", "Proxy"]
