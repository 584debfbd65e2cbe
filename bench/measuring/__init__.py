"""Benchmarks of measuring: path, uplink and layer times against known truth, and what other tools report."""
