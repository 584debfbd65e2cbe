"""Benchmarks of predictions: error, search quality, speed of planning, stragglers and changes."""
