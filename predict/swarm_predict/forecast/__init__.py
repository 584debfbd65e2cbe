"""Draw distributions of time per token for a given placement, from the tables of `cost`."""
