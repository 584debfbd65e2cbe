"""Constants of an engine fitted to observed runs."""
