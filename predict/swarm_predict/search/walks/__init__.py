"""Walks through the swarm that bound every placement from below: their graph, and one pass over it in numpy."""
