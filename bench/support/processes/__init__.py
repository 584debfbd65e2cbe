"""The processes that benchmarks start with `python -m`: load generators, probes and one end of a transfer."""
