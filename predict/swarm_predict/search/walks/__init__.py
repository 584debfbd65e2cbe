"""Bound every placement from below by walks through the swarm: their graph, and one pass over it in numpy."""
