"""The past: replay, metric history, rollups and retention."""
