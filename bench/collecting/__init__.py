"""Benchmarks of the collector: ingest, floods, detected changes and network coordinates."""
