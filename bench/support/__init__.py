"""Code that benchmarks share: processes to start, synthetic swarms, simulated probes, and baselines."""
