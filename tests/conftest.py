"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# No test is timed: a slow machine is no failure. Pytest's own timeout catches what hangs. CI repeats the same examples,
# so that whether a change lands is no matter of luck; every other run looks for new ones.
settings.register_profile("aibalance", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("aibalance")
