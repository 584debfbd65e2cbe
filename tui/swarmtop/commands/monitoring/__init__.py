"""The commands that report the state of a swarm or of a running engine, or check it against rules."""
