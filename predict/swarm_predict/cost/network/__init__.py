"""Compute delivery times between nodes from measured quantiles, losses and the state of TCP. What a message contains
is decided in `cost.engines`, its draws are in `forecast`."""
