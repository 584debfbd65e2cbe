"""Compute lower bounds for chain placements of any size, and tighten them."""
