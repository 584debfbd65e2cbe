"""The commands that report the state of a swarm or of a running engine, once or continuously, and check it against
rules."""
