"""Synthetic inputs of benchmarks: samples, windows of round trips, swarms to plan on, scenarios."""
