"""Replays recorded decisions of real systems through the public API: `python -m tests.conformance FILE...`."""

import os

# Chains of a few hundred states: threads of a linear algebra library only wait for each other there.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
