"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# No test is timed: a slow machine is no failure. Pytest's own timeout catches what hangs.
settings.register_profile("aibalance", deadline=None, print_blob=True)
settings.load_profile("aibalance")
