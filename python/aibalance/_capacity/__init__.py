"""The parts of `aibalance.capacity`."""
