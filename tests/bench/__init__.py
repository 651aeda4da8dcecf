"""Benchmarks: what the parts and the whole cost, measured. Never pass or fail by time."""
