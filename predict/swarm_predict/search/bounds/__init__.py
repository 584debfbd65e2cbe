"""Lower bounds for chain placements of any size, and how they are tightened."""
