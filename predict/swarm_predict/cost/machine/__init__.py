"""Compute what a stage takes of its machine: the time of each layer, and memory. What the engine's software adds is
in `cost.software`, what the network adds in `cost.network`."""
