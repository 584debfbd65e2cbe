"""Describe this machine and its GPUs, and detect what spoils a measurement on it."""
