"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# No test is timed: a slow machine is no failure. Pytest's own timeout catches what hangs. The same examples
# are repeated, so that whether a change lands is no matter of luck; EXPLORE=1 looks for new ones.
settings.register_profile("aibalance", deadline=None, print_blob=True, derandomize=not os.environ.get("EXPLORE"))
settings.load_profile("aibalance")
