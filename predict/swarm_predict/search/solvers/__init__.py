"""Find placements for one pattern each: chains, stars, pinned layers, shared layers. `search.solve` chooses the solver;
proofs for chains are in `search.bounds`."""
