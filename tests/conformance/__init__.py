"""Replays recorded decisions of real systems through the public API: `python -m tests.conformance FILE...`."""
