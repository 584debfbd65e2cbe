"""Compute the time of each layer on a machine and the memory of a stage. What the engine's software adds is
in `cost.software_overhead`, what the network adds in `cost.network`."""
