"""The commands that start a placement on each engine."""
