"""Hold the Swarm at one moment: its columns, how it is built from samples, and how it is sent as frames."""
