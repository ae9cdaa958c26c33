"""Foreign configuration: its words stop here. One module a system."""
