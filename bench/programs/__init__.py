"""Benchmarks of whole programs: start-up, footprint, the dashboard, and long runs."""
