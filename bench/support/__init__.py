"""Shared by the benchmarks: processes to start, synthetic swarms, simulated probes, and baselines."""
