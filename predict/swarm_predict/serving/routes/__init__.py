"""Compute the capacity of a placement for many users: `build` makes a `Route` of a pipeline or of tensor-parallel
groups."""
