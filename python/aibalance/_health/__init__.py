"""What `aibalance.health` gives out, a file a subject."""
