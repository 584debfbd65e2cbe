"""Read and keep the past: replay, metric history, rollups and retention."""
