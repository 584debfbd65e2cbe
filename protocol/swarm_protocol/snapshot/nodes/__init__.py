"""Keep what is known of each node of a snapshot: its state, readings of its machine, and layer times."""
