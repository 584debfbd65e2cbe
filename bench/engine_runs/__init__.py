"""Run engines on emulated hosts, and compare them with their predictions: `python -m bench engines` is the command."""
