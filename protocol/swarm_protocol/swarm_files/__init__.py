"""Read swarms that people describe instead of measure: swarm files, lists of names, and data-sheet values."""
